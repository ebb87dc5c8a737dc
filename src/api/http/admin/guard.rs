//! Guard: what a request to the operators' listener must have: a token, and no page of anybody else's in a browser.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, header, uri::Authority};

use crate::{
    api::{http::admin::Admin, refusal::Refusal},
    error::ErrorCode,
    security::tokens::{Actor, Operators},
};

/// What a request must have to come through.
pub struct Guard {
    /// `None`: no token is asked for, which only loopback allows.
    pub operators: Option<Operators>,
    pub address: SocketAddr,
    /// The user that runs the server, for the log.
    pub user: String,
}

impl Guard {
    fn admit(&self, headers: &HeaderMap) -> Result<Actor, Refusal> {
        let text = |name: header::HeaderName| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap_or_default())
        };
        let host = text(header::HOST).unwrap_or_default();
        let forbidden = |detail: &str| Err((ErrorCode::Forbidden, detail.to_owned()));
        // A page elsewhere whose name suddenly leads here can ask, but only under its own name.
        if self.operators.is_none() && !self.is_own(host) {
            return forbidden(
                "this Host is not the admin listener's: use its address, or localhost",
            );
        }
        if let Some(origin) = text(header::ORIGIN)
            && origin.split_once("://").map(|(_, authority)| authority) != Some(host)
        {
            return forbidden("requests of pages from elsewhere are refused");
        }
        let Some(operators) = &self.operators else {
            return Ok(Actor(format!("unverified:{}", self.user)));
        };
        let token = text(header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        match token.and_then(|token| operators.who(token)) {
            Some(name) => Ok(Actor(name.to_owned())),
            None => Err((
                ErrorCode::Unauthenticated,
                "send Authorization: Bearer TOKEN, with a token of admin.token_file".to_owned(),
            )),
        }
    }

    fn is_own(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let name = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        match name.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback() || ip == self.address.ip(),
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// Lets operators through, and says who they are.
pub async fn check(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    match admin.guard.admit(request.headers()) {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(refusal) => {
            tracing::warn!(target: "predictd::admin", path = request.uri().path(), reason = refusal.1, "refused");
            super::refuse(&request, &refusal)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use crate::{api::http::admin::guard::Guard, error::ErrorCode, security::tokens::Operators};

    fn admit(
        operators: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Result<String, ErrorCode> {
        let guard = Guard {
            operators: operators.map(|text| Operators::parse(text).unwrap()),
            address: "127.0.0.1:8082".parse().unwrap(),
            user: "someone".to_owned(),
        };
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        guard
            .admit(&headers)
            .map(|actor| actor.0)
            .map_err(|(code, _)| code)
    }

    #[test]
    fn pages_from_elsewhere_are_refused() {
        assert_eq!(
            admit(None, &[("host", "127.0.0.1:8082")]).unwrap(),
            "unverified:someone"
        );
        for own in ["localhost", "localhost:9", "[::1]:8082", "127.0.0.1"] {
            assert!(admit(None, &[("host", own)]).is_ok(), "{own}");
        }
        for foreign in [
            "evil.example:8082",
            "10.0.0.1",
            "",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
        ] {
            assert_eq!(
                admit(None, &[("host", foreign)]).unwrap_err(),
                ErrorCode::Forbidden,
                "{foreign}"
            );
        }
        assert!(
            admit(
                None,
                &[
                    ("host", "localhost:8082"),
                    ("origin", "http://localhost:8082")
                ]
            )
            .is_ok()
        );
        for origin in ["http://evil.example", "null", "http://localhost:9", ""] {
            assert_eq!(
                admit(None, &[("host", "localhost:8082"), ("origin", origin)]).unwrap_err(),
                ErrorCode::Forbidden,
                "{origin}"
            );
        }
    }

    #[test]
    fn a_token_says_who_operates() {
        let file = "# ours\nann 0123456789abcdef\n\nbob fedcba9876543210\n";
        let with = |value: &str| {
            admit(
                Some(file),
                &[("host", "predictd.svc:8082"), ("authorization", value)],
            )
        };
        assert_eq!(with("Bearer fedcba9876543210").unwrap(), "bob");
        assert_eq!(with("bearer 0123456789abcdef").unwrap(), "ann");
        for bad in [
            "Bearer x",
            "Basic fedcba9876543210",
            "Bearer ",
            "Bearer fedcba987654321",
            "fedcba9876543210",
        ] {
            assert_eq!(with(bad).unwrap_err(), ErrorCode::Unauthenticated, "{bad}");
        }
        assert_eq!(
            admit(Some(file), &[("host", "x")]).unwrap_err(),
            ErrorCode::Unauthenticated
        );
    }
}
