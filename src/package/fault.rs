//! `Fault`: one thing in a request that does not fit, told so that a caller can mend it.

/// A violation of the schema; `detail` names field and rule and never the value of a field marked `x-pii`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer from the root of the request, e.g. `/instances/0/island`.
    pub pointer: String,
    /// The JSON Schema keyword that was violated, or `dtype` where a number does not fit its tensor.
    pub keyword: &'static str,
    pub detail: String,
}

/// Faults reported for one request; the rest is only counted.
pub const MAX_FAULTS: usize = 20;
