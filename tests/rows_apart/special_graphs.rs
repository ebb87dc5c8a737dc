//! Graphs for which the analysis could easily claim too much or too little.

use predictd::{
    app::find_library,
    engine::infer::{OnnxFactory, Runtime},
    graph::{model::Model, row_dimension::trace_rows, wire::put_bytes},
};

use crate::{
    WIDTH,
    builder::{Attr, Builder, finished_model, node, value},
    dependence,
    random::Random,
};

/// The result of the analysis.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// The rows are independent.
    Independent,
    /// Nothing is proved. The author of the package may declare that the rows are independent.
    Unknown,
    /// The rows depend on each other, whatever the author declares.
    Mixed,
}

type Case = (&'static str, Verdict, u64, fn(&mut Builder) -> String);

/// Name, verdict, opset version, and the function that builds the graph.
const CASES: &[Case] = &[
    (
        "pooling of separate channels",
        Verdict::Independent,
        18,
        pooled_channels,
    ),
    ("a scan without state", Verdict::Unknown, 18, stateless_scan),
    (
        "a branch by the number of rows",
        Verdict::Unknown,
        18,
        branch_by_row_count,
    ),
    ("a branch by values", Verdict::Mixed, 18, branch_by_values),
    (
        "a mask of two dimensions",
        Verdict::Unknown,
        23,
        two_dimensional_mask,
    ),
    (
        "a split into computed sizes",
        Verdict::Unknown,
        18,
        parts_of_computed_sizes,
    ),
    (
        "a resize that keeps the ratio",
        Verdict::Unknown,
        18,
        resize_with_one_scale,
    ),
    (
        "random numbers in a loop over constants",
        Verdict::Unknown,
        18,
        random_loop,
    ),
    (
        "random dropout of a constant",
        Verdict::Unknown,
        18,
        random_dropout,
    ),
    (
        "normalisation by the root mean square of a row",
        Verdict::Independent,
        18,
        root_mean_square_norm,
    ),
];

/// The body of a scan: one node.
fn scan_body(op: &str, inputs: &[&str], taken: &[Vec<u8>], given: &[&str]) -> Vec<u8> {
    let mut graph = Vec::new();
    let outputs: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
    put_bytes(
        1,
        &node(op, inputs, &outputs[outputs.len() - 1..], &[]),
        &mut graph,
    );
    put_bytes(2, b"body", &mut graph);
    taken
        .iter()
        .for_each(|input| put_bytes(11, input, &mut graph));
    given
        .iter()
        .for_each(|name| put_bytes(12, &value(name, &[Some(WIDTH as i64)]), &mut graph));
    graph
}

fn pooled_channels(b: &mut Builder) -> String {
    let axes = b.ints(&[0]);
    let signals = b.one("Unsqueeze", &["x", &axes], &[]);
    let pooled = b.one(
        "AveragePool",
        &[&signals],
        &[
            Attr::Ints("kernel_shape", &[3]),
            Attr::Ints("pads", &[1, 1]),
        ],
    );
    b.one("Squeeze", &[&pooled, &axes], &[])
}

fn stateless_scan(b: &mut Builder) -> String {
    let taken = value("taken", &[Some(WIDTH as i64)]);
    let body = scan_body("Neg", &["taken"], &[taken], &["scanned"]);
    b.one(
        "Scan",
        &["x"],
        &[Attr::Graph("body", body), Attr::Int("num_scan_inputs", 1)],
    )
}

fn branch_by_row_count(b: &mut Builder) -> String {
    let (rows, one) = (b.rows("x"), b.scalar(1));
    let alone = b.one("Equal", &[&rows, &one], &[]);
    b.branch("x", &alone)
}

fn branch_by_values(b: &mut Builder) -> String {
    let (most, nought) = (
        b.one("ReduceMax", &["x"], &[Attr::Int("keepdims", 0)]),
        b.whole_real(0.0),
    );
    let positive = b.one("Greater", &[&most, &nought], &[]);
    b.branch("x", &positive)
}

fn two_dimensional_mask(b: &mut Builder) -> String {
    let axes = b.ints(&[1]);
    let steps = b.one("Unsqueeze", &["x", &axes], &[]);
    let heads = [Attr::Int("q_num_heads", 1), Attr::Int("kv_num_heads", 1)];
    let attended = b.one("Attention", &[&steps, &steps, &steps, "x"], &heads);
    b.one("Squeeze", &[&attended, &axes], &[])
}

fn parts_of_computed_sizes(b: &mut Builder) -> String {
    let (three, one) = (b.whole_real(3.0), b.ints(&[1]));
    let (first, rest) = (b.one("Reshape", &[&three, &one], &[]), b.whole_real(1.0));
    let rest = b.one("Reshape", &[&rest, &one], &[]);
    let sizes = b.one("Concat", &[&first, &rest], &[Attr::Int("axis", 0)]);
    let sizes = b.one("Cast", &[&sizes], &[Attr::Int("to", 7)]);
    let parts = b.many("Split", &["x", &sizes], 2, &[Attr::Int("axis", 1)]);
    let shape = b.ints(&[-1, 2]);
    b.one("Reshape", &[&parts[0], &shape], &[])
}

fn resize_with_one_scale(b: &mut Builder) -> String {
    let shape = b.one("Shape", &["x"], &[]);
    let (start, end, wide) = (b.ints(&[0]), b.ints(&[1]), b.ints(&[8]));
    let rows = b.one("Slice", &[&shape, &start, &end], &[]);
    let sizes = b.one("Concat", &[&rows, &wide], &[Attr::Int("axis", 0)]);
    b.one(
        "Resize",
        &["x", "", "", &sizes],
        &[Attr::Text("keep_aspect_ratio_policy", "not_larger")],
    )
}

fn random_loop(b: &mut Builder) -> String {
    let mut inner = Vec::new();
    let shape = [Attr::Ints("shape", &[WIDTH as i64])];
    put_bytes(
        1,
        &node("RandomNormal", &[], &["drawn".to_owned()], &shape),
        &mut inner,
    );
    put_bytes(
        1,
        &node("Identity", &["go"], &["on".to_owned()], &[]),
        &mut inner,
    );
    let trips = b.scalar(1);
    let start = b.reals(&[WIDTH as i64], &mut Random(1));
    let drawn = b.one("Loop", &[&trips, "", &start], &[Attr::Graph("body", inner)]);
    b.one("Add", &["x", &drawn], &[])
}

fn random_dropout(b: &mut Builder) -> String {
    let (start, ratio, one) = (
        b.reals(&[WIDTH as i64], &mut Random(1)),
        b.whole_real(0.5),
        b.scalar(1),
    );
    let training = b.one("Cast", &[&one], &[Attr::Int("to", 9)]);
    let dropped = b.one("Dropout", &[&start, &ratio, &training], &[]);
    b.one("Add", &["x", &dropped], &[])
}

fn root_mean_square_norm(b: &mut Builder) -> String {
    let scale = b.reals(&[WIDTH as i64], &mut Random(1));
    b.one(
        "SimplifiedLayerNormalization",
        &["x", &scale],
        &[Attr::Int("axis", -1)],
    )
}

#[test]
fn the_analysis_of_special_graphs_is_exact() {
    let runtime = Runtime::load(&find_library("".as_ref()).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (name, verdict, opset, build) in CASES {
        let mut builder = Builder::default();
        let y = build(&mut builder);
        let bytes = finished_model(builder, &y, *opset);
        let report = trace_rows(&Model::read(&bytes).unwrap(), &[]);
        let found = match (report.batching_objection(), report.proof_of_mixing()) {
            (None, _) => Verdict::Independent,
            (Some(_), None) => Verdict::Unknown,
            (Some(_), Some(_)) => Verdict::Mixed,
        };
        assert_eq!(found, *verdict, "{name}: {:?}", report.batching_objection());
        assert_eq!(report.time_steps(), None, "{name}");
        if name.contains("random") {
            assert!(
                report
                    .batching_objection()
                    .unwrap()
                    .contains("draws random numbers"),
                "{:?}",
                report.batching_objection()
            );
        }
        if *verdict == Verdict::Independent {
            let path = directory.path().join("model.onnx");
            fs_err::write(&path, &bytes).unwrap();
            let (_, mut engine) = OnnxFactory::open(&runtime, &path, 1).unwrap();
            assert_eq!(dependence(&mut engine, &mut Random(1)), None, "{name}");
        }
    }
}
