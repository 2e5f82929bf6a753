//! Leeward keeps a fragile HTTP origin up.
//!
//! A shield for servers that cannot be scaled: a WASI HTTP component that keeps
//! responses in a key-value store which all nodes share. When a response has
//! expired, exactly one request per question goes to the origin, and all other
//! visitors get the previous response at once. No visitor can change, steal or take
//! away what another visitor gets, because the request that fills the cache is made
//! from the question and from nothing else.
//!
//! `docs/how-it-works.md` says the same for operators, with all the tables.
//!
//! The modules, the lowest layer first. Each uses only those before it, with one
//! exception: [`question`] knows the origin's address, [`config::Origin`].
//!
//! - [`time`] makes moments values, so that every decision takes them as
//!   arguments.
//! - [`semantics`] has HTTP's rules for a shared cache, as pure functions.
//! - [`cell`] has the record that a store keeps for a question, its encoding, and
//!   every change of it as a pure function. Election happens here.
//! - [`budget`] has the record that all nodes share about the origin: how many requests
//!   may be in flight, and whether it works.
//! - [`counts`] has the numbers of requests, where the host does not count them.
//! - [`store`] says what is asked of a store, and makes one of key-value
//!   platforms whose word cannot be trusted.
//! - [`question`] says what the origin is asked on behalf of all visitors that ask
//!   the same: the question, its key, and the request that the origin gets.
//! - [`purges`] has the record of purges that concern more than one URL.
//! - [`config`] has every option, defined once, and the rules.
//! - [`events`] lists what the log says, and how much attention it needs.
//! - [`world`] is the one seam to the host: clock, randomness, store, origin.
//! - [`cells`] says which cell a question has, reads and changes cells, and does
//!   without the store while that fails.
//! - `origin` is the only code that sends a request to the origin, and keeps to the
//!   budget.
//! - [`shield`] is the algorithm: a request in, an answer out, over a
//!   [`world::Platform`]. Its file `decide` says what a cell means for a request, its
//!   file `judge` what an answer does to a cell.
//! - [`admin`] stands before the shield: what the operator asks of it.
//! - [`platform`] binds all this to a host. The bindings themselves are compiled
//!   for WebAssembly only.

// The bindings to the host are generated, and export functions by name.
#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]
#![cfg_attr(target_family = "wasm", deny(unsafe_code))]
// They panic where the stream cannot be written: see `platform::log`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod budget;
pub mod cell;
pub mod cells;
pub mod config;
pub mod counts;
pub mod events;
mod origin;
pub mod platform;
pub mod purges;
pub mod question;
pub mod semantics;
pub mod shield;
pub mod store;
pub mod time;
pub mod world;
