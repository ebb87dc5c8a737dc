use crate::cli::Outcome;
#[derive(clap::Args)]
pub struct Args { directory: std::path::PathBuf }
pub fn run(args: &Args) -> anyhow::Result<Outcome> { anyhow::bail!("{}", args.directory.display()) }
