//! Imports a Triton model repository: `NAME/config.pbtxt` and `NAME/VERSION/model.onnx`.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

mod labels;
mod repository;

use std::path::Path;

use serde_json::json;

pub(crate) use repository::{RepositoryVersion, find_versions};

use crate::{
    package::{
        MODEL_FILE, PackageCheck, PackageError,
        bare::{BareGraph, CONFIG_FILE, NoBatches},
        draft::{DraftSources, draft},
        import::{Imported, card, resolve_inside},
        manifest::Provenance,
        serving::{Serving, ServingBatching},
        triton_config::{ConfigTensor, TritonConfig, VersionPolicy},
    },
    tensor::{
        Dim,
        signature::{Signature, TensorSpec},
    },
};

/// What the import did with the settings and files of the repository.
#[derive(Default)]
struct ImportReport {
    /// Settings that are part of the package.
    taken: Vec<String>,
    /// Settings and files that are not part of the package.
    left: Vec<String>,
    /// Notes about what a person should check.
    notes: Vec<String>,
}

/// Makes the package's documents from the graph and `config.pbtxt`. `external` are the files that
/// the graph names.
pub(crate) fn import(
    source: &RepositoryVersion,
    signature: &Signature,
    external: &[String],
) -> Result<Imported, PackageError> {
    let bare = BareGraph::open(&source.directory, &source.id)?;
    // Before anything is drafted: a configuration of another graph would give a wrong package.
    bare.check(signature)?;
    let no_config = TritonConfig::default();
    let config = bare.config.as_ref().unwrap_or(&no_config);
    for output in &config.outputs {
        if let Some(file) = &output.label_filename {
            resolve_inside(&source.root, &source.directory.with_file_name(file))?;
        }
    }
    let known = Signature {
        inputs: refine(&signature.inputs, &config.inputs, config.max_batch_size),
        outputs: refine(&signature.outputs, &config.outputs, config.max_batch_size),
    };
    let mut drafted = draft(&known, &DraftSources::default())
        .map_err(|error| PackageError::caused_by(PackageCheck::Schema, MODEL_FILE, "", error))?;
    drafted.schema["input"]["title"] = json!(format!("Input of {}", source.id.name));

    let mut report = ImportReport::default();
    let preprocessing =
        labels::map_labels(&bare, &known, &mut drafted.schema["output"], &mut report);
    let mut serving_json = None;
    // Without `config.pbtxt` every setting is a default, and none is written.
    if bare.config.is_some() {
        serving_json = serving(&bare, config, signature, &mut report);
        report.left = server_settings(source.id.name.as_str(), config);
        report.notes.extend(report.left.iter().cloned());
    }
    let warnings = report_ignored_keys(config, &mut report);
    report.left.extend(other_files(source, &bare, external));
    let origin = format!("Triton model repository, {}", source.id);
    Ok(Imported {
        schema: drafted.schema,
        preprocessing,
        serving: serving_json,
        examples: Vec::new(),
        card: card(
            source.id.name.as_str(),
            &format!("Imported from a {origin}, by `predictd import triton`."),
            signature,
            &[
                ("Taken over from config.pbtxt", &report.taken),
                ("Not taken over", &report.left),
            ],
        ),
        provenance: Provenance {
            source: Some(origin),
            ..Provenance::default()
        },
        warnings,
        notes: report.notes,
    })
}

/// Reports the keys that were not understood, and returns one warning about all of them.
fn report_ignored_keys(config: &TritonConfig, report: &mut ImportReport) -> Vec<String> {
    // A package has the graph's shapes, so `reshape` is not lost.
    let ignored: Vec<&str> = config
        .ignored
        .iter()
        .map(String::as_str)
        .filter(|key| !key.ends_with(".reshape"))
        .collect();
    if ignored.is_empty() {
        return Vec::new();
    }
    let lines = ignored.iter().map(|key| format!("`{key}`: not understood"));
    report.left.extend(lines);
    vec![format!(
        "{CONFIG_FILE}: not understood: {}",
        ignored.join(", ")
    )]
}

/// The graph's tensors with the dimensions that only the configuration fixes.
fn refine(
    specs: &[TensorSpec],
    configured: &[ConfigTensor],
    max_batch_size: usize,
) -> Vec<TensorSpec> {
    let mut refined = specs.to_vec();
    for spec in &mut refined {
        let Some(tensor) = configured.iter().find(|tensor| tensor.name == *spec.name) else {
            continue;
        };
        let configured = tensor.shape(max_batch_size).0;
        // The dimension of rows stays free.
        for (dim, configured) in spec.shape.0.iter_mut().zip(configured).skip(1) {
            if *dim == Dim::Any {
                *dim = configured;
            }
        }
    }
    refined
}

/// The settings of `config.pbtxt` that belong into `serving.json`.
fn serving(
    bare: &BareGraph,
    config: &TritonConfig,
    signature: &Signature,
    report: &mut ImportReport,
) -> Option<Serving> {
    // 0 means that Triton does not batch this model, which is also the package's default.
    let max_batch_size = (config.max_batch_size > 0).then_some(config.max_batch_size)?;
    report.taken.push(format!(
        "`max_batch_size`: {max_batch_size}, in serving.json"
    ));
    if config.dynamic_batching.is_some() {
        let permitted = bare
            .batching(config.max_batch_size)
            .map_err(NoBatches::from)
            .and_then(|_| Ok(signature.check_batch_axes(|_| false)?));
        match permitted {
            Ok(()) => report.taken.push(
                "`dynamic_batching`: rows of several requests share a run if the gate proves that \
                 they are independent"
                    .to_owned(),
            ),
            Err(why) => report
                .notes
                .push(format!("`dynamic_batching` was left out: {why}")),
        }
    }
    Some(Serving {
        batching: ServingBatching {
            max_batch_size: Some(max_batch_size),
            // The gate decides, and not the configuration: Triton batches without a proof.
            independent_rows: None,
        },
        ..Serving::default()
    })
}

/// The settings of `config.pbtxt` that belong into the server's configuration, with its keys.
fn server_settings(name: &str, config: &TritonConfig) -> Vec<String> {
    let mut left = Vec::new();
    if let Some(batching) = config
        .dynamic_batching
        .filter(|batching| batching.max_queue_delay_us > 0)
    {
        let delay = batching.max_queue_delay_us;
        left.push(format!(
            "`max_queue_delay_microseconds`: in predictd.toml, `[model.{name}] \
             batching.max_delay_us = {delay}`"
        ));
    }
    if let Some(count) = config.instance_count {
        left.push(format!(
            "`instance_group`: predictd counts the cores; in predictd.toml, `[model.{name}] \
             workers = {count}`"
        ));
    }
    if config.version_policy != VersionPolicy::default() {
        left.push(
            "`version_policy`: every version was imported; in predictd.toml, \
             `models.keep_versions` says how many are loaded"
                .to_owned(),
        );
    }
    left
}

/// Files in the version's directory that the graph does not name.
fn other_files(
    source: &RepositoryVersion,
    bare: &BareGraph,
    external: &[String],
) -> Option<String> {
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
        error::text_with_sources,
        package::import::{
            Imported,
            triton::{find_versions, import},
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

    /// Imports a repository with one version, whose graph has the input `x` and the outputs `p` and
    /// `y`.
    fn imported(files: &[(&str, &str)]) -> Imported {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &[("m/1/model.onnx", "graph")]);
        write(directory.path(), files);
        let source = find_versions(directory.path())
            .unwrap()
            .remove(0)
            .1
            .unwrap();
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
    fn the_configuration_refines_the_graph() {
        let config = "max_batch_size: 8 dynamic_batching { } input { name: \"x\" data_type: \
                      TYPE_FP32 dims: 4 } output { name: \"p\" data_type: TYPE_FP32 dims: 3 \
                      label_filename: \"l.txt\" } model_warmup { name: \"w\" }";
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
    fn without_a_configuration_the_draft_follows_the_graph() {
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
            ("a\nb\n", "has 2 labels"),
            ("a\nb\na\n", "the label \"a\" occurs twice"),
            ("", "has 0 labels"),
        ] {
            let config = "output { name: \"p\" label_filename: \"l.txt\" }";
            let imported = imported(&[("m/config.pbtxt", config), ("m/l.txt", labels)]);
            assert_eq!(imported.preprocessing, None);
            assert!(imported.notes[0].contains(expected), "{:?}", imported.notes);
        }
    }

    #[test]
    fn batching_is_declared_only_if_the_configuration_did() {
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
    fn every_version_of_a_repository_is_found() {
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
        let found = find_versions(directory.path()).unwrap();
        let messages: Vec<(&str, String)> = found
            .iter()
            .map(|(label, version)| {
                (
                    label.as_str(),
                    version
                        .as_ref()
                        .err()
                        .map(|error| text_with_sources(error))
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
            ("e", "e: contains no version"),
            ("f g", "f g: is not a model name"),
        ];
        assert_eq!(messages.len(), expected.len(), "{messages:?}");
        for ((label, error), (expected_label, expected_error)) in messages.iter().zip(expected) {
            assert!(
                *label == expected_label && error.starts_with(expected_error),
                "{label}: {error}"
            );
        }
        let one = find_versions(&directory.path().join("a")).unwrap();
        assert_eq!(
            one.iter()
                .map(|(label, _)| label.as_str())
                .collect::<Vec<_>>(),
            ["a/9", "a/10"]
        );
    }
}
