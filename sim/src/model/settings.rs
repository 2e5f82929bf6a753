//! What one exploration is about: the world's size, the store's behaviour, and
//! which safeguard, if any, is taken away.

use clap::ValueEnum;
use leeward::cell::transition::Purge;

/// Ticks that a lease lasts: the fewest in which a quarter of a guard's bucket
/// can be told from nothing.
pub const LEASE: u8 = 8;

/// Ticks that two clocks may be apart.
pub const SKEW: u8 = 1;

/// Ticks of a guard's time bucket: half a lease, as the shield sets it.
pub const BUCKET: u8 = LEASE / 2;

/// Ticks after which a creator that has not come to creating gives up.
pub const PATIENCE: u8 = BUCKET / 4;

/// Ticks for which a key is left alone after the origin failed.
pub const RETRY: u8 = 2;

/// Most ticks that a creation may stall inside the store's own call: half a
/// bucket less the skew.
pub const STALL_MAX: u8 = BUCKET / 2 - SKEW;

/// Most nodes of a model.
pub const NODES_MAX: usize = 3;

/// How a store departs from its contract; the rows of the store table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Behaviour {
    /// Not at all.
    Exact,
    /// A swap from absent overwrites whatever was created meanwhile, and both
    /// creators hear success (SQLite on Spin).
    Upsert,
    /// Every swap is called a conflict, applied or not (Redis on Spin).
    FalseConflict,
    /// The reply of any operation may be lost: it was applied, or was not, or
    /// will be.
    LostReply,
    /// A guard counter may tell two callers 1; creation is exact (`CosmosDB` on
    /// Spin).
    DoubledGuard,
    /// A guard counter may fail to count, as where several count at once;
    /// creation is exact (`DynamoDB` on Spin).
    ContendedGuard,
    /// Upserting and losing replies at once: in no row of the table, but what
    /// SQLite on a failing disk does.
    UpsertLostReply,
}

impl Behaviour {
    /// Whether a swap from absent is an upsert.
    pub fn upserts(self) -> bool {
        match self {
            Behaviour::Upsert | Behaviour::UpsertLostReply => true,
            Behaviour::Exact
            | Behaviour::FalseConflict
            | Behaviour::LostReply
            | Behaviour::DoubledGuard
            | Behaviour::ContendedGuard => false,
        }
    }

    /// Whether replies get lost.
    pub fn loses(self) -> bool {
        match self {
            Behaviour::LostReply | Behaviour::UpsertLostReply => true,
            Behaviour::Exact
            | Behaviour::Upsert
            | Behaviour::FalseConflict
            | Behaviour::DoubledGuard
            | Behaviour::ContendedGuard => false,
        }
    }

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Behaviour::Exact => "exact",
            Behaviour::Upsert => "upsert",
            Behaviour::FalseConflict => "false-conflict",
            Behaviour::LostReply => "lost-reply",
            Behaviour::DoubledGuard => "doubled-guard",
            Behaviour::ContendedGuard => "contended-guard",
            Behaviour::UpsertLostReply => "upsert-lost-reply",
        }
    }
}

/// A measure of the protocol that a model can do without, to show what it is
/// good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Safeguard {
    /// A creator has to hear 1 from a guard counter first.
    Guard,
    /// The guard of the next time bucket counts too.
    SecondBucket,
    /// The creator looks at its clock right before it creates.
    ClockCheck,
    /// A creation reaches the store within [`STALL_MAX`]. An assumption, not a
    /// measure: hosts that stall longer break it.
    BoundedStall,
    /// What is stored decides, not what the store says of a swap.
    ReadBack,
    /// Only who holds the lease publishes.
    Fencing,
    /// What was fetched under a lease from before a purge is not published.
    Revocation,
    /// Others respect a lease for the skew after its deadline; its holder
    /// begins nothing in the skew before it.
    SkewMargin,
    /// Writes and holders are told apart by random nonces.
    Nonce,
    /// A renewal never moves a deadline back, though the clock may have gone
    /// back since the last one.
    RenewalGrows,
    /// A purge that could not ask the shared store does not report success.
    PurgeReport,
}

/// Which purges come, at any moment and any number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purges {
    /// None.
    None,
    /// Of one kind.
    Only(Purge),
    /// Of all kinds.
    Mixed,
}

impl Purges {
    /// The kinds that come.
    pub fn kinds(self) -> &'static [Purge] {
        match self {
            Purges::None => &[],
            Purges::Only(Purge::Soft) => &[Purge::Soft],
            Purges::Only(Purge::Invalidate) => &[Purge::Invalidate],
            Purges::Only(Purge::Hard) => &[Purge::Hard],
            Purges::Mixed => &[Purge::Soft, Purge::Invalidate, Purge::Hard],
        }
    }

    /// Whether a purge of `kind` makes what was fetched before it suspect.
    /// Where all kinds come, the hard ones are followed.
    pub fn follows(self, kind: Purge) -> bool {
        match self {
            Purges::None => false,
            Purges::Only(_) => true,
            Purges::Mixed => kind == Purge::Hard,
        }
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Purges::None => "none",
            Purges::Only(Purge::Soft) => "soft",
            Purges::Only(Purge::Invalidate) => "invalidate",
            Purges::Only(Purge::Hard) => "hard",
            Purges::Mixed => "all",
        }
    }
}

/// How much of a state is kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Detail {
    /// Nodes are alike, and what cannot matter any more is forgotten; see
    /// [`State::normalise`](super::state::State::normalise).
    Folded,
    /// The same, but nodes keep their places: for traces.
    Named,
    /// Nodes keep their places, and guards are removed one by one: to
    /// check the folding itself.
    Full,
}

/// Everything that an exploration is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many nodes: at most [`NODES_MAX`].
    pub nodes: usize,
    /// What the store does.
    pub behaviour: Behaviour,
    /// Which purges come.
    pub purges: Purges,
    /// Whether nodes crash.
    pub crashes: bool,
    /// Whether a swap may reach the store after its writer has given up or died.
    pub late: bool,
    /// Whether the origin fails at times.
    pub failures: bool,
    /// The measure that is missing.
    pub without: Option<Safeguard>,
    /// How much is kept apart.
    pub detail: Detail,
    /// Whether liveness is checked from every state.
    pub liveness: bool,
}

impl Settings {
    /// Whether the protocol has `safeguard`.
    pub fn has(&self, safeguard: Safeguard) -> bool {
        self.without != Some(safeguard)
    }

    /// The latest tick at which a creation issued at `now` reaches the store;
    /// none if there is none.
    pub fn stall_limit(&self, now: u8) -> Option<u8> {
        self.has(Safeguard::BoundedStall).then_some(now + STALL_MAX)
    }

    /// The skew that the protocol allows for.
    pub fn margin(&self) -> u8 {
        if self.has(Safeguard::SkewMargin) {
            SKEW
        } else {
            0
        }
    }
}
