//! A [`Store`] of a [`KeyValue`] platform.
//!
//! Two measures, both always on, because a component cannot see which platform
//! it was given, and wherever one of the two is inexact the other is exact:
//!
//! - **Read-back.** Whatever the platform says of a swap, what it stores
//!   decides. Redis on Spin calls every swap a conflict, applied or not.
//! - **The guard.** From absent, SQLite on Spin lets two creators both succeed,
//!   the later one silently. So a creator first has to hear 1 from two guard
//!   counters: that of the current time bucket and that of the next. Two nodes
//!   on either side of a bucket's edge, or with clocks apart, contend for the
//!   counter that they share, so one bucket alone would not exclude them. A
//!   creator that dies between guard and cell holds others off until its two
//!   buckets are over.
//!
//! Two creators that share no counter are at least a bucket less the clock skew
//! apart. What remains: a creation that reaches the store later than that after
//! its guards were won could overwrite a successor's cell. The creator gives up
//! if a quarter of a bucket has passed when it comes to swapping, so only a host
//! that stalls for half a bucket less the skew inside the store's own call can
//! do that; the cost is one lost entry and one more origin request.

use super::{KeyValue, Said, Store, StoreError, Swap};
use crate::time::{Time, millis};
use bytes::Bytes;
use std::time::Duration;

/// How often a creator that was held up after it had won its guards tries again:
/// being slow for a moment is no failure of the store.
const CREATE_ATTEMPTS: usize = 3;

/// A [`Store`] made of a [`KeyValue`] platform and a clock.
#[derive(Debug)]
pub struct Guarded<K, C> {
    kv: K,
    clock: C,
    /// Milliseconds; never zero.
    bucket: u64,
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
        }
    }

    /// Becomes the one creator of `key`, or says when to try again.
    async fn win(&self, key: &str) -> Result<Won, Time> {
        let start = (self.clock)();
        let bucket = start.as_unix_millis() / self.bucket;
        let retry_at = Time::from_unix_millis(bucket.saturating_add(2).saturating_mul(self.bucket));
        let mut won = Won {
            deadline: start.plus(Duration::from_millis(self.bucket / 4)),
            guards: Vec::with_capacity(2),
        };
        for bucket in [bucket, bucket.saturating_add(1)] {
            let guard = guard_key(key, bucket);
            match self.kv.increment(&guard).await {
                Ok(1) => won.guards.push(guard),
                Ok(_) => return Err(retry_at),
                // Some stores fail to count when several do it at once, and
                // then somebody is at it. Where it is the store that fails, the
                // read that follows says so.
                Err(_) => {
                    // Else its own first guard would keep it from the next try.
                    self.clean_up(won).await;
                    return Err(start.plus(Duration::from_millis(self.bucket / 8)));
                }
            }
        }
        Ok(won)
    }

    /// Becomes the one creator of `key` while it is absent and with time left to
    /// create it, or says how the swap has ended instead.
    async fn win_in_time(&self, key: &str) -> Result<Result<Won, Swap>, StoreError> {
        for _ in 0..CREATE_ATTEMPTS {
            let won = match self.win(key).await {
                Ok(won) => won,
                Err(retry_at) => {
                    return Ok(Err(match self.kv.get(key).await? {
                        Some(current) => Swap::Conflict(Some(current)),
                        None => Swap::Busy { retry_at },
                    }));
                }
            };
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

    /// Guards are litter once the cell exists: whoever wins one afterwards
    /// reads the cell again and finds it. And they are in the way when the
    /// winner has not tried to create it. A guard that cannot be removed costs
    /// a few bytes or some waiting, so errors are let go.
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
