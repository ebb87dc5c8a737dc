//! ONNX Runtime: its library, its sessions and their runs. The only folder that names `ort`.

mod arena;
mod factory;
mod runtime;
mod session;
mod signature;
mod values;

use std::path::Path;

pub use factory::{LocateVerified, OnnxFactory};
pub use runtime::{Resources, Runtime, RuntimeError};
pub use session::OnnxEngine;

use crate::engine::{
    EngineError,
    error::{FailedRun, LoadFailure, RunCause},
    runtime_message::{self, RunFault},
};

fn run_error(error: ort::Error) -> EngineError {
    let detail = error.message();
    EngineError::Run(Box::new(FailedRun {
        loggable: detail.to_owned(),
        ..failed_run(detail)
    }))
}

/// The failure that a message of the runtime describes. The caller sets the text for the log.
fn failed_run(message: &str) -> FailedRun {
    FailedRun {
        detail: message.to_owned(),
        loggable: String::new(),
        node: runtime_message::failed_node(message),
        cause: match runtime_message::run_fault(message) {
            RunFault::Rejected(rejected) => RunCause::Rejected(rejected),
            RunFault::NoMemory | RunFault::ArenaLimit => RunCause::NoMemory,
            RunFault::Terminated | RunFault::Other => RunCause::Other,
        },
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn load_error(path: &Path, failure: impl Into<LoadFailure>) -> EngineError {
    EngineError::Load {
        file: file_name(path),
        failure: Box::new(failure.into()),
    }
}

/// The error for files that can't be read or that changed. `text` may name directories.
fn files_error(path: &Path, text: &str) -> EngineError {
    let text = without_directories(path, text);
    load_error(path, LoadFailure::Files { text })
}

/// Removes the server's directories from a text about the graph at `path`. A caller of the model
/// may read the text.
fn without_directories(path: &Path, text: &str) -> String {
    let text = text.replace(path.to_string_lossy().as_ref(), &file_name(path));
    match path
        .parent()
        .map(|directory| directory.to_string_lossy())
        .filter(|directory| directory.len() > 1)
    {
        Some(directory) => text.replace(&format!("{directory}/"), ""),
        None => text,
    }
}
