//! Reads and writes the fields of a protobuf message.
//!
//! An edited message must keep fields that this code does not know. Fields are therefore copied as
//! bytes, instead of being decoded and encoded again.

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an ONNX model: its bytes are not a protobuf message")]
pub struct Malformed;

/// The content of a field, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Content<'a> {
    Number(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireField<'a> {
    pub number: u64,
    pub content: Content<'a>,
    /// All bytes of the field, including its tag.
    pub raw: &'a [u8],
}

/// Iterates over the fields of a message, in their order.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<WireField<'a>, Malformed>;

    fn next(&mut self) -> Option<Result<WireField<'a>, Malformed>> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        // Nothing after a malformed field can be read.
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<WireField<'a>> {
        let start = self.0;
        let tag = number(&mut self.0)?;
        let content = match tag & 7 {
            0 => Content::Number(number(&mut self.0)?),
            1 => Content::Fixed64(self.take(8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(number(&mut self.0)?).ok()?;
                Content::Bytes(self.take(length)?)
            }
            5 => Content::Fixed32(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        let raw = start.get(..start.len() - self.0.len())?;
        Some(WireField {
            number: tag >> 3,
            content,
            raw,
        })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Replaces the content of each field for which `change` returns a new content. All other bytes
/// stay the same.
///
/// # Errors
/// If the message or a message that `change` reads is malformed.
pub(crate) fn rewritten<'a>(
    message: &'a [u8],
    mut change: impl FnMut(u64, &'a [u8]) -> Result<Option<Vec<u8>>, Malformed>,
) -> Result<Vec<u8>, Malformed> {
    let mut rewritten = Vec::with_capacity(message.len() + 256);
    for field in Fields(message) {
        let field = field?;
        let changed = match field.content {
            Content::Bytes(content) => change(field.number, content)?,
            _ => None,
        };
        match changed {
            Some(content) => put_bytes(field.number, &content, &mut rewritten),
            None => rewritten.extend_from_slice(field.raw),
        }
    }
    Ok(rewritten)
}

/// The first field with this number that contains bytes. `None` if there is no such field.
///
/// # Errors
/// If a field before it is malformed.
pub(crate) fn first(message: &[u8], number: u64) -> Result<Option<&[u8]>, Malformed> {
    for field in Fields(message) {
        match field? {
            WireField {
                number: found,
                content: Content::Bytes(content),
                ..
            } if found == number => return Ok(Some(content)),
            _ => {}
        }
    }
    Ok(None)
}

/// Reads a varint from the front of `bytes`.
pub(crate) fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    // A varint has at most 10 bytes. The limit also ends a malformed number.
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Writes a varint.
pub(crate) fn put_number(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Writes a field that contains a number.
pub fn put_varint(field: u64, value: u64, to: &mut Vec<u8>) {
    put_number(field << 3, to);
    put_number(value, to);
}

/// Writes a field that contains bytes, a string or a message.
pub fn put_bytes(field: u64, content: &[u8], to: &mut Vec<u8>) {
    put_number(field << 3 | 2, to);
    put_number(content.len() as u64, to);
    to.extend_from_slice(content);
}
