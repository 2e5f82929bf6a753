//! Requests and responses: the host's types and ours.

use super::body::{HostBody, outgoing};
use super::client_watch::ClientWatch;
use super::shield;
use super::spawn::{Spawning, spawn};
use crate::platform::setup::SetupError;
use crate::platform::spin_fields::{CONTENT, Told, take_spin_fields};
use crate::question::preflight::is_preflight;
use crate::semantics::{is_connection_bound, request_target};
use crate::shield::{Answer, AnswerBody, OriginError, OriginRequest, Slot};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use std::time::Duration;
use wasip3::http::client;
use wasip3::http::types::{
    ErrorCode, Fields, Method as HostMethod, Request, RequestOptions, Response, Scheme,
};
use wasip3::random::random::get_random_u64;
use wasip3::wit_future;

/// `Retry-After` while the settings cannot be read, in seconds: at least this.
const SETUP_RETRY_AFTER: u64 = 1;

/// It is longer by up to this many seconds, at random, so that clients do not return
/// together.
const SETUP_RETRY_AFTER_SPREAD: u64 = 2;

struct Leeward;

#[allow(unsafe_code, reason = "exporting a function by name is")]
mod export {
    use super::Leeward;
    wasip3::http::service::export!(Leeward);
}

impl wasip3::exports::http::handler::Guest for Leeward {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Spawning::new(handle(request)).await
    }
}

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let answer = match shield().await {
        Ok(shield) => match incoming(request) {
            Ok(Incoming { request, client }) => {
                let gone = client.map(|client| client.gone().boxed_local());
                shield.handle_while(request, gone).await
            }
            Err(error) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        Err(SetupError::Misconfigured(problem)) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("leeward is not set up: {problem}"),
        ),
        Err(SetupError::Unreadable(_)) => {
            let text = "leeward cannot read its settings at the moment";
            let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, text);
            let headers = answer.headers_mut();
            let longer = get_random_u64() % (SETUP_RETRY_AFTER_SPREAD + 1);
            let seconds = HeaderValue::from(SETUP_RETRY_AFTER + longer);
            headers.insert(http::header::RETRY_AFTER, seconds);
            answer
        }
    };
    respond(answer)
}

fn plain(status: StatusCode, text: &str) -> Answer<HostBody> {
    let mut answer = Answer::new(AnswerBody::Full(Bytes::from(format!("{text}\n"))));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    );
    headers.insert(
        http::header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        http::header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Retry-After"),
    );
    answer
}

/// A visitor's request.
struct Incoming {
    request: http::Request<Option<HostBody>>,
    /// Tells when the client has gone, if the host can.
    client: Option<ClientWatch>,
}

fn incoming(request: Request) -> Result<Incoming, http::Error> {
    let method = match request.get_method() {
        HostMethod::Get => Method::GET,
        HostMethod::Head => Method::HEAD,
        HostMethod::Post => Method::POST,
        HostMethod::Put => Method::PUT,
        HostMethod::Delete => Method::DELETE,
        HostMethod::Connect => Method::CONNECT,
        HostMethod::Options => Method::OPTIONS,
        HostMethod::Trace => Method::TRACE,
        HostMethod::Patch => Method::PATCH,
        HostMethod::Other(name) => Method::from_bytes(name.as_bytes())?,
    };
    let path = request.get_path_with_query();
    let target = request_target(&method, path.as_deref());
    let mut uri = Uri::builder().path_and_query(&*target);
    if let Some(authority) = request.get_authority() {
        let scheme = match request.get_scheme() {
            Some(Scheme::Https) => "https",
            Some(Scheme::Http | Scheme::Other(_)) | None => "http",
        };
        uri = uri.scheme(scheme).authority(authority);
    }
    let mut headers = headers_from(&request.get_headers());
    let Told {
        address,
        content,
        client_watch,
    } = take_spin_fields(&mut headers);
    // To take out a body costs a call of the host, which a hit without a body
    // need not pay.
    let has_body = content
        || headers.contains_key(http::header::TRANSFER_ENCODING)
        || headers
            .get(http::header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    let is_mostly_without =
        matches!(method, Method::GET | Method::HEAD) || is_preflight(&method, &headers);
    let (body, client) = if has_body || !is_mostly_without {
        let body = HostBody::new(|handled| Request::consume_body(request, handled));
        (Some(body), None)
    } else {
        (None, client_watch.then(|| ClientWatch::new(request)))
    };
    let mut ours = http::Request::new(body);
    *ours.method_mut() = method;
    *ours.uri_mut() = uri.build()?;
    *ours.headers_mut() = headers;
    if let Some(address) = address {
        ours.extensions_mut().insert(address);
    }
    Ok(Incoming {
        request: ours,
        client,
    })
}

/// An answer to a visitor.
fn respond(answer: Answer<HostBody>) -> Result<Response, ErrorCode> {
    let (parts, body) = answer.into_parts();
    let (contents, end, slot) = outgoing(body);
    let (response, sent) = Response::new(fields_from(&parts.headers), contents, end);
    response
        .set_status_code(parts.status.as_u16())
        .map_err(|()| ErrorCode::InternalError(Some("the status is not valid".into())))?;
    keep_alive(sent, slot);
    Ok(response)
}

/// Sends a request to the origin.
pub(super) async fn send(
    request: OriginRequest<HostBody>,
) -> Result<http::Response<HostBody>, OriginError> {
    let refused = |what: &str| OriginError::NotSent(format!("the host refuses the {what}"));
    let OriginRequest {
        parts,
        body,
        connect_timeout,
        first_byte_timeout,
        between_bytes_timeout,
    } = request;
    let options = RequestOptions::new();
    // A host that has no such option leaves timeouts to the shield.
    let _ = options.set_connect_timeout(Some(nanos(connect_timeout)));
    let _ = options.set_first_byte_timeout(Some(nanos(first_byte_timeout)));
    let _ = options.set_between_bytes_timeout(Some(nanos(between_bytes_timeout)));
    let has_unknown_length = body.is_some()
        && matches!(parts.method, Method::GET | Method::HEAD)
        && !parts.headers.contains_key(http::header::CONTENT_LENGTH);
    let mut parts = parts;
    if has_unknown_length {
        let chunked = HeaderValue::from_static("chunked");
        let _full = parts.headers.try_insert(CONTENT, chunked);
    }
    let (contents, end) = match body {
        Some(body) => body.into_parts(),
        None => (None, wit_future::new(|| Ok(None)).1),
    };
    let fields = fields_from(&parts.headers);
    if is_connection_bound(&parts.headers) {
        // No other request may follow on this connection. Hosts that forbid the
        // field have to see to it themselves.
        let _ = fields.append("connection", b"close");
    }
    let (outgoing, sent) = Request::new(fields, contents, end, Some(options));
    let scheme = match parts.uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some(_) | None => Scheme::Http,
    };
    outgoing
        .set_method(&method_to_host(&parts.method))
        .map_err(|()| refused("method"))?;
    outgoing
        .set_scheme(Some(&scheme))
        .map_err(|()| refused("scheme"))?;
    outgoing
        .set_authority(parts.uri.authority().map(|authority| authority.as_str()))
        .map_err(|()| refused("authority"))?;
    outgoing
        .set_path_with_query(parts.uri.path_and_query().map(|path| path.as_str()))
        .map_err(|()| refused("path"))?;
    keep_alive(sent, None);
    let response = client::send(outgoing).await.map_err(origin_error)?;
    let status = StatusCode::from_u16(response.get_status_code())
        .map_err(|error| OriginError::Failed(error.to_string()))?;
    let headers = headers_from(&response.get_headers());
    let body = HostBody::new(|handled| Response::consume_body(response, handled));
    let mut ours = http::Response::new(body);
    *ours.status_mut() = status;
    *ours.headers_mut() = headers;
    Ok(ours)
}

/// Keeps the instance alive while the host transmits a message: the bytes of a
/// body that is only passed on do not pass through any task of ours. Keeps the
/// message's place in the origin's budget as well.
fn keep_alive(sent: impl IntoFuture<Output = Result<(), ErrorCode>> + 'static, slot: Option<Slot>) {
    spawn(async move {
        // The task that reads the message learns of failures.
        let _ = sent.into_future().await;
        drop(slot);
    });
}

fn origin_error(error: ErrorCode) -> OriginError {
    match error {
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => OriginError::Timeout,
        ErrorCode::HttpRequestDenied
        | ErrorCode::HttpRequestLengthRequired
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_)
        | ErrorCode::HttpRequestBodySize(_) => OriginError::NotSent(error.to_string()),
        ErrorCode::DnsTimeout
        | ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::TlsAlertReceived(_) => OriginError::Unreachable(error.to_string()),
        error => OriginError::Failed(error.to_string()),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn method_to_host(method: &Method) -> HostMethod {
    match *method {
        Method::GET => HostMethod::Get,
        Method::HEAD => HostMethod::Head,
        Method::POST => HostMethod::Post,
        Method::PUT => HostMethod::Put,
        Method::DELETE => HostMethod::Delete,
        Method::CONNECT => HostMethod::Connect,
        Method::OPTIONS => HostMethod::Options,
        Method::TRACE => HostMethod::Trace,
        Method::PATCH => HostMethod::Patch,
        ref other => HostMethod::Other(other.as_str().to_owned()),
    }
}

/// The fields of a message. Those that are not valid for `http` are left out;
/// hosts let some of them through.
fn headers_from(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields.copy_all() {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::try_from(value),
        ) {
            // Fails beyond 32,768 fields, far above the limit for visitors.
            let _ = headers.try_append(name, value);
        }
    }
    headers
}

/// The fields of a message for the host. Those that it forbids are left out.
fn fields_from(headers: &HeaderMap) -> Fields {
    let list: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    Fields::from_list(&list).unwrap_or_else(|_| {
        let fields = Fields::new();
        for (name, value) in &list {
            let _ = fields.append(name, value);
        }
        fields
    })
}
