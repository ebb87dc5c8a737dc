//! `predictd history`: lists all decisions about a model with their actors and reasons, and checks
//! whether the journal was altered.

mod entry_text;
mod listing;
mod verify;

use std::path::PathBuf;

use crate::{
    admin::{requests::ReasonRequest, status::ModelStatus},
    cli::{
        CommandOutcome,
        client::{self, Client, ServerArgs},
        number::positive,
        paint::{Paint, Style},
        rollout::status_text,
        stored_journal::{InvalidEntry, ReportedTrouble, StoredJournal, fetch, read},
    },
    id::ModelName,
    journal::chain::ChainHead,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the model
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// Check that no entry was altered or is missing
    ///
    /// Finds altered, missing and moved entries. With a server, it also finds entries that are
    /// missing at the end. Exit 0 or 1.
    #[arg(long)]
    verify: bool,
    /// Move the damaged end of the journal aside
    ///
    /// The server accepts decisions again afterwards. Nothing is deleted.
    #[arg(long, requires = "reason", conflicts_with_all = ["verify", "limit", "state"])]
    repair: bool,
    /// The reason for the repair, kept in the journal
    #[arg(long, value_name = "TEXT", requires = "repair")]
    reason: Option<String>,
    /// List the last N entries only
    #[arg(long, value_name = "N", value_parser = positive::<usize>, allow_negative_numbers = true)]
    limit: Option<usize>,
    /// Read this state directory, without a server
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let model = &args.model;
    if args.repair {
        return repair(args);
    }
    let stored = match &args.state {
        Some(directory) => read(directory, model.as_str())?,
        None => {
            let client = Client::new(&args.server, Some(model))?;
            let stored = fetch(&client, model.as_str(), 1)?;
            let status: ModelStatus = client.get(&format!("/{model}"))?.read()?;
            let suggestion = status.suggestion;
            let trouble = status.trouble;
            StoredJournal {
                trouble: trouble.map(|text| ReportedTrouble { text, suggestion }),
                ..stored
            }
        }
    };
    let verified = stored.verify(model.as_str());
    if args.verify {
        return verify::report(model, &stored, &verified, args.json);
    }
    if args.json {
        let document = stored.document(model, &verified, args.limit);
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        say!("{}", list(args, &stored, &verified));
    }
    Ok(CommandOutcome::Done)
}

/// The entries as text, with the damage of the journal at the end.
fn list(args: &Args, stored: &StoredJournal, verified: &Result<ChainHead, InvalidEntry>) -> String {
    let paint = Paint::stdout();
    let mut text = stored.list(args.limit, paint);
    if let Err(invalid) = verified {
        text.push_str(&paint.paint(Style::Bad, &verify::failure(invalid)));
        text.push_str(&verify::next_command(&args.model, stored));
    } else if text.is_empty() {
        "there are no decisions about this model yet".clone_into(&mut text);
    }
    text.trim_end().to_owned()
}

fn repair(args: &Args) -> anyhow::Result<CommandOutcome> {
    let client = Client::new(&args.server, Some(&args.model))?;
    let body = ReasonRequest {
        reason: args.reason.clone(),
    };
    let answer = client.post(&format!("/{}/history/repair", args.model), &body)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(answer.value())?);
        return Ok(CommandOutcome::Done);
    }
    let status: ModelStatus = answer.read()?;
    say!(
        "{}: repaired (entry {}); entries that were moved aside are in damaged/ in the state directory\n",
        args.model,
        status.seq
    );
    say!(
        "{}",
        status_text::print(&status, Paint::stdout()).trim_end()
    );
    Ok(CommandOutcome::Done)
}
