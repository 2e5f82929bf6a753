//! What a visitor gets.

use super::Shield;
use super::answer_body::{Answer, AnswerBody};
use super::fetch::Fetched;
use super::own_answer::{self, Delivery, Helpless, OwnAnswer};
use super::request::Visit;
use super::served::{Own, Served};
use crate::cell::{self, Entry};
use crate::cells::{Backing, Loaded, Lost, Place};
use crate::config::Config;
use crate::origin::{Named, PSEUDONYM};
use crate::semantics::{
    self, Forward, Handed, Precondition, RangeAnswer, announced, append_via, may_have_content,
    strip_connection_fields,
};
use crate::time::Time;
use crate::world::{Platform, event};
use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, SET_COOKIE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// What is said of a request that has come back.
const LOOPED: &str = "this request has come back to the shield that sent it";

/// What helps against that, for the log.
const LOOPED_REMEDY: &str = "let `origin` name the server itself: its address leads to this \
    shield, or to a proxy that does. Where the origin sends requests of its own through the \
    shield on purpose, let it remove `CDN-Loop` from them";

/// Why the shield has nothing for a request.
pub(super) struct Trouble {
    /// 502, 503 or 504.
    pub(super) status: StatusCode,
    pub(super) why: Own,
    /// Why the request would have gone to the origin, or has.
    pub(super) forward: Forward,
    /// The request waited for another's fetch.
    pub(super) collapsed: bool,
    pub(super) backing: Backing,
    /// How long it makes no sense to come back.
    pub(super) pause: Duration,
    /// Counts for unsafe methods only.
    pub(super) delivery: Delivery,
}

impl<P: Platform> Shield<P> {
    /// An answer of the shield's own to a request that did not need the origin.
    pub(super) fn own(&self, why: Own, status: StatusCode, text: &str) -> Answer<P::Body> {
        let mut headers = own_answer::base(HeaderValue::from_static("text/plain; charset=utf-8"));
        let body = Bytes::from(format!("{text}\n"));
        semantics::content_length(&mut headers, body.len() as u64);
        let body = AnswerBody::Full(body);
        assemble(status, headers, body, Served::own(why), Backing::Shared)
    }

    /// 421: the host that the request names is not served here.
    pub(super) fn misdirected(&self, visitor: &request::Parts) -> Answer<P::Body> {
        let status = StatusCode::MISDIRECTED_REQUEST;
        self.note_refused(Own::Misdirected, status, || Named::of(visitor));
        self.own(Own::Misdirected, status, "this host is not served here")
    }

    /// 508 (RFC 5842 section 7.2): this shield has sent the request itself.
    pub(super) fn looped(&self, named: &Named) -> Answer<P::Body> {
        let mut fields = named.with_method();
        fields.extend([("problem", LOOPED.into()), ("remedy", LOOPED_REMEDY.into())]);
        self.platform.log(&event("loop", &fields));
        self.own(Own::Loop, StatusCode::LOOP_DETECTED, LOOPED)
    }

    /// Counts a visitor that gets an error of the shield's own, and says so in the log where
    /// the host does not.
    pub(super) fn note_refused(&self, why: Own, status: StatusCode, named: impl FnOnce() -> Named) {
        let Some(cause) = why.cause().filter(|_| !self.platform.logs_refusals()) else {
            return;
        };
        let now = self.platform.now();
        let tally = self.refusals.borrow_mut().note(cause, status, now);
        if let Some(tally) = tally {
            self.platform.log(&tally.line(named().with_method(), now));
        }
    }

    /// Says in the log how many were refused and have not been said.
    pub(super) fn say_refused(&self) {
        if !self.refusals.borrow().has_unsaid() {
            return;
        }
        let now = self.platform.now();
        let due = self.refusals.borrow_mut().due(now);
        for tally in due {
            self.platform.log(&tally.line(Vec::new(), now));
        }
    }

    /// The answer where nothing stored helps and the origin has none: the operator's
    /// fallback, or an error that says when to come back.
    pub(super) fn helpless(
        &self,
        visitor: &request::Parts,
        config: &Config,
        trouble: Trouble,
    ) -> Answer<P::Body> {
        let OwnAnswer {
            status,
            mut headers,
            body,
            why,
        } = own_answer::helpless(Helpless {
            method: &visitor.method,
            headers: &visitor.headers,
            status: trouble.status,
            why: trouble.why,
            delivery: trouble.delivery,
            retry_after: own_answer::retry_after(trouble.pause, self.platform.random()),
            fallback: config.fallback.as_ref(),
        });
        semantics::content_length(&mut headers, body.len() as u64);
        self.note_refused(why, status, || Named::of(visitor));
        let body = match visitor.method == Method::HEAD {
            true => AnswerBody::Empty,
            false => AnswerBody::Full(body),
        };
        let served = Served::Own {
            why,
            forward: Some(trouble.forward),
            collapsed: trouble.collapsed,
            not_sent: !semantics::is_safe(&visitor.method) && trouble.delivery == Delivery::NotSent,
        };
        assemble(status, headers, body, served, trouble.backing)
    }

    /// An entry as the answer to a request: whole, part of it, or 304.
    ///
    /// # Errors
    ///
    /// If the entry's body cannot be read.
    pub(super) async fn entry_answer(
        self: &Rc<Self>,
        visit: &Visit,
        entry: &Entry,
        loaded: &Loaded,
        now: Time,
        served: Served,
    ) -> Result<Answer<P::Body>, Lost> {
        let length = entry.body.len();
        let (status, headers, range) = entry_parts(visit, entry, Some(length), now);
        let body = match range {
            None => AnswerBody::Empty,
            Some(range) => self.entry_body(entry, loaded, range).await?,
        };
        Ok(assemble(status, headers, body, served, loaded.backing))
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

    /// The origin's response to the question of a visit, while it comes. `cookies`
    /// says whether the visitor may have the cookies that it sets.
    pub(super) fn origin_answer(
        &self,
        visit: &Visit,
        response: Fetched<P::Body>,
        cookies: bool,
        served: Served,
        backing: Backing,
    ) -> Answer<P::Body> {
        let request = &visit.parts;
        let Fetched {
            parts,
            body,
            not_kept,
            ..
        } = response;
        let (status, mut headers) = (parts.status, parts.headers);
        strip_connection_fields(&mut headers);
        if !cookies {
            headers.remove(SET_COOKIE);
        }
        let now = self.platform.now();
        let handed = Handed {
            status,
            is_stored: not_kept.is_none(),
            now,
        };
        tell_lifetime(&mut headers, handed, &visit.config);
        if is_not_modified(request, status, &headers, now) {
            let headers = semantics::not_modified_headers(&headers);
            let status = StatusCode::NOT_MODIFIED;
            return assemble(status, headers, AnswerBody::Empty, served, backing);
        }
        if request.method == Method::HEAD || !may_have_content(status) {
            return assemble(status, headers, AnswerBody::Empty, served, backing);
        }
        // The origin was asked for the whole, so as to store it.
        if let (StatusCode::OK, Some(length)) = (status, announced(&headers))
            && let RangeAnswer::Single { start, end } =
                semantics::range(&request.method, &request.headers, status, &headers, length)
        {
            let range = start..end.saturating_add(1);
            headers.insert(CONTENT_RANGE, semantics::content_range(start, end, length));
            semantics::content_length(&mut headers, range.end.saturating_sub(range.start));
            let body = body.slice(range);
            let status = StatusCode::PARTIAL_CONTENT;
            return assemble(status, headers, body, served, backing);
        }
        assemble(status, headers, body, served, backing)
    }
}

/// Has an answer say for how long its visitor may keep it. What a rule passes is handed on as
/// the origin made it.
pub(super) fn tell_lifetime(headers: &mut HeaderMap, handed: Handed, config: &Config) {
    if !config.pass {
        semantics::tell_lifetime(headers, handed, &config.policy, config.browser_ttl);
    }
}

/// Status, fields and range of an entry's content as the answer to a request; no range
/// where the answer has no content. `length` is the content's, if it is known.
pub(super) fn entry_parts(
    visit: &Visit,
    entry: &Entry,
    length: Option<u64>,
    now: Time,
) -> (StatusCode, HeaderMap, Option<Range<u64>>) {
    let request = &visit.parts;
    let mut headers = entry.headers.clone();
    semantics::date_header(&mut headers, entry.freshness.response_time);
    semantics::age_header(&mut headers, entry.freshness.current_age(now));
    let handed = Handed {
        status: entry.status,
        is_stored: true,
        now,
    };
    tell_lifetime(&mut headers, handed, &visit.config);
    if is_not_modified(
        request,
        entry.status,
        &entry.headers,
        entry.freshness.response_time,
    ) {
        let headers = semantics::not_modified_headers(&headers);
        return (StatusCode::NOT_MODIFIED, headers, None);
    }
    let (status, range) = match length {
        None => (entry.status, 0..u64::MAX),
        Some(length) => part_of(request, entry, length, &mut headers),
    };
    if may_have_content(status) && length.is_some() {
        let length = range.end.saturating_sub(range.start);
        semantics::content_length(&mut headers, length);
    }
    let has_content = request.method != Method::HEAD && may_have_content(status);
    (status, headers, has_content.then_some(range))
}

/// The part of an entry's content that a request asks for.
fn part_of(
    request: &request::Parts,
    entry: &Entry,
    length: u64,
    headers: &mut HeaderMap,
) -> (StatusCode, Range<u64>) {
    let range = semantics::range(
        &request.method,
        &request.headers,
        entry.status,
        &entry.headers,
        length,
    );
    match range {
        RangeAnswer::Whole => (entry.status, 0..length),
        RangeAnswer::Single { start, end } => {
            headers.insert(CONTENT_RANGE, semantics::content_range(start, end, length));
            (StatusCode::PARTIAL_CONTENT, start..end.saturating_add(1))
        }
        RangeAnswer::Unsatisfiable => {
            // There is no content for these to describe.
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

/// An answer, marked with what became of the request.
pub(super) fn assemble<B>(
    status: StatusCode,
    mut headers: HeaderMap,
    body: AnswerBody<B>,
    served: Served,
    backing: Backing,
) -> Answer<B> {
    let body = match may_have_content(status) {
        true => body,
        false => AnswerBody::Empty,
    };
    append_via(&mut headers, Version::HTTP_11, PSEUDONYM);
    served
        .cache_status(backing == Backing::Local)
        .append_to(&mut headers);
    let mut answer = Answer::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}
