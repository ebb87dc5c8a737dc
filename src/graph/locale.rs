//! Locale: StringNormalizer asks for one by name, mostly `en_US.UTF-8`, which small images lack. `C.UTF-8` is always there
//! and changes the case of the same letters.

use crate::graph::{
    Edited,
    model::{Model, Node},
    wire::{Content, Fields, Malformed, first, put_bytes, put_varint, rewritten},
};

const ALWAYS_THERE: &str = "C.UTF-8";

/// Languages whose letters change their case otherwise than all others'.
const OWN_CASE: [&str; 4] = ["tr", "az", "lt", "ku"];

/// The model with every StringNormalizer's locale replaced; `None` where there is none that may be.
///
/// # Errors
/// Where the bytes are no ONNX model.
pub fn replaced(bytes: &[u8]) -> Result<Option<Edited>, Malformed> {
    let model = Model::read(bytes)?;
    let normalizers = || {
        model
            .graph
            .nodes
            .iter()
            .filter(|node| node.op == "StringNormalizer")
    };
    if normalizers().next().is_none() || normalizers().any(has_own_case) {
        return Ok(None);
    }
    let model = rewritten(bytes, |field, content| match field {
        7 => Ok(Some(rewritten(content, |field, node| match field {
            1 if first(node, 4)? == Some(b"StringNormalizer".as_slice()) => {
                with_locale(node).map(Some)
            }
            _ => Ok(None),
        })?)),
        _ => Ok(None),
    })?;
    Ok(Some(Edited {
        model,
        maps: Vec::new(),
    }))
}

fn has_own_case(node: &Node<'_>) -> bool {
    let language = node.text("locale").unwrap_or_default().to_ascii_lowercase();
    OWN_CASE
        .iter()
        .any(|own| language.split(['_', '-', '.']).next() == Some(own))
}

/// The node without its attribute `locale`, and with another.
fn with_locale(node: &[u8]) -> Result<Vec<u8>, Malformed> {
    const TEXT: u64 = 3;
    let mut edited = Vec::with_capacity(node.len() + 32);
    for field in Fields(node) {
        let field = field?;
        let is_locale = match (field.number, field.content) {
            (5, Content::Bytes(attribute)) => first(attribute, 1)? == Some(b"locale".as_slice()),
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
