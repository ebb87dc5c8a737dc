//! The reader of serde for a parsed document. It checks the type of each value before serde's
//! derived code gets it.

use serde::{
    Deserializer, de,
    de::{
        DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
    },
};
use serde_json::{Map, Value};

use crate::document::error::{DocumentError, DocumentProblem, Segment, shown};

#[derive(Clone, Copy)]
pub(super) struct Reader<'de>(pub(super) &'de Value);

impl<'de> Reader<'de> {
    fn wrong<T>(self, expected: &str) -> Result<T, DocumentError> {
        Err(DocumentError::at_root(DocumentProblem::WrongValue {
            expected: expected.to_owned(),
            found: shown(self.0),
        }))
    }

    fn object(self) -> Result<&'de Map<String, Value>, DocumentError> {
        self.0
            .as_object()
            .map_or_else(|| self.wrong("an object"), Ok)
    }

    fn array(self) -> Result<&'de Vec<Value>, DocumentError> {
        self.0.as_array().map_or_else(|| self.wrong("an array"), Ok)
    }

    fn visit_object<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        visitor.visit_map(ObjectEntries {
            members: self.object()?.iter(),
            value: None,
        })
    }

    fn visit_array<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        visitor.visit_seq(ArrayElements {
            elements: self.array()?.iter().enumerate(),
        })
    }

    fn visit_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::String(text) => visitor.visit_borrowed_str(text),
            _ => self.wrong("a string"),
        }
    }
}

/// Reads whole numbers of one type, and rejects the others with the type's range.
macro_rules! whole_numbers {
    ($($method:ident, $visit:ident, $type:ty, $convert:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
            match self.0.$convert().and_then(|number| <$type>::try_from(number).ok()) {
                Some(number) => visitor.$visit(number),
                None if <$type>::BITS == 64 && <$type>::MIN == 0 => {
                    self.wrong("a whole number that is not negative")
                }
                None if <$type>::BITS == 64 => self.wrong("a whole number"),
                None => self.wrong(&format!(
                    "a whole number from {} to {}",
                    <$type>::MIN,
                    <$type>::MAX
                )),
            }
        }
    )*};
}

macro_rules! strings {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
            self.visit_string(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = DocumentError;

    whole_numbers! {
        deserialize_u8, visit_u8, u8, as_u64;
        deserialize_u16, visit_u16, u16, as_u64;
        deserialize_u32, visit_u32, u32, as_u64;
        deserialize_u64, visit_u64, u64, as_u64;
        deserialize_i8, visit_i8, i8, as_i64;
        deserialize_i16, visit_i16, i16, as_i64;
        deserialize_i32, visit_i32, i32, as_i64;
        deserialize_i64, visit_i64, i64, as_i64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, Some(number)) => visitor.visit_f64(number),
                _ => self.wrong("a number"),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(_) => self.visit_array(visitor),
            Value::Object(_) => self.visit_object(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => self.wrong("true or false"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0.as_f64() {
            Some(number) => visitor.visit_f64(number),
            None => self.wrong("a number"),
        }
    }

    strings! { deserialize_char deserialize_str deserialize_string deserialize_identifier }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            _ => self.wrong("null"),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        self.visit_array(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        match self.array()?.len() {
            found if found == length => self.visit_array(visitor),
            _ => self.wrong(&format!("an array of {length} values")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        self.visit_object(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        self.visit_object(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        let only = |members: &'de Map<String, Value>| {
            let (name, content) = members.iter().next().filter(|_| members.len() == 1)?;
            Some(ChoiceReader {
                name,
                content: Some(Reader(content)),
            })
        };
        let variant = match self.0 {
            Value::String(name) => Some(ChoiceReader {
                name,
                content: None,
            }),
            Value::Object(members) => only(members),
            _ => None,
        };
        match variant {
            Some(variant) => visitor.visit_enum(variant),
            None => self.wrong(&format!(
                "a name, or an object with one member; the names are: {}",
                known.join(", ")
            )),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 bytes byte_buf unit_struct tuple_struct }
}

struct ObjectEntries<'de> {
    members: serde_json::map::Iter<'de>,
    value: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for ObjectEntries<'de> {
    type Error = DocumentError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DocumentError> {
        let Some((name, value)) = self.members.next() else {
            return Ok(None);
        };
        self.value = Some((name, value));
        seed.deserialize(NameReader(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DocumentError> {
        let (name, value) = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("a value was read before its name"))?;
        seed.deserialize(Reader(value))
            .map_err(|error| error.inside(Segment::Member(name.to_owned())))
    }
}

/// The name of a member. A map may have numbers as its keys: JSON writes them as strings.
struct NameReader<'de>(&'de str);

macro_rules! number_names {
    ($($method:ident, $visit:ident, $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
            match self.0.parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Reader(&Value::from(self.0)).wrong("a whole number as the name"),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for NameReader<'de> {
    type Error = DocumentError;

    number_names! {
        deserialize_u8, visit_u8, u8;
        deserialize_u16, visit_u16, u16;
        deserialize_u32, visit_u32, u32;
        deserialize_u64, visit_u64, u64;
        deserialize_i8, visit_i8, i8;
        deserialize_i16, visit_i16, i16;
        deserialize_i32, visit_i32, i32;
        deserialize_i64, visit_i64, i64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        self.0
            .into_deserializer()
            .deserialize_enum(name, known, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct ArrayElements<'de> {
    elements: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
}

impl<'de> SeqAccess<'de> for ArrayElements<'de> {
    type Error = DocumentError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DocumentError> {
        let Some((index, value)) = self.elements.next() else {
            return Ok(None);
        };
        seed.deserialize(Reader(value))
            .map(Some)
            .map_err(|error| error.inside(Segment::Index(index)))
    }
}

/// A choice of an enum: its name, and what belongs to it.
struct ChoiceReader<'de> {
    name: &'de str,
    content: Option<Reader<'de>>,
}

impl<'de> ChoiceReader<'de> {
    /// Reads the content.
    fn read<T>(
        self,
        read: impl FnOnce(Reader<'de>) -> Result<T, DocumentError>,
    ) -> Result<T, DocumentError> {
        let name = self.name;
        let Some(content) = self.content else {
            let text = format!("\"{name}\" requires an object with its settings");
            return Err(de::Error::custom(text));
        };
        read(content).map_err(|error| error.inside(Segment::Member(name.to_owned())))
    }
}

impl<'de> EnumAccess<'de> for ChoiceReader<'de> {
    type Error = DocumentError;
    type Variant = ChoiceReader<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, ChoiceReader<'de>), DocumentError> {
        let name: de::value::StrDeserializer<'_, DocumentError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for ChoiceReader<'de> {
    type Error = DocumentError;

    fn unit_variant(self) -> Result<(), DocumentError> {
        match self.content {
            None | Some(Reader(Value::Null)) => Ok(()),
            Some(_) => {
                let text = format!("\"{}\" has no settings: write only its name", self.name);
                Err(de::Error::custom(text))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DocumentError> {
        self.read(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        self.read(|content| content.deserialize_tuple(length, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        self.read(|content| content.visit_object(visitor))
    }
}
