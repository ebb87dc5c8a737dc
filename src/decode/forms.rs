//! Forms: how instances are laid out in a body: an envelope or one instance, a list, fields one by one, rows of values.

use crate::{
    decode::{
        Decoder, FieldValues, Pass, Step, Stop,
        cursor::{Cursor, Kind},
    },
    schema::{ColumnSpec, Node, ObjectNode, Types, columns::ColumnKind, fault::shorten},
};

/// Longest `id` of a request, in characters.
const MAX_ID: usize = 128;

impl<'a> Decoder<'a> {
    pub(super) fn request(&mut self) -> Pass<(Option<String>, bool)> {
        if self.cursor.peek()? != Kind::Object {
            return Err(Stop::Request(
                "the body must be an object: {\"instances\": [...]} or one instance".to_owned(),
            ));
        }
        let start = self.cursor.position();
        self.watch_for_envelope = true;
        let outcome = self.instance();
        self.watch_for_envelope = false;
        match outcome {
            Ok(()) => {
                self.cursor.end()?;
                Ok((None, true))
            }
            Err(Stop::Envelope) => {
                self.cursor.rewind(start);
                self.clear();
                self.envelope().map(|id| (id, false))
            }
            Err(stop) => Err(stop),
        }
    }

    pub(super) fn envelope(&mut self) -> Pass<Option<String>> {
        let (mut id, mut instances) = (None, false);
        let mut more = self.cursor.enter(b'}')?;
        self.path.push(Step::Name("instances"));
        while more {
            let mut scratch = std::mem::take(&mut self.scratch);
            let key = self.cursor.key(&mut scratch)?.to_owned();
            self.scratch = scratch;
            match key.as_str() {
                "instances" if !instances => {
                    instances = true;
                    self.instances()?;
                }
                "id" if id.is_none() => id = Some(self.id()?),
                "instances" | "id" => {
                    return Err(Stop::Request(format!("the member \"{key}\" occurs twice")));
                }
                _ => {
                    return Err(Stop::Request(format!(
                        "unknown member \"{}\" of the request; known are instances and id",
                        shorten(&key)
                    )));
                }
            }
            more = self.cursor.more(b'}')?;
        }
        self.path.clear();
        self.cursor.end()?;
        if !instances {
            return Err(Stop::Request(
                "the request has no member \"instances\"".to_owned(),
            ));
        }
        Ok(id)
    }

    pub(super) fn id(&mut self) -> Pass<String> {
        if self.cursor.peek()? != Kind::String {
            return Err(Stop::Request(
                "the member \"id\" must be a string".to_owned(),
            ));
        }
        let id = self.cursor.string(&mut self.scratch)?;
        if id.chars().count() > MAX_ID {
            return Err(Stop::Request(format!(
                "the member \"id\" may have at most {MAX_ID} characters"
            )));
        }
        Ok(id.to_owned())
    }

    pub(super) fn instances(&mut self) -> Pass<()> {
        if self.cursor.peek()? != Kind::Array {
            return Err(Stop::Request(
                "the member \"instances\" must be an array".to_owned(),
            ));
        }
        let mut more = self.cursor.enter(b']')?;
        if !more {
            return Err(Stop::Request(
                "the member \"instances\" is empty; send at least one instance".to_owned(),
            ));
        }
        let mut index = 0;
        while more {
            if index == self.limits.max_instances {
                return Err(Stop::Request(format!(
                    "more than {} instances in one request",
                    self.limits.max_instances
                )));
            }
            self.path.push(Step::Index(index));
            self.instance()?;
            self.path.pop();
            index += 1;
            more = self.cursor.more(b']')?;
        }
        Ok(())
    }

    pub(super) fn fields(&mut self, inputs: &[FieldValues<'a>], rows: usize) -> Pass<()> {
        if rows > self.limits.max_instances {
            return Err(Stop::Request(format!(
                "more than {} rows in one request",
                self.limits.max_instances
            )));
        }
        let schema = self.schema;
        let mut given = vec![false; schema.columns().len()];
        for input in inputs {
            let Some((spec, node)) = schema
                .columns()
                .get(input.column)
                .zip(schema.node(input.column))
            else {
                continue;
            };
            if let Some(given) = given.get_mut(input.column) {
                *given = true;
            }
            self.cursor = Cursor::new(input.text);
            self.path.push(Step::Name(&spec.name));
            self.field(spec, node, rows)?;
            self.path.pop();
        }
        for (column, spec) in schema
            .columns()
            .iter()
            .enumerate()
            .filter(|(column, _)| given.get(*column) == Some(&false))
        {
            if spec.required {
                self.path.push(Step::Name(&spec.name));
                self.fault_without_value(
                    "required",
                    format!("input `{}` is required", shorten(&spec.name)),
                );
                self.path.pop();
            } else if let Some(column) = self.columns.columns.get_mut(column) {
                (0..rows).for_each(|_| column.push_missing());
            }
        }
        if let Some(name) = schema.required_without_column() {
            self.fault_without_value(
                "required",
                format!(
                    "the field \"{}\" is required, and no tensor can carry it",
                    shorten(name)
                ),
            );
        }
        self.columns.rows = rows;
        Ok(())
    }

    pub(super) fn field(&mut self, spec: &'a ColumnSpec, node: &'a Node, rows: usize) -> Pass<()> {
        let wrong = |count: &str| {
            Err(Stop::Request(format!(
                "input `{}` has {count} values for {rows} rows",
                spec.name
            )))
        };
        if self.cursor.peek()? != Kind::Array {
            return Err(Stop::Request(format!(
                "the data of input `{}` must be an array",
                spec.name
            )));
        }
        let mut more = self.cursor.enter(b']')?;
        let mut count = 0;
        while more {
            if count == rows {
                return wrong("more");
            }
            self.path.push(Step::Index(count));
            // [n, 1] is a list of lists.
            let nested = !spec.kind.is_array() && self.cursor.peek()? == Kind::Array;
            if nested && !self.cursor.enter(b']')? {
                return wrong("no");
            }
            let left_out = match self.cursor.peek()? {
                Kind::Null => true,
                Kind::String => {
                    matches!(spec.kind, ColumnKind::Text | ColumnKind::Binary)
                        && self.cursor.at_empty_string()
                }
                _ => false,
            };
            if left_out && spec.nullable {
                self.skip()?;
                self.missing(node);
            } else {
                self.value(node)?;
            }
            if nested && self.cursor.more(b']')? {
                return wrong("several");
            }
            self.path.pop();
            count += 1;
            more = self.cursor.more(b']')?;
        }
        self.cursor.end()?;
        if count == rows {
            Ok(())
        } else {
            wrong(&count.to_string())
        }
    }

    pub(super) fn rows(&mut self, names: Option<&[String]>) -> Pass<()> {
        let schema = self.schema;
        let Some(object) = &schema.root.object else {
            return Ok(());
        };
        let order: Vec<Option<usize>> = match names {
            None => (0..object.properties.len()).map(Some).collect(),
            Some(names) => names
                .iter()
                .map(|name| {
                    object
                        .properties
                        .iter()
                        .position(|(known, _)| known == name)
                })
                .collect(),
        };
        if let Some(unknown) = order.iter().position(Option::is_none)
            && !self.lenient.unknown
        {
            let name = names
                .and_then(|names| names.get(unknown))
                .map_or("", String::as_str);
            return Err(Stop::Request(format!(
                "\"{}\" is not a known field",
                shorten(name)
            )));
        }
        if order.iter().enumerate().any(|(at, index)| {
            index.is_some() && order.iter().skip(at + 1).any(|other| other == index)
        }) {
            return Err(Stop::Request("a column occurs twice".to_owned()));
        }
        self.path.push(Step::Name("instances"));
        if self.cursor.peek()? != Kind::Array {
            return Err(Stop::Request("the rows must be an array".to_owned()));
        }
        let mut more = self.cursor.enter(b']')?;
        if !more {
            return Err(Stop::Request(
                "there is no row; send at least one".to_owned(),
            ));
        }
        let mut index = 0;
        while more {
            if index == self.limits.max_instances {
                return Err(Stop::Request(format!(
                    "more than {} rows in one request",
                    self.limits.max_instances
                )));
            }
            self.path.push(Step::Index(index));
            match self.cursor.peek()? {
                Kind::Object if !(order.len() == 1 && self.at_b64()) => self.instance()?,
                kind => self.list(object, &order, kind)?,
            }
            self.path.pop();
            index += 1;
            more = self.cursor.more(b']')?;
        }
        self.cursor.end()?;
        Ok(())
    }

    /// A row without names: a list of the fields' values, or the one field's value itself.
    pub(super) fn list(
        &mut self,
        object: &'a ObjectNode,
        order: &[Option<usize>],
        kind: Kind,
    ) -> Pass<()> {
        self.deepen()?;
        let base = self.seen.len();
        self.seen.resize(base + object.properties.len(), false);
        let single = match order {
            [Some(only)] => object
                .properties
                .get(*only)
                .filter(|(_, node)| kind != Kind::Array || node.types.has(Types::ARRAY)),
            _ => None,
        };
        if let Some((name, node)) = single {
            self.property(base, 0, name, node)?;
        } else if kind != Kind::Array {
            return Err(Stop::Request(
                "a row must be an object of fields or a list of their values".to_owned(),
            ));
        } else {
            let mut more = self.cursor.enter(b']')?;
            let mut count = 0;
            while more {
                match order
                    .get(count)
                    .copied()
                    .flatten()
                    .and_then(|index| Some((index, object.properties.get(index)?)))
                {
                    Some((index, (name, node))) => self.property(base, index, name, node)?,
                    None => self.skip()?,
                }
                count += 1;
                more = self.cursor.more(b']')?;
            }
            if count != order.len() {
                self.fault_without_value(
                    "items",
                    format!("the row has {count} values, expected {}", order.len()),
                );
            }
        }
        self.depth -= 1;
        self.complete(object, base);
        self.columns.rows += 1;
        Ok(())
    }

    pub(super) fn instance(&mut self) -> Pass<()> {
        let schema = self.schema;
        self.value(&schema.root)?;
        self.columns.rows += 1;
        Ok(())
    }
}
