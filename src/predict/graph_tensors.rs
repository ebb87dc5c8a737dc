//! Tensors for the graph without preprocessing. Names, datatypes and shapes are checked before ONNX
//! Runtime gets the tensors.

use std::{sync::Arc, time::Instant};

use crate::{
    decode::{elements::WireTensor, row_origin::RowOrigin},
    metrics::Stage,
    predict::{
        PredictError, input::LIMITS, prediction::Timing, prepared::Prepared, tensor_names::list,
    },
    registry::servable::Servable,
    schema::fault::{Fault, FaultSubject, MAX_FAULTS, shorten},
    tensor::{Tensor, Tensors, signature::TensorSpec},
    transform::preprocess::Group,
};

/// Builds tensors from rows. The answer has as many rows as the request, even if the graph has a
/// fixed number of rows. Each row gets its own run unless the graph is known to keep rows apart.
pub(super) fn from_rows(
    servable: &Servable,
    given: &[WireTensor],
    origin: &RowOrigin,
    start: Instant,
) -> Result<Prepared, PredictError> {
    let prepared = read(servable, given, origin, start)?;
    let tensors = prepared
        .groups
        .first()
        .map(|group| group.tensors.0.as_slice())
        .unwrap_or_default();
    let rows = tensors
        .first()
        .map_or(prepared.rows, |(_, tensor)| tensor.rows());
    let graph = &servable.graph.inputs;
    // The request can't be split by rows in two cases: an output of the graph has no rows, or the
    // caller overrides a default, which has no batch axis to split along.
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

/// Checks tensors against the graph's signature.
pub(super) fn from_tensors(
    servable: &Servable,
    given: &[WireTensor],
    start: Instant,
) -> Result<Prepared, PredictError> {
    // The caller wrote tensors, whose indices are those of the elements.
    read(servable, given, &RowOrigin::Instances, start)
}

fn read(
    servable: &Servable,
    given: &[WireTensor],
    origin: &RowOrigin,
    start: Instant,
) -> Result<Prepared, PredictError> {
    let mut checker = TensorChecker {
        servable,
        given,
        origin,
        faults: TensorFaults::default(),
        tensors: Vec::with_capacity(servable.graph.inputs.len()),
    };
    checker.check_names();
    checker.read_required();
    if checker.faults.is_empty()
        && let Some((name, detail)) = uneven_dimension(servable, &checker.tensors)
    {
        let name = name.to_owned();
        checker.faults.add(None, &name, &detail);
    }
    checker.faults.check()?;
    checker.check_empty_rows()?;
    let rows = checker
        .tensors
        .first()
        .map_or(1, |(_, tensor)| tensor.rows());
    let even = checker
        .tensors
        .iter()
        .all(|(_, tensor)| tensor.rows() == rows);
    let overridden = checker.read_optional()?;
    // A tensor that overrides a default has no batch axis to split along. Inputs of different
    // lengths are passed on unchanged, because the graph may broadcast them.
    let whole = !servable.is_batched() || !overridden.is_empty() || !even;
    if whole {
        checker.check_rows_per_run(&overridden)?;
    }
    let inputs = &servable.graph.inputs;
    let has_rows =
        even && !inputs.is_empty() && inputs.iter().all(|spec| spec.shape.has_batch_axis());
    let mut timing = Timing::default();
    timing.set(Stage::Decode, start.elapsed());
    Ok(Prepared {
        groups: vec![Group::all(Tensors(checker.tensors))],
        rows: if has_rows { rows } else { 1 },
        whole,
        by_row: false,
        raw: true,
        client_id: None,
        timing,
    })
}

/// Reads and checks the tensors of one request.
struct TensorChecker<'a> {
    servable: &'a Servable,
    given: &'a [WireTensor],
    /// The place where the caller wrote the rows of the tensors.
    origin: &'a RowOrigin,
    faults: TensorFaults,
    /// The required inputs in the order of the graph, then the optional inputs.
    tensors: Vec<(Arc<str>, Tensor)>,
}

impl<'a> TensorChecker<'a> {
    fn specs(&self) -> impl Iterator<Item = &'a TensorSpec> {
        self.servable
            .graph
            .inputs
            .iter()
            .chain(&self.servable.optional)
    }

    fn find(&self, name: &str) -> Option<(usize, &'a WireTensor)> {
        let mut given = self.given.iter().enumerate();
        given.find(|(_, tensor)| *tensor.name == *name)
    }

    fn check_names(&mut self) {
        for (index, tensor) in self.given.iter().enumerate() {
            let mut before = self.given.iter().take(index);
            if self.specs().all(|spec| *spec.name != *tensor.name) {
                let known: Vec<&str> = self.specs().map(|spec| &*spec.name).collect();
                let detail = format!("no such input; the model takes {}", list(&known));
                self.faults.add(Some(index), &tensor.name, &detail);
            } else if before.any(|other| other.name == tensor.name) {
                self.faults.add(Some(index), &tensor.name, "is given twice");
            }
        }
    }

    fn read_required(&mut self) {
        for spec in &self.servable.graph.inputs {
            match self.find(&spec.name) {
                Some((index, tensor)) => self.read(index, tensor, spec),
                None => {
                    let datatype = spec.datatype.protocol_name();
                    let detail = format!("is required: {datatype} {}", spec.shape);
                    self.faults.add(None, &spec.name, &detail);
                }
            }
        }
    }

    /// Reads the inputs that have a default in the graph. Returns the inputs that the caller
    /// overrides.
    fn read_optional(&mut self) -> Result<Vec<&'a TensorSpec>, PredictError> {
        let mut overridden = Vec::new();
        for spec in &self.servable.optional {
            if let Some((index, tensor)) = self.find(&spec.name) {
                self.read(index, tensor, spec);
                overridden.push(spec);
            }
        }
        self.faults.check()?;
        Ok(overridden)
    }

    fn read(&mut self, index: usize, tensor: &WireTensor, spec: &TensorSpec) {
        match tensor.to_tensor(spec) {
            Ok(tensor) => self.tensors.push((Arc::clone(&spec.name), tensor)),
            Err(error) => self
                .faults
                .add(Some(index), &tensor.name, &error.text(self.origin)),
        }
    }

    /// Limits the number of rows without elements. They take no bytes of the body, so no other
    /// limit bounds their cost.
    fn check_empty_rows(&mut self) -> Result<(), PredictError> {
        let most = LIMITS.max_instances;
        let empty = self
            .tensors
            .iter()
            .find(|(_, tensor)| tensor.data().is_empty() && tensor.rows() > most);
        if let Some((name, tensor)) = empty {
            let rows = tensor.rows();
            let detail = format!("has {rows} rows without elements; at most {most} are allowed");
            self.faults.add(None, name, &detail);
        }
        self.faults.check()
    }

    /// Limits the number of rows of tensors that are not split into batches. No other limit applies
    /// to them.
    fn check_rows_per_run(&mut self, overridden: &[&TensorSpec]) -> Result<(), PredictError> {
        let limit = self.servable.batcher.policy().max_rows_per_run;
        let inputs = self.servable.graph.inputs.iter();
        let specs = inputs.chain(overridden.iter().copied());
        let long = self
            .tensors
            .iter()
            .zip(specs)
            .find(|((_, tensor), spec)| spec.shape.has_batch_axis() && tensor.rows() > limit);
        if let Some(((name, tensor), _)) = long {
            let rows = tensor.rows();
            let detail = format!(
                "has {rows} rows for one run; at most {limit} are allowed (batching.max_rows_per_run); send fewer rows in a request"
            );
            self.faults.add(None, name, &detail);
        }
        self.faults.check()
    }
}

/// Finds an input that breaks this rule: dimensions with the same name must have the same size.
/// Returns the input and a description of the violation.
pub(super) fn uneven_dimension<'a>(
    servable: &Servable,
    tensors: &'a [(Arc<str>, Tensor)],
) -> Option<(&'a str, String)> {
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
struct TensorFaults {
    faults: Vec<Fault>,
    /// The number of faults that are not listed.
    more: usize,
}

impl TensorFaults {
    fn add(&mut self, index: Option<usize>, name: &str, detail: &str) {
        if self.faults.len() == MAX_FAULTS {
            self.more += 1;
            return;
        }
        let pointer =
            index.map_or_else(|| "/inputs".to_owned(), |index| format!("/inputs/{index}"));
        let detail = format!("input `{}`: {detail}", shorten(name));
        self.faults.push(Fault {
            pointer,
            keyword: "inputs",
            subject: FaultSubject::Input,
            detail,
        });
    }

    fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Returns an error if there are faults.
    fn check(&mut self) -> Result<(), PredictError> {
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(PredictError::Invalid {
            faults: std::mem::take(&mut self.faults),
            more: self.more,
        })
    }
}
