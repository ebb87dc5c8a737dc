//! `predictd models`: lists the models of a server.

use serde::Serialize;

use crate::{
    admin::readiness::{IgnoredDirectory, LoadState, ModelReadiness, Readiness, VersionReadiness},
    cli::{
        CommandOutcome,
        client::{Client, ServerArgs},
        paint::{Cell, Paint, Style, Table},
        suggestion::command,
    },
    rollout::role::VersionRole,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// The JSON output.
#[derive(Serialize)]
struct ModelListing {
    models: Vec<ModelReadiness>,
    ignored: Vec<IgnoredDirectory>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let client = Client::new(&args.server, None)?;
    let readiness: Readiness = client.readiness()?.read()?;
    if args.json {
        let listing = ModelListing {
            models: readiness.models.unwrap_or_default(),
            ignored: readiness.ignored.unwrap_or_default(),
        };
        say!("{}", serde_json::to_string_pretty(&listing)?);
        return Ok(CommandOutcome::Done);
    }
    say!("{}", list(&readiness, Paint::stdout()).trim_end());
    Ok(CommandOutcome::Done)
}

fn list(readiness: &Readiness, paint: Paint) -> String {
    let models = readiness.models.as_deref().unwrap_or_default();
    let ignored = readiness.ignored.as_deref().unwrap_or_default();
    if models.is_empty() && ignored.is_empty() {
        return "there is no model in the models directory".to_owned();
    }
    let mut table = Table::new(["model", "stable", "version", "state", "role", ""].map(Cell::left));
    for model in models {
        add_model(model, &mut table);
    }
    let mut text = String::new();
    table.print(paint, &mut text);
    for model in models {
        let next = model
            .suggestion
            .as_ref()
            .and_then(|suggestion| command(suggestion, &model.name));
        if let (Some(reason), Some(next)) = (&model.reason, next) {
            text.push_str(&format!(
                "  {}: {reason}\n  next: {next}\n",
                paint.paint(Style::Bad, &model.name)
            ));
        }
    }
    for directory in ignored {
        text.push_str(&ignored_line(directory, paint));
    }
    text
}

fn add_model(model: &ModelReadiness, table: &mut Table) {
    let mut first = [Cell::left(&model.name).style(Style::Bold), stable(model)];
    // Print the newest version first.
    for version in model.versions.iter().rev() {
        let lead = std::mem::replace(&mut first, [Cell::left(""), Cell::left("")]);
        table.row(lead.into_iter().chain(version_cells(version)));
    }
    if model.versions.is_empty() {
        let note = model.reason.as_deref().unwrap_or_default();
        table.row(first.into_iter().chain(["", "", "", note].map(Cell::left)));
    }
}

fn version_cells(version: &VersionReadiness) -> [Cell; 4] {
    let style = match version.state {
        LoadState::Available => Style::Good,
        LoadState::Refused => Style::Bad,
        LoadState::Loading | LoadState::Incomplete | LoadState::Draining => Style::Doubtful,
        LoadState::Idle => Style::Plain,
    };
    let note = version.reason.as_ref().or(version.warning.as_ref());
    [
        Cell::left(&version.version),
        Cell::left(version.state.name()).style(style),
        Cell::left(version.role.map_or("", VersionRole::name)),
        Cell::left(note.map_or("", String::as_str)).style(Style::Dim),
    ]
}

fn ignored_line(directory: &IgnoredDirectory, paint: Paint) -> String {
    format!(
        "  {} {}: {}\n",
        paint.paint(Style::Bad, &directory.outcome),
        directory.path,
        directory.detail
    )
}

fn stable(model: &ModelReadiness) -> Cell {
    match &model.stable {
        Some(version) if model.ready => Cell::left(version),
        Some(version) => Cell::left(version).style(Style::Bad),
        None => Cell::left("none").style(Style::Bad),
    }
}
