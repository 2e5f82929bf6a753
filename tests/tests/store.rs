//! Stores that do not write, do not answer, are far away, are gone, or lose all that
//! they have: no error for pages in use, new pages are answered, and the store is used
//! again once it works.
//!
//! | scenario | the store |
//! | --- | --- |
//! | `a_store_that_only_reads` | refuses writes: full, or a replica |
//! | `a_store_that_is_emptied_under_load` | loses all that it has, again and again |
//! | `a_sqlite_file_that_somebody_keeps_locked` | writes hang, reads work |
//! | `a_file_of_spins_sqlite_store_that_somebody_keeps_locked` | each call stops an instance for five seconds |
//! | `a_sweep_of_spins_sqlite_store_beside_visitors_of_new_pages` | has one connection |
//! | `a_redis_server_that_does_not_answer` | SIGSTOP |
//! | `a_redis_server_that_is_killed` | SIGKILL, and later a new one, which is empty |
//! | `a_redis_server_that_is_far_away` | answers 150 ms late |
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::time::Duration;

use ::redis::Connection;
use futures::future::{join, join_all};
use http::StatusCode;
use leeward_tests::client::{Load, Reply, get};
use leeward_tests::origin::numbered;
use leeward_tests::redis::RedisServer;
use leeward_tests::stores::Store;
use leeward_tests::{Answer, Settings, StoreKind, World, on_every_store, wait};

on_every_store!(a_store_that_only_reads, a_store_that_is_emptied_under_load);

/// A page that stays fresh.
const FRESH: &str = "/in-use/fresh";

/// A page that is refreshed all the time.
const SHORT: &str = "/in-use/short";

/// New pages that each node is asked for.
const NEW_PAGES: usize = 5;

/// Visitors of the pages in use.
const VISITORS: usize = 8;

/// Most lines about a store that fails in the log of a node. Each part of the store may
/// be reported, and each instance reports.
const LINES_MAX: usize = 20;

fn sqlite(store: &Store) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(store.url().trim_start_matches("sqlite:")).unwrap();
    connection.busy_timeout(wait::SOON).unwrap();
    connection
}

fn server(store: &Store) -> &RedisServer {
    match store {
        Store::Redis(server) => server,
        Store::Sqlite(_) | Store::Memory => panic!("no Redis server"),
    }
}

fn redis(store: &Store) -> Connection {
    server(store).connection().unwrap()
}

/// A way in which a store refuses writes, and how it takes them again.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// Each write fails, as on a full disk. Limits of pages and permissions would not
    /// do: they do not concern connections that are open, or a user who is root.
    Trigger,
    /// Redis has no memory left.
    Memory,
    /// Redis has become a replica.
    Replica,
}

impl Refusal {
    fn all(store: &Store) -> &'static [Self] {
        match store {
            Store::Sqlite(_) => &[Refusal::Trigger],
            Store::Redis(_) => &[Refusal::Memory, Refusal::Replica],
            Store::Memory => &[],
        }
    }

    fn begin(self, store: &Store) {
        match self {
            Refusal::Trigger => sqlite(store)
                .execute_batch(
                    "CREATE TRIGGER full_1 BEFORE INSERT ON spin_key_value
                         BEGIN SELECT RAISE(FAIL, 'the disk is full'); END;
                     CREATE TRIGGER full_2 BEFORE UPDATE ON spin_key_value
                         BEGIN SELECT RAISE(FAIL, 'the disk is full'); END;",
                )
                .unwrap(),
            Refusal::Memory => tell_redis(store, &["CONFIG", "SET", "maxmemory", "1"]),
            // Nobody listens on this port.
            Refusal::Replica => tell_redis(store, &["REPLICAOF", "127.0.0.1", "1"]),
        }
    }

    fn end(self, store: &Store) {
        match self {
            Refusal::Trigger => sqlite(store)
                .execute_batch("DROP TRIGGER full_1; DROP TRIGGER full_2;")
                .unwrap(),
            Refusal::Memory => tell_redis(store, &["CONFIG", "SET", "maxmemory", "0"]),
            Refusal::Replica => tell_redis(store, &["REPLICAOF", "NO", "ONE"]),
        }
    }
}

fn tell_redis(store: &Store, words: &[&str]) {
    ::redis::cmd(words[0])
        .arg(&words[1..])
        .exec(&mut redis(store))
        .unwrap();
}

/// Has the store lose all that it has.
fn empty(store: &Store) {
    match store {
        Store::Sqlite(_) => {
            sqlite(store)
                .execute("DELETE FROM spin_key_value", [])
                .unwrap();
        }
        Store::Redis(_) => tell_redis(store, &["FLUSHALL"]),
        Store::Memory => panic!("not shared"),
    }
}

/// An answer with 200, in good time.
async fn page(node: SocketAddr, path: &str) -> Reply {
    let reply = tokio::time::timeout(wait::SOON, get(node, path)).await;
    let reply = reply.unwrap_or_else(|_| panic!("{path}: no answer within {:?}", wait::SOON));
    assert_eq!(reply.status, StatusCode::OK, "{path}: {reply}");
    reply
}

/// Asks each node for pages that nobody has asked for.
async fn expect_new_pages(world: &World, name: &str) {
    let asking = world
        .all()
        .into_iter()
        .enumerate()
        .map(async |(number, node)| {
            for new in 0..NEW_PAGES {
                let path = format!("/{name}/{number}/{new}");
                let reply = page(node, &path).await;
                assert_eq!(reply.text(), numbered(&path, 1), "{path}: {reply}");
            }
        });
    join_all(asking).await;
}

/// Waits until a page that one node has fetched is there for all, whichever node that
/// is.
async fn until_shared(world: &World, name: &str) {
    let mut nodes = world.all();
    for first in 0..nodes.len() {
        let mut attempt = 0;
        wait::until("the nodes share the store", wait::SOON, async || {
            attempt += 1;
            let path = format!("/{name}/{first}/{attempt}");
            for node in &nodes {
                page(*node, &path).await;
            }
            (world.origin.count(&path) == 1).then_some(())
        })
        .await;
        nodes.rotate_left(1);
    }
}

/// Has the pages in use in the store, and in the memory of each node.
async fn fill(world: &World) {
    world.origin.otherwise(Answer::numbered().max_age(600));
    world.origin.always(SHORT, Answer::numbered().max_age(1));
    let all = world.all();
    get(all[0], SHORT).await;
    get(all[0], FRESH).await;
    world.until_fresh(&all, FRESH, &numbered(FRESH, 1)).await;
}

async fn filled(kind: StoreKind) -> World {
    let world = World::start(kind).await;
    fill(&world).await;
    world
}

/// Starts visitors of the pages in use.
fn load(world: &World) -> Load {
    Load::start(&world.all(), &[FRESH, SHORT], VISITORS)
}

/// Expects that each visitor of the pages in use got one, each time.
async fn expect_no_error(load: Load) {
    let visits = load.finish().await;
    assert!(visits.len() >= VISITORS, "{} visits", visits.len());
    let failed: Vec<_> = visits.iter().filter(|visit| !visit.is_ok()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} visits failed; the first: {}",
        failed.len(),
        visits.len(),
        failed[0]
    );
}

fn lines(world: &World, number: usize, event: &str) -> usize {
    let event = format!(r#""event":"{event}""#);
    world.errors(number).matches(&event).count()
}

/// Expects that a node has said that its store failed, and not for each request.
fn expect_report(world: &World) {
    let failed = lines(world, 0, "store-failed");
    assert!(
        (1..=LINES_MAX).contains(&failed),
        "{failed} lines: {}",
        world.errors(0)
    );
}

async fn a_store_that_only_reads(kind: StoreKind) {
    let world = filled(kind).await;
    for refusal in Refusal::all(&world.store) {
        let load = load(&world);
        refusal.begin(&world.store);
        expect_new_pages(&world, &format!("{refusal:?}/new")).await;
        expect_report(&world);
        refusal.end(&world.store);
        until_shared(&world, &format!("{refusal:?}/shared")).await;
        expect_no_error(load).await;
    }
    // It was there to be read all the time.
    assert_eq!(world.origin.count(FRESH), 1);
}

async fn a_store_that_is_emptied_under_load(kind: StoreKind) {
    let world = filled(kind).await;
    let load = load(&world);
    for round in 0..3 {
        expect_new_pages(&world, &format!("round-{round}")).await;
        empty(&world.store);
    }
    until_shared(&world, "shared").await;
    expect_no_error(load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_somebody_keeps_locked() {
    let world = filled(StoreKind::Exact).await;
    let load = load(&world);
    let holder = sqlite(&world.store);
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    expect_new_pages(&world, "new").await;
    expect_report(&world);
    holder.execute_batch("ROLLBACK").unwrap();
    until_shared(&world, "shared").await;
    expect_no_error(load).await;
    assert_eq!(world.origin.count(FRESH), 1);
}

/// Each call of the store stops the instance that makes it, and waits for the calls of
/// all others. Visitors wait for the lock and not longer, and get their pages all the
/// same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_spins_sqlite_store_that_somebody_keeps_locked() {
    for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let world = filled(StoreKind::SpinSqlite).await;
        let load = load(&world);
        let holder = sqlite(&world.store);
        holder.execute_batch(lock).unwrap();
        let locked = async {
            wait::until("a node has met the lock", wait::SOON, async || {
                let mut nodes = 0..world.all().len();
                nodes
                    .any(|number| lines(&world, number, "store-failed") > 0)
                    .then_some(())
            })
            .await;
            holder.execute_batch("ROLLBACK").unwrap();
        };
        join(expect_new_pages(&world, "new"), locked).await;
        until_shared(&world, "shared").await;
        expect_no_error(load).await;
    }
}

/// The names were streamed from the only connection of the process. A task of the same
/// instance that read meanwhile stopped the instance, and with it the reader of the
/// stream: the node hung for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_of_spins_sqlite_store_beside_visitors_of_new_pages() {
    const KEYS: usize = 16;
    let settings = Settings {
        more: "[limits]\nkeys = 16",
        ..Settings::default()
    };
    let world = World::start_with(StoreKind::SpinSqlite, settings).await;
    world.origin.otherwise(Answer::numbered().max_age(600));
    let visitors = (0..VISITORS).map(async |visitor| {
        for number in 0..40 {
            for node in world.all() {
                page(node, &format!("/sweep/{visitor}/{number}")).await;
            }
        }
    });
    join_all(visitors).await;
    // Rounds begin behind requests.
    let mut number = 0;
    wait::until("the store is within its limit", wait::SOON, async || {
        number += 1;
        page(world.node(0), &format!("/sweep/last/{}", number % 4)).await;
        // Beside the limit: the sweeper's own, and those of the last requests.
        (world.store.cells().len() <= KEYS + 8).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_server_that_does_not_answer() {
    let world = filled(StoreKind::RedisServer).await;
    let load = load(&world);
    server(&world.store).pause();
    expect_new_pages(&world, "new").await;
    expect_report(&world);
    server(&world.store).resume();
    until_shared(&world, "shared").await;
    expect_no_error(load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_server_that_is_killed() {
    let world = filled(StoreKind::RedisServer).await;
    let load = load(&world);
    server(&world.store).kill();
    expect_new_pages(&world, "new").await;
    expect_report(&world);
    server(&world.store).start_again().await;
    until_shared(&world, "shared").await;
    expect_no_error(load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_server_that_is_far_away() {
    const FAR: Duration = Duration::from_millis(150);
    let store = Store::Redis(RedisServer::start_behind_a_link().await);
    // A page is created within a quarter of a lease, or not in the shared store.
    let settings = Settings {
        lease: Duration::from_secs(10),
        ..Settings::default()
    };
    let world = World::on(store, 2, settings).await;
    fill(&world).await;
    let load = load(&world);
    server(&world.store).link().set_delay(FAR);
    expect_new_pages(&world, "new").await;
    // It is used all the same.
    until_shared(&world, "far").await;
    server(&world.store).link().set_delay(Duration::ZERO);
    until_shared(&world, "near").await;
    expect_no_error(load).await;
}
