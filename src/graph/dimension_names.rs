//! Names of dimensions. Finds graphs whose first dimension is time instead of rows.

use crate::graph::{
    model::{Dimension, Model},
    row_report::RowReport,
};

const EXPORT_ADVICE: &str = "export it with the rows first (PyTorch: nn.LSTM(..., \
                             batch_first=True) and an example input [batch, time, features]; else \
                             transpose the input within the graph)";

/// Returns a message if dimension 0 is time steps instead of rows. The message names the export
/// option that puts the rows first.
pub(super) fn time_first(model: &Model<'_>, report: &RowReport) -> Option<String> {
    for input in &model.graph.inputs {
        // Only a dynamic first dimension can be rows or time.
        let shape = input.shape.as_deref().unwrap_or_default();
        let (first, others) = match shape.split_first() {
            Some((Dimension::Named(first), others)) => (*first, others),
            Some((Dimension::Free, others)) => ("", others),
            _ => continue,
        };
        if let Some(reason) = time_reason(first, others, report) {
            return Some(format!(
                "input \"{}\" has \"{first}\" as its first dimension{reason}: {EXPORT_ADVICE}",
                input.name
            ));
        }
    }
    report
        .time_steps()
        .map(|reason| format!("{}: {EXPORT_ADVICE}", report.explain(reason)))
}

/// Why the dimension with the name `first` of an input means time. `others` are the input's other
/// dimensions.
fn time_reason(first: &str, others: &[Dimension<'_>], report: &RowReport) -> Option<String> {
    let other_named = |fits: fn(&str) -> bool| {
        others.iter().enumerate().find_map(|(axis, dim)| match dim {
            Dimension::Named(name) if fits(name) => {
                Some(format!(", and \"{name}\" as dimension {}", axis + 1))
            }
            _ => None,
        })
    };
    if !is_batch(first)
        && !is_rows(first)
        && let Some(reason) = other_named(is_batch)
    {
        return Some(reason);
    }
    // The following reasons are weak alone: names such as `n`, and a graph that mixes its rows.
    if !is_time(first) {
        return None;
    }
    other_named(is_rows).or_else(|| {
        report
            .batching_objection()
            .map(|objection| format!(", and {objection}"))
    })
}

/// The words of a dimension's name.
fn words(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Whether a name means the batch itself, like `batch`, `batch_size` and `dynamic_batch`. A name
/// such as `batch_features` does not.
fn is_batch(name: &str) -> bool {
    let words = words(name);
    // Words that describe the batch without changing the meaning.
    let neutral = [
        "size", "dim", "axis", "axes", "n", "num", "dynamic", "number", "of",
    ];
    let is_batch_word = |word: &str| {
        ["batch", "batchsize", "batches", "bs"].contains(&word)
            || word
                .strip_prefix("batch")
                .is_some_and(|rest| rest.parse::<u8>().is_ok())
    };
    words.iter().any(|word| is_batch_word(word))
        && words.iter().all(|word| {
            is_batch_word(word) || neutral.contains(&word.as_str()) || word.parse::<u8>().is_ok()
        })
}

/// Whether a name is another usual name of the dimension of rows.
fn is_rows(name: &str) -> bool {
    let words = words(name);
    let [word] = words.as_slice() else {
        return words
            .iter()
            .any(|word| ["samples", "examples", "rows", "obs"].contains(&word.as_str()));
    };
    [
        "n",
        "b",
        "rows",
        "samples",
        "examples",
        "obs",
        "observations",
        "instances",
        "records",
    ]
    .contains(&word.as_str())
}

/// Whether a name means time steps.
fn is_time(name: &str) -> bool {
    let words = words(name);
    let is_time_word = |word: &String| {
        [
            "t",
            "l",
            "s",
            "time",
            "times",
            "seq",
            "seqlen",
            "sequence",
            "step",
            "steps",
            "timestep",
            "timesteps",
            "frame",
            "frames",
        ]
        .contains(&word.as_str())
    };
    words.iter().any(is_time_word)
}
