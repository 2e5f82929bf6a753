//! Where the content of an entry lies, and what becomes of content that no
//! entry points at any more.
//!
//! Short bodies are inline, in the cell's own value. Longer ones lie in chunks,
//! values of their own under names that are never used twice, written before
//! the cell that points at them is swapped in. A store has neither transactions
//! nor expiry, so the cell is its own log of what has to be cleaned up: the
//! lease names the body that its holder is writing ([`Draft`]), and every
//! transition that lets go of a body notes it as an [`Orphan`]. Whoever next
//! settles the cell removes the orphans whose time is over. A node may crash
//! anywhere, and no chunk is forgotten.

use super::{Cell, Entry, Nonce};
use crate::time::Time;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most orphans of a cell. What would be one too many makes the oldest due at
/// once, whatever its age.
pub const ORPHANS_MAX: usize = 64;

/// Where the content of an entry lies.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// In the cell's own value.
    Inline(Bytes),
    /// In chunks.
    Chunked(Manifest),
}

impl Body {
    /// The content's length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Chunked(manifest) => manifest.length,
        }
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chunks, where there are any.
    pub fn manifest(&self) -> Option<Manifest> {
        match self {
            Body::Inline(_) => None,
            Body::Chunked(manifest) => Some(*manifest),
        }
    }
}

/// A body that lies in chunks: all as long as the first, but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Names the chunks; new for every body that is written.
    pub body: Nonce,
    /// All of it, in bytes.
    pub length: u64,
    /// Bytes of a chunk; a reader takes any but zero.
    pub chunk_size: u32,
}

impl Manifest {
    /// How many chunks there are.
    pub fn chunks(&self) -> u64 {
        self.length.div_ceil(u64::from(self.chunk_size.max(1)))
    }

    /// The chunk that has the byte at `offset`.
    pub fn chunk_at(&self, offset: u64) -> u64 {
        offset / u64::from(self.chunk_size.max(1))
    }

    /// Where a chunk begins.
    pub fn start_of(&self, chunk: u64) -> u64 {
        chunk.saturating_mul(u64::from(self.chunk_size.max(1)))
    }

    /// How long a chunk is, in bytes.
    pub fn length_of(&self, chunk: u64) -> u64 {
        self.length
            .saturating_sub(self.start_of(chunk))
            .min(u64::from(self.chunk_size.max(1)))
    }
}

/// A body that a holder is writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// As in [`Manifest`].
    pub body: Nonce,
    /// Most chunks that it may come to.
    pub chunks: u32,
    /// How many chunks, from the first on, are stored and as long as the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub done: u32,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The entry that a lease's draft will be the body of, if all goes well. Requests that
/// could be answered with it read its chunks as they are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Coming {
    /// The entry. Its body is the draft's, in chunks; the length is
    /// [`Coming::UNKNOWN`] where the answer does not announce it.
    pub entry: Entry,
    /// The request fields, in lower case, that the answer or its key names in `Vary`.
    pub names: Vec<String>,
    /// The selector of the question that is answered, for these fields.
    pub selector: String,
}

impl Coming {
    /// The length of a body that does not announce it.
    pub const UNKNOWN: u64 = u64::MAX;

    /// Most bytes of fields and selector. An answer with more has no readers before
    /// it is published.
    pub const BYTES_MAX: usize = 16 << 10;

    /// Whether it is small enough for a cell.
    pub fn is_small(&self) -> bool {
        let fields = self.entry.headers.iter();
        let fields = fields.map(|(name, value)| name.as_str().len().saturating_add(value.len()));
        let names = self.names.iter().map(String::len);
        let bytes = fields
            .chain(names)
            .fold(self.selector.len(), usize::saturating_add);
        bytes <= Self::BYTES_MAX
    }

    /// Its body, where that is in chunks and `draft` is of it.
    pub fn body(&self, draft: &Draft) -> Option<Manifest> {
        let manifest = self.entry.body.manifest()?;
        (manifest.body == draft.body).then_some(manifest)
    }
}

/// What has become of a body that somebody was writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is still being written; this number of chunks is complete.
    Written(u64),
    /// It is published.
    Whole(Manifest),
    /// Its writer has given it up, or is no more.
    Gone,
}

/// A body that no entry points at any more. Visitors may still be reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// As in [`Manifest`].
    pub body: Nonce,
    /// Most chunks that there are of it.
    pub chunks: u32,
    /// When it became one, by the clock of whoever let go of it.
    pub since: Time,
}

impl Cell {
    /// Puts another entry in the place of the present one, or none.
    ///
    /// A 304 may confirm an entry that was dropped since its refresh began. Its body
    /// is garbage by then, but not removed: only holders of the lease remove
    /// garbage, and they remove what was there when they took it.
    pub(super) fn replace_entry(&mut self, entry: Option<Entry>, now: Time) {
        let kept = entry.as_ref().and_then(|entry| entry.body.manifest());
        if let Some(kept) = kept {
            self.orphans.retain(|orphan| orphan.body != kept.body);
        }
        let old = std::mem::replace(&mut self.entry, entry);
        if let Some(old) = old.and_then(|old| old.body.manifest())
            && kept.is_none_or(|kept| kept.body != old.body)
        {
            self.orphan(
                old.body,
                u32::try_from(old.chunks()).unwrap_or(u32::MAX),
                now,
            );
        }
    }

    /// Drops an entry whose body cannot be read: a miss, for whoever has found
    /// out and for everybody once this cell is stored.
    pub fn drop_entry(&mut self, now: Time) {
        self.replace_entry(None, now);
    }

    /// What has become of the body that `holder` was writing, at `now`, by a clock that
    /// may differ from the holder's by `clock_skew`.
    pub fn progress(
        &self,
        holder: Nonce,
        body: Nonce,
        now: Time,
        clock_skew: Duration,
    ) -> Progress {
        let published = self.entry.as_ref().and_then(|entry| entry.body.manifest());
        if let Some(manifest) = published.filter(|manifest| manifest.body == body) {
            return Progress::Whole(manifest);
        }
        let lease = self
            .lease
            .filter(|lease| lease.holder == holder && lease.is_live(now, clock_skew));
        match lease.and_then(|lease| lease.draft) {
            Some(draft) if draft.body == body => Progress::Written(draft.done.into()),
            Some(_) | None => Progress::Gone,
        }
    }

    /// Notes how many chunks of the lease's draft are complete. Never fewer than
    /// before: two writes of one holder may cross.
    pub fn advance(&mut self, done: u32) {
        if let Some(draft) = self.lease.as_mut().and_then(|lease| lease.draft.as_mut()) {
            draft.done = draft.done.max(done).min(draft.chunks);
        }
    }

    /// Ends the lease. A draft that has not become the entry's body is litter.
    pub(super) fn end_lease(&mut self, now: Time) {
        self.coming = None;
        let Some(draft) = self.lease.take().and_then(|lease| lease.draft) else {
            return;
        };
        let published = self
            .entry
            .as_ref()
            .and_then(|entry| entry.body.manifest())
            .is_some_and(|manifest| manifest.body == draft.body);
        if !published {
            self.orphan(draft.body, draft.chunks, now);
        }
    }

    fn orphan(&mut self, body: Nonce, chunks: u32, since: Time) {
        self.orphans.push(Orphan {
            body,
            chunks,
            since,
        });
    }

    /// Takes over orphans from another cell; those that it has already, once.
    pub(super) fn adopt_orphans(&mut self, orphans: &[Orphan]) {
        for orphan in orphans {
            if self.orphans.iter().all(|known| known.body != orphan.body) {
                self.orphans.push(*orphan);
            }
        }
    }

    /// The orphans that nobody can be reading any more at `now`, because
    /// `grace` has passed, or that are too many.
    pub fn due_orphans(&self, now: Time, grace: Duration) -> Vec<Orphan> {
        let too_many = self.orphans.len().saturating_sub(ORPHANS_MAX);
        self.orphans
            .iter()
            .enumerate()
            .filter(|(index, orphan)| *index < too_many || orphan.since.plus(grace) <= now)
            .map(|(_, orphan)| *orphan)
            .collect()
    }

    /// Strikes orphans whose chunks have been removed off the list.
    pub fn forget_orphans(&mut self, removed: &[Orphan]) {
        self.orphans
            .retain(|orphan| removed.iter().all(|removed| removed.body != orphan.body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(length: u64, chunk_size: u32) -> Manifest {
        Manifest {
            body: Nonce::new(1),
            length,
            chunk_size,
        }
    }

    #[test]
    fn chunks_cover_the_body() {
        for (length, chunk_size, chunks, last) in [
            (0, 10, 0, 0),
            (1, 10, 1, 1),
            (10, 10, 1, 10),
            (11, 10, 2, 1),
            (30, 10, 3, 10),
            // A stored manifest may say anything.
            (3, 0, 3, 1),
            (u64::MAX, 1, u64::MAX, 1),
        ] {
            let manifest = manifest(length, chunk_size);
            assert_eq!(manifest.chunks(), chunks, "{manifest:?}");
            if let Some(index) = chunks.checked_sub(1) {
                assert_eq!(manifest.length_of(index), last, "{manifest:?}");
                assert_eq!(manifest.chunk_at(length - 1), index, "{manifest:?}");
                assert!(manifest.start_of(index) < length, "{manifest:?}");
            }
            assert_eq!(manifest.length_of(chunks.saturating_add(1)), 0);
        }
    }

    #[test]
    fn orphans_are_due_after_their_grace_or_when_they_are_too_many() {
        let at = Time::from_unix_millis;
        let mut cell = Cell {
            version: 1,
            nonce: Nonce::new(0),
            key: String::new(),
            entry: None,
            lease: None,
            marks: super::super::Marks::default(),
            orphans: Vec::new(),
            coming: None,
        };
        let grace = Duration::from_millis(100);
        cell.orphan(Nonce::new(1), 2, at(0));
        cell.orphan(Nonce::new(2), 2, at(50));
        let due = |cell: &Cell, now| -> Vec<Nonce> {
            let due = cell.due_orphans(at(now), grace);
            due.iter().map(|orphan| orphan.body).collect()
        };
        assert_eq!(due(&cell, 99), []);
        assert_eq!(due(&cell, 100), [Nonce::new(1)]);
        assert_eq!(due(&cell, 150), [Nonce::new(1), Nonce::new(2)]);
        let first = cell.due_orphans(at(100), grace);
        cell.forget_orphans(&first);
        assert_eq!(due(&cell, 150), [Nonce::new(2)]);
        for body in 0..ORPHANS_MAX as u128 {
            cell.orphan(Nonce::new(100 + body), 1, at(50));
        }
        assert_eq!(due(&cell, 50), [Nonce::new(2)]);
    }
}
