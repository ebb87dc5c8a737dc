//! Authentication of operators: a request requires a token, and must not come from a web page of
//! another origin.

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
    actor::Actor,
    api::{
        http::admin::{Admin, answer::refuse},
        refusal::Refusal,
    },
    error::ErrorCode,
    security::tokens::Operators,
};

/// The rules for authenticating a request to the admin listener.
pub(crate) struct Authentication {
    /// The operators and their tokens. `None`: no token is required, which the configuration allows
    /// only on loopback.
    pub operators: Option<Operators>,
    /// The address of the listener.
    pub address: SocketAddr,
    /// The user that runs the server, for the journal.
    pub user: String,
}

impl Authentication {
    fn authenticate(&self, headers: &HeaderMap) -> Result<Actor, Refusal> {
        let text = |name: header::HeaderName| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap_or_default())
        };
        let host = text(header::HOST).unwrap_or_default();
        self.check_origin(host, text(header::ORIGIN))?;
        let Some(operators) = &self.operators else {
            return Ok(Actor::Local(self.user.clone()));
        };
        let token = text(header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        match token.and_then(|token| operators.name_of(token)) {
            Some(name) => Ok(Actor::Verified(name.to_owned())),
            None => Err(Refusal::new(
                ErrorCode::Unauthenticated,
                "send Authorization: Bearer TOKEN, with a token of admin.token_file",
            )),
        }
    }

    fn check_origin(&self, host: &str, origin: Option<&str>) -> Result<(), Refusal> {
        // Prevents DNS rebinding: a foreign web page whose name suddenly resolves to this address
        // still sends its own name as Host.
        if self.operators.is_none() && !self.is_own(host) {
            return Err(Refusal::new(
                ErrorCode::Forbidden,
                "the Host header does not name the admin listener: use its address, or localhost",
            ));
        }
        let authority = |origin: &str| -> Option<String> {
            origin
                .split_once("://")
                .map(|(_, authority)| authority.to_owned())
        };
        match origin {
            Some(origin) if authority(origin).as_deref() != Some(host) => Err(Refusal::new(
                ErrorCode::Forbidden,
                "requests from web pages of another origin are refused",
            )),
            _ => Ok(()),
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

/// Middleware that authenticates requests, and adds their `Actor`.
pub(super) async fn authenticate(
    State(admin): State<Arc<Admin>>,
    mut request: Request,
    next: Next,
) -> Response {
    match admin.authentication.authenticate(request.headers()) {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(refusal) => {
            tracing::warn!(
                target: "predictd::admin",
                path = request.uri().path(),
                reason = refusal.detail,
                "refused"
            );
            refuse(&request, refusal)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use crate::{
        api::http::admin::authentication::Authentication, error::ErrorCode,
        security::tokens::Operators,
    };

    fn admit(
        operators: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Result<String, ErrorCode> {
        let authentication = Authentication {
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
        authentication
            .authenticate(&headers)
            .map(|actor| actor.to_string())
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn pages_of_another_origin_are_refused() {
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
    fn a_token_identifies_the_operator() {
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
