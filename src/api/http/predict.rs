//! `POST .../predict`: from an HTTP request to the straight line and back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    api::http::{
        Api,
        body::{self, BodyLimits},
        context::Context,
        encode::encode,
        encoding::{self, Encoding},
        problem::Problem,
    },
    error::ErrorCode,
    metrics::{Stage, VersionMetrics},
    package::fault::Fault,
    predict::{Failure, HEAVY_ROWS, PredictError, PredictRequest, Prediction, Timing},
    registry::route::Target,
};

const X_PREDICTION_ID: HeaderName = HeaderName::from_static("x-prediction-id");
const X_MODEL_NAME: HeaderName = HeaderName::from_static("x-model-name");
const X_MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");
const X_MODEL_DIGEST: HeaderName = HeaderName::from_static("x-model-digest");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

pub async fn default_model(State(api): State<Arc<Api>>, request: Request) -> Response {
    predict(&api, Target::default(), request).await
}

pub async fn stable_version(State(api): State<Arc<Api>>, path: Result<Path<String>, PathRejection>, request: Request) -> Response {
    // A path that is no text is the name of no model.
    let name = path.map(|Path(name)| name).unwrap_or_default();
    predict(&api, Target { model: Some(&name), version: None }, request).await
}

pub async fn one_version(State(api): State<Arc<Api>>, path: Result<Path<(String, String)>, PathRejection>, request: Request) -> Response {
    let (name, version) = path.map(|Path(names)| names).unwrap_or_default();
    predict(&api, Target { model: Some(&name), version: Some(&version) }, request).await
}

/// What stopped a request, and where it is counted.
struct Refused {
    code: ErrorCode,
    detail: String,
    faults: Vec<Fault>,
    log_detail: String,
    failure: Option<Failure>,
}

impl From<body::Refusal> for Refused {
    fn from((code, detail): body::Refusal) -> Refused {
        Refused { code, detail, faults: Vec::new(), log_detail: String::new(), failure: None }
    }
}

impl From<PredictError> for Refused {
    fn from(error: PredictError) -> Refused {
        Refused {
            code: error.code(),
            detail: error.detail(),
            log_detail: error.log_detail().to_owned(),
            faults: error.into_faults(),
            failure: None,
        }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        let error = &failure.error;
        Refused {
            code: error.code(),
            detail: error.detail(),
            log_detail: error.log_detail().to_owned(),
            faults: error.faults().to_vec(),
            failure: Some(failure),
        }
    }
}

async fn predict(api: &Arc<Api>, target: Target<'_>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let context = Context::new(&parts.headers);
    match answer(api, target, &context, &parts.headers, body).await {
        Ok(response) => response,
        Err(refused) => refuse(api, target, &context, &refused),
    }
}

async fn answer(api: &Arc<Api>, target: Target<'_>, context: &Context, headers: &HeaderMap, body: Body) -> Result<Response, Refused> {
    let overloaded = || (ErrorCode::Overloaded, "the server has as many requests in flight as it takes; try again later".to_owned());
    let _admission = api.admit().ok_or_else(overloaded)?;
    body::check_content_type(headers)?;
    let deadline = context.deadline(api.config.request_timeout());
    let max_bytes = api.config.max_body_bytes;
    let timeout = api.config.read_timeout().min(deadline.saturating_duration_since(Instant::now()));
    let mut body = body::read(headers, body, BodyLimits { max_bytes, timeout }).await?;
    if body::is_compressed(headers) {
        let sent = headers.clone();
        body = api.predictor.offload(deadline, move || body::decompress(&sent, &body, max_bytes)).await??;
    }
    let mut prediction = api.predictor.predict(PredictRequest { target, body, deadline }).await?;

    let start = Instant::now();
    let wanted = if headers.contains_key(header::ACCEPT_ENCODING) { Some(headers.clone()) } else { None };
    let (body, encoding) = if prediction.rows > HEAVY_ROWS {
        let answer;
        (prediction, answer) = api
            .predictor
            .offload(deadline, move || {
                let answer = encoded(&prediction, wanted.as_ref());
                (prediction, answer)
            })
            .await?;
        answer
    } else {
        encoded(&prediction, wanted.as_ref())
    };
    prediction.timing.set(Stage::Encode, start.elapsed());
    Ok(respond(api, context, &prediction, body, encoding))
}

/// The answer's bytes, compressed where that is wanted and pays.
fn encoded(prediction: &Prediction, headers: Option<&HeaderMap>) -> (Bytes, Option<Encoding>) {
    let text = encode(prediction);
    let (body, encoding) = match headers {
        Some(headers) => encoding::encoded(headers, text),
        None => (text, None),
    };
    (Bytes::from(body), encoding)
}

fn respond(api: &Api, context: &Context, prediction: &Prediction, body: Bytes, encoding: Option<Encoding>) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.reserve(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    encoding::write_header(headers, encoding);
    let names = &prediction.servable.names;
    // One allocation for all that is new in this answer.
    let mut text = BytesMut::with_capacity(128);
    text.extend_from_slice(prediction.id.write(&mut [0; 26]).as_bytes());
    let prediction_id = text.split().freeze();
    server_timing(&prediction.timing, &mut text);
    let values = [
        (X_PREDICTION_ID, prediction_id),
        (X_MODEL_NAME, names.model.clone()),
        (X_MODEL_VERSION, names.version.clone()),
        (X_MODEL_DIGEST, names.digest.clone()),
        (SERVER_TIMING, text.freeze()),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            headers.insert(name, value);
        }
    }
    context.write_headers(headers);

    let elapsed = context.started.elapsed();
    let metrics = &prediction.servable.metrics;
    for stage in Stage::ALL {
        metrics.observe_stage(stage, prediction.timing.get(stage));
    }
    metrics.instances.inc_by(prediction.rows as u64);
    metrics.observe_ok(elapsed);
    api.log.answered(context, prediction, elapsed);
    response
}

/// `decode;dur=0.021, ...` in milliseconds; what the client calls decoding includes the preprocessing.
fn server_timing(timing: &Timing, text: &mut BytesMut) {
    let spans: [(&[u8], Duration); 4] = [
        (b"decode;dur=", timing.get(Stage::Decode) + timing.get(Stage::Preprocess)),
        (b", queue;dur=", timing.get(Stage::Queue)),
        (b", infer;dur=", timing.get(Stage::Infer)),
        (b", encode;dur=", timing.get(Stage::Postprocess) + timing.get(Stage::Encode)),
    ];
    let mut digits = itoa::Buffer::new();
    for (name, elapsed) in spans {
        let microseconds = elapsed.as_micros() as u64;
        text.extend_from_slice(name);
        text.extend_from_slice(digits.format(microseconds / 1000).as_bytes());
        text.extend_from_slice(b".");
        // Three digits: a one in front keeps the zeros.
        text.extend_from_slice(digits.format(1000 + microseconds % 1000).as_bytes().get(1..).unwrap_or_default());
    }
}

fn refuse(api: &Api, target: Target<'_>, context: &Context, refused: &Refused) -> Response {
    let elapsed = context.started.elapsed();
    let count = |metrics: &VersionMetrics| metrics.observe_error(refused.code, elapsed);
    match &refused.failure {
        Some(Failure { servable: Some(servable), .. }) => {
            count(&servable.metrics);
            let id = servable.id();
            api.log.refused(context, refused.code, id.name.as_str(), id.version.as_str(), &refused.log_detail, elapsed);
        }
        Some(Failure { servable: None, unversioned: Some(metrics), .. }) => {
            count(metrics);
            log_unrouted(api, target, context, refused, elapsed);
        }
        Some(_) => {
            count(api.metrics.unrouted());
            log_unrouted(api, target, context, refused, elapsed);
        }
        None => {
            let snapshot = api.registry.snapshot();
            let name = target.model.or_else(|| snapshot.default.as_ref().map(crate::id::ModelName::as_str));
            match name.and_then(|name| snapshot.models.get(name)) {
                Some(model) => count(&model.unversioned),
                None => count(api.metrics.unrouted()),
            }
            log_unrouted(api, target, context, refused, elapsed);
        }
    }
    Problem::with_faults(refused.code, refused.detail.clone(), &refused.faults).into_response(context)
}

/// The log names a model only where it is one of the server's own.
fn log_unrouted(api: &Api, target: Target<'_>, context: &Context, refused: &Refused, elapsed: Duration) {
    let snapshot = api.registry.snapshot();
    let name = target.model.filter(|name| snapshot.models.contains_key(*name)).unwrap_or_default();
    api.log.refused(context, refused.code, name, "", &refused.log_detail, elapsed);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;

    use crate::{api::http::predict::server_timing, metrics::Stage, predict::Timing};

    #[test]
    fn timing_is_in_milliseconds() {
        let mut timing = Timing::default();
        timing.set(Stage::Decode, Duration::from_micros(20));
        timing.set(Stage::Preprocess, Duration::from_micros(1));
        timing.set(Stage::Infer, Duration::from_micros(12_345));
        let mut text = BytesMut::new();
        server_timing(&timing, &mut text);
        assert_eq!(text, "decode;dur=0.021, queue;dur=0.000, infer;dur=12.345, encode;dur=0.000");
    }
}
