//! One connection of a client: what it is doing, and how long it may do that.
//!
//! Each activity has a limit of its own. A client that sends the head of a
//! request slowly, one that keeps a connection without using it, and one that
//! does not read its answer are different cases, and only the operator's own
//! clients should be able to hold a connection for long.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

use super::limits::Patience;

/// Most bytes of an answer that wait in the system although the network could
/// take them. With the system's default of some megabytes, a client that reads
/// slowly would look for a long time like one that reads nothing.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// How long a client that has closed its side of the connection is taken for one
/// that still reads. Programs that send one request and close their side, such
/// as `nc -N`, look the same as a browser that has gone.
const HALF_CLOSED_GRACE: Duration = Duration::from_secs(2);

/// How often a client that speaks TLS is looked for while its request is handled: what it
/// has sent last may still be there to be read, whether or not it has gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a connection of HTTP/2 without a request may take to close: a request that the
/// client has sent before it knew is answered.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// Requests that a client may take back unanswered, beyond as many as it lets be answered.
/// Then its connection is closed: each has cost work.
const ABANDONED_MAX: usize = 100;

/// A connection, shared by the task that serves it, the content of its request
/// and the list of all connections.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    patience: Patience,
    activity: Mutex<Activity>,
    /// Whether the host is about to stop.
    stopping: AtomicBool,
    is_secure: AtomicBool,
    /// Wakes the task that serves the connection.
    told: Notify,
}

/// What a connection without a request waits for. The one that is missed least is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiting {
    /// The first byte of a head, since then.
    Idle(Instant),
    /// The rest of a head that began then.
    Head(Instant),
}

/// What happens on a connection.
#[derive(Debug)]
struct Activity {
    /// The content and the answer of a request that are not finished yet.
    in_flight: usize,
    /// The answers among those.
    answers: usize,
    /// Whether an answer is finished but not written completely.
    is_unwritten: bool,
    /// When the first byte of a head came that is not complete yet.
    head_since: Option<Instant>,
    /// Since when the client takes nothing of what is to be written.
    blocked_since: Option<Instant>,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
    /// Whether it carries several requests at once: HTTP/2.
    is_multiplexed: bool,
    /// Answers of which the client has not taken what was given last. Where there is one
    /// answer at a time, `blocked_since` says so.
    untaken: usize,
    /// When something of an answer was taken last.
    taken_at: Instant,
    /// Requests that were answered, and that the client took back before.
    answered: usize,
    abandoned: usize,
    /// When the connection was told to close.
    closing_since: Option<Instant>,
}

impl Activity {
    /// Nothing has happened yet.
    fn new(now: Instant) -> Self {
        Self {
            in_flight: 0,
            answers: 0,
            is_unwritten: false,
            head_since: None,
            blocked_since: None,
            idle_since: now,
            is_multiplexed: false,
            untaken: 0,
            taken_at: now,
            answered: 0,
            abandoned: 0,
            closing_since: None,
        }
    }

    /// Whether there is no request, complete with its head.
    fn is_waiting(&self) -> bool {
        self.in_flight == 0 && !self.is_unwritten
    }

    /// When the client will have been too slow.
    fn deadline(&self, patience: Patience) -> Option<Instant> {
        match (self.blocked_since, self.head_since) {
            (Some(since), _) => Some(since + patience.write),
            _ if self.is_multiplexed && self.untaken > 0 => Some(self.taken_at + patience.write),
            // What a request may take is the component's decision.
            _ if !self.is_waiting() => None,
            (None, Some(since)) => Some(since + patience.head),
            (None, None) => match self.closing_since {
                Some(since) => Some(since.max(self.idle_since) + CLOSING_MAX),
                None => Some(self.idle_since + patience.idle),
            },
        }
    }
}

impl Line {
    /// A connection that was just accepted.
    pub(super) fn new(stream: TcpStream, patience: Patience) -> Arc<Self> {
        // Answers are written in few pieces, so waiting to fill a packet only
        // delays them.
        drop(stream.set_nodelay(true));
        #[cfg(target_os = "linux")]
        drop(socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX));
        Arc::new(Self {
            stream,
            patience,
            activity: Mutex::new(Activity::new(Instant::now())),
            stopping: AtomicBool::new(false),
            is_secure: AtomicBool::new(false),
            told: Notify::new(),
        })
    }

    /// The address of this end, if the client has not gone.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when there is no request, and whether a part of a head has come; none while there
    /// is one.
    pub(super) fn waiting_since(&self) -> Option<Waiting> {
        let activity = self.activity();
        activity.is_waiting().then_some(match activity.head_since {
            None => Waiting::Idle(activity.idle_since),
            Some(since) => Waiting::Head(since),
        })
    }

    /// The requests whose answer has not ended.
    pub(super) fn requests(&self) -> usize {
        self.activity().answers
    }

    /// Closes the connection if there is no request on it.
    pub(super) fn close_if_waiting(&self) {
        self.told.notify_one();
    }

    /// Closes the connection as soon as there is no request on it. A head that is
    /// not complete is not waited for.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.told.notify_one();
    }

    /// Makes the handshake of TLS. It may take as long as a head. None if the client fails, or
    /// if there is no place for its connection any more.
    pub(super) async fn shake_hands(
        self: &Arc<Self>,
        handshake: Accept<Wire>,
    ) -> Option<TlsStream<Wire>> {
        let stream = tokio::select! {
            biased;
            made = tokio::time::timeout(self.patience.head, handshake) => made.ok()?.ok(),
            () = self.told.notified() => None,
        };
        if stream.is_none() {
            drop(socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Both));
        }
        stream
    }

    /// The handshake of TLS was made. From here on, heads count.
    pub(super) fn secured(&self, is_multiplexed: bool) {
        self.is_secure.store(true, Ordering::SeqCst);
        let mut activity = self.activity();
        activity.is_multiplexed = is_multiplexed;
        activity.is_unwritten = false;
        activity.head_since = None;
        activity.idle_since = Instant::now();
    }

    /// A request was answered.
    pub(super) fn answered(&self) {
        let mut activity = self.activity();
        activity.answered = activity.answered.saturating_add(1);
    }

    /// The client has taken a request back. One that does so again and again loses its
    /// connection.
    pub(super) fn abandoned(&self) {
        let mut activity = self.activity();
        activity.abandoned = activity.abandoned.saturating_add(1);
        let most = activity.answered.saturating_add(ABANDONED_MAX);
        if activity.is_multiplexed && activity.abandoned > most {
            drop(activity);
            self.stop();
        }
    }

    /// Resolves when the client has gone: at once after a reset, and after
    /// [`HALF_CLOSED_GRACE`] if it has closed its side. It never resolves for a
    /// client that has sent further bytes before it went, unless by a reset.
    pub(super) async fn client_gone(self: Arc<Self>) {
        if self.is_secure.load(Ordering::SeqCst) {
            // What ends TLS comes before what ends the connection, and is not read while a
            // request is handled.
            while let Ok(ready) = self.stream.ready(Interest::READABLE).await {
                if ready.is_read_closed() {
                    let reset = self.stream.ready(Interest::ERROR);
                    drop(tokio::time::timeout(HALF_CLOSED_GRACE, reset).await);
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            return;
        }
        match self.stream.peek(&mut [0]).await {
            Ok(0) => {
                let reset = self.stream.ready(Interest::ERROR);
                drop(tokio::time::timeout(HALF_CLOSED_GRACE, reset).await);
            }
            Ok(_) => drop(self.stream.ready(Interest::ERROR).await),
            Err(_) => {}
        }
    }

    /// Makes the system forget what a client that reads nothing has not taken,
    /// instead of keeping it for minutes after the connection was closed.
    fn discard_unsent(&self) {
        if self.activity().blocked_since.is_some() {
            drop(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
        }
    }

    /// Serves the connection until it ends, the client is too slow, or it is told
    /// to close.
    pub(super) async fn serve(self: Arc<Self>, connection: impl GracefulConnection) {
        let mut connection = std::pin::pin!(connection);
        let mut told = std::pin::pin!(self.told.notified());
        let mut timer = std::pin::pin!(tokio::time::sleep(self.patience.shortest()));
        std::future::poll_fn(|cx| {
            // An error concerns only this client: it left, or its connection was
            // broken to show that an answer is incomplete.
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            while told.as_mut().poll(cx).is_ready() {
                told.set(self.told.notified());
                let is_waiting = self.activity().is_waiting();
                let is_multiplexed = self.activity().is_multiplexed;
                if is_waiting && !is_multiplexed {
                    return Poll::Ready(());
                }
                if is_waiting || self.stopping.load(Ordering::SeqCst) {
                    // The connection ends after the answer.
                    self.activity()
                        .closing_since
                        .get_or_insert_with(Instant::now);
                    connection.as_mut().graceful_shutdown();
                    if connection.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                }
            }
            loop {
                let now = Instant::now();
                // A limit that begins in another task is noticed when the timer
                // fires, which is soon enough for these.
                let deadline = self.activity().deadline(self.patience);
                let next = match deadline {
                    Some(deadline) if deadline <= now => {
                        self.discard_unsent();
                        return Poll::Ready(());
                    }
                    Some(deadline) => deadline,
                    None => now + self.patience.shortest(),
                };
                if next < timer.deadline() || timer.is_elapsed() {
                    timer.as_mut().reset(next);
                }
                ready!(timer.as_mut().poll(cx));
            }
        })
        .await;
        // The content of a request may still hold the line. The client is to see
        // that nothing more comes.
        drop(socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Both));
    }
}

/// The content of a request, or its answer, while it is not finished.
#[derive(Debug)]
pub(super) struct InFlight {
    line: Arc<Line>,
    is_answer: bool,
    /// Whether a part of the answer was given, and the next was not asked for.
    is_untaken: bool,
}

impl InFlight {
    /// A request whose head is complete.
    pub(super) fn answer(line: &Arc<Line>) -> Self {
        Self::new(line, true)
    }

    /// The content of a request.
    pub(super) fn content(line: &Arc<Line>) -> Self {
        Self::new(line, false)
    }

    fn new(line: &Arc<Line>, is_answer: bool) -> Self {
        let mut activity = line.activity();
        activity.in_flight += 1;
        activity.answers += usize::from(is_answer);
        activity.head_since = None;
        drop(activity);
        Self {
            line: Arc::clone(line),
            is_answer,
            is_untaken: false,
        }
    }

    /// A part of the answer was given.
    pub(super) fn given(&mut self) {
        let mut activity = self.line.activity();
        if activity.untaken == 0 {
            activity.taken_at = Instant::now();
        }
        activity.untaken += usize::from(!self.is_untaken);
        self.is_untaken = true;
    }

    /// The next part of the answer is asked for: the client takes what was given.
    pub(super) fn asked(&mut self) {
        if self.is_untaken {
            self.is_untaken = false;
            let mut activity = self.line.activity();
            activity.untaken -= 1;
            activity.taken_at = Instant::now();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.asked();
        let mut activity = self.line.activity();
        activity.in_flight -= 1;
        activity.answers -= usize::from(self.is_answer);
        // The last bytes of an answer are still to be written.
        activity.is_unwritten |= self.is_answer;
        activity.idle_since = Instant::now();
    }
}

/// The bytes of a connection. It notes what happens.
#[derive(Debug)]
pub(super) struct Wire(pub(super) Arc<Line>);

impl Wire {
    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let mut activity = self.0.activity();
        match &outcome {
            Poll::Ready(_) => activity.blocked_since = None,
            Poll::Pending => {
                activity.blocked_since.get_or_insert_with(Instant::now);
            }
        }
        outcome
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = &self.0.stream;
        loop {
            match stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.wrote(Poll::Pending),
            }
            match write(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return self.wrote(Poll::Ready(outcome)),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &self.0.stream;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_read_buf(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(1..) => {
                    let mut activity = self.0.activity();
                    if activity.in_flight == 0 && !activity.is_multiplexed {
                        activity.head_since.get_or_insert_with(Instant::now);
                    }
                    return Poll::Ready(Ok(()));
                }
                outcome => return Poll::Ready(outcome.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper calls this when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.activity().is_unwritten = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = socket2::SockRef::from(&self.0.stream);
        Poll::Ready(socket.shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_activity_has_a_limit_of_its_own() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (one, two) = (Some(at(1)), Some(at(2)));
        for (what, in_flight, is_unwritten, head_since, blocked_since, deadline) in [
            ("no request", 0, false, None, None, Some(at(75))),
            ("half a head", 0, false, one, None, Some(at(11))),
            ("a request", 1, false, None, None, None),
            ("a request and its content", 2, false, None, None, None),
            ("an answer is not read", 1, false, None, two, Some(at(32))),
            ("the end is not read", 0, true, None, two, Some(at(32))),
            ("the end is written", 0, true, None, None, None),
        ] {
            let activity = Activity {
                in_flight,
                is_unwritten,
                head_since,
                blocked_since,
                ..Activity::new(start)
            };
            assert_eq!(activity.deadline(Patience::default()), deadline, "{what}");
            let is_waiting = in_flight == 0 && !is_unwritten;
            assert_eq!(activity.is_waiting(), is_waiting, "{what}");
        }
    }

    #[test]
    fn a_connection_of_several_requests_is_closed_when_no_answer_on_it_is_taken() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let activity = Activity {
            in_flight: 3,
            is_multiplexed: true,
            ..Activity::new(start)
        };
        assert_eq!(activity.deadline(Patience::default()), None);
        let untaken = Activity {
            untaken: 1,
            taken_at: at(5),
            ..activity
        };
        assert_eq!(untaken.deadline(Patience::default()), Some(at(35)));
        let closing = Activity {
            is_multiplexed: true,
            closing_since: Some(at(7)),
            ..Activity::new(start)
        };
        assert_eq!(closing.deadline(Patience::default()), Some(at(8)));
    }
}
