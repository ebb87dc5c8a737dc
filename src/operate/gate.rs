//! Gate: whether callers of one version can use another, as `predictd compat` tells it.

use serde_json::Value;

use crate::registry::servable::Servable;

pub struct Compatibility;

impl Compatibility {
    pub fn of(_old: &Servable, _new: &Servable, _accepted: &[String]) -> Compatibility {
        Compatibility
    }

    pub fn is_breaking(&self) -> bool {
        false
    }

    pub fn is_forward_only(&self) -> bool {
        false
    }

    pub fn lines(&self) -> Vec<String> {
        Vec::new()
    }

    pub fn to_value(&self) -> Value {
        Value::Null
    }
}
