//! Bindings to the hosts, the only code that knows a platform's interfaces.
//!
//! The component is built once for each flavour, a Cargo feature. `wasip3` and `wasip2`
//! bind a version of WASI; [`flavour`] has one module for each flavour: where the cells
//! are, and where the settings come from. What a binding decides without its host is in
//! modules of its own, which compile on every target and are tested there.

pub mod defaults;
#[cfg(target_family = "wasm")]
pub(crate) mod flavour;
pub mod host_fields;
pub mod limits;
pub mod log;
pub mod message;
pub mod reactor;
pub mod read_buffer;
pub mod setup;
pub mod spin_fields;
pub mod tasks;
#[cfg(all(
    target_family = "wasm",
    any(feature = "fermyon-cloud", feature = "akamai")
))]
mod wasip2;
#[cfg(all(
    target_family = "wasm",
    not(any(feature = "fermyon-cloud", feature = "akamai"))
))]
pub(crate) mod wasip3;
