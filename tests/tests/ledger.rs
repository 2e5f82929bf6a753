//! The ledger of requests: five visitors browse each of the sites of
//! [`leeward_tests::ledger`], on one node and on two. The origin gets at most what they
//! sent, and what a site's bound says; they get what they get without a shield.
//!
//! A store behaviour of Spin is seen on two nodes alone: one node differs there in nothing.

use leeward_tests::ledger::SITES;
use leeward_tests::{Settings, StoreKind, World};

/// Each site, on one world: they have no path in common.
async fn every_site(world: &World) {
    let mut wrong = Vec::new();
    for site in &SITES {
        let (figures, more) = site.browsed(&world.origin, &world.all()).await;
        println!("{} nodes, {}: {figures}", world.all().len(), site.name);
        wrong.extend(more);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn ledger(kind: StoreKind, worlds: &[usize]) {
    for nodes in worlds.iter().copied() {
        every_site(&World::of(kind, nodes, Settings::default()).await).await;
    }
}

/// Settings of the flavours for clouds; their rate is for another test.
const CLOUD: &str = "\
    origin.max_per_hour = 0\n\
    freshness = { default_ttl = \"60s\", jitter = 0.0, early_refresh = false }\n";

/// WASI 0.2: one instance for each request.
async fn ledger_of_cloud(flavour: &str, kind: StoreKind) {
    for nodes in [1, 2] {
        let store = kind.make().await;
        every_site(&World::for_cloud(flavour, store, nodes, CLOUD).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    ledger(StoreKind::Exact, &[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_that_behaves_as_spin_sqlite() {
    ledger(StoreKind::SpinSqlite, &[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_that_behaves_as_spin_redis() {
    ledger(StoreKind::SpinRedis, &[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_server() {
    ledger(StoreKind::RedisServer, &[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_server_that_behaves_as_spin_redis() {
    ledger(StoreKind::RedisServerAsSpin, &[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn akamai_on_a_redis_server() {
    ledger_of_cloud("akamai", StoreKind::RedisServer).await;
}
