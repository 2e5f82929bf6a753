//! Waiting for what somebody else fetches: in this instance for its answer, in
//! another for the cell to change.

use super::cells::Loaded;
use super::exchange::Outcome;
use super::flight::{Handed, Landing, Seat};
use super::lookup::Visit;
use super::platform::Platform;
use super::{Answer, Shield};
use crate::cell::Entry;
use crate::semantics::{Vary, Verdict, selector, vary};
use crate::time::Time;
use futures::future::{Either, select};
use http::HeaderMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// First and longest pause between two looks at a cell that another instance
/// fills. The pause grows by half each time, and is spread at random.
const POLL_FIRST: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_millis(250);

/// What ended a wait.
pub(super) enum Waited {
    /// The cell changed, or its lease or another's attempt ended: look again.
    Changed,
    /// Waited as long as it may.
    Expired,
}

/// What the origin said to a request of this instance, for the others.
#[derive(Debug)]
pub(super) struct Fetched {
    /// As it is going to be stored, and whole.
    entry: Entry,
    /// The fields of the request that it answers.
    asked: HeaderMap,
}

impl Fetched {
    /// Whether the origin's answer would be the same to a request for the same
    /// cell with these fields (RFC 9111, 4.1).
    fn is_for(&self, headers: &HeaderMap) -> bool {
        match vary(&self.entry.headers) {
            Vary::None => true,
            Vary::Any => false,
            Vary::Fields(fields) => selector(&fields, &self.asked) == selector(&fields, headers),
        }
    }
}

/// Hands over what may be shared. A body in chunks is not to be relied on before
/// it is published: were it not to be, it would be litter.
pub(super) fn hand_over<W>(landing: &Landing<W, Fetched>, outcome: &Outcome, asked: &HeaderMap) {
    if let Outcome::Store(entry) = outcome
        && entry.body.manifest().is_none()
    {
        landing.hand_over(Fetched {
            entry: (**entry).clone(),
            asked: asked.clone(),
        });
    }
}

impl<P: Platform> Shield<P> {
    /// Waits for another request of this instance: for what it fetches, or, if
    /// that is not for this one, for the end of its attempt.
    pub(super) async fn follow(
        self: &Rc<Self>,
        visit: &Visit,
        loaded: &Loaded,
        landed: impl Future<Output = ()>,
        handed: &Handed<Fetched>,
        limit: Time,
    ) -> Result<Answer<P::Body>, Waited> {
        let was_there = handed.get().is_some();
        if let Some(answer) = self.share(visit, loaded, handed).await {
            return Ok(answer);
        }
        let waited = self.until(landed, limit).await;
        if was_there || handed.get().is_none() {
            return Err(waited);
        }
        if let Some(answer) = self.share(visit, loaded, handed).await {
            return Ok(answer);
        }
        match self.flights.join(&loaded.id, || self.platform.signal()) {
            Seat::Follower(landed, _) => Err(self.until(landed, limit).await),
            Seat::Leader(_) => Err(waited),
        }
    }

    async fn until(&self, landed: impl Future<Output = ()>, limit: Time) -> Waited {
        let timeout = self.platform.sleep(limit.since(self.platform.now()));
        match select(pin!(landed), pin!(timeout)).await {
            Either::Left(_) => Waited::Changed,
            Either::Right(_) => Waited::Expired,
        }
    }

    /// What was handed over, if this request may have it: one that came before
    /// the origin was asked, because it is as good as an answer to itself, even
    /// if a purge keeps it from being stored; one that came later, as if it were
    /// stored (RFC 9111, 4: a storable response may satisfy several requests).
    async fn share(
        self: &Rc<Self>,
        visit: &Visit,
        loaded: &Loaded,
        handed: &Handed<Fetched>,
    ) -> Option<Answer<P::Body>> {
        let fetched = handed.get()?;
        let entry = &fetched.entry;
        if !fetched.is_for(&visit.parts.headers) {
            return None;
        }
        let now = self.platform.now();
        let detail = match self.verdict(visit, entry, now) {
            _ if handed.in_time => None,
            _ if !self.is_unpurged(loaded, entry) => return None,
            Verdict::Fresh => None,
            Verdict::StaleWhileRevalidate => Some("stale"),
            Verdict::Revalidate { .. } => return None,
        };
        self.hit(visit, entry, loaded, now, detail).await.ok()
    }

    /// Whether no purge came between the request for an entry and the reading of
    /// its cell: the cell then shows the lease under which the origin was asked,
    /// which every purge of the cell revokes, and the key's has no mark since.
    fn is_unpurged(&self, loaded: &Loaded, entry: &Entry) -> bool {
        let lease = loaded.cell.as_ref().and_then(|cell| cell.lease);
        lease.is_some_and(|lease| lease.holder == entry.lease && !lease.revoked)
            && !self.predates(entry.request_time, &loaded.key_purges)
    }

    /// Looks at a cell that another instance is filling until it changes, its
    /// lease ends at `until`, or the request may wait no longer. Followers in
    /// this instance wait for `landing`.
    pub(super) async fn wait_for_change(
        &self,
        loaded: &Loaded,
        limit: Time,
        until: Time,
        landing: Landing<P::Wake, Fetched>,
    ) -> Waited {
        let mut pause = POLL_FIRST;
        let waited = loop {
            let now = self.platform.now();
            if now >= limit {
                break Waited::Expired;
            }
            if now >= until {
                break Waited::Changed;
            }
            let spread = u32::try_from(self.platform.random() % 512).unwrap_or(0);
            let pause_spread = pause / 2 + pause.saturating_mul(spread) / 512;
            self.platform
                .sleep(pause_spread.min(limit.since(now)).min(until.since(now)))
                .await;
            match self.reload(loaded).await {
                Ok(current) if current.differs(loaded) => break Waited::Changed,
                Ok(_) => {}
                // The next look reads the instance's own store.
                Err(_) => break Waited::Changed,
            }
            pause = (pause + pause / 2).min(POLL_MAX);
        };
        drop(landing);
        waited
    }
}
