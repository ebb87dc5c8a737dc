//! Bodies of requests in JSON and JSON Lines.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    api::{
        http::row_request::{RequestData, RequestMembers},
        refusal::Refusal,
    },
    decode::{
        json_error::{not_finite, pointer_at},
        json_rows::JsonRows,
        row_origin::RowOrigin,
    },
    predict::Input,
};

/// Reads a JSON body: a data frame of pandas, `instances`, `inputs`, or one row.
pub(super) fn read_json(body: &Bytes) -> Result<RequestData, Refusal> {
    let members = RequestMembers::read(body)?;
    if let Some(params) = members.get("params")
        // Clients of MLflow may send an empty member.
        && !is_empty_object(params)
    {
        return Err(Refusal::malformed(
            "\"params\" must be empty: models take no parameters",
        ));
    }
    match members.only(&[
        "dataframe_split",
        "dataframe_records",
        "instances",
        "inputs",
    ])? {
        Some("dataframe_split") => read_split(&members),
        Some("dataframe_records") => {
            let text = members.get("dataframe_records").cloned();
            Ok(frame(text.unwrap_or_default(), None, RowOrigin::Records))
        }
        Some("instances") => members.instances(),
        Some(_) => members.inputs(),
        // An object without any of these members is one row.
        None => {
            // The row is wrapped in an array, so that all rows are decoded in the same way.
            let text = Bytes::from([b"[", &body[..], b"]"].concat());
            Ok(RequestData::Rows(Input::Rows(JsonRows {
                text,
                names: None,
                frame: false,
                origin: RowOrigin::Body,
            })))
        }
    }
}

/// Reads `dataframe_split`, the format of pandas' `orient="split"`.
fn read_split(members: &RequestMembers) -> Result<RequestData, Refusal> {
    let split = members.inner("dataframe_split")?;
    let member = |name: &str| {
        let value = split.as_ref().and_then(|split| split.get(name)).cloned();
        value.ok_or_else(|| Refusal::malformed(format!("dataframe_split has no member \"{name}\"")))
    };
    let names: Vec<String> = serde_json::from_slice(&member("columns")?).map_err(|_| {
        Refusal::malformed("the columns of dataframe_split must be a list of names")
    })?;
    Ok(frame(
        member("data")?,
        Some(names.clone()),
        RowOrigin::Split(names),
    ))
}

/// Creates the rows of a data frame. `names`: the names of its columns. `None` if each row contains
/// them.
fn frame(text: Bytes, names: Option<Vec<String>>, origin: RowOrigin) -> RequestData {
    RequestData::Rows(Input::Rows(JsonRows {
        text,
        names,
        frame: true,
        origin,
    }))
}

fn is_empty_object(text: &[u8]) -> bool {
    text == b"null"
        || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text)
            .is_ok_and(|object| object.is_empty())
}

/// Reads one row from each line. Each line is checked alone, because the lines are joined to one
/// array: a line with `1],[2` would become two rows.
pub(super) fn read_lines(body: &Bytes) -> Result<Input, Refusal> {
    let text =
        std::str::from_utf8(body).map_err(|_| Refusal::malformed("the body is not UTF-8"))?;
    let mut rows = Vec::with_capacity(body.len() + 2);
    let mut numbers = Vec::new();
    rows.push(b'[');
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        // This checks the syntax without building a value.
        if let Err(error) = serde_json::from_str::<&RawValue>(line) {
            let why = not_finite(&error, line.as_bytes())
                .map(|why| format!(": {why}{}", pointer_at(line.as_bytes(), &error)))
                .unwrap_or_default();
            return Err(Refusal::malformed(format!(
                "line {} is not JSON{why}",
                index + 1
            )));
        }
        if rows.len() > 1 {
            rows.push(b',');
        }
        rows.extend_from_slice(line.trim().as_bytes());
        // Empty lines are skipped, but errors must contain the line number in the caller's body.
        numbers.push(index + 1);
    }
    rows.push(b']');
    Ok(Input::Rows(JsonRows {
        text: Bytes::from(rows),
        names: None,
        frame: false,
        origin: RowOrigin::Lines(numbers),
    }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{
        api::http::{
            invocations::request::{read_json, read_lines},
            row_request::RequestData,
        },
        predict::Input,
    };

    #[test]
    fn each_line_must_be_json_by_itself() {
        let read = |text: &'static str| match read_lines(&Bytes::from_static(text.as_bytes())) {
            Ok(Input::Rows(rows)) => Ok(String::from_utf8(rows.text.to_vec()).unwrap()),
            Ok(_) => panic!("no rows"),
            Err(refusal) => Err(refusal.detail),
        };
        assert_eq!(read("{\"a\":1}\r\n\n[2]\n").unwrap(), r#"[{"a":1},[2]]"#);
        for bad in ["1],[2", "{\"a\":1}\n{", "1 2"] {
            assert!(read(bad).unwrap_err().contains("is not JSON"), "{bad}");
        }
    }

    #[test]
    fn exactly_one_member_holds_the_data() {
        let read = |text: &'static str| read_json(&Bytes::from_static(text.as_bytes()));
        assert!(matches!(
            read(r#"{"instances":[1],"params":{}}"#),
            Ok(RequestData::Rows(_))
        ));
        assert!(matches!(
            read(r#"{"inputs":{"a":[1]}}"#),
            Ok(RequestData::Columns(_))
        ));
        assert!(matches!(
            read(r#"{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[1]}]}"#),
            Ok(RequestData::Tensors(_))
        ));
        let bad = [
            r#"{"instances":[1],"inputs":[1]}"#,
            r#"{"instances":[1],"params":{"t":1}}"#,
            r#"{"instances":1}"#,
            r#"{"dataframe_split":{"data":[[1]]}}"#,
            r#"{"dataframe_split":{"columns":[1],"data":[[1]]}}"#,
            r#"{"dataframe_split":[]}"#,
            "[1]",
        ];
        for bad in bad {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
