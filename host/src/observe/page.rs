//! The metrics for whoever reads them: on a listener of their own, and after those of the
//! component.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, WasiBody};

use super::metrics::TEXT;
use super::observed;

/// The path of the component's own metrics.
const COMPONENT: &str = "/.leeward/metrics";

/// How the media type of those that can be appended to begins.
const COMPONENT_TYPE: &[u8] = b"text/plain; version=0.0.4";

/// Most connections at once. Others wait.
const CONNECTIONS_MAX: usize = 32;

/// Longest that a request may take to come, and a connection to be served.
const HEAD_MAX: Duration = Duration::from_secs(10);
const CONNECTION_MAX: Duration = Duration::from_secs(60);

/// Pause after the system failed to accept a connection.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Serves `/metrics` as long as the process lives.
pub(super) async fn serve(listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            continue;
        };
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // What fails concerns that client alone.
            drop(tokio::time::timeout(CONNECTION_MAX, connection).await);
            drop(slot);
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, text) = match (request.uri().path(), is_read, observed()) {
        ("/metrics", true, Some(observed)) => (StatusCode::OK, TEXT, observed.metrics.text()),
        ("/metrics", false, _) => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "This is read with GET.\n".to_owned(),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "The metrics are at /metrics.\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// The answer to a request for this path; with the metrics of the host at its end, if it has
/// those of the component.
pub(crate) fn with_metrics(path: &str, response: Response<WasiBody>) -> Response<WasiBody> {
    if path != COMPONENT || response.status() != StatusCode::OK || response.body().is_end_stream() {
        return response;
    }
    // The origin's answers have one, and go to visitors.
    if response.headers().contains_key("cache-status") {
        return response;
    }
    let kind = response.headers().get(CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(COMPONENT_TYPE));
    let Some(observed) = observed().filter(|_| is_text) else {
        return response;
    };
    appended(response, observed.metrics.text())
}

fn appended(mut response: Response<WasiBody>, text: String) -> Response<WasiBody> {
    response.headers_mut().remove(CONTENT_LENGTH);
    response.map(|body| {
        let further = Some(Bytes::from(text));
        Appended { body, further }.boxed_unsync()
    })
}

/// A body, and more bytes after it.
struct Appended {
    body: WasiBody,
    further: Option<Bytes>,
}

impl Body for Appended {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(None) => {
                let further = self.further.take();
                Poll::Ready(further.map(|bytes| Ok(Frame::data(bytes))))
            }
            // Nothing may follow trailers.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {
                let further = self.further.take();
                Poll::Ready(further.map(|bytes| Ok(Frame::data(bytes))))
            }
            frame => frame,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn the_metrics_of_the_host_follow_those_of_the_component() {
        let body = Full::new(Bytes::from_static(b"leeward_entries 3\n"));
        let body = body.map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        let length = HeaderValue::from_static("18");
        response.headers_mut().insert(CONTENT_LENGTH, length);
        let response = appended(response, "leeward_waiting 0\n".to_owned());
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&bytes[..], b"leeward_entries 3\nleeward_waiting 0\n");
    }
}
