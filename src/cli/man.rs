//! `predictd man`: prints the manual page. It is generated from the text of `--help`.

use std::io::Write;

use clap::error::ErrorKind;

use crate::cli::{CommandOutcome, visible};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Command, like `serve` or `rollout start` [default: predictd]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

fn unknown_command(name: &str, known: &[&str]) -> String {
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, name);
    let nearest = known
        .iter()
        .min_by_key(distance)
        // A name whose similarity is below two thirds is probably not a misspelling.
        .filter(|known| distance(known) <= name.len().div_ceil(3));
    match nearest {
        Some(nearest) => format!("unknown command {name:?}; did you mean {nearest:?}?"),
        None => format!(
            "unknown command {name:?}; the commands are: {}",
            known.join(", ")
        ),
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let mut command = visible();
    command.build();
    for name in &args.command {
        let known: Vec<&str> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        command = match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let text = unknown_command(name, &known);
                command.error(ErrorKind::InvalidSubcommand, text).exit()
            }
        };
    }
    let title = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .title(title)
        .render(&mut page)?;
    // A closed pipe is not an error.
    let _ = std::io::stdout().lock().write_all(&page);
    Ok(CommandOutcome::Done)
}
