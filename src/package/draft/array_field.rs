//! `ArrayField`: a field of lists, whose property follows the shape and type of its graph input.

use serde_json::{Value, json};

use crate::{
    package::draft::{
        DraftError,
        error::WrongValues,
        field_draft::ColumnDraft,
        properties::nested,
        question::Question,
        sample_field::{SampleField, dims, leaves},
    },
    tensor::{DataType, Dim, signature::TensorSpec},
};

pub(super) struct ArrayField<'a> {
    pub spec: &'a TensorSpec,
    pub field: &'a SampleField<'a>,
    pub columns: &'a [ColumnDraft],
}

impl ArrayField<'_> {
    /// Returns the property. Also returns a question if the lists have a different shape with the
    /// same number of values.
    pub(super) fn draft(&self) -> Result<(Value, Option<Question>), DraftError> {
        let items = self.items()?;
        let sample_dims = self
            .field
            .values
            .first()
            .map(|value| dims(value))
            .unwrap_or_default();
        let row = self.spec.shape.row();
        let is_reshaped = self
            .columns
            .iter()
            .any(|column| column.has_step(&["reshape"]));
        let expected: Vec<Dim> = if is_reshaped {
            sample_dims.iter().map(|size| Dim::Fixed(*size)).collect()
        } else if row.contains(&Dim::Rest) {
            // The graph does not declare the number of its dimensions.
            vec![Dim::Any; sample_dims.len()]
        } else {
            row.to_vec()
        };
        let fits = |value: &&Value| {
            let sizes = dims(value);
            sizes.len() == expected.len()
                && expected.iter().zip(sizes).all(|(dim, size)| dim.fits(size))
        };
        let mut question = None;
        if let Some(other) = self.field.values.iter().find(|value| !fits(value)) {
            // Values in a different shape can be reshaped only if their number is the same.
            let fixed = fixed_dims(row).filter(|fixed| {
                !is_reshaped
                    && fixed.iter().product::<usize>() == sample_dims.iter().product::<usize>()
            });
            let Some(fixed) = fixed else {
                return Err(self.wrong(WrongValues::Shape(dims(other))));
            };
            question = Some(Question::reshape(
                self.field,
                self.spec,
                &sample_dims,
                &fixed,
            ));
        }
        Ok((nested(items, &expected), question))
    }

    fn wrong(&self, values: WrongValues) -> DraftError {
        DraftError::Values {
            field: self.field.name.to_owned(),
            values,
            input: Box::new(self.spec.clone()),
        }
    }

    /// The schema of the lists' values.
    fn items(&self) -> Result<Value, DraftError> {
        let datatype = self.spec.datatype;
        let values: Vec<&Value> = self
            .field
            .values
            .iter()
            .flat_map(|value| leaves(value))
            .collect();
        let all = |holds: fn(&Value) -> bool| values.iter().all(|value| holds(value));
        // The column of an array is a tensor, which can't contain null.
        if values.iter().any(|value| value.is_null()) {
            return Err(self.wrong(WrongValues::NullInList));
        }
        if !values.is_empty() && all(Value::is_boolean) && datatype != DataType::Bytes {
            return Ok(json!({"type": "boolean"}));
        }
        if !all(Value::is_number) || datatype == DataType::Bytes {
            return Err(self.wrong(WrongValues::MixedLists));
        }
        if datatype.is_float() || self.columns.iter().any(|column| !column.steps.is_empty()) {
            return Ok(json!({"type": "number"}));
        }
        let is_fraction = |value: &Value| value.as_f64().is_some_and(|value| value.fract() != 0.0);
        if let Some(fraction) = values.iter().find(|value| is_fraction(value)) {
            return Err(self.wrong(WrongValues::Value((*fraction).clone())));
        }
        Ok(if datatype == DataType::Bool {
            json!({"type": "integer", "minimum": 0, "maximum": 1})
        } else {
            json!({"type": "integer"})
        })
    }
}

/// The sizes of a row. `None` if a dimension is dynamic.
fn fixed_dims(row: &[Dim]) -> Option<Vec<usize>> {
    row.iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => Some(*size),
            Dim::Any | Dim::Rest => None,
        })
        .collect()
}
