//! Checks that JSON numbers fit the datatype that the caller declares for them.

use crate::{
    decode::elements::{
        ElementFault, TensorError,
        json::{element_at, read_json},
    },
    tensor::DataType,
};

/// Checks every number against the datatype that the caller declares. The schema of the field may
/// accept other numbers.
pub(super) fn check_numbers(text: &str, datatype: DataType) -> Result<(), TensorError> {
    // A number of at most this many characters is in range. Most numbers are short, so few numbers
    // are parsed.
    let (digits, unsigned) = match datatype {
        DataType::Bool | DataType::Bytes | DataType::Bf16 | DataType::Fp64 => return Ok(()),
        DataType::Fp16 | DataType::Int16 => (4, false),
        DataType::Fp32 => (38, false),
        DataType::Int8 => (2, false),
        DataType::Int32 => (9, false),
        DataType::Int64 => (18, false),
        DataType::Uint8 => (2, true),
        DataType::Uint16 => (4, true),
        DataType::Uint32 => (9, true),
        DataType::Uint64 => (19, true),
    };
    let is_float = matches!(datatype, DataType::Fp16 | DataType::Fp32);
    let is_plain = |byte: u8| byte.is_ascii_digit() || is_float && byte == b'.';
    for (offset, leaf) in Leaves::of(text) {
        let number = leaf.strip_prefix('-').unwrap_or(leaf);
        let signed = number.len() < leaf.len();
        let in_range =
            number.len() <= digits && !(signed && unsigned) && number.bytes().all(is_plain);
        // Only numbers are checked here. Null is a missing value, and the schema refuses values of
        // other types.
        if in_range || !number.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let Ok(value) = leaf.parse::<f64>() else {
            continue;
        };
        // The same reader decides about all notations of a number, such as 1e2 and 2.0.
        if read_json(leaf.as_bytes(), datatype).is_err() {
            let element = element_at(text, offset);
            let fault = if !is_float && value.fract() != 0.0 {
                ElementFault::WrongType {
                    expected: "a whole number",
                    element,
                }
            } else {
                ElementFault::OutOfRange { element }
            };
            return Err(TensorError::Element { fault, datatype });
        }
    }
    Ok(())
}

/// Iterates over the elements of a JSON array of any nesting, with the offset of each. The iterator
/// splits the text, but does not check that it is JSON.
pub(super) struct Leaves<'a> {
    text: &'a str,
    at: usize,
}

impl Leaves<'_> {
    pub(super) fn of(text: &str) -> Leaves<'_> {
        Leaves { text, at: 0 }
    }
}

impl<'a> Iterator for Leaves<'a> {
    type Item = (usize, &'a str);

    #[inline]
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let bytes = self.text.as_bytes();
        let between = |byte: &u8| matches!(byte, b'[' | b']' | b',' | b' ' | b'\n' | b'\t' | b'\r');
        let start = self.at
            + bytes
                .get(self.at..)?
                .iter()
                .position(|byte| !between(byte))?;
        let rest = bytes.get(start..)?;
        let length = match rest.first()? {
            // Strings and objects may contain the separators.
            b'"' | b'{' => length_of_string_or_object(rest),
            _ => rest.iter().position(between).unwrap_or(rest.len()),
        };
        self.at = start + length;
        self.text.get(start..self.at).map(|leaf| (start, leaf))
    }
}

fn length_of_string_or_object(text: &[u8]) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && !in_string {
            return at + 1;
        }
    }
    text.len()
}
