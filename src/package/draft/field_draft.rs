//! `FieldDraft`: the way of a sample's field into the graph's input.

use serde_json::{Map, Value, json};

use crate::{
    package::{
        draft::{
            DraftEncoding, DraftError,
            question::MAX_CATEGORIES,
            sample_field::{FieldKind, SampleField},
        },
        guess,
    },
    tensor::signature::TensorSpec,
};

/// The drafted property of a field, and the columns that it becomes in the graph's input.
pub(super) struct FieldDraft {
    pub property: Value,
    pub columns: Vec<ColumnDraft>,
}

/// The steps of a column, which may make several columns of it.
#[derive(Default)]
pub(super) struct ColumnDraft {
    pub steps: Vec<Value>,
    /// The text of the guess marker. `None` if the steps are not a guess.
    pub guess: Option<String>,
}

impl ColumnDraft {
    /// The column in `preprocessing.json`.
    fn section(&self, field: &str) -> Map<String, Value> {
        let mut members = Map::from_iter([("field".to_owned(), json!(field))]);
        if !self.steps.is_empty() {
            members.insert("steps".to_owned(), json!(self.steps));
        }
        if let Some(guess) = &self.guess {
            members.insert(guess::KEY.to_owned(), json!(guess));
        }
        members
    }

    pub(super) fn has_step(&self, names: &[&str]) -> bool {
        self.steps
            .iter()
            .any(|step| names.contains(&step_name(step)))
    }
}

impl FieldDraft {
    /// Whether the values reach the graph unchanged.
    pub(super) fn is_plain(&self) -> bool {
        self.columns.iter().all(|column| column.steps.is_empty())
    }

    pub(super) fn column_sections(&self, field: &str) -> Vec<Value> {
        self.columns
            .iter()
            .map(|column| Value::Object(column.section(field)))
            .collect()
    }

    /// The section of a graph input that takes only this field.
    pub(super) fn input_section(&self, spec: &TensorSpec, field: &str) -> Map<String, Value> {
        let mut input = Map::from_iter([("dtype".to_owned(), json!(spec.datatype.numpy_name()))]);
        match self.columns.as_slice() {
            [column] => input.extend(column.section(field)),
            _ => {
                let columns = json!(self.column_sections(field));
                input.insert("columns".to_owned(), columns);
            }
        }
        input
    }

    /// The number of columns after the steps. `None` if it is not known here.
    pub(super) fn width(&self) -> Option<usize> {
        self.columns
            .iter()
            .map(|column| steps_width(&column.steps))
            .sum()
    }
}

/// A column that is encoded with the sample's categories, which is a guess.
pub(super) fn encode_with_sample(
    field: &SampleField<'_>,
    encoding: DraftEncoding,
) -> Result<ColumnDraft, DraftError> {
    // Only texts and numbers can be categories.
    if !matches!(field.kind(), FieldKind::Text | FieldKind::Number) {
        return Err(DraftError::NotEncodable {
            field: field.name.to_owned(),
        });
    }
    // The sample may lack rare categories, which is why the result is marked as a guess.
    let categories = field.categories();
    if categories.len() > MAX_CATEGORIES {
        return Err(DraftError::TooManyCategories {
            field: field.name.to_owned(),
            count: categories.len(),
        });
    }
    // If the sample contains nulls, the model accepts values that are not a category.
    let step = match (encoding, field.nullable) {
        (DraftEncoding::OneHot, false) => {
            json!({"one_hot": {"categories": categories, "unknown": "error"}})
        }
        (DraftEncoding::OneHot, true) => {
            json!({"one_hot": {"categories": categories, "unknown": "zeros"}})
        }
        (DraftEncoding::Ordinal, false) => {
            json!({"ordinal": {"categories": categories, "unknown": "error"}})
        }
        (DraftEncoding::Ordinal, true) => {
            json!({"ordinal": {"categories": categories, "unknown": -1}})
        }
    };
    let null = if field.nullable {
        ", and null is not a category"
    } else {
        ""
    };
    let guess = format!(
        "the categories are those of the sample, sorted{null}; replace them with those of the training data, in its order"
    );
    Ok(ColumnDraft {
        steps: vec![step],
        guess: Some(guess),
    })
}

/// Steps whose result is a string.
pub(super) const TEXT_STEPS: [&str; 5] = [
    "impute",
    "lowercase",
    "strip",
    "normalize_unicode",
    "regex_replace",
];

/// Steps whose result is never null.
pub(super) const NULL_STEPS: [&str; 6] = [
    "impute",
    "missing_indicator",
    "one_hot",
    "ordinal",
    "target_encode",
    "hash",
];

/// Steps that keep the number of columns.
const WIDTH_KEEPING_STEPS: [&str; 17] = [
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

pub(super) fn step_name(step: &Value) -> &str {
    step.as_object()
        .and_then(|step| step.keys().next())
        .map_or("", String::as_str)
}

/// The number of columns after the steps. `None` if it is not known here.
fn steps_width(steps: &[Value]) -> Option<usize> {
    steps.iter().try_fold(1, |width, step| {
        let parameter = |name: &str| step.pointer(&format!("/{}/{name}", step_name(step)));
        match step_name(step) {
            "one_hot" => parameter("categories")
                .and_then(Value::as_array)
                .map(Vec::len),
            // `hash` replaces one column by a fixed number of columns.
            "hash" => parameter("n_features")
                .and_then(Value::as_u64)
                .and_then(|width| usize::try_from(width).ok()),
            name if WIDTH_KEEPING_STEPS.contains(&name) => Some(width),
            _ => None,
        }
    })
}
