//! KServe v1, TensorFlow Serving and Vertex AI: `POST /v1/models/NAME:predict`.

mod documents;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use crate::{
    api::{
        Api,
        context::Context,
        error_report::ErrorReport,
        http::{
            body,
            dialect::{Dialect, EncodedResponse, ParsedRequest},
            exchange::exchange,
            path::{OnePart, TwoParts, one, target, two},
            predictions::{write_columns, write_predictions},
            response::refuse_unrouted,
            row_request::{RequestMembers, ResponseLayout},
            row_writer::write_fallback,
            v2,
        },
        oip::error_status,
        refusal::Refusal,
    },
    error::ErrorCode,
    metrics::Protocol,
    predict::Prediction,
    registry::{route::Target, version_label::VersionLabel},
};

/// The name of the only signature. TensorFlow models may have several; an ONNX graph has one.
const SIGNATURE: &str = "serving_default";

/// The dialect of KServe v1 and TensorFlow Serving. Requests contain instances, responses contain
/// predictions. Errors are `{"error": "..."}`.
#[derive(Clone, Copy)]
pub(super) struct V1;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/models", get(documents::list))
        .route(
            "/v1/models/{model_verb}",
            get(documents::status_of_model).post(predict_model),
        )
        .route(
            "/v1/models/{name}/metadata",
            get(documents::metadata_of_model),
        )
        .route(
            "/v1/models/{name}/versions/{version_verb}",
            get(documents::status_of_version).post(predict_version),
        )
        .route(
            "/v1/models/{name}/versions/{version}/metadata",
            get(documents::metadata_of_version),
        )
        .route(
            "/v1/models/{name}/labels/{label_verb}",
            get(documents::status_of_label).post(predict_label),
        )
        .route(
            "/v1/models/{name}/labels/{label}/metadata",
            get(documents::metadata_of_label),
        )
}

/// Splits `churn:predict` at the last colon. Names and versions never contain a colon.
fn split_verb(text: &str) -> (&str, &str) {
    text.rsplit_once(':').unwrap_or((text, ""))
}

fn has_verb(text: &str) -> bool {
    text.contains(':')
}

async fn predict_model(State(api): State<Arc<Api>>, path: OnePart, request: Request) -> Response {
    let part = one(path);
    let (name, verb) = split_verb(&part);
    carry_out(&api, verb, target(name, None), request).await
}

async fn predict_version(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, part) = two(path);
    let (version, verb) = split_verb(&part);
    carry_out(&api, verb, target(&name, Some(version)), request).await
}

async fn predict_label(State(api): State<Arc<Api>>, path: TwoParts, request: Request) -> Response {
    let (name, part) = two(path);
    // Check the label before the verb: without a known label there is no target.
    let (label, verb) = split_verb(&part);
    match check_label(label) {
        Ok(()) => carry_out(&api, verb, target(&name, Some(label)), request).await,
        Err(refusal) => refuse(&api, &request, &refusal),
    }
}

fn check_label(label: &str) -> Result<(), Refusal> {
    let unknown = || {
        let known = VersionLabel::ALL.map(VersionLabel::name).join(", ");
        Refusal::new(
            ErrorCode::NotFound,
            format!("there is no label \"{label}\"; expected one of: {known}"),
        )
    };
    VersionLabel::parse(label).map(drop).ok_or_else(unknown)
}

/// Handles the verb of a path. The only verb is `predict`.
async fn carry_out(api: &Arc<Api>, verb: &str, target: Target<'_>, request: Request) -> Response {
    let refusal = match verb {
        "predict" => return exchange(api, V1, target, request).await,
        "classify" | "regress" | "explain" => Refusal::new(
            ErrorCode::Unsupported,
            format!("the verb {verb} is not supported; the supported verb is predict"),
        ),
        // An empty name means that the path is not valid UTF-8. It is not found.
        "" if target.model.is_some_and(|name| !name.is_empty()) => {
            let refusal = Refusal::new(
                ErrorCode::MethodNotAllowed,
                "POST needs a verb after the name: NAME:predict",
            );
            return refuse_method(api, &request, &refusal, "GET,HEAD");
        }
        _ => Refusal::new(
            ErrorCode::NotFound,
            format!("there is no verb \"{verb}\"; the supported verb is predict"),
        ),
    };
    refuse(api, &request, &refusal)
}

/// Handles predictions of the default model under the route that Vertex AI sets.
pub(super) async fn default_model(api: &Arc<Api>, request: Request) -> Response {
    exchange(api, V1, Target::default(), request).await
}

impl Dialect for V1 {
    type ResponseOptions = ResponseLayout;

    fn protocol(self) -> Protocol {
        Protocol::V1
    }

    fn check_headers(self, headers: &HeaderMap) -> Result<(), Refusal> {
        body::check_any_json(headers)
    }

    fn parse(self, _: &HeaderMap, body: Bytes) -> Result<ParsedRequest<ResponseLayout>, Refusal> {
        let members = RequestMembers::read(&body)?;
        if let Some(signature) = members.get("signature_name") {
            let name: Option<String> = serde_json::from_slice(signature)
                .map_err(|_| Refusal::malformed("\"signature_name\" must be a string"))?;
            // `null` and the empty name mean the default signature, as in TensorFlow Serving.
            if name.is_some_and(|name| !name.is_empty() && name != SIGNATURE) {
                return Err(Refusal::malformed(format!(
                    "there is one signature, \"{SIGNATURE}\""
                )));
            }
        }
        let data = match members.only(&["instances", "inputs"])? {
            Some("instances") => members.instances()?,
            Some(_) => members.inputs()?,
            None => {
                return Err(Refusal::malformed(
                    "the request has neither \"instances\" nor \"inputs\"",
                ));
            }
        };
        Ok(data.into_request(|layout| layout))
    }

    fn encode(
        self,
        layout: &ResponseLayout,
        prediction: &mut Prediction,
    ) -> Result<EncodedResponse, Refusal> {
        // The capacity for rows of the usual size. The limit prevents one huge allocation for a
        // huge batch.
        let mut text = Vec::with_capacity(64 + prediction.rows.min(65_536) * 64);
        match layout {
            ResponseLayout::Tensors(options) => return v2::response::write(options, prediction),
            ResponseLayout::Rows => {
                text.extend_from_slice(b"{\"predictions\":");
                write_predictions(prediction, &mut text)?;
            }
            ResponseLayout::Columns => {
                text.extend_from_slice(b"{\"outputs\":");
                write_columns(prediction, &mut text)?;
            }
        }
        write_fallback(prediction, &mut text);
        text.push(b'}');
        Ok(EncodedResponse::json(text))
    }

    fn status(self, code: ErrorCode) -> u16 {
        error_status(code)
    }

    fn write_error(self, error: &ErrorReport<'_>, _: &Context) -> (&'static str, Vec<u8>) {
        ("application/json", v2::error_text(error))
    }
}

fn refuse(api: &Api, request: &Request, refusal: &Refusal) -> Response {
    refuse_unrouted(api, V1, refusal, &Context::new(request.headers()))
}

fn refuse_method(
    api: &Api,
    request: &Request,
    refusal: &Refusal,
    allowed: &'static str,
) -> Response {
    let mut response = refuse(api, request, refusal);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

#[cfg(test)]
mod tests {
    use crate::api::http::v1::split_verb;

    #[test]
    fn the_action_follows_the_last_colon() {
        assert_eq!(split_verb("churn:predict"), ("churn", "predict"));
        assert_eq!(split_verb("a:b:predict"), ("a:b", "predict"));
        assert_eq!(split_verb("churn"), ("churn", ""));
        assert_eq!(split_verb(":"), ("", ""));
    }
}
