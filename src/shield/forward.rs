//! Requests that go to the origin without a lease: unsafe methods, and keys
//! whose responses cannot be stored. They stream both ways and never queue.

use super::answer::{AnswerBody, PSEUDONYM, assemble};
use super::other_methods::Forwarded;
use super::platform::{OriginError, OriginRequest, Platform};
use super::{Answer, Shield, event};
use crate::cell::transition::Purge;
use crate::semantics::invalidate::Target;
use crate::semantics::{
    CacheStatus, Forward, Hop, append_via, count_hop, invalidation_targets, is_safe, key,
    strip_connection_fields,
};
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, StatusCode, Version, request};
use std::rc::Rc;

/// The methods that are at least served here, as `Allow` says it; unknown ones
/// are forwarded too.
const METHODS: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";

impl<P: Platform> Shield<P> {
    /// Hands a request to the origin and its answer back.
    pub(super) async fn forward(
        self: &Rc<Self>,
        request: Request<Option<P::Body>>,
        reason: Forward,
    ) -> Answer<P::Body> {
        let (mut visitor, body) = request.into_parts();
        if count_hop(&visitor.method, &mut visitor.headers) == Hop::Answer {
            return self.answer_as_the_last_hop(&visitor.method);
        }
        let start = self.platform.now();
        let mut cache_status = CacheStatus {
            fwd: Some(reason),
            ..CacheStatus::default()
        };
        let mut request_headers = http::HeaderMap::new();
        let response = match self.origin_parts(&visitor) {
            Ok(parts) => {
                let origin = &self.config.origin;
                request_headers = parts.headers.clone();
                let request = OriginRequest {
                    parts,
                    body,
                    connect_timeout: origin.connect_timeout,
                    first_byte_timeout: origin.first_byte_timeout,
                };
                self.platform.send(request).await
            }
            Err(error) => Err(OriginError::Failed(error.to_string())),
        };
        let now = self.platform.now();
        self.platform.log(&event(
            "origin",
            &[
                ("reason", format!("{reason:?}").to_lowercase().into()),
                ("method", visitor.method.as_str().into()),
                ("path", visitor.uri.path().into()),
                (
                    "status",
                    match &response {
                        Ok(response) => response.status().as_u16().into(),
                        Err(error) => error.to_string().into(),
                    },
                ),
                ("millis", crate::time::millis(now.since(start)).into()),
            ],
        ));
        match response {
            Ok(response) => {
                cache_status.fwd_status = Some(response.status().as_u16());
                if !is_safe(&visitor.method) {
                    self.invalidate(&visitor, &response).await;
                }
                let method = visitor.method.clone();
                let forwarded = Forwarded {
                    key: self.key(&visitor.uri, &visitor.headers),
                    visitor,
                    request_headers,
                    request_time: start,
                    response_time: now,
                };
                let (parts, body, stored) = if method == Method::POST {
                    let target = target(&forwarded.visitor);
                    self.keep_post(&forwarded, target, response).await
                } else {
                    let (parts, body) = response.into_parts();
                    self.note_head(forwarded, &parts);
                    (parts, AnswerBody::Origin(body), false)
                };
                cache_status.stored = stored;
                let mut headers = parts.headers;
                strip_connection_fields(&mut headers);
                let body = if method == Method::HEAD {
                    AnswerBody::Empty
                } else {
                    body
                };
                assemble(parts.status, headers, body, &cache_status)
            }
            Err(error) => self.origin_failed(&error, cache_status),
        }
    }

    /// The answer to TRACE and OPTIONS that were to come as far as this and no
    /// further (RFC 9110, 7.6.2). TRACE would show a visitor what proxies in
    /// front have added to the request.
    fn answer_as_the_last_hop(&self, method: &Method) -> Answer<P::Body> {
        let (status, text) = match *method {
            Method::TRACE => (StatusCode::METHOD_NOT_ALLOWED, "TRACE is not served here"),
            _ => (StatusCode::OK, "a shield in front of the origin"),
        };
        let cache_status = CacheStatus {
            detail: Some("max-forwards".into()),
            ..CacheStatus::default()
        };
        let mut answer = self.plain(status, text, &cache_status, None);
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(METHODS));
        answer
    }

    /// The answer where the origin has none and nothing stored helps.
    pub(super) fn origin_failed(
        &self,
        error: &OriginError,
        mut cache_status: CacheStatus,
    ) -> Answer<P::Body> {
        let (status, detail) = match error {
            OriginError::Timeout => (StatusCode::GATEWAY_TIMEOUT, "origin-timeout"),
            OriginError::Failed(_) => (StatusCode::BAD_GATEWAY, "origin-failed"),
        };
        cache_status.detail = Some(detail.into());
        self.plain(status, "the origin did not answer", &cache_status, None)
    }

    /// A visitor's request as the origin gets it.
    pub(super) fn origin_parts(
        &self,
        visitor: &request::Parts,
    ) -> Result<request::Parts, http::Error> {
        let mut parts = visitor.clone();
        parts.uri = self.origin_uri(visitor.uri.path_and_query())?;
        strip_connection_fields(&mut parts.headers);
        parts.headers.remove(http::header::HOST);
        append_via(&mut parts.headers, Version::HTTP_11, PSEUDONYM);
        Ok(parts)
    }

    /// A non-error answer to an unsafe method makes what is stored for its
    /// target invalid (RFC 9111, 4.4), before the answer ends.
    async fn invalidate(
        self: &Rc<Self>,
        visitor: &request::Parts,
        response: &http::Response<P::Body>,
    ) {
        let target = target(visitor);
        for path in invalidation_targets(
            target,
            &visitor.method,
            response.status(),
            response.headers(),
        ) {
            let key = key(target.scheme, Some(target.host), &path, &self.config.key);
            self.purge(key, Purge::Invalidate).await;
        }
    }
}

/// What a request is for.
fn target(visitor: &request::Parts) -> Target<'_> {
    let host = visitor
        .uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| {
            let host = visitor.headers.get(http::header::HOST)?;
            host.to_str().ok()
        })
        .unwrap_or_default();
    Target {
        scheme: visitor.uri.scheme_str().unwrap_or("http"),
        host,
        path_and_query: visitor
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str()),
    }
}
