//! Where a message ends, as its fields say (RFC 9112 section 6): what hyper leaves to its
//! callers.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use wasmtime_wasi_http::{Error, WasiBody};

/// Transfer codings other than chunked that may be on a body (RFC 9112 section 7.2).
const COMPRESSING: [&str; 5] = ["compress", "deflate", "gzip", "x-compress", "x-gzip"];

/// What the guest is told of an answer in a coding that nobody has asked for.
const UNKNOWN_CODING: &str = "the answer is in a transfer coding other than chunked";

/// Whether the only transfer coding of a message is `chunked`, if it has any. No other is
/// understood here.
pub(crate) fn is_plain(fields: &HeaderMap) -> bool {
    let mut lines = fields.get_all(TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => true,
        (Some(line), None) => line.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Makes the fields of an answer say what its body is. Chunks have precedence over a length
/// (RFC 9112 section 6.3); hyper has read them so, and hosts check the length.
///
/// A field that names no coding, such as `identity` of earlier editions, stands for none: the
/// body ends with the connection.
pub(super) fn repair_answer(fields: &mut HeaderMap) -> Result<(), Error> {
    if !is_plain(fields) && !names_no_coding(fields) {
        return Err(Error::InternalError(Some(UNKNOWN_CODING.to_owned())));
    }
    if fields.contains_key(TRANSFER_ENCODING) {
        fields.remove(CONTENT_LENGTH);
    }
    Ok(())
}

/// Whether the only transfer coding of a message is none.
fn names_no_coding(fields: &HeaderMap) -> bool {
    let mut lines = fields.get_all(TRANSFER_ENCODING).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let line = line.as_bytes();
    let is_coding = |name: &str| line.eq_ignore_ascii_case(name.as_bytes());
    !line.contains(&b',') && !COMPRESSING.into_iter().any(is_coding)
}

/// Makes a request without content one: hyper sends the end of chunks for a body of the
/// guest that it cannot see the end of. A length stays where servers ask for one (RFC 9110
/// section 8.6). `content` is the field by which the guest says that there is content of
/// unknown length.
pub(super) fn without_content(
    request: Request<WasiBody>,
    content: &HeaderName,
) -> Request<WasiBody> {
    let fields = request.headers();
    let is_nothing = fields
        .get(CONTENT_LENGTH)
        .is_some_and(|length| length == "0");
    if !is_nothing || fields.contains_key(content) {
        return request;
    }
    let mut request = request.map(|_| {
        let nothing = Empty::<Bytes>::new().map_err(|never| match never {});
        nothing.boxed_unsync()
    });
    if !matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    ) {
        request.headers_mut().remove(CONTENT_LENGTH);
    }
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use http::HeaderValue;
    use http_body::Body as _;
    use http_body_util::StreamBody;

    use super::*;

    const CONTENT: HeaderName = HeaderName::from_static("spin-content");

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for &(name, value) in list {
            fields.append(name, HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn chunks_have_precedence_over_a_length_and_no_other_coding_is_understood() {
        for (list, length) in [
            (&[("content-length", "4")][..], Some(true)),
            (
                &[("content-length", "4"), ("transfer-encoding", "Chunked")],
                Some(false),
            ),
            (&[("transfer-encoding", "chunked")], Some(false)),
            (&[("transfer-encoding", "gzip, chunked")], None),
            (
                &[
                    ("transfer-encoding", "gzip"),
                    ("transfer-encoding", "chunked"),
                ],
                None,
            ),
            (&[("transfer-encoding", "gzip")], None),
            (&[("transfer-encoding", "chunked, chunked")], None),
            (&[("transfer-encoding", "x, chunked")], None),
            // These name none. The body ends with the connection.
            (
                &[("transfer-encoding", "identity"), ("content-length", "4")],
                Some(false),
            ),
            (&[("transfer-encoding", "")], Some(false)),
            (&[("transfer-encoding", "UTF-8")], Some(false)),
        ] {
            let mut fields = fields(list);
            let repaired = repair_answer(&mut fields);
            let expected = repaired.ok().map(|()| fields.contains_key(CONTENT_LENGTH));
            assert_eq!(expected, length, "{list:?}");
        }
    }

    #[test]
    fn a_request_without_content_has_a_length_only_where_servers_ask_for_one() {
        for (method, list, length, is_empty) in [
            (
                Method::POST,
                &[("content-length", "0")][..],
                Some("0"),
                true,
            ),
            (Method::PUT, &[("content-length", "0")], Some("0"), true),
            (Method::DELETE, &[("content-length", "0")], None, true),
            (Method::OPTIONS, &[("content-length", "0")], None, true),
            (Method::DELETE, &[("content-length", "2")], Some("2"), false),
            (Method::POST, &[], None, false),
            (Method::GET, &[("spin-content", "chunked")], None, false),
        ] {
            // Whether it has content is not known before it is read.
            let parts = futures::stream::pending();
            let body = StreamBody::new(parts).boxed_unsync();
            let mut request = Request::new(body);
            *request.method_mut() = method.clone();
            *request.headers_mut() = fields(list);
            let request = without_content(request, &CONTENT);
            let found = request.headers().get(CONTENT_LENGTH);
            assert_eq!(found.map(|it| it.to_str().unwrap()), length, "{method}");
            assert_eq!(request.body().is_end_stream(), is_empty, "{method}");
        }
    }
}
