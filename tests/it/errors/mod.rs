//! Invalid requests: the right status as problem+json, soon, and the server goes on.

use serde_json::Value;

mod connections;
mod headers;
mod kinds;

fn problem_of(response: reqwest::blocking::Response) -> Value {
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let status = response.status().as_u16();
    let document: Value = response.json().unwrap();
    assert_eq!(document["status"], status);
    for member in ["type", "title", "detail", "request_id"] {
        assert!(document[member].is_string(), "{member}: {document}");
    }
    document
}
