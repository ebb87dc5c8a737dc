//! `NodeRef`: a node of one of the two schemas.

use serde_json::{Value, json};

use crate::{
    compat::containment::{bounds, bounds::has_large_number, node_checker::NodeChecker},
    schema::{ObjectNode, Schema, SchemaNode, Types, columns::ColumnKind},
};

/// A node of a schema, with the schema and the JSON document of the node.
#[derive(Clone, Copy)]
pub(super) struct NodeRef<'a> {
    /// The schema of the node. `None` for a node that accepts any value.
    pub schema: Option<&'a Schema>,
    pub node: &'a SchemaNode,
    pub document: &'a Value,
}

impl<'a> NodeRef<'a> {
    pub(super) fn root(schema: &'a Schema) -> NodeRef<'a> {
        NodeRef {
            schema: Some(schema),
            node: &schema.root,
            document: schema.document(),
        }
    }

    pub(super) fn keyword(self, keyword: &str) -> Option<Value> {
        self.document.get(keyword).cloned()
    }

    /// The kind of the column that stores the node's values. A node inside an array has no column.
    pub(super) fn column_kind(self) -> Option<ColumnKind> {
        Some(self.schema?.columns().get(self.node.column?)?.kind)
    }

    /// The node of the element `index` of the array.
    pub(super) fn item(self, index: usize) -> Option<NodeRef<'a>> {
        let prefix = self.node.prefix_items.get(index).zip(
            self.document
                .get("prefixItems")
                .and_then(|list| list.get(index)),
        );
        prefix
            .map(|(node, document)| NodeRef {
                schema: self.schema,
                node,
                document,
            })
            .or_else(|| self.rest())
    }

    /// The node of the array's elements after `prefixItems`.
    pub(super) fn rest(self) -> Option<NodeRef<'a>> {
        let (node, document) = self.node.items.as_deref().zip(self.document.get("items"))?;
        Some(NodeRef {
            schema: self.schema,
            node,
            document,
        })
    }

    pub(super) fn property(self, name: &str) -> Option<NodeRef<'a>> {
        let (_, node) = self
            .node
            .object
            .as_ref()?
            .properties
            .iter()
            .find(|(known, _)| known == name)?;
        let document = self.document.get("properties")?.get(name)?;
        Some(NodeRef {
            schema: self.schema,
            node,
            document,
        })
    }

    pub(super) fn requires(self, name: &str) -> bool {
        self.node
            .object
            .as_ref()
            .is_some_and(|object| required(object).any(|known| known == name))
    }

    /// The values of `const` or `enum`, if the node has one of them.
    pub(super) fn listed(self) -> Option<Vec<&'a Value>> {
        match (&self.node.enumeration, &self.node.constant) {
            (None, None) => None,
            (Some(values), None) => Some(values.iter().collect()),
            // With both keywords, only the constant can be accepted.
            (_, Some(constant)) => Some(vec![constant]),
        }
    }

    /// The types of the values that the node accepts, as bits of [`Types`].
    pub(super) fn possible_types(self) -> u8 {
        let mut types = self.node.types.0;
        if bounds::has_no_number(self.node) {
            types &= !(Types::INTEGER | Types::NUMBER);
        }
        if self.node.min_items > self.longest_array() {
            types &= !Types::ARRAY;
        }
        if self.node.object.as_ref().is_some_and(|object| {
            required(object)
                .filter_map(|name| self.property(name))
                .any(NodeRef::accepts_nothing)
        }) {
            types &= !Types::OBJECT;
        }
        types
    }

    /// Creates the checker of the node.
    pub(super) fn checker(self) -> NodeChecker {
        match self.schema {
            Some(_) => NodeChecker::new(self.document),
            None => NodeChecker::new(&json!({})),
        }
    }

    /// Whether it is certain that the node accepts no value.
    pub(super) fn accepts_nothing(self) -> bool {
        let Some(values) = self.listed() else {
            return self.possible_types() == 0;
        };
        let checker = self.checker();
        // A large number that the node refuses may equal another number that it accepts.
        !values
            .into_iter()
            .any(|value| checker.accepts_somewhere(value) || has_large_number(value))
    }

    /// The number of elements of the node's longest array. It ends before the first element that
    /// accepts nothing.
    pub(super) fn longest_array(self) -> usize {
        let named = self.node.prefix_items.len();
        // An element that accepts nothing ends every array before it.
        let impossible =
            (0..=named).find(|index| self.item(*index).is_some_and(NodeRef::accepts_nothing));
        impossible.map_or(self.node.max_items, |index| index.min(self.node.max_items))
    }
}

pub(super) fn required(object: &ObjectNode) -> impl Iterator<Item = &str> {
    let declared = object
        .required
        .iter()
        .filter_map(|index| object.properties.get(*index))
        .map(|(name, _)| name.as_str());
    declared.chain(object.required_others.iter().map(String::as_str))
}
