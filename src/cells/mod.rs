//! Cells in the store: the only way to read and to change them.
//!
//! [`Cells`] reads cells and applies the transitions of [`crate::cell`] to them,
//! and it writes, reads and removes the bodies that are too long for a cell.
//!
//! A key has a cell of its own and one for each of its variants. The key's cell has
//! the marks that concern all questions of the key, and the entry of one of them, the
//! resident.
//!
//! Failures of the store end here. While the platform's store fails, an instance works
//! on a small store in its own memory with the same algorithm: its requests still share
//! one fetch and its answer. So it does with a cell that a newer version has written.
//!
//! Files: `questions` says which cell a question has. `names` makes the names of all
//! values in the store. `read` reads cells, `values` what lies beside them. `swap`
//! applies a transition until it is stored or refused; `lease` has the transitions
//! that take, keep and end a lease, `purge` those of a purge, and the queue of purges
//! that the store has not taken yet; `purges` has those of more than one URL. `bodies` has bodies in chunks, `variants` the list
//! of a key's variants. `health` bounds the time of each operation, and leaves what
//! failed of the store alone until a probe finds that it works again. `recent` has what
//! was read of the store lately, for when it does not answer. `listing` shows the operator what
//! is stored. `counters` writes what was counted, and `warming` says which instance fetches pages at the start. `sweep` keeps the store
//! within its limits.

mod bodies;
mod counters;
mod health;
mod lease;
mod listing;
mod names;
mod purge;
mod purges;
mod questions;
mod read;
mod recent;
mod record;
mod room;
mod swap;
mod sweep;
#[cfg(test)]
mod testing;
mod values;
mod variants;
mod warming;

pub(crate) use bodies::Lost;
pub(crate) use counters::Counting;
pub(crate) use lease::{Election, Held, Told};
pub use names::{budget_id, cell_id, purges_id};
pub use purge::Purged;
pub(crate) use questions::Located;
pub(crate) use record::Unwritten;
pub(crate) use swap::Settled;

use crate::cell::bounds::Bounds;
use crate::cell::transition::{Backoff, Stamp};
use crate::cell::{Cell, Entry, Nonce};
use crate::config::{Config, Origin};
use crate::purges::Moments;
use crate::store::Memory;
use crate::store::health::Health;
use crate::time::Time;
use crate::world::Platform;
use bytes::Bytes;
use counters::Counters;
use health::Refused;
use purge::queue::PurgeQueue;
use purges::KnownPurges;
use recent::Recent;
use room::Room;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// The name under which the program `leeward` says which parts of its store fail, `read fails`
/// and `write fails`, while it stands in for it. Nothing is stored there.
pub const HOST_STORE: &str = "host/store";

/// Most bytes of cells that an instance keeps while the store fails.
const LOCAL_STORE_LIMIT: usize = 16 << 20;

/// The cells as one instance sees them.
#[derive(Debug)]
pub struct Cells<P: Platform> {
    platform: Rc<P>,
    config: Rc<Config>,
    /// The origin's address, which names its records in the store.
    origin: String,
    /// Stands in for the platform's store while that fails.
    memory: Memory,
    /// What a cell may claim.
    bounds: Bounds,
    /// What of the platform's store works.
    health: RefCell<Health>,
    /// What was read of the platform's store lately. Used only while that does not
    /// answer, and never for elections in it.
    recent: RefCell<Recent>,
    /// The cells that the platform's store does not take.
    refused: RefCell<Refused>,
    /// Whether the platform's store has room for new cells.
    room: Room,
    /// Whether the log says already that this instance is worn.
    said_worn: std::cell::Cell<bool>,
    /// After how many more requests this instance looks whether the store is to be swept;
    /// none before the first.
    requests_to_look: std::cell::Cell<Option<u32>>,
    /// A request that creates a cell looks whether the store is to be swept.
    fills_up: std::cell::Cell<bool>,
    /// The purges that the platform's store has not taken yet.
    purges: RefCell<PurgeQueue>,
    /// Whether a task works off `purges`.
    retries_purges: std::cell::Cell<bool>,
    /// The purges of more than one URL.
    known_purges: KnownPurges,
    /// What is counted.
    counters: Counters,
}

impl<P: Platform> Cells<P> {
    /// The cells of an origin in the store of `platform`.
    pub(crate) fn new(platform: Rc<P>, config: Rc<Config>, origin: &Origin) -> Rc<Self> {
        let bounds = bounds(&config);
        Rc::new(Cells {
            platform,
            config,
            origin: origin.to_string(),
            bounds,
            memory: Memory::new(LOCAL_STORE_LIMIT),
            health: RefCell::default(),
            recent: RefCell::default(),
            refused: RefCell::default(),
            room: Room::default(),
            said_worn: std::cell::Cell::default(),
            requests_to_look: std::cell::Cell::default(),
            fills_up: std::cell::Cell::default(),
            purges: RefCell::default(),
            retries_purges: std::cell::Cell::default(),
            known_purges: KnownPurges::default(),
            counters: Counters::default(),
        })
    }

    pub(crate) fn nonce(&self) -> Nonce {
        Nonce::new(self.platform.random())
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            nonce: self.nonce(),
            now: self.platform.now(),
        }
    }

    /// A random part of a pause, so that several instances do not keep step.
    pub(crate) fn up_to(&self, pause: Duration) -> Duration {
        let part = u32::try_from(self.platform.random() % 1_000).unwrap_or(0);
        pause.saturating_mul(part) / 1_000
    }
}

/// What the settings allow a cell to claim: the longest that any rule allows.
fn bounds(config: &Config) -> Bounds {
    let rules = config.rules.iter().chain(&config.health);
    let origins = rules
        .map(|rule| &rule.config.origin)
        .chain([&config.origin]);
    let (mut retry_max, mut pass_max) = (Duration::ZERO, Duration::ZERO);
    for origin in origins {
        retry_max = retry_max
            .max(origin.retry.max)
            .max(Backoff::spread_max(origin.retry_after_max));
        pass_max = pass_max.max(origin.pass);
    }
    Bounds {
        lease: config
            .lease
            .duration
            .saturating_add(config.lease.clock_skew),
        retry_max,
        pass_max,
        clock_skew: config.lease.clock_skew,
    }
}

fn doubled(pause: Duration, times: u32) -> Duration {
    pause.saturating_mul(2_u32.saturating_pow(times))
}

/// Which store a cell was read from; it is swapped there too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// The platform's, shared by all nodes.
    Shared,
    /// The instance's own memory, because the platform's fails.
    Local,
}

/// A cell as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) backing: Backing,
    /// What a swap has to expect.
    raw: Option<Bytes>,
    /// None where nothing is stored, or nothing readable.
    pub(crate) cell: Option<Cell>,
    /// A newer version of the shield has written it: neither read nor overwritten.
    is_newer: bool,
    /// The instance's own cell, with what the shared store says of purges.
    is_informed: bool,
    /// Read for a purge: it is swapped even while the store is left alone.
    is_forced: bool,
    /// When what is stored under its key was last purged, but for what its own cell says: a
    /// variant's by the key's own cell, and purges of more than one URL.
    pub(crate) key_purges: Moments,
}

impl Loaded {
    pub(crate) fn entry(&self) -> Option<&Entry> {
        self.cell.as_ref()?.entry.as_ref()
    }

    fn has_fresh_entry(&self, now: Time) -> bool {
        self.entry()
            .is_some_and(|entry| !entry.invalidated && entry.freshness.is_fresh(now))
    }

    /// Whether `other` is the same cell after another write.
    pub(crate) fn differs(&self, other: &Loaded) -> bool {
        self.raw != other.raw
    }
}

/// Whose body it is, and in which store its chunks are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The cell's key.
    pub(crate) key: String,
    /// The store that the cell was read from.
    pub(crate) backing: Backing,
}

impl Place {
    pub(crate) fn of(loaded: &Loaded) -> Self {
        Place {
            key: loaded.key.clone(),
            backing: loaded.backing,
        }
    }
}
