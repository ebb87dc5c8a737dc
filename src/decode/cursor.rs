//! A cursor over JSON text that reads one token after the other, without a tree of values.

/// The byte at which the text is not JSON, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub offset: usize,
    pub detail: &'static str,
}

/// Python's `json.dumps` and other writers produce these by default.
pub(super) const NOT_FINITE: &str =
    "NaN and Infinity do not exist in JSON (send null for a missing number)";

pub(super) const TOO_LARGE: &str = "the number is too large";

/// Whether a text starts with NaN or an infinity, in the spelling of any common writer.
pub(super) fn begins_not_finite(text: &[u8]) -> bool {
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

pub(super) type CursorResult<T> = std::result::Result<T, SyntaxError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonKind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl JsonKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            JsonKind::Null => "null",
            JsonKind::Bool => "boolean",
            JsonKind::Number => "number",
            JsonKind::String => "string",
            JsonKind::Array => "array",
            JsonKind::Object => "object",
        }
    }
}

/// A position in a JSON text. Every method that reads a value expects the cursor at the first byte
/// of that value, where [`peek`](Cursor::peek) leaves it.
pub(super) struct Cursor<'a> {
    whole: &'a str,
    text: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor {
            whole: text,
            text: text.as_bytes(),
            position: 0,
        }
    }

    /// The whole text.
    pub(super) fn whole(&self) -> &'a str {
        self.whole
    }

    /// Whether the cursor is at the empty string `""`.
    pub(super) fn at_empty_string(&self) -> bool {
        self.text.get(self.position..self.position + 2) == Some(b"\"\"")
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Moves the cursor back to a position that it had before.
    pub(super) fn rewind(&mut self, position: usize) {
        self.position = position;
    }

    /// The text from `start` to the cursor.
    pub(super) fn slice(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.position).unwrap_or_default()
    }

    fn fail<T>(&self, detail: &'static str) -> CursorResult<T> {
        Err(SyntaxError {
            offset: self.position,
            detail,
        })
    }

    /// Like `fail`, for a value that should begin at `start`.
    #[cold]
    fn fail_value<T>(&self, start: usize, detail: &'static str) -> CursorResult<T> {
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
    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.position += 1;
        }
    }

    /// Skips white space, and returns the kind of the value that follows.
    #[inline]
    pub(super) fn peek(&mut self) -> CursorResult<JsonKind> {
        self.skip_space();
        match self.byte() {
            Some(b'"') => Ok(JsonKind::String),
            Some(b'-' | b'0'..=b'9') => Ok(JsonKind::Number),
            Some(b'{') => Ok(JsonKind::Object),
            Some(b'[') => Ok(JsonKind::Array),
            Some(b't' | b'f') => Ok(JsonKind::Bool),
            Some(b'n') => Ok(JsonKind::Null),
            // The byte can't begin a JSON value, but may begin NaN.
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

    fn literal(&mut self, word: &'static [u8]) -> CursorResult<()> {
        if self.text.get(self.position..self.position + word.len()) == Some(word) {
            self.position += word.len();
            return Ok(());
        }
        self.fail_value(self.position, "expected null, true or false")
    }

    pub(super) fn null(&mut self) -> CursorResult<()> {
        self.literal(b"null")
    }

    pub(super) fn bool(&mut self) -> CursorResult<bool> {
        if self.byte() == Some(b't') {
            self.literal(b"true").map(|()| true)
        } else {
            self.literal(b"false").map(|()| false)
        }
    }

    /// Enters an array or object with the closing bracket `close`. Returns `false` if it is empty.
    /// In this case the cursor moves past the closing bracket.
    #[inline]
    pub(super) fn enter(&mut self, close: u8) -> CursorResult<bool> {
        self.position += 1;
        self.skip_space();
        Ok(!self.eat(close))
    }

    /// Reads the separator after an element. Returns `true` if another element follows, and `false`
    /// after the closing bracket.
    #[inline]
    pub(super) fn more(&mut self, close: u8) -> CursorResult<bool> {
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

    /// Reads a member's name and the colon. The result borrows from the text, or from `scratch` if
    /// the name has escapes.
    #[inline]
    pub(super) fn key<'s>(&mut self, scratch: &'s mut Vec<u8>) -> CursorResult<&'s str>
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

    /// Skips the name `quoted`, which includes its quotes, and the colon. Returns `false` without
    /// moving if the cursor is at a different name.
    #[inline]
    pub(super) fn eat_name(&mut self, quoted: &[u8]) -> CursorResult<bool> {
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

    /// Reads a string. The result borrows from the text, or from `scratch` if the string has
    /// escapes.
    #[inline]
    pub(super) fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> CursorResult<&'s str>
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
        // Both ends are next to ASCII quotes, so they are never inside a character.
        self.whole.get(start..end).ok_or(SyntaxError {
            offset: start,
            detail: "not UTF-8",
        })
    }

    /// Reads the rest of a string, starting at its first escape. Escapes are rare, so this method
    /// is not inlined.
    #[cold]
    fn escaped<'s>(
        &mut self,
        start: usize,
        mut at: usize,
        scratch: &'s mut Vec<u8>,
    ) -> CursorResult<&'s str> {
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

    /// Reads one escape. The cursor is after its backslash.
    fn escape(&mut self) -> CursorResult<char> {
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
                // A character beyond U+FFFF is written as a pair of surrogates.
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
                        // Each surrogate has ten bits of the code point (RFC 8259, section 7).
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    code => code,
                };
                return char::from_u32(code).map_or_else(|| self.fail("half a surrogate pair"), Ok);
            }
            _ => return self.fail("unknown escape"),
        })
    }

    fn hex(&mut self) -> CursorResult<u32> {
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

    /// Reads a number, which is always finite.
    #[inline]
    pub(super) fn number(&mut self) -> CursorResult<f64> {
        let start = self.position;
        let negative = self.eat(b'-');
        let rest = self.text.get(self.position..).unwrap_or_default();
        // The mantissa may wrap. It is used only if the number has at most 15 digits.
        let mut mantissa = 0u64;
        let whole = read_digits(rest, 0, &mut mantissa);
        if whole == 0 || (whole > 1 && rest.first() == Some(&b'0')) {
            self.position += whole;
            return self.fail_value(
                start,
                "a number must begin with one digit from 1 to 9, or a single 0",
            );
        }
        let mut at = whole;
        let mut fraction = 0;
        if rest.get(at) == Some(&b'.') {
            fraction = read_digits(rest, at + 1, &mut mantissa);
            at += 1 + fraction;
        }
        self.position += at;
        if at > whole && fraction == 0 {
            return self.fail("expected a digit after the decimal point");
        }
        let exponent = self.skip_exponent()?;
        if !exponent && whole + fraction <= 15 && fraction <= 22 {
            // The mantissa and the power of ten are exact in a double, so IEEE 754 rounds their
            // quotient correctly (Clinger, "How to read floating point numbers accurately", 1990).
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

    /// Skips the exponent of a number. Returns `false` if the number has none.
    #[inline]
    fn skip_exponent(&mut self) -> CursorResult<bool> {
        if !matches!(self.byte(), Some(b'e' | b'E')) {
            return Ok(false);
        }
        self.position += 1;
        let _sign = self.eat(b'-') || self.eat(b'+');
        let first = self.position;
        while let Some(b'0'..=b'9') = self.byte() {
            self.position += 1;
        }
        if self.position == first {
            return self.fail("expected a digit in the exponent");
        }
        Ok(true)
    }

    /// Skips a value by its brackets and quotes, and returns its text. Does not check whether the
    /// value is valid JSON.
    pub(super) fn skip_value(&mut self) -> CursorResult<&'a str> {
        self.skip_space();
        let start = self.position;
        // Brackets of both kinds are counted together, because the text is parsed later.
        let mut depth = 0usize;
        loop {
            match self.byte() {
                None if depth > 0 => return self.fail("the text ends inside a value"),
                None => break,
                // The closing quote is skipped below.
                Some(b'"') => self.skip_string_content()?,
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
        // Both ends are next to ASCII characters, so they are never inside a character.
        self.whole
            .get(start..self.position)
            .map(str::trim_ascii_end)
            .ok_or(SyntaxError {
                offset: start,
                detail: "not UTF-8",
            })
    }

    /// Moves from the opening quote of a string to its closing quote.
    fn skip_string_content(&mut self) -> CursorResult<()> {
        self.position += 1;
        loop {
            match self.byte() {
                None => return self.fail("the string does not end"),
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.position += 2,
                Some(_) => self.position += 1,
            }
        }
    }

    /// Checks that only white space follows.
    pub(super) fn end(&mut self) -> CursorResult<()> {
        self.skip_space();
        if self.position == self.text.len() {
            Ok(())
        } else {
            self.fail("text after the end of the document")
        }
    }
}

/// Appends the digits that start at `start` to `mantissa`, and returns their number.
#[inline]
fn read_digits(text: &[u8], start: usize, mantissa: &mut u64) -> usize {
    let mut at = start;
    while let Some(byte @ b'0'..=b'9') = text.get(at) {
        *mantissa = mantissa
            .wrapping_mul(10)
            .wrapping_add(u64::from(byte - b'0'));
        at += 1;
    }
    at - start
}
