#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::store::Values;
use futures::FutureExt;
use futures::executor::block_on;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// How a double misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaviour {
    Exact,
    /// Spin's SQLite: from absent, it overwrites and says so to nobody.
    Upserts,
    /// Spin's Redis: every swap is called a conflict.
    CallsConflict,
    /// The swap is applied, and its reply lost.
    LosesReply,
    /// The swap is not applied, and its reply lost.
    LosesRequest,
}

/// What others do between a swap's look at the key and its write.
type Interruption = Rc<dyn Fn(&mut HashMap<String, Bytes>)>;

#[derive(Clone)]
struct Double {
    behaviour: Behaviour,
    values: Rc<RefCell<HashMap<String, Bytes>>>,
    counters: Rc<RefCell<HashMap<String, i64>>>,
    before_write: Rc<RefCell<Option<Interruption>>>,
    /// Which guards cannot be counted, by how their names end.
    uncountable: Rc<Cell<Option<&'static str>>>,
    /// It says of those that they are contended.
    is_contended: Rc<Cell<bool>>,
}

impl Double {
    fn new(behaviour: Behaviour) -> Self {
        Double {
            behaviour,
            values: Rc::default(),
            counters: Rc::default(),
            before_write: Rc::default(),
            uncountable: Rc::default(),
            is_contended: Rc::default(),
        }
    }
}

impl Values for Double {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.values.borrow().get(key).cloned())
    }

    async fn set(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.values
            .borrow_mut()
            .insert(key.to_owned(), value.clone());
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.values.borrow_mut().remove(key);
        self.counters.borrow_mut().remove(key);
        Ok(())
    }
}

impl KeyValue for Double {
    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Said, StoreError> {
        let values = &mut *self.values.borrow_mut();
        if values.get(key) != expected {
            return Ok(Said::Conflict);
        }
        if let Some(interrupt) = self.before_write.borrow_mut().take() {
            interrupt(values);
        }
        let upserts = self.behaviour == Behaviour::Upserts && expected.is_none();
        let unchanged = values.get(key) == expected;
        if self.behaviour == Behaviour::LosesRequest {
            return Err(StoreError::new("no reply"));
        }
        if unchanged || upserts {
            values.insert(key.to_owned(), new.clone());
        }
        match self.behaviour {
            Behaviour::CallsConflict => Ok(Said::Conflict),
            Behaviour::LosesReply => Err(StoreError::new("no reply")),
            Behaviour::Exact | Behaviour::Upserts | Behaviour::LosesRequest => {
                Ok(if unchanged || upserts {
                    Said::Done
                } else {
                    Said::Conflict
                })
            }
        }
    }

    async fn increment(&self, key: &str) -> Result<i64, StoreError> {
        if self.uncountable.get().is_some_and(|end| key.ends_with(end)) {
            return Err(match self.is_contended.get() {
                true => StoreError::contended("the disk is full"),
                false => StoreError::new("the disk is full"),
            });
        }
        let counters = &mut *self.counters.borrow_mut();
        let counter = counters.entry(key.to_owned()).or_default();
        *counter += 1;
        Ok(*counter)
    }
}

const EVERY: [Behaviour; 5] = [
    Behaviour::Exact,
    Behaviour::Upserts,
    Behaviour::CallsConflict,
    Behaviour::LosesReply,
    Behaviour::LosesRequest,
];
const BUCKET: Duration = Duration::from_secs(10);
const KEY: &str = "cell/ab";

struct Bench {
    store: Guarded<Double, Box<dyn Fn() -> Time>>,
    double: Double,
    now: Rc<Cell<u64>>,
}

fn bench(behaviour: Behaviour) -> Bench {
    let double = Double::new(behaviour);
    let now = Rc::new(Cell::new(100_000));
    let clock = Rc::clone(&now);
    let clock: Box<dyn Fn() -> Time> = Box::new(move || Time::from_unix_millis(clock.get()));
    Bench {
        store: Guarded::new(double.clone(), clock, BUCKET),
        double,
        now,
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn a_swap_is_done_if_it_is_stored_whatever_the_platform_says() {
    for behaviour in EVERY {
        let Bench { store, double, .. } = bench(behaviour);
        let (a, b) = (bytes("a"), bytes("b"));
        for (expected, new) in [(None, &a), (Some(&a), &b)] {
            let swapped = block_on(store.swap(KEY, expected, new));
            let stored = double.values.borrow().get(KEY).cloned();
            if behaviour == Behaviour::LosesRequest {
                assert!(swapped.is_err(), "{behaviour:?}");
                double.values.borrow_mut().insert(KEY.into(), new.clone());
            } else {
                assert_eq!(swapped, Ok(Swap::Done), "{behaviour:?}");
                assert_eq!(stored.as_ref(), Some(new), "{behaviour:?}");
            }
        }
    }
}

#[test]
fn a_swap_from_another_value_is_a_conflict_that_shows_it() {
    for behaviour in EVERY {
        let Bench { store, double, .. } = bench(behaviour);
        double.values.borrow_mut().insert(KEY.into(), bytes("b"));
        for expected in [None, Some(&bytes("a"))] {
            let swapped = block_on(store.swap(KEY, expected, &bytes("c")));
            let conflict = Swap::Conflict(Some(bytes("b")));
            assert_eq!(swapped, Ok(conflict), "{behaviour:?} {expected:?}");
        }
    }
}

#[test]
fn a_swap_that_another_overtakes_is_a_conflict() {
    for behaviour in [
        Behaviour::Exact,
        Behaviour::Upserts,
        Behaviour::CallsConflict,
    ] {
        let Bench { store, double, .. } = bench(behaviour);
        double.values.borrow_mut().insert(KEY.into(), bytes("a"));
        *double.before_write.borrow_mut() = Some(Rc::new(|values| {
            values.insert(KEY.into(), bytes("theirs"));
        }));
        let swapped = block_on(store.swap(KEY, Some(&bytes("a")), &bytes("ours")));
        assert_eq!(
            swapped,
            Ok(Swap::Conflict(Some(bytes("theirs")))),
            "{behaviour:?}"
        );
    }
}

#[test]
fn guards_are_removed_once_the_cell_exists() {
    let Bench { store, double, .. } = bench(Behaviour::Exact);
    block_on(store.swap(KEY, None, &bytes("a"))).unwrap();
    assert!(double.counters.borrow().is_empty());
}

#[test]
fn one_creator_at_a_time_and_the_next_after_two_buckets() {
    let Bench { store, double, now } = bench(Behaviour::Upserts);
    // Another has won the guard of bucket 10 and died.
    block_on(double.increment("guard/ab/a")).unwrap();
    for (millis, retry_at) in [
        (100_000, Some(120_000)),
        (109_999, Some(120_000)),
        (110_000, None),
    ] {
        now.set(millis);
        let swapped = block_on(store.swap(KEY, None, &bytes("a"))).unwrap();
        let expected = match retry_at {
            Some(retry_at) => Swap::Busy {
                retry_at: Time::from_unix_millis(retry_at),
            },
            None => Swap::Done,
        };
        assert_eq!(swapped, expected, "{millis}");
    }
}

/// Two creators, one late in a bucket and one early in the next, hold different
/// guards of their own buckets. Only the shared one tells them apart.
#[test]
fn creators_on_either_side_of_a_buckets_edge_exclude_each_other() {
    let Bench { store, double, now } = bench(Behaviour::Upserts);
    now.set(109_999);
    let second = Guarded::new(double.clone(), || Time::from_unix_millis(110_000), BUCKET);
    // The second comes when the first has won, and not yet written.
    *double.before_write.borrow_mut() = Some(Rc::new({
        let double = double.clone();
        move |values| {
            assert!(values.is_empty());
            let other = Double {
                values: Rc::default(),
                ..double.clone()
            };
            let second = Guarded::new(other, || Time::from_unix_millis(110_000), BUCKET);
            let new = bytes("second");
            let swapped = second.swap(KEY, None, &new).now_or_never();
            let swapped = swapped.unwrap().unwrap();
            assert!(matches!(swapped, Swap::Busy { .. }), "{swapped:?}");
        }
    }));
    let swapped = block_on(store.swap(KEY, None, &bytes("first"))).unwrap();
    assert_eq!(swapped, Swap::Done);
    let swapped = block_on(second.swap(KEY, None, &bytes("second"))).unwrap();
    assert_eq!(swapped, Swap::Conflict(Some(bytes("first"))));
}

#[test]
fn a_creator_that_was_held_up_gives_up() {
    let double = Double::new(Behaviour::Upserts);
    // How long after its first look at the clock it takes its second.
    for (step, done) in [(0, true), (2_499, true), (2_500, false)] {
        let looks = Cell::new(0);
        double.values.borrow_mut().clear();
        double.counters.borrow_mut().clear();
        let clock = move || {
            looks.set(looks.get() + 1);
            Time::from_unix_millis(100_000 + (looks.get() - 1) * step)
        };
        let store = Guarded::new(double.clone(), clock, BUCKET);
        let swapped = block_on(store.swap(KEY, None, &bytes("a")));
        assert_eq!(swapped.is_ok(), done, "{step}: {swapped:?}");
        assert_eq!(double.values.borrow().is_empty(), !done, "{step}");
    }
}

/// An end of every guard's name.
const EVERY_GUARD: &str = "";

fn busy(millis: u64) -> Result<Swap, StoreError> {
    Ok(Swap::Busy {
        retry_at: Time::from_unix_millis(millis),
    })
}

#[test]
fn a_store_that_reads_and_does_not_count_has_failed_and_is_not_busy() {
    let Bench { store, double, now } = bench(Behaviour::Exact);
    double.uncountable.set(Some(EVERY_GUARD));
    let failed = Err(StoreError::new("the disk is full"));
    for (millis, expected) in [
        // It may be contention, for an eighth of a bucket.
        (100_000, busy(101_250)),
        (101_249, busy(101_250)),
        (101_250, failed.clone()),
        (109_999, failed),
        // That was long ago.
        (110_000, busy(111_250)),
    ] {
        now.set(millis);
        let swapped = block_on(store.swap(KEY, None, &bytes("a")));
        assert_eq!(swapped, expected, "{millis}");
    }
    double.uncountable.set(None);
    let swapped = block_on(store.swap(KEY, None, &bytes("a")));
    assert_eq!(swapped, Ok(Swap::Done));
}

/// Several nodes that create a key at once lock Spin's SQLite store for each other. One
/// that took this for a failure went on without the store: two requests for one page.
#[test]
fn a_store_that_says_that_it_is_contended_is_tried_for_longer() {
    let Bench { store, double, now } = bench(Behaviour::Exact);
    double.uncountable.set(Some(EVERY_GUARD));
    double.is_contended.set(true);
    let failed = Err(StoreError::contended("the disk is full"));
    for (millis, expected) in [
        (100_000, busy(101_250)),
        (101_250, busy(102_500)),
        (102_500, busy(103_750)),
        (104_999, busy(105_000)),
        (105_000, failed),
    ] {
        now.set(millis);
        let swapped = block_on(store.swap(KEY, None, &bytes("a")));
        assert_eq!(swapped, expected, "{millis}");
    }
}

#[test]
fn a_counter_that_fails_while_another_creates_the_key_is_contended() {
    let Bench { store, double, now } = bench(Behaviour::Exact);
    double.uncountable.set(Some(EVERY_GUARD));
    let swapped = block_on(store.swap(KEY, None, &bytes("a")));
    assert_eq!(swapped, busy(101_250));
    double.values.borrow_mut().insert(KEY.into(), bytes("b"));
    now.set(101_250);
    let swapped = block_on(store.swap(KEY, None, &bytes("a")));
    assert_eq!(swapped, Ok(Swap::Conflict(Some(bytes("b")))));
}

#[test]
fn a_guard_that_was_won_in_between_ends_the_suspicion() {
    let Bench { store, double, now } = bench(Behaviour::Exact);
    double.uncountable.set(Some(EVERY_GUARD));
    assert_eq!(block_on(store.swap(KEY, None, &bytes("a"))), busy(101_250));
    double.uncountable.set(None);
    block_on(store.swap(KEY, None, &bytes("a"))).unwrap();
    double.values.borrow_mut().clear();
    double.uncountable.set(Some(EVERY_GUARD));
    now.set(102_000);
    assert_eq!(block_on(store.swap(KEY, None, &bytes("a"))), busy(103_250));
}

#[test]
fn keys_whose_guard_fails_are_remembered_within_a_limit() {
    let Bench { store, double, .. } = bench(Behaviour::Exact);
    double.uncountable.set(Some(EVERY_GUARD));
    for key in 0..2 * UNCOUNTED_MAX {
        let key = format!("cell/{key}");
        assert_eq!(block_on(store.swap(&key, None, &bytes("a"))), busy(101_250));
    }
    assert_eq!(store.uncounted.borrow().len(), UNCOUNTED_MAX);
}

/// Else it would stay in the store for ever.
#[test]
fn a_creator_that_loses_the_second_guard_removes_the_first() {
    for uncountable in [None, Some("/b")] {
        let Bench { store, double, .. } = bench(Behaviour::Exact);
        // Another has the guards of the buckets 11 and 12.
        block_on(double.increment("guard/ab/b")).unwrap();
        double.uncountable.set(uncountable);
        let swapped = block_on(store.swap(KEY, None, &bytes("a")));
        assert!(matches!(swapped, Ok(Swap::Busy { .. })), "{swapped:?}");
        let counters = double.counters.borrow();
        let left: Vec<_> = counters.keys().collect();
        assert_eq!(left, ["guard/ab/b"], "{uncountable:?}");
    }
}
