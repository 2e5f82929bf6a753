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
use std::cell::Cell;
use std::time::Duration;

/// For how long a success shows that the platform answers. Short: what fails within it
/// stops the instance. Several of the calls of one swap fit in.
pub const ANSWERS_FOR: Duration = Duration::from_millis(25);

/// A synchronous call that says after this long or longer that the platform is contended
/// has waited in vain: the platform is locked, which is a failure.
const CONTENDED_MAX: Duration = Duration::from_secs(1);

/// The key that is read to find out whether the platform answers. It never has a value.
const PROBE_KEY: &str = "probe";

/// A platform that is asked asynchronously before it is asked synchronously.
#[derive(Debug)]
pub struct Answering<K, C> {
    kv: K,
    clock: C,
    /// When an asynchronous call last succeeded; none after a failure.
    answered: Cell<Option<Time>>,
}

impl<K: KeyValue, C: Fn() -> Time + 'static> Answering<K, C> {
    /// Wraps `kv`. Its asynchronous calls are those of [`Values`] but
    /// [`names`](Values::names), its synchronous ones all others.
    pub fn new(kv: K, clock: C) -> Self {
        Answering {
            kv,
            clock,
            answered: Cell::new(None),
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
            return Ok(());
        }
        self.answered.set(None);
        self.asking(self.kv.get(PROBE_KEY)).await.map(drop)
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

impl<K: KeyValue, C: Fn() -> Time + 'static> Values for Answering<K, C> {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.asking(self.kv.get(key)).await
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

impl<K: KeyValue, C: Fn() -> Time + 'static> KeyValue for Answering<K, C> {
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

    fn answering() -> (Rc<World>, Answering<Platform, impl Fn() -> Time>) {
        let world = Rc::new(World::default());
        let of_clock = Rc::clone(&world);
        let clock = move || Time::from_unix_millis(1_000_000 + of_clock.now.get());
        (
            Rc::clone(&world),
            Answering::new(Platform(Rc::clone(&world)), clock),
        )
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
