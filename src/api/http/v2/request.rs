//! Request: an inference request of the Open Inference Protocol, JSON with binary data behind it, taken apart.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{
    api::{oip::RequestedOutput, refusal::Refusal},
    decode::{
        elements::{Elements, WireTensor},
        json_error::without_values,
        json_object::Object,
    },
    error::ErrorCode,
    predict::Priority,
    schema::fault::shorten,
    tensor::DataType,
};

/// A request, before anybody looked at the elements of its tensors.
#[derive(Debug, Default)]
pub struct InferRequest {
    pub id: Option<String>,
    pub inputs: Vec<WireTensor>,
    pub outputs: Vec<RequestedOutput>,
    /// Outputs that don't say otherwise come as bytes.
    pub binary_output: bool,
    pub priority: Priority,
    pub timeout: Option<Duration>,
}

#[derive(Deserialize)]
struct Document<'a> {
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
struct InputDocument<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "dims")]
    shape: Option<Vec<usize>>,
    #[serde(default)]
    parameters: Option<Object<Parameters>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputDocument<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<Object<Parameters>>,
}

/// Those that are known; callers may send others.
#[derive(Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    classification: Option<usize>,
    priority: Option<u64>,
    timeout: Option<u64>,
    shared_memory_region: Option<String>,
}

/// Sizes; what is negative or beyond the machine is told in words.
fn dims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<usize>>, D::Error> {
    let given = Option::<Vec<serde_json::Number>>::deserialize(deserializer)?;
    let size =
        |number: &serde_json::Number| number.as_u64().and_then(|size| usize::try_from(size).ok());
    let sizes = given.map(|given| given.iter().map(size).collect::<Option<Vec<usize>>>());
    match sizes {
        None => Ok(None),
        Some(Some(sizes)) => Ok(Some(sizes)),
        Some(None) => Err(serde::de::Error::custom(
            "the sizes of a shape must be whole numbers from 0",
        )),
    }
}

fn malformed<T>(detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::Malformed, detail.into()))
}

/// Takes a body apart. `header_length` is what `Inference-Header-Content-Length` says: bytes of JSON in front of the data; 0
/// where the whole body is the data of the only input.
pub fn read(body: &Bytes, header_length: Option<usize>) -> Result<InferRequest, Refusal> {
    if header_length == Some(0) {
        let only = WireTensor {
            name: String::new(),
            datatype: None,
            shape: None,
            elements: Elements::Raw(body.clone()),
        };
        return Ok(InferRequest {
            inputs: vec![only],
            binary_output: true,
            ..InferRequest::default()
        });
    }
    let length = header_length.unwrap_or(body.len());
    if length > body.len() {
        return malformed(format!(
            "inference-header-content-length is {length}, but the body has {} bytes",
            body.len()
        ));
    }
    let (text, mut data) = (body.slice(..length), body.slice(length..));
    let document: Document<'_> = match serde_json::from_slice(&text) {
        Ok(Object(document)) => document,
        Err(error) => {
            return malformed(format!(
                "the body is no inference request: {}",
                without_values(&error, &text)
            ));
        }
    };
    let Some(documents) = document.inputs else {
        return malformed("the request has no member \"inputs\"");
    };
    let mut inputs = Vec::with_capacity(documents.len());
    for Object(input) in documents {
        let wrong = |detail: &str| malformed(format!("input `{}` {detail}", shorten(&input.name)));
        let Some(datatype) = &input.datatype else {
            return wrong("has no datatype");
        };
        let Some(datatype) = DataType::from_protocol_name(datatype) else {
            return wrong(&format!(
                "has the unknown datatype \"{}\"",
                shorten(datatype)
            ));
        };
        if input.shape.is_none() {
            return wrong("has no shape");
        }
        if input.name.is_empty() {
            return wrong("has no name");
        }
        let parameters = input
            .parameters
            .map(|Object(parameters)| parameters)
            .unwrap_or_default();
        if parameters.shared_memory_region.is_some() {
            return Err(Refusal::new(
                ErrorCode::Unsupported,
                "shared memory is not offered; send the data".to_owned(),
            ));
        }
        let elements = match (input.data, parameters.binary_data_size) {
            (Some(_), Some(_)) => return wrong("has both data and binary_data_size"),
            (None, None) => return wrong("has neither data nor binary_data_size"),
            (Some(text_data), None) => Elements::Json(text.slice_ref(text_data.get().as_bytes())),
            (None, Some(size)) if size > data.len() => {
                return wrong(&format!(
                    "has {size} bytes of data, but {} are left in the body",
                    data.len()
                ));
            }
            (None, Some(size)) => Elements::Raw(data.split_to(size)),
        };
        inputs.push(WireTensor {
            name: input.name.into_owned(),
            datatype: Some(datatype),
            shape: input.shape,
            elements,
        });
    }
    if !data.is_empty() {
        return malformed(format!(
            "{} bytes of the body belong to no input",
            data.len()
        ));
    }
    let parameters = document
        .parameters
        .map(|Object(parameters)| parameters)
        .unwrap_or_default();
    let outputs = document
        .outputs
        .unwrap_or_default()
        .into_iter()
        .map(|Object(output)| {
            let parameters = output
                .parameters
                .map(|Object(parameters)| parameters)
                .unwrap_or_default();
            if parameters.shared_memory_region.is_some() {
                return Err(Refusal::new(
                    ErrorCode::Unsupported,
                    "shared memory is not offered; take the data".to_owned(),
                ));
            }
            let classification = parameters.classification.unwrap_or(0);
            Ok(RequestedOutput {
                name: output.name.into_owned(),
                binary: parameters.binary_data,
                classification,
            })
        });
    Ok(InferRequest {
        id: document.id.map(Cow::into_owned).filter(|id| !id.is_empty()),
        inputs,
        outputs: outputs.collect::<Result<_, Refusal>>()?,
        binary_output: parameters.binary_data_output.unwrap_or(false),
        priority: Priority::from_protocol(parameters.priority.unwrap_or(0)),
        timeout: parameters
            .timeout
            .filter(|timeout| *timeout > 0)
            .map(Duration::from_micros),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{
        api::http::v2::request::{InferRequest, read},
        decode::elements::Elements,
    };

    fn parse(json: &str, data: &[u8], length: Option<usize>) -> Result<InferRequest, String> {
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
    fn what_does_not_add_up_is_refused() {
        let one = |rest: &str| {
            format!(r#"{{"inputs":[{{"name":"a","shape":[1],"datatype":"FP32",{rest}}}]}}"#)
        };
        let sized = one(r#""parameters":{"binary_data_size":4}"#);
        let cases: Vec<(String, &[u8], &str)> = vec![
            (sized.clone(), b"abc", "3 are left"),
            (
                sized.clone(),
                b"abcde",
                "1 bytes of the body belong to no input",
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
                "missing field `name`",
            ),
            (
                r#"{"inputs":[],"inputs":[]}"#.to_owned(),
                b"",
                "duplicate field",
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
                "wrong type; expected a sequence at",
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
            ("[".to_owned(), b"", "no inference request"),
            ("\u{7f}".to_owned(), b"", "no inference request"),
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
