//! Checks the labels in `preprocessing.json` against the labels that the graph itself contains.

use serde_json::Value;

use crate::{
    package::{PREPROCESSING_FILE, PackageCheck, PackageError, SCHEMA_FILE},
    schema::fault::token,
    transform::outputs::label_text,
};

/// Rejects labels that contradict the labels that the graph contains for an output.
///
/// Different names for all labels are a translation, and are accepted. A label of the graph at a
/// different position is a contradiction, and so is a different number of labels. Labels are
/// compared as JSON strings, because the keys of `as_map` are strings. `graph_labels` contains the
/// labels of each output in the graph's order.
pub(crate) fn check_labels(
    preprocessing: Option<&Value>,
    schema: &Value,
    graph_labels: &[(String, Vec<Value>)],
) -> Result<(), PackageError> {
    for (output, labels) in graph_labels.iter().filter(|(_, labels)| !labels.is_empty()) {
        let expected: Vec<String> = labels.iter().map(label_text).collect();
        let Some(fields) = preprocessing
            .and_then(|document| document.get("outputs"))
            .and_then(Value::as_object)
        else {
            check_enum(schema, output, &expected)?;
            continue;
        };
        for (name, field) in fields {
            // Without `from`, a field reads the output of its own name.
            if field.get("from").and_then(Value::as_str).unwrap_or(name) != output {
                continue;
            }
            let steps = field
                .get("steps")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            // Without steps the graph's labels are answered unchanged.
            if steps.is_empty() {
                check_enum(schema, name, &expected)?;
            }
            for (index, step) in steps.iter().enumerate() {
                check_step(step, output, &expected).map_err(
                    |WrongLabels { step: kind, detail }| {
                        let pointer =
                            format!("/outputs/{}/steps/{index}/{kind}/labels", token(name));
                        PackageError::new(PackageCheck::Preprocessing, PREPROCESSING_FILE, detail)
                            .at(&pointer)
                    },
                )?;
            }
        }
    }
    Ok(())
}

/// The labels of a step that contradict the graph.
struct WrongLabels {
    /// The name of the step.
    step: String,
    detail: String,
}

fn check_step(step: &Value, output: &str, graph_labels: &[String]) -> Result<(), WrongLabels> {
    let Some((kind, parameters)) = step.as_object().and_then(|step| step.iter().next()) else {
        return Ok(());
    };
    let Some(labels) = parameters.get("labels").and_then(Value::as_array) else {
        return Ok(());
    };
    let mut expected = graph_labels.to_vec();
    match kind.as_str() {
        "argmax" | "as_map" | "top_k" => {}
        // The first label of `threshold` is for values below it. If the score is that of the second
        // class, this label is the first class. If the score is that of the first class, it is the
        // second class.
        "threshold" if graph_labels.len() == 2 => {
            if parameters.get("index").and_then(Value::as_u64) == Some(0) {
                expected.reverse();
            }
        }
        _ => return Ok(()),
    }
    let labels: Vec<String> = labels.iter().map(label_text).collect();
    // A label that the graph does not contain is a translation. It does not show the order.
    let moved = labels.iter().enumerate().any(|(at, label)| {
        expected
            .iter()
            .position(|known| known == label)
            .is_some_and(|place| place != at)
    });
    if moved || labels.len() != expected.len() {
        let (labels, expected) = (labels.join(", "), expected.join(", "));
        return Err(WrongLabels {
            step: kind.clone(),
            detail: format!(
                "are {labels}; the graph's own for {output} are {expected}, in this order"
            ),
        });
    }
    Ok(())
}

/// Checks a field whose answer is one of the graph's labels, unchanged. The `enum` of its schema
/// must list all of them.
fn check_enum(schema: &Value, field: &str, graph_labels: &[String]) -> Result<(), PackageError> {
    let name = token(field);
    let pointer = format!("/output/properties/{name}/enum");
    let Some(choices) = schema.pointer(&pointer).and_then(Value::as_array) else {
        return Ok(());
    };
    let choices: Vec<String> = choices.iter().map(label_text).collect();
    match graph_labels.iter().find(|label| !choices.contains(label)) {
        Some(missing) => {
            let detail = format!(
                "has {}; the graph also answers {missing}: its own are {}",
                choices.join(", "),
                graph_labels.join(", ")
            );
            Err(PackageError::new(PackageCheck::Schema, SCHEMA_FILE, detail).at(&pointer))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::package::label_check::check_labels;

    fn check(step: Value, held: &[Value]) -> Result<(), String> {
        let preprocessing = json!({"outputs": {"answer": {"from": "p", "steps": [{"softmax": {}}, step]}, "other": {}}});
        check_labels(
            Some(&preprocessing),
            &json!({}),
            &[("p".to_owned(), held.to_vec())],
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn labels_must_have_the_graphs_order() {
        let held = [json!("setosa"), json!("versicolor"), json!("virginica")];
        for step in ["argmax", "as_map", "top_k"] {
            let with = |labels: &[&str]| check(json!({step: {"labels": labels, "k": 2}}), &held);
            assert_eq!(with(&["setosa", "versicolor", "virginica"]), Ok(()));
            assert_eq!(with(&["a", "b", "c"]), Ok(()), "a translation");
            assert_eq!(
                with(&["virginica", "versicolor", "setosa"]).unwrap_err(),
                format!(
                    "preprocessing.json /outputs/answer/steps/1/{step}/labels: are virginica, versicolor, setosa; \
                     the graph's own for p are setosa, versicolor, virginica, in this order"
                )
            );
            assert!(with(&["setosa", "versicolor"]).is_err());
        }
    }

    #[test]
    fn labels_are_compared_as_texts() {
        let held = [json!(1), json!(2), json!(3)];
        assert_eq!(
            check(json!({"as_map": {"labels": ["1", "2", "3"]}}), &held),
            Ok(())
        );
        assert!(
            check(json!({"as_map": {"labels": [0, 1, 2]}}), &held)
                .unwrap_err()
                .contains("are 0, 1, 2")
        );
    }

    #[test]
    fn a_threshold_has_the_label_of_the_other_class_first() {
        let held = [json!("no"), json!("yes")];
        let with = |labels: [&str; 2], index: Option<u64>| {
            check(
                json!({"threshold": {"value": 0.5, "labels": labels, "index": index}}),
                &held,
            )
        };
        assert!(
            with(["no", "yes"], Some(1)).is_ok()
                && with(["yes", "no"], Some(0)).is_ok()
                && with(["no", "yes"], None).is_ok()
        );
        assert!(with(["yes", "no"], Some(1)).is_err() && with(["no", "yes"], Some(0)).is_err());
        let three = [json!("a"), json!("b"), json!("c")];
        assert!(
            check(
                json!({"threshold": {"value": 0.5, "labels": ["b", "a"], "index": 1}}),
                &three
            )
            .is_ok(),
            "two names for three classes"
        );
    }

    #[test]
    fn a_label_that_is_answered_unchanged_must_be_in_the_schema() {
        let held = [("label".to_owned(), vec![json!("a"), json!("b")])];
        let schema = |choices: Value| json!({"output": {"properties": {"label": {"type": "string", "enum": choices}}}});
        assert_eq!(
            check_labels(None, &schema(json!(["b", "a", "c"])), &held),
            Ok(())
        );
        let error = check_labels(None, &schema(json!(["a"])), &held)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "schema.json /output/properties/label/enum: has a; the graph also answers b: its own are a, b"
        );
        let renamed = json!({"outputs": {"kind": {"from": "label"}}});
        assert_eq!(
            check_labels(Some(&renamed), &schema(json!(["a"])), &held),
            Ok(())
        );
        assert_eq!(check_labels(None, &json!({}), &held), Ok(()));
    }
}
