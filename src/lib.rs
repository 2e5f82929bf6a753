//! Leeward keeps a fragile HTTP origin up.
//!
//! A shield for servers that cannot be scaled: a WASI HTTP component that keeps
//! responses in a key-value store which all nodes share, and lets exactly one
//! request per key go to the origin when a response has expired, while everyone
//! else is answered with the previous one at once.
//!
//! A tour of the house, from the ground up; each floor knows only those below:
//!
//! - [`time`] makes moments values, so that every decision takes them as
//!   arguments.
//! - [`semantics`] has HTTP's rules for a shared cache, as pure functions.
//! - [`cell`] has the record that a store keeps for a key, its encoding, and
//!   every change of it as a pure function. Election happens here.
//! - [`store`] says what is asked of a store, and makes one of key-value
//!   platforms whose word cannot be trusted.
//! - [`config`] has every option, defined once.
//! - [`shield`] is the algorithm: a request in, an answer out, over a
//!   [`shield::Platform`].
//! - `platform` binds all this to a host; compiled for WebAssembly only.

// The bindings to the host are generated, and export functions by name.
#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]
#![cfg_attr(target_family = "wasm", deny(unsafe_code))]

pub mod cell;
pub mod config;
#[cfg(target_family = "wasm")]
pub mod platform;
pub mod question;
pub mod semantics;
pub mod shield;
pub mod store;
pub mod time;
