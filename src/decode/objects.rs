//! Decodes JSON objects. Each member is checked against the schema node of its property.

use std::collections::HashSet;

use crate::{
    decode::{
        cursor::JsonKind,
        decoder::{DecodeAbort, DecodeResult, DecodeStep, Decoder},
        malformed::MalformedRequest,
    },
    schema::{
        ObjectNode, SchemaNode, Types,
        fault::{Fault, FaultSubject, MAX_ECHO, MAX_FAULTS, shorten, token},
    },
};

impl<'a> Decoder<'a> {
    pub(super) fn object(&mut self, node: &'a SchemaNode) -> DecodeResult<()> {
        let start = self.cursor.position();
        if !node.types.has(Types::OBJECT) {
            self.skip()?;
            self.wrong_type(node, JsonKind::Object, start);
            return Ok(());
        }
        match &node.object {
            None => self.skip(),
            Some(object) => self.members(node, object, start),
        }
    }

    fn members(
        &mut self,
        node: &'a SchemaNode,
        object: &'a ObjectNode,
        start: usize,
    ) -> DecodeResult<()> {
        self.deepen()?;
        let at_root = self.watch_for_envelope && self.depth == 1;
        let base = self.seen.len();
        // The properties of a nested object follow those of its parent, and are removed at the end.
        self.seen.resize(base + object.properties.len(), false);
        let mut others: Option<HashSet<String>> = None;
        let mut expected = 0;
        let mut more = self.cursor.enter(b'}')?;
        while more {
            match self.member_name(object, expected)? {
                MemberName::Property(index) => {
                    expected = index + 1;
                    self.known_member(object, base, index)?;
                }
                // The first pass read the body as one instance. The caller starts a second pass
                // that reads an envelope.
                MemberName::Unknown(name) if at_root && name == "instances" => {
                    return Err(DecodeAbort::Envelope);
                }
                MemberName::Unknown(name) => {
                    self.cursor.peek()?;
                    self.skip()?;
                    if !object.additional && !self.lenient.unknown {
                        self.unknown_member(node, object, &name);
                    }
                    // Duplicate members have no defined meaning: parsers differ in which one they
                    // use.
                    let others = others.get_or_insert_default();
                    if others.contains(&name) {
                        return Err(self.duplicate(&name));
                    }
                    others.insert(name);
                }
            }
            more = self.cursor.more(b'}')?;
        }
        self.depth -= 1;
        self.complete(object, base);
        // These members have no property, so `complete` does not know them.
        for name in &object.required_others {
            if !others.as_ref().is_some_and(|others| others.contains(name)) {
                let rule = format!("needs the member \"{name}\"");
                self.fault(node, "required", rule, start);
            }
        }
        Ok(())
    }

    /// Reads the name of the next member. `expected` is the property that follows the previous one
    /// in the schema.
    #[inline]
    fn member_name(&mut self, object: &'a ObjectNode, expected: usize) -> DecodeResult<MemberName> {
        // Most clients send members in the order of the schema. This case needs one comparison of
        // bytes and no search.
        if let Some(quoted) = object.quoted.get(expected)
            && self.cursor.eat_name(quoted)?
        {
            return Ok(MemberName::Property(expected));
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let key = self.cursor.key(&mut scratch)?;
        let index = object.properties.iter().position(|(name, _)| name == key);
        let name = match index {
            Some(index) => MemberName::Property(index),
            None => MemberName::Unknown(key.to_owned()),
        };
        self.scratch = scratch;
        Ok(name)
    }

    #[inline]
    fn known_member(
        &mut self,
        object: &'a ObjectNode,
        base: usize,
        index: usize,
    ) -> DecodeResult<()> {
        let Some((name, node)) = object.properties.get(index) else {
            return Ok(());
        };
        if self.seen.get(base + index) == Some(&true) {
            return Err(self.duplicate(name));
        }
        self.property(base, index, name, node)
    }

    /// Writes missing values for the properties that did not occur, and reports the required ones.
    pub(super) fn complete(&mut self, object: &'a ObjectNode, base: usize) {
        for (index, (name, child)) in object.properties.iter().enumerate() {
            if self.seen.get(base + index) == Some(&true) {
                continue;
            }
            // A required property is reported, but also gets a missing value: every column must
            // have an entry.
            if object.required.contains(&index) {
                self.path.push(DecodeStep::Name(name));
                let detail = format!("`{}` is required", shorten(name));
                self.fault_with_detail("required", FaultSubject::Field, detail);
                self.path.pop();
            }
            self.missing(child);
        }
        self.seen.truncate(base);
    }

    fn unknown_member(&mut self, node: &SchemaNode, object: &ObjectNode, name: &str) {
        if self.faults.len() >= MAX_FAULTS {
            self.more += 1;
            return;
        }
        // The edit distance costs the product of both lengths, so a long name gets no suggestion.
        let candidates = object
            .properties
            .iter()
            .map(|(known, _)| known)
            .filter(|_| name.len() <= MAX_ECHO);
        let nearest = candidates.min_by_key(|known| strsim::damerau_levenshtein(known, name));
        // A suggestion that differs in more than a third of its letters would only confuse.
        let nearest = nearest
            .filter(|known| strsim::damerau_levenshtein(known, name) <= known.len().div_ceil(3));
        let hint = nearest
            .map(|known| format!("; did you mean \"{known}\"?"))
            .unwrap_or_default();
        // A member of a personal object may have a personal name, such as a user id.
        let shown = if node.pii {
            "a member".to_owned()
        } else {
            format!("\"{}\"", shorten(name))
        };
        let pointer = format!("{}/{}", self.pointer(), token(&shorten(name)));
        self.push_fault(Fault {
            pointer,
            keyword: "additionalProperties",
            subject: FaultSubject::Row,
            detail: format!("{shown} is not a known field{hint}"),
        });
    }

    pub(super) fn duplicate(&self, name: &str) -> DecodeAbort {
        let place = if self.path.is_empty() {
            "the body".to_owned()
        } else {
            self.pointer()
        };
        MalformedRequest::DuplicateMemberIn {
            name: shorten(name),
            place,
        }
        .into()
    }
}

enum MemberName {
    /// The index of a property of the schema.
    Property(usize),
    Unknown(String),
}
