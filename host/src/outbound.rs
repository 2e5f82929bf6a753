//! Requests that the guest sends: over connections that are kept and used
//! again, `http` and `https`.
//!
//! A request is sent once. hyper sends it again by itself in one case only: a
//! kept connection turns out to be closed before anything was written to it.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Uri;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use leeward::semantics::strip_connection_fields;
use tokio::time::{Instant, Sleep};
use tower_service::Service;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// How long an unused connection is kept. Shorter than the five seconds after
/// which some servers close theirs, because a request that meets that close
/// fails.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Most unused connections that are kept to one host.
const IDLE_PER_HOST_MAX: usize = 32;

/// Time for each of: connecting, the head of the answer, the next part of its
/// body; where the guest sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Largest head of an answer, in bytes.
const RESPONSE_HEAD_BYTES_MAX: usize = 256 * 1024;

/// Most fields of an answer.
const RESPONSE_FIELDS_MAX: usize = 1_000;

/// Sends the requests of all instances. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    client: Client<Bounded<HttpsConnector<HttpConnector>>, WasiBody>,
}

impl Outbound {
    /// With the certificate authorities of this machine, or Mozilla's where it
    /// has none.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let tls = match HttpsConnectorBuilder::new().with_provider_and_native_roots(provider()) {
            Ok(tls) => tls,
            Err(_) => HttpsConnectorBuilder::new()
                .with_provider_and_webpki_roots(provider())
                .context("cannot set up TLS")?,
        };
        let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http1_max_buf_size(RESPONSE_HEAD_BYTES_MAX)
            .http1_max_headers(RESPONSE_FIELDS_MAX)
            .build(Bounded(connector));
        Ok(Self { client })
    }
}

type Sent = Result<(http::Response<WasiBody>, Transmission), Error>;
type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Transmission,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let client = self.client.clone();
        let options = options.unwrap_or_default();
        Box::new(async move {
            let response = send(&client, request, options).await?;
            // The client drives the connection by itself: there is nothing left
            // to do for who waits for the transmission.
            Ok((response, Box::new(async { Ok(()) }) as Transmission))
        })
    }
}

async fn send(
    client: &Client<Bounded<HttpsConnector<HttpConnector>>, WasiBody>,
    mut request: http::Request<WasiBody>,
    options: RequestOptions,
) -> Result<http::Response<WasiBody>, Error> {
    let connect = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
    let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
    let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);

    let mut connection = capture_connection(&mut request);
    let answer = CONNECT_TIMEOUT.scope(connect, client.request(request));
    let mut answer = std::pin::pin!(answer);
    // Until there is a connection, the connector keeps the time; from then on
    // the answer's head has its own.
    let connected = async {
        connection.wait_for_connection_metadata().await;
    };
    let answered = tokio::select! {
        biased;
        answered = &mut answer => Some(answered),
        () = connected => None,
    };
    let answered = match answered {
        Some(answered) => answered,
        None => tokio::time::timeout(first_byte, answer)
            .await
            .map_err(|_| Error::ConnectionReadTimeout)?,
    };
    let mut response = answered.map_err(|error| match error.is_connect() {
        true => classify(&error).unwrap_or(Error::DestinationUnavailable),
        false => classify(&error).unwrap_or(Error::HttpProtocolError),
    })?;
    // WASI HTTP hides `Connection` from guests, so what it names has to go here.
    strip_connection_fields(response.headers_mut());
    Ok(response.map(|body| TimedBody::new(body, between_bytes).boxed_unsync()))
}

/// What went wrong, in the words of WASI HTTP, if any cause of `error` tells.
fn classify(error: &(dyn StdError + 'static)) -> Option<Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<ConnectTimedOut>() {
            return Some(Error::ConnectionTimeout);
        }
        if let Some(error) = error.downcast_ref::<Error>() {
            // The guest's own request body broke off.
            return Some(Error::InternalError(Some(error.to_string())));
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
        // The connection was closed within a message.
        io::ErrorKind::UnexpectedEof => Error::HttpResponseIncomplete,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => Error::DestinationUnavailable,
        // What the resolver says has no kind of its own.
        _ if error.to_string().contains("lookup") => Error::DnsError {
            rcode: Some(error.to_string()),
            info_code: None,
        },
        _ => Error::InternalError(Some(error.to_string())),
    }
}

tokio::task_local! {
    /// How long the request under way lets a new connection take. The client
    /// asks its connector within the request's own task, so it is there to read.
    static CONNECT_TIMEOUT: Duration;
}

/// A connector that is given up when the request's time for it is over.
#[derive(Debug, Clone)]
struct Bounded<C>(C);

/// The time to connect is over.
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

/// The body of an answer, each part of which has to come in time. Whatever ends
/// it early, a reset or a missing last chunk, is an error and never its end.
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

    use http_body_util::{BodyExt as _, Empty};
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
        send(&outbound.client, get(url), RequestOptions::default()).await
    }

    /// Reads one request without a body.
    async fn read_request(stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_connection_is_used_again() {
        let (listener, url) = origin().await;
        let outbound = Outbound::new().unwrap();
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

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error_and_not_an_end() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhi",
        ] {
            let (listener, url) = origin().await;
            let outbound = Outbound::new().unwrap();
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

    #[tokio::test]
    async fn a_request_that_was_read_is_not_sent_again() {
        let (listener, url) = origin().await;
        let outbound = Outbound::new().unwrap();
        // The first request makes the connection one that is used again, where
        // sending once more would be easiest.
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
            sent(&outbound, &url).await.map(drop)
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
        let outbound = Outbound::new().unwrap();
        let options = RequestOptions {
            first_byte_timeout: Some(Duration::from_millis(1)),
            ..RequestOptions::default()
        };
        let silent = send(&outbound.client, get(&url), options).await;
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
