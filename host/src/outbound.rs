//! Requests that the guest sends, over `http` and `https`. Connections are kept
//! for later requests. One that says `Connection: close` goes on a connection of its own:
//! the guest says so of what authenticates a visitor.
//!
//! A request is sent once, with one exception: if the origin has closed a kept connection
//! and nothing was written to it, hyper takes another one. If something was written, the
//! guest is told whether a byte of an answer came, and repeats what it may.

pub(crate) mod framing;
mod head;
mod progress;
mod quota;
mod route;
mod trust;

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Extensions, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use leeward::platform::spin_fields::CONTENT;
use leeward::semantics::{offers_connection_auth, strip_connection_fields};
use rustls::ClientConfig;
use tokio::time::{Instant, Sleep};
use tower_service::Service;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use self::progress::{ContentEnd, Deadline, Limits, Progress, Traffic, Upload, Watching};
pub(crate) use self::quota::Quota;
pub(crate) use self::route::Route;
use self::route::Routed;
pub(crate) use self::trust::client_config;
use crate::http_behaviour::HttpBehaviour;
use crate::observe::OriginExchange;

/// How long an unused connection is kept. This is less than the five seconds
/// after which some servers close theirs: a request that is sent while the
/// server closes the connection fails.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Most unused connections that are kept to one host.
const IDLE_PER_HOST_MAX: usize = 32;

/// Default time limit for each of: connecting, receiving the head of the answer,
/// and receiving the next part of its body. The guest may set others.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Largest head of an answer, in bytes.
const RESPONSE_HEAD_BYTES_MAX: usize = 256 * 1024;

/// Most fields of an answer.
const RESPONSE_FIELDS_MAX: usize = 1_000;

type Connector = Bounded<Watching<HttpsConnector<Routed<HttpConnector>>>>;
type HttpClient = Client<Connector, WasiBody>;

/// Sends the requests of all instances. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    /// Keeps its connections for later requests.
    pooled: HttpClient,
    /// Opens a connection for each request and closes it after the answer.
    unpooled: HttpClient,
    /// The platform's limit of requests, if one is imposed.
    quota: Option<Quota>,
    behaviour: HttpBehaviour,
}

impl Outbound {
    /// Trusts the certificate authorities of this machine, or Mozilla's list if
    /// the machine has none. Connections follow `route`, if there is one.
    #[cfg(test)]
    fn new(route: Option<Route>) -> anyhow::Result<Self> {
        Self::with(route, client_config(Vec::new())?)
    }

    /// Does TLS as `tls` says. Connections follow `route`, if there is one.
    pub(crate) fn with(route: Option<Route>, tls: ClientConfig) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls);
        let routed = Routed {
            connector: tcp,
            route,
        };
        let https = tls.https_or_http().enable_http1().wrap_connector(routed);
        let connector = Bounded(Watching(https));
        let client = |idle_per_host_max| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(idle_per_host_max)
                .http1_max_buf_size(RESPONSE_HEAD_BYTES_MAX)
                .http1_max_headers(RESPONSE_FIELDS_MAX)
                // Old and home-made servers write such heads, and browsers take them. A
                // space before the colon is removed (RFC 9112 section 5.1), a folded field
                // becomes one line (section 5.2), and a line that is no field is dropped.
                .http1_allow_spaces_after_header_name_in_responses(true)
                .http1_allow_obsolete_multiline_headers_in_responses(true)
                .http1_ignore_invalid_headers_in_responses(true)
                .build(connector.clone())
        };
        Ok(Self {
            pooled: client(IDLE_PER_HOST_MAX),
            unpooled: client(0),
            quota: None,
            behaviour: HttpBehaviour::Own,
        })
    }

    /// The same with a limit of requests.
    pub(crate) fn limited(self, quota: Quota) -> Self {
        Self {
            quota: Some(quota),
            ..self
        }
    }

    /// The same with the behaviour of a platform.
    pub(crate) fn behaving(self, behaviour: HttpBehaviour) -> Self {
        Self { behaviour, ..self }
    }

    /// Whose HTTP it imitates.
    pub(crate) fn behaviour(&self) -> HttpBehaviour {
        self.behaviour
    }

    async fn send(
        &self,
        mut request: http::Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<http::Response<WasiBody>, Error> {
        let connect = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let limits = Limits {
            first_byte: options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT),
            between_bytes,
        };

        request = framing::without_content(request, &CONTENT);
        if request.headers_mut().remove(CONTENT).is_some() {
            // hyper sends a GET with content only if this asks for it.
            let chunked = HeaderValue::from_static("chunked");
            request.headers_mut().insert(TRANSFER_ENCODING, chunked);
        }
        let client = match closes_connection(request.headers()) {
            true => &self.unpooled,
            false => &self.pooled,
        };
        let sent = send_once(client, request, connect, limits).await;
        let (mut response, connection) = sent.map_err(|failure| match self.behaviour {
            HttpBehaviour::Own => failure.error,
            HttpBehaviour::Spin if failure.is_of_connection => Error::HttpProtocolError,
            HttpBehaviour::Spin => failure.error,
        })?;
        if self.behaviour == HttpBehaviour::Own && offers_connection_auth(response.headers()) {
            // The pool neither takes nor hands out a poisoned connection. If the
            // answer has no body, the connection may be in the pool already and
            // another request may just have taken it. That request is safe:
            // nobody has authenticated on the connection, because requests that
            // do so are not sent on pooled connections.
            if let Some(connected) = connection.connection_metadata().as_ref() {
                connected.poison();
            }
        }
        framing::repair_answer(response.headers_mut())?;
        // Guests see none of them (WASI HTTP).
        strip_connection_fields(response.headers_mut());
        Ok(response.map(|body| TimedBody::new(body, between_bytes).boxed_unsync()))
    }
}

/// Whether a request is the last on its connection.
fn closes_connection(fields: &HeaderMap) -> bool {
    let mut lines = fields.get_all(CONNECTION).iter();
    lines.any(|line| line.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Why a request was not answered.
struct Failure {
    error: Error,
    /// Whether there was a connection, and it ended, or did not carry HTTP.
    is_of_connection: bool,
}

impl Failure {
    /// It took too long.
    fn of_time(error: Error) -> Self {
        Self {
            error,
            is_of_connection: false,
        }
    }
}

/// Sends a request. Returns the answer and the connection that it came on.
async fn send_once(
    client: &HttpClient,
    request: http::Request<WasiBody>,
    connect: Duration,
    limits: Limits,
) -> Result<(http::Response<Incoming>, CaptureConnection), Failure> {
    let content = ContentEnd::default();
    let mut request = request.map(|body| Upload::new(body, content.clone()).boxed_unsync());
    let mut connection = capture_connection(&mut request);
    let answer = CONNECT_TIMEOUT.scope(connect, client.request(request));
    let mut answer = std::pin::pin!(answer);
    // The connector limits the time until there is a connection.
    let connected = async {
        connection.wait_for_connection_metadata().await;
    };
    let mut answered = tokio::select! {
        biased;
        answered = &mut answer => Some(answered),
        () = connected => None,
    };
    let traffic = traffic_of(&connection);
    let progress = Progress {
        connected_at: Instant::now(),
        traffic,
        content,
    };
    let answered = loop {
        if let Some(answered) = answered.take() {
            break answered;
        }
        let now = Instant::now();
        let at = match progress.deadline(limits, now) {
            Deadline::Answer(at) if at <= now => {
                return Err(Failure::of_time(Error::ConnectionReadTimeout));
            }
            Deadline::Content(at) if at <= now => {
                return Err(Failure::of_time(Error::ConnectionWriteTimeout));
            }
            Deadline::Answer(at) | Deadline::Content(at) | Deadline::LookAgain(at) => at,
        };
        answered = tokio::time::timeout_at(at, &mut answer).await.ok();
    };
    match answered {
        Ok(response) => Ok((response, connection)),
        Err(error) if error.is_connect() => Err(Failure {
            error: classify(&error).unwrap_or(Error::DestinationUnavailable),
            is_of_connection: false,
        }),
        Err(error) => {
            let is_kept = traffic_of(&connection).is_some_and(|it| it.is_reused_and_silent());
            Err(Failure {
                error: without_head(&error, is_kept),
                is_of_connection: true,
            })
        }
    }
}

/// What the guest is told of an exchange that ended before the head of the answer had come.
/// `is_kept` says that the connection had carried another request, and that no byte of an
/// answer came: the origin had closed it, and the request may be repeated.
fn without_head(error: &hyper_util::client::legacy::Error, is_kept: bool) -> Error {
    match classify(error) {
        Some(error @ Error::HttpRequestBodySize(_)) => error,
        Some(_) if is_kept => Error::ConnectionTerminated,
        Some(error) => match once_connected(error) {
            // A new connection, or a part of an answer.
            Error::ConnectionTerminated => Error::HttpResponseIncomplete,
            error => error,
        },
        None => Error::InternalError(Some(format!(
            "the answer is not HTTP: {}",
            innermost(error)
        ))),
    }
}

fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// What the connection of a request is doing, once it has one.
fn traffic_of(connection: &CaptureConnection) -> Option<Traffic> {
    let mut extras = Extensions::new();
    connection
        .connection_metadata()
        .as_ref()?
        .get_extras(&mut extras);
    extras.remove()
}

type Sent = Result<(http::Response<WasiBody>, Transmission), Error>;
type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outbound {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        self.behaviour.forbids(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        let behaviour = self.behaviour;
        Arc::new(move |name| behaviour.forbids(name))
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Transmission,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let outbound = self.clone();
        let options = options.unwrap_or_default();
        Box::new(async move {
            if let Some(quota) = &outbound.quota
                && !quota.admit().await
            {
                // The platform refused it: the origin was not asked.
                return Err(Error::HttpRequestDenied);
            }
            let exchange = OriginExchange::begin(request.headers_mut());
            let response = match outbound.send(request, options).await {
                Ok(response) => exchange.answered(response),
                Err(error) => {
                    exchange.failed(&error);
                    return Err(error);
                }
            };
            // The client drives the connection by itself, so the transmission
            // needs no further work.
            Ok((response, Box::new(async { Ok(()) }) as Transmission))
        })
    }
}

/// What an error is called after the connection was made. The component takes some errors to
/// mean that there was none, and then tells a visitor that a POST was not sent.
fn once_connected(error: Error) -> Error {
    match error {
        Error::TlsCertificateError | Error::TlsProtocolError => {
            Error::InternalError(Some("TLS failed on the connection".to_owned()))
        }
        Error::ConnectionRefused | Error::DestinationUnavailable | Error::DnsError { .. } => {
            Error::ConnectionTerminated
        }
        other => other,
    }
}

/// Returns the error of WASI HTTP for `error`, if one of its causes is known.
fn classify(error: &(dyn StdError + 'static)) -> Option<Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<ConnectTimedOut>() {
            return Some(Error::ConnectionTimeout);
        }
        if let Some(error) = error.downcast_ref::<Error>() {
            // The content of the guest's request ended early. That is not the
            // origin's failure, and this error is not taken for one.
            return Some(match error {
                Error::HttpRequestBodySize(size) => Error::HttpRequestBodySize(*size),
                _ => Error::HttpRequestBodySize(None),
            });
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_incomplete_message()
        {
            return Some(Error::ConnectionTerminated);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(classify_io(error));
        }
        cause = error.source();
    }
    None
}

fn classify_io(error: &io::Error) -> Error {
    if let Some(inner) = error.get_ref().and_then(|e| e.downcast_ref::<io::Error>()) {
        return classify_io(inner);
    }
    if let Some(error) = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>())
    {
        return match error {
            rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
            _ => Error::TlsProtocolError,
        };
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Error::ConnectionTerminated,
        // The connection was closed in the middle of a message.
        io::ErrorKind::UnexpectedEof => Error::HttpResponseIncomplete,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => Error::DestinationUnavailable,
        // Errors of the resolver have no kind of their own.
        _ if error.to_string().contains("lookup") => Error::DnsError {
            rcode: Some(error.to_string()),
            info_code: None,
        },
        _ => Error::InternalError(Some(error.to_string())),
    }
}

tokio::task_local! {
    /// Time limit of the current request for a new connection. The client calls
    /// its connector in the task of the request, so the connector can read it.
    static CONNECT_TIMEOUT: Duration;
}

/// A connector that fails when the time limit of the request is exceeded.
#[derive(Debug, Clone)]
struct Bounded<C>(C);

/// The time limit for connecting was exceeded.
#[derive(Debug)]
struct ConnectTimedOut;

impl std::fmt::Display for ConnectTimedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("timed out while connecting")
    }
}

impl StdError for ConnectTimedOut {}

type BoxError = Box<dyn StdError + Send + Sync>;

impl<C> Service<Uri> for Bounded<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let timeout = CONNECT_TIMEOUT
            .try_with(|timeout| *timeout)
            .unwrap_or(DEFAULT_TIMEOUT);
        let connecting = tokio::time::timeout(timeout, self.0.call(uri));
        Box::pin(async move {
            match connecting.await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(ConnectTimedOut.into()),
            }
        })
    }
}

/// The body of an answer, with a time limit for each part. A body that ends
/// early, by a reset or without its last chunk, ends with an error.
struct TimedBody {
    incoming: Incoming,
    timeout: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl TimedBody {
    fn new(incoming: Incoming, timeout: Duration) -> Self {
        Self {
            incoming,
            timeout,
            deadline: Box::pin(tokio::time::sleep(timeout)),
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                let next = Instant::now() + self.timeout;
                self.deadline.as_mut().reset(next);
                Poll::Ready(frame.map(|frame| {
                    frame.map_err(|error| classify(&error).unwrap_or(Error::HttpProtocolError))
                }))
            }
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Cursor;
    use std::sync::{Mutex, PoisonError};

    use futures::FutureExt as _;
    use http::Method;
    use http_body_util::{Empty, StreamBody};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

    async fn origin() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        (listener, url)
    }

    fn get(url: &str) -> http::Request<WasiBody> {
        let body = Empty::new().map_err(|never| match never {});
        http::Request::get(url).body(body.boxed_unsync()).unwrap()
    }

    async fn sent(outbound: &Outbound, url: &str) -> Result<http::Response<WasiBody>, Error> {
        outbound.send(get(url), RequestOptions::default()).await
    }

    /// Reads one request without a body, and returns its head in lower case.
    /// Returns `None` if the connection ends first.
    async fn read_head(stream: &mut TcpStream) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        Some(String::from_utf8_lossy(&head).to_ascii_lowercase())
    }

    async fn read_request(stream: &mut TcpStream) -> String {
        read_head(stream).await.unwrap()
    }

    /// An origin that counts its connections and records which request came on
    /// which of them. It gives every request the same answer.
    struct Counting {
        url: String,
        /// The number of the connection, from 0, and the head of the request.
        seen: Arc<Mutex<Vec<(usize, String)>>>,
    }

    impl Counting {
        async fn start(answer: &'static str) -> Self {
            let (listener, url) = origin().await;
            let seen = Arc::new(Mutex::new(Vec::new()));
            let all = Arc::clone(&seen);
            tokio::spawn(async move {
                for connection in 0.. {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let seen = Arc::clone(&all);
                    tokio::spawn(async move {
                        while let Some(head) = read_head(&mut stream).await {
                            let entry = (connection, head);
                            seen.lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(entry);
                            stream.write_all(answer.as_bytes()).await.unwrap();
                        }
                    });
                }
            });
            Self { url, seen }
        }

        /// Sends one request, reads the answer to its end, and returns the
        /// connection and the head as the origin saw them.
        async fn ask(
            &self,
            outbound: &Outbound,
            field: Option<(HeaderName, &'static str)>,
        ) -> (usize, String) {
            let mut request = get(&self.url);
            if let Some((name, value)) = field {
                let value = HeaderValue::from_static(value);
                request.headers_mut().insert(name, value);
            }
            let answer = outbound.send(request, RequestOptions::default()).await;
            answer.unwrap().into_body().collect().await.unwrap();
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.last().unwrap().clone()
        }

        /// How many requests came on this connection.
        fn requests_on(&self, connection: usize) -> usize {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.iter().filter(|(on, _)| *on == connection).count()
        }
    }

    #[tokio::test]
    async fn a_request_that_closes_its_connection_has_it_for_itself() {
        let origin = Counting::start(WHOLE).await;
        let outbound = Outbound::new(None).unwrap();
        // There is a kept connection when it comes.
        let (kept, _) = origin.ask(&outbound, None).await;
        let field = || Some((CONNECTION, "close"));
        let (first, head) = origin.ask(&outbound, field()).await;
        let (second, _) = origin.ask(&outbound, field()).await;
        for _ in 0..3 {
            origin.ask(&outbound, None).await;
        }
        assert_eq!(origin.requests_on(kept), 4);
        assert_eq!(origin.requests_on(first), 1);
        assert_eq!(origin.requests_on(second), 1);
        // A proxy in front of the origin has to close its connection too.
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    }

    /// Where the component cannot see to it, the host does not: as on Spin.
    #[tokio::test]
    async fn as_spin_a_connection_is_used_again_whatever_was_offered_on_it() {
        let origin = Counting::start(
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: NTLM\r\ncontent-length: 2\r\n\r\nno",
        );
        let origin = origin.await;
        let outbound = Outbound::new(None).unwrap().behaving(HttpBehaviour::Spin);
        for _ in 0..3 {
            origin.ask(&outbound, None).await;
        }
        assert_eq!(origin.requests_on(0), 3);
    }

    #[tokio::test]
    async fn a_connection_on_which_ntlm_or_negotiate_was_offered_carries_no_other_request() {
        for answer in [
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: NTLM\r\ncontent-length: 2\r\n\r\nno",
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"a\", Negotiate\r\n\
             content-length: 0\r\n\r\n",
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: NTLM\r\n\
             content-length: 2\r\n\r\nno",
            "HTTP/1.1 200 OK\r\nwww-authenticate: Negotiate oYG2\r\ncontent-length: 2\r\n\r\nhi",
        ] {
            let origin = Counting::start(answer).await;
            let outbound = Outbound::new(None).unwrap();
            for _ in 0..4 {
                let (connection, _) = origin.ask(&outbound, None).await;
                assert_eq!(origin.requests_on(connection), 1, "{answer:?}");
            }
        }
    }

    /// Connections to `origin` go to `listener`.
    fn routed(origin: &str, listener: &TcpListener) -> Outbound {
        let connect = listener.local_addr().unwrap().to_string();
        let route = Route::new(origin.parse().unwrap(), &connect.parse().unwrap());
        Outbound::new(Some(route.unwrap())).unwrap()
    }

    #[tokio::test]
    async fn with_a_connect_address_the_origin_gets_its_own_host_name() {
        let (listener, _) = origin().await;
        let outbound = routed("legacy.example.com:80", &listener);
        let origin = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_request(&mut stream).await;
            stream.write_all(WHOLE.as_bytes()).await.unwrap();
            head
        };
        let (head, response) = tokio::join!(origin, sent(&outbound, "http://legacy.example.com/a"));
        assert_eq!(response.unwrap().status(), 200);
        assert!(head.starts_with("get /a http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: legacy.example.com\r\n"), "{head}");
    }

    #[tokio::test]
    async fn with_a_connect_address_the_certificate_is_asked_for_by_the_origins_name() {
        let (listener, _) = origin().await;
        let outbound = routed("legacy.example.com:443", &listener);
        let origin = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut acceptor = rustls::server::Acceptor::default();
            loop {
                let mut bytes = Vec::new();
                stream.read_buf(&mut bytes).await.unwrap();
                acceptor.read_tls(&mut Cursor::new(bytes)).unwrap();
                if let Some(accepted) = acceptor.accept().ok().unwrap() {
                    return accepted.client_hello().server_name().map(str::to_owned);
                }
            }
        };
        let (name, response) = tokio::join!(origin, sent(&outbound, "https://legacy.example.com/"));
        assert_eq!(name.as_deref(), Some("legacy.example.com"));
        // The origin hung up instead of showing a certificate.
        assert!(response.is_err());
    }

    #[tokio::test]
    async fn a_connection_is_used_again() {
        let (listener, url) = origin().await;
        let outbound = Outbound::new(None).unwrap();
        let origin = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..3 {
                read_request(&mut stream).await;
                stream.write_all(WHOLE.as_bytes()).await.unwrap();
            }
            stream
        };
        let client = async {
            for _ in 0..3 {
                let response = sent(&outbound, &url).await.unwrap();
                let body = response.into_body().collect().await.unwrap();
                assert_eq!(body.to_bytes(), "hi");
            }
        };
        tokio::join!(origin, client);
    }

    /// What the guest gets of these bytes: the fields, but `content-length`, and the body.
    async fn received(answer: &[u8]) -> Result<(Vec<(String, String)>, String), String> {
        let (listener, url) = origin().await;
        let outbound = Outbound::new(None).unwrap();
        let origin = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(answer).await.unwrap();
        };
        let (response, ()) = tokio::join!(sent(&outbound, &url), origin);
        let (parts, body) = response.map_err(|error| error.to_string())?.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?;
        let fields = parts.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        });
        let fields = fields.filter(|(name, _)| name != "content-length");
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok((fields.collect(), text))
    }

    #[tokio::test]
    async fn heads_as_old_servers_write_them_are_repaired_or_their_lines_dropped() {
        const POLICY: &str = "content-security-policy";
        for (lines, expected) in [
            ("X-XSS-Protection : 1", &[("x-xss-protection", "1")][..]),
            ("Set-Cookie\t \t: a=b", &[("set-cookie", "a=b")]),
            (
                "Content-Security-Policy:\r\n     default-src 'self';\r\n\timg-src *",
                &[(POLICY, "default-src 'self'; img-src *")],
            ),
            // Restrictions are not lost.
            (
                "Cache-Control: private\u{1}, max-age=60",
                &[("cache-control", "private , max-age=60")],
            ),
            (
                "Cache-Control: max-age=60,\r\n private\r\nVia: 1.0 a",
                &[("cache-control", "max-age=60, private"), ("via", "1.0 a")],
            ),
            (
                "X-A: 1\r\nGröße: 5\r\nX-B: 2",
                &[("x-a", "1"), ("x-b", "2")],
            ),
            (
                "X-A: 1\r\nno field\r\nX-B: 2",
                &[("x-a", "1"), ("x-b", "2")],
            ),
            ("Powered By: us\r\nX-B: 2", &[("x-b", "2")]),
            (": nothing\r\nX-B: 2", &[("x-b", "2")]),
            // What continues a line that is dropped goes with it.
            ("no field\r\n X-A: 1\r\nX-B: 2", &[("x-b", "2")]),
            (" X-A: 1\r\nX-B: 2", &[("x-b", "2")]),
            ("X-A: größe", &[("x-a", "größe")]),
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\nContent-Length : 4\r\n\r\npage");
            let (fields, body) = received(answer.as_bytes()).await.unwrap();
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!((fields, body.as_str()), (expected, "page"), "{lines}");
        }
    }

    #[tokio::test]
    async fn answers_of_other_times_and_servers_are_read_to_their_end() {
        for answer in [
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n\
             Content-Length: 4\r\n\r\npage",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage",
            "HTTP/1.0 200 OK\r\n\r\npage",
            "HTTP/1.1 200\r\nContent-Length: 4\r\n\r\npage",
            "HTTP/1.1 200 OK\nContent-Length: 4\n\npage",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             4;n=1\r\npage\r\n0\r\nX-Sum: 1\r\n\r\n",
            // No coding.
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\npage",
            // Chunks have precedence over a length.
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\npage\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 200\r\n\r\n\
             4\r\npage\r\n0\r\n\r\n",
        ] {
            let received = received(answer.as_bytes()).await;
            let expected = Ok((Vec::new(), "page".to_owned()));
            assert_eq!(received, expected, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_in_a_transfer_coding_other_than_chunked_is_a_failure() {
        for coding in ["gzip", "gzip, chunked", "chunked, chunked", "Deflate"] {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n4\r\npage\r\n0\r\n\r\n"
            );
            let text = received(answer.as_bytes()).await.unwrap_err();
            assert!(text.contains("transfer coding"), "{coding}: {text}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error_and_not_an_end() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhi",
        ] {
            let (listener, url) = origin().await;
            let outbound = Outbound::new(None).unwrap();
            let origin = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_request(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let (response, ()) = tokio::join!(sent(&outbound, &url), origin);
            let outcome = response.unwrap().into_body().collect().await;
            assert!(
                matches!(outcome, Err(Error::HttpResponseIncomplete)),
                "{answer:?}: {outcome:?}"
            );
        }
    }

    /// An origin that answers the first request on each of its connections, and
    /// closes the connection when it has read the second. Ends after `connections`
    /// connections, with the number of requests that it has read.
    async fn closing(listener: &TcpListener, connections: usize) -> usize {
        let mut requests = 0;
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(WHOLE.as_bytes()).await.unwrap();
            requests += 1;
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap_or(0) > 0 {
                requests += 1;
            }
        }
        requests
    }

    /// The component repeats a GET that ended so, and no other.
    #[tokio::test]
    async fn a_kept_connection_that_ended_without_an_answer_is_told_apart() {
        for (behaviour, expected) in [
            (HttpBehaviour::Own, Error::ConnectionTerminated),
            (HttpBehaviour::Spin, Error::HttpProtocolError),
        ] {
            let (listener, url) = origin().await;
            let outbound = Outbound::new(None).unwrap().behaving(behaviour);
            let client = async {
                let response = sent(&outbound, &url).await.unwrap();
                response.into_body().collect().await.unwrap();
                sent(&outbound, &url).await.map(drop)
            };
            let (requests, outcome) = tokio::join!(closing(&listener, 1), client);
            assert_eq!(requests, 2);
            let error = outcome.unwrap_err();
            assert_eq!(error.to_string(), expected.to_string(), "{behaviour:?}");
            // Nobody has connected again.
            assert!(listener.accept().now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn an_exchange_that_ended_otherwise_is_told_apart() {
        for (answer, expected) in [
            ("", "incomplete HTTP response"),
            ("HTTP/1.1 200 OK\r\nserv", "incomplete HTTP response"),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "the answer is not HTTP"),
        ] {
            let (listener, url) = origin().await;
            let outbound = Outbound::new(None).unwrap();
            let origin = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_request(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let ((), outcome) = tokio::join!(origin, sent(&outbound, &url));
            let text = outcome.unwrap_err().to_string();
            assert!(text.contains(expected), "{answer:?}: {text}");
            // Nobody has connected again.
            assert!(listener.accept().now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn an_upload_whose_origin_stops_reading_is_ended() {
        let (listener, url) = origin().await;
        let outbound = Outbound::new(None).unwrap();
        let options = RequestOptions {
            first_byte_timeout: Some(Duration::from_secs(3_600)),
            between_bytes_timeout: Some(Duration::from_millis(1)),
            ..RequestOptions::default()
        };
        // Endless content, and an origin that reads none of it.
        let part = || Ok(Frame::data(Bytes::from(vec![0; 64 * 1024])));
        let content = StreamBody::new(futures::stream::repeat_with(part)).boxed_unsync();
        let mut request = get(&url).map(|_| content);
        *request.method_mut() = Method::POST;
        let origin = listener.accept();
        let (_stream, outcome) = tokio::join!(origin, outbound.send(request, options));
        assert!(
            matches!(outcome, Err(Error::ConnectionWriteTimeout)),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn content_that_breaks_off_is_not_the_origins_failure() {
        let (listener, url) = origin().await;
        let outbound = Outbound::new(None).unwrap();
        let parts = [
            Ok(Frame::data(Bytes::from_static(b"x"))),
            Err(Error::ConnectionTerminated),
        ];
        let content = StreamBody::new(futures::stream::iter(parts)).boxed_unsync();
        let mut request = get(&url).map(|_| content);
        *request.method_mut() = Method::POST;
        let origin = listener.accept();
        let options = RequestOptions::default();
        let (_stream, outcome) = tokio::join!(origin, outbound.send(request, options));
        assert!(
            matches!(outcome, Err(Error::HttpRequestBodySize(None))),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn a_post_on_a_kept_connection_that_ended_is_not_repeated() {
        let (listener, url) = origin().await;
        let outbound = Outbound::new(None).unwrap();
        // The first request makes the connection a kept one: there a client
        // could repeat a request most easily.
        let origin = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(WHOLE.as_bytes()).await.unwrap();
            read_request(&mut stream).await;
            drop(stream);
        };
        let client = async {
            let response = sent(&outbound, &url).await.unwrap();
            response.into_body().collect().await.unwrap();
            let mut post = get(&url);
            *post.method_mut() = Method::POST;
            let options = RequestOptions::default();
            outbound.send(post, options).await.map(drop)
        };
        let ((), outcome) = tokio::join!(origin, client);
        assert!(
            matches!(outcome, Err(Error::ConnectionTerminated)),
            "{outcome:?}"
        );
    }

    #[tokio::test]
    async fn an_origin_that_refuses_or_is_silent_is_told_apart() {
        let (listener, url) = origin().await;
        let outbound = Outbound::new(None).unwrap();
        let options = RequestOptions {
            first_byte_timeout: Some(Duration::from_millis(1)),
            ..RequestOptions::default()
        };
        let silent = outbound.send(get(&url), options).await;
        assert!(
            matches!(silent, Err(Error::ConnectionReadTimeout)),
            "{silent:?}"
        );
        drop(listener);
        let refused = sent(&outbound, &url).await;
        assert!(
            matches!(refused, Err(Error::ConnectionRefused)),
            "{refused:?}"
        );
    }

    #[test]
    fn an_error_on_a_connection_does_not_count_as_none() {
        let tls = once_connected(Error::TlsProtocolError);
        assert!(matches!(tls, Error::InternalError(Some(_))), "{tls:?}");
        let refused = once_connected(Error::ConnectionRefused);
        assert!(
            matches!(refused, Error::ConnectionTerminated),
            "{refused:?}"
        );
        let other = once_connected(Error::HttpProtocolError);
        assert!(matches!(other, Error::HttpProtocolError), "{other:?}");
    }

    #[test]
    fn causes_are_found_however_deep_they_are_wrapped() {
        let certificate = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let wrapped = io::Error::other(io::Error::other(certificate));
        assert!(matches!(
            classify(&wrapped),
            Some(Error::TlsCertificateError)
        ));
        let wrapped = io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(matches!(
            classify(&wrapped),
            Some(Error::ConnectionTerminated)
        ));
        assert!(classify(&std::fmt::Error).is_none());
    }
}
