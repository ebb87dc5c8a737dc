//! `OnnxFactory`: creates the sessions of one graph file.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
};

use ort::{logging::LogLevel, session::Session};

use crate::{
    engine::{
        Engine, EngineError, EngineFactory,
        error::LoadFailure,
        infer::{
            OnnxEngine, Resources, Runtime,
            arena::RegisteredArena,
            files_error, load_error,
            signature::{self, dimension_names, is_tensor, signature_of, spec_of, symbols_of},
            without_directories,
        },
        runtime_message::{self, LoadFault, RefusedGraph, RunFault},
    },
    error::text_with_sources,
    graph::{
        Edited, GraphAnalysis, locale,
        model::Model,
        zipmap::{self, UnservableOutput},
    },
    tensor::signature::{Signature, Symbols, TensorSpec},
};

/// Creates sessions of one graph file.
pub struct OnnxFactory {
    runtime: Runtime,
    path: PathBuf,
    resources: Resources,
    signature: Arc<Signature>,
    /// Inputs with a default, each with the graph's names of its dimensions.
    optional: Vec<(TensorSpec, Vec<String>)>,
    symbols: Symbols,
    /// The optional inputs that every run sets.
    fed: Vec<Arc<str>>,
    locate_verified: Option<LocateVerified>,
    /// The model that is loaded instead of the file. `None` if the runtime can load the file and
    /// its outputs can be served.
    edited: Option<Edited>,
}

/// Returns the graph's path among files that still match the verified digests, or the reason why no
/// file matches.
pub type LocateVerified =
    Box<dyn Fn() -> Result<PathBuf, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// The first session of a graph, and the model from which it was created.
struct FirstSession {
    session: Session,
    edited: Option<Edited>,
}

impl OnnxFactory {
    /// Creates every further session only from files that `locate_verified` returns: the files may
    /// have been overwritten since the first session.
    #[must_use]
    pub fn with_verified_files(mut self, locate_verified: LocateVerified) -> OnnxFactory {
        self.locate_verified = Some(locate_verified);
        self
    }

    /// Reads the signature from a first session. Also returns that session, so that it is not
    /// loaded twice. Edits the model if the file itself can't be served: see [`Edited`].
    pub fn open(
        runtime: &Runtime,
        path: &Path,
        resources: impl Into<Resources>,
    ) -> Result<(OnnxFactory, OnnxEngine), EngineError> {
        let resources = resources.into();
        let first = FirstSession::load(runtime, path, resources)?;
        let first = first.with_tensor_outputs(runtime, path, resources)?;
        let FirstSession { session, edited } = first;
        let signature = Arc::new(read_signature(&session, path)?);
        let optional = session
            .overridable_initializers()
            .iter()
            .filter_map(|input| {
                let spec = spec_of(input.name(), input.dtype(), "input").ok()?;
                Some((spec, dimension_names(input.dtype())))
            })
            .collect();
        let symbols = symbols_of(&session);
        let engine = OnnxEngine::new(
            session,
            path,
            Arc::clone(&signature),
            resources.memory_bytes,
        )?;
        let factory = OnnxFactory {
            runtime: runtime.clone(),
            path: path.to_path_buf(),
            resources,
            signature,
            optional,
            symbols,
            fed: Vec::new(),
            locate_verified: None,
            edited,
        };
        Ok((factory, engine))
    }

    /// Turns the optional inputs that `takes` accepts into regular inputs, which every run sets.
    pub fn feed(&mut self, takes: impl Fn(&str) -> bool) {
        let (fed, optional): (Vec<_>, Vec<_>) = std::mem::take(&mut self.optional)
            .into_iter()
            .partition(|(spec, _)| takes(&spec.name));
        self.optional = optional;
        let signature = Arc::make_mut(&mut self.signature);
        for (spec, names) in fed {
            self.fed.push(Arc::clone(&spec.name));
            signature.inputs.push(spec);
            self.symbols.inputs.push(names);
        }
    }

    /// The model that is run instead of the file. `None` means that the file itself is run.
    pub fn edited(&self) -> Option<&Edited> {
        self.edited.as_ref()
    }

    /// Analyses the graph of the model that is run.
    ///
    /// # Errors
    /// If the file can't be read any more.
    pub fn about(&self) -> Result<GraphAnalysis, EngineError> {
        let about = match &self.edited {
            Some(edited) => GraphAnalysis::read(&edited.model, &self.fed),
            None => GraphAnalysis::read(&read_file(&self.path)?, &self.fed),
        };
        about.map_err(|error| load_error(&self.path, error))
    }
}

impl FirstSession {
    /// Loads the file. If the machine lacks the locale of a StringNormalizer, loads the model with
    /// a locale that every machine has.
    fn load(
        runtime: &Runtime,
        path: &Path,
        resources: Resources,
    ) -> Result<FirstSession, EngineError> {
        let error = match make_session(runtime, path, None, resources) {
            Ok(session) => {
                return Ok(FirstSession {
                    session,
                    edited: None,
                });
            }
            Err(error) => error,
        };
        if !lacks_locale(&error) {
            return Err(error);
        }
        let edited = locale::replaced(&read_file(path)?)
            .map_err(|error| load_error(path, error))?
            .ok_or(error)?;
        Ok(FirstSession {
            session: make_session(runtime, path, Some(&edited), resources)?,
            edited: Some(edited),
        })
    }

    /// Removes the ZipMap nodes at the end of the graph, whose outputs are maps. Only tensors can
    /// be served.
    fn with_tensor_outputs(
        mut self,
        runtime: &Runtime,
        path: &Path,
        resources: Resources,
    ) -> Result<FirstSession, EngineError> {
        if self.session.outputs().iter().all(is_tensor) {
            return Ok(self);
        }
        let bytes = match self.edited.take() {
            Some(edited) => edited.model,
            None => read_file(path)?,
        };
        self.edited = zipmap::cut(&bytes).map_err(|error| load_error(path, error))?;
        // The first session loaded the file with its maps. The weights are loaded a second time,
        // but only for models with a ZipMap.
        if self.edited.is_some() {
            self.session = make_session(runtime, path, self.edited.as_ref(), resources)?;
        }
        match self
            .session
            .outputs()
            .iter()
            .find(|outlet| !is_tensor(outlet))
        {
            None => Ok(self),
            Some(outlet) => {
                let model = Model::read(&bytes).map_err(|error| load_error(path, error))?;
                Err(load_error(
                    path,
                    UnservableOutput::of(&model, outlet.name()),
                ))
            }
        }
    }
}

/// Reads the signature. The runtime reports the same empty shape for a scalar and for an undeclared
/// shape, so the file is read if an input or output has it.
fn read_signature(session: &Session, path: &Path) -> Result<Signature, EngineError> {
    let mut signature = signature_of(session).map_err(|error| load_error(path, error))?;
    let mut specs = signature.inputs.iter().chain(&signature.outputs);
    if specs.any(|spec| spec.shape.0.is_empty()) {
        let bytes = read_file(path)?;
        let model = Model::read(&bytes).map_err(|error| load_error(path, error))?;
        signature::set_undeclared_shapes(&mut signature, &model);
    }
    Ok(signature)
}

fn read_file(path: &Path) -> Result<Vec<u8>, EngineError> {
    fs_err::read(path).map_err(|error| files_error(path, &error.to_string()))
}

fn lacks_locale(error: &EngineError) -> bool {
    let EngineError::Load { failure, .. } = error else {
        return false;
    };
    matches!(&**failure, LoadFailure::Runtime(refused) if refused.fault == LoadFault::MissingLocale)
}

impl EngineFactory for OnnxFactory {
    fn make(&self) -> Result<Box<dyn Engine>, EngineError> {
        let path = match &self.locate_verified {
            Some(locate) => locate()
                .map_err(|error| files_error(&self.path, &text_with_sources(error.as_ref())))?,
            None => self.path.clone(),
        };
        let session = make_session(&self.runtime, &path, self.edited.as_ref(), self.resources)?;
        Ok(Box::new(OnnxEngine::new(
            session,
            &path,
            Arc::clone(&self.signature),
            self.resources.memory_bytes,
        )?))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn optional(&self) -> &[(TensorSpec, Vec<String>)] {
        &self.optional
    }

    fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    fn intra_op_threads(&self) -> usize {
        self.resources.intra_op_threads
    }
}

fn make_session(
    runtime: &Runtime,
    path: &Path,
    edited: Option<&Edited>,
    resources: Resources,
) -> Result<Session, EngineError> {
    // A run uses one core per intra-op thread. Threads that spin while they wait would take the
    // cores from other models.
    let build = || -> ort::Result<Session> {
        let mut builder = Session::builder(&runtime.environment)?
            .with_intra_threads(resources.intra_op_threads)?
            // Parallel requests share the cores; parallel branches of one graph would compete with
            // them.
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_log_level(LogLevel::Fatal)?;
        // The arena must stay registered until the session is created.
        let _registered = match resources.memory_bytes {
            Some(bytes) => {
                builder = builder.with_env_allocators()?;
                Some(RegisteredArena::new(runtime, bytes)?)
            }
            None => None,
        };
        match edited {
            // A model in memory has no directory in which the library could search for its weights.
            Some(edited) => {
                let directory = path.parent().unwrap_or(Path::new("")).to_string_lossy();
                builder = builder.with_config_entry(
                    "session.model_external_initializers_file_folder_path",
                    directory,
                )?;
                builder.commit_from_memory(&edited.model)
            }
            None => builder.commit_from_file(path),
        }
    };
    build().map_err(|error| {
        let limit = resources
            .memory_bytes
            .filter(|_| runtime_message::run_fault(error.message()) == RunFault::ArenaLimit);
        let failure = match limit {
            Some(limit) => LoadFailure::WeightsExceedLimit { limit },
            None => LoadFailure::Runtime(RefusedGraph::new(error.message(), |text| {
                without_directories(path, text)
            })),
        };
        load_error(path, failure)
    })
}
