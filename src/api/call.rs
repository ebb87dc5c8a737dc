//! `Call`: a request to a model, before its body is read.

use crate::{
    api::{Api, context::Context},
    metrics::Protocol,
    registry::route::Target,
};

/// A request to a model, as far as it is known before its body is read.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub api: &'a Api,
    pub protocol: Protocol,
    /// The model and the version that the request names.
    pub target: Target<'a>,
    pub context: &'a Context,
}
