//! Measures the time and memory of a graph in a separate process.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{app, cli::measure::Measured, document};

/// The time limit of a measurement process.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Runs the graph in a separate process, because memory is measured per process.
pub(super) fn measure(
    directory: &Path,
    library: &Path,
    rows: usize,
    intra_op_threads: usize,
) -> anyhow::Result<Measured> {
    let mut child = Command::new(app::executable()?)
        .arg("measure")
        .arg(directory)
        .arg("--library")
        .arg(library)
        .args(["--rows", &rows.to_string()])
        .args(["--intra-op-threads", &intra_op_threads.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the measurement")?;
    let mut stdout = child
        .stdout
        .take()
        .context("the measurement has no output")?;
    let (sender, text) = mpsc::channel();
    thread::Builder::new()
        .name("measurement".to_owned())
        .spawn(move || {
            let mut text = String::new();
            // After a timeout the receiver no longer exists.
            let _ = sender.send(stdout.read_to_string(&mut text).map(|_| text));
        })?;
    let Ok(text) = text.recv_timeout(TIME_LIMIT) else {
        let _ = child.kill();
        let _ = child.wait();
        bail!(
            "measuring {} took longer than {} s",
            directory.display(),
            TIME_LIMIT.as_secs()
        );
    };
    let (text, status) = (text?, child.wait()?);
    if !status.success() {
        bail!("measuring {} failed ({status})", directory.display());
    }
    Ok(document::parse(text.as_bytes())?)
}
