//! Knows what the store holds, what the origin said and when, and what every
//! visitor got, and says what of it must not be.
//!
//! - [`cells`](self): what may happen to a cell in the store (S1, S2, S5);
//! - `flights`: who may have the origin busy for a cell (S1);
//! - `ledger`: that each request at the origin has a cause in what visitors sent (H1);
//! - `lineage`: which writes count on a store without a swap (S2);
//! - `bodies`: that no chunk is missing and none is forgotten (S3);
//! - `answers`: what a visitor may get, and when (S3, S4, S5, L1, L2, L3);
//! - `budget`: how many requests the origin has at once (B1), what the breaker lets
//!   through (B2), that no slot is lost (B3), and that no waiting request is kept from a free one
//!   (B4);
//! - `purges`: what nobody may get any more (S6);
//! - `questions`: what the origin may be asked, and for whom its answer is (S3, S5);
//! - `refusals`: what an answer that is no use does to a cell (L3, O1).

mod answers;
mod bodies;
mod budget;
mod cells;
mod flights;
mod ledger;
mod lineage;
mod made;
mod purges;
mod questions;
mod refusals;

pub(crate) use answers::Got;
pub(crate) use cells::read;
pub(crate) use flights::{Blame, Flight, OpenFlight};
pub(crate) use made::{Made, Said};
pub(crate) use questions::ORIGIN;

use crate::clock::Clocks;
use crate::coverage::{Coverage, Kind};
use crate::executor::{Executor, Micros, Owner, TaskId};
use crate::requests::Asked;
use crate::scenario::{Scenario, StoreKind};
use crate::trace::Trace;
use leeward::cell::Nonce;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

/// What must not be, and was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which promise, such as `S1`.
    pub(crate) promise: &'static str,
    /// What happened.
    pub(crate) what: String,
}

/// An attempt of a task to become the revalidator.
#[derive(Clone, Debug)]
struct Claim {
    cell: String,
    holder: Nonce,
    /// Whether the task knows that it holds the lease.
    confirmed: bool,
}

/// A lease as the store has seen it.
#[derive(Debug)]
struct Lease {
    /// In the order in which leases of all cells were stored.
    order: u64,
    owner: Owner,
    at: Micros,
    /// Whether the holder learned of it.
    known: bool,
    /// Whether it replaced one that had lapsed.
    takeover: bool,
    /// When its deadline was last written.
    renewed: Micros,
    /// The key in clear of its cell.
    key: String,
    /// When its holder gave it back, or never.
    settled: Option<Micros>,
}

#[derive(Default)]
struct State {
    coverage: Coverage,
    violation: Option<Violation>,
    made: Vec<Made>,
    /// By the number of a response: when a visitor or the store first had it.
    came: HashMap<u64, Micros>,
    /// Numbers of the responses that the store has or had.
    stored: HashSet<u64>,
    leases: HashMap<Nonce, Lease>,
    claims: HashMap<TaskId, Claim>,
    /// On behalf of which visitor a task runs.
    visitors: HashMap<TaskId, u64>,
    /// Visitors that have their answer.
    answered: HashSet<u64>,
    flights: Vec<Rc<Flight>>,
    /// Those that fill a cell behind the answer to a visitor who was forwarded.
    extras: Vec<Rc<Flight>>,
    /// When store operations of the instance went wrong, or it was held up.
    hampered: HashMap<Owner, Vec<Micros>>,
    /// Those among them that cost time: the store did not say at once that it fails.
    slowed: HashMap<Owner, Vec<Micros>>,
    /// Elections that were tried: the cell's key, by which instance, and when.
    elections: Vec<(String, Owner, Micros)>,
    /// When a task first read a cell.
    seen: HashMap<TaskId, Micros>,
    ended: HashSet<Owner>,
    /// When nodes crashed, stalled or lost an instance.
    accidents: Vec<Micros>,
    /// By key: when an unsafe request of it was answered, and whether it could
    /// be told to the store.
    changed: HashMap<usize, Vec<Micros>>,
    acknowledged: HashMap<usize, Vec<Micros>>,
    /// Purges that the store has.
    purges: Vec<purges::Acknowledged>,
    budget: budget::Budget,
    /// Instances that leave a part of the store alone, as they say themselves.
    leaving_alone: HashSet<(Owner, String)>,
    /// When the store refused a value of an instance.
    too_long: HashMap<Owner, Vec<Micros>>,
    /// When the store refused the origin's record from an instance.
    record_refused: HashMap<Owner, Vec<Micros>>,
    /// The keys, as cells have them, of which the store refused a cell to an instance.
    refused_keys: HashSet<(Owner, String)>,
    /// When instances used it again.
    recovered: HashMap<Owner, Micros>,
    lineage: lineage::Lineage,
    questions: questions::Questions,
    refusals: refusals::Refusals,
}

/// The oracle of a run.
pub(crate) struct Oracle {
    executor: Executor,
    scenario: Rc<Scenario>,
    clocks: Rc<Clocks>,
    trace: Trace,
    /// Promises that are not looked at.
    ignored: Vec<String>,
    /// What the nodes are configured with.
    config: leeward::config::Config,
    origin: leeward::config::Origin,
    state: RefCell<State>,
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oracle").finish_non_exhaustive()
    }
}

impl Oracle {
    /// Knows nothing yet.
    pub(crate) fn new(
        executor: Executor,
        scenario: Rc<Scenario>,
        clocks: Rc<Clocks>,
        trace: Trace,
        ignored: Vec<String>,
    ) -> anyhow::Result<Rc<Self>> {
        Ok(Rc::new(Oracle {
            config: leeward::config::Config::parse(&scenario.settings.toml())?,
            origin: leeward::config::Origin::parse(questions::ORIGIN)?,
            executor,
            scenario,
            clocks,
            trace,
            ignored,
            state: RefCell::default(),
        }))
    }

    /// The time, by no node's clock.
    pub(crate) fn truth(&self) -> leeward::time::Time {
        self.clocks.truth()
    }

    /// Counts an event.
    pub(crate) fn count(&self, kind: Kind) {
        self.state.borrow_mut().coverage.count(kind);
    }

    /// A lease had been lost when it was settled.
    pub(crate) fn fenced(&self) {
        self.count(Kind::Fenced);
        if self.scenario.late().is_some() {
            self.count(Kind::DoubleNoticed);
        }
    }

    /// What was counted.
    pub(crate) fn coverage(&self) -> Coverage {
        self.state.borrow().coverage.clone()
    }

    /// Adds to the trace.
    pub(crate) fn trace(&self, owner: Owner, line: impl FnOnce() -> String) {
        self.trace.add(&self.executor, owner, line);
    }

    /// The trace.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.trace.take()
    }

    /// What must not be; the first of it.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.state.borrow().violation.clone()
    }

    fn violated(&self, owner: Owner, promise: &'static str, what: String) {
        if self.ignored.iter().any(|ignored| ignored == promise) {
            return;
        }
        // What rests on one election, or on all seeing the same in time. A store that
        // loses all loses leases, purges and slots.
        let forgets = self.scenario.late().is_some() || self.scenario.is_emptied();
        if forgets && matches!(promise, "S1" | "S2" | "S6" | "B1" | "B2") {
            return;
        }
        self.trace(owner, || format!("VIOLATION of {promise}: {what}"));
        self.state
            .borrow_mut()
            .violation
            .get_or_insert(Violation { promise, what });
    }

    /// The owner's dealings with the store went wrong, or were held up.
    pub(crate) fn hampered(&self, owner: Owner) {
        let now = self.executor.now();
        let state = &mut *self.state.borrow_mut();
        state.hampered.entry(owner).or_default().push(now);
        state.slowed.entry(owner).or_default().push(now);
    }

    /// The owner's dealings with the store went wrong at once.
    pub(crate) fn turned_away(&self, owner: Owner) {
        let now = self.executor.now();
        let state = &mut *self.state.borrow_mut();
        state.hampered.entry(owner).or_default().push(now);
    }

    /// Whether the store has cost the owner time since then.
    fn slowed_since(&self, owner: Owner, since: Micros) -> bool {
        let state = self.state.borrow();
        let times = state.slowed.get(&owner).map_or(&[][..], Vec::as_slice);
        times.iter().any(|at| *at >= since)
    }

    /// The store has refused a value of an instance, for its length.
    pub(crate) fn refused_value(&self, owner: Owner, value: &bytes::Bytes) {
        let now = self.executor.now();
        self.count(Kind::ValueRefused);
        let state = &mut *self.state.borrow_mut();
        state
            .refused_keys
            .extend(read(value).map(|cell| (owner, cell.key.clone())));
        state.too_long.entry(owner).or_default().push(now);
        if leeward::budget::decode(value).is_ok() {
            state.record_refused.entry(owner).or_default().push(now);
        }
    }

    /// Whether the store has refused a value of an instance since then.
    fn refused_since(&self, owner: Owner, since: Micros) -> bool {
        let state = self.state.borrow();
        let times = state.too_long.get(&owner).map_or(&[][..], Vec::as_slice);
        times.iter().any(|at| *at >= since)
    }

    /// An instance says that a part of the store fails, or works again.
    pub(crate) fn store_health(&self, owner: Owner, part: &str, works: bool) {
        let now = self.executor.now();
        // A value that is refused concerns its key.
        let is_sound = self.scenario.store == StoreKind::Exact
            && !self.scenario.has_jumps()
            && self.hampered_since(owner, 0) == 0;
        if !works && is_sound && self.refused_since(owner, 0) {
            self.violated(
                owner,
                "L3",
                format!("{part} of the store counts as failing, and it only refused a value"),
            );
        }
        let state = &mut *self.state.borrow_mut();
        if works {
            state.leaving_alone.remove(&(owner, part.to_owned()));
            state.recovered.insert(owner, now);
        } else {
            state.leaving_alone.insert((owner, part.to_owned()));
        }
    }

    /// How often the owner was hampered since then.
    fn hampered_since(&self, owner: Owner, since: Micros) -> usize {
        let state = self.state.borrow();
        let times = state.hampered.get(&owner).map_or(&[][..], Vec::as_slice);
        times.iter().filter(|at| **at >= since).count()
    }

    /// A node crashed or stalled, or an instance ended.
    pub(crate) fn accident(&self, kind: Kind, ended: &[Owner]) {
        let now = self.executor.now();
        let state = &mut *self.state.borrow_mut();
        state.coverage.count(kind);
        state.accidents.push(now);
        let busy = state
            .flights
            .iter()
            .any(|flight| ended.contains(&flight.owner) && flight.is_busy(now));
        if busy && kind == Kind::Crash {
            state.coverage.count(Kind::CrashInFlight);
        }
        state.ended.extend(ended);
    }

    /// A number that no other response has.
    pub(crate) fn next_serial(&self) -> u64 {
        self.state.borrow().made.len() as u64
    }

    /// The origin made a response; returns its number.
    pub(crate) fn made(&self, made: Made) -> u64 {
        let state = &mut *self.state.borrow_mut();
        state.made.push(made);
        state.made.len() as u64 - 1
    }

    /// The run is over; L2 for those who never got an answer.
    pub(crate) fn finished(&self, waiting: &BTreeMap<u64, (Micros, Owner)>, circles: bool) {
        if circles {
            return self.violated(Owner::World, "L2", "the run does not come to an end".into());
        }
        let now = self.executor.now();
        self.slots_are_free();
        self.tokens_are_spent();
        self.extras_are_few();
        for (visitor, (arrived, owner)) in waiting {
            if now - arrived > crate::executor::micros(self.deadline(*visitor, *owner)) {
                let what = format!("visitor {visitor} never got an answer");
                self.violated(*owner, "L2", what);
            }
        }
    }

    /// A task works for a visitor.
    pub(crate) fn works_for(&self, task: TaskId, visitor: u64) {
        self.state.borrow_mut().visitors.insert(task, visitor);
    }

    /// For whom the current task works; no visitor where it is nobody's.
    pub(crate) fn on_whose_behalf(&self) -> u64 {
        let task = self.executor.current();
        let state = self.state.borrow();
        let visitor = task.and_then(|task| state.visitors.get(&task));
        visitor.copied().unwrap_or(u64::MAX)
    }

    /// What a visitor's request was like.
    pub(crate) fn request_of(&self, visitor: u64) -> Option<Asked> {
        let visit = self.scenario.visits.get(usize::try_from(visitor).ok()?)?;
        Some(crate::world::asked(visit))
    }

    /// A visitor or the store has a response.
    fn came(&self, serial: u64) {
        let now = self.executor.now();
        self.state.borrow_mut().came.entry(serial).or_insert(now);
    }

    /// When a visitor or the store first had a response.
    fn when_it_came(&self, serial: u64) -> Option<Micros> {
        self.state.borrow().came.get(&serial).copied()
    }

    fn response(&self, serial: u64) -> Option<Made> {
        let serial = usize::try_from(serial).ok()?;
        self.state.borrow().made.get(serial).cloned()
    }
}
