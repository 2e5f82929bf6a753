#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

const DELAY: Duration = Duration::from_millis(200);
const KEY: &str = "cell/ab";

/// Virtual time in milliseconds: it goes on when all wait.
#[derive(Clone, Default)]
struct World {
    now: Rc<Cell<u64>>,
    timers: Rc<RefCell<Vec<u64>>>,
    /// Values in the order in which the platform took them, by whom, and from
    /// when on others see each.
    written: Rc<RefCell<Vec<(Bytes, u8, u64)>>>,
    /// Who reads and writes; it sees its own writes at once.
    who: u8,
    /// How long the next writes take to be visible, in milliseconds.
    delays: Rc<RefCell<VecDeque<u64>>>,
    /// How long the next reads take, in milliseconds.
    reads: Rc<RefCell<VecDeque<u64>>>,
    /// Whether the next write is lost, with an error.
    loses: Rc<Cell<bool>>,
}

impl World {
    async fn sleep(self, duration: Duration) {
        let at = self.now.get() + crate::time::millis(duration);
        self.timers.borrow_mut().push(at);
        std::future::poll_fn(|_| match self.now.get() >= at {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        for _ in 0..1_000 {
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done;
            }
            let now = self.now.get();
            let timers = &mut *self.timers.borrow_mut();
            timers.retain(|at| *at > now);
            self.now.set(timers.iter().copied().min().unwrap());
        }
        panic!("it does not come to an end");
    }

    fn store(
        &self,
    ) -> Timed<World, impl Fn() -> Time + use<>, impl Fn(Duration) -> Sleeping + use<>> {
        let (now, world) = (Rc::clone(&self.now), self.clone());
        let clock = move || Time::from_unix_millis(now.get());
        let sleep = move |duration| Box::pin(world.clone().sleep(duration)) as Sleeping;
        Timed::new(self.clone(), clock, sleep, DELAY).unwrap()
    }
}

type Sleeping = std::pin::Pin<Box<dyn Future<Output = ()>>>;

impl Values for World {
    async fn get(&self, _: &str) -> Result<Option<Bytes>, StoreError> {
        let takes = self.reads.borrow_mut().pop_front().unwrap_or(2);
        self.clone().sleep(Duration::from_millis(takes)).await;
        let written = self.written.borrow();
        let mut visible = written
            .iter()
            .rev()
            .filter(|(_, by, at)| *by == self.who || *at <= self.now.get());
        Ok(visible.next().map(|(value, ..)| value.clone()))
    }

    async fn set(&self, _: &str, value: &Bytes) -> Result<(), StoreError> {
        if self.loses.take() {
            return Err(StoreError::new("lost"));
        }
        let delay = self.delays.borrow_mut().pop_front().unwrap_or(0);
        let visible = self.now.get() + delay;
        self.written
            .borrow_mut()
            .push((value.clone(), self.who, visible));
        self.clone().sleep(Duration::from_millis(2)).await;
        Ok(())
    }

    async fn remove(&self, _: &str) -> Result<(), StoreError> {
        self.written.borrow_mut().clear();
        Ok(())
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Two swaps from nothing, the second `apart` milliseconds after the first.
fn race(world: &World, apart: u64) -> [Result<Swap, StoreError>; 2] {
    let other = World {
        who: 1,
        ..world.clone()
    };
    let (first, second) = (world.store(), other.store());
    let (a, b) = (bytes("a"), bytes("b"));
    let later = async {
        world.clone().sleep(Duration::from_millis(apart)).await;
        second.swap(KEY, None, &b).await
    };
    let (first, second) =
        world.run(async { futures::future::join(first.swap(KEY, None, &a), later).await });
    [first, second]
}

#[test]
fn of_two_at_once_one_is_done_whatever_the_delays() {
    for apart in (0..800).step_by(25) {
        for delays in [[0, 0], [200, 0], [0, 200], [200, 200], [90, 140]] {
            let world = World::default();
            world.delays.borrow_mut().extend(delays);
            let swaps = race(&world, apart);
            let last = world.written.borrow().last().unwrap().0.clone();
            let (won, lost) = match last == bytes("a") {
                true => (&swaps[0], &swaps[1]),
                false => (&swaps[1], &swaps[0]),
            };
            assert_eq!(won, &Ok(Swap::Done), "{apart} {delays:?}");
            let conflict = Swap::Conflict(Some(last));
            assert_eq!(lost, &Ok(conflict), "{apart} {delays:?}");
        }
    }
}

#[test]
fn a_write_visible_beyond_the_delay_elects_two() {
    let world = World::default();
    world.delays.borrow_mut().extend([1_000, 0]);
    // The second comes when the first is done, and must not find it absent.
    assert_eq!(race(&world, 500), [Ok(Swap::Done), Ok(Swap::Done)]);
}

#[test]
fn a_conflict_shows_what_is_there_and_writes_nothing() {
    let world = World::default();
    world.written.borrow_mut().push((bytes("theirs"), 1, 0));
    let swapped = world.run(async {
        let store = world.store();
        store.swap(KEY, Some(&bytes("old")), &bytes("ours")).await
    });
    assert_eq!(swapped, Ok(Swap::Conflict(Some(bytes("theirs")))));
    assert_eq!(world.written.borrow().len(), 1);
}

#[test]
fn a_read_that_takes_too_long_begins_anew_and_then_fails_without_writing() {
    for (reads, done) in [([60, 2], true), ([60, 60], false), ([150, 2], false)] {
        let world = World::default();
        world.reads.borrow_mut().extend(reads);
        let swapped = world.run(async { world.store().swap(KEY, None, &bytes("a")).await });
        assert_eq!(swapped.is_ok(), done, "{reads:?}");
        assert_eq!(world.written.borrow().is_empty(), !done, "{reads:?}");
    }
}

#[test]
fn slow_reads_are_a_busy_instance_until_there_are_many_in_a_row() {
    let world = World::default();
    let store = world.store();
    for number in 1..=SLOW_LOOKS_MAX {
        world.reads.borrow_mut().extend([60, 60]);
        let new = bytes("a");
        let swapped = world.run(async { store.swap(KEY, None, &new).await });
        let is_contention = swapped.unwrap_err().is_contention();
        assert_eq!(is_contention, number < SLOW_LOOKS_MAX, "{number}");
    }
}

#[test]
fn an_error_of_the_write_leaves_the_outcome_to_the_read() {
    let world = World::default();
    world.loses.set(true);
    let swapped = world.run(async { world.store().swap(KEY, None, &bytes("a")).await });
    assert_eq!(swapped, Err(StoreError::new("lost")));
    // Not before all is decided: what is read then is the outcome.
    let decided = DELAY * 2 + DELAY / PATIENCE_PART;
    assert!(u128::from(world.now.get()) >= decided.as_millis());
}

#[test]
fn a_put_that_is_not_visible_yet_is_waited_for() {
    let world = World::default();
    world.delays.borrow_mut().push_back(150);
    let loaded = world.run(async {
        world.store().put(KEY, &bytes("chunk")).await.unwrap();
        let other = World {
            who: 1,
            ..world.clone()
        };
        let store = other.store();
        assert_eq!(store.load(KEY).await, Ok(None));
        store.load_put(KEY).await
    });
    assert_eq!(loaded, Ok(Some(bytes("chunk"))));
}

#[test]
fn a_delay_that_no_swap_could_wait_for_is_refused() {
    let make = |delay| {
        let clock = || Time::default();
        let sleep = |_| std::future::ready(());
        Timed::new(World::default(), clock, sleep, delay).map(|_| ())
    };
    assert_eq!(make(WRITE_DELAY_MAX), Ok(()));
    let longer = WRITE_DELAY_MAX + Duration::from_millis(1);
    assert_eq!(make(longer), Err(WriteDelayTooLong(longer)));
    let text = WriteDelayTooLong(longer).to_string();
    assert!(text.ends_with("write at most 500ms"), "{text}");
}
