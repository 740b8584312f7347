//! The WebAssembly engine: one configuration for every plugin, one ticker for every deadline.
//!
//! It offers guests less than wasmtime can do: features that no plugin language needs by default, and at which the
//! year's security advisories point, are switched off.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::component::Component;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures};

use super::cache::Cache;
use crate::error::{Error, Result};

/// Between two ticks of the clock that deadlines are counted in: fine enough for limits of 50 ms and more, too rare to cost.
const TICK: Duration = Duration::from_millis(10);

/// Stack of a guest, on the stack of the thread that calls it: deep recursion of an interpreter fits, and a thread of
/// 2 MiB survives it.
const GUEST_STACK: usize = 1 << 20;

/// Stack for a thread that calls plugins.
pub const THREAD_STACK: usize = 8 << 20;

/// Bytes of a memory that stay mapped between two instances: the working set of a call (its columns, ≤ 1 MiB, and the
/// guest's own data). Zeroing that is cheaper than faulting it in again.
const KEEP_RESIDENT: usize = 2 << 20;

/// Bytes of a component that take seconds to compile.
const LARGE: usize = 8 << 20;

/// Slots of the pool, as address space and not as memory: instances alive at once (plugins × threads), and the core
/// instances, memories and tables in them. A Python component has 38 core instances.
const COMPONENTS: u32 = 1000;
const CORE_PER_COMPONENT: u32 = 100;
const MEMORIES: u32 = 1000;
const TABLES: u32 = 4000;
/// Go's function table has thousands of entries; beyond this a table is a bomb.
const TABLE_ELEMENTS: usize = 1 << 20;

/// Compiles components and keeps their deadlines. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    /// compiles on one core
    is_beside: bool,
}

struct Inner {
    wasm: wasmtime::Engine,
    /// makes the same machine code, on one core and one component at a time; runs nothing
    single: Mutex<wasmtime::Engine>,
    cache: Option<Cache>,
    /// of scripts, by digest: a few, kept for as long as this is
    engines: Mutex<BTreeMap<String, Component>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("cache", &self.inner.cache).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that keeps compiled components in the folder `cache`, which becomes private to this user.
    ///
    /// The folder is an optimisation: where it cannot be used, that is logged, and components are compiled each time.
    pub fn new(cache: Option<PathBuf>) -> Result<Engine> {
        let wasm = wasmtime::Engine::new(&config(pool()))
            .or_else(|e| {
                // the pool reserves address space, which a `ulimit -v` may not grant; without it fresh instances cost more
                tracing::warn!(error = %format!("{e:#}"), "no pool for plugin instances; each one is allocated");
                wasmtime::Engine::new(&config(InstanceAllocationStrategy::OnDemand))
            })
            .map_err(|e| Error::Host(format!("cannot set up the WebAssembly engine: {e:#}")))?;
        let weak = wasm.weak();
        std::thread::Builder::new()
            .name("plugin-clock".into())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                }
            })
            .map_err(|e| Error::environment("cannot start the plugins' clock", e))?;
        let cache = cache.and_then(|folder| Cache::open(folder, &wasm));
        let single = wasmtime::Engine::new(config(InstanceAllocationStrategy::OnDemand).parallel_compilation(false))
            .map_err(|e| Error::Host(format!("cannot set up the WebAssembly compiler: {e:#}")))?;
        let inner = Inner { wasm, single: Mutex::new(single), cache, engines: Mutex::default() };
        Ok(Engine { inner: Arc::new(inner), is_beside: false })
    }

    /// The same engine for whoever compiles while others judge: it takes one core, however many there are.
    pub fn beside(&self) -> Engine {
        Engine { inner: self.inner.clone(), is_beside: true }
    }

    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.inner.wasm
    }

    /// The component `code`, from the cache if it is there. `digest` is that of `code`. A refusal reads on from the plugin's
    /// name.
    ///
    /// Compiling cannot be broken off: what takes longer than `limit` goes on behind, and is kept for nobody.
    pub(super) fn compile(&self, code: &[u8], digest: &str, limit: Duration) -> Result<Component, String> {
        let cache = self.inner.cache.as_ref();
        if let Some(component) = cache.and_then(|cache| cache.get(&self.inner.wasm, digest)) {
            return Ok(component);
        }
        let (begun, bytes) = (Instant::now(), code.len());
        if bytes > LARGE {
            tracing::info!(digest, bytes, "compiling a large component: that takes a while, once");
        }
        let component = self.compile_within(code, limit)?;
        tracing::debug!(digest, bytes, took = ?begun.elapsed(), "a component was compiled");
        if let Some(cache) = cache {
            cache.put(digest, &component);
        }
        Ok(component)
    }

    fn compile_within(&self, code: &[u8], limit: Duration) -> Result<Component, String> {
        let (done, compiled) = std::sync::mpsc::sync_channel(1);
        let (engine, code) = (self.clone(), code.to_vec());
        let thread = std::thread::Builder::new().name("plugin-compile".into()).stack_size(THREAD_STACK);
        let work = move || _ = done.send(engine.compile_now(&code));
        thread.spawn(work).map_err(|e| format!("no thread could be started to compile it: {e}"))?;
        match compiled.recv_timeout(limit) {
            Ok(Ok(component)) => Ok(component),
            Ok(Err(why)) => Err(format!("it cannot be compiled: {}", why.root_cause())),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "it is not compiled after {}; raise limits.compile if that is right",
                humantime::format_duration(limit)
            )),
            Err(RecvTimeoutError::Disconnected) => Err("it cannot be compiled: the compiler panicked".to_owned()),
        }
    }

    fn compile_now(&self, code: &[u8]) -> wasmtime::Result<Component> {
        if !self.is_beside {
            return Component::from_binary(&self.inner.wasm, code);
        }
        // locked meanwhile: one core, also where the one before was given up
        let single = self.inner.single.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = single.precompile_component(code)?;
        drop(single);
        // SAFETY: it was compiled a moment ago, by this process, from code that was checked
        unsafe { Component::deserialize(&self.inner.wasm, compiled) }
    }

    /// The component of an engine of scripts: compiled once, and kept for all scripts.
    pub(super) fn compile_engine(&self, code: &[u8], digest: &str, limit: Duration) -> Result<Component, String> {
        // locked meanwhile: who wants the same one waits, and does not compile it again
        let mut engines = self.engines();
        if let Some(component) = engines.get(digest) {
            return Ok(component.clone());
        }
        let component = self.compile(code, digest, limit)?;
        engines.insert(digest.to_owned(), component.clone());
        Ok(component)
    }

    /// Whether an engine of scripts was looked at, and compiled.
    pub(super) fn has_engine(&self, digest: &str) -> bool {
        self.engines().contains_key(digest)
    }

    fn engines(&self) -> MutexGuard<'_, BTreeMap<String, Component>> {
        self.inner.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many ticks are at least `time`.
pub(super) fn ticks(time: Duration) -> u64 {
    // one more: the first may come at once
    (time.as_nanos().div_ceil(TICK.as_nanos()) as u64).saturating_add(1)
}

fn config(allocation: InstanceAllocationStrategy) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false) // it alone makes a call 4 to 5 times dearer
        .cranelift_nan_canonicalization(true) // the same verdict on every machine
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        .allocation_strategy(allocation);
    for feature in [
        WasmFeatures::TAIL_CALL,
        WasmFeatures::FUNCTION_REFERENCES,
        WasmFeatures::MEMORY64,
        WasmFeatures::RELAXED_SIMD,
        WasmFeatures::GC,
        WasmFeatures::EXCEPTIONS,
        WasmFeatures::THREADS,
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        WasmFeatures::STACK_SWITCHING,
        WasmFeatures::CUSTOM_PAGE_SIZES,
    ] {
        config.wasm_features(feature, false);
    }
    // multi-memory stays on: wasmtime 48.0.8 panics on some components without it
    config
}

fn pool() -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(COMPONENTS)
        .max_core_instances_per_component(CORE_PER_COMPONENT)
        .max_memories_per_component(CORE_PER_COMPONENT)
        .max_tables_per_component(CORE_PER_COMPONENT)
        .total_core_instances(COMPONENTS * 4)
        .total_memories(MEMORIES)
        .total_tables(TABLES)
        .max_memories_per_module(CORE_PER_COMPONENT)
        .max_tables_per_module(CORE_PER_COMPONENT)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    InstanceAllocationStrategy::Pooling(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_beside_runs_in_the_same_engine_and_what_takes_too_long_is_refused() {
        let engine = Engine::new(None).unwrap();
        let code = wat::parse_str("(component (core module (func (export \"f\"))))").unwrap();
        for engine in [engine.clone(), engine.beside()] {
            engine.compile(&code, "digest", Duration::from_secs(60)).unwrap();
            let late = engine.compile(&code, "digest", Duration::ZERO).expect_err("nothing is compiled in no time");
            assert_eq!(late, "it is not compiled after 0s; raise limits.compile if that is right");
        }
        let wrong = engine.beside().compile(b"\0asm", "digest", Duration::from_secs(60)).unwrap_err();
        assert!(wrong.starts_with("it cannot be compiled: "), "{wrong}");
    }

    #[test]
    fn a_deadline_is_never_early() {
        for (time, expected) in [(0, 1), (1, 2), (10, 2), (11, 3), (250, 26)] {
            assert_eq!(ticks(Duration::from_millis(time)), expected, "{time} ms");
        }
    }
}
