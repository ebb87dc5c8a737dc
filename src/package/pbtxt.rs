//! `config.pbtxt`: what Triton's users say of a model, in protobuf's text format. The keys that matter here are read; the
//! others are named, so that nobody believes they were obeyed.

use std::cell::Cell;

use crate::tensor::{DataType, Dim, Shape};

/// Nesting beyond this is nobody's configuration.
const MAX_DEPTH: usize = 32;

/// More keys than this are not named one by one.
const MAX_IGNORED: usize = 256;

/// Batch sizes and worker counts beyond this are mistakes.
const MAX_COUNT: i64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelConfig {
    pub name: Option<String>,
    /// 0: the graph's dimensions are complete. Above: a leading dimension of at most so many rows stands before `dims`.
    pub max_batch_size: usize,
    pub inputs: Vec<ConfigTensor>,
    pub outputs: Vec<ConfigTensor>,
    /// Rows of several requests may share a run; how long the first may wait.
    pub dynamic_batching: Option<DynamicBatching>,
    pub instance_count: Option<usize>,
    pub version_policy: VersionPolicy,
    /// Keys that are not read.
    pub ignored: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigTensor {
    pub name: String,
    pub datatype: Option<DataType>,
    pub dims: Vec<Dim>,
    /// The graph's own dimensions, where callers are promised others: a list of no dimensions can't be written as `dims`.
    pub reshape: Option<Vec<Dim>>,
    pub label_filename: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DynamicBatching {
    pub max_queue_delay_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    Latest(usize),
    All,
    Specific(Vec<u64>),
}

impl Default for VersionPolicy {
    fn default() -> VersionPolicy {
        VersionPolicy::Latest(1)
    }
}

/// What is wrong, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {detail}")]
pub struct PbtxtError {
    pub line: usize,
    pub detail: String,
}

type Result<T> = std::result::Result<T, PbtxtError>;

impl ConfigTensor {
    /// The whole shape in the graph, with the batch dimension that `dims` leave out.
    pub fn shape(&self, max_batch_size: usize) -> Shape {
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
pub fn parse(text: &str) -> Result<ModelConfig> {
    let mut lexer = Lexer {
        text: text.as_bytes(),
        position: 0,
        counted: Cell::default(),
    };
    let fields = lexer.message(None, 0)?;
    let mut config = ModelConfig::default();
    for Field { name, line, value } in fields {
        let wrong = |detail: &str| {
            Err(PbtxtError {
                line,
                detail: format!("`{name}` {detail}"),
            })
        };
        match (name.as_str(), value) {
            ("name", Value::Text(text)) => config.name = Some(text),
            ("platform" | "backend" | "default_model_filename", Value::Text(text)) => {
                if ![
                    "onnxruntime_onnx",
                    "onnxruntime",
                    "onnx_onnxv1",
                    "model.onnx",
                    "",
                ]
                .contains(&text.as_str())
                {
                    return wrong(&format!(
                        "is \"{text}\"; only ONNX models named model.onnx are served"
                    ));
                }
            }
            ("max_batch_size", Value::Word(word)) => {
                config.max_batch_size = count(&word, line, &name)?
            }
            ("input", Value::Message(fields)) => {
                config
                    .inputs
                    .push(tensor(fields, "input", line, &mut config.ignored)?)
            }
            ("output", Value::Message(fields)) => {
                config
                    .outputs
                    .push(tensor(fields, "output", line, &mut config.ignored)?)
            }
            ("dynamic_batching", Value::Message(fields)) => {
                config.dynamic_batching = Some(batching(fields, &mut config.ignored)?)
            }
            ("instance_group", Value::Message(fields)) => {
                for Field { name, line, value } in fields {
                    match (name.as_str(), value) {
                        ("count", Value::Word(word)) => {
                            *config.instance_count.get_or_insert(0) += count(&word, line, &name)?;
                        }
                        ("kind", Value::Word(word))
                            if word == "KIND_CPU" || word == "KIND_AUTO" => {}
                        _ => ignore(&mut config.ignored, format!("instance_group.{name}")),
                    }
                }
            }
            ("version_policy", Value::Message(fields)) => {
                config.version_policy = policy(fields, line)?
            }
            (
                "name" | "max_batch_size" | "input" | "output" | "dynamic_batching"
                | "instance_group" | "version_policy",
                _,
            ) => {
                return wrong("has a value of the wrong kind");
            }
            _ => ignore(&mut config.ignored, name),
        }
    }
    Ok(config)
}

fn ignore(ignored: &mut Vec<String>, key: String) {
    if ignored.len() < MAX_IGNORED && !ignored.contains(&key) {
        ignored.push(key);
    }
}

fn count(word: &str, line: usize, name: &str) -> Result<usize> {
    let count = word
        .parse::<i64>()
        .ok()
        .filter(|count| (0..=MAX_COUNT).contains(count))
        .and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| PbtxtError {
        line,
        detail: format!("`{name}` must be a whole number from 0 to {MAX_COUNT}, is {word}"),
    })
}

fn tensor(
    fields: Vec<Field>,
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
    for Field { name, line, value } in fields {
        match (name.as_str(), value) {
            ("name", Value::Text(text)) => tensor.name = text,
            ("data_type", Value::Word(word)) => {
                let known = match word.strip_prefix("TYPE_") {
                    Some("STRING") => Some(DataType::Bytes),
                    Some(name) => DataType::from_protocol_name(name),
                    None => None,
                };
                tensor.datatype = Some(known.ok_or_else(|| PbtxtError {
                    line,
                    detail: format!("unknown data_type {word}"),
                })?);
            }
            ("dims", Value::Word(word)) => tensor.dims.push(dim(&word, line)?),
            ("reshape", Value::Message(fields)) => {
                // Read to compare with the graph; callers see the graph's shape all the same.
                ignore(ignored, format!("{side}.{name}"));
                let words = fields.into_iter().filter_map(|field| match field.value {
                    Value::Word(word) if field.name == "shape" => Some(dim(&word, line)),
                    _ => None,
                });
                tensor.reshape = Some(words.collect::<Result<_>>()?);
            }
            ("label_filename", Value::Text(text)) => tensor.label_filename = Some(text),
            ("format", Value::Word(word)) if word == "FORMAT_NONE" => {}
            _ => ignore(ignored, format!("{side}.{name}")),
        }
    }
    if tensor.name.is_empty() {
        return Err(PbtxtError {
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
        _ => Err(PbtxtError {
            line,
            detail: format!("dims must be -1 or more, is {word}"),
        }),
    }
}

fn batching(fields: Vec<Field>, ignored: &mut Vec<String>) -> Result<DynamicBatching> {
    let mut batching = DynamicBatching::default();
    for Field { name, line, value } in fields {
        match (name.as_str(), value) {
            ("max_queue_delay_microseconds", Value::Word(word)) => {
                let delay = word.parse().ok().filter(|delay| *delay <= 60_000_000);
                batching.max_queue_delay_us = delay.ok_or_else(|| PbtxtError {
                    line,
                    detail: format!("`{name}` must be from 0 to a minute, is {word}"),
                })?;
            }
            _ => ignore(ignored, format!("dynamic_batching.{name}")),
        }
    }
    Ok(batching)
}

fn policy(fields: Vec<Field>, line: usize) -> Result<VersionPolicy> {
    let wrong = || PbtxtError {
        line,
        detail: "`version_policy` must be latest, all or specific".to_owned(),
    };
    let Some(Field {
        name,
        line,
        value: Value::Message(inner),
    }) = fields.into_iter().next()
    else {
        return Err(wrong());
    };
    match name.as_str() {
        "all" => Ok(VersionPolicy::All),
        "latest" => {
            let word = inner.into_iter().find_map(|field| match field.value {
                Value::Word(word) if field.name == "num_versions" => Some(word),
                _ => None,
            });
            word.map_or(Ok(1), |word| count(&word, line, "num_versions"))
                .map(|versions| VersionPolicy::Latest(versions.max(1)))
        }
        "specific" => {
            let numbers = inner
                .into_iter()
                .filter(|field| field.name == "versions")
                .map(|field| match field.value {
                    Value::Word(word) => word.parse().map_err(|_| PbtxtError {
                        line,
                        detail: format!("{word} is no version"),
                    }),
                    _ => Err(wrong()),
                });
            numbers.collect::<Result<_>>().map(VersionPolicy::Specific)
        }
        _ => Err(wrong()),
    }
}

struct Field {
    name: String,
    line: usize,
    value: Value,
}

enum Value {
    /// In quotes.
    Text(String),
    /// A number or a name.
    Word(String),
    Message(Vec<Field>),
}

struct Lexer<'a> {
    text: &'a [u8],
    position: usize,
    /// How far lines were counted, and how many there are up to there.
    counted: Cell<(usize, usize)>,
}

impl Lexer<'_> {
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.position) {
            match byte {
                b'#' => {
                    while self
                        .text
                        .get(self.position)
                        .is_some_and(|byte| *byte != b'\n')
                    {
                        self.position += 1;
                    }
                }
                byte if byte.is_ascii_whitespace() => self.position += 1,
                byte => return Some(*byte),
            }
        }
        None
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    /// Counts on from where it counted last: nobody goes back.
    fn line(&self) -> usize {
        let (position, lines) = self.counted.get();
        let more = memchr::memchr_iter(
            b'\n',
            self.text.get(position..self.position).unwrap_or_default(),
        )
        .count();
        self.counted
            .set((self.position.max(position), lines + more));
        lines + more + 1
    }

    fn fail<T>(&self, detail: &str) -> Result<T> {
        Err(PbtxtError {
            line: self.line(),
            detail: detail.to_owned(),
        })
    }

    /// The fields up to `close`, or to the end of the text. A list in square brackets is the field repeated.
    fn message(&mut self, close: Option<u8>, depth: usize) -> Result<Vec<Field>> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        let mut fields = Vec::new();
        loop {
            match (self.peek(), close) {
                (None, None) => return Ok(fields),
                (None, Some(_)) => return self.fail("the text ends inside a message"),
                (Some(byte), Some(close)) if byte == close => {
                    self.position += 1;
                    return Ok(fields);
                }
                _ => {}
            }
            let line = self.line();
            let name = self.word()?;
            let colon = self.eat(b':');
            if self.eat(b'[') {
                let mut more = !self.eat(b']');
                while more {
                    let value = self.value(true, depth)?;
                    fields.push(Field {
                        name: name.clone(),
                        line,
                        value,
                    });
                    more = self.eat(b',');
                    if !more && !self.eat(b']') {
                        return self.fail("expected , or ]");
                    }
                }
            } else {
                let value = self.value(colon, depth)?;
                fields.push(Field { name, line, value });
            }
            let _separator = self.eat(b',') || self.eat(b';');
        }
    }

    fn value(&mut self, colon: bool, depth: usize) -> Result<Value> {
        match self.peek() {
            Some(open @ (b'{' | b'<')) => {
                self.position += 1;
                let close = if open == b'{' { b'}' } else { b'>' };
                self.message(Some(close), depth + 1).map(Value::Message)
            }
            _ if !colon => self.fail("expected : or {"),
            Some(b'"' | b'\'') => {
                let mut text = Vec::new();
                while let Some(quote @ (b'"' | b'\'')) = self.peek() {
                    self.position += 1;
                    self.quoted(quote, &mut text)?;
                }
                String::from_utf8(text)
                    .map(Value::Text)
                    .or_else(|_| self.fail("a text must be UTF-8"))
            }
            _ => self.word().map(Value::Word),
        }
    }

    fn word(&mut self) -> Result<String> {
        self.peek();
        let start = self.position;
        while self
            .text
            .get(self.position)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(byte))
        {
            self.position += 1;
        }
        let word = self.text.get(start..self.position).unwrap_or_default();
        if word.is_empty() {
            self.fail("expected a name or a number")
        } else {
            Ok(String::from_utf8_lossy(word).into_owned())
        }
    }

    fn quoted(&mut self, quote: u8, text: &mut Vec<u8>) -> Result<()> {
        loop {
            let byte = self.text.get(self.position).copied();
            self.position += 1;
            match byte {
                None | Some(b'\n') => return self.fail("the text in quotes does not end"),
                Some(byte) if byte == quote => return Ok(()),
                Some(b'\\') => {
                    let escaped = self.text.get(self.position).copied();
                    self.position += 1;
                    text.push(match escaped {
                        Some(b'n') => b'\n',
                        Some(b't') => b'\t',
                        Some(byte @ (b'\\' | b'"' | b'\'')) => byte,
                        _ => return self.fail("unknown escape"),
                    });
                }
                Some(byte) => text.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{
        package::pbtxt::{DynamicBatching, VersionPolicy, parse},
        tensor::{DataType, Dim},
    };

    #[test]
    fn a_usual_configuration() {
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
        let config =
            parse("output [ { name: \"label\" dims: [ 1 ] reshape { shape: [ ] } }, { name: \"p\" dims: 4 reshape: { shape: [2, 2] } } ]")
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
