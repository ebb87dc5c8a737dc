//! Locale: StringNormalizer asks for one by name, mostly `en_US.UTF-8`, which small images lack. `C.UTF-8` is always there
//! and changes the case of the same letters.

use crate::graph::{
    model::{Model, Node},
    wire::{Content, Field, Fields, Malformed, put_bytes, put_varint},
};

const ALWAYS_THERE: &str = "C.UTF-8";

/// Languages whose letters change their case otherwise than all others'.
const OWN_CASE: [&str; 4] = ["tr", "az", "lt", "ku"];

/// The model with every StringNormalizer's locale replaced; `None` where there is none that may be.
///
/// # Errors
/// Where the bytes are no ONNX model.
pub fn replaced(bytes: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let model = Model::read(bytes)?;
    let normalizers = || model.graph.nodes.iter().filter(|node| node.op == "StringNormalizer");
    if normalizers().next().is_none() || normalizers().any(has_own_case) {
        return Ok(None);
    }
    let mut edited = Vec::with_capacity(bytes.len() + 64);
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (7, Content::Bytes(graph)) => {
                let mut nodes = Vec::with_capacity(graph.len() + 64);
                for field in Fields(graph) {
                    let field = field?;
                    match (field.number, field.content) {
                        (1, Content::Bytes(node)) if is_normalizer(node)? => put_bytes(1, &with_locale(node)?, &mut nodes),
                        _ => nodes.extend_from_slice(field.raw),
                    }
                }
                put_bytes(7, &nodes, &mut edited);
            }
            _ => edited.extend_from_slice(field.raw),
        }
    }
    Ok(Some(edited))
}

fn has_own_case(node: &Node<'_>) -> bool {
    let language = node.text("locale").unwrap_or_default().to_ascii_lowercase();
    OWN_CASE.iter().any(|own| language.split(['_', '-', '.']).next() == Some(own))
}

fn is_normalizer(node: &[u8]) -> Result<bool, Malformed> {
    for field in Fields(node) {
        if let Field { number: 4, content: Content::Bytes(op), .. } = field? {
            return Ok(op == b"StringNormalizer");
        }
    }
    Ok(false)
}

/// The node without its attribute `locale`, and with another.
fn with_locale(node: &[u8]) -> Result<Vec<u8>, Malformed> {
    const TEXT: u64 = 3;
    let mut edited = Vec::with_capacity(node.len() + 32);
    for field in Fields(node) {
        let field = field?;
        let is_locale = match (field.number, field.content) {
            (5, Content::Bytes(attribute)) => {
                Fields(attribute).flatten().any(|field| field.number == 1 && field.content == Content::Bytes(b"locale"))
            }
            _ => false,
        };
        if !is_locale {
            edited.extend_from_slice(field.raw);
        }
    }
    let mut attribute = Vec::new();
    put_bytes(1, b"locale", &mut attribute);
    put_bytes(4, ALWAYS_THERE.as_bytes(), &mut attribute);
    put_varint(20, TEXT, &mut attribute);
    put_bytes(5, &attribute, &mut edited);
    Ok(edited)
}
