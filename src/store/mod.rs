//! What the shield asks of a store, and the contract that makes it safe.
//!
//! A [`Store`] reads values, swaps cells, and keeps the chunks of long bodies.
//! [`SqlStore`] and [`ScriptStore`] make one of a database and of a Redis server, whose
//! swaps are exact. Key-value platforms offer a [`KeyValue`], whose word cannot be
//! trusted in ways that differ from platform to platform; [`Guarded`] makes a [`Store`]
//! of any of them, and [`Answering`] keeps swaps that cannot be given up from a platform
//! that does not answer. Those with neither
//! swap nor counter offer [`Values`]; [`Timed`] makes a [`Store`] of one that
//! shows writes everywhere within a known time.
//!
//! Nothing here retries: a failed operation is the caller's to judge. [`health`]
//! decides when a store that failed is asked again.

mod answering;
mod guarded;
pub mod health;
mod memory;
pub mod remedy;
pub mod script;
pub mod sql;
mod timed;

pub use answering::{ANSWERS_FOR, Answering};
pub use guarded::Guarded;
pub use memory::Memory;
pub use script::ScriptStore;
pub use sql::SqlStore;
pub use timed::{Timed, WRITE_DELAY_MAX, WriteDelayTooLong};

use crate::time::Time;
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// Longest that the shield waits for one operation of a store. Then it gives the
/// operation up, and the outcome of a swap is what it reads after that.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(3);

/// Largest value that is written, in bytes: what the smallest of the platforms
/// takes. (Spin's SQLite store documents 1 MB.)
pub const VALUE_BYTES_MAX: usize = 1_000_000;

/// A store of cells, shared by all nodes.
pub trait Store: 'static {
    /// The value under `key`, or none.
    fn load(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, StoreError>>;

    /// Writes `new` only if the stored value is `expected` (a value, or
    /// absent).
    ///
    /// The caller has made `new` unlike any value ever written under `key` (it
    /// carries a fresh nonce), so finding it stored proves that this swap
    /// happened.
    ///
    /// # Errors
    ///
    /// After an error the outcome is unknown: load, and look whether `new` is
    /// there.
    fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> impl Future<Output = Result<Swap, StoreError>>;

    /// Writes a value that nobody else writes: its name is used once only, and
    /// nobody reads it before a cell that names it has been swapped in.
    ///
    /// # Errors
    ///
    /// After an error the outcome is unknown: the value may appear later.
    fn put(&self, key: &str, value: &Bytes) -> impl Future<Output = Result<(), StoreError>>;

    /// The value that [`Store::put`] wrote under `key`, as a cell says that is in
    /// the store; none if it is gone. On a store that shows one write later than
    /// the next this looks again until the write must be visible.
    fn load_put(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, StoreError>> {
        self.load(key)
    }

    /// Removes a value that [`Store::put`] wrote, if it is there.
    fn remove(&self, key: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Removes the value under `key` if it is still `expected`, in one step.
    ///
    /// # Errors
    ///
    /// After an error the outcome is unknown.
    fn remove_if(
        &self,
        key: &str,
        expected: &Bytes,
    ) -> impl Future<Output = Result<Removal, StoreError>> {
        let _ = (key, expected);
        async { Ok(Removal::Unsupported) }
    }

    /// Calls `each` with the name of every value, in any order, perhaps more than once,
    /// those that come and go meanwhile perhaps. Returns false where the store cannot
    /// list them.
    fn names(&self, each: &mut dyn FnMut(&str)) -> impl Future<Output = Result<bool, StoreError>> {
        let _ = each;
        async { Ok(false) }
    }

    /// Whether this instance has few swaps left. Then it leaves to others what
    /// others can do as well: refreshing behind an answer.
    fn is_worn(&self) -> bool {
        false
    }

    /// For whom an election in it counts.
    fn reach(&self) -> Reach {
        Reach::AllNodes
    }

    /// What the operator may have to do besides where the store fails: a sentence for the
    /// log, or nothing.
    fn further_remedy(&self) -> &'static str {
        ""
    }
}

/// For whom an election in a store counts; `docs/platforms.md`, "What each guarantees".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// For all nodes.
    AllNodes,
    /// For all nodes that see a write within the write delay.
    WithinWriteDelay,
    /// For one instance.
    Instance,
}

impl Reach {
    /// What is promised, for people.
    pub fn promise(self) -> &'static str {
        match self {
            Reach::AllNodes => "one request for each question and the budget, on all nodes",
            Reach::WithinWriteDelay => {
                "one request for each question, while writes are seen within the write delay; the \
                 budget has no bound"
            }
            Reach::Instance => "one request for each question and the budget, within an instance",
        }
    }
}

/// How a swap ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// `new` is stored: go on.
    Done,
    /// Something else is stored: decide again from it.
    Conflict(Option<Bytes>),
    /// The key is absent and another is creating it, or was when it died: look
    /// again soon, but do not swap before the given time.
    Busy {
        /// When this caller may try again to create the key.
        retry_at: Time,
    },
}

/// How a conditional removal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The value is gone.
    Done,
    /// Something else is stored, or nothing: nothing was removed.
    Changed,
    /// The store has no such operation: nothing was removed.
    Unsupported,
}

impl Removal {
    /// The outcome on a store that says whether it has removed the value.
    pub fn done_if(is_removed: bool) -> Self {
        match is_removed {
            true => Removal::Done,
            false => Removal::Changed,
        }
    }
}

/// A platform that keeps values, and promises nothing about two writers.
pub trait Values: 'static {
    /// The value under `key`, or none.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, StoreError>>;

    /// Writes a value, whatever is there.
    fn set(&self, key: &str, value: &Bytes) -> impl Future<Output = Result<(), StoreError>>;

    /// Removes `key`, if it is there.
    fn remove(&self, key: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// See [`Store::names`].
    fn names(&self, each: &mut dyn FnMut(&str)) -> impl Future<Output = Result<bool, StoreError>> {
        let _ = each;
        async { Ok(false) }
    }
}

/// A key-value platform as it is, mistakes included.
pub trait KeyValue: Values {
    /// Reads the value, compares it with `expected`, and asks the platform to
    /// replace it if it has not changed since. From a present value this must
    /// be exact. From absent it may overwrite what another has created since.
    fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> impl Future<Output = Result<Said, StoreError>>;

    /// Adds one to the counter under `key`, atomically, and returns the new
    /// value; an absent counter is zero. Used on guard keys only, which nothing
    /// else reads or writes: on some platforms a counter that is not one ends
    /// the whole instance.
    fn increment(&self, key: &str) -> impl Future<Output = Result<i64, StoreError>>;

    /// See [`Store::is_worn`].
    fn is_worn(&self) -> bool {
        false
    }
}

/// A platform's word on a swap. It may say [`Said::Conflict`] of one that
/// happened, and [`Said::Done`] of one that another overwrote: read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The platform says that the value was replaced.
    Done,
    /// The platform says that it was not.
    Conflict,
}

/// A store that could not do what it was asked, or whose reply was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    message: String,
    is_refusal: bool,
    is_contention: bool,
}

/// What stores say of a value that is too long, in lower case: Redis beyond
/// `proto-max-bulk-len`, SQLite beyond `SQLITE_LIMIT_LENGTH`, NATS beyond `max_payload`,
/// DynamoDB and Cosmos DB beyond the size of an item.
const TOO_LONG: [&str; 5] = [
    "string exceeds maximum allowed size",
    "string or blob too big",
    "maximum payload",
    "item size has exceeded",
    "request entity too large",
];

impl StoreError {
    /// An error with a message for the operator's log. One in which the store says that a
    /// value is too long is a [`StoreError::refused`].
    pub fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        let lower = message.to_ascii_lowercase();
        StoreError {
            is_refusal: TOO_LONG.iter().any(|words| lower.contains(words)),
            is_contention: false,
            message,
        }
    }

    /// The store works, and does not take this value or key: it is too large, or
    /// not valid. Nothing was written. This concerns the key and not the store.
    pub fn refused(message: impl Into<String>) -> Self {
        StoreError {
            is_refusal: true,
            ..Self::new(message)
        }
    }

    /// The store works, and this operation did not do its work: too many write this
    /// value at once, or the instance was busy. It may be tried again.
    pub fn contended(message: impl Into<String>) -> Self {
        StoreError {
            is_contention: true,
            ..Self::new(message)
        }
    }

    /// Whether it is a [`StoreError::contended`].
    pub fn is_contention(&self) -> bool {
        self.is_contention
    }

    /// Whether it is a [`StoreError::refused`].
    pub fn is_refusal(&self) -> bool {
        self.is_refusal
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such a page was fetched by one visitor after the other.
    #[test]
    fn a_store_that_says_that_a_value_is_too_long_refuses_it() {
        for (message, expected) in [
            (
                "An error was signalled by the server: string exceeds maximum allowed size \
                 (proto-max-bulk-len)",
                true,
            ),
            ("string or blob too big: Error code 18", true),
            ("NATS: Maximum Payload Violation", true),
            ("database is locked", false),
            ("connection refused", false),
        ] {
            assert_eq!(StoreError::new(message).is_refusal(), expected, "{message}");
        }
    }
}
