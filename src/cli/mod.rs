//! The commands: one file each.

/// Prints a line; whoever closed the pipe (`| head`) wanted no more of it.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout().lock(), $($part)*);
    }};
}

mod check;
mod client;
mod compat;
mod completions;
mod examples;
mod gate;
mod health;
mod history;
mod import;
mod init;
mod inspect;
mod man;
mod measure;
mod models;
mod pack;
mod paint;
mod predict;
mod rollback;
mod rollout;
mod sample;
mod serve;
mod staging;
mod suggestion;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{config::Config, id::Version};

/// How a command ended, beside errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A check failed; the command said which.
    Failed,
}

/// A path as a shell takes it.
fn typed(path: &Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), |quoted| quoted.to_string())
}

/// Refuses the directory of a model where that of a package is wanted, and names its versions.
fn check_package_directory(directory: &Path) -> anyhow::Result<()> {
    if !directory.is_dir() {
        anyhow::bail!("{} is no directory", directory.display());
    }
    if directory.join(crate::package::MODEL_FILE).exists()
        || directory.join(crate::package::manifest::FILE).exists()
    {
        return Ok(());
    }
    let Ok(entries) = fs_err::read_dir(directory) else {
        return Ok(());
    };
    let below = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir());
    let mut versions: Vec<(Version, PathBuf)> = below
        .filter_map(|path| {
            Some((
                Version::parse(&path.file_name()?.to_string_lossy())?,
                path.clone(),
            ))
        })
        .collect();
    versions.sort();
    if versions.is_empty() {
        return Ok(());
    }
    let paths: Vec<String> = versions.iter().map(|(_, path)| typed(path)).collect();
    anyhow::bail!(
        "{} is a model's directory, and no package: name one of its versions, {}",
        directory.display(),
        paths.join(", ")
    )
}

#[derive(Parser)]
#[command(
    name = "predictd",
    version,
    about = "Serves models as verified packages, with metrics by version.",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the packages of a directory over HTTP
    Serve(serve::Args),
    /// Draft a first package from an ONNX file and a few rows
    Init(init::Args),
    /// Make packages of what another server or tracker keeps
    Import(import::Args),
    /// Check a package's parts and write manifest.json
    Pack(pack::Args),
    /// Run the load gate on packages, without a server
    Verify(verify::Args),
    /// Show what a package is
    Inspect(inspect::Args),
    /// Can callers of OLD use NEW, and back?
    ///
    /// A line per difference; exit 0, or 1 where they can't.
    Compat(compat::Args),
    /// Answer instances from a file or stdin, without a server
    Predict(predict::Args),
    /// What a server serves: models, versions, their states and roles
    Models(models::Args),
    /// Send traffic to a new version step by step, watched by the judge
    Rollout(rollout::Args),
    /// Put the stable version of before back, at once
    Rollback(rollback::Args),
    /// Who changed what, when and why
    History(history::Args),
    /// Ask the local server whether it is ready; exit 0 or 1
    Health(health::Args),
    /// Print a script that completes commands and options in a shell
    Completions(completions::Args),
    /// Print the manual page, of predictd or of one command
    Man(man::Args),
    /// The load gate's process; started by predictd itself
    #[command(hide = true)]
    Gate(gate::Args),
    /// Runs a graph for `compat`, in a process of its own
    #[command(hide = true)]
    Measure(measure::Args),
}

/// Where settings come from, for the commands that need some.
#[derive(clap::Args)]
struct ConfigArgs {
    /// Configuration file (TOML)
    ///
    /// PREDICTD_SECTION__KEY variables override its keys.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn load(&self) -> anyhow::Result<Config> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Ok(Config::load(self.config.as_deref(), variables)?)
    }
}

/// The whole command line.
fn command_line() -> clap::Command {
    examples::add(Cli::command())
}

/// The command line without what predictd starts by itself.
fn visible() -> clap::Command {
    let whole = command_line();
    let commands: Vec<clap::Command> = whole
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    let about = whole.get_about().cloned().unwrap_or_default();
    let examples = whole.get_after_long_help().cloned().unwrap_or_default();
    clap::Command::new("predictd")
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .after_long_help(examples)
        .subcommands(commands)
}

/// Reads the command line and runs it. 0: done, 1: failed, 2: wrong usage.
pub fn run() -> ExitCode {
    let cli =
        Cli::from_arg_matches(&command_line().get_matches()).unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Init(args) => init::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Pack(args) => pack::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Compat(args) => compat::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Rollout(args) => rollout::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::History(args) => history::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Measure(args) => measure::run(&args),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        // Whoever closed the pipe (`| head`) wanted no more of it.
        Err(error)
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("predictd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
