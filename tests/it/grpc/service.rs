//! Metadata, statistics, readiness and reflection.

use predictd::api::grpc::inference::{
    DataType, ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
};
use tonic::{Code, Request};

use super::{Client, ONES, add_sub_request};
use crate::harness::{InProcessServer, models_of_graphs};

#[test]
fn readiness_of_the_server_and_of_models_is_reported() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let ready: ServerReadyResponse = client
        .call("ServerReady", Request::new(ServerReadyRequest {}))
        .unwrap()
        .into_inner();
    assert!(ready.ready);
    let about: ServerMetadataResponse = client
        .call("ServerMetadata", Request::new(ServerMetadataRequest {}))
        .unwrap()
        .into_inner();
    assert_eq!(about.name, "predictd");
    let (name, version) = ("add_sub".to_owned(), String::new());
    let ready = ModelReadyRequest {
        name: name.clone(),
        version: version.clone(),
    };
    assert!(
        client
            .call::<_, ModelReadyResponse>("ModelReady", Request::new(ready))
            .unwrap()
            .into_inner()
            .ready
    );
    let nowhere = ModelReadyRequest {
        name: "nowhere".to_owned(),
        version: version.clone(),
    };
    assert_eq!(
        client
            .call::<_, ModelReadyResponse>("ModelReady", Request::new(nowhere))
            .unwrap_err()
            .code(),
        Code::NotFound
    );
}

#[test]
fn metadata_and_configuration_of_a_model_are_reported() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let (name, version) = ("add_sub".to_owned(), String::new());
    let about = ModelMetadataRequest {
        name: name.clone(),
        version: version.clone(),
    };
    let about: ModelMetadataResponse = client
        .call("ModelMetadata", Request::new(about))
        .unwrap()
        .into_inner();
    assert_eq!(
        (&about.versions[..], &about.inputs[0].shape[..]),
        (&["1".to_owned()][..], &[-1, 4][..])
    );
    let config = ModelConfigRequest {
        name: name.clone(),
        version: version.clone(),
    };
    let config: ModelConfigResponse = client
        .call("ModelConfig", Request::new(config))
        .unwrap()
        .into_inner();
    let config = config.config.unwrap();
    assert_eq!(
        (config.backend.as_str(), config.input[0].data_type()),
        ("onnxruntime", DataType::TypeFp32)
    );
}

#[test]
fn statistics_and_index_of_models_are_reported() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let (name, version) = ("add_sub".to_owned(), String::new());
    client.infer(add_sub_request(&ONES, &ONES)).unwrap();
    let statistics = ModelStatisticsRequest {
        name: name.clone(),
        version,
    };
    let statistics: ModelStatisticsResponse = client
        .call("ModelStatistics", Request::new(statistics))
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            statistics.model_stats[0].inference_count,
            statistics.model_stats[0].execution_count
        ),
        (1, 1)
    );
    let index: RepositoryIndexResponse = client
        .call(
            "RepositoryIndex",
            Request::new(RepositoryIndexRequest::default()),
        )
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            index.models[0].name.as_str(),
            index.models[0].state.as_str()
        ),
        ("add_sub", "READY")
    );
}
