//! What a visitor gets.

use super::Shield;
use super::bodies::{Lost, Place};
use super::cells::{Backing, Loaded};
use super::exchange::announced;
use super::platform::{Body, OriginError, Platform};
use super::store_body::ByteStream;
use crate::cell::{self, Entry};
use crate::semantics::{
    self, CacheStatus, Precondition, RangeAnswer, append_via, strip_connection_fields,
};
use crate::time::Time;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_RANGE,
    CONTENT_TYPE, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request, response};
use std::ops::Range;
use std::rc::Rc;

/// The name by which answers and requests are marked.
pub(super) const PSEUDONYM: &str = "leeward";

/// An answer to a visitor.
pub type Answer<B> = http::Response<AnswerBody<B>>;

/// The body of an answer.
pub enum AnswerBody<B> {
    /// None.
    Empty,
    /// All of it.
    Full(Bytes),
    /// From the store, or from the origin while it is being stored.
    Stream(ByteStream),
    /// From the origin, as it comes.
    Origin(B),
}

impl<B> std::fmt::Debug for AnswerBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AnswerBody::Empty => "Empty",
            AnswerBody::Full(_) => "Full",
            AnswerBody::Stream(_) => "Stream",
            AnswerBody::Origin(_) => "Origin",
        })
    }
}

impl<B: Body> AnswerBody<B> {
    /// The bytes `range` of it.
    pub(super) fn slice(self, range: Range<u64>) -> Self {
        let state = (self, 0_u64, range);
        let stream = stream::unfold(state, async |(mut body, position, range)| {
            let mut position = position;
            while position < range.end {
                let bytes = match body.chunk().await? {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        let over = range.end;
                        return Some((Err(error), (body, over, range)));
                    }
                };
                let (start, length) = (position, bytes.len());
                position = position.saturating_add(length as u64);
                let within = |at: u64| {
                    usize::try_from(at.saturating_sub(start)).map_or(length, |at| at.min(length))
                };
                let (from, to) = (within(range.start), within(range.end));
                if from < to {
                    return Some((Ok(bytes.slice(from..to)), (body, position, range)));
                }
            }
            None
        });
        AnswerBody::Stream(stream.boxed_local())
    }

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
            AnswerBody::Stream(stream) => stream.next().await,
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
    ///
    /// # Errors
    ///
    /// If the entry's body cannot be read.
    pub(super) async fn entry_answer(
        self: &Rc<Self>,
        request: &request::Parts,
        entry: &Entry,
        loaded: &Loaded,
        now: Time,
        cache_status: &CacheStatus,
    ) -> Result<Answer<P::Body>, Lost> {
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
            return Ok(assemble(
                StatusCode::NOT_MODIFIED,
                headers,
                AnswerBody::Empty,
                cache_status,
            ));
        }
        let length = entry.body.len();
        let range = semantics::range(
            &request.method,
            &request.headers,
            entry.status,
            &entry.headers,
            length,
        );
        let (status, range) = match range {
            RangeAnswer::Whole => (entry.status, 0..length),
            RangeAnswer::Single { start, end } => {
                headers.insert(CONTENT_RANGE, semantics::content_range(start, end, length));
                (StatusCode::PARTIAL_CONTENT, start..end.saturating_add(1))
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
                (StatusCode::RANGE_NOT_SATISFIABLE, 0..0)
            }
        };
        if may_have_content(status) {
            let length = range.end.saturating_sub(range.start);
            semantics::content_length(&mut headers, length);
        }
        let body = if request.method == Method::HEAD || !may_have_content(status) {
            AnswerBody::Empty
        } else {
            self.entry_body(entry, loaded, range).await?
        };
        Ok(assemble(status, headers, body, cache_status))
    }

    /// Some of an entry's content, once the first of it is in hand.
    async fn entry_body(
        self: &Rc<Self>,
        entry: &Entry,
        loaded: &Loaded,
        range: Range<u64>,
    ) -> Result<AnswerBody<P::Body>, Lost> {
        match &entry.body {
            cell::Body::Chunked(manifest) => {
                self.stored_body(Place::of(loaded), *manifest, range).await
            }
            cell::Body::Inline(body) => {
                let part = usize::try_from(range.start)
                    .ok()
                    .zip(usize::try_from(range.end).ok())
                    .and_then(|(start, end)| body.get(start..end))
                    .map(|part| body.slice_ref(part));
                part.map(AnswerBody::Full).ok_or(Lost::Missing)
            }
        }
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
        if request.method == Method::HEAD || !may_have_content(response.status) {
            return assemble(response.status, headers, AnswerBody::Empty, cache_status);
        }
        // The origin was asked for the whole, so as to store it.
        if let (StatusCode::OK, Some(length)) = (response.status, announced(&headers))
            && let RangeAnswer::Single { start, end } = semantics::range(
                &request.method,
                &request.headers,
                response.status,
                &headers,
                length,
            )
        {
            let range = start..end.saturating_add(1);
            headers.insert(CONTENT_RANGE, semantics::content_range(start, end, length));
            semantics::content_length(&mut headers, range.end.saturating_sub(range.start));
            let body = body.slice(range);
            return assemble(StatusCode::PARTIAL_CONTENT, headers, body, cache_status);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use std::collections::VecDeque;

    struct Script(VecDeque<Result<Bytes, OriginError>>);

    impl Body for Script {
        async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
            self.0.pop_front()
        }
    }

    fn read(range: Range<u64>, parts: &[Result<&'static str, OriginError>]) -> (String, bool) {
        let parts = parts.iter().map(|part| part.clone().map(Bytes::from));
        let mut body = AnswerBody::Origin(Script(parts.collect())).slice(range);
        block_on(async {
            let mut text = String::new();
            while let Some(bytes) = body.chunk().await {
                match bytes {
                    Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                    Err(_) => return (text, false),
                }
            }
            (text, true)
        })
    }

    #[test]
    fn a_body_is_cut_wherever_its_parts_end() {
        let parts = [Ok("ab"), Ok(""), Ok("cde"), Ok("f")];
        for start in 0..6 {
            for end in start..=6 {
                let expected = &"abcdef"[start..end];
                let got = read(start as u64..end as u64, &parts);
                assert_eq!(got, (expected.to_owned(), true), "{start} {end}");
            }
        }
    }

    #[test]
    fn a_body_that_breaks_off_before_the_end_does_not_look_complete() {
        let parts = [Ok("ab"), Err(OriginError::Timeout)];
        assert_eq!(read(0..3, &parts), ("ab".to_owned(), false));
        assert_eq!(read(0..2, &parts), ("ab".to_owned(), true));
    }
}
