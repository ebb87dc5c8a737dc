//! `CategoryEncoding`: converts a category or a date to numbers.

use std::collections::HashMap;

use crate::transform::{date_parts::DateParts, steps::UnknownCategory};

/// Distinct categories in their order.
#[derive(Clone, Debug)]
pub(crate) struct Categories {
    list: Vec<String>,
    /// The index of each category. Empty if there are few categories, because a search in the list
    /// is faster.
    index: HashMap<String, usize>,
}

impl Categories {
    /// Maximum number of categories for which a search in the list is faster than hashing.
    const FEW: usize = 12;

    pub(crate) fn new(list: Vec<String>) -> Categories {
        let index = if list.len() > Categories::FEW {
            list.iter()
                .cloned()
                .enumerate()
                .map(|(at, text)| (text, at))
                .collect()
        } else {
            HashMap::new()
        };
        Categories { list, index }
    }

    #[inline]
    fn find(&self, category: &str) -> Option<usize> {
        if self.index.is_empty() {
            self.list.iter().position(|known| known == category)
        } else {
            self.index.get(category).copied()
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum CategoryEncoding {
    OneHot {
        categories: Categories,
        unknown: UnknownCategory,
    },
    /// One number per category, for ordinal and target encoding. `unknown` is the number for an
    /// unknown category. `None` refuses unknown categories.
    Table {
        categories: Categories,
        values: Vec<f64>,
        unknown: Option<f64>,
    },
    Hash {
        width: usize,
        alternate_sign: bool,
    },
    Dates(DateParts),
}

impl CategoryEncoding {
    /// The number of columns.
    pub(crate) fn width(&self) -> usize {
        match self {
            CategoryEncoding::OneHot { categories, .. } => categories.list.len(),
            CategoryEncoding::Hash { width, .. } => *width,
            CategoryEncoding::Table { .. } => 1,
            CategoryEncoding::Dates(parts) => parts.width(),
        }
    }

    /// Why a value is refused: the keyword of JSON Schema, and the rule.
    pub(crate) fn refusal(&self) -> (&'static str, &'static str) {
        match self {
            CategoryEncoding::Dates(_) => ("format", "must be a date or a date-time"),
            _ => ("enum", "is not a category that this model takes"),
        }
    }

    /// Writes the numbers of one row to `row`, which contains `width` zeros. Returns `false` if the
    /// category is refused.
    pub(crate) fn write(&self, category: Option<&str>, row: &mut [f64]) -> bool {
        match self {
            CategoryEncoding::OneHot {
                categories,
                unknown,
            } => {
                match category
                    .and_then(|category| categories.find(category))
                    .and_then(|at| row.get_mut(at))
                {
                    Some(cell) => *cell = 1.0,
                    None => return *unknown == UnknownCategory::Zeros,
                }
            }
            CategoryEncoding::Table {
                categories,
                values,
                unknown,
            } => {
                match category
                    .and_then(|category| values.get(categories.find(category)?))
                    .copied()
                    .or(*unknown)
                {
                    Some(value) => row.iter_mut().for_each(|cell| *cell = value),
                    None => return false,
                }
            }
            CategoryEncoding::Dates(parts) => return parts.write(category, row),
            CategoryEncoding::Hash {
                width,
                alternate_sign,
            } => {
                // For FeatureHasher, a missing value is an empty document, which gives only zeros.
                let Some(category) = category else {
                    return true;
                };
                // Reading from memory does not fail.
                let hash =
                    murmur3::murmur3_32(&mut category.as_bytes(), 0).unwrap_or_default() as i32;
                // FeatureHasher also uses the absolute value as the index.
                let at = hash.unsigned_abs() as usize % width;
                if let Some(cell) = row.get_mut(at) {
                    *cell = if *alternate_sign && hash < 0 {
                        -1.0
                    } else {
                        1.0
                    };
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::steps::CategoryEncoding;

    #[test]
    fn hashing_agrees_with_feature_hasher() {
        // sklearn.utils.murmurhash3_32("foo", seed=0) is -156908512.
        let mut row = [0.0; 10];
        assert!(
            CategoryEncoding::Hash {
                width: 10,
                alternate_sign: true
            }
            .write(Some("foo"), &mut row)
        );
        assert_eq!(row.iter().position(|cell| *cell == -1.0), Some(2));
    }
}
