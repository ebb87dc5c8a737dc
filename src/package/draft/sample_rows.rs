//! Reads the fields of a sample from its rows.

use serde_json::Value;

use crate::package::draft::{error::DraftError, sample_field::SampleField};

/// The fields of the rows, in the order of their first appearance.
pub(super) fn read_fields(rows: &[Value]) -> Result<Vec<SampleField<'_>>, DraftError> {
    let mut fields: Vec<SampleField<'_>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let members = row
            .as_object()
            .ok_or(DraftError::RowNotAnObject { row: index + 1 })?;
        for (name, value) in members {
            let at = match fields.iter().position(|field| field.name == name) {
                Some(at) => at,
                None => {
                    fields.push(SampleField {
                        name,
                        values: Vec::new(),
                        nullable: false,
                        in_every_row: true,
                    });
                    fields.len() - 1
                }
            };
            if let Some(field) = fields.get_mut(at) {
                if value.is_null() {
                    field.nullable = true
                } else {
                    field.values.push(value)
                }
            }
        }
    }
    for field in &mut fields {
        field.in_every_row = rows.iter().all(|row| row.get(field.name).is_some());
        // A row without the field gives the graph null, like an explicit null.
        field.nullable |= !field.in_every_row;
    }
    match fields.iter().find(|field| field.values.is_empty()) {
        Some(empty) => Err(DraftError::AlwaysNull {
            field: empty.name.to_owned(),
        }),
        None => Ok(fields),
    }
}
