//! The slots of the origin's budget, explored exhaustively.
//!
//! Two or three nodes take the slots of one record, use them, renew them, give them back,
//! and crash. A model checker visits every state that any interleaving of their steps
//! can lead to, and checks in each that the nodes that live have no more requests in
//! flight than there are slots (B1).
//!
//! Changes of the record are the shipping code's, [`leeward::budget`]. A swap arrives
//! at the store in a step of its own, and its reply in another, which may be lost: then
//! the node knows of no slot. Clocks differ by the skew. Time has no end: states are kept
//! with all times relative to now, and without holders that no clock counts any more.
//!
//! What is kept small, so that the space of three nodes fits into memory, and why nothing
//! is lost by it:
//!
//! - Every write has a nonce of its own, so a swap that was made from a record that was
//!   replaced since can only fail. Its node counts as one that has learned so. A node that
//!   has read counts as one that has not: reading later shows the same record, or a newer
//!   one.
//! - A holder is named after its node, and all those of nodes that have died or do not know
//!   of it are alike. Those of them with the same deadline count as one.
//! - Two nodes whose clocks agree may change places.
//!
//! Assumed: a node renews or ends what is in flight before its slots end, or crashes. A
//! node that does neither is stalled, and what it has in flight may exceed the budget. A
//! swap arrives while its node waits for it, or never.
//!
//! What is not modelled: classes and their reserves, the breaker (both have tests of
//! their own), and the local share while the store fails.

use leeward::budget::{BreakerSettings, Class, Holder, Limits, PerClass, Record, Sightings};
use leeward::cell::Nonce;
use leeward::cell::transition::Backoff;
use leeward::time::Time;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::Duration;

/// Most nodes.
const NODES: usize = 3;

/// A tick is a second.
const LEASE: i8 = 3;
const SKEW: i8 = 1;

/// Now, in every state.
const NOW: u64 = 100;

/// Most holders in a record. More are a violation of [`ROOM`]: the model would be wrong.
const HOLDERS: usize = 6;

/// The owner of a holder of which no living node knows.
const ORPHAN: u8 = u8::MAX;

/// The property.
pub const WITHIN_BUDGET: &str = "B1";

/// That the model has room for what happens in it.
const ROOM: &str = "room";

/// A measure that can be taken away, to show that the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A swap replaces only what its writer has read.
    Compare,
    /// No request begins with a slot that may have ended by another's clock.
    EndEarly,
    /// A slot counts until it has ended by every clock.
    CountLate,
    /// What is given back is not used while the swap is on its way.
    GiveUpFirst,
}

/// What came of an exploration that ran to its end.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How many nodes.
    pub nodes: usize,
    /// How many slots.
    pub slots: u32,
    /// Distinct states.
    pub states: usize,
    /// Steps taken between them.
    pub steps: usize,
    /// Whether the budget was exceeded.
    pub violated: bool,
}

/// Explores all that can happen to this many nodes (three at most) with this many slots, or
/// until the budget is exceeded.
pub fn explore(nodes: usize, slots: u32, without: Option<Measure>, threads: usize) -> Report {
    let nodes = nodes.min(NODES);
    let checker = World {
        nodes,
        slots,
        without,
    }
    .checker()
    .threads(threads)
    .finish_when(HasDiscoveries::Any)
    .spawn_bfs()
    .join();
    Report {
        nodes,
        slots,
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        violated: !checker.discoveries().is_empty(),
    }
}

#[derive(Clone, Copy, Debug)]
struct World {
    nodes: usize,
    slots: u32,
    without: Option<Measure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct State {
    store: Ledger,
    nodes: [Node; NODES],
}

/// The record. A holder that is not there is the default one, and comes last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Ledger {
    held: [Held; HOLDERS],
    overflows: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Held {
    slots: u8,
    /// [`own`] or [`pending`] of a node, or [`ORPHAN`].
    owner: u8,
    /// Ticks from now on.
    deadline: i8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Node {
    step: Step,
    grant: Option<Grant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Grant {
    held: u8,
    used: u8,
    deadline: i8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    #[default]
    Idle,
    Sent(Swap),
    /// The swap was done, and the node does not know it yet.
    Done(Change),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Swap {
    new: Ledger,
    change: Change,
    /// The record has been replaced since it was read.
    stale: bool,
}

/// What a node knows once its swap is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Change {
    /// Of the grant that it has, or a new one.
    Take {
        more: bool,
        deadline: i8,
    },
    Renew {
        deadline: i8,
    },
    GiveBack {
        slots: u8,
        deadline: i8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Take(usize),
    Renew(usize),
    GiveBack(usize),
    Arrive(usize),
    Learn(usize),
    Lose(usize),
    Begin(usize),
    End(usize),
    Crash(usize),
    Tick,
}

/// The holder of a node's grant.
fn own(node: usize) -> u8 {
    u8::try_from(node).unwrap_or(0) * 2
}

/// The holder of the grant that a node is about to get.
fn pending(node: usize) -> u8 {
    own(node) + 1
}

fn seconds(ticks: i8) -> Duration {
    Duration::from_secs(u64::from(ticks.unsigned_abs()))
}

/// A moment this many ticks from now.
fn tick(ticks: i8) -> Time {
    Time::from_unix_millis(NOW.saturating_add_signed(i64::from(ticks)) * 1_000)
}

fn ticks(time: Time) -> i8 {
    let seconds = i64::try_from(time.as_unix_millis() / 1_000).unwrap_or(i64::MAX);
    i8::try_from(seconds.saturating_sub_unsigned(NOW)).unwrap_or(i8::MAX)
}

/// What the clock of a node is ahead: every other one by the skew.
fn ahead(node: usize) -> i8 {
    match node % 2 {
        0 => 0,
        _ => SKEW,
    }
}

fn fills(fill: u8) -> PerClass<u32> {
    PerClass {
        fill: fill.into(),
        ..PerClass::default()
    }
}

fn breaker() -> BreakerSettings {
    BreakerSettings {
        failures: 5,
        pause: Backoff::default(),
        retry_after_max: Duration::ZERO,
    }
}

fn id(owner: u8) -> Nonce {
    Nonce::new(u128::from(owner))
}

impl Ledger {
    fn record(&self) -> Record {
        let there = self.held.iter().filter(|held| held.slots > 0);
        let holders = there.enumerate().map(|(number, held)| Holder {
            id: match held.owner {
                ORPHAN => Nonce::new(1_000 + number as u128),
                owner => id(owner),
            },
            epoch: 0,
            slots: fills(held.slots),
            deadline: tick(held.deadline),
        });
        Record {
            holders: holders.collect(),
            ..Record::default()
        }
    }

    fn of(record: &Record) -> Self {
        let mut ledger = Ledger {
            overflows: record.holders.len() > HOLDERS,
            ..Ledger::default()
        };
        for (held, holder) in ledger.held.iter_mut().zip(&record.holders) {
            *held = Held {
                slots: u8::try_from(holder.slots.fill).unwrap_or(u8::MAX),
                owner: u8::try_from(holder.id.value()).unwrap_or(ORPHAN),
                deadline: ticks(holder.deadline),
            };
        }
        ledger
    }

    fn rename(&mut self, name: impl Fn(u8) -> u8) {
        for held in &mut self.held {
            if held.slots > 0 {
                held.owner = name(held.owner);
            }
        }
    }

    fn age(&mut self) {
        for held in &mut self.held {
            held.deadline -= 1;
            // No clock counts it any more.
            if held.deadline + SKEW <= 0 {
                *held = Held::default();
            }
        }
    }

    /// Sorts, and adds up what is alike.
    fn normalise(&mut self) {
        self.held
            .sort_unstable_by(|one, other| other.owner.cmp(&one.owner).then(other.cmp(one)));
        for place in 1..HOLDERS {
            let (Some(one), Some(other)) = (
                self.held.get(place - 1).copied(),
                self.held.get(place).copied(),
            ) else {
                continue;
            };
            let alike = one.owner == ORPHAN && other.owner == ORPHAN;
            if alike && one.deadline == other.deadline && other.slots > 0 {
                if let Some(held) = self.held.get_mut(place) {
                    held.slots += one.slots;
                }
                if let Some(held) = self.held.get_mut(place - 1) {
                    *held = Held::default();
                }
            }
        }
        self.held
            .sort_unstable_by(|one, other| other.owner.cmp(&one.owner).then(other.cmp(one)));
    }
}

impl Change {
    fn age(&mut self) {
        match self {
            Change::Take { deadline, .. }
            | Change::Renew { deadline }
            | Change::GiveBack { deadline, .. } => *deadline = older(*deadline),
        }
    }
}

/// A tick later, but not below what makes a difference.
fn older(deadline: i8) -> i8 {
    (deadline - 1).max(-LEASE - 2 * SKEW)
}

impl World {
    fn limits(&self, skew: i8) -> Limits {
        Limits {
            slots: self.slots,
            streams: 0,
            lease: seconds(LEASE),
            clock_skew: seconds(skew),
            rate: None,
        }
    }

    /// The record as it counts for a node.
    fn at(&self, ledger: &Ledger, node: usize) -> Record {
        let skew = match self.without {
            Some(Measure::CountLate) => 0,
            _ => SKEW,
        };
        ledger.record().at(
            tick(ahead(node)),
            &self.limits(skew),
            &breaker(),
            &Sightings::new(false),
        )
    }

    fn may_begin(&self, grant: &Grant, node: usize) -> bool {
        let ends = match self.without {
            Some(Measure::EndEarly) => grant.deadline + 2 * SKEW,
            _ => grant.deadline - SKEW,
        };
        grant.used < grant.held && ahead(node) < ends
    }

    /// What a node sends that has just read the record; none if there is nothing to send.
    fn swap(&self, state: &mut State, number: usize, action: Action) -> Option<Swap> {
        let deadline = ahead(number) + LEASE;
        let mut new = self.at(&state.store, number);
        let node = state.nodes.get_mut(number)?;
        let change = match action {
            Action::Take(_) => {
                let more = node
                    .grant
                    .is_some_and(|grant| ahead(number) < grant.deadline - SKEW);
                // Requests of a grant that is over are still in flight.
                if !more && node.grant.is_some_and(|grant| grant.used > 0) {
                    return None;
                }
                let holder = match more {
                    true => own(number),
                    false => pending(number),
                };
                let now = tick(ahead(number));
                let kind = (Class::Fill, 0);
                if new.take(id(holder), kind, 1, now, &self.limits(SKEW)) == 0 {
                    return None;
                }
                Change::Take { more, deadline }
            }
            Action::GiveBack(_) => {
                let grant = node.grant.as_mut()?;
                let slots = grant.used;
                if self.without != Some(Measure::GiveUpFirst) {
                    grant.held = slots;
                }
                new.set(id(own(number)), 0, fills(slots), tick(deadline));
                Change::GiveBack { slots, deadline }
            }
            _ => {
                let grant = node.grant.as_ref()?;
                new.set(id(own(number)), 0, fills(grant.held), tick(deadline));
                Change::Renew { deadline }
            }
        };
        Some(Swap {
            new: Ledger::of(&new),
            change,
            stale: false,
        })
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            store: Ledger::default(),
            nodes: [Node::default(); NODES],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, node) in state.nodes.iter().enumerate().take(self.nodes) {
            match &node.step {
                Step::Idle => {
                    actions.push(Action::Take(number));
                    if node.grant.is_some_and(|grant| grant.used > 0) {
                        actions.push(Action::Renew(number));
                    }
                    if node.grant.is_some_and(|grant| grant.used < grant.held) {
                        actions.push(Action::GiveBack(number));
                    }
                }
                Step::Sent(_) => actions.extend([Action::Arrive(number), Action::Lose(number)]),
                Step::Done(_) => actions.extend([Action::Learn(number), Action::Lose(number)]),
            }
            if let Some(grant) = &node.grant {
                if self.may_begin(grant, number) {
                    actions.push(Action::Begin(number));
                }
                if grant.used > 0 {
                    actions.push(Action::End(number));
                }
            }
            if *node != Node::default() {
                actions.push(Action::Crash(number));
            }
        }
        // What is in flight is renewed, ended or lost before its slot ends.
        let in_time = state.nodes.iter().enumerate().all(|(number, node)| {
            node.grant
                .is_none_or(|grant| grant.used == 0 || ahead(number) + 1 < grant.deadline)
        });
        if in_time || self.without == Some(Measure::EndEarly) {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Take(number) | Action::Renew(number) | Action::GiveBack(number) => {
                let swap = self.swap(&mut next, number, action)?;
                next.nodes.get_mut(number)?.step = Step::Sent(swap);
            }
            Action::Arrive(number) => {
                let Step::Sent(swap) = state.nodes.get(number)?.step else {
                    return None;
                };
                let done = !swap.stale || self.without == Some(Measure::Compare);
                if done {
                    next.store = swap.new;
                    for node in &mut next.nodes {
                        if let Step::Sent(other) = &mut node.step {
                            other.stale = true;
                        }
                    }
                }
                next.nodes.get_mut(number)?.step = match done {
                    true => Step::Done(swap.change),
                    // It looks again.
                    false => Step::Idle,
                };
            }
            Action::Learn(number) => next.learns(number)?,
            // The request, or the reply: the node knows nothing, and looks again.
            Action::Lose(number) => {
                next.nodes.get_mut(number)?.step = Step::Idle;
                next.forgets(pending(number));
            }
            Action::Begin(number) => next.nodes.get_mut(number)?.grant.as_mut()?.used += 1,
            Action::End(number) => next.nodes.get_mut(number)?.grant.as_mut()?.used -= 1,
            Action::Crash(number) => {
                *next.nodes.get_mut(number)? = Node::default();
                next.forgets(own(number));
                next.forgets(pending(number));
            }
            Action::Tick => next.age(),
        }
        next.normalise(self);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(WITHIN_BUDGET, |world: &World, state: &State| {
                let used = |node: &Node| node.grant.map_or(0, |grant| u32::from(grant.used));
                state.nodes.iter().map(used).sum::<u32>() <= world.slots
            }),
            Property::always(ROOM, |world: &World, state: &State| {
                let fits = |node: &Node| match &node.step {
                    Step::Sent(swap) => !swap.new.overflows,
                    Step::Idle | Step::Done(_) => true,
                };
                world.without.is_some() || state.nodes.iter().all(fits)
            }),
        ]
    }
}

impl State {
    /// A node learns that its swap was done.
    fn learns(&mut self, number: usize) -> Option<()> {
        let node = self.nodes.get_mut(number)?;
        let Step::Done(change) = node.step else {
            return None;
        };
        node.step = Step::Idle;
        match (change, &mut node.grant) {
            (
                Change::Take {
                    more: true,
                    deadline,
                },
                Some(grant),
            ) => {
                grant.held += 1;
                grant.deadline = deadline;
            }
            (Change::Take { deadline, .. }, grant) => {
                *grant = Some(Grant {
                    held: 1,
                    used: 0,
                    deadline,
                });
                self.forgets(own(number));
                self.rename(|owner| match owner == pending(number) {
                    true => own(number),
                    false => owner,
                });
            }
            (Change::Renew { deadline }, Some(grant)) => grant.deadline = deadline,
            (Change::GiveBack { slots, deadline }, Some(grant)) => {
                grant.held = slots.max(grant.used);
                grant.deadline = deadline;
                if grant.held == 0 {
                    node.grant = None;
                    self.forgets(own(number));
                }
            }
            (Change::Renew { .. } | Change::GiveBack { .. }, None) => {}
        }
        Some(())
    }

    fn rename(&mut self, name: impl Fn(u8) -> u8) {
        self.store.rename(&name);
        for node in &mut self.nodes {
            if let Step::Sent(swap) = &mut node.step {
                swap.new.rename(&name);
            }
        }
    }

    /// Nobody knows of a holder any more.
    fn forgets(&mut self, holder: u8) {
        self.rename(|owner| match owner == holder {
            true => ORPHAN,
            false => owner,
        });
    }

    fn age(&mut self) {
        self.store.age();
        for node in &mut self.nodes {
            if let Some(grant) = &mut node.grant {
                grant.deadline = older(grant.deadline);
            }
            match &mut node.step {
                Step::Idle => {}
                Step::Sent(swap) => {
                    swap.new.age();
                    swap.change.age();
                }
                Step::Done(change) => change.age(),
            }
        }
    }

    fn normalise(&mut self, world: &World) {
        for number in 0..NODES {
            let Some(node) = self.nodes.get_mut(number) else {
                continue;
            };
            if let Step::Sent(swap) = &node.step
                && swap.stale
                && world.without != Some(Measure::Compare)
            {
                node.step = Step::Idle;
            }
            let is_wanted = match &node.step {
                Step::Idle => false,
                Step::Sent(Swap { change, .. }) | Step::Done(change) => {
                    !matches!(change, Change::Take { more: false, .. })
                }
            };
            // No clock counts it, and nothing can begin with it.
            let is_over =
                |grant: Grant| grant.used == 0 && grant.deadline + 2 * SKEW <= ahead(number);
            if !is_wanted && node.grant.is_some_and(is_over) {
                node.grant = None;
                self.forgets(own(number));
            }
        }
        self.sort();
        if world.nodes == NODES {
            let mut other = *self;
            other.nodes.swap(0, 2);
            other.rename(|owner| match owner {
                0 | 1 => owner + own(2),
                4 | 5 => owner - own(2),
                owner => owner,
            });
            other.sort();
            *self = (*self).min(other);
        }
    }

    fn sort(&mut self) {
        self.store.normalise();
        for node in &mut self.nodes {
            if let Step::Sent(swap) = &mut node.step {
                swap.new.normalise();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(nodes: usize, slots: u32) {
        let report = explore(nodes, slots, None, 2);
        println!("{report:?}");
        assert!(!report.violated, "{report:?}");
        assert!(report.states > 1_000, "{report:?}");
    }

    #[test]
    fn two_nodes_never_exceed_the_budget() {
        holds(2, 1);
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "too slow unless optimised")]
    fn two_nodes_never_exceed_two_slots() {
        holds(2, 2);
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "too slow unless optimised")]
    fn three_nodes_never_exceed_the_budget() {
        holds(3, 1);
    }

    #[test]
    fn without_any_of_its_measures_the_budget_is_exceeded() {
        for measure in [
            Measure::Compare,
            Measure::EndEarly,
            Measure::CountLate,
            Measure::GiveUpFirst,
        ] {
            for nodes in [2, 3] {
                let report = explore(nodes, 1, Some(measure), 2);
                assert!(
                    report.violated,
                    "{measure:?} with {nodes} nodes: {report:?}"
                );
            }
        }
    }
}
