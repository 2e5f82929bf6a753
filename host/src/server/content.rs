//! The content of requests: how long and how large it may be, and for requests
//! without content a way to learn that the client has gone.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error;

use super::connection::{InFlight, Line};

/// What was wrong with the content of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It was longer than the settings allow.
    TooLong,
    /// The client stopped sending it.
    TooSlow,
    /// Its chunks are none (RFC 9112 section 7.1).
    Malformed,
}

/// Where a [`Content`] says what was wrong with it.
#[derive(Debug, Default)]
pub(super) struct Verdict(AtomicU8);

impl Verdict {
    const TOO_LONG: u8 = 1;
    const TOO_SLOW: u8 = 2;
    const MALFORMED: u8 = 3;

    fn set(&self, fault: Fault) {
        let code = match fault {
            Fault::TooLong => Self::TOO_LONG,
            Fault::TooSlow => Self::TOO_SLOW,
            Fault::Malformed => Self::MALFORMED,
        };
        self.0.store(code, Ordering::SeqCst);
    }

    /// What was wrong with the content so far.
    pub(super) fn fault(&self) -> Option<Fault> {
        match self.0.load(Ordering::SeqCst) {
            Self::TOO_LONG => Some(Fault::TooLong),
            Self::TOO_SLOW => Some(Fault::TooSlow),
            Self::MALFORMED => Some(Fault::Malformed),
            _ => None,
        }
    }
}

/// The content of a request. It ends with an error if it is too long, or if the
/// client sends too slowly.
pub(super) struct Content<B = Incoming> {
    body: B,
    /// How long the client may send nothing.
    pause_max: Duration,
    /// How many bytes may follow.
    left: Option<u64>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether bytes are waited for, so that the timer runs.
    is_waiting: bool,
    has_failed: bool,
    verdict: Arc<Verdict>,
    _in_flight: Option<InFlight>,
}

impl<B> Content<B> {
    /// Content of at most `bytes_max` bytes, and with pauses of at most `pause_max`.
    pub(super) fn new(
        body: B,
        bytes_max: Option<u64>,
        pause_max: Duration,
        verdict: Arc<Verdict>,
        in_flight: Option<InFlight>,
    ) -> Self {
        Self {
            body,
            pause_max,
            left: bytes_max,
            timer: None,
            is_waiting: false,
            has_failed: false,
            verdict,
            _in_flight: in_flight,
        }
    }

    fn fail(&mut self, fault: Fault) -> Error {
        self.has_failed = true;
        self.verdict.set(fault);
        match fault {
            Fault::TooLong => Error::HttpRequestBodySize(None),
            Fault::TooSlow => Error::ConnectionReadTimeout,
            Fault::Malformed => Error::HttpProtocolError,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Content<B>
where
    B::Error: Into<Error> + StdError + 'static,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.has_failed {
            return Poll::Ready(None);
        }
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                // A pause counts only while somebody waits for the client.
                let this = &mut *self;
                let timer = this
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(this.pause_max)));
                if !this.is_waiting {
                    this.is_waiting = true;
                    timer.as_mut().reset(Instant::now() + this.pause_max);
                }
                ready!(timer.as_mut().poll(cx));
                return Poll::Ready(Some(Err(self.fail(Fault::TooSlow))));
            }
        };
        self.is_waiting = false;
        if let (Some(left), Some(Ok(frame))) = (self.left, &frame) {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes as u64) {
                Some(left) => self.left = Some(left),
                None => return Poll::Ready(Some(Err(self.fail(Fault::TooLong)))),
            }
        }
        if let Some(Err(error)) = &frame
            && is_malformed(error)
        {
            return Poll::Ready(Some(Err(self.fail(Fault::Malformed))));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.has_failed || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether content ended because the client sent what are no chunks, and not because it
/// left.
fn is_malformed(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return matches!(
                kind,
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
            );
        }
        cause = error.source();
    }
    false
}

/// The content of a request that has none. It ends when the request is answered,
/// and with an error when the client has gone before.
pub(super) struct ClientWatch {
    watched: Watched,
    answered: oneshot::Receiver<()>,
}

enum Watched {
    /// Nobody has asked yet, so nothing is watched.
    Not(Arc<Line>),
    Now(Pin<Box<dyn Future<Output = ()> + Send>>),
    Ended,
}

impl ClientWatch {
    /// Watches the client on `line` until `answered` says so. If its sender is
    /// dropped, the client has taken its request back.
    pub(super) fn new(line: Arc<Line>, answered: oneshot::Receiver<()>) -> Self {
        Self {
            watched: Watched::Not(line),
            answered,
        }
    }
}

impl Body for ClientWatch {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Watched::Ended = self.watched {
            return Poll::Ready(None);
        }
        if let Poll::Ready(answered) = Pin::new(&mut self.answered).poll(cx) {
            self.watched = Watched::Ended;
            // Without an answer, the client has reset its request.
            return Poll::Ready(match answered {
                Ok(()) => None,
                Err(_) => Some(Err(Error::ConnectionTerminated)),
            });
        }
        if let Watched::Not(line) = &self.watched {
            self.watched = Watched::Now(Box::pin(Arc::clone(line).client_gone()));
        }
        if let Watched::Now(gone) = &mut self.watched {
            ready!(gone.as_mut().poll(cx));
        }
        self.watched = Watched::Ended;
        Poll::Ready(Some(Err(Error::ConnectionTerminated)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::convert::Infallible;

    use futures::FutureExt as _;
    use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
    use http_body_util::{BodyExt as _, Empty, StreamBody};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A pause that no test makes.
    const LONG: Duration = Duration::from_secs(600);

    type Part = Result<Frame<Bytes>, Error>;
    type Sent = StreamBody<UnboundedReceiver<Part>>;

    /// A client that sends one byte at a time.
    struct Client(UnboundedSender<Part>);

    impl Client {
        fn new() -> (Self, Sent) {
            let (sender, receiver) = unbounded();
            (Self(sender), StreamBody::new(receiver))
        }

        fn send(&self) {
            let frame = Frame::data(Bytes::from_static(b"x"));
            self.0.unbounded_send(Ok(frame)).unwrap();
        }
    }

    #[tokio::test]
    async fn content_that_stops_is_ended() {
        let (client, body) = Client::new();
        let verdict = Arc::new(Verdict::default());
        let pause_max = Duration::from_millis(1);
        let mut content = Content::new(body, None, pause_max, Arc::clone(&verdict), None);
        client.send();
        content.frame().await.unwrap().unwrap();
        assert_eq!(verdict.fault(), None);
        let ended = content.frame().await.unwrap();
        assert!(
            matches!(ended, Err(Error::ConnectionReadTimeout)),
            "{ended:?}"
        );
        assert_eq!(verdict.fault(), Some(Fault::TooSlow));
        assert!(content.frame().await.is_none());
    }

    #[tokio::test]
    async fn the_time_begins_again_with_each_part_of_the_content() {
        let (client, body) = Client::new();
        let mut content = Content::new(body, None, LONG, Arc::default(), None);
        for _ in 0..3 {
            let first = content.frame();
            // Nothing has come yet: the time runs.
            assert!(first.now_or_never().is_none());
            let ends = content.timer.as_ref().unwrap().deadline();
            client.send();
            content.frame().await.unwrap().unwrap();
            assert!(!content.is_waiting);
            // A pause in which nobody asks for bytes does not count.
            assert!(content.frame().now_or_never().is_none());
            assert!(content.timer.as_ref().unwrap().deadline() >= ends);
            client.send();
            content.frame().await.unwrap().unwrap();
        }
    }

    /// What a server makes of the content of a request that is sent in these chunks.
    async fn fault_of(chunks: &str) -> Option<Fault> {
        let (mut client, server) = tokio::io::duplex(1_024);
        let verdict = Arc::new(Verdict::default());
        let judged = Arc::clone(&verdict);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let verdict = Arc::clone(&judged);
            async move {
                let content = Content::new(request.into_body(), None, LONG, verdict, None);
                drop(content.collect().await);
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        });
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let request = format!("{head}{chunks}");
        let client = async {
            client.write_all(request.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            client.read_to_end(&mut Vec::new()).await
        };
        let serving = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        drop(tokio::join!(serving, client));
        verdict.fault()
    }

    #[tokio::test]
    async fn malformed_chunks_are_told_from_a_client_that_has_gone() {
        for (chunks, expected) in [
            ("2\r\nhi\r\n0\r\n\r\n", None),
            ("2;a=b\r\nhi\r\n0\r\nx-a: 1\r\n\r\n", None),
            // It has gone.
            ("2\r\nhi\r\n", None),
            ("2\r\nh", None),
            ("zz\r\nhi\r\n0\r\n\r\n", Some(Fault::Malformed)),
            ("2\r\nhiX\r\n0\r\n\r\n", Some(Fault::Malformed)),
            ("0x2\r\nhi\r\n0\r\n\r\n", Some(Fault::Malformed)),
            ("-2\r\nhi\r\n0\r\n\r\n", Some(Fault::Malformed)),
            ("2\r\nhi\r\nzz\r\n", Some(Fault::Malformed)),
            ("fffffffffffffffff\r\nhi\r\n", Some(Fault::Malformed)),
            ("2\nhi\n0\n\n", Some(Fault::Malformed)),
        ] {
            assert_eq!(fault_of(chunks).await, expected, "{chunks:?}");
        }
    }

    #[tokio::test]
    async fn content_may_be_as_long_as_the_settings_say() {
        for (bytes, fault) in [(4, None), (5, None), (6, Some(Fault::TooLong))] {
            let (client, body) = Client::new();
            for _ in 0..bytes {
                client.send();
            }
            drop(client);
            let verdict = Arc::new(Verdict::default());
            let content = Content::new(body, Some(5), LONG, Arc::clone(&verdict), None);
            let outcome = content.collect().await;
            assert_eq!(outcome.is_err(), fault.is_some(), "{bytes}");
            assert_eq!(verdict.fault(), fault, "{bytes}");
        }
    }
}
