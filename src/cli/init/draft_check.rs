//! Checks of a draft: whether it accepts the rows from which it was made, and whether it reproduces
//! the golden examples.

use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use crate::{
    cli::{
        init::{draft_files::pretty, draft_inputs::DraftInputs, graph_file::DraftGraph},
        pack::{self, Packer, Sealed},
    },
    decode::{DecodeError, decode_instance},
    error::text_with_sources,
    id::ModelId,
    package::{
        PREPROCESSING_FILE, PackageError, Parts, Transform,
        draft::Draft,
        guess::{self, Guess},
        manifest::{self, Manifest, Provenance},
    },
    registry::gate::OWN_LIMITS,
    tensor::signature::Signature,
};

/// Checks whether the draft accepts the rows from which it was made. If it does not, the reason
/// becomes a note.
pub(super) fn try_draft(
    directory: &Path,
    graph: &DraftGraph,
    inputs: &DraftInputs,
    drafted: &mut Draft,
) -> anyhow::Result<bool> {
    let tried = match bind(directory, &graph.signature) {
        Ok((parts, transform)) => take_rows(&parts, &transform, &inputs.rows),
        Err(error) if !inputs.hints.is_empty() => {
            bail!(
                "nothing was drafted: --column does not fit this graph: {}",
                text_with_sources(&error)
            )
        }
        Err(error) => Err(DraftFault::NotAPackage(error)),
    };
    match tried {
        Ok(()) => Ok(true),
        Err(fault) => {
            drafted.notes.push(text_with_sources(&fault));
            Ok(false)
        }
    }
}

/// The reason why a draft can't be used yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum DraftFault {
    #[error("`pack` will reject the draft as it is")]
    NotAPackage(#[source] PackageError),
    #[error("the draft rejects row {row} of its sample: {detail}")]
    Row { row: usize, detail: String },
}

pub(super) fn bind(
    directory: &Path,
    signature: &Signature,
) -> Result<(Parts, Transform), PackageError> {
    let parts = Parts::read(directory)?;
    let transform = parts.bind(signature)?;
    Ok((parts, transform))
}

/// Decodes and preprocesses the rows from which the draft was made.
pub(super) fn take_rows(
    parts: &Parts,
    transform: &Transform,
    rows: &[Value],
) -> Result<(), DraftFault> {
    for (index, row) in rows.iter().enumerate() {
        let refused = |detail: String| DraftFault::Row {
            row: index + 1,
            detail,
        };
        let columns = decode_instance(&parts.input, row.to_string().as_bytes(), &OWN_LIMITS)
            .map_err(|error| match error {
                DecodeError::Malformed { detail } => refused(detail.to_string()),
                DecodeError::Invalid { faults, .. } => refused(
                    faults
                        .first()
                        .map(|fault| format!("{} {}", fault.pointer, fault.detail))
                        .unwrap_or_default(),
                ),
            })?;
        let prepared = transform.prepare(&columns);
        prepared.map_err(|faults| {
            refused(
                faults
                    .first()
                    .map(|fault| fault.detail.clone())
                    .unwrap_or_default(),
            )
        })?;
    }
    Ok(())
}

/// Runs the load gate on the draft. Removes the manifest afterwards, because `pack` writes the
/// final one.
pub(super) fn check_golden(
    packer: &Packer,
    directory: &Path,
    id: &ModelId,
) -> anyhow::Result<bool> {
    let manifest = Manifest::of_directory(directory, id, pack::created(), Provenance::default())?;
    let sealed = packer.seal(manifest, directory, &mut |check| pack::say_check(&check))?;
    fs_err::remove_file(directory.join(manifest::FILE))?;
    match sealed {
        Sealed::Passed(_) => Ok(true),
        Sealed::Refused(error) => {
            pack::say_failure(&error);
            Ok(false)
        }
    }
}

/// Returns the guesses that no golden example proved. If there are any, writes the guess markers
/// into preprocessing.json.
pub(super) fn remaining_guesses(
    directory: &Path,
    drafted: &mut Draft,
    passed: bool,
) -> anyhow::Result<Vec<Guess>> {
    let Some(preprocessing) = &drafted.preprocessing else {
        return Ok(Vec::new());
    };
    let golden = if passed {
        Parts::read(directory)?.golden
    } else {
        Vec::new()
    };
    let mut guesses = guess::find(preprocessing, &golden);
    if passed {
        guesses.retain(|guess| guess.unproved.is_some());
    }
    if !guesses.is_empty() {
        fs_err::write(directory.join(PREPROCESSING_FILE), pretty(preprocessing)?)?;
    }
    Ok(guesses)
}
