//! Every change of a cell, as a pure function.
//!
//! The functions take the cell as it was read, or none where the store has
//! none, and return the cell to be swapped in, or say why there is none. Times
//! come from the caller's clock.

use super::{Cell, Draft, Entry, Lease, Marks, Nonce, Orphan, Pass, Retry};
use crate::time::Time;
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
    /// The last attempt failed: serve what is there, or say when to come back.
    Retry {
        /// From when on the cell may be claimed.
        not_before: Time,
    },
}

/// The caller does not hold the lease any more: what it has made is its own and
/// its client's, but not the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// The cell is gone, or its lease is another's, or none.
    Lost,
    /// A purge came in between.
    Purged,
}

/// How a purge leaves what it purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
/// Whether the entry needs a refresh is the caller's decision, from the same
/// cell: the swap makes sure that it still holds.
pub fn lease(cell: Option<&Cell>, key: &str, claim: &Claim, nonce: Nonce) -> Result<Cell, NoLease> {
    if let Some(lease) = cell.and_then(|cell| cell.lease.as_ref())
        && lease.is_live(claim.now, claim.clock_skew)
    {
        return Err(NoLease::Live {
            until: lease.deadline.plus(claim.clock_skew),
        });
    }
    if let Some(retry) = cell.and_then(|cell| cell.marks.retry)
        && claim.now < retry.not_before
    {
        return Err(NoLease::Retry {
            not_before: retry.not_before,
        });
    }
    let mut next = next(cell, key, nonce);
    // Whoever held it before has died, or been held up for too long.
    next.end_lease(claim.now);
    next.lease = Some(Lease {
        holder: claim.holder,
        start: claim.now,
        deadline: claim.now.plus(claim.duration),
        revoked: false,
        draft: None,
    });
    Ok(next)
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

/// Notes which body the holder is about to write, in chunks; none where it has
/// left the one that it wrote to another cell.
pub fn draft(
    cell: Option<&Cell>,
    holder: Nonce,
    draft: Option<Draft>,
    nonce: Nonce,
) -> Result<Cell, Fenced> {
    let (mut next, lease) = held(cell, holder, nonce)?;
    next.lease = Some(Lease { draft, ..lease });
    Ok(next)
}

/// Puts a new entry in, and clears lease, retry mark and pass mark.
///
/// Serves for a response and for a 304 alike: the caller made the entry, from
/// the response or from the entry that the 304 renewed.
pub fn publish(
    cell: Option<&Cell>,
    holder: Nonce,
    entry: Entry,
    stamp: Stamp,
) -> Result<Cell, Fenced> {
    let (mut next, lease) = held(cell, holder, stamp.nonce)?;
    if lease.revoked {
        return Err(Fenced::Purged);
    }
    next.replace_entry(Some(entry), stamp.now);
    next.end_lease(stamp.now);
    next.marks.retry = None;
    next.marks.pass = None;
    Ok(next)
}

/// Marks the key as one whose responses may not be stored, and clears the
/// lease. `keep_entry` says whether the entry may still be served: one that a
/// response with `Authorization` could not replace, for instance.
pub fn pass(
    cell: Option<&Cell>,
    holder: Nonce,
    pass: Pass,
    keep_entry: bool,
    stamp: Stamp,
) -> Result<Cell, Fenced> {
    let (mut next, _) = held(cell, holder, stamp.nonce)?;
    if !keep_entry {
        next.replace_entry(None, stamp.now);
    }
    next.end_lease(stamp.now);
    next.marks.retry = None;
    next.marks.pass = Some(pass);
    Ok(next)
}

/// Notes that a refresh failed: the entry stays, the lease goes, and nobody
/// tries again before `backoff` says so.
pub fn fail(
    cell: Option<&Cell>,
    holder: Nonce,
    backoff: &Backoff,
    random: u64,
    stamp: Stamp,
) -> Result<Cell, Fenced> {
    let (mut next, _) = held(cell, holder, stamp.nonce)?;
    let failures = next
        .marks
        .retry
        .map_or(0, |retry| retry.failures)
        .saturating_add(1);
    next.end_lease(stamp.now);
    next.marks.retry = Some(Retry {
        not_before: stamp.now.plus(backoff.delay(failures, random)),
        failures,
    });
    Ok(next)
}

/// Gives the lease back and changes nothing else.
pub fn release(cell: Option<&Cell>, holder: Nonce, stamp: Stamp) -> Result<Cell, Fenced> {
    let (mut next, _) = held(cell, holder, stamp.nonce)?;
    next.end_lease(stamp.now);
    Ok(next)
}

/// Notes that the key has variants, chosen by the fields `vary`, whose entries
/// lie in cells of their own, and gives the lease back.
pub fn split(
    cell: Option<&Cell>,
    holder: Nonce,
    vary: &[String],
    stamp: Stamp,
) -> Result<Cell, Fenced> {
    let (mut next, _) = held(cell, holder, stamp.nonce)?;
    widen(&mut next, vary, stamp.now);
    next.end_lease(stamp.now);
    next.marks.retry = None;
    next.marks.pass = None;
    Ok(next)
}

/// Adds fields to those that choose a key's variants. Allowed to anybody: it
/// takes nothing from whoever holds the lease.
///
/// Returns none where the cell names them all already.
pub fn vary(cell: Option<&Cell>, key: &str, vary: &[String], stamp: Stamp) -> Option<Cell> {
    let known = cell.map_or(&[][..], |cell| &cell.marks.vary);
    if vary.iter().all(|name| known.contains(name)) {
        return None;
    }
    let mut next = next(cell, key, stamp.nonce);
    widen(&mut next, vary, stamp.now);
    Some(next)
}

/// Has a cell list one more of a key's variants, by the name of its cell, and no
/// more those in `evicted`, which the caller has emptied. It answers for what is
/// left of their bodies, `litter`, and no more for `removed`.
///
/// Returns none where the variant is listed already.
pub fn enlist(
    cell: Option<&Cell>,
    key: &str,
    variant: &str,
    evicted: &[String],
    litter: &[Orphan],
    removed: &[Orphan],
    nonce: Nonce,
) -> Option<Cell> {
    let known = cell.map_or(&[][..], |cell| &cell.marks.variants);
    if known.iter().any(|known| known == variant) {
        return None;
    }
    let mut next = next(cell, key, nonce);
    next.marks.variants.retain(|known| !evicted.contains(known));
    next.marks.variants.push(variant.to_owned());
    next.adopt_orphans(litter);
    next.forget_orphans(removed);
    Some(next)
}

fn widen(cell: &mut Cell, vary: &[String], now: Time) {
    for name in vary {
        if !cell.marks.vary.contains(name) {
            cell.marks.vary.push(name.clone());
        }
    }
    cell.marks.vary.sort_unstable();
    // What was stored before the origin named these fields may have been made
    // for other values of them.
    cell.replace_entry(None, now);
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
        }
    }
    if let Some(lease) = &mut next.lease {
        lease.revoked = true;
    }
    next
}

/// How long to leave an origin alone that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most, however many failures.
    pub max: Duration,
}

impl Backoff {
    /// The delay after so many failures in a row: doubled with each, and longer
    /// by up to a quarter at random, so that keys that failed together do not
    /// come back together; at most [`Backoff::max`].
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let base = self.first.saturating_mul(1 << doublings).min(self.max);
        let spread = u32::try_from(random % 251).unwrap_or(0);
        base.saturating_add(base.saturating_mul(spread) / 1000)
            .min(self.max)
    }
}

/// The cell after `cell`, or the first one of `key`, with nothing changed yet.
fn next(cell: Option<&Cell>, key: &str, nonce: Nonce) -> Cell {
    match cell {
        Some(cell) => Cell {
            version: cell.version.saturating_add(1),
            nonce,
            ..cell.clone()
        },
        None => Cell {
            version: 1,
            nonce,
            key: key.to_owned(),
            entry: None,
            lease: None,
            marks: Marks::default(),
            orphans: Vec::new(),
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
