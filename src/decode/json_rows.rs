//! `JsonRows`: the rows of a request as JSON, and their conversion to the input tensors of a graph
//! without a schema.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    decode::{
        elements::{Elements, WireTensor},
        json_error::{JsonFault, without_place},
        json_object::{FEW_NAMES, JsonObjectError, ObjectMembers, members},
        row_origin::RowOrigin,
    },
    schema::fault::shorten,
    tensor::signature::{Signature, TensorSpec},
};

/// A JSON array of rows. A row is an object with the names of inputs, a list of values, or the
/// value of the only input.
#[derive(Clone, Debug)]
pub struct JsonRows {
    /// The JSON array of the rows.
    pub text: Bytes,
    /// The names of the values in rows that are lists. `None` if the rows have no names.
    pub names: Option<Vec<String>>,
    /// Whether the rows come from a data frame or a table. If so, columns that the model does not
    /// know are ignored, and null is a missing value.
    pub frame: bool,
    /// How messages name a row.
    pub origin: RowOrigin,
}

/// Why rows can't become the inputs of a graph. The messages contain no values of the request.
/// `row` names a row as the caller counts it: see [`RowOrigin::row`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum JsonRowsError {
    #[error(transparent)]
    Object(#[from] JsonObjectError),
    #[error("the member \"id\" must be a string")]
    IdNotString,
    #[error("unknown member \"{name}\" of the request; expected one of: instances, id")]
    UnknownMember { name: String },
    #[error("the rows must be an array")]
    NotAnArray(#[source] JsonFault),
    #[error("there is no row; send at least one")]
    NoRows,
    #[error(
        "the model has {} inputs: each row must be an object that names them: {}",
        names.len(),
        names.join(", ")
    )]
    NoNames { names: Vec<String> },
    #[error("{row}")]
    NotAnObject {
        row: String,
        #[source]
        fault: JsonFault,
    },
    #[error("{row} has {given} members, but {first_row} has {expected}")]
    MemberCount {
        row: String,
        given: usize,
        first_row: String,
        expected: usize,
    },
    #[error("{row} has no \"{name}\"")]
    MissingMember { row: String, name: String },
    #[error("the column \"{name}\" occurs twice")]
    DuplicateColumn { name: String },
    #[error("{row} is not a list of values")]
    NotAList { row: String },
    #[error("{row} has {given} values for {expected} columns")]
    ValueCount {
        row: String,
        given: usize,
        expected: usize,
    },
}

/// Reads `{"instances": [...], "id": ...}`, or one instance without that envelope. `/predict`
/// accepts both for a model without a schema. Returns the rows and the request id.
pub fn read_envelope(body: Bytes) -> Result<(JsonRows, Option<String>), JsonRowsError> {
    let members = members(&body)?;
    let rows = |text: Bytes, origin| JsonRows {
        text,
        names: None,
        frame: false,
        origin,
    };
    let Some((_, instances)) = members.iter().find(|(name, _)| name == "instances") else {
        // One instance becomes a list of one row, so that the following code handles only lists.
        let text = Bytes::from([b"[", &body[..], b"]"].concat());
        return Ok((rows(text, RowOrigin::Body), None));
    };
    let mut id = None;
    for (name, value) in &members {
        match name.as_str() {
            "instances" => {}
            "id" => {
                let value = serde_json::from_slice(value);
                id = Some(value.map_err(|_| JsonRowsError::IdNotString)?);
            }
            _ => {
                return Err(JsonRowsError::UnknownMember {
                    name: shorten(name),
                });
            }
        }
    }
    Ok((rows(instances.clone(), RowOrigin::Instances), id))
}

/// Converts rows to the input tensors of a graph.
pub fn to_tensors(rows: JsonRows, graph: &Signature) -> Result<Vec<WireTensor>, JsonRowsError> {
    let list: Vec<&RawValue> = serde_json::from_slice(&rows.text)
        .map_err(|error| JsonRowsError::NotAnArray(without_place(&error, &rows.text)))?;
    let first = list.first().ok_or(JsonRowsError::NoRows)?;
    let only = only_input(graph);
    // `{"b64": "..."}` is the value of the only input, not an object of inputs.
    let objects = first.get().starts_with('{') && !(only.is_some() && is_base64(first.get()));
    // Names in the rows take precedence over the names of columns.
    if objects {
        return by_name(&list, graph, &rows);
    }
    if let Some(names) = &rows.names {
        check_columns(&list, names, &rows.origin)?;
    }
    match (only, &rows.names) {
        // All columns together are the only input, unless one column has the name of the input.
        (Some(only), Some(names)) if !matches!(names.as_slice(), [name] if **name == *only.name) => {
            Ok(vec![json_tensor(&only.name, rows.text.clone())])
        }
        (Some(only), None) => Ok(vec![json_tensor(&only.name, rows.text.clone())]),
        (_, Some(names)) => by_position(&list, names, graph, &rows.origin),
        (None, None) => Err(JsonRowsError::NoNames {
            names: graph
                .inputs
                .iter()
                .map(|spec| spec.name.to_string())
                .collect(),
        }),
    }
}

fn json_tensor(name: &str, text: Bytes) -> WireTensor {
    WireTensor {
        name: name.to_owned(),
        datatype: None,
        shape: None,
        elements: Elements::Json(text),
    }
}

/// Whether an object starts like `{"b64": "..."}`.
fn is_base64(text: &str) -> bool {
    text.strip_prefix('{')
        .is_some_and(|rest| rest.trim_ascii_start().starts_with("\"b64\""))
}

/// The values of one input in all rows, as a JSON array that grows row by row.
struct InputColumn {
    name: String,
    text: Vec<u8>,
}

impl InputColumn {
    fn new(name: &str) -> InputColumn {
        InputColumn {
            name: name.to_owned(),
            text: vec![b'['],
        }
    }

    fn push(&mut self, value: &str) {
        if self.text.len() > 1 {
            self.text.push(b',');
        }
        self.text.extend_from_slice(value.as_bytes());
    }

    fn finish(mut self) -> WireTensor {
        self.text.push(b']');
        json_tensor(&self.name, Bytes::from(self.text))
    }
}

/// Input tensors from rows that are objects.
fn by_name(
    list: &[&RawValue],
    graph: &Signature,
    given: &JsonRows,
) -> Result<Vec<WireTensor>, JsonRowsError> {
    let rows = read_objects(list, &given.origin)?;
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    let is_input = |name: &str| graph.inputs.iter().any(|spec| *spec.name == *name);
    // If a data frame has no column with the name of the only input, its columns together are that
    // input.
    let joined =
        only_input(graph).filter(|_| given.frame && !names.iter().any(|name| is_input(name)));
    let mut columns: Vec<InputColumn> = match joined {
        Some(spec) => vec![InputColumn::new(&spec.name)],
        None => names
            .iter()
            .filter(|name| !given.frame || is_input(name))
            .map(|name| InputColumn::new(name))
            .collect(),
    };
    for (index, row) in rows.iter().enumerate() {
        // Each name is looked up below. With the same number of members, all rows therefore have
        // the same names.
        if row.len() != names.len() {
            return Err(JsonRowsError::MemberCount {
                row: given.origin.row(index),
                given: row.len(),
                first_row: given.origin.row(0),
                expected: names.len(),
            });
        }
        let values = RowValues::new(row, &names);
        let value = |name: &str| {
            values
                .get(name)
                .ok_or_else(|| JsonRowsError::MissingMember {
                    row: given.origin.row(index),
                    name: shorten(name),
                })
        };
        // The columns become the elements of one row, in the order of the first row.
        if joined.is_some() {
            let values: Result<Vec<&str>, JsonRowsError> =
                names.iter().map(|name| value(name)).collect();
            if let Some(column) = columns.first_mut() {
                column.push(&format!("[{}]", values?.join(",")));
            }
            continue;
        }
        for column in &mut columns {
            let value = value(&column.name)?;
            column.push(value);
        }
    }
    Ok(columns.into_iter().map(InputColumn::finish).collect())
}

type RowMembers<'a> = Vec<(String, &'a RawValue)>;

fn read_objects<'a>(
    list: &[&'a RawValue],
    origin: &RowOrigin,
) -> Result<Vec<RowMembers<'a>>, JsonRowsError> {
    // All rows are read first, because the names of the first row determine how the columns are
    // built.
    let mut rows = Vec::with_capacity(list.len());
    for (index, row) in list.iter().enumerate() {
        let members: ObjectMembers<'_> =
            serde_json::from_str(row.get()).map_err(|error| JsonRowsError::NotAnObject {
                row: origin.row(index),
                fault: without_place(&error, row.get().as_bytes()),
            })?;
        rows.push(members.0);
    }
    Ok(rows)
}

/// The values of one row by name.
struct RowValues<'a> {
    row: &'a [(String, &'a RawValue)],
    /// The values by name. Empty if the row has few members in the order of the first row: a search
    /// in the list is faster.
    by_name: HashMap<&'a str, &'a str>,
}

impl<'a> RowValues<'a> {
    fn new(row: &'a [(String, &'a RawValue)], names: &[&str]) -> RowValues<'a> {
        let ordered = row.iter().zip(names).all(|((own, _), name)| own == name);
        let by_name = if ordered && row.len() <= FEW_NAMES {
            HashMap::new()
        } else {
            row.iter()
                .map(|(name, value)| (name.as_str(), value.get()))
                .collect()
        };
        RowValues { row, by_name }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        if !self.by_name.is_empty() {
            return self.by_name.get(name).copied();
        }
        self.row
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.get())
    }
}

fn only_input(graph: &Signature) -> Option<&TensorSpec> {
    match graph.inputs.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

/// Checks that every column occurs once, and that every row is a list with one value per column.
fn check_columns(
    list: &[&RawValue],
    names: &[String],
    origin: &RowOrigin,
) -> Result<(), JsonRowsError> {
    let mut seen: HashSet<&str> = HashSet::with_capacity(names.len());
    if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(JsonRowsError::DuplicateColumn {
            name: shorten(name),
        });
    }
    for (index, row) in list.iter().enumerate() {
        // The rows are checked before anything is built, so that the error names the row.
        let values = read_list(row, index, origin)?;
        if values.len() != names.len() {
            return Err(JsonRowsError::ValueCount {
                row: origin.row(index),
                given: values.len(),
                expected: names.len(),
            });
        }
    }
    Ok(())
}

fn read_list<'a>(
    row: &'a RawValue,
    index: usize,
    origin: &RowOrigin,
) -> Result<Vec<&'a RawValue>, JsonRowsError> {
    serde_json::from_str(row.get()).map_err(|_| JsonRowsError::NotAList {
        row: origin.row(index),
    })
}

/// Creates input tensors from rows that are lists. [`check_columns`] has accepted the rows. Columns
/// that are not inputs are ignored.
fn by_position(
    list: &[&RawValue],
    names: &[String],
    graph: &Signature,
    origin: &RowOrigin,
) -> Result<Vec<WireTensor>, JsonRowsError> {
    let mut columns: Vec<InputColumn> = names.iter().map(|name| InputColumn::new(name)).collect();
    for (index, row) in list.iter().enumerate() {
        let values = read_list(row, index, origin)?;
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(value.get());
        }
    }
    let is_input = |name: &str| graph.inputs.iter().any(|spec| *spec.name == *name);
    Ok(columns
        .into_iter()
        .filter(|column| is_input(&column.name))
        .map(InputColumn::finish)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use crate::{
        decode::{
            elements::{Elements, WireTensor},
            json_rows::{JsonRows, JsonRowsError, read_envelope, to_tensors},
            row_origin::RowOrigin,
        },
        error::text_with_sources,
        tensor::{
            DataType, Dim, Shape,
            signature::{Signature, TensorSpec},
        },
    };

    fn graph(names: &[&str]) -> Signature {
        let spec = |name: &&str| TensorSpec {
            name: Arc::from(*name),
            datatype: DataType::Fp32,
            shape: Shape(vec![Dim::Any, Dim::Any]),
        };
        Signature {
            inputs: names.iter().map(spec).collect(),
            outputs: Vec::new(),
        }
    }

    fn convert(
        text: &str,
        names: Option<&[&str]>,
        frame: bool,
        inputs: &[&str],
    ) -> Result<Vec<(String, String)>, JsonRowsError> {
        let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let rows = JsonRows {
            text: Bytes::copy_from_slice(text.as_bytes()),
            names,
            frame,
            origin: RowOrigin::default(),
        };
        let shown = |tensor: WireTensor| match tensor.elements {
            Elements::Json(text) => (tensor.name, String::from_utf8(text.to_vec()).unwrap()),
            _ => panic!("not JSON"),
        };
        to_tensors(rows, &graph(inputs)).map(|tensors| tensors.into_iter().map(shown).collect())
    }

    fn one(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn rows_become_the_graphs_inputs() {
        assert_eq!(
            convert("[[1,2],[3,4]]", None, false, &["x"]).unwrap(),
            [one("x", "[[1,2],[3,4]]")]
        );
        assert_eq!(
            convert("[1,2]", None, false, &["x"]).unwrap(),
            [one("x", "[1,2]")]
        );
        assert_eq!(
            convert(r#"[{"b64":"YQ=="}]"#, None, false, &["x"]).unwrap(),
            [one("x", r#"[{"b64":"YQ=="}]"#)]
        );
        let named = convert(
            r#"[{"a":[1],"b":2},{"b":4,"a":[3]}]"#,
            None,
            false,
            &["a", "b"],
        )
        .unwrap();
        assert_eq!(named, [one("a", "[[1],[3]]"), one("b", "[2,4]")]);
        let frame = convert(r#"[{"p":1,"q":2},{"p":3,"q":4}]"#, None, true, &["x"]).unwrap();
        assert_eq!(frame, [one("x", "[[1,2],[3,4]]")]);
        assert_eq!(
            convert("[[1,2],[3,4]]", Some(&["p", "q"]), true, &["x"]).unwrap(),
            [one("x", "[[1,2],[3,4]]")]
        );
        assert_eq!(
            convert("[[1,2],[3,4]]", Some(&["b", "a"]), true, &["a", "b"]).unwrap(),
            [one("b", "[1,3]"), one("a", "[2,4]")]
        );
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let cases: [(&str, &[&str], &str); 7] = [
            ("[]", &["x"], "no row"),
            ("{}", &["x"], "must be an array"),
            ("[[1],[2]]", &["a", "b"], "names them: a, b"),
            (r#"[{"a":1},{"b":1}]"#, &["a", "b"], "row 1 has no \"a\""),
            (
                r#"[{"a":1},{"a":1,"b":1}]"#,
                &["a", "b"],
                "row 1 has 2 members",
            ),
            (r#"[{"a":1,"a":2}]"#, &["a", "b"], "twice"),
            (r#"[{"a":1},3]"#, &["a", "b"], "row 1"),
        ];
        for (text, inputs, expected) in cases {
            let error = text_with_sources(&convert(text, None, false, inputs).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (text, names, expected) in [
            ("[[1,2]]", ["p", "p"], "\"p\" occurs twice"),
            (
                "[[1,2],[3]]",
                ["p", "q"],
                "row 1 has 1 values for 2 columns",
            ),
            ("[[1,2],3]", ["p", "q"], "row 1 is not a list"),
        ] {
            for inputs in [&["x"][..], &["p", "q"]] {
                let error = convert(text, Some(&names), true, inputs)
                    .unwrap_err()
                    .to_string();
                assert!(error.contains(expected), "{text}: {error}");
            }
        }
    }

    #[test]
    fn many_members_are_read_like_few() {
        let object = |names: &[String]| {
            format!(
                "{{{}}}",
                names
                    .iter()
                    .map(|name| format!("\"{name}\":1"))
                    .collect::<Vec<_>>()
                    .join(",")
            )
        };
        let names: Vec<String> = (0..40).map(|index| format!("n{index}")).collect();
        let backwards: Vec<String> = names.iter().rev().cloned().collect();
        let text = format!("[{},{}]", object(&names), object(&backwards));
        let joined = convert(&text, None, true, &["x"]).unwrap();
        let ones = format!("[{}]", vec!["1"; 40].join(","));
        assert_eq!(joined, [one("x", &format!("[{ones},{ones}]"))]);
        let mut twice = names.clone();
        twice.push("n3".to_owned());
        let error = convert(&format!("[{}]", object(&twice)), None, true, &["x"]).unwrap_err();
        assert!(text_with_sources(&error).contains("twice"), "{error}");
    }

    #[test]
    fn an_instance_may_come_without_its_envelope() {
        let read = |text: &'static str| read_envelope(Bytes::from_static(text.as_bytes()));
        let (rows, id) = read(r#"{"instances":[[1]],"id":"7"}"#).unwrap();
        assert_eq!((&rows.text[..], id.as_deref()), (&b"[[1]]"[..], Some("7")));
        assert_eq!(&read(r#"{"x":[1]}"#).unwrap().0.text[..], br#"[{"x":[1]}]"#);
        for body in [
            "[1]",
            "",
            r#"{"instances":[1],"id":7}"#,
            r#"{"instances":[1],"more":7}"#,
            r#"{"instances":[1],"instances":[2]}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }
}
