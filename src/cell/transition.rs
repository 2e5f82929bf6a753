//! Every change of a cell, as a pure function.
//!
//! The functions take the cell as it was read, or none where the store has
//! none, and return the cell to be swapped in, or say why there is none. Times
//! come from the caller's clock.

use super::{
    Cell, Coming, Doubt, Draft, Entry, Lease, Listed, Marks, Nonce, Orphan, Pass, Retry,
    SEEN_PRECISION, SELECTING_KEPT, Selecting, Unsettled,
};
use crate::time::Time;
use http::HeaderName;
use std::fmt;
use std::time::Duration;

/// A request for a lease.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The nonce of the holder to be: new for every claim.
    pub holder: Nonce,
    /// The claimant's clock.
    pub now: Time,
    /// How long the lease shall last unless renewed.
    pub duration: Duration,
    /// How far the clocks of two nodes may be apart.
    pub clock_skew: Duration,
    /// How long leases pause, beyond the end of this one, where several in a row were
    /// not settled.
    pub backoff: Backoff,
    /// Spreads the pause.
    pub random: u64,
}

/// What a write bears: whose it is, and when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// New with every write.
    pub nonce: Nonce,
    /// The writer's clock.
    pub now: Time,
}

/// Why a lease is not to be had, and what the claimant does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLease {
    /// Somebody holds it until then: wait for the cell to change, or serve what
    /// is there.
    Live {
        /// From when on the cell may be claimed.
        until: Time,
    },
    /// The last attempt failed, or the last ones were not settled: serve what is there,
    /// or say when to come back.
    Retry {
        /// From when on the cell may be claimed.
        not_before: Time,
    },
}

/// The caller does not hold the lease any more: what it has fetched is for its own
/// client, and may not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// The cell is gone, or another holds its lease, or nobody does.
    Lost,
    /// A purge came in between.
    Purged,
}

/// How a purge leaves what it purges, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purge {
    /// Stale at once, still servable, refreshed on next use.
    Soft,
    /// To be validated before it is used again; servable if the origin fails.
    Invalidate,
    /// Not servable any more.
    Hard,
}

/// Takes the lease of a cell, or of one that is to be created for `key`.
///
/// In a key's own cell that has no resident yet, the question with the selector
/// `resident` becomes it. Whether the entry needs a refresh is the caller's
/// decision, from the same cell: the swap makes sure that it still holds.
pub fn lease(
    cell: Option<&Cell>,
    key: &str,
    resident: Option<&str>,
    claim: &Claim,
    nonce: Nonce,
) -> Result<Cell, NoLease> {
    if let Some(lease) = cell.and_then(|cell| cell.lease.as_ref())
        && lease.is_live(claim.now, claim.clock_skew)
    {
        return Err(NoLease::Live {
            until: lease.deadline.plus(claim.clock_skew),
        });
    }
    let pause = |cell: &Cell| {
        let backoff = cell.backoff(claim.now);
        backoff.max(cell.unpublishable(claim.now))
    };
    if let Some(not_before) = cell.and_then(pause) {
        return Err(NoLease::Retry { not_before });
    }
    let mut next = next(cell, key, nonce);
    if next.lease.is_some() {
        // A holder before has died, or was held up for too long.
        next.marks.unsettled = Some(unsettled(next.marks.unsettled, claim));
    }
    next.end_lease(claim.now);
    if next.marks.resident.is_none() {
        next.marks.resident = resident.map(str::to_owned);
    }
    next.lease = Some(Lease {
        holder: claim.holder,
        start: claim.now,
        deadline: claim.now.plus(claim.duration),
        revoked: false,
        draft: None,
    });
    Ok(next)
}

/// The mark after one more lease that was not settled, for the claimant that takes it
/// over. From [`Unsettled::TIMES`] on there is a pause after the claimant's own lease,
/// unless that is settled.
fn unsettled(before: Option<Unsettled>, claim: &Claim) -> Unsettled {
    let deadline = claim.now.plus(claim.duration).plus(claim.clock_skew);
    unsettled_until(before, claim.backoff, claim.random, deadline)
}

/// The same, with a pause that begins at `from`.
fn unsettled_until(
    before: Option<Unsettled>,
    backoff: Backoff,
    random: u64,
    from: Time,
) -> Unsettled {
    let times = before.map_or(0, |mark| mark.times).saturating_add(1);
    let mark = Unsettled {
        times,
        not_before: Time::default(),
    };
    if !mark.is_failing() {
        return mark;
    }
    let pauses = times.saturating_sub(Unsettled::TIMES).saturating_add(1);
    Unsettled {
        not_before: from.plus(backoff.delay(pauses, random)),
        ..mark
    }
}

/// Moves the deadline of the lease that `holder` holds. Never back: the holder
/// relies on what it knows to be stored, and its clock may have been set.
pub fn renew(
    cell: Option<&Cell>,
    holder: Nonce,
    deadline: Time,
    nonce: Nonce,
) -> Result<Cell, Fenced> {
    let (mut next, lease) = held(cell, holder, nonce)?;
    next.lease = Some(Lease {
        deadline: deadline.max(lease.deadline),
        ..lease
    });
    Ok(next)
}

/// Notes which body the holder is about to write, in chunks, and which entry it is of
/// where others may read it meanwhile; none where the holder has left the one that it
/// wrote to another cell.
pub fn draft(
    cell: Option<&Cell>,
    holder: Nonce,
    draft: Option<Draft>,
    coming: Option<&Coming>,
    nonce: Nonce,
) -> Result<Cell, Fenced> {
    let (mut next, lease) = held(cell, holder, nonce)?;
    next.lease = Some(Lease { draft, ..lease });
    // Whoever comes after a purge may not have what was fetched before it.
    next.coming = coming
        .filter(|_| draft.is_some() && !lease.revoked)
        .map(|coming| Box::new(coming.clone()));
    Ok(next)
}

/// Notes how many chunks of the holder's draft are complete.
pub fn progress(
    cell: Option<&Cell>,
    holder: Nonce,
    done: u32,
    nonce: Nonce,
) -> Result<Cell, Fenced> {
    let (mut next, _) = held(cell, holder, nonce)?;
    next.advance(done);
    Ok(next)
}

/// What a key's own cell learns from an answer: its resident, and what selects the
/// questions of the key.
pub struct Learned<'a> {
    /// The selecting fields that the answer's `Vary` names, in lower case.
    pub names: &'a [String],
    /// The selector of the question that was answered, for selecting fields.
    pub selector: &'a dyn Fn(&[HeaderName]) -> String,
}

impl fmt::Debug for Learned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learned")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Puts a new entry in, and clears lease and marks of failures.
///
/// Serves for a response and for a 304 alike: the caller made the entry, from
/// the response or from the entry that the 304 renewed. `learned` is for a key's
/// own cell.
pub fn publish(
    cell: Option<&Cell>,
    holder: Nonce,
    entry: Entry,
    learned: Option<&Learned<'_>>,
    stamp: Stamp,
) -> Result<Cell, Fenced> {
    let (mut next, lease) = held(cell, holder, stamp.nonce)?;
    if lease.revoked {
        return Err(Fenced::Purged);
    }
    next.marks.unsettled = None;
    // A refresh: the question has been asked for again.
    next.marks.asked_again |= next.entry.is_some();
    next.replace_entry(Some(entry), stamp.now);
    next.end_lease(stamp.now);
    next.marks.retry = None;
    next.marks.pass = None;
    next.marks.doubt = None;
    take_over(&mut next, learned, stamp.now);
    Ok(next)
}

/// Puts an entry into the cell of an instance's own store that the shared store
/// has not taken. A lease stays: it is held in the instance's own store.
pub fn keep(
    cell: Option<&Cell>,
    key: &str,
    entry: Entry,
    learned: Option<&Learned<'_>>,
    stamp: Stamp,
) -> Cell {
    let mut next = next(cell, key, stamp.nonce);
    next.replace_entry(Some(entry), stamp.now);
    next.marks.retry = None;
    next.marks.pass = None;
    next.marks.doubt = None;
    take_over(&mut next, learned, stamp.now);
    next
}

/// Makes the question that was answered the resident of its key's own cell.
fn take_over(cell: &mut Cell, learned: Option<&Learned<'_>>, now: Time) {
    if let Some(Learned { names, selector }) = learned {
        remember(&mut cell.marks, names, now);
        cell.marks.resident = Some(selector(&cell.marks.selecting()));
    }
}

/// Marks the question as one whose responses may not be stored for `lasting`,
/// drops the entry, and clears the lease.
pub fn pass(
    cell: Option<&Cell>,
    holder: Nonce,
    lasting: Duration,
    learned: Option<&Learned<'_>>,
    stamp: Stamp,
) -> Result<Cell, Fenced> {
    let (mut next, _) = held(cell, holder, stamp.nonce)?;
    let times = next.marks.pass.map_or(0, |pass| pass.times);
    next.replace_entry(None, stamp.now);
    next.end_lease(stamp.now);
    next.marks.unsettled = None;
    next.marks.retry = None;
    next.marks.doubt = None;
    next.marks.pass = Some(Pass {
        until: stamp.now.plus(lasting),
        since: stamp.now,
        times: times.saturating_add(1),
    });
    take_over(&mut next, learned, stamp.now);
    Ok(next)
}

/// How a refresh failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When the origin may be asked again, after how many failures.
    pub backoff: Backoff,
    /// Spreads the backoff.
    pub random: u64,
    /// The origin asks to be left alone until then. The mark ends up to a quarter of
    /// the pause later, at random.
    pub not_before: Option<Time>,
    /// The origin answered, with what may not be stored.
    pub doubt: bool,
    /// An error page that is shared for a moment; none where an entry stays.
    pub brief: Option<Entry>,
}

/// Notes that a refresh failed: the entry stays, the lease goes, and no attempt
/// is made before `failure` says so.
pub fn fail(
    cell: Option<&Cell>,
    holder: Nonce,
    failure: &Failure,
    learned: Option<&Learned<'_>>,
    stamp: Stamp,
) -> Result<Cell, Fenced> {
    let (mut next, lease) = held(cell, holder, stamp.nonce)?;
    let failures = next
        .marks
        .retry
        .map_or(0, |retry| retry.failures)
        .saturating_add(1);
    if let Some(brief) = &failure.brief
        && !lease.revoked
    {
        next.replace_entry(Some(brief.clone()), stamp.now);
    }
    next.end_lease(stamp.now);
    next.marks.unsettled = None;
    let by_backoff = stamp
        .now
        .plus(failure.backoff.delay(failures, failure.random));
    // Keys that the origin has sent away together do not come back together.
    let by_origin = failure.not_before.map(|not_before| {
        let pause = not_before.since(stamp.now);
        stamp.now.plus(Backoff::spread(pause, failure.random))
    });
    next.marks.retry = Some(Retry {
        not_before: by_origin.map_or(by_backoff, |by_origin| by_origin.max(by_backoff)),
        failures,
        doubted: failure.doubt,
    });
    if failure.doubt {
        next.marks.doubt = Some(Doubt::after(next.marks.doubt, stamp.now));
    }
    take_over(&mut next, learned, stamp.now);
    Ok(next)
}

/// Gives the lease back, and changes nothing else but that it is settled.
pub fn release(cell: Option<&Cell>, holder: Nonce, stamp: Stamp) -> Result<Cell, Fenced> {
    let (mut next, _) = held(cell, holder, stamp.nonce)?;
    next.end_lease(stamp.now);
    next.marks.unsettled = None;
    Ok(next)
}

/// Gives the lease back, and notes that what was fetched under it could not be stored.
pub fn unpublished(
    cell: Option<&Cell>,
    holder: Nonce,
    backoff: Backoff,
    random: u64,
    stamp: Stamp,
) -> Result<Cell, Fenced> {
    let (mut next, _) = held(cell, holder, stamp.nonce)?;
    next.end_lease(stamp.now);
    let before = next.marks.unsettled;
    next.marks.unsettled = Some(unsettled_until(before, backoff, random, stamp.now));
    Ok(next)
}

/// Adds selecting fields to a key's own cell, without a lease: it takes nothing
/// from the holder of one.
///
/// The entry of the resident is dropped where a name is new: it may have been
/// made for other values of that field. Returns none where there is nothing to
/// write.
pub fn learn(cell: Option<&Cell>, key: &str, names: &[String], stamp: Stamp) -> Option<Cell> {
    let mut next = next(cell, key, stamp.nonce);
    let before = next.marks.vary.clone();
    let forgets = remember(&mut next.marks, names, stamp.now);
    if next.marks.vary == before {
        return None;
    }
    let is_new = next
        .marks
        .vary
        .iter()
        .any(|selecting| before.iter().all(|known| known.name != selecting.name));
    if is_new || forgets {
        next.replace_entry(None, stamp.now);
        leave(&mut next.marks);
    }
    Some(next)
}

/// Frees a cell for another question: the marks that go are those of the one that
/// it had.
fn leave(marks: &mut Marks) {
    marks.resident = None;
    marks.retry = None;
    marks.pass = None;
    marks.doubt = None;
    marks.unsettled = None;
    marks.asked_again = false;
}

/// Notes the selecting fields of an answer, and forgets those that no answer has
/// named for [`SELECTING_KEPT`]. Says whether one was forgotten.
fn remember(marks: &mut Marks, names: &[String], now: Time) -> bool {
    for name in names {
        match marks.vary.iter_mut().find(|known| known.name == *name) {
            Some(known) => {
                if known.seen.plus(SEEN_PRECISION) <= now {
                    known.seen = now;
                }
            }
            None => marks.vary.push(Selecting {
                name: name.clone(),
                seen: now,
            }),
        }
    }
    let known = marks.vary.len();
    marks
        .vary
        .retain(|selecting| selecting.seen.plus(SELECTING_KEPT) > now);
    marks.vary.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    marks.vary.len() < known
}

/// Notes in a key's own cell that requests with credentials are passed until
/// then. Returns none where it says so already.
pub fn pass_credentials(cell: Option<&Cell>, key: &str, until: Time, nonce: Nonce) -> Option<Cell> {
    let says_so = |marks: &Marks| {
        let known = marks.credentials_pass_until;
        known.is_some_and(|known| known >= until) && marks.for_everyone_until.is_none()
    };
    if cell.is_some_and(|cell| says_so(&cell.marks)) {
        return None;
    }
    let mut next = next(cell, key, nonce);
    let known = next.marks.credentials_pass_until;
    next.marks.note_credentials(known.max(Some(until)));
    Some(next)
}

/// Notes in a key's own cell that an answer to a request with credentials was for
/// everyone: until then such a request asks the question. Returns none where there is an
/// entry by now, and where the cell says so already.
pub fn note_for_everyone(
    cell: Option<&Cell>,
    key: &str,
    until: Time,
    nonce: Nonce,
) -> Option<Cell> {
    let is_known = |cell: &Cell| {
        let known = cell.marks.for_everyone_until;
        cell.entry.is_some() || known.is_some_and(|known| known >= until)
    };
    if cell.is_some_and(is_known) {
        return None;
    }
    let mut next = next(cell, key, nonce);
    next.marks.for_everyone_until = Some(until);
    Some(next)
}

/// Notes that a variant has been asked for again. Returns none where the cell
/// says so already.
pub fn asked_again(cell: &Cell, nonce: Nonce) -> Option<Cell> {
    if cell.marks.asked_again {
        return None;
    }
    let mut next = next(Some(cell), &cell.key, nonce);
    next.marks.asked_again = true;
    Some(next)
}

/// A change of the list of a key's variants.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    /// The variant that is added, by the name of its cell.
    pub added: &'a str,
    /// Variants that have been asked for again.
    pub again: &'a [String],
    /// Variants whose cells the caller has emptied.
    pub evicted: &'a [String],
    /// What is left of their bodies: the list's cell answers for it from now on.
    pub garbage: &'a [Orphan],
    /// Garbage that is gone.
    pub removed: &'a [Orphan],
}

/// Adds a variant to the list of its key's variants.
///
/// Returns none where the variant is listed already.
pub fn enlist(cell: Option<&Cell>, key: &str, listing: Listing<'_>, nonce: Nonce) -> Option<Cell> {
    let known = cell.map_or(&[][..], |cell| &cell.marks.variants);
    if known.iter().any(|known| known.id == listing.added) {
        return None;
    }
    let mut next = next(cell, key, nonce);
    let variants = &mut next.marks.variants;
    variants.retain(|known| !listing.evicted.contains(&known.id));
    for known in variants.iter_mut() {
        known.again |= listing.again.contains(&known.id);
    }
    variants.push(Listed {
        id: listing.added.to_owned(),
        again: false,
    });
    next.adopt_orphans(listing.garbage);
    next.forget_orphans(listing.removed);
    Some(next)
}

/// Drops an entry of which a chunk is missing; none where the entry is another.
/// Allowed to anybody: it takes nothing from whoever holds the lease.
pub fn discard(cell: &Cell, body: Nonce, stamp: Stamp) -> Option<Cell> {
    let manifest = cell.entry.as_ref()?.body.manifest()?;
    if manifest.body != body {
        return None;
    }
    let mut next = next(Some(cell), &cell.key, stamp.nonce);
    next.replace_entry(None, stamp.now);
    Some(next)
}

/// Purges a cell. A live lease stays, so that the origin does not get a second
/// request, but what was fetched under it may not be published.
pub fn purge(cell: &Cell, purge: Purge, stamp: Stamp) -> Cell {
    let Stamp { nonce, now } = stamp;
    let mut next = next(Some(cell), &cell.key, nonce);
    match purge {
        Purge::Soft => {
            if let Some(entry) = &mut next.entry {
                entry.freshness.end_at(now);
            }
            next.marks.softened = Some(now);
        }
        Purge::Invalidate => {
            if let Some(entry) = &mut next.entry {
                entry.invalidated = true;
            }
            next.marks.invalidated = Some(now);
        }
        Purge::Hard => {
            next.replace_entry(None, now);
            next.marks.purged = Some(now);
            // The key starts from nothing: which fields select its questions,
            // which question is the resident, and who is passed.
            next.marks.vary.clear();
            next.marks.note_credentials(None);
            leave(&mut next.marks);
        }
    }
    if let Some(lease) = &mut next.lease {
        lease.revoked = true;
    }
    next.coming = None;
    next
}

/// Empties a cell that nobody has used for long, or that there is no room for. What
/// concerns the key's other cells stays, so nothing that was purged comes back.
/// Allowed to anybody; none while a lease is live.
pub fn sweep(cell: &Cell, clock_skew: Duration, stamp: Stamp) -> Option<Cell> {
    let is_live = |lease: Lease| lease.is_live(stamp.now, clock_skew);
    if cell.lease.is_some_and(is_live) {
        return None;
    }
    let mut next = next(Some(cell), &cell.key, stamp.nonce);
    next.end_lease(stamp.now);
    next.replace_entry(None, stamp.now);
    leave(&mut next.marks);
    next.marks.note_credentials(None);
    next.marks.swept = Some(stamp.now);
    Some(next)
}

/// Strikes bodies off a cell's list whose chunks are gone; it stays swept.
pub fn clear(cell: &Cell, removed: &[Orphan], nonce: Nonce) -> Cell {
    let mut next = next(Some(cell), &cell.key, nonce);
    next.marks.swept = cell.marks.swept;
    next.forget_orphans(removed);
    next
}

/// What the holder of the sweeper's lease leaves for the next one.
#[derive(Clone, Copy, Debug)]
pub struct Swept<'a> {
    /// Bodies that no cell answers for.
    pub found: &'a [Orphan],
    /// Bodies whose chunks are gone, or that a cell answers for after all.
    pub settled: &'a [Orphan],
    /// How many cells are left.
    pub kept: u32,
    /// How many bytes they have, with their bodies, as far as the round has seen.
    pub stored_bytes: u64,
    /// The round had to end although there were far more cells than there may be.
    pub overfull: bool,
    /// No sweep before this has passed.
    pub pause: Duration,
}

/// Ends the sweeper's lease.
pub fn end_sweep(
    cell: Option<&Cell>,
    holder: Nonce,
    swept: Swept<'_>,
    stamp: Stamp,
) -> Result<Cell, Fenced> {
    let mut next = pass(cell, holder, swept.pause, None, stamp)?;
    next.marks.kept = Some(swept.kept);
    next.marks.stored_bytes = Some(swept.stored_bytes);
    next.marks.overfull = swept.overfull;
    next.forget_orphans(swept.settled);
    next.adopt_orphans(swept.found);
    Ok(next)
}

/// How far a delay is spread at random, at most, in thousandths of it.
const SPREAD_MAX: u64 = 250;

/// How long to leave an origin alone that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most, however many failures.
    pub max: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row: doubled with each, and spread
    /// at random over a quarter, so that keys that failed together do not come
    /// back together; at most [`Backoff::max`], where it is spread as well.
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.max.saturating_mul(4) / 5;
        let base = self.first.saturating_mul(1 << doublings).min(longest);
        Self::spread(base, random)
    }

    /// A pause, longer at random by up to a quarter of it.
    fn spread(pause: Duration, random: u64) -> Duration {
        let spread = u32::try_from(random % (SPREAD_MAX + 1)).unwrap_or(0);
        pause.saturating_add((pause / 1_000).saturating_mul(spread))
    }

    /// The longest that a pause becomes for which the origin asks to be left alone.
    pub fn spread_max(pause: Duration) -> Duration {
        Self::spread(pause, SPREAD_MAX)
    }

    /// The longest delay after `failures` failures in a row, for a visitor who is
    /// told when to come back before the delay is drawn.
    pub fn delay_max(&self, failures: u32) -> Duration {
        self.delay(failures, SPREAD_MAX)
    }
}

/// The cell after `cell`, or the first one of `key`, with nothing changed yet.
fn next(cell: Option<&Cell>, key: &str, nonce: Nonce) -> Cell {
    match cell {
        Some(cell) => {
            let mut next = cell.clone();
            next.version = cell.version.saturating_add(1);
            next.nonce = nonce;
            next.marks.swept = None;
            next
        }
        None => Cell {
            version: 1,
            nonce,
            key: key.to_owned(),
            entry: None,
            lease: None,
            marks: Marks::default(),
            orphans: Vec::new(),
            coming: None,
        },
    }
}

fn held(cell: Option<&Cell>, holder: Nonce, nonce: Nonce) -> Result<(Cell, Lease), Fenced> {
    let cell = cell.ok_or(Fenced::Lost)?;
    match cell.lease {
        Some(lease) if lease.holder == holder => Ok((next(Some(cell), &cell.key, nonce), lease)),
        Some(_) | None => Err(Fenced::Lost),
    }
}

#[cfg(test)]
mod tests;
