//! `wasmcloud:keyvalue`: a third door to the one store, with versions and expiry.

use std::sync::Once;
use std::time::Duration;

use wasmtime::component::{Accessor, Resource};

use super::bindings::wasmcloud::{cas, store, types};
use super::keyvalue::{KeyValue, KeyValueView, OpenStore, store_of};
use crate::store::{Entry, Exchange, Expected, Store, StoreError};

/// The bucket that Leeward opens. wasmCloud has several; here it is the one store.
const BUCKET: &str = "leeward";

/// How often entries that have expired, and were not read since, are removed.
const REMOVE_EXPIRED_EVERY: Duration = Duration::from_secs(5 * 60);

/// Removes expired entries from here on, as long as the process runs. Several nodes
/// may do so at once.
fn remove_expired(store: &Store) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut turns = tokio::time::interval(REMOVE_EXPIRED_EVERY);
            loop {
                turns.tick().await;
                // It is tried again in the next turn.
                drop(store.remove_expired().await);
            }
        });
    });
}

impl From<StoreError> for types::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Limited(_) => Self::QuotaExceeded,
            StoreError::Other(text)
            | StoreError::Down(text)
            | StoreError::NotANumber(text)
            | StoreError::Abort(text) => Self::Other(text),
        }
    }
}

impl From<Entry> for cas::Entry {
    fn from(entry: Entry) -> Self {
        Self {
            value: entry.value,
            version: text_of(entry.version),
        }
    }
}

fn text_of(version: u128) -> String {
    format!("{version:032x}")
}

/// The version in `text`; none if it is no version of this host, and so of no entry.
fn version_of(text: &str) -> Option<u128> {
    let version = u128::from_str_radix(text, 16).ok()?;
    (text_of(version) == text).then_some(version)
}

impl types::Host for KeyValueView<'_> {}
impl store::Host for KeyValueView<'_> {}
impl cas::Host for KeyValueView<'_> {}

impl types::HostBucket for KeyValueView<'_> {
    fn drop(&mut self, held: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.drop_store(held)
    }
}

impl<T> store::HostWithStore<T> for KeyValue {
    async fn open(
        accessor: &Accessor<T, Self>,
        identifier: String,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, types::Error>> {
        if identifier != BUCKET {
            return Ok(Err(types::Error::NoSuchStore));
        }
        let store = accessor.with(|mut access| access.get().state.store.clone());
        if store.check().await.is_err() {
            return Ok(Err(types::Error::StoreUnavailable));
        }
        remove_expired(&store);
        let opened = accessor.with(|mut access| access.get().push_store())?;
        Ok(opened.ok_or_else(|| types::Error::Other("too many buckets opened".to_owned())))
    }
}

impl<T> types::HostBucketWithStore<T> for KeyValue {
    async fn get(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, types::Error>> {
        let entry = store_of(accessor, &held)?.entry(&key).await;
        Ok(entry.map(|it| it.map(|it| it.value)).map_err(Into::into))
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
        options: Option<types::SetOptions>,
    ) -> wasmtime::Result<Result<(), types::Error>> {
        let (ttl, if_absent) = match options {
            Some(options) => (options.ttl_ms, options.if_not_exists),
            None => (None, false),
        };
        let store = store_of(accessor, &held)?;
        Ok(match store.set_entry(&key, &value, ttl, if_absent).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(types::Error::PreconditionFailed),
            Err(error) => Err(error.into()),
        })
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<(), types::Error>> {
        let outcome = store_of(accessor, &held)?.delete(&key).await;
        Ok(outcome.map_err(Into::into))
    }

    /// The cursor is the last key of the page before.
    async fn list_keys(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
        prefix: Option<String>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<types::KeyResponse, types::Error>> {
        let prefix = prefix.unwrap_or_default();
        let store = store_of(accessor, &held)?;
        Ok(match store.page(&prefix, cursor.as_deref()).await {
            Ok(page) => Ok(types::KeyResponse {
                cursor: page.keys.last().filter(|_| !page.is_last).cloned(),
                keys: page.keys,
            }),
            Err(error) => Err(error.into()),
        })
    }
}

impl<T> cas::HostWithStore<T> for KeyValue {
    async fn current(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Option<cas::Entry>, types::Error>> {
        let entry = store_of(accessor, &held)?.entry(&key).await;
        Ok(entry.map(|it| it.map(Into::into)).map_err(Into::into))
    }

    async fn swap(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
        options: cas::CasOptions,
    ) -> wasmtime::Result<Result<cas::CasResult, types::Error>> {
        let store = store_of(accessor, &held)?;
        if options.require_version.is_none() && options.require_value.is_none() {
            return Ok(Err(types::Error::InvalidArgument));
        }
        let version = match options.require_version.as_deref().map(version_of) {
            // A version that no entry ever has.
            Some(None) => {
                let entry = store.entry(&key).await;
                let stale = entry.map(|it| cas::CasResult::Stale(it.map(Into::into)));
                return Ok(stale.map_err(Into::into));
            }
            Some(version) => version,
            None => None,
        };
        let expected = Expected {
            version,
            value: options.require_value,
        };
        let outcome = store.swap_entry(&key, &value, expected).await;
        Ok(match outcome {
            Ok(Exchange::Swapped) => Ok(cas::CasResult::Swapped),
            Ok(Exchange::Stale(entry)) => Ok(cas::CasResult::Stale(entry.map(Into::into))),
            Err(error) => Err(error.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_to_the_component_and_back() {
        for version in [0, 1, u128::MAX] {
            assert_eq!(version_of(&text_of(version)), Some(version));
        }
        for text in ["", "0", "x", "+0000000000000000000000000000001", "é"] {
            assert_eq!(version_of(text), None, "{text}");
        }
    }
}
