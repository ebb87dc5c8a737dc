//! No answer depends on its neighbours: random small graphs of the operators that people use, rows mixed in some of them. Where the
//! analysis says that a graph keeps rows apart, ONNX Runtime must answer each row beside hostile others as it does alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic: that is how it fails"
)]

use std::sync::Arc;

use predictd::{
    app::find_library,
    config::Config,
    engine::{
        Engine,
        infer::{OnnxEngine, OnnxFactory, Runtime},
    },
    graph::{
        model::Model,
        row_dimension::trace_rows,
        wire::{put_bytes, put_varint},
    },
    tensor::{Data, Tensor, Tensors, join, split},
};

const GRAPHS: u64 = 1_500;
const WIDTH: usize = 4;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> usize {
        (self.next() % limit) as usize
    }

    fn real(&mut self) -> f32 {
        (self.next() % 2001) as f32 / 500.0 - 2.0
    }
}

/// An attribute of a node.
enum Attr<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Text(&'a str, &'a str),
    Graph(&'a str, Vec<u8>),
}

#[derive(Default)]
struct Builder {
    nodes: Vec<u8>,
    constants: Vec<u8>,
    count: usize,
}

fn tensor(name: &str, dims: &[i64], kind: u64, raw: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    dims.iter()
        .for_each(|dim| put_varint(1, *dim as u64, &mut tensor));
    put_varint(2, kind, &mut tensor);
    put_bytes(8, name.as_bytes(), &mut tensor);
    put_bytes(9, raw, &mut tensor);
    tensor
}

fn node(op: &str, inputs: &[&str], outputs: &[String], attributes: &[Attr<'_>]) -> Vec<u8> {
    let mut node = Vec::new();
    inputs
        .iter()
        .for_each(|name| put_bytes(1, name.as_bytes(), &mut node));
    outputs
        .iter()
        .for_each(|name| put_bytes(2, name.as_bytes(), &mut node));
    put_bytes(4, op.as_bytes(), &mut node);
    for attribute in attributes {
        let mut bytes = Vec::new();
        match attribute {
            Attr::Int(name, value) => {
                put_bytes(1, name.as_bytes(), &mut bytes);
                put_varint(3, *value as u64, &mut bytes);
                put_varint(20, 2, &mut bytes);
            }
            Attr::Ints(name, values) => {
                put_bytes(1, name.as_bytes(), &mut bytes);
                values
                    .iter()
                    .for_each(|value| put_varint(8, *value as u64, &mut bytes));
                put_varint(20, 7, &mut bytes);
            }
            Attr::Text(name, value) => {
                put_bytes(1, name.as_bytes(), &mut bytes);
                put_bytes(4, value.as_bytes(), &mut bytes);
                put_varint(20, 3, &mut bytes);
            }
            Attr::Graph(name, graph) => {
                put_bytes(1, name.as_bytes(), &mut bytes);
                put_bytes(6, graph, &mut bytes);
                put_varint(20, 5, &mut bytes);
            }
        }
        put_bytes(5, &bytes, &mut node);
    }
    node
}

fn value(name: &str, dims: &[Option<i64>]) -> Vec<u8> {
    let mut shape = Vec::new();
    for dim in dims {
        let mut bytes = Vec::new();
        match dim {
            Some(size) => put_varint(1, *size as u64, &mut bytes),
            None => put_bytes(2, b"batch", &mut bytes),
        }
        put_bytes(1, &bytes, &mut shape);
    }
    let mut kind = Vec::new();
    put_varint(1, 1, &mut kind);
    put_bytes(2, &shape, &mut kind);
    let mut outer = Vec::new();
    put_bytes(1, &kind, &mut outer);
    let mut info = Vec::new();
    put_bytes(1, name.as_bytes(), &mut info);
    put_bytes(2, &outer, &mut info);
    info
}

impl Builder {
    fn name(&mut self) -> String {
        self.count += 1;
        format!("v{}", self.count)
    }

    fn many(
        &mut self,
        op: &str,
        inputs: &[&str],
        count: usize,
        attributes: &[Attr<'_>],
    ) -> Vec<String> {
        let outputs: Vec<String> = (0..count).map(|_| self.name()).collect();
        put_bytes(1, &node(op, inputs, &outputs, attributes), &mut self.nodes);
        outputs
    }

    fn one(&mut self, op: &str, inputs: &[&str], attributes: &[Attr<'_>]) -> String {
        self.many(op, inputs, 1, attributes).remove(0)
    }

    fn reals(&mut self, dims: &[i64], random: &mut Random) -> String {
        let name = self.name();
        let raw: Vec<u8> = (0..dims.iter().product::<i64>())
            .flat_map(|_| random.real().to_le_bytes())
            .collect();
        put_bytes(5, &tensor(&name, dims, 1, &raw), &mut self.constants);
        name
    }

    fn ints(&mut self, list: &[i64]) -> String {
        let name = self.name();
        let raw: Vec<u8> = list.iter().flat_map(|x| x.to_le_bytes()).collect();
        put_bytes(
            5,
            &tensor(&name, &[list.len() as i64], 7, &raw),
            &mut self.constants,
        );
        name
    }

    fn scalar(&mut self, value: i64) -> String {
        let name = self.name();
        put_bytes(
            5,
            &tensor(&name, &[], 7, &value.to_le_bytes()),
            &mut self.constants,
        );
        name
    }

    fn whole_real(&mut self, value: f32) -> String {
        let name = self.name();
        put_bytes(
            5,
            &tensor(&name, &[], 1, &value.to_le_bytes()),
            &mut self.constants,
        );
        name
    }

    /// The number of rows, a scalar.
    fn rows(&mut self, x: &str) -> String {
        let (shape, first) = (self.one("Shape", &[x], &[]), self.scalar(0));
        self.one("Gather", &[&shape, &first], &[Attr::Int("axis", 0)])
    }

    fn times(&mut self, x: &str, whole: &str) -> String {
        let real = self.one("Cast", &[whole], &[Attr::Int("to", 1)]);
        self.one("Mul", &[x, &real], &[])
    }

    /// `x` as it is not below 0, or of the other sign.
    fn branch(&mut self, x: &str, condition: &str) -> String {
        let branch = |op: &str, name: &str| {
            let mut graph = Vec::new();
            put_bytes(1, &node(op, &[x], &[name.to_owned()], &[]), &mut graph);
            put_bytes(2, name.as_bytes(), &mut graph);
            put_bytes(12, &value(name, &[None, Some(WIDTH as i64)]), &mut graph);
            graph
        };
        let (yes, no) = (self.name(), self.name());
        let branches = [
            Attr::Graph("then_branch", branch("Relu", &yes)),
            Attr::Graph("else_branch", branch("Neg", &no)),
        ];
        self.one("If", &[condition], &branches)
    }

    /// A call of one of the model's own functions.
    fn call(&mut self, function: &str, x: &str, attributes: &[Attr<'_>]) -> String {
        let output = self.name();
        let mut call = node(function, &[x], std::slice::from_ref(&output), attributes);
        put_bytes(7, b"test", &mut call);
        put_bytes(1, &call, &mut self.nodes);
        output
    }

    /// One step from [rows, 4] to [rows, 4].
    fn step(&mut self, x: &str, other: &str, random: &mut Random) -> String {
        let w = WIDTH as i64;
        match random.below(58) {
            0 => self.one("Relu", &[x], &[]),
            1 => self.one("Sigmoid", &[x], &[]),
            2 => {
                let c = self.reals(&[w], random);
                self.one("Add", &[x, &c], &[])
            }
            3 => self.one("Mul", &[x, other], &[]),
            4 => {
                let c = self.reals(&[w, w], random);
                self.one("MatMul", &[x, &c], &[])
            }
            5 => {
                let (b, c) = (self.reals(&[w, w], random), self.reals(&[w], random));
                self.one("Gemm", &[x, &b, &c], &[Attr::Int("transB", 1)])
            }
            6 => self.one("Softmax", &[x], &[Attr::Int("axis", -1)]),
            7 => {
                let axes = self.ints(&[1]);
                let mean = self.one("ReduceMean", &[x, &axes], &[Attr::Int("keepdims", 1)]);
                self.one("Sub", &[x, &mean], &[])
            }
            8 => {
                let scale = self.reals(&[w], random);
                self.one("LayerNormalization", &[x, &scale], &[Attr::Int("axis", -1)])
            }
            9 => {
                let turned = self.one("Transpose", &[x], &[Attr::Ints("perm", &[1, 0])]);
                let c = self.reals(&[w, 1], random);
                let scaled = self.one("Mul", &[&turned, &c], &[]);
                self.one("Transpose", &[&scaled], &[])
            }
            10 => {
                let (a, b) = (self.ints(&[0, 2, 2]), self.ints(&[-1, w]));
                let wide = self.one("Reshape", &[x, &a], &[]);
                let soft = self.one("Softmax", &[&wide], &[Attr::Int("axis", 2)]);
                self.one("Reshape", &[&soft, &b], &[])
            }
            11 => {
                // Two rows of two in the place of one of four, and back.
                let (a, b) = (self.ints(&[-1, 2]), self.ints(&[-1, w]));
                let halves = self.one("Reshape", &[x, &a], &[]);
                let soft = self.one("Softmax", &[&halves], &[Attr::Int("axis", 1)]);
                self.one("Reshape", &[&soft, &b], &[])
            }
            12 => {
                let parts = self.many(
                    "Split",
                    &[x],
                    2,
                    &[Attr::Int("axis", 1), Attr::Int("num_outputs", 2)],
                );
                self.one("Concat", &[&parts[1], &parts[0]], &[Attr::Int("axis", 1)])
            }
            13 => {
                let order = self.ints(&[3, 1, 2, 0]);
                self.one("Gather", &[x, &order], &[Attr::Int("axis", 1)])
            }
            14 => {
                let axis = self.scalar(1);
                self.one("CumSum", &[x, &axis], &[])
            }
            15 => {
                let k = self.ints(&[w]);
                self.many("TopK", &[x, &k], 2, &[Attr::Int("axis", -1)])
                    .remove(0)
            }
            16 => {
                let (shape, c) = (self.one("Shape", &[x], &[]), self.reals(&[1, w], random));
                let each = self.one("Expand", &[&c, &shape], &[]);
                self.one("Add", &[x, &each], &[])
            }
            17 => {
                let more = self.one("Greater", &[x, other], &[]);
                self.one("Where", &[&more, x, other], &[])
            }
            18 => {
                let flat = self.one("Flatten", &[x], &[Attr::Int("axis", 1)]);
                self.one("Tanh", &[&flat], &[])
            }
            19 => {
                let axes = self.ints(&[1]);
                let (channel, weights) = (
                    self.one("Unsqueeze", &[x, &axes], &[]),
                    self.reals(&[1, 1, 3], random),
                );
                let conv = self.one(
                    "Conv",
                    &[&channel, &weights],
                    &[Attr::Ints("pads", &[1, 1])],
                );
                self.one("Squeeze", &[&conv, &axes], &[])
            }
            20 => {
                let (starts, ends, axes) = (self.ints(&[1]), self.ints(&[3]), self.ints(&[1]));
                let middle = self.one("Slice", &[x, &starts, &ends, &axes], &[]);
                let pads = self.ints(&[0, 1, 0, 1]);
                self.one("Pad", &[&middle, &pads], &[])
            }
            21 => {
                let axes = self.ints(&[1]);
                let best = self.one(
                    "ArgMax",
                    &[x],
                    &[Attr::Int("axis", 1), Attr::Int("keepdims", 0)],
                );
                let table = self.reals(&[w, w], random);
                let rows = self.one("Gather", &[&table, &best], &[Attr::Int("axis", 0)]);
                let wide = self.one("Unsqueeze", &[&rows, &axes], &[]);
                self.one("ReduceSum", &[&wide, &axes], &[Attr::Int("keepdims", 0)])
            }
            22 => {
                let (a, axes) = (self.one("Size", &[x], &[]), self.ints(&[0]));
                let shape = self.one("Shape", &[x], &[]);
                let rows = self.one("Gather", &[&shape, &axes], &[]);
                let width = self.ints(&[w]);
                let both = self.one("Concat", &[&rows, &width], &[Attr::Int("axis", 0)]);
                let _ = a;
                self.one("Reshape", &[x, &both], &[])
            }
            23 => {
                let (weights, recurrent) = (
                    self.reals(&[1, w, w], random),
                    self.reals(&[1, w, w], random),
                );
                let axes = self.ints(&[0]);
                // One step of time, the rows as examples.
                let steps = self.one("Unsqueeze", &[x, &axes], &[]);
                let all = self.many(
                    "RNN",
                    &[&steps, &weights, &recurrent],
                    2,
                    &[Attr::Int("hidden_size", w)],
                );
                self.one("Squeeze", &[&all[1], &axes], &[])
            }
            24 => self.one(
                "Einsum",
                &[x, other],
                &[Attr::Text("equation", "bi,bi->bi")],
            ),
            25 => {
                let c = self.reals(&[w, w], random);
                self.one("Einsum", &[x, &c], &[Attr::Text("equation", "bi,ij->bj")])
            }
            // From here on rows meet.
            26 => {
                let axes = self.ints(&[0]);
                let mean = self.one("ReduceMean", &[x, &axes], &[Attr::Int("keepdims", 1)]);
                self.one("Sub", &[x, &mean], &[])
            }
            27 => self.one("Softmax", &[x], &[Attr::Int("axis", 0)]),
            28 => {
                let axis = self.scalar(0);
                self.one("CumSum", &[x, &axis], &[])
            }
            29 => {
                let parts = self.many("DynamicQuantizeLinear", &[x], 3, &[]);
                self.one("DequantizeLinear", &[&parts[0], &parts[1], &parts[2]], &[])
            }
            30 => {
                let turned = self.one("Transpose", &[x], &[]);
                let square = self.one("MatMul", &[&turned, x], &[]);
                self.one("MatMul", &[x, &square], &[])
            }
            31 => {
                let all = self.one("ReduceMax", &[x], &[Attr::Int("keepdims", 0)]);
                self.one("Sub", &[x, &all], &[])
            }
            32 => {
                let size = self.one("Size", &[x], &[]);
                let real = self.one("Cast", &[&size], &[Attr::Int("to", 1)]);
                self.one("Div", &[x, &real], &[])
            }
            33 => {
                let (starts, ends, axes, steps) = (
                    self.ints(&[-1]),
                    self.ints(&[i64::MIN]),
                    self.ints(&[0]),
                    self.ints(&[-1]),
                );
                self.one("Slice", &[x, &starts, &ends, &axes, &steps], &[])
            }
            34 => {
                let first = self.ints(&[0]);
                let row = self.one("Gather", &[x, &first], &[Attr::Int("axis", 0)]);
                self.one("Add", &[x, &row], &[])
            }
            35 => {
                // The batch scrambled: columns become rows.
                let (shape, turned) = (
                    self.one("Shape", &[x], &[]),
                    self.one("Transpose", &[x], &[]),
                );
                self.one("Reshape", &[&turned, &shape], &[])
            }
            36 => {
                let (weights, recurrent) = (
                    self.reals(&[1, w, w], random),
                    self.reals(&[1, w, w], random),
                );
                let axes = self.ints(&[1]);
                // The rows as steps of time.
                let steps = self.one("Unsqueeze", &[x, &axes], &[]);
                let all = self.many(
                    "RNN",
                    &[&steps, &weights, &recurrent],
                    2,
                    &[Attr::Int("hidden_size", w)],
                );
                let both = self.ints(&[1, 2]);
                self.one("Squeeze", &[&all[0], &both], &[])
            }
            37 => {
                let zero = self.reals(&[], random);
                let most = self.one("ReduceMax", &[x], &[Attr::Int("keepdims", 0)]);
                let more = self.one("Greater", &[&most, &zero], &[]);
                self.branch(x, &more)
            }
            38 => {
                let turned = self.one("Transpose", &[other], &[]);
                let scores = self.one("MatMul", &[x, &turned], &[]);
                let soft = self.one("Softmax", &[&scores], &[Attr::Int("axis", 1)]);
                self.one("MatMul", &[&soft, x], &[])
            }
            39 => {
                let (a, b) = (self.ints(&[1, 1, -1, w]), self.ints(&[-1, w]));
                let picture = self.one("Reshape", &[x, &a], &[]);
                let weights = self.reals(&[1, 1, 3, 1], random);
                let conv = self.one(
                    "Conv",
                    &[&picture, &weights],
                    &[Attr::Ints("pads", &[1, 0, 1, 0])],
                );
                self.one("Reshape", &[&conv, &b], &[])
            }
            40 => {
                let axes = self.ints(&[0, 1]);
                let norm = self.one("ReduceL2", &[x, &axes], &[Attr::Int("keepdims", 1)]);
                self.one("Add", &[x, &norm], &[])
            }
            41 => {
                let axes = self.ints(&[1]);
                let largest = self.one("ReduceMax", &[x, &axes], &[Attr::Int("keepdims", 1)]);
                self.one("Sub", &[x, &largest], &[])
            }
            42 => self.one(
                "Einsum",
                &[x, other],
                &[Attr::Text("equation", "bi,bj->ij")],
            ),
            43 => {
                let k = self.ints(&[1]);
                let best = self
                    .many("TopK", &[x, &k], 2, &[Attr::Int("axis", 0)])
                    .remove(0);
                self.one("Sub", &[x, &best], &[])
            }
            44 => {
                let (twice, starts, axes) = (
                    self.one("Concat", &[x, x], &[Attr::Int("axis", 0)]),
                    self.ints(&[1]),
                    self.ints(&[0]),
                );
                let shape = self.one("Shape", &[x], &[Attr::Int("end", 1)]);
                let ends = self.one("Add", &[&shape, &starts], &[]);
                self.one("Slice", &[&twice, &starts, &ends, &axes], &[])
            }
            45 => {
                // The number of rows, in every disguise.
                let (n, one) = (
                    self.one("Shape", &[x], &[Attr::Int("end", 1)]),
                    self.ints(&[1, 1]),
                );
                let n = self.one("Reshape", &[&n, &one], &[]);
                self.times(x, &n)
            }
            46 => {
                let (n, once) = (
                    self.one("Shape", &[x], &[Attr::Int("end", 1)]),
                    self.ints(&[1]),
                );
                let n = self.one("Tile", &[&n, &once], &[]);
                self.times(x, &n)
            }
            47 => {
                let (shape, first) = (self.one("Shape", &[x], &[]), self.ints(&[0]));
                let n = self.one("GatherND", &[&shape, &first], &[]);
                self.times(x, &n)
            }
            48 => {
                let (n, one) = (
                    self.one("Shape", &[x], &[Attr::Int("end", 1)]),
                    self.ints(&[1]),
                );
                let n = self.one("Max", &[&one, &one, &n], &[]);
                self.times(x, &n)
            }
            49 => {
                let (n, axes) = (self.rows(x), self.ints(&[0, 1]));
                let n = self.one("Unsqueeze", &[&n, &axes], &[]);
                self.times(x, &n)
            }
            50 => {
                let n = self.rows(x);
                let same = self.one("Equal", &[&n, &n], &[]);
                let n = self.one("Where", &[&same, &n, &n], &[]);
                self.times(x, &n)
            }
            51 => {
                // As floating-point numbers sizes divide otherwise.
                let (n, shape) = (self.rows(x), self.ints(&[-1, w]));
                let real = self.one("Cast", &[&n], &[Attr::Int("to", 1)]);
                let (three, two) = (self.whole_real(3.0), self.whole_real(2.0));
                let more = self.one("Mul", &[&real, &three], &[]);
                let half = self.one("Div", &[&more, &two], &[]);
                let count = self.one("Cast", &[&half], &[Attr::Int("to", 7)]);
                let (axes, rest) = (self.ints(&[0]), self.ints(&[-1]));
                let count = self.one("Unsqueeze", &[&count, &axes], &[]);
                let target = self.one("Concat", &[&count, &rest], &[Attr::Int("axis", 0)]);
                let odd = self.one("Reshape", &[x, &target], &[]);
                let soft = self.one("Softmax", &[&odd], &[Attr::Int("axis", 1)]);
                self.one("Reshape", &[&soft, &shape], &[])
            }
            52 => {
                let (n, four) = (self.rows(x), self.scalar(4));
                let is_four = self.one("Equal", &[&n, &four], &[]);
                self.branch(x, &is_four)
            }
            53 => self.call("F", x, &[]),
            54 => self.call("F", x, &[Attr::Int("axis", 1)]),
            55 => {
                let (n, minus) = (
                    self.one("Shape", &[x], &[Attr::Int("end", 1)]),
                    self.one("Shape", &[x], &[Attr::Int("start", 1)]),
                );
                let n = self.one("Neg", &[&n], &[]);
                let n = self.one("Abs", &[&n], &[]);
                let target = self.one("Concat", &[&n, &minus], &[Attr::Int("axis", 0)]);
                self.one("Reshape", &[x, &target], &[])
            }
            56 => {
                let (zero, one) = (self.scalar(0), self.scalar(1));
                let n = self.rows(x);
                let count = self.one("Range", &[&zero, &n, &one], &[]);
                let (real, axes) = (
                    self.one("Cast", &[&count], &[Attr::Int("to", 1)]),
                    self.ints(&[1]),
                );
                let column = self.one("Unsqueeze", &[&real, &axes], &[]);
                self.one("Add", &[x, &column], &[])
            }
            _ => {
                let (a, b) = (self.ints(&[0, 2, 2]), self.ints(&[0, -1]));
                let wide = self.one("Reshape", &[x, &a], &[]);
                let turned = self.one("Transpose", &[&wide], &[Attr::Ints("perm", &[0, 2, 1])]);
                let product = self.one("MatMul", &[&wide, &turned], &[]);
                self.one("Reshape", &[&product, &b], &[])
            }
        }
    }
}

fn model(random: &mut Random) -> Vec<u8> {
    let mut builder = Builder::default();
    let (mut x, mut before) = ("x".to_owned(), "x".to_owned());
    for _ in 0..1 + random.below(5) {
        let next = builder.step(&x, &before, random);
        before = std::mem::replace(&mut x, next);
    }
    finished(builder, &x, 18)
}

/// A model that gives `y`, a tensor of its graph, for `x`.
fn finished(builder: Builder, y: &str, opset_version: u64) -> Vec<u8> {
    let mut graph = builder.nodes;
    put_bytes(
        1,
        &node("Identity", &[y], &["y".to_owned()], &[]),
        &mut graph,
    );
    put_bytes(2, b"random", &mut graph);
    graph.extend(builder.constants);
    put_bytes(11, &value("x", &[None, Some(WIDTH as i64)]), &mut graph);
    put_bytes(12, &value("y", &[None, Some(WIDTH as i64)]), &mut graph);
    let mut opset = Vec::new();
    put_bytes(1, b"", &mut opset);
    put_varint(2, opset_version, &mut opset);
    let mut model = Vec::new();
    put_varint(1, 9, &mut model);
    put_bytes(7, &graph, &mut model);
    put_bytes(8, &opset, &mut model);
    let mut own = Vec::new();
    put_bytes(1, b"test", &mut own);
    put_varint(2, 1, &mut own);
    put_bytes(8, &own, &mut model);
    put_bytes(25, &function(&opset), &mut model);
    model
}

/// `F`: a softmax along `axis`, which is the rows' where the call does not say it.
fn function(opset: &[u8]) -> Vec<u8> {
    let mut reference = Vec::new();
    put_bytes(1, b"axis", &mut reference);
    put_varint(20, 2, &mut reference);
    put_bytes(21, b"axis", &mut reference);
    let mut inner = node("Softmax", &["a"], &["b".to_owned()], &[]);
    put_bytes(5, &reference, &mut inner);
    let mut default = Vec::new();
    put_bytes(1, b"axis", &mut default);
    put_varint(3, 0, &mut default);
    put_varint(20, 2, &mut default);
    let mut function = Vec::new();
    put_bytes(1, b"F", &mut function);
    put_bytes(4, b"a", &mut function);
    put_bytes(5, b"b", &mut function);
    put_bytes(7, &inner, &mut function);
    put_bytes(9, opset, &mut function);
    put_bytes(10, b"test", &mut function);
    put_bytes(11, &default, &mut function);
    function
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

/// The rows of a run, and which row alone each must be answered like; a hostile one is only a neighbour.
type Batch = (Vec<[f32; WIDTH]>, Vec<Option<usize>>);

/// What differs, where a row beside others is answered otherwise than alone.
fn dependence(engine: &mut OnnxEngine, random: &mut Random) -> Option<String> {
    let rows: Vec<[f32; WIDTH]> = (0..4)
        .map(|_| std::array::from_fn(|_| random.real()))
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
    // An effect may show at one number of rows only.
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
            return Some("no row for each".to_owned());
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
                return Some(format!("{expected:?} alone, {got:?} beside others"));
            }
        }
    }
    None
}

#[test]
fn no_answer_depends_on_its_neighbours() {
    let runtime = Runtime::load(&find_library(&Config::default()).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (mut apart, mut mixed, mut needless, mut refused) = (0, 0, 0, 0);
    for seed in 0..GRAPHS {
        let mut random = Random(seed);
        let bytes = model(&mut random);
        let report = trace_rows(&Model::read(&bytes).unwrap(), &[]);
        let path = directory.path().join("model.onnx");
        fs_err::write(&path, &bytes).unwrap();
        let Ok((_, mut engine)) = OnnxFactory::open(&runtime, &path, 1) else {
            refused += 1;
            continue;
        };
        let found = dependence(&mut engine, &mut random);
        match (report.batching_objection(), found) {
            (None, Some(found)) => panic!("graph {seed} is said to keep rows apart, but {found}"),
            (None, None) => apart += 1,
            (Some(_), Some(_)) => mixed += 1,
            (Some(objection), None) => {
                needless += 1;
                println!(
                    "graph {seed} is run a request at a time though its rows seem to be independent: {objection}"
                );
            }
        }
    }
    let share = 100.0 * f64::from(needless) / f64::from(apart + needless);
    println!(
        "{apart} graphs keep rows apart and are batched, {mixed} bring them together, {refused} are none"
    );
    println!(
        "{needless} are kept apart though they needn't be: {share:.1} % of those that could be batched"
    );
    assert!(apart > 100 && mixed > 100, "{apart} {mixed}");
    assert!(refused * 20 < GRAPHS, "{refused} graphs don't load");
}

/// What is said of a graph.
#[derive(Debug, PartialEq)]
enum Said {
    Apart,
    /// Nobody knows; the package's author may say that rows are independent.
    Unknown,
    /// They do come together, whatever the author says.
    Together,
}

/// Graphs in which a rule is easily too bold, or too sure of the contrary.
#[test]
fn what_is_said_of_a_graph_is_neither_too_bold_nor_too_sure() {
    let body = |op: &str, inputs: &[&str], taken: &[Vec<u8>], given: &[&str]| {
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
    };
    type Case<'a> = (&'a str, Said, u64, Box<dyn Fn(&mut Builder) -> String + 'a>);
    let cases: Vec<Case<'_>> = vec![
        ("channels are pooled one by one", Said::Apart, 18, {
            Box::new(|b| {
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
            })
        }),
        ("a scan that takes nothing along", Said::Unknown, 18, {
            Box::new(|b| {
                let taken = value("taken", &[Some(WIDTH as i64)]);
                let body = body("Neg", &["taken"], &[taken], &["scanned"]);
                b.one(
                    "Scan",
                    &["x"],
                    &[Attr::Graph("body", body), Attr::Int("num_scan_inputs", 1)],
                )
            })
        }),
        ("a branch by the number of rows", Said::Unknown, 18, {
            Box::new(|b| {
                let (rows, one) = (b.rows("x"), b.scalar(1));
                let alone = b.one("Equal", &[&rows, &one], &[]);
                b.branch("x", &alone)
            })
        }),
        ("a branch by values", Said::Together, 18, {
            Box::new(|b| {
                let (most, nought) = (
                    b.one("ReduceMax", &["x"], &[Attr::Int("keepdims", 0)]),
                    b.whole_real(0.0),
                );
                let positive = b.one("Greater", &[&most, &nought], &[]);
                b.branch("x", &positive)
            })
        }),
        (
            "a mask of two dimensions belongs to places",
            Said::Unknown,
            23,
            {
                Box::new(|b| {
                    let axes = b.ints(&[1]);
                    let steps = b.one("Unsqueeze", &["x", &axes], &[]);
                    let heads = [Attr::Int("q_num_heads", 1), Attr::Int("kv_num_heads", 1)];
                    let attended = b.one("Attention", &[&steps, &steps, &steps, "x"], &heads);
                    b.one("Squeeze", &[&attended, &axes], &[])
                })
            },
        ),
        (
            "parts of sizes that can't be followed",
            Said::Unknown,
            18,
            {
                Box::new(|b| {
                    let (three, one) = (b.whole_real(3.0), b.ints(&[1]));
                    let (first, rest) = (b.one("Reshape", &[&three, &one], &[]), b.whole_real(1.0));
                    let rest = b.one("Reshape", &[&rest, &one], &[]);
                    let sizes = b.one("Concat", &[&first, &rest], &[Attr::Int("axis", 0)]);
                    let sizes = b.one("Cast", &[&sizes], &[Attr::Int("to", 7)]);
                    let parts = b.many("Split", &["x", &sizes], 2, &[Attr::Int("axis", 1)]);
                    let shape = b.ints(&[-1, 2]);
                    b.one("Reshape", &[&parts[0], &shape], &[])
                })
            },
        ),
        ("one scale that keeps the ratio", Said::Unknown, 18, {
            Box::new(|b| {
                let shape = b.one("Shape", &["x"], &[]);
                let (start, end, wide) = (b.ints(&[0]), b.ints(&[1]), b.ints(&[8]));
                let rows = b.one("Slice", &[&shape, &start, &end], &[]);
                let sizes = b.one("Concat", &[&rows, &wide], &[Attr::Int("axis", 0)]);
                b.one(
                    "Resize",
                    &["x", "", "", &sizes],
                    &[Attr::Text("keep_aspect_ratio_policy", "not_larger")],
                )
            })
        }),
        (
            "random numbers in a loop over constants",
            Said::Unknown,
            18,
            {
                Box::new(|b| {
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
                })
            },
        ),
        (
            "values of a constant, dropped at random in training",
            Said::Unknown,
            18,
            {
                Box::new(|b| {
                    let (start, ratio, one) = (
                        b.reals(&[WIDTH as i64], &mut Random(1)),
                        b.whole_real(0.5),
                        b.scalar(1),
                    );
                    let training = b.one("Cast", &[&one], &[Attr::Int("to", 9)]);
                    let dropped = b.one("Dropout", &[&start, &ratio, &training], &[]);
                    b.one("Add", &["x", &dropped], &[])
                })
            },
        ),
        (
            "normalised by the root of the squares of a row",
            Said::Apart,
            18,
            {
                Box::new(|b| {
                    let scale = b.reals(&[WIDTH as i64], &mut Random(1));
                    b.one(
                        "SimplifiedLayerNormalization",
                        &["x", &scale],
                        &[Attr::Int("axis", -1)],
                    )
                })
            },
        ),
    ];
    let runtime = Runtime::load(&find_library(&Config::default()).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (what, said, opset, build) in cases {
        let mut builder = Builder::default();
        let y = build(&mut builder);
        let bytes = finished(builder, &y, opset);
        let report = trace_rows(&Model::read(&bytes).unwrap(), &[]);
        let found = match (report.batching_objection(), report.proof_of_mixing()) {
            (None, _) => Said::Apart,
            (Some(_), None) => Said::Unknown,
            (Some(_), Some(_)) => Said::Together,
        };
        assert_eq!(found, said, "{what}: {:?}", report.batching_objection());
        assert_eq!(report.time_steps(), None, "{what}");
        if what.contains("random") {
            assert!(
                report
                    .batching_objection()
                    .unwrap()
                    .contains("draws random numbers"),
                "{:?}",
                report.batching_objection()
            );
        }
        if said == Said::Apart {
            let path = directory.path().join("model.onnx");
            fs_err::write(&path, &bytes).unwrap();
            let (_, mut engine) = OnnxFactory::open(&runtime, &path, 1).unwrap();
            assert_eq!(dependence(&mut engine, &mut Random(1)), None, "{what}");
        }
    }
}
