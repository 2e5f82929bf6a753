//! What `wit/` says, as Rust traits and types: one module for each flavour.
//!
//! An interface that several flavours import is generated once; the other modules
//! refer to it.

// Generated code: it has neither documentation nor a say in our lints.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    clippy::all,
    reason = "generated from ../wit"
)]

mod spin {
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
            "spin:key-value/key-value.store": crate::guest::keyvalue::OpenStore,
            "wasi:keyvalue/store.bucket": crate::guest::keyvalue::OpenStore,
            "wasi:keyvalue/atomics.cas": crate::guest::keyvalue::Cas,
        },
    });
}

mod spin_sqlite_flavour {
    wasmtime::component::bindgen!({
        path: "../wit/spin-sqlite",
        world: "spin-sqlite",
        imports: { default: trappable },
        with: {
            "spin:sqlite/sqlite.connection": crate::guest::sqlite::Connection,
            "spin:variables/variables": super::spin::spin::variables::variables,
        },
    });
}

mod spin_redis_flavour {
    wasmtime::component::bindgen!({
        path: "../wit/spin-redis",
        world: "spin-redis",
        imports: { default: trappable },
        with: {
            "spin:redis/redis.connection": crate::guest::redis::Connection,
            "spin:variables/variables": super::spin::spin::variables::variables,
        },
    });
}

// The interfaces of WASI 0.2 are synchronous for the guest, which has one request.
mod akamai {
    wasmtime::component::bindgen!({
        path: "../wit/akamai",
        world: "akamai",
        imports: { default: async | trappable },
        with: {
            "fermyon:spin/key-value.store": crate::guest::keyvalue::OpenStore,
            "fermyon:spin/redis.connection": crate::guest::redis::Connection,
        },
    });
}

mod fermyon_cloud {
    wasmtime::component::bindgen!({
        path: "../wit/fermyon-cloud",
        world: "fermyon-cloud",
        imports: { default: async | trappable },
        with: {
            "fermyon:spin/sqlite.connection": crate::guest::sqlite::Connection,
            "fermyon:spin/variables": super::akamai::fermyon::spin::variables,
        },
    });
}

mod wasmcloud_flavour {
    wasmtime::component::bindgen!({
        path: "../wit/wasmcloud",
        world: "wasmcloud",
        imports: { default: trappable },
        with: {
            "wasmcloud:keyvalue/types.bucket": crate::guest::keyvalue::OpenStore,
        },
    });
}

pub(super) use self::akamai::fermyon::spin::{
    key_value as fermyon_key_value, redis as fermyon_redis, variables as fermyon_variables,
};
pub(super) use self::fermyon_cloud::fermyon::spin::sqlite as fermyon_sqlite;
pub(super) use self::spin::spin::key_value::key_value as spin_key_value;
pub(super) use self::spin::spin::variables::variables as spin_variables;
pub(super) use self::spin::wasi::keyvalue::{atomics, store as wasi_store};
pub(super) use self::spin_redis_flavour::spin::redis::redis as spin_redis;
pub(super) use self::spin_sqlite_flavour::spin::sqlite::sqlite as spin_sqlite;
pub(super) use self::wasmcloud_flavour::wasmcloud::keyvalue as wasmcloud;
