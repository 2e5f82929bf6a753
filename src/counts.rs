//! What instances have counted: requests of visitors, requests to the origin, and refused
//! visitors. Pure.
//!
//! The embedded host counts at its edges. On other hosts the shield does: each instance adds
//! what it has counted to one of [`SHARDS`] values in the store, and all of them together are
//! what all nodes have counted. Numbers are lost where an instance ends before it has
//! written, and never counted twice but where a store says that a write failed which did not.

use crate::budget::{Unreadable, decode_record, encode_record};
use crate::cell::Nonce;
use crate::time::Time;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// In how many values of the store the numbers are, so that instances seldom write the same.
pub const SHARDS: u32 = 4;

/// Most labels of one kind, also when they are read back.
const LABELS_MAX: usize = 64;

/// Numbers by label.
type ByLabel = BTreeMap<String, u64>;

/// Numbers of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests of visitors, by [outcome](crate::shield::outcome::Outcome::name).
    #[serde(default)]
    pub requests: ByLabel,
    /// Visitors that got an error of the shield's own, by
    /// [cause](crate::shield::refusals::Cause::why).
    #[serde(default)]
    pub refused: ByLabel,
    /// Requests to the origin, by [reason](crate::world::RequestReason::token), then by what
    /// became of them: the class of the status, or the kind of failure.
    #[serde(default)]
    pub origin: BTreeMap<String, ByLabel>,
}

impl Counts {
    /// Counts requests of visitors.
    pub fn add_requests(&mut self, outcome: &str, number: u64) {
        add(&mut self.requests, outcome, number);
    }

    /// Counts refused visitors.
    pub fn add_refused(&mut self, why: &str, number: u64) {
        add(&mut self.refused, why, number);
    }

    /// Counts requests to the origin.
    pub fn add_origin(&mut self, reason: &str, outcome: &str, number: u64) {
        if let Some(outcomes) = entry(&mut self.origin, reason) {
            add(outcomes, outcome, number);
        }
    }

    /// Adds all that another has counted.
    pub fn add_all(&mut self, other: &Counts) {
        for (outcome, number) in &other.requests {
            self.add_requests(outcome, *number);
        }
        for (why, number) in &other.refused {
            self.add_refused(why, *number);
        }
        for (reason, outcomes) in &other.origin {
            for (outcome, number) in outcomes {
                self.add_origin(reason, outcome, *number);
            }
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.refused.is_empty() && self.origin.is_empty()
    }
}

fn add(numbers: &mut ByLabel, label: &str, number: u64) {
    if let Some(sum) = entry(numbers, label) {
        *sum = sum.saturating_add(number);
    }
}

/// The value of a label; none if there are too many labels for another.
fn entry<'a, V: Default>(values: &'a mut BTreeMap<String, V>, label: &str) -> Option<&'a mut V> {
    // Looked up twice: a label is known nearly always, and costs no allocation then.
    if !values.contains_key(label) {
        if values.len() >= LABELS_MAX {
            return None;
        }
        values.insert(label.to_owned(), V::default());
    }
    values.get_mut(label)
}

/// One of the values in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// New with every write, so that a writer knows its own.
    pub nonce: Option<Nonce>,
    /// When the first number was added, by the writer's clock.
    #[serde(default)]
    pub since: Option<Time>,
    /// The numbers.
    #[serde(default)]
    pub counts: Counts,
}

impl Shard {
    /// The shard after a write that adds `counts` at `now`.
    #[must_use]
    pub fn with(mut self, counts: &Counts, nonce: Nonce, now: Time) -> Self {
        self.counts.add_all(counts);
        self.since = Some(self.since.map_or(now, |since| since.min(now)));
        self.nonce = Some(nonce);
        self
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Shard) -> Self {
        self.counts.add_all(&other.counts);
        self.since = match (self.since, other.since) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self
    }

    /// The stored form; none if it is too long.
    pub fn encode(&self) -> Option<Bytes> {
        encode_record(self)
    }

    /// Reads a stored value.
    ///
    /// # Errors
    ///
    /// If it is not a shard of this version.
    pub fn decode(value: &[u8]) -> Result<Self, Unreadable> {
        let read: Shard = decode_record(value)?;
        // What is stored is bounded as what is counted.
        let mut shard = Shard {
            counts: Counts::default(),
            ..read
        };
        shard.counts.add_all(&read.counts);
        Ok(shard)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn counted() -> Counts {
        let mut counts = Counts::default();
        counts.add_requests("hit", 3);
        counts.add_requests("hit", 4);
        counts.add_refused("origin-busy", 1);
        counts.add_origin("fill", "2xx", 2);
        counts.add_origin("fill", "timeout", 1);
        counts
    }

    #[test]
    fn numbers_add_up_by_label() {
        let mut counts = counted();
        counts.add_all(&counted());
        assert_eq!(counts.requests.get("hit"), Some(&14));
        assert_eq!(counts.refused.get("origin-busy"), Some(&2));
        assert_eq!(counts.origin["fill"]["2xx"], 4);
        assert_eq!(counts.origin["fill"]["timeout"], 2);
        counts.add_requests("hit", u64::MAX);
        assert_eq!(counts.requests.get("hit"), Some(&u64::MAX));
    }

    #[test]
    fn labels_are_bounded_when_they_are_counted_and_when_they_are_read() {
        let mut counts = Counts::default();
        for number in 0..LABELS_MAX * 2 {
            let label = format!("x{number:04}");
            counts.add_requests(&label, 1);
            counts.add_origin(&label, &label, 1);
            counts.add_origin("x0000", &label, 1);
        }
        assert_eq!(counts.requests.len(), LABELS_MAX);
        assert_eq!(counts.origin.len(), LABELS_MAX);
        assert_eq!(counts.origin["x0000"].len(), LABELS_MAX);
        let many = (0..LABELS_MAX * 2).map(|number| (format!("y{number:04}"), 1));
        let shard = Shard {
            counts: Counts {
                requests: many.collect(),
                ..Counts::default()
            },
            ..Shard::default()
        };
        let read = Shard::decode(&shard.encode().unwrap()).unwrap();
        assert_eq!(read.counts.requests.len(), LABELS_MAX);
    }

    #[test]
    fn a_shard_is_read_back_and_is_as_old_as_its_first_number() {
        let at = Time::from_unix_millis;
        let one = Shard::default().with(&counted(), Nonce::new(1), at(2_000));
        let later = one.clone().with(&counted(), Nonce::new(2), at(9_000));
        assert_eq!(later.since, Some(at(2_000)));
        let read = Shard::decode(&later.encode().unwrap()).unwrap();
        assert_eq!(read, later);
        let older = Shard::default().with(&counted(), Nonce::new(3), at(1_000));
        let both = later.and(&older);
        assert_eq!(both.since, Some(at(1_000)));
        assert_eq!(both.counts.requests.get("hit"), Some(&21));
        assert!(Shard::decode(b"other").is_err());
        assert!(Shard::default().counts.is_empty());
    }
}
