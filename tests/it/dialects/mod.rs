//! Bodies, deadlines and error texts that fit no scenario file, in every dialect.

use reqwest::blocking::Response;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Server, ServerClient, install_graph, models_with};

mod deadlines;
mod limits;
mod places;

/// For each dialect: a path, a header field that names the model if the path does not, and the
/// member with the text of an error.
const DIALECTS: [(&str, &str, &str); 3] = [
    ("/v2/models/numbers/infer", "x-unread", "error"),
    ("/v1/models/numbers:predict", "x-unread", "error"),
    ("/invocations", TARGET, "message"),
];

const TARGET: &str = "x-amzn-sagemaker-target-model";

const MIB: usize = 1 << 20;

/// A server with the model `numbers`, which answers its input and takes any number of columns.
fn start_numbers(settings: &[(&str, &str)]) -> (TempDir, Server) {
    let models = models_with(&[]);
    install_graph(models.path(), "numbers", 1, "identity_fp32", None);
    let server = Server::start(models.path(), settings);
    (models, server)
}

/// A request of one row in the dialect of this path.
fn row_request(path: &str, values: &str, count: usize) -> String {
    match path.starts_with("/v2/") {
        true => format!(
            r#"{{"inputs":[{{"name":"x","shape":[1,{count}],"datatype":"FP32","data":[{values}]}}]}}"#
        ),
        false => format!(r#"{{"instances":[[{values}]]}}"#),
    }
}

/// The row of an answer.
fn row_of_answer(path: &str, answer: &Value) -> Vec<f64> {
    let values = if path.starts_with("/v2/") {
        &answer["outputs"][0]["data"]
    } else {
        &answer["predictions"][0]
    };
    values
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect()
}

fn check_error(response: Response, status: u16, member: &str, text: &str) {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(
        response.headers().contains_key("retry-after"),
        status == 503
    );
    let answer: Value = response.json().unwrap();
    assert!(
        answer[member]
            .as_str()
            .is_some_and(|detail| detail.contains(text)),
        "{answer}"
    );
    assert_eq!(
        answer.get("error_code").is_some(),
        member == "message",
        "{answer}"
    );
}

fn check_service(server: &ServerClient) {
    for (path, header, _) in DIALECTS {
        let answer = server
            .post(path)
            .header(header, "numbers")
            .body(row_request(path, "1,2", 2))
            .send()
            .unwrap();
        assert_eq!(
            row_of_answer(path, &answer.json().unwrap()),
            [1.0, 2.0],
            "{path}"
        );
    }
}

#[test]
fn vertex_ai_configures_the_routes() {
    let models = models_with(&[]);
    install_graph(models.path(), "iris", 3, "iris", None);
    let server = Server::start_prepared(models.path(), &[], |command| {
        command.env("AIP_HEALTH_ROUTE", "/alive").env(
            "AIP_PREDICT_ROUTE",
            "/v1/endpoints/1/deployedModels/2:predict",
        );
    });
    assert_eq!(server.get("/alive").status(), 200);
    let rows = json!({"instances": [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]});
    let answer: Value = server
        .predict("/v1/endpoints/1/deployedModels/2:predict", &rows)
        .json()
        .unwrap();
    assert_eq!(
        (
            &answer["predictions"][0]["label"],
            &answer["predictions"][1]["label"]
        ),
        (&json!(0), &json!(1)),
        "{answer}"
    );
    check_error(
        server.predict(
            "/v1/endpoints/1/deployedModels/2:predict",
            &json!({"instances": []}),
        ),
        400,
        "error",
        "no row",
    );
}
