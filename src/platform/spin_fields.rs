//! Spin's own fields in a request.

use crate::world::VisitorAddress;
use http::{HeaderMap, HeaderName};

/// How Spin's own fields begin.
const PREFIX: &str = "spin-";

/// The address of the client, with its port.
const CLIENT_ADDRESS: HeaderName = HeaderName::from_static("spin-client-addr");

/// Says that a request has content of unknown length. WASI HTTP hides
/// `Transfer-Encoding` from components, so the embedded host and the component tell
/// each other by this field, which Spin does not have. Clients send a GET without
/// content otherwise.
pub(super) const CONTENT: HeaderName = HeaderName::from_static("spin-content");

/// Says that the content of a request, which has none, stays open as long as the
/// client is there. It ends with an error when the client has gone, and without one
/// when the request was answered. Set by the embedded host, which removes it from
/// what clients send.
const CLIENT_WATCH: HeaderName = HeaderName::from_static("spin-client-watch");

/// What the fields that a host adds say about a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The visitor's address.
    pub address: Option<VisitorAddress>,
    /// It has content of unknown length. A visitor that says so by itself has its
    /// own request forwarded, and nothing else.
    pub content: bool,
    /// Its content tells whether the client is still there, and is nothing else. A
    /// visitor that says so by itself, on a host that lets it, is watched by content
    /// that has ended, which says nothing.
    pub client_watch: bool,
}

/// Removes the fields that a host adds to a visitor's request, and returns what
/// they say. They differ from request to request and describe the way to this
/// component, so the origin does not get them.
pub fn take_spin_fields(headers: &mut HeaderMap) -> Told {
    let mut lines = headers.get_all(CLIENT_ADDRESS).iter();
    // Of two lines one may be the visitor's own.
    let address = match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok().and_then(VisitorAddress::parse),
        _ => None,
    };
    let content = headers.contains_key(CONTENT);
    let client_watch = headers.contains_key(CLIENT_WATCH);
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
        content,
        client_watch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
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

    #[test]
    fn what_the_embedded_host_says_is_read_and_removed() {
        for name in ["spin-content", "spin-client-watch"] {
            let mut headers = request(&[]);
            headers.append(name, HeaderValue::from_static("1"));
            let told = take_spin_fields(&mut headers);
            assert_eq!(told.content, name == "spin-content");
            assert_eq!(told.client_watch, name == "spin-client-watch");
            let left: Vec<_> = headers.keys().collect();
            assert_eq!(left, ["accept"], "{name}");
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
                take_spin_fields(&mut headers).address,
                expected,
                "{lines:?}"
            );
            let left: Vec<_> = headers.keys().collect();
            assert_eq!(left, ["accept"], "{lines:?}");
        }
    }
}
