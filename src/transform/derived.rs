//! `DerivedColumn`: a column that is computed from two fields in float64, like in NumPy.
//! Differences and products of integers are exact. Expressions are not supported: every operation
//! has a name that a reader and `compat` can understand.

use serde_json::Value;

use crate::transform::declaration::DeclarationError;

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    /// `zero` is the result of a division by zero. Without it, the result is the same as in NumPy:
    /// an infinity, or NaN for 0 / 0.
    Ratio {
        zero: Option<f64>,
    },
    Difference,
    Product,
}

/// A derived column in its declared form.
#[derive(Clone, Copy, Debug)]
pub(super) struct DerivedColumn<'a> {
    pub operation: Operation,
    /// The name of the first field.
    pub first: &'a str,
    /// The name of the second field.
    pub second: &'a str,
    /// The member that names the second field.
    pub second_member: &'static str,
}

/// Each operation, with the member that names the second field. The member `of` names the first
/// field.
const OPERATIONS: [(&str, &str); 3] = [("ratio", "to"), ("difference", "minus"), ("product", "by")];

/// The members that say where a column's values come from. A column has exactly one of them.
pub(super) const MEMBERS: [&str; 4] = ["field", "ratio", "difference", "product"];

/// The message for a member of a column that does not exist.
pub(super) fn unknown_member() -> String {
    format!(
        "unknown member; expected one of: {}, steps",
        MEMBERS.join(", ")
    )
}

impl DerivedColumn<'_> {
    /// Reads the value of `member` of a column. Pointers in errors start at that value.
    pub(super) fn read<'a>(
        member: &str,
        written: &'a Value,
    ) -> Result<DerivedColumn<'a>, DeclarationError> {
        let Some((operation, second)) = OPERATIONS.into_iter().find(|(name, _)| *name == member)
        else {
            return Err(DeclarationError::new("", unknown_member()));
        };
        let Some(members) = written.as_object() else {
            return Err(DeclarationError::new("", "must be an object"));
        };
        // Only a division treats 0 in a special way.
        let takes_zero = operation == "ratio";
        if let Some(unknown) = members
            .keys()
            .find(|key| !(*key == "of" || *key == second || takes_zero && *key == "zero"))
        {
            let zero = if takes_zero { ", zero" } else { "" };
            return Err(DeclarationError::new(
                format!("/{unknown}"),
                format!("unknown member; expected one of: of, {second}{zero}"),
            ));
        }
        let name = |key: &str| {
            let name = members.get(key).and_then(Value::as_str);
            name.ok_or_else(|| DeclarationError::new(format!("/{key}"), "must name a field"))
        };
        let (first_name, second_name) = (name("of")?, name(second)?);
        let operation = match (operation, members.get("zero")) {
            ("ratio", None) => Operation::Ratio { zero: None },
            ("ratio", Some(Value::Null)) => Operation::Ratio {
                zero: Some(f64::NAN),
            },
            ("ratio", Some(Value::Number(zero))) => Operation::Ratio {
                zero: zero.as_f64(),
            },
            ("ratio", Some(_)) => {
                return Err(DeclarationError::new(
                    "/zero",
                    "must be a number, or null for a missing value",
                ));
            }
            ("difference", _) => Operation::Difference,
            _ => Operation::Product,
        };
        Ok(DerivedColumn {
            operation,
            first: first_name,
            second: second_name,
            second_member: second,
        })
    }
}

impl Operation {
    /// Applies the operation. NaN is a missing value, and an operation with NaN gives NaN.
    pub(super) fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            // A missing numerator stays missing.
            Operation::Ratio { zero: Some(zero) } if b == 0.0 && !a.is_nan() => zero,
            Operation::Ratio { .. } => a / b,
            Operation::Difference => a - b,
            Operation::Product => a * b,
        }
    }

    /// Like [`apply`](Operation::apply), for integers. A float64 rounds integers from 2^53 on, such
    /// as times in nanoseconds. This method rounds only the result.
    pub(super) fn apply_integers(self, a: i64, b: i64) -> f64 {
        match self {
            // A quotient of integers is rarely an integer, so it is computed like in NumPy.
            Operation::Ratio { .. } => self.apply(a as f64, b as f64),
            Operation::Difference => (i128::from(a) - i128::from(b)) as f64,
            Operation::Product => (i128::from(a) * i128::from(b)) as f64,
        }
    }

    /// The sign of the operation in the name of the column, for messages.
    pub(super) fn sign(self) -> char {
        match self {
            Operation::Ratio { .. } => '/',
            Operation::Difference => '-',
            Operation::Product => '*',
        }
    }
}
