//! `Bins`: the bins of a feature, and the bin of a value.

use std::collections::HashMap;

use crate::package::profile::{FieldProfile, Histogram, ProfileKind};

/// The bins of a feature. Counters of a feature: one for each bin, then those of `Extra`.
pub(crate) enum Bins {
    Numeric {
        /// The limits between the bins, ascending. A bin contains its lower limit.
        limits: Box<[f64]>,
        /// The smallest and the largest value of the reference.
        range: (f64, f64),
    },
    Categories {
        names: Vec<String>,
        index: HashMap<Box<[u8]>, usize>,
    },
    /// false, true.
    Booleans,
}

/// The counters that a feature has in addition to those of its bins, by their order.
#[derive(Clone, Copy)]
pub(super) enum Extra {
    /// Values of a category that the reference does not have.
    Unseen,
    Missing,
    /// Numbers outside of the range of the reference. They count in the outermost bins, too.
    Outside,
}

/// The number of counters beyond those of the bins.
pub(super) const EXTRA: usize = 3;

impl Bins {
    /// The bins of a field of the profile, and its counts in them. `None` if the profile has no
    /// distribution of the field.
    pub(super) fn of(field: &FieldProfile) -> Option<(Bins, Vec<u64>)> {
        match field.kind {
            ProfileKind::Numeric => {
                let Histogram { edges, counts } = field.decile_histogram.as_ref()?;
                let (first, last) = (*edges.first()?, *edges.last()?);
                let inner = edges.get(1..edges.len().saturating_sub(1))?;
                let bins = Bins::Numeric {
                    limits: inner.into(),
                    range: (first, last),
                };
                Some((bins, counts.clone()))
            }
            ProfileKind::Categorical => {
                let categories = field.categories.as_ref()?;
                let names: Vec<String> = categories.keys().cloned().collect();
                let index = names.iter().enumerate();
                let index = index.map(|(at, name)| (name.as_bytes().into(), at));
                let bins = Bins::Categories {
                    index: index.collect(),
                    names: names.clone(),
                };
                Some((bins, categories.values().copied().collect()))
            }
            ProfileKind::Boolean => {
                let categories = field.categories.as_ref()?;
                let count = |name: &str| categories.get(name).copied().unwrap_or_default();
                Some((Bins::Booleans, vec![count("false"), count("true")]))
            }
        }
    }

    /// The number of bins.
    pub(super) fn len(&self) -> usize {
        match self {
            Bins::Numeric { limits, .. } => limits.len() + 1,
            Bins::Categories { names, .. } => names.len(),
            Bins::Booleans => 2,
        }
    }

    /// The bin of a number, and whether the number is outside of the reference's range. `None` for
    /// a feature without numbers.
    pub(super) fn of_number(&self, value: f64) -> Option<(usize, bool)> {
        let Bins::Numeric { limits, range } = self else {
            return None;
        };
        let bin = limits.partition_point(|limit| *limit <= value);
        Some((bin, value < range.0 || value > range.1))
    }

    /// The bin of a category. `None` for a category that the reference does not have.
    pub(super) fn of_category(&self, value: &[u8]) -> Option<usize> {
        match self {
            Bins::Categories { index, .. } => index.get(value).copied(),
            Bins::Numeric { .. } | Bins::Booleans => None,
        }
    }

    /// The name of a bin for people: a category, or a range of numbers.
    pub(super) fn name(&self, bin: usize) -> String {
        match self {
            Bins::Categories { names, .. } => names.get(bin).cloned().unwrap_or_default(),
            Bins::Booleans => (bin == 1).to_string(),
            Bins::Numeric { limits, .. } => {
                let below = bin.checked_sub(1).and_then(|bin| limits.get(bin));
                match (below, limits.get(bin)) {
                    (None, None) => "any".to_owned(),
                    (None, Some(high)) => format!("below {high}"),
                    (Some(low), None) => format!("from {low}"),
                    (Some(low), Some(high)) => format!("{low} to {high}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{document, monitor::bins::Bins, package::profile::FieldProfile};

    #[test]
    fn a_bin_contains_its_lower_limit_and_the_outermost_bins_all_values_beyond() {
        let field: FieldProfile = document::read(&json!({
            "kind": "numeric", "count": 4,
            "decile_histogram": {"edges": [0.0, 1.0, 5.0], "counts": [1, 3]},
        }))
        .unwrap();
        let (bins, counts) = Bins::of(&field).unwrap();
        assert_eq!((bins.len(), counts), (2, vec![1, 3]));
        for (value, bin, outside) in [
            (-1.0, 0, true),
            (0.0, 0, false),
            (0.999, 0, false),
            (1.0, 1, false),
            (5.0, 1, false),
            (5.1, 1, true),
            (f64::INFINITY, 1, true),
        ] {
            assert_eq!(bins.of_number(value), Some((bin, outside)), "{value}");
        }
        assert_eq!([bins.name(0), bins.name(1)], ["below 1", "from 1"]);
    }

    #[test]
    fn a_category_of_the_reference_has_a_bin() {
        let field: FieldProfile = document::read(&json!({
            "kind": "categorical", "count": 3, "categories": {"a": 1, "b": 2},
        }))
        .unwrap();
        let (bins, counts) = Bins::of(&field).unwrap();
        assert_eq!(counts, [1, 2]);
        assert_eq!(
            [b"a", b"b", b"c"].map(|name| bins.of_category(name)),
            [Some(0), Some(1), None]
        );
    }
}
