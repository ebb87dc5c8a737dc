//! `Schema`: the supported JSON Schema, compiled once at load.

pub mod binding;
pub mod columns;
pub mod exact;
pub mod fault;
pub mod formats;
pub mod normalize;

use std::collections::HashSet;

use regex::Regex;
use serde_json::{Map, Value};

use crate::schema::{
    columns::{ColumnId, ColumnKind},
    exact::Exact,
    fault::{pointer_to, token},
    formats::Format,
};

/// What is wrong with a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    pub pointer: String,
    pub detail: String,
}

/// How a field's values may leave the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pii {
    #[default]
    None,
    Drop,
    Hash,
    Bucket,
}

/// A field that has a column.
#[derive(Clone, Debug)]
pub struct ColumnSpec {
    /// The property's name; a JSON pointer where it is nested in objects.
    pub name: String,
    pub kind: ColumnKind,
    pub nullable: bool,
    pub required: bool,
    pub pii: Pii,
    pub array_shape: Option<Vec<usize>>,
    /// An array's dimensions, `None` where the schema leaves one open.
    pub array_dims: Vec<Option<usize>>,
}

/// One compiled schema for one instance.
#[derive(Debug)]
pub struct Schema {
    pub root: Node,
    columns: Vec<ColumnSpec>,
    document: Value,
}

/// Bits of the JSON types that a node accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types(pub u8);

impl Types {
    pub const NULL: u8 = 1;
    pub const BOOLEAN: u8 = 2;
    pub const INTEGER: u8 = 4;
    pub const NUMBER: u8 = 8;
    pub const STRING: u8 = 16;
    pub const ARRAY: u8 = 32;
    pub const OBJECT: u8 = 64;
    pub const ALL: u8 = 0x7f;
    const NAMES: [(u8, &'static str); 7] = [
        (Types::NULL, "null"),
        (Types::BOOLEAN, "boolean"),
        (Types::INTEGER, "integer"),
        (Types::NUMBER, "number"),
        (Types::STRING, "string"),
        (Types::ARRAY, "array"),
        (Types::OBJECT, "object"),
    ];

    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    pub fn describe(self) -> String {
        let names: Vec<&str> = Types::NAMES
            .iter()
            .filter(|(bit, _)| self.has(*bit))
            .map(|(_, name)| *name)
            .collect();
        names.join(" or ")
    }
}

#[derive(Debug)]
pub struct Node {
    pub types: Types,
    pub enumeration: Option<Vec<Value>>,
    pub constant: Option<Value>,
    /// The texts of an `enum` that has no others (but perhaps null): compared without making a document of the value.
    pub choices: Option<Vec<String>>,
    pub minimum: Option<Exact>,
    pub maximum: Option<Exact>,
    pub exclusive_minimum: Option<Exact>,
    pub exclusive_maximum: Option<Exact>,
    pub multiple_of: Option<Exact>,
    pub min_length: usize,
    pub max_length: usize,
    pub pattern: Option<Regex>,
    pub format: Option<Format>,
    pub base64: bool,
    pub prefix_items: Vec<Node>,
    pub items: Option<Box<Node>>,
    pub min_items: usize,
    pub max_items: usize,
    pub object: Option<ObjectNode>,
    pub pii: bool,
    pub column: Option<ColumnId>,
    /// Neither `enum` nor `const`.
    pub plain: bool,
    /// Some rule for numbers beyond their type.
    pub bounded: bool,
    /// All of these rules are about numbers that a double holds exactly.
    pub small_bounds: bool,
}

impl Node {
    /// The schema `{}`.
    pub fn anything() -> Node {
        Node {
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

    fn below(&self, column: ColumnId) -> Option<&Node> {
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
            .find_map(|(_, node)| node.below(column))
    }
}

#[derive(Debug)]
pub struct ObjectNode {
    pub properties: Vec<(String, Node)>,
    /// The properties' names as JSON mostly has them, quotes included; empty where a name needs escapes.
    pub quoted: Vec<Vec<u8>>,
    pub required: Vec<usize>,
    /// Required, but not among the properties.
    pub required_others: Vec<String>,
    pub additional: bool,
    /// Columns of everything below, for an object that is absent.
    pub columns: Vec<ColumnId>,
}

const MAX_DEPTH: usize = 32;
const KNOWN: [&str; 33] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "default",
    "format",
    "contentEncoding",
    "contentMediaType",
    "title",
    "description",
    "examples",
    "deprecated",
    "$comment",
    "$schema",
    "$id",
    "x-unit",
    "x-pii",
    "x-slice",
    "readOnly",
];

impl Schema {
    /// Compiles the schema of one instance; its root must be an object.
    pub fn compile(document: &Value) -> Result<Schema, SchemaError> {
        let mut compiler = Compiler {
            columns: Vec::new(),
        };
        let root = compiler.node(
            document,
            &Place {
                pointer: String::new(),
                field: Some(String::new()),
                required: true,
                nullable: false,
                pii: Pii::None,
                depth: 0,
            },
        )?;
        if root.types.0 != Types::OBJECT || root.object.is_none() {
            return Err(SchemaError {
                pointer: "/type".to_owned(),
                detail: "must be \"object\", with properties".to_owned(),
            });
        }
        if root.object.as_ref().is_some_and(|object| {
            object
                .properties
                .iter()
                .any(|(name, _)| name == "instances")
        }) {
            return Err(SchemaError {
                pointer: "/properties/instances".to_owned(),
                detail: "\"instances\" is the request's own member and can't be a field".to_owned(),
            });
        }
        Ok(Schema {
            root,
            columns: compiler.columns,
            document: document.clone(),
        })
    }

    pub fn columns(&self) -> &[ColumnSpec] {
        &self.columns
    }

    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The column of a field, by its name.
    pub fn column(&self, name: &str) -> Option<ColumnId> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Whether there is a property of this name, as columns are named.
    pub fn declares(&self, name: &str) -> bool {
        fn below(object: Option<&ObjectNode>, field: &str, name: &str) -> bool {
            object.is_some_and(|object| {
                object.properties.iter().any(|(property, node)| {
                    let field = if field.is_empty() {
                        property.clone()
                    } else {
                        format!("{}/{}", pointer_to(field), token(property))
                    };
                    field == name || below(node.object.as_ref(), &field, name)
                })
            })
        }
        below(self.root.object.as_ref(), "", name)
    }

    /// The node whose values go to a column.
    pub fn node(&self, column: ColumnId) -> Option<&Node> {
        self.root.below(column)
    }

    /// A field that every instance must have, but that no column carries.
    pub fn required_without_column(&self) -> Option<&str> {
        let object = self.root.object.as_ref()?;
        let mut required = object
            .required
            .iter()
            .filter_map(|index| object.properties.get(*index));
        let bare = required.find(|(_, node)| {
            node.column.is_none()
                && node
                    .object
                    .as_ref()
                    .is_none_or(|object| object.columns.is_empty())
        });
        bare.map(|(name, _)| name.as_str())
            .or(object.required_others.first().map(String::as_str))
    }

    /// Whether any field is personal.
    pub fn is_personal(&self) -> bool {
        self.columns.iter().any(|column| column.pii != Pii::None)
    }

    /// Whether a top-level field may be null.
    pub fn allows_null(&self, field: &str) -> bool {
        self.top(field)
            .is_some_and(|node| node.types.has(Types::NULL))
    }

    /// Whether a top-level field takes nothing but arrays, and perhaps null.
    pub fn is_list(&self, field: &str) -> bool {
        self.top(field)
            .is_some_and(|node| node.types.0 & !Types::NULL == Types::ARRAY)
    }

    fn top(&self, field: &str) -> Option<&Node> {
        self.root
            .object
            .as_ref()?
            .properties
            .iter()
            .find(|(name, _)| name == field)
            .map(|(_, node)| node)
    }
}

struct Compiler {
    columns: Vec<ColumnSpec>,
}

/// Where a node stands.
struct Place {
    pointer: String,
    /// The name of the field, while only objects lie above; `None` inside arrays.
    field: Option<String>,
    required: bool,
    nullable: bool,
    pii: Pii,
    depth: usize,
}

fn fail<T>(place: &Place, keyword: &str, detail: impl Into<String>) -> Result<T, SchemaError> {
    let pointer = if keyword.is_empty() {
        place.pointer.clone()
    } else {
        format!("{}/{}", place.pointer, token(keyword))
    };
    Err(SchemaError {
        pointer,
        detail: detail.into(),
    })
}

/// A name with its quotes; empty where JSON needs an escape in it.
fn quoted(name: &str) -> Vec<u8> {
    if name
        .bytes()
        .any(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\'))
    {
        Vec::new()
    } else {
        format!("\"{name}\"").into_bytes()
    }
}

/// The texts of an enumeration that has nothing else but null.
fn choices(values: &[Value]) -> Option<Vec<String>> {
    let texts = values.iter().filter(|value| !value.is_null());
    texts
        .map(|value| value.as_str().map(str::to_owned))
        .collect()
}

impl Compiler {
    fn node(&mut self, document: &Value, place: &Place) -> Result<Node, SchemaError> {
        let Some(members) = document.as_object() else {
            return fail(place, "", "a schema must be an object");
        };
        if place.depth > MAX_DEPTH {
            return fail(place, "", "nested too deeply");
        }
        if let Some(unknown) = members.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return fail(place, unknown, "this keyword is not supported");
        }
        let pii = pii(members, place)?;
        let types = types(members, place)?;
        let number = |key: &str| match members.get(key) {
            None => Ok(None),
            Some(Value::Number(value)) => Ok(Exact::of(value)),
            Some(_) => fail(place, key, "must be a number"),
        };
        let count = |key: &str, default: usize| match members.get(key) {
            None => Ok(default),
            Some(value) => value.as_u64().map_or_else(
                || fail(place, key, "must be a whole number of at least 0"),
                |count| Ok(usize::try_from(count).unwrap_or(usize::MAX)),
            ),
        };
        let multiple_of = number("multipleOf")?;
        if multiple_of.is_some_and(|step| step.value <= 0.0) {
            return fail(place, "multipleOf", "must be above 0");
        }
        let pattern =
            match members.get("pattern") {
                None => None,
                Some(Value::String(text)) => Some(Regex::new(text).or_else(|error| {
                    fail(place, "pattern", format!("does not compile: {error}"))
                })?),
                Some(_) => return fail(place, "pattern", "must be a string"),
            };
        let format = match members.get("format").map(Value::as_str) {
            None => None,
            Some(Some("date-time")) => Some(Format::DateTime),
            Some(Some("date")) => Some(Format::Date),
            Some(Some("uuid")) => Some(Format::Uuid),
            Some(_) => return fail(place, "format", "must be date-time, date or uuid"),
        };
        let base64 = match members.get("contentEncoding").map(Value::as_str) {
            None => false,
            Some(Some("base64")) => true,
            Some(_) => return fail(place, "contentEncoding", "must be base64"),
        };
        let enumeration = match members.get("enum") {
            None => None,
            Some(Value::Array(values)) if !values.is_empty() => Some(values.clone()),
            Some(_) => return fail(place, "enum", "must be a list with at least one value"),
        };
        let below = |pointer: String, depth: usize| Place {
            pointer,
            field: None,
            required: true,
            nullable: false,
            pii,
            depth,
        };
        let mut prefix_items = Vec::new();
        if let Some(list) = members.get("prefixItems") {
            let Some(list) = list.as_array() else {
                return fail(place, "prefixItems", "must be a list of schemas");
            };
            for (index, item) in list.iter().enumerate() {
                prefix_items.push(self.node(
                    item,
                    &below(
                        format!("{}/prefixItems/{index}", place.pointer),
                        place.depth + 1,
                    ),
                )?);
            }
        }
        let items = match members.get("items") {
            None => None,
            Some(item) => Some(Box::new(self.node(
                item,
                &below(format!("{}/items", place.pointer), place.depth + 1),
            )?)),
        };
        let object = self.object(members, place, pii, types)?;
        let mut node = Node {
            types,
            choices: enumeration.as_deref().and_then(choices),
            enumeration,
            constant: members.get("const").cloned(),
            minimum: number("minimum")?,
            maximum: number("maximum")?,
            exclusive_minimum: number("exclusiveMinimum")?,
            exclusive_maximum: number("exclusiveMaximum")?,
            multiple_of,
            min_length: count("minLength", 0)?,
            max_length: count("maxLength", usize::MAX)?,
            pattern,
            format,
            base64,
            prefix_items,
            items,
            min_items: count("minItems", 0)?,
            max_items: count("maxItems", usize::MAX)?,
            object,
            pii: pii != Pii::None,
            column: None,
            plain: false,
            bounded: false,
            small_bounds: false,
        };
        for (low, high, key) in [
            (node.min_length, node.max_length, "maxLength"),
            (node.min_items, node.max_items, "maxItems"),
        ] {
            if low > high {
                return fail(place, key, "is below its minimum");
            }
        }
        if let (Some(low), Some(high)) = (node.minimum, node.maximum)
            && low.value > high.value
        {
            return fail(place, "maximum", "is below minimum");
        }
        node.plain = node.enumeration.is_none() && node.constant.is_none();
        let bounds = [
            node.minimum,
            node.maximum,
            node.exclusive_minimum,
            node.exclusive_maximum,
            node.multiple_of,
        ];
        node.bounded = bounds.iter().any(Option::is_some);
        node.small_bounds = bounds.iter().flatten().all(|bound| bound.is_small());
        node.column = self.column(&node, place, pii);
        Ok(node)
    }

    fn object(
        &mut self,
        members: &Map<String, Value>,
        place: &Place,
        pii: Pii,
        types: Types,
    ) -> Result<Option<ObjectNode>, SchemaError> {
        if !types.has(Types::OBJECT)
            || !(members.contains_key("properties")
                || members.contains_key("required")
                || members.contains_key("additionalProperties"))
        {
            return Ok(None);
        }
        let additional = match members.get("additionalProperties") {
            Some(Value::Bool(additional)) => *additional,
            Some(_) => return fail(place, "additionalProperties", "must be true or false"),
            None => {
                return fail(
                    place,
                    "additionalProperties",
                    "must be written: true or false",
                );
            }
        };
        let empty = Map::new();
        let declared = match members.get("properties") {
            None => &empty,
            Some(Value::Object(declared)) => declared,
            Some(_) => return fail(place, "properties", "must be an object"),
        };
        let mut names = HashSet::new();
        if let Some(required) = members.get("required") {
            let Some(list) = required.as_array() else {
                return fail(place, "required", "must be a list of names");
            };
            for name in list {
                let Some(name) = name.as_str() else {
                    return fail(place, "required", "must be a list of names");
                };
                if !additional && !declared.contains_key(name) {
                    return fail(
                        place,
                        "required",
                        format!("\"{name}\" is not among the properties"),
                    );
                }
                names.insert(name);
            }
        }
        let first_column = self.columns.len();
        let mut properties = Vec::with_capacity(declared.len());
        for (name, schema) in declared {
            let field = place.field.as_ref().map(|field| {
                if place.depth == 0 {
                    name.clone()
                } else {
                    format!("{}/{}", pointer_to(field), token(name))
                }
            });
            let required = names.contains(name.as_str());
            let place = Place {
                pointer: format!("{}/properties/{}", place.pointer, token(name)),
                field,
                required: required && place.required,
                nullable: place.nullable || types.has(Types::NULL),
                pii,
                depth: place.depth + 1,
            };
            properties.push((name.clone(), self.node(schema, &place)?));
        }
        let required = properties
            .iter()
            .enumerate()
            .filter(|(_, (name, _))| names.contains(name.as_str()))
            .map(|(index, _)| index)
            .collect();
        let required_others = names
            .iter()
            .filter(|name| !declared.contains_key(**name))
            .map(|name| (*name).to_owned())
            .collect();
        let quoted = properties.iter().map(|(name, _)| quoted(name)).collect();
        Ok(Some(ObjectNode {
            properties,
            quoted,
            required,
            required_others,
            additional,
            columns: (first_column..self.columns.len()).collect(),
        }))
    }

    fn column(&mut self, node: &Node, place: &Place, pii: Pii) -> Option<ColumnId> {
        let name = place.field.clone().filter(|name| !name.is_empty())?;
        let values = node.enumeration.iter().flatten().chain(&node.constant);
        let mut narrowed = node.types.0;
        if node.enumeration.is_some() || node.constant.is_some() {
            narrowed &= values.map(type_bit).fold(0, |all, bit| {
                all | bit
                    | if bit == Types::INTEGER {
                        Types::NUMBER
                    } else {
                        0
                    }
            });
        }
        if narrowed & Types::NUMBER != 0
            && node.types.has(Types::INTEGER)
            && node.types.0 & Types::NUMBER == 0
        {
            narrowed &= !Types::NUMBER;
        }
        let kind = match narrowed & !Types::NULL {
            Types::BOOLEAN => ColumnKind::Boolean,
            Types::INTEGER => ColumnKind::Integer,
            bits if bits & Types::NUMBER != 0 && bits & !(Types::NUMBER | Types::INTEGER) == 0 => {
                ColumnKind::Number
            }
            Types::STRING if node.base64 => ColumnKind::Binary,
            Types::STRING => ColumnKind::Text,
            Types::ARRAY if holds_only(node, Types::INTEGER | Types::NUMBER) => ColumnKind::Array,
            Types::ARRAY if holds_only(node, Types::BOOLEAN) => ColumnKind::BooleanArray,
            _ => return None,
        };
        let nullable = node.types.has(Types::NULL) || place.nullable || !place.required;
        let array_shape = kind.is_array().then(|| fixed_shape(node)).flatten();
        let array_dims = if kind.is_array() {
            dims(node)
        } else {
            Vec::new()
        };
        self.columns.push(ColumnSpec {
            name,
            kind,
            nullable,
            required: place.required,
            pii,
            array_shape,
            array_dims,
        });
        Some(self.columns.len() - 1)
    }
}

fn pii(members: &Map<String, Value>, place: &Place) -> Result<Pii, SchemaError> {
    match members.get("x-pii") {
        None => Ok(place.pii),
        Some(Value::Bool(true)) => Ok(Pii::Drop),
        Some(Value::Bool(false)) => Ok(place.pii),
        Some(Value::String(text)) if text == "drop" => Ok(Pii::Drop),
        Some(Value::String(text)) if text == "hash" => Ok(Pii::Hash),
        Some(Value::String(text)) if text == "bucket" => Ok(Pii::Bucket),
        Some(_) => fail(
            place,
            "x-pii",
            "must be true, \"drop\", \"hash\" or \"bucket\"",
        ),
    }
}

fn types(members: &Map<String, Value>, place: &Place) -> Result<Types, SchemaError> {
    let bit = |name: &Value| {
        let found = Types::NAMES
            .iter()
            .find(|(_, known)| Some(*known) == name.as_str());
        found.map_or_else(
            || {
                fail(
                    place,
                    "type",
                    "must be null, boolean, integer, number, string, array or object",
                )
            },
            |(bit, _)| Ok(*bit),
        )
    };
    match members.get("type") {
        None => Ok(Types(Types::ALL)),
        Some(Value::Array(names)) if !names.is_empty() => names
            .iter()
            .try_fold(0, |bits, name| Ok(bits | bit(name)?))
            .map(Types),
        Some(name) => bit(name).map(Types),
    }
}

fn type_bit(value: &Value) -> u8 {
    match value {
        Value::Null => Types::NULL,
        Value::Bool(_) => Types::BOOLEAN,
        Value::Number(number) if number.as_f64().is_some_and(|value| value.fract() == 0.0) => {
            Types::INTEGER
        }
        Value::Number(_) => Types::NUMBER,
        Value::String(_) => Types::STRING,
        Value::Array(_) => Types::ARRAY,
        Value::Object(_) => Types::OBJECT,
    }
}

/// Whether an array, however nested, has no other elements than these.
fn holds_only(node: &Node, elements: u8) -> bool {
    let fits = |node: &Node| match node.types.0 {
        Types::ARRAY => holds_only(node, elements),
        bits => bits & !elements == 0,
    };
    node.items.as_deref().is_some_and(fits) && node.prefix_items.iter().all(fits)
}

fn dims(node: &Node) -> Vec<Option<usize>> {
    let mut all = vec![(node.min_items == node.max_items).then_some(node.min_items)];
    all.extend(
        node.items
            .as_deref()
            .filter(|items| items.types.has(Types::ARRAY))
            .map(dims)
            .unwrap_or_default(),
    );
    all
}

fn fixed_shape(node: &Node) -> Option<Vec<usize>> {
    if node.types.0 != Types::ARRAY {
        return Some(Vec::new());
    }
    let mut shape = vec![(node.min_items == node.max_items).then_some(node.min_items)?];
    shape.extend(fixed_shape(node.items.as_deref()?)?);
    Some(shape)
}
