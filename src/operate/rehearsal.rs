//! Rehearsal: tries a rollback before an operator needs it. The previous version replays its golden
//! examples, and requests of live traffic that were kept in memory. The answers are discarded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    decode::decode_instance,
    engine::{
        EngineError,
        queue::{Priority, Urgency},
    },
    error::text_with_sources,
    id::ModelName,
    journal::entry::VersionRef,
    operate::{
        Operator,
        compatibility::CallerCompatibility,
        lock,
        model::{ModelControl, RollbackRehearsal},
        rehearsal_error::{RehearsalError, ReplayFault, RunFailure},
    },
    package::golden,
    registry::{
        gate::{OWN_LIMITS, zeros},
        servable::{Contents, Servable},
    },
    schema::{binding::Binding, columns::Columns},
    tensor::Tensors,
};

/// Timeout of one answer.
const RUN_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of golden examples that a rehearsal replays. This is enough to find a broken
/// version, and takes little time of the engine.
const EXAMPLES: usize = 64;
/// Maximum number of golden examples that are replayed while a promotion waits.
const FEW_EXAMPLES: usize = 4;
/// The pause before a failed rehearsal is repeated. The version may still be loading.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl Operator {
    /// Copies packages, and repeats the rehearsals that are due.
    pub(crate) fn rehearse(&self) {
        self.kept.sweep_once();
        for name in self.names() {
            if self.kept.is_stopped() {
                return;
            }
            self.keep_packages(&name);
            let controlled = self.controlled(&name);
            let due = self.rehearsal_due(&lock(&controlled));
            if due {
                self.rehearse_one(&name);
            }
        }
    }

    fn rehearsal_due(&self, model: &ModelControl) -> bool {
        match (&model.rehearsal.tried, model.state.previous()) {
            (None, None) => false,
            (Some((version, at)), Some(previous)) if version == previous => {
                let interval = self.settings.models.rehearse_interval();
                let interval = if model.rehearsal.ready {
                    interval
                } else {
                    interval.min(RETRY_INTERVAL)
                };
                at.elapsed() >= interval
            }
            _ => true,
        }
    }

    /// Rehearses a rollback of one model. The model is not locked during the rehearsal: a run may
    /// hang, and a real rollback must not wait.
    pub(super) fn rehearse_one(&self, name: &ModelName) {
        let controlled = self.controlled(name);
        let previous = lock(&controlled).state.previous().cloned();
        let outcome = previous
            .as_ref()
            .map(|previous| self.try_rollback(name, previous));
        // A check that a shutdown interrupted proves nothing.
        if self.kept.is_stopped() {
            return;
        }
        let mut model = lock(&controlled);
        // A decision changed the previous version during the rehearsal, so the result is discarded.
        // The next rehearsal tests the new previous version.
        if model.state.previous() != previous.as_ref() {
            return;
        }
        let before = model.rehearsal.tried.take();
        let former = before
            .as_ref()
            .filter(|(version, _)| Some(version) != previous.as_ref());
        if let Some((former, _)) = former {
            self.metrics
                .rollouts
                .set_rollback_ready(name.as_str(), &former.version, None);
        }
        model.rehearsal = match previous.zip(outcome) {
            None => RollbackRehearsal {
                ready: false,
                reason: "there is no previous stable version".to_owned(),
                tried: None,
            },
            Some((previous, outcome)) => {
                let ready = outcome.is_ok();
                let reason = outcome
                    .err()
                    .map(|error| text_with_sources(&error))
                    .unwrap_or_default();
                self.metrics.rollouts.set_rollback_ready(
                    name.as_str(),
                    &previous.version,
                    Some(ready),
                );
                let first = before.is_none_or(|(version, _)| version != previous);
                if !ready && (first || model.rehearsal.ready || model.rehearsal.reason != reason) {
                    tracing::error!(
                        model = %name,
                        version = %previous,
                        reason,
                        "a rollback would not work"
                    );
                } else if ready && (first || !model.rehearsal.ready) {
                    tracing::info!(model = %name, version = %previous, "a rollback would work");
                }
                RollbackRehearsal {
                    ready,
                    reason,
                    tried: Some((previous, Instant::now())),
                }
            }
        };
    }

    fn try_rollback(&self, name: &ModelName, previous: &VersionRef) -> Result<(), RehearsalError> {
        let servable = self
            .decided(name, previous)
            .ok_or_else(|| RehearsalError::NotLoaded(previous.to_string()))?;
        if let Some(reason) = servable.batcher.unready_reason(Instant::now()) {
            return Err(RehearsalError::NotAnswering {
                version: previous.to_string(),
                reason,
            });
        }
        replay_golden(&servable, EXAMPLES)?;
        self.kept
            .check(&servable.contents, &self.directory_of(&servable))
            .map_err(RehearsalError::Files)?;
        let (stable, samples) = {
            let snapshot = self.registry.snapshot();
            let Some(model) = snapshot.models.get(name) else {
                return Ok(());
            };
            (model.stable.clone(), model.samples.clone())
        };
        match (stable, samples) {
            (Some(stable), Some(samples)) => replay_samples(&stable, &servable, &samples.kept()),
            // Without live traffic, the rehearsal consists only of the golden examples.
            _ => Ok(()),
        }
    }

    /// Checks whether a rollback would work once `to` is stable: from `to` back to the version that
    /// is stable now.
    pub(super) fn check_rollback_path(
        &self,
        model: &ModelControl,
        to: &VersionRef,
    ) -> Result<(), RehearsalError> {
        let Some(stable) = &model.state.stable else {
            return Ok(());
        };
        let not_loaded = |version: &VersionRef| RehearsalError::NotLoaded(version.to_string());
        let old = self
            .decided(&model.name, stable)
            .ok_or_else(|| not_loaded(stable))?;
        let new = self
            .decided(&model.name, to)
            .ok_or_else(|| not_loaded(to))?;
        replay_golden(&old, FEW_EXAMPLES)?;
        let rollout = model.state.rollout.as_ref();
        let consented = rollout.is_some_and(|rollout| rollout.forward_only);
        let accepted = rollout.map_or(&[][..], |rollout| &rollout.accepted);
        let compatibility = CallerCompatibility::of(&old, &new, accepted);
        if compatibility.is_forward_only() && !consented {
            return Err(RehearsalError::ForwardOnly {
                version: to.to_string(),
                differences: compatibility.lines(),
            });
        }
        Ok(())
    }
}

/// Replays golden examples one at a time, at a lower priority than all traffic.
fn replay_golden(servable: &Servable, examples: usize) -> Result<(), RehearsalError> {
    let failed = |number: usize, fault: ReplayFault| RehearsalError::Example { number, fault };
    let Contents::Package(packaged) = &servable.contents else {
        // A bare graph has no golden examples. One run on zeros shows at least that the graph runs.
        return run(servable, zeros(&servable.graph), 1)
            .map(|_| ())
            .map_err(|fault| failed(1, fault));
    };
    let parts = &packaged.package.parts;
    for (index, example) in parts.golden.iter().enumerate().take(examples) {
        let replay = || -> Result<(), ReplayFault> {
            let columns = decode_instance(&parts.input, example.input.as_bytes(), &OWN_LIMITS)
                .map_err(|_| ReplayFault::Schema)?;
            let tensors = packaged
                .transform
                .prepare(&columns)
                .map_err(|_| ReplayFault::Preprocess)?;
            let outputs = run(servable, tensors, 1)?;
            let outputs = packaged
                .transform
                .interpret(&outputs, 1)
                .map_err(ReplayFault::Outputs)?;
            golden::compare(&example.output, &outputs.to_value(0), example.tolerance)
                .map_err(ReplayFault::Mismatch)
        };
        replay().map_err(|fault| failed(index + 1, fault))?;
    }
    Ok(())
}

/// Replays requests that the stable version decoded. The previous version gets them in the same
/// form as after a rollback.
fn replay_samples(
    stable: &Servable,
    previous: &Servable,
    kept: &[Arc<Columns>],
) -> Result<(), RehearsalError> {
    let (Some(new), Contents::Package(packaged)) = (stable.package(), &previous.contents) else {
        return Ok(());
    };
    let old = &packaged.package.parts.input;
    let binding = Binding::new(&new.parts.input, old).map_err(RehearsalError::Binding)?;
    for columns in kept {
        let bound = binding.bind_ref(columns);
        let replay = || -> Result<(), ReplayFault> {
            let groups = packaged
                .transform
                .prepare_groups(&bound)
                .map_err(|_| ReplayFault::Preprocess)?;
            for group in groups {
                let rows = group.count(bound.rows);
                let outputs = run(previous, group.tensors, rows)?;
                packaged
                    .transform
                    .interpret(&outputs, rows)
                    .map_err(ReplayFault::Outputs)?;
            }
            Ok(())
        };
        replay().map_err(RehearsalError::LiveRequest)?;
    }
    Ok(())
}

fn run(servable: &Servable, tensors: Tensors, rows: usize) -> Result<Tensors, ReplayFault> {
    let urgency = Urgency {
        deadline: Instant::now() + RUN_TIMEOUT,
        priority: Priority::from_protocol(u64::MAX),
    };
    let personal = servable
        .package()
        .is_some_and(|package| package.parts.input.is_personal());
    let failed = |error: EngineError| ReplayFault::Run(RunFailure::of(error, personal));
    // A job of zero rows would seem to fit into any batch.
    let receiver = servable
        .batcher
        .submit(tensors, rows.max(1), urgency)
        .map_err(failed)?;
    servable.batcher.wake();
    match receiver.blocking_recv() {
        Ok(answer) => answer.map(|answer| answer.outputs).map_err(failed),
        Err(_) => Err(ReplayFault::Run(RunFailure::Ended)),
    }
}
