//! `DocumentError`: where a document violates its type, and how.

use std::fmt;

use serde::de::{self, Expected, Unexpected};
use serde_json::Value;

/// Maximum length of a string that an error repeats, in characters.
const MAX_SHOWN: usize = 40;

/// One violation in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// The steps from the root to the value, the last one first: the reader returns from the inside
    /// to the outside.
    path: Vec<Segment>,
    /// The violated rule.
    pub problem: DocumentProblem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Member(String),
    Index(usize),
}

/// A rule that a value violates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentProblem {
    /// The text is not JSON.
    #[error("is not JSON: {detail} at line {line} column {column}")]
    NotJson {
        /// The rule of JSON.
        detail: String,
        /// The line, from 1.
        line: usize,
        /// The column in bytes, from 1.
        column: usize,
    },
    /// The value has another type, or is out of the type's range.
    #[error("expected {expected}, found {found}")]
    WrongValue {
        /// The expected type.
        expected: String,
        /// The value, or its type.
        found: String,
    },
    /// The type has no such member.
    #[error("unknown member{}", expected_one_of(.known))]
    UnknownMember {
        /// The members of the type.
        known: &'static [&'static str],
    },
    /// The member occurs twice in one object.
    #[error("the member \"{0}\" occurs twice")]
    DuplicateMember(String),
    /// The type requires the member.
    #[error("the member \"{0}\" is missing")]
    MissingMember(&'static str),
    /// The value is not one of the type's names.
    #[error("unknown name \"{name}\"{}", expected_one_of(.known))]
    UnknownName {
        /// The name in the document.
        name: String,
        /// The names of the type.
        known: &'static [&'static str],
    },
    /// A type rejects the value in its own words.
    #[error("{0}")]
    Rejected(String),
}

fn expected_one_of(known: &[&str]) -> String {
    match known {
        [] => String::new(),
        [only] => format!("; expected \"{only}\""),
        // Without quotes, an empty name would be invisible.
        known if known.contains(&"") => format!("; expected one of: \"{}\"", known.join("\", \"")),
        known => format!("; expected one of: {}", known.join(", ")),
    }
}

impl DocumentError {
    pub(super) fn at_root(problem: DocumentProblem) -> DocumentError {
        DocumentError {
            path: Vec::new(),
            problem,
        }
    }

    /// The error of a text that is not JSON.
    pub(crate) fn not_json(error: &serde_json::Error) -> DocumentError {
        DocumentError::at_root(syntax_problem(error))
    }

    /// The error in the words of TOML.
    pub(super) fn in_toml(mut self) -> DocumentError {
        if let DocumentProblem::WrongValue { expected, found } = &mut self.problem {
            for text in [expected, found] {
                if text == "an object" {
                    *text = "a table".to_owned();
                }
            }
        }
        self
    }

    /// The error of a value inside a member or an element.
    pub(super) fn inside(mut self, segment: Segment) -> DocumentError {
        self.path.push(segment);
        self
    }

    /// The JSON pointer to the value. Empty for the whole document.
    pub fn pointer(&self) -> String {
        self.path
            .iter()
            .rev()
            .map(|segment| match segment {
                Segment::Member(name) => format!("/{}", crate::pointer::token(name)),
                Segment::Index(index) => format!("/{index}"),
            })
            .collect()
    }

    /// The value's key in TOML, like `steps[1].weight`. Empty for the whole document.
    pub fn key(&self) -> String {
        let mut key = String::new();
        for segment in self.path.iter().rev() {
            match segment {
                Segment::Member(name) if key.is_empty() => key.push_str(name),
                Segment::Member(name) => key.push_str(&format!(".{name}")),
                Segment::Index(index) => key.push_str(&format!("[{index}]")),
            }
        }
        key
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer().as_str() {
            "" => write!(f, "{}", self.problem),
            pointer => write!(f, "{pointer}: {}", self.problem),
        }
    }
}

impl std::error::Error for DocumentError {}

impl de::Error for DocumentError {
    fn custom<T: fmt::Display>(message: T) -> DocumentError {
        DocumentError::at_root(DocumentProblem::Rejected(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> DocumentError {
        DocumentError::at_root(DocumentProblem::WrongValue {
            expected: plain_type(&expected.to_string()).to_owned(),
            found: plain_found(&found),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> DocumentError {
        DocumentError::invalid_type(found, expected)
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> DocumentError {
        DocumentError::at_root(DocumentProblem::UnknownMember { known })
            .inside(Segment::Member(shortened(name)))
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> DocumentError {
        let name = shortened(name);
        DocumentError::at_root(DocumentProblem::UnknownName { name, known })
    }

    fn missing_field(name: &'static str) -> DocumentError {
        DocumentError::at_root(DocumentProblem::MissingMember(name))
    }

    fn duplicate_field(name: &'static str) -> DocumentError {
        DocumentError::at_root(DocumentProblem::DuplicateMember(name.to_owned()))
    }
}

fn syntax_problem(error: &serde_json::Error) -> DocumentProblem {
    if error.is_data() {
        return DocumentProblem::Rejected(error.to_string());
    }
    DocumentProblem::NotJson {
        detail: json_rule(error),
        line: error.line(),
        column: error.column(),
    }
}

/// The violated rule of JSON, without the place. serde_json's own text is for programmers.
pub(crate) fn json_rule(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "the text ends too early".to_owned();
    }
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place)
        .unwrap_or(&text)
        // The library means the rest of one of these words.
        .replace("expected ident", "expected true, false or null")
}

/// The expected type in the words of JSON. serde's derived code names the types of Rust.
pub(crate) fn plain_type(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => {
            "a whole number"
        }
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "an object",
        "unit" => "null",
        // "struct Name", "struct variant Name", "internally tagged enum Name".
        name if name.starts_with("struct ") || name.contains("tagged enum ") => "an object",
        other => other,
    }
}

fn plain_found(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Str(text) => shown_string(text),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// A value as an error shows it: a scalar itself, and of an array or object only its type.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => shown_string(text),
        scalar => scalar.to_string(),
    }
}

fn shown_string(text: &str) -> String {
    format!("\"{}\"", shortened(text))
}

pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
