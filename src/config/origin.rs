//! The origin's address.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use std::fmt;

/// Where the origin is: the variable `origin`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host, and port where it is not the scheme's.
    pub authority: Authority,
    /// What goes before every path; empty, or `/` and more without a `/` at its
    /// end.
    pub prefix: String,
}

/// Why an address is no origin's; `Display` says what to write instead.
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
        let uri: Uri = text_trimmed.parse().map_err(|_| wrong("is no URL"))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.ok_or_else(|| wrong("has no scheme"))?;
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(wrong("is neither http nor https"));
        }
        let authority = parts.authority.ok_or_else(|| wrong("names no host"))?;
        if authority.host().is_empty() {
            return Err(wrong("names no host"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("carries a user name, which is not sent"));
        }
        // `Authority` accepts a port that is none, such as `host:` or `host:99999`.
        let port = authority
            .as_str()
            .strip_prefix(authority.host())
            .and_then(|rest| rest.strip_prefix(':'));
        if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
            return Err(wrong("has a port that is not a number from 1 to 65535"));
        }
        if text_trimmed.contains('#') {
            return Err(wrong("has a fragment, which is never sent"));
        }
        let path = parts.path_and_query.as_ref();
        if path.is_some_and(|path| path.query().is_some()) {
            return Err(wrong("has a query, which cannot be a prefix of paths"));
        }
        // Where a platform joins host and path, there may be a `/` from either.
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
    fn what_is_no_address_gets_told_what_to_write() {
        for (text, what) in [
            ("", "is empty"),
            ("  ", "is empty"),
            ("localhost:8080", "has no scheme"),
            ("/api", "has no scheme"),
            ("ftp://host", "is neither"),
            ("http://", "is no URL"),
            ("http://user:pw@host", "user name"),
            ("http://host:", "port"),
            ("http://host:0", "port"),
            ("http://host:99999", "port"),
            ("http://host/?a=1", "query"),
            ("http://host/#top", "fragment"),
            ("http://ho st/", "is no URL"),
        ] {
            let message = Origin::parse(text).unwrap_err().to_string();
            assert!(message.contains(what), "{text}: {message}");
            assert!(message.contains("write the base URL"), "{message}");
        }
    }
}
