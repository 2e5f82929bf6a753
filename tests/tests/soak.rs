//! Random faults of a Redis server under load, in front of an origin that crashes when it
//! has more requests at once than the budget allows: it never crashes, and pages in use
//! are no errors.
//!
//! It runs for a few seconds here, and for as long as one likes with `cargo xtask soak
//! --seconds N`. The faults are drawn from a seed that it prints.
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
use leeward_tests::{Answer, Settings, World, wait};

/// For how long, in seconds.
const SECONDS: &str = "LEEWARD_SOAK_SECONDS";

/// The seed, to see the same faults again.
const SEED: &str = "LEEWARD_SOAK_SEED";

/// For how long if nothing is said.
const SECONDS_USUAL: u64 = 8;

/// `origin.max_concurrency`; with one more the origin crashes.
const BUDGET: usize = 16;

const NODES: usize = 3;

const VISITORS: usize = 24;

/// Visitors who ask for a page that nobody has asked for, again and again. They may have
/// to wait for longer than they like.
const STRANGERS: usize = 6;

/// Pages in use.
const PAGES: usize = 60;

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

    /// A fault that is over within about `left`.
    fn fault(&mut self, left: Duration) -> Fault {
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let lasts = [1_000, 3_000, 20_000][usize::try_from(self.below(3)).unwrap()];
        let lasts = lasts.min(left / 2).max(500);
        match self.below(5) {
            0 => Fault::Restarted(lasts),
            1 => Fault::Hangs(lasts.min(3_000)),
            2 => Fault::Emptied,
            3 => Fault::ReadOnly(lasts.min(3_000)),
            _ => Fault::Full(lasts.min(3_000)),
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

async fn apply(server: &RedisServer, fault: Fault) {
    let lasts = |millis| tokio::time::sleep(Duration::from_millis(millis));
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
        Fault::Emptied => tell(server, &["FLUSHALL"]),
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
    let seconds = Duration::from_secs(number(SECONDS).unwrap_or(SECONDS_USUAL));
    let seed = number(SEED).unwrap_or_else(|| u64::from(std::process::id()));
    let mut dice = Dice(seed);
    let store = Store::Redis(RedisServer::start().await);
    let settings = Settings {
        budget: Some(BUDGET),
        lease: Duration::from_secs(5),
        wait: Duration::from_secs(20),
        ..Settings::default()
    };
    let world = World::on(store, NODES, settings).await;
    world
        .origin
        .otherwise(Answer::numbered().max_age(1).takes(TAKES));
    let paths: Vec<_> = (0..PAGES).map(|page| format!("/in-use/{page}")).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let Store::Redis(server) = &*world.store else {
        panic!("no Redis server");
    };

    let load = Load::start(&world.all(), &paths, VISITORS);
    let new: Vec<_> = (0..NEW_PAGES).map(|page| format!("/new/{page}")).collect();
    let new: Vec<_> = new.iter().map(String::as_str).collect();
    let strangers = Load::start(&world.all(), &new, STRANGERS);
    let all_are_stored = async || {
        let stored = paths.iter().all(|path| world.origin.count(path) > 1);
        stored.then_some(())
    };
    wait::until("all pages are in use", wait::SOON, all_are_stored).await;
    let began = Instant::now();
    let mut faults = Vec::new();
    let faulty = async {
        while let Some(left) = seconds.checked_sub(began.elapsed()) {
            let fault = dice.fault(left);
            eprintln!("{:5.1} s: {fault:?}", began.elapsed().as_secs_f64());
            faults.push(fault);
            apply(server, fault).await;
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
    let visits = load.finish().await;
    drop(strangers.finish().await);
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
