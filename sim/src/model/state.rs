//! States of the world: the store, the nodes, a purger, and the time.
//!
//! A state is kept in a normal form, so that states that behave alike are one;
//! see [`State::normalise`].

use super::record::{Record, Taint};
use super::settings::{BUCKET, NODES_MAX};
use leeward::cell::transition::Purge;

/// Processes of a world: the nodes, then the purger.
pub const PROCESSES: usize = NODES_MAX + 1;

/// The purger's place.
pub const PURGER: usize = NODES_MAX;

/// The first tick of the window that time is kept in: room for what is past
/// and still matters.
pub const EPOCH: u8 = 4 * BUCKET;

/// Guard buckets that a state has counters for.
pub(super) const BUCKETS: usize = 9;

/// A lease as its holder knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// The cell as the holder last saw it stored.
    pub loaded: Record,
    /// The holder.
    pub holder: u8,
    /// The deadline as far as the holder knows it to be stored.
    pub deadline: u8,
}

/// A fetch: what its result will be from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fetch {
    /// The taint of the entry that a 304 would renew, if there is one.
    pub base: Option<Taint>,
    /// Of the exchange itself.
    pub taint: Taint,
}

/// How a lease is to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// With an entry of such a taint.
    Publish(Taint),
    /// With a retry mark.
    Fail,
    /// With nothing: what was fetched may not be published.
    Release,
}

/// What a write of the cell is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Goal {
    /// To get the lease.
    Elect {
        /// The holder to be.
        holder: u8,
        /// The deadline to be.
        deadline: u8,
    },
    /// To keep the lease, while the origin is at it.
    Renew {
        /// The lease as known so far.
        held: Held,
        /// What goes on meanwhile.
        fetch: Fetch,
        /// The deadline to be.
        deadline: u8,
    },
    /// To settle the lease.
    Settle {
        /// Whose lease.
        holder: u8,
        /// With what.
        outcome: Outcome,
    },
    /// To purge.
    Purge(Kind),
}

/// A [`Purge`] that can be ordered and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Purge::Soft`].
    Soft,
    /// [`Purge::Invalidate`].
    Invalidate,
    /// [`Purge::Hard`].
    Hard,
}

impl From<Purge> for Kind {
    fn from(purge: Purge) -> Self {
        match purge {
            Purge::Soft => Kind::Soft,
            Purge::Invalidate => Kind::Invalidate,
            Purge::Hard => Kind::Hard,
        }
    }
}

impl From<Kind> for Purge {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Soft => Purge::Soft,
            Kind::Invalidate => Purge::Invalidate,
            Kind::Hard => Purge::Hard,
        }
    }
}

/// A swap under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Write {
    /// What for.
    pub goal: Goal,
    /// The cell that the store has to have; none to create it.
    pub expected: Option<Record>,
    /// The cell to be.
    pub new: Record,
    /// Of a creation: the first bucket of its two guards.
    pub bucket: u8,
    /// Of a creation: the clock's reading from which on it is given up, and
    /// once it is issued, the last tick at which it can reach the store; zero
    /// for none.
    pub until: u8,
}

/// What follows when guards are cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// The creator holds the lease.
    Hold(Held, Option<Taint>),
    /// It does not.
    Leave,
}

/// The store's word on a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// It was done.
    Done,
    /// It was not.
    Conflict,
    /// The reply was lost.
    Error,
}

/// Where a process is: before its next step. Each step has at most one
/// operation of the store or one look at the clock, so that everything else can
/// happen in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// Nothing under way: a node may read the cell at any time.
    Idle,
    /// Has read that there is no cell; claims it next.
    Claiming,
    /// About to increment the guard of the first bucket, or of the second.
    Guarding {
        /// The creation.
        write: Write,
        /// Of the second bucket.
        second: bool,
    },
    /// Has won the guards; reads the cell again.
    Rereading(Write),
    /// Looks at the clock before it creates.
    Checking(Write),
    /// A creation on its way to the store.
    Creating(Write),
    /// An upserting store that has found the cell absent, and will write.
    Overwriting(Write),
    /// A swap from a value on its way to the store.
    Swapping(Write),
    /// About to read back.
    Reading {
        /// The swap.
        write: Write,
        /// What the store said of it.
        word: Word,
    },
    /// About to read once more, after an error.
    Reloading(Write),
    /// About to remove the guard of the first bucket, or of the second.
    Cleaning {
        /// The first bucket.
        bucket: u8,
        /// The second one's turn.
        second: bool,
        /// What comes after.
        then: Then,
    },
    /// Holds the lease; has not gone to the origin yet.
    Holding(Held, Option<Taint>),
    /// Waits for the origin.
    Fetching(Held, Fetch),
    /// A purge was requested; the purger is about to read the cell.
    Purging(Kind),
}

/// A swap whose writer has given up or died, and that may still reach the
/// store. There is at most one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Late {
    /// The swap.
    pub write: Write,
    /// From absent, by a store that has already found the cell absent.
    pub overwrites: bool,
}

/// What has gone wrong for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarms {
    /// A published entry was replaced by that of an older lease, or lost
    /// without a hard purge.
    pub replaced: bool,
    /// A lease that had not ended was taken away by another than its holder.
    pub overridden: bool,
}

/// A state of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// True time. Clocks read it or up to [`SKEW`](super::settings::SKEW) more, as they like.
    pub now: u8,
    /// The stored cell.
    pub cell: Option<Record>,
    /// Guard counters by bucket, up to two.
    pub guards: [u8; BUCKETS],
    /// The nodes and the purger.
    pub processes: [At; PROCESSES],
    /// A swap that may come late.
    pub late: Option<Late>,
    /// What has gone wrong.
    pub alarms: Alarms,
}

impl State {
    /// The world at `now`, with nothing stored and nothing under way.
    pub fn start(now: u8) -> Self {
        State {
            now,
            cell: None,
            guards: [0; BUCKETS],
            processes: [At::Idle; PROCESSES],
            late: None,
            alarms: Alarms::default(),
        }
    }

    /// The counter of a bucket's guard; none for buckets that are long over.
    pub fn guard(&mut self, bucket: u8) -> Option<&mut u8> {
        self.guards
            .get_mut(usize::from(bucket))
            .filter(|_| bucket > 0)
    }

    /// The number for a new holder: higher than all.
    pub fn next_holder(&self) -> u8 {
        let mut highest = 0;
        let mut copy = *self;
        copy.each_holder(&mut |holder| highest = highest.max(*holder));
        highest + 1
    }

    /// How many leases that have not ended by their holders' own clocks there
    /// are under which somebody may go, or has gone, to the origin.
    pub fn holders(&self) -> usize {
        self.processes
            .iter()
            .filter(|at| at.lease_in_use().is_some_and(|end| self.now < end))
            .count()
    }
}

impl At {
    /// The swap that the process is at.
    pub fn write_mut(&mut self) -> Option<&mut Write> {
        match self {
            At::Guarding { write, .. }
            | At::Rereading(write)
            | At::Checking(write)
            | At::Creating(write)
            | At::Overwriting(write)
            | At::Swapping(write)
            | At::Reading { write, .. }
            | At::Reloading(write) => Some(write),
            At::Idle
            | At::Claiming
            | At::Cleaning { .. }
            | At::Holding(..)
            | At::Fetching(..)
            | At::Purging(_) => None,
        }
    }

    /// The deadline of the lease under which the process may go, or has gone,
    /// to the origin.
    pub fn lease_in_use(&self) -> Option<u8> {
        match self {
            At::Holding(held, _) | At::Fetching(held, _) => Some(held.deadline),
            At::Swapping(write) | At::Reading { write, .. } | At::Reloading(write) => {
                match write.goal {
                    Goal::Renew { held, .. } => Some(held.deadline),
                    Goal::Elect { .. } | Goal::Settle { .. } | Goal::Purge(_) => None,
                }
            }
            At::Cleaning {
                then: Then::Hold(held, _),
                ..
            } => Some(held.deadline),
            _ => None,
        }
    }
}
