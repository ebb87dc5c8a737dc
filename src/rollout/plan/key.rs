//! `AssignmentKey`: the part of a request that decides which version answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rollout::plan::PlanFault;

/// The key by which requests are assigned to the versions. All requests with the same key go to the
/// same version and are counted as one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum AssignmentKey {
    /// Every request has its own key.
    #[default]
    PredictionId,
    /// `header:NAME`: the value of a header. The variant contains the name in lower case.
    Header(String),
    /// `field:NAME`: the value of a field in the first instance of the request.
    Field(String),
}

impl AssignmentKey {
    pub(crate) fn is_prediction_id(&self) -> bool {
        *self == AssignmentKey::PredictionId
    }

    /// The plural name of the counted units, for messages.
    pub fn units(&self) -> &'static str {
        if self.is_prediction_id() {
            "requests"
        } else {
            "keys"
        }
    }
}

impl TryFrom<String> for AssignmentKey {
    type Error = PlanFault;

    fn try_from(text: String) -> Result<AssignmentKey, PlanFault> {
        match text.split_once(':') {
            // The name of a header is a token (RFC 9110, 5.6.2). Names are compared without regard
            // to case.
            Some(("header", name)) if !name.is_empty() && name.bytes().all(is_token_byte) => {
                Ok(AssignmentKey::Header(name.to_ascii_lowercase()))
            }
            Some(("field", name)) if !name.is_empty() => Ok(AssignmentKey::Field(name.to_owned())),
            _ => Err(PlanFault::Key(text)),
        }
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl From<AssignmentKey> for String {
    fn from(key: AssignmentKey) -> String {
        match key {
            AssignmentKey::PredictionId => String::new(),
            AssignmentKey::Header(name) => format!("header:{name}"),
            AssignmentKey::Field(name) => format!("field:{name}"),
        }
    }
}
