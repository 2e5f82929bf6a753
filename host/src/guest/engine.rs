//! The engine: how components are compiled and where their instances live.

use std::path::PathBuf;
use std::time::Duration;

use wasmtime::error::Context as _;
use wasmtime::{
    Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
};

/// Most instances that live at once, as in Spin. Requests beyond wait for one
/// to end.
pub(crate) const INSTANCES_MAX: u32 = 1_000;

/// What the pool has room for: some more than may live, because an instance's
/// place counts as free a moment before its memory is.
const POOL_INSTANCES: u32 = INSTANCES_MAX + 100;

/// Core modules and tables of one instance that the pool has room for, as a
/// mean over all instances. Each has one memory.
const CORE_INSTANCES_PER_INSTANCE: u32 = 4;
const TABLES_PER_INSTANCE: u32 = 2;

/// Most elements of a table.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Most bytes of the engine's own records of one instance.
const INSTANCE_RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Tasks of one instance that are under way at once. Each needs a stack.
const STACKS_MAX: u32 = 16 * POOL_INSTANCES;

/// How long a guest may compute before it has to let others go on, as in Spin.
/// Without that, a guest that never ends would stop the whole host.
const TURN: Duration = Duration::from_millis(10);

/// An engine for a component that is kept in the folder `compiled` when it is compiled. Its instances come
/// out of a pool, which makes them cheap; on machines that cannot reserve the
/// address space for one they are allocated one by one.
pub(super) fn engine(compiled: Option<PathBuf>) -> Result<Engine> {
    let cache = compilation_cache(compiled);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(POOL_INSTANCES)
        .total_core_instances(CORE_INSTANCES_PER_INSTANCE * POOL_INSTANCES)
        .total_memories(POOL_INSTANCES)
        .total_tables(TABLES_PER_INSTANCE * POOL_INSTANCES)
        .total_stacks(STACKS_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_component_instance_size(INSTANCE_RECORD_BYTES_MAX)
        .max_core_instance_size(INSTANCE_RECORD_BYTES_MAX);
    let mut config = config(cache.clone());
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = match Engine::new(&config) {
        Ok(engine) => engine,
        Err(_) => Engine::new(&self::config(cache)).context("cannot run WebAssembly here")?,
    };
    take_turns(&engine).context("cannot start a thread")?;
    Ok(engine)
}

/// Ends the turn of every guest at once, again and again, as long as the engine
/// is there.
fn take_turns(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("turns".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TURN);
            }
        })
        .map(drop)
}

fn config(cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .cache(cache);
    config
}

/// Without a cache, as where nothing can be written beside the component, the
/// start takes a second or two longer.
fn compilation_cache(directory: Option<PathBuf>) -> Option<Cache> {
    let mut config = CacheConfig::new();
    config.with_directory(directory?);
    Cache::new(config).ok()
}
