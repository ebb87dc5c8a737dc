//! The constant answer of a package, for requests that its model can't answer. It is the member
//! `fallback` of `serving.json`, and has the types of the model's own answers.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    schema::fault::token,
    tensor::DataType,
    transform::{
        declaration::DeclarationError,
        outputs::{Json, Numbers, OutputColumn, Outputs},
    },
};

/// The type of one field of the answer. The field's value in the document must have this type.
pub(crate) enum ConstantFieldType {
    Labels(Arc<[Json]>),
    Map(Arc<[Json]>, DataType),
    Value(DataType),
    /// The best classes. They have an order and scores, which a constant can't have.
    Ranked,
}

/// A rule that the value of a field violates. The text follows the place of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ConstantFault {
    #[error("is missing: the answer has this field")]
    Missing,
    #[error("is not one of the labels")]
    Label,
    #[error("is a list of the best classes, which a constant can't give")]
    Ranked,
    #[error("must be an object with a number for each label")]
    Map,
    #[error("must be true or false")]
    Bool,
    #[error("must be a string")]
    Text,
    #[error("must be a number of the answer's type")]
    Number,
    #[error("must be lists of equal lengths")]
    Uneven,
}

/// Builds one row of outputs from the members of `answer`. Each field is given as its name, the
/// JSON text `"name":` and its type.
pub(crate) fn outputs(
    answer: &Map<String, Value>,
    fields: impl Iterator<Item = (String, Json, ConstantFieldType)>,
) -> Result<Outputs, DeclarationError> {
    let mut columns = Vec::new();
    for (name, key, field_type) in fields {
        let error = |fault: ConstantFault| {
            DeclarationError::new(format!("/{}", token(&name)), fault.to_string())
        };
        let value = answer
            .get(&name)
            .ok_or_else(|| error(ConstantFault::Missing))?;
        columns.push((key, column(value, field_type).map_err(error)?));
    }
    // An unknown member is a misspelled field, or a field that the model no longer has.
    if let Some(unknown) = answer.keys().find(|member| {
        columns
            .iter()
            .all(|(key, _)| **key != *format!("{}:", Value::from(member.as_str())))
    }) {
        return Err(DeclarationError::new(
            format!("/{unknown}"),
            "is not a field of the answer",
        ));
    }
    Ok(Outputs {
        rows: 1,
        fields: columns,
    })
}

/// Builds the values of one field.
fn column(value: &Value, field_type: ConstantFieldType) -> Result<OutputColumn, ConstantFault> {
    match field_type {
        ConstantFieldType::Labels(labels) => {
            let text = value.to_string();
            // Labels are compared as JSON, so that "1" and 1 are different.
            let index = labels
                .iter()
                .position(|label| **label == *text)
                .ok_or(ConstantFault::Label)?;
            Ok(OutputColumn::Labels {
                labels,
                indices: vec![index],
            })
        }
        ConstantFieldType::Map(keys, datatype) => map(value, keys, datatype),
        ConstantFieldType::Value(datatype) => plain(value, datatype),
        ConstantFieldType::Ranked => Err(ConstantFault::Ranked),
    }
}

fn map(
    value: &Value,
    keys: Arc<[Json]>,
    datatype: DataType,
) -> Result<OutputColumn, ConstantFault> {
    // The number of members equals the number of labels. If each label has a number, the object has
    // no other members.
    let members = value
        .as_object()
        .filter(|members| members.len() == keys.len())
        .ok_or(ConstantFault::Map)?;
    let number = |key: &Json| {
        let name: String = serde_json::from_str(key.strip_suffix(':').unwrap_or(key)).ok()?;
        members.get(&name).cloned()
    };
    let values: Option<Vec<Value>> = keys.iter().map(number).collect();
    Ok(OutputColumn::Map {
        values: numbers(&values.ok_or(ConstantFault::Map)?, datatype)?,
        keys,
    })
}

fn plain(value: &Value, datatype: DataType) -> Result<OutputColumn, ConstantFault> {
    let (mut shape, mut flat) = (Vec::new(), Vec::new());
    flatten(value, 0, &mut shape, &mut flat)?;
    Ok(match datatype {
        DataType::Bool => {
            let values: Option<Vec<bool>> = flat.iter().map(Value::as_bool).collect();
            OutputColumn::Bools {
                shape,
                values: values.ok_or(ConstantFault::Bool)?,
            }
        }
        DataType::Bytes => {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let values: Option<Vec<String>> = flat.iter().map(text).collect();
            OutputColumn::Texts {
                shape,
                values: values.ok_or(ConstantFault::Text)?,
            }
        }
        _ => OutputColumn::Numbers {
            values: numbers(&flat, datatype)?,
            shape,
        },
    })
}

fn numbers(values: &[Value], datatype: DataType) -> Result<Numbers, ConstantFault> {
    fn all<T>(
        values: &[Value],
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, ConstantFault> {
        values
            .iter()
            .map(read)
            .collect::<Option<Vec<T>>>()
            .ok_or(ConstantFault::Number)
    }
    match datatype {
        // The response writes the digits of a float32, like for the model's own answers.
        DataType::Fp32 => all(values, |value| value.as_f64().map(|x| x as f32)).map(Numbers::F32),
        DataType::Fp64 => all(values, Value::as_f64).map(Numbers::F64),
        DataType::Int64 => all(values, Value::as_i64).map(Numbers::Int),
        DataType::Uint64 => all(values, Value::as_u64).map(Numbers::Uint),
        _ => Err(ConstantFault::Number),
    }
}

/// Appends the elements of nested lists to `flat` in row-major order, and their lengths to `shape`.
/// The lists of one level must have equal lengths. A value that is not a list is a scalar.
fn flatten(
    value: &Value,
    depth: usize,
    shape: &mut Vec<usize>,
    flat: &mut Vec<Value>,
) -> Result<(), ConstantFault> {
    let Some(list) = value.as_array() else {
        if depth != shape.len() {
            return Err(ConstantFault::Uneven);
        }
        flat.push(value.clone());
        return Ok(());
    };
    match shape.get(depth) {
        // The first list of a level determines the length of all lists of that level.
        Some(length) if *length != list.len() => return Err(ConstantFault::Uneven),
        Some(_) => {}
        None if flat.is_empty() => shape.push(list.len()),
        None => return Err(ConstantFault::Uneven),
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
        transform::constant::{ConstantFieldType, outputs},
    };

    fn one(value: Value, field_type: ConstantFieldType) -> Result<String, String> {
        let answer = json!({"y": value});
        let built = outputs(
            answer.as_object().unwrap(),
            [("y".to_owned(), Arc::from("\"y\":"), field_type)].into_iter(),
        );
        built
            .map(|outputs| outputs.to_value(0)["y"].to_string())
            .map_err(|error| format!("{} {}", error.pointer, error.detail))
    }

    #[test]
    fn a_constant_has_the_types_of_the_model() {
        let labels = || ConstantFieldType::Labels([Arc::from("\"a\""), Arc::from("\"b\"")].into());
        let map = || {
            ConstantFieldType::Map(
                [Arc::from("\"a\":"), Arc::from("\"b\":")].into(),
                DataType::Fp32,
            )
        };
        assert_eq!(one(json!("b"), labels()).unwrap(), "\"b\"");
        assert_eq!(
            one(json!("c"), labels()).unwrap_err(),
            "/y is not one of the labels"
        );
        assert_eq!(
            one(json!({"b": 1, "a": 0.25}), map()).unwrap(),
            "{\"a\":0.25,\"b\":1.0}"
        );
        assert!(one(json!({"a": 1}), map()).is_err());
        assert_eq!(
            one(json!(3), ConstantFieldType::Value(DataType::Int64)).unwrap(),
            "3"
        );
        assert!(one(json!(3.5), ConstantFieldType::Value(DataType::Int64)).is_err());
        assert_eq!(
            one(
                json!([[1, 2], [3, 4]]),
                ConstantFieldType::Value(DataType::Fp64)
            )
            .unwrap(),
            "[[1.0,2.0],[3.0,4.0]]"
        );
        for uneven in [json!([[1, 2], [3]]), json!([1, [2]]), json!([[1], 2])] {
            assert!(one(uneven, ConstantFieldType::Value(DataType::Fp64)).is_err());
        }
        assert!(one(json!([]), ConstantFieldType::Ranked).is_err());
        let extra = json!({"y": 1, "z": 2});
        let built = outputs(
            extra.as_object().unwrap(),
            [(
                "y".to_owned(),
                Arc::from("\"y\":"),
                ConstantFieldType::Value(DataType::Int64),
            )]
            .into_iter(),
        );
        assert_eq!(built.err().unwrap().pointer, "/z");
    }
}
