//! `GateProgress`: the current check of the gate, for the message about a check that never ends.

use std::time::Duration;

#[derive(Clone, Default)]
pub(super) struct GateProgress {
    /// The name of the last check that passed. Empty before the first one.
    last: String,
}

impl GateProgress {
    pub(super) fn passed(&mut self, check: &str) {
        check.clone_into(&mut self.last);
    }

    /// The activity of the gate after the last check that passed.
    pub(super) fn doing(&self) -> &'static str {
        match self.last.as_str() {
            "" => "reading the manifest",
            "manifest" => "hashing the files",
            "hashes" => "loading the graph",
            "graph" => "reading the schema",
            "schema" => "compiling the preprocessing",
            "preprocessing" | "config" => "the warm-up run",
            "warm-up" => "replaying the golden examples",
            _ => "trying rows in batches",
        }
    }

    /// The file that the current check reads.
    pub(super) fn file(&self) -> &'static str {
        match self.last.as_str() {
            "" | "manifest" => "manifest.json",
            "graph" => "schema.json",
            "schema" => "preprocessing.json",
            _ => "model.onnx",
        }
    }

    pub(super) fn timeout_detail(&self, timeout: Duration) -> String {
        format!(
            "{} took longer than {} s (models.gate_timeout_ms)",
            self.doing(),
            timeout.as_secs_f64()
        )
    }
}
