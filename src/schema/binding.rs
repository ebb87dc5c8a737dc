//! `Binding`: converts the columns that one version decoded to the order and the types of another
//! version.
//!
//! The stable version decodes each request once. If the other arm of a rollout answers the request,
//! that version gets the same values under its own column numbers. Fields are matched by name.

use std::borrow::Cow;

use crate::schema::{
    ColumnSpec, Schema,
    columns::{Column, ColumnId, ColumnKind, Columns},
};

/// The source of each column of the new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    columns: Vec<ColumnBinding>,
    /// Whether both versions have the same columns in the same order.
    identity: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnBinding {
    /// A column of the old version, unchanged.
    Same(ColumnId),
    /// Integers of the old version, for a field of the new version that accepts any number.
    Widened(ColumnId),
    /// The old version does not decode the field.
    Missing(ColumnKind),
}

/// A field of the new version that cannot get the values of the old version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field \"{field}\" {reason}")]
pub(crate) struct UnboundField {
    pub field: String,
    pub reason: UnboundReason,
}

/// Why a field can't get the values of the old version. The message follows the name of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnboundReason {
    #[error("is the name of two fields, one of them nested")]
    Ambiguous,
    #[error("has values of several types, which no column carries; it becomes {}", plural(*.kind))]
    SeveralTypes { kind: ColumnKind },
    #[error("is required, but not decoded: the version before it does not have it")]
    NotDecoded,
    #[error("is decoded as {} by the old version, but the new version expects {}", plural(*.from), plural(*.to))]
    OtherKind { from: ColumnKind, to: ColumnKind },
}

impl Binding {
    /// Binds the columns of `new` to those of `old`. The error is the first field that cannot be
    /// bound.
    pub(crate) fn new(old: &Schema, new: &Schema) -> Result<Binding, UnboundField> {
        let (columns, unbound) = bind(old, new);
        if let Some(first) = unbound.into_iter().next() {
            return Err(first);
        }
        let is_same =
            |(index, bound): (ColumnId, &ColumnBinding)| *bound == ColumnBinding::Same(index);
        let identity =
            columns.len() == old.columns().len() && columns.iter().enumerate().all(is_same);
        Ok(Binding { columns, identity })
    }

    /// All fields that cannot be bound.
    pub(crate) fn unbound(old: &Schema, new: &Schema) -> Vec<UnboundField> {
        bind(old, new).1
    }

    #[cfg(test)]
    pub(crate) fn is_identity(&self) -> bool {
        self.identity
    }

    /// The columns of the new version. Columns are moved. Only widened columns are copied.
    pub(crate) fn bind(&self, columns: Columns) -> Columns {
        // The common case: a new version with the same fields.
        if self.identity {
            return columns;
        }
        let rows = columns.rows;
        let mut given: Vec<Option<Column>> = columns.columns.into_iter().map(Some).collect();
        // Names are unique, so no column is taken twice.
        let take = |id: ColumnId| given.get_mut(id).and_then(Option::take);
        self.columns_from(rows, take)
    }

    /// The columns of the new version, while the old version keeps its own. They are copied only if
    /// the two versions have different fields.
    pub(crate) fn bind_ref<'a>(&self, columns: &'a Columns) -> Cow<'a, Columns> {
        if self.identity {
            return Cow::Borrowed(columns);
        }
        let bound = self.columns_from(columns.rows, |id| columns.columns.get(id).cloned());
        Cow::Owned(bound)
    }

    /// `take` returns a column of the old version. This column always exists.
    fn columns_from(
        &self,
        rows: usize,
        mut take: impl FnMut(ColumnId) -> Option<Column>,
    ) -> Columns {
        let absent = || missing(ColumnKind::Number, rows);
        let bound = self.columns.iter().map(|bound| match bound {
            ColumnBinding::Same(id) => take(*id).unwrap_or_else(absent),
            ColumnBinding::Widened(id) => take(*id).map_or_else(absent, widen),
            ColumnBinding::Missing(kind) => missing(*kind, rows),
        });
        Columns {
            rows,
            columns: bound.collect(),
        }
    }
}

fn bind(old: &Schema, new: &Schema) -> (Vec<ColumnBinding>, Vec<UnboundField>) {
    let mut columns = Vec::with_capacity(new.columns().len());
    let mut unbound = Vec::new();
    for spec in new.columns() {
        let (column, reason) = match bind_column(old, new, spec) {
            Ok(column) => (column, None),
            // The placeholder keeps the indices of the following columns right.
            Err(reason) => (ColumnBinding::Missing(spec.kind), Some(reason)),
        };
        columns.push(column);
        unbound.extend(reason.map(|reason| UnboundField {
            field: spec.name.clone(),
            reason,
        }));
    }
    (columns, unbound)
}

fn bind_column(
    old: &Schema,
    new: &Schema,
    spec: &ColumnSpec,
) -> Result<ColumnBinding, UnboundReason> {
    // The column "/a/b" of a nested field may have the same name as a top-level field.
    let is_ambiguous = |schema: &Schema| {
        let columns = schema.columns().iter();
        columns.filter(|other| other.name == spec.name).count() > 1
    };
    if is_ambiguous(old) || is_ambiguous(new) {
        return Err(UnboundReason::Ambiguous);
    }
    let column = old.column(&spec.name);
    let known = column.and_then(|id| Some((id, old.columns().get(id)?.kind)));
    match (known, spec.kind) {
        (None, kind) if old.declares(&spec.name) => Err(UnboundReason::SeveralTypes { kind }),
        (None, _) if spec.required => Err(UnboundReason::NotDecoded),
        (None, kind) => Ok(ColumnBinding::Missing(kind)),
        (Some((id, from)), to) if from == to => Ok(ColumnBinding::Same(id)),
        (Some((id, ColumnKind::Integer)), ColumnKind::Number) => Ok(ColumnBinding::Widened(id)),
        (Some((_, from)), to) => Err(UnboundReason::OtherKind { from, to }),
    }
}

/// The values of a column, for messages.
fn plural(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Boolean => "booleans",
        ColumnKind::Integer => "whole numbers",
        ColumnKind::Number => "numbers",
        ColumnKind::Text => "strings",
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

/// Converts integers to numbers. The rounding is the same as when the new version decodes them.
fn widen(column: Column) -> Column {
    match column {
        Column::Integer(values) => Column::Number(
            values
                .into_iter()
                .map(|value| value.map_or(f64::NAN, |value| value as f64))
                .collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

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
        // Missing numbers are NaN, which is not equal to itself, so the debug output of the columns
        // is compared.
        let expected = format!("{:?}", decode(&new, &body));
        assert_eq!(format!("{:?}", *binding.bind_ref(&columns)), expected);
        assert!(matches!(binding.bind_ref(&columns), Cow::Borrowed(_)));
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
        assert_eq!(format!("{:?}", *binding.bind_ref(&columns)), expected);
        let bound = binding.bind(columns);
        assert_eq!(format!("{bound:?}"), expected);
        assert_eq!(bound.columns[3], Column::Boolean(vec![None, None, None]));
        assert_eq!(
            bound.columns[2],
            Column::Integer(vec![Some(1), Some(9_007_199_254_740_993), Some(3)])
        );
    }

    #[test]
    fn fields_that_cannot_be_bound_are_named() {
        let wrong = |old: Value, new: Value, required: &[&str]| {
            Binding::new(&schema(old, &[]), &schema(new, required))
                .unwrap_err()
                .to_string()
        };
        let text = json!({"a": {"type": "string"}});
        assert_eq!(
            wrong(
                text.clone(),
                json!({"a": {"type": "string", "contentEncoding": "base64"}}),
                &[]
            ),
            "field \"a\" is decoded as strings by the old version, but the new version expects bytes from base64"
        );
        assert_eq!(
            wrong(
                json!({"a": {"type": "number"}}),
                json!({"a": {"type": "integer"}}),
                &[]
            ),
            "field \"a\" is decoded as numbers by the old version, but the new version expects whole numbers"
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
            "field \"a\" has values of several types, which no column carries; it becomes strings"
        );
        let twice = json!({"a": {"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": false}, "/a/b": {"type": "string"}});
        assert!(wrong(twice.clone(), twice, &[]).contains("two fields"));
        // The new version has no column for the field, so nothing is bound.
        assert!(
            Binding::new(
                &schema(text, &[]),
                &schema(json!({"a": {"type": ["string", "number"]}}), &[])
            )
            .is_ok()
        );
    }
}
