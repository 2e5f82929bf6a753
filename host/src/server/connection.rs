//! One connection of a client: what it is doing, and how long it may do that.
//!
//! Each activity has a limit of its own. A client that sends the head of a
//! request slowly, one that keeps a connection without using it, and one that
//! does not read its answer are different cases, and only the operator's own
//! clients should be able to hold a connection for long.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::limits::Patience;
use super::wire::Wire;

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

/// Requests that a client may take back unanswered, beyond as many as it lets be answered.
/// Then its connection is closed: each has cost work.
const ABANDONED_MAX: usize = 100;

/// A connection, shared by the task that serves it, the content of its request
/// and the list of all connections.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) stream: TcpStream,
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

    pub(super) fn activity(&self) -> MutexGuard<'_, Activity> {
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
        // The last bytes of an answer are still to be written. HTTP/2 does not say when they
        // are, nor of which answer.
        activity.is_unwritten |= self.is_answer && !activity.is_multiplexed;
        activity.idle_since = Instant::now();
    }
}
