//! What an instance has read of the shared store lately, for when that does not
//! answer.
//!
//! Two generations: a value that is read or written goes into the young one. When
//! that is full, it becomes the old one, and the old one goes. So at least half of
//! the limit is there for what is in use, and nothing is sorted.

use crate::cell::{Cell, codec};
use crate::time::Time;
use bytes::Bytes;
use std::collections::HashMap;

/// Most bytes of keys and values that an instance remembers, in each of the two
/// generations.
const GENERATION_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
struct Value {
    raw: Bytes,
    /// When it was read or written.
    noted: Time,
    /// Until when it answers requests; zero where it does not.
    fresh_until: Time,
}

#[derive(Debug, Default)]
struct Generation {
    values: HashMap<String, Value>,
    size: usize,
}

impl Generation {
    fn remove(&mut self, id: &str) {
        if let Some(value) = self.values.remove(id) {
            self.size = self.size.saturating_sub(size(id, &value));
        }
    }
}

fn size(id: &str, value: &Value) -> usize {
    id.len().saturating_add(value.raw.len())
}

/// Cells as they were last read, by their names.
#[derive(Debug, Default)]
pub(super) struct Recent {
    young: Generation,
    old: Generation,
}

impl Recent {
    /// The store has, or had at `now`, this cell under a name.
    pub(super) fn note(&mut self, id: &str, raw: Option<&Bytes>, cell: Option<&Cell>, now: Time) {
        let (Some(raw), Some(cell)) = (raw, cell) else {
            return self.forget(id);
        };
        let known = self.young.values.get(id);
        if known.is_some_and(|known| known.raw == *raw) {
            return;
        }
        self.forget(id);
        let entry = cell.entry.as_ref().filter(|entry| !entry.invalidated);
        let fresh_until = entry.map_or(Time::default(), |entry| {
            let left = u64::try_from(entry.freshness.ttl_ms(now)).unwrap_or(0);
            now.plus(std::time::Duration::from_millis(left))
        });
        let value = Value {
            raw: raw.clone(),
            noted: now,
            fresh_until,
        };
        let size = size(id, &value);
        if size > GENERATION_BYTES_MAX {
            return;
        }
        if self.young.size.saturating_add(size) > GENERATION_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.size = self.young.size.saturating_add(size);
        self.young.values.insert(id.to_owned(), value);
    }

    /// A cell is not to be used any more.
    pub(super) fn forget(&mut self, id: &str) {
        self.young.remove(id);
        self.old.remove(id);
    }

    fn get(&self, id: &str) -> Option<&Value> {
        self.young
            .values
            .get(id)
            .or_else(|| self.old.values.get(id))
    }

    /// Whether the cell has an entry that is fresh at `now`. Not if the clock was set back
    /// since it was read.
    pub(super) fn is_fresh(&self, id: &str, now: Time) -> bool {
        let is_fresh = |value: &Value| (value.noted..value.fresh_until).contains(&now);
        self.get(id).is_some_and(is_fresh)
    }

    /// The cell of a key.
    pub(super) fn cell(&self, id: &str, key: &str) -> Option<Cell> {
        codec::decode(&self.get(id)?.raw, key).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::cell::{Marks, Nonce};

    fn remember(recent: &mut Recent, id: &str, key_bytes: usize) {
        let cell = Cell {
            coming: None,
            version: 1,
            nonce: Nonce::new(1),
            key: "k".repeat(key_bytes),
            entry: None,
            lease: None,
            marks: Marks::default(),
            orphans: Vec::new(),
        };
        let raw = codec::encode(&cell).unwrap();
        recent.note(id, Some(&raw), Some(&cell), Time::default());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest_stays() {
        let mut recent = Recent::default();
        let each = 100_000;
        for number in 0..200 {
            remember(&mut recent, &format!("cell/{number}"), each);
            // Read again and again.
            remember(&mut recent, "cell/used", each);
            let size = recent.young.size + recent.old.size;
            assert!(size <= 2 * GENERATION_BYTES_MAX);
        }
        assert!(recent.get("cell/199").is_some());
        assert!(recent.get("cell/used").is_some());
        assert!(recent.get("cell/0").is_none());
        let of = |generation: &Generation| -> usize {
            let values = generation.values.iter();
            values.map(|(id, value)| size(id, value)).sum()
        };
        assert_eq!(recent.young.size, of(&recent.young));
        assert_eq!(recent.old.size, of(&recent.old));
    }

    #[test]
    fn what_is_forgotten_is_gone() {
        let mut recent = Recent::default();
        remember(&mut recent, "cell/1", 10);
        let key = "k".repeat(10);
        assert!(recent.cell("cell/1", &key).is_some());
        assert!(recent.cell("cell/1", "other").is_none());
        recent.forget("cell/1");
        assert!(recent.cell("cell/1", &key).is_none());
        assert_eq!(recent.young.size, 0);
    }
}
