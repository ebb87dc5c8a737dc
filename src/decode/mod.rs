//! Decodes a request's JSON into validated, typed [`Columns`] in one pass, without a tree of
//! values.

mod arrays;
pub mod csv_table;
mod cursor;
mod decoder;
pub mod element_index;
pub mod elements;
mod envelope;
mod faults;
mod field_inputs;
pub(crate) mod json_error;
pub(crate) mod json_object;
pub mod json_rows;
mod malformed;
mod objects;
mod row_lists;
pub mod row_origin;
mod scalars;

pub use self::malformed::MalformedRequest;
use crate::{
    decode::{
        decoder::{Decoder, Leniency},
        row_origin::RowOrigin,
    },
    schema::{
        Schema,
        columns::{ColumnId, Columns},
        fault::Fault,
    },
};

/// Limits that the decoder checks before it allocates memory for the counted items.
#[derive(Clone, Copy, Debug)]
pub struct DecodeLimits {
    /// Maximum number of instances (rows) in one request.
    pub max_instances: usize,
    /// Maximum nesting of arrays and objects, counted from the instance.
    pub max_depth: usize,
    /// Maximum number of array elements in one request, summed over all its arrays.
    pub max_array_values: usize,
}

/// A valid request.
#[derive(Debug)]
pub struct DecodedRequest {
    /// The values of the instances, with one column per field of the schema.
    pub columns: Columns,
    /// The request id that the client sent, unchanged. The response repeats it.
    pub id: Option<String>,
    /// Whether the body was one instance without the envelope `{"instances": [...]}`.
    pub single: bool,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body is not JSON, or it does not have the layout of a request.
    #[error(transparent)]
    Malformed {
        /// The rule that the body breaks.
        detail: MalformedRequest,
    },
    /// The request violates the schema.
    #[error("the request violates the schema in {} places", faults.len() + more)]
    Invalid {
        /// The first faults, at most [`MAX_FAULTS`](crate::schema::fault::MAX_FAULTS).
        faults: Vec<Fault>,
        /// The number of faults that are not listed.
        more: usize,
    },
}

/// Decodes `{"instances": [...], "id": "..."}`, or one instance without that envelope.
pub fn decode_request(
    schema: &Schema,
    body: &[u8],
    limits: &DecodeLimits,
) -> Result<DecodedRequest, DecodeError> {
    let mut decoder = Decoder::new(schema, body, limits)?;
    let outcome = decoder.request();
    decoder.finish(outcome, body)
}

/// Decodes one instance without an envelope. JSON pointers in faults start at the instance.
pub fn decode_instance(
    schema: &Schema,
    document: &[u8],
    limits: &DecodeLimits,
) -> Result<Columns, DecodeError> {
    let mut decoder = Decoder::new(schema, document, limits)?;
    let outcome = decoder
        .instance()
        .and_then(|()| decoder.cursor.end().map_err(decoder::DecodeAbort::from))
        .map(|()| (None, true));
    decoder
        .finish(outcome, document)
        .map(|decoded| decoded.columns)
}

impl From<MalformedRequest> for DecodeError {
    fn from(detail: MalformedRequest) -> DecodeError {
        DecodeError::Malformed { detail }
    }
}

/// The values of one field in all rows of a request.
pub struct FieldValues<'a> {
    /// The field, as its index in the columns of the schema.
    pub column: ColumnId,
    /// A JSON array with one value per row. The value of a scalar field may be inside its own
    /// array, like in `[[1], [2]]`.
    pub text: &'a str,
}

/// How [`decode_rows`] reads rows. The default reads them like instances.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowOptions<'a> {
    /// The field names of rows that are lists. `None` means the order of the schema.
    pub names: Option<&'a [String]>,
    /// Whether to ignore fields that the schema does not know.
    pub ignore_unknown: bool,
    /// Whether to accept null for an optional field. A table can't omit a cell in another way.
    pub null_is_missing: bool,
    /// The place where the caller wrote the rows. `None` means the member `instances`.
    pub origin: Option<&'a RowOrigin>,
}

/// Decodes a request with one array per field, such as tensors. The value of an optional or
/// nullable field may be null or an empty string in single rows.
pub fn decode_fields(
    schema: &Schema,
    inputs: &[FieldValues<'_>],
    rows: usize,
    limits: &DecodeLimits,
) -> Result<Columns, DecodeError> {
    let mut decoder = Decoder::over(schema, "", limits);
    // Protocols write the bytes of a BYTES tensor in this notation.
    decoder.lenient.b64 = true;
    decoder.derived_text = true;
    let outcome = decoder.fields(inputs, rows).map(|()| (None, false));
    let text = decoder.cursor.whole();
    decoder
        .finish(outcome, text.as_bytes())
        .map(|decoded| decoded.columns)
}

/// Decodes a JSON array of rows. Each row is an object, or a list of values.
pub fn decode_rows(
    schema: &Schema,
    rows: &[u8],
    options: RowOptions<'_>,
    limits: &DecodeLimits,
) -> Result<Columns, DecodeError> {
    let mut decoder = Decoder::new(schema, rows, limits)?;
    decoder.derived_text = true;
    decoder.origin = options.origin;
    decoder.lenient = Leniency {
        unknown: options.ignore_unknown,
        null: options.null_is_missing,
        b64: true,
    };
    let outcome = decoder.rows(options.names).map(|()| (None, false));
    decoder
        .finish(outcome, rows)
        .map(|decoded| decoded.columns)
        // The decoder knows only the pointer `/instances/ROW`.
        .map_err(|error| match (error, options.origin) {
            (DecodeError::Invalid { faults, more }, Some(origin)) => DecodeError::Invalid {
                faults: faults
                    .into_iter()
                    .map(|fault| origin.locate(fault))
                    .collect(),
                more,
            },
            (error, _) => error,
        })
}
