//! The commands, one file per command.

/// Prints a line to stdout. A closed pipe (`| head`) is not an error.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout().lock(), $($part)*);
    }};
}

mod check;
mod client;
mod command_examples;
mod compat;
mod completions;
mod drift;
mod gate;
mod health;
mod history;
mod import;
mod init;
mod inspect;
mod man;
mod measure;
mod models;
mod number;
mod pack;
mod paint;
mod predict;
mod rollback;
mod rollout;
mod sample;
mod serve;
mod staging;
mod stored_journal;
mod suggestion;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{cli::client::ClientError, config::Config, error::text_with_sources, id::Version};

/// The result of a command that ran without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandOutcome {
    Done,
    /// A check failed. The command has printed which one.
    Failed,
}

/// Quotes a path for a shell.
fn typed(path: &Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), |quoted| quoted.to_string())
}

/// Returns an error if the directory is not a package. If it is the directory of a model, the error
/// lists the model's versions.
fn check_package_directory(directory: &Path) -> anyhow::Result<()> {
    if !directory.is_dir() {
        anyhow::bail!("{} is not a directory", directory.display());
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
        "{} is the directory of a model, not of a package; give one of its versions: {}",
        directory.display(),
        paths.join(", ")
    )
}

#[derive(Parser)]
#[command(
    name = "predictd",
    version,
    about = "Model server for ONNX: verifies, serves and rolls out versions of models",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the models in a directory over HTTP and gRPC
    Serve(serve::Args),
    /// Draft a package from an ONNX file and sample rows
    Init(init::Args),
    /// Convert a Triton repository or an MLflow model to packages
    Import(import::Args),
    /// Check the files of a package and write its manifest.json
    ///
    /// Asks a running server (--server), or reads the journal, to warn if the version is in use with
    /// other files. No server is needed.
    Pack(pack::Args),
    /// Run the load gate on packages: every check before serving
    Verify(verify::Args),
    /// Show the contents of a package
    Inspect(inspect::Args),
    /// Check whether callers of OLD can use NEW, and the reverse
    ///
    /// Prints one line for each difference. Exits with 1 if callers of OLD can't use NEW.
    Compat(compat::Args),
    /// Predict for instances from a file or stdin, without a server
    Predict(predict::Args),
    /// List the models of a server: versions, states and roles
    Models(models::Args),
    /// Move traffic to a new version step by step; manage rollouts
    Rollout(rollout::Args),
    /// End the rollout, or restore the previous stable version
    Rollback(rollback::Args),
    /// Show the journal: who decided what, when and why
    History(history::Args),
    /// Show how far the inputs and predictions of a version moved from its reference
    Drift(drift::Args),
    /// Check whether the local server is ready; exit 0 or 1
    Health(health::Args),
    /// Print a shell completion script
    Completions(completions::Args),
    /// Print the manual page of predictd or of one command
    Man(man::Args),
    /// Runs the load gate in a child process; predictd itself starts it
    #[command(hide = true)]
    Gate(gate::Args),
    /// Measures a graph for `compat` in a child process; predictd itself starts it
    #[command(hide = true)]
    Measure(measure::Args),
}

/// The option for the configuration file.
#[derive(clap::Args)]
struct ConfigArgs {
    /// Configuration file (TOML)
    ///
    /// Environment variables PREDICTD_SECTION__KEY override its keys.
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
    command_examples::add(Cli::command())
}

/// The command line without the commands that only predictd itself starts.
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

/// Parses the command line and runs the command. Exit code 0: done, 1: failed, 2: wrong usage.
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
        Command::Drift(args) => drift::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Measure(args) => measure::run(&args),
    };
    match outcome {
        Ok(CommandOutcome::Done) => ExitCode::SUCCESS,
        Ok(CommandOutcome::Failed) => ExitCode::FAILURE,
        // A closed pipe (`| head`) is not an error.
        Err(error)
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("predictd: {}", failure_text(&error));
            ExitCode::FAILURE
        }
    }
}

/// The text of a failed command: the error with its sources, and the next step if the error has
/// one.
fn failure_text(error: &anyhow::Error) -> String {
    let text = text_with_sources(error.as_ref());
    match error.downcast_ref::<ClientError>() {
        Some(error) => error.append_next_step(text),
        None => text,
    }
}
