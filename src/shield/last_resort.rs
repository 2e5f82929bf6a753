//! The last resort: another variant of a URL, where the origin does not answer and nothing
//! is stored for the visitor's own question.
//!
//! A page that a tool has fetched is as good as none to a browser whose question names
//! another media type. While the origin is down it is better than an error.

use super::request::Visit;
use super::served::{Own, Stale};
use super::{Answer, Shield};
use crate::cell::Entry;
use crate::cells::Located;
use crate::question::accepts_media_type;
use crate::semantics::{Audience, Preset, may_be_for_everyone};
use crate::time::Time;
use crate::world::Platform;
use std::rc::Rc;

impl<P: Platform> Shield<P> {
    /// The answer to a visit that nothing stored for its question helps: another variant, or
    /// the shield's own.
    pub(super) async fn without_entry(
        self: &Rc<Self>,
        visit: &Visit,
        located: &Located,
        why: Own,
        until: Time,
    ) -> Answer<P::Body> {
        match self.other_variant(visit).await {
            Some(answer) => answer,
            None => self.unavailable(visit, located, why, until),
        }
    }

    /// The answer with another variant that the visitor can use, if one is stored.
    pub(super) async fn other_variant(self: &Rc<Self>, visit: &Visit) -> Option<Answer<P::Body>> {
        if visit.config.policy.preset != Preset::Uptime || visit.without_store {
            return None;
        }
        let now = self.platform.now();
        let is_useful = |located: &Located| {
            let entry = located.loaded.entry();
            entry.is_some_and(|entry| Self::serves_at_last(visit, entry, now))
        };
        let located = self.cells.locate_other(&visit.visitor, is_useful).await?;
        let entry = located.loaded.entry()?;
        let now = self.platform.now();
        self.hit(visit, entry, &located, now, Some(Stale::Fallback))
            .await
            .ok()
    }

    /// Whether a visitor can use what is stored for another question.
    fn serves_at_last(visit: &Visit, entry: &Entry, now: Time) -> bool {
        let may_have = !visit.asker.credentials
            || entry.audience == Audience::Everyone
            || visit.config.origin.pass_fallback;
        may_have
            && may_be_for_everyone(entry.status)
            && !entry.invalidated
            && entry.freshness.alone == 0
            && entry.freshness.may_serve_on_error(now)
            && visit.visitor.accepts(&entry.headers)
            && accepts_media_type(&visit.parts.headers, &entry.headers)
    }
}
