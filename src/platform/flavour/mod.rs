//! The flavours: one module for each, of which exactly one is compiled.
//!
//! Each has the same items:
//!
//! - `Cells`, the [`Store`](crate::store::Store) of the cells;
//! - `cells(&Config, clock)`, which makes it;
//! - `variable(name)`, a setting of the platform, or none if it is not set;
//! - `DEFAULTS`, the options with another default.

#[cfg(feature = "akamai")]
mod akamai;
#[cfg(any(feature = "wasmcloud", feature = "wasi"))]
mod environment;
#[cfg(feature = "fermyon-cloud")]
mod fermyon_cloud;
#[cfg(any(feature = "fermyon-cloud", feature = "akamai"))]
mod fermyon_variables;
#[cfg(feature = "spin")]
mod spin;
#[cfg(feature = "spin-redis")]
mod spin_redis;
#[cfg(feature = "spin-sqlite")]
mod spin_sqlite;
#[cfg(any(feature = "spin", feature = "spin-sqlite", feature = "spin-redis"))]
mod spin_variables;
#[cfg(feature = "wasi")]
mod wasi;
#[cfg(feature = "wasmcloud")]
mod wasmcloud;

#[cfg(feature = "akamai")]
pub(crate) use akamai::{Cells, DEFAULTS, cells};
#[cfg(any(feature = "wasmcloud", feature = "wasi"))]
pub(crate) use environment::{DEFAULTS, variable};
#[cfg(feature = "fermyon-cloud")]
pub(crate) use fermyon_cloud::{Cells, DEFAULTS, cells};
#[cfg(any(feature = "fermyon-cloud", feature = "akamai"))]
pub(crate) use fermyon_variables::variable;
#[cfg(feature = "spin")]
pub(crate) use spin::{Cells, cells};
#[cfg(feature = "spin-redis")]
pub(crate) use spin_redis::{Cells, cells};
#[cfg(feature = "spin-sqlite")]
pub(crate) use spin_sqlite::{Cells, cells};
#[cfg(any(feature = "spin", feature = "spin-sqlite", feature = "spin-redis"))]
pub(crate) use spin_variables::{DEFAULTS, variable};
#[cfg(feature = "wasi")]
pub(crate) use wasi::{Cells, cells};
#[cfg(feature = "wasmcloud")]
pub(crate) use wasmcloud::{Cells, cells};

/// How many flavours are compiled.
const FLAVOURS: usize = cfg!(feature = "spin") as usize
    + cfg!(feature = "spin-sqlite") as usize
    + cfg!(feature = "spin-redis") as usize
    + cfg!(feature = "fermyon-cloud") as usize
    + cfg!(feature = "akamai") as usize
    + cfg!(feature = "wasmcloud") as usize
    + cfg!(feature = "wasi") as usize;

const _: () = assert!(
    FLAVOURS == 1,
    "the component is built for exactly one platform; choose it with \
     `--no-default-features --features NAME`, where NAME is spin, spin-sqlite, spin-redis, \
     fermyon-cloud, akamai, wasmcloud or wasi"
);
