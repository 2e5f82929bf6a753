//! Purges, and trying again those that the store has not taken.
//!
//! A purge is for all nodes, so the store has to have it. While the store fails,
//! one task of the instance works off the [queue](queue::PurgeQueue) of purges in
//! rounds, with a pause before each. A round ends at the first purge that finds
//! the store failing: while the store does not answer, a round costs one
//! operation, however many purges are waiting.

pub(super) mod queue;

pub(super) use queue::PURGE_ROUNDS;

use super::health::Urgency;
use super::names::cell_id;
use super::{Cells, Loaded, Settled, doubled};
use crate::cell::transition::{self, Purge};
use crate::store::STORE_TIMEOUT;
use crate::store::health::PAUSE_FIRST;
use crate::time::Time;
use crate::world::{Platform, event};
use futures::future::{Either, select};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// The longest pause between two rounds. It begins with [`PAUSE_FIRST`], doubles
/// with each round, and is cut at random, because the purges of several instances can
/// fail because of each other.
pub(super) const PURGE_PAUSE_MAX: Duration = Duration::from_secs(8);

/// How long a purge waits for a store that has just failed.
pub(super) const PAUSED_PATIENCE: Duration = Duration::from_millis(250);

/// How far a purge has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// The store has it, or has nothing to purge: it holds for all nodes.
    Stored,
    /// The store fails. The purge holds for this instance, which tries the store
    /// again for a minute or two, if it lives that long, and logs `purge-lost` if
    /// that did not help, or if too many purges are waiting. Ask again to be sure.
    Pending,
}

impl Purged {
    /// How far two purges have come.
    #[must_use]
    pub fn and(self, other: Purged) -> Self {
        match (self, other) {
            (Purged::Stored, Purged::Stored) => Purged::Stored,
            (Purged::Pending, _) | (_, Purged::Pending) => Purged::Pending,
        }
    }
}

impl<P: Platform> Cells<P> {
    /// Purges the cell of a key, if there is one, in the instance's own store and
    /// in the shared one. While the shared store fails, the attempt is repeated
    /// behind the answer: other nodes may serve what they should not until it
    /// succeeds.
    pub(crate) async fn purge(self: &Rc<Self>, key: String, purge: Purge) -> Purged {
        self.purge_loaded(self.load_local(&key).await, purge).await;
        if purge != Purge::Soft {
            self.recent.borrow_mut().forget(&cell_id(&key));
        }
        // A store that has just failed is tried as well, because a purge is for
        // others, but each purge waits for it only a moment.
        let patience = match self.store_is_paused() {
            true => PAUSED_PATIENCE,
            false => STORE_TIMEOUT.saturating_mul(2),
        };
        {
            let waiting = self.purges.borrow().find(&key);
            let timeout = self.platform.sleep(patience);
            let purging = self.purge_shared(&key, purge);
            let stored = match select(pin!(purging), pin!(timeout)).await {
                Either::Left((stored, _)) => stored,
                Either::Right(_) => false,
            };
            if stored {
                // This one has done what the earlier one was to do.
                if let Some(waiting) = waiting
                    && waiting.purge <= purge
                {
                    self.purges.borrow_mut().settle(&waiting);
                }
                return Purged::Stored;
            }
        }
        let lost = self.purges.borrow_mut().add(&key, purge);
        if let Some(key) = lost {
            self.note_purge_lost(&key);
        }
        if !self.retries_purges.replace(true) {
            let retrying = Retrying(Rc::clone(self));
            self.platform
                .spawn(async move { retrying.0.retry_purges().await });
        }
        Purged::Pending
    }

    /// Works off the queue of purges, until it is empty.
    async fn retry_purges(&self) {
        let mut rounds = 0_u32;
        while !self.purges.borrow().is_empty() {
            let pause = doubled(PAUSE_FIRST, rounds).min(PURGE_PAUSE_MAX);
            self.platform.sleep(self.up_to(pause)).await;
            rounds = rounds.saturating_add(1);
            let due = self.purges.borrow_mut().begin_round();
            for waiting in due {
                // Tried even while the store is left alone: a purge is for others.
                if self.purge_shared(&waiting.key, waiting.purge).await {
                    self.purges.borrow_mut().settle(&waiting);
                } else {
                    self.purges.borrow_mut().note_failure(&waiting);
                    if self.store_is_paused() {
                        break;
                    }
                }
            }
            let lost = self.purges.borrow_mut().end_round();
            for key in lost {
                self.note_purge_lost(&key);
            }
        }
    }

    /// Whether the purge holds in the shared store.
    async fn purge_shared(&self, key: &str, purge: Purge) -> bool {
        match self.load_shared(key, Urgency::Forced).await {
            // A newer version's cell cannot be purged by this one.
            Ok(loaded) if loaded.is_newer => false,
            Ok(loaded) => self.purge_loaded(loaded, purge).await == Settled::Done,
            Err(_) => false,
        }
    }

    /// Purges a cell; done where there is none.
    async fn purge_loaded(&self, loaded: Loaded, purge: Purge) -> Settled {
        self.apply(loaded, |cell| {
            cell.map(|cell| transition::purge(cell, purge, self.stamp()))
        })
        .await
    }

    /// Whether what was asked for at `asked` may be older than one of the marks.
    /// Both were timed by two nodes' clocks: what lies within their skew counts
    /// as older.
    pub(crate) fn predates(&self, asked: Time, marks: &[Option<Time>]) -> bool {
        let skew = self.config.lease.clock_skew;
        let mut marks = marks.iter().flatten();
        marks.any(|mark| asked <= mark.plus(skew))
    }

    fn note_purge_lost(&self, key: &str) {
        self.platform
            .log(&event("purge-lost", &[("key", key.into())]));
    }
}

/// The task that works off the queue. When it ends, or the host drops it, the
/// next purge that has to wait starts another.
struct Retrying<P: Platform>(Rc<Cells<P>>);

impl<P: Platform> Drop for Retrying<P> {
    fn drop(&mut self) {
        self.0.retries_purges.set(false);
    }
}

#[cfg(test)]
mod tests;
