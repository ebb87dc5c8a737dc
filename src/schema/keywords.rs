//! `Keywords`: the keywords of one subschema, read and checked one by one.

use regex::Regex;
use serde_json::{Map, Value};

use crate::schema::{
    Pii, SchemaError, Types, exact::Exact, formats::StringFormat, node_place::NodePlace,
};

/// The supported keywords. Unknown keywords are rejected: an ignored rule would be worse than no
/// rule.
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

pub(super) struct Keywords<'a> {
    members: &'a Map<String, Value>,
    place: &'a NodePlace,
}

impl<'a> Keywords<'a> {
    pub(super) fn new(
        document: &'a Value,
        place: &'a NodePlace,
    ) -> Result<Keywords<'a>, SchemaError> {
        let Some(members) = document.as_object() else {
            return place.fail("", "a schema must be an object");
        };
        if let Some(unknown) = members.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return place.fail(unknown, "this keyword is not supported");
        }
        Ok(Keywords { members, place })
    }

    pub(super) fn get(&self, keyword: &str) -> Option<&'a Value> {
        self.members.get(keyword)
    }

    fn fail<T>(&self, keyword: &str, detail: impl Into<String>) -> Result<T, SchemaError> {
        self.place.fail(keyword, detail)
    }

    pub(super) fn number(&self, keyword: &str) -> Result<Option<Exact>, SchemaError> {
        match self.get(keyword) {
            None => Ok(None),
            Some(Value::Number(value)) => Ok(Exact::of(value)),
            Some(_) => self.fail(keyword, "must be a number"),
        }
    }

    pub(super) fn count(&self, keyword: &str, default: usize) -> Result<usize, SchemaError> {
        let Some(value) = self.get(keyword) else {
            return Ok(default);
        };
        match value.as_u64() {
            Some(count) => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
            None => self.fail(keyword, "must be a whole number of at least 0"),
        }
    }

    pub(super) fn multiple_of(&self) -> Result<Option<Exact>, SchemaError> {
        let step = self.number("multipleOf")?;
        // JSON Schema requires a value above 0. A step of 0 would cause a division by 0.
        if step.is_some_and(|step| step.value <= 0.0) {
            return self.fail("multipleOf", "must be above 0");
        }
        Ok(step)
    }

    pub(super) fn pattern(&self) -> Result<Option<Regex>, SchemaError> {
        match self.get("pattern") {
            None => Ok(None),
            Some(Value::String(text)) => Regex::new(text).map(Some).map_err(|error| SchemaError {
                source: Some(error),
                ..self.place.error("pattern", "does not compile")
            }),
            Some(_) => self.fail("pattern", "must be a string"),
        }
    }

    pub(super) fn format(&self) -> Result<Option<StringFormat>, SchemaError> {
        match self.get("format").map(Value::as_str) {
            None => Ok(None),
            Some(Some("date-time")) => Ok(Some(StringFormat::DateTime)),
            Some(Some("date")) => Ok(Some(StringFormat::Date)),
            Some(Some("uuid")) => Ok(Some(StringFormat::Uuid)),
            Some(_) => self.fail("format", "must be date-time, date or uuid"),
        }
    }

    pub(super) fn base64(&self) -> Result<bool, SchemaError> {
        match self.get("contentEncoding").map(Value::as_str) {
            None => Ok(false),
            Some(Some("base64")) => Ok(true),
            Some(_) => self.fail("contentEncoding", "must be base64"),
        }
    }

    pub(super) fn enumeration(&self) -> Result<Option<Vec<Value>>, SchemaError> {
        match self.get("enum") {
            None => Ok(None),
            // An empty list would refuse every value.
            Some(Value::Array(values)) if !values.is_empty() => Ok(Some(values.clone())),
            Some(_) => self.fail("enum", "must be a list with at least one value"),
        }
    }

    pub(super) fn prefix_items(&self) -> Result<&'a [Value], SchemaError> {
        match self.get("prefixItems") {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => self.fail("prefixItems", "must be a list of schemas"),
        }
    }

    /// The keyword `x-pii`. A part of a personal value is personal, so the node inherits it from
    /// the node above.
    pub(super) fn pii(&self) -> Result<Pii, SchemaError> {
        match self.get("x-pii") {
            None | Some(Value::Bool(false)) => Ok(self.place.pii),
            Some(Value::Bool(true)) => Ok(Pii::Drop),
            Some(Value::String(text)) if text == "drop" => Ok(Pii::Drop),
            Some(Value::String(text)) if text == "hash" => Ok(Pii::Hash),
            Some(Value::String(text)) if text == "bucket" => Ok(Pii::Bucket),
            Some(_) => self.fail("x-pii", "must be true, \"drop\", \"hash\" or \"bucket\""),
        }
    }

    pub(super) fn types(&self) -> Result<Types, SchemaError> {
        let bit = |name: &Value| {
            let found = Types::NAMES
                .iter()
                .find(|(_, known)| Some(*known) == name.as_str());
            match found {
                Some((bit, _)) => Ok(*bit),
                None => self.fail(
                    "type",
                    "must be null, boolean, integer, number, string, array or object",
                ),
            }
        };
        match self.get("type") {
            None => Ok(Types(Types::ALL)),
            Some(Value::Array(names)) if !names.is_empty() => names
                .iter()
                .try_fold(0, |bits, name| Ok(bits | bit(name)?))
                .map(Types),
            Some(name) => bit(name).map(Types),
        }
    }

    /// Whether the schema describes the members of objects.
    pub(super) fn describes_members(&self) -> bool {
        ["properties", "required", "additionalProperties"]
            .iter()
            .any(|keyword| self.members.contains_key(*keyword))
    }

    /// The keyword `additionalProperties`, which is required. The default of JSON Schema, true,
    /// would silently ignore misspelled fields.
    pub(super) fn additional_properties(&self) -> Result<bool, SchemaError> {
        match self.get("additionalProperties") {
            Some(Value::Bool(additional)) => Ok(*additional),
            Some(_) => self.fail("additionalProperties", "must be true or false"),
            None => self.fail("additionalProperties", "must be written: true or false"),
        }
    }

    pub(super) fn properties(&self) -> Result<Option<&'a Map<String, Value>>, SchemaError> {
        match self.get("properties") {
            None => Ok(None),
            Some(Value::Object(declared)) => Ok(Some(declared)),
            Some(_) => self.fail("properties", "must be an object"),
        }
    }

    /// The names of required members, without repetitions. They must be among `declared`, unless
    /// other members are allowed.
    pub(super) fn required(
        &self,
        declared: Option<&Map<String, Value>>,
        additional: bool,
    ) -> Result<Vec<&'a str>, SchemaError> {
        let mut names = Vec::new();
        let Some(required) = self.get("required") else {
            return Ok(names);
        };
        let Some(list) = required.as_array() else {
            return self.fail("required", "must be a list of names");
        };
        for name in list {
            let Some(name) = name.as_str() else {
                return self.fail("required", "must be a list of names");
            };
            // No request could satisfy both rules.
            if !additional && !declared.is_some_and(|declared| declared.contains_key(name)) {
                let detail = format!("\"{name}\" is not among the properties");
                return self.fail("required", detail);
            }
            // A repeated name would report the same fault twice.
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }
}
