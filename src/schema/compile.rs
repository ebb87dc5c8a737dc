//! `SchemaCompiler`: compiles the document of a schema to nodes, and assigns columns to its fields.

use serde_json::Value;

use crate::schema::{
    ColumnSpec, ObjectNode, Pii, SchemaError, SchemaNode, Types,
    columns::{ColumnId, ColumnKind},
    keywords::Keywords,
    node_place::NodePlace,
};

/// Maximum nesting of subschemas. The compiler and the decoder recurse, so the limit protects the
/// stack.
const MAX_DEPTH: usize = 32;

#[derive(Default)]
pub(super) struct SchemaCompiler {
    pub(super) columns: Vec<ColumnSpec>,
}

impl SchemaCompiler {
    pub(super) fn node(
        &mut self,
        document: &Value,
        place: &NodePlace,
    ) -> Result<SchemaNode, SchemaError> {
        if place.depth > MAX_DEPTH {
            return place.fail("", "nested too deeply");
        }
        let keywords = Keywords::new(document, place)?;
        let pii = keywords.pii()?;
        let enumeration = keywords.enumeration()?;
        let constant = keywords.get("const").cloned();
        let mut node = SchemaNode {
            types: keywords.types()?,
            choices: enumeration.as_deref().and_then(strings),
            plain: enumeration.is_none() && constant.is_none(),
            enumeration,
            constant,
            minimum: keywords.number("minimum")?,
            maximum: keywords.number("maximum")?,
            exclusive_minimum: keywords.number("exclusiveMinimum")?,
            exclusive_maximum: keywords.number("exclusiveMaximum")?,
            multiple_of: keywords.multiple_of()?,
            min_length: keywords.count("minLength", 0)?,
            max_length: keywords.count("maxLength", usize::MAX)?,
            pattern: keywords.pattern()?,
            format: keywords.format()?,
            base64: keywords.base64()?,
            min_items: keywords.count("minItems", 0)?,
            max_items: keywords.count("maxItems", usize::MAX)?,
            pii: pii != Pii::None,
            ..SchemaNode::anything()
        };
        check_ranges(&node, place)?;
        let bounds = [
            node.minimum,
            node.maximum,
            node.exclusive_minimum,
            node.exclusive_maximum,
            node.multiple_of,
        ];
        // Computed once here, so that the decoder needs only one test for most numbers.
        node.bounded = bounds.iter().any(Option::is_some);
        node.small_bounds = bounds.iter().flatten().all(|bound| bound.is_small());
        for (index, item) in keywords.prefix_items()?.iter().enumerate() {
            let place = place.element(&format!("prefixItems/{index}"), pii);
            node.prefix_items.push(self.node(item, &place)?);
        }
        // The elements get no columns: an array is one column of its field.
        if let Some(item) = keywords.get("items") {
            let item = self.node(item, &place.element("items", pii))?;
            node.items = Some(Box::new(item));
        }
        if node.types.has(Types::OBJECT) && keywords.describes_members() {
            // The members inherit the `x-pii` of this object.
            let place = NodePlace {
                pointer: place.pointer.clone(),
                field: place.field.clone(),
                pii,
                ..*place
            };
            node.object = Some(self.object(&keywords, &node, &place)?);
        }
        // The column is added after the members, so that the columns of an object are contiguous.
        node.column = self.column(&node, place, pii);
        Ok(node)
    }

    /// Compiles the members of an object. `node` is the object without its members.
    fn object(
        &mut self,
        keywords: &Keywords<'_>,
        node: &SchemaNode,
        place: &NodePlace,
    ) -> Result<ObjectNode, SchemaError> {
        let additional = keywords.additional_properties()?;
        let declared = keywords.properties()?;
        let names = keywords.required(declared, additional)?;
        let first_column = self.columns.len();
        let mut object = ObjectNode {
            properties: Vec::new(),
            quoted: Vec::new(),
            required: Vec::new(),
            required_others: Vec::new(),
            additional,
            columns: Vec::new(),
        };
        for (index, (name, schema)) in declared.into_iter().flatten().enumerate() {
            let required = names.contains(&name.as_str());
            if required {
                object.required.push(index);
            }
            object.quoted.push(quoted(name));
            let property = self.node(schema, &place.property(name, node, required))?;
            object.properties.push((name.clone(), property));
        }
        let is_declared = |name: &str| declared.is_some_and(|declared| declared.contains_key(name));
        let others = names.into_iter().filter(|name| !is_declared(name));
        object.required_others = others.map(str::to_owned).collect();
        // All columns added between these two points belong to nodes below this object.
        object.columns = (first_column..self.columns.len()).collect();
        Ok(object)
    }

    /// Adds the column of a node. Returns `None` if the node has no column.
    fn column(&mut self, node: &SchemaNode, place: &NodePlace, pii: Pii) -> Option<ColumnId> {
        let name = place.field.clone().filter(|name| !name.is_empty())?;
        let kind = column_kind(node)?;
        let (array_shape, array_dims) = if kind.is_array() {
            (fixed_shape(node), dims(node))
        } else {
            (None, Vec::new())
        };
        self.columns.push(ColumnSpec {
            name,
            kind,
            // A field may be missing because it is null, because an object above is null, or
            // because it is optional.
            nullable: node.types.has(Types::NULL) || place.nullable || !place.required,
            required: place.required,
            pii,
            array_shape,
            array_dims,
        });
        Some(self.columns.len() - 1)
    }
}

fn check_ranges(node: &SchemaNode, place: &NodePlace) -> Result<(), SchemaError> {
    if node.min_length > node.max_length {
        return place.fail("maxLength", "is below its minimum");
    }
    if node.min_items > node.max_items {
        return place.fail("maxItems", "is below its minimum");
    }
    // An empty range would refuse every request.
    if let (Some(low), Some(high)) = (node.minimum, node.maximum)
        && low.value > high.value
    {
        return place.fail("maximum", "is below minimum");
    }
    Ok(())
}

/// A name in quotes. Empty if the name needs an escape in JSON.
fn quoted(name: &str) -> Vec<u8> {
    if name
        .bytes()
        .any(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\'))
    {
        Vec::new()
    } else {
        format!("\"{name}\"").into_bytes()
    }
}

/// The strings of an enumeration. `None` if it contains values other than strings and null.
fn strings(values: &[Value]) -> Option<Vec<String>> {
    let values = values.iter().filter(|value| !value.is_null());
    values
        .map(|value| value.as_str().map(str::to_owned))
        .collect()
}

/// The kind of the column that can store all values of a node. `None` if the values have several
/// types or are objects.
fn column_kind(node: &SchemaNode) -> Option<ColumnKind> {
    match narrowed_types(node) & !Types::NULL {
        Types::BOOLEAN => Some(ColumnKind::Boolean),
        Types::INTEGER => Some(ColumnKind::Integer),
        bits if bits & Types::NUMBER != 0 && bits & !(Types::NUMBER | Types::INTEGER) == 0 => {
            Some(ColumnKind::Number)
        }
        Types::STRING if node.base64 => Some(ColumnKind::Binary),
        Types::STRING => Some(ColumnKind::Text),
        Types::ARRAY if holds_only(node, Types::INTEGER | Types::NUMBER) => Some(ColumnKind::Array),
        Types::ARRAY if holds_only(node, Types::BOOLEAN) => Some(ColumnKind::BooleanArray),
        _ => None,
    }
}

/// The types of a node, narrowed to those of its `enum` and `const`. A schema such as `{"enum":
/// ["a", "b"]}` has no `type`.
fn narrowed_types(node: &SchemaNode) -> u8 {
    let mut narrowed = node.types.0;
    if !node.plain {
        let values = node.enumeration.iter().flatten().chain(&node.constant);
        narrowed &= values.map(type_bit).fold(0, |all, bit| match bit {
            // An integer is also a number.
            Types::INTEGER => all | bit | Types::NUMBER,
            _ => all | bit,
        });
    }
    narrowed
}

fn type_bit(value: &Value) -> u8 {
    match value {
        Value::Null => Types::NULL,
        Value::Bool(_) => Types::BOOLEAN,
        Value::Number(number) if number.as_f64().is_some_and(|value| value.fract() == 0.0) => {
            Types::INTEGER
        }
        Value::Number(_) => Types::NUMBER,
        Value::String(_) => Types::STRING,
        Value::Array(_) => Types::ARRAY,
        Value::Object(_) => Types::OBJECT,
    }
}

/// Whether the innermost elements of an array have only these types.
fn holds_only(node: &SchemaNode, elements: u8) -> bool {
    // An element that may be null can't be part of a tensor, so it does not fit.
    let fits = |node: &SchemaNode| match node.types.0 {
        Types::ARRAY => holds_only(node, elements),
        bits => bits & !elements == 0,
    };
    node.items.as_deref().is_some_and(fits) && node.prefix_items.iter().all(fits)
}

/// The dimensions of an array of any nesting. `None` for a dimension without a fixed size.
fn dims(node: &SchemaNode) -> Vec<Option<usize>> {
    let mut all = vec![(node.min_items == node.max_items).then_some(node.min_items)];
    all.extend(
        node.items
            .as_deref()
            .filter(|items| items.types.has(Types::ARRAY))
            .map(dims)
            .unwrap_or_default(),
    );
    all
}

/// The shape of an array. `None` unless all dimensions are fixed.
fn fixed_shape(node: &SchemaNode) -> Option<Vec<usize>> {
    if node.types.0 != Types::ARRAY {
        return Some(Vec::new());
    }
    let mut shape = vec![(node.min_items == node.max_items).then_some(node.min_items)?];
    shape.extend(fixed_shape(node.items.as_deref()?)?);
    Some(shape)
}
