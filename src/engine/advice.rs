//! Advice: what a person can do about a graph that the runtime does not load, before the runtime's own words.

use std::{collections::HashSet, fmt, sync::LazyLock};

use regex::{Captures, Regex};

/// (what the runtime says, in small letters: any of it; what helps).
const LOADING: [(&[&str], &str); 5] = [
    (
        &["unsupported model ir version"],
        "the file's IR version is above what this runtime reads: lower it in the export (`model.ir_version = 10` before onnx.save, or export with an older onnx)",
    ),
    (
        &["only *guarantees* support", "till opset"],
        "the file's operator set is above what this runtime knows: export with a lower one (skl2onnx: target_opset, or {\"\": 18, \"ai.onnx.ml\": 3}; torch.onnx.export: opset_version; tf2onnx: --opset)",
    ),
    (
        &["locale"],
        "StringNormalizer needs a locale that this machine lacks: install it (Debian: locales, with en_US.UTF-8 generated; the image has it), or export with another (skl2onnx: options={id(vectorizer): {\"locale\": \"C.UTF-8\"}})",
    ),
    (
        &[
            "is not a registered function/op",
            "no op registered for",
            "not_implemented",
        ],
        "an operator of the file is not part of this runtime: custom operators are not loaded; export with standard operators only",
    ),
    (
        &["external data path", "external data file"],
        "a file with the weights is missing: it must lie beside the graph, under the name that the graph gives it",
    ),
];

/// The runtime's message after advice, where there is any; paths of the library's own source are left out.
pub fn on_load(message: &str) -> String {
    let message = without_source(message);
    let lower = message.to_lowercase();
    match LOADING
        .iter()
        .find(|(signs, _)| signs.iter().any(|sign| lower.contains(sign)))
    {
        Some((_, advice)) => format!("{advice}. The runtime says: {message}"),
        None => message,
    }
}

/// What helps where a session does not fit into its share of the memory limit.
pub fn too_large(limit: u64) -> String {
    format!(
        "the graph with its weights needs more than the {limit} bytes that each worker may take: raise runtime.memory_limit_bytes (or [model.NAME] memory_limit_bytes), or lower workers"
    )
}

/// What a graph says where it refuses its input, in small letters: an index or a category that it does not know, values or
/// shapes that don't fit each other inside. All else is the model's failure, or the server's.
const REFUSALS: [&str; 29] = [
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

/// A refusal by a node: which, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Type and name: `Gather "embed"`.
    pub node: String,
    pub reason: String,
    /// The reason without values, for the log.
    pub loggable: String,
    /// The part of it that names no value.
    kind: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.reason)
    }
}

impl Refusal {
    /// The same without any value of the caller's.
    #[must_use]
    pub fn without_values(self) -> Refusal {
        Refusal {
            reason: self.kind.to_owned(),
            loggable: self.kind.to_owned(),
            ..self
        }
    }
}

/// Reads a failure of a run: `Non-zero status code returned while running Gather node. Name:'embed' Status Message: ...`.
/// `None` where the graph did not refuse its input.
pub fn on_run(message: &str) -> Option<Refusal> {
    let (head, reason) = message.split_once("Status Message:")?;
    let reason = without_source(reason);
    let lower = reason.to_lowercase();
    let kind = *REFUSALS.iter().find(|sign| lower.contains(**sign))?;
    Some(Refusal {
        node: node_in(head)?,
        reason,
        loggable: kind.to_owned(),
        kind,
    })
}

/// The node that a failure of a run names: `Gather "embed"`.
pub fn node(message: &str) -> Option<String> {
    node_in(message.split_once("Status Message:")?.0)
}

fn node_in(head: &str) -> Option<String> {
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

/// Why a run failed, for the log: with shapes and dimensions, but no value of a row. Other numbers, what stands in quotation marks and
/// words of the rows' `texts` are left out. What is said before a node runs is about shapes, and stays as it is.
pub fn loggable<'a>(message: &str, texts: impl IntoIterator<Item = &'a String>) -> String {
    const OMITTED: &str = "\u{2026}";
    /// More than the longest name of a shape, with what may stand between it and its number.
    const NAME_BYTES: usize = 40;
    static PARTS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let list = r"[\[({]\s*-?\d+(?:\s*,\s*-?\d+)*\s*,?\s*[\])}]";
        let number = r"-?\b\d+(?:\.\d+)?(?:e[-+]?\d+)?\b";
        Regex::new(&format!(
            r#"(?P<quoted>'[^']*'|"[^"]*"|`[^`]*`)|(?P<number>{list}|{number})|(?P<word>\w+)"#
        ))
        .ok()
    });
    static OF_SHAPE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)\b(?:dim|dims|dimension|dimensions|shape|rank|axis|channels)\W{0,3}$").ok()
    });
    let Some((_, reason)) = message.split_once("Status Message:") else {
        return message.to_owned();
    };
    let reason = without_source(reason);
    let (Some(parts), Some(of_shape)) = (LazyLock::force(&PARTS), LazyLock::force(&OF_SHAPE))
    else {
        return String::new();
    };
    let words = |text: &str| {
        text.split(|c: char| !c.is_alphanumeric())
            .map(str::to_lowercase)
            .collect::<Vec<_>>()
    };
    let told: HashSet<String> = words(&reason).into_iter().collect();
    let theirs: HashSet<String> = texts
        .into_iter()
        .flat_map(|text| words(text))
        .filter(|word| told.contains(word))
        .collect();
    let replace = |found: &Captures<'_>| {
        let text = found.get(0).map_or("", |part| part.as_str());
        let before = found
            .get(0)
            .and_then(|part| reason.get(..part.start()))
            .unwrap_or_default();
        // No more than what names a shape: looking through all of it for each number would take the square of a long text's time.
        let before = before
            .get(before.floor_char_boundary(before.len().saturating_sub(NAME_BYTES))..)
            .unwrap_or_default();
        let kept = match () {
            () if found.name("quoted").is_some() => false,
            () if found.name("number").is_some() => {
                text.starts_with('{') || of_shape.is_match(before)
            }
            () => !words(text).iter().any(|word| theirs.contains(word)),
        };
        if kept {
            text.to_owned()
        } else {
            OMITTED.to_owned()
        }
    };
    parts.replace_all(&reason, replace).into_owned()
}

/// The message without the places in the library's own source: a file, a line and a function, `/a/b.cc:12 void f(...)`.
fn without_source(message: &str) -> String {
    static PLACE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let file = r"(?:/\S*/)?\b\w+\.(?:cc|cpp|cu|h|hpp|cuh):\d+\s+";
        // A whole signature, with its parameters and what its template stands for; or a name.
        let function = r"(?:[\w:<>~*&,\s]*::[\w~<>=]+\([^)]*\)(?:::\S+\([^)]*\))*(?: const)?(?:\s*\[with [^\]]*\])?|\w+)\s*:?\s*";
        Regex::new(&format!("{file}{function}")).ok()
    });
    match LazyLock::force(&PLACE) {
        Some(place) => place.replace_all(message, "").trim().to_owned(),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::advice::{loggable, node, on_load, on_run};

    #[test]
    fn the_log_gets_reason_and_shapes_and_no_value() {
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
            assert_eq!(node(&message).as_deref(), Some("MatMul \"n1\""));
        }
        // A text of the caller's, as long as a body may be, is gone through once.
        let long = format!("Status Message: {}dim 7", "1 ".repeat(200_000));
        assert!(loggable(&long, &[]).ends_with("\u{2026} dim 7"));
        let before = "Got invalid dimensions for input: x for the following indices\n index: 1 Got: 3 Expected: 4";
        assert_eq!(
            (loggable(before, &[]).as_str(), node(before)),
            (before, None)
        );
    }

    #[test]
    fn a_refusal_names_node_and_reason() {
        let gather = "Non-zero status code returned while running Gather node. Name:'embed' Status Message: indices element out of data bounds, idx=99 must be within the inclusive range [-10,9]";
        let refusal = on_run(gather).unwrap();
        assert_eq!(refusal.node, "Gather \"embed\"");
        assert!(refusal.reason.contains("idx=99"));
        assert_eq!(refusal.without_values().reason, "out of data bounds");
        assert_eq!(
            on_run(
                "Non-zero status code returned while running Loop node. Name:'' Status Message: Failed to allocate memory"
            ),
            None
        );
        assert_eq!(on_run("something else"), None);
    }

    #[test]
    fn advice_comes_first_and_source_paths_go() {
        let text = on_load(
            "/onnxruntime_src/onnxruntime/core/graph/model.cc:182 onnxruntime::Model::Model(onnx::ModelProto&&, const PathString&) Unsupported model IR version: 14, max supported IR version: 13",
        );
        assert!(
            text.starts_with("the file's IR version")
                && text.contains("max supported IR version: 13")
                && !text.contains("onnxruntime_src"),
            "{text}"
        );
        assert!(on_load("ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. Opset 30 is under development").contains("target_opset"));
        assert!(
            on_load("Failed to construct locale with name:en_US.UTF-8")
                .contains("en_US.UTF-8 generated")
        );
        assert!(
            on_load("Fatal error: my.domain:Foo(-1) is not a registered function/op")
                .contains("standard operators")
        );
        assert_eq!(on_load("something else"), "something else");
    }
}
