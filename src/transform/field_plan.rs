//! `FieldPlan`: the compiled steps from fields to one input tensor of the graph. They are applied
//! to every row.

use crate::{
    schema::columns::{ColumnId, ColumnKind},
    tensor::{fit, signature::TensorSpec},
    transform::{
        field_source::FieldSource,
        image::ImageSteps,
        steps::{NumericStep, TextStep},
        table_column::TableColumn,
    },
};

/// The properties of a schema's field that preprocessing needs. The index of a field is its
/// `ColumnId`.
#[derive(Clone, Debug)]
pub struct FieldSpec {
    /// The name of the property. For a property of a nested object, this is a JSON pointer.
    pub name: String,
    /// The type of the values.
    pub kind: ColumnKind,
    /// Whether the value may be null or absent.
    pub nullable: bool,
    /// The shape of an array. `None` for a scalar, and for an array whose shape the schema leaves
    /// open.
    pub array_shape: Option<Vec<usize>>,
    /// Whether the field is personal. No message contains the values of a personal field.
    pub pii: bool,
}

#[derive(Debug)]
pub(super) enum FieldPlan {
    /// Numbers, as a tensor `[rows, width]`.
    Table {
        columns: Vec<TableColumn>,
        width: usize,
    },
    /// One string per row.
    Texts {
        source: FieldSource,
        steps: Vec<TextStep>,
    },
    /// One array per row. All arrays of a run have the same shape.
    Array {
        source: FieldSource,
        steps: Vec<NumericStep>,
        /// The shape of the step `reshape`. `None` without this step.
        shape: Option<Vec<usize>>,
    },
    Image {
        source: FieldSource,
        steps: ImageSteps,
    },
}

impl FieldPlan {
    /// The column of a plan with exactly one field. Otherwise `None`.
    pub(super) fn column(&self) -> Option<ColumnId> {
        match self {
            FieldPlan::Table { .. } => None,
            FieldPlan::Texts { source, .. }
            | FieldPlan::Array { source, .. }
            | FieldPlan::Image { source, .. } => Some(source.column),
        }
    }
}

pub(super) fn shape_fits(spec: &TensorSpec, row: &[usize]) -> bool {
    fit(spec.shape.row(), row)
}
