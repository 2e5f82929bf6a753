//! The HTTP server in front of the component. It accepts connections, passes
//! requests to instances, sends their answers, and stops when asked to.
//!
//! `accept` accepts connections and stops, `protocol` is a connection from its first byte,
//! `version2` what is different in HTTP/2, `wire` the bytes below both, `limits` has what
//! clients may use, `connection` does what one connection's limits say, `activity` decides
//! when they are reached, `connections` those of all, and `content` those of a request's
//! content.

mod accept;
mod activity;
mod connection;
mod connections;
mod content;
mod limits;
mod protocol;
mod version2;
mod wire;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use leeward::platform::spin_fields::{CLIENT_WATCH, CONTENT, REQUEST_ID, START};
use leeward::semantics::{is_host_and_port, is_upgrade, strip_connection_fields};
use leeward::shield::platform::RequestId;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error, WasiBody};

pub(crate) use self::accept::serve;
use self::connection::{InFlight, Line};
use self::content::{ClientWatch, Content, Fault, Verdict};
pub(crate) use self::limits::{ClientOptions, Limits};
use self::version2::Abandoned;
use crate::fate::Fate;
use crate::http_behaviour::HttpBehaviour;
use crate::limits::{Limit, Limiter};
use crate::observe::{self, Visitor};
use crate::outbound::framing;
use crate::reload::Serving;
use crate::report;

/// How the cache handled the request (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// `Cache-Status` of an answer to a request that the component never saw.
const REFUSED: &str = "leeward;detail=refused";

/// What a client is told whose target is none.
const NO_TARGET: &str = "The target of this request is not valid.\n";

/// Prefix of the fields in which Spin tells a component where a request came
/// from. The host sets them; fields of a visitor with this prefix are removed.
const SPIN_FIELDS: &str = "spin-";
const SPIN_CLIENT_ADDR: HeaderName = HeaderName::from_static("spin-client-addr");
const SPIN_FULL_URL: HeaderName = HeaderName::from_static("spin-full-url");

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
struct Ends {
    peer: SocketAddr,
    local: SocketAddr,
    /// Whether the client speaks TLS.
    is_secure: bool,
}

impl Ends {
    fn scheme(&self) -> Scheme {
        match self.is_secure {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        }
    }
}

/// Answers one request.
async fn respond(
    serving: &Serving,
    request: Request<Incoming>,
    ends: Ends,
    line: &Arc<Line>,
    limits: &Limits,
) -> Response<WasiBody> {
    let fate = Arc::new(Fate::default());
    let in_answer = InFlight::answer(line);
    let mut visitor = Visitor::begin(&request, ends.peer.ip());
    let id = visitor.id();
    let abandoned = Abandoned::unless_answered(line);
    let response = answer(serving, request, ends, line, limits, (&fate, id)).await;
    abandoned.answered();
    // Elsewhere the component says it, as it does on the host that is imitated.
    visitor.answer(&response, limits.behaviour == HttpBehaviour::Own);
    let response = observe::with_metrics(visitor.path(), response);
    response.map(|body| {
        fate.take(body);
        let body = WholeOrBroken {
            fate,
            left: limits.platform.limits().body_bytes,
            platform: limits.platform.clone(),
            visitor,
            in_flight: in_answer,
        };
        body.boxed_unsync()
    })
}

async fn answer(
    serving: &Serving,
    request: Request<Incoming>,
    ends: Ends,
    line: &Arc<Line>,
    limits: &Limits,
    (fate, id): (&Arc<Fate>, RequestId),
) -> Response<WasiBody> {
    let has_content = !request.body().is_end_stream();
    let has_length = request.headers().contains_key(header::CONTENT_LENGTH);
    let fields_max = limits.clients.head_fields;
    let admitted = version2::as_version1(request, fields_max)
        .and_then(|request| admit(request, ends, limits.behaviour));
    let mut request = match admitted {
        Ok(request) => request,
        Err((status, text)) => return plain(status, text, REFUSED),
    };
    let is_own = limits.behaviour == HttpBehaviour::Own;
    if is_own && let Ok(id) = HeaderValue::try_from(id.to_string()) {
        request.headers_mut().insert(REQUEST_ID, id);
    }
    if has_content && !has_length && is_own {
        // WASI HTTP hides `Transfer-Encoding` from guests.
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(CONTENT, chunked);
    }
    // Guests forward the content of other methods without looking at it.
    let is_watched = is_own
        && !has_content
        && !has_length
        && matches!(*request.method(), Method::GET | Method::HEAD);
    let (most, is_of_platform) = limits.request_body(serving.request_body);
    let (answered, until_answered) = oneshot::channel();
    let verdict = Arc::new(Verdict::default());
    let request = if is_watched {
        let value = HeaderValue::from_static("1");
        request.headers_mut().insert(CLIENT_WATCH, value);
        request.map(|_| ClientWatch::new(Arc::clone(line), until_answered).boxed_unsync())
    } else {
        let in_flight = has_content.then(|| InFlight::content(line));
        let pause = limits.clients.content_timeout;
        let verdict = Arc::clone(&verdict);
        request.map(|body| Content::new(body, most, pause, verdict, in_flight).boxed_unsync())
    };
    let outcome = serving.handler.handle(Arc::clone(fate), request).await;
    // If the client resets its request, this is not reached.
    let _ = answered.send(());
    if is_of_platform && verdict.fault() == Some(Fault::TooLong) {
        limits.platform.reached(Limit::RequestBody);
    }
    match (verdict.fault(), outcome) {
        // The component cannot know the reason. It sees that the content broke off.
        (Some(fault), _) => refused(fault),
        (None, Ok(response)) if is_too_long(&response, &limits.platform) => {
            limits.platform.reached(Limit::ResponseBody);
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The answer is longer than the platform allows.\n",
                REFUSED,
            )
        }
        (None, Ok(response)) => response,
        (None, Err(error)) => {
            report::event(
                "request-failed",
                format_args!("the component did not answer a request: {error:#}"),
            );
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Leeward failed on this request. The reason is in its log.\n",
                "leeward;detail=failed",
            )
        }
    }
}

/// A request of the host itself: the instance is to begin its work.
pub(crate) fn start_request() -> Request<WasiBody> {
    let body = Empty::new().map_err(|never| match never {});
    let mut request = Request::new(body.boxed_unsync());
    *request.uri_mut() = Uri::from_static("http://localhost/");
    let start = HeaderValue::from_static("1");
    request.headers_mut().insert(START, start);
    request
}

/// The answer to a request with such content.
fn refused(fault: Fault) -> Response<WasiBody> {
    let (status, text) = match fault {
        Fault::TooLong => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "The content of this request is too long.\n",
        ),
        Fault::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "The content of this request did not arrive in time.\n",
        ),
        Fault::Malformed => (
            StatusCode::BAD_REQUEST,
            "The content of this request is not in valid chunks.\n",
        ),
    };
    plain(status, text, REFUSED)
}

/// Whether an answer announces more content than the platform allows.
fn is_too_long(response: &Response<WasiBody>, platform: &Limiter) -> bool {
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
    let most = platform.limits().body_bytes;
    // The answer to a HEAD has a length and no content.
    !response.body().is_end_stream() && length.zip(most).is_some_and(|(length, most)| length > most)
}

/// Prepares a request for the guest as Spin does: with an absolute URI, and with
/// the fields that say where it came from.
fn admit<B>(
    mut request: Request<B>,
    ends: Ends,
    behaviour: HttpBehaviour,
) -> Result<Request<B>, (StatusCode, &'static str)> {
    if is_upgrade(request.method(), request.headers()) {
        // The guest cannot check this: WASI HTTP hides these fields from it.
        return Err((
            StatusCode::NOT_IMPLEMENTED,
            "Leeward does not support CONNECT or switching to another protocol.\n",
        ));
    }
    if !framing::is_plain(request.headers()) {
        return Err((
            StatusCode::NOT_IMPLEMENTED,
            "Leeward supports no transfer coding other than chunked.\n",
        ));
    }
    if !is_target(request.method(), request.uri()) {
        return Err((StatusCode::BAD_REQUEST, NO_TARGET));
    }
    let authority =
        authority(&request, ends.local).map_err(|text| (StatusCode::BAD_REQUEST, text))?;
    let uri = absolute(request.uri(), authority, ends.scheme())
        .map_err(|text| (StatusCode::BAD_REQUEST, text))?;
    let full_url = HeaderValue::try_from(uri.to_string());
    let client = HeaderValue::try_from(ends.peer.to_string());
    *request.uri_mut() = uri;

    let forged: Vec<HeaderName> = request
        .headers()
        .keys()
        .filter(|name| name.as_str().starts_with(SPIN_FIELDS))
        .cloned()
        .collect();
    let fields = request.headers_mut();
    // WASI HTTP hides `Connection` from guests, so the fields that it names are
    // removed here.
    strip_connection_fields(fields);
    if behaviour == HttpBehaviour::Own {
        for name in forged {
            fields.remove(name);
        }
    }
    for (name, value) in [(SPIN_FULL_URL, full_url), (SPIN_CLIENT_ADDR, client)] {
        if let Ok(value) = value {
            fields.append(name, value);
        }
    }
    Ok(request)
}

/// Whether a target has a form that its method allows (RFC 9112 section 3.2). CONNECT, which
/// has one of its own, is refused before.
fn is_target(method: &Method, uri: &Uri) -> bool {
    // `a:80`, and `a`, are authorities alone.
    let is_authority = uri.authority().is_some() && uri.scheme().is_none();
    let is_asterisk = uri.path() == "*";
    !is_authority && (!is_asterisk || method == Method::OPTIONS)
}

/// Returns the authority that a request is for.
fn authority<B>(request: &Request<B>, local: SocketAddr) -> Result<Authority, &'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.as_bytes()),
        (None, None) => None,
        (_, Some(_)) => return Err("This request has more than one Host field.\n"),
    };
    let host = match host {
        Some(b"") => None,
        Some(host) => match Authority::try_from(host) {
            Ok(host) if is_host_and_port(host.as_str()) => Some(host),
            Ok(_) | Err(_) => return Err("The Host field is not valid.\n"),
        },
        // Only HTTP/1.1 requires the field (RFC 9112, section 3.2). A target in
        // absolute form makes up for it.
        None if request.version() >= Version::HTTP_11 && request.uri().authority().is_none() => {
            return Err("This request has no Host field.\n");
        }
        None => None,
    };
    // An authority in the request line has precedence (RFC 9112, section 3.2.2).
    match request.uri().authority().cloned().or(host) {
        Some(authority) if is_host_and_port(authority.as_str()) => return Ok(authority),
        Some(_) => return Err(NO_TARGET),
        None => {}
    }
    // Without the scope that the text of an IPv6 address may have.
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    Authority::try_from(local.to_string()).map_err(|_| "This request has no Host field.\n")
}

/// Returns `uri` with its scheme and this authority, which a request to a server
/// leaves out (RFC 9112, section 3.3), and with a path.
fn absolute(uri: &Uri, authority: Authority, scheme: Scheme) -> Result<Uri, &'static str> {
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(authority);
    parts.scheme = Some(scheme);
    let target = parts.path_and_query.as_ref().map(PathAndQuery::as_str);
    match target {
        None | Some("") => parts.path_and_query = Some(PathAndQuery::from_static("/")),
        // The target was `http://host?query`: its path is empty, which means `/`.
        Some(query) if query.starts_with('?') => {
            let target = PathAndQuery::try_from(format!("/{query}")).map_err(|_| NO_TARGET)?;
            parts.path_and_query = Some(target);
        }
        Some(_) => {}
    }
    Uri::from_parts(parts).map_err(|_| NO_TARGET)
}

/// Returns an answer of the host itself, with the fields that the component's
/// own answers have.
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

/// The body of an answer. If its instance dies before it is complete, or if it is longer
/// than the platform allows, it ends with an error. That breaks the connection, so that
/// the client sees that the answer is incomplete.
struct WholeOrBroken {
    fate: Arc<Fate>,
    /// Bytes that the platform still allows.
    left: Option<u64>,
    platform: Limiter,
    visitor: Visitor,
    /// Tells the connection when the answer goes on, and when it ends.
    in_flight: InFlight,
}

impl Body for WholeOrBroken {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.in_flight.asked();
        let frame = ready!(self.fate.poll_frame(cx));
        let data = match &frame {
            Some(Ok(frame)) => frame.data_ref(),
            _ => None,
        };
        let bytes = data.map_or(0, |data| data.len() as u64);
        self.visitor.bytes = self.visitor.bytes.saturating_add(bytes);
        if let (Some(Ok(_)), Some(left)) = (&frame, self.left) {
            self.left = Some(left.saturating_sub(bytes));
            if bytes > left {
                self.platform.reached(Limit::ResponseBody);
                return Poll::Ready(Some(Err(Error::HttpResponseBodySize(None))));
            }
        }
        if matches!(frame, Some(Ok(_))) {
            self.in_flight.given();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.fate.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.fate.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]

    use http::Method;

    use super::*;
    use crate::limits::Platform;

    const ENDS: Ends = Ends {
        peer: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50_000),
        local: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3_000),
        is_secure: false,
    };

    fn request(
        version: Version,
        method: &Method,
        target: &str,
        fields: &[(&'static str, &'static str)],
    ) -> Request<()> {
        let mut request = Request::new(());
        *request.version_mut() = version;
        *request.method_mut() = method.clone();
        *request.uri_mut() = target.parse().unwrap();
        for &(name, value) in fields {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(name, value);
        }
        request
    }

    /// The URI that the guest sees, or the status and text of the refusal.
    fn admitted(request: Request<()>) -> Result<String, String> {
        match admit(request, ENDS, HttpBehaviour::Own) {
            Ok(request) => Ok(request.uri().to_string()),
            Err((status, text)) => Err(format!("{} {text}", status.as_u16())),
        }
    }

    #[test]
    fn the_guest_sees_the_scheme_of_the_connection() {
        let ends = Ends {
            is_secure: true,
            ..ENDS
        };
        for target in ["/a", "http://h/a"] {
            let request = request(Version::HTTP_11, &Method::GET, target, &[("host", "h")]);
            let request = admit(request, ends, HttpBehaviour::Own).unwrap();
            assert_eq!(request.uri(), "https://h/a", "{target}");
            assert_eq!(request.headers()[SPIN_FULL_URL], "https://h/a");
        }
    }

    #[test]
    fn the_guest_sees_an_absolute_uri() {
        for (method, target, hosts, seen) in [
            (Method::GET, "/a?b=1", &["h"][..], Ok("http://h/a?b=1")),
            (Method::GET, "/", &["h:81"], Ok("http://h:81/")),
            (Method::GET, "http://a/x", &["h"], Ok("http://a/x")),
            (Method::GET, "http://a/x", &[], Ok("http://a/x")),
            (Method::GET, "http://a/x", &[""], Ok("http://a/x")),
            (Method::GET, "http://a", &["h"], Ok("http://a/")),
            (Method::OPTIONS, "*", &["h"], Ok("http://h*")),
            (
                Method::GET,
                "/",
                &[],
                Err("400 This request has no Host field"),
            ),
            (
                Method::GET,
                "/",
                &["h", "h"],
                Err("400 This request has more"),
            ),
            (
                Method::GET,
                "/",
                &["a b"],
                Err("400 The Host field is not valid"),
            ),
            (
                Method::GET,
                "http://a/",
                &["a b"],
                Err("400 The Host field is not valid"),
            ),
            (
                Method::GET,
                "/",
                &["u:p@h"],
                Err("400 The Host field is not valid"),
            ),
            (
                Method::GET,
                "/",
                &["h:x"],
                Err("400 The Host field is not valid"),
            ),
            (
                Method::GET,
                "http://u@h/",
                &["h"],
                Err("400 The target of this request is not valid"),
            ),
            (Method::GET, "*", &["h"], Err("400 The target")),
            (Method::POST, "*", &["h"], Err("400 The target")),
            (Method::GET, "foo", &["h"], Err("400 The target")),
            (Method::GET, "a:80", &["h"], Err("400 The target")),
            (Method::OPTIONS, "a:80", &["h"], Err("400 The target")),
            (Method::CONNECT, "a:443", &["a:443"], Err("501")),
        ] {
            let fields: Vec<_> = hosts.iter().map(|&host| ("host", host)).collect();
            let uri = admitted(request(Version::HTTP_11, &method, target, &fields));
            match (uri, seen) {
                (Ok(uri), Ok(seen)) => assert_eq!(uri, seen, "{target}"),
                (Err(text), Err(seen)) => assert!(text.starts_with(seen), "{target}: {text}"),
                (uri, seen) => panic!("{target}: {uri:?} instead of {seen:?}"),
            }
        }
    }

    #[test]
    fn a_transfer_coding_other_than_chunked_is_not_supported() {
        for (coding, is_supported) in [
            ("chunked", true),
            ("Chunked", true),
            ("gzip, chunked", false),
            ("chunked, chunked", false),
            ("identity", false),
        ] {
            let fields = [("host", "h"), ("transfer-encoding", coding)];
            let outcome = admitted(request(Version::HTTP_11, &Method::POST, "/", &fields));
            match outcome {
                Ok(_) => assert!(is_supported, "{coding}"),
                Err(text) => assert!(!is_supported && text.starts_with("501"), "{coding}: {text}"),
            }
        }
    }

    #[test]
    fn an_answer_that_announces_more_than_the_platform_allows_is_too_long() {
        let answer = |length: &str, text: &'static [u8]| {
            let body = Full::new(Bytes::from_static(text));
            let body = body.map_err(|never| match never {}).boxed_unsync();
            let mut response = Response::new(body);
            let length = HeaderValue::try_from(length).unwrap();
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length);
            response
        };
        let akamai = Limiter::new(Platform::Akamai);
        for (length, text, is_long) in [
            ("10485760", &b"x"[..], false),
            ("10485761", b"x", true),
            // The answer to a HEAD.
            ("10485761", b"", false),
        ] {
            let answer = answer(length, text);
            assert_eq!(is_too_long(&answer, &akamai), is_long, "{length}");
            assert!(!is_too_long(&answer, &Limiter::default()));
        }
    }

    #[test]
    fn an_absolute_target_without_a_path_keeps_its_query() {
        let request = request(
            Version::HTTP_11,
            &Method::GET,
            "http://h?x=1",
            &[("host", "h")],
        );
        let request = admit(request, ENDS, HttpBehaviour::Own).unwrap();
        assert_eq!(
            request.uri().path_and_query().map(PathAndQuery::as_str),
            Some("/?x=1")
        );
        assert_eq!(request.headers()[SPIN_FULL_URL], "http://h/?x=1");
    }

    #[test]
    fn a_request_of_http_1_0_needs_no_host() {
        let old = |fields| request(Version::HTTP_10, &Method::GET, "/a", fields);
        assert_eq!(admitted(old(&[])), Ok("http://127.0.0.1:3000/a".to_owned()));
        assert_eq!(admitted(old(&[("host", "h")])), Ok("http://h/a".to_owned()));
    }

    #[test]
    fn an_empty_host_is_accepted() {
        let request = request(Version::HTTP_11, &Method::GET, "/a", &[("host", "")]);
        assert_eq!(admitted(request), Ok("http://127.0.0.1:3000/a".to_owned()));
    }

    #[test]
    fn an_upgrade_is_refused_only_if_connection_names_it() {
        for (connection, upgrade, refused) in [
            ("upgrade", "websocket", true),
            ("keep-alive, Upgrade", "websocket", true),
            ("upgrade", "h2c, websocket", true),
            ("upgrade", "h2c", false),
            ("upgrade", "", false),
            ("keep-alive", "websocket", false),
            ("", "websocket", false),
        ] {
            let fields = [
                ("host", "h"),
                ("connection", connection),
                ("upgrade", upgrade),
            ];
            let request = request(Version::HTTP_11, &Method::GET, "/", &fields);
            let outcome = admit(request, ENDS, HttpBehaviour::Own).map_err(|(status, _)| status);
            match outcome {
                Ok(request) => {
                    assert!(!refused, "{fields:?}");
                    assert!(!request.headers().contains_key("upgrade"), "{fields:?}");
                }
                Err(status) => {
                    assert!(refused, "{fields:?}");
                    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
                }
            }
        }
    }
}
