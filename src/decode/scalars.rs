//! Validates numbers and strings against their schema node, and adds them to their column.

use std::cmp::Ordering;

use serde_json::Value;

use crate::{
    decode::{
        cursor::JsonKind,
        decoder::{DecodeAbort, DecodeResult, Decoder},
        malformed::MalformedRequest,
    },
    schema::{
        SchemaNode, Types,
        columns::Column,
        exact::{Exact, is_multiple},
        formats,
    },
};

/// Maximum number of choices that an error lists. More choices would not help the caller.
const MAX_LISTED_CHOICES: usize = 12;

impl<'a> Decoder<'a> {
    #[inline]
    pub(super) fn number(&mut self, node: &'a SchemaNode) -> DecodeResult<f64> {
        let start = self.cursor.position();
        let value = self.cursor.number()?;
        // JSON Schema counts 1.0 as an integer.
        let whole = value.fract() == 0.0;
        if !(node.types.has(Types::NUMBER) || (whole && node.types.has(Types::INTEGER))) {
            self.wrong_type(node, JsonKind::Number, start);
            return Ok(value);
        }
        if node.bounded && !(node.small_bounds && is_within_bounds(node, value)) {
            self.check_bounds(node, Exact::read(value, self.cursor.slice(start)), start);
        }
        // Elements of an array have no column of their own.
        let Some(column) = node.column else {
            return Ok(value);
        };
        let mut too_large = false;
        match self.columns.columns.get_mut(column) {
            Some(Column::Number(values)) => values.push(value),
            Some(Column::Integer(values)) => {
                let text = std::str::from_utf8(self.cursor.slice(start)).unwrap_or_default();
                let exact = text
                    .parse()
                    .ok()
                    // `parse` refuses the integers `1e3` and `2.0`. 9e18 is below 2^63, which is
                    // the limit of i64.
                    .or_else(|| (value.abs() < 9.0e18 && whole).then_some(value as i64));
                too_large = exact.is_none();
                values.push(exact);
            }
            _ => {}
        }
        if too_large {
            self.fault(node, "dtype", "must fit a 64-bit integer".to_owned(), start);
        }
        Ok(value)
    }

    /// Compares exactly, in decimal. Called only if doubles may round: see [`is_within_bounds`].
    #[cold]
    fn check_bounds(&mut self, node: &'a SchemaNode, value: Exact, start: usize) {
        let order = |bound: Option<Exact>| bound.map(|bound| value.compare(bound));
        let bounds = [
            (
                "minimum",
                "at least",
                node.minimum,
                order(node.minimum).is_some_and(Ordering::is_lt),
            ),
            (
                "maximum",
                "at most",
                node.maximum,
                order(node.maximum).is_some_and(Ordering::is_gt),
            ),
            (
                "exclusiveMinimum",
                "above",
                node.exclusive_minimum,
                order(node.exclusive_minimum).is_some_and(Ordering::is_le),
            ),
            (
                "exclusiveMaximum",
                "below",
                node.exclusive_maximum,
                order(node.exclusive_maximum).is_some_and(Ordering::is_ge),
            ),
        ];
        for (keyword, relation, bound, violated) in bounds {
            if let Some(bound) = bound.filter(|_| violated) {
                self.fault(
                    node,
                    keyword,
                    format!("must be {relation} {}", bound.value),
                    start,
                );
            }
        }
        if let Some(step) = node.multiple_of
            && !is_multiple(value, step)
        {
            self.fault(
                node,
                "multipleOf",
                format!("must be a multiple of {}", step.value),
                start,
            );
        }
    }

    pub(super) fn string(&mut self, node: &'a SchemaNode) -> DecodeResult<()> {
        let start = self.cursor.position();
        // The buffer is taken out of `self`, because the string borrows it while `self` is changed.
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = self
            .cursor
            .string(&mut scratch)
            .map(|value| self.checked_string(node, value, start));
        self.scratch = scratch;
        outcome.map_err(DecodeAbort::from)
    }

    /// Reads `{"b64": "..."}`. A field of bytes gets the decoded bytes. Any other field gets the
    /// UTF-8 string that they encode.
    pub(super) fn b64(&mut self, node: &'a SchemaNode) -> DecodeResult<()> {
        let malformed = || DecodeAbort::from(MalformedRequest::Base64);
        let start = self.cursor.position();
        if !self.cursor.enter(b'}')?
            || self.cursor.key(&mut self.scratch)? != "b64"
            || self.cursor.peek()? != JsonKind::String
        {
            return Err(malformed());
        }
        // The column decodes the base64 directly, without a second buffer.
        if node.base64 {
            self.string(node)?;
        } else {
            let encoded = self.cursor.string(&mut self.scratch)?;
            let bytes = base64_simd::STANDARD
                .decode_to_vec(encoded)
                .map_err(|_| malformed())?;
            let text = String::from_utf8(bytes).map_err(|_| MalformedRequest::Base64NotUtf8)?;
            self.checked_string(node, &text, start);
        }
        if self.cursor.more(b'}')? {
            Err(malformed())
        } else {
            Ok(())
        }
    }

    /// Whether the cursor is at `{"b64": ...`. The cursor does not move.
    pub(super) fn at_b64(&mut self) -> bool {
        let start = self.cursor.position();
        let found = self.cursor.enter(b'}').is_ok_and(|more| more)
            && self
                .cursor
                .key(&mut self.scratch)
                .is_ok_and(|key| key == "b64");
        self.cursor.rewind(start);
        found
    }

    pub(super) fn checked_string(&mut self, node: &'a SchemaNode, value: &str, start: usize) {
        if !node.types.has(Types::STRING) {
            self.wrong_type(node, JsonKind::String, start);
            return;
        }
        self.check_string_rules(node, value, start);
        let Some(column) = node.column else { return };
        // The fault is reported after the match, because the match borrows the columns.
        let mut broken = false;
        match self.columns.columns.get_mut(column) {
            Some(Column::Text(spans)) => spans.push(value.as_bytes()),
            Some(Column::Binary(spans)) => {
                let decode = |bytes: &mut Vec<u8>| {
                    base64_simd::STANDARD.decode_append(value.as_bytes(), bytes)
                };
                broken = spans.push_with(decode).is_err();
            }
            _ => {}
        }
        if broken {
            self.fault(
                node,
                "contentEncoding",
                "must be base64 (RFC 4648, with padding)".to_owned(),
                start,
            );
        }
    }

    #[inline]
    fn check_string_rules(&mut self, node: &'a SchemaNode, value: &str, start: usize) {
        // A character takes one to four bytes, so the number of bytes is enough to check most
        // lengths.
        if value.len() > node.max_length || value.len() < node.min_length.saturating_mul(4) {
            let length = value.chars().count();
            if length < node.min_length {
                self.fault(
                    node,
                    "minLength",
                    format!("must have at least {} characters", node.min_length),
                    start,
                );
            }
            if length > node.max_length {
                self.fault(
                    node,
                    "maxLength",
                    format!("must have at most {} characters", node.max_length),
                    start,
                );
            }
        }
        if let Some(choices) = &node.choices
            && !choices.iter().any(|choice| choice == value)
        {
            self.not_listed(node, start);
        }
        if let Some(pattern) = &node.pattern
            && !pattern.is_match(value)
        {
            self.fault(
                node,
                "pattern",
                format!("must match {}", pattern.as_str()),
                start,
            );
        }
        if let Some(format) = node.format
            && !formats::fits(format, value)
        {
            self.fault(
                node,
                "format",
                format!("must be a {}", formats::name(format)),
                start,
            );
        }
    }

    /// Checks `enum` and `const`. Their values may have any type, so they are compared as JSON
    /// values.
    #[cold]
    pub(super) fn check_listed(&mut self, node: &SchemaNode, start: usize) {
        // The cursor has already accepted the text, so this does not fail.
        let Ok(value) = serde_json::from_slice::<Value>(self.cursor.slice(start)) else {
            return;
        };
        if let Some(known) = &node.enumeration
            && !known.iter().any(|known| equal(known, &value))
        {
            self.not_listed(node, start);
        }
        if let Some(constant) = &node.constant
            && !equal(constant, &value)
        {
            self.fault(node, "const", format!("must be {constant}"), start);
        }
    }

    fn not_listed(&mut self, node: &SchemaNode, start: usize) {
        let known = node.enumeration.as_deref().unwrap_or_default();
        let mut list: Vec<String> = known
            .iter()
            .take(MAX_LISTED_CHOICES)
            .map(Value::to_string)
            .collect();
        list.extend(
            known
                .len()
                .checked_sub(MAX_LISTED_CHOICES)
                .filter(|more| *more > 0)
                .map(|more| format!("and {more} more")),
        );
        self.fault(
            node,
            "enum",
            format!("must be one of {}", list.join(", ")),
            start,
        );
    }
}

/// Whether a comparison of doubles proves that a number is within all bounds of its node. `false`
/// also means that doubles can't decide: they distinguish all numbers of 15 digits below 1e15, but
/// not above.
#[inline]
fn is_within_bounds(node: &SchemaNode, value: f64) -> bool {
    value.abs() < 1e15
        && node.minimum.is_none_or(|bound| value >= bound.value)
        && node.maximum.is_none_or(|bound| value <= bound.value)
        && node
            .exclusive_minimum
            .is_none_or(|bound| value > bound.value)
        && node
            .exclusive_maximum
            .is_none_or(|bound| value < bound.value)
        && node.multiple_of.is_none()
}

/// Equality by the rules of JSON Schema: numbers are compared by value, and the order of members
/// does not matter.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64() == b.as_f64(),
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}
