//! A client of a running server: requests, readiness and metrics.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use predictd::app::Addresses;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::Value;

use super::wait::{PATIENCE, wait_for, wait_until};

/// Sends requests to a server, of this process or of another one.
pub struct ServerClient {
    pub addresses: Addresses,
    pub client: Client,
}

impl ServerClient {
    pub fn new(addresses: Addresses) -> ServerClient {
        ServerClient {
            addresses,
            client: Client::builder().timeout(PATIENCE).build().unwrap(),
        }
    }

    pub fn wait_until_ready(&self) {
        wait_until("the server is ready", || {
            self.get("/readyz").status() == 200
        });
    }

    /// The readiness of each model and the reasons, as text.
    pub fn readiness(&self) -> String {
        self.get("/readyz?verbose").text().unwrap()
    }

    /// Waits until the readiness contains this text, and returns it.
    pub fn wait_for_readiness(&self, text: &str) -> String {
        wait_for(&format!("/readyz?verbose contains {text:?}"), || {
            Some(self.readiness()).filter(|readiness| readiness.contains(text))
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.data)
    }

    /// The address of the gRPC listener.
    pub fn grpc_address(&self) -> String {
        self.addresses.grpc.unwrap().to_string()
    }

    pub fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().unwrap()
    }

    pub fn get_json(&self, path: &str) -> Value {
        self.get(path).json().unwrap()
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client
            .post(self.url(path))
            .header("content-type", "application/json")
    }

    pub fn predict(&self, path: &str, body: &Value) -> Response {
        self.post(path).body(body.to_string()).send().unwrap()
    }

    /// Sends these bytes over a connection and returns the bytes that the server answers.
    pub fn send_raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.addresses.data).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        self.get("/metrics").text().unwrap()
    }

    /// The value of a series of `/metrics`. 0 if the series is missing.
    pub fn metric(&self, series: &str) -> f64 {
        self.metrics()
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Waits until a series of `/metrics` has this value.
    pub fn wait_for_metric(&self, series: &str, value: f64) {
        wait_until(&format!("{series} is {value}"), || {
            self.metric(series) == value
        });
    }
}
