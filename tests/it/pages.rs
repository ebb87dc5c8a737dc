//! The start page, the pages of models, and the OpenAPI document.

use reqwest::blocking::Response;
use serde_json::Value;

use crate::harness::{
    InProcessServer, Server, ServerClient, example_input, models_with, wait_for, write_manifest,
};

#[test]
fn the_examples_of_the_openapi_document_are_answered() {
    let models = models_with(&[
        ("churn", "1.1.0"),
        ("diabetes", "1.0.0"),
        ("digits", "1.0.0"),
        ("digits-array", "1.0.0"),
        ("churn-pipeline", "1.1.0"),
    ]);
    let server = InProcessServer::start(models.path(), &[("models.default", "churn")]);
    let document = server.get_json("/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(post) = item.get("post") else {
            continue;
        };
        let content = &post["requestBody"]["content"]["application/json"];
        // The routes of the other protocols are the same for every model and have no examples.
        for example in content["examples"]
            .as_object()
            .into_iter()
            .flat_map(|examples| examples.values())
        {
            let version = item["parameters"][0]["schema"]["examples"][0]
                .as_str()
                .unwrap_or_default();
            let response = server.predict(&path.replace("{version}", version), &example["value"]);
            assert_eq!(response.status(), 200, "{path}");
            let answer: Value = response.json().unwrap();
            assert_fits(&document, &content["schema"], &example["value"]);
            assert_fits(
                &document,
                &post["responses"]["200"]["content"]["application/json"]["schema"],
                &answer,
            );
            tried += 1;
        }
    }
    assert_eq!(
        tried, 22,
        "five models with and without a version, and the default model: two examples each"
    );
    for path in ["/models", "/models/churn", "/models/churn/versions/1.1.0"] {
        assert_eq!(server.get(path).status(), 200, "{path}");
    }
}

#[test]
fn missing_examples_are_generated_from_the_schema() {
    let models = models_with(&[("digits", "1.0.0"), ("churn", "1.1.0")]);
    for (name, version) in [("digits", "1.0.0"), ("churn", "1.1.0")] {
        let directory = models.path().join(name).join(version);
        fs_err::remove_file(directory.join("golden.jsonl")).unwrap();
        let mut schema: Value =
            serde_json::from_str(&fs_err::read_to_string(directory.join("schema.json")).unwrap())
                .unwrap();
        schema["input"].as_object_mut().unwrap().remove("examples");
        fs_err::write(directory.join("schema.json"), schema.to_string()).unwrap();
        write_manifest(&directory, name, version);
    }
    let server = InProcessServer::start(models.path(), &[]);
    let document = server.get_json("/openapi.json");
    for name in ["digits", "churn"] {
        let path = format!("/models/{name}/predict");
        let examples = &document["paths"][&path]["post"]["requestBody"]["content"]["application/json"]
            ["examples"];
        for (which, rows) in [("one", 1), ("several", 2)] {
            let response = server.predict(&path, &examples[which]["value"]);
            assert_eq!(response.status(), 200, "{path} {which}: {examples}");
            assert_eq!(
                response.json::<Value>().unwrap()["predictions"]
                    .as_array()
                    .unwrap()
                    .len(),
                rows,
                "{path} {which}"
            );
        }
    }
}

#[test]
fn the_start_text_has_no_long_example() {
    let long = |server: &Server| {
        wait_for("the start text is printed", || {
            Some(server.stdout()).filter(|text| text.contains("metrics "))
        })
    };
    let models = models_with(&[("digits", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    assert!(
        long(&server)
            .contains("/models/digits/predict -H 'content-type: application/json' -d '{\"image\"")
    );
    drop(server);
    let directory = models.path().join("digits/1.0.0");
    let mut schema: Value =
        serde_json::from_str(&fs_err::read_to_string(directory.join("schema.json")).unwrap())
            .unwrap();
    let image = base64_simd::STANDARD
        .decode_to_vec(schema["input"]["examples"][0]["image"].as_str().unwrap())
        .unwrap();
    // A PNG reader ignores bytes after the end of the image.
    let image = base64_simd::STANDARD.encode_to_string([image, vec![7; 60_000]].concat());
    schema["input"]["examples"][0]["image"] = Value::String(image);
    fs_err::write(directory.join("schema.json"), schema.to_string()).unwrap();
    write_manifest(&directory, "digits", "1.0.0");
    let server = Server::start(models.path(), &[]);
    let greeting = long(&server);
    assert!(
        greeting.len() < 2000 && greeting.contains("/docs#digits\n"),
        "{greeting}"
    );
}

/// Asserts with an independent validator that an instance is valid under a schema of the document.
fn assert_fits(document: &Value, schema: &Value, instance: &Value) {
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    let validator = jsonschema::options().build(&whole).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(instance)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn pages_load_nothing_from_other_hosts() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    for path in ["/", "/docs", "/docs/docs.js", "/docs/style.css"] {
        let response = server.get(path);
        assert_eq!(response.status(), 200, "{path}");
        assert!(
            response.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'")
        );
        let text = response.text().unwrap();
        assert!(
            !text.contains("http://") && !text.contains("https://"),
            "{path} refers to another host"
        );
    }
    assert_eq!(server.get("/docs/other").status(), 404);
    let version = server.get_json("/models/diabetes/versions/1.0.0");
    for member in [
        "digest",
        "schema",
        "evaluation",
        "model_card",
        "provenance",
        "files",
        "serving",
    ] {
        assert!(!version[member].is_null(), "{member}");
    }
    assert_eq!(version["serving"]["batched"], true);
}

const PAGE: &str = "https://app.example.com";

/// A preflight request for a prediction.
fn preflight(server: &ServerClient, origin: &str) -> Response {
    server
        .client
        .request(reqwest::Method::OPTIONS, server.url("/predict"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .send()
        .unwrap()
}

fn allowed(response: &Response) -> Option<String> {
    response
        .headers()
        .get("access-control-allow-origin")
        .map(|origin| origin.to_str().unwrap().to_owned())
}

/// Asserts the header fields of a preflight response and of an answer to a page of an allowed
/// origin.
fn check_allowed_headers(preflight: &Response, answer: &Response) {
    let header = |name: &str| preflight.headers()[name].to_str().unwrap().to_lowercase();
    assert!(header("access-control-allow-methods").contains("post"));
    assert_eq!(header("access-control-allow-headers"), "content-type");
    assert!(
        answer.headers()["access-control-expose-headers"]
            .to_str()
            .unwrap()
            .contains("x-prediction-id")
    );
    assert!(
        preflight
            .headers()
            .get("access-control-allow-credentials")
            .is_none()
    );
}

/// Asserts that a page of this origin may send requests and read answers if `expected` is the
/// allowed origin.
fn check_origin(server: &ServerClient, origins: &str, origin: &str, expected: Option<&str>) {
    let permission = preflight(server, origin);
    assert_eq!(
        (
            allowed(&permission).as_deref(),
            permission.status().as_u16()
        ),
        (expected, if origins.is_empty() { 405 } else { 200 }),
        "{origins}"
    );
    let post = |body: String| {
        let request = server.post("/predict").header("origin", origin);
        request.body(body).send().unwrap()
    };
    let answer = post(example_input("diabetes", "1.0.0").to_string());
    assert_eq!(
        (answer.status().as_u16(), allowed(&answer).as_deref()),
        (200, expected),
        "{origins}"
    );
    // A page must be able to read the reason of an error.
    let refused = post("{".to_owned());
    assert_eq!(
        (refused.status().as_u16(), allowed(&refused).as_deref()),
        (400, expected),
        "{origins}"
    );
    if expected.is_some() {
        check_allowed_headers(&permission, &answer);
    }
    if expected == Some(PAGE) {
        assert_eq!(
            allowed(&preflight(server, "https://elsewhere.example.com")),
            None
        );
    }
    let admin = server.client.get(server.admin_url("/admin/models"));
    assert_eq!(
        allowed(&admin.header("origin", origin).send().unwrap()),
        None,
        "the admin listener allows no origin"
    );
}

#[test]
fn pages_of_configured_origins_may_send_requests() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    for (origins, expected) in [
        ("", None),
        ("https://app.example.com, http://localhost:3000", Some(PAGE)),
        ("*", Some("*")),
    ] {
        let server = InProcessServer::start(models.path(), &[("server.cors_origins", origins)]);
        check_origin(&server, origins, PAGE, expected);
    }
}

/// The answer to an unknown route points to `/`, which must list the routes.
#[test]
fn the_root_lists_existing_routes() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let detail = server.get_json("/nowhere")["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(detail.ends_with("; / lists the routes"), "{detail}");
    let routes = server.get_json("/")["routes"].as_array().unwrap().clone();
    assert!(routes.len() > 12, "{routes:?}");
    for route in &routes {
        let path = route
            .as_str()
            .unwrap()
            .replace("{name}", "diabetes")
            .replace("{version}", "1.0.0");
        let status = server.get(&path).status();
        assert!(status == 200 || status == 405, "{path}: {status}");
    }
}
