//! `predictd import mlflow`: imports a model that MLflow saved with the onnx flavor.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    cli::{
        CommandOutcome,
        import::{
            ToArgs,
            importer::{Importer, Place},
            own_directory::OwnDirectory,
        },
    },
    document,
    error::text_with_sources,
    id::{ModelId, ModelName, Version},
    package::import::{external, mlflow, mlmodel::MlModel},
};

/// Maximum size of an input example in bytes. An input example has a few rows, so a larger file is
/// not an input example.
pub(super) const MAX_EXAMPLE_BYTES: u64 = 16 << 20;

#[derive(clap::Args)]
pub(super) struct MlflowArgs {
    /// The model's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Name of the model
    ///
    /// Default: NAME if --output ends in NAME/VERSION. Otherwise the name of the directory, or
    /// MLflow's artifact path if the directory's name is generic, such as `model`.
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

pub(super) fn run(args: &MlflowArgs) -> anyhow::Result<CommandOutcome> {
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
    let name = name.context(
        "there is no valid model name ([A-Za-z0-9][A-Za-z0-9._-]*, at most 128); give one with \
         --name",
    )?;
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
            Some(format!(
                "the input example was skipped: {}",
                text_with_sources(error.as_ref())
            )),
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

/// Reads the input example that was saved with the model.
pub(super) fn example(directory: &Path, model: &MlModel) -> anyhow::Result<Option<Value>> {
    let Some(info) = &model.saved_input_example_info else {
        return Ok(None);
    };
    // Prefer the file for the serving API, because its format is unambiguous. The other file is
    // ambiguous if it contains a dict of tensors.
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
    document::parse_value(&text)
        .map(Some)
        .with_context(|| path.clone())
}
