//! A [`Store`] of a [`KeyValue`] platform.
//!
//! It takes two measures on every platform, because a component cannot see which
//! one it has. Where one of them is inexact, the other is exact:
//!
//! - **Read-back.** What the platform stores decides whether a swap happened, not
//!   what it says. Redis on Spin calls every swap a conflict, applied or not.
//! - **The guard.** Where a key is absent, SQLite on Spin lets two creators both
//!   succeed, and the later one overwrites the earlier. So a creator first
//!   increments two guard counters, that of the current time bucket and that of the
//!   next, and goes on only if both are 1. One bucket would not be enough: two nodes
//!   on either side of a bucket's edge, or whose clocks differ, share only one
//!   counter. A creator that dies between guard and cell holds others off until its
//!   two buckets are over.
//!
//! A counter that cannot be counted is contended on some stores, where another
//! creator is about to create the key; on others the store does not write. One
//! failure does not tell which, unless the store says so. If the key is still absent a
//! while later, and its guard fails again, nobody is creating it: that is a failure of
//! the store.
//!
//! Two creators that share no counter are at least a bucket less the clock skew
//! apart. A creation that reaches the store later than that after its guards were won
//! could still overwrite a successor's cell. A creator gives up if a quarter of a
//! bucket has passed before its swap, so this takes a host that stalls for half a
//! bucket less the skew inside the store's own call. It costs one entry and one more
//! origin request.

use super::{KeyValue, Said, Store, StoreError, Swap};
use crate::time::{Time, millis};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

/// How often a creator that was held up after it had won its guards tries again:
/// being slow for a moment is no failure of the store.
const CREATE_ATTEMPTS: usize = 3;

/// Most keys whose guard has failed that an instance remembers. If it forgets one,
/// its next creator waits once more before it hears of the failure.
const UNCOUNTED_MAX: usize = 64;

/// A [`Store`] made of a [`KeyValue`] platform and a clock.
#[derive(Debug)]
pub struct Guarded<K, C> {
    kv: K,
    clock: C,
    /// Milliseconds; never zero.
    bucket: u64,
    /// The keys whose guard could not be counted while they were absent, and since
    /// when; the latest last.
    uncounted: RefCell<VecDeque<(String, Time)>>,
}

/// Why a creator has not won its guards.
enum Lost {
    /// Another has won one of them.
    To {
        /// When both are over.
        retry_at: Time,
    },
    /// One could not be counted.
    Uncounted(StoreError),
}

impl<K: KeyValue, C: Fn() -> Time + 'static> Guarded<K, C> {
    /// Wraps `kv`. `bucket` is the length of a guard's time bucket, the same on
    /// all nodes, and at least twice the clock skew:
    /// [`guard_bucket`](crate::config::LeaseConfig::guard_bucket).
    pub fn new(kv: K, clock: C, bucket: Duration) -> Self {
        Guarded {
            kv,
            clock,
            bucket: millis(bucket).max(1),
            uncounted: RefCell::default(),
        }
    }

    /// Becomes the one creator of `key`, or says why not.
    async fn win(&self, key: &str) -> Result<Won, Lost> {
        let start = (self.clock)();
        let bucket = start.as_unix_millis() / self.bucket;
        let retry_at = Time::from_unix_millis(bucket.saturating_add(2).saturating_mul(self.bucket));
        let mut won = Won {
            deadline: start.plus(Duration::from_millis(self.bucket / 4)),
            guards: Vec::with_capacity(2),
        };
        for bucket in [bucket, bucket.saturating_add(1)] {
            let guard = guard_key(key, bucket);
            let lost = match self.kv.increment(&guard).await {
                Ok(1) => {
                    won.guards.push(guard);
                    continue;
                }
                Ok(_) => Lost::To { retry_at },
                Err(error) => Lost::Uncounted(error),
            };
            // The first guard would keep this creator from its next try, and would
            // stay in the store.
            self.clean_up(won).await;
            return Err(lost);
        }
        Ok(won)
    }

    /// Becomes the one creator of `key` while it is absent and with time left to
    /// create it, or says how the swap has ended instead.
    async fn win_in_time(&self, key: &str) -> Result<Result<Won, Swap>, StoreError> {
        for _ in 0..CREATE_ATTEMPTS {
            let won = match self.win(key).await {
                Ok(won) => won,
                Err(lost) => {
                    return Ok(Err(match self.kv.get(key).await? {
                        Some(current) => Swap::Conflict(Some(current)),
                        None => Swap::Busy {
                            retry_at: self.retry_at(key, lost)?,
                        },
                    }));
                }
            };
            self.uncounted
                .borrow_mut()
                .retain(|(known, _)| known != key);
            // Again, now that others are held off: the key may have been created,
            // and its guards removed, since the caller looked.
            let current = self.kv.get(key).await;
            if matches!(current, Ok(None)) && (self.clock)() < won.deadline {
                return Ok(Ok(won));
            }
            // Nothing was tried under the guards: others need not wait until they
            // are over.
            self.clean_up(won).await;
            if let Some(current) = current? {
                return Ok(Err(Swap::Conflict(Some(current))));
            }
        }
        Err(StoreError::new(format!(
            "creating {key} took too long after its guard was won, {CREATE_ATTEMPTS} times"
        )))
    }

    /// When to try again to create `key`, which is absent and whose guards were
    /// lost.
    fn retry_at(&self, key: &str, lost: Lost) -> Result<Time, StoreError> {
        let error = match lost {
            Lost::To { retry_at } => return Ok(retry_at),
            Lost::Uncounted(error) => error,
        };
        let now = (self.clock)();
        // Long enough for another creator to end, and short enough for a visitor. A store
        // that calls it contention by itself is believed for longer.
        let pause = Duration::from_millis(self.bucket / 8);
        let patience = match error.is_contention() {
            true => Duration::from_millis(self.bucket / 2),
            false => pause,
        };
        let memory = Duration::from_millis(self.bucket);
        let mut uncounted = self.uncounted.borrow_mut();
        // A clock that was set back makes `since` a time in the future.
        uncounted.retain(|(_, since)| *since <= now && now < since.plus(memory));
        if let Some((_, since)) = uncounted.iter().find(|(known, _)| known == key) {
            let end = since.plus(patience);
            return if now < end {
                Ok(end.min(now.plus(pause)))
            } else {
                Err(error)
            };
        }
        if uncounted.len() >= UNCOUNTED_MAX {
            uncounted.pop_front();
        }
        uncounted.push_back((key.to_owned(), now));
        Ok(now.plus(pause))
    }

    /// Guards are garbage once the cell exists: a creator that wins one afterwards
    /// reads the cell again and finds it. They are in the way if their winner does
    /// not create the cell. A guard that cannot be removed costs a few bytes or
    /// some waiting, so errors are ignored.
    async fn clean_up(&self, won: Won) {
        for guard in won.guards {
            let _ = self.kv.remove(&guard).await;
        }
    }
}

/// The right to create a key.
struct Won {
    deadline: Time,
    guards: Vec<String>,
}

fn guard_key(key: &str, bucket: u64) -> String {
    let cell = key.rsplit('/').next().unwrap_or(key);
    format!("guard/{cell}/{bucket:x}")
}

impl<K: KeyValue, C: Fn() -> Time + 'static> Store for Guarded<K, C> {
    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.kv.get(key).await
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.kv.set(key, value).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.kv.remove(key).await
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        self.kv.names(each).await
    }

    fn is_worn(&self) -> bool {
        self.kv.is_worn()
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        let won = match expected {
            Some(_) => None,
            None => match self.win_in_time(key).await? {
                Ok(won) => Some(won),
                Err(swap) => return Ok(swap),
            },
        };
        // An error here leaves the outcome unknown, as a lie does: read back.
        let said = self.kv.compare_and_set(key, expected, new).await;
        let current = self.kv.get(key).await?;
        let done = current.as_ref() == Some(new);
        if let (Some(won), true) = (won, current.is_some()) {
            self.clean_up(won).await;
        }
        match (done, said) {
            (true, _) => Ok(Swap::Done),
            (false, Ok(Said::Done | Said::Conflict)) => Ok(Swap::Conflict(current)),
            (false, Err(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
