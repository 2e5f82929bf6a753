//! The flavour `wasi`: any host of `wasi:http@0.3`, `wasmtime serve` among them.
//!
//! The cells are in the memory of the instance, because such a host has no store. One
//! request per question is elected among the requests of an instance, and what an
//! instance has stored is lost when it ends.

use crate::config::Config;
use crate::platform::setup::SetupError;
use crate::platform::wasip3;
use crate::store::Memory;
use crate::time::Time;
use crate::world::event;

/// Most bytes of cells and bodies that an instance keeps.
const BYTES_MAX: usize = 64 << 20;

/// The store of the cells.
pub(crate) type Cells = Memory;

/// Makes the store of the cells.
pub(crate) async fn cells(config: &Config, _: fn() -> Time) -> Result<Cells, SetupError> {
    let asked = usize::try_from(config.limits.store_bytes).unwrap_or(usize::MAX);
    let bytes = asked.min(BYTES_MAX);
    wasip3::log(&event(
        "store-in-memory",
        &[
            (
                "effect",
                "one request per question is elected within this instance only; what it has \
                 stored is lost when the host ends it"
                    .into(),
            ),
            ("bytes", bytes.into()),
        ],
    ));
    Ok(Memory::new(bytes))
}
