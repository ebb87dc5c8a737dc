//! Request bodies of the dialects with rows: an object whose members contain `instances`, `inputs`
//! or tensors.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    api::{
        http::{
            dialect::ParsedRequest,
            v2::{self, request::HttpInferRequest},
        },
        refusal::Refusal,
    },
    decode::{
        elements::{Elements, WireTensor},
        json_object,
        json_rows::JsonRows,
        row_origin::RowOrigin,
    },
    error::text_with_sources,
    predict::Input,
};

/// The data of a request. Its layout decides the layout of the response.
pub(super) enum RequestData {
    Rows(Input),
    Columns(Input),
    /// Tensors of the Open Inference Protocol in a request of another dialect.
    Tensors(HttpInferRequest),
}

/// The layout of a response.
pub(super) enum ResponseLayout {
    /// One prediction per row.
    Rows,
    /// One array per output, with the values of all rows.
    Columns,
    /// The layout of the Open Inference Protocol.
    Tensors(v2::V2ResponseOptions),
}

impl RequestData {
    /// Creates the request. The caller turns the response layout into the options of its dialect.
    pub(super) fn into_request<O>(
        self,
        options: impl FnOnce(ResponseLayout) -> O,
    ) -> ParsedRequest<O> {
        match self {
            RequestData::Rows(input) => ParsedRequest::new(input, options(ResponseLayout::Rows)),
            RequestData::Columns(input) => {
                ParsedRequest::new(input, options(ResponseLayout::Columns))
            }
            RequestData::Tensors(request) => {
                v2::into_request(request, |tensors| options(ResponseLayout::Tensors(tensors)))
            }
        }
    }
}

/// The members of a JSON object. Their values are not parsed.
pub(super) struct RequestMembers {
    members: Vec<(String, Bytes)>,
    whole: Bytes,
}

impl RequestMembers {
    pub(super) fn read(body: &Bytes) -> Result<RequestMembers, Refusal> {
        let members = json_object::members(body)
            .map_err(|error| Refusal::malformed(text_with_sources(&error)))?;
        Ok(RequestMembers {
            members,
            whole: body.clone(),
        })
    }

    /// Reads the object in the member `name`. Returns its members, or `None` if there is no such
    /// member.
    pub(super) fn inner(&self, name: &str) -> Result<Option<RequestMembers>, Refusal> {
        let read = |text: &Bytes| match json_object::members_of(text, name) {
            Ok(members) => Ok(RequestMembers {
                members,
                whole: text.clone(),
            }),
            Err(error) => Err(Refusal::malformed(text_with_sources(&error))),
        };
        self.get(name).map(read).transpose()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Bytes> {
        self.members
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// Returns the one name of `names` that is a member, or `None`. Returns an error if there are
    /// two, because it is unknown which one contains the data.
    pub(super) fn only<'a>(&self, names: &[&'a str]) -> Result<Option<&'a str>, Refusal> {
        let mut given = names.iter().filter(|name| self.get(name).is_some());
        match (given.next(), given.next()) {
            (Some(one), None) => Ok(Some(one)),
            (None, _) => Ok(None),
            (Some(one), Some(other)) => Err(Refusal::malformed(format!(
                "the request has both \"{one}\" and \"{other}\"; send one"
            ))),
        }
    }

    /// Reads the member `instances`: an array of rows.
    pub(super) fn instances(&self) -> Result<RequestData, Refusal> {
        let text = self.get("instances").cloned().unwrap_or_default();
        // The value is not parsed. Its first byte shows whether it is an array.
        if text.first() != Some(&b'[') {
            return Err(Refusal::malformed(
                "the member \"instances\" must be an array",
            ));
        }
        Ok(RequestData::Rows(Input::Rows(JsonRows {
            text,
            names: None,
            frame: false,
            origin: RowOrigin::Instances,
        })))
    }

    /// Reads the member `inputs`: an object of columns, the values of the only input, or tensors of
    /// the Open Inference Protocol.
    pub(super) fn inputs(&self) -> Result<RequestData, Refusal> {
        let text = self.get("inputs").cloned().unwrap_or_default();
        let column = |name: String, text: Bytes| WireTensor {
            name,
            datatype: None,
            shape: None,
            elements: Elements::Json(text),
        };
        match text.first() {
            Some(b'{') => {
                let members = json_object::members_of(&text, "inputs")
                    .map_err(|error| Refusal::malformed(text_with_sources(&error)))?;
                let columns = members
                    .into_iter()
                    .map(|(name, text)| column(name, text))
                    .collect();
                Ok(RequestData::Columns(Input::Tensors(columns)))
            }
            // Two protocols call this member "inputs". The members of the first element show
            // whether it contains tensors.
            Some(b'[') if are_tensors(&text) => {
                v2::request::read(&self.whole, None).map(RequestData::Tensors)
            }
            // An input without a name means the only input of the model.
            _ => Ok(RequestData::Columns(Input::Tensors(vec![column(
                String::new(),
                text,
            )]))),
        }
    }
}

/// Whether the array contains only objects with a name, a shape and a datatype.
fn are_tensors(text: &[u8]) -> bool {
    let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(text) else {
        return false;
    };
    let is_tensor = |item: &&RawValue| {
        let members = json_object::members(&Bytes::copy_from_slice(item.get().as_bytes()))
            .unwrap_or_default();
        ["name", "shape", "datatype"]
            .iter()
            .all(|wanted| members.iter().any(|(name, _)| name == wanted))
    };
    // An empty array contains the values of the only input.
    !items.is_empty() && items.iter().all(is_tensor)
}
