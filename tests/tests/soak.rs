//! Random faults of a store under load, in front of an origin that crashes when it has more
//! requests at once than the budget allows: it never crashes, and pages in use are no
//! errors.
//!
//! It runs for a few seconds here, and for as long as one likes with `cargo xtask soak
//! --seconds N`. The faults are drawn from a seed, which a failure names.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and a soak says what it does"
)]

use std::time::{Duration, Instant};

use leeward_tests::client::Load;
use leeward_tests::redis::RedisServer;
use leeward_tests::stores::Store;
use leeward_tests::{Answer, Settings, StoreKind, World, wait};

/// For how long, in seconds.
const SECONDS: &str = "LEEWARD_SOAK_SECONDS";

/// The seed, to see the same faults again.
const SEED: &str = "LEEWARD_SOAK_SEED";

/// For how long if nothing is said.
const SECONDS_USUAL: u64 = 30;

/// `origin.max_concurrency`; with one more the origin crashes.
const BUDGET: usize = 16;

const NODES: usize = 3;

const VISITORS: usize = 24;

/// Visitors who ask for a page that nobody has asked for, again and again. They may have
/// to wait for longer than they like.
const STRANGERS: usize = 6;

/// Pages in use. Each visitor begins with another.
const PAGES: usize = VISITORS;

/// Pages that strangers ask for.
const NEW_PAGES: usize = 100_000;

/// How long the origin takes for a page.
const TAKES: Duration = Duration::from_millis(250);

/// How often it is looked whether the origin has too many requests.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A fault, with how long it lasts in milliseconds.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Killed, and started again empty.
    Restarted(u64),
    /// Stopped where it stands.
    Hangs(u64),
    /// Emptied while it works.
    Emptied,
    /// A replica of nobody.
    ReadOnly(u64),
    /// Without memory for writes.
    Full(u64),
    /// A SQLite file that somebody keeps locked for writes.
    Locked(u64),
}

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }

    /// A fault of a store that is over within about `left`.
    fn fault(&mut self, store: &Store, left: Duration) -> Fault {
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let lasts = [1_000, 3_000, 20_000][usize::try_from(self.below(3)).unwrap()];
        let lasts = lasts.min(left / 2).max(500);
        let short = lasts.min(3_000);
        if let Store::Sqlite(_) = store {
            return match self.below(3) {
                0 => Fault::Emptied,
                _ => Fault::Locked(short),
            };
        }
        match self.below(5) {
            0 => Fault::Restarted(lasts),
            1 => Fault::Hangs(short),
            2 => Fault::Emptied,
            3 => Fault::ReadOnly(short),
            _ => Fault::Full(short),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn tell(server: &RedisServer, words: &[&str]) {
    let mut connection = server.connection().unwrap();
    redis::cmd(words[0])
        .arg(&words[1..])
        .exec(&mut connection)
        .unwrap();
}

async fn lasts(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

async fn apply(store: &Store, fault: Fault) {
    match store {
        Store::Redis(server) => apply_to_server(server, fault).await,
        Store::Sqlite(_) => {
            let path = store.url();
            let file = rusqlite::Connection::open(path.trim_start_matches("sqlite:")).unwrap();
            file.busy_timeout(wait::SOON).unwrap();
            match fault {
                Fault::Locked(millis) => {
                    file.execute_batch("BEGIN IMMEDIATE").unwrap();
                    lasts(millis).await;
                    file.execute_batch("ROLLBACK").unwrap();
                }
                _ => drop(file.execute("DELETE FROM spin_key_value", []).unwrap()),
            }
        }
        Store::Memory => panic!("not shared"),
    }
}

async fn apply_to_server(server: &RedisServer, fault: Fault) {
    match fault {
        Fault::Restarted(millis) => {
            server.kill();
            lasts(millis).await;
            server.start_again().await;
        }
        Fault::Hangs(millis) => {
            server.pause();
            lasts(millis).await;
            server.resume();
        }
        Fault::Emptied | Fault::Locked(_) => tell(server, &["FLUSHALL"]),
        Fault::ReadOnly(millis) => {
            tell(server, &["REPLICAOF", "127.0.0.1", "1"]);
            lasts(millis).await;
            tell(server, &["REPLICAOF", "NO", "ONE"]);
        }
        Fault::Full(millis) => {
            tell(server, &["CONFIG", "SET", "maxmemory", "1"]);
            lasts(millis).await;
            tell(server, &["CONFIG", "SET", "maxmemory", "0"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_of_a_redis_server_never_crash_the_origin() {
    soak(Store::Redis(RedisServer::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_is_locked_again_and_again_never_crashes_the_origin() {
    soak(StoreKind::Exact.make().await).await;
}

/// See the module.
async fn soak(store: Store) {
    let seconds = Duration::from_secs(number(SECONDS).unwrap_or(SECONDS_USUAL));
    let seed = number(SEED).unwrap_or_else(|| u64::from(std::process::id()));
    let mut dice = Dice(seed);
    let settings = Settings {
        budget: Some(BUDGET),
        lease: Duration::from_secs(5),
        wait: Duration::from_secs(10),
        ..Settings::default()
    };
    let world = World::on(store, NODES, settings).await;
    world
        .origin
        .otherwise(Answer::numbered().max_age(1).takes(TAKES));
    let paths: Vec<_> = (0..PAGES).map(|page| format!("/in-use/{page}")).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();

    let load = Load::start(&world.all(), &paths, VISITORS);
    let all_are_stored = async || {
        let stored = paths.iter().all(|path| world.origin.count(path) > 0);
        stored.then_some(())
    };
    wait::until("all pages are in use", wait::SOON, all_are_stored).await;
    let new: Vec<_> = (0..NEW_PAGES).map(|page| format!("/new/{page}")).collect();
    let new: Vec<_> = new.iter().map(String::as_str).collect();
    let strangers = Load::start(&world.all(), &new, STRANGERS);
    let began = Instant::now();
    let mut faults = Vec::new();
    let faulty = async {
        while let Some(left) = seconds.checked_sub(began.elapsed()) {
            let fault = dice.fault(&world.store, left);
            eprintln!("{:5.1} s: {fault:?}", began.elapsed().as_secs_f64());
            faults.push(fault);
            apply(&world.store, fault).await;
            let pause = Duration::from_millis(300 + dice.below(2_000));
            tokio::time::sleep(pause.min(left / 2)).await;
        }
    };
    let crash = async {
        while world.origin.in_flight_max() <= BUDGET {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        world.origin.crash();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = faulty => {}
        () = crash => {}
    }
    drop(strangers);
    let visits = load.finish().await;
    let most = world.origin.in_flight_max();
    let failed: Vec<_> = visits.iter().filter(|visit| !visit.is_ok()).collect();
    eprintln!(
        "{} visits, {} failed; at most {most} requests at once; {} requests in all",
        visits.len(),
        failed.len(),
        world.origin.requests()
    );
    let first = failed.first().map(ToString::to_string).unwrap_or_default();
    assert!(
        most <= BUDGET && failed.is_empty(),
        "seed {seed}, {faults:?}: {most} requests at once, {} of {} visits failed; {first}",
        failed.len(),
        visits.len()
    );
}
