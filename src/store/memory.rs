//! A store in the memory of one instance.
//!
//! It stands in while the platform's store fails, so that requests of one
//! instance still share one fetch and its answer, and it is all that a platform
//! without a store has. Its swap is exact, for nobody else sees it.

use super::{Store, StoreError, Swap};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

/// Values of one instance, the oldest dropped when they grow beyond a limit.
#[derive(Debug)]
pub struct Memory {
    /// In bytes, keys and values together.
    limit: usize,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    values: HashMap<String, Bytes>,
    /// Keys in the order in which they were created.
    order: VecDeque<String>,
    size: usize,
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
    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.inner.borrow().values.get(key).cloned())
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        let inner = &mut *self.inner.borrow_mut();
        let current = inner.values.get(key);
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
        let inner = &mut *self.inner.borrow_mut();
        if let Some(value) = inner.values.remove(key) {
            inner.size = inner.size.saturating_sub(key.len() + value.len());
            inner.order.retain(|other| other != key);
        }
        Ok(())
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        for name in self.inner.borrow().values.keys() {
            each(name);
        }
        Ok(true)
    }
}

impl Inner {
    fn insert(&mut self, key: &str, value: &Bytes, limit: usize) {
        match self.values.insert(key.to_owned(), value.clone()) {
            Some(old) => self.size = self.size.saturating_sub(old.len()),
            None => {
                self.size = self.size.saturating_add(key.len());
                self.order.push_back(key.to_owned());
            }
        }
        self.size = self.size.saturating_add(value.len());
        while self.size > limit {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(value) = self.values.remove(&oldest) {
                self.size = self.size.saturating_sub(oldest.len() + value.len());
            }
        }
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
        let store = Memory::new(8);
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
        let store = Memory::new(6);
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
    fn a_value_over_the_limit_is_not_kept() {
        let store = Memory::new(8);
        block_on(async {
            store.swap("1", None, &bytes("123456789")).await.unwrap();
            assert_eq!(store.load("1").await.unwrap(), None);
        });
    }
}
