//! Draft: a first schema and preprocessing, from a graph and a few rows. Only what is neutral is written: the graph's types
//! decide, and null goes on as NaN where the graph takes floats. What only the training knows is asked for, and what is
//! guessed all the same is marked as a guess.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

mod ask;
mod sample;

use serde_json::{Map, Value, json};

use crate::{
    package::{
        draft::{
            ask::{Ask, MAX_CATEGORIES},
            sample::{Kind, SampleField},
        },
        guess,
    },
    tensor::{
        DataType, Dim,
        signature::{Signature, TensorSpec},
    },
    transform::{image, outputs::label_text},
};

#[derive(Debug, PartialEq)]
pub struct Draft {
    pub schema: Value,
    /// Guesses in it are marked, see `guess`.
    pub preprocessing: Option<Value>,
    /// What a person should look at.
    pub notes: Vec<String>,
}

/// What is known beside the graph.
#[derive(Debug, Default)]
pub struct Known<'a> {
    /// Instances, with the same fields each.
    pub rows: &'a [Value],
    /// What a person said of a field.
    pub given: &'a [Given],
    /// The outputs that were maps of labels to numbers until their ZipMap was cut off, with the labels in the graph's order.
    pub maps: &'a [(String, Vec<Value>)],
    /// The labels that the graph itself holds for the values of an output, in its order.
    pub labels: &'a [(String, Vec<Value>)],
}

/// What the training did with a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    pub field: String,
    pub how: How,
}

#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// As preprocessing.json has them.
    Steps(Vec<Value>),
    /// With the sample's categories, which is a guess.
    Encode(Encoding),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    OneHot,
    Ordinal,
}

type Properties = Map<String, Value>;

/// Drafts from the graph alone, or from the graph and rows.
///
/// # Errors
/// Where rows and graph can't be brought together, with what the person can do.
pub fn draft(signature: &Signature, known: &Known<'_>) -> Result<Draft, String> {
    let fields = sample::fields(known.rows)?;
    let mut notes = Vec::new();
    let (properties, inputs) = if fields.is_empty() {
        notes.push("no sample was given: fields are named as the graph's inputs; --sample makes a better draft".to_owned());
        (graph_properties(&signature.inputs)?, None)
    } else {
        from_rows(signature, &fields, known, &mut notes)?
    };
    let optional = |name: &str| {
        fields
            .iter()
            .any(|field| field.name == name && !field.everywhere)
    };
    let required: Vec<Value> = properties
        .keys()
        .filter(|name| !optional(name))
        .map(|name| json!(name))
        .collect();
    let mut input = json!({"type": "object", "title": "Describe the model's input here", "properties": properties, "required": required, "additionalProperties": false});
    if let Some(first) = known.rows.first() {
        let (example, replaced) = sample::example(first);
        input["examples"] = json!([example]);
        notes.extend(replaced.iter().map(|name| {
            format!("`{name}` of the schema's example is an even grey image, since the sample's is long; put a short one of your own there")
        }));
    }
    let (output, outputs) = answers(signature, known, &mut notes)?;
    let sections: Map<String, Value> = [("inputs", inputs), ("outputs", outputs)]
        .into_iter()
        .filter_map(|(name, section)| Some((name.to_owned(), section?)))
        .collect();
    let preprocessing = (!sections.is_empty()).then_some(Value::Object(sections));
    Ok(Draft {
        schema: json!({"input": input, "output": output}),
        preprocessing,
        notes,
    })
}

/// The output schema, and the section `outputs` where maps were cut off the graph.
fn answers(
    signature: &Signature,
    known: &Known<'_>,
    notes: &mut Vec<String>,
) -> Result<(Value, Option<Value>), String> {
    let of = |list: &'_ [(String, Vec<Value>)], name: &str| {
        list.iter()
            .find(|(output, _)| output == name)
            .map(|(_, labels)| labels.clone())
    };
    let mut properties = Map::new();
    let mut section = Map::new();
    // Lists whose values have labels, as maps would be written.
    let mut maps = Vec::new();
    for spec in &signature.outputs {
        let from = spec.name.to_string();
        let name = field_name(&from, signature, known);
        let mut field = json!({"from": from});
        match (
            of(known.maps, &from),
            of(known.labels, &from).filter(|labels| names_values(spec, labels)),
        ) {
            (Some(labels), _) if names_values(spec, &labels) => {
                let keys: Vec<String> = labels.iter().map(label_text).collect();
                properties.insert(name.clone(), map_schema(&keys));
                field["steps"] = json!([{"as_map": {"labels": labels}}]);
            }
            (_, Some(labels)) => {
                let mut schema = output_schema(spec)?;
                let keys: Vec<String> = labels.iter().map(label_text).collect();
                schema["description"] = json!(format!(
                    "a value for each of {}, in this order",
                    keys.join(", ")
                ));
                properties.insert(name.clone(), schema);
                maps.push((name.clone(), labels, keys));
            }
            _ => {
                properties.insert(name.clone(), output_schema(spec)?);
                if matches!(spec.shape.row(), [Dim::Fixed(2..)]) {
                    notes.push(format!("`{name}` gives several values a row; `argmax` and `as_map` with labels make a better answer"));
                }
            }
        }
        section.insert(name, field);
    }
    let mut mapped = section.clone();
    for (name, labels, _) in &maps {
        mapped[name]["steps"] = json!([{"as_map": {"labels": labels}}]);
    }
    let mapped = Value::Object(mapped);
    for (name, _, keys) in &maps {
        let (schema, keys) = (map_schema(keys), keys.join(", "));
        notes.push(format!(
            "`{name}` holds values for the labels {keys}; for answers by label put into preprocessing.json \"outputs\": {mapped}, \
             and into schema.json /output/properties/{name}: {schema}"
        ));
    }
    let answered: Vec<Value> = properties.keys().map(|name| json!(name)).collect();
    let output = json!({"type": "object", "properties": properties, "required": answered, "additionalProperties": false});
    Ok((
        output,
        (!known.maps.is_empty()).then_some(Value::Object(section)),
    ))
}

/// A number for each of `labels`.
fn map_schema(labels: &[String]) -> Value {
    let numbers: Map<String, Value> = labels
        .iter()
        .map(|label| (label.clone(), json!({"type": "number"})))
        .collect();
    json!({"type": "object", "properties": numbers, "required": labels, "additionalProperties": false})
}

/// What a graph's output is called in answers: its own name, but for the two that skl2onnx gives beside a ZipMap.
fn field_name(output: &str, signature: &Signature, known: &Known<'_>) -> String {
    let name = match output {
        "output_label" => "label",
        "output_probability" => "probabilities",
        other => other,
    };
    if known.maps.is_empty() || signature.output(name).is_some() {
        output.to_owned()
    } else {
        name.to_owned()
    }
}

/// Whether labels are those of the values of a row: numbers, one for each label.
fn names_values(spec: &TensorSpec, labels: &[Value]) -> bool {
    let width = match spec.shape.row() {
        [Dim::Fixed(width)] => *width == labels.len(),
        [Dim::Any | Dim::Rest] => true,
        _ => false,
    };
    width && labels.len() > 1 && !matches!(spec.datatype, DataType::Bytes | DataType::Bool)
}

/// How a field gets into the graph.
struct Entry {
    property: Value,
    ways: Vec<Way>,
}

/// A column of its own, or several where the steps make them.
#[derive(Default)]
struct Way {
    steps: Vec<Value>,
    guess: Option<String>,
}

impl Way {
    fn column(&self, field: &str) -> Map<String, Value> {
        let mut members = Map::from_iter([("field".to_owned(), json!(field))]);
        if !self.steps.is_empty() {
            members.insert("steps".to_owned(), json!(self.steps));
        }
        if let Some(guess) = &self.guess {
            members.insert(guess::KEY.to_owned(), json!(guess));
        }
        members
    }

    fn has(&self, names: &[&str]) -> bool {
        self.steps
            .iter()
            .any(|step| names.contains(&step_name(step)))
    }
}

impl Entry {
    fn is_plain(&self) -> bool {
        self.ways.iter().all(|way| way.steps.is_empty())
    }

    fn columns(&self, field: &str) -> Vec<Value> {
        self.ways
            .iter()
            .map(|way| Value::Object(way.column(field)))
            .collect()
    }

    /// The graph input that takes this field and no other.
    fn input(&self, spec: &TensorSpec, field: &str) -> Map<String, Value> {
        let mut input = Map::from_iter([("dtype".to_owned(), json!(spec.datatype.numpy_name()))]);
        match self.ways.as_slice() {
            [way] => input.extend(way.column(field)),
            _ => drop(input.insert("columns".to_owned(), json!(self.columns(field)))),
        }
        input
    }

    fn width(&self) -> Option<usize> {
        self.ways.iter().map(|way| steps_width(&way.steps)).sum()
    }
}

fn from_rows(
    signature: &Signature,
    fields: &[SampleField<'_>],
    known: &Known<'_>,
    notes: &mut Vec<String>,
) -> Result<(Properties, Option<Value>), String> {
    if let Some(given) = known
        .given
        .iter()
        .find(|given| !fields.iter().any(|field| field.name == given.field))
    {
        return Err(format!("the sample has no field \"{}\"", given.field));
    }
    let mut drafter = Drafter {
        known,
        asks: Vec::new(),
        properties: Properties::new(),
    };
    let has_field = |spec: &TensorSpec| fields.iter().any(|field| field.name == &*spec.name);
    if signature.inputs.iter().all(has_field) {
        let inputs = drafter.by_name(signature, fields, notes)?;
        return drafter.finish(None, (!inputs.is_empty()).then_some(inputs));
    }
    let [spec] = signature.inputs.as_slice() else {
        let names: Vec<&str> = signature.inputs.iter().map(|spec| &*spec.name).collect();
        return Err(format!(
            "the graph has the inputs {}; name the sample's fields as they are",
            names.join(", ")
        ));
    };
    let one = |section: Map<String, Value>| {
        Some(Map::from_iter([(
            spec.name.to_string(),
            Value::Object(section),
        )]))
    };
    match fields {
        [field]
            if matches!(field.kind(), Kind::Image | Kind::Array)
                || spec.datatype == DataType::Bytes =>
        {
            let entry = drafter.entry(spec, field)?;
            let section = entry.input(spec, field.name);
            drafter.add(field, entry);
            drafter.finish(None, one(section))
        }
        fields => {
            let (columns, hint) = drafter.columns(spec, fields)?;
            notes.push(format!(
                "the columns of {} are in the order of the sample's fields; the training's order must be the same",
                spec.name
            ));
            let dtype = json!(spec.datatype.numpy_name());
            drafter.finish(
                hint,
                one(Map::from_iter([
                    ("dtype".to_owned(), dtype),
                    ("columns".to_owned(), json!(columns)),
                ])),
            )
        }
    }
}

struct Drafter<'a> {
    known: &'a Known<'a>,
    asks: Vec<Ask>,
    properties: Properties,
}

impl Drafter<'_> {
    fn finish(
        self,
        hint: Option<String>,
        inputs: Option<Map<String, Value>>,
    ) -> Result<(Properties, Option<Value>), String> {
        if self.asks.is_empty() {
            Ok((self.properties, inputs.map(Value::Object)))
        } else {
            Err(ask::text(&self.asks, hint.as_deref()))
        }
    }

    fn add(&mut self, field: &SampleField<'_>, entry: Entry) {
        self.properties
            .insert(field.name.to_owned(), entry.property);
    }

    /// Each graph input takes the field of its name.
    fn by_name(
        &mut self,
        signature: &Signature,
        fields: &[SampleField<'_>],
        notes: &mut Vec<String>,
    ) -> Result<Map<String, Value>, String> {
        let mut inputs = Map::new();
        for field in fields {
            let Some(spec) = signature
                .inputs
                .iter()
                .find(|spec| *spec.name == *field.name)
            else {
                notes.push(format!(
                    "no input of the graph takes `{}`: callers must send it all the same",
                    field.name
                ));
                self.properties.insert(field.name.to_owned(), unused(field));
                continue;
            };
            let entry = self.entry(spec, field)?;
            let is_scalar = matches!(field.kind(), Kind::Text | Kind::Boolean | Kind::Number);
            if is_scalar
                && entry.is_plain()
                && !matches!(
                    spec.shape.row(),
                    [] | [Dim::Any | Dim::Rest | Dim::Fixed(1)]
                )
            {
                return Err(format!(
                    "`{}` gives one value a row; the graph's input of that name takes {spec}",
                    field.name
                ));
            }
            if !entry.is_plain() {
                inputs.insert(
                    spec.name.to_string(),
                    Value::Object(entry.input(spec, field.name)),
                );
            }
            self.add(field, entry);
        }
        Ok(inputs)
    }

    /// One graph input from many fields: numbers as they are, texts as somebody said. Also what the widths tell.
    fn columns(
        &mut self,
        spec: &TensorSpec,
        fields: &[SampleField<'_>],
    ) -> Result<(Vec<Value>, Option<String>), String> {
        if let Some(odd) = fields
            .iter()
            .find(|field| matches!(field.kind(), Kind::Array | Kind::Image | Kind::Mixed))
        {
            return Err(format!(
                "field \"{}\" is neither always a number nor always a text; one graph input can't be made of it",
                odd.name
            ));
        }
        if spec.datatype == DataType::Bytes {
            return Err(format!(
                "the graph's input {} takes {spec}; a field gives one text a row",
                spec.name
            ));
        }
        let takes = match spec.shape.row() {
            [Dim::Fixed(width)] => Some(*width),
            [Dim::Any | Dim::Rest] => None,
            [] => Some(1),
            _ => {
                return Err(format!(
                    "the graph's input {} takes {spec}; the sample's fields give a row of numbers",
                    spec.name
                ));
            }
        };
        let mut columns = Vec::new();
        let mut widths = Vec::new();
        let mut one_hot = 0;
        for field in fields {
            let entry = self.entry(spec, field)?;
            widths.push(entry.width());
            one_hot += if field.kind() == Kind::Text {
                field.categories().len()
            } else {
                1
            };
            columns.extend(entry.columns(field.name));
            self.add(field, entry);
        }
        let Some(takes) = takes else {
            return Ok((columns, None));
        };
        let count = fields.len();
        let hint = format!(
            "{} takes {takes} numbers a row; the sample's {count} fields give {count}, or {one_hot} with one-hot columns for all texts.",
            spec.name
        );
        match widths.iter().copied().sum::<Option<usize>>() {
            Some(width) if takes != width && self.asks.is_empty() => {
                let several = fields
                    .iter()
                    .zip(&widths)
                    .filter(|(_, width)| **width != Some(1));
                let several: Vec<String> = several
                    .map(|(field, width)| format!("{} {}", field.name, width.unwrap_or_default()))
                    .collect();
                let which = if several.is_empty() {
                    String::new()
                } else {
                    format!(" ({}, the others 1)", several.join(", "))
                };
                Err(format!(
                    "the graph's input {} takes {takes} numbers a row; the sample's {count} fields give {width}{which}",
                    spec.name
                ))
            }
            _ => Ok((columns, Some(hint))),
        }
    }

    /// The field's property and steps; what is missing becomes a question.
    fn entry(&mut self, spec: &TensorSpec, field: &SampleField<'_>) -> Result<Entry, String> {
        let mut ways = self.ways(field)?;
        let kind = field.kind();
        if field.nullable && matches!(kind, Kind::Image | Kind::Array) {
            return Err(format!(
                "field \"{}\" is null or missing in some rows; no step makes {spec} of that",
                field.name
            ));
        }
        let property = match kind {
            Kind::Mixed => {
                return Err(format!(
                    "field \"{}\" has values of several types; the graph's input {} takes {spec}",
                    field.name, spec.name
                ));
            }
            Kind::Image => {
                if let Some(unread) = field
                    .media_types()
                    .into_iter()
                    .find(|media_type| !image::is_read(media_type))
                {
                    return Err(format!(
                        "field \"{}\" of the sample holds {unread}; the image steps read image/png and image/jpeg: convert the sample, and have \
                         callers send one of these",
                        field.name
                    ));
                }
                if ways.iter().all(|way| way.steps.is_empty()) {
                    ways = vec![Way {
                        steps: image_steps(spec),
                        guess: Some(IMAGE_GUESS.to_owned()),
                    }];
                }
                image_property(field)
            }
            Kind::Array => self.array(spec, field, &ways)?,
            Kind::Text | Kind::Boolean | Kind::Number => {
                let is_text = |way: &Way| {
                    kind == Kind::Text
                        && way
                            .steps
                            .iter()
                            .all(|step| CLEANING.contains(&step_name(step)))
                };
                if spec.datatype != DataType::Bytes && ways.iter().any(is_text) {
                    self.asks.push(Ask::encoding(field, spec));
                } else if field.nullable
                    && !spec.datatype.is_float()
                    && !ways.iter().all(|way| way.has(&TAKE_NULL))
                {
                    self.asks.push(Ask::impute(field, spec));
                }
                scalar_property(spec, field, ways.iter().all(|way| way.steps.is_empty()))?
            }
        };
        Ok(Entry { property, ways })
    }

    /// What a person said of a field; without that it goes on as it is.
    fn ways(&self, field: &SampleField<'_>) -> Result<Vec<Way>, String> {
        let given: Vec<&How> = self
            .known
            .given
            .iter()
            .filter(|given| given.field == field.name)
            .map(|given| &given.how)
            .collect();
        if given.is_empty() {
            return Ok(vec![Way::default()]);
        }
        let way = |how: &&How| match how {
            How::Steps(steps) => Ok(Way {
                steps: steps.clone(),
                guess: None,
            }),
            How::Encode(_) if given.len() > 1 => Err(format!(
                "field \"{}\" has an encoding and more; write all of it as lines",
                field.name
            )),
            How::Encode(encoding) => encoded(field, *encoding),
        };
        given.iter().map(way).collect()
    }

    /// Lists: as long as the graph fixes, of the graph's type.
    fn array(
        &mut self,
        spec: &TensorSpec,
        field: &SampleField<'_>,
        ways: &[Way],
    ) -> Result<Value, String> {
        let wrong = |detail: String| {
            Err(format!(
                "field \"{}\" {detail}; the graph's input {} takes {spec}",
                field.name, spec.name
            ))
        };
        let leaves: Vec<&Value> = field
            .values
            .iter()
            .flat_map(|value| sample::leaves(value))
            .collect();
        let all = |holds: fn(&Value) -> bool| leaves.iter().all(|value| holds(value));
        let items = if leaves.iter().any(|value| value.is_null()) {
            return wrong("has null in a list, which no field takes".to_owned());
        } else if !leaves.is_empty() && all(Value::is_boolean) && spec.datatype != DataType::Bytes {
            json!({"type": "boolean"})
        } else if !all(Value::is_number) || spec.datatype == DataType::Bytes {
            return wrong(
                "has lists that are neither always of numbers nor always of true and false"
                    .to_owned(),
            );
        } else if spec.datatype.is_float() || ways.iter().any(|way| !way.steps.is_empty()) {
            json!({"type": "number"})
        } else if let Some(odd) = leaves
            .iter()
            .find(|value| value.as_f64().is_some_and(|value| value.fract() != 0.0))
        {
            return wrong(format!("has {odd}"));
        } else if spec.datatype == DataType::Bool {
            json!({"type": "integer", "minimum": 0, "maximum": 1})
        } else {
            json!({"type": "integer"})
        };
        let given = field
            .values
            .first()
            .map(|value| sample::dims(value))
            .unwrap_or_default();
        let row = spec.shape.row();
        let reshaped = ways.iter().any(|way| way.has(&["reshape"]));
        let dims: Vec<Dim> = if reshaped {
            given.iter().map(|size| Dim::Fixed(*size)).collect()
        } else if row.contains(&Dim::Rest) {
            // The graph does not say how many dimensions it takes.
            vec![Dim::Any; given.len()]
        } else {
            row.to_vec()
        };
        let fits = |value: &&Value| {
            let given = sample::dims(value);
            given.len() == dims.len() && dims.iter().zip(given).all(|(dim, size)| dim.fits(size))
        };
        if let Some(odd) = field.values.iter().find(|value| !fits(value)) {
            let fixed: Option<Vec<usize>> = row
                .iter()
                .map(|dim| {
                    if let Dim::Fixed(size) = dim {
                        Some(*size)
                    } else {
                        None
                    }
                })
                .collect();
            match fixed.filter(|fixed| {
                !reshaped && fixed.iter().product::<usize>() == given.iter().product::<usize>()
            }) {
                Some(fixed) => self.asks.push(Ask::reshape(field, spec, &given, &fixed)),
                None => return wrong(format!("has a row of the shape {:?}", sample::dims(odd))),
            }
        }
        Ok(nested(items, &dims))
    }
}

/// With the sample's categories.
fn encoded(field: &SampleField<'_>, encoding: Encoding) -> Result<Way, String> {
    if !matches!(field.kind(), Kind::Text | Kind::Number) {
        return Err(format!(
            "field \"{}\" has neither texts nor numbers to be encoded",
            field.name
        ));
    }
    let categories = field.categories();
    if categories.len() > MAX_CATEGORIES {
        return Err(format!(
            "field \"{}\" has {} different values; that many are no categories",
            field.name,
            categories.len()
        ));
    }
    // Where the sample has nulls, an unknown value is something that the model takes.
    let step = match (encoding, field.nullable) {
        (Encoding::OneHot, false) => {
            json!({"one_hot": {"categories": categories, "unknown": "error"}})
        }
        (Encoding::OneHot, true) => {
            json!({"one_hot": {"categories": categories, "unknown": "zeros"}})
        }
        (Encoding::Ordinal, false) => {
            json!({"ordinal": {"categories": categories, "unknown": "error"}})
        }
        (Encoding::Ordinal, true) => json!({"ordinal": {"categories": categories, "unknown": -1}}),
    };
    let null = if field.nullable {
        ", and null is none of them"
    } else {
        ""
    };
    let guess = format!(
        "the categories are the sample's, sorted{null}; the training's must be here, in its order"
    );
    Ok(Way {
        steps: vec![step],
        guess: Some(guess),
    })
}

/// Steps that leave a text a text.
const CLEANING: [&str; 5] = [
    "impute",
    "lowercase",
    "strip",
    "normalize_unicode",
    "regex_replace",
];

/// Steps after which there is no null any more.
const TAKE_NULL: [&str; 6] = [
    "impute",
    "missing_indicator",
    "one_hot",
    "ordinal",
    "target_encode",
    "hash",
];

/// Steps that leave one column one.
const ONE_COLUMN: [&str; 17] = [
    "impute",
    "missing_indicator",
    "standard_scale",
    "min_max_scale",
    "robust_scale",
    "rescale",
    "clip",
    "log1p",
    "power",
    "bucketize",
    "ordinal",
    "target_encode",
    "lowercase",
    "strip",
    "normalize_unicode",
    "regex_replace",
    "reshape",
];

fn step_name(step: &Value) -> &str {
    step.as_object()
        .and_then(|step| step.keys().next())
        .map_or("", String::as_str)
}

/// How many columns come out; `None` where only the step itself knows.
fn steps_width(steps: &[Value]) -> Option<usize> {
    steps.iter().try_fold(1, |width, step| {
        let parameter = |name: &str| step.pointer(&format!("/{}/{name}", step_name(step)));
        match step_name(step) {
            "one_hot" => parameter("categories")
                .and_then(Value::as_array)
                .map(Vec::len),
            "hash" => parameter("n_features")
                .and_then(Value::as_u64)
                .and_then(|width| usize::try_from(width).ok()),
            name if ONE_COLUMN.contains(&name) => Some(width),
            _ => None,
        }
    })
}

fn with_example(mut property: Value, field: &SampleField<'_>) -> Value {
    if let Some(example) = field.values.iter().find(|value| !sample::is_long(value)) {
        property["examples"] = json!([example]);
    }
    property
}

/// One value a row: the type that the graph takes, not the one that the sample happened to have.
fn scalar_property(
    spec: &TensorSpec,
    field: &SampleField<'_>,
    plain: bool,
) -> Result<Value, String> {
    let wrong = |what: String| {
        Err(format!(
            "field \"{}\" has {what}; the graph's input {} takes {spec}",
            field.name, spec.name
        ))
    };
    let kind = field.kind();
    let mut property = match kind {
        Kind::Text => field.typed("string"),
        _ if spec.datatype == DataType::Bytes => {
            return wrong("values that are no texts".to_owned());
        }
        Kind::Boolean => field.typed("boolean"),
        _ if spec.datatype.is_float() || !plain => field.typed("number"),
        _ => match field.fraction() {
            Some(fraction) => return wrong(fraction.to_string()),
            None => field.typed("integer"),
        },
    };
    if spec.datatype == DataType::Bool && kind == Kind::Number && plain {
        if let Some(odd) = field
            .values
            .iter()
            .find(|value| !matches!(value.as_f64(), Some(0.0 | 1.0)))
        {
            return wrong(odd.to_string());
        }
        property["minimum"] = json!(0);
        property["maximum"] = json!(1);
    }
    Ok(with_example(property, field))
}

fn unused(field: &SampleField<'_>) -> Value {
    match field.kind() {
        Kind::Text => with_example(field.typed("string"), field),
        Kind::Image => image_property(field),
        Kind::Boolean => with_example(field.typed("boolean"), field),
        Kind::Number => with_example(field.typed("number"), field),
        Kind::Array => field.typed("array"),
        Kind::Mixed => json!({}),
    }
}

fn image_property(field: &SampleField<'_>) -> Value {
    let mut property = field.typed("string");
    property["contentEncoding"] = json!("base64");
    match field.media_types().as_slice() {
        [media_type] => property["contentMediaType"] = json!(media_type),
        // One name would be untrue of the others.
        media_types => {
            property["description"] = json!(format!("An image: {}", media_types.join(" or ")))
        }
    }
    property
}

const IMAGE_GUESS: &str = "the steps are guessed from the graph's shape: mode, size, interpolation, range and layout must be the training's, and normalize is missing";

fn image_steps(spec: &TensorSpec) -> Vec<Value> {
    let fixed = |dim: &Dim| {
        if let Dim::Fixed(size) = dim {
            Some(*size)
        } else {
            None
        }
    };
    let (channels, height, width, layout) = match spec.shape.row() {
        [c, h, w] if matches!(c, Dim::Fixed(1 | 3)) => (fixed(c), fixed(h), fixed(w), "nchw"),
        [h, w, c] => (fixed(c), fixed(h), fixed(w), "nhwc"),
        _ => (None, None, None, "nhwc"),
    };
    let mut steps =
        vec![json!({"decode_image": {"mode": if channels == Some(1) { "grey" } else { "rgb" }}})];
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
    inputs
        .iter()
        .map(|spec| Ok((spec.name.to_string(), input_schema(spec)?)))
        .collect()
}

/// As the tensor's own, but for what no field can hold: a column of arrays has numbers.
fn input_schema(spec: &TensorSpec) -> Result<Value, String> {
    let is_array = !matches!(spec.shape.row(), [] | [Dim::Fixed(1)]);
    match spec.datatype {
        DataType::Bytes if is_array && !matches!(spec.shape.row(), [Dim::Any | Dim::Rest]) => {
            Err(format!(
                "the graph's input {} takes {spec}; a field gives one text a row",
                spec.name
            ))
        }
        // A free width may be 1.
        DataType::Bytes => Ok(json!({"type": "string"})),
        _ => tensor_schema(spec),
    }
}

/// As the tensor's own; a row of free width that turns out to hold one value is answered as that value.
fn output_schema(spec: &TensorSpec) -> Result<Value, String> {
    let mut schema = tensor_schema(spec)?;
    if matches!(spec.shape.row(), [Dim::Any | Dim::Rest]) {
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
    let dims = match spec.shape.row() {
        [] | [Dim::Fixed(1)] => &[],
        dims => dims,
    };
    Ok(nested(json!({"type": kind}), dims))
}

/// Arrays of these dimensions; only a fixed one has a length.
fn nested(items: Value, dims: &[Dim]) -> Value {
    dims.iter().rev().fold(items, |items, dim| match dim {
        Dim::Fixed(size) => {
            json!({"type": "array", "minItems": size, "maxItems": size, "items": items})
        }
        Dim::Any | Dim::Rest => json!({"type": "array", "items": items}),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::{
        package::draft::{Draft, Encoding, Given, How, Known, draft},
        tensor::{
            DataType, Dim, Shape,
            signature::{Signature, TensorSpec},
        },
        transform::image,
    };

    fn spec(name: &str, datatype: DataType, row: &[Dim]) -> TensorSpec {
        TensorSpec {
            name: Arc::from(name),
            datatype,
            shape: Shape([&[Dim::Any], row].concat()),
        }
    }

    fn taking(inputs: Vec<TensorSpec>) -> Signature {
        Signature {
            inputs,
            outputs: vec![spec("y", DataType::Fp32, &[Dim::Fixed(1)])],
        }
    }

    fn of(inputs: Vec<TensorSpec>, rows: &[Value]) -> Result<Draft, String> {
        draft(
            &taking(inputs),
            &Known {
                rows,
                ..Known::default()
            },
        )
    }

    fn with(
        inputs: Vec<TensorSpec>,
        rows: &[Value],
        given: &[(&str, How)],
    ) -> Result<Draft, String> {
        let given: Vec<Given> = given
            .iter()
            .map(|(field, how)| Given {
                field: (*field).to_owned(),
                how: how.clone(),
            })
            .collect();
        draft(
            &taking(inputs),
            &Known {
                rows,
                given: &given,
                ..Known::default()
            },
        )
    }

    fn row_of(width: usize) -> Vec<TensorSpec> {
        vec![spec("X", DataType::Fp32, &[Dim::Fixed(width)])]
    }

    fn property<'a>(drafted: &'a Draft, field: &str) -> &'a Value {
        &drafted.schema["input"]["properties"][field]
    }

    fn rows() -> Vec<Value> {
        vec![
            json!({"age": 41, "plan": "plus", "spend": 3.5}),
            json!({"age": null, "plan": "basic", "spend": 1.5}),
            json!({"age": 30, "plan": "basic", "spend": 2}),
        ]
    }

    #[test]
    fn numbers_go_on_as_they_are_and_null_as_nan() {
        let drafted = of(
            row_of(3),
            &[
                json!({"a": 1, "b": true, "c": 2.5}),
                json!({"a": null, "b": null}),
                json!({"a": 3, "b": false, "c": 4}),
            ],
        )
        .unwrap();
        assert_eq!(
            drafted.preprocessing.as_ref().unwrap()["inputs"]["X"]["columns"],
            json!([{"field": "a"}, {"field": "b"}, {"field": "c"}])
        );
        assert_eq!(
            property(&drafted, "a")["type"],
            json!(["number", "null"]),
            "whole in the sample, a float in the graph"
        );
        assert_eq!(property(&drafted, "b")["type"], json!(["boolean", "null"]));
        assert_eq!(property(&drafted, "c")["type"], json!(["number", "null"]));
        assert_eq!(
            drafted.schema["input"]["required"],
            json!(["a", "b"]),
            "a field that some rows lack is optional"
        );
        assert_eq!(
            drafted.schema["output"]["properties"]["y"],
            json!({"type": "number"})
        );
    }

    #[test]
    fn the_graph_decides_what_a_number_is() {
        let one = |datatype| vec![spec("n", datatype, &[Dim::Fixed(1)])];
        let kind = |datatype, value: Value| {
            of(one(datatype), &[json!({"n": value})])
                .map(|drafted| property(&drafted, "n")["type"].clone())
        };
        assert_eq!(kind(DataType::Fp64, json!(1)), Ok(json!("number")));
        assert_eq!(kind(DataType::Int64, json!(1)), Ok(json!("integer")));
        assert_eq!(kind(DataType::Int64, json!(true)), Ok(json!("boolean")));
        assert_eq!(kind(DataType::Bool, json!(1)), Ok(json!("integer")));
        for (datatype, value, expected) in [
            (
                DataType::Int64,
                json!(1.5),
                "has 1.5; the graph's input n takes int64",
            ),
            (
                DataType::Bool,
                json!(2),
                "has 2; the graph's input n takes bool",
            ),
            (DataType::Bytes, json!(2), "values that are no texts"),
            (DataType::Int64, json!({}), "values of several types"),
        ] {
            let error = kind(datatype, value).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn texts_for_numbers_are_a_question() {
        let error = of(row_of(4), &rows()).unwrap_err();
        for expected in [
            "`plan` has texts such as \"plus\", and the graph's input X takes float32",
            "  {\"field\": \"plan\", \"steps\": [{\"one_hot\": {\"categories\": [\"basic\", \"plus\"], \"unknown\": \"error\"}}]}\n",
            "  {\"field\": \"plan\", \"steps\": [{\"ordinal\": {\"categories\": [\"basic\", \"plus\"], \"unknown\": \"error\"}}]}\n",
            "\"target_encode\"",
            "X takes 4 numbers a row; the sample's 3 fields give 3, or 4 with one-hot columns for all texts.",
            "The categories are the SAMPLE's",
            "--column 'LINE'",
            "--encode plan=one_hot|ordinal",
            "--sample ROWS",
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(!error.contains("date_parts"), "{error}");
        let dates = of(
            row_of(1),
            &[
                json!({"day": "2024-01-31"}),
                json!({"day": "2024-02-29T10:00:00Z"}),
            ],
        )
        .unwrap_err();
        assert!(
            dates.contains("texts that look like dates such as \"2024-01-31\"")
                && dates.contains("date_parts"),
            "{dates}"
        );
        let many: Vec<Value> = (0..60)
            .map(|index| json!({"id": format!("u{index:02}")}))
            .collect();
        let many = of(row_of(1), &many).unwrap_err();
        assert!(
            many.contains("\"u02\", <and the others: the sample alone has 60>]")
                && !many.contains("--encode id"),
            "{many}"
        );
        let own = of(
            vec![spec("plan", DataType::Int64, &[Dim::Fixed(1)])],
            &[json!({"plan": "a"})],
        )
        .unwrap_err();
        assert!(own.contains("the graph's input plan takes int64"), "{own}");
    }

    #[test]
    fn null_where_the_graph_has_none_is_a_question() {
        let nullable = [json!({"n": 1}), json!({"n": null})];
        for datatype in [DataType::Int64, DataType::Bool] {
            let inputs = || vec![spec("n", datatype, &[Dim::Fixed(1)])];
            let error = of(inputs(), &nullable).unwrap_err();
            assert!(
                error.contains("`n` is null in some rows")
                    && error.contains("[{\"impute\": {\"value\": <the training's>}}]"),
                "{error}"
            );
            let steps = How::Steps(vec![json!({"impute": {"value": 0}})]);
            let drafted = with(inputs(), &nullable, &[("n", steps)]).unwrap();
            assert_eq!(
                drafted.preprocessing.unwrap()["inputs"]["n"]["steps"],
                json!([{"impute": {"value": 0}}])
            );
        }
        let text = of(
            vec![spec("t", DataType::Bytes, &[])],
            &[json!({"t": "a"}), json!({})],
        )
        .unwrap_err();
        assert!(text.contains("`t` is missing in some rows"), "{text}");
    }

    #[test]
    fn what_a_person_says_is_taken_and_what_is_guessed_is_marked() {
        let steps =
            json!([{"one_hot": {"categories": ["basic", "plus", "pro"], "unknown": "zeros"}}]);
        let drafted = with(
            row_of(5),
            &rows(),
            &[("plan", How::Steps(steps.as_array().unwrap().clone()))],
        )
        .unwrap();
        assert_eq!(
            drafted.preprocessing.unwrap()["inputs"]["X"]["columns"][1],
            json!({"field": "plan", "steps": steps})
        );

        let drafted = with(
            row_of(4),
            &rows(),
            &[("plan", How::Encode(Encoding::OneHot))],
        )
        .unwrap();
        let column = &drafted.preprocessing.unwrap()["inputs"]["X"]["columns"][1];
        assert_eq!(
            column["steps"],
            json!([{"one_hot": {"categories": ["basic", "plus"], "unknown": "error"}}])
        );
        assert!(
            column["x-guess"].as_str().unwrap().contains("the sample's"),
            "{column}"
        );

        let numbers = [
            json!({"zip": 1000, "plan": "a"}),
            json!({"zip": 900, "plan": null}),
        ];
        let given = [
            ("zip", How::Encode(Encoding::OneHot)),
            ("plan", How::Encode(Encoding::Ordinal)),
        ];
        let columns = with(row_of(3), &numbers, &given)
            .unwrap()
            .preprocessing
            .unwrap()["inputs"]["X"]["columns"]
            .clone();
        assert_eq!(
            columns[0]["steps"][0]["one_hot"]["categories"],
            json!([900, 1000])
        );
        assert_eq!(
            columns[1]["steps"][0]["ordinal"]["unknown"],
            json!(-1),
            "null is a value that the sample shows"
        );

        let error = with(
            row_of(7),
            &rows(),
            &[("plan", How::Encode(Encoding::OneHot))],
        )
        .unwrap_err();
        assert!(
            error.contains(
                "takes 7 numbers a row; the sample's 3 fields give 4 (plan 2, the others 1)"
            ),
            "{error}"
        );

        // A line is a column: a field may have several.
        let lines = [
            json!({"missing_indicator": {}}),
            json!({"impute": {"value": 40}}),
        ]
        .map(|step| ("age", How::Steps(vec![step])));
        let known: Vec<Value> = rows()
            .into_iter()
            .map(|row| json!({"age": row["age"]}))
            .collect();
        let columns = json!([{"field": "age", "steps": [{"missing_indicator": {}}]}, {"field": "age", "steps": [{"impute": {"value": 40}}]}]);
        assert_eq!(
            with(row_of(2), &known, &lines)
                .unwrap()
                .preprocessing
                .unwrap()["inputs"]["X"]["columns"],
            columns
        );
        let own = with(
            vec![spec("age", DataType::Int64, &[Dim::Fixed(2)])],
            &known,
            &lines,
        )
        .unwrap();
        assert_eq!(
            own.preprocessing.unwrap()["inputs"]["age"]["columns"],
            columns
        );
        let both = [lines[0].clone(), ("age", How::Encode(Encoding::OneHot))];
        assert!(
            with(row_of(2), &known, &both)
                .unwrap_err()
                .contains("an encoding and more")
        );
        assert!(
            with(row_of(3), &rows(), &given)
                .unwrap_err()
                .contains("no field \"zip\"")
        );
    }

    #[test]
    fn inputs_of_the_fields_names_need_no_steps() {
        let inputs = vec![
            spec("age", DataType::Fp64, &[Dim::Fixed(1)]),
            spec("plan", DataType::Bytes, &[Dim::Fixed(1)]),
            spec("spend", DataType::Fp32, &[]),
        ];
        assert_eq!(of(inputs.clone(), &rows()).unwrap().preprocessing, None);
        let drafted = of(inputs[..2].to_vec(), &rows()).unwrap();
        assert!(
            drafted.notes[0].contains("no input of the graph takes `spend`"),
            "{:?}",
            drafted.notes
        );
        assert!(
            of(inputs, &[json!({"age": 1})])
                .unwrap_err()
                .contains("the graph has the inputs age, plan, spend")
        );
        let wide = of(
            vec![spec("x", DataType::Fp32, &[Dim::Fixed(3)])],
            &[json!({"x": 1})],
        )
        .unwrap_err();
        assert!(wide.contains("`x` gives one value a row"), "{wide}");
    }

    #[test]
    fn lists_are_as_long_as_the_graph_fixes() {
        let drafted = |datatype, row: &[Dim], value: Value| {
            of(vec![spec("x", datatype, row)], &[json!({"x": value})])
        };
        let schema = |datatype, row: &[Dim], value: Value| {
            drafted(datatype, row, value).map(|drafted| property(&drafted, "x").clone())
        };
        assert_eq!(
            schema(DataType::Int64, &[Dim::Any], json!([1, 2])),
            Ok(json!({"type": "array", "items": {"type": "integer"}}))
        );
        let booleans =
            json!({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "boolean"}});
        assert_eq!(
            schema(DataType::Bool, &[Dim::Fixed(2)], json!([true, false])),
            Ok(booleans)
        );
        let floats = json!({"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}});
        assert_eq!(
            schema(DataType::Fp32, &[Dim::Any, Dim::Fixed(2)], json!([[1, 2]])),
            Ok(floats)
        );
        for (row, value, expected) in [
            (
                &[Dim::Fixed(3)][..],
                json!([1, 2]),
                "has a row of the shape [2]",
            ),
            (&[Dim::Any][..], json!([1.5]), "has 1.5"),
            (&[Dim::Any][..], json!([1, null]), "has null in a list"),
            (&[Dim::Any][..], json!(["a"]), "neither always of numbers"),
            (
                &[Dim::Fixed(2), Dim::Fixed(2)][..],
                json!([1, 2, 3, 4]),
                "{\"reshape\":{\"shape\":[2,2]}}",
            ),
        ] {
            let error = drafted(DataType::Int64, row, value).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let flat = [json!({"x": [1, 2, 3, 4]})];
        let inputs = vec![spec("x", DataType::Fp32, &[Dim::Fixed(2), Dim::Fixed(2)])];
        let reshaped = with(
            inputs,
            &flat,
            &[("x", How::Steps(vec![json!({"reshape": {"shape": [2, 2]}})]))],
        )
        .unwrap();
        assert_eq!(property(&reshaped, "x")["maxItems"], 4);
        let unnamed = of(row_of(2), &[json!({"features": [1, 2]})]).unwrap();
        assert_eq!(
            unnamed.preprocessing.unwrap()["inputs"]["X"],
            json!({"dtype": "float32", "field": "features"})
        );
    }

    #[test]
    fn image_steps_are_a_guess() {
        let inputs = || {
            vec![spec(
                "image",
                DataType::Fp32,
                &[Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)],
            )]
        };
        let photo = [json!({"photo": "iVBORw0KGgoAAAA"})];
        let drafted = of(inputs(), &photo).unwrap();
        assert_eq!(property(&drafted, "photo")["contentMediaType"], "image/png");
        let section = drafted.preprocessing.unwrap()["inputs"]["image"].clone();
        assert_eq!(
            section["steps"][0],
            json!({"decode_image": {"mode": "rgb"}})
        );
        assert!(section["x-guess"].is_string());
        let steps = vec![
            json!({"decode_image": {"mode": "rgb"}}),
            json!({"layout": "nchw"}),
        ];
        let said = with(inputs(), &photo, &[("photo", How::Steps(steps.clone()))]).unwrap();
        assert_eq!(
            said.preprocessing.unwrap()["inputs"]["image"],
            json!({"dtype": "float32", "field": "photo", "steps": steps})
        );
    }

    #[test]
    fn an_images_media_type_is_that_of_its_bytes() {
        let inputs = || {
            vec![spec(
                "photo",
                DataType::Fp32,
                &[Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)],
            )]
        };
        let [png, jpeg] = ["image/png", "image/jpeg"]
            .map(|media_type| image::grey_image(media_type, 4, 4).unwrap());
        for (photos, expected) in [
            (vec![&png], json!("image/png")),
            (vec![&jpeg, &jpeg], json!("image/jpeg")),
            // Neither name would be true of both.
            (vec![&png, &jpeg], Value::Null),
        ] {
            let rows: Vec<Value> = photos.iter().map(|photo| json!({"photo": photo})).collect();
            let property = property(&of(inputs(), &rows).unwrap(), "photo").clone();
            assert_eq!(
                (&property["contentMediaType"], &property["contentEncoding"]),
                (&expected, &json!("base64"))
            );
        }
        for (begin, media_type) in [
            (&b"GIF89a\x01\0\x01\0"[..], "image/gif"),
            (b"RIFF\x1a\0\0\0WEBPVP8 ", "image/webp"),
        ] {
            let error = of(
                inputs(),
                &[json!({"photo": base64_simd::STANDARD.encode_to_string(begin)})],
            )
            .unwrap_err();
            assert!(
                error.contains(&format!("field \"photo\" of the sample holds {media_type}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_long_image_is_a_short_example_of_the_same_size() {
        let inputs = vec![spec(
            "photo",
            DataType::Fp32,
            &[Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)],
        )];
        // Bytes after its end are no part of a PNG.
        let mut bytes = base64_simd::STANDARD
            .decode_to_vec(image::grey_image("image/png", 300, 200).unwrap())
            .unwrap();
        bytes.extend([7; 90_000]);
        let long = base64_simd::STANDARD.encode_to_string(&bytes);
        let drafted = of(inputs.clone(), &[json!({"photo": long})]).unwrap();
        let example = drafted.schema["input"]["examples"][0]["photo"]
            .as_str()
            .unwrap();
        let short = base64_simd::STANDARD.decode_to_vec(example).unwrap();
        assert!(example.len() < 2048, "{}", example.len());
        assert_eq!(
            (image::media_type(&short), image::size(&short)),
            (Some("image/png"), Some((300, 200)))
        );
        assert!(drafted.schema.to_string().len() < 4096);
        assert!(
            drafted
                .notes
                .iter()
                .any(|note| note.contains("`photo` of the schema's example")),
            "{:?}",
            drafted.notes
        );
        let own = image::grey_image("image/png", 8, 8).unwrap();
        let kept = of(inputs, &[json!({"photo": own})]).unwrap();
        assert_eq!(kept.schema["input"]["examples"][0]["photo"], json!(own));
    }

    #[test]
    fn without_rows_the_graph_gives_the_fields() {
        let signature = Signature {
            inputs: vec![spec("pixels", DataType::Fp32, &[Dim::Fixed(8), Dim::Any])],
            outputs: vec![spec("label", DataType::Int64, &[])],
        };
        let drafted = draft(&signature, &Known::default()).unwrap();
        let expected = json!({"type": "array", "minItems": 8, "maxItems": 8, "items": {"type": "array", "items": {"type": "number"}}});
        assert_eq!(drafted.schema["input"]["properties"]["pixels"], expected);
        assert_eq!(
            drafted.schema["output"]["properties"]["label"],
            json!({"type": "integer"})
        );
    }

    #[test]
    fn an_answer_of_free_width_may_be_one_value() {
        let signature = Signature {
            inputs: vec![],
            outputs: vec![spec("y", DataType::Fp32, &[Dim::Any])],
        };
        let expected = json!({"type": ["array", "number"], "items": {"type": "number"}});
        assert_eq!(
            draft(&signature, &Known::default()).unwrap().schema["output"]["properties"]["y"],
            expected
        );
    }

    #[test]
    fn labels_that_the_graph_holds_are_no_guess() {
        let outputs = vec![
            spec("label", DataType::Int64, &[]),
            spec("p", DataType::Fp32, &[Dim::Fixed(2)]),
        ];
        let signature = Signature {
            inputs: vec![],
            outputs,
        };
        let labels = [
            ("label".to_owned(), vec![json!(3), json!(7)]),
            ("p".to_owned(), vec![json!(3), json!(7)]),
        ];
        // A map that was cut off stays one for callers.
        let drafted = draft(
            &signature,
            &Known {
                maps: &labels[1..],
                labels: &labels,
                ..Known::default()
            },
        )
        .unwrap();
        let section = json!({"label": {"from": "label"}, "p": {"from": "p", "steps": [{"as_map": {"labels": [3, 7]}}]}});
        assert_eq!(
            drafted.preprocessing,
            Some(json!({"outputs": section.clone()}))
        );
        let map = json!({"type": "object", "properties": {"3": {"type": "number"}, "7": {"type": "number"}}, "required": ["3", "7"], "additionalProperties": false});
        assert_eq!(
            drafted.schema["output"]["properties"],
            json!({"label": {"type": "integer"}, "p": map.clone()})
        );
        // A list stays one, too; what its values are is known.
        let drafted = draft(
            &signature,
            &Known {
                labels: &labels,
                ..Known::default()
            },
        )
        .unwrap();
        assert_eq!(drafted.preprocessing, None);
        assert_eq!(
            drafted.schema["output"]["properties"]["p"]["description"],
            "a value for each of 3, 7, in this order"
        );
        let hint =
            format!("\"outputs\": {section}, and into schema.json /output/properties/p: {map}");
        assert!(
            drafted.notes.iter().any(|note| note.contains(&hint)),
            "{:?}",
            drafted.notes
        );
        let plain = vec![spec("p", DataType::Fp32, &[Dim::Fixed(2)])];
        assert!(
            draft(
                &Signature {
                    inputs: vec![],
                    outputs: plain
                },
                &Known::default()
            )
            .unwrap()
            .notes
            .iter()
            .any(|note| note.contains("`as_map`"))
        );
    }

    #[test]
    fn what_no_field_can_hold_is_drafted_otherwise_or_refused() {
        let drafted = |datatype, row: &[Dim]| {
            draft(&taking(vec![spec("x", datatype, row)]), &Known::default())
        };
        let expected =
            json!({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "boolean"}});
        assert_eq!(
            *property(&drafted(DataType::Bool, &[Dim::Fixed(2)]).unwrap(), "x"),
            expected
        );
        assert!(
            drafted(DataType::Bytes, &[Dim::Fixed(2)])
                .unwrap_err()
                .contains("one text a row")
        );
        assert_eq!(
            *property(&drafted(DataType::Bytes, &[Dim::Any]).unwrap(), "x"),
            json!({"type": "string"})
        );
    }
}
