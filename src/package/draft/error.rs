//! `DraftError`: why a draft can't be made from a graph and a sample.

use serde_json::Value;

use crate::{package::draft::question::Questions, tensor::signature::TensorSpec};

#[derive(Debug, thiserror::Error)]
pub(crate) enum DraftError {
    #[error("row {row} of the sample is not a JSON object")]
    RowNotAnObject {
        /// The number of the row, from 1.
        row: usize,
    },
    #[error("field \"{field}\" is null in every row of the sample; give a row with a value")]
    AlwaysNull { field: String },
    #[error("the sample has no field \"{field}\"")]
    UnknownField { field: String },
    /// A graph with several inputs finds its fields only by their names.
    #[error("the graph has the inputs {}; name the sample's fields as they are", .inputs.join(", "))]
    InputNames { inputs: Vec<String> },
    #[error("`{field}` gives one value per row; the graph's input of that name takes {input}")]
    OneValue {
        field: String,
        input: Box<TensorSpec>,
    },
    #[error(
        "field \"{field}\" is neither always a number nor always a string; one graph input can't be made of it"
    )]
    NoColumn { field: String },
    #[error("the graph's input {} takes {input}; a field gives one string per row", .input.name)]
    OneText { input: Box<TensorSpec> },
    #[error("the graph's input {} takes {input}; the sample's fields give a row of numbers", .input.name)]
    RowOfNumbers { input: Box<TensorSpec> },
    #[error("the graph's input {input} takes {takes} numbers per row; the sample's {fields} fields give {gives}{}", wide_fields(.wide))]
    Width {
        input: String,
        takes: usize,
        /// The number of the sample's fields.
        fields: usize,
        gives: usize,
        /// The fields that do not give one number, with their widths.
        wide: Vec<String>,
    },
    #[error("field \"{field}\" is null or missing in some rows; no step makes {input} of that")]
    NullInArray {
        field: String,
        input: Box<TensorSpec>,
    },
    #[error(
        "field \"{field}\" of the sample holds {media_type}; the image steps read image/png and image/jpeg: convert the sample, and have \
         callers send one of these"
    )]
    ImageFormat {
        field: String,
        media_type: &'static str,
    },
    /// The values of a field do not fit the graph input.
    #[error("field \"{field}\" {values}; the graph's input {} takes {input}", .input.name)]
    Values {
        field: String,
        values: WrongValues,
        input: Box<TensorSpec>,
    },
    #[error("field \"{field}\" has an encoding and more; write all of it as lines")]
    EncodingAndMore { field: String },
    #[error("field \"{field}\" has neither strings nor numbers to be encoded")]
    NotEncodable { field: String },
    #[error("field \"{field}\" has {count} different values; that many are not categories")]
    TooManyCategories { field: String, count: usize },
    /// Only the training code shows the preprocessing of some fields.
    #[error(transparent)]
    Questions(#[from] Questions),
}

/// Why the values of a field can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WrongValues {
    #[error("has values of several types")]
    SeveralTypes,
    #[error("has values that are not strings")]
    NoTexts,
    #[error("contains null inside a list; no field accepts this")]
    NullInList,
    #[error("has lists that are neither always of numbers nor always of true and false")]
    MixedLists,
    #[error("has a row of the shape {0:?}")]
    Shape(Vec<usize>),
    #[error("has {0}")]
    Value(Value),
}

fn wide_fields(wide: &[String]) -> String {
    if wide.is_empty() {
        String::new()
    } else {
        format!(" ({}, the others 1)", wide.join(", "))
    }
}
