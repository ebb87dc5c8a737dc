//! `Client`: sends requests to a server's admin listener.

use std::{io, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use ureq::{Agent, Body, http::Response};

use crate::{
    admin::error_document::{ErrorDocument, Suggestion},
    cli::suggestion::command,
    document::{self, DocumentError},
    id::{ModelName, Version},
};

const DEFAULT: &str = "http://127.0.0.1:8082";
const SERVER: &str = "PREDICTD_SERVER";
const TOKEN: &str = "PREDICTD_TOKEN";

const CONNECT: Duration = Duration::from_secs(5);
/// The timeout of an answer. It is longer than a server waits for a version that it must load
/// first.
const ANSWER: Duration = Duration::from_secs(150);
/// Maximum size of an answer in bytes. Each entry on a page of the journal may contain much
/// evidence.
const LONGEST_ANSWER: u64 = 1 << 30;

/// The server that a command talks to.
#[derive(clap::Args)]
pub(super) struct ServerArgs {
    /// The server's admin listener [default: http://127.0.0.1:8082]
    ///
    /// The server's key admin.listen sets this address. PREDICTD_SERVER changes the default. If the
    /// listener requires a token, set PREDICTD_TOKEN.
    // Clap's own `env` is not used: it would show a value from the environment in every usage line,
    // as if the option were required.
    #[arg(long, global = true, value_name = "URL", default_value_t = from_environment(), value_parser = server)]
    #[arg(hide_default_value = true)]
    server: String,
}

fn from_environment() -> String {
    std::env::var_os(SERVER).map_or_else(
        || DEFAULT.to_owned(),
        |address| address.to_string_lossy().into_owned(),
    )
}

/// Why a text is not the address of a server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ServerAddressError {
    #[error("write it as http://HOST:PORT, like {DEFAULT}")]
    NoHost,
    #[error("it must not contain a name or password; set a token in {TOKEN}")]
    Credentials,
    #[error("this is not the address of a server; write it as http://HOST:PORT, like {DEFAULT}")]
    NotAnAddress,
}

fn server(text: &str) -> Result<String, ServerAddressError> {
    if text.is_empty() {
        // An empty variable counts as unset.
        return Ok(DEFAULT.to_owned());
    }
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        None | Some("") => Err(ServerAddressError::NoHost),
        Some(host) if host.contains('@') => Err(ServerAddressError::Credentials),
        Some(_)
            if text.contains(['?', '#']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Err(ServerAddressError::NotAnAddress)
        }
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not the name of a model")]
pub(super) struct NotAModelName;

#[derive(Debug, thiserror::Error)]
#[error("not a version (like 1.0.0, or a whole number)")]
pub(super) struct NotAVersion;

/// Parses the name of a model on the command line.
pub(super) fn model(text: &str) -> Result<ModelName, NotAModelName> {
    ModelName::parse(text).ok_or(NotAModelName)
}

/// Parses a version on the command line.
pub(super) fn version(text: &str) -> Result<String, NotAVersion> {
    let parsed = Version::parse(text).ok_or(NotAVersion)?;
    Ok(parsed.as_str().to_owned())
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("no server answers at {server}")]
    Unreachable {
        server: String,
        #[source]
        cause: Unreachable,
    },
    #[error("no answer from {server} within {} s; the request may or may not have been carried out", ANSWER.as_secs())]
    Silent { server: String, subject: String },
    #[error("the server refused ({status}): {}", .detail.replace('\n', "\n  "))]
    Refused {
        status: u16,
        detail: String,
        suggestion: Option<Suggestion>,
        /// The name of the model.
        subject: String,
    },
    #[error("{server} answers ({status}), but is not predictd's admin listener")]
    Foreign { server: String, status: u16 },
    #[error("{TOKEN} can't be sent: a token may contain visible ASCII characters only")]
    Token,
    #[error(
        "the server carried out the request, but its answer has the format of another version of predictd"
    )]
    Document(#[source] DocumentError),
    #[error("the request can't be written as JSON")]
    Request(#[source] serde_json::Error),
}

/// Why a server does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("connection refused")]
    Refused,
    #[error("unknown host")]
    UnknownHost,
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Http(ureq::Error),
}

impl From<ureq::Error> for Unreachable {
    fn from(error: ureq::Error) -> Unreachable {
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Unreachable::Refused
            }
            ureq::Error::Io(error) => Unreachable::Io(error),
            ureq::Error::HostNotFound => Unreachable::UnknownHost,
            other => Unreachable::Http(other),
        }
    }
}

impl ClientError {
    /// Appends the next step of the operator to the text of this error and its sources.
    pub(super) fn append_next_step(&self, text: String) -> String {
        match self.next_step() {
            Some(next) => format!("{text}\n  next: {next}"),
            None => text,
        }
    }

    /// `None` if the error itself says what to do.
    fn next_step(&self) -> Option<String> {
        match self {
            ClientError::Unreachable { .. } => Some(format!(
                "check that the server runs and that this is its admin.listen; --server URL or {SERVER} sets another address"
            )),
            ClientError::Silent { subject, .. } => {
                Some(format!("predictd rollout status {subject}"))
            }
            ClientError::Refused {
                status,
                suggestion,
                subject,
                ..
            } => Some(advice(*status, subject, suggestion.as_ref())),
            ClientError::Foreign { .. } => Some(format!(
                "set the address of the admin listener (admin.listen) with --server URL or {SERVER}"
            )),
            ClientError::Token | ClientError::Request(_) => None,
            ClientError::Document(_) => Some("use the predictd of the server's version".to_owned()),
        }
    }

    /// Whether another attempt may succeed: the server may be restarting.
    pub(super) fn is_transient(&self) -> bool {
        matches!(
            self,
            ClientError::Unreachable { .. } | ClientError::Silent { .. }
        )
    }
}

/// The next command for the operator: the server's suggestion, or general advice for the status
/// code.
fn advice(status: u16, subject: &str, suggestion: Option<&Suggestion>) -> String {
    if let Some(command) = suggestion.and_then(|suggestion| command(suggestion, subject)) {
        return command;
    }
    match status {
        401 => format!("set {TOKEN} to a token of the server's admin.token_file"),
        403 => {
            format!("predictd rollout status {subject}; each operator needs a {TOKEN} of their own")
        }
        404 => "`predictd rollout status` lists the models".to_owned(),
        503 => format!(
            "see the server's log, and check its state.url; predictd history {subject} --verify checks the journal"
        ),
        500 => "see the server's log".to_owned(),
        _ => format!("predictd rollout status {subject}"),
    }
}

pub(super) struct Client {
    agent: Agent,
    server: String,
    token: Option<String>,
    /// The name of the model, for advice.
    subject: String,
}

impl Client {
    pub(super) fn new(
        args: &ServerArgs,
        subject: Option<&ModelName>,
    ) -> Result<Client, ClientError> {
        let token = std::env::var_os(TOKEN).filter(|token| !token.is_empty());
        let token = token.map(|token| {
            token
                .into_string()
                .ok()
                .filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))
        });
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect must not send the token to another server.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Connections are not reused, because a server that restarted has closed its old
            // connections.
            .max_idle_connections(0)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(ANSWER))
            .user_agent(concat!("predictd/", env!("CARGO_PKG_VERSION")));
        if is_own(&args.server) {
            config = config.proxy(None);
        }
        Ok(Client {
            agent: config.build().new_agent(),
            server: args.server.clone(),
            token: token
                .map(|token| token.ok_or(ClientError::Token))
                .transpose()?,
            subject: subject.map(ToString::to_string).unwrap_or_default(),
        })
    }

    /// Gets a document below `/admin/models`. `path`: `/churn`, `/churn/history`, or empty for all
    /// models.
    pub(super) fn get(&self, path: &str) -> Result<Answer, ClientError> {
        let request = self
            .agent
            .get(self.url(path))
            .header("accept", "application/json");
        let request = match self.authorization() {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        self.read(request.call())
    }

    /// Gets all models with their versions, whether they are ready or not.
    pub(super) fn readiness(&self) -> Result<Answer, ClientError> {
        let request = self
            .agent
            .get(format!("{}/readyz?verbose", self.server))
            .header("accept", "application/json");
        let request = match self.authorization() {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        let (status, document) = self.read_document(request.call())?;
        // A server that is not ready answers 503 with the same document.
        match document.get("models").is_some_and(Value::is_array) {
            true => Ok(Answer(document)),
            false => self.accept(status, document),
        }
    }

    pub(super) fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, ClientError> {
        let body = serde_json::to_string(body).map_err(ClientError::Request)?;
        let request = self
            .agent
            .post(self.url(path))
            .header("accept", "application/json")
            .content_type("application/json");
        let request = match self.authorization() {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        self.read(request.send(body))
    }

    /// The error for an answer that does not come from an admin listener of predictd.
    pub(super) fn foreign(&self, status: u16) -> ClientError {
        ClientError::Foreign {
            server: self.server.clone(),
            status,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/admin/models{path}", self.server)
    }

    fn authorization(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    fn read(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Answer, ClientError> {
        let (status, document) = self.read_document(answer)?;
        self.accept(status, document)
    }

    fn read_document(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<(u16, Value), ClientError> {
        let failed = |error: ureq::Error| match error {
            ureq::Error::Timeout(ureq::Timeout::Global | ureq::Timeout::RecvResponse) => {
                ClientError::Silent {
                    server: self.server.clone(),
                    subject: self.subject.clone(),
                }
            }
            other => ClientError::Unreachable {
                server: self.server.clone(),
                cause: other.into(),
            },
        };
        let mut answer = answer.map_err(failed)?;
        let status = answer.status().as_u16();
        let text = answer
            .body_mut()
            .with_config()
            .limit(LONGEST_ANSWER)
            .read_to_string()
            .map_err(failed)?;
        let document = serde_json::from_str(&text).map_err(|_| self.foreign(status))?;
        Ok((status, document))
    }

    fn accept(&self, status: u16, document: Value) -> Result<Answer, ClientError> {
        if status == 200 && document.is_object() && document.get("error").is_none() {
            return Ok(Answer(document));
        }
        match document::read::<ErrorDocument>(&document) {
            Ok(refusal) if status != 200 => Err(ClientError::Refused {
                status,
                detail: refusal.error,
                suggestion: refusal.suggestion,
                subject: self.subject.clone(),
            }),
            _ => Err(self.foreign(status)),
        }
    }
}

/// A document of the admin API.
pub(super) struct Answer(Value);

impl Answer {
    /// Deserializes the document.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        document::read(&self.0).map_err(ClientError::Document)
    }

    /// The document as the server sent it, for JSON output.
    pub(super) fn value(&self) -> &Value {
        &self.0
    }
}

/// Whether the server is on this machine. Requests to it bypass the proxy.
fn is_own(server: &str) -> bool {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use crate::cli::client::{DEFAULT, is_own, server};

    #[test]
    fn an_address_may_be_a_url() {
        assert_eq!(server("").unwrap(), DEFAULT);
        assert_eq!(server("http://[::1]:9/").unwrap(), "http://[::1]:9");
        assert_eq!(
            server("https://ops.example/predictd/").unwrap(),
            "https://ops.example/predictd"
        );
        for wrong in [
            "localhost:8082",
            "127.0.0.1",
            "ftp://a",
            "http://",
            "http://ann:secret@a",
            "http://a/?x",
            "http://a b",
        ] {
            let error = server(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn requests_are_not_proxied_to_the_server_itself() {
        for own in [
            "http://127.0.0.1:8082",
            "http://localhost",
            "http://[::1]:8082",
            "https://LOCALHOST:1/x",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "http://10.0.0.1:8082",
            "http://localhost.example",
            "https://[fd00::1]:1",
            "http://a/127.0.0.1",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
