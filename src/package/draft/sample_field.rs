//! `SampleField`: the values of one field in the rows of a sample.

use serde_json::{Value, json};

use crate::{schema::formats, transform::image};

pub(super) struct SampleField<'a> {
    pub name: &'a str,
    /// The values that are not null, in the order of the rows.
    pub values: Vec<&'a Value>,
    /// Whether the field is null or missing in some row.
    pub nullable: bool,
    /// Whether every row has the field, with a value or null.
    pub in_every_row: bool,
}

/// The common kind of all values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    Text,
    Boolean,
    Number,
    Array,
    /// An image in base64. The image steps do not read all its formats.
    Image,
    Mixed,
}

impl SampleField<'_> {
    pub(super) fn kind(&self) -> FieldKind {
        // Images are checked first, because they are strings, too.
        if self.all(|value| media_type(value).is_some()) {
            FieldKind::Image
        } else if self.all(Value::is_string) {
            FieldKind::Text
        } else if self.all(Value::is_boolean) {
            FieldKind::Boolean
        } else if self.all(Value::is_number) {
            FieldKind::Number
        } else if self.all(Value::is_array) {
            FieldKind::Array
        } else {
            FieldKind::Mixed
        }
    }

    /// The media types of the images, each once.
    pub(super) fn media_types(&self) -> Vec<&'static str> {
        let mut types: Vec<&str> = self
            .values
            .iter()
            .filter_map(|value| media_type(value))
            .collect();
        types.sort_unstable();
        types.dedup();
        types
    }

    fn all(&self, holds: impl Fn(&Value) -> bool) -> bool {
        self.values.iter().all(|value| holds(value))
    }

    /// The first value that is not a whole number. `None` if all are whole.
    pub(super) fn fraction(&self) -> Option<&Value> {
        self.values
            .iter()
            .copied()
            .find(|value| value.as_f64().is_some_and(|value| value.fract() != 0.0))
    }

    /// Whether all values are dates in ISO 8601, with or without a time.
    pub(super) fn is_date(&self) -> bool {
        self.all(|value| {
            value
                .as_str()
                .is_some_and(|text| formats::moment(text).is_some())
        })
    }

    /// The different values, sorted like in scikit-learn's encoders.
    pub(super) fn categories(&self) -> Vec<Value> {
        let mut categories: Vec<&Value> = self.values.clone();
        categories.sort_by(|a, b| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => a.as_str().cmp(&b.as_str()),
        });
        // 1 and 1.0 are the same category.
        categories.dedup_by(|a, b| {
            if a.is_number() {
                a.as_f64() == b.as_f64()
            } else {
                a == b
            }
        });
        categories.into_iter().cloned().collect()
    }

    /// `{"type": KIND}`, with null if the field is nullable.
    pub(super) fn type_schema(&self, kind: &str) -> Value {
        json!({"type": if self.nullable { json!([kind, "null"]) } else { json!(kind) }})
    }
}

/// Number of base64 characters that contain the signature of every image format.
const SIGNATURE_LENGTH: usize = 64;

/// The media type of an image in base64. Bitmaps are not recognised: their signature has only two
/// bytes, and strings such as "Qk0x" begin with it.
pub(super) fn media_type(value: &Value) -> Option<&'static str> {
    let text = value.as_str()?;
    let head = text.get(..text.len().min(SIGNATURE_LENGTH) / 4 * 4)?;
    let bytes = base64_simd::STANDARD.decode_to_vec(head).ok()?;
    image::media_type(&bytes)
        .filter(|media_type| media_type.starts_with("image/") && *media_type != "image/bmp")
}

/// Maximum length of a string that is shown in the schema or on a terminal.
const MAX_EXAMPLE_LENGTH: usize = 2048;

/// Maximum width and height of an example image. Most image models crop to a smaller size.
const MAX_EXAMPLE_SIDE: u32 = 512;

/// Whether a value is a text that is too long for a schema.
pub(super) fn is_long(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.len() > MAX_EXAMPLE_LENGTH)
}

/// An instance for the schema's `examples`, and the fields in which a uniform grey image replaces a
/// long one.
pub(super) fn example(row: &Value) -> (Value, Vec<String>) {
    let mut example = row.clone();
    let mut replaced = Vec::new();
    for (name, value) in example.as_object_mut().into_iter().flatten() {
        let Some(text) = value.as_str().filter(|_| is_long(value)) else {
            continue;
        };
        let Some(short) =
            media_type(value).and_then(|media_type| grey_replacement(text, media_type))
        else {
            continue;
        };
        *value = Value::String(short);
        replaced.push(name.clone());
    }
    (example, replaced)
}

/// A uniform grey image of the same format. It has the same size, up to a limit.
fn grey_replacement(text: &str, media_type: &str) -> Option<String> {
    let (width, height) = image::size(&base64_simd::STANDARD.decode_to_vec(text).ok()?)?;
    let scale = (f64::from(MAX_EXAMPLE_SIDE) / f64::from(width.max(height).max(1))).min(1.0);
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    image::grey_image(media_type, side(width), side(height))
        .filter(|short| short.len() < text.len())
}

/// The lengths of the first list at each depth.
pub(super) fn dims(value: &Value) -> Vec<usize> {
    let mut dims = Vec::new();
    let mut at = Some(value);
    while let Some(Value::Array(items)) = at {
        dims.push(items.len());
        at = items.first();
    }
    dims
}

/// All values of a list and of the lists in it.
pub(super) fn leaves(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(leaves).collect(),
        value => vec![value],
    }
}
