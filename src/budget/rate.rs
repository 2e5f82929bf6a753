//! The rate: how many requests may go to the origin in an hour, over all nodes.
//!
//! Some platforms refuse a component's requests beyond a number in an hour. There is one
//! bucket of tokens for each class of requests, and one token for each request that is
//! sent. A quarter of the rate is for each of fills, passed requests, unsafe methods and
//! refreshes, so that none keeps the others from going out: a visitor with new URLs does
//! not use up the logins of others. Each class may use what the others leave: a quarter of
//! a bucket stays with its owner.
//!
//! A bucket is one time, that at which it is full again (the generic cell rate algorithm
//! of ITU-T I.371). It holds a fifth of its part of the rate, and gains the other four
//! fifths in a [window](RateLimit::window). The window is longer than an hour, by what may pass between the
//! moment for which a token is taken and the request, and by the difference of two clocks.
//! So no hour has more requests than the rate, however they come.
//!
//! A request takes its token together with its slot, before it is known whether it will be
//! sent: it may find that another fetches what it wants. So tokens are [`Reservation`]s
//! first. What is reserved counts as used until it is given back. What was sent stays, and
//! so does a reservation that nobody speaks of any more. Every order in which reservations
//! are settled keeps the bound: a bucket's time is never before the first of the tokens
//! used in a window, plus what all of them take.

use super::{Class, PerClass};
use crate::cell::Nonce;
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
const BURST: u32 = 5;

/// The part of a bucket that it does not lend: one in this many.
const KEPT: u32 = 4;

/// The part of the rate that is for each class: one in this many.
const CLASSES: u32 = 4;

/// How long after the moment for which a token was reserved its request may be sent. It is
/// longer than a slot and an election take on a store without a swap. A reservation that is
/// older counts as used.
pub const TOKEN_KEPT: Duration = Duration::from_secs(20);

/// Within this time most tokens come back that no request uses. Until then a request waits
/// for them before it is refused.
const RETURNED_WITHIN: Duration = Duration::from_secs(2);

/// What whole milliseconds may hide at both ends of a window.
const ROUNDING: Duration = Duration::from_millis(2);

const LAST: Time = Time::from_unix_millis(u64::MAX);

/// Most reservations in a record. Beyond this the oldest count as used.
const RESERVATIONS_MAX: usize = 1_024;

/// Most requests to the origin in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    per_hour: u32,
    /// How far the clocks of two nodes may be apart.
    clock_skew: Duration,
}

impl RateLimit {
    /// A limit of `per_hour` requests, taken as at least [`RATE_MIN`] and at most
    /// [`RATE_MAX`], of nodes whose clocks are at most `clock_skew` apart. Zero is no limit.
    pub fn new(per_hour: u32, clock_skew: Duration) -> Option<Self> {
        (per_hour > 0).then(|| RateLimit {
            per_hour: per_hour.clamp(RATE_MIN, RATE_MAX),
            clock_skew,
        })
    }

    /// How many requests of all classes the buckets gain in an hour, about: what lasts.
    pub fn lasting(self) -> u32 {
        self.per_hour.saturating_sub(self.per_hour / BURST)
    }

    /// Most requests in any time of this length. In an hour that is the limit, or less.
    pub fn most_in(self, span: Duration) -> u32 {
        let bucket = self.bucket();
        let gained = millis(self.window(span)) / bucket.every.max(1);
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        bucket.holds.saturating_add(gained).saturating_mul(CLASSES)
    }

    /// The time, by all clocks, for which tokens are taken whose requests are sent within
    /// `span`.
    fn window(self, span: Duration) -> Duration {
        span.saturating_add(TOKEN_KEPT)
            .saturating_add(self.clock_skew)
            .saturating_add(ROUNDING)
    }

    /// The bucket of each class.
    fn bucket(self) -> Bucket {
        let share = self.per_hour / CLASSES;
        let holds = (share / BURST).max(1);
        let gains = share.saturating_sub(holds).max(1);
        // Rounded up: a longer pause keeps the promise.
        let every = millis(self.window(HOUR)).div_ceil(u64::from(gains));
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

    /// When a bucket that was full at `full` is full without `tokens`, taken at `taken`.
    fn without(self, full: Time, tokens: u32, taken: Time) -> Time {
        match tokens {
            0 => full,
            _ => full.max(taken).plus(self.time(tokens)),
        }
    }

    /// The tokens that it does not lend.
    fn kept(self) -> u32 {
        self.holds.div_ceil(KEPT)
    }
}

/// Tokens that one write of the record has taken, and of which it is not known yet whether
/// their requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reservation {
    /// New for each.
    id: Nonce,
    /// How many from each bucket.
    tokens: PerClass<u32>,
    /// The moment for which they were taken, by the clock of who did.
    taken: Time,
}

/// What is left of the rate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// For each class, when its bucket is full again, but for what is reserved.
    full: PerClass<Time>,
    /// In the order in which they were written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reserved: Vec<Reservation>,
}

impl Rate {
    /// How many tokens are missing from the buckets at `now`, but for what is reserved.
    pub fn missing(&self, now: Time, limit: RateLimit) -> u32 {
        let bucket = limit.bucket();
        let missing = |class| {
            bucket
                .holds
                .saturating_sub(bucket.tokens(*self.full.of(class), now))
        };
        Class::COUNTED
            .into_iter()
            .map(missing)
            .fold(0, u32::saturating_add)
    }

    /// How many tokens are reserved, for requests that may not be sent.
    pub fn reserved(&self) -> u32 {
        let tokens = self.reserved.iter().flat_map(|reservation| {
            Class::COUNTED
                .into_iter()
                .map(|class| *reservation.tokens.of(class))
        });
        tokens.fold(0, u32::saturating_add)
    }

    /// Whether nothing was ever taken.
    pub(super) fn is_unused(&self) -> bool {
        *self == Rate::default()
    }

    /// When the bucket of a class is full again if all that is reserved is used, or of that
    /// only what was taken at `until` or before.
    fn full(&self, class: Class, until: Time, bucket: Bucket) -> Time {
        let reserved = self.reserved.iter();
        reserved
            .filter(|reservation| reservation.taken <= until)
            .fold(*self.full.of(class), |full, reservation| {
                bucket.without(full, *reservation.tokens.of(class), reservation.taken)
            })
    }

    /// The tokens that a class may take from the bucket of another one, or its own.
    fn available(
        &self,
        class: Class,
        from: Class,
        now: Time,
        until: Time,
        limit: RateLimit,
    ) -> u32 {
        let bucket = limit.bucket();
        let tokens = bucket.tokens(self.full(from, until, bucket), now);
        match from == class {
            true => tokens,
            false => tokens.saturating_sub(bucket.kept()),
        }
    }

    /// How many requests of `class` could go at `now` if nothing reserved after `until`
    /// were used.
    fn free_without(&self, class: Class, now: Time, until: Time, limit: RateLimit) -> u32 {
        buckets(class).fold(0, |sum: u32, from| {
            sum.saturating_add(self.available(class, from, now, until, limit))
        })
    }

    /// How many requests of `class` may go at `now`.
    pub fn free(&self, class: Class, now: Time, limit: RateLimit) -> u32 {
        self.free_without(class, now, LAST, limit)
    }

    /// When the next request of `class` may go, if none may at `now`, nor when others give
    /// back what they have just reserved.
    pub fn next(&self, class: Class, now: Time, limit: RateLimit) -> Option<Time> {
        if self.free_without(class, now, now.minus(RETURNED_WITHIN), limit) > 0 {
            return None;
        }
        let bucket = limit.bucket();
        let next = |from: Class| {
            let kept = match from == class {
                true => 0,
                false => bucket.kept(),
            };
            let missing = bucket.holds.checked_sub(kept.saturating_add(1))?;
            Some(self.full(from, LAST, bucket).minus(bucket.time(missing)))
        };
        buckets(class).filter_map(next).min().map(|at| at.max(now))
    }

    /// Reserves up to `most` tokens under `id` for requests of `class`; returns how many
    /// from each bucket.
    pub fn take(
        &mut self,
        id: Nonce,
        class: Class,
        most: u32,
        now: Time,
        limit: RateLimit,
    ) -> PerClass<u32> {
        let mut taken = PerClass::<u32>::default();
        let mut left = most;
        for from in buckets(class) {
            let tokens = self.available(class, from, now, LAST, limit).min(left);
            *taken.of_mut(from) = tokens;
            left = left.saturating_sub(tokens);
        }
        if !taken.is_empty() {
            self.reserve(id, taken, now);
        }
        taken
    }

    fn reserve(&mut self, id: Nonce, taken: PerClass<u32>, now: Time) {
        let Some(reservation) = self.reserved.iter_mut().find(|other| other.id == id) else {
            self.reserved.push(Reservation {
                id,
                tokens: taken,
                taken: now,
            });
            return;
        };
        for class in Class::COUNTED {
            let tokens = reservation.tokens.of_mut(class);
            *tokens = tokens.saturating_add(*taken.of(class));
        }
    }

    /// Whether there is a reservation under `id`.
    pub fn is_reserved(&self, id: Nonce) -> bool {
        self.reserved.iter().any(|reservation| reservation.id == id)
    }

    /// Says what became of the tokens reserved under `id`: `used` were sent, `kept` may
    /// still be, and the rest is given back. Does nothing where the reservation is gone.
    /// Returns whether anything changed.
    pub fn settle(
        &mut self,
        id: Nonce,
        used: &PerClass<u32>,
        kept: &PerClass<u32>,
        limit: RateLimit,
    ) -> bool {
        let Some(index) = self.reserved.iter().position(|other| other.id == id) else {
            return false;
        };
        let mut reservation = self.reserved.remove(index);
        let before = reservation;
        for class in Class::COUNTED {
            let tokens = reservation.tokens.of_mut(class);
            let used = (*used.of(class)).min(*tokens);
            *tokens = tokens.saturating_sub(used).min(*kept.of(class));
            self.count(class, used, reservation.taken, limit);
        }
        if !reservation.tokens.is_empty() {
            self.reserved.insert(index, reservation);
        }
        reservation != before
    }

    /// Counts tokens as used.
    fn count(&mut self, class: Class, tokens: u32, taken: Time, limit: RateLimit) {
        let full = self.full.of_mut(class);
        *full = limit.bucket().without(*full, tokens, taken);
    }

    /// The rate with all times changed, as another clock tells them.
    #[must_use]
    pub(super) fn by_clock(mut self, change: impl Fn(Time) -> Time) -> Self {
        for class in Class::COUNTED {
            let full = self.full.of_mut(class);
            *full = change(*full);
        }
        for reservation in &mut self.reserved {
            reservation.taken = change(reservation.taken);
        }
        self
    }

    /// The rate as it counts at `now`: reservations that are too old are used, and nothing
    /// is that cannot be right: none is from after `latest`, and no bucket is emptier than
    /// empty.
    pub(super) fn bounded(mut self, now: Time, latest: Time, limit: RateLimit) -> Self {
        let bucket = limit.bucket();
        let mut excess = self.reserved.len().saturating_sub(RESERVATIONS_MAX);
        for mut reservation in std::mem::take(&mut self.reserved) {
            reservation.taken = reservation.taken.min(latest);
            for class in Class::COUNTED {
                let tokens = reservation.tokens.of_mut(class);
                *tokens = (*tokens).min(bucket.holds);
            }
            reservation.tokens.stream = 0;
            if excess == 0 && now.since(reservation.taken) < TOKEN_KEPT {
                self.reserved.push(reservation);
                continue;
            }
            excess = excess.saturating_sub(1);
            for class in Class::COUNTED {
                let tokens = *reservation.tokens.of(class);
                self.count(class, tokens, reservation.taken, limit);
            }
        }
        let emptiest = latest.plus(bucket.time(bucket.holds));
        for class in Class::COUNTED {
            let full = self.full.of_mut(class);
            *full = (*full).min(emptiest);
        }
        self
    }
}

/// The classes from whose buckets a class may take: its own first.
fn buckets(class: Class) -> impl Iterator<Item = Class> {
    let others = Class::COUNTED
        .into_iter()
        .filter(move |other| *other != class);
    std::iter::once(class).chain(others)
}

#[cfg(test)]
mod tests;
