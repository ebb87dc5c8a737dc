//! `PackageError`: why a package or an import is rejected.

use std::fmt;

/// Names the file, the place in it, and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageError {
    /// The check of the load gate that failed. It is the `reason` of the rejection in metrics.
    pub check: &'static str,
    pub(crate) file: String,
    /// JSON pointer or line. It is empty for the whole file.
    pub field: String,
    /// The rule, with the value that breaks it.
    pub detail: String,
}

impl PackageError {
    pub(crate) fn new(check: &'static str, file: &str, detail: impl Into<String>) -> PackageError {
        PackageError {
            check,
            file: file.to_owned(),
            field: String::new(),
            detail: detail.into(),
        }
    }

    #[must_use]
    pub(crate) fn at(mut self, field: &str) -> PackageError {
        self.field = field.to_owned();
        self
    }

    /// Whether files changed after the package was packed: they can only become a new version.
    pub(crate) fn is_changed_file(&self) -> bool {
        self.check == "hashes"
    }

    /// A file that can't be read.
    pub fn io(file: &str, error: &std::io::Error) -> PackageError {
        PackageError::new("files", file, format!("can't be read: {error}"))
    }
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An error of the whole version has neither file nor field.
        let place = [self.file.as_str(), self.field.as_str()].join(" ");
        match place.trim() {
            "" => f.write_str(&self.detail),
            place => write!(f, "{place}: {}", self.detail),
        }
    }
}

impl std::error::Error for PackageError {}
