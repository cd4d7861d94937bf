//! ONNX Runtime: its library, its execution providers and one model per thread (the only file that names `ort`).
//!
//! *Concurrency*: the library is loaded once per process; a [`Session`] belongs to one thread and computes on that thread alone,
//! because several single-threaded sessions finish more texts than one session with several threads.

use std::env;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;
use ort::session::{IoBinding, SessionInputValue};
use ort::value::{Tensor, TensorElementType, ValueType};

use super::cpu::sums_byte_products_exactly;
use super::head::Head;
use super::tokenizer::Sequence;
use super::{CudaSettings, Device, EncoderError, Precision};

/// What runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda(u32),
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("CPU"),
            Self::Cuda(id) => write!(f, "CUDA:{id}"),
        }
    }
}

/// The library in this process. It is never unloaded: sessions on other threads may outlive any owner.
static LIBRARY: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Finds ONNX Runtime's library: the configured path, else `ORT_DYLIB_PATH`, else `onnxruntime/` beside the model folder.
///
/// # Errors
/// [`EncoderError::LibraryMissing`] when there is no file.
pub fn find_library(configured: &Path, model_dir: &Path) -> Result<PathBuf, EncoderError> {
    let named =
        if configured.as_os_str().is_empty() { env::var_os("ORT_DYLIB_PATH").unwrap_or_default().into() } else { configured.to_owned() };
    let path = if named.as_os_str().is_empty() {
        // Made absolute first: a relative "my-model" has no parent to look into.
        let beside = std::path::absolute(model_dir).unwrap_or_else(|_| model_dir.to_owned()).with_file_name("onnxruntime");
        library_in(&beside).ok_or(EncoderError::LibraryMissing { path: beside })?
    } else if named.is_dir() {
        library_in(&named).ok_or_else(|| EncoderError::LibraryMissing { path: named.clone() })?
    } else {
        named
    };
    match path.is_file().then(|| std::path::absolute(&path)) {
        Some(Ok(absolute)) => Ok(absolute),
        _ => Err(EncoderError::LibraryMissing { path }),
    }
}

/// The library in a folder, whatever version ends its name.
pub fn library_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |name: &str| {
        name == "onnxruntime.dll"
            || name.starts_with("libonnxruntime.so")
            || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))
    };
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_library)).max()
}

/// Loads the library, or takes the one that this process has loaded if it is the same.
fn environment(library: &Path) -> Result<Environment, EncoderError> {
    let refused = |source: Box<dyn Error + Send + Sync>| EncoderError::Library { path: library.to_owned(), source };
    let mut loaded = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = &*loaded {
        return match std::fs::canonicalize(path).ok() == std::fs::canonicalize(library).ok() {
            true => Ok(environment.clone()),
            false => Err(refused(format!("this process has loaded {} already, and can load only one", path.display()).into())),
        };
    }
    // Always an explicit absolute path: the lazy way of finding it panics when it is not there.
    let builder = ort::init_from(library).map_err(|e| refused(e.to_string().into()))?;
    let environment = builder.with_name("kindred").with_telemetry(false).build().map_err(|e| refused(e.into()))?;
    *loaded = Some((library.to_owned(), environment.clone()));
    Ok(environment)
}

/// Loads the library, and returns what it says of its own build.
///
/// # Errors
/// [`EncoderError::Library`].
pub fn library_build(library: &Path) -> Result<&'static str, EncoderError> {
    environment(library)?;
    Ok(ort::info())
}

/// Lets the session run on a GPU, or fail.
#[cfg(feature = "cuda")]
fn with_cuda(builder: SessionBuilder, id: u32, settings: &CudaSettings) -> Result<SessionBuilder, Box<dyn Error + Send + Sync>> {
    use super::ArenaGrowth;
    use ort::ep::ArenaExtendStrategy;
    let growth = match settings.arena {
        ArenaGrowth::AsNeeded => ArenaExtendStrategy::SameAsRequested,
        ArenaGrowth::Doubling => ArenaExtendStrategy::NextPowerOfTwo,
    };
    let mut cuda = ort::ep::CUDA::default().with_device_id(i32::try_from(id)?).with_arena_extend_strategy(growth);
    if settings.memory_bytes > 0 {
        cuda = cuda.with_memory_limit(settings.memory_bytes);
    }
    // Without error_on_failure the session would run on the CPU and not say so.
    Ok(builder.with_execution_providers([cuda.build().error_on_failure()]).map_err(ort::Error::<()>::from)?)
}

#[cfg(not(feature = "cuda"))]
fn with_cuda(_: SessionBuilder, _: u32, _: &CudaSettings) -> Result<SessionBuilder, Box<dyn Error + Send + Sync>> {
    Err("this kindred was built without CUDA: build it with `--features cuda`".into())
}

/// Makes ONNX Runtime turn signed weights into unsigned ones, whose kernels sum products of bytes exactly on every x86-64 processor.
/// Measured on AVX2: a query takes 11 % longer than with the kernels that clamp. With VNNI it would take 37 % longer, so it is not set there.
const UNSIGNED_WEIGHTS: &str = "session.x64quantprecision";

/// Configures a session with one thread, which does not spin while it is idle because other threads of this process need the core.
fn builder(environment: &Environment) -> Result<SessionBuilder, ort::Error> {
    let builder =
        ort::session::Session::builder(environment)?.with_intra_threads(1)?.with_inter_threads(1)?.with_intra_op_spinning(false)?;
    // In every precision: a model.onnx that a user brings may be quantised.
    if sums_byte_products_exactly() { Ok(builder) } else { Ok(builder.with_config_entry(UNSIGNED_WEIGHTS, "1")?) }
}

/// What a session is made from.
#[derive(Debug, Clone)]
pub struct SessionSettings<H> {
    pub library: PathBuf,
    pub model: PathBuf,
    /// What is made of the model's output.
    pub head: H,
    pub precision: Precision,
    pub cuda: CudaSettings,
}

/// One copy of the model, for one run at a time.
pub struct Session<H> {
    inner: ort::session::Session,
    model: PathBuf,
    output: String,
    takes_token_types: bool,
    head: H,
    /// On a GPU, the lengths and numbers of rows that batches are padded to.
    shapes: Option<Shapes>,
    /// On a GPU, where its output goes: to memory that it can write to by itself.
    binding: Option<(IoBinding, MemoryInfo<'static>)>,
}

/// The few shapes that a GPU is given.
#[derive(Debug, Clone)]
struct Shapes {
    lengths: Vec<usize>,
    rows: Vec<usize>,
}

impl Shapes {
    fn of(settings: &CudaSettings) -> Self {
        let sorted = |numbers: &[usize]| {
            let mut numbers = numbers.to_vec();
            numbers.sort_unstable();
            numbers
        };
        Self { lengths: sorted(&settings.lengths), rows: sorted(&settings.rows) }
    }

    /// The smallest of them that holds so much; beyond the largest, what is asked for.
    fn around(of: &[usize], n: usize) -> usize {
        of.iter().copied().find(|&shape| shape >= n).unwrap_or(n)
    }
}

impl<H: Head> Session<H> {
    /// Opens the model on the device asked for and says what runs it.
    ///
    /// # Errors
    /// [`EncoderError::Device`] when CUDA was asked for and cannot be had; otherwise as [`Session::open`].
    pub fn open_on(settings: &SessionSettings<H>, device: Device) -> Result<(Self, Provider), EncoderError> {
        let provider = match device {
            Device::Cpu => Provider::Cpu,
            Device::Cuda(id) => Provider::Cuda(id),
            Device::Auto => match Self::open(settings, Provider::Cuda(0)) {
                Ok(session) => return Ok((session, Provider::Cuda(0))),
                Err(EncoderError::Device { source, .. }) => {
                    // Whoever built it without knows that.
                    if cfg!(feature = "cuda") {
                        tracing::info!(reason = %source, "encoder.device is auto: CUDA cannot be had, using the CPU");
                    }
                    Provider::Cpu
                }
                Err(other) => return Err(other),
            },
        };
        Ok((Self::open(settings, provider)?, provider))
    }

    /// Opens the model.
    ///
    /// # Errors
    /// [`EncoderError::Library`], [`EncoderError::Device`] or [`EncoderError::Model`], by what failed.
    pub fn open(settings: &SessionSettings<H>, provider: Provider) -> Result<Self, EncoderError> {
        let environment = environment(&settings.library)?;
        let unusable = |e: ort::Error| EncoderError::Model { path: settings.model.clone(), source: e.into() };
        let mut builder = builder(&environment).map_err(unusable)?;
        if settings.precision == Precision::Int8 {
            // Measured: a tenth off a query in int8. What comes in lengths of its own each time gains nothing from memory that is laid out
            // beforehand, nor from the arena; in fp32, and with long texts, the arena pays.
            let plain = ort::ep::CPU::default().with_arena_allocator(false).build();
            let with_plain =
                || -> Result<SessionBuilder, ort::Error> { Ok(builder.with_memory_pattern(false)?.with_execution_providers([plain])?) };
            builder = with_plain().map_err(unusable)?;
        }
        if let Provider::Cuda(id) = provider {
            let refused = |source| EncoderError::Device { device: Device::Cuda(id), source };
            builder = with_cuda(builder, id, &settings.cuda).map_err(refused)?;
        }
        let inner = builder.commit_from_file(&settings.model).map_err(|e| match provider {
            Provider::Cpu => unusable(e),
            // A driver or memory that is missing shows only here. If it is the file, the CPU will say so.
            Provider::Cuda(id) => EncoderError::Device { device: Device::Cuda(id), source: e.into() },
        })?;
        let mut session = Self::check(inner, settings)?;
        if let Provider::Cuda(id) = provider {
            session.shapes = Some(Shapes::of(&settings.cuda));
            let pinned = MemoryInfo::new(AllocationDevice::CUDA_PINNED, id as i32, AllocatorType::Device, MemoryType::CPUOutput);
            pinned
                .and_then(|memory| session.bind(memory))
                .map_err(|e| EncoderError::Device { device: Device::Cuda(id), source: e.into() })?;
        }
        Ok(session)
    }

    /// Lets runs leave their output in memory of this kind.
    fn bind(&mut self, memory: MemoryInfo<'static>) -> Result<(), ort::Error> {
        self.binding = Some((self.inner.create_binding()?, memory));
        Ok(())
    }

    /// Checks that the graph takes and gives what an encoder must.
    fn check(inner: ort::session::Session, settings: &SessionSettings<H>) -> Result<Self, EncoderError> {
        let refuse = |reason: String| Err(EncoderError::Model { path: settings.model.clone(), source: reason.into() });
        let mut takes_token_types = false;
        for input in inner.inputs() {
            match input.name() {
                "input_ids" | "attention_mask" => {}
                "token_type_ids" => takes_token_types = true,
                other => {
                    return refuse(format!("it has an input {other:?}; an encoder takes input_ids, attention_mask and token_type_ids"));
                }
            }
            if !matches!(input.dtype(), ValueType::Tensor { ty: TensorElementType::Int64, .. }) {
                return refuse(format!("its input {:?} is {}, not 64-bit integers", input.name(), input.dtype()));
            }
        }
        for name in ["input_ids", "attention_mask"] {
            if !inner.inputs().iter().any(|input| input.name() == name) {
                return refuse(format!("it has no input {name:?}"));
            }
        }
        let wanted = settings.head.shapes(-1, -1);
        let fits = |shape: &[i64]| wanted.iter().any(|wanted| may_be(shape, wanted));
        let output = inner.outputs().iter().find(|output| match output.dtype() {
            ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => fits(shape),
            _ => false,
        });
        let Some(output) = output.map(|output| output.name().to_owned()) else {
            return refuse(format!("it has no output {} of 32-bit floats", settings.head.describe()));
        };
        Ok(Self {
            inner,
            model: settings.model.clone(),
            output,
            takes_token_types,
            head: settings.head.clone(),
            shapes: None,
            binding: None,
        })
    }

    /// Runs every shape that batches will have once: the first run of each is slow, for memory is laid out and kernels are chosen.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn warm_up(&mut self, max_batch_tokens: usize, max_tokens: usize) -> Result<(), EncoderError> {
        let shapes = self.shapes.clone().unwrap_or(Shapes { lengths: vec![8], rows: vec![1] });
        for &length in shapes.lengths.iter().filter(|&&length| length <= max_tokens) {
            for &rows in shapes.rows.iter().filter(|&&rows| rows == 1 || rows * length <= max_batch_tokens) {
                let text = vec![0; length];
                self.run(&vec![text.as_slice(); rows])?;
            }
        }
        Ok(())
    }

    /// Runs a batch, padded to its longest text: one output per text.
    ///
    /// # Errors
    /// [`EncoderError::Run`] when ONNX Runtime fails or gives numbers that mean nothing.
    pub fn run<T: Sequence + ?Sized>(&mut self, texts: &[&T]) -> Result<Vec<H::Output>, EncoderError> {
        let failed = |e: ort::Error| EncoderError::Run { source: e.into() };
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids().len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(Vec::new());
        }
        let (rows, sequence) = match &self.shapes {
            Some(shapes) => (Shapes::around(&shapes.rows, texts.len()), Shapes::around(&shapes.lengths, longest)),
            None => (texts.len(), longest),
        };
        let (mut ids, mut mask) = (vec![0i64; rows * sequence], vec![0i64; rows * sequence]);
        for (text, (ids, mask)) in texts.iter().zip(ids.chunks_exact_mut(sequence).zip(mask.chunks_exact_mut(sequence))) {
            ids.iter_mut().zip(text.ids()).for_each(|(id, &token)| *id = i64::from(token));
            mask[..text.ids().len()].fill(1);
        }
        let mut types = vec![0i64; if self.takes_token_types { rows * sequence } else { 0 }];
        for (text, types) in texts.iter().zip(types.chunks_exact_mut(sequence)) {
            types.iter_mut().zip(text.types()).for_each(|(to, &of)| *to = i64::from(of));
        }
        // Rows of padding alone look at one token: attention over none is not a number.
        mask.chunks_exact_mut(sequence).skip(texts.len()).for_each(|mask| mask[0] = 1);
        let tensor = |values: Vec<i64>| Tensor::from_array(([rows, sequence], values)).map_err(failed);
        let types = self.takes_token_types.then(|| tensor(types)).transpose()?;
        let inputs = [("input_ids", tensor(ids)?), ("attention_mask", tensor(mask)?)].into_iter();
        let mut inputs = inputs.chain(types.map(|types| ("token_type_ids", types)));
        let outputs = match &mut self.binding {
            None => {
                let inputs: Vec<_> = inputs.map(|(name, tensor)| (name, SessionInputValue::from(tensor))).collect();
                self.inner.run(inputs).map_err(failed)?
            }
            Some((binding, memory)) => {
                inputs.try_for_each(|(name, tensor)| binding.bind_input(name, &tensor)).map_err(failed)?;
                // Each time: what it gave before has the shape that it had then.
                binding.bind_output_to_device(self.output.as_str(), memory).map_err(failed)?;
                self.inner.run_binding(binding).map_err(failed)?
            }
        };
        let (shape, numbers) = outputs[self.output.as_str()].try_extract_tensor::<f32>().map_err(failed)?;
        let expected = self.head.shapes(rows as i64, sequence as i64);
        if !expected.iter().any(|expected| shape[..] == expected[..]) {
            let source = format!("the output has shape {:?}, not {expected:?}", &shape[..]).into();
            return Err(EncoderError::Model { path: self.model.clone(), source });
        }
        self.head.take(numbers, shape, &lengths).map_err(|source| EncoderError::Run { source })
    }
}

/// Whether a shape that a graph states may be a shape that is wanted; negative lengths are any.
fn may_be(stated: &[i64], wanted: &[i64]) -> bool {
    stated.len() == wanted.len() && stated.iter().zip(wanted).all(|(&stated, &wanted)| stated == wanted || stated < 0 || wanted < 0)
}

/// A model that puts out more than an embedding, for whoever wants to see inside.
pub struct Observer {
    inner: ort::session::Session,
}

impl Observer {
    /// Opens a model on the CPU.
    ///
    /// # Errors
    /// [`EncoderError::Library`] or [`EncoderError::Model`].
    pub fn open(library: &Path, model: &Path) -> Result<Self, EncoderError> {
        let unusable = |e: ort::Error| EncoderError::Model { path: model.to_owned(), source: e.into() };
        let mut builder = builder(&environment(library)?).map_err(unusable)?;
        Ok(Self { inner: builder.commit_from_file(model).map_err(unusable)? })
    }

    /// Runs one text and shows name and numbers of every output.
    ///
    /// # Errors
    /// [`EncoderError::Run`].
    pub fn observe(&mut self, text: &[u32], mut see: impl FnMut(&str, &[f32])) -> Result<(), EncoderError> {
        let failed = |e: ort::Error| EncoderError::Run { source: e.into() };
        let tensor = |values: Vec<i64>| Tensor::from_array(([1, text.len()], values)).map(SessionInputValue::from).map_err(failed);
        let ids = tensor(text.iter().map(|&id| i64::from(id)).collect())?;
        let inputs = vec![("input_ids", ids), ("attention_mask", tensor(vec![1; text.len()])?)];
        for (name, value) in &self.inner.run(inputs).map_err(failed)? {
            see(name, value.try_extract_tensor::<f32>().map_err(failed)?.1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Pooled;
    use crate::pooling::Pooling;

    #[test]
    fn a_gpu_is_given_few_shapes() {
        let shapes = [4, 16];
        assert_eq!([1, 4, 5, 16, 17].map(|n| Shapes::around(&shapes, n)), [4, 4, 16, 16, 17]);
    }

    /// As a GPU is used, but for the GPU: what comes back through a binding, in a batch that is padded, is what comes back without.
    #[test]
    fn a_bound_output_is_the_same() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        let assets = super::super::assets::ensure(&models).expect("the model can be fetched");
        let settings = SessionSettings {
            library: library_in(&assets.ort_library).unwrap_or(assets.ort_library),
            model: assets.model_dir.join("model.onnx"),
            head: Pooled { dims: 384, pooling: Pooling::Mean },
            precision: Precision::Fp32,
            cuda: CudaSettings::default(),
        };
        let mut plain = Session::open(&settings, Provider::Cpu).unwrap();
        let mut bound = Session::open(&settings, Provider::Cpu).unwrap();
        bound.shapes = Some(Shapes { lengths: vec![8, 16], rows: vec![4] });
        bound.bind(MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput).unwrap()).unwrap();
        for texts in [&[&[101, 2_000, 102][..]][..], &[&[101, 7, 8, 9, 102], &[101, 3_000, 4_000, 5, 6, 7, 8, 9, 10, 102]], &[&[101, 102]]]
        {
            let (expected, actual) = (plain.run(texts).unwrap(), bound.run(texts).unwrap());
            assert_eq!(actual.len(), texts.len());
            assert!(expected.iter().zip(&actual).all(|(a, b)| a.dot(b) > 0.9999));
        }
    }

    #[test]
    fn the_library_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("onnxruntime");
        std::fs::create_dir(&folder).unwrap();
        assert!(library_in(&folder).is_none());
        for name in ["LICENSE", "libonnxruntime_providers_shared.so", "libonnxruntime.so.1.31.1"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        assert_eq!(library_in(&folder).unwrap(), folder.join("libonnxruntime.so.1.31.1"));
        assert_eq!(find_library(&folder, Path::new("m")).unwrap(), folder.join("libonnxruntime.so.1.31.1"));
        let missing = find_library(&dir.path().join("none.so"), Path::new("m")).unwrap_err().to_string();
        assert!(missing.contains("none.so") && missing.contains("kindred fetch"), "{missing}");
    }
}
