//! Spin's own fields in a request.

use crate::world::{RequestId, RequestReason, VisitorAddress};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, request};

/// How Spin's own fields begin.
const PREFIX: &str = "spin-";

/// The address of the client, with its port.
const CLIENT_ADDRESS: HeaderName = HeaderName::from_static("spin-client-addr");

/// Says that a request has content of unknown length. WASI HTTP hides
/// `Transfer-Encoding` from components, so the embedded host and the component tell
/// each other by this field, which Spin does not have. Clients send a GET without
/// content otherwise.
pub const CONTENT: HeaderName = HeaderName::from_static("spin-content");

/// Says that the content of a request, which has none, stays open as long as the
/// client is there. It ends with an error when the client has gone, and without one
/// when the request was answered.
pub const CLIENT_WATCH: HeaderName = HeaderName::from_static("spin-client-watch");

/// The name of the request in the log of the embedded host.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("spin-request-id");

/// The request is no visitor's: the embedded host has started, and wants an instance to begin.
pub const START: HeaderName = HeaderName::from_static("spin-start");

/// Why the component sends a request to the origin, for the embedded host, which removes it:
/// the token of a [`RequestReason`].
pub const REASON: HeaderName = HeaderName::from_static("spin-reason");

/// The environment variable by which the embedded host tells a component that the fields
/// above are its own: it removes them from what clients send. Clients cannot set it. On other
/// hosts they may send the fields themselves, and the fields mean nothing.
pub const EMBEDDED_HOST: &str = "LEEWARD_EMBEDDED_HOST";

/// Whether this component runs in the embedded host.
#[cfg(target_family = "wasm")]
pub(crate) fn is_embedded() -> bool {
    thread_local! {
        static IS_EMBEDDED: bool = std::env::var_os(EMBEDDED_HOST).is_some();
    }
    IS_EMBEDDED.with(|is_embedded| *is_embedded)
}

/// Adds what the embedded host has to know of a request to the origin. It removes the fields.
pub fn tell_embedded_host(parts: &mut request::Parts, reason: RequestReason, has_content: bool) {
    let fields = &mut parts.headers;
    let _full = fields.try_insert(REASON, HeaderValue::from_static(reason.token()));
    let has_unknown_length = has_content
        && matches!(parts.method, Method::GET | Method::HEAD)
        && !fields.contains_key(CONTENT_LENGTH);
    if has_unknown_length {
        let _full = fields.try_insert(CONTENT, HeaderValue::from_static("chunked"));
    }
}

/// What the fields that a host adds say about a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The visitor's address.
    pub address: Option<VisitorAddress>,
    /// The name of the request in the log.
    pub id: Option<RequestId>,
    /// See [`START`].
    pub start: bool,
    /// It has content of unknown length.
    pub content: bool,
    /// Its content tells whether the client is still there, and is nothing else.
    pub client_watch: bool,
}

/// Removes the fields that a host adds to a visitor's request, and returns what
/// they say. They differ from request to request and describe the way to this
/// component, so the origin does not get them. `is_embedded` says whether the host is the
/// embedded one: the fields that it alone sets are not believed on another.
pub fn take_spin_fields(headers: &mut HeaderMap, is_embedded: bool) -> Told {
    let mut lines = headers.get_all(CLIENT_ADDRESS).iter();
    // Of two lines one may be the visitor's own.
    let address = match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok().and_then(VisitorAddress::parse),
        _ => None,
    };
    let id = headers.get(REQUEST_ID).filter(|_| is_embedded);
    let id = id.and_then(|id| RequestId::parse(id.to_str().ok()?));
    let start = is_embedded && headers.contains_key(START);
    let content = is_embedded && headers.contains_key(CONTENT);
    let client_watch = is_embedded && headers.contains_key(CLIENT_WATCH);
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(PREFIX))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
    Told {
        address,
        id,
        start,
        content,
        client_watch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn request(addresses: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append("accept", HeaderValue::from_static("*/*"));
        headers.append("spin-full-url", HeaderValue::from_static("http://a/"));
        for address in addresses {
            headers.append(CLIENT_ADDRESS, HeaderValue::from_static(address));
        }
        headers
    }

    /// On a real Spin these come from visitors.
    #[test]
    fn what_the_embedded_host_says_is_read_there_alone_and_removed() {
        for name in ["spin-content", "spin-client-watch"] {
            for is_embedded in [true, false] {
                let mut headers = request(&[]);
                headers.append(name, HeaderValue::from_static("1"));
                let told = take_spin_fields(&mut headers, is_embedded);
                assert_eq!(told.content, is_embedded && name == "spin-content");
                let watched = is_embedded && name == "spin-client-watch";
                assert_eq!(told.client_watch, watched);
                let left: Vec<_> = headers.keys().collect();
                assert_eq!(left, ["accept"], "{name}");
            }
        }
    }

    #[test]
    fn the_name_of_a_request_is_the_embedded_hosts_and_no_visitors() {
        for (is_embedded, expected) in [(true, Some(RequestId(0xa5))), (false, None)] {
            let mut headers = request(&[]);
            headers.append(REQUEST_ID, HeaderValue::from_static("00000000000000a5"));
            assert_eq!(take_spin_fields(&mut headers, is_embedded).id, expected);
            assert!(!headers.contains_key(REQUEST_ID));
        }
    }

    #[test]
    fn the_visitors_address_is_read_before_spins_fields_are_removed() {
        let address = VisitorAddress(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        for (lines, expected) in [
            (&["192.0.2.7:54321"][..], Some(address)),
            (&[], None),
            (&["unknown"], None),
            (&["192.0.2.7:54321", "198.51.100.1:80"], None),
        ] {
            let mut headers = request(lines);
            assert_eq!(
                take_spin_fields(&mut headers, false).address,
                expected,
                "{lines:?}"
            );
            let left: Vec<_> = headers.keys().collect();
            assert_eq!(left, ["accept"], "{lines:?}");
        }
    }
}
