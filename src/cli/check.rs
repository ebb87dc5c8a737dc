//! `predictd serve --check`: reports everything that would prevent serving, and exits.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    app,
    cli::{CommandOutcome, verify},
    config::Config,
    engine::infer::{OnnxFactory, Runtime},
    error::text_with_sources,
    id::{ModelId, ModelName},
    journal::{
        Journal, JournalError, LOST_BEGINNING,
        store::{Store, StoreError},
    },
    package::{
        MODEL_FILE, PackageCheck, PackageError,
        bare::{self, BareGraph},
        manifest::{self, Manifest},
    },
    registry::{self, decision::digest_conflict, loader},
    rollout::state::{Contradiction, FoldError, ModelState},
};

pub(super) fn run(config: &Config) -> anyhow::Result<CommandOutcome> {
    say!("ok      configuration");
    let library = app::find_library(&config.runtime.library)?;
    let runtime = Runtime::load(&library)?;
    say!(
        "ok      ONNX Runtime {} at {}",
        runtime.version(),
        library.display()
    );
    let with_bare = !config.models.require_manifest;
    let directories = verify::packages_below(&config.models.root, with_bare).unwrap_or_default();
    let faults = setup_faults(config, &directories)?;
    for fault in &faults {
        say!("FAILED  {fault}");
    }
    for name in unknown_sections(config, &directories) {
        say!(
            "warning [model.{name}] has no effect: there is no model {name} in {}",
            config.models.root.display()
        );
    }
    // The other checks require packages.
    if directories.is_empty() {
        return Ok(CommandOutcome::Failed);
    }
    let mut passed = faults.is_empty();
    let verified = verify::verify_all(&directories, config, &library, with_bare, false)?;
    passed &= verified == CommandOutcome::Done;
    let journals = read_journals(config, &directories)?;
    passed &= journals.all_readable;
    let server = WouldBeServer {
        config,
        runtime,
        decided: journals.decided,
    };
    for directory in &directories {
        passed &= server.accepts(directory);
    }
    Ok(if passed {
        CommandOutcome::Done
    } else {
        CommandOutcome::Failed
    })
}

/// Returns the problems of the listeners, the state directory and the models directory.
fn setup_faults(config: &Config, directories: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let root = &config.models.root;
    let mut faults = app::listening_faults(config)?;
    if let Some(directory) = config.state.directory()
        && let Err(error) = try_writing(&directory)
    {
        faults.push(format!(
            "state.url: {} can't be written: {}",
            directory.display(),
            text_with_sources(error.as_ref())
        ));
    }
    let ignored = registry::ignored(root);
    faults.extend(ignored.iter().map(ToString::to_string));
    let ignored: Vec<&Path> = ignored
        .iter()
        .map(|ignored| ignored.path.as_path())
        .collect();
    faults.extend(missing_names(config, directories));
    faults.extend(incomplete(root, directories, &ignored));
    if directories.is_empty() {
        faults.push(format!(
            "{} contains no package; the server would not become ready",
            root.display()
        ));
    }
    Ok(faults)
}

/// The journals of the models in the models directory.
struct Journals {
    /// The state of each model whose journal is readable.
    decided: BTreeMap<ModelName, ModelState>,
    all_readable: bool,
}

/// Reads the journal of each model, and prints each one that is not readable.
fn read_journals(config: &Config, directories: &[PathBuf]) -> anyhow::Result<Journals> {
    let mut journals = Journals {
        decided: BTreeMap::new(),
        all_readable: true,
    };
    let state = config.state.directory();
    let Some(state) = state.filter(|directory| directory.is_dir()) else {
        return Ok(journals);
    };
    let journal = Journal::new(Store::local(state)?);
    let names: BTreeSet<ModelName> = directories
        .iter()
        .filter_map(|directory| Some(bare::id_of(directory)?.name))
        .collect();
    for name in names {
        match decisions(&journal, &name) {
            Ok(state) => drop(journals.decided.insert(name, state)),
            Err(error) => {
                say!("FAILED  {}", error.text_with_advice());
                journals.all_readable = false;
            }
        }
    }
    Ok(journals)
}

/// The server that this configuration would start, as far as the checks need it.
struct WouldBeServer<'a> {
    config: &'a Config,
    runtime: Runtime,
    /// The state of each model whose journal can be read.
    decided: BTreeMap<ModelName, ModelState>,
}

impl WouldBeServer<'_> {
    /// Prints each reason to reject the package. Returns whether the server would accept it.
    fn accepts(&self, directory: &Path) -> bool {
        let Some(id) = bare::id_of(directory) else {
            return true;
        };
        // If the package can't be read, the gate has reported that already.
        let refused = self.refuses(directory, &id).unwrap_or_default();
        for error in &refused {
            say!(
                "{}\n  FAILED  {:<14} {}",
                directory.display(),
                error.check,
                text_with_sources(error)
            );
        }
        refused.is_empty()
    }

    /// Returns the reasons to reject a package that passes the gate. They concern its digest
    /// and its memory limit.
    fn refuses(&self, directory: &Path, id: &ModelId) -> Result<Vec<PackageError>, PackageError> {
        let manifest = match bare::is_bare(directory, id) {
            true => BareGraph::open(directory, id)?.manifest,
            false => Manifest::read(directory)?,
        };
        let mut refused = Vec::new();
        refused.extend(
            self.decided
                .get(&id.name)
                .and_then(|state| digest_conflict(&state.digests, &id.version, &manifest.digest)),
        );
        let resources = loader::worker_resources(
            &self.config.model_settings(),
            app::cores(),
            id.name.as_str(),
            manifest.size(),
        );
        if resources.memory_bytes.is_some() {
            let opened = OnnxFactory::open(&self.runtime, &directory.join(MODEL_FILE), resources);
            refused.extend(
                opened.err().map(|error| {
                    PackageError::caused_by(PackageCheck::Graph, MODEL_FILE, "", error)
                }),
            );
        }
        Ok(refused)
    }
}

/// The reason why a journal can't be used.
#[derive(Debug, thiserror::Error)]
enum JournalFault {
    #[error("the journal of {model} can't be read")]
    Unreadable {
        model: ModelName,
        #[source]
        source: StoreError,
    },
    #[error("the journal of {model} is damaged at entry 1: {LOST_BEGINNING}")]
    Lost { model: ModelName },
    #[error("the journal of {model} is damaged")]
    Damaged {
        model: ModelName,
        #[source]
        source: JournalError,
    },
    #[error("the journal of {model} contradicts itself")]
    Contradictory {
        model: ModelName,
        #[source]
        source: Contradiction,
    },
}

impl JournalFault {
    /// The error with its sources, and the command that helps.
    fn text_with_advice(&self) -> String {
        let text = text_with_sources(self);
        match self {
            JournalFault::Unreadable { .. } => text,
            JournalFault::Lost { model }
            | JournalFault::Damaged { model, .. }
            | JournalFault::Contradictory { model, .. } => format!(
                "{text}; `predictd history {model} --repair --reason TEXT` moves the damaged end aside once the server runs"
            ),
        }
    }
}

/// The state of a model according to its journal.
fn decisions(journal: &Journal, name: &ModelName) -> Result<ModelState, JournalFault> {
    let model = name.clone();
    let (head, state, end) = ModelState::fold(journal, name.as_str(), |_| ());
    let has_traces = || journal.has_traces_of_decisions(name.as_str());
    match end {
        Ok(()) if head.seq == 0 => match has_traces() {
            Ok(false) => Ok(state),
            Ok(true) => Err(JournalFault::Lost { model }),
            Err(source) => Err(JournalFault::Unreadable { model, source }),
        },
        Ok(()) => Ok(state),
        Err(FoldError::Journal(JournalError::Store(source))) => {
            Err(JournalFault::Unreadable { model, source })
        }
        Err(FoldError::Contradiction(source)) => Err(JournalFault::Contradictory { model, source }),
        Err(FoldError::Journal(source)) => Err(JournalFault::Damaged { model, source }),
    }
}

/// Creates and removes a file in the directory. Also removes every directory that it created.
fn try_writing(directory: &Path) -> anyhow::Result<()> {
    let made: Vec<&Path> = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    let probe = directory.join(format!(".check-{}", std::process::id()));
    let written = fs_err::create_dir_all(directory)
        .context("creating it")
        .and_then(|()| {
            fs_err::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&probe)
                .map(drop)
                .context("writing a file in it")
        })
        .and_then(|()| fs_err::remove_file(&probe).context("removing a file in it"));
    for directory in made {
        if let Err(error) = fs_err::remove_dir(directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            say!(
                "note    {} could not be removed: {error}",
                directory.display()
            );
        }
    }
    written
}

/// Describes the directories of versions that the server would treat as incomplete. Skips the
/// `ignored` directories, which are already reported.
fn incomplete(root: &Path, directories: &[PathBuf], ignored: &[&Path]) -> Vec<String> {
    let versions = registry::version_directories(root);
    let reported = |directory: &PathBuf| {
        ignored.contains(&directory.as_path()) || bare::id_of(directory).is_none()
    };
    let without = versions
        .into_iter()
        .filter(|directory| !directories.contains(directory) && !reported(directory));
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

/// The models that have a section, but no directory. They may arrive later, so this is no fault.
fn unknown_sections<'a>(config: &'a Config, directories: &[PathBuf]) -> Vec<&'a str> {
    let root = &config.models.root;
    let exists = |name: &str| {
        let path = root.join(name);
        directories
            .iter()
            .any(|directory| directory.starts_with(&path))
    };
    let names = config.model.iter();
    names
        // `missing_names` reports a version that is missing.
        .filter(|(name, model)| model.version.is_none() && !exists(name))
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Describes the models and versions that the configuration names but the models directory does not
/// contain.
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
        .map(|(key, name)| format!("{key} names {name}, which is not in {}", root.display()))
        .collect();
    for (name, model) in &config.model {
        if let Some(version) = model
            .version
            .as_ref()
            .filter(|version| !holds(root.join(name).join(version)))
        {
            missing.push(format!(
                "model.{name}.version names {version}, which is not in {}",
                root.join(name).display()
            ));
        }
    }
    missing
}
