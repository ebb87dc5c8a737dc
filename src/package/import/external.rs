//! Finds the files of external data: the weights that a graph keeps in files next to it.
//!
//! ONNX Runtime does not report which files it reads. This module reads only those messages in the
//! graph's bytes in which a tensor may refer to a file.

use std::{
    collections::BTreeSet,
    path::{Component, Path},
};

use crate::graph::wire::{Content, Fields, Malformed};

/// The messages of ONNX that may contain a tensor at some depth.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    /// A key and a value that describe the file of a tensor's data.
    ExternalData,
}

/// The message in a field, if it may contain a tensor. The field numbers are those of onnx.proto3,
/// and never change.
fn child(message: Message, field: u64) -> Option<Message> {
    Some(match (message, field) {
        (Message::Model, 7) | (Message::Attribute, 6 | 11) => Message::Graph,
        (Message::Model, 25) => Message::Function,
        (Message::Graph, 1) | (Message::Function, 7) => Message::Node,
        (Message::Node, 5) | (Message::Function, 11) => Message::Attribute,
        (Message::Graph, 15) | (Message::Attribute, 22 | 23) => Message::SparseTensor,
        (Message::Graph, 5) | (Message::Attribute, 5 | 10) | (Message::SparseTensor, 1 | 2) => {
            Message::Tensor
        }
        (Message::Tensor, 13) => Message::ExternalData,
        _ => return None,
    })
}

/// Why the files of a graph can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum ExternalDataError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("names external data in a string that is not UTF-8")]
    NotUtf8,
    #[error("names \"{0}\" as its external data, which leads out of its directory")]
    LeadsOut(String),
}

/// The files that the graph names, relative to its directory, sorted.
///
/// # Errors
/// If the bytes are not a protobuf message, or a path leads out of the graph's directory.
pub fn files(graph: &[u8]) -> Result<Vec<String>, ExternalDataError> {
    let mut found = BTreeSet::new();
    // An explicit stack: the file chooses the nesting, and must not overflow the thread's stack.
    let mut waiting = vec![(Message::Model, graph)];
    while let Some((message, bytes)) = waiting.pop() {
        let (mut key, mut value) = (None, None);
        for field in Fields(bytes) {
            let field = field?;
            let Content::Bytes(content) = field.content else {
                continue;
            };
            match (message, field.number) {
                (Message::ExternalData, 1) => key = Some(content),
                (Message::ExternalData, 2) => value = Some(content),
                _ => waiting.extend(child(message, field.number).map(|message| (message, content))),
            }
        }
        if key == Some(b"location".as_slice()) {
            let location = std::str::from_utf8(value.unwrap_or_default())
                .map_err(|_| ExternalDataError::NotUtf8)?;
            if !is_inside(Path::new(location)) {
                return Err(ExternalDataError::LeadsOut(location.to_owned()));
            }
            found.insert(without_dots(location));
        }
    }
    Ok(found.into_iter().collect())
}

/// Whether a relative path stays below its directory and names a file or directory in it.
pub fn is_inside(path: &Path) -> bool {
    path.components()
        .any(|component| matches!(component, Component::Normal(_)))
        && path
            .components()
            .all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
}

/// The path without empty components and `.`: two spellings of one file must not be copied twice.
fn without_dots(location: &str) -> String {
    let names = location
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".");
    names.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use crate::package::import::external::{files, is_inside, without_dots};

    fn fixture(name: &str) -> Vec<u8> {
        fs_err::read(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/fixtures/onnx")
                .join(name),
        )
        .unwrap()
    }

    #[test]
    fn a_graph_names_its_files() {
        assert_eq!(
            files(&fixture("external_data.onnx")).unwrap(),
            ["external_data.bin"]
        );
        assert!(files(&fixture("add_sub.onnx")).unwrap().is_empty());
        assert!(files(&fixture("nested_functions.onnx")).unwrap().is_empty());
        assert!(
            files(&fixture("external_escape.onnx"))
                .unwrap_err()
                .to_string()
                .contains("\"../secret.bin\"")
        );
        assert!(
            files(b"not a model")
                .unwrap_err()
                .to_string()
                .contains("not an ONNX model")
        );
    }

    #[test]
    fn only_paths_below_the_directory_are_inside() {
        for good in ["a", "a/b.bin", "weights/part 1", "./a", "a/./b"] {
            assert!(is_inside(Path::new(good)), "{good}");
        }
        for bad in ["", "/a", "../a", "a/../../b", ".", "./.", "./../a"] {
            assert!(!is_inside(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn two_spellings_of_one_file_are_one_name() {
        assert_eq!(without_dots("./weights/.//a.bin"), "weights/a.bin");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = files(&bytes);
        }
    }
}
