//! Writes the documented configuration, `config/predictd.toml`. It lists every key with its
//! description and its default, generated from the types.

use std::fmt::Write;

use toml::{Table, Value};

use crate::config::{
    Config,
    keys::{KEYS, KnownKey},
};

/// Maximum length of a line.
const WIDTH: usize = 120;

const HEAD: &str = "\
# Configuration of predictd: every key with its default. Your own file needs only the keys that you change.
# PREDICTD_SERVER__LISTEN=0.0.0.0:8080 (section, two underscores, key) overrides a key from the environment.
";

const MODEL_HEAD: &str = "
# Settings of one model, in a table with its name. They override the sections above, and are possible in this file only:
# [model.churn]
";

/// Returns the text of the file.
pub fn document() -> String {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let mut text = HEAD.to_owned();
    let mut section = "";
    for key in KEYS.iter() {
        let Some((table, name)) = key.path.split_once('.') else {
            continue;
        };
        if table == "model" {
            continue;
        }
        if table != section {
            section = table;
            text.push_str(&format!("\n[{section}]\n"));
        }
        wrap(&key.description, &mut text);
        let default = defaults.get(table).and_then(|values| values.get(name));
        // Every key outside of `[model.NAME]` has a default, because only that table has optional
        // values.
        let default = default.map(value).unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name} = {default}");
    }
    text.push_str(MODEL_HEAD);
    for key in KEYS.iter() {
        if let Some(name) = key.path.strip_prefix("model.*.") {
            model_line(name, key, &mut text);
        }
    }
    text
}

fn model_line(name: &str, key: &KnownKey, text: &mut String) {
    let example = key.example.as_deref().unwrap_or_default();
    let line = format!("# {name} = {example}");
    let _ = match key.description.as_str() {
        "" => writeln!(text, "{line}"),
        description => writeln!(text, "{line:<31} # {description}"),
    };
}

fn value(value: &Value) -> String {
    match value {
        Value::Float(number) if number.fract() == 0.0 => format!("{number:.1}"),
        other => other.to_string(),
    }
}

/// Writes a description as comment lines.
fn wrap(description: &str, text: &mut String) {
    let mut line = "#".to_owned();
    for word in description.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
