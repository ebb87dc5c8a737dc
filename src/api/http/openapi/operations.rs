//! Operations of the OpenAPI document.

use std::collections::BTreeMap;

use schemars::Schema;
use serde_json::{Map, Value, json};

use crate::{
    api::http::openapi::{
        request_examples::{SEVERAL, examples},
        schemas::reference,
    },
    error::ErrorCode,
    registry::servable::Servable,
};

/// The errors that never answer a prediction request.
const NOT_FOR_PREDICTIONS: [ErrorCode; 5] = [
    ErrorCode::MethodNotAllowed,
    ErrorCode::Unauthenticated,
    ErrorCode::Forbidden,
    ErrorCode::Unsupported,
    ErrorCode::Cancelled,
];

/// Describes the prediction operation of a model.
pub(super) fn prediction(servable: &Servable, summary: &str, id: &str) -> Value {
    let name = servable.id().name.as_str();
    let description = servable
        .package()
        .map(|package| package.parts.input.document());
    let description = description
        .and_then(|document| document.get("description")?.as_str())
        .unwrap_or_default();
    let header = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "header", "required": false, "description": description, "schema": schema});
    json!({
        "tags": ["predict"],
        "operationId": id,
        "summary": summary,
        "description": description,
        "parameters": [
            header("x-request-id", "Echoed, and written to the log", json!({"type": "string", "maxLength": 128})),
            header("x-request-timeout-ms", "The caller's deadline", json!({"type": "integer", "minimum": 1, "maximum": 99_999_999})),
        ],
        "requestBody": {"required": true, "content": {"application/json": {"schema": reference(name, "request"), "examples": request_examples(servable)}}},
        "responses": prediction_responses(name),
    })
}

/// Describes the operation that reads a document about models.
pub(super) fn document(tag: &str, id: &str, summary: &str, schema: &Schema) -> Value {
    json!({
        "tags": [tag], "operationId": id, "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": schema}}},
            "404": {"description": "Unknown model or version", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
        },
    })
}

/// Describes a probe. Its status is its result.
pub(super) fn probe(id: &str, summary: &str, schema: &Schema) -> Value {
    let content = json!({"application/json": {"schema": schema}});
    json!({
        "tags": ["operation"], "operationId": id, "summary": summary,
        "responses": {"200": {"description": "Yes", "content": content}, "503": {"description": "No", "content": content}},
    })
}

pub(super) fn metrics() -> Value {
    json!({
        "tags": ["operation"], "operationId": "get_metrics", "summary": "Metrics for Prometheus",
        "responses": {"200": {"description": "The exposition text", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    })
}

/// Creates a path item with one `GET` operation and path parameters.
pub(super) fn with_parameters(operation: &Value, names: &[&str]) -> Value {
    let parameters: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect();
    json!({"get": operation, "parameters": parameters})
}

fn request_examples(servable: &Servable) -> Map<String, Value> {
    let mut named = Map::new();
    let examples = examples(servable);
    if let Some(first) = examples.first() {
        // If there is only one example, it is repeated, because the request must show several
        // instances.
        let several: Vec<&Value> = examples.iter().cycle().take(SEVERAL).collect();
        named.insert(
            "one".to_owned(),
            json!({"summary": "One instance", "value": first}),
        );
        named.insert("several".to_owned(), json!({"summary": "Several instances", "value": {"instances": several, "id": "my-request"}}));
    }
    named
}

/// The responses to a prediction request: the prediction, and one entry per error status.
fn prediction_responses(model: &str) -> Map<String, Value> {
    let mut responses = Map::new();
    let prediction = json!({
        "description": "One prediction for each instance",
        "headers": {
            "x-prediction-id": {"schema": {"type": "string"}},
            "x-model-version": {"schema": {"type": "string"}},
            "server-timing": {"schema": {"type": "string"}, "description": "decode, queue, infer, encode in milliseconds"},
        },
        "content": {"application/json": {"schema": reference(model, "response")}},
    });
    responses.insert("200".to_owned(), prediction);
    let mut titles: BTreeMap<u16, &str> = BTreeMap::new();
    for code in ErrorCode::ALL
        .into_iter()
        .filter(|code| !NOT_FOR_PREDICTIONS.contains(code))
    {
        // Several errors share a status. The first one gives the description.
        titles.entry(code.http_status()).or_insert(code.title());
    }
    for (status, title) in titles {
        let content = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
        responses.insert(
            status.to_string(),
            json!({"description": title, "content": content}),
        );
    }
    responses
}
