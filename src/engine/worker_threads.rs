//! Starts worker threads, and replaces those that the supervisor abandoned.

use std::{
    sync::{Arc, Weak},
    thread,
    time::Instant,
};

use crate::{
    engine::{Engine, EngineError, pool::Pool, supervisor::Slot, worker::Worker},
    error::text_with_sources,
};

/// Starts a worker thread and registers it with the supervisor.
pub(super) fn spawn(pool: &Arc<Pool>, engine: Box<dyn Engine>) -> std::io::Result<()> {
    let weak: Weak<Pool> = Arc::downgrade(pool);
    let on_abandon = move || {
        if let Some(pool) = weak.upgrade() {
            abandon_worker(&pool);
        }
    };
    let slot = Slot::new(engine.interrupt(), Box::new(on_abandon));
    let worker = Worker::new(Arc::clone(pool), engine, Arc::clone(&slot));
    // The worker is counted before its thread runs: a job that is submitted in between must not be
    // refused.
    pool.lock().alive += 1;
    let spawned = thread::Builder::new()
        .name(format!("engine-{}", pool.name))
        .spawn(move || worker.work());
    if let Err(error) = spawned {
        pool.lock().alive -= 1;
        return Err(error);
    }
    pool.supervisor.add(&slot);
    Ok(())
}

/// Records that the supervisor abandoned a worker, and starts a replacement.
fn abandon_worker(pool: &Arc<Pool>) {
    let mut state = pool.lock();
    state.alive = state.alive.saturating_sub(1);
    state.hung += 1;
    state.abandoned_at.push_back(Instant::now());
    let hung = state.hung;
    // A hung worker keeps its thread, its session and its core. Without this limit, a model
    // that always hangs would use the whole machine.
    let replace = hung <= (pool.workers * 2) as isize;
    state.starting += usize::from(replace);
    drop(state);
    // The metric keeps its published name.
    pool.metrics.wedged_workers.inc();
    tracing::error!(
        model = %pool.name,
        hung,
        "an engine worker hangs in its run and was abandoned"
    );
    if !replace {
        tracing::error!(
            model = %pool.name,
            hung,
            "too many engine workers hang: no replacement is started"
        );
        pool.fail_jobs_if_dead();
        return;
    }
    // This code runs on the supervisor's thread, which watches all models, so it must not wait
    // for a load.
    let shared = Arc::clone(pool);
    let spawned = thread::Builder::new()
        .name("replace-worker".to_owned())
        .spawn(move || start_replacement(&shared));
    if let Err(error) = spawned {
        tracing::error!(model = %pool.name, error = %error, "no thread for a replacement worker");
        pool.lock().starting -= 1;
        pool.fail_jobs_if_dead();
    }
}

/// Why a replacement worker could not start.
#[derive(Debug, thiserror::Error)]
enum ReplacementError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("starting its thread")]
    Thread(#[from] std::io::Error),
}

fn start_replacement(pool: &Arc<Pool>) {
    let started = pool
        .factory
        .make()
        .map_err(ReplacementError::from)
        .and_then(|engine| Ok(spawn(pool, engine)?));
    pool.lock().starting -= 1;
    match started {
        Ok(()) => tracing::warn!(model = %pool.name, "a replacement engine worker started"),
        Err(error) => {
            let error = text_with_sources(&error);
            tracing::error!(model = %pool.name, error, "no replacement engine worker");
            pool.fail_jobs_if_dead();
        }
    }
}
