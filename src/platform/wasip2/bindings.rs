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
    inline: "
        package leeward:bound;
        world fermyon-cloud {
            include leeward:wasip2/wasip2;
            include leeward:component/fermyon-cloud;
        }
    ",
    path: ["wit/wasip2", "wit/fermyon-cloud"],
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "crate::platform::wasip2::bindings",
});

#[cfg(feature = "akamai")]
wit_bindgen::generate!({
    inline: "
        package leeward:bound;
        world akamai {
            include leeward:wasip2/wasip2;
            include leeward:component/akamai;
        }
    ",
    path: ["wit/wasip2", "wit/akamai"],
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "crate::platform::wasip2::bindings",
});
