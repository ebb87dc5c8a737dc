//! `RowFault`: a value in a row that can't become part of a tensor.

use crate::{schema::fault::MAX_FAULTS, transform::field_source::FieldSource};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    pub row: usize,
    /// The name of the field. For a nested field, its pointer.
    pub field: String,
    /// The keyword of JSON Schema that describes the rule best, or `dtype` if a number does not fit
    /// its tensor.
    pub keyword: &'static str,
    pub detail: String,
}

pub(super) const NOT_POSITIVE: &str = "must be above 0 for the box-cox step";

/// Adds a fault. If the response can't report more faults, the fault is dropped before its message
/// is formatted.
pub(super) fn push_fault(
    faults: &mut Vec<RowFault>,
    row: usize,
    source: &FieldSource,
    keyword: &'static str,
    detail: impl Into<String>,
) {
    if faults.len() < MAX_FAULTS {
        faults.push(RowFault {
            row,
            field: source.field.clone(),
            keyword,
            detail: format!("{} {}", source.name, detail.into()),
        });
    }
}
