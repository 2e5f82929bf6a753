//! One GET or HEAD, from arrival to answer: a loop of looking at the question's
//! cell, deciding, and waiting.

use super::advice::Advice;
use super::answer::Trouble;
use super::coming::Readiness;
use super::decide::{Asker, Step, View, decide};
use super::fetch::{Brought, Head, Job, NotKept, Reason};
use super::flight::{Flight, Role};
use super::follow::{Polling, Waited};
use super::own_answer::Delivery;
use super::pass::Passing;
use super::request::{Gone, Visit};
use super::scout::Scouting;
use super::served::{Own, Passed, Served, Stale};
use super::{Answer, Shield};
use crate::budget::{Class, Halt};
use crate::cell::Entry;
use crate::cell::transition::Backoff;
use crate::cells::{Backing, Election, Located, Lost};
use crate::config::Config;
use crate::origin::{Admission, Answered, Named, NoAnswer, OriginBody, Slot};
use crate::question::target::path_of;
use crate::question::{Read, Visitor, is_long_poll};
use crate::semantics::{
    Audience, Forward, Preset, Reason as NotStored, RequestDirectives, Verdict, announced,
    is_static_file, may_be_for_everyone, verdict,
};
use crate::time::Time;
use crate::world::{OriginError, Platform};
use futures::channel::oneshot;
use futures::future::{Either, select};
use http::header::{RANGE, SET_COOKIE};
use http::{HeaderMap, Method, Request, StatusCode, request};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Most looks at a cell for one request. A wait precedes each look, and
/// `wait.budget` bounds all waits together; this bound ends a loop without waits.
const LOOKS_MAX: u32 = 1_000;

/// How a request that waits for a place looks whether another instance has filled its
/// cell. Thousands may wait, so it looks rarely.
const WATCH: Polling = Polling {
    first: Duration::from_millis(250),
    most: Duration::from_secs(2),
};

/// The least time after which a request that found the origin busy is asked to come
/// back.
const BUSY_PAUSE: Duration = Duration::from_secs(2);

/// What is added to that at most.
const BUSY_SPREAD: Duration = Duration::from_secs(4);

/// The budget kept a request out if it waited for a place at least this long when its
/// time was over, or for half of `wait.budget`. Most places are there within this time.
const BUSY_AFTER: Duration = Duration::from_secs(1);

/// The part of `wait.budget` that a visitor has to get a slot once its question has failed
/// or has taken all of the time.
const LEAST_WAIT: u32 = 4;

/// How much later than its head a failed fetch leaves its mark, at most, but for a
/// store that is slow.
const SETTLING: Duration = Duration::from_millis(500);

/// The answer to a visit, or what to do next.
enum Next<B> {
    Answer(Answer<B>),
    /// Forward the request with its own fields.
    Pass(Passed),
    /// Look at the cell again.
    Look(Waited),
    /// The breaker is open until then.
    Halted(Halt),
    /// Its client has gone.
    Gone,
}

/// Why the fallback cannot be served.
enum Useless {
    /// No entry may be used.
    None,
    /// Its body cannot be read.
    Lost(Box<Entry>, Lost),
}

impl<P: Platform> Shield<P> {
    /// Answers a GET or HEAD.
    pub(super) async fn get(
        self: &Rc<Self>,
        request: Request<Option<P::Body>>,
        config: Rc<Config>,
        gone: Gone,
    ) -> Answer<P::Body> {
        let (parts, body) = request.into_parts();
        let read = Visitor::read(
            &parts,
            body.is_some(),
            self.door.origin(),
            &config.key,
            &config.request,
        );
        let visitor = match read {
            Read::Question(visitor) => visitor,
            Read::Pass(reason) => {
                return self
                    .pass(
                        &parts,
                        body,
                        Passed::NoQuestion(reason),
                        None,
                        &config,
                        &gone,
                    )
                    .await;
            }
            Read::Misdirected => return self.misdirected(&parts),
            Read::Invalid => {
                self.note_refused(Own::Refused, StatusCode::BAD_REQUEST, || Named::of(&parts));
                return self.own(
                    Own::Refused,
                    StatusCode::BAD_REQUEST,
                    "the target is not valid",
                );
            }
        };
        let is_uptime = config.policy.preset == Preset::Uptime;
        let is_long_poll = is_uptime && is_long_poll(visitor.target());
        let passed = match (is_long_poll, config.pass) {
            (true, _) => Some(Passed::LongPoll),
            (false, true) => Some(Passed::Rule),
            (false, false) => None,
        };
        if let Some(passed) = passed {
            return self.pass(&parts, body, passed, None, &config, &gone).await;
        }
        self.notice_fields(&visitor);
        self.visit(parts, visitor, config, gone).await
    }

    /// Tells the operator of a field that makes nearly every request a question of its own.
    fn notice_fields(&self, visitor: &Visitor) {
        let now = self.platform.now();
        for (name, value) in visitor.keyed() {
            let request = (visitor.key(), visitor.target());
            let field = (name.as_str(), value.as_bytes());
            let advice = self.advisor.borrow_mut().sees_field(request, field, now);
            self.advise(advice);
        }
    }

    /// Tells the operator of static files that are not stored because they set a cookie.
    /// `headers` are those of an answer of the origin that is not stored.
    fn notice_file_cookie(
        &self,
        visitor: &request::Parts,
        status: StatusCode,
        headers: &HeaderMap,
    ) {
        let path = visitor.uri.path();
        let is_file = visitor.method == Method::GET
            && status == StatusCode::OK
            && headers.contains_key(SET_COOKIE)
            && is_static_file(path, headers);
        if is_file {
            let now = self.platform.now();
            let advice = self.advisor.borrow_mut().sees_file_cookie(path, now);
            self.advise(advice);
        }
    }

    /// Tells the operator.
    pub(super) fn advise(&self, advice: Option<Advice>) {
        if let Some(advice) = advice {
            self.platform.log(&advice.line());
        }
    }

    /// What keeps requests from sharing answers, as this instance has noticed, and what to
    /// write against it.
    pub(crate) fn advice(&self) -> Vec<serde_json::Value> {
        self.advisor.borrow().told()
    }

    /// Answers a request that asks a question.
    pub(super) async fn visit(
        self: &Rc<Self>,
        parts: request::Parts,
        visitor: Box<Visitor>,
        config: Rc<Config>,
        gone: Gone,
    ) -> Answer<P::Body> {
        let now = self.platform.now();
        let visit = Visit {
            asker: Asker {
                credentials: visitor.has_credentials(),
                directives: counted_directives(&parts, config.policy.preset),
                arrival: now,
                collapsed: false,
                scouts: self.goes_first(&parts, &visitor, &config, now),
            },
            deadline: now.plus(config.wait.budget),
            visitor,
            config,
            gone,
            slot: None,
            was_busy: false,
            looks: 0,
            without_store: false,
            lost_body: None,
            knows_begun: false,
            in_vain: None,
            parts,
        };
        self.run(visit).await
    }

    async fn run(self: &Rc<Self>, mut visit: Visit) -> Answer<P::Body> {
        while visit.looks < LOOKS_MAX {
            let located = self.locate(&visit).await;
            let now = self.platform.now();
            visit.keep_within_budget(now);
            let view = Self::view(&visit, &located);
            let dice = self.platform.random();
            let fallback = match decide(view, &visit.asker, visit.rules(), now, dice) {
                Step::Serve(entry, stale) => {
                    match self.hit(&visit, entry, &located, now, stale).await {
                        Ok(answer) => return answer,
                        Err(lost) => visit.lose(entry, &lost),
                    }
                    continue;
                }
                Step::ServeAndRefresh(entry, stale) => {
                    match self.hit(&visit, entry, &located, now, stale).await {
                        Ok(answer) => {
                            let reason = match stale {
                                Some(_) => Reason::Refresh,
                                None => Reason::Early,
                            };
                            self.refresh_behind(&visit, located, reason);
                            return answer;
                        }
                        Err(lost) => visit.lose(entry, &lost),
                    }
                    continue;
                }
                Step::Pass(passed, fallback) => {
                    let fallback = fallback.cloned();
                    return self.pass_visit(visit, passed, fallback, located).await;
                }
                Step::Scout => match self.scout(&visit, &located).await {
                    Scouting::Go(flight) => return self.go_first(visit, located, flight).await,
                    Scouting::Pass => {
                        let passed = Passed::Credentials;
                        return self.pass_visit(visit, passed, None, located).await;
                    }
                    Scouting::Ask => {
                        visit.looks = visit.looks.saturating_add(1);
                        visit.asker.scouts = false;
                        continue;
                    }
                },
                Step::Unavailable(until) => {
                    let why = Own::Backoff;
                    return self.without_entry(&visit, &located, why, until).await;
                }
                Step::NotCached => return self.not_cached(&visit, &located),
                Step::Fetch(fallback) => fallback.cloned(),
            };
            // The first look does not depend on the budget.
            if visit.looks > 0 && now >= visit.deadline {
                if fallback.is_none()
                    && let Some(answer) = self.serve_coming(&visit, &located, Readiness::Any)
                {
                    return answer;
                }
                if self.budget_went_to_the_store(&visit, &located) {
                    visit.without_store = true;
                    visit.deadline = now.plus(visit.config.origin.first_byte_timeout);
                    continue;
                }
                return match self
                    .make_do(&visit, &fallback, &located, Stale::SoftTimeout)
                    .await
                {
                    Ok(answer) => answer,
                    // The question took all of its time, and says nothing about it.
                    Err(_) if visit.may_go_itself() => {
                        self.pass_visit(visit, Passed::Credentials, None, located)
                            .await
                    }
                    Err(_) if let Some(passed) = visit.in_vain => {
                        self.pass_visit(visit, passed, None, located).await
                    }
                    Err(_) if visit.was_busy => {
                        let until = now.plus(self.busy_pause());
                        let why = Own::OriginBusy;
                        self.without_entry(&visit, &located, why, until).await
                    }
                    Err(_) => {
                        let why = Own::WaitBudget;
                        self.without_entry(&visit, &located, why, now).await
                    }
                };
            }
            visit.looks = visit.looks.saturating_add(1);
            match self.fetch_or_follow(&mut visit, &located, &fallback).await {
                Next::Answer(answer) => return answer,
                Next::Pass(passed) => {
                    return self.pass_visit(visit, passed, fallback, located).await;
                }
                // Without a fallback the wait goes on, to the deadline.
                Next::Look(Waited::Expired) => {
                    match self
                        .make_do(&visit, &fallback, &located, Stale::SoftTimeout)
                        .await
                    {
                        Ok(answer) => return answer,
                        Err(Useless::Lost(entry, lost)) => visit.lose(&entry, &lost),
                        Err(Useless::None) => {}
                    }
                }
                Next::Look(Waited::Changed) => {}
                Next::Gone => {
                    return self.unavailable(&visit, &located, Own::ClientGone, now);
                }
                Next::Halted(halt) => {
                    return self.answer_without_origin(&visit, halt).await;
                }
            }
        }
        let located = self.locate(&visit).await;
        let now = self.platform.now();
        self.unavailable(&visit, &located, Own::WaitBudget, now)
    }

    /// The answer while nothing is sent to the origin: what is stored by now, if it may be used
    /// when the origin fails.
    async fn answer_without_origin(self: &Rc<Self>, visit: &Visit, halt: Halt) -> Answer<P::Body> {
        match self.stored_by_now(visit).await {
            Ok(answer) => answer,
            Err(located) => {
                let why = Own::Halted(halt.by);
                self.without_entry(visit, &located, why, halt.until).await
            }
        }
    }

    /// Looks once more for an entry that may be used when the origin fails: another request
    /// may have stored one, or the key may have learned a selecting field, since the last
    /// look.
    ///
    /// # Errors
    ///
    /// The cell, if it has none.
    async fn stored_by_now(self: &Rc<Self>, visit: &Visit) -> Result<Answer<P::Body>, Located> {
        let located = self.locate(visit).await;
        let now = self.platform.now();
        let dice = self.platform.random();
        let view = Self::view(visit, &located);
        let (fallback, stale) = match decide(view, &visit.asker, visit.rules(), now, dice) {
            Step::Serve(entry, _) | Step::ServeAndRefresh(entry, _) => {
                (Some(entry.clone()), Stale::OnError)
            }
            Step::Fetch(fallback) => (fallback.cloned(), Stale::OnError),
            Step::Pass(_, fallback) => {
                let fallback = fallback.filter(|entry| {
                    gives_fallback(&visit.config) && visit.visitor.accepts(&entry.headers)
                });
                (fallback.cloned(), Stale::Fallback)
            }
            Step::Unavailable(_) | Step::NotCached | Step::Scout => (None, Stale::OnError),
        };
        self.make_do(visit, &fallback, &located, stale)
            .await
            .map_err(|_| located)
    }

    /// Becomes the leader of the question, or follows the one that there is.
    async fn fetch_or_follow(
        self: &Rc<Self>,
        visit: &mut Visit,
        located: &Located,
        fallback: &Option<Entry>,
    ) -> Next<P::Body> {
        if fallback.is_none()
            && let Some(answer) = self.serve_coming(visit, located, Readiness::Begun)
        {
            return Next::Answer(answer);
        }
        // What the holder fetches is published for nobody.
        let lease = located.loaded.cell.as_ref().and_then(|cell| cell.lease);
        if lease.is_some_and(|lease| lease.revoked) {
            visit.in_vain = Some(Passed::PublishFailing);
        }
        // A request with a fallback waits no longer than the soft timeout; the
        // fetch goes on. What the origin wants to be asked about before each use is not
        // used because the origin is slow.
        let soft = fallback
            .as_ref()
            .is_some_and(|entry| !entry.freshness.each_use)
            .then(|| visit.asker.arrival.plus(visit.config.origin.soft_timeout))
            .filter(|_| visit.config.policy.preset == Preset::Uptime);
        let limit = soft.map_or(visit.deadline, |soft| soft.min(visit.deadline));
        match self
            .flights
            .join(&located.loaded.id, || self.platform.signal())
        {
            Role::Follower(ended, brought) => {
                // The request that it follows may need the slot.
                visit.slot = None;
                visit.asker.collapsed = true;
                // The first of a long body was stored after this visit had read the cell, and
                // before it joined: nothing will wake it before the end.
                if brought.has_begun() && !std::mem::replace(&mut visit.knows_begun, true) {
                    return Next::Look(Waited::Changed);
                }
                match self.follow(visit, located, ended, &brought, limit).await {
                    Ok(answer) => Next::Answer(answer),
                    Err(Waited::Changed) if brought.is_uncacheable() => {
                        Next::Pass(Passed::Uncacheable)
                    }
                    Err(waited) => Next::Look(waited),
                }
            }
            Role::Leader(flight) => {
                // It would lose the election: it needs neither a slot nor a token.
                if let Some(until) = self.cells.leased_until(located) {
                    visit.slot = None;
                    visit.asker.collapsed = true;
                    let loaded = &located.loaded;
                    let waited = self.wait_for_change(loaded, limit, until, flight).await;
                    return Next::Look(waited);
                }
                let asked = self.platform.now();
                let slot = match visit.slot.take() {
                    Some(slot) => slot,
                    None => match self.admit_fill(visit, located, limit).await {
                        Either::Left(Admission::Granted(slot)) => slot,
                        Either::Left(Admission::Halted(halt)) => return Next::Halted(halt),
                        Either::Left(Admission::Gone) => return Next::Gone,
                        Either::Left(Admission::Busy) => {
                            let least = BUSY_AFTER.min(visit.config.wait.budget / 2);
                            visit.was_busy |= self.platform.now().since(asked) >= least;
                            return self
                                .answer_while_busy(visit, located, fallback, flight)
                                .await;
                        }
                        Either::Right(waited) => return Next::Look(waited),
                    },
                };
                self.elect_and_fetch(visit, located, fallback, (soft, limit), flight, slot)
                    .await
            }
        }
    }

    /// The answer to a visit that got no slot by the end of its wait: what is stored, and the
    /// fetch goes on behind the answer. A visit that gets no answer goes on waiting for a slot
    /// of its own: what a fetch behind an answer brings may not be for it.
    async fn answer_while_busy(
        self: &Rc<Self>,
        visit: &mut Visit,
        located: &Located,
        fallback: &Option<Entry>,
        flight: Flight<P::Wake, Brought>,
    ) -> Next<P::Body> {
        if self.platform.now() >= visit.deadline {
            return Next::Look(Waited::Expired);
        }
        match self
            .make_do(visit, fallback, located, Stale::SoftTimeout)
            .await
        {
            Ok(answer) => {
                drop(flight);
                self.refresh_behind(visit, located.clone(), Reason::Refresh);
                Next::Answer(answer)
            }
            Err(Useless::Lost(entry, lost)) => {
                visit.lose(&entry, &lost);
                Next::Look(Waited::Changed)
            }
            Err(Useless::None) => Next::Look(Waited::Changed),
        }
    }

    /// Waits for a place in the origin's budget, or for another instance to change the
    /// cell. A request waits for its place before it takes the lease, so that those that
    /// wait cost the store no renewals.
    async fn admit_fill(
        &self,
        visit: &Visit,
        located: &Located,
        limit: Time,
    ) -> Either<Admission, Waited> {
        let target = path_of(located.question.target());
        let admitted = pin!(self.admitted(Class::Fill, target, limit, &visit.gone));
        let changed = pin!(self.watch(&located.loaded, limit, limit, WATCH));
        match select(admitted, changed).await {
            Either::Left((admission, _)) => Either::Left(admission),
            Either::Right((waited, admitted)) => match waited {
                Waited::Changed => Either::Right(Waited::Changed),
                Waited::Expired => Either::Left(admitted.await),
            },
        }
    }

    /// How long a request that found the origin busy stays away, at random so that
    /// those that came together do not come back together.
    pub(super) fn busy_pause(&self) -> Duration {
        let part = u32::try_from(self.platform.random() % 1_000).unwrap_or(0);
        BUSY_PAUSE.saturating_add(BUSY_SPREAD.saturating_mul(part) / 1_000)
    }

    /// Takes the lease and fetches, or waits for the holder of the lease.
    async fn elect_and_fetch(
        self: &Rc<Self>,
        visit: &mut Visit,
        located: &Located,
        fallback: &Option<Entry>,
        (soft, limit): (Option<Time>, Time),
        flight: Flight<P::Wake, Brought>,
        slot: Slot,
    ) -> Next<P::Body> {
        match self.cells.elect(located).await {
            Election::Held(held) => {
                let (head, receiver) = oneshot::channel();
                let reason = match located.loaded.entry() {
                    Some(_) => Reason::Revalidate,
                    None => Reason::Miss,
                };
                self.spawn_job(Job {
                    held,
                    slot: Some(slot),
                    question: located.question.clone(),
                    named: Named::of(&visit.parts),
                    key: visit.visitor.key().to_owned(),
                    known: located.vary.clone(),
                    config: Rc::clone(&visit.config),
                    reason,
                    head: Some(head),
                    flight,
                });
                self.await_head(visit, located, fallback, soft, receiver)
                    .await
            }
            Election::Taken(until) => {
                // Another request may use the place.
                drop(slot);
                visit.asker.collapsed = true;
                Next::Look(
                    self.wait_for_change(&located.loaded, limit, until, flight)
                        .await,
                )
            }
            Election::Backoff | Election::Changed => {
                visit.slot = Some(slot);
                Next::Look(Waited::Changed)
            }
            Election::NotWritten => {
                visit.slot = Some(slot);
                visit.without_store = true;
                Next::Look(Waited::Changed)
            }
        }
    }

    /// Whether a visit has spent its time on a store that fails or is too slow,
    /// and not on waiting for another's fetch. It may go on without the store once.
    ///
    /// A store that failed for a moment, and shows now that another still fetches, has not
    /// cost the time: a page that takes longer than a visit waits would be asked for twice.
    fn budget_went_to_the_store(&self, visit: &Visit, located: &Located) -> bool {
        let has_waited = visit.asker.collapsed || visit.was_busy;
        let has_failed = self.cells.store_failed_since(visit.asker.arrival)
            && !self.cells.is_written_by_holder(located);
        !visit.without_store && (!has_waited || has_failed)
    }

    /// Reads the cell of the request's question.
    async fn locate(&self, visit: &Visit) -> Located {
        let mut located = self.cells.locate(&visit.visitor, visit.without_store).await;
        if let Some(cell) = &mut located.loaded.cell
            && let Some(manifest) = cell.entry.as_ref().and_then(|entry| entry.body.manifest())
            && visit.lost_body == Some(manifest.body)
        {
            cell.drop_entry(self.platform.now());
        }
        self.apply_settings(&mut located, &visit.config);
        located
    }

    fn view<'a>(visit: &Visit, located: &'a Located) -> View<'a> {
        let entry = located.loaded.entry();
        View {
            cell: located.loaded.cell.as_ref(),
            credentials_pass_until: located.credentials_pass_until,
            for_everyone_until: located.for_everyone_until,
            accepts_coding: entry.is_none_or(|entry| visit.visitor.accepts(&entry.headers)),
        }
    }

    /// Answers with an entry.
    ///
    /// # Errors
    ///
    /// If its body cannot be read, or so late that the verdict about the entry is
    /// another one by then.
    pub(super) async fn hit(
        self: &Rc<Self>,
        visit: &Visit,
        entry: &Entry,
        located: &Located,
        now: Time,
        stale: Option<Stale>,
    ) -> Result<Answer<P::Body>, Lost> {
        let served = Served::Entry {
            ttl: entry.freshness.ttl(now),
            stale,
            collapsed: visit.asker.collapsed,
        };
        let backing = located.loaded.backing;
        let answer = self
            .entry_answer(visit, entry, &located.loaded, now, served)
            .await?;
        // Reading a body in chunks takes a moment.
        let then = self.platform.now();
        if then != now && self.verdict(visit, entry, then) != self.verdict(visit, entry, now) {
            return Err(Lost::Late);
        }
        if stale.is_none() && located.is_variant() && backing == Backing::Shared {
            self.note_asked_again(located);
        }
        Ok(answer)
    }

    /// What an entry is good for, to this request, at `now`.
    pub(super) fn verdict(&self, visit: &Visit, entry: &Entry, now: Time) -> Verdict {
        verdict(
            &entry.freshness,
            &visit.asker.directives,
            visit.config.policy.preset,
            entry.invalidated,
            now,
        )
    }

    /// Whether an entry may be given to the visitor at all.
    pub(super) fn is_for(visit: &Visit, entry: &Entry) -> bool {
        let for_audience = !visit.asker.credentials || entry.audience == Audience::Everyone;
        for_audience && visit.visitor.accepts(&entry.headers)
    }

    /// Notes, once for each variant and behind the answer, that it is asked for
    /// again: made-up variants are evicted before it.
    fn note_asked_again(self: &Rc<Self>, located: &Located) {
        let known = located
            .loaded
            .cell
            .as_ref()
            .is_none_or(|cell| cell.marks.asked_again);
        if known || self.cells.spares_swaps() {
            return;
        }
        let id = format!("{} asked again", located.loaded.id);
        let Role::Leader(flight) = self.flights.join(&id, || self.platform.signal()) else {
            return;
        };
        let (cells, loaded) = (Rc::clone(&self.cells), located.loaded.clone());
        self.platform.spawn(async move {
            cells.note_asked_again(loaded).await;
            drop(flight);
        });
    }

    /// Refreshes an entry behind the answer, unless another does.
    pub(super) fn refresh_behind(self: &Rc<Self>, visit: &Visit, located: Located, reason: Reason) {
        let target = path_of(located.question.target());
        let leaves_to_others = match reason == Reason::Early {
            true => self.cells.spares_swaps(),
            false => self.cells.is_worn(),
        };
        if leaves_to_others
            || self.flights.is_under_way(&located.loaded.id)
            || self.door.halted(target).is_some()
        {
            return;
        }
        let Role::Leader(flight) = self
            .flights
            .join(&located.loaded.id, || self.platform.signal())
        else {
            return;
        };
        let shield = Rc::clone(self);
        let (key, config) = (visit.visitor.key().to_owned(), Rc::clone(&visit.config));
        let named = Named::of(&visit.parts);
        self.platform.spawn(async move {
            if shield
                .door
                .refuses_refresh(path_of(located.question.target()))
                .await
            {
                return;
            }
            if let Election::Held(held) = shield.cells.elect(&located).await {
                shield
                    .run_job(Job {
                        held,
                        slot: None,
                        question: located.question.behind(),
                        named,
                        key,
                        known: located.vary,
                        config,
                        reason,
                        head: None,
                        flight,
                    })
                    .await;
            }
        });
    }

    /// Waits for the head of the fetch that this request has started.
    async fn await_head(
        self: &Rc<Self>,
        visit: &mut Visit,
        located: &Located,
        fallback: &Option<Entry>,
        soft: Option<Time>,
        receiver: oneshot::Receiver<Head<P::Body>>,
    ) -> Next<P::Body> {
        let why = if located.loaded.entry().is_some() {
            Forward::Stale
        } else if located.is_variant() {
            Forward::VaryMiss
        } else {
            Forward::UriMiss
        };
        let head = match soft {
            None => receiver.await,
            Some(soft) => {
                let left = soft.since(self.platform.now());
                let most = visit.config.origin.soft_timeout;
                let timeout = self.platform.sleep(left.min(most));
                match select(receiver, pin!(timeout)).await {
                    Either::Left((head, _)) => head,
                    Either::Right(((), receiver)) => {
                        match self
                            .make_do(visit, fallback, located, Stale::SoftTimeout)
                            .await
                        {
                            Ok(answer) => return Next::Answer(answer),
                            Err(_) => receiver.await,
                        }
                    }
                }
            }
        };
        let backing = located.loaded.backing;
        match head {
            // The fetch was given up before the origin was asked.
            Err(_) => Next::Look(Waited::Changed),
            Ok(Head::Response(response)) => {
                let fields = &response.parts.headers;
                if !visit.visitor.accepts(fields) {
                    return Next::Pass(Passed::Encoding);
                }
                let sent_its_own = located.question.sends_credentials();
                let for_everyone = response.audience == Audience::Everyone;
                if !sent_its_own {
                    self.learn(visit, for_everyone);
                }
                if visit.asker.credentials && !sent_its_own && !for_everyone {
                    self.audiences.borrow_mut().owe();
                    return Next::Pass(Passed::Credentials);
                }
                if !located
                    .question
                    .is_asked_by(&visit.visitor, &response.names)
                {
                    // It varies on what was not asked for.
                    return match response.not_kept {
                        None => {
                            visit.in_vain = Some(Passed::Uncacheable);
                            Next::Look(Waited::Changed)
                        }
                        Some(_) => Next::Pass(Passed::Uncacheable),
                    };
                }
                let is_long =
                    announced(fields).is_some_and(|length| length > visit.config.limits.body);
                if is_long
                    && response.parts.status == StatusCode::OK
                    && visit.parts.headers.contains_key(RANGE)
                {
                    // One more request, for the part, is better than all of it.
                    return Next::Pass(Passed::LongRange);
                }
                if let Some(NotKept::Because(NotStored::SetCookie)) = response.not_kept {
                    self.notice_file_cookie(&visit.parts, response.parts.status, fields);
                }
                let served = Served::Fetched {
                    why,
                    status: response.parts.status,
                    not_stored: response.not_kept.map(NotKept::token),
                };
                // A session that was made for a visitor without one is not for
                // a visitor that has one.
                let cookies = sent_its_own || !visit.asker.credentials;
                let mut answer = self.origin_answer(visit, *response, cookies, served, backing);
                located
                    .question
                    .withhold_cookies(&visit.parts.headers, answer.headers_mut());
                Next::Answer(answer)
            }
            Ok(Head::Entry(entry, moment)) => {
                if !Self::is_for(visit, &entry) {
                    return Next::Pass(match visit.visitor.accepts(&entry.headers) {
                        true => Passed::Credentials,
                        false => Passed::Encoding,
                    });
                }
                let served = Served::Fetched {
                    why,
                    status: StatusCode::NOT_MODIFIED,
                    not_stored: None,
                };
                let now = self.platform.now();
                let answer = self
                    .entry_answer(visit, &entry, &located.loaded, now, served)
                    .await;
                match answer {
                    Ok(mut answer) => {
                        if !visit.asker.credentials || located.question.sends_credentials() {
                            moment.add_to(answer.headers_mut());
                            located
                                .question
                                .withhold_cookies(&visit.parts.headers, answer.headers_mut());
                        }
                        Next::Answer(answer)
                    }
                    Err(_) => Next::Look(Waited::Changed),
                }
            }
            Ok(Head::Doubted) => match self.stored_for_lack(visit, fallback, located).await {
                Some(answer) => Next::Answer(answer),
                // The entry may be known while its body cannot be read.
                None => Next::Pass(Passed::Uncacheable),
            },
            Ok(Head::Failed(why, retry_after)) => {
                match self.stored_for_lack(visit, fallback, located).await {
                    Some(answer) => Next::Answer(answer),
                    // The question was asked without credentials: its failure says nothing
                    // about a visitor with them.
                    None if visit.may_go_itself() && why.is_of_the_origin() => {
                        Next::Pass(Passed::Credentials)
                    }
                    None => {
                        // The fetch is about to leave a retry mark, which ends by
                        // then: at the end of the backoff, or when the origin has
                        // said.
                        let cell = located.loaded.cell.as_ref();
                        let failures = cell
                            .and_then(|cell| cell.marks.retry)
                            .map_or(0, |retry| retry.failures);
                        let origin = &visit.config.origin;
                        let pause = origin
                            .retry
                            .delay_max(failures.saturating_add(1))
                            .max(retry_after.map_or(Duration::ZERO, Backoff::spread_max))
                            .saturating_add(SETTLING);
                        let until = self.platform.now().plus(pause);
                        Next::Answer(self.without_entry(visit, located, why, until).await)
                    }
                }
            }
        }
    }

    /// What is stored, for a fetch that brought nothing of use: the fallback, or what has been
    /// stored since.
    async fn stored_for_lack(
        self: &Rc<Self>,
        visit: &Visit,
        fallback: &Option<Entry>,
        located: &Located,
    ) -> Option<Answer<P::Body>> {
        match self.make_do(visit, fallback, located, Stale::OnError).await {
            Ok(answer) => Some(answer),
            Err(_) => self.stored_by_now(visit).await.ok(),
        }
    }

    /// The fallback at the end of a wait. The wait may have outlasted the window in which it
    /// may be used.
    async fn make_do(
        self: &Rc<Self>,
        visit: &Visit,
        fallback: &Option<Entry>,
        located: &Located,
        stale: Stale,
    ) -> Result<Answer<P::Body>, Useless> {
        let now = self.platform.now();
        let entry = fallback
            .as_ref()
            .filter(|entry| match self.verdict(visit, entry, now) {
                Verdict::Fresh | Verdict::StaleWhileRevalidate => true,
                Verdict::Revalidate { on_error } => on_error,
            })
            .ok_or(Useless::None)?;
        self.hit(visit, entry, located, now, Some(stale))
            .await
            .map_err(|lost| Useless::Lost(Box::new(entry.clone()), lost))
    }

    /// Forwards a visit with its own fields. What comes may show that the question
    /// could be answered from the store.
    async fn pass_visit(
        self: &Rc<Self>,
        mut visit: Visit,
        passed: Passed,
        fallback: Option<Entry>,
        located: Located,
    ) -> Answer<P::Body> {
        let config = Rc::clone(&visit.config);
        let answered = self.send_visit(&mut visit, passed).await;
        let stored = (fallback, &located);
        if let Some(answer) = self.in_place_of(&answered, &visit, stored).await {
            return answer;
        }
        if let Ok(answered) = &answered {
            self.note_head(&visit.parts, answered, &config);
            self.consider_filling(&visit, located, passed, answered);
        }
        self.passed_answer(&visit.parts, passed, answered, &config)
    }

    /// What is stored, in place of the failure that a forwarded visit got: the fallback that
    /// was known before, what another request has stored since, or another variant.
    pub(super) async fn in_place_of(
        self: &Rc<Self>,
        answered: &Result<Answered<OriginBody<P::Body>>, NoAnswer>,
        visit: &Visit,
        (fallback, located): (Option<Entry>, &Located),
    ) -> Option<Answer<P::Body>> {
        let failed = match answered {
            Ok(answered) => answered.response.status().is_server_error(),
            Err(NoAnswer::Failed(OriginError::ConnectionAuth)) => false,
            Err(_) => true,
        };
        if !failed || !gives_fallback(&visit.config) {
            return None;
        }
        // A refusal that was made without credentials says nothing about a visitor with them.
        let usable = |entry: &Entry, now| {
            entry.freshness.may_serve_on_error(now)
                && visit.visitor.accepts(&entry.headers)
                && (!visit.asker.credentials || may_be_for_everyone(entry.status))
        };
        let now = self.platform.now();
        let later = match fallback.as_ref().is_some_and(|entry| usable(entry, now)) {
            true => None,
            false => Some(self.locate(visit).await),
        };
        let (entry, located) = match &later {
            Some(later) => (later.loaded.entry(), later),
            None => (fallback.as_ref(), located),
        };
        let now = self.platform.now();
        if let Some(entry) = entry.filter(|entry| usable(entry, now))
            && let Ok(answer) = self
                .hit(visit, entry, located, now, Some(Stale::Fallback))
                .await
        {
            return Some(answer);
        }
        self.other_variant(visit).await
    }

    /// Forwards a visit with its own fields. It has a part of `wait.budget` to get a slot,
    /// whatever it has waited for before: a platform may bound the whole request.
    pub(super) async fn send_visit(
        &self,
        visit: &mut Visit,
        passed: Passed,
    ) -> Result<Answered<OriginBody<P::Body>>, NoAnswer> {
        let config = Rc::clone(&visit.config);
        // It waits for a slot of another class: not with one in its hands.
        visit.slot = None;
        self.audiences.borrow_mut().count();
        let least = config.wait.budget / LEAST_WAIT;
        let passing = Passing {
            parts: &visit.parts,
            body: None,
            address: visit.address(),
            passed,
            limit: visit.deadline.max(self.platform.now().plus(least)),
            gone: &visit.gone,
        };
        self.send_pass(passing, &config).await
    }

    /// The shield's own answer where nothing else helps.
    pub(super) fn unavailable(
        &self,
        visit: &Visit,
        located: &Located,
        why: Own,
        until: Time,
    ) -> Answer<P::Body> {
        let status = match why {
            Own::ConnectionAuth => return self.connection_auth_refused(),
            Own::FieldsRefused => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let trouble = Trouble {
            status,
            why,
            forward: Forward::UriMiss,
            collapsed: visit.asker.collapsed,
            backing: located.loaded.backing,
            pause: until.since(self.platform.now()),
            delivery: Delivery::Unknown,
        };
        self.helpless(&visit.parts, &visit.config, trouble)
    }

    fn not_cached(&self, visit: &Visit, located: &Located) -> Answer<P::Body> {
        let trouble = Trouble {
            status: StatusCode::GATEWAY_TIMEOUT,
            why: Own::OnlyIfCached,
            forward: Forward::UriMiss,
            collapsed: false,
            backing: located.loaded.backing,
            pause: Duration::ZERO,
            delivery: Delivery::Unknown,
        };
        self.helpless(&visit.parts, &visit.config, trouble)
    }
}

/// Whether a visitor whose request is passed gets a page of nobody's when the origin
/// fails.
fn gives_fallback(config: &Config) -> bool {
    config.policy.preset == Preset::Uptime && config.origin.pass_fallback
}

/// The directives of a request that count. In preset `uptime` a visitor cannot
/// make the origin work, nor refuse what is stored.
fn counted_directives(parts: &request::Parts, preset: Preset) -> RequestDirectives {
    let said = RequestDirectives::parse(&parts.headers);
    match preset {
        Preset::Strict => said,
        Preset::Uptime => RequestDirectives {
            only_if_cached: said.only_if_cached,
            ..RequestDirectives::default()
        },
    }
}
