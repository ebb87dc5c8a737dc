//! Preprocess: from columns to the graph's input tensors. Arithmetic in float64, cast once at the end.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    schema::{
        columns::{ArrayRow, Arrays, Column, Columns},
        fault::MAX_FAULTS,
    },
    tensor::{
        Data, DataType, Dim, Tensor, Tensors,
        signature::{Signature, TensorSpec},
    },
    transform::{
        cast::cast,
        compile::Compiler,
        plan::{
            Cells, Field, NOT_POSITIVE, Part, Plan, PreprocessError, RowFault, Source, fail, push,
            shape_fits, text,
        },
        steps::Numeric,
    },
};

/// Rows that can share a run, because their arrays have the same shapes.
#[derive(Debug, PartialEq)]
pub struct Group {
    /// Their places in the request, ascending; `None`: all its rows.
    pub rows: Option<Vec<usize>>,
    /// One for each graph input.
    pub tensors: Tensors,
}

impl Group {
    pub fn all(tensors: Tensors) -> Group {
        Group {
            rows: None,
            tensors,
        }
    }

    /// How many rows, of the request's.
    pub fn count(&self, rows: usize) -> usize {
        self.rows.as_ref().map_or(rows, Vec::len)
    }
}

/// Where the rows of these groups, one after the other, belong; `None`: in this order.
pub fn order(groups: &[Group]) -> Option<Vec<usize>> {
    groups
        .iter()
        .map(|group| group.rows.as_deref())
        .collect::<Option<Vec<_>>>()
        .map(|rows| rows.concat())
}

/// The compiled declaration.
#[derive(Debug)]
pub struct Preprocess {
    inputs: Vec<Input>,
    has_images: bool,
}

#[derive(Debug)]
struct Input {
    spec: TensorSpec,
    plan: Plan,
}

impl Preprocess {
    /// Checks the section `inputs` against schema and graph; without a section each graph input takes the field of its name.
    pub fn compile(
        section: Option<&Value>,
        fields: &[Field],
        signature: &Signature,
    ) -> Result<Preprocess, PreprocessError> {
        let empty = Map::new();
        let declared = match section {
            None => &empty,
            Some(Value::Object(declared)) => declared,
            Some(_) => return fail("", "must be an object"),
        };
        if let Some(unknown) = declared
            .keys()
            .find(|name| !signature.inputs.iter().any(|spec| *spec.name == **name))
        {
            let known: Vec<&str> = signature.inputs.iter().map(|spec| &*spec.name).collect();
            return fail(
                &format!("/{unknown}"),
                format!("the graph has no such input; it has {}", known.join(", ")),
            );
        }
        let mut inputs = Vec::new();
        for spec in &signature.inputs {
            if spec.shape.0.is_empty() {
                return fail(
                    &format!("/{}", spec.name),
                    "the graph's input is a scalar; a package needs a leading dimension for rows",
                );
            }
            if let Some(Dim::Fixed(rows)) = spec.shape.0.first()
                && *rows != 1
            {
                return fail(
                    &format!("/{}", spec.name),
                    format!(
                        "the graph takes exactly {rows} rows at once; export it with a free leading dimension"
                    ),
                );
            }
            let compiler = Compiler {
                pointer: format!("/{}", spec.name),
                fields,
                spec,
            };
            let plan =
                match declared.get(&*spec.name) {
                    Some(section) => compiler.section(section)?,
                    None => compiler
                        .single(&spec.name, Vec::new(), "")
                        .map_err(|error| match section {
                            Some(_) => error,
                            None => PreprocessError {
                                pointer: error.pointer,
                                detail: format!(
                                    "{} (there is no preprocessing.json)",
                                    error.detail
                                ),
                            },
                        })?,
                };
            inputs.push(Input {
                spec: spec.clone(),
                plan,
            });
        }
        let has_images = inputs
            .iter()
            .any(|input| matches!(input.plan, Plan::Image { .. }));
        Ok(Preprocess { inputs, has_images })
    }

    /// Whether rows carry images, which take long enough to keep off the network threads.
    pub fn has_images(&self) -> bool {
        self.has_images
    }

    /// The rows in as few groups as their arrays' shapes allow: mostly one.
    pub fn apply(&self, columns: &Columns) -> Result<Vec<Group>, Vec<RowFault>> {
        let Some(groups) = self.shapes(columns) else {
            return Ok(vec![Group::all(self.run(columns)?)]);
        };
        let mut all = Vec::with_capacity(groups.len());
        let mut faults = Vec::new();
        for rows in groups {
            match self.run(&columns.pick(&rows)) {
                Ok(tensors) => all.push(Group {
                    rows: Some(rows),
                    tensors,
                }),
                Err(found) => {
                    let place = |fault: RowFault| RowFault {
                        row: rows.get(fault.row).copied().unwrap_or_default(),
                        ..fault
                    };
                    faults.extend(found.into_iter().map(place));
                    if faults.len() >= MAX_FAULTS {
                        break;
                    }
                }
            }
        }
        faults.sort_by_key(|fault| fault.row);
        if faults.is_empty() {
            Ok(all)
        } else {
            Err(faults)
        }
    }

    /// The rows by the shapes of their arrays, in the order of their first; `None` where all have the same.
    fn shapes(&self, columns: &Columns) -> Option<Vec<Vec<usize>>> {
        let arrays = self.inputs.iter().filter_map(|input| {
            match (&input.plan, columns.columns.get(input.plan.column()?)) {
                (Plan::Array { .. }, Some(Column::Array(arrays))) if arrays.shapes.len() > 1 => {
                    Some(arrays)
                }
                _ => None,
            }
        });
        let arrays: Vec<&Arrays> = arrays.collect();
        if arrays.is_empty() {
            return None;
        }
        let mut known: HashMap<Vec<Option<usize>>, usize> = HashMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for row in 0..columns.rows {
            let shape = |arrays: &&Arrays| match arrays.rows.get(row) {
                Some(ArrayRow::Dense { shape, .. }) => Some(*shape),
                // A fault, in whichever group.
                _ => None,
            };
            let group = *known
                .entry(arrays.iter().map(shape).collect())
                .or_insert(groups.len());
            match groups.get_mut(group) {
                Some(rows) => rows.push(row),
                None => groups.push(vec![row]),
            }
        }
        (groups.len() > 1).then_some(groups)
    }

    /// One tensor for each graph input, `columns.rows` rows each.
    fn run(&self, columns: &Columns) -> Result<Tensors, Vec<RowFault>> {
        let mut faults = Vec::new();
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            if let Some(tensor) = input.tensor(columns, &mut faults) {
                tensors.push((Arc::clone(&input.spec.name), tensor));
            }
        }
        if faults.is_empty() && tensors.len() == self.inputs.len() {
            Ok(Tensors(tensors))
        } else {
            Err(faults)
        }
    }
}

impl Input {
    fn tensor(&self, columns: &Columns, faults: &mut Vec<RowFault>) -> Option<Tensor> {
        let rows = columns.rows;
        match &self.plan {
            Plan::Table { parts, width } => {
                let shape = if self.spec.shape.0.len() == 1 {
                    vec![rows]
                } else {
                    vec![rows, *width]
                };
                let exact = matches!(self.spec.datatype, DataType::Int64 | DataType::Uint64);
                let mut table = vec![0.0; rows * width];
                let mut at = 0;
                let before = faults.len();
                for part in parts {
                    part.write(
                        columns,
                        exact,
                        &mut Cells {
                            table: &mut table,
                            width: *width,
                            at,
                        },
                        faults,
                    );
                    at += part.width;
                }
                let blame = |cell: usize| {
                    let mut at = cell % width;
                    let part = parts.iter().find(|part| match at.checked_sub(part.width) {
                        Some(rest) => {
                            at = rest;
                            false
                        }
                        None => true,
                    });
                    (cell / width, part.map(|part| &part.source))
                };
                let mut data = cast(&table, self.spec.datatype, &blame, faults)?;
                if matches!(data, Data::Int64(_) | Data::Uint64(_)) {
                    write_exactly(parts, columns, *width, &mut data, faults);
                }
                if faults.len() > before {
                    None
                } else {
                    Tensor::new(shape, data)
                }
            }
            Plan::Texts { part, steps } => {
                let Some(Column::Text(spans)) = columns.columns.get(part.column) else {
                    return None;
                };
                let mut texts = Vec::with_capacity(rows);
                for row in 0..rows {
                    match steps
                        .iter()
                        .fold(text(spans, row).map(str::to_owned), |value, step| {
                            step.apply(value)
                        }) {
                        Some(text) => texts.push(text),
                        None => push(
                            faults,
                            row,
                            part,
                            "type",
                            "must not be null: no preprocessing step takes it".to_owned(),
                        ),
                    }
                }
                let shape = if self.spec.shape.0.len() == 1 {
                    vec![rows]
                } else {
                    vec![rows, 1]
                };
                Tensor::new(shape, Data::Bytes(texts))
            }
            Plan::Array { part, steps, shape } => {
                self.array(columns, part, steps, shape.as_deref(), faults)
            }
            Plan::Image { part, steps } => {
                let Some(Column::Binary(spans)) = columns.columns.get(part.column) else {
                    return None;
                };
                let mut all = Vec::new();
                let mut shape: Option<Vec<usize>> = None;
                for row in 0..rows {
                    let Some(bytes) = spans.get(row) else {
                        push(faults, row, part, "type", "must not be null".to_owned());
                        continue;
                    };
                    match steps.apply(bytes) {
                        Ok((this, numbers)) => {
                            if !shape_fits(&self.spec, &this)
                                || shape.as_ref().is_some_and(|shape| *shape != this)
                            {
                                push(
                                    faults,
                                    row,
                                    part,
                                    "contentMediaType",
                                    format!(
                                        "has the shape {this:?} after preprocessing; the model takes {}",
                                        self.spec.shape
                                    ),
                                );
                                continue;
                            }
                            shape = Some(this);
                            all.extend(numbers);
                        }
                        Err(detail) => push(faults, row, part, "contentMediaType", detail),
                    }
                }
                let shape = shape?;
                let length: usize = shape.iter().product();
                let blame = |cell: usize| (cell / length.max(1), Some(part));
                let data = cast(&all, self.spec.datatype, &blame, faults)?;
                let mut full = vec![rows];
                full.extend(shape);
                Tensor::new(full, data)
            }
        }
    }

    fn array(
        &self,
        columns: &Columns,
        part: &Source,
        steps: &[Numeric],
        reshape: Option<&[usize]>,
        faults: &mut Vec<RowFault>,
    ) -> Option<Tensor> {
        let Some(Column::Array(arrays)) = columns.columns.get(part.column) else {
            return None;
        };
        let mut values = Vec::new();
        let mut common: Option<usize> = None;
        for (row, entry) in arrays.rows.iter().enumerate() {
            match entry {
                ArrayRow::Missing => push(faults, row, part, "type", "must not be null".to_owned()),
                ArrayRow::Ragged => push(
                    faults,
                    row,
                    part,
                    "items",
                    "must have inner arrays of one length".to_owned(),
                ),
                ArrayRow::Dense { shape, .. } if common.is_some_and(|common| common != *shape) => {
                    push(
                        faults,
                        row,
                        part,
                        "items",
                        "must have the same shape in all rows of a run".to_owned(),
                    );
                }
                ArrayRow::Dense { start, shape } => {
                    common = Some(*shape);
                    let length: usize = arrays.shapes.get(*shape)?.iter().product();
                    values.extend_from_slice(arrays.values.get(*start..start + length)?);
                }
            }
        }
        let given = arrays.shapes.get(common?)?;
        let length: usize = given.iter().product();
        if let Some(shape) = reshape
            && shape.iter().product::<usize>() != length
        {
            push(
                faults,
                0,
                part,
                "items",
                format!("has the shape {given:?}, which can't be reshaped to {shape:?}"),
            );
            return None;
        }
        let full = self
            .spec
            .shape
            .completed([&[columns.rows], reshape.unwrap_or(given)].concat());
        let shape = full.get(1..).unwrap_or_default();
        if !shape_fits(&self.spec, shape) {
            push(
                faults,
                0,
                part,
                "items",
                format!(
                    "has the shape {shape:?}; the model takes {}",
                    self.spec.shape
                ),
            );
            return None;
        }
        for (cell, x) in values.iter_mut().enumerate() {
            match Numeric::run(steps, *x) {
                Some(value) => *x = value,
                None => push(
                    faults,
                    cell / length.max(1),
                    part,
                    "minimum",
                    NOT_POSITIVE.to_owned(),
                ),
            }
        }
        let blame = |cell: usize| (cell / length.max(1), Some(part));
        let data = cast(&values, self.spec.datatype, &blame, faults)?;
        Tensor::new(full, data)
    }
}

/// Whole numbers beyond 2^53 must not pass through a float64: where the graph takes 64-bit integers, fields that go there
/// as they came are written once more, exactly.
fn write_exactly(
    parts: &[Part],
    columns: &Columns,
    width: usize,
    data: &mut Data,
    faults: &mut Vec<RowFault>,
) {
    let mut at = 0;
    for part in parts {
        let values = columns
            .columns
            .get(part.source.column)
            .filter(|_| part.is_plain());
        if let Some(Column::Integer(values)) = values {
            for (row, value) in values.iter().enumerate() {
                let Some(value) = value else { continue };
                let cell = row * width + at;
                let written = match data {
                    Data::Int64(cells) => cells.get_mut(cell).map(|cell| *cell = *value),
                    Data::Uint64(cells) => cells
                        .get_mut(cell)
                        .zip(u64::try_from(*value).ok())
                        .map(|(cell, value)| *cell = value),
                    _ => return,
                };
                if written.is_none() {
                    push(
                        faults,
                        row,
                        &part.source,
                        "dtype",
                        format!("does not fit {}", data.datatype()),
                    );
                }
            }
        }
        at += part.width;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        schema::columns::{Arrays, Column, ColumnKind, Columns, Spans},
        tensor::{
            Data, DataType, Dim, Shape,
            signature::{Signature, TensorSpec},
        },
        transform::{
            plan::{Field, PreprocessError, RowFault},
            preprocess::{Group, Preprocess, order},
        },
    };

    const FIELDS: [(&str, ColumnKind, bool); 4] = [
        ("a", ColumnKind::Number, false),
        ("b", ColumnKind::Integer, false),
        ("secret", ColumnKind::Number, true),
        ("day", ColumnKind::Text, false),
    ];

    fn compile(columns: &Value) -> Result<Preprocess, PreprocessError> {
        let field = |(name, kind, pii): (&str, ColumnKind, bool)| Field {
            name: name.to_owned(),
            kind,
            nullable: true,
            array_shape: None,
            pii,
        };
        let spec = TensorSpec {
            name: "X".into(),
            datatype: DataType::Fp32,
            shape: Shape(vec![Dim::Any, Dim::Any]),
        };
        let section = json!({"X": {"dtype": "float32", "columns": columns}});
        Preprocess::compile(
            Some(&section),
            &FIELDS.map(field),
            &Signature {
                inputs: vec![spec],
                outputs: Vec::new(),
            },
        )
    }

    /// What is wrong with the only row.
    fn faults(
        columns: &Value,
        (a, b, secret): (f64, i64, f64),
        day: Option<&str>,
    ) -> Vec<RowFault> {
        let mut days = Spans::default();
        match day {
            Some(day) => days.push(day.as_bytes()),
            None => days.push_missing(),
        }
        let row = vec![
            Column::Number(vec![a]),
            Column::Integer(vec![Some(b)]),
            Column::Number(vec![secret]),
            Column::Text(days),
        ];
        compile(columns)
            .unwrap()
            .apply(&Columns {
                rows: 1,
                columns: row,
            })
            .map(|_| ())
            .unwrap_err()
    }

    #[test]
    fn columns_are_checked() {
        let cases = [
            (
                json!([{"ratio": {"of": "a", "to": "x"}}]),
                "/X/columns/0/ratio/to",
                "no field \"x\"",
            ),
            (
                json!([{"field": "a"}, {"product": {"of": "x", "by": "a"}}]),
                "/X/columns/1/product/of",
                "no field \"x\"",
            ),
            (
                json!([{"difference": {"of": "a", "minus": "day"}}]),
                "/X/columns/0/difference/minus",
                "neither a number nor a boolean",
            ),
            (
                json!([{"difference": {"of": "a", "by": "b"}}]),
                "/X/columns/0/difference/by",
                "known are of, minus",
            ),
            (
                json!([{"difference": {"of": "a"}}]),
                "/X/columns/0/difference/minus",
                "must name a field",
            ),
            (
                json!([{"product": {"of": "a", "by": "b", "zero": 1}}]),
                "/X/columns/0/product/zero",
                "known are of, by",
            ),
            (
                json!([{"ratio": {"of": "a", "to": "b", "zero": "none"}}]),
                "/X/columns/0/ratio/zero",
                "a number, or null",
            ),
            (
                json!([{"ratio": {"of": "a", "to": "b"}, "field": "a"}]),
                "/X/columns/0",
                "exactly one of field, ratio, difference, product",
            ),
            (json!([{"steps": []}]), "/X/columns/0", "exactly one"),
            (
                json!([{"field": "a", "sum": {}}]),
                "/X/columns/0/sum",
                "unknown member",
            ),
            (
                json!([{"ratio": {"of": "a", "to": "b"}, "steps": [{"lowercase": {}}]}]),
                "/X/columns/0/steps/0",
                "does not take a number",
            ),
            (
                json!([{"field": "a", "steps": [{"date_parts": {"parts": ["year"], "unknown": 0}}]}]),
                "/X/columns/0/steps/0",
                "a text field",
            ),
            (
                json!([{"field": "day", "steps": [{"date_parts": {"parts": ["era"], "unknown": 0}}]}]),
                "/X/columns/0/steps/0/parts/0",
                "era",
            ),
            (
                json!([{"field": "day", "steps": [{"date_parts": {"parts": ["year"]}}]}]),
                "/X/columns/0/steps/0",
                "missing field `unknown`",
            ),
        ];
        for (columns, pointer, detail) in cases {
            let error = compile(&columns).map(|_| ()).unwrap_err();
            assert_eq!(error.pointer, pointer, "{columns}: {error:?}");
            assert!(error.detail.contains(detail), "{columns}: {error:?}");
        }
    }

    /// Two inputs of a free length, `ids` and `mask`, from rows of these lengths; `None` is a value that is missing.
    fn grouped(rows: &[(Option<usize>, usize)]) -> Result<Vec<Group>, Vec<RowFault>> {
        let spec = |name: &str| TensorSpec {
            name: name.into(),
            datatype: DataType::Int64,
            shape: Shape(vec![Dim::Any, Dim::Any]),
        };
        let signature = Signature {
            inputs: vec![spec("ids"), spec("mask")],
            outputs: Vec::new(),
        };
        let fields = ["ids", "mask"].map(|name| Field {
            name: name.to_owned(),
            kind: ColumnKind::Array,
            nullable: true,
            array_shape: None,
            pii: false,
        });
        let (mut ids, mut mask) = (Arrays::default(), Arrays::default());
        let push = |arrays: &mut Arrays, row: usize, length: usize| {
            let start = arrays.values.len();
            arrays
                .values
                .extend(std::iter::repeat_n(row as f64, length));
            arrays.push_row(start, Some(&[length]));
        };
        for (row, (length, masked)) in rows.iter().enumerate() {
            match length {
                Some(length) => push(&mut ids, row, *length),
                None => ids.push_missing(),
            }
            push(&mut mask, row, *masked);
        }
        let columns = Columns {
            rows: rows.len(),
            columns: vec![Column::Array(ids), Column::Array(mask)],
        };
        Preprocess::compile(None, &fields, &signature)
            .unwrap()
            .apply(&columns)
    }

    #[test]
    fn rows_are_grouped_by_the_shapes_of_all_their_arrays() {
        let rows = |rows: &[(Option<usize>, usize)]| {
            grouped(rows)
                .unwrap()
                .into_iter()
                .map(|group| group.rows)
                .collect::<Vec<_>>()
        };
        assert_eq!(rows(&[(Some(2), 3), (Some(2), 3)]), [None]);
        assert_eq!(rows(&[(Some(2), 3)]), [None]);
        assert_eq!(
            rows(&[(Some(2), 3), (Some(1), 3), (Some(2), 4), (Some(1), 3)]),
            [Some(vec![0]), Some(vec![1, 3]), Some(vec![2])]
        );

        let groups = grouped(&[(Some(2), 1), (Some(3), 1), (Some(2), 1)]).unwrap();
        assert_eq!(order(&groups), Some(vec![0, 2, 1]));
        assert_eq!((groups[0].count(3), groups[1].count(3)), (2, 1));
        let ids = groups[0].tensors.get("ids").unwrap();
        assert_eq!(
            (ids.shape(), ids.data()),
            (&[2, 2][..], &Data::Int64(vec![0, 0, 2, 2].into()))
        );
        assert_eq!(order(&grouped(&[(Some(2), 1)]).unwrap()), None);
    }

    #[test]
    fn a_fault_in_a_group_names_the_row_of_the_request() {
        let faults = grouped(&[
            (Some(2), 1),
            (Some(3), 1),
            (None, 1),
            (Some(3), 1),
            (None, 1),
        ])
        .unwrap_err();
        assert_eq!(
            faults
                .iter()
                .map(|fault| (fault.row, fault.keyword))
                .collect::<Vec<_>>(),
            [(2, "type"), (4, "type")]
        );
    }

    #[test]
    fn a_value_that_may_not_be_shown_is_not_shown() {
        let found = faults(
            &json!([{"ratio": {"of": "a", "to": "b"}}]),
            (7.5, 0, 1.0),
            None,
        );
        assert_eq!((found[0].field.as_str(), found[0].keyword), ("a", "dtype"));
        assert_eq!(
            found[0].detail,
            "`a` / `b` does not fit float32 (its value after preprocessing is inf)"
        );
        for columns in [
            json!([{"product": {"of": "a", "by": "secret"}}]),
            json!([{"product": {"of": "secret", "by": "a"}}]),
        ] {
            assert!(
                faults(&columns, (1e30, 0, 1e30), None)[0]
                    .detail
                    .ends_with("does not fit float32")
            );
        }
    }

    #[test]
    fn no_date_is_a_fault_of_its_format() {
        let columns = json!([{"field": "day", "steps": [{"date_parts": {"parts": ["year"], "unknown": "error"}}]}]);
        for day in [None, Some("soon")] {
            let found = faults(&columns, (0.0, 0, 0.0), day);
            assert_eq!(
                (found[0].keyword, found[0].detail.as_str()),
                ("format", "`day` must be a date or a date-time")
            );
        }
    }
}
