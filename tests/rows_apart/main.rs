//! No answer depends on other rows: random small graphs of common operators, in some of which rows
//! are mixed. If the analysis says that the rows of a graph are independent, ONNX Runtime must
//! answer each row next to hostile rows as it does alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic: that is how it fails"
)]

mod builder;
mod operators;
#[path = "../support/random.rs"]
mod random;
mod special_graphs;

use std::sync::Arc;

use predictd::{
    app::find_library,
    engine::{
        Engine,
        infer::{OnnxEngine, OnnxFactory, Runtime},
    },
    graph::{model::Model, row_dimension::trace_rows},
    tensor::{Data, Tensor, Tensors, join, split},
};

use builder::{Builder, finished_model};
use random::Random;

const GRAPHS: u64 = 1_500;
const WIDTH: usize = 4;

/// A number between -2 and 2.
fn real(random: &mut Random) -> f32 {
    (random.next() % 2001) as f32 / 500.0 - 2.0
}

fn model(random: &mut Random) -> Vec<u8> {
    let mut builder = Builder::default();
    let (mut x, mut before) = ("x".to_owned(), "x".to_owned());
    for _ in 0..1 + random.below(5) {
        let next = builder.step(&x, &before, random);
        before = std::mem::replace(&mut x, next);
    }
    finished_model(builder, &x, 18)
}

fn row(values: [f32; WIDTH]) -> Tensors {
    Tensors(vec![(
        Arc::from("x"),
        Tensor::new(vec![1, WIDTH], Data::Fp32(values.to_vec().into())).unwrap(),
    )])
}

fn numbers(tensors: &Tensors) -> Vec<f32> {
    let Data::Fp32(values) = tensors.0[0].1.data() else {
        panic!("floats")
    };
    values.to_vec()
}

/// The rows of a run, and for each row the index of the single row with the expected answer. `None`
/// for a hostile row.
type Batch = (Vec<[f32; WIDTH]>, Vec<Option<usize>>);

/// The difference if a row is answered otherwise next to other rows than alone.
fn dependence(engine: &mut OnnxEngine, random: &mut Random) -> Option<String> {
    let rows: Vec<[f32; WIDTH]> = (0..4)
        .map(|_| std::array::from_fn(|_| real(random)))
        .collect();
    let hostile: Vec<[f32; WIDTH]> = vec![
        rows[0].map(|x| x * 1e4),
        rows[1].map(|x| -x),
        [0.0; WIDTH],
        [f32::NAN; WIDTH],
        [f32::INFINITY; WIDTH],
        [f32::NEG_INFINITY; WIDTH],
    ];
    let alone: Vec<Result<Tensors, _>> = rows
        .iter()
        .map(|values| engine.run(&row(*values)))
        .collect();
    let mut batches: Vec<Batch> = vec![
        (rows.clone(), (0..4).map(Some).collect()),
        (
            rows.iter().rev().copied().collect(),
            (0..4).rev().map(Some).collect(),
        ),
        (vec![rows[2], rows[0]], vec![Some(2), Some(0)]),
    ];
    // A dependence may show at one number of rows only.
    for size in 2..=9 {
        batches.push((
            (0..size).map(|index| rows[index % 4]).collect(),
            (0..size).map(|index| Some(index % 4)).collect(),
        ));
    }
    for bad in hostile {
        batches.push((
            vec![bad, rows[0], rows[3], bad, rows[1]],
            vec![None, Some(0), Some(3), None, Some(1)],
        ));
    }
    for (members, expected) in batches {
        let members: Vec<Tensors> = members.into_iter().map(row).collect();
        let outputs = match engine.run(&join(&members.iter().collect::<Vec<_>>()).unwrap()) {
            Ok(outputs) => outputs,
            Err(error) => return alone.iter().all(Result::is_ok).then(|| error.to_string()),
        };
        let Some(parts) = split(outputs, &vec![1; members.len()]) else {
            return Some("the output has another number of rows".to_owned());
        };
        for (part, expected) in parts.iter().zip(expected) {
            let Some(Ok(expected)) = expected.map(|at| alone[at].as_ref()) else {
                continue;
            };
            let (expected, got) = (numbers(expected), numbers(part));
            let scale = expected
                .iter()
                .filter(|x| x.is_finite())
                .fold(1.0f32, |scale, x| scale.max(x.abs()));
            let same = |a: f32, b: f32| {
                a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-4 * scale
            };
            if expected.len() != got.len() || !expected.iter().zip(&got).all(|(a, b)| same(*a, *b))
            {
                return Some(format!("{expected:?} alone, {got:?} next to others"));
            }
        }
    }
    None
}

#[test]
fn no_answer_depends_on_other_rows() {
    let runtime = Runtime::load(&find_library("".as_ref()).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (mut independent, mut mixed, mut needless, mut invalid) = (0, 0, 0, 0);
    for seed in 0..GRAPHS {
        let mut random = Random(seed);
        let bytes = model(&mut random);
        let report = trace_rows(&Model::read(&bytes).unwrap(), &[]);
        let path = directory.path().join("model.onnx");
        fs_err::write(&path, &bytes).unwrap();
        let Ok((_, mut engine)) = OnnxFactory::open(&runtime, &path, 1) else {
            invalid += 1;
            continue;
        };
        let found = dependence(&mut engine, &mut random);
        match (report.batching_objection(), found) {
            (None, Some(found)) => panic!(
                "the analysis says that the rows of graph {seed} are independent, but {found}"
            ),
            (None, None) => independent += 1,
            (Some(_), Some(_)) => mixed += 1,
            (Some(objection), None) => {
                needless += 1;
                println!(
                    "graph {seed} is not batched although its rows seem to be independent: {objection}"
                );
            }
        }
    }
    let share = 100.0 * f64::from(needless) / f64::from(independent + needless);
    println!(
        "{independent} graphs have independent rows and are batched, {mixed} mix rows, {invalid} are invalid"
    );
    println!("{needless} are not batched although they could be: {share:.1} % of those that could");
    assert!(independent > 100 && mixed > 100, "{independent} {mixed}");
    assert!(invalid * 20 < GRAPHS, "{invalid} graphs don't load");
}
