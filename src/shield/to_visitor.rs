//! An answer of the origin on its way to one visitor, unless it is being stored.
//!
//! The origin's place in the budget is for its work. A visitor that reads slowly is not
//! the origin's work, and forty such visitors must not keep all others out. So a task reads
//! the body ahead of the visitor. A short body is read at once. A longer one is read
//! [`PIECES_AHEAD`] pieces ahead, and once it has waited [`SLOW_VISITOR`] for its visitor it
//! counts in `origin.max_streams`, like an answer that does not end. So does one of unknown
//! length that trickles.

use super::{AnswerBody, Shield};
use crate::config::Config;
use crate::origin::{OriginBody, Pace, SLOW_VISITOR, TRICKLE_WINDOW, WeakSlot, read};
use crate::semantics::{announced, is_endless};
use crate::world::{OriginError, Platform};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::future::{Either, poll_fn, select};
use futures::{Stream, StreamExt};
use http::HeaderMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Longest body that is read into memory at once, in bytes. The host bounds the requests
/// of an instance, and so the sum.
const BUFFERED_MAX: u64 = 256 << 10;

/// Pieces of a longer body that are read ahead of the visitor. A piece has at most 64 KiB.
const PIECES_AHEAD: usize = 4;

/// After how many seconds the rest of a body that is not stored after all gives its place
/// to another request.
const LONG_REST: u32 = 10;

impl<P: Platform> Shield<P> {
    /// A body as it is handed to a visitor. `headers` are the answer's.
    pub(super) fn to_visitor(
        &self,
        headers: &HeaderMap,
        body: OriginBody<P::Body>,
        config: &Config,
    ) -> AnswerBody<P::Body> {
        // It does not count in the budget, and each piece is to arrive at once.
        if is_endless(headers) {
            return AnswerBody::Origin(body);
        }
        let pause = config.origin.between_bytes_timeout;
        match announced(headers) {
            Some(length) if length <= BUFFERED_MAX => self.read_at_once(body, pause),
            length => self.read_ahead(body, length.is_some(), pause),
        }
    }

    /// Lets the rest of a body that is not stored after all, and that its visitor reads from
    /// the origin, count as a stream if that takes long.
    pub(super) fn leave_to_visitor(&self, slot: WeakSlot) {
        let platform = Rc::clone(&self.platform);
        self.platform.spawn(async move {
            for _ in 0..LONG_REST {
                platform.sleep(Duration::from_secs(1)).await;
                if slot.upgrade().is_none() {
                    return;
                }
            }
            if let Some(slot) = slot.upgrade() {
                slot.become_stream();
            }
        });
    }

    fn read_at_once(&self, body: OriginBody<P::Body>, pause: Duration) -> AnswerBody<P::Body> {
        let (sender, receiver) = mpsc::unbounded();
        let platform = Rc::clone(&self.platform);
        self.platform.spawn(async move {
            let mut body = body;
            loop {
                let (rest, Some(piece)) = read(&platform, body, pause).await else {
                    return;
                };
                let is_last = piece.is_err();
                if sender.unbounded_send(piece).is_err() || is_last {
                    return;
                }
                body = rest;
            }
        });
        from(receiver)
    }

    fn read_ahead(
        &self,
        body: OriginBody<P::Body>,
        has_length: bool,
        pause: Duration,
    ) -> AnswerBody<P::Body> {
        let (mut sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let platform = Rc::clone(&self.platform);
        self.platform.spawn(async move {
            let slot = body.slot();
            let mut body = body;
            let mut patience = SLOW_VISITOR;
            let (mut pace, mut window) = (Pace::default(), platform.now());
            while let (rest, Some(piece)) = read(&platform, body, pause).await {
                body = rest;
                let is_last = piece.is_err();
                let now = platform.now();
                if let (Ok(bytes), false) = (&piece, has_length) {
                    pace.came(bytes);
                    if now.since(window) >= TRICKLE_WINDOW {
                        window = now;
                        if pace.trickled() {
                            slot.become_stream();
                        }
                    }
                }
                let sent = match sender.try_send(piece) {
                    Err(full) if full.is_full() => {
                        let ready = poll_fn(|context| sender.poll_ready(context));
                        let timeout = platform.sleep(patience);
                        let ready = match select(ready, pin!(timeout)).await {
                            Either::Left((ready, _)) => ready,
                            Either::Right(((), ready)) => {
                                // If there are too many of them, it keeps its place.
                                slot.become_stream();
                                ready.await
                            }
                        };
                        patience = patience.saturating_sub(platform.now().since(now));
                        ready.and_then(|()| sender.start_send(full.into_inner()))
                    }
                    sent => sent.map_err(|error| error.into_send_error()),
                };
                // Otherwise the visitor has left.
                if sent.is_err() || is_last {
                    return;
                }
            }
        });
        from(receiver)
    }
}

fn from<B>(pieces: impl Stream<Item = Result<Bytes, OriginError>> + 'static) -> AnswerBody<B> {
    AnswerBody::Stream(pieces.boxed_local())
}
