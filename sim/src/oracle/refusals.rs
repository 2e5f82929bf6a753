//! What an answer that is no use does to a cell: the entry at hand survives it,
//! and the origin is left alone for as long as it has asked for.

use super::{Made, Oracle};
use crate::coverage::Kind;
use crate::executor::{Micros, Owner, micros};
use crate::origin::{SERIAL, number};
use crate::scenario::seconds;
use leeward::cell::{Cell, Nonce};
use std::collections::BTreeMap;
use std::time::Duration;

/// This number of refused refreshes in a row, over at least this span, mean that a
/// resource has changed.
const REFUSALS_MIN: usize = 3;
const REFUSALS_SPAN: Duration = Duration::from_secs(10);

/// What clocks and whole seconds may take off.
const ROUNDING: Duration = Duration::from_millis(1_100);

/// When refreshes of a cell were refused since it was last filled.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<String, Vec<Micros>>);

impl Oracle {
    /// A holder settles its lease: what became of the entry, after what the
    /// origin has said?
    pub(super) fn settled_after(&self, id: &str, old: &Cell, new: &Cell, holder: Nonce, by: Owner) {
        let published = new
            .entry
            .as_ref()
            .is_some_and(|entry| entry.lease == holder);
        if published {
            self.state.borrow_mut().refusals.0.remove(id);
            return;
        }
        let strict = self.scenario.settings.strict;
        let Some(made) = self.brought_under(holder) else {
            return;
        };
        let revoked = old.lease.is_some_and(|lease| lease.revoked);
        if strict || revoked || !made.is_refused(strict) {
            return;
        }
        let lately = self.refused(id, made.at);
        let Some(entry) = &old.entry else { return };
        let node = by.node().unwrap_or(usize::MAX);
        let now = self.clocks.at(node);
        let slack = self.scenario.settings.skew + Duration::from_millis(20);
        let good = self.response(number(&entry.headers, SERIAL));
        let servable = good.is_some_and(|made| made.normal)
            && !entry.invalidated
            && old.marks.invalidated.is_none()
            && entry.freshness.may_serve_on_error(now.plus(slack));
        if !servable || self.scenario.has_jumps() {
            return;
        }
        if new.entry.is_some() {
            self.count(Kind::KeptWhenRefused);
            self.left_alone(id, new, &made, by);
        } else if lately.0 < REFUSALS_MIN || lately.1 + ROUNDING < REFUSALS_SPAN {
            self.violated(
                by,
                "L3",
                format!(
                    "{id}: an entry that may be used was dropped after {} refusals within {:?}, \
                     the last {made:?}",
                    lately.0, lately.1
                ),
            );
        }
    }

    /// O1: the mark that the holder leaves does not end before the origin wants
    /// to be asked again.
    fn left_alone(&self, id: &str, new: &Cell, made: &Made, by: Owner) {
        let Some(after) = made.retry_after else {
            return;
        };
        let skew = self.scenario.settings.skew;
        let truth = self.clocks.truth();
        let left = Duration::from_micros(after.saturating_sub(self.executor.now()));
        let retry = new.marks.retry.map(|retry| retry.not_before);
        let honoured = retry.is_some_and(|retry| retry.plus(skew + ROUNDING) >= truth.plus(left));
        if honoured {
            return self.count(Kind::RetryAfterHonoured);
        }
        self.violated(
            by,
            "O1",
            format!(
                "{id}: the origin wants to be left alone until {:.3}s; the mark is {retry:?} at \
                 {truth}",
                seconds(after)
            ),
        );
    }

    /// Notes a refusal; says how many there were in a row, and how long since the
    /// first.
    fn refused(&self, id: &str, at: Micros) -> (usize, Duration) {
        let refusals = &mut self.state.borrow_mut().refusals.0;
        let times = refusals.entry(id.to_owned()).or_default();
        times.push(at);
        let first = times.first().copied().unwrap_or(at);
        (times.len(), Duration::from_micros(at.saturating_sub(first)))
    }

    /// The last that the origin said to the holder of a lease.
    fn brought_under(&self, holder: Nonce) -> Option<Made> {
        let serial = {
            let state = self.state.borrow();
            let mut flights = state.flights.iter().rev();
            flights.find_map(|flight| {
                let held = flight.lease.as_ref().is_some_and(|lease| lease.1 == holder);
                held.then(|| flight.serial())?
            })
        };
        self.response(serial?)
    }

    /// How long after a refusal others may be told that the origin is left alone.
    pub(super) fn retry_after_max(&self) -> Micros {
        // Spread at random, and never shorter than said.
        micros(self.scenario.retry_after_max() * 2)
    }
}
