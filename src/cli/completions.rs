//! `predictd completions`: a shell's script that completes commands and options.

use std::io::Write;

use clap_complete::Shell;

use crate::cli::{Outcome, visible};

#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut visible(), "predictd", &mut script);
    // Whoever closed the pipe wanted no more of it.
    let _ = std::io::stdout().lock().write_all(&script);
    Ok(Outcome::Done)
}
