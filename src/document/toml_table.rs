//! Parses TOML.

use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use crate::document::error::{DocumentError, DocumentProblem, Segment, shortened};

/// A text that is not TOML, or that contains a number without a type.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TomlError {
    /// The message shows the line.
    #[error(transparent)]
    Syntax(#[from] toml::de::Error),
    /// A number is out of its type's range.
    #[error(transparent)]
    Number(DocumentError),
}

/// Parses a text. The crate's own parser converts numbers, too, but its errors name types of Rust.
pub(crate) fn parse_toml(text: &str) -> Result<Table, TomlError> {
    let parsed = DeTable::parse(text)?;
    table(parsed.get_ref()).map_err(TomlError::Number)
}

fn table(parsed: &DeTable<'_>) -> Result<Table, DocumentError> {
    let members = parsed.iter().map(|(key, parsed)| {
        let key = key.get_ref().to_string();
        match value(parsed.get_ref()) {
            Ok(value) => Ok((key, value)),
            Err(error) => Err(error.inside(Segment::Member(key))),
        }
    });
    members.collect()
}

fn value(parsed: &DeValue<'_>) -> Result<Value, DocumentError> {
    Ok(match parsed {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            match i64::from_str_radix(digits, number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => {
                    return Err(out_of_range(
                        number.to_string(),
                        "a whole number from -9223372036854775808 to 9223372036854775807",
                    ));
                }
            }
        }
        DeValue::Float(number) => {
            let text = number.as_str();
            // A number that is too large would become infinite.
            match text.parse::<f64>() {
                Ok(number) if number.is_finite() || text.contains("inf") || number.is_nan() => {
                    Value::Float(number)
                }
                _ => {
                    return Err(out_of_range(text.to_owned(), "a number of at most 1.8e308"));
                }
            }
        }
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(date) => Value::Datetime(*date),
        DeValue::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                value(item.get_ref()).map_err(|error| error.inside(Segment::Index(index)))
            });
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(members) => Value::Table(table(members)?),
    })
}

fn out_of_range(found: String, expected: &str) -> DocumentError {
    DocumentError::at_root(DocumentProblem::WrongValue {
        expected: expected.to_owned(),
        found: shortened(&found),
    })
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use crate::document::parse_toml;

    #[test]
    fn a_text_becomes_the_same_table_as_by_the_crate() {
        // A sign before a hexadecimal number is not TOML.
        assert!(parse_toml("b = -0x0").is_err() && "b = -0x0".parse::<Table>().is_err());
        let text = "a = 0xff\nb = 0o17\nc = 0b1\nd = 1_000.5e3\ne = -inf\nf = [1, \"x\", {y = true}]\n\
                    date = 2026-01-01\n[s.\"t.u\"]\nv.w = '''q'''\n[[steps]]\nx = 1\n[[steps]]\n";
        assert_eq!(parse_toml(text).unwrap(), text.parse::<Table>().unwrap());
        assert!(
            parse_toml("a = nan").unwrap()["a"]
                .as_float()
                .unwrap()
                .is_nan()
        );
    }

    #[test]
    fn a_number_out_of_range_is_named_with_its_key() {
        let error = |text: &str| parse_toml(text).unwrap_err().to_string();
        let range = "expected a whole number from -9223372036854775808 to 9223372036854775807";
        for (text, expected) in [
            (
                "[server]\nmax_inflight = 18446744073709551615",
                format!("/server/max_inflight: {range}, found 18446744073709551615"),
            ),
            (
                "[[steps]]\nx = 99999999999999999999999999999999999999999999",
                format!("/steps/0/x: {range}, found 9999999999999999999999999999999999999999…"),
            ),
            (
                "x = -1e999",
                "/x: expected a number of at most 1.8e308, found -1e999".to_owned(),
            ),
        ] {
            assert_eq!(error(text), expected);
        }
    }
}
