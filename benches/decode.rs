//! Decoding and validating a request, compared with parsers that only parse into a plain struct.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench"
)]

use std::{hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use predictd::{
    decode::{DecodeLimits, decode_request},
    package::Parts,
};
use serde::Deserialize;
use serde_json::{Value, json};

const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 65_536,
    max_depth: 64,
    max_array_values: 64 << 20,
};

/// The fields of churn 1.1.0, without validation.
#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not read")]
struct Customer<'a> {
    tenure_months: f64,
    monthly_charges: f64,
    total_charges: Option<f64>,
    data_gb_30d: Option<f64>,
    support_tickets_90d: f64,
    days_since_last_login: Option<f64>,
    late_payments_12m: f64,
    age: Option<f64>,
    #[serde(borrow)]
    plan: &'a str,
    contract: &'a str,
    payment_method: Option<&'a str>,
    region: Option<&'a str>,
    device_os: Option<&'a str>,
    paperless: Option<bool>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, not read")]
struct Request<'a> {
    #[serde(borrow)]
    instances: Vec<Customer<'a>>,
}

pub fn body(package: &Path, rows: usize) -> String {
    let text = fs_err::read_to_string(package.join("golden.jsonl")).unwrap();
    let examples: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["input"].clone())
        .collect();
    json!({"instances": examples.iter().cycle().take(rows).collect::<Vec<_>>()}).to_string()
}

fn decode(c: &mut Criterion) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/churn/1.1.0");
    let parts = Parts::read(&package).unwrap();
    for rows in [1, 1000] {
        let text = body(&package, rows);
        let mut group = c.benchmark_group(format!("decode churn, {rows} instances"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function("predictd, validated", |b| {
            b.iter(|| decode_request(&parts.input, black_box(text.as_bytes()), &LIMITS).unwrap())
        });
        group.bench_function("serde_json, plain struct", |b| {
            b.iter(|| serde_json::from_str::<Request<'_>>(black_box(&text)).unwrap())
        });
        group.bench_function("sonic-rs, plain struct", |b| {
            b.iter(|| sonic_rs::from_str::<Request<'_>>(black_box(&text)).unwrap())
        });
        group.finish();
    }
    let package = package.join("../../digits-array/1.0.0");
    let parts = Parts::read(&package).unwrap();
    let text = body(&package, 1000);
    let mut group = c.benchmark_group("decode digits-array, 1000 instances");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("predictd, validated", |b| {
        b.iter(|| decode_request(&parts.input, black_box(text.as_bytes()), &LIMITS).unwrap())
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
