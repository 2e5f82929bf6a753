//! The rate: how many requests may go to the origin in an hour, over all nodes.
//!
//! Some platforms refuse a component's requests beyond a number in an hour. There is one
//! bucket of tokens for each class of requests, and one token for each request. A quarter
//! of the rate is for each of fills, passed requests, unsafe methods and refreshes, so that
//! none keeps the others from going out: a visitor with new URLs does not use up the logins
//! of others. Each class may use what the others leave: they leave half of a bucket to its
//! owner.
//!
//! A bucket is one time, that at which it is full again (the generic cell rate algorithm
//! of ITU-T I.371). It holds an eighth of its part of the rate, and gains the other
//! seven in an hour. So no hour has more requests than the rate, however they come.
//! Clocks that are apart by the skew add what the bucket gains in that time.

use super::{Class, PerClass};
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

/// The part of the rate that is for each class: one in this many.
const CLASSES: u32 = 4;

/// Most requests to the origin in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit(u32);

impl RateLimit {
    /// A limit of `per_hour` requests, taken as at least [`RATE_MIN`] and at most
    /// [`RATE_MAX`]. Zero is no limit.
    pub fn new(per_hour: u32) -> Option<Self> {
        (per_hour > 0).then(|| RateLimit(per_hour.clamp(RATE_MIN, RATE_MAX)))
    }

    /// The bucket of each class.
    fn bucket(self) -> Bucket {
        let share = self.0 / CLASSES;
        let holds = (share / BURST).max(1);
        let gains = share.saturating_sub(holds).max(1);
        // Rounded up: a longer pause keeps the promise.
        let every = millis(HOUR).div_ceil(u64::from(gains));
        Bucket { holds, every }
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

/// What is left of the rate: for each class, when its bucket is full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(PerClass<Time>);

impl Rate {
    /// Whether nothing was ever taken.
    pub(super) fn is_unused(&self) -> bool {
        *self == Rate::default()
    }

    /// The tokens in the bucket of a class.
    fn own(&self, class: Class, now: Time, limit: RateLimit) -> u32 {
        limit.bucket().tokens(*self.0.of(class), now)
    }

    /// The tokens that another class leaves to others.
    fn borrowable(&self, from: Class, now: Time, limit: RateLimit) -> u32 {
        let kept = limit.bucket().holds.div_ceil(2);
        self.own(from, now, limit).saturating_sub(kept)
    }

    /// How many requests of `class` may go at `now`.
    pub fn free(&self, class: Class, now: Time, limit: RateLimit) -> u32 {
        others(class).fold(self.own(class, now, limit), |sum, other| {
            sum.saturating_add(self.borrowable(other, now, limit))
        })
    }

    /// When the next request of `class` may go, if none may at `now`.
    pub fn next(&self, class: Class, now: Time, limit: RateLimit) -> Option<Time> {
        if self.free(class, now, limit) > 0 {
            return None;
        }
        let bucket = limit.bucket();
        let missing = bucket.time(bucket.holds.saturating_sub(1));
        Some(self.0.of(class).minus(missing).max(now))
    }

    /// Takes up to `most` tokens; returns how many.
    pub fn take(&mut self, class: Class, most: u32, now: Time, limit: RateLimit) -> u32 {
        let bucket = limit.bucket();
        let mut left = most;
        for from in std::iter::once(class).chain(others(class)) {
            let tokens = match from == class {
                true => self.own(from, now, limit),
                false => self.borrowable(from, now, limit),
            };
            let tokens = tokens.min(left);
            if tokens > 0 {
                let full = self.0.of_mut(from);
                *full = (*full).max(now).plus(bucket.time(tokens));
            }
            left = left.saturating_sub(tokens);
        }
        most.saturating_sub(left)
    }

    /// The rate without what cannot be right: no bucket is emptier than empty.
    pub(super) fn bounded(mut self, latest: Time, limit: RateLimit) -> Self {
        let bucket = limit.bucket();
        let emptiest = latest.plus(bucket.time(bucket.holds));
        for class in Class::COUNTED {
            let full = self.0.of_mut(class);
            *full = (*full).min(emptiest);
        }
        self
    }
}

/// The other classes that have a bucket.
fn others(class: Class) -> impl Iterator<Item = Class> {
    Class::COUNTED
        .into_iter()
        .filter(move |other| *other != class)
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
        // 125 requests in an hour are for fills, of which the bucket holds 15. Each of the
        // others lends 15 - 8.
        assert_eq!(rate.take(Class::Fill, 1_000, at(0), LIMIT), 15 + 3 * 7);
        let next = rate.next(Class::Fill, at(0), LIMIT).unwrap();
        assert_eq!(next, at(3_600_000_u64.div_ceil(125 - 15)));
        assert_eq!(
            rate.free(Class::Fill, next.minus(Duration::from_millis(1)), LIMIT),
            0
        );
        assert!(rate.free(Class::Fill, next, LIMIT) > 0);
        assert_eq!(rate.next(Class::Fill, next, LIMIT), None);
    }

    #[test]
    fn a_flood_of_one_class_does_not_keep_the_others_from_going_out() {
        for flood in Class::COUNTED {
            let mut rate = Rate::default();
            let mut sent = PerClass::<u32>::default();
            for second in 0..3_600 {
                let now = at(second * 1_000);
                rate.take(flood, 1_000, now, LIMIT);
                for class in others(flood) {
                    *sent.of_mut(class) += rate.take(class, 1, now, LIMIT);
                }
            }
            for class in others(flood) {
                assert!(*sent.of(class) >= 100, "{class:?}: {sent:?}");
            }
        }
    }

    #[test]
    fn what_the_other_classes_leave_one_class_uses() {
        for class in Class::COUNTED {
            let mut rate = Rate::default();
            let mut sent = 0;
            for second in 0..7_200 {
                sent += rate.take(class, 1_000, at(second * 1_000), LIMIT);
            }
            // Nearly the whole rate, for two hours.
            assert!(sent >= 2 * 430, "{sent}");
        }
    }

    #[test]
    fn a_stored_time_from_far_in_the_future_does_not_stop_requests_for_longer_than_an_hour() {
        let mut wrong = Rate::default();
        for class in Class::COUNTED {
            *wrong.0.of_mut(class) = Time::from_unix_millis(u64::MAX);
        }
        let rate = wrong.bounded(at(0), LIMIT);
        for class in Class::COUNTED {
            assert_eq!(rate.own(class, at(0), LIMIT), 0);
            assert_eq!(rate.own(class, at(3_600_000), LIMIT), LIMIT.bucket().holds);
        }
    }

    proptest! {
        #[test]
        fn no_hour_has_more_requests_than_the_rate(
            per_hour in RATE_MIN..=RATE_MAX,
            takes in prop::collection::vec((0_u64..900_000, 0_usize..4, 0_u32..100_000), 1..60),
        ) {
            let limit = RateLimit::new(per_hour).unwrap();
            let mut rate = Rate::default();
            let mut now = 0;
            let mut sent: Vec<(u64, u32)> = Vec::new();
            for (pause, class, most) in takes {
                now += pause;
                let class = Class::COUNTED[class];
                rate = rate.bounded(at(now), limit);
                let free = rate.free(class, at(now), limit);
                let taken = rate.take(class, most, at(now), limit);
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
