//! A store in the memory of one instance.
//!
//! It stands in while the platform's store fails, so that requests of one
//! instance still share one fetch and its answer, and it is all that a platform
//! without a store has. Its swap is exact, for nobody else sees it.

use super::{Reach, Removal, Store, StoreError, Swap};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

/// What a value takes beside the bytes of its name and of itself, in bytes, about: the
/// name is kept twice, and maps have room to spare.
const ENTRY_BYTES: usize = 256;

/// How many more writes than there are values the order of writes remembers at most,
/// as a multiple of these values.
const ORDER_SLACK: usize = 2;

/// Writes that the order remembers in any case.
const ORDER_MIN: usize = 64;

/// Values of one instance. Those that were not written for the longest time are dropped
/// when they grow beyond a limit: entries in use are refreshed, and the record of the
/// origin's budget is written all the time.
#[derive(Debug)]
pub struct Memory {
    /// In bytes: names, values, and what keeping them takes.
    limit: usize,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    values: HashMap<String, Kept>,
    /// Names in the order in which they were written. A write that was followed by
    /// another, or by a removal, is passed over.
    order: VecDeque<(u64, String)>,
    /// The number of the last write.
    writes: u64,
    size: usize,
}

#[derive(Debug)]
struct Kept {
    value: Bytes,
    /// The number of the write that wrote it.
    written: u64,
}

impl Memory {
    /// An empty store for at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Memory {
            limit,
            inner: RefCell::default(),
        }
    }
}

impl Store for Memory {
    fn reach(&self) -> Reach {
        Reach::Instance
    }

    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.inner.borrow().value(key).cloned())
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        let inner = &mut *self.inner.borrow_mut();
        let current = inner.value(key);
        if current != expected {
            return Ok(Swap::Conflict(current.cloned()));
        }
        inner.insert(key, new, self.limit);
        Ok(Swap::Done)
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.inner.borrow_mut().insert(key, value, self.limit);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.inner.borrow_mut().remove(key);
        Ok(())
    }

    async fn remove_if(&self, key: &str, expected: &Bytes) -> Result<Removal, StoreError> {
        let inner = &mut *self.inner.borrow_mut();
        let is_expected = inner.value(key) == Some(expected);
        if is_expected {
            inner.remove(key);
        }
        Ok(Removal::done_if(is_expected))
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        for name in self.inner.borrow().values.keys() {
            each(name);
        }
        Ok(true)
    }
}

fn size(key: &str, value: &Bytes) -> usize {
    let bytes = key.len().saturating_add(value.len());
    bytes.saturating_add(ENTRY_BYTES)
}

impl Inner {
    fn value(&self, key: &str) -> Option<&Bytes> {
        self.values.get(key).map(|kept| &kept.value)
    }

    fn remove(&mut self, key: &str) {
        if let Some(kept) = self.values.remove(key) {
            self.size = self.size.saturating_sub(size(key, &kept.value));
        }
    }

    fn insert(&mut self, key: &str, value: &Bytes, limit: usize) {
        self.remove(key);
        // It would drop all others, and itself at last.
        if size(key, value) > limit {
            return;
        }
        self.writes = self.writes.saturating_add(1);
        let kept = Kept {
            value: value.clone(),
            written: self.writes,
        };
        self.values.insert(key.to_owned(), kept);
        self.order.push_back((self.writes, key.to_owned()));
        self.size = self.size.saturating_add(size(key, value));
        while self.size > limit {
            let Some((written, oldest)) = self.order.pop_front() else {
                break;
            };
            if self.is_last_write(written, &oldest) {
                self.remove(&oldest);
            }
        }
        let most = self.values.len().saturating_mul(ORDER_SLACK).max(ORDER_MIN);
        if self.order.len() > most {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(written, key)| self.is_last_write(*written, key));
            self.order = order;
        }
    }

    fn is_last_write(&self, written: u64, key: &str) -> bool {
        let kept = self.values.get(key);
        kept.is_some_and(|kept| kept.written == written)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use futures::executor::block_on;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_swap_needs_the_value_that_was_read() {
        let store = Memory::new(1_000);
        let (a, b) = (bytes("a"), bytes("b"));
        block_on(async {
            assert_eq!(store.swap("k", None, &a).await.unwrap(), Swap::Done);
            let lost = Swap::Conflict(Some(a.clone()));
            assert_eq!(store.swap("k", None, &b).await.unwrap(), lost);
            assert_eq!(store.swap("k", Some(&b), &b).await.unwrap(), lost);
            assert_eq!(store.swap("k", Some(&a), &b).await.unwrap(), Swap::Done);
            assert_eq!(store.load("k").await.unwrap(), Some(b));
        });
    }

    #[test]
    fn the_oldest_goes_first() {
        let store = Memory::new(2 * (ENTRY_BYTES + 3));
        block_on(async {
            for key in ["1", "2", "3"] {
                store.swap(key, None, &bytes("xx")).await.unwrap();
            }
            assert_eq!(store.load("1").await.unwrap(), None);
            assert_eq!(store.load("2").await.unwrap(), Some(bytes("xx")));
            assert_eq!(store.load("3").await.unwrap(), Some(bytes("xx")));
        });
    }

    #[test]
    fn what_is_removed_makes_room() {
        let store = Memory::new(2 * (ENTRY_BYTES + 3));
        block_on(async {
            store.put("1", &bytes("xx")).await.unwrap();
            store.put("2", &bytes("xx")).await.unwrap();
            store.remove("1").await.unwrap();
            store.remove("1").await.unwrap();
            store.put("3", &bytes("xx")).await.unwrap();
            assert_eq!(store.load("1").await.unwrap(), None);
            assert_eq!(store.load("2").await.unwrap(), Some(bytes("xx")));
            assert_eq!(store.load("3").await.unwrap(), Some(bytes("xx")));
        });
    }

    #[test]
    fn what_is_written_again_stays_and_the_rest_goes() {
        let store = Memory::new(10 * (ENTRY_BYTES + 8));
        block_on(async {
            for number in 0..1_000 {
                store.put("record", &bytes("xx")).await.unwrap();
                store.put(&number.to_string(), &bytes("xx")).await.unwrap();
            }
            assert_eq!(store.load("record").await.unwrap(), Some(bytes("xx")));
            let mut names = 0;
            store.names(&mut |_| names += 1).await.unwrap();
            assert_eq!(names, 10);
        });
    }

    #[test]
    fn a_value_that_is_written_and_removed_for_ever_takes_no_memory() {
        let store = Memory::new(1 << 20);
        block_on(async {
            for _ in 0..10_000 {
                store.put("1", &bytes("xx")).await.unwrap();
                store.remove("1").await.unwrap();
            }
        });
        let inner = store.inner.borrow();
        assert_eq!((inner.size, inner.values.len()), (0, 0));
        assert!(inner.order.len() <= ORDER_MIN, "{}", inner.order.len());
    }

    #[test]
    fn a_value_over_the_limit_is_not_kept() {
        let store = Memory::new(ENTRY_BYTES + 9);
        block_on(async {
            store.swap("0", None, &bytes("1")).await.unwrap();
            store.swap("1", None, &bytes("123456789")).await.unwrap();
            assert_eq!(store.load("0").await.unwrap(), Some(bytes("1")));
            assert_eq!(store.load("1").await.unwrap(), None);
        });
    }
}
