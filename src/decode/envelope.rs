//! Decodes the envelope `{"instances": [...], "id": "..."}`, or one instance without it.

use crate::{
    decode::{
        cursor::JsonKind,
        decoder::{DecodeAbort, DecodeResult, DecodeStep, Decoder},
        malformed::MalformedRequest,
    },
    schema::fault::shorten,
};

/// Maximum length of a request's `id` in characters. The id is part of the response and the log.
const MAX_ID: usize = 128;

impl Decoder<'_> {
    /// Decodes a whole body. Returns the request id, and whether the body was one instance.
    pub(super) fn request(&mut self) -> DecodeResult<(Option<String>, bool)> {
        if self.cursor.peek()? != JsonKind::Object {
            return Err(MalformedRequest::NotAnObject.into());
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
            Err(DecodeAbort::Envelope) => {
                self.cursor.rewind(start);
                self.clear();
                self.envelope().map(|id| (id, false))
            }
            Err(abort) => Err(abort),
        }
    }

    fn envelope(&mut self) -> DecodeResult<Option<String>> {
        let (mut id, mut instances) = (None, false);
        let mut more = self.cursor.enter(b'}')?;
        self.path.push(DecodeStep::Name("instances"));
        while more {
            // The buffer is taken out of `self`, because the name borrows it while `self` decodes
            // the value.
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
                    return Err(MalformedRequest::DuplicateMember { name: key }.into());
                }
                _ => {
                    return Err(MalformedRequest::UnknownMember {
                        name: shorten(&key),
                    }
                    .into());
                }
            }
            more = self.cursor.more(b'}')?;
        }
        self.path.clear();
        self.cursor.end()?;
        if !instances {
            return Err(MalformedRequest::NoInstances.into());
        }
        Ok(id)
    }

    fn id(&mut self) -> DecodeResult<String> {
        if self.cursor.peek()? != JsonKind::String {
            return Err(MalformedRequest::IdNotString.into());
        }
        let id = self.cursor.string(&mut self.scratch)?;
        if id.chars().count() > MAX_ID {
            return Err(MalformedRequest::IdTooLong { limit: MAX_ID }.into());
        }
        Ok(id.to_owned())
    }

    fn instances(&mut self) -> DecodeResult<()> {
        if self.cursor.peek()? != JsonKind::Array {
            return Err(MalformedRequest::InstancesNotArray.into());
        }
        let mut more = self.cursor.enter(b']')?;
        // A graph can't run without rows, and an empty answer would hide an error of the caller.
        if !more {
            return Err(MalformedRequest::InstancesEmpty.into());
        }
        let mut index = 0;
        while more {
            // The limit is checked before the instance is decoded, so that it bounds the memory.
            if index == self.limits.max_instances {
                return Err(MalformedRequest::TooManyInstances {
                    limit: self.limits.max_instances,
                }
                .into());
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
