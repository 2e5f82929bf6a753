//! Cells as the model keeps them, and the way to real ones and back.
//!
//! States hold [`Record`]s, a dozen bytes each. Whenever a transition is due,
//! the record becomes a real [`Cell`], the shipping function is applied, and
//! what comes out becomes a record again.

use leeward::cell::{Body, Cell, Entry, Lease, Marks, Nonce, Retry};
use leeward::semantics::Freshness;
use leeward::time::Time;

/// What a purge under way or acknowledged says of what was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Taint {
    /// Asked for after every purge that was requested.
    Clean,
    /// Asked for before a purge that is under way.
    Suspect,
    /// Asked for before a purge that has been acknowledged.
    Doomed,
}

/// Which write of the cell a record is.
///
/// Real writes are told apart by their random nonces. As no write is ever
/// repeated, a value that was replaced is never stored again, so all of those
/// are one. This keeps the space finite and loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// Replaced, or not written yet; equal to nothing in the store.
    Other,
    /// The one that the store has.
    Stored,
    /// The one that may still reach the store though its writer has given up.
    Late,
}

/// An entry: who made it, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Contents {
    /// The holder under whose lease it was published. Holders are numbered in
    /// the order of their claims.
    pub lease: u8,
    /// From before a purge?
    pub taint: Taint,
    /// To be validated before use.
    pub invalidated: bool,
    /// Made stale by a soft purge.
    pub softened: bool,
}

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure {
    /// Who holds it.
    pub holder: u8,
    /// The tick at which it ends; zero once it has ended for every clock.
    pub deadline: u8,
    /// A purge came after it was taken.
    pub revoked: bool,
}

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// Which write it is; always [`Mark::Other`] in a model without nonces.
    pub mark: Mark,
    /// Its version in a model without nonces; otherwise zero, for then the
    /// mark says more.
    pub version: u8,
    /// Its entry.
    pub entry: Option<Contents>,
    /// Its lease.
    pub lease: Option<Tenure>,
    /// The end of its retry mark.
    pub retry: Option<u8>,
}

/// Long enough that entries become stale through purges alone; nodes refresh
/// them whenever they like.
const LIFETIME_MS: u64 = 1_000_000;

impl Record {
    /// A cell that is certainly not the stored one.
    pub const GONE: Record = Record {
        mark: Mark::Other,
        version: 0,
        entry: None,
        lease: None,
        retry: None,
    };

    /// The real cell.
    pub fn to_cell(self) -> Cell {
        Cell {
            version: self.version.into(),
            nonce: Nonce::new(0),
            key: String::new(),
            entry: self.entry.map(Contents::to_entry),
            lease: self.lease.map(|lease| Lease {
                holder: nonce(lease.holder),
                start: Time::default(),
                deadline: time(lease.deadline),
                revoked: lease.revoked,
                draft: None,
            }),
            orphans: Vec::new(),
            coming: None,
            marks: Marks {
                retry: self.retry.map(|not_before| Retry {
                    not_before: time(not_before),
                    failures: 1,
                    doubted: false,
                }),
                ..Marks::default()
            },
        }
    }

    /// The record of a cell that is to be written.
    pub fn of_cell(cell: &Cell, nonces: bool) -> Self {
        Record {
            mark: Mark::Other,
            version: if nonces { 0 } else { tick(cell.version) },
            entry: cell.entry.as_ref().map(Contents::of_entry),
            lease: cell.lease.map(|lease| Tenure {
                holder: number(lease.holder),
                deadline: tick(lease.deadline.as_unix_millis()),
                revoked: lease.revoked,
            }),
            retry: cell
                .marks
                .retry
                .map(|retry| tick(retry.not_before.as_unix_millis())),
        }
    }
}

impl Contents {
    /// The real entry; its taint is its body, which no transition looks into.
    pub fn to_entry(self) -> Entry {
        let body: &'static [u8] = match self.taint {
            Taint::Clean => b"c",
            Taint::Suspect => b"s",
            Taint::Doomed => b"d",
        };
        Entry {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            request_time: Time::default(),
            fetch_millis: 0,
            freshness: Freshness {
                lifetime_ms: if self.softened { 0 } else { LIFETIME_MS },
                initial_age_ms: 0,
                response_time: Time::default(),
                stale_while_revalidate_ms: 0,
                stale_if_error_ms: 0,
                must_revalidate: false,
                no_cache: false,
                immutable: false,
                alone: 0,
                each_use: false,
            },
            lease: nonce(self.lease),
            invalidated: self.invalidated,
            audience: leeward::semantics::Audience::Everyone,
            under: Default::default(),
            body: Body::Inline(bytes::Bytes::from_static(body)),
        }
    }

    fn of_entry(entry: &Entry) -> Self {
        Contents {
            lease: number(entry.lease),
            taint: match &entry.body {
                Body::Inline(body) if body.first() == Some(&b's') => Taint::Suspect,
                Body::Inline(body) if body.first() == Some(&b'd') => Taint::Doomed,
                Body::Inline(_) | Body::Chunked(_) => Taint::Clean,
            },
            invalidated: entry.invalidated,
            softened: entry.freshness.lifetime_ms < LIFETIME_MS,
        }
    }
}

/// The real nonce of a holder.
pub fn nonce(number: u8) -> Nonce {
    Nonce::new(number.into())
}

/// The holder with a real nonce.
fn number(nonce: Nonce) -> u8 {
    (0..u8::MAX)
        .find(|number| Nonce::new((*number).into()) == nonce)
        .unwrap_or(u8::MAX)
}

/// The real time of a tick: one tick is a millisecond.
pub fn time(tick: u8) -> Time {
    Time::from_unix_millis(tick.into())
}

fn tick(value: u64) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_way_through_real_cells() {
        for taint in [Taint::Clean, Taint::Suspect, Taint::Doomed] {
            for flags in 0..8_u8 {
                let record = Record {
                    mark: Mark::Other,
                    version: 0,
                    entry: (flags & 4 == 0).then_some(Contents {
                        lease: 3,
                        taint,
                        invalidated: flags & 1 == 0,
                        softened: flags & 2 == 0,
                    }),
                    lease: (flags & 2 == 0).then_some(Tenure {
                        holder: 4,
                        deadline: 17,
                        revoked: flags & 1 == 0,
                    }),
                    retry: (flags & 1 == 0).then_some(14),
                };
                assert_eq!(Record::of_cell(&record.to_cell(), true), record);
            }
        }
    }
}
