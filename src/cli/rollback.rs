//! `predictd rollback`: the version of before answers again, with the next request.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    cli::{
        Outcome,
        client::{self, Client, ServerArgs},
    },
    id::ModelName,
};

#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// The version that is to answer; without this the stable one before
    #[arg(long, value_name = "VERSION", value_parser = client::version)]
    to: Option<String>,
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
    let client = Client::new(&args.server, Some(&args.model))?;
    let start = Instant::now();
    let document = client.post(&format!("/{}/rollback", args.model), &json!({"to": args.to, "reason": args.reason}))?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(Outcome::Done);
    }
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let from = text("/last/from/version");
    let from = if from.is_empty() { String::new() } else { format!("{from} -> ") };
    say!(
        "{}: {from}{} answers since {milliseconds:.0} ms after the order (entry {})",
        args.model,
        text("/stable/version"),
        document.get("seq").cloned().unwrap_or_default()
    );
    Ok(Outcome::Done)
}
