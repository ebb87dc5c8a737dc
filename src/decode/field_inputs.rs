//! Decodes requests with one array per field, such as the tensors of a protocol.

use crate::{
    decode::{
        FieldValues,
        cursor::{Cursor, JsonKind},
        decoder::{DecodeResult, DecodeStep, Decoder},
        malformed::MalformedRequest,
    },
    schema::{
        ColumnSpec, SchemaNode,
        columns::ColumnKind,
        fault::{FaultSubject, shorten},
    },
};

impl<'a> Decoder<'a> {
    pub(super) fn fields(&mut self, inputs: &[FieldValues<'a>], rows: usize) -> DecodeResult<()> {
        // The limit is checked before columns are filled: an absent optional field costs one entry
        // per row.
        if rows > self.limits.max_instances {
            return Err(MalformedRequest::TooManyRows {
                limit: self.limits.max_instances,
            }
            .into());
        }
        let schema = self.schema;
        let mut given = vec![false; schema.columns().len()];
        for input in inputs {
            let Some((spec, node)) = schema
                .columns()
                .get(input.column)
                .zip(schema.node(input.column))
            else {
                continue;
            };
            if let Some(given) = given.get_mut(input.column) {
                *given = true;
            }
            // Each field has its own text.
            self.cursor = Cursor::new(input.text);
            self.path.push(DecodeStep::Name(&spec.name));
            self.field(spec, node, rows)?;
            self.path.pop();
        }
        self.complete_fields(&given, rows);
        self.columns.rows = rows;
        Ok(())
    }

    /// Reports the required fields that the request lacks, and writes missing values for the
    /// optional ones.
    fn complete_fields(&mut self, given: &[bool], rows: usize) {
        let schema = self.schema;
        for (column, spec) in schema
            .columns()
            .iter()
            .enumerate()
            .filter(|(column, _)| given.get(*column) == Some(&false))
        {
            if spec.required {
                self.path.push(DecodeStep::Name(&spec.name));
                self.fault_with_detail(
                    "required",
                    FaultSubject::Input,
                    format!("input `{}` is required", shorten(&spec.name)),
                );
                self.path.pop();
            } else if let Some(column) = self.columns.columns.get_mut(column) {
                (0..rows).for_each(|_| column.push_missing());
            }
        }
        // Tensors can't serve this schema, whatever the caller sends.
        if let Some(name) = schema.required_without_column() {
            self.fault_with_detail(
                "required",
                FaultSubject::Row,
                format!(
                    "the field \"{}\" is required, and no tensor can carry it",
                    shorten(name)
                ),
            );
        }
    }

    /// Decodes the values of one field in all rows.
    fn field(
        &mut self,
        spec: &'a ColumnSpec,
        node: &'a SchemaNode,
        rows: usize,
    ) -> DecodeResult<()> {
        let wrong_count = |count: &str| {
            Err(MalformedRequest::InputValueCount {
                name: spec.name.clone(),
                values: count.to_owned(),
                rows,
            }
            .into())
        };
        if self.cursor.peek()? != JsonKind::Array {
            return Err(MalformedRequest::InputNotArray {
                name: spec.name.clone(),
            }
            .into());
        }
        let mut more = self.cursor.enter(b']')?;
        let mut count = 0;
        while more {
            // The loop stops before a column gets more entries than rows.
            if count == rows {
                return wrong_count("more");
            }
            self.path.push(DecodeStep::Index(count));
            // A scalar field with a tensor of the shape [n, 1] has each value in its own array.
            let nested = !spec.kind.is_array() && self.cursor.peek()? == JsonKind::Array;
            if nested && !self.cursor.enter(b']')? {
                return wrong_count("no");
            }
            // A tensor can't omit an element. Null is therefore a missing value, and for strings
            // the empty string is one, too.
            let left_out = match self.cursor.peek()? {
                JsonKind::Null => true,
                JsonKind::String => {
                    matches!(spec.kind, ColumnKind::Text | ColumnKind::Binary)
                        && self.cursor.at_empty_string()
                }
                _ => false,
            };
            if left_out && spec.nullable {
                self.skip()?;
                self.missing(node);
            } else {
                self.value(node)?;
            }
            if nested && self.cursor.more(b']')? {
                return wrong_count("several");
            }
            self.path.pop();
            count += 1;
            more = self.cursor.more(b']')?;
        }
        self.cursor.end()?;
        if count == rows {
            Ok(())
        } else {
            wrong_count(&count.to_string())
        }
    }
}
