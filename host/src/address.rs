//! A host and a port to connect to.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, Scheme};
use leeward::config::Origin;

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// A host and a port. Two addresses are equal if they name the same host, in
/// upper or lower case, and the same port, written or implied by the scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// In lower case. An IPv6 address is without brackets.
    host: String,
    port: u16,
}

impl Address {
    /// Returns the address that the URL of `origin` names.
    pub(crate) fn of_origin(origin: &Origin) -> Self {
        Self::new(&origin.scheme, &origin.authority)
    }

    /// Returns the address that an absolute `uri` names.
    pub(crate) fn of_uri(uri: &Uri) -> Option<Self> {
        Some(Self::new(uri.scheme()?, uri.authority()?))
    }

    fn new(scheme: &Scheme, authority: &Authority) -> Self {
        let implied_port = if *scheme == Scheme::HTTPS {
            HTTPS_PORT
        } else {
            HTTP_PORT
        };
        Self {
            host: bare(authority.host()).to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(implied_port),
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Reads `HOST:PORT`, where an IPv6 address is in brackets. The error says what
/// is wrong, as the end of a sentence about the text.
impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.contains("://") {
            return Err("is a URL");
        }
        let authority = Authority::from_str(text).map_err(|_| "is not a host and a port")?;
        if authority.as_str().contains('@') {
            return Err("has a user name");
        }
        if authority.host().is_empty() {
            return Err("has no host");
        }
        // `Authority` accepts a port that is not a number, such as `host:99999`.
        let port = text.strip_prefix(authority.host()).unwrap_or_default();
        let Some(port) = port.strip_prefix(':') else {
            return Err("has no port");
        };
        match port.parse() {
            Err(_) | Ok(0) => Err("has a port that is not a number from 1 to 65535"),
            Ok(port) => Ok(Self {
                host: bare(authority.host()).to_ascii_lowercase(),
                port,
            }),
        }
    }
}

/// `HOST:PORT`, as it stands in a URL.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An IPv6 address is in brackets in a URL and without them elsewhere.
fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_address_is_read_from_host_and_port() {
        for (text, host, port) in [
            ("10.0.0.5:8080", "10.0.0.5", 8080),
            ("Server.Internal:80", "server.internal", 80),
            ("[::1]:443", "::1", 443),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string(), text.to_ascii_lowercase());
        }
    }

    #[test]
    fn what_is_not_host_and_port_is_refused() {
        for (text, reason) in [
            ("", "is not a host and a port"),
            ("10.0.0.5", "has no port"),
            ("::1", "is not a host and a port"),
            (":8080", "has no host"),
            ("a:", "has a port that is not"),
            ("a:0", "has a port that is not"),
            ("a:99999", "has a port that is not"),
            ("a b:80", "is not a host and a port"),
            ("a:80/x", "is not a host and a port"),
            ("http://a:80", "is a URL"),
            ("user:word@a:80", "has a user name"),
        ] {
            let refused = text.parse::<Address>().unwrap_err();
            assert!(refused.contains(reason), "{text:?}: {refused}");
        }
    }

    #[test]
    fn the_scheme_implies_a_port() {
        for (url, shown) in [
            ("http://A.example", "a.example:80"),
            ("https://a.example/x", "a.example:443"),
            ("https://a.example:8443", "a.example:8443"),
            ("http://[::1]", "[::1]:80"),
        ] {
            let address = Address::of_uri(&url.parse().unwrap()).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(Address::of_origin(&Origin::parse(url).unwrap()), address);
        }
        assert_eq!(Address::of_uri(&"/x".parse().unwrap()), None);
    }
}
