//! The flavour `spin`: Spin 4.1 and later, SpinKube, the embedded host.
//!
//! The cells are in Spin's key-value store. Reads go through `spin:key-value`, which is
//! asynchronous. Swaps and listings go through `wasi:keyvalue`, which is not: it stops
//! the instance while it runs. So it is used only when a cell changes or the store is
//! swept, and only while the store is known to answer ([`Answering`]).
//!
//! On Spin's SQLite store reads stop the instance as well, whatever the interface says
//! (Spin 4.1, `key-value-spin`: `block_in_place` around the lock of the one connection).
//! The component cannot see which store it has.

use crate::config::Config;
use crate::platform::setup::SetupError;
use crate::store::{Answering, Guarded, KeyValue, Said, StoreError, VALUE_BYTES_MAX, Values};
use crate::time::Time;
use bytes::Bytes;
// spin-sdk generates these with wit-bindgen and keeps them in a hidden module. A
// second declaration of the same interface, however small, cannot be linked
// beside it.
use spin_sdk::experimental::wasi::keyvalue::{atomics, store as buckets};
use spin_sdk::key_value::Store;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use wasip3::clocks::monotonic_clock;

/// The store's label, as `spin.toml` grants it.
const LABEL: &str = "default";

/// After this many swaps an instance starts only what no other instance can do for
/// it, and ends what it has begun. Spin keeps the handle of every swap until the
/// instance ends, and on Redis each handle has a connection. (Spin 4.1,
/// `factor-key-value`: `swap` takes the handle and does not remove it from its
/// table.)
const SWAPS_BEFORE_WORN: u32 = 192;

/// Largest value that is written, in bytes: Spin's SQLite store documents 1 MB. A
/// larger one is refused here, because the platform's error does not tell whether it
/// concerns the value or the store.
const VALUE_MAX: usize = VALUE_BYTES_MAX;

/// Longest key, in bytes: Spin's SQLite store documents 256.
const KEY_MAX: usize = 256;

/// Longest look at an absent key before it is created. Spin's SQLite store creates whatever
/// is there by then: later, the guards may be over, and another may have created the key.
const LOOK_MAX: Duration = Duration::from_millis(250);

/// What SQLite says where another process writes: at once to an increment, whose
/// transaction has read before, and otherwise after five seconds.
const LOCKED: &str = "database is locked";

/// Most pages that a listing takes. Spin lists all names in one.
const PAGES_MAX: usize = 1_000;

/// The store of the cells.
pub(crate) type Cells = Guarded<Answering<HostStore, fn() -> Time>, fn() -> Time>;

/// Makes the store of the cells.
pub(crate) async fn cells(config: &Config, clock: fn() -> Time) -> Result<Cells, SetupError> {
    let bucket = config.lease.guard_bucket();
    let store = Answering::new(HostStore::default(), clock);
    Ok(Guarded::new(store, clock, bucket))
}

/// The store `default`, opened when it is first used. An error closes it, and the
/// next operation opens it again.
#[derive(Default)]
pub(crate) struct HostStore {
    reads: RefCell<Option<Rc<Store>>>,
    swaps: RefCell<Option<Rc<buckets::Bucket>>>,
    swapped: Cell<u32>,
}

impl std::fmt::Debug for HostStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostStore").finish_non_exhaustive()
    }
}

impl HostStore {
    async fn reads(&self) -> Result<Rc<Store>, StoreError> {
        if let Some(store) = self.reads.borrow().as_ref() {
            return Ok(Rc::clone(store));
        }
        let store = Rc::new(Store::open(LABEL).await.map_err(read_error)?);
        *self.reads.borrow_mut() = Some(Rc::clone(&store));
        Ok(store)
    }

    fn swaps(&self) -> Result<Rc<buckets::Bucket>, StoreError> {
        if let Some(bucket) = self.swaps.borrow().as_ref() {
            return Ok(Rc::clone(bucket));
        }
        let bucket = Rc::new(buckets::open(LABEL).map_err(swap_error)?);
        *self.swaps.borrow_mut() = Some(Rc::clone(&bucket));
        Ok(bucket)
    }

    /// Closes what failed.
    fn noting<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.reads.borrow_mut().take();
            self.swaps.borrow_mut().take();
        }
        result
    }
}

impl Values for HostStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let store = self.reads().await?;
        let value = store.get(key).await.map_err(read_error);
        self.noting(value.map(|value| value.map(Bytes::from)))
    }

    async fn set(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        admit(key, value)?;
        let store = self.reads().await?;
        let written = store.set(key, value).await.map_err(read_error);
        self.noting(written)
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let store = self.reads().await?;
        let removed = store.delete(key).await.map_err(read_error);
        self.noting(removed)
    }

    // Not by the stream of `spin:key-value`. Spin's SQLite store keeps its only connection
    // locked until the reader has taken the last name. A task of the same instance that
    // reads meanwhile stops the instance at that lock, with it the reader, and the whole
    // process for ever. (Spin 4.1, `key-value-spin`: `get_keys_async`.)
    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        let bucket = self.swaps()?;
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let page = self.noting(bucket.list_keys(cursor.as_deref()).map_err(swap_error))?;
            page.keys.iter().for_each(|name| each(name));
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(true);
            }
        }
        Err(StoreError::new("the store has too many names to list"))
    }
}

impl KeyValue for HostStore {
    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Said, StoreError> {
        admit(key, new)?;
        let bucket = self.swaps()?;
        self.noting((|| {
            let began = monotonic_clock::now();
            let cas = atomics::Cas::new(&bucket, key).map_err(swap_error)?;
            let current = cas.current().map_err(swap_error)?;
            let took = Duration::from_nanos(monotonic_clock::now().saturating_sub(began));
            if expected.is_none() && took >= LOOK_MAX {
                return Err(StoreError::contended(format!(
                    "looking at {key} took {took:?}: it is not created that late"
                )));
            }
            if current.as_deref() != expected.map(|expected| &expected[..]) {
                return Ok(Said::Conflict);
            }
            self.swapped.set(self.swapped.get().saturating_add(1));
            match atomics::swap(cas, new) {
                Ok(()) => Ok(Said::Done),
                Err(atomics::CasError::CasFailed(_)) => Ok(Said::Conflict),
                Err(atomics::CasError::StoreError(error)) => Err(swap_error(error)),
            }
        })())
    }

    async fn increment(&self, key: &str) -> Result<i64, StoreError> {
        let bucket = self.swaps()?;
        self.noting(atomics::increment(&bucket, key, 1).map_err(swap_error))
    }

    fn is_worn(&self) -> bool {
        self.swapped.get() >= SWAPS_BEFORE_WORN
    }
}

/// Refuses what the platform would refuse.
fn admit(key: &str, value: &Bytes) -> Result<(), StoreError> {
    if key.len() > KEY_MAX || value.len() > VALUE_MAX {
        return Err(StoreError::refused(format!(
            "the value of {key} has {} bytes; the platform takes keys of at most {KEY_MAX} and \
             values of at most {VALUE_MAX}",
            value.len()
        )));
    }
    Ok(())
}

fn read_error(error: spin_sdk::key_value::Error) -> StoreError {
    StoreError::new(error.to_string())
}

fn swap_error(error: buckets::Error) -> StoreError {
    match error {
        buckets::Error::NoSuchStore => {
            StoreError::new(format!("there is no key-value store `{LABEL}`"))
        }
        buckets::Error::AccessDenied => StoreError::new(format!(
            "the component may not use the key-value store `{LABEL}`"
        )),
        buckets::Error::Other(reason) if reason.contains(LOCKED) => StoreError::contended(reason),
        buckets::Error::Other(reason) => StoreError::new(reason),
    }
}
