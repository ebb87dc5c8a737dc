//! External: the files beside a graph that hold its weights, as the graph names them.
//!
//! ONNX Runtime tells nobody which files it read, so the graph's own bytes are gone through here: as far as the places
//! where a tensor may say that it lies elsewhere, and no further.

use std::{
    collections::BTreeSet,
    path::{Component, Path},
};

use crate::graph::wire::{Content, Fields};

/// The messages of ONNX below which a tensor may lie.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    /// One of the pairs that say where a tensor's data lies.
    Entry,
}

/// The message that a field holds, where it matters here. Numbers as in onnx.proto3, which never changes them.
fn below(message: Message, field: u64) -> Option<Message> {
    Some(match (message, field) {
        (Message::Model, 7) | (Message::Attribute, 6 | 11) => Message::Graph,
        (Message::Model, 25) => Message::Function,
        (Message::Graph, 1) | (Message::Function, 7) => Message::Node,
        (Message::Node, 5) | (Message::Function, 11) => Message::Attribute,
        (Message::Graph, 15) | (Message::Attribute, 22 | 23) => Message::SparseTensor,
        (Message::Graph, 5) | (Message::Attribute, 5 | 10) | (Message::SparseTensor, 1 | 2) => {
            Message::Tensor
        }
        (Message::Tensor, 13) => Message::Entry,
        _ => return None,
    })
}

/// The files that the graph names, relative to its directory, sorted.
///
/// # Errors
/// Where the bytes are no protobuf message, or a name leads out of the graph's directory.
pub fn files(graph: &[u8]) -> Result<Vec<String>, String> {
    let mut found = BTreeSet::new();
    // A stack of our own: nesting is the file's to choose.
    let mut waiting = vec![(Message::Model, graph)];
    while let Some((message, bytes)) = waiting.pop() {
        let (mut key, mut value) = (None, None);
        for field in Fields(bytes) {
            let field = field.map_err(|error| error.to_string())?;
            let Content::Bytes(content) = field.content else {
                continue;
            };
            match (message, field.number) {
                (Message::Entry, 1) => key = Some(content),
                (Message::Entry, 2) => value = Some(content),
                _ => waiting.extend(below(message, field.number).map(|message| (message, content))),
            }
        }
        if key == Some(b"location".as_slice()) {
            let location = std::str::from_utf8(value.unwrap_or_default())
                .map_err(|_| "names external data in no UTF-8")?;
            if !is_inside(Path::new(location)) {
                return Err(format!(
                    "names \"{location}\" as its external data, which leads out of its directory"
                ));
            }
            found.insert(plain(location));
        }
    }
    Ok(found.into_iter().collect())
}

/// Whether a path goes down only, or stays on the way, as `./a` does.
pub fn is_inside(path: &Path) -> bool {
    path.components()
        .any(|component| matches!(component, Component::Normal(_)))
        && path
            .components()
            .all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
}

/// The path without the components that go nowhere.
fn plain(location: &str) -> String {
    let names = location
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".");
    names.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use crate::package::import::external::{files, is_inside, plain};

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
                .contains("\"../secret.bin\"")
        );
        assert!(files(b"not a model").unwrap_err().contains("no ONNX model"));
    }

    #[test]
    fn only_paths_that_go_down_are_inside() {
        for good in ["a", "a/b.bin", "weights/part 1", "./a", "a/./b"] {
            assert!(is_inside(Path::new(good)), "{good}");
        }
        for bad in ["", "/a", "../a", "a/../../b", ".", "./.", "./../a"] {
            assert!(!is_inside(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn names_that_go_nowhere_are_one_name() {
        assert_eq!(plain("./weights/.//a.bin"), "weights/a.bin");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = files(&bytes);
        }
    }
}
