//! The host's interfaces, generated from `wit/`.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]

#[cfg(feature = "fermyon-cloud")]
wit_bindgen::generate!({
    path: "wit/fermyon-cloud",
    world: "fermyon-cloud",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "crate::platform::wasip2::bindings",
});

#[cfg(feature = "akamai")]
wit_bindgen::generate!({
    path: "wit/akamai",
    world: "akamai",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "crate::platform::wasip2::bindings",
});
