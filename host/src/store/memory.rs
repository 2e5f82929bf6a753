//! A store in this process: for tests and for trying things.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Backend, KEYS_LISTED_MAX, Number, StoreError, StoreResult};

/// The bytes, behind one lock that is never held across a wait.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl Memory {
    fn values(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        // No operation leaves the map half-done, so a panic elsewhere has not
        // spoilt it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for Memory {
    async fn check(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.values().get(key).cloned())
    }

    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        self.values().insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    async fn delete(&self, key: &str) -> StoreResult<()> {
        self.values().remove(key);
        Ok(())
    }

    async fn keys(&self) -> StoreResult<Vec<String>> {
        let values = self.values();
        if values.len() > KEYS_LISTED_MAX {
            return Err(StoreError::Other(format!(
                "more than {KEYS_LISTED_MAX} keys"
            )));
        }
        Ok(values.keys().cloned().collect())
    }

    async fn replace(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> StoreResult<bool> {
        let mut values = self.values();
        let as_expected = values.get(key).map(Vec::as_slice) == expected;
        if as_expected {
            values.insert(key.to_owned(), value.to_vec());
        }
        Ok(as_expected)
    }

    async fn remove_if(&self, key: &str, expected: &[u8]) -> StoreResult<bool> {
        let mut values = self.values();
        let as_expected = values.get(key).is_some_and(|stored| stored == expected);
        if as_expected {
            values.remove(key);
        }
        Ok(as_expected)
    }

    async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64> {
        let mut values = self.values();
        let (bytes, sum) = number.add(values.get(key).map(Vec::as_slice), delta)?;
        values.insert(key.to_owned(), bytes);
        Ok(sum)
    }

    fn own_number(&self) -> Number {
        Number::LittleEndian
    }
}
