//! The calls of `GRPCInferenceService` that run no model: liveness, readiness, metadata,
//! configuration and statistics.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use tonic::{Request, Response, Status};

use crate::{
    api::{
        Api,
        grpc::{
            call_context::context,
            inference::{
                DataType, InferBatchStatistics, InferStatistics, ModelConfig, ModelConfigRequest,
                ModelConfigResponse, ModelDynamicBatching, ModelInput, ModelInstanceGroup,
                ModelMetadataRequest, ModelMetadataResponse, ModelOutput, ModelReadyRequest,
                ModelReadyResponse, ModelStatistics, ModelStatisticsRequest,
                ModelStatisticsResponse, ModelVersionPolicy, RepositoryIndexRequest,
                RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
                RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest,
                ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
                ServerReadyRequest, ServerReadyResponse, StatisticDuration,
                grpc_inference_service_server::GrpcInferenceService,
                model_config::SchedulingChoice,
                model_instance_group::Kind,
                model_metadata_response::TensorMetadata,
                model_version_policy::{PolicyChoice, Specific},
                repository_index_response::ModelIndex,
            },
            status::status,
        },
        oip::{self, ModelConfiguration, error_status},
        refusal::Refusal,
    },
    error::ErrorCode,
    metrics::{Protocol, statistics::Total},
    registry::route::Target,
    tensor::signature::TensorSpec,
};

type ServiceResult<T> = Result<Response<T>, Status>;

pub(super) struct InferenceService {
    api: Arc<Api>,
}

impl InferenceService {
    pub(super) fn new(api: Arc<Api>) -> InferenceService {
        InferenceService { api }
    }

    /// Returns the response, or counts and logs a refusal and returns its status.
    fn respond<M, T>(&self, request: &Request<M>, outcome: Result<T, Refusal>) -> ServiceResult<T> {
        outcome.map(Response::new).map_err(|refusal| {
            self.api.count_unrouted(
                Protocol::Grpc,
                refusal.code,
                error_status(refusal.code),
                &context(request.metadata().as_ref()),
            );
            status(refusal)
        })
    }

    /// Refuses to load or unload a model. This listener never changes which models are served.
    fn refuse_control<M, T>(&self, request: &Request<M>) -> ServiceResult<T> {
        let detail =
            "models are loaded and unloaded on the admin listener (admin.listen), over HTTP";
        self.respond(request, Err(Refusal::new(ErrorCode::Unsupported, detail)))
    }
}

/// Creates a target. An empty version means that the server chooses.
fn target<'a>(name: &'a str, version: &'a str) -> Target<'a> {
    Target {
        model: Some(name),
        version: non_empty(version),
    }
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> ServiceResult<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse {
            live: self.api.is_alive(),
        }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> ServiceResult<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse {
            ready: self.api.is_ready(),
        }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> ServiceResult<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.get_ref();
        let ready = oip::is_ready(&self.api.registry.snapshot(), target(name, version));
        // A draining server still answers requests, but reports not ready so that it gets no new
        // ones.
        let draining = self.api.draining.load(Ordering::Relaxed);
        self.respond(
            &request,
            ready.map(|ready| ModelReadyResponse {
                ready: ready && !draining,
            }),
        )
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> ServiceResult<ServerMetadataResponse> {
        Ok(Response::new(ServerMetadataResponse {
            name: oip::SERVER_NAME.to_owned(),
            version: oip::SERVER_VERSION.to_owned(),
            extensions: oip::EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> ServiceResult<ModelMetadataResponse> {
        let ModelMetadataRequest { name, version } = request.get_ref();
        let metadata = oip::model_metadata(&self.api.registry.snapshot(), target(name, version));
        let message = metadata.map(|metadata| ModelMetadataResponse {
            name: metadata.name,
            versions: metadata.versions,
            platform: oip::PLATFORM.to_owned(),
            inputs: metadata.inputs.iter().map(tensor_metadata).collect(),
            outputs: metadata.outputs.iter().map(tensor_metadata).collect(),
            properties: BTreeMap::new(),
        });
        self.respond(&request, message)
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> ServiceResult<ModelConfigResponse> {
        let ModelConfigRequest { name, version } = request.get_ref();
        let configuration =
            oip::model_configuration(&self.api.registry.snapshot(), target(name, version));
        self.respond(
            &request,
            configuration.map(|configuration| ModelConfigResponse {
                config: Some(model_config_message(configuration)),
            }),
        )
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> ServiceResult<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.get_ref();
        let models = oip::statistics(
            &self.api.registry.snapshot(),
            non_empty(name),
            non_empty(version),
        );
        self.respond(
            &request,
            models.map(|models| ModelStatisticsResponse {
                model_stats: models.into_iter().map(statistics_message).collect(),
            }),
        )
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> ServiceResult<RepositoryIndexResponse> {
        let entries = oip::repository_index(&self.api.registry.snapshot(), request.get_ref().ready);
        let models = entries.into_iter().map(|entry| ModelIndex {
            name: entry.name,
            version: entry.version,
            state: entry.state.name().to_owned(),
            reason: entry.reason,
        });
        Ok(Response::new(RepositoryIndexResponse {
            models: models.collect(),
        }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> ServiceResult<RepositoryModelLoadResponse> {
        self.refuse_control(&request)
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> ServiceResult<RepositoryModelUnloadResponse> {
        self.refuse_control(&request)
    }
}

fn tensor_metadata(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata {
        name: spec.name.to_string(),
        datatype: spec.datatype.protocol_name().to_owned(),
        shape: spec
            .shape
            .0
            .iter()
            .map(|dim| oip::dim_to_wire(*dim))
            .collect(),
    }
}

fn model_config_message(configuration: ModelConfiguration) -> ModelConfig {
    let data_type = |name: &str| {
        DataType::from_str_name(name)
            .unwrap_or(DataType::TypeInvalid)
            .into()
    };
    let input = |tensor: oip::ConfiguredTensor| ModelInput {
        data_type: data_type(&tensor.data_type),
        name: tensor.name,
        dims: tensor.dims,
        optional: false,
    };
    let output = |tensor: oip::ConfiguredTensor| ModelOutput {
        data_type: data_type(&tensor.data_type),
        name: tensor.name,
        dims: tensor.dims,
        label_filename: tensor.label_filename,
    };
    // The message uses 32-bit numbers.
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    // Triton's versions are numbers. A version that is not a number can't be in the message.
    let version = configuration.version.parse().ok();
    // The configuration of one version must name exactly this version.
    let specific = version.map(|version| {
        PolicyChoice::Specific(Specific {
            versions: vec![version],
        })
    });
    let batching = |delay| {
        SchedulingChoice::DynamicBatching(ModelDynamicBatching {
            max_queue_delay_microseconds: delay,
            ..ModelDynamicBatching::default()
        })
    };
    ModelConfig {
        platform: oip::PLATFORM.to_owned(),
        backend: oip::BACKEND.to_owned(),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: specific,
        }),
        max_batch_size: count(configuration.max_batch_size),
        input: configuration.inputs.into_iter().map(input).collect(),
        output: configuration.outputs.into_iter().map(output).collect(),
        instance_group: vec![ModelInstanceGroup {
            name: configuration.name.clone(),
            count: count(configuration.instances),
            kind: Kind::Cpu.into(),
        }],
        default_model_filename: "model.onnx".to_owned(),
        scheduling_choice: configuration.max_queue_delay_us.map(batching),
        parameters: BTreeMap::new(),
        name: configuration.name,
    }
}

fn statistics_message(model: oip::ModelStatistics) -> ModelStatistics {
    let total = |total: &Total| {
        Some(StatisticDuration {
            count: total.count,
            ns: total.nanoseconds,
        })
    };
    let none = Some(StatisticDuration::default());
    let numbers = model.numbers;
    let batch = |(rows, infer): &(usize, Total)| InferBatchStatistics {
        batch_size: *rows as u64,
        // Only the whole run is timed, not its parts.
        compute_input: none,
        compute_infer: total(infer),
        compute_output: none,
    };
    ModelStatistics {
        name: model.name,
        version: model.version,
        last_inference: numbers.last_inference_ms,
        inference_count: numbers.inferences,
        execution_count: numbers.executions,
        inference_stats: Some(InferStatistics {
            success: total(&numbers.success),
            fail: total(&numbers.fail),
            queue: total(&numbers.queue),
            compute_input: total(&numbers.compute_input),
            compute_infer: total(&numbers.compute_infer),
            compute_output: total(&numbers.compute_output),
            cache_hit: none,
            cache_miss: none,
        }),
        batch_stats: numbers.batches.iter().map(batch).collect(),
        memory_usage: Vec::new(),
        response_stats: BTreeMap::new(),
    }
}
