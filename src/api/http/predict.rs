//! `POST .../predict`: predictd's own dialect.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::HeaderMap;

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
            problem::Problem,
            row_writer::{write_fallback, write_object, write_rows},
        },
        refusal::Refusal,
    },
    metrics::Protocol,
    predict::{Input, Prediction},
    registry::route::Target,
};

/// predictd's own dialect. Requests contain instances, responses contain predictions. Errors are
/// problem documents.
#[derive(Clone, Copy)]
pub(super) struct Predict;

pub(super) async fn default_model(State(api): State<Arc<Api>>, request: Request) -> Response {
    exchange(&api, Predict, Target::default(), request).await
}

pub(super) async fn stable_version(
    State(api): State<Arc<Api>>,
    path: OnePart,
    request: Request,
) -> Response {
    let name = one(path);
    exchange(&api, Predict, target(&name, None), request).await
}

pub(super) async fn one_version(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, version) = two(path);
    exchange(&api, Predict, target(&name, Some(&version)), request).await
}

impl Dialect for Predict {
    type ResponseOptions = ();

    fn protocol(self) -> Protocol {
        Protocol::Predict
    }

    fn check_headers(self, headers: &HeaderMap) -> Result<(), Refusal> {
        body::check_content_type(headers)
    }

    /// Always 0, because nothing is parsed here: the version that answers decodes the body with its
    /// schema.
    fn text_bytes(self, _: &HeaderMap, _: &Bytes) -> usize {
        0
    }

    fn parse(self, _: &HeaderMap, body: Bytes) -> Result<ParsedRequest<()>, Refusal> {
        Ok(ParsedRequest::new(Input::Instances(body), ()))
    }

    fn encode(self, (): &(), prediction: &mut Prediction) -> Result<EncodedResponse, Refusal> {
        write_response(prediction).map(EncodedResponse::json)
    }

    fn write_error(self, error: &ErrorReport<'_>, context: &Context) -> (&'static str, Vec<u8>) {
        let problem = Problem::from(error);
        (
            "application/problem+json",
            problem.to_json(context).into_bytes(),
        )
    }
}

/// Writes `{"prediction_id": ..., "model": ..., "version": ..., "digest": ..., "predictions":
/// [...]}`. The predictions are in the order of the instances.
fn write_response(prediction: &Prediction) -> Result<Vec<u8>, Refusal> {
    // The capacity for rows of the usual size. The limit prevents one huge allocation for a huge
    // batch.
    let mut text = Vec::with_capacity(256 + prediction.rows.min(65_536) * 96);
    let id = prediction.servable.id();
    text.extend_from_slice(b"{\"prediction_id\":\"");
    text.extend_from_slice(prediction.id.write(&mut [0; 26]).as_bytes());
    text.push(b'"');
    if let Some(client_id) = &prediction.client_id {
        text.extend_from_slice(b",\"id\":");
        // Writing a string to memory does not fail.
        let _ = serde_json::to_writer(&mut text, client_id);
    }
    // Names, versions and digests contain no characters that JSON escapes.
    text.extend_from_slice(b",\"model\":\"");
    text.extend_from_slice(id.name.as_str().as_bytes());
    text.extend_from_slice(b"\",\"version\":\"");
    text.extend_from_slice(id.version.as_str().as_bytes());
    text.extend_from_slice(b"\",\"digest\":\"");
    text.extend_from_slice(prediction.servable.digest().as_bytes());
    text.push(b'"');
    write_fallback(prediction, &mut text);
    text.extend_from_slice(b",\"predictions\":");
    write_rows(
        prediction,
        &mut |row, text| write_object(&prediction.output, row, text),
        &mut text,
    )?;
    text.push(b'}');
    Ok(text)
}
