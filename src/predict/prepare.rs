//! Prepare: from what a protocol brought to the graph's input tensors. Decode and preprocess, the same for every protocol.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    metrics::Stage,
    package::{
        columns::Columns,
        decode::{DecodeError, DecodeLimits, RowForm, decode_request, decode_rows},
        fault::{Fault, MAX_FAULTS},
        fields, locate,
        rows::{self, Rows},
        signature::{Signature, TensorSpec},
        table::{self, Table},
        wire::{Elements, WireTensor},
    },
    predict::{PredictError, Timing},
    registry::servable::{Contents, Packaged, Servable},
    tensor::{DataType, Dim, Tensor, Tensors},
};

/// Requests beyond these limits are refused before memory is spent on them; the body's size limits the rest.
const LIMITS: DecodeLimits = DecodeLimits { max_instances: 65_536, max_depth: 64, max_array_values: 64 << 20 };

/// A request's data, as its protocol carries it.
#[derive(Debug)]
pub enum Input {
    /// predictd's own: `{"instances": [...], "id": ...}`, or one bare instance.
    Instances(Bytes),
    /// Inputs by name; an empty name stands for the only input.
    Tensors(Vec<WireTensor>),
    Rows(Rows),
    Table(Table),
}

impl Input {
    /// Bytes that somebody will have to go through one by one.
    pub fn weight(&self, servable: &Servable) -> usize {
        let tensor = |tensor: &WireTensor| match &tensor.elements {
            Elements::Json(text) => text.len(),
            Elements::Raw(bytes) if servable.fields().is_some() || tensor.datatype == Some(DataType::Bytes) => bytes.len(),
            Elements::Raw(_) => 0,
            Elements::Values(data) => {
                if servable.fields().is_some() {
                    data.len() * 8
                } else {
                    0
                }
            }
            Elements::Texts(texts) => texts.iter().map(Bytes::len).sum(),
        };
        match self {
            Input::Instances(body) => body.len(),
            Input::Tensors(tensors) => tensors.iter().map(tensor).sum(),
            Input::Rows(rows) => rows.text.len(),
            Input::Table(table) => table.text.len(),
        }
    }
}

/// What goes to the engines.
pub struct Prepared {
    pub tensors: Tensors,
    pub rows: usize,
    /// One run of its own: there is no batch axis to cut along.
    pub whole: bool,
    /// The answer is the graph's own outputs.
    pub raw: bool,
    pub client_id: Option<String>,
    pub timing: Timing,
}

/// Decodes and preprocesses. `wanted` are outputs that the caller names; `explicit` says that it named a version.
pub fn prepare(servable: &Servable, input: Input, wanted: &[String], explicit: bool) -> Result<Prepared, PredictError> {
    let start = Instant::now();
    match (input, &servable.contents) {
        (Input::Instances(body), Contents::Package(packaged)) => {
            let decoded = decode_request(&packaged.package.parts.input, &body, &LIMITS)?;
            from_columns(packaged, &decoded.columns, decoded.single, decoded.id, start)
        }
        (Input::Instances(body), Contents::Bare(_)) => {
            let (rows, id) = rows::read_envelope(body).map_err(PredictError::Malformed)?;
            let tensors = rows::to_tensors(rows, &servable.graph).map_err(PredictError::Malformed)?;
            from_tensors(servable, tensors, start).map(|prepared| Prepared { client_id: id, ..of_rows(prepared) })
        }
        (Input::Rows(rows), Contents::Package(packaged)) => {
            let form = RowForm { names: rows.names.as_deref(), ignore_unknown: rows.frame, null_is_missing: rows.frame };
            let columns = decode_rows(&packaged.package.parts.input, &rows.text, form, &LIMITS)?;
            from_columns(packaged, &columns, false, None, start)
        }
        (Input::Rows(rows), Contents::Bare(_)) => {
            let tensors = rows::to_tensors(rows, &servable.graph).map_err(PredictError::Malformed)?;
            from_tensors(servable, tensors, start).map(of_rows)
        }
        (Input::Table(table), Contents::Package(packaged)) => {
            let schema = &packaged.package.parts.input;
            let rows = table::to_rows(&table, schema.columns()).map_err(PredictError::Malformed)?;
            let form = RowForm { names: rows.names.as_deref(), ignore_unknown: true, null_is_missing: true };
            let columns = decode_rows(schema, &rows.text, form, &LIMITS)?;
            from_columns(packaged, &columns, false, None, start)
        }
        (Input::Table(table), Contents::Bare(_)) => {
            let rows = table::to_plain_rows(&table, &servable.graph).map_err(PredictError::Malformed)?;
            let tensors = rows::to_tensors(rows, &servable.graph).map_err(PredictError::Malformed)?;
            from_tensors(servable, tensors, start).map(of_rows)
        }
        (Input::Tensors(tensors), _) => {
            let fields = servable.fields().filter(|packaged| !(explicit && names_the_graph(&tensors, packaged, &servable.graph)));
            check_wanted(wanted, fields.map_or(&servable.graph, |packaged| &packaged.fields))?;
            match fields {
                Some(packaged) => {
                    let tensors = named(tensors, &packaged.fields)?;
                    let columns = fields::decode(&packaged.package.parts.input, &tensors, &LIMITS)?;
                    from_columns(packaged, &columns, false, None, start)
                }
                None => from_tensors(servable, named(tensors, &servable.graph)?, start),
            }
        }
    }
}

impl From<DecodeError> for PredictError {
    fn from(error: DecodeError) -> PredictError {
        match error {
            DecodeError::Malformed { detail } => PredictError::Malformed(detail),
            DecodeError::Invalid { faults, more } => PredictError::Invalid { faults, more },
        }
    }
}

fn from_columns(
    packaged: &Packaged,
    columns: &Columns,
    single: bool,
    client_id: Option<String>,
    start: Instant,
) -> Result<Prepared, PredictError> {
    let decoded = Instant::now();
    let tensors = packaged.transform.prepare(columns).map_err(|mut faults| {
        let more = faults.len().saturating_sub(MAX_FAULTS);
        faults.truncate(MAX_FAULTS);
        PredictError::Invalid { faults: faults.into_iter().map(|fault| locate(fault, single)).collect(), more }
    })?;
    let mut timing = Timing::default();
    timing.set(Stage::Decode, decoded - start);
    timing.set(Stage::Preprocess, decoded.elapsed());
    Ok(Prepared { tensors, rows: columns.rows, whole: false, raw: false, client_id, timing })
}

/// What came row by row has as many rows as came, also where the graph fixes their number.
fn of_rows(prepared: Prepared) -> Prepared {
    let rows = prepared.tensors.0.first().map_or(prepared.rows, |(_, tensor)| tensor.rows());
    Prepared { rows, ..prepared }
}

/// Checks names, types and shapes against the graph, before ONNX Runtime sees any of it.
fn from_tensors(servable: &Servable, given: Vec<WireTensor>, start: Instant) -> Result<Prepared, PredictError> {
    let graph = &servable.graph;
    let mut faults = Faults::default();
    for (index, tensor) in given.iter().enumerate() {
        if graph.inputs.iter().all(|spec| *spec.name != *tensor.name) {
            let known: Vec<&str> = graph.inputs.iter().map(|spec| &*spec.name).collect();
            faults.add(Some(index), &tensor.name, &format!("no such input; the model takes {}", list(&known)));
        } else if given.iter().take(index).any(|other| other.name == tensor.name) {
            faults.add(Some(index), &tensor.name, "is given twice");
        }
    }
    let mut tensors = Vec::with_capacity(graph.inputs.len());
    for spec in &graph.inputs {
        let Some((index, tensor)) = given.iter().enumerate().find(|(_, tensor)| *tensor.name == *spec.name) else {
            faults.add(None, &spec.name, &format!("is required: {} {}", spec.datatype.protocol_name(), spec.shape));
            continue;
        };
        match tensor.to_tensor(spec) {
            Ok(tensor) => tensors.push((Arc::clone(&spec.name), tensor)),
            Err(detail) => faults.add(Some(index), &tensor.name, &detail),
        }
    }
    check_symbols(servable, &tensors, &mut faults);
    let batched = servable.is_batched();
    let rows = tensors.first().map_or(1, |(_, tensor)| tensor.rows());
    let other = tensors.iter().find(|(_, tensor)| tensor.rows() != rows);
    if let Some(((first, _), (name, tensor))) = tensors.first().zip(other)
        && batched
        && faults.is_empty()
    {
        faults.add(None, name, &format!("has {} rows, but input `{first}` has {rows}", tensor.rows()));
    }
    if !faults.is_empty() {
        return Err(faults.into_error());
    }
    let free = graph.inputs.iter().all(|spec| spec.shape.has_batch_axis()) && other.is_none();
    let mut timing = Timing::default();
    timing.set(Stage::Decode, start.elapsed());
    let rows = if free && !graph.inputs.is_empty() { rows } else { 1 };
    let tensors = Tensors(tensors);
    Ok(Prepared { tensors, rows, whole: !batched, raw: true, client_id: None, timing })
}

/// Dimensions that the graph calls by one name must have one size.
fn check_symbols(servable: &Servable, tensors: &[(Arc<str>, Tensor)], faults: &mut Faults) {
    if !faults.is_empty() || tensors.len() < 2 {
        return;
    }
    let mut sizes: Vec<(&str, usize, &str)> = Vec::new();
    for ((name, tensor), symbols) in tensors.iter().zip(&servable.symbols) {
        for (size, symbol) in tensor.shape().iter().zip(symbols).filter(|(_, symbol)| !symbol.is_empty()) {
            match sizes.iter().find(|(known, ..)| known == symbol) {
                Some((_, known, first)) if known != size => {
                    faults.add(None, name, &format!("its dimension {symbol} is {size}, but that of input `{first}` is {known}"));
                }
                Some(_) => {}
                None => sizes.push((symbol, *size, name)),
            }
        }
    }
}

#[derive(Default)]
struct Faults {
    faults: Vec<Fault>,
    more: usize,
}

impl Faults {
    fn add(&mut self, index: Option<usize>, name: &str, detail: &str) {
        if self.faults.len() == MAX_FAULTS {
            self.more += 1;
            return;
        }
        let pointer = index.map_or_else(|| "/inputs".to_owned(), |index| format!("/inputs/{index}"));
        let detail = format!("input `{}`: {detail}", crate::package::decode::shorten(name));
        self.faults.push(Fault { pointer, keyword: "inputs", detail });
    }

    fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    fn into_error(self) -> PredictError {
        PredictError::Invalid { faults: self.faults, more: self.more }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Whether a request speaks of the graph's inputs and of no field.
fn names_the_graph(tensors: &[WireTensor], packaged: &Packaged, graph: &Signature) -> bool {
    let has = |specs: &[TensorSpec], name: &str| specs.iter().any(|spec| *spec.name == *name);
    !tensors.is_empty()
        && tensors.iter().all(|tensor| has(&graph.inputs, &tensor.name))
        && !tensors.iter().any(|tensor| has(&packaged.fields.inputs, &tensor.name))
}

fn check_wanted(wanted: &[String], offered: &Signature) -> Result<(), PredictError> {
    let Some(unknown) = wanted.iter().find(|name| offered.output(name).is_none()) else { return Ok(()) };
    let known: Vec<&str> = offered.outputs.iter().map(|spec| &*spec.name).collect();
    let unknown = crate::package::decode::shorten(unknown);
    Err(PredictError::Malformed(format!("there is no output `{unknown}`; the model gives {}", list(&known))))
}

/// Gives a tensor without a name the name, and where need be the shape, of the only input.
fn named(mut tensors: Vec<WireTensor>, offered: &Signature) -> Result<Vec<WireTensor>, PredictError> {
    let Some(tensor) = tensors.iter_mut().find(|tensor| tensor.name.is_empty()) else { return Ok(tensors) };
    let [spec] = offered.inputs.as_slice() else {
        let known: Vec<&str> = offered.inputs.iter().map(|spec| &*spec.name).collect();
        return Err(PredictError::Malformed(format!("the model has {} inputs; name them: {}", known.len(), list(&known))));
    };
    tensor.name = spec.name.to_string();
    match &tensor.elements {
        Elements::Raw(bytes) if tensor.shape.is_none() => {
            let text = spec.datatype == DataType::Bytes;
            let elements = spec.datatype.size().map_or(1, |size| bytes.len() / size);
            let shape = shape_of_one_row(spec, elements).ok_or_else(|| {
                let offered = format!("{} {}", spec.datatype.protocol_name(), spec.shape);
                PredictError::Malformed(format!("{} bytes are no row of input `{}`, {offered}", bytes.len(), spec.name))
            })?;
            tensor.datatype = Some(spec.datatype);
            tensor.shape = Some(shape);
            if text {
                tensor.elements = Elements::Texts(vec![bytes.clone()]);
            }
        }
        _ => {}
    }
    Ok(tensors)
}

/// The shape of so many elements as one row: the leading free dimension is 1, one other may be free.
fn shape_of_one_row(spec: &TensorSpec, elements: usize) -> Option<Vec<usize>> {
    let dims = &spec.shape.0;
    let free = dims.iter().skip(1).filter(|dim| **dim == Dim::Any).count();
    let leading_is_batch = spec.shape.has_batch_axis() && (dims.len() > 1 || elements == 1);
    let fixed = dims.iter().map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 }).try_fold(1usize, usize::checked_mul)?;
    let rest = elements.checked_div(fixed)?;
    if rest.checked_mul(fixed)? != elements || free > 1 || free == 0 && leading_is_batch && rest != 1 {
        return None;
    }
    let shape = dims.iter().enumerate().map(|(at, dim)| match dim {
        Dim::Fixed(size) => *size,
        Dim::Any if at == 0 && leading_is_batch => 1,
        Dim::Any => rest,
    });
    Some(shape.collect())
}
