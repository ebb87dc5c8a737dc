//! `Fault`: one rule that a request violates, described for the caller who corrects the request.

pub(crate) use crate::pointer::token;

/// A violation of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer from the root of the request, such as `/instances/0/island`. In a body of
    /// lines, the pointer follows the number of the line.
    pub pointer: String,
    /// The violated keyword of JSON Schema, or `dtype` if a number does not fit its tensor.
    pub keyword: &'static str,
    /// What the detail begins with.
    pub subject: FaultSubject,
    /// The field and the violated rule. Also contains the value, unless the field is personal
    /// (`x-pii`).
    pub detail: String,
}

/// What the detail of a fault begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultSubject {
    /// The name of a field, in backquotes.
    Field,
    /// The whole row, or a member that is not a field.
    Row,
    /// An input tensor.
    Input,
}

/// The pointer to a column. The name of a column for a nested field is already a pointer.
pub(crate) fn pointer_to(field: &str) -> String {
    if field.starts_with('/') {
        field.to_owned()
    } else {
        format!("/{}", token(field))
    }
}

/// Maximum number of faults in one response. Further faults are only counted, so that the response
/// to a large body stays small.
pub(crate) const MAX_FAULTS: usize = 20;

/// Maximum length of a quotation from a request in a message, in characters.
pub(crate) const MAX_ECHO: usize = 40;

/// A string from a request, shortened for a quotation in a message.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_ECHO) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
