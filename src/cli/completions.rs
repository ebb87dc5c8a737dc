//! `predictd completions`: prints a shell completion script.

use std::io::Write;

use clap_complete::Shell;

use crate::cli::{CommandOutcome, visible};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Shell of the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut visible(), "predictd", &mut script);
    // A closed pipe is not an error.
    let _ = std::io::stdout().lock().write_all(&script);
    Ok(CommandOutcome::Done)
}
