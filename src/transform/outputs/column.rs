//! `OutputColumn`: the values of one response field in all rows.

use std::sync::Arc;

use crate::{
    decode::elements::write_nested,
    transform::outputs::{Json, Numbers},
};

/// The values of one response field in all rows. `shape` is the shape of one row, and is empty for
/// a scalar.
#[derive(Clone, Debug)]
pub enum OutputColumn {
    /// One label per row, as an index into `labels`, which are JSON texts.
    Labels {
        labels: Arc<[Json]>,
        indices: Vec<usize>,
    },
    /// Numbers in the precision of the graph.
    Numbers { shape: Vec<usize>, values: Numbers },
    Bools {
        shape: Vec<usize>,
        values: Vec<bool>,
    },
    Texts {
        shape: Vec<usize>,
        values: Vec<String>,
    },
    /// An object with a number per label. `keys` are the JSON texts `"label":`.
    Map { keys: Arc<[Json]>, values: Numbers },
    /// The best classes: `count` pairs of label and score per row.
    TopK {
        labels: Arc<[Json]>,
        count: usize,
        ranked: Vec<usize>,
        scores: Numbers,
    },
    /// Rows of different shapes from several runs. `rows` contains the run of each row, and the
    /// row's index in that run.
    Ragged {
        runs: Vec<OutputColumn>,
        rows: Arc<[(usize, usize)]>,
    },
}

impl OutputColumn {
    /// Writes the value of one row as JSON.
    pub fn write_json(&self, row: usize, text: &mut Vec<u8>) {
        match self {
            OutputColumn::Labels { labels, indices } => write_label(labels, indices.get(row), text),
            OutputColumn::Numbers { shape, values } => {
                write_row(shape, row, text, &mut |at, text| values.write(at, text));
            }
            OutputColumn::Bools { shape, values } => {
                write_row(shape, row, text, &mut |at, text| {
                    let is_true = values.get(at) == Some(&true);
                    text.extend_from_slice(if is_true { b"true" } else { b"false" });
                });
            }
            OutputColumn::Texts { shape, values } => {
                write_row(shape, row, text, &mut |at, text| {
                    // Writing to a `Vec` does not fail.
                    let _ = serde_json::to_writer(text, values.get(at).map_or("", String::as_str));
                });
            }
            OutputColumn::Map { keys, values } => write_map(keys, values, row, text),
            OutputColumn::TopK {
                labels,
                count,
                ranked,
                scores,
            } => {
                text.push(b'[');
                for (index, label) in ranked.iter().skip(row * count).take(*count).enumerate() {
                    let open: &[u8] = match index {
                        0 => b"{\"label\":",
                        _ => b",{\"label\":",
                    };
                    text.extend_from_slice(open);
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
                // Every row has a run, so this can't happen. Null keeps the document valid.
                None => text.extend_from_slice(b"null"),
            },
        }
    }

    /// Joins the columns of several runs. `rows` contains the run of each row, and the row's index
    /// in that run. `places` contains the index of each row in the concatenated runs, or is `None`
    /// for the same order. The result is ragged only if the shapes of the runs differ.
    pub(super) fn gather(
        runs: Vec<OutputColumn>,
        rows: &Arc<[(usize, usize)]>,
        places: Option<&[usize]>,
    ) -> Option<OutputColumn> {
        let (first, rest) = runs.split_first()?;
        // A column has one shape. Runs of different shapes stay separate, without a copy.
        if !rest.iter().all(|other| first.has_shape_of(other)) {
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

    /// Whether one column can contain the rows of both.
    fn has_shape_of(&self, other: &OutputColumn) -> bool {
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

    /// The rows at these indices.
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

    /// Appends a column of the same variant and shape.
    pub(super) fn append(&mut self, other: OutputColumn) {
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
            // All runs of a version have the same fields. `gather` does not append columns of
            // different shapes.
            _ => {}
        }
    }
}

/// Writes one row with the shape `shape`. `write` writes the value at an index into all rows.
#[inline]
fn write_row(
    shape: &[usize],
    row: usize,
    text: &mut Vec<u8>,
    write: &mut dyn FnMut(usize, &mut Vec<u8>),
) {
    let width: usize = shape.iter().product();
    write_nested(shape, row * width, text, write);
}

fn write_map(keys: &[Json], values: &Numbers, row: usize, text: &mut Vec<u8>) {
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

fn write_label(labels: &[Json], index: Option<&usize>, text: &mut Vec<u8>) {
    text.extend_from_slice(
        index
            .and_then(|index| labels.get(*index))
            .map_or("null", |label| label)
            .as_bytes(),
    );
}
