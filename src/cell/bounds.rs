//! What a time in a cell may claim.
//!
//! A store may hold a cell of a node whose clock was wrong, or a forged one. If its
//! times were believed, a lease or a mark could lock a key for as long as it likes,
//! and an entry could stay fresh for as long. No node whose clock is right within
//! the skew writes a time beyond these bounds, so a time beyond them is wrong.
//!
//! A deadline that is wrong counts as over. It is not moved to the bound: the bound
//! moves with the clock, so the next look would move the deadline again, and it
//! would never come.

use super::Cell;
use crate::time::Time;
use std::time::Duration;

/// Most failures in a row that count, and most leases in a row that were not settled.
/// The delay doubles with each, and reaches its maximum earlier.
pub const FAILURES_MAX: u32 = 32;

/// What an operator's settings allow a cell to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Longest that a lease lasts unless renewed, and the clock skew once more: a
    /// margin for the time between reading a clock and storing what it said.
    pub lease: Duration,
    /// Longest that a retry mark holds, for whatever reason.
    pub retry_max: Duration,
    /// Longest that a pass mark holds, of a question or for credentials.
    pub pass_max: Duration,
    /// How far the clocks of two nodes may be apart.
    pub clock_skew: Duration,
}

impl Cell {
    /// The cell without the times that cannot be right at `now`. The caller reads
    /// the clock after it has read the cell: a lease that was renewed between the
    /// two would seem to last too long.
    ///
    /// - A lease, a retry mark, a pass mark or a pause after leases that were not settled
    ///   that would last for longer than it can is over. The lease's holder and draft, the
    ///   failures and the number of leases stay.
    /// - A pass mark that was set in the future, a doubt that began in the future and
    ///   a selecting field that was seen in the future are of `now`, the skew added.
    /// - An entry that was requested or received in the future is stale from `now`
    ///   on, with its windows for stale use. It counts as requested before every
    ///   purge, and before every visitor came: when it was is not known.
    /// - A purge in the future was made at `now`, the skew added: no entry that was
    ///   fetched before it is used. The marks of a key with variants say so at every
    ///   look until the cell is written.
    /// - An entry that is being written and was requested or received in the future is
    ///   not read before it is published.
    /// - What became an orphan in the future did so at `now`, the skew added.
    ///
    /// Swaps compare the bytes that were read, so a cell that is decided on in this
    /// form replaces the stored one as usual.
    #[must_use]
    pub fn bounded(mut self, now: Time, bounds: &Bounds) -> Cell {
        // What the clock of another node may show.
        let latest = now.plus(bounds.clock_skew);
        if let Some(lease) = &mut self.lease
            && lease.deadline > latest.plus(bounds.lease)
        {
            lease.deadline = now.minus(bounds.clock_skew);
        }
        if let Some(draft) = self.lease.as_mut().and_then(|lease| lease.draft.as_mut()) {
            draft.done = draft.done.min(draft.chunks);
        }
        // Readers have to wait until it is published.
        self.coming = self.coming.filter(|coming| {
            let entry = &coming.entry;
            entry.freshness.response_time.max(entry.request_time) <= latest
        });
        if let Some(retry) = &mut self.marks.retry {
            if retry.not_before > latest.plus(bounds.retry_max) {
                retry.not_before = now;
            }
            retry.failures = retry.failures.min(FAILURES_MAX);
        }
        if let Some(unsettled) = &mut self.marks.unsettled {
            // The pause begins at the end of a lease.
            if unsettled.not_before > latest.plus(bounds.lease).plus(bounds.retry_max) {
                unsettled.not_before = now;
            }
            unsettled.times = unsettled.times.min(FAILURES_MAX);
        }
        let passed_at_most = latest.plus(bounds.pass_max);
        if let Some(pass) = &mut self.marks.pass {
            if pass.until > passed_at_most {
                pass.until = now;
            }
            pass.since = pass.since.min(latest);
        }
        for mark in [
            &mut self.marks.credentials_pass_until,
            &mut self.marks.for_everyone_until,
        ] {
            *mark = mark.map(|until| match until > passed_at_most {
                true => now,
                false => until,
            });
        }
        if let Some(doubt) = &mut self.marks.doubt {
            doubt.since = doubt.since.min(latest);
        }
        for selecting in &mut self.marks.vary {
            selecting.seen = selecting.seen.min(latest);
        }
        if let Some(entry) = &mut self.entry
            && entry.freshness.response_time.max(entry.request_time) > latest
        {
            entry.request_time = Time::default();
            entry.freshness.response_time = now;
            entry.freshness.end_at(now);
        }
        let marks = &mut self.marks;
        for mark in [
            &mut marks.invalidated,
            &mut marks.purged,
            &mut marks.softened,
            &mut marks.swept,
        ] {
            *mark = mark.map(|mark| mark.min(latest));
        }
        for orphan in &mut self.orphans {
            orphan.since = orphan.since.min(latest);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::cell::SELECTING_KEPT;
    use crate::cell::codec::tests::any_cell;
    use crate::cell::transition::{self, Claim, NoLease, Stamp};
    use crate::cell::{
        Body, Coming, Doubt, Draft, Entry, Lease, Marks, Nonce, Orphan, Pass, Retry, Selecting,
        Unsettled,
    };
    use crate::semantics::{Audience, Freshness};
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use proptest::prelude::*;

    const SKEW: Duration = Duration::from_millis(100);
    const LEASE: Duration = Duration::from_secs(5);
    const RETRY: Duration = Duration::from_secs(60);
    const PASS: Duration = Duration::from_secs(120);
    const DAY: Duration = Duration::from_secs(86_400);
    const BOUNDS: Bounds = Bounds {
        lease: Duration::from_millis(5_100),
        retry_max: RETRY,
        pass_max: PASS,
        clock_skew: SKEW,
    };
    const NOW: Time = Time::from_unix_millis(1_000_000_000_000);

    /// A cell as a node writes it whose clock shows `now`, with everything in it.
    fn written_at(now: Time) -> Cell {
        Cell {
            version: 1,
            nonce: Nonce::new(1),
            key: "k".to_owned(),
            entry: Some(Entry {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                request_time: now,
                fetch_millis: 0,
                freshness: Freshness {
                    lifetime_ms: 5_000,
                    initial_age_ms: 10,
                    response_time: now,
                    stale_while_revalidate_ms: 1_000,
                    stale_if_error_ms: 2_000,
                    must_revalidate: false,
                    no_cache: false,
                    immutable: false,
                    alone: 0,
                    each_use: false,
                },
                lease: Nonce::new(2),
                invalidated: false,
                audience: Audience::Everyone,
                under: Default::default(),
                body: Body::Inline(Bytes::new()),
            }),
            lease: Some(Lease {
                holder: Nonce::new(3),
                start: now,
                deadline: now.plus(LEASE),
                revoked: false,
                draft: None,
            }),
            marks: Marks {
                pass: Some(Pass {
                    until: now.plus(PASS),
                    since: now,
                    times: 2,
                }),
                retry: Some(Retry {
                    not_before: now.plus(RETRY),
                    failures: 3,
                    doubted: false,
                }),
                doubt: Some(Doubt {
                    times: 2,
                    since: now,
                }),
                unsettled: Some(Unsettled {
                    times: 4,
                    not_before: now.plus(BOUNDS.lease).plus(RETRY),
                }),
                vary: vec![Selecting {
                    name: "dnt".to_owned(),
                    seen: now,
                }],
                credentials_pass_until: Some(now.plus(PASS)),
                for_everyone_until: Some(now.plus(PASS)),
                invalidated: Some(now),
                purged: Some(now),
                softened: Some(now),
                ..Marks::default()
            },
            orphans: vec![Orphan {
                body: Nonce::new(4),
                chunks: 1,
                since: now,
            }],
            coming: None,
        }
    }

    /// The cell of a node whose clock is a day ahead.
    fn a_day_ahead() -> Cell {
        written_at(NOW.plus(DAY)).bounded(NOW, &BOUNDS)
    }

    fn claim(cell: &Cell) -> Result<Cell, NoLease> {
        let claim = Claim {
            holder: Nonce::new(9),
            now: NOW,
            duration: LEASE,
            clock_skew: SKEW,
            backoff: transition::Backoff::default(),
            random: 0,
        };
        transition::lease(Some(cell), "k", None, &claim, Nonce::new(10))
    }

    #[test]
    fn a_cell_of_a_clock_within_the_skew_is_as_it_was() {
        for now in [NOW.minus(DAY), NOW.minus(SKEW), NOW, NOW.plus(SKEW)] {
            let cell = written_at(now);
            assert_eq!(cell.clone().bounded(NOW, &BOUNDS), cell, "{now}");
        }
    }

    #[test]
    fn a_lease_of_a_clock_that_is_a_day_ahead_is_over() {
        let mut cell = a_day_ahead();
        cell.marks.retry = None;
        cell.marks.unsettled = None;
        assert!(!cell.lease.unwrap().is_live(NOW, SKEW));
        assert_eq!(cell.lease.unwrap().holder, Nonce::new(3));
        assert!(claim(&cell).is_ok());
    }

    #[test]
    fn a_retry_mark_of_a_clock_that_is_a_day_ahead_is_over() {
        let mut cell = a_day_ahead();
        cell.lease = None;
        assert!(claim(&cell).is_ok());
        // The next failure is still the fourth.
        assert_eq!(cell.marks.retry.unwrap().failures, 3);
    }

    #[test]
    fn a_pass_mark_of_a_clock_that_is_a_day_ahead_is_over() {
        let pass = a_day_ahead().marks.pass.unwrap();
        assert!(pass.until <= NOW);
        // The next one is still the third, and the pause after it has an end.
        assert_eq!((pass.times, pass.since), (2, NOW.plus(SKEW)));
    }

    #[test]
    fn credentials_are_not_passed_for_longer_than_a_pass_mark_lasts() {
        let marks = a_day_ahead().marks;
        assert!(marks.credentials_pass_until.unwrap() <= NOW);
        assert!(marks.for_everyone_until.unwrap() <= NOW);
    }

    #[test]
    fn a_doubt_of_a_clock_that_is_a_day_ahead_is_settled_in_time() {
        let doubt = a_day_ahead().marks.doubt.unwrap();
        assert_eq!((doubt.times, doubt.since), (2, NOW.plus(SKEW)));
        let now = NOW.plus(SKEW).plus(Doubt::SPAN);
        assert!(Doubt::after(Some(doubt), now).is_settled(now));
    }

    #[test]
    fn a_selecting_field_of_a_clock_that_is_a_day_ahead_is_forgotten_in_time() {
        let cell = a_day_ahead();
        assert_eq!(cell.marks.vary[0].seen, NOW.plus(SKEW));
        let stamp = Stamp {
            nonce: Nonce::new(10),
            now: NOW.plus(SKEW).plus(SELECTING_KEPT),
        };
        let learned = transition::learn(Some(&cell), "k", &[], stamp).unwrap();
        assert_eq!(learned.marks.vary, []);
    }

    #[test]
    fn an_entry_of_a_clock_that_is_a_day_ahead_is_stale_and_may_be_used_as_such() {
        let entry = a_day_ahead().entry.unwrap();
        assert!(!entry.freshness.is_fresh(NOW));
        assert!(entry.freshness.may_serve_while_revalidating(NOW));
        // From before whatever was purged.
        assert_eq!(entry.request_time, Time::default());
    }

    #[test]
    fn an_entry_requested_in_the_future_is_not_believed_whenever_it_was_received() {
        let mut cell = written_at(NOW);
        cell.entry.as_mut().unwrap().request_time = NOW.plus(DAY);
        let entry = cell.bounded(NOW, &BOUNDS).entry.unwrap();
        assert_eq!(entry.request_time, Time::default());
        assert!(!entry.freshness.is_fresh(NOW));
    }

    #[test]
    fn purges_and_orphans_of_a_clock_that_is_a_day_ahead_are_of_now() {
        let cell = a_day_ahead();
        let latest = Some(NOW.plus(SKEW));
        let marks = &cell.marks;
        assert_eq!(
            [marks.invalidated, marks.purged, marks.softened],
            [latest; 3]
        );
        assert_eq!(Some(cell.orphans[0].since), latest);
    }

    #[test]
    fn what_is_being_written_by_a_clock_that_is_a_day_ahead_is_not_read() {
        for (ahead, read) in [(Duration::ZERO, true), (SKEW, true), (DAY, false)] {
            let mut cell = written_at(NOW);
            let mut entry = cell.entry.clone().unwrap();
            entry.request_time = NOW.plus(ahead);
            cell.coming = Some(Box::new(Coming {
                entry,
                names: Vec::new(),
                selector: String::new(),
            }));
            let coming = cell.bounded(NOW, &BOUNDS).coming;
            assert_eq!(coming.is_some(), read, "{ahead:?}");
        }
    }

    #[test]
    fn no_more_chunks_are_complete_than_there_can_be() {
        let mut cell = written_at(NOW);
        cell.lease.as_mut().unwrap().draft = Some(Draft {
            body: Nonce::new(7),
            chunks: 3,
            done: u32::MAX,
        });
        let lease = cell.bounded(NOW, &BOUNDS).lease.unwrap();
        assert_eq!(lease.draft.unwrap().done, 3);
    }

    #[test]
    fn each_bound_is_exact() {
        let millisecond = Duration::from_millis(1);
        let latest = NOW.plus(SKEW);
        for beyond in [false, true] {
            let at = |bound: Time| match beyond {
                false => bound,
                true => bound.plus(millisecond),
            };
            let mut cell = written_at(NOW);
            cell.lease.as_mut().unwrap().deadline = at(latest.plus(LEASE).plus(SKEW));
            cell.marks.retry.as_mut().unwrap().not_before = at(latest.plus(RETRY));
            cell.marks.pass.as_mut().unwrap().until = at(latest.plus(PASS));
            cell.marks.credentials_pass_until = Some(at(latest.plus(PASS)));
            cell.marks.for_everyone_until = Some(at(latest.plus(PASS)));
            cell.marks.doubt.as_mut().unwrap().since = at(latest);
            cell.marks.unsettled.as_mut().unwrap().not_before =
                at(latest.plus(BOUNDS.lease).plus(RETRY));
            cell.marks.vary[0].seen = at(latest);
            cell.entry.as_mut().unwrap().freshness.response_time = at(latest);
            let bounded = cell.clone().bounded(NOW, &BOUNDS);
            assert_eq!(bounded.lease == cell.lease, !beyond);
            assert_eq!(bounded.marks.retry == cell.marks.retry, !beyond);
            assert_eq!(bounded.marks.pass == cell.marks.pass, !beyond);
            assert_eq!(
                bounded.marks.credentials_pass_until == cell.marks.credentials_pass_until,
                !beyond
            );
            assert_eq!(
                bounded.marks.for_everyone_until == cell.marks.for_everyone_until,
                !beyond
            );
            assert_eq!(bounded.marks.doubt == cell.marks.doubt, !beyond);
            assert_eq!(bounded.marks.unsettled == cell.marks.unsettled, !beyond);
            assert_eq!(bounded.marks.vary == cell.marks.vary, !beyond);
            assert_eq!(bounded.entry == cell.entry, !beyond);
        }
    }

    #[test]
    fn failures_beyond_all_doubling_do_not_count() {
        let mut cell = written_at(NOW);
        cell.marks.retry.as_mut().unwrap().failures = u32::MAX;
        let retry = cell.bounded(NOW, &BOUNDS).marks.retry.unwrap();
        assert_eq!(retry.failures, FAILURES_MAX);
        let mut cell = written_at(NOW);
        cell.marks.unsettled.as_mut().unwrap().times = u32::MAX;
        let unsettled = cell.bounded(NOW, &BOUNDS).marks.unsettled.unwrap();
        assert_eq!(unsettled.times, FAILURES_MAX);
    }

    fn any_time() -> impl Strategy<Value = Time> {
        any::<u64>().prop_map(Time::from_unix_millis)
    }

    proptest! {
        #[test]
        fn no_cell_locks_a_key_for_longer_than_its_bounds(cell in any_cell(), now in any_time()) {
            let bounded = cell.bounded(now, &BOUNDS);
            let later = now.plus(LEASE).plus(SKEW * 4);
            let live = bounded.lease.is_some_and(|lease| lease.is_live(later, SKEW));
            prop_assert!(!live || later == Time::from_unix_millis(u64::MAX));
            let (retry, pass) = (bounded.marks.retry, bounded.marks.pass);
            prop_assert!(retry.is_none_or(|mark| mark.not_before <= now.plus(RETRY + SKEW)));
            prop_assert!(pass.is_none_or(|mark| mark.until <= now.plus(PASS + SKEW)));
            let credentials = bounded.marks.credentials_pass_until;
            prop_assert!(credentials.is_none_or(|until| until <= now.plus(PASS + SKEW)));
            let everyone = bounded.marks.for_everyone_until;
            prop_assert!(everyone.is_none_or(|until| until <= now.plus(PASS + SKEW)));
            let unsettled = bounded.marks.unsettled;
            let longest = now.plus(BOUNDS.lease + RETRY + SKEW);
            prop_assert!(unsettled.is_none_or(|mark| mark.not_before <= longest));
            let doubt = bounded.marks.doubt;
            prop_assert!(doubt.is_none_or(|doubt| doubt.since <= now.plus(SKEW)));
            let vary = &bounded.marks.vary;
            prop_assert!(vary.iter().all(|selecting| selecting.seen <= now.plus(SKEW)));
            let received = bounded.entry.as_ref().map(|entry| entry.freshness.response_time);
            prop_assert!(received.is_none_or(|received| received <= now.plus(SKEW)));
            prop_assert_eq!(bounded.clone().bounded(now, &BOUNDS), bounded);
        }
    }
}
