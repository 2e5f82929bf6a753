//! One exchange with the origin: what it is asked, and what its answer comes to.

use super::Shield;
use super::answer::AnswerBody;
use super::bodies::Place;
use super::cells::Loaded;
use super::platform::{OriginError, OriginRequest, Platform};
use super::store_body::{Kept, Storing};
use crate::cell::{self, Entry, Nonce};
use crate::semantics::Reason as NotStored;
use crate::semantics::{
    Freshness, Preset, Storability, add_validators, freshen, matches, remove_conditions,
    remove_private_fields, storability, strip_connection_fields,
};
use crate::time::{Time, millis};
use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, select};
use http::header::{CONTENT_LENGTH, RANGE, SET_COOKIE};
use http::{HeaderMap, Method, Response, StatusCode, request, response};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

/// What the visitor gets who waits for a fetch.
pub(super) enum Head<B> {
    /// The origin's response, while it comes, and whether it is being stored.
    Response(response::Parts, AnswerBody<B>, bool),
    /// An entry that the origin has confirmed with a 304.
    Entry(Box<Entry>),
    /// Nothing of use: the stale entry, if there is one.
    Failed,
}

/// Sends the head once, if anybody waits for it.
pub(super) struct HeadSender<B>(pub(super) Option<oneshot::Sender<Head<B>>>);

impl<B> HeadSender<B> {
    pub(super) fn send(&mut self, head: Head<B>) {
        if let Some(sender) = self.0.take() {
            // Who waited may have left, or been answered with a stale entry.
            let _ = sender.send(head);
        }
    }

    fn fail(&mut self, error: &OriginError) -> Outcome {
        self.send(Head::Failed);
        Outcome::Failed(error.to_string())
    }
}

/// What the exchange with the origin came to, and so how the lease is settled.
pub(super) enum Outcome {
    /// A response that may be stored and is whole, or an entry renewed by a 304.
    Store(Box<Entry>),
    /// A response that may not be stored, or is too long.
    Pass(NotStorable),
    /// No response, half of one, or a server error; why, for the log.
    Failed(String),
    /// A good response that could not be stored; why, for the log.
    Unstored(&'static str),
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotStorable {
    /// HTTP's rules say so.
    Because(NotStored),
    /// Its body is longer than `limits.body`.
    TooLong,
    /// Its key would have a variant for nearly every visitor.
    TooManyVaryFields,
}

impl std::fmt::Display for NotStorable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotStorable::Because(reason) => reason.fmt(f),
            NotStorable::TooLong => f.write_str("too-long"),
            NotStorable::TooManyVaryFields => f.write_str("too-many-vary-fields"),
        }
    }
}

/// What a fetch starts from.
pub(super) struct Fill<'a> {
    /// The cell as it was when the lease was taken.
    pub(super) loaded: &'a Loaded,
    pub(super) holder: Nonce,
    /// Until when something may be started under the lease; renewals move it.
    pub(super) acts_until: &'a Cell<Time>,
    pub(super) visitor: &'a request::Parts,
    /// Whether the entry may be used if the origin fails.
    pub(super) on_error: bool,
}

impl Fill<'_> {
    pub(super) fn place(&self) -> Place {
        Place::of(self.loaded)
    }
}

/// One exchange: under which lease, and when.
pub(super) struct Fetched<'a> {
    pub(super) holder: Nonce,
    pub(super) request_headers: &'a HeaderMap,
    pub(super) request_time: Time,
    pub(super) response_time: Time,
}

/// What the origin is asked for.
enum Ask<'a> {
    /// The whole.
    Whole,
    /// Whether the entry is still good, or the whole.
    Validation(&'a Entry),
}

impl<P: Platform> Shield<P> {
    /// Asks the origin, and once more for the whole if it answers to a
    /// condition with what we cannot use.
    pub(super) async fn exchange(
        self: &Rc<Self>,
        fill: &Fill<'_>,
        head: &mut HeadSender<P::Body>,
        status: &mut Option<StatusCode>,
    ) -> Outcome {
        let mut ask = match fill.loaded.entry() {
            None => Ask::Whole,
            Some(entry) => Ask::Validation(entry),
        };
        loop {
            let parts = match self.fill_parts(fill.visitor, &ask) {
                Ok(parts) => parts,
                Err(error) => return head.fail(&OriginError::Failed(error.to_string())),
            };
            let request = OriginRequest {
                parts,
                body: None,
                connect_timeout: self.config.origin.connect_timeout,
                first_byte_timeout: self.config.origin.first_byte_timeout,
            };
            let request_headers = request.parts.headers.clone();
            let request_time = self.platform.now();
            let response = match self.in_time(self.platform.send(request)).await {
                Ok(response) => response,
                Err(error) => return head.fail(&error),
            };
            *status = Some(response.status());
            let fetched = Fetched {
                holder: fill.holder,
                request_headers: &request_headers,
                request_time,
                response_time: self.platform.now(),
            };
            match (&ask, response.status()) {
                (Ask::Validation(entry), StatusCode::NOT_MODIFIED)
                    if matches(&entry.headers, response.headers()) =>
                {
                    return self.renewed(fill, &fetched, entry, &response, head).await;
                }
                (Ask::Validation(_), StatusCode::NOT_MODIFIED) => {}
                // It says nothing about what nobody has.
                (Ask::Whole, StatusCode::NOT_MODIFIED) => {
                    let why = "it answered 304 to a request without conditions";
                    return head.fail(&OriginError::Failed(why.to_owned()));
                }
                (Ask::Whole | Ask::Validation(_), _) => {
                    return self.received(fill, &fetched, response, head).await;
                }
            }
            // A holder that was held up may have a successor who is asking by now.
            // Whoever waits for the head looks again.
            if self.platform.now() >= fill.acts_until.get() {
                return Outcome::Unstored("the lease was lost");
            }
            // Bounded: the second request has no conditions.
            ask = Ask::Whole;
        }
    }

    /// The request that fills or refreshes a cell: the visitor's, as a GET,
    /// without the visitor's conditions and with ours.
    fn fill_parts(
        &self,
        visitor: &request::Parts,
        ask: &Ask<'_>,
    ) -> Result<request::Parts, http::Error> {
        let mut parts = self.origin_parts(visitor)?;
        parts.method = Method::GET;
        remove_conditions(&mut parts.headers);
        match ask {
            Ask::Whole => {}
            Ask::Validation(entry) => {
                add_validators(&mut parts.headers, &entry.headers);
            }
        }
        Ok(parts)
    }

    /// The origin says that the entry is still good (RFC 9111, 4.3.4).
    async fn renewed(
        self: &Rc<Self>,
        fill: &Fill<'_>,
        fetched: &Fetched<'_>,
        entry: &Entry,
        response: &Response<P::Body>,
        head: &mut HeadSender<P::Body>,
    ) -> Outcome {
        let mut update = response.headers().clone();
        strip_connection_fields(&mut update);
        let mut headers = freshen(&entry.headers, &update);
        let storability = match self.storability(fetched, entry.status, &headers) {
            // A cookie of the moment says nothing against what is stored.
            Storability::DoNotStore(NotStored::SetCookie) if update.contains_key(SET_COOKIE) => {
                self.hand_on_entry(fill, entry, headers.clone(), head).await;
                update.remove(SET_COOKIE);
                headers = freshen(&entry.headers, &update);
                self.storability(fetched, entry.status, &headers)
            }
            storability => storability,
        };
        match storability {
            Storability::Store(freshness) => {
                let entry = Box::new(Entry {
                    headers: self.storable_headers(headers),
                    body: entry.body.clone(),
                    ..self.entry(fetched, entry.status, freshness)
                });
                head.send(Head::Entry(entry.clone()));
                Outcome::Store(entry)
            }
            // The visitor may have it, and nobody after.
            Storability::DoNotStore(reason) => {
                self.hand_on_entry(fill, entry, headers, head).await;
                Outcome::Pass(NotStorable::Because(reason))
            }
        }
    }

    /// Hands the content of an entry to the visitor, with other fields. If it
    /// cannot be read, whoever waits looks again.
    async fn hand_on_entry(
        self: &Rc<Self>,
        fill: &Fill<'_>,
        entry: &Entry,
        headers: HeaderMap,
        head: &mut HeadSender<P::Body>,
    ) {
        let body = match &entry.body {
            cell::Body::Inline(body) => Ok(AnswerBody::Full(body.clone())),
            cell::Body::Chunked(manifest) => {
                self.stored_body(fill.place(), *manifest, 0..manifest.length)
                    .await
            }
        };
        if let Ok(body) = body {
            let mut parts = Response::new(()).into_parts().0;
            parts.status = entry.status;
            parts.headers = headers;
            head.send(Head::Response(parts, body, false));
        }
    }

    /// A response with content of its own.
    async fn received(
        self: &Rc<Self>,
        fill: &Fill<'_>,
        fetched: &Fetched<'_>,
        response: Response<P::Body>,
        head: &mut HeadSender<P::Body>,
    ) -> Outcome {
        let status = response.status();
        // A fill asks for the whole. A visitor who did not ask for a part is better
        // served by the stored entry.
        let unasked =
            status == StatusCode::PARTIAL_CONTENT && !fill.visitor.headers.contains_key(RANGE);
        if (status.is_server_error() || unasked) && fill.on_error {
            return head.fail(&OriginError::Failed(format!(
                "it answered {}",
                status.as_u16()
            )));
        }
        // Judged by all that the origin said, `Connection` included.
        match self.storability(fetched, status, response.headers()) {
            Storability::Store(freshness) => {
                self.keep(fill, fetched, response, freshness, head).await
            }
            Storability::DoNotStore(reason) => {
                self.hand_on(response, head);
                if status.is_server_error() {
                    self.failed_openly(fill, status)
                } else {
                    Outcome::Pass(NotStorable::Because(reason))
                }
            }
        }
    }

    /// The origin answered with an error of its own, which the visitor has got.
    /// In `strict` that is what every visitor is to get from the origin, one
    /// after the other; in `uptime` the origin is left alone for a while.
    fn failed_openly(&self, fill: &Fill<'_>, status: StatusCode) -> Outcome {
        match self.config.policy.preset {
            Preset::Strict if fill.loaded.entry().is_none() => Outcome::Unstored("server-error"),
            Preset::Strict | Preset::Uptime => {
                Outcome::Failed(format!("it answered {}", status.as_u16()))
            }
        }
    }

    fn hand_on(&self, response: Response<P::Body>, head: &mut HeadSender<P::Body>) {
        let (mut parts, body) = response.into_parts();
        strip_connection_fields(&mut parts.headers);
        head.send(Head::Response(parts, AnswerBody::Origin(body), false));
    }

    /// Stores a response that may be stored, while whoever waits reads it.
    pub(super) async fn keep(
        self: &Rc<Self>,
        fill: &Fill<'_>,
        fetched: &Fetched<'_>,
        response: Response<P::Body>,
        freshness: Freshness,
        head: &mut HeadSender<P::Body>,
    ) -> Outcome {
        let announced = announced(response.headers());
        let limit = self.config.limits.body;
        if announced.is_some_and(|length| length > limit) {
            self.hand_on(response, head);
            return Outcome::Pass(NotStorable::TooLong);
        }
        let (mut parts, body) = response.into_parts();
        strip_connection_fields(&mut parts.headers);
        let mut entry = Box::new(Entry {
            headers: self.storable_headers(parts.headers.clone()),
            ..self.entry(fetched, parts.status, freshness)
        });
        let storing = Storing {
            loaded: fill.loaded,
            holder: fill.holder,
            acts_until: fill.acts_until,
            announced,
            limit,
        };
        let (kept, stream) = self.store_body(storing, body);
        head.send(Head::Response(parts, AnswerBody::Stream(stream), true));
        match kept.await {
            Kept::Whole(body) => {
                entry.body = body;
                Outcome::Store(entry)
            }
            Kept::TooLong => Outcome::Pass(NotStorable::TooLong),
            Kept::Broken(error) => Outcome::Failed(error.to_string()),
            Kept::Lost(why) => Outcome::Unstored(why),
        }
    }

    /// Longest body that goes into the cell, in bytes.
    pub(super) fn inline_limit(&self) -> usize {
        let limits = &self.config.limits;
        usize::try_from(limits.body).map_or(limits.inline, |body| body.min(limits.inline))
    }

    pub(super) fn storability(
        &self,
        fetched: &Fetched<'_>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Storability {
        let policy = &self.config.policy;
        let (request_time, response_time) = (fetched.request_time, fetched.response_time);
        let mut storability = storability(
            &Method::GET,
            fetched.request_headers,
            status,
            headers,
            request_time,
            response_time,
            policy,
        );
        if let Storability::Store(freshness) = &mut storability {
            self.spread(freshness);
        }
        storability
    }

    /// Cuts a lifetime at random, so that entries which were stored together do
    /// not expire together.
    pub(super) fn spread(&self, freshness: &mut Freshness) {
        let jitter = u128::from(self.config.policy.jitter_per_mille);
        let cut = u64::try_from(self.platform.random() % (jitter + 1)).unwrap_or(0);
        let lifetime = freshness.lifetime_ms;
        freshness.lifetime_ms = lifetime
            - (lifetime / 1_000).saturating_mul(cut)
            - (lifetime % 1_000).saturating_mul(cut) / 1_000;
    }

    pub(super) fn storable_headers(&self, mut headers: HeaderMap) -> HeaderMap {
        remove_private_fields(&mut headers, &self.config.policy);
        headers
    }

    /// An entry with neither fields nor body yet.
    pub(super) fn entry(
        &self,
        fetched: &Fetched<'_>,
        status: StatusCode,
        freshness: Freshness,
    ) -> Entry {
        Entry {
            status,
            headers: HeaderMap::new(),
            request_time: fetched.request_time,
            fetch_millis: millis(fetched.response_time.since(fetched.request_time)),
            freshness,
            lease: fetched.holder,
            invalidated: false,
            body: cell::Body::Inline(Bytes::new()),
        }
    }

    /// What the origin does, for at most `origin.first_byte_timeout`.
    pub(super) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, OriginError>>,
    ) -> Result<T, OriginError> {
        let timeout = self.platform.sleep(self.config.origin.first_byte_timeout);
        match select(pin!(work), pin!(timeout)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(OriginError::Timeout),
        }
    }
}

/// The length that a response announces, in bytes.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
}
