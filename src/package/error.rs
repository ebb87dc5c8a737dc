//! `PackageError`: why a package or an import is rejected.

use std::fmt;

/// An error that names the file, the place in the file, and the violated rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageError {
    /// The check of the load gate that failed. It is the `reason` of the rejection in metrics.
    pub check: &'static str,
    pub(crate) file: String,
    /// The JSON pointer or line. Empty if the error concerns the whole file.
    pub field: String,
    /// The rule, and the value that violates it.
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

    /// Whether files changed after the package was packed. Such files need a new version.
    pub(crate) fn is_changed_file(&self) -> bool {
        self.check == "hashes"
    }

    /// The error for a file that can't be read.
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
