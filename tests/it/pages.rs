//! The pages for people and the description for programs.

use serde_json::Value;

use crate::harness::{Server, example_input, models_with, wait_for, write_manifest};

#[test]
fn openapi_examples_work() {
    let models = models_with(&[
        ("churn", "1.1.0"),
        ("diabetes", "1.0.0"),
        ("digits", "1.0.0"),
        ("digits-array", "1.0.0"),
        ("churn-pipeline", "1.1.0"),
    ]);
    let server = Server::start(models.path(), &[("models.default", "churn")]);
    let document = server.get_json("/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(post) = item.get("post") else {
            continue;
        };
        let content = &post["requestBody"]["content"]["application/json"];
        // The routes of the other protocols are the same for every model, and have no examples.
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
        "five models with and without a version and the default, two examples each"
    );
    for path in ["/models", "/models/churn", "/models/churn/versions/1.1.0"] {
        assert_eq!(server.get(path).status(), 200, "{path}");
    }
}

#[test]
fn examples_that_nobody_wrote_are_made_of_the_schema() {
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
    let server = Server::start(models.path(), &[]);
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
fn a_greeting_shows_no_long_example() {
    let long = |server: &Server| {
        wait_for("the greeting", || {
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
    // Bytes after its end are no part of a PNG.
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

/// Holds an instance against a schema of the document, with an independent validator.
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
fn pages_are_self_contained() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
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

#[test]
fn pages_of_other_origins_may_ask_where_the_configuration_says() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let body = example_input("diabetes", "1.0.0");
    let preflight = |server: &Server, origin: &str| {
        let request = server
            .client
            .request(reqwest::Method::OPTIONS, server.url("/predict"))
            .header("origin", origin);
        request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .send()
            .unwrap()
    };
    let allowed = |response: &reqwest::blocking::Response| {
        response
            .headers()
            .get("access-control-allow-origin")
            .map(|origin| origin.to_str().unwrap().to_owned())
    };
    let page = "https://app.example.com";
    let cases = [
        ("", page, None),
        (
            "https://app.example.com, http://localhost:3000",
            page,
            Some(page),
        ),
        ("*", page, Some("*")),
    ];
    for (origins, origin, expected) in cases {
        let server = Server::start(models.path(), &[("server.cors_origins", origins)]);
        let asked = preflight(&server, origin);
        assert_eq!(
            (allowed(&asked).as_deref(), asked.status().as_u16()),
            (expected, if origins.is_empty() { 405 } else { 200 }),
            "{origins}"
        );
        let answer = server
            .post("/predict")
            .header("origin", origin)
            .body(body.to_string())
            .send()
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), allowed(&answer).as_deref()),
            (200, expected),
            "{origins}"
        );
        // A page must be able to read why it got no answer.
        let refused = server
            .post("/predict")
            .header("origin", origin)
            .body("{")
            .send()
            .unwrap();
        assert_eq!(
            (refused.status().as_u16(), allowed(&refused).as_deref()),
            (400, expected),
            "{origins}"
        );
        if expected.is_some() {
            let header = |name: &str| asked.headers()[name].to_str().unwrap().to_lowercase();
            assert!(
                header("access-control-allow-methods").contains("post"),
                "{origins}"
            );
            assert_eq!(header("access-control-allow-headers"), "content-type");
            assert!(
                answer.headers()["access-control-expose-headers"]
                    .to_str()
                    .unwrap()
                    .contains("x-prediction-id")
            );
            assert!(
                asked
                    .headers()
                    .get("access-control-allow-credentials")
                    .is_none()
            );
        }
        if expected == Some(page) {
            assert_eq!(
                allowed(&preflight(&server, "https://elsewhere.example.com")),
                None
            );
        }
        let admin = server.client.get(server.admin_url("/admin/models"));
        assert_eq!(
            allowed(&admin.header("origin", origin).send().unwrap()),
            None,
            "the operators' listener is no page's"
        );
    }
}

/// What an unknown route points to must know the routes.
#[test]
fn the_root_lists_routes_that_are_there() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    let told = server.get_json("/nowhere")["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(told.ends_with("; / lists the routes"), "{told}");
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
