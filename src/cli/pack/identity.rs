//! Determines the name and the version of a package, and the next free version.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};

use crate::{
    cli::{
        client::{Client, ServerArgs},
        pack::Args,
        stored_journal,
    },
    config::StateConfig,
    id::{ModelId, ModelName, Version},
    package::manifest::Manifest,
    rollout::state::ModelState,
};

pub(super) fn identity(
    args: &Args,
    directory: &Path,
    known: Option<&Manifest>,
) -> anyhow::Result<ModelId> {
    let last = |path: Option<&Path>| {
        path.and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned())
    };
    let of_path = last(Some(directory)).filter(|text| Version::parse(text).is_some());
    let version = args
        .version
        .clone()
        .or_else(|| of_path.clone())
        .or_else(|| known.map(|known| known.version.clone()));
    // A server takes the version from the directory's name, and rejects another one in the manifest.
    if let (Some(version), Some(of_path)) = (&args.version, &of_path)
        && version != of_path
    {
        bail!(
            "{} is a directory of version {of_path}, not {version}; rename it to {version}, or \
             leave out --model-version",
            directory.display()
        );
    }
    let parent = of_path.and_then(|_| last(directory.parent()));
    let name = args
        .name
        .clone()
        .or(parent)
        .or_else(|| known.map(|known| known.name.clone()));
    let (Some(name), Some(version)) = (name, version) else {
        bail!(
            "{} does not end in NAME/VERSION; give --name and --model-version",
            directory.display()
        );
    };
    let name = ModelName::parse(&name).with_context(|| {
        format!("\"{name}\" is not a model name ([A-Za-z0-9][A-Za-z0-9._-]*, at most 128)")
    })?;
    let version = Version::parse(&version)
        .with_context(|| format!("\"{version}\" is not a semantic version like 1.0.0"))?;
    Ok(ModelId { name, version })
}

/// Returns the next version that is neither in the directory nor in the journal.
pub(super) fn next_version(
    directory: &Path,
    decided: &BTreeMap<String, String>,
) -> anyhow::Result<Version> {
    let named = || {
        Some((
            directory.parent()?,
            Version::parse(&directory.file_name()?.to_string_lossy())?,
        ))
    };
    let Some((parent, mut version)) = named() else {
        bail!(
            "--bump needs a directory NAME/VERSION; {} is not one",
            directory.display()
        );
    };
    loop {
        let next = version.next();
        if next == version {
            bail!("there is no version above {version}");
        }
        version = next;
        if !parent.join(version.as_str()).exists() && !decided.contains_key(version.as_str()) {
            return Ok(version);
        }
    }
}

/// The digests of the versions in the journal. Reads the journal in the configured state directory
/// and the journal of a running server. Both are optional.
pub(super) fn known_digests(
    state: &StateConfig,
    server: &ServerArgs,
    name: &ModelName,
) -> BTreeMap<String, String> {
    let local = state
        .directory()
        .and_then(|state| stored_journal::read(&state, name.as_str()).ok());
    let client = Client::new(server, Some(name)).ok();
    let running = client.and_then(|client| stored_journal::fetch(&client, name.as_str(), 1).ok());
    let mut state = ModelState::default();
    for entry in local
        .iter()
        .chain(&running)
        .flat_map(stored_journal::StoredJournal::entries)
    {
        // Even an entry that contradicts the others contains digests of versions.
        let _ = state.apply(&entry);
    }
    state.digests
}
