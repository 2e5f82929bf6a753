//! The request that fills or refreshes a cell.

use super::visitor::{Question, X_FORWARDED_PROTO};
use crate::semantics::{add_validators, append_via};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version, request};

/// `X-Forwarded-Host`.
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the settings add to every request to the origin.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// `User-Agent` of a fill.
    pub user_agent: &'a HeaderValue,
    /// The name by which the shield adds itself to `Via`; `None`: not at all.
    pub via: Option<&'a str>,
}

/// A request that fills or refreshes a cell, made from a question.
///
/// Only [`Question::fill`] makes one, so a cell cannot be filled by anything else.
#[derive(Clone, Debug)]
pub struct Fill(request::Parts);

impl Fill {
    /// The request: a GET or a preflight, without content.
    pub fn into_parts(self) -> request::Parts {
        self.0
    }

    /// Its fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }
}

impl Question {
    /// Renders the request. `entry` has the fields of the entry that is to be
    /// validated (RFC 9111 section 4.3.1).
    pub fn fill(&self, entry: Option<&HeaderMap>, outgoing: Outgoing<'_>) -> Fill {
        let mut parts = Request::new(()).into_parts().0;
        parts.method = self.method();
        parts.uri = self.uri().clone();
        let fields = &mut parts.headers;
        self.write_fields(fields);
        let mut add =
            |name: HeaderName, value: Result<HeaderValue, http::header::InvalidHeaderValue>| {
                if let Ok(value) = value
                    && !fields.contains_key(&name)
                {
                    let _full = fields.try_insert(name, value);
                }
            };
        add(USER_AGENT, Ok(outgoing.user_agent.clone()));
        let scheme = if self.is_secure() { "https" } else { "http" };
        add(X_FORWARDED_PROTO, Ok(HeaderValue::from_static(scheme)));
        if let Some(host) = self.host() {
            add(X_FORWARDED_HOST, HeaderValue::try_from(host));
        }
        if let Some(pseudonym) = outgoing.via {
            append_via(fields, Version::HTTP_11, pseudonym);
        }
        if let Some(entry) = entry.filter(|_| !self.is_preflight()) {
            add_validators(fields, entry);
        }
        Fill(parts)
    }
}
