//! The ledger: what of the requests at the origin visitors have caused (H1).
//!
//! A visitor's request causes at most one request at the origin that is of use, and another
//! only after one that was not: it failed, it confirmed what is not stored, or the answer to
//! the question was not for that visitor. Then the visitor is forwarded as it would be
//! without a shield, which is what it came for.
//!
//! Beside these there are requests that fill a cell behind the answer to a visitor who was
//! forwarded. Where the visitor has credentials, there is one for twenty forwarded requests
//! at most. Where it has none, everyone is forwarded until the cell is filled, and one
//! attempt in a pause that grows spares the others.
//!
//! That is the right promise for each moment, and so for each minute: sums over a run would
//! let hits hide requests that nobody has caused. The breaker's checks are nobody's, and are
//! bounded by B2.

use super::made::concerns_everyone;
use super::{Flight, Made, Oracle};
use crate::executor::{Micros, Owner, micros};
use crate::requests::Asked;
use std::rc::Rc;
use std::time::Duration;

/// So many forwarded requests are worth one that fills a cell behind an answer.
const PASSES_PER_EXTRA: usize = 20;

/// For so long a change of a key, an accident, or a store that went wrong explains that what
/// came does not count: leases, clocks and an instance's own store outlast them.
const LATELY: Duration = Duration::from_secs(10);

impl Oracle {
    /// H1: a request that departs is its visitor's first, or has another cause.
    pub(super) fn has_cause(&self, flight: &Rc<Flight>, asked: &Asked) {
        // RFC 9111 shares nothing of what a visitor's own fields have shaped.
        if self.scenario.settings.strict || !self.has_swaps() || self.scenario.has_jumps() {
            return;
        }
        let Some(request) = self.request_of(flight.visitor) else {
            return;
        };
        let before = {
            let state = self.state.borrow();
            let mut flights = state.flights.iter().rev();
            let before = flights.find(|other| other.visitor == flight.visitor);
            before.cloned()
        };
        let Some(before) = before else { return };
        let made = before.serial().and_then(|serial| self.response(serial));
        let no_use = made.as_ref().is_none_or(|made| is_no_use(&request, made));
        if no_use || before.has_failed() || self.is_overtaken(&before) {
            return;
        }
        let was_own = made
            .as_ref()
            .is_some_and(|made| is_own(&request, &made.asked));
        let is_behind = self.state.borrow().answered.contains(&flight.visitor);
        let is_fill = flight.lease.is_some() || is_behind || !is_own(&request, asked);
        if before.lease.is_none() && was_own && is_fill {
            self.state.borrow_mut().extras.push(Rc::clone(flight));
            return;
        }
        let visitor = flight.visitor;
        let what = format!("visitor {visitor} has the origin asked again, after {made:?}");
        self.violated(flight.owner, "H1", what);
    }

    /// Whether what a request brought may not count any more, or could not be stored: its key
    /// was changed or purged lately, or its instance was kept from the store.
    fn is_overtaken(&self, before: &Flight) -> bool {
        let since = before.began.saturating_sub(micros(LATELY));
        let is_since = |at: &Micros| *at >= since;
        if self.hampered_since(before.owner, since) > 0 {
            return true;
        }
        let state = self.state.borrow();
        let changed = state.changed.get(&before.key);
        changed.is_some_and(|times| times.iter().any(is_since))
            || state.accidents.iter().any(is_since)
            || !self.scenario.purges.is_empty()
    }

    /// H1 of the whole run: few requests fill a cell behind an answer.
    pub(super) fn extras_are_few(&self) {
        let (extras, passes) = {
            let state = self.state.borrow();
            let is_credentialed = |flight: &&Rc<Flight>| {
                let request = self.request_of(flight.visitor);
                request.is_some_and(|request| request.credentials().is_some())
            };
            let extras = state.extras.iter().filter(is_credentialed).count();
            let flights = state.flights.iter();
            let passes = flights.filter(|flight| flight.lease.is_none()).count();
            (extras, passes)
        };
        if extras > passes / PASSES_PER_EXTRA {
            let what = format!("{extras} cells were filled behind answers to {passes} requests");
            self.violated(Owner::World, "H1", what);
        }
    }
}

/// Whether an answer is of no use to the visitor on whose behalf it was asked for: it may not
/// have it, or it would have got another one itself.
fn is_no_use(request: &Asked, made: &Made) -> bool {
    let asked = &made.asked;
    let is_for_others = request.credentials().is_some()
        && asked.credentials().is_none()
        && (!made.said.is_for_everyone()
            || made.said.is_zero()
            || made.vary.iter().any(|(name, _)| *name == "cookie")
            || !concerns_everyone(made.status));
    let mut vary = made.vary.iter();
    let varies = vary.any(|(name, value)| *value != request.value(name));
    let confirms = made.confirms && !asked.same(request, "if-none-match");
    let is_part = request.value("range").is_some() && asked.value("range").is_none();
    // Behind an answer it is fetched for nobody: each visitor gets one of its own.
    let is_alone = made.each_use;
    is_for_others || varies || confirms || is_part || is_alone || made.to_itself
}

/// Whether a request is a visitor's own, and not a question: what it says of its visitor, a
/// question has in another form or leaves out.
fn is_own(request: &Asked, asked: &Asked) -> bool {
    let names = request.headers.keys();
    names
        .into_iter()
        .all(|name| asked.same(request, name.as_str()))
}
