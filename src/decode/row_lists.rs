//! A JSON array of rows: objects, lists of values, or values of the only field.

use crate::{
    decode::{
        cursor::JsonKind,
        decoder::{Abort, DecodeResult, DecodeStep, Decoder},
    },
    schema::{ObjectNode, Types, fault::shorten},
};

impl<'a> Decoder<'a> {
    /// Decodes the rows. `names` are the fields of rows that are lists; `None` means the order of
    /// the schema.
    pub(super) fn rows(&mut self, names: Option<&[String]>) -> DecodeResult<()> {
        let schema = self.schema;
        let Some(object) = &schema.root.object else {
            return Ok(());
        };
        let order = self.column_order(object, names)?;
        self.path.push(DecodeStep::Name("instances"));
        if self.cursor.peek()? != JsonKind::Array {
            return Err(Abort::Request("the rows must be an array".to_owned()));
        }
        let mut more = self.cursor.enter(b']')?;
        if !more {
            return Err(Abort::Request(
                "there is no row; send at least one".to_owned(),
            ));
        }
        let mut index = 0;
        while more {
            if index == self.limits.max_instances {
                return Err(Abort::Request(format!(
                    "more than {} rows in one request",
                    self.limits.max_instances
                )));
            }
            self.path.push(DecodeStep::Index(index));
            match self.cursor.peek()? {
                // `{"b64": "..."}` is the value of the only field, and not an object of fields.
                JsonKind::Object if !(order.len() == 1 && self.at_b64()) => self.instance()?,
                kind => self.list(object, &order, kind)?,
            }
            self.path.pop();
            index += 1;
            more = self.cursor.more(b']')?;
        }
        self.cursor.end()?;
        Ok(())
    }

    /// The property of each column, `None` for an unknown column.
    fn column_order(
        &self,
        object: &ObjectNode,
        names: Option<&[String]>,
    ) -> DecodeResult<Vec<Option<usize>>> {
        let Some(names) = names else {
            return Ok((0..object.properties.len()).map(Some).collect());
        };
        let position = |name: &String| {
            object
                .properties
                .iter()
                .position(|(known, _)| known == name)
        };
        let order: Vec<Option<usize>> = names.iter().map(position).collect();
        let unknown = names.iter().zip(&order).find(|(_, index)| index.is_none());
        if let Some((name, _)) = unknown.filter(|_| !self.lenient.unknown) {
            return Err(Abort::Request(format!(
                "\"{}\" is not a known field",
                shorten(name)
            )));
        }
        let mut occurred = vec![false; object.properties.len()];
        for index in order.iter().flatten() {
            if let Some(occurred) = occurred.get_mut(*index)
                && std::mem::replace(occurred, true)
            {
                return Err(Abort::Request("a column occurs twice".to_owned()));
            }
        }
        Ok(order)
    }

    /// Decodes a row without names: a list of the values of all columns, or the value of the only
    /// column.
    fn list(
        &mut self,
        object: &'a ObjectNode,
        order: &[Option<usize>],
        kind: JsonKind,
    ) -> DecodeResult<()> {
        self.deepen()?;
        let base = self.seen.len();
        self.seen.resize(base + object.properties.len(), false);
        let single = match order {
            [Some(only)] => object
                .properties
                .get(*only)
                .filter(|(_, node)| kind != JsonKind::Array || node.types.has(Types::ARRAY)),
            _ => None,
        };
        if let Some((name, node)) = single {
            self.property(base, 0, name, node)?;
        } else if kind != JsonKind::Array {
            return Err(Abort::Request(
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
                self.fault_with_detail(
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
}
