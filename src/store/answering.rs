//! A [`KeyValue`] platform whose swaps stop the instance until they are over.
//!
//! Such a call cannot be given up. On Spin, a swap on a Redis that is away waits for one
//! to two minutes for a new connection, and all requests of the instance wait with it.
//! So a synchronous call is made only while the platform is known to answer: an
//! asynchronous call, which can be given up, has succeeded a moment ago. Otherwise one
//! goes first.

use super::{KeyValue, Said, StoreError, Values};
use crate::time::Time;
use bytes::Bytes;
use futures::future::{Either, select};
use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

/// For how long a success shows that the platform answers. Short: what fails within it
/// stops the instance. Several of the calls of one swap fit in.
pub const ANSWERS_FOR: Duration = Duration::from_millis(25);

/// Longest that a read takes. A visitor of a stored page waits for it where the instance
/// has nothing in memory yet, before it goes on without the store.
const READ_MAX: Duration = Duration::from_millis(900);

/// A read that took this long or longer, and was not given up, has stopped the instance.
/// On Spin's SQLite store it waited for another instance's write, which waits for a file
/// that is locked. One more write would do the same.
const STOPPED_MIN: Duration = Duration::from_secs(1);

/// For how long after that no synchronous call is made.
const LEFT_ALONE: Duration = Duration::from_secs(8);

/// After this many reads in a row that were given up, the store fails; before that, it may
/// have been slow for a moment.
const READS_GIVEN_UP_MAX: u32 = 3;

/// A synchronous call that says after this long or longer that the platform is contended
/// has waited in vain: the platform is locked, which is a failure.
const CONTENDED_MAX: Duration = Duration::from_secs(1);

/// The key that is read to find out whether the platform answers. It never has a value.
const PROBE_KEY: &str = "probe";

/// A platform that is asked asynchronously before it is asked synchronously.
#[derive(Debug)]
pub struct Answering<K, C, S> {
    kv: K,
    clock: C,
    sleep: S,
    /// When an asynchronous call last succeeded; none after a failure.
    answered: Cell<Option<Time>>,
    /// Reads in a row that were given up.
    given_up: Cell<u32>,
    /// When a read last stopped the instance.
    stopped_at: Cell<Option<Time>>,
}

impl<K, C, S, F> Answering<K, C, S>
where
    K: KeyValue,
    C: Fn() -> Time + 'static,
    S: Fn(Duration) -> F + 'static,
    F: Future<Output = ()>,
{
    /// Wraps `kv`. Its asynchronous calls are those of [`Values`] but
    /// [`names`](Values::names), its synchronous ones all others. `sleep` resolves after a
    /// duration.
    pub fn new(kv: K, clock: C, sleep: S) -> Self {
        Answering {
            kv,
            clock,
            sleep,
            answered: Cell::new(None),
            given_up: Cell::new(0),
            stopped_at: Cell::new(None),
        }
    }

    /// Reads a value, for at most [`READ_MAX`].
    async fn read(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let began = (self.clock)();
        let reading = pin!(self.kv.get(key));
        let timeout = pin!((self.sleep)(READ_MAX));
        match select(reading, timeout).await {
            Either::Left((result, _)) => {
                self.given_up.set(0);
                let now = (self.clock)();
                if now.since(began) >= STOPPED_MIN {
                    self.stopped_at.set(Some(now));
                }
                result
            }
            Either::Right(((), _)) => {
                let given_up = self.given_up.get().saturating_add(1);
                self.given_up.set(given_up);
                let message = format!("reading {key} took longer than {READ_MAX:?}");
                Err(match given_up {
                    ..READS_GIVEN_UP_MAX => StoreError::contended(message),
                    _ => StoreError::new(message),
                })
            }
        }
    }

    /// Makes an asynchronous call, and notes whether the platform answers. A call that is
    /// given up leaves the note as it was before: that it does not answer.
    async fn asking<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let result = call.await;
        self.answered.set(result.is_ok().then(|| (self.clock)()));
        result
    }

    /// Returns once the platform is known to answer. The caller bounds the time.
    async fn answers(&self) -> Result<(), StoreError> {
        let now = (self.clock)();
        let is_known = self
            .answered
            .get()
            .is_some_and(|at| at <= now && now.since(at) < ANSWERS_FOR);
        if is_known {
            return self.left_alone();
        }
        self.answered.set(None);
        self.left_alone()?;
        self.asking(self.read(PROBE_KEY)).await?;
        self.left_alone()
    }

    /// An error for a while after a read has stopped the instance.
    fn left_alone(&self) -> Result<(), StoreError> {
        let now = (self.clock)();
        // A clock that was set back must not put it off.
        let is_recent = |at: Time| at <= now && now.since(at) < LEFT_ALONE;
        match self.stopped_at.get().is_some_and(is_recent) {
            // Another instance may write meanwhile, and is waited for.
            true => Err(StoreError::contended(
                "a read has stopped this instance for more than a second: the store is not \
                 written for a while",
            )),
            false => Ok(()),
        }
    }

    /// Makes a synchronous call, once the platform is known to answer.
    async fn stopping<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.answers().await?;
        let began = (self.clock)();
        let result = call.await;
        if result.is_err() {
            self.answered.set(None);
        }
        let took = (self.clock)().since(began);
        result.map_err(
            |error| match error.is_contention() && took >= CONTENDED_MAX {
                true => StoreError::new(error.to_string()),
                false => error,
            },
        )
    }
}

impl<K, C, S, F> Values for Answering<K, C, S>
where
    K: KeyValue,
    C: Fn() -> Time + 'static,
    S: Fn(Duration) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.asking(self.read(key)).await
    }

    async fn set(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.asking(self.kv.set(key, value)).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.asking(self.kv.remove(key)).await
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        self.stopping(self.kv.names(each)).await
    }
}

impl<K, C, S, F> KeyValue for Answering<K, C, S>
where
    K: KeyValue,
    C: Fn() -> Time + 'static,
    S: Fn(Duration) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Said, StoreError> {
        self.stopping(self.kv.compare_and_set(key, expected, new))
            .await
    }

    async fn increment(&self, key: &str) -> Result<i64, StoreError> {
        self.stopping(self.kv.increment(key)).await
    }

    fn is_worn(&self) -> bool {
        self.kv.is_worn()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use futures::FutureExt;
    use futures::executor::block_on;
    use std::rc::Rc;

    /// What the platform does, and what it was asked.
    #[derive(Default)]
    struct World {
        now: Cell<u64>,
        is_away: Cell<bool>,
        fails: Cell<bool>,
        /// How long a read takes, whatever its time limit.
        read_takes: Cell<u64>,
        /// How long a synchronous call takes until it says that the platform is contended.
        contended_after: Cell<Option<u64>>,
        asked: Cell<usize>,
        /// Synchronous calls while it was away: each would stop the instance.
        stopped: Cell<usize>,
    }

    struct Platform(Rc<World>);

    impl Platform {
        async fn ask(&self) -> Result<(), StoreError> {
            self.0.asked.set(self.0.asked.get() + 1);
            if self.0.is_away.get() {
                std::future::pending::<()>().await;
            }
            match self.0.fails.get() {
                true => Err(StoreError::new("down")),
                false => Ok(()),
            }
        }

        fn synchronous(&self) {
            let is_away = self.0.is_away.get() || self.0.fails.get();
            self.0
                .stopped
                .set(self.0.stopped.get() + usize::from(is_away));
        }
    }

    impl Values for Platform {
        async fn get(&self, _: &str) -> Result<Option<Bytes>, StoreError> {
            pass(&self.0, self.0.read_takes.get());
            self.ask().await.map(|()| None)
        }

        async fn set(&self, _: &str, _: &Bytes) -> Result<(), StoreError> {
            self.ask().await
        }

        async fn remove(&self, _: &str) -> Result<(), StoreError> {
            self.ask().await
        }

        async fn names(&self, _: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
            self.synchronous();
            Ok(true)
        }
    }

    impl KeyValue for Platform {
        async fn compare_and_set(
            &self,
            _: &str,
            _: Option<&Bytes>,
            _: &Bytes,
        ) -> Result<Said, StoreError> {
            self.synchronous();
            Ok(Said::Done)
        }

        async fn increment(&self, _: &str) -> Result<i64, StoreError> {
            self.synchronous();
            match self.0.contended_after.get() {
                Some(millis) => {
                    pass(&self.0, millis);
                    Err(StoreError::contended("locked"))
                }
                None => Ok(1),
            }
        }
    }

    type Under<C> = Answering<Platform, C, fn(Duration) -> std::future::Pending<()>>;

    fn answering() -> (Rc<World>, Under<impl Fn() -> Time>) {
        let world = Rc::new(World::default());
        let of_clock = Rc::clone(&world);
        let clock = move || Time::from_unix_millis(1_000_000 + of_clock.now.get());
        let never: fn(Duration) -> std::future::Pending<()> = |_| std::future::pending();
        let platform = Platform(Rc::clone(&world));
        (world, Answering::new(platform, clock, never))
    }

    fn pass(world: &World, millis: u64) {
        world.now.set(world.now.get() + millis);
    }

    #[test]
    fn a_store_that_is_away_is_never_asked_synchronously() {
        for fails in [false, true] {
            let (world, store) = answering();
            block_on(store.get("k")).unwrap();
            pass(&world, 25);
            world.fails.set(fails);
            world.is_away.set(!fails);
            let new = Bytes::from_static(b"v");
            // Polled once: the caller gives up a call that does not end.
            let swapped = store.compare_and_set("k", None, &new).now_or_never();
            assert!(swapped.is_none_or(|swapped| swapped.is_err()));
            let sum = store.increment("k").now_or_never();
            assert!(sum.is_none_or(|sum| sum.is_err()));
            let mut each = |_: &str| {};
            let listed = store.names(&mut each).now_or_never();
            assert!(listed.is_none_or(|listed| listed.is_err()));
            assert_eq!(world.stopped.get(), 0);
            // It is back: one read goes before the swap.
            world.fails.set(false);
            world.is_away.set(false);
            let asked = world.asked.get();
            block_on(store.compare_and_set("k", None, &new)).unwrap();
            assert_eq!(world.asked.get(), asked + 1);
        }
    }

    #[test]
    fn a_store_that_answered_a_moment_ago_is_not_asked_first() {
        let (world, store) = answering();
        block_on(store.get("k")).unwrap();
        for _ in 0..3 {
            pass(&world, 8);
            block_on(store.increment("k")).unwrap();
        }
        assert_eq!(world.asked.get(), 1);
        // A synchronous call shows nothing about the next.
        pass(&world, 8);
        block_on(store.increment("k")).unwrap();
        assert_eq!(world.asked.get(), 2);
    }

    #[test]
    fn reads_that_hang_are_given_up_and_the_third_in_a_row_is_a_failure() {
        let world = Rc::new(World::default());
        let now = Time::from_unix_millis(1_000_000);
        // Time passes at once.
        let sleep = |_| std::future::ready(());
        let store = Answering::new(Platform(Rc::clone(&world)), move || now, sleep);
        for round in 0..2 {
            world.is_away.set(true);
            for (read, is_contention) in [(1, true), (2, true), (3, false), (4, false)] {
                let error = block_on(store.get("k")).unwrap_err();
                assert_eq!(error.is_contention(), is_contention, "{round} {read}");
            }
            world.is_away.set(false);
            block_on(store.get("k")).unwrap();
        }
    }

    /// Spin's SQLite store, whose file another process has locked: each write stops its
    /// instance, and with it all that read, for five seconds.
    #[test]
    fn after_a_read_that_stopped_the_instance_nothing_is_written_for_a_while() {
        for (millis, is_stopped) in [(999, false), (1_000, true), (5_000, true)] {
            let (world, store) = answering();
            world.read_takes.set(millis);
            block_on(store.get("k")).unwrap();
            world.read_takes.set(0);
            assert_eq!(block_on(store.increment("k")).is_err(), is_stopped);
            pass(&world, 8_000);
            block_on(store.increment("k")).unwrap();
            // The read that goes first shows it as well.
            pass(&world, 25);
            world.read_takes.set(millis);
            assert_eq!(block_on(store.increment("k")).is_err(), is_stopped);
        }
    }

    #[test]
    fn a_platform_that_is_contended_for_long_has_failed() {
        for (millis, is_contention) in [(0, true), (999, true), (1_000, false), (5_000, false)] {
            let (world, store) = answering();
            world.contended_after.set(Some(millis));
            let error = block_on(store.increment("k")).unwrap_err();
            assert_eq!(error.is_contention(), is_contention, "{millis}");
            assert_eq!(error.to_string(), "locked");
        }
    }

    #[test]
    fn a_failure_and_a_clock_that_is_set_back_show_that_nothing_is_known() {
        let (world, store) = answering();
        pass(&world, 1_000);
        block_on(store.get("k")).unwrap();
        world.fails.set(true);
        assert!(block_on(store.set("k", &Bytes::new())).is_err());
        world.fails.set(false);
        block_on(store.increment("k")).unwrap();
        assert_eq!(world.asked.get(), 3);
        world.now.set(0);
        block_on(store.increment("k")).unwrap();
        assert_eq!(world.asked.get(), 4);
    }
}
