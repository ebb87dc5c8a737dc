//! `predictd pack`: checks the files of a package and writes its manifest.

mod guesses;
mod identity;
mod packer;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub(crate) use packer::{Packer, Sealed, created};

use crate::{
    cli::{
        CommandOutcome, ConfigArgs, check_package_directory,
        client::ServerArgs,
        pack::{
            guesses::settle_guesses,
            identity::{known_digests, next_version},
        },
        staging::Staging,
        typed,
    },
    document,
    error::{counted, text_with_sources},
    id::ModelId,
    package::{
        EVALUATION_FILE, PackageError, Parts, SCHEMA_FILE,
        manifest::{self, Manifest, Provenance},
    },
    registry::gate::PassedCheck,
    schema::normalize::normalize,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the package, usually NAME/VERSION
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Name of the model [default: the parent directory's name]
    #[arg(long)]
    name: Option<String>,
    /// Version [default: the directory's name]
    #[arg(long = "model-version", value_name = "VERSION")]
    version: Option<String>,
    /// Origin of the model: repository and commit, or training run
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Training data of the model
    #[arg(long, value_name = "TEXT")]
    training_data: Option<String>,
    /// SPDX identifier of the licence
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,
    /// Pack a copy under the next free version
    ///
    /// The copy is created next to DIR. Files of a version that was served must never change, so
    /// pack changed files under a new version.
    #[arg(long, conflicts_with = "version")]
    bump: bool,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    check_package_directory(&args.directory)?;
    let origin = fs_err::canonicalize(&args.directory)?;
    let config = args.config.load()?;
    let before = fs_err::read(origin.join(manifest::FILE)).ok();
    let known = before.as_deref().and_then(earlier_manifest);
    let mut id = identity::identity(args, &origin, known.as_ref())?;
    let decided = known_digests(&config.state, &args.server, &id.name);
    // --bump packs a copy, because a package that was served must never change.
    let bumped = if args.bump {
        id.version = next_version(&origin, &decided)?;
        Some(copy_parts(&origin)?)
    } else {
        None
    };
    let directory = bumped
        .as_ref()
        .map_or_else(|| origin.clone(), |staging| staging.path().to_path_buf());
    if normalize_schema(&directory)? {
        say!("schema.json rewritten: $ref and anyOf were replaced by forms that predictd reads");
    }
    let Some(guesses) = settle_guesses(&directory)? else {
        return Ok(CommandOutcome::Failed);
    };
    let parts = Parts::read(&directory)?;
    let provenance = provenance(args, known);
    let manifest = Manifest::of_directory(&directory, &id, created(), provenance)?;
    let packer = Packer::new(config)?;
    let sealed = packer.seal(manifest, &directory, &mut |check| say_check(&check))?;
    let manifest = match sealed {
        Sealed::Passed(manifest) => manifest,
        Sealed::Refused(error) => {
            // A manifest marks a package as complete, but this package did not pass the checks.
            match before {
                Some(text) => fs_err::write(directory.join(manifest::FILE), text)?,
                None => fs_err::remove_file(directory.join(manifest::FILE))?,
            }
            say_failure(&error);
            return Ok(CommandOutcome::Failed);
        }
    };
    if let Some(text) = guesses.keep() {
        say!("{text}");
    }
    let directory = match bumped {
        Some(staging) => {
            let own = origin.with_file_name(id.version.as_str());
            staging.publish(&own)?;
            own
        }
        None => directory,
    };
    report(args, &id, &manifest, &decided);
    for hint in hints(&directory, &parts, &manifest) {
        say!("  hint    {hint}");
    }
    Ok(CommandOutcome::Done)
}

/// The manifest of an earlier `predictd pack`. `None` if it can't be read: it is replaced.
fn earlier_manifest(text: &[u8]) -> Option<Manifest> {
    let manifest = document::parse(text);
    if let Err(error) = &manifest {
        say!(
            "  warning {} can't be read and is replaced, without its provenance: {error}",
            manifest::FILE
        );
    }
    manifest.ok()
}

/// Takes the provenance from the command line. Missing values are taken from the earlier manifest.
fn provenance(args: &Args, known: Option<Manifest>) -> Provenance {
    let kept = known.map(|known| known.provenance).unwrap_or_default();
    Provenance {
        source: args.source.clone().or(kept.source),
        training_data: args.training_data.clone().or(kept.training_data),
        licence: args.licence.clone().or(kept.licence),
    }
}

fn report(args: &Args, id: &ModelId, manifest: &Manifest, decided: &BTreeMap<String, String>) {
    let (files, digest) = (counted(manifest.files.len(), "file"), &manifest.digest);
    say!("packed {id}: {files}, {digest}");
    let other = decided
        .get(id.version.as_str())
        .filter(|decided| *decided != digest);
    if let Some(other) = other {
        let (name, version) = (&id.name, &id.version);
        say!(
            "  warning {name} {version} is in the journal with other files ({other}): no server accepts these files as {version}"
        );
        say!(
            "          pack them under a new version: predictd pack {} --bump",
            typed(&args.directory)
        );
    }
}

pub(super) fn say_check(check: &PassedCheck) {
    say!(
        "  ok      {:<14} {:>9.1} ms  {}",
        check.name,
        check.milliseconds,
        check.detail
    );
}

pub(super) fn say_failure(error: &PackageError) {
    say!("  FAILED  {:<14} {}", error.check, text_with_sources(error));
}

/// Copies all files except the manifest into a staging directory.
fn copy_parts(directory: &Path) -> anyhow::Result<Staging> {
    let staging = Staging::next_to(directory, "pack")?;
    let files = manifest::list_files(directory)?;
    manifest::copy_files(
        files
            .iter()
            .map(String::as_str)
            .filter(|file| *file != manifest::FILE),
        directory,
        staging.path(),
    )?;
    Ok(staging)
}

fn normalize_schema(directory: &Path) -> anyhow::Result<bool> {
    let path = directory.join(SCHEMA_FILE);
    // A file that is missing or not JSON is reported by the check of the parts.
    let Ok(text) = fs_err::read_to_string(&path) else {
        return Ok(false);
    };
    let Ok(mut document) = serde_json::from_str::<Value>(&text) else {
        return Ok(false);
    };
    let changed =
        normalize(&mut document).map_err(|error| anyhow::anyhow!("{SCHEMA_FILE} {error}"))?;
    if changed {
        fs_err::write(&path, serde_json::to_string_pretty(&document)? + "\n")?;
    }
    Ok(changed)
}

/// Returns suggestions to improve a valid package.
fn hints(directory: &Path, parts: &Parts, manifest: &Manifest) -> Vec<String> {
    let mut hints = Vec::new();
    let missing = |file: &str| !directory.join(file).exists();
    if parts.golden.is_empty() {
        hints.push(
            "no golden.jsonl: the load gate can't prove that the model predicts as in training"
                .to_owned(),
        );
    }
    if missing("README.md") {
        hints.push("no README.md: write a model card for the people on call".to_owned());
    }
    if missing(EVALUATION_FILE) {
        hints.push(
            "no evaluation.json: `predictd compat` can't compare the evaluation with another \
             version's"
                .to_owned(),
        );
    }
    if manifest.provenance.licence.is_none() {
        hints.push("no licence: give --licence".to_owned());
    }
    hints
}
