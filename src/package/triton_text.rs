//! Parses protobuf's text format, in which Triton's configurations are written.

use std::cell::Cell;

/// Bounds the recursion of the parser. Triton's own messages nest 4 deep.
const MAX_DEPTH: usize = 32;

/// A line of the configuration that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {detail}")]
pub struct TritonConfigError {
    /// The line of the text, from 1.
    pub line: usize,
    /// The rule that the line breaks.
    pub detail: String,
}

pub(super) type Result<T> = std::result::Result<T, TritonConfigError>;

/// Parses a complete file.
pub(super) fn parse(text: &str) -> Result<Vec<TextField>> {
    let mut parser = TextParser {
        text: text.as_bytes(),
        position: 0,
        counted: Cell::default(),
    };
    parser.message(None, 0)
}

/// A field of a message. A repeated field gives several values of this type.
pub(super) struct TextField {
    pub name: String,
    pub line: usize,
    pub value: TextValue,
}

pub(super) enum TextValue {
    /// A quoted string.
    Text(String),
    /// A number, a name or a boolean, without quotes.
    Word(String),
    Message(Vec<TextField>),
}

struct TextParser<'a> {
    text: &'a [u8],
    position: usize,
    /// The position up to which lines are counted, and their number.
    counted: Cell<(usize, usize)>,
}

impl TextParser<'_> {
    /// Returns the next byte after whitespace and comments.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.position) {
            match byte {
                b'#' => {
                    while self
                        .text
                        .get(self.position)
                        .is_some_and(|byte| *byte != b'\n')
                    {
                        self.position += 1;
                    }
                }
                byte if byte.is_ascii_whitespace() => self.position += 1,
                byte => return Some(*byte),
            }
        }
        None
    }

    /// Skips `byte` if it comes next, and returns whether it did.
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    /// The number of the current line. Counting continues from the last position, because counting
    /// from the start for each field would take quadratic time.
    fn line(&self) -> usize {
        let (position, lines) = self.counted.get();
        let more = memchr::memchr_iter(
            b'\n',
            self.text.get(position..self.position).unwrap_or_default(),
        )
        .count();
        self.counted
            .set((self.position.max(position), lines + more));
        lines + more + 1
    }

    fn fail<T>(&self, detail: &str) -> Result<T> {
        Err(TritonConfigError {
            line: self.line(),
            detail: detail.to_owned(),
        })
    }

    /// Reads the fields up to `close`, or to the end of the text. A list in square brackets repeats
    /// the field.
    fn message(&mut self, close: Option<u8>, depth: usize) -> Result<Vec<TextField>> {
        // The parser recurses for each message, and the file may be written by anybody.
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        let mut fields = Vec::new();
        loop {
            match (self.peek(), close) {
                (None, None) => return Ok(fields),
                (None, Some(_)) => return self.fail("the text ends inside a message"),
                (Some(byte), Some(close)) if byte == close => {
                    self.position += 1;
                    return Ok(fields);
                }
                _ => {}
            }
            let line = self.line();
            let name = self.word()?;
            let colon = self.eat(b':');
            if self.eat(b'[') {
                self.list(&name, line, depth, &mut fields)?;
            } else {
                let value = self.value(colon, depth)?;
                fields.push(TextField { name, line, value });
            }
            // The text format allows a separator after each field, but does not require it.
            let _separator = self.eat(b',') || self.eat(b';');
        }
    }

    /// Reads the elements of a list, after its opening bracket.
    fn list(
        &mut self,
        name: &str,
        line: usize,
        depth: usize,
        fields: &mut Vec<TextField>,
    ) -> Result<()> {
        let mut more = !self.eat(b']');
        while more {
            let value = self.value(true, depth)?;
            fields.push(TextField {
                name: name.to_owned(),
                line,
                value,
            });
            more = self.eat(b',');
            if !more && !self.eat(b']') {
                return self.fail("expected , or ]");
            }
        }
        Ok(())
    }

    /// Reads a value. Only a message may follow its name without a colon.
    fn value(&mut self, colon: bool, depth: usize) -> Result<TextValue> {
        match self.peek() {
            Some(open @ (b'{' | b'<')) => {
                self.position += 1;
                // Both kinds of brackets delimit a message.
                let close = if open == b'{' { b'}' } else { b'>' };
                self.message(Some(close), depth + 1).map(TextValue::Message)
            }
            _ if !colon => self.fail("expected : or {"),
            Some(b'"' | b'\'') => {
                let mut text = Vec::new();
                // Adjacent strings are joined, as in C.
                while let Some(quote @ (b'"' | b'\'')) = self.peek() {
                    self.position += 1;
                    self.quoted(quote, &mut text)?;
                }
                String::from_utf8(text)
                    .map(TextValue::Text)
                    .or_else(|_| self.fail("a string must be UTF-8"))
            }
            _ => self.word().map(TextValue::Word),
        }
    }

    fn word(&mut self) -> Result<String> {
        self.peek();
        let start = self.position;
        while self
            .text
            .get(self.position)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(byte))
        {
            self.position += 1;
        }
        let word = self.text.get(start..self.position).unwrap_or_default();
        if word.is_empty() {
            self.fail("expected a name or a number")
        } else {
            Ok(String::from_utf8_lossy(word).into_owned())
        }
    }

    /// Reads a string after its opening quote.
    fn quoted(&mut self, quote: u8, text: &mut Vec<u8>) -> Result<()> {
        loop {
            let byte = self.text.get(self.position).copied();
            self.position += 1;
            match byte {
                // A string must end on its line. Otherwise one missing quote would make the rest of
                // the file part of the string.
                None | Some(b'\n') => return self.fail("the text in quotes does not end"),
                Some(byte) if byte == quote => return Ok(()),
                Some(b'\\') => {
                    let escaped = self.text.get(self.position).copied();
                    self.position += 1;
                    text.push(match escaped {
                        Some(b'n') => b'\n',
                        Some(b't') => b'\t',
                        Some(byte @ (b'\\' | b'"' | b'\'')) => byte,
                        _ => return self.fail("unknown escape"),
                    });
                }
                Some(byte) => text.push(byte),
            }
        }
    }
}
