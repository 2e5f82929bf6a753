//! The numbers that this instance has counted ([`crate::counts`]), on their way to the store.
//!
//! Counting costs no visitor a wait: a task writes behind the answer, at most once in
//! [`WRITE_AFTER`] and instance. Where an instance ends with its request there is no later
//! write that could take many numbers together. There requests that stay in the store are not
//! counted, and of those that reach the origin, or are refused, one in [`SAMPLE`] writes, and
//! counts for all.

use super::health::Urgency;
use super::names::counts_id;
use super::{Backing, Cells, doubled};
use crate::budget::Unreadable;
use crate::counts::{Counts, SHARDS, Shard};
use crate::store::Swap;
use crate::world::{Platform, RequestReason};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// How long numbers wait for others before they are written. An instance lives on as long
/// after its last request, where the host lets it.
const WRITE_AFTER: Duration = Duration::from_secs(2);

/// One in this many counts for all, where an instance ends with its request.
const SAMPLE: u32 = 8;

/// How often a write that lost to another instance's is repeated.
const SWAP_ATTEMPTS: u32 = 4;

/// First pause before such a repetition; doubles, and is cut at random.
const SWAP_PAUSE: Duration = Duration::from_millis(16);

/// What this instance has counted and the store does not have yet.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pending: RefCell<Counts>,
    /// Whether a task writes.
    is_written: Cell<bool>,
}

/// How the numbers come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// The host counts, and the shield does not.
    ByHost,
    /// The shield counts each request.
    Each,
    /// The shield counts what reaches the origin, and estimates it from a sample.
    Sampled,
}

impl<P: Platform> Cells<P> {
    /// How requests are counted here.
    pub(crate) fn counting(&self) -> Counting {
        match (self.platform.counts_requests(), P::ENDS_WITH_REQUEST) {
            (true, _) => Counting::ByHost,
            (false, false) => Counting::Each,
            (false, true) => Counting::Sampled,
        }
    }

    /// Counts a visitor's request by what became of it, and by why it was refused if it was.
    pub(crate) fn count_request(self: &Rc<Self>, outcome: &str, refused: Option<&str>) {
        let counting = self.counting();
        if counting == Counting::Sampled && refused.is_none() {
            return;
        }
        self.count(|counts, number| {
            if counting == Counting::Each {
                counts.add_requests(outcome, number);
            }
            if let Some(why) = refused {
                counts.add_refused(why, number);
            }
        });
    }

    /// Counts a request to the origin.
    pub(crate) fn count_sent(self: &Rc<Self>, reason: RequestReason, outcome: &str) {
        self.count(|counts, number| counts.add_origin(reason.token(), outcome, number));
    }

    fn count(self: &Rc<Self>, add: impl FnOnce(&mut Counts, u64)) {
        let (number, pause) = match self.counting() {
            Counting::ByHost => return,
            Counting::Each => (1, WRITE_AFTER),
            Counting::Sampled if self.platform.random().is_multiple_of(u128::from(SAMPLE)) => {
                (u64::from(SAMPLE), Duration::ZERO)
            }
            Counting::Sampled => return,
        };
        add(&mut self.counters.pending.borrow_mut(), number);
        if !self.counters.is_written.replace(true) {
            let writing = Writing(Rc::clone(self));
            self.platform.spawn(async move {
                if !pause.is_zero() {
                    writing.0.platform.sleep(pause).await;
                }
                writing.0.write_counts().await;
            });
        }
    }

    /// Adds what is pending to a shard. What the store does not take stays pending.
    async fn write_counts(&self) {
        let counts = std::mem::take(&mut *self.counters.pending.borrow_mut());
        let shard = u32::try_from(self.platform.random() % u128::from(SHARDS)).unwrap_or(0);
        if !self.add_to_shard(shard, &counts).await {
            self.counters.pending.borrow_mut().add_all(&counts);
        }
    }

    async fn add_to_shard(&self, number: u32, counts: &Counts) -> bool {
        let name = counts_id(&self.origin, number);
        for attempt in 0..SWAP_ATTEMPTS {
            if let Some(doublings) = attempt.checked_sub(1) {
                let pause = self.up_to(doubled(SWAP_PAUSE, doublings));
                self.platform.sleep(pause).await;
            }
            let loading = self.load_value(Backing::Shared, &name, Urgency::Usual);
            let Ok(raw) = loading.await else {
                return false;
            };
            let shard = match raw.as_ref().map(|raw| Shard::decode(raw)) {
                // A newer version's numbers are left to that version.
                Some(Err(Unreadable::Newer)) => return true,
                Some(Ok(shard)) => shard,
                Some(Err(Unreadable::Corrupt)) | None => Shard::default(),
            };
            let shard = shard.with(counts, self.nonce(), self.platform.now());
            let Some(new) = shard.encode() else {
                return true;
            };
            match self.swap_record(&name, raw.as_ref(), &new).await {
                Ok(Swap::Done) => return true,
                Ok(Swap::Conflict(Some(current))) if current == new => return true,
                Ok(Swap::Conflict(_) | Swap::Busy { .. }) => {}
                // Whether it was written is not known. Numbers rather go missing than that
                // they count twice.
                Err(_) => return true,
            }
        }
        false
    }

    /// What all nodes have counted, and what this instance has not written yet; none while
    /// the store does not tell.
    pub(crate) async fn counted(&self) -> Option<Shard> {
        let mut all = Shard::default();
        for number in 0..SHARDS {
            let name = counts_id(&self.origin, number);
            let loading = self.load_value(Backing::Shared, &name, Urgency::Usual);
            let raw = loading.await.ok()?;
            if let Some(Ok(shard)) = raw.as_ref().map(|raw| Shard::decode(raw)) {
                all = all.and(&shard);
            }
        }
        all.counts.add_all(&self.counters.pending.borrow());
        Some(all)
    }
}

/// The task that writes. When it ends, or the host drops it, the next number starts another.
struct Writing<P: Platform>(Rc<Cells<P>>);

impl<P: Platform> Drop for Writing<P> {
    fn drop(&mut self) {
        self.0.counters.is_written.set(false);
    }
}

#[cfg(test)]
mod tests;
