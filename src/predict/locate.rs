//! Locating errors: faults name the place where the caller wrote the value.

use crate::{decode::row_origin::RowOrigin, predict::PredictError, schema::fault::Fault};

/// The same error, with places as the caller wrote them.
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
