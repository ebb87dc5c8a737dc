//! Writes the files of a draft.

use std::{fmt::Write, path::Path};

use serde_json::Value;

use crate::{
    package::{GOLDEN_FILE, PREPROCESSING_FILE, SCHEMA_FILE, draft::Draft, guess},
    tensor::signature::{Signature, Symbols},
};

/// Writes the documents next to the graph and removes the guess markers.
pub(super) fn write_draft(
    directory: &Path,
    drafted: &Draft,
    golden: &[Value],
    card: &str,
) -> anyhow::Result<()> {
    fs_err::write(directory.join(SCHEMA_FILE), pretty(&drafted.schema)?)?;
    if let Some(preprocessing) = &drafted.preprocessing {
        let mut plain = preprocessing.clone();
        guess::remove_marks(&mut plain);
        fs_err::write(directory.join(PREPROCESSING_FILE), pretty(&plain)?)?;
    }
    if !golden.is_empty() {
        fs_err::write(
            directory.join(GOLDEN_FILE),
            golden
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )?;
    }
    fs_err::write(directory.join("README.md"), card)?;
    Ok(())
}

pub(super) fn pretty(document: &Value) -> serde_json::Result<String> {
    serde_json::to_string_pretty(document).map(|text| text + "\n")
}

pub(super) fn card(name: &str, signature: &Signature, symbols: &Symbols) -> String {
    let mut text = format!(
        "# {name}\n\nWhat the model predicts, for whom, and what it must not be used for.\n\n## Graph\n\n"
    );
    for (title, specs) in ["in", "out"].iter().zip(signature.sides(symbols)) {
        for (spec, names) in specs {
            // Writing to a String does not fail.
            let _ = writeln!(text, "- {title}: `{}` {}", spec.name, spec.named(names));
        }
    }
    text + "\n## Data\n\nThe data that the model was trained and evaluated on, and when.\n\n\
            ## Limits\n\nThe cases in which the model is known to be wrong.\n"
}
