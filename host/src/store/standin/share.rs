//! What a node may take of the origin's budget while the store fails: pure functions of
//! the record, time passed in.
//!
//! The node has the record as it read it last. In that it reserves all but its own share
//! for the others, as one more holder of slots. So its instances go on with the record,
//! by exact swaps, and all of them together keep to `origin.local_concurrency`.
//!
//! What others held when the store failed counts until its time is over. By then this node
//! has given back what it holds beyond its share: the record says that others wait. When the store
//! is back, what the instances of this node have in flight is in its record before any of
//! them takes more, and the reserve stays for a moment: other nodes still stand in, and
//! what they have in flight is not in the record yet.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use leeward::budget::{Class, PerClass, Record, Unreadable, decode, encode};
use leeward::cell::Nonce;
use leeward::config::Config;
use leeward::time::Time;

/// Begins the names of the records.
const RECORDS: &str = "budget/";

/// The holder of what is reserved for other nodes.
const OTHERS: Nonce = Nonce::new(u128::from_be_bytes(*b"leeward: others\0"));

/// For how long after the store is back its record has the reserve. Nodes that stand in
/// look for the store once a second at least, and note then what they have in flight.
const SETTLES_FOR: Duration = Duration::from_secs(3);

/// How much of the budget a node may use alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Most requests in flight of all nodes.
    slots: u32,
    /// Most requests in flight of a node while the store fails.
    local: u32,
    /// How long a slot is held unless it is renewed.
    lease: Duration,
    clock_skew: Duration,
}

/// The share by the settings as they are now. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Shares(Arc<RwLock<Share>>);

impl Shares {
    /// What holds now.
    pub(super) fn get(&self) -> Share {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, this holds.
    pub(crate) fn set(&self, share: Share) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = share;
    }
}

impl From<Share> for Shares {
    fn from(share: Share) -> Self {
        Self(Arc::new(RwLock::new(share)))
    }
}

impl Share {
    /// The share by the settings.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            slots: config.budget.max_concurrency,
            local: config.budget.local_concurrency,
            lease: config.lease.duration,
            clock_skew: config.lease.clock_skew,
        }
    }

    /// The record with all but this node's share reserved; none if it is so already, or
    /// if it is not to be touched.
    pub(super) fn limited(&self, record: Option<&[u8]>, own: &Own, now: Time) -> Option<Bytes> {
        let mut record = read(record)?;
        self.drop_lapsed(&mut record, now);
        let slots = self.for_others(&record, own);
        let known = record.holders.iter().find(|holder| holder.id == OTHERS);
        let is_kept = match known {
            Some(known) => known.slots == slots && known.deadline >= now.plus(self.lease / 2),
            None => slots.is_empty(),
        };
        let asks = self.asks_back(&mut record, own, now);
        if is_kept && !asks {
            return None;
        }
        let epoch = record.breaker.epoch;
        record.set(OTHERS, epoch, slots, now.plus(self.lease));
        written(record, now)
    }

    /// What the store's record becomes when the store is back; `mine` is the record as it
    /// was while this node stood in. None if it is not to be touched.
    pub(super) fn restored(
        &self,
        stored: Option<&[u8]>,
        mine: &[u8],
        own: &Own,
        now: Time,
    ) -> Option<Bytes> {
        let mut mine = decode(mine).ok()?;
        let mut record = match stored {
            // The store has lost it: what others held counts as before.
            None => mine.clone(),
            Some(stored) => read(Some(stored))?,
        };
        self.drop_lapsed(&mut mine, now);
        self.drop_lapsed(&mut record, now);
        record.holders.retain(|holder| !own.0.contains(&holder.id));
        let held = mine.holders.iter().filter(|it| own.0.contains(&it.id));
        record.holders.extend(held);
        let slots = self.for_others(&record, own);
        let epoch = record.breaker.epoch;
        record.set(OTHERS, epoch, slots, now.plus(SETTLES_FOR));
        written(record, now)
    }

    /// Notes that others wait, while this node holds more than its share. Returns whether
    /// the note is worth a write.
    fn asks_back(&self, record: &mut Record, own: &Own, now: Time) -> bool {
        let held = record.holders.iter().filter(|it| own.0.contains(&it.id));
        let held = held.fold(0_u32, |sum, holder| {
            sum.saturating_add(holder.slots.counted())
        });
        if held <= self.local {
            return false;
        }
        let noted = Class::COUNTED.map(|class| record.note_waiting(OTHERS, class, now));
        noted.contains(&true)
    }

    fn drop_lapsed(&self, record: &mut Record, now: Time) {
        (record.holders).retain(|holder| now < holder.deadline.plus(self.clock_skew));
    }

    /// What is to be reserved: all but the share, less what others are known to hold. It
    /// is spread over the classes, so that to none of them anything is owed from the share.
    fn for_others(&self, record: &Record, own: &Own) -> PerClass<u32> {
        let others = record
            .holders
            .iter()
            .filter(|holder| holder.id != OTHERS && !own.0.contains(&holder.id));
        let held = others.fold(0_u32, |sum, holder| {
            sum.saturating_add(holder.slots.counted())
        });
        let mut left = self.slots.saturating_sub(self.local).saturating_sub(held);
        let mut slots = PerClass::<u32>::default();
        if left > 3 {
            slots.refresh = 1;
            left -= 1;
        }
        let classes = [Class::Pass, Class::Unsafe, Class::Fill];
        for (place, class) in (0_u32..).zip(classes) {
            *slots.of_mut(class) = left / 3 + u32::from(place < left % 3);
        }
        slots
    }
}

/// Whether a key is that of a record.
pub(super) fn is_record(key: &str) -> bool {
    key.starts_with(RECORDS)
}

/// An absent record is an empty one; a damaged one is replaced, a newer one is left alone.
fn read(record: Option<&[u8]>) -> Option<Record> {
    match record.map(decode) {
        None | Some(Err(Unreadable::Corrupt)) => Some(Record::default()),
        Some(Ok(record)) => Some(record),
        Some(Err(Unreadable::Newer)) => None,
    }
}

fn written(record: Record, now: Time) -> Option<Bytes> {
    let apart = record.apart;
    encode(&record.written(Nonce::new(fastrand::u128(..)), now, apart))
}

/// The slots that instances of this node hold, by their names in the record.
#[derive(Debug, Default)]
pub(super) struct Own(HashSet<Nonce>);

impl Own {
    /// An instance of this node has swapped a record. What was not in it before is its own.
    pub(super) fn note(&mut self, expected: Option<&[u8]>, new: &[u8]) {
        let Ok(new) = decode(new) else {
            return;
        };
        let before = expected.and_then(|expected| decode(expected).ok());
        let was_there: HashSet<_> = before
            .iter()
            .flat_map(|record| record.holders.iter().map(|holder| holder.id))
            .collect();
        let ids = new.holders.iter().map(|holder| holder.id);
        let own =
            ids.filter(|id| *id != OTHERS && (self.0.contains(id) || !was_there.contains(id)));
        self.0 = own.collect();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use leeward::budget::Limits;

    use super::*;

    const NOW: Time = Time::from_unix_millis(1_000_000);

    const SHARE: Share = Share {
        slots: 16,
        local: 2,
        lease: Duration::from_secs(10),
        clock_skew: Duration::from_secs(1),
    };

    const LIMITS: Limits = Limits {
        slots: 16,
        streams: 8,
        lease: SHARE.lease,
        clock_skew: SHARE.clock_skew,
        rate: None,
    };

    /// Takes slots as an instance does; says how many.
    fn take(
        raw: &mut Option<Bytes>,
        own: Option<&mut Own>,
        id: u128,
        class: Class,
        now: Time,
    ) -> u32 {
        let before = raw.clone();
        let mut record = read(raw.as_deref()).unwrap();
        SHARE.drop_lapsed(&mut record, now);
        let taken = record.take(Nonce::new(id), (class, 7), 16, now, &LIMITS);
        let new = encode(&record).unwrap();
        if let Some(own) = own {
            own.note(before.as_deref(), &new);
        }
        *raw = Some(new);
        taken
    }

    fn limit(raw: &mut Option<Bytes>, own: &Own, now: Time) {
        if let Some(limited) = SHARE.limited(raw.as_deref(), own, now) {
            *raw = Some(limited);
        }
        assert_eq!(SHARE.limited(raw.as_deref(), own, now), None);
    }

    #[test]
    fn a_node_alone_has_its_share_for_every_class() {
        for class in Class::COUNTED {
            let (mut raw, mut own) = (None, Own::default());
            limit(&mut raw, &own, NOW);
            let mut taken = 0;
            for instance in 1..5 {
                taken += take(&mut raw, Some(&mut own), instance, class, NOW);
                limit(&mut raw, &own, NOW);
            }
            assert_eq!(taken, 2, "{class:?}");
        }
    }

    #[test]
    fn what_was_in_flight_when_the_store_failed_counts() {
        let (mut raw, mut own) = (None, Own::default());
        // Another node, and this one, have all that there is between them.
        let others = take(&mut raw, None, 1, Class::Fill, NOW);
        let mine = take(&mut raw, Some(&mut own), 2, Class::Pass, NOW);
        assert!(others > 8 && mine > 0);
        limit(&mut raw, &own, NOW);
        assert_eq!(take(&mut raw, Some(&mut own), 3, Class::Fill, NOW), 0);
        // Their time is over, and nothing more is free than the share.
        let later = NOW.plus(SHARE.lease + SHARE.clock_skew);
        limit(&mut raw, &own, later);
        let mut taken = 0;
        for instance in 4..8 {
            taken += take(&mut raw, Some(&mut own), instance, Class::Fill, later);
            limit(&mut raw, &own, later);
        }
        assert_eq!(taken, 2);
    }

    #[test]
    fn a_node_that_holds_more_than_its_share_is_asked_to_give_back() {
        let (mut raw, mut own) = (None, Own::default());
        assert!(take(&mut raw, Some(&mut own), 1, Class::Fill, NOW) > 2);
        limit(&mut raw, &own, NOW);
        let record = read(raw.as_deref()).unwrap();
        assert!(record.others_wait(Nonce::new(1), NOW, &LIMITS));
        // Its share is nobody else's.
        let (mut raw, mut own) = (None, Own::default());
        limit(&mut raw, &own, NOW);
        assert_eq!(take(&mut raw, Some(&mut own), 1, Class::Fill, NOW), 2);
        limit(&mut raw, &own, NOW);
        let record = read(raw.as_deref()).unwrap();
        assert!(!record.others_wait(Nonce::new(1), NOW, &LIMITS));
    }

    #[test]
    fn a_store_that_is_back_has_what_is_in_flight_and_the_reserve_for_a_moment() {
        let (mut raw, mut own) = (None, Own::default());
        let others = take(&mut raw, None, 1, Class::Fill, NOW);
        limit(&mut raw, &own, NOW);
        take(&mut raw, Some(&mut own), 2, Class::Unsafe, NOW);
        let mine = read(raw.as_deref()).unwrap();
        let in_flight = mine
            .holders
            .iter()
            .find(|it| it.id == Nonce::new(2))
            .unwrap();
        // It has lost everything, or has another node's as it is now.
        let mut stored = None;
        take(&mut stored, None, 9, Class::Pass, NOW);
        for (stored, known) in [(None, others), (stored, 0)] {
            let mine = raw.as_deref().unwrap();
            let back = SHARE.restored(stored.as_deref(), mine, &own, NOW).unwrap();
            let record = decode(&back).unwrap();
            assert!(record.holders.contains(in_flight));
            assert!(record.used() >= 14);
            let of_other = record.holders.iter().find(|it| it.id == Nonce::new(1));
            assert_eq!(of_other.map_or(0, |it| it.slots.counted()), known);
            let mut left = record;
            SHARE.drop_lapsed(&mut left, NOW.plus(SETTLES_FOR + SHARE.clock_skew));
            assert!(left.holders.iter().all(|holder| holder.id != OTHERS));
        }
    }

    #[test]
    fn a_record_of_a_newer_version_is_left_alone() {
        let newer = [2, 0, 0, 0, 0];
        assert_eq!(SHARE.limited(Some(&newer), &Own::default(), NOW), None);
    }
}
