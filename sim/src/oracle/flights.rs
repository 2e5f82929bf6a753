//! Who has the origin busy, and for which cell.

use super::Oracle;
use crate::coverage::Kind;
use crate::executor::{Micros, Owner};
use crate::requests::{Asked, Media, ODD_FIELD, ODD_REFERER};
use crate::scenario::Visit;
use leeward::cell::Nonce;
use std::cell::Cell;
use std::rc::Rc;

/// A lease has to live through this number of failed or slow store operations
/// in a row.
const LOSSES_SURVIVED: usize = 1;

/// What in a visitor's request made an exchange fail that would not have failed
/// for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// A field that the origin does not know.
    Field,
    /// The `Referer`.
    Referer,
    /// The `Accept`.
    Accept,
    /// The content.
    Content,
}

impl Blame {
    /// Whether another visitor's request would have failed too.
    fn is_shared_by(self, visit: &Visit) -> bool {
        match self {
            Blame::Field => visit.brings.has(ODD_FIELD),
            Blame::Referer => visit.brings.says("referer", ODD_REFERER),
            Blame::Accept => crate::world::asked(visit).media() == Media::Other,
            Blame::Content => visit.brings.content,
        }
    }
}

/// One exchange with the origin.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(super) owner: Owner,
    pub(super) key: usize,
    /// On whose behalf.
    pub(super) visitor: u64,
    /// The cell and the lease under which the origin is asked; none without a
    /// lease in the shared store.
    pub(super) lease: Option<(String, Nonce)>,
    pub(super) began: Micros,
    /// When its head was sent, before its content.
    pub(super) sent: Micros,
    /// When the origin has sent all, as far as that is known.
    done_at: Cell<Option<Micros>>,
    /// Whether it still concerns the cell: the holder waits for it.
    open: Cell<bool>,
    failed: Cell<bool>,
    blame: Cell<Option<Blame>>,
    /// The number of what the origin has answered.
    serial: Cell<Option<u64>>,
    ended: Cell<Option<Micros>>,
    /// When the asker let go of the exchange, whatever became of the cell.
    gone: Cell<Option<Micros>>,
    /// Whether its answer has no end that anybody could wait for.
    streams: Cell<bool>,
    executor: Option<crate::executor::Executor>,
}

impl Default for Flight {
    fn default() -> Self {
        Flight {
            owner: Owner::World,
            key: usize::MAX,
            visitor: u64::MAX,
            lease: None,
            began: 0,
            sent: 0,
            done_at: Cell::default(),
            open: Cell::default(),
            failed: Cell::default(),
            blame: Cell::default(),
            serial: Cell::default(),
            ended: Cell::default(),
            gone: Cell::default(),
            streams: Cell::default(),
            executor: None,
        }
    }
}

impl Flight {
    /// Whether the origin is busy with it.
    pub(super) fn is_busy(&self, now: Micros) -> bool {
        self.open.get() && self.done_at.get().is_none_or(|done| done > now)
    }

    /// The origin will have sent all at that time.
    pub(crate) fn done_at(&self, at: Micros) {
        self.done_at.set(Some(at));
    }

    /// Whether it counts in the origin's budget.
    pub(super) fn is_counted(&self, now: Micros) -> bool {
        self.is_at_origin(now) && !self.streams.get()
    }

    /// Whether the origin has not sent all yet, and the asker has not let go of it.
    pub(super) fn is_at_origin(&self, now: Micros) -> bool {
        self.gone.get().is_none() && self.done_at.get().is_none_or(|done| done > now)
    }

    /// When the asker let go of it.
    pub(super) fn gone(&self) -> Option<Micros> {
        self.gone.get()
    }

    /// Its answer trickles.
    pub(crate) fn streams(&self) {
        self.streams.set(true);
    }

    /// The asker has let go of it.
    pub(crate) fn closed(&self) {
        self.settled();
        // One that trickles and says how long it is keeps its lease until here.
        if self.streams.get() {
            self.ended
                .set(self.executor.as_ref().map(|executor| executor.now()));
        }
        if self.gone.get().is_none() {
            self.gone
                .set(self.executor.as_ref().map(|executor| executor.now()));
        }
    }

    /// It does not concern the cell any more.
    pub(crate) fn settled(&self) {
        self.open.set(false);
        if self.ended.get().is_none() {
            self.ended
                .set(self.executor.as_ref().map(|executor| executor.now()));
        }
    }

    /// The exchange will come to nothing.
    pub(crate) fn fails(&self) {
        self.failed.set(true);
    }

    /// The exchange came to nothing.
    pub(crate) fn failed(&self) {
        self.fails();
        self.closed();
    }

    /// It fails because of what is in the request.
    pub(crate) fn blame(&self, blame: Blame) {
        self.fails();
        self.blame.set(Some(blame));
    }

    /// The origin has answered.
    pub(crate) fn made(&self, serial: u64) {
        self.serial.set(Some(serial));
    }

    /// What the origin has answered, by number.
    pub(super) fn serial(&self) -> Option<u64> {
        self.serial.get()
    }

    /// Whether it came to nothing, or is going to.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Whether it came to nothing, and was not over before `moment`.
    pub(super) fn failed_since(&self, moment: Micros) -> bool {
        self.failed.get() && self.ended.get().is_none_or(|ended| ended >= moment)
    }

    /// Whether it explains that a request at `from` got no answer by `now`. What
    /// failed because of one visitor's request explains nothing to others.
    pub(super) fn explains(&self, visit: &Visit, from: Micros, now: Micros, slow: Micros) -> bool {
        let ended = self.ended.get().unwrap_or(now);
        let bad = self.failed.get() || ended.saturating_sub(self.began) > slow;
        let concerns = self
            .blame
            .get()
            .is_none_or(|blame| blame.is_shared_by(visit));
        bad && concerns && ended >= from
    }
}

/// Ends a flight whose request is given up before the head of the answer.
pub(crate) struct OpenFlight(pub(crate) Option<Rc<Flight>>);

impl OpenFlight {
    /// The exchange failed; the body, if any, is still to come.
    pub(crate) fn fails(&self) {
        if let Some(flight) = &self.0 {
            flight.fails();
        }
    }
}

impl Drop for OpenFlight {
    fn drop(&mut self) {
        if let Some(flight) = &self.0 {
            flight.failed();
        }
    }
}

impl Oracle {
    /// The current task asks the origin.
    pub(crate) fn departs(
        &self,
        owner: Owner,
        key: usize,
        asked: &Asked,
        sent: Micros,
    ) -> Rc<Flight> {
        let now = self.executor.now();
        let task = self.executor.current();
        let claim = task.and_then(|task| self.state.borrow().claims.get(&task).cloned());
        let lease = claim
            .filter(|claim| claim.confirmed)
            .map(|claim| (claim.cell, claim.holder));
        self.trace(owner, || match &lease {
            Some((cell, holder)) => format!("asks the origin for key {key}, {cell} as {holder}"),
            None => format!("asks the origin for key {key} without a lease"),
        });
        let visitor = self.on_whose_behalf();
        self.asks((visitor, owner), asked, lease.is_some(), now);
        let flight = Rc::new(Flight {
            owner,
            key,
            visitor,
            lease,
            began: now,
            sent,
            open: Cell::new(true),
            executor: Some(self.executor.clone()),
            ..Flight::default()
        });
        self.exclusive(&flight);
        self.has_cause(&flight, asked);
        self.state.borrow_mut().flights.push(Rc::clone(&flight));
        self.count(Kind::Asked);
        self.within_budget(&flight);
        flight
    }

    /// S1: nobody else has the origin busy for the same cell, unless it was cut
    /// off from the store and could not keep its lease.
    fn exclusive(&self, flight: &Flight) {
        let Some((cell, holder)) = &flight.lease else {
            return;
        };
        let now = self.executor.now();
        let mut overlaps = Vec::new();
        let mut overruns = 0;
        {
            let state = self.state.borrow();
            for other in &state.flights {
                let Some((other_cell, other_holder)) = &other.lease else {
                    continue;
                };
                if other_cell != cell || !other.is_busy(now) {
                    continue;
                }
                let since = state
                    .leases
                    .get(other_holder)
                    .map_or(other.began, |lease| lease.renewed);
                let stalled = other.owner.node().is_some_and(|node| {
                    // A renewal that was on its way still gets there.
                    self.executor.is_stalled(node)
                });
                let hampered = stalled || self.hampered_since(other.owner, since) > LOSSES_SURVIVED;
                if hampered && other_holder != holder {
                    overruns += 1;
                } else if !self.scenario.has_jumps() {
                    overlaps.push(Rc::clone(other));
                }
            }
        }
        (0..overruns).for_each(|_| self.count(Kind::Overrun));
        if self.scenario.late().is_some() {
            overlaps
                .iter()
                .for_each(|_| self.count(Kind::DoubleElection));
        }
        for other in overlaps {
            self.violated(
                flight.owner,
                "S1",
                format!(
                    "{cell}: {:?} has the origin busy since {} µs under {:?}, and {holder} asks too",
                    other.owner, other.began, other.lease
                ),
            );
        }
    }

    /// A lease is being settled: what its holder has fetched, it has.
    pub(super) fn settles(&self, holder: Nonce) {
        for flight in &self.state.borrow().flights {
            if flight.lease.as_ref().is_some_and(|lease| lease.1 == holder) {
                flight.settled();
            }
        }
    }
}
