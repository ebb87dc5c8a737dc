//! What a sample's rows say of their fields.

use serde_json::{Value, json};

use crate::{schema::formats, transform::image};

/// What the sample says of one field.
pub(super) struct SampleField<'a> {
    pub name: &'a str,
    /// The values that are there, in the order of the rows.
    pub values: Vec<&'a Value>,
    pub nullable: bool,
    /// Every row has it, null or not.
    pub everywhere: bool,
}

/// What all values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Boolean,
    Number,
    Array,
    /// An image in base64, of a format that the image steps may not read.
    Image,
    Mixed,
}

/// The fields in the order in which the rows show them.
pub(super) fn fields(rows: &[Value]) -> Result<Vec<SampleField<'_>>, String> {
    let mut fields: Vec<SampleField<'_>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let members = row
            .as_object()
            .ok_or_else(|| format!("row {} of the sample is no JSON object", index + 1))?;
        for (name, value) in members {
            let at = match fields.iter().position(|field| field.name == name) {
                Some(at) => at,
                None => {
                    fields.push(SampleField {
                        name,
                        values: Vec::new(),
                        nullable: false,
                        everywhere: true,
                    });
                    fields.len() - 1
                }
            };
            if let Some(field) = fields.get_mut(at) {
                if value.is_null() {
                    field.nullable = true
                } else {
                    field.values.push(value)
                }
            }
        }
    }
    for field in &mut fields {
        field.everywhere = rows.iter().all(|row| row.get(field.name).is_some());
        field.nullable |= !field.everywhere;
    }
    match fields.iter().find(|field| field.values.is_empty()) {
        Some(empty) => Err(format!(
            "field \"{}\" is null in every row of the sample; give a row with a value",
            empty.name
        )),
        None => Ok(fields),
    }
}

impl SampleField<'_> {
    pub fn kind(&self) -> Kind {
        if self.all(|value| media_type(value).is_some()) {
            Kind::Image
        } else if self.all(Value::is_string) {
            Kind::Text
        } else if self.all(Value::is_boolean) {
            Kind::Boolean
        } else if self.all(Value::is_number) {
            Kind::Number
        } else if self.all(Value::is_array) {
            Kind::Array
        } else {
            Kind::Mixed
        }
    }

    /// The media types of the images, each once.
    pub fn media_types(&self) -> Vec<&'static str> {
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

    /// A number among the values that is not whole.
    pub fn fraction(&self) -> Option<&Value> {
        self.values
            .iter()
            .copied()
            .find(|value| value.as_f64().is_some_and(|value| value.fract() != 0.0))
    }

    /// Dates as ISO 8601 writes them, perhaps with a time.
    pub fn is_date(&self) -> bool {
        self.all(|value| {
            value
                .as_str()
                .is_some_and(|text| formats::moment(text).is_some())
        })
    }

    /// The different values, sorted as scikit-learn's encoders sort them.
    pub fn categories(&self) -> Vec<Value> {
        let mut categories: Vec<&Value> = self.values.clone();
        categories.sort_by(|a, b| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => a.as_str().cmp(&b.as_str()),
        });
        categories.dedup_by(|a, b| {
            if a.is_number() {
                a.as_f64() == b.as_f64()
            } else {
                a == b
            }
        });
        categories.into_iter().cloned().collect()
    }

    /// `{"type": KIND}`, or null where a row had none.
    pub fn typed(&self, kind: &str) -> Value {
        json!({"type": if self.nullable { json!([kind, "null"]) } else { json!(kind) }})
    }
}

/// Base64 in which every image format shows what it is.
const HEAD: usize = 64;

/// The media type of a text that is an image in base64. Two bytes are no proof: a text such as "Qk0x" begins like a bitmap.
pub(super) fn media_type(value: &Value) -> Option<&'static str> {
    let text = value.as_str()?;
    let head = text.get(..text.len().min(HEAD) / 4 * 4)?;
    let bytes = base64_simd::STANDARD.decode_to_vec(head).ok()?;
    image::media_type(&bytes)
        .filter(|media_type| media_type.starts_with("image/") && *media_type != "image/bmp")
}

/// Longer texts stay out of the schema and of what a terminal shows.
const MAX_EXAMPLE_LENGTH: usize = 2048;

/// Larger than what most models crop.
const MAX_EXAMPLE_SIDE: u32 = 512;

/// Whether a value is a text that no person reads in a schema.
pub(super) fn is_long(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.len() > MAX_EXAMPLE_LENGTH)
}

/// An instance for the schema's `examples`, with an even grey image in the place of each long one, and the fields where that is so.
pub(super) fn example(row: &Value) -> (Value, Vec<String>) {
    let mut example = row.clone();
    let mut replaced = Vec::new();
    for (name, value) in example.as_object_mut().into_iter().flatten() {
        let Some(text) = value.as_str().filter(|_| is_long(value)) else {
            continue;
        };
        let Some(short) = media_type(value).and_then(|media_type| shorten(text, media_type)) else {
            continue;
        };
        *value = Value::String(short);
        replaced.push(name.clone());
    }
    (example, replaced)
}

/// An even grey image of the same format and, up to a limit, of the same size.
fn shorten(text: &str, media_type: &str) -> Option<String> {
    let (width, height) = image::size(&base64_simd::STANDARD.decode_to_vec(text).ok()?)?;
    let scale = (f64::from(MAX_EXAMPLE_SIDE) / f64::from(width.max(height).max(1))).min(1.0);
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    image::grey_image(media_type, side(width), side(height))
        .filter(|short| short.len() < text.len())
}

/// Lengths of the first list, the first list in it, and so on.
pub(super) fn dims(value: &Value) -> Vec<usize> {
    let mut dims = Vec::new();
    let mut at = Some(value);
    while let Some(Value::Array(items)) = at {
        dims.push(items.len());
        at = items.first();
    }
    dims
}

/// The values of a list and of the lists in it.
pub(super) fn leaves(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(leaves).collect(),
        value => vec![value],
    }
}
