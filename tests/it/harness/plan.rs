//! Rollout plans that end quickly, and the model that most rollout tests use.

use serde_json::Value;
use tempfile::TempDir;

use super::{
    package::{example_input, install_package, models_with},
    server::Server,
};

/// The path that predicts with the model churn.
pub const CHURN: &str = "/models/churn/predict";

/// A step that sends half of the requests to the candidate, until 50 requests are counted.
pub const CANARY_HALF: &str = "[[steps]]\nkind = \"canary\"\nweight = 0.5\nmin_requests = 50\n";
/// A step that sends all requests to the candidate, until 10 requests are counted.
pub const CANARY_ALL: &str = "[[steps]]\nkind = \"canary\"\nweight = 1.0\nmin_requests = 10\n";
/// A step that sends half of the requests to the candidate, until an operator decides.
pub const CANARY_HELD: &str = "[[steps]]\nkind = \"canary\"\nweight = 0.5\nhold = true\n";

/// A plan with wide margins, so that the judge needs little evidence for each step.
pub fn plan_with_steps(steps: &str) -> String {
    format!(
        "name = \"quick\"\nalpha = 0.01\nmax_seconds = 3600\n[guards]\nerror_margin = 0.2\nnan_margin = 0.2\nrun_margin = 0.2\nengine_time_margin = 0.9\ncost_margin = 0.9\nerror_ceiling = 0.8\n{steps}"
    )
}

/// Starts a server on which churn 1.0.0 is stable, and installs churn 1.1.0.
pub fn start_churn(settings: &[(&str, &str)]) -> (TempDir, Server) {
    let models = models_with(&[("churn", "1.0.0")]);
    let server = Server::start(models.path(), settings);
    install_package(models.path(), "churn", "1.1.0");
    (models, server)
}

/// A valid request for every version of churn 1.
pub fn customer() -> Value {
    example_input("churn", "1.0.0")
}
