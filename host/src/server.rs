//! HTTP/1.1 in front of the component: takes connections, hands requests to
//! instances, sends what they answer, and stops when asked to.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use leeward::semantics::strip_connection_fields;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wasmtime_wasi_http::handler::ProxyHandler;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::instances::{Fate, Instances};

/// Most connections at once; those beyond wait in the system's queue.
const CONNECTIONS_MAX: usize = 8_192;

/// Largest head of a request, in bytes. The guest has a smaller limit of its
/// own and answers 414 and 431 in its own words; beyond this one hyper does.
const REQUEST_HEAD_BYTES_MAX: usize = 256 * 1024;

/// Most fields of a request, as above.
const REQUEST_FIELDS_MAX: usize = 1_000;

/// How long a connection may be without a complete head of a request: a client
/// that sends slowly, or one that keeps its connection for later.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait after the system refused a connection, as when it is out of
/// file descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How long, in all, requests in flight and work behind their answers may take
/// to finish once the host was asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What every answer says about the cache (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Fields by which Spin tells a component about the request's way to it. They
/// are the host's to set: what a visitor sent under these names is dropped.
const SPIN_FIELDS: &str = "spin-";
const SPIN_CLIENT_ADDR: HeaderName = HeaderName::from_static("spin-client-addr");
const SPIN_FULL_URL: HeaderName = HeaderName::from_static("spin-full-url");

/// Serves until `stop` is ready, then finishes what is in flight, for a bounded
/// time.
pub(crate) async fn serve(
    listener: TcpListener,
    instances: Instances,
    stop: impl Future<Output = ()>,
) {
    let handler = ProxyHandler::new(instances);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            // Fails only once it is closed, which it never is.
            let slot = Arc::clone(&connections).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("cannot take a connection: {error}");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let serving = serve_connection(stream, peer, handler.clone(), &graceful);
        tokio::spawn(async move {
            serving.await;
            drop(slot);
        });
    }
    drop(listener);

    let deadline = Instant::now() + STOP_TIMEOUT;
    let finish = async {
        graceful.shutdown().await;
        handler.state().close().await;
    };
    if tokio::time::timeout_at(deadline, finish).await.is_err() {
        eprintln!(
            "stopped with work unfinished: it took longer than {} s",
            STOP_TIMEOUT.as_secs()
        );
    }
}

/// What is to be done for one connection; it ends early, between two requests,
/// when `graceful` shuts down.
fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    handler: ProxyHandler<Instances>,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + Send + use<> {
    // Answers are written in few pieces; waiting to fill a packet only delays.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(respond(&handler, request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        .max_headers(REQUEST_FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    async move {
        // What ends a connection early concerns its client alone: it left, or
        // it was shown that an answer is incomplete.
        drop(connection.await);
    }
}

/// Answers one request.
async fn respond(
    handler: &ProxyHandler<Instances>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<WasiBody> {
    let request = match admit(request, peer) {
        Ok(request) => request,
        Err((status, text)) => return plain(status, text, "leeward;detail=refused"),
    };
    let request = request.map(|body| body.map_err(Error::from).boxed_unsync());
    let fate = Arc::new(Fate::default());
    match handler.handle(Arc::clone(&fate), request).await {
        Ok(response) => response.map(|body| WholeOrBroken { body, fate }.boxed_unsync()),
        Err(error) => {
            eprintln!("a request was not answered by the component: {error:#}");
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Leeward failed on this request; its log says why.\n",
                "leeward;detail=failed",
            )
        }
    }
}

/// Readies a request for the guest as Spin does: with an absolute URI, and with
/// the fields that tell where it came from.
fn admit(
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Request<Incoming>, (StatusCode, &'static str)> {
    if asks_for_another_protocol(request.headers()) {
        // The guest cannot say so: WASI HTTP hides these fields from it.
        return Err((
            StatusCode::NOT_IMPLEMENTED,
            "Leeward does not switch to another protocol.\n",
        ));
    }
    let uri = absolute(request.method(), request.uri(), request.headers())
        .map_err(|text| (StatusCode::BAD_REQUEST, text))?;
    let full_url = HeaderValue::try_from(uri.to_string());
    let client = HeaderValue::try_from(peer.to_string());
    *request.uri_mut() = uri;

    let forged: Vec<HeaderName> = request
        .headers()
        .keys()
        .filter(|name| name.as_str().starts_with(SPIN_FIELDS))
        .cloned()
        .collect();
    let fields = request.headers_mut();
    // WASI HTTP hides `Connection` from guests, so what it names has to go here.
    strip_connection_fields(fields);
    for name in forged {
        fields.remove(name);
    }
    for (name, value) in [(SPIN_FULL_URL, full_url), (SPIN_CLIENT_ADDR, client)] {
        if let Ok(value) = value {
            fields.insert(name, value);
        }
    }
    Ok(request)
}

/// Whether the client insists on another protocol, as WebSocket clients do. An
/// offer of HTTP/2 is no insisting: ignoring it is the right answer to it.
fn asks_for_another_protocol(fields: &HeaderMap) -> bool {
    fields.get_all(header::UPGRADE).iter().any(|value| {
        value
            .as_bytes()
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
            .any(|protocol| !protocol.is_empty() && !protocol.eq_ignore_ascii_case(b"h2c"))
    })
}

/// The URI with its scheme and authority, which a request to a server leaves
/// out (RFC 9112, section 3.3).
fn absolute(method: &Method, uri: &Uri, fields: &HeaderMap) -> Result<Uri, &'static str> {
    let mut hosts = fields.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(
            Authority::try_from(host.as_bytes())
                .map_err(|_| "The Host field of this request is no host.\n")?,
        ),
        (None, None) => None,
        (_, Some(_)) => return Err("This request has more than one Host field.\n"),
    };
    let mut parts = uri.clone().into_parts();
    // RFC 9112, section 3.2.2: an authority in the request line has precedence.
    let authority = parts
        .authority
        .take()
        .or(host)
        .ok_or("This request has no Host field.\n")?;
    parts.authority = Some(authority);
    parts.scheme = Some(Scheme::HTTP);
    if parts.path_and_query.is_none() {
        // CONNECT has no path, and a URI with a scheme must have one.
        debug_assert_eq!(method, Method::CONNECT);
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    Uri::from_parts(parts).map_err(|_| "The target of this request is no URI.\n")
}

/// An answer of the host itself, with what the component's own would carry.
fn plain(status: StatusCode, text: &'static str, cache_status: &'static str) -> Response<WasiBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fields = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (CACHE_STATUS, cache_status),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The body of an answer. If its instance dies, it ends with an error, and so
/// the connection breaks and the client sees that something is missing.
struct WholeOrBroken {
    body: WasiBody,
    fate: Arc<Fate>,
}

impl Body for WholeOrBroken {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.fate.is_dead() {
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.fate.is_dead()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]

    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|&(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn the_guest_sees_an_absolute_uri() {
        for (method, target, host, seen) in [
            (Method::GET, "/a?b=1", &["h"][..], Ok("http://h/a?b=1")),
            (Method::GET, "/", &["h:81"], Ok("http://h:81/")),
            (Method::GET, "http://a/x", &["h"], Ok("http://a/x")),
            (Method::GET, "http://a/x", &[], Ok("http://a/x")),
            (Method::OPTIONS, "*", &["h"], Ok("http://h*")),
            (Method::CONNECT, "a:443", &["a:443"], Ok("http://a:443/")),
            (Method::GET, "/", &[], Err("no Host field")),
            (
                Method::GET,
                "/",
                &["h", "h"],
                Err("more than one Host field"),
            ),
            (Method::GET, "/", &["a b"], Err("no host")),
        ] {
            let host: Vec<_> = host.iter().map(|&host| ("host", host)).collect();
            let mut map = HeaderMap::new();
            for (name, value) in host {
                map.append(name, HeaderValue::from_static(value));
            }
            let uri = absolute(&method, &target.parse().unwrap(), &map);
            match (uri, seen) {
                (Ok(uri), Ok(seen)) => assert_eq!(uri.to_string(), seen, "{target}"),
                (Err(text), Err(seen)) => assert!(text.contains(seen), "{target}: {text}"),
                (uri, seen) => panic!("{target}: {uri:?} instead of {seen:?}"),
            }
        }
    }

    #[test]
    fn only_insisting_on_another_protocol_is_refused() {
        for (value, refused) in [
            ("websocket", true),
            ("h2c", false),
            ("H2C", false),
            ("h2c, websocket", true),
            ("", false),
        ] {
            let fields = fields(&[("upgrade", value)]);
            assert_eq!(asks_for_another_protocol(&fields), refused, "{value:?}");
        }
        assert!(!asks_for_another_protocol(&HeaderMap::new()));
    }
}
