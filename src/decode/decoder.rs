//! `Decoder`: the state of one decoding pass, and the dispatch on the type of each value.

use std::collections::HashSet;

use crate::{
    decode::{
        DecodeError, DecodeLimits, DecodedRequest,
        cursor::{Cursor, JsonKind, NOT_FINITE, SyntaxError, TOO_LARGE},
        malformed::MalformedRequest,
        row_origin::RowOrigin,
    },
    schema::{
        Schema, SchemaNode, Types,
        columns::{Column, Columns},
        fault::Fault,
    },
};

/// Values that the decoder accepts beyond the schema, because the protocol can't write them in
/// another way.
#[derive(Clone, Copy, Default)]
pub(super) struct Leniency {
    /// Whether to ignore members that the schema does not know.
    pub(super) unknown: bool,
    /// Whether to accept null for an optional field.
    pub(super) null: bool,
    /// Whether to accept `{"b64": "..."}` for a string.
    pub(super) b64: bool,
}

/// Why the pass stops before the end of the text. A violation of the schema does not stop it.
pub(super) enum DecodeAbort {
    Syntax(SyntaxError),
    /// Boxed, because every step of the pass returns a `Result` with this type.
    Request(Box<MalformedRequest>),
    /// The root object has a member `instances`, so the body is an envelope and not one instance.
    Envelope,
}

impl From<SyntaxError> for DecodeAbort {
    fn from(error: SyntaxError) -> DecodeAbort {
        DecodeAbort::Syntax(error)
    }
}

impl From<MalformedRequest> for DecodeAbort {
    fn from(reason: MalformedRequest) -> DecodeAbort {
        DecodeAbort::Request(Box::new(reason))
    }
}

pub(super) type DecodeResult<T> = Result<T, DecodeAbort>;

/// One step of the path from the root to the current value.
#[derive(Clone, Copy)]
pub(super) enum DecodeStep<'a> {
    Name(&'a str),
    Index(usize),
}

pub(super) struct Decoder<'a> {
    pub(super) schema: &'a Schema,
    pub(super) limits: &'a DecodeLimits,
    pub(super) cursor: Cursor<'a>,
    pub(super) columns: Columns,
    pub(super) faults: Vec<Fault>,
    /// The number of faults that are counted, but not stored in `faults`.
    pub(super) more: usize,
    /// The path from the root to the current value.
    pub(super) path: Vec<DecodeStep<'a>>,
    pub(super) depth: usize,
    pub(super) array_values: usize,
    /// Buffer for strings that contain escapes, after unescaping. The whole pass reuses it. Strings
    /// without escapes are borrowed from the body.
    pub(super) scratch: Vec<u8>,
    /// Whether each property of the open objects has occurred. A nested object appends its
    /// properties after those of its parent.
    pub(super) seen: Vec<bool>,
    /// Whether a member `instances` at the root ends the pass with [`DecodeAbort::Envelope`].
    pub(super) watch_for_envelope: bool,
    /// Whether the text was cut from the body or created from it. If so, an offset in the text
    /// means nothing to the caller.
    pub(super) derived_text: bool,
    pub(super) lenient: Leniency,
    pub(super) origin: Option<&'a RowOrigin>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(
        schema: &'a Schema,
        body: &'a [u8],
        limits: &'a DecodeLimits,
    ) -> Result<Decoder<'a>, DecodeError> {
        let text = std::str::from_utf8(body).map_err(|error| MalformedRequest::NotUtf8 {
            offset: error.valid_up_to(),
        })?;
        Ok(Decoder::over(schema, text, limits))
    }

    pub(super) fn over(schema: &'a Schema, text: &'a str, limits: &'a DecodeLimits) -> Decoder<'a> {
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
            derived_text: false,
            lenient: Leniency::default(),
            origin: None,
        };
        decoder.clear();
        decoder
    }

    /// Returns to the state before the first value, for a second pass over the same text.
    pub(super) fn clear(&mut self) {
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

    /// The result of a pass that ended with `outcome`: the request id, and whether the body was one
    /// instance.
    pub(super) fn finish(
        self,
        outcome: DecodeResult<(Option<String>, bool)>,
        body: &[u8],
    ) -> Result<DecodedRequest, DecodeError> {
        match outcome {
            // The caller did not write a derived text, so an offset in it would not help.
            Err(DecodeAbort::Syntax(error)) if self.derived_text => {
                Err(MalformedRequest::NotJsonInCell {
                    cell: self.cell(),
                    detail: error.detail,
                }
                .into())
            }
            Err(DecodeAbort::Syntax(error)) => {
                // The path is right only if a whole value is the error. After any other syntax
                // error it may point to a value that the caller did not mean.
                let pointer = self.pointer();
                let known = [NOT_FINITE, TOO_LARGE].contains(&error.detail) && !pointer.is_empty();
                let pointer = if known {
                    format!(" ({pointer})")
                } else {
                    String::new()
                };
                Err(MalformedRequest::NotJson {
                    detail: error.detail,
                    place: format!("{}{pointer}", line_and_column(body, error.offset)),
                }
                .into())
            }
            Err(DecodeAbort::Request(detail)) => Err((*detail).into()),
            Err(DecodeAbort::Envelope) => Err(MalformedRequest::UnexpectedInstances.into()),
            Ok(_) if !self.faults.is_empty() => Err(DecodeError::Invalid {
                faults: self.faults,
                more: self.more,
            }),
            Ok((id, single)) => Ok(DecodedRequest {
                columns: self.columns,
                id,
                single,
            }),
        }
    }

    #[inline]
    pub(super) fn property(
        &mut self,
        base: usize,
        index: usize,
        name: &'a str,
        node: &'a SchemaNode,
    ) -> DecodeResult<()> {
        if let Some(seen) = self.seen.get_mut(base + index) {
            *seen = true;
        }
        // The path keeps its last step after an error: `finish` reads the place from it.
        self.path.push(DecodeStep::Name(name));
        self.value(node)?;
        self.path.pop();
        Ok(())
    }

    /// Validates one value and writes it to its column. Every column gets exactly one entry per
    /// accepted instance.
    #[inline]
    pub(super) fn value(&mut self, node: &'a SchemaNode) -> DecodeResult<()> {
        let kind = self.cursor.peek()?;
        let start = self.cursor.position();
        match kind {
            // An object may contain the bytes of a string, unless the schema allows objects at this
            // place.
            JsonKind::Object
                if self.lenient.b64
                    && node.types.has(Types::STRING)
                    && !node.types.has(Types::OBJECT) =>
            {
                return self.b64(node);
            }
            JsonKind::Object => self.object(node)?,
            JsonKind::Array => self.array(node)?,
            JsonKind::Number => {
                self.number(node)?;
            }
            JsonKind::String => self.string(node)?,
            JsonKind::Bool => {
                let value = self.cursor.bool()?;
                if !node.types.has(Types::BOOLEAN) {
                    self.wrong_type(node, kind, start);
                } else if let Some(column) = node.column
                    && let Some(Column::Boolean(values)) = self.columns.columns.get_mut(column)
                {
                    values.push(Some(value));
                }
            }
            JsonKind::Null => {
                self.cursor.null()?;
                if !(node.types.has(Types::NULL) || self.lenient.null && self.may_be_left_out(node))
                {
                    self.wrong_type(node, kind, start);
                }
                self.missing(node);
            }
        }
        // `checked_string` has already compared a string with the choices.
        let compared_as_text =
            kind == JsonKind::String && node.choices.is_some() && node.constant.is_none();
        if !(node.plain || compared_as_text) {
            self.check_listed(node, start);
        }
        Ok(())
    }

    /// Whether the field may be null or absent.
    fn may_be_left_out(&self, node: &SchemaNode) -> bool {
        node.column
            .and_then(|column| self.schema.columns().get(column))
            .is_some_and(|spec| spec.nullable)
    }

    /// Skips a value that the schema does not describe. Duplicate members are an error in this
    /// value, too.
    pub(super) fn skip(&mut self) -> DecodeResult<()> {
        match self.cursor.peek()? {
            JsonKind::Null => self.cursor.null()?,
            JsonKind::Bool => {
                self.cursor.bool()?;
            }
            JsonKind::Number => {
                self.cursor.number()?;
            }
            JsonKind::String => {
                self.cursor.string(&mut self.scratch)?;
            }
            JsonKind::Array => {
                self.deepen()?;
                let mut more = self.cursor.enter(b']')?;
                while more {
                    self.skip()?;
                    more = self.cursor.more(b']')?;
                }
                self.depth -= 1;
            }
            JsonKind::Object => {
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

    pub(super) fn deepen(&mut self) -> DecodeResult<()> {
        self.depth += 1;
        // The decoder recurses, so the limit protects the stack.
        if self.depth > self.limits.max_depth {
            return Err(MalformedRequest::TooDeep {
                limit: self.limits.max_depth,
            }
            .into());
        }
        Ok(())
    }

    /// Writes the missing value to the columns of a node that is absent or null.
    pub(super) fn missing(&mut self, node: &SchemaNode) {
        if !self.faults.is_empty() {
            // The request is refused, so nobody reads the columns. Without this check, a body of
            // thousands of empty instances would allocate an entry per column and instance.
            return;
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
}

/// The line and the column of a byte, both counted from 1.
fn line_and_column(body: &[u8], offset: usize) -> String {
    let before = body.get(..offset).unwrap_or(body);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1) + 1;
    format!("line {line}, column {column}")
}
