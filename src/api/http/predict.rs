//! `POST .../predict`: predictd's own dialect.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use bytes::Bytes;
use http::HeaderMap;

use crate::{
    api::{
        Api,
        context::Context,
        http::{
            body,
            encode::encode,
            exchange::{Call, Dialect, Reply, exchange},
            problem::Problem,
        },
        refusal::{ErrorReport, Refusal},
    },
    metrics::Protocol,
    predict::{Input, Prediction},
    registry::route::Target,
};

/// Instances in, predictions out, problem documents for errors.
#[derive(Clone, Copy)]
pub struct Predict;

pub async fn default_model(State(api): State<Arc<Api>>, request: Request) -> Response {
    exchange(&api, Predict, Target::default(), request).await
}

pub async fn stable_version(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A path that is no text is the name of no model.
    let name = path.map(|Path(name)| name).unwrap_or_default();
    exchange(
        &api,
        Predict,
        Target {
            model: Some(&name),
            version: None,
        },
        request,
    )
    .await
}

pub async fn one_version(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let (name, version) = path.map(|Path(names)| names).unwrap_or_default();
    exchange(
        &api,
        Predict,
        Target {
            model: Some(&name),
            version: Some(&version),
        },
        request,
    )
    .await
}

impl Dialect for Predict {
    type Wish = ();

    fn protocol(self) -> Protocol {
        Protocol::Predict
    }

    fn check(self, headers: &HeaderMap) -> Result<(), Refusal> {
        body::check_content_type(headers)
    }

    /// The version that answers decodes the body, by its schema.
    fn text_bytes(self, _: &HeaderMap, _: &Bytes) -> usize {
        0
    }

    fn decode(self, _: &HeaderMap, body: Bytes) -> Result<Call<()>, Refusal> {
        Ok(Call::new(Input::Instances(body), ()))
    }

    fn encode(self, _: &(), prediction: &mut Prediction) -> Result<Reply, Refusal> {
        encode(prediction).map(Reply::json)
    }

    fn refuse(self, error: &ErrorReport<'_>, context: &Context) -> (&'static str, Vec<u8>) {
        let problem =
            Problem::with_faults(error.code, error.detail.clone().into_owned(), error.faults);
        (
            "application/problem+json",
            problem.to_json(context).into_bytes(),
        )
    }
}
