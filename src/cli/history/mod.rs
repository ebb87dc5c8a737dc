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
        paint::Paint,
        rollout::status_text,
        stored_journal::{StoredJournal, fetch, read},
    },
    id::ModelName,
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
            StoredJournal {
                trouble: status.trouble,
                ..stored
            }
        }
    };
    if args.verify {
        return verify::report(model, &stored, args.json);
    }
    if args.json {
        say!(
            "{}",
            serde_json::to_string_pretty(&stored.document(model, args.limit))?
        );
    } else {
        let text = stored.list(args.limit, Paint::stdout());
        let empty = || match &stored.trouble {
            Some(trouble) => trouble,
            None => "there are no decisions about this model yet",
        };
        say!(
            "{}",
            Some(text.trim_end())
                .filter(|text| !text.is_empty())
                .unwrap_or_else(empty)
        );
    }
    Ok(CommandOutcome::Done)
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
        "{}: repaired (entry {}); the damaged entries are in damaged/ in the state directory\n",
        args.model,
        status.seq
    );
    say!(
        "{}",
        status_text::print(&status, Paint::stdout()).trim_end()
    );
    Ok(CommandOutcome::Done)
}
