//! The graph of a draft, according to its ONNX file.

use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use crate::{
    cli::pack::Packer,
    engine::{
        EngineFactory,
        infer::{OnnxFactory, Runtime},
    },
    graph::class_labels,
    tensor::signature::{Signature, Symbols},
};

/// The graph, according to its ONNX file.
pub(super) struct DraftGraph {
    pub(super) signature: Signature,
    pub(super) symbols: Symbols,
    /// The outputs that were maps before the maps were removed, each with its keys.
    pub(super) maps: Vec<(String, Vec<Value>)>,
    pub(super) labels: Vec<(String, Vec<Value>)>,
}

/// Reads the graph at `path`. If outputs are maps, the maps are removed from the file. `takes`:
/// whether an input with a default is a field.
pub(super) fn read_graph(
    packer: &Packer,
    path: &Path,
    takes: impl Fn(&str) -> bool,
) -> anyhow::Result<DraftGraph> {
    let runtime = Runtime::load(packer.library())?;
    let (mut factory, _) = OnnxFactory::open(&runtime, path, 1)?;
    factory.feed(takes);
    let about = factory.about()?;
    if let Some(time) = about.time_first {
        bail!("nothing was drafted: {time}");
    }
    let labels = class_labels::to_values(&about.labels);
    let cut = factory.edited().filter(|edited| !edited.maps.is_empty());
    if let Some(cut) = cut {
        fs_err::write(path, &cut.model)?;
    }
    let maps = cut
        .map(|cut| class_labels::to_values(&cut.maps))
        .unwrap_or_default();
    Ok(DraftGraph {
        signature: factory.signature().clone(),
        symbols: factory.symbols().clone(),
        maps,
        labels,
    })
}
