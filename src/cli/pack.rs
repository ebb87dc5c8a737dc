//! `predictd pack`: checks the files of a package and writes its manifest.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    app,
    cli::{
        CommandOutcome, ConfigArgs, check_package_directory,
        client::{Client, ServerArgs},
        history,
        staging::Staging,
        typed,
    },
    clock,
    config::Config,
    id::{ModelId, ModelName, Version},
    package::{
        GOLDEN_FILE, PREPROCESSING_FILE, PackageError, Parts, SCHEMA_FILE, golden,
        guess::{self, Guess},
        manifest::{self, Manifest, Provenance},
    },
    registry::{
        gate::{GateOptions, PassedCheck},
        trial::GateTrial,
    },
    rollout::state::ModelState,
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
    /// The copy is created next to DIR. Files of a version that was served must never change, so pack changed files under a new
    /// version.
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
    let known: Option<Manifest> = before
        .as_deref()
        .and_then(|text| serde_json::from_slice(text).ok());
    let mut id = identity(args, &origin, known.as_ref())?;
    let decided = known_digests(&config, &args.server, &id.name);
    // --bump packs a copy, so that a package that was served is never changed.
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
            // A manifest marks a package as complete, and this one did not pass.
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

/// The provenance from the command line. A value that is missing there is taken from the earlier manifest.
fn provenance(args: &Args, known: Option<Manifest>) -> Provenance {
    let kept = known.map(|known| known.provenance).unwrap_or_default();
    Provenance {
        source: args.source.clone().or(kept.source),
        training_data: args.training_data.clone().or(kept.training_data),
        licence: args.licence.clone().or(kept.licence),
    }
}

fn report(args: &Args, id: &ModelId, manifest: &Manifest, decided: &BTreeMap<String, String>) {
    let (files, digest) = (manifest.files.len(), &manifest.digest);
    say!("packed {id}: {files} files, {digest}");
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
    say!("  FAILED  {:<14} {error}", error.check);
}

/// preprocessing.json without the marks of its guesses. The marks are restored unless the package passes.
struct SettledGuesses {
    path: PathBuf,
    marked: Option<(usize, Vec<u8>)>,
}

impl SettledGuesses {
    fn keep(mut self) -> Option<String> {
        let (count, _) = self.marked.take()?;
        let places = if count == 1 {
            "1 place"
        } else {
            &format!("{count} places")
        };
        Some(format!(
            "{PREPROCESSING_FILE}: the golden examples prove the guesses in {places}; the key \"{}\" was deleted there",
            guess::KEY
        ))
    }
}

impl Drop for SettledGuesses {
    fn drop(&mut self) {
        if let Some((_, text)) = self.marked.take() {
            // The same text was on the disk before, and `drop` can't report an error.
            let _ = fs_err::write(&self.path, text);
        }
    }
}

/// Accepts the guesses that golden examples can prove. If there are others, reports them and returns `None`.
fn settle_guesses(directory: &Path) -> anyhow::Result<Option<SettledGuesses>> {
    let path = directory.join(PREPROCESSING_FILE);
    // The check of the parts reports a file that is missing or not JSON.
    let text = fs_err::read(&path).unwrap_or_default();
    let mut document: Value = serde_json::from_slice(&text).unwrap_or_default();
    let golden = fs_err::read_to_string(directory.join(GOLDEN_FILE))
        .ok()
        .and_then(|text| golden::parse(&text).ok())
        .unwrap_or_default();
    let guesses = guess::find(&document, &golden);
    if guesses.is_empty() {
        return Ok(Some(SettledGuesses { path, marked: None }));
    }
    let count = guesses.len();
    let mut shown = true;
    for Guess {
        pointer,
        text,
        unproved,
    } in guesses
    {
        if let Some(why) = unproved {
            shown = false;
            say_failure(
                &PackageError::new(
                    "preprocessing",
                    PREPROCESSING_FILE,
                    format!("is a guess, and {why}: {text}"),
                )
                .at(&pointer),
            );
        }
    }
    if !shown {
        say!(
            "  either  compare the guess with the training code, and delete the key \"{}\"",
            guess::KEY
        );
        say!(
            "  or      write {GOLDEN_FILE} with predictions from training: if the package reproduces them, pack deletes the key"
        );
        return Ok(None);
    }
    guess::remove_marks(&mut document);
    fs_err::write(&path, serde_json::to_string_pretty(&document)? + "\n")?;
    Ok(Some(SettledGuesses {
        path,
        marked: Some((count, text)),
    }))
}

/// The next version that is neither in the directory nor in the journal.
fn next_version(directory: &Path, decided: &BTreeMap<String, String>) -> anyhow::Result<Version> {
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

/// Copies all files except the manifest into a staging directory.
fn copy_parts(directory: &Path) -> anyhow::Result<Staging> {
    let staging = Staging::beside(directory, "pack")?;
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

/// The digests of the versions in the journal. Reads the journal in the configured state directory and that of a running server; both
/// are optional.
fn known_digests(
    config: &Config,
    server: &ServerArgs,
    name: &ModelName,
) -> BTreeMap<String, String> {
    let local = config
        .state
        .directory()
        .and_then(|state| history::read(&state, name.as_str()).ok());
    let client = Client::new(server, Some(name)).ok();
    let running = client.and_then(|client| history::fetch(&client, name.as_str(), 1).ok());
    let mut state = ModelState::default();
    for entry in local
        .iter()
        .chain(&running)
        .flat_map(history::StoredJournal::entries)
    {
        // Even an entry that contradicts the others contains digests of versions.
        let _ = state.apply(&entry);
    }
    state.digests
}

/// The time of creation: now, or SOURCE_DATE_EPOCH for reproducible packages.
pub(super) fn created() -> String {
    let epoch = std::env::var_os("SOURCE_DATE_EPOCH").and_then(|epoch| epoch.into_string().ok());
    clock::now_rfc3339(epoch.as_deref())
}

/// The result of the load gate on a new package.
pub(super) enum Sealed {
    Passed(Manifest),
    Refused(PackageError),
}

/// Turns a directory of files into a package.
pub(super) struct Packer {
    pub config: Config,
    library: PathBuf,
    trial: GateTrial,
}

impl Packer {
    pub(super) fn new(config: Config) -> anyhow::Result<Packer> {
        let library = app::find_library(&config)?;
        let trial = app::trial(&config, &library)?;
        Ok(Packer {
            config,
            library,
            trial,
        })
    }

    /// The path of ONNX Runtime.
    pub(super) fn library(&self) -> &Path {
        &self.library
    }

    /// Writes the manifest, runs the load gate, and adds its findings to the manifest. After a failure the manifest still exists.
    pub(super) fn seal(
        &self,
        mut manifest: Manifest,
        directory: &Path,
        report: &mut dyn FnMut(PassedCheck),
    ) -> anyhow::Result<Sealed> {
        let options = GateOptions {
            bare: false,
            max_batch_size: self
                .config
                .model_settings()
                .batching(&manifest.name)
                .max_batch_size,
            intra_op_threads: 1,
        };
        manifest.write(directory)?;
        let verdict = match self.trial.run(directory, options, report) {
            Ok(verdict) => verdict,
            Err(error) => return Ok(Sealed::Refused(error)),
        };
        manifest.runtime.opset = verdict.opset;
        manifest.write(directory)?;
        Ok(Sealed::Passed(manifest))
    }
}

fn identity(args: &Args, directory: &Path, known: Option<&Manifest>) -> anyhow::Result<ModelId> {
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

fn normalize_schema(directory: &Path) -> anyhow::Result<bool> {
    let path = directory.join(SCHEMA_FILE);
    // The check of the parts reports a file that is missing or not JSON.
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

/// Suggestions to improve a valid package.
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
    if missing("evaluation.json") {
        hints.push("no evaluation.json: `predictd compat` can't compare the evaluation with another version's".to_owned());
    }
    if manifest.provenance.licence.is_none() {
        hints.push("no licence: give --licence".to_owned());
    }
    hints
}
