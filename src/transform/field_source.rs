//! `FieldSource`: the field that a step or a fault is about, and its name in messages.

use crate::schema::columns::ColumnId;

/// The field of a plan, and its name in messages.
#[derive(Clone, Debug)]
pub(super) struct FieldSource {
    pub(super) column: ColumnId,
    /// The field in the pointer of a fault.
    pub(super) field: String,
    /// The name in messages: `` `age` ``, or `` `a` / `b` `` for a derived column.
    pub(super) name: String,
    pub(super) pii: bool,
}
