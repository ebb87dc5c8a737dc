//! Derived: a column made of two fields, as NumPy computes it: in float64, of whole numbers exactly. There are no expressions.

use serde_json::Value;

/// What is done with the first number and the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// `zero`: what a division by zero gives; without it what NumPy gives, which is infinite, or NaN for 0 / 0.
    Ratio {
        zero: Option<f64>,
    },
    Difference,
    Product,
}

/// A derived column as written: the operation and the names of both fields.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    pub operation: Operation,
    /// The members that name the fields, and the names.
    pub of: &'a str,
    pub with: (&'static str, &'a str),
}

/// (member of a column, the member below it that names the second field)
const OPERATIONS: [(&str, &str); 3] = [("ratio", "to"), ("difference", "minus"), ("product", "by")];

/// The members of a column of which exactly one must be there.
pub const MEMBERS: [&str; 4] = ["field", "ratio", "difference", "product"];

impl Declared<'_> {
    /// Reads what stands under `member` of a column; an error is a pointer below it, and what is wrong there.
    pub fn read<'a>(member: &str, written: &'a Value) -> Result<Declared<'a>, (String, String)> {
        let wrong = |pointer: &str, detail: String| Err((pointer.to_owned(), detail));
        let Some((operation, second)) = OPERATIONS.into_iter().find(|(name, _)| *name == member)
        else {
            return wrong(
                "",
                format!("unknown member; known are {}, steps", MEMBERS.join(", ")),
            );
        };
        let Some(members) = written.as_object() else {
            return wrong("", "must be an object".to_owned());
        };
        let takes_zero = operation == "ratio";
        if let Some(unknown) = members
            .keys()
            .find(|key| !(*key == "of" || *key == second || takes_zero && *key == "zero"))
        {
            let zero = if takes_zero { ", zero" } else { "" };
            return wrong(
                &format!("/{unknown}"),
                format!("unknown member; known are of, {second}{zero}"),
            );
        }
        let name = |key: &str| {
            let name = members.get(key).and_then(Value::as_str);
            name.ok_or_else(|| (format!("/{key}"), "must name a field".to_owned()))
        };
        let (of, with) = (name("of")?, name(second)?);
        let operation = match (operation, members.get("zero")) {
            ("ratio", None) => Operation::Ratio { zero: None },
            ("ratio", Some(Value::Null)) => Operation::Ratio {
                zero: Some(f64::NAN),
            },
            ("ratio", Some(Value::Number(zero))) => Operation::Ratio {
                zero: zero.as_f64(),
            },
            ("ratio", Some(_)) => {
                return wrong(
                    "/zero",
                    "must be a number, or null for a missing value".to_owned(),
                );
            }
            ("difference", _) => Operation::Difference,
            _ => Operation::Product,
        };
        Ok(Declared {
            operation,
            of,
            with: (second, with),
        })
    }
}

impl Operation {
    /// NaN is missing, and what is made of it is missing, too.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Operation::Ratio { zero: Some(zero) } if b == 0.0 && !a.is_nan() => zero,
            Operation::Ratio { .. } => a / b,
            Operation::Difference => a - b,
            Operation::Product => a * b,
        }
    }

    /// Of whole numbers, which a float64 would round from 2^53 on (times in nanoseconds): only the result is rounded, once.
    pub fn apply_whole(self, a: i64, b: i64) -> f64 {
        match self {
            Operation::Ratio { .. } => self.apply(a as f64, b as f64),
            Operation::Difference => (i128::from(a) - i128::from(b)) as f64,
            Operation::Product => (i128::from(a) * i128::from(b)) as f64,
        }
    }

    pub fn sign(self) -> char {
        match self {
            Operation::Ratio { .. } => '/',
            Operation::Difference => '-',
            Operation::Product => '*',
        }
    }
}
