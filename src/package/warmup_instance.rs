//! A valid instance of a schema, which warms the engine of a version without golden examples.

use serde_json::{Map, Value, json};

use crate::{
    package::{
        GOLDEN_FILE,
        profile::{FieldProfile, Profile},
    },
    schema::Schema,
    transform::image,
};

/// The origin of an instance's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstanceOrigin {
    /// The author gave them as examples, or they come from the profile. The model must answer them.
    Documented,
    /// They are generated from the schema's rules. The graph may reject them.
    Generated,
}

/// Returns the first of the schema's `examples` as JSON. Without one, each field gets a value from
/// its `const`, `examples`, `enum`, the profile or its limits, in this order.
pub(crate) fn instance(schema: &Schema, profile: Option<&Profile>) -> (String, InstanceOrigin) {
    let document = schema.document();
    if let Some(example) = document
        .get("examples")
        .and_then(|examples| examples.get(0))
    {
        return (example.to_string(), InstanceOrigin::Documented);
    }
    let (value, origin) = object(document, profile);
    (value.to_string(), origin)
}

/// The warning after the graph rejected a generated instance.
pub(crate) fn rejected_warning(detail: &str) -> String {
    format!(
        "not warmed: needs {GOLDEN_FILE} or examples in the schema; a generated row was refused: {detail}"
    )
}

fn object(schema: &Value, profile: Option<&Profile>) -> (Value, InstanceOrigin) {
    let mut members = Map::new();
    let mut origin = InstanceOrigin::Documented;
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let (value, known) = field(
            property,
            profile.and_then(|profile| profile.features.get(name)),
        );
        // One generated value is enough for the graph to reject the row.
        if known == InstanceOrigin::Generated {
            origin = InstanceOrigin::Generated;
        }
        members.insert(name.clone(), value);
    }
    (Value::Object(members), origin)
}

fn field(schema: &Value, feature: Option<&FieldProfile>) -> (Value, InstanceOrigin) {
    let first = |name: &str| {
        schema
            .get(name)
            .and_then(|list| list.get(0))
            .filter(|value| !value.is_null())
            .cloned()
    };
    // Values that the author wrote have priority over generated ones.
    if let Some(value) = schema
        .get("const")
        .cloned()
        .or_else(|| first("examples"))
        .or_else(|| first("enum"))
    {
        return (value, InstanceOrigin::Documented);
    }
    // The profile contains values from the training data, which the graph accepts.
    let median = feature.and_then(FieldProfile::median);
    let most_frequent = feature.and_then(FieldProfile::most_frequent);
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or("null"),
        _ => "object",
    };
    let value = match kind {
        "number" | "integer" => match median {
            // The median of whole numbers may be a fraction, which an integer field refuses.
            Some(median) if kind == "number" => {
                return (json!(median), InstanceOrigin::Documented);
            }
            Some(median) if median.fract() == 0.0 && median.abs() < 1e15 => {
                return (json!(median as i64), InstanceOrigin::Documented);
            }
            _ => number(schema, kind == "integer"),
        },
        "boolean" => json!(false),
        "string" => match most_frequent {
            Some(category) => return (json!(category), InstanceOrigin::Documented),
            None => text(schema),
        },
        "array" => return (array(schema), InstanceOrigin::Generated),
        "object" => return object(schema, None),
        _ => Value::Null,
    };
    (value, InstanceOrigin::Generated)
}

fn number(schema: &Value, whole: bool) -> Value {
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (inner, step) = (limit("exclusiveMinimum"), limit("multipleOf"));
    let low = limit("minimum").or_else(|| {
        inner.map(|low| {
            if whole {
                low.floor() + 1.0
            } else {
                // The value differs from an exclusive bound by a small step, relative to the bound.
                low + low.abs().max(1.0) * 1e-3
            }
        })
    });
    let high = limit("maximum").or_else(|| {
        limit("exclusiveMaximum").map(|high| {
            if whole {
                high.ceil() - 1.0
            } else {
                high - high.abs().max(1.0) * 1e-3
            }
        })
    });
    let mut x = 0.0f64;
    if let Some(low) = low {
        x = x.max(low);
    }
    if let Some(high) = high {
        x = x.min(high);
    }
    if let Some(step) = step.filter(|step| *step > 0.0) {
        // Rounded up, so that the value stays above the minimum.
        x = (x / step).ceil() * step;
    }
    if whole {
        json!(x.ceil() as i64)
    } else {
        json!(x)
    }
}

fn text(schema: &Value) -> Value {
    match (
        schema.get("format").and_then(Value::as_str),
        schema.get("contentMediaType").and_then(Value::as_str),
    ) {
        (Some("date"), _) => json!("2024-02-29"),
        (Some("date-time"), _) => json!("2024-02-29T12:30:00Z"),
        (Some("uuid"), _) => json!("123e4567-e89b-12d3-a456-426614174000"),
        (_, media_type) if schema.get("contentEncoding").is_some() => {
            json!(
                image::grey_image(media_type.unwrap_or("image/png"), SIDE, SIDE)
                    .unwrap_or_else(|| "AAAA".to_owned())
            )
        }
        _ => {
            let least = schema
                .get("minLength")
                .and_then(Value::as_u64)
                .and_then(|least| usize::try_from(least).ok())
                .unwrap_or(0);
            // Bounds the memory for a schema with a huge `minLength`.
            json!("a".repeat(least.clamp(1, 1 << 16)))
        }
    }
}

/// Width and height of a generated image. Most image models crop to at most 256 pixels.
const SIDE: u32 = 256;

fn array(schema: &Value) -> Value {
    let most = schema
        .get("maxItems")
        .and_then(Value::as_u64)
        .unwrap_or(u64::MAX);
    let length = schema
        .get("minItems")
        .and_then(Value::as_u64)
        .unwrap_or(1)
        .max(1)
        .min(most)
        // Bounds the memory for a schema with a huge `minItems`.
        .min(1 << 20);
    let prefix = schema
        .get("prefixItems")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let anything = json!({"type": "number"});
    let items = schema.get("items").unwrap_or(&anything);
    (0..length)
        .map(|index| {
            field(
                usize::try_from(index)
                    .ok()
                    .and_then(|index| prefix.get(index))
                    .unwrap_or(items),
                None,
            )
            .0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        decode::{DecodeLimits, decode_instance},
        document,
        package::warmup_instance::{InstanceOrigin, instance},
        schema::Schema,
    };

    #[test]
    fn a_generated_instance_fits_the_schema() {
        let properties = json!({
            "a": {"type": "number", "minimum": 3.5, "maximum": 4}, "b": {"type": ["integer", "null"], "exclusiveMinimum": 7},
            "c": {"type": "string", "enum": ["x", "y"]}, "d": {"type": "string", "minLength": 3}, "e": {"type": "string", "format": "date"},
            "f": {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}, "g": {"type": "boolean"},
            "h": {"type": "object", "properties": {"i": {"type": "integer", "multipleOf": 5, "minimum": 1}}, "required": ["i"], "additionalProperties": false},
        });
        let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        let document = json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false});
        let schema = Schema::compile(&document).unwrap();
        let (text, origin) = instance(&schema, None);
        assert_eq!(origin, InstanceOrigin::Generated);
        let limits = DecodeLimits {
            max_instances: 1,
            max_depth: 64,
            max_array_values: 1000,
        };
        assert!(
            decode_instance(&schema, text.as_bytes(), &limits).is_ok(),
            "{text}"
        );
        let profile = json!({"features": {
            "a": {"kind": "numeric", "count": 12, "quantiles": {"0.5": 3.75}},
            "d": {"kind": "categorical", "count": 12, "categories": {"new": 3, "used": 9}},
        }});
        let profile = document::read(&profile).unwrap();
        let (text, _) = instance(&schema, Some(&profile));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["a"], &value["d"], &value["c"]),
            (&json!(3.75), &json!("used"), &json!("x"))
        );
    }

    #[test]
    fn base64_content_has_its_media_type() {
        for (media_type, begin) in [
            ("image/png", "iVBORw0KGgo"),
            ("image/jpeg", "/9j/"),
            ("application/pdf", "AAAA"),
        ] {
            let field = json!({"type": "string", "contentEncoding": "base64", "contentMediaType": media_type});
            let document = json!({"type": "object", "properties": {"file": field}, "required": ["file"], "additionalProperties": false});
            let (text, _) = instance(&Schema::compile(&document).unwrap(), None);
            let value: Value = serde_json::from_str(&text).unwrap();
            let content = value["file"].as_str().unwrap();
            assert!(
                content.starts_with(begin) && content.len() < 8192,
                "{media_type}: {content}"
            );
        }
    }
}
