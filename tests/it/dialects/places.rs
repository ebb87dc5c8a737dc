//! The place in the request that an error names: a row, a field, a line of a table, an element of a
//! tensor.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::TARGET;
use crate::harness::{InProcessServer, ServerClient, example_input, install_graph, models_with};

const JSON: &str = "application/json";
const CSV: &str = "text/csv";
const LINES: &str = "application/jsonlines";

/// A server with a package and the bare graph `iris`, which takes rows of four numbers.
fn start_with_package_and_iris(package: (&str, &str)) -> (TempDir, InProcessServer) {
    let models = models_with(&[package]);
    install_graph(models.path(), "iris", 1, "iris", None);
    let server = InProcessServer::start(models.path(), &[]);
    (models, server)
}

/// Sends an invalid request, to `model` if the path names none, and returns the text of its error.
fn error_of(
    server: &ServerClient,
    model: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> String {
    let response = server
        .client
        .post(server.url(path))
        .header("content-type", content_type)
        .header(TARGET, model)
        .body(body.to_owned())
        .send()
        .unwrap();
    assert_eq!(response.status(), 400, "{body}");
    let answer: Value = response.json().unwrap();
    ["error", "message", "detail"]
        .iter()
        .find_map(|member| answer[*member].as_str())
        .unwrap()
        .to_owned()
}

/// Sends invalid requests to a path: (content type, body, the part that the error must contain).
fn check(server: &ServerClient, model: &str, path: &str, cases: &[(&str, String, &str)]) {
    for (content_type, body, expected) in cases {
        let text = error_of(server, model, path, content_type, body);
        assert!(
            text.contains(expected),
            "{path} {body}: {text}, expected {expected}"
        );
    }
}

/// As [`check`]. The error must name no place in a text that the caller did not write, and no
/// value.
fn check_without_offsets(
    server: &ServerClient,
    model: &str,
    path: &str,
    cases: &[(&str, String, &str)],
) {
    check(server, model, path, cases);
    for (content_type, body, _) in cases {
        let text = error_of(server, model, path, content_type, body);
        assert!(
            !text.contains("byte")
                && (!text.contains("line ") || *content_type == CSV)
                && !text.contains("1e999"),
            "{body}: {text}"
        );
    }
}

#[test]
fn errors_name_the_row_and_the_field_of_a_package() {
    let (_models, server) = start_with_package_and_iris(("diabetes", "1.0.0"));
    let example = example_input("diabetes", "1.0.0");
    let good = example.to_string();
    let too_large = good.replacen(&format!("\"bmi\":{}", example["bmi"]), "\"bmi\":1e999", 1);
    assert_ne!(too_large, good);
    let expected = "row 1, field `bmi`: the number is too large";
    check_without_offsets(
        &server,
        "diabetes",
        "/v1/models/diabetes:predict",
        &[
            (
                JSON,
                format!("{{\"instances\": [{good}, {too_large}]}}"),
                expected,
            ),
            (
                JSON,
                r#"{"inputs": {"bmi": [[1], [1e999]]}}"#.to_owned(),
                expected,
            ),
        ],
    );
    check_without_offsets(
        &server,
        "diabetes",
        "/invocations",
        &[
            (
                JSON,
                format!("{{\"dataframe_records\": [{good}, {too_large}]}}"),
                expected,
            ),
            (
                CSV,
                "bmi\n1\nx\n".to_owned(),
                "line 3 (row 2), column `bmi` of the table must be a number",
            ),
        ],
    );
}

#[test]
fn errors_name_the_element_of_a_tensor() {
    let (_models, server) = start_with_package_and_iris(("diabetes", "1.0.0"));
    let instances = |rows: &str| format!("{{\"instances\": {rows}}}");
    check_without_offsets(
        &server,
        "iris",
        "/v1/models/iris:predict",
        &[
            (
                JSON,
                instances("[[1, 2, 3, 4], [1, \"], [\", 3, 4]]"),
                "element [1][1] is not",
            ),
            (
                JSON,
                instances("[[1, 2, 3, 4], [1, 2, 3, 1e999]]"),
                "element [1][3]: the number is too large",
            ),
        ],
    );
    let tensor = |data: &str| {
        format!(
            r#"{{"inputs": [{{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": {data}}}]}}"#
        )
    };
    check_without_offsets(
        &server,
        "iris",
        "/v2/models/iris/infer",
        &[
            (
                JSON,
                tensor("[1, 2, 3, 4, 5, 1e39, 7, 8]"),
                "the number at element [5] is out of range",
            ),
            (
                JSON,
                tensor("[[1, 2, 3, 4], [5, 6, null, true]]"),
                "element [1][3] is not",
            ),
        ],
    );
}

#[test]
fn errors_of_a_table_for_a_graph_name_the_element() {
    let (_models, server) = start_with_package_and_iris(("diabetes", "1.0.0"));
    let table = |columns: &str| format!(r#"{{"dataframe_split": {{{columns}}}}}"#);
    check_without_offsets(
        &server,
        "iris",
        "/invocations",
        &[
            (
                JSON,
                table(
                    r#""columns": ["a", "b", "c", "d"], "data": [[1, 2, 3, 4], [1, {"b64": ",,"}, 3, 4]]"#,
                ),
                "element [1][1] is not",
            ),
            (
                JSON,
                table(r#""columns": [], "columns": []"#),
                "the member \"dataframe_split\": the member \"columns\" occurs twice",
            ),
        ],
    );
    check(
        &server,
        "iris",
        "/invocations",
        &[
            (
                LINES,
                "[1, 2, 3, 4]\n\n[1, 2]\n".to_owned(),
                "line 3 has 2 values, and an earlier array has 4",
            ),
            (
                CSV,
                "1,2,3,4\n1,2,1e39,4\n".to_owned(),
                "the number at line 2 (row 2), element [2] is out of range",
            ),
        ],
    );
}

/// Rows of churn 1.0.0.
struct Rows {
    names: Vec<String>,
    good: Value,
    /// The field `age` is a string.
    bad: Value,
}

impl Rows {
    fn new() -> Rows {
        let good = example_input("churn", "1.0.0");
        let names = good.as_object().unwrap().keys().cloned().collect();
        let bad = Rows::with(&good, "age", json!("old"));
        Rows { names, good, bad }
    }

    fn with(row: &Value, field: &str, value: Value) -> Value {
        let mut row = row.clone();
        row[field] = value;
        row
    }

    /// The values of a row in the order of the fields.
    fn values(&self, row: &Value) -> Vec<Value> {
        self.names.iter().map(|name| row[name].clone()).collect()
    }

    fn csv(&self, row: &Value) -> String {
        let cells: Vec<String> = self.values(row).iter().map(Value::to_string).collect();
        cells.join(",")
    }

    fn age_column(&self) -> usize {
        self.names.iter().position(|name| name == "age").unwrap()
    }

    /// Two good rows as tensors, of which the tensor of one field has this many rows, this datatype
    /// and this data.
    fn tensors(&self, field: &str, rows: usize, datatype: &str, data: &Value) -> String {
        let tensor = |name: &String| {
            let value = &self.good[name];
            if name == field {
                return json!({"name": name, "shape": [rows, 1], "datatype": datatype, "data": data});
            }
            let datatype = match value {
                Value::Number(_) => "FP64",
                Value::Bool(_) => "BOOL",
                _ => "BYTES",
            };
            json!({"name": name, "shape": [2, 1], "datatype": datatype, "data": [value, value]})
        };
        json!({"inputs": self.names.iter().map(tensor).collect::<Value>()}).to_string()
    }
}

/// The same text with NaN in place of the wrong string.
fn with_nan(text: &str) -> String {
    text.replace("\"old\"", "NaN")
}

#[test]
fn errors_of_a_table_name_the_line_and_the_column() {
    let (_models, server) = start_with_package_and_iris(("churn", "1.0.0"));
    let rows = Rows::new();
    let (header, good, bad) = (
        rows.names.join(","),
        rows.csv(&rows.good),
        rows.csv(&rows.bad),
    );
    let unknown_contract = rows.csv(&Rows::with(&rows.good, "contract", json!("none")));
    check(
        &server,
        "churn",
        "/invocations",
        &[
            (
                CSV,
                format!("{header}\n{good}\n{bad}\n"),
                "line 3 (row 2), column `age`",
            ),
            (
                CSV,
                format!("{header}\n\n{good}\n1,2\n"),
                "line 4 (row 2) of the table has 2 cells",
            ),
            (
                CSV,
                format!("{header}\n{unknown_contract}\n"),
                "line 2 (row 1), column `contract` must be",
            ),
        ],
    );
}

#[test]
fn errors_of_json_lines_name_the_line_and_the_field() {
    let (_models, server) = start_with_package_and_iris(("churn", "1.0.0"));
    let Rows { good, bad, .. } = Rows::new();
    let unknown = Rows::with(&good, "colour", json!(1));
    let with_bad = format!("{good}\n\n{bad}\n");
    check(
        &server,
        "churn",
        "/invocations",
        &[
            (LINES, with_bad.clone(), "line 3: /age `age` must be"),
            (
                LINES,
                format!("{good}\n\n{unknown}\n"),
                "line 3: /colour \"colour\" is not",
            ),
            (
                LINES,
                with_nan(&with_bad),
                "line 3 is not JSON: NaN and Infinity do not exist",
            ),
            (LINES, with_nan(&with_bad), "(/age)"),
        ],
    );
}

#[test]
fn errors_of_json_name_a_pointer_into_the_body() {
    let (_models, server) = start_with_package_and_iris(("churn", "1.0.0"));
    let rows = Rows::new();
    let (good, bad) = (&rows.good, &rows.bad);
    let split = json!({"dataframe_split": {"columns": rows.names, "data": [rows.values(good), rows.values(bad)]}});
    let records = json!({"dataframe_records": [good, bad]}).to_string();
    let instances = json!({"instances": [good, bad]}).to_string();
    let cell = format!(
        "/dataframe_split/data/1/{} `age` must be",
        rows.age_column()
    );
    check(
        &server,
        "churn",
        "/invocations",
        &[
            (JSON, split.to_string(), &cell),
            (
                JSON,
                records.clone(),
                "/dataframe_records/1/age `age` must be",
            ),
            (JSON, bad.to_string(), "/age `age` must be"),
            (JSON, instances.clone(), "/instances/1/age `age` must be"),
            (JSON, with_nan(&records), "(/dataframe_records/1/age)"),
        ],
    );
    for path in ["/v1/models/churn:predict", "/models/churn/predict"] {
        check(
            &server,
            "churn",
            path,
            &[(JSON, with_nan(&instances), "(/instances/1/age)")],
        );
    }
}

#[test]
fn errors_of_tensors_name_the_element_or_the_field() {
    let (_models, server) = start_with_package_and_iris(("churn", "1.0.0"));
    let rows = Rows::new();
    let element = format!("/inputs/{}/data/1", rows.age_column());
    let age = |datatype: &str, data: Value| rows.tensors("age", 2, datatype, &data);
    check(
        &server,
        "churn",
        "/v2/models/churn/infer",
        &[
            (JSON, with_nan(&age("INT64", json!([30, "old"]))), &element),
            (
                JSON,
                age("INT64", json!([30, 3.5])),
                "every element must be a whole number; element [1] is not",
            ),
            (
                JSON,
                age("INT64", json!([30, 9_223_372_036_854_775_808_u64])),
                "element [1] is out of range",
            ),
            (
                JSON,
                rows.tensors("paperless", 2, "BOOL", &json!([true, 2])),
                "`paperless` must be boolean",
            ),
            (
                JSON,
                age("UINT8", json!([30, -1])),
                "element [1] is out of range",
            ),
            (
                JSON,
                age("FP32", json!([30, 1e39])),
                "element [1] is out of range",
            ),
            (
                JSON,
                rows.tensors("age", 3, "INT64", &json!([30, 40])),
                "input `age`: shape [3, 1] takes 3 elements, given 2",
            ),
        ],
    );
}
