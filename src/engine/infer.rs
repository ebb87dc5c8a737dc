//! Infer: one run of an ONNX Runtime session. The only file that names ort.

use std::{
    ffi::{self, CStr},
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytemuck::Pod;
use bytes::Bytes;
use ort::{
    AsPointer,
    environment::Environment,
    logging::LogLevel,
    session::{NoSelectedOutputs, RunOptions, Session, SessionInputValue},
    value::{DynValue, Outlet, PrimitiveTensorElementType, Shape as OrtShape, TensorElementType, TensorRef, ValueType},
};

use crate::{
    engine::{Engine, EngineError, EngineFactory, Interrupt, advice},
    graph::{About, Edited, locale, model::Model, wire::Malformed, zipmap},
    package::signature::{Signature, Symbols, TensorSpec},
    tensor::{Buffer, Data, DataType, Dim, Shape, Tensor, Tensors},
};

/// The loaded library: one per process, by its own rule.
#[derive(Clone)]
pub struct Runtime {
    environment: Arc<Environment>,
    version: Arc<str>,
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
        let fail = |detail: String| RuntimeError { path: path.to_path_buf(), detail };
        let builder = ort::init_from(path).map_err(|error| fail(error.to_string()))?;
        let environment = builder.with_name("predictd").with_telemetry(false).build().map_err(|error| fail(error.to_string()))?;
        // Its messages repeat what its errors say, and name files of the server; errors reach the log through us.
        environment.set_log_level(LogLevel::Fatal);
        Ok(Runtime {
            environment: Arc::new(environment),
            version: Arc::from(library_version(path).unwrap_or_else(|| "unknown".to_owned())),
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
    let base = unsafe { library.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase") }.ok()?;
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

/// Makes sessions of one graph file.
pub struct OnnxFactory {
    runtime: Runtime,
    path: PathBuf,
    intra_op_threads: usize,
    signature: Arc<Signature>,
    /// With what the graph calls their dimensions.
    optional: Vec<(TensorSpec, Vec<String>)>,
    symbols: Symbols,
    /// Optional inputs that every run gets all the same.
    fed: Vec<Arc<str>>,
    recheck: Option<Recheck>,
    /// What is loaded in the file's place, where the runtime does not take the file or callers could not take its answers.
    edited: Option<Edited>,
}

/// Whether the files are still those that were verified.
pub type Recheck = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

impl OnnxFactory {
    /// From now on every further session is made only of files that pass `recheck`: they may have been overwritten since.
    #[must_use]
    pub fn with_recheck(mut self, recheck: Recheck) -> OnnxFactory {
        self.recheck = Some(recheck);
        self
    }

    /// Reads the signature with a first session, which is returned as well so that it need not be made twice. Where maps
    /// stand at the end of the graph they are cut off.
    pub fn open(runtime: &Runtime, path: &Path, intra_op_threads: usize) -> Result<(OnnxFactory, OnnxEngine), EngineError> {
        let malformed = |error: Malformed| load_error(path, error.to_string());
        let mut edited = None;
        let mut session = match make_session(runtime, path, None, intra_op_threads) {
            Err(EngineError::Load { detail, .. }) if detail.contains("locale") => {
                let refused = EngineError::Load { file: file_name(path), detail };
                edited = Some(locale::replaced(&read(path)?).map_err(malformed)?.ok_or(refused)?);
                make_session(runtime, path, edited.as_ref(), intra_op_threads)?
            }
            made => made?,
        };
        if session.outputs().iter().any(|outlet| !is_tensor(outlet)) {
            let bytes = edited.take().map_or_else(|| read(path), |edited: Edited| Ok(edited.model))?;
            edited = zipmap::cut(&bytes).map_err(malformed)?;
            if edited.is_some() {
                session = make_session(runtime, path, edited.as_ref(), intra_op_threads)?;
            }
            if let Some(outlet) = session.outputs().iter().find(|outlet| !is_tensor(outlet)) {
                let model = Model::read(&bytes).map_err(malformed)?;
                return Err(load_error(path, zipmap::refusal(&model, outlet.name())));
            }
        }
        let mut signature = signature_of(&session).map_err(|detail| load_error(path, detail))?;
        if signature.inputs.iter().chain(&signature.outputs).any(|spec| spec.shape.0.is_empty()) {
            open_ranks(&mut signature, &Model::read(&read(path)?).map_err(malformed)?);
        }
        let signature = Arc::new(signature);
        let optional = session.overridable_initializers();
        let optional = optional.iter().filter_map(|input| {
            let spec = spec_of(input.name(), input.dtype(), "input").ok()?;
            Some((spec, names_of(input.dtype())))
        });
        let optional = optional.collect();
        let side = |outlets: &[Outlet]| outlets.iter().map(|outlet| names_of(outlet.dtype())).collect();
        let symbols = Symbols { inputs: side(session.inputs()), outputs: side(session.outputs()) };
        let engine = OnnxEngine::new(session, Arc::clone(&signature))?;
        let (runtime, path) = (runtime.clone(), path.to_path_buf());
        Ok((OnnxFactory { runtime, path, intra_op_threads, signature, optional, symbols, fed: Vec::new(), recheck: None, edited }, engine))
    }

    /// From now on the optional inputs that `takes` names are inputs like the others: every run gets them.
    pub fn feed(&mut self, takes: impl Fn(&str) -> bool) {
        let (fed, optional): (Vec<_>, Vec<_>) = std::mem::take(&mut self.optional).into_iter().partition(|(spec, _)| takes(&spec.name));
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
    let sides = [(&mut signature.inputs, &model.graph.inputs), (&mut signature.outputs, &model.graph.outputs)];
    for (specs, infos) in sides {
        for spec in specs.iter_mut().filter(|spec| spec.shape.0.is_empty()) {
            if infos.iter().any(|info| info.name == &*spec.name && info.shape.is_none()) {
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
        if let Some(recheck) = &self.recheck {
            recheck().map_err(|detail| load_error(&self.path, detail))?;
        }
        let session = make_session(&self.runtime, &self.path, self.edited.as_ref(), self.intra_op_threads)?;
        Ok(Box::new(OnnxEngine::new(session, Arc::clone(&self.signature))?))
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
        self.intra_op_threads
    }
}

fn make_session(runtime: &Runtime, path: &Path, edited: Option<&Edited>, intra_op_threads: usize) -> Result<Session, EngineError> {
    let build = || -> ort::Result<Session> {
        let mut builder = Session::builder(&runtime.environment)?
            .with_intra_threads(intra_op_threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_log_level(LogLevel::Fatal)?;
        match edited {
            // Its weights may lie beside the file that it was read from.
            Some(edited) => {
                let beside = path.parent().unwrap_or(Path::new("")).to_string_lossy();
                builder = builder.with_config_entry("session.model_external_initializers_file_folder_path", beside)?;
                builder.commit_from_memory(&edited.model)
            }
            None => builder.commit_from_file(path),
        }
    };
    build().map_err(|error| load_error(path, advice::on_load(error.message())))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn load_error(path: &Path, detail: String) -> EngineError {
    let file = file_name(path);
    // Callers of the model may read it: where the server keeps its files is not theirs to know.
    let detail = detail.replace(path.to_string_lossy().as_ref(), &file);
    let detail = match path.parent().map(|directory| directory.to_string_lossy()).filter(|directory| directory.len() > 1) {
        Some(directory) => detail.replace(&format!("{directory}/"), ""),
        None => detail,
    };
    EngineError::Load { file, detail }
}

/// One session and the options that let another thread stop its run.
pub struct OnnxEngine {
    session: Session,
    signature: Arc<Signature>,
    options: Arc<RunOptions<NoSelectedOutputs>>,
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

impl OnnxEngine {
    fn new(session: Session, signature: Arc<Signature>) -> Result<OnnxEngine, EngineError> {
        let mut options = RunOptions::new().map_err(run_error)?;
        options.set_log_level(LogLevel::Fatal).map_err(run_error)?;
        Ok(OnnxEngine { session, signature, options: Arc::new(options) })
    }

    /// Operator set per domain, for the manifest: `ai.onnx` and, where the graph uses it, `ai.onnx.ml`.
    pub fn opsets(&self) -> Vec<(&'static str, u32)> {
        let domains = [("ai.onnx", ""), ("ai.onnx.ml", "ai.onnx.ml")];
        domains.into_iter().filter_map(|(name, domain)| Some((name, self.session.opset_for_domain(domain)?))).collect()
    }

    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }
}

impl Engine for OnnxEngine {
    fn run(&mut self, batch: &Tensors) -> Result<Tensors, EngineError> {
        let mut inputs = Vec::with_capacity(batch.0.len());
        for (name, tensor) in &batch.0 {
            inputs.push((&**name, input_value(tensor).map_err(run_error)?));
        }
        let outputs = self.session.run_with_options(inputs, &self.options).map_err(run_error)?;
        let mut tensors = Vec::with_capacity(outputs.len());
        for ((_, value), spec) in outputs.into_iter().zip(&self.signature.outputs) {
            let tensor = output_tensor(value, spec.datatype)
                .map_err(|detail| EngineError::Run { detail: format!("output `{}`: {detail}", spec.name) })?;
            tensors.push((Arc::clone(&spec.name), tensor));
        }
        Ok(Tensors(tensors))
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::new(Terminator(Arc::clone(&self.options)))
    }
}

fn run_error(error: ort::Error) -> EngineError {
    let message = error.message();
    if message.contains("terminate flag") { EngineError::Terminated } else { EngineError::Run { detail: message.to_owned() } }
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
    if !values.iter().any(|text| memchr::memchr(0, text.as_bytes()).is_some()) {
        return ort::value::Tensor::from_string_array((shape, values));
    }
    let blanks = vec![String::new(); values.len()];
    let mut tensor = ort::value::Tensor::from_string_array((shape, blanks.as_slice()))?;
    for (index, text) in values.iter().enumerate() {
        let mut buffer: *mut ffi::c_char = std::ptr::null_mut();
        // SAFETY: the tensor is one of texts, alive and only ours; `index` is below its number of elements, which is that of
        // `values`; the library writes a pointer to `buffer` or returns an error.
        let status = unsafe { (ort::api().GetResizedStringTensorElementBuffer)(tensor.ptr_mut(), index, text.len(), &mut buffer) };
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
    fn extract<T: PrimitiveTensorElementType>(value: &DynValue) -> Result<(&OrtShape, &[T]), String> {
        value.try_extract_tensor::<T>().map_err(|error| error.message().to_owned())
    }
    fn take<T: PrimitiveTensorElementType + Pod>(value: DynValue, wrap: fn(Buffer<T>) -> Data) -> Result<Tensor, String> {
        struct Owner<T>(DynValue, PhantomData<fn() -> T>);
        impl<T: PrimitiveTensorElementType + Pod> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                // It could be extracted before it came here.
                extract::<T>(&self.0).map(|(_, values)| bytemuck::cast_slice(values)).unwrap_or_default()
            }
        }
        let (shape, values) = extract::<T>(&value)?;
        if size_of_val(values) < SHARED_OUTPUT_BYTES {
            return checked(shape, wrap(values.to_vec().into()));
        }
        let shape = shape.clone();
        let bytes = Bytes::from_owner(Owner::<T>(value, PhantomData));
        checked(&shape, wrap(Buffer::from_bytes(bytes).ok_or("its elements are not whole")?))
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
            let (shape, values) = value.try_extract_strings().map_err(|error| error.message().to_owned())?;
            checked(shape, Data::Bytes(values))
        }
    }
}

fn checked(shape: &OrtShape, data: Data) -> Result<Tensor, String> {
    let dims: Option<Vec<usize>> = shape.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    dims.and_then(|dims| Tensor::new(dims, data)).ok_or_else(|| "its shape does not fit its elements".to_owned())
}

fn signature_of(session: &Session) -> Result<Signature, String> {
    let specs = |outlets: &[Outlet], side: &str| outlets.iter().map(|outlet| tensor_spec(outlet, side)).collect::<Result<Vec<_>, _>>();
    Ok(Signature { inputs: specs(session.inputs(), "input")?, outputs: specs(session.outputs(), "output")? })
}

fn names_of(kind: &ValueType) -> Vec<String> {
    match kind {
        ValueType::Tensor { dimension_symbols, .. } => dimension_symbols.to_vec(),
        _ => Vec::new(),
    }
}

fn tensor_spec(outlet: &Outlet, side: &str) -> Result<TensorSpec, String> {
    spec_of(outlet.name(), outlet.dtype(), side)
}

fn spec_of(name: &str, kind: &ValueType, side: &str) -> Result<TensorSpec, String> {
    let ValueType::Tensor { ty, shape, .. } = kind else {
        return Err(format!("{side} `{name}` is a sequence or map, which can't be served; export the model with a tensor for each {side}"));
    };
    let datatype = datatype_of(*ty).ok_or_else(|| format!("{side} `{name}` has the element type {ty:?}, which can't be served"))?;
    let dims = shape.iter().map(|dim| usize::try_from(*dim).map_or(Dim::Any, Dim::Fixed)).collect();
    Ok(TensorSpec { name: Arc::from(name), datatype, shape: Shape(dims) })
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
