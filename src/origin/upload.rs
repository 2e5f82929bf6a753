//! The content of a request on its way to the origin.
//!
//! Most content has been read before its request takes a slot. The rest of what is longer,
//! or of unknown length, comes as its visitor sends it. A visitor that sends slowly is not
//! the origin's work: once the content has waited [`SLOW_VISITOR`] for its visitor, the
//! request counts in `origin.max_streams` and another one may take its place in the budget.
//! An origin begins its work when the content is complete. So the last piece waits until
//! the request has a place in the budget again.

use super::body::WeakSlot;
use super::broker::{Admission, Broker};
use super::{NoAnswer, SLOW_VISITOR};
use crate::budget::Class;
use crate::world::{Body, Content, OriginError, Platform};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::unfold;
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Why an upload did not reach the origin whole: it got no slot at its end, or its client
/// has gone.
pub(super) type Refusal = Rc<RefCell<Option<NoAnswer>>>;

/// Content that its visitor may send slowly.
pub(super) struct Upload<P: Platform> {
    pub(super) platform: Rc<P>,
    pub(super) broker: Rc<Broker<P>>,
    pub(super) content: Content<P::Body>,
    /// How many bytes are still to come, where the request says so.
    pub(super) left: Option<u64>,
    /// The slot of the request.
    pub(super) slot: WeakSlot,
    /// What the slot was taken for.
    pub(super) class: Class,
    /// Stands for the path in the breaker.
    pub(super) target: u32,
    /// Longest wait for a place in the budget at the end.
    pub(super) wait: Duration,
    pub(super) refusal: Refusal,
}

/// How far an upload is.
struct Progress<P: Platform> {
    upload: Upload<P>,
    /// How long it may still wait for its visitor.
    patience: Duration,
    is_over: bool,
}

impl<P: Platform> Upload<P> {
    /// The content as the platform sends it.
    pub(super) fn into_content(self) -> Content<P::Body> {
        let progress = Progress {
            upload: self,
            patience: SLOW_VISITOR,
            is_over: false,
        };
        let pieces = unfold(progress, async |mut progress| {
            let piece = progress.piece().await?;
            Some((piece, progress))
        });
        Content::of_pieces(pieces.boxed_local())
    }

    /// Counts the request in the budget again, unless it does, or has been answered.
    async fn take_place(&self) -> Result<(), NoAnswer> {
        let is_stream = self.slot.upgrade().is_some_and(|slot| slot.is_stream());
        if !is_stream {
            return Ok(());
        }
        let limit = self.platform.now().plus(self.wait);
        let (class, target) = (self.class, self.target);
        match self.broker.acquire_again(class, target, limit).await {
            Admission::Granted(place) => {
                if let Some(slot) = self.slot.upgrade() {
                    slot.replace(place);
                }
                Ok(())
            }
            Admission::Halted(halt) => Err(NoAnswer::Halted(halt)),
            Admission::Busy => Err(NoAnswer::Busy),
            Admission::Gone => Err(NoAnswer::Gone),
        }
    }
}

impl<P: Platform> Progress<P> {
    async fn piece(&mut self) -> Option<Result<Bytes, OriginError>> {
        if self.is_over {
            return None;
        }
        let piece = self.next_piece().await;
        let is_last = match (&piece, &mut self.upload.left) {
            (Some(Ok(bytes)), Some(left)) => {
                *left = left.saturating_sub(bytes.len() as u64);
                *left == 0
            }
            (Some(_), _) => false,
            (None, _) => true,
        };
        // What follows the last byte of a known length is not waited for: the wait would count
        // as the visitor's, and the request has just taken its place.
        self.is_over = is_last || !matches!(piece, Some(Ok(_)));
        if matches!(piece, Some(Err(_))) {
            // Content breaks off where its client leaves: no fault of the origin's.
            *self.upload.refusal.borrow_mut() = Some(NoAnswer::Gone);
        }
        if is_last && let Err(refusal) = self.upload.take_place().await {
            *self.upload.refusal.borrow_mut() = Some(refusal);
            let error = OriginError::NotSent("no place in the origin's budget".to_owned());
            return Some(Err(error));
        }
        piece
    }

    /// The next piece, however long its visitor takes.
    async fn next_piece(&mut self) -> Option<Result<Bytes, OriginError>> {
        let Upload {
            platform,
            content,
            slot,
            ..
        } = &mut self.upload;
        let began = platform.now();
        let piece = {
            let next = pin!(content.chunk());
            match select(next, pin!(platform.sleep(self.patience))).await {
                Either::Left((piece, _)) => piece,
                Either::Right(((), next)) => {
                    // If there are too many of them, it keeps its place.
                    if let Some(slot) = slot.upgrade() {
                        slot.become_stream();
                    }
                    next.await
                }
            }
        };
        let waited = platform.now().since(began);
        self.patience = self.patience.saturating_sub(waited);
        piece
    }
}
