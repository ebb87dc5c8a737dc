//! `NodeChecker`: whether a node accepts a value.

use serde_json::{Value, json};

use crate::{
    decode::{DecodeError, DecodeLimits, decode_instance},
    schema::Schema,
};

/// Decoding limits. The checked values come from the schemas themselves, so the limits are wide.
const CHECK_LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 1,
    max_depth: 128,
    max_array_values: usize::MAX,
};

/// Checks single values against one node.
///
/// A column may refuse values that the keywords accept. Whether a node has a column depends on its
/// place in the schema, so each value is checked with a column and without one.
pub(super) struct NodeChecker {
    /// The node as a field. A field has a column.
    strict: Option<Schema>,
    /// The node as an element of an array. An element has no column.
    lenient: Option<Schema>,
}

impl NodeChecker {
    /// Creates a checker. `document`: the node as JSON Schema.
    pub(super) fn new(document: &Value) -> NodeChecker {
        // A document that can't be compiled alone gives neither a proof nor a counterexample. The
        // gap stays unproved.
        let compile = |value: Value| {
            Schema::compile(&json!({"type": "object", "properties": {"v": value}, "required": ["v"], "additionalProperties": false})).ok()
        };
        NodeChecker {
            strict: compile(document.clone()),
            lenient: compile(json!({"type": "array", "prefixItems": [document]})),
        }
    }

    /// Whether the node accepts the value at every place in a schema.
    pub(super) fn accepts_everywhere(&self, value: &Value) -> bool {
        self.strict.as_ref().is_some_and(|schema| {
            decode_instance(
                schema,
                format!("{{\"v\":{value}}}").as_bytes(),
                &CHECK_LIMITS,
            )
            .is_ok()
        })
    }

    /// Whether the node accepts the value at some place in a schema.
    pub(super) fn accepts_somewhere(&self, value: &Value) -> bool {
        self.refusals(value).is_empty()
    }

    /// The keywords that refuse the value at every place in a schema.
    pub(super) fn refusals(&self, value: &Value) -> Vec<&'static str> {
        let Some(schema) = &self.lenient else {
            return Vec::new();
        };
        match decode_instance(
            schema,
            format!("{{\"v\":[{value}]}}").as_bytes(),
            &CHECK_LIMITS,
        ) {
            Ok(_) => Vec::new(),
            Err(DecodeError::Invalid { faults, .. }) => {
                faults.iter().map(|fault| fault.keyword).collect()
            }
            // The text is valid JSON, so the decoder calls it malformed only for the type of a
            // value.
            Err(DecodeError::Malformed { .. }) => vec!["type"],
        }
    }
}
