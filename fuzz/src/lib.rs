//! What must hold for any input whatsoever.
//!
//! One module per fuzz target. Each has a function `check` that takes any
//! bytes, drives the functions that read what visitors, origins, stores and
//! operators send, and panics if one of them breaks what it promises: not only
//! that it never panics itself, but what its answer may be.
//!
//! Inputs are text, cut at empty lines into numbers and messages (see
//! `input`), so that a person can write and read them. `corpus/` has some for
//! each target: seeds, and whatever has found a bug. The tests of this package
//! replay them; `cargo xtask fuzz` looks for more with cargo-fuzz, through the
//! wrappers in `cargo-fuzz/`, which is no member of the workspace.
#![forbid(unsafe_code)]

pub mod codec;
pub mod config;
pub mod fields;
mod input;
pub mod ranges;
pub mod revalidation;
pub mod selection;
pub mod storing;

/// Panics if the input makes something break its promise.
pub type Check = fn(&[u8]);

/// Every target, with its name in `corpus/` and for `cargo xtask fuzz`.
pub const TARGETS: &[(&str, Check)] = &[
    ("codec", codec::check),
    ("config", config::check),
    ("fields", fields::check),
    ("ranges", ranges::check),
    ("revalidation", revalidation::check),
    ("selection", selection::check),
    ("storing", storing::check),
];
