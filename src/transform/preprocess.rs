//! Preprocess: from columns to the graph's input tensors. Arithmetic in float64, cast once at the end.

use std::{collections::HashMap, sync::Arc};

use half::{bf16, f16};
use regex::Regex;
use serde_json::{Map, Value};

use crate::{
    schema::{
        columns::{ArrayRow, Arrays, Column, ColumnId, ColumnKind, Columns, Spans},
        fault::MAX_FAULTS,
    },
    tensor::{
        Data, DataType, Dim, Tensor, Tensors, fit,
        signature::{Signature, TensorSpec},
    },
    transform::{
        dates::DateParts,
        derived::{Declared, MEMBERS, Operation},
        image::{ImageStep, ImageSteps},
        steps::{Categories, Encode, Impute, Layout, Numeric, PowerMethod, Step, Textual},
    },
};

/// What the preprocessing must know of a schema's field; its index is its `ColumnId`.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub kind: ColumnKind,
    pub nullable: bool,
    pub array_shape: Option<Vec<usize>>,
    pub pii: bool,
}

/// What is wrong with the declaration, as a pointer into its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreprocessError {
    pub pointer: String,
    pub detail: String,
}

/// A value of a row that can't become part of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    pub row: usize,
    pub field: String,
    pub keyword: &'static str,
    pub detail: String,
}

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
        Group { rows: None, tensors }
    }

    /// How many rows, of the request's.
    pub fn count(&self, rows: usize) -> usize {
        self.rows.as_ref().map_or(rows, Vec::len)
    }
}

/// Where the rows of these groups, one after the other, belong; `None`: in this order.
pub fn order(groups: &[Group]) -> Option<Vec<usize>> {
    groups.iter().map(|group| group.rows.as_deref()).collect::<Option<Vec<_>>>().map(|rows| rows.concat())
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

#[derive(Debug)]
enum Plan {
    /// Numbers side by side, row after row.
    Table {
        parts: Vec<Part>,
        width: usize,
    },
    /// One text a row.
    Texts {
        part: Source,
        steps: Vec<Textual>,
    },
    /// Arrays, all of one shape in a run.
    Array {
        part: Source,
        steps: Vec<Numeric>,
        shape: Option<Vec<usize>>,
    },
    Image {
        part: Source,
        steps: ImageSteps,
    },
}

#[derive(Clone, Debug)]
struct Source {
    column: ColumnId,
    /// Where a fault points to.
    field: String,
    /// What an error text calls it.
    name: String,
    pii: bool,
}

/// One field on its way into a table: numeric steps, then perhaps an encoding, then numeric steps again.
#[derive(Debug)]
struct Part {
    source: Source,
    kind: ColumnKind,
    /// Made of the source's number and of another field's.
    derived: Option<(Operation, ColumnId)>,
    /// Before an encoding, of a number or of a text.
    before: Vec<Numeric>,
    textual: Vec<Textual>,
    encode: Option<Encode>,
    after: Vec<Numeric>,
    indicator: bool,
    width: usize,
}

impl Preprocess {
    /// Checks the section `inputs` against schema and graph; without a section each graph input takes the field of its name.
    pub fn compile(section: Option<&Value>, fields: &[Field], signature: &Signature) -> Result<Preprocess, PreprocessError> {
        let empty = Map::new();
        let declared = match section {
            None => &empty,
            Some(Value::Object(declared)) => declared,
            Some(_) => return fail("", "must be an object"),
        };
        if let Some(unknown) = declared.keys().find(|name| !signature.inputs.iter().any(|spec| *spec.name == **name)) {
            let known: Vec<&str> = signature.inputs.iter().map(|spec| &*spec.name).collect();
            return fail(&format!("/{unknown}"), format!("the graph has no such input; it has {}", known.join(", ")));
        }
        let mut inputs = Vec::new();
        for spec in &signature.inputs {
            if spec.shape.0.is_empty() {
                return fail(&format!("/{}", spec.name), "the graph's input is a scalar; a package needs a leading dimension for rows");
            }
            if let Some(Dim::Fixed(rows)) = spec.shape.0.first()
                && *rows != 1
            {
                return fail(
                    &format!("/{}", spec.name),
                    format!("the graph takes exactly {rows} rows at once; export it with a free leading dimension"),
                );
            }
            let compiler = Compiler { pointer: format!("/{}", spec.name), fields, spec };
            let plan = match declared.get(&*spec.name) {
                Some(section) => compiler.section(section)?,
                None => compiler.single(&spec.name, Vec::new(), "").map_err(|error| match section {
                    Some(_) => error,
                    None => {
                        PreprocessError { pointer: error.pointer, detail: format!("{} (there is no preprocessing.json)", error.detail) }
                    }
                })?,
            };
            inputs.push(Input { spec: spec.clone(), plan });
        }
        let has_images = inputs.iter().any(|input| matches!(input.plan, Plan::Image { .. }));
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
                Ok(tensors) => all.push(Group { rows: Some(rows), tensors }),
                Err(found) => {
                    let place = |fault: RowFault| RowFault { row: rows.get(fault.row).copied().unwrap_or_default(), ..fault };
                    faults.extend(found.into_iter().map(place));
                    if faults.len() >= MAX_FAULTS {
                        break;
                    }
                }
            }
        }
        faults.sort_by_key(|fault| fault.row);
        if faults.is_empty() { Ok(all) } else { Err(faults) }
    }

    /// The rows by the shapes of their arrays, in the order of their first; `None` where all have the same.
    fn shapes(&self, columns: &Columns) -> Option<Vec<Vec<usize>>> {
        let arrays = self.inputs.iter().filter_map(|input| match (&input.plan, columns.columns.get(input.plan.column()?)) {
            (Plan::Array { .. }, Some(Column::Array(arrays))) if arrays.shapes.len() > 1 => Some(arrays),
            _ => None,
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
            let group = *known.entry(arrays.iter().map(shape).collect()).or_insert(groups.len());
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
        if faults.is_empty() && tensors.len() == self.inputs.len() { Ok(Tensors(tensors)) } else { Err(faults) }
    }
}

fn fail<T>(pointer: &str, detail: impl Into<String>) -> Result<T, PreprocessError> {
    Err(PreprocessError { pointer: pointer.to_owned(), detail: detail.into() })
}

impl Plan {
    /// The column of a plan that has only one.
    fn column(&self) -> Option<ColumnId> {
        match self {
            Plan::Table { .. } => None,
            Plan::Texts { part, .. } | Plan::Array { part, .. } | Plan::Image { part, .. } => Some(part.column),
        }
    }
}

impl Input {
    fn tensor(&self, columns: &Columns, faults: &mut Vec<RowFault>) -> Option<Tensor> {
        let rows = columns.rows;
        match &self.plan {
            Plan::Table { parts, width } => {
                let shape = if self.spec.shape.0.len() == 1 { vec![rows] } else { vec![rows, *width] };
                let exact = matches!(self.spec.datatype, DataType::Int64 | DataType::Uint64);
                let mut table = vec![0.0; rows * width];
                let mut at = 0;
                let before = faults.len();
                for part in parts {
                    part.write(columns, exact, &mut Cells { table: &mut table, width: *width, at }, faults);
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
                if faults.len() > before { None } else { Tensor::new(shape, data) }
            }
            Plan::Texts { part, steps } => {
                let Some(Column::Text(spans)) = columns.columns.get(part.column) else { return None };
                let mut texts = Vec::with_capacity(rows);
                for row in 0..rows {
                    match steps.iter().fold(text(spans, row).map(str::to_owned), |value, step| step.apply(value)) {
                        Some(text) => texts.push(text),
                        None => push(faults, row, part, "type", "must not be null: no preprocessing step takes it".to_owned()),
                    }
                }
                let shape = if self.spec.shape.0.len() == 1 { vec![rows] } else { vec![rows, 1] };
                Tensor::new(shape, Data::Bytes(texts))
            }
            Plan::Array { part, steps, shape } => self.array(columns, part, steps, shape.as_deref(), faults),
            Plan::Image { part, steps } => {
                let Some(Column::Binary(spans)) = columns.columns.get(part.column) else { return None };
                let mut all = Vec::new();
                let mut shape: Option<Vec<usize>> = None;
                for row in 0..rows {
                    let Some(bytes) = spans.get(row) else {
                        push(faults, row, part, "type", "must not be null".to_owned());
                        continue;
                    };
                    match steps.apply(bytes) {
                        Ok((this, numbers)) => {
                            if !shape_fits(&self.spec, &this) || shape.as_ref().is_some_and(|shape| *shape != this) {
                                push(
                                    faults,
                                    row,
                                    part,
                                    "contentMediaType",
                                    format!("has the shape {this:?} after preprocessing; the model takes {}", self.spec.shape),
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
        let Some(Column::Array(arrays)) = columns.columns.get(part.column) else { return None };
        let mut values = Vec::new();
        let mut common: Option<usize> = None;
        for (row, entry) in arrays.rows.iter().enumerate() {
            match entry {
                ArrayRow::Missing => push(faults, row, part, "type", "must not be null".to_owned()),
                ArrayRow::Ragged => push(faults, row, part, "items", "must have inner arrays of one length".to_owned()),
                ArrayRow::Dense { shape, .. } if common.is_some_and(|common| common != *shape) => {
                    push(faults, row, part, "items", "must have the same shape in all rows of a run".to_owned());
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
            push(faults, 0, part, "items", format!("has the shape {given:?}, which can't be reshaped to {shape:?}"));
            return None;
        }
        let full = self.spec.shape.completed([&[columns.rows], reshape.unwrap_or(given)].concat());
        let shape = full.get(1..).unwrap_or_default();
        if !shape_fits(&self.spec, shape) {
            push(faults, 0, part, "items", format!("has the shape {shape:?}; the model takes {}", self.spec.shape));
            return None;
        }
        for (cell, x) in values.iter_mut().enumerate() {
            match Numeric::run(steps, *x) {
                Some(value) => *x = value,
                None => push(faults, cell / length.max(1), part, "minimum", NOT_POSITIVE.to_owned()),
            }
        }
        let blame = |cell: usize| (cell / length.max(1), Some(part));
        let data = cast(&values, self.spec.datatype, &blame, faults)?;
        Tensor::new(full, data)
    }
}

fn text(spans: &Spans, row: usize) -> Option<&str> {
    // Only whole strings of a checked text are ever pushed.
    std::str::from_utf8(spans.get(row)?).ok()
}

fn shape_fits(spec: &TensorSpec, row: &[usize]) -> bool {
    fit(spec.shape.row(), row)
}

fn push(faults: &mut Vec<RowFault>, row: usize, source: &Source, keyword: &'static str, detail: String) {
    if faults.len() < MAX_FAULTS {
        faults.push(RowFault { row, field: source.field.clone(), keyword, detail: format!("{} {detail}", source.name) });
    }
}

const NOT_POSITIVE: &str = "must be above 0 for the box-cox step";

/// The cells of one part: `width` of the table, from `at` on.
struct Cells<'a> {
    table: &'a mut [f64],
    width: usize,
    at: usize,
}

impl Part {
    /// A field that goes into the table as it came.
    fn is_plain(&self) -> bool {
        self.encode.is_none() && self.before.is_empty() && !self.indicator && self.derived.is_none()
    }

    /// The number that the numeric steps begin with.
    fn number(&self, columns: &Columns, column: &Column, row: usize) -> f64 {
        match self.derived {
            None => number(column, row),
            Some((operation, other)) => match (column, columns.columns.get(other)) {
                (Column::Integer(a), Some(Column::Integer(b))) => match (a.get(row), b.get(row)) {
                    (Some(Some(a)), Some(Some(b))) => operation.apply_whole(*a, *b),
                    _ => f64::NAN,
                },
                (_, other) => operation.apply(number(column, row), other.map_or(f64::NAN, |other| number(other, row))),
            },
        }
    }

    fn write(&self, columns: &Columns, exact: bool, cells: &mut Cells<'_>, faults: &mut Vec<RowFault>) {
        let Some(column) = columns.columns.get(self.source.column) else { return };
        let (width, at) = (cells.width, cells.at);
        if let Some(encode) = &self.encode {
            self.encode(columns, encode, cells, faults);
            return;
        }
        let mut through = |row: usize, x: f64| {
            Numeric::run(&self.before, x).unwrap_or_else(|| {
                push(faults, row, &self.source, "minimum", NOT_POSITIVE.to_owned());
                0.0
            })
        };
        let rows = cells.table.chunks_mut(width).filter_map(|row| row.get_mut(at));
        match column {
            column if self.derived.is_some() => rows.enumerate().for_each(|(row, cell)| {
                let x = self.number(columns, column, row);
                *cell = if self.indicator { f64::from(u8::from(x.is_nan())) } else { through(row, x) };
            }),
            _ if self.indicator => rows.enumerate().for_each(|(row, cell)| *cell = f64::from(u8::from(missing(column, row)))),
            // Written exactly later on; a missing value is told by its NaN.
            Column::Integer(values) if exact && self.is_plain() => {
                rows.zip(values).for_each(|(cell, value)| *cell = if value.is_some() { 0.0 } else { f64::NAN });
            }
            Column::Number(values) => rows.zip(values).enumerate().for_each(|(row, (cell, x))| *cell = through(row, *x)),
            column => rows.enumerate().for_each(|(row, cell)| *cell = through(row, number(column, row))),
        }
    }

    fn encode(&self, columns: &Columns, encode: &Encode, cells: &mut Cells<'_>, faults: &mut Vec<RowFault>) {
        let Some(column) = columns.columns.get(self.source.column) else { return };
        let mut buffer = String::new();
        for (row, cell) in cells.table.chunks_mut(cells.width).enumerate() {
            let Some(cell) = cell.get_mut(cells.at..cells.at + self.width) else { return };
            let category = if self.before.is_empty() && self.derived.is_none() {
                category(column, row, &mut buffer)
            } else {
                let x = Numeric::run(&self.before, self.number(columns, column, row)).unwrap_or(f64::NAN);
                category_of_number(x, self.kind, &mut buffer)
            };
            let accepted = match self.textual.as_slice() {
                [] => encode.write(category, cell),
                [Textual::Impute { value, missing }] => {
                    encode.write(Some(category.filter(|text| !missing.iter().any(|known| known == text)).unwrap_or(value)), cell)
                }
                steps => {
                    let value = steps.iter().fold(category.map(str::to_owned), |value, step| step.apply(value));
                    encode.write(value.as_deref(), cell)
                }
            };
            if !accepted {
                let (keyword, detail) = encode.refusal();
                push(faults, row, &self.source, keyword, detail.to_owned());
            }
            if !self.after.is_empty() {
                for x in cell {
                    match Numeric::run(&self.after, *x) {
                        Some(value) => *x = value,
                        None => push(faults, row, &self.source, "minimum", NOT_POSITIVE.to_owned()),
                    }
                }
            }
        }
    }
}

/// A value as a number; NaN where it is missing or none.
fn number(column: &Column, row: usize) -> f64 {
    match column {
        Column::Number(values) => values.get(row).copied().unwrap_or(f64::NAN),
        Column::Integer(values) => values.get(row).copied().flatten().map_or(f64::NAN, |value| value as f64),
        Column::Boolean(values) => values.get(row).copied().flatten().map_or(f64::NAN, |value| f64::from(u8::from(value))),
        Column::Text(_) | Column::Binary(_) | Column::Array(_) => f64::NAN,
    }
}

/// Whole numbers beyond 2^53 must not pass through a float64: where the graph takes 64-bit integers, fields that go there
/// as they came are written once more, exactly.
fn write_exactly(parts: &[Part], columns: &Columns, width: usize, data: &mut Data, faults: &mut Vec<RowFault>) {
    let mut at = 0;
    for part in parts {
        let values = columns.columns.get(part.source.column).filter(|_| part.is_plain());
        if let Some(Column::Integer(values)) = values {
            for (row, value) in values.iter().enumerate() {
                let Some(value) = value else { continue };
                let cell = row * width + at;
                let written = match data {
                    Data::Int64(cells) => cells.get_mut(cell).map(|cell| *cell = *value),
                    Data::Uint64(cells) => cells.get_mut(cell).zip(u64::try_from(*value).ok()).map(|(cell, value)| *cell = value),
                    _ => return,
                };
                if written.is_none() {
                    push(faults, row, &part.source, "dtype", format!("does not fit {}", data.datatype()));
                }
            }
        }
        at += part.width;
    }
}

fn missing(column: &Column, row: usize) -> bool {
    match column {
        Column::Text(spans) | Column::Binary(spans) => spans.get(row).is_none(),
        Column::Array(arrays) => matches!(arrays.rows.get(row), Some(ArrayRow::Missing)),
        Column::Boolean(values) => values.get(row).is_none_or(Option::is_none),
        Column::Integer(values) => values.get(row).is_none_or(Option::is_none),
        Column::Number(values) => values.get(row).is_none_or(|value| value.is_nan()),
    }
}

/// A category's text: numbers and booleans as JSON prints them.
fn category<'a>(column: &'a Column, row: usize, buffer: &'a mut String) -> Option<&'a str> {
    use std::fmt::Write;
    buffer.clear();
    match column {
        Column::Text(spans) => return text(spans, row),
        Column::Boolean(values) => return values.get(row).copied().flatten().map(|value| if value { "true" } else { "false" }),
        Column::Integer(values) => write!(buffer, "{}", values.get(row).copied().flatten()?).ok()?,
        Column::Number(values) => return category_of_number(values.get(row).copied()?, ColumnKind::Number, buffer),
        Column::Binary(_) | Column::Array(_) => return None,
    }
    Some(buffer)
}

/// A number as a category; -0 is 0.
fn category_of_number(value: f64, kind: ColumnKind, buffer: &mut String) -> Option<&str> {
    use std::fmt::Write;
    buffer.clear();
    if value.is_nan() {
        return None;
    }
    match kind {
        ColumnKind::Boolean if value == 1.0 => buffer.push_str("true"),
        ColumnKind::Boolean if value == 0.0 => buffer.push_str("false"),
        _ => write!(buffer, "{}", value + 0.0).ok()?,
    }
    Some(buffer)
}

/// A float64 as float32, rounded to odd, so that rounding it once more gives what rounding once would have given.
fn to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let exact = f64::from(nearest) == x || x.is_nan();
    if exact || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    // The neighbour on the other side of `x` is odd.
    if f64::from(nearest.abs()) > x.abs() { f32::from_bits(nearest.to_bits() - 1) } else { f32::from_bits(nearest.to_bits() + 1) }
}

/// The one cast at the end: a value that does not fit its type is a fault, never wrapped and never infinite.
fn cast<'a>(
    values: &[f64],
    datatype: DataType,
    blame: &dyn Fn(usize) -> (usize, Option<&'a Source>),
    faults: &mut Vec<RowFault>,
) -> Option<Data> {
    let mut complain = |cell: usize, missing: bool| {
        if let (row, Some(source)) = blame(cell) {
            let given = values.get(cell).copied().unwrap_or_default();
            match missing {
                true => push(
                    faults,
                    row,
                    source,
                    "type",
                    "must not be null: the model's input has no missing value and no preprocessing step takes it".to_owned(),
                ),
                false if source.pii => push(faults, row, source, "dtype", format!("does not fit {datatype}")),
                false => push(faults, row, source, "dtype", format!("does not fit {datatype} (its value after preprocessing is {given})")),
            }
        }
    };
    macro_rules! float {
        ($convert:expr) => {{
            let converted: Vec<_> = values.iter().map(|x| $convert(*x)).collect();
            // NaN is a missing value here, as the step before it left it; what overflowed is not.
            for (cell, x) in converted.iter().enumerate() {
                if x.is_infinite() {
                    complain(cell, false);
                }
            }
            converted
        }};
    }
    macro_rules! integer {
        ($type:ty) => {{
            let mut converted = Vec::with_capacity(values.len());
            for (cell, x) in values.iter().enumerate() {
                let whole = x.fract() == 0.0 && *x >= <$type>::MIN as f64 && *x < <$type>::MAX as f64 + 1.0;
                if !whole {
                    complain(cell, x.is_nan());
                }
                converted.push(*x as $type);
            }
            converted
        }};
    }
    Some(match datatype {
        DataType::Fp32 => Data::Fp32(float!(|x| x as f32).into()),
        DataType::Fp64 => Data::Fp64(float!(|x: f64| x).into()),
        DataType::Fp16 => Data::Fp16(float!(|x| f16::from_f32(to_odd(x))).into()),
        DataType::Bf16 => Data::Bf16(float!(|x| bf16::from_f32(to_odd(x))).into()),
        DataType::Int8 => Data::Int8(integer!(i8).into()),
        DataType::Int16 => Data::Int16(integer!(i16).into()),
        DataType::Int32 => Data::Int32(integer!(i32).into()),
        DataType::Int64 => Data::Int64(integer!(i64).into()),
        DataType::Uint8 => Data::Uint8(integer!(u8).into()),
        DataType::Uint16 => Data::Uint16(integer!(u16).into()),
        DataType::Uint32 => Data::Uint32(integer!(u32).into()),
        DataType::Uint64 => Data::Uint64(integer!(u64).into()),
        DataType::Bool => {
            let mut converted = Vec::with_capacity(values.len());
            for (cell, x) in values.iter().enumerate() {
                if *x != 0.0 && *x != 1.0 {
                    complain(cell, x.is_nan());
                }
                converted.push(*x != 0.0);
            }
            Data::Bool(converted)
        }
        DataType::Bytes => return None,
    })
}

struct Compiler<'a> {
    pointer: String,
    fields: &'a [Field],
    spec: &'a TensorSpec,
}

impl Compiler<'_> {
    fn fail<T>(&self, below: &str, detail: impl Into<String>) -> Result<T, PreprocessError> {
        fail(&format!("{}{below}", self.pointer), detail)
    }

    fn section(&self, section: &Value) -> Result<Plan, PreprocessError> {
        let Some(members) = section.as_object() else { return self.fail("", "must be an object") };
        if let Some(unknown) = members.keys().find(|key| !["dtype", "columns", "field", "steps"].contains(&key.as_str())) {
            return self.fail(&format!("/{unknown}"), "unknown member; known are dtype, columns, field, steps");
        }
        match members.get("dtype").map(|dtype| dtype.as_str().and_then(DataType::from_numpy_name)) {
            Some(Some(datatype)) if datatype == self.spec.datatype => {}
            Some(Some(_)) => return self.fail("/dtype", format!("the graph takes {}", self.spec.datatype)),
            _ => return self.fail("/dtype", format!("must be a type such as \"{}\"", self.spec.datatype)),
        }
        match (members.get("columns"), members.get("field").and_then(Value::as_str)) {
            (None, Some(field)) => self.single(field, self.steps(members.get("steps"), "/steps")?, ""),
            (Some(Value::Array(columns)), None) => self.table(columns),
            _ => self.fail("", "needs either \"columns\" (a list) or \"field\" (a name)"),
        }
    }

    fn steps(&self, list: Option<&Value>, below: &str) -> Result<Vec<Step>, PreprocessError> {
        let Some(list) = list else { return Ok(Vec::new()) };
        let Some(list) = list.as_array() else { return self.fail(below, "must be a list of steps") };
        let parse = |(index, step): (usize, &Value)| {
            serde_json::from_value::<Step>(step.clone()).map_err(|error| {
                let detail = error.to_string().replace("unknown variant", "unknown step").replace("expected one of", "known are");
                PreprocessError { pointer: format!("{}{below}/{index}", self.pointer), detail }
            })
        };
        list.iter().enumerate().map(parse).collect()
    }

    fn source(&self, field: &str, below: &str) -> Result<(Source, &Field), PreprocessError> {
        match self.fields.iter().enumerate().find(|(_, known)| known.name == field) {
            Some((column, found)) => {
                let name = format!("`{}`", field.trim_start_matches('/'));
                Ok((Source { column, field: field.to_owned(), name, pii: found.pii }, found))
            }
            None => {
                let nearest = self.fields.iter().min_by_key(|known| strsim::damerau_levenshtein(&known.name, field));
                let hint = nearest.map(|known| format!("; did you mean \"{}\"?", known.name)).unwrap_or_default();
                self.fail(below, format!("the schema has no field \"{field}\" with values of one type{hint}"))
            }
        }
    }

    fn table(&self, columns: &[Value]) -> Result<Plan, PreprocessError> {
        let mut parts = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            let below = format!("/columns/{index}");
            let Some(members) = column.as_object() else { return self.fail(&below, "must be an object") };
            if let Some(unknown) = members.keys().find(|key| *key != "steps" && !MEMBERS.contains(&key.as_str())) {
                return self.fail(&format!("{below}/{unknown}"), format!("unknown member; known are {}, steps", MEMBERS.join(", ")));
            }
            let steps = self.steps(members.get("steps"), &format!("{below}/steps"))?;
            let mut named = members.iter().filter(|(key, _)| *key != "steps");
            let part = match (named.next(), named.next()) {
                (Some((key, field)), None) if key == "field" => {
                    let Some(field) = field.as_str() else { return self.fail(&format!("{below}/field"), "must name a field") };
                    self.part(field, &steps, &below)?
                }
                (Some((key, written)), None) => self.derived(key, written, &steps, &below)?,
                _ => return self.fail(&below, format!("needs exactly one of {}", MEMBERS.join(", "))),
            };
            parts.push(part);
        }
        self.finish_table(parts)
    }

    fn finish_table(&self, parts: Vec<Part>) -> Result<Plan, PreprocessError> {
        let width = parts.iter().map(|part| part.width).sum();
        let fits = match self.spec.shape.row() {
            [] => width == 1,
            [dim] => dim.fits(width),
            _ => false,
        };
        if !fits {
            return self.fail("", format!("makes {width} columns; the graph takes {}", self.spec.shape));
        }
        if self.spec.datatype == DataType::Bytes {
            return self.fail("", "the graph takes texts here; name one text field");
        }
        Ok(Plan::Table { parts, width })
    }

    fn single(&self, field: &str, steps: Vec<Step>, below: &str) -> Result<Plan, PreprocessError> {
        let (source, found) = self.source(field, below)?;
        match found.kind {
            ColumnKind::Binary => self.image(source, &steps),
            ColumnKind::Array | ColumnKind::BooleanArray => self.array(source, found, &steps),
            ColumnKind::Text if self.spec.datatype == DataType::Bytes => {
                if !matches!(self.spec.shape.row(), [] | [Dim::Any | Dim::Rest | Dim::Fixed(1)]) {
                    return self.fail("", format!("a text gives [N] or [N, 1]; the graph takes {}", self.spec.shape));
                }
                let mut compiled = Vec::new();
                for (index, step) in steps.iter().enumerate() {
                    match self.textual(step, found, &format!("/steps/{index}"))? {
                        Some(step) => compiled.push(step),
                        None => return self.fail(&format!("/steps/{index}"), "only text steps lead to a text"),
                    }
                }
                Ok(Plan::Texts { part: source, steps: compiled })
            }
            _ => self.part(field, &steps, below).and_then(|part| self.finish_table(vec![part])),
        }
    }

    fn array(&self, source: Source, found: &Field, steps: &[Step]) -> Result<Plan, PreprocessError> {
        let mut numeric = Vec::new();
        let mut shape = None;
        for (index, step) in steps.iter().enumerate() {
            let below = format!("/steps/{index}");
            match step {
                Step::Reshape { shape: wanted } => shape = Some(wanted.clone()),
                step => match self.numeric(step, &below)? {
                    Some(step) => numeric.push(step),
                    None => return self.fail(&below, "this step does not take an array of numbers"),
                },
            }
        }
        if let Some(known) = &found.array_shape {
            if let Some(shape) = &shape
                && shape.iter().product::<usize>() != known.iter().product::<usize>()
            {
                return self.fail("/steps", format!("an array of the shape {known:?} can't be reshaped to {shape:?}"));
            }
            let result = shape.as_ref().unwrap_or(known);
            if !shape_fits(self.spec, result) {
                return self.fail("", format!("gives rows of the shape {result:?}; the graph takes {}", self.spec.shape));
            }
        }
        Ok(Plan::Array { part: source, steps: numeric, shape })
    }

    fn image(&self, source: Source, steps: &[Step]) -> Result<Plan, PreprocessError> {
        let Some(Step::DecodeImage { mode }) = steps.first() else {
            return self.fail("/steps", "base64 content needs decode_image as its first step");
        };
        let mut compiled = ImageSteps { mode: *mode, after: Vec::new(), layout: Layout::Nhwc };
        let mut numbers = false;
        for (index, step) in steps.iter().enumerate().skip(1) {
            let below = format!("/steps/{index}");
            match step {
                Step::Resize { height, width, interpolation } if *height > 0 && *width > 0 && !numbers => {
                    compiled.after.push(ImageStep::Resize { height: *height, width: *width, interpolation: *interpolation });
                }
                Step::CenterCrop { height, width } if *height > 0 && *width > 0 && !numbers => {
                    compiled.after.push(ImageStep::CenterCrop { height: *height, width: *width });
                }
                Step::Resize { .. } | Step::CenterCrop { .. } => {
                    return self.fail(&below, "sizes must be at least 1, and come before rescale and normalize");
                }
                Step::Rescale { factor } if factor.is_finite() => {
                    numbers = true;
                    compiled.after.push(ImageStep::Rescale(*factor));
                }
                Step::Normalize { mean, std } => {
                    numbers = true;
                    if mean.len() != compiled.channels() || std.len() != compiled.channels() {
                        return self.fail(&below, format!("mean and std need {} values, one a channel", compiled.channels()));
                    }
                    if std.iter().any(|std| *std == 0.0 || !std.is_finite()) {
                        return self.fail(&format!("{below}/normalize/std"), "must not be 0");
                    }
                    compiled.after.push(ImageStep::Normalize { mean: mean.clone(), std: std.clone() });
                }
                Step::Layout(layout) if index + 1 == steps.len() => compiled.layout = *layout,
                Step::Layout(_) => return self.fail(&below, "must be the last step"),
                _ => return self.fail(&below, "this step does not take an image"),
            }
        }
        Ok(Plan::Image { part: source, steps: compiled })
    }

    fn part(&self, field: &str, steps: &[Step], below: &str) -> Result<Part, PreprocessError> {
        let (source, found) = self.source(field, &format!("{below}/field"))?;
        self.steps_of(source, found, None, steps, below)
    }

    /// A column made of two fields.
    fn derived(&self, member: &str, written: &Value, steps: &[Step], below: &str) -> Result<Part, PreprocessError> {
        let pointer = format!("{below}/{member}");
        let declared = Declared::read(member, written).or_else(|(deeper, detail)| self.fail(&format!("{pointer}{deeper}"), detail))?;
        let number = |key: &str, name: &str| {
            let (source, found) = self.source(name, &format!("{pointer}/{key}"))?;
            match found.kind {
                ColumnKind::Boolean | ColumnKind::Integer | ColumnKind::Number => Ok(source),
                _ => self.fail(&format!("{pointer}/{key}"), format!("`{name}` is neither a number nor a boolean")),
            }
        };
        let (mut source, other) = (number("of", declared.of)?, number(declared.with.0, declared.with.1)?);
        source.name = format!("{} {} {}", source.name, declared.operation.sign(), other.name);
        source.pii |= other.pii;
        let made = Field { name: source.name.clone(), kind: ColumnKind::Number, nullable: true, array_shape: None, pii: source.pii };
        self.steps_of(source, &made, Some((declared.operation, other.column)), steps, below)
    }

    fn steps_of(
        &self,
        source: Source,
        found: &Field,
        derived: Option<(Operation, ColumnId)>,
        steps: &[Step],
        below: &str,
    ) -> Result<Part, PreprocessError> {
        let mut part = Part {
            source,
            kind: found.kind,
            derived,
            before: Vec::new(),
            textual: Vec::new(),
            encode: None,
            after: Vec::new(),
            indicator: false,
            width: 1,
        };
        for (index, step) in steps.iter().enumerate() {
            let below = format!("{below}/steps/{index}");
            if part.indicator {
                return self.fail(&below, "nothing may follow missing_indicator; name the field once more for its value");
            }
            let is_category = part.encode.is_none() && (found.kind == ColumnKind::Text || self.encode(step, found, &below)?.is_some());
            if matches!(step, Step::MissingIndicator(_)) && index == 0 {
                part.indicator = true;
            } else if is_category {
                if let Some(encode) = self.encode(step, found, &below)? {
                    part.width = encode.width();
                    part.encode = Some(encode);
                } else if let Some(step) = self.textual(step, found, &below)? {
                    part.textual.push(step);
                } else {
                    return self.fail(&below, "this step does not take a text");
                }
            } else if let Some(step) = self.numeric(step, &below)? {
                if part.width > 1 && !matches!(part.encode, Some(Encode::Dates(_))) {
                    return self.fail(&below, "no numeric step may follow one that makes several columns");
                }
                if part.encode.is_none() { &mut part.before } else { &mut part.after }.push(step);
            } else {
                return self.fail(&below, "this step does not take a number");
            }
        }
        let is_number = !matches!(found.kind, ColumnKind::Text | ColumnKind::Binary) && !found.kind.is_array();
        if !is_number && part.encode.is_none() && !part.indicator {
            return self.fail(
                below,
                format!("{} is not a number: encode it with one_hot, ordinal, target_encode, hash or date_parts", part.source.name),
            );
        }
        Ok(part)
    }

    fn numeric(&self, step: &Step, below: &str) -> Result<Option<Numeric>, PreprocessError> {
        let divisor = |value: f64, name: &str| {
            if value == 0.0 || !value.is_finite() { self.fail(below, format!("{name} must be a number other than 0")) } else { Ok(value) }
        };
        let number = |value: &Value| match value {
            Value::Bool(value) => Ok(f64::from(u8::from(*value))),
            value => value.as_f64().map_or_else(|| self.fail(below, "must be a number"), Ok),
        };
        Ok(Some(match step {
            Step::Impute(Impute { value, missing_values }) => {
                let missing = missing_values.iter().filter(|value| !value.is_null()).map(number).collect::<Result<_, _>>()?;
                Numeric::Impute { value: number(value)?, missing }
            }
            Step::StandardScale { mean, std } => Numeric::Scale { offset: *mean, divisor: divisor(*std, "std")? },
            Step::MinMaxScale { min, max } => Numeric::Scale { offset: *min, divisor: divisor(max - min, "max - min")? },
            Step::RobustScale { center, scale } => Numeric::Scale { offset: *center, divisor: divisor(*scale, "scale")? },
            Step::Rescale { factor } => Numeric::Rescale(divisor(*factor, "factor")?),
            Step::Clip { min, max } => {
                let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
                if min > max {
                    return self.fail(below, "min is above max");
                }
                Numeric::Clip { min, max }
            }
            Step::Log1p(_) => Numeric::Log1p,
            Step::Power { method, lambda } => Numeric::Power {
                method: *method,
                lambda: check_lambda(*method, *lambda).map_or_else(|detail| self.fail(below, detail), Ok)?,
            },
            Step::Bucketize { boundaries, right } => {
                if boundaries.is_empty() || !boundaries.is_sorted_by(|a, b| a < b) {
                    return self.fail(below, "boundaries must be numbers in ascending order, none twice");
                }
                Numeric::Bucketize { boundaries: boundaries.clone(), right: *right }
            }
            _ => return Ok(None),
        }))
    }

    fn textual(&self, step: &Step, found: &Field, below: &str) -> Result<Option<Textual>, PreprocessError> {
        let plain = |value: &Value| match (value, found.kind) {
            (Value::String(text), ColumnKind::Text) => Ok(text.clone()),
            (Value::Number(_) | Value::Bool(_), ColumnKind::Number | ColumnKind::Integer | ColumnKind::Boolean) => Ok(value.to_string()),
            _ => self.fail(below, "must be of the field's type"),
        };
        Ok(Some(match step {
            Step::Impute(Impute { value, missing_values }) => {
                let missing = missing_values.iter().filter(|value| !value.is_null()).map(plain).collect::<Result<_, _>>()?;
                Textual::Impute { value: plain(value)?, missing }
            }
            Step::Lowercase(_) => Textual::Lowercase,
            Step::Strip(_) => Textual::Strip,
            Step::NormalizeUnicode { form } => Textual::Normalize(*form),
            Step::RegexReplace { pattern, replacement } => {
                let pattern = Regex::new(pattern).or_else(|error| self.fail(below, format!("the pattern does not compile: {error}")))?;
                Textual::Replace { pattern, replacement: replacement.clone() }
            }
            _ => return Ok(None),
        }))
    }

    fn encode(&self, step: &Step, found: &Field, below: &str) -> Result<Option<Encode>, PreprocessError> {
        let keys = |categories: &[Value]| {
            let mut keys = Vec::new();
            for (at, category) in categories.iter().enumerate() {
                let mut buffer = String::new();
                let key = match (category, found.kind) {
                    (Value::String(text), ColumnKind::Text) => text.clone(),
                    (Value::Bool(value), ColumnKind::Boolean) => value.to_string(),
                    (Value::Number(number), ColumnKind::Integer) if number.is_i64() => number.to_string(),
                    (Value::Number(number), ColumnKind::Integer | ColumnKind::Number) => {
                        number.as_f64().and_then(|value| category_of_number(value, found.kind, &mut buffer)).unwrap_or_default().to_owned()
                    }
                    _ => return self.fail(&format!("{below}/categories/{at}"), "must be of the field's type"),
                };
                if keys.contains(&key) {
                    return self.fail(&format!("{below}/categories/{at}"), format!("the category {category} is there twice"));
                }
                keys.push(key);
            }
            if keys.is_empty() { self.fail(&format!("{below}/categories"), "must not be empty") } else { Ok(Categories::new(keys)) }
        };
        Ok(Some(match step {
            Step::OneHot { categories, unknown } => Encode::OneHot { categories: keys(categories)?, unknown: *unknown },
            Step::Ordinal { categories, unknown } => {
                let unknown = match unknown {
                    Value::String(text) if text == "error" => None,
                    value => Some(value.as_f64().map_or_else(|| self.fail(below, "unknown must be a number or \"error\""), Ok)?),
                };
                Encode::Table { values: (0..categories.len()).map(|at| at as f64).collect(), categories: keys(categories)?, unknown }
            }
            Step::TargetEncode { categories, values, default } => {
                if categories.len() != values.len() {
                    return self.fail(below, format!("{} categories, but {} values", categories.len(), values.len()));
                }
                Encode::Table { values: values.clone(), categories: keys(categories)?, unknown: Some(*default) }
            }
            Step::DateParts { .. } if found.kind != ColumnKind::Text => return self.fail(below, "date_parts takes a text field"),
            Step::DateParts { parts, unknown } => {
                let parts = DateParts::compile(parts, unknown);
                Encode::Dates(parts.or_else(|(pointer, detail)| self.fail(&format!("{below}{pointer}"), detail))?)
            }
            Step::Hash { n_features: 0, .. } => return self.fail(below, "n_features must be at least 1"),
            Step::Hash { n_features, alternate_sign } => Encode::Hash { width: *n_features, alternate_sign: *alternate_sign },
            _ => return Ok(None),
        }))
    }
}

fn check_lambda(method: PowerMethod, lambda: f64) -> Result<f64, String> {
    if lambda.is_finite() { Ok(lambda) } else { Err(format!("lambda of {method:?} must be finite")) }
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
        transform::preprocess::{Field, Group, Preprocess, PreprocessError, RowFault, order},
    };

    const FIELDS: [(&str, ColumnKind, bool); 4] = [
        ("a", ColumnKind::Number, false),
        ("b", ColumnKind::Integer, false),
        ("secret", ColumnKind::Number, true),
        ("day", ColumnKind::Text, false),
    ];

    fn compile(columns: &Value) -> Result<Preprocess, PreprocessError> {
        let field =
            |(name, kind, pii): (&str, ColumnKind, bool)| Field { name: name.to_owned(), kind, nullable: true, array_shape: None, pii };
        let spec = TensorSpec { name: "X".into(), datatype: DataType::Fp32, shape: Shape(vec![Dim::Any, Dim::Any]) };
        let section = json!({"X": {"dtype": "float32", "columns": columns}});
        Preprocess::compile(Some(&section), &FIELDS.map(field), &Signature { inputs: vec![spec], outputs: Vec::new() })
    }

    /// What is wrong with the only row.
    fn faults(columns: &Value, (a, b, secret): (f64, i64, f64), day: Option<&str>) -> Vec<RowFault> {
        let mut days = Spans::default();
        match day {
            Some(day) => days.push(day.as_bytes()),
            None => days.push_missing(),
        }
        let row = vec![Column::Number(vec![a]), Column::Integer(vec![Some(b)]), Column::Number(vec![secret]), Column::Text(days)];
        compile(columns).unwrap().apply(&Columns { rows: 1, columns: row }).map(|_| ()).unwrap_err()
    }

    #[test]
    fn columns_are_checked() {
        let cases = [
            (json!([{"ratio": {"of": "a", "to": "x"}}]), "/X/columns/0/ratio/to", "no field \"x\""),
            (json!([{"field": "a"}, {"product": {"of": "x", "by": "a"}}]), "/X/columns/1/product/of", "no field \"x\""),
            (json!([{"difference": {"of": "a", "minus": "day"}}]), "/X/columns/0/difference/minus", "neither a number nor a boolean"),
            (json!([{"difference": {"of": "a", "by": "b"}}]), "/X/columns/0/difference/by", "known are of, minus"),
            (json!([{"difference": {"of": "a"}}]), "/X/columns/0/difference/minus", "must name a field"),
            (json!([{"product": {"of": "a", "by": "b", "zero": 1}}]), "/X/columns/0/product/zero", "known are of, by"),
            (json!([{"ratio": {"of": "a", "to": "b", "zero": "none"}}]), "/X/columns/0/ratio/zero", "a number, or null"),
            (json!([{"ratio": {"of": "a", "to": "b"}, "field": "a"}]), "/X/columns/0", "exactly one of field, ratio, difference, product"),
            (json!([{"steps": []}]), "/X/columns/0", "exactly one"),
            (json!([{"field": "a", "sum": {}}]), "/X/columns/0/sum", "unknown member"),
            (json!([{"ratio": {"of": "a", "to": "b"}, "steps": [{"lowercase": {}}]}]), "/X/columns/0/steps/0", "does not take a number"),
            (json!([{"field": "a", "steps": [{"date_parts": {"parts": ["year"], "unknown": 0}}]}]), "/X/columns/0/steps/0", "a text field"),
            (json!([{"field": "day", "steps": [{"date_parts": {"parts": ["era"], "unknown": 0}}]}]), "/X/columns/0/steps/0/parts/0", "era"),
            (json!([{"field": "day", "steps": [{"date_parts": {"parts": ["year"]}}]}]), "/X/columns/0/steps/0", "missing field `unknown`"),
        ];
        for (columns, pointer, detail) in cases {
            let error = compile(&columns).map(|_| ()).unwrap_err();
            assert_eq!(error.pointer, pointer, "{columns}: {error:?}");
            assert!(error.detail.contains(detail), "{columns}: {error:?}");
        }
    }

    /// Two inputs of a free length, `ids` and `mask`, from rows of these lengths; `None` is a value that is missing.
    fn grouped(rows: &[(Option<usize>, usize)]) -> Result<Vec<Group>, Vec<RowFault>> {
        let spec = |name: &str| TensorSpec { name: name.into(), datatype: DataType::Int64, shape: Shape(vec![Dim::Any, Dim::Any]) };
        let signature = Signature { inputs: vec![spec("ids"), spec("mask")], outputs: Vec::new() };
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
            arrays.values.extend(std::iter::repeat_n(row as f64, length));
            arrays.push_row(start, Some(&[length]));
        };
        for (row, (length, masked)) in rows.iter().enumerate() {
            match length {
                Some(length) => push(&mut ids, row, *length),
                None => ids.push_missing(),
            }
            push(&mut mask, row, *masked);
        }
        let columns = Columns { rows: rows.len(), columns: vec![Column::Array(ids), Column::Array(mask)] };
        Preprocess::compile(None, &fields, &signature).unwrap().apply(&columns)
    }

    #[test]
    fn rows_are_grouped_by_the_shapes_of_all_their_arrays() {
        let rows = |rows: &[(Option<usize>, usize)]| grouped(rows).unwrap().into_iter().map(|group| group.rows).collect::<Vec<_>>();
        assert_eq!(rows(&[(Some(2), 3), (Some(2), 3)]), [None]);
        assert_eq!(rows(&[(Some(2), 3)]), [None]);
        assert_eq!(rows(&[(Some(2), 3), (Some(1), 3), (Some(2), 4), (Some(1), 3)]), [Some(vec![0]), Some(vec![1, 3]), Some(vec![2])]);

        let groups = grouped(&[(Some(2), 1), (Some(3), 1), (Some(2), 1)]).unwrap();
        assert_eq!(order(&groups), Some(vec![0, 2, 1]));
        assert_eq!((groups[0].count(3), groups[1].count(3)), (2, 1));
        let ids = groups[0].tensors.get("ids").unwrap();
        assert_eq!((ids.shape(), ids.data()), (&[2, 2][..], &Data::Int64(vec![0, 0, 2, 2].into())));
        assert_eq!(order(&grouped(&[(Some(2), 1)]).unwrap()), None);
    }

    #[test]
    fn a_fault_in_a_group_names_the_row_of_the_request() {
        let faults = grouped(&[(Some(2), 1), (Some(3), 1), (None, 1), (Some(3), 1), (None, 1)]).unwrap_err();
        assert_eq!(faults.iter().map(|fault| (fault.row, fault.keyword)).collect::<Vec<_>>(), [(2, "type"), (4, "type")]);
    }

    #[test]
    fn a_value_that_may_not_be_shown_is_not_shown() {
        let found = faults(&json!([{"ratio": {"of": "a", "to": "b"}}]), (7.5, 0, 1.0), None);
        assert_eq!((found[0].field.as_str(), found[0].keyword), ("a", "dtype"));
        assert_eq!(found[0].detail, "`a` / `b` does not fit float32 (its value after preprocessing is inf)");
        for columns in [json!([{"product": {"of": "a", "by": "secret"}}]), json!([{"product": {"of": "secret", "by": "a"}}])] {
            assert!(faults(&columns, (1e30, 0, 1e30), None)[0].detail.ends_with("does not fit float32"));
        }
    }

    #[test]
    fn no_date_is_a_fault_of_its_format() {
        let columns = json!([{"field": "day", "steps": [{"date_parts": {"parts": ["year"], "unknown": "error"}}]}]);
        for day in [None, Some("soon")] {
            let found = faults(&columns, (0.0, 0, 0.0), day);
            assert_eq!((found[0].keyword, found[0].detail.as_str()), ("format", "`day` must be a date or a date-time"));
        }
    }
}
