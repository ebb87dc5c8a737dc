//! `TextStep`: a compiled step from a string to a string. `None` is a missing value.

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use crate::transform::steps::UnicodeForm;

#[derive(Clone, Debug)]
pub(crate) enum TextStep {
    Impute { value: String, missing: Vec<String> },
    Lowercase,
    Strip,
    Normalize(UnicodeForm),
    Replace { pattern: Regex, replacement: String },
}

impl TextStep {
    pub(crate) fn apply(&self, value: Option<String>) -> Option<String> {
        let text = match self {
            TextStep::Impute {
                value: replacement,
                missing,
            } => {
                let present = value.filter(|text| !missing.contains(text));
                return Some(present.unwrap_or_else(|| replacement.clone()));
            }
            _ => value?,
        };
        Some(match self {
            TextStep::Lowercase => text.to_lowercase(),
            TextStep::Strip => text.trim_matches(is_space).to_owned(),
            TextStep::Normalize(UnicodeForm::Nfc) => text.nfc().collect(),
            TextStep::Normalize(UnicodeForm::Nfd) => text.nfd().collect(),
            TextStep::Normalize(UnicodeForm::Nfkc) => text.nfkc().collect(),
            TextStep::Normalize(UnicodeForm::Nfkd) => text.nfkd().collect(),
            TextStep::Replace {
                pattern,
                replacement,
            } => replace_all(pattern, &text, replacement),
            TextStep::Impute { .. } => text,
        })
    }
}

/// Whether Python's `str.strip` removes a character: Unicode white space, and four ASCII
/// separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Replaces matches like Python's `re.sub`. `Regex::replace_all` differs: it skips an empty match
/// next to another match.
fn replace_all(pattern: &Regex, text: &str, replacement: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let (mut at, mut copied) = (0, 0);
    while at <= text.len()
        && let Some(captures) = pattern.captures_at(text, at)
        && let Some(found) = captures.get(0)
    {
        output.push_str(text.get(copied..found.start()).unwrap_or_default());
        captures.expand(replacement, &mut output);
        copied = found.end();
        // An empty match would be found again at the same place, so the search continues after the
        // next character.
        at = if found.is_empty() {
            text.get(found.end()..)
                .and_then(|rest| rest.chars().next())
                .map_or(text.len() + 1, |c| found.end() + c.len_utf8())
        } else {
            found.end()
        };
    }
    output.push_str(text.get(copied..).unwrap_or_default());
    output
}
