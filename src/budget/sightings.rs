//! What one instance has seen of the record, by its own clock: since when each holder's
//! slots have stood as they are, and whether the clocks of the nodes agree.
//!
//! A slot is a lease by its holder's clock. Where two clocks are minutes apart, the slots of
//! one node seem to have lapsed to the other, and the other's to lie in the far future: both
//! nodes would use the whole budget. So an instance that has found clocks apart goes by what
//! it sees: a holder that has renewed its slots within the time of a lease is alive, whatever
//! its deadline says.
//!
//! Clocks are apart if
//!
//! - the record was written in the future;
//! - the record has changed since this instance looked at it, and was written long before
//!   that look; or
//! - the record says so: another instance has found it.
//!
//! The second needs two looks. So slots that have lapsed when an instance sees them for the
//! first time are left to their holder for as long as it takes to see a renewal. An instance
//! that ends with its request is gone by then: only the clock tells it which slots have lapsed.

use super::{Holder, Limits, RENEWED_WITHIN, Record, SLOTS_MAX, STREAMS_MAX};
use crate::cell::Nonce;
use crate::time::{Time, millis};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a write may be under way. A record that says that it was written so long before
/// it appeared was written by another clock.
const WRITE_MAX: Duration = Duration::from_secs(10);

/// How long the record says that clocks are apart after an instance has found it.
const APART_FOR: Duration = Duration::from_secs(3_600);

/// After this time an instance that finds clocks apart writes it again.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// How long an instance goes by a clock that is ahead of its own after it has seen a time of it.
const BEHIND_FOR: Duration = Duration::from_secs(600);

/// The largest difference that is told. One beyond this is told as this.
const APART_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Two nodes whose clocks differ by more than they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClocksApart {
    /// By how much at least, in milliseconds.
    millis: u64,
    /// When an instance last found it, by its clock.
    noted: Time,
}

impl ClocksApart {
    fn new(by: Duration, noted: Time) -> Self {
        ClocksApart {
            millis: millis(by.min(APART_MAX)),
            noted,
        }
    }

    /// By how much at least.
    pub fn by(&self) -> Duration {
        Duration::from_millis(self.millis).min(APART_MAX)
    }

    /// How far `noted` is from `now`, in either direction, where the clocks that tell both
    /// differ by as much as this says.
    fn age(&self, now: Time) -> Duration {
        let apart = now.since(self.noted).max(self.noted.since(now));
        apart.saturating_sub(self.by())
    }

    /// Whether it still counts at `now`.
    fn counts(&self, now: Time) -> bool {
        self.age(now) < APART_FOR
    }

    /// Whether a clock within the skew of this one has noted it less than a minute ago.
    pub fn is_new(&self, now: Time) -> bool {
        now.since(self.noted).max(self.noted.since(now)) < NOTED_EVERY
    }
}

/// A holder as it was seen.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    id: Nonce,
    deadline: Time,
    /// When this deadline was first seen.
    first: Time,
    /// Whether it had lapsed then.
    was_lapsed: bool,
}

/// The last look at the record.
#[derive(Clone, Copy, Debug)]
struct Look {
    version: u64,
    nonce: Option<Nonce>,
    /// The record was like this at this time or later.
    asked: Time,
}

/// What an instance has seen of the record.
#[derive(Debug)]
pub struct Sightings {
    /// Whether the instance outlives its requests.
    lasts: bool,
    /// At most as many as a record may have holders.
    seen: Vec<Sighting>,
    last: Option<Look>,
    /// What this instance has found, or read.
    apart: Option<ClocksApart>,
    /// How far the fastest clock is ahead of this instance's, and when it was seen.
    behind: Option<ClocksApart>,
}

impl Sightings {
    /// Nothing yet. `lasts` says whether the instance outlives its requests.
    pub fn new(lasts: bool) -> Self {
        Sightings {
            lasts,
            seen: Vec::new(),
            last: None,
            apart: None,
            behind: None,
        }
    }

    /// Notes a record that was asked for at `asked` and is there at `now`. Returns by how much
    /// clocks are apart, if this record shows it.
    pub fn look(
        &mut self,
        record: &Record,
        asked: Time,
        now: Time,
        limits: &Limits,
    ) -> Option<Duration> {
        let found = self.finds(record, now, limits);
        if let Some(by) = found {
            self.apart = Some(ClocksApart::new(by, now));
        } else if let Some(told) = record.apart {
            self.apart = Some(told);
        }
        self.apart = self.apart.filter(|apart| apart.counts(now));
        if !self.lasts {
            return found;
        }
        self.note_ahead(record, now, limits);
        self.last = Some(Look {
            version: record.version,
            nonce: record.nonce,
            asked,
        });
        let most = usize::try_from(SLOTS_MAX.saturating_add(STREAMS_MAX)).unwrap_or(usize::MAX);
        let before = std::mem::take(&mut self.seen);
        let sighting = |holder: &Holder| {
            let same = |seen: &&Sighting| seen.id == holder.id && seen.deadline == holder.deadline;
            match before.iter().find(same) {
                Some(seen) => Sighting {
                    first: seen.first.min(now),
                    ..*seen
                },
                None => Sighting {
                    id: holder.id,
                    deadline: holder.deadline,
                    first: now,
                    was_lapsed: !holder.is_live(now, limits),
                },
            }
        };
        self.seen = record.holders.iter().take(most).map(sighting).collect();
        found
    }

    /// By how much clocks are apart, if this record shows it.
    fn finds(&self, record: &Record, now: Time, limits: &Limits) -> Option<Duration> {
        let written = record.time?;
        let ahead = written.since(now);
        if ahead > limits.clock_skew {
            return Some(ahead);
        }
        let last = self.last?;
        let behind = last.asked.since(written);
        let has_changed = (last.version, last.nonce) != (record.version, record.nonce);
        let is_apart = has_changed && behind > WRITE_MAX.saturating_add(limits.clock_skew);
        is_apart.then_some(behind)
    }

    /// Keeps the largest difference: the time between the write and this look hides a part
    /// of it.
    fn note_ahead(&mut self, record: &Record, now: Time, limits: &Limits) {
        let is_old = |behind: ClocksApart| now.since(behind.noted) >= BEHIND_FOR;
        self.behind = self.behind.filter(|behind| !is_old(*behind));
        let ahead = record.time.map_or(Duration::ZERO, |time| time.since(now));
        if ahead > limits.clock_skew {
            let most = self.behind.map_or(ahead, |behind| behind.by().max(ahead));
            self.behind = Some(ClocksApart::new(most, now));
        }
    }

    /// How far the clock that the record's rate goes by is ahead of this instance's: that of
    /// the fastest node. If each node went by its own, one would fill the buckets up for the
    /// time by which it is ahead whenever the other has written them.
    pub fn behind(&self) -> Duration {
        self.behind.map_or(Duration::ZERO, |behind| behind.by())
    }

    /// What is written into the record at `now`: what this instance has found.
    pub fn apart(&self) -> Option<ClocksApart> {
        self.apart
    }

    /// Whether the slots of a holder are its own at `now`.
    pub fn is_live(&self, holder: &Holder, now: Time, limits: &Limits) -> bool {
        if holder.is_live(now, limits) {
            return true;
        }
        let same = |seen: &&Sighting| seen.id == holder.id && seen.deadline == holder.deadline;
        let Some(seen) = self.seen.iter().find(same) else {
            return false;
        };
        let kept = match self.apart {
            Some(_) => limits.lease.saturating_add(limits.clock_skew * 2),
            None if seen.was_lapsed => {
                (limits.lease / RENEWED_WITHIN).saturating_add(limits.clock_skew)
            }
            None => return false,
        };
        now.since(seen.first) < kept
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIMITS, SETTINGS, id};
    use super::super::{Class, PerClass, RateLimit};
    use super::*;

    const APART: Duration = Duration::from_secs(600);
    const START: Time = Time::from_unix_millis(10_000_000);

    fn at(millis: u64) -> Time {
        START.plus(Duration::from_millis(millis))
    }

    /// An instance with its clock, which is ahead by this.
    struct Instance {
        sightings: Sightings,
        ahead: Duration,
        limits: Limits,
    }

    impl Instance {
        fn new(ahead: Duration) -> Self {
            Instance {
                sightings: Sightings::new(true),
                ahead,
                limits: LIMITS,
            }
        }

        /// The record as it counts for this instance, and whether it finds clocks apart.
        fn sees(&mut self, record: &Record, millis: u64) -> (Record, bool) {
            let now = at(millis).plus(self.ahead);
            let found = self.sightings.look(record, now, now, &self.limits);
            let seen = record.clone();
            let seen = seen.at(now, &self.limits, &SETTINGS, &self.sightings);
            (seen, found.is_some())
        }

        /// The record after this instance has taken as many slots as there are, up to `most`.
        fn takes(&mut self, record: &Record, number: u128, most: u32, millis: u64) -> Record {
            let now = at(millis).plus(self.ahead);
            let (mut seen, _) = self.sees(record, millis);
            seen.take(id(number), (Class::Fill, 0), most, now, &self.limits);
            seen.written(id(number + 100), now, self.sightings.apart())
        }
    }

    #[test]
    fn a_node_leaves_the_slots_of_a_node_behind_it_alone() {
        let mut slow = Instance::new(Duration::ZERO);
        let mut fast = Instance::new(APART);
        let record = slow.takes(&Record::default(), 1, 5, 0);
        let held = record.used();
        assert_eq!(held, 5);
        // They seem to have lapsed, and are left alone until a renewal can be seen.
        let (seen, found) = fast.sees(&record, 100);
        assert_eq!((seen.used(), found), (held, false));
        let mut renewed = record;
        let deadline = at(1_500).plus(LIMITS.lease);
        let slots = renewed.holders.first().map(|holder| holder.slots);
        renewed.set(id(1), 0, slots.unwrap_or_default(), deadline);
        let renewed = renewed.written(id(2), at(1_500), None);
        let (seen, found) = fast.sees(&renewed, 1_600);
        assert_eq!((seen.used(), found), (held, true));
        // The same slots without a renewal have no holder any more.
        let lapsed = 1_600 + millis(LIMITS.lease + 2 * LIMITS.clock_skew);
        assert_eq!(fast.sees(&renewed, lapsed - 1).0.used(), held);
        assert_eq!(fast.sees(&renewed, lapsed).0.used(), 0);
        // The record says so to an instance that has just begun.
        let written = fast.takes(&renewed, 3, 1, 1_700);
        let mut new = Instance::new(APART);
        assert!(new.sees(&written, 1_800).0.used() > held);
        assert!(new.sightings.apart().is_some());
    }

    #[test]
    fn a_node_leaves_the_slots_of_a_node_ahead_of_it_alone() {
        let mut slow = Instance::new(Duration::ZERO);
        let mut fast = Instance::new(APART);
        let record = fast.takes(&Record::default(), 1, LIMITS.slots, 0);
        let held = record.used();
        let (seen, found) = slow.sees(&record, 100);
        assert_eq!((seen.used(), found), (held, true));
        let lapsed = 100 + millis(LIMITS.lease + 2 * LIMITS.clock_skew);
        assert_eq!(slow.sees(&record, lapsed).0.used(), 0);
    }

    #[test]
    fn the_slots_of_a_node_that_died_are_free_after_the_time_of_a_renewal() {
        let mut before = Instance::new(Duration::ZERO);
        let mut after = Instance::new(Duration::ZERO);
        let record = before.takes(&Record::default(), 1, LIMITS.slots, 0);
        let held = record.used();
        assert_eq!(after.sees(&record, 60_000).0.used(), held);
        let kept = millis(LIMITS.lease / RENEWED_WITHIN + LIMITS.clock_skew) + 1;
        assert_eq!(after.sees(&record, 60_000 + kept - 2).0.used(), held);
        let (seen, found) = after.sees(&record, 60_000 + kept);
        assert_eq!((seen.used(), found), (0, false));
        // One that saw them live has waited already.
        let mut witness = Instance::new(Duration::ZERO);
        assert_eq!(witness.sees(&record, 100).0.used(), held);
        assert_eq!(witness.sees(&record, 60_000).0.used(), 0);
    }

    #[test]
    fn an_instance_that_ends_with_its_request_goes_by_the_clock() {
        let mut before = Instance::new(Duration::ZERO);
        let record = before.takes(&Record::default(), 1, LIMITS.slots, 0);
        let mut short = Instance::new(Duration::ZERO);
        short.sightings = Sightings::new(false);
        assert_eq!(short.sees(&record, 60_000).0.used(), 0);
    }

    /// Each filled the buckets up for ten minutes whenever the other had written them.
    #[test]
    fn nodes_whose_clocks_are_apart_keep_to_the_rate_but_for_a_burst() {
        const RATE: u32 = 480;
        let limit = RateLimit::new(RATE, LIMITS.clock_skew);
        assert!(limit.is_some());
        let mut slow = Instance::new(Duration::ZERO);
        let mut fast = Instance::new(APART);
        for instance in [&mut slow, &mut fast] {
            instance.limits.rate = limit;
        }
        let mut stored = Record::default();
        let mut taken = 0;
        for second in 0..3_600 {
            let instance = if second % 2 == 0 {
                &mut slow
            } else {
                &mut fast
            };
            let (mut seen, _) = instance.sees(&stored, second * 1_000);
            let now = at(second * 1_000).plus(instance.ahead);
            for class in Class::COUNTED {
                let most = seen.tokens(class, now, &instance.limits);
                let id = id(u128::from(second) * 8 + class as u128 + 1);
                let tokens: PerClass<u32> =
                    seen.take_tokens(id, class, most, now, &instance.limits);
                taken += tokens.counted();
            }
            let apart = instance.sightings.apart();
            let written = seen.written(id(u128::from(second) + 1), now, apart);
            let behind = instance.sightings.behind();
            let value = written.stored(behind).unwrap_or_default();
            stored = super::super::decode(&value).unwrap_or_default();
        }
        let burst = RATE / 4;
        assert!(taken > RATE / 2 && taken <= RATE + burst, "{taken}");
    }
}
