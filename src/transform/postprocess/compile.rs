//! Compiles the steps of a field of the response.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    document,
    tensor::{
        DataType, Dim, Rearrangement, Shape, from_end,
        signature::{Signature, TensorSpec},
    },
    transform::{
        declaration::DeclarationError,
        outputs::{Json, json_key, label_text},
        postprocess::{
            output_field::OutputField,
            step::{CompiledStep, PostprocessStep},
        },
    },
};

type Steps = (Vec<Rearrangement>, Vec<CompiledStep>);

fn fail<T>(pointer: &str, detail: impl Into<String>) -> Result<T, DeclarationError> {
    Err(DeclarationError::new(pointer, detail))
}

impl OutputField {
    /// Compiles the section of one field. Pointers in errors start at the section.
    pub(super) fn compile(
        name: &str,
        section: &Value,
        signature: &Signature,
        nullable: bool,
    ) -> Result<OutputField, DeclarationError> {
        let Some(members) = section.as_object() else {
            return fail("", "must be an object");
        };
        if let Some(unknown) = members
            .keys()
            .find(|key| !["from", "steps"].contains(&key.as_str()))
        {
            return fail(
                &format!("/{unknown}"),
                "unknown member; expected one of: from, steps",
            );
        }
        let from = members.get("from").and_then(Value::as_str).unwrap_or(name);
        let Some(spec) = signature.output(from) else {
            let known: Vec<&str> = signature.outputs.iter().map(|spec| &*spec.name).collect();
            let known = known.join(", ");
            return fail(
                "/from",
                format!("the graph has no output \"{from}\"; it has {known}"),
            );
        };
        let list = match members.get("steps") {
            None => &[][..],
            Some(Value::Array(list)) => list.as_slice(),
            Some(_) => return fail("/steps", "must be a list of steps"),
        };
        let (moves, steps) = compile_steps(list, spec).map_err(|error| error.below("/steps"))?;
        Ok(OutputField {
            name: name.to_owned(),
            key: json_key(name),
            from: Arc::clone(&spec.name),
            moves,
            steps,
            nullable,
            list: false,
        })
    }
}

fn compile_steps(list: &[Value], spec: &TensorSpec) -> Result<Steps, DeclarationError> {
    let (mut moves, mut steps) = (Vec::new(), Vec::new());
    let mut shape = spec.shape.0.clone();
    for (index, written) in list.iter().enumerate() {
        let below = |error: DeclarationError| error.below(&format!("/{index}"));
        let step: PostprocessStep =
            document::read(written).map_err(|error| below(DeclarationError::of_step(&error)))?;
        let change = match step {
            PostprocessStep::Take { axis, index } => Rearrangement::Take { axis, index },
            PostprocessStep::Transpose { axes } => Rearrangement::Transpose(axes),
            _ if spec.datatype == DataType::Bytes => {
                return fail("", "only take and transpose take strings").map_err(below);
            }
            step => {
                let last = index + 1 == list.len();
                steps.push(compile_step(step, row_width(&shape), last).map_err(below)?);
                continue;
            }
        };
        // Take and transpose move the dimension of rows. All other steps need the rows in the first
        // dimension.
        if !steps.is_empty() {
            return fail("", "take and transpose must come before every other step").map_err(below);
        }
        moves.push(compile_move(change, &mut shape).map_err(below)?);
    }
    if !moves.is_empty() && !matches!(shape.first(), Some(Dim::Any | Dim::Fixed(1))) {
        let detail = format!(
            "after take and transpose the first dimension must be the rows; it is {}",
            Shape(shape)
        );
        return fail("", detail);
    }
    Ok((moves, steps))
}

/// The number of values per row. `None` if the graph leaves it open, or if a row has more than one
/// dimension.
fn row_width(shape: &[Dim]) -> Option<usize> {
    match shape.get(1..).unwrap_or_default() {
        [] => Some(1),
        [Dim::Fixed(width)] => Some(*width),
        _ => None,
    }
}

/// Checks a rearrangement against the shape before it, and changes `shape` to the shape after it.
fn compile_move(
    change: Rearrangement,
    shape: &mut Vec<Dim>,
) -> Result<Rearrangement, DeclarationError> {
    let before = Shape(shape.clone());
    let Some(axes) = change.axes(shape.len()) else {
        let detail = match &change {
            Rearrangement::Take { axis, .. } => format!("there is no axis {axis} in {before}"),
            Rearrangement::Transpose(_) => format!("axes must name each axis of {before} once"),
        };
        return fail("", detail);
    };
    if let Rearrangement::Take { axis, index } = &change
        && let Some(Dim::Fixed(size)) =
            from_end(*axis, shape.len()).and_then(|axis| shape.get(axis))
        && from_end(*index, *size).is_none()
    {
        return fail(
            "/index",
            format!("is outside of the axis, which has the size {size} in {before}"),
        );
    }
    *shape = axes
        .iter()
        .filter_map(|axis| shape.get(*axis).copied())
        .collect();
    Ok(change)
}

/// Checks a step. `width` is the number of values per row, if it is known. `last` says whether the
/// step is the last one.
fn compile_step(
    step: PostprocessStep,
    width: Option<usize>,
    last: bool,
) -> Result<CompiledStep, DeclarationError> {
    let compiled = match step {
        PostprocessStep::Argmax { labels } => {
            CompiledStep::Argmax(labels.map(|list| json_labels(&list, width)).transpose()?)
        }
        PostprocessStep::Softmax {} => CompiledStep::Softmax,
        PostprocessStep::Sigmoid {} => CompiledStep::Sigmoid,
        PostprocessStep::Threshold {
            value,
            labels,
            index,
        } => {
            check_threshold_index(index, width)?;
            CompiledStep::Threshold {
                value,
                // The labels are for values below the threshold, and for values from the threshold
                // on.
                labels: labels.map(|list| json_labels(&list, Some(2))).transpose()?,
                index,
            }
        }
        PostprocessStep::TopK { k, labels } => {
            let labels = json_labels(&labels, width)?;
            if k == 0 || k > labels.len() {
                return fail("/k", format!("must be from 1 to {}, not {k}", labels.len()));
            }
            CompiledStep::TopK { k, labels }
        }
        PostprocessStep::AsMap { labels } => {
            json_labels(&labels, width)?;
            let key = |label: &Value| json_key(&label_text(label));
            CompiledStep::AsMap(labels.iter().map(key).collect())
        }
        // With more than 15 decimals, the power of ten has more digits than a float64.
        PostprocessStep::Round { decimals } if (-15..=15).contains(&decimals) => {
            CompiledStep::Round(decimals)
        }
        PostprocessStep::Round { decimals } => {
            return fail(
                "/decimals",
                format!("must be from -15 to 15, not {decimals}"),
            );
        }
        PostprocessStep::InverseScale { std: 0.0, .. } => return fail("/std", "must not be 0"),
        PostprocessStep::InverseScale { mean, std } => CompiledStep::InverseScale { mean, std },
        PostprocessStep::Take { .. } | PostprocessStep::Transpose { .. } => {
            return fail("", "must come before every other step");
        }
    };
    if !last && !compiled.keeps_shape() {
        return fail("", "must be the last step");
    }
    Ok(compiled)
}

fn check_threshold_index(
    index: Option<usize>,
    width: Option<usize>,
) -> Result<(), DeclarationError> {
    match (index, width) {
        (None, Some(width)) if width != 1 => fail(
            "",
            "the graph gives several values per row: select one with \"index\"",
        ),
        (Some(index), Some(width)) if index >= width => {
            fail("/index", "is beyond the values of a row")
        }
        _ => Ok(()),
    }
}

/// The labels as JSON texts. `expected` is the number of values per row, if it is known.
fn json_labels(labels: &[Value], expected: Option<usize>) -> Result<Arc<[Json]>, DeclarationError> {
    if let Some(expected) = expected.filter(|expected| *expected != labels.len()) {
        let given = labels.len();
        return fail(
            "/labels",
            format!("has {given} labels; the graph gives {expected} values per row"),
        );
    }
    if labels
        .iter()
        .any(|label| label.is_array() || label.is_object() || label.is_null())
    {
        return fail("/labels", "must be strings, numbers or booleans");
    }
    Ok(labels
        .iter()
        .map(|label| Arc::from(label.to_string()))
        .collect())
}
