//! Wire: the elements of tensors as protocols carry them, as JSON text or little-endian bytes; to tensors, and to the
//! JSON text that a schema's decoder reads.

use std::borrow::Cow;

use bytes::Bytes;
use half::{bf16, f16};

use crate::{
    decode::cursor::{Cursor, Kind, SyntaxError},
    schema::{ColumnSpec, columns::ColumnKind},
    tensor::{Buffer, Data, DataType, Dim, Shape, Tensor, signature::TensorSpec},
};

/// Nesting beyond this is no tensor of anybody's.
const MAX_RANK: usize = 32;

/// JSON has no such numbers that anybody would agree on.
const BF16_IS_BINARY: &str = "BF16 must be sent binary";

/// An input of a request, before anybody looked at its elements.
#[derive(Clone, Debug)]
pub struct WireTensor {
    pub name: String,
    /// `None` where the protocol leaves it to the model.
    pub datatype: Option<DataType>,
    /// `None` where the elements' nesting says it.
    pub shape: Option<Vec<usize>>,
    pub elements: Elements,
}

#[derive(Clone, Debug)]
pub enum Elements {
    /// A JSON array, nested or flat.
    Json(Bytes),
    /// Little-endian, row-major; texts each behind their length as 32 bits.
    Raw(Bytes),
    Values(Data),
    Texts(Vec<Bytes>),
}

/// The number of elements of a shape; `None` where it does not fit the machine.
pub fn elements_of(shape: &[usize]) -> Option<usize> {
    // Also where a dimension of 0 would hide it: the library multiplies in another order.
    let product = shape
        .iter()
        .filter(|dim| **dim > 0)
        .try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
    isize::try_from(product).ok()?;
    Some(if shape.contains(&0) { 0 } else { product })
}

impl WireTensor {
    /// The tensor that a graph's input takes.
    pub fn to_tensor(&self, spec: &TensorSpec) -> Result<Tensor, String> {
        if let Some(datatype) = self.datatype.filter(|datatype| *datatype != spec.datatype) {
            return Err(format!(
                "expected {}, given {}",
                signature(spec.datatype, &spec.shape),
                datatype.protocol_name()
            ));
        }
        let misfit = |shape: &[usize]| {
            format!(
                "expected {}, given {shape:?}",
                signature(spec.datatype, &spec.shape)
            )
        };
        if let Some(shape) = self
            .shape
            .as_deref()
            .filter(|shape| !spec.shape.fits(shape))
        {
            return Err(misfit(shape));
        }
        let tensor = match &self.elements {
            Elements::Json(_) if spec.datatype == DataType::Bf16 => {
                return Err(BF16_IS_BINARY.to_owned());
            }
            Elements::Json(text) => {
                let (data, nested) = read_json(text, spec.datatype)?;
                let shape = match &self.shape {
                    Some(shape) => shape.clone(),
                    // A value a row is taken for a row of one value.
                    None if !spec.shape.fits(&nested) && spec.shape.fits(&one_a_row(&nested)) => {
                        one_a_row(&nested)
                    }
                    // No rows at all are no tensor of a form that counts its rows.
                    None if nested.len() > 1 => spec.shape.completed(nested.clone()),
                    None => nested.clone(),
                };
                if self.shape.is_some() {
                    check_nesting(&shape, &nested, data.len())?;
                }
                Tensor::new(shape, data)
            }
            Elements::Raw(bytes) => {
                let shape = self.shape.clone().ok_or("has no shape")?;
                let elements = elements_of(&shape).ok_or("has a shape beyond all memory")?;
                Tensor::new(shape, from_raw(spec.datatype, bytes, elements)?)
            }
            Elements::Values(data) => self.checked(data.clone())?,
            Elements::Texts(texts) => {
                let texts: Result<Vec<String>, String> = texts
                    .iter()
                    .map(|text| utf8(text).map(str::to_owned))
                    .collect();
                self.checked(Data::Bytes(texts?))?
            }
        };
        let tensor = tensor.ok_or("its elements don't fill its shape")?;
        if tensor.datatype() != spec.datatype {
            return Err(format!(
                "expected {}, given {}",
                signature(spec.datatype, &spec.shape),
                tensor.datatype().protocol_name()
            ));
        }
        if spec.shape.fits(tensor.shape()) {
            Ok(tensor)
        } else {
            Err(misfit(tensor.shape()))
        }
    }

    fn checked(&self, data: Data) -> Result<Option<Tensor>, String> {
        let shape = self.shape.clone().ok_or("has no shape")?;
        check_nesting(&shape, &[data.len()], data.len())?;
        Ok(Tensor::new(shape, data))
    }

    /// Rows of a field's tensor: its leading dimension, where the rest is what the field's schema says.
    pub fn rows_of_field(&self, column: &ColumnSpec) -> Result<usize, String> {
        let expected = || format!("expected {}, given", field_signature(column));
        let takes = match (column.kind, self.datatype) {
            (_, None) => true,
            (ColumnKind::Boolean | ColumnKind::BooleanArray, Some(given)) => {
                given == DataType::Bool
            }
            (ColumnKind::Text | ColumnKind::Binary, Some(given)) => given == DataType::Bytes,
            (ColumnKind::Integer | ColumnKind::Number | ColumnKind::Array, Some(given)) => {
                !matches!(given, DataType::Bool | DataType::Bytes)
            }
        };
        if let Some(datatype) = self.datatype.filter(|_| !takes) {
            return Err(format!("{} {}", expected(), datatype.protocol_name()));
        }
        let Some(shape) = &self.shape else {
            let Elements::Json(text) = &self.elements else {
                return Err("has no shape".to_owned());
            };
            return count(utf8(text)?);
        };
        match (column.kind, shape.as_slice()) {
            (kind, [rows, ..]) if kind.is_array() && field_shape(column).fits(shape) => Ok(*rows),
            (ColumnKind::Array | ColumnKind::BooleanArray, _) => {
                Err(format!("{} {shape:?}", expected()))
            }
            (_, [rows] | [rows, 1]) => match self.elements.count()? {
                Some(given) if given != *rows => Err(too_few_or_many(shape, *rows, given)),
                _ => Ok(*rows),
            },
            _ => Err(format!("{} {shape:?}", expected())),
        }
    }

    /// The values of a field as a JSON array, a value a row, for the schema's decoder to judge.
    pub fn to_json(&self, column: &ColumnSpec) -> Result<Cow<'_, str>, String> {
        let is_array = column.kind.is_array();

        let shape = self.shape.as_deref();
        let rows = shape
            .and_then(|shape| shape.first())
            .copied()
            .unwrap_or_default();
        let elements = shape
            .map(|shape| elements_of(shape).ok_or("has a shape beyond all memory"))
            .transpose()?;
        let inner = shape
            .and_then(|shape| shape.get(1..))
            .filter(|_| is_array)
            .unwrap_or_default();
        match &self.elements {
            Elements::Json(_) if self.datatype == Some(DataType::Bf16) => {
                Err(BF16_IS_BINARY.to_owned())
            }
            Elements::Json(text) => {
                let text = utf8(text)?;
                // The field may take more than the datatype under which the caller sends it.
                self.datatype
                    .map_or(Ok(()), |datatype| check_datatype(text, datatype))?;
                match shape {
                    Some([_, _, ..]) if is_array && !is_nested(text) => {
                        let (data, nested) =
                            read_json(text.as_bytes(), field_datatype(column.kind))?;
                        check_nesting(shape.unwrap_or_default(), &nested, data.len())?;
                        Ok(Cow::Owned(numbers_to_json(&data, rows, inner)?))
                    }
                    _ => Ok(Cow::Borrowed(text)),
                }
            }
            Elements::Raw(bytes) if self.datatype == Some(DataType::Bytes) => {
                let texts = split_texts(bytes, elements.unwrap_or(0))?;
                texts_to_json(texts.into_iter(), column.kind).map(Cow::Owned)
            }
            Elements::Raw(bytes) => {
                let datatype = self.datatype.ok_or("has no datatype")?;
                numbers_to_json(
                    &from_raw(datatype, bytes, elements.ok_or("has no shape")?)?,
                    rows,
                    inner,
                )
                .map(Cow::Owned)
            }
            Elements::Values(data) => {
                check_nesting(shape.unwrap_or_default(), &[data.len()], data.len())?;
                numbers_to_json(data, rows, inner).map(Cow::Owned)
            }
            Elements::Texts(texts) => {
                check_nesting(shape.unwrap_or_default(), &[texts.len()], texts.len())?;
                texts_to_json(texts.iter().map(|text| &text[..]), column.kind).map(Cow::Owned)
            }
        }
    }
}

impl Elements {
    /// How many there are, where that is told without their datatype.
    fn count(&self) -> Result<Option<usize>, String> {
        Ok(match self {
            Elements::Json(text) => Some(Leaves::of(utf8(text)?).count()),
            Elements::Raw(_) => None,
            Elements::Values(data) => Some(data.len()),
            Elements::Texts(texts) => Some(texts.len()),
        })
    }
}

fn one_a_row(shape: &[usize]) -> Vec<usize> {
    [shape, &[1]].concat()
}

/// `FP32 [-1, 4]`: what a client is told.
pub fn signature(datatype: DataType, shape: &Shape) -> String {
    format!("{} {shape}", datatype.protocol_name())
}

/// The datatype under which a field is offered.
pub fn field_datatype(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Boolean | ColumnKind::BooleanArray => DataType::Bool,
        ColumnKind::Integer => DataType::Int64,
        ColumnKind::Number | ColumnKind::Array => DataType::Fp64,
        ColumnKind::Text | ColumnKind::Binary => DataType::Bytes,
    }
}

/// The shape under which a field is offered.
pub fn field_shape(column: &ColumnSpec) -> Shape {
    let mut dims = vec![Dim::Any];
    match column.kind {
        kind if kind.is_array() => dims.extend(
            column
                .array_dims
                .iter()
                .map(|dim| dim.map_or(Dim::Any, Dim::Fixed)),
        ),
        _ => dims.push(Dim::Fixed(1)),
    }
    Shape(dims)
}

fn field_signature(column: &ColumnSpec) -> String {
    signature(field_datatype(column.kind), &field_shape(column))
}

/// Flat data fills any shape; nested data must have it.
fn check_nesting(shape: &[usize], nested: &[usize], elements: usize) -> Result<(), String> {
    let wanted = elements_of(shape).ok_or("has a shape beyond all memory")?;
    if wanted != elements {
        return Err(too_few_or_many(shape, wanted, elements));
    }
    // Nesting ends at a dimension of 0.
    let ends = nested.last() == Some(&0) && shape.starts_with(nested);
    if nested.len() > 1 && nested != shape && !ends {
        return Err(format!(
            "shape {shape:?} is given, but the data is nested as {nested:?}"
        ));
    }
    Ok(())
}

fn too_few_or_many(shape: &[usize], wanted: usize, given: usize) -> String {
    format!("shape {shape:?} takes {wanted} elements, given {given}")
}

/// The elements of a JSON array, however it is nested, and where they begin. Only cuts: what is no JSON is told by whoever reads it.
struct Leaves<'a> {
    text: &'a str,
    at: usize,
}

impl Leaves<'_> {
    fn of(text: &str) -> Leaves<'_> {
        Leaves { text, at: 0 }
    }
}

impl<'a> Iterator for Leaves<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<(usize, &'a str)> {
        let bytes = self.text.as_bytes();
        let between = |byte: &u8| matches!(byte, b'[' | b']' | b',' | b' ' | b'\n' | b'\t' | b'\r');
        let start = self.at
            + bytes
                .get(self.at..)?
                .iter()
                .position(|byte| !between(byte))?;
        let rest = bytes.get(start..)?;
        let length = match rest.first()? {
            b'"' | b'{' => length_of_text_or_object(rest),
            _ => rest.iter().position(between).unwrap_or(rest.len()),
        };
        self.at = start + length;
        self.text.get(start..self.at).map(|leaf| (start, leaf))
    }
}

fn length_of_text_or_object(text: &[u8]) -> usize {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && !in_text {
            return at + 1;
        }
    }
    text.len()
}

/// Numbers must be of the datatype that the caller names, also where the field would take others.
fn check_datatype(text: &str, datatype: DataType) -> Result<(), String> {
    // Shorter ones are in range, and are most: only the others are read.
    let (digits, unsigned) = match datatype {
        DataType::Bool | DataType::Bytes | DataType::Bf16 | DataType::Fp64 => return Ok(()),
        DataType::Fp16 | DataType::Int16 => (4, false),
        DataType::Fp32 => (38, false),
        DataType::Int8 => (2, false),
        DataType::Int32 => (9, false),
        DataType::Int64 => (18, false),
        DataType::Uint8 => (2, true),
        DataType::Uint16 => (4, true),
        DataType::Uint32 => (9, true),
        DataType::Uint64 => (19, true),
    };
    let is_float = matches!(datatype, DataType::Fp16 | DataType::Fp32);
    let plain = |byte: u8| byte.is_ascii_digit() || is_float && byte == b'.';
    for (offset, leaf) in Leaves::of(text) {
        let number = leaf.strip_prefix('-').unwrap_or(leaf);
        let signed = number.len() < leaf.len();
        let short = number.len() <= digits && !(signed && unsigned) && number.bytes().all(plain);
        // Null is a value that is left out; what is no number at all is the schema's to judge.
        if short || !number.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let Ok(value) = leaf.parse::<f64>() else {
            continue;
        };
        if read_json(leaf.as_bytes(), datatype).is_err() {
            let element = Reader::over(text).element(offset);
            let detail = match !is_float && value.fract() != 0.0 {
                true => format!("every element must be a whole number; element {element} is not"),
                false => format!("the number at element {element} is out of range"),
            };
            return Err(format!("{detail} (datatype {})", datatype.protocol_name()));
        }
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "must be UTF-8".to_owned())
}

/// Whether an array holds arrays.
fn is_nested(text: &str) -> bool {
    text.trim_ascii_start()
        .strip_prefix('[')
        .is_some_and(|inner| inner.trim_ascii_start().starts_with('['))
}

/// Elements of the outermost array.
fn count(text: &str) -> Result<usize, String> {
    let wrong = |row: usize| move |error: SyntaxError| format!("row {row}: {}", error.detail);
    let mut cursor = Cursor::new(text);
    if cursor.peek().map_err(wrong(0))? != Kind::Array {
        return Err("must be an array".to_owned());
    }
    let mut more = cursor.enter(b']').map_err(wrong(0))?;
    let mut count = 0;
    while more {
        cursor.pass().map_err(wrong(count))?;
        count += 1;
        more = cursor.more(b']').map_err(wrong(count))?;
    }
    Ok(count)
}

/// The elements of a JSON array (or of one bare value), and how they were nested.
pub fn read_json(text: &[u8], datatype: DataType) -> Result<(Data, Vec<usize>), String> {
    let text = utf8(text)?;
    // A number and its comma take two bytes at least.
    let mut reader = Reader::over(text);
    let room = text.len() / 8;
    macro_rules! floats {
        ($convert:expr) => {{
            let mut values = Vec::with_capacity(room);
            reader.all(
                &mut |reader, kind| {
                    let value = match kind {
                        Kind::Null => {
                            reader.cursor.null()?;
                            f64::NAN
                        }
                        Kind::Number => reader.cursor.number()?,
                        _ => return reader.wrong("a number"),
                    };
                    let converted = $convert(value);
                    if converted.is_infinite() {
                        return reader.too_large();
                    }
                    values.push(converted);
                    Ok(())
                },
                datatype,
            )?;
            Buffer::from(values)
        }};
    }
    macro_rules! integers {
        ($type:ty) => {{
            let mut values = Vec::with_capacity(room);
            reader.all(
                &mut |reader, kind| {
                    if kind != Kind::Number {
                        return reader.wrong("a whole number");
                    }
                    let start = reader.cursor.position();
                    let value = reader.cursor.number()?;
                    let exact = std::str::from_utf8(reader.cursor.slice(start))
                        .ok()
                        .and_then(|text| text.parse::<$type>().ok());
                    let whole = value.fract() == 0.0
                        && value >= <$type>::MIN as f64
                        && value < <$type>::MAX as f64 + 1.0;
                    match exact
                        .or((whole && value.abs() <= 9_007_199_254_740_992.0)
                            .then_some(value as $type))
                    {
                        Some(value) => values.push(value),
                        None if value.fract() != 0.0 => return reader.wrong("a whole number"),
                        None => return reader.too_large(),
                    }
                    Ok(())
                },
                datatype,
            )?;
            Buffer::from(values)
        }};
    }
    let data = match datatype {
        DataType::Fp32 => Data::Fp32(floats!(|x: f64| x as f32)),
        DataType::Fp64 => Data::Fp64(floats!(|x: f64| x)),
        DataType::Fp16 => Data::Fp16(floats!(f16::from_f64)),
        DataType::Bf16 => Data::Bf16(floats!(bf16::from_f64)),
        DataType::Int8 => Data::Int8(integers!(i8)),
        DataType::Int16 => Data::Int16(integers!(i16)),
        DataType::Int32 => Data::Int32(integers!(i32)),
        DataType::Int64 => Data::Int64(integers!(i64)),
        DataType::Uint8 => Data::Uint8(integers!(u8)),
        DataType::Uint16 => Data::Uint16(integers!(u16)),
        DataType::Uint32 => Data::Uint32(integers!(u32)),
        DataType::Uint64 => Data::Uint64(integers!(u64)),
        DataType::Bool => {
            let mut values = Vec::new();
            reader.all(
                &mut |reader, kind| {
                    if kind != Kind::Bool {
                        return reader.wrong("true or false");
                    }
                    values.push(reader.cursor.bool()?);
                    Ok(())
                },
                datatype,
            )?;
            Data::Bool(values)
        }
        DataType::Bytes => {
            let mut values = Vec::new();
            reader.all(
                &mut |reader, kind| {
                    values.push(match kind {
                        Kind::String => reader.cursor.string(&mut reader.scratch)?.to_owned(),
                        Kind::Object => reader.b64()?,
                        _ => return reader.wrong("a text"),
                    });
                    Ok(())
                },
                datatype,
            )?;
            Data::Bytes(values)
        }
    };
    Ok((data, reader.nesting.dims))
}

/// How deep the arrays go, and how long they are at each level; found with the first of each.
#[derive(Default)]
struct Nesting {
    dims: Vec<usize>,
    /// The level of the elements, once one was seen.
    rank: Option<usize>,
    /// Where in the outermost array it is read.
    row: usize,
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    scratch: Vec<u8>,
    nesting: Nesting,
}

/// Why the elements are none; with the place where the text breaks off being JSON.
enum Wrong {
    Syntax(SyntaxError),
    Value(String),
}

impl From<SyntaxError> for Wrong {
    fn from(error: SyntaxError) -> Wrong {
        Wrong::Syntax(error)
    }
}

type Leaf<'a, 'f> = &'f mut dyn FnMut(&mut Reader<'a>, Kind) -> Result<(), Wrong>;

impl<'a> Reader<'a> {
    fn over(text: &'a str) -> Reader<'a> {
        Reader {
            cursor: Cursor::new(text),
            scratch: Vec::new(),
            nesting: Nesting::default(),
        }
    }

    fn all(&mut self, leaf: Leaf<'a, '_>, datatype: DataType) -> Result<(), String> {
        let outcome = self.level(0, leaf).and_then(|()| Ok(self.cursor.end()?));
        outcome.map_err(|wrong| match wrong {
            Wrong::Syntax(error) => match self.element(error.offset) {
                element if element.is_empty() => format!("the data is not JSON: {}", error.detail),
                element => format!("element {element}: {}", error.detail),
            },
            Wrong::Value(detail) => format!("{detail} (datatype {})", datatype.protocol_name()),
        })
    }

    fn level(&mut self, depth: usize, leaf: Leaf<'a, '_>) -> Result<(), Wrong> {
        let kind = self.cursor.peek()?;
        if kind != Kind::Array {
            if *self.nesting.rank.get_or_insert(depth) != depth || self.nesting.dims.len() > depth {
                return Err(Wrong::Value(format!(
                    "the data is nested unevenly in row {}",
                    self.nesting.row
                )));
            }
            return leaf(self, kind);
        }
        if self.nesting.rank.is_some_and(|rank| depth >= rank) || depth >= MAX_RANK {
            return Err(Wrong::Value(format!(
                "the data is nested unevenly, or too deeply, in row {}",
                self.nesting.row
            )));
        }
        let mut more = self.cursor.enter(b']')?;
        let mut count = 0;
        let known = self.nesting.dims.get(depth).copied();
        if known.is_none() {
            // Holds the level until its length is known.
            self.nesting.dims.push(usize::MAX);
        }
        while more {
            if depth == 0 {
                self.nesting.row = count;
            }
            self.level(depth + 1, leaf)?;
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
            Some(known) => Err(Wrong::Value(format!(
                "the data is ragged: row {} has {count} values beside {known}",
                self.nesting.row
            ))),
        }
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, Wrong> {
        Err(Wrong::Value(format!(
            "every element must be {expected}; element {} is not",
            self.element(self.cursor.position())
        )))
    }

    fn too_large<T>(&self) -> Result<T, Wrong> {
        Err(Wrong::Value(format!(
            "the number at element {} is out of range",
            self.element(self.cursor.position())
        )))
    }

    /// The indices of the element around this place of the text, `[2][0]`. Looked for only where something is wrong.
    fn element(&self, offset: usize) -> String {
        let before = self
            .cursor
            .whole()
            .as_bytes()
            .get(..offset)
            .unwrap_or_default();
        // `None`: within an object, whose commas count nothing.
        let mut indices: Vec<Option<usize>> = Vec::new();
        let (mut in_text, mut escaped) = (false, false);
        for byte in before {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
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
        indices
            .into_iter()
            .flatten()
            .map(|index| format!("[{index}]"))
            .collect()
    }

    fn b64(&mut self) -> Result<String, Wrong> {
        let wrong = || {
            Wrong::Value("bytes are written {\"b64\": \"...\"}, and must be UTF-8 here".to_owned())
        };
        if !self.cursor.enter(b'}')?
            || self.cursor.key(&mut self.scratch)? != "b64"
            || self.cursor.peek()? != Kind::String
        {
            return Err(wrong());
        }
        let bytes = base64_simd::STANDARD
            .decode_to_vec(self.cursor.string(&mut self.scratch)?)
            .map_err(|_| wrong())?;
        if self.cursor.more(b'}')? {
            return Err(wrong());
        }
        String::from_utf8(bytes).map_err(|_| wrong())
    }
}

/// The elements that lie in `bytes`, numbers as views of them.
pub fn from_raw(datatype: DataType, bytes: &Bytes, elements: usize) -> Result<Data, String> {
    if let Some(size) = datatype.size()
        && elements.checked_mul(size) != Some(bytes.len())
    {
        return Err(format!(
            "takes {elements} elements of {size} bytes, given {} bytes",
            bytes.len()
        ));
    }
    fn view<T: bytemuck::Pod>(bytes: &Bytes, wrap: fn(Buffer<T>) -> Data) -> Result<Data, String> {
        Buffer::from_bytes(bytes.clone())
            .map(wrap)
            .ok_or_else(|| "ends inside an element".to_owned())
    }
    match datatype {
        DataType::Bool => {
            if bytes.iter().any(|byte| *byte > 1) {
                return Err("a BOOL must be 0 or 1".to_owned());
            }
            Ok(Data::Bool(bytes.iter().map(|byte| *byte == 1).collect()))
        }
        DataType::Uint8 => view(bytes, Data::Uint8),
        DataType::Uint16 => view(bytes, Data::Uint16),
        DataType::Uint32 => view(bytes, Data::Uint32),
        DataType::Uint64 => view(bytes, Data::Uint64),
        DataType::Int8 => view(bytes, Data::Int8),
        DataType::Int16 => view(bytes, Data::Int16),
        DataType::Int32 => view(bytes, Data::Int32),
        DataType::Int64 => view(bytes, Data::Int64),
        DataType::Fp16 => view(bytes, Data::Fp16),
        DataType::Bf16 => view(bytes, Data::Bf16),
        DataType::Fp32 => view(bytes, Data::Fp32),
        DataType::Fp64 => view(bytes, Data::Fp64),
        DataType::Bytes => {
            let texts = split_texts(bytes, elements)?;
            texts
                .into_iter()
                .map(|text| utf8(text).map(str::to_owned))
                .collect::<Result<_, _>>()
                .map(Data::Bytes)
        }
    }
}

/// Texts, each behind its length as 32 bits little-endian.
pub fn split_texts(bytes: &[u8], elements: usize) -> Result<Vec<&[u8]>, String> {
    // Each takes four bytes at least.
    if elements > bytes.len() / 4 {
        return Err(format!("ends before its {elements} elements"));
    }
    let mut texts = Vec::with_capacity(elements);
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((text, after)) = after.split_at_checked(length) else {
            return Err(format!(
                "element {} is longer than what is left",
                texts.len()
            ));
        };
        texts.push(text);
        rest = after;
    }
    if !rest.is_empty() {
        return Err("ends inside the length of an element".to_owned());
    }
    if texts.len() != elements {
        return Err(format!("takes {elements} elements, given {}", texts.len()));
    }
    Ok(texts)
}

/// The elements as they lie on the wire.
pub fn to_raw(data: Data) -> Bytes {
    match data {
        Data::Bool(values) => Bytes::from(values.into_iter().map(u8::from).collect::<Vec<u8>>()),
        Data::Uint8(values) => values.into_bytes(),
        Data::Uint16(values) => values.into_bytes(),
        Data::Uint32(values) => values.into_bytes(),
        Data::Uint64(values) => values.into_bytes(),
        Data::Int8(values) => values.into_bytes(),
        Data::Int16(values) => values.into_bytes(),
        Data::Int32(values) => values.into_bytes(),
        Data::Int64(values) => values.into_bytes(),
        Data::Fp16(values) => values.into_bytes(),
        Data::Bf16(values) => values.into_bytes(),
        Data::Fp32(values) => values.into_bytes(),
        Data::Fp64(values) => values.into_bytes(),
        Data::Bytes(texts) => {
            let mut bytes = Vec::with_capacity(texts.iter().map(|text| text.len() + 4).sum());
            for text in texts {
                bytes.extend_from_slice(
                    &u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes(),
                );
                bytes.extend_from_slice(text.as_bytes());
            }
            Bytes::from(bytes)
        }
    }
}

/// Writes one element as JSON; numbers as short as they are, null where JSON has no number for them.
pub fn write_element(data: &Data, index: usize, text: &mut Vec<u8>) {
    macro_rules! float {
        ($values:expr, $convert:expr) => {
            match $values.get(index).map($convert) {
                Some(x) if x.is_finite() => {
                    text.extend_from_slice(ryu::Buffer::new().format_finite(x).as_bytes())
                }
                _ => text.extend_from_slice(b"null"),
            }
        };
    }
    macro_rules! integer {
        ($values:expr) => {
            text.extend_from_slice(
                itoa::Buffer::new()
                    .format($values.get(index).copied().unwrap_or_default())
                    .as_bytes(),
            )
        };
    }
    match data {
        Data::Bool(values) => text.extend_from_slice(if values.get(index) == Some(&true) {
            b"true"
        } else {
            b"false"
        }),
        Data::Uint8(values) => integer!(values),
        Data::Uint16(values) => integer!(values),
        Data::Uint32(values) => integer!(values),
        Data::Uint64(values) => integer!(values),
        Data::Int8(values) => integer!(values),
        Data::Int16(values) => integer!(values),
        Data::Int32(values) => integer!(values),
        Data::Int64(values) => integer!(values),
        Data::Fp16(values) => float!(values, |x| x.to_f32()),
        Data::Bf16(values) => float!(values, |x| x.to_f32()),
        Data::Fp32(values) => float!(values, |x| *x),
        Data::Fp64(values) => float!(values, |x| *x),
        Data::Bytes(values) => {
            // Writing to memory does not fail.
            let _ = serde_json::to_writer(text, values.get(index).map_or("", String::as_str));
        }
    }
}

/// All elements as JSON, with commas between them.
pub fn write_elements(data: &Data, text: &mut Vec<u8>) {
    for index in 0..data.len() {
        if index > 0 {
            text.push(b',');
        }
        write_element(data, index, text);
    }
}

/// Numbers as a JSON array, a value a row; rows of `inner` shape are nested. Floats in double precision, in which the schema judges them.
fn numbers_to_json(data: &Data, rows: usize, inner: &[usize]) -> Result<String, String> {
    let widened = match data {
        Data::Fp16(values) => Some(Data::Fp64(values.iter().map(|x| x.to_f64()).collect())),
        Data::Bf16(values) => Some(Data::Fp64(values.iter().map(|x| x.to_f64()).collect())),
        Data::Fp32(values) => Some(Data::Fp64(values.iter().map(|x| f64::from(*x)).collect())),
        _ => None,
    };
    let data = widened.as_ref().unwrap_or(data);
    match data {
        Data::Bytes(_) => return Err("must be numbers".to_owned()),
        // No number of JSON; NaN is a value that is missing.
        Data::Fp64(values) if values.iter().any(|x| x.is_infinite()) => {
            return Err("infinite numbers are refused".to_owned());
        }
        _ => {}
    }
    let width = elements_of(inner).unwrap_or(0);
    let mut text = Vec::with_capacity(2 + data.len() * 8);
    if width == 0 {
        // No row has an element, and every row is there.
        write_nested(&[&[rows], inner].concat(), 0, &mut text, &mut |_, _| {});
        return String::from_utf8(text).map_err(|_| "must be numbers".to_owned());
    }
    text.push(b'[');
    for index in 0..data.len() {
        if index > 0 {
            text.push(b',');
        }
        open(&mut text, inner, index, width);
        write_element(data, index, &mut text);
        close(&mut text, inner, index, width);
    }
    text.push(b']');
    String::from_utf8(text).map_err(|_| "must be numbers".to_owned())
}

/// The brackets that open before the element at `index`, where each row is nested as `inner`.
fn open(text: &mut Vec<u8>, inner: &[usize], index: usize, width: usize) {
    let mut span = width;
    for dim in inner {
        if span > 0 && index.is_multiple_of(span) {
            text.push(b'[');
        }
        span = span.checked_div(*dim).unwrap_or(0);
    }
}

fn close(text: &mut Vec<u8>, inner: &[usize], index: usize, width: usize) {
    let mut span = width;
    for dim in inner {
        if span > 0 && (index + 1).is_multiple_of(span) {
            text.push(b']');
        }
        span = span.checked_div(*dim).unwrap_or(0);
    }
}

/// Texts as a JSON array; bytes as base64, as a schema has them.
fn texts_to_json<'a>(
    texts: impl Iterator<Item = &'a [u8]>,
    kind: ColumnKind,
) -> Result<String, String> {
    let mut text = String::from("[");
    for (index, bytes) in texts.enumerate() {
        if index > 0 {
            text.push(',');
        }
        if kind == ColumnKind::Binary {
            text.push('"');
            base64_simd::STANDARD.encode_append(bytes, &mut text);
            text.push('"');
        } else {
            let value = serde_json::to_string(utf8(bytes)?).map_err(|error| error.to_string())?;
            text.push_str(&value);
        }
    }
    text.push(']');
    Ok(text)
}

/// Values from `start` on as JSON, nested as `shape` says.
pub fn write_nested(
    shape: &[usize],
    start: usize,
    text: &mut Vec<u8>,
    write: &mut dyn FnMut(usize, &mut Vec<u8>),
) {
    let Some((length, inner)) = shape.split_first() else {
        return write(start, text);
    };
    let step: usize = inner.iter().product();
    text.push(b'[');
    for index in 0..*length {
        if index > 0 {
            text.push(b',');
        }
        write_nested(inner, start + index * step, text, write);
    }
    text.push(b']');
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use crate::{
        decode::elements::{
            Elements, WireTensor, check_datatype, from_raw, numbers_to_json, read_json,
            split_texts, to_raw,
        },
        tensor::{Data, DataType, Dim, Shape, signature::TensorSpec},
    };

    fn read(text: &str, datatype: DataType) -> Result<(Data, Vec<usize>), String> {
        read_json(text.as_bytes(), datatype)
    }

    #[test]
    fn nested_and_flat_data_are_read() {
        assert_eq!(
            read("[1, 2.5, null]", DataType::Fp32)
                .map(|(data, shape)| (data.len(), shape))
                .unwrap(),
            (3, vec![3])
        );
        assert_eq!(
            read("[[1,2],[3,4],[5,6]]", DataType::Int8).unwrap(),
            (Data::Int8(vec![1, 2, 3, 4, 5, 6].into()), vec![3, 2])
        );
        assert_eq!(
            read("7", DataType::Uint64).unwrap(),
            (Data::Uint64(vec![7].into()), vec![])
        );
        assert_eq!(
            read("[]", DataType::Bool).unwrap(),
            (Data::Bool(vec![]), vec![0])
        );
        assert_eq!(read("[[],[]]", DataType::Fp64).unwrap().1, vec![2, 0]);
        assert_eq!(
            read(r#"["a", {"b64": "w6k="}]"#, DataType::Bytes)
                .unwrap()
                .0,
            Data::Bytes(vec!["a".into(), "é".into()])
        );
        let exact = read("[18446744073709551615, 9007199254740993]", DataType::Uint64)
            .unwrap()
            .0;
        assert_eq!(
            exact,
            Data::Uint64(vec![u64::MAX, 9_007_199_254_740_993].into())
        );
        assert_eq!(
            read("[2.0, 1e2]", DataType::Int16).unwrap().0,
            Data::Int16(vec![2, 100].into())
        );
    }

    #[test]
    fn what_is_no_tensor_is_refused() {
        let cases = [
            (
                "[[1,2],[3]]",
                DataType::Fp32,
                "ragged: row 1 has 1 values beside 2",
            ),
            (
                "[[[1],[2]],[[3],[4,5]]]",
                DataType::Fp32,
                "ragged: row 1 has 2 values beside 1",
            ),
            (
                "[1,[2]]",
                DataType::Fp32,
                "unevenly, or too deeply, in row 1",
            ),
            ("[[1],2]", DataType::Fp32, "unevenly"),
            ("[[],1]", DataType::Fp32, "unevenly"),
            ("[\"1\"]", DataType::Fp32, "a number"),
            (
                "[\"],\\\"[\", 1]",
                DataType::Bytes,
                "a text; element [1] is not",
            ),
            (
                "[[{\"b64\": \"YQ==\"}, 2]]",
                DataType::Bytes,
                "a text; element [0][1] is not",
            ),
            (
                "[1e39]",
                DataType::Fp32,
                "number at element [0] is out of range",
            ),
            ("[1e999]", DataType::Fp64, "too large"),
            ("[65505e10]", DataType::Fp16, "out of range"),
            ("[128]", DataType::Int8, "out of range"),
            ("[-1]", DataType::Uint8, "out of range"),
            ("[1.5]", DataType::Int64, "whole"),
            ("[null]", DataType::Int64, "whole"),
            ("[1]", DataType::Bool, "true or false"),
            ("[1]", DataType::Bytes, "a text"),
            (
                "[0, NaN]",
                DataType::Fp32,
                "element [1]: NaN and Infinity do not exist in JSON (send null for",
            ),
            ("[[1,2],[\n3", DataType::Fp32, "element [1][0]: "),
            ("[1] 2", DataType::Fp32, "not JSON"),
        ];
        for (text, datatype, expected) in cases {
            let error = read(text, datatype).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(read(&"[".repeat(100_000), DataType::Fp32).is_err());
    }

    #[test]
    fn numbers_are_of_the_datatype_that_is_named() {
        let check = |text, datatype| check_datatype(text, datatype);
        for (text, datatype) in [
            ("[3, -3, 1e2, 2.0, null]", DataType::Int64),
            (
                "[[9223372036854775807], [-9223372036854775808]]",
                DataType::Int64,
            ),
            ("[18446744073709551615]", DataType::Uint64),
            ("[127, -128]", DataType::Int8),
            (
                "[0.1, 1e38, -340282346638528859811704183484516925440]",
                DataType::Fp32,
            ),
            ("[65504, -0.5]", DataType::Fp16),
            ("[1e308]", DataType::Fp64),
            ("[\"3.5\", {\"b64\": \"3.5\"}, true]", DataType::Int64),
            ("[]", DataType::Int8),
        ] {
            assert_eq!(check(text, datatype), Ok(()), "{text}");
        }
        for (text, datatype, expected) in [
            (
                "[3, 3.5]",
                DataType::Int64,
                "every element must be a whole number; element [1] is not (datatype INT64)",
            ),
            (
                "[[1, 2], [3, 1e-1]]",
                DataType::Uint8,
                "element [1][1] is not (datatype UINT8)",
            ),
            (
                "[9223372036854775808]",
                DataType::Int64,
                "element [0] is out of range",
            ),
            ("[128]", DataType::Int8, "out of range"),
            (
                "[1, -129]",
                DataType::Int8,
                "element [1] is out of range (datatype INT8)",
            ),
            ("[-1]", DataType::Uint64, "out of range"),
            ("[4294967296]", DataType::Uint32, "out of range"),
            (
                "[\"],\", 1e39]",
                DataType::Fp32,
                "element [1] is out of range",
            ),
            ("[65536]", DataType::Fp16, "out of range"),
        ] {
            let error = check(text, datatype).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    /// With the body read to where its data is aligned, no byte of a binary input is copied before the session reads it.
    #[test]
    fn binary_data_reaches_the_tensor_where_it_lies() {
        let whole = Bytes::from(vec![0u8; 4096]);
        let start = (64 - whole.as_ptr().addr() % 64) % 64;
        let data = whole.slice(start..start + 1024);
        let spec = TensorSpec {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: Shape(vec![Dim::Any, Dim::Fixed(4)]),
        };
        let given = WireTensor {
            name: "x".to_owned(),
            datatype: Some(DataType::Fp32),
            shape: Some(vec![64, 4]),
            elements: Elements::Raw(data.clone()),
        };
        let tensor = given.to_tensor(&spec).unwrap();
        let Data::Fp32(values) = tensor.data() else {
            panic!("not FP32")
        };
        assert_eq!(values.as_ptr().cast::<u8>(), data.as_ptr());
        // And back: what the graph gave goes out as it lies.
        assert_eq!(to_raw(tensor.into_parts().1).as_ptr(), data.as_ptr());
    }

    #[test]
    fn raw_elements_are_counted() {
        let four = Bytes::from_static(&[0, 0, 128, 63]);
        assert_eq!(
            from_raw(DataType::Fp32, &four, 1).unwrap(),
            Data::Fp32(vec![1.0].into())
        );
        assert!(from_raw(DataType::Fp32, &four, 2).is_err());
        assert!(from_raw(DataType::Fp64, &four, usize::MAX).is_err());
        assert!(
            from_raw(DataType::Bool, &four, 4)
                .unwrap_err()
                .contains("0 or 1")
        );
        assert!(split_texts(&[2, 0, 0, 0, b'a'], 1).is_err());
        assert!(split_texts(&[0, 0, 0, 0, 0], 1).is_err());
        assert!(split_texts(&[], usize::MAX).is_err());
        assert!(
            from_raw(DataType::Bytes, &Bytes::from_static(&[1, 0, 0, 0, 0xff]), 1)
                .unwrap_err()
                .contains("UTF-8")
        );
    }

    #[test]
    fn rows_are_nested_as_their_field() {
        let data = Data::Fp64((0..8).map(f64::from).collect::<Vec<_>>().into());
        assert_eq!(
            numbers_to_json(&data, 2, &[2, 2]).unwrap(),
            "[[[0.0,1.0],[2.0,3.0]],[[4.0,5.0],[6.0,7.0]]]"
        );
        assert_eq!(
            numbers_to_json(&data, 2, &[4]).unwrap(),
            "[[0.0,1.0,2.0,3.0],[4.0,5.0,6.0,7.0]]"
        );
        let flags = Data::Bool(vec![true, false, false, true]);
        assert_eq!(
            numbers_to_json(&flags, 2, &[2]).unwrap(),
            "[[true,false],[false,true]]"
        );
        let none = Data::Fp32(Vec::new().into());
        assert_eq!(numbers_to_json(&none, 2, &[0, 4]).unwrap(), "[[],[]]");
        assert_eq!(
            numbers_to_json(&none, 2, &[2, 0]).unwrap(),
            "[[[],[]],[[],[]]]"
        );
        let missing = Data::Fp32(vec![f32::NAN, 1.5].into());
        assert_eq!(numbers_to_json(&missing, 2, &[]).unwrap(), "[null,1.5]");
        assert!(numbers_to_json(&Data::Fp32(vec![f32::INFINITY].into()), 1, &[]).is_err());
    }

    proptest! {
        #[test]
        fn raw_and_back(texts in prop::collection::vec(".{0,9}", 0..9), numbers in prop::collection::vec(any::<i32>(), 0..9)) {
            let data = Data::Bytes(texts.clone());
            prop_assert_eq!(&from_raw(DataType::Bytes, &to_raw(data.clone()), texts.len()).unwrap(), &data);
            let data = Data::Int32(numbers.clone().into());
            prop_assert_eq!(&from_raw(DataType::Int32, &to_raw(data.clone()), numbers.len()).unwrap(), &data);
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..64), elements in any::<usize>()) {
            for datatype in [DataType::Fp32, DataType::Int64, DataType::Bool, DataType::Bytes] {
                let _ = read_json(&bytes, datatype);
                let _ = from_raw(datatype, &Bytes::from(bytes.clone()), elements);
            }
        }
    }
}
