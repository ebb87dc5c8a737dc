//! Infer: one run of an ONNX Runtime session. The only file that names ort.

use std::{
    ffi::{self, CStr},
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytemuck::Pod;
use bytes::Bytes;
use ort::{
    AsPointer,
    environment::Environment,
    logging::LogLevel,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{NoSelectedOutputs, RunOptions, Session, SessionInputValue},
    value::{
        DynValue, Outlet, PrimitiveTensorElementType, Shape as OrtShape, TensorElementType,
        TensorRef, ValueType,
    },
};

use crate::{
    engine::{
        Engine, EngineError, EngineFactory, Interrupt, advice,
        retention::{IDLE_FLOOR_BYTES, MEASURED_FROM, Retention},
    },
    graph::{About, Edited, locale, model::Model, wire::Malformed, zipmap},
    tensor::{
        Buffer, Data, DataType, Dim, Shape, Tensor, Tensors,
        signature::{Signature, Symbols, TensorSpec},
    },
};

/// The loaded library: one per process, by its own rule.
#[derive(Clone)]
pub struct Runtime {
    environment: Arc<Environment>,
    version: Arc<str>,
    /// Held while an arena is registered: the environment knows only one at a time.
    registration: Arc<Mutex<()>>,
}

#[derive(Debug, thiserror::Error)]
#[error("loading the ONNX Runtime library {}: {detail}", path.display())]
pub struct RuntimeError {
    path: PathBuf,
    detail: String,
}

impl Runtime {
    /// Loads the library at `path`. Its telemetry must already be off in the environment: by now it is too late.
    pub fn load(path: &Path) -> Result<Runtime, RuntimeError> {
        let fail = |detail: String| RuntimeError {
            path: path.to_path_buf(),
            detail,
        };
        let builder = ort::init_from(path).map_err(|error| fail(error.to_string()))?;
        let environment = builder
            .with_name("predictd")
            .with_telemetry(false)
            .build()
            .map_err(|error| fail(error.to_string()))?;
        // Its messages repeat what its errors say, and name files of the server; errors reach the log through us.
        environment.set_log_level(LogLevel::Fatal);
        Ok(Runtime {
            environment: Arc::new(environment),
            version: Arc::from(library_version(path).unwrap_or_else(|| "unknown".to_owned())),
            registration: Arc::default(),
        })
    }

    pub fn version(&self) -> &str {
        &self.version
    }
}

/// What the library calls itself, e.g. `1.31.1`; `None` where it does not say.
fn library_version(path: &Path) -> Option<String> {
    // SAFETY: the library is already loaded in this process (`ort::init_from` succeeded on the same path), so this runs no
    // initialiser and only counts a reference.
    let library = unsafe { libloading::Library::new(path) }.ok()?;
    // SAFETY: `OrtGetApiBase` has this signature in every release of the C API.
    let base = unsafe {
        library.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase")
    }
    .ok()?;
    // SAFETY: it takes no argument and may be called at any time.
    let base = unsafe { base() };
    // SAFETY: it is null or points to a static table that lives as long as the library, which `ort` never unloads.
    let base = unsafe { base.as_ref() }?;
    // SAFETY: the table's function takes no argument and may be called at any time.
    let text = unsafe { (base.GetVersionString)() };
    // SAFETY: it is a static, null-terminated text.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().ok().map(str::to_owned)
}

/// What one session may use.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    pub intra_op_threads: usize,
    /// Weights and runs together; `None`: no limit.
    pub memory_bytes: Option<u64>,
}

impl From<usize> for Resources {
    fn from(intra_op_threads: usize) -> Resources {
        Resources {
            intra_op_threads,
            memory_bytes: None,
        }
    }
}

/// Makes sessions of one graph file.
pub struct OnnxFactory {
    runtime: Runtime,
    path: PathBuf,
    resources: Resources,
    signature: Arc<Signature>,
    /// With what the graph calls their dimensions.
    optional: Vec<(TensorSpec, Vec<String>)>,
    symbols: Symbols,
    /// Optional inputs that every run gets all the same.
    fed: Vec<Arc<str>>,
    verified: Option<Verified>,
    /// What is loaded in the file's place, where the runtime does not take the file or callers could not take its answers.
    edited: Option<Edited>,
}

/// Where the graph lies in files that are still those that were verified, or why it lies nowhere.
pub type Verified = Box<dyn Fn() -> Result<PathBuf, String> + Send + Sync>;

impl OnnxFactory {
    /// From now on every further session is made only of files that `verified` finds: they may have been overwritten since.
    #[must_use]
    pub fn of_verified(mut self, verified: Verified) -> OnnxFactory {
        self.verified = Some(verified);
        self
    }

    /// Reads the signature with a first session, which is returned as well so that it need not be made twice. Where maps
    /// stand at the end of the graph they are cut off.
    pub fn open(
        runtime: &Runtime,
        path: &Path,
        resources: impl Into<Resources>,
    ) -> Result<(OnnxFactory, OnnxEngine), EngineError> {
        let resources = resources.into();
        let malformed = |error: Malformed| load_error(path, error.to_string());
        let mut edited = None;
        let mut session = match make_session(runtime, path, None, resources) {
            Err(EngineError::Load { detail, .. }) if detail.contains("locale") => {
                let refused = EngineError::Load {
                    file: file_name(path),
                    detail,
                };
                edited = Some(
                    locale::replaced(&read(path)?)
                        .map_err(malformed)?
                        .ok_or(refused)?,
                );
                make_session(runtime, path, edited.as_ref(), resources)?
            }
            made => made?,
        };
        if session.outputs().iter().any(|outlet| !is_tensor(outlet)) {
            let bytes = edited
                .take()
                .map_or_else(|| read(path), |edited: Edited| Ok(edited.model))?;
            edited = zipmap::cut(&bytes).map_err(malformed)?;
            if edited.is_some() {
                session = make_session(runtime, path, edited.as_ref(), resources)?;
            }
            if let Some(outlet) = session.outputs().iter().find(|outlet| !is_tensor(outlet)) {
                let model = Model::read(&bytes).map_err(malformed)?;
                return Err(load_error(path, zipmap::refusal(&model, outlet.name())));
            }
        }
        let mut signature = signature_of(&session).map_err(|detail| load_error(path, detail))?;
        if signature
            .inputs
            .iter()
            .chain(&signature.outputs)
            .any(|spec| spec.shape.0.is_empty())
        {
            open_ranks(
                &mut signature,
                &Model::read(&read(path)?).map_err(malformed)?,
            );
        }
        let signature = Arc::new(signature);
        let optional = session.overridable_initializers();
        let optional = optional.iter().filter_map(|input| {
            let spec = spec_of(input.name(), input.dtype(), "input").ok()?;
            Some((spec, names_of(input.dtype())))
        });
        let optional = optional.collect();
        let side = |outlets: &[Outlet]| {
            outlets
                .iter()
                .map(|outlet| names_of(outlet.dtype()))
                .collect()
        };
        let symbols = Symbols {
            inputs: side(session.inputs()),
            outputs: side(session.outputs()),
        };
        let engine = OnnxEngine::new(
            session,
            path,
            Arc::clone(&signature),
            resources.memory_bytes,
        )?;
        let (runtime, path) = (runtime.clone(), path.to_path_buf());
        Ok((
            OnnxFactory {
                runtime,
                path,
                resources,
                signature,
                optional,
                symbols,
                fed: Vec::new(),
                verified: None,
                edited,
            },
            engine,
        ))
    }

    /// From now on the optional inputs that `takes` names are inputs like the others: every run gets them.
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

    /// What is run in the file's place; `None` where it is the file.
    pub fn edited(&self) -> Option<&Edited> {
        self.edited.as_ref()
    }

    /// What the model says, as it is run.
    ///
    /// # Errors
    /// Where its file can't be read any more.
    pub fn about(&self) -> Result<About, EngineError> {
        let about = match &self.edited {
            Some(edited) => About::read(&edited.model, &self.fed),
            None => About::read(&read(&self.path)?, &self.fed),
        };
        about.map_err(|error| load_error(&self.path, error.to_string()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    fs_err::read(path).map_err(|error| load_error(path, error.to_string()))
}

/// The runtime tells no declared shape from the shape of a scalar; the file does.
fn open_ranks(signature: &mut Signature, model: &Model<'_>) {
    let sides = [
        (&mut signature.inputs, &model.graph.inputs),
        (&mut signature.outputs, &model.graph.outputs),
    ];
    for (specs, infos) in sides {
        for spec in specs.iter_mut().filter(|spec| spec.shape.0.is_empty()) {
            if infos
                .iter()
                .any(|info| info.name == &*spec.name && info.shape.is_none())
            {
                spec.shape = Shape::unknown();
            }
        }
    }
}

fn is_tensor(outlet: &Outlet) -> bool {
    matches!(outlet.dtype(), ValueType::Tensor { .. })
}

impl EngineFactory for OnnxFactory {
    fn make(&self) -> Result<Box<dyn Engine>, EngineError> {
        let path = match &self.verified {
            Some(verified) => verified().map_err(|detail| load_error(&self.path, detail))?,
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
    let build = || -> ort::Result<Session> {
        let mut builder = Session::builder(&runtime.environment)?
            .with_intra_threads(resources.intra_op_threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_log_level(LogLevel::Fatal)?;
        let _guard = match resources.memory_bytes {
            Some(bytes) => {
                builder = builder.with_env_allocators()?;
                Some(RegisteredArena::new(runtime, bytes)?)
            }
            None => None,
        };
        match edited {
            // Its weights may lie beside the file that it was read from.
            Some(edited) => {
                let beside = path.parent().unwrap_or(Path::new("")).to_string_lossy();
                builder = builder.with_config_entry(
                    "session.model_external_initializers_file_folder_path",
                    beside,
                )?;
                builder.commit_from_memory(&edited.model)
            }
            None => builder.commit_from_file(path),
        }
    };
    build().map_err(|error| {
        let limit = resources
            .memory_bytes
            .filter(|_| is_memory_limit(error.message()));
        load_error(
            path,
            limit.map_or_else(|| advice::on_load(error.message()), advice::too_large),
        )
    })
}

/// While it lives, a session that asks for the environment's allocators gets an arena of its own, of at most so many bytes: it keeps
/// the arena, and the next one registered is another's.
struct RegisteredArena<'a> {
    environment: &'a Environment,
    _only: std::sync::MutexGuard<'a, ()>,
}

fn arena_info() -> ort::Result<MemoryInfo<'static>> {
    MemoryInfo::new(
        AllocationDevice::CPU,
        0,
        AllocatorType::Arena,
        MemoryType::Default,
    )
}

/// The library's answer to a call of its C API.
fn succeeded(status: ort::sys::OrtStatusPtr) -> ort::Result<()> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: it is a status that the library made for us.
    let message = unsafe { (ort::api().GetErrorMessage)(status.0) };
    // SAFETY: a status's message is a null-terminated text that lives as long as the status.
    let message = unsafe { CStr::from_ptr(message) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: nobody else releases it, and it is not used after this.
    unsafe { (ort::api().ReleaseStatus)(status.0) };
    Err(ort::Error::new(message))
}

impl<'a> RegisteredArena<'a> {
    fn new(runtime: &'a Runtime, max_bytes: u64) -> ort::Result<RegisteredArena<'a>> {
        let only = runtime
            .registration
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Regions as large as asked for (1): by default their sizes are doubled, and half of the limit could not be used.
        let keys = [c"max_mem".as_ptr(), c"arena_extend_strategy".as_ptr()];
        let values = [usize::try_from(max_bytes).unwrap_or(usize::MAX), 1];
        let info = arena_info()?;
        let mut config = std::ptr::null_mut();
        // SAFETY: keys and values are arrays of the length given, the key a null-terminated text; the library writes a pointer to
        // `config` or returns an error.
        succeeded(unsafe {
            (ort::api().CreateArenaCfgV2)(keys.as_ptr(), values.as_ptr(), keys.len(), &mut config)
        })?;
        // SAFETY: the environment lives as long as `runtime`, and only one thread registers at a time, which `only` says; the
        // library copies what it needs of `info` and `config`.
        let status = unsafe {
            (ort::api().CreateAndRegisterAllocator)(
                runtime.environment.ptr().cast_mut(),
                info.ptr(),
                config,
            )
        };
        // SAFETY: it was made above and is not used after this.
        unsafe { (ort::api().ReleaseArenaCfg)(config) };
        succeeded(status)?;
        Ok(RegisteredArena {
            environment: &runtime.environment,
            _only: only,
        })
    }
}

impl Drop for RegisteredArena<'_> {
    fn drop(&mut self) {
        let unregister = |info: MemoryInfo<'_>| {
            // SAFETY: the environment lives, and one allocator of this kind is registered; sessions that use it share its ownership.
            succeeded(unsafe {
                (ort::api().UnregisterAllocator)(self.environment.ptr().cast_mut(), info.ptr())
            })
        };
        if let Err(error) = arena_info().and_then(unregister) {
            tracing::error!(error = %error, "an arena could not be unregistered; models with a memory limit can't be loaded any more");
        }
    }
}

/// Whether a failure means that the arena's limit was reached.
fn is_memory_limit(message: &str) -> bool {
    message.contains("Available memory of") && message.contains("is smaller than requested bytes")
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn load_error(path: &Path, detail: String) -> EngineError {
    let file = file_name(path);
    // Callers of the model may read it: where the server keeps its files is not theirs to know.
    let detail = detail.replace(path.to_string_lossy().as_ref(), &file);
    let detail = match path
        .parent()
        .map(|directory| directory.to_string_lossy())
        .filter(|directory| directory.len() > 1)
    {
        Some(directory) => detail.replace(&format!("{directory}/"), ""),
        None => detail,
    };
    EngineError::Load { file, detail }
}

/// One session and the options that let another thread stop its run.
pub struct OnnxEngine {
    signature: Arc<Signature>,
    options: Arc<RunOptions<NoSelectedOutputs>>,
    arena: Arena,
    session: Session,
}

/// The memory of a session's runs.
struct Arena {
    allocator: Allocator,
    /// For a run that ends before its first node, and gives back what is free.
    release: RunOptions<NoSelectedOutputs>,
    /// What it held before any run.
    weights: u64,
    limit: Option<u64>,
    retention: Retention,
    /// A run took so long that what it took is to be measured.
    measure: bool,
    /// What was held when it was last measured.
    held: u64,
    /// Something was given back since the process's allocator was last asked to do the same.
    released: bool,
}

struct Terminator(Arc<RunOptions<NoSelectedOutputs>>);

impl Interrupt for Terminator {
    fn terminate(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::error!(error = %error, "a run could not be terminated");
        }
    }

    fn reset(&self) {
        if let Err(error) = self.0.unterminate() {
            tracing::error!(error = %error, "a terminated run could not be reset");
        }
    }
}

impl Arena {
    fn new(session: &Session, limit: Option<u64>) -> ort::Result<Arena> {
        let mut release = RunOptions::new()?;
        release.set_log_level(LogLevel::Fatal)?;
        release.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
        release.terminate()?;
        let allocator = Allocator::new(session, arena_info()?)?;
        let mut arena = Arena {
            allocator,
            release,
            weights: 0,
            limit,
            retention: Retention::default(),
            measure: false,
            held: 0,
            released: false,
        };
        arena.weights = arena.total();
        Ok(arena)
    }

    /// Bytes that the library took from the system for it; 0 where it does not say.
    fn total(&self) -> u64 {
        let mut pairs = std::ptr::null_mut();
        // SAFETY: the allocator lives as long as `self`; the library writes a pointer to `pairs` or returns an error.
        let status = unsafe { (ort::api().AllocatorGetStats)(self.allocator.ptr(), &mut pairs) };
        if succeeded(status).is_err() || pairs.is_null() {
            return 0;
        }
        // SAFETY: `pairs` is the library's own, the key is a null-terminated text; the answer is null or such a text, owned by `pairs`.
        let value = unsafe { (ort::api().GetKeyValue)(pairs, c"TotalAllocated".as_ptr()) };
        let total = if value.is_null() {
            None
        } else {
            // SAFETY: it is not null, null-terminated, and `pairs` is released only below.
            unsafe { CStr::from_ptr(value) }
                .to_str()
                .ok()
                .and_then(|text| text.parse().ok())
        };
        // SAFETY: it was made for us above and is not used after this.
        unsafe { (ort::api().ReleaseKeyValuePairs)(pairs) };
        total.unwrap_or(0)
    }

    fn measure(&mut self) -> u64 {
        self.held = self.total().saturating_sub(self.weights);
        self.held
    }
}

impl OnnxEngine {
    fn new(
        session: Session,
        path: &Path,
        signature: Arc<Signature>,
        memory_limit: Option<u64>,
    ) -> Result<OnnxEngine, EngineError> {
        let mut options = RunOptions::new().map_err(run_error)?;
        options.set_log_level(LogLevel::Fatal).map_err(run_error)?;
        let arena = Arena::new(&session, memory_limit).map_err(run_error)?;
        // The library reserves the weights whatever the limit, and holds only runs to what is left of it.
        if let Some(limit) = memory_limit.filter(|limit| arena.weights >= *limit) {
            return Err(EngineError::Load {
                file: file_name(path),
                detail: advice::too_large(limit),
            });
        }
        Ok(OnnxEngine {
            signature,
            options: Arc::new(options),
            arena,
            session,
        })
    }

    /// Operator set per domain, for the manifest: `ai.onnx` and, where the graph uses it, `ai.onnx.ml`.
    pub fn opsets(&self) -> Vec<(&'static str, u32)> {
        let domains = [("ai.onnx", ""), ("ai.onnx.ml", "ai.onnx.ml")];
        domains
            .into_iter()
            .filter_map(|(name, domain)| Some((name, self.session.opset_for_domain(domain)?)))
            .collect()
    }

    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    fn run_once(&mut self, batch: &Tensors) -> Result<Tensors, EngineError> {
        let mut inputs = Vec::with_capacity(batch.0.len());
        for (name, tensor) in &batch.0 {
            inputs.push((&**name, input_value(tensor).map_err(run_error)?));
        }
        let outputs = self
            .session
            .run_with_options(inputs, &self.options)
            .map_err(|error| match self.arena.limit {
                Some(limit) if is_memory_limit(error.message()) => {
                    EngineError::MemoryLimit { limit }
                }
                _ => failed(&error, batch),
            })?;
        let mut tensors = Vec::with_capacity(outputs.len());
        for ((_, value), spec) in outputs.into_iter().zip(&self.signature.outputs) {
            let tensor = output_tensor(value, spec.datatype)
                .map_err(|detail| EngineError::run(format!("output `{}`: {detail}", spec.name)))?;
            tensors.push((Arc::clone(&spec.name), tensor));
        }
        Ok(Tensors(tensors))
    }

    /// Gives the free regions of the arena back to the system. The library does so at the end of a run only: this one is stopped
    /// before its first node.
    fn release(&mut self) {
        let zeros = self.signature.zeros();
        let inputs = zeros
            .0
            .iter()
            .map(|(name, tensor)| Ok((&**name, input_value(tensor)?)))
            .collect::<ort::Result<Vec<_>>>();
        match inputs.and_then(|inputs| {
            self.session
                .run_with_options(inputs, &self.arena.release)
                .map(|_| ())
        }) {
            Err(error) if !error.message().contains("terminate flag") => {
                tracing::debug!(error = %error, "an arena could not be shrunk");
            }
            Ok(()) | Err(_) => {}
        }
        self.arena.measure();
        self.arena.released = true;
    }
}

impl Engine for OnnxEngine {
    fn run(&mut self, batch: &Tensors) -> Result<Tensors, EngineError> {
        let started = Instant::now();
        let mut outcome = self.run_once(batch);
        // What earlier runs left in pieces must not be why this one does not fit.
        if matches!(outcome, Err(EngineError::MemoryLimit { .. })) {
            self.release();
            outcome = self.run_once(batch);
        }
        let ended = Instant::now();
        self.arena.measure |= outcome.is_err()
            || ended - started >= MEASURED_FROM
            || self.arena.retention.is_due(ended);
        outcome
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::new(Terminator(Arc::clone(&self.options)))
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.arena.measure) {
            let held = self.arena.measure();
            if self.arena.retention.release_after_run(held, Instant::now()) {
                self.release();
            }
        }
    }

    fn rest(&mut self) {
        let held = self.arena.measure();
        if self.arena.retention.release_when_idle(held) {
            self.release();
        }
        // What is still held can't be given back: it is not asked for again before the next run.
        self.arena.held = 0;
        if std::mem::take(&mut self.arena.released) {
            trim();
        }
    }

    fn is_restless(&self) -> bool {
        self.arena.held > IDLE_FLOOR_BYTES || self.arena.released
    }
}

/// Regions below 32 MiB that the arena freed stay with the C library's allocator, which the ONNX Runtime takes them from.
fn trim() {
    // SAFETY: it takes no pointer, touches only free memory, and may be called at any time from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

fn run_error(error: ort::Error) -> EngineError {
    EngineError::run(error.message())
}

/// Why a run on these rows ended.
fn failed(error: &ort::Error, batch: &Tensors) -> EngineError {
    let message = error.message();
    if message.contains("terminate flag") {
        return EngineError::Terminated;
    }
    let texts = batch.0.iter().flat_map(|(_, tensor)| {
        if let Data::Bytes(texts) = tensor.data() {
            texts.as_slice()
        } else {
            &[]
        }
    });
    // Often the library does not say which shapes don't fit.
    let shapes: Vec<String> = batch
        .0
        .iter()
        .map(|(name, tensor)| format!("{name} {:?}", tensor.shape()))
        .collect();
    let loggable = format!(
        "{} (inputs: {})",
        advice::loggable(message, texts),
        shapes.join(", ")
    );
    EngineError::Run {
        detail: message.to_owned(),
        loggable,
    }
}

fn input_value(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape: Vec<i64> = tensor.shape().iter().map(|dim| *dim as i64).collect();
    fn view<'a, T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
        shape: Vec<i64>,
        values: &'a [T],
    ) -> ort::Result<SessionInputValue<'a>> {
        Ok(TensorRef::from_array_view((shape, values))?.into())
    }
    match tensor.data() {
        Data::Bool(values) => view(shape, values),
        Data::Uint8(values) => view(shape, values),
        Data::Uint16(values) => view(shape, values),
        Data::Uint32(values) => view(shape, values),
        Data::Uint64(values) => view(shape, values),
        Data::Int8(values) => view(shape, values),
        Data::Int16(values) => view(shape, values),
        Data::Int32(values) => view(shape, values),
        Data::Int64(values) => view(shape, values),
        Data::Fp16(values) => view(shape, values),
        Data::Bf16(values) => view(shape, values),
        Data::Fp32(values) => view(shape, values),
        Data::Fp64(values) => view(shape, values),
        Data::Bytes(values) => Ok(text_tensor(shape, values)?.into()),
    }
}

/// The binding passes texts as C has them, which end at their first NUL; those with one are written by their length.
fn text_tensor(shape: Vec<i64>, values: &[String]) -> ort::Result<ort::value::Tensor<String>> {
    if !values
        .iter()
        .any(|text| memchr::memchr(0, text.as_bytes()).is_some())
    {
        return ort::value::Tensor::from_string_array((shape, values));
    }
    let blanks = vec![String::new(); values.len()];
    let mut tensor = ort::value::Tensor::from_string_array((shape, blanks.as_slice()))?;
    for (index, text) in values.iter().enumerate() {
        let mut buffer: *mut ffi::c_char = std::ptr::null_mut();
        // SAFETY: the tensor is one of texts, alive and only ours; `index` is below its number of elements, which is that of
        // `values`; the library writes a pointer to `buffer` or returns an error.
        let status = unsafe {
            (ort::api().GetResizedStringTensorElementBuffer)(
                tensor.ptr_mut(),
                index,
                text.len(),
                &mut buffer,
            )
        };
        if !status.0.is_null() || buffer.is_null() && !text.is_empty() {
            // SAFETY: it is null, which is allowed, or a status that the library made for us and nobody else releases.
            unsafe { (ort::api().ReleaseStatus)(status.0) };
            return Err(ort::Error::new("a text could not be handed to the library"));
        }
        if !text.is_empty() {
            // SAFETY: the library made `buffer` as long as `text`, for this element alone; the two don't overlap.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len()) };
        }
    }
    Ok(tensor)
}

/// Outputs from this size on are not copied: the library's value lives on as long as somebody holds the tensor.
const SHARED_OUTPUT_BYTES: usize = 64 << 10;

fn output_tensor(value: DynValue, datatype: DataType) -> Result<Tensor, String> {
    fn extract<T: PrimitiveTensorElementType>(
        value: &DynValue,
    ) -> Result<(&OrtShape, &[T]), String> {
        value
            .try_extract_tensor::<T>()
            .map_err(|error| error.message().to_owned())
    }
    fn take<T: PrimitiveTensorElementType + Pod>(
        value: DynValue,
        wrap: fn(Buffer<T>) -> Data,
    ) -> Result<Tensor, String> {
        struct Owner<T>(DynValue, PhantomData<fn() -> T>);
        impl<T: PrimitiveTensorElementType + Pod> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                // It could be extracted before it came here.
                extract::<T>(&self.0)
                    .map(|(_, values)| bytemuck::cast_slice(values))
                    .unwrap_or_default()
            }
        }
        let (shape, values) = extract::<T>(&value)?;
        if size_of_val(values) < SHARED_OUTPUT_BYTES {
            return checked(shape, wrap(values.to_vec().into()));
        }
        let shape = shape.clone();
        let bytes = Bytes::from_owner(Owner::<T>(value, PhantomData));
        checked(
            &shape,
            wrap(Buffer::from_bytes(bytes).ok_or("its elements are not whole")?),
        )
    }
    match datatype {
        DataType::Bool => {
            let (shape, values) = extract::<bool>(&value)?;
            checked(shape, Data::Bool(values.to_vec()))
        }
        DataType::Uint8 => take(value, Data::Uint8),
        DataType::Uint16 => take(value, Data::Uint16),
        DataType::Uint32 => take(value, Data::Uint32),
        DataType::Uint64 => take(value, Data::Uint64),
        DataType::Int8 => take(value, Data::Int8),
        DataType::Int16 => take(value, Data::Int16),
        DataType::Int32 => take(value, Data::Int32),
        DataType::Int64 => take(value, Data::Int64),
        DataType::Fp16 => take(value, Data::Fp16),
        DataType::Bf16 => take(value, Data::Bf16),
        DataType::Fp32 => take(value, Data::Fp32),
        DataType::Fp64 => take(value, Data::Fp64),
        DataType::Bytes => {
            let (shape, values) = value
                .try_extract_strings()
                .map_err(|error| error.message().to_owned())?;
            checked(shape, Data::Bytes(values))
        }
    }
}

fn checked(shape: &OrtShape, data: Data) -> Result<Tensor, String> {
    let dims: Option<Vec<usize>> = shape.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    dims.and_then(|dims| Tensor::new(dims, data))
        .ok_or_else(|| "its shape does not fit its elements".to_owned())
}

fn signature_of(session: &Session) -> Result<Signature, String> {
    let specs = |outlets: &[Outlet], side: &str| {
        outlets
            .iter()
            .map(|outlet| tensor_spec(outlet, side))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Signature {
        inputs: specs(session.inputs(), "input")?,
        outputs: specs(session.outputs(), "output")?,
    })
}

fn names_of(kind: &ValueType) -> Vec<String> {
    match kind {
        ValueType::Tensor {
            dimension_symbols, ..
        } => dimension_symbols.to_vec(),
        _ => Vec::new(),
    }
}

fn tensor_spec(outlet: &Outlet, side: &str) -> Result<TensorSpec, String> {
    spec_of(outlet.name(), outlet.dtype(), side)
}

fn spec_of(name: &str, kind: &ValueType, side: &str) -> Result<TensorSpec, String> {
    let ValueType::Tensor { ty, shape, .. } = kind else {
        return Err(format!(
            "{side} `{name}` is a sequence or map, which can't be served; export the model with a tensor for each {side}"
        ));
    };
    let datatype = datatype_of(*ty).ok_or_else(|| {
        format!("{side} `{name}` has the element type {ty:?}, which can't be served")
    })?;
    let dims = shape
        .iter()
        .map(|dim| usize::try_from(*dim).map_or(Dim::Any, Dim::Fixed))
        .collect();
    Ok(TensorSpec {
        name: Arc::from(name),
        datatype,
        shape: Shape(dims),
    })
}

fn datatype_of(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}
