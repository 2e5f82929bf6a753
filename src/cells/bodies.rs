//! Bodies in chunks: writing, reading and removing them.
//!
//! A chunk is a value of its own, under a name that is used once:
//!
//! ```text
//! format   1 byte    the version of this layout
//! check    4 bytes   CRC-32 of the content, little-endian
//! content            to the end
//! ```
//!
//! A chunk that is missing, cut short or damaged makes its entry a miss.

use super::names::chunk_name;
use super::{Backing, Cells, Loaded, Place};
use crate::cell::{Manifest, Nonce, Orphan, transition};
use crate::config::CHUNKS_MAX;
use crate::store::StoreError;
use crate::world::Platform;
use bytes::{BufMut, Bytes, BytesMut};

/// The layout that this version writes.
const FORMAT: u8 = 1;

/// Format byte and checksum, in bytes.
const PREFIX: usize = 5;

/// Most chunks that are removed in the course of one refresh; those of one body
/// always are.
const COLLECT_CHUNKS_MAX: u32 = 64;

/// Why a chunk cannot be used.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The store does not have it, or not whole.
    Missing,
    /// The store fails.
    Store,
    /// Reading took so long that the entry is no longer fresh, or no longer within
    /// the window in which it may be served stale.
    Late,
}

fn seal(content: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(PREFIX + content.len());
    value.put_u8(FORMAT);
    value.put_u32_le(crc32fast::hash(content));
    value.extend_from_slice(content);
    value.freeze()
}

fn open(value: &Bytes, length: u64) -> Option<Bytes> {
    let (format, rest) = value.split_first()?;
    let (check, content) = rest.split_first_chunk::<4>()?;
    let whole = *format == FORMAT
        && content.len() as u64 == length
        && crc32fast::hash(content) == u32::from_le_bytes(*check);
    whole.then(|| value.slice_ref(content))
}

impl<P: Platform> Cells<P> {
    /// Bytes of content in a chunk; never zero.
    pub(crate) fn chunk_size(&self) -> u32 {
        let size = self.config.limits.chunk.saturating_sub(PREFIX).max(1);
        u32::try_from(size).unwrap_or(u32::MAX)
    }

    /// Writes a chunk.
    pub(crate) async fn put_chunk(
        &self,
        place: &Place,
        body: Nonce,
        chunk: u64,
        content: &[u8],
    ) -> Result<(), StoreError> {
        let name = chunk_name(body, chunk);
        self.put_value(place.backing, &name, &seal(content)).await
    }

    /// Reads a chunk.
    pub(crate) async fn chunk(
        &self,
        place: &Place,
        manifest: &Manifest,
        chunk: u64,
    ) -> Result<Bytes, Lost> {
        let name = chunk_name(manifest.body, chunk);
        let value = self
            .load_put(place.backing, &name)
            .await
            .map_err(|_| Lost::Store)?;
        value
            .and_then(|value| open(&value, manifest.length_of(chunk)))
            .ok_or(Lost::Missing)
    }

    /// Drops an entry that points at a body of which a chunk is missing.
    pub(crate) async fn discard(&self, place: &Place, body: Nonce) {
        // The next request that reads the entry finds out again.
        let Ok(loaded) = self.load_at(place).await else {
            return;
        };
        self.apply(loaded, |cell| {
            transition::discard(cell?, body, self.stamp())
        })
        .await;
    }

    /// Removes orphaned bodies of a cell, a few at a time, and says which are gone.
    pub(crate) async fn collect(&self, loaded: &Loaded) -> Vec<Orphan> {
        let Some(cell) = &loaded.cell else {
            return Vec::new();
        };
        let mut due = cell.due_orphans(self.platform.now(), self.config.limits.grace);
        let mut chunks = 0_u32;
        due.retain(|orphan| {
            let first = chunks == 0;
            chunks = chunks.saturating_add(orphan.chunks);
            first || chunks <= COLLECT_CHUNKS_MAX
        });
        match self.remove_bodies(loaded.backing, &due).await {
            true => due,
            false => Vec::new(),
        }
    }

    /// Removes bodies. Says whether all are gone; the others are tried again when
    /// the cell is next settled.
    pub(super) async fn remove_bodies(&self, backing: Backing, orphans: &[Orphan]) -> bool {
        for orphan in orphans {
            for chunk in 0..orphan.chunks.min(CHUNKS_MAX) {
                let name = chunk_name(orphan.body, chunk.into());
                if self.remove_value(backing, &name).await.is_err() {
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn chunks_are_read_back_and_damage_shows() {
        let value = seal(b"content");
        assert_eq!(open(&value, 7), Some(Bytes::from("content")));
        assert_eq!(open(&seal(b""), 0), Some(Bytes::new()));
        for length in [0, 6, 8] {
            assert_eq!(open(&value, length), None, "{length}");
        }
        for end in 0..value.len() {
            assert_eq!(open(&value.slice(..end), 7), None, "{end}");
        }
        for index in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.to_vec();
                damaged[index] ^= 1 << bit;
                assert_eq!(open(&damaged.into(), 7), None, "{index}.{bit}");
            }
        }
    }
}
