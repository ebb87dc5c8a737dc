//! `Config`: every setting, from the compiled-in defaults, a TOML file and the environment; checked before anything starts.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The documented defaults; a test holds them against `Config::default()`.
pub const DEFAULT_FILE: &str = include_str!("../config/predictd.toml");

/// More sessions or threads than this are a mistake in a file, not a wish.
pub const MAX_THREADS: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: ServerConfig,
    pub models: ModelsConfig,
    pub runtime: RuntimeConfig,
    pub batching: BatchingConfig,
    pub state: StateConfig,
    pub telemetry: TelemetryConfig,
    pub cost: CostConfig,
    pub admin: AdminConfig,
    pub model: BTreeMap<String, ModelConfig>,
    /// What the platform that runs the container says in its environment.
    #[serde(skip)]
    pub platform: Platform,
}

/// Vertex AI's routes, where its environment names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    pub vertex_health_route: Option<String>,
    pub vertex_predict_route: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    pub listen: Listen,
    pub grpc_listen: OptionalListen,
    pub max_body_bytes: usize,
    pub read_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub grpc_idle_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub drain_grace_ms: u64,
    pub drain_timeout_ms: u64,
    pub max_inflight: usize,
    pub max_connections: usize,
    pub cors_origins: Vec<String>,
}

/// `HOST:PORT`: an address, or a name that is resolved when the listener is opened. An IPv6 address stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Listen {
    /// Without brackets.
    host: String,
    port: u16,
}

impl Listen {
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The addresses that the host stands for, IPv4 first: what listens on `localhost` is asked at 127.0.0.1. Never none.
    ///
    /// # Errors
    /// Where nobody knows the name.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<SocketAddr> =
            (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        if addresses.is_empty() {
            Err(std::io::Error::other("the name has no address"))
        } else {
            Ok(addresses)
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Listen, String> {
        text.parse()
    }
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Listen::from(address));
        }
        let wrong = || {
            format!(
                "\"{text}\" is not an address; write HOST:PORT, like 127.0.0.1:8080, localhost:8080 or [::1]:8080"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let is_name = host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        // Only digits and dots is an address with a mistake in it, which no name server should be asked about.
        let is_number = host
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        if host.is_empty() || host.len() > 253 || !is_name || is_number {
            Err(wrong())
        } else {
            Ok(Listen {
                host: host.to_owned(),
                port,
            })
        }
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> String {
        listen.to_string()
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Where a listener is, or the empty text: it is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OptionalListen(pub Option<Listen>);

impl TryFrom<String> for OptionalListen {
    type Error = String;

    fn try_from(text: String) -> Result<OptionalListen, String> {
        if text.is_empty() {
            return Ok(OptionalListen(None));
        }
        text.parse()
            .map(|listen| OptionalListen(Some(listen)))
            .map_err(|error: String| format!("{error} (or nothing: off)"))
    }
}

impl From<OptionalListen> for String {
    fn from(listen: OptionalListen) -> String {
        listen
            .0
            .map_or_else(String::new, |listen| listen.to_string())
    }
}

/// The operators' listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    pub listen: OptionalListen,
    /// Lines of `NAME TOKEN`; empty: none, which only loopback allows.
    pub token_file: PathBuf,
    /// Is told of each decision.
    pub webhook: WebhookUrl,
}

/// A URL, or the empty text: none. Who knows it may write where it leads, so no more than its host is ever printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookUrl(Option<String>);

impl WebhookUrl {
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// With its port.
    pub fn host(&self) -> &str {
        let rest = self
            .0
            .as_deref()
            .and_then(|url| url.split_once("://"))
            .map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split(['/', '?', '#']).next())
            .unwrap_or_default()
    }
}

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WebhookUrl").field(&self.host()).finish()
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = &'static str;

    // No error repeats the value.
    fn try_from(text: String) -> Result<WebhookUrl, &'static str> {
        if text.is_empty() {
            return Ok(WebhookUrl(None));
        }
        let known = text.starts_with("http://") || text.starts_with("https://");
        let url = WebhookUrl(Some(text));
        if !known
            || url.host().is_empty()
            || !url
                .0
                .iter()
                .all(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err("must be a URL that begins with https:// or http:// (or empty: none)");
        }
        if url.host().contains('@') {
            return Err("must not hold a name or a password");
        }
        // An IPv6 address has colons of its own, in brackets.
        let port = url
            .host()
            .rsplit(']')
            .next()
            .and_then(|rest| rest.split_once(':'))
            .map(|(_, port)| port);
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err("must not name a port that there can't be");
        }
        Ok(url)
    }
}

impl From<WebhookUrl> for String {
    fn from(url: WebhookUrl) -> String {
        url.0.unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsConfig {
    pub root: PathBuf,
    pub default: String,
    pub required: Vec<String>,
    pub promote: Promote,
    pub poll_seconds: f64,
    /// Graphs without a manifest are not served.
    pub require_manifest: bool,
    pub keep_versions: usize,
    /// How long a copy may lie there without growing.
    pub copy_timeout_ms: u64,
    pub gate_timeout_ms: u64,
    pub gate_memory_bytes: u64,
    /// How often the way back is tried.
    pub rehearse_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Promote {
    /// A new version waits for a decision.
    #[default]
    #[serde(rename = "")]
    Never,
    #[serde(rename = "newest")]
    Newest,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    pub library: PathBuf,
    pub workers: usize,
    pub intra_op_threads: usize,
    pub max_wedged: usize,
    /// What the engines of one version may take together; 0: no limit.
    pub memory_limit_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchingConfig {
    pub max_batch_size: usize,
    pub max_delay_us: u64,
    pub queue_capacity: usize,
    pub max_rows_per_run: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    pub url: String,
    pub keep_packages: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    pub log_format: LogFormat,
    pub log_level: String,
    pub request_log: RequestLog,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Which requests get a line in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TextOrNumber", into = "String")]
pub enum RequestLog {
    /// Errors, slow requests and 1 % of the rest.
    #[default]
    Errors,
    All,
    /// Errors, slow requests and this share of the rest.
    Rate(f64),
}

/// A rate is written as text, like its neighbours, or as the number that it is.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Number(f64),
}

impl TryFrom<TextOrNumber> for RequestLog {
    type Error = String;

    fn try_from(value: TextOrNumber) -> Result<RequestLog, String> {
        let text = match value {
            TextOrNumber::Text(text) => text,
            TextOrNumber::Number(rate) => rate.to_string(),
        };
        match text.as_str() {
            "errors" => Ok(RequestLog::Errors),
            "all" => Ok(RequestLog::All),
            other => match other.parse() {
                Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(RequestLog::Rate(rate)),
                _ => Err(format!(
                    "\"{other}\" is not \"errors\", \"all\" or a rate from \"0\" to \"1\""
                )),
            },
        }
    }
}

impl From<RequestLog> for String {
    fn from(value: RequestLog) -> String {
        match value {
            RequestLog::Errors => "errors".to_owned(),
            RequestLog::All => "all".to_owned(),
            RequestLog::Rate(rate) => rate.to_string(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CostConfig {
    pub dollars_per_core_hour: f64,
}

/// `[model.NAME]`: what differs for one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    pub version: Option<String>,
    pub workers: Option<usize>,
    pub oip: Option<Oip>,
    pub memory_limit_bytes: Option<u64>,
    pub batching: ModelBatchingConfig,
    pub fallback: Option<FallbackConfig>,
}

/// `[model.NAME.fallback]`: what answers where the version can't.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FallbackConfig {
    /// When.
    pub on: Vec<FallbackOn>,
    /// Who, one after the other until one answers.
    pub to: Vec<FallbackTo>,
}

impl Default for FallbackConfig {
    fn default() -> FallbackConfig {
        FallbackConfig {
            on: vec![
                FallbackOn::Error,
                FallbackOn::Timeout,
                FallbackOn::Overloaded,
                FallbackOn::Nan,
            ],
            to: vec![FallbackTo::Previous, FallbackTo::Constant],
        }
    }
}

/// Why a fallback is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FallbackOn {
    /// The model failed.
    Error,
    /// It had not answered when three quarters of the request's time were over.
    Timeout,
    /// Its queue was full.
    Overloaded,
    /// It answered a number that is none.
    Nan,
}

impl FallbackOn {
    pub fn name(self) -> &'static str {
        match self {
            FallbackOn::Error => "error",
            FallbackOn::Timeout => "timeout",
            FallbackOn::Overloaded => "overloaded",
            FallbackOn::Nan => "nan",
        }
    }
}

/// Who answers instead: `previous`, `constant`, or `model:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FallbackTo {
    /// The stable version before this one; for a candidate the stable version.
    Previous,
    /// The stable version of another model.
    Model(String),
    /// The answer in the package's `serving.json`.
    Constant,
}

impl TryFrom<String> for FallbackTo {
    type Error = String;

    fn try_from(text: String) -> Result<FallbackTo, String> {
        match text.split_once(':') {
            None if text == "previous" => Ok(FallbackTo::Previous),
            None if text == "constant" => Ok(FallbackTo::Constant),
            Some(("model", name)) if crate::id::ModelName::parse(name).is_some() => {
                Ok(FallbackTo::Model(name.to_owned()))
            }
            _ => Err(format!(
                "\"{text}\" is not \"previous\", \"constant\" or \"model:NAME\""
            )),
        }
    }
}

impl From<FallbackTo> for String {
    fn from(to: FallbackTo) -> String {
        to.to_string()
    }
}

impl std::fmt::Display for FallbackTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FallbackTo::Previous => f.write_str("previous"),
            FallbackTo::Constant => f.write_str("constant"),
            FallbackTo::Model(name) => write!(f, "model:{name}"),
        }
    }
}

/// What callers of tensors see of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Oip {
    /// The schema's fields, validated and preprocessed.
    #[default]
    Fields,
    /// The graph's own inputs and outputs.
    Graph,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelBatchingConfig {
    pub max_batch_size: Option<usize>,
    pub max_delay_us: Option<u64>,
    pub queue_capacity: Option<usize>,
    pub max_rows_per_run: Option<usize>,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            listen: Listen::from(SocketAddr::from(([127, 0, 0, 1], 8080))),
            grpc_listen: OptionalListen(Some(Listen::from(SocketAddr::from((
                [127, 0, 0, 1],
                8081,
            ))))),
            max_body_bytes: 16 << 20,
            read_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            grpc_idle_timeout_ms: 300_000,
            request_timeout_ms: 10_000,
            drain_grace_ms: 5_000,
            drain_timeout_ms: 30_000,
            max_inflight: 1024,
            max_connections: 10_000,
            cors_origins: Vec::new(),
        }
    }
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            listen: OptionalListen(Some(Listen::from(SocketAddr::from(([127, 0, 0, 1], 8082))))),
            token_file: PathBuf::new(),
            webhook: WebhookUrl::default(),
        }
    }
}

impl Default for ModelsConfig {
    fn default() -> ModelsConfig {
        ModelsConfig {
            root: PathBuf::from("models"),
            default: String::new(),
            required: Vec::new(),
            promote: Promote::Never,
            poll_seconds: 2.0,
            require_manifest: false,
            keep_versions: 2,
            copy_timeout_ms: 60_000,
            gate_timeout_ms: 60_000,
            gate_memory_bytes: 8 << 30,
            rehearse_seconds: 60.0,
        }
    }
}

impl Default for BatchingConfig {
    fn default() -> BatchingConfig {
        BatchingConfig {
            max_batch_size: 64,
            max_delay_us: 0,
            queue_capacity: 1024,
            max_rows_per_run: 65_536,
        }
    }
}

impl Default for StateConfig {
    fn default() -> StateConfig {
        StateConfig {
            url: "state".to_owned(),
            keep_packages: true,
        }
    }
}

impl Default for TelemetryConfig {
    fn default() -> TelemetryConfig {
        TelemetryConfig {
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            request_log: RequestLog::Errors,
        }
    }
}

impl ServerConfig {
    pub fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub fn grpc_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.grpc_idle_timeout_ms)
    }

    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub fn drain_grace(&self) -> Duration {
        Duration::from_millis(self.drain_grace_ms)
    }

    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

impl ModelsConfig {
    pub fn poll_interval(&self) -> Duration {
        Duration::from_secs_f64(self.poll_seconds)
    }

    pub fn rehearse_interval(&self) -> Duration {
        Duration::from_secs_f64(self.rehearse_seconds)
    }

    pub fn copy_timeout(&self) -> Duration {
        Duration::from_millis(self.copy_timeout_ms)
    }

    pub fn gate_timeout(&self) -> Duration {
        Duration::from_millis(self.gate_timeout_ms)
    }
}

impl StateConfig {
    /// The local directory that `state.url` names; `None` where nothing is to be kept.
    pub fn directory(&self) -> Option<PathBuf> {
        (!self.url.is_empty())
            .then(|| PathBuf::from(self.url.strip_prefix("file://").unwrap_or(&self.url)))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading the configuration")]
    Read(#[source] std::io::Error),
    #[error("{origin}: {detail}")]
    Syntax { origin: String, detail: String },
    #[error("{origin}: unknown key `{key}`{}", nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownKey {
        origin: String,
        key: String,
        nearest: Option<String>,
    },
    #[error("{origin}: {detail}")]
    Invalid { origin: String, detail: String },
}

impl Config {
    /// Defaults, then `file`, then `PREDICTD_SECTION__KEY` variables, then what SageMaker and Vertex AI say.
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
        for (name, text) in environment.clone() {
            if let Some((section, key)) = variable(&name) {
                let path = format!("{section}.{key}");
                if unknown(&path, &known_keys()) {
                    return Err(unknown_key(&name, path));
                }
                let value = typed(&text, &path);
                let alone = Table::from_iter([(
                    section.clone(),
                    Value::Table(Table::from_iter([(key.clone(), value.clone())])),
                )]);
                serde_path(alone).map_err(|detail| ConfigError::Invalid {
                    origin: name,
                    detail,
                })?;
                let values = table
                    .entry(section)
                    .or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(values) = values {
                    values.insert(key, value);
                }
            }
        }
        // The platform knows best where it will ask, whatever an image's own variables say.
        let platform = platform(&environment, &mut table)?;
        Ok(Config {
            platform,
            ..Config::from_table(table, &origin)?
        })
    }

    pub fn from_toml(text: &str, origin: &str) -> Result<Config, ConfigError> {
        Config::from_table(parse(text, origin)?, origin)
    }

    fn from_table(table: Table, origin: &str) -> Result<Config, ConfigError> {
        let known = known_keys();
        let mut given = Vec::new();
        flatten(&table, "", &mut given);
        if let Some(key) = given.into_iter().find(|key| unknown(key, &known)) {
            return Err(unknown_key(origin, key));
        }
        let config: Config = serde_path(table).map_err(|detail| ConfigError::Invalid {
            origin: origin.to_owned(),
            detail,
        })?;
        config.check().map_err(|detail| ConfigError::Invalid {
            origin: origin.to_owned(),
            detail,
        })?;
        Ok(config)
    }

    /// What the keys by themselves don't say.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("server.max_body_bytes", self.server.max_body_bytes as u64),
            ("server.read_timeout_ms", self.server.read_timeout_ms),
            ("server.idle_timeout_ms", self.server.idle_timeout_ms),
            (
                "server.grpc_idle_timeout_ms",
                self.server.grpc_idle_timeout_ms,
            ),
            ("server.request_timeout_ms", self.server.request_timeout_ms),
            ("server.max_inflight", self.server.max_inflight as u64),
            ("server.max_connections", self.server.max_connections as u64),
            ("models.keep_versions", self.models.keep_versions as u64),
            ("models.copy_timeout_ms", self.models.copy_timeout_ms),
            ("models.gate_timeout_ms", self.models.gate_timeout_ms),
            ("models.gate_memory_bytes", self.models.gate_memory_bytes),
            (
                "batching.max_batch_size",
                self.batching.max_batch_size as u64,
            ),
            (
                "batching.queue_capacity",
                self.batching.queue_capacity as u64,
            ),
            (
                "batching.max_rows_per_run",
                self.batching.max_rows_per_run as u64,
            ),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("`{key}` must be at least 1"));
        }
        if let Some(fault) = self
            .server
            .cors_origins
            .iter()
            .find_map(|origin| origin_fault(origin))
        {
            return Err(format!("`server.cors_origins`: {fault}"));
        }
        if self.server.cors_origins.len() > 1
            && self.server.cors_origins.iter().any(|origin| origin == "*")
        {
            return Err("`server.cors_origins`: \"*\" is every origin; it stands alone".to_owned());
        }
        let workers = self
            .model
            .values()
            .filter_map(|model| model.workers)
            .chain([self.runtime.workers, self.runtime.intra_op_threads]);
        if workers.into_iter().any(|count| count > MAX_THREADS) {
            return Err(format!(
                "`runtime.workers`, `runtime.intra_op_threads` and `[model.NAME] workers` may be at most {MAX_THREADS}"
            ));
        }
        if !(self.models.poll_seconds.is_finite()
            && (0.01..=86_400.0).contains(&self.models.poll_seconds))
        {
            return Err("`models.poll_seconds` must be from 0.01 to 86400".to_owned());
        }
        if !(self.models.rehearse_seconds.is_finite()
            && (0.1..=86_400.0).contains(&self.models.rehearse_seconds))
        {
            return Err("`models.rehearse_seconds` must be from 0.1 to 86400".to_owned());
        }
        if !(self.cost.dollars_per_core_hour.is_finite() && self.cost.dollars_per_core_hour >= 0.0)
        {
            return Err("`cost.dollars_per_core_hour` must be 0 or more".to_owned());
        }
        if self.state.url.contains("://") && !self.state.url.starts_with("file://") {
            return Err("`state.url` must be a local directory or a file:// URL".to_owned());
        }
        let names = self
            .models
            .required
            .iter()
            .map(|name| ("models.required", name));
        let names = names.chain(
            (!self.models.default.is_empty()).then_some(("models.default", &self.models.default)),
        );
        for (key, name) in names.chain(self.model.keys().map(|name| ("model", name))) {
            if crate::id::ModelName::parse(name).is_none() {
                return Err(format!("`{key}`: \"{name}\" is not a model name"));
            }
        }
        for (name, model) in &self.model {
            if let Some(version) = &model.version
                && crate::id::Version::parse(version).is_none()
            {
                return Err(format!(
                    "`model.{name}.version`: \"{version}\" is not a version (like 1.0.0, or a whole number)"
                ));
            }
            let sizes = [
                model.batching.max_batch_size,
                model.batching.queue_capacity,
                model.batching.max_rows_per_run,
            ];
            if sizes.contains(&Some(0)) {
                return Err(format!("`model.{name}.batching`: sizes must be at least 1"));
            }
        }
        Ok(())
    }

    /// What applies to one model: its own table over the general section.
    pub fn batching_of(&self, model: &str) -> BatchingConfig {
        let own = self
            .model
            .get(model)
            .map(|model| model.batching.clone())
            .unwrap_or_default();
        BatchingConfig {
            max_batch_size: own.max_batch_size.unwrap_or(self.batching.max_batch_size),
            max_delay_us: own.max_delay_us.unwrap_or(self.batching.max_delay_us),
            queue_capacity: own.queue_capacity.unwrap_or(self.batching.queue_capacity),
            max_rows_per_run: own
                .max_rows_per_run
                .unwrap_or(self.batching.max_rows_per_run),
        }
    }

    pub fn workers_of(&self, model: &str) -> usize {
        self.model
            .get(model)
            .and_then(|model| model.workers)
            .unwrap_or(self.runtime.workers)
    }

    /// What the engines of one version of the model may take together; `None`: no limit.
    pub fn memory_limit_of(&self, model: &str) -> Option<u64> {
        let own = self
            .model
            .get(model)
            .and_then(|model| model.memory_limit_bytes);
        Some(own.unwrap_or(self.runtime.memory_limit_bytes)).filter(|limit| *limit > 0)
    }

    pub fn oip_of(&self, model: &str) -> Oip {
        self.model
            .get(model)
            .and_then(|model| model.oip)
            .unwrap_or_default()
    }

    pub fn pinned(&self, model: &str) -> Option<&str> {
        self.model.get(model)?.version.as_deref()
    }
}

/// Why no browser would ever send this as its `Origin`.
fn origin_fault(origin: &str) -> Option<String> {
    if origin == "*" {
        return None;
    }
    let example = "an origin is like \"https://app.example.com\" or \"http://localhost:3000\", or \"*\" for all";
    let Some((scheme, host)) = origin.split_once("://") else {
        return Some(format!("\"{origin}\" has no scheme; {example}"));
    };
    let own_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let is_sent = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:[]".contains(c);
    match () {
        () if host.is_empty() || !host.chars().all(is_sent) => Some(format!(
            "\"{origin}\" is no origin (lower case, without a path); {example}"
        )),
        () if !own_port.is_empty() && host.ends_with(own_port) => Some(format!(
            "\"{origin}\": browsers leave out the port {own_port}"
        )),
        () => None,
    }
}

fn parse(text: &str, origin: &str) -> Result<Table, ConfigError> {
    text.parse()
        .map_err(|error: toml::de::Error| ConfigError::Syntax {
            origin: origin.to_owned(),
            detail: error.to_string(),
        })
}

/// The directory into which SageMaker unpacks a model.
const SAGEMAKER_MODELS: &str = "/opt/ml/model";

/// What a platform's variables stand for: SageMaker's and Vertex AI's containers are told their port, and must listen on all
/// addresses.
fn platform(environment: &[(String, String)], table: &mut Table) -> Result<Platform, ConfigError> {
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
            detail: format!("\"{text}\" is not a port"),
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
            detail: format!("\"{route}\" is not a path; it begins with /"),
        }),
        route => Ok(route),
    };
    Ok(Platform {
        vertex_health_route: route("AIP_HEALTH_ROUTE")?,
        vertex_predict_route: route("AIP_PREDICT_ROUTE")?,
    })
}

/// `PREDICTD_SERVER__LISTEN` is `server.listen`; anything without the two underscores is not ours.
fn variable(name: &str) -> Option<(String, String)> {
    let (section, key) = name.strip_prefix("PREDICTD_")?.split_once("__")?;
    Some((section.to_lowercase(), key.to_lowercase()))
}

/// A variable's text as the type that the key's default has.
fn typed(text: &str, path: &str) -> Value {
    let default = defaults();
    let like = path
        .split_once('.')
        .and_then(|(section, key)| default.get(section)?.get(key));
    match like {
        Some(Value::String(_)) => Value::String(text.to_owned()),
        Some(Value::Array(_)) if !text.trim_start().starts_with('[') => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        _ => format!("value = {text}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

fn defaults() -> Table {
    Table::try_from(Config::default()).unwrap_or_default()
}

fn known_keys() -> Vec<String> {
    let mut keys = Vec::new();
    flatten(&defaults(), "", &mut keys);
    let own = [
        "version",
        "workers",
        "oip",
        "memory_limit_bytes",
        "batching.max_batch_size",
        "batching.max_delay_us",
        "batching.queue_capacity",
        "batching.max_rows_per_run",
        "fallback.on",
        "fallback.to",
    ];
    keys.extend(own.map(|key| format!("model.*.{key}")));
    keys
}

fn flatten(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(inner, &path, keys),
            Value::Table(_) => {}
            _ => keys.push(path),
        }
    }
}

/// `model.churn.workers` is known as `model.*.workers`.
fn generic(key: &str) -> String {
    match key
        .strip_prefix("model.")
        .and_then(|rest| rest.split_once('.'))
    {
        Some((_, rest)) => format!("model.*.{rest}"),
        None => key.to_owned(),
    }
}

fn unknown(key: &str, known: &[String]) -> bool {
    !known.contains(&generic(key))
}

fn unknown_key(origin: &str, key: String) -> ConfigError {
    let wanted = generic(&key);
    let distance = |known: &String| strsim::damerau_levenshtein(known, &wanted);
    let nearest = known_keys()
        .into_iter()
        .min_by_key(distance)
        .filter(|known| distance(known) <= wanted.len().div_ceil(3));
    let model = key.split('.').nth(1).unwrap_or_default().to_owned();
    ConfigError::UnknownKey {
        origin: origin.to_owned(),
        nearest: nearest.map(|near| near.replace('*', &model)),
        key,
    }
}

/// Deserializes and names the key in the error.
/// What the library expects, without the names of our types.
fn in_words(message: &str) -> String {
    let Some((given, expected)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    match expected.trim() {
        "usize" | "u64" | "u32" | "u16" | "u8" | "i64" | "i32" => {
            format!("{given}expected a whole number")
        }
        "f64" | "f32" => format!("{given}expected a number"),
        _ => message.to_owned(),
    }
}

fn serde_path(table: Table) -> Result<Config, String> {
    for (section, value) in &table {
        if let Value::Table(keys) = value
            && section != "model"
        {
            for (key, value) in keys {
                let alone = Table::from_iter([(
                    section.clone(),
                    Value::Table(Table::from_iter([(key.clone(), value.clone())])),
                )]);
                alone
                    .try_into::<Config>()
                    .map_err(|error| format!("`{section}.{key}`: {}", in_words(error.message())))?;
            }
        }
    }
    table
        .try_into::<Config>()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, DEFAULT_FILE, Promote, RequestLog};

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("predictd.toml");
        fs_err::write(&path, text).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(&path), variables)
            .map_err(|error| error.to_string().replace(path.to_str().unwrap(), "FILE"))
    }

    #[test]
    fn the_documented_file_is_the_default() {
        assert_eq!(
            Config::from_toml(DEFAULT_FILE, "default").unwrap(),
            Config::default()
        );
    }

    #[test]
    fn every_key_is_documented_with_a_comment() {
        let mut keys = Vec::new();
        super::flatten(&DEFAULT_FILE.parse().unwrap(), "", &mut keys);
        let mut known = super::known_keys();
        known.retain(|key| !key.starts_with("model."));
        keys.sort();
        known.sort();
        assert_eq!(keys, known);
    }

    #[test]
    fn environment_overrides_the_file() {
        let variables = [
            ("PREDICTD_SERVER__MAX_INFLIGHT", "7"),
            ("PREDICTD_MODELS__REQUIRED", "churn, digits"),
            ("PREDICTD_MODELS__PROMOTE", "newest"),
            ("PREDICTD_PORT", "tcp://10.0.0.1:80"),
            ("PREDICTD_TELEMETRY__REQUEST_LOG", "0.5"),
        ];
        let config = load(
            "[server]\nmax_inflight = 3\nlisten = \"[::1]:9\"\n[model.churn]\nversion = \"1.0.0\"\nbatching.max_delay_us = 5\n",
            &variables,
        )
        .unwrap();
        assert_eq!(config.server.max_inflight, 7);
        assert_eq!(config.server.listen.port(), 9);
        assert_eq!(config.models.required, ["churn", "digits"]);
        assert_eq!(config.models.promote, Promote::Newest);
        assert_eq!(config.telemetry.request_log, RequestLog::Rate(0.5));
        assert_eq!(
            load("[telemetry]\nrequest_log = 0.25", &[])
                .unwrap()
                .telemetry
                .request_log,
            RequestLog::Rate(0.25)
        );
        assert_eq!(config.pinned("churn"), Some("1.0.0"));
        assert_eq!(
            (
                config.batching_of("churn").max_delay_us,
                config.batching_of("other").max_delay_us
            ),
            (5, 0)
        );
    }

    #[test]
    fn a_listener_may_be_named() {
        let config = load("[server]\nlisten = \"localhost:8080\"\ngrpc_listen = \"[::1]:1\"\n[admin]\nlisten = \"\"", &[]).unwrap();
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
                "FILE: `server.max_inflight` must be at least 1",
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
            .contains("stands alone")
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
