//! `NodePlace`: the place of a node in its schema.

use crate::schema::{
    Pii, SchemaError, Types,
    fault::{pointer_to, token},
    node::SchemaNode,
};

/// The place of a node in its schema, and the properties that it inherits from the nodes above.
pub(super) struct NodePlace {
    pub(super) pointer: String,
    /// The name of the field. Empty at the root. `None` inside arrays, because their elements have
    /// no columns of their own.
    pub(super) field: Option<String>,
    /// Whether every instance contains the value.
    pub(super) required: bool,
    /// Whether an object above may be null.
    pub(super) nullable: bool,
    pub(super) pii: Pii,
    pub(super) depth: usize,
}

impl NodePlace {
    pub(super) fn root() -> NodePlace {
        NodePlace {
            pointer: String::new(),
            field: Some(String::new()),
            required: true,
            nullable: false,
            pii: Pii::None,
            depth: 0,
        }
    }

    /// The place of an element of the array.
    pub(super) fn element(&self, keyword: &str, pii: Pii) -> NodePlace {
        NodePlace {
            pointer: format!("{}/{keyword}", self.pointer),
            field: None,
            required: true,
            nullable: false,
            pii,
            depth: self.depth + 1,
        }
    }

    /// The place of the property `name` of the object `node`.
    pub(super) fn property(&self, name: &str, node: &SchemaNode, required: bool) -> NodePlace {
        let field = self.field.as_ref().map(|field| {
            if self.depth == 0 {
                name.to_owned()
            } else {
                format!("{}/{}", pointer_to(field), token(name))
            }
        });
        NodePlace {
            pointer: format!("{}/properties/{}", self.pointer, token(name)),
            field,
            required: required && self.required,
            nullable: self.nullable || node.types.has(Types::NULL),
            pii: self.pii,
            depth: self.depth + 1,
        }
    }

    /// An error at a keyword of the node, or at the node itself if the keyword is empty.
    pub(super) fn fail<T>(
        &self,
        keyword: &str,
        detail: impl Into<String>,
    ) -> Result<T, SchemaError> {
        Err(self.error(keyword, detail))
    }

    /// The error of [`NodePlace::fail`].
    pub(super) fn error(&self, keyword: &str, detail: impl Into<String>) -> SchemaError {
        let pointer = if keyword.is_empty() {
            self.pointer.clone()
        } else {
            format!("{}/{}", self.pointer, token(keyword))
        };
        SchemaError {
            pointer,
            detail: detail.into(),
            source: None,
        }
    }
}
