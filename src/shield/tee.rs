//! A body that is stored and sent to a client at once.
//!
//! The fetch reads the origin's body as fast as it comes, stores it, and puts
//! the same bytes into a channel. The client takes them from there at its own
//! pace; if it leaves, the fetch goes on. What waits in the channel is bounded
//! by [`BACKLOG_MAX`]: a client that lags further behind reads what it has
//! missed from the store, where it lies by then. A body that turns out not to be
//! stored is handed over as it is, and the client reads the rest from the
//! origin.

use super::platform::{Body, OriginError};
use crate::origin::Reading;
use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use futures::stream::{self, LocalBoxStream};
use std::cell::Cell;
use std::rc::Rc;

/// Most bytes of a body that wait in memory for a client. More than
/// `limits.inline` can be: nothing shorter is in the store before its end.
const BACKLOG_MAX: usize = 1 << 20;

/// What a piece of a body costs beside its bytes. Pieces are counted with it, so
/// that many small ones are bounded too.
const PIECE_COST: usize = 128;

/// What the fetch tells the client.
enum Part<B> {
    /// Bytes of the body, from `offset` on.
    Bytes { offset: u64, bytes: Bytes },
    /// This chunk, which begins at `offset`, is in the store.
    Stored { chunk: u64, offset: u64 },
    /// The body is not stored; what has not been read of it.
    Rest(Reading<B>),
    /// It broke off.
    Broken(OriginError),
}

/// The fetch's end.
pub(super) struct Sink<B> {
    sender: mpsc::UnboundedSender<Part<B>>,
    /// Bytes that the client has not taken yet.
    backlog: Rc<Cell<usize>>,
    /// How many bytes of the body have come.
    offset: u64,
    /// The client reads from the store.
    lags: bool,
}

/// The client's end.
pub(super) struct Source<B> {
    receiver: mpsc::UnboundedReceiver<Part<B>>,
    backlog: Rc<Cell<usize>>,
    /// How many bytes of the body the client has got.
    position: u64,
    rest: Option<B>,
}

fn cost(bytes: &Bytes) -> usize {
    bytes.len().saturating_add(PIECE_COST)
}

/// Both ends.
pub(super) fn tee<B>() -> (Sink<B>, Source<B>) {
    let (sender, receiver) = mpsc::unbounded();
    let backlog = Rc::default();
    (
        Sink {
            sender,
            backlog: Rc::clone(&backlog),
            offset: 0,
            lags: false,
        },
        Source {
            receiver,
            backlog,
            position: 0,
            rest: None,
        },
    )
}

/// Sending fails when the client has left, which is no reason to stop storing.
impl<B> Sink<B> {
    /// Hands the client the next bytes. `in_chunks` says that all that has come
    /// so far will be in chunks, and announced by [`Sink::stored`].
    pub(super) fn push(&mut self, bytes: &Bytes, in_chunks: bool) {
        let offset = self.offset;
        self.offset = offset.saturating_add(bytes.len() as u64);
        let backlog = self.backlog.get().saturating_add(cost(bytes));
        self.lags |= in_chunks && backlog > BACKLOG_MAX;
        if self.lags || self.sender.is_closed() {
            return;
        }
        self.backlog.set(backlog);
        let bytes = bytes.clone();
        let _ = self.sender.unbounded_send(Part::Bytes { offset, bytes });
    }

    /// A chunk is in the store, and where it begins.
    pub(super) fn stored(&mut self, chunk: u64, offset: u64) {
        if self.lags {
            let _ = self.sender.unbounded_send(Part::Stored { chunk, offset });
        }
    }

    /// The body is not stored after all: the client reads the rest of it by
    /// itself. `unsent` are the last bytes that have come and are not in the
    /// store. If the client has left, the rest is dropped, which ends the exchange
    /// with the origin.
    pub(super) fn hand_over(self, unsent: Bytes, rest: Reading<B>) {
        let sender = self.sender.clone();
        self.end_with(unsent);
        let _ = sender.unbounded_send(Part::Rest(rest));
    }

    /// The body has ended, and its last bytes are not in the store.
    pub(super) fn end_with(self, unsent: Bytes) {
        if self.lags {
            let offset = self.offset.saturating_sub(unsent.len() as u64);
            self.backlog
                .set(self.backlog.get().saturating_add(cost(&unsent)));
            let bytes = unsent;
            let _ = self.sender.unbounded_send(Part::Bytes { offset, bytes });
        }
    }

    /// The body broke off: it must not look complete.
    pub(super) fn break_off(self, error: OriginError) {
        let _ = self.sender.unbounded_send(Part::Broken(error));
    }
}

impl<B: Body> Source<B> {
    /// The body as a stream. `load` reads a chunk from the store.
    pub(super) fn into_stream(
        self,
        load: impl AsyncFn(u64) -> Result<Bytes, OriginError> + 'static,
    ) -> LocalBoxStream<'static, Result<Bytes, OriginError>> {
        stream::unfold(Some((self, load)), async |state| {
            let (mut source, load) = state?;
            match source.next(&load).await? {
                Ok(bytes) => Some((Ok(bytes), Some((source, load)))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed_local()
    }

    async fn next(
        &mut self,
        load: &impl AsyncFn(u64) -> Result<Bytes, OriginError>,
    ) -> Option<Result<Bytes, OriginError>> {
        loop {
            if let Some(rest) = &mut self.rest {
                return rest.chunk().await;
            }
            let (offset, bytes) = match self.receiver.next().await? {
                Part::Bytes { offset, bytes } => {
                    let left = self.backlog.get().saturating_sub(cost(&bytes));
                    self.backlog.set(left);
                    (offset, bytes)
                }
                Part::Stored { chunk, offset } => match load(chunk).await {
                    Ok(bytes) => (offset, bytes),
                    Err(error) => return Some(Err(error)),
                },
                Part::Broken(error) => return Some(Err(error)),
                Part::Rest(reading) => {
                    let (rest, next) = reading.await;
                    self.rest = Some(rest);
                    return next;
                }
            };
            // What is in the store overlaps what came through the channel.
            let known = self.position.saturating_sub(offset);
            let known = usize::try_from(known).unwrap_or(usize::MAX);
            if known < bytes.len() {
                let new = bytes.slice(known..);
                self.position = self.position.saturating_add(new.len() as u64);
                return Some(Ok(new));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use futures::FutureExt;
    use futures::executor::block_on;
    use std::collections::VecDeque;

    struct Script(VecDeque<Result<Bytes, OriginError>>);

    impl Body for Script {
        async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
            self.0.pop_front()
        }
    }

    fn rest(parts: &[&'static str]) -> Reading<Script> {
        let mut rest = Script(parts.iter().map(|part| Ok(Bytes::from(*part))).collect());
        async move {
            let next = rest.chunk().await;
            (rest, next)
        }
        .boxed_local()
    }

    fn read(source: Source<Script>, chunks: &'static [&'static str]) -> Result<String, String> {
        let load = async |chunk: u64| {
            let chunk = usize::try_from(chunk).unwrap();
            match chunks.get(chunk) {
                Some(bytes) => Ok(Bytes::from(*bytes)),
                None => Err(OriginError::Failed("no such chunk".into())),
            }
        };
        block_on(async {
            let mut text = String::new();
            let mut stream = source.into_stream(load);
            while let Some(bytes) = stream.next().await {
                match bytes {
                    Ok(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                    Err(error) => return Err(format!("{text} {error}")),
                }
            }
            Ok(text)
        })
    }

    #[test]
    fn the_client_gets_what_comes() {
        let (mut sink, source) = tee();
        sink.push(&"ab".into(), false);
        sink.push(&"c".into(), true);
        sink.stored(0, 0);
        drop(sink);
        assert_eq!(read(source, &[]), Ok("abc".into()));
    }

    #[test]
    fn a_body_that_is_not_stored_reaches_the_client_whole() {
        let (mut sink, source) = tee();
        sink.push(&"ab".into(), false);
        sink.push(&"cd".into(), false);
        sink.hand_over("cd".into(), rest(&["ef", "g"]));
        assert_eq!(read(source, &[]), Ok("abcdefg".into()));
    }

    #[test]
    fn a_broken_body_does_not_look_complete() {
        let (mut sink, source) = tee();
        sink.push(&"ab".into(), false);
        sink.break_off(OriginError::Timeout);
        assert!(read(source, &[]).unwrap_err().starts_with("ab "));
    }

    #[test]
    fn a_client_that_lags_reads_from_the_store_and_costs_no_more_memory() {
        let (mut sink, source) = tee();
        sink.push(&"ab".into(), true);
        sink.backlog.set(BACKLOG_MAX);
        for piece in ["cd", "ef", "gh"] {
            sink.push(&piece.into(), true);
        }
        assert_eq!(sink.backlog.get(), BACKLOG_MAX);
        sink.stored(0, 0);
        sink.stored(1, 3);
        sink.stored(2, 6);
        drop(sink);
        assert_eq!(read(source, &["abc", "def", "gh"]), Ok("abcdefgh".into()));
    }

    #[test]
    fn a_client_that_lags_behind_a_body_that_is_not_stored_gets_it_whole() {
        let (mut sink, source) = tee();
        sink.backlog.set(BACKLOG_MAX);
        for piece in ["abc", "d", "ef"] {
            sink.push(&piece.into(), true);
        }
        sink.stored(0, 0);
        sink.hand_over("def".into(), rest(&["gh"]));
        assert_eq!(read(source, &["abc"]), Ok("abcdefgh".into()));
    }

    #[test]
    fn a_missing_chunk_breaks_the_body_off() {
        let (mut sink, source) = tee::<Script>();
        sink.backlog.set(BACKLOG_MAX);
        sink.push(&"abc".into(), true);
        sink.stored(0, 0);
        drop(sink);
        assert!(read(source, &[]).is_err());
    }

    #[test]
    fn a_client_that_leaves_stops_nothing() {
        let (mut sink, source) = tee::<Script>();
        drop(source);
        sink.push(&"ab".into(), false);
        sink.hand_over(Bytes::new(), rest(&[]));
    }
}
