//! ONNX Runtime alone in a loop: the cost of the model without a server.
//!
//! usage: bench-raw run PACKAGE ROWS SECONDS      prints CPU microseconds per row, with the golden
//! examples as prepared tensors
//!        bench-raw load PACKAGE...               loads all packages, runs each once, prints
//!        resident KiB

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool for measuring"
)]

use std::{path::Path, time::Instant};

use predictd::{
    decode::decode_instance,
    engine::{
        Engine, EngineFactory,
        infer::{OnnxFactory, Runtime},
    },
    package::ModelPackage,
    registry::gate::{OWN_LIMITS, zeros},
    tensor::{Tensors, join},
};

#[expect(
    unsafe_code,
    reason = "an environment variable must be set before the first thread exists"
)]
fn main() {
    // SAFETY: the first statement of the process; no other thread exists that could read the
    // environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = Runtime::load(&predictd::app::find_library(Path::new("")).unwrap()).unwrap();
    match arguments.first().map(String::as_str) {
        Some("run") => run(
            &runtime,
            Path::new(&arguments[1]),
            arguments[2].parse().unwrap(),
            arguments[3].parse().unwrap(),
        ),
        _ => load(&runtime, &arguments[1..]),
    }
}

fn run(runtime: &Runtime, directory: &Path, rows: usize, seconds: f64) {
    let package = ModelPackage::open(directory).unwrap();
    let (factory, mut engine) = OnnxFactory::open(runtime, &package.model_path(), 1).unwrap();
    let transform = package.parts.bind(factory.signature()).unwrap();
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
    let batch = join(&examples.iter().cycle().take(rows).collect::<Vec<_>>()).unwrap();
    for _ in 0..20 {
        engine.run(&batch).unwrap();
    }
    let start = Instant::now();
    let mut runs = 0u32;
    let mut shortest = f64::INFINITY;
    while start.elapsed().as_secs_f64() < seconds {
        let before = Instant::now();
        std::hint::black_box(engine.run(&batch).unwrap());
        shortest = shortest.min(before.elapsed().as_secs_f64());
        runs += 1;
    }
    let mean = start.elapsed().as_secs_f64() / f64::from(runs);
    println!(
        "{{\"rows\": {rows}, \"run_us\": {:.3}, \"shortest_run_us\": {:.3}, \"row_us\": {:.4}}}",
        mean * 1e6,
        shortest * 1e6,
        mean * 1e6 / rows as f64
    );
}

fn load(runtime: &Runtime, packages: &[String]) {
    let mut engines = Vec::new();
    for package in packages {
        let (factory, mut engine) =
            OnnxFactory::open(runtime, &Path::new(package).join("model.onnx"), 1).unwrap();
        let _ = engine.run(&zeros(factory.signature()));
        engines.push(engine);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    println!("{}", line.split_whitespace().nth(1).unwrap());
}
