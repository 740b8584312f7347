//! The WebAssembly engine: one configuration for every plugin, one ticker for every deadline.
//!
//! It offers guests less than wasmtime can do: features that no plugin language needs by default, and at which the
//! year's security advisories point, are switched off.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
}

struct Inner {
    wasm: wasmtime::Engine,
    cache: Option<Cache>,
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
        Ok(Engine { inner: Arc::new(Inner { wasm, cache }) })
    }

    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.inner.wasm
    }

    /// The component `code`, from the cache if it is there. `digest` is that of `code`.
    pub(super) fn compile(&self, code: &[u8], digest: &str) -> wasmtime::Result<Component> {
        let Some(cache) = &self.inner.cache else { return Component::from_binary(&self.inner.wasm, code) };
        if let Some(component) = cache.get(&self.inner.wasm, digest) {
            return Ok(component);
        }
        let component = Component::from_binary(&self.inner.wasm, code)?;
        cache.put(digest, &component);
        Ok(component)
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
    fn a_deadline_is_never_early() {
        for (time, expected) in [(0, 1), (1, 2), (10, 2), (11, 3), (250, 26)] {
            assert_eq!(ticks(Duration::from_millis(time)), expected, "{time} ms");
        }
    }
}
