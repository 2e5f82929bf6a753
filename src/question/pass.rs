//! Requests that are forwarded with the visitor's own fields: unsafe methods, and
//! requests that no entry can answer. Their answers are never stored.

use super::destination;
use super::fields::{Class, class};
use super::fill::{Outgoing, X_FORWARDED_HOST};
use super::visitor::{X_FORWARDED_PROTO, host_of, is_secure, uri_of};
use crate::question::Origin;
use crate::semantics::{append_via, joined_value, strip_connection_fields};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, request};
use std::net::IpAddr;

/// `X-Forwarded-For`.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A visitor's request as the origin gets it. `content` says whether it has any;
/// `address` is the visitor's, where the platform tells it.
///
/// # Errors
///
/// If the target cannot be part of a URI.
pub fn forwarded(
    visitor: &request::Parts,
    content: bool,
    address: Option<IpAddr>,
    origin: &Origin,
    outgoing: Outgoing<'_>,
) -> Result<request::Parts, http::Error> {
    let mut parts = visitor.clone();
    let path = visitor
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str());
    parts.uri = uri_of(origin, path)?;
    let secure = is_secure(&visitor.uri, &visitor.headers);
    destination::rewrite(&mut parts, visitor, origin);
    let fields = &mut parts.headers;
    strip_connection_fields(fields);
    fields.remove(HOST);
    if !content {
        without_content(&visitor.method, fields);
    }
    let scheme = if secure { "https" } else { "http" };
    let _full = fields.try_insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if !fields.contains_key(&X_FORWARDED_HOST)
        && let Some(Ok(host)) = host_of(visitor).map(HeaderValue::try_from)
    {
        let _full = fields.try_insert(X_FORWARDED_HOST, host);
    }
    if let Some(address) = address {
        extend_forwarded_for(fields, address);
    }
    if let Some(pseudonym) = outgoing.via {
        append_via(fields, Version::HTTP_11, pseudonym);
    }
    outgoing.loop_id.append_to(fields);
    Ok(parts)
}

/// Makes the fields of a request those of one without content. A length without the bytes
/// would make the origin wait for them. Servers ask methods that have content as a rule for
/// their length, and some for its type as well (RFC 9110 section 8.6).
fn without_content(method: &Method, fields: &mut HeaderMap) {
    if !matches!(*method, Method::GET | Method::HEAD) {
        fields.remove(CONTENT_LENGTH);
        if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
            let _full = fields.try_insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        return;
    }
    let about_content: Vec<HeaderName> = fields
        .keys()
        .filter(|name| class(name) == Class::Content)
        .cloned()
        .collect();
    for name in about_content {
        fields.remove(name);
    }
}

fn extend_forwarded_for(fields: &mut HeaderMap, address: IpAddr) {
    let mut value = joined_value(&X_FORWARDED_FOR, fields);
    if !value.is_empty() {
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(address.to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        let _full = fields.try_insert(X_FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_TYPE;

    #[test]
    fn a_request_without_content_has_a_length_only_where_servers_ask_for_one() {
        for (method, length, has_type) in [
            (Method::GET, None, false),
            (Method::HEAD, None, false),
            (Method::DELETE, None, true),
            (Method::OPTIONS, None, true),
            (Method::POST, Some("0"), true),
            (Method::PUT, Some("0"), true),
            (Method::PATCH, Some("0"), true),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            without_content(&method, &mut fields);
            let found = fields.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
            assert_eq!(found, length, "{method}");
            assert_eq!(fields.contains_key(CONTENT_TYPE), has_type, "{method}");
        }
    }
}
