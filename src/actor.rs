//! Actor: the identity behind a decision.

use std::{convert::Infallible, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prefix of an operator without a token. The rest of the string is the user that runs the server.
const UNVERIFIED: &str = "unverified:";
const CONFIGURATION: &str = "configuration";
const JUDGE: &str = "judge";

/// The actor that made a decision. The journal and the documents contain it as a string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", from = "String")]
#[schemars(with = "String")]
pub enum Actor {
    /// An operator, with the name that belongs to the token of the request.
    Verified(String),
    /// An operator on the server's own machine, where the listener requires no token. The value is
    /// the user that runs the server.
    Local(String),
    /// The configuration, or the first start with a model.
    Configuration,
    /// The automatic analysis of a rollout.
    Judge,
}

impl Actor {
    /// Whether a token proved the identity. If a plan requires two operators, only such actors
    /// count.
    pub fn is_verified(&self) -> bool {
        matches!(self, Actor::Verified(_))
    }

    /// The kind of actor, as a label of metrics. A label must come from a closed set.
    pub fn cause(&self) -> Cause {
        match self {
            Actor::Verified(_) | Actor::Local(_) => Cause::Operator,
            Actor::Configuration => Cause::Configuration,
            Actor::Judge => Cause::Judge,
        }
    }

    /// Whether an operator must not have this name, because it looks like another kind of actor.
    pub fn is_reserved(name: &str) -> bool {
        name == CONFIGURATION || name == JUDGE || name.starts_with(UNVERIFIED)
    }
}

/// The kind of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    Operator,
    Judge,
    Configuration,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Cause::Operator => "operator",
            Cause::Judge => "judge",
            Cause::Configuration => "configuration",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Verified(name) => f.write_str(name),
            Actor::Local(user) => write!(f, "{UNVERIFIED}{user}"),
            Actor::Configuration => f.write_str(CONFIGURATION),
            Actor::Judge => f.write_str(JUDGE),
        }
    }
}

impl FromStr for Actor {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Actor, Infallible> {
        Ok(Actor::from(text.to_owned()))
    }
}

impl From<String> for Actor {
    fn from(text: String) -> Actor {
        match (text.as_str(), text.strip_prefix(UNVERIFIED)) {
            (CONFIGURATION, _) => Actor::Configuration,
            (JUDGE, _) => Actor::Judge,
            (_, Some(user)) => Actor::Local(user.to_owned()),
            (_, None) => Actor::Verified(text),
        }
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> String {
        actor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use crate::actor::Actor;

    #[test]
    fn the_text_form_is_read_back() {
        for (text, actor) in [
            ("ann", Actor::Verified("ann".to_owned())),
            ("unverified:root", Actor::Local("root".to_owned())),
            ("unverified:", Actor::Local(String::new())),
            ("configuration", Actor::Configuration),
            ("judge", Actor::Judge),
        ] {
            assert_eq!(Actor::from(text.to_owned()), actor);
            assert_eq!(actor.to_string(), text);
            assert_eq!(Actor::is_reserved(text), !actor.is_verified(), "{text}");
        }
    }
}
