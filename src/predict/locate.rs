//! Locating errors: faults point to the place where the caller wrote the value.

use crate::{decode::row_origin::RowOrigin, predict::PredictError, schema::fault::Fault};

/// Returns the same error with the places in the form in which the caller wrote the request.
pub(super) fn locate_error(error: PredictError, origin: &RowOrigin) -> PredictError {
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
