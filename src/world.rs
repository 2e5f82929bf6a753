//! What the shield needs of the world: the one seam between algorithm and I/O.
//!
//! The component implements it over WASI, the simulation over virtual time; the
//! code above it is the same.

use crate::budget::Class;
pub(crate) use crate::events::line as event;
use crate::store::Store;
use crate::time::Time;
use bytes::{Bytes, BytesMut};
use futures::future::LocalBoxFuture;
use futures::stream::LocalBoxStream;
use futures::{FutureExt, StreamExt};
use http::HeaderMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The world as one instance sees it. Single-threaded: the shield's futures are
/// polled by one thread, and statics are shared by an instance's requests.
pub trait Platform: 'static {
    /// Where the cells are.
    type Store: Store;
    /// A body in transit, from a visitor or from the origin.
    type Body: Body;
    /// One end of a [`Platform::signal`].
    type Wake: 'static;

    /// Whether an instance serves one request and ends when the work for that is done.
    /// Then nothing is kept for a next request, and no work is left for later.
    const ENDS_WITH_REQUEST: bool = false;

    /// The store that all nodes share.
    fn store(&self) -> &Self::Store;

    /// The node's wall clock.
    fn now(&self) -> Time;

    /// 128 random bits that no other caller on any node is given.
    fn random(&self) -> u128;

    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Runs `task` to its end, however long the request lives that started it.
    /// The instance may die before: nobody may rely on the end of `task`.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// A signal from one request to another of the same instance: the future
    /// resolves when the value is dropped. A host may run each request as a
    /// task of its own, and Rust's wakers need not reach from one to another.
    fn signal(&self) -> (Self::Wake, impl Future<Output = ()> + 'static);

    /// Sends a request to the origin and resolves with the response head. Sends
    /// it once: whether to repeat is the shield's decision.
    fn send(
        &self,
        request: OriginRequest<Self::Body>,
    ) -> impl Future<Output = Result<http::Response<Self::Body>, OriginError>>;

    /// Whether the host is the program `leeward`.
    fn is_embedded(&self) -> bool {
        false
    }

    /// Whether the host counts the requests of visitors and those to the origin, so that the
    /// shield need not.
    fn counts_requests(&self) -> bool {
        self.is_embedded()
    }

    /// Whether it can send a request on a connection that carries no other request
    /// afterwards, see [`OriginRequest::alone`].
    fn closes_connections(&self) -> bool {
        true
    }

    /// Whether an answer with these fields, and those that the shield adds, can be given to
    /// a visitor.
    ///
    /// # Errors
    ///
    /// Which field the host refuses, and why.
    fn lets_through(&self, fields: &HeaderMap) -> Result<(), String> {
        let _ = fields;
        Ok(())
    }

    /// Whether the host says in its log which visitors got an error of the shield's own, so
    /// that the shield need not.
    fn logs_refusals(&self) -> bool {
        false
    }

    /// Writes one line for the operator.
    fn log(&self, line: &str);
}

/// A body in transit.
pub trait Body: 'static {
    /// The next bytes, or none at the end. After an error or the end it is not
    /// called again. An end means that all of the body has come: what breaks
    /// off is an error.
    fn chunk(&mut self) -> impl Future<Output = Option<Result<Bytes, OriginError>>>;
}

/// The content of a request: what of it has been read, and the rest.
pub struct Content<B> {
    beginning: BytesMut,
    rest: Rest<B>,
}

/// What of a request's content has not been read.
enum Rest<B> {
    /// Nothing.
    Over,
    /// All that a body still has.
    Unread(B),
    /// A piece is on its way. The future is kept until it is there: bytes could be lost if
    /// it were dropped.
    Coming(LocalBoxFuture<'static, (B, Option<Result<Bytes, OriginError>>)>),
    /// What something between the visitor and the platform makes of it.
    Pieces(LocalBoxStream<'static, Result<Bytes, OriginError>>),
}

impl<B> std::fmt::Debug for Content<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").finish_non_exhaustive()
    }
}

impl<B> Content<B> {
    /// Content of which nothing has been read.
    pub fn unread(body: B) -> Self {
        Content {
            beginning: BytesMut::new(),
            rest: Rest::Unread(body),
        }
    }

    /// Content in pieces. After an error there are none.
    pub fn of_pieces(pieces: LocalBoxStream<'static, Result<Bytes, OriginError>>) -> Self {
        Content {
            beginning: BytesMut::new(),
            rest: Rest::Pieces(pieces),
        }
    }

    /// Whether all of it has been read.
    pub fn is_read(&self) -> bool {
        matches!(self.rest, Rest::Over)
    }

    /// Whether it turned out to be nothing.
    pub fn is_empty(&self) -> bool {
        self.is_read() && self.beginning.is_empty()
    }

    /// The platform's body.
    ///
    /// # Errors
    ///
    /// The content, if something has been read of it.
    pub fn into_unread(self) -> Result<B, Self> {
        match self {
            Content {
                beginning,
                rest: Rest::Unread(rest),
            } if beginning.is_empty() => Ok(rest),
            content => Err(content),
        }
    }
}

impl<B: Body> Content<B> {
    /// Reads on until there are at least `least` bytes, or all. Nothing is lost if the
    /// future is dropped before.
    ///
    /// # Errors
    ///
    /// If the content breaks off.
    pub async fn read(&mut self, least: usize) -> Result<(), OriginError> {
        while self.beginning.len() < least {
            match self.next().await.transpose()? {
                Some(bytes) => self.beginning.extend_from_slice(&bytes),
                None => break,
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<Bytes, OriginError>> {
        if let Rest::Pieces(pieces) = &mut self.rest {
            let next = pieces.next().await;
            if !matches!(next, Some(Ok(_))) {
                self.rest = Rest::Over;
            }
            return next;
        }
        self.rest = match std::mem::replace(&mut self.rest, Rest::Over) {
            Rest::Unread(mut body) => {
                let coming = async move {
                    let next = body.chunk().await;
                    (body, next)
                };
                Rest::Coming(coming.boxed_local())
            }
            rest => rest,
        };
        let Rest::Coming(coming) = &mut self.rest else {
            return None;
        };
        let (body, next) = coming.await;
        self.rest = match next {
            Some(Ok(_)) => Rest::Unread(body),
            Some(Err(_)) | None => Rest::Over,
        };
        next
    }
}

impl<B: Body> Body for Content<B> {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        match self.beginning.is_empty() {
            true => self.next().await,
            false => Some(Ok(self.beginning.split().freeze())),
        }
    }
}

/// Why a request is sent to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestReason {
    /// Nothing is stored that serves a visitor who waits.
    Fill,
    /// What is stored is old; visitors get it meanwhile.
    Refresh,
    /// A visitor's request is forwarded.
    Pass,
    /// So is one of an unsafe method.
    Unsafe,
    /// Whether the origin works is not known otherwise.
    Check,
}

impl RequestReason {
    /// All of them.
    pub const ALL: [RequestReason; 5] = [
        RequestReason::Fill,
        RequestReason::Refresh,
        RequestReason::Pass,
        RequestReason::Unsafe,
        RequestReason::Check,
    ];

    /// That of requests that have a slot of this class.
    pub fn of(class: Class) -> Self {
        match class {
            Class::Fill => RequestReason::Fill,
            Class::Refresh => RequestReason::Refresh,
            Class::Pass | Class::Stream => RequestReason::Pass,
            Class::Unsafe => RequestReason::Unsafe,
        }
    }

    /// The word for it in metrics.
    pub const fn token(self) -> &'static str {
        match self {
            RequestReason::Fill => "fill",
            RequestReason::Refresh => "refresh",
            RequestReason::Pass => "pass",
            RequestReason::Unsafe => "unsafe",
            RequestReason::Check => "check",
        }
    }
}

/// A request to the origin.
#[derive(Debug)]
pub struct OriginRequest<B> {
    /// Why it is sent.
    pub reason: RequestReason,
    /// Method, absolute URI and fields.
    pub parts: http::request::Parts,
    /// The content, or none.
    pub body: Option<Content<B>>,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time from the end of the request's content to the response head.
    pub first_byte_timeout: Duration,
    /// Longest pause in the response body.
    pub between_bytes_timeout: Duration,
    /// Whether it goes on a connection that carries no other request, neither before nor
    /// afterwards, where the platform [can](Platform::closes_connections) see to that.
    pub alone: bool,
}

/// The address of the visitor that sent a request, if the platform tells it. The
/// platform puts it into the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitorAddress(
    /// Never an IPv4 address that is written as an IPv6 address.
    pub IpAddr,
);

impl VisitorAddress {
    /// Reads an address as platforms write it, with or without a port:
    /// `192.0.2.7:54321`, `[2001:db8::7]:54321`, `192.0.2.7` or `2001:db8::7`.
    /// Anything else is not an address.
    pub fn parse(text: &str) -> Option<Self> {
        let address = match text.parse::<SocketAddr>() {
            Ok(address) => address.ip(),
            Err(_) => text.parse().ok()?,
        };
        Some(VisitorAddress(address.to_canonical()))
    }
}

/// In a request's extensions: it is no visitor's. The host starts, and wants the instance to
/// begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostStarts;

/// The name of a visitor's request in the log. The platform puts it into the request's
/// extensions, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(
    /// Differs between requests of all nodes, as good as certainly.
    pub u64,
);

impl RequestId {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok()?;
        is_plain.then_some(RequestId(number))
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What helps where the host denies requests to the origin.
const DENIED_REMEDY: &str = "on Spin, let `allowed_outbound_hosts` of the component name the \
    origin by scheme, host and port, and write a path into the variable `origin_path`; on a \
    cloud, its limit of outbound requests may be reached";

/// Why there is no (whole) response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginError {
    /// Not answered in time.
    Timeout,
    /// Not reached: no connection. The text is for the operator's log.
    Unreachable(String),
    /// Broken off before any byte of the response head, as far as the platform can tell: the
    /// origin may have closed a connection that was kept for later requests. The text is for
    /// the operator's log.
    NoHead(String),
    /// Broken off; the text is for the operator's log.
    Failed(String),
    /// Its answer does not end, and `origin.max_streams` such answers are open. The shield
    /// says so, not the platform.
    TooManyStreams,
    /// Not sent: the request could not be made, or the host refused it. Nothing
    /// has reached the origin, so nothing is known about it.
    NotSent(String),
    /// Not sent: the platform does not let the component ask this origin, or not any more.
    Denied,
    /// Not sent: it authenticates its connection, which others use as well. The shield says
    /// so, not the platform.
    ConnectionAuth,
    /// Answered, but the platform does not let the answer's fields through to a visitor.
    /// The text is for the operator's log.
    Fields(String),
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OriginError::Timeout => f.write_str("the origin did not answer in time"),
            OriginError::Unreachable(reason) => {
                write!(f, "the origin could not be reached: {reason}")
            }
            OriginError::NoHead(reason) => {
                write!(f, "the connection ended without an answer: {reason}")
            }
            OriginError::Failed(reason) => write!(f, "the origin could not be asked: {reason}"),
            OriginError::TooManyStreams => f.write_str("too many answers without an end"),
            OriginError::NotSent(reason) => write!(f, "the request was not sent: {reason}"),
            OriginError::Denied => {
                f.write_str("the request was not sent: the host denied it (HttpRequestDenied)")
            }
            OriginError::ConnectionAuth => f.write_str(
                "the request was not sent: it authenticates its connection, which others use",
            ),
            OriginError::Fields(reason) => write!(
                f,
                "the host does not let the fields of the origin's answer through: {reason}"
            ),
        }
    }
}

impl std::error::Error for OriginError {}

impl OriginError {
    /// What the operator can do, where there is one thing.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            OriginError::Denied => Some(DENIED_REMEDY),
            OriginError::Timeout => Some(
                "if this page may take that long, raise origin.first_byte_timeout for it by a rule",
            ),
            OriginError::Unreachable(why) if why.contains("TlsCertificate") => Some(
                "if the certificate is of an authority of your own, name the file of that \
                 authority (SSL_CERT_FILE for `leeward up`); else correct the certificate",
            ),
            OriginError::Unreachable(why) if why.contains("Dns") => {
                Some("correct the host in `origin`, or check the resolver of this machine")
            }
            OriginError::Unreachable(_) => Some(
                "check that the server runs, and that `origin` (or --connect) has its address and \
                 port",
            ),
            OriginError::TooManyStreams => Some("raise origin.max_streams if the origin bears it"),
            OriginError::NoHead(_)
            | OriginError::Failed(_)
            | OriginError::NotSent(_)
            | OriginError::ConnectionAuth
            | OriginError::Fields(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use futures::executor::block_on;
    use std::collections::VecDeque;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::task::Poll;

    /// Pieces, each of which comes when it is asked for a second time.
    struct Slow(VecDeque<&'static str>);

    impl Body for Slow {
        async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
            let piece = self.0.pop_front();
            let mut asked = false;
            futures::future::poll_fn(|context| {
                if std::mem::replace(&mut asked, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            piece.map(|piece| Ok(Bytes::from(piece)))
        }
    }

    fn rest(mut content: Content<Slow>) -> String {
        let mut all = Vec::new();
        while let Some(piece) = block_on(content.chunk()) {
            all.extend_from_slice(&piece.unwrap());
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn what_was_on_its_way_when_reading_was_given_up_is_not_lost() {
        let mut content = Content::unread(Slow(["one ", "two ", "three"].into()));
        for _ in 0..3 {
            // Polled once, and dropped.
            let _ = content.read(100).now_or_never();
        }
        assert_eq!(rest(content), "one two three");
    }

    #[test]
    fn content_that_has_been_read_comes_once() {
        let mut content = Content::unread(Slow(["one ", "two ", "three"].into()));
        block_on(content.read(5)).unwrap();
        let content = content.into_unread().map(drop).unwrap_err();
        assert_eq!(rest(content), "one two three");
        let unread = Content::unread(Slow(["one"].into()));
        assert!(unread.into_unread().is_ok());
    }

    #[test]
    fn the_name_of_a_request_is_read_as_it_is_written() {
        for id in [0, 0xa5, u64::MAX] {
            let id = RequestId(id);
            assert_eq!(RequestId::parse(&id.to_string()), Some(id));
        }
        for text in ["", "a5", "+00000000000000a", "00000000000000a5\n"] {
            assert_eq!(RequestId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_visitors_address_is_read_strictly() {
        let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
        let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));
        for (text, address) in [
            ("192.0.2.7:54321", Some(v4)),
            ("192.0.2.7", Some(v4)),
            ("[::ffff:192.0.2.7]:54321", Some(v4)),
            ("[2001:db8::7]:54321", Some(v6)),
            ("2001:db8::7", Some(v6)),
            ("", None),
            (" 192.0.2.7", None),
            ("192.0.2.7:", None),
            ("192.0.2.7:65536", None),
            ("192.0.2.7, 198.51.100.1", None),
            ("192.0.2.07", None),
            ("localhost:80", None),
            ("unknown", None),
        ] {
            let expected = address.map(VisitorAddress);
            assert_eq!(VisitorAddress::parse(text), expected, "{text}");
        }
    }
}
