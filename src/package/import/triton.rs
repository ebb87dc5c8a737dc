//! Triton: `NAME/config.pbtxt` and `NAME/VERSION/model.onnx`, as packages.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::{
    id::{ModelId, ModelName, Version},
    package::{
        MODEL_FILE, PackageError,
        bare::{self, BareGraph, CONFIG_FILE},
        draft::{Known, draft},
        import::{Imported, card, inside},
        manifest::Provenance,
        serving::{Serving, ServingBatching},
        triton_config::{ConfigTensor, ModelConfig, VersionPolicy},
    },
    tensor::{
        DataType, Dim,
        signature::{Signature, TensorSpec},
    },
};

/// A version of the repository.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    pub id: ModelId,
    /// NAME/VERSION.
    pub directory: PathBuf,
    pub graph: PathBuf,
    /// What was given to import: nothing outside of it is read.
    pub root: PathBuf,
}

/// `NAME/VERSION`, or `NAME` where the model as a whole can't be imported, and why not.
pub type Candidate = (String, Result<Source, PackageError>);

/// Every version of every model of a repository, or of one model's directory, sorted.
pub fn candidates(directory: &Path) -> Result<Vec<Candidate>, PackageError> {
    let below = directories(directory)?;
    let is_model =
        directory.join(CONFIG_FILE).exists() || below.iter().any(|(name, _)| is_number(name));
    if is_model {
        // `.` and a link have a name, too.
        let absolute =
            fs_err::canonicalize(directory).map_err(|error| PackageError::io("", &error))?;
        let name = absolute
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        return versions(&name, directory, directory);
    }
    let mut candidates = Vec::new();
    for (name, model_directory) in below {
        // A directory of documents is no model.
        if model_directory.join(CONFIG_FILE).exists()
            || directories(&model_directory)?
                .iter()
                .any(|(name, _)| is_number(name))
        {
            candidates.extend(versions(&name, &model_directory, directory)?);
        }
    }
    Ok(candidates)
}

fn is_number(name: &str) -> bool {
    Version::parse(name).is_some_and(|version| version.is_number())
}

fn directories(directory: &Path) -> Result<Vec<(String, PathBuf)>, PackageError> {
    let failed = |error: std::io::Error| PackageError::io(&directory.to_string_lossy(), &error);
    let mut found = Vec::new();
    for entry in fs_err::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    found.sort_by_cached_key(|(name, _)| (name.parse::<u64>().ok(), name.clone()));
    Ok(found)
}

fn versions(text: &str, directory: &Path, root: &Path) -> Result<Vec<Candidate>, PackageError> {
    let fails = |error: PackageError| Ok(vec![(text.to_owned(), Err(error))]);
    let Some(name) = ModelName::parse(text) else {
        return fails(PackageError::new(
            "files",
            text,
            "is not a model name ([A-Za-z0-9][A-Za-z0-9._-]*, at most 128)",
        ));
    };
    // A model of another framework is told once, not for each version.
    let config = directory.join(CONFIG_FILE);
    if let Err(error) = if config.exists() {
        inside(root, &config).and_then(|_| bare::read_config(directory))
    } else {
        Ok(None)
    } {
        return fails(error);
    }
    let mut candidates = Vec::new();
    for (version, directory) in directories(directory)? {
        let Some(version) = Version::parse(&version).filter(Version::is_number) else {
            continue;
        };
        let id = ModelId {
            name: name.clone(),
            version,
        };
        candidates.push((
            id.to_string(),
            graph(&directory).map(|graph| Source {
                id,
                directory,
                graph,
                root: root.to_path_buf(),
            }),
        ));
    }
    if candidates.is_empty() {
        return fails(PackageError::new(
            "files",
            text,
            "holds no version; a directory named by a whole number was expected",
        ));
    }
    Ok(candidates)
}

/// `model.onnx`, which may be a directory that holds the graph and its external data.
fn graph(version: &Path) -> Result<PathBuf, PackageError> {
    let plain = version.join(MODEL_FILE);
    let graph = if plain.is_dir() {
        plain.join(MODEL_FILE)
    } else {
        plain
    };
    if graph.is_file() {
        return Ok(graph);
    }
    let entries =
        fs_err::read_dir(version).map_err(|error| PackageError::io(MODEL_FILE, &error))?;
    let mut others: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    others.sort();
    others.truncate(5);
    let detail = match others.is_empty() {
        true => "is missing; the version's directory is empty".to_owned(),
        false => format!(
            "is missing; there is {}; only ONNX models can be imported",
            others.join(", ")
        ),
    };
    Err(PackageError::new("files", MODEL_FILE, detail))
}

/// The package's documents, from the graph and what `config.pbtxt` says of it.
/// `external` are the files that the graph names.
pub fn import(
    source: &Source,
    signature: &Signature,
    external: &[String],
) -> Result<Imported, PackageError> {
    let bare = BareGraph::open(&source.directory, &source.id)?;
    bare.check(signature)?;
    let none = ModelConfig::default();
    let config = bare.config.as_ref().unwrap_or(&none);
    for file in config
        .outputs
        .iter()
        .filter_map(|output| output.label_filename.as_ref())
    {
        inside(&source.root, &source.directory.with_file_name(file))?;
    }
    let known = Signature {
        inputs: refine(&signature.inputs, &config.inputs, config.max_batch_size),
        outputs: refine(&signature.outputs, &config.outputs, config.max_batch_size),
    };
    let mut drafted = draft(&known, &Known::default())
        .map_err(|detail| PackageError::new("schema", MODEL_FILE, detail))?;
    drafted.schema["input"]["title"] = json!(format!("Input of {}", source.id.name));
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    let mut notes = Vec::new();

    let preprocessing = label(
        &bare,
        &known,
        &mut drafted.schema["output"],
        &mut taken,
        &mut notes,
    );
    let serving = bare
        .config
        .as_ref()
        .and_then(|config| serving(&bare, config, signature, &mut taken, &mut notes));
    if bare.config.is_some() {
        settings(source.id.name.as_str(), config, &mut left);
    }
    notes.extend(left.iter().cloned());
    // A package has the graph's shapes: there is nothing to reshape.
    let ignored: Vec<&str> = config
        .ignored
        .iter()
        .map(String::as_str)
        .filter(|key| !key.ends_with(".reshape"))
        .collect();
    left.extend(ignored.iter().map(|key| format!("`{key}`: not understood")));
    left.extend(other_files(source, &bare, external));
    let warnings = match ignored.as_slice() {
        [] => Vec::new(),
        keys => vec![format!(
            "{CONFIG_FILE}: not understood: {}",
            keys.join(", ")
        )],
    };
    let origin = format!(
        "Imported from a Triton model repository, {}, by `predictd import triton`.",
        source.id
    );
    Ok(Imported {
        schema: drafted.schema,
        preprocessing,
        serving,
        examples: Vec::new(),
        card: card(
            source.id.name.as_str(),
            &origin,
            signature,
            &[
                ("Taken over from config.pbtxt", &taken),
                ("Not taken over", &left),
            ],
        ),
        provenance: Provenance {
            source: Some(format!("Triton model repository, {}", source.id)),
            ..Provenance::default()
        },
        warnings,
        notes,
    })
}

/// A graph's tensors with the dimensions that only the configuration fixes.
fn refine(
    specs: &[TensorSpec],
    configured: &[ConfigTensor],
    max_batch_size: usize,
) -> Vec<TensorSpec> {
    let mut refined = specs.to_vec();
    for spec in &mut refined {
        if let Some(tensor) = configured.iter().find(|tensor| tensor.name == *spec.name) {
            for (dim, known) in spec
                .shape
                .0
                .iter_mut()
                .zip(tensor.shape(max_batch_size).0)
                .skip(1)
            {
                if *dim == Dim::Any {
                    *dim = known;
                }
            }
        }
    }
    refined
}

/// Outputs with a `label_filename` answer a number for each label; the section `outputs`, where there is such a one.
fn label(
    bare: &BareGraph,
    known: &Signature,
    output: &mut Value,
    taken: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Option<Value> {
    let mut section = Map::new();
    let mut mapped = false;
    for spec in &known.outputs {
        let name = spec.name.to_string();
        let mut field = json!({"from": name});
        if let Some(labels) = bare.labels.get(&name) {
            match usable(labels, spec) {
                Ok(labels) => {
                    let numbers: Map<String, Value> = labels
                        .iter()
                        .map(|label| (label.clone(), json!({"type": "number"})))
                        .collect();
                    output["properties"][&name] = json!({"type": "object", "properties": numbers, "required": labels, "additionalProperties": false});
                    field["steps"] = json!([{"as_map": {"labels": labels}}]);
                    taken.push(format!("`label_filename` of `{name}`: its answer is a number for each of {} labels", labels.len()));
                    mapped = true;
                }
                Err(why) => notes.push(format!("the labels of `{name}` were left out: {why}")),
            }
        }
        section.insert(name, field);
    }
    mapped.then(|| json!({"outputs": section}))
}

fn usable<'a>(labels: &'a [String], spec: &TensorSpec) -> Result<&'a [String], String> {
    // Files end in an empty line or two.
    let end = labels
        .iter()
        .rposition(|label| !label.is_empty())
        .map_or(0, |last| last + 1);
    let labels = labels.get(..end).unwrap_or_default();
    if matches!(spec.datatype, DataType::Bytes | DataType::Bool) {
        return Err(format!("they name numbers, and it gives {}", spec.datatype));
    }
    match spec.shape.row() {
        [Dim::Fixed(width)] if *width == labels.len() => {}
        [Dim::Any] if labels.len() > 1 => {}
        _ => {
            return Err(format!(
                "there are {}, and it gives {}",
                labels.len(),
                spec.shape
            ));
        }
    }
    let mut sorted: Vec<&String> = labels.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(pair) => Err(format!(
            "\"{}\" is there twice",
            pair.first().map(|label| label.as_str()).unwrap_or_default()
        )),
        None => Ok(labels),
    }
}

fn serving(
    bare: &BareGraph,
    config: &ModelConfig,
    signature: &Signature,
    taken: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Option<Serving> {
    let max_batch_size = (config.max_batch_size > 0).then_some(config.max_batch_size)?;
    taken.push(format!(
        "`max_batch_size`: {max_batch_size}, in serving.json"
    ));
    if config.dynamic_batching.is_some() {
        match bare.batching(config.max_batch_size).map_err(|forbidden| forbidden.to_string()).and_then(|_| signature.check_rows(|_| false)) {
            Ok(()) => {
                taken.push("`dynamic_batching`: rows of several requests share a run where the gate proves them independent".to_owned())
            }
            Err(why) => notes.push(format!("`dynamic_batching` was left out: {why}")),
        }
    }
    Some(Serving {
        batching: ServingBatching {
            max_batch_size: Some(max_batch_size),
            independent_rows: None,
        },
        ..Serving::default()
    })
}

/// What is understood, but is the server's to say and not the package's.
fn settings(name: &str, config: &ModelConfig, left: &mut Vec<String>) {
    if let Some(batching) = config
        .dynamic_batching
        .filter(|batching| batching.max_queue_delay_us > 0)
    {
        let delay = batching.max_queue_delay_us;
        left.push(format!("`max_queue_delay_microseconds`: in predictd.toml, `[model.{name}] batching.max_delay_us = {delay}`"));
    }
    if let Some(count) = config.instance_count {
        left.push(format!("`instance_group`: predictd counts the cores; in predictd.toml, `[model.{name}] workers = {count}`"));
    }
    if config.version_policy != VersionPolicy::default() {
        left.push(
            "`version_policy`: every version was imported; in predictd.toml, `models.keep_versions` says how many are loaded".to_owned(),
        );
    }
}

/// Files in the version's directory that the graph does not name.
fn other_files(source: &Source, bare: &BareGraph, external: &[String]) -> Option<String> {
    let base = source
        .graph
        .parent()?
        .strip_prefix(&source.directory)
        .ok()?;
    let is_used = |file: &str| {
        external
            .iter()
            .map(String::as_str)
            .chain([MODEL_FILE])
            .any(|used| base.join(used) == Path::new(file))
    };
    let others: Vec<&str> = bare
        .manifest
        .files
        .keys()
        .map(String::as_str)
        .filter(|file| !is_used(file))
        .collect();
    (!others.is_empty())
        .then(|| format!("files that the graph does not name: {}", others.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use serde_json::json;

    use crate::{
        package::import::{
            Imported,
            triton::{candidates, import},
        },
        tensor::{
            DataType, Dim, Shape,
            signature::{Signature, TensorSpec},
        },
    };

    fn spec(name: &str, datatype: DataType, row: &[Dim]) -> TensorSpec {
        TensorSpec {
            name: Arc::from(name),
            datatype,
            shape: Shape([&[Dim::Any], row].concat()),
        }
    }

    /// A repository with one version, imported for a graph of `x` to `p` and `y`.
    fn imported(files: &[(&str, &str)]) -> Imported {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &[("m/1/model.onnx", "graph")]);
        write(directory.path(), files);
        let source = candidates(directory.path()).unwrap().remove(0).1.unwrap();
        let signature = Signature {
            inputs: vec![spec("x", DataType::Fp32, &[Dim::Any])],
            outputs: vec![
                spec("p", DataType::Fp32, &[Dim::Fixed(3)]),
                spec("y", DataType::Int64, &[]),
            ],
        };
        import(&source, &signature, &["weights.bin".to_owned()]).unwrap()
    }

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (file, text) in files {
            let path = root.join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_configuration_says_more_than_the_graph() {
        let config = "max_batch_size: 8 dynamic_batching { } input { name: \"x\" data_type: TYPE_FP32 dims: 4 } \
                      output { name: \"p\" data_type: TYPE_FP32 dims: 3 label_filename: \"l.txt\" } model_warmup { name: \"w\" }";
        let files = [
            ("m/config.pbtxt", config),
            ("m/l.txt", "a\nb\nc\n\n"),
            ("m/1/weights.bin", ""),
            ("m/1/notes.txt", ""),
        ];
        let imported = imported(&files);
        let properties = &imported.schema["input"]["properties"];
        assert_eq!(
            properties["x"],
            json!({"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": "number"}})
        );
        assert_eq!(
            imported.schema["output"]["properties"]["p"]["required"],
            json!(["a", "b", "c"])
        );
        assert_eq!(
            imported.schema["output"]["properties"]["y"],
            json!({"type": "integer"})
        );
        let expected = json!({"outputs": {"p": {"from": "p", "steps": [{"as_map": {"labels": ["a", "b", "c"]}}]}, "y": {"from": "y"}}});
        assert_eq!(imported.preprocessing, Some(expected));
        let batching = imported.serving.unwrap().batching;
        assert_eq!(
            (batching.max_batch_size, batching.independent_rows),
            (Some(8), None)
        );
        assert_eq!(
            imported.warnings,
            ["config.pbtxt: not understood: model_warmup"]
        );
        assert!(
            imported
                .card
                .contains("- files that the graph does not name: notes.txt\n"),
            "{}",
            imported.card
        );
        assert_eq!(
            imported.provenance.source.as_deref(),
            Some("Triton model repository, m/1")
        );
    }

    #[test]
    fn without_a_configuration_the_graph_speaks_alone() {
        let imported = imported(&[]);
        assert_eq!((&imported.preprocessing, &imported.serving), (&None, &None));
        assert!(imported.warnings.is_empty() && imported.notes.is_empty());
        assert_eq!(
            imported.schema["input"]["properties"]["x"],
            json!({"type": "array", "items": {"type": "number"}})
        );
    }

    #[test]
    fn labels_that_do_not_fit_are_left_out() {
        for (labels, expected) in [
            ("a\nb\n", "there are 2"),
            ("a\nb\na\n", "\"a\" is there twice"),
            ("", "there are 0"),
        ] {
            let config = "output { name: \"p\" label_filename: \"l.txt\" }";
            let imported = imported(&[("m/config.pbtxt", config), ("m/l.txt", labels)]);
            assert_eq!(imported.preprocessing, None);
            assert!(imported.notes[0].contains(expected), "{:?}", imported.notes);
        }
    }

    #[test]
    fn batching_is_declared_only_where_it_was() {
        let batching = |config: &str| {
            imported(&[("m/config.pbtxt", config)])
                .serving
                .map(|serving| serving.batching)
        };
        assert_eq!(batching("max_batch_size: 0"), None);
        let declared = batching("max_batch_size: 8").unwrap();
        assert_eq!(
            (declared.max_batch_size, declared.independent_rows),
            (Some(8), None)
        );
    }

    #[test]
    fn what_can_be_imported_is_found() {
        let directory = tempfile::tempdir().unwrap();
        write(
            directory.path(),
            &[
                ("a/10/model.onnx", ""),
                ("a/9/model.onnx", ""),
                ("a/old/model.onnx", ""),
                ("b/1/model.onnx/model.onnx", ""),
                ("c/1/model.plan", ""),
                ("d/config.pbtxt", "backend: \"pytorch\""),
                ("e/config.pbtxt", ""),
                ("f g/1/model.onnx", ""),
                ("docs/readme.txt", ""),
                (".hidden/1/model.onnx", ""),
            ],
        );
        let found = candidates(directory.path()).unwrap();
        let told: Vec<(&str, String)> = found
            .iter()
            .map(|(label, version)| {
                (
                    label.as_str(),
                    version
                        .as_ref()
                        .err()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                )
            })
            .collect();
        let expected = [
            ("a/9", ""),
            ("a/10", ""),
            ("b/1", ""),
            ("c/1", "model.onnx: is missing; there is model.plan"),
            ("d", "config.pbtxt: line 1: `backend` is \"pytorch\""),
            ("e", "e: holds no version"),
            ("f g", "f g: is not a model name"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for ((label, error), (expected_label, expected_error)) in told.iter().zip(expected) {
            assert!(
                *label == expected_label && error.starts_with(expected_error),
                "{label}: {error}"
            );
        }
        let one = candidates(&directory.path().join("a")).unwrap();
        assert_eq!(
            one.iter()
                .map(|(label, _)| label.as_str())
                .collect::<Vec<_>>(),
            ["a/9", "a/10"]
        );
    }
}
