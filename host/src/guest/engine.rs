//! The engine: how components are compiled and where their instances live.

use std::path::Path;

use wasmtime::error::Context as _;
use wasmtime::{
    Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
};

/// Most instances that live at once, as in Spin. Requests beyond wait for one
/// to end.
pub(crate) const INSTANCES_MAX: u32 = 1_000;

/// Core modules, memories and tables of one component that the pool has room
/// for, as a mean over all instances.
const CORE_INSTANCES_PER_INSTANCE: u32 = 4;
const TABLES_PER_INSTANCE: u32 = 2;

/// Most elements of a table.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Most bytes of the engine's own records of one instance.
const INSTANCE_RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Tasks of one instance that are under way at once. Each needs a stack.
const STACKS_MAX: u32 = 16 * INSTANCES_MAX;

/// Where compiled components are kept, beside the component's file: whoever can
/// write there could as well replace the component.
const CACHE_DIRECTORY: &str = ".leeward-compiled";

/// An engine for the component in the file at `component`. Its instances come
/// out of a pool, which makes them cheap; on machines that cannot reserve the
/// address space for one they are allocated one by one.
pub(super) fn engine(component: &Path) -> Result<Engine> {
    let cache = compilation_cache(component);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(CORE_INSTANCES_PER_INSTANCE * INSTANCES_MAX)
        .total_memories(INSTANCES_MAX)
        .total_tables(TABLES_PER_INSTANCE * INSTANCES_MAX)
        .total_stacks(STACKS_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_component_instance_size(INSTANCE_RECORD_BYTES_MAX)
        .max_core_instance_size(INSTANCE_RECORD_BYTES_MAX);
    let mut config = config(cache.clone());
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(_) => Engine::new(&self::config(cache)).context("cannot run WebAssembly here"),
    }
}

fn config(cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config.wasm_component_model_async(true).cache(cache);
    config
}

/// Without a cache, as where nothing can be written beside the component, the
/// start takes a second or two longer.
fn compilation_cache(component: &Path) -> Option<Cache> {
    let directory = component
        .canonicalize()
        .ok()?
        .parent()?
        .join(CACHE_DIRECTORY);
    let mut config = CacheConfig::new();
    config.with_directory(directory);
    Cache::new(config).ok()
}
