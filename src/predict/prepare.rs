//! Prepare: from what a protocol brought to the graph's input tensors. Decode and preprocess, the same for every protocol; which
//! version preprocesses is decided between the two.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    decode::{
        DecodeError, DecodeLimits, RowOptions, decode_request, decode_rows,
        elements::{Elements, WireTensor},
        json_rows::{self, JsonRows},
        row_origin::RowOrigin,
        table::{self, Table},
    },
    metrics::Stage,
    package::locate,
    predict::{PredictError, Timing},
    registry::servable::{Contents, Packaged, Servable},
    schema::{
        columns::Columns,
        fault::{Fault, MAX_FAULTS},
    },
    tensor::{
        DataType, Dim, Tensor, Tensors,
        signature::{Signature, TensorSpec},
    },
    transform::{fields, preprocess::Group},
};

/// Requests beyond these limits are refused before memory is spent on them; the body's size limits the rest.
const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 65_536,
    max_depth: 64,
    max_array_values: 64 << 20,
};

/// A request's data, as its protocol carries it.
#[derive(Debug)]
pub enum Input {
    /// predictd's own: `{"instances": [...], "id": ...}`, or one bare instance.
    Instances(Bytes),
    /// Inputs by name; an empty name stands for the only input.
    Tensors(Vec<WireTensor>),
    Rows(JsonRows),
    Table(Table),
}

impl Input {
    /// Bytes that somebody will have to go through one by one.
    pub fn weight(&self, servable: &Servable) -> usize {
        let are_fields = servable.fields().is_some();
        match self {
            Input::Instances(body) => body.len(),
            Input::Tensors(tensors) => tensors
                .iter()
                .map(|tensor| weight(tensor, are_fields))
                .sum(),
            Input::Rows(rows) => rows.text.len(),
            Input::Table(table) => table.text.len(),
        }
    }
}

fn weight(tensor: &WireTensor, is_field: bool) -> usize {
    /// A text is memory of its own, however short.
    const TEXT: usize = 8;
    /// Texts whose lengths are added up: more are heavy by their number.
    const COUNTED: usize = 1 << 16;
    match &tensor.elements {
        Elements::Json(text) => text.len(),
        Elements::Raw(bytes) if is_field || tensor.datatype == Some(DataType::Bytes) => bytes.len(),
        Elements::Raw(_) => 0,
        Elements::Values(data) if is_field => data.len() * 8,
        // Copied, several bytes at once.
        Elements::Values(data) => data.len(),
        Elements::Texts(texts) => {
            texts.len() * TEXT + texts.iter().take(COUNTED).map(Bytes::len).sum::<usize>()
        }
    }
}

/// What goes to the engines.
pub struct Prepared {
    /// One, unless rows have arrays of different shapes.
    pub groups: Vec<Group>,
    pub rows: usize,
    /// One run of its own: there is no batch axis to cut along.
    pub whole: bool,
    /// It came row by row: no run may have more of them than the version takes.
    pub by_row: bool,
    /// The answer is the graph's own outputs.
    pub raw: bool,
    pub client_id: Option<String>,
    pub timing: Timing,
}

/// A request that its version could read.
pub enum Decoded {
    /// Validated fields, which any version that takes them can preprocess.
    Fields(Fields),
    /// Tensors that the graph takes as they are.
    Tensors(Prepared),
}

pub struct Fields {
    pub columns: Columns,
    /// One bare instance, and so told in errors.
    pub single: bool,
    /// Where the rows were written.
    pub origin: RowOrigin,
    pub client_id: Option<String>,
    took: Duration,
}

/// Decodes. `wanted` are outputs that the caller names; `explicit` says that it named a version by its number.
pub fn decode(
    servable: &Servable,
    input: Input,
    wanted: &[String],
    explicit: bool,
) -> Result<Decoded, PredictError> {
    let start = Instant::now();
    match (input, &servable.contents) {
        (Input::Instances(body), Contents::Package(packaged)) => {
            let decoded = decode_request(&packaged.package.parts.input, &body, &LIMITS)?;
            Ok(Decoded::fields(
                decoded.columns,
                decoded.single,
                RowOrigin::Instances,
                decoded.id,
                start,
            ))
        }
        (Input::Instances(body), Contents::Bare(_)) => {
            let (rows, id) = json_rows::read_envelope(body)
                .map_err(|error| PredictError::Malformed(error.to_string()))?;
            let tensors = json_rows::to_tensors(rows, &servable.graph)
                .map_err(|error| PredictError::Malformed(error.to_string()))?;
            let prepared = of_rows(servable, tensors, start)?;
            Ok(Decoded::Tensors(Prepared {
                client_id: id,
                ..prepared
            }))
        }
        (Input::Rows(rows), Contents::Package(packaged)) => {
            let form = RowOptions {
                names: rows.names.as_deref(),
                ignore_unknown: rows.frame,
                null_is_missing: rows.frame,
                origin: Some(&rows.origin),
            };
            let columns = decode_rows(&packaged.package.parts.input, &rows.text, form, &LIMITS)?;
            Ok(Decoded::fields(columns, false, rows.origin, None, start))
        }
        (Input::Rows(rows), Contents::Bare(_)) => {
            let origin = rows.origin.clone();
            let tensors = json_rows::to_tensors(rows, &servable.graph)
                .map_err(|error| PredictError::Malformed(error.to_string()))?;
            of_rows(servable, tensors, start)
                .map(Decoded::Tensors)
                .map_err(|error| located(error, &origin))
        }
        (Input::Table(table), Contents::Package(packaged)) => {
            let schema = &packaged.package.parts.input;
            let rows = table::to_rows(&table, schema.columns())
                .map_err(|error| PredictError::Malformed(error.to_string()))?;
            let form = RowOptions {
                names: rows.names.as_deref(),
                ignore_unknown: true,
                null_is_missing: true,
                origin: Some(&rows.origin),
            };
            let columns = decode_rows(schema, &rows.text, form, &LIMITS)?;
            Ok(Decoded::fields(columns, false, rows.origin, None, start))
        }
        (Input::Table(table), Contents::Bare(_)) => {
            let rows = table::to_plain_rows(&table, &servable.graph)
                .map_err(|error| PredictError::Malformed(error.to_string()))?;
            let origin = rows.origin.clone();
            let tensors = json_rows::to_tensors(rows, &servable.graph)
                .map_err(|error| PredictError::Malformed(error.to_string()))?;
            of_rows(servable, tensors, start)
                .map(Decoded::Tensors)
                .map_err(|error| located(error, &origin))
        }
        (Input::Tensors(tensors), _) => {
            let fields = servable.fields().filter(|packaged| {
                !(explicit && names_the_graph(&tensors, packaged, &servable.graph))
            });
            let offered = fields.map_or(&servable.graph, |packaged| &packaged.fields);
            check_counts(&tensors, wanted, offered)?;
            check_wanted(wanted, offered)?;
            match fields {
                Some(packaged) => {
                    let tensors = named(tensors, &packaged.fields)?;
                    let columns = fields::decode(&packaged.package.parts.input, &tensors, &LIMITS)?;
                    Ok(Decoded::fields(
                        columns,
                        false,
                        RowOrigin::Instances,
                        None,
                        start,
                    ))
                }
                None => from_tensors(servable, named(tensors, &servable.graph)?, start)
                    .map(Decoded::Tensors),
            }
        }
    }
}

impl From<DecodeError> for PredictError {
    fn from(error: DecodeError) -> PredictError {
        match error {
            DecodeError::Malformed { detail } => PredictError::Malformed(detail.to_string()),
            DecodeError::Invalid { faults, more } => PredictError::Invalid { faults, more },
        }
    }
}

impl Decoded {
    fn fields(
        columns: Columns,
        single: bool,
        origin: RowOrigin,
        client_id: Option<String>,
        start: Instant,
    ) -> Decoded {
        Decoded::Fields(Fields {
            columns,
            single,
            origin,
            client_id,
            took: start.elapsed(),
        })
    }
}

/// From fields to the tensors of the version that answers.
pub fn preprocess(
    servable: &Servable,
    packaged: &Packaged,
    fields: &mut Fields,
) -> Result<Prepared, PredictError> {
    let start = Instant::now();
    let groups = to_groups(servable, packaged, &fields.columns, fields.single)
        .map_err(|error| located(error, &fields.origin))?;
    let mut timing = Timing::default();
    timing.set(Stage::Decode, fields.took);
    timing.set(Stage::Preprocess, start.elapsed());
    let client_id = fields.client_id.take();
    Ok(Prepared {
        groups,
        rows: fields.columns.rows,
        whole: false,
        by_row: true,
        raw: false,
        client_id,
        timing,
    })
}

/// The same error, at the places where the caller wrote what is wrong.
fn located(error: PredictError, origin: &RowOrigin) -> PredictError {
    match error {
        PredictError::Invalid { faults, more } => {
            let one = |fault: Fault| {
                let fault = origin.locate(fault);
                Fault {
                    detail: if fault.keyword == "inputs" {
                        origin.relocate_detail(&fault.detail)
                    } else {
                        fault.detail
                    },
                    ..fault
                }
            };
            PredictError::Invalid {
                faults: faults.into_iter().map(one).collect(),
                more,
            }
        }
        other => other,
    }
}

/// The graph's input tensors of these fields.
pub fn to_groups(
    servable: &Servable,
    packaged: &Packaged,
    columns: &Columns,
    single: bool,
) -> Result<Vec<Group>, PredictError> {
    let groups = packaged
        .transform
        .prepare_groups(columns)
        .map_err(|mut faults| {
            let more = faults.len().saturating_sub(MAX_FAULTS);
            faults.truncate(MAX_FAULTS);
            PredictError::Invalid {
                faults: faults
                    .into_iter()
                    .map(|fault| locate(fault, single))
                    .collect(),
                more,
            }
        })?;
    let uneven = groups.iter().filter_map(|group| {
        let (name, detail) = uneven(servable, &group.tensors.0)?;
        let row = group
            .rows
            .as_ref()
            .and_then(|rows| rows.first())
            .copied()
            .unwrap_or_default();
        let pointer = if single {
            String::new()
        } else {
            format!("/instances/{row}")
        };
        Some(Fault {
            pointer,
            keyword: "items",
            detail: format!("the model's input `{name}`: {detail}"),
        })
    });
    let faults: Vec<Fault> = uneven.take(MAX_FAULTS).collect();
    if faults.is_empty() {
        Ok(groups)
    } else {
        Err(PredictError::Invalid { faults, more: 0 })
    }
}

/// What came row by row is answered row by row: as many rows as came, also where the graph fixes their number; and each in a run of
/// its own where nobody knows that the graph keeps them apart.
fn of_rows(
    servable: &Servable,
    given: Vec<WireTensor>,
    start: Instant,
) -> Result<Prepared, PredictError> {
    let prepared = from_tensors(servable, given, start)?;
    let tensors = prepared
        .groups
        .first()
        .map(|group| group.tensors.0.as_slice())
        .unwrap_or_default();
    let rows = tensors
        .first()
        .map_or(prepared.rows, |(_, tensor)| tensor.rows());
    let graph = &servable.graph.inputs;
    // A default that the caller overrides has no dimension of rows to be cut along; an output without rows is refused as a whole.
    let by_row = servable.without_rows.is_empty()
        && tensors.len() == graph.len()
        && graph.iter().all(|spec| spec.shape.has_batch_axis());
    let whole = prepared.whole && !by_row;
    Ok(Prepared {
        rows,
        whole,
        by_row,
        ..prepared
    })
}

/// Checks names, types and shapes against the graph, before ONNX Runtime sees any of it.
fn from_tensors(
    servable: &Servable,
    given: Vec<WireTensor>,
    start: Instant,
) -> Result<Prepared, PredictError> {
    let graph = &servable.graph;
    let mut faults = Faults::default();
    for (index, tensor) in given.iter().enumerate() {
        if graph
            .inputs
            .iter()
            .chain(&servable.optional)
            .all(|spec| *spec.name != *tensor.name)
        {
            let known: Vec<&str> = graph
                .inputs
                .iter()
                .chain(&servable.optional)
                .map(|spec| &*spec.name)
                .collect();
            faults.add(
                Some(index),
                &tensor.name,
                &format!("no such input; the model takes {}", list(&known)),
            );
        } else if given
            .iter()
            .take(index)
            .any(|other| other.name == tensor.name)
        {
            faults.add(Some(index), &tensor.name, "is given twice");
        }
    }
    let mut tensors = Vec::with_capacity(graph.inputs.len());
    for spec in &graph.inputs {
        let Some((index, tensor)) = given
            .iter()
            .enumerate()
            .find(|(_, tensor)| *tensor.name == *spec.name)
        else {
            faults.add(
                None,
                &spec.name,
                &format!(
                    "is required: {} {}",
                    spec.datatype.protocol_name(),
                    spec.shape
                ),
            );
            continue;
        };
        match tensor.to_tensor(spec) {
            Ok(tensor) => tensors.push((Arc::clone(&spec.name), tensor)),
            Err(detail) => faults.add(Some(index), &tensor.name, &detail.to_string()),
        }
    }
    if let Some((name, detail)) = faults
        .is_empty()
        .then(|| uneven(servable, &tensors))
        .flatten()
    {
        faults.add(None, name, &detail);
    }
    let rows = tensors.first().map_or(1, |(_, tensor)| tensor.rows());
    let other = tensors
        .iter()
        .find(|(_, tensor)| tensor.rows() != rows)
        .map(|(name, _)| Arc::clone(name));
    if !faults.is_empty() {
        return Err(faults.into_error());
    }
    // Rows without elements cost a caller nothing, and would be the only bound of what they cost here.
    let empty = tensors
        .iter()
        .find(|(_, tensor)| tensor.data().is_empty() && tensor.rows() > LIMITS.max_instances);
    if let Some((name, tensor)) = empty {
        let detail = format!(
            "has {} rows without elements, where at most {} are taken",
            tensor.rows(),
            LIMITS.max_instances
        );
        faults.add(None, name, &detail);
        return Err(faults.into_error());
    }
    let free = graph.inputs.iter().all(|spec| spec.shape.has_batch_axis()) && other.is_none();
    let mut overridden = Vec::new();
    for spec in &servable.optional {
        let Some((index, tensor)) = given
            .iter()
            .enumerate()
            .find(|(_, tensor)| *tensor.name == *spec.name)
        else {
            continue;
        };
        match tensor.to_tensor(spec) {
            Ok(tensor) => tensors.push((Arc::clone(&spec.name), tensor)),
            Err(detail) => faults.add(Some(index), &tensor.name, &detail.to_string()),
        }
        overridden.push(spec);
    }
    if !faults.is_empty() {
        return Err(faults.into_error());
    }
    // What has a default in the graph has no dimension of rows to be cut along.
    // Nor are inputs of different lengths, which the graph may well broadcast.
    let whole = !servable.is_batched() || !overridden.is_empty() || other.is_some();
    // What is not cut is bounded by nothing else.
    let limit = servable.batcher.policy().max_rows_per_run;
    let mut sized = tensors.iter().zip(graph.inputs.iter().chain(overridden));
    let long = sized
        .find(|((_, tensor), spec)| whole && spec.shape.has_batch_axis() && tensor.rows() > limit);
    if let Some(((name, tensor), _)) = long {
        let detail = format!(
            "has {} rows for one run, where at most {limit} are taken (batching.max_rows_per_run); send fewer at once",
            tensor.rows()
        );
        faults.add(None, name, &detail);
        return Err(faults.into_error());
    }
    let mut timing = Timing::default();
    timing.set(Stage::Decode, start.elapsed());
    let rows = if free && !graph.inputs.is_empty() {
        rows
    } else {
        1
    };
    let groups = vec![Group::all(Tensors(tensors))];
    Ok(Prepared {
        groups,
        rows,
        whole,
        by_row: false,
        raw: true,
        client_id: None,
        timing,
    })
}

/// Dimensions that the graph calls by one name must have one size: an input where they have not, and what is wrong with it.
fn uneven<'a>(servable: &Servable, tensors: &'a [(Arc<str>, Tensor)]) -> Option<(&'a str, String)> {
    if tensors.len() < 2 {
        return None;
    }
    let mut sizes: Vec<(&str, usize, &str)> = Vec::new();
    for ((name, tensor), symbols) in tensors.iter().zip(&servable.symbols.inputs) {
        for (size, symbol) in tensor
            .shape()
            .iter()
            .zip(symbols)
            .filter(|(_, symbol)| !symbol.is_empty())
        {
            match sizes.iter().find(|(known, ..)| known == symbol) {
                Some((_, known, first)) if known != size => {
                    return Some((
                        name,
                        format!(
                            "its dimension {symbol} is {size}, but that of input `{first}` is {known}"
                        ),
                    ));
                }
                Some(_) => {}
                None => sizes.push((symbol, *size, name)),
            }
        }
    }
    None
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
        let pointer =
            index.map_or_else(|| "/inputs".to_owned(), |index| format!("/inputs/{index}"));
        let detail = format!("input `{}`: {detail}", crate::schema::fault::shorten(name));
        self.faults.push(Fault {
            pointer,
            keyword: "inputs",
            detail,
        });
    }

    fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    fn into_error(self) -> PredictError {
        PredictError::Invalid {
            faults: self.faults,
            more: self.more,
        }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Whether a request speaks of the graph's inputs and of no field.
fn names_the_graph(tensors: &[WireTensor], packaged: &Packaged, graph: &Signature) -> bool {
    let has = |specs: &[TensorSpec], name: &str| specs.iter().any(|spec| *spec.name == *name);
    !tensors.is_empty()
        && tensors
            .iter()
            .all(|tensor| has(&graph.inputs, &tensor.name))
        && !tensors
            .iter()
            .any(|tensor| has(&packaged.fields.inputs, &tensor.name))
}

/// Inputs and outputs beyond the model's that are still told apart by their names.
const STRANGERS: usize = 64;

/// What follows compares names with names: a request of a million tensors would keep it busy.
fn check_counts(
    tensors: &[WireTensor],
    wanted: &[String],
    offered: &Signature,
) -> Result<(), PredictError> {
    for (given, takes, side) in [
        (tensors.len(), offered.inputs.len(), "inputs"),
        (wanted.len(), offered.outputs.len(), "outputs"),
    ] {
        if given > takes + STRANGERS {
            return Err(PredictError::Malformed(format!(
                "the request has {given} {side}; the model has {takes}"
            )));
        }
    }
    Ok(())
}

fn check_wanted(wanted: &[String], offered: &Signature) -> Result<(), PredictError> {
    let twice = wanted
        .iter()
        .enumerate()
        .find(|(at, name)| wanted.iter().take(*at).any(|other| other == *name));
    if let Some((_, name)) = twice {
        let name = crate::schema::fault::shorten(name);
        return Err(PredictError::Malformed(format!(
            "output `{name}` is asked for twice"
        )));
    }
    let Some(unknown) = wanted.iter().find(|name| offered.output(name).is_none()) else {
        return Ok(());
    };
    let known: Vec<&str> = offered.outputs.iter().map(|spec| &*spec.name).collect();
    let unknown = crate::schema::fault::shorten(unknown);
    Err(PredictError::Malformed(format!(
        "there is no output `{unknown}`; the model gives {}",
        list(&known)
    )))
}

/// Gives a tensor without a name the name, and where need be the shape, of the only input.
fn named(
    mut tensors: Vec<WireTensor>,
    offered: &Signature,
) -> Result<Vec<WireTensor>, PredictError> {
    let Some(tensor) = tensors.iter_mut().find(|tensor| tensor.name.is_empty()) else {
        return Ok(tensors);
    };
    let [spec] = offered.inputs.as_slice() else {
        let known: Vec<&str> = offered.inputs.iter().map(|spec| &*spec.name).collect();
        return Err(PredictError::Malformed(format!(
            "the model has {} inputs; name them: {}",
            known.len(),
            list(&known)
        )));
    };
    tensor.name = spec.name.to_string();
    match &tensor.elements {
        Elements::Raw(bytes) if tensor.shape.is_none() => {
            let text = spec.datatype == DataType::Bytes;
            let elements = spec.datatype.size().map_or(1, |size| bytes.len() / size);
            let shape = shape_of_one_row(spec, elements).ok_or_else(|| {
                let offered = format!("{} {}", spec.datatype.protocol_name(), spec.shape);
                PredictError::Malformed(format!(
                    "{} bytes are no row of input `{}`, {offered}",
                    bytes.len(),
                    spec.name
                ))
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
    let free = dims
        .iter()
        .skip(1)
        .filter(|dim| matches!(dim, Dim::Any | Dim::Rest))
        .count();
    let leading_is_batch = spec.shape.has_batch_axis() && (dims.len() > 1 || elements == 1);
    let fixed = dims
        .iter()
        .map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 })
        .try_fold(1usize, usize::checked_mul)?;
    let rest = elements.checked_div(fixed)?;
    if rest.checked_mul(fixed)? != elements
        || free > 1
        || free == 0 && leading_is_batch && rest != 1
    {
        return None;
    }
    let shape = dims.iter().enumerate().map(|(at, dim)| match dim {
        Dim::Fixed(size) => *size,
        Dim::Any if at == 0 && leading_is_batch => 1,
        Dim::Any | Dim::Rest => rest,
    });
    Some(shape.collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{
        decode::elements::{Elements, WireTensor},
        predict::{HEAVY_BODY_BYTES, prepare::weight},
        tensor::{Data, DataType},
    };

    #[test]
    fn what_takes_long_is_heavy() {
        let of = |datatype, elements| WireTensor {
            name: "x".to_owned(),
            datatype: Some(datatype),
            shape: None,
            elements,
        };
        let raw = |datatype| of(datatype, Elements::Raw(Bytes::from(vec![0; 1 << 20])));
        let values = |count| {
            of(
                DataType::Int64,
                Elements::Values(Data::Int64(vec![0; count].into())),
            )
        };
        let texts = |count, length| {
            of(
                DataType::Bytes,
                Elements::Texts(vec![Bytes::from(vec![0; length]); count]),
            )
        };
        let cases = [
            // Shared, not read.
            (raw(DataType::Fp32), false, false),
            (raw(DataType::Fp32), true, true),
            (raw(DataType::Bytes), false, true),
            (values(1 << 10), false, false),
            (values(1 << 14), true, true),
            (values(1 << 20), false, true),
            (texts(100, 10), false, false),
            (texts(1 << 20, 0), false, true),
            (texts(1, 1 << 20), false, true),
        ];
        for (index, (tensor, is_field, heavy)) in cases.iter().enumerate() {
            assert_eq!(
                weight(tensor, *is_field) > HEAVY_BODY_BYTES,
                *heavy,
                "{index}"
            );
        }
    }
}
