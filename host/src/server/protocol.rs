//! One connection from its first byte: the handshake of TLS, if the node serves HTTPS, and
//! then HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi_http::WasiBody;

use super::connection::Line;
use super::limits::Limits;
use super::wire::Wire;
use super::{Ends, respond};
use crate::reload::Site;
use crate::tls::HTTP_2;

/// Most requests at once on a connection of HTTP/2: what RFC 9113 section 6.5.2 calls the least.
const STREAMS_MAX: u32 = 100;

/// Most requests of one connection that the client has reset before they were looked at. With more, the
/// connection is closed.
const RESET_UNSEEN_MAX: usize = 20;

/// Most streams of one connection that were reset because of the client's errors.
const RESET_FOR_ERRORS_MAX: usize = 100;

/// Bytes of content that a client may send before they are read: of one request, and of all
/// requests of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes of an answer that wait for the client.
const UNSENT_BYTES_MAX: usize = 128 * 1024;

/// How often a client of HTTP/2 is asked whether it is still there, and how long it may
/// take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves one connection.
pub(super) async fn serve_connection(
    line: Arc<Line>,
    peer: SocketAddr,
    site: Arc<Site>,
    limits: Limits,
) {
    let local = line
        .local()
        // Only if the client has gone. Then there is no request either.
        .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let acceptor = site.acceptor();
    let requests = Requests {
        line: Arc::clone(&line),
        ends: Ends {
            peer,
            local,
            is_secure: acceptor.is_some(),
        },
        site,
        limits,
    };
    let wire = Wire(Arc::clone(&line));
    let Some(acceptor) = acceptor else {
        return http1(line, wire, requests).await;
    };
    let Some(stream) = line.shake_hands(acceptor.accept(wire)).await else {
        return;
    };
    if stream.get_ref().1.alpn_protocol() == Some(HTTP_2) {
        line.secured(true);
        http2(line, stream, requests).await;
    } else {
        line.secured(false);
        http1(line, stream, requests).await;
    }
}

async fn http1<T>(line: Arc<Line>, stream: T, requests: Requests)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let clients = &requests.limits.clients;
    let connection = http1::Builder::new()
        // A client may close its side after the request and wait for the answer.
        .half_close(true)
        // `Line` has the limits of time.
        .header_read_timeout(None)
        .max_buf_size(clients.head_bytes)
        .max_headers(clients.head_fields)
        .serve_connection(TokioIo::new(stream), requests);
    line.serve(connection).await;
}

async fn http2<T>(line: Arc<Line>, stream: T, requests: Requests)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let head_bytes = requests.limits.clients.head_bytes;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESET_UNSEEN_MAX)
        .max_local_error_reset_streams(RESET_FOR_ERRORS_MAX)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(UNSENT_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), requests);
    line.serve(connection).await;
}

/// Answers the requests of one connection, each with what answers requests when it comes.
struct Requests {
    line: Arc<Line>,
    ends: Ends,
    site: Arc<Site>,
    limits: Limits,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<WasiBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let serving = self.site.current();
        let (line, ends, limits) = (Arc::clone(&self.line), self.ends, self.limits.clone());
        Box::pin(async move { Ok(respond(&serving, request, ends, &line, &limits).await) })
    }
}
