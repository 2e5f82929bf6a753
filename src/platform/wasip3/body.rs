//! Bodies as the host streams them.

use super::spawn::spawn;
use crate::platform::read_buffer::ReadBuffer;
use crate::shield::{AnswerBody, Body, OriginError, Slot};
use bytes::Bytes;
use wasip3::http::types::{ErrorCode, Trailers};
use wasip3::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult};

/// What ends a body: its trailers, or why it broke off.
pub(super) type End = FutureReader<Result<Option<Trailers>, ErrorCode>>;

/// A body that the host streams to us.
pub(crate) struct HostBody {
    stream: StreamReader<u8>,
    end: Option<End>,
    buffer: ReadBuffer,
    /// Tells the host that the body was handled, when dropped.
    _handled: FutureWriter<Result<(), ErrorCode>>,
}

impl std::fmt::Debug for HostBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostBody").finish_non_exhaustive()
    }
}

impl HostBody {
    /// The body that `consume` takes out of a message.
    pub(super) fn new(
        consume: impl FnOnce(FutureReader<Result<(), ErrorCode>>) -> (StreamReader<u8>, End),
    ) -> Self {
        let (handled, result) = wit_future::new(|| Ok(()));
        let (stream, end) = consume(result);
        HostBody {
            stream,
            end: Some(end),
            buffer: ReadBuffer::default(),
            _handled: handled,
        }
    }

    /// The body for another message. The host moves the bytes; they do not pass
    /// through the component.
    pub(super) fn into_parts(self) -> (Option<StreamReader<u8>>, End) {
        let end = self.end.unwrap_or_else(|| wit_future::new(|| Ok(None)).1);
        (Some(self.stream), end)
    }
}

impl Body for HostBody {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        self.end.as_ref()?;
        let (result, read) = self.stream.read(self.buffer.take()).await;
        match result {
            StreamResult::Complete(_) => Some(Ok(self.buffer.filled(read))),
            StreamResult::Dropped if !read.is_empty() => Some(Ok(self.buffer.filled(read))),
            // A whole body and one that broke off end alike; the trailers tell
            // which it is.
            StreamResult::Dropped => match self.end.take()?.await {
                Ok(_) => None,
                Err(error) => Some(Err(OriginError::Failed(error.to_string()))),
            },
            StreamResult::Cancelled => {
                self.end = None;
                Some(Err(OriginError::Failed("reading was cancelled".into())))
            }
        }
    }
}

/// An answer's body as the host takes it, and its place in the origin's budget, which is
/// kept until the host has sent the body.
pub(super) fn outgoing(
    body: AnswerBody<HostBody>,
) -> (Option<StreamReader<u8>>, End, Option<Slot>) {
    let body = match body {
        AnswerBody::Origin(body) => match body.into_whole() {
            Ok((body, slot)) => {
                let (contents, end) = body.into_parts();
                return (contents, end, slot);
            }
            Err(body) => AnswerBody::Origin(body),
        },
        body @ (AnswerBody::Empty | AnswerBody::Full(_) | AnswerBody::Stream(_)) => body,
    };
    match body {
        AnswerBody::Empty => (None, wit_future::new(|| Ok(None)).1, None),
        body @ (AnswerBody::Full(_) | AnswerBody::Stream(_) | AnswerBody::Origin(_)) => {
            let (contents, end) = written(body);
            (Some(contents), end, None)
        }
    }
}

/// A body that a task of ours writes for the host.
pub(super) fn written(mut body: impl Body) -> (StreamReader<u8>, End) {
    let (mut stream, reader) = wit_stream::new();
    // If this instance dies while it writes, the message must not look complete.
    let (end, result) = wit_future::new(|| Err(broken("the message was cut short")));
    spawn(async move {
        let mut outcome = Ok(None);
        while let Some(chunk) = body.chunk().await {
            match chunk {
                Ok(chunk) => {
                    if !stream.write_all(chunk.into()).await.is_empty() {
                        // The other side has left.
                        break;
                    }
                }
                Err(error) => {
                    outcome = Err(broken(&error.to_string()));
                    break;
                }
            }
        }
        drop(stream);
        // Fails when the other side has left.
        let _ = end.write(outcome).await;
    });
    (reader, result)
}

fn broken(reason: &str) -> ErrorCode {
    ErrorCode::InternalError(Some(reason.to_owned()))
}
