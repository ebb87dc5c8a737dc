//! `predictd rollout`: starts rollouts, shows how they stand, and says how they go on.

pub mod plan;
pub mod status;
mod watch;

use std::{fmt::Write, path::Path};

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cli::{
        Outcome,
        client::{self, Client, ServerArgs},
        paint::{Paint, Style},
        rollout::{plan::Plan, status::Status},
    },
    id::ModelName,
};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    order: Order,
    #[command(flatten)]
    server: ServerArgs,
    /// For programs: the server's own document
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Order {
    /// Begin to send traffic to another version, step by step
    Start(Start),
    /// How a rollout stands, and whether a rollback would work
    ///
    /// Of every model without MODEL.
    Status(Show),
    /// Stay at this step until `resume`
    Pause(Plain),
    /// Go on; predictions that differ count as accepted
    ///
    /// Where the judge paused over them.
    Resume(Plain),
    /// Agree, as the second of two names
    ///
    /// To a rollout whose plan asks for it.
    Approve(Plain),
    /// End the rollout: everybody gets the stable version
    Abort(Abort),
    /// Make the candidate the stable version now
    Promote(Promote),
}

#[derive(clap::Args)]
struct Start {
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// The candidate; several of them for an A/B test
    #[arg(long, required = true, value_name = "VERSION", value_parser = client::version)]
    to: Vec<String>,
    /// A plan: a built-in one, or a TOML file
    ///
    /// Built in are shadow, canary, ab, blue-green, low, medium and high. By the package's risk without this.
    #[arg(long, value_name = "NAME|FILE")]
    plan: Option<String>,
    /// Check and show what would happen, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Even where a rollback would break callers
    ///
    /// Those who begin to use what is new.
    #[arg(long, requires = "reason")]
    allow_forward_only: bool,
    /// Take an unproved difference for harmless
    ///
    /// /age, or input:/age; may be given several times.
    #[arg(long, value_name = "POINTER", requires = "reason")]
    accept_unproved: Vec<String>,
    /// Why; it is kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(clap::Args)]
struct Show {
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: Option<ModelName>,
    /// Go on until the rollout ends; exit 1 if it was aborted or rolled back
    #[arg(long)]
    watch: bool,
}

#[derive(clap::Args)]
struct Plain {
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// Why; it is kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(clap::Args)]
struct Abort {
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// Why; it is kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(clap::Args)]
struct Promote {
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// Which of several candidates
    #[arg(long, value_name = "VERSION", value_parser = client::version)]
    to: Option<String>,
    /// Even where a rollback would not work
    #[arg(long, requires = "reason")]
    without_way_back: bool,
    /// Why; it is kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (name, order, body) = match &args.order {
        Order::Status(show) => return look(args, show),
        Order::Start(start) => return begin(args, start),
        Order::Pause(plain) => (&plain.model, "pause", json!({"reason": plain.reason})),
        Order::Resume(plain) => (&plain.model, "resume", json!({"reason": plain.reason})),
        Order::Approve(plain) => (&plain.model, "approve", json!({"reason": plain.reason})),
        Order::Abort(abort) => (&abort.model, "abort", json!({"reason": abort.reason})),
        Order::Promote(promote) => {
            let body = json!({"to": promote.to, "without_way_back": promote.without_way_back, "reason": promote.reason});
            (&promote.model, "promote", body)
        }
    };
    let client = Client::new(&args.server, Some(name))?;
    done(
        args,
        &client.post(&format!("/{name}/rollout/{order}"), &body)?,
    )
}

fn look(args: &Args, show: &Show) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.server, show.model.as_ref())?;
    if show.watch {
        return watch::run(&client, show.model.as_ref(), args.json);
    }
    let document = client.get(&path(show.model.as_ref()))?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        say!("{}", text(&statuses(document)?, Paint::stdout()));
    }
    Ok(Outcome::Done)
}

fn path(model: Option<&ModelName>) -> String {
    model.map(|name| format!("/{name}")).unwrap_or_default()
}

/// Of one model, or of all of them.
fn statuses(document: Value) -> serde_json::Result<Vec<Status>> {
    #[derive(Deserialize)]
    struct All {
        models: Vec<Status>,
    }
    if document.get("models").is_some() {
        Ok(serde_json::from_value::<All>(document)?.models)
    } else {
        Ok(vec![serde_json::from_value(document)?])
    }
}

fn text(statuses: &[Status], paint: Paint) -> String {
    if statuses.is_empty() {
        return "nothing is decided of any model yet".to_owned();
    }
    let texts: Vec<String> = statuses.iter().map(|status| status.print(paint)).collect();
    texts.join("\n").trim_end().to_owned()
}

/// What an order led to.
fn done(args: &Args, document: &Value) -> anyhow::Result<Outcome> {
    if args.json {
        say!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(Outcome::Done);
    }
    let status: Status = serde_json::from_value(document.clone())?;
    if let Some(last) = &status.last {
        let stable = status
            .stable
            .as_ref()
            .map(|stable| stable.version.as_str())
            .unwrap_or_default();
        let rollout = status.rollout.as_ref();
        let (candidate, place) = rollout
            .map(|rollout| (rollout.versions(), rollout.place()))
            .unwrap_or_default();
        let line = match last.action.as_str() {
            "start" if rollout.is_some_and(status::Rollout::awaits_approval) => {
                format!("{candidate} waits for the approval of a second name")
            }
            "start" => format!("{candidate} begins {place}"),
            "approve" => format!("approved: {candidate} begins {place}"),
            "pause" => format!("paused: {candidate} stays at {place}"),
            "resume" => format!("resumed: {candidate} goes on at {place}"),
            "abort" => format!("aborted: {stable} answers everybody"),
            "promote" => format!("promoted: {stable} is the stable version"),
            other => other.to_owned(),
        };
        say!("{} (entry {})\n", line, last.seq);
    }
    say!("{}", status.print(Paint::stdout()).trim_end());
    Ok(Outcome::Done)
}

fn begin(args: &Args, start: &Start) -> anyhow::Result<Outcome> {
    let plan = start.plan.as_deref().map(choice).transpose()?;
    let body = json!({
        "to": start.to,
        "plan": plan,
        "dry_run": start.dry_run,
        "allow_forward_only": start.allow_forward_only,
        "accept_unproved": start.accept_unproved,
        "reason": start.reason,
    });
    let client = Client::new(&args.server, Some(&start.model))?;
    let document = client.post(&format!("/{}/rollout/start", start.model), &body)?;
    if !start.dry_run || args.json {
        return done(args, &document);
    }
    let dry: DryRun = serde_json::from_value(document)?;
    say!("{}", dry.would_start.print(Paint::stdout()).trim_end());
    Ok(Outcome::Done)
}

/// A file is read here; a name is the server's to know.
fn choice(plan: &str) -> anyhow::Result<Value> {
    let path = Path::new(plan);
    if path.is_file() || plan.ends_with(".toml") {
        return Ok(json!({"text": fs_err::read_to_string(path)?}));
    }
    Ok(json!({"name": plan}))
}

#[derive(Deserialize)]
struct DryRun {
    would_start: WouldStart,
}

#[derive(Deserialize)]
struct WouldStart {
    model: String,
    from: status::Named,
    plan: Plan,
    candidates: Vec<Report>,
}

#[derive(Deserialize)]
struct Report {
    version: String,
    compatibility: Compatibility,
}

#[derive(Deserialize)]
struct Compatibility {
    verdict: String,
    differences: Vec<Difference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Difference {
    severity: String,
    side: String,
    pointer: String,
    detail: String,
    overridden: bool,
}

impl WouldStart {
    fn print(&self, paint: Paint) -> String {
        let versions: Vec<&str> = self
            .candidates
            .iter()
            .map(|report| report.version.as_str())
            .collect();
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{}: {} would be rolled out beside {}, by plan {}; nothing was started\n",
            paint.paint(Style::Bold, &self.model),
            versions.join(", "),
            self.from.version,
            self.plan.name
        );
        self.plan.print(paint, &mut text);
        for report in &self.candidates {
            let Compatibility {
                verdict,
                differences,
            } = &report.compatibility;
            let style = if verdict == "compatible" {
                Style::Good
            } else {
                Style::Doubtful
            };
            let _ = writeln!(
                text,
                "\n  {} -> {}: {}",
                self.from.version,
                report.version,
                paint.paint(style, verdict)
            );
            for Difference {
                severity,
                side,
                pointer,
                detail,
                overridden,
            } in differences
            {
                let pointer = if pointer.is_empty() {
                    "as a whole"
                } else {
                    pointer
                };
                let accepted = if *overridden { " (accepted)" } else { "" };
                let _ = writeln!(text, "    {severity}{accepted}: {side} {pointer} {detail}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::cli::{paint::Paint, rollout::DryRun};

    #[test]
    fn a_dry_run_lists_what_differs() {
        let document = json!({"dry_run": true, "would_start": {
            "model": "churn", "from": {"version": "1.0.0", "digest": "sha256:0"}, "to": [],
            "plan": {"name": "mine", "key": "header:x-user", "approve": true, "alpha": 0.01, "max_seconds": 604_800,
                     "steps": [{"kind": "ab", "weights": [0.5, 0.3], "min_seconds": 7200, "min_requests": 1000}]},
            "candidates": [{"version": "1.1.0", "compatibility": {"verdict": "forward-only", "differences": [
                {"severity": "forward-only", "side": "input", "pointer": "/age", "detail": "is new"},
                {"severity": "unproved", "side": "output", "pointer": "", "detail": "may differ", "overridden": true}]}}],
        }});
        let text = serde_json::from_value::<DryRun>(document)
            .unwrap()
            .would_start
            .print(Paint::OFF);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "churn: 1.1.0 would be rolled out beside 1.0.0, by plan mine; nothing was started",
                "",
                "  step                least time  least                   then",
                "     1  ab 50 % 30 %  2 h         1,000 keys of each arm  a person decides",
                "  2 h at the least; inconclusive after 7 d",
                "  a candidate that is no worse is aborted with a probability of at most 1 %",
                "  assigned by header:x-user: who has the same value stays with the same version",
                "  a second verified name must approve before it begins",
                "",
                "  1.0.0 -> 1.1.0: forward-only",
                "    forward-only: input /age is new",
                "    unproved (accepted): output as a whole may differ",
            ]
        );
    }
}
