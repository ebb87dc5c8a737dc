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

use crate::engine::EngineError;

fn run_error(error: ort::Error) -> EngineError {
    EngineError::run(error.message())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn load_error(path: &Path, detail: String) -> EngineError {
    let file = file_name(path);
    // A caller of the model may read this error. It must not contain the server's directories.
    let detail = detail.replace(path.to_string_lossy().as_ref(), &file);
    let detail = match path
        .parent()
        .map(|directory| directory.to_string_lossy())
        .filter(|directory| directory.len() > 1)
    {
        Some(directory) => detail.replace(&format!("{directory}/"), ""),
        None => detail,
    };
    EngineError::Load { file, detail }
}

/// Whether an error of the runtime means that the arena reached its limit.
fn is_memory_limit(message: &str) -> bool {
    message.contains("Available memory of") && message.contains("is smaller than requested bytes")
}
