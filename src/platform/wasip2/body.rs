//! Bodies as the host streams them.

use super::bindings::wasi::http::types::{
    ErrorCode, FutureTrailers, IncomingBody, OutgoingBody, Trailers, http_error_code,
};
use super::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use super::{ready, sleep};
use crate::platform::message::origin_error;
use crate::platform::read_buffer::READ_BYTES;
use crate::shield::{Body, OriginError};
use bytes::Bytes;
use futures::future::{AbortHandle, Either, select};
use std::pin::pin;
use std::time::Duration;

/// How long a visitor may take nothing of its answer before the answer is broken off.
const STALL_MAX: Duration = Duration::from_secs(60);

/// How often in a row a stream of the host may say that it is ready and not be.
const LOOKS_MAX: u32 = 1_000;

/// Ends an upload when it is dropped.
pub(super) struct Upload(AbortHandle);

impl Upload {
    pub(super) fn new(handle: AbortHandle) -> Self {
        Upload(handle)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body that the host streams to us.
pub(crate) struct HostBody {
    state: State,
    /// Longest time that a piece may take.
    pause: Option<Duration>,
    trailers: Option<Trailers>,
    /// The content of the request that this is the answer to: whoever has the whole
    /// answer, or wants no more of it, does not send on.
    _upload: Option<Upload>,
}

enum State {
    /// The stream belongs to the body, so it is dropped first.
    Content(InputStream, IncomingBody),
    /// All bytes have come. Whether the body is whole is to be seen.
    End(FutureTrailers),
    Over,
}

impl std::fmt::Debug for HostBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostBody").finish_non_exhaustive()
    }
}

impl HostBody {
    /// The content of a message; none if it was taken out before.
    pub(super) fn new(
        body: IncomingBody,
        pause: Option<Duration>,
        upload: Option<Upload>,
    ) -> Option<Self> {
        let stream = body.stream().ok()?;
        Some(HostBody {
            state: State::Content(stream, body),
            pause,
            trailers: None,
            _upload: upload,
        })
    }

    /// What came after the content, once that has ended.
    pub(super) fn take_trailers(&mut self) -> Option<Trailers> {
        self.trailers.take()
    }

    /// Can be given up and called again.
    async fn next(&mut self) -> Option<Result<Bytes, OriginError>> {
        for _ in 0..LOOKS_MAX {
            match &self.state {
                State::Content(stream, _) => match stream.read(READ_BYTES as u64) {
                    Ok(bytes) if bytes.is_empty() => {
                        let pollable = stream.subscribe();
                        ready(pollable).await;
                    }
                    Ok(bytes) => return Some(Ok(bytes.into())),
                    Err(StreamError::Closed) => self.end_content(),
                    Err(StreamError::LastOperationFailed(error)) => {
                        let text = || OriginError::Failed(error.to_debug_string());
                        let error = http_error_code(&error).map_or_else(text, broken_off);
                        self.state = State::Over;
                        return Some(Err(error));
                    }
                },
                State::End(trailers) => match trailers.get() {
                    None => {
                        let pollable = trailers.subscribe();
                        ready(pollable).await;
                    }
                    Some(result) => {
                        self.state = State::Over;
                        return match result {
                            Ok(Ok(trailers)) => {
                                self.trailers = trailers;
                                None
                            }
                            Ok(Err(error)) => Some(Err(broken_off(error))),
                            Err(()) => None,
                        };
                    }
                },
                State::Over => return None,
            }
        }
        self.state = State::Over;
        let text = "the host says that a body is ready, and it is not";
        Some(Err(OriginError::Failed(text.to_owned())))
    }

    fn end_content(&mut self) {
        if let State::Content(stream, body) = std::mem::replace(&mut self.state, State::Over) {
            drop(stream);
            self.state = State::End(IncomingBody::finish(body));
        }
    }
}

impl Body for HostBody {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        let Some(pause) = self.pause else {
            return self.next().await;
        };
        let next = match select(pin!(self.next()), pin!(sleep(pause))).await {
            Either::Left((next, _)) => Some(next),
            Either::Right(((), _)) => None,
        };
        match next {
            Some(next) => next,
            None => {
                self.state = State::Over;
                Some(Err(OriginError::Timeout))
            }
        }
    }
}

fn broken_off(error: ErrorCode) -> OriginError {
    origin_error!(ErrorCode, error)
}

/// The other side has gone, or reads nothing.
#[derive(Debug)]
pub(super) struct Gone;

/// A body that we stream to the host. Dropped before [`Writer::finish`] it breaks off: it
/// does not look complete.
pub(super) struct Writer {
    stream: OutputStream,
    // The stream belongs to the body, so it is dropped first.
    body: OutgoingBody,
}

impl Writer {
    /// None if the body is written elsewhere.
    pub(super) fn new(body: OutgoingBody) -> Option<Self> {
        let stream = body.write().ok()?;
        Some(Writer { stream, body })
    }

    /// Writes `bytes` as the other side reads.
    pub(super) async fn write(&self, bytes: &[u8]) -> Result<(), Gone> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(self.room().await?).unwrap_or(usize::MAX);
            let Some((now, later)) = rest.split_at_checked(room.min(rest.len())) else {
                return Err(Gone);
            };
            self.stream.write(now).map_err(|_| Gone)?;
            rest = later;
        }
        // Some visitors wait for a short piece, and nothing may follow for long.
        self.stream.flush().map_err(|_| Gone)
    }

    /// How many bytes can be written; waits until there is room.
    async fn room(&self) -> Result<u64, Gone> {
        for _ in 0..LOOKS_MAX {
            match self.stream.check_write().map_err(|_| Gone)? {
                0 => {
                    let waiting = pin!(ready(self.stream.subscribe()));
                    match select(waiting, pin!(sleep(STALL_MAX))).await {
                        Either::Left(_) => {}
                        Either::Right(_) => return Err(Gone),
                    }
                }
                room => return Ok(room),
            }
        }
        Err(Gone)
    }

    /// Ends the body, which is whole.
    pub(super) async fn finish(self, trailers: Option<Trailers>) -> Result<(), Gone> {
        // There is room when what was written has been taken.
        self.room().await?;
        let Writer { stream, body } = self;
        drop(stream);
        OutgoingBody::finish(body, trailers).map_err(|_| Gone)
    }
}
