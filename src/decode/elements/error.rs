//! Why the elements of a tensor are refused. Callers of this module write the tensor's name before
//! the message.

use crate::{
    decode::{element_index::ElementIndex, elements::signature, row_origin::RowOrigin},
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
    #[error("{}: {detail}", RowOrigin::Instances.element(.element))]
    NotJsonAt {
        element: ElementIndex,
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

impl TensorError {
    /// The text with the places of rows and elements as the caller wrote them.
    pub fn text(&self, origin: &RowOrigin) -> String {
        match self {
            TensorError::NotJsonAt { element, detail } => {
                format!("{}: {detail}", origin.element(element))
            }
            TensorError::NotJsonInRow { row, detail } => {
                format!("{}: {detail}", origin.row(*row))
            }
            TensorError::Element { fault, datatype } => {
                format!(
                    "{} (datatype {})",
                    fault.text(origin),
                    datatype.protocol_name()
                )
            }
            other => other.to_string(),
        }
    }
}

/// Why one element, or the nesting around it, does not fit a tensor.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the text of each variant says what it means")]
#[error("{}", self.text(&RowOrigin::Instances))]
pub enum ElementFault {
    WrongType {
        expected: &'static str,
        element: ElementIndex,
    },
    OutOfRange {
        element: ElementIndex,
    },
    Base64,
    Uneven {
        row: usize,
    },
    UnevenOrTooDeep {
        row: usize,
    },
    Ragged {
        row: usize,
        given: usize,
        expected: usize,
    },
}

impl ElementFault {
    /// The text with the places of rows and elements as the caller wrote them.
    pub fn text(&self, origin: &RowOrigin) -> String {
        match self {
            ElementFault::WrongType { expected, element } => format!(
                "every element must be {expected}; {} is not",
                origin.element(element)
            ),
            ElementFault::OutOfRange { element } => {
                format!("the number at {} is out of range", origin.element(element))
            }
            ElementFault::Base64 => {
                "bytes are written {\"b64\": \"...\"}, and must be UTF-8 here".to_owned()
            }
            ElementFault::Uneven { row } => {
                format!("the data is nested unevenly in {}", origin.row(*row))
            }
            ElementFault::UnevenOrTooDeep { row } => format!(
                "the data is nested unevenly, or too deeply, in {}",
                origin.row(*row)
            ),
            ElementFault::Ragged {
                row,
                given,
                expected,
            } => format!(
                "the data is ragged: {} has {given} values, and an earlier array has {expected}",
                origin.row(*row)
            ),
        }
    }
}
