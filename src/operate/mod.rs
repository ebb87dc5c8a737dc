//! Operate: the control plane. Every change of what answers is a decision: checked, written to the journal, and only then made.

mod command;
mod control;
mod gate;
mod pending;
mod rehearse;
mod repair;
mod status;
mod trouble;
mod webhook;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use command::{PlanChoice, PromoteRequest, RollbackRequest, StartRequest};
pub use webhook::Webhook;

use crate::{
    config::Config,
    id::{ModelName, PredictionId, Version},
    journal::{
        Draft, Journal, JournalError,
        chain::Head,
        entry::{Action, Entry, VersionRef},
        store::{Store, StoreError},
    },
    metrics::{
        Metrics,
        runs::{Runs, RunsView},
    },
    operate::{
        pending::Pending,
        rehearse::{Copies, WayBack},
        trouble::Trouble,
    },
    registry::{
        Adopter, Commander, Registry,
        kept::Kept,
        servable::Servable,
        traffic::{self, Decision, Step},
    },
    rollout::{
        evidence::{Evidence, WARM_RUNS},
        judge::Judgement,
        state::{CONFIGURATION, Cause, ModelState, Phase},
        tally::{Share, Tally, TallyRules},
    },
};

/// How often the journal is read on and the judge is asked.
const TICK: Duration = Duration::from_millis(200);

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperateError {
    Unknown(String),
    /// It must not be done, as things are.
    Refused(String),
    /// Who asks may not.
    Forbidden(String),
    /// Somebody else decided something first.
    Conflict(String),
    /// The decision can't be written, so it is not made.
    Unwritable(String),
    /// What was sent is no request.
    Malformed(String),
}

pub struct OperatorParts {
    pub registry: Registry,
    pub store: Store,
    pub metrics: Metrics,
    pub kept: Kept,
    pub config: Config,
    pub webhook: Option<Webhook>,
}

/// Who decides: operators, the judge, the configuration; here they all come through one door.
pub struct Operator {
    registry: Registry,
    journal: Journal,
    store: Store,
    metrics: Metrics,
    kept: Kept,
    config: Config,
    webhook: Option<Webhook>,
    commander: OnceLock<Commander>,
    models: Mutex<BTreeMap<ModelName, Arc<Mutex<Controlled>>>>,
    /// `REPLICA-BOOT`, under which this process keeps its part of the evidence.
    process: String,
    /// When it was last seen to that there is room for urgent decisions.
    reserved: Mutex<Option<Instant>>,
    /// When the journals were last read once more.
    reread: Mutex<Option<Instant>>,
}

/// What this process knows of one model's decisions.
struct Controlled {
    name: ModelName,
    head: Head,
    /// What the journal says, up to `head`.
    written: ModelState,
    /// What is in force: that, and what waits to be written.
    state: ModelState,
    pending: Vec<Pending>,
    trouble: Option<Trouble>,
    /// When it was last looked whether the end of the journal is still the one that is known.
    looked: Instant,
    /// The journal was read at least once, to its end or to where it is damaged: what is known since is not taken back.
    known: bool,
    /// Versions that somebody is about to decide on.
    wanted: Vec<Version>,
    step: Option<RunningStep>,
    way_back: WayBack,
    copies: Option<Copies>,
    /// What copies could last not be made for, and when that was.
    unkept: Option<(Vec<VersionRef>, Instant)>,
    /// Versions that `models.promote` would make stable, but that their callers would not survive.
    unfit: Vec<VersionRef>,
}

/// The step that runs, and what is known of it.
struct RunningStep {
    step: Arc<Step>,
    versions: Vec<String>,
    runs: BTreeMap<String, ArmRuns>,
    /// What other processes know, by the name of their object.
    others: BTreeMap<String, Share>,
    written: Share,
    exchanged: Option<Instant>,
    evidence: Evidence,
    judgement: Option<Judgement>,
    /// Runs of each arm that were lost in this process so far, and in which window each was noticed.
    lost: BTreeMap<String, BTreeMap<u32, u64>>,
}

/// The engine runs of one arm since the step began, in this process.
#[derive(Default)]
struct ArmRuns {
    counters: Option<Arc<Runs>>,
    base: RunsView,
    /// Of counters that are gone: the version was loaded anew.
    carried: RunsView,
    threads: usize,
}

impl ArmRuns {
    fn read(&mut self, servable: Option<&Arc<Servable>>) -> RunsView {
        if let Some(servable) = servable {
            let counters = &servable.metrics.engine.runs;
            if self
                .counters
                .as_ref()
                .is_none_or(|known| !Arc::ptr_eq(known, counters))
            {
                if let Some(gone) = self.counters.replace(Arc::clone(counters)) {
                    self.carried.add(&gone.view().since(&self.base));
                }
                // Counters that were there when the step began hold what came before it.
                self.base = counters.view();
            }
            let now = counters.view();
            if now.total() < WARM_RUNS {
                // The first runs after a load tell of empty caches, and of memory that is asked for once. Failures are failures.
                self.base = now.with_failures_of(&self.base);
            }
            self.threads = servable.intra_op_threads;
        }
        let mut view = self.carried.clone();
        if let Some(counters) = &self.counters {
            view.add(&counters.view().since(&self.base));
        }
        view
    }
}

impl Operator {
    /// Reads every journal. What was decided holds from here on.
    pub fn new(parts: OperatorParts) -> Arc<Operator> {
        let OperatorParts {
            registry,
            store,
            metrics,
            kept,
            config,
            webhook,
        } = parts;
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let host: String = host
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '.' {
                    c
                } else {
                    '-'
                }
            })
            .take(64)
            .collect();
        let operator = Operator {
            registry,
            journal: Journal::new(store.clone()),
            store,
            metrics,
            kept,
            config,
            webhook,
            commander: OnceLock::new(),
            models: Mutex::default(),
            process: format!("{host}-{}", PredictionId::new()),
            reserved: Mutex::default(),
            reread: Mutex::new(Some(Instant::now())),
        };
        operator.store.sweep();
        match operator.journal.models() {
            Ok(names) => {
                for name in names.iter().filter_map(|name| ModelName::parse(name)) {
                    let controlled = operator.controlled(&name);
                    let mut model = lock(&controlled);
                    operator.read_on(&mut model, false);
                    let pinned = operator.config.pinned(name.as_str());
                    if let (Some(pinned), Some(stable)) = (pinned, &model.state.stable)
                        && pinned != stable.version
                    {
                        tracing::warn!(model = %name, pinned, stable = %stable, "the pinned version is passed over: since the first start only the journal decides; `predictd rollback --to` changes it");
                    }
                }
            }
            Err(error) => {
                tracing::error!(error = %error, "the journals can't be listed; nothing can be decided")
            }
        }
        Arc::new(operator)
    }

    /// The registry's loop, which loads what decisions need.
    pub fn connect(&self, commander: Commander) {
        let _ = self.commander.set(commander);
    }

    fn controlled(&self, name: &ModelName) -> Arc<Mutex<Controlled>> {
        let mut models = lock(&self.models);
        let make = || {
            Arc::new(Mutex::new(Controlled {
                name: name.clone(),
                head: Head::default(),
                written: ModelState::default(),
                state: ModelState::default(),
                pending: Vec::new(),
                trouble: None,
                looked: Instant::now(),
                known: false,
                wanted: Vec::new(),
                step: None,
                way_back: WayBack::default(),
                copies: None,
                unkept: None,
                unfit: Vec::new(),
            }))
        };
        Arc::clone(models.entry(name.clone()).or_insert_with(make))
    }

    fn names(&self) -> Vec<ModelName> {
        lock(&self.models).keys().cloned().collect()
    }

    /// Reads what others decided meanwhile. `told`: it happens now, and is counted and logged.
    fn read_on(&self, model: &mut Controlled, told: bool) {
        let before = model.head.seq;
        let mut outcome = self.read_to_end(model, told);
        // What was read and is not there any more stays a trouble until it is there again.
        if outcome.is_none() && model.known && model.trouble.is_some() {
            // A whole journal is not read at each tick.
            let waits = matches!(model.trouble, Some(Trouble::Overwritten { .. }))
                && model.looked.elapsed() < repair::LOOK;
            outcome = match waits {
                true => model.trouble.clone(),
                false => self
                    .overwritten(&model.name, &model.head)
                    .unwrap_or_else(|error| Some(Trouble::Unreadable(error.to_string()))),
            };
        }
        if outcome != model.trouble {
            self.tell_trouble(model, outcome.as_ref());
            model.trouble = outcome;
        } else if model.head.seq == before && told && model.known {
            return;
        }
        // Of a journal that is damaged the part before the damage is known.
        model.known |= !matches!(model.trouble, Some(Trouble::Unreadable(_)));
        if model.head.seq != before {
            let dropped = model.settle();
            self.tell_dropped(&model.name, &dropped);
        }
        self.enforce(model);
    }

    fn tell_trouble(&self, model: &Controlled, trouble: Option<&Trouble>) {
        match trouble {
            Some(trouble) => {
                let told = trouble.describe(&model.name, model.known);
                tracing::error!(model = %model.name, trouble = told, "nothing can be written of this model's decisions");
            }
            None => tracing::info!(model = %model.name, "the journal can be read again"),
        }
        if let Some(Trouble::Unreadable(_)) = trouble {
            self.metrics.source_errors.inc();
        }
    }

    fn set_trouble(&self, model: &mut Controlled, trouble: Trouble) {
        if model.trouble.as_ref() != Some(&trouble) {
            self.tell_trouble(model, Some(&trouble));
            model.trouble = Some(trouble);
            self.enforce(model);
        }
    }

    /// What stands in the way of reading the journal to its end.
    fn read_to_end(&self, model: &mut Controlled, told: bool) -> Option<Trouble> {
        let name = model.name.clone();
        loop {
            let seq = model.head.seq + 1;
            let beyond = |head: &Head| self.journal.beyond_gap(name.as_str(), head);
            let damaged = |detail: String| {
                let further = beyond(&Head {
                    seq,
                    ..Head::default()
                })
                .is_ok_and(|further| !further.is_empty());
                Some(Trouble::Damaged {
                    seq,
                    detail,
                    further,
                })
            };
            let mut head = model.head.clone();
            match self.journal.next(name.as_str(), &mut head) {
                Ok(Some(entry)) => {
                    // Written by this process, though it never heard of it.
                    let own = model
                        .pending
                        .iter()
                        .position(|pending| pending.entry.id == entry.id);
                    if let Some(own) = own {
                        model.pending.remove(own);
                    }
                    if let Err(error) = model.written.apply(&entry) {
                        return damaged(error.detail);
                    }
                    model.head = head;
                    // Entry by entry: what another's decision made pointless is not made anew after the next one.
                    if model.known && !model.pending.is_empty() {
                        let dropped = model.settle();
                        self.tell_dropped(&name, &dropped);
                    }
                    if told && own.is_none() {
                        self.tell(&entry, "another replica decided");
                    }
                }
                // Where nothing was read before, what lies beyond a gap tells that there is one.
                Ok(None) if !model.known || model.trouble.is_some() => match beyond(&model.head) {
                    Ok(further) if further.is_empty() => match self.unnamed_places(model) {
                        Ok(places) if places.is_empty() && model.head.seq == 0 => {
                            return self.lost_beginning(&name);
                        }
                        Ok(places) if places.is_empty() => return None,
                        Ok(_) => {
                            return Some(Trouble::Damaged {
                                seq,
                                detail: repair::UNNAMED.to_owned(),
                                further: true,
                            });
                        }
                        Err(error) => return Some(Trouble::Unreadable(error.to_string())),
                    },
                    Ok(_) => return damaged("is missing".to_owned()),
                    Err(error) => return Some(Trouble::Unreadable(error.to_string())),
                },
                Ok(None) => return None,
                Err(JournalError::Chain(error)) => return damaged(error.detail),
                Err(error) => return Some(Trouble::Unreadable(error.to_string())),
            }
        }
    }

    /// Nothing was decided yet, as it seems: but what only decisions leave behind is there.
    fn lost_beginning(&self, name: &ModelName) -> Option<Trouble> {
        for place in ["packages", "evidence"] {
            match self.store.list_directories(&format!("{place}/{name}")) {
                // A copy that was never finished vouches for nothing.
                Ok(traces) if traces.iter().all(|trace| trace.starts_with('.')) => {}
                Ok(_) => {
                    let detail = "is missing, though packages or evidence of earlier decisions lie in this state".to_owned();
                    return Some(Trouble::Damaged {
                        seq: 1,
                        detail,
                        further: true,
                    });
                }
                Err(error @ StoreError::Late { .. }) => {
                    return Some(Trouble::Unreadable(error.to_string()));
                }
                // Where there is no such directory, nothing was left.
                Err(_) => {}
            }
        }
        None
    }

    fn tell(&self, entry: &Entry, what: &str) {
        let to = entry
            .to
            .as_ref()
            .map(|to| to.version.as_str())
            .unwrap_or_default();
        let reason = entry.reason.as_deref().unwrap_or_default();
        let action = entry.action.name();
        if entry.action == Action::Adopt {
            tracing::info!(model = %entry.model, seq = entry.seq, action, to, actor = %entry.actor, reason, "{what}");
        } else {
            tracing::warn!(model = %entry.model, seq = entry.seq, action, to, actor = %entry.actor, reason, "{what}");
        }
        self.metrics
            .count_transition(&entry.model, to, action, Cause::of(&entry.actor).name());
    }

    /// Writes a decision, and lets it take effect. An urgent one takes effect even where it can't be written.
    fn append(&self, model: &mut Controlled, draft: Draft) -> Result<Entry, OperateError> {
        let urgent = draft.action.is_urgent();
        if let Some(trouble) = model
            .trouble
            .as_ref()
            .filter(|trouble| trouble.forbids(urgent))
        {
            return Err(OperateError::Unwritable(
                trouble.describe(&model.name, model.known),
            ));
        }
        let entry = draft.decide(model.name.as_str());
        // What could not be read an instant ago is not waited for once more.
        if let Some(trouble) = model
            .trouble
            .as_ref()
            .map(|trouble| trouble.describe(&model.name, true))
        {
            return self.hold_and_tell(model, entry, &trouble);
        }
        let mut head = Head::default();
        // A repair is what the others wait for.
        let flushed = if entry.action == Action::Repair {
            Ok(())
        } else {
            self.flush(model)
        };
        let written = flushed.and_then(|()| {
            head = model.head.clone();
            self.journal.append(&mut head, entry.clone())
        });
        let entry = match written {
            Ok(entry) => {
                self.take(model, head, &entry)
                    .map_err(|error| OperateError::Refused(error.to_string()))?;
                entry
            }
            Err(JournalError::Lost) => {
                self.adopt_repair(model);
                self.read_on(model, true);
                let last = model.state.last.as_ref().map(|last| {
                    format!(
                        "{} by {} (entry {})",
                        last.action.name(),
                        last.actor,
                        last.seq
                    )
                });
                let last = last.unwrap_or_else(|| "something else".to_owned());
                return Err(OperateError::Conflict(format!(
                    "another decision came first: {last}; nothing was changed, look at the status and decide anew"
                )));
            }
            Err(error) => {
                self.metrics.source_errors.inc();
                if !urgent {
                    let detail = format!(
                        "the decision could not be written, so nothing was changed: {error}"
                    );
                    return Err(OperateError::Unwritable(detail));
                }
                return self.hold_and_tell(model, entry, &error.to_string());
            }
        };
        self.tell_decided(&entry);
        Ok(entry)
    }

    fn hold_and_tell(
        &self,
        model: &mut Controlled,
        entry: Entry,
        why: &str,
    ) -> Result<Entry, OperateError> {
        let entry = self.hold(model, entry, why)?;
        self.tell_decided(&entry);
        Ok(entry)
    }

    fn tell_decided(&self, entry: &Entry) {
        self.tell(entry, "decided");
        if let Some(webhook) = &self.webhook {
            webhook.tell(entry);
        }
    }

    /// Lets an entry that was written take effect.
    fn take(&self, model: &mut Controlled, head: Head, entry: &Entry) -> Result<(), JournalError> {
        if let Err(error) = model.written.apply(entry) {
            model.trouble = Some(Trouble::Damaged {
                seq: entry.seq,
                detail: error.detail.clone(),
                further: false,
            });
            let detail = error.to_string();
            return Err(StoreError::Failed {
                doing: "followed",
                detail,
            }
            .into());
        }
        model.head = head;
        let dropped = model.settle();
        self.tell_dropped(&model.name, &dropped);
        self.enforce(model);
        Ok(())
    }

    /// Lets the state of a model take effect: for the next request, without a load.
    fn enforce(&self, model: &mut Controlled) {
        // Half a journal may say the opposite of the whole one.
        let stable = model
            .state
            .stable
            .clone()
            .filter(|_| model.known || !model.pending.is_empty());
        let damaged = matches!(model.trouble, Some(Trouble::Damaged { .. }));
        // Where nobody can abort a rollout, nobody gets its candidates.
        let runs = model.known && !damaged;
        let rollout = model
            .state
            .rollout
            .as_ref()
            .filter(|rollout| runs && rollout.phase != Phase::AwaitsApproval);
        let seq = rollout.map(|rollout| rollout.step_seq);
        if model.step.as_ref().map(|running| running.step.seq) != seq {
            self.forget_step(model);
            model.step = model
                .state
                .rollout
                .as_ref()
                .filter(|_| seq.is_some())
                .zip(stable.as_ref())
                .map(|(rollout, stable)| {
                    let versions: Vec<String> = std::iter::once(stable)
                        .chain(&rollout.candidates)
                        .map(|named| named.version.clone())
                        .collect();
                    let step = Arc::new(self.step(&model.name, &versions, rollout));
                    self.begin(&model.name, step, versions)
                });
        }
        // What waits for an approval is to be there when it comes.
        let awaiting = model
            .state
            .rollout
            .iter()
            .flat_map(|rollout| &rollout.candidates);
        let awaiting = awaiting.filter_map(|named| Version::parse(&named.version));
        let decision = Decision {
            stable,
            previous: model.state.previous().cloned(),
            digests: model.state.digests.clone(),
            left: model.state.left.keys().cloned().collect(),
            step: model.step.as_ref().map(|running| Arc::clone(&running.step)),
            wanted: model.wanted.iter().cloned().chain(awaiting).collect(),
            trouble: model
                .trouble
                .as_ref()
                .filter(|trouble| !model.known || !trouble.leaves_a_choice())
                .map(|t| t.describe(&model.name, model.known)),
            notices: self.notices(model),
        };
        self.tell_weights(model, &decision);
        self.metrics
            .set_journal_pending(model.name.as_str(), model.pending.len());
        self.registry.decide(&model.name, decision);
        if let Some(commander) = self.commander.get() {
            commander.decided();
        }
    }

    /// `versions`: the stable one, then the candidates.
    fn step(
        &self,
        name: &ModelName,
        versions: &[String],
        rollout: &crate::rollout::state::RolloutState,
    ) -> Step {
        let plan = &rollout.plan;
        let rules = TallyRules {
            keyed: !plan.key.is_prediction_id(),
            window_seconds: plan.guards.window_seconds as f64,
            ceiling: plan
                .guards
                .p99_ceiling_ms
                .map(|ms| Duration::from_secs_f64(ms / 1000.0)),
        };
        let copies = |(stable, candidates): (&String, &[String])| -> Vec<_> {
            candidates
                .iter()
                .map(|candidate| self.metrics.shadow(name.as_str(), stable, candidate))
                .collect()
        };
        Step {
            salt: rollout.id.clone(),
            plan: plan.clone(),
            number: rollout.step,
            seq: rollout.step_seq,
            candidates: rollout.candidates.clone(),
            weights: plan.weights(rollout.step, rollout.candidates.len()),
            shadow_share: plan.shadow_share(rollout.step),
            tally: Tally::new(versions, rules),
            shadow_metrics: versions.split_first().map(copies).unwrap_or_default(),
            age: Duration::from_secs_f64(rollout.step_age_seconds(crate::clock::now_ms())),
            learned: Instant::now(),
        }
    }

    /// Starts counting a step, with what other processes (and this one, before a restart) know of it already.
    fn begin(&self, name: &ModelName, step: Arc<Step>, versions: Vec<String>) -> RunningStep {
        let mut running = RunningStep {
            step,
            runs: versions
                .iter()
                .map(|version| (version.clone(), ArmRuns::default()))
                .collect(),
            versions,
            others: BTreeMap::new(),
            written: Share::default(),
            exchanged: None,
            evidence: Evidence::default(),
            judgement: None,
            lost: BTreeMap::new(),
        };
        self.read_runs(name, &mut running);
        self.read_others(name, &mut running);
        running
    }

    fn forget_step(&self, model: &mut Controlled) {
        let Some(running) = model.step.take() else {
            return;
        };
        for report in running
            .judgement
            .iter()
            .flat_map(|judgement| &judgement.guards)
        {
            self.metrics.set_e_value(
                model.name.as_str(),
                &report.candidate,
                report.guard.name(),
                None,
            );
        }
    }

    /// What share of the traffic each version answers, by what is decided.
    fn tell_weights(&self, model: &Controlled, decision: &Decision) {
        let name = model.name.as_str();
        let before = self.registry.decision(&model.name);
        let named = |decision: &Decision| -> Vec<String> {
            let candidates = decision.step.iter().flat_map(|step| &step.candidates);
            decision
                .stable
                .iter()
                .chain(candidates)
                .map(|named| named.version.clone())
                .collect()
        };
        let now = named(decision);
        for gone in before
            .iter()
            .flat_map(|before| named(before))
            .filter(|version| !now.contains(version))
        {
            self.metrics.set_weight(name, &gone, None);
        }
        let weights: &[f64] = decision.step.as_ref().map_or(&[], |step| &step.weights);
        if let Some(stable) = &decision.stable {
            self.metrics.set_weight(
                name,
                &stable.version,
                Some((1.0 - weights.iter().sum::<f64>()).max(0.0)),
            );
        }
        for (candidate, weight) in decision
            .step
            .iter()
            .flat_map(|step| &step.candidates)
            .zip(weights)
        {
            self.metrics
                .set_weight(name, &candidate.version, Some(*weight));
        }
    }

    /// A loaded version, by its name.
    fn loaded(&self, name: &ModelName, version: &str) -> Option<Arc<Servable>> {
        let snapshot = self.registry.snapshot();
        match &snapshot.models.get(name)?.version(version)?.state {
            crate::registry::State::Available(servable) => Some(Arc::clone(servable)),
            _ => None,
        }
    }

    /// A loaded version that is what was decided on.
    fn decided(&self, name: &ModelName, named: &VersionRef) -> Option<Arc<Servable>> {
        traffic::available(&self.registry.snapshot().models.get(name)?.versions, named).cloned()
    }
}

impl Adopter for Operator {
    fn adopt(&self, name: &ModelName, version: VersionRef) {
        let controlled = self.controlled(name);
        let mut model = lock(&controlled);
        self.read_on(&mut model, true);
        if model.state.stable.is_some()
            || model
                .trouble
                .as_ref()
                .is_some_and(|trouble| !trouble.leaves_a_choice())
        {
            return;
        }
        tracing::info!(model = %name, version = %version, "the first choice of a stable version");
        let draft = Draft {
            action: Action::Adopt,
            actor: CONFIGURATION.to_owned(),
            from: None,
            to: Some(version.clone()),
            strategy: None,
            reason: Some("the first start with this model".to_owned()),
            evidence: None,
            details: None,
        };
        let outcome = match model
            .trouble
            .as_ref()
            .map(|trouble| trouble.describe(name, true))
        {
            Some(trouble) => self.hold(&mut model, draft.decide(name.as_str()), &trouble),
            None => self.append(&mut model, draft),
        };
        if let Err(error) = outcome {
            tracing::error!(model = %name, error = ?error, "the first choice could not be made");
        }
    }
}

/// Whether something that is done each `interval` is to be done now; from then on it was done.
fn is_due(last: &Mutex<Option<Instant>>, interval: Duration) -> bool {
    let mut last = lock(last);
    let due = last.is_none_or(|at| at.elapsed() >= interval);
    if due {
        *last = Some(Instant::now());
    }
    due
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads that read on, judge and rehearse; they end when this is dropped.
pub struct Control {
    stop: Vec<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    kept: Kept,
}

impl Control {
    pub fn start(operator: &Arc<Operator>) -> std::io::Result<Control> {
        let mut control = Control {
            stop: Vec::new(),
            threads: Vec::new(),
            kept: operator.kept.clone(),
        };
        control.every("judge", TICK, operator, Operator::tick)?;
        control.every("rehearsal", TICK, operator, Operator::rehearse)?;
        Ok(control)
    }

    fn every(
        &mut self,
        name: &str,
        interval: Duration,
        operator: &Arc<Operator>,
        work: fn(&Operator),
    ) -> std::io::Result<()> {
        let (stop, stopped) = mpsc::channel();
        let operator = Arc::clone(operator);
        let run = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                if catch_unwind(AssertUnwindSafe(|| work(&operator))).is_err() {
                    tracing::error!("a look at the rollouts panicked; the next one goes on");
                    operator.metrics.worker_panics.inc();
                }
            }
        };
        self.threads
            .push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        self.stop.push(stop);
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.clear();
        // A copy of gigabytes is not waited for.
        self.kept.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process::Command, thread};

    use crate::{
        config::Config,
        id::{ModelId, ModelName, Version},
        operate::Control,
        package::bare::Bare,
        registry::{kept::Kept, servable::Contents},
    };

    #[test]
    fn a_copy_under_way_holds_up_no_end() {
        let (models, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directory = models.path().join("m/1");
        let graph = directory.join("model.onnx");
        fs_err::create_dir_all(&directory).unwrap();
        fs_err::write(&graph, "").unwrap();
        let id = ModelId {
            name: ModelName::parse("m").unwrap(),
            version: Version::parse("1").unwrap(),
        };
        let contents = Contents::Bare(Box::new(Bare::open(&directory, &id).unwrap()));
        // A file that is as long as somebody writes.
        fs_err::remove_file(&graph).unwrap();
        assert!(
            Command::new("mkfifo")
                .arg(&graph)
                .status()
                .unwrap()
                .success()
        );
        let mut config = Config::default();
        config.state.url = state.path().to_str().unwrap().to_owned();
        let kept = Kept::of(&config);
        let copier = kept.clone();
        let copier = thread::spawn(move || assert!(copier.keep(&contents, &directory).is_err()));
        let mut source = fs_err::OpenOptions::new().write(true).open(&graph).unwrap();
        let chunk = vec![1; 1 << 20];
        // More than a pipe holds: when it is written the copy is under way.
        source.write_all(&chunk).unwrap();
        let writer = thread::spawn(move || (0..200).find(|_| source.write_all(&chunk).is_err()));
        drop(Control {
            stop: Vec::new(),
            threads: vec![copier],
            kept,
        });
        assert!(
            writer.join().unwrap().is_some(),
            "the copy goes on to its end"
        );
        assert_eq!(
            fs_err::read_dir(state.path().join("packages/m"))
                .unwrap()
                .count(),
            0,
            "what was begun is left"
        );
    }
}
