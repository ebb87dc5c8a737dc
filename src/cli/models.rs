//! `predictd models`: what a server serves.

use serde::Deserialize;
use serde_json::json;

use crate::cli::{
    Outcome,
    client::{Client, ServerArgs},
    paint::{Cell, Paint, Style, Table},
};

#[derive(clap::Args)]
pub struct Args {
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// What a newer server says beyond that is passed over.
#[derive(Deserialize)]
struct Answer {
    models: Vec<Model>,
    #[serde(default)]
    ignored: Vec<Ignored>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    ready: bool,
    reason: Option<String>,
    stable: Option<String>,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    state: String,
    role: Option<String>,
    reason: Option<String>,
    warning: Option<String>,
}

#[derive(Deserialize)]
struct Ignored {
    path: String,
    detail: String,
    #[serde(default)]
    outcome: Option<String>,
}

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.server, None)?;
    let document = client.readiness()?;
    if args.json {
        let ignored = document.get("ignored");
        say!(
            "{}",
            serde_json::to_string_pretty(
                &json!({"models": document.get("models"), "ignored": ignored})
            )?
        );
        return Ok(Outcome::Done);
    }
    let answer: Answer = serde_json::from_value(document)?;
    say!("{}", list(&answer, Paint::stdout()).trim_end());
    Ok(Outcome::Done)
}

fn list(answer: &Answer, paint: Paint) -> String {
    if answer.models.is_empty() && answer.ignored.is_empty() {
        return "there is no model in the models directory".to_owned();
    }
    let mut table = Table::new(["model", "stable", "version", "state", "role", ""].map(Cell::left));
    for model in &answer.models {
        let mut first = [Cell::left(&model.name).style(Style::Bold), stable(model)];
        for version in model.versions.iter().rev() {
            let style = match version.state.as_str() {
                "available" => Style::Good,
                "refused" => Style::Bad,
                "loading" | "incomplete" | "draining" => Style::Doubtful,
                _ => Style::Plain,
            };
            let note = version
                .reason
                .as_ref()
                .or(version.warning.as_ref())
                .map_or("", String::as_str);
            let rest = [
                Cell::left(&version.version),
                Cell::left(&version.state).style(style),
                Cell::left(version.role.as_deref().unwrap_or_default()),
                Cell::left(note).style(Style::Dim),
            ];
            let lead = std::mem::replace(&mut first, [Cell::left(""), Cell::left("")]);
            table.row(lead.into_iter().chain(rest));
        }
        if model.versions.is_empty() {
            let note = model.reason.as_deref().unwrap_or_default();
            table.row(first.into_iter().chain(["", "", "", note].map(Cell::left)));
        }
    }
    let mut text = String::new();
    table.print(paint, &mut text);
    for ignored in &answer.ignored {
        let outcome = paint.paint(
            Style::Bad,
            ignored.outcome.as_deref().unwrap_or("not served"),
        );
        text.push_str(&format!(
            "  {outcome} {}: {}\n",
            ignored.path, ignored.detail
        ));
    }
    text
}

fn stable(model: &Model) -> Cell {
    match &model.stable {
        Some(version) if model.ready => Cell::left(version),
        Some(version) => Cell::left(version).style(Style::Bad),
        None => Cell::left("none").style(Style::Bad),
    }
}
