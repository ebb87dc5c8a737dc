//! An inference request of the Open Inference Protocol: JSON, followed by binary data.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    api::{
        http::v2::{
            input_reader::{InputDocument, InputReader},
            parameters::Parameters,
        },
        oip::RequestedOutput,
        refusal::Refusal,
    },
    decode::{
        elements::{Elements, WireTensor},
        json_error::without_values,
        json_object::Object,
    },
    error::{ErrorCode, counted},
    predict::Priority,
};

/// A request whose tensors are not decoded yet.
#[derive(Debug, Default)]
pub struct HttpInferRequest {
    pub(crate) id: Option<String>,
    /// The input tensors, in the order in which the body contains them.
    pub inputs: Vec<WireTensor>,
    pub(crate) outputs: Vec<RequestedOutput>,
    /// Whether outputs are sent as bytes, unless an output has its own option.
    pub binary_output: bool,
    pub(crate) priority: Priority,
    pub(crate) timeout: Option<Duration>,
}

#[derive(Deserialize)]
struct RequestDocument<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    parameters: Option<Object<Parameters>>,
    #[serde(borrow)]
    inputs: Option<Vec<Object<InputDocument<'a>>>>,
    #[serde(borrow)]
    outputs: Option<Vec<Object<OutputDocument<'a>>>>,
}

#[derive(Deserialize)]
struct OutputDocument<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<Object<Parameters>>,
}

/// Reads a body. `header_length`: the value of `Inference-Header-Content-Length`, the number of
/// bytes of JSON before the binary data. 0 means that the whole body is the data of the only input.
pub fn read(body: &Bytes, header_length: Option<usize>) -> Result<HttpInferRequest, Refusal> {
    if header_length == Some(0) {
        return Ok(without_json(body));
    }
    let length = header_length.unwrap_or(body.len());
    if length > body.len() {
        return Err(Refusal::malformed(format!(
            "inference-header-content-length is {length}, but the body has {}",
            counted(body.len(), "byte")
        )));
    }
    // Both parts share the memory of the body.
    let (text, binary) = (body.slice(..length), body.slice(length..));
    let Object(document): Object<RequestDocument<'_>> =
        serde_json::from_slice(&text).map_err(|error| {
            Refusal::malformed(format!(
                "the body is not an inference request: {}",
                without_values(&error, &text)
            ))
        })?;
    let documents = document
        .inputs
        .ok_or_else(|| Refusal::malformed("the request has no member \"inputs\""))?;
    let mut reader = InputReader::new(text.clone(), binary);
    let mut inputs = Vec::with_capacity(documents.len());
    for Object(input) in documents {
        inputs.push(reader.read(input)?);
    }
    reader.finish()?;
    let outputs = document.outputs.unwrap_or_default();
    let outputs = outputs
        .into_iter()
        .map(|Object(output)| read_output(output));
    let parameters = Parameters::from(document.parameters);
    Ok(HttpInferRequest {
        // An empty id is not repeated in the response.
        id: document.id.map(Cow::into_owned).filter(|id| !id.is_empty()),
        inputs,
        outputs: outputs.collect::<Result<_, Refusal>>()?,
        binary_output: parameters.binary_data_output.unwrap_or(false),
        // 0 means the default priority in the protocol.
        priority: Priority::from_protocol(parameters.priority.unwrap_or(0)),
        timeout: parameters
            .timeout
            .filter(|timeout| *timeout > 0)
            .map(Duration::from_micros),
    })
}

/// Creates a request from raw data for the only input. The model's signature gives the input's
/// name, datatype and shape.
fn without_json(body: &Bytes) -> HttpInferRequest {
    let only = WireTensor {
        name: String::new(),
        datatype: None,
        shape: None,
        elements: Elements::Raw(body.clone()),
    };
    HttpInferRequest {
        inputs: vec![only],
        binary_output: true,
        ..HttpInferRequest::default()
    }
}

fn read_output(output: OutputDocument<'_>) -> Result<RequestedOutput, Refusal> {
    let parameters = Parameters::from(output.parameters);
    if parameters.shared_memory_region.is_some() {
        return Err(Refusal::new(
            ErrorCode::Unsupported,
            "shared memory is not supported; read the data from the response",
        ));
    }
    Ok(RequestedOutput {
        name: output.name.into_owned(),
        binary: parameters.binary_data,
        classification: parameters.classification.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{
        api::http::v2::request::{HttpInferRequest, read},
        decode::elements::Elements,
    };

    fn parse(json: &str, data: &[u8], length: Option<usize>) -> Result<HttpInferRequest, String> {
        let body = Bytes::from([json.as_bytes(), data].concat());
        read(&body, length).map_err(|refusal| refusal.detail)
    }

    #[test]
    fn json_and_binary_inputs_may_be_mixed() {
        let json = r#"{"id":"7","parameters":{"binary_data_output":true,"priority":1,"timeout":5,"more":[]},"model_name":"x","inputs":[
            {"name":"a","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}},
            {"name":"b","shape":[2],"datatype":"INT8","data":[1, 2]},
            {"name":"c","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}],
            "outputs":[{"name":"o","parameters":{"binary_data":false,"classification":3}}]}"#;
        let request = parse(json, b"aaaaaaaacccc", Some(json.len())).unwrap();
        let raw: Vec<&[u8]> = request
            .inputs
            .iter()
            .map(|input| match &input.elements {
                Elements::Raw(bytes) | Elements::Json(bytes) => &bytes[..],
                _ => b"",
            })
            .collect();
        assert_eq!(raw, [&b"aaaaaaaa"[..], b"[1, 2]", b"cccc"]);
        assert_eq!(
            (request.id.as_deref(), request.binary_output),
            (Some("7"), true)
        );
        assert_eq!(
            (request.outputs[0].binary, request.outputs[0].classification),
            (Some(false), 3)
        );
        assert_eq!(request.timeout.unwrap().as_micros(), 5);
    }

    #[test]
    fn contradictory_requests_are_refused() {
        let one = |rest: &str| {
            format!(r#"{{"inputs":[{{"name":"a","shape":[1],"datatype":"FP32",{rest}}}]}}"#)
        };
        let sized = one(r#""parameters":{"binary_data_size":4}"#);
        let cases: Vec<(String, &[u8], &str)> = vec![
            (sized.clone(), b"abc", "3 are left"),
            (
                sized.clone(),
                b"abcde",
                "the body has 1 byte more than its inputs need",
            ),
            (
                one(r#""data":[1],"parameters":{"binary_data_size":4}"#),
                b"abcd",
                "both data and",
            ),
            (one(r#""parameters":{}"#), b"", "neither data nor"),
            (
                one(r#""data":[1]"#).replace("FP32", "FLOAT"),
                b"",
                "unknown datatype",
            ),
            (
                one(r#""data":[1]"#).replace("[1],\"datatype", "[-1],\"datatype"),
                b"",
                "from 0",
            ),
            (
                one(r#""data":[1]"#).replace("[1],\"datatype", "[1e30],\"datatype"),
                b"",
                "from 0",
            ),
            (
                one(r#""data":[1]"#).replace("\"shape\":[1],", ""),
                b"",
                "no shape",
            ),
            (
                r#"{"inputs":[{"shape":[1],"datatype":"FP32","data":[1]}]}"#.to_owned(),
                b"",
                "the member \"name\" is missing",
            ),
            (
                r#"{"inputs":[],"inputs":[]}"#.to_owned(),
                b"",
                "the member \"inputs\" occurs twice",
            ),
            (
                r#"{"id":7,"inputs":[]}"#.to_owned(),
                b"",
                "wrong type; expected a string",
            ),
            (
                r#"{"inputs":["jane@x.example"]}"#.to_owned(),
                b"",
                "wrong type; expected an object at",
            ),
            (
                r#"{"inputs":"Jane, expected 4711"}"#.to_owned(),
                b"",
                "wrong type; expected an array at",
            ),
            (
                r#"[null,null,[["x","FP32",[1],null,[1]]],null]"#.to_owned(),
                b"",
                "expected an object",
            ),
            (
                r#"{"inputs":[["x","FP32",[1],null,[1]]]}"#.to_owned(),
                b"",
                "expected an object",
            ),
            ("{}".to_owned(), b"", "no member \"inputs\""),
            ("[".to_owned(), b"", "not an inference request"),
            ("\u{7f}".to_owned(), b"", "not an inference request"),
        ];
        for (json, data, expected) in cases {
            let error = parse(&json, data, Some(json.len())).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        assert!(
            parse(&sized, b"", Some(usize::MAX))
                .unwrap_err()
                .contains("inference-header-content-length")
        );
        assert!(
            parse(
                &one(r#""parameters":{"shared_memory_region":"r"}"#),
                b"",
                None
            )
            .unwrap_err()
            .contains("shared memory")
        );
    }
}
