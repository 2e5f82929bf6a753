//! The rate: how many requests may go to the origin in an hour, over all nodes.
//!
//! Some platforms refuse a component's requests beyond a number in an hour. There are two
//! buckets of tokens, one token for each request. Three quarters of the rate are for
//! requests that a visitor waits for, the rest is for refreshes, so that neither keeps the
//! other from going out. Each kind may use what the other leaves: it leaves half of a
//! bucket to its owner.
//!
//! A bucket is one time, that at which it is full again (the generic cell rate algorithm
//! of ITU-T I.371). It holds an eighth of its part of the rate, and fills with the other
//! seven in an hour. So no hour has more requests than the rate, however they come.
//! Clocks that are apart by the skew add what the bucket gains in that time.

use super::Class;
use crate::time::{Time, millis};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The time that the rate is for.
const HOUR: Duration = Duration::from_secs(3_600);

/// Fewest requests in an hour that can be set: each bucket has to hold a token.
pub const RATE_MIN: u32 = 16;

/// Most requests in an hour that can be set. Beyond this the whole milliseconds of
/// [`Time`] are too coarse.
pub const RATE_MAX: u32 = 360_000;

/// The part of a bucket's rate that it holds: one in this many.
const BURST: u32 = 8;

/// The part of the rate that is for refreshes: one in this many.
const REFRESHES: u32 = 4;

/// Most requests to the origin in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit(u32);

impl RateLimit {
    /// A limit of `per_hour` requests, taken as at least [`RATE_MIN`] and at most
    /// [`RATE_MAX`]. Zero is no limit.
    pub fn new(per_hour: u32) -> Option<Self> {
        (per_hour > 0).then(|| RateLimit(per_hour.clamp(RATE_MIN, RATE_MAX)))
    }

    fn bucket(self, kind: Kind) -> Bucket {
        let refreshes = self.0 / REFRESHES;
        let share = match kind {
            Kind::Visitor => self.0.saturating_sub(refreshes),
            Kind::Refresh => refreshes,
        };
        let holds = (share / BURST).max(1);
        let fills = share.saturating_sub(holds).max(1);
        // Rounded up: a longer pause keeps the promise.
        let every = millis(HOUR).div_ceil(u64::from(fills));
        Bucket { holds, every }
    }
}

/// Whose tokens they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of requests that a visitor waits for.
    Visitor,
    /// Of refreshes behind an answer.
    Refresh,
}

impl Kind {
    /// The kind of a class.
    pub fn of(class: Class) -> Self {
        match class {
            Class::Refresh => Kind::Refresh,
            Class::Fill | Class::Pass | Class::Unsafe | Class::Stream => Kind::Visitor,
        }
    }

    fn other(self) -> Self {
        match self {
            Kind::Visitor => Kind::Refresh,
            Kind::Refresh => Kind::Visitor,
        }
    }
}

/// How a bucket is set.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Most tokens.
    holds: u32,
    /// It gains one in this time, in milliseconds.
    every: u64,
}

impl Bucket {
    fn time(self, tokens: u32) -> Duration {
        Duration::from_millis(self.every.saturating_mul(u64::from(tokens)))
    }

    /// The tokens at `now` in a bucket that is full again at `full`.
    fn tokens(self, full: Time, now: Time) -> u32 {
        let missing = millis(full.since(now)).div_ceil(self.every.max(1));
        self.holds
            .saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }
}

/// What is left of the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// When the bucket of the visitors' requests is full again.
    visitors: Time,
    /// When the bucket of the refreshes is full again.
    refreshes: Time,
}

impl Rate {
    /// Whether nothing was ever taken.
    pub(super) fn is_unused(&self) -> bool {
        *self == Rate::default()
    }

    fn full(&self, kind: Kind) -> Time {
        match kind {
            Kind::Visitor => self.visitors,
            Kind::Refresh => self.refreshes,
        }
    }

    fn full_mut(&mut self, kind: Kind) -> &mut Time {
        match kind {
            Kind::Visitor => &mut self.visitors,
            Kind::Refresh => &mut self.refreshes,
        }
    }

    /// The tokens in a kind's own bucket.
    fn own(&self, kind: Kind, now: Time, limit: RateLimit) -> u32 {
        limit.bucket(kind).tokens(self.full(kind), now)
    }

    /// The tokens that the other kind leaves to this one.
    fn borrowable(&self, kind: Kind, now: Time, limit: RateLimit) -> u32 {
        let other = kind.other();
        let kept = limit.bucket(other).holds.div_ceil(2);
        self.own(other, now, limit).saturating_sub(kept)
    }

    /// How many requests of this kind may go at `now`.
    pub fn free(&self, kind: Kind, now: Time, limit: RateLimit) -> u32 {
        self.own(kind, now, limit)
            .saturating_add(self.borrowable(kind, now, limit))
    }

    /// When the next request of this kind may go, if none may at `now`.
    pub fn next(&self, kind: Kind, now: Time, limit: RateLimit) -> Option<Time> {
        if self.free(kind, now, limit) > 0 {
            return None;
        }
        let bucket = limit.bucket(kind);
        let missing = bucket.time(bucket.holds.saturating_sub(1));
        Some(self.full(kind).minus(missing).max(now))
    }

    /// Takes up to `most` tokens; returns how many.
    pub fn take(&mut self, kind: Kind, most: u32, now: Time, limit: RateLimit) -> u32 {
        let own = self.own(kind, now, limit).min(most);
        let borrowed = self
            .borrowable(kind, now, limit)
            .min(most.saturating_sub(own));
        for (kind, tokens) in [(kind, own), (kind.other(), borrowed)] {
            if tokens > 0 {
                let bucket = limit.bucket(kind);
                let full = self.full_mut(kind);
                *full = (*full).max(now).plus(bucket.time(tokens));
            }
        }
        own.saturating_add(borrowed)
    }

    /// The rate without what cannot be right: no bucket is emptier than empty.
    pub(super) fn bounded(mut self, latest: Time, limit: RateLimit) -> Self {
        for kind in [Kind::Visitor, Kind::Refresh] {
            let bucket = limit.bucket(kind);
            let emptiest = latest.plus(bucket.time(bucket.holds));
            let full = self.full_mut(kind);
            *full = (*full).min(emptiest);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    const LIMIT: RateLimit = RateLimit(500);

    fn at(millis: u64) -> Time {
        Time::from_unix_millis(1_000_000_000 + millis)
    }

    #[test]
    fn an_empty_bucket_says_when_the_next_request_may_go() {
        let mut rate = Rate::default();
        // 375 requests in an hour are for visitors, of which the bucket holds 46. It lends
        // 15 - 8 of those of the refreshes.
        assert_eq!(rate.take(Kind::Visitor, 1_000, at(0), LIMIT), 46 + 7);
        let next = rate.next(Kind::Visitor, at(0), LIMIT).unwrap();
        assert_eq!(next, at(3_600_000_u64.div_ceil(375 - 46)));
        assert_eq!(
            rate.free(Kind::Visitor, next.minus(Duration::from_millis(1)), LIMIT),
            0
        );
        assert_eq!(rate.free(Kind::Visitor, next, LIMIT), 1);
        assert_eq!(rate.next(Kind::Visitor, next, LIMIT), None);
    }

    #[test]
    fn visitors_do_not_keep_refreshes_from_going_out() {
        let mut rate = Rate::default();
        let mut refreshes = 0;
        for second in 0..3_600 {
            let now = at(second * 1_000);
            rate.take(Kind::Visitor, 1_000, now, LIMIT);
            refreshes += rate.take(Kind::Refresh, 1, now, LIMIT);
        }
        assert!(refreshes >= 100, "{refreshes}");
    }

    #[test]
    fn what_one_kind_leaves_the_other_uses() {
        let mut rate = Rate::default();
        let mut sent = 0;
        for second in 0..7_200 {
            sent += rate.take(Kind::Refresh, 1_000, at(second * 1_000), LIMIT);
        }
        // Nearly the whole rate, for two hours.
        assert!(sent >= 2 * 430, "{sent}");
    }

    #[test]
    fn a_stored_time_from_far_in_the_future_does_not_stop_requests_for_longer_than_an_hour() {
        let wrong = Rate {
            visitors: Time::from_unix_millis(u64::MAX),
            refreshes: Time::from_unix_millis(u64::MAX),
        };
        for kind in [Kind::Visitor, Kind::Refresh] {
            let rate = wrong.bounded(at(0), LIMIT);
            assert_eq!(rate.own(kind, at(0), LIMIT), 0);
            assert_eq!(
                rate.own(kind, at(3_600_000), LIMIT),
                LIMIT.bucket(kind).holds
            );
        }
    }

    proptest! {
        #[test]
        fn no_hour_has_more_requests_than_the_rate(
            per_hour in RATE_MIN..=RATE_MAX,
            takes in prop::collection::vec((0_u64..900_000, any::<bool>(), 0_u32..100_000), 1..60),
        ) {
            let limit = RateLimit::new(per_hour).unwrap();
            let mut rate = Rate::default();
            let mut now = 0;
            let mut sent: Vec<(u64, u32)> = Vec::new();
            for (pause, refresh, most) in takes {
                now += pause;
                let kind = if refresh { Kind::Refresh } else { Kind::Visitor };
                rate = rate.bounded(at(now), limit);
                let free = rate.free(kind, at(now), limit);
                let taken = rate.take(kind, most, at(now), limit);
                prop_assert_eq!(taken, free.min(most));
                sent.push((now, taken));
                let hour: u32 = sent
                    .iter()
                    .filter(|(at, _)| at + 3_600_000 > now)
                    .map(|(_, taken)| taken)
                    .sum();
                prop_assert!(hour <= per_hour, "{} of {}", hour, per_hour);
            }
        }
    }
}
