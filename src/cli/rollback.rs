//! `predictd rollback`: puts a former stable version back, at once.

use std::time::Instant;

use serde_json::json;

use crate::{
    cli::{
        Outcome,
        client::{self, Client, ServerArgs},
        paint::{Paint, Style},
        rollout::status::Status,
    },
    id::ModelName,
};

#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// To this version, and not one step back
    ///
    /// Without it the rollout that runs is ended; where none runs, the stable version before this one is put back.
    #[arg(long, value_name = "VERSION", value_parser = client::version)]
    to: Option<String>,
    /// Also to a version that never was stable
    ///
    /// Past the steps of a rollout, but not past compatibility and a second name where the risk is high.
    #[arg(long, requires = "reason")]
    never_stable: bool,
    /// Why; it is kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// For programs: the server's own document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let name = &args.model;
    let client = Client::new(&args.server, Some(name))?;
    let began = Instant::now();
    let document = client.post(
        &format!("/{name}/rollback"),
        &json!({"to": args.to, "never_stable": args.never_stable, "reason": args.reason}),
    )?;
    let elapsed = began.elapsed();
    if args.json {
        say!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(Outcome::Done);
    }
    let status: Status = serde_json::from_value(document)?;
    let seq = status.last.as_ref().map_or(status.seq, |last| last.seq);
    let place = if status.is_written() {
        format!("entry {seq}")
    } else {
        "not written yet".to_owned()
    };
    let version = |named: Option<&str>| named.unwrap_or("?").to_owned();
    let from = version(
        status
            .last
            .as_ref()
            .and_then(|last| last.from.as_ref())
            .map(|from| from.version.as_str()),
    );
    let to = version(status.stable.as_ref().map(|stable| stable.version.as_str()));
    let paint = Paint::stdout();
    let way = paint.paint(Style::Good, &format!("{from} -> {to}"));
    say!(
        "{name}: rolled back {way} in {} ms ({place}); {to} answers from now on\n",
        elapsed.as_millis()
    );
    say!("{}", status.print(paint).trim_end());
    Ok(Outcome::Done)
}
