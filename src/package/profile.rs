//! `Profile`: `profile.json`, the distribution of each field and of the predictions on the training
//! data.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The members of `profile.json` that predictd reads. Other members are ignored, because tools add
/// their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The fields of the input, by name.
    pub(crate) features: IndexMap<String, FieldProfile>,
    /// The predictions for the same rows, by name.
    pub(crate) predictions: IndexMap<String, FieldProfile>,
}

/// The distribution of one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FieldProfile {
    pub kind: ProfileKind,
    /// The number of rows without a value.
    #[serde(default)]
    pub missing: u64,
    /// The number of rows with a value.
    pub count: u64,
    /// Quantiles of a numeric field, by their level from 0 to 1.
    #[serde(default)]
    pub quantiles: IndexMap<String, f64>,
    #[serde(default)]
    pub decile_histogram: Option<Histogram>,
    /// The number of rows with each category.
    #[serde(default)]
    pub categories: Option<IndexMap<String, u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProfileKind {
    Numeric,
    Categorical,
    Boolean,
}

/// The counts of a numeric field by bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "HistogramDocument")]
pub(crate) struct Histogram {
    /// The limits of the bins, ascending: one more than there are bins. A bin contains its lower
    /// limit, and the last one also its upper limit.
    pub edges: Vec<f64>,
    /// The number of rows in each bin. Never empty.
    pub counts: Vec<u64>,
}

#[derive(Deserialize)]
struct HistogramDocument {
    edges: Vec<f64>,
    counts: Vec<u64>,
}

#[derive(Debug, thiserror::Error)]
enum HistogramError {
    #[error("a histogram needs at least one bin")]
    NoBin,
    #[error("{counts} bins need {} edges, not {edges}", counts + 1)]
    EdgeCount { counts: usize, edges: usize },
    #[error("the edges must ascend")]
    Descending,
}

impl TryFrom<HistogramDocument> for Histogram {
    type Error = HistogramError;

    fn try_from(document: HistogramDocument) -> Result<Histogram, HistogramError> {
        let HistogramDocument { edges, counts } = document;
        if counts.is_empty() {
            return Err(HistogramError::NoBin);
        }
        if edges.len() != counts.len() + 1 {
            return Err(HistogramError::EdgeCount {
                counts: counts.len(),
                edges: edges.len(),
            });
        }
        // A field with one value has a bin without width.
        if !edges.is_sorted() {
            return Err(HistogramError::Descending);
        }
        Ok(Histogram { edges, counts })
    }
}

impl FieldProfile {
    pub(crate) fn median(&self) -> Option<f64> {
        self.quantiles.get("0.5").copied()
    }

    /// The most frequent category. Of several, the last one.
    pub(crate) fn most_frequent(&self) -> Option<&str> {
        let categories = self.categories.as_ref()?;
        let (name, _) = categories.iter().max_by_key(|(_, count)| **count)?;
        Some(name)
    }

    /// The share of rows without a value, from 0 to 1.
    pub(crate) fn missing_share(&self) -> f64 {
        // The counts may be any. Their sum as integers could overflow.
        let rows = self.count as f64 + self.missing as f64;
        self.missing as f64 / rows.max(1.0)
    }
}
