//! `Prepared`: what a request is before and after preprocessing.

use std::time::Duration;

use crate::{
    decode::row_origin::RowOrigin, predict::prediction::Timing, schema::columns::Columns,
    transform::preprocess::Group,
};

/// Input tensors for the engines.
pub(super) struct Prepared {
    /// One group, unless rows have arrays of different shapes.
    pub groups: Vec<Group>,
    pub rows: usize,
    /// The tensors have no batch axis to split along: they take one run, whatever their size.
    pub whole: bool,
    /// The request came row by row: no run may have more rows than the version allows.
    pub by_row: bool,
    /// The answer is the graph's own outputs.
    pub raw: bool,
    pub client_id: Option<String>,
    pub timing: Timing,
}

/// A request that the decoding version could read.
pub(super) enum Decoded {
    /// Validated fields. Any version that accepts them can preprocess them.
    Fields(DecodedFields),
    /// Tensors that the graph takes as they are.
    Tensors(Prepared),
}

pub(super) struct DecodedFields {
    pub columns: Columns,
    /// The request was one bare instance, and errors name places in it.
    pub single: bool,
    /// Where the caller wrote the rows.
    pub origin: RowOrigin,
    pub client_id: Option<String>,
    /// The time that decoding took.
    pub took: Duration,
}
