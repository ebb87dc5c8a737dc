//! The guesses of `predictd init` in preprocessing.json. Golden examples can prove them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    cli::pack::say_failure,
    package::{
        GOLDEN_FILE, PREPROCESSING_FILE, PackageCheck, PackageError, golden,
        guess::{self, Guess},
    },
};

/// preprocessing.json without its guess markers. The markers are restored unless the package
/// passes.
pub(super) struct SettledGuesses {
    path: PathBuf,
    marked: Option<(usize, Vec<u8>)>,
}

impl SettledGuesses {
    pub(super) fn keep(mut self) -> Option<String> {
        let (count, _) = self.marked.take()?;
        let places = if count == 1 {
            "1 place"
        } else {
            &format!("{count} places")
        };
        Some(format!(
            "{PREPROCESSING_FILE}: the golden examples prove the guesses in {places}; the key \"{}\" was deleted there",
            guess::KEY
        ))
    }
}

impl Drop for SettledGuesses {
    fn drop(&mut self) {
        if let Some((_, text)) = self.marked.take() {
            // The same text was on disk before, and `drop` can't report an error.
            let _ = fs_err::write(&self.path, text);
        }
    }
}

/// Accepts the guesses that golden examples can prove. If there are other guesses, reports them and
/// returns `None`.
pub(super) fn settle_guesses(directory: &Path) -> anyhow::Result<Option<SettledGuesses>> {
    let path = directory.join(PREPROCESSING_FILE);
    // A file that is missing or not JSON is reported by the check of the parts.
    let text = fs_err::read(&path).unwrap_or_default();
    let mut document: Value = serde_json::from_slice(&text).unwrap_or_default();
    let golden = fs_err::read_to_string(directory.join(GOLDEN_FILE))
        .ok()
        .and_then(|text| golden::parse(&text).ok())
        .unwrap_or_default();
    let guesses = guess::find(&document, &golden);
    if guesses.is_empty() {
        return Ok(Some(SettledGuesses { path, marked: None }));
    }
    let count = guesses.len();
    let mut shown = true;
    for Guess {
        pointer,
        text,
        unproved,
    } in guesses
    {
        if let Some(why) = unproved {
            shown = false;
            say_failure(
                &PackageError::new(
                    PackageCheck::Preprocessing,
                    PREPROCESSING_FILE,
                    format!("is a guess, and {why}: {text}"),
                )
                .at(&pointer),
            );
        }
    }
    if !shown {
        say!(
            "  either  compare the guess with the training code, and delete the key \"{}\"",
            guess::KEY
        );
        say!(
            "  or      write {GOLDEN_FILE} with predictions from training: if the package reproduces them, pack deletes the key"
        );
        return Ok(None);
    }
    guess::remove_marks(&mut document);
    fs_err::write(&path, serde_json::to_string_pretty(&document)? + "\n")?;
    Ok(Some(SettledGuesses {
        path,
        marked: Some((count, text)),
    }))
}
