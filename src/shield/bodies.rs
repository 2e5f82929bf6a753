//! Stored bodies on their way to a visitor.
//!
//! Nothing is sent before the first chunk is in hand. Where a later one is
//! missing the answer breaks off, and the entry is dropped, so that the next
//! visitor's is whole.

use super::{AnswerBody, Shield};
use crate::cell::Manifest;
use crate::cells::{Lost, Place};
use crate::world::{OriginError, Platform};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::ops::Range;
use std::rc::Rc;

impl<P: Platform> Shield<P> {
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
            .cells
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
            None => {
                self.shield
                    .cells
                    .chunk(&self.place, &self.manifest, index)
                    .await
            }
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
                let cells = Rc::clone(&self.shield.cells);
                let (place, body) = (self.place.clone(), self.manifest.body);
                self.shield.platform.spawn(async move {
                    cells.discard(&place, body).await;
                });
                "a chunk of the stored body is missing"
            }
        };
        OriginError::Failed(why.to_owned())
    }
}
