//! What `wit/` says, as Rust traits and types.

// Generated code: it has neither documentation nor a say in our lints.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    clippy::all,
    reason = "generated from ../wit"
)]

wasmtime::component::bindgen!({
    path: "../wit/spin",
    world: "spin",
    imports: {
        // Synchronous for the guest, which waits with all of its requests, as
        // it does on Spin; the host itself does not.
        "wasi:keyvalue/store": async | trappable,
        "wasi:keyvalue/atomics": async | trappable,
        default: trappable,
    },
    with: {
        "spin:key-value/key-value.store": super::keyvalue::OpenStore,
        "wasi:keyvalue/store.bucket": super::keyvalue::OpenStore,
        "wasi:keyvalue/atomics.cas": super::keyvalue::Cas,
    },
});

pub(super) use self::spin::key_value::key_value as spin_key_value;
pub(super) use self::spin::variables::variables as spin_variables;
pub(super) use self::wasi::keyvalue::{atomics, store as wasi_store};
