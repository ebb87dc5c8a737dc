//! Contents: from a request message to tensors as protocols carry them, and from outputs to the answer's message.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use crate::{
    api::{
        grpc::inference::{
            InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
            infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
            model_infer_response::InferOutputTensor,
        },
        oip::RequestedOutput,
        refusal::Refusal,
    },
    decode::elements::{Elements, WireTensor, elements_of, to_raw},
    error::ErrorCode,
    predict::Priority,
    schema::fault::shorten,
    tensor::{Buffer, Data, DataType},
    transform::fields::NamedTensor,
};

/// A parameter that is set: Triton's clients name a region of memory that they share with the server instead of sending elements.
const SHARED_MEMORY: &str = "shared_memory_region";

/// A request, before anybody looked at its elements.
#[derive(Debug, Default)]
pub struct InferRequest {
    pub model: String,
    /// Empty where the server chooses.
    pub version: String,
    /// Echoed.
    pub id: String,
    pub inputs: Vec<WireTensor>,
    /// In the order of the answer; empty: all.
    pub outputs: Vec<RequestedOutput>,
    pub priority: Priority,
    /// The caller's own limit on waiting, beside `grpc-timeout`.
    pub timeout: Option<Duration>,
    pub form: Form,
}

/// How elements lie in a message. Whoever sends typed ones reads typed ones; Triton's client reads raw ones only, except texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Raw,
    Typed,
}

fn malformed(detail: String) -> Refusal {
    Refusal::new(ErrorCode::Malformed, detail)
}

/// What the message asks for.
pub fn read(request: ModelInferRequest) -> Result<InferRequest, Refusal> {
    let ModelInferRequest {
        model_name,
        model_version,
        id,
        parameters,
        inputs,
        outputs,
        raw_input_contents,
    } = request;
    let form = if inputs.is_empty() || !raw_input_contents.is_empty() {
        Form::Raw
    } else {
        Form::Typed
    };
    if form == Form::Raw && raw_input_contents.len() != inputs.len() {
        let (given, wanted) = (raw_input_contents.len(), inputs.len());
        return Err(malformed(format!(
            "raw_input_contents must have an entry for each input: {wanted} inputs, {given} entries"
        )));
    }
    let mut raw = raw_input_contents.into_iter();
    let inputs = inputs
        .into_iter()
        .map(|input| read_input(input, raw.next()))
        .collect::<Result<_, _>>()?;
    let outputs = outputs
        .into_iter()
        .map(|output| read_output(output.name, &output.parameters))
        .collect::<Result<_, _>>()?;
    let wrong = |detail| malformed(format!("request: {detail}"));
    let priority = Priority::from_protocol(
        whole_number(&parameters, "priority")
            .map_err(wrong)?
            .unwrap_or_default(),
    );
    let timeout = whole_number(&parameters, "timeout")
        .map_err(wrong)?
        .filter(|microseconds| *microseconds > 0);
    let timeout = timeout.map(Duration::from_micros);
    Ok(InferRequest {
        model: model_name,
        version: model_version,
        id,
        inputs,
        outputs,
        priority,
        timeout,
        form,
    })
}

/// Checks what no model is needed for; whether the elements fill the shape is checked here for typed ones only.
fn read_input(input: InferInputTensor, raw: Option<Bytes>) -> Result<WireTensor, Refusal> {
    let InferInputTensor {
        name,
        datatype,
        shape,
        parameters,
        contents,
    } = input;
    // A name may be left out only where nothing else says what the bytes are.
    if name.is_empty() {
        return Err(malformed("input `` has no name".to_owned()));
    }
    let wrong = |detail: String| malformed(format!("input `{}`: {detail}", shorten(&name)));
    if parameters.contains_key(SHARED_MEMORY) {
        return Err(no_shared_memory());
    }
    let datatype = DataType::from_protocol_name(&datatype)
        .ok_or_else(|| wrong(format!("there is no datatype {}", shorten(&datatype))))?;
    let dims = shape
        .iter()
        .map(|dim| usize::try_from(*dim))
        .collect::<Result<Vec<usize>, _>>();
    let shape = dims.map_err(|_| wrong(format!("shape {shape:?} has a negative dimension")))?;
    let elements =
        elements_of(&shape).ok_or_else(|| wrong("has a shape beyond all memory".to_owned()))?;
    let contents = contents.filter(|contents| !is_empty(contents));
    let elements = match (raw, contents) {
        (Some(_), Some(_)) => {
            return Err(wrong(
                "contents must not be set beside raw_input_contents".to_owned(),
            ));
        }
        (Some(bytes), None) => Elements::Raw(bytes),
        (None, contents) => {
            typed_elements(contents.unwrap_or_default(), datatype, elements).map_err(wrong)?
        }
    };
    Ok(WireTensor {
        name,
        datatype: Some(datatype),
        shape: Some(shape),
        elements,
    })
}

fn read_output(
    name: String,
    parameters: &BTreeMap<String, InferParameter>,
) -> Result<RequestedOutput, Refusal> {
    if parameters.contains_key(SHARED_MEMORY) {
        return Err(no_shared_memory());
    }
    let wrong = |detail: String| malformed(format!("output `{}`: {detail}", shorten(&name)));
    let count = whole_number(parameters, "classification").map_err(wrong)?;
    // More classes than memory has places for are all classes.
    let classification = count.map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX));
    Ok(RequestedOutput {
        name,
        binary: None,
        classification,
    })
}

fn no_shared_memory() -> Refusal {
    Refusal::new(
        ErrorCode::Unsupported,
        "shared memory is not offered: send the elements".to_owned(),
    )
}

/// A parameter that counts something; `None` where it is not there.
fn whole_number(
    parameters: &BTreeMap<String, InferParameter>,
    name: &str,
) -> Result<Option<u64>, String> {
    let Some(parameter) = parameters.get(name) else {
        return Ok(None);
    };
    let number = match &parameter.parameter_choice {
        Some(ParameterChoice::Int64Param(number)) => u64::try_from(*number).ok(),
        Some(ParameterChoice::Uint64Param(number)) => Some(*number),
        _ => None,
    };
    number
        .map(Some)
        .ok_or_else(|| format!("{name} must be a whole number, not negative"))
}

/// The fields of typed contents, and how many elements each holds.
fn fields(contents: &InferTensorContents) -> [(&'static str, usize); 8] {
    [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ]
}

fn is_empty(contents: &InferTensorContents) -> bool {
    fields(contents).iter().all(|(_, count)| *count == 0)
}

/// Where the elements of a datatype lie; `None` where the protocol has no place for them.
fn field_of(datatype: DataType) -> Option<&'static str> {
    match datatype {
        DataType::Bool => Some("bool_contents"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some("int_contents"),
        DataType::Int64 => Some("int64_contents"),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => Some("uint_contents"),
        DataType::Uint64 => Some("uint64_contents"),
        DataType::Fp32 => Some("fp32_contents"),
        DataType::Fp64 => Some("fp64_contents"),
        DataType::Bytes => Some("bytes_contents"),
        DataType::Fp16 | DataType::Bf16 => None,
    }
}

fn typed_elements(
    contents: InferTensorContents,
    datatype: DataType,
    elements: usize,
) -> Result<Elements, String> {
    let name = datatype.protocol_name();
    let field = field_of(datatype)
        .ok_or_else(|| format!("{name} has no typed contents: send it in raw_input_contents"))?;
    if let Some((other, _)) = fields(&contents)
        .iter()
        .find(|(other, count)| *count > 0 && *other != field)
    {
        return Err(format!("{name} belongs in {field}, given {other}"));
    }
    let given: usize = fields(&contents).iter().map(|(_, count)| count).sum();
    if given != elements {
        return Err(format!(
            "its shape takes {elements} elements, given {given}"
        ));
    }
    let data = match datatype {
        DataType::Bytes => return Ok(Elements::Texts(contents.bytes_contents)),
        DataType::Bool => Data::Bool(contents.bool_contents),
        DataType::Int8 => Data::Int8(narrow(&contents.int_contents, datatype)?),
        DataType::Int16 => Data::Int16(narrow(&contents.int_contents, datatype)?),
        DataType::Int32 => Data::Int32(contents.int_contents.into()),
        DataType::Int64 => Data::Int64(contents.int64_contents.into()),
        DataType::Uint8 => Data::Uint8(narrow(&contents.uint_contents, datatype)?),
        DataType::Uint16 => Data::Uint16(narrow(&contents.uint_contents, datatype)?),
        DataType::Uint32 => Data::Uint32(contents.uint_contents.into()),
        DataType::Uint64 => Data::Uint64(contents.uint64_contents.into()),
        DataType::Fp32 => Data::Fp32(contents.fp32_contents.into()),
        DataType::Fp64 => Data::Fp64(contents.fp64_contents.into()),
        DataType::Fp16 | DataType::Bf16 => Data::zeros(datatype, 0),
    };
    Ok(Elements::Values(data))
}

fn narrow<W: Copy, T: TryFrom<W>>(values: &[W], datatype: DataType) -> Result<Buffer<T>, String> {
    let narrowed = values
        .iter()
        .enumerate()
        .map(|(index, value)| T::try_from(*value).map_err(|_| index));
    narrowed
        .collect::<Result<Buffer<T>, usize>>()
        .map_err(|index| {
            format!(
                "element {index} is out of range for {}",
                datatype.protocol_name()
            )
        })
}

/// The answer's message: outputs in the form in which the inputs came.
pub fn answer(
    model: String,
    version: String,
    id: String,
    outputs: Vec<NamedTensor>,
    form: Form,
) -> ModelInferResponse {
    // A client takes all outputs from one place, and FP16 and BF16 have only one.
    let has_typed_form = outputs
        .iter()
        .all(|output| field_of(output.tensor.datatype()).is_some());
    let mut raw_output_contents = Vec::new();
    let mut tensors = Vec::with_capacity(outputs.len());
    for NamedTensor { name, tensor, .. } in outputs {
        let datatype = tensor.datatype().protocol_name().to_owned();
        let (shape, data) = tensor.into_parts();
        let contents = if form == Form::Typed && has_typed_form {
            Some(typed_contents(data))
        } else {
            raw_output_contents.push(to_raw(data));
            None
        };
        let shape = shape
            .into_iter()
            .map(|dim| i64::try_from(dim).unwrap_or(i64::MAX))
            .collect();
        tensors.push(InferOutputTensor {
            name: name.to_string(),
            datatype,
            shape,
            parameters: BTreeMap::new(),
            contents,
        });
    }
    let parameters = BTreeMap::new();
    ModelInferResponse {
        model_name: model,
        model_version: version,
        id,
        parameters,
        outputs: tensors,
        raw_output_contents,
    }
}

fn typed_contents(data: Data) -> InferTensorContents {
    fn own<T: bytemuck::Pod>(mut values: Buffer<T>) -> Vec<T> {
        std::mem::take(values.to_mut())
    }
    fn widen<W, T: Copy + Into<W>>(values: &[T]) -> Vec<W> {
        values.iter().map(|value| (*value).into()).collect()
    }
    let mut contents = InferTensorContents::default();
    match data {
        Data::Bool(values) => contents.bool_contents = values,
        Data::Int8(values) => contents.int_contents = widen(&values),
        Data::Int16(values) => contents.int_contents = widen(&values),
        Data::Int32(values) => contents.int_contents = own(values),
        Data::Int64(values) => contents.int64_contents = own(values),
        Data::Uint8(values) => contents.uint_contents = widen(&values),
        Data::Uint16(values) => contents.uint_contents = widen(&values),
        Data::Uint32(values) => contents.uint_contents = own(values),
        Data::Uint64(values) => contents.uint64_contents = own(values),
        Data::Fp32(values) => contents.fp32_contents = own(values),
        Data::Fp64(values) => contents.fp64_contents = own(values),
        Data::Bytes(texts) => {
            contents.bytes_contents = texts.into_iter().map(Bytes::from).collect()
        }
        // Asked for raw, always: they have no place here.
        Data::Fp16(_) | Data::Bf16(_) => {}
    }
    contents
}

#[cfg(test)]
mod tests {
    use crate::api::refusal::Refusal;
    use std::{collections::BTreeMap, sync::Arc, time::Duration};

    use bytes::Bytes;
    use half::f16;
    use prost::Message;

    use crate::{
        api::{
            grpc::{
                contents::{Form, InferRequest, answer, read},
                inference::{
                    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
                    infer_parameter::ParameterChoice,
                    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
                },
            },
            oip::RequestedOutput,
        },
        decode::elements::to_raw,
        error::ErrorCode,
        predict::Priority,
        tensor::{Data, DataType, Dim, Shape, Tensor, signature::TensorSpec},
        transform::fields::NamedTensor,
    };

    fn input(
        datatype: &str,
        shape: &[i64],
        contents: Option<InferTensorContents>,
    ) -> InferInputTensor {
        InferInputTensor {
            name: "x".to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            parameters: BTreeMap::new(),
            contents,
        }
    }

    fn request(inputs: Vec<InferInputTensor>, raw: &[&[u8]]) -> ModelInferRequest {
        let raw_input_contents = raw
            .iter()
            .map(|bytes| Bytes::copy_from_slice(bytes))
            .collect();
        ModelInferRequest {
            model_name: "m".to_owned(),
            id: "7".to_owned(),
            inputs,
            raw_input_contents,
            ..ModelInferRequest::default()
        }
    }

    fn fp32(values: &[f32]) -> Option<InferTensorContents> {
        Some(InferTensorContents {
            fp32_contents: values.to_vec(),
            ..InferTensorContents::default()
        })
    }

    fn ints(values: &[i32]) -> Option<InferTensorContents> {
        Some(InferTensorContents {
            int_contents: values.to_vec(),
            ..InferTensorContents::default()
        })
    }

    fn uints(values: &[u32]) -> Option<InferTensorContents> {
        Some(InferTensorContents {
            uint_contents: values.to_vec(),
            ..InferTensorContents::default()
        })
    }

    fn parameter(choice: ParameterChoice) -> InferParameter {
        InferParameter {
            parameter_choice: Some(choice),
        }
    }

    /// As the graph's input takes it.
    fn tensor(request: &InferRequest) -> Result<Tensor, String> {
        let [input] = &request.inputs[..] else {
            panic!("one input")
        };
        let shape = Shape(vec![Dim::Any; input.shape.as_ref().unwrap().len()]);
        let spec = TensorSpec {
            name: Arc::from("x"),
            datatype: input.datatype.unwrap(),
            shape,
        };
        input.to_tensor(&spec).map_err(|error| error.to_string())
    }

    /// Two elements of each datatype, the extremes where it has some.
    fn samples() -> Vec<Data> {
        vec![
            Data::Bool(vec![true, false]),
            Data::Uint8(vec![0, u8::MAX].into()),
            Data::Uint16(vec![0, u16::MAX].into()),
            Data::Uint32(vec![0, u32::MAX].into()),
            Data::Uint64(vec![0, u64::MAX].into()),
            Data::Int8(vec![i8::MIN, i8::MAX].into()),
            Data::Int16(vec![i16::MIN, i16::MAX].into()),
            Data::Int32(vec![i32::MIN, i32::MAX].into()),
            Data::Int64(vec![i64::MIN, i64::MAX].into()),
            Data::Fp16(vec![f16::MIN, f16::MAX].into()),
            Data::Fp32(vec![f32::MIN, f32::INFINITY].into()),
            Data::Fp64(vec![f64::MIN_POSITIVE, f64::MAX].into()),
            Data::Bytes(vec![String::new(), "é".to_owned()]),
        ]
    }

    fn named(data: Data) -> NamedTensor {
        let shape = vec![data.len(), 1];
        NamedTensor {
            name: Arc::from("x"),
            tensor: Tensor::new(shape, data).unwrap(),
            labels: None,
        }
    }

    fn answered(data: Data, form: Form) -> ModelInferResponse {
        answer(
            "m".to_owned(),
            "1".to_owned(),
            "7".to_owned(),
            vec![named(data)],
            form,
        )
    }

    #[test]
    fn what_an_answer_says_a_request_says_too() {
        for data in samples() {
            for form in [Form::Raw, Form::Typed] {
                let answer = answered(data.clone(), form);
                let output = answer.outputs[0].clone();
                // Over the wire, as a client would send it on.
                let asked = request(
                    vec![input(&output.datatype, &output.shape, output.contents)],
                    &[],
                );
                let asked = ModelInferRequest {
                    raw_input_contents: answer.raw_output_contents,
                    ..asked
                };
                let asked = ModelInferRequest::decode(Bytes::from(asked.encode_to_vec())).unwrap();
                let given = read(asked).unwrap();
                let has_typed_form = data.datatype() != DataType::Fp16;
                assert_eq!(
                    given.form == form,
                    form == Form::Raw || has_typed_form,
                    "{data:?}"
                );
                assert_eq!(
                    tensor(&given).unwrap(),
                    named(data.clone()).tensor,
                    "{form:?}"
                );
                assert_eq!((given.model.as_str(), given.id.as_str()), ("m", "7"));
            }
        }
    }

    #[test]
    fn raw_elements_are_not_copied() {
        let bytes = Bytes::from(vec![0u8; 8]);
        let mut asked = request(vec![input("FP32", &[2], None)], &[]);
        asked.raw_input_contents.push(bytes.clone());
        let given = tensor(&read(asked).unwrap()).unwrap();
        let answer = answer(
            String::new(),
            String::new(),
            String::new(),
            vec![named(given.into_parts().1)],
            Form::Raw,
        );
        assert_eq!(answer.raw_output_contents[0].as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn a_request_without_inputs_is_answered_raw() {
        assert_eq!(read(request(vec![], &[])).unwrap().form, Form::Raw);
    }

    #[test]
    fn one_output_without_a_typed_form_makes_all_of_them_raw() {
        let outputs = vec![
            named(Data::Fp32(vec![1.0].into())),
            named(Data::Fp16(vec![f16::ONE].into())),
        ];
        let answer = answer(
            String::new(),
            String::new(),
            String::new(),
            outputs,
            Form::Typed,
        );
        assert_eq!(answer.raw_output_contents.len(), 2);
        assert!(
            answer
                .outputs
                .iter()
                .all(|output| output.contents.is_none())
        );
    }

    #[test]
    fn tensors_without_elements_need_no_contents() {
        for (contents, raw) in [
            (None, &[][..]),
            (Some(InferTensorContents::default()), &[][..]),
            (None, &[&b""[..]][..]),
        ] {
            let given = read(request(vec![input("FP32", &[0, 3], contents)], raw)).unwrap();
            assert_eq!(tensor(&given).unwrap().shape(), [0, 3]);
        }
        let scalar = read(request(vec![input("FP32", &[], fp32(&[1.5]))], &[])).unwrap();
        assert_eq!(
            tensor(&scalar).unwrap().data(),
            &Data::Fp32(vec![1.5].into())
        );
    }

    #[test]
    fn malformed_messages_are_refused() {
        let four = 1.0f32.to_le_bytes();
        let both = InferTensorContents {
            int_contents: vec![1],
            fp32_contents: vec![1.0],
            ..InferTensorContents::default()
        };
        let cases = [
            (
                request(vec![input("FP32", &[1], fp32(&[1.0]))], &[&four]),
                "beside raw_input_contents",
            ),
            (
                request(
                    vec![input("FP32", &[1], None), input("FP32", &[1], fp32(&[1.0]))],
                    &[&four],
                ),
                "2 inputs, 1 entries",
            ),
            (
                request(vec![input("FP32", &[1], None)], &[&four, &four]),
                "1 inputs, 2 entries",
            ),
            (request(vec![], &[&four]), "0 inputs, 1 entries"),
            (
                request(vec![input("FP32", &[2], fp32(&[1.0]))], &[]),
                "2 elements, given 1",
            ),
            (
                request(vec![input("FP32", &[1], None)], &[]),
                "1 elements, given 0",
            ),
            (
                request(vec![input("FP32", &[1], ints(&[1]))], &[]),
                "FP32 belongs in fp32_contents, given int_contents",
            ),
            (
                request(vec![input("FP32", &[1], Some(both))], &[]),
                "given int_contents",
            ),
            (
                request(vec![input("FP32", &[-1, -2], fp32(&[1.0, 2.0]))], &[]),
                "negative",
            ),
            (
                request(vec![input("FP32", &[1 << 62, 8], fp32(&[1.0]))], &[]),
                "beyond all memory",
            ),
            (
                request(vec![input("FP32", &[i64::MAX], fp32(&[1.0]))], &[]),
                "given 1",
            ),
            (
                request(vec![input("fp32", &[1], fp32(&[1.0]))], &[]),
                "no datatype",
            ),
            (
                request(vec![input("", &[1], None)], &[&four]),
                "no datatype",
            ),
            (
                request(
                    vec![InferInputTensor {
                        name: String::new(),
                        ..input("FP32", &[1], None)
                    }],
                    &[&four],
                ),
                "has no name",
            ),
            (
                request(vec![input("FP16", &[1], fp32(&[1.0]))], &[]),
                "FP16 has no typed contents",
            ),
            (
                request(vec![input("BF16", &[1], fp32(&[1.0]))], &[]),
                "BF16 has no typed contents",
            ),
            (
                request(vec![input("INT8", &[2], ints(&[0, 128]))], &[]),
                "element 1 is out of range for INT8",
            ),
            (
                request(vec![input("INT16", &[1], ints(&[-32_769]))], &[]),
                "out of range",
            ),
            (
                request(vec![input("UINT8", &[1], uints(&[256]))], &[]),
                "out of range",
            ),
            (
                request(vec![input("UINT16", &[1], uints(&[1 << 16]))], &[]),
                "out of range",
            ),
        ];
        for (asked, expected) in cases {
            match read(asked).unwrap_err() {
                Refusal {
                    code: ErrorCode::Malformed,
                    detail,
                } => assert!(
                    detail.contains(expected),
                    "{detail:?} where {expected:?} was due"
                ),
                other => panic!("{other:?} where {expected:?} was due"),
            }
        }
        // What is counted only when the model is known.
        for raw in [&four[..3], &[0; 5][..]] {
            assert!(
                tensor(&read(request(vec![input("FP32", &[1], None)], &[raw])).unwrap()).is_err()
            );
        }
    }

    #[test]
    fn outputs_and_their_order_are_chosen() {
        let output =
            |name: &str, parameters: &[(&str, ParameterChoice)]| InferRequestedOutputTensor {
                name: name.to_owned(),
                parameters: parameters
                    .iter()
                    .map(|(name, choice)| ((*name).to_owned(), parameter(choice.clone())))
                    .collect(),
            };
        let asked = |outputs| {
            read(ModelInferRequest {
                outputs,
                ..request(vec![], &[])
            })
        };
        let binary = ("binary_data", ParameterChoice::BoolParam(true));
        let given = asked(vec![
            output("b", &[("classification", ParameterChoice::Int64Param(3))]),
            output("a", &[binary]),
        ])
        .unwrap();
        let expected = [("b", 3), ("a", 0)];
        assert_eq!(
            given.outputs,
            expected.map(|(name, classification)| RequestedOutput {
                name: name.to_owned(),
                binary: None,
                classification
            })
        );
        for none in [
            ParameterChoice::Int64Param(0),
            ParameterChoice::Uint64Param(0),
        ] {
            assert_eq!(
                asked(vec![output("b", &[("classification", none)])])
                    .unwrap()
                    .outputs[0]
                    .classification,
                0
            );
        }
        for wrong in [
            ParameterChoice::Int64Param(-1),
            ParameterChoice::StringParam("1".to_owned()),
        ] {
            assert!(matches!(
                asked(vec![output("b", &[("classification", wrong)])]),
                Err(Refusal {
                    code: ErrorCode::Malformed,
                    ..
                })
            ));
        }
        let shared = output(
            "b",
            &[(
                "shared_memory_region",
                ParameterChoice::StringParam("r".to_owned()),
            )],
        );
        assert!(matches!(
            asked(vec![shared]),
            Err(Refusal {
                code: ErrorCode::Unsupported,
                ..
            })
        ));
    }

    #[test]
    fn priority_and_timeout_are_read() {
        let asked = |parameters: &[(&str, ParameterChoice)]| {
            let parameters = parameters
                .iter()
                .map(|(name, choice)| ((*name).to_owned(), parameter(choice.clone())))
                .collect();
            read(ModelInferRequest {
                parameters,
                ..request(vec![], &[])
            })
        };
        let given = asked(&[
            ("priority", ParameterChoice::Uint64Param(1)),
            ("timeout", ParameterChoice::Int64Param(1500)),
            ("anything", ParameterChoice::DoubleParam(0.5)),
        ]);
        let given = given.unwrap();
        assert_eq!(
            (given.priority, given.timeout),
            (
                Priority::from_protocol(1),
                Some(Duration::from_micros(1500))
            )
        );
        let nothing = asked(&[("timeout", ParameterChoice::Int64Param(0))]).unwrap();
        assert_eq!(
            (nothing.priority, nothing.timeout),
            (Priority::default(), None)
        );
        for (name, wrong) in [
            ("timeout", ParameterChoice::Int64Param(-1)),
            ("priority", ParameterChoice::BoolParam(true)),
        ] {
            assert!(asked(&[(name, wrong)]).is_err(), "{name}");
        }
    }

    #[test]
    fn shared_memory_is_not_offered() {
        let mut shared = input("FP32", &[1], None);
        shared.parameters.insert(
            "shared_memory_region".to_owned(),
            parameter(ParameterChoice::StringParam("r".to_owned())),
        );
        assert!(matches!(
            read(request(vec![shared], &[b""])),
            Err(Refusal {
                code: ErrorCode::Unsupported,
                ..
            })
        ));
    }

    #[test]
    fn texts_lie_behind_their_lengths() {
        let answer = answered(Data::Bytes(vec!["ab".to_owned()]), Form::Raw);
        assert_eq!(answer.raw_output_contents[0], &b"\x02\0\0\0ab"[..]);
        assert_eq!(
            answer.raw_output_contents[0],
            to_raw(Data::Bytes(vec!["ab".to_owned()]))
        );
    }
}
