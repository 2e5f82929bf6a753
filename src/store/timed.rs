//! A [`Store`] of a platform that has neither swap nor counter: Fischer's timed
//! protocol.
//!
//! The platform (Akamai Functions, for one) copies writes between its regions in
//! its own time, and the last write that it takes wins. All that is known is a
//! `write_delay` Δ, which the operator states: within Δ of the call a write is
//! what every reader sees, unless a later one is. A swap is then
//!
//! 1. read, and compare: another value than expected is a conflict. The write is
//!    issued within a *patience* P (Δ/4, or a little more for a short Δ) after the
//!    beginning of the read; if reading took longer, it begins again, once;
//! 2. write, without looking what is there now;
//! 3. wait until 2Δ + P after the write was issued;
//! 4. read: ours is done;
//! 5. another's is a conflict, once it has stayed for another 2Δ + P.
//!
//! # Why that is a swap
//!
//! Say that our write was issued at time `w`. Whoever begins to read at `w + Δ` or
//! later sees it, or one that came after it, and so does not overwrite it without
//! having seen it. A rival that has not seen it began to read before `w + Δ`,
//! issued its write before `w + Δ + P`, and that is visible to all before
//! `w + 2Δ + P`. So what is read then is decided: if it is ours, no write is on
//! its way that was made without knowing ours, and all that will follow are made
//! from it. That holds for every rival too, so of several writes made from one
//! value at most one is told [`Swap::Done`].
//!
//! What is read in step 4 may also be a third's, made from ours before we knew
//! whether ours had won. The caller looks for itself in the value of a conflict,
//! as it has to with every store, and takes what it finds there for decided. It
//! need not be: a fourth may have overwritten it, having seen our rival's write
//! only. Hence step 5: what is read at `t` and again at `t + 2Δ + P` is decided,
//! by the same argument with `t` for `w`. Where it has changed again the outcome
//! is called unknown, which takes three races in a row.
//!
//! Until all is decided others may already read what will lose. They find a lease that is
//! respected for nothing, or an entry that the origin did make: neither breaks a
//! promise, and neither may be called done.
//!
//! # What it needs
//!
//! - Writes are visible within Δ of the call. Beyond it two may be told done: it
//!   elects a few and not one, and a purge is not known everywhere yet when it is
//!   acknowledged.
//! - A write is not held up between the call and the platform for longer than Δ,
//!   and clocks are not set back by more than P while a swap is read.
//! - `lease.clock_skew` covers Δ beside the skew of the clocks: a holder may
//!   publish up to its deadline, and whoever takes over, a margin after it, must
//!   have seen that. Without, such a publish loses against its successor's claim,
//!   and the origin has one more request.
//! - `lease.duration` of at least 15 Δ: a renewal is given a sixth of it, and
//!   takes 2Δ + P and two calls.
//!
//! # Within the shield's patience
//!
//! The shield gives an operation up after [`STORE_TIMEOUT`], and takes what it
//! reads then for the outcome. So a swap that has not issued its write two
//! patiences after its beginning fails without writing: 2P + 2 (2Δ + P) = 5Δ after
//! its beginning all is decided. [`WRITE_DELAY_MAX`] keeps that under the timeout,
//! with time left for the last read.

use super::{Reach, STORE_TIMEOUT, Store, StoreError, Swap, Values};
use crate::time::Time;
use bytes::Bytes;
use futures::future::{Either, select};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// The largest write delay with which a swap is decided before the shield gives
/// it up.
pub const WRITE_DELAY_MAX: Duration = Duration::from_millis(500);

/// What part of the write delay may pass between looking and writing.
const PATIENCE_PART: u32 = 4;

/// Shortest patience: a read takes its time however fast writes spread.
const PATIENCE_MIN: Duration = Duration::from_millis(50);

/// How often a swap looks, if looking takes longer than the patience.
const READ_ATTEMPTS: u32 = 2;

/// After this many swaps in a row that read too slowly, the store is what is slow, and
/// not this instance, which was busy with something else for a moment.
const SLOW_LOOKS_MAX: u32 = 8;

/// How often a value that must be there is looked for during a write delay.
const LOOKS: u32 = 4;

/// Time for the last read of a swap, before the shield gives it up.
const LAST_READ: Duration = Duration::from_millis(500);

const _: () = assert!(
    WRITE_DELAY_MAX.as_millis() * (4 * PATIENCE_PART + 2 + READ_ATTEMPTS) as u128
        / PATIENCE_PART as u128
        + LAST_READ.as_millis()
        <= STORE_TIMEOUT.as_millis(),
    "a swap must be decided before it is given up"
);

/// A [`Store`] made of a platform that only keeps values, a clock, and a way to
/// wait.
#[derive(Debug)]
pub struct Timed<V, C, S> {
    values: V,
    clock: C,
    sleep: S,
    write_delay: Duration,
    /// Swaps in a row that read too slowly.
    slow_looks: Cell<u32>,
}

/// A write delay is longer than [`WRITE_DELAY_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteDelayTooLong(
    /// The delay that was asked for.
    pub Duration,
);

impl fmt::Display for WriteDelayTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a write delay of {:?} is too long: a swap would not be decided before it is given \
             up; write at most {WRITE_DELAY_MAX:?}",
            self.0
        )
    }
}

impl std::error::Error for WriteDelayTooLong {}

impl<V, C, S, F> Timed<V, C, S>
where
    V: Values,
    C: Fn() -> Time + 'static,
    S: Fn(Duration) -> F + 'static,
    F: Future<Output = ()>,
{
    /// Wraps `values`, whose writes are visible to all within `write_delay`, the
    /// same on all nodes. `sleep` resolves after a duration, by the same measure
    /// as `clock`.
    ///
    /// # Errors
    ///
    /// If `write_delay` is longer than [`WRITE_DELAY_MAX`].
    pub fn new(
        values: V,
        clock: C,
        sleep: S,
        write_delay: Duration,
    ) -> Result<Self, WriteDelayTooLong> {
        if write_delay > WRITE_DELAY_MAX {
            return Err(WriteDelayTooLong(write_delay));
        }
        Ok(Timed {
            values,
            clock,
            sleep,
            write_delay,
            slow_looks: Cell::new(0),
        })
    }

    fn patience(&self) -> Duration {
        (self.write_delay / PATIENCE_PART).max(PATIENCE_MIN)
    }

    /// How long after a write was issued all that was written without knowing of
    /// it is visible.
    fn decided(&self) -> Duration {
        self.write_delay * 2 + self.patience()
    }

    /// The value under `key` as it was read within the patience from now on, so
    /// that a write that is issued at once is decided on a view no older.
    async fn look(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let begin = (self.clock)();
        let patience = self.patience();
        for _ in 0..READ_ATTEMPTS {
            let start = (self.clock)();
            let current = self.values.get(key).await?;
            let now = (self.clock)();
            if now.since(begin) > patience * READ_ATTEMPTS {
                break;
            }
            // Strictly: a clock shows whole milliseconds.
            if now.since(start) < patience {
                self.slow_looks.set(0);
                return Ok(current);
            }
        }
        let slow = self.slow_looks.get().saturating_add(1);
        self.slow_looks.set(slow);
        let message = format!("reading {key} took longer than {patience:?}: nothing was written");
        Err(match slow {
            ..SLOW_LOOKS_MAX => StoreError::contended(message),
            _ => StoreError::new(message),
        })
    }
}

impl<V, C, S, F> Store for Timed<V, C, S>
where
    V: Values,
    C: Fn() -> Time + 'static,
    S: Fn(Duration) -> F + 'static,
    F: Future<Output = ()>,
{
    fn reach(&self) -> Reach {
        Reach::WithinWriteDelay
    }

    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.values.get(key).await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        let current = self.look(key).await?;
        if current.as_ref() != expected {
            return Ok(Swap::Conflict(current));
        }
        // Nothing may be awaited between looking and writing. The wait counts from
        // here, and is for the write's reply as well: that says nothing which the
        // last read does not say better.
        let decided = pin!((self.sleep)(self.decided()));
        let wrote = match select(pin!(self.values.set(key, new)), decided).await {
            Either::Left((wrote, decided)) => {
                decided.await;
                wrote
            }
            Either::Right(((), _)) => Err(StoreError::new(format!(
                "the store did not say whether it wrote {key}"
            ))),
        };
        let current = self.values.get(key).await?;
        if current.as_ref() == Some(new) {
            return Ok(Swap::Done);
        }
        if current.as_ref() != expected {
            (self.sleep)(self.decided()).await;
            return if self.values.get(key).await? == current {
                Ok(Swap::Conflict(current))
            } else {
                Err(StoreError::contended(format!("{key} changes too often")))
            };
        }
        // Neither ours nor another's: it was lost, or is later than it may be.
        Err(wrote.err().unwrap_or_else(|| {
            StoreError::new(format!(
                "the write of {key} was not visible after its delay"
            ))
        }))
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.values.set(key, value).await
    }

    async fn load_put(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        for _ in 0..LOOKS {
            if let Some(value) = self.values.get(key).await? {
                return Ok(Some(value));
            }
            (self.sleep)(self.write_delay / LOOKS).await;
        }
        self.values.get(key).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.values.remove(key).await
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        self.values.names(each).await
    }
}

#[cfg(test)]
mod tests;
