//! Messages for errors of `serde_json`. They contain the place in the document, but not its values.

use crate::{
    decode::cursor::{NOT_FINITE, begins_not_finite},
    document::{json_rule, plain_type},
    schema::fault::token,
};

/// Maximum length of a member name in a pointer, in characters. A caller chooses the name, which
/// may be as long as the body.
const MAX_NAME: usize = 40;

/// An error of `serde_json` without the values of the document, which may be personal. The library
/// gives only a text with the values, so that the error itself can't be the source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}{place}")]
pub struct JsonFault {
    detail: String,
    /// The place, like ` at line 1 column 5 (/instances/1)`. Empty for a part that was cut from a
    /// document: line numbers in the part differ from those in the document.
    place: String,
}

/// Describes an error without the values of the document.
pub(crate) fn without_values(error: &serde_json::Error, document: &[u8]) -> JsonFault {
    if let Some(detail) = not_finite(error, document) {
        let pointer = pointer_at(document, error);
        return JsonFault {
            detail: detail.to_owned(),
            place: format!(
                " at line {} column {}{pointer}",
                error.line(),
                error.column()
            ),
        };
    }
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    // The library does not know the column of the whole document.
    let place = match error.column() {
        0 => String::new(),
        _ => place,
    };
    // serde_json writes "invalid type: VALUE, expected TYPE".
    let detail = match (error.is_data(), text.rsplit_once(", expected ")) {
        (true, Some((_, expected))) => format!(
            "a value has the wrong type; expected {}",
            plain_type(expected)
        ),
        _ => member_rule(text).unwrap_or_else(|| json_rule(error)),
    };
    JsonFault { detail, place }
}

/// The error about a member of a document. Its name is one that predictd knows, so it is no value.
fn member_rule(text: &str) -> Option<String> {
    let name = |prefix: &str| text.strip_prefix(prefix)?.strip_suffix('`');
    if let Some(name) = name("missing field `") {
        return Some(format!("the member \"{name}\" is missing"));
    }
    let name = name("duplicate field `")?;
    Some(format!("the member \"{name}\" occurs twice"))
}

/// Like [`without_values`], but also without the place. Used for a part that was cut from a
/// document.
pub(crate) fn without_place(error: &serde_json::Error, part: &[u8]) -> JsonFault {
    JsonFault {
        place: String::new(),
        ..without_values(error, part)
    }
}

/// The explanation of a syntax error at NaN or Infinity, which JSON does not have. `None` for any
/// other error.
pub(crate) fn not_finite(error: &serde_json::Error, text: &[u8]) -> Option<&'static str> {
    if !error.is_syntax() {
        return None;
    }
    let line = text
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1))?;
    // serde_json reports the byte at which it recognised the error. This byte is at most three
    // bytes into the word, after its sign.
    let starts = error.column().saturating_sub(4)..=error.column();
    let is_at = |at: usize| {
        let inside_a_word = at
            .checked_sub(1)
            .and_then(|before| line.get(before))
            .is_some_and(u8::is_ascii_alphanumeric);
        !inside_a_word && line.get(at..).is_some_and(begins_not_finite)
    };
    starts.into_iter().any(is_at).then_some(NOT_FINITE)
}

/// The place of an error as a suffix, like ` (/instances/1/age)`. Empty at the root of the
/// document.
pub(crate) fn pointer_at(document: &[u8], error: &serde_json::Error) -> String {
    let before = document
        .split_inclusive(|byte| *byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    let pointer = pointer_at_end(
        document
            .get(..before + error.column().saturating_sub(1))
            .unwrap_or(document),
    );
    if pointer.is_empty() {
        pointer
    } else {
        format!(" ({pointer})")
    }
}

/// An array or object that is open at a place of a text.
enum OpenValue<'a> {
    /// The index of the current element.
    Array(usize),
    /// The name of the current member.
    Object(&'a [u8]),
}

/// The JSON pointer to the value that is incomplete at the end of `text`.
fn pointer_at_end(text: &[u8]) -> String {
    let mut open: Vec<OpenValue<'_>> = Vec::new();
    let (mut escaped, mut string_start, mut last_string) = (false, None, &b""[..]);
    for (at, byte) in text.iter().enumerate() {
        match (byte, string_start) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"', Some(start)) => {
                last_string = text.get(start..at).unwrap_or_default();
                string_start = None;
            }
            (b'"', None) => string_start = Some(at + 1),
            (_, Some(_)) => {}
            (b'[', None) => open.push(OpenValue::Array(0)),
            (b'{', None) => open.push(OpenValue::Object(b"")),
            (b']' | b'}', None) => drop(open.pop()),
            (b':', None) => {
                if let Some(OpenValue::Object(name)) = open.last_mut() {
                    *name = last_string;
                }
            }
            (b',', None) => {
                if let Some(OpenValue::Array(index)) = open.last_mut() {
                    *index += 1;
                }
            }
            _ => {}
        }
    }
    open.iter().map(OpenValue::pointer_token).collect()
}

impl OpenValue<'_> {
    fn pointer_token(&self) -> String {
        match self {
            OpenValue::Array(index) => format!("/{index}"),
            OpenValue::Object(name) => {
                let name = String::from_utf8_lossy(name);
                let name: String = name.chars().take(MAX_NAME).collect();
                format!("/{}", token(&name))
            }
        }
    }
}
