//! Decode: from a request's bytes to validated, typed columns in one pass, with no tree in between.

pub mod cursor;
pub mod elements;
mod forms;
pub mod origin;
pub mod rows;
pub mod table;

use std::{cmp::Ordering, collections::HashSet};

use serde_json::Value;

use crate::{
    decode::{
        cursor::{Cursor, Kind, NOT_FINITE, SyntaxError, TOO_LARGE},
        origin::Origin,
    },
    schema::{
        Node, ObjectNode, Schema, Types,
        columns::{Column, ColumnId, Columns},
        exact::{Exact, is_multiple},
        fault::{Fault, MAX_ECHO, MAX_FAULTS, shorten, token},
        formats,
    },
};

/// Limits that hold before memory is spent.
#[derive(Clone, Copy, Debug)]
pub struct DecodeLimits {
    pub max_instances: usize,
    pub max_depth: usize,
    /// Elements of all arrays of a request together.
    pub max_array_values: usize,
}

#[derive(Debug)]
pub struct Decoded {
    pub columns: Columns,
    /// The request's `id`, to be echoed.
    pub id: Option<String>,
    /// The body was one bare instance.
    pub single: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not JSON, or JSON that is no request.
    Malformed { detail: String },
    /// It does not fit the schema; `more` faults beyond those listed.
    Invalid { faults: Vec<Fault>, more: usize },
}

/// Decodes `{"instances": [...], "id": "..."}`, or one bare instance.
pub fn decode_request(
    schema: &Schema,
    body: &[u8],
    limits: &DecodeLimits,
) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder::new(schema, body, limits)?;
    let outcome = decoder.request();
    decoder.finish(outcome, body)
}

/// Decodes one bare instance; pointers begin at the instance.
pub fn decode_instance(
    schema: &Schema,
    document: &[u8],
    limits: &DecodeLimits,
) -> Result<Columns, DecodeError> {
    let mut decoder = Decoder::new(schema, document, limits)?;
    let outcome = decoder
        .instance()
        .and_then(|()| decoder.cursor.end().map_err(Stop::from))
        .map(|()| (None, true));
    decoder
        .finish(outcome, document)
        .map(|decoded| decoded.columns)
}

/// A field's values in all rows of a request.
pub struct FieldValues<'a> {
    pub column: ColumnId,
    /// A JSON array with a value a row; each may stand in an array of its own.
    pub text: &'a str,
}

/// How the rows of other protocols differ from the instances of ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowForm<'a> {
    /// The fields of rows that are lists; the schema's own order without this.
    pub names: Option<&'a [String]>,
    /// Fields that the schema does not know are passed over.
    pub ignore_unknown: bool,
    /// Tables have no other way to leave a cell out than null.
    pub null_is_missing: bool,
    /// Where the caller wrote the rows; in the member `instances` without this.
    pub origin: Option<&'a Origin>,
}

/// Decodes a request that comes field by field, as tensors do. A field that is optional or nullable may be null, or an empty
/// text, in single rows.
pub fn decode_fields(
    schema: &Schema,
    inputs: &[FieldValues<'_>],
    rows: usize,
    limits: &DecodeLimits,
) -> Result<Columns, DecodeError> {
    let mut decoder = Decoder::over(schema, "", limits);
    decoder.lenient.b64 = true;
    decoder.inner = true;
    let outcome = decoder.fields(inputs, rows).map(|()| (None, false));
    let text = decoder.cursor.whole();
    decoder
        .finish(outcome, text.as_bytes())
        .map(|decoded| decoded.columns)
}

/// Decodes a JSON array of rows: objects, or lists of values.
pub fn decode_rows(
    schema: &Schema,
    rows: &[u8],
    form: RowForm<'_>,
    limits: &DecodeLimits,
) -> Result<Columns, DecodeError> {
    let mut decoder = Decoder::new(schema, rows, limits)?;
    decoder.inner = true;
    decoder.origin = form.origin;
    decoder.lenient = Lenient {
        unknown: form.ignore_unknown,
        null: form.null_is_missing,
        b64: true,
    };
    let outcome = decoder.rows(form.names).map(|()| (None, false));
    decoder
        .finish(outcome, rows)
        .map(|decoded| decoded.columns)
        .map_err(|error| match (error, form.origin) {
            (DecodeError::Invalid { faults, more }, Some(origin)) => DecodeError::Invalid {
                faults: faults
                    .into_iter()
                    .map(|fault| origin.locate(fault))
                    .collect(),
                more,
            },
            (error, _) => error,
        })
}

#[derive(Clone, Copy, Default)]
struct Lenient {
    /// Members that the schema does not know are passed over.
    unknown: bool,
    /// Null stands for a value that is left out, where it may be left out.
    null: bool,
    /// `{"b64": "..."}` stands for bytes, where a text is expected.
    b64: bool,
}

/// What ends the pass at once.
enum Stop {
    Syntax(SyntaxError),
    Request(String),
    /// The member `instances` turned up behind others: the body is an envelope after all.
    Envelope,
}

impl From<SyntaxError> for Stop {
    fn from(error: SyntaxError) -> Stop {
        Stop::Syntax(error)
    }
}

type Pass<T> = Result<T, Stop>;

struct Decoder<'a> {
    schema: &'a Schema,
    limits: &'a DecodeLimits,
    cursor: Cursor<'a>,
    columns: Columns,
    faults: Vec<Fault>,
    more: usize,
    /// Where the pass stands: names and indices from the root down.
    path: Vec<Step<'a>>,
    depth: usize,
    array_values: usize,
    scratch: Vec<u8>,
    seen: Vec<bool>,
    /// `instances` at the root is the envelope's.
    watch_for_envelope: bool,
    /// The text is not what the caller wrote but cut out of it, or made of it: places in it mean nothing to the caller.
    inner: bool,
    lenient: Lenient,
    origin: Option<&'a Origin>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Decoder<'a> {
    fn new(
        schema: &'a Schema,
        body: &'a [u8],
        limits: &'a DecodeLimits,
    ) -> Result<Decoder<'a>, DecodeError> {
        let text = std::str::from_utf8(body).map_err(|error| {
            malformed(format!(
                "the body is not UTF-8 at byte {}",
                error.valid_up_to()
            ))
        })?;
        Ok(Decoder::over(schema, text, limits))
    }

    fn over(schema: &'a Schema, text: &'a str, limits: &'a DecodeLimits) -> Decoder<'a> {
        let mut decoder = Decoder {
            schema,
            limits,
            cursor: Cursor::new(text),
            columns: Columns::default(),
            faults: Vec::new(),
            more: 0,
            path: Vec::new(),
            depth: 0,
            array_values: 0,
            scratch: Vec::new(),
            seen: Vec::new(),
            watch_for_envelope: false,
            inner: false,
            lenient: Lenient::default(),
            origin: None,
        };
        decoder.clear();
        decoder
    }

    fn clear(&mut self) {
        let columns = self
            .schema
            .columns()
            .iter()
            .map(|column| Column::new(column.kind))
            .collect();
        self.columns = Columns { rows: 0, columns };
        self.faults.clear();
        self.seen.clear();
        self.more = 0;
        self.depth = 0;
        self.array_values = 0;
        self.path.clear();
    }

    fn finish(
        self,
        outcome: Pass<(Option<String>, bool)>,
        body: &[u8],
    ) -> Result<Decoded, DecodeError> {
        match outcome {
            Err(Stop::Syntax(error)) if self.inner => {
                Err(malformed(format!("{}: {}", self.cell(), error.detail)))
            }
            Err(Stop::Syntax(error)) => {
                // A number that can't be read has a place in the document; elsewhere nobody knows what was meant.
                let pointer = self.pointer();
                let known = [NOT_FINITE, TOO_LARGE].contains(&error.detail) && !pointer.is_empty();
                let pointer = if known {
                    format!(" ({pointer})")
                } else {
                    String::new()
                };
                Err(malformed(format!(
                    "the body is not JSON: {} at {}{pointer}",
                    error.detail,
                    place(body, error.offset)
                )))
            }
            Err(Stop::Request(detail)) => Err(malformed(detail)),
            Err(Stop::Envelope) => Err(malformed(
                "the member \"instances\" is not expected here".to_owned(),
            )),
            Ok(_) if !self.faults.is_empty() => Err(DecodeError::Invalid {
                faults: self.faults,
                more: self.more,
            }),
            Ok((id, single)) => Ok(Decoded {
                columns: self.columns,
                id,
                single,
            }),
        }
    }

    fn property(&mut self, base: usize, index: usize, name: &'a str, node: &'a Node) -> Pass<()> {
        if let Some(seen) = self.seen.get_mut(base + index) {
            *seen = true;
        }
        self.path.push(Step::Name(name));
        self.value(node)?;
        self.path.pop();
        Ok(())
    }

    /// One value: validated, and written to its column. Every column gets exactly one entry in every accepted instance.
    fn value(&mut self, node: &'a Node) -> Pass<()> {
        let kind = self.cursor.peek()?;
        let start = self.cursor.position();
        match kind {
            Kind::Object
                if self.lenient.b64
                    && node.types.has(Types::STRING)
                    && !node.types.has(Types::OBJECT) =>
            {
                return self.b64(node);
            }
            Kind::Object => self.object(node)?,
            Kind::Array => self.array(node)?,
            Kind::Number => {
                self.number(node)?;
            }
            Kind::String => self.string(node)?,
            Kind::Bool => {
                let value = self.cursor.bool()?;
                if !node.types.has(Types::BOOLEAN) {
                    self.wrong_type(node, kind, start);
                } else if let Some(column) = node.column
                    && let Some(Column::Boolean(values)) = self.columns.columns.get_mut(column)
                {
                    values.push(Some(value));
                }
            }
            Kind::Null => {
                self.cursor.null()?;
                if !(node.types.has(Types::NULL) || self.lenient.null && self.may_be_left_out(node))
                {
                    self.wrong_type(node, kind, start);
                }
                self.missing(node);
            }
        }
        let compared_as_text =
            kind == Kind::String && node.choices.is_some() && node.constant.is_none();
        if !(node.plain || compared_as_text) {
            self.listed(node, start);
        }
        Ok(())
    }

    fn number(&mut self, node: &'a Node) -> Pass<f64> {
        let start = self.cursor.position();
        let value = self.cursor.number()?;
        let whole = value.fract() == 0.0;
        if !(node.types.has(Types::NUMBER) || (whole && node.types.has(Types::INTEGER))) {
            self.wrong_type(node, Kind::Number, start);
            return Ok(value);
        }
        if node.bounded && !(node.small_bounds && within(node, value)) {
            self.bounds(node, Exact::read(value, self.cursor.slice(start)), start);
        }
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

    #[cold]
    fn bounds(&mut self, node: &'a Node, value: Exact, start: usize) {
        let than = |bound: Option<Exact>| bound.map(|bound| value.compare(bound));
        let bounds = [
            (
                "minimum",
                "at least",
                node.minimum,
                than(node.minimum).is_some_and(Ordering::is_lt),
            ),
            (
                "maximum",
                "at most",
                node.maximum,
                than(node.maximum).is_some_and(Ordering::is_gt),
            ),
            (
                "exclusiveMinimum",
                "above",
                node.exclusive_minimum,
                than(node.exclusive_minimum).is_some_and(Ordering::is_le),
            ),
            (
                "exclusiveMaximum",
                "below",
                node.exclusive_maximum,
                than(node.exclusive_maximum).is_some_and(Ordering::is_ge),
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

    fn string(&mut self, node: &'a Node) -> Pass<()> {
        let start = self.cursor.position();
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = self
            .cursor
            .string(&mut scratch)
            .map(|value| self.checked_string(node, value, start));
        self.scratch = scratch;
        outcome.map_err(Stop::from)
    }

    /// `{"b64": "..."}`: bytes where the field takes bytes, else the text that they are.
    fn b64(&mut self, node: &'a Node) -> Pass<()> {
        let wrong = || Stop::Request("bytes are written {\"b64\": \"...\"}".to_owned());
        let start = self.cursor.position();
        if !self.cursor.enter(b'}')?
            || self.cursor.key(&mut self.scratch)? != "b64"
            || self.cursor.peek()? != Kind::String
        {
            return Err(wrong());
        }
        if node.base64 {
            self.string(node)?;
        } else {
            let encoded = self.cursor.string(&mut self.scratch)?;
            let bytes = base64_simd::STANDARD
                .decode_to_vec(encoded)
                .map_err(|_| wrong())?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Stop::Request("the bytes of a text must be UTF-8".to_owned()))?;
            self.checked_string(node, &text, start);
        }
        if self.cursor.more(b'}')? {
            Err(wrong())
        } else {
            Ok(())
        }
    }

    fn at_b64(&mut self) -> bool {
        let start = self.cursor.position();
        let found = self.cursor.enter(b'}').is_ok_and(|more| more)
            && self
                .cursor
                .key(&mut self.scratch)
                .is_ok_and(|key| key == "b64");
        self.cursor.rewind(start);
        found
    }

    fn may_be_left_out(&self, node: &Node) -> bool {
        node.column
            .and_then(|column| self.schema.columns().get(column))
            .is_some_and(|spec| spec.nullable)
    }

    fn checked_string(&mut self, node: &'a Node, value: &str, start: usize) {
        if !node.types.has(Types::STRING) {
            self.wrong_type(node, Kind::String, start);
            return;
        }
        // Characters take one to four bytes: only where that leaves a doubt are they counted.
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
        let Some(column) = node.column else { return };
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

    fn object(&mut self, node: &'a Node) -> Pass<()> {
        let start = self.cursor.position();
        if !node.types.has(Types::OBJECT) {
            self.skip()?;
            self.wrong_type(node, Kind::Object, start);
            return Ok(());
        }
        match &node.object {
            None => self.skip(),
            Some(object) => self.members(node, object, start),
        }
    }

    fn members(&mut self, node: &'a Node, object: &'a ObjectNode, start: usize) -> Pass<()> {
        self.deepen()?;
        let at_root = self.watch_for_envelope && self.depth == 1;
        let base = self.seen.len();
        self.seen.resize(base + object.properties.len(), false);
        let mut others: Option<HashSet<String>> = None;
        let mut expected = 0;
        let mut more = self.cursor.enter(b'}')?;
        while more {
            // Members mostly come in the order of the schema.
            let (index, unknown) = match object.quoted.get(expected) {
                Some(quoted) if self.cursor.eat_name(quoted)? => (Some(expected), None),
                _ => {
                    let mut scratch = std::mem::take(&mut self.scratch);
                    let key = self.cursor.key(&mut scratch)?;
                    let index = object.properties.iter().position(|(name, _)| name == key);
                    let unknown = index.is_none().then(|| key.to_owned());
                    self.scratch = scratch;
                    (index, unknown)
                }
            };
            match (index, unknown) {
                (Some(index), _) => {
                    expected = index + 1;
                    if self.seen.get(base + index) == Some(&true) {
                        return Err(self
                            .duplicate(object.properties.get(index).map_or("", |(name, _)| name)));
                    }
                    if let Some((name, node)) = object.properties.get(index) {
                        self.property(base, index, name, node)?;
                    }
                }
                (None, unknown) => {
                    let name = unknown.unwrap_or_default();
                    if at_root && name == "instances" {
                        return Err(Stop::Envelope);
                    }
                    self.cursor.peek()?;
                    self.skip()?;
                    if !object.additional && !self.lenient.unknown {
                        self.unknown_member(node, object, &name);
                    }
                    if !others.get_or_insert_default().insert(name.clone()) {
                        return Err(self.duplicate(&name));
                    }
                }
            }
            more = self.cursor.more(b'}')?;
        }
        self.depth -= 1;
        self.complete(object, base);
        for name in &object.required_others {
            if !others.as_ref().is_some_and(|others| others.contains(name)) {
                self.fault(
                    node,
                    "required",
                    format!("needs the member \"{name}\""),
                    start,
                );
            }
        }
        Ok(())
    }

    /// Fills the properties that were not there, and complains of those that must be.
    fn complete(&mut self, object: &'a ObjectNode, base: usize) {
        for (index, (name, child)) in object.properties.iter().enumerate() {
            if self.seen.get(base + index) == Some(&true) {
                continue;
            }
            if object.required.contains(&index) {
                self.path.push(Step::Name(name));
                self.fault_without_value("required", format!("`{}` is required", shorten(name)));
                self.path.pop();
            }
            self.missing(child);
        }
        self.seen.truncate(base);
    }

    fn unknown_member(&mut self, node: &Node, object: &ObjectNode, name: &str) {
        if self.faults.len() >= MAX_FAULTS {
            self.more += 1;
            return;
        }
        // The distance costs the product of the lengths.
        let candidates = object
            .properties
            .iter()
            .map(|(known, _)| known)
            .filter(|_| name.len() <= MAX_ECHO);
        let nearest = candidates.min_by_key(|known| strsim::damerau_levenshtein(known, name));
        let nearest = nearest
            .filter(|known| strsim::damerau_levenshtein(known, name) <= known.len().div_ceil(3));
        let hint = nearest
            .map(|known| format!("; did you mean \"{known}\"?"))
            .unwrap_or_default();
        let shown = if node.pii {
            "a member".to_owned()
        } else {
            format!("\"{}\"", shorten(name))
        };
        let pointer = format!("{}/{}", self.pointer(), token(&shorten(name)));
        self.push(
            pointer,
            "additionalProperties",
            format!("{shown} is not a known field{hint}"),
        );
    }

    fn duplicate(&self, name: &str) -> Stop {
        Stop::Request(format!(
            "the member \"{}\" occurs twice in {}",
            shorten(name),
            if self.path.is_empty() {
                "the body".to_owned()
            } else {
                self.pointer()
            }
        ))
    }

    fn array(&mut self, node: &'a Node) -> Pass<()> {
        let start = self.cursor.position();
        if !node.types.has(Types::ARRAY) {
            self.skip()?;
            self.wrong_type(node, Kind::Array, start);
            return Ok(());
        }
        let Some(column) = node.column else {
            return self.elements(node, &mut None).map(|_| ());
        };
        let mut numbers = Vec::new();
        let first = match self.columns.columns.get_mut(column) {
            Some(Column::Array(arrays)) => {
                numbers = std::mem::take(&mut arrays.values);
                numbers.len()
            }
            _ => 0,
        };
        let mut sink = Some(numbers);
        let shape = self.elements(node, &mut sink);
        if let Some(Column::Array(arrays)) = self.columns.columns.get_mut(column) {
            arrays.values = sink.unwrap_or_default();
            if let Ok(shape) = &shape {
                arrays.push_row(first, shape.as_deref());
            }
        }
        shape.map(|_| ())
    }

    /// The elements of an array: their shape where it is regular, their numbers, or booleans, into `sink` where there is one.
    fn elements(
        &mut self,
        node: &'a Node,
        sink: &mut Option<Vec<f64>>,
    ) -> Pass<Option<Vec<usize>>> {
        self.deepen()?;
        let mut count = 0;
        let mut inner: Option<Option<Vec<usize>>> = None;
        let mut more = self.cursor.enter(b']')?;
        while more {
            self.array_values += 1;
            if self.array_values > self.limits.max_array_values {
                return Err(Stop::Request(format!(
                    "more than {} array elements in one request",
                    self.limits.max_array_values
                )));
            }
            let child = node.prefix_items.get(count).or(node.items.as_deref());
            self.path.push(Step::Index(count));
            let shape = match child {
                None => {
                    self.cursor.peek()?;
                    self.skip()?;
                    None
                }
                Some(child) => self.element(child, sink)?,
            };
            self.path.pop();
            match &inner {
                None => inner = Some(shape),
                Some(known) if *known == shape => {}
                Some(_) => inner = Some(None),
            }
            count += 1;
            more = self.cursor.more(b']')?;
        }
        self.depth -= 1;
        if count < node.min_items {
            self.fault_without_echo(
                "minItems",
                format!(
                    "must have at least {} elements, has {count}",
                    node.min_items
                ),
            );
        }
        if count > node.max_items {
            self.fault_without_echo(
                "maxItems",
                format!("must have at most {} elements, has {count}", node.max_items),
            );
        }
        let below = inner.unwrap_or(Some(Vec::new()));
        Ok(below.map(|below| {
            let mut shape = vec![count];
            shape.extend(below);
            shape
        }))
    }

    fn element(
        &mut self,
        child: &'a Node,
        sink: &mut Option<Vec<f64>>,
    ) -> Pass<Option<Vec<usize>>> {
        let kind = self.cursor.peek()?;
        let start = self.cursor.position();
        match (kind, sink.as_mut()) {
            (Kind::Number, Some(values)) => {
                values.push(self.number(child)?);
                if !child.plain {
                    self.listed(child, start);
                }
                Ok(Some(Vec::new()))
            }
            (Kind::Bool, Some(values)) if child.types.has(Types::BOOLEAN) => {
                values.push(f64::from(u8::from(self.cursor.bool()?)));
                if !child.plain {
                    self.listed(child, start);
                }
                Ok(Some(Vec::new()))
            }
            (Kind::Array, Some(_)) if child.types.has(Types::ARRAY) => {
                let shape = self.elements(child, sink)?;
                if !child.plain {
                    self.listed(child, start);
                }
                Ok(shape)
            }
            _ => {
                self.value(child)?;
                Ok(None)
            }
        }
    }

    /// Passes over a value that no schema looks at; duplicate members are found all the same.
    fn skip(&mut self) -> Pass<()> {
        match self.cursor.peek()? {
            Kind::Null => self.cursor.null()?,
            Kind::Bool => {
                self.cursor.bool()?;
            }
            Kind::Number => {
                self.cursor.number()?;
            }
            Kind::String => {
                self.cursor.string(&mut self.scratch)?;
            }
            Kind::Array => {
                self.deepen()?;
                let mut more = self.cursor.enter(b']')?;
                while more {
                    self.skip()?;
                    more = self.cursor.more(b']')?;
                }
                self.depth -= 1;
            }
            Kind::Object => {
                self.deepen()?;
                let mut names = HashSet::new();
                let mut more = self.cursor.enter(b'}')?;
                while more {
                    let name = self.cursor.key(&mut self.scratch)?.to_owned();
                    self.skip()?;
                    if !names.insert(name.clone()) {
                        return Err(self.duplicate(&name));
                    }
                    more = self.cursor.more(b'}')?;
                }
                self.depth -= 1;
            }
        }
        Ok(())
    }

    fn deepen(&mut self) -> Pass<()> {
        self.depth += 1;
        if self.depth > self.limits.max_depth {
            return Err(Stop::Request(format!(
                "nested more than {} levels deep",
                self.limits.max_depth
            )));
        }
        Ok(())
    }

    /// Fills the columns of a value that is absent or null.
    fn missing(&mut self, node: &Node) {
        if !self.faults.is_empty() {
            return; // Nobody will read the columns, and thousands of empty instances must not fill memory.
        }
        if let Some(column) = node
            .column
            .and_then(|column| self.columns.columns.get_mut(column))
        {
            column.push_missing();
        }
        for column in node.object.iter().flat_map(|object| &object.columns) {
            if let Some(column) = self.columns.columns.get_mut(*column) {
                column.push_missing();
            }
        }
    }

    /// `enum` and `const`, which may hold anything: compared as documents.
    #[cold]
    fn listed(&mut self, node: &Node, start: usize) {
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

    fn not_listed(&mut self, node: &Node, start: usize) {
        let known = node.enumeration.as_deref().unwrap_or_default();
        let mut list: Vec<String> = known.iter().take(12).map(Value::to_string).collect();
        list.extend((known.len() > 12).then(|| format!("and {} more", known.len() - 12)));
        self.fault(
            node,
            "enum",
            format!("must be one of {}", list.join(", ")),
            start,
        );
    }

    fn wrong_type(&mut self, node: &Node, given: Kind, start: usize) {
        let given = if given == Kind::Number && node.types.has(Types::INTEGER) {
            "number with a fraction"
        } else {
            given.name()
        };
        let detail = format!("must be {}, not {given}", node.types.describe());
        if given == "string" || given.starts_with("number") {
            self.fault(node, "type", detail, start);
        } else {
            self.fault_without_echo("type", detail);
        }
    }

    /// A violated rule, with the value that violates it unless the field is personal.
    #[cold]
    fn fault(&mut self, node: &Node, keyword: &'static str, rule: String, start: usize) {
        if self.faults.len() >= MAX_FAULTS {
            self.more += 1;
            return;
        }
        if node.pii {
            return self.fault_without_echo(keyword, rule);
        }
        let given = String::from_utf8_lossy(self.cursor.slice(start)).into_owned();
        let pointer = self.pointer();
        let name = self.name();
        self.push(
            pointer,
            keyword,
            format!("{name} {rule}; got {}", shorten(&given)),
        );
    }

    fn fault_without_echo(&mut self, keyword: &'static str, rule: String) {
        let detail = format!("{} {rule}", self.name());
        self.push(self.pointer(), keyword, detail);
    }

    fn fault_without_value(&mut self, keyword: &'static str, detail: String) {
        self.push(self.pointer(), keyword, detail);
    }

    fn push(&mut self, pointer: String, keyword: &'static str, detail: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault {
                pointer,
                keyword,
                detail,
            })
        } else {
            self.more += 1
        }
    }

    fn pointer(&self) -> String {
        self.path
            .iter()
            .fold(String::new(), |text, step| match step {
                Step::Name(name) => format!("{text}/{}", token(name)),
                Step::Index(index) => format!("{text}/{index}"),
            })
    }

    /// Row and field at which the pass stands.
    fn cell(&self) -> String {
        let row = self.path.iter().find_map(|step| {
            if let Step::Index(row) = step {
                Some(self.row(*row))
            } else {
                None
            }
        });
        let field = self.path.iter().find_map(|step| match step {
            Step::Name("instances") | Step::Index(_) => None,
            Step::Name(name) => Some(format!("field `{}`", shorten(name))),
        });
        let parts: Vec<String> = row.into_iter().chain(field).collect();
        if parts.is_empty() {
            "the rows".to_owned()
        } else {
            parts.join(", ")
        }
    }

    fn row(&self, index: usize) -> String {
        self.origin.unwrap_or(&Origin::Instances).row(index)
    }

    fn name(&self) -> String {
        let name = self.path.iter().rev().find_map(|step| match step {
            Step::Name("instances") | Step::Index(_) => None,
            Step::Name(name) => Some(*name),
        });
        name.map_or_else(|| "the instance".to_owned(), |name| format!("`{name}`"))
    }
}

/// Whether a number that a double holds exactly keeps all bounds; `false` also where that must be looked at closely.
fn within(node: &Node, value: f64) -> bool {
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

fn malformed(detail: String) -> DecodeError {
    DecodeError::Malformed { detail }
}

fn place(body: &[u8], offset: usize) -> String {
    let before = body.get(..offset).unwrap_or(body);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1) + 1;
    format!("line {line}, column {column}")
}

/// JSON Schema's equality: numbers by value, objects whatever the order.
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
