//! `Fault`: one thing in a request that does not fit, told so that a caller can mend it.

/// A violation of the schema; `detail` names field and rule and never the value of a field marked `x-pii`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer from the root of the request, e.g. `/instances/0/island`; in lines of text the line, too.
    pub pointer: String,
    /// The JSON Schema keyword that was violated, or `dtype` where a number does not fit its tensor.
    pub keyword: &'static str,
    pub detail: String,
}

/// A name as one step of a JSON pointer (RFC 6901).
pub fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The pointer of a column: its name, where that is a nested field's own.
pub fn pointer_to(field: &str) -> String {
    if field.starts_with('/') {
        field.to_owned()
    } else {
        format!("/{}", token(field))
    }
}

/// Faults reported for one request; the rest is only counted.
pub const MAX_FAULTS: usize = 20;

/// Longest piece of a caller's value in an error text, in characters.
pub const MAX_ECHO: usize = 40;

/// A value of a request as an error quotes it.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_ECHO) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
