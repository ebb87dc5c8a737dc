//! Decodes a JSON array of rows. A row is an object, a list of values, or the value of the only
//! field.

use crate::{
    decode::{
        cursor::JsonKind,
        decoder::{DecodeResult, DecodeStep, Decoder},
        malformed::MalformedRequest,
    },
    schema::{
        ObjectNode, Types,
        fault::{FaultSubject, shorten},
    },
};

impl<'a> Decoder<'a> {
    /// Decodes the rows. `names` contains the fields of rows that are lists. `None` means the order
    /// of the schema.
    pub(super) fn rows(&mut self, names: Option<&[String]>) -> DecodeResult<()> {
        let schema = self.schema;
        let Some(object) = &schema.root.object else {
            return Ok(());
        };
        let order = self.column_order(object, names)?;
        // Faults get their place like in an envelope. `RowOrigin` converts it to the place that the
        // caller knows.
        self.path.push(DecodeStep::Name("instances"));
        if self.cursor.peek()? != JsonKind::Array {
            return Err(MalformedRequest::RowsNotArray.into());
        }
        let mut more = self.cursor.enter(b']')?;
        if !more {
            return Err(MalformedRequest::NoRows.into());
        }
        let mut index = 0;
        while more {
            if index == self.limits.max_instances {
                return Err(MalformedRequest::TooManyRows {
                    limit: self.limits.max_instances,
                }
                .into());
            }
            self.path.push(DecodeStep::Index(index));
            match self.cursor.peek()? {
                // `{"b64": "..."}` is the value of the only field, not an object of fields.
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

    /// The property of each column. `None` for an unknown column.
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
            return Err(MalformedRequest::UnknownColumn {
                name: shorten(name),
            }
            .into());
        }
        // A second value of a field would be a second entry in the column of the same row.
        let mut occurred = vec![false; object.properties.len()];
        for index in order.iter().flatten() {
            if let Some(occurred) = occurred.get_mut(*index)
                && std::mem::replace(occurred, true)
            {
                return Err(MalformedRequest::DuplicateColumn.into());
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
        // With one column, the row may be the value itself. A list is the value of an array field.
        // For any other field it is a list of one value.
        let single = match order {
            [Some(only)] => object
                .properties
                .get(*only)
                .filter(|(_, node)| kind != JsonKind::Array || node.types.has(Types::ARRAY))
                .map(|property| (*only, property)),
            _ => None,
        };
        if let Some((index, (name, node))) = single {
            self.property(base, index, name, node)?;
        } else if kind != JsonKind::Array {
            return Err(MalformedRequest::RowNotList.into());
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
                    // The value belongs to an unknown column that is ignored, or is beyond the last
                    // column.
                    None => self.skip()?,
                }
                count += 1;
                more = self.cursor.more(b']')?;
            }
            if count != order.len() {
                self.fault_with_detail(
                    "items",
                    FaultSubject::Row,
                    format!("the row has {count} values, expected {}", order.len()),
                );
            }
        }
        self.depth -= 1;
        // Completes the other fields, which have no column in the request.
        self.complete(object, base);
        self.columns.rows += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        decode::{DecodeLimits, RowOptions, decode_rows},
        schema::{Schema, columns::Column},
    };

    #[test]
    fn the_value_of_the_only_column_goes_to_the_field_of_its_name() {
        let schema = Schema::compile(&json!({
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["b"],
            "additionalProperties": false
        }))
        .unwrap();
        let limits = DecodeLimits {
            max_instances: 8,
            max_depth: 8,
            max_array_values: 8,
        };
        let names = ["b".to_owned()];
        let options = RowOptions {
            names: Some(&names),
            ..RowOptions::default()
        };
        for rows in ["[1, 2]", "[[1], [2]]"] {
            let columns = decode_rows(&schema, rows.as_bytes(), options, &limits).unwrap();
            assert_eq!(
                columns.columns,
                [
                    Column::Integer(vec![None, None]),
                    Column::Integer(vec![Some(1), Some(2)])
                ],
                "{rows}"
            );
        }
    }
}
