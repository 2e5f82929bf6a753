//! What a visitor gets.

use super::platform::{Body, OriginError, Platform};
use super::tee::Reader;
use super::{Shield, cells::Backing};
use crate::cell::{self, Entry};
use crate::semantics::{
    self, CacheStatus, Precondition, RangeAnswer, append_via, strip_connection_fields,
};
use crate::time::Time;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_RANGE,
    CONTENT_TYPE, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request, response};

/// The name by which answers and requests are marked.
pub(super) const PSEUDONYM: &str = "leeward";

/// An answer to a visitor.
pub type Answer<B> = http::Response<AnswerBody<B>>;

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody<B> {
    /// None.
    Empty,
    /// All of it.
    Full(Bytes),
    /// From the origin, while it is being stored.
    Tee(Reader<B>),
    /// From the origin, as it comes.
    Origin(B),
}

impl<B: Body> AnswerBody<B> {
    /// The next bytes, or none at the end. An error has to break the answer off:
    /// it must not look complete to the client.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        match self {
            AnswerBody::Empty => None,
            AnswerBody::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = AnswerBody::Empty;
                (!bytes.is_empty()).then_some(Ok(bytes))
            }
            AnswerBody::Tee(reader) => reader.chunk().await,
            AnswerBody::Origin(body) => body.chunk().await,
        }
    }
}

impl<P: Platform> Shield<P> {
    /// An answer of the shield's own.
    pub(super) fn plain(
        &self,
        status: StatusCode,
        text: &str,
        cache_status: &CacheStatus,
        retry_after: Option<u64>,
    ) -> Answer<P::Body> {
        let body = Bytes::from(format!("{text}\n"));
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        semantics::content_length(&mut headers, body.len() as u64);
        assemble(status, headers, AnswerBody::Full(body), cache_status)
    }

    /// An entry as the answer to a request: whole, part of it, or 304.
    pub(super) fn entry_answer(
        &self,
        request: &request::Parts,
        entry: &Entry,
        now: Time,
        cache_status: &CacheStatus,
    ) -> Answer<P::Body> {
        let cell::Body::Inline(body) = &entry.body;
        let mut headers = entry.headers.clone();
        semantics::date_header(&mut headers, entry.freshness.response_time);
        semantics::age_header(&mut headers, entry.freshness.current_age(now));
        if is_not_modified(
            request,
            entry.status,
            &entry.headers,
            entry.freshness.response_time,
        ) {
            let headers = semantics::not_modified_headers(&headers);
            return assemble(
                StatusCode::NOT_MODIFIED,
                headers,
                AnswerBody::Empty,
                cache_status,
            );
        }
        let length = body.len() as u64;
        let (status, body) = match semantics::range(
            &request.method,
            &request.headers,
            entry.status,
            &entry.headers,
            length,
        ) {
            // Several ranges may be answered with the whole (RFC 9110, 14.2).
            RangeAnswer::Whole | RangeAnswer::Multiple(_) => (entry.status, body.clone()),
            RangeAnswer::Single { start, end } => {
                headers.insert(CONTENT_RANGE, semantics::content_range(start, end, length));
                let part = usize::try_from(start)
                    .ok()
                    .zip(usize::try_from(end).ok())
                    .and_then(|(start, end)| body.get(start..=end))
                    .map(|part| body.slice_ref(part))
                    .unwrap_or_default();
                (StatusCode::PARTIAL_CONTENT, part)
            }
            RangeAnswer::Unsatisfiable => {
                // What described the entry's content does not describe none.
                for name in [
                    CONTENT_TYPE,
                    CONTENT_ENCODING,
                    CONTENT_LANGUAGE,
                    CONTENT_LOCATION,
                ] {
                    headers.remove(name);
                }
                headers.insert(CONTENT_RANGE, semantics::unsatisfied_range(length));
                (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
            }
        };
        if may_have_content(status) {
            semantics::content_length(&mut headers, body.len() as u64);
        }
        let body = if request.method == Method::HEAD || !may_have_content(status) {
            AnswerBody::Empty
        } else {
            AnswerBody::Full(body)
        };
        assemble(status, headers, body, cache_status)
    }

    /// The origin's response as the answer to a request, while it comes.
    pub(super) fn origin_answer(
        &self,
        request: &request::Parts,
        response: response::Parts,
        body: AnswerBody<P::Body>,
        cache_status: &CacheStatus,
    ) -> Answer<P::Body> {
        let mut headers = response.headers;
        strip_connection_fields(&mut headers);
        let now = self.platform.now();
        if is_not_modified(request, response.status, &headers, now) {
            let headers = semantics::not_modified_headers(&headers);
            return assemble(
                StatusCode::NOT_MODIFIED,
                headers,
                AnswerBody::Empty,
                cache_status,
            );
        }
        let body = if request.method == Method::HEAD || !may_have_content(response.status) {
            AnswerBody::Empty
        } else {
            body
        };
        assemble(response.status, headers, body, cache_status)
    }

    /// Adds to a `Cache-Status` detail what the operator should know of the
    /// store.
    pub(super) fn with_backing(mut cache_status: CacheStatus, backing: Backing) -> CacheStatus {
        match backing {
            Backing::Shared => {}
            Backing::Local => {
                cache_status.detail = Some(match cache_status.detail {
                    Some(detail) => format!("{detail}, store-unavailable"),
                    None => "store-unavailable".to_owned(),
                });
            }
        }
        cache_status
    }
}

/// Whether the visitor has this response already. Only a GET or HEAD that the
/// cache answers itself is evaluated here; what is forwarded, the origin
/// evaluates.
fn is_not_modified(
    request: &request::Parts,
    status: StatusCode,
    headers: &HeaderMap,
    response_time: Time,
) -> bool {
    match semantics::evaluate(
        &request.method,
        &request.headers,
        status,
        headers,
        response_time,
    ) {
        Precondition::NotModified => true,
        Precondition::Serve => false,
    }
}

/// Whether an answer of this status may have content (RFC 9110, 6.4.1, 15.3.6).
fn may_have_content(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::RESET_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

pub(super) fn assemble<B>(
    status: StatusCode,
    mut headers: HeaderMap,
    body: AnswerBody<B>,
    cache_status: &CacheStatus,
) -> Answer<B> {
    append_via(&mut headers, Version::HTTP_11, PSEUDONYM);
    cache_status.append_to(&mut headers);
    let mut answer = Answer::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}
