//! Health: `grpc.health.v1`, for the server under the empty name and for each model under its own.

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
    api::{Api, grpc::infer},
    error::ErrorCode,
    registry::not_ready,
    schema::fault::shorten,
};

/// How often a watcher's answer is looked at again: a version may fall ill without anybody announcing it.
const WATCH_TICK: Duration = Duration::from_millis(200);

pub struct Health {
    api: Arc<Api>,
    stopped: watch::Receiver<bool>,
}

impl Health {
    pub fn new(api: Arc<Api>, stopped: watch::Receiver<bool>) -> Health {
        Health { api, stopped }
    }
}

/// `None` for a name that is nobody's.
fn status(api: &Api, service: &str) -> Option<ServingStatus> {
    let snapshot = api.registry.snapshot();
    let now = Instant::now();
    let serves = match snapshot.models.get(service) {
        Some(model) => model.outage(now).is_none(),
        None if service.is_empty() => not_ready(&snapshot, now).is_empty(),
        // Waited for, or missing: known all the same.
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

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let status = status(&self.api, &service).ok_or_else(|| {
            let detail = format!("there is no service or model \"{}\"", shorten(&service));
            infer::status(ErrorCode::NotFound, detail)
        })?;
        Ok(Response::new(answer(status)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Tells of every change, until the server stops.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let state = (Arc::clone(&self.api), service, self.stopped.clone(), None);
        let changes = stream::unfold(state, |(api, service, mut stopped, told)| async move {
            loop {
                let now = status(&api, &service).unwrap_or(ServingStatus::ServiceUnknown);
                if told != Some(now) {
                    return Some((Ok(answer(now)), (api, service, stopped, Some(now))));
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
