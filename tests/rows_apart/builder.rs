//! Writes small ONNX models.

use predictd::graph::wire::{put_bytes, put_varint};

use crate::{WIDTH, random::Random, real};

/// An attribute of a node.
pub(crate) enum Attr<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Text(&'a str, &'a str),
    Graph(&'a str, Vec<u8>),
}

#[derive(Default)]
pub(crate) struct Builder {
    nodes: Vec<u8>,
    constants: Vec<u8>,
    count: usize,
}

pub(crate) fn tensor(name: &str, dims: &[i64], kind: u64, raw: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    dims.iter()
        .for_each(|dim| put_varint(1, *dim as u64, &mut tensor));
    put_varint(2, kind, &mut tensor);
    put_bytes(8, name.as_bytes(), &mut tensor);
    put_bytes(9, raw, &mut tensor);
    tensor
}

pub(crate) fn node(
    op: &str,
    inputs: &[&str],
    outputs: &[String],
    attributes: &[Attr<'_>],
) -> Vec<u8> {
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

pub(crate) fn value(name: &str, dims: &[Option<i64>]) -> Vec<u8> {
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
    pub(crate) fn name(&mut self) -> String {
        self.count += 1;
        format!("v{}", self.count)
    }

    pub(crate) fn many(
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

    pub(crate) fn one(&mut self, op: &str, inputs: &[&str], attributes: &[Attr<'_>]) -> String {
        self.many(op, inputs, 1, attributes).remove(0)
    }

    pub(crate) fn reals(&mut self, dims: &[i64], random: &mut Random) -> String {
        let name = self.name();
        let raw: Vec<u8> = (0..dims.iter().product::<i64>())
            .flat_map(|_| real(random).to_le_bytes())
            .collect();
        put_bytes(5, &tensor(&name, dims, 1, &raw), &mut self.constants);
        name
    }

    pub(crate) fn ints(&mut self, list: &[i64]) -> String {
        let name = self.name();
        let raw: Vec<u8> = list.iter().flat_map(|x| x.to_le_bytes()).collect();
        put_bytes(
            5,
            &tensor(&name, &[list.len() as i64], 7, &raw),
            &mut self.constants,
        );
        name
    }

    pub(crate) fn scalar(&mut self, value: i64) -> String {
        let name = self.name();
        put_bytes(
            5,
            &tensor(&name, &[], 7, &value.to_le_bytes()),
            &mut self.constants,
        );
        name
    }

    pub(crate) fn whole_real(&mut self, value: f32) -> String {
        let name = self.name();
        put_bytes(
            5,
            &tensor(&name, &[], 1, &value.to_le_bytes()),
            &mut self.constants,
        );
        name
    }

    /// The number of rows as a scalar.
    pub(crate) fn rows(&mut self, x: &str) -> String {
        let (shape, first) = (self.one("Shape", &[x], &[]), self.scalar(0));
        self.one("Gather", &[&shape, &first], &[Attr::Int("axis", 0)])
    }

    pub(crate) fn times(&mut self, x: &str, whole: &str) -> String {
        let real = self.one("Cast", &[whole], &[Attr::Int("to", 1)]);
        self.one("Mul", &[x, &real], &[])
    }

    /// `Relu` of `x` if the condition holds, else `Neg` of `x`.
    pub(crate) fn branch(&mut self, x: &str, condition: &str) -> String {
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
    pub(crate) fn call(&mut self, function: &str, x: &str, attributes: &[Attr<'_>]) -> String {
        let output = self.name();
        let mut call = node(function, &[x], std::slice::from_ref(&output), attributes);
        put_bytes(7, b"test", &mut call);
        put_bytes(1, &call, &mut self.nodes);
        output
    }
}

/// A model with the input `x` and the output `y`, a tensor of the graph.
pub(crate) fn finished_model(builder: Builder, y: &str, opset_version: u64) -> Vec<u8> {
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

/// The function `F`: a softmax along the attribute `axis`, by default along the rows.
pub(crate) fn function(opset: &[u8]) -> Vec<u8> {
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
