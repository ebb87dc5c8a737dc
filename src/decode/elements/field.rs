//! Tensors that carry the fields of a schema: the datatype and shape of each field, and its values
//! as JSON.

use std::borrow::Cow;

use crate::{
    decode::{
        cursor::{Cursor, JsonKind, SyntaxError},
        elements::{
            Elements, TensorError, WireTensor, check_nesting,
            declared::{Leaves, check_numbers},
            elements_of, from_raw,
            json::read_json,
            split_texts, utf8,
            write::{numbers_to_json, texts_to_json},
        },
    },
    schema::{ColumnSpec, columns::ColumnKind},
    tensor::{DataType, Dim, Shape},
};

/// The datatype that the model's metadata declares for a field.
pub fn field_datatype(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Boolean | ColumnKind::BooleanArray => DataType::Bool,
        ColumnKind::Integer => DataType::Int64,
        ColumnKind::Number | ColumnKind::Array => DataType::Fp64,
        ColumnKind::Text | ColumnKind::Binary => DataType::Bytes,
    }
}

/// The shape that the model's metadata declares for a field: `[-1, 1]` for a scalar, and `[-1]`
/// followed by the array's own dimensions for an array.
pub fn field_shape(column: &ColumnSpec) -> Shape {
    let mut dims = vec![Dim::Any];
    if column.kind.is_array() {
        let inner = column.array_dims.iter();
        dims.extend(inner.map(|dim| dim.map_or(Dim::Any, Dim::Fixed)));
    } else {
        dims.push(Dim::Fixed(1));
    }
    Shape(dims)
}

/// Whether a field accepts a datatype. A number may have any numeric datatype, because the schema
/// checks its value.
fn accepts(kind: ColumnKind, given: DataType) -> bool {
    match kind {
        ColumnKind::Boolean | ColumnKind::BooleanArray => given == DataType::Bool,
        ColumnKind::Text | ColumnKind::Binary => given == DataType::Bytes,
        ColumnKind::Integer | ColumnKind::Number | ColumnKind::Array => {
            !matches!(given, DataType::Bool | DataType::Bytes)
        }
    }
}

impl WireTensor {
    /// The number of rows of a field's tensor, which is its first dimension. Checks the datatype
    /// and the other dimensions.
    pub fn rows_of_field(&self, column: &ColumnSpec) -> Result<usize, TensorError> {
        if let Some(given) = self.datatype.filter(|given| !accepts(column.kind, *given)) {
            return Err(TensorError::WrongDatatype {
                datatype: field_datatype(column.kind),
                shape: field_shape(column),
                given,
            });
        }
        // The MLflow and TensorFlow protocols send no shape. Only JSON elements can be counted
        // without a shape.
        let Some(shape) = &self.shape else {
            let Elements::Json(text) = &self.elements else {
                return Err(TensorError::NoShape);
            };
            return array_length(utf8(text)?);
        };
        match shape.as_slice() {
            [rows, ..] if column.kind.is_array() && field_shape(column).fits(shape) => Ok(*rows),
            // A scalar field has the shape [n], or [n, 1] like in the metadata.
            [rows] | [rows, 1] if !column.kind.is_array() => match self.elements.count()? {
                Some(given) if given != *rows => Err(TensorError::ElementCount {
                    shape: shape.clone(),
                    expected: *rows,
                    given,
                }),
                _ => Ok(*rows),
            },
            _ => Err(TensorError::WrongShape {
                datatype: field_datatype(column.kind),
                expected: field_shape(column),
                given: shape.clone(),
            }),
        }
    }

    /// The values of a field as a JSON array with one value per row. The decoder of the schema
    /// validates them.
    pub fn to_json(&self, column: &ColumnSpec) -> Result<Cow<'_, str>, TensorError> {
        let is_array = column.kind.is_array();
        let shape = self.shape.as_deref();
        let declared = shape.unwrap_or_default();
        let rows = declared.first().copied().unwrap_or_default();
        let elements = shape
            .map(|shape| elements_of(shape).ok_or(TensorError::ShapeTooLarge))
            .transpose()?;
        // The dimensions of one row. A scalar field with the shape [n, 1] becomes a plain list of n
        // values.
        let inner = declared.get(1..).filter(|_| is_array).unwrap_or_default();
        match &self.elements {
            Elements::Json(_) if self.datatype == Some(DataType::Bf16) => {
                Err(TensorError::Bf16AsJson)
            }
            Elements::Json(text) => {
                let text = utf8(text)?;
                // The schema may accept more than the datatype that the caller declares.
                if let Some(datatype) = self.datatype {
                    check_numbers(text, datatype)?;
                }
                // The text already has one value per row.
                if !is_array || declared.len() < 2 || is_nested(text) {
                    return Ok(Cow::Borrowed(text));
                }
                let (data, nested) = read_json(text.as_bytes(), field_datatype(column.kind))?;
                check_nesting(declared, &nested, data.len())?;
                numbers_to_json(&data, rows, inner).map(Cow::Owned)
            }
            Elements::Raw(bytes) if self.datatype == Some(DataType::Bytes) => {
                let texts = split_texts(bytes, elements.unwrap_or(0))?;
                texts_to_json(texts.into_iter(), column.kind).map(Cow::Owned)
            }
            Elements::Raw(bytes) => {
                let datatype = self.datatype.ok_or(TensorError::NoDatatype)?;
                let elements = elements.ok_or(TensorError::NoShape)?;
                let data = from_raw(datatype, bytes, elements)?;
                numbers_to_json(&data, rows, inner).map(Cow::Owned)
            }
            Elements::Values(data) => {
                check_nesting(declared, &[data.len()], data.len())?;
                numbers_to_json(data, rows, inner).map(Cow::Owned)
            }
            Elements::Texts(texts) => {
                check_nesting(declared, &[texts.len()], texts.len())?;
                texts_to_json(texts.iter().map(|text| &text[..]), column.kind).map(Cow::Owned)
            }
        }
    }
}

impl Elements {
    /// The number of elements. `None` for binary elements: their number depends on the datatype.
    fn count(&self) -> Result<Option<usize>, TensorError> {
        Ok(match self {
            Elements::Json(text) => Some(Leaves::of(utf8(text)?).count()),
            Elements::Raw(_) => None,
            Elements::Values(data) => Some(data.len()),
            Elements::Texts(texts) => Some(texts.len()),
        })
    }
}

/// Whether the first element of an array is an array.
fn is_nested(text: &str) -> bool {
    text.trim_ascii_start()
        .strip_prefix('[')
        .is_some_and(|inner| inner.trim_ascii_start().starts_with('['))
}

/// The number of elements of the outermost array.
fn array_length(text: &str) -> Result<usize, TensorError> {
    let in_row = |row: usize| {
        move |error: SyntaxError| TensorError::NotJsonInRow {
            row,
            detail: error.detail,
        }
    };
    let mut cursor = Cursor::new(text);
    if cursor.peek().map_err(in_row(0))? != JsonKind::Array {
        return Err(TensorError::NotAnArray);
    }
    let mut more = cursor.enter(b']').map_err(in_row(0))?;
    let mut count = 0;
    while more {
        cursor.skip_value().map_err(in_row(count))?;
        count += 1;
        more = cursor.more(b']').map_err(in_row(count))?;
    }
    Ok(count)
}
