//! `Core`: all parts below the transports. They are built from the configuration and started in
//! order.

use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;

use crate::{
    api::{
        Api, ApiParts,
        http::{
            self,
            admin::{Admin, Authentication},
        },
    },
    app::cores,
    config::Config,
    engine::{infer::Runtime, supervisor::Supervisor},
    journal::store::Store,
    metrics::Metrics,
    operate::{Control, Operator, OperatorParts, OperatorSettings, Webhook},
    predict::Predictor,
    registry::{
        GateCache, Registry, Watch, WatchParts, loader::Loader, package_copies::PackageCopies,
        trial::GateTrial,
    },
    security::tokens::Operators,
};

/// All parts below the transports.
pub(super) struct Core {
    pub registry: Registry,
    pub operator: Arc<Operator>,
    pub watch: Watch,
    pub control: Control,
}

impl Core {
    pub(super) fn start(
        config: &Config,
        onnxruntime: Runtime,
        trial: GateTrial,
        metrics: &Metrics,
    ) -> anyhow::Result<Core> {
        let registry = Registry::default();
        let kept = PackageCopies::of(&config.state);
        let loader = Loader {
            trial,
            gate_cache: GateCache::new(config.state.directory(), onnxruntime.version()),
            runtime: onnxruntime,
            settings: config.model_settings(),
            require_manifest: config.models.require_manifest,
            metrics: metrics.clone(),
            copies: kept.clone(),
            cores: cores(),
        };
        let store = match config.state.directory() {
            Some(directory) => Store::local(directory)?,
            None => Store::memory()?,
        };
        let operator = Operator::new(OperatorParts {
            registry: registry.clone(),
            store,
            metrics: metrics.clone(),
            kept: kept.clone(),
            settings: OperatorSettings {
                models: config.models.clone(),
                cost: config.cost.clone(),
                pinned: config.pinned_versions(),
            },
            webhook: Webhook::start(&config.admin.webhook, metrics)?,
        });
        let watch = Watch::start(WatchParts {
            registry: registry.clone(),
            adopter: Arc::<Operator>::clone(&operator),
            loader: Arc::new(loader),
            metrics: metrics.clone(),
            supervisor: Arc::new(Supervisor::start()?),
            copies: kept,
            models: config.models.clone(),
            settings: config.model_settings(),
        })?;
        operator.connect(watch.commander());
        Ok(Core {
            registry,
            control: Control::start(&operator)?,
            operator,
            watch,
        })
    }

    pub(super) fn api(
        &self,
        config: &Config,
        metrics: &Metrics,
        dropped_log_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> anyhow::Result<Arc<Api>> {
        let max_wedged = match config.runtime.max_wedged {
            0 => cores(),
            limit => limit,
        };
        Ok(Api::new(ApiParts {
            registry: self.registry.clone(),
            predictor: Predictor::new(self.registry.clone(), cores(), Vec::new())?,
            metrics: metrics.clone(),
            config: config.server.clone(),
            platform: config.platform.clone(),
            max_wedged,
            request_log: config.telemetry.request_log,
            dropped_log_lines,
        }))
    }

    pub(super) fn admin(
        &self,
        listener: TcpListener,
        operators: Option<Operators>,
        api: &Arc<Api>,
    ) -> anyhow::Result<(TcpListener, Router)> {
        let user = std::env::var_os("USER").map_or_else(
            || "unknown".to_owned(),
            |user| user.to_string_lossy().into_owned(),
        );
        let admin = Admin {
            api: Arc::clone(api),
            commander: self.watch.commander(),
            operator: Arc::clone(&self.operator),
            authentication: Authentication {
                operators,
                address: listener.local_addr()?,
                user,
            },
        };
        Ok((listener, http::admin::router(Arc::new(admin))))
    }
}
