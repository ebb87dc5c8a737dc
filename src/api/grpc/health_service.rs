//! Health checks (`grpc.health.v1`). The empty service name means the server. The name of a model
//! means that model.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

use crate::{
    api::{Api, grpc::status::status, refusal::Refusal},
    error::ErrorCode,
    registry::not_ready,
    schema::fault::shorten,
};

/// The interval at which the status for a watching client is computed again. No event announces
/// that a version stopped answering.
const WATCH_TICK: Duration = Duration::from_millis(200);

pub(super) struct HealthService {
    api: Arc<Api>,
    stopped: watch::Receiver<bool>,
}

impl HealthService {
    pub(super) fn new(api: Arc<Api>, stopped: watch::Receiver<bool>) -> HealthService {
        HealthService { api, stopped }
    }
}

/// The status of a service. `None` for an unknown name.
fn serving_status(api: &Api, service: &str) -> Option<ServingStatus> {
    let snapshot = api.registry.snapshot();
    let now = Instant::now();
    let serves = match snapshot.models.get(service) {
        Some(model) => model.outage(now).is_none(),
        // The empty name means the server.
        None if service.is_empty() => not_ready(&snapshot, now).is_empty(),
        // A required model is known from the configuration before its files arrive.
        None if snapshot.required.contains(service) => false,
        None => return None,
    };
    let serves = serves && !api.draining.load(Ordering::Relaxed);
    Some(if serves {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let serving = serving_status(&self.api, &service).ok_or_else(|| {
            let detail = format!("there is no service or model \"{}\"", shorten(&service));
            status(Refusal::new(ErrorCode::NotFound, detail))
        })?;
        Ok(Response::new(response(serving)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Sends every change of the status until the server stops.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let state = (Arc::clone(&self.api), service, self.stopped.clone(), None);
        // The first status is sent at once, because no status was sent before.
        let changes = stream::unfold(state, |(api, service, mut stopped, sent)| async move {
            loop {
                let now = serving_status(&api, &service).unwrap_or(ServingStatus::ServiceUnknown);
                if sent != Some(now) {
                    return Some((Ok(response(now)), (api, service, stopped, Some(now))));
                }
                let stops = tokio::time::timeout(WATCH_TICK, stopped.wait_for(|stop| *stop)).await;
                if stops.is_ok() {
                    return None;
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
