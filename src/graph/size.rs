//! `Size`: how long a dimension is, as a product of a number, of the number of rows, and of sizes that all rows of a run share.

/// Longer products are no shapes.
const MAX_SYMBOLS: usize = 32;

/// `factor * rows^power * symbols`; a symbol is a size of its own that does not depend on the number of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    pub factor: u64,
    pub rows: u32,
    /// Sorted; one that stands twice is squared.
    symbols: Vec<u32>,
}

impl Size {
    pub const ROWS: Size = Size {
        factor: 1,
        rows: 1,
        symbols: Vec::new(),
    };

    pub fn fixed(factor: u64) -> Size {
        Size {
            factor,
            rows: 0,
            symbols: Vec::new(),
        }
    }

    pub fn symbol(symbol: u32) -> Size {
        Size {
            factor: 1,
            rows: 0,
            symbols: vec![symbol],
        }
    }

    pub fn is_one(&self) -> bool {
        *self == Size::fixed(1)
    }

    /// Depends on the number of rows.
    pub fn counts(&self) -> bool {
        self.rows > 0
    }

    pub fn as_fixed(&self) -> Option<u64> {
        (self.rows == 0 && self.symbols.is_empty()).then_some(self.factor)
    }

    /// `None` where it can't be told: a graph that squares a size again and again would fill the memory.
    pub fn times(&self, other: &Size) -> Option<Size> {
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

    /// The quotient where it is whole whatever the symbols stand for.
    pub fn over(&self, other: &Size) -> Option<Size> {
        if other.factor == 0 || !self.factor.is_multiple_of(other.factor) {
            return None;
        }
        let mut symbols = self.symbols.clone();
        for symbol in &other.symbols {
            symbols.remove(symbols.binary_search(symbol).ok()?);
        }
        Some(Size {
            factor: self.factor / other.factor,
            rows: self.rows.checked_sub(other.rows)?,
            symbols,
        })
    }

    pub fn product<'a>(sizes: impl IntoIterator<Item = &'a Size>) -> Option<Size> {
        sizes
            .into_iter()
            .try_fold(Size::fixed(1), |product, size| product.times(size))
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::size::Size;

    #[test]
    fn products_divide_where_they_are_whole() {
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
    fn a_size_squared_again_and_again_is_given_up() {
        let squared = (0..64).try_fold(Size::symbol(1), |size, _| size.times(&size));
        assert_eq!(squared, None);
    }
}
