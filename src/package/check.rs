//! `PackageCheck`: the checks that reject a package.

use serde::{Deserialize, Serialize};

/// The check that rejected a package. Its name is the `reason` of the rejection in metrics, in the
/// log and in the answer of `/models/{name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageCheck {
    /// The server's configuration of the version.
    Config,
    /// The gate's process ended without a result.
    Crash,
    /// A file that is missing or can't be read.
    Files,
    /// The gate's process can't be started.
    Gate,
    /// The golden examples.
    Golden,
    /// The graph, as ONNX Runtime loads it.
    Graph,
    /// The hashes of the files.
    Hashes,
    /// The name and the version of the directory.
    Identity,
    /// The copy of the files did not end.
    Incomplete,
    /// The digest that the journal has for the version.
    Journal,
    /// The manifest.
    Manifest,
    /// The import of an MLflow model.
    Mlflow,
    /// The answers of a row alone and next to other rows.
    Neighbours,
    /// The outputs of the graph.
    Outputs,
    /// The files changed after the version was loaded.
    Overwritten,
    /// The preprocessing steps.
    Preprocessing,
    /// The ONNX Runtime library.
    Runtime,
    /// The schema.
    Schema,
    /// The declared needs of the package.
    Serving,
    /// The time limit of the gate.
    Timeout,
    /// The first run of the graph.
    WarmUp,
}

impl PackageCheck {
    /// The name of the check, as in metrics.
    pub fn name(self) -> &'static str {
        match self {
            PackageCheck::Config => "config",
            PackageCheck::Crash => "crash",
            PackageCheck::Files => "files",
            PackageCheck::Gate => "gate",
            PackageCheck::Golden => "golden",
            PackageCheck::Graph => "graph",
            PackageCheck::Hashes => "hashes",
            PackageCheck::Identity => "identity",
            PackageCheck::Incomplete => "incomplete",
            PackageCheck::Journal => "journal",
            PackageCheck::Manifest => "manifest",
            PackageCheck::Mlflow => "mlflow",
            PackageCheck::Neighbours => "neighbours",
            PackageCheck::Outputs => "outputs",
            PackageCheck::Overwritten => "overwritten",
            PackageCheck::Preprocessing => "preprocessing",
            PackageCheck::Runtime => "runtime",
            PackageCheck::Schema => "schema",
            PackageCheck::Serving => "serving",
            PackageCheck::Timeout => "timeout",
            PackageCheck::WarmUp => "warm-up",
        }
    }
}

impl std::fmt::Display for PackageCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `pad` keeps the width that a table asks for.
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{document, package::PackageCheck};

    #[test]
    fn a_check_has_one_name_in_documents_and_in_metrics() {
        for check in [
            PackageCheck::Config,
            PackageCheck::Mlflow,
            PackageCheck::Neighbours,
            PackageCheck::WarmUp,
        ] {
            assert_eq!(json!(check), json!(check.name()));
            let read: PackageCheck = document::read(&json!(check.name())).unwrap();
            assert_eq!(read, check);
        }
    }
}
