//! What a cell means for a GET or HEAD.

use super::bodies::Lost;
use super::cells::{Election, Loaded};
use super::exchange::{Head, announced};
use super::fetch::{Job, Reason};
use super::flight::Seat;
use super::platform::Platform;
use super::wait::Waited;
use super::{Answer, Shield};
use crate::cell::{Entry, Marks, Nonce};
use crate::semantics::{
    CacheStatus, Forward, Preset, RequestDirectives, Verdict, key, selector, verdict,
};
use crate::store::Store;
use crate::time::{Time, millis};
use futures::channel::oneshot;
use futures::future::{Either, select};
use http::header::{AUTHORIZATION, RANGE};
use http::{HeaderName, Request, StatusCode, request, response};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Most looks at a cell for one request. Each is preceded by a wait, and all
/// waits together are bounded by `wait.budget`; this only ends a loop that no
/// wait would.
const LOOKS_MAX: u32 = 1_000;

/// What stands between a key and the selector of a variant; in no primary key.
pub(super) const VARIANT: &str = "\nvary ";

/// An entry is refreshed early in the last tenth of its lifetime, by one
/// request in so many.
const EARLY_REFRESH_ONE_IN: u128 = 32;

/// A request on its way through the shield.
pub(super) struct Visit {
    pub(super) parts: request::Parts,
    pub(super) key: String,
    directives: RequestDirectives,
    arrival: Time,
    /// Until when it waits for somebody else's fetch.
    deadline: Time,
    /// Whether it has waited for somebody else's fetch.
    collapsed: bool,
    /// How often it has looked at the cell and found no answer.
    looks: u32,
    /// The shared store has cost it its budget: it goes on with the instance's
    /// own.
    without_store: bool,
    /// A body that an entry points at and that cannot be read: the entry is
    /// none.
    lost_body: Option<Nonce>,
    /// It wants a part of what is too long to be stored: the origin has to cut
    /// it.
    pass_on: bool,
}

/// What to do about a request, given a cell.
enum Step<'a> {
    /// Answer with the entry.
    Serve(&'a Entry, Option<&'static str>),
    /// Answer with the entry, and refresh it behind the answer.
    ServeAndRefresh(&'a Entry, Option<&'static str>, Reason),
    /// Hand the request on without a lease.
    Pass,
    /// Say when to come back.
    Unavailable(Time),
    /// Become the revalidator, or wait for who is. The entry, if any, may be
    /// used if the origin fails.
    Fetch(Option<&'a Entry>),
}

impl Visit {
    /// An entry turned out to be unreadable: it is none for this request, and
    /// looking again counts, for it must end.
    fn lose(&mut self, entry: &Entry, lost: &Lost) {
        self.looks += 1;
        match lost {
            Lost::Missing => {
                self.lost_body = entry.body.manifest().map(|manifest| manifest.body);
            }
            // The instance's own store is next, or another decision.
            Lost::Store | Lost::Late => {}
        }
    }
}

impl<P: Platform> Shield<P> {
    /// Answers a GET or HEAD from its cell, or becomes the one who fills it.
    pub(super) async fn lookup(
        self: &Rc<Self>,
        request: Request<Option<P::Body>>,
    ) -> Answer<P::Body> {
        let now = self.platform.now();
        let mut visit = Visit {
            key: self.key(request.uri(), request.headers()),
            directives: RequestDirectives::parse(request.headers()),
            arrival: now,
            deadline: now.plus(self.config.wait.budget),
            collapsed: false,
            looks: 0,
            without_store: false,
            lost_body: None,
            pass_on: false,
            parts: request.into_parts().0,
        };
        while visit.looks < LOOKS_MAX {
            if visit.pass_on {
                return self.pass(visit, Forward::Bypass).await;
            }
            let loaded = self.load_variant(&visit).await;
            let now = self.platform.now();
            let stale = match self.decide(&visit, &loaded, now) {
                Step::Serve(entry, detail) => {
                    match self.hit(&visit, entry, &loaded, now, detail).await {
                        Ok(answer) => return answer,
                        Err(lost) => visit.lose(entry, &lost),
                    }
                    continue;
                }
                Step::ServeAndRefresh(entry, detail, reason) => {
                    match self.hit(&visit, entry, &loaded, now, detail).await {
                        Ok(answer) => {
                            self.refresh_behind(visit, loaded, reason);
                            return answer;
                        }
                        Err(lost) => visit.lose(entry, &lost),
                    }
                    continue;
                }
                Step::Pass => return self.pass(visit, Forward::Bypass).await,
                Step::Unavailable(until) => return self.unavailable(&visit, &loaded, now, until),
                Step::Fetch(_) if visit.directives.only_if_cached => {
                    return self.not_cached(&loaded);
                }
                // What may not be stored is no use to those who would wait for it
                // (RFC 9111, 5.2.1.5).
                Step::Fetch(_) if visit.directives.no_store => {
                    return self.pass(visit, Forward::Request).await;
                }
                Step::Fetch(stale) => stale.cloned(),
            };
            // A first look is everybody's, whatever the budget.
            if visit.looks > 0 && now >= visit.deadline {
                if self.budget_went_to_the_store(&visit) {
                    visit.without_store = true;
                    visit.deadline = now.plus(self.config.origin.first_byte_timeout);
                    continue;
                }
                return self
                    .make_do(&visit, &stale, &loaded, "soft-timeout")
                    .await
                    .unwrap_or_else(|| self.unavailable(&visit, &loaded, now, now));
            }
            visit.looks += 1;
            // With a stale copy at hand nobody waits longer than the soft
            // timeout; the fetch goes on.
            let soft = stale
                .is_some()
                .then(|| visit.arrival.plus(self.config.origin.soft_timeout))
                .filter(|_| self.config.policy.preset == Preset::Uptime);
            let limit = soft.map_or(visit.deadline, |soft| soft.min(visit.deadline));
            let waited = match self.flights.join(&loaded.id, || self.platform.signal()) {
                Seat::Follower(landed, handed) => {
                    visit.collapsed = true;
                    match self.follow(&visit, &loaded, landed, &handed, limit).await {
                        Ok(answer) => return answer,
                        Err(waited) => waited,
                    }
                }
                Seat::Leader(landing) => match self.elect(&loaded).await {
                    Election::Held(held) => {
                        let reason = if stale.is_some() || loaded.entry().is_some() {
                            Reason::Revalidate
                        } else {
                            Reason::Miss
                        };
                        let (head, receiver) = oneshot::channel();
                        self.spawn_job(Job {
                            held,
                            visitor: visit.parts.clone(),
                            key: visit.key.clone(),
                            reason,
                            on_error: stale.is_some(),
                            head: Some(head),
                            landing,
                        });
                        let head = self.await_head(&mut visit, &loaded, &stale, soft, receiver);
                        match head.await {
                            Some(answer) => return answer,
                            None => Waited::Changed,
                        }
                    }
                    Election::Taken(until) => {
                        visit.collapsed = true;
                        self.wait_for_change(&loaded, limit, until, landing).await
                    }
                    Election::Backoff | Election::Changed => Waited::Changed,
                },
            };
            // Without a copy that may be used the wait goes on, to the deadline.
            if let Waited::Expired = waited
                && let Some(answer) = self.make_do(&visit, &stale, &loaded, "soft-timeout").await
            {
                return answer;
            }
        }
        let loaded = self.load_variant(&visit).await;
        let now = self.platform.now();
        self.unavailable(&visit, &loaded, now, now)
    }

    /// Whether a visit has spent its time on a store that fails or is too slow,
    /// and not on waiting for somebody else's fetch. Once, it may go on without.
    fn budget_went_to_the_store(&self, visit: &Visit) -> bool {
        !visit.without_store && (!visit.collapsed || self.store_failed_since(visit.arrival))
    }

    /// The key of a request's target; GET and HEAD share it.
    pub(super) fn key(&self, uri: &http::Uri, headers: &http::HeaderMap) -> String {
        let host = uri.authority().map(|authority| authority.as_str());
        let host = host.or_else(|| headers.get(http::header::HOST)?.to_str().ok());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        key(
            uri.scheme_str().unwrap_or("http"),
            host,
            path,
            &self.config.key,
        )
    }

    /// Reads the cell for a request: that of its key, or of its variant where
    /// the key has any.
    async fn load_variant(&self, visit: &Visit) -> Loaded {
        let mut loaded = self.load_any_variant(visit).await;
        if let Some(cell) = &mut loaded.cell
            && let Some(manifest) = cell.entry.as_ref().and_then(|entry| entry.body.manifest())
            && visit.lost_body == Some(manifest.body)
        {
            cell.drop_entry(self.platform.now());
        }
        loaded
    }

    async fn load_any_variant(&self, visit: &Visit) -> Loaded {
        let load = async |key: &str| match visit.without_store {
            true => self.load_local(key).await,
            false => self.load(key).await,
        };
        let primary = load(&visit.key).await;
        let Some(marks) = primary.cell.as_ref().map(|cell| &cell.marks) else {
            return primary;
        };
        if marks.vary.is_empty() {
            return primary;
        }
        let key = variant_key(&visit.key, &marks.vary, &visit.parts.headers);
        let mut loaded = load(&key).await;
        self.heed(&mut loaded, marks);
        loaded
    }

    /// Applies to a variant's cell what the marks of its key's say.
    fn heed(&self, loaded: &mut Loaded, marks: &Marks) {
        let (invalidated, purged) = (marks.invalidated, marks.purged);
        loaded.key_purges = [invalidated, purged, marks.softened];
        let Some(cell) = loaded.cell.as_mut() else {
            return;
        };
        let predates =
            |entry: &Entry, mark: Option<Time>| self.predates(entry.request_time, &[mark]);
        if cell
            .entry
            .as_ref()
            .is_some_and(|entry| predates(entry, purged))
        {
            cell.drop_entry(self.platform.now());
        }
        if let Some(entry) = &mut cell.entry
            && predates(entry, invalidated)
        {
            entry.invalidated = true;
        }
        if let Some(entry) = &mut cell.entry
            && let Some(softened) = marks.softened
            && predates(entry, marks.softened)
        {
            // A mark in the future, by this node's clock, would leave it fresh.
            entry.freshness.end_at(softened.min(self.platform.now()));
        }
    }

    /// The heart of it: what a cell means for a request.
    fn decide<'a>(&self, visit: &Visit, loaded: &'a Loaded, now: Time) -> Step<'a> {
        let Some(cell) = &loaded.cell else {
            return Step::Fetch(None);
        };
        let skew = self.config.lease.clock_skew;
        let leased = cell.lease.is_some_and(|lease| lease.is_live(now, skew));
        if let Some(pass) = cell.marks.pass
            && (!pass.authorized_only || visit.parts.headers.contains_key(AUTHORIZATION))
            // After its end one request finds out whether it still holds; the
            // others need not queue for what it probably finds.
            && (now < pass.until || leased)
        {
            return Step::Pass;
        }
        let backoff = cell
            .marks
            .retry
            .map(|retry| retry.not_before)
            .filter(|not_before| now < *not_before);
        let Some(entry) = &cell.entry else {
            return match backoff {
                Some(until) => Step::Unavailable(until),
                None => Step::Fetch(None),
            };
        };
        match self.verdict(visit, entry, now) {
            Verdict::Fresh if !leased && backoff.is_none() && self.refresh_early(entry, now) => {
                Step::ServeAndRefresh(entry, None, Reason::Early)
            }
            Verdict::Fresh => Step::Serve(entry, None),
            Verdict::StaleWhileRevalidate if leased || backoff.is_some() => {
                Step::Serve(entry, Some("stale"))
            }
            Verdict::StaleWhileRevalidate => {
                Step::ServeAndRefresh(entry, Some("stale"), Reason::Refresh)
            }
            // Without this, requests for what must always be validated would
            // queue for each other.
            Verdict::Revalidate { .. } if visit.collapsed && self.is_since(visit, entry) => {
                Step::Serve(entry, None)
            }
            Verdict::Revalidate { on_error } => match backoff {
                Some(_) if on_error => Step::Serve(entry, Some("stale-if-error")),
                Some(until) => Step::Unavailable(until),
                None => Step::Fetch(on_error.then_some(entry)),
            },
        }
    }

    /// Whether an entry was requested from the origin after this request came: as
    /// good as if this request itself had gone there. What has been invalidated
    /// since may have been even before this request came, if it was requested by
    /// a node whose clock is ahead.
    fn is_since(&self, visit: &Visit, entry: &Entry) -> bool {
        let skew = match entry.invalidated {
            true => self.config.lease.clock_skew,
            false => Duration::ZERO,
        };
        entry.request_time >= visit.arrival.plus(skew)
    }

    fn refresh_early(&self, entry: &Entry, now: Time) -> bool {
        let ttl = u64::try_from(entry.freshness.ttl_ms(now)).unwrap_or(0);
        self.config.early_refresh
            && ttl < entry.freshness.lifetime_ms / 10
            && self.platform.random().is_multiple_of(EARLY_REFRESH_ONE_IN)
    }

    /// Answers with an entry; `detail` is for `Cache-Status`.
    ///
    /// # Errors
    ///
    /// If its body cannot be read, or so late that the entry is not any more what
    /// it was decided to be.
    pub(super) async fn hit(
        self: &Rc<Self>,
        visit: &Visit,
        entry: &Entry,
        loaded: &Loaded,
        now: Time,
        detail: Option<&str>,
    ) -> Result<Answer<P::Body>, Lost> {
        let cache_status = CacheStatus {
            hit: !visit.collapsed,
            fwd: visit.collapsed.then_some(Forward::UriMiss),
            collapsed: visit.collapsed,
            ttl: Some(entry.freshness.ttl(now)),
            detail: detail.map(str::to_owned),
            ..CacheStatus::default()
        };
        let cache_status = Self::with_backing(cache_status, loaded.backing);
        let answer = self
            .entry_answer(&visit.parts, entry, loaded, now, &cache_status)
            .await?;
        // Reading a body in chunks takes a moment.
        let then = self.platform.now();
        if then != now && self.verdict(visit, entry, then) != self.verdict(visit, entry, now) {
            return Err(Lost::Late);
        }
        Ok(answer)
    }

    /// What an entry is good for, to this request, at `now`.
    pub(super) fn verdict(&self, visit: &Visit, entry: &Entry, now: Time) -> Verdict {
        verdict(
            &entry.freshness,
            &visit.directives,
            self.config.policy.preset,
            entry.invalidated,
            now,
        )
    }

    async fn pass(self: &Rc<Self>, visit: Visit, reason: Forward) -> Answer<P::Body> {
        self.forward(Request::from_parts(visit.parts, None), reason)
            .await
    }

    /// Nothing to serve, and the origin may not be asked before `until`.
    fn unavailable(
        &self,
        visit: &Visit,
        loaded: &Loaded,
        now: Time,
        until: Time,
    ) -> Answer<P::Body> {
        let cache_status = CacheStatus {
            fwd: Some(Forward::UriMiss),
            collapsed: visit.collapsed,
            detail: Some(
                if until > now {
                    "backoff"
                } else {
                    "wait-budget"
                }
                .into(),
            ),
            ..CacheStatus::default()
        };
        let cache_status = Self::with_backing(cache_status, loaded.backing);
        self.unavailable_with(&cache_status, until.since(now))
    }

    fn unavailable_with(
        &self,
        cache_status: &CacheStatus,
        retry_after: Duration,
    ) -> Answer<P::Body> {
        self.plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "not cached yet, and the origin cannot be asked right now",
            cache_status,
            Some(millis(retry_after).div_ceil(1_000).max(1)),
        )
    }

    fn not_cached(&self, loaded: &Loaded) -> Answer<P::Body> {
        let cache_status = CacheStatus {
            fwd: Some(Forward::UriMiss),
            detail: Some("only-if-cached".into()),
            ..CacheStatus::default()
        };
        self.plain(
            StatusCode::GATEWAY_TIMEOUT,
            "not cached, and the request asked not to fetch it",
            &Self::with_backing(cache_status, loaded.backing),
            None,
        )
    }

    /// Refreshes a stale entry behind the answer, if nobody else is at it.
    fn refresh_behind(self: &Rc<Self>, visit: Visit, loaded: Loaded, reason: Reason) {
        if self.platform.store().is_worn() {
            return;
        }
        let Seat::Leader(landing) = self.flights.join(&loaded.id, || self.platform.signal()) else {
            return;
        };
        let shield = Rc::clone(self);
        self.platform.spawn(async move {
            if let Election::Held(held) = shield.elect(&loaded).await {
                shield
                    .run_job(Job {
                        held,
                        visitor: visit.parts,
                        key: visit.key,
                        reason,
                        on_error: true,
                        head: None,
                        landing,
                    })
                    .await;
            }
        });
    }

    /// Waits for the head of the fetch that this request has started. None if
    /// the fetch was given up before the origin was asked.
    async fn await_head(
        self: &Rc<Self>,
        visit: &mut Visit,
        loaded: &Loaded,
        stale: &Option<Entry>,
        soft: Option<Time>,
        receiver: oneshot::Receiver<Head<P::Body>>,
    ) -> Option<Answer<P::Body>> {
        let fwd = if loaded.entry().is_some() {
            Forward::Stale
        } else if loaded.key != visit.key {
            Forward::VaryMiss
        } else {
            Forward::UriMiss
        };
        let cache_status = |status: Option<StatusCode>, stored, detail: Option<&str>| {
            let cache_status = CacheStatus {
                fwd: Some(fwd),
                fwd_status: status.map(|status| status.as_u16()),
                stored,
                detail: detail.map(str::to_owned),
                ..CacheStatus::default()
            };
            Self::with_backing(cache_status, loaded.backing)
        };
        let head = match soft {
            None => receiver.await,
            Some(soft) => {
                let timeout = self.platform.sleep(soft.since(self.platform.now()));
                match select(receiver, pin!(timeout)).await {
                    Either::Left((head, _)) => head,
                    Either::Right(((), receiver)) => {
                        match self.make_do(visit, stale, loaded, "soft-timeout").await {
                            Some(answer) => return Some(answer),
                            None => receiver.await,
                        }
                    }
                }
            }
        };
        let head = head.ok()?;
        let now = self.platform.now();
        match head {
            Head::Response(response, _, false) if self.is_for_the_origin(visit, &response) => {
                visit.pass_on = true;
                None
            }
            Head::Response(response, body, stored) => {
                let cache_status = cache_status(Some(response.status), stored, None);
                Some(self.origin_answer(&visit.parts, response, body, &cache_status))
            }
            // A body that is lost makes who waits look again.
            Head::Entry(entry) => {
                let cache_status = cache_status(Some(StatusCode::NOT_MODIFIED), true, None);
                self.entry_answer(&visit.parts, &entry, loaded, now, &cache_status)
                    .await
                    .ok()
            }
            Head::Failed => Some(
                self.make_do(visit, stale, loaded, "stale-if-error")
                    .await
                    .unwrap_or_else(|| {
                        let cache_status = cache_status(None, false, Some("origin-failed"));
                        self.unavailable_with(&cache_status, self.config.origin.retry.first)
                    }),
            ),
        }
    }

    /// Whether a visitor wants a part of what is too long to be stored: better
    /// one more request, for the part, than all of it for the part's sake.
    fn is_for_the_origin(&self, visit: &Visit, response: &response::Parts) -> bool {
        response.status == StatusCode::OK
            && visit.parts.headers.contains_key(RANGE)
            && announced(&response.headers).is_some_and(|length| length > self.config.limits.body)
    }

    /// The stale entry at the end of a wait, if there is one, and if it may still
    /// be used: the wait may have outlasted its window.
    async fn make_do(
        self: &Rc<Self>,
        visit: &Visit,
        stale: &Option<Entry>,
        loaded: &Loaded,
        detail: &str,
    ) -> Option<Answer<P::Body>> {
        let now = self.platform.now();
        let entry = stale
            .as_ref()
            .filter(|entry| match self.verdict(visit, entry, now) {
                Verdict::Fresh | Verdict::StaleWhileRevalidate => true,
                Verdict::Revalidate { on_error } => on_error,
            })?;
        self.hit(visit, entry, loaded, now, Some(detail)).await.ok()
    }
}

/// The key of a variant's cell: unlike any primary key, and canonical.
pub(super) fn variant_key(key: &str, vary: &[String], headers: &http::HeaderMap) -> String {
    let fields: Vec<HeaderName> = vary
        .iter()
        .filter_map(|name| HeaderName::try_from(name).ok())
        .collect();
    format!("{key}{VARIANT}{}", selector(&fields, headers))
}
