//! `GET /openapi.json`: OpenAPI 3.1 with each served model's own schemas, and examples that work.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde_json::{Map, Value, json};

use crate::{
    api::{Api, context::Context, http::content_encoding},
    decode::decode_instance,
    error::ErrorCode,
    package::warmup_instance,
    registry::{
        Snapshot,
        gate::OWN_LIMITS,
        servable::{Contents, Packaged, Servable},
    },
};

pub async fn document(State(api): State<Arc<Api>>, request: Request) -> Response {
    let context = Context::new(request.headers());
    let document = build(&api.registry.snapshot());
    let mut response = content_encoding::respond(
        request.headers(),
        "application/json",
        document.to_string().into_bytes(),
    );
    context.write_headers(response.headers_mut());
    response
}

/// The other protocols' routes, which are the same for every model: `tags`, `paths` and `schemas`.
const PROTOCOLS: &str = include_str!("protocols.json");

fn build(snapshot: &Snapshot) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let mut tags = vec![
        json!({"name": "predict", "description": "Ask a model"}),
        json!({"name": "models", "description": "What is served"}),
        json!({"name": "operation", "description": "Probes and metrics"}),
    ];
    // A test parses it, so it always can be.
    let mut protocols: Map<String, Value> = serde_json::from_str(PROTOCOLS).unwrap_or_default();
    if let Some(Value::Object(more)) = protocols.remove("schemas") {
        schemas.extend(more);
    }
    if let Some(Value::Array(more)) = protocols.remove("tags") {
        tags.extend(more);
    }
    schemas.insert("Problem".to_owned(), problem());
    let default = snapshot
        .default
        .as_ref()
        .and_then(|name| snapshot.models.get(name))
        .and_then(|model| model.stable.as_ref());
    if let Some(servable) = default {
        let summary = format!("Ask the default model, {}", servable.id().name);
        paths.insert(
            "/predict".to_owned(),
            json!({"post": operation(servable, &summary, "predict")}),
        );
    }
    for (name, model) in &snapshot.models {
        let Some(stable) = &model.stable else {
            continue;
        };
        let parts = stable.package().map(|package| &package.parts);
        let object = || json!({"type": "object", "description": "Values by the names of the graph's tensors"});
        schemas.insert(
            format!("{name}.instance"),
            parts.map_or_else(object, |parts| parts.input.document().clone()),
        );
        schemas.insert(
            format!("{name}.prediction"),
            parts.map_or_else(object, |parts| parts.output.document().clone()),
        );
        schemas.insert(format!("{name}.request"), request_schema(stable));
        schemas.insert(format!("{name}.response"), response_schema(stable));
        let summary = format!(
            "Ask {name}: its stable version, now {}",
            stable.id().version
        );
        paths.insert(
            format!("/models/{name}/predict"),
            json!({"post": operation(stable, &summary, &format!("predict.{name}"))}),
        );
        let summary =
            format!("Ask one version of {name}; it bypasses whatever decides on the stable one");
        let known: Vec<&str> = model
            .versions
            .keys()
            .map(crate::id::Version::as_str)
            .collect();
        let one = json!({
            "post": operation(stable, &summary, &format!("predict_version.{name}")),
            "parameters": [{"name": "version", "in": "path", "required": true, "schema": {"type": "string", "examples": known}}],
        });
        paths.insert(format!("/models/{name}/versions/{{version}}/predict"), one);
    }
    paths.insert(
        "/models".to_owned(),
        json!({"get": plain("models", "list_models", "What is served")}),
    );
    paths.insert(
        "/models/{name}".to_owned(),
        with_parameters(
            &plain("models", "get_model", "One model and its versions"),
            &["name"],
        ),
    );
    paths.insert(
        "/models/{name}/versions/{version}".to_owned(),
        with_parameters(
            &plain(
                "models",
                "get_version",
                "One version: digest, schema, evaluation, model card",
            ),
            &["name", "version"],
        ),
    );
    paths.insert(
        "/livez".to_owned(),
        json!({"get": probe("get_livez", "Whether the server is alive")}),
    );
    paths
        .insert("/readyz".to_owned(), json!({"get": probe("get_readyz", "Whether every required model answers; `?verbose` says why not")}));
    let metrics = json!({"get": {
        "tags": ["operation"], "operationId": "get_metrics", "summary": "Metrics for Prometheus",
        "responses": {"200": {"description": "The exposition text", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    }});
    paths.insert("/metrics".to_owned(), metrics);
    if let Some(Value::Object(more)) = protocols.remove("paths") {
        paths.extend(more);
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "predictd",
            "summary": "Models behind an API",
            "description": "Every model has its own schemas below; the examples work when sent as they are.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn reference(name: &str, part: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}.{part}")})
}

fn request_schema(servable: &Servable) -> Value {
    let name = servable.id().name.as_str();
    let batch = json!({
        "type": "object",
        "title": "Several instances",
        "required": ["instances"],
        "additionalProperties": false,
        "properties": {
            "instances": {"type": "array", "minItems": 1, "items": reference(name, "instance")},
            "id": {"type": "string", "description": "Echoed in the answer"},
        },
    });
    json!({"title": format!("A request to {name}"), "oneOf": [batch, reference(name, "instance")]})
}

fn response_schema(servable: &Servable) -> Value {
    let name = servable.id().name.as_str();
    json!({
        "type": "object",
        "title": format!("An answer of {name}"),
        "required": ["prediction_id", "model", "version", "digest", "predictions"],
        "properties": {
            "prediction_id": {"type": "string", "description": "The server's own name of this answer (ULID)"},
            "id": {"type": "string", "description": "As it was sent"},
            "model": {"type": "string"},
            "version": {"type": "string"},
            "digest": {"type": "string", "description": "Of the package that answered"},
            "predictions": {"type": "array", "description": "In the order of the instances", "items": reference(name, "prediction")},
        },
    })
}

/// Instances that the model takes: the schema's own example and the first golden ones, each once; without any, one that is made
/// of the schema, where the model's preprocessing takes it. Golden ones are real people's where a field is personal: none is shown.
pub fn examples(servable: &Servable) -> Vec<Value> {
    let Contents::Package(packaged) = &servable.contents else {
        return Vec::new();
    };
    let parts = &packaged.package.parts;
    let mut examples: Vec<Value> = parts
        .input
        .document()
        .pointer("/examples/0")
        .cloned()
        .into_iter()
        .collect();
    let golden = if parts.input.is_personal() {
        &[][..]
    } else {
        &parts.golden[..]
    };
    for golden in golden {
        if examples.len() >= SEVERAL {
            break;
        }
        examples.extend(
            serde_json::from_str(golden.input.as_str())
                .ok()
                .filter(|input| !examples.contains(input)),
        );
    }
    if examples.is_empty() {
        examples.extend(made_up(packaged));
    }
    examples
}

/// Instances in the example of a request with several.
const SEVERAL: usize = 2;

fn made_up(packaged: &Packaged) -> Option<Value> {
    let parts = &packaged.package.parts;
    let (text, _) = warmup_instance::instance(&parts.input, parts.profile.as_ref());
    let columns = decode_instance(&parts.input, text.as_bytes(), &OWN_LIMITS).ok()?;
    packaged.transform.prepare(&columns).ok()?;
    serde_json::from_str(&text).ok()
}

fn operation(servable: &Servable, summary: &str, id: &str) -> Value {
    let name = servable.id().name.as_str();
    let mut named = Map::new();
    let examples = examples(servable);
    if let Some(first) = examples.first() {
        let several: Vec<&Value> = examples.iter().cycle().take(SEVERAL).collect();
        named.insert(
            "one".to_owned(),
            json!({"summary": "One instance", "value": first}),
        );
        named.insert("several".to_owned(), json!({"summary": "Several instances", "value": {"instances": several, "id": "my-request"}}));
    }
    let description = servable
        .package()
        .map(|package| package.parts.input.document());
    let description = description
        .and_then(|document| document.get("description")?.as_str())
        .unwrap_or_default();
    let mut responses = Map::new();
    let answered = json!({
        "description": "One prediction for each instance",
        "headers": {
            "x-prediction-id": {"schema": {"type": "string"}},
            "x-model-version": {"schema": {"type": "string"}},
            "server-timing": {"schema": {"type": "string"}, "description": "decode, queue, infer, encode in milliseconds"},
        },
        "content": {"application/json": {"schema": reference(name, "response")}},
    });
    responses.insert("200".to_owned(), answered);
    let mut titles: std::collections::BTreeMap<u16, &str> = std::collections::BTreeMap::new();
    for code in ErrorCode::ALL
        .into_iter()
        .filter(|code| !NEVER_HERE.contains(code))
    {
        titles.entry(code.http_status()).or_insert(code.title());
    }
    for (status, title) in titles {
        let content = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
        responses.insert(
            status.to_string(),
            json!({"description": title, "content": content}),
        );
    }
    let header = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "header", "required": false, "description": description, "schema": schema});
    json!({
        "tags": ["predict"],
        "operationId": id,
        "summary": summary,
        "description": description,
        "parameters": [
            header("x-request-id", "Echoed, and named in the log", json!({"type": "string", "maxLength": 128})),
            header("x-request-timeout-ms", "The caller's deadline", json!({"type": "integer", "minimum": 1, "maximum": 99_999_999})),
        ],
        "requestBody": {"required": true, "content": {"application/json": {"schema": reference(name, "request"), "examples": named}}},
        "responses": responses,
    })
}

/// What a prediction is never answered with.
const NEVER_HERE: [ErrorCode; 5] = [
    ErrorCode::MethodNotAllowed,
    ErrorCode::Unauthenticated,
    ErrorCode::Forbidden,
    ErrorCode::Unsupported,
    ErrorCode::Cancelled,
];

fn plain(tag: &str, id: &str, summary: &str) -> Value {
    json!({
        "tags": [tag], "operationId": id, "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": {"type": "object"}}}},
            "404": {"description": "Not known", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
        },
    })
}

fn probe(id: &str, summary: &str) -> Value {
    let content = json!({"application/json": {"schema": {"type": "object"}}});
    json!({
        "tags": ["operation"], "operationId": id, "summary": summary,
        "responses": {"200": {"description": "Yes", "content": content}, "503": {"description": "No", "content": content}},
    })
}

fn with_parameters(operation: &Value, names: &[&str]) -> Value {
    let parameters: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect();
    json!({"get": operation, "parameters": parameters})
}

fn problem() -> Value {
    json!({
        "type": "object",
        "title": "RFC 9457 problem details",
        "required": ["type", "title", "status", "detail", "request_id"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "request_id": {"type": "string"},
            "errors": {
                "type": "array",
                "maxItems": 20,
                "items": {
                    "type": "object",
                    "required": ["pointer", "keyword", "detail"],
                    "properties": {
                        "pointer": {"type": "string", "description": "JSON pointer into the request"},
                        "keyword": {"type": "string", "description": "The violated keyword of the schema"},
                        "detail": {"type": "string"},
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use crate::api::http::openapi::PROTOCOLS;

    #[test]
    fn the_protocols_part_is_whole() {
        let document: Map<String, Value> = serde_json::from_str(PROTOCOLS).unwrap();
        let schemas = document["schemas"].as_object().unwrap();
        for rest in PROTOCOLS.split("#/components/schemas/").skip(1) {
            let name = rest.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        assert!(document["paths"].as_object().unwrap().len() > 20 && document["tags"].is_array());
    }
}
