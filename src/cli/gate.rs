//! `predictd gate`: runs the load gate. The server starts it as a child process. The process limits
//! its own time and memory.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use rustix::{
    param::page_size,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::{
    cli::CommandOutcome,
    engine::infer::{OnnxEngine, Runtime},
    package::{PackageCheck, PackageError, bare},
    registry::{
        gate::{self, GateOptions, PassedGraph},
        trial::{Reporter, TrialResult},
    },
};

#[derive(clap::Args)]
pub(super) struct Args {
    directory: PathBuf,
    #[arg(long)]
    library: PathBuf,
    #[arg(long)]
    timeout_ms: u64,
    #[arg(long)]
    memory_bytes: u64,
    #[arg(long)]
    max_batch_size: usize,
    #[arg(long)]
    intra_op_threads: usize,
    /// The id of the process that started the gate.
    #[arg(long)]
    parent: i32,
    #[arg(long)]
    bare: bool,
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "a thread that hangs in the library must not keep the process"
)]
pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    limit(args.memory_bytes);
    if !ends_with_parent(args.parent) {
        std::process::exit(1)
    }
    let reporter = Reporter::start(Duration::from_millis(args.timeout_ms), |code| {
        std::process::exit(code)
    })?;
    let outcome = Runtime::load(&args.library)
        .map_err(|error| PackageError::caused_by(PackageCheck::Runtime, "", "", error))
        .and_then(|runtime| {
            let options = GateOptions {
                bare: args.bare,
                max_batch_size: args.max_batch_size,
                intra_op_threads: args.intra_op_threads,
            };
            let mut report = |check| reporter.check(check);
            let opsets = |engine: &OnnxEngine| {
                engine
                    .opsets()
                    .into_iter()
                    .map(|(domain, version)| (domain.to_owned(), version))
                    .collect()
            };
            if let Some(id) = bare::id_of(&args.directory)
                .filter(|id| args.bare && bare::is_bare(&args.directory, id))
            {
                let PassedGraph {
                    bare,
                    engine,
                    warm,
                    batching,
                    without_rows,
                    warning,
                } = gate::check_graph(&args.directory, &id, &runtime, options, &mut report)?;
                return Ok(TrialResult {
                    batching,
                    digest: bare.manifest.digest,
                    opset: opsets(&engine),
                    warm,
                    without_rows,
                    warning,
                });
            }
            let passed = gate::check_package(&args.directory, &runtime, options, &mut report)?;
            let opset = opsets(&passed.engine);
            let digest = passed.package.digest().to_owned();
            Ok(TrialResult {
                batching: passed.batching,
                digest,
                opset,
                warm: passed.warm,
                without_rows: BTreeMap::new(),
                warning: None,
            })
        });
    let passed = reporter.finish(outcome);
    // Exits without unwinding through the runtime library, because the kernel frees the memory
    // faster.
    std::process::exit(i32::from(!passed))
}

/// Limits the memory of this process: to the address space that it has now, without a model, and
/// `memory_bytes`. Also makes it the first process that the kernel kills when memory runs out.
fn limit(memory_bytes: u64) {
    let hard = getrlimit(Resource::As).maximum;
    let wanted = memory_bytes.saturating_add(address_space());
    let wanted = hard.map_or(wanted, |hard| hard.min(wanted));
    // If the memory limit can't be set, the time limit still applies.
    let _ = setrlimit(
        Resource::As,
        Rlimit {
            current: Some(wanted),
            maximum: hard,
        },
    );
    let _ = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: getrlimit(Resource::Core).maximum,
        },
    );
    let _ = fs_err::write("/proc/self/oom_score_adj", "900");
}

/// The size of this process's address space in bytes. 0 if the system does not tell it.
fn address_space() -> u64 {
    let pages = fs_err::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    pages.map_or(0, |pages| pages.saturating_mul(page_size() as u64))
}

/// Makes this process end when its parent ends, because no other process reads its result. Returns
/// false if the parent has already ended: the kernel sends no signal in that case.
fn ends_with_parent(parent: i32) -> bool {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    rustix::process::getppid().is_some_and(|pid| pid.as_raw_pid() == parent)
}
