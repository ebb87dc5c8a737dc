//! Contain: whether one schema accepts every document that another one accepts, as this server's decoder judges documents.
//!
//! No gap is a proof. Where a proof fails, documents are tried: one that the narrower schema takes and the wider one refuses
//! makes the gap `Broken`; without one it stays `Unproved`. Proofs follow the decoder's own rules: `1.0` is an integer,
//! bounds are compared exactly, multiples are decimal, lengths count code points, and columns of whole numbers and of base64
//! refuse what they can't carry.

use std::{cmp::Ordering, fmt};

use regex::Regex;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    decode::{DecodeError, DecodeLimits, decode_instance},
    schema::{
        Node, ObjectNode, Schema, Types,
        columns::ColumnKind,
        exact::{Exact, is_multiple},
        fault::{shorten, token},
        formats::Format,
    },
};

/// What the narrower schema accepts, as far as is known, and the wider one does not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// The place in a document; `*` stands for any element of an array.
    pub pointer: String,
    /// The keyword of the wider schema that is in the way.
    pub keyword: &'static str,
    pub kind: GapKind,
    /// The keyword's value in each schema.
    pub wider: Option<Value>,
    pub narrower: Option<Value>,
    /// Where the narrower schema lists its values: those that the wider one may refuse.
    pub values: Vec<Value>,
    /// A value for this place that only the narrower schema accepts.
    pub example: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GapKind {
    /// A document that only the narrower schema accepts is known, or there is one by the schemas' structure.
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

/// Every way in which `wider` may refuse what `narrower` accepts; none at all is a proof that it never does.
pub fn contains(wider: &Schema, narrower: &Schema) -> Vec<Gap> {
    let mut search = Search {
        anything: Node::anything(),
        gaps: Vec::new(),
    };
    search.node(At::root(wider), At::root(narrower), String::new());
    search.gaps
}

/// Values below this in magnitude are told apart by a double, and no text of one is another's.
const DISTINCT: f64 = 9e15;

/// Whole numbers below this in magnitude fit 64 bits, however they are written.
const FITS_INTEGER: f64 = 8.9e18;

/// A range of whole numbers up to this size is decided value by value.
const MAX_RANGE: i128 = 1000;

/// Longest text that is tried as an example.
const MAX_TEXT: usize = 1000;

const OWN_LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 1,
    max_depth: 128,
    max_array_values: usize::MAX,
};

static EMPTY: Value = Value::Null;

/// A node and where it comes from; without a schema it is the one that accepts anything.
#[derive(Clone, Copy)]
struct At<'a> {
    schema: Option<&'a Schema>,
    node: &'a Node,
    document: &'a Value,
}

impl<'a> At<'a> {
    fn root(schema: &'a Schema) -> At<'a> {
        At {
            schema: Some(schema),
            node: &schema.root,
            document: schema.document(),
        }
    }

    fn keyword(self, keyword: &str) -> Option<Value> {
        self.document.get(keyword).cloned()
    }

    /// What the column that carries it can hold.
    fn column_kind(self) -> Option<ColumnKind> {
        Some(self.schema?.columns().get(self.node.column?)?.kind)
    }

    fn item(self, index: usize) -> Option<At<'a>> {
        let prefix = self.node.prefix_items.get(index).zip(
            self.document
                .get("prefixItems")
                .and_then(|list| list.get(index)),
        );
        prefix
            .map(|(node, document)| At {
                schema: self.schema,
                node,
                document,
            })
            .or_else(|| self.rest())
    }

    /// The elements behind `prefixItems`.
    fn rest(self) -> Option<At<'a>> {
        let (node, document) = self.node.items.as_deref().zip(self.document.get("items"))?;
        Some(At {
            schema: self.schema,
            node,
            document,
        })
    }

    fn property(self, name: &str) -> Option<At<'a>> {
        let (_, node) = self
            .node
            .object
            .as_ref()?
            .properties
            .iter()
            .find(|(known, _)| known == name)?;
        let document = self.document.get("properties")?.get(name)?;
        Some(At {
            schema: self.schema,
            node,
            document,
        })
    }

    fn requires(self, name: &str) -> bool {
        self.node
            .object
            .as_ref()
            .is_some_and(|object| required(object).any(|known| known == name))
    }

    /// The values of `enum` and `const`, where there is one of them.
    fn listed(self) -> Option<Vec<&'a Value>> {
        match (&self.node.enumeration, &self.node.constant) {
            (None, None) => None,
            (Some(values), None) => Some(values.iter().collect()),
            (_, Some(constant)) => Some(vec![constant]),
        }
    }
}

fn required(object: &ObjectNode) -> impl Iterator<Item = &str> {
    let declared = object
        .required
        .iter()
        .filter_map(|index| object.properties.get(*index))
        .map(|(name, _)| name.as_str());
    declared.chain(object.required_others.iter().map(String::as_str))
}

/// One node, asked about single values. A column may refuse what the keywords allow; whether a node has one depends on its
/// place, so it is asked both ways.
struct Judge {
    strict: Option<Schema>,
    lenient: Option<Schema>,
}

impl Judge {
    fn of(at: At<'_>) -> Judge {
        let any = json!({});
        let document = if at.schema.is_none() {
            &any
        } else {
            at.document
        };
        let compile = |value: Value| {
            Schema::compile(&json!({"type": "object", "properties": {"v": value}, "required": ["v"], "additionalProperties": false})).ok()
        };
        // Inside an array nothing has a column.
        Judge {
            strict: compile(document.clone()),
            lenient: compile(json!({"type": "array", "prefixItems": [document]})),
        }
    }

    /// Accepted at every place.
    fn surely(&self, value: &Value) -> bool {
        self.strict.as_ref().is_some_and(|schema| {
            decode_instance(schema, format!("{{\"v\":{value}}}").as_bytes(), &OWN_LIMITS).is_ok()
        })
    }

    /// Accepted at some place.
    fn perhaps(&self, value: &Value) -> bool {
        self.refusals(value).is_empty()
    }

    /// The keywords for which it is refused at every place.
    fn refusals(&self, value: &Value) -> Vec<&'static str> {
        let Some(schema) = &self.lenient else {
            return Vec::new();
        };
        match decode_instance(
            schema,
            format!("{{\"v\":[{value}]}}").as_bytes(),
            &OWN_LIMITS,
        ) {
            Ok(_) => Vec::new(),
            Err(DecodeError::Invalid { faults, .. }) => {
                faults.iter().map(|fault| fault.keyword).collect()
            }
            Err(DecodeError::Malformed { .. }) => vec!["type"],
        }
    }
}

struct Search {
    anything: Node,
    gaps: Vec<Gap>,
}

impl Search {
    fn node(&mut self, wider: At<'_>, narrower: At<'_>, pointer: String) {
        // At the same place, the same schema accepts the same.
        if wider.schema.is_some() && wider.document == narrower.document || is_empty(narrower) {
            return;
        }
        if let Some(values) = narrower.listed() {
            return self.values(wider, narrower, &values, pointer);
        }
        if !wider.node.plain {
            return match few(narrower.node) {
                Some(values) => {
                    self.values(wider, narrower, &values.iter().collect::<Vec<_>>(), pointer)
                }
                None => self.tried(
                    wider,
                    narrower,
                    &pointer,
                    if wider.node.enumeration.is_some() {
                        "enum"
                    } else {
                        "const"
                    },
                ),
            };
        }
        let live = live(narrower);
        let accepted = |bit: u8| {
            live & bit == 0
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
        if let Some(lacking) = all.into_iter().find(|bit| !accepted(*bit)) {
            let example = counterexample(wider, narrower, "type")
                .or((lacking == Types::NULL).then_some(Value::Null));
            self.gap(
                &pointer,
                "type",
                GapKind::Broken,
                (wider, narrower),
                example,
            );
        }
        if live & (Types::INTEGER | Types::NUMBER) != 0
            && wider.node.types.0 & (Types::INTEGER | Types::NUMBER) != 0
        {
            self.numbers(wider, narrower, &pointer);
        }
        if live & wider.node.types.0 & Types::STRING != 0 {
            self.texts(wider, narrower, &pointer);
        }
        if live & wider.node.types.0 & Types::ARRAY != 0 {
            self.arrays(wider, narrower, &pointer);
        }
        if live & wider.node.types.0 & Types::OBJECT != 0 {
            self.objects(wider, narrower, &pointer);
        }
    }

    fn gap(
        &mut self,
        pointer: &str,
        keyword: &'static str,
        kind: GapKind,
        (wider, narrower): (At<'_>, At<'_>),
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

    /// A keyword for which there is no proof: broken where an example shows it.
    fn tried(&mut self, wider: At<'_>, narrower: At<'_>, pointer: &str, keyword: &'static str) {
        let example = counterexample(wider, narrower, keyword);
        let kind = if example.is_some() {
            GapKind::Broken
        } else {
            GapKind::Unproved
        };
        self.gap(pointer, keyword, kind, (wider, narrower), example);
    }

    /// A narrower node that accepts none but these values.
    fn values(&mut self, wider: At<'_>, narrower: At<'_>, values: &[&Value], pointer: String) {
        let (inner, outer) = (Judge::of(narrower), Judge::of(wider));
        let escapes = |value: &&&Value| {
            (inner.perhaps(value) || has_large_number(value))
                && !(outer.surely(value)
                    && (!has_large_number(value) || takes_neighbours(wider.node, value)))
        };
        let missed: Vec<Value> = values
            .iter()
            .filter(escapes)
            .map(|value| (**value).clone())
            .collect();
        let Some(first) = missed.first() else { return };
        let proof = missed
            .iter()
            .find(|value| inner.surely(value) && !outer.perhaps(value));
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

    fn numbers(&mut self, wider: At<'_>, narrower: At<'_>, pointer: &str) {
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
                w.multiple_of.is_none_or(|step| steps_fit(n, step)),
            ),
        ];
        for (keyword, _) in holds.into_iter().filter(|(_, holds)| !holds) {
            self.tried(wider, narrower, pointer, keyword);
        }
        // A column of whole numbers holds 64 bits; others hold any number.
        let whole = |at: At<'_>| at.column_kind() == Some(ColumnKind::Integer);
        if whole(wider) && !whole(narrower) && is_integral(n) && !is_within(n, FITS_INTEGER) {
            self.gap(pointer, "type", GapKind::Unproved, (wider, narrower), None);
        }
    }

    fn texts(&mut self, wider: At<'_>, narrower: At<'_>, pointer: &str) {
        let (w, n) = (wider.node, narrower.node);
        let (shortest, longest) = lengths(n);
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
            ("format", w.format.is_none() || w.format == n.format),
        ];
        for (keyword, _) in holds.into_iter().filter(|(_, holds)| !holds) {
            self.tried(wider, narrower, pointer, keyword);
        }
        let decodes = |at: At<'_>| at.column_kind() == Some(ColumnKind::Binary);
        if decodes(wider) && !decodes(narrower) {
            self.gap(
                pointer,
                "contentEncoding",
                GapKind::Broken,
                (wider, narrower),
                None,
            );
        }
    }

    fn arrays(&mut self, wider: At<'_>, narrower: At<'_>, pointer: &str) {
        let longest = longest(narrower);
        if wider.node.min_items > narrower.node.min_items {
            self.gap(
                pointer,
                "minItems",
                GapKind::Broken,
                (wider, narrower),
                None,
            );
        }
        if wider.node.max_items < longest {
            self.gap(
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
        for index in 0..named.min(longest) {
            self.below(
                wider.item(index),
                narrower.item(index),
                format!("{pointer}/{index}"),
            );
        }
        if longest > named {
            self.below(wider.rest(), narrower.rest(), format!("{pointer}/*"));
        }
    }

    fn below(&mut self, wider: Option<At<'_>>, narrower: Option<At<'_>>, pointer: String) {
        let Some(wider) = wider else { return };
        match narrower {
            Some(narrower) => self.node(wider, narrower, pointer),
            None => {
                let anything = std::mem::replace(&mut self.anything, Node::anything());
                self.node(
                    wider,
                    At {
                        schema: None,
                        node: &anything,
                        document: &EMPTY,
                    },
                    pointer,
                );
            }
        }
    }

    fn objects(&mut self, wider: At<'_>, narrower: At<'_>, pointer: &str) {
        let Some(outer) = &wider.node.object else {
            return;
        };
        let at = |name: &str| format!("{pointer}/{}", token(name));
        for name in required(outer).filter(|name| !narrower.requires(name)) {
            let member = |at: At<'_>| at.property(name).map(|property| property.document.clone());
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
                Some(known) => self.node(known, property, at(name)),
                None if outer.additional || is_empty(property) => {}
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
                self.gap(
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
                self.below(wider.property(name), None, at(name));
            }
        }
    }
}

/// All values of a node that has only a few.
fn few(node: &Node) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    if node.types.has(Types::NULL) {
        values.push(Value::Null);
    }
    if node.types.has(Types::BOOLEAN) {
        values.extend([Value::Bool(false), Value::Bool(true)]);
    }
    if node.types.0 & (Types::INTEGER | Types::NUMBER) != 0
        && is_integral(node)
        && is_within(node, DISTINCT)
    {
        let (low, high) = (lowest(node)?.whole()?, highest(node)?.whole()?);
        if high - low > MAX_RANGE {
            return None;
        }
        values.extend(
            (low..=high)
                .filter_map(|value| i64::try_from(value).ok())
                .map(Value::from),
        );
    } else if node.types.0 & (Types::INTEGER | Types::NUMBER) != 0 {
        return None;
    }
    (node.types.0 & (Types::STRING | Types::ARRAY | Types::OBJECT) == 0).then_some(values)
}

/// The types of which a node may have values.
fn live(at: At<'_>) -> u8 {
    let mut live = at.node.types.0;
    if has_no_number(at.node) {
        live &= !(Types::INTEGER | Types::NUMBER);
    }
    if at.node.min_items > longest(at) {
        live &= !Types::ARRAY;
    }
    if at.node.object.as_ref().is_some_and(|object| {
        required(object)
            .filter_map(|name| at.property(name))
            .any(is_empty)
    }) {
        live &= !Types::OBJECT;
    }
    live
}

/// Whether it surely accepts nothing.
fn is_empty(at: At<'_>) -> bool {
    match at.listed() {
        Some(values) => {
            let judge = Judge::of(at);
            // What equals a large number may fit where itself does not.
            !values
                .into_iter()
                .any(|value| judge.perhaps(value) || has_large_number(value))
        }
        None => live(at) == 0,
    }
}

/// Elements of its longest array: before the first that nothing can be.
fn longest(at: At<'_>) -> usize {
    let named = at.node.prefix_items.len();
    let impossible = (0..=named).find(|index| at.item(*index).is_some_and(is_empty));
    impossible.map_or(at.node.max_items, |index| index.min(at.node.max_items))
}

fn lengths(node: &Node) -> (usize, usize) {
    let (shortest, longest) = match node.format {
        None => (0, usize::MAX),
        Some(Format::Date) => (10, 10),
        Some(Format::DateTime) => (20, usize::MAX),
        Some(Format::Uuid) => (36, 36),
    };
    (node.min_length.max(shortest), node.max_length.min(longest))
}

/// Whether all its numbers are whole.
fn is_integral(node: &Node) -> bool {
    !node.types.has(Types::NUMBER) || node.multiple_of.is_some_and(|step| step.whole().is_some())
}

/// The least whole number that its bounds leave.
fn lowest(node: &Node) -> Option<Exact> {
    let bounds = [
        node.minimum.map(Exact::ceil),
        node.exclusive_minimum.map(|bound| bound.floor().shift(1)),
    ];
    bounds.into_iter().flatten().max_by(|a, b| a.compare(*b))
}

fn highest(node: &Node) -> Option<Exact> {
    let bounds = [
        node.maximum.map(Exact::floor),
        node.exclusive_maximum.map(|bound| bound.ceil().shift(-1)),
    ];
    bounds.into_iter().flatten().min_by(|a, b| a.compare(*b))
}

fn has_no_number(node: &Node) -> bool {
    let at_least = |low: Option<Exact>, high: Option<Exact>| {
        low.zip(high)
            .is_some_and(|(low, high)| low.compare(high).is_ge())
    };
    let above = |low: Option<Exact>, high: Option<Exact>| {
        low.zip(high)
            .is_some_and(|(low, high)| low.compare(high).is_gt())
    };
    above(node.minimum, node.maximum)
        || at_least(node.minimum, node.exclusive_maximum)
        || at_least(node.exclusive_minimum, node.maximum)
        || at_least(node.exclusive_minimum, node.exclusive_maximum)
        || is_integral(node) && above(lowest(node), highest(node))
}

/// Whether every number of the node is at least `bound`, or above it.
fn is_above(node: &Node, bound: Exact, exclusive: bool) -> bool {
    let reaches = |low: Exact| {
        if exclusive {
            low.compare(bound).is_gt()
        } else {
            low.compare(bound).is_ge()
        }
    };
    node.minimum.is_some_and(reaches)
        || node
            .exclusive_minimum
            .is_some_and(|low| low.compare(bound) != Ordering::Less)
        || is_integral(node) && lowest(node).is_some_and(reaches)
}

fn is_below(node: &Node, bound: Exact, exclusive: bool) -> bool {
    let reaches = |high: Exact| {
        if exclusive {
            high.compare(bound).is_lt()
        } else {
            high.compare(bound).is_le()
        }
    };
    node.maximum.is_some_and(reaches)
        || node
            .exclusive_maximum
            .is_some_and(|high| high.compare(bound) != Ordering::Greater)
        || is_integral(node) && highest(node).is_some_and(reaches)
}

fn is_within(node: &Node, limit: f64) -> bool {
    let of = |value: f64| Exact::read(value, b"");
    is_above(node, of(-limit), false) && is_below(node, of(limit), false)
}

/// Whether every number of the node is a multiple of `step`. Whole numbers beyond 2^53 are divided exactly by whole steps, but
/// by others through the digits of their double: a proof must not go from one to the other.
fn steps_fit(node: &Node, step: Exact) -> bool {
    let divides_one = is_multiple(Exact::read(1.0, b""), step);
    is_integral(node) && divides_one
        || node.multiple_of.is_some_and(|own| {
            let alike = own.whole().is_some() == step.whole().is_some();
            is_multiple(own, step) && (alike || divides_one || is_within(node, DISTINCT))
        })
}

/// Whether a number in it is so large that other numbers have the same double.
fn has_large_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_none_or(|value| value.abs() >= DISTINCT),
        Value::Array(values) => values.iter().any(has_large_number),
        Value::Object(members) => members.values().any(has_large_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// Whether a node accepts with a large number all that are equal to it where it is listed.
fn takes_neighbours(node: &Node, value: &Value) -> bool {
    let fits = node.types.has(Types::NUMBER)
        || value
            .as_f64()
            .is_none_or(|value| value.abs() < FITS_INTEGER);
    let listed = match (&node.enumeration, &node.constant) {
        (None, None) => value.is_number() && node.types.has(Types::NUMBER),
        (Some(values), None) => values.contains(value),
        (None, Some(constant)) => constant == value,
        (Some(_), Some(_)) => false,
    };
    listed
        && fits
        && !node.bounded
        && node.items.is_none()
        && node.prefix_items.is_empty()
        && node.object.is_none()
}

/// A value that the narrower node accepts and the wider one refuses for this keyword.
fn counterexample(wider: At<'_>, narrower: At<'_>, keyword: &str) -> Option<Value> {
    let (inner, outer) = (Judge::of(narrower), Judge::of(wider));
    let refuses = |value: &Value| {
        let refusals = outer.refusals(value);
        refusals.contains(&keyword) || matches!(keyword, "enum" | "const") && !refusals.is_empty()
    };
    candidates(wider, narrower)
        .into_iter()
        .find(|value| refuses(value) && inner.surely(value))
}

/// Values near the edges of both.
fn candidates(wider: At<'_>, narrower: At<'_>) -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(""),
        json!("a"),
        json!("A b"),
        json!("0"),
        json!("\u{e9}!"),
        json!("2024-02-29"),
        json!("2024-02-29T12:00:00Z"),
        json!("2eb8aa08-aa98-11ea-b4aa-73b441d16380"),
        json!("AAAA"),
        json!([]),
        json!({}),
    ];
    let mut numbers = vec![0.0, 1.0, -1.0, 0.5, 0.1, 1e6, -1e6];
    for at in [wider, narrower] {
        let node = at.node;
        let list = |keyword: &str| {
            at.document
                .get(keyword)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        values.extend(list("examples"));
        values.extend(
            node.enumeration
                .iter()
                .flatten()
                .chain(&node.constant)
                .cloned(),
        );
        for bound in [
            node.minimum,
            node.maximum,
            node.exclusive_minimum,
            node.exclusive_maximum,
        ]
        .into_iter()
        .flatten()
        {
            let bound = bound.value;
            numbers.extend([
                bound,
                bound.floor(),
                bound.ceil(),
                bound - 1.0,
                bound + 1.0,
                bound.next_down(),
                bound.next_up(),
            ]);
            for step in [wider.node.multiple_of, narrower.node.multiple_of]
                .into_iter()
                .flatten()
                .map(|step| step.value)
            {
                let near = (bound / step).round();
                numbers.extend([-1.0, 0.0, 1.0].map(|more| (near + more) * step));
            }
        }
        if let Some(step) = node.multiple_of.map(|step| step.value) {
            numbers.extend([step, -step, step * 2.0, step * 3.0, step / 2.0]);
        }
        let lengths = [
            node.min_length,
            node.min_length.saturating_sub(1),
            node.max_length,
            node.max_length.saturating_add(1),
        ];
        values.extend(
            lengths
                .into_iter()
                .filter(|length| *length <= MAX_TEXT)
                .map(|length| Value::from("a".repeat(length))),
        );
    }
    values.extend(
        numbers
            .into_iter()
            .filter(|number| number.is_finite())
            .map(|number| {
                // Whole numbers read better without a fraction.
                if number.fract() == 0.0 && number.abs() < DISTINCT {
                    Value::from(number as i64)
                } else {
                    Value::from(number)
                }
            }),
    );
    let object = |at: At<'_>| {
        let properties = at.document.get("properties").and_then(Value::as_object);
        let members = properties
            .into_iter()
            .flatten()
            .filter_map(|(name, property)| {
                Some((name.clone(), property.get("examples")?.get(0)?.clone()))
            });
        Value::Object(members.collect::<Map<_, _>>())
    };
    values.push(object(narrower));
    values
}
