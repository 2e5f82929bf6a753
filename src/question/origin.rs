//! The origin's address.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use std::fmt;

/// Where the origin is: the variable `origin`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host, and port if it was given.
    pub authority: Authority,
    /// What goes before every path; empty, or a path that begins with `/` and
    /// does not end with one.
    pub prefix: String,
}

/// Why an address is refused; `Display` says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginError(String);

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OriginError {}

impl Origin {
    /// Reads a base URL, such as `https://legacy.example.com/api`.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let wrong = |what: &str| {
            OriginError(format!(
                "origin: {text:?} {what}; write the base URL of the server to protect, for \
                 instance http://10.0.0.5:8080 or https://legacy.example.com/api"
            ))
        };
        let text_trimmed = text.trim();
        if text_trimmed.is_empty() {
            return Err(wrong("is empty"));
        }
        let uri: Uri = text_trimmed.parse().map_err(|_| wrong("is not a URL"))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.ok_or_else(|| wrong("has no scheme"))?;
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(wrong("is neither http nor https"));
        }
        let authority = parts.authority.ok_or_else(|| wrong("has no host"))?;
        if authority.host().is_empty() {
            return Err(wrong("has no host"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("has a user name, which is not sent"));
        }
        if !has_valid_port(&authority) {
            return Err(wrong("has a port that is not a number from 1 to 65535"));
        }
        if text_trimmed.contains('#') {
            return Err(wrong("has a fragment, which is never sent"));
        }
        let path = parts.path_and_query.as_ref();
        if path.is_some_and(|path| path.query().is_some()) {
            return Err(wrong("has a query, which cannot be a prefix of paths"));
        }
        // A platform that joins host and path may add a `/` of its own.
        let prefix = path.map_or("", PathAndQuery::path).trim_matches('/');
        Ok(Origin {
            scheme,
            authority,
            prefix: match prefix {
                "" => String::new(),
                prefix => format!("/{prefix}"),
            },
        })
    }
}

/// Whether the port of `authority`, if it has one, is a number from 1 to 65535.
/// [`Authority`] accepts others, such as `host:` and `host:99999`.
pub(crate) fn has_valid_port(authority: &Authority) -> bool {
    authority
        .as_str()
        .strip_prefix(authority.host())
        .and_then(|rest| rest.strip_prefix(':'))
        .is_none_or(|port| {
            // A number in Rust may have a sign.
            port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

impl Origin {
    /// The server, without the path below which requests go: all that is on it shares
    /// one budget.
    pub(crate) fn server(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("https://Example.com/api/", "https://Example.com/api"),
            ("http://[::1]:8080/a/b", "http://[::1]:8080/a/b"),
            (" http://localhost ", "http://localhost"),
            ("http://localhost//", "http://localhost"),
            ("http://localhost//api", "http://localhost/api"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_a_remedy() {
        for (text, what) in [
            ("", "is empty"),
            ("  ", "is empty"),
            ("localhost:8080", "has no scheme"),
            ("/api", "has no scheme"),
            ("ftp://host", "is neither"),
            ("http://", "is not a URL"),
            ("http://user:pw@host", "user name"),
            ("http://host:", "port"),
            ("http://host:0", "port"),
            ("http://host:99999", "port"),
            ("http://host:+80", "port"),
            ("http://host/?a=1", "query"),
            ("http://host/#top", "fragment"),
            ("http://ho st/", "is not a URL"),
        ] {
            let message = Origin::parse(text).unwrap_err().to_string();
            assert!(message.contains(what), "{text}: {message}");
            assert!(message.contains("write the base URL"), "{message}");
        }
    }
}
