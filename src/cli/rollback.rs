//! `predictd rollback`: ends the rollout, or restores an earlier stable version.

use std::time::Instant;

use crate::{
    admin::{requests::RollbackRequest, status::ModelStatus},
    cli::{
        CommandOutcome,
        client::{self, Client, ServerArgs},
        paint::{Paint, Style},
        rollout::status_text,
    },
    id::ModelName,
    journal::entry::VersionRef,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the model
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// Restore this version instead of the previous one
    ///
    /// Without --to, the command ends the rollout in progress. If there is no rollout, it restores
    /// the previous stable version.
    #[arg(long, value_name = "VERSION", value_parser = client::version)]
    to: Option<String>,
    /// Accept a version that was never stable
    ///
    /// The version gets all traffic without the steps of a rollout. It must still pass the
    /// compatibility check, and a version of high risk still needs a second operator.
    #[arg(long, requires = "reason")]
    never_stable: bool,
    /// The reason, kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the server's JSON document, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let name = &args.model;
    let client = Client::new(&args.server, Some(name))?;
    let began = Instant::now();
    let body = RollbackRequest {
        to: args.to.clone(),
        never_stable: args.never_stable,
        reason: args.reason.clone(),
    };
    let answer = client.post(&format!("/{name}/rollback"), &body)?;
    let elapsed = began.elapsed();
    if args.json {
        say!("{}", serde_json::to_string_pretty(answer.value())?);
        return Ok(CommandOutcome::Done);
    }
    let status: ModelStatus = answer.read()?;
    let last = status.last.as_ref();
    let entry = if status.written {
        format!("entry {}", last.map_or(status.seq, |last| last.seq))
    } else {
        "not written yet".to_owned()
    };
    let version = |named: Option<&VersionRef>| {
        named.map_or_else(|| "?".to_owned(), |named| named.version.clone())
    };
    let from = version(last.and_then(|last| last.from.as_ref()));
    let to = version(status.stable.as_ref());
    let paint = Paint::stdout();
    let change = paint.paint(Style::Good, &format!("{from} -> {to}"));
    say!(
        "{name}: rolled back {change} in {} ms ({entry}); {to} answers from now on\n",
        elapsed.as_millis()
    );
    say!("{}", status_text::print(&status, paint).trim_end());
    Ok(CommandOutcome::Done)
}
