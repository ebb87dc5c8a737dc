//! `Arena`: the memory of a session's runs. `RegisteredArena`: an arena with a limit that is
//! registered with the environment.

use std::{
    ffi::CStr,
    sync::{MutexGuard, PoisonError},
};

use ort::{
    AsPointer,
    environment::Environment,
    logging::LogLevel,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{NoSelectedOutputs, RunOptions, Session},
};

use crate::engine::{
    infer::{Runtime, runtime::succeeded},
    retention::Retention,
};

/// The memory of a session's runs.
pub(super) struct Arena {
    allocator: Allocator,
    /// Options of a run that stops before its first node and only releases free regions.
    pub(super) release: RunOptions<NoSelectedOutputs>,
    /// Bytes that the session uses before its first run.
    pub(super) weights: u64,
    /// Maximum number of bytes for weights and runs together. `None` means no limit.
    pub(super) limit: Option<u64>,
    pub(super) retention: Retention,
    /// Whether the last run was long enough to be measured.
    pub(super) is_measure_due: bool,
    /// Bytes beyond the weights at the last measurement.
    pub(super) held: u64,
    /// Whether regions were released since the last `trim_allocator`.
    pub(super) released: bool,
}

impl Arena {
    pub(super) fn new(session: &Session, limit: Option<u64>) -> ort::Result<Arena> {
        let mut release = RunOptions::new()?;
        release.set_log_level(LogLevel::Fatal)?;
        release.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
        // The run must end before its first node: only the end of a run releases memory.
        release.terminate()?;
        let allocator = Allocator::new(session, arena_info()?)?;
        let mut arena = Arena {
            allocator,
            release,
            weights: 0,
            limit,
            retention: Retention::default(),
            is_measure_due: false,
            held: 0,
            released: false,
        };
        // Measured before the first run, so that only the memory of runs counts as releasable.
        arena.weights = arena.total();
        Ok(arena)
    }

    /// Bytes that the library took from the system for the arena. 0 if the library has no such
    /// statistics.
    fn total(&self) -> u64 {
        let mut pairs = std::ptr::null_mut();
        // SAFETY: the allocator lives as long as `self`. The library writes a pointer to `pairs` or
        // returns an error.
        let status = unsafe { (ort::api().AllocatorGetStats)(self.allocator.ptr(), &mut pairs) };
        if succeeded(status).is_err() || pairs.is_null() {
            return 0;
        }
        // SAFETY: `pairs` belongs to the library, and the key is a null-terminated string. The
        // result is null or a null-terminated string that `pairs` owns.
        let value = unsafe { (ort::api().GetKeyValue)(pairs, c"TotalAllocated".as_ptr()) };
        let total = if value.is_null() {
            None
        } else {
            // SAFETY: the string is not null and is null-terminated. `pairs` is released only
            // below.
            unsafe { CStr::from_ptr(value) }
                .to_str()
                .ok()
                .and_then(|text| text.parse().ok())
        };
        // SAFETY: `pairs` was made above and is not used after this.
        unsafe { (ort::api().ReleaseKeyValuePairs)(pairs) };
        total.unwrap_or(0)
    }

    /// Measures and returns the bytes beyond the weights.
    pub(super) fn measure(&mut self) -> u64 {
        self.held = self.total().saturating_sub(self.weights);
        self.held
    }
}

/// Returns free memory of the C library's allocator to the system. ONNX Runtime takes regions below
/// 32 MiB from this allocator, which keeps them when the arena frees them.
pub(super) fn trim_allocator() {
    // SAFETY: the function takes no pointer, touches only free memory, and may be called at any
    // time from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// An arena that stays registered with the environment while this value lives.
///
/// A session that is created in this time and uses the environment's allocators keeps the arena.
/// Each session gets its own arena.
pub(super) struct RegisteredArena<'a> {
    environment: &'a Environment,
    _registration: MutexGuard<'a, ()>,
}

fn arena_info() -> ort::Result<MemoryInfo<'static>> {
    MemoryInfo::new(
        AllocationDevice::CPU,
        0,
        AllocatorType::Arena,
        MemoryType::Default,
    )
}

impl<'a> RegisteredArena<'a> {
    /// Registers an arena of at most `max_bytes`.
    pub(super) fn new(runtime: &'a Runtime, max_bytes: u64) -> ort::Result<RegisteredArena<'a>> {
        let registration = runtime
            .registration
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Strategy 1 makes regions as large as requested. The default strategy doubles the sizes of
        // regions, so that half of the limit could not be used.
        let keys = [c"max_mem".as_ptr(), c"arena_extend_strategy".as_ptr()];
        let values = [usize::try_from(max_bytes).unwrap_or(usize::MAX), 1];
        let info = arena_info()?;
        let mut config = std::ptr::null_mut();
        // SAFETY: keys and values are arrays of the given length, and the keys are null-terminated
        // strings. The library writes a pointer to `config` or returns an error.
        succeeded(unsafe {
            (ort::api().CreateArenaCfgV2)(keys.as_ptr(), values.as_ptr(), keys.len(), &mut config)
        })?;
        // SAFETY: the environment lives as long as `runtime`. Only one thread registers at a time,
        // because it holds the lock `registration`. The library copies `info` and `config`.
        let status = unsafe {
            (ort::api().CreateAndRegisterAllocator)(
                runtime.environment.ptr().cast_mut(),
                info.ptr(),
                config,
            )
        };
        // SAFETY: `config` was made above and is not used after this.
        unsafe { (ort::api().ReleaseArenaCfg)(config) };
        succeeded(status)?;
        Ok(RegisteredArena {
            environment: &runtime.environment,
            _registration: registration,
        })
    }
}

impl Drop for RegisteredArena<'_> {
    fn drop(&mut self) {
        let unregister = |info: MemoryInfo<'_>| {
            // SAFETY: the environment lives, and one allocator of this kind is registered. Sessions
            // that use it share its ownership.
            succeeded(unsafe {
                (ort::api().UnregisterAllocator)(self.environment.ptr().cast_mut(), info.ptr())
            })
        };
        if let Err(error) = arena_info().and_then(unregister) {
            tracing::error!(
                error = %error,
                "an arena could not be unregistered; models with a memory limit can't be loaded \
                 any more"
            );
        }
    }
}
