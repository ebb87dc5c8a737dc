//! Binding: the columns that one version decoded, as another version takes them, by the fields' names.
//!
//! A request is decoded once, by the stable version. Where its callers may be answered by another version, that one gets
//! the same values under its own column numbers.

use crate::schema::{
    ColumnSpec, Schema,
    columns::{Column, ColumnId, ColumnKind, Columns},
};

/// How each column of the new version is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    columns: Vec<Bound>,
    /// Both have the same columns in the same order.
    identity: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Same(ColumnId),
    /// Whole numbers where the new version takes any number.
    Widened(ColumnId),
    /// The old version does not read the field.
    Missing(ColumnKind),
}

/// A field whose values can't be handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbound {
    pub field: String,
    pub detail: String,
}

impl Binding {
    /// # Errors
    /// Names the first field that can't be handed on, and why.
    pub fn new(old: &Schema, new: &Schema) -> Result<Binding, String> {
        let (columns, unbound) = bind(old, new);
        if let Some(first) = unbound.first() {
            return Err(format!("field \"{}\" {}", first.field, first.detail));
        }
        let same = |(index, bound): (ColumnId, &Bound)| *bound == Bound::Same(index);
        let identity = columns.len() == old.columns().len() && columns.iter().enumerate().all(same);
        Ok(Binding { columns, identity })
    }

    /// Every field that can't be handed on.
    pub fn unbound(old: &Schema, new: &Schema) -> Vec<Unbound> {
        bind(old, new).1
    }

    pub fn is_identity(&self) -> bool {
        self.identity
    }

    /// Hands the old version's columns on; nothing is copied but whole numbers that become floating-point ones.
    pub fn bind(&self, columns: Columns) -> Columns {
        if self.identity {
            return columns;
        }
        let rows = columns.rows;
        let mut given: Vec<Option<Column>> = columns.columns.into_iter().map(Some).collect();
        // Names are unique, so no column is taken twice.
        let mut take = |id: ColumnId| given.get_mut(id).and_then(Option::take);
        let bound = self.columns.iter().map(|bound| match bound {
            Bound::Same(id) => take(*id).unwrap_or_else(|| missing(ColumnKind::Number, rows)),
            Bound::Widened(id) => take(*id).map_or_else(
                || missing(ColumnKind::Number, rows),
                |column| widened(&column),
            ),
            Bound::Missing(kind) => missing(*kind, rows),
        });
        Columns {
            rows,
            columns: bound.collect(),
        }
    }

    /// The same, for a second version that gets a copy.
    pub fn bind_ref(&self, columns: &Columns) -> Columns {
        if self.identity {
            return columns.clone();
        }
        let rows = columns.rows;
        let bound = self.columns.iter().map(|bound| match bound {
            Bound::Same(id) => columns
                .columns
                .get(*id)
                .cloned()
                .unwrap_or_else(|| missing(ColumnKind::Number, rows)),
            Bound::Widened(id) => columns
                .columns
                .get(*id)
                .map_or_else(|| missing(ColumnKind::Number, rows), widened),
            Bound::Missing(kind) => missing(*kind, rows),
        });
        Columns {
            rows,
            columns: bound.collect(),
        }
    }
}

fn bind(old: &Schema, new: &Schema) -> (Vec<Bound>, Vec<Unbound>) {
    let mut columns = Vec::with_capacity(new.columns().len());
    let mut unbound = Vec::new();
    for (index, spec) in new.columns().iter().enumerate() {
        let mut refuse = |detail: String| {
            unbound.push(Unbound {
                field: spec.name.clone(),
                detail,
            })
        };
        let twice = |columns: &[ColumnSpec]| {
            columns
                .iter()
                .filter(|other| other.name == spec.name)
                .count()
                > 1
        };
        if twice(old.columns()) || twice(new.columns()) {
            refuse("is the name of two fields, one of them nested".to_owned());
            continue;
        }
        let Some((id, known)) = old
            .column(&spec.name)
            .and_then(|id| Some((id, old.columns().get(id)?)))
        else {
            if old.declares(&spec.name) {
                refuse(format!(
                    "has values of several types, which no column carries; it becomes {}",
                    name(spec.kind)
                ));
            } else if spec.required {
                refuse(
                    "is required, but not decoded: the version before it does not have it"
                        .to_owned(),
                );
            }
            columns.push(Bound::Missing(spec.kind));
            continue;
        };
        match (known.kind, spec.kind) {
            (from, to) if from == to => columns.push(Bound::Same(id)),
            (ColumnKind::Integer, ColumnKind::Number) => columns.push(Bound::Widened(id)),
            (from, to) => {
                refuse(format!(
                    "is decoded as {}, and taken as {}",
                    name(from),
                    name(to)
                ));
                columns.push(Bound::Missing(spec.kind));
            }
        }
        debug_assert_eq!(columns.len(), index + 1);
    }
    (columns, unbound)
}

fn name(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Boolean => "booleans",
        ColumnKind::Integer => "whole numbers",
        ColumnKind::Number => "numbers",
        ColumnKind::Text => "texts",
        ColumnKind::Binary => "bytes from base64",
        ColumnKind::Array => "arrays of numbers",
        ColumnKind::BooleanArray => "arrays of booleans",
    }
}

fn missing(kind: ColumnKind, rows: usize) -> Column {
    let mut column = Column::new(kind);
    (0..rows).for_each(|_| column.push_missing());
    column
}

fn widened(column: &Column) -> Column {
    match column {
        Column::Integer(values) => Column::Number(
            values
                .iter()
                .map(|value| value.map_or(f64::NAN, |value| value as f64))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        decode::{DecodeLimits, decode_request},
        schema::{
            Schema,
            binding::Binding,
            columns::{Column, Columns},
        },
    };

    const LIMITS: DecodeLimits = DecodeLimits {
        max_instances: 100,
        max_depth: 16,
        max_array_values: 1000,
    };

    fn schema(properties: Value, required: &[&str]) -> Schema {
        let document = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        Schema::compile(&document).unwrap()
    }

    fn decode(schema: &Schema, body: &Value) -> Columns {
        decode_request(schema, body.to_string().as_bytes(), &LIMITS)
            .unwrap()
            .columns
    }

    fn of_package(version: &str) -> (Schema, Vec<Value>) {
        let directory = format!("{}/models/churn/{version}", env!("CARGO_MANIFEST_DIR"));
        let document: Value = serde_json::from_str(
            &fs_err::read_to_string(format!("{directory}/schema.json")).unwrap(),
        )
        .unwrap();
        let golden = fs_err::read_to_string(format!("{directory}/golden.jsonl")).unwrap();
        let inputs = golden
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["input"].take())
            .collect();
        (Schema::compile(&document["input"]).unwrap(), inputs)
    }

    #[test]
    fn versions_with_the_same_fields_share_columns() {
        let ((old, inputs), (new, _)) = (of_package("1.0.0"), of_package("1.1.0"));
        let binding = Binding::new(&old, &new).unwrap();
        assert!(binding.is_identity());
        let body = json!({ "instances": inputs });
        let columns = decode(&old, &body);
        assert_eq!(columns.rows, 20);
        // Missing numbers are NaN, which equals nothing: compared as text.
        let expected = format!("{:?}", decode(&new, &body));
        assert_eq!(format!("{:?}", binding.bind_ref(&columns)), expected);
        assert_eq!(format!("{:?}", binding.bind(columns)), expected);
    }

    #[test]
    fn columns_are_found_by_name() {
        let old = schema(
            json!({"a": {"type": "integer"}, "gone": {"type": "string"}, "c": {"type": "string"}, "d": {"type": ["integer", "null"]},
                   "e": {"type": "object", "properties": {"f": {"type": "array", "items": {"type": "number"}}}, "additionalProperties": false}}),
            &["a"],
        );
        let new = schema(
            json!({"c": {"type": "string"}, "e": {"type": "object", "properties": {"f": {"type": "array", "items": {"type": "number"}}}, "additionalProperties": false},
                   "a": {"type": "integer"}, "new": {"type": "boolean"}, "d": {"type": ["number", "null"]}, "text": {"type": "string"}}),
            &["a"],
        );
        let binding = Binding::new(&old, &new).unwrap();
        assert!(!binding.is_identity());
        let body = |extra: bool| {
            let mut rows = json!([{"a": 1, "c": "x", "d": 7, "e": {"f": [1, 2.5]}}, {"a": 9_007_199_254_740_993_i64, "d": null}, {"a": 3, "c": "", "e": {}}]);
            if extra {
                rows[0]["gone"] = json!("y");
            }
            json!({ "instances": rows })
        };
        let columns = decode(&old, &body(true));
        let expected = format!("{:?}", decode(&new, &body(false)));
        assert_eq!(format!("{:?}", binding.bind_ref(&columns)), expected);
        let bound = binding.bind(columns);
        assert_eq!(format!("{bound:?}"), expected);
        assert_eq!(bound.columns[3], Column::Boolean(vec![None, None, None]));
        assert_eq!(
            bound.columns[2],
            Column::Integer(vec![Some(1), Some(9_007_199_254_740_993), Some(3)])
        );
    }

    #[test]
    fn what_can_not_be_handed_on_is_named() {
        let wrong = |old: Value, new: Value, required: &[&str]| {
            Binding::new(&schema(old, &[]), &schema(new, required)).unwrap_err()
        };
        let text = json!({"a": {"type": "string"}});
        assert_eq!(
            wrong(
                text.clone(),
                json!({"a": {"type": "string", "contentEncoding": "base64"}}),
                &[]
            ),
            "field \"a\" is decoded as texts, and taken as bytes from base64"
        );
        assert_eq!(
            wrong(
                json!({"a": {"type": "number"}}),
                json!({"a": {"type": "integer"}}),
                &[]
            ),
            "field \"a\" is decoded as numbers, and taken as whole numbers"
        );
        assert_eq!(
            wrong(
                text.clone(),
                json!({"a": {"type": "string"}, "b": {"type": "number"}}),
                &["b"]
            ),
            "field \"b\" is required, but not decoded: the version before it does not have it"
        );
        assert_eq!(
            wrong(
                json!({"a": {"type": ["string", "number"]}}),
                text.clone(),
                &[]
            ),
            "field \"a\" has values of several types, which no column carries; it becomes texts"
        );
        let twice = json!({"a": {"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": false}, "/a/b": {"type": "string"}});
        assert!(wrong(twice.clone(), twice, &[]).contains("two fields"));
        // A field that loses its column is simply not handed on.
        assert!(
            Binding::new(
                &schema(text, &[]),
                &schema(json!({"a": {"type": ["string", "number"]}}), &[])
            )
            .is_ok()
        );
    }
}
