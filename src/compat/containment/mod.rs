//! Containment: whether one schema accepts every document that another one accepts, by the rules of
//! this server's decoder.
//!
//! An empty list of gaps is a proof. If a proof fails, documents are tried. A document that the
//! narrower schema accepts and the wider one refuses makes the gap `Broken`. Without such a
//! document the gap stays `Unproved`.
//!
//! The proofs follow the decoder's rules: `1.0` is an integer, bounds are compared exactly,
//! multiples are decimal, lengths count code points, and columns of whole numbers and of base64
//! refuse values that they can't represent.

mod bounds;
mod counterexample;
mod node_checker;
mod node_ref;

use std::fmt;

use regex::Regex;
use serde::Serialize;
use serde_json::Value;

use crate::{
    compat::containment::{
        bounds::{
            MAX_INTEGER, accepts_equal_numbers, all_values, has_large_number, has_only_multiples,
            is_above, is_below, is_integral, is_within, text_lengths,
        },
        counterexample::counterexample,
        node_ref::{NodeRef, required},
    },
    schema::{
        Schema, SchemaNode, Types,
        columns::ColumnKind,
        fault::{shorten, token},
    },
};

/// A keyword of the wider schema that may refuse values that the narrower schema accepts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// JSON pointer of the place in a document. `*` means any element of an array.
    pub pointer: String,
    /// The keyword of the wider schema that refuses the values.
    pub keyword: &'static str,
    /// Whether a counterexample was found.
    pub kind: GapKind,
    /// The keyword's value in the wider schema. `None` if the schema does not have the keyword.
    pub wider: Option<Value>,
    /// The value in the narrower schema. `None` if the schema does not have the keyword.
    pub narrower: Option<Value>,
    /// The listed values that the wider schema may refuse. Empty if the narrower schema lists no
    /// values.
    pub values: Vec<Value>,
    /// A value for this place that only the narrower schema accepts.
    pub example: Option<Value>,
}

/// How sure the comparison is that the wider schema refuses a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GapKind {
    /// A known document is accepted only by the narrower schema, or the structure of the schemas
    /// proves that such a document exists.
    Broken,
    /// Neither a proof nor a counterexample was found.
    Unproved,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<Value>| {
            value
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), |value| shorten(&value.to_string()))
        };
        write!(
            f,
            "{} {}: {} against {}",
            self.pointer,
            self.keyword,
            value(&self.wider),
            value(&self.narrower)
        )?;
        self.example.as_ref().map_or(Ok(()), |example| {
            write!(f, ", for example {}", shorten(&example.to_string()))
        })
    }
}

/// Returns every reason why `wider` may refuse a document that `narrower` accepts. An empty result
/// proves that `wider` accepts all of them.
pub fn contains(wider: &Schema, narrower: &Schema) -> Vec<Gap> {
    let mut search = Search {
        anything: SchemaNode::anything(),
        gaps: Vec::new(),
    };
    search.compare_nodes(NodeRef::root(wider), NodeRef::root(narrower), String::new());
    search.gaps
}

/// The document of a node that accepts any value.
static EMPTY: Value = Value::Null;

struct Search {
    /// The node of a member or an element that the narrower schema does not declare.
    anything: SchemaNode,
    gaps: Vec<Gap>,
}

impl Search {
    fn compare_nodes(&mut self, wider: NodeRef<'_>, narrower: NodeRef<'_>, pointer: String) {
        // Equal schemas at the same place accept the same values.
        if wider.schema.is_some() && wider.document == narrower.document
            || narrower.accepts_nothing()
        {
            return;
        }
        if let Some(values) = narrower.listed() {
            return self.check_values(wider, narrower, &values, pointer);
        }
        if !wider.node.plain {
            // The wider node lists its values: the narrower one fits only if it has few values.
            if let Some(values) = all_values(narrower.node) {
                let values: Vec<&Value> = values.iter().collect();
                return self.check_values(wider, narrower, &values, pointer);
            }
            let keyword = if wider.node.enumeration.is_some() {
                "enum"
            } else {
                "const"
            };
            return self.search_example(wider, narrower, &pointer, keyword);
        }
        let types = narrower.possible_types();
        self.compare_types(wider, narrower, types, &pointer);
        let common = types & wider.node.types.0;
        let numbers = Types::INTEGER | Types::NUMBER;
        if types & numbers != 0 && wider.node.types.0 & numbers != 0 {
            self.compare_numbers(wider, narrower, &pointer);
        }
        if common & Types::STRING != 0 {
            self.compare_texts(wider, narrower, &pointer);
        }
        if common & Types::ARRAY != 0 {
            self.compare_arrays(wider, narrower, &pointer);
        }
        if common & Types::OBJECT != 0 {
            self.compare_objects(wider, narrower, &pointer);
        }
    }

    /// Reports a gap if the wider node lacks one of the narrower node's `types`.
    fn compare_types(
        &mut self,
        wider: NodeRef<'_>,
        narrower: NodeRef<'_>,
        types: u8,
        pointer: &str,
    ) {
        let accepted = |bit: u8| {
            types & bit == 0
                || wider.node.types.has(bit)
                || bit == Types::INTEGER && wider.node.types.has(Types::NUMBER)
                || bit == Types::NUMBER
                    && wider.node.types.has(Types::INTEGER)
                    && is_integral(narrower.node)
        };
        let all = [
            Types::NULL,
            Types::BOOLEAN,
            Types::INTEGER,
            Types::NUMBER,
            Types::STRING,
            Types::ARRAY,
            Types::OBJECT,
        ];
        let Some(missing) = all.into_iter().find(|bit| !accepted(*bit)) else {
            return;
        };
        let example = counterexample(wider, narrower, "type")
            .or((missing == Types::NULL).then_some(Value::Null));
        self.report(pointer, "type", GapKind::Broken, (wider, narrower), example);
    }

    fn report(
        &mut self,
        pointer: &str,
        keyword: &'static str,
        kind: GapKind,
        (wider, narrower): (NodeRef<'_>, NodeRef<'_>),
        example: Option<Value>,
    ) {
        self.gaps.push(Gap {
            pointer: pointer.to_owned(),
            keyword,
            kind,
            wider: wider.keyword(keyword),
            narrower: narrower.keyword(keyword),
            values: Vec::new(),
            example,
        });
    }

    /// Reports a keyword for which there is no proof. The gap is broken if a counterexample is
    /// found.
    fn search_example(
        &mut self,
        wider: NodeRef<'_>,
        narrower: NodeRef<'_>,
        pointer: &str,
        keyword: &'static str,
    ) {
        let example = counterexample(wider, narrower, keyword);
        let kind = if example.is_some() {
            GapKind::Broken
        } else {
            GapKind::Unproved
        };
        self.report(pointer, keyword, kind, (wider, narrower), example);
    }

    /// Compares a narrower node that accepts only `values`.
    fn check_values(
        &mut self,
        wider: NodeRef<'_>,
        narrower: NodeRef<'_>,
        values: &[&Value],
        pointer: String,
    ) {
        let (inner, outer) = (narrower.checker(), wider.checker());
        let may_be_refused = |value: &&&Value| {
            (inner.accepts_somewhere(value) || has_large_number(value))
                && !(outer.accepts_everywhere(value)
                    && (!has_large_number(value) || accepts_equal_numbers(wider.node, value)))
        };
        // Keeps the values that the narrower node may accept and the wider node may refuse.
        let missed: Vec<Value> = values
            .iter()
            .filter(may_be_refused)
            .map(|value| (**value).clone())
            .collect();
        let Some(first) = missed.first() else { return };
        // A proof needs a value that the narrower node accepts and the wider one refuses at every
        // place in a schema.
        let proof = missed
            .iter()
            .find(|value| inner.accepts_everywhere(value) && !outer.accepts_somewhere(value));
        let keyword = proof
            .or(Some(first))
            .and_then(|value| outer.refusals(value).first().copied())
            .unwrap_or("enum");
        let kind = if proof.is_some() {
            GapKind::Broken
        } else {
            GapKind::Unproved
        };
        let example = proof.cloned();
        self.gaps.push(Gap {
            pointer,
            keyword,
            kind,
            wider: wider.keyword(keyword),
            narrower: narrower.keyword(keyword),
            values: missed,
            example,
        });
    }

    fn compare_numbers(&mut self, wider: NodeRef<'_>, narrower: NodeRef<'_>, pointer: &str) {
        let (w, n) = (wider.node, narrower.node);
        let holds = [
            (
                "minimum",
                w.minimum.is_none_or(|bound| is_above(n, bound, false)),
            ),
            (
                "exclusiveMinimum",
                w.exclusive_minimum
                    .is_none_or(|bound| is_above(n, bound, true)),
            ),
            (
                "maximum",
                w.maximum.is_none_or(|bound| is_below(n, bound, false)),
            ),
            (
                "exclusiveMaximum",
                w.exclusive_maximum
                    .is_none_or(|bound| is_below(n, bound, true)),
            ),
            (
                "multipleOf",
                w.multiple_of.is_none_or(|step| has_only_multiples(n, step)),
            ),
        ];
        for (keyword, _) in holds.into_iter().filter(|(_, holds)| !holds) {
            self.search_example(wider, narrower, pointer, keyword);
        }
        // A column of whole numbers stores 64 bits. Other columns store any number.
        let whole = |at: NodeRef<'_>| at.column_kind() == Some(ColumnKind::Integer);
        // A number beyond 64 bits that the narrower node accepts does not fit a column of whole
        // numbers.
        if whole(wider) && !whole(narrower) && is_integral(n) && !is_within(n, MAX_INTEGER) {
            self.report(pointer, "type", GapKind::Unproved, (wider, narrower), None);
        }
    }

    fn compare_texts(&mut self, wider: NodeRef<'_>, narrower: NodeRef<'_>, pointer: &str) {
        let (w, n) = (wider.node, narrower.node);
        let (shortest, longest) = text_lengths(n);
        let same = |a: Option<&str>, b: Option<&str>| a.is_none() || a == b;
        let holds = [
            ("minLength", w.min_length <= shortest),
            ("maxLength", w.max_length >= longest),
            (
                "pattern",
                same(
                    w.pattern.as_ref().map(Regex::as_str),
                    n.pattern.as_ref().map(Regex::as_str),
                ),
            ),
            // No rule proves one format from a different one.
            ("format", w.format.is_none() || w.format == n.format),
        ];
        for (keyword, _) in holds.into_iter().filter(|(_, holds)| !holds) {
            self.search_example(wider, narrower, pointer, keyword);
        }
        // Few strings are base64. A node without this rule accepts a counterexample.
        let decodes = |at: NodeRef<'_>| at.column_kind() == Some(ColumnKind::Binary);
        if decodes(wider) && !decodes(narrower) {
            self.report(
                pointer,
                "contentEncoding",
                GapKind::Broken,
                (wider, narrower),
                None,
            );
        }
    }

    fn compare_arrays(&mut self, wider: NodeRef<'_>, narrower: NodeRef<'_>, pointer: &str) {
        let longest = narrower.longest_array();
        if wider.node.min_items > narrower.node.min_items {
            self.report(
                pointer,
                "minItems",
                GapKind::Broken,
                (wider, narrower),
                None,
            );
        }
        // The narrower node accepts an array of its maximum length.
        if wider.node.max_items < longest {
            self.report(
                pointer,
                "maxItems",
                GapKind::Broken,
                (wider, narrower),
                None,
            );
        }
        let named = wider
            .node
            .prefix_items
            .len()
            .max(narrower.node.prefix_items.len());
        // Elements after the longest possible array never occur.
        for index in 0..named.min(longest) {
            self.compare_children(
                wider.item(index),
                narrower.item(index),
                format!("{pointer}/{index}"),
            );
        }
        // `*` compares the elements after the named ones, which all have one node.
        if longest > named {
            self.compare_children(wider.rest(), narrower.rest(), format!("{pointer}/*"));
        }
    }

    /// Compares two elements or members. Without a wider node every value is accepted. Without a
    /// narrower node any value may occur.
    fn compare_children(
        &mut self,
        wider: Option<NodeRef<'_>>,
        narrower: Option<NodeRef<'_>>,
        pointer: String,
    ) {
        let Some(wider) = wider else { return };
        match narrower {
            Some(narrower) => self.compare_nodes(wider, narrower, pointer),
            None => {
                // The node is taken out of `self`, because the recursion borrows `self` mutably.
                let anything = std::mem::replace(&mut self.anything, SchemaNode::anything());
                self.compare_nodes(
                    wider,
                    NodeRef {
                        schema: None,
                        node: &anything,
                        document: &EMPTY,
                    },
                    pointer,
                );
            }
        }
    }

    fn compare_objects(&mut self, wider: NodeRef<'_>, narrower: NodeRef<'_>, pointer: &str) {
        let Some(outer) = &wider.node.object else {
            return;
        };
        let at = |name: &str| format!("{pointer}/{}", token(name));
        // The narrower node accepts a document without the member, so no example is needed.
        for name in required(outer).filter(|name| !narrower.requires(name)) {
            let member =
                |at: NodeRef<'_>| at.property(name).map(|property| property.document.clone());
            self.gaps.push(Gap {
                pointer: at(name),
                keyword: "required",
                kind: GapKind::Broken,
                wider: member(wider),
                narrower: member(narrower),
                values: Vec::new(),
                example: None,
            });
        }
        let empty = Vec::new();
        let inner = narrower.node.object.as_ref();
        for (name, _) in inner.map_or(&empty, |object| &object.properties) {
            let Some(property) = narrower.property(name) else {
                continue;
            };
            match wider.property(name) {
                Some(known) => self.compare_nodes(known, property, at(name)),
                // An undeclared member of an open object is accepted with any value.
                None if outer.additional || property.accepts_nothing() => {}
                None => self.gaps.push(Gap {
                    pointer: at(name),
                    keyword: "additionalProperties",
                    kind: GapKind::Broken,
                    wider: None,
                    narrower: Some(property.document.clone()),
                    values: Vec::new(),
                    example: None,
                }),
            }
        }
        if inner.is_none_or(|object| object.additional) {
            if !outer.additional {
                self.report(
                    pointer,
                    "additionalProperties",
                    GapKind::Broken,
                    (wider, narrower),
                    None,
                );
            }
            for (name, _) in outer
                .properties
                .iter()
                .filter(|(name, _)| narrower.property(name).is_none())
            {
                self.compare_children(wider.property(name), None, at(name));
            }
        }
    }
}
