//! `Outputs`: the fields of a response for all rows, column by column.

mod column;
mod numbers;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use self::{column::OutputColumn, numbers::Numbers};

/// A piece of JSON text that every response repeats. It is created once, when a version is loaded.
pub(crate) type Json = Arc<str>;

/// The outputs of a run as fields of a response, column by column.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The number of rows. Every column has this number of values.
    pub rows: usize,
    /// The JSON text `"name":` of each field, and its values.
    pub fields: Vec<(Json, OutputColumn)>,
}

/// A member's name as JSON text, with the colon.
pub(crate) fn json_key(name: &str) -> Json {
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
        // Without fields, the loop above has not written the opening brace.
        if self.fields.is_empty() {
            text.push(b'{');
        }
        text.push(b'}');
    }

    /// The names of the fields in their order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.fields.iter().map(|(key, _)| {
            serde_json::from_str(key.strip_suffix(':').unwrap_or(key)).unwrap_or_default()
        })
    }

    /// One row as a JSON value, for checks and commands. The method parses the text of
    /// `write_json`.
    pub fn to_value(&self, row: usize) -> Value {
        let mut text = Vec::new();
        self.write_json(row, &mut text);
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Joins the outputs of several runs of one version. `order` contains the indices in the
    /// request of all rows, one run after the other. `None` means the order of the request. The
    /// result is `None` without runs.
    pub fn gather(mut runs: Vec<Outputs>, order: Option<&[usize]>) -> Option<Outputs> {
        // Almost every request needs only one run. Its outputs are not copied.
        if runs.len() == 1 && order.is_none() {
            return runs.pop();
        }
        // The run of each row and the row's index in that run, one run after the other.
        let concatenated: Vec<(usize, usize)> = runs
            .iter()
            .enumerate()
            .flat_map(|(run, outputs)| (0..outputs.rows).map(move |row| (run, row)))
            .collect();
        let places = order.map(invert);
        let rows: Arc<[(usize, usize)]> = match &places {
            None => Arc::from(concatenated),
            Some(places) => places
                .iter()
                .filter_map(|place| concatenated.get(*place).copied())
                .collect(),
        };
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
            let column = OutputColumn::gather(runs, &rows, places.as_deref())?;
            fields.push((key, column));
        }
        Some(Outputs {
            rows: rows.len(),
            fields,
        })
    }

    /// Appends the rows of other outputs of the same version.
    pub fn append(&mut self, other: Outputs) {
        self.rows += other.rows;
        for ((_, column), (_, more)) in self.fields.iter_mut().zip(other.fields) {
            column.append(more);
        }
    }
}

/// For each row of the request, its index in `order`.
fn invert(order: &[usize]) -> Vec<usize> {
    let mut sorted: Vec<(usize, usize)> = order.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    sorted.into_iter().map(|(_, place)| place).collect()
}

/// A label as the key of an object, and for comparisons of labels: a string without its quotes.
pub(crate) fn label_text(label: &Value) -> String {
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
        // Rows 1 and 2 of the request shared a run, and row 0 ran alone.
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
