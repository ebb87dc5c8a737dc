//! `BareGraph`: a graph without a manifest in a directory that is named by a number, which is the
//! layout of the model repositories of Triton, KServe and TensorFlow Serving.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::Arc,
};

use crate::{
    id::{ModelId, ModelName, Version},
    package::{
        MODEL_FILE, PackageCheck, PackageError,
        manifest::{Manifest, Provenance},
        triton_config::{self, ConfigTensor, TritonConfig},
    },
    tensor::{
        Dim,
        signature::{BatchAxisError, Signature, TensorSpec},
    },
};

/// The name of the configuration file in the model's directory, next to the version directories.
pub(crate) const CONFIG_FILE: &str = "config.pbtxt";

/// Maximum size of a configuration. It is written by hand. The limit bounds the memory for a wrong
/// file.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Maximum size of a file of labels. The limit bounds the memory for a wrong file.
const MAX_LABEL_BYTES: u64 = 64 << 20;

/// Maximum number of labels, which is more than any classifier has. The rest of the file is
/// ignored.
const MAX_LABELS: usize = 1 << 20;

pub(crate) struct BareGraph {
    pub id: ModelId,
    /// The files of the version's directory, hashed when it was opened. No published list exists to
    /// check them against.
    pub manifest: Manifest,
    pub config: Option<TritonConfig>,
    /// The labels of a row's values, for each output with a `label_filename`.
    pub labels: BTreeMap<String, Arc<[String]>>,
}

/// The files of a model's directory, next to its versions.
pub(crate) struct ModelFiles {
    pub config: Option<TritonConfig>,
    pub labels: BTreeMap<String, Arc<[String]>>,
    /// The names of the files that were read.
    pub files: BTreeSet<String>,
}

impl ModelFiles {
    pub(crate) fn read(
        model_directory: &Path,
        name: &ModelName,
    ) -> Result<ModelFiles, PackageError> {
        let config = read_config(model_directory)?;
        if let Some(other) = config
            .as_ref()
            .and_then(|config| config.name.as_deref())
            .filter(|other| *other != name.as_str())
        {
            let detail = format!("names the model \"{other}\", but is in the directory of {name}");
            return Err(PackageError::new(PackageCheck::Config, CONFIG_FILE, detail));
        }
        let (mut labels, mut files) = (BTreeMap::new(), BTreeSet::new());
        files.extend(config.as_ref().map(|_| CONFIG_FILE.to_owned()));
        for output in config.iter().flat_map(|config| &config.outputs) {
            if let Some(file) = &output.label_filename {
                labels.insert(output.name.clone(), read_labels(model_directory, file)?);
                files.insert(file.clone());
            }
        }
        Ok(ModelFiles {
            config,
            labels,
            files,
        })
    }
}

/// Why rows of several requests must not share a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchingForbidden {
    #[error("the largest batch is set to 1")]
    ByServer,
    #[error("config.pbtxt says max_batch_size: {0}")]
    ByConfig(usize),
}

/// Why the rows of a bare graph never share a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoBatches {
    #[error(transparent)]
    Axis(#[from] BatchAxisError),
    #[error(transparent)]
    Forbidden(#[from] BatchingForbidden),
}

/// The identity in a path that ends in `NAME/VERSION`.
pub(crate) fn id_of(directory: &Path) -> Option<ModelId> {
    let text = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
    };
    let name = ModelName::parse(&text(directory.parent()?)?)?;
    Some(ModelId {
        name,
        version: Version::parse(&text(directory)?)?,
    })
}

/// Whether a version's directory contains a bare graph: its name is a number, and it has a graph
/// and no manifest.
pub(crate) fn is_bare(directory: &Path, id: &ModelId) -> bool {
    id.version.is_number()
        && directory.join(MODEL_FILE).is_file()
        && !directory.join(crate::package::manifest::FILE).exists()
}

/// Reads the `config.pbtxt` of a model, if it has one.
pub(crate) fn read_config(model_directory: &Path) -> Result<Option<TritonConfig>, PackageError> {
    match read_inside(model_directory, CONFIG_FILE, MAX_CONFIG_BYTES) {
        Ok(text) => triton_config::parse(&text)
            .map(Some)
            .map_err(|error| PackageError::caused_by(PackageCheck::Config, CONFIG_FILE, "", error)),
        // TensorFlow Serving and KServe have no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PackageError::io(CONFIG_FILE, error)),
    }
}

/// Reads a regular file of at most `limit` bytes in the model's directory. A link that leads out of
/// the directory is refused: whoever writes the model's directory must not read other files of the
/// server.
fn read_inside(directory: &Path, file: &str, limit: u64) -> io::Result<String> {
    // Both paths are resolved, because the directory itself may be reached by a link.
    let path = fs_err::canonicalize(directory.join(file))?;
    if !path.starts_with(fs_err::canonicalize(directory)?) {
        return Err(io::Error::other(
            "it is a link that leads out of the model's directory",
        ));
    }
    let metadata = fs_err::metadata(&path)?;
    if !metadata.is_file() || metadata.len() > limit {
        return Err(io::Error::other(format!(
            "it must be a file of at most {limit} bytes"
        )));
    }
    fs_err::read_to_string(&path)
}

impl BareGraph {
    pub(crate) fn open(directory: &Path, id: &ModelId) -> Result<BareGraph, PackageError> {
        let ModelFiles { config, labels, .. } =
            ModelFiles::read(directory.parent().unwrap_or(directory), &id.name)?;
        // The hashes make a changed file visible, although no manifest vouches for the first one.
        let manifest = Manifest::of_directory(directory, id, String::new(), Provenance::default())?;
        Ok(BareGraph {
            id: id.clone(),
            manifest,
            config,
            labels,
        })
    }

    /// The number of rows that may share a run if they are independent.
    pub(crate) fn batching(&self, max_batch_size: usize) -> Result<usize, BatchingForbidden> {
        if max_batch_size < 2 {
            return Err(BatchingForbidden::ByServer);
        }
        // Without a configuration the model sets no limit of its own.
        match &self.config {
            None => Ok(max_batch_size),
            // 0 means that the graph has no dimension of rows.
            Some(config) if config.max_batch_size < 2 => {
                Err(BatchingForbidden::ByConfig(config.max_batch_size))
            }
            Some(config) => Ok(config.max_batch_size.min(max_batch_size)),
        }
    }

    /// Whether the configuration enables `dynamic_batching`. Triton would batch without a proof
    /// that the rows are independent.
    pub(crate) fn requests_batching(&self) -> bool {
        self.config
            .as_ref()
            .is_some_and(|config| config.dynamic_batching.is_some() && config.max_batch_size > 1)
    }

    /// The name of the file with an output's labels.
    pub(crate) fn label_file(&self, output: &str) -> Option<&str> {
        let outputs = &self.config.as_ref()?.outputs;
        outputs
            .iter()
            .find(|tensor| tensor.name == output)?
            .label_filename
            .as_deref()
    }

    /// The signature with the dimensions that only the configuration fixes.
    #[must_use]
    pub(crate) fn refined(&self, signature: &Signature) -> Signature {
        let mut refined = signature.clone();
        if let Some(config) = &self.config {
            refine(&mut refined.inputs, &config.inputs, config.max_batch_size);
            refine(&mut refined.outputs, &config.outputs, config.max_batch_size);
        }
        refined
    }

    /// Checks that the configuration does not contradict the graph.
    pub(crate) fn check(&self, signature: &Signature) -> Result<(), PackageError> {
        let Some(config) = &self.config else {
            return Ok(());
        };
        for (side, configured, specs) in [
            ("input", &config.inputs, &signature.inputs),
            ("output", &config.outputs, &signature.outputs),
        ] {
            for tensor in configured {
                let fault = |detail: String| {
                    PackageError::new(PackageCheck::Config, CONFIG_FILE, detail)
                        .at(&format!("{side} {}", tensor.name))
                };
                let Some(spec) = specs.iter().find(|spec| *spec.name == *tensor.name) else {
                    let known: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
                    return Err(fault(format!(
                        "the graph has no such {side}; it has {}",
                        known.join(", ")
                    )));
                };
                // A contradiction means that the file belongs to another version of the model.
                if !fits(tensor, spec, config.max_batch_size) {
                    let datatype = tensor.datatype.unwrap_or(spec.datatype);
                    return Err(fault(format!(
                        "says {datatype}{}; the graph has {spec}",
                        tensor.shape(config.max_batch_size)
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Sets dimensions that the graph leaves open to those of the configuration.
fn refine(specs: &mut [TensorSpec], configured: &[ConfigTensor], max_batch_size: usize) {
    for spec in specs {
        let Some(tensor) = configured
            .iter()
            .find(|tensor| *tensor.name == *spec.name && !tensor.dims.is_empty())
        else {
            continue;
        };
        // The graph does not even declare its rank, so the configured shape replaces it as a whole.
        if spec.shape.0.contains(&Dim::Rest) {
            spec.shape = tensor.shape(max_batch_size);
            continue;
        }
        for (dim, configured) in spec.shape.0.iter_mut().zip(tensor.shape(max_batch_size).0) {
            if *dim == Dim::Any {
                *dim = configured;
            }
        }
    }
}

/// Whether a configured tensor does not contradict the graph's. Each may fix dimensions that the
/// other leaves open.
fn fits(tensor: &ConfigTensor, spec: &TensorSpec, max_batch_size: usize) -> bool {
    let shape = tensor.shape(max_batch_size);
    let dims = shape
        .0
        .iter()
        .zip(&spec.shape.0)
        .all(|(a, b)| match (a, b) {
            (Dim::Fixed(a), Dim::Fixed(b)) => a == b,
            _ => true,
        });
    tensor
        .datatype
        .is_none_or(|datatype| datatype == spec.datatype)
        && (tensor.dims.is_empty()
            || spec.shape.0.contains(&Dim::Rest)
            || shape.0.len() == spec.shape.0.len() && dims)
}

/// Reads a file with one label in each line.
fn read_labels(directory: &Path, file: &str) -> Result<Arc<[String]>, PackageError> {
    // A path could name a file of the server outside of the model's directory.
    if file.contains(['/', '\\']) || file.starts_with('.') {
        return Err(PackageError::new(
            PackageCheck::Config,
            CONFIG_FILE,
            format!("label_filename \"{file}\" must be a file next to it"),
        ));
    }
    let text = read_inside(directory, file, MAX_LABEL_BYTES)
        .map_err(|error| PackageError::io(file, error))?;
    let labels: Vec<String> = text
        .lines()
        .take(MAX_LABELS)
        // Files from Windows end their lines with a carriage return.
        .map(|line| line.trim_end().to_owned())
        .collect();
    Ok(labels.into())
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use tempfile::TempDir;

    use crate::{
        error::text_with_sources,
        id::{ModelId, ModelName, Version},
        package::{
            PackageError,
            bare::{BareGraph, is_bare, read_config},
        },
        tensor::{
            DataType, Dim, Shape,
            signature::{Signature, TensorSpec},
        },
    };

    fn id(version: &str) -> ModelId {
        ModelId {
            name: ModelName::parse("m").unwrap(),
            version: Version::parse(version).unwrap(),
        }
    }

    fn spec(name: &str, datatype: DataType, dims: &[Dim]) -> TensorSpec {
        TensorSpec {
            name: Arc::from(name),
            datatype,
            shape: Shape(dims.to_vec()),
        }
    }

    /// The input `x` is float32[-1, 4], and the output `y` is float32[`batch`, 3].
    fn signature(batch: Dim) -> Signature {
        Signature {
            inputs: vec![spec("x", DataType::Fp32, &[Dim::Any, Dim::Fixed(4)])],
            outputs: vec![spec("y", DataType::Fp32, &[batch, Dim::Fixed(3)])],
        }
    }

    fn repository(files: &[(&str, &str)]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in files.iter().chain(&[("m/1/model.onnx", "graph")]) {
            let path = directory.path().join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        directory
    }

    fn open(directory: &Path) -> Result<BareGraph, PackageError> {
        BareGraph::open(&directory.join("m/1"), &id("1"))
    }

    fn configured(config: &str) -> BareGraph {
        open(repository(&[("m/config.pbtxt", config)]).path()).unwrap()
    }

    fn refused(files: &[(&str, &str)]) -> String {
        text_with_sources(&open(repository(files).path()).err().unwrap())
    }

    #[test]
    fn a_number_and_a_graph_without_manifest_are_a_bare_graph() {
        let directory = repository(&[
            ("m/2/other.onnx", ""),
            ("m/3/model.onnx", ""),
            ("m/3/manifest.json", ""),
            ("m/1.0.0/model.onnx", ""),
        ]);
        let bare = |version: &str| is_bare(&directory.path().join("m").join(version), &id(version));
        assert!(bare("1"));
        assert!(!bare("2"), "no graph");
        assert!(!bare("3"), "a package");
        assert!(!bare("1.0.0"), "not a number");
        assert!(!bare("4"), "missing");
    }

    #[test]
    fn a_configuration_may_be_missing_but_not_malformed() {
        let directory = repository(&[
            ("m/config.pbtxt", "max_batch_size: 4"),
            ("n/config.pbtxt", "name: \"n"),
            ("o/x", ""),
        ]);
        let read = |name: &str| read_config(&directory.path().join(name));
        assert_eq!(read("m").unwrap().unwrap().max_batch_size, 4);
        assert_eq!(
            text_with_sources(&read("n").unwrap_err()),
            "config.pbtxt: line 1: the text in quotes does not end"
        );
        assert_eq!(read("o"), Ok(None));
    }

    #[test]
    fn a_version_lists_its_files() {
        let bare =
            open(repository(&[("m/1/weights.bin", "w"), ("m/config.pbtxt", "name: \"m\"")]).path())
                .unwrap();
        assert_eq!(bare.id, id("1"));
        assert_eq!(
            bare.manifest.files.keys().collect::<Vec<_>>(),
            ["model.onnx", "weights.bin"]
        );
        assert!(bare.manifest.digest.starts_with("sha256:"));
        let error = refused(&[("m/config.pbtxt", "name: \"other\"")]);
        assert_eq!(
            error,
            "config.pbtxt: names the model \"other\", but is in the directory of m"
        );
    }

    #[test]
    fn labels_are_next_to_the_configuration() {
        let config = "output { name: \"y\" label_filename: \"l.txt\" }";
        let bare =
            open(repository(&[("m/config.pbtxt", config), ("m/l.txt", "a \nb\r\n\nc")]).path())
                .unwrap();
        assert_eq!(bare.labels["y"].as_ref(), ["a", "b", "", "c"]);
        assert!(refused(&[("m/config.pbtxt", config)]).starts_with("l.txt: can't be read"));
        for file in ["../l.txt", "/l.txt", "a/l.txt", "a\\\\l.txt", ".l.txt"] {
            let config = format!("output {{ name: \"y\" label_filename: \"{file}\" }}");
            assert!(
                refused(&[("m/config.pbtxt", &config)]).contains("must be a file next to it"),
                "{file}"
            );
        }
    }

    #[test]
    fn rows_share_a_run_unless_graph_or_configuration_forbid_it() {
        let batching = |config: &str| configured(config).batching(64);
        assert_eq!(batching("max_batch_size: 8 dynamic_batching { }"), Ok(8));
        assert_eq!(batching("max_batch_size: 8"), Ok(8));
        assert_eq!(batching("max_batch_size: 800"), Ok(64));
        for (config, expected) in [
            ("dynamic_batching { }", "max_batch_size: 0"),
            (
                "max_batch_size: 1 dynamic_batching { }",
                "max_batch_size: 1",
            ),
        ] {
            let error = batching(config).unwrap_err().to_string();
            assert!(error.contains(expected), "{config}: {error}");
        }
        let error = signature(Dim::Fixed(8))
            .check_batch_axes(|_| false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("dynamic first dimension"), "{error}");
        assert_eq!(
            signature(Dim::Fixed(1)).check_batch_axes(|output| output == "y"),
            Ok(())
        );
        assert!(configured("max_batch_size: 8 dynamic_batching { }").requests_batching());
        assert!(!configured("max_batch_size: 8").requests_batching());
        let bare = open(repository(&[]).path()).unwrap();
        assert_eq!(bare.batching(16), Ok(16));
        assert_eq!(bare.check(&signature(Dim::Any)), Ok(()));
    }

    #[test]
    fn configuration_and_graph_must_not_contradict_each_other() {
        let check = |config: &str| {
            configured(config)
                .check(&signature(Dim::Any))
                .map_err(|error| error.to_string())
        };
        for good in [
            "max_batch_size: 8 input { name: \"x\" data_type: TYPE_FP32 dims: 4 }",
            "max_batch_size: 8 input { name: \"x\" dims: -1 } output { name: \"y\" }",
            "input { name: \"x\" dims: [ -1, 4 ] } output { name: \"y\" dims: [ 16, 3 ] }",
            "max_batch_size: 8 output { name: \"y\" dims: [ 3, 1 ] reshape { shape: 3 } }",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, expected) in [
            (
                "input { name: \"z\" }",
                "config.pbtxt input z: the graph has no such input; it has x",
            ),
            (
                "input { name: \"x\" data_type: TYPE_INT64 dims: [ -1, 4 ] }",
                "config.pbtxt input x: says int64[-1, 4]; the graph has float32[-1, 4]",
            ),
            (
                "input { name: \"x\" dims: 4 }",
                "config.pbtxt input x: says float32[4]; the graph has float32[-1, 4]",
            ),
            (
                "max_batch_size: 8 output { name: \"y\" dims: 5 }",
                "config.pbtxt output y: says float32[-1, 5]; the graph has float32[-1, 3]",
            ),
        ] {
            assert_eq!(check(bad), Err(expected.to_owned()), "{bad}");
        }
    }
}
