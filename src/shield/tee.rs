//! A body that is stored and sent to a client at once.
//!
//! The fetch reads the origin's body as fast as it comes, keeps it to store it,
//! and puts the same bytes into a channel. The client takes them from there at
//! its own pace; if it leaves, the fetch goes on. What the channel holds is
//! bounded by the longest body that is stored: once a body is longer, the fetch
//! hands it over as it is, and the client reads the rest from the origin.

use super::platform::{Body, OriginError};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::channel::mpsc;

enum Part<B> {
    Chunk(Bytes),
    /// The body is too long to be stored; what has not been read of it.
    Rest(B),
    Broken(OriginError),
}

/// The fetch's end.
pub(super) struct Writer<B> {
    sender: mpsc::UnboundedSender<Part<B>>,
}

/// The client's end.
pub struct Reader<B> {
    receiver: mpsc::UnboundedReceiver<Part<B>>,
    rest: Option<B>,
}

impl<B> std::fmt::Debug for Reader<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Both ends.
pub(super) fn tee<B>() -> (Writer<B>, Reader<B>) {
    let (sender, receiver) = mpsc::unbounded();
    (
        Writer { sender },
        Reader {
            receiver,
            rest: None,
        },
    )
}

/// How copying a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// All of it is here, and on its way to the client.
    Whole(Bytes),
    /// It is longer than may be stored; the client reads it without us.
    TooLong,
    /// It broke off; the client learns it.
    Broken(OriginError),
}

impl<B: Body> Writer<B> {
    /// Reads `body` to its end, or until it is longer than `limit` bytes. A body
    /// that ends before the `announced` length is broken. `next` reads its next
    /// part, within the caller's time limit.
    pub(super) async fn copy(
        self,
        mut body: B,
        announced: Option<u64>,
        limit: usize,
        next: impl AsyncFn(&mut B) -> Option<Result<Bytes, OriginError>>,
    ) -> Copied {
        // Sending fails when the client has left, which is no reason to stop.
        let mut whole = BytesMut::new();
        loop {
            match next(&mut body).await {
                Some(Ok(chunk)) => {
                    let _ = self.sender.unbounded_send(Part::Chunk(chunk.clone()));
                    if whole.len().saturating_add(chunk.len()) > limit {
                        let _ = self.sender.unbounded_send(Part::Rest(body));
                        return Copied::TooLong;
                    }
                    whole.extend_from_slice(&chunk);
                }
                Some(Err(error)) => {
                    let _ = self.sender.unbounded_send(Part::Broken(error.clone()));
                    return Copied::Broken(error);
                }
                None if announced.is_some_and(|length| length != whole.len() as u64) => {
                    let error = OriginError::Failed("the body is not as long as announced".into());
                    let _ = self.sender.unbounded_send(Part::Broken(error.clone()));
                    return Copied::Broken(error);
                }
                None => return Copied::Whole(whole.freeze()),
            }
        }
    }
}

impl<B: Body> Reader<B> {
    /// The next bytes, or none at the end; an error if the body broke off.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        if self.rest.is_none() {
            match self.receiver.next().await {
                Some(Part::Chunk(chunk)) => return Some(Ok(chunk)),
                Some(Part::Broken(error)) => return Some(Err(error)),
                Some(Part::Rest(rest)) => self.rest = Some(rest),
                None => return None,
            }
        }
        match &mut self.rest {
            Some(rest) => rest.chunk().await,
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use futures::executor::block_on;
    use std::collections::VecDeque;

    struct Script(VecDeque<Result<Bytes, OriginError>>);

    impl Body for Script {
        async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
            self.0.pop_front()
        }
    }

    fn script(parts: &[Result<&'static str, OriginError>]) -> Script {
        Script(
            parts
                .iter()
                .map(|part| part.clone().map(Bytes::from))
                .collect(),
        )
    }

    fn run(
        parts: &[Result<&'static str, OriginError>],
        announced: Option<u64>,
        limit: usize,
    ) -> (Copied, Vec<Result<Bytes, OriginError>>) {
        block_on(async {
            let (writer, mut reader) = tee();
            let copied = writer
                .copy(
                    script(parts),
                    announced,
                    limit,
                    async |body: &mut Script| body.chunk().await,
                )
                .await;
            let mut read = Vec::new();
            while let Some(chunk) = reader.chunk().await {
                let failed = chunk.is_err();
                read.push(chunk);
                if failed {
                    break;
                }
            }
            (copied, read)
        })
    }

    #[test]
    fn the_client_gets_what_is_stored() {
        let (copied, read) = run(&[Ok("ab"), Ok("c")], Some(3), 3);
        assert_eq!(copied, Copied::Whole(Bytes::from("abc")));
        assert_eq!(read, [Ok(Bytes::from("ab")), Ok(Bytes::from("c"))]);
    }

    #[test]
    fn a_body_over_the_limit_reaches_the_client_whole() {
        let (copied, read) = run(&[Ok("ab"), Ok("cd"), Ok("ef")], None, 3);
        assert_eq!(copied, Copied::TooLong);
        assert_eq!(read.len(), 3);
        assert_eq!(read[2], Ok(Bytes::from("ef")));
    }

    #[test]
    fn a_broken_body_does_not_look_complete() {
        let broken = OriginError::Failed("reset".into());
        let (copied, read) = run(&[Ok("ab"), Err(broken.clone())], None, 3);
        assert_eq!(copied, Copied::Broken(broken.clone()));
        assert_eq!(read, [Ok(Bytes::from("ab")), Err(broken)]);
    }

    #[test]
    fn a_short_body_does_not_look_complete() {
        let (copied, read) = run(&[Ok("ab")], Some(3), 3);
        assert!(matches!(copied, Copied::Broken(_)), "{copied:?}");
        assert!(matches!(read.last(), Some(Err(_))), "{read:?}");
    }

    #[test]
    fn a_client_that_leaves_stops_nothing() {
        let copied = block_on(async {
            let (writer, reader) = tee();
            drop(reader);
            writer
                .copy(script(&[Ok("ab")]), None, 3, async |body: &mut Script| {
                    body.chunk().await
                })
                .await
        });
        assert_eq!(copied, Copied::Whole(Bytes::from("ab")));
    }
}
