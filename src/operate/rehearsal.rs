//! Rehearsal: tries a rollback before an operator needs it. The previous version replays its golden
//! examples, and requests of live traffic that were kept in memory. The answers are discarded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    decode::decode_instance,
    engine::{
        EngineError, Unready,
        error::{FailedRun, RunCause},
        queue::{Priority, Urgency},
        runtime_message::RejectedInput,
    },
    error::text_with_sources,
    id::ModelName,
    journal::entry::VersionRef,
    operate::{Operator, compatibility::CallerCompatibility, lock, model::ModelControl},
    package::{
        PostprocessFault,
        golden::{self, Mismatch},
    },
    registry::{
        gate::{OWN_LIMITS, zeros},
        package_copies::NotRestorable,
        servable::{Contents, Servable},
    },
    schema::{
        binding::{Binding, UnboundField},
        columns::Columns,
    },
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

/// The result of the last rehearsal.
#[derive(Default)]
pub(super) struct RollbackRehearsal {
    pub ready: bool,
    /// The reason why a rollback would not work. Empty if it would work, or was not rehearsed yet.
    pub reason: String,
    /// The version that was rehearsed last, and the time. `None` before the first rehearsal.
    tried: Option<(VersionRef, Instant)>,
}

/// The reason why a rollback would not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RehearsalError {
    #[error("{0} is not loaded")]
    NotLoaded(String),
    #[error("{version}")]
    NotAnswering {
        version: String,
        #[source]
        reason: Unready,
    },
    #[error(transparent)]
    Files(NotRestorable),
    #[error("golden example {number} failed")]
    Example {
        number: usize,
        #[source]
        fault: ReplayFault,
    },
    #[error("live requests can't be converted back")]
    Binding(#[source] UnboundField),
    #[error("a live request failed")]
    LiveRequest(#[source] ReplayFault),
    #[error("callers who use the new values of {version} would break: {}", differences.join("; "))]
    ForwardOnly {
        version: String,
        differences: Vec<String>,
    },
}

/// The reason why the replay of one request failed. The text never contains a value of a live
/// request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayFault {
    #[error("the input does not fit the schema")]
    Schema,
    #[error("the input can't be preprocessed")]
    Preprocess,
    #[error("there is no answer")]
    Run(#[source] RunFailure),
    #[error("the answer is wrong")]
    Outputs(#[source] PostprocessFault),
    #[error("the answer is different: output {}: expected {}, got {}", .0.pointer, .0.expected, .0.actual)]
    Mismatch(Mismatch),
}

/// Why a run failed, without the values of a request that the runtime's messages contain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunFailure {
    #[error("{0}")]
    Rejected(RejectedInput),
    #[error("{node}: the reason is withheld: a field of the schema is marked x-pii")]
    Withheld { node: String },
    #[error("the model failed: {node}: {loggable}")]
    Node { node: String, loggable: String },
    #[error("the model failed: {loggable}")]
    Model { loggable: String },
    #[error("the run was lost")]
    Lost(#[source] Box<RunFailure>),
    /// Contains no value of a request.
    #[error(transparent)]
    Engine(EngineError),
    #[error("the engine ended")]
    Ended,
}

impl RollbackRehearsal {
    /// Whether the rehearsal was about that version.
    pub(super) fn is_of(&self, previous: Option<&VersionRef>) -> bool {
        self.tried.as_ref().map(|(version, _)| version) == previous
    }
}

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

impl RunFailure {
    /// Removes the values of a request. If the schema marks a field as `personal`, the text
    /// contains only the node and the kind of failure.
    fn of(error: EngineError, personal: bool) -> RunFailure {
        match error {
            EngineError::Run(failed) => {
                let FailedRun {
                    loggable,
                    node,
                    cause,
                    ..
                } = *failed;
                match (cause, node) {
                    (RunCause::Rejected(rejected), _) if personal => {
                        RunFailure::Rejected(rejected.without_values())
                    }
                    (_, Some(node)) if personal => RunFailure::Withheld { node },
                    (_, Some(node)) => RunFailure::Node { node, loggable },
                    (_, None) => RunFailure::Model { loggable },
                }
            }
            EngineError::Lost(error) => {
                RunFailure::Lost(Box::new(RunFailure::of(*error, personal)))
            }
            other => RunFailure::Engine(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        engine::{
            EngineError,
            error::{FailedRun, RunCause},
            runtime_message::{self, RunFault},
        },
        error::text_with_sources,
        operate::rehearsal::RunFailure,
    };

    #[test]
    fn no_value_of_a_live_request_is_reported() {
        let without_values = |error: EngineError, personal: bool| {
            text_with_sources(&RunFailure::of(error, personal))
        };
        let failure = |detail: &str| {
            EngineError::Run(Box::new(FailedRun {
                detail: detail.to_owned(),
                loggable: runtime_message::loggable(detail, &[]),
                node: runtime_message::failed_node(detail),
                cause: match runtime_message::run_fault(detail) {
                    RunFault::Rejected(rejected) => RunCause::Rejected(rejected),
                    _ => RunCause::Other,
                },
            }))
        };
        let refused = "Non-zero status code returned while running Gather node. Name:'embed' \
                       Status Message: /src/gather.cc:31 indices element out of data bounds, \
                       idx=4711 must be within the inclusive range [-3,2]";
        let told = without_values(failure(refused), false);
        assert!(
            told.contains("Gather \"embed\"")
                && told.contains("out of data bounds")
                && !told.contains("4711"),
            "{told}"
        );
        assert_eq!(
            without_values(failure(refused), true),
            "Gather \"embed\": out of data bounds"
        );
        let lost = EngineError::Lost(Box::new(failure(refused)));
        assert!(!without_values(lost, false).contains("4711"));
        let failed = "Non-zero status code returned while running Cast node. Name:'cast' Status \
                      Message: 4711 is odd";
        assert!(!without_values(failure(failed), false).contains("4711"));
        let told = without_values(failure(failed), true);
        assert!(
            told.starts_with("Cast \"cast\": the reason is withheld") && !told.contains("odd"),
            "{told}"
        );
    }
}
