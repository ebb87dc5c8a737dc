//! A state and a models directory that outlive the servers that use them.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{
    files::file_names,
    package::{install_package, models_with},
    server::Server,
    state::empty_state,
    wait::wait_for,
};

/// A models directory, a state directory, and settings. Several servers can run on it, at once or
/// one after the other.
pub struct Deployment {
    models: TempDir,
    state: PathBuf,
    settings: Vec<(String, String)>,
    _state: TempDir,
}

impl Deployment {
    /// With these packages of the repository, and an empty state.
    pub fn new(packages: &[(&str, &str)]) -> Deployment {
        let directory = empty_state();
        Deployment {
            models: models_with(packages),
            state: directory.path().to_owned(),
            settings: Vec::new(),
            _state: directory,
        }
    }

    /// With churn 1.0.0 and an empty state.
    pub fn churn() -> Deployment {
        Deployment::new(&[("churn", "1.0.0")])
    }

    /// Keeps the state in this directory.
    pub fn with_state(mut self, state: PathBuf) -> Deployment {
        self.state = state;
        self
    }

    /// Adds a setting of every server: `section.key` and its value.
    pub fn with(mut self, key: &str, value: &str) -> Deployment {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Starts a server and waits until it is ready.
    pub fn start(&self) -> Server {
        let server = self.start_unready();
        server.wait_until_ready();
        server
    }

    /// Starts a server, and installs churn 1.1.0 once churn 1.0.0 is stable.
    pub fn start_and_add_candidate(&self) -> Server {
        let server = self.start();
        install_package(self.models(), "churn", "1.1.0");
        server
    }

    /// Starts a server and waits only until it listens.
    pub fn start_unready(&self) -> Server {
        let mut settings = vec![("state.url", self.state.to_str().unwrap())];
        settings.extend(
            self.settings
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
        Server::start_unready(self.models(), &settings)
    }

    pub fn models(&self) -> &Path {
        self.models.path()
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The directory of a version in the models directory.
    pub fn version(&self, name: &str, version: &str) -> PathBuf {
        self.models().join(name).join(version)
    }

    /// The file of an entry in churn's journal.
    pub fn entry(&self, seq: u64) -> PathBuf {
        self.state.join(format!("journal/churn/{seq:08}.json"))
    }

    /// Replaces a model's journal by a file, so that not even root can write entries. The returned
    /// function undoes it.
    pub fn break_journal(&self, model: &str) -> impl Fn() + use<> {
        let (journal, aside) = (
            self.state.join("journal").join(model),
            self.state.join("aside"),
        );
        fs_err::rename(&journal, &aside).unwrap();
        fs_err::write(&journal, "not a directory").unwrap();
        move || {
            fs_err::remove_file(&journal).unwrap();
            fs_err::rename(&aside, &journal).unwrap();
        }
    }

    /// Waits until the state has this many copies of the model's packages, and returns their
    /// directories.
    pub fn wait_for_copies(&self, model: &str, count: usize) -> Vec<PathBuf> {
        wait_for_package_copies(&self.state, model, count)
    }
}

/// The copies of a model's packages in a state, `packages/MODEL/DIGEST/NAME/VERSION`, by version.
pub fn package_copies(state: &Path, model: &str) -> Vec<PathBuf> {
    let visible_directories = |directory: PathBuf| -> Vec<PathBuf> {
        let names = file_names(&directory)
            .into_iter()
            .filter(|name| !name.starts_with('.'));
        names
            .map(|name| directory.join(name))
            .filter(|path| path.is_dir())
            .collect()
    };
    let mut copies: Vec<PathBuf> = visible_directories(state.join("packages").join(model))
        .into_iter()
        .flat_map(visible_directories)
        .flat_map(visible_directories)
        .collect();
    copies.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    copies
}

/// Waits until a state has this many copies of the model's packages, and returns their directories.
pub fn wait_for_package_copies(state: &Path, model: &str, count: usize) -> Vec<PathBuf> {
    wait_for("the packages are copied into the state", || {
        Some(package_copies(state, model)).filter(|copies| copies.len() == count)
    })
}
