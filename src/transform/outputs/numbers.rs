//! `Numbers`: numeric values of a response field.

/// Numbers in the precision of the graph. A float32 is written with its own shortest digits: as a
/// float64, 0.1 would become 0.10000000149011612.
#[derive(Clone, Debug)]
pub enum Numbers {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Int(Vec<i64>),
    Uint(Vec<u64>),
}

impl Numbers {
    pub fn len(&self) -> usize {
        match self {
            Numbers::F32(values) => values.len(),
            Numbers::F64(values) => values.len(),
            Numbers::Int(values) => values.len(),
            Numbers::Uint(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get_f64(&self, at: usize) -> Option<f64> {
        match self {
            Numbers::F32(values) => values.get(at).map(|value| f64::from(*value)),
            Numbers::F64(values) => values.get(at).copied(),
            Numbers::Int(values) => values.get(at).map(|value| *value as f64),
            Numbers::Uint(values) => values.get(at).map(|value| *value as f64),
        }
    }

    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Numbers::F32(values) => values.iter().map(|x| f64::from(*x)).collect(),
            Numbers::F64(values) => values.clone(),
            Numbers::Int(values) => values.iter().map(|x| *x as f64).collect(),
            Numbers::Uint(values) => values.iter().map(|x| *x as f64).collect(),
        }
    }

    /// Writes one number as JSON. NaN and infinities become null.
    #[inline]
    pub(super) fn write(&self, index: usize, text: &mut Vec<u8>) {
        fn float(x: Option<impl ryu::Float>, is_finite: bool, text: &mut Vec<u8>) {
            // JSON has no NaN and no infinity.
            match x.filter(|_| is_finite) {
                Some(x) => text.extend_from_slice(ryu::Buffer::new().format_finite(x).as_bytes()),
                None => text.extend_from_slice(b"null"),
            }
        }
        fn integer(x: Option<impl itoa::Integer + Default>, text: &mut Vec<u8>) {
            let mut buffer = itoa::Buffer::new();
            text.extend_from_slice(buffer.format(x.unwrap_or_default()).as_bytes());
        }
        match self {
            Numbers::F32(values) => {
                let x = values.get(index).copied();
                float(x, x.is_some_and(f32::is_finite), text);
            }
            Numbers::F64(values) => {
                let x = values.get(index).copied();
                float(x, x.is_some_and(f64::is_finite), text);
            }
            Numbers::Int(values) => integer(values.get(index).copied(), text),
            Numbers::Uint(values) => integer(values.get(index).copied(), text),
        }
    }

    /// The numbers at these indices.
    pub fn pick(&self, indices: impl Iterator<Item = usize>) -> Numbers {
        fn each<T: Copy>(values: &[T], indices: impl Iterator<Item = usize>) -> Vec<T> {
            indices.filter_map(|at| values.get(at).copied()).collect()
        }
        match self {
            Numbers::F32(values) => Numbers::F32(each(values, indices)),
            Numbers::F64(values) => Numbers::F64(each(values, indices)),
            Numbers::Int(values) => Numbers::Int(each(values, indices)),
            Numbers::Uint(values) => Numbers::Uint(each(values, indices)),
        }
    }

    /// Appends numbers of the same type.
    pub(super) fn append(&mut self, other: Numbers) {
        match (self, other) {
            (Numbers::F32(values), Numbers::F32(more)) => values.extend(more),
            (Numbers::F64(values), Numbers::F64(more)) => values.extend(more),
            (Numbers::Int(values), Numbers::Int(more)) => values.extend(more),
            (Numbers::Uint(values), Numbers::Uint(more)) => values.extend(more),
            // All runs of a version have the same types.
            _ => {}
        }
    }
}
