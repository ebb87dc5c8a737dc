//! `predictd serve --check`: everything that `serve` would refuse, without serving.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    app,
    cli::{Outcome, verify},
    config::Config,
    engine::infer::{OnnxFactory, Runtime},
    id::{ModelId, ModelName},
    journal::{Journal, JournalError, store::Store},
    package::{
        MODEL_FILE, PackageError,
        bare::{self, BareGraph},
        manifest::{self, Manifest},
    },
    registry::{self, loader, traffic::digest_conflict},
    rollout::state::{FoldError, ModelState},
    telemetry,
};

pub fn run(config: &Config) -> anyhow::Result<Outcome> {
    telemetry::check_level(&config.telemetry.log_level).map_err(anyhow::Error::msg)?;
    say!("ok      configuration");
    let library = app::find_library(config)?;
    let runtime = Runtime::load(&library)?;
    say!(
        "ok      ONNX Runtime {} at {}",
        runtime.version(),
        library.display()
    );
    let mut faults = app::listening_faults(config)?;
    let state = config.state.directory();
    if let Some(directory) = &state {
        let wrong = |error: anyhow::Error| {
            format!(
                "state.url: {} can't be written: {error:#}",
                directory.display()
            )
        };
        faults.extend(try_writing(directory).err().map(wrong));
    }
    let ignored = registry::ignored(&config.models.root);
    faults.extend(ignored.iter().map(ToString::to_string));
    let ignored: Vec<&Path> = ignored
        .iter()
        .map(|ignored| ignored.path.as_path())
        .collect();
    let with_bare = !config.models.require_manifest;
    let directories = verify::packages_below(&config.models.root, with_bare).unwrap_or_default();
    faults.extend(missing_names(config, &directories));
    faults.extend(incomplete(&config.models.root, &directories, &ignored));
    if directories.is_empty() {
        faults.push(format!(
            "{} holds no package; the server would not be ready",
            config.models.root.display()
        ));
    }
    for fault in &faults {
        say!("FAILED  {fault}");
    }
    if directories.is_empty() {
        return Ok(Outcome::Failed);
    }
    let mut outcome = verify::verify_all(&directories, config, &library, with_bare, false)?;
    let journal = state
        .filter(|directory| directory.is_dir())
        .map(Store::local)
        .transpose()?
        .map(Journal::new);
    let mut decided: BTreeMap<ModelName, ModelState> = BTreeMap::new();
    let names: BTreeSet<ModelName> = directories
        .iter()
        .filter_map(|directory| Some(bare::id_of(directory)?.name))
        .collect();
    for (name, journal) in names.into_iter().zip(journal.iter().cycle()) {
        match decisions(journal, &name) {
            Ok(state) => drop(decided.insert(name, state)),
            Err(detail) => {
                say!("FAILED  {detail}");
                outcome = Outcome::Failed;
            }
        }
    }
    let server = Server {
        config,
        runtime,
        decided,
    };
    for directory in &directories {
        let Some(id) = bare::id_of(directory) else {
            continue;
        };
        // What the gate refuses is told already.
        let Ok(refused) = server.refuses(directory, &id) else {
            continue;
        };
        for error in refused {
            say!(
                "{}\n  FAILED  {:<14} {error}",
                directory.display(),
                error.check
            );
            outcome = Outcome::Failed;
        }
    }
    Ok(if faults.is_empty() {
        outcome
    } else {
        Outcome::Failed
    })
}

struct Server<'a> {
    config: &'a Config,
    runtime: Runtime,
    /// By model; of those whose journal can't be read nothing is known.
    decided: BTreeMap<ModelName, ModelState>,
}

impl Server<'_> {
    /// What the server refuses of a package that passes the gate: for its place, its digest, and its share of the memory.
    fn refuses(&self, directory: &Path, id: &ModelId) -> Result<Vec<PackageError>, PackageError> {
        let manifest = match bare::is_bare(directory, id) {
            true => BareGraph::open(directory, id)?.manifest,
            false => Manifest::read(directory)?,
        };
        let mut refused = Vec::new();
        refused.extend(manifest.check_identity(id).err());
        refused.extend(
            self.decided
                .get(&id.name)
                .and_then(|state| digest_conflict(&state.digests, &id.version, &manifest.digest)),
        );
        let resources =
            loader::worker_resources(self.config, app::cores(), id.name.as_str(), manifest.size());
        if resources.memory_bytes.is_some() {
            let opened = OnnxFactory::open(&self.runtime, &directory.join(MODEL_FILE), resources);
            refused.extend(
                opened
                    .err()
                    .map(|error| PackageError::new("graph", MODEL_FILE, error.to_string())),
            );
        }
        Ok(refused)
    }
}

/// What a model's journal comes to, or why it can't be read.
fn decisions(journal: &Journal, name: &ModelName) -> Result<ModelState, String> {
    let repair = format!(
        "`predictd history {name} --repair --reason TEXT` sets the damaged end aside, once the server runs"
    );
    let (_, state, end) = ModelState::fold(journal, name.as_str(), |_| ());
    match end {
        Ok(()) => Ok(state),
        Err(FoldError::Contradiction(error)) => Err(format!(
            "the journal of {name} contradicts itself: {error}; {repair}"
        )),
        Err(FoldError::Journal(JournalError::Store(error))) => {
            Err(format!("the journal of {name} can't be read: {error}"))
        }
        Err(FoldError::Journal(error)) => Err(format!(
            "the journal of {name} is damaged: {error}; {repair}"
        )),
    }
}

/// Writes a file there and removes it, with every directory that had to be made for it.
fn try_writing(directory: &Path) -> anyhow::Result<()> {
    let made: Vec<&Path> = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    let probe = directory.join(format!(".check-{}", std::process::id()));
    let written = fs_err::create_dir_all(directory)
        .context("making it")
        .and_then(|()| {
            fs_err::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&probe)
                .map(drop)
                .context("writing a file there")
        })
        .and_then(|()| fs_err::remove_file(&probe).context("removing a file there"));
    for directory in made {
        if let Err(error) = fs_err::remove_dir(directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            say!("note    {} stays: {error}", directory.display());
        }
    }
    written
}

/// Directories of versions in which the server would wait for files; of those that are `ignored` the reason is told already.
fn incomplete(root: &Path, directories: &[PathBuf], ignored: &[&Path]) -> Vec<String> {
    let versions = registry::version_directories(root);
    let told = |directory: &PathBuf| {
        ignored.contains(&directory.as_path()) || bare::id_of(directory).is_none()
    };
    let without = versions
        .into_iter()
        .filter(|directory| !directories.contains(directory) && !told(directory));
    without
        .map(|directory| {
            format!(
                "{}: {} is missing; `predictd pack` writes it",
                directory.display(),
                manifest::FILE
            )
        })
        .collect()
}

/// What the configuration names, but the directory does not hold.
fn missing_names(config: &Config, directories: &[PathBuf]) -> Vec<String> {
    let root = &config.models.root;
    let holds = |path: PathBuf| {
        directories
            .iter()
            .any(|directory| directory.starts_with(&path))
    };
    let named = config
        .models
        .required
        .iter()
        .map(|name| ("models.required", name));
    let named = named.chain(
        (!config.models.default.is_empty()).then_some(("models.default", &config.models.default)),
    );
    let absent = named.filter(|(_, name)| !holds(root.join(name)));
    let mut missing: Vec<String> = absent
        .map(|(key, name)| format!("{key} names {name}, which {} does not hold", root.display()))
        .collect();
    for (name, model) in &config.model {
        if let Some(version) = model
            .version
            .as_ref()
            .filter(|version| !holds(root.join(name).join(version)))
        {
            missing.push(format!(
                "model.{name}.version names {version}, which {} does not hold",
                root.join(name).display()
            ));
        }
    }
    missing
}
