//! Preprocessing: turns fields into the input tensors of the version that answers.

use std::time::Instant;

use crate::{
    metrics::Stage,
    package::locate,
    predict::{
        PredictError,
        graph_tensors::uneven_dimension,
        locate::locate_error,
        prediction::Timing,
        prepared::{DecodedContext, Prepared},
    },
    registry::servable::{Packaged, Servable},
    schema::{
        columns::Columns,
        fault::{Fault, FaultSubject, MAX_FAULTS},
    },
    transform::preprocess::Group,
};

pub(super) fn preprocess(
    servable: &Servable,
    packaged: &Packaged,
    columns: &Columns,
    context: DecodedContext,
) -> Result<Prepared, PredictError> {
    let start = Instant::now();
    let groups = to_groups(servable, packaged, columns, context.single)
        .map_err(|error| locate_error(error, &context.origin))?;
    let mut timing = Timing::default();
    timing.set(Stage::Decode, context.took);
    timing.set(Stage::Preprocess, start.elapsed());
    Ok(Prepared {
        groups,
        rows: columns.rows,
        whole: false,
        by_row: true,
        raw: false,
        client_id: context.client_id,
        timing,
    })
}

/// Builds the graph's input tensors from columns.
pub(super) fn to_groups(
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
        let (name, detail) = uneven_dimension(servable, &group.tensors.0)?;
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
            subject: FaultSubject::Input,
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
