//! `PackageError`: why a package or an import is rejected.

use std::{error::Error, fmt, sync::Arc};

use crate::{document::DocumentError, error::text_with_sources, package::check::PackageCheck};

/// An error that names the file, the place in the file, and the violated rule.
#[derive(Clone, Debug)]
pub struct PackageError {
    /// The check that failed.
    pub check: PackageCheck,
    pub(crate) file: String,
    /// The JSON pointer or line. Empty if the error concerns the whole file.
    pub field: String,
    /// The rule, and the value that violates it. Empty if the source says it.
    detail: String,
    /// It is shared, because the state of a version keeps the error.
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl PackageError {
    pub(crate) fn new(check: PackageCheck, file: &str, detail: impl Into<String>) -> PackageError {
        PackageError {
            check,
            file: file.to_owned(),
            field: String::new(),
            detail: detail.into(),
            source: None,
        }
    }

    /// The error for another error. `detail` is empty if the source says what is wrong.
    pub(crate) fn caused_by(
        check: PackageCheck,
        file: &str,
        detail: &str,
        source: impl Error + Send + Sync + 'static,
    ) -> PackageError {
        PackageError {
            source: Some(Arc::new(source)),
            ..PackageError::new(check, file, detail)
        }
    }

    /// The error for a document that violates its type.
    pub(crate) fn of_document(
        check: PackageCheck,
        file: &str,
        error: DocumentError,
    ) -> PackageError {
        let field = error.pointer();
        PackageError::caused_by(check, file, "", error.problem).at(&field)
    }

    /// The same error with a source, if there is one.
    #[must_use]
    pub(crate) fn with_source(
        mut self,
        source: Option<impl Error + Send + Sync + 'static>,
    ) -> PackageError {
        if let Some(source) = source {
            self.source = Some(Arc::new(source));
        }
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, field: &str) -> PackageError {
        self.field = field.to_owned();
        self
    }

    /// Whether files changed after the package was packed. Such files need a new version.
    pub(crate) fn is_changed_file(&self) -> bool {
        self.check == PackageCheck::Hashes
    }

    /// The error for a file that can't be read.
    pub fn io(file: &str, error: std::io::Error) -> PackageError {
        PackageError::caused_by(PackageCheck::Files, file, "can't be read", error)
    }

    /// The detail with the text of the sources, without the place.
    pub(crate) fn full_detail(&self) -> String {
        let source = self
            .source
            .as_deref()
            .map(|source| text_with_sources(source));
        match source {
            None => self.detail.clone(),
            Some(source) if self.detail.is_empty() => source,
            Some(source) => format!("{}: {source}", self.detail),
        }
    }
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An error of the whole version has neither file nor field.
        let place = [self.file.as_str(), self.field.as_str()].join(" ");
        match (place.trim(), self.detail.as_str(), &self.source) {
            ("", "", Some(source)) => source.fmt(f),
            ("", detail, _) => f.write_str(detail),
            (place, "", _) => f.write_str(place),
            (place, detail, _) => write!(f, "{place}: {detail}"),
        }
    }
}

impl Error for PackageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &dyn Error)
    }
}

/// Errors are equal if they have the same texts: a source can't be compared.
impl PartialEq for PackageError {
    fn eq(&self, other: &PackageError) -> bool {
        (self.check, &self.file, &self.field) == (other.check, &other.file, &other.field)
            && self.full_detail() == other.full_detail()
    }
}

impl Eq for PackageError {}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::{
        error::text_with_sources,
        package::{PackageCheck, PackageError},
    };

    #[test]
    fn the_place_comes_before_the_detail_and_its_source() {
        let missing = || io::Error::other("no such file");
        let io = PackageError::io("a.json", missing());
        assert_eq!(io.to_string(), "a.json: can't be read");
        assert_eq!(
            text_with_sources(&io),
            "a.json: can't be read: no such file"
        );
        assert_eq!(io.full_detail(), "can't be read: no such file");
        let caused = PackageError::caused_by(PackageCheck::Files, "a.json", "", missing()).at("/x");
        assert_eq!(text_with_sources(&caused), "a.json /x: no such file");
        assert_eq!(caused.full_detail(), "no such file");
        let everywhere = PackageError::caused_by(PackageCheck::Runtime, "", "", missing());
        assert_eq!(text_with_sources(&everywhere), "no such file");
        assert_eq!(
            PackageError::new(PackageCheck::Files, "a.json", "can't be read: no such file"),
            io,
            "the gate's process sends the text"
        );
    }
}
