//! One request to the stand-in, turned into a response.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};

use super::content::{Answer, Content};

/// Longest request body that is read, in bytes; more is answered 413.
const REQUEST_BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest time that a request body may take to arrive; more is answered 408.
const REQUEST_BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Responses under this path are `private`: no shared cache may store them
/// (RFC 9111, section 5.2.2.7).
pub(crate) const PRIVATE_PATH: &str = "/private/";

/// How long a request takes.
#[derive(Clone, Debug)]
pub(crate) enum Latency {
    /// Always this long.
    Fixed(Duration),
    /// Until a test lets it go: one permit for each request.
    #[cfg(test)]
    Gate(std::sync::Arc<tokio::sync::Semaphore>),
}

impl Latency {
    async fn pass(&self) {
        match self {
            Latency::Fixed(duration) => tokio::time::sleep(*duration).await,
            #[cfg(test)]
            Latency::Gate(gate) => gate
                .acquire()
                .await
                .expect("tests do not close their gates")
                .forget(),
        }
    }
}

/// Answers everything but the stand-in's own statistics.
#[derive(Debug)]
pub(super) struct Answerer {
    latency: Latency,
    cache_control: HeaderValue,
    content: Mutex<Content>,
}

impl Answerer {
    /// One that takes `latency` for each request and lets its responses be
    /// stored for `ttl` and served stale for `stale_while_revalidate`, both in
    /// whole seconds.
    pub(super) fn new(
        latency: Latency,
        ttl: Duration,
        stale_while_revalidate: Duration,
    ) -> Answerer {
        let cache_control = format!(
            "max-age={}, stale-while-revalidate={}",
            ttl.as_secs(),
            stale_while_revalidate.as_secs()
        );
        Answerer {
            latency,
            cache_control: HeaderValue::try_from(cache_control)
                .unwrap_or(HeaderValue::from_static("no-store")),
            content: Mutex::new(Content::new(ttl, SystemTime::now())),
        }
    }

    /// Answers one request, after the latency.
    pub(super) async fn answer<B: Body + Unpin>(
        &self,
        request: Request<B>,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        match head.method {
            Method::GET | Method::HEAD => {
                self.latency.pass().await;
                let if_none_match = head
                    .headers
                    .get(IF_NONE_MATCH)
                    .and_then(|value| value.to_str().ok());
                self.read(&head.method, path, if_none_match)
            }
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
                let size = match tokio::time::timeout(REQUEST_BODY_TIME_MAX, size_of(body)).await {
                    Ok(Ok(size)) => size,
                    Ok(Err(BodyError::TooLarge)) => return plain(StatusCode::PAYLOAD_TOO_LARGE),
                    Ok(Err(BodyError::Broken)) => return plain(StatusCode::BAD_REQUEST),
                    Err(_) => return plain(StatusCode::REQUEST_TIMEOUT),
                };
                self.latency.pass().await;
                if head.method != Method::OPTIONS {
                    self.content
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .change(path);
                }
                let echo = serde_json::json!({
                    "path": path,
                    "method": head.method.as_str(),
                    "body_bytes": size,
                });
                let mut response = json(&echo);
                response
                    .headers_mut()
                    .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            _ => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().insert(
                    ALLOW,
                    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
                );
                response
            }
        }
    }

    fn read(
        &self,
        method: &Method,
        path: &str,
        if_none_match: Option<&str>,
    ) -> Response<Full<Bytes>> {
        let answer = {
            let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
            if method == Method::HEAD {
                content.head(path, if_none_match, Instant::now())
            } else {
                content.get(path, if_none_match, Instant::now())
            }
        };
        let (mut response, etag) = match answer {
            Answer::NotModified { etag } => (plain(StatusCode::NOT_MODIFIED), etag),
            Answer::Full { etag, counter } => {
                let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
                (
                    json(&serde_json::json!({ "path": path, "counter": counter, "time": time })),
                    etag,
                )
            }
        };
        let headers = response.headers_mut();
        let cache_control = if path.starts_with(PRIVATE_PATH) {
            HeaderValue::from_static("private")
        } else {
            self.cache_control.clone()
        };
        headers.insert(CACHE_CONTROL, cache_control);
        if let Ok(etag) = HeaderValue::try_from(etag) {
            headers.insert(ETAG, etag);
        }
        response
    }
}

/// A response that is this JSON and a line end, for those who look at it in a
/// terminal.
pub(super) fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let Ok(mut text) = serde_json::to_vec(value) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR);
    };
    text.push(b'\n');
    let mut response = Response::new(Full::from(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A response that is only its status.
pub(super) fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

enum BodyError {
    TooLarge,
    Broken,
}

/// Reads a body to its end and keeps only its size, in bytes.
async fn size_of<B: Body + Unpin>(mut body: B) -> Result<u64, BodyError> {
    let mut size = 0u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        if let Some(data) = frame.data_ref() {
            size = size.saturating_add(bytes::Buf::remaining(data) as u64);
        }
        if size > REQUEST_BODY_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answerer() -> Answerer {
        Answerer::new(
            Latency::Fixed(Duration::ZERO),
            Duration::from_secs(2),
            Duration::from_secs(30),
        )
    }

    fn request(method: Method, target: &str, body: &'static str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().expect("a request target");
        request
    }

    async fn json_of(response: Response<Full<Bytes>>) -> serde_json::Value {
        let body = response
            .into_body()
            .collect()
            .await
            .expect("a body in memory");
        serde_json::from_slice(&body.to_bytes()).expect("JSON")
    }

    #[tokio::test]
    async fn get_is_cacheable_json_with_a_counter() {
        let answerer = answerer();
        for counter in 1..=2 {
            let response = answerer.answer(request(Method::GET, "/a?b=c", "")).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(
                response.headers()[CACHE_CONTROL],
                "max-age=2, stale-while-revalidate=30"
            );
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
            assert!(
                response.headers()[ETAG]
                    .to_str()
                    .is_ok_and(|etag| etag.starts_with('"'))
            );
            let json = json_of(response).await;
            assert_eq!(
                (&json["path"], &json["counter"]),
                (&"/a?b=c".into(), &counter.into())
            );
            assert!(
                json["time"]
                    .as_str()
                    .is_some_and(|time| time.ends_with('Z'))
            );
        }
    }

    #[tokio::test]
    async fn the_current_etag_is_answered_not_modified() {
        let answerer = answerer();
        for method in [Method::GET, Method::HEAD] {
            let etag = answerer
                .answer(request(Method::GET, "/", ""))
                .await
                .headers()[ETAG]
                .clone();
            let mut conditional = request(method, "/", "");
            conditional
                .headers_mut()
                .insert(IF_NONE_MATCH, etag.clone());
            let response = answerer.answer(conditional).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(response.headers()[ETAG], etag);
            assert!(response.headers().contains_key(CACHE_CONTROL));
            assert_eq!(response.body().size_hint().exact(), Some(0));
        }
    }

    #[tokio::test]
    async fn pages_under_the_private_path_are_private() {
        let answerer = answerer();
        for (path, private) in [
            ("/private/account", true),
            ("/private/account?tab=1", true),
            ("/private", false),
            ("/a/private/b", false),
        ] {
            let response = answerer.answer(request(Method::GET, path, "")).await;
            assert_eq!(
                response.headers()[CACHE_CONTROL] == "private",
                private,
                "{path}"
            );
            assert_eq!(json_of(response).await["path"], path);
        }
    }

    #[tokio::test]
    async fn unsafe_methods_are_echoed_and_not_stored() {
        let answerer = answerer();
        for (method, body) in [
            (Method::POST, "five!"),
            (Method::PUT, ""),
            (Method::DELETE, ""),
            (Method::PATCH, "x"),
        ] {
            let response = answerer.answer(request(method.clone(), "/a", body)).await;
            assert_eq!(response.status(), StatusCode::OK, "{method}");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store", "{method}");
            assert_eq!(
                json_of(response).await,
                serde_json::json!({ "path": "/a", "method": method.as_str(), "body_bytes": body.len() })
            );
        }
    }

    #[tokio::test]
    async fn other_methods_are_not_allowed() {
        for method in ["TRACE", "PURGE"] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let response = answerer().answer(request(method, "/", "")).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert!(response.headers().contains_key(ALLOW));
        }
    }
}
