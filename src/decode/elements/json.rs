//! Reads the elements of a tensor from a JSON array of any nesting.

use half::{bf16, f16};

use crate::{
    decode::{
        cursor::{Cursor, JsonKind, SyntaxError},
        element_index::ElementIndex,
        elements::{ElementFault, TensorError, utf8},
    },
    tensor::{Buffer, Data, DataType},
};

/// Maximum nesting of arrays. The reader recurses, so the limit protects the stack. No model has a
/// tensor of this rank.
const MAX_RANK: usize = 32;

/// 2^53. Every integer up to this value can be represented as a double.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Reads the elements of a JSON array, or one single value. Returns the elements and the dimensions
/// of their nesting.
pub(super) fn read_json(
    text: &[u8],
    datatype: DataType,
) -> Result<(Data, Vec<usize>), TensorError> {
    let mut reader = ElementReader::new(utf8(text)?, datatype);
    let reader = &mut reader;
    let data = match datatype {
        DataType::Fp32 => Data::Fp32(reader.floats(|x| x as f32)?),
        DataType::Fp64 => Data::Fp64(reader.floats(|x| x)?),
        DataType::Fp16 => Data::Fp16(reader.floats(f16::from_f64)?),
        DataType::Bf16 => Data::Bf16(reader.floats(bf16::from_f64)?),
        DataType::Int8 => Data::Int8(reader.integers()?),
        DataType::Int16 => Data::Int16(reader.integers()?),
        DataType::Int32 => Data::Int32(reader.integers()?),
        DataType::Int64 => Data::Int64(reader.integers()?),
        DataType::Uint8 => Data::Uint8(reader.integers()?),
        DataType::Uint16 => Data::Uint16(reader.integers()?),
        DataType::Uint32 => Data::Uint32(reader.integers()?),
        DataType::Uint64 => Data::Uint64(reader.integers()?),
        DataType::Bool => Data::Bool(reader.booleans()?),
        DataType::Bytes => Data::Bytes(reader.strings()?),
    };
    Ok((data, std::mem::take(&mut reader.nesting.dims)))
}

/// The indices of the element at this offset of a text. The function scans the text, so it is
/// called only for errors.
pub(super) fn element_at(text: &str, offset: usize) -> ElementIndex {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    // The index in each open array; `None` for an open object, whose commas do not count.
    let mut indices: Vec<Option<usize>> = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for byte in before {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' => indices.push(Some(0)),
            b'{' => indices.push(None),
            b']' | b'}' => drop(indices.pop()),
            b',' => {
                if let Some(Some(index)) = indices.last_mut() {
                    *index += 1;
                }
            }
            _ => {}
        }
    }
    ElementIndex(indices.into_iter().flatten().collect())
}

/// The nesting of the arrays that were read. The first array of each level determines the length of
/// that level.
#[derive(Default)]
struct Nesting {
    dims: Vec<usize>,
    /// The level of the elements. `None` before the first element.
    rank: Option<usize>,
    /// The current index in the outermost array.
    row: usize,
}

struct ElementReader<'a> {
    cursor: Cursor<'a>,
    datatype: DataType,
    scratch: Vec<u8>,
    nesting: Nesting,
}

enum ElementError {
    Syntax(SyntaxError),
    /// Boxed, because every element is read with a `Result` of this type.
    Fault(Box<ElementFault>),
}

impl From<SyntaxError> for ElementError {
    fn from(error: SyntaxError) -> ElementError {
        ElementError::Syntax(error)
    }
}

impl From<ElementFault> for ElementError {
    fn from(fault: ElementFault) -> ElementError {
        ElementError::Fault(Box::new(fault))
    }
}

/// A float datatype, as the target of a conversion that may overflow.
trait Float: Copy {
    fn is_infinite(self) -> bool;
}

macro_rules! float {
    ($($type:ty),*) => {
        $(impl Float for $type {
            #[inline]
            fn is_infinite(self) -> bool {
                <$type>::is_infinite(self)
            }
        })*
    };
}

float!(f32, f64, f16, bf16);

/// An integer datatype.
trait Integer: Copy + std::str::FromStr {
    /// The integer that is equal to a whole double. `None` if it is out of range, or beyond 2^53,
    /// where one double represents several integers.
    fn from_whole(value: f64) -> Option<Self>;
}

macro_rules! integer {
    ($($type:ty),*) => {
        $(impl Integer for $type {
            #[inline]
            fn from_whole(value: f64) -> Option<$type> {
                // MAX itself may be rounded up to a double, so the comparison uses the first double
                // above the range.
                let in_range = value >= <$type>::MIN as f64 && value < <$type>::MAX as f64 + 1.0;
                (value.fract() == 0.0 && in_range && value.abs() <= MAX_EXACT_INTEGER)
                    .then_some(value as $type)
            }
        })*
    };
}

integer!(i8, i16, i32, i64, u8, u16, u32, u64);

/// Reads one element whose JSON kind is known.
type ReadElement<'a, 'f> =
    &'f mut dyn FnMut(&mut ElementReader<'a>, JsonKind) -> Result<(), ElementError>;

impl<'a> ElementReader<'a> {
    fn new(text: &'a str, datatype: DataType) -> ElementReader<'a> {
        ElementReader {
            cursor: Cursor::new(text),
            datatype,
            scratch: Vec::new(),
            nesting: Nesting::default(),
        }
    }

    /// An estimate of the number of elements. A number of common precision and its comma take about
    /// eight bytes. A low estimate costs reallocations, and a high estimate costs memory.
    fn expected_elements(&self) -> usize {
        self.cursor.whole().len() / 8
    }

    fn floats<T: Float>(&mut self, convert: impl Fn(f64) -> T) -> Result<Buffer<T>, TensorError>
    where
        Buffer<T>: From<Vec<T>>,
    {
        let mut values = Vec::with_capacity(self.expected_elements());
        self.read_all(&mut |reader, kind| {
            let value = match kind {
                // JSON has no NaN. Null is the usual notation, and this server also writes NaN as
                // null.
                JsonKind::Null => {
                    reader.cursor.null()?;
                    f64::NAN
                }
                JsonKind::Number => reader.cursor.number()?,
                _ => return reader.wrong_type("a number"),
            };
            let converted = convert(value);
            // JSON has no infinity, so the conversion overflowed.
            if converted.is_infinite() {
                return reader.out_of_range();
            }
            values.push(converted);
            Ok(())
        })?;
        Ok(Buffer::from(values))
    }

    fn integers<T: Integer>(&mut self) -> Result<Buffer<T>, TensorError>
    where
        Buffer<T>: From<Vec<T>>,
    {
        let mut values = Vec::with_capacity(self.expected_elements());
        self.read_all(&mut |reader, kind| {
            if kind != JsonKind::Number {
                return reader.wrong_type("a whole number");
            }
            let start = reader.cursor.position();
            let value = reader.cursor.number()?;
            // Digits are parsed as an integer, because a double would round them. `2.0` and `1e3`
            // are parsed as a double.
            let exact = std::str::from_utf8(reader.cursor.slice(start))
                .ok()
                .and_then(|text| text.parse::<T>().ok());
            match exact.or_else(|| T::from_whole(value)) {
                Some(value) => values.push(value),
                None if value.fract() != 0.0 => return reader.wrong_type("a whole number"),
                None => return reader.out_of_range(),
            }
            Ok(())
        })?;
        Ok(Buffer::from(values))
    }

    fn booleans(&mut self) -> Result<Vec<bool>, TensorError> {
        let mut values = Vec::new();
        self.read_all(&mut |reader, kind| {
            if kind != JsonKind::Bool {
                return reader.wrong_type("true or false");
            }
            values.push(reader.cursor.bool()?);
            Ok(())
        })?;
        Ok(values)
    }

    fn strings(&mut self) -> Result<Vec<String>, TensorError> {
        let mut values = Vec::new();
        self.read_all(&mut |reader, kind| {
            values.push(match kind {
                JsonKind::String => reader.cursor.string(&mut reader.scratch)?.to_owned(),
                JsonKind::Object => reader.base64()?,
                _ => return reader.wrong_type("a string"),
            });
            Ok(())
        })?;
        Ok(values)
    }

    /// Reads the whole text.
    fn read_all(&mut self, read_element: ReadElement<'a, '_>) -> Result<(), TensorError> {
        let outcome = self
            .read_level(0, read_element)
            .and_then(|()| Ok(self.cursor.end()?));
        outcome.map_err(|error| match error {
            ElementError::Syntax(SyntaxError { offset, detail }) => {
                match element_at(self.cursor.whole(), offset) {
                    element if element.0.is_empty() => TensorError::NotJson { detail },
                    element => TensorError::NotJsonAt { element, detail },
                }
            }
            ElementError::Fault(fault) => TensorError::Element {
                fault: *fault,
                datatype: self.datatype,
            },
        })
    }

    /// Reads an element, or an array of the level `depth` with all its contents.
    fn read_level(
        &mut self,
        depth: usize,
        read_element: ReadElement<'a, '_>,
    ) -> Result<(), ElementError> {
        let kind = self.cursor.peek()?;
        let row = self.nesting.row;
        if kind != JsonKind::Array {
            let rank = *self.nesting.rank.get_or_insert(depth);
            if rank != depth || self.nesting.dims.len() > depth {
                return Err(ElementFault::Uneven { row }.into());
            }
            return read_element(self, kind);
        }
        if self.nesting.rank.is_some_and(|rank| depth >= rank) || depth >= MAX_RANK {
            return Err(ElementFault::UnevenOrTooDeep { row }.into());
        }
        let mut more = self.cursor.enter(b']')?;
        let mut count = 0;
        let known = self.nesting.dims.get(depth).copied();
        if known.is_none() {
            // Reserves the entry of this level before deeper levels push theirs. The length is
            // written at the end.
            self.nesting.dims.push(usize::MAX);
        }
        while more {
            if depth == 0 {
                self.nesting.row = count;
            }
            self.read_level(depth + 1, read_element)?;
            count += 1;
            more = self.cursor.more(b']')?;
        }
        match known {
            None => {
                if let Some(dim) = self.nesting.dims.get_mut(depth) {
                    *dim = count;
                }
                Ok(())
            }
            Some(known) if known == count => Ok(()),
            Some(known) => Err(ElementFault::Ragged {
                row: self.nesting.row,
                given: count,
                expected: known,
            }
            .into()),
        }
    }

    #[cold]
    fn wrong_type<T>(&self, expected: &'static str) -> Result<T, ElementError> {
        let element = element_at(self.cursor.whole(), self.cursor.position());
        Err(ElementFault::WrongType { expected, element }.into())
    }

    #[cold]
    fn out_of_range<T>(&self) -> Result<T, ElementError> {
        let element = element_at(self.cursor.whole(), self.cursor.position());
        Err(ElementFault::OutOfRange { element }.into())
    }

    /// Reads `{"b64": "..."}`.
    fn base64(&mut self) -> Result<String, ElementError> {
        let malformed = || ElementError::from(ElementFault::Base64);
        if !self.cursor.enter(b'}')?
            || self.cursor.key(&mut self.scratch)? != "b64"
            || self.cursor.peek()? != JsonKind::String
        {
            return Err(malformed());
        }
        let bytes = base64_simd::STANDARD
            .decode_to_vec(self.cursor.string(&mut self.scratch)?)
            .map_err(|_| malformed())?;
        if self.cursor.more(b'}')? {
            return Err(malformed());
        }
        String::from_utf8(bytes).map_err(|_| malformed())
    }
}
