//! Schemas of requests, responses and errors.

use serde_json::{Value, json};

use crate::registry::servable::Servable;

/// A reference to a schema of a model: `instance`, `prediction`, `request` or `response`.
pub(super) fn reference(name: &str, part: &str) -> Value {
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
            "id": {"type": "string", "description": "Echoed in the response"},
        },
    });
    json!({"title": format!("A request to {name}"), "oneOf": [batch, reference(name, "instance")]})
}

fn response_schema(servable: &Servable) -> Value {
    let name = servable.id().name.as_str();
    json!({
        "type": "object",
        "title": format!("A response of {name}"),
        "required": ["prediction_id", "model", "version", "digest", "predictions"],
        "properties": {
            "prediction_id": {"type": "string", "description": "The id that the server gives to the prediction (ULID)"},
            "id": {"type": "string", "description": "The id of the request, unchanged"},
            "model": {"type": "string"},
            "version": {"type": "string"},
            "digest": {"type": "string", "description": "The digest of the package that answered"},
            "predictions": {"type": "array", "description": "In the order of the instances", "items": reference(name, "prediction")},
        },
    })
}

/// The schemas of one model, by their names in the document.
pub(super) fn of_model(servable: &Servable) -> [(String, Value); 4] {
    let name = &servable.id().name;
    let parts = servable.package().map(|package| &package.parts);
    // A graph without a package has no schema.
    let any =
        || json!({"type": "object", "description": "Values by the names of the graph's tensors"});
    let instance = parts.map_or_else(any, |parts| parts.input.document().clone());
    let prediction = parts.map_or_else(any, |parts| parts.output.document().clone());
    [
        (format!("{name}.instance"), instance),
        (format!("{name}.prediction"), prediction),
        (format!("{name}.request"), request_schema(servable)),
        (format!("{name}.response"), response_schema(servable)),
    ]
}

pub(super) fn problem() -> Value {
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
