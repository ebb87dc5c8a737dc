//! A cursor over JSON text: pulls one token after the other, without a tree.

/// Where and why the text is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub offset: usize,
    pub detail: &'static str,
}

/// Python and others write these all the same.
pub const NOT_FINITE: &str =
    "NaN and Infinity do not exist in JSON (send null for a missing number)";

pub const TOO_LARGE: &str = "the number is too large";

/// What is wrong with a text that serde_json refuses, where it is a number that JSON does not have.
pub fn not_finite(error: &serde_json::Error, text: &[u8]) -> Option<&'static str> {
    if !error.is_syntax() {
        return None;
    }
    let line = text
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1))?;
    // The place is that of the byte by which the parser saw it: up to three into the word, with a sign before it.
    let places = error.column().saturating_sub(4)..=error.column();
    let word = |at: usize| {
        line.get(at..).is_some_and(begins_not_finite)
            && !at
                .checked_sub(1)
                .is_some_and(|before| is_word(line, before))
    };
    places.into_iter().any(word).then_some(NOT_FINITE)
}

/// Where in a document serde_json found something wrong, as ` (/instances/1/age)`; empty at its root.
pub fn pointer_at(document: &[u8], error: &serde_json::Error) -> String {
    let before = document
        .split_inclusive(|byte| *byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    let pointer = pointer_to(
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

/// The pointer to the value that is being written where this text breaks off.
fn pointer_to(text: &[u8]) -> String {
    /// A name may be as long as the body.
    const LONGEST: usize = 40;
    enum Level<'a> {
        Array(usize),
        Object(&'a [u8]),
    }
    let mut levels: Vec<Level<'_>> = Vec::new();
    let (mut escaped, mut opened, mut last) = (false, None, &b""[..]);
    for (at, byte) in text.iter().enumerate() {
        match (byte, opened) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"', Some(start)) => {
                last = text.get(start..at).unwrap_or_default();
                opened = None;
            }
            (b'"', None) => opened = Some(at + 1),
            (_, Some(_)) => {}
            (b'[', None) => levels.push(Level::Array(0)),
            (b'{', None) => levels.push(Level::Object(b"")),
            (b']' | b'}', None) => drop(levels.pop()),
            (b':', None) => {
                if let Some(Level::Object(name)) = levels.last_mut() {
                    *name = last;
                }
            }
            (b',', None) => {
                if let Some(Level::Array(index)) = levels.last_mut() {
                    *index += 1;
                }
            }
            _ => {}
        }
    }
    let step = |level: &Level<'_>| match level {
        Level::Array(index) => format!("/{index}"),
        Level::Object(name) => {
            let name = String::from_utf8_lossy(name);
            format!(
                "/{}",
                crate::schema::fault::token(&name.chars().take(LONGEST).collect::<String>())
            )
        }
    };
    levels.iter().map(step).collect()
}

fn is_word(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_alphanumeric)
}

fn begins_not_finite(text: &[u8]) -> bool {
    let text = if let [b'-' | b'+', rest @ ..] = text {
        rest
    } else {
        text
    };
    let length = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric())
        .count();
    let given = text.get(..length).unwrap_or_default();
    ["nan", "inf", "infinity"]
        .iter()
        .any(|word| given.eq_ignore_ascii_case(word.as_bytes()))
}

pub type Result<T> = std::result::Result<T, SyntaxError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "boolean",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }
}

pub struct Cursor<'a> {
    whole: &'a str,
    text: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Cursor<'a> {
        Cursor {
            whole: text,
            text: text.as_bytes(),
            position: 0,
        }
    }

    pub fn whole(&self) -> &'a str {
        self.whole
    }

    /// Whether `""` stands here.
    pub fn at_empty_string(&self) -> bool {
        self.text.get(self.position..self.position + 2) == Some(b"\"\"")
    }

    pub fn position(&self) -> usize {
        self.position
    }

    pub fn rewind(&mut self, position: usize) {
        self.position = position;
    }

    pub fn slice(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.position).unwrap_or_default()
    }

    fn fail<T>(&self, detail: &'static str) -> Result<T> {
        Err(SyntaxError {
            offset: self.position,
            detail,
        })
    }

    /// As `fail`, where a value should begin at `start`.
    #[cold]
    fn fail_value<T>(&self, start: usize, detail: &'static str) -> Result<T> {
        let not_finite = self.text.get(start..).is_some_and(begins_not_finite);
        if not_finite {
            Err(SyntaxError {
                offset: start,
                detail: NOT_FINITE,
            })
        } else {
            self.fail(detail)
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    #[inline]
    pub fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.position += 1;
        }
    }

    /// The kind of the value that begins here, after any white space.
    #[inline]
    pub fn peek(&mut self) -> Result<Kind> {
        self.skip_space();
        match self.byte() {
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => self.fail_value(self.position, "expected a value"),
            None => self.fail("the text ends where a value is expected"),
        }
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.byte() == Some(byte);
        self.position += usize::from(found);
        found
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<()> {
        if self.text.get(self.position..self.position + word.len()) == Some(word) {
            self.position += word.len();
            return Ok(());
        }
        self.fail_value(self.position, "expected null, true or false")
    }

    pub fn null(&mut self) -> Result<()> {
        self.literal(b"null")
    }

    pub fn bool(&mut self) -> Result<bool> {
        if self.byte() == Some(b't') {
            self.literal(b"true").map(|()| true)
        } else {
            self.literal(b"false").map(|()| false)
        }
    }

    /// Enters an array or object; `false` when it is empty (and already left).
    #[inline]
    pub fn enter(&mut self, close: u8) -> Result<bool> {
        self.position += 1;
        self.skip_space();
        Ok(!self.eat(close))
    }

    /// After an element: `true` when another follows.
    #[inline]
    pub fn more(&mut self, close: u8) -> Result<bool> {
        self.skip_space();
        if self.eat(b',') {
            self.skip_space();
            return Ok(true);
        }
        if self.eat(close) {
            return Ok(false);
        }
        self.fail(if close == b']' {
            "expected , or ]"
        } else {
            "expected , or }"
        })
    }

    /// A member's name; stands before its value afterwards. `scratch` takes the text where it has escapes.
    #[inline]
    pub fn key<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<&'s str>
    where
        'a: 's,
    {
        if self.byte() != Some(b'"') {
            return self.fail("expected a member's name in double quotes");
        }
        let key = self.string(scratch)?;
        self.skip_space();
        if !self.eat(b':') {
            return self.fail("expected :");
        }
        Ok(key)
    }

    /// Passes a member's name that stands here as `quoted` (with its quotes), and the colon; `false` where another does.
    #[inline]
    pub fn eat_name(&mut self, quoted: &[u8]) -> Result<bool> {
        if quoted.is_empty()
            || !self
                .text
                .get(self.position..)
                .is_some_and(|rest| rest.starts_with(quoted))
        {
            return Ok(false);
        }
        self.position += quoted.len();
        self.skip_space();
        if self.eat(b':') {
            Ok(true)
        } else {
            self.fail("expected :")
        }
    }

    /// A string: borrowed from the text where it has no escapes.
    #[inline]
    pub fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<&'s str>
    where
        'a: 's,
    {
        let start = self.position + 1;
        let mut end = start;
        loop {
            match self.text.get(end) {
                Some(b'"') => break,
                Some(b'\\') => return self.escaped(start, end, scratch),
                Some(0..0x20) => {
                    self.position = end;
                    return self.fail("a control character in a string must be escaped");
                }
                Some(_) => end += 1,
                None => {
                    self.position = end;
                    return self.fail("the string does not end");
                }
            }
        }
        self.position = end + 1;
        // Cut at quotes, so between characters: always some.
        self.whole.get(start..end).ok_or(SyntaxError {
            offset: start,
            detail: "not UTF-8",
        })
    }

    #[cold]
    fn escaped<'s>(
        &mut self,
        start: usize,
        mut at: usize,
        scratch: &'s mut Vec<u8>,
    ) -> Result<&'s str> {
        scratch.clear();
        scratch.extend_from_slice(self.text.get(start..at).unwrap_or_default());
        loop {
            self.position = at;
            match self.text.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.position += 1;
                    let character = self.escape()?;
                    scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    at = self.position;
                }
                Some(0..0x20) => {
                    return self.fail("a control character in a string must be escaped");
                }
                Some(byte) => {
                    scratch.push(*byte);
                    at += 1;
                }
                None => return self.fail("the string does not end"),
            }
        }
        self.position = at + 1;
        std::str::from_utf8(scratch).or(Err(SyntaxError {
            offset: start,
            detail: "not UTF-8",
        }))
    }

    fn escape(&mut self) -> Result<char> {
        let byte = self.byte();
        self.position += 1;
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex()?;
                let code = match first {
                    0xd800..=0xdbff => {
                        if !(self.eat(b'\\') && self.eat(b'u')) {
                            return self.fail("half a surrogate pair");
                        }
                        let second = self.hex()?;
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return self.fail("half a surrogate pair");
                        }
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    code => code,
                };
                return char::from_u32(code).map_or_else(|| self.fail("half a surrogate pair"), Ok);
            }
            _ => return self.fail("unknown escape"),
        })
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self
            .text
            .get(self.position..self.position + 4)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                self.position += 4;
                Ok(code)
            }
            None => self.fail("expected four hex digits"),
        }
    }

    /// A finite number.
    #[inline]
    pub fn number(&mut self) -> Result<f64> {
        let start = self.position;
        let negative = self.eat(b'-');
        let rest = self.text.get(self.position..).unwrap_or_default();
        let mut mantissa = 0u64;
        let mut at = 0;
        while let Some(byte @ b'0'..=b'9') = rest.get(at) {
            mantissa = mantissa
                .wrapping_mul(10)
                .wrapping_add(u64::from(byte - b'0'));
            at += 1;
        }
        let mut digits = at;
        if digits == 0 || (digits > 1 && rest.first() == Some(&b'0')) {
            self.position += at;
            return self.fail_value(
                start,
                "a number must begin with one digit from 1 to 9, or a single 0",
            );
        }
        let mut fraction = 0;
        if rest.get(at) == Some(&b'.') {
            at += 1;
            let first = at;
            while let Some(byte @ b'0'..=b'9') = rest.get(at) {
                mantissa = mantissa
                    .wrapping_mul(10)
                    .wrapping_add(u64::from(byte - b'0'));
                at += 1;
            }
            fraction = at - first;
            digits += fraction;
        }
        self.position += at;
        if at > digits && fraction == 0 {
            return self.fail("expected a digit after the decimal point");
        }
        let mut simple = digits <= 15 && fraction <= 22;
        if let Some(b'e' | b'E') = self.byte() {
            simple = false;
            self.position += 1;
            let _sign = self.eat(b'-') || self.eat(b'+');
            let first = self.position;
            while let Some(b'0'..=b'9') = self.byte() {
                self.position += 1;
            }
            if self.position == first {
                return self.fail("expected a digit in the exponent");
            }
        }
        if simple {
            // Both exact in a double, so the quotient is correctly rounded (Clinger 1990).
            const POWERS: [f64; 23] = [
                1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14,
                1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
            ];
            let value = mantissa as f64 / POWERS.get(fraction).copied().unwrap_or(1.0);
            return Ok(if negative { -value } else { value });
        }
        let value = std::str::from_utf8(self.slice(start))
            .ok()
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(f64::NAN);
        if value.is_finite() {
            return Ok(value);
        }
        self.position = start;
        self.fail(TOO_LARGE)
    }

    /// Passes over a value by its brackets and quotes; whether it is JSON shows when it is read.
    pub fn pass(&mut self) -> Result<&'a str> {
        self.skip_space();
        let start = self.position;
        let mut depth = 0usize;
        loop {
            match self.byte() {
                None if depth > 0 => return self.fail("the text ends inside a value"),
                None => break,
                Some(b'"') => {
                    self.position += 1;
                    loop {
                        match self.byte() {
                            None => return self.fail("the string does not end"),
                            Some(b'"') => break,
                            Some(b'\\') => self.position += 2,
                            Some(_) => self.position += 1,
                        }
                    }
                }
                Some(b'[' | b'{') => depth += 1,
                Some(b']' | b'}' | b',') if depth == 0 => break,
                Some(b']' | b'}') => depth -= 1,
                Some(_) => {}
            }
            self.position += 1;
        }
        if self.position == start {
            return self.fail("expected a value");
        }
        // Cut at ASCII characters, so between characters: always some.
        self.whole
            .get(start..self.position)
            .map(str::trim_ascii_end)
            .ok_or(SyntaxError {
                offset: start,
                detail: "not UTF-8",
            })
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.position == self.text.len() {
            Ok(())
        } else {
            self.fail("text after the end of the document")
        }
    }
}
