//! The way back: one task looks whether the store works again, and gives it what it lacks.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use leeward::cell::transition::{Purge, Stamp, purge};
use leeward::cell::{Cell, Nonce, codec};
use leeward::purges::{self, Unreadable};
use leeward::time::Time;
use tokio::time::{Instant, sleep};

use super::node::{Expected, Offer, Part};
use super::share::is_record;
use super::{Inner, OPERATION_MAX, bounded, now};
use crate::store::{HOST_KEYS, StoreError, StoreResult};

/// How long a look at a store that failed takes at most.
pub(super) const LOOK_MAX: Duration = OPERATION_MAX;

/// The pause before the first look. It doubles with each that finds a store that fails.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Most rounds in which values are offered to a store that is back. What is written during
/// the last of them is dropped.
const ROUNDS_MAX: usize = 4;

/// How often a swap is tried again in which another has come first.
const SWAPS_MAX: usize = 8;

/// Read and written to find out whether the store works.
const LOOKED_AT: &str = "probe";

/// The purges, by the mark that each leaves.
const PURGES: [Purge; 3] = [Purge::Soft, Purge::Invalidate, Purge::Hard];

impl Inner {
    /// Looks whether the store works again. Returns whether it does.
    async fn look(&self) -> bool {
        if bounded(LOOK_MAX, self.backend.get(LOOKED_AT))
            .await
            .is_err()
        {
            return false;
        }
        // One that does not write may still read.
        let read = self.state().node.reads_fail();
        let key = format!("{HOST_KEYS}{LOOKED_AT}");
        if let Err(error) = bounded(LOOK_MAX, self.backend.set(&key, b"")).await {
            if read {
                self.state().node.read_again();
                self.say_recovered(Part::Reads);
            }
            self.say_failed(Part::Writes, "put", &error.to_string());
            return false;
        }
        if !self.give_back().await {
            return false;
        }
        self.say_recovered(Part::Reads);
        self.say_recovered(Part::Writes);
        true
    }

    /// Offers the store what was written meanwhile, and works with it from here on. Returns
    /// false if it fails.
    async fn give_back(&self) -> bool {
        for _ in 0..ROUNDS_MAX {
            let mut offers = self.state().node.offers();
            offers.retain(|offer| !is_record(&offer.key));
            if offers.is_empty() {
                break;
            }
            for offer in offers {
                if matches!(self.give(&offer).await, Err(StoreError::Down(_))) {
                    return false;
                }
            }
        }
        for is_last in (0..SWAPS_MAX).rev().map(|left| left == 0) {
            let mut records = self.state().node.offers();
            records.retain(|offer| is_record(&offer.key));
            for record in &records {
                if matches!(self.give_record(record).await, Err(StoreError::Down(_))) {
                    return false;
                }
            }
            let mut state = self.state();
            // Unless an instance has taken a slot meanwhile, which the store does not know.
            let is_same = |it: &Offer| state.node.answer(&it.key).as_ref() == Some(&it.value);
            if is_last || records.iter().all(is_same) {
                state.node.work_again();
                state.is_looked_for = false;
                break;
            }
        }
        true
    }

    async fn give(&self, offer: &Offer) -> StoreResult<()> {
        let (key, value) = (&offer.key, &offer.value);
        let is_taken = match &offer.instead_of {
            Expected::Anything => {
                bounded(LOOK_MAX, self.backend.set(key, value)).await?;
                true
            }
            Expected::Value(before) => {
                let swapped = self.backend.replace(key, before.as_deref(), value);
                // An operation that was given up may have been done.
                let is_taken = bounded(LOOK_MAX, swapped).await?
                    || bounded(LOOK_MAX, self.backend.get(key)).await?.as_deref() == Some(value);
                match (is_taken, key.split_once('/')) {
                    (false, Some(("cell", _))) => {
                        self.purge_again(key, before.as_ref(), value).await?;
                        false
                    }
                    (false, Some(("purges", _))) => self.join_purges(key, value).await?,
                    _ => is_taken,
                }
            }
        };
        let mut state = self.state();
        state.node.has_offered(offer, is_taken, Instant::now());
        Ok(())
    }

    /// Applies the purges of a cell, which the store has not taken, to what it has.
    async fn purge_again(&self, key: &str, before: Option<&Bytes>, new: &Bytes) -> StoreResult<()> {
        let decoded = |raw: &Bytes| codec::decode_any(raw).ok();
        let made = purges_of(before.and_then(decoded).as_ref(), decoded(new).as_ref());
        if made.is_empty() {
            return Ok(());
        }
        for _ in 0..SWAPS_MAX {
            let stored = bounded(LOOK_MAX, self.backend.get(key)).await?;
            let Some(stored) = stored.map(Bytes::from) else {
                return Ok(());
            };
            let Some(mut cell) = decoded(&stored) else {
                return Ok(());
            };
            for &(kind, now) in &made {
                let nonce = Nonce::new(fastrand::u128(..));
                cell = purge(&cell, kind, Stamp { nonce, now });
            }
            let Ok(purged) = codec::encode(&cell) else {
                return Ok(());
            };
            let swapped = self.backend.replace(key, Some(&stored), &purged);
            if bounded(LOOK_MAX, swapped).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds the purges of more than one URL, which the store has not taken, to those that it
    /// has. Returns whether it has them all.
    async fn join_purges(&self, key: &str, new: &Bytes) -> StoreResult<bool> {
        let Ok(mine) = purges::decode(new) else {
            return Ok(false);
        };
        for _ in 0..SWAPS_MAX {
            let stored = bounded(LOOK_MAX, self.backend.get(key)).await?;
            let mut record = match stored.as_deref().map(purges::decode) {
                Some(Ok(record)) => record,
                // A newer version's record is left to that version.
                Some(Err(Unreadable::Newer)) => return Ok(false),
                Some(Err(Unreadable::Corrupt)) | None => purges::Record::default(),
            };
            record.add_all(&mine);
            record.version = record.version.max(mine.version).saturating_add(1);
            record.nonce = Some(Nonce::new(fastrand::u128(..)));
            let Some(joined) = purges::encode(&record) else {
                return Ok(false);
            };
            let swapped = self.backend.replace(key, stored.as_deref(), &joined);
            if bounded(LOOK_MAX, swapped).await? {
                // This node's own count until it reads what there is now.
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Brings what is in flight into the store's record.
    async fn give_record(&self, mine: &Offer) -> StoreResult<()> {
        for _ in 0..SWAPS_MAX {
            let stored = bounded(LOOK_MAX, self.backend.get(&mine.key)).await?;
            let restored = {
                let state = self.state();
                let share = self.share.get();
                share.restored(stored.as_deref(), &mine.value, &state.own, now())
            };
            let Some(restored) = restored else {
                break;
            };
            let swapped = self
                .backend
                .replace(&mine.key, stored.as_deref(), &restored);
            if bounded(LOOK_MAX, swapped).await? {
                break;
            }
        }
        Ok(())
    }
}

/// The purges that made the one cell from the other, with their times, the weakest first.
fn purges_of(before: Option<&Cell>, new: Option<&Cell>) -> Vec<(Purge, Time)> {
    let mark = |cell: &Cell, purge: Purge| match purge {
        Purge::Soft => cell.marks.softened,
        Purge::Invalidate => cell.marks.invalidated,
        Purge::Hard => cell.marks.purged,
    };
    let made = |purge: Purge| {
        let made = mark(new?, purge)?;
        let known = before.and_then(|before| mark(before, purge));
        (known < Some(made)).then_some((purge, made))
    };
    PURGES.into_iter().filter_map(made).collect()
}

/// Looks for a store that failed until it works again, or until nobody uses it any more.
pub(super) async fn look(store: Weak<Inner>) {
    let mut pause = PAUSE_FIRST;
    loop {
        sleep(pause).await;
        let Some(inner) = store.upgrade() else {
            return;
        };
        if inner.look().await {
            return;
        }
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}
