//! A fetch under a lease: the origin is asked the question, and the lease is
//! settled with what comes.
//!
//! Nothing here knows the visitor's request. The origin gets what
//! [`Question::fill`] renders, so what one visitor sends cannot shape what
//! another is given.

use super::Shield;
use super::answer_body::AnswerBody;
use super::fetch::{
    Brought, Exchange, Fetched, Head, HeadSender, Job, Moment, NotKept, Outcome, Reason, Shared,
    Start,
};
use super::judge::{self, Effect, Present};
use super::served::Own;
use super::store_body::{KeptBody, Storing};
use crate::budget::Class;
use crate::cell::codec::may_store;
use crate::cell::transition::Failure;
use crate::cell::{
    self, Coming, Draft, Entry, Manifest, Orphan, SEEN_PRECISION, Selecting, StoredUnder,
};
use crate::cells::{Election, Held, Located, Place, Settled, Told};
use crate::config::Config;
use crate::origin::{Admission, Answered, LogLine, Named, OriginBody, Slot, time_left};
use crate::question::policy::{FAILURE_BODY_MAX, FAILURE_ENCODED_MAX, any_matches};
use crate::question::target::path_of;
use crate::question::{Question, accept, fields, location};
use crate::semantics::{
    Asked, Audience, Kept, Preset, Reason as NotStored, Storability, announced, confirms, freshen,
    has_text, is_endless, is_loop_answer, is_transient, remove_private_fields, retry_after,
    selecting_names, storability, storability_of_preflight, strip_connection_fields,
};
use crate::store::StoreError;
use crate::time::{Time, millis};
use crate::world::{OriginError, Platform};
use bytes::Bytes;
use futures::future::{Either, join, select};
use http::header::{RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderName, Response, StatusCode, response};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// A lease is renewed when this part of it is over, counted from its start: an
/// election may have taken its time.
const RENEW_AFTER: u32 = 3;

/// A renewal that has not ended after this part of a lease is given up and tried
/// again, so that one lost reply does not cost the lease.
const RENEWAL_TRIES: u32 = 6;

/// A fetch behind an answer waits for its slot for this part of a lease, under the lease.
const WAIT_FOR_SLOT: u32 = 2;

/// Shortest pause between two renewals, as a part of a lease.
const RENEWAL_PAUSE_MIN: u32 = 24;

/// Most selecting fields of a key. A key with more is passed: nearly every
/// visitor would have a variant of its own.
const SELECTING_MAX: usize = 16;

/// What the log says of a request that is followed by one without conditions.
const UNCONFIRMED: &str = "unconfirmed";

impl<P: Platform> Shield<P> {
    /// Runs a job to its end, even if the request that waits for its head leaves.
    pub(super) fn spawn_job(self: &Rc<Self>, job: Job<P>) {
        let shield = Rc::clone(self);
        self.platform
            .spawn(async move { shield.run_job(job).await });
    }

    /// Asks the origin, renews the lease meanwhile, and settles it.
    pub(super) async fn run_job(self: &Rc<Self>, job: Job<P>) {
        let Job {
            mut held,
            slot,
            question,
            key,
            named,
            known,
            config,
            reason,
            head,
            flight,
        } = job;
        let began = self.platform.now();
        if !self.cells.may_begin(&held) {
            // The store took longer than the lease to say who has it: another may
            // have it by now. Dropping `head` makes the request look again.
            let error = StoreError::new("an election took longer than its lease");
            self.cells.note_store_failure("elect", &error);
            let asked = (&question, &named, reason);
            self.log_fill(asked, Ok(None), "late", Settled::Failed, began);
            return;
        }
        let mut head = HeadSender(head);
        let mut status = Ok(None);
        let loaded = held.loaded.clone();
        let acts_until = Cell::new(self.cells.acts_until(&held));
        let done = Rc::clone(&held.done);
        let ((outcome, removed), fenced) = {
            let begun = || flight.hand_over(Brought::Begun);
            let start = Start {
                loaded: &loaded,
                holder: held.holder,
                acts_until: &acts_until,
                done: &done,
                shared: Some(Shared {
                    key: &key,
                    known: &known,
                    begun: &begun,
                }),
                question: &question,
                named: Some(&named),
                config: &config,
            };
            let exchange = async {
                let outcome = match self.admit_refresh(&start, slot).await {
                    Ok(slot) => {
                        flight.ask();
                        self.ask(&start, slot, reason, &mut head, &mut status).await
                    }
                    Err(why) => Outcome::Release(why.to_owned()),
                };
                if let Some(brought) = Brought::from(&outcome, &question) {
                    flight.hand_over(brought);
                }
                outcome
            };
            // Removes garbage while the origin takes its time.
            let work = pin!(join(exchange, self.cells.collect(&loaded)));
            self.renewing(&mut held, &acts_until, work).await
        };
        let (word, settled) = match fenced {
            Some(settled) => ("fenced".to_owned(), settled),
            None => {
                let settling = Settling {
                    key: &key,
                    question: &question,
                    known: &known,
                    config: &config,
                    removed: &removed,
                };
                self.settle(held, settling, outcome).await
            }
        };
        let status = status.as_ref().map(|status| *status);
        self.log_fill((&question, &named, reason), status, &word, settled, began);
        // Only now may other requests of this instance look again.
        drop(flight);
    }

    /// The slot for a fetch under a lease. A fetch behind an answer waits for one, and
    /// yields to requests that visitors wait for. Where it gets none soon it gives the lease
    /// back: a visitor for whom nothing is stored any more would wait for this fetch, and its
    /// own request gets a slot first. That costs two swaps, with the next election, so where
    /// they are slow it waits on.
    async fn admit_refresh(
        &self,
        start: &Start<'_>,
        slot: Option<Slot>,
    ) -> Result<Slot, &'static str> {
        if let Some(slot) = slot {
            return Ok(slot);
        }
        let most = start.config.wait.budget;
        let most = match self.cells.spares_swaps() {
            true => most,
            false => most.min(self.config.lease.duration / WAIT_FOR_SLOT),
        };
        let limit = self.platform.now().plus(most);
        let target = path_of(start.question.target());
        match self.door.admit(Class::Refresh, target, limit).await {
            // Another may have the lease by now.
            Admission::Granted(_) if self.platform.now() >= start.acts_until.get() => Err("late"),
            Admission::Granted(slot) => Ok(slot),
            Admission::Halted(halt) => Err(halt.by.token()),
            Admission::Busy | Admission::Gone => Err("origin-busy"),
        }
    }

    /// Runs `work` and keeps the lease alive meanwhile. The second part of the
    /// answer says how the lease was lost, if it was.
    pub(super) async fn renewing<T>(
        &self,
        held: &mut Held,
        acts_until: &Cell<Time>,
        mut work: impl Future<Output = T> + Unpin,
    ) -> (T, Option<Settled>) {
        let lease = self.config.lease.duration;
        loop {
            let now = self.platform.now();
            let deadline = held.deadline.within(lease, now);
            let due = deadline.minus(lease - lease / RENEW_AFTER);
            let pause = due.since(now).max(lease / RENEWAL_PAUSE_MIN);
            let pause = pin!(self.platform.sleep(pause));
            work = match select(work, pause).await {
                Either::Left((done, _)) => return (done, None),
                Either::Right(((), work)) => work,
            };
            let renewal = pin!(async {
                let timeout = self.platform.sleep(lease / RENEWAL_TRIES);
                let settled = match select(pin!(self.cells.renew(held)), pin!(timeout)).await {
                    Either::Left((settled, _)) => settled,
                    Either::Right(_) => Settled::Failed,
                };
                acts_until.set(match settled {
                    Settled::Done | Settled::Failed | Settled::Refused => {
                        self.cells.acts_until(held)
                    }
                    Settled::Fenced(_) => Time::default(),
                });
                settled
            });
            work = match select(work, renewal).await {
                // A renewal cut short may be stored or not; settling finds out.
                Either::Left((done, _)) => return (done, None),
                Either::Right((Settled::Done | Settled::Failed | Settled::Refused, work)) => work,
                // Another has the cell. The answer still goes to our visitor.
                Either::Right((settled @ Settled::Fenced(_), work)) => {
                    return (work.await, Some(settled));
                }
            };
        }
    }

    /// Asks the origin, and once more for the whole if it answers a condition
    /// with what is of no use.
    async fn ask(
        self: &Rc<Self>,
        start: &Start<'_>,
        mut slot: Slot,
        reason: Reason,
        head: &mut HeadSender<P::Body>,
        status: &mut Result<Option<StatusCode>, OriginError>,
    ) -> Outcome {
        // The answer to OPTIONS has no validators.
        let is_preflight = start.question.is_preflight();
        let mut validated = start.loaded.entry().filter(|_| !is_preflight);
        let mut began = None;
        loop {
            let fields = validated.map(|entry| &entry.headers);
            let fill = start
                .question
                .fill(fields, self.door.outgoing(start.config));
            let asked = fill.headers().clone();
            if self.refuses_connection_auth(&asked, start.config) {
                let error = OriginError::ConnectionAuth;
                *status = Err(error.clone());
                return self.not_answered(start, &error, head);
            }
            let filling = self.door.fill(fill, slot, start.acts_until, start.config);
            let answered = match began {
                None => filling.await,
                // The second request is part of the same fetch.
                Some(began) => {
                    self.door
                        .within(self.time_left(start, began), filling)
                        .await
                }
            };
            let answered = match answered {
                Ok(answered) => answered,
                Err(error) => {
                    *status = Err(error.clone());
                    return self.not_answered(start, &error, head);
                }
            };
            let Answered {
                mut response,
                request_time,
                response_time,
            } = answered;
            *status = Ok(Some(response.status()));
            location::rewrite(response.headers_mut(), self.door.origin());
            // The body of a slow page has as much time as that of any other.
            let head_time = start.config.origin.first_byte_timeout;
            let counted = request_time.max(response_time.minus(head_time));
            let exchange = Exchange {
                asked: &asked,
                began: *began.get_or_insert(counted),
                request_time,
                response_time,
            };
            match (validated, response.status()) {
                (Some(entry), StatusCode::NOT_MODIFIED)
                    if confirms(&entry.headers, response.headers()) =>
                {
                    return self
                        .renewed(start, &exchange, entry, response.headers(), head)
                        .await;
                }
                // It confirms what is not stored here: ask for the whole.
                (Some(_), StatusCode::NOT_MODIFIED) => {
                    self.log_unconfirmed(start, reason, &exchange);
                    *status = Ok(None);
                }
                (None, StatusCode::NOT_MODIFIED) => {
                    head.send(Head::Failed(Own::OriginFailed, None));
                    return failed("304 to a request without conditions");
                }
                (_, _) => return self.received(start, &exchange, response, head).await,
            }
            // The second request has no conditions, so the loop ends.
            validated = None;
            let Some(first) = response.into_body().into_slot() else {
                return Outcome::Release("not-stored: no slot".to_owned());
            };
            let left = self.time_left(start, exchange.began);
            let limit = self.platform.now().plus(left);
            slot = match self.door.another(first, limit).await {
                Admission::Granted(slot) => slot,
                Admission::Halted(halt) => return Outcome::Release(halt.by.token().to_owned()),
                Admission::Busy | Admission::Gone => {
                    return Outcome::Release("origin-busy".to_owned());
                }
            };
            // A holder that was held up may have a successor by now. The request
            // that waits for the head looks again.
            if self.platform.now() >= start.acts_until.get() {
                return Outcome::Release("not-stored: the lease was lost".to_owned());
            }
        }
    }

    /// What is left of `origin.fill_timeout`.
    fn time_left(&self, start: &Start<'_>, began: Time) -> Duration {
        time_left(start.config.origin.fill_timeout, began, self.platform.now())
    }

    /// The origin says that the entry is still good (RFC 9111 section 4.3.4).
    async fn renewed(
        self: &Rc<Self>,
        start: &Start<'_>,
        exchange: &Exchange<'_>,
        entry: &Entry,
        not_modified: &HeaderMap,
        head: &mut HeadSender<P::Body>,
    ) -> Outcome {
        let mut update = not_modified.clone();
        strip_connection_fields(&mut update);
        let moment = Moment::take_from(&mut update, start.config.policy.preset);
        let preset = start.config.policy.preset;
        let headers = freshen(&entry.headers, &update, preset);
        let storability = self.storability(start, exchange, entry.status, &headers);
        match self.effect(start, entry.status, &headers, storability, false) {
            Effect::Store(mut kept) => {
                // Those that waited before it was asked for get what is known to be
                // current.
                kept.freshness.alone = 0;
                let mut renewed = Box::new(Entry {
                    headers: self.storable_fields(headers, entry.status, start.config),
                    body: entry.body.clone(),
                    ..self.entry(start, exchange, entry.status, kept)
                });
                renewed.under.withholds_cookie =
                    entry.under.withholds_cookie || not_modified.contains_key(SET_COOKIE);
                let entry = renewed;
                head.send(Head::Entry(entry.clone(), moment));
                Outcome::Store(entry)
            }
            Effect::Fail { retry_after, .. } => {
                let retry_after = honoured(retry_after, start.config);
                head.send(Head::Failed(Own::OriginFailed, retry_after));
                self.refresh_failed(start, entry.status, retry_after, None)
            }
            Effect::Doubt(reason) => {
                head.send(Head::Doubted);
                doubted(reason)
            }
            // The visitor may have it, and nobody after.
            Effect::Pass(reason) => {
                let why = NotKept::Because(reason);
                self.hand_on_entry(start, entry, (headers, why), head).await;
                Outcome::Pass(why)
            }
            Effect::Nothing(reason) => {
                let why = NotKept::Because(reason);
                self.hand_on_entry(start, entry, (headers, why), head).await;
                Outcome::Release(format!("not-stored: {reason}"))
            }
        }
    }

    /// Hands the content of an entry to the visitor, with other fields. If it
    /// cannot be read, the request looks again.
    async fn hand_on_entry(
        self: &Rc<Self>,
        start: &Start<'_>,
        entry: &Entry,
        (headers, why): (HeaderMap, NotKept),
        head: &mut HeadSender<P::Body>,
    ) {
        let body = match &entry.body {
            cell::Body::Inline(body) => Ok(AnswerBody::Full(body.clone())),
            cell::Body::Chunked(manifest) => {
                self.stored_body(Place::of(start.loaded), *manifest, 0..manifest.length)
                    .await
            }
        };
        if let Ok(body) = body {
            let names = self.names(&headers, start.config);
            let mut parts = Response::new(()).into_parts().0;
            parts.status = entry.status;
            parts.headers = headers;
            head.send(Head::Response(Box::new(Fetched {
                parts,
                body,
                not_kept: Some(why),
                audience: Audience::Anonymous,
                names,
            })));
        }
    }

    /// A response with content of its own.
    async fn received(
        self: &Rc<Self>,
        start: &Start<'_>,
        exchange: &Exchange<'_>,
        response: Response<OriginBody<P::Body>>,
        head: &mut HeadSender<P::Body>,
    ) -> Outcome {
        let (parts, mut body) = response.into_parts();
        if is_loop_answer(parts.status, &parts.headers) && !self.is_usable(start) {
            // There is no origin to spare: the next visitor is told the same at once.
            let why = NotKept::Because(NotStored::Failure);
            let whom = Audience::Everyone;
            self.hand_on(start, (parts, body), (whom, why), head);
            return Outcome::Release("not-stored: it led back to a shield".to_owned());
        }
        let is_failure = match self.is_failure(start, exchange, &parts, &mut body).await {
            Ok(is_failure) => is_failure,
            Err(error) => return self.not_answered(start, &error, head),
        };
        // Judged by all that the origin said, `Connection` included.
        let storability = self.storability(start, exchange, parts.status, &parts.headers);
        match self.effect(start, parts.status, &parts.headers, storability, is_failure) {
            Effect::Store(kept) => self.keep(start, exchange, (parts, body), kept, head).await,
            Effect::Fail { retry_after, .. } if self.is_usable(start) => {
                let retry_after = honoured(retry_after, start.config);
                head.send(Head::Failed(Own::OriginFailed, retry_after));
                self.refresh_failed(start, parts.status, retry_after, None)
            }
            Effect::Fail {
                retry_after,
                brief: Some(kept),
            } => {
                let status = parts.status;
                // Waiting requests do not get a failure before the answer has ended.
                let start = &Start {
                    shared: None,
                    ..*start
                };
                let kept = self.keep(start, exchange, (parts, body), kept, head).await;
                let brief = match kept {
                    Outcome::Store(entry) => Some(entry),
                    Outcome::Fail { .. }
                    | Outcome::Pass(_)
                    | Outcome::Release(_)
                    | Outcome::Unpublished => None,
                };
                self.refresh_failed(start, status, retry_after, brief)
            }
            Effect::Fail {
                retry_after,
                brief: None,
            } => {
                let status = parts.status;
                let why = NotKept::Because(NotStored::Failure);
                let whom = audience_of_failure(start);
                self.hand_on(start, (parts, body), (whom, why), head);
                self.refresh_failed(start, status, retry_after, None)
            }
            Effect::Doubt(reason) => {
                head.send(Head::Doubted);
                doubted(reason)
            }
            Effect::Pass(reason) => {
                let why = NotKept::Because(reason);
                self.hand_on(start, (parts, body), (Audience::Anonymous, why), head);
                Outcome::Pass(why)
            }
            Effect::Nothing(reason) => {
                let endless = parts.status.is_success() && is_endless(&parts.headers);
                let why = match endless {
                    true => NotKept::Stream,
                    false => NotKept::Because(reason),
                };
                self.hand_on(start, (parts, body), (Audience::Anonymous, why), head);
                match endless {
                    true => Outcome::Pass(why),
                    false => Outcome::Release(format!("not-stored: {reason}")),
                }
            }
        }
    }

    /// Whether the rule calls an answer a failure. The beginning of its body is read where the
    /// rule looks there.
    async fn is_failure(
        &self,
        start: &Start<'_>,
        exchange: &Exchange<'_>,
        parts: &response::Parts,
        body: &mut OriginBody<P::Body>,
    ) -> Result<bool, OriginError> {
        let rule = &start.config.failure;
        let is_failure = rule.statuses.contains(&parts.status.as_u16());
        let text = match &rule.body_contains {
            Some(text) if !is_failure && !is_endless(&parts.headers) => text,
            Some(_) | None => return Ok(is_failure),
        };
        let most = match accept::is_encoded(&parts.headers) {
            true => FAILURE_ENCODED_MAX,
            false => FAILURE_BODY_MAX,
        };
        let peeking = self.door.peek(start.config, body, most);
        let left = self.time_left(start, exchange.began);
        self.door.within(left, peeking).await?;
        let codings: Vec<&str> = accept::registered(&parts.headers).collect();
        Ok(has_text(body.beginning(), &codings, text, FAILURE_BODY_MAX))
    }

    /// What an answer does to the cell.
    fn effect(
        &self,
        start: &Start<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        storability: Storability,
        is_failure: bool,
    ) -> Effect {
        let now = self.platform.now();
        let marks = start.loaded.cell.as_ref().map(|cell| &cell.marks);
        let answer = judge::Answer {
            status,
            storability,
            is_monitored: is_monitored(start.config),
            retry_after: retry_after(headers, now),
            is_failure,
            leads_to_itself: status.is_redirection()
                && location::leads_to_itself(headers, start.question, &start.config.key),
        };
        let present = Present {
            usable: self.is_usable(start),
            invalidated: start.loaded.entry().is_some_and(|entry| entry.invalidated),
            doubt: marks.and_then(|marks| marks.doubt),
        };
        match start.question.is_preflight() {
            true => judge::preflight(answer, present),
            false => judge::effect(answer, present, start.config.policy.preset, now),
        }
    }

    /// Whether the entry at hand may be used if the origin fails.
    fn is_usable(&self, start: &Start<'_>) -> bool {
        let now = self.platform.now();
        start.loaded.entry().is_some_and(|entry| {
            entry.freshness.may_serve_on_error(now)
                && (start.config.policy.preset == Preset::Uptime || !entry.invalidated)
        })
    }

    fn refresh_failed(
        &self,
        start: &Start<'_>,
        status: StatusCode,
        retry_after: Option<Duration>,
        brief: Option<Box<Entry>>,
    ) -> Outcome {
        let pause = honoured(retry_after, start.config);
        let not_before = pause.map(|pause| self.platform.now().plus(pause));
        Outcome::Fail {
            why: format!("failed: it answered {}", status.as_u16()),
            not_before,
            doubt: false,
            brief,
        }
    }

    /// No answer came.
    fn not_answered(
        &self,
        start: &Start<'_>,
        error: &OriginError,
        head: &mut HeadSender<P::Body>,
    ) -> Outcome {
        let why = match error {
            OriginError::Timeout => Own::OriginTimeout,
            OriginError::TooManyStreams => Own::OriginBusy,
            OriginError::Denied => Own::OriginDenied,
            OriginError::ConnectionAuth => Own::ConnectionAuth,
            OriginError::Fields(_) => Own::FieldsRefused,
            OriginError::Unreachable(_)
            | OriginError::NoHead(_)
            | OriginError::Failed(_)
            | OriginError::NotSent(_) => Own::OriginFailed,
        };
        head.send(Head::Failed(why, None));
        match error {
            // Nothing has reached the origin, so nothing is known about it.
            OriginError::NotSent(_) | OriginError::Denied | OriginError::ConnectionAuth => {
                Outcome::Release(format!("not-sent: {error}"))
            }
            OriginError::TooManyStreams => Outcome::Pass(NotKept::Stream),
            OriginError::Fields(_) => Outcome::Pass(NotKept::TooLong),
            // A retry mark would hide from a monitor that the origin is back.
            OriginError::Timeout
            | OriginError::Unreachable(_)
            | OriginError::NoHead(_)
            | OriginError::Failed(_)
                if is_monitored(start.config) && !self.is_usable(start) =>
            {
                Outcome::Release(format!("failed: {error}"))
            }
            OriginError::Timeout
            | OriginError::Unreachable(_)
            | OriginError::NoHead(_)
            | OriginError::Failed(_) => failed(&error.to_string()),
        }
    }

    /// Hands a response that is not stored to the visitor. A failure is for every
    /// visitor, whatever its `Vary` says.
    fn hand_on(
        &self,
        start: &Start<'_>,
        (mut parts, body): (response::Parts, OriginBody<P::Body>),
        (audience, why): (Audience, NotKept),
        head: &mut HeadSender<P::Body>,
    ) {
        strip_connection_fields(&mut parts.headers);
        let names = match is_transient(parts.status) {
            true => Vec::new(),
            false => self.names(&parts.headers, start.config),
        };
        let body = self.to_visitor(&parts.headers, body, start.config);
        head.send(Head::Response(Box::new(Fetched {
            parts,
            body,
            not_kept: Some(why),
            audience,
            names,
        })));
    }

    /// Stores a response that may be stored, while the visitor reads it.
    pub(super) async fn keep(
        self: &Rc<Self>,
        start: &Start<'_>,
        exchange: &Exchange<'_>,
        (mut parts, body): (response::Parts, OriginBody<P::Body>),
        mut kept: Kept,
        head: &mut HeadSender<P::Body>,
    ) -> Outcome {
        let before = start.loaded.entry().map(|entry| entry.freshness.alone);
        if kept.freshness.alone > 0 {
            kept.freshness.alone = before.unwrap_or(0).saturating_add(1);
        }
        if is_endless(&parts.headers) {
            let why = NotKept::Stream;
            self.hand_on(start, (parts, body), (kept.audience, why), head);
            return Outcome::Pass(why);
        }
        let announced = announced(&parts.headers);
        let limits = &start.config.limits;
        if announced.is_some_and(|length| length > limits.body)
            || has_too_many_fields(&parts.headers, start.config)
        {
            let why = NotKept::TooLong;
            self.hand_on(start, (parts, body), (kept.audience, why), head);
            return Outcome::Pass(why);
        }
        strip_connection_fields(&mut parts.headers);
        let names = self.names(&parts.headers, start.config);
        let mut entry = Box::new(Entry {
            headers: self.storable_fields(parts.headers.clone(), parts.status, start.config),
            ..self.entry(start, exchange, parts.status, kept)
        });
        entry.under.withholds_cookie = parts.headers.contains_key(SET_COOKIE);
        let storing = Storing {
            loaded: start.loaded,
            holder: start.holder,
            acts_until: start.acts_until,
            done: start.done,
            begun: start.shared.map(|shared| shared.begun),
            coming: self.coming(start, &entry, &names, announced),
            announced,
            limit: limits.body,
            time_left: self.time_left(start, exchange.began),
            config: start.config,
        };
        let slot = body.slot();
        let (stored, stream) = self.store_body(storing, body);
        head.send(Head::Response(Box::new(Fetched {
            parts,
            body: AnswerBody::Stream(stream),
            not_kept: None,
            audience: kept.audience,
            names,
        })));
        match stored.await {
            KeptBody::Whole(body) => {
                entry.body = body;
                Outcome::Store(entry)
            }
            KeptBody::TooLong => {
                self.leave_to_visitor(slot.downgrade());
                Outcome::Pass(NotKept::TooLong)
            }
            KeptBody::Stream => {
                // It goes on to its visitor, and no longer counts in the budget, unless
                // there are too many of its kind.
                slot.become_stream();
                Outcome::Pass(NotKept::Stream)
            }
            KeptBody::TooSlow => {
                self.leave_to_visitor(slot.downgrade());
                Outcome::Pass(NotKept::TooSlow)
            }
            KeptBody::Refused => {
                self.leave_to_visitor(slot.downgrade());
                Outcome::Pass(NotKept::Refused)
            }
            KeptBody::Broken(error) => failed(&error.to_string()),
            KeptBody::Lost(why) => Outcome::Release(format!("not-stored: {why}")),
            KeptBody::Unwritten => Outcome::Unpublished,
        }
    }

    /// What a cell says about an entry whose body is about to be written; none where
    /// others have to wait until it is published: nobody may share it, or it will be
    /// another cell's.
    fn coming(
        &self,
        start: &Start<'_>,
        entry: &Entry,
        names: &[HeaderName],
        announced: Option<u64>,
    ) -> Option<Coming> {
        let Shared { key, known, .. } = start.shared.filter(|_| entry.freshness.alone == 0)?;
        let is_known = |name: &HeaderName| known.iter().any(|known| known.name == name.as_str());
        if start.loaded.key != *key && !names.iter().all(is_known) {
            return None;
        }
        let mut all: Vec<HeaderName> = known
            .iter()
            .filter_map(|known| HeaderName::from_bytes(known.name.as_bytes()).ok())
            .collect();
        all.extend(names.iter().filter(|name| !is_known(name)).cloned());
        if all.len() > SELECTING_MAX {
            return None;
        }
        let manifest = Manifest {
            body: start.holder,
            length: announced.unwrap_or(Coming::UNKNOWN),
            chunk_size: self.cells.chunk_size(),
        };
        let coming = Coming {
            entry: Entry {
                body: cell::Body::Chunked(manifest),
                ..entry.clone()
            },
            selector: start.question.under(&all).selector(),
            names: all.iter().map(|name| name.as_str().to_owned()).collect(),
        };
        coming.is_small().then_some(coming)
    }

    /// The selecting fields that an answer names. An encoded answer varies on
    /// `Accept-Encoding`, whether it says so or not.
    fn names(&self, headers: &HeaderMap, config: &Config) -> Vec<HeaderName> {
        let mut names = selecting_names(headers);
        names.retain(|name| fields::is_selectable(name, config.request.unknown));
        if accept::is_encoded(headers) && !names.contains(&http::header::ACCEPT_ENCODING) {
            names.push(http::header::ACCEPT_ENCODING);
        }
        names
    }

    pub(super) fn storability(
        &self,
        start: &Start<'_>,
        exchange: &Exchange<'_>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Storability {
        if start.question.is_preflight() {
            let policy = &start.config.policy;
            let response_time = exchange.response_time;
            return storability_of_preflight(status, headers, response_time, policy);
        }
        let asked = Asked {
            headers: exchange.asked,
            path: path_of(start.question.target()),
            keyed_by_client: start.question.is_keyed_by_client(),
        };
        let mut storability = storability(
            asked,
            status,
            headers,
            exchange.request_time,
            exchange.response_time,
            &start.config.policy,
        );
        if let Storability::Store(kept) = &mut storability {
            self.spread(&mut kept.freshness, start.config);
        }
        storability
    }

    /// Shortens a lifetime at random, so that entries which were stored together
    /// do not expire together.
    pub(super) fn spread(&self, freshness: &mut crate::semantics::Freshness, config: &Config) {
        let jitter = u128::from(config.policy.jitter_per_mille);
        let cut = u64::try_from(self.platform.random() % (jitter + 1)).unwrap_or(0);
        let lifetime = freshness.lifetime_ms;
        freshness.lifetime_ms = lifetime
            .saturating_sub((lifetime / 1_000).saturating_mul(cut))
            .saturating_sub((lifetime % 1_000).saturating_mul(cut) / 1_000);
    }

    /// The fields of a response that are stored.
    pub(super) fn storable_fields(
        &self,
        mut headers: HeaderMap,
        status: StatusCode,
        config: &Config,
    ) -> HeaderMap {
        remove_private_fields(&mut headers, &config.policy);
        let uptime = config.policy.preset == Preset::Uptime;
        let dropped: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                // An error that is shared says when to come back.
                let says_when = **name == RETRY_AFTER && !status.is_success();
                (uptime && fields::is_momentary(name) && !says_when)
                    || any_matches(&config.response.drop, name.as_str())
            })
            .cloned()
            .collect();
        for name in dropped {
            headers.remove(name);
        }
        headers
    }

    /// An entry with neither fields nor body yet.
    pub(super) fn entry(
        &self,
        start: &Start<'_>,
        exchange: &Exchange<'_>,
        status: StatusCode,
        kept: Kept,
    ) -> Entry {
        Entry {
            status,
            headers: HeaderMap::new(),
            request_time: exchange.request_time,
            fetch_millis: millis(exchange.response_time.since(exchange.request_time)),
            freshness: kept.freshness,
            lease: start.holder,
            invalidated: false,
            audience: kept.audience,
            under: StoredUnder {
                policy: start.config.policy.mark(),
                withholds_cookie: false,
            },
            body: cell::Body::Inline(Bytes::new()),
        }
    }

    /// The line of a first request whose answer confirms nothing that is stored. The line of
    /// the whole fetch is about the second.
    fn log_unconfirmed(&self, start: &Start<'_>, reason: Reason, exchange: &Exchange<'_>) {
        let question = start.question;
        self.door.log(&LogLine {
            reason: reason.token(),
            method: question.method().as_str(),
            path: path_of(question.target()),
            named: start.named,
            status: Ok(Some(StatusCode::NOT_MODIFIED)),
            outcome: Some(UNCONFIRMED),
            settled: None,
            took: exchange.response_time.since(exchange.request_time),
        });
    }

    fn log_fill(
        &self,
        (question, named, reason): (&Question, &Named, Reason),
        status: Result<Option<StatusCode>, &OriginError>,
        outcome: &str,
        settled: Settled,
        began: Time,
    ) {
        self.door.log(&LogLine {
            reason: reason.token(),
            method: question.method().as_str(),
            path: path_of(question.target()),
            named: Some(named),
            status,
            outcome: Some(outcome),
            settled: Some(settled.name()),
            took: self.platform.now().since(began),
        });
    }
}

/// What settling a lease needs beside the outcome.
pub(super) struct Settling<'a> {
    pub(super) key: &'a str,
    pub(super) question: &'a Question,
    pub(super) known: &'a [Selecting],
    pub(super) config: &'a Config,
    pub(super) removed: &'a [Orphan],
}

impl Settling<'_> {
    /// Whether the key knows the selecting fields of an answer, and when they were
    /// named last.
    fn all_known(&self, names: &[String], now: Time) -> bool {
        names.iter().all(|name| {
            self.known
                .iter()
                .any(|known| known.name == *name && known.seen.plus(SEEN_PRECISION) > now)
        })
    }

    /// What the key's own cell is told, if the lease is on it.
    fn told<'a>(
        &'a self,
        held: &Held,
        names: &'a [String],
        credentials_pass_until: Option<Time>,
    ) -> Told<'a> {
        match held.loaded.key == self.key {
            true => Told::Resident {
                question: self.question,
                names,
                credentials_pass_until,
            },
            false => Told::Variant,
        }
    }
}

impl<P: Platform> Shield<P> {
    /// Settles a lease with what the fetch came to; says so in a word.
    pub(super) async fn settle(
        &self,
        held: Box<Held>,
        settling: Settling<'_>,
        outcome: Outcome,
    ) -> (String, Settled) {
        match outcome {
            Outcome::Store(entry) => self.publish(held, settling, *entry).await,
            Outcome::Pass(reason) => self.mark_pass(held, settling, reason).await,
            Outcome::Release(why) => (why, self.cells.release(held).await),
            Outcome::Unpublished => {
                let why = "not-stored: the store failed".to_owned();
                (why, self.cells.release_unpublished(held).await)
            }
            Outcome::Fail {
                why,
                not_before,
                doubt,
                brief,
            } => {
                let mut brief = brief.map(|entry| *entry);
                let names = match &brief {
                    Some(entry) => self.named(&entry.headers, settling.config),
                    None => Vec::new(),
                };
                let told = settling.told(&held, &names, None);
                let is_variant = matches!(told, Told::Variant);
                if is_variant && !settling.all_known(&names, self.platform.now()) {
                    // It would have to move to another cell, for a moment.
                    brief = None;
                }
                let failure = Failure {
                    backoff: settling.config.origin.retry,
                    random: (self.platform.random() >> 64) as u64,
                    not_before,
                    doubt,
                    brief,
                };
                let settled = self.cells.mark_failure(held, &failure, told).await;
                (why, settled)
            }
        }
    }

    /// The selecting fields of an answer, as cells name them.
    fn named(&self, headers: &HeaderMap, config: &Config) -> Vec<String> {
        self.names(headers, config)
            .iter()
            .map(|name| name.as_str().to_owned())
            .collect()
    }

    async fn mark_pass(
        &self,
        held: Box<Held>,
        settling: Settling<'_>,
        reason: NotKept,
    ) -> (String, Settled) {
        let lasting = settling.config.origin.pass;
        let until = self.platform.now().plus(lasting);
        let told = settling.told(&held, &[], Some(until));
        let is_variant = matches!(told, Told::Variant);
        let settled = self.cells.mark_pass(held, lasting, told).await;
        if is_variant {
            self.cells.pass_credentials(settling.key, until).await;
        }
        (format!("passed: {reason}"), settled)
    }

    /// Publishes an entry. Where it names selecting fields that are new to its key,
    /// the question has another cell from now on; that one is written first, so
    /// that a request that learns the fields finds the entry.
    async fn publish(
        &self,
        held: Box<Held>,
        settling: Settling<'_>,
        entry: Entry,
    ) -> (String, Settled) {
        let Settling {
            key,
            question,
            known,
            config,
            removed,
        } = settling;
        let names = self.named(&entry.headers, config);
        let is_new = |name: &&String| known.iter().all(|known| known.name != **name);
        let all = known
            .len()
            .saturating_add(names.iter().filter(is_new).count());
        if all > SELECTING_MAX {
            let reason = NotKept::TooManySelectingFields;
            return self.mark_pass(held, settling, reason).await;
        }
        let now = self.platform.now();
        let credentials_until =
            (entry.audience == Audience::Anonymous).then(|| now.plus(config.origin.pass));
        let told = settling.told(&held, &names, credentials_until);
        if matches!(told, Told::Resident { .. }) {
            let settled = self.cells.publish(held, entry, told, removed).await;
            return ("stored".to_owned(), settled);
        }
        if settling.all_known(&names, now) {
            self.cells.enlist(key, &held.loaded.key).await;
            let settled = self.cells.publish(held, entry, told, removed).await;
            return ("stored".to_owned(), settled);
        }
        let at = self
            .cells
            .learn(key, &names, question, held.loaded.backing)
            .await;
        let is_known = |name: &String| at.vary.iter().any(|known| known.name == *name);
        if !names.iter().all(is_known) {
            // The store has not taken them: other questions would find the entry.
            let settled = self.cells.release(held).await;
            return ("not-stored: the store failed".to_owned(), settled);
        }
        if at.loaded.key == held.loaded.key {
            self.cells.enlist(key, &held.loaded.key).await;
            let settled = self.cells.publish(held, entry, told, removed).await;
            return ("stored".to_owned(), settled);
        }
        let settled = match self.cells.elect(&at).await {
            Election::Held(other) => {
                if at.is_variant() {
                    self.cells.enlist(key, &at.loaded.key).await;
                }
                let entry = Entry {
                    lease: other.holder,
                    ..entry
                };
                self.publish_elsewhere(&held, other, &at, &names, entry)
                    .await
            }
            // Another fetches for that cell: its answer is as good.
            Election::Taken(_) | Election::Backoff | Election::Changed => Settled::Done,
            Election::NotWritten => Settled::Failed,
        };
        self.cells.release(held).await;
        ("stored-variant".to_owned(), settled)
    }

    /// Publishes what was fetched under one cell's lease in another cell. A body
    /// in chunks moves with it: the other cell notes it as its draft before this
    /// one drops it, so that at every moment a cell answers for the chunks.
    async fn publish_elsewhere(
        &self,
        from: &Held,
        to: Box<Held>,
        at: &Located,
        names: &[String],
        entry: Entry,
    ) -> Settled {
        // The other lease was taken after the exchange, so a purge in between could
        // not revoke it.
        let marks = to.marks();
        let purges = [marks.purged, marks.softened, marks.invalidated];
        if self.cells.predates(entry.request_time, &purges) {
            return self.cells.release(to).await;
        }
        if let Some(manifest) = entry.body.manifest() {
            // Where the store failed in between, the chunks are not where the
            // other cell is. And a body that a 304 has confirmed stays this
            // cell's: a request for the other cell fetches it.
            let present = from.loaded.entry().and_then(|entry| entry.body.manifest());
            if from.loaded.backing != to.loaded.backing
                || present.is_some_and(|present| present.body == manifest.body)
            {
                return self.cells.release(to).await;
            }
            let draft = Draft {
                body: manifest.body,
                chunks: u32::try_from(manifest.chunks()).unwrap_or(u32::MAX),
                done: 0,
            };
            for (held, draft) in [(&*to, Some(draft)), (from, None)] {
                match self
                    .cells
                    .note_draft(held.loaded.clone(), held.holder, draft, None)
                    .await
                    .0
                {
                    Settled::Done => {}
                    lost @ (Settled::Fenced(_) | Settled::Failed | Settled::Refused) => {
                        return lost;
                    }
                }
            }
        }
        let told = match at.is_variant() {
            true => Told::Variant,
            false => Told::Resident {
                question: &at.question,
                names,
                credentials_pass_until: None,
            },
        };
        self.cells.publish(to, entry, told, &[]).await
    }
}

/// Whom an answer is for that says that the origin fails. The origin may fail for visitors
/// without credentials alone. A preflight has none.
fn audience_of_failure(start: &Start<'_>) -> Audience {
    match start.question.is_preflight() {
        true => Audience::Everyone,
        false => Audience::Anonymous,
    }
}

/// Whether the rule is for paths that a monitor watches (`health.paths`).
fn is_monitored(config: &Config) -> bool {
    !config.policy.store_silent
}

/// As much as counts of the time for which the origin asks to be left alone.
fn honoured(retry_after: Option<Duration>, config: &Config) -> Option<Duration> {
    retry_after.map(|pause| pause.min(config.origin.retry_after_max))
}

fn failed(why: &str) -> Outcome {
    Outcome::Fail {
        why: format!("failed: {why}"),
        not_before: None,
        doubt: false,
        brief: None,
    }
}

fn doubted(reason: NotStored) -> Outcome {
    Outcome::Fail {
        why: format!("kept: the new answer may not be stored ({reason})"),
        not_before: None,
        doubt: true,
        brief: None,
    }
}

/// Whether a response has more fields than are stored.
fn has_too_many_fields(headers: &HeaderMap, config: &Config) -> bool {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len().saturating_add(value.len()))
        .sum();
    headers.len() > config.limits.response_header_count
        || bytes > config.limits.response_header_bytes
        || !may_store(headers)
}
