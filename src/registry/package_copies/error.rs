//! Why a package can't be copied or loaded again.

use std::{fmt, io, path::PathBuf};

use crate::{
    error::text_with_sources, id::Version, package::PackageError,
    registry::integrity::IntegrityError,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file differs from the loaded one.
    #[error(transparent)]
    Changed(#[from] PackageError),
    #[error("its files differ from the loaded ones")]
    Lost(#[source] IntegrityError),
    #[error(
        "it needs {needed} bytes; {free} bytes are free in {}, and {reserved} of them are reserved for the journal: free disk space there, or set state.keep_packages = false",
        directory.display()
    )]
    NoRoom {
        needed: u64,
        free: u64,
        reserved: u64,
        directory: PathBuf,
    },
}

/// A loaded version that a restart would not find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotRestorable {
    pub version: Version,
    /// What happened to the files in the models directory.
    pub files: FilesLoss,
    /// The problem with the copy in the state directory. `None` if there is no copy.
    pub copy: Option<Box<IntegrityError>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FilesLoss {
    Gone,
    Changed(Box<IntegrityError>),
}

impl fmt::Display for NotRestorable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the files of {} ", self.version)?;
        match &self.files {
            FilesLoss::Gone => f.write_str("are gone")?,
            FilesLoss::Changed(error) => write!(
                f,
                "differ from the loaded ones ({})",
                text_with_sources(error.as_ref())
            )?,
        }
        if let Some(error) = &self.copy {
            write!(
                f,
                ", and its copy in the state directory is damaged ({})",
                text_with_sources(error.as_ref())
            )?;
        }
        f.write_str(": it answers from memory, and a restart would lose it; put them back")
    }
}

impl std::error::Error for NotRestorable {}
