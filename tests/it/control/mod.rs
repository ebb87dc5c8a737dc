//! The commands that operate a server, run as a person runs them: `rollout`, `rollback`, `history`;
//! and the webhook.

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{CHURN, Deployment, Server, customer, run_predictd};

mod history;
mod rollouts;
mod usage;
mod watch;
mod webhook;

const HELD: &str = "name = \"held\"\n[[steps]]\nkind = \"canary\"\nweight = 0.5\nmin_seconds = 60\n\
                    min_requests = 500\nhold = true\n";

/// A server on which churn 1.0.0 is stable and 1.1.0 is installed, a plan that lasts until an
/// operator decides, and the token of the commands.
struct Site {
    server: Server,
    deployment: Deployment,
    plan: PathBuf,
    token: Option<&'static str>,
}

fn start_site(settings: &[(&str, &str)]) -> Site {
    let mut deployment = Deployment::churn();
    for (key, value) in settings {
        deployment = deployment.with(key, value);
    }
    let server = deployment.start_and_add_candidate();
    let plan = deployment.state().join("held.toml");
    fs_err::write(&plan, HELD).unwrap();
    Site {
        server,
        deployment,
        plan,
        token: None,
    }
}

impl Site {
    /// Runs a command: (exit code, stdout, stderr).
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let url = self.server.admin_url("");
        let mut environment = vec![("PREDICTD_SERVER", url.as_str())];
        environment.extend(self.token.map(|token| ("PREDICTD_TOKEN", token)));
        run_predictd(arguments, "", &environment)
    }

    /// Runs a command that succeeds, and returns its stdout.
    fn output_of(&self, arguments: &[&str]) -> String {
        let (code, output, error) = self.run(arguments);
        assert_eq!(
            (code, error.as_str()),
            (0, ""),
            "{arguments:?}: {output}{error}"
        );
        output
    }

    fn json_output_of(&self, arguments: &[&str]) -> Value {
        let output = self.output_of(arguments);
        serde_json::from_str(&output)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output}"))
    }

    /// Runs a command that the server refuses, and returns its stderr.
    fn refusal_of(&self, arguments: &[&str]) -> String {
        let (code, output, error) = self.run(arguments);
        assert_eq!((code, output.as_str()), (1, ""), "{arguments:?}: {error}");
        error
    }

    fn start_rollout(&self) {
        self.output_of(&[
            "rollout",
            "start",
            "churn",
            "--to",
            "1.1.0",
            "--plan",
            self.plan.to_str().unwrap(),
            "--reason",
            "better",
        ]);
    }

    fn answering_version(&self) -> String {
        self.server.answering_version(CHURN, &customer())
    }
}
