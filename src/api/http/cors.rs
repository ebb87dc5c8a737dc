//! CORS: lets web pages of the origins in `server.cors_origins` call the data plane.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// Maximum time for which a browser may keep the result of a preflight request.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The headers of a response that a page may read.
const EXPOSED: [HeaderName; 10] = [
    HeaderName::from_static("x-prediction-id"),
    HeaderName::from_static("x-model-name"),
    HeaderName::from_static("x-model-version"),
    HeaderName::from_static("x-model-digest"),
    HeaderName::from_static("x-fallback"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("inference-header-content-length"),
    header::RETRY_AFTER,
];

/// Creates the CORS layer. `None` if no other origin is allowed. Credentials are never allowed,
/// because the data plane uses no cookies.
pub(super) fn layer(origins: &[String]) -> Option<CorsLayer> {
    let allowed = match origins {
        [] => return None,
        [any] if any == "*" => AllowOrigin::any(),
        origins => AllowOrigin::list(
            origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok()),
        ),
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST]);
    Some(
        layer
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED)
            .max_age(MAX_AGE),
    )
}
