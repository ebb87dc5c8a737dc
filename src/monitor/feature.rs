//! `Feature`: an input field or a prediction that is monitored.

use crate::{
    monitor::{
        bins::{Bins, EXTRA, Extra},
        counters::ThreadCounters,
    },
    package::profile::{FieldProfile, ProfileKind},
    schema::{
        Schema,
        columns::{Column, ColumnId, ColumnKind, Columns},
    },
    transform::outputs::{OutputColumn, Outputs},
};

/// The section of the profile that has the reference of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Features,
    Predictions,
}

pub(super) struct Feature {
    pub name: String,
    pub section: Section,
    pub bins: Bins,
    /// The counts of the reference in the bins.
    pub reference: Vec<u64>,
    pub reference_missing: u64,
    /// The column of an input.
    column: ColumnId,
    /// The index of the first counter of the feature.
    pub offset: usize,
}

impl Feature {
    /// An input field. `place` gives the index of the first of a number of counters. `None` if the
    /// schema has no such field, or one of another kind.
    pub(super) fn of_input(
        name: &str,
        field: &FieldProfile,
        schema: &Schema,
        place: &mut impl FnMut(usize) -> usize,
    ) -> Option<Feature> {
        let column = schema.column(name)?;
        let kind = schema.columns().get(column)?.kind;
        let fits = match field.kind {
            ProfileKind::Numeric => matches!(kind, ColumnKind::Number | ColumnKind::Integer),
            ProfileKind::Categorical => kind == ColumnKind::Text,
            ProfileKind::Boolean => kind == ColumnKind::Boolean,
        };
        if !fits {
            return None;
        }
        Feature::of(name, Section::Features, field, column, place)
    }

    pub(super) fn of_prediction(
        name: &str,
        field: &FieldProfile,
        place: &mut impl FnMut(usize) -> usize,
    ) -> Option<Feature> {
        Feature::of(name, Section::Predictions, field, 0, place)
    }

    fn of(
        name: &str,
        section: Section,
        field: &FieldProfile,
        column: ColumnId,
        place: &mut impl FnMut(usize) -> usize,
    ) -> Option<Feature> {
        let (bins, reference) = Bins::of(field)?;
        Some(Feature {
            name: name.to_owned(),
            section,
            offset: place(bins.len() + EXTRA),
            bins,
            reference,
            reference_missing: field.missing,
            column,
        })
    }

    /// The index of a counter beyond those of the bins.
    pub(super) fn extra(&self, extra: Extra) -> usize {
        self.offset + self.bins.len() + extra as usize
    }

    pub(super) fn count_input(&self, columns: &Columns, counts: &ThreadCounters) {
        match columns.columns.get(self.column) {
            Some(Column::Number(values)) => {
                values
                    .iter()
                    .for_each(|value| self.count_number(*value, counts));
            }
            Some(Column::Integer(values)) => {
                let numbers = values
                    .iter()
                    .map(|value| value.map_or(f64::NAN, |value| value as f64));
                numbers.for_each(|value| self.count_number(value, counts));
            }
            Some(Column::Text(values)) => {
                (0..values.len()).for_each(|row| self.count_category(values.get(row), counts));
            }
            Some(Column::Boolean(values)) => {
                for value in values {
                    let counter = value.map_or(self.extra(Extra::Missing), |value| {
                        self.offset + usize::from(value)
                    });
                    counts.add(counter, 1);
                }
            }
            Some(Column::Binary(_) | Column::Array(_)) | None => {}
        }
    }

    /// Counts a number. NaN is a missing value.
    fn count_number(&self, value: f64, counts: &ThreadCounters) {
        if value.is_nan() {
            return counts.add(self.extra(Extra::Missing), 1);
        }
        if let Some((bin, is_outside)) = self.bins.of_number(value) {
            counts.add(self.offset + bin, 1);
            if is_outside {
                counts.add(self.extra(Extra::Outside), 1);
            }
        }
    }

    fn count_category(&self, value: Option<&[u8]>, counts: &ThreadCounters) {
        let counter = match value {
            None => self.extra(Extra::Missing),
            Some(value) => match self.bins.of_category(value) {
                Some(bin) => self.offset + bin,
                None => self.extra(Extra::Unseen),
            },
        };
        counts.add(counter, 1);
    }

    pub(super) fn count_prediction(
        &self,
        place: &OutputPlace,
        outputs: &Outputs,
        counts: &ThreadCounters,
    ) {
        let Some((_, column)) = outputs.fields.get(place.field) else {
            return;
        };
        match column {
            OutputColumn::Numbers { values, .. } | OutputColumn::Map { values, .. } => {
                let rows = (0..outputs.rows).map(|row| row * place.stride + place.index);
                for at in rows {
                    self.count_number(values.get_f64(at).unwrap_or(f64::NAN), counts);
                }
            }
            OutputColumn::Labels { labels, indices } => {
                for index in indices {
                    let label = labels.get(*index).map(|label| plain(label).as_bytes());
                    self.count_category(label, counts);
                }
            }
            // A profile has no distribution of these.
            OutputColumn::Bools { .. }
            | OutputColumn::Texts { .. }
            | OutputColumn::TopK { .. }
            | OutputColumn::Ragged { .. } => {}
        }
    }
}

/// The JSON text of a label without its quotes.
fn plain(label: &str) -> &str {
    label
        .strip_prefix('"')
        .and_then(|label| label.strip_suffix('"'))
        .unwrap_or(label)
}

/// The place of a prediction in the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutputPlace {
    field: usize,
    /// The number of values of the field in one row, and the index of the prediction among them.
    stride: usize,
    index: usize,
}

impl OutputPlace {
    /// The place of the prediction `name`: the field of that name, or for a class `c` of an object
    /// of scores `f`: `f.c` or `c_probability`. `None` if there is none.
    pub(super) fn find(name: &str, outputs: &Outputs) -> Option<OutputPlace> {
        for (field, (own, (_, column))) in outputs.names().zip(&outputs.fields).enumerate() {
            match column {
                OutputColumn::Numbers { shape, .. } if shape.is_empty() && own == name => {
                    return Some(OutputPlace {
                        field,
                        stride: 1,
                        index: 0,
                    });
                }
                OutputColumn::Labels { .. } if own == name => {
                    return Some(OutputPlace {
                        field,
                        stride: 1,
                        index: 0,
                    });
                }
                OutputColumn::Map { keys, .. } => {
                    let names_class = |key: &str| {
                        let class = plain(key.strip_suffix(':').unwrap_or(key));
                        name == format!("{own}.{class}") || name == format!("{class}_probability")
                    };
                    if let Some(index) = keys.iter().position(|key| names_class(key)) {
                        return Some(OutputPlace {
                            field,
                            stride: keys.len(),
                            index,
                        });
                    }
                }
                _ => {}
            }
        }
        None
    }
}
