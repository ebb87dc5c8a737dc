//! Examples of requests that work when they are sent unchanged.

use serde_json::Value;

use crate::{
    decode::decode_instance,
    package::warmup_instance,
    registry::{
        gate::OWN_LIMITS,
        servable::{Contents, Packaged, Servable},
    },
};

/// Different instances that the model accepts: the example in the schema, then golden examples. If
/// there are none, an instance is generated from the schema. Golden examples may come from real
/// people, so they are not shown if a field is personal.
pub(crate) fn examples(servable: &Servable) -> Vec<Value> {
    let Contents::Package(packaged) = &servable.contents else {
        return Vec::new();
    };
    let parts = &packaged.package.parts;
    let mut examples: Vec<Value> = parts
        .input
        .document()
        .pointer("/examples/0")
        .cloned()
        .into_iter()
        .collect();
    let golden = if parts.input.is_personal() {
        &[][..]
    } else {
        &parts.golden[..]
    };
    for golden in golden {
        if examples.len() >= SEVERAL {
            break;
        }
        examples.extend(
            serde_json::from_str(golden.input.as_str())
                .ok()
                .filter(|input| !examples.contains(input)),
        );
    }
    // An example that the model would refuse is worse than no example.
    if examples.is_empty() {
        examples.extend(made_from_schema(packaged));
    }
    examples
}

/// The number of instances in the example of a request with several instances.
pub(super) const SEVERAL: usize = 2;

/// Generates an instance from the schema. `None` if the model's preprocessing refuses it.
fn made_from_schema(packaged: &Packaged) -> Option<Value> {
    let parts = &packaged.package.parts;
    let (text, _) = warmup_instance::instance(&parts.input, parts.profile.as_ref());
    let columns = decode_instance(&parts.input, text.as_bytes(), &OWN_LIMITS).ok()?;
    packaged.transform.prepare(&columns).ok()?;
    serde_json::from_str(&text).ok()
}
