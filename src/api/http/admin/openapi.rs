//! `GET /admin/openapi.json`: the OpenAPI document of the admin API. It is generated from the types
//! of the API's documents.

use std::sync::LazyLock;

use axum::{extract::Request, response::Response};
use schemars::{JsonSchema, SchemaGenerator, generate::Contract};
use serde_json::{Map, Value, json};

use crate::{
    admin::{
        drift::DriftReport,
        error_document::ErrorDocument,
        history::History,
        readiness::{Liveness, Readiness},
        repository::{IndexEntry, IndexRequest, RepositoryAnswer, RepositoryOrder},
        requests::{PromoteRequest, ReasonRequest, RollbackRequest, StartRequest},
        start::DryRun,
        status::{ModelStatus, ModelStatuses},
    },
    api::http::{admin::answer::document, schema_generator::schema_generator},
};

/// The document. It never changes while the server runs.
static DOCUMENT: LazyLock<Value> = LazyLock::new(build);

pub(super) async fn openapi(request: Request) -> Response {
    document(&request, &*DOCUMENT)
}

/// Collects the schemas of the API's documents.
struct Schemas {
    /// Schemas of documents that the server writes. Every member is present.
    answers: SchemaGenerator,
    /// Schemas of documents that the server reads. A member may be absent.
    requests: SchemaGenerator,
}

impl Schemas {
    fn new() -> Schemas {
        Schemas {
            answers: schema_generator(Contract::Serialize),
            requests: schema_generator(Contract::Deserialize),
        }
    }

    fn answer<T: JsonSchema>(&mut self, description: &str) -> Value {
        let schema = self.answers.subschema_for::<T>();
        json!({"description": description, "content": {"application/json": {"schema": schema}}})
    }

    fn request<T: JsonSchema>(&mut self) -> Value {
        let schema = self.requests.subschema_for::<T>();
        json!({"required": false, "content": {"application/json": {"schema": schema}}})
    }

    fn get<T: JsonSchema>(&mut self, id: &str, summary: &str) -> Value {
        let responses = json!({"200": self.answer::<T>(summary), "default": self.refusal()});
        json!({"get": {"operationId": id, "summary": summary, "responses": responses}})
    }

    /// Describes an order whose answer is the status of the model.
    fn post<B: JsonSchema>(&mut self, id: &str, summary: &str) -> Value {
        self.post_for::<B, ModelStatus>(id, summary, "The order was carried out.")
    }

    fn post_for<B: JsonSchema, A: JsonSchema>(
        &mut self,
        id: &str,
        summary: &str,
        description: &str,
    ) -> Value {
        let answer = self.answer::<A>(description);
        json!({"post": {
            "operationId": id,
            "summary": summary,
            "requestBody": self.request::<B>(),
            "responses": {"200": answer, "default": self.refusal()},
        }})
    }

    fn refusal(&mut self) -> Value {
        self.answer::<ErrorDocument>("The request was refused.")
    }

    fn into_components(mut self) -> Map<String, Value> {
        let mut all = self.answers.take_definitions(true);
        // No type is both read and written, so no schema replaces another one.
        all.extend(self.requests.take_definitions(true));
        all.sort_keys();
        all
    }
}

fn build() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    let items = reads(&mut schemas)
        .into_iter()
        .chain(orders(&mut schemas))
        .chain(repository(&mut schemas))
        .chain([("/livez", liveness(&mut schemas))])
        .chain([("/readyz", readiness(&mut schemas))]);
    for (path, item) in items {
        paths.insert(path.to_owned(), with_model_parameter(path, item));
    }
    let description =
        "Decisions about which version of a model answers, on the listener of admin.listen.";
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "predictd admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": description,
        },
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "A token of admin.token_file, if the server has one.",
            }},
            "schemas": schemas.into_components(),
        },
    })
}

/// Declares the parameter `name` if the path contains it.
fn with_model_parameter(path: &str, mut item: Value) -> Value {
    if let (true, Some(members)) = (path.contains("{name}"), item.as_object_mut()) {
        let model = json!([{
            "name": "name", "in": "path", "required": true, "schema": {"type": "string"},
            "description": "The name of the model.",
        }]);
        members.insert("parameters".to_owned(), model);
    }
    item
}

/// The paths that read decisions.
fn reads(schemas: &mut Schemas) -> Vec<(&'static str, Value)> {
    vec![
        (
            "/admin/models",
            schemas.get::<ModelStatuses>("listModels", "The status of every model."),
        ),
        (
            "/admin/models/{name}",
            schemas.get::<ModelStatus>("getModel", "The status of a model."),
        ),
        ("/admin/models/{name}/drift", drift(schemas)),
        ("/admin/models/{name}/history", history(schemas)),
    ]
}

/// The paths of orders.
fn orders(schemas: &mut Schemas) -> Vec<(&'static str, Value)> {
    vec![
        (
            "/admin/models/{name}/history/repair",
            schemas.post::<ReasonRequest>(
                "repairHistory",
                "Move the damaged end of the journal aside. Requires a reason.",
            ),
        ),
        (
            "/admin/models/{name}/rollback",
            schemas.post::<RollbackRequest>(
                "rollBack",
                "End the rollout in progress, or restore the previous stable version.",
            ),
        ),
        ("/admin/models/{name}/rollout/start", start(schemas)),
        (
            "/admin/models/{name}/rollout/promote",
            schemas.post::<PromoteRequest>("promote", "Make the candidate the stable version now."),
        ),
        (
            "/admin/models/{name}/rollout/approve",
            schemas.post::<ReasonRequest>("approve", "Approve a rollout as the second operator."),
        ),
        (
            "/admin/models/{name}/rollout/pause",
            schemas.post::<ReasonRequest>("pause", "Keep the rollout at its current step."),
        ),
        (
            "/admin/models/{name}/rollout/resume",
            schemas.post::<ReasonRequest>("resume", "Continue a paused rollout."),
        ),
        (
            "/admin/models/{name}/rollout/abort",
            schemas.post::<ReasonRequest>(
                "abort",
                "End the rollout; the stable version answers all requests.",
            ),
        ),
    ]
}

fn drift(schemas: &mut Schemas) -> Value {
    let summary = "How far the inputs and predictions of a version moved from its reference.";
    let version = json!([{
        "name": "version", "in": "query", "schema": {"type": "string"},
        "description": "The version. Absent: the version that answers.",
    }]);
    with_query(schemas.get::<DriftReport>("getDrift", summary), version)
}

fn history(schemas: &mut Schemas) -> Value {
    let from = json!([{
        "name": "from", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": 1},
        "description": "The number of the first entry.",
    }]);
    with_query(
        schemas.get::<History>("getHistory", "A page of the model's journal."),
        from,
    )
}

/// Declares the parameters of a GET request.
fn with_query(mut item: Value, parameters: Value) -> Value {
    if let Some(get) = item.get_mut("get").and_then(Value::as_object_mut) {
        get.insert("parameters".to_owned(), parameters);
    }
    item
}

fn start(schemas: &mut Schemas) -> Value {
    let mut item = schemas.post::<StartRequest>("start", "Start a rollout.");
    let answer = json!({"oneOf": [
        schemas.answers.subschema_for::<ModelStatus>(),
        schemas.answers.subschema_for::<DryRun>(),
    ]});
    if let Some(schema) = item.pointer_mut("/post/responses/200/content/application~1json/schema") {
        *schema = answer;
    }
    item
}

/// The paths of the model repository extension of the Open Inference Protocol.
fn repository(schemas: &mut Schemas) -> [(&'static str, Value); 3] {
    let carried_out = "The order was carried out.";
    [
        (
            "/v2/repository/index",
            schemas.post_for::<IndexRequest, Vec<IndexEntry>>(
                "getRepositoryIndex",
                "Every version and its state.",
                "The index.",
            ),
        ),
        (
            "/v2/repository/models/{name}/load",
            schemas.post_for::<RepositoryOrder, RepositoryAnswer>(
                "loadModel",
                "Load a model, or load it again. Answers when the model is loaded.",
                carried_out,
            ),
        ),
        (
            "/v2/repository/models/{name}/unload",
            schemas.post_for::<RepositoryOrder, RepositoryAnswer>(
                "unloadModel",
                "Unload a model until it is loaded again.",
                carried_out,
            ),
        ),
    ]
}

fn readiness(schemas: &mut Schemas) -> Value {
    let verbose = json!([{
        "name": "verbose", "in": "query", "schema": {"type": "boolean"}, "allowEmptyValue": true,
        "description": "List every model with its versions.",
    }]);
    json!({"get": {
        "operationId": "getReadiness",
        "summary": "Whether every required model answers.",
        "parameters": verbose,
        "responses": {
            "200": schemas.answer::<Readiness>("Ready."),
            "503": schemas.answer::<Readiness>("Not ready."),
        },
    }})
}

fn liveness(schemas: &mut Schemas) -> Value {
    json!({"get": {
        "operationId": "getLiveness",
        "summary": "Whether the server is alive.",
        "responses": {
            "200": schemas.answer::<Liveness>("Alive."),
            "503": schemas.answer::<Liveness>("Not alive."),
        },
    }})
}
