//! A request on its way through the shield.

use super::decide::{Asker, Rules};
use super::served::Passed;
use crate::cell::{Entry, Nonce};
use crate::cells::Lost;
use crate::config::Config;
use crate::origin::Slot;
use crate::question::Visitor;
use crate::semantics::Preset;
use crate::time::Time;
use crate::world::VisitorAddress;
use futures::future::{LocalBoxFuture, Shared};
use http::request;
use std::net::IpAddr;
use std::rc::Rc;

/// A request on its way through the shield.
pub(super) struct Visit {
    pub(super) parts: request::Parts,
    pub(super) visitor: Box<Visitor>,
    /// The settings of the rule that the request falls under.
    pub(super) config: Rc<Config>,
    pub(super) asker: Asker,
    /// Until when it waits for another's fetch.
    pub(super) deadline: Time,
    /// When its client has gone.
    pub(super) gone: Gone,
    /// Its place in the origin's budget, if it has one.
    pub(super) slot: Option<Slot>,
    /// When its time was over, it had waited for a place for a while.
    pub(super) was_busy: bool,
    /// How often it has looked at the cell and found no answer.
    pub(super) looks: u32,
    /// The shared store has cost it its budget: it goes on with the instance's
    /// own.
    pub(super) without_store: bool,
    /// A body that an entry points at and that cannot be read: the entry does not
    /// count.
    pub(super) lost_body: Option<Nonce>,
    /// It has read the cell since a fetch that it follows had stored the first of a long
    /// body.
    pub(super) knows_begun: bool,
    /// The origin was asked its question, and what that brought was of no use to it, for this
    /// reason. Where its time is over it goes to the origin itself.
    pub(super) in_vain: Option<Passed>,
}

/// Resolves when the client has gone, where the platform can tell.
#[derive(Clone, Debug)]
pub(super) struct Gone(pub(super) Option<Shared<LocalBoxFuture<'static, ()>>>);

impl Gone {
    /// Waits until the client has gone; for ever if the platform cannot tell.
    pub(super) async fn wait(&self) {
        match &self.0 {
            Some(gone) => gone.clone().await,
            None => std::future::pending().await,
        }
    }
}

impl Visit {
    /// A clock that is set back does not make the wait longer than it may be.
    pub(super) fn keep_within_budget(&mut self, now: Time) {
        let most = self
            .config
            .wait
            .budget
            .max(self.config.origin.first_byte_timeout);
        self.deadline = self.deadline.min(now.plus(most));
    }

    /// Ignores an unreadable entry for this request. Counts as a look, so that the
    /// loop terminates.
    pub(super) fn lose(&mut self, entry: &Entry, lost: &Lost) {
        self.looks = self.looks.saturating_add(1);
        match lost {
            Lost::Missing => {
                self.lost_body = entry.body.manifest().map(|manifest| manifest.body);
            }
            // The next look reads the instance's own store, or decides again.
            Lost::Store | Lost::Late => {}
        }
    }

    /// Whether a question that failed, or took too long, leaves it the way to the origin by
    /// itself: the question was asked without its credentials.
    pub(super) fn may_go_itself(&self) -> bool {
        self.asker.credentials && self.config.policy.preset == Preset::Uptime
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        address_of(&self.parts)
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            preset: self.config.policy.preset,
            clock_skew: self.config.lease.clock_skew,
            early_refresh: self.config.early_refresh,
        }
    }
}

/// The visitor's address, where the platform tells it.
pub(super) fn address_of(parts: &request::Parts) -> Option<IpAddr> {
    parts
        .extensions
        .get::<VisitorAddress>()
        .map(|VisitorAddress(address)| *address)
}
