//! The admin API of a running server: decisions about rollouts, status, journal, loading and
//! unloading.

use reqwest::{StatusCode, blocking::Response};
use serde_json::{Value, json};

use super::{command::run_predictd, plan::plan_with_steps, server_client::ServerClient};

impl ServerClient {
    /// The address of the admin listener.
    pub fn admin_address(&self) -> String {
        self.addresses.admin.unwrap().to_string()
    }

    /// The URL of a path of the admin listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin_address())
    }

    /// Posts a decision, such as `churn/rollout/start`.
    pub fn post_decision(&self, path: &str, body: &Value) -> Response {
        self.client
            .post(self.admin_url(&format!("/admin/models/{path}")))
            .body(body.to_string())
            .send()
            .unwrap()
    }

    /// Posts a decision that is accepted, and returns the model's status after it.
    pub fn decide(&self, path: &str, body: &Value) -> Value {
        let response = self.post_decision(path, body);
        let status = response.status();
        let text = response.text().unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Posts a decision that is refused, and returns the status code and the error.
    pub fn refused_decision(&self, path: &str, body: &Value) -> (StatusCode, String) {
        let response = self.post_decision(path, body);
        let status = response.status();
        let document: Value = response.json().unwrap();
        (
            status,
            document["error"]
                .as_str()
                .unwrap_or_else(|| panic!("{path} was carried out: {document}"))
                .to_owned(),
        )
    }

    /// Posts a decision that is refused, and returns the suggestion of the error.
    pub fn suggestion_after(&self, path: &str, body: &Value) -> Value {
        let document: Value = self.post_decision(path, body).json().unwrap();
        let hint = document["hint"].as_str().unwrap();
        assert!(
            !hint.contains("--"),
            "the hint for an API client has no command line: {hint}"
        );
        document["suggestion"].clone()
    }

    /// Starts a rollout by a plan of these steps.
    pub fn start_rollout(&self, model: &str, version: &str, steps: &str) -> Value {
        self.decide(
            &format!("{model}/rollout/start"),
            &json!({"to": [version], "plan": {"text": plan_with_steps(steps)}}),
        )
    }

    /// Promotes the candidate of the model's rollout.
    pub fn promote(&self, model: &str) -> Value {
        self.decide(&format!("{model}/rollout/promote"), &json!({}))
    }

    /// Makes a version stable that never was, without a rollout.
    pub fn make_stable(&self, model: &str, version: &str) -> Value {
        self.decide(
            &format!("{model}/rollback"),
            &json!({"to": version, "never_stable": true, "reason": "a test"}),
        )
    }

    /// Repairs the journal of a model.
    pub fn repair(&self, model: &str, reason: &str) -> Value {
        self.decide(
            &format!("{model}/history/repair"),
            &json!({"reason": reason}),
        )
    }

    /// The status of a model, as `rollout status` shows it.
    pub fn status(&self, model: &str) -> Value {
        let url = self.admin_url(&format!("/admin/models/{model}"));
        self.client.get(url).send().unwrap().json().unwrap()
    }

    /// The sum of a field, such as `units`, over all arms of the evidence of the model's rollout. 0
    /// without a rollout.
    pub fn evidence_total(&self, model: &str, field: &str) -> u64 {
        let status = self.status(model);
        let arms = status["rollout"]["evidence"]["arms"].as_object();
        arms.into_iter()
            .flat_map(|arms| arms.values())
            .map(|arm| arm[field].as_u64().unwrap_or(0))
            .sum()
    }

    /// The version in the header of a successful answer.
    pub fn answering_version(&self, path: &str, body: &Value) -> String {
        let response = self.predict(path, body);
        let version = response.headers()["x-model-version"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(response.status(), 200, "{}", response.text().unwrap());
        version
    }

    /// The journal entries of a model.
    pub fn history(&self, model: &str) -> Vec<Value> {
        let url = self.admin_url(&format!("/admin/models/{model}/history"));
        let history: Value = self.client.get(url).send().unwrap().json().unwrap();
        history["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap())
            .collect()
    }

    /// The actions of a model's journal entries.
    pub fn actions(&self, model: &str) -> Vec<String> {
        self.history(model)
            .iter()
            .map(|entry| entry["action"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Posts to the repository API, such as `models/churn/unload`, with these header fields.
    pub fn post_repository(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self
            .client
            .post(self.admin_url(&format!("/v2/repository/{path}")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body("{}").send().unwrap()
    }

    /// Unloads a model and waits for the answer.
    pub fn unload(&self, model: &str) {
        let response = self.post_repository(&format!("models/{model}/unload"), &[]);
        assert_eq!(response.status(), 200);
    }

    /// Loads a model and waits for the answer.
    pub fn load(&self, model: &str) {
        let response = self.post_repository(&format!("models/{model}/load"), &[]);
        assert_eq!(response.status(), 200);
    }

    /// Runs a command against this server: (exit code, stdout and stderr).
    pub fn run_command(&self, arguments: &[&str]) -> (i32, String) {
        let environment = [("PREDICTD_SERVER", &*self.admin_url(""))];
        let (code, output, error) = run_predictd(arguments, "", &environment);
        (code, output + &error)
    }

    /// Runs a command against this server that succeeds, and returns its output.
    pub fn command_output(&self, arguments: &[&str]) -> String {
        let (code, output) = self.run_command(arguments);
        assert_eq!(code, 0, "{arguments:?}: {output}");
        output
    }

    /// Runs a command against this server that exits with 1, and returns its output.
    pub fn command_failure(&self, arguments: &[&str]) -> String {
        let (code, output) = self.run_command(arguments);
        assert_eq!(code, 1, "{arguments:?}: {output}");
        output
    }
}
