//! `Size`: the size of a dimension, as a product of a number, the number of rows, and unknown
//! sizes.

use std::cell::Cell;

/// Maximum number of symbols in a product. Longer products do not occur in shapes. The limit bounds
/// the memory for a hostile graph.
const MAX_SYMBOLS: usize = 32;

/// A size: `factor * number_of_rows^rows * symbols`. A symbol is an unknown size that does not
/// depend on the number of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub factor: u64,
    pub rows: u32,
    /// The symbols in ascending order. A symbol that occurs twice is squared.
    symbols: Vec<u32>,
}

impl Size {
    pub(crate) const ROWS: Size = Size {
        factor: 1,
        rows: 1,
        symbols: Vec::new(),
    };

    pub(crate) fn fixed(factor: u64) -> Size {
        Size {
            factor,
            rows: 0,
            symbols: Vec::new(),
        }
    }

    pub(crate) fn symbol(symbol: u32) -> Size {
        Size {
            factor: 1,
            rows: 0,
            symbols: vec![symbol],
        }
    }

    pub(crate) fn is_one(&self) -> bool {
        *self == Size::fixed(1)
    }

    /// Whether the size depends on the number of rows.
    pub(crate) fn depends_on_rows(&self) -> bool {
        self.rows > 0
    }

    pub(crate) fn as_fixed(&self) -> Option<u64> {
        (self.rows == 0 && self.symbols.is_empty()).then_some(self.factor)
    }

    /// The product of two sizes. `None` means that it is too large: a graph could square a size
    /// again and again.
    pub(crate) fn times(&self, other: &Size) -> Option<Size> {
        // A product concatenates the symbols of both factors, so each squaring doubles their
        // number.
        if self.symbols.len() + other.symbols.len() > MAX_SYMBOLS {
            return None;
        }
        let mut symbols = [self.symbols.as_slice(), other.symbols.as_slice()].concat();
        symbols.sort_unstable();
        Some(Size {
            factor: self.factor.checked_mul(other.factor)?,
            rows: self.rows.checked_add(other.rows)?,
            symbols,
        })
    }

    /// The quotient of two sizes. `None` if it is not whole for some values of the symbols.
    pub(crate) fn over(&self, other: &Size) -> Option<Size> {
        // The quotient must be whole, because it is a dimension.
        if other.factor == 0 || !self.factor.is_multiple_of(other.factor) {
            return None;
        }
        let mut symbols = self.symbols.clone();
        for symbol in &other.symbols {
            // If the symbol is missing here, the quotient could be a fraction.
            symbols.remove(symbols.binary_search(symbol).ok()?);
        }
        Some(Size {
            factor: self.factor / other.factor,
            rows: self.rows.checked_sub(other.rows)?,
            symbols,
        })
    }

    pub(crate) fn product<'a>(sizes: impl IntoIterator<Item = &'a Size>) -> Option<Size> {
        sizes
            .into_iter()
            .try_fold(Size::fixed(1), |product, size| product.times(size))
    }
}

/// Creates unknown sizes. Each has a new symbol.
#[derive(Default)]
pub(super) struct UnknownSizes {
    next_symbol: Cell<u32>,
}

impl UnknownSizes {
    /// A new unknown size that does not depend on the number of rows.
    pub(super) fn fresh(&self) -> Size {
        let symbol = self.next_symbol.get();
        self.next_symbol.set(symbol + 1);
        Size::symbol(symbol)
    }

    /// Returns `rank` new unknown sizes.
    pub(super) fn fresh_dims(&self, rank: usize) -> Vec<Size> {
        (0..rank).map(|_| self.fresh()).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::size::Size;

    #[test]
    fn products_divide_only_if_the_quotient_is_whole() {
        let s = Size::symbol(7);
        let all = Size::product([&Size::ROWS, &s, &Size::fixed(12)]).unwrap();
        assert_eq!(
            all.over(&Size::fixed(4)),
            Size::product([&Size::ROWS, &s, &Size::fixed(3)])
        );
        assert_eq!(all.over(&Size::fixed(5)), None);
        assert_eq!(all.over(&Size::symbol(8)), None);
        assert_eq!(all.over(&all), Some(Size::fixed(1)));
        assert_eq!(Size::fixed(3).over(&Size::ROWS), None);
    }

    #[test]
    fn a_size_that_is_squared_repeatedly_is_not_computed() {
        let squared = (0..64).try_fold(Size::symbol(1), |size, _| size.times(&size));
        assert_eq!(squared, None);
    }
}
