//! The flavour `wasmcloud`: wasmCloud 2.7 and later.
//!
//! The cells are in a bucket of `wasmcloud:keyvalue`. What is behind it is the
//! operator's choice. NATS JetStream and memory compare and write in one step. Redis and
//! files have no `cas`. On Redis only the creation of a key is one step, and the cells are
//! swapped as on a store that only keeps values, see [`Timed`]. Files take no key with a `/`,
//! as the cells have, so they are of no use.
//!
//! What else the backends (wash 2.10) do not do:
//!
//! - A connection to Redis that was lost is not made again until the host is restarted.
//! - On Redis all buckets are one key space: [`BUCKET`] keeps nothing apart.
//! - None supports `ttl-ms`, so nothing is written with it.
//! - A `set` that failed because NATS was away is carried out when NATS is back. The first
//!   write of a cell only creates, and later ones compare, so a late one loses against what
//!   was written meanwhile. A chunk of a body has a name of its own.
//!
//! An instance must be kept between requests (`poolSize`), and serve many at once
//! (`maxConcurrency`). Without, the host ends it with its answer, and with it the work
//! that runs behind the answer.

use crate::config::Config;
use crate::platform::setup::SetupError;
use crate::platform::wasip3;
use crate::store::{Reach, Store, StoreError, Swap, Timed, VALUE_BYTES_MAX, Values};
use crate::time::Time;
use crate::world::event;
use ::wasip3::clocks::monotonic_clock;
use bindings::wasmcloud::keyvalue::cas::{self, CasOptions, CasResult};
use bindings::wasmcloud::keyvalue::store as buckets;
use bindings::wasmcloud::keyvalue::types::{Bucket, Error, SetOptions};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "generated"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "wit/wasmcloud",
        world: "wasmcloud",
        generate_all,
    });
}

/// The bucket's name. Redis does not know buckets: the keys of all are one key space.
const BUCKET: &str = "leeward";

/// What the host says of a swap that the operator's backend does not have.
const NO_SWAP: &str = "not supported";

/// Within this time a write to Redis is what every reader sees. A write takes a
/// fraction of it, but where it takes longer two nodes may be elected.
const WRITE_DELAY: Duration = Duration::from_millis(250);

/// What helps where Redis is back and the host has not noticed.
const RESTART: &str = "if it is Redis and works again, restart the host, because wasmCloud does \
    not make a lost connection to Redis again";

/// Most pages of a listing. A page has at most a thousand names.
const PAGES_MAX: usize = 10_000;

type Sleep = Pin<Box<dyn Future<Output = ()>>>;

/// The bucket as a store, where the host does not swap.
type TimedBucket = Timed<Rc<HostBucket>, fn() -> Time, fn(Duration) -> Sleep>;

/// The store of the cells.
pub(crate) struct Cells {
    bucket: Rc<HostBucket>,
    timed: TimedBucket,
    /// Whether the host has said that it does not swap.
    lacks_swap: Cell<bool>,
}

impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cells").finish_non_exhaustive()
    }
}

/// Makes the store of the cells.
pub(crate) async fn cells(_: &Config, clock: fn() -> Time) -> Result<Cells, SetupError> {
    let bucket = Rc::new(HostBucket::default());
    let timed = Timed::new(
        Rc::clone(&bucket),
        clock,
        sleep as fn(Duration) -> Sleep,
        WRITE_DELAY,
    )
    .map_err(|error| SetupError::Misconfigured(error.to_string()))?;
    // The host does not tell how it is set up. The operator sees by the number of these
    // lines.
    wasip3::log(&event(
        "instance-started",
        &[(
            "remedy",
            "if each request makes such a line, set poolSize and maxConcurrency of the component: \
             without them the host ends an instance with its answer, and nothing is stored"
                .into(),
        )],
    ));
    Ok(Cells {
        bucket,
        timed,
        lacks_swap: Cell::new(false),
    })
}

fn sleep(duration: Duration) -> Sleep {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Box::pin(monotonic_clock::wait_for(nanos))
}

impl Store for Cells {
    fn reach(&self) -> Reach {
        match self.lacks_swap.get() {
            true => self.timed.reach(),
            false => Reach::AllNodes,
        }
    }

    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.bucket.get(key).await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        let Some(expected) = expected else {
            return self.bucket.create(key, new).await;
        };
        if !self.lacks_swap.get() {
            match self.bucket.replace(key, expected, new).await? {
                Some(swap) => return Ok(swap),
                None => {
                    self.lacks_swap.set(true);
                    wasip3::log(&event(
                        "store-without-swap",
                        &[
                            (
                                "effect",
                                "each change takes half a second, and a store that is slower \
                                 than 250 ms may let two nodes ask the origin"
                                    .into(),
                            ),
                            ("remedy", "use NATS JetStream".into()),
                        ],
                    ));
                }
            }
        }
        self.timed.swap(key, Some(expected), new).await
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.bucket.set(key, value).await
    }

    async fn load_put(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        // One of several NATS servers may show a write a moment later than another.
        self.timed.load_put(key).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.bucket.remove(key).await
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        self.bucket.names(each).await
    }

    fn further_remedy(&self) -> &'static str {
        RESTART
    }
}

/// The bucket, opened when it is first used. An error closes it, and the next operation
/// opens it again. That is enough for NATS. With Redis the host goes on with the connection
/// that it has lost, whatever is opened.
#[derive(Default)]
pub(crate) struct HostBucket(RefCell<Option<Rc<Bucket>>>);

impl std::fmt::Debug for HostBucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostBucket").finish_non_exhaustive()
    }
}

impl HostBucket {
    async fn open(&self) -> Result<Rc<Bucket>, StoreError> {
        if let Some(bucket) = self.0.borrow().as_ref() {
            return Ok(Rc::clone(bucket));
        }
        let opened = buckets::open(BUCKET.to_owned()).await.map_err(problem)?;
        let bucket = Rc::new(opened);
        *self.0.borrow_mut() = Some(Rc::clone(&bucket));
        Ok(bucket)
    }

    /// Closes what failed.
    fn noting<T>(&self, result: Result<T, Error>) -> Result<T, StoreError> {
        result.map_err(|error| {
            self.0.borrow_mut().take();
            problem(error)
        })
    }

    /// A swap from absent.
    async fn create(&self, key: &str, new: &Bytes) -> Result<Swap, StoreError> {
        admit(key, new)?;
        let bucket = self.open().await?;
        let options = SetOptions {
            ttl_ms: None,
            if_not_exists: true,
        };
        match bucket
            .set(key.to_owned(), new.to_vec(), Some(options))
            .await
        {
            Err(Error::PreconditionFailed) => {
                let current = self.get(key).await?;
                Ok(match &current {
                    Some(current) if current == new => Swap::Done,
                    _ => Swap::Conflict(current),
                })
            }
            written => self.noting(written).map(|()| Swap::Done),
        }
    }

    /// A swap from a value; none if the host has no such thing. It compares the value
    /// and not its version: no value is ever written twice.
    async fn replace(
        &self,
        key: &str,
        expected: &Bytes,
        new: &Bytes,
    ) -> Result<Option<Swap>, StoreError> {
        admit(key, new)?;
        let bucket = self.open().await?;
        let options = CasOptions {
            require_version: None,
            require_value: Some(expected.to_vec()),
        };
        let swapped = cas::swap(&bucket, key.to_owned(), new.to_vec(), options).await;
        if let Err(Error::Other(reason)) = &swapped
            && reason.contains(NO_SWAP)
        {
            return Ok(None);
        }
        Ok(Some(match self.noting(swapped)? {
            CasResult::Swapped => Swap::Done,
            CasResult::Stale(current) => {
                let current = current.map(|entry| Bytes::from(entry.value));
                match &current {
                    Some(current) if current == new => Swap::Done,
                    _ => Swap::Conflict(current),
                }
            }
        }))
    }
}

impl Values for Rc<HostBucket> {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        HostBucket::get(self, key).await
    }

    async fn set(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        HostBucket::set(self, key, value).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        HostBucket::remove(self, key).await
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        HostBucket::names(self, each).await
    }
}

impl HostBucket {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let bucket = self.open().await?;
        let value = bucket.get(key.to_owned()).await;
        Ok(self.noting(value)?.map(Bytes::from))
    }

    async fn set(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        admit(key, value)?;
        let bucket = self.open().await?;
        let written = bucket.set(key.to_owned(), value.to_vec(), None).await;
        self.noting(written)
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let bucket = self.open().await?;
        let removed = bucket.delete(key.to_owned()).await;
        self.noting(removed)
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        let bucket = self.open().await?;
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let page = bucket.list_keys(None, cursor).await;
            let page = self.noting(page)?;
            for key in &page.keys {
                each(key);
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(true);
            }
        }
        Err(StoreError::new("the bucket has too many keys to list"))
    }
}

/// Refuses what is too large for the smallest of the backends: NATS takes messages of
/// at most 1 MiB if nothing else is set.
fn admit(key: &str, value: &Bytes) -> Result<(), StoreError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::refused(format!(
            "the value of {key} has {} bytes; the platform takes at most {VALUE_BYTES_MAX}",
            value.len()
        )));
    }
    Ok(())
}

fn problem(error: Error) -> StoreError {
    StoreError::new(match error {
        Error::NoSuchStore => format!(
            "there is no bucket `{BUCKET}`; NATS JetStream needs it to be made first: \
             `nats kv add {BUCKET} --history=1 --ttl=8d`"
        ),
        Error::AccessDenied => format!("the component may not use the bucket `{BUCKET}`"),
        Error::InvalidArgument => {
            return StoreError::refused("the key-value store does not take this key or value");
        }
        Error::PreconditionFailed => "the key-value store refused to write".to_owned(),
        Error::Timeout => "the key-value store did not answer in time".to_owned(),
        Error::StoreUnavailable => "the key-value store is not available".to_owned(),
        Error::QuotaExceeded => "the key-value store is full".to_owned(),
        Error::Other(reason) => reason,
    })
}
