//! Reads rows from a file: JSON Lines, a JSON list, or CSV.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{decode::csv_table, document};

/// Reads the rows of a file. The extension determines the format.
pub(super) fn read_rows(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs_err::read_to_string(path)?;
    let shown = path.display();
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    let rows = match ending.as_str() {
        "csv" => csv_table::to_objects(text.into())
            .map_err(|detail| anyhow::anyhow!("{shown}: {detail}"))?,
        "json" => {
            match document::parse_value(text.as_bytes()).with_context(|| shown.to_string())? {
                Value::Array(rows) => rows,
                row @ Value::Object(_) => vec![row],
                _ => bail!("{shown} is not a list of JSON objects"),
            }
        }
        _ => {
            let lines = text
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty());
            let rows = lines.map(|(index, line)| {
                document::parse_value(line.as_bytes())
                    .with_context(|| format!("{shown} line {}", index + 1))
            });
            rows.collect::<anyhow::Result<_>>()?
        }
    };
    if rows.is_empty() {
        bail!("{shown} contains no row");
    }
    Ok(rows)
}
