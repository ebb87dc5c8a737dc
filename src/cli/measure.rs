//! `predictd measure`: measures the time and memory of a package's graph. `compat` starts it as a
//! separate process.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    cli::CommandOutcome,
    engine::{
        Engine, EngineFactory,
        infer::{OnnxFactory, Runtime},
    },
    package::{MODEL_FILE, Parts, bare},
    registry::gate::{first_run, zeros},
    tensor::{Tensors, join},
};

#[derive(clap::Args)]
pub(super) struct Args {
    directory: PathBuf,
    #[arg(long)]
    library: PathBuf,
    /// Rows in a batch; 1 if the version does not batch
    #[arg(long)]
    rows: usize,
    #[arg(long)]
    intra_op_threads: usize,
}

/// The time and memory of a graph after its warm-up.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Median duration of a run of one row, in microseconds.
    pub row_us: f64,
    pub batch_rows: usize,
    /// Median duration of a run of `batch_rows` rows, in microseconds.
    pub batch_us: f64,
    /// Growth of the resident memory from the load of the graph to the end of these runs, in bytes.
    /// `None` outside Linux.
    pub memory_bytes: Option<u64>,
}

/// Number of runs before the measurement. The first runs fill caches and allocate memory.
const WARM_UP: usize = 20;

const MAX_RUNS: usize = 400;

/// Time limit for the runs of one batch size.
const BUDGET: Duration = Duration::from_millis(500);

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let runtime = Runtime::load(&args.library)?;
    let before = resident_bytes();
    let (mut factory, mut engine) = OnnxFactory::open(
        &runtime,
        &args.directory.join(MODEL_FILE),
        args.intra_op_threads,
    )?;
    let bare = bare::id_of(&args.directory).is_some_and(|id| bare::is_bare(&args.directory, &id));
    let one = if bare {
        zeros(factory.signature())
    } else {
        let parts = Parts::read(&args.directory)?;
        factory.feed(|name| parts.feeds(name));
        first_run(
            &parts,
            &parts.bind(factory.signature())?,
            factory.signature(),
        )?
    };
    let batch = join(&vec![&one; args.rows]).filter(|_| args.rows > 1);
    let row_us = median_us(&mut engine, &one)?;
    let batch_us = batch
        .as_ref()
        .map_or(Ok(row_us), |batch| median_us(&mut engine, batch))?;
    let memory_bytes = before
        .zip(resident_bytes())
        .map(|(before, after)| after.saturating_sub(before));
    let batch_rows = if batch.is_some() { args.rows } else { 1 };
    say!(
        "{}",
        serde_json::to_string(&Measured {
            row_us,
            batch_rows,
            batch_us,
            memory_bytes
        })?
    );
    Ok(CommandOutcome::Done)
}

fn median_us(engine: &mut dyn Engine, batch: &Tensors) -> anyhow::Result<f64> {
    let start = Instant::now();
    for _ in 0..WARM_UP {
        engine.run(batch)?;
        // A slow graph is warm after one run.
        if start.elapsed() > BUDGET {
            break;
        }
    }
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < MAX_RUNS && (times.is_empty() || start.elapsed() < BUDGET) {
        let run = Instant::now();
        engine.run(batch)?;
        times.push(run.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

fn resident_bytes() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .trim()
        .strip_suffix("kB")?;
    Some(kib.trim().parse::<u64>().ok()? * 1024)
}
