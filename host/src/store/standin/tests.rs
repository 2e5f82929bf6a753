#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use leeward::budget::{Class, Limits, Record, decode, encode};
use leeward::cell::transition::{Purge, Stamp, purge};
use leeward::cell::{Cell, Marks, Nonce, codec};
use leeward::config::Config;

use super::back::{LOOK_MAX, PAUSE_MAX};
use super::*;
use crate::store::memory::Memory;

/// What a store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Works,
    Fails,
    Hangs,
    OnlyReads,
}

/// A store that does what it is told.
#[derive(Debug, Default)]
struct Told {
    memory: Memory,
    does: AtomicU8,
    asked: AtomicUsize,
}

impl Told {
    fn now(&self, does: Does) {
        self.does.store(does as u8, Ordering::SeqCst);
    }

    async fn ask(&self, is_write: bool) -> StoreResult<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let does = self.does.load(Ordering::SeqCst);
        if does == Does::Hangs as u8 {
            std::future::pending::<()>().await;
        }
        if does == Does::Fails as u8 || (is_write && does == Does::OnlyReads as u8) {
            return Err(StoreError::Down("READONLY replica".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Told {
    async fn check(&self) -> StoreResult<()> {
        self.ask(false).await
    }

    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        self.ask(false).await?;
        self.memory.get(key).await
    }

    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        self.ask(true).await?;
        self.memory.set(key, value).await
    }

    async fn delete(&self, key: &str) -> StoreResult<()> {
        self.ask(true).await?;
        self.memory.delete(key).await
    }

    async fn keys(&self) -> StoreResult<Vec<String>> {
        self.ask(false).await?;
        self.memory.keys().await
    }

    async fn replace(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> StoreResult<bool> {
        self.ask(true).await?;
        self.memory.replace(key, expected, value).await
    }

    async fn remove_if(&self, key: &str, expected: &[u8]) -> StoreResult<bool> {
        self.ask(true).await?;
        self.memory.remove_if(key, expected).await
    }

    async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64> {
        self.ask(true).await?;
        self.memory.increment(key, delta, number).await
    }

    fn own_number(&self) -> Number {
        self.memory.own_number()
    }
}

fn share() -> Share {
    Share::new(&Config::parse("").unwrap())
}

/// A node of a store.
fn node(store: &Arc<Told>) -> StandIn {
    let backend: Arc<dyn Backend> = Arc::clone(store) as _;
    StandIn::logging(backend, share(), drop)
}

/// Waits, on the virtual clock, until the node works with its store again.
async fn is_back(node: &StandIn) {
    for _ in 0..100 {
        if !node.0.state().node.writes_fail() {
            return;
        }
        sleep(PAUSE_MAX).await;
    }
    panic!("the node still stands in");
}

async fn value(backend: &impl Backend, key: &str) -> Option<String> {
    let value = backend.get(key).await.unwrap()?;
    Some(String::from_utf8(value).unwrap())
}

/// Of 160 hits at a distance of 40 ms 37 took two seconds.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_delays_no_more_than_the_first_hits() {
    let store = Arc::new(Told::default());
    let node = Arc::new(node(&store));
    node.set("k", b"v").await.unwrap();
    store.now(Does::Hangs);
    let began = Instant::now();
    let hits: Vec<_> = (0..160)
        .map(|number: u32| {
            let node = Arc::clone(&node);
            tokio::spawn(async move {
                sleep(Duration::from_millis(40) * number).await;
                let began = Instant::now();
                assert_eq!(value(&*node, "k").await.as_deref(), Some("v"));
                began.elapsed()
            })
        })
        .collect();
    let mut took = Vec::new();
    for hit in hits {
        took.push(hit.await.unwrap());
    }
    took.sort_unstable();
    assert!(took[159] <= PATIENCE + Duration::from_millis(5), "{took:?}");
    // Those that came before the first had waited long enough.
    assert!(took[152].is_zero(), "{took:?}");
    // And it is not asked again and again: one at a time, in growing pauses.
    let most = 8 + 2 * began.elapsed().as_millis() / LOOK_MAX.as_millis();
    assert!(store.asked.load(Ordering::SeqCst) as u128 <= most);
    store.now(Does::Works);
    is_back(&node).await;
    assert_eq!(value(&*node, "k").await.as_deref(), Some("v"));
}

#[tokio::test(start_paused = true)]
async fn the_node_stands_in_for_a_store_that_fails_and_gives_back() {
    for does in [Does::Fails, Does::Hangs, Does::OnlyReads] {
        let store = Arc::new(Told::default());
        let node = node(&store);
        node.set("kept", b"1").await.unwrap();
        node.set("taken", b"1").await.unwrap();
        store.now(does);
        // No error, and exact.
        for key in ["kept", "taken"] {
            assert!(node.replace(key, Some(b"1"), b"2").await.unwrap());
            assert!(!node.replace(key, Some(b"1"), b"3").await.unwrap());
            assert_eq!(value(&node, key).await.as_deref(), Some("2"));
        }
        assert!(node.replace("new", None, b"1").await.unwrap());
        assert!(!node.replace("new", None, b"2").await.unwrap());
        node.set("body/1", b"chunk").await.unwrap();
        let number = node.own_number();
        for sum in 1..3 {
            assert_eq!(node.increment("guard/1", 1, number).await, Ok(sum));
        }
        assert_eq!(value(&node, "unknown").await, None);
        // Another node, which the store still answers, comes first.
        store.memory.set("taken", b"newer").await.unwrap();
        store.now(Does::Works);
        is_back(&node).await;
        for (key, expected) in [
            ("kept", Some("2")),
            ("taken", Some("newer")),
            ("new", Some("1")),
            ("body/1", Some("chunk")),
            ("guard/1", None),
        ] {
            assert_eq!(value(&store.memory, key).await.as_deref(), expected);
            assert_eq!(value(&node, key).await.as_deref(), expected, "{key}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_concerns_one_value_is_passed_on() {
    /// A store that takes no large values.
    #[derive(Debug, Default)]
    struct Small(Memory);

    #[async_trait]
    impl Backend for Small {
        async fn check(&self) -> StoreResult<()> {
            Ok(())
        }
        async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
            self.0.get(key).await
        }
        async fn set(&self, _: &str, _: &[u8]) -> StoreResult<()> {
            Err(StoreError::Other("too large".to_owned()))
        }
        async fn delete(&self, key: &str) -> StoreResult<()> {
            self.0.delete(key).await
        }
        async fn keys(&self) -> StoreResult<Vec<String>> {
            self.0.keys().await
        }
        async fn replace(&self, _: &str, _: Option<&[u8]>, _: &[u8]) -> StoreResult<bool> {
            Err(StoreError::Other("too large".to_owned()))
        }
        async fn remove_if(&self, key: &str, expected: &[u8]) -> StoreResult<bool> {
            self.0.remove_if(key, expected).await
        }
        async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64> {
            self.0.increment(key, delta, number).await
        }
        fn own_number(&self) -> Number {
            self.0.own_number()
        }
    }

    let node = StandIn::logging(Arc::new(Small::default()), share(), drop);
    let refused = Err(StoreError::Other("too large".to_owned()));
    assert_eq!(node.set("k", b"v").await, refused);
    assert!(node.replace("k", None, b"v").await.is_err());
    assert!(!node.0.state().node.writes_fail());
}

const RECORD: &str = "budget/1";

/// Takes slots as an instance does. Returns how many it has got.
async fn take(node: &StandIn, id: u128, want: u32) -> u32 {
    let config = Config::parse("").unwrap();
    let limits = Limits {
        slots: config.budget.max_concurrency,
        streams: 8,
        lease: config.lease.duration,
        clock_skew: config.lease.clock_skew,
        rate: None,
    };
    loop {
        let stored = node.get(RECORD).await.unwrap();
        let mut record = match &stored {
            Some(stored) => decode(stored).unwrap(),
            None => Record::default(),
        };
        let target = (Class::Fill, 7);
        let taken = record.take(Nonce::new(id), target, want, now(), &limits);
        let new = encode(&record).unwrap();
        if node.replace(RECORD, stored.as_deref(), &new).await.unwrap() {
            return taken;
        }
    }
}

/// Three nodes put 17 to 27 requests at once on an origin with a budget of 16, while their
/// store failed and when it was back.
#[tokio::test(start_paused = true)]
async fn the_nodes_keep_to_the_budget_while_their_store_fails_and_when_it_is_back() {
    for is_emptied in [false, true] {
        let store = Arc::new(Told::default());
        let nodes = [node(&store), node(&store), node(&store)];
        // The first two have all that there is, and the third has seen it.
        let mut in_flight = take(&nodes[0], 1, 8).await + take(&nodes[1], 2, 8).await;
        in_flight += take(&nodes[2], 3, 16).await;
        let before = in_flight;
        store.now(Does::Fails);
        for (number, node) in (10_u128..).zip(&nodes) {
            for instance in 0..4 {
                in_flight += take(node, 10 * number + instance, 16).await;
            }
        }
        assert_eq!(in_flight, before, "while it fails");
        if is_emptied {
            store.memory.delete(RECORD).await.unwrap();
        }
        store.now(Does::Works);
        for node in &nodes {
            is_back(node).await;
        }
        for (number, node) in (20_u128..).zip(&nodes) {
            in_flight += take(node, number, 16).await;
        }
        assert!(in_flight <= 16, "when it is back: {in_flight}");
    }
    // What they do alone is no more than their share.
    let store = Arc::new(Told::default());
    let alone = node(&store);
    store.now(Does::Fails);
    let mut taken = 0;
    for instance in 0..4 {
        taken += take(&alone, instance, 16).await;
    }
    assert_eq!(taken, Config::parse("").unwrap().budget.local_concurrency);
}

/// A store that was emptied while it worked had no record of what was in flight.
#[tokio::test(start_paused = true)]
async fn a_record_that_the_store_has_lost_is_there_again() {
    let store = Arc::new(Told::default());
    let node = node(&store);
    let in_flight = take(&node, 1, 16).await;
    store.memory.delete(RECORD).await.unwrap();
    assert!(in_flight + take(&node, 2, 16).await <= 16);
}

#[tokio::test(start_paused = true)]
async fn the_log_says_why_the_node_stands_in_and_when_it_ends() {
    static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let store = Arc::new(Told::default());
    let backend: Arc<dyn Backend> = Arc::clone(&store) as _;
    let node = StandIn::logging(backend, share(), |line| LINES.lock().unwrap().push(line));
    store.now(Does::OnlyReads);
    for _ in 0..3 {
        node.set("k", b"v").await.unwrap();
    }
    store.now(Does::Works);
    is_back(&node).await;
    let lines = LINES.lock().unwrap();
    let [failed, recovered] = &lines[..] else {
        panic!("{lines:#?}");
    };
    for part in [
        "store-failed",
        "\"write\"",
        "READONLY replica",
        "lead to the master",
    ] {
        assert!(failed.contains(part), "{failed}");
    }
    assert!(recovered.contains("store-recovered"), "{recovered}");
}

/// A purge concerns all nodes: it is not dropped like what was only fetched.
#[tokio::test(start_paused = true)]
async fn a_purge_reaches_what_another_node_has_stored_meanwhile() {
    let cell = |nonce| Cell {
        coming: None,
        version: 1,
        nonce: Nonce::new(nonce),
        key: "k".to_owned(),
        entry: None,
        lease: None,
        marks: Marks::default(),
        orphans: Vec::new(),
    };
    let (before, newer) = (cell(1), cell(2));
    let stamp = Stamp {
        nonce: Nonce::new(3),
        now: now(),
    };
    let purged = purge(&before, Purge::Hard, stamp);
    let raw = |cell: &Cell| codec::encode(cell).unwrap();
    let key = "cell/1";
    let store = Arc::new(Told::default());
    let node = node(&store);
    node.set(key, &raw(&before)).await.unwrap();
    store.now(Does::Fails);
    let (expected, new) = (raw(&before), raw(&purged));
    assert!(node.replace(key, Some(&expected), &new).await.unwrap());
    store.memory.set(key, &raw(&newer)).await.unwrap();
    store.now(Does::Works);
    is_back(&node).await;
    let stored = store.memory.get(key).await.unwrap().unwrap();
    let stored = codec::decode_any(&stored.into()).unwrap();
    assert_eq!(stored.marks.purged, purged.marks.purged);
    assert!(stored.version > newer.version);
}

/// A node that was stopped, and whose store had answered meanwhile, took it for one that
/// Two nodes took a purge of a tag each while their store was away. The one that came back
/// second lost its own, although the operator had been told that it holds.
#[tokio::test(start_paused = true)]
async fn purges_of_two_nodes_during_one_outage_are_both_kept() {
    use leeward::purges::{Record, Scope, Tag, decode, encode};
    let (tag, key) = (|name| Tag::named(name).unwrap(), "purges/1");
    let record = |name| {
        let mut record = Record::default();
        record.version = 1;
        record.add(&Scope::Tag(tag(name)), Purge::Hard, now());
        encode(&record).unwrap()
    };
    let store = Arc::new(Told::default());
    let nodes = [node(&store), node(&store)];
    for node in &nodes {
        assert_eq!(value(node, key).await, None);
    }
    store.now(Does::Fails);
    for (node, name) in nodes.iter().zip(["a", "b"]) {
        assert!(node.replace(key, None, &record(name)).await.unwrap());
    }
    store.now(Does::Works);
    for node in &nodes {
        is_back(node).await;
    }
    let stored = store.memory.get(key).await.unwrap().unwrap();
    let stored = decode(&stored).unwrap();
    let seen = nodes[1].get(key).await.unwrap().unwrap();
    for record in [stored, decode(&seen).unwrap()] {
        for name in ["a", "b"] {
            assert!(!record.of_tag(tag(name)).is_empty(), "{name}");
        }
    }
}

/// hangs, and served what it had fetched before.
#[tokio::test(start_paused = true)]
async fn a_node_that_stood_still_itself_waits_for_the_answer() {
    for (stood_still, is_waited_for) in [(Duration::ZERO, false), (PAUSE_MAX, true)] {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let asking = tokio::spawn(bounded(OPERATION_MAX, async move {
            answered.await.map_err(StoreError::other)
        }));
        tokio::task::yield_now().await;
        tokio::time::advance(OPERATION_MAX + stood_still).await;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(answer.send(7).is_ok(), is_waited_for);
        assert_eq!(asking.await.unwrap().is_ok(), is_waited_for);
    }
}
