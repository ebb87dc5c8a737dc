//! Describes a [`Gap`] between two schemas, and its effect on callers.
//!
//! The module has one text for each direction of each side: `refused` and `refused_after_rollback`
//! for requests, `unexpected` and `missed_after_rollback` for answers.

use serde_json::Value;

use crate::{
    compat::containment::{Gap, GapKind},
    schema::fault::shorten,
};

/// Describes the rule of a keyword.
fn rule(keyword: &str, value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "anything".to_owned();
    };
    let types = |value: &Value| match value {
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" or "),
        name => name.as_str().unwrap_or_default().to_owned(),
    };
    match keyword {
        "type" => types(value),
        "minimum" => format!("at least {value}"),
        "exclusiveMinimum" => format!("above {value}"),
        "maximum" => format!("at most {value}"),
        "exclusiveMaximum" => format!("below {value}"),
        "multipleOf" => format!("a multiple of {value}"),
        "minLength" => format!("at least {value} characters"),
        "maxLength" => format!("at most {value} characters"),
        "minItems" => format!("at least {value} elements"),
        "maxItems" => format!("at most {value} elements"),
        "enum" => format!("one of {}", shorten(&value.to_string())),
        // Base64 is the only encoding that the schema language accepts.
        "contentEncoding" => "base64".to_owned(),
        _ => format!("{keyword} {}", shorten(&value.to_string())),
    }
}

fn list(values: &[Value]) -> String {
    let mut texts: Vec<String> = values
        .iter()
        .take(6)
        .map(|value| shorten(&value.to_string()))
        .collect();
    // A list of hundreds of categories would fill a terminal.
    texts.extend((values.len() > 6).then(|| format!("{} more", values.len() - 6)));
    texts.join(", ")
}

fn example(gap: &Gap) -> String {
    gap.example
        .as_ref()
        .map(|value| format!(", for example {}", shorten(&value.to_string())))
        .unwrap_or_default()
}

/// The example of the gap between two commas, for the middle of a sentence. Empty without an
/// example.
fn example_within(gap: &Gap) -> String {
    let example = example(gap);
    if example.is_empty() {
        example
    } else {
        format!("{example},")
    }
}

/// The narrower schema's rule of the same keyword in parentheses, if it has one.
fn other_rule(gap: &Gap, word: &str) -> String {
    gap.narrower
        .as_ref()
        .map(|value| format!(" ({word} {})", rule(gap.keyword, Some(value))))
        .unwrap_or_default()
}

/// Whether the gap concerns members that neither schema names.
fn is_about_unknown(gap: &Gap) -> bool {
    // For a declared member, `narrower` is the schema of the member, not a boolean.
    gap.keyword == "additionalProperties" && gap.narrower.as_ref().is_none_or(Value::is_boolean)
}

/// Describes a gap of the input: the new schema refuses values that the old one accepts.
pub(super) fn refused(gap: &Gap) -> String {
    let would = "requests of today's callers";
    let (wider, narrower) = (
        rule(gap.keyword, gap.wider.as_ref()),
        rule(gap.keyword, gap.narrower.as_ref()),
    );
    // The order of the arms matters: a gap of any keyword may be unproved or list values.
    match gap.keyword {
        _ if gap.kind == GapKind::Unproved => format!("{}: {would} may get 422", unproved(gap)),
        "required" if gap.narrower.is_some() => {
            format!("is now required, and was optional: {would} without it would get 422")
        }
        "required" => format!("is now required: {would} would get 422"),
        "additionalProperties" if is_about_unknown(gap) => {
            format!(
                "no longer takes members that it does not name: {would} with others would get 422"
            )
        }
        "additionalProperties" => format!("is gone: {would} who send it would get 422"),
        _ if !gap.values.is_empty() => format!(
            "no longer takes {}: {would} with that would get 422",
            list(&gap.values)
        ),
        "type" => format!(
            "takes {wider}, and took {narrower}: other {would}{} would get 422",
            example_within(gap)
        ),
        _ => format!(
            "must now be {wider}{}: other {would}{} would get 422",
            other_rule(gap, "was"),
            example_within(gap)
        ),
    }
}

/// Describes a gap of the input after a rollback: the old schema refuses values that the new one
/// accepts.
pub(super) fn refused_after_rollback(gap: &Gap) -> String {
    let when = "after a rollback";
    let (wider, narrower) = (
        rule(gap.keyword, gap.wider.as_ref()),
        rule(gap.keyword, gap.narrower.as_ref()),
    );
    match gap.keyword {
        _ if gap.kind == GapKind::Unproved => format!(
            "{}: {when} requests of callers who use the new values may get 422",
            unproved(gap)
        ),
        "required" => format!("need no longer be sent: {when} requests without it would get 422"),
        "additionalProperties" if is_about_unknown(gap) => {
            format!(
                "takes members that it does not name: {when} requests with others would get 422"
            )
        }
        "additionalProperties" => {
            format!("is new: {when} requests of callers who began to send it would get 422")
        }
        _ if !gap.values.is_empty() => format!(
            "takes {} now: {when} requests with that would get 422",
            list(&gap.values)
        ),
        "type" => format!(
            "takes {narrower}, and took {wider}: {when} other requests{} would get 422",
            example_within(gap)
        ),
        _ => format!(
            "need no longer be {wider}{}: {when} other requests{} would get 422",
            other_rule(gap, "now"),
            example_within(gap)
        ),
    }
}

/// Describes a gap of the output: the new schema allows values that the old one does not.
pub(super) fn unexpected(gap: &Gap) -> String {
    let today = "today's callers don't expect";
    let (wider, narrower) = (
        rule(gap.keyword, gap.wider.as_ref()),
        rule(gap.keyword, gap.narrower.as_ref()),
    );
    match gap.keyword {
        _ if gap.kind == GapKind::Unproved => format!(
            "{}: today's callers may get values that they don't expect",
            unproved(gap)
        ),
        "required" => "may be missing now: today's callers expect it in every answer".to_owned(),
        _ if !gap.values.is_empty() => format!("may be {} now: {today} that", list(&gap.values)),
        "type" => format!(
            "may be {narrower} now, and was {wider}: {today} other values{}",
            example(gap)
        ),
        _ => format!(
            "need no longer be {wider}{}: {today} other values{}",
            other_rule(gap, "now"),
            example(gap)
        ),
    }
}

/// Describes a gap of the output after a rollback: the old schema allows values that the new one
/// does not.
pub(super) fn missed_after_rollback(gap: &Gap) -> String {
    let when = "after a rollback";
    let (wider, narrower) = (
        rule(gap.keyword, gap.wider.as_ref()),
        rule(gap.keyword, gap.narrower.as_ref()),
    );
    match gap.keyword {
        _ if gap.kind == GapKind::Unproved => format!(
            "{}: {when} callers may get values that they no longer expect",
            unproved(gap)
        ),
        "required" => {
            format!("is in every answer now: {when} callers who rely on that may miss it")
        }
        _ if !gap.values.is_empty() => format!(
            "is never {} now: {when} callers who rely on that may get it again",
            list(&gap.values)
        ),
        "type" => format!(
            "is {wider} now, and was {narrower}: {when} callers who rely on that may get other values{}",
            example(gap)
        ),
        _ => format!(
            "is {wider} now{}: {when} callers who rely on that may get other values{}",
            other_rule(gap, "was"),
            example(gap)
        ),
    }
}

/// The first words of the text for a gap without a proof.
fn unproved(gap: &Gap) -> String {
    let text = |value: &Option<Value>| {
        value
            .as_ref()
            .map_or_else(|| "none".to_owned(), |value| shorten(&value.to_string()))
    };
    if gap.values.is_empty() {
        format!(
            "can't be shown to fit ({} {} against {})",
            gap.keyword,
            text(&gap.wider),
            text(&gap.narrower)
        )
    } else {
        format!(
            "can't be shown to fit ({} against {})",
            gap.keyword,
            list(&gap.values)
        )
    }
}
