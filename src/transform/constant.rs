//! Constant: the answer that a package gives where its model can't, written in `serving.json` and as typed as the model's own.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    schema::fault::token,
    tensor::DataType,
    transform::outputs::{Json, Numbers, OutputColumn, Outputs},
};

/// What an answer's field can hold.
pub enum Form {
    Labels(Arc<[Json]>),
    Map(Arc<[Json]>, DataType),
    Value(DataType),
    /// The best classes: their order and scores are no constant's to give.
    Ranked,
}

/// One row of these fields (name, `"name":` as JSON, form) from the document's members.
pub fn outputs(
    answer: &Map<String, Value>,
    fields: impl Iterator<Item = (String, Json, Form)>,
) -> Result<Outputs, (String, String)> {
    let mut columns = Vec::new();
    for (name, key, form) in fields {
        let wrong = |detail: &str| (format!("/{}", token(&name)), detail.to_owned());
        let value = answer
            .get(&name)
            .ok_or_else(|| wrong("is missing: the answer has this field"))?;
        columns.push((key, column(value, form).map_err(wrong)?));
    }
    if let Some(unknown) = answer.keys().find(|member| {
        columns
            .iter()
            .all(|(key, _)| **key != *format!("{}:", Value::from(member.as_str())))
    }) {
        return Err((
            format!("/{unknown}"),
            "is no field of the answer".to_owned(),
        ));
    }
    Ok(Outputs {
        rows: 1,
        fields: columns,
    })
}

fn column(value: &Value, form: Form) -> Result<OutputColumn, &'static str> {
    match form {
        Form::Labels(labels) => {
            let text = value.to_string();
            let index = labels
                .iter()
                .position(|label| **label == *text)
                .ok_or("is none of the labels")?;
            Ok(OutputColumn::Labels {
                labels,
                indices: vec![index],
            })
        }
        Form::Map(keys, datatype) => {
            let members = value
                .as_object()
                .filter(|members| members.len() == keys.len())
                .ok_or("must be an object with a number for each label")?;
            let number = |key: &Json| {
                let name: String =
                    serde_json::from_str(key.strip_suffix(':').unwrap_or(key)).ok()?;
                members.get(&name).cloned()
            };
            let values: Option<Vec<Value>> = keys.iter().map(number).collect();
            let values = values.ok_or("must be an object with a number for each label")?;
            Ok(OutputColumn::Map {
                values: numbers(&values, datatype)?,
                keys,
            })
        }
        Form::Value(datatype) => {
            let (mut shape, mut flat) = (Vec::new(), Vec::new());
            flatten(value, 0, &mut shape, &mut flat)?;
            match datatype {
                DataType::Bool => {
                    let values: Option<Vec<bool>> = flat.iter().map(Value::as_bool).collect();
                    Ok(OutputColumn::Bools {
                        shape,
                        values: values.ok_or("must be true or false")?,
                    })
                }
                DataType::Bytes => {
                    let values: Option<Vec<String>> = flat
                        .iter()
                        .map(|value| value.as_str().map(str::to_owned))
                        .collect();
                    Ok(OutputColumn::Texts {
                        shape,
                        values: values.ok_or("must be a text")?,
                    })
                }
                _ => Ok(OutputColumn::Numbers {
                    values: numbers(&flat, datatype)?,
                    shape,
                }),
            }
        }
        Form::Ranked => Err("is a list of the best classes, which a constant can't give"),
    }
}

fn numbers(values: &[Value], datatype: DataType) -> Result<Numbers, &'static str> {
    const WRONG: &str = "must be a number of the answer's type";
    fn all<T>(
        values: &[Value],
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, &'static str> {
        values
            .iter()
            .map(read)
            .collect::<Option<Vec<T>>>()
            .ok_or(WRONG)
    }
    match datatype {
        DataType::Fp32 => all(values, |value| value.as_f64().map(|x| x as f32)).map(Numbers::F32),
        DataType::Fp64 => all(values, Value::as_f64).map(Numbers::F64),
        DataType::Int64 => all(values, Value::as_i64).map(Numbers::Int),
        DataType::Uint64 => all(values, Value::as_u64).map(Numbers::Uint),
        _ => Err(WRONG),
    }
}

/// Row-major elements of nested lists of equal lengths; a value without a list is a scalar.
fn flatten(
    value: &Value,
    depth: usize,
    shape: &mut Vec<usize>,
    flat: &mut Vec<Value>,
) -> Result<(), &'static str> {
    const UNEVEN: &str = "must be lists of equal lengths";
    let Some(list) = value.as_array() else {
        if depth != shape.len() {
            return Err(UNEVEN);
        }
        flat.push(value.clone());
        return Ok(());
    };
    match shape.get(depth) {
        Some(length) if *length != list.len() => return Err(UNEVEN),
        Some(_) => {}
        None if flat.is_empty() => shape.push(list.len()),
        None => return Err(UNEVEN),
    }
    list.iter()
        .try_for_each(|value| flatten(value, depth + 1, shape, flat))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::{
        tensor::DataType,
        transform::constant::{Form, outputs},
    };

    fn one(value: Value, form: Form) -> Result<String, String> {
        let answer = json!({"y": value});
        let built = outputs(
            answer.as_object().unwrap(),
            [("y".to_owned(), Arc::from("\"y\":"), form)].into_iter(),
        );
        built
            .map(|outputs| outputs.to_value(0)["y"].to_string())
            .map_err(|(pointer, detail)| format!("{pointer} {detail}"))
    }

    #[test]
    fn a_constant_is_as_typed_as_the_model() {
        let labels = || Form::Labels([Arc::from("\"a\""), Arc::from("\"b\"")].into());
        let map = || {
            Form::Map(
                [Arc::from("\"a\":"), Arc::from("\"b\":")].into(),
                DataType::Fp32,
            )
        };
        assert_eq!(one(json!("b"), labels()).unwrap(), "\"b\"");
        assert_eq!(
            one(json!("c"), labels()).unwrap_err(),
            "/y is none of the labels"
        );
        assert_eq!(
            one(json!({"b": 1, "a": 0.25}), map()).unwrap(),
            "{\"a\":0.25,\"b\":1.0}"
        );
        assert!(one(json!({"a": 1}), map()).is_err());
        assert_eq!(one(json!(3), Form::Value(DataType::Int64)).unwrap(), "3");
        assert!(one(json!(3.5), Form::Value(DataType::Int64)).is_err());
        assert_eq!(
            one(json!([[1, 2], [3, 4]]), Form::Value(DataType::Fp64)).unwrap(),
            "[[1.0,2.0],[3.0,4.0]]"
        );
        for uneven in [json!([[1, 2], [3]]), json!([1, [2]]), json!([[1], 2])] {
            assert!(one(uneven, Form::Value(DataType::Fp64)).is_err());
        }
        assert!(one(json!([]), Form::Ranked).is_err());
        let extra = json!({"y": 1, "z": 2});
        let built = outputs(
            extra.as_object().unwrap(),
            [(
                "y".to_owned(),
                Arc::from("\"y\":"),
                Form::Value(DataType::Int64),
            )]
            .into_iter(),
        );
        assert_eq!(built.err().unwrap().0, "/z");
    }
}
