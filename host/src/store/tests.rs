//! One table of expectations, run against every store with every behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::behaviour::{CALL_MAX, LISTING_MAX};
use super::*;
use crate::limits::{Limiter, Platform, PlatformLimits, SECOND};

const BEHAVIOURS: [Behaviour; 3] = [
    Behaviour::Exact,
    Behaviour::SpinSqlite,
    Behaviour::SpinRedis,
];

/// As long as values stay in Redis.
const EXPIRY: Duration = Duration::from_secs(3_600);

/// A kind of store to test, alive as long as this is.
enum Bench {
    Memory,
    Sqlite(tempfile::TempDir),
    Redis(RedisServer),
}

impl Bench {
    /// Every kind that this machine has.
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Memory, Self::Sqlite(tempfile::tempdir().unwrap())];
        match RedisServer::start() {
            Some(server) => all.push(Self::Redis(server)),
            None => eprintln!("skipped for Redis: there is no redis-server on this machine"),
        }
        all
    }

    /// An empty store of this kind.
    async fn store(&self, behaviour: Behaviour) -> Store {
        let store = open(&self.location(), behaviour, EXPIRY);
        for key in store.keys().await.unwrap() {
            store.delete(&key).await.unwrap();
        }
        store
    }

    fn location(&self) -> Location {
        match self {
            Self::Memory => Location::Memory,
            Self::Sqlite(directory) => sqlite_location(directory.path()),
            Self::Redis(server) => server.url.parse().unwrap(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite(_) => "sqlite",
            Self::Redis(_) => "redis",
        }
    }

    /// How `exact` keeps the number 2 here.
    fn exact_two(&self) -> &'static [u8] {
        match self {
            Self::Memory | Self::Sqlite(_) => &[2, 0, 0, 0, 0, 0, 0, 0],
            Self::Redis(_) => b"2",
        }
    }
}

fn sqlite_location(directory: &Path) -> Location {
    Location::Sqlite(directory.join("deep").join("store.db"))
}

/// A Redis server of its own on a free port, killed at the end.
pub(crate) struct RedisServer {
    process: Child,
    pub(crate) url: String,
    _directory: tempfile::TempDir,
}

impl RedisServer {
    pub(crate) fn start() -> Option<Self> {
        // Another process may take the port between our letting go of it and
        // the server's taking it: then the server ends, and another is tried.
        const TRIES: usize = 5;
        (0..TRIES).find_map(|_| Self::try_start())
    }

    fn try_start() -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let output = BufReader::new(process.stdout.take().unwrap());
        let ready = output
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("Ready to accept connections"));
        let server = Self {
            process,
            url: format!("redis://127.0.0.1:{port}"),
            _directory: directory,
        };
        ready.then_some(server)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What a swap said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Ok,
    /// Refused; the new handle had read this.
    Lost(Option<Vec<u8>>),
}

async fn said(outcome: StoreResult<Swapped>) -> Said {
    match outcome.unwrap() {
        Swapped::Done => Said::Ok,
        Swapped::Lost(mut next) => Said::Lost(next.current().await.unwrap()),
    }
}

fn lost(value: &str) -> Said {
    Said::Lost(Some(value.as_bytes().to_vec()))
}

#[tokio::test]
async fn values_are_read_as_written_overwritten_listed_and_removed() {
    for bench in Bench::all() {
        for behaviour in BEHAVIOURS {
            let store = bench.store(behaviour).await;
            let at = format!("{} {behaviour:?}", bench.name());
            store.check().await.unwrap();
            assert_eq!(store.get("a").await.unwrap(), None, "{at}");
            store.delete("a").await.unwrap();
            let bytes: Vec<u8> = (0..=255).collect();
            store.set("a", &bytes).await.unwrap();
            store.set("b", b"").await.unwrap();
            assert_eq!(store.get("a").await.unwrap(), Some(bytes), "{at}");
            assert_eq!(store.get("b").await.unwrap(), Some(vec![]), "{at}");
            store.set("a", b"2").await.unwrap();
            assert_eq!(store.get("a").await.unwrap(), Some(b"2".to_vec()), "{at}");
            let mut keys = store.keys().await.unwrap();
            keys.sort_unstable();
            assert_eq!(keys, ["a", "b"], "{at}");
            store.delete("a").await.unwrap();
            assert_eq!(store.get("a").await.unwrap(), None, "{at}");
        }
    }
}

async fn value(store: &Store, key: &str) -> Option<Vec<u8>> {
    store.entry(key).await.unwrap().map(|entry| entry.value)
}

#[tokio::test]
async fn every_write_of_an_entry_changes_its_version() {
    for bench in Bench::all() {
        let store = bench.store(Behaviour::Exact).await;
        let at = bench.name();
        assert_eq!(store.entry("k").await.unwrap(), None, "{at}");
        let mut versions = std::collections::HashSet::new();
        for _ in 0..3 {
            assert!(store.set_entry("k", b"v", None, false).await.unwrap());
            let entry = store.entry("k").await.unwrap().unwrap();
            assert_eq!(entry.value, b"v", "{at}");
            assert!(versions.insert(entry.version), "{at}");
            let expected = Expected {
                version: Some(entry.version),
                value: None,
            };
            let swapped = store.swap_entry("k", b"v", expected.clone()).await;
            assert_eq!(swapped, Ok(Exchange::Swapped), "{at}");
            // The value is as it was, and the version is not.
            let stale = store.swap_entry("k", b"w", expected).await.unwrap();
            let now = store.entry("k").await.unwrap();
            assert!(versions.insert(now.clone().unwrap().version), "{at}");
            assert_eq!(stale, Exchange::Stale(now), "{at}");
        }
        store.delete("k").await.unwrap();
        assert_eq!(store.entry("k").await.unwrap(), None, "{at}");
    }
}

#[tokio::test]
async fn of_swaps_of_one_version_one_is_applied() {
    for bench in Bench::all() {
        let store = bench.store(Behaviour::Exact).await;
        store.set_entry("k", b"0", None, false).await.unwrap();
        let entry = store.entry("k").await.unwrap().unwrap();
        let swaps = (1..=8_u8).map(|writer| {
            let expected = Expected {
                version: Some(entry.version),
                value: Some(b"0".to_vec()),
            };
            let store = &store;
            async move { store.swap_entry("k", &[writer], expected).await.unwrap() }
        });
        let outcomes = futures::future::join_all(swaps).await;
        let applied = outcomes.iter().filter(|it| **it == Exchange::Swapped);
        assert_eq!(applied.count(), 1, "{}: {outcomes:?}", bench.name());
    }
}

#[tokio::test]
async fn an_entry_that_has_expired_is_absent_and_removed() {
    for bench in Bench::all() {
        let store = bench.store(Behaviour::Exact).await;
        let at = bench.name();
        const LONG: u64 = 3_600_000;
        assert!(store.set_entry("k", b"1", Some(LONG), true).await.unwrap());
        assert_eq!(value(&store, "k").await, Some(b"1".to_vec()), "{at}");
        assert!(!store.set_entry("k", b"2", None, true).await.unwrap());
        // With a life of zero it has expired when it is written.
        assert!(store.set_entry("k", b"3", Some(0), false).await.unwrap());
        assert!(
            store.set_entry("k", b"4", None, true).await.unwrap(),
            "{at}"
        );
        assert_eq!(value(&store, "k").await, Some(b"4".to_vec()), "{at}");
        store.set_entry("read", b"5", Some(0), false).await.unwrap();
        store.set_entry("left", b"5", Some(0), false).await.unwrap();
        assert_eq!(value(&store, "read").await, None, "{at}");
        let mut keys = store.keys().await.unwrap();
        keys.sort_unstable();
        assert_eq!(keys, ["k", "left"], "{at}");
        store.remove_expired().await.unwrap();
        assert_eq!(store.keys().await.unwrap(), ["k"], "{at}");
    }
}

#[tokio::test]
async fn entries_are_listed_by_prefix_and_page() {
    for bench in Bench::all() {
        let store = bench.store(Behaviour::Exact).await;
        let at = bench.name();
        let count = versioned::PAGE_KEYS + 1;
        let names: Vec<_> = (0..count).map(|it| format!("a/{it:05}")).collect();
        for name in &names {
            store.set_entry(name, b"", None, false).await.unwrap();
        }
        store.set_entry("b", b"", None, false).await.unwrap();
        let first = store.page("a/", None).await.unwrap();
        assert!(!first.is_last, "{at}");
        let last = first.keys.last().map(String::as_str);
        let second = store.page("a/", last).await.unwrap();
        assert!(second.is_last, "{at}");
        assert_eq!([first.keys, second.keys].concat(), names, "{at}");
        let other = store.page("b", None).await.unwrap();
        assert!(other.is_last && other.keys == ["b"], "{at}: {other:?}");
    }
}

#[tokio::test]
async fn a_platforms_limits_hold_in_every_store() {
    for bench in Bench::all() {
        let at = bench.name();
        let limits = PlatformLimits {
            key_bytes: Some(4),
            value_bytes: Some(2),
            keys: Some(2),
            ..Platform::None.limits()
        };
        let limiter = Limiter::with(Platform::FermyonCloud, limits);
        let store = bench.store(Behaviour::Exact).await.limited(limiter);
        let limited = |outcome: StoreResult<()>| matches!(outcome, Err(StoreError::Limited(_)));
        assert!(limited(store.set("12345", b"").await), "{at}");
        assert!(limited(store.set("k", b"123").await), "{at}");
        let entry = store.set_entry("k", b"123", None, false).await;
        assert!(limited(entry.map(drop)), "{at}");
        assert!(limited(store.handle("12345").await.map(drop)), "{at}");
        // What the host counts is no key of the component.
        assert_eq!(store.count("n").await, Ok(1), "{at}");
        assert_eq!(store.count("n").await, Ok(2), "{at}");
        store.set("a", b"1").await.unwrap();
        store.set("b", b"1").await.unwrap();
        assert!(limited(store.set("c", b"1").await), "{at}");
        store.set("a", b"2").await.unwrap();
        store.delete("b").await.unwrap();
        store.set("c", b"1").await.unwrap();
        let mut keys = store.keys().await.unwrap();
        keys.sort_unstable();
        assert_eq!(keys, ["a", "c"], "{at}");
        store.forget_count("n").await.unwrap();
        assert_eq!(store.count("n").await, Ok(1), "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn reads_and_writes_of_every_kind_count() {
    let limits = PlatformLimits {
        reads_per_second: Some(4),
        writes_per_second: Some(5),
        ..Platform::None.limits()
    };
    let limiter = Limiter::with(Platform::Akamai, limits);
    let store = open(&Location::Memory, Behaviour::Exact, EXPIRY).limited(limiter);
    for _ in 0..2 {
        store.get("k").await.unwrap();
        store.keys().await.unwrap();
        store.entry("k").await.unwrap();
        let mut handle = store.handle("k").await.unwrap();
        handle.current().await.unwrap();
        assert!(matches!(store.get("k").await, Err(StoreError::Limited(_))));
        handle.swap(b"v").await.unwrap();
        store.set("a", b"v").await.unwrap();
        store.delete("a").await.unwrap();
        store.increment("n", 1).await.unwrap();
        store.set_entry("e", b"v", None, false).await.unwrap();
        let refused = store.set("a", b"v").await;
        assert!(matches!(refused, Err(StoreError::Limited(_))));
        tokio::time::advance(SECOND).await;
    }
}

/// The table of "Seen on the real Spin": both handles read, then both swap.
#[tokio::test]
async fn of_two_handles_on_one_key_each_hears_what_its_platform_says() {
    struct Expected {
        behaviour: Behaviour,
        before: Option<&'static str>,
        first: Said,
        second: Said,
        after: &'static str,
    }
    let table = [
        Expected {
            behaviour: Behaviour::Exact,
            before: None,
            first: Said::Ok,
            second: lost("A"),
            after: "A",
        },
        Expected {
            behaviour: Behaviour::Exact,
            before: Some("0"),
            first: Said::Ok,
            second: lost("A"),
            after: "A",
        },
        Expected {
            behaviour: Behaviour::SpinSqlite,
            before: None,
            first: Said::Ok,
            second: Said::Ok,
            after: "B",
        },
        Expected {
            behaviour: Behaviour::SpinSqlite,
            before: Some("0"),
            first: Said::Ok,
            second: lost("A"),
            after: "A",
        },
        Expected {
            behaviour: Behaviour::SpinRedis,
            before: None,
            first: lost("A"),
            second: lost("A"),
            after: "A",
        },
        Expected {
            behaviour: Behaviour::SpinRedis,
            before: Some("0"),
            first: lost("A"),
            second: lost("A"),
            after: "A",
        },
    ];
    for bench in Bench::all() {
        for row in &table {
            let at = format!("{} {:?} {:?}", bench.name(), row.behaviour, row.before);
            let store = bench.store(row.behaviour).await;
            if let Some(before) = row.before {
                store.set("k", before.as_bytes()).await.unwrap();
            }
            let before = row.before.map(|before| before.as_bytes().to_vec());
            let mut first = store.handle("k").await.unwrap();
            let mut second = store.handle("k").await.unwrap();
            assert_eq!(first.current().await.unwrap(), before, "{at}");
            assert_eq!(second.current().await.unwrap(), before, "{at}");
            assert_eq!(said(first.swap(b"A").await).await, row.first, "{at}");
            assert_eq!(said(second.swap(b"B").await).await, row.second, "{at}");
            let after = store.get("k").await.unwrap().unwrap();
            assert_eq!(after, row.after.as_bytes(), "{at}");
        }
    }
}

#[tokio::test]
async fn a_handle_that_was_never_read_swaps_as_its_platform_does() {
    for bench in Bench::all() {
        for (behaviour, heard, after) in [
            (Behaviour::Exact, lost("0"), "0"),
            (Behaviour::SpinSqlite, Said::Ok, "A"),
            (Behaviour::SpinRedis, lost("A"), "A"),
        ] {
            let at = format!("{} {behaviour:?}", bench.name());
            let store = bench.store(behaviour).await;
            store.set("k", b"0").await.unwrap();
            let mut handle = store.handle("k").await.unwrap();
            assert_eq!(said(handle.swap(b"A").await).await, heard, "{at}");
            let value = store.get("k").await.unwrap().unwrap();
            assert_eq!(value, after.as_bytes(), "{at}");
        }
    }
}

#[tokio::test]
async fn the_handle_of_a_lost_swap_can_be_swapped() {
    for bench in Bench::all() {
        for behaviour in [Behaviour::Exact, Behaviour::SpinSqlite] {
            let at = format!("{} {behaviour:?}", bench.name());
            let store = bench.store(behaviour).await;
            store.set("k", b"0").await.unwrap();
            let mut handle = store.handle("k").await.unwrap();
            handle.current().await.unwrap();
            store.set("k", b"1").await.unwrap();
            let Swapped::Lost(mut next) = handle.swap(b"2").await.unwrap() else {
                panic!("{at}: the swap was not lost");
            };
            assert_eq!(said(next.swap(b"3").await).await, Said::Ok, "{at}");
            assert_eq!(store.get("k").await.unwrap(), Some(b"3".to_vec()), "{at}");
        }
    }
}

#[tokio::test]
async fn a_swap_of_a_key_that_was_removed_is_lost() {
    for bench in Bench::all() {
        for behaviour in BEHAVIOURS {
            let at = format!("{} {behaviour:?}", bench.name());
            let store = bench.store(behaviour).await;
            store.set("k", b"0").await.unwrap();
            let mut handle = store.handle("k").await.unwrap();
            handle.current().await.unwrap();
            store.delete("k").await.unwrap();
            assert_eq!(
                said(handle.swap(b"1").await).await,
                Said::Lost(None),
                "{at}"
            );
            assert_eq!(store.get("k").await.unwrap(), None, "{at}");
        }
    }
}

#[tokio::test]
async fn increments_add_up_in_the_platforms_own_format() {
    for bench in Bench::all() {
        for behaviour in BEHAVIOURS {
            let at = format!("{} {behaviour:?}", bench.name());
            let store = bench.store(behaviour).await;
            assert_eq!(store.increment("n", 1).await, Ok(1), "{at}");
            assert_eq!(store.increment("n", 1).await, Ok(2), "{at}");
            let stored = store.get("n").await.unwrap().unwrap();
            let expected = match behaviour {
                Behaviour::Exact => bench.exact_two(),
                Behaviour::SpinSqlite => &[2, 0, 0, 0, 0, 0, 0, 0],
                Behaviour::SpinRedis => b"2",
            };
            assert_eq!(stored, expected, "{at}");
            assert_eq!(store.increment("n", -5).await, Ok(-3), "{at}");
        }
    }
}

#[tokio::test]
async fn an_increment_of_no_number_aborts_on_spin_sqlite_and_is_an_error_elsewhere() {
    for bench in Bench::all() {
        for behaviour in BEHAVIOURS {
            let at = format!("{} {behaviour:?}", bench.name());
            let store = bench.store(behaviour).await;
            store.set("n", b"no number").await.unwrap();
            let error = store.increment("n", 1).await.unwrap_err();
            let aborts = matches!(error, StoreError::Abort(_));
            assert_eq!(aborts, behaviour == Behaviour::SpinSqlite, "{at}: {error}");
            if !aborts {
                let value = store.get("n").await.unwrap();
                assert_eq!(value, Some(b"no number".to_vec()), "{at}");
            }
        }
    }
}

/// Spin's panic leaves its lock poisoned, and every later call panics over that.
#[tokio::test]
async fn after_that_abort_every_call_of_the_process_aborts_on_spin_sqlite() {
    for bench in Bench::all() {
        let at = bench.name();
        let store = bench.store(Behaviour::SpinSqlite).await;
        store.set("n", b"no number").await.unwrap();
        let mut before = store.handle("k").await.unwrap();
        store.increment("n", 1).await.unwrap_err();
        store.check().await.unwrap();
        let mut after = store.handle("k").await.unwrap();
        for (call, aborts) in [
            (
                "get",
                matches!(store.get("k").await, Err(StoreError::Abort(_))),
            ),
            (
                "set",
                matches!(store.set("k", b"v").await, Err(StoreError::Abort(_))),
            ),
            (
                "delete",
                matches!(store.delete("k").await, Err(StoreError::Abort(_))),
            ),
            (
                "keys",
                matches!(store.keys().await, Err(StoreError::Abort(_))),
            ),
            (
                "increment",
                matches!(store.increment("m", 1).await, Err(StoreError::Abort(_))),
            ),
            (
                "current",
                matches!(after.current().await, Err(StoreError::Abort(_))),
            ),
            (
                "swap",
                matches!(before.swap(b"v").await, Err(StoreError::Abort(_))),
            ),
        ] {
            assert!(aborts, "{at}: {call}");
        }
        // Another process has a lock of its own.
        let other = open(&bench.location(), Behaviour::SpinSqlite, EXPIRY);
        assert_eq!(other.increment("m", 1).await, Ok(1), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_at_the_same_time_all_count() {
    const TASKS: i64 = 8;
    const EACH: i64 = 25;
    for bench in Bench::all() {
        for behaviour in BEHAVIOURS {
            let store = bench.store(behaviour).await;
            let tasks = (0..TASKS).map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut heard = Vec::new();
                    for _ in 0..EACH {
                        heard.push(store.increment("n", 1).await.unwrap());
                    }
                    heard
                })
            });
            let mut heard = Vec::new();
            for task in tasks.collect::<Vec<_>>() {
                heard.extend(task.await.unwrap());
            }
            heard.sort_unstable();
            let expected: Vec<i64> = (1..=TASKS * EACH).collect();
            assert_eq!(heard, expected, "{} {behaviour:?}", bench.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_exact_swaps_from_one_value_one_is_applied() {
    const TASKS: usize = 16;
    for bench in Bench::all() {
        for before in [None, Some("0")] {
            let store = bench.store(Behaviour::Exact).await;
            if let Some(before) = before {
                store.set("k", before.as_bytes()).await.unwrap();
            }
            let mut handles = Vec::new();
            for _ in 0..TASKS {
                let mut handle = store.handle("k").await.unwrap();
                handle.current().await.unwrap();
                handles.push(handle);
            }
            let tasks: Vec<_> = handles
                .into_iter()
                .enumerate()
                .map(|(i, mut handle)| {
                    tokio::spawn(async move {
                        let value = format!("by {i}");
                        let done = matches!(handle.swap(value.as_bytes()).await, Ok(Swapped::Done));
                        done.then_some(value)
                    })
                })
                .collect();
            let mut winners = Vec::new();
            for task in tasks {
                winners.extend(task.await.unwrap());
            }
            let at = format!("{} {before:?}", bench.name());
            assert_eq!(winners.len(), 1, "{at}");
            let stored = store.get("k").await.unwrap().unwrap();
            assert_eq!(stored, winners[0].as_bytes(), "{at}");
        }
    }
}

#[tokio::test]
async fn spin_sqlite_refuses_long_keys_and_large_values_and_others_do_not() {
    let long_key = "k".repeat(257);
    let large = vec![0; 1_000_001];
    for behaviour in BEHAVIOURS {
        let store = Bench::Memory.store(behaviour).await;
        let refuses = behaviour == Behaviour::SpinSqlite;
        assert_eq!(store.set(&long_key, b"").await.is_err(), refuses);
        assert_eq!(store.set("k", &large).await.is_err(), refuses);
        assert_eq!(store.handle(&long_key).await.is_err(), refuses);
        let mut handle = store.handle("j").await.unwrap();
        assert_eq!(handle.swap(&large).await.is_err(), refuses);
    }
}

/// An instance in a synchronous call polls none of its other calls. Once, those
/// stood in line before it and never moved on.
#[tokio::test]
async fn calls_that_nobody_polls_do_not_hold_up_a_synchronous_one() {
    const UNPOLLED: usize = 100;
    const BOUND: Duration = Duration::from_secs(20);
    for bench in Bench::all() {
        for behaviour in BEHAVIOURS {
            let at = format!("{} {behaviour:?}", bench.name());
            let store = bench.store(behaviour).await;
            let mut unpolled: Vec<_> = (0..UNPOLLED)
                .map(|i| {
                    let store = store.clone();
                    Box::pin(async move {
                        if i % 2 == 0 {
                            store.get("k").await.map(drop)
                        } else {
                            store.set("j", b"v").await
                        }
                    })
                })
                .collect();
            for call in &mut unpolled {
                // Once, so that it takes its place in line.
                drop(futures::poll!(call));
            }
            let synchronous = async {
                store.increment("n", 1).await.unwrap();
                let mut handle = store.handle("k").await.unwrap();
                handle.current().await.unwrap();
                handle.swap(b"v").await.unwrap();
            };
            let outcome = tokio::time::timeout(BOUND, synchronous).await;
            assert!(outcome.is_ok(), "{at}: held up");
        }
    }
}

#[tokio::test]
async fn two_openings_of_one_sqlite_file_see_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let location = sqlite_location(directory.path());
    let one = open(&location, Behaviour::Exact, EXPIRY);
    let other = open(&location, Behaviour::Exact, EXPIRY);
    let (a, b) = tokio::join!(one.check(), other.check());
    a.unwrap();
    b.unwrap();
    one.set("k", b"1").await.unwrap();
    assert_eq!(other.get("k").await.unwrap(), Some(b"1".to_vec()));
    assert_eq!(other.increment("n", 1).await, Ok(1));
    assert_eq!(one.increment("n", 1).await, Ok(2));
}

#[tokio::test]
async fn the_sqlite_table_is_spins() {
    let directory = tempfile::tempdir().unwrap();
    let location = sqlite_location(directory.path());
    let store = open(&location, Behaviour::Exact, EXPIRY);
    store.set("k", b"v").await.unwrap();
    let Location::Sqlite(path) = location else {
        unreachable!("it was made above");
    };
    let connection = rusqlite::Connection::open(path).unwrap();
    let row: (String, String, Vec<u8>) = connection
        .query_row("SELECT store, key, value FROM spin_key_value", [], |row| {
            row.try_into()
        })
        .unwrap();
    assert_eq!(row, ("default".to_owned(), "k".to_owned(), b"v".to_vec()));
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_is_an_error_and_opens_once_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("deep");
    std::fs::write(&in_the_way, "a file where a directory is needed").unwrap();
    let store = open(&sqlite_location(directory.path()), Behaviour::Exact, EXPIRY);
    for _ in 0..2 {
        assert!(matches!(store.check().await, Err(StoreError::Down(_))));
        assert!(matches!(store.get("k").await, Err(StoreError::Down(_))));
        let mut handle = store.handle("k").await.unwrap();
        assert!(handle.current().await.is_err());
    }
    std::fs::remove_file(&in_the_way).unwrap();
    store.set("k", b"v").await.unwrap();
    assert_eq!(store.get("k").await.unwrap(), Some(b"v".to_vec()));
}

/// The names of the files in the directory of the SQLite file.
fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("deep")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_moved_aside_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let location = sqlite_location(directory.path());
    let Location::Sqlite(path) = &location else {
        unreachable!("it was made above");
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(
        path,
        "not a database, and longer than a header of SQLite has to be\n".repeat(100),
    )
    .unwrap();
    let store = open(&location, Behaviour::Exact, EXPIRY);
    store.check().await.unwrap();
    store.set("k", b"v").await.unwrap();
    assert_eq!(store.get("k").await.unwrap(), Some(b"v".to_vec()));
    let aside = files(directory.path());
    assert!(
        aside
            .iter()
            .any(|name| name.starts_with("store.db.corrupt-")),
        "{aside:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_damaged_while_it_is_used_is_replaced_on_every_node() {
    let directory = tempfile::tempdir().unwrap();
    let location = sqlite_location(directory.path());
    let Location::Sqlite(path) = &location else {
        unreachable!("it was made above");
    };
    let one = open(&location, Behaviour::Exact, EXPIRY);
    let other = open(&location, Behaviour::Exact, EXPIRY);
    for number in 0..200 {
        one.set(&format!("k{number}"), &[7; 1_000]).await.unwrap();
    }
    assert!(other.get("k0").await.unwrap().is_some());
    // The journal would hide the damage.
    let checkpoint = rusqlite::Connection::open(path).unwrap();
    checkpoint
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(checkpoint);
    let length = usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, &vec![0xA5; length]).unwrap();
    drop(file);

    // The damage is noticed by a call, and then the store works again.
    for store in [&one, &other] {
        let mut tries = 0;
        while store.set("k", b"new").await.is_err() {
            tries += 1;
            assert!(tries < 10, "the store stays damaged");
        }
    }
    // Both have the same file: what one writes the other reads.
    one.set("shared", b"1").await.unwrap();
    assert_eq!(other.get("shared").await.unwrap(), Some(b"1".to_vec()));
    other.set("shared", b"2").await.unwrap();
    assert_eq!(one.get("shared").await.unwrap(), Some(b"2".to_vec()));
    let aside = files(directory.path());
    let moved = aside
        .iter()
        .filter(|name| name.starts_with("store.db.corrupt-") && !name.ends_with("-wal"))
        .filter(|name| !name.ends_with("-shm"));
    assert_eq!(moved.count(), 1, "{aside:?}");
}

#[tokio::test]
async fn a_file_that_was_removed_is_made_again_on_every_node() {
    let directory = tempfile::tempdir().unwrap();
    let location = sqlite_location(directory.path());
    let one = open(&location, Behaviour::Exact, EXPIRY);
    let other = open(&location, Behaviour::Exact, EXPIRY);
    one.set("k", b"old").await.unwrap();
    assert!(other.get("k").await.unwrap().is_some());
    std::fs::remove_dir_all(directory.path().join("deep")).unwrap();
    one.set("k", b"new").await.unwrap();
    assert_eq!(other.get("k").await.unwrap(), Some(b"new".to_vec()));
}

#[tokio::test]
async fn a_sqlite_file_becomes_smaller_when_much_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let location = sqlite_location(directory.path());
    let Location::Sqlite(path) = &location else {
        unreachable!("it was made above");
    };
    let store = open(&location, Behaviour::Exact, EXPIRY);
    for number in 0..40 {
        let value = vec![7; 500_000];
        store.set(&format!("k{number}"), &value).await.unwrap();
    }
    let pages = || -> i64 {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .unwrap()
    };
    let before = pages();
    for number in 0..40 {
        store.delete(&format!("k{number}")).await.unwrap();
    }
    let after = pages();
    // Each of some 30 removals gives back 64 pages.
    assert!(after <= before - 1_000, "{before} pages, then {after}");
}

#[tokio::test]
async fn every_write_to_redis_has_an_expiry() {
    let Some(server) = RedisServer::start() else {
        eprintln!("skipped: there is no redis-server on this machine");
        return;
    };
    let location: Location = server.url.parse().unwrap();
    let client = ::redis::Client::open(server.url.as_str()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for behaviour in BEHAVIOURS {
        let store = open(&location, behaviour, EXPIRY);
        store.set("set", b"v").await.unwrap();
        store.increment("number", 1).await.unwrap();
        for key in ["swapped", "set"] {
            let mut handle = store.handle(key).await.unwrap();
            handle.current().await.unwrap();
            drop(handle.swap(b"w").await.unwrap());
            assert_eq!(store.get(key).await.unwrap(), Some(b"w".to_vec()));
        }
        for key in ["set", "number", "swapped"] {
            let millis: i64 = ::redis::cmd("PTTL")
                .arg(key)
                .query(&mut connection)
                .unwrap();
            assert!(
                (1..=3_600_000).contains(&millis),
                "{behaviour:?} {key}: {millis}"
            );
        }
        ::redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
    }
}

#[tokio::test]
async fn redis_that_is_down_is_an_error_soon_and_works_once_it_is_back() {
    let Some(server) = RedisServer::start() else {
        eprintln!("skipped: there is no redis-server on this machine");
        return;
    };
    let location: Location = server.url.parse().unwrap();
    drop(server);
    for behaviour in BEHAVIOURS {
        let store = open(&location, behaviour, EXPIRY);
        let bound = Duration::from_secs(10);
        let outcome = tokio::time::timeout(bound, store.get("k")).await;
        assert!(
            matches!(outcome, Ok(Err(StoreError::Down(_)))),
            "{outcome:?}"
        );
        let outcome = tokio::time::timeout(bound, store.increment("k", 1)).await;
        assert!(
            matches!(outcome, Ok(Err(StoreError::Down(_)))),
            "{outcome:?}"
        );
    }
}

/// A store that takes calls and never answers.
#[derive(Debug)]
struct Hanging {
    /// Whether it answers the beginning of a swap.
    watches: bool,
}

#[async_trait]
impl Watch for Hanging {
    async fn current(&mut self) -> StoreResult<Option<Vec<u8>>> {
        std::future::pending().await
    }

    async fn swap(&mut self, _: &[u8]) {
        std::future::pending().await
    }
}

#[async_trait]
impl Backend for Hanging {
    async fn check(&self) -> StoreResult<()> {
        std::future::pending().await
    }

    async fn get(&self, _: &str) -> StoreResult<Option<Vec<u8>>> {
        std::future::pending().await
    }

    async fn set(&self, _: &str, _: &[u8]) -> StoreResult<()> {
        std::future::pending().await
    }

    async fn delete(&self, _: &str) -> StoreResult<()> {
        std::future::pending().await
    }

    async fn keys(&self) -> StoreResult<Vec<String>> {
        std::future::pending().await
    }

    async fn replace(&self, _: &str, _: Option<&[u8]>, _: &[u8]) -> StoreResult<bool> {
        std::future::pending().await
    }

    async fn remove_if(&self, _: &str, _: &[u8]) -> StoreResult<bool> {
        std::future::pending().await
    }

    async fn increment(&self, _: &str, _: i64, _: Number) -> StoreResult<i64> {
        std::future::pending().await
    }

    fn own_number(&self) -> Number {
        Number::Decimal
    }

    async fn watch(&self, _: &str) -> StoreResult<Option<Box<dyn Watch>>> {
        if self.watches {
            return Ok(Some(Box::new(Hanging { watches: true })));
        }
        std::future::pending().await
    }
}

/// Expects that a call to a store that hangs fails when `bound` has passed on the
/// virtual clock.
async fn assert_ends<T: Debug>(
    what: &str,
    bound: Duration,
    call: impl Future<Output = StoreResult<T>>,
) {
    let began = tokio::time::Instant::now();
    let outcome = tokio::time::timeout(bound * 10, call).await;
    let took = began.elapsed();
    assert!(
        matches!(&outcome, Ok(Err(StoreError::Other(text))) if text.contains("did not answer")),
        "{what}: {outcome:?}"
    );
    // The clock of the runtime counts whole milliseconds.
    assert!(took <= bound + Duration::from_millis(5), "{what}: {took:?}");
}

/// A guest's swap and increment stop its whole instance, and no timeout of its own
/// ends them.
#[tokio::test(start_paused = true)]
async fn every_call_to_a_store_that_hangs_ends_within_its_bound() {
    for behaviour in BEHAVIOURS {
        let store = Store::new(Arc::new(Hanging { watches: true }), behaviour);
        let (call, most) = (CALL_MAX, behaviour.call_max());
        assert_ends("check", call, store.check()).await;
        assert_ends("get", most, store.get("k")).await;
        assert_ends("set", most, store.set("k", b"v")).await;
        assert_ends("delete", most, store.delete("k")).await;
        assert_ends("keys", LISTING_MAX, store.keys()).await;
        assert_ends("increment", most, store.increment("k", 1)).await;
        let mut handle = store.handle("k").await.unwrap();
        assert_ends("current", most, handle.current()).await;
        assert_ends("swap", most, handle.swap(b"v")).await;
        assert_ends("entry", call, store.entry("k")).await;
        assert_ends("set entry", call, store.set_entry("k", b"v", None, true)).await;
        let expected = Expected::default();
        assert_ends("swap entry", call, store.swap_entry("k", b"v", expected)).await;
        assert_ends("page", LISTING_MAX, store.page("", None)).await;
    }
    let store = Store::new(Arc::new(Hanging { watches: false }), Behaviour::SpinRedis);
    assert_ends("handle", CALL_MAX, store.handle("k")).await;
}

/// A new instance could not read while a write waited for the lock of the file.
#[tokio::test]
async fn a_sqlite_file_that_is_locked_for_writes_can_be_opened_and_read() {
    let directory = tempfile::tempdir().unwrap();
    let location = sqlite_location(directory.path());
    let store = open(&location, Behaviour::Exact, EXPIRY);
    store.set("k", b"v").await.unwrap();
    let Location::Sqlite(path) = &location else {
        panic!("{location}");
    };
    let holder = rusqlite::Connection::open(path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reads = async {
        store.check().await.unwrap();
        store.get("k").await.unwrap()
    };
    // The write is asked for first, and waits for the lock until the reads are done.
    let (written, read) = tokio::join!(store.set("k", b"w"), async {
        let read = reads.await;
        holder.execute_batch("ROLLBACK").unwrap();
        read
    });
    assert_eq!(read, Some(b"v".to_vec()));
    written.unwrap();
}

/// Says to a process of [`a_file_that_becomes_writable_is_written_without_a_restart`] where
/// its store is.
const READ_ONLY_STORE: &str = "LEEWARD_TEST_READ_ONLY_STORE";

/// A user that is not the superuser, whom permissions do not bind.
const NOBODY: u32 = 65_534;

/// A node was started while the file and its directory could not be written. It never
/// wrote again: its connections that read kept the shared memory of the file as it was.
///
/// The node is a process of its own, which is another user where this one is the superuser.
#[cfg(unix)]
#[test]
fn a_file_that_becomes_writable_is_written_without_a_restart() {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt as _;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // One that stays open, so that the journal and its shared memory stay.
    let node = open(&Location::Sqlite(path.clone()), Behaviour::Exact, EXPIRY);
    runtime.block_on(node.set("k", b"v")).unwrap();
    let set_modes = |directory_mode: u32, file_mode: u32| {
        for suffix in ["", "-wal", "-shm"] {
            let file = directory.path().join(format!("store.db{suffix}"));
            std::fs::set_permissions(file, PermissionsExt::from_mode(file_mode)).unwrap();
        }
        let mode = PermissionsExt::from_mode(directory_mode);
        std::fs::set_permissions(directory.path(), mode).unwrap();
    };
    set_modes(0o555, 0o444);

    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "store::tests::a_node_beside_a_read_only_file"])
        .args(["--ignored", "--nocapture"])
        .env(READ_ONLY_STORE, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let is_superuser = std::fs::File::create(directory.path().join("written")).is_ok();
    if is_superuser {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut process = command.spawn().unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
    let is_read_only = output
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("read-only"));
    set_modes(0o777, 0o666);
    process.stdin.take().unwrap().write_all(b"now\n").unwrap();
    let rest: Vec<_> = output.map_while(Result::ok).collect();
    let writes = rest.iter().any(|line| line.contains("it writes"));
    let status = process.wait().unwrap();
    assert!(
        is_read_only && writes && status.success(),
        "{status}: {rest:#?}"
    );
    let written = runtime.block_on(node.get("new")).unwrap();
    assert_eq!(written, Some(b"w".to_vec()));
}

/// The node of the test above.
#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn a_node_beside_a_read_only_file() {
    let Some(path) = std::env::var_os(READ_ONLY_STORE) else {
        return;
    };
    let store = open(&Location::Sqlite(path.into()), Behaviour::Exact, EXPIRY);
    // As many at once as there are connections that read.
    let read = || async { store.get("k").await.unwrap() };
    let values = tokio::join!(read(), read(), read(), read());
    assert_eq!(values.0, Some(b"v".to_vec()));
    let refused = store.set("new", b"w").await.unwrap_err().to_string();
    assert!(refused.contains("cannot be written"), "{refused}");
    println!("it is read-only");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        // Reads go on meanwhile.
        let (written, value) = tokio::join!(store.set("new", b"w"), read());
        assert_eq!(value, Some(b"v".to_vec()));
        match written {
            Ok(()) => break,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("it writes");
}
