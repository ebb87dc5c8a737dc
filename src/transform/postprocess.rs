//! Postprocess: from the graph's outputs to the response's fields.

use std::{cmp::Ordering, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    tensor::{
        Data, DataType, Dim, Rearrangement, Shape, Tensor, Tensors, from_end,
        signature::{Signature, TensorSpec},
    },
    transform::{
        constant::{self, Form},
        fields::{self, Labels},
        outputs::{Json, Numbers, OutputColumn, Outputs, json_key, json_text, label_text},
    },
};

/// What is wrong with the declaration, as a pointer into its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostprocessError {
    pub pointer: String,
    pub detail: String,
}

/// An answer of the model that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("output `{field}`: {detail}")]
pub struct PostprocessFault {
    pub field: String,
    pub detail: String,
    /// The model answered a number that is none.
    pub not_finite: bool,
}

/// What is wrong with one output.
struct Wrong {
    detail: String,
    not_finite: bool,
}

impl From<String> for Wrong {
    fn from(detail: String) -> Wrong {
        Wrong {
            detail,
            not_finite: false,
        }
    }
}

impl From<&str> for Wrong {
    fn from(detail: &str) -> Wrong {
        Wrong::from(detail.to_owned())
    }
}

#[derive(Debug)]
pub struct Postprocess {
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    name: String,
    key: Json,
    from: Arc<str>,
    /// Come first, and change the whole output, the dimension of the rows included.
    moves: Vec<Rearrangement>,
    steps: Vec<Compiled>,
    nullable: bool,
    /// A row of free width is a list also where it holds one value.
    list: bool,
}

/// Which of the graph's outputs a field of the response is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    pub field: &'a str,
    pub output: &'a str,
    /// `take` or `transpose` come first: the output's own leading dimension need not be the rows.
    pub rearranged: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Step {
    Take {
        axis: i64,
        index: i64,
    },
    Transpose {
        axes: Vec<i64>,
    },
    Argmax {
        labels: Option<Vec<Value>>,
    },
    Softmax {},
    Sigmoid {},
    Threshold {
        value: f64,
        labels: Option<Vec<Value>>,
        index: Option<usize>,
    },
    TopK {
        k: usize,
        labels: Vec<Value>,
    },
    AsMap {
        labels: Vec<Value>,
    },
    Round {
        decimals: i32,
    },
    InverseScale {
        mean: f64,
        std: f64,
    },
}

#[derive(Debug)]
enum Compiled {
    Argmax(Option<Arc<[Json]>>),
    Softmax,
    Sigmoid,
    Threshold {
        value: f64,
        labels: Option<Arc<[Json]>>,
        index: Option<usize>,
    },
    TopK {
        k: usize,
        labels: Arc<[Json]>,
    },
    AsMap(Arc<[Json]>),
    Round(i32),
    InverseScale {
        mean: f64,
        std: f64,
    },
}

fn fail<T>(pointer: String, detail: impl Into<String>) -> Result<T, PostprocessError> {
    Err(PostprocessError {
        pointer,
        detail: detail.into(),
    })
}

impl Postprocess {
    /// Checks the section `outputs` against the graph; without a section each graph output answers under its own name.
    pub fn compile(
        section: Option<&Value>,
        signature: &Signature,
        nullable: impl Fn(&str) -> bool,
    ) -> Result<Postprocess, PostprocessError> {
        let own_names;
        let declared: &Map<String, Value> = match section {
            None => {
                own_names = signature
                    .outputs
                    .iter()
                    .map(|spec| {
                        (
                            spec.name.to_string(),
                            serde_json::json!({"from": &*spec.name}),
                        )
                    })
                    .collect();
                &own_names
            }
            Some(Value::Object(declared)) if !declared.is_empty() => declared,
            Some(_) => return fail(String::new(), "must be an object with at least one field"),
        };
        let mut fields = Vec::new();
        for (name, section) in declared {
            let pointer = format!("/{name}");
            let Some(members) = section.as_object() else {
                return fail(pointer, "must be an object");
            };
            if let Some(unknown) = members
                .keys()
                .find(|key| !["from", "steps"].contains(&key.as_str()))
            {
                return fail(
                    format!("{pointer}/{unknown}"),
                    "unknown member; known are from, steps",
                );
            }
            let from = members.get("from").and_then(Value::as_str).unwrap_or(name);
            let Some(spec) = signature.output(from) else {
                let known: Vec<&str> = signature.outputs.iter().map(|spec| &*spec.name).collect();
                return fail(
                    format!("{pointer}/from"),
                    format!(
                        "the graph has no output \"{from}\"; it has {}",
                        known.join(", ")
                    ),
                );
            };
            let list = members.get("steps").map_or(Ok(&[][..]), |list| {
                list.as_array().map_or_else(
                    || fail(format!("{pointer}/steps"), "must be a list of steps"),
                    |list| Ok(list.as_slice()),
                )
            })?;
            let (moves, steps) = compile_steps(list, spec, &format!("{pointer}/steps"))?;
            fields.push(Field {
                name: name.clone(),
                key: json_key(name),
                from: Arc::clone(&spec.name),
                moves,
                steps,
                nullable: nullable(name),
                list: false,
            });
        }
        Ok(Postprocess { fields })
    }

    /// Has rows of a free width answered as lists, whatever their length, where the schema takes nothing else for the field.
    #[must_use]
    pub fn with_lists(
        mut self,
        signature: &Signature,
        is_list: impl Fn(&str) -> bool,
    ) -> Postprocess {
        for field in &mut self.fields {
            let described = signature
                .output(&field.from)
                .map(|from| field.describe(from))
                .unwrap_or_default();
            field.list = is_list(&field.name)
                && described
                    .first()
                    .is_some_and(|spec| spec.shape.row() == [Dim::Any]);
        }
        self
    }

    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// What each field is made of, in the fields' order.
    pub fn sources(&self) -> impl Iterator<Item = Source<'_>> {
        self.fields.iter().map(|field| Source {
            field: &field.name,
            output: &field.from,
            rearranged: !field.moves.is_empty(),
        })
    }

    /// The response fields as tensors, as `fields::tensors` makes them.
    pub fn describe(&self, signature: &Signature) -> Vec<TensorSpec> {
        self.fields
            .iter()
            .filter_map(|field| Some((field, signature.output(&field.from)?)))
            .flat_map(|(field, from)| field.describe(from))
            .collect()
    }

    /// One row with the values of `answer`, in the types in which the graph's own come.
    pub fn constant(
        &self,
        answer: &Map<String, Value>,
        signature: &Signature,
    ) -> Result<Outputs, (String, String)> {
        let fields = self.fields.iter().filter_map(|field| {
            let described = field.describe(signature.output(&field.from)?);
            let datatype = described.first()?.datatype;
            let form = match field.steps.last() {
                Some(
                    Compiled::Argmax(Some(labels))
                    | Compiled::Threshold {
                        labels: Some(labels),
                        ..
                    },
                ) => Form::Labels(Arc::clone(labels)),
                Some(Compiled::AsMap(keys)) => Form::Map(Arc::clone(keys), datatype),
                Some(Compiled::TopK { .. }) => Form::Ranked,
                _ => Form::Value(datatype),
            };
            Some((field.name.clone(), Arc::clone(&field.key), form))
        });
        constant::outputs(answer, fields)
    }

    /// The response fields of `rows` rows.
    pub fn apply(&self, outputs: &Tensors, rows: usize) -> Result<Outputs, PostprocessFault> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let fault = |Wrong { detail, not_finite }| PostprocessFault {
                field: field.name.clone(),
                detail,
                not_finite,
            };
            let mut column = field.apply(outputs, rows).map_err(fault)?;
            if let OutputColumn::Numbers { shape, .. }
            | OutputColumn::Bools { shape, .. }
            | OutputColumn::Texts { shape, .. } = &mut column
                && field.list
                && shape.is_empty()
            {
                shape.push(1);
            }
            fields.push((Arc::clone(&field.key), column));
        }
        Ok(Outputs { rows, fields })
    }
}

fn compile_steps(
    list: &[Value],
    spec: &TensorSpec,
    pointer: &str,
) -> Result<(Vec<Rearrangement>, Vec<Compiled>), PostprocessError> {
    let (mut moves, mut steps) = (Vec::new(), Vec::new());
    let mut shape = spec.shape.0.clone();
    for (index, step) in list.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        let step: Step = serde_json::from_value(step.clone()).or_else(|error| {
            fail(
                pointer.clone(),
                error.to_string().replace("unknown variant", "unknown step"),
            )
        })?;
        match step {
            Step::Take { .. } | Step::Transpose { .. } if !steps.is_empty() => {
                return fail(
                    pointer,
                    "take and transpose must come before every other step",
                );
            }
            Step::Take { axis, index } => moves.push(compile_move(
                Rearrangement::Take { axis, index },
                &mut shape,
                &pointer,
            )?),
            Step::Transpose { axes } => moves.push(compile_move(
                Rearrangement::Transpose(axes),
                &mut shape,
                &pointer,
            )?),
            _ if spec.datatype == DataType::Bytes => {
                return fail(pointer, "only take and transpose take texts");
            }
            step => {
                let width = match shape.get(1..).unwrap_or_default() {
                    [] => Some(1),
                    [Dim::Fixed(width)] => Some(*width),
                    _ => None,
                };
                steps.push(compile_step(
                    step,
                    &pointer,
                    width,
                    index + 1 == list.len(),
                )?);
            }
        }
    }
    if !moves.is_empty() && !matches!(shape.first(), Some(Dim::Any | Dim::Fixed(1))) {
        let detail = format!(
            "after take and transpose the first dimension must be the rows; it is {}",
            Shape(shape)
        );
        return fail(pointer.to_owned(), detail);
    }
    Ok((moves, steps))
}

/// Checks a change against the shape before it, and leaves the shape after it.
fn compile_move(
    change: Rearrangement,
    shape: &mut Vec<Dim>,
    pointer: &str,
) -> Result<Rearrangement, PostprocessError> {
    let before = Shape(shape.clone());
    let Some(axes) = change.axes(shape.len()) else {
        return fail(
            pointer.to_owned(),
            match &change {
                Rearrangement::Take { axis, .. } => format!("there is no axis {axis} in {before}"),
                Rearrangement::Transpose(_) => format!("axes must name each axis of {before} once"),
            },
        );
    };
    if let Rearrangement::Take { axis, index } = &change
        && let Some(Dim::Fixed(size)) =
            from_end(*axis, shape.len()).and_then(|axis| shape.get(axis))
        && from_end(*index, *size).is_none()
    {
        return fail(
            format!("{pointer}/index"),
            format!("is outside of the axis, which has the size {size} in {before}"),
        );
    }
    *shape = axes
        .iter()
        .filter_map(|axis| shape.get(*axis).copied())
        .collect();
    Ok(change)
}

fn compile_step(
    step: Step,
    pointer: &str,
    width: Option<usize>,
    last: bool,
) -> Result<Compiled, PostprocessError> {
    let labels =
        |labels: Vec<Value>, expected: Option<usize>| -> Result<Arc<[Json]>, PostprocessError> {
            if let Some(expected) = expected.filter(|expected| *expected != labels.len()) {
                return fail(
                    format!("{pointer}/labels"),
                    format!(
                        "has {} labels; the graph gives {expected} values a row",
                        labels.len()
                    ),
                );
            }
            if labels
                .iter()
                .any(|label| label.is_array() || label.is_object() || label.is_null())
            {
                return fail(
                    format!("{pointer}/labels"),
                    "must be texts, numbers or booleans",
                );
            }
            Ok(labels
                .iter()
                .map(|label| Arc::from(label.to_string()))
                .collect())
        };
    if !last
        && matches!(
            step,
            Step::Argmax { .. } | Step::Threshold { .. } | Step::TopK { .. } | Step::AsMap { .. }
        )
    {
        return fail(pointer.to_owned(), "must be the last step");
    }
    Ok(match step {
        Step::Argmax { labels: list } => {
            Compiled::Argmax(list.map(|list| labels(list, width)).transpose()?)
        }
        Step::Softmax {} => Compiled::Softmax,
        Step::Sigmoid {} => Compiled::Sigmoid,
        Step::Threshold {
            value,
            labels: list,
            index,
        } => {
            if index.is_none() && width.is_some_and(|width| width != 1) {
                return fail(
                    pointer.to_owned(),
                    "the graph gives several values a row: say which with \"index\"",
                );
            }
            if index
                .zip(width)
                .is_some_and(|(index, width)| index >= width)
            {
                return fail(format!("{pointer}/index"), "is beyond the values of a row");
            }
            Compiled::Threshold {
                value,
                labels: list.map(|list| labels(list, Some(2))).transpose()?,
                index,
            }
        }
        Step::TopK { k, labels: list } => {
            let labels = labels(list, width)?;
            if k == 0 || k > labels.len() {
                return fail(
                    format!("{pointer}/k"),
                    format!("must be from 1 to {}", labels.len()),
                );
            }
            Compiled::TopK { k, labels }
        }
        Step::AsMap { labels: list } => {
            let plain: Vec<String> = list.iter().map(label_text).collect();
            labels(list, width)?;
            Compiled::AsMap(
                plain
                    .iter()
                    .map(|label| Arc::from(format!("{}:", json_text(label))))
                    .collect(),
            )
        }
        Step::Round { decimals } if (-15..=15).contains(&decimals) => Compiled::Round(decimals),
        Step::Round { .. } => return fail(format!("{pointer}/decimals"), "must be from -15 to 15"),
        Step::InverseScale { std: 0.0, .. } => {
            return fail(format!("{pointer}/std"), "must not be 0");
        }
        Step::InverseScale { mean, std } => Compiled::InverseScale { mean, std },
        Step::Take { .. } | Step::Transpose { .. } => {
            return fail(pointer.to_owned(), "must come before every other step");
        }
    })
}

impl Field {
    fn describe(&self, from: &TensorSpec) -> Vec<TensorSpec> {
        let mut datatype = match from.datatype {
            DataType::Fp16 | DataType::Bf16 | DataType::Fp32 => DataType::Fp32,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Int64,
            DataType::Uint8 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => {
                DataType::Uint64
            }
            other => other,
        };
        let mut whole = from.shape.0.clone();
        for change in &self.moves {
            let axes = change.axes(whole.len()).unwrap_or_default();
            whole = axes
                .iter()
                .filter_map(|axis| whole.get(*axis).copied())
                .collect();
        }
        let mut row: Vec<Dim> = match whole.get(1..).unwrap_or_default() {
            [Dim::Fixed(1)] => Vec::new(),
            row => row.to_vec(),
        };
        let spec = |name: &str, datatype: DataType, row: &[Dim]| {
            let row = if row.is_empty() {
                &[Dim::Fixed(1)]
            } else {
                row
            };
            TensorSpec {
                name: Arc::from(name),
                datatype,
                shape: Shape([&[Dim::Any], row].concat()),
            }
        };
        for step in &self.steps {
            match step {
                Compiled::Argmax(Some(labels))
                | Compiled::Threshold {
                    labels: Some(labels),
                    ..
                } => {
                    return vec![spec(&self.name, Labels::read(labels).datatype(), &[])];
                }
                Compiled::Argmax(None) => {
                    row.pop();
                    return vec![spec(&self.name, DataType::Int64, &row)];
                }
                Compiled::Threshold { labels: None, .. } => {
                    return vec![spec(&self.name, DataType::Bool, &[])];
                }
                Compiled::TopK { k, labels } => {
                    let names = spec(
                        &self.name,
                        Labels::read(labels).datatype(),
                        &[Dim::Fixed(*k)],
                    );
                    return vec![
                        names,
                        spec(&fields::score_name(&self.name), datatype, &[Dim::Fixed(*k)]),
                    ];
                }
                Compiled::AsMap(keys) => {
                    return vec![spec(&self.name, datatype, &[Dim::Fixed(keys.len())])];
                }
                Compiled::Softmax
                | Compiled::Sigmoid
                | Compiled::Round(_)
                | Compiled::InverseScale { .. } => {
                    if datatype != DataType::Fp32 {
                        datatype = DataType::Fp64;
                    }
                }
            }
        }
        vec![spec(&self.name, datatype, &row)]
    }

    fn apply(&self, outputs: &Tensors, rows: usize) -> Result<OutputColumn, Wrong> {
        let given = outputs
            .get(&self.from)
            .ok_or("the model gave no such output")?;
        let rearranged;
        let tensor = if self.moves.is_empty() {
            given
        } else {
            let wrong = || {
                format!(
                    "the model answered with the shape {:?}, which take and transpose don't fit",
                    given.shape()
                )
            };
            rearranged = given.rearranged(&self.moves).ok_or_else(wrong)?;
            &rearranged
        };
        if !tensor.shape().is_empty() && tensor.rows() != rows
            || tensor.shape().is_empty() && rows != 1
        {
            return Err(format!(
                "the model answered with the shape {:?} for {rows} rows",
                tensor.shape()
            )
            .into());
        }
        let shape = row_shape(tensor);
        let mut values = match numbers(tensor.data()) {
            Some(values) => values,
            None => {
                return Ok(match tensor.data() {
                    Data::Bool(values) => OutputColumn::Bools {
                        shape,
                        values: values.clone(),
                    },
                    Data::Bytes(values) => OutputColumn::Texts {
                        shape,
                        values: values.clone(),
                    },
                    _ => return Err("has a type that has no numbers".into()),
                });
            }
        };
        self.check_finite(&values)?;
        // Steps work along the last axis, as NumPy's and SciPy's do with axis=-1.
        let width = shape.last().copied().unwrap_or(1);
        for step in &self.steps {
            match step {
                Compiled::Argmax(labels) => {
                    return argmax(&values, &shape, labels.as_ref()).map_err(Wrong::from);
                }
                _ if shape.len() > 1
                    && !matches!(
                        step,
                        Compiled::Softmax
                            | Compiled::Sigmoid
                            | Compiled::Round(_)
                            | Compiled::InverseScale { .. }
                    ) =>
                {
                    return Err(format!(
                        "the model gave {shape:?} a row, where one list of values is expected"
                    )
                    .into());
                }
                Compiled::Threshold {
                    value,
                    labels,
                    index,
                } => {
                    return threshold(&values, width, (*value, *index), labels.as_ref())
                        .map_err(Wrong::from);
                }
                Compiled::TopK { k, labels } => {
                    return top_k(&values, width, *k, labels).map_err(Wrong::from);
                }
                Compiled::AsMap(keys) if keys.len() == width => {
                    return Ok(OutputColumn::Map {
                        keys: Arc::clone(keys),
                        values,
                    });
                }
                Compiled::AsMap(keys) => {
                    return Err(format!(
                        "the model gave {width} values a row for {} labels",
                        keys.len()
                    )
                    .into());
                }
                Compiled::Softmax => map_rows(&mut values, width, softmax),
                Compiled::Sigmoid => map_each(&mut values, |x| 1.0 / (1.0 + (-x).exp())),
                Compiled::Round(decimals) => map_each(&mut values, |x| round(x, *decimals)),
                Compiled::InverseScale { mean, std } => map_each(&mut values, |x| x * std + mean),
            }
        }
        self.check_finite(&values)?;
        Ok(OutputColumn::Numbers { shape, values })
    }

    /// A number that JSON can't carry is an answer only where the schema says that null is one.
    fn check_finite(&self, values: &Numbers) -> Result<(), Wrong> {
        let bad = match values {
            _ if self.nullable => None,
            Numbers::F32(values) => values
                .iter()
                .find(|x| !x.is_finite())
                .map(|x| f64::from(*x)),
            Numbers::F64(values) => values.iter().find(|x| !x.is_finite()).copied(),
            Numbers::Int(_) | Numbers::Uint(_) => None,
        };
        let wrong = |bad| Wrong {
            detail: format!("the model answered {bad}, which is no answer"),
            not_finite: true,
        };
        bad.map_or(Ok(()), |bad| Err(wrong(bad)))
    }
}

/// numpy.round: half to even, after scaling by a power of ten that is exact.
fn round(x: f64, decimals: i32) -> f64 {
    let power = 10f64.powi(decimals.abs());
    if decimals >= 0 {
        (x * power).round_ties_even() / power
    } else {
        (x / power).round_ties_even() * power
    }
}

/// [N] and [N, 1] are scalars.
fn row_shape(tensor: &Tensor) -> Vec<usize> {
    match tensor.shape() {
        [] | [_] | [_, 1] => Vec::new(),
        [_, rest @ ..] => rest.to_vec(),
    }
}

fn numbers(data: &Data) -> Option<Numbers> {
    fn signed<T: Copy + Into<i64>>(values: &[T]) -> Numbers {
        Numbers::Int(values.iter().map(|x| (*x).into()).collect())
    }
    fn unsigned<T: Copy + Into<u64>>(values: &[T]) -> Numbers {
        Numbers::Uint(values.iter().map(|x| (*x).into()).collect())
    }
    Some(match data {
        Data::Fp32(values) => Numbers::F32(values.to_vec()),
        Data::Fp64(values) => Numbers::F64(values.to_vec()),
        Data::Fp16(values) => Numbers::F32(values.iter().map(|x| x.to_f32()).collect()),
        Data::Bf16(values) => Numbers::F32(values.iter().map(|x| x.to_f32()).collect()),
        Data::Int8(values) => signed(values),
        Data::Int16(values) => signed(values),
        Data::Int32(values) => signed(values),
        Data::Int64(values) => signed(values),
        Data::Uint8(values) => unsigned(values),
        Data::Uint16(values) => unsigned(values),
        Data::Uint32(values) => unsigned(values),
        Data::Uint64(values) => unsigned(values),
        Data::Bool(_) | Data::Bytes(_) => return None,
    })
}

fn map_each(values: &mut Numbers, step: impl Fn(f64) -> f64) {
    match values {
        Numbers::F32(values) => values
            .iter_mut()
            .for_each(|x| *x = step(f64::from(*x)) as f32),
        Numbers::F64(values) => values.iter_mut().for_each(|x| *x = step(*x)),
        Numbers::Int(_) | Numbers::Uint(_) => {
            *values = Numbers::F64(values.to_f64().into_iter().map(step).collect())
        }
    }
}

fn map_rows(values: &mut Numbers, width: usize, step: fn(&mut [f64])) {
    let mut wide = values.to_f64();
    wide.chunks_mut(width.max(1)).for_each(step);
    *values = match values {
        Numbers::F32(_) => Numbers::F32(wide.into_iter().map(|x| x as f32).collect()),
        _ => Numbers::F64(wide),
    };
}

/// exp(x - max) / sum, as scipy.special.softmax.
fn softmax(row: &mut [f64]) {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}

/// The first of the largest, as numpy.argmax.
fn largest<T: PartialOrd + Copy>(row: &[T]) -> usize {
    let mut best = 0;
    for (index, x) in row.iter().enumerate() {
        if row.get(best).is_some_and(|largest| x > largest) {
            best = index;
        }
    }
    best
}

fn argmax(
    values: &Numbers,
    shape: &[usize],
    labels: Option<&Arc<[Json]>>,
) -> Result<OutputColumn, String> {
    let width = shape.last().copied().unwrap_or(1);
    let each = width.max(1);
    let indices: Vec<usize> = match values {
        Numbers::F32(values) => values.chunks(each).map(largest).collect(),
        Numbers::F64(values) => values.chunks(each).map(largest).collect(),
        Numbers::Int(values) => values.chunks(each).map(largest).collect(),
        Numbers::Uint(values) => values.chunks(each).map(largest).collect(),
    };
    match labels {
        None => {
            let shape = shape
                .split_last()
                .map_or_else(Vec::new, |(_, before)| before.to_vec());
            Ok(OutputColumn::Numbers {
                shape,
                values: Numbers::Int(indices.into_iter().map(|index| index as i64).collect()),
            })
        }
        Some(_) if shape.len() > 1 => Err(format!(
            "the model gave {shape:?} a row, where one list of values is expected"
        )),
        Some(labels) if labels.len() == width => Ok(OutputColumn::Labels {
            labels: Arc::clone(labels),
            indices,
        }),
        Some(labels) => Err(format!(
            "the model gave {width} values a row for {} labels",
            labels.len()
        )),
    }
}

fn threshold(
    values: &Numbers,
    width: usize,
    (threshold, index): (f64, Option<usize>),
    labels: Option<&Arc<[Json]>>,
) -> Result<OutputColumn, String> {
    let index = index.unwrap_or(0);
    if index >= width {
        return Err(format!("the model gave {width} values a row"));
    }
    // In the values' own precision, as NumPy compares an array with a number: 0.7 reaches 0.7.
    let reached: Vec<bool> = match values {
        Numbers::F32(values) => values
            .iter()
            .skip(index)
            .step_by(width)
            .map(|x| *x >= threshold as f32)
            .collect(),
        values => values
            .to_f64()
            .iter()
            .skip(index)
            .step_by(width)
            .map(|x| *x >= threshold)
            .collect(),
    };
    Ok(match labels {
        Some(labels) => OutputColumn::Labels {
            labels: Arc::clone(labels),
            indices: reached.into_iter().map(usize::from).collect(),
        },
        None => OutputColumn::Bools {
            shape: Vec::new(),
            values: reached,
        },
    })
}

fn top_k(
    values: &Numbers,
    width: usize,
    k: usize,
    labels: &Arc<[Json]>,
) -> Result<OutputColumn, String> {
    if labels.len() != width {
        return Err(format!(
            "the model gave {width} values a row for {} labels",
            labels.len()
        ));
    }
    let mut ranked = Vec::new();
    for (row, scores) in values.to_f64().chunks(width).enumerate() {
        let mut order: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
        // Stable: equal scores stay in the order of the labels.
        order.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
        ranked.extend(
            order
                .into_iter()
                .take(k)
                .map(|(label, _)| (label, row * width + label)),
        );
    }
    let scores = values.pick(ranked.iter().map(|(_, at)| *at));
    Ok(OutputColumn::TopK {
        labels: Arc::clone(labels),
        count: k,
        ranked: ranked.into_iter().map(|(label, _)| label).collect(),
        scores,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::{
        tensor::{
            Data, DataType, Dim, Shape, Tensor, Tensors,
            signature::{Signature, TensorSpec},
        },
        transform::postprocess::{Postprocess, PostprocessError, Source},
    };

    const TARGETS: [Dim; 3] = [Dim::Fixed(2), Dim::Any, Dim::Fixed(3)];

    fn signature(datatype: DataType) -> Signature {
        Signature {
            inputs: Vec::new(),
            outputs: vec![TensorSpec {
                name: "y".into(),
                datatype,
                shape: Shape(TARGETS.to_vec()),
            }],
        }
    }

    fn compile(steps: &Value, datatype: DataType) -> Result<Postprocess, PostprocessError> {
        Postprocess::compile(
            Some(&json!({"a": {"from": "y", "steps": steps}})),
            &signature(datatype),
            |_| false,
        )
    }

    #[test]
    fn rearrangements_are_checked_against_the_graph() {
        let cases = [
            (
                json!([{"take": {"axis": 3, "index": 0}}]),
                "/a/steps/0",
                "there is no axis 3 in [2, -1, 3]",
            ),
            (
                json!([{"take": {"axis": 0, "index": 2}}]),
                "/a/steps/0/index",
                "which has the size 2 in [2, -1, 3]",
            ),
            (
                json!([{"take": {"axis": -1, "index": -4}}]),
                "/a/steps/0/index",
                "the size 3",
            ),
            (
                json!([{"transpose": {"axes": [0, 1]}}]),
                "/a/steps/0",
                "each axis of [2, -1, 3] once",
            ),
            (
                json!([{"transpose": {"axes": [1, 1, 2]}}]),
                "/a/steps/0",
                "once",
            ),
            (
                json!([{"take": {"axis": 0}}]),
                "/a/steps/0",
                "missing field `index`",
            ),
            (
                json!([{"take": {"axis": 2, "index": 0}}]),
                "/a/steps",
                "the first dimension must be the rows; it is [2, -1]",
            ),
            (
                json!([{"transpose": {"axes": [2, 1, 0]}}]),
                "/a/steps",
                "it is [3, -1, 2]",
            ),
            (
                json!([{"softmax": {}}, {"take": {"axis": 0, "index": 0}}]),
                "/a/steps/1",
                "must come before every other step",
            ),
            (
                json!([{"take": {"axis": 0, "index": 0}}, {"argmax": {"labels": ["a", "b"]}}]),
                "/a/steps/1/labels",
                "3 values a row",
            ),
        ];
        for (steps, pointer, detail) in cases {
            let error = compile(&steps, DataType::Fp32).map(|_| ()).unwrap_err();
            assert_eq!(error.pointer, pointer, "{steps}: {error:?}");
            assert!(error.detail.contains(detail), "{steps}: {error:?}");
        }
        let texts = json!([{"take": {"axis": 0, "index": 0}}, {"softmax": {}}]);
        assert!(
            compile(&texts, DataType::Bytes)
                .map(|_| ())
                .unwrap_err()
                .detail
                .contains("only take and transpose")
        );
    }

    #[test]
    fn fields_are_described_as_they_are_rearranged() {
        let cases = [
            (
                json!([{"take": {"axis": 0, "index": 1}}]),
                DataType::Fp32,
                "float32[-1, 3]",
            ),
            (
                json!([{"transpose": {"axes": [1, 0, 2]}}]),
                DataType::Bool,
                "bool[-1, 2, 3]",
            ),
            (
                json!([{"transpose": {"axes": [1, 0, 2]}}, {"argmax": {}}]),
                DataType::Fp32,
                "int64[-1, 2]",
            ),
            (
                json!([{"take": {"axis": 0, "index": 0}}, {"take": {"axis": 1, "index": 0}}]),
                DataType::Bytes,
                "string[-1, 1]",
            ),
        ];
        for (steps, datatype, expected) in cases {
            let compiled = compile(&steps, datatype).unwrap();
            let described: Vec<String> = compiled
                .describe(&signature(datatype))
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(described, [expected], "{steps}");
            assert_eq!(
                compiled.sources().collect::<Vec<_>>(),
                [Source {
                    field: "a",
                    output: "y",
                    rearranged: true
                }]
            );
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_none() {
        let compiled =
            compile(&json!([{"take": {"axis": 0, "index": 1}}]), DataType::Fp32).unwrap();
        let answer = |shape: &[usize]| {
            let data = Data::zeros(DataType::Fp32, shape.iter().product());
            compiled.apply(
                &Tensors(vec![(
                    Arc::from("y"),
                    Tensor::new(shape.to_vec(), data).unwrap(),
                )]),
                4,
            )
        };
        assert!(answer(&[2, 4, 3]).is_ok());
        for shape in [&[1, 4, 3][..], &[2, 5, 3], &[]] {
            assert!(answer(shape).is_err(), "{shape:?}");
        }
    }
}
