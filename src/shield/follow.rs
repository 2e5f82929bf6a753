//! Following: waiting for what another request fetches, in this instance for its
//! answer, in another for the cell to change.

use super::fetch::Brought;
use super::flight::{Flight, Handed, Role};
use super::request::Visit;
use super::served::Stale;
use super::{Answer, Shield};
use crate::cell::Entry;
use crate::cells::{Loaded, Located};
use crate::semantics::{Preset, Verdict};
use crate::time::Time;
use crate::world::Platform;
use futures::future::{Either, select};
use http::HeaderName;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// How often a request looks at a cell that another instance fills.
pub(super) const POLL: Polling = Polling {
    first: Duration::from_millis(20),
    most: Duration::from_millis(250),
};

/// The pauses between two looks at a cell. They grow by half each time, and are
/// spread at random.
#[derive(Clone, Copy, Debug)]
pub(super) struct Polling {
    /// The first pause.
    pub(super) first: Duration,
    /// What it may become.
    pub(super) most: Duration,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// The cell changed, or its lease or another's attempt ended: look again.
    Changed,
    /// Waited as long as it may.
    Expired,
}

impl<P: Platform> Shield<P> {
    /// Waits for another request of this instance: for what it fetches, or, if
    /// that is not for this request, for the end of its attempt.
    pub(super) async fn follow(
        self: &Rc<Self>,
        visit: &Visit,
        located: &Located,
        ended: impl Future<Output = ()>,
        handed: &Handed<Brought>,
        limit: Time,
    ) -> Result<Answer<P::Body>, Waited> {
        let was_there = handed.get().is_some();
        if let Some(answer) = self.share(visit, located, handed).await {
            return Ok(answer);
        }
        let waited = self.until(ended, limit).await;
        if was_there || handed.get().is_none() || handed.is_uncacheable() {
            return Err(waited);
        }
        if handed.has_begun() {
            return Err(Waited::Changed);
        }
        if let Some(answer) = self.share(visit, located, handed).await {
            return Ok(answer);
        }
        match self
            .flights
            .join(&located.loaded.id, || self.platform.signal())
        {
            Role::Follower(ended, _) => Err(self.until(ended, limit).await),
            Role::Leader(_) => Err(waited),
        }
    }

    /// Waits until `ended` resolves, at most until `limit`.
    pub(super) async fn until(&self, ended: impl Future<Output = ()>, limit: Time) -> Waited {
        let timeout = self.platform.sleep(limit.since(self.platform.now()));
        match select(pin!(ended), pin!(timeout)).await {
            Either::Left(_) => Waited::Changed,
            Either::Right(_) => Waited::Expired,
        }
    }

    /// What was handed over, if this request may have it.
    ///
    /// A request that came before the origin was asked may have it even if a
    /// purge keeps it from being stored: it is as good as an answer to itself. A
    /// request that came later may have it as if it were stored (RFC 9111 section
    /// 4: a storable response may satisfy several requests).
    async fn share(
        self: &Rc<Self>,
        visit: &Visit,
        located: &Located,
        handed: &Handed<Brought>,
    ) -> Option<Answer<P::Body>> {
        let Brought::Entry(entry, question) = handed.get()? else {
            return None;
        };
        let names: Vec<HeaderName> = crate::semantics::selecting_names(&entry.headers);
        // It may be a token that was made for another.
        if entry.freshness.alone > 0
            || !Self::is_for(visit, entry)
            || !question.is_asked_by(&visit.visitor, &names)
        {
            return None;
        }
        let now = self.platform.now();
        let in_time = handed.in_time && visit.config.policy.preset == Preset::Uptime;
        let stale = match self.verdict(visit, entry, now) {
            _ if in_time => None,
            _ if !handed.in_time && !self.is_unpurged(&located.loaded, entry) => return None,
            Verdict::Fresh => None,
            Verdict::StaleWhileRevalidate => Some(Stale::WhileRevalidating),
            Verdict::Revalidate { .. } => return None,
        };
        self.hit(visit, entry, located, now, stale).await.ok()
    }

    /// Whether no purge came between the request for an entry and the reading of
    /// its cell: the cell then shows the lease under which the origin was asked,
    /// which every purge of the cell revokes, and the key has no mark since.
    pub(super) fn is_unpurged(&self, loaded: &Loaded, entry: &Entry) -> bool {
        let lease = loaded.cell.as_ref().and_then(|cell| cell.lease);
        lease.is_some_and(|lease| lease.holder == entry.lease && !lease.revoked)
            && !self
                .cells
                .predates(entry.request_time, &loaded.key_purges.all())
            && !self.cells.is_purged_since(&loaded.key, entry)
    }

    /// Looks at a cell that another instance is filling until it changes, its
    /// lease ends at `until`, or the request may wait no longer. Followers in
    /// this instance wait for `flight`.
    pub(super) async fn wait_for_change(
        &self,
        loaded: &Loaded,
        limit: Time,
        until: Time,
        flight: Flight<P::Wake, Brought>,
    ) -> Waited {
        let waited = self.watch(loaded, limit, until, POLL).await;
        drop(flight);
        waited
    }

    /// Looks at a cell until it changes, or until `until` or `limit`.
    pub(super) async fn watch(
        &self,
        loaded: &Loaded,
        limit: Time,
        until: Time,
        polling: Polling,
    ) -> Waited {
        let began = self.platform.now();
        let (most, most_for_lease) = (limit.since(began), until.since(began));
        let mut waited = Duration::ZERO;
        let mut pause = polling.first;
        loop {
            let now = self.platform.now();
            // By both: the clock may be set back meanwhile.
            if now >= limit || waited >= most {
                return Waited::Expired;
            }
            if now >= until || waited >= most_for_lease {
                return Waited::Changed;
            }
            let spread = u32::try_from(self.platform.random() % 512).unwrap_or(0);
            let pause_spread = pause / 2 + pause.saturating_mul(spread) / 512;
            let pause_spread = pause_spread.min(limit.since(now)).min(until.since(now));
            self.platform.sleep(pause_spread).await;
            waited = waited.saturating_add(pause_spread);
            match self.cells.reload(loaded).await {
                Ok(current) if current.differs(loaded) => return Waited::Changed,
                Ok(_) => {}
                // The next look reads the instance's own store.
                Err(_) => return Waited::Changed,
            }
            pause = (pause + pause / 2).min(polling.most);
        }
    }
}
