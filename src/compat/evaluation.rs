//! Compares the offline evaluations and the reference profiles of two versions. The numbers are for
//! people: no decision depends on them.

use serde::Serialize;
use serde_json::{Map, Value};

/// One metric of both versions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ComparedMetric {
    /// The slice of the data, as `field=value`. Empty for all data.
    pub slice: String,
    pub name: String,
    pub old: Option<f64>,
    pub new: Option<f64>,
}

/// The metrics in the `evaluation.json` of both versions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Evaluations {
    /// Whether both versions were evaluated on data with the same hash. Otherwise the metrics can't
    /// be compared.
    pub same_data: bool,
    pub metrics: Vec<ComparedMetric>,
}

/// One feature or prediction that both reference profiles contain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ComparedFeature {
    /// The section of the profile: `features` or `predictions`.
    pub section: &'static str,
    pub name: String,
    pub old: Option<FeatureSummary>,
    pub new: Option<FeatureSummary>,
    /// The population stability index. `None` if the two distributions have different kinds.
    pub psi: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FeatureSummary {
    pub kind: String,
    /// The share of rows without a value, from 0 to 1.
    pub missing: f64,
    /// The median of a numeric feature, or the most common category.
    pub middle: String,
}

pub(crate) fn compare_evaluations(old: &Value, new: &Value) -> Evaluations {
    let hash = |side: &Value| {
        side.pointer("/data/sha256")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let mut metrics = Vec::new();
    compare_metrics("", old.get("metrics"), new.get("metrics"), &mut metrics);
    let slices = |side: &Value| members(side.get("slices")).clone();
    let (before, after) = (slices(old), slices(new));
    for field in names(&before, &after) {
        let (before, after) = (members(before.get(field)), members(after.get(field)));
        for value in names(before, after) {
            compare_metrics(
                &format!("{field}={value}"),
                before.get(value),
                after.get(value),
                &mut metrics,
            );
        }
    }
    Evaluations {
        // Two evaluations without a hash may have used different data.
        same_data: hash(old).is_some() && hash(old) == hash(new),
        metrics,
    }
}

fn compare_metrics(
    slice: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    metrics: &mut Vec<ComparedMetric>,
) {
    let (before, after) = (members(old), members(new));
    for name in names(before, after) {
        let (old, new) = (
            before.get(name).and_then(Value::as_f64),
            after.get(name).and_then(Value::as_f64),
        );
        if old.is_some() || new.is_some() {
            metrics.push(ComparedMetric {
                slice: slice.to_owned(),
                name: name.to_owned(),
                old,
                new,
            });
        }
    }
}

pub(crate) fn compare_profiles(old: &Value, new: &Value) -> Vec<ComparedFeature> {
    let mut features = Vec::new();
    for section in ["features", "predictions"] {
        let (before, after) = (members(old.get(section)), members(new.get(section)));
        for name in names(before, after) {
            let (a, b) = (before.get(name), after.get(name));
            let psi = a.zip(b).and_then(|(a, b)| stability_index(a, b));
            features.push(ComparedFeature {
                section,
                name: name.to_owned(),
                old: a.map(summary),
                new: b.map(summary),
                psi,
            });
        }
    }
    features
}

fn members(value: Option<&Value>) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.and_then(Value::as_object).unwrap_or(&NONE)
}

/// The names in both maps: those of `old` in its order, followed by the names that only `new` has.
fn names<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> Vec<&'a str> {
    old.keys()
        .chain(new.keys().filter(|name| !old.contains_key(*name)))
        .map(String::as_str)
        .collect()
}

fn number(value: &Value, name: &str) -> f64 {
    value.get(name).and_then(Value::as_f64).unwrap_or_default()
}

fn summary(feature: &Value) -> FeatureSummary {
    let rows = number(feature, "count") + number(feature, "missing");
    let median = feature
        .pointer("/quantiles/0.5")
        .and_then(Value::as_f64)
        .map(|median| format!("{median:.4}"));
    let most_common = || {
        let counts = members(feature.get("categories"))
            .iter()
            .filter_map(|(name, count)| Some((name, count.as_f64()?)));
        counts
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(name, _)| name.clone())
            .unwrap_or_default()
    };
    FeatureSummary {
        kind: feature
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        missing: if rows > 0.0 {
            number(feature, "missing") / rows
        } else {
            0.0
        },
        middle: median.unwrap_or_else(most_common),
    }
}

/// The share that an empty bin gets. A share of 0 would make the index infinite.
const MIN_SHARE: f64 = 1e-4;

/// The population stability index: the sum of (b - a) ln(b / a) over all bins. `a` is the share of
/// a bin in the old profile, and `b` in the new one. The missing values have their own bin.
fn stability_index(old: &Value, new: &Value) -> Option<f64> {
    let bins = match (old.get("categories"), new.get("categories")) {
        (Some(_), Some(_)) => {
            let (before, after) = (
                members(old.get("categories")),
                members(new.get("categories")),
            );
            // A category that is missing in a profile counts 0 rows.
            let count = |counts: &Map<String, Value>, name: &str| {
                counts.get(name).and_then(Value::as_f64).unwrap_or_default()
            };
            names(before, after)
                .into_iter()
                .map(|name| (count(before, name), count(after, name)))
                .collect()
        }
        // A feature that is numeric in one profile and categorical in the other has no common bins.
        (None, None) => numeric_bins(old, new)?,
        _ => return None,
    };
    // A feature that is null more often has drifted, even if its other values have not.
    let missing = (number(old, "missing"), number(new, "missing"));
    let bins: Vec<(f64, f64)> = bins
        .into_iter()
        .chain((missing.0 + missing.1 > 0.0).then_some(missing))
        .collect();
    let (all_old, all_new) = bins
        .iter()
        .fold((0.0, 0.0), |(a, b), bin| (a + bin.0, b + bin.1));
    // An empty profile has no shares.
    if all_old <= 0.0 || all_new <= 0.0 {
        return None;
    }
    let share = |count: f64, all: f64| (count / all).max(MIN_SHARE);
    Some(
        bins.iter()
            .map(|bin| (share(bin.0, all_old), share(bin.1, all_new)))
            .map(|(a, b)| (b - a) * (b / a).ln())
            .sum(),
    )
}

/// The counts of both profiles in the old profile's decile bins. If the bins differ, the new
/// profile's values are assumed to be evenly spread within each of its bins.
fn numeric_bins(old: &Value, new: &Value) -> Option<Vec<(f64, f64)>> {
    let (edges, counts) = histogram(old)?;
    let (other_edges, other_counts) = histogram(new)?;
    // Equal bins need no assumption about the values inside.
    if edges == other_edges {
        return Some(counts.into_iter().zip(other_counts).collect());
    }
    let below = |x: f64| -> f64 {
        let bins = other_edges.windows(2).zip(&other_counts);
        bins.map(|(edges, count)| match edges {
            [_, high] if x >= *high => *count,
            [low, high] if x > *low => count * (x - low) / (high - low),
            _ => 0.0,
        })
        .sum()
    };
    let total: f64 = other_counts.iter().sum();
    let last = counts.len().saturating_sub(1);
    // The outermost bins also count the values beyond them.
    let bins = edges
        .windows(2)
        .zip(&counts)
        .enumerate()
        .map(|(index, (edges, count))| {
            let (low, high) = (
                edges.first().copied().unwrap_or_default(),
                edges.last().copied().unwrap_or_default(),
            );
            let from = if index == 0 { 0.0 } else { below(low) };
            let to = if index == last { total } else { below(high) };
            (*count, (to - from).max(0.0))
        });
    Some(bins.collect())
}

fn histogram(feature: &Value) -> Option<(Vec<f64>, Vec<f64>)> {
    let list = |name: &str| -> Option<Vec<f64>> {
        feature
            .get("decile_histogram")?
            .get(name)?
            .as_array()?
            .iter()
            .map(Value::as_f64)
            .collect()
    };
    let (edges, counts) = (list("edges")?, list("counts")?);
    (edges.len() == counts.len() + 1 && !counts.is_empty()).then_some((edges, counts))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::compat::evaluation::{compare_evaluations, compare_profiles};

    fn numeric(edges: &[f64], counts: &[u64], missing: u64) -> Value {
        json!({"features": {"x": {
            "kind": "numeric", "missing": missing, "count": counts.iter().sum::<u64>(), "quantiles": {"0.5": 2.0},
            "decile_histogram": {"edges": edges, "counts": counts},
        }}})
    }

    fn psi(old: &Value, new: &Value) -> f64 {
        compare_profiles(old, new)[0].psi.unwrap()
    }

    #[test]
    fn the_stability_index_follows_its_formula() {
        let old = numeric(&[0.0, 1.0, 2.0], &[50, 50], 0);
        assert_eq!(psi(&old, &old), 0.0);
        // Shares 0.5, 0.5 against 0.2, 0.8: (0.2 - 0.5) ln 0.4 + (0.8 - 0.5) ln 1.6.
        let expected = -0.3 * 0.4_f64.ln() + 0.3 * 1.6_f64.ln();
        assert!((psi(&old, &numeric(&[0.0, 1.0, 2.0], &[20, 80], 0)) - expected).abs() < 1e-12);
        // One bin from 0 to 5 has a fifth of its values below 1.
        assert!((psi(&old, &numeric(&[0.0, 5.0], &[100], 0)) - expected).abs() < 1e-12);
        assert!(
            psi(&old, &numeric(&[0.0, 1.0, 2.0], &[50, 50], 100)) > 1.0,
            "half of the values are missing now"
        );
        let categories = |a: u64, b: u64| json!({"features": {"x": {"kind": "boolean", "count": a + b, "categories": {"false": a, "true": b}}}});
        assert!((psi(&categories(50, 50), &categories(20, 80)) - expected).abs() < 1e-12);
        assert_eq!(compare_profiles(&old, &categories(1, 1))[0].psi, None);
    }

    #[test]
    fn metrics_of_both_versions_are_paired() {
        let side = |auc: f64, hash: &str| json!({"data": {"sha256": hash}, "metrics": {"auc": auc, "text": "x"}, "slices": {"plan": {"pro": {"auc": auc / 2.0}}}});
        let both = compare_evaluations(&side(0.8, "a"), &side(0.9, "a"));
        assert!(both.same_data);
        let rows: Vec<(&str, &str, Option<f64>, Option<f64>)> = both
            .metrics
            .iter()
            .map(|metric| {
                (
                    metric.slice.as_str(),
                    metric.name.as_str(),
                    metric.old,
                    metric.new,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("", "auc", Some(0.8), Some(0.9)),
                ("plan=pro", "auc", Some(0.4), Some(0.45))
            ]
        );
        assert!(!compare_evaluations(&side(0.8, "a"), &side(0.8, "b")).same_data);
        assert!(
            !compare_evaluations(&json!({}), &json!({})).same_data,
            "without hashes the data may differ"
        );
    }
}
