//! The harness of the end-to-end tests: the real component on real sockets.
//!
//! A test builds a [`World`]: a scripted [`Origin`], a store, and a few nodes
//! (`leeward up` processes) that share the store. It then asks the nodes over
//! HTTP and looks at what the origin saw.
//!
//! | module | what it offers |
//! | --- | --- |
//! | [`world`] | origin, store and nodes together, started and ended as one |
//! | [`stores`] | the stores and store behaviours that every scenario runs on |
//! | [`nodes`] | processes: start, kill, pause, resume, end |
//! | [`origin`] | answers by script, holds them at a gate, counts, crashes |
//! | [`browser`] | a headless Chromium, for the dashboard |
//! | [`client`] | one request, a crowd at one moment, load over a while |
//! | [`foreign`] | nodes on the programs of other WASI hosts |
//! | [`ledger`] | sites and their visitors: what the origin gets of what they send |
//! | [`nats`] | a NATS server of the test's own |
//! | [`redis`] | a Redis server of the test's own |
//! | [`spin`] | nodes on a real Spin, for `cargo xtask spin` |
//! | [`link`] | what is between nodes and a store that is far away |
//! | [`wait`] | conditions with deadlines |
//!
//! Two rules keep the tests honest on a slow machine. Nothing is ordered by
//! sleeping: a test waits for a condition, or for a clock to pass a moment that
//! matters. And no latency is asserted: that nobody waited for the origin is
//! shown by holding the origin's answer until everybody has theirs.
#![forbid(unsafe_code)]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

pub mod browser;
pub mod client;
pub mod foreign;
pub mod ledger;
pub mod link;
pub mod nats;
pub mod nodes;
pub mod origin;
pub mod redis;
pub mod spin;
pub mod stores;
pub mod tls;
pub mod wait;
pub mod world;

pub use browser::Browser;
pub use client::{Ask, Crowd, Load, Reply};
pub use nodes::Node;
pub use origin::{Answer, Gate, Origin, Seen};
pub use stores::StoreKind;
pub use world::{Settings, World};
