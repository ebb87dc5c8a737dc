//! `Prepared` and `Decoded`: a request after and before preprocessing.

use std::time::Duration;

use crate::{
    decode::row_origin::RowOrigin, predict::prediction::Timing, schema::columns::Columns,
    transform::preprocess::Group,
};

/// Input tensors for the engines.
pub(super) struct Prepared {
    /// One group, unless the rows have arrays of different shapes.
    pub groups: Vec<Group>,
    pub rows: usize,
    /// Whether all tensors go into one run, whatever their size, because they have no batch axis to
    /// split along.
    pub whole: bool,
    /// Whether the request contained separate rows. If so, no run has more rows than the version
    /// allows.
    pub by_row: bool,
    /// Whether the answer consists of the graph's outputs, without postprocessing.
    pub raw: bool,
    pub client_id: Option<String>,
    pub timing: Timing,
}

/// A request after decoding.
pub(super) enum Decoded {
    /// Validated fields. Any version that accepts them can preprocess them.
    Fields(DecodedFields),
    /// Tensors that the graph gets unchanged.
    Tensors(Prepared),
}

pub(super) struct DecodedFields {
    pub columns: Columns,
    pub context: DecodedContext,
}

/// The parts of a decoded request that are not values of fields.
pub(super) struct DecodedContext {
    /// Whether the request was one bare instance, so that errors point into that instance.
    pub single: bool,
    /// The places where the caller wrote the rows.
    pub origin: RowOrigin,
    pub client_id: Option<String>,
    /// The time that decoding took.
    pub took: Duration,
}
