//! Faults: violations of the schema, with the place and the name of the value.

use crate::{
    decode::{
        cursor::JsonKind,
        decoder::{DecodeStep, Decoder},
        row_origin::RowOrigin,
    },
    schema::{
        SchemaNode, Types,
        fault::{Fault, FaultSubject, MAX_FAULTS, shorten, token},
    },
};

impl Decoder<'_> {
    pub(super) fn wrong_type(&mut self, node: &SchemaNode, given: JsonKind, start: usize) {
        // The node accepts integers, so a number is refused only because it has a fraction.
        let name = if given == JsonKind::Number && node.types.has(Types::INTEGER) {
            "number with a fraction"
        } else {
            given.name()
        };
        let detail = format!("must be {}, not {name}", node.types.describe());
        match given {
            JsonKind::String | JsonKind::Number => self.fault(node, "type", detail, start),
            // The text of an object, an array or a literal in a message would not help the caller.
            JsonKind::Null | JsonKind::Bool | JsonKind::Array | JsonKind::Object => {
                self.fault_without_value("type", detail);
            }
        }
    }

    /// Reports a violated rule, together with the value unless the field is personal (`x-pii`).
    #[cold]
    pub(super) fn fault(
        &mut self,
        node: &SchemaNode,
        keyword: &'static str,
        rule: String,
        start: usize,
    ) {
        // A body may violate a rule in thousands of rows. The message of a fault that is only
        // counted is not formatted.
        if self.faults.len() >= MAX_FAULTS {
            self.more += 1;
            return;
        }
        if node.pii {
            return self.fault_without_value(keyword, rule);
        }
        let given = String::from_utf8_lossy(self.cursor.slice(start)).into_owned();
        let pointer = self.pointer();
        let (name, subject) = self.name();
        self.push_fault(Fault {
            pointer,
            keyword,
            subject,
            detail: format!("{name} {rule}; got {}", shorten(&given)),
        });
    }

    /// Reports a violated rule without the value, because the value is personal or does not explain
    /// the violation.
    pub(super) fn fault_without_value(&mut self, keyword: &'static str, rule: String) {
        let (name, subject) = self.name();
        self.fault_with_detail(keyword, subject, format!("{name} {rule}"));
    }

    /// Reports a fault with the whole message `detail`, which begins with `subject`.
    pub(super) fn fault_with_detail(
        &mut self,
        keyword: &'static str,
        subject: FaultSubject,
        detail: String,
    ) {
        self.push_fault(Fault {
            pointer: self.pointer(),
            keyword,
            subject,
            detail,
        });
    }

    pub(super) fn push_fault(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        } else {
            self.more += 1;
        }
    }

    /// The JSON pointer to the current value.
    pub(super) fn pointer(&self) -> String {
        self.path
            .iter()
            .fold(String::new(), |text, step| match step {
                DecodeStep::Name(name) => format!("{text}/{}", token(name)),
                DecodeStep::Index(index) => format!("{text}/{index}"),
            })
    }

    /// The row and the field of the current value, for a message to the caller.
    pub(super) fn cell(&self) -> String {
        let row = self.path.iter().find_map(|step| {
            if let DecodeStep::Index(row) = step {
                Some(self.row(*row))
            } else {
                None
            }
        });
        let field = self.path.iter().find_map(|step| match step {
            DecodeStep::Name("instances") | DecodeStep::Index(_) => None,
            DecodeStep::Name(name) => Some(format!("field `{}`", shorten(name))),
        });
        let parts: Vec<String> = row.into_iter().chain(field).collect();
        if parts.is_empty() {
            "the rows".to_owned()
        } else {
            parts.join(", ")
        }
    }

    /// The name of a row, as the caller counts rows.
    fn row(&self, index: usize) -> String {
        self.origin.unwrap_or(&RowOrigin::Instances).row(index)
    }

    /// The innermost field name on the path, for a message to the caller.
    fn name(&self) -> (String, FaultSubject) {
        let name = self.path.iter().rev().find_map(|step| match step {
            DecodeStep::Name("instances") | DecodeStep::Index(_) => None,
            DecodeStep::Name(name) => Some(*name),
        });
        match name {
            Some(name) => (format!("`{name}`"), FaultSubject::Field),
            None => ("the instance".to_owned(), FaultSubject::Row),
        }
    }
}
