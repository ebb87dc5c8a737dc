//! Compares the offline evaluations and the reference profiles of two versions. The numbers are for
//! people: no decision depends on them.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use crate::{
    distance::psi,
    package::{
        Evaluation, Profile,
        evaluation::Metrics,
        profile::{FieldProfile, Histogram, ProfileKind},
    },
};

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
    pub kind: ProfileKind,
    /// The share of rows without a value, from 0 to 1.
    pub missing: f64,
    /// The median of a numeric feature, or the most common category.
    pub middle: String,
}

pub(crate) fn compare_evaluations(old: &Evaluation, new: &Evaluation) -> Evaluations {
    let (old, new) = (&old.members, &new.members);
    let mut metrics = Vec::new();
    compare_metrics("", Some(&old.metrics), Some(&new.metrics), &mut metrics);
    for (field, before, after) in paired(&old.slices, &new.slices) {
        let none = IndexMap::new();
        let values = paired(before.unwrap_or(&none), after.unwrap_or(&none));
        for (value, before, after) in values {
            compare_metrics(&format!("{field}={value}"), before, after, &mut metrics);
        }
    }
    Evaluations {
        // Two evaluations without a hash may have used different data.
        same_data: old.data.sha256.is_some() && old.data.sha256 == new.data.sha256,
        metrics,
    }
}

fn compare_metrics(
    slice: &str,
    old: Option<&Metrics>,
    new: Option<&Metrics>,
    metrics: &mut Vec<ComparedMetric>,
) {
    let none = Metrics::new();
    for (name, old, new) in paired(old.unwrap_or(&none), new.unwrap_or(&none)) {
        let (old, new) = (old.and_then(Value::as_f64), new.and_then(Value::as_f64));
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

pub(crate) fn compare_profiles(old: &Profile, new: &Profile) -> Vec<ComparedFeature> {
    let sections = [
        ("features", &old.features, &new.features),
        ("predictions", &old.predictions, &new.predictions),
    ];
    let mut features = Vec::new();
    for (section, before, after) in sections {
        for (name, old, new) in paired(before, after) {
            features.push(ComparedFeature {
                section,
                name: name.to_owned(),
                old: old.map(FeatureSummary::of),
                new: new.map(FeatureSummary::of),
                psi: old
                    .zip(new)
                    .and_then(|(old, new)| stability_index(old, new)),
            });
        }
    }
    features
}

/// The values of both maps by name: the names of `old` in its order, followed by the names that
/// only `new` has.
fn paired<'a, T>(
    old: &'a IndexMap<String, T>,
    new: &'a IndexMap<String, T>,
) -> impl Iterator<Item = (&'a str, Option<&'a T>, Option<&'a T>)> {
    let added = new.keys().filter(|name| !old.contains_key(*name));
    old.keys()
        .chain(added)
        .map(|name| (name.as_str(), old.get(name), new.get(name)))
}

impl FeatureSummary {
    fn of(feature: &FieldProfile) -> FeatureSummary {
        let median = feature.median().map(|median| format!("{median:.4}"));
        let most_frequent = || feature.most_frequent().unwrap_or_default().to_owned();
        FeatureSummary {
            kind: feature.kind,
            missing: feature.missing_share(),
            middle: median.unwrap_or_else(most_frequent),
        }
    }
}

/// The population stability index. The missing values have their own bin.
fn stability_index(old: &FieldProfile, new: &FieldProfile) -> Option<f64> {
    let bins: Vec<(f64, f64)> = match (&old.categories, &new.categories) {
        // A category that is missing in a profile counts 0 rows.
        (Some(before), Some(after)) => paired(before, after)
            .map(|(_, old, new)| {
                let count = |count: Option<&u64>| count.copied().unwrap_or_default() as f64;
                (count(old), count(new))
            })
            .collect(),
        // A feature that is numeric in one profile and categorical in the other has no common bins.
        (None, None) => numeric_bins(
            old.decile_histogram.as_ref()?,
            new.decile_histogram.as_ref()?,
        ),
        _ => return None,
    };
    // A feature that is null more often has drifted, even if its other values have not.
    let missing = (old.missing as f64, new.missing as f64);
    let bins: Vec<(f64, f64)> = bins
        .into_iter()
        .chain((missing.0 + missing.1 > 0.0).then_some(missing))
        .collect();
    psi(&bins)
}

/// The counts of both profiles in the old profile's bins. If the bins differ, the new profile's
/// values are assumed to be evenly spread within each of its bins.
fn numeric_bins(old: &Histogram, new: &Histogram) -> Vec<(f64, f64)> {
    // Equal bins need no assumption about the values inside.
    if old.edges == new.edges {
        let counts = old.counts.iter().zip(&new.counts);
        return counts
            .map(|(old, new)| (*old as f64, *new as f64))
            .collect();
    }
    let below = |x: f64| -> f64 {
        let bins = new.edges.windows(2).zip(&new.counts);
        bins.map(|(edges, count)| match edges {
            [_, high] if x >= *high => *count as f64,
            [low, high] if x > *low => *count as f64 * (x - low) / (high - low),
            _ => 0.0,
        })
        .sum()
    };
    let total: f64 = new.counts.iter().map(|count| *count as f64).sum();
    let last = old.counts.len().saturating_sub(1);
    let bins = old.edges.windows(2).zip(&old.counts).enumerate();
    bins.map(|(index, (edges, count))| {
        let (low, high) = (
            edges.first().copied().unwrap_or_default(),
            edges.last().copied().unwrap_or_default(),
        );
        // The outermost bins also count the values beyond them.
        let from = if index == 0 { 0.0 } else { below(low) };
        let to = if index == last { total } else { below(high) };
        (*count as f64, (to - from).max(0.0))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        compat::evaluation::{ComparedFeature, compare_evaluations, compare_profiles},
        document::read,
        package::Evaluation,
    };

    fn numeric(edges: &[f64], counts: &[u64], missing: u64) -> Value {
        json!({"features": {"x": {
            "kind": "numeric", "missing": missing, "count": counts.iter().sum::<u64>(), "quantiles": {"0.5": 2.0},
            "decile_histogram": {"edges": edges, "counts": counts},
        }}})
    }

    fn compared(old: &Value, new: &Value) -> Vec<ComparedFeature> {
        compare_profiles(&read(old).unwrap(), &read(new).unwrap())
    }

    fn psi(old: &Value, new: &Value) -> f64 {
        compared(old, new)[0].psi.unwrap()
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
        assert_eq!(compared(&old, &categories(1, 1))[0].psi, None);
    }

    #[test]
    fn metrics_of_both_versions_are_paired() {
        let evaluation = |document: Value| Evaluation::read(document).unwrap();
        let side = |auc: f64, hash: &str| {
            evaluation(
                json!({"data": {"sha256": hash}, "metrics": {"auc": auc, "text": "x"}, "slices": {"plan": {"pro": {"auc": auc / 2.0}}}}),
            )
        };
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
            !compare_evaluations(&evaluation(json!({})), &evaluation(json!({}))).same_data,
            "without hashes the data may differ"
        );
    }
}
