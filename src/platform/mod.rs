//! Bindings to the hosts: one thin module for each flavour of the component,
//! the only code that knows a platform's interfaces.
//!
//! What a binding decides without its host is in modules of its own, which
//! compile on every target and are tested there.

pub mod log;
pub mod read_buffer;
pub mod setup;
#[cfg(target_family = "wasm")]
mod spin;
pub mod spin_fields;
