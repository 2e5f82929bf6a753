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
//! A chunk that is missing, cut short or damaged makes its entry a miss. Nothing
//! is sent to a visitor before the first chunk is in hand; where a later one is
//! missing the answer breaks off, and the entry is dropped, so that the next
//! visitor's is whole.

use super::cells::{Backing, Loaded};
use super::platform::{OriginError, Platform};
use super::{AnswerBody, Shield};
use crate::cell::{Manifest, Nonce, Orphan};
use crate::config::CHUNKS_MAX;
use crate::store::StoreError;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, stream};
use std::ops::Range;
use std::rc::Rc;

/// The layout that this version writes.
const FORMAT: u8 = 1;

/// Format byte and checksum, in bytes.
const PREFIX: usize = 5;

/// Whose body it is, and in which store its chunks are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The cell's key.
    pub(super) key: String,
    /// The store that the cell was read from.
    pub(super) backing: Backing,
}

impl Place {
    pub(super) fn of(loaded: &Loaded) -> Self {
        Place {
            key: loaded.key.clone(),
            backing: loaded.backing,
        }
    }
}

/// The name of a chunk: `body/`, the body's nonce, and the chunk's number; under
/// 64 bytes. Not the cell's name: a body can move to a variant's cell.
fn chunk_name(body: Nonce, chunk: u64) -> String {
    format!("body/{body}/{chunk}")
}

/// Why a chunk is not to be had.
#[derive(Debug)]
pub(super) enum Lost {
    /// The store does not have it, or not whole.
    Missing,
    /// The store fails.
    Store,
    /// Reading took so long that the entry is not any more what it was: fresh,
    /// or stale within its window.
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

impl<P: Platform> Shield<P> {
    /// Bytes of content in a chunk; never zero.
    pub(super) fn chunk_size(&self) -> u32 {
        let size = self.config.limits.chunk.saturating_sub(PREFIX).max(1);
        u32::try_from(size).unwrap_or(u32::MAX)
    }

    /// Writes a chunk.
    pub(super) async fn put_chunk(
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
    pub(super) async fn chunk(
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

    /// The bytes `range` of a stored body, once the first of them are in hand.
    pub(super) async fn stored_body(
        self: &Rc<Self>,
        place: Place,
        manifest: Manifest,
        range: Range<u64>,
    ) -> Result<AnswerBody<P::Body>, Lost> {
        if range.is_empty() {
            return Ok(AnswerBody::Empty);
        }
        let first = self
            .chunk(&place, &manifest, manifest.chunk_at(range.start))
            .await?;
        let reading = Reading {
            shield: Rc::clone(self),
            place,
            manifest,
            position: range.start,
            end: range.end,
            ahead: Some(first),
        };
        let stream = stream::unfold(reading, async |mut reading| {
            let next = reading.next().await?;
            Some((next, reading))
        });
        Ok(AnswerBody::Stream(stream.boxed_local()))
    }

    /// Removes bodies that nobody reads any more. Says whether all are gone;
    /// what is not is tried again when the cell is next settled.
    pub(super) async fn remove_bodies(&self, place: &Place, orphans: &[Orphan]) -> bool {
        for orphan in orphans {
            for chunk in 0..orphan.chunks.min(CHUNKS_MAX) {
                let name = chunk_name(orphan.body, chunk.into());
                if self.remove_value(place.backing, &name).await.is_err() {
                    return false;
                }
            }
        }
        true
    }
}

/// A stored body on its way to a visitor.
struct Reading<P: Platform> {
    shield: Rc<Shield<P>>,
    place: Place,
    manifest: Manifest,
    position: u64,
    end: u64,
    /// The chunk at `position`, if it has been read already.
    ahead: Option<Bytes>,
}

impl<P: Platform> Reading<P> {
    async fn next(&mut self) -> Option<Result<Bytes, OriginError>> {
        if self.position >= self.end {
            return None;
        }
        let index = self.manifest.chunk_at(self.position);
        let chunk = match self.ahead.take() {
            Some(chunk) => Ok(chunk),
            None => self.shield.chunk(&self.place, &self.manifest, index).await,
        };
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(lost) => return Some(Err(self.give_up(&lost))),
        };
        let start = self.manifest.start_of(index);
        let from = usize::try_from(self.position.saturating_sub(start)).ok()?;
        let to = usize::try_from(self.end.saturating_sub(start))
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        self.position = start.saturating_add(chunk.len() as u64);
        (from < to).then(|| Ok(chunk.slice(from..to)))
    }

    /// The head is out: all that is left is to break off, and to see to it that
    /// the next visitor does not run into the same.
    fn give_up(&mut self, lost: &Lost) -> OriginError {
        self.end = 0;
        let why = match lost {
            Lost::Store | Lost::Late => "the store failed",
            Lost::Missing => {
                let shield = Rc::clone(&self.shield);
                let (place, body) = (self.place.clone(), self.manifest.body);
                self.shield.platform.spawn(async move {
                    shield.discard(&place, body).await;
                });
                "a chunk of the stored body is missing"
            }
        };
        OriginError::Failed(why.to_owned())
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

    #[test]
    fn chunk_names_are_short() {
        let name = chunk_name(Nonce::new(u128::MAX), u64::from(CHUNKS_MAX));
        assert!(name.starts_with("body/ffff"), "{name}");
        assert!(name.len() < 64, "{name}");
    }
}
