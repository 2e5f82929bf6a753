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
pub mod bounds;
pub mod codec;
mod nonce;
pub mod transition;

pub use body::{Body, Coming, Draft, Manifest, Orphan, Progress};
pub use bounds::Bounds;
pub use nonce::Nonce;

use crate::semantics::{Audience, Freshness};
use crate::time::Time;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    /// The entry that the lease's draft will be the body of, while it may be read
    /// before it is published.
    pub coming: Option<Box<Coming>>,
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
    /// Whom it is for.
    pub audience: Audience,
    /// The settings by which freshness and audience were computed.
    pub under: StoredUnder,
    /// The content.
    pub body: Body,
}

/// The settings under which a response was stored, and what of the origin's words is not
/// among its fields: enough to find out what other settings make of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUnder {
    /// [`Policy::mark`](crate::semantics::Policy::mark); zero in what was stored by versions
    /// that did not write it.
    pub policy: u32,
    /// The response had `Set-Cookie`, which is not stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withholds_cookie: bool,
}

impl StoredUnder {
    /// Whether nothing is known.
    pub(crate) fn is_unknown(&self) -> bool {
        *self == StoredUnder::default()
    }
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
///
/// Marks are of three kinds. A question's own: `pass`, `retry`, `doubt`,
/// `unsettled`, `asked_again`. A key's, in the key's own cell, which concern all of its
/// questions: `resident`, `vary`, `credentials_pass_until`, `for_everyone_until` and the
/// times of purges. And the list of a key's variants, in a cell of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Responses to the question cannot be stored: requests need not queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
    /// The last refresh failed: no new attempt before some time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The last refreshes brought answers that may not be stored, although the
    /// entry can still be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// The last leases ended without being settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Unsettled>,
    /// The variant has been asked for again since it was first stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked_again: bool,
    /// The selector of the question whose entry, lease and marks are in the
    /// key's cell. Other questions have cells of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<String>,
    /// The request fields that `Vary` has named, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vary: Vec<Selecting>,
    /// Until then requests with credentials are passed where no entry is for
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_pass_until: Option<Time>,
    /// The time before which a request with credentials asks the question, where there is no entry:
    /// the answer to another such request was for everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_everyone_until: Option<Time>,
    /// In a cell that lists a key's variants: their cells, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Listed>,
    /// When the key was last invalidated: a variant's entry that was requested
    /// before counts as invalidated too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalidated: Option<Time>,
    /// When the key was last purged hard: a variant's entry that was requested
    /// before does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<Time>,
    /// When the key was last purged softly: a variant's entry that was requested
    /// before has been stale since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softened: Option<Time>,
    /// When the sweeper emptied the cell; no other write has come since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<Time>,
    /// In the sweeper's cell: how many cells its last round has left in the
    /// store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<u32>,
    /// In the sweeper's cell: how many bytes they have, with their bodies, as far as its last
    /// round has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
    /// In the sweeper's cell: its last round had to end although there were far more cells
    /// than there may be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overfull: bool,
}

impl Marks {
    /// Has requests with credentials passed until then, or forgets what is known of whom
    /// answers are for.
    pub fn note_credentials(&mut self, pass_until: Option<Time>) {
        self.credentials_pass_until = pass_until;
        self.for_everyone_until = None;
    }

    /// The names of the fields that select a question of the key.
    pub fn selecting(&self) -> Vec<HeaderName> {
        self.vary
            .iter()
            .filter_map(|selecting| HeaderName::try_from(&selecting.name).ok())
            .collect()
    }
}

/// A request field that selects a key's questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selecting {
    /// In lower case.
    pub name: String,
    /// When an answer last named it, give or take [`SEEN_PRECISION`].
    pub seen: Time,
}

/// A name that no answer has used for this long is forgotten.
pub const SELECTING_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// How exact [`Selecting::seen`] is: it is not written more often.
pub const SEEN_PRECISION: Duration = Duration::from_secs(3_600);

/// A variant in the list of a key's variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The name of its cell.
    pub id: String,
    /// It was found to be asked for again: it goes after those that were not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// A mark that responses to a question cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// When to try again whether they still cannot.
    pub until: Time,
    /// When it was set.
    pub since: Time,
    /// How many times in a row it was set.
    pub times: u32,
}

/// A mark that refreshes brought answers that may not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// How many in a row.
    pub times: u32,
    /// When the first of them came.
    pub since: Time,
}

impl Doubt {
    /// Answers in a row after which the resource counts as changed.
    pub const TIMES: u32 = 3;

    /// The least time that they have to span.
    pub const SPAN: Duration = Duration::from_secs(10);

    /// The mark after one more such answer.
    #[must_use]
    pub fn after(doubt: Option<Doubt>, now: Time) -> Doubt {
        match doubt {
            None => Doubt {
                times: 1,
                since: now,
            },
            Some(Doubt { times, since }) => Doubt {
                times: times.saturating_add(1),
                since,
            },
        }
    }

    /// Whether the resource has changed for good.
    pub fn is_settled(self, now: Time) -> bool {
        self.times >= Self::TIMES && now.since(self.since) >= Self::SPAN
    }
}

/// A mark after a failed refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// No attempt before this.
    pub not_before: Time,
    /// How many attempts have failed in a row.
    pub failures: u32,
    /// The last attempt brought an answer that may not be stored: the origin
    /// works.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubted: bool,
}

/// A mark that leases ran out without anything said about what came of them: their
/// holders ended, or the store took no word of them.
///
/// One may be an accident. After [`Unsettled::TIMES`] in a row the next ones may end in
/// the same way, and each of them costs the origin a request that helps nobody after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsettled {
    /// How many in a row.
    pub times: u32,
    /// No further lease before this; zero where there were too few of them.
    pub not_before: Time,
}

impl Unsettled {
    /// Leases in a row after which it counts as no accident.
    pub const TIMES: u32 = 2;

    /// Whether publishing keeps failing.
    pub fn is_failing(self) -> bool {
        self.times >= Self::TIMES
    }
}

impl Cell {
    /// Until when no lease is given because publishing keeps failing, if that is later
    /// than `now`. The origin works, so visitors for whom nothing is stored are passed.
    pub fn unpublishable(&self, now: Time) -> Option<Time> {
        let unsettled = self.marks.unsettled.filter(|mark| mark.is_failing())?;
        (now < unsettled.not_before).then_some(unsettled.not_before)
    }

    /// Until when no attempt is made, if that is later than `now`.
    ///
    /// After an answer that may not be stored the entry stays for now, so the mark
    /// holds only while there is an entry that can be used.
    pub fn backoff(&self, now: Time) -> Option<Time> {
        let retry = self.marks.retry.filter(|retry| now < retry.not_before)?;
        let stays = |entry: &Entry| !entry.invalidated && entry.freshness.may_serve_on_error(now);
        let holds = !retry.doubted || self.entry.as_ref().is_some_and(stays);
        holds.then_some(retry.not_before)
    }
}
