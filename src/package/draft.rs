//! Draft: a first schema and preprocessing, from a graph and a few rows. A person corrects it; nothing here is proof.

#![expect(clippy::indexing_slicing, reason = "members are set on documents made here as objects")]

use serde_json::{Map, Value, json};

use crate::{
    package::signature::{Signature, TensorSpec},
    tensor::{DataType, Dim},
};

/// Texts with at most this many different values are taken for categories.
const MAX_CATEGORIES: usize = 50;

#[derive(Debug, PartialEq)]
pub struct Draft {
    pub schema: Value,
    pub preprocessing: Option<Value>,
    /// What a person should look at.
    pub notes: Vec<String>,
}

/// What the sample says of one field.
struct SampleField<'a> {
    name: &'a str,
    /// The values that are there, in the order of the rows.
    values: Vec<&'a Value>,
    nullable: bool,
    /// Every row has it, null or not.
    everywhere: bool,
}

/// Drafts from the graph alone, or from the graph and rows (objects with the same fields).
///
/// # Errors
/// Where rows and graph can't be brought together, with what the person can do.
pub fn draft(signature: &Signature, rows: &[Value]) -> Result<Draft, String> {
    let fields = sample_fields(rows)?;
    let mut notes = Vec::new();
    let (properties, preprocessing) = if fields.is_empty() {
        notes.push("no sample was given: fields are named as the graph's inputs; --sample makes a better draft".to_owned());
        (graph_properties(&signature.inputs)?, None)
    } else {
        from_rows(signature, &fields, &mut notes)?
    };
    let optional = |name: &str| fields.iter().any(|field| field.name == name && !field.everywhere);
    let required: Vec<Value> = properties.keys().filter(|name| !optional(name)).map(|name| json!(name)).collect();
    let mut input = json!({"type": "object", "title": "Describe the model's input here", "properties": properties, "required": required, "additionalProperties": false});
    if let Some(first) = rows.first() {
        input["examples"] = json!([first]);
    }
    let mut answers = Map::new();
    for spec in &signature.outputs {
        answers.insert(spec.name.to_string(), output_schema(spec)?);
    }
    let answered: Vec<Value> = answers.keys().map(|name| json!(name)).collect();
    let output = json!({"type": "object", "properties": answers, "required": answered, "additionalProperties": false});
    if signature.outputs.iter().any(|spec| matches!(spec.shape.row(), [Dim::Fixed(2..)])) {
        notes.push("an output gives several values a row; `argmax` and `as_map` with labels make a better answer".to_owned());
    }
    Ok(Draft { schema: json!({"input": input, "output": output}), preprocessing, notes })
}

fn sample_fields(rows: &[Value]) -> Result<Vec<SampleField<'_>>, String> {
    let mut fields: Vec<SampleField<'_>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let members = row.as_object().ok_or_else(|| format!("row {} of the sample is no JSON object", index + 1))?;
        for (name, value) in members {
            let at = match fields.iter().position(|field| field.name == name) {
                Some(at) => at,
                None => {
                    fields.push(SampleField { name, values: Vec::new(), nullable: false, everywhere: true });
                    fields.len() - 1
                }
            };
            if let Some(field) = fields.get_mut(at) {
                if value.is_null() { field.nullable = true } else { field.values.push(value) }
            }
        }
    }
    for field in &mut fields {
        field.everywhere = rows.iter().all(|row| row.get(field.name).is_some());
        field.nullable |= !field.everywhere;
    }
    Ok(fields)
}

impl SampleField<'_> {
    fn all(&self, holds: impl Fn(&Value) -> bool) -> bool {
        !self.values.is_empty() && self.values.iter().all(|value| holds(value))
    }

    fn is_text(&self) -> bool {
        self.all(Value::is_string)
    }

    fn is_number(&self) -> bool {
        self.all(|value| value.is_number() || value.is_boolean())
    }

    /// PNG or JPEG in base64.
    fn is_image(&self) -> bool {
        self.all(|value| value.as_str().is_some_and(|text| text.starts_with("iVBORw0KGgo") || text.starts_with("/9j/")))
    }

    fn categories(&self) -> Vec<&str> {
        let mut categories: Vec<&str> = self.values.iter().filter_map(|value| value.as_str()).collect();
        categories.sort_unstable();
        categories.dedup();
        categories
    }

    /// The most frequent text, or the median number: what a missing value is taken for.
    fn usual(&self) -> Value {
        if self.is_text() {
            let categories = self.categories();
            let count = |category: &str| self.values.iter().filter(|value| value.as_str() == Some(category)).count();
            return json!(categories.into_iter().max_by_key(|category| count(category)).unwrap_or_default());
        }
        let mut numbers: Vec<f64> = self.values.iter().filter_map(|value| value.as_f64()).collect();
        numbers.sort_by(f64::total_cmp);
        json!(numbers.get(numbers.len() / 2).copied().unwrap_or_default())
    }

    fn schema(&self) -> Value {
        let kind = if self.all(Value::is_boolean) {
            "boolean"
        } else if self.is_text() {
            "string"
        } else if self.all(|value| value.is_i64() || value.is_u64()) {
            "integer"
        } else if self.all(Value::is_number) {
            "number"
        } else {
            "array"
        };
        let mut schema = json!({"type": if self.nullable { json!([kind, "null"]) } else { json!(kind) }});
        if self.is_image() {
            let png = self.all(|value| value.as_str().is_some_and(|text| text.starts_with("iVBOR")));
            schema["contentEncoding"] = json!("base64");
            schema["contentMediaType"] = json!(if png { "image/png" } else { "image/jpeg" });
        } else if kind == "array" {
            schema["items"] = self.values.first().map_or_else(|| json!({"type": "number"}), |value| items_schema(value));
        } else if let Some(example) = self.values.first() {
            schema["examples"] = json!([example]);
        }
        schema
    }
}

/// The schema of an array's items: as long as the sample's.
fn items_schema(value: &Value) -> Value {
    match value.get(0) {
        Some(inner @ Value::Array(items)) => {
            json!({"type": "array", "minItems": items.len(), "maxItems": items.len(), "items": items_schema(inner)})
        }
        Some(Value::Bool(_)) => json!({"type": "boolean"}),
        _ => json!({"type": "number"}),
    }
}

type Properties = Map<String, Value>;

fn from_rows(signature: &Signature, fields: &[SampleField<'_>], notes: &mut Vec<String>) -> Result<(Properties, Option<Value>), String> {
    let mut properties: Properties = fields.iter().map(|field| (field.name.to_owned(), field.schema())).collect();
    if let Some(empty) = fields.iter().find(|field| field.values.is_empty()) {
        return Err(format!("field \"{}\" is null in every row of the sample; give a row with a value", empty.name));
    }
    let by_name = |spec: &TensorSpec| fields.iter().find(|field| field.name == &*spec.name);
    if signature.inputs.iter().all(|spec| by_name(spec).is_some()) {
        let mut inputs = Map::new();
        for (spec, field) in signature.inputs.iter().filter_map(|spec| Some((spec, by_name(spec)?))) {
            let mut steps = Vec::new();
            if field.is_image() {
                steps.extend(image_steps(spec, notes));
            } else if field.nullable && !spec.datatype.is_float() {
                steps.push(json!({"impute": {"value": field.usual()}}));
            }
            if !steps.is_empty() {
                inputs.insert(spec.name.to_string(), json!({"dtype": spec.datatype.numpy_name(), "field": field.name, "steps": steps}));
            }
        }
        return Ok((properties, (!inputs.is_empty()).then(|| json!({"inputs": inputs}))));
    }
    let [spec] = signature.inputs.as_slice() else {
        let names: Vec<&str> = signature.inputs.iter().map(|spec| &*spec.name).collect();
        return Err(format!("the graph has the inputs {}; name the sample's fields as they are", names.join(", ")));
    };
    if let [field] = fields
        && (field.is_image() || field.all(Value::is_array))
    {
        let steps = if field.is_image() { image_steps(spec, notes) } else { Vec::new() };
        return Ok((
            properties,
            Some(json!({"inputs": {&*spec.name: {"dtype": spec.datatype.numpy_name(), "field": field.name, "steps": steps}}})),
        ));
    }
    let columns = columns(spec, fields, &mut properties, notes)?;
    Ok((properties, Some(json!({"inputs": {&*spec.name: {"dtype": spec.datatype.numpy_name(), "columns": columns}}}))))
}

/// One graph input from many fields: numbers as they are, texts encoded so that the widths add up.
fn columns(
    spec: &TensorSpec,
    fields: &[SampleField<'_>],
    properties: &mut Properties,
    notes: &mut Vec<String>,
) -> Result<Vec<Value>, String> {
    if let Some(odd) = fields.iter().find(|field| !field.is_text() && !field.is_number()) {
        return Err(format!("field \"{}\" is neither always a number nor always a text; one graph input can't be made of it", odd.name));
    }
    let one_hot: usize = fields.iter().map(|field| if field.is_text() { field.categories().len() } else { 1 }).sum();
    let width = match spec.shape.row() {
        [Dim::Fixed(width)] => *width,
        [Dim::Any] => one_hot,
        [] => 1,
        _ => return Err(format!("the graph's input {} takes {}; the sample's fields give a row of numbers", spec.name, spec.shape)),
    };
    let ordinal = width == fields.len();
    if !ordinal && width != one_hot {
        return Err(format!(
            "the graph's input {} takes {width} numbers a row; the sample's {} fields give {} as they are, or {one_hot} with texts as one-hot columns. \
             A sample that shows every category may fit",
            spec.name,
            fields.len(),
            fields.len()
        ));
    }
    let mut columns = Vec::new();
    for field in fields {
        let mut steps = Vec::new();
        if field.nullable {
            steps.push(json!({"impute": {"value": field.usual()}}));
            notes.push(format!("`{}` is null in some rows: check the value in its `impute` step against the training's", field.name));
        }
        if field.is_text() {
            let categories = field.categories();
            if categories.len() > MAX_CATEGORIES {
                return Err(format!("field \"{}\" has {} different texts; that many are no categories", field.name, categories.len()));
            }
            steps.push(match ordinal {
                true => json!({"ordinal": {"categories": categories, "unknown": -1}}),
                false => json!({"one_hot": {"categories": categories, "unknown": "zeros"}}),
            });
            notes.push(format!("`{}`: check that the categories are those of the training, in its order", field.name));
            if let Some(property) = properties.get_mut(field.name) {
                property["description"] = json!(format!("One of {}; others are answered as unknown", categories.join(", ")));
            }
        }
        columns.push(if steps.is_empty() { json!({"field": field.name}) } else { json!({"field": field.name, "steps": steps}) });
    }
    notes.push(format!("the columns of {} are in the order of the sample's fields; the training's order must be the same", spec.name));
    Ok(columns)
}

fn image_steps(spec: &TensorSpec, notes: &mut Vec<String>) -> Vec<Value> {
    notes.push("check the image steps (resize, rescale, normalize) against the training's".to_owned());
    let fixed = |dim: &Dim| if let Dim::Fixed(size) = dim { Some(*size) } else { None };
    let (channels, height, width, layout) = match spec.shape.row() {
        [c, h, w] if matches!(c, Dim::Fixed(1 | 3)) => (fixed(c), fixed(h), fixed(w), "nchw"),
        [h, w, c] => (fixed(c), fixed(h), fixed(w), "nhwc"),
        _ => (None, None, None, "nhwc"),
    };
    let mut steps = vec![json!({"decode_image": {"mode": if channels == Some(1) { "grey" } else { "rgb" }}})];
    if let (Some(height), Some(width)) = (height, width) {
        steps.push(json!({"resize": {"height": height, "width": width}}));
    }
    if spec.datatype.is_float() {
        steps.push(json!({"rescale": {"factor": 1.0 / 255.0}}));
    }
    steps.push(json!({"layout": layout}));
    steps
}

fn graph_properties(inputs: &[TensorSpec]) -> Result<Properties, String> {
    inputs.iter().map(|spec| Ok((spec.name.to_string(), input_schema(spec)?))).collect()
}

/// As the tensor's own, but for what no field can hold: there are no arrays of texts.
fn input_schema(spec: &TensorSpec) -> Result<Value, String> {
    let is_array = !matches!(spec.shape.row(), [] | [Dim::Fixed(1)]);
    match spec.datatype {
        DataType::Bytes if is_array && spec.shape.row() != [Dim::Any] => {
            Err(format!("the graph's input {} takes {spec}; a field gives one text a row", spec.name))
        }
        // A free width may be 1.
        DataType::Bytes => Ok(json!({"type": "string"})),
        _ => tensor_schema(spec),
    }
}

/// As the tensor's own; a row of free width that turns out to hold one value is answered as that value.
fn output_schema(spec: &TensorSpec) -> Result<Value, String> {
    let mut schema = tensor_schema(spec)?;
    if spec.shape.row() == [Dim::Any] {
        schema["type"] = json!(["array", schema["items"]["type"]]);
    }
    Ok(schema)
}

/// The schema of one row of a tensor.
fn tensor_schema(spec: &TensorSpec) -> Result<Value, String> {
    let kind = match spec.datatype {
        DataType::Bool => "boolean",
        DataType::Bytes => "string",
        datatype if datatype.is_float() => "number",
        _ => "integer",
    };
    let mut schema = json!({"type": kind});
    let dims = match spec.shape.row() {
        [] | [Dim::Fixed(1)] => &[],
        dims => dims,
    };
    for dim in dims.iter().rev() {
        schema = match dim {
            Dim::Fixed(size) => json!({"type": "array", "minItems": size, "maxItems": size, "items": schema}),
            Dim::Any => json!({"type": "array", "items": schema}),
        };
    }
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::{
        package::{
            draft::draft,
            signature::{Signature, TensorSpec},
        },
        tensor::{DataType, Dim, Shape},
    };

    fn spec(name: &str, datatype: DataType, row: &[Dim]) -> TensorSpec {
        TensorSpec { name: Arc::from(name), datatype, shape: Shape([&[Dim::Any], row].concat()) }
    }

    fn rows() -> Vec<Value> {
        vec![
            json!({"age": 41, "plan": "plus", "spend": 3.5}),
            json!({"age": null, "plan": "basic", "spend": 1.5}),
            json!({"age": 30, "plan": "basic", "spend": 2}),
        ]
    }

    #[test]
    fn fields_become_columns_of_one_input() {
        let one_hot = Signature {
            inputs: vec![spec("X", DataType::Fp32, &[Dim::Fixed(4)])],
            outputs: vec![spec("y", DataType::Fp32, &[Dim::Fixed(1)])],
        };
        let drafted = draft(&one_hot, &rows()).unwrap();
        let columns = &drafted.preprocessing.unwrap()["inputs"]["X"]["columns"];
        assert_eq!(columns[0], json!({"field": "age", "steps": [{"impute": {"value": 41.0}}]}));
        assert_eq!(columns[1], json!({"field": "plan", "steps": [{"one_hot": {"categories": ["basic", "plus"], "unknown": "zeros"}}]}));
        assert_eq!(columns[2], json!({"field": "spend"}));
        assert_eq!(drafted.schema["input"]["properties"]["age"]["type"], json!(["integer", "null"]));
        assert_eq!(drafted.schema["output"]["properties"]["y"], json!({"type": "number"}));

        let ordinal = Signature { inputs: vec![spec("X", DataType::Fp32, &[Dim::Fixed(3)])], outputs: vec![] };
        let drafted = draft(&ordinal, &rows()).unwrap();
        assert_eq!(drafted.preprocessing.unwrap()["inputs"]["X"]["columns"][1]["steps"][0]["ordinal"]["unknown"], json!(-1));

        let other = Signature { inputs: vec![spec("X", DataType::Fp32, &[Dim::Fixed(7)])], outputs: vec![] };
        assert!(draft(&other, &rows()).unwrap_err().contains("takes 7 numbers a row"));
    }

    #[test]
    fn a_field_that_some_rows_lack_is_optional() {
        let signature = Signature { inputs: vec![spec("X", DataType::Fp32, &[Dim::Fixed(2)])], outputs: vec![] };
        let drafted = draft(&signature, &[json!({"a": 1.5, "b": 2}), json!({"b": 3})]).unwrap();
        assert_eq!(drafted.schema["input"]["required"], json!(["b"]));
        assert_eq!(drafted.schema["input"]["properties"]["a"]["type"], json!(["number", "null"]));
    }

    #[test]
    fn inputs_of_the_fields_names_need_no_steps() {
        let inputs = vec![
            spec("age", DataType::Fp64, &[Dim::Fixed(1)]),
            spec("plan", DataType::Bytes, &[Dim::Fixed(1)]),
            spec("spend", DataType::Fp32, &[]),
        ];
        let drafted = draft(&Signature { inputs, outputs: vec![] }, &rows()).unwrap();
        assert_eq!(drafted.preprocessing, None);
    }

    #[test]
    fn without_rows_the_graph_gives_the_fields() {
        let signature = Signature {
            inputs: vec![spec("pixels", DataType::Fp32, &[Dim::Fixed(8), Dim::Any])],
            outputs: vec![spec("label", DataType::Int64, &[])],
        };
        let drafted = draft(&signature, &[]).unwrap();
        let expected = json!({"type": "array", "minItems": 8, "maxItems": 8, "items": {"type": "array", "items": {"type": "number"}}});
        assert_eq!(drafted.schema["input"]["properties"]["pixels"], expected);
        assert_eq!(drafted.schema["output"]["properties"]["label"], json!({"type": "integer"}));
    }

    #[test]
    fn an_answer_of_free_width_may_be_one_value() {
        let signature = Signature { inputs: vec![], outputs: vec![spec("y", DataType::Fp32, &[Dim::Any])] };
        let expected = json!({"type": ["array", "number"], "items": {"type": "number"}});
        assert_eq!(draft(&signature, &[]).unwrap().schema["output"]["properties"]["y"], expected);
    }

    #[test]
    fn what_no_field_can_hold_is_drafted_otherwise_or_refused() {
        let bools = Signature { inputs: vec![spec("mask", DataType::Bool, &[Dim::Fixed(2)])], outputs: vec![] };
        let expected = json!({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "boolean"}});
        assert_eq!(draft(&bools, &[]).unwrap().schema["input"]["properties"]["mask"], expected);
        let texts = |row: &[Dim]| Signature { inputs: vec![spec("t", DataType::Bytes, row)], outputs: vec![] };
        assert!(draft(&texts(&[Dim::Fixed(2)]), &[]).unwrap_err().contains("one text a row"));
        assert_eq!(draft(&texts(&[Dim::Any]), &[]).unwrap().schema["input"]["properties"]["t"], json!({"type": "string"}));
    }
}
