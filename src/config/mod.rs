//! `Config`: all settings. They come from the compiled-in defaults, a TOML file and the
//! environment, and are checked before the server starts.
//!
//! The types are the only source of the keys, their defaults and their documentation:
//! `config/predictd.toml` is generated from them.

mod admin;
mod document;
mod error;
mod fallback;
mod keys;
mod listen;
mod model;
mod model_settings;
mod models;
mod monitor;
mod platform;
mod runtime;
mod server;
mod state;
mod telemetry;
mod webhook_url;

use std::{collections::BTreeMap, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub(crate) use admin::AdminConfig;
pub use document::document;
pub use error::{ConfigError, InvalidKey, KeyFault, OriginFault};
pub(crate) use fallback::{FallbackConfig, FallbackOn, FallbackTo};
pub(crate) use listen::{AddressError, Listen, OptionalListen};
pub(crate) use model::{ModelConfig, Oip};
pub(crate) use model_settings::ModelSettings;
pub(crate) use models::{ModelsConfig, PromotePolicy};
pub(crate) use monitor::MonitorConfig;
pub use monitor::WindowLength;
pub(crate) use platform::Platform;
pub(crate) use runtime::{BatchingConfig, CostConfig, MAX_THREADS, RuntimeConfig};
pub(crate) use server::ServerConfig;
pub(crate) use state::StateConfig;
pub(crate) use telemetry::{LogFormat, RequestLog, TelemetryConfig};
pub(crate) use webhook_url::WebhookUrl;

use crate::{
    config::{
        keys::{KEYS, check_key},
        platform::apply_platform,
    },
    document::{TomlError, parse_toml},
};

/// The settings of a server, one field for each section of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) models: ModelsConfig,
    pub(crate) runtime: RuntimeConfig,
    pub(crate) batching: BatchingConfig,
    pub(crate) state: StateConfig,
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) monitor: MonitorConfig,
    pub(crate) cost: CostConfig,
    pub(crate) admin: AdminConfig,
    pub(crate) model: BTreeMap<String, ModelConfig>,
    /// The platform that runs the container, according to its environment variables.
    #[serde(skip)]
    pub(crate) platform: Platform,
}

impl Config {
    /// Reads the defaults, then `file`, then `PREDICTD_SECTION__KEY` variables, then the variables
    /// of SageMaker and Vertex AI.
    ///
    /// # Errors
    ///
    /// The file can't be read, or a key or a value is not valid.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let mut table = Table::new();
        let mut origin = "configuration".to_owned();
        if let Some(path) = file {
            origin = path.display().to_string();
            let text = fs_err::read_to_string(path).map_err(ConfigError::Read)?;
            table = parse(&text, &origin)?;
        }
        let environment: Vec<(String, String)> = environment.collect();
        for (name, text) in &environment {
            match variable(name) {
                Some((section, key)) => apply_variable(name, text, (section, key), &mut table)?,
                None => check_underscores(name)?,
            }
        }
        // The platform decides which port the container uses, so its variables override those of
        // the image.
        let platform = apply_platform(&environment, &mut table)?;
        Ok(Config {
            platform,
            ..Config::from_table(table, &origin)?
        })
    }

    #[cfg(test)]
    pub(crate) fn from_toml(text: &str, origin: &str) -> Result<Config, ConfigError> {
        Config::from_table(parse(text, origin)?, origin)
    }

    fn from_table(table: Table, origin: &str) -> Result<Config, ConfigError> {
        let mut keys = Vec::new();
        flatten(&table, &[], &mut keys);
        for key in &keys {
            check_key(origin, key)?;
        }
        let invalid = |error: InvalidKey| ConfigError::Invalid {
            origin: origin.to_owned(),
            error,
        };
        let config = deserialize(&table).map_err(invalid)?;
        config.check().map_err(invalid)?;
        Ok(config)
    }

    /// Checks the rules that the types can't express.
    pub(crate) fn check(&self) -> Result<(), InvalidKey> {
        self.check_sections()?;
        self.check_addresses()?;
        for (name, model) in &self.model {
            model.check(name)?;
        }
        let workers = self.model.values().filter_map(|model| model.workers);
        let mut threads = workers.chain([self.runtime.workers, self.runtime.intra_op_threads]);
        if threads.any(|count| count > MAX_THREADS) {
            return Err(InvalidKey::without_key(KeyFault::TooManyThreads {
                limit: MAX_THREADS,
            }));
        }
        Ok(())
    }

    /// Checks the rules about one section.
    fn check_sections(&self) -> Result<(), InvalidKey> {
        self.server.check()?;
        self.models.check()?;
        self.batching.check()?;
        self.cost.check()?;
        self.state.check()?;
        self.telemetry.check()?;
        self.monitor.check()
    }

    /// Checks that no two listeners have the same address. The system would report that another
    /// process uses it.
    fn check_addresses(&self) -> Result<(), InvalidKey> {
        let listeners = [
            ("server.listen", Some(&self.server.listen)),
            ("server.grpc_listen", self.server.grpc_listen.0.as_ref()),
            ("admin.listen", self.admin.listen.0.as_ref()),
        ];
        let mut earlier: Vec<(&'static str, &Listen)> = Vec::new();
        for (key, listen) in listeners {
            // The system chooses a free port for port 0.
            let Some(listen) = listen.filter(|listen| listen.port() != 0) else {
                continue;
            };
            if let Some((other, _)) = earlier.iter().find(|(_, earlier)| *earlier == listen) {
                let fault = KeyFault::SameAddress {
                    other,
                    listen: listen.to_string(),
                };
                return Err(InvalidKey::new(key, fault));
            }
            earlier.push((key, listen));
        }
        Ok(())
    }

    /// The settings of each model: its own table overrides the general sections.
    pub(crate) fn model_settings(&self) -> ModelSettings {
        ModelSettings {
            runtime: self.runtime.clone(),
            monitor: self.monitor.clone(),
            batching: self.batching.clone(),
            model: self.model.clone(),
        }
    }

    /// The value of `[model.NAME] version` for each model that has one.
    pub(crate) fn pinned_versions(&self) -> BTreeMap<String, String> {
        self.model
            .iter()
            .filter_map(|(name, model)| Some((name.clone(), model.version.clone()?)))
            .collect()
    }
}

fn parse(text: &str, origin: &str) -> Result<Table, ConfigError> {
    parse_toml(text).map_err(|error| {
        let origin = origin.to_owned();
        match error {
            TomlError::Syntax(source) => ConfigError::Syntax { origin, source },
            TomlError::Number(error) => ConfigError::Invalid {
                origin,
                error: InvalidKey::new(error.key(), error.problem),
            },
        }
    })
}

/// Returns the key for an environment variable: `PREDICTD_SERVER__LISTEN` is `server.listen`.
/// `None` for a variable without two underscores.
fn variable(name: &str) -> Option<(String, String)> {
    let (section, key) = name.strip_prefix("PREDICTD_")?.split_once("__")?;
    Some((section.to_lowercase(), key.to_lowercase()))
}

/// Rejects `PREDICTD_SERVER_LISTEN`, which would be ignored because it lacks an underscore. Other
/// variables may begin with `PREDICTD_`: Kubernetes sets some for a service of that name.
fn check_underscores(name: &str) -> Result<(), ConfigError> {
    let Some(word) = name.strip_prefix("PREDICTD_").map(str::to_lowercase) else {
        return Ok(());
    };
    let meant = KEYS
        .iter()
        .filter(|key| !key.path.starts_with("model."))
        .find(|key| key.path.replacen('.', "_", 1) == word);
    match meant {
        None => Ok(()),
        Some(key) => {
            let variable = key.path.replacen('.', "__", 1).to_uppercase();
            Err(ConfigError::UnknownKey {
                origin: name.to_owned(),
                key: word,
                nearest: Some(format!("PREDICTD_{variable}")),
            })
        }
    }
}

fn apply_variable(
    name: &str,
    text: &str,
    (section, key): (String, String),
    table: &mut Table,
) -> Result<(), ConfigError> {
    let path = format!("{section}.{key}");
    check_key(name, &[&section, &key])?;
    // Each variable is parsed and checked alone, so that an error names the variable and not the
    // file.
    let check = || {
        let value = typed(text, &path)?;
        let config = deserialize(&one_key(&section, &key, value.clone()))?;
        config.check_sections()?;
        Ok(value)
    };
    let value = check().map_err(|error| ConfigError::Invalid {
        origin: name.to_owned(),
        error,
    })?;
    let values = table
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(values) = values {
        values.insert(key, value);
    }
    Ok(())
}

fn one_key(section: &str, key: &str, value: Value) -> Table {
    let values = Table::from_iter([(key.to_owned(), value)]);
    Table::from_iter([(section.to_owned(), Value::Table(values))])
}

/// Converts the value of a variable to the type of the key's default.
fn typed(text: &str, path: &str) -> Result<Value, InvalidKey> {
    let default = Table::try_from(Config::default()).unwrap_or_default();
    let like = path
        .split_once('.')
        .and_then(|(section, key)| default.get(section)?.get(key));
    Ok(match like {
        Some(Value::String(_)) => Value::String(text.to_owned()),
        Some(Value::Array(_)) if !text.trim_start().starts_with('[') => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        _ => match parse_toml(&format!("value = {text}")) {
            Ok(mut table) => table.remove("value").unwrap_or_else(|| text.into()),
            Err(TomlError::Number(error)) => return Err(InvalidKey::new(path, error.problem)),
            // The error about a text says which type the key has.
            Err(TomlError::Syntax(_)) => text.into(),
        },
    })
}

/// Collects the paths of all keys. A path has one element for each table and one for the key.
fn flatten<'a>(table: &'a Table, parent: &[&'a str], keys: &mut Vec<Vec<&'a str>>) {
    for (key, value) in table {
        let path = [parent, &[key.as_str()]].concat();
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(inner, &path, keys),
            Value::Table(_) => {}
            _ => keys.push(path),
        }
    }
}

fn deserialize(table: &Table) -> Result<Config, InvalidKey> {
    crate::document::read_table(table).map_err(|error| InvalidKey::new(error.key(), error.problem))
}

#[cfg(test)]
mod tests {
    use crate::{
        config::{Config, PromotePolicy, RequestLog, document},
        error::text_with_sources,
    };

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("predictd.toml");
        fs_err::write(&path, text).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(&path), variables)
            .map_err(|error| text_with_sources(&error).replace(path.to_str().unwrap(), "FILE"))
    }

    #[test]
    fn the_documented_file_is_written_from_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/predictd.toml");
        let text = document();
        if std::env::var_os("UPDATE_CONFIG").is_some() {
            fs_err::write(path, &text).unwrap();
        }
        assert!(
            fs_err::read_to_string(path).unwrap() == text,
            "{path} is outdated: run this test with UPDATE_CONFIG=1"
        );
        assert_eq!(
            Config::from_toml(&text, "default").unwrap(),
            Config::default()
        );
    }

    #[test]
    fn every_key_is_documented() {
        for key in super::keys::KEYS.iter() {
            let documented =
                !key.description.is_empty() || key.path.starts_with("model.*.batching.");
            assert!(documented, "{}", key.path);
        }
        assert!(
            super::keys::KEYS
                .iter()
                .any(|key| key.path == "model.*.fallback.to")
        );
    }

    #[test]
    fn environment_overrides_the_file() {
        let variables = [
            ("PREDICTD_SERVER__MAX_INFLIGHT", "7"),
            ("PREDICTD_MODELS__REQUIRED", "churn, digits"),
            ("PREDICTD_MODELS__PROMOTE", "newest"),
            ("PREDICTD_PORT", "tcp://10.0.0.1:80"),
            ("PREDICTD_SERVER", "http://127.0.0.1:1"),
            ("PREDICTD_SERVER_SERVICE_HOST", "10.0.0.1"),
            ("PREDICTD_TELEMETRY__REQUEST_LOG", "0.5"),
        ];
        let config = load(
            "[server]\nmax_inflight = 3\nlisten = \"[::1]:9\"\n[model.churn]\nversion = \"1.0.0\"\n\
             batching.max_delay_us = 5\n",
            &variables,
        )
        .unwrap();
        assert_eq!(config.server.max_inflight, 7);
        assert_eq!(config.server.listen.port(), 9);
        assert_eq!(config.models.required, ["churn", "digits"]);
        assert_eq!(config.models.promote, PromotePolicy::Newest);
        assert_eq!(config.telemetry.request_log, RequestLog::Rate(0.5));
        assert_eq!(
            load("[telemetry]\nrequest_log = 0.25", &[])
                .unwrap()
                .telemetry
                .request_log,
            RequestLog::Rate(0.25)
        );
        assert_eq!(config.model_settings().pinned("churn"), Some("1.0.0"));
        assert_eq!(
            (
                config.model_settings().batching("churn").max_delay_us,
                config.model_settings().batching("other").max_delay_us
            ),
            (5, 0)
        );
    }

    #[test]
    fn an_error_in_a_variable_names_the_variable() {
        for (name, value, expected) in [
            (
                "PREDICTD_SERVER__MAX_INFLIGHT",
                "18446744073709551615",
                "`server.max_inflight`: expected a whole number from -9223372036854775808 to \
                 9223372036854775807, found 18446744073709551615",
            ),
            (
                "PREDICTD_SERVER__MAX_INFLIGHT",
                "many",
                "`server.max_inflight`: expected a whole number that is not negative, found \"many\"",
            ),
            (
                "PREDICTD_SERVER__MAX_INFLIGHT",
                "0",
                "`server.max_inflight` must be at least 1, not 0",
            ),
            (
                "PREDICTD_TELEMETRY__LOG_LEVEL",
                "loud",
                "`telemetry.log_level`: \"loud\" is not a level; use off, error, warn, info, debug \
                 or trace, or directives such as \"info,predictd=debug\"",
            ),
        ] {
            let error = load("", &[(name, value)]).unwrap_err();
            assert_eq!(error, format!("{name}: {expected}"));
        }
    }

    #[test]
    fn a_variable_that_lacks_an_underscore_is_refused() {
        for (name, near) in [
            ("PREDICTD_SERVER_LISTEN", "PREDICTD_SERVER__LISTEN"),
            (
                "PREDICTD_MODELS_KEEP_VERSIONS",
                "PREDICTD_MODELS__KEEP_VERSIONS",
            ),
        ] {
            let error = load("", &[(name, "1")]).unwrap_err();
            assert!(
                error.starts_with(name) && error.ends_with(&format!("did you mean `{near}`?")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_name_of_a_model_may_contain_dots() {
        let text = "[model.\"a.b\".batching]\nmax_delay_us = 7\n[model.\"c.d\".fallback]\n\
                    on = [\"nan\"]\n";
        let settings = load(text, &[]).unwrap().model_settings();
        assert_eq!(settings.batching("a.b").max_delay_us, 7);
        let misspelt = load("[model.\"a.b\".batching]\nmax_delay = 7\n", &[]).unwrap_err();
        assert!(misspelt.contains("max_delay_us"), "{misspelt}");
        let misplaced = load("[model.churn.batching]\nworkers = 3\n", &[]).unwrap_err();
        assert!(
            misplaced.contains("unknown key `model.churn.batching.workers`"),
            "{misplaced}"
        );
    }

    #[test]
    fn a_listener_may_be_named() {
        let config = load(
            "[server]\nlisten = \"localhost:8080\"\ngrpc_listen = \"[::1]:1\"\n[admin]\n\
             listen = \"\"",
            &[],
        )
        .unwrap();
        assert_eq!(config.server.listen.to_string(), "localhost:8080");
        let addresses = config.server.listen.resolve().unwrap();
        assert!(
            addresses[0].is_ipv4()
                && addresses
                    .iter()
                    .all(|address| address.ip().is_loopback() && address.port() == 8080)
        );
        assert_eq!(
            config.server.grpc_listen.0.unwrap().resolve().unwrap(),
            ["[::1]:1".parse().unwrap()]
        );
        assert_eq!(config.admin.listen.0, None);
    }

    #[test]
    fn wrong_configuration_names_the_key() {
        let cases = [
            (
                "[server]\nlistne = 1",
                "FILE: unknown key `server.listne`; did you mean `server.listen`?",
            ),
            (
                "[sever]\nlisten = 1",
                "FILE: unknown key `sever.listen`; did you mean `server.listen`?",
            ),
            (
                "[model.churn]\nworker = 1",
                "FILE: unknown key `model.churn.worker`; did you mean `model.churn.workers`?",
            ),
            (
                "[server]\nmax_inflight = 0",
                "FILE: `server.max_inflight` must be at least 1, not 0",
            ),
            (
                "[models]\ndefault = \"../x\"",
                "FILE: `models.default`: \"../x\" is not a model name",
            ),
            (
                "[model.churn]\nversion = \"1.0\"",
                "FILE: `model.churn.version`: \"1.0\" is not a version (like 1.0.0, or a whole number)",
            ),
            (
                "server = 3",
                "FILE: `server` is a section, which has keys and no value",
            ),
            (
                "[batching]\nmax_delay_us = 10000001",
                "FILE: `batching.max_delay_us` may be at most 10000000 (10 s), not 10000001",
            ),
            (
                "[model.churn.batching]\nmax_delay_us = 10000001",
                "FILE: `model.churn.batching.max_delay_us` may be at most 10000000 (10 s), not 10000001",
            ),
            (
                "[models]\ngate_memory_bytes = 1",
                "FILE: `models.gate_memory_bytes` must be at least 268435456, not 1: the gate needs memory itself",
            ),
            (
                "[server]\nlisten = \"127.0.0.1:7\"\ngrpc_listen = \"127.0.0.1:7\"",
                "FILE: `server.grpc_listen` and `server.listen` are both 127.0.0.1:7; each needs its own port",
            ),
            (
                "[state]\nurl = \"s3://bucket\"",
                "FILE: `state.url` must be a local directory or a file:// URL",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(load(text, &[]).unwrap_err(), expected);
        }
        for origin in [
            "app.example.com",
            "https://",
            "https://App.example.com",
            "https://a.example/",
            "https://a.example:443",
            "http://a:80",
        ] {
            let error = load(&format!("[server]\ncors_origins = [\"{origin}\"]"), &[]).unwrap_err();
            assert!(
                error.starts_with(&format!("FILE: `server.cors_origins`: \"{origin}\"")),
                "{error}"
            );
        }
        assert!(
            load(
                "[server]\ncors_origins = [\"*\", \"https://a.example\"]",
                &[]
            )
            .unwrap_err()
            .contains("must be the only entry")
        );
        assert!(
            load(
                "[server]\ncors_origins = [\"http://localhost:3000\", \"https://[::1]:8443\"]",
                &[]
            )
            .is_ok()
        );
        for webhook in [
            "hooks.example/secret",
            "ftp://h/secret",
            "https://",
            "https://ann:secret@h/",
            "https://h/secret part",
            "https://h:99999/secret",
        ] {
            let error = load(&format!("[admin]\nwebhook = \"{webhook}\""), &[]).unwrap_err();
            assert!(
                error.starts_with("FILE: `admin.webhook`: must ") && !error.contains("secret"),
                "{error}"
            );
        }
        for (text, key) in [
            ("[server]\nlisten = \"here\"", "`server.listen`"),
            ("[server]\nlisten = \"127.0.0.300:1\"", "`server.listen`"),
            (
                "[server]\ngrpc_listen = \"localhost:70000\"",
                "`server.grpc_listen`",
            ),
            (
                "[admin]\nlisten = \"http://localhost:8082\"",
                "`admin.listen`",
            ),
            ("[server]\nmax_inflight = -1", "`server.max_inflight`"),
            ("[models]\npromote = \"yes\"", "`models.promote`"),
        ] {
            assert!(load(text, &[]).unwrap_err().contains(key), "{text}");
        }
        assert_eq!(
            load("", &[("PREDICTD_SERVER__LISTNE", "x")]).unwrap_err(),
            "PREDICTD_SERVER__LISTNE: unknown key `server.listne`; did you mean `server.listen`?"
        );
        assert!(load("[server", &[]).unwrap_err().contains("FILE"));
    }
}
