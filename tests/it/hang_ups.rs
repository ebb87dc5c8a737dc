//! Callers that hang up before the answer are counted and logged in every dialect.

use std::{io::Write, net::TcpStream};

use serde_json::Value;

use crate::harness::{Server, ServerClient, install_graph, models_with, wait_for, wait_until};

const INFLIGHT: &str = "predictd_inflight_requests{model=\"slow\",version=\"1\"}";

fn send_partly(server: &ServerClient, path: &str, length: usize, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.addresses.data).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\ncontent-type: application/json\r\ncontent-length: {length}"
    );
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    stream
}

fn cancelled_requests(server: &ServerClient, protocol: &str, version: &str) -> f64 {
    server.metric(&format!(
        "predictd_requests_total{{code=\"499\",model=\"slow\",protocol=\"{protocol}\",\
         version=\"{version}\"}}"
    ))
}

#[test]
fn callers_that_hang_up_are_counted_and_logged() {
    let models = models_with(&[]);
    install_graph(models.path(), "slow", 1, "slow", None);
    let server = Server::start(models.path(), &[]);
    let tensors = "{\"inputs\": [{\"name\": \"rounds\", \"shape\": [1], \"datatype\": \"INT64\", \
                   \"data\": [10000000]}]}";
    let rows = "{\"instances\": [10000000]}";
    let dialects = [
        ("v2", "/v2/models/slow/infer", tensors),
        ("v2", "/v2/models/slow/versions/1/infer", tensors),
        ("v1", "/v1/models/slow:predict", rows),
        ("invocations", "/invocations", rows),
    ];
    for (index, (protocol, path, body)) in dialects.into_iter().enumerate() {
        let before = cancelled_requests(&server, protocol, "1");
        let connection = send_partly(&server, path, body.len(), body);
        server.wait_for_metric(INFLIGHT, 1.0);
        drop(connection);
        wait_until(path, || {
            cancelled_requests(&server, protocol, "1") == before + 1.0
        });
        let fail = &server.get_json("/v2/models/slow/stats")["model_stats"][0]["inference_stats"]["fail"]
            ["count"];
        assert_eq!(fail, index + 1, "{path}");
        let line = wait_for("the reason is logged", || {
            server.logged("cancelled").get(index).cloned()
        });
        let said = |name: &str| line[name].clone();
        assert_eq!(
            (said("status"), said("model"), said("version")),
            (Value::from(499), "slow".into(), "1".into()),
            "{line}"
        );
        assert_eq!(
            (said("protocol"), said("request_id")),
            (protocol.into(), "mine".into()),
            "{line}"
        );
    }
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"cancelled\",model=\"slow\",version=\"1\"}"),
        4.0
    );
    // A request whose body is incomplete has no version yet.
    drop(send_partly(
        &server,
        "/v2/models/slow/infer",
        1000,
        "{\"inputs\"",
    ));
    wait_until("the broken body is counted", || {
        cancelled_requests(&server, "v2", "") == 1.0
    });
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"invalid\",model=\"slow\",version=\"\"}"),
        0.0
    );
}
