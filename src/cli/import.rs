//! `predictd import`: converts Triton repositories and MLflow models to packages.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{
    app,
    cli::{
        CommandOutcome, ConfigArgs,
        pack::{self, Packer, Sealed},
        staging::Staging,
        typed,
    },
    decode::{DecodeError, decode_instance},
    engine::{
        Engine,
        infer::{OnnxEngine, OnnxFactory, Runtime},
    },
    id::{ModelId, ModelName, Version},
    package::{
        GOLDEN_FILE, MODEL_FILE, PackageError, Parts, Transform,
        import::{Imported, copy_graph, external, mlflow, mlmodel::MlModel, triton},
        manifest::Manifest,
    },
    registry::gate::OWN_LIMITS,
    tensor::signature::Signature,
};

/// An input example has a few rows. A larger file is not an input example.
const MAX_EXAMPLE_BYTES: u64 = 16 << 20;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(clap::Subcommand)]
enum From {
    /// Import a Triton model repository, or one model in it
    ///
    /// Reads NAME/config.pbtxt and NAME/VERSION/model.onnx.
    Triton(TritonArgs),
    /// Import a model that MLflow saved with the onnx flavor
    ///
    /// The model's directory contains the file MLmodel.
    Mlflow(MlflowArgs),
}

#[derive(clap::Args)]
struct TritonArgs {
    /// The repository, or one model's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    to: ToArgs,
}

#[derive(clap::Args)]
struct MlflowArgs {
    /// The model's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Name of the model
    ///
    /// Default: NAME if --output ends in NAME/VERSION. Otherwise the name of the directory, or MLflow's artifact path if the
    /// directory's name is generic, such as `model`.
    #[arg(long)]
    name: Option<String>,
    /// Semantic version of the package [default: 1.0.0]
    ///
    /// If --output ends in NAME/VERSION, VERSION is the default.
    #[arg(long, alias = "model-version")]
    version: Option<String>,
    #[command(flatten)]
    to: ToArgs,
}

#[derive(clap::Args)]
struct ToArgs {
    /// The models directory, or a package's NAME/VERSION
    ///
    /// Packages are created in DIR/NAME/VERSION. If DIR itself ends in NAME/VERSION and one version is imported, DIR becomes the
    /// package, as with `init`.
    #[arg(long, value_name = "DIR", default_value = "models")]
    output: PathBuf,
    /// Print one JSON object for each version, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    match &args.from {
        From::Triton(args) => from_triton(args),
        From::Mlflow(args) => from_mlflow(args),
    }
}

fn from_triton(args: &TritonArgs) -> anyhow::Result<CommandOutcome> {
    let candidates = triton::find_versions(&args.directory)?;
    if candidates.is_empty() {
        bail!(
            "{} contains no model; expected NAME/config.pbtxt and NAME/VERSION/{MODEL_FILE}",
            args.directory.display()
        );
    }
    let mut ids = candidates
        .iter()
        .filter_map(|(_, source)| source.as_ref().ok())
        .map(|source| &source.id);
    let models = match ids.find_map(|id| OwnDirectory::read(&args.to.output, id.name.as_str())) {
        None => args.to.output.clone(),
        Some(own) if candidates.len() > 1 => bail!(
            "--output {} is the directory of one package, {}, but {} versions would be imported; give the models directory, {}",
            args.to.output.display(),
            own.id,
            candidates.len(),
            own.models.display()
        ),
        Some(own) => {
            if let Some(Ok(source)) = candidates.first().map(|(_, source)| source) {
                own.check(&args.to.output, &source.id.name, &source.id.version)?;
            }
            own.models
        }
    };
    let mut importer = Importer::new(&args.to, models)?;
    for (label, source) in candidates {
        let made = source.map_err(anyhow::Error::new).and_then(|source| {
            let place = Place {
                id: &source.id,
                graph: &source.graph,
                root: &source.root,
            };
            importer.make(&place, |signature, external| {
                triton::import(&source, signature, external)
            })
        });
        importer.report(&label, made);
    }
    Ok(importer.end())
}

fn from_mlflow(args: &MlflowArgs) -> anyhow::Result<CommandOutcome> {
    let version = args.version.as_ref().map(|version| {
        Version::parse(version)
            .with_context(|| format!("\"{version}\" is not a semantic version like 1.0.0"))
    });
    let version = version.transpose()?;
    let model = MlModel::read(&args.directory)?;
    let data = Path::new(&mlflow::flavor(&model)?.data);
    if !external::is_inside(data) {
        bail!(
            "MLmodel /flavors/onnx/data: \"{}\" is outside of the directory",
            data.display()
        );
    }
    let name = match &args.name {
        Some(name) => ModelName::parse(name),
        None => mlflow::name(
            &model,
            &fs_err::canonicalize(&args.directory)?
                .file_name()
                .unwrap_or_default()
                .to_string_lossy(),
        ),
    };
    let name = name.context("there is no valid model name ([A-Za-z0-9][A-Za-z0-9._-]*, at most 128); give one with --name")?;
    let (id, models) = match OwnDirectory::read(&args.to.output, name.as_str()) {
        Some(own) => {
            let given = args.name.as_ref().map_or(&own.id.name, |_| &name);
            own.check(
                &args.to.output,
                given,
                version.as_ref().unwrap_or(&own.id.version),
            )?;
            (own.id, own.models)
        }
        None => {
            let version = version
                .or_else(|| Version::parse("1.0.0"))
                .context("1.0.0 is a version")?;
            (ModelId { name, version }, args.to.output.clone())
        }
    };
    let (example, unread) = match example(&args.directory, &model) {
        Ok(example) => (example, None),
        Err(error) => (
            None,
            Some(format!("the input example was skipped: {error:#}")),
        ),
    };
    let mut importer = Importer::new(&args.to, models)?;
    let place = Place {
        id: &id,
        graph: &args.directory.join(data),
        root: &args.directory,
    };
    let made = importer.make(&place, |signature, _| {
        let mut imported = mlflow::import(&id, &model, example.as_ref(), signature)?;
        imported.warnings.extend(unread);
        Ok(imported)
    });
    importer.report(&id.to_string(), made);
    Ok(importer.end())
}

/// An `--output` that is the directory of one package, as with `init`: MODELS/NAME/VERSION.
struct OwnDirectory {
    models: PathBuf,
    id: ModelId,
}

impl OwnDirectory {
    /// `None` for a models directory. A whole number, such as a year, counts as a version only in a directory with the model's `name`.
    fn read(output: &Path, name: &str) -> Option<OwnDirectory> {
        let version = Version::parse(output.file_name()?.to_str()?)?;
        let absolute = std::path::absolute(output).ok()?;
        let above = output
            .parent()
            .filter(|above| above.file_name().is_some())
            .or_else(|| absolute.parent())?;
        let own = ModelName::parse(above.file_name()?.to_str()?)?;
        if version.is_number() && own.as_str() != name {
            return None;
        }
        let models = above
            .parent()
            .filter(|models| !models.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Some(OwnDirectory {
            models: models.to_path_buf(),
            id: ModelId { name: own, version },
        })
    }

    fn check(&self, output: &Path, name: &ModelName, version: &Version) -> anyhow::Result<()> {
        if *name == self.id.name && *version == self.id.version {
            return Ok(());
        }
        let (output, models) = (output.display(), self.models.display());
        bail!(
            "--output {output} is the directory of {}, but {name}/{version} would be imported; give --output {models}/{name}/{version} or the models \
             directory, {models}",
            self.id
        )
    }
}

/// Reads the input example that was saved with the model.
fn example(directory: &Path, model: &MlModel) -> anyhow::Result<Option<Value>> {
    let Some(info) = &model.saved_input_example_info else {
        return Ok(None);
    };
    // The format of the serving API's file is unambiguous. The other file is ambiguous if it contains a dict of tensors.
    let Some(path) = info
        .serving_input_path
        .as_ref()
        .or(info.artifact_path.as_ref())
    else {
        return Ok(None);
    };
    if !external::is_inside(Path::new(path)) {
        bail!("\"{path}\" is outside of the directory");
    }
    let file = fs_err::canonicalize(directory.join(path))?;
    if !file.starts_with(fs_err::canonicalize(directory)?) {
        bail!("\"{path}\" is outside of the directory");
    }
    let mut text = Vec::new();
    fs_err::File::open(&file)?
        .take(MAX_EXAMPLE_BYTES + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > MAX_EXAMPLE_BYTES {
        bail!("{path} has more than {MAX_EXAMPLE_BYTES} bytes");
    }
    serde_json::from_slice(&text)
        .map(Some)
        .with_context(|| format!("{path} is not JSON"))
}

/// The source files of one package.
struct Place<'a> {
    id: &'a ModelId,
    graph: &'a Path,
    /// No file outside this directory is read.
    root: &'a Path,
}

/// A finished package.
struct CreatedPackage {
    directory: PathBuf,
    digest: String,
    golden: usize,
    imported: Imported,
}

struct Importer<'a> {
    to: &'a ToArgs,
    models: PathBuf,
    packer: Packer,
    runtime: Runtime,
    made: usize,
    /// Packages without golden examples.
    without_golden: usize,
    failed: usize,
}

impl<'a> Importer<'a> {
    fn new(to: &'a ToArgs, models: PathBuf) -> anyhow::Result<Importer<'a>> {
        let config = to.config.load()?;
        let runtime = Runtime::load(&app::find_library(&config)?)?;
        Ok(Importer {
            to,
            models,
            packer: Packer::new(config)?,
            runtime,
            made: 0,
            without_golden: 0,
            failed: 0,
        })
    }

    /// Creates a package in a staging directory, runs the gate on it, and moves it into the models directory.
    fn make(
        &self,
        place: &Place<'_>,
        import: impl FnOnce(&Signature, &[String]) -> Result<Imported, PackageError>,
    ) -> anyhow::Result<CreatedPackage> {
        let directory = self
            .models
            .join(place.id.name.as_str())
            .join(place.id.version.as_str());
        if fs_err::symlink_metadata(&directory).is_ok() {
            bail!(
                "{} already exists; nothing was changed",
                directory.display()
            );
        }
        let staging = Staging::within(
            &self.models,
            &format!("import-{}-{}", place.id.name, place.id.version),
        )?;
        let external = copy_graph(place.graph, Some(place.root), staging.path())?;
        let (_, mut engine) =
            OnnxFactory::open(&self.runtime, &staging.path().join(MODEL_FILE), 1)?;
        let signature = std::sync::Arc::clone(engine.signature());
        let mut imported = import(&signature, &external)?;
        imported.write(staging.path())?;
        let parts = Parts::read(staging.path())?;
        let golden = golden(&parts, &parts.bind(&signature)?, &mut engine, &mut imported);
        if !golden.is_empty() {
            fs_err::write(
                staging.path().join(GOLDEN_FILE),
                golden
                    .iter()
                    .map(|line| format!("{line}\n"))
                    .collect::<String>(),
            )?;
        }
        drop(engine);
        let manifest = Manifest::of_directory(
            staging.path(),
            place.id,
            pack::created(),
            imported.provenance.clone(),
        )?;
        let manifest = match self.packer.seal(manifest, staging.path(), &mut |_| {})? {
            Sealed::Passed(manifest) => manifest,
            Sealed::Refused(error) => return Err(error.into()),
        };
        staging.publish(&directory)?;
        Ok(CreatedPackage {
            directory,
            digest: manifest.digest,
            golden: golden.len(),
            imported,
        })
    }

    fn report(&mut self, label: &str, made: anyhow::Result<CreatedPackage>) {
        match made {
            Ok(made) => {
                self.made += 1;
                self.without_golden += usize::from(made.golden == 0);
                let Imported {
                    warnings, notes, ..
                } = &made.imported;
                for warning in warnings {
                    eprintln!("predictd: warning: {label}: {warning}");
                }
                if self.to.json {
                    let package = made.directory.to_string_lossy();
                    say!(
                        "{}",
                        json!({"model": label, "imported": true, "package": package, "digest": made.digest, "golden": made.golden, "warnings": warnings, "notes": notes})
                    );
                    return;
                }
                say!(
                    "imported {}  {}, {} golden examples",
                    made.directory.display(),
                    made.digest,
                    made.golden
                );
                for note in notes {
                    say!("  check   {note}");
                }
            }
            Err(error) => {
                self.failed += 1;
                if self.to.json {
                    say!(
                        "{}",
                        json!({"model": label, "imported": false, "error": format!("{error:#}")})
                    );
                } else {
                    say!("FAILED   {label}: {error:#}");
                }
            }
        }
    }

    fn end(&self) -> CommandOutcome {
        if self.made > 0 && !self.to.json {
            let output = typed(&self.models);
            say!("next:\n  predictd verify {output}\n  predictd serve --models {output}");
            if self.without_golden > 0 {
                say!(
                    "  write {GOLDEN_FILE}, with lines {{\"input\": ..., \"output\": ...}} of predictions from training, and pack again"
                );
            }
        }
        if self.failed == 0 {
            CommandOutcome::Done
        } else {
            CommandOutcome::Failed
        }
    }
}

/// The model's predictions for the instances that were saved with it. An instance that fails is skipped, with a note.
fn golden(
    parts: &Parts,
    transform: &Transform,
    engine: &mut OnnxEngine,
    imported: &mut Imported,
) -> Vec<Value> {
    let mut lines = Vec::new();
    for (index, input) in imported.examples.iter().enumerate() {
        match answer(parts, transform, engine, input) {
            Ok(output) => lines.push(json!({"input": input, "output": output})),
            Err(detail) => imported.notes.push(format!(
                "row {} of the input example was skipped: {detail}",
                index + 1
            )),
        }
    }
    lines
}

fn answer(
    parts: &Parts,
    transform: &Transform,
    engine: &mut OnnxEngine,
    input: &Value,
) -> Result<Value, String> {
    let columns = decode_instance(&parts.input, input.to_string().as_bytes(), &OWN_LIMITS)
        .map_err(|error| match error {
            DecodeError::Malformed { detail } => detail.to_string(),
            DecodeError::Invalid { faults, .. } => faults
                .first()
                .map(|fault| format!("{} {}", fault.pointer, fault.detail))
                .unwrap_or_default(),
        })?;
    let tensors = transform.prepare(&columns).map_err(|faults| {
        faults
            .first()
            .map(|fault| fault.detail.clone())
            .unwrap_or_default()
    })?;
    let outputs = engine.run(&tensors).map_err(|error| error.to_string())?;
    transform
        .interpret(&outputs, 1)
        .map(|outputs| outputs.to_value(0))
        .map_err(|fault| fault.to_string())
}
