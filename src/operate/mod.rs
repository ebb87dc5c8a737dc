//! The control plane. Every change of the version that answers requests is a decision. A decision
//! is checked, written to the journal, and only then takes effect. Operators, the judge and the
//! configuration all decide through this folder.

mod adoption;
mod arm_runs;
mod compatibility;
mod control;
mod copies;
mod decide;
mod drift;
mod enforce;
mod error;
mod evidence;
mod follow;
mod judge;
mod load;
mod model;
mod model_status;
mod newest;
mod pending;
mod promote;
mod rehearsal;
mod rehearsal_error;
mod repair;
mod rollback;
mod running_step;
mod start;
mod steps;
mod trouble;
mod webhook;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

pub(crate) use control::Control;
pub(crate) use error::OperateError;
pub(crate) use webhook::Webhook;

use crate::{
    config::{CostConfig, ModelsConfig},
    error::text_with_sources,
    id::{ModelName, PredictionId},
    journal::{Journal, store::Store},
    metrics::Metrics,
    operate::model::ModelControl,
    registry::{Commander, Registry, package_copies::PackageCopies},
};

/// Maximum length of a host name in object names. A longer name is cut.
const MAX_HOST_NAME: usize = 64;

pub(crate) struct OperatorParts {
    pub registry: Registry,
    pub store: Store,
    pub metrics: Metrics,
    pub kept: PackageCopies,
    pub settings: OperatorSettings,
    pub webhook: Option<Webhook>,
}

/// The settings that decisions depend on.
pub(crate) struct OperatorSettings {
    pub models: ModelsConfig,
    pub cost: CostConfig,
    /// The value of `[model.NAME] version` for each model that has one.
    pub pinned: BTreeMap<String, String>,
}

/// Makes decisions, and follows the decisions of other replicas.
pub(crate) struct Operator {
    registry: Registry,
    journal: Journal,
    store: Store,
    metrics: Metrics,
    kept: PackageCopies,
    settings: OperatorSettings,
    webhook: Option<Webhook>,
    commander: OnceLock<Commander>,
    models: Mutex<BTreeMap<ModelName, Arc<Mutex<ModelControl>>>>,
    /// The name under which this process writes its evidence: `REPLICA-BOOT`.
    process: String,
    /// The time of the last check that disk space is reserved for urgent decisions.
    reserve_checked: Mutex<Option<Instant>>,
    /// The time of the last full read of all journals.
    reread_at: Mutex<Option<Instant>>,
}

impl Operator {
    /// Reads every journal. Afterwards the decisions in the journals apply.
    pub(crate) fn new(parts: OperatorParts) -> Arc<Operator> {
        let OperatorParts {
            registry,
            store,
            metrics,
            kept,
            settings,
            webhook,
        } = parts;
        let operator = Operator {
            registry,
            journal: Journal::new(store.clone()),
            store,
            metrics,
            kept,
            settings,
            webhook,
            commander: OnceLock::new(),
            models: Mutex::default(),
            process: format!("{}-{}", host_name(), PredictionId::new()),
            reserve_checked: Mutex::default(),
            reread_at: Mutex::new(Some(Instant::now())),
        };
        operator.store.sweep();
        match operator.journal.models() {
            Ok(names) => {
                for name in names.iter().filter_map(|name| ModelName::parse(name)) {
                    operator.read_at_start(&name);
                }
            }
            Err(error) => {
                tracing::error!(
                    error = %text_with_sources(&error),
                    "the journals can't be listed; no decision is possible"
                )
            }
        }
        Arc::new(operator)
    }

    fn read_at_start(&self, name: &ModelName) {
        let controlled = self.controlled(name);
        let mut model = lock(&controlled);
        self.replay(&mut model);
        let pinned = self.settings.pinned.get(name.as_str());
        if let (Some(pinned), Some(stable)) = (pinned, &model.state.stable)
            && *pinned != stable.version
        {
            tracing::warn!(
                model = %name,
                pinned,
                stable = %stable,
                "the pinned version is ignored: after the first start only the journal decides; \
                 `predictd rollback --to` changes it"
            );
        }
    }

    /// Connects the loop of the registry that loads the versions that decisions need.
    pub(crate) fn connect(&self, commander: Commander) {
        // Only the composition root calls this, and only once.
        let _ = self.commander.set(commander);
    }

    fn controlled(&self, name: &ModelName) -> Arc<Mutex<ModelControl>> {
        let mut models = lock(&self.models);
        let new = || Arc::new(Mutex::new(ModelControl::new(name.clone())));
        Arc::clone(models.entry(name.clone()).or_insert_with(new))
    }

    /// The models that have a journal, or that appeared in an order.
    fn names(&self) -> Vec<ModelName> {
        lock(&self.models).keys().cloned().collect()
    }

    /// Returns the name if the model is served or has a journal.
    fn known(&self, name: &str) -> Result<ModelName, OperateError> {
        let unknown = || OperateError::UnknownModel(name.to_owned());
        let parsed = ModelName::parse(name).ok_or_else(unknown)?;
        let served = self.registry.snapshot().models.contains_key(&parsed);
        if served || self.names().contains(&parsed) {
            Ok(parsed)
        } else {
            Err(unknown())
        }
    }

    /// Runs `work` on the current decisions about a model, unless the journal is damaged.
    fn with<T>(
        &self,
        name: &ModelName,
        work: impl FnOnce(&mut ModelControl) -> Result<T, OperateError>,
    ) -> Result<T, OperateError> {
        let controlled = self.controlled(name);
        let mut model = lock(&controlled);
        self.follow(&mut model);
        // An urgent decision may be written later. Therefore only a problem that forbids even
        // urgent decisions ends here.
        match &model.trouble {
            Some(trouble) if trouble.forbids(true) => Err(OperateError::NoDecision {
                model: name.clone(),
                suggestion: trouble.suggestion(model.known),
                trouble: trouble.clone(),
            }),
            _ => work(&mut model),
        }
    }
}

/// The name of this machine, in characters that are allowed in object names.
fn host_name() -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .chars()
        .map(allowed)
        .take(MAX_HOST_NAME)
        .collect()
}

/// Whether work that is done once per `interval` is due. If it is due, the current time becomes the
/// time of the last run.
fn is_due(last: &Mutex<Option<Instant>>, interval: Duration) -> bool {
    let mut last = lock(last);
    let due = last.is_none_or(|at| at.elapsed() >= interval);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// Locks, also after another thread panicked: decisions are swapped whole, so they stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
