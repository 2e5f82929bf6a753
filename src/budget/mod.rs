//! The origin's budget: how many requests may be in flight at the origin, over all
//! nodes, keys and kinds of request, and whether the origin works at all.
//!
//! Both are one [`Record`] in the store. An instance takes slots from it with a swap,
//! uses each for one request after another, and keeps them alive as long as requests
//! are in flight. A slot is a lease: an instance that dies loses its slots when their
//! time is over. [`Breaker`] has the origin's health; it limits the slots while the
//! origin fails.
//!
//! This module is pure: every function takes the time and the limits as arguments.
//! `origin` reads and swaps the record.

mod breaker;
mod check;
mod codec;
mod rate;
mod settings_seen;
mod sightings;

pub use breaker::{
    Breaker, BreakerSettings, FAILURES_MAX, Halt, HaltedBy, Limit, Outcome, Phase, Report, WINDOW,
    WINDOW_MIN,
};
pub use check::{CHECK_TIME, Check, Checks, KnownGood, PASSED_FOR};
pub use codec::{Unreadable, decode, encode};
pub(crate) use codec::{decode_record, encode_record};
pub use rate::{RATE_MAX, RATE_MIN, Rate, RateLimit, Reservation, TOKEN_KEPT};
pub use settings_seen::{Marked, SettingsMark, SettingsSeen};
pub use sightings::{ClocksApart, Sightings};

use crate::cell::Nonce;
use crate::time::Time;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most slots that a budget can have.
pub const SLOTS_MAX: u32 = 1_024;

/// Most answers without an end that can be open at once.
pub const STREAMS_MAX: u32 = 65_536;

/// A slot in use is renewed when this part of its lease is over.
pub const RENEWED_WITHIN: u32 = 3;

/// The part of the budget that is reserved for each kind of foreground request while
/// requests of that kind wait: one slot in this many.
const RESERVE: u32 = 4;

/// The part of the budget that is left to each kind of foreground request although no
/// request of that kind waits: one slot in this many. Slow pages of one kind fill what they
/// may for as long as they take, and a request of another kind that comes then must not wait
/// for their end.
const FLOOR: u32 = 16;

/// The smallest budget: one slot for each kind that has a reserve, and one for
/// refreshes.
pub const SLOTS_MIN: u32 = 4;

/// How long the reserve of a kind is kept free after a request of that kind found no
/// slot.
const RESERVE_KEPT: Duration = Duration::from_secs(5);

/// How long a note that an instance waits counts, the clock skew apart. An instance
/// that still waits writes it again after half of this.
const WAITING_KEPT: Duration = Duration::from_secs(1);

/// Why a request goes to the origin, in the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A visitor waits, and the answer may be stored.
    Fill,
    /// A visitor waits, and the answer is for that visitor alone.
    Pass,
    /// A request of a method other than GET and HEAD.
    Unsafe,
    /// The visitor has been answered.
    Refresh,
    /// An answer that does not end. It does not count in the budget, and has a limit
    /// of its own.
    Stream,
}

impl Class {
    /// The classes that count in the budget, in the order of precedence.
    pub const COUNTED: [Class; 4] = [Class::Fill, Class::Pass, Class::Unsafe, Class::Refresh];

    /// The name in the log.
    pub fn token(self) -> &'static str {
        match self {
            Class::Fill => "fill",
            Class::Pass => "pass",
            Class::Unsafe => "unsafe",
            Class::Refresh => "refresh",
            Class::Stream => "stream",
        }
    }
}

/// One value for each class.
///
/// Defaults are not stored: most instances have slots of one class, and hundreds of them
/// are in one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, bound(serialize = "T: Serialize + Default + PartialEq"))]
pub struct PerClass<T> {
    /// Of [`Class::Fill`].
    #[serde(skip_serializing_if = "is_default")]
    pub fill: T,
    /// Of [`Class::Pass`].
    #[serde(skip_serializing_if = "is_default")]
    pub pass: T,
    /// Of [`Class::Unsafe`].
    #[serde(rename = "unsafe", skip_serializing_if = "is_default")]
    pub unsafe_: T,
    /// Of [`Class::Refresh`].
    #[serde(skip_serializing_if = "is_default")]
    pub refresh: T,
    /// Of [`Class::Stream`].
    #[serde(skip_serializing_if = "is_default")]
    pub stream: T,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<T> PerClass<T> {
    /// The value of a class.
    pub fn of(&self, class: Class) -> &T {
        match class {
            Class::Fill => &self.fill,
            Class::Pass => &self.pass,
            Class::Unsafe => &self.unsafe_,
            Class::Refresh => &self.refresh,
            Class::Stream => &self.stream,
        }
    }

    /// The value of a class, to change it.
    pub fn of_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Fill => &mut self.fill,
            Class::Pass => &mut self.pass,
            Class::Unsafe => &mut self.unsafe_,
            Class::Refresh => &mut self.refresh,
            Class::Stream => &mut self.stream,
        }
    }
}

impl PerClass<u32> {
    /// How many count in the budget.
    pub fn counted(&self) -> u32 {
        Class::COUNTED
            .iter()
            .fold(0, |sum: u32, class| sum.saturating_add(*self.of(*class)))
    }

    /// Whether all are zero.
    pub fn is_empty(&self) -> bool {
        self.counted() == 0 && self.stream == 0
    }
}

/// What the record may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most slots in use at once.
    pub slots: u32,
    /// Most answers without an end at once.
    pub streams: u32,
    /// How long a slot is held unless its holder renews it.
    pub lease: Duration,
    /// How far the clocks of two nodes may be apart.
    pub clock_skew: Duration,
    /// Most requests in an hour; none for any number.
    pub rate: Option<RateLimit>,
}

/// What all nodes know about the origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Grows by one with every write.
    pub version: u64,
    /// New with every write.
    pub nonce: Option<Nonce>,
    /// The instances that hold slots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// For each class, the instance that last found no slot.
    #[serde(default)]
    pub waiting: PerClass<Option<Waiting>>,
    /// The origin's health.
    #[serde(default)]
    pub breaker: Breaker,
    /// What is left of the requests of this hour.
    #[serde(default, skip_serializing_if = "Rate::is_unused")]
    pub rate: Rate,
    /// When it was written, by the writer's clock; none if an older version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Whether clocks were found to be apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<ClocksApart>,
    /// Whether nodes have the same settings.
    #[serde(default, skip_serializing_if = "SettingsSeen::is_empty")]
    pub settings: SettingsSeen,
}

/// Slots of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// Identifies the grant: new for each.
    pub id: Nonce,
    /// The breaker's epoch in which the slots were taken. Slots of an earlier epoch
    /// are not used for new requests.
    pub epoch: u32,
    /// How many.
    pub slots: PerClass<u32>,
    /// When they end unless renewed, by the holder's clock.
    pub deadline: Time,
}

impl Holder {
    /// Whether the slots are its own at `now` by their deadline, which a clock within the skew
    /// has made.
    fn is_live(&self, now: Time, limits: &Limits) -> bool {
        let latest = now.plus(limits.clock_skew);
        let furthest = latest.plus(limits.lease).plus(limits.clock_skew);
        now < self.deadline.plus(limits.clock_skew) && self.deadline <= furthest
    }
}

/// An instance that found no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Waiting {
    /// Identifies the instance.
    pub id: Nonce,
    /// When it found no slot, by its clock.
    pub seen: Time,
}

impl Record {
    /// The record as it counts at `now`: without holders whose time is over, and
    /// without times and numbers that cannot be right. The caller reads the clock
    /// after it has read the record, and has noted it in `seen`.
    #[must_use]
    pub fn at(
        mut self,
        now: Time,
        limits: &Limits,
        breaker: &BreakerSettings,
        seen: &Sightings,
    ) -> Self {
        let latest = now.plus(limits.clock_skew);
        let most = SLOTS_MAX.saturating_add(STREAMS_MAX);
        self.holders.retain(|holder| {
            seen.is_live(holder, now, limits) && holder.slots.counted() <= SLOTS_MAX
        });
        self.holders
            .truncate(usize::try_from(most).unwrap_or(usize::MAX));
        for class in Class::COUNTED {
            let waiting = self.waiting.of_mut(class);
            if let Some(waiting) = waiting {
                waiting.seen = waiting.seen.min(latest);
            }
            if waiting.is_some_and(|waiting| now.since(waiting.seen) >= RESERVE_KEPT) {
                *waiting = None;
            }
        }
        self.breaker = self.breaker.bounded(now, limits, breaker);
        self.settings = self.settings.bounded(now, latest);
        let behind = seen.behind();
        self.rate = match limits.rate {
            Some(limit) => self
                .rate
                .by_clock(|time| time.minus(behind))
                .bounded(now, latest, limit),
            None => Rate::default(),
        };
        self
    }

    /// What a request of `class` to `target` has to wait for at `now`: the breaker, or
    /// the rate, of which `rate` is what the asking instance knows to be left.
    pub fn limit(
        &self,
        rate: &Rate,
        class: Class,
        target: u32,
        now: Time,
        limits: &Limits,
    ) -> Limit {
        let limit = self.breaker.limit(target, now, limits.slots);
        let next = limits.rate.and_then(|limit| rate.next(class, now, limit));
        match (limit, next) {
            (Limit::Whole | Limit::Slots(_), Some(until)) => Limit::Halted(Halt {
                until,
                by: HaltedBy::Rate,
            }),
            (limit @ Limit::Halted(_), _) | (limit, None) => limit,
        }
    }

    /// How many tokens of the rate may be taken for requests of `class`; any number
    /// without a rate.
    pub fn tokens(&self, class: Class, now: Time, limits: &Limits) -> u32 {
        match limits.rate {
            Some(limit) => self.rate.free(class, now, limit),
            None => u32::MAX,
        }
    }

    /// Reserves up to `most` tokens of the rate under `id` for requests of `class`; returns
    /// how many from the bucket of each class. None without a rate.
    pub fn take_tokens(
        &mut self,
        id: Nonce,
        class: Class,
        most: u32,
        now: Time,
        limits: &Limits,
    ) -> PerClass<u32> {
        match limits.rate {
            Some(limit) => self.rate.take(id, class, most, now, limit),
            None => PerClass::default(),
        }
    }

    /// The slots of a class that are held.
    pub fn held(&self, class: Class) -> u32 {
        self.holders.iter().fold(0, |sum: u32, holder| {
            sum.saturating_add(*holder.slots.of(class))
        })
    }

    /// The slots that are held and count in the budget.
    pub fn used(&self) -> u32 {
        self.holders.iter().fold(0, |sum: u32, holder| {
            sum.saturating_add(holder.slots.counted())
        })
    }

    /// How many more slots of `class` may be taken at `now` for a request to
    /// `target`. Zero while the breaker is open.
    pub fn free(&self, class: Class, target: u32, now: Time, limits: &Limits) -> u32 {
        if class == Class::Stream {
            return limits.streams.saturating_sub(self.held(Class::Stream));
        }
        let free = limits.slots.saturating_sub(self.used());
        match self.breaker.limit(target, now, limits.slots) {
            Limit::Whole => {
                // Within its own reserve a class owes nothing to the others.
                let own = reserve(class, limits.slots).saturating_sub(self.held(class));
                let left = free.saturating_sub(self.reserved_against(class, None, now, limits));
                left.max(own.min(free))
            }
            Limit::Slots(limit) => {
                let used = self
                    .holders
                    .iter()
                    .filter(|holder| holder.epoch == self.breaker.epoch)
                    .fold(0, |sum: u32, holder| {
                        sum.saturating_add(holder.slots.counted())
                    });
                limit.saturating_sub(used).min(free)
            }
            Limit::Halted(_) => 0,
        }
    }

    /// The slots that requests of `class` leave to other classes, if one of class `from`
    /// becomes theirs: more to those whose requests wait.
    fn reserved_against(
        &self,
        class: Class,
        from: Option<Class>,
        now: Time,
        limits: &Limits,
    ) -> u32 {
        Class::COUNTED
            .into_iter()
            .filter(|other| *other != class)
            .fold(0, |sum: u32, other| {
                let waiting = self.waiting.of(other);
                let waits = waiting.is_some_and(|waiting| now.since(waiting.seen) < RESERVE_KEPT);
                let left = match waits {
                    true => reserve(other, limits.slots),
                    false => floor(other, limits.slots),
                };
                // A class whose requests wait gets its turn in the instance that has the slot.
                let lost = u32::from(from == Some(other) && !waits);
                let held = self.held(other).saturating_sub(lost);
                sum.saturating_add(left.saturating_sub(held))
            })
    }

    /// Whether a holder may use a slot of class `from` for a request of class `to`.
    pub fn may_reuse(&self, from: Class, to: Class, now: Time, limits: &Limits) -> bool {
        if from == to || !matches!(self.breaker.phase, Phase::Closed) {
            return true;
        }
        // Within its own reserve a class owes nothing to the others.
        let without = self.used().saturating_sub(1);
        self.held(to) < reserve(to, limits.slots)
            || without.saturating_add(self.reserved_against(to, Some(from), now, limits))
                < limits.slots
    }

    /// Takes up to `most` slots; returns how many.
    pub fn take(
        &mut self,
        id: Nonce,
        (class, target): (Class, u32),
        most: u32,
        now: Time,
        limits: &Limits,
    ) -> u32 {
        let taken = self.free(class, target, now, limits).min(most);
        if taken == 0 {
            return 0;
        }
        self.breaker.admit(target, now);
        let deadline = now.plus(limits.lease);
        let epoch = self.breaker.epoch;
        match self.holders.iter_mut().find(|holder| holder.id == id) {
            Some(holder) => {
                let slots = holder.slots.of_mut(class);
                *slots = slots.saturating_add(taken);
                holder.deadline = deadline;
            }
            None => {
                let mut slots = PerClass::default();
                *slots.of_mut(class) = taken;
                self.holders.push(Holder {
                    id,
                    epoch,
                    slots,
                    deadline,
                });
            }
        }
        taken
    }

    /// Sets what a holder holds, until `deadline`: renews its slots, and gives back
    /// those that it no longer has. A holder that is not in the record is added: its
    /// requests are in flight, whatever the store has lost.
    pub fn set(&mut self, id: Nonce, epoch: u32, slots: PerClass<u32>, deadline: Time) {
        self.holders.retain(|holder| holder.id != id);
        if !slots.is_empty() {
            self.holders.push(Holder {
                id,
                epoch,
                slots,
                deadline,
            });
        }
    }

    /// Notes that an instance has found no slot for a class. Returns whether the note
    /// is new enough to be worth a write.
    pub fn note_waiting(&mut self, id: Nonce, class: Class, now: Time) -> bool {
        let waiting = self.waiting.of_mut(class);
        if waiting.is_some_and(|waiting| now.since(waiting.seen) < WAITING_KEPT / 2) {
            return false;
        }
        *waiting = Some(Waiting { id, seen: now });
        true
    }

    /// Whether an instance other than `id` waits for a slot.
    pub fn others_wait(&self, id: Nonce, now: Time, limits: &Limits) -> bool {
        let kept = WAITING_KEPT.saturating_add(limits.clock_skew);
        Class::COUNTED.iter().any(|class| {
            self.waiting
                .of(*class)
                .is_some_and(|waiting| waiting.id != id && now.since(waiting.seen) < kept)
        })
    }

    /// Whether so much of the budget is in use that idle slots are better given back
    /// than left to expire.
    pub fn is_scarce(&self, limits: &Limits) -> bool {
        self.used() > limits.slots / 4 || !matches!(self.breaker.phase, Phase::Closed)
    }

    /// The record with the version and nonce of another write, which is made at `now` by an
    /// instance that knows this of the clocks.
    #[must_use]
    pub fn written(mut self, nonce: Nonce, now: Time, apart: Option<ClocksApart>) -> Self {
        self.version = self.version.saturating_add(1);
        self.nonce = Some(nonce);
        self.time = Some(now);
        self.apart = apart;
        self
    }

    /// Notes the settings of the instance that writes it at `now`. Returns those of other
    /// nodes that the log is to tell of, once it is written.
    pub fn note_settings(&mut self, mark: SettingsMark, now: Time) -> Vec<SettingsMark> {
        self.settings.note(mark, now)
    }

    /// The stored form, with the rate by the clock of the fastest node, which is ahead of this
    /// instance's by `behind`; `None` if it is longer than a record may be.
    pub fn stored(&self, behind: Duration) -> Option<Bytes> {
        if behind.is_zero() {
            return encode(self);
        }
        let rate = self.rate.clone().by_clock(|time| time.plus(behind));
        encode(&Record {
            rate,
            ..self.clone()
        })
    }
}

/// The slots that are left to a class while its requests wait.
fn reserve(class: Class, slots: u32) -> u32 {
    match class {
        Class::Fill | Class::Pass | Class::Unsafe => (slots / RESERVE).max(1),
        // One runs at any time, so that everything is refreshed eventually.
        Class::Refresh => 1,
        Class::Stream => 0,
    }
}

/// The slots that are left to a class whether or not its requests wait.
fn floor(class: Class, slots: u32) -> u32 {
    match class {
        Class::Fill | Class::Pass | Class::Unsafe => slots / FLOOR,
        Class::Refresh | Class::Stream => 0,
    }
}

#[cfg(test)]
mod tests;
