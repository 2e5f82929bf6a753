//! The world as a simulated instance sees it.

use crate::clock::Clocks;
use crate::coverage::Kind;
use crate::executor::{Executor, Owner};
use crate::oracle::Oracle;
use crate::origin::{Origin, SimBody};
use crate::requests::ODD_REFERER;
use crate::scenario::Smuggles;
use crate::stores::Watched;
use futures::channel::oneshot;
use http::header::{CONTENT_LENGTH, IF_NONE_MATCH, REFERER};
use leeward::shield::{OriginError, OriginRequest, Platform};
use leeward::time::Time;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Counts what keeps an instance alive.
#[derive(Debug)]
pub(crate) struct Busy(Rc<Cell<usize>>);

impl Busy {
    pub(crate) fn new(counter: &Rc<Cell<usize>>) -> Self {
        counter.set(counter.get() + 1);
        Busy(Rc::clone(counter))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// An instance's platform.
pub(crate) struct SimPlatform {
    pub(crate) executor: Executor,
    pub(crate) oracle: Rc<Oracle>,
    pub(crate) clocks: Rc<Clocks>,
    pub(crate) origin: Rc<Origin>,
    pub(crate) store: Watched,
    pub(crate) owner: Owner,
    /// Requests and tasks that keep the instance alive.
    pub(crate) busy: Rc<Cell<usize>>,
}

impl std::fmt::Debug for SimPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimPlatform")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl SimPlatform {
    /// Adds to a request what the shield has left out of the visitor's, where the
    /// scenario wants it.
    fn smuggle(&self, parts: &mut http::request::Parts) {
        let smuggles = self.origin.scenario.smuggles;
        let visitor = self.oracle.on_whose_behalf();
        let Some(asked) = self.oracle.request_of(visitor) else {
            return;
        };
        if smuggles == Smuggles::Request
            && let Ok(target) = asked.target.parse()
        {
            parts.uri = target;
        }
        for (name, value) in &asked.headers {
            let wanted = match smuggles {
                Smuggles::Nothing => false,
                Smuggles::Request => !matches!(*name, CONTENT_LENGTH | IF_NONE_MATCH),
                Smuggles::Referer => *name == REFERER && *value == ODD_REFERER,
            };
            if wanted {
                parts.headers.insert(name.clone(), value.clone());
            }
        }
    }
}

impl Platform for SimPlatform {
    type Store = Watched;
    type Body = SimBody;
    type Wake = oneshot::Sender<()>;

    fn store(&self) -> &Watched {
        &self.store
    }

    fn now(&self) -> Time {
        self.clocks.at(self.owner.node().unwrap_or(usize::MAX))
    }

    fn random(&self) -> u128 {
        self.executor.random(|rng| rng.u128(..))
    }

    async fn sleep(&self, duration: Duration) {
        self.executor.sleep(duration).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let busy = Busy::new(&self.busy);
        // The task of the budget serves all requests of the instance: it does not go on
        // with the lease or the visitor of the one that happened to start it.
        let is_errand = std::any::type_name_of_val(&task).contains("::broker::");
        let parent = self.executor.current();
        let child = self.executor.spawn(self.owner, async move {
            task.await;
            drop(busy);
        });
        if !is_errand {
            self.oracle.spawned(parent, child);
        }
    }

    fn signal(&self) -> (Self::Wake, impl Future<Output = ()> + 'static) {
        let (wake, dropped) = oneshot::channel();
        (wake, async move {
            let _ = dropped.await;
        })
    }

    async fn send(
        &self,
        request: OriginRequest<SimBody>,
    ) -> Result<http::Response<SimBody>, OriginError> {
        let mut request = request;
        self.smuggle(&mut request.parts);
        if self.origin.scenario.repeats && request.body.is_none() {
            let again = OriginRequest {
                parts: request.parts.clone(),
                body: None,
                ..request
            };
            // What it brings is nobody's.
            drop(self.origin.exchange(self.owner, again).await);
        }
        self.origin.exchange(self.owner, request).await
    }

    /// What the shield counts costs writes, which scenarios of before do not expect.
    fn counts_requests(&self) -> bool {
        !self.origin.scenario.counts
    }

    fn log(&self, line: &str) {
        self.oracle.trace(self.owner, || line.to_owned());
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
            return;
        };
        let text = |name: &str| line.get(name).and_then(serde_json::Value::as_str);
        if text("event") == Some("variant-evicted") {
            self.oracle.count(Kind::Evicted);
        }
        if text("outcome") == Some("sent-again") {
            self.oracle.count(Kind::SentAgain);
        }
        let part = text("part").unwrap_or_default();
        match text("event") {
            Some("store-failed") => self.oracle.store_health(self.owner, part, false),
            Some("store-recovered") => self.oracle.store_health(self.owner, part, true),
            _ => {}
        }
        match text("settled") {
            Some("fenced") => self.oracle.fenced(),
            Some("purged") => self.oracle.count(Kind::Purged),
            Some("store-failed") if text("outcome") == Some("late") => {
                self.oracle.count(Kind::Late);
            }
            Some("store-failed") => self.oracle.count(Kind::SettleFailed),
            _ => {}
        }
    }
}
