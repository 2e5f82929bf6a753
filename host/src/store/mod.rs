//! The key-value stores that the guest reaches through `spin:key-value`,
//! `fermyon:spin/key-value`, `wasi:keyvalue` and `wasmcloud:keyvalue`, and the SQLite
//! [`Database`].
//!
//! A [`Backend`] keeps the bytes and does every operation exactly; there is one
//! per kind of store. A [`Store`] is a backend together with a [`Behaviour`]:
//! it answers as a platform's own store does, in its mistakes too. Guests, and
//! so everything above, see only [`Store`].

mod behaviour;
mod counted;
mod database;
mod delayed;
mod location;
mod memory;
mod number;
mod redis;
mod sqlite;
mod standin;
#[cfg(test)]
pub(crate) mod tests;
mod versioned;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use self::behaviour::{Behaviour, Handle, Listing, Store, Swapped};
pub(crate) use self::database::{Answer, Database, DatabaseError, Session, Value};
pub(crate) use self::location::Location;
use self::number::Number;
pub(crate) use self::redis::words as redis_words;
pub(crate) use self::standin::{Share, Shares};
pub(crate) use self::versioned::{Entry, Exchange, Expected};

/// The name under which the rows of the one store are kept, as Spin keeps them:
/// a database made by one is read by the other.
const STORE_NAME: &str = "default";

/// Most keys that a listing returns; a store with more answers an error, so
/// that a listing never takes the host's memory.
const KEYS_LISTED_MAX: usize = 1_000_000;

/// Why the store could not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// The guest is told `other` with this text.
    Other(String),
    /// The store cannot be used for now, whatever it is asked: it does not answer, or does
    /// not write. The guest is told `other` with this text.
    Down(String),
    /// A limit of the platform was reached. The guest is told so in the words of the
    /// interface, with this text where it has words.
    Limited(String),
    /// `increment` met a value that is no number of the store's format. The
    /// guest is told `other` with this text, unless the platform does worse.
    NotANumber(String),
    /// The guest's call is aborted, and the instance with it: what the platform
    /// does where its own code panics.
    Abort(String),
}

impl StoreError {
    /// The same of a store that cannot be used for now.
    fn down(error: impl Into<anyhow::Error>) -> Self {
        Self::Down(text_of(&error.into()))
    }

    /// An error with the text of `error` and of what caused it, each said once.
    fn other(error: impl Into<anyhow::Error>) -> Self {
        Self::Other(text_of(&error.into()))
    }
}

/// The text of an error and of what caused it, each said once.
fn text_of(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Other(text)
            | Self::Down(text)
            | Self::Limited(text)
            | Self::NotANumber(text)
            | Self::Abort(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StoreError {}

/// The outcome of a store operation.
pub(crate) type StoreResult<T> = Result<T, StoreError>;

/// Where the bytes are. Every operation is atomic, across processes too where
/// the store is shared between processes.
#[async_trait]
trait Backend: Debug + Send + Sync {
    /// Whether the store can be used now; opens it if need be.
    async fn check(&self) -> StoreResult<()>;

    /// The value of `key`, or none.
    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>>;

    /// Writes `value`, whatever was there.
    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()>;

    /// Removes `key`; no error if it is not there.
    async fn delete(&self, key: &str) -> StoreResult<()>;

    /// All keys, at most [`KEYS_LISTED_MAX`], in any order.
    async fn keys(&self) -> StoreResult<Vec<String>>;

    /// Writes `value` if what is stored is `expected` (none: absent), and says
    /// whether it did.
    async fn replace(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> StoreResult<bool>;

    /// Removes `key` if what is stored is `expected`, and says whether it did.
    async fn remove_if(&self, key: &str, expected: &[u8]) -> StoreResult<bool>;

    /// Adds `delta` to the number at `key` (absent: zero), stored as `number`
    /// says, and returns the sum.
    async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64>;

    /// How this store keeps numbers when nothing else is asked for.
    fn own_number(&self) -> Number;

    /// A compare-and-swap of Spin's Redis store, done by the store itself;
    /// none if this store cannot, and it is to be imitated.
    async fn watch(&self, _key: &str) -> StoreResult<Option<Box<dyn Watch>>> {
        Ok(None)
    }
}

/// A compare-and-swap under way in the store itself, see [`Backend::watch`].
#[async_trait]
trait Watch: Debug + Send + Sync {
    /// Reads the value, and watches it from here on.
    async fn current(&mut self) -> StoreResult<Option<Vec<u8>>>;

    /// Writes `value` unless the watched value changed. It does not say whether
    /// it did: that is the point of imitating this store.
    async fn swap(&mut self, value: &[u8]);
}

/// Begins the names of keys that the host itself keeps in the store. Components do not
/// see them.
const HOST_KEYS: &str = "leeward-host/";

/// Makes the store at `location`. It is opened at its first use, so this cannot
/// fail; see [`Store::check`]. Redis removes a value that was not written for
/// `redis_expiry`; the other stores keep it.
pub(crate) fn open(location: &Location, behaviour: Behaviour, redis_expiry: Duration) -> Store {
    let backend: Arc<dyn Backend> = match location {
        Location::Memory => Arc::new(memory::Memory::default()),
        Location::Sqlite(path) => Arc::new(sqlite::Sqlite::new(path.clone(), behaviour.journal())),
        Location::Redis(client) => Arc::new(redis::Redis::new((**client).clone(), redis_expiry)),
    };
    Store::new(Arc::new(counted::Counted(backend)), behaviour)
}
