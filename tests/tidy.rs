//! The architecture that `lib.rs` describes: the layers, and the modules that may name a library.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may panic: that is how it fails"
)]

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

/// (module, the modules that it may import).
const LAYERS: [(&str, &[&str]); 32] = [
    ("actor", &[]),
    ("id", &[]),
    ("suggestion", &[]),
    ("load_state", &[]),
    ("error", &[]),
    ("clock", &[]),
    ("digest", &[]),
    ("distance", &[]),
    ("pointer", &[]),
    ("document", &["pointer"]),
    ("config", &["document", "id"]),
    ("metrics", &["clock", "error"]),
    ("tensor", &[]),
    ("graph", &["tensor"]),
    ("schema", &["pointer"]),
    ("security", &["actor", "digest"]),
    ("decode", &["document", "schema", "tensor"]),
    (
        "transform",
        &["error", "document", "schema", "decode", "tensor"],
    ),
    (
        "package",
        &[
            "clock",
            "error",
            "document",
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
        &[
            "distance",
            "error",
            "package",
            "schema",
            "decode",
            "transform",
            "tensor",
        ],
    ),
    ("journal", &["actor", "id", "clock", "digest", "document"]),
    ("rollout", &["actor", "clock", "document", "journal"]),
    (
        "admin",
        &[
            "actor",
            "suggestion",
            "load_state",
            "compat",
            "journal",
            "rollout",
        ],
    ),
    ("engine", &["error", "graph", "metrics", "tensor"]),
    ("monitor", &["distance", "schema", "transform", "package"]),
    (
        "registry",
        &[
            "monitor",
            "error",
            "suggestion",
            "load_state",
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
            "monitor",
            "actor",
            "admin",
            "document",
            "error",
            "suggestion",
            "load_state",
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
            "document",
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
            "error",
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
            "error",
            "document",
            "admin",
            "suggestion",
            "app",
            "metrics",
            "predict",
            "clock",
            "compat",
            "config",
            "decode",
            "engine",
            "graph",
            "id",
            "journal",
            "package",
            "registry",
            "rollout",
            "schema",
            "tensor",
        ],
    ),
];

/// (library, the paths that may name it).
const DOORS: [(&str, &[&str]); 29] = [
    // `schema`, `transform` and `package` are synchronous, so that a packaging tool could use them
    // alone.
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
    ("chrono", &["src/clock.rs", "src/transform/date_parts.rs"]),
    ("serde_norway", &["src/package/import/mlmodel.rs"]),
];

fn collect_sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The source files: (path from the root, text without comments and without the tests at its end).
fn source_texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect_sources(&root.join("src"), &mut found);
    let mut texts = Vec::new();
    for path in found {
        let text = fs_err::read_to_string(&path).unwrap();
        let text = without_tests(&text).unwrap_or_else(|| {
            panic!(
                "{}: code after the module of tests is not checked",
                path.display()
            )
        });
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.split("//").next().unwrap())
            .collect();
        texts.push((
            path.strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned(),
            lines.join("\n"),
        ));
    }
    assert!(texts.len() > 40);
    texts
}

/// The parts of a `use` tree between the commas of its top level, up to its closing brace.
fn top_level_parts(tree: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in tree.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(String::new()),
            c if depth == 0 => parts.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// The text before its module of tests; `None` if code follows that module. A module of tests in a
/// file of its own may be declared anywhere.
fn without_tests(text: &str) -> Option<&str> {
    match text.split_once("#[cfg(test)]\nmod tests {") {
        None => Some(text),
        Some((code, tests)) => tests.split_once("\n}\n")?.1.is_empty().then_some(code),
    }
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
            names.extend(top_level_parts(tree).iter().map(|part| name(part)));
        } else {
            names.push(name(rest));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn modules_import_only_from_lower_layers() {
    let (mut wrong, mut used) = (Vec::new(), HashSet::new());
    for (path, text) in source_texts() {
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
            used.insert((module.clone(), name));
        }
    }
    for (at, (module, allowed)) in LAYERS.iter().enumerate() {
        for name in *allowed {
            if !used.contains(&((*module).to_owned(), (*name).to_owned())) {
                wrong.push(format!("{module} may import {name}, and does not"));
            }
            if !LAYERS[..at].iter().any(|(lower, _)| lower == name) {
                wrong.push(format!("{module} may import {name}, which is not below it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_in_lib_lists_the_layers_in_their_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = fs_err::read_to_string(path).unwrap();
    let (_, page) = text.split_once("//! # Layers\n").unwrap();
    let (page, _) = page.split_once("//! # Invariants").unwrap();
    let rows = page.lines().filter(|line| line.starts_with("//! |"));
    let listed: Vec<&str> = rows
        .flat_map(|row| row.split("[`").skip(1))
        .filter_map(|link| Some(link.split_once("`]")?.0))
        .collect();
    let place = |module: &str| {
        listed
            .iter()
            .position(|name| *name == module)
            .unwrap_or_else(|| panic!("the page does not list {module}"))
    };
    assert_eq!(listed.len(), LAYERS.len(), "{listed:?}");
    for (module, allowed) in LAYERS {
        for below in allowed {
            assert!(
                place(below) < place(module),
                "{module} imports {below}, which the page lists after it"
            );
        }
    }
}

/// One name stands for one type, so that a reader who meets it knows which.
#[test]
fn no_two_types_have_one_name() {
    let mut places: HashMap<String, Vec<String>> = HashMap::new();
    for (path, text) in source_texts() {
        if path.contains("/generated/") {
            continue;
        }
        for line in text.lines() {
            let mut words = line
                .split_whitespace()
                .skip_while(|word| word.starts_with("pub"));
            if words
                .next()
                .is_some_and(|word| ["struct", "enum", "trait"].contains(&word))
            {
                let name = words.next().unwrap();
                let end = name.find(|c: char| !c.is_alphanumeric());
                let name = name[..end.unwrap_or(name.len())].to_owned();
                places.entry(name).or_default().push(path.clone());
            }
        }
    }
    // Each command has its own arguments.
    places.remove("Args");
    assert!(places.len() > 500, "{}", places.len());
    let twice: Vec<_> = places.iter().filter(|(_, at)| at.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

/// Below `predict` each layer has its own error types. It may use `crate::error` only to print
/// them.
#[test]
fn error_codes_are_named_only_above_the_registry() {
    const NAMING: [&str; 6] = [
        "src/error.rs",
        "src/metrics/",
        "src/predict/",
        "src/operate/",
        "src/api/",
        "src/app/",
    ];
    let wrong: Vec<String> = source_texts()
        .into_iter()
        .filter(|(path, text)| {
            text.contains("ErrorCode") && !NAMING.iter().any(|place| path.starts_with(place))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The lines of variants whose text contains their source, which `text_with_sources` prints.
fn repeated_sources(text: &str) -> Vec<String> {
    let mut attribute = String::new();
    let mut found = Vec::new();
    // Whether the next member has the attribute `#[source]` or `#[from]`.
    let mut is_source = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[error(") {
            attribute = line.to_owned();
        } else if !attribute.is_empty() && !attribute.ends_with(")]") {
            attribute += line;
        } else if line == "#[source]" || line == "#[from]" {
            is_source = true;
        } else {
            let tuple = line.contains("(#[source]") || line.contains("(#[from]");
            let named = line
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ")
                .trim_start_matches("pub ")
                .split_once(": ")
                .map(|(name, _)| name)
                .filter(|name| is_source || *name == "source");
            let repeats = |name: &str| {
                attribute.contains(&format!("{{{name}}}"))
                    || attribute.contains(&format!("{{{name}:"))
            };
            if tuple && repeats("0") || named.is_some_and(repeats) {
                found.push(line.to_owned());
            }
            is_source = false;
            // The next text begins another variant.
            if line.ends_with("),") || line.ends_with("},") || line == "}" {
                attribute.clear();
            }
        }
    }
    found
}

#[test]
fn errors_do_not_repeat_their_sources() {
    let wrong: Vec<String> = source_texts()
        .into_iter()
        .flat_map(|(path, text)| {
            let lines = repeated_sources(&text);
            lines.into_iter().map(move |line| format!("{path}: {line}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_are_named_only_in_their_modules() {
    let mut wrong = Vec::new();
    for (path, text) in source_texts() {
        for (library, doors) in DOORS {
            let named = text.match_indices(&format!("{library}::")).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                // The project has modules called `http` and `image`, so that only a `use` at the
                // start of a line counts.
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
fn the_checks_find_violations() {
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
    let error = "#[error(\n\"a: {0}\"\n)]\nA(#[source] B),\n#[error(\"c\")]\nC(#[from] D),\n";
    assert_eq!(repeated_sources(error), ["A(#[source] B),"]);
    let members = "#[error(\"a: {source}\")]\nA {\nb: u8,\nsource: B,\n},\n";
    assert_eq!(repeated_sources(members), ["source: B,"]);
    let named = "#[error(\"{fault} {b}\")]\nA {\nb: u8,\n#[source]\npub fault: B,\n},\n";
    assert_eq!(repeated_sources(named), ["pub fault: B,"]);
    let tests = "\n#[cfg(test)]\nmod tests {\n    use x;\n}\n";
    assert_eq!(without_tests(&format!("a{tests}")), Some("a\n"));
    assert_eq!(without_tests(&format!("a{tests}b\n")), None);
    let elsewhere = "#[cfg(test)]\nmod tests;\n\nuse y;\n";
    assert_eq!(without_tests(elsewhere), Some(elsewhere));
}
