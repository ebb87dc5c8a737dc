//! Locating errors: faults point to the place where the caller wrote the value.

use crate::{decode::row_origin::RowOrigin, predict::PredictError};

/// Returns the same error with the places in the form in which the caller wrote the request.
pub(super) fn locate_error(error: PredictError, origin: &RowOrigin) -> PredictError {
    match error {
        PredictError::Invalid { faults, more } => {
            let faults = faults.into_iter().map(|fault| origin.locate(fault));
            PredictError::Invalid {
                faults: faults.collect(),
                more,
            }
        }
        other => other,
    }
}
