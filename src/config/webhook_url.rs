//! The URL of the webhook.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The URL of the webhook, or an empty string for no webhook. The URL is a secret, because everyone
/// who knows it can post to it. Only its host is printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(crate) struct WebhookUrl(Option<String>);

impl WebhookUrl {
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The host, with the port if the URL has one.
    pub(crate) fn host(&self) -> &str {
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

/// A rule that the URL violates. The value is a secret, so no text repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebhookUrlError {
    #[error("must be a URL that begins with https:// or http://, or empty to disable it")]
    NotAUrl,
    #[error("must not contain a name or a password")]
    Credentials,
    #[error("must not have a port above 65535")]
    Port,
}

impl TryFrom<String> for WebhookUrl {
    type Error = WebhookUrlError;

    fn try_from(text: String) -> Result<WebhookUrl, WebhookUrlError> {
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
            return Err(WebhookUrlError::NotAUrl);
        }
        if url.host().contains('@') {
            return Err(WebhookUrlError::Credentials);
        }
        // The colons of an IPv6 address are in brackets.
        let port = url
            .host()
            .rsplit(']')
            .next()
            .and_then(|rest| rest.split_once(':'))
            .map(|(_, port)| port);
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(WebhookUrlError::Port);
        }
        Ok(url)
    }
}

impl From<WebhookUrl> for String {
    fn from(url: WebhookUrl) -> String {
        url.0.unwrap_or_default()
    }
}
