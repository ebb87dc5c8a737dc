//! Random operators of a graph.

use crate::{
    WIDTH,
    builder::{Attr, Builder},
    random::Random,
};

/// The number of operators.
const KINDS: usize = 58;

impl Builder {
    /// Adds one random operator from [rows, 4] to [rows, 4]. From 26 on, rows meet or their number
    /// matters.
    pub(crate) fn step(&mut self, x: &str, other: &str, random: &mut Random) -> String {
        let kind = random.below(KINDS);
        match kind {
            0..9 => self.within_rows(kind, x, other, random),
            9..16 => self.reorder_columns(kind, x, random),
            16..20 => self.combine_with_another_tensor(kind, x, other, random),
            20..26 => self.compute_within_rows(kind, x, other, random),
            26..35 => self.mix_by_reduction(kind, x),
            35..40 => self.mix_by_layout(kind, x, other, random),
            40..45 => self.mix_by_selection(kind, x, other),
            45..51 => self.scale_by_row_count(kind, x),
            _ => self.depend_on_row_count(kind, x),
        }
    }

    /// Operators that compute each row from its own values.
    fn within_rows(&mut self, kind: usize, x: &str, other: &str, random: &mut Random) -> String {
        let w = WIDTH as i64;
        match kind {
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
            _ => {
                let scale = self.reals(&[w], random);
                self.one("LayerNormalization", &[x, &scale], &[Attr::Int("axis", -1)])
            }
        }
    }

    /// Operators that move or select values within each row.
    fn reorder_columns(&mut self, kind: usize, x: &str, random: &mut Random) -> String {
        let w = WIDTH as i64;
        match kind {
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
                // Two rows of two values in place of one row of four, and back.
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
            _ => {
                let k = self.ints(&[w]);
                self.many("TopK", &[x, &k], 2, &[Attr::Int("axis", -1)])
                    .remove(0)
            }
        }
    }

    /// Operators that combine each row with a constant or with the same row of another tensor.
    fn combine_with_another_tensor(
        &mut self,
        kind: usize,
        x: &str,
        other: &str,
        random: &mut Random,
    ) -> String {
        let w = WIDTH as i64;
        match kind {
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
            _ => {
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
        }
    }

    /// Larger computations within each row.
    fn compute_within_rows(
        &mut self,
        kind: usize,
        x: &str,
        other: &str,
        random: &mut Random,
    ) -> String {
        let w = WIDTH as i64;
        match kind {
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
                // One step of time. The rows are the examples.
                let axes = self.ints(&[0]);
                let [_, last] = self.recurrent(x, &axes, random);
                self.one("Squeeze", &[&last, &axes], &[])
            }
            24 => self.one(
                "Einsum",
                &[x, other],
                &[Attr::Text("equation", "bi,bi->bi")],
            ),
            _ => {
                let c = self.reals(&[w, w], random);
                self.one("Einsum", &[x, &c], &[Attr::Text("equation", "bi,ij->bj")])
            }
        }
    }

    /// Operators that compute values from several rows.
    fn mix_by_reduction(&mut self, kind: usize, x: &str) -> String {
        match kind {
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
            _ => {
                let first = self.ints(&[0]);
                let row = self.one("Gather", &[x, &first], &[Attr::Int("axis", 0)]);
                self.one("Add", &[x, &row], &[])
            }
        }
    }

    /// A recurrent network on `x` with one more axis: the hidden states of all steps, and of the
    /// last one.
    fn recurrent(&mut self, x: &str, axes: &str, random: &mut Random) -> [String; 2] {
        let w = WIDTH as i64;
        let (weights, recurrent) = (
            self.reals(&[1, w, w], random),
            self.reals(&[1, w, w], random),
        );
        let steps = self.one("Unsqueeze", &[x, axes], &[]);
        let states = self.many(
            "RNN",
            &[&steps, &weights, &recurrent],
            2,
            &[Attr::Int("hidden_size", w)],
        );
        states.try_into().unwrap()
    }

    /// Operators that move values between rows.
    fn mix_by_layout(&mut self, kind: usize, x: &str, other: &str, random: &mut Random) -> String {
        let w = WIDTH as i64;
        match kind {
            35 => {
                // Columns become rows.
                let (shape, turned) = (
                    self.one("Shape", &[x], &[]),
                    self.one("Transpose", &[x], &[]),
                );
                self.one("Reshape", &[&turned, &shape], &[])
            }
            36 => {
                // The rows are the steps of time.
                let axes = self.ints(&[1]);
                let [all, _] = self.recurrent(x, &axes, random);
                let both = self.ints(&[1, 2]);
                self.one("Squeeze", &[&all, &both], &[])
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
            _ => {
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
        }
    }

    /// Operators that select or reduce across rows.
    fn mix_by_selection(&mut self, kind: usize, x: &str, other: &str) -> String {
        match kind {
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
            _ => {
                let (twice, starts, axes) = (
                    self.one("Concat", &[x, x], &[Attr::Int("axis", 0)]),
                    self.ints(&[1]),
                    self.ints(&[0]),
                );
                let shape = self.one("Shape", &[x], &[Attr::Int("end", 1)]);
                let ends = self.one("Add", &[&shape, &starts], &[]);
                self.one("Slice", &[&twice, &starts, &ends, &axes], &[])
            }
        }
    }

    /// Rows times the number of rows, computed in several ways.
    fn scale_by_row_count(&mut self, kind: usize, x: &str) -> String {
        match kind {
            45 => {
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
            _ => {
                let n = self.rows(x);
                let same = self.one("Equal", &[&n, &n], &[]);
                let n = self.one("Where", &[&same, &n, &n], &[]);
                self.times(x, &n)
            }
        }
    }

    /// Shapes, branches and calls that depend on the number of rows.
    fn depend_on_row_count(&mut self, kind: usize, x: &str) -> String {
        let w = WIDTH as i64;
        match kind {
            51 => {
                // Sizes that are computed with floating-point numbers.
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
