//! `GRPCInferenceService`: the protocol's calls, each a reading of the message, one call, and an answer.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use futures_util::Stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    api::{
        grpc::inference::{
            ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
            ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
            RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
            RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
            ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
        },
        http::Api,
    },
    registry::not_ready,
};

type Answered<T> = Result<Response<T>, Status>;

pub struct Inference {
    api: Arc<Api>,
    stopped: watch::Receiver<bool>,
}

impl Inference {
    pub fn new(api: Arc<Api>, stopped: watch::Receiver<bool>) -> Inference {
        Inference { api, stopped }
    }
}

/// Load and unload change what is served, and the data plane changes nothing.
fn not_here() -> Status {
    Status::unimplemented(
        "models are loaded and unloaded on the admin listener (admin.listen), over HTTP: POST /v2/repository/models/NAME/load",
    )
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answered<ServerLiveResponse> {
        let wedged = usize::try_from(self.api.metrics.wedged_workers.get()).unwrap_or_default();
        Ok(Response::new(ServerLiveResponse { live: wedged < self.api.max_wedged }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answered<ServerReadyResponse> {
        let ready = !self.api.draining.load(Ordering::Relaxed) && not_ready(&self.api.registry.snapshot(), Instant::now()).is_empty();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, _: Request<ModelReadyRequest>) -> Answered<ModelReadyResponse> {
        Err(Status::unimplemented("not yet"))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Answered<ServerMetadataResponse> {
        Err(Status::unimplemented("not yet"))
    }

    async fn model_metadata(&self, _: Request<ModelMetadataRequest>) -> Answered<ModelMetadataResponse> {
        Err(Status::unimplemented("not yet"))
    }

    async fn model_infer(&self, _: Request<ModelInferRequest>) -> Answered<ModelInferResponse> {
        Err(Status::unimplemented("not yet"))
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(&self, _: Request<Streaming<ModelInferRequest>>) -> Answered<Self::ModelStreamInferStream> {
        let _ = &self.stopped;
        Err(Status::unimplemented("not yet"))
    }

    async fn model_config(&self, _: Request<ModelConfigRequest>) -> Answered<ModelConfigResponse> {
        Err(Status::unimplemented("not yet"))
    }

    async fn model_statistics(&self, _: Request<ModelStatisticsRequest>) -> Answered<ModelStatisticsResponse> {
        Err(Status::unimplemented("not yet"))
    }

    async fn repository_index(&self, _: Request<RepositoryIndexRequest>) -> Answered<RepositoryIndexResponse> {
        Err(Status::unimplemented("not yet"))
    }

    async fn repository_model_load(&self, _: Request<RepositoryModelLoadRequest>) -> Answered<RepositoryModelLoadResponse> {
        Err(not_here())
    }

    async fn repository_model_unload(&self, _: Request<RepositoryModelUnloadRequest>) -> Answered<RepositoryModelUnloadResponse> {
        Err(not_here())
    }
}
