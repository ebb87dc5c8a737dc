//! `POST .../predict`: from an HTTP request to the straight line and back.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

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
    predict::{Failure, HEAVY_ROWS, PredictError, PredictRequest, Prediction},
    registry::route::Target,
};

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
    let chosen = headers.and_then(|headers| encoding::choose(headers, text.len()));
    match chosen.and_then(|encoding| Some((encoding::compress(encoding, &text)?, encoding))) {
        Some((compressed, encoding)) if compressed.len() < text.len() => (Bytes::from(compressed), Some(encoding)),
        _ => (Bytes::from(text), None),
    }
}

fn respond(api: &Api, context: &Context, prediction: &Prediction, body: Bytes, encoding: Option<Encoding>) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.reserve(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    let id = prediction.servable.id();
    let mut insert = |name: &'static str, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    insert("x-prediction-id", prediction.id.write(&mut [0; 26]));
    insert("x-model-name", id.name.as_str());
    insert("x-model-version", id.version.as_str());
    insert("x-model-digest", prediction.servable.package.digest());
    insert("server-timing", &server_timing(prediction));
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
fn server_timing(prediction: &Prediction) -> String {
    let timing = &prediction.timing;
    let spans = [
        ("decode", timing.get(Stage::Decode) + timing.get(Stage::Preprocess)),
        ("queue", timing.get(Stage::Queue)),
        ("infer", timing.get(Stage::Infer)),
        ("encode", timing.get(Stage::Postprocess) + timing.get(Stage::Encode)),
    ];
    let mut text = String::with_capacity(80);
    for (index, (name, elapsed)) in spans.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let microseconds = elapsed.as_micros();
        let _ = write!(text, "{separator}{name};dur={}.{:03}", microseconds / 1000, microseconds % 1000);
    }
    text
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
