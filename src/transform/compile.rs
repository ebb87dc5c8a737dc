//! Compile: `preprocessing.json` to a plan for each of the graph's inputs, checked once at load.

use regex::Regex;
use serde_json::Value;

use crate::{
    schema::columns::{ColumnId, ColumnKind},
    tensor::{DataType, Dim, signature::TensorSpec},
    transform::{
        dates::DateParts,
        derived::{Declared, MEMBERS, Operation},
        image::{ImageStep, ImageSteps},
        plan::{Field, Part, Plan, PreprocessError, Source, category_of_number, fail, shape_fits},
        steps::{Categories, Encode, Impute, Layout, Numeric, PowerMethod, Step, Textual},
    },
};

pub(super) struct Compiler<'a> {
    pub(super) pointer: String,
    pub(super) fields: &'a [Field],
    pub(super) spec: &'a TensorSpec,
}

impl Compiler<'_> {
    pub(super) fn fail<T>(
        &self,
        below: &str,
        detail: impl Into<String>,
    ) -> Result<T, PreprocessError> {
        fail(&format!("{}{below}", self.pointer), detail)
    }

    pub(super) fn section(&self, section: &Value) -> Result<Plan, PreprocessError> {
        let Some(members) = section.as_object() else {
            return self.fail("", "must be an object");
        };
        if let Some(unknown) = members
            .keys()
            .find(|key| !["dtype", "columns", "field", "steps"].contains(&key.as_str()))
        {
            return self.fail(
                &format!("/{unknown}"),
                "unknown member; known are dtype, columns, field, steps",
            );
        }
        match members
            .get("dtype")
            .map(|dtype| dtype.as_str().and_then(DataType::from_numpy_name))
        {
            Some(Some(datatype)) if datatype == self.spec.datatype => {}
            Some(Some(_)) => {
                return self.fail("/dtype", format!("the graph takes {}", self.spec.datatype));
            }
            _ => {
                return self.fail(
                    "/dtype",
                    format!("must be a type such as \"{}\"", self.spec.datatype),
                );
            }
        }
        match (
            members.get("columns"),
            members.get("field").and_then(Value::as_str),
        ) {
            (None, Some(field)) => {
                self.single(field, self.steps(members.get("steps"), "/steps")?, "")
            }
            (Some(Value::Array(columns)), None) => self.table(columns),
            _ => self.fail(
                "",
                "needs either \"columns\" (a list) or \"field\" (a name)",
            ),
        }
    }

    fn steps(&self, list: Option<&Value>, below: &str) -> Result<Vec<Step>, PreprocessError> {
        let Some(list) = list else {
            return Ok(Vec::new());
        };
        let Some(list) = list.as_array() else {
            return self.fail(below, "must be a list of steps");
        };
        let parse = |(index, step): (usize, &Value)| {
            serde_json::from_value::<Step>(step.clone()).map_err(|error| {
                let detail = error
                    .to_string()
                    .replace("unknown variant", "unknown step")
                    .replace("expected one of", "known are");
                PreprocessError {
                    pointer: format!("{}{below}/{index}", self.pointer),
                    detail,
                }
            })
        };
        list.iter().enumerate().map(parse).collect()
    }

    fn source(&self, field: &str, below: &str) -> Result<(Source, &Field), PreprocessError> {
        match self
            .fields
            .iter()
            .enumerate()
            .find(|(_, known)| known.name == field)
        {
            Some((column, found)) => {
                let name = format!("`{}`", field.trim_start_matches('/'));
                Ok((
                    Source {
                        column,
                        field: field.to_owned(),
                        name,
                        pii: found.pii,
                    },
                    found,
                ))
            }
            None => {
                let nearest = self
                    .fields
                    .iter()
                    .min_by_key(|known| strsim::damerau_levenshtein(&known.name, field));
                let hint = nearest
                    .map(|known| format!("; did you mean \"{}\"?", known.name))
                    .unwrap_or_default();
                self.fail(
                    below,
                    format!("the schema has no field \"{field}\" with values of one type{hint}"),
                )
            }
        }
    }

    fn table(&self, columns: &[Value]) -> Result<Plan, PreprocessError> {
        let mut parts = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            let below = format!("/columns/{index}");
            let Some(members) = column.as_object() else {
                return self.fail(&below, "must be an object");
            };
            if let Some(unknown) = members
                .keys()
                .find(|key| *key != "steps" && !MEMBERS.contains(&key.as_str()))
            {
                return self.fail(
                    &format!("{below}/{unknown}"),
                    format!("unknown member; known are {}, steps", MEMBERS.join(", ")),
                );
            }
            let steps = self.steps(members.get("steps"), &format!("{below}/steps"))?;
            let mut named = members.iter().filter(|(key, _)| *key != "steps");
            let part = match (named.next(), named.next()) {
                (Some((key, field)), None) if key == "field" => {
                    let Some(field) = field.as_str() else {
                        return self.fail(&format!("{below}/field"), "must name a field");
                    };
                    self.part(field, &steps, &below)?
                }
                (Some((key, written)), None) => self.derived(key, written, &steps, &below)?,
                _ => {
                    return self.fail(
                        &below,
                        format!("needs exactly one of {}", MEMBERS.join(", ")),
                    );
                }
            };
            parts.push(part);
        }
        self.finish_table(parts)
    }

    fn finish_table(&self, parts: Vec<Part>) -> Result<Plan, PreprocessError> {
        let width = parts.iter().map(|part| part.width).sum();
        let fits = match self.spec.shape.row() {
            [] => width == 1,
            [dim] => dim.fits(width),
            _ => false,
        };
        if !fits {
            return self.fail(
                "",
                format!("makes {width} columns; the graph takes {}", self.spec.shape),
            );
        }
        if self.spec.datatype == DataType::Bytes {
            return self.fail("", "the graph takes texts here; name one text field");
        }
        Ok(Plan::Table { parts, width })
    }

    pub(super) fn single(
        &self,
        field: &str,
        steps: Vec<Step>,
        below: &str,
    ) -> Result<Plan, PreprocessError> {
        let (source, found) = self.source(field, below)?;
        match found.kind {
            ColumnKind::Binary => self.image(source, &steps),
            ColumnKind::Array | ColumnKind::BooleanArray => self.array(source, found, &steps),
            ColumnKind::Text if self.spec.datatype == DataType::Bytes => {
                if !matches!(
                    self.spec.shape.row(),
                    [] | [Dim::Any | Dim::Rest | Dim::Fixed(1)]
                ) {
                    return self.fail(
                        "",
                        format!(
                            "a text gives [N] or [N, 1]; the graph takes {}",
                            self.spec.shape
                        ),
                    );
                }
                let mut compiled = Vec::new();
                for (index, step) in steps.iter().enumerate() {
                    match self.textual(step, found, &format!("/steps/{index}"))? {
                        Some(step) => compiled.push(step),
                        None => {
                            return self.fail(
                                &format!("/steps/{index}"),
                                "only text steps lead to a text",
                            );
                        }
                    }
                }
                Ok(Plan::Texts {
                    part: source,
                    steps: compiled,
                })
            }
            _ => self
                .part(field, &steps, below)
                .and_then(|part| self.finish_table(vec![part])),
        }
    }

    fn array(
        &self,
        source: Source,
        found: &Field,
        steps: &[Step],
    ) -> Result<Plan, PreprocessError> {
        let mut numeric = Vec::new();
        let mut shape = None;
        for (index, step) in steps.iter().enumerate() {
            let below = format!("/steps/{index}");
            match step {
                Step::Reshape { shape: wanted } => shape = Some(wanted.clone()),
                step => match self.numeric(step, &below)? {
                    Some(step) => numeric.push(step),
                    None => {
                        return self.fail(&below, "this step does not take an array of numbers");
                    }
                },
            }
        }
        if let Some(known) = &found.array_shape {
            if let Some(shape) = &shape
                && shape.iter().product::<usize>() != known.iter().product::<usize>()
            {
                return self.fail(
                    "/steps",
                    format!("an array of the shape {known:?} can't be reshaped to {shape:?}"),
                );
            }
            let result = shape.as_ref().unwrap_or(known);
            if !shape_fits(self.spec, result) {
                return self.fail(
                    "",
                    format!(
                        "gives rows of the shape {result:?}; the graph takes {}",
                        self.spec.shape
                    ),
                );
            }
        }
        Ok(Plan::Array {
            part: source,
            steps: numeric,
            shape,
        })
    }

    fn image(&self, source: Source, steps: &[Step]) -> Result<Plan, PreprocessError> {
        let Some(Step::DecodeImage { mode }) = steps.first() else {
            return self.fail(
                "/steps",
                "base64 content needs decode_image as its first step",
            );
        };
        let mut compiled = ImageSteps {
            mode: *mode,
            after: Vec::new(),
            layout: Layout::Nhwc,
        };
        let mut numbers = false;
        for (index, step) in steps.iter().enumerate().skip(1) {
            let below = format!("/steps/{index}");
            match step {
                Step::Resize {
                    height,
                    width,
                    interpolation,
                } if *height > 0 && *width > 0 && !numbers => {
                    compiled.after.push(ImageStep::Resize {
                        height: *height,
                        width: *width,
                        interpolation: *interpolation,
                    });
                }
                Step::CenterCrop { height, width } if *height > 0 && *width > 0 && !numbers => {
                    compiled.after.push(ImageStep::CenterCrop {
                        height: *height,
                        width: *width,
                    });
                }
                Step::Resize { .. } | Step::CenterCrop { .. } => {
                    return self.fail(
                        &below,
                        "sizes must be at least 1, and come before rescale and normalize",
                    );
                }
                Step::Rescale { factor } if factor.is_finite() => {
                    numbers = true;
                    compiled.after.push(ImageStep::Rescale(*factor));
                }
                Step::Normalize { mean, std } => {
                    numbers = true;
                    if mean.len() != compiled.channels() || std.len() != compiled.channels() {
                        return self.fail(
                            &below,
                            format!(
                                "mean and std need {} values, one a channel",
                                compiled.channels()
                            ),
                        );
                    }
                    if std.iter().any(|std| *std == 0.0 || !std.is_finite()) {
                        return self.fail(&format!("{below}/normalize/std"), "must not be 0");
                    }
                    compiled.after.push(ImageStep::Normalize {
                        mean: mean.clone(),
                        std: std.clone(),
                    });
                }
                Step::Layout(layout) if index + 1 == steps.len() => compiled.layout = *layout,
                Step::Layout(_) => return self.fail(&below, "must be the last step"),
                _ => return self.fail(&below, "this step does not take an image"),
            }
        }
        Ok(Plan::Image {
            part: source,
            steps: compiled,
        })
    }

    fn part(&self, field: &str, steps: &[Step], below: &str) -> Result<Part, PreprocessError> {
        let (source, found) = self.source(field, &format!("{below}/field"))?;
        self.steps_of(source, found, None, steps, below)
    }

    /// A column made of two fields.
    fn derived(
        &self,
        member: &str,
        written: &Value,
        steps: &[Step],
        below: &str,
    ) -> Result<Part, PreprocessError> {
        let pointer = format!("{below}/{member}");
        let declared = Declared::read(member, written)
            .or_else(|(deeper, detail)| self.fail(&format!("{pointer}{deeper}"), detail))?;
        let number = |key: &str, name: &str| {
            let (source, found) = self.source(name, &format!("{pointer}/{key}"))?;
            match found.kind {
                ColumnKind::Boolean | ColumnKind::Integer | ColumnKind::Number => Ok(source),
                _ => self.fail(
                    &format!("{pointer}/{key}"),
                    format!("`{name}` is neither a number nor a boolean"),
                ),
            }
        };
        let (mut source, other) = (
            number("of", declared.of)?,
            number(declared.with.0, declared.with.1)?,
        );
        source.name = format!(
            "{} {} {}",
            source.name,
            declared.operation.sign(),
            other.name
        );
        source.pii |= other.pii;
        let made = Field {
            name: source.name.clone(),
            kind: ColumnKind::Number,
            nullable: true,
            array_shape: None,
            pii: source.pii,
        };
        self.steps_of(
            source,
            &made,
            Some((declared.operation, other.column)),
            steps,
            below,
        )
    }

    fn steps_of(
        &self,
        source: Source,
        found: &Field,
        derived: Option<(Operation, ColumnId)>,
        steps: &[Step],
        below: &str,
    ) -> Result<Part, PreprocessError> {
        let mut part = Part {
            source,
            kind: found.kind,
            derived,
            before: Vec::new(),
            textual: Vec::new(),
            encode: None,
            after: Vec::new(),
            indicator: false,
            width: 1,
        };
        for (index, step) in steps.iter().enumerate() {
            let below = format!("{below}/steps/{index}");
            if part.indicator {
                return self.fail(
                    &below,
                    "nothing may follow missing_indicator; name the field once more for its value",
                );
            }
            let is_category = part.encode.is_none()
                && (found.kind == ColumnKind::Text || self.encode(step, found, &below)?.is_some());
            if matches!(step, Step::MissingIndicator(_)) && index == 0 {
                part.indicator = true;
            } else if is_category {
                if let Some(encode) = self.encode(step, found, &below)? {
                    part.width = encode.width();
                    part.encode = Some(encode);
                } else if let Some(step) = self.textual(step, found, &below)? {
                    part.textual.push(step);
                } else {
                    return self.fail(&below, "this step does not take a text");
                }
            } else if let Some(step) = self.numeric(step, &below)? {
                if part.width > 1 && !matches!(part.encode, Some(Encode::Dates(_))) {
                    return self.fail(
                        &below,
                        "no numeric step may follow one that makes several columns",
                    );
                }
                if part.encode.is_none() {
                    &mut part.before
                } else {
                    &mut part.after
                }
                .push(step);
            } else {
                return self.fail(&below, "this step does not take a number");
            }
        }
        let is_number =
            !matches!(found.kind, ColumnKind::Text | ColumnKind::Binary) && !found.kind.is_array();
        if !is_number && part.encode.is_none() && !part.indicator {
            return self.fail(
                below,
                format!("{} is not a number: encode it with one_hot, ordinal, target_encode, hash or date_parts", part.source.name),
            );
        }
        Ok(part)
    }

    fn numeric(&self, step: &Step, below: &str) -> Result<Option<Numeric>, PreprocessError> {
        let divisor = |value: f64, name: &str| {
            if value == 0.0 || !value.is_finite() {
                self.fail(below, format!("{name} must be a number other than 0"))
            } else {
                Ok(value)
            }
        };
        let number = |value: &Value| match value {
            Value::Bool(value) => Ok(f64::from(u8::from(*value))),
            value => value
                .as_f64()
                .map_or_else(|| self.fail(below, "must be a number"), Ok),
        };
        Ok(Some(match step {
            Step::Impute(Impute {
                value,
                missing_values,
            }) => {
                let missing = missing_values
                    .iter()
                    .filter(|value| !value.is_null())
                    .map(number)
                    .collect::<Result<_, _>>()?;
                Numeric::Impute {
                    value: number(value)?,
                    missing,
                }
            }
            Step::StandardScale { mean, std } => Numeric::Scale {
                offset: *mean,
                divisor: divisor(*std, "std")?,
            },
            Step::MinMaxScale { min, max } => Numeric::Scale {
                offset: *min,
                divisor: divisor(max - min, "max - min")?,
            },
            Step::RobustScale { center, scale } => Numeric::Scale {
                offset: *center,
                divisor: divisor(*scale, "scale")?,
            },
            Step::Rescale { factor } => Numeric::Rescale(divisor(*factor, "factor")?),
            Step::Clip { min, max } => {
                let (min, max) = (
                    min.unwrap_or(f64::NEG_INFINITY),
                    max.unwrap_or(f64::INFINITY),
                );
                if min > max {
                    return self.fail(below, "min is above max");
                }
                Numeric::Clip { min, max }
            }
            Step::Log1p(_) => Numeric::Log1p,
            Step::Power { method, lambda } => Numeric::Power {
                method: *method,
                lambda: check_lambda(*method, *lambda)
                    .map_or_else(|detail| self.fail(below, detail), Ok)?,
            },
            Step::Bucketize { boundaries, right } => {
                if boundaries.is_empty() || !boundaries.is_sorted_by(|a, b| a < b) {
                    return self.fail(
                        below,
                        "boundaries must be numbers in ascending order, none twice",
                    );
                }
                Numeric::Bucketize {
                    boundaries: boundaries.clone(),
                    right: *right,
                }
            }
            _ => return Ok(None),
        }))
    }

    fn textual(
        &self,
        step: &Step,
        found: &Field,
        below: &str,
    ) -> Result<Option<Textual>, PreprocessError> {
        let plain = |value: &Value| match (value, found.kind) {
            (Value::String(text), ColumnKind::Text) => Ok(text.clone()),
            (
                Value::Number(_) | Value::Bool(_),
                ColumnKind::Number | ColumnKind::Integer | ColumnKind::Boolean,
            ) => Ok(value.to_string()),
            _ => self.fail(below, "must be of the field's type"),
        };
        Ok(Some(match step {
            Step::Impute(Impute {
                value,
                missing_values,
            }) => {
                let missing = missing_values
                    .iter()
                    .filter(|value| !value.is_null())
                    .map(plain)
                    .collect::<Result<_, _>>()?;
                Textual::Impute {
                    value: plain(value)?,
                    missing,
                }
            }
            Step::Lowercase(_) => Textual::Lowercase,
            Step::Strip(_) => Textual::Strip,
            Step::NormalizeUnicode { form } => Textual::Normalize(*form),
            Step::RegexReplace {
                pattern,
                replacement,
            } => {
                let pattern = Regex::new(pattern).or_else(|error| {
                    self.fail(below, format!("the pattern does not compile: {error}"))
                })?;
                Textual::Replace {
                    pattern,
                    replacement: replacement.clone(),
                }
            }
            _ => return Ok(None),
        }))
    }

    fn encode(
        &self,
        step: &Step,
        found: &Field,
        below: &str,
    ) -> Result<Option<Encode>, PreprocessError> {
        let keys = |categories: &[Value]| {
            let mut keys = Vec::new();
            for (at, category) in categories.iter().enumerate() {
                let mut buffer = String::new();
                let key = match (category, found.kind) {
                    (Value::String(text), ColumnKind::Text) => text.clone(),
                    (Value::Bool(value), ColumnKind::Boolean) => value.to_string(),
                    (Value::Number(number), ColumnKind::Integer) if number.is_i64() => {
                        number.to_string()
                    }
                    (Value::Number(number), ColumnKind::Integer | ColumnKind::Number) => number
                        .as_f64()
                        .and_then(|value| category_of_number(value, found.kind, &mut buffer))
                        .unwrap_or_default()
                        .to_owned(),
                    _ => {
                        return self.fail(
                            &format!("{below}/categories/{at}"),
                            "must be of the field's type",
                        );
                    }
                };
                if keys.contains(&key) {
                    return self.fail(
                        &format!("{below}/categories/{at}"),
                        format!("the category {category} is there twice"),
                    );
                }
                keys.push(key);
            }
            if keys.is_empty() {
                self.fail(&format!("{below}/categories"), "must not be empty")
            } else {
                Ok(Categories::new(keys))
            }
        };
        Ok(Some(match step {
            Step::OneHot {
                categories,
                unknown,
            } => Encode::OneHot {
                categories: keys(categories)?,
                unknown: *unknown,
            },
            Step::Ordinal {
                categories,
                unknown,
            } => {
                let unknown = match unknown {
                    Value::String(text) if text == "error" => None,
                    value => Some(value.as_f64().map_or_else(
                        || self.fail(below, "unknown must be a number or \"error\""),
                        Ok,
                    )?),
                };
                Encode::Table {
                    values: (0..categories.len()).map(|at| at as f64).collect(),
                    categories: keys(categories)?,
                    unknown,
                }
            }
            Step::TargetEncode {
                categories,
                values,
                default,
            } => {
                if categories.len() != values.len() {
                    return self.fail(
                        below,
                        format!(
                            "{} categories, but {} values",
                            categories.len(),
                            values.len()
                        ),
                    );
                }
                Encode::Table {
                    values: values.clone(),
                    categories: keys(categories)?,
                    unknown: Some(*default),
                }
            }
            Step::DateParts { .. } if found.kind != ColumnKind::Text => {
                return self.fail(below, "date_parts takes a text field");
            }
            Step::DateParts { parts, unknown } => {
                let parts = DateParts::compile(parts, unknown);
                Encode::Dates(
                    parts.or_else(|(pointer, detail)| {
                        self.fail(&format!("{below}{pointer}"), detail)
                    })?,
                )
            }
            Step::Hash { n_features: 0, .. } => {
                return self.fail(below, "n_features must be at least 1");
            }
            Step::Hash {
                n_features,
                alternate_sign,
            } => Encode::Hash {
                width: *n_features,
                alternate_sign: *alternate_sign,
            },
            _ => return Ok(None),
        }))
    }
}

fn check_lambda(method: PowerMethod, lambda: f64) -> Result<f64, String> {
    if lambda.is_finite() {
        Ok(lambda)
    } else {
        Err(format!("lambda of {method:?} must be finite"))
    }
}
