//! Writes elements as JSON text.

use crate::{
    decode::elements::{TensorError, elements_of, utf8},
    schema::columns::ColumnKind,
    tensor::Data,
};

/// Writes one element. A float is written with the shortest digits that read back as the same
/// value. NaN and infinities are written as null.
pub fn write_element(data: &Data, index: usize, text: &mut Vec<u8>) {
    macro_rules! float {
        ($values:expr, $convert:expr) => {
            match $values.get(index).map($convert) {
                Some(x) if x.is_finite() => {
                    text.extend_from_slice(ryu::Buffer::new().format_finite(x).as_bytes())
                }
                _ => text.extend_from_slice(b"null"),
            }
        };
    }
    macro_rules! integer {
        ($values:expr) => {
            text.extend_from_slice(
                itoa::Buffer::new()
                    .format($values.get(index).copied().unwrap_or_default())
                    .as_bytes(),
            )
        };
    }
    match data {
        Data::Bool(values) => text.extend_from_slice(if values.get(index) == Some(&true) {
            b"true"
        } else {
            b"false"
        }),
        Data::Uint8(values) => integer!(values),
        Data::Uint16(values) => integer!(values),
        Data::Uint32(values) => integer!(values),
        Data::Uint64(values) => integer!(values),
        Data::Int8(values) => integer!(values),
        Data::Int16(values) => integer!(values),
        Data::Int32(values) => integer!(values),
        Data::Int64(values) => integer!(values),
        Data::Fp16(values) => float!(values, |x| x.to_f32()),
        Data::Bf16(values) => float!(values, |x| x.to_f32()),
        Data::Fp32(values) => float!(values, |x| *x),
        Data::Fp64(values) => float!(values, |x| *x),
        Data::Bytes(values) => {
            // Writing to a `Vec` does not fail.
            let _ = serde_json::to_writer(text, values.get(index).map_or("", String::as_str));
        }
    }
}

/// Writes all elements, with commas between them.
pub fn write_elements(data: &Data, text: &mut Vec<u8>) {
    for index in 0..data.len() {
        if index > 0 {
            text.push(b',');
        }
        write_element(data, index, text);
    }
}

/// Writes numbers as a JSON array with one value per row, or with one nested array of the shape
/// `inner` per row. Floats are written in double precision, because the schema checks them in
/// double precision.
pub(super) fn numbers_to_json(
    data: &Data,
    rows: usize,
    inner: &[usize],
) -> Result<String, TensorError> {
    // The schema compares doubles. The shortest digits of a float32, such as 0.1, would be a
    // different double.
    let widened = match data {
        Data::Fp16(values) => Some(Data::Fp64(values.iter().map(|x| x.to_f64()).collect())),
        Data::Bf16(values) => Some(Data::Fp64(values.iter().map(|x| x.to_f64()).collect())),
        Data::Fp32(values) => Some(Data::Fp64(values.iter().map(|x| f64::from(*x)).collect())),
        _ => None,
    };
    let data = widened.as_ref().unwrap_or(data);
    match data {
        Data::Bytes(_) => return Err(TensorError::NotNumbers),
        // JSON has no infinity. NaN is allowed, because it becomes null, a missing value.
        Data::Fp64(values) if values.iter().any(|x| x.is_infinite()) => {
            return Err(TensorError::Infinite);
        }
        _ => {}
    }
    let width = elements_of(inner).unwrap_or(0);
    let mut text = Vec::with_capacity(2 + data.len() * 8);
    if width == 0 {
        // The rows have no elements, but each row must appear.
        write_nested(&[&[rows], inner].concat(), 0, &mut text, &mut |_, _| {});
        return String::from_utf8(text).map_err(|_| TensorError::NotUtf8);
    }
    text.push(b'[');
    for index in 0..data.len() {
        if index > 0 {
            text.push(b',');
        }
        open_brackets(&mut text, inner, index, width);
        write_element(data, index, &mut text);
        close_brackets(&mut text, inner, index, width);
    }
    text.push(b']');
    String::from_utf8(text).map_err(|_| TensorError::NotUtf8)
}

/// Writes the brackets before the element at `index`. `width` is the number of elements of a row,
/// which has the shape `inner`.
fn open_brackets(text: &mut Vec<u8>, inner: &[usize], index: usize, width: usize) {
    let mut span = width;
    for dim in inner {
        if span > 0 && index.is_multiple_of(span) {
            text.push(b'[');
        }
        span = span.checked_div(*dim).unwrap_or(0);
    }
}

/// Writes the brackets after the element at `index`, like [`open_brackets`] before it.
fn close_brackets(text: &mut Vec<u8>, inner: &[usize], index: usize, width: usize) {
    let mut span = width;
    for dim in inner {
        if span > 0 && (index + 1).is_multiple_of(span) {
            text.push(b']');
        }
        span = span.checked_div(*dim).unwrap_or(0);
    }
}

/// Writes strings as a JSON array. Bytes are written as base64.
pub(super) fn texts_to_json<'a>(
    texts: impl Iterator<Item = &'a [u8]>,
    kind: ColumnKind,
) -> Result<String, TensorError> {
    let mut json = Vec::from(b"[");
    for (index, bytes) in texts.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        if kind == ColumnKind::Binary {
            json.push(b'"');
            base64_simd::STANDARD.encode_append(bytes, &mut json);
            json.push(b'"');
        } else {
            // Writing to a `Vec` does not fail.
            let _ = serde_json::to_writer(&mut json, utf8(bytes)?);
        }
    }
    json.push(b']');
    String::from_utf8(json).map_err(|_| TensorError::NotUtf8)
}

/// Writes a value of the shape `shape` as nested arrays. `write` writes the element at an index.
/// `start` is the index of the first element.
pub fn write_nested(
    shape: &[usize],
    start: usize,
    text: &mut Vec<u8>,
    write: &mut dyn FnMut(usize, &mut Vec<u8>),
) {
    let Some((length, inner)) = shape.split_first() else {
        return write(start, text);
    };
    let step: usize = inner.iter().product();
    text.push(b'[');
    for index in 0..*length {
        if index > 0 {
            text.push(b',');
        }
        write_nested(inner, start + index * step, text, write);
    }
    text.push(b']');
}
