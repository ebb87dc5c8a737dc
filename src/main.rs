//! predictd: reads the command line, runs the command, and prints errors. The process exits only
//! here.

use std::process::ExitCode;

/// A fast allocator, because requests make many small, short-lived allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// This is not `#[tokio::main]`, because the variable below must be set before any thread exists.
#[expect(
    unsafe_code,
    reason = "an environment variable must be set before the first thread exists"
)]
fn main() -> ExitCode {
    // ONNX Runtime sends vendor telemetry unless this variable is set before the library is loaded.
    // SAFETY: this is the first statement of the process, so no other thread exists that could read
    // the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    predictd::cli::run()
}
