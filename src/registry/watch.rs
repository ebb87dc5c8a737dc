//! Watch: the loop that looks at the models directory, loads in the background and publishes what is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    config::Config,
    engine::supervisor::Supervisor,
    id::{ModelId, ModelName, Version},
    journal::entry::VersionRef,
    metrics::{LoadOutcome, LoadedInfo, Metrics},
    package::{
        PackageError,
        bare::{self, BareGraph},
        manifest::{self, Manifest},
    },
    registry::{
        IgnoredReason, Model, Registry, Snapshot, VersionState, VersionStatus,
        commander::{Commander, ControlError, Event, Order, PendingOrder},
        ignored::{self, IgnoredPath},
        loader::{LoadFailure, Loader},
        package_copies::PackageCopies,
        reconcile::{self, CopyProgress, LoadAction, LoadPhase, ModelView, RetentionPolicy},
        servable::{Contents, LoadedVersion, Servable},
        source::{self, Listing},
        tracked::{TrackedModel, TrackedVersion, keep},
        traffic::digest_conflict,
    },
};

/// How often draining versions are looked at while there are any.
const DRAIN_TICK: Duration = Duration::from_millis(50);

/// Loads run at this niceness, so that traffic goes on undisturbed.
const LOAD_NICENESS: i32 = 10;

/// How much longer than the gate's limits a load may take.
const LOAD_PATIENCE: Duration = Duration::from_secs(10);

/// Who writes down the first choice of a stable version.
pub trait Adopter: Send + Sync {
    /// Decides that `version` is stable, where nothing was decided yet. What is decided reaches the registry by `decide`.
    fn adopt(&self, name: &ModelName, version: VersionRef);
}

pub struct WatchParts {
    pub registry: Registry,
    pub adopter: Arc<dyn Adopter>,
    pub loader: Arc<Loader>,
    pub metrics: Metrics,
    pub supervisor: Arc<Supervisor>,
    pub kept: PackageCopies,
    pub config: Config,
}

/// The running loop; stops when dropped.
pub struct Watch {
    events: mpsc::Sender<Event>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Watch {
    pub fn start(parts: WatchParts) -> io::Result<Watch> {
        let (events, inbox) = mpsc::channel();
        let looper = Loop {
            parts,
            events: events.clone(),
            models: BTreeMap::new(),
            draining: Vec::new(),
            looked: false,
            settled: false,
            required: BTreeSet::new(),
            listing_failed: false,
            ignored: Arc::default(),
            unreadable: BTreeSet::new(),
            looks: 0,
            loads: BTreeMap::new(),
            attempts: 0,
            pending: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || looper.run(&inbox))?;
        Ok(Watch {
            events,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub fn commander(&self) -> Commander {
        Commander {
            events: self.events.clone(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = thread.join();
        }
    }
}

struct Loop {
    parts: WatchParts,
    events: mpsc::Sender<Event>,
    models: BTreeMap<ModelName, TrackedModel>,
    draining: Vec<Arc<Servable>>,
    /// The directory was listed at least once.
    looked: bool,
    settled: bool,
    required: BTreeSet<ModelName>,
    listing_failed: bool,
    /// What was meant as a model and was not taken at the last look.
    ignored: Arc<[IgnoredPath]>,
    /// Models whose directory could not be read at the last look.
    unreadable: BTreeSet<ModelName>,
    /// Looks at the directory so far.
    looks: u64,
    /// The loads under way by their number, and until when they are waited for.
    loads: BTreeMap<u64, (ModelId, Instant)>,
    attempts: u64,
    pending: Vec<PendingOrder>,
}

impl Loop {
    fn run(mut self, inbox: &mpsc::Receiver<Event>) {
        let mut next_look = Instant::now();
        loop {
            if next_look <= Instant::now() {
                self.look();
                next_look = Instant::now() + self.parts.config.models.poll_interval();
            }
            self.give_up_late_loads();
            self.act();
            self.drain();
            self.publish();
            self.answer_orders();
            let until = if self.draining.is_empty() {
                next_look
            } else {
                next_look.min(Instant::now() + DRAIN_TICK)
            };
            match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::LoadEnded {
                    attempt,
                    fingerprint,
                    outcome,
                    elapsed,
                }) => self.load_ended(attempt, fingerprint, outcome, elapsed),
                Ok(Event::Control { name, order, done }) => self.control(name, order, done),
                Ok(Event::Look { done }) => {
                    self.look();
                    self.act();
                    self.publish();
                    let _ = done.send(());
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Event::Decided) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn look(&mut self) {
        self.looks += 1;
        let root = &self.parts.config.models.root;
        let look = source::list(root);
        let mut ignored = ignored::of(root, &look);
        match look {
            Ok(listing) => {
                if self.listing_failed {
                    tracing::info!(root = %root.display(), "the models directory can be read again");
                }
                self.listing_failed = false;
                self.merge(listing);
            }
            Err(error) => {
                self.parts.metrics.models.source_errors.inc();
                if !self.listing_failed {
                    tracing::error!(root = %root.display(), error = %error, "the models directory can't be read; what is loaded goes on");
                }
                self.listing_failed = true;
            }
        }
        ignored.extend(self.files_gone());
        self.tell_ignored(ignored);
        if !self.looked {
            self.looked = true;
            let configured = self
                .parts
                .config
                .models
                .required
                .iter()
                .filter_map(|name| ModelName::parse(name));
            self.required = configured.collect();
            if self.required.is_empty() {
                self.required = self.models.keys().cloned().collect();
            }
        }
    }

    /// Versions that answer from memory, though their files are gone.
    fn files_gone(&self) -> Vec<IgnoredPath> {
        if self.listing_failed {
            return Vec::new();
        }
        let mut gone = Vec::new();
        for (name, model) in &self.models {
            let is_gone = |known: &TrackedVersion| {
                let kept_alone = known
                    .kept
                    .as_ref()
                    .is_some_and(|(_, instead_of)| instead_of.is_none());
                matches!(known.state, VersionState::Available(_))
                    && (known.found.is_none() || kept_alone)
            };
            if self.unreadable.contains(name) || !model.versions.values().any(is_gone) {
                continue;
            }
            // Others are unloaded.
            let needed = self.model_view(name).unwrap_or_default().needed;
            let versions = model
                .versions
                .iter()
                .filter(|(version, known)| is_gone(known) && needed.contains(*version));
            let root = &self.parts.config.models.root;
            gone.extend(versions.map(|(version, _)| {
                IgnoredPath::files_gone(&root.join(name.as_str()).join(version.as_str()))
            }));
        }
        gone
    }

    /// Says each once, not at each look.
    fn tell_ignored(&mut self, ignored: Vec<IgnoredPath>) {
        for new in ignored
            .iter()
            .filter(|ignored| !self.ignored.contains(ignored))
        {
            let (path, reason) = (new.path.display(), new.reason.name());
            tracing::warn!(path = %path, reason, detail = new.detail, "{}", new.reason.outcome());
        }
        let count = |reason| {
            ignored
                .iter()
                .filter(|ignored| ignored.reason == reason)
                .count()
        };
        for reason in IgnoredReason::ALL {
            self.parts
                .metrics
                .models
                .set_ignored(reason.name(), count(reason));
        }
        self.ignored = ignored.into();
    }

    fn merge(&mut self, listing: Listing) {
        let Listing {
            models: mut found_models,
            unreadable,
            ignored: _,
        } = listing;
        for (name, error) in &unreadable {
            self.parts.metrics.models.source_errors.inc();
            if !self.unreadable.contains(name) {
                tracing::error!(model = %name, error = %error, "the model's directory can't be read; what is loaded of it goes on");
            }
            if !self.looked {
                // A model that is there, but can't be looked into, is waited for.
                self.models.entry(name.clone()).or_default();
            }
        }
        self.unreadable = unreadable.into_keys().collect();
        for (name, model) in self
            .models
            .iter_mut()
            .filter(|(name, _)| !self.unreadable.contains(*name))
        {
            let mut found = found_models.remove(name).unwrap_or_default();
            for (version, known) in &mut model.versions {
                known.look(found.remove(version));
            }
            model.versions.extend(
                found
                    .into_iter()
                    .map(|(version, found)| (version, TrackedVersion::new(found))),
            );
        }
        for (name, found) in found_models {
            // Models that appear while the server is not yet ready for want of any are waited for, too.
            let versions = found
                .into_iter()
                .map(|(version, found)| (version, TrackedVersion::new(found)))
                .collect();
            self.models.insert(
                name.clone(),
                TrackedModel {
                    versions,
                    ..TrackedModel::default()
                },
            );
            if self.looked && self.required.is_empty() {
                self.required.insert(name);
            }
        }
        self.find_kept();
        let keep_versions = self.parts.config.models.keep_versions;
        for (name, model) in self
            .models
            .iter_mut()
            .filter(|(_, model)| model.versions.keys().any(Version::is_number))
        {
            let directory = self.parts.config.models.root.join(name.as_str());
            let stamp = fs_err::metadata(directory.join(bare::CONFIG_FILE))
                .ok()
                .map(|about| (about.len(), about.modified().ok()));
            if model.config_stamp.replace(stamp) == Some(stamp) {
                continue;
            }
            // A configuration that can't be read is the load's to refuse.
            if let Ok(config) = bare::read_config(&directory) {
                model.keep = config.map(|config| keep(&config.version_policy, keep_versions));
            }
        }
    }

    /// What was decided on and lies in the models directory no more is served from its copy.
    fn find_kept(&mut self) {
        let ways = self.parts.registry.ways();
        let leads = |name: &ModelName, version: &Version| {
            ways.iter()
                .any(|(model, named)| model == name && named.version == version.as_str())
        };
        for (name, model) in &mut self.models {
            // A copy that nothing leads to any more goes.
            for (_, known) in model
                .versions
                .iter_mut()
                .filter(|(version, known)| known.kept.is_some() && !leads(name, version))
            {
                (known.found, known.kept) = (None, None);
            }
        }
        for (name, named) in ways {
            if self.unreadable.contains(&name) {
                continue;
            }
            let Some(version) = Version::parse(&named.version) else {
                continue;
            };
            let model = self.models.get(&name);
            let known = model.and_then(|model| model.versions.get(&version));
            // What is loaded stays; while its files are there they are looked at.
            if known.is_some_and(|known| known.found.is_some()) {
                continue;
            }
            let Some(found) = self.parts.kept.found(&name, &named) else {
                continue;
            };
            // Whoever removed a model as a whole, while no server ran, wants it no more.
            if model.is_none() && !self.parts.config.models.root.join(name.as_str()).is_dir() {
                continue;
            }
            tracing::warn!(model = %name, version = %version, "the files of this version are gone from the models directory; the copy kept in the state is served");
            let known = self
                .models
                .entry(name)
                .or_default()
                .versions
                .entry(version)
                .or_insert_with(|| TrackedVersion::new(found.clone()));
            known.kept = Some((
                "its files are gone from the models directory".to_owned(),
                None,
            ));
            known.seen = found.fingerprint;
            known.found = Some(found);
        }
    }

    /// The version was decided on, and what lies in the models directory is not it, or not all of it: its copy is served. `false`
    /// where there is none.
    fn take_kept(&mut self, name: &ModelName, version: &Version, why: &str) -> bool {
        let ways = self.parts.registry.ways();
        let named = ways
            .into_iter()
            .find(|(model, named)| model == name && named.version == version.as_str());
        let Some(found) = named.and_then(|(_, named)| self.parts.kept.found(name, &named)) else {
            return false;
        };
        let Some(known) = self
            .models
            .get_mut(name)
            .and_then(|model| model.versions.get_mut(version))
        else {
            return false;
        };
        if known.kept.is_some() {
            return false;
        }
        // Unless the reason says so itself.
        let advice = if why.contains("a version of its own") {
            ""
        } else {
            "; a changed package needs a version of its own: `predictd pack DIR --bump`"
        };
        tracing::error!(model = %name, version = %version, why, "the files in the models directory are passed over, the copy kept in the state is served{advice}");
        known.kept = Some((
            format!("its files in the models directory are passed over ({why}{advice})"),
            known.found.as_ref().map(|f| f.fingerprint),
        ));
        known.found = Some(found);
        known.state = VersionState::Idle;
        true
    }

    fn control(
        &mut self,
        name: ModelName,
        order: Order,
        done: oneshot::Sender<Result<(), ControlError>>,
    ) {
        if order == Order::Load {
            self.look();
        }
        let Some(model) = self.models.get_mut(&name) else {
            let _ = done.send(Err(ControlError::Unknown));
            return;
        };
        match order {
            Order::Load => {
                model.unloaded = false;
                for known in model
                    .versions
                    .values_mut()
                    .filter(|known| matches!(known.state, VersionState::Refused(_)))
                {
                    known.state = VersionState::Idle;
                }
            }
            Order::Unload => model.unloaded = true,
        }
        tracing::warn!(model = %name, order = ?order, "an operator's order");
        self.pending.push(PendingOrder { name, order, done });
    }

    /// Tells operators whose orders are carried out. What is published is what they then see.
    fn answer_orders(&mut self) {
        for PendingOrder { name, order, done } in std::mem::take(&mut self.pending) {
            if done.is_closed() {
                continue; // Nobody waits for it any more; it is carried out all the same.
            }
            if self.is_busy(&name) {
                self.pending.push(PendingOrder { name, order, done });
                continue;
            }
            let snapshot = self.parts.registry.snapshot();
            let outcome = match snapshot.models.get(&name) {
                None => Err(ControlError::Unknown),
                Some(model) if model.unloaded && order == Order::Unload => Ok(()),
                Some(model) => model
                    .outage(Instant::now())
                    .map_or(Ok(()), |outage| Err(ControlError::Failed(outage.reason))),
            };
            let _ = done.send(outcome);
        }
    }

    fn act(&mut self) {
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in names {
            self.evict_undecided(&name);
            // A version that turns out to be incomplete makes room for an older one at once.
            let mut before = None;
            while let Some(phases) =
                Some(self.phases(&name)).filter(|phases| before.as_ref() != Some(phases))
            {
                before = Some(phases);
                self.carry_out(&name);
            }
            self.adopt(&name);
            let gone = self
                .models
                .get(&name)
                .is_some_and(|model| model.versions.is_empty());
            if gone && !self.unreadable.contains(&name) {
                self.models.remove(&name);
            }
        }
        let arriving = self.models.keys().any(|name| self.is_arriving(name));
        if !self.settled && self.looked && self.loads.is_empty() && !arriving {
            self.settled = true;
            tracing::info!(models = self.models.len(), "models are loaded");
        }
    }

    fn phases(&self, name: &ModelName) -> Vec<LoadPhase> {
        self.models
            .get(name)
            .map(|model| {
                model
                    .versions
                    .values()
                    .map(|known| known.view().phase)
                    .collect()
            })
            .unwrap_or_default()
    }

    fn carry_out(&mut self, name: &ModelName) {
        for action in self.plan(name) {
            match action {
                LoadAction::Load(version) => self.load(name, &version),
                LoadAction::Unload(version) => self.unload(name, &version),
                LoadAction::Compare(version) => self.compare(name, &version),
                LoadAction::Forget(version) => {
                    if let Some(model) = self.models.get_mut(name) {
                        model.versions.remove(&version);
                    }
                }
            }
        }
    }

    /// A version that is wanted came just now and is looked at once more before it is loaded.
    fn is_arriving(&self, name: &ModelName) -> bool {
        let Some(model) = self.models.get(name) else {
            return false;
        };
        let wanted = self
            .plan(name)
            .into_iter()
            .filter_map(|action| match action {
                LoadAction::Load(version) => model.versions.get(&version),
                _ => None,
            });
        wanted.into_iter().any(|known| known.arriving.is_some())
    }

    /// Something about the model changes by itself, soon. A version whose files are incomplete does not.
    fn is_busy(&self, name: &ModelName) -> bool {
        let Some(model) = self.models.get(name) else {
            return false;
        };
        let waits = |version: &Version| match model.versions.get(version) {
            Some(known) => {
                known.arriving.is_some() || !matches!(known.state, VersionState::Incomplete { .. })
            }
            None => false,
        };
        model
            .versions
            .values()
            .any(|known| matches!(known.state, VersionState::Loading))
            || self.plan(name).iter().any(|action| match action {
                LoadAction::Load(version) => waits(version),
                LoadAction::Unload(_) => true,
                LoadAction::Compare(_) | LoadAction::Forget(_) => false,
            })
    }

    fn model_view(&self, name: &ModelName) -> Option<ModelView> {
        let model = self.models.get(name)?;
        let versions = model
            .versions
            .iter()
            .map(|(version, known)| (version.clone(), known.view()))
            .collect();
        let decided = self.parts.registry.decision(name);
        let needed = match &decided {
            _ if model.unloaded => BTreeSet::new(),
            // What answers stays until what was decided on is loaded.
            Some(decision) if decision.stable.is_some() => decision
                .needed()
                .into_iter()
                .chain(self.answering(name))
                .collect(),
            _ => self
                .pinned(name)
                .into_iter()
                .chain(decided.iter().flat_map(|decision| decision.needed()))
                .collect(),
        };
        Some(ModelView { versions, needed })
    }

    fn answering(&self, name: &ModelName) -> Option<Version> {
        let snapshot = self.parts.registry.snapshot();
        let model = snapshot.models.get(name)?;
        model.awaited()?;
        model
            .stable
            .as_ref()
            .map(|servable| servable.id().version.clone())
    }

    fn pinned(&self, name: &ModelName) -> Option<Version> {
        self.parts
            .config
            .pinned(name.as_str())
            .and_then(Version::parse)
    }

    fn plan(&self, name: &ModelName) -> Vec<LoadAction> {
        let Some(model) = self.models.get(name) else {
            return Vec::new();
        };
        let newest = RetentionPolicy::Newest(self.parts.config.models.keep_versions);
        let view = self.model_view(name).unwrap_or_default();
        if model.unloaded {
            return reconcile::plan(&view, &RetentionPolicy::Newest(0));
        }
        reconcile::plan(&view, model.keep.as_ref().unwrap_or(&newest))
    }

    /// Where nothing was decided yet, the first choice is written down.
    fn adopt(&mut self, name: &ModelName) {
        let decided = self
            .parts
            .registry
            .decision(name)
            .is_some_and(|decision| decision.stable.is_some() || decision.trouble.is_some());
        let Some(model) = self
            .models
            .get(name)
            .filter(|model| !decided && !model.unloaded)
        else {
            return;
        };
        if self.is_arriving(name) {
            return;
        }
        let Some(view) = self.model_view(name) else {
            return;
        };
        let chosen = reconcile::first_choice(&view, self.pinned(name).as_ref())
            .and_then(|version| model.versions.get_key_value(&version));
        if let Some((
            version,
            TrackedVersion {
                state: VersionState::Available(servable),
                ..
            },
        )) = chosen
        {
            let digest = servable.digest().to_owned();
            self.parts.adopter.adopt(
                name,
                VersionRef {
                    version: version.to_string(),
                    digest,
                },
            );
        }
    }

    fn load(&mut self, name: &ModelName, version: &Version) {
        // The files of a bare graph must stay as they are for so long.
        let calm = self.parts.config.models.poll_interval() / 2;
        let at_once = if self.settled {
            1
        } else {
            self.parts.loader.cores
        };
        if self.loads.len() >= at_once {
            return;
        }
        let Some(known) = self
            .models
            .get_mut(name)
            .and_then(|model| model.versions.get_mut(version))
        else {
            return;
        };
        let Some(found) = known.found.clone() else {
            return;
        };
        if known.forgiven.is_some_and(|(_, look)| look == self.looks) {
            return; // A copy may be under way: the next look tells.
        }
        let id = ModelId {
            name: name.clone(),
            version: version.clone(),
        };
        known.seen = found.fingerprint;
        if let Some(missing) = self.parts.loader.missing(&found.directory) {
            if self.take_kept(name, version, &missing) {
                return;
            }
            let Some(known) = self
                .models
                .get_mut(name)
                .and_then(|model| model.versions.get_mut(version))
            else {
                return;
            };
            let (limit, now) = (self.parts.config.models.copy_timeout(), Instant::now());
            let copying = CopyProgress::seen(known.copying, found.fingerprint, now);
            known.copying = Some(copying);
            if copying.has_stalled(limit, now) {
                let detail = format!(
                    "{missing}; its files have not changed for {} s: copy it again, or remove it",
                    limit.as_secs_f64()
                );
                let error = PackageError::new("incomplete", "", detail);
                tracing::error!(model = %name, version = %version, reason = error.check, error = %error, "refused");
                let outcome = LoadOutcome::Refused {
                    reason: error.check,
                };
                self.parts.metrics.models.observe_load(
                    name.as_str(),
                    version.as_str(),
                    outcome,
                    Duration::ZERO,
                );
                known.state = VersionState::Refused(error);
                return;
            }
            if !matches!(&known.state, VersionState::Incomplete { missing: before } if *before == missing)
            {
                tracing::warn!(model = %name, version = %version, missing, "the package is incomplete; looking again at each poll");
            }
            known.state = VersionState::Incomplete { missing };
            return;
        }
        if self.parts.loader.just_arrived(&found.directory)
            && !known.arriving.is_some_and(|(fingerprint, seen)| {
                fingerprint == found.fingerprint && seen.elapsed() >= calm
            })
        {
            if known
                .arriving
                .is_none_or(|(fingerprint, _)| fingerprint != found.fingerprint)
            {
                known.arriving = Some((found.fingerprint, Instant::now()));
            }
            known.state = VersionState::Incomplete {
                missing: "a graph without a manifest that arrived just now; looking once more"
                    .to_owned(),
            };
            return;
        }
        known.arriving = None;
        known.state = VersionState::Loading;
        self.attempts += 1;
        let attempt = self.attempts;
        let (loader, events) = (Arc::clone(&self.parts.loader), self.events.clone());
        let started = thread::Builder::new()
            .name(format!("load-{name}"))
            .spawn(move || {
                let start = Instant::now();
                loader.lower_priority(&id, &found.directory, LOAD_NICENESS);
                let load = AssertUnwindSafe(|| loader.load(&found.directory, &id).map(Box::new));
                let panicked = |_| {
                    Err(LoadFailure::Refused(PackageError::new(
                        "runtime",
                        "",
                        "the load panicked",
                    )))
                };
                let outcome = catch_unwind(load).unwrap_or_else(panicked);
                let _ = events.send(Event::LoadEnded {
                    attempt,
                    fingerprint: found.fingerprint,
                    outcome,
                    elapsed: start.elapsed(),
                });
            });
        match started {
            Ok(_) => {
                let id = ModelId {
                    name: name.clone(),
                    version: version.clone(),
                };
                self.loads
                    .insert(attempt, (id, Instant::now() + self.load_limit()));
            }
            Err(error) => {
                tracing::error!(error = %error, "no thread to load a model");
                known.state = VersionState::Idle;
            }
        }
    }

    /// The gate has a limit of its own; what follows it are a load and a run that the gate has seen succeed.
    fn load_limit(&self) -> Duration {
        self.parts.config.models.gate_timeout() * 2 + LOAD_PATIENCE
    }

    /// A load that hangs may neither keep the server from being ready nor other models from being loaded.
    fn give_up_late_loads(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> = self
            .loads
            .iter()
            .filter(|(_, (_, deadline))| *deadline <= now)
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in late {
            let limit = self.load_limit();
            let error = PackageError::new(
                "timeout",
                crate::package::MODEL_FILE,
                format!("the load took longer than {} s", limit.as_secs()),
            );
            self.load_ended(attempt, 0, Err(LoadFailure::Refused(error)), limit);
        }
    }

    fn load_ended(
        &mut self,
        attempt: u64,
        fingerprint: u64,
        outcome: Result<Box<LoadedVersion>, LoadFailure>,
        elapsed: Duration,
    ) {
        // One that was given up is over, whatever it still brings.
        let Some((id, _)) = self.loads.remove(&attempt) else {
            return;
        };
        let look = self.looks;
        let metrics = &self.parts.metrics;
        let Some(known) = self
            .models
            .get_mut(&id.name)
            .and_then(|model| model.versions.get_mut(&id.version))
        else {
            return;
        };
        let decision = self.parts.registry.decision(&id.name);
        let admitted = |loaded: Box<LoadedVersion>| {
            let digest = &loaded.contents.manifest().digest;
            match decision
                .as_ref()
                .and_then(|decision| digest_conflict(&decision.digests, &id.version, digest))
            {
                Some(error) => Err(LoadFailure::Refused(error)),
                None => Ok(loaded),
            }
        };
        let outcome = outcome.and_then(admitted).and_then(|loaded| {
            let handles = metrics.version(id.name.as_str(), id.version.as_str());
            let digest = loaded.contents.manifest().digest.clone();
            Servable::start(*loaded, handles, &self.parts.supervisor)
                .map(|servable| (servable, digest))
                .map_err(|error| {
                    LoadFailure::Refused(PackageError::new(
                        "runtime",
                        "",
                        format!("no thread for its workers: {error}"),
                    ))
                })
        });
        match outcome {
            Ok((servable, digest)) => {
                tracing::info!(model = %id.name, version = %id.version, digest, milliseconds = elapsed.as_millis(), workers = servable.workers, "loaded");
                metrics.models.observe_load(
                    id.name.as_str(),
                    id.version.as_str(),
                    LoadOutcome::Loaded,
                    elapsed,
                );
                known.state = VersionState::Available(Arc::new(servable));
                known.warning = None;
            }
            Err(LoadFailure::Incomplete(missing)) => {
                known.state = VersionState::Incomplete { missing }
            }
            Err(LoadFailure::Refused(error)) => {
                // While a copy is under way a file can have its size and not yet its bytes.
                let unchanged = known
                    .forgiven
                    .is_some_and(|(before, _)| before == fingerprint);
                let bare = known
                    .found
                    .as_ref()
                    .is_some_and(|found| self.parts.loader.is_bare(&found.directory));
                let maybe_short = matches!(error.check, "manifest" | "files" | "hashes")
                    || bare && error.check == "graph";
                if maybe_short && !unchanged {
                    known.forgiven = Some((fingerprint, look));
                    known.state = VersionState::Incomplete {
                        missing: format!("may still be being copied: {error}"),
                    };
                    return;
                }
                if self.take_kept(&id.name, &id.version, &error.to_string()) {
                    return;
                }
                tracing::error!(model = %id.name, version = %id.version, reason = error.check, error = %error, "refused");
                let Some(known) = self
                    .models
                    .get_mut(&id.name)
                    .and_then(|model| model.versions.get_mut(&id.version))
                else {
                    return;
                };
                self.parts.metrics.models.observe_load(
                    id.name.as_str(),
                    id.version.as_str(),
                    LoadOutcome::Refused {
                        reason: error.check,
                    },
                    elapsed,
                );
                known.state = VersionState::Refused(error);
            }
        }
    }

    /// A version was loaded before its journal could be read, and is not what was decided on: its copy takes its place, or nothing.
    fn evict_undecided(&mut self, name: &ModelName) {
        let Some(decision) = self.parts.registry.decision(name) else {
            return;
        };
        let Some(model) = self.models.get_mut(name) else {
            return;
        };
        let mut evicted = Vec::new();
        for (version, known) in &mut model.versions {
            let VersionState::Available(servable) = &known.state else {
                continue;
            };
            let Some(error) = digest_conflict(&decision.digests, version, servable.digest()) else {
                continue;
            };
            if let VersionState::Available(servable) =
                std::mem::replace(&mut known.state, VersionState::Refused(error.clone()))
            {
                self.draining.push(servable);
            }
            evicted.push((version.clone(), error));
        }
        for (version, error) in evicted {
            if !self.take_kept(name, &version, &error.to_string()) {
                tracing::error!(model = %name, version = %version, reason = error.check, error = %error, "refused");
            }
        }
    }

    fn unload(&mut self, name: &ModelName, version: &Version) {
        let Some(known) = self
            .models
            .get_mut(name)
            .and_then(|model| model.versions.get_mut(version))
        else {
            return;
        };
        if let VersionState::Available(servable) =
            std::mem::replace(&mut known.state, VersionState::Draining)
        {
            tracing::info!(model = %name, version = %version, removed = known.found.is_none(), "draining");
            self.draining.push(servable);
        }
    }

    /// Lets go of versions that no request holds any more.
    fn drain(&mut self) {
        let mut still = Vec::new();
        for servable in std::mem::take(&mut self.draining) {
            // The published snapshot no longer has it, so the count can only fall.
            if Arc::strong_count(&servable) > 1 || servable.batcher.queue_len() > 0 {
                still.push(servable);
                continue;
            }
            let id = servable.id().clone();
            drop(servable);
            tracing::info!(model = %id.name, version = %id.version, "unloaded");
            let known = self
                .models
                .get_mut(&id.name)
                .and_then(|model| model.versions.get_mut(&id.version));
            // It may have been loaded again meanwhile: then its series are the new one's.
            if known.as_ref().is_none_or(|known| {
                !matches!(
                    known.state,
                    VersionState::Loading | VersionState::Available(_)
                )
            }) {
                self.parts
                    .metrics
                    .forget_version(id.name.as_str(), id.version.as_str());
            }
            if let Some(known) = known.filter(|known| matches!(known.state, VersionState::Draining))
            {
                known.state = VersionState::Idle;
            }
        }
        self.draining = still;
    }

    /// The directory of a loaded version changed. A package is immutable: another digest is refused and the loaded one goes on.
    fn compare(&mut self, name: &ModelName, version: &Version) {
        let Some(known) = self
            .models
            .get_mut(name)
            .and_then(|model| model.versions.get_mut(version))
        else {
            return;
        };
        let (Some(found), VersionState::Available(servable)) = (&known.found, &known.state) else {
            return;
        };
        known.seen = found.fingerprint;
        let now = match &servable.contents {
            Contents::Package(_) => Manifest::read(&found.directory),
            Contents::Bare(bare) => {
                BareGraph::open(&found.directory, &bare.id).map(|bare| bare.manifest)
            }
        };
        let outcome = now.and_then(|manifest| match manifest.digest == servable.digest() {
            true => manifest.check_files(&found.directory),
            false => Err(PackageError::new(
                "overwritten",
                manifest::FILE,
                format!(
                    "has digest {}, but {} is loaded",
                    manifest.digest,
                    servable.digest()
                ),
            )),
        });
        known.warning =
            outcome.err().map(|error| format!("the files of this version were changed and are refused, the loaded ones go on: {error}"));
        if let Some(warning) = &known.warning {
            tracing::error!(model = %name, version = %version, warning, "a loaded version was overwritten");
            self.parts.metrics.models.observe_load(
                name.as_str(),
                version.as_str(),
                LoadOutcome::Refused {
                    reason: "overwritten",
                },
                Duration::ZERO,
            );
        }
    }

    fn publish(&mut self) {
        let mut models = BTreeMap::new();
        for (name, known) in &self.models {
            let versions: BTreeMap<Version, VersionStatus> = known
                .versions
                .iter()
                .map(|(version, known)| {
                    (
                        version.clone(),
                        VersionStatus {
                            state: known.state.clone(),
                            warning: known.warning(),
                        },
                    )
                })
                .collect();
            let snapshot = self.parts.registry.snapshot();
            let before = snapshot.models.get(name);
            let model = Model {
                stable: before.and_then(|model| model.stable.clone()),
                decided: None,
                left: BTreeSet::new(),
                trouble: None,
                notices: Vec::new(),
                previous: None,
                traffic: None,
                fallback: self
                    .parts
                    .config
                    .model
                    .get(name.as_str())
                    .and_then(|own| own.fallback.clone())
                    .map(Arc::new),
                samples: before.and_then(|model| model.samples.clone()),
                versions,
                unversioned: self.parts.metrics.unversioned(name.as_str()),
                pinned: self.pinned(name),
                unloaded: known.unloaded,
            };
            models.insert(name.clone(), model);
        }
        // What an operator unloaded is not waited for.
        let required = self
            .required
            .iter()
            .filter(|name| !self.models.get(*name).is_some_and(|model| model.unloaded));
        let configured = ModelName::parse(&self.parts.config.models.default);
        let only = (models.len() == 1)
            .then(|| models.keys().next().cloned())
            .flatten();
        self.parts.registry.publish(Snapshot {
            models,
            required: required.cloned().collect(),
            none_required: self.required.is_empty(),
            default: configured.or(only),
            settled: self.settled,
            named: !self.parts.config.models.required.is_empty(),
            ignored: Arc::clone(&self.ignored),
        });
        self.tell_roles();
    }

    /// Says in the metrics what each loaded version is for.
    fn tell_roles(&mut self) {
        let snapshot = self.parts.registry.snapshot();
        for (name, known) in &mut self.models {
            let model = snapshot.models.get(name);
            let awaited = model.and_then(Model::awaited).cloned();
            if awaited != known.awaited {
                if let (Some(awaited), Some(stable)) =
                    (&awaited, model.and_then(|model| model.stable.as_ref()))
                {
                    tracing::error!(model = %name, decided = %awaited, answering = %stable.id().version, "the stable version is not loaded here; what answered until now goes on");
                }
                known.awaited = awaited;
            }
            for (version, known) in &mut known.versions {
                let role = match (&known.state, model) {
                    (VersionState::Available(servable), Some(model)) => {
                        known.digest = servable.digest().to_owned();
                        known.verified = servable.contents.is_verified();
                        Some(model.role(servable))
                    }
                    _ => None,
                };
                if role != known.role {
                    let loaded = LoadedInfo {
                        model: name.as_str(),
                        version: version.as_str(),
                        digest: &known.digest,
                        verified: known.verified,
                    };
                    self.parts.metrics.models.set_role(loaded, known.role, role);
                    known.role = role;
                }
            }
        }
    }
}
