//! Requests and responses: what the bindings to WASI 0.2 and 0.3 have in common.

use super::setup::SetupError;
use super::spin_fields::Told;
use crate::question::preflight::is_preflight;
use crate::shield::{Answer, AnswerBody};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, request};
use std::time::Duration;

/// `Retry-After` while the settings cannot be read, in seconds: at least this.
const SETUP_RETRY_AFTER: u64 = 1;

/// It is longer by up to this many seconds, at random, so that clients do not return
/// together.
const SETUP_RETRY_AFTER_SPREAD: u64 = 2;

/// An answer of the binding itself.
pub fn plain<B>(status: StatusCode, text: &str) -> Answer<B> {
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

/// The answer of an instance that could not be set up.
pub fn not_set_up<B>(error: &SetupError, random: u64) -> Answer<B> {
    match error {
        SetupError::Misconfigured(problem) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("leeward is not set up: {problem}"),
        ),
        SetupError::Unreadable(_) => {
            let text = "leeward cannot read its settings at the moment";
            let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, text);
            let longer = random % (SETUP_RETRY_AFTER_SPREAD + 1);
            let seconds = HeaderValue::from(SETUP_RETRY_AFTER + longer);
            let headers = answer.headers_mut();
            headers.insert(http::header::RETRY_AFTER, seconds);
            answer
        }
    }
}

/// The fields of a message. Those that are not valid for `http` are left out;
/// hosts let some of them through.
pub fn headers_from(fields: impl IntoIterator<Item = (String, Vec<u8>)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
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

/// Whether the content of a visitor's request is to be looked at. To take out a body
/// costs a call of the host, which a hit without a body need not pay.
pub fn has_content(method: &Method, headers: &HeaderMap, told: &Told) -> bool {
    let is_mostly_without =
        matches!(*method, Method::GET | Method::HEAD) || is_preflight(method, headers);
    !is_mostly_without
        || told.content
        || headers.contains_key(http::header::TRANSFER_ENCODING)
        || headers
            .get(http::header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
}

/// Adds the length of nothing to a request that has no content. Without it, hosts send the
/// end of chunks with each method but GET and HEAD: a `Transfer-Encoding` that old servers
/// refuse. The embedded host takes it away where a method needs none.
pub fn announce_nothing(parts: &mut request::Parts) {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let nothing = HeaderValue::from_static("0");
        let _full = parts
            .headers
            .try_insert(http::header::CONTENT_LENGTH, nothing);
    }
}

/// A duration as WASI has it.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What the errors of WASI HTTP mean, for the operator's log.
const WORDS: &[(&str, &str)] = &[
    (
        "ConnectionRefused",
        "the connection was refused: nothing listens at the address",
    ),
    ("ConnectionTerminated", "the connection was closed"),
    (
        "DestinationIpUnroutable",
        "there is no route to the address",
    ),
    ("DestinationNotFound", "the host was not found"),
    ("DestinationUnavailable", "the address cannot be reached"),
    ("DnsError", "the host name could not be resolved"),
    ("DnsTimeout", "the host name could not be resolved in time"),
    (
        "HttpProtocolError",
        "the connection ended, or the answer is not HTTP",
    ),
    ("HttpResponseIncomplete", "the answer broke off"),
    ("TlsAlertReceived", "the server refused the TLS connection"),
    (
        "TlsCertificateError",
        "the certificate is not trusted: its authority is unknown, it is self-signed or expired, \
         or it is for another name",
    ),
    (
        "TlsProtocolError",
        "the server does not speak TLS as it should",
    ),
];

/// An error of a host in words, followed by the host's own name for it.
pub fn in_words(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let code = text.strip_prefix("ErrorCode::").unwrap_or(&text);
    let words = WORDS.iter().find(|(name, _)| {
        let rest = code.strip_prefix(name);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
    });
    match words {
        Some((_, words)) => format!("{words} ({code})"),
        None => text,
    }
}

/// Our method for the host's, whose type differs between versions of WASI.
#[cfg(target_family = "wasm")]
macro_rules! method_from_host {
    ($Host:ident, $method:expr) => {
        match $method {
            $Host::Get => ::http::Method::GET,
            $Host::Head => ::http::Method::HEAD,
            $Host::Post => ::http::Method::POST,
            $Host::Put => ::http::Method::PUT,
            $Host::Delete => ::http::Method::DELETE,
            $Host::Connect => ::http::Method::CONNECT,
            $Host::Options => ::http::Method::OPTIONS,
            $Host::Trace => ::http::Method::TRACE,
            $Host::Patch => ::http::Method::PATCH,
            $Host::Other(name) => ::http::Method::from_bytes(name.as_bytes())?,
        }
    };
}

/// The host's method for ours.
#[cfg(target_family = "wasm")]
macro_rules! method_to_host {
    ($Host:ident, $method:expr) => {
        match *$method {
            ::http::Method::GET => $Host::Get,
            ::http::Method::HEAD => $Host::Head,
            ::http::Method::POST => $Host::Post,
            ::http::Method::PUT => $Host::Put,
            ::http::Method::DELETE => $Host::Delete,
            ::http::Method::CONNECT => $Host::Connect,
            ::http::Method::OPTIONS => $Host::Options,
            ::http::Method::TRACE => $Host::Trace,
            ::http::Method::PATCH => $Host::Patch,
            ref other => $Host::Other(other.as_str().to_owned()),
        }
    };
}

/// What an error of the host says about the origin.
///
/// Spin says `HttpProtocolError` of whatever ends an exchange after the connection is there
/// and before the head has come (`hyper_legacy_request_error` in Spin 4.1), and so does
/// `wasmtime serve`. The embedded host says `ConnectionTerminated` where it knows that no
/// byte of an answer came on a connection that it had kept.
#[cfg(target_family = "wasm")]
macro_rules! origin_error {
    ($Host:ident, $error:expr) => {
        match $error {
            $Host::ConnectionTimeout
            | $Host::ConnectionReadTimeout
            | $Host::ConnectionWriteTimeout
            | $Host::HttpResponseTimeout => $crate::shield::OriginError::Timeout,
            $Host::HttpRequestDenied => $crate::shield::OriginError::Denied,
            error @ ($Host::HttpProtocolError | $Host::ConnectionTerminated) => {
                $crate::shield::OriginError::NoHead($crate::platform::message::in_words(&error))
            }
            error @ ($Host::HttpRequestLengthRequired
            | $Host::HttpRequestMethodInvalid
            | $Host::HttpRequestUriInvalid
            | $Host::HttpRequestUriTooLong
            | $Host::HttpRequestHeaderSectionSize(_)
            | $Host::HttpRequestHeaderSize(_)
            | $Host::HttpRequestBodySize(_)) => {
                $crate::shield::OriginError::NotSent($crate::platform::message::in_words(&error))
            }
            error @ ($Host::DnsTimeout
            | $Host::DnsError(_)
            | $Host::DestinationNotFound
            | $Host::DestinationUnavailable
            | $Host::DestinationIpUnroutable
            | $Host::ConnectionRefused
            | $Host::TlsProtocolError
            | $Host::TlsCertificateError
            | $Host::TlsAlertReceived(_)) => $crate::shield::OriginError::Unreachable(
                $crate::platform::message::in_words(&error),
            ),
            error => {
                $crate::shield::OriginError::Failed($crate::platform::message::in_words(&error))
            }
        }
    };
}

#[cfg(target_family = "wasm")]
pub(crate) use {method_from_host, method_to_host, origin_error};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::host_fields::list_of;
    use super::*;

    /// The log said `ErrorCode::TlsCertificateError`, and nothing else.
    #[test]
    fn an_error_of_the_host_is_said_in_words() {
        for (error, expected) in [
            (
                "ErrorCode::ConnectionRefused",
                "nothing listens at the address (ConnectionRefused)",
            ),
            (
                "ErrorCode::DnsError(DnsErrorPayload)",
                "be resolved (DnsError(DnsErrorPayload))",
            ),
            (
                "ErrorCode::TlsCertificateError",
                "another name (TlsCertificateError)",
            ),
            (
                "ErrorCode::InternalError(None)",
                "ErrorCode::InternalError(None)",
            ),
            ("DnsErrorOfTomorrow", "DnsErrorOfTomorrow"),
        ] {
            let words = in_words(&error);
            assert!(words.ends_with(expected), "{words}");
        }
    }

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let list = list.iter();
        headers_from(list.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())))
    }

    #[test]
    fn fields_survive_the_way_to_the_host_and_back_and_invalid_ones_do_not() {
        let sent = headers(&[("a", "1"), ("b", "2"), ("a", "3"), ("no name", "4")]);
        assert_eq!(sent.len(), 3);
        assert_eq!(headers_from(list_of(&sent)), sent);
        let broken = headers_from([("a".to_owned(), b"1\r\nb: 2".to_vec())]);
        assert!(broken.is_empty());
    }

    #[test]
    fn content_is_looked_at_where_there_may_be_any() {
        let none = Told::default();
        let told = Told {
            content: true,
            ..none
        };
        for (method, fields, told, expected) in [
            (Method::GET, &[][..], none, false),
            (Method::GET, &[("content-length", "0")], none, false),
            (Method::GET, &[("content-length", "5")], none, true),
            (Method::GET, &[("transfer-encoding", "chunked")], none, true),
            (Method::GET, &[], told, true),
            (Method::HEAD, &[], none, false),
            (Method::POST, &[], none, true),
            (Method::OPTIONS, &[], none, true),
            (
                Method::OPTIONS,
                &[
                    ("origin", "http://a.example"),
                    ("access-control-request-method", "GET"),
                ],
                none,
                false,
            ),
        ] {
            let looked_at = has_content(&method, &headers(fields), &told);
            assert_eq!(looked_at, expected, "{method} {fields:?}");
        }
    }

    #[test]
    fn a_request_without_content_says_so_where_hosts_would_send_chunks() {
        for (method, expected) in [
            (Method::GET, None),
            (Method::HEAD, None),
            (Method::POST, Some("0")),
            (Method::DELETE, Some("0")),
            (Method::OPTIONS, Some("0")),
        ] {
            let request = http::Request::builder().method(method.clone()).body(());
            let mut parts = request.unwrap().into_parts().0;
            announce_nothing(&mut parts);
            let length = parts.headers.get(http::header::CONTENT_LENGTH);
            assert_eq!(length.map(|it| it.to_str().unwrap()), expected, "{method}");
        }
    }

    #[test]
    fn an_instance_without_settings_says_when_to_come_back() {
        let wrong = SetupError::Misconfigured("no origin".to_owned());
        let answer = not_set_up::<()>(&wrong, 0);
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let unreadable = SetupError::Unreadable("the provider is down".to_owned());
        for random in [0, 1, 2, u64::MAX] {
            let answer = not_set_up::<()>(&unreadable, random);
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            let after = answer.headers().get(http::header::RETRY_AFTER).unwrap();
            let seconds: u64 = after.to_str().unwrap().parse().unwrap();
            assert!((1..=3).contains(&seconds), "{seconds}");
        }
    }
}
