//! Container platforms: SageMaker and Vertex AI pass the container's port and routes in environment
//! variables.

use std::path::Path;

use toml::{Table, Value};

use crate::config::error::{ConfigError, InvalidKey, KeyFault};

/// The routes that Vertex AI requires, if its environment variables name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Platform {
    pub vertex_health_route: Option<String>,
    pub vertex_predict_route: Option<String>,
}

/// The directory into which SageMaker unpacks a model.
const SAGEMAKER_MODELS: &str = "/opt/ml/model";

/// Applies the platform's variables to the configuration. On such a platform, the container must
/// listen on all addresses of a given port.
pub(super) fn apply_platform(
    environment: &[(String, String)],
    table: &mut Table,
) -> Result<Platform, ConfigError> {
    let get = |wanted: &str| {
        environment
            .iter()
            .find(|(name, text)| name == wanted && !text.is_empty())
            .map(|(_, text)| text.clone())
    };
    let mut set = |section: &str, key: &str, value: &str| {
        if let Value::Table(values) = table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()))
        {
            values.insert(key.to_owned(), Value::String(value.to_owned()));
        }
    };
    for name in ["SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT"] {
        let Some(text) = get(name) else { continue };
        let wrong = || ConfigError::Invalid {
            origin: name.to_owned(),
            error: InvalidKey::without_key(KeyFault::NotAPort(text.to_owned())),
        };
        let port: u16 = text.parse().map_err(|_| wrong())?;
        set("server", "listen", &format!("0.0.0.0:{port}"));
        if name == "SAGEMAKER_BIND_TO_PORT" && Path::new(SAGEMAKER_MODELS).is_dir() {
            set("models", "root", SAGEMAKER_MODELS);
        }
    }
    let route = |name: &str| match get(name) {
        Some(route) if !route.starts_with('/') => Err(ConfigError::Invalid {
            origin: name.to_owned(),
            error: InvalidKey::without_key(KeyFault::NotAPath(route.to_owned())),
        }),
        route => Ok(route),
    };
    Ok(Platform {
        vertex_health_route: route("AIP_HEALTH_ROUTE")?,
        vertex_predict_route: route("AIP_PREDICT_ROUTE")?,
    })
}
