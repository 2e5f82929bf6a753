//! Going to the origin under a lease, and settling the lease with what comes.

use super::answer::AnswerBody;
use super::cells::{Election, Held, Settled};
use super::flight::Landing;
use super::lookup::variant_key;
use super::platform::{Body, OriginError, OriginRequest, Platform};
use super::tee::{Copied, tee};
use super::{Shield, event};
use crate::cell::{self, Entry, Nonce, Pass};
use crate::semantics::Reason as NotStored;
use crate::semantics::{
    Freshness, Storability, Vary, add_validators, freshen, matches, remove_conditions,
    remove_private_fields, storability, strip_connection_fields, vary,
};
use crate::store::StoreError;
use crate::time::{Time, millis};
use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, select};
use http::header::CONTENT_LENGTH;
use http::{Method, Response, StatusCode, request, response};
use std::pin::pin;
use std::rc::Rc;

/// A lease is renewed when a third of it is over, counted from its start: an
/// election may have taken its time.
const RENEW_AFTER: u32 = 3;

/// A renewal that has not come to an end after this part of a lease is given up
/// and tried anew, so that one lost reply does not cost the lease.
const RENEWAL_TRIES: u32 = 6;

/// Shortest pause between two renewals, as a part of a lease.
const RENEWAL_PAUSE_MIN: u32 = 24;

/// Most `Vary` fields of a key. A key with more is passed: it would have a
/// variant for nearly every visitor.
const VARY_FIELDS_MAX: usize = 16;

/// Why the origin is asked; the word in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nothing stored.
    Miss,
    /// Something stored that must be validated first.
    Revalidate,
    /// Something stale, refreshed behind an answer.
    Refresh,
    /// Something about to expire, refreshed behind an answer.
    Early,
}

/// What the visitor gets who waits for a fetch.
pub(super) enum Head<B> {
    /// The origin's response, while it comes, and whether it is being stored.
    Response(response::Parts, AnswerBody<B>, bool),
    /// The entry, which the origin says is still good.
    Renewed(Box<Entry>),
    /// Nothing of use: the stale entry, if there is one.
    Failed,
}

/// A fetch under a lease.
pub(super) struct Job<P: Platform> {
    pub(super) held: Box<Held>,
    /// The request on whose behalf the origin is asked.
    pub(super) visitor: request::Parts,
    /// The primary key.
    pub(super) key: String,
    pub(super) reason: Reason,
    /// Whether the entry at hand may be used if the origin fails: then a server
    /// error is not handed on.
    pub(super) on_error: bool,
    /// Who waits for the head; none where the visitor has been answered.
    pub(super) head: Option<oneshot::Sender<Head<P::Body>>>,
    /// Keeps others of this instance waiting until the lease is settled.
    pub(super) landing: Landing<P::Wake>,
}

/// What the exchange with the origin came to, and so how the lease is settled.
enum Outcome {
    /// A whole response that may be stored, or an entry renewed by a 304.
    Store(Box<Entry>),
    /// A response that may not be stored, or is too long.
    Pass(NotStorable),
    /// No response, half of one, or a server error; why, for the log.
    Failed(String),
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug)]
enum NotStorable {
    /// HTTP's rules say so.
    Because(NotStored),
    /// Its body is longer than `limits.inline`.
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

impl<P: Platform> Shield<P> {
    /// Runs a job behind whoever waits for its head, to its end even if they
    /// leave.
    pub(super) fn spawn_job(self: &Rc<Self>, job: Job<P>) {
        let shield = Rc::clone(self);
        self.platform
            .spawn(async move { shield.run_job(job).await });
    }

    /// Asks the origin, renews the lease meanwhile, and settles it.
    pub(super) async fn run_job(&self, job: Job<P>) {
        let Job {
            mut held,
            visitor,
            key,
            reason,
            on_error,
            head,
            landing,
        } = job;
        let start = self.platform.now();
        if !self.may_act(&held) {
            // The store took longer than the lease to say who has it: another
            // may have it by now, and such a store is as good as none. Dropping
            // `head` makes who waits look again.
            let error = StoreError::new("an election took longer than its lease");
            self.note_store_failure("elect", &error);
            self.log_fetch(
                reason,
                &held.loaded.key,
                "late",
                None,
                start,
                Settled::Failed,
            );
            return;
        }
        let stale = held.loaded.entry().cloned();
        let mut head = HeadSender(head);
        let mut status = None;
        let (holder, target) = (held.holder, held.loaded.key.clone());
        let (outcome, fenced) = {
            let fill = Fill {
                holder,
                visitor: &visitor,
                stale: stale.as_ref(),
                on_error,
            };
            let mut exchange = pin!(self.exchange(&fill, &mut head, &mut status));
            self.renewing(&mut held, &mut exchange).await
        };
        let (word, settled) = match fenced {
            Some(settled) => ("fenced".to_owned(), settled),
            None => self.settle_outcome(held, &key, &visitor, outcome).await,
        };
        self.log_fetch(reason, &target, &word, status, start, settled);
        // Only now may others of this instance look again.
        drop(landing);
    }

    /// Runs `work` and keeps the lease alive while it takes. Says in the second
    /// part of the answer if the lease was lost.
    async fn renewing<T>(
        &self,
        held: &mut Held,
        mut work: impl Future<Output = T> + Unpin,
    ) -> (T, Option<Settled>) {
        let lease = self.config.lease.duration;
        loop {
            let due = held.deadline.minus(lease - lease / RENEW_AFTER);
            let pause = due
                .since(self.platform.now())
                .max(lease / RENEWAL_PAUSE_MIN);
            let pause = pin!(self.platform.sleep(pause));
            work = match select(work, pause).await {
                Either::Left((done, _)) => return (done, None),
                Either::Right(((), work)) => work,
            };
            let renewal = pin!(async {
                let timeout = self.platform.sleep(lease / RENEWAL_TRIES);
                match select(pin!(self.renew(held)), pin!(timeout)).await {
                    Either::Left((settled, _)) => settled,
                    Either::Right(_) => Settled::Failed,
                }
            });
            work = match select(work, renewal).await {
                // A renewal cut short may be stored or not; settling finds out.
                Either::Left((done, _)) => return (done, None),
                Either::Right((Settled::Done | Settled::Failed, work)) => work,
                // Another has the cell. What comes is still our visitor's.
                Either::Right((settled @ Settled::Fenced(_), work)) => {
                    return (work.await, Some(settled));
                }
            };
        }
    }

    /// One exchange with the origin, repeated without conditions if it answers
    /// 304 to what we do not have.
    async fn exchange(
        &self,
        fill: &Fill<'_>,
        head: &mut HeadSender<P::Body>,
        status: &mut Option<StatusCode>,
    ) -> Outcome {
        let mut condition = fill.stale;
        loop {
            let request = match self.fill_parts(fill.visitor, condition) {
                Ok(parts) => OriginRequest {
                    parts,
                    body: None,
                    connect_timeout: self.config.origin.connect_timeout,
                    first_byte_timeout: self.config.origin.first_byte_timeout,
                },
                Err(error) => return head.fail(&OriginError::Failed(error.to_string())),
            };
            let request_headers = request.parts.headers.clone();
            let request_time = self.platform.now();
            let response = match self.in_time(self.platform.send(request)).await {
                Ok(response) => response,
                Err(error) => return head.fail(&error),
            };
            let response_time = self.platform.now();
            *status = Some(response.status());
            let fetched = Fetched {
                holder: fill.holder,
                request_headers: &request_headers,
                request_time,
                response_time,
            };
            if response.status() == StatusCode::NOT_MODIFIED
                && let Some(entry) = condition
            {
                if matches(&entry.headers, response.headers()) {
                    return self.renewed(&fetched, entry, &response, head);
                }
                // Bounded: the second request has no conditions.
                condition = None;
                continue;
            }
            return self.received(&fetched, fill.on_error, response, head).await;
        }
    }

    /// The request that fills or refreshes a cell: the visitor's, as a GET,
    /// without the visitor's conditions and with the entry's.
    fn fill_parts(
        &self,
        visitor: &request::Parts,
        entry: Option<&Entry>,
    ) -> Result<request::Parts, http::Error> {
        let mut parts = self.origin_parts(visitor)?;
        parts.method = Method::GET;
        remove_conditions(&mut parts.headers);
        if let Some(entry) = entry {
            add_validators(&mut parts.headers, &entry.headers);
        }
        Ok(parts)
    }

    /// The origin says that the entry is still good (RFC 9111, 4.3.4).
    fn renewed(
        &self,
        fetched: &Fetched<'_>,
        entry: &Entry,
        response: &Response<P::Body>,
        head: &mut HeadSender<P::Body>,
    ) -> Outcome {
        let mut update = response.headers().clone();
        strip_connection_fields(&mut update);
        let headers = freshen(&entry.headers, &update);
        match self.storability(fetched, entry.status, &headers) {
            Storability::Store(freshness) => {
                let entry = Box::new(Entry {
                    headers: self.storable_headers(headers),
                    body: entry.body.clone(),
                    ..self.entry(fetched, entry.status, freshness)
                });
                head.send(Head::Renewed(entry.clone()));
                Outcome::Store(entry)
            }
            Storability::DoNotStore(reason) => {
                let cell::Body::Inline(body) = &entry.body;
                let mut parts = Response::new(()).into_parts().0;
                parts.status = entry.status;
                parts.headers = headers;
                head.send(Head::Response(parts, AnswerBody::Full(body.clone()), false));
                Outcome::Pass(NotStorable::Because(reason))
            }
        }
    }

    /// A response with content of its own.
    async fn received(
        &self,
        fetched: &Fetched<'_>,
        on_error: bool,
        response: Response<P::Body>,
        head: &mut HeadSender<P::Body>,
    ) -> Outcome {
        let (mut parts, body) = response.into_parts();
        if parts.status.is_server_error() && on_error {
            return head.fail(&OriginError::Failed(format!(
                "it answered {}",
                parts.status.as_u16()
            )));
        }
        // Judged by all that the origin said, `Connection` included.
        let storability = self.storability(fetched, parts.status, &parts.headers);
        strip_connection_fields(&mut parts.headers);
        let freshness = match storability {
            Storability::Store(freshness) => freshness,
            Storability::DoNotStore(reason) => {
                let status = parts.status;
                head.send(Head::Response(parts, AnswerBody::Origin(body), false));
                return if status.is_server_error() {
                    Outcome::Failed(format!("it answered {}", status.as_u16()))
                } else {
                    Outcome::Pass(NotStorable::Because(reason))
                };
            }
        };
        let announced = parts
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let limit = self.config.limits.inline;
        if announced.is_some_and(|length| length > limit as u64) {
            head.send(Head::Response(parts, AnswerBody::Origin(body), false));
            return Outcome::Pass(NotStorable::TooLong);
        }
        let entry = Entry {
            headers: self.storable_headers(parts.headers.clone()),
            ..self.entry(fetched, parts.status, freshness)
        };
        let (writer, reader) = tee();
        head.send(Head::Response(parts, AnswerBody::Tee(reader), true));
        let next = async |body: &mut P::Body| {
            let chunk = async { body.chunk().await.transpose() };
            self.in_time(chunk).await.transpose()
        };
        match writer.copy(body, announced, limit, next).await {
            Copied::Whole(body) => Outcome::Store(Box::new(Entry {
                body: cell::Body::Inline(body),
                ..entry
            })),
            Copied::TooLong => Outcome::Pass(NotStorable::TooLong),
            Copied::Broken(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// Settles the lease with what the exchange came to; says so in a word.
    async fn settle_outcome(
        &self,
        held: Box<Held>,
        key: &str,
        visitor: &request::Parts,
        outcome: Outcome,
    ) -> (String, Settled) {
        match outcome {
            Outcome::Store(entry) => match vary(&entry.headers) {
                Vary::None => ("stored".to_owned(), self.publish(held, *entry).await),
                Vary::Any => {
                    self.pass_on(held, NotStorable::Because(NotStored::VaryStar))
                        .await
                }
                Vary::Fields(fields) => {
                    let fields: Vec<String> =
                        fields.iter().map(|name| name.as_str().to_owned()).collect();
                    self.publish_variant(held, key, visitor, *entry, &fields)
                        .await
                }
            },
            Outcome::Pass(reason) => self.pass_on(held, reason).await,
            Outcome::Failed(why) => (format!("failed: {why}"), self.mark_failure(held).await),
        }
    }

    async fn pass_on(&self, held: Box<Held>, reason: NotStorable) -> (String, Settled) {
        let (authorized_only, keep_entry, mark) = match reason {
            NotStorable::Because(NotStored::Authorization) => (true, true, true),
            NotStorable::Because(reason) => (false, false, reason.marks_pass()),
            NotStorable::TooLong | NotStorable::TooManyVaryFields => (false, false, true),
        };
        if !mark {
            return (format!("not-stored: {reason}"), self.release(held).await);
        }
        let pass = Pass {
            until: self.platform.now().plus(self.config.origin.pass),
            authorized_only,
        };
        (
            format!("passed: {reason}"),
            self.mark_pass(held, pass, keep_entry).await,
        )
    }

    /// Publishes an entry that holds for one variant of its key. Where the cell
    /// at hand is not that variant's, the variant's is written first: whoever
    /// then learns from the primary cell that there are variants, finds it.
    async fn publish_variant(
        &self,
        held: Box<Held>,
        key: &str,
        visitor: &request::Parts,
        entry: Entry,
        fields: &[String],
    ) -> (String, Settled) {
        let primary = held.loaded.key == key;
        let known = if primary {
            held.loaded.vary().to_vec()
        } else {
            self.load(key).await.vary().to_vec()
        };
        let mut names = known.clone();
        names.extend(fields.iter().filter(|name| !known.contains(name)).cloned());
        names.sort_unstable();
        if names.len() > VARY_FIELDS_MAX {
            return self.pass_on(held, NotStorable::TooManyVaryFields).await;
        }
        let variant = variant_key(key, &names, &visitor.headers);
        if held.loaded.key == variant {
            return ("stored".to_owned(), self.publish(held, entry).await);
        }
        let settled = match self.elect(&self.load(&variant).await).await {
            Election::Held(variant) => {
                let entry = Entry {
                    lease: variant.holder,
                    ..entry
                };
                self.publish(variant, entry).await
            }
            // Another is at this variant: theirs is as good as ours.
            Election::Taken(_) | Election::Backoff | Election::Changed => Settled::Done,
        };
        if primary {
            self.split(held, &names).await;
        } else {
            self.release(held).await;
            self.widen(key, &names).await;
        }
        ("stored-variant".to_owned(), settled)
    }

    fn storability(
        &self,
        fetched: &Fetched<'_>,
        status: StatusCode,
        headers: &http::HeaderMap,
    ) -> Storability {
        let mut storability = storability(
            &Method::GET,
            fetched.request_headers,
            status,
            headers,
            fetched.request_time,
            fetched.response_time,
            &self.config.policy,
        );
        if let Storability::Store(freshness) = &mut storability {
            let jitter = u128::from(self.config.policy.jitter_per_mille);
            let cut = u64::try_from(self.platform.random() % (jitter + 1)).unwrap_or(0);
            let lifetime = freshness.lifetime_ms;
            freshness.lifetime_ms = lifetime
                - (lifetime / 1_000).saturating_mul(cut)
                - (lifetime % 1_000).saturating_mul(cut) / 1_000;
        }
        storability
    }

    fn storable_headers(&self, mut headers: http::HeaderMap) -> http::HeaderMap {
        remove_private_fields(&mut headers, &self.config.policy);
        headers
    }

    /// An entry with neither fields nor body yet.
    fn entry(&self, fetched: &Fetched<'_>, status: StatusCode, freshness: Freshness) -> Entry {
        Entry {
            status,
            headers: http::HeaderMap::new(),
            request_time: fetched.request_time,
            fetch_millis: millis(fetched.response_time.since(fetched.request_time)),
            freshness,
            lease: fetched.holder,
            invalidated: false,
            body: cell::Body::Inline(Bytes::new()),
        }
    }

    /// What the origin does, for at most `origin.first_byte_timeout`.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, OriginError>>,
    ) -> Result<T, OriginError> {
        let timeout = self.platform.sleep(self.config.origin.first_byte_timeout);
        match select(pin!(work), pin!(timeout)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(OriginError::Timeout),
        }
    }

    fn log_fetch(
        &self,
        reason: Reason,
        key: &str,
        outcome: &str,
        status: Option<StatusCode>,
        start: Time,
        settled: Settled,
    ) {
        self.platform.log(&event(
            "origin",
            &[
                ("reason", format!("{reason:?}").to_lowercase().into()),
                ("key", key.into()),
                ("status", status.map(|status| status.as_u16()).into()),
                ("outcome", outcome.into()),
                ("settled", settled.name().into()),
                ("millis", millis(self.platform.now().since(start)).into()),
            ],
        ));
    }
}

/// What a fetch starts from.
struct Fill<'a> {
    holder: Nonce,
    visitor: &'a request::Parts,
    stale: Option<&'a Entry>,
    on_error: bool,
}

/// One exchange: under which lease, and when.
struct Fetched<'a> {
    holder: Nonce,
    request_headers: &'a http::HeaderMap,
    request_time: Time,
    response_time: Time,
}

/// Sends the head once, if anybody waits for it.
struct HeadSender<B>(Option<oneshot::Sender<Head<B>>>);

impl<B> HeadSender<B> {
    fn send(&mut self, head: Head<B>) {
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
