//! Runs the files of `tests/scenarios`: requests and their expected answers, in every dialect.

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
use tempfile::TempDir;

use crate::harness::{InProcessServer, ServerClient, install_graph, models_with, root, wait_until};

const PACKAGES: [(&str, &str); 6] = [
    ("churn", "1.0.0"),
    ("churn", "1.1.0"),
    ("churn-pipeline", "1.1.0"),
    ("diabetes", "1.0.0"),
    ("digits", "1.0.0"),
    ("digits-array", "1.0.0"),
];

const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Graphs without a manifest: name, version, file, configuration.
const GRAPHS: [(&str, u64, &str, Option<&str>); 22] = [
    (
        "iris",
        3,
        "iris",
        Some(
            "max_batch_size: 8\ndynamic_batching { }\noutput { name: \"prob\" label_filename: \"labels.txt\" }\n",
        ),
    ),
    ("add_sub", 1, "add_sub", None),
    // For one scenario only, which counts requests.
    ("counted", 1, "identity_int16", None),
    ("scalar", 1, "scalar", None),
    ("no_input", 1, "no_input", None),
    ("fixed_batch", 1, "fixed_batch", None),
    ("images", 1, "images", None),
    ("nonfinite", 1, "nonfinite", None),
    ("fails_out_of_range", 1, "fails_out_of_range", None),
    ("identity_bool", 1, "identity_bool", None),
    ("identity_bytes", 1, "identity_bytes", None),
    ("identity_fp16", 1, "identity_fp16", None),
    ("identity_fp32", 1, "identity_fp32", None),
    ("identity_fp64", 1, "identity_fp64", None),
    ("identity_int8", 1, "identity_int8", None),
    ("identity_int16", 1, "identity_int16", None),
    ("identity_int32", 1, "identity_int32", None),
    ("identity_int64", 1, "identity_int64", None),
    ("identity_uint8", 1, "identity_uint8", None),
    ("identity_uint16", 1, "identity_uint16", None),
    ("identity_uint32", 1, "identity_uint32", None),
    ("identity_uint64", 1, "identity_uint64", None),
];

/// A model whose only version is rejected.
const BROKEN: &str = "broken";

/// predictd's own dialect. Its scenarios run without bare graphs and without a default model.
const OWN: &str = "predict";

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
    /// A body without a `content-type` is sent as application/json.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The body as text.
    body: Option<String>,
    /// The body as JSON.
    json: Option<toml::Value>,
    /// JSON in front of `data`. Its length is sent as `inference-header-content-length`, unless
    /// `headers` has that field.
    head: Option<String>,
    /// Bytes in hexadecimal, with spaces: they follow `head`, or are the whole body.
    data: Option<String>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: u16,
    /// The expected value. `*` is any value, `~text` a value that contains the text.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Members of the answer.
    json: Option<toml::Value>,
    /// JSON pointers that the answer must not have.
    #[serde(default)]
    absent: Vec<String>,
    /// A part of the answer's text.
    text: Option<String>,
    /// The bytes after the answer's JSON, in hexadecimal. `inference-header-content-length` is the
    /// length of the JSON.
    data: Option<String>,
}

fn post() -> String {
    "POST".to_owned()
}

impl Step {
    fn run(&self, server: &ServerClient) -> Result<Vec<String>, String> {
        let mut headers = HeaderMap::new();
        let body = self.body(&mut headers)?;
        for (name, value) in &self.headers {
            let name: HeaderName = name
                .parse()
                .map_err(|_| format!("no header's name: {name}"))?;
            headers.insert(
                name,
                HeaderValue::from_bytes(value.as_bytes())
                    .map_err(|_| format!("no header's value: {value:?}"))?,
            );
        }
        let method: Method = self
            .method
            .parse()
            .map_err(|_| format!("no method: {}", self.method))?;
        let mut request = server
            .client
            .request(method, server.url(&self.path))
            .headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        self.expect
            .check(request.send().map_err(|e| format!("no answer: {e:?}"))?)
    }

    /// The body. Adds the header fields that describe it.
    fn body(&self, headers: &mut HeaderMap) -> Result<Option<Vec<u8>>, String> {
        let data = self.data.as_deref().map(parse_hexadecimal).transpose()?;
        let body = match (&self.body, &self.json, &self.head, data) {
            (None, None, None, None) => return Ok(None),
            (Some(text), None, None, None) => text.clone().into_bytes(),
            (None, Some(json), None, None) => {
                serde_json::to_vec(json).map_err(|e| e.to_string())?
            }
            (None, None, None, Some(data)) => data,
            (None, None, Some(head), Some(data)) => {
                headers.insert(HEADER_LENGTH, HeaderValue::from(head.len()));
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/octet-stream"),
                );
                return Ok(Some([head.as_bytes(), &data].concat()));
            }
            _ => {
                return Err(
                    "has more than one of body, json, and data with or without head; or head \
                     without data"
                        .to_owned(),
                );
            }
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Some(body))
    }
}

/// `00ff 7f`
fn parse_hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|char| !char.is_whitespace())
        .map(|char| char.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let wrong = || format!("not bytes in hexadecimal: {text:?}");
    let digits = digits
        .filter(|digits| digits.len().is_multiple_of(2))
        .ok_or_else(wrong)?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

impl Expect {
    /// The differences between the expected and the actual answer.
    fn check(&self, response: Response) -> Result<Vec<String>, String> {
        let mut differences = Vec::new();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response
            .bytes()
            .map_err(|e| format!("the answer does not end: {e:?}"))?;
        let length = headers
            .get(HEADER_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(body.len());
        let (text, data) = body
            .split_at_checked(length)
            .ok_or("the answer's JSON is longer than the answer")?;
        let text = String::from_utf8_lossy(text);
        if status != self.status {
            differences.push(format!("status: expected {}, got {status}", self.status));
        }
        self.check_headers(&headers, &mut differences);
        self.check_json(&text, &mut differences)?;
        self.check_data(data, &mut differences)?;
        if self
            .text
            .as_ref()
            .is_some_and(|expected| !text.contains(expected))
        {
            differences.push(format!("text: expected {:?} in it", self.text));
        }
        if !differences.is_empty() {
            differences.push(format!(
                "the answer was {}",
                text.chars().take(2000).collect::<String>()
            ));
        }
        Ok(differences)
    }

    fn check_headers(&self, headers: &HeaderMap, differences: &mut Vec<String>) {
        for (name, expected) in &self.headers {
            match headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
            {
                None => differences.push(format!(
                    "header {name}: expected {expected:?}, there is none"
                )),
                Some(value) if expected == "*" || text_fits(expected, &value) => {}
                Some(value) => differences.push(format!(
                    "header {name}: expected {expected:?}, got {value:?}"
                )),
            }
        }
    }

    fn check_json(&self, text: &str, differences: &mut Vec<String>) -> Result<(), String> {
        if self.json.is_none() && self.absent.is_empty() {
            return Ok(());
        }
        let answer = match serde_json::from_str::<Value>(text) {
            Ok(answer) => answer,
            Err(e) => {
                differences.push(format!("the answer is not JSON: {e}"));
                return Ok(());
            }
        };
        if let Some(expected) = &self.json {
            let expected = serde_json::to_value(expected).map_err(|e| e.to_string())?;
            compare(&expected, &answer, "", differences);
        }
        for pointer in &self.absent {
            if !pointer.starts_with('/') {
                return Err(format!("no JSON pointer: {pointer:?}"));
            }
            if let Some(value) = answer.pointer(pointer) {
                differences.push(format!("{pointer}: must be absent, is {value}"));
            }
        }
        Ok(())
    }

    fn check_data(&self, data: &[u8], differences: &mut Vec<String>) -> Result<(), String> {
        let data = hexadecimal(data);
        match self
            .data
            .as_deref()
            .map(parse_hexadecimal)
            .transpose()?
            .map(|expected| hexadecimal(&expected))
        {
            Some(expected) if expected != data => {
                differences.push(format!("data: expected {expected}, got {data}"))
            }
            None if !data.is_empty() => {
                differences.push(format!("data: expected none, got {data}"))
            }
            _ => {}
        }
        Ok(())
    }
}

/// `~text` expects a part, other values expect the whole text.
fn text_fits(expected: &str, actual: &str) -> bool {
    expected
        .strip_prefix('~')
        .map_or(expected == actual, |part| actual.contains(part))
}

/// Objects may have more members than expected. Lists must have the same length.
fn compare(expected: &Value, actual: &Value, place: &str, differences: &mut Vec<String>) {
    let fits = match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, expected) in expected {
                let place = format!("{place}/{key}");
                let Some(actual) = actual.get(key) else {
                    differences.push(format!("{place}: expected {expected}, there is none"));
                    continue;
                };
                compare(expected, actual, &place, differences);
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

/// The sorted paths in a directory.
fn sorted_entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs_err::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// Whether the name has the form `NNNN_name.toml`.
fn is_scenario_name(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    digits == 4 && name.as_bytes()[digits] == b'_' && name.ends_with(".toml")
}

/// The faults of a scenario file, or the differences of its answers.
fn run_scenario(path: &Path, server: &ServerClient) -> Vec<String> {
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
        failures.extend(
            differences
                .into_iter()
                .map(|difference| format!("{place}: {difference}")),
        );
    }
    failures
}

/// A server with every package, every graph and a default model, after all are loaded.
fn start_with_all_models() -> (TempDir, InProcessServer) {
    let models = models_with(&PACKAGES);
    for (name, version, fixture, config) in GRAPHS {
        install_graph(models.path(), name, version, fixture, config);
    }
    fs_err::write(
        models.path().join("iris/labels.txt"),
        "setosa\nversicolor\nvirginica\n",
    )
    .unwrap();
    fs_err::create_dir_all(models.path().join(BROKEN).join("1")).unwrap();
    fs_err::write(models.path().join(BROKEN).join("1/model.onnx"), "no graph").unwrap();
    let server = InProcessServer::start(
        models.path(),
        &[("models.default", "churn"), ("models.required", "churn")],
    );
    wait_until("every model is loaded", || {
        let index: Vec<Value> = server
            .client
            .post(server.url("/v2/repository/index"))
            .send()
            .unwrap()
            .json()
            .unwrap();
        let settled = |entry: &Value| {
            if entry["name"] == BROKEN {
                entry["state"] == "UNAVAILABLE"
            } else {
                entry["state"] == "READY"
            }
        };
        index.len() == PACKAGES.len() + GRAPHS.len() + 1 && index.iter().all(settled)
    });
    (models, server)
}

/// Runs the scenarios of some dialects: their number, and the differences.
fn run_dialects(server: &ServerClient, is_meant: impl Fn(&str) -> bool) -> (usize, String) {
    let root = root().join("tests/scenarios");
    let (mut count, mut failures) = (0, String::new());
    for dialect in sorted_entries(&root)
        .into_iter()
        .filter(|path| is_meant(&path.file_name().unwrap().to_string_lossy()))
    {
        let files = sorted_entries(&dialect);
        if files.is_empty() {
            writeln!(failures, "{} holds no scenario", dialect.display()).unwrap();
        }
        for file in files {
            count += 1;
            let name = file.strip_prefix(&root).unwrap().display();
            for failure in run_scenario(&file, server) {
                writeln!(failures, "{name}: {failure}").unwrap();
            }
        }
    }
    (count, failures)
}

#[test]
fn scenarios_of_the_predict_dialect_pass() {
    let models = models_with(&PACKAGES);
    let server = InProcessServer::start(models.path(), &[]);
    let (count, failures) = run_dialects(&server, |dialect| dialect == OWN);
    println!("{count} scenarios");
    assert!(count > 0 && failures.is_empty(), "{failures}");
}

#[test]
fn scenarios_of_the_other_dialects_pass() {
    let (_models, server) = start_with_all_models();
    let (count, failures) = run_dialects(&server, |dialect| dialect != OWN);
    println!("{count} scenarios");
    assert!(count > 0 && failures.is_empty(), "{failures}");
}

#[test]
fn differences_are_found() {
    let differences = |expected: Value, actual: Value| {
        let mut differences = Vec::new();
        compare(&expected, &actual, "", &mut differences);
        differences.len()
    };
    use serde_json::json;
    assert_eq!(
        differences(
            json!({"a": [1, "~b"]}),
            json!({"a": [1.00005, "abc"], "more": 1})
        ),
        0
    );
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
        assert_eq!(
            differences(expected.clone(), actual.clone()),
            1,
            "{expected} {actual}"
        );
    }
    assert!(toml::from_str::<Scenario>("[[step]]\npath = \"/\"\nexpect.status = 200\n").is_ok());
    for unknown in [
        "[[step]]\npath = \"/\"\nexpect.status = 200\nbdy = \"\"\n",
        "[[step]]\npath = \"/\"\nexpect.status = 200\nexpect.txt = \"\"\n",
    ] {
        assert!(toml::from_str::<Scenario>(unknown).is_err(), "{unknown}");
    }
    assert_eq!(parse_hexadecimal("00ff 7f").unwrap(), [0, 255, 127]);
    for wrong in ["0", "0g", "é0"] {
        assert!(parse_hexadecimal(wrong).is_err(), "{wrong}");
    }
    let both: Scenario =
        toml::from_str("[[step]]\npath = \"/\"\nhead = \"{}\"\nbody = \"\"\nexpect.status = 200\n")
            .unwrap();
    assert!(both.step[0].body(&mut HeaderMap::new()).is_err());
}
