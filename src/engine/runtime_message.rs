//! Reads the messages of ONNX Runtime: classifies failures, adds advice to a failed load, finds the
//! node that failed in a run, and removes the values of rows for the log.
//!
//! The runtime has a few error codes, and most failures have the same one. Only the message says
//! what failed. This module is the only place that reads it; other modules get types.

use std::{collections::HashSet, fmt, sync::LazyLock};

use regex::{Captures, Regex};

/// Why the runtime did not load a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadFault {
    UnsupportedIr,
    UnsupportedOpset,
    MissingLocale,
    UnknownOperator,
    MissingWeights,
    Other,
}

/// Pairs of parts of the runtime's message in lower case, any of which matches, and the fault.
const LOAD_FAULTS: [(&[&str], LoadFault); 5] = [
    (&["unsupported model ir version"], LoadFault::UnsupportedIr),
    (
        &["only *guarantees* support", "till opset"],
        LoadFault::UnsupportedOpset,
    ),
    (&["locale"], LoadFault::MissingLocale),
    (
        &[
            "is not a registered function/op",
            "no op registered for",
            "not_implemented",
        ],
        LoadFault::UnknownOperator,
    ),
    (
        &["external data path", "external data file"],
        LoadFault::MissingWeights,
    ),
];

impl LoadFault {
    /// Classifies the message of a failed load.
    fn of(message: &str) -> LoadFault {
        let lower = message.to_lowercase();
        LOAD_FAULTS
            .iter()
            .find(|(signs, _)| signs.iter().any(|sign| lower.contains(sign)))
            .map_or(LoadFault::Other, |(_, fault)| *fault)
    }

    /// What the author of the file can do. `None` if there is no advice.
    fn advice(self) -> Option<&'static str> {
        Some(match self {
            LoadFault::UnsupportedIr => {
                "the file's IR version is above what this runtime reads: lower it in the export (`model.ir_version = 10` before onnx.save, or export with an older onnx)"
            }
            LoadFault::UnsupportedOpset => {
                "the file's operator set is above what this runtime knows: export with a lower one (skl2onnx: target_opset, or {\"\": 18, \"ai.onnx.ml\": 3}; torch.onnx.export: opset_version; tf2onnx: --opset)"
            }
            LoadFault::MissingLocale => {
                "StringNormalizer needs a locale that this machine lacks: install it (Debian: locales, with en_US.UTF-8 generated; the image has it), or export with another (skl2onnx: options={id(vectorizer): {\"locale\": \"C.UTF-8\"}})"
            }
            LoadFault::UnknownOperator => {
                "an operator of the file is not part of this runtime: custom operators are not loaded; export with standard operators only"
            }
            LoadFault::MissingWeights => {
                "a file with the weights is missing: put it next to the graph, under the name that the graph gives it"
            }
            LoadFault::Other => return None,
        })
    }
}

/// A file that the runtime did not load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", fault.advice().map(|advice| format!("{advice}. The runtime says: ")).unwrap_or_default())]
pub struct RefusedGraph {
    pub(crate) fault: LoadFault,
    /// The runtime's message without paths of the library's source and directories of the server.
    message: String,
}

impl RefusedGraph {
    /// Reads the message of a failed load. `without_directories` removes the server's directories.
    pub(crate) fn new(
        message: &str,
        without_directories: impl FnOnce(&str) -> String,
    ) -> RefusedGraph {
        let message = without_source(message);
        RefusedGraph {
            fault: LoadFault::of(&message),
            message: without_directories(&message),
        }
    }
}

/// Parts of the messages, in lower case, with which a node rejects its input: an unknown index or
/// category, or values or shapes that do not match inside the graph. Every other failed run is an
/// error of the model or the server, not of the caller.
const REJECTIONS: [&str; 29] = [
    "out of data bounds",
    "out of bounds",
    "out of range",
    "unknown category",
    "invalid indices",
    "invalid index",
    "index out of",
    "indices must be",
    "indices element",
    "shape mismatch",
    "dimension mismatch",
    "dimensions mismatch",
    "dimensions must match",
    "cannot be broadcast",
    "cannot broadcast",
    "attempting to broadcast",
    "input shape:",
    "input channels",
    "feature size",
    "features",
    "k argument",
    "repeat value",
    "stod",
    "stoll",
    "stof",
    "stoi",
    "division by zero",
    "modulo by zero",
    "cannot be reshaped",
];

/// What the message of a failed run says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunFault {
    /// Another thread stopped the run.
    Terminated,
    /// The run needed more memory than its arena may take.
    ArenaLimit,
    /// The system has no memory for the run.
    NoMemory,
    /// A node rejected its input.
    Rejected(RejectedInput),
    Other,
}

/// Classifies the message of a failed run. The messages of the arena are also those of a load.
pub(crate) fn run_fault(message: &str) -> RunFault {
    if message.contains("terminate flag") {
        return RunFault::Terminated;
    }
    if message.contains("Available memory of")
        && message.contains("is smaller than requested bytes")
    {
        return RunFault::ArenaLimit;
    }
    // The arena writes the first, and an allocation outside of the arena throws the second.
    if ["Failed to allocate memory", "bad_alloc"]
        .iter()
        .any(|sign| message.contains(sign))
    {
        return RunFault::NoMemory;
    }
    rejected_input(message).map_or(RunFault::Other, RunFault::Rejected)
}

/// A node that rejected its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedInput {
    /// The type and the name of the node, like `Gather "embed"`.
    pub(crate) node: String,
    pub(crate) reason: String,
    /// The reason without values of a row, for the log.
    pub(crate) loggable: String,
    /// The member of `REJECTIONS` that the reason contains. It contains no value.
    kind: &'static str,
}

impl fmt::Display for RejectedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.reason)
    }
}

impl RejectedInput {
    /// Replaces the reason with one that contains no value of the caller.
    #[must_use]
    pub(crate) fn without_values(self) -> RejectedInput {
        RejectedInput {
            reason: self.kind.to_owned(),
            loggable: self.kind.to_owned(),
            ..self
        }
    }
}

/// Reads the message of a failed run: `Non-zero status code returned while running Gather node.
/// Name:'embed' Status Message: ...`. `None` means that no node rejected its input.
fn rejected_input(message: &str) -> Option<RejectedInput> {
    let (head, reason) = message.split_once("Status Message:")?;
    let reason = without_source(reason);
    let lower = reason.to_lowercase();
    let kind = *REJECTIONS.iter().find(|part| lower.contains(**part))?;
    Some(RejectedInput {
        node: parse_node(head)?,
        reason,
        loggable: kind.to_owned(),
        kind,
    })
}

/// The node that the message of a failed run names, like `Gather "embed"`.
pub(crate) fn failed_node(message: &str) -> Option<String> {
    parse_node(message.split_once("Status Message:")?.0)
}

fn parse_node(head: &str) -> Option<String> {
    let op = head.split_once("while running ")?.1.split_once(" node")?.0;
    let name = head
        .split_once("Name:'")
        .and_then(|(_, rest)| rest.split_once('\''))
        .map_or("", |(name, _)| name);
    Some(if name.is_empty() {
        op.to_owned()
    } else {
        format!("{op} \"{name}\"")
    })
}

/// Why a run failed, for the log: with shapes and dimensions, and without values of a row.
///
/// Omits other numbers, quoted strings, and the words of `texts`, which are the strings in the
/// rows. A message from before the first node concerns only shapes, and is returned unchanged.
pub(crate) fn loggable<'a>(message: &str, texts: impl IntoIterator<Item = &'a String>) -> String {
    const OMITTED: &str = "\u{2026}";
    static PARTS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let list = r"[\[({]\s*-?\d+(?:\s*,\s*-?\d+)*\s*,?\s*[\])}]";
        let number = r"-?\b\d+(?:\.\d+)?(?:e[-+]?\d+)?\b";
        Regex::new(&format!(
            r#"(?P<quoted>'[^']*'|"[^"]*"|`[^`]*`)|(?P<number>{list}|{number})|(?P<word>\w+)"#
        ))
        .ok()
    });
    // Messages from before the first node have no such part.
    let Some((_, reason)) = message.split_once("Status Message:") else {
        return message.to_owned();
    };
    let reason = without_source(reason);
    // Without the expression, values can't be distinguished from words, so the log gets nothing.
    let Some(parts) = LazyLock::force(&PARTS) else {
        return String::new();
    };
    let in_message: HashSet<String> = lowercase_words(&reason).collect();
    // Only the words that the message contains are collected: the strings may be as long as a
    // request's body.
    let in_rows: HashSet<String> = texts
        .into_iter()
        .flat_map(|text| lowercase_words(text))
        .filter(|word| in_message.contains(word))
        .collect();
    let replace = |found: &Captures<'_>| {
        let Some(part) = found.get(0) else {
            return OMITTED.to_owned();
        };
        let text = part.as_str();
        // The runtime quotes both values and names, so quoted strings are never kept.
        let kept = if found.name("quoted").is_some() {
            false
        } else if found.name("number").is_some() {
            text.starts_with('{') || names_shape(reason.get(..part.start()).unwrap_or_default())
        } else {
            !lowercase_words(text).any(|word| in_rows.contains(&word))
        };
        if kept {
            text.to_owned()
        } else {
            OMITTED.to_owned()
        }
    };
    parts.replace_all(&reason, replace).into_owned()
}

fn lowercase_words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
}

/// Whether the number after `before` is part of a shape, like in `dim 3`.
fn names_shape(before: &str) -> bool {
    /// Longer than the longest word below plus the characters between it and its number. A search
    /// of the whole text for each number would take quadratic time for a long message.
    const MAX_BYTES: usize = 40;
    static SHAPE_WORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)\b(?:dim|dims|dimension|dimensions|shape|rank|axis|channels)\W{0,3}$").ok()
    });
    let start = before.floor_char_boundary(before.len().saturating_sub(MAX_BYTES));
    let end = before.get(start..).unwrap_or_default();
    LazyLock::force(&SHAPE_WORD)
        .as_ref()
        .is_some_and(|word| word.is_match(end))
}

/// Removes references to the library's source, which consist of a file, a line and a function:
/// `/a/b.cc:12 void f(...)`.
fn without_source(message: &str) -> String {
    static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let file = r"(?:/\S*/)?\b\w+\.(?:cc|cpp|cu|h|hpp|cuh):\d+\s+";
        // Matches a whole C++ signature with its parameters and template arguments, or only a name.
        let function = r"(?:[\w:<>~*&,\s]*::[\w~<>=]+\([^)]*\)(?:::\S+\([^)]*\))*(?: const)?(?:\s*\[with [^\]]*\])?|\w+)\s*:?\s*";
        Regex::new(&format!("{file}{function}")).ok()
    });
    match LazyLock::force(&REFERENCE) {
        Some(reference) => reference.replace_all(message, "").trim().to_owned(),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::runtime_message::{
        LoadFault, RefusedGraph, RunFault, failed_node, loggable, rejected_input, run_fault,
    };

    #[test]
    fn the_log_gets_the_reason_with_shapes_and_without_values() {
        let cases = [
            (
                "/a/matmul_helper.h:162 Compute MatMul dimension mismatch: {2,3} and {1,2}",
                "MatMul dimension mismatch: {2,3} and {1,2}",
            ),
            (
                "left operand cannot broadcast on dim 1 LeftShape: {1,3}, RightShape: {1,2}",
                "left operand cannot broadcast on dim 1 LeftShape: {1,3}, RightShape: {1,2}",
            ),
            (
                "indices element out of data bounds, idx=99 must be within the inclusive range [-10,9]",
                "indices element out of data bounds, idx=\u{2026} must be within the inclusive range \u{2026}",
            ),
            (
                "k argument [7] should not be greater than specified axis dim value [3]",
                "k argument \u{2026} should not be greater than specified axis dim value \u{2026}",
            ),
            (
                "no such category 'Ann Smith' of Smith, smith and Smithers",
                "no such category \u{2026} of \u{2026}, \u{2026} and Smithers",
            ),
            (
                "Failed to allocate memory for requested buffer of size 8000000",
                "Failed to allocate memory for requested buffer of size \u{2026}",
            ),
            ("1.5e-3 is none", "\u{2026} is none"),
        ];
        for (reason, expected) in cases {
            let message = format!(
                "Non-zero status code returned while running MatMul node. Name:'n1' Status Message: {reason}"
            );
            assert_eq!(loggable(&message, &["Ann Smith".to_owned()]), expected);
            assert_eq!(failed_node(&message).as_deref(), Some("MatMul \"n1\""));
        }
        // A message that repeats a caller's string, which may be as long as a body, takes linear
        // time.
        let long = format!("Status Message: {}dim 7", "1 ".repeat(200_000));
        assert!(loggable(&long, &[]).ends_with("\u{2026} dim 7"));
        let before = "Got invalid dimensions for input: x for the following indices\n index: 1 \
                      Got: 3 Expected: 4";
        assert_eq!(
            (loggable(before, &[]).as_str(), failed_node(before)),
            (before, None)
        );
    }

    #[test]
    fn a_rejected_input_names_node_and_reason() {
        let gather = "Non-zero status code returned while running Gather node. Name:'embed' \
                      Status Message: indices element out of data bounds, idx=99 must be within \
                      the inclusive range [-10,9]";
        let rejected = rejected_input(gather).unwrap();
        assert_eq!(rejected.node, "Gather \"embed\"");
        assert!(rejected.reason.contains("idx=99"));
        assert_eq!(rejected.without_values().reason, "out of data bounds");
        assert_eq!(
            rejected_input(
                "Non-zero status code returned while running Loop node. Name:'' Status Message: Failed to allocate memory"
            ),
            None
        );
        assert_eq!(rejected_input("something else"), None);
    }

    #[test]
    fn a_failed_run_is_classified_by_its_message() {
        let message = |node: &str, reason: &str| {
            format!(
                "Non-zero status code returned while running Expand node. Name:'{node}' Status Message: {reason}"
            )
        };
        let no_memory = [
            "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 562949953421312",
            "std::bad_alloc",
        ];
        for reason in no_memory {
            assert_eq!(run_fault(&message("grow", reason)), RunFault::NoMemory);
        }
        let arena = "Available memory of 1000 is smaller than requested bytes of 4096";
        assert_eq!(run_fault(&message("grow", arena)), RunFault::ArenaLimit);
        let stopped = "Exiting due to terminate flag being set to true.";
        assert_eq!(run_fault(stopped), RunFault::Terminated);
        let rejected = run_fault(&message("allocate", "invalid expand shape: out of range"));
        assert!(matches!(rejected, RunFault::Rejected(_)), "{rejected:?}");
        assert_eq!(
            run_fault(&message("allocate", "something else")),
            RunFault::Other
        );
    }

    #[test]
    fn advice_comes_first_and_source_paths_go() {
        let refused = |message| RefusedGraph::new(message, str::to_owned);
        let explain_load_failure = |message| refused(message).to_string();
        let text = explain_load_failure(
            "/onnxruntime_src/onnxruntime/core/graph/model.cc:182 onnxruntime::Model::Model(onnx::ModelProto&&, const PathString&) Unsupported model IR version: 14, max supported IR version: 13",
        );
        assert!(
            text.starts_with("the file's IR version")
                && text.contains("max supported IR version: 13")
                && !text.contains("onnxruntime_src"),
            "{text}"
        );
        assert!(
            explain_load_failure(
                "ONNX Runtime only *guarantees* support for models stamped with official released \
                 onnx opset versions. Opset 30 is under development"
            )
            .contains("target_opset")
        );
        let locale = refused("Failed to construct locale with name:en_US.UTF-8");
        assert_eq!(locale.fault, LoadFault::MissingLocale);
        assert!(locale.to_string().contains("en_US.UTF-8 generated"));
        assert!(
            explain_load_failure("Fatal error: my.domain:Foo(-1) is not a registered function/op")
                .contains("standard operators")
        );
        assert_eq!(explain_load_failure("something else"), "something else");
        assert_eq!(refused("something else").fault, LoadFault::Other);
    }
}
