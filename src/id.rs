//! Names of models and versions, and ids of predictions. Each is checked when it is created.

use std::{fmt, sync::Arc};

/// A model name: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. It is safe in a path, in a URL and as the
/// label of a metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// Parses a model name. `None` if the string breaks the rule for model names.
    pub fn parse(text: &str) -> Option<ModelName> {
        let first = text.bytes().next()?;
        let rest_fits = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        (text.len() <= 128 && first.is_ascii_alphanumeric() && rest_fits)
            .then(|| ModelName(Arc::from(text)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Allows a lookup by `&str` in a map with names as keys.
impl std::borrow::Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A semantic version without build metadata, or an integer, like in repositories of bare models.
/// Versions are ordered like semantic versions; the integer 3 is ordered like 3.0.0. The string
/// stays as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    text: Arc<str>,
    semver: semver::Version,
}

impl Version {
    // Build metadata is refused. Semantic versioning ignores it in comparisons, so two different
    // versions could compare as equal.
    /// Parses a version. `None` for any other string, and for a string of more than 128 bytes.
    pub fn parse(text: &str) -> Option<Version> {
        let semver = match semver::Version::parse(text) {
            Ok(semver) => semver,
            // `1.0` is neither a semantic version nor an integer, and is refused.
            Err(_) => semver::Version::new(whole_number(text)?, 0, 0),
        };
        (semver.build.is_empty() && text.len() <= 128).then(|| Version {
            text: Arc::from(text),
            semver,
        })
    }

    /// Whether the version is an integer.
    pub fn is_number(&self) -> bool {
        whole_number(&self.text).is_some()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the next version: the next integer, the next patch version, or the release of a
    /// pre-release.
    #[must_use]
    pub fn next(&self) -> Version {
        if let Some(number) = whole_number(&self.text) {
            let next = number.saturating_add(1);
            return Version {
                text: Arc::from(next.to_string()),
                semver: semver::Version::new(next, 0, 0),
            };
        }
        let semver::Version {
            major,
            minor,
            patch,
            pre,
            ..
        } = &self.semver;
        let patch = if pre.is_empty() {
            patch.saturating_add(1)
        } else {
            *patch
        };
        let semver = semver::Version::new(*major, *minor, patch);
        Version {
            text: Arc::from(semver.to_string()),
            semver,
        }
    }
}

/// Parses an integer. Signs and leading zeros are refused, so that each number has only one string.
fn whole_number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| digits)
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> std::cmp::Ordering {
        self.semver
            .cmp(&other.semver)
            // `3` and `3.0.0` are different versions, so they must not be equal.
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// One version of one model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelId {
    /// The name of the model, which is also the name of its directory.
    pub name: ModelName,
    /// The version, which is also the name of its directory.
    pub version: Version,
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// The id that the server gives to a prediction (a ULID). Feedback, logs and the assignment to an
/// arm use only this id, never the id that the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredictionId(ulid::Ulid);

impl PredictionId {
    /// Creates an id from the current time and random bits.
    #[expect(
        clippy::new_without_default,
        reason = "every call returns a different id, and a default must not do that"
    )]
    pub fn new() -> PredictionId {
        PredictionId(ulid::Ulid::generate())
    }

    /// The random bits of the id, which a caller can't predict. Other ids are derived from them.
    pub fn random_bits(self) -> u64 {
        self.0.random() as u64
    }

    /// Writes the 26 characters of the id without an allocation.
    pub fn write(self, buffer: &mut [u8; ulid::ULID_LEN]) -> &str {
        self.0.array_to_str(buffer)
    }
}

impl fmt::Display for PredictionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use crate::id::{ModelName, Version};

    #[test]
    fn model_names() {
        for valid in ["churn", "a", "A.b-c_1", "0x"] {
            assert!(ModelName::parse(valid).is_some(), "{valid}");
        }
        for invalid in [
            "",
            ".churn",
            "-a",
            "a/b",
            "a b",
            "..",
            "é",
            &"a".repeat(129),
        ] {
            assert!(ModelName::parse(invalid).is_none(), "{invalid}");
        }
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let mut versions: Vec<Version> = ["1.10.0", "1.9.0", "2.0.0", "2.0.0-rc.1", "3", "12"]
            .iter()
            .map(|text| Version::parse(text).unwrap())
            .collect();
        versions.sort();
        assert_eq!(
            versions.iter().map(Version::as_str).collect::<Vec<_>>(),
            ["1.9.0", "1.10.0", "2.0.0-rc.1", "2.0.0", "3", "12"]
        );
        assert!(
            Version::parse("7").unwrap().is_number()
                && !Version::parse("7.0.0").unwrap().is_number()
        );
        for invalid in [
            "1.0",
            "1.0.0+build",
            "v1.0.0",
            "01.0.0",
            "",
            "01",
            "-1",
            "+1",
            "99999999999999999999",
        ] {
            assert!(Version::parse(invalid).is_none(), "{invalid}");
        }
    }
}
