//! `MalformedRequest`: why a body is not a request. The messages contain no values of the request.

/// A rule for the layout of a request that a body breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum MalformedRequest {
    #[error("the body is not UTF-8 at byte {offset}")]
    NotUtf8 { offset: usize },
    /// `place` is a line and a column, followed by a JSON pointer if the error has one.
    #[error("the body is not JSON: {detail} at {place}")]
    NotJson { detail: &'static str, place: String },
    /// `cell` names the row and the field, because the caller did not write the decoded text.
    #[error("{cell}: {detail}")]
    NotJsonInCell { cell: String, detail: &'static str },
    #[error("the body must be an object: {{\"instances\": [...]}} or one instance")]
    NotAnObject,
    #[error("the member \"{name}\" occurs twice")]
    DuplicateMember { name: String },
    #[error("the member \"{name}\" occurs twice in {place}")]
    DuplicateMemberIn { name: String, place: String },
    #[error("unknown member \"{name}\" of the request; expected one of: instances, id")]
    UnknownMember { name: String },
    #[error("the request has no member \"instances\"")]
    NoInstances,
    #[error("the member \"instances\" is not expected here")]
    UnexpectedInstances,
    #[error("the member \"instances\" must be an array")]
    InstancesNotArray,
    #[error("the member \"instances\" is empty; send at least one instance")]
    InstancesEmpty,
    #[error("the member \"id\" must be a string")]
    IdNotString,
    #[error("the member \"id\" may have at most {limit} characters")]
    IdTooLong { limit: usize },
    #[error("more than {limit} instances in one request")]
    TooManyInstances { limit: usize },
    #[error("more than {limit} rows in one request")]
    TooManyRows { limit: usize },
    #[error("more than {limit} array elements in one request")]
    TooManyArrayElements { limit: usize },
    #[error("nested more than {limit} levels deep")]
    TooDeep { limit: usize },
    #[error("the rows must be an array")]
    RowsNotArray,
    #[error("there is no row; send at least one")]
    NoRows,
    #[error("a row must be an object of fields or a list of their values")]
    RowNotList,
    #[error("\"{name}\" is not a known field")]
    UnknownColumn { name: String },
    #[error("a column occurs twice")]
    DuplicateColumn,
    #[error("the request has no inputs")]
    NoInputs,
    #[error("the inputs have no rows")]
    NoInputRows,
    #[error("the data of input `{name}` must be an array")]
    InputNotArray { name: String },
    /// `values` is a number or a word, as in "more values for 3 rows".
    #[error("input `{name}` has {values} values for {rows} rows")]
    InputValueCount {
        name: String,
        values: String,
        rows: usize,
    },
    #[error("bytes are written {{\"b64\": \"...\"}}")]
    Base64,
    #[error("strings must be valid UTF-8")]
    Base64NotUtf8,
}
