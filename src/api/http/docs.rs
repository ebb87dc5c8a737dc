//! Web pages for people: a description of the server, and a form to try a model. They are compiled
//! into the program and load nothing from other servers.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, header};

use crate::{
    api::{
        Api,
        context::Context,
        http::{negotiation, predict::Predict, response::refuse_unrouted},
        refusal::Refusal,
    },
    error::ErrorCode,
};

const INDEX: &str = include_str!("docs/index.html");
const PAGE: &str = include_str!("docs/docs.html");
const SCRIPT: &str = include_str!("docs/docs.js");
const STYLE: &str = include_str!("docs/style.css");

/// The content security policy: scripts and styles only from this server, and no frames or
/// plug-ins.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Browsers get the page. Other clients get a document. KServe's client reads its member `status`
/// as a liveness probe.
pub(super) async fn index(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    let mut response = match negotiation::choose(&headers, &["application/json", "text/html"]) {
        Ok("text/html") => file(INDEX, "text/html; charset=utf-8"),
        Ok(_) => about(),
        Err(refusal) => refuse_unrouted(&api, Predict, &refusal, &Context::new(&headers)),
    };
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

fn about() -> Response {
    let about = concat!(
        r#"{"status":"alive","name":"predictd","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#"","docs":"/docs","openapi":"/openapi.json","metrics":"/metrics","routes":["/predict","/models","/models/{name}","/models/{name}/predict","#,
        r#""/models/{name}/versions/{version}","/models/{name}/versions/{version}/predict","/v2","/v2/models/{name}","/v2/models/{name}/infer","#,
        r#""/v1/models","/v1/models/{name}","/v1/models/{name}:predict","/invocations","/ping","/livez","/readyz","/metrics","/openapi.json","/docs"]}"#,
        "\n"
    );
    file(about, "application/json")
}

pub(super) async fn page() -> Response {
    file(PAGE, "text/html; charset=utf-8")
}

pub(super) async fn asset(
    State(api): State<Arc<Api>>,
    path: Option<Path<String>>,
    request: Request,
) -> Response {
    match path.as_ref().map(|Path(name)| name.as_str()) {
        Some("docs.js") => file(SCRIPT, "text/javascript; charset=utf-8"),
        Some("style.css") => file(STYLE, "text/css; charset=utf-8"),
        _ => {
            let refusal = Refusal::new(
                ErrorCode::NotFound,
                "there is no such page; /docs is the documentation",
            );
            refuse_unrouted(&api, Predict, &refusal, &Context::new(request.headers()))
        }
    }
}

fn file(text: &'static str, media_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    // The pages change with the version of the server.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
