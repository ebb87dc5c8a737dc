//! Runs of the real binary as a command.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use super::files::root;

pub const PREDICTD: &str = env!("CARGO_BIN_EXE_predictd");

/// Runs `predictd` with these arguments, standard input and environment: (exit code, stdout,
/// stderr).
pub fn run_predictd(
    arguments: &[&str],
    input: &str,
    environment: &[(&str, &str)],
) -> (i32, String, String) {
    let mut command = Command::new(PREDICTD);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Runs `predictd pack DIRECTORY` with more options: (exit code, stdout and stderr).
pub fn pack(directory: &Path, options: &[&str]) -> (i32, String) {
    let arguments = [&["pack", directory.to_str().unwrap()], options].concat();
    let (code, output, error) = run_predictd(&arguments, "", &[]);
    (code, output + &error)
}

/// Runs `serve --check` with an empty state, free ports and this environment: (exit code, stdout
/// and stderr).
pub fn check_configuration(models: &Path, environment: &[(&str, &str)]) -> (i32, String) {
    let state = tempfile::tempdir().unwrap();
    let mut variables = vec![
        ("PREDICTD_STATE__URL", state.path().to_str().unwrap()),
        ("PREDICTD_SERVER__LISTEN", "127.0.0.1:0"),
        ("PREDICTD_SERVER__GRPC_LISTEN", ""),
        ("PREDICTD_ADMIN__LISTEN", "127.0.0.1:0"),
    ];
    variables.extend_from_slice(environment);
    let arguments = ["serve", "--check", "--models", models.to_str().unwrap()];
    let (code, output, error) = run_predictd(&arguments, "", &variables);
    assert_eq!(
        fs_err::read_dir(state.path()).unwrap().count(),
        0,
        "a check writes nothing to the state"
    );
    (code, output + &error)
}
