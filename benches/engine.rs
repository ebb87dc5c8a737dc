//! One run of the engine by number of rows, and the cost of joining and splitting batches.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench"
)]

use std::{hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use predictd::{
    decode::decode_instance,
    engine::{
        Engine,
        infer::{OnnxFactory, Runtime},
    },
    package::ModelPackage,
    registry::gate::OWN_LIMITS,
    tensor::{Tensors, join, split},
};

fn engine(c: &mut Criterion) {
    let runtime = Runtime::load(&predictd::app::find_library(Path::new("")).unwrap()).unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/churn/1.1.0");
    let package = ModelPackage::open(&directory).unwrap();
    let (_, mut engine) = OnnxFactory::open(&runtime, &package.model_path(), 1).unwrap();
    let transform = package.parts.bind(engine.signature()).unwrap();
    let examples: Vec<Tensors> = package
        .parts
        .golden
        .iter()
        .map(|example| {
            transform
                .prepare(
                    &decode_instance(&package.parts.input, example.input.as_bytes(), &OWN_LIMITS)
                        .unwrap(),
                )
                .unwrap()
        })
        .collect();
    for rows in [1, 8, 64, 1000] {
        let parts: Vec<&Tensors> = examples.iter().cycle().take(rows).collect();
        let batch = join(&parts).unwrap();
        let mut group = c.benchmark_group("engine churn 1.1.0");
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("run, {rows} rows"), |b| {
            b.iter(|| engine.run(black_box(&batch)).unwrap())
        });
        group.bench_function(format!("join and split, {rows} rows"), |b| {
            let counts = vec![1; rows];
            b.iter(|| split(join(black_box(&parts)).unwrap(), &counts).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, engine);
criterion_main!(benches);
