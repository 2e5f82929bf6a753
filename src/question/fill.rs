//! The request that fills or refreshes a cell.

use super::origin::Origin;
use super::visitor::{Question, X_FORWARDED_PROTO};
use crate::semantics::{LoopId, add_validators, append_via};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request};

/// `X-Forwarded-Host`.
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the settings add to every request to the origin.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// `User-Agent` of a fill.
    pub user_agent: &'a HeaderValue,
    /// The name by which the shield adds itself to `Via`; `None`: not at all.
    pub via: Option<&'a str>,
    /// What it adds to `CDN-Loop`.
    pub loop_id: LoopId,
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

    /// GET or OPTIONS.
    pub fn method(&self) -> &Method {
        &self.0.method
    }

    /// Where the origin is asked.
    pub fn uri(&self) -> &Uri {
        &self.0.uri
    }

    /// The visitor's host, where the origin is told it.
    pub fn host(&self) -> Option<&str> {
        self.0.headers.get(X_FORWARDED_HOST)?.to_str().ok()
    }

    /// Whether the origin is told that the visitor's connection is secure.
    pub fn is_secure(&self) -> bool {
        let scheme = self.0.headers.get(X_FORWARDED_PROTO);
        scheme.is_some_and(|scheme| scheme == "https")
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
        complete(fields, self.host(), self.is_secure(), outgoing);
        if let Some(entry) = entry.filter(|_| !self.is_preflight()) {
            add_validators(fields, entry);
        }
        Fill(parts)
    }
}

/// Renders a request for a page, without fields of any visitor. `path` has the origin's
/// prefix and the query. The answer is never stored.
///
/// # Errors
///
/// If `path` is not one.
pub fn page(
    origin: &Origin,
    path: &str,
    host: Option<&str>,
    is_secure: bool,
    outgoing: Outgoing<'_>,
) -> Result<request::Parts, http::Error> {
    let uri = Uri::builder()
        .scheme(origin.scheme.clone())
        .authority(origin.authority.clone())
        .path_and_query(path)
        .build()?;
    let (mut parts, ()) = Request::get(uri).body(())?.into_parts();
    complete(&mut parts.headers, host, is_secure, outgoing);
    Ok(parts)
}

/// Adds the fields that every request has unless the question has them.
fn complete(fields: &mut HeaderMap, host: Option<&str>, is_secure: bool, outgoing: Outgoing<'_>) {
    let mut add = |name: HeaderName,
                   value: Result<HeaderValue, http::header::InvalidHeaderValue>| {
        if let Ok(value) = value
            && !fields.contains_key(&name)
        {
            let _full = fields.try_insert(name, value);
        }
    };
    add(USER_AGENT, Ok(outgoing.user_agent.clone()));
    let scheme = if is_secure { "https" } else { "http" };
    add(X_FORWARDED_PROTO, Ok(HeaderValue::from_static(scheme)));
    if let Some(host) = host {
        add(X_FORWARDED_HOST, HeaderValue::try_from(host));
    }
    if let Some(pseudonym) = outgoing.via {
        append_via(fields, Version::HTTP_11, pseudonym);
    }
    outgoing.loop_id.append_to(fields);
}
