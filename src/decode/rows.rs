//! Rows: instances of other protocols for a graph that has no schema, turned into its input tensors.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    marker::PhantomData,
};

use bytes::Bytes;
use serde::de::{
    self, Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer,
};
use serde_json::value::RawValue;

use crate::{
    decode::{
        cursor::{not_finite, pointer_at},
        elements::{Elements, WireTensor},
        origin::Origin,
    },
    schema::fault::shorten,
    tensor::signature::{Signature, TensorSpec},
};

/// A JSON array of rows: objects by name, lists of values, or the values themselves where there is one input.
#[derive(Clone, Debug)]
pub struct Rows {
    pub text: Bytes,
    /// What the values of rows that are lists are called.
    pub names: Option<Vec<String>>,
    /// A table's columns: those that the model does not know are passed over, and null stands for a value that is left out.
    pub frame: bool,
    pub origin: Origin,
}

const FEW: usize = 16;

/// An object's members in their order; a name that occurs twice is an error.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &'de RawValue)> = Vec::new();
                let mut seen: HashSet<String> = HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    let twice = match members.len() {
                        // Few names are compared faster than hashed.
                        ..FEW => members.iter().any(|(known, _)| *known == name),
                        FEW => {
                            seen.extend(members.iter().map(|(known, _)| known.clone()));
                            !seen.insert(name.clone())
                        }
                        _ => !seen.insert(name.clone()),
                    };
                    if twice {
                        return Err(de::Error::custom(format!(
                            "the member \"{}\" occurs twice",
                            shorten(&name)
                        )));
                    }
                    members.push((name, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

impl Members<'_> {
    fn of(self, text: &Bytes) -> Vec<(String, Bytes)> {
        self.0
            .into_iter()
            .map(|(name, value)| (name, text.slice_ref(value.get().as_bytes())))
            .collect()
    }
}

/// What is wrong with a document, without the values in it: they may be personal.
pub fn without_values(error: &serde_json::Error, document: &[u8]) -> String {
    if let Some(detail) = not_finite(error, document) {
        let pointer = pointer_at(document, error);
        return format!(
            "{detail} at line {} column {}{pointer}",
            error.line(),
            error.column()
        );
    }
    let text = error.to_string();
    match (error.is_data(), text.rsplit_once(", expected ")) {
        (true, Some((_, expected))) => format!("a value has the wrong type; expected {expected}"),
        _ => text,
    }
}

/// The same of a part of a document: a place in the part is none in the document.
fn of_part(error: &serde_json::Error, part: &[u8]) -> String {
    let text = without_values(error, part);
    match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or_default().to_owned(),
        None => text,
    }
}

/// A value that must be written as an object: a list of its members' values is none.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// The members of a JSON object, with their values as they were written.
pub fn members(text: &Bytes) -> Result<Vec<(String, Bytes)>, String> {
    let members: Members<'_> = serde_json::from_slice(text)
        .map_err(|error| format!("the body is no request: {}", without_values(&error, text)))?;
    Ok(members.of(text))
}

/// The members of the object that the member `name` of a request is.
pub fn members_of(text: &Bytes, name: &str) -> Result<Vec<(String, Bytes)>, String> {
    let members: Members<'_> = serde_json::from_slice(text)
        .map_err(|error| format!("the member \"{name}\": {}", of_part(&error, text)))?;
    Ok(members.of(text))
}

/// `{"instances": [...], "id": ...}`, or one bare instance; as `/predict` takes them, for a model without a schema.
pub fn read_envelope(body: Bytes) -> Result<(Rows, Option<String>), String> {
    let members = members(&body)?;
    let rows = |text: Bytes, origin| Rows {
        text,
        names: None,
        frame: false,
        origin,
    };
    let Some((_, instances)) = members.iter().find(|(name, _)| name == "instances") else {
        return Ok((
            rows(Bytes::from([b"[", &body[..], b"]"].concat()), Origin::Body),
            None,
        ));
    };
    let mut id = None;
    for (name, value) in &members {
        match name.as_str() {
            "instances" => {}
            "id" => {
                id = Some(
                    serde_json::from_slice(value)
                        .map_err(|_| "the member \"id\" must be a string")?,
                )
            }
            _ => {
                return Err(format!(
                    "unknown member \"{}\" of the request; known are instances and id",
                    shorten(name)
                ));
            }
        }
    }
    Ok((rows(instances.clone(), Origin::Instances), id))
}

/// The graph's inputs, of the rows of a request.
pub fn to_tensors(rows: Rows, graph: &Signature) -> Result<Vec<WireTensor>, String> {
    let list: Vec<&RawValue> = serde_json::from_slice(&rows.text)
        .map_err(|error| format!("the rows must be an array: {}", of_part(&error, &rows.text)))?;
    let Some(first) = list.first() else {
        return Err("there is no row; send at least one".to_owned());
    };
    let only = match graph.inputs.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    let objects = first.get().starts_with('{') && !(only.is_some() && is_b64(first.get()));
    match (objects, only, &rows.names) {
        (true, ..) => by_name(&list, graph, &rows),
        (false, Some(only), None) => Ok(vec![json_tensor(&only.name, rows.text.clone())]),
        (false, Some(only), Some(names)) if !matches!(names.as_slice(), [name] if **name == *only.name) =>
        {
            check_columns(&list, names, &rows.origin)?;
            Ok(vec![json_tensor(&only.name, rows.text.clone())])
        }
        (false, _, Some(names)) => {
            check_columns(&list, names, &rows.origin)?;
            by_position(&list, names, graph)
        }
        (false, None, None) => {
            let known: Vec<&str> = graph.inputs.iter().map(|spec| &*spec.name).collect();
            Err(format!(
                "the model has {} inputs: each row must be an object that names them: {}",
                known.len(),
                known.join(", ")
            ))
        }
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

fn is_b64(text: &str) -> bool {
    text.strip_prefix('{')
        .is_some_and(|rest| rest.trim_ascii_start().starts_with("\"b64\""))
}

/// Values of one input each, as a JSON array.
struct Column {
    name: String,
    text: Vec<u8>,
}

impl Column {
    fn new(name: &str) -> Column {
        Column {
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

fn by_name(list: &[&RawValue], graph: &Signature, given: &Rows) -> Result<Vec<WireTensor>, String> {
    let Rows { frame, origin, .. } = given;
    let frame = *frame;
    let mut rows = Vec::with_capacity(list.len());
    for (index, row) in list.iter().enumerate() {
        let members: Members<'_> = serde_json::from_str(row.get()).map_err(|error| {
            format!(
                "{}: {}",
                origin.row(index),
                of_part(&error, row.get().as_bytes())
            )
        })?;
        rows.push(members.0);
    }
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let names: Vec<String> = first.iter().map(|(name, _)| name.clone()).collect();
    let known = |name: &str| graph.inputs.iter().any(|spec| *spec.name == *name);
    // A table whose columns together are the graph's only input.
    let spread = if frame && !names.iter().any(|name| known(name)) {
        only_input(graph)
    } else {
        None
    };
    let mut columns: Vec<Column> = match spread {
        Some(spec) => vec![Column::new(&spec.name)],
        None => names
            .iter()
            .filter(|name| !frame || known(name))
            .map(|name| Column::new(name))
            .collect(),
    };
    for (index, row) in rows.iter().enumerate() {
        if row.len() != names.len() {
            return Err(format!(
                "{} has {} members, but {} has {}",
                origin.row(index),
                row.len(),
                origin.row(0),
                names.len()
            ));
        }
        // Rows mostly have the first one's order; where they don't, or only some of its members count, names are looked up.
        let by_name: HashMap<&str, &str> =
            match row.iter().zip(&names).all(|((own, _), name)| own == name) && row.len() <= FEW {
                true => HashMap::new(),
                false => row
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.get()))
                    .collect(),
            };
        let value = |name: &str| {
            let value = match by_name.is_empty() {
                true => row
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.get()),
                false => by_name.get(name).copied(),
            };
            value.ok_or_else(|| format!("{} has no \"{}\"", origin.row(index), shorten(name)))
        };
        if spread.is_some() {
            let values: Result<Vec<&str>, String> = names.iter().map(|name| value(name)).collect();
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
    Ok(columns.into_iter().map(Column::finish).collect())
}

fn only_input(graph: &Signature) -> Option<&TensorSpec> {
    match graph.inputs.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

/// Every column once, and a value for each in every row.
fn check_columns(list: &[&RawValue], names: &[String], origin: &Origin) -> Result<(), String> {
    let mut seen: HashSet<&str> = HashSet::with_capacity(names.len());
    if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(format!("the column \"{}\" occurs twice", shorten(name)));
    }
    for (index, row) in list.iter().enumerate() {
        let values: Vec<&RawValue> = serde_json::from_str(row.get())
            .map_err(|_| format!("{} is not a list of values", origin.row(index)))?;
        if values.len() != names.len() {
            return Err(format!(
                "{} has {} values for {} columns",
                origin.row(index),
                values.len(),
                names.len()
            ));
        }
    }
    Ok(())
}

fn by_position(
    list: &[&RawValue],
    names: &[String],
    graph: &Signature,
) -> Result<Vec<WireTensor>, String> {
    let mut columns: Vec<Column> = names.iter().map(|name| Column::new(name)).collect();
    for row in list {
        let values: Vec<&RawValue> = serde_json::from_str(row.get())
            .map_err(|_| "a row is not a list of values".to_owned())?;
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(value.get());
        }
    }
    let known = |name: &str| graph.inputs.iter().any(|spec| *spec.name == *name);
    Ok(columns
        .into_iter()
        .filter(|column| known(&column.name))
        .map(Column::finish)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use crate::{
        decode::{
            elements::{Elements, WireTensor},
            origin::Origin,
            rows::{Rows, read_envelope, to_tensors},
        },
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
    ) -> Result<Vec<(String, String)>, String> {
        let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let rows = Rows {
            text: Bytes::copy_from_slice(text.as_bytes()),
            names,
            frame,
            origin: Origin::default(),
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
    fn what_is_no_table_is_refused() {
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
            let error = convert(text, None, false, inputs).unwrap_err();
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
                let error = convert(text, Some(&names), true, inputs).unwrap_err();
                assert!(error.contains(expected), "{text}: {error}");
            }
        }
    }

    #[test]
    fn many_members_are_told_apart_as_few_are() {
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
        let spread = convert(&text, None, true, &["x"]).unwrap();
        let ones = format!("[{}]", vec!["1"; 40].join(","));
        assert_eq!(spread, [one("x", &format!("[{ones},{ones}]"))]);
        let mut twice = names.clone();
        twice.push("n3".to_owned());
        assert!(
            convert(&format!("[{}]", object(&twice)), None, true, &["x"])
                .unwrap_err()
                .contains("twice")
        );
    }

    #[test]
    fn an_instance_may_come_without_its_envelope() {
        let read = |text: &'static str| read_envelope(Bytes::from_static(text.as_bytes()));
        let (rows, id) = read(r#"{"instances":[[1]],"id":"7"}"#).unwrap();
        assert_eq!((&rows.text[..], id.as_deref()), (&b"[[1]]"[..], Some("7")));
        assert_eq!(&read(r#"{"x":[1]}"#).unwrap().0.text[..], br#"[{"x":[1]}]"#);
        for bad in [
            "[1]",
            "",
            r#"{"instances":[1],"id":7}"#,
            r#"{"instances":[1],"more":7}"#,
            r#"{"instances":[1],"instances":[2]}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
