//! JSON objects whose members keep their order and their original text.

use std::{collections::HashSet, fmt, marker::PhantomData};

use bytes::Bytes;
use serde::de::{
    self, Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer,
};
use serde_json::value::RawValue;

use crate::{
    decode::json_error::{JsonFault, without_place, without_values},
    schema::fault::shorten,
};

/// Up to this number of names, comparing all of them is faster than hashing.
pub(super) const FEW_NAMES: usize = 16;

/// Why a JSON object of a request is refused. The messages contain no values of the request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonObjectError {
    #[error("the body is not a request")]
    Body(#[source] JsonFault),
    #[error("the member \"{name}\"")]
    Member {
        name: String,
        #[source]
        fault: JsonFault,
    },
}

/// The members of an object in their order. A duplicate name is an error.
pub(super) struct ObjectMembers<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for ObjectMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMembers<'a>, D::Error> {
        deserializer
            .deserialize_map(MembersVisitor)
            .map(ObjectMembers)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(String, &'de RawValue)> = Vec::new();
        let mut names: HashSet<String> = HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            // serde_json would silently keep the last of two members with the same name.
            let occurred = match members.len() {
                ..FEW_NAMES => members.iter().any(|(known, _)| *known == name),
                // The names are collected in a set once they are no longer few.
                FEW_NAMES => {
                    names.extend(members.iter().map(|(known, _)| known.clone()));
                    !names.insert(name.clone())
                }
                _ => !names.insert(name.clone()),
            };
            if occurred {
                return Err(de::Error::custom(format!(
                    "the member \"{}\" occurs twice",
                    shorten(&name)
                )));
            }
            members.push((name, value));
        }
        Ok(members)
    }
}

impl ObjectMembers<'_> {
    /// The members, with their values as slices of the original `text`.
    fn into_slices(self, text: &Bytes) -> Vec<(String, Bytes)> {
        self.0
            .into_iter()
            // A slice shares the memory of the body, so large tensors are not copied.
            .map(|(name, value)| (name, text.slice_ref(value.get().as_bytes())))
            .collect()
    }
}

/// A value that must be an object in JSON. Serde alone also accepts a list of the values of its
/// members.
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// The members of the object that is the body of a request, with the original text of their values.
pub(crate) fn members(text: &Bytes) -> Result<Vec<(String, Bytes)>, JsonObjectError> {
    let members: ObjectMembers<'_> = serde_json::from_slice(text)
        .map_err(|error| JsonObjectError::Body(without_values(&error, text)))?;
    Ok(members.into_slices(text))
}

/// The members of the object that is the value of the member `name` of a request.
pub(crate) fn members_of(
    text: &Bytes,
    name: &str,
) -> Result<Vec<(String, Bytes)>, JsonObjectError> {
    let members: ObjectMembers<'_> =
        serde_json::from_slice(text).map_err(|error| JsonObjectError::Member {
            name: name.to_owned(),
            fault: without_place(&error, text),
        })?;
    Ok(members.into_slices(text))
}
