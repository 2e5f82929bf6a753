//! Entries with a version and an expiry, as `wasmcloud:keyvalue` has them, on any
//! backend.
//!
//! Both are kept in the stored bytes, before the value. A version is drawn at random
//! for each write, so bytes that were read and are still there mean that nothing was
//! written in between: a comparison of bytes, which every backend has, is a comparison
//! of versions.

use std::time::{SystemTime, UNIX_EPOCH};

use super::behaviour::{CALL_MAX, LISTING_MAX, listed};
use super::{Backend, Store, StoreError, StoreResult};

/// Begins the stored bytes of an entry. Bytes without it were written through another
/// interface; they count as absent.
const MAGIC: [u8; 4] = *b"LVE1";

/// Bytes before the value: the magic, the version and the expiry.
const HEADER_BYTES: usize = MAGIC.len() + size_of::<u128>() + size_of::<u64>();

/// How often a write tries again after the entry changed between its read and its
/// write without becoming another one for the caller. Only a write that compares values, or one
/// that meets the removal of expired entries, can need more than two.
const WRITE_TRIES: usize = 100;

/// Most keys in one page of a listing.
pub(crate) const PAGE_KEYS: usize = 1_000;

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) version: u128,
    /// Milliseconds since 1970 after which the entry is gone; none: it stays.
    expires_at: Option<u64>,
    pub(crate) value: Vec<u8>,
}

/// What a swap asks of the entry that is there. All that is set must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    pub(crate) version: Option<u128>,
    pub(crate) value: Option<Vec<u8>>,
}

impl Expected {
    fn holds(&self, entry: Option<&Entry>) -> bool {
        let Some(entry) = entry else {
            return false;
        };
        self.version.is_none_or(|version| version == entry.version)
            && (self.value.as_ref()).is_none_or(|value| *value == entry.value)
    }
}

/// What became of a swap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    Swapped,
    /// Nothing was written. This is what the key holds.
    Stale(Option<Entry>),
}

/// A page of a listing.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) keys: Vec<String>,
    /// Whether there are keys after the last one.
    pub(crate) is_last: bool,
}

fn encode(value: &[u8], expires_at: Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + value.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&fastrand::u128(..).to_be_bytes());
    // Zero stands for never: nothing expires in 1970.
    bytes.extend_from_slice(&expires_at.unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The entry in `bytes`, expired or not.
fn decode(bytes: &[u8]) -> Option<Entry> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (version, rest) = rest.split_first_chunk()?;
    let (expires_at, value) = rest.split_first_chunk()?;
    let expires_at = u64::from_be_bytes(*expires_at);
    Some(Entry {
        version: u128::from_be_bytes(*version),
        expires_at: (expires_at > 0).then_some(expires_at),
        value: value.to_vec(),
    })
}

/// The entry in `bytes` unless it has expired at `now`.
fn live(bytes: Option<&[u8]>, now: u64) -> Option<Entry> {
    decode(bytes?).filter(|entry| entry.expires_at.is_none_or(|at| now < at))
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX))
}

/// The entry of `key`. One that has expired is removed.
async fn current(backend: &dyn Backend, key: &str) -> StoreResult<Option<Entry>> {
    let Some(bytes) = backend.get(key).await? else {
        return Ok(None);
    };
    let entry = live(Some(&bytes), now());
    if entry.is_none() && decode(&bytes).is_some() {
        backend.remove_if(key, &bytes).await?;
    }
    Ok(entry)
}

/// The operations of `wasmcloud:keyvalue`. They are exact, whatever platform the store
/// imitates.
impl Store {
    /// What `key` holds.
    pub(crate) async fn entry(&self, key: &str) -> StoreResult<Option<Entry>> {
        self.admit_read()?;
        let key = key.to_owned();
        self.apart(
            CALL_MAX,
            |backend| async move { current(&*backend, &key).await },
        )
        .await
    }

    /// Writes `value`, which is gone after `ttl_millis`. With `if_absent` it is written
    /// only where there is no entry. Says whether it was written.
    pub(crate) async fn set_entry(
        &self,
        key: &str,
        value: &[u8],
        ttl_millis: Option<u64>,
        if_absent: bool,
    ) -> StoreResult<bool> {
        self.admit(key, value.len())?;
        self.admit_write()?;
        let key = key.to_owned();
        let bytes = encode(value, ttl_millis.map(|ttl| now().saturating_add(ttl)));
        self.apart(CALL_MAX, move |backend| async move {
            if !if_absent {
                backend.set(&key, &bytes).await?;
                return Ok(true);
            }
            for _ in 0..WRITE_TRIES {
                let stored = backend.get(&key).await?;
                if live(stored.as_deref(), now()).is_some() {
                    return Ok(false);
                }
                if backend.replace(&key, stored.as_deref(), &bytes).await? {
                    return Ok(true);
                }
            }
            Err(too_many_tries())
        })
        .await
    }

    /// Writes `value` if the entry is as `expected`. The new entry does not expire.
    pub(crate) async fn swap_entry(
        &self,
        key: &str,
        value: &[u8],
        expected: Expected,
    ) -> StoreResult<Exchange> {
        self.admit(key, value.len())?;
        self.admit_write()?;
        let key = key.to_owned();
        let bytes = encode(value, None);
        self.apart(CALL_MAX, move |backend| async move {
            for _ in 0..WRITE_TRIES {
                let stored = backend.get(&key).await?;
                let entry = live(stored.as_deref(), now());
                if !expected.holds(entry.as_ref()) {
                    return Ok(Exchange::Stale(entry));
                }
                if backend.replace(&key, stored.as_deref(), &bytes).await? {
                    return Ok(Exchange::Swapped);
                }
            }
            Err(too_many_tries())
        })
        .await
    }

    /// The keys that begin with `prefix` and come after `after`, in order, a page of
    /// them. Keys that have expired and were not removed yet are among them.
    pub(crate) async fn page(&self, prefix: &str, after: Option<&str>) -> StoreResult<Page> {
        self.admit_read()?;
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.apart(LISTING_MAX, move |backend| async move {
            let mut keys = listed(&*backend).await?;
            keys.retain(|key| {
                key.starts_with(&prefix) && after.as_ref().is_none_or(|after| key > after)
            });
            keys.sort_unstable();
            let is_last = keys.len() <= PAGE_KEYS;
            keys.truncate(PAGE_KEYS);
            Ok(Page { keys, is_last })
        })
        .await
    }

    /// Removes every entry that has expired.
    pub(crate) async fn remove_expired(&self) -> StoreResult<()> {
        let listing = |backend: std::sync::Arc<dyn Backend>| async move { listed(&*backend).await };
        for key in self.apart(LISTING_MAX, listing).await? {
            self.apart(
                CALL_MAX,
                |backend| async move { current(&*backend, &key).await },
            )
            .await?;
        }
        Ok(())
    }
}

fn too_many_tries() -> StoreError {
    StoreError::Other(format!("others wrote in between {WRITE_TRIES} times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lives_until_its_expiry() {
        let bytes = encode(b"v", Some(100));
        assert_eq!(
            live(Some(&bytes), 99).map(|it| it.value),
            Some(b"v".to_vec())
        );
        assert_eq!(live(Some(&bytes), 100), None);
        let bytes = encode(b"", None);
        assert_eq!(
            live(Some(&bytes), u64::MAX).map(|it| it.value),
            Some(vec![])
        );
    }

    #[test]
    fn bytes_of_another_interface_are_no_entry() {
        let bytes = encode(b"", None);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(decode(&[7; 64]), None);
    }

    #[test]
    fn every_condition_of_a_swap_has_to_hold() {
        let entry = Entry {
            version: 1,
            expires_at: None,
            value: b"a".to_vec(),
        };
        let expected = |version, value: Option<&[u8]>| Expected {
            version,
            value: value.map(<[u8]>::to_vec),
        };
        for (version, value, holds) in [
            (Some(1), None, true),
            (Some(2), None, false),
            (None, Some(&b"a"[..]), true),
            (None, Some(&b"b"[..]), false),
            (Some(1), Some(&b"a"[..]), true),
            (Some(1), Some(&b"b"[..]), false),
            (Some(2), Some(&b"a"[..]), false),
        ] {
            let expected = expected(version, value);
            assert_eq!(expected.holds(Some(&entry)), holds, "{expected:?}");
            assert!(!expected.holds(None));
        }
    }
}
