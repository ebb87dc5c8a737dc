//! `[model.NAME]`: settings of one model, which override the general sections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        error::{InvalidKey, KeyFault},
        fallback::FallbackConfig,
        models::check_model_name,
        runtime::check_delay,
    },
    id::Version,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelConfig {
    /// Stable version at the first start. At later starts the journal decides.
    #[schemars(extend("x-example" = r#""1.0.0""#))]
    pub version: Option<String>,
    /// runtime.workers for this model.
    #[schemars(extend("x-example" = "1"))]
    pub workers: Option<usize>,
    /// runtime.memory_limit_bytes for this model.
    #[schemars(extend("x-example" = "1073741824"))]
    pub memory_limit_bytes: Option<u64>,
    /// "graph": tensor protocols expose the graph's inputs instead of the schema's fields.
    #[schemars(extend("x-example" = r#""graph""#))]
    pub oip: Option<Oip>,
    pub batching: ModelBatchingConfig,
    pub fallback: Option<FallbackConfig>,
}

/// Which tensors of a package the tensor protocols expose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Oip {
    /// The fields of the schema. They are validated and preprocessed.
    #[default]
    Fields,
    /// The graph's own inputs and outputs.
    Graph,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelBatchingConfig {
    #[schemars(extend("x-example" = "32"))]
    pub max_batch_size: Option<usize>,
    #[schemars(extend("x-example" = "0"))]
    pub max_delay_us: Option<u64>,
    #[schemars(extend("x-example" = "256"))]
    pub queue_capacity: Option<usize>,
    #[schemars(extend("x-example" = "1024"))]
    pub max_rows_per_run: Option<usize>,
}

impl ModelConfig {
    pub(super) fn check(&self, name: &str) -> Result<(), InvalidKey> {
        check_model_name("model", name)?;
        if let Some(version) = &self.version
            && Version::parse(version).is_none()
        {
            return Err(InvalidKey::new(
                format!("model.{name}.version"),
                KeyFault::NotAVersion(version.clone()),
            ));
        }
        let sizes = [
            self.batching.max_batch_size,
            self.batching.queue_capacity,
            self.batching.max_rows_per_run,
        ];
        if sizes.contains(&Some(0)) {
            return Err(InvalidKey::new(
                format!("model.{name}.batching"),
                KeyFault::SizeBelowOne,
            ));
        }
        let key = format!("model.{name}.batching.max_delay_us");
        check_delay(&key, self.batching.max_delay_us.unwrap_or_default())
    }
}
