//! What a run has shown, counted: a simulation in which something never
//! happened has not tested it.

use std::collections::BTreeMap;

/// Declares the kinds of events, with their names for the summary.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A kind of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// All of them.
            pub(crate) const ALL: &[Kind] = &[$(Kind::$variant,)*];

            /// Its name.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    /// An instance learned that it holds a lease.
    Won = "elections won",
    /// A swap for a lease lost against another's write.
    Lost = "elections lost",
    /// The store kept a creator from creating an absent cell.
    Contested = "creations contested",
    /// A lapsed lease of a dead holder was replaced.
    TakeoverDead = "takeovers after a crash",
    /// A lapsed lease of a living holder was replaced.
    TakeoverLive = "takeovers from a holder that was held up",
    /// A lapsed lease that nobody knew to hold was replaced.
    TakeoverOrphan = "takeovers of a lease nobody learned to hold",
    /// A deadline was moved.
    Renewed = "leases renewed",
    /// An entry was stored.
    Published = "entries published",
    /// A lease had been lost when it was settled.
    Fenced = "settlements fenced",
    /// A purge had come before the entry was to be published.
    Purged = "settlements fenced by a purge",
    /// Settling failed because the store did.
    SettleFailed = "settlements lost with the store",
    /// A lease was too old when the fetch was to begin.
    Late = "fetches given up before they began",
    /// A holder whose renewals failed had the origin busy when its successor asked.
    Overrun = "refreshes overlapping after failed renewals",
    /// The origin said 304 and the entry lives on.
    Revalidated = "entries renewed by a 304",
    /// A request was sent once more, because its connection ended without an answer.
    SentAgain = "requests sent once more",
    /// Retry marks were stored.
    RetryMark = "retry marks",
    /// Pass marks were stored.
    PassMark = "pass marks",
    /// A key was found to have variants.
    Split = "keys split into variants",
    /// A variant had to go, because its key had too many.
    Evicted = "variants evicted",
    /// An unsafe request changed a cell.
    Invalidated = "cells invalidated",
    /// The store took a soft purge of the administrator's.
    PurgedSoft = "soft purges acknowledged",
    /// The store took an invalidating purge of the administrator's.
    PurgedInvalidating = "invalidating purges acknowledged",
    /// The store took a hard purge of the administrator's.
    PurgedHard = "hard purges acknowledged",
    /// The store took a purge of more than one URL.
    PurgedWidely = "purges by prefix, by tag and of everything acknowledged",
    /// The store did not take a purge of the administrator's at once.
    PurgePending = "purges not acknowledged",
    /// A purge of the administrator's came while the origin was being asked.
    PurgeInFlight = "purges acknowledged with a refresh in flight",
    /// A request waited and got what another fetched.
    WaitFilled = "waits ended: filled",
    /// A request waited and got what another of its instance fetched, before the
    /// store had it or without its ever having it.
    WaitHanded = "waits ended: handed over unstored",
    /// A request waited as long as it may.
    WaitDeadline = "waits ended: deadline",
    /// A request waited for a lease that lapsed, and took it.
    WaitHolderDied = "waits ended: holder died, took over",
    /// A request got the stale entry after the soft timeout.
    WaitSoft = "waits ended: soft timeout",
    /// Answers from a fresh entry.
    Fresh = "answers: fresh",
    /// Answers from a stale entry, refreshed behind.
    Stale = "answers: stale while revalidating",
    /// Answers from a stale entry because the origin failed.
    StaleOnError = "answers: stale because of an error",
    /// Answers as they came from the origin.
    Direct = "answers: from the origin",
    /// 304 to a visitor.
    NotModified = "answers: 304 to the visitor",
    /// Errors of the shield's own.
    Error = "answers: errors of the shield's own",
    /// Answers of an origin's error.
    OriginError = "answers: errors of the origin's",
    /// Good answers that were made without the store.
    WithoutStore = "answers: good ones without the store",
    /// A visitor left before the end.
    Left = "visitors that left",
    /// A visitor's request died with its node.
    Died = "requests that died with their node",
    /// A node crashed.
    Crash = "node crashes",
    /// A crash left the origin busy.
    CrashInFlight = "node crashes with a refresh in flight",
    /// An instance ended.
    Trap = "instance deaths",
    /// A node stalled.
    Stall = "node stalls",
    /// An idle instance was dropped.
    Idle = "idle instances dropped",
    /// A store operation was refused.
    StoreRefused = "store operations refused",
    /// A store operation was lost before it was applied.
    StoreLost = "store requests lost",
    /// A store operation was applied and its reply lost.
    ReplyLost = "store replies lost after the write",
    /// A store operation took long.
    StoreSlow = "store operations that took long",
    /// The store's word on a swap was wrong.
    StoreLied = "swaps called a conflict though applied",
    /// Two callers heard 1 from one counter.
    CounterLied = "counters that told two callers 1",
    /// An upsert of a cell.
    Upserted = "creations by upsert",
    /// A read that did not show what the store has.
    Behind = "reads of a value before the last",
    /// The same of a chunk that was not visible at all yet.
    ChunkBehind = "reads of a chunk that was not visible yet",
    /// A write without a swap that another's replaced within its wait.
    RaceLost = "timed swaps lost to another's write",
    /// A write that was told done, and overwritten: writes were later than agreed.
    Undone = "timed swaps undone by late writes",
    /// Two exchanges for one cell, because writes were later than agreed.
    DoubleElection = "double elections by late writes",
    /// A holder found another's cell at publish, where writes were late.
    DoubleNoticed = "double elections noticed when settling",
    /// A chunk of a body was stored.
    ChunkStored = "chunks stored",
    /// A chunk of a body was removed.
    ChunkRemoved = "chunks removed",
    /// An entry was stored whose body lies in chunks.
    Chunked = "entries published with a body in chunks",
    /// The origin sent a body slowly, in small pieces.
    Trickled = "bodies that came in small pieces for a long time",
    /// A body was noted that nobody will publish.
    DraftLost = "bodies given up half written",
    /// The origin said 304 to a validator that is not its own.
    ConfirmedWrongly = "validators confirmed that the origin does not have",
    /// A request went to the origin with its credentials.
    PassedForCredentials = "requests passed for their credentials",
    /// A visitor with credentials had the origin asked without them.
    AskedWithCredentials = "questions asked for visitors with credentials",
    /// A refresh brought nothing of use, and the entry stayed.
    KeptWhenRefused = "refused refreshes that kept the entry",
    /// A retry mark as long as the origin has asked for.
    RetryAfterHonoured = "Retry-After honoured",
    /// An entry was stored although requests were passed.
    HitForMiss = "entries stored under a pass mark (hit-for-miss)",
    /// A visitor got a redirect to what it has asked for, as the origin made it.
    PassedRedirect = "redirects to their own key passed",
    /// A visitor got an error that the origin made for another.
    SharedError = "errors shared",
    /// A visitor waited for a fetch and got its answer; the visitor who caused the
    /// fetch has other credentials.
    FollowerWithOtherCookie = "followers with other credentials",
    /// A write failed in a store that reads.
    StoreReadsOnly = "writes refused by a store that reads",
    /// The store lost all that it had.
    StoreEmptied = "stores emptied in use",
    /// The store did not take a value, because it is too long.
    ValueRefused = "values refused by the store for their length",
    /// A read failed in a store that writes.
    StoreWritesOnly = "reads refused by a store that writes",
    /// A request reached the origin.
    Asked = "requests to the origin",
    /// The origin's record was written.
    BudgetStored = "writes of the origin's record",
    /// The origin had as many requests at once as it may have.
    BudgetFull = "times that the origin's budget was used up",
    /// An instance noted in the record that it waits for a slot.
    SlotAwaited = "notes that an instance waits for a slot",
    /// Slots went to others because their holder did not renew them.
    SlotExpired = "slots that expired",
    /// The breaker opened.
    BreakerOpened = "breaker: opened",
    /// It opened again after a probe or while half open.
    BreakerReopened = "breaker: opened again while half open",
    /// The probe was let go.
    BreakerProbed = "breaker: probes",
    /// It closed.
    BreakerClosed = "breaker: closed",
    /// Before the breaker opened, an instance asked for a page that worked.
    OriginChecked = "breaker: checks of a page that worked",
    /// It still worked.
    OriginPassed = "breaker: checks that the origin passed",
    /// A visitor was sent away because no slot became free.
    RefusedBusy = "answers: the origin is busy",
    /// A visitor was sent away because the breaker is open.
    RefusedOpen = "answers: the breaker is open",
    /// A visitor was sent away because the requests of the hour are used up.
    RefusedRate = "answers: the hour is used up",
    /// The origin sent 5xx, refused, hung, or broke off.
    OriginFailed = "origin exchanges that failed",
}

/// Happens in one of some hundred scenarios. `timed` has a test that sees it.
const RARE: Kind = Kind::DoubleElection;

/// How often each kind of event happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<Kind, u64>);

impl Coverage {
    /// Counts one.
    pub(crate) fn count(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// How often it happened.
    pub(crate) fn of(&self, kind: Kind) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// Adds another run's.
    pub(crate) fn add(&mut self, other: &Coverage) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }

    /// What never happened and should have.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        Kind::ALL
            .iter()
            .filter(|kind| self.of(**kind) == 0 && **kind != RARE)
            .map(|kind| kind.name())
            .collect()
    }
}
