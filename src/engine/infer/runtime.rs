//! `Runtime`: the loaded ONNX Runtime library.

use std::{
    ffi::CStr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use ort::{environment::Environment, logging::LogLevel};

/// The loaded library. The library allows one environment per process.
#[derive(Clone)]
pub struct Runtime {
    pub(super) environment: Arc<Environment>,
    version: Arc<str>,
    /// The lock of a thread that registers an arena: the environment accepts only one registration
    /// at a time.
    pub(super) registration: Arc<Mutex<()>>,
}

/// The ONNX Runtime library could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("loading the ONNX Runtime library {}", path.display())]
pub struct RuntimeError {
    path: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Runtime {
    /// Loads the library at `path`. Before the call, `main` must set the environment variable that
    /// turns the library's telemetry off: the library reads the variable while it is loaded.
    pub fn load(path: &Path) -> Result<Runtime, RuntimeError> {
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| RuntimeError {
            path: path.to_path_buf(),
            source,
        };
        let builder = ort::init_from(path).map_err(|error| fail(error.into()))?;
        let environment = builder
            .with_name("predictd")
            // A model server must not send data about its models to a vendor.
            .with_telemetry(false)
            .build()
            .map_err(|error| fail(error.into()))?;
        // The library's own log repeats its errors and contains file names of the server.
        // `EngineError` brings the errors to the log.
        environment.set_log_level(LogLevel::Fatal);
        Ok(Runtime {
            environment: Arc::new(environment),
            version: Arc::from(library_version(path).unwrap_or_else(|| "unknown".to_owned())),
            registration: Arc::default(),
        })
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }
}

/// The version that the library reports, e.g. `1.31.1`.
fn library_version(path: &Path) -> Option<String> {
    // SAFETY: the library is already loaded in this process (`ort::init_from` succeeded with the
    // same path), so this call runs no initialiser and only increments a reference count.
    let library = unsafe { libloading::Library::new(path) }.ok()?;
    // SAFETY: `OrtGetApiBase` has this signature in every release of the C API.
    let base = unsafe {
        library.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase")
    }
    .ok()?;
    // SAFETY: the function takes no argument and may be called at any time.
    let base = unsafe { base() };
    // SAFETY: the pointer is null or points to a static table. The table lives as long as the
    // library, which `ort` never unloads.
    let base = unsafe { base.as_ref() }?;
    // SAFETY: the table's function takes no argument and may be called at any time.
    let text = unsafe { (base.GetVersionString)() };
    // SAFETY: the result is a static, null-terminated string.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().ok().map(str::to_owned)
}

/// Limits of one session.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    pub(crate) intra_op_threads: usize,
    /// Maximum memory in bytes for weights and runs together. `None` means no limit.
    pub memory_bytes: Option<u64>,
}

impl From<usize> for Resources {
    fn from(intra_op_threads: usize) -> Resources {
        Resources {
            intra_op_threads,
            memory_bytes: None,
        }
    }
}

/// Converts the status that a call of the library's C API returns.
pub(super) fn succeeded(status: ort::sys::OrtStatusPtr) -> ort::Result<()> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: the status is not null, and the library created it for this call.
    let message = unsafe { (ort::api().GetErrorMessage)(status.0) };
    // SAFETY: a status's message is a null-terminated string that lives as long as the status.
    let message = unsafe { CStr::from_ptr(message) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: the status is released only here, and it is not used after this.
    unsafe { (ort::api().ReleaseStatus)(status.0) };
    Err(ort::Error::new(message))
}
