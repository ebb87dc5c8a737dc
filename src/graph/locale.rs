//! Replaces the locale of StringNormalizer. Most models name `en_US.UTF-8`, which small images
//! lack. `C.UTF-8` exists everywhere, and changes the case of the same letters.

use crate::graph::{
    Edited,
    model::{GraphNode, Model},
    wire::{Content, Fields, Malformed, first, put_bytes, put_varint, rewritten},
};

/// A locale that is part of every C library.
const PORTABLE_LOCALE: &str = "C.UTF-8";

/// Languages with their own rules for the case of letters.
const OWN_CASE_RULES: [&str; 4] = ["tr", "az", "lt", "ku"];

/// The model after the locale of every StringNormalizer was replaced. `None` means that the model
/// has no StringNormalizer, or that a language needs its own locale.
///
/// # Errors
/// If the bytes are not an ONNX model.
pub fn replaced(bytes: &[u8]) -> Result<Option<Edited>, Malformed> {
    let model = Model::read(bytes)?;
    let normalizers = || {
        model
            .graph
            .nodes
            .iter()
            .filter(|node| node.op == "StringNormalizer")
    };
    // The replacement would change the case of letters differently in another language.
    if normalizers().next().is_none() || normalizers().any(needs_own_locale) {
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

fn needs_own_locale(node: &GraphNode<'_>) -> bool {
    let language = node.text("locale").unwrap_or_default().to_ascii_lowercase();
    OWN_CASE_RULES
        .iter()
        .any(|own| language.split(['_', '-', '.']).next() == Some(own))
}

/// Returns the node with the attribute `locale` replaced.
fn with_locale(node: &[u8]) -> Result<Vec<u8>, Malformed> {
    const TEXT: u64 = 3;
    let mut edited = Vec::with_capacity(node.len() + 32);
    for field in Fields(node) {
        let field = field?;
        let is_locale = match (field.number, field.content) {
            (5, Content::Bytes(attribute)) => first(attribute, 1)? == Some(b"locale".as_slice()),
            _ => false,
        };
        // A second attribute of the same name would be invalid.
        if !is_locale {
            edited.extend_from_slice(field.raw);
        }
    }
    let mut attribute = Vec::new();
    put_bytes(1, b"locale", &mut attribute);
    put_bytes(4, PORTABLE_LOCALE.as_bytes(), &mut attribute);
    // Field 20 is the type of the attribute.
    put_varint(20, TEXT, &mut attribute);
    put_bytes(5, &attribute, &mut edited);
    Ok(edited)
}
