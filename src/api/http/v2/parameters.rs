//! `Parameters`: the parameters of a request, an input or an output.

use serde::Deserialize;

use crate::decode::json_object::Object;

/// The known parameters of a request, an input or an output. Unknown parameters are ignored.
#[derive(Default, Deserialize)]
pub(super) struct Parameters {
    pub(super) binary_data_size: Option<usize>,
    pub(super) binary_data: Option<bool>,
    pub(super) binary_data_output: Option<bool>,
    pub(super) classification: Option<usize>,
    pub(super) priority: Option<u64>,
    /// The timeout in microseconds. 0 means no limit.
    pub(super) timeout: Option<u64>,
    pub(super) shared_memory_region: Option<String>,
}

impl From<Option<Object<Parameters>>> for Parameters {
    fn from(parameters: Option<Object<Parameters>>) -> Parameters {
        parameters
            .map(|Object(parameters)| parameters)
            .unwrap_or_default()
    }
}
