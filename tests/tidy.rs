//! The architecture that `lib.rs` promises: layers, and one door for each library.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may panic: that is how it fails"
)]

use std::path::{Path, PathBuf};

/// (module, what it may import of ours). `predict` sees `package` and `tensor` through what `registry` holds.
const LAYERS: [(&str, &[&str]); 27] = [
    ("actor", &[]),
    ("id", &[]),
    ("suggestion", &[]),
    ("error", &[]),
    ("clock", &[]),
    ("digest", &[]),
    ("config", &["id"]),
    ("metrics", &["clock", "error"]),
    ("tensor", &[]),
    ("graph", &["tensor"]),
    ("schema", &[]),
    ("security", &["actor", "digest"]),
    ("decode", &["schema", "tensor"]),
    ("transform", &["schema", "decode", "tensor"]),
    (
        "package",
        &[
            "graph",
            "id",
            "digest",
            "tensor",
            "schema",
            "decode",
            "transform",
        ],
    ),
    (
        "compat",
        &["package", "schema", "decode", "transform", "tensor"],
    ),
    ("journal", &["actor", "id", "clock", "digest"]),
    ("rollout", &["actor", "clock", "journal"]),
    (
        "admin",
        &["actor", "suggestion", "compat", "journal", "rollout"],
    ),
    ("engine", &["graph", "metrics", "tensor"]),
    (
        "registry",
        &[
            "suggestion",
            "id",
            "clock",
            "config",
            "digest",
            "graph",
            "metrics",
            "tensor",
            "schema",
            "decode",
            "transform",
            "package",
            "engine",
            "journal",
            "rollout",
        ],
    ),
    (
        "predict",
        &[
            "id",
            "compat",
            "error",
            "config",
            "graph",
            "metrics",
            "tensor",
            "schema",
            "decode",
            "transform",
            "package",
            "engine",
            "rollout",
            "registry",
        ],
    ),
    (
        "operate",
        &[
            "actor",
            "admin",
            "error",
            "suggestion",
            "id",
            "clock",
            "config",
            "digest",
            "metrics",
            "tensor",
            "schema",
            "decode",
            "package",
            "compat",
            "engine",
            "journal",
            "rollout",
            "registry",
        ],
    ),
    (
        "api",
        &[
            "actor",
            "admin",
            "suggestion",
            "id",
            "error",
            "config",
            "metrics",
            "tensor",
            "schema",
            "decode",
            "transform",
            "package",
            "registry",
            "predict",
            "operate",
            "security",
        ],
    ),
    ("telemetry", &["config"]),
    (
        "app",
        &[
            "api",
            "config",
            "engine",
            "journal",
            "metrics",
            "operate",
            "predict",
            "registry",
            "security",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "actor",
            "admin",
            "suggestion",
            "app",
            "metrics",
            "predict",
            "clock",
            "compat",
            "config",
            "decode",
            "digest",
            "engine",
            "graph",
            "id",
            "journal",
            "package",
            "registry",
            "rollout",
            "schema",
            "telemetry",
            "tensor",
            "transform",
        ],
    ),
];

/// (library, where it may be named).
const DOORS: [(&str, &[&str]); 29] = [
    // Neither the contract nor what is at rest waits for anything: a packaging tool could use them alone.
    (
        "tokio",
        &[
            "src/api/",
            "src/app/",
            "src/cli/predict.rs",
            "src/engine/",
            "src/journal/store.rs",
            "src/main.rs",
            "src/predict/",
            "src/registry/",
        ],
    ),
    ("csv", &["src/decode/csv_table.rs"]),
    ("libm", &["src/rollout/sequential.rs"]),
    (
        "murmur3",
        &["src/transform/steps/encoding.rs", "src/rollout/split.rs"],
    ),
    ("ort", &["src/engine/infer/"]),
    ("libc", &["src/engine/infer/"]),
    ("libloading", &["src/engine/infer/"]),
    ("axum", &["src/api/", "src/app/"]),
    ("hyper", &["src/api/"]),
    ("hyper_util", &["src/api/"]),
    ("http", &["src/api/"]),
    ("prometheus", &["src/metrics/"]),
    ("prost", &["src/api/grpc/"]),
    ("tonic", &["src/api/grpc/"]),
    ("tonic_health", &["src/api/grpc/"]),
    ("tonic_prost", &["src/api/grpc/"]),
    ("tonic_reflection", &["src/api/grpc/"]),
    ("tower_http", &["src/api/http/cors.rs"]),
    ("object_store", &["src/journal/store.rs"]),
    ("sha2", &["src/digest.rs"]),
    ("clap", &["src/cli/"]),
    ("clap_complete", &["src/cli/completions.rs"]),
    ("clap_mangen", &["src/cli/man.rs"]),
    ("anyhow", &["src/cli/", "src/app/", "src/main.rs"]),
    ("ureq", &["src/cli/client.rs", "src/operate/webhook.rs"]),
    ("subtle", &["src/security/"]),
    ("image", &["src/transform/image.rs"]),
    ("jiff", &["src/clock.rs"]),
    ("serde_norway", &["src/package/import/mlmodel.rs"]),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// (path from the root, text without comments and without the tests at its end).
fn code() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    let mut code = Vec::new();
    for path in found {
        let text = fs_err::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.split("//").next().unwrap())
            .collect();
        code.push((
            path.strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned(),
            lines.join("\n"),
        ));
    }
    assert!(code.len() > 40);
    code
}

/// The names that follow `prefix` in a `use` tree or a path: `crate::{a::b, c}` gives a and c.
fn imported(text: &str, prefix: &str) -> Vec<String> {
    let name = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut names = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        if let Some(tree) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut part = String::new();
            for c in tree.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(name(std::mem::take(&mut part).trim())),
                    c if depth == 0 => part.push(c),
                    _ => {}
                }
            }
            names.push(name(part.trim()));
        } else {
            names.push(name(rest));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn layers() {
    let mut wrong = Vec::new();
    for (path, text) in code() {
        let module = path
            .trim_start_matches("src/")
            .split(['/', '.'])
            .next()
            .unwrap()
            .to_owned();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let (_, allowed) = LAYERS
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{path}: module {module} has no layer"));
        for name in imported(&text, "crate::") {
            if name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{path} imports crate::{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn doors() {
    let mut wrong = Vec::new();
    for (path, text) in code() {
        for (library, doors) in DOORS {
            let named = text.match_indices(&format!("{library}::")).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                // Modules of ours are called `http` and `image`, too: there only a `use` at the start of a line counts.
                let ambiguous = ["http", "image"].contains(&library);
                if ambiguous {
                    text[..at].ends_with("\nuse ")
                } else {
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                }
            });
            if named && !doors.iter().any(|door| path.starts_with(door)) {
                wrong.push(format!("{path} names {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checks_see_what_they_should() {
    assert_eq!(
        imported(
            "use crate::{a::b, c::{d, e}, f};\nlet x = crate::g::h();",
            "crate::"
        ),
        ["a", "c", "f", "g"]
    );
    assert_eq!(
        imported("use crate::error::ErrorCode;", "crate::"),
        ["error"]
    );
}
