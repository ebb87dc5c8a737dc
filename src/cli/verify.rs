//! `predictd verify`: runs the load gate and prints one line for each check.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::{
    app,
    cli::{CommandOutcome, ConfigArgs, number::positive, pack, typed},
    config::Config,
    package::{
        PackageCheck, PackageError, bare,
        manifest::{self, Manifest},
    },
    registry::{
        gate::{Batching, GateOptions, PassedCheck},
        trial::TrialResult,
    },
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directories of packages, or directories that contain packages
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Print one JSON object for each package, for programs
    #[arg(long)]
    json: bool,
    /// Time limit for one package (models.gate_timeout_ms)
    #[arg(long, value_name = "MS", value_parser = positive::<u64>, allow_negative_numbers = true)]
    timeout_ms: Option<u64>,
    /// Memory limit for one package (models.gate_memory_bytes)
    #[arg(long, value_name = "BYTES", value_parser = positive::<u64>, allow_negative_numbers = true)]
    memory_bytes: Option<u64>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let mut config = args.config.load()?;
    config.models.gate_timeout_ms = args.timeout_ms.unwrap_or(config.models.gate_timeout_ms);
    config.models.gate_memory_bytes = args.memory_bytes.unwrap_or(config.models.gate_memory_bytes);
    config.check()?;
    let library = app::find_library(&config.runtime.library)?;
    let mut directories = Vec::new();
    for directory in &args.directories {
        let found = if directory.join(manifest::FILE).exists() {
            vec![directory.clone()]
        } else {
            packages_below(directory, false)?
        };
        // `verify_all` reports a directory that contains no package.
        directories.extend(if found.is_empty() {
            vec![directory.clone()]
        } else {
            found
        });
    }
    verify_all(&directories, &config, &library, false, args.json)
}

/// Returns the directories in `root` that have a manifest, at most two levels deep
/// (`NAME/VERSION`), sorted. `with_bare` adds graphs without a manifest.
pub(super) fn packages_below(root: &Path, with_bare: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut level = vec![root.to_path_buf()];
    for _ in 0..2 {
        let mut next = Vec::new();
        for directory in level {
            for path in visible_directories(&directory)? {
                let bare = || bare::id_of(&path).is_some_and(|id| bare::is_bare(&path, &id));
                if path.join(manifest::FILE).exists() || with_bare && bare() {
                    found.push(path);
                } else {
                    next.push(path);
                }
            }
        }
        level = next;
    }
    found.sort();
    Ok(found)
}

/// The directories in `directory` whose names don't start with a dot.
fn visible_directories(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(directory).context("looking for packages")? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            found.push(path);
        }
    }
    Ok(found)
}

/// Runs the gate on each package. `with_bare` accepts graphs without a manifest.
pub(super) fn verify_all(
    directories: &[PathBuf],
    config: &Config,
    library: &Path,
    with_bare: bool,
    as_json: bool,
) -> anyhow::Result<CommandOutcome> {
    let trial = app::trial(&config.models, library, app::executable()?);
    let mut outcome = CommandOutcome::Done;
    for directory in directories {
        let name = Manifest::read(directory)
            .map(|manifest| manifest.name)
            .unwrap_or_default();
        let id = bare::id_of(directory).filter(|id| with_bare && bare::is_bare(directory, id));
        let name = id.as_ref().map_or(name, |id| id.name.to_string());
        let options = GateOptions {
            bare: id.is_some(),
            max_batch_size: config.model_settings().batching(&name).max_batch_size,
            intra_op_threads: config.runtime.intra_op_threads.max(1),
        };
        let mut checks = Vec::new();
        if !as_json {
            say!("{}", directory.display());
        }
        let verdict = trial.run(directory, options, &mut |check| {
            if !as_json {
                pack::say_check(&check);
            }
            checks.push(check);
        });
        let verdict = verdict.and_then(|result| {
            check_identity(directory)?;
            Ok(result)
        });
        if as_json {
            say!(
                "{}",
                serde_json::to_string(&report(directory, &checks, &verdict))?
            );
        }
        let Err(error) = &verdict else { continue };
        outcome = CommandOutcome::Failed;
        if as_json {
            continue;
        }
        pack::say_failure(error);
        if error.is_changed_file() {
            say!("  next    predictd pack {} --bump", typed(directory));
        }
    }
    Ok(outcome)
}

/// Checks that a package in a directory NAME/VERSION has this name and version. A server rejects
/// another one. A package in any other directory is being built, and may have any name.
fn check_identity(directory: &Path) -> Result<(), PackageError> {
    // `.` has no name.
    let absolute = fs_err::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    match bare::id_of(&absolute) {
        Some(id) if directory.join(manifest::FILE).exists() => {
            Manifest::read(directory)?.check_identity(&id)
        }
        _ => Ok(()),
    }
}

/// The JSON output for one package.
#[derive(Serialize)]
struct VerifyReport<'a> {
    package: String,
    passed: bool,
    checks: &'a [PassedCheck],
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    result: Option<VerifyResult<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<VerifyFailure<'a>>,
}

/// The members of a package that passed.
#[derive(Serialize)]
struct VerifyResult<'a> {
    digest: &'a str,
    /// Whether rows of different requests share a run.
    batched: bool,
}

#[derive(Serialize)]
struct VerifyFailure<'a> {
    check: PackageCheck,
    file: &'a str,
    field: &'a str,
    detail: String,
}

fn report<'a>(
    directory: &Path,
    checks: &'a [PassedCheck],
    verdict: &'a Result<TrialResult, PackageError>,
) -> VerifyReport<'a> {
    VerifyReport {
        package: directory.to_string_lossy().into_owned(),
        passed: verdict.is_ok(),
        checks,
        result: verdict.as_ref().ok().map(|result| VerifyResult {
            digest: &result.digest,
            batched: result.batching == Batching::Rows,
        }),
        failure: verdict.as_ref().err().map(|error| VerifyFailure {
            check: error.check,
            file: &error.file,
            field: &error.field,
            detail: error.full_detail(),
        }),
    }
}
