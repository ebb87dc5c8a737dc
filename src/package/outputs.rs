//! `Outputs`: the response fields of all rows, column by column.

use std::sync::Arc;

use serde_json::Value;

/// Pieces of JSON text, made once at load.
pub type Json = Arc<str>;

#[derive(Clone, Debug)]
pub struct Outputs {
    pub rows: usize,
    /// `"name":` as JSON, and the field's values.
    pub fields: Vec<(Json, OutputColumn)>,
}

#[derive(Clone, Debug)]
pub enum OutputColumn {
    /// One label a row, as an index into JSON texts.
    Labels {
        labels: Arc<[Json]>,
        indices: Vec<usize>,
    },
    /// Numbers with a shape a row; no dimension is a scalar.
    Numbers {
        shape: Vec<usize>,
        values: Numbers,
    },
    Bools {
        shape: Vec<usize>,
        values: Vec<bool>,
    },
    Texts {
        shape: Vec<usize>,
        values: Vec<String>,
    },
    /// A number for each label; the keys are `"label":` as JSON.
    Map {
        keys: Arc<[Json]>,
        values: Numbers,
    },
    /// The best classes: `count` (label, score) a row.
    TopK {
        labels: Arc<[Json]>,
        count: usize,
        ranked: Vec<usize>,
        scores: Numbers,
    },
}

/// Numbers in the precision in which the graph gave them, so that they print as short as they are.
#[derive(Clone, Debug)]
pub enum Numbers {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Int(Vec<i64>),
    Uint(Vec<u64>),
}

impl Numbers {
    pub fn len(&self) -> usize {
        match self {
            Numbers::F32(values) => values.len(),
            Numbers::F64(values) => values.len(),
            Numbers::Int(values) => values.len(),
            Numbers::Uint(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get_f64(&self, at: usize) -> Option<f64> {
        match self {
            Numbers::F32(values) => values.get(at).map(|value| f64::from(*value)),
            Numbers::F64(values) => values.get(at).copied(),
            Numbers::Int(values) => values.get(at).map(|value| *value as f64),
            Numbers::Uint(values) => values.get(at).map(|value| *value as f64),
        }
    }

    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Numbers::F32(values) => values.iter().map(|x| f64::from(*x)).collect(),
            Numbers::F64(values) => values.clone(),
            Numbers::Int(values) => values.iter().map(|x| *x as f64).collect(),
            Numbers::Uint(values) => values.iter().map(|x| *x as f64).collect(),
        }
    }

    fn write(&self, index: usize, text: &mut Vec<u8>) {
        match self {
            Numbers::F32(values) => match values.get(index) {
                Some(x) if x.is_finite() => text.extend_from_slice(ryu::Buffer::new().format_finite(*x).as_bytes()),
                _ => text.extend_from_slice(b"null"),
            },
            Numbers::F64(values) => match values.get(index) {
                Some(x) if x.is_finite() => text.extend_from_slice(ryu::Buffer::new().format_finite(*x).as_bytes()),
                _ => text.extend_from_slice(b"null"),
            },
            Numbers::Int(values) => {
                text.extend_from_slice(itoa::Buffer::new().format(values.get(index).copied().unwrap_or_default()).as_bytes());
            }
            Numbers::Uint(values) => {
                text.extend_from_slice(itoa::Buffer::new().format(values.get(index).copied().unwrap_or_default()).as_bytes());
            }
        }
    }

    /// The numbers at these places.
    pub fn pick(&self, places: impl Iterator<Item = usize>) -> Numbers {
        fn each<T: Copy>(values: &[T], places: impl Iterator<Item = usize>) -> Vec<T> {
            places.filter_map(|at| values.get(at).copied()).collect()
        }
        match self {
            Numbers::F32(values) => Numbers::F32(each(values, places)),
            Numbers::F64(values) => Numbers::F64(each(values, places)),
            Numbers::Int(values) => Numbers::Int(each(values, places)),
            Numbers::Uint(values) => Numbers::Uint(each(values, places)),
        }
    }

    fn append(&mut self, other: Numbers) {
        match (self, other) {
            (Numbers::F32(values), Numbers::F32(more)) => values.extend(more),
            (Numbers::F64(values), Numbers::F64(more)) => values.extend(more),
            (Numbers::Int(values), Numbers::Int(more)) => values.extend(more),
            (Numbers::Uint(values), Numbers::Uint(more)) => values.extend(more),
            _ => {}
        }
    }
}

/// A text as JSON.
pub fn json_text(text: &str) -> Json {
    Arc::from(Value::from(text).to_string())
}

/// A member's name and its colon as JSON.
pub fn json_key(name: &str) -> Json {
    Arc::from(format!("{}:", Value::from(name)))
}

impl Outputs {
    /// Writes one row as a JSON object.
    pub fn write_json(&self, row: usize, text: &mut Vec<u8>) {
        for (index, (key, column)) in self.fields.iter().enumerate() {
            text.push(if index == 0 { b'{' } else { b',' });
            text.extend_from_slice(key.as_bytes());
            column.write_json(row, text);
        }
        if self.fields.is_empty() {
            text.push(b'{');
        }
        text.push(b'}');
    }

    /// The fields' names in their order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.fields.iter().map(|(key, _)| serde_json::from_str(key.strip_suffix(':').unwrap_or(key)).unwrap_or_default())
    }

    /// One row as a document; for checks, not for the hot path.
    pub fn to_value(&self, row: usize) -> Value {
        let mut text = Vec::new();
        self.write_json(row, &mut text);
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Adds the rows of another answer of the same version.
    pub fn append(&mut self, other: Outputs) {
        self.rows += other.rows;
        for ((_, column), (_, more)) in self.fields.iter_mut().zip(other.fields) {
            column.append(more);
        }
    }
}

impl OutputColumn {
    /// Writes one row's value.
    pub fn write_json(&self, row: usize, text: &mut Vec<u8>) {
        match self {
            OutputColumn::Labels { labels, indices } => write_label(labels, indices.get(row), text),
            OutputColumn::Numbers { shape, values } => {
                write_nested(shape, row * shape.iter().product::<usize>(), text, &mut |at, text| values.write(at, text));
            }
            OutputColumn::Bools { shape, values } => write_nested(shape, row * shape.iter().product::<usize>(), text, &mut |at, text| {
                text.extend_from_slice(if values.get(at) == Some(&true) { b"true" } else { b"false" });
            }),
            OutputColumn::Texts { shape, values } => write_nested(shape, row * shape.iter().product::<usize>(), text, &mut |at, text| {
                // Writing to memory cannot fail.
                let _ = serde_json::to_writer(text, values.get(at).map_or("", String::as_str));
            }),
            OutputColumn::Map { keys, values } => {
                text.push(b'{');
                for (index, key) in keys.iter().enumerate() {
                    if index > 0 {
                        text.push(b',');
                    }
                    text.extend_from_slice(key.as_bytes());
                    values.write(row * keys.len() + index, text);
                }
                text.push(b'}');
            }
            OutputColumn::TopK { labels, count, ranked, scores } => {
                text.push(b'[');
                for (index, label) in ranked.iter().skip(row * count).take(*count).enumerate() {
                    text.extend_from_slice(if index > 0 { b",{\"label\":" } else { b"{\"label\":" });
                    write_label(labels, Some(label), text);
                    text.extend_from_slice(b",\"score\":");
                    scores.write(row * count + index, text);
                    text.push(b'}');
                }
                text.push(b']');
            }
        }
    }

    fn append(&mut self, other: OutputColumn) {
        match (self, other) {
            (OutputColumn::Labels { indices, .. }, OutputColumn::Labels { indices: more, .. }) => indices.extend(more),
            (
                OutputColumn::Numbers { values, .. } | OutputColumn::Map { values, .. },
                OutputColumn::Numbers { values: more, .. } | OutputColumn::Map { values: more, .. },
            ) => {
                values.append(more);
            }
            (OutputColumn::Bools { values, .. }, OutputColumn::Bools { values: more, .. }) => values.extend(more),
            (OutputColumn::Texts { values, .. }, OutputColumn::Texts { values: more, .. }) => values.extend(more),
            (OutputColumn::TopK { ranked, scores, .. }, OutputColumn::TopK { ranked: more, scores: more_scores, .. }) => {
                ranked.extend(more);
                scores.append(more_scores);
            }
            _ => {}
        }
    }
}

fn write_label(labels: &[Json], index: Option<&usize>, text: &mut Vec<u8>) {
    text.extend_from_slice(index.and_then(|index| labels.get(*index)).map_or("null", |label| label).as_bytes());
}

/// Values from `start` on as JSON, nested as `shape` says.
pub fn write_nested(shape: &[usize], start: usize, text: &mut Vec<u8>, write: &mut dyn FnMut(usize, &mut Vec<u8>)) {
    let Some((length, inner)) = shape.split_first() else {
        return write(start, text);
    };
    let step: usize = inner.iter().product();
    text.push(b'[');
    for index in 0..*length {
        if index > 0 {
            text.push(b',');
        }
        write_nested(inner, start + index * step, text, write);
    }
    text.push(b']');
}
