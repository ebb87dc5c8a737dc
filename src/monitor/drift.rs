//! The drift of a version's features: their distribution in a window against the reference.

use std::time::Duration;

use crate::{
    distance,
    monitor::{
        bins::{Bins, Extra},
        feature::{Feature, Section},
    },
};

/// The drift in one window.
pub(crate) struct WindowDrift {
    pub length: Duration,
    /// The time that the counts cover.
    pub covered: Duration,
    /// The number of rows whose inputs were counted.
    pub rows: u64,
    /// The number of rows whose predictions were counted.
    pub predictions: u64,
    pub features: Vec<FeatureDrift>,
}

/// The drift of one feature in one window. Shares are from 0 to 1, distances as in
/// [`distance`](mod@distance). A distance is `None` if the window has no value.
pub(crate) struct FeatureDrift {
    pub name: String,
    pub section: Section,
    /// The number of values, missing ones included.
    pub count: u64,
    pub psi: Option<f64>,
    pub js: Option<f64>,
    /// `None` also for a feature that is not numeric.
    pub ks: Option<f64>,
    pub missing: f64,
    pub reference_missing: f64,
    /// The share of values in categories that the reference does not have.
    pub unseen: f64,
    /// The share of numbers outside of the reference's range.
    pub outside: f64,
    pub bins: Vec<BinShare>,
}

/// The shares of one bin among the values that are not missing.
pub(crate) struct BinShare {
    pub name: String,
    pub reference: f64,
    pub observed: f64,
}

impl FeatureDrift {
    /// `counts`: all counters of the version, in the window.
    pub(super) fn of(feature: &Feature, counts: &[u64]) -> FeatureDrift {
        let count = |index: usize| counts.get(index).copied().unwrap_or_default();
        let bins = feature.bins.len();
        // The counts of the profile may be any. Their sum as integers could overflow.
        let reference: Vec<f64> = feature
            .reference
            .iter()
            .map(|count| *count as f64)
            .collect();
        let reference_rows: f64 = reference.iter().sum();
        let reference_missing = feature.reference_missing as f64;
        let observed: Vec<u64> = (0..bins).map(|bin| count(feature.offset + bin)).collect();
        let [missing, unseen, outside] = [Extra::Missing, Extra::Unseen, Extra::Outside]
            .map(|extra| count(feature.extra(extra)));
        let in_bins: u64 = observed.iter().sum();
        let all = in_bins + unseen + missing;
        let mut pairs: Vec<(f64, f64)> = reference
            .iter()
            .zip(&observed)
            .map(|(reference, observed)| (*reference, *observed as f64))
            .collect();
        let ks = match feature.bins {
            Bins::Numeric { .. } => distance::kolmogorov_smirnov(&pairs),
            // Categories have no order.
            Bins::Categories { .. } | Bins::Booleans => None,
        };
        // Unseen categories and missing values have their own bins.
        let extra = [(0.0, unseen as f64), (reference_missing, missing as f64)];
        pairs.extend(
            extra
                .iter()
                .filter(|(reference, observed)| reference + observed > 0.0),
        );
        let part = |part: f64, whole: f64| part / whole.max(1.0);
        let share = |count: u64, whole: u64| part(count as f64, whole as f64);
        let names = (0..bins).map(|bin| feature.bins.name(bin));
        let shares = reference.iter().zip(&observed).zip(names);
        FeatureDrift {
            name: feature.name.clone(),
            section: feature.section,
            count: all,
            psi: distance::psi(&pairs),
            js: distance::jensen_shannon(&pairs),
            ks,
            missing: share(missing, all),
            reference_missing: part(reference_missing, reference_rows + reference_missing),
            unseen: share(unseen, all),
            outside: share(outside, all),
            bins: shares
                .map(|((reference, observed), name)| BinShare {
                    name,
                    reference: part(*reference, reference_rows),
                    observed: share(*observed, in_bins + unseen),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        document,
        monitor::{drift::FeatureDrift, feature::Feature},
        package::profile::FieldProfile,
    };

    #[test]
    fn a_profile_may_contain_any_counts() {
        let field: FieldProfile = document::read(&json!({
            "kind": "categorical", "count": u64::MAX, "missing": u64::MAX,
            "categories": {"a": u64::MAX, "b": u64::MAX},
        }))
        .unwrap();
        let feature = Feature::of_prediction("x", &field, &mut |_| 0).unwrap();
        let drift = FeatureDrift::of(&feature, &[1, 1, 0, 1, 0]);
        assert_eq!((drift.count, drift.reference_missing), (3, 1.0 / 3.0));
        assert_eq!(drift.bins[0].reference, 0.5);
        assert!(drift.psi.unwrap() < 1e-9);
    }
}
