//! `predictd rollout`: starts rollouts, shows their status, and pauses, resumes, approves, aborts
//! or promotes them.

mod dry_run;
mod guards;
pub(super) mod plan;
pub(super) mod progress_text;
pub(super) mod status_text;
mod watch;

use std::path::Path;

use clap::Subcommand;

use crate::{
    admin::{
        requests::{PlanChoice, PromoteRequest, ReasonRequest, StartRequest},
        rollout::RolloutPhase,
        start::DryRun,
        status::{ModelStatus, ModelStatuses},
    },
    cli::{
        CommandOutcome,
        client::{self, Answer, Client, ClientError, ServerArgs},
        paint::Paint,
    },
    id::ModelName,
    journal::entry::Action,
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    order: RolloutOrder,
    #[command(flatten)]
    server: ServerArgs,
    /// Print the server's JSON document, for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum RolloutOrder {
    /// Start a rollout to another version
    Start(StartArgs),
    /// Show the rollout, and whether a rollback would work
    ///
    /// Without MODEL, shows all models.
    Status(StatusArgs),
    /// Keep the rollout at its step until `rollout resume`
    Pause(ReasonedArgs),
    /// Continue a paused rollout
    ///
    /// If the judge paused the rollout because predictions differ, `resume` accepts the difference
    /// for the current step.
    Resume(ReasonedArgs),
    /// Approve a rollout as the second operator
    ///
    /// Needed if the plan has `approve = true`, or if the package declares a high risk.
    Approve(ReasonedArgs),
    /// End the rollout; the stable version answers all requests
    Abort(AbortArgs),
    /// Make the candidate the stable version now
    Promote(PromoteArgs),
}

#[derive(clap::Args)]
struct StartArgs {
    /// Name of the model
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// The candidate version; repeat it for an A/B test
    #[arg(long, required = true, value_name = "VERSION", value_parser = client::version)]
    to: Vec<String>,
    /// A built-in plan, or a TOML file
    ///
    /// The built-in plans are shadow, canary, ab, blue-green, low, medium and high. Without --plan,
    /// the risk that the package declares selects low, medium or high.
    #[arg(long, value_name = "NAME|FILE")]
    plan: Option<String>,
    /// Check everything, show the plan, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Start even if a rollback would break callers
    ///
    /// A rollback would break callers that use new fields or values of the candidate.
    #[arg(long, requires = "reason")]
    allow_forward_only: bool,
    /// Accept a difference that is not proved to be harmless
    ///
    /// POINTER is a JSON pointer, like /age or input:/age. May be repeated.
    #[arg(long, value_name = "POINTER", requires = "reason")]
    accept_unproved: Vec<String>,
    /// The reason, kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(clap::Args)]
struct StatusArgs {
    /// Name of the model
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: Option<ModelName>,
    /// Watch until the rollout ends; exit 1 if it was aborted or rolled back
    #[arg(long)]
    watch: bool,
}

#[derive(clap::Args)]
struct ReasonedArgs {
    /// Name of the model
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// The reason, kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(clap::Args)]
struct AbortArgs {
    /// Name of the model
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// The reason, kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(clap::Args)]
struct PromoteArgs {
    /// Name of the model
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// The candidate to promote, if there are several
    #[arg(long, value_name = "VERSION", value_parser = client::version)]
    to: Option<String>,
    /// Promote even if a rollback would not work
    #[arg(long, requires = "reason")]
    without_way_back: bool,
    /// The reason, kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let reason = |reason: &Option<String>| ReasonRequest {
        reason: reason.clone(),
    };
    match &args.order {
        RolloutOrder::Status(show) => show_status(args, show),
        RolloutOrder::Start(start) => begin(args, start),
        RolloutOrder::Pause(order) => decide(args, &order.model, "pause", &reason(&order.reason)),
        RolloutOrder::Resume(order) => decide(args, &order.model, "resume", &reason(&order.reason)),
        RolloutOrder::Approve(order) => {
            decide(args, &order.model, "approve", &reason(&order.reason))
        }
        RolloutOrder::Abort(abort) => {
            let body = reason(&Some(abort.reason.clone()));
            decide(args, &abort.model, "abort", &body)
        }
        RolloutOrder::Promote(promote) => {
            let body = PromoteRequest {
                to: promote.to.clone(),
                without_way_back: promote.without_way_back,
                reason: promote.reason.clone(),
            };
            decide(args, &promote.model, "promote", &body)
        }
    }
}

fn decide(
    args: &Args,
    model: &ModelName,
    order: &str,
    body: &impl serde::Serialize,
) -> anyhow::Result<CommandOutcome> {
    let client = Client::new(&args.server, Some(model))?;
    report(
        args,
        &client.post(&format!("/{model}/rollout/{order}"), body)?,
    )
}

fn show_status(args: &Args, show: &StatusArgs) -> anyhow::Result<CommandOutcome> {
    let client = Client::new(&args.server, show.model.as_ref())?;
    if show.watch {
        return watch::run(&client, show.model.as_ref(), args.json);
    }
    let answer = client.get(&path(show.model.as_ref()))?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(answer.value())?);
    } else {
        let statuses = statuses(&answer, show.model.as_ref())?;
        say!("{}", text(&statuses, Paint::stdout()));
    }
    Ok(CommandOutcome::Done)
}

fn path(model: Option<&ModelName>) -> String {
    model.map(|name| format!("/{name}")).unwrap_or_default()
}

/// The status of one model, or of all models.
fn statuses(answer: &Answer, model: Option<&ModelName>) -> Result<Vec<ModelStatus>, ClientError> {
    match model {
        Some(_) => Ok(vec![answer.read()?]),
        None => Ok(answer.read::<ModelStatuses>()?.models),
    }
}

fn text(statuses: &[ModelStatus], paint: Paint) -> String {
    if statuses.is_empty() {
        return "there are no decisions yet".to_owned();
    }
    let texts: Vec<String> = statuses
        .iter()
        .map(|status| status_text::print(status, paint))
        .collect();
    texts.join("\n").trim_end().to_owned()
}

/// Prints the effect of an order.
fn report(args: &Args, answer: &Answer) -> anyhow::Result<CommandOutcome> {
    if args.json {
        say!("{}", serde_json::to_string_pretty(answer.value())?);
        return Ok(CommandOutcome::Done);
    }
    let status: ModelStatus = answer.read()?;
    if let Some(last) = &status.last {
        say!("{} (entry {})\n", effect(&status, last.action), last.seq);
    }
    say!(
        "{}",
        status_text::print(&status, Paint::stdout()).trim_end()
    );
    Ok(CommandOutcome::Done)
}

fn effect(status: &ModelStatus, action: Action) -> String {
    let stable = status
        .stable
        .as_ref()
        .map(|stable| stable.version.as_str())
        .unwrap_or_default();
    let rollout = status.rollout.as_ref();
    let candidates = rollout.map(progress_text::versions).unwrap_or_default();
    let step = rollout
        .map(|rollout| format!("step {} of {}", rollout.step + 1, rollout.steps))
        .unwrap_or_default();
    let waits = rollout.is_some_and(|rollout| rollout.phase == RolloutPhase::AwaitsApproval);
    match action {
        Action::Start if waits => {
            format!("{candidates} waits for the approval of a second operator")
        }
        Action::Start => format!("{candidates} begins {step}"),
        Action::Approve => format!("approved: {candidates} begins {step}"),
        Action::Pause => format!("paused: {candidates} stays at {step}"),
        Action::Resume => format!("resumed: {candidates} continues at {step}"),
        Action::Abort => format!("aborted: {stable} answers all requests"),
        Action::Promote => format!("promoted: {stable} is the stable version"),
        // The judge or another operator decided at the same moment.
        Action::Adopt | Action::Advance | Action::Rollback | Action::Repair => {
            action.name().to_owned()
        }
    }
}

fn begin(args: &Args, start: &StartArgs) -> anyhow::Result<CommandOutcome> {
    let body = StartRequest {
        to: start.to.clone(),
        plan: start.plan.as_deref().map(plan_choice).transpose()?,
        dry_run: start.dry_run,
        allow_forward_only: start.allow_forward_only,
        accept_unproved: start.accept_unproved.clone(),
        reason: start.reason.clone(),
    };
    let client = Client::new(&args.server, Some(&start.model))?;
    let answer = client.post(&format!("/{}/rollout/start", start.model), &body)?;
    if !start.dry_run || args.json {
        return report(args, &answer);
    }
    let dry_run: DryRun = answer.read()?;
    say!(
        "{}",
        dry_run::print(&dry_run.would_start, Paint::stdout()).trim_end()
    );
    Ok(CommandOutcome::Done)
}

/// Reads the file of a plan on the operator's machine, or sends the name of a built-in plan.
fn plan_choice(plan: &str) -> anyhow::Result<PlanChoice> {
    let path = Path::new(plan);
    if path.is_file() || plan.ends_with(".toml") {
        return Ok(PlanChoice::Text(fs_err::read_to_string(path)?));
    }
    Ok(PlanChoice::Name(plan.to_owned()))
}
