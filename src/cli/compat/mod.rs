//! `predictd compat`: checks in both directions whether callers of one version can use the other.
//! It also compares time, memory, evaluation and training data of both versions.

mod measurement;
mod tables;
mod version;

use std::path::PathBuf;

use anyhow::bail;
use serde::Serialize;

use crate::{
    app,
    cli::{
        CommandOutcome, ConfigArgs,
        compat::{
            tables::{evaluated, left_out, measured, profiled, verdict},
            version::{OpenedVersion, Opener},
        },
        measure::Measured,
    },
    compat::{
        Compatibility, Difference, compare,
        evaluation::{ComparedFeature, Evaluations, compare_evaluations, compare_profiles},
    },
    package::{EVALUATION_FILE, PROFILE_FILE},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the version that callers use today
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Directory of the version that is to replace it
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    /// Compare for callers of the graph's own inputs and outputs
    ///
    /// Use it if the server sets model.NAME.oip = "graph".
    #[arg(long)]
    raw: bool,
    /// Accept a difference that is not proved to be harmless
    ///
    /// POINTER is a JSON pointer, like /age or input:/age. May be repeated.
    #[arg(long, value_name = "POINTER", requires = "reason")]
    accept_unproved: Vec<String>,
    /// The reason why the difference is harmless
    #[arg(long, value_name = "TEXT", requires = "accept_unproved")]
    reason: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// The JSON output.
#[derive(Serialize)]
struct CompatDocument<'a> {
    old: ComparedSide<'a>,
    new: ComparedSide<'a>,
    verdict: Compatibility,
    differences: &'a [Difference],
    reason: Option<&'a str>,
    evaluation: Option<&'a Evaluations>,
    profile: Option<&'a [ComparedFeature]>,
}

#[derive(Serialize)]
struct ComparedSide<'a> {
    name: &'a str,
    digest: &'a str,
    measured: &'a Measured,
}

impl ComparedSide<'_> {
    fn of(version: &OpenedVersion) -> ComparedSide<'_> {
        ComparedSide {
            name: &version.name,
            digest: &version.digest,
            measured: &version.measured,
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let config = args.config.load()?;
    let library = app::find_library(&config.runtime.library)?;
    let mut open = Opener {
        config: &config,
        library: &library,
        raw: args.raw,
        runtime: None,
    };
    let (old, new) = (open.version(&args.old)?, open.version(&args.new)?);
    let report = compare(&old.side(), &new.side(), &args.accept_unproved);
    if let Some(unused) = report.unused_overrides.first() {
        bail!(
            "--accept-unproved {unused}: there is no unproved difference at this pointer, and only unproved differences can be accepted"
        );
    }
    let evaluation = old
        .evaluation()
        .zip(new.evaluation())
        .map(|(old, new)| compare_evaluations(old, new));
    let features = old
        .profile
        .as_ref()
        .zip(new.profile.as_ref())
        .map(|(old, new)| compare_profiles(old, new));
    if args.json {
        let document = CompatDocument {
            old: ComparedSide::of(&old),
            new: ComparedSide::of(&new),
            verdict: report.verdict,
            differences: &report.differences,
            reason: args.reason.as_deref(),
            evaluation: evaluation.as_ref(),
            profile: features.as_deref(),
        };
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        let mut text = verdict(&old, &new, &report, args.reason.as_deref());
        measured(&old.measured, &new.measured, &mut text);
        match &evaluation {
            Some(evaluation) => evaluated(evaluation, &mut text),
            None => left_out(
                "evaluation",
                EVALUATION_FILE,
                (old.evaluation().is_none(), new.evaluation().is_none()),
                &mut text,
            ),
        }
        match &features {
            Some(features) => profiled(features, &mut text),
            None => left_out(
                "profile",
                PROFILE_FILE,
                (old.profile.is_none(), new.profile.is_none()),
                &mut text,
            ),
        }
        say!("{}", text.trim_end());
    }
    Ok(if report.verdict == Compatibility::Breaking {
        CommandOutcome::Failed
    } else {
        CommandOutcome::Done
    })
}
