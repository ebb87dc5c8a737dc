//! Bare: a graph in a directory named by a number, as Triton, KServe and TensorFlow Serving lay out their repositories.
//! No manifest vouches for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::Arc,
};

use crate::{
    id::{ModelId, ModelName, Version},
    package::{
        MODEL_FILE, PackageError,
        manifest::{Manifest, Provenance},
        pbtxt::{self, ConfigTensor, ModelConfig},
    },
    tensor::{
        Dim,
        signature::{Signature, TensorSpec},
    },
};

/// Beside the versions, in the model's directory.
pub const CONFIG_FILE: &str = "config.pbtxt";

/// People write it by hand.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

const MAX_LABEL_BYTES: u64 = 64 << 20;

/// A label file with more lines is something else.
const MAX_LABELS: usize = 1 << 20;

pub struct Bare {
    pub id: ModelId,
    /// What lies in the version's directory, hashed now; there is no other list to hold it against.
    pub manifest: Manifest,
    pub config: Option<ModelConfig>,
    /// For each output with a `label_filename`, what the values of a row stand for.
    pub labels: BTreeMap<String, Arc<[String]>>,
}

/// What lies beside a model's versions, in its directory.
pub struct Beside {
    pub config: Option<ModelConfig>,
    pub labels: BTreeMap<String, Arc<[String]>>,
    /// Names of the files that were read: the configuration, and the files of labels that it names.
    pub files: BTreeSet<String>,
}

impl Beside {
    pub fn read(model_directory: &Path, name: &ModelName) -> Result<Beside, PackageError> {
        let config = read_config(model_directory)?;
        if let Some(other) = config
            .as_ref()
            .and_then(|config| config.name.as_deref())
            .filter(|other| *other != name.as_str())
        {
            let detail =
                format!("names the model \"{other}\", but lies in the directory of {name}");
            return Err(PackageError::new("config", CONFIG_FILE, detail));
        }
        let (mut labels, mut files) = (BTreeMap::new(), BTreeSet::new());
        files.extend(config.as_ref().map(|_| CONFIG_FILE.to_owned()));
        for output in config.iter().flat_map(|config| &config.outputs) {
            if let Some(file) = &output.label_filename {
                labels.insert(output.name.clone(), read_labels(model_directory, file)?);
                files.insert(file.clone());
            }
        }
        Ok(Beside {
            config,
            labels,
            files,
        })
    }
}

/// Name and version that a directory's place gives it: `NAME/VERSION`.
pub fn id_of(directory: &Path) -> Option<ModelId> {
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

/// Whether a version's directory holds a bare graph: a number as name, a graph, no manifest.
pub fn is_bare(directory: &Path, id: &ModelId) -> bool {
    id.version.is_number()
        && directory.join(MODEL_FILE).is_file()
        && !directory.join(crate::package::manifest::FILE).exists()
}

/// `config.pbtxt` of a model, where there is one.
pub fn read_config(model_directory: &Path) -> Result<Option<ModelConfig>, PackageError> {
    match read_beside(model_directory, CONFIG_FILE, MAX_CONFIG_BYTES) {
        Ok(text) => pbtxt::parse(&text)
            .map(Some)
            .map_err(|error| PackageError::new("config", CONFIG_FILE, error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PackageError::io(CONFIG_FILE, &error)),
    }
}

/// The text of a file of the model's directory: a regular one, no link that leads out, no larger than `limit` bytes.
fn read_beside(directory: &Path, file: &str, limit: u64) -> io::Result<String> {
    let path = fs_err::canonicalize(directory.join(file))?;
    if !path.starts_with(fs_err::canonicalize(directory)?) {
        return Err(io::Error::other(
            "it is a link that leads out of the model's directory",
        ));
    }
    let about = fs_err::metadata(&path)?;
    if !about.is_file() || about.len() > limit {
        return Err(io::Error::other(format!(
            "it must be a file of at most {limit} bytes"
        )));
    }
    fs_err::read_to_string(&path)
}

impl Bare {
    pub fn open(directory: &Path, id: &ModelId) -> Result<Bare, PackageError> {
        let Beside { config, labels, .. } =
            Beside::read(directory.parent().unwrap_or(directory), &id.name)?;
        let manifest = Manifest::of_directory(directory, id, String::new(), Provenance::default())?;
        Ok(Bare {
            id: id.clone(),
            manifest,
            config,
            labels,
        })
    }

    /// How many rows may share a run where they are proved to be independent; `Err` says why none may.
    pub fn batching(&self, max_batch_size: usize) -> Result<usize, String> {
        if max_batch_size < 2 {
            return Err("the largest batch is set to 1".to_owned());
        }
        match &self.config {
            // A file that says nothing of batches forbids none.
            None => Ok(max_batch_size),
            Some(config) if config.max_batch_size < 2 => Err(format!(
                "config.pbtxt says max_batch_size: {}",
                config.max_batch_size
            )),
            Some(config) => Ok(config.max_batch_size.min(max_batch_size)),
        }
    }

    /// `dynamic_batching` in the configuration: Triton would batch without any proof.
    pub fn asks_for_batching(&self) -> bool {
        self.config
            .as_ref()
            .is_some_and(|config| config.dynamic_batching.is_some() && config.max_batch_size > 1)
    }

    /// The file that names an output's classes.
    pub fn label_file(&self, output: &str) -> Option<&str> {
        let outputs = &self.config.as_ref()?.outputs;
        outputs
            .iter()
            .find(|tensor| tensor.name == output)?
            .label_filename
            .as_deref()
    }

    /// What callers see: the graph's tensors, as exactly as graph and configuration together know them.
    #[must_use]
    pub fn refined(&self, signature: &Signature) -> Signature {
        let mut refined = signature.clone();
        if let Some(config) = &self.config {
            refine(&mut refined.inputs, &config.inputs, config.max_batch_size);
            refine(&mut refined.outputs, &config.outputs, config.max_batch_size);
        }
        refined
    }

    /// Whether the configuration speaks of this graph.
    pub fn check(&self, signature: &Signature) -> Result<(), PackageError> {
        let Some(config) = &self.config else {
            return Ok(());
        };
        for (side, configured, specs) in [
            ("input", &config.inputs, &signature.inputs),
            ("output", &config.outputs, &signature.outputs),
        ] {
            for tensor in configured {
                let fault = |detail: String| {
                    PackageError::new("config", CONFIG_FILE, detail)
                        .at(&format!("{side} {}", tensor.name))
                };
                let Some(spec) = specs.iter().find(|spec| *spec.name == *tensor.name) else {
                    let known: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
                    return Err(fault(format!(
                        "the graph has no such {side}; it has {}",
                        known.join(", ")
                    )));
                };
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

/// A dimension that the configuration gives in full is no longer free.
fn refine(specs: &mut [TensorSpec], configured: &[ConfigTensor], max_batch_size: usize) {
    for spec in specs {
        let Some(tensor) = configured
            .iter()
            .find(|tensor| *tensor.name == *spec.name && !tensor.dims.is_empty())
        else {
            continue;
        };
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

/// A configuration may be more exact than the graph, and the other way round; they may not contradict each other.
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

/// A label a line.
fn read_labels(directory: &Path, file: &str) -> Result<Arc<[String]>, PackageError> {
    if file.contains(['/', '\\']) || file.starts_with('.') {
        return Err(PackageError::new(
            "config",
            CONFIG_FILE,
            format!("label_filename \"{file}\" must lie beside it"),
        ));
    }
    let text = read_beside(directory, file, MAX_LABEL_BYTES)
        .map_err(|error| PackageError::io(file, &error))?;
    let labels: Vec<String> = text
        .lines()
        .take(MAX_LABELS)
        .map(|line| line.trim_end().to_owned())
        .collect();
    Ok(labels.into())
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use tempfile::TempDir;

    use crate::{
        id::{ModelId, ModelName, Version},
        package::{
            PackageError,
            bare::{Bare, is_bare, read_config},
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

    /// `x` float32[-1, 4] to `y` float32[`batch`, 3].
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

    fn open(directory: &Path) -> Result<Bare, PackageError> {
        Bare::open(&directory.join("m/1"), &id("1"))
    }

    fn configured(config: &str) -> Bare {
        open(repository(&[("m/config.pbtxt", config)]).path()).unwrap()
    }

    fn refused(files: &[(&str, &str)]) -> String {
        open(repository(files).path()).err().unwrap().to_string()
    }

    #[test]
    fn a_number_a_graph_and_no_manifest_make_it_bare() {
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
        assert!(!bare("1.0.0"), "no number");
        assert!(!bare("4"), "not there");
    }

    #[test]
    fn a_configuration_may_be_missing_but_not_wrong() {
        let directory = repository(&[
            ("m/config.pbtxt", "max_batch_size: 4"),
            ("n/config.pbtxt", "name: \"n"),
            ("o/x", ""),
        ]);
        let read = |name: &str| read_config(&directory.path().join(name));
        assert_eq!(read("m").unwrap().unwrap().max_batch_size, 4);
        assert_eq!(
            read("n").unwrap_err().to_string(),
            "config.pbtxt: line 1: the text in quotes does not end"
        );
        assert_eq!(read("o"), Ok(None));
    }

    #[test]
    fn a_version_lists_what_lies_there() {
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
            "config.pbtxt: names the model \"other\", but lies in the directory of m"
        );
    }

    #[test]
    fn labels_lie_beside_the_configuration() {
        let config = "output { name: \"y\" label_filename: \"l.txt\" }";
        let bare =
            open(repository(&[("m/config.pbtxt", config), ("m/l.txt", "a \nb\r\n\nc")]).path())
                .unwrap();
        assert_eq!(bare.labels["y"].as_ref(), ["a", "b", "", "c"]);
        assert!(refused(&[("m/config.pbtxt", config)]).starts_with("l.txt: can't be read"));
        for file in ["../l.txt", "/l.txt", "a/l.txt", "a\\\\l.txt", ".l.txt"] {
            let config = format!("output {{ name: \"y\" label_filename: \"{file}\" }}");
            assert!(
                refused(&[("m/config.pbtxt", &config)]).contains("must lie beside it"),
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
            let error = batching(config).unwrap_err();
            assert!(error.contains(expected), "{config}: {error}");
        }
        let error = signature(Dim::Fixed(8)).check_rows(|_| false).unwrap_err();
        assert!(error.contains("free leading dimension"), "{error}");
        assert_eq!(
            signature(Dim::Fixed(1)).check_rows(|output| output == "y"),
            Ok(())
        );
        assert!(configured("max_batch_size: 8 dynamic_batching { }").asks_for_batching());
        assert!(!configured("max_batch_size: 8").asks_for_batching());
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
