//! `Schema`: the supported part of JSON Schema, compiled once when a version loads.

pub(crate) mod binding;
pub mod columns;
mod compile;
pub(crate) mod exact;
pub(crate) mod fault;
pub(crate) mod formats;
mod keywords;
mod node;
mod node_place;
pub(crate) mod normalize;

use serde_json::Value;

pub(crate) use self::node::{ObjectNode, SchemaNode, Types};
use crate::schema::{
    columns::{ColumnId, ColumnKind},
    compile::SchemaCompiler,
    fault::{pointer_to, token},
    node_place::NodePlace,
};

/// A rule for schemas that a document violates, and the place of the violation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct SchemaError {
    /// JSON pointer from the root of the schema.
    pub pointer: String,
    /// The rule that the schema breaks.
    pub detail: String,
    /// The error of a pattern that does not compile. `None` for every other rule.
    pub source: Option<regex::Error>,
}

/// Which form of a personal field's value may be stored (`x-pii`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pii {
    /// The field is not personal.
    #[default]
    None,
    /// `drop`: the value must not be stored.
    Drop,
    /// `hash`: only a hash of the value may be stored.
    Hash,
    /// `bucket`: only the range or group of the value may be stored.
    Bucket,
}

/// A field that has a column.
#[derive(Clone, Debug)]
pub struct ColumnSpec {
    /// The name of the property. For a property of a nested object, this is a JSON pointer.
    pub name: String,
    /// The type of the values.
    pub kind: ColumnKind,
    /// Whether the value may be null or absent.
    pub nullable: bool,
    /// Whether the schema lists the field in `required`.
    pub required: bool,
    /// The value of `x-pii`.
    pub pii: Pii,
    /// The shape of an array whose length is fixed at every level. `None` for any other value.
    pub array_shape: Option<Vec<usize>>,
    /// The dimensions of an array. `None` for a dimension without a fixed size.
    pub array_dims: Vec<Option<usize>>,
}

/// The compiled schema of one instance.
#[derive(Debug)]
pub struct Schema {
    pub(crate) root: SchemaNode,
    columns: Vec<ColumnSpec>,
    document: Value,
}

impl Schema {
    /// Compiles the schema of one instance, which must be an object.
    pub fn compile(document: &Value) -> Result<Schema, SchemaError> {
        let mut compiler = SchemaCompiler::default();
        let root = compiler.node(document, &NodePlace::root())?;
        // The members of the root become columns.
        if root.types.0 != Types::OBJECT || root.object.is_none() {
            return Err(SchemaError {
                pointer: "/type".to_owned(),
                detail: "must be \"object\", with properties".to_owned(),
                source: None,
            });
        }
        // The decoder recognises the envelope of a request by the member `instances`.
        let mut properties = root.object.iter().flat_map(|object| &object.properties);
        if properties.any(|(name, _)| name == "instances") {
            return Err(SchemaError {
                pointer: "/properties/instances".to_owned(),
                detail: "\"instances\" is the request's own member and can't be a field".to_owned(),
                source: None,
            });
        }
        Ok(Schema {
            root,
            columns: compiler.columns,
            document: document.clone(),
        })
    }

    /// The fields that have a column. The index is the [`ColumnId`].
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.columns
    }

    /// The document from which the schema was compiled.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The column of the field with this name.
    pub fn column(&self, name: &str) -> Option<ColumnId> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Whether a property has this name, in the notation of column names. The property need not
    /// have a column.
    pub fn declares(&self, name: &str) -> bool {
        declares(self.root.object.as_ref(), "", name)
    }

    /// The node whose values are written to a column.
    pub(crate) fn node(&self, column: ColumnId) -> Option<&SchemaNode> {
        self.root.find_column(column)
    }

    /// A required field without a column, which a tensor can't carry. `None` if there is no such
    /// field.
    pub fn required_without_column(&self) -> Option<&str> {
        let object = self.root.object.as_ref()?;
        let mut required = object
            .required
            .iter()
            .filter_map(|index| object.properties.get(*index));
        // An object has no column, but its members may have columns.
        let without_column = required.find(|(_, node)| {
            node.column.is_none()
                && node
                    .object
                    .as_ref()
                    .is_none_or(|object| object.columns.is_empty())
        });
        without_column
            .map(|(name, _)| name.as_str())
            .or(object.required_others.first().map(String::as_str))
    }

    /// Whether any field is personal.
    pub fn is_personal(&self) -> bool {
        self.columns.iter().any(|column| column.pii != Pii::None)
    }

    /// Whether a top-level field may be null.
    pub fn allows_null(&self, field: &str) -> bool {
        self.top_level(field)
            .is_some_and(|node| node.types.has(Types::NULL))
    }

    /// Whether a top-level field accepts only arrays, or only arrays and null.
    pub fn is_list(&self, field: &str) -> bool {
        self.top_level(field)
            .is_some_and(|node| node.types.0 & !Types::NULL == Types::ARRAY)
    }

    fn top_level(&self, field: &str) -> Option<&SchemaNode> {
        self.root
            .object
            .as_ref()?
            .properties
            .iter()
            .find(|(name, _)| name == field)
            .map(|(_, node)| node)
    }
}

/// Whether an object with the name `field` has a property with this column name, at any depth.
fn declares(object: Option<&ObjectNode>, field: &str, name: &str) -> bool {
    let mut properties = object.into_iter().flat_map(|object| &object.properties);
    properties.any(|(property, node)| {
        let field = if field.is_empty() {
            property.clone()
        } else {
            format!("{}/{}", pointer_to(field), token(property))
        };
        field == name || declares(node.object.as_ref(), &field, name)
    })
}
