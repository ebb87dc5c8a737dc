//! `Preprocess`: converts the columns of a request to the graph's input tensors. Arithmetic is in
//! float64, with one cast at the end.

mod graph_input;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    schema::{
        columns::{ArrayRow, Arrays, Column, Columns},
        fault::MAX_FAULTS,
    },
    tensor::{
        Dim, Tensors,
        signature::{Signature, TensorSpec},
    },
    transform::{
        compile::InputCompiler,
        declaration::DeclarationError,
        field_plan::{FieldPlan, FieldSpec},
        preprocess::graph_input::GraphInput,
        row_fault::RowFault,
    },
};

/// Rows that can share a run of the graph, because their arrays have the same shapes.
#[derive(Debug, PartialEq)]
pub struct Group {
    /// The indices of the rows in the request, ascending. `None` means all rows.
    pub rows: Option<Vec<usize>>,
    /// One tensor for each input of the graph.
    pub tensors: Tensors,
}

impl Group {
    pub(crate) fn all(tensors: Tensors) -> Group {
        Group {
            rows: None,
            tensors,
        }
    }

    /// The number of rows in this group. `rows` is the number of rows in the request.
    pub fn count(&self, rows: usize) -> usize {
        self.rows.as_ref().map_or(rows, Vec::len)
    }
}

/// The indices in the request of all rows, one group after the other. `None` means the order of the
/// request.
pub fn order(groups: &[Group]) -> Option<Vec<usize>> {
    groups
        .iter()
        .map(|group| group.rows.as_deref())
        .collect::<Option<Vec<_>>>()
        .map(|rows| rows.concat())
}

/// The compiled section `inputs` of `preprocessing.json`.
#[derive(Debug)]
pub struct Preprocess {
    inputs: Vec<GraphInput>,
    has_images: bool,
}

impl Preprocess {
    /// Compiles the section `inputs` against the schema and the graph. Without a section, each
    /// input of the graph takes the field with its name.
    pub fn compile(
        section: Option<&Value>,
        fields: &[FieldSpec],
        signature: &Signature,
    ) -> Result<Preprocess, DeclarationError> {
        let empty = Map::new();
        let declared = match section {
            None => &empty,
            Some(Value::Object(declared)) => declared,
            Some(_) => return Err(DeclarationError::new("", "must be an object")),
        };
        if let Some(unknown) = declared
            .keys()
            .find(|name| !signature.inputs.iter().any(|spec| *spec.name == **name))
        {
            let known: Vec<&str> = signature.inputs.iter().map(|spec| &*spec.name).collect();
            return Err(DeclarationError::new(
                format!("/{unknown}"),
                format!("the graph has no such input; it has {}", known.join(", ")),
            ));
        }
        let mut inputs = Vec::new();
        for spec in &signature.inputs {
            let pointer = format!("/{}", spec.name);
            check_rows_dimension(spec).map_err(|error| error.below(&pointer))?;
            let compiler = InputCompiler {
                pointer,
                fields,
                spec,
            };
            let plan = match (declared.get(&*spec.name), section) {
                (Some(section), _) => compiler.section(section),
                (None, Some(_)) => compiler.field_of_same_name(),
                (None, None) => compiler.field_of_same_name().map_err(|error| {
                    let detail = format!("{} (there is no preprocessing.json)", error.detail);
                    DeclarationError { detail, ..error }
                }),
            }?;
            inputs.push(GraphInput {
                spec: spec.clone(),
                plan,
            });
        }
        let has_images = inputs
            .iter()
            .any(|input| matches!(input.plan, FieldPlan::Image { .. }));
        Ok(Preprocess { inputs, has_images })
    }

    /// Whether rows contain images. Decoding images takes too long for the network threads.
    pub fn has_images(&self) -> bool {
        self.has_images
    }

    /// The tensors of all rows, in the minimum number of groups that the shapes of their arrays
    /// allow. Most requests have one group.
    pub fn apply(&self, columns: &Columns) -> Result<Vec<Group>, Vec<RowFault>> {
        // Without arrays of different shapes, the columns are used without a copy.
        let Some(groups) = self.rows_by_shapes(columns) else {
            return Ok(vec![Group::all(self.tensors(columns)?)]);
        };
        let mut all = Vec::with_capacity(groups.len());
        let mut faults = Vec::new();
        for rows in groups {
            match self.tensors(&columns.pick(&rows)) {
                Ok(tensors) => all.push(Group {
                    rows: Some(rows),
                    tensors,
                }),
                Err(found) => {
                    // Row numbers in a group are converted to row numbers in the request.
                    let place = |fault: RowFault| RowFault {
                        row: rows.get(fault.row).copied().unwrap_or_default(),
                        ..fault
                    };
                    faults.extend(found.into_iter().map(place));
                    // The response reports no more faults, so the remaining groups are not
                    // computed.
                    if faults.len() >= MAX_FAULTS {
                        break;
                    }
                }
            }
        }
        // Groups are ordered by shape, but callers expect faults in the order of the rows.
        faults.sort_by_key(|fault| fault.row);
        if faults.is_empty() {
            Ok(all)
        } else {
            Err(faults)
        }
    }

    /// The rows grouped by the shapes of their arrays, in the order of the first row of each group.
    /// `None` if all rows have the same shapes.
    fn rows_by_shapes(&self, columns: &Columns) -> Option<Vec<Vec<usize>>> {
        let arrays = self.inputs.iter().filter_map(|input| {
            match (&input.plan, columns.columns.get(input.plan.column()?)) {
                (FieldPlan::Array { .. }, Some(Column::Array(arrays)))
                    if arrays.shapes.len() > 1 =>
                {
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
                // The row has a fault that every group would report.
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

    /// One tensor per input of the graph, with `columns.rows` rows each.
    fn tensors(&self, columns: &Columns) -> Result<Tensors, Vec<RowFault>> {
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

/// Checks the first dimension of a graph's input. A package accepts any number of rows, so this
/// dimension must be dynamic or 1.
fn check_rows_dimension(spec: &TensorSpec) -> Result<(), DeclarationError> {
    match spec.shape.0.first() {
        None => Err(DeclarationError::new(
            "",
            "the graph's input is a scalar; a package needs a first dimension for rows",
        )),
        Some(Dim::Fixed(rows)) if *rows != 1 => Err(DeclarationError::new(
            "",
            format!(
                "the graph takes exactly {rows} rows at once; export it with a dynamic first dimension"
            ),
        )),
        Some(_) => Ok(()),
    }
}
