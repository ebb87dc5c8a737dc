//! The envelope `{"instances": [...], "id": "..."}`, or one instance without it.

use crate::{
    decode::{
        cursor::JsonKind,
        decoder::{Abort, DecodeResult, DecodeStep, Decoder},
    },
    schema::fault::shorten,
};

/// Longest `id` of a request, in characters. The id goes to the response and to the log.
const MAX_ID: usize = 128;

impl Decoder<'_> {
    /// Decodes a whole body. Returns the request id, and whether the body was one instance.
    pub(super) fn request(&mut self) -> DecodeResult<(Option<String>, bool)> {
        if self.cursor.peek()? != JsonKind::Object {
            return Err(Abort::Request(
                "the body must be an object: {\"instances\": [...]} or one instance".to_owned(),
            ));
        }
        let start = self.cursor.position();
        // The body is read as one instance until an unknown member `instances` shows that it is an
        // envelope. The second pass starts from the beginning, because members have no fixed order.
        self.watch_for_envelope = true;
        let outcome = self.instance();
        self.watch_for_envelope = false;
        match outcome {
            Ok(()) => {
                self.cursor.end()?;
                Ok((None, true))
            }
            Err(Abort::Envelope) => {
                self.cursor.rewind(start);
                self.clear();
                self.envelope().map(|id| (id, false))
            }
            Err(stop) => Err(stop),
        }
    }

    fn envelope(&mut self) -> DecodeResult<Option<String>> {
        let (mut id, mut instances) = (None, false);
        let mut more = self.cursor.enter(b'}')?;
        self.path.push(DecodeStep::Name("instances"));
        while more {
            let mut scratch = std::mem::take(&mut self.scratch);
            let key = self.cursor.key(&mut scratch)?.to_owned();
            self.scratch = scratch;
            match key.as_str() {
                "instances" if !instances => {
                    instances = true;
                    self.instances()?;
                }
                "id" if id.is_none() => id = Some(self.id()?),
                "instances" | "id" => {
                    return Err(Abort::Request(format!("the member \"{key}\" occurs twice")));
                }
                _ => {
                    return Err(Abort::Request(format!(
                        "unknown member \"{}\" of the request; known are instances and id",
                        shorten(&key)
                    )));
                }
            }
            more = self.cursor.more(b'}')?;
        }
        self.path.clear();
        self.cursor.end()?;
        if !instances {
            return Err(Abort::Request(
                "the request has no member \"instances\"".to_owned(),
            ));
        }
        Ok(id)
    }

    fn id(&mut self) -> DecodeResult<String> {
        if self.cursor.peek()? != JsonKind::String {
            return Err(Abort::Request(
                "the member \"id\" must be a string".to_owned(),
            ));
        }
        let id = self.cursor.string(&mut self.scratch)?;
        if id.chars().count() > MAX_ID {
            return Err(Abort::Request(format!(
                "the member \"id\" may have at most {MAX_ID} characters"
            )));
        }
        Ok(id.to_owned())
    }

    fn instances(&mut self) -> DecodeResult<()> {
        if self.cursor.peek()? != JsonKind::Array {
            return Err(Abort::Request(
                "the member \"instances\" must be an array".to_owned(),
            ));
        }
        let mut more = self.cursor.enter(b']')?;
        if !more {
            return Err(Abort::Request(
                "the member \"instances\" is empty; send at least one instance".to_owned(),
            ));
        }
        let mut index = 0;
        while more {
            if index == self.limits.max_instances {
                return Err(Abort::Request(format!(
                    "more than {} instances in one request",
                    self.limits.max_instances
                )));
            }
            self.path.push(DecodeStep::Index(index));
            self.instance()?;
            self.path.pop();
            index += 1;
            more = self.cursor.more(b']')?;
        }
        Ok(())
    }

    pub(super) fn instance(&mut self) -> DecodeResult<()> {
        let schema = self.schema;
        self.value(&schema.root)?;
        self.columns.rows += 1;
        Ok(())
    }
}
