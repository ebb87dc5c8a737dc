//! Preprocessing from columns to tensors.

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
    engine::{
        EngineFactory,
        infer::{OnnxFactory, Runtime},
    },
    package::ModelPackage,
};
use serde_json::{Value, json};

const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 65_536,
    max_depth: 64,
    max_array_values: 64 << 20,
};

fn preprocess(c: &mut Criterion) {
    let runtime = Runtime::load(&predictd::app::find_library(Path::new("")).unwrap()).unwrap();
    for (model, rows) in [
        ("churn/1.1.0", 1),
        ("churn/1.1.0", 1000),
        ("digits/1.0.0", 1),
        ("churn-pipeline/1.1.0", 1000),
    ] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("models")
            .join(model);
        let package = ModelPackage::open(&directory).unwrap();
        let (factory, _) = OnnxFactory::open(&runtime, &package.model_path(), 1).unwrap();
        let transform = package.parts.bind(factory.signature()).unwrap();
        let examples: Vec<Value> = package
            .parts
            .golden
            .iter()
            .map(|example| serde_json::from_str(&example.input).unwrap())
            .collect();
        let body = json!({"instances": examples.iter().cycle().take(rows).collect::<Vec<_>>()})
            .to_string();
        let columns = decode_request(&package.parts.input, body.as_bytes(), &LIMITS)
            .unwrap()
            .columns;
        let mut group = c.benchmark_group("preprocess");
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("{model}, {rows} rows"), |b| {
            b.iter(|| transform.prepare(black_box(&columns)).unwrap())
        });
        group.finish();
    }
}

criterion_group!(benches, preprocess);
criterion_main!(benches);
