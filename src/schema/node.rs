//! `SchemaNode`: one compiled subschema.

use regex::Regex;
use serde_json::Value;

use crate::schema::{columns::ColumnId, exact::Exact, formats::StringFormat};

/// The JSON types that a node accepts, with one bit per type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Types(pub u8);

impl Types {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const BOOLEAN: u8 = 2;
    pub(crate) const INTEGER: u8 = 4;
    pub(crate) const NUMBER: u8 = 8;
    pub(crate) const STRING: u8 = 16;
    pub(crate) const ARRAY: u8 = 32;
    pub(crate) const OBJECT: u8 = 64;
    pub(crate) const ALL: u8 = 0x7f;
    pub(super) const NAMES: [(u8, &'static str); 7] = [
        (Types::NULL, "null"),
        (Types::BOOLEAN, "boolean"),
        (Types::INTEGER, "integer"),
        (Types::NUMBER, "number"),
        (Types::STRING, "string"),
        (Types::ARRAY, "array"),
        (Types::OBJECT, "object"),
    ];

    pub(crate) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// The types for messages, like `integer or null`.
    pub(crate) fn describe(self) -> String {
        let names: Vec<&str> = Types::NAMES
            .iter()
            .filter(|(bit, _)| self.has(*bit))
            .map(|(_, name)| *name)
            .collect();
        names.join(" or ")
    }
}

/// The rules for one value. The defaults of [`SchemaNode::anything`] accept every value.
#[derive(Debug)]
pub(crate) struct SchemaNode {
    pub types: Types,
    pub enumeration: Option<Vec<Value>>,
    pub constant: Option<Value>,
    /// The strings of an `enum` that contains only strings and possibly null. A value is compared
    /// with them without being parsed again. `None` for any other node.
    pub choices: Option<Vec<String>>,
    pub minimum: Option<Exact>,
    pub maximum: Option<Exact>,
    pub exclusive_minimum: Option<Exact>,
    pub exclusive_maximum: Option<Exact>,
    pub multiple_of: Option<Exact>,
    pub min_length: usize,
    pub max_length: usize,
    pub pattern: Option<Regex>,
    pub format: Option<StringFormat>,
    /// Whether the string contains bytes as base64.
    pub base64: bool,
    pub prefix_items: Vec<SchemaNode>,
    pub items: Option<Box<SchemaNode>>,
    pub min_items: usize,
    pub max_items: usize,
    pub object: Option<ObjectNode>,
    /// Whether the value is personal. A personal value must not appear in a message.
    pub pii: bool,
    /// The column of the value. `None` inside arrays, and for values of several types.
    pub column: Option<ColumnId>,
    /// Whether the node has neither `enum` nor `const`.
    pub plain: bool,
    /// Whether the node has a bound for numbers, or `multipleOf`.
    pub bounded: bool,
    /// Whether all bounds are exact as doubles, so that most numbers can be compared as doubles.
    pub small_bounds: bool,
}

impl SchemaNode {
    /// The node of the schema `{}`.
    pub(crate) fn anything() -> SchemaNode {
        SchemaNode {
            types: Types(Types::ALL),
            enumeration: None,
            constant: None,
            choices: None,
            minimum: None,
            maximum: None,
            exclusive_minimum: None,
            exclusive_maximum: None,
            multiple_of: None,
            min_length: 0,
            max_length: usize::MAX,
            pattern: None,
            format: None,
            base64: false,
            prefix_items: Vec::new(),
            items: None,
            min_items: 0,
            max_items: usize::MAX,
            object: None,
            pii: false,
            column: None,
            plain: true,
            bounded: false,
            small_bounds: true,
        }
    }

    /// The node of a column: this node, or a node below it in objects.
    pub(super) fn find_column(&self, column: ColumnId) -> Option<&SchemaNode> {
        if self.column == Some(column) {
            return Some(self);
        }
        let object = self
            .object
            .as_ref()
            .filter(|object| object.columns.contains(&column))?;
        object
            .properties
            .iter()
            .find_map(|(_, node)| node.find_column(column))
    }
}

/// The rules for the members of an object.
#[derive(Debug)]
pub(crate) struct ObjectNode {
    pub properties: Vec<(String, SchemaNode)>,
    /// The names of the properties in quotes, like in JSON. Empty for a name that needs an escape.
    pub quoted: Vec<Vec<u8>>,
    /// Indices of the required properties.
    pub required: Vec<usize>,
    /// Names of required members that are not among the properties.
    pub required_others: Vec<String>,
    /// Whether members that are not among the properties are allowed.
    pub additional: bool,
    /// The columns of all nodes below. They get a missing value if the object is absent.
    pub columns: Vec<ColumnId>,
}
