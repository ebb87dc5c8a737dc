//! `predictd compat`: checks whether callers of one version can use another, in both directions, and compares time, memory,
//! evaluation and training data of the two.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{
    app,
    cli::{CommandOutcome, ConfigArgs, measure::Measured},
    compat::{
        ComparedVersion, Compatibility, CompatibilityReport, Severity, compare,
        evaluation::{
            ComparedFeature, ComparedMetric, Evaluations, FeatureSummary, compare_evaluations,
            compare_profiles,
        },
    },
    config::{Config, Oip},
    engine::{
        EngineFactory,
        infer::{OnnxFactory, Runtime},
    },
    package::{
        MODEL_FILE, ModelPackage,
        bare::{self, BareGraph},
    },
    registry::gate::{Batching, GateOptions},
    tensor::signature::Signature,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the version that callers use today
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Directory of the version that would replace it
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    /// Compare for callers that see the graph's own inputs and outputs
    ///
    /// Use it if the server sets model.NAME.oip = "graph".
    #[arg(long)]
    raw: bool,
    /// Accept a difference that is not proved harmless
    ///
    /// POINTER is a JSON pointer, as in /age or input:/age. May be repeated.
    #[arg(long, value_name = "POINTER", requires = "reason")]
    accept_unproved: Vec<String>,
    /// The reason why the difference is harmless
    #[arg(long, value_name = "TEXT", requires = "accept_unproved")]
    reason: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// The time limit of a measurement process.
const PATIENCE: Duration = Duration::from_secs(120);

/// A version on disk.
struct Version {
    name: String,
    digest: String,
    package: Option<ModelPackage>,
    labels: BTreeMap<String, Arc<[String]>>,
    graph: Signature,
    profile: Option<Value>,
    raw: bool,
    measured: Measured,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let config = args.config.load()?;
    let library = app::find_library(&config)?;
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
        let side = |version: &Version| json!({"name": version.name, "digest": version.digest, "measured": version.measured});
        let document = json!({
            "old": side(&old),
            "new": side(&new),
            "verdict": report.verdict,
            "differences": report.differences,
            "reason": args.reason,
            "evaluation": evaluation,
            "profile": features,
        });
        say!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        let mut text = verdict(&old, &new, &report, args.reason.as_deref());
        measured(&old.measured, &new.measured, &mut text);
        match &evaluation {
            Some(evaluation) => evaluated(evaluation, &mut text),
            None => left_out(
                "evaluation",
                "evaluation.json",
                (old.evaluation().is_none(), new.evaluation().is_none()),
                &mut text,
            ),
        }
        match &features {
            Some(features) => profiled(features, &mut text),
            None => left_out(
                "profile",
                "profile.json",
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

struct Opener<'a> {
    config: &'a Config,
    library: &'a Path,
    raw: bool,
    runtime: Option<Runtime>,
}

impl Opener<'_> {
    /// Opens a version that passes the load gate. Its graph is opened in this process only after the gate has passed it.
    fn version(&mut self, directory: &Path) -> anyhow::Result<Version> {
        let bare = bare::id_of(directory)
            .filter(|id| bare::is_bare(directory, id))
            .map(|id| BareGraph::open(directory, &id))
            .transpose()?;
        let package = if bare.is_some() {
            None
        } else {
            Some(ModelPackage::open(directory).with_context(|| directory.display().to_string())?)
        };
        let id = package
            .as_ref()
            .map(|package| &package.id)
            .or(bare.as_ref().map(|bare| &bare.id))
            .context("has no name and version")?;
        let own_limit = package
            .as_ref()
            .and_then(|package| package.parts.serving.batching.max_batch_size)
            .unwrap_or(usize::MAX);
        let options = GateOptions {
            bare: bare.is_some(),
            max_batch_size: self
                .config
                .model_settings()
                .batching(id.name.as_str())
                .max_batch_size,
            intra_op_threads: self.config.runtime.intra_op_threads.max(1),
        };
        let passed = app::trial(self.config, self.library)?
            .run(directory, options, &mut |_| {})
            .with_context(|| format!("{} does not pass the load gate", directory.display()))?;
        let rows = if passed.batching == Batching::Rows {
            options.max_batch_size.min(own_limit)
        } else {
            1
        };
        let measured = measure(directory, self.library, rows, options.intra_op_threads)?;
        let runtime = match &self.runtime {
            Some(runtime) => runtime,
            None => self.runtime.insert(Runtime::load(self.library)?),
        };
        let (mut factory, _) = OnnxFactory::open(runtime, &directory.join(MODEL_FILE), 1)?;
        if let Some(package) = &package {
            factory.feed(|name| package.parts.feeds(name));
        }
        let graph = bare.as_ref().map_or_else(
            || factory.signature().clone(),
            |bare| bare.refined(factory.signature()),
        );
        let profile = match fs_err::read_to_string(directory.join("profile.json")) {
            Ok(text) => Some(serde_json::from_str(&text).context("profile.json")?),
            Err(_) => None,
        };
        Ok(Version {
            name: id.to_string(),
            digest: passed.digest,
            graph,
            profile,
            raw: self.raw
                || bare.is_some()
                || self.config.model_settings().oip(id.name.as_str()) == Oip::Graph,
            measured,
            labels: bare.map(|bare| bare.labels).unwrap_or_default(),
            package,
        })
    }
}

impl Version {
    fn side(&self) -> ComparedVersion<'_> {
        ComparedVersion {
            parts: self.package.as_ref().map(|package| &package.parts),
            graph: &self.graph,
            labels: Some(&self.labels),
            exposes_graph: self.raw,
        }
    }

    fn evaluation(&self) -> Option<&Value> {
        self.package.as_ref()?.parts.evaluation.as_ref()
    }
}

/// Runs the graph in a separate process, because memory is measured per process.
fn measure(
    directory: &Path,
    library: &Path,
    rows: usize,
    intra_op_threads: usize,
) -> anyhow::Result<Measured> {
    let executable = std::env::current_exe().context("finding the path of this program")?;
    let mut child = Command::new(executable)
        .arg("measure")
        .arg(directory)
        .arg("--library")
        .arg(library)
        .args(["--rows", &rows.to_string()])
        .args(["--intra-op-threads", &intra_op_threads.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the measurement")?;
    let mut stdout = child
        .stdout
        .take()
        .context("the measurement has no output")?;
    let (sender, text) = mpsc::channel();
    thread::Builder::new()
        .name("measurement".to_owned())
        .spawn(move || {
            let mut text = String::new();
            // After a timeout the receiver no longer exists.
            let _ = sender.send(stdout.read_to_string(&mut text).map(|_| text));
        })?;
    let Ok(text) = text.recv_timeout(PATIENCE) else {
        let _ = child.kill();
        let _ = child.wait();
        bail!(
            "measuring {} took longer than {} s",
            directory.display(),
            PATIENCE.as_secs()
        );
    };
    let (text, status) = (text?, child.wait()?);
    if !status.success() {
        bail!("measuring {} failed ({status})", directory.display());
    }
    Ok(serde_json::from_str(&text)?)
}

// Writing to a String does not fail.

fn verdict(
    old: &Version,
    new: &Version,
    report: &CompatibilityReport,
    reason: Option<&str>,
) -> String {
    let mut text = String::new();
    let meaning = match report.verdict {
        Compatibility::Compatible => {
            "today's callers can use the new version, and a rollback breaks nobody"
        }
        Compatibility::ForwardOnly => {
            "today's callers can use the new version; a rollback would break callers who use the new values"
        }
        Compatibility::Breaking => "today's callers can't use the new version",
    };
    let _ = writeln!(
        text,
        "{} -> {}: {}: {meaning}",
        old.name, new.name, report.verdict
    );
    for difference in &report.differences {
        let _ = writeln!(text, "  {difference}");
        if let Some(reason) = reason.filter(|_| difference.overridden) {
            let _ = writeln!(text, "    accepted: {reason}");
        }
    }
    if report
        .differences
        .iter()
        .any(|difference| difference.severity == Severity::Unproved && !difference.overridden)
    {
        let _ = writeln!(
            text,
            "  (an unproved difference counts as breaking; accept it with --accept-unproved POINTER --reason TEXT)"
        );
    }
    text
}

fn row(text: &mut String, [name, old, new, change]: [&str; 4]) {
    let _ = writeln!(text, "  {name:<40} {old:>14} {new:>14} {change:>12}");
}

fn change(old: f64, new: f64) -> String {
    if old == 0.0 {
        String::new()
    } else {
        format!("{:+.0} %", (new / old - 1.0) * 100.0)
    }
}

fn measured(old: &Measured, new: &Measured, text: &mut String) {
    let _ = writeln!(text, "\nthe graph on this machine, one engine");
    row(text, ["", "old", "new", ""]);
    row(
        text,
        [
            "run of 1 row, ms",
            &ms(old.row_us),
            &ms(new.row_us),
            &change(old.row_us, new.row_us),
        ],
    );
    let comparable = old.batch_rows == new.batch_rows;
    let name = if comparable {
        format!("run of {} rows, ms", old.batch_rows)
    } else {
        format!("run of {} and {} rows, ms", old.batch_rows, new.batch_rows)
    };
    if old.batch_rows > 1 || new.batch_rows > 1 {
        let change = if comparable {
            change(old.batch_us, new.batch_us)
        } else {
            String::new()
        };
        row(text, [&name, &ms(old.batch_us), &ms(new.batch_us), &change]);
    }
    if let (Some(before), Some(after)) = (old.memory_bytes, new.memory_bytes) {
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        row(
            text,
            [
                "memory of load and runs, MiB",
                &mib(before),
                &mib(after),
                &change(before as f64, after as f64),
            ],
        );
    }
}

fn ms(us: f64) -> String {
    format!("{:.3}", us / 1e3)
}

fn evaluated(evaluation: &Evaluations, text: &mut String) {
    let _ = writeln!(
        text,
        "\nevaluation{}",
        if evaluation.same_data {
            ""
        } else {
            " (on different data: the numbers can't be compared)"
        }
    );
    row(text, ["", "old", "new", "difference"]);
    for ComparedMetric {
        slice,
        name,
        old,
        new,
    } in &evaluation.metrics
    {
        let title = if slice.is_empty() {
            name.clone()
        } else {
            format!("{slice} {name}")
        };
        // Counts and shares are in the same column.
        let counts = old
            .iter()
            .chain(new)
            .all(|value| value.fract() == 0.0 && value.abs() > 1.0);
        let number = |value: &Option<f64>| match value {
            None => "-".to_owned(),
            Some(value) if counts => format!("{value}"),
            Some(value) => format!("{value:.4}"),
        };
        let difference = match old.zip(*new).map(|(old, new)| new - old) {
            None => String::new(),
            Some(difference) if counts => format!("{difference:+}"),
            Some(difference) => format!("{difference:+.4}"),
        };
        row(text, [&title, &number(old), &number(new), &difference]);
    }
}

fn profiled(features: &[ComparedFeature], text: &mut String) {
    let _ = writeln!(
        text,
        "\ntraining data (median or most frequent value, share missing) and predictions on it"
    );
    row(text, ["", "old", "new", "PSI"]);
    for ComparedFeature {
        name,
        old,
        new,
        psi,
        ..
    } in features
    {
        let short = |side: &Option<FeatureSummary>| match side {
            Some(side) if side.missing > 0.0 => {
                format!("{} {:.1} %", side.middle, side.missing * 100.0)
            }
            Some(side) => side.middle.clone(),
            None => "-".to_owned(),
        };
        row(
            text,
            [
                name,
                &short(old),
                &short(new),
                &psi.map(|psi| format!("{psi:.4}")).unwrap_or_default(),
            ],
        );
    }
}

fn left_out(title: &str, file: &str, (old, new): (bool, bool), text: &mut String) {
    let which = match (old, new) {
        (true, true) => "neither version has",
        (true, false) => "the old version has no",
        _ => "the new version has no",
    };
    let _ = writeln!(text, "\n{title}: not compared, {which} {file}");
}
