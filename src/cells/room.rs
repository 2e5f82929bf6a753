//! Whether the shared store has room for new cells.
//!
//! The sweeper removes what is too much. Where it cannot keep up, because the platform bounds
//! the writes of an instance or cells come too fast, the store would grow without bound. So
//! while the last round had to end although there were a quarter more cells than `limits.keys`,
//! no cells are created: new pages are shared and kept in the memory of the instance, as while
//! the store does not write. What is in the store is served and refreshed as before.
//!
//! An instance knows it from the sweeper's mark, which it reads anyway while cells are created.

use super::Cells;
use crate::time::Time;
use crate::world::{Platform, event};
use std::cell::Cell;
use std::time::Duration;

/// How long it counts that the store was full.
const FULL_FOR: Duration = Duration::from_secs(2);

/// The log says once in this time that the store is full.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What an instance knows of it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// When it was last found to be full.
    full: Cell<Option<Time>>,
    /// When the log last said so.
    told: Cell<Option<Time>>,
}

impl Room {
    /// Notes whether the store is full. Returns whether the log is to say so.
    fn note(&self, is_full: bool, now: Time) -> bool {
        self.full.set(is_full.then_some(now));
        let is_told = |at: Time| now >= at && now.since(at) < TOLD_EVERY;
        if !is_full || self.told.get().is_some_and(is_told) {
            return false;
        }
        self.told.set(Some(now));
        true
    }

    /// Whether no cells are to be created at `now`.
    fn is_full(&self, now: Time) -> bool {
        let counts = |at: Time| now >= at && now.since(at) < FULL_FOR;
        self.full.get().is_some_and(counts)
    }
}

impl<P: Platform> Cells<P> {
    /// Notes whether the last round of the sweeper has left far too many cells.
    pub(super) fn note_room(&self, overfull: bool) {
        if self.room.note(overfull, self.platform.now()) {
            self.platform.log(&event(
                "store-full",
                &[
                    ("limit", self.config.limits.keys.into()),
                    (
                        "effect",
                        "pages that are not in the store are cached in the memory of the \
                         instances until the sweeper has made room"
                            .into(),
                    ),
                    ("remedy", "raise limits.keys if this lasts".into()),
                ],
            ));
        }
    }

    /// A round is due, and this instance cannot make it: it creates no cells until another
    /// has had time to.
    pub(super) fn await_sweep(&self) {
        self.room.full.set(Some(self.platform.now()));
    }

    /// Whether no cells are created for now.
    pub(super) fn is_full(&self) -> bool {
        self.room.is_full(self.platform.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_unix_millis(1_000_000 + millis)
    }

    #[test]
    fn a_store_counts_as_full_for_a_moment_after_a_round_that_had_to_end_early() {
        let room = Room::default();
        assert!(!room.is_full(at(0)));
        assert!(!room.note(false, at(0)));
        assert!(!room.is_full(at(0)));
        assert!(room.note(true, at(0)));
        assert!(room.is_full(at(1_999)) && !room.is_full(at(2_000)));
        assert!(!room.note(true, at(3_000)), "the log has said so");
        assert!(room.is_full(at(3_000)));
        assert!(!room.note(false, at(3_100)));
        assert!(!room.is_full(at(3_100)));
        assert!(room.note(true, at(60_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_room() {
        let room = Room::default();
        assert!(room.note(true, at(3_600_000)));
        assert!(!room.is_full(at(0)));
        assert!(room.note(true, at(0)));
    }
}
