//! Drafts the input schema and the preprocessing from a sample.

use serde_json::{Map, Value, json};

use crate::{
    package::draft::{
        DraftError, DraftSources, FieldHint, Preparation,
        array_field::ArrayField,
        error::WrongValues,
        field_draft::{
            ColumnDraft, FieldDraft, NULL_STEPS, TEXT_STEPS, encode_with_sample, step_name,
        },
        properties::{
            IMAGE_GUESS, Properties, image_property, image_steps, scalar_property, unused_property,
        },
        question::{Question, Questions},
        sample_field::{FieldKind, SampleField},
    },
    tensor::{
        DataType, Dim,
        signature::{Signature, TensorSpec},
    },
    transform::image,
};

/// Drafts the properties of the sample's fields. Also drafts the section `inputs` if the names are
/// not sufficient.
pub(super) fn draft_inputs(
    signature: &Signature,
    fields: &[SampleField<'_>],
    sources: &DraftSources<'_>,
    notes: &mut Vec<String>,
) -> Result<(Properties, Option<Value>), DraftError> {
    let has_field = |name: &str| fields.iter().any(|field| field.name == name);
    if let Some(hint) = sources.hints.iter().find(|hint| !has_field(&hint.field)) {
        return Err(DraftError::UnknownField {
            field: hint.field.clone(),
        });
    }
    let mut drafter = InputDrafter {
        hints: sources.hints,
        questions: Vec::new(),
        properties: Properties::new(),
    };
    // Equal names need no section in `preprocessing.json`.
    if signature.inputs.iter().all(|spec| has_field(&spec.name)) {
        let inputs = drafter.inputs_by_name(signature, fields, notes)?;
        return drafter.finish(None, (!inputs.is_empty()).then_some(inputs));
    }
    let [spec] = signature.inputs.as_slice() else {
        let names = signature.inputs.iter().map(|spec| spec.name.to_string());
        return Err(DraftError::InputNames {
            inputs: names.collect(),
        });
    };
    let only_input = |section: Map<String, Value>| {
        Some(Map::from_iter([(
            spec.name.to_string(),
            Value::Object(section),
        )]))
    };
    match fields {
        [field]
            if matches!(field.kind(), FieldKind::Image | FieldKind::Array)
                || spec.datatype == DataType::Bytes =>
        {
            let drafted = drafter.draft_field(spec, field)?;
            let section = drafted.input_section(spec, field.name);
            drafter.add(field, drafted);
            drafter.finish(None, only_input(section))
        }
        fields => {
            let (columns, hint) = drafter.columns_of_all_fields(spec, fields)?;
            notes.push(format!(
                "the columns of {} are in the order of the sample's fields; the training data \
                 must have the same order",
                spec.name
            ));
            let dtype = json!(spec.datatype.numpy_name());
            drafter.finish(
                hint,
                only_input(Map::from_iter([
                    ("dtype".to_owned(), dtype),
                    ("columns".to_owned(), json!(columns)),
                ])),
            )
        }
    }
}

struct InputDrafter<'a> {
    hints: &'a [FieldHint],
    questions: Vec<Question>,
    properties: Properties,
}

impl InputDrafter<'_> {
    /// Returns the draft, or all questions at once. `width_hint` may answer some of them.
    fn finish(
        self,
        width_hint: Option<String>,
        inputs: Option<Map<String, Value>>,
    ) -> Result<(Properties, Option<Value>), DraftError> {
        // All questions are asked at once, so that a person answers them in one step.
        if self.questions.is_empty() {
            Ok((self.properties, inputs.map(Value::Object)))
        } else {
            Err(DraftError::Questions(Questions {
                questions: self.questions,
                hint: width_hint,
            }))
        }
    }

    fn add(&mut self, field: &SampleField<'_>, drafted: FieldDraft) {
        self.properties
            .insert(field.name.to_owned(), drafted.property);
    }

    /// Drafts a graph whose inputs each take the field of the same name.
    fn inputs_by_name(
        &mut self,
        signature: &Signature,
        fields: &[SampleField<'_>],
        notes: &mut Vec<String>,
    ) -> Result<Map<String, Value>, DraftError> {
        let mut inputs = Map::new();
        for field in fields {
            let Some(spec) = signature
                .inputs
                .iter()
                .find(|spec| *spec.name == *field.name)
            else {
                notes.push(format!(
                    "no input of the graph takes `{}`: callers must send it anyway",
                    field.name
                ));
                self.properties
                    .insert(field.name.to_owned(), unused_property(field));
                continue;
            };
            let drafted = self.draft_field(spec, field)?;
            let is_scalar = matches!(
                field.kind(),
                FieldKind::Text | FieldKind::Boolean | FieldKind::Number
            );
            if is_scalar
                && drafted.is_plain()
                && !matches!(
                    spec.shape.row(),
                    [] | [Dim::Any | Dim::Rest | Dim::Fixed(1)]
                )
            {
                return Err(DraftError::OneValue {
                    field: field.name.to_owned(),
                    input: Box::new(spec.clone()),
                });
            }
            if !drafted.is_plain() {
                inputs.insert(
                    spec.name.to_string(),
                    Value::Object(drafted.input_section(spec, field.name)),
                );
            }
            self.add(field, drafted);
        }
        Ok(inputs)
    }

    /// Drafts the columns of a graph's only input from all fields. Also returns a hint about the
    /// widths.
    fn columns_of_all_fields(
        &mut self,
        spec: &TensorSpec,
        fields: &[SampleField<'_>],
    ) -> Result<(Vec<Value>, Option<String>), DraftError> {
        let is_scalar = |field: &&SampleField<'_>| {
            !matches!(
                field.kind(),
                FieldKind::Array | FieldKind::Image | FieldKind::Mixed
            )
        };
        if let Some(other) = fields.iter().find(|field| !is_scalar(field)) {
            return Err(DraftError::NoColumn {
                field: other.name.to_owned(),
            });
        }
        let takes = numbers_per_row(spec)?;
        let mut columns = Vec::new();
        let mut widths = Vec::new();
        let mut one_hot = 0;
        for field in fields {
            let drafted = self.draft_field(spec, field)?;
            widths.push(drafted.width());
            // A string becomes one column per category.
            one_hot += if field.kind() == FieldKind::Text {
                field.categories().len()
            } else {
                1
            };
            columns.extend(drafted.column_sections(field.name));
            self.add(field, drafted);
        }
        // An input of dynamic width accepts any number of columns.
        let Some(takes) = takes else {
            return Ok((columns, None));
        };
        let count = fields.len();
        let hint = format!(
            "{} takes {takes} numbers per row; the sample's {count} fields give {count}, or {one_hot} with one-hot columns for all texts.",
            spec.name
        );
        match widths.iter().copied().sum::<Option<usize>>() {
            Some(width) if takes != width && self.questions.is_empty() => {
                let wide = fields
                    .iter()
                    .zip(&widths)
                    .filter(|(_, width)| **width != Some(1))
                    .map(|(field, width)| format!("{} {}", field.name, width.unwrap_or_default()));
                Err(DraftError::Width {
                    input: spec.name.to_string(),
                    takes,
                    fields: count,
                    gives: width,
                    wide: wide.collect(),
                })
            }
            _ => Ok((columns, Some(hint))),
        }
    }

    /// Drafts the property and the columns of a field. Unknown preparations become questions.
    fn draft_field(
        &mut self,
        spec: &TensorSpec,
        field: &SampleField<'_>,
    ) -> Result<FieldDraft, DraftError> {
        let mut columns = self.columns(field)?;
        let is_plain = columns.iter().all(|column| column.steps.is_empty());
        let kind = field.kind();
        // No step replaces a missing image or list.
        if field.nullable && matches!(kind, FieldKind::Image | FieldKind::Array) {
            return Err(DraftError::NullInArray {
                field: field.name.to_owned(),
                input: Box::new(spec.clone()),
            });
        }
        let property = match kind {
            FieldKind::Mixed => {
                return Err(DraftError::Values {
                    field: field.name.to_owned(),
                    values: WrongValues::SeveralTypes,
                    input: Box::new(spec.clone()),
                });
            }
            FieldKind::Image => {
                check_image_formats(field)?;
                // Steps from a person are never replaced by guessed steps.
                if is_plain {
                    columns = vec![ColumnDraft {
                        steps: image_steps(spec),
                        guess: Some(IMAGE_GUESS.to_owned()),
                    }];
                }
                image_property(field)
            }
            FieldKind::Array => {
                let array = ArrayField {
                    spec,
                    field,
                    columns: &columns,
                };
                let (property, question) = array.draft()?;
                self.questions.extend(question);
                property
            }
            FieldKind::Text | FieldKind::Boolean | FieldKind::Number => {
                self.ask_about_scalar(spec, field, &columns);
                scalar_property(spec, field, is_plain)?
            }
        };
        Ok(FieldDraft { property, columns })
    }

    /// Asks about strings for an input of numbers, or about nulls for an input that does not accept
    /// null.
    fn ask_about_scalar(
        &mut self,
        spec: &TensorSpec,
        field: &SampleField<'_>,
        columns: &[ColumnDraft],
    ) {
        let stays_text = |column: &ColumnDraft| {
            field.kind() == FieldKind::Text
                && column
                    .steps
                    .iter()
                    .all(|step| TEXT_STEPS.contains(&step_name(step)))
        };
        // An encoding also decides about null, so a field gets one question only.
        if spec.datatype != DataType::Bytes && columns.iter().any(stays_text) {
            self.questions.push(Question::encoding(field, spec));
        } else if field.nullable
            && !spec.datatype.is_float()
            && !columns.iter().all(|column| column.has_step(&NULL_STEPS))
        {
            self.questions.push(Question::impute(field, spec));
        }
    }

    /// The columns of a field by its hints. Without a hint the values stay unchanged.
    fn columns(&self, field: &SampleField<'_>) -> Result<Vec<ColumnDraft>, DraftError> {
        let preparations: Vec<&Preparation> = self
            .hints
            .iter()
            .filter(|hint| hint.field == field.name)
            .map(|hint| &hint.preparation)
            .collect();
        if preparations.is_empty() {
            return Ok(vec![ColumnDraft::default()]);
        }
        let column = |preparation: &&Preparation| match preparation {
            Preparation::Steps(steps) => Ok(ColumnDraft {
                steps: steps.clone(),
                guess: None,
            }),
            Preparation::Encode(_) if preparations.len() > 1 => Err(DraftError::EncodingAndMore {
                field: field.name.to_owned(),
            }),
            Preparation::Encode(encoding) => encode_with_sample(field, *encoding),
        };
        preparations.iter().map(column).collect()
    }
}

/// The number of numbers per row of the input. `None` means any number.
fn numbers_per_row(spec: &TensorSpec) -> Result<Option<usize>, DraftError> {
    let input = || Box::new(spec.clone());
    if spec.datatype == DataType::Bytes {
        return Err(DraftError::OneText { input: input() });
    }
    match spec.shape.row() {
        [Dim::Fixed(width)] => Ok(Some(*width)),
        [Dim::Any | Dim::Rest] => Ok(None),
        [] => Ok(Some(1)),
        _ => Err(DraftError::RowOfNumbers { input: input() }),
    }
}

fn check_image_formats(field: &SampleField<'_>) -> Result<(), DraftError> {
    let unreadable = field
        .media_types()
        .into_iter()
        .find(|media_type| !image::is_read(media_type));
    match unreadable {
        None => Ok(()),
        Some(media_type) => Err(DraftError::ImageFormat {
            field: field.name.to_owned(),
            media_type,
        }),
    }
}
