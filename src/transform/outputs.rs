//! `Outputs`: the response fields of all rows, column by column.

use std::sync::Arc;

use serde_json::Value;

use crate::decode::elements::write_nested;

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
    Numbers { shape: Vec<usize>, values: Numbers },
    Bools {
        shape: Vec<usize>,
        values: Vec<bool>,
    },
    Texts {
        shape: Vec<usize>,
        values: Vec<String>,
    },
    /// A number for each label; the keys are `"label":` as JSON.
    Map { keys: Arc<[Json]>, values: Numbers },
    /// The best classes: `count` (label, score) a row.
    TopK {
        labels: Arc<[Json]>,
        count: usize,
        ranked: Vec<usize>,
        scores: Numbers,
    },
    /// Values of different shapes, as several runs gave them: for each row its run and its place there.
    Ragged {
        runs: Vec<OutputColumn>,
        rows: Arc<[(usize, usize)]>,
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
                Some(x) if x.is_finite() => {
                    text.extend_from_slice(ryu::Buffer::new().format_finite(*x).as_bytes())
                }
                _ => text.extend_from_slice(b"null"),
            },
            Numbers::F64(values) => match values.get(index) {
                Some(x) if x.is_finite() => {
                    text.extend_from_slice(ryu::Buffer::new().format_finite(*x).as_bytes())
                }
                _ => text.extend_from_slice(b"null"),
            },
            Numbers::Int(values) => {
                text.extend_from_slice(
                    itoa::Buffer::new()
                        .format(values.get(index).copied().unwrap_or_default())
                        .as_bytes(),
                );
            }
            Numbers::Uint(values) => {
                text.extend_from_slice(
                    itoa::Buffer::new()
                        .format(values.get(index).copied().unwrap_or_default())
                        .as_bytes(),
                );
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
        self.fields.iter().map(|(key, _)| {
            serde_json::from_str(key.strip_suffix(':').unwrap_or(key)).unwrap_or_default()
        })
    }

    /// One row as a document; for checks, not for the hot path.
    pub fn to_value(&self, row: usize) -> Value {
        let mut text = Vec::new();
        self.write_json(row, &mut text);
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// The answers of several runs of one version as one. `order`: where their rows, one after the other, belong; without it in
    /// this order. `None` where there is no run.
    pub fn gather(mut runs: Vec<Outputs>, order: Option<&[usize]>) -> Option<Outputs> {
        if runs.len() == 1 && order.is_none() {
            return runs.pop();
        }
        let found = runs
            .iter()
            .enumerate()
            .flat_map(|(run, outputs)| (0..outputs.rows).map(move |row| (run, row)));
        let mut rows: Vec<(usize, usize)> = found.collect();
        let mut places: Vec<usize> = (0..rows.len()).collect();
        if let Some(order) = order {
            let mut sorted: Vec<(usize, usize)> =
                order.iter().copied().zip(0..rows.len()).collect();
            sorted.sort_unstable();
            places = sorted.into_iter().map(|(_, place)| place).collect();
            rows = places
                .iter()
                .filter_map(|place| rows.get(*place).copied())
                .collect();
        }
        let rows: Arc<[(usize, usize)]> = Arc::from(rows);
        let keys: Vec<Json> = runs
            .first()?
            .fields
            .iter()
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let mut columns: Vec<_> = runs
            .into_iter()
            .map(|outputs| outputs.fields.into_iter())
            .collect();
        let mut fields = Vec::with_capacity(keys.len());
        for key in keys {
            let runs: Vec<OutputColumn> = columns
                .iter_mut()
                .filter_map(Iterator::next)
                .map(|(_, column)| column)
                .collect();
            fields.push((
                key,
                OutputColumn::gather(runs, &rows, order.map(|_| places.as_slice()))?,
            ));
        }
        Some(Outputs {
            rows: rows.len(),
            fields,
        })
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
                write_nested(
                    shape,
                    row * shape.iter().product::<usize>(),
                    text,
                    &mut |at, text| values.write(at, text),
                );
            }
            OutputColumn::Bools { shape, values } => write_nested(
                shape,
                row * shape.iter().product::<usize>(),
                text,
                &mut |at, text| {
                    text.extend_from_slice(if values.get(at) == Some(&true) {
                        b"true"
                    } else {
                        b"false"
                    });
                },
            ),
            OutputColumn::Texts { shape, values } => write_nested(
                shape,
                row * shape.iter().product::<usize>(),
                text,
                &mut |at, text| {
                    // Writing to memory cannot fail.
                    let _ = serde_json::to_writer(text, values.get(at).map_or("", String::as_str));
                },
            ),
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
            OutputColumn::TopK {
                labels,
                count,
                ranked,
                scores,
            } => {
                text.push(b'[');
                for (index, label) in ranked.iter().skip(row * count).take(*count).enumerate() {
                    text.extend_from_slice(if index > 0 {
                        b",{\"label\":"
                    } else {
                        b"{\"label\":"
                    });
                    write_label(labels, Some(label), text);
                    text.extend_from_slice(b",\"score\":");
                    scores.write(row * count + index, text);
                    text.push(b'}');
                }
                text.push(b']');
            }
            OutputColumn::Ragged { runs, rows } => match rows
                .get(row)
                .and_then(|(run, row)| Some((runs.get(*run)?, *row)))
            {
                Some((column, row)) => column.write_json(row, text),
                None => text.extend_from_slice(b"null"),
            },
        }
    }

    /// The values of several runs as one column, plain where all rows have one shape; `places`: which of them, one after the other,
    /// each row is.
    fn gather(
        runs: Vec<OutputColumn>,
        rows: &Arc<[(usize, usize)]>,
        places: Option<&[usize]>,
    ) -> Option<OutputColumn> {
        let (first, rest) = runs.split_first()?;
        if !rest.iter().all(|other| first.has_form_of(other)) {
            return Some(OutputColumn::Ragged {
                runs,
                rows: Arc::clone(rows),
            });
        }
        let mut runs = runs.into_iter();
        let mut all = runs.next()?;
        runs.for_each(|more| all.append(more));
        Some(match places {
            Some(places) => all.pick(places),
            None => all,
        })
    }

    /// Whether rows of both can stand in one column.
    fn has_form_of(&self, other: &OutputColumn) -> bool {
        match (self, other) {
            (OutputColumn::Numbers { shape, .. }, OutputColumn::Numbers { shape: other, .. })
            | (OutputColumn::Bools { shape, .. }, OutputColumn::Bools { shape: other, .. })
            | (OutputColumn::Texts { shape, .. }, OutputColumn::Texts { shape: other, .. }) => {
                shape == other
            }
            (OutputColumn::Labels { .. }, OutputColumn::Labels { .. })
            | (OutputColumn::Map { .. }, OutputColumn::Map { .. })
            | (OutputColumn::TopK { .. }, OutputColumn::TopK { .. }) => true,
            _ => false,
        }
    }

    /// The rows at these places.
    fn pick(&self, places: &[usize]) -> OutputColumn {
        fn each<T: Clone>(values: &[T], cells: impl Iterator<Item = usize>) -> Vec<T> {
            cells.filter_map(|cell| values.get(cell).cloned()).collect()
        }
        let cells = |width: usize| {
            places
                .iter()
                .flat_map(move |row| row * width..(row + 1) * width)
        };
        match self {
            OutputColumn::Labels { labels, indices } => OutputColumn::Labels {
                labels: Arc::clone(labels),
                indices: each(indices, cells(1)),
            },
            OutputColumn::Numbers { shape, values } => OutputColumn::Numbers {
                shape: shape.clone(),
                values: values.pick(cells(shape.iter().product())),
            },
            OutputColumn::Bools { shape, values } => OutputColumn::Bools {
                shape: shape.clone(),
                values: each(values, cells(shape.iter().product())),
            },
            OutputColumn::Texts { shape, values } => OutputColumn::Texts {
                shape: shape.clone(),
                values: each(values, cells(shape.iter().product())),
            },
            OutputColumn::Map { keys, values } => OutputColumn::Map {
                keys: Arc::clone(keys),
                values: values.pick(cells(keys.len())),
            },
            OutputColumn::TopK {
                labels,
                count,
                ranked,
                scores,
            } => OutputColumn::TopK {
                labels: Arc::clone(labels),
                count: *count,
                ranked: each(ranked, cells(*count)),
                scores: scores.pick(cells(*count)),
            },
            OutputColumn::Ragged { runs, rows } => OutputColumn::Ragged {
                runs: runs.clone(),
                rows: places
                    .iter()
                    .filter_map(|place| rows.get(*place).copied())
                    .collect(),
            },
        }
    }

    fn append(&mut self, other: OutputColumn) {
        match (self, other) {
            (OutputColumn::Labels { indices, .. }, OutputColumn::Labels { indices: more, .. }) => {
                indices.extend(more)
            }
            (
                OutputColumn::Numbers { values, .. } | OutputColumn::Map { values, .. },
                OutputColumn::Numbers { values: more, .. } | OutputColumn::Map { values: more, .. },
            ) => {
                values.append(more);
            }
            (OutputColumn::Bools { values, .. }, OutputColumn::Bools { values: more, .. }) => {
                values.extend(more)
            }
            (OutputColumn::Texts { values, .. }, OutputColumn::Texts { values: more, .. }) => {
                values.extend(more)
            }
            (
                OutputColumn::TopK { ranked, scores, .. },
                OutputColumn::TopK {
                    ranked: more,
                    scores: more_scores,
                    ..
                },
            ) => {
                ranked.extend(more);
                scores.append(more_scores);
            }
            _ => {}
        }
    }
}

fn write_label(labels: &[Json], index: Option<&usize>, text: &mut Vec<u8>) {
    text.extend_from_slice(
        index
            .and_then(|index| labels.get(*index))
            .map_or("null", |label| label)
            .as_bytes(),
    );
}

/// A label as a key of an answer, and as it is compared.
pub fn label_text(label: &Value) -> String {
    label
        .as_str()
        .map_or_else(|| label.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::transform::outputs::{Json, Numbers, OutputColumn, Outputs, json_key};

    fn run(shape: &[usize], first: i64, rows: usize) -> Outputs {
        let count = rows * shape.iter().product::<usize>();
        let values = Numbers::Int((first..).take(count).collect());
        let labels: Arc<[Json]> = Arc::from(["\"a\"", "\"b\""].map(Arc::from));
        let fields = vec![
            (
                json_key("x"),
                OutputColumn::Numbers {
                    shape: shape.to_vec(),
                    values,
                },
            ),
            (
                json_key("label"),
                OutputColumn::Labels {
                    labels: Arc::clone(&labels),
                    indices: (0..rows).map(|row| row % 2).collect(),
                },
            ),
            (
                json_key("map"),
                OutputColumn::Map {
                    keys: Arc::from([json_key("k")]),
                    values: Numbers::F64((0..rows).map(|row| row as f64).collect()),
                },
            ),
            (
                json_key("flag"),
                OutputColumn::Bools {
                    shape: Vec::new(),
                    values: (0..rows).map(|row| row == 0).collect(),
                },
            ),
            (
                json_key("text"),
                OutputColumn::Texts {
                    shape: Vec::new(),
                    values: (0..rows).map(|row| format!("{first}-{row}")).collect(),
                },
            ),
        ];
        Outputs { rows, fields }
    }

    fn x(outputs: &Outputs) -> Vec<Value> {
        (0..outputs.rows)
            .map(|row| outputs.to_value(row)["x"].clone())
            .collect()
    }

    #[test]
    fn rows_come_back_in_their_order() {
        // Rows 1 and 2 of the request ran together, and row 0 by itself.
        let same =
            Outputs::gather(vec![run(&[2], 10, 2), run(&[2], 20, 1)], Some(&[1, 2, 0])).unwrap();
        assert_eq!(
            x(&same),
            [json!([20, 21]), json!([10, 11]), json!([12, 13])]
        );
        assert!(matches!(same.fields[0].1, OutputColumn::Numbers { .. }));
        assert_eq!(
            same.to_value(2),
            json!({"x": [12, 13], "label": "b", "map": {"k": 1.0}, "flag": false, "text": "10-1"})
        );

        let ragged =
            Outputs::gather(vec![run(&[2], 10, 2), run(&[3], 20, 1)], Some(&[0, 2, 1])).unwrap();
        assert_eq!(
            x(&ragged),
            [json!([10, 11]), json!([20, 21, 22]), json!([12, 13])]
        );
        assert!(matches!(ragged.fields[0].1, OutputColumn::Ragged { .. }));
        assert!(matches!(ragged.fields[1].1, OutputColumn::Labels { .. }));
        assert_eq!(ragged.to_value(2)["text"], "10-1");
    }

    #[test]
    fn runs_without_an_order_follow_each_other() {
        let one = Outputs::gather(vec![run(&[], 1, 3)], None).unwrap();
        assert_eq!(x(&one), [1, 2, 3].map(Value::from));
        let two = Outputs::gather(vec![run(&[], 1, 2), run(&[], 7, 1)], None).unwrap();
        assert_eq!(x(&two), [1, 2, 7].map(Value::from));
        assert!(Outputs::gather(Vec::new(), None).is_none());
    }
}
