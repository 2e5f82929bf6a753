//! What happens to a request on its way to the origin: how far its content has
//! come, and whether the origin has said anything.
//!
//! A limit for the answer that counted the sending of the content would cut
//! uploads that are only slow. So the time for the answer begins when the content
//! has been sent, and until then only an origin that reads nothing is too slow.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tower_service::Service;
use wasmtime_wasi_http::{Error, WasiBody};

use super::head::Part;

/// What a connection to the origin is doing.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic(Arc<Mutex<TrafficState>>);

#[derive(Debug, Default)]
struct TrafficState {
    /// When bytes were last written.
    written_at: Option<Instant>,
    /// Since when the origin takes nothing of what is to be written.
    blocked_since: Option<Instant>,
    /// Whether bytes came since bytes were last written.
    is_answered: bool,
    /// Whether an earlier request was answered on this connection.
    is_reused: bool,
    /// What comes next.
    part: Part,
}

impl Traffic {
    fn state(&self) -> MutexGuard<'_, TrafficState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection was used before, and the origin has sent nothing
    /// since the last request was written.
    pub(super) fn is_reused_and_silent(&self) -> bool {
        let state = self.state();
        state.is_reused && !state.is_answered
    }

    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        match &outcome {
            Poll::Ready(_) => {
                state.blocked_since = None;
                state.written_at = Some(Instant::now());
                state.is_reused |= state.is_answered;
                state.is_answered = false;
                state.part.expect_head();
            }
            Poll::Pending => {
                state.blocked_since.get_or_insert_with(Instant::now);
            }
        }
        outcome
    }
}

/// How far a request has come.
#[derive(Debug)]
pub(super) struct Progress {
    /// When the connection was there.
    pub(super) connected_at: Instant,
    /// None if the connection does not say what it does.
    pub(super) traffic: Option<Traffic>,
    pub(super) content: ContentEnd,
}

/// The limits of a request to the origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// From the end of the content to the head of the answer.
    pub(super) first_byte: Duration,
    /// How long the origin may take nothing of the content.
    pub(super) between_bytes: Duration,
}

/// When the origin will have been too slow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// It has all of the request and says nothing.
    Answer(Instant),
    /// It does not take the content.
    Content(Instant),
    /// The content is on its way. Nothing can have been too slow before this.
    LookAgain(Instant),
}

impl Progress {
    /// Returns what limits the request at `now`.
    pub(super) fn deadline(&self, limits: Limits, now: Instant) -> Deadline {
        let (written_at, blocked_since) = match &self.traffic {
            Some(traffic) => {
                let state = traffic.state();
                (state.written_at, state.blocked_since)
            }
            None => (None, None),
        };
        match (blocked_since, self.content.at()) {
            (Some(since), _) => Deadline::Content(since + limits.between_bytes),
            (None, Some(ended)) => {
                let sent = ended.max(written_at.unwrap_or(ended));
                Deadline::Answer(sent.max(self.connected_at) + limits.first_byte)
            }
            (None, None) => Deadline::LookAgain(now + limits.first_byte.min(limits.between_bytes)),
        }
    }
}

/// When the content of a request ended, once it has.
#[derive(Debug, Clone, Default)]
pub(super) struct ContentEnd(Arc<Mutex<Option<Instant>>>);

impl ContentEnd {
    fn at(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        let mut at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.get_or_insert_with(Instant::now);
    }
}

/// The content of a request. It notes when it has been handed over completely.
pub(super) struct Upload {
    body: WasiBody,
    end: ContentEnd,
}

impl Upload {
    pub(super) fn new(body: WasiBody, end: ContentEnd) -> Self {
        if body.is_end_stream() {
            end.note();
        }
        Self { body, end }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.end.note();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// hyper does not ask for the end of content of known length, and drops it.
impl Drop for Upload {
    fn drop(&mut self) {
        self.end.note();
    }
}

/// A connector whose connections tell what they do, see [`Traffic`].
#[derive(Debug, Clone)]
pub(super) struct Watching<C>(pub(super) C);

impl<C> Service<Uri> for Watching<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<Watched<C::Response>>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            Ok(TokioIo::new(Watched {
                io: TokioIo::new(connecting.await?),
                traffic: Traffic::default(),
            }))
        })
    }
}

/// A connection that tells what it does.
#[derive(Debug)]
pub(super) struct Watched<I> {
    io: TokioIo<I>,
    traffic: Traffic,
}

impl<I: Connection> Connection for Watched<I> {
    fn connected(&self) -> Connected {
        self.io.inner().connected().extra(self.traffic.clone())
    }
}

impl<I: Read + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if let Some(read @ [_, ..]) = buffer.filled_mut().get_mut(before..) {
            let mut state = self.traffic.state();
            state.is_answered = true;
            state.part.repair(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: Write + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.traffic.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.traffic.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        first_byte: Duration::from_secs(15),
        between_bytes: Duration::from_secs(5),
    };

    #[test]
    fn the_time_for_the_answer_begins_when_the_content_has_been_sent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (what, ended, written, blocked, deadline) in [
            (
                "the content goes on for a day",
                None,
                Some(at(86_400)),
                None,
                Deadline::LookAgain(at(86_405)),
            ),
            (
                "the origin takes nothing",
                None,
                Some(at(10)),
                Some(at(20)),
                Deadline::Content(at(25)),
            ),
            (
                "the origin does not take the end",
                Some(at(18)),
                Some(at(10)),
                Some(at(20)),
                Deadline::Content(at(25)),
            ),
            (
                "the end is still being written",
                Some(at(18)),
                Some(at(30)),
                None,
                Deadline::Answer(at(45)),
            ),
            (
                "there is no content",
                Some(at(0)),
                None,
                None,
                Deadline::Answer(at(17)),
            ),
        ] {
            let traffic = Traffic::default();
            traffic.state().written_at = written;
            traffic.state().blocked_since = blocked;
            let content = ContentEnd::default();
            *content.0.lock().unwrap_or_else(PoisonError::into_inner) = ended;
            let progress = Progress {
                connected_at: at(2),
                traffic: Some(traffic),
                content,
            };
            assert_eq!(progress.deadline(LIMITS, at(86_400)), deadline, "{what}");
        }
    }

    #[test]
    fn a_connection_is_reused_when_a_request_follows_an_answer() {
        let traffic = Traffic::default();
        let wrote = |traffic: &Traffic| drop(traffic.wrote(Poll::Ready(Ok(1))));
        wrote(&traffic);
        assert!(!traffic.is_reused_and_silent(), "the first request");
        traffic.state().is_answered = true;
        assert!(!traffic.is_reused_and_silent(), "the first answer");
        wrote(&traffic);
        wrote(&traffic);
        assert!(traffic.is_reused_and_silent(), "the second request");
        traffic.state().is_answered = true;
        assert!(!traffic.is_reused_and_silent(), "the second answer");
    }
}
