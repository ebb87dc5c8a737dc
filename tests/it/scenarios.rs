//! The files of `tests/scenarios`: what is sent, and what must come back, in every dialect.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use reqwest::{
    Method,
    blocking::Response,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::Value;

use crate::harness::{Server, models, root};

const PACKAGES: [(&str, &str); 6] = [
    ("churn", "1.0.0"),
    ("churn", "1.1.0"),
    ("churn-pipeline", "1.1.0"),
    ("diabetes", "1.0.0"),
    ("digits", "1.0.0"),
    ("digits-array", "1.0.0"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    step: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default = "post")]
    method: String,
    path: String,
    /// `content-type` is application/json where there is a body and nothing else is said.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Sent as it is.
    body: Option<String>,
    /// Sent as JSON.
    json: Option<toml::Value>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: u16,
    /// The value; `*` is any, `~text` is one that contains the text.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Contained in the answer.
    json: Option<toml::Value>,
    /// JSON pointers to what must not be in the answer.
    #[serde(default)]
    absent: Vec<String>,
    /// Contained in the answer's text.
    text: Option<String>,
}

fn post() -> String {
    "POST".to_owned()
}

impl Step {
    fn run(&self, server: &Server) -> Result<Vec<String>, String> {
        if self.body.is_some() && self.json.is_some() {
            return Err("has both body and json".to_owned());
        }
        let body = match &self.json {
            Some(json) => Some(serde_json::to_string(json).map_err(|e| e.to_string())?),
            None => self.body.clone(),
        };
        let mut headers = HeaderMap::new();
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().map_err(|_| format!("no header's name: {name}"))?;
            headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| format!("no header's value: {value:?}"))?);
        }
        let method: Method = self.method.parse().map_err(|_| format!("no method: {}", self.method))?;
        let mut request = server.client.request(method, server.url(&self.path)).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        self.expect.check(request.send().map_err(|e| format!("no answer: {e:?}"))?)
    }
}

impl Expect {
    /// What differs.
    fn check(&self, response: Response) -> Result<Vec<String>, String> {
        let mut differences = Vec::new();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().map_err(|e| format!("the answer does not end: {e:?}"))?;
        if status != self.status {
            differences.push(format!("status: expected {}, got {status}", self.status));
        }
        for (name, expected) in &self.headers {
            match headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes())) {
                None => differences.push(format!("header {name}: expected {expected:?}, there is none")),
                Some(value) if expected == "*" || text_fits(expected, &value) => {}
                Some(value) => differences.push(format!("header {name}: expected {expected:?}, got {value:?}")),
            }
        }
        if self.json.is_some() || !self.absent.is_empty() {
            match serde_json::from_str::<Value>(&text) {
                Ok(answer) => {
                    if let Some(expected) = &self.json {
                        let expected = serde_json::to_value(expected).map_err(|e| e.to_string())?;
                        compare(&expected, &answer, "", &mut differences);
                    }
                    for pointer in &self.absent {
                        if !pointer.starts_with('/') {
                            return Err(format!("no JSON pointer: {pointer:?}"));
                        }
                        if let Some(value) = answer.pointer(pointer) {
                            differences.push(format!("{pointer}: must be absent, is {value}"));
                        }
                    }
                }
                Err(e) => differences.push(format!("the answer is not JSON: {e}")),
            }
        }
        if self.text.as_ref().is_some_and(|expected| !text.contains(expected)) {
            differences.push(format!("text: expected {:?} in it", self.text));
        }
        if !differences.is_empty() {
            differences.push(format!("the answer was {}", text.chars().take(2000).collect::<String>()));
        }
        Ok(differences)
    }
}

/// `~text` is a part, anything else the whole.
fn text_fits(expected: &str, actual: &str) -> bool {
    expected.strip_prefix('~').map_or(expected == actual, |part| actual.contains(part))
}

/// Objects may have more than is expected; lists may not.
fn compare(expected: &Value, actual: &Value, place: &str, differences: &mut Vec<String>) {
    let fits = match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, expected) in expected {
                let place = format!("{place}/{key}");
                match actual.get(key) {
                    Some(actual) => compare(expected, actual, &place, differences),
                    None => differences.push(format!("{place}: expected {expected}, there is none")),
                }
            }
            true
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(expected, actual, &format!("{place}/{index}"), differences);
            }
            true
        }
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-4 * a.abs().max(1.0),
            _ => false,
        },
        (Value::String(expected), Value::String(actual)) => text_fits(expected, actual),
        _ => expected == actual,
    };
    if !fits {
        differences.push(format!("{place}: expected {expected}, got {actual}"));
    }
}

/// Sorted.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs_err::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// `NNNN_name.toml`
fn is_scenario_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    digits == 4 && name.as_bytes()[digits] == b'_' && name.ends_with(".toml")
}

/// What is wrong with what a file says or with what came back.
fn run(path: &Path, server: &Server) -> Vec<String> {
    if !is_scenario_name(path) {
        return vec!["is not named NNNN_name.toml".to_owned()];
    }
    let scenario: Scenario = match toml::from_str(&fs_err::read_to_string(path).unwrap()) {
        Ok(scenario) => scenario,
        Err(e) => return vec![e.to_string()],
    };
    if scenario.step.is_empty() {
        return vec!["has no step".to_owned()];
    }
    let mut failures = Vec::new();
    for (index, step) in scenario.step.iter().enumerate() {
        let differences = step.run(server).unwrap_or_else(|e| vec![e]);
        let place = format!("step {} ({} {})", index + 1, step.method, step.path);
        failures.extend(differences.into_iter().map(|difference| format!("{place}: {difference}")));
    }
    failures
}

#[test]
fn every_scenario() {
    let root = root().join("tests/scenarios");
    let models = models(&PACKAGES);
    let server = Server::start(models.path(), &[]);
    let (mut count, mut failures) = (0, String::new());
    let dialects = entries(&root);
    assert!(!dialects.is_empty(), "there is no dialect in {}", root.display());
    for dialect in dialects {
        let files = entries(&dialect);
        if files.is_empty() {
            writeln!(failures, "{} holds no scenario", dialect.display()).unwrap();
        }
        for file in files {
            count += 1;
            let name = file.strip_prefix(&root).unwrap().display();
            for failure in run(&file, &server) {
                writeln!(failures, "{name}: {failure}").unwrap();
            }
        }
    }
    println!("{count} scenarios");
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn a_difference_is_seen() {
    let differences = |expected: Value, actual: Value| {
        let mut differences = Vec::new();
        compare(&expected, &actual, "", &mut differences);
        differences.len()
    };
    use serde_json::json;
    assert_eq!(differences(json!({"a": [1, "~b"]}), json!({"a": [1.00005, "abc"], "more": 1})), 0);
    assert_eq!(differences(json!({"a": 1000}), json!({"a": 1000.09})), 0);
    for (expected, actual) in [
        (json!(1), json!(1.001)),
        (json!(1), json!("1")),
        (json!("b"), json!("abc")),
        (json!("~d"), json!("abc")),
        (json!([1]), json!([1, 2])),
        (json!({"a": 1}), json!({})),
        (json!({}), json!([])),
        (json!(true), json!(false)),
    ] {
        assert_eq!(differences(expected.clone(), actual.clone()), 1, "{expected} {actual}");
    }
    assert!(toml::from_str::<Scenario>("[[step]]\npath = \"/\"\nexpect.status = 200\n").is_ok());
    for unknown in
        ["[[step]]\npath = \"/\"\nexpect.status = 200\nbdy = \"\"\n", "[[step]]\npath = \"/\"\nexpect.status = 200\nexpect.txt = \"\"\n"]
    {
        assert!(toml::from_str::<Scenario>(unknown).is_err(), "{unknown}");
    }
}
