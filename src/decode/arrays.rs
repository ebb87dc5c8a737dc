//! Decodes arrays: the elements, and the numbers and the shape that an array column stores.

use crate::{
    decode::{
        cursor::JsonKind,
        decoder::{DecodeResult, DecodeStep, Decoder},
        malformed::MalformedRequest,
    },
    schema::{SchemaNode, Types, columns::Column},
};

/// The dimensions of a regular array. `None` if the inner arrays have different shapes, or if an
/// element is neither a number nor a boolean.
type RegularShape = Option<Vec<usize>>;

impl<'a> Decoder<'a> {
    pub(super) fn array(&mut self, node: &'a SchemaNode) -> DecodeResult<()> {
        let start = self.cursor.position();
        if !node.types.has(Types::ARRAY) {
            // The array is skipped, so that the other values of the instance are checked, too.
            self.skip()?;
            self.wrong_type(node, JsonKind::Array, start);
            return Ok(());
        }
        let Some(column) = node.column else {
            // Without a column, the elements are only validated.
            return self.elements(node, &mut None).map(|_| ());
        };
        // The values are taken out of the column while `self` decodes, and are put back even after
        // an error.
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

    /// Decodes the elements of an array and returns its shape. Numbers, and booleans as 0 and 1,
    /// are appended to `sink`.
    fn elements(
        &mut self,
        node: &'a SchemaNode,
        sink: &mut Option<Vec<f64>>,
    ) -> DecodeResult<RegularShape> {
        self.deepen()?;
        let mut count = 0;
        // `None` until the first element is decoded.
        let mut inner: Option<RegularShape> = None;
        let mut more = self.cursor.enter(b']')?;
        while more {
            // The element is counted before it is decoded, so that the limit bounds the memory.
            self.array_values += 1;
            if self.array_values > self.limits.max_array_values {
                return Err(MalformedRequest::TooManyArrayElements {
                    limit: self.limits.max_array_values,
                }
                .into());
            }
            let child = node.prefix_items.get(count).or(node.items.as_deref());
            self.path.push(DecodeStep::Index(count));
            let shape = match child {
                None => {
                    // The schema has no rule for this element: it only has to be valid JSON.
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
        self.check_length(node, count);
        // An empty array is regular.
        let below = inner.unwrap_or(Some(Vec::new()));
        Ok(below.map(|below| {
            let mut shape = vec![count];
            shape.extend(below);
            shape
        }))
    }

    fn check_length(&mut self, node: &SchemaNode, count: usize) {
        if count < node.min_items {
            self.fault_without_value(
                "minItems",
                format!(
                    "must have at least {} elements, has {count}",
                    node.min_items
                ),
            );
        }
        if count > node.max_items {
            self.fault_without_value(
                "maxItems",
                format!("must have at most {} elements, has {count}", node.max_items),
            );
        }
    }

    #[inline]
    fn element(
        &mut self,
        child: &'a SchemaNode,
        sink: &mut Option<Vec<f64>>,
    ) -> DecodeResult<RegularShape> {
        let kind = self.cursor.peek()?;
        let start = self.cursor.position();
        match (kind, sink.as_mut()) {
            // Numbers, booleans and arrays go to the sink, not to a column of their own.
            (JsonKind::Number, Some(values)) => {
                values.push(self.number(child)?);
                if !child.plain {
                    self.check_listed(child, start);
                }
                Ok(Some(Vec::new()))
            }
            (JsonKind::Bool, Some(values)) if child.types.has(Types::BOOLEAN) => {
                values.push(f64::from(u8::from(self.cursor.bool()?)));
                if !child.plain {
                    self.check_listed(child, start);
                }
                Ok(Some(Vec::new()))
            }
            (JsonKind::Array, Some(_)) if child.types.has(Types::ARRAY) => {
                let shape = self.elements(child, sink)?;
                if !child.plain {
                    self.check_listed(child, start);
                }
                Ok(shape)
            }
            // Any other element is a fault or has no column, so the array is not regular.
            _ => {
                self.value(child)?;
                Ok(None)
            }
        }
    }
}
