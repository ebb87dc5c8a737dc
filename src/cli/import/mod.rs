//! `predictd import`: converts Triton repositories and MLflow models to packages.

mod from_mlflow;
mod from_triton;
mod golden;
mod importer;
mod own_directory;

use std::path::PathBuf;

use crate::cli::{
    CommandOutcome, ConfigArgs,
    import::{from_mlflow::MlflowArgs, from_triton::TritonArgs},
};

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
struct ToArgs {
    /// The models directory, or a package's NAME/VERSION
    ///
    /// Packages are created in DIR/NAME/VERSION. If DIR itself ends in NAME/VERSION and one version
    /// is imported, DIR becomes the package, as with `init`.
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
        From::Triton(args) => from_triton::run(args),
        From::Mlflow(args) => from_mlflow::run(args),
    }
}
