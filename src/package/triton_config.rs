//! `TritonConfig`: `config.pbtxt`, the configuration of a model in Triton's format.
//!
//! Keys that have no effect here are reported as ignored, so that nobody relies on them.

use crate::{
    package::triton_text::{self, Result, TextField, TextValue, TritonConfigError},
    tensor::{DataType, Dim, Shape},
};

/// The values of `platform`, `backend` and `default_model_filename` of the models that are served.
const SERVED: [&str; 5] = [
    "onnxruntime_onnx",
    "onnxruntime",
    "onnx_onnxv1",
    "model.onnx",
    "",
];

/// Maximum number of ignored keys in the report.
const MAX_IGNORED: usize = 256;

/// Maximum batch size and worker count. Larger values are typos.
const MAX_COUNT: i64 = 1 << 20;

/// The settings of a `config.pbtxt` that the import understands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TritonConfig {
    pub(crate) name: Option<String>,
    /// If it is 0, `dims` is the complete shape. Otherwise it is the maximum number of rows, and
    /// the shape has the rows as its first dimension, before `dims`.
    pub(crate) max_batch_size: usize,
    pub(crate) inputs: Vec<ConfigTensor>,
    pub(crate) outputs: Vec<ConfigTensor>,
    /// Set if rows of several requests may share a run.
    pub(crate) dynamic_batching: Option<DynamicBatching>,
    pub(crate) instance_count: Option<usize>,
    pub(crate) version_policy: VersionPolicy,
    /// The keys that have no effect.
    pub(crate) ignored: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigTensor {
    pub name: String,
    pub datatype: Option<DataType>,
    pub dims: Vec<Dim>,
    /// The graph's dimensions, if they differ from `dims`. Triton can't write an empty list as
    /// `dims`.
    pub reshape: Option<Vec<Dim>>,
    pub label_filename: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DynamicBatching {
    /// The maximum time that the oldest request of a batch waits for others.
    pub max_queue_delay_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VersionPolicy {
    Latest(usize),
    All,
    Specific(Vec<u64>),
}

impl Default for VersionPolicy {
    fn default() -> VersionPolicy {
        VersionPolicy::Latest(1)
    }
}

impl ConfigTensor {
    /// The complete shape in the graph, including the first dimension of rows.
    pub(crate) fn shape(&self, max_batch_size: usize) -> Shape {
        let batch = (max_batch_size > 0).then_some(Dim::Any);
        Shape(
            batch
                .into_iter()
                .chain(self.reshape.as_ref().unwrap_or(&self.dims).iter().copied())
                .collect(),
        )
    }
}

/// Reads a whole `config.pbtxt`.
pub fn parse(text: &str) -> Result<TritonConfig> {
    let mut config = TritonConfig::default();
    for field in triton_text::parse(text)? {
        config.read_field(field)?;
    }
    Ok(config)
}

impl TritonConfig {
    fn read_field(&mut self, field: TextField) -> Result<()> {
        let TextField { name, line, value } = field;
        let wrong = |detail: &str| {
            Err(TritonConfigError {
                line,
                detail: format!("`{name}` {detail}"),
            })
        };
        match (name.as_str(), value) {
            ("name", TextValue::Text(text)) => self.name = Some(text),
            ("platform" | "backend" | "default_model_filename", TextValue::Text(text)) => {
                if !SERVED.contains(&text.as_str()) {
                    return wrong(&format!(
                        "is \"{text}\"; only ONNX models named model.onnx are served"
                    ));
                }
            }
            ("max_batch_size", TextValue::Word(word)) => {
                self.max_batch_size = count(&word, line, &name)?;
            }
            ("input", TextValue::Message(fields)) => {
                let tensor = tensor(fields, "input", line, &mut self.ignored)?;
                self.inputs.push(tensor);
            }
            ("output", TextValue::Message(fields)) => {
                let tensor = tensor(fields, "output", line, &mut self.ignored)?;
                self.outputs.push(tensor);
            }
            ("dynamic_batching", TextValue::Message(fields)) => {
                self.dynamic_batching = Some(batching(fields, &mut self.ignored)?);
            }
            ("instance_group", TextValue::Message(fields)) => self.read_instance_group(fields)?,
            ("version_policy", TextValue::Message(fields)) => {
                self.version_policy = policy(fields, line)?;
            }
            (
                // A known key with a value of the wrong type is an error. Ignoring the key would
                // silently change the model's behaviour.
                "name" | "max_batch_size" | "input" | "output" | "dynamic_batching"
                | "instance_group" | "version_policy",
                _,
            ) => return wrong("has a value of the wrong kind"),
            _ => ignore(&mut self.ignored, name),
        }
        Ok(())
    }

    /// Adds the instances of one group. A model may have several groups.
    fn read_instance_group(&mut self, fields: Vec<TextField>) -> Result<()> {
        for TextField { name, line, value } in fields {
            match (name.as_str(), value) {
                ("count", TextValue::Word(word)) => {
                    // Each group has its own instances, so their counts are added.
                    *self.instance_count.get_or_insert(0) += count(&word, line, &name)?;
                }
                ("kind", TextValue::Word(word)) if word == "KIND_CPU" || word == "KIND_AUTO" => {}
                _ => ignore(&mut self.ignored, format!("instance_group.{name}")),
            }
        }
        Ok(())
    }
}

fn ignore(ignored: &mut Vec<String>, key: String) {
    // Each key is listed once. Otherwise a repeated field would fill the report.
    if ignored.len() < MAX_IGNORED && !ignored.contains(&key) {
        ignored.push(key);
    }
}

/// Reads the value of the key `name`.
fn count(word: &str, line: usize, name: &str) -> Result<usize> {
    let count = word
        .parse::<i64>()
        .ok()
        .filter(|count| (0..=MAX_COUNT).contains(count))
        .and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| TritonConfigError {
        line,
        detail: format!("`{name}` must be a whole number from 0 to {MAX_COUNT}, is {word}"),
    })
}

fn tensor(
    fields: Vec<TextField>,
    side: &str,
    line: usize,
    ignored: &mut Vec<String>,
) -> Result<ConfigTensor> {
    let mut tensor = ConfigTensor {
        name: String::new(),
        datatype: None,
        dims: Vec::new(),
        reshape: None,
        label_filename: None,
    };
    for TextField { name, line, value } in fields {
        match (name.as_str(), value) {
            ("name", TextValue::Text(text)) => tensor.name = text,
            ("data_type", TextValue::Word(word)) => {
                // Triton's datatypes have the protocol's names with a prefix, except for strings.
                let known = match word.strip_prefix("TYPE_") {
                    Some("STRING") => Some(DataType::Bytes),
                    Some(name) => DataType::from_protocol_name(name),
                    None => None,
                };
                tensor.datatype = Some(known.ok_or_else(|| TritonConfigError {
                    line,
                    detail: format!("unknown data_type {word}"),
                })?);
            }
            ("dims", TextValue::Word(word)) => tensor.dims.push(dim(&word, line)?),
            ("reshape", TextValue::Message(fields)) => {
                // The shape is only compared with the graph. Callers see the graph's shape.
                ignore(ignored, format!("{side}.{name}"));
                let words = fields.into_iter().filter_map(|field| match field.value {
                    TextValue::Word(word) if field.name == "shape" => Some(dim(&word, line)),
                    _ => None,
                });
                tensor.reshape = Some(words.collect::<Result<_>>()?);
            }
            ("label_filename", TextValue::Text(text)) => tensor.label_filename = Some(text),
            ("format", TextValue::Word(word)) if word == "FORMAT_NONE" => {}
            _ => ignore(ignored, format!("{side}.{name}")),
        }
    }
    // Without a name, the entry can't be matched with an input or output of the graph.
    if tensor.name.is_empty() {
        return Err(TritonConfigError {
            line,
            detail: format!("an {side} has no name"),
        });
    }
    Ok(tensor)
}

fn dim(word: &str, line: usize) -> Result<Dim> {
    match word.parse::<i64>() {
        Ok(-1) => Ok(Dim::Any),
        Ok(dim) if dim >= 0 => Ok(Dim::Fixed(dim as usize)),
        _ => Err(TritonConfigError {
            line,
            detail: format!("dims must be -1 or more, is {word}"),
        }),
    }
}

fn batching(fields: Vec<TextField>, ignored: &mut Vec<String>) -> Result<DynamicBatching> {
    let mut batching = DynamicBatching::default();
    for TextField { name, line, value } in fields {
        match (name.as_str(), value) {
            ("max_queue_delay_microseconds", TextValue::Word(word)) => {
                // No useful delay is longer than a minute. A longer one is probably in the wrong
                // unit.
                let delay = word.parse().ok().filter(|delay| *delay <= 60_000_000);
                batching.max_queue_delay_us = delay.ok_or_else(|| TritonConfigError {
                    line,
                    detail: format!("`{name}` must be from 0 to a minute, is {word}"),
                })?;
            }
            _ => ignore(ignored, format!("dynamic_batching.{name}")),
        }
    }
    Ok(batching)
}

/// Reads `version_policy`, whose only field is the name of the policy.
fn policy(fields: Vec<TextField>, line: usize) -> Result<VersionPolicy> {
    let wrong = || TritonConfigError {
        line,
        detail: "`version_policy` must be latest, all or specific".to_owned(),
    };
    let Some(TextField {
        name,
        line,
        value: TextValue::Message(inner),
    }) = fields.into_iter().next()
    else {
        return Err(wrong());
    };
    match name.as_str() {
        "all" => Ok(VersionPolicy::All),
        "latest" => {
            let word = inner.into_iter().find_map(|field| match field.value {
                TextValue::Word(word) if field.name == "num_versions" => Some(word),
                _ => None,
            });
            word.map_or(Ok(1), |word| count(&word, line, "num_versions"))
                // 0 would serve no version at all.
                .map(|versions| VersionPolicy::Latest(versions.max(1)))
        }
        "specific" => {
            let numbers = inner
                .into_iter()
                .filter(|field| field.name == "versions")
                .map(|field| match field.value {
                    TextValue::Word(word) => word.parse().map_err(|_| TritonConfigError {
                        line,
                        detail: format!("{word} is not a version"),
                    }),
                    _ => Err(wrong()),
                });
            numbers.collect::<Result<_>>().map(VersionPolicy::Specific)
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{
        package::triton_config::{DynamicBatching, VersionPolicy, parse},
        tensor::{DataType, Dim},
    };

    #[test]
    fn a_usual_configuration_is_read() {
        let config = parse(
            r#"
            # as Triton's users write it
            name: "resnet"
            platform: 'onnxruntime_onnx'
            max_batch_size: 8,
            input [
              { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] format: FORMAT_NONE },
              { name: "mask", data_type: TYPE_BOOL, dims: 3 dims: 4 }
            ]
            output { name: "prob" data_type: TYPE_STRING dims: [ 1000 ] label_filename: "labels" ".txt" }
            dynamic_batching < max_queue_delay_microseconds: 100 preferred_batch_size: [4, 8] >
            instance_group [ { count: 2 kind: KIND_CPU }, { count: 1 kind: KIND_GPU } ]
            version_policy: { specific { versions: [1, 3] } };
            optimization { cuda { graphs: true } }
            parameters { key: "a" value: { string_value: "b" } }
            "#,
        )
        .unwrap();
        assert_eq!(config.name.as_deref(), Some("resnet"));
        assert_eq!(config.max_batch_size, 8);
        assert_eq!(config.inputs[0].dims, [Dim::Fixed(3), Dim::Any]);
        assert_eq!(config.inputs[1].dims, [Dim::Fixed(3), Dim::Fixed(4)]);
        assert_eq!(config.inputs[0].shape(8).to_string(), "[-1, 3, -1]");
        assert_eq!(config.outputs[0].datatype, Some(DataType::Bytes));
        assert_eq!(
            config.outputs[0].label_filename.as_deref(),
            Some("labels.txt")
        );
        assert_eq!(
            config.dynamic_batching,
            Some(DynamicBatching {
                max_queue_delay_us: 100
            })
        );
        assert_eq!(config.instance_count, Some(3));
        assert_eq!(config.version_policy, VersionPolicy::Specific(vec![1, 3]));
        assert_eq!(
            config.ignored,
            [
                "dynamic_batching.preferred_batch_size",
                "instance_group.kind",
                "optimization",
                "parameters"
            ]
        );
    }

    #[test]
    fn a_reshaped_tensor_has_the_graphs_shape() {
        let config = parse(
            "output [ { name: \"label\" dims: [ 1 ] reshape { shape: [ ] } }, { name: \"p\" dims: \
             4 reshape: { shape: [2, 2] } } ]",
        )
        .unwrap();
        assert_eq!(config.outputs[0].shape(8).to_string(), "[-1]");
        assert_eq!(config.outputs[1].shape(0).to_string(), "[2, 2]");
        assert_eq!(config.ignored, ["output.reshape"]);
    }

    #[test]
    fn version_policies() {
        assert_eq!(parse("").unwrap().version_policy, VersionPolicy::Latest(1));
        assert_eq!(
            parse("version_policy { all { } }").unwrap().version_policy,
            VersionPolicy::All
        );
        assert_eq!(
            parse("version_policy { latest { num_versions: 3 } }")
                .unwrap()
                .version_policy,
            VersionPolicy::Latest(3)
        );
    }

    #[test]
    fn mistakes_name_their_line() {
        let cases = [
            ("name: \"a\"\nmax_batch_size: -1", 2, "max_batch_size"),
            ("max_batch_size: 99999999999999999999", 1, "max_batch_size"),
            ("name: 3", 1, "wrong kind"),
            ("name \"a\"", 1, "expected :"),
            ("input {\n name: \"x\"", 2, "ends inside"),
            ("input { data_type: TYPE_FP32 }", 1, "no name"),
            (
                "input { name: \"x\" data_type: TYPE_FLOAT }",
                1,
                "TYPE_FLOAT",
            ),
            ("input { name: \"x\" dims: [1, -2] }", 1, "dims"),
            ("platform: \"tensorrt_plan\"", 1, "ONNX"),
            ("name: \"a", 1, "does not end"),
            ("version_policy { newest { } }", 1, "version_policy"),
            ("a: [1 2]", 1, "expected , or ]"),
            ("}", 1, "expected a name"),
        ];
        for (text, line, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(
                error.line == line && error.detail.contains(expected),
                "{text}: {error}"
            );
        }
        assert!(
            parse(&"a {".repeat(1000))
                .unwrap_err()
                .detail
                .contains("deeply")
        );
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in r#"([a-z_]{1,5}|[:{}<>\[\],;"'#\n 0-9-]|\\)*"#) {
            let _ = parse(&text);
        }
    }
}
