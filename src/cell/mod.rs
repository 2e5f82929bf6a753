//! The cell: the one versioned record that a store holds for a key or variant.
//!
//! It keeps the entry, the lease and the marks together, because then a hit
//! costs one read, and a request that finds an entry stale learns from the same
//! read that somebody else is already refreshing it.
//!
//! This module is pure. [`transition`] has every change of a cell as a function
//! of (cell, event, now); [`codec`] turns cells into stored bytes and back. Who
//! applies a transition does so with one swap against the cell as it was read;
//! a lost swap is no error, but a reason to look again.

pub mod body;
pub mod codec;
mod nonce;
pub mod transition;

pub use body::{Body, Draft, Manifest, Orphan};
pub use nonce::Nonce;

use crate::semantics::Freshness;
use crate::time::Time;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

/// The record that a store holds for a key or variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Grows by one with every write.
    pub version: u64,
    /// New with every write.
    pub nonce: Nonce,
    /// The whole key in clear: a hash collision must read as a miss.
    pub key: String,
    /// The stored response, if there is one.
    pub entry: Option<Entry>,
    /// The right to go to the origin for this cell, if somebody holds it.
    pub lease: Option<Lease>,
    /// What is remembered beside the entry.
    pub marks: Marks,
    /// Bodies that no entry points at any more, oldest first: to be removed
    /// once their time is over.
    pub orphans: Vec<Orphan>,
}

/// A stored response.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The response's final status.
    pub status: StatusCode,
    /// The response's fields, without connection-specific and private ones.
    pub headers: HeaderMap,
    /// When the request that led to this response was sent (RFC 9111, 4.2.3).
    pub request_time: Time,
    /// How long the origin took to send the response head, in milliseconds.
    pub fetch_millis: u64,
    /// Age, lifetime and stale windows, computed when the response was stored.
    pub freshness: Freshness,
    /// The holder of the lease under which this entry was written.
    pub lease: Nonce,
    /// An unsafe request has gone to the origin since: to be validated before
    /// it is used (RFC 9111, 4.4).
    pub invalidated: bool,
    /// The content.
    pub body: Body,
}

/// The right, held in a cell until a deadline, to go to the origin for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it.
    pub holder: Nonce,
    /// When it was taken, by the holder's clock.
    pub start: Time,
    /// When it ends unless renewed, by the holder's clock.
    pub deadline: Time,
    /// A purge came after the lease was taken: what is fetched under it may
    /// predate the purge, and may not be published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// The body that the holder is writing, if it is too long to be inline:
    /// whoever ends the lease without publishing it knows what to clean up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Draft>,
}

impl Lease {
    /// Whether others have to respect the lease at `now`, by a clock that may
    /// differ from the holder's by `clock_skew`.
    pub fn is_live(&self, now: Time, clock_skew: std::time::Duration) -> bool {
        now < self.deadline.plus(clock_skew)
    }

    /// Until when a holder may start something under a lease that ends at
    /// `deadline`: [`Lease::is_live`] still holds then by every other clock.
    pub fn acts_until(deadline: Time, clock_skew: std::time::Duration) -> Time {
        deadline.minus(clock_skew)
    }
}

/// What a cell remembers beside its entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The key's responses cannot be stored: requests need not queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
    /// The last refresh failed: no new attempt before some time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The `Vary` field names of a key that has variants, in lower case; the
    /// entries then lie in cells of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vary: Vec<String>,
    /// In a cell that lists a key's variants: the names of their cells, the
    /// oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<String>,
    /// When the key was last invalidated, for the variants' entries: one that
    /// was requested before counts as invalidated too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalidated: Option<Time>,
    /// When the key was last purged hard, for the variants' entries likewise:
    /// one that was requested before is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<Time>,
    /// When the key was last purged softly, for the variants' entries likewise:
    /// one that was requested before has been stale since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softened: Option<Time>,
}

/// A mark that a key's responses cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// When to try again whether they still cannot.
    pub until: Time,
    /// Only requests with `Authorization` made it so; others are not concerned
    /// (RFC 9111, 3.5).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub authorized_only: bool,
}

/// A mark after a failed refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// No attempt before this.
    pub not_before: Time,
    /// How many attempts have failed in a row.
    pub failures: u32,
}
