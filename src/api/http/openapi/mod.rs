//! `GET /openapi.json`: an OpenAPI 3.1 document with the schemas of each served model, and with
//! working examples.

mod operations;
mod request_examples;
mod schemas;

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use schemars::{SchemaGenerator, generate::Contract};
use serde_json::{Map, Value, json};

pub(crate) use request_examples::examples;

use crate::{
    admin::readiness::{Liveness, Readiness},
    api::{
        Api,
        http::{
            model_documents::{ModelList, ModelOverview, VersionDetails},
            response::json_document,
            schema_generator::schema_generator,
        },
    },
    id::{ModelName, Version},
    registry::{ServedModel, Snapshot},
};

/// The routes of the other protocols: `tags`, `paths` and `schemas`. They are the same for every
/// model.
const PROTOCOLS: &str = include_str!("protocols.json");

pub(super) async fn document(State(api): State<Arc<Api>>, request: Request) -> Response {
    let document = build(&api.registry.snapshot());
    json_document(&request, document.to_string().into_bytes())
}

fn build(snapshot: &Snapshot) -> Value {
    let mut document = Document::new();
    document.add_default_model(snapshot);
    // A model without a stable version is skipped, because its routes would not work.
    for (name, model) in &snapshot.models {
        document.add_model(name, model);
    }
    document.add_catalogue();
    document.add_probes();
    document.into_value()
}

/// The parts of the document that depend on the models.
struct Document {
    tags: Vec<Value>,
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
    /// Generates the schemas of predictd's own documents.
    generator: SchemaGenerator,
    /// The paths of other protocols. They are added at the end, after predictd's own routes.
    protocol_paths: Map<String, Value>,
}

impl Document {
    fn new() -> Document {
        let mut document = Document {
            tags: vec![
                json!({"name": "predict", "description": "Ask a model"}),
                json!({"name": "models", "description": "The served models"}),
                json!({"name": "operation", "description": "Probes and metrics"}),
            ],
            paths: Map::new(),
            schemas: Map::new(),
            generator: schema_generator(Contract::Serialize),
            protocol_paths: Map::new(),
        };
        // A test parses this text, so parsing can't fail here.
        let mut protocols: Map<String, Value> = serde_json::from_str(PROTOCOLS).unwrap_or_default();
        if let Some(Value::Object(schemas)) = protocols.remove("schemas") {
            document.schemas.extend(schemas);
        }
        if let Some(Value::Array(tags)) = protocols.remove("tags") {
            document.tags.extend(tags);
        }
        if let Some(Value::Object(paths)) = protocols.remove("paths") {
            document.protocol_paths = paths;
        }
        document
            .schemas
            .insert("Problem".to_owned(), schemas::problem());
        document
    }

    fn add_path(&mut self, path: impl Into<String>, item: Value) {
        self.paths.insert(path.into(), item);
    }

    fn add_default_model(&mut self, snapshot: &Snapshot) {
        let default = snapshot
            .default
            .as_ref()
            .and_then(|name| snapshot.models.get(name))
            .and_then(|model| model.stable.as_ref());
        if let Some(stable) = default {
            let summary = format!("Predict with the default model, {}", stable.id().name);
            let operation = operations::prediction(stable, &summary, "predict");
            self.add_path("/predict", json!({"post": operation}));
        }
    }

    /// Adds the schemas of a model, which are those of its stable version.
    fn add_model(&mut self, name: &ModelName, model: &ServedModel) {
        let Some(stable) = &model.stable else {
            return;
        };
        self.schemas.extend(schemas::of_model(stable));
        let summary = format!(
            "Predict with the stable version of {name}, now {}",
            stable.id().version
        );
        let operation = operations::prediction(stable, &summary, &format!("predict.{name}"));
        self.add_path(
            format!("/models/{name}/predict"),
            json!({"post": operation}),
        );
        let summary = format!("Predict with one version of {name}, whichever version is stable");
        let id = format!("predict_version.{name}");
        let versions: Vec<&str> = model.versions.keys().map(Version::as_str).collect();
        let item = json!({
            "post": operations::prediction(stable, &summary, &id),
            "parameters": [{"name": "version", "in": "path", "required": true, "schema": {"type": "string", "examples": versions}}],
        });
        self.add_path(format!("/models/{name}/versions/{{version}}/predict"), item);
    }

    fn add_catalogue(&mut self) {
        let list = self.generator.subschema_for::<ModelList>();
        let list = operations::document("models", "list_models", "The served models", &list);
        self.add_path("/models", json!({"get": list}));
        let model = self.generator.subschema_for::<ModelOverview>();
        let model =
            operations::document("models", "get_model", "One model and its versions", &model);
        self.add_path(
            "/models/{name}",
            operations::with_parameters(&model, &["name"]),
        );
        let version = self.generator.subschema_for::<VersionDetails>();
        let version = operations::document(
            "models",
            "get_version",
            "One version: digest, schema, evaluation, model card",
            &version,
        );
        self.add_path(
            "/models/{name}/versions/{version}",
            operations::with_parameters(&version, &["name", "version"]),
        );
    }

    fn add_probes(&mut self) {
        let live = self.generator.subschema_for::<Liveness>();
        let live = operations::probe("get_livez", "Whether the server is alive", &live);
        self.add_path("/livez", json!({"get": live}));
        let ready = self.generator.subschema_for::<Readiness>();
        let ready = operations::probe(
            "get_readyz",
            "Whether every required model answers; `?verbose` lists every version",
            &ready,
        );
        self.add_path("/readyz", json!({"get": ready}));
        self.add_path("/metrics", json!({"get": operations::metrics()}));
    }

    fn into_value(mut self) -> Value {
        self.paths.extend(self.protocol_paths);
        self.schemas.extend(self.generator.take_definitions(true));
        json!({
            "openapi": "3.1.0",
            "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
            "info": {
                "title": "predictd",
                "summary": "Models behind an API",
                "description": "Every model has its own schemas below; the examples work when they are sent unchanged.",
                "version": env!("CARGO_PKG_VERSION"),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": self.tags,
            "paths": self.paths,
            "components": {"schemas": self.schemas},
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use crate::api::http::openapi::PROTOCOLS;

    #[test]
    fn the_supported_part_of_the_protocols_is_complete() {
        let document: Map<String, Value> = serde_json::from_str(PROTOCOLS).unwrap();
        let schemas = document["schemas"].as_object().unwrap();
        for rest in PROTOCOLS.split("#/components/schemas/").skip(1) {
            let name = rest.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        assert!(document["paths"].as_object().unwrap().len() > 20 && document["tags"].is_array());
    }
}
