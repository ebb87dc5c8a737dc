//! Why the elements of a tensor are refused. Callers of this module write the tensor's name before
//! the message.

use crate::{
    decode::elements::signature,
    tensor::{DataType, Shape},
};

/// A rule for input tensors that a request breaks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum TensorError {
    #[error("must be UTF-8")]
    NotUtf8,
    /// JSON numbers are decimal, and no convention exists for BF16 in JSON.
    #[error("BF16 must be sent binary")]
    Bf16AsJson,
    #[error("has no shape")]
    NoShape,
    #[error("has no datatype")]
    NoDatatype,
    #[error("has a shape with more elements than memory can hold")]
    ShapeTooLarge,
    #[error("its elements don't fill its shape")]
    ShapeNotFilled,
    #[error("expected {}, got {}", signature(*.datatype, .shape), .given.protocol_name())]
    WrongDatatype {
        datatype: DataType,
        shape: Shape,
        given: DataType,
    },
    #[error("expected {}, got {given:?}", signature(*.datatype, .expected))]
    WrongShape {
        datatype: DataType,
        expected: Shape,
        given: Vec<usize>,
    },
    #[error("shape {shape:?} takes {expected} elements, given {given}")]
    ElementCount {
        shape: Vec<usize>,
        expected: usize,
        given: usize,
    },
    #[error("shape {shape:?} is given, but the data is nested as {nested:?}")]
    WrongNesting {
        shape: Vec<usize>,
        nested: Vec<usize>,
    },
    #[error("must be an array")]
    NotAnArray,
    #[error("the data is not JSON: {detail}")]
    NotJson { detail: &'static str },
    /// `element` contains the indices of the element, like `[2][0]`.
    #[error("element {element}: {detail}")]
    NotJsonAt {
        element: String,
        detail: &'static str,
    },
    #[error("row {row}: {detail}")]
    NotJsonInRow { row: usize, detail: &'static str },
    #[error("{fault} (datatype {})", .datatype.protocol_name())]
    Element {
        fault: ElementFault,
        datatype: DataType,
    },
    #[error("takes {elements} elements of {size} bytes, given {given} bytes")]
    RawLength {
        elements: usize,
        size: usize,
        given: usize,
    },
    #[error("ends inside an element")]
    RawPartialElement,
    #[error("a BOOL must be 0 or 1")]
    RawBool,
    #[error("ends before its {elements} elements")]
    RawTooShort { elements: usize },
    #[error("element {element} is longer than the rest of the data")]
    RawTextTooLong { element: usize },
    #[error("ends inside the length of an element")]
    RawPartialLength,
    #[error("takes {expected} elements, given {given}")]
    RawTextCount { expected: usize, given: usize },
    #[error("infinite numbers are refused")]
    Infinite,
    #[error("must be numbers")]
    NotNumbers,
}

/// Why one element, or the nesting around it, does not fit a tensor. `element` contains the indices
/// of the element, like `[2][0]`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum ElementFault {
    #[error("every element must be {expected}; element {element} is not")]
    WrongType {
        expected: &'static str,
        element: String,
    },
    #[error("the number at element {element} is out of range")]
    OutOfRange { element: String },
    #[error("bytes are written {{\"b64\": \"...\"}}, and must be UTF-8 here")]
    Base64,
    #[error("the data is nested unevenly in row {row}")]
    Uneven { row: usize },
    #[error("the data is nested unevenly, or too deeply, in row {row}")]
    UnevenOrTooDeep { row: usize },
    #[error(
        "the data is ragged: row {row} has {given} values, and an earlier array has {expected}"
    )]
    Ragged {
        row: usize,
        given: usize,
        expected: usize,
    },
}
