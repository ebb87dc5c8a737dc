//! Rehearse: the way back is tried while nobody needs it: the version before replays its golden examples, and requests of live
//! traffic that were kept in memory. Answers are thrown away.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    decode::decode_instance,
    engine::{
        EngineError, advice,
        queue::{Priority, Urgency},
    },
    id::ModelName,
    journal::entry::VersionRef,
    operate::{Controlled, Operator, gate::Compatibility, lock},
    package::golden,
    registry::{
        gate::OWN_LIMITS,
        servable::{Contents, Servable},
    },
    schema::binding::Binding,
    tensor::Tensors,
};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Golden examples that are replayed; fewer where somebody waits for it.
const EXAMPLES: usize = 64;
const FEW_EXAMPLES: usize = 4;
/// How long a copy that could not be made is not tried again.
const KEEP_AGAIN: Duration = Duration::from_secs(10);

/// Whether a rollback would work, as it was found at the last try.
#[derive(Default)]
pub struct WayBack {
    pub ready: bool,
    pub reason: String,
    /// Of which version, and when.
    tried: Option<(VersionRef, Instant)>,
}

/// The copies that were last made, or found to be intact.
#[derive(Clone)]
pub struct Copies {
    /// What they were made for: the stable version, the one before, and candidates.
    leads: Vec<VersionRef>,
    at: Instant,
    /// The copies that nothing leads to any more are removed.
    tidied: bool,
}

impl WayBack {
    /// Whether this is about the way to that version.
    pub fn is_of(&self, previous: Option<&VersionRef>) -> bool {
        self.tried.as_ref().map(|(version, _)| version) == previous
    }
}

impl Operator {
    /// Tries the ways back that are due.
    pub fn rehearse(&self) {
        self.kept.sweep_once();
        for name in self.names() {
            if self.kept.is_stopped() {
                return;
            }
            self.keep_packages(&name);
            let due = {
                let controlled = self.controlled(&name);
                let model = lock(&controlled);
                self.due(&model)
            };
            if due {
                self.rehearse_one(&name);
            }
        }
    }

    /// Copies what answers and what a rollback leads to, once it is loaded; removes the copies that nothing leads to any more.
    fn keep_packages(&self, name: &ModelName) {
        if !self.kept.is_wanted() {
            return;
        }
        let controlled = self.controlled(name);
        let (ways, candidates, settled, known, failed) = {
            let model = lock(&controlled);
            let ways: Vec<VersionRef> = model
                .state
                .stable
                .iter()
                .chain(model.state.previous())
                .cloned()
                .collect();
            let candidates: Vec<VersionRef> = model
                .state
                .rollout
                .iter()
                .flat_map(|rollout| rollout.candidates.clone())
                .collect();
            (
                ways,
                candidates,
                model.trouble.is_none() && model.pending.is_empty(),
                model.copies.clone(),
                model.unkept.clone(),
            )
        };
        // Candidates get no copy: what is written of them may be taken back. One that they have, since they were stable before, stays.
        let leads: Vec<VersionRef> = ways.iter().chain(&candidates).cloned().collect();
        let known = known.filter(|known| known.leads == leads);
        // Where others may know more than this process, what leads nowhere by what is known here may lead somewhere.
        let tidied = !settled || known.as_ref().is_some_and(|known| known.tidied);
        // Copies that were made are looked at as often as the way back is.
        let made =
            known.is_some_and(|known| known.at.elapsed() < self.config.models.rehearse_interval());
        let failed = failed.filter(|(failed, _)| *failed == leads);
        if ways.is_empty()
            || made && tidied
            || failed
                .as_ref()
                .is_some_and(|(_, at)| at.elapsed() < KEEP_AGAIN)
        {
            return;
        }
        let digests = leads.iter().map(|named| named.digest.clone()).collect();
        let (mut all, mut unkept) = (true, None);
        for named in &ways {
            let Some(servable) = self.decided(name, named) else {
                all &= self.kept.found(name, named).is_some();
                continue;
            };
            let directory = self.directory_of(&servable);
            let keep = || self.kept.keep(&servable.contents, &directory);
            // Copies that nothing leads to any more may take the room.
            let outcome = keep().or_else(|error| {
                if settled && self.kept.retain(name, &digests) {
                    keep()
                } else {
                    Err(error)
                }
            });
            if self.kept.is_stopped() {
                return;
            }
            if let Err(error) = outcome {
                if failed.is_none() {
                    tracing::warn!(model = %name, version = %named, error = %error, "no copy of the package can be kept: its files in the models directory are the only ones");
                }
                unkept = Some((leads.clone(), Instant::now()));
            }
        }
        let complete = all && unkept.is_none();
        if complete && !tidied {
            self.kept.retain(name, &digests);
        }
        let mut model = lock(&controlled);
        if complete {
            model.copies = Some(Copies {
                leads,
                at: Instant::now(),
                tidied: settled,
            });
        }
        model.unkept = unkept;
    }

    /// Where the models directory holds a version, or held it.
    fn directory_of(&self, servable: &Servable) -> PathBuf {
        let id = servable.id();
        self.config
            .models
            .root
            .join(id.name.as_str())
            .join(id.version.as_str())
    }

    fn due(&self, model: &Controlled) -> bool {
        match (&model.way_back.tried, model.state.previous()) {
            (None, None) => false,
            (Some((version, at)), Some(previous)) if version == previous => {
                // One that fails may only be loading.
                let interval = self.config.models.rehearse_interval();
                at.elapsed()
                    >= if model.way_back.ready {
                        interval
                    } else {
                        interval.min(Duration::from_secs(1))
                    }
            }
            _ => true,
        }
    }

    /// The model is not locked meanwhile: a run may hang, and a rollback must not wait for it.
    pub(super) fn rehearse_one(&self, name: &ModelName) {
        let previous = { lock(&self.controlled(name)).state.previous().cloned() };
        let outcome = previous
            .as_ref()
            .map(|previous| self.try_way_back(name, previous));
        if self.kept.is_stopped() {
            return; // A check that was cut short tells nothing.
        }
        let controlled = self.controlled(name);
        let mut model = lock(&controlled);
        if model.state.previous() != previous.as_ref() {
            return; // Something was decided meanwhile; the next look tries the new way.
        }
        let before = model.way_back.tried.take();
        if let Some((gone, _)) = before
            .as_ref()
            .filter(|(version, _)| Some(version) != previous.as_ref())
        {
            self.metrics
                .set_rollback_ready(name.as_str(), &gone.version, None);
        }
        let (Some(previous), Some(outcome)) = (previous, outcome) else {
            model.way_back = WayBack {
                ready: false,
                reason: "there is no stable version before this one".to_owned(),
                tried: None,
            };
            return;
        };
        let ready = outcome.is_ok();
        let reason = outcome.err().unwrap_or_default();
        self.metrics
            .set_rollback_ready(name.as_str(), &previous.version, Some(ready));
        let new = before.is_none_or(|(version, _)| version != previous);
        if !ready && (new || model.way_back.ready || model.way_back.reason != reason) {
            tracing::error!(model = %name, version = %previous, reason, "a rollback would not work");
        } else if ready && (new || !model.way_back.ready) {
            tracing::info!(model = %name, version = %previous, "a rollback would work");
        }
        model.way_back = WayBack {
            ready,
            reason,
            tried: Some((previous, Instant::now())),
        };
    }

    fn try_way_back(&self, name: &ModelName, previous: &VersionRef) -> Result<(), String> {
        let servable = self
            .decided(name, previous)
            .ok_or_else(|| format!("{previous} is not loaded"))?;
        if let Some(ailment) = servable.batcher.ailment(Instant::now()) {
            return Err(format!("{previous}: {ailment}"));
        }
        replay_golden(&servable, EXAMPLES)?;
        self.kept
            .check(&servable.contents, &self.directory_of(&servable))?;
        let (stable, samples) = {
            let snapshot = self.registry.snapshot();
            let Some(model) = snapshot.models.get(name) else {
                return Ok(());
            };
            (model.stable.clone(), model.samples.clone())
        };
        let (Some(stable), Some(samples)) = (stable, samples) else {
            return Ok(());
        };
        replay_samples(&stable, &servable, &samples.kept())
    }

    /// Whether there would be a way back once `to` is stable: from it to what is stable now.
    pub(super) fn check_way_back(&self, model: &Controlled, to: &VersionRef) -> Result<(), String> {
        let Some(stable) = &model.state.stable else {
            return Ok(());
        };
        let old = self
            .decided(&model.name, stable)
            .ok_or_else(|| format!("{stable} is not loaded"))?;
        let new = self
            .decided(&model.name, to)
            .ok_or_else(|| format!("{to} is not loaded"))?;
        replay_golden(&old, FEW_EXAMPLES)?;
        let known = model
            .state
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.forward_only);
        let accepted = model
            .state
            .rollout
            .as_ref()
            .map(|rollout| rollout.accepted.clone())
            .unwrap_or_default();
        let compatibility = Compatibility::of(&old, &new, &accepted);
        if compatibility.is_forward_only() && !known {
            return Err(format!(
                "callers who begin to use what is new in {to} would break: {}",
                compatibility.lines().join("; ")
            ));
        }
        Ok(())
    }
}

/// Every golden example by itself, behind all traffic.
fn replay_golden(servable: &Servable, examples: usize) -> Result<(), String> {
    let Contents::Package(packaged) = &servable.contents else {
        return run(servable, crate::registry::gate::zeros(&servable.graph), 1).map(|_| ());
    };
    let parts = &packaged.package.parts;
    for (index, example) in parts.golden.iter().enumerate().take(examples) {
        let wrong = |detail: String| format!("golden example {}: {detail}", index + 1);
        let columns = decode_instance(&parts.input, example.input.as_bytes(), &OWN_LIMITS)
            .map_err(|_| wrong("does not fit the schema".to_owned()))?;
        let tensors = packaged
            .transform
            .prepare(&columns)
            .map_err(|_| wrong("can't be preprocessed".to_owned()))?;
        let outputs = run(servable, tensors, 1).map_err(&wrong)?;
        let outputs = packaged
            .transform
            .interpret(&outputs, 1)
            .map_err(|fault| wrong(fault.to_string()))?;
        golden::compare(&example.output, &outputs.to_value(0), example.tolerance).map_err(
            |mismatch| {
                wrong(format!(
                    "output {}: expected {}, got {}",
                    mismatch.pointer, mismatch.expected, mismatch.actual
                ))
            },
        )?;
    }
    Ok(())
}

/// Requests that the stable version decoded, as they would be decoded after a rollback. No value of theirs is told.
fn replay_samples(
    stable: &Servable,
    previous: &Servable,
    kept: &[Arc<crate::schema::columns::Columns>],
) -> Result<(), String> {
    let (Some(new), Contents::Package(packaged)) = (stable.package(), &previous.contents) else {
        return Ok(());
    };
    let old = &packaged.package.parts.input;
    let binding = Binding::new(&new.parts.input, old)
        .map_err(|detail| format!("live requests can't go back: {detail}"))?;
    for columns in kept {
        let bound = binding.bind_ref(columns);
        let wrong = |detail: &str| format!("a live request {detail}");
        for group in packaged
            .transform
            .prepare_groups(&bound)
            .map_err(|_| wrong("can't be preprocessed"))?
        {
            let rows = group.count(bound.rows);
            let outputs = run(previous, group.tensors, rows)
                .map_err(|detail| wrong(&format!("is not answered: {detail}")))?;
            packaged
                .transform
                .interpret(&outputs, rows)
                .map_err(|fault| wrong(&format!("is answered wrongly: {fault}")))?;
        }
    }
    Ok(())
}

fn run(servable: &Servable, tensors: Tensors, rows: usize) -> Result<Tensors, String> {
    let urgency = Urgency {
        deadline: Instant::now() + PATIENCE,
        priority: Priority::from_protocol(u64::MAX),
    };
    let personal = servable
        .package()
        .is_some_and(|package| package.parts.input.is_personal());
    let receiver = servable
        .batcher
        .submit(tensors, rows.max(1), urgency)
        .map_err(|error| without_values(error, personal))?;
    servable.batcher.wake();
    let answer = receiver
        .blocking_recv()
        .map_err(|_| "the engine is gone".to_owned())?;
    answer
        .map(|answer| answer.outputs)
        .map_err(|error| without_values(error, personal))
}

/// Why a run failed, for the log and for operators: without the values of a request, which the library's own words name. Nothing but
/// node and kind where a field is `personal`.
fn without_values(error: EngineError, personal: bool) -> String {
    match error {
        EngineError::Run { detail, loggable } => {
            match (advice::on_run(&detail), advice::node(&detail)) {
                (Some(refusal), _) if personal => refusal.without_values().to_string(),
                (None, Some(node)) if personal => {
                    format!("{node}: the reason is withheld: a field of the schema is marked x-pii")
                }
                (_, Some(node)) => format!("the model failed: {node}: {loggable}"),
                (_, None) => format!("the model failed: {loggable}"),
            }
        }
        EngineError::Lost(error) => {
            format!("the run was lost: {}", without_values(*error, personal))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        engine::{EngineError, advice},
        operate::rehearse::without_values,
    };

    #[test]
    fn no_value_of_a_live_request_is_told() {
        let failure = |detail: &str| EngineError::Run {
            detail: detail.to_owned(),
            loggable: advice::loggable(detail, &[]),
        };
        let refused = "Non-zero status code returned while running Gather node. Name:'embed' Status Message: /src/gather.cc:31 \
                       indices element out of data bounds, idx=4711 must be within the inclusive range [-3,2]";
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
        let failed = "Non-zero status code returned while running Cast node. Name:'cast' Status Message: 4711 is odd";
        assert!(!without_values(failure(failed), false).contains("4711"));
        let told = without_values(failure(failed), true);
        assert!(
            told.starts_with("Cast \"cast\": the reason is withheld") && !told.contains("odd"),
            "{told}"
        );
    }
}
