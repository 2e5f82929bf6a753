//! What a node knows of its store, and what it answers while that fails: a pure type, time
//! passed in.
//!
//! It keeps what instances read and wrote lately, bounded in bytes and entries: two
//! generations, as the component does for each instance. While the store fails, reads are
//! answered from that, and swaps compare with it. What is written then has the value that
//! it started from. When the store is back, it is offered in the place of that: what has
//! come into the store since is never overwritten.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// Most bytes of keys and values, in each of the two generations.
const GENERATION_BYTES_MAX: usize = 32 << 20;

/// Most values, in each of the two generations.
const GENERATION_ENTRIES_MAX: usize = 20_000;

/// What a value takes besides its bytes, about.
const ENTRY_BYTES: usize = 128;

/// A value that the store has shown within this time may be answered while the store is
/// slow to read. Others write it meanwhile.
const LATELY: Duration = Duration::from_secs(60);

/// A part of the store that fails apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Reads,
    Writes,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// The store has it, or had it when it last answered.
    Store,
    /// It was swapped in while the store failed, for this value of the store.
    Swapped(Option<Bytes>),
    /// It was written while the store failed, under a name that nobody else writes.
    Put,
    /// It is of no use to others.
    Alone,
}

#[derive(Debug)]
struct Value {
    /// None: known to be absent.
    bytes: Option<Bytes>,
    origin: Origin,
    /// When the store showed it, or took it.
    seen: Instant,
}

/// What is written to the store when it is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) key: String,
    pub(super) value: Bytes,
    pub(super) instead_of: Expected,
}

/// What an offer takes the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// This value, or none.
    Value(Option<Bytes>),
    /// Whatever is there: nobody else writes it.
    Anything,
}

/// What to do about a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Answer this.
    Answer(Option<Bytes>),
    /// Ask the store; if it takes long, there is something to answer, or there is not.
    Ask { is_known: bool },
}

#[derive(Debug, Default)]
struct Generation {
    values: HashMap<String, Value>,
    bytes: usize,
}

fn size(key: &str, value: &Value) -> usize {
    let bytes = value.bytes.as_ref().map_or(0, Bytes::len);
    let before = match &value.origin {
        Origin::Swapped(Some(before)) => before.len(),
        _ => 0,
    };
    key.len()
        .saturating_add(bytes)
        .saturating_add(before)
        .saturating_add(ENTRY_BYTES)
}

impl Generation {
    fn remove(&mut self, key: &str) -> Option<Value> {
        let value = self.values.remove(key)?;
        self.bytes = self.bytes.saturating_sub(size(key, &value));
        Some(value)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Node {
    young: Generation,
    old: Generation,
    reads_fail: bool,
    writes_fail: bool,
    /// Reads take longer than visitors should wait.
    reads_are_slow: bool,
}

impl Node {
    /// Which parts fail, in the words of [`leeward::cells::HOST_STORE`].
    pub(super) fn told(&self) -> String {
        let parts = [
            ("read fails\n", self.reads_fail),
            ("write fails\n", self.writes_fail),
        ];
        let failing = parts.iter().filter(|(_, fails)| *fails);
        failing.map(|(text, _)| *text).collect()
    }

    pub(super) fn reads_fail(&self) -> bool {
        self.reads_fail
    }

    pub(super) fn writes_fail(&self) -> bool {
        self.writes_fail
    }

    /// A part of the store has failed. Returns whether it worked before. Without reads
    /// nothing is written either: a swap waits for what cannot be given up.
    pub(super) fn fail(&mut self, part: Part) -> bool {
        let worked = match part {
            Part::Reads => !std::mem::replace(&mut self.reads_fail, true),
            Part::Writes => !self.writes_fail,
        };
        self.writes_fail = true;
        worked
    }

    /// The store reads again.
    pub(super) fn read_again(&mut self) {
        self.reads_fail = false;
        self.reads_are_slow = false;
    }

    /// The store works again: what it has not been offered or has not taken is dropped.
    pub(super) fn work_again(&mut self) {
        self.read_again();
        self.writes_fail = false;
        for generation in [&mut self.young, &mut self.old] {
            let lost = generation
                .values
                .extract_if(|_, value| value.origin != Origin::Store);
            let freed: usize = lost.map(|(key, value)| size(&key, &value)).sum();
            generation.bytes = generation.bytes.saturating_sub(freed);
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let young = self.young.values.get(key);
        young.or_else(|| self.old.values.get(key))
    }

    fn put(&mut self, key: &str, bytes: Option<Bytes>, origin: Origin, now: Instant) {
        self.forget(key);
        let value = Value {
            bytes,
            origin,
            seen: now,
        };
        let size = size(key, &value);
        if size > GENERATION_BYTES_MAX {
            return;
        }
        let is_full = self.young.bytes.saturating_add(size) > GENERATION_BYTES_MAX
            || self.young.values.len() >= GENERATION_ENTRIES_MAX;
        if is_full {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes = self.young.bytes.saturating_add(size);
        self.young.values.insert(key.to_owned(), value);
    }

    /// A value is not known any more.
    pub(super) fn forget(&mut self, key: &str) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// What to do about a read of `key`.
    pub(super) fn read(&self, key: &str, now: Instant) -> Plan {
        let known = self.get(key);
        if self.reads_fail {
            return Plan::Answer(known.and_then(|value| value.bytes.clone()));
        }
        let lately = known.filter(|value| now.saturating_duration_since(value.seen) < LATELY);
        match lately {
            Some(value) if self.reads_are_slow => Plan::Answer(value.bytes.clone()),
            lately => Plan::Ask {
                is_known: lately.is_some(),
            },
        }
    }

    /// The store has not answered in time, and what it showed lately is known: others get
    /// that at once until it has answered.
    pub(super) fn read_late(&mut self, key: &str) -> Option<Bytes> {
        self.reads_are_slow = true;
        self.answer(key)
    }

    /// What is known of a key.
    pub(super) fn answer(&self, key: &str) -> Option<Bytes> {
        self.get(key).and_then(|value| value.bytes.clone())
    }

    /// The store has answered a read of `key`. Returns what the instance is told. What was
    /// written while only writes fail counts as long as the store has what it started from.
    pub(super) fn has_read(
        &mut self,
        key: &str,
        stored: Option<Bytes>,
        now: Instant,
    ) -> Option<Bytes> {
        self.reads_are_slow = false;
        if let Some(value) = self.get(key) {
            let stands = match &value.origin {
                Origin::Store => false,
                Origin::Swapped(before) => *before == stored,
                Origin::Put | Origin::Alone => stored.is_none(),
            };
            if stands && self.writes_fail {
                return value.bytes.clone();
            }
            // An answer from before the store failed says nothing about now.
            if self.reads_fail {
                return value.bytes.clone();
            }
        }
        self.put(key, stored.clone(), Origin::Store, now);
        stored
    }

    /// The store has taken a value.
    pub(super) fn has_written(&mut self, key: &str, value: Bytes, now: Instant) {
        if !self.writes_fail {
            self.put(key, Some(value), Origin::Store, now);
        }
    }

    /// Swaps a value while the store fails. What is not known is what the instance says
    /// that it has read.
    pub(super) fn swap(
        &mut self,
        key: &str,
        expected: Option<&[u8]>,
        new: Bytes,
        now: Instant,
    ) -> bool {
        let known = self.get(key);
        let is_expected = known.is_none_or(|value| value.bytes.as_deref() == expected);
        if !is_expected {
            return false;
        }
        let before = match known.map(|value| (&value.origin, &value.bytes)) {
            Some((Origin::Swapped(before), _)) => before.clone(),
            Some((_, bytes)) => bytes.clone(),
            None => expected.map(Bytes::copy_from_slice),
        };
        self.put(key, Some(new), Origin::Swapped(before), now);
        true
    }

    /// Writes a value while the store fails that nobody else writes.
    pub(super) fn set(&mut self, key: &str, value: Bytes, now: Instant) {
        self.put(key, Some(value), Origin::Put, now);
    }

    /// Removes a value, or writes one that is of no use to others, while the store fails.
    pub(super) fn keep_alone(&mut self, key: &str, value: Option<Bytes>, now: Instant) {
        self.put(key, value, Origin::Alone, now);
    }

    /// What is to be offered to the store: first what cells may name.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let all = self.young.values.iter().chain(&self.old.values);
        let mut offers: Vec<_> = all
            .filter_map(|(key, value)| {
                let instead_of = match &value.origin {
                    Origin::Put => Expected::Anything,
                    Origin::Swapped(before) => Expected::Value(before.clone()),
                    Origin::Store | Origin::Alone => return None,
                };
                Some(Offer {
                    key: key.clone(),
                    value: value.bytes.clone()?,
                    instead_of,
                })
            })
            .collect();
        offers.sort_by_key(|offer| offer.instead_of != Expected::Anything);
        offers
    }

    /// The store has taken an offer, or has something else by now. What was written since
    /// the offer is offered again, or goes.
    pub(super) fn has_offered(&mut self, offer: &Offer, is_taken: bool, now: Instant) {
        let Some(value) = self.get(&offer.key) else {
            return;
        };
        let is_same = value.bytes.as_ref() == Some(&offer.value);
        match (is_taken, is_same) {
            (true, true) => {
                let bytes = Some(offer.value.clone());
                self.put(&offer.key, bytes, Origin::Store, now);
            }
            (true, false) => {
                let before = Some(offer.value.clone());
                let bytes = value.bytes.clone();
                self.put(&offer.key, bytes, Origin::Swapped(before), now);
            }
            (false, _) => self.forget(&offer.key),
        }
    }
}

#[cfg(test)]
mod tests;
