//! The slots of the origin's budget, explored exhaustively.
//!
//! Two nodes take the slots of one record, use them, renew them, give them back, and
//! crash. A model checker visits every state that any interleaving of their steps
//! can lead to, and checks in each that the nodes that live have no more requests in
//! flight than there are slots (B1).
//!
//! The record and its changes are the shipping code's, [`leeward::budget`]. A swap arrives
//! at the store in a step of its own, and its reply in another, which may be lost: then
//! the node knows of no slot. Clocks differ by the skew. Time has no end: states are kept
//! with all times relative to now, and without holders that no clock counts any more.
//!
//! Assumed: a node renews or ends what is in flight before its slots end, or crashes. A
//! node that does neither is stalled, and what it has in flight may exceed the budget.
//!
//! What is not modelled: classes and their reserves, the breaker (both have tests of
//! their own), and the local share while the store fails.

use leeward::budget::{BreakerSettings, Class, Limits, PerClass, Record};
use leeward::cell::Nonce;
use leeward::cell::transition::Backoff;
use leeward::time::Time;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::Duration;

/// What there is to take. With more, or with three nodes, the space is larger than the
/// memory of a usual machine.
const SLOTS: u32 = 1;

/// A tick is a second.
const LEASE: u64 = 3;
const SKEW: u64 = 1;

/// Now, in every state.
const NOW: u64 = 100;

/// The property.
pub const WITHIN_BUDGET: &str = "B1";

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
    /// Distinct states.
    pub states: usize,
    /// Steps taken between them.
    pub steps: usize,
    /// Whether the budget was exceeded.
    pub violated: bool,
}

/// Explores all that can happen to so many nodes, or until the budget is exceeded.
pub fn explore(nodes: usize, without: Option<Measure>, threads: usize) -> Report {
    let checker = World { nodes, without }
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    Report {
        nodes,
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        violated: !checker.discoveries().is_empty(),
    }
}

#[derive(Clone, Copy, Debug)]
struct World {
    nodes: usize,
    without: Option<Measure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    store: Record,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Node {
    step: Step,
    grant: Option<Grant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Grant {
    id: Nonce,
    held: u32,
    used: u32,
    deadline: Time,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Idle,
    Read(Box<Record>),
    Sent(Box<Swap>),
    /// The swap was done, and the node does not know it yet.
    Done(Change),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Swap {
    expected: Record,
    new: Record,
    change: Change,
}

/// What a node knows once its swap is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Change {
    Take { id: Nonce, deadline: Time },
    Renew { deadline: Time },
    GiveBack { slots: u32, deadline: Time },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Read(usize),
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

fn limits(skew: u64) -> Limits {
    Limits {
        slots: SLOTS,
        streams: 0,
        lease: Duration::from_secs(LEASE),
        clock_skew: Duration::from_secs(skew),
        rate: None,
    }
}

fn breaker() -> BreakerSettings {
    BreakerSettings {
        failures: 5,
        pause: Backoff::default(),
        retry_after_max: Duration::ZERO,
    }
}

/// A moment so many ticks after the beginning of time.
fn tick(ticks: u64) -> Time {
    Time::from_unix_millis(ticks * 1_000)
}

/// What the clock of a node shows: every other one is ahead by the skew.
fn clock(node: usize) -> Time {
    tick(NOW + (node as u64 % 2) * SKEW)
}

fn fills(fill: u32) -> PerClass<u32> {
    PerClass {
        fill,
        ..PerClass::default()
    }
}

impl World {
    fn at(&self, record: &Record, node: usize) -> Record {
        let skew = match self.without {
            Some(Measure::CountLate) => 0,
            _ => SKEW,
        };
        record.clone().at(clock(node), &limits(skew), &breaker())
    }

    /// A name that neither the record nor a swap under way uses.
    fn fresh(state: &State, node: usize) -> Nonce {
        let used = |id: Nonce| {
            let named = |record: &Record| record.holders.iter().any(|holder| holder.id == id);
            named(&state.store)
                || state.nodes.iter().any(|node| match &node.step {
                    Step::Idle => false,
                    Step::Read(record) => named(record),
                    Step::Sent(swap) => named(&swap.new) || named(&swap.expected),
                    Step::Done(change) => {
                        matches!(change, Change::Take { id: own, .. } if *own == id)
                    }
                })
                || state
                    .nodes
                    .iter()
                    .any(|node| node.grant.is_some_and(|grant| grant.id == id))
        };
        (0..)
            .map(|number| Nonce::new(node as u128 * 100 + number))
            .find(|id| !used(*id))
            .unwrap_or(Nonce::new(u128::MAX))
    }

    fn may_begin(&self, grant: &Grant, node: usize) -> bool {
        let ends = match self.without {
            Some(Measure::EndEarly) => grant.deadline.plus(Duration::from_secs(2 * SKEW)),
            _ => grant.deadline.minus(Duration::from_secs(SKEW)),
        };
        grant.used < grant.held && clock(node) < ends
    }
}

/// Moves a time by one tick into the past, but not below what makes a difference.
fn age(time: &mut Time) {
    *time = time
        .minus(Duration::from_secs(1))
        .max(tick(NOW - LEASE - 2 * SKEW));
}

fn age_record(record: &mut Record) {
    for holder in &mut record.holders {
        age(&mut holder.deadline);
    }
    // No clock counts it any more.
    record
        .holders
        .retain(|holder| holder.deadline.plus(Duration::from_secs(SKEW)) > tick(NOW));
    record.holders.sort_by_key(|holder| holder.id);
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            store: Record::default(),
            nodes: vec![Node::default(); self.nodes],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, node) in state.nodes.iter().enumerate() {
            match &node.step {
                Step::Idle => actions.push(Action::Read(number)),
                Step::Read(_) => {
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
            node.grant.is_none_or(|grant| {
                grant.used == 0 || clock(number).plus(Duration::from_secs(1)) < grant.deadline
            })
        });
        if in_time || self.without == Some(Measure::EndEarly) {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let deadline = |node: usize| clock(node).plus(Duration::from_secs(LEASE));
        match action {
            Action::Read(number) => {
                next.nodes.get_mut(number)?.step = Step::Read(Box::new(state.store.clone()));
            }
            Action::Take(number) => {
                let node = state.nodes.get(number)?;
                let Step::Read(expected) = &node.step else {
                    return None;
                };
                let mut new = self.at(expected, number);
                let usable = node.grant.filter(|grant| {
                    clock(number) < grant.deadline.minus(Duration::from_secs(SKEW))
                });
                let id = usable.map_or_else(|| Self::fresh(state, number), |grant| grant.id);
                // Requests of a grant that is over are still in flight.
                if usable.is_none() && node.grant.is_some_and(|grant| grant.used > 0) {
                    return None;
                }
                let taken = new.take(id, (Class::Fill, 0), 1, clock(number), &limits(SKEW));
                next.nodes.get_mut(number)?.step = match taken {
                    0 => Step::Idle,
                    _ => Step::Sent(Box::new(Swap {
                        expected: (**expected).clone(),
                        new,
                        change: Change::Take {
                            id,
                            deadline: deadline(number),
                        },
                    })),
                };
            }
            Action::Renew(number) | Action::GiveBack(number) => {
                let node = next.nodes.get_mut(number)?;
                let Step::Read(expected) = node.step.clone() else {
                    return None;
                };
                let grant = node.grant.as_mut()?;
                let gives = matches!(action, Action::GiveBack(_));
                let slots = match gives {
                    true => grant.used,
                    false => grant.held,
                };
                if gives && self.without != Some(Measure::GiveUpFirst) {
                    grant.held = slots;
                }
                let mut new = self.at(&expected, number);
                new.set(grant.id, 0, fills(slots), deadline(number));
                let deadline = deadline(number);
                node.step = Step::Sent(Box::new(Swap {
                    expected: *expected,
                    new,
                    change: match gives {
                        true => Change::GiveBack { slots, deadline },
                        false => Change::Renew { deadline },
                    },
                }));
            }
            Action::Arrive(number) => {
                let Step::Sent(swap) = &state.nodes.get(number)?.step else {
                    return None;
                };
                let done = state.store == swap.expected || self.without == Some(Measure::Compare);
                next.nodes.get_mut(number)?.step = match done {
                    true => {
                        next.store = swap.new.clone();
                        Step::Done(swap.change)
                    }
                    // It looks again.
                    false => Step::Idle,
                };
            }
            Action::Learn(number) => {
                let node = next.nodes.get_mut(number)?;
                let Step::Done(change) = node.step.clone() else {
                    return None;
                };
                node.step = Step::Idle;
                match change {
                    Change::Take { id, deadline } => match &mut node.grant {
                        Some(grant) if grant.id == id => {
                            grant.held += 1;
                            grant.deadline = deadline;
                        }
                        grant => {
                            *grant = Some(Grant {
                                id,
                                held: 1,
                                used: 0,
                                deadline,
                            });
                        }
                    },
                    Change::Renew { deadline } => {
                        if let Some(grant) = &mut node.grant {
                            grant.deadline = deadline;
                        }
                    }
                    Change::GiveBack { slots, deadline } => {
                        if let Some(grant) = &mut node.grant {
                            grant.held = slots.max(grant.used);
                            grant.deadline = deadline;
                        }
                        if node.grant.is_some_and(|grant| grant.held == 0) {
                            node.grant = None;
                        }
                    }
                }
            }
            // The request, or the reply: the node knows nothing, and looks again.
            Action::Lose(number) => next.nodes.get_mut(number)?.step = Step::Idle,
            Action::Begin(number) => next.nodes.get_mut(number)?.grant.as_mut()?.used += 1,
            Action::End(number) => next.nodes.get_mut(number)?.grant.as_mut()?.used -= 1,
            Action::Crash(number) => *next.nodes.get_mut(number)? = Node::default(),
            Action::Tick => {
                age_record(&mut next.store);
                for node in &mut next.nodes {
                    if let Some(grant) = &mut node.grant {
                        age(&mut grant.deadline);
                    }
                    match &mut node.step {
                        Step::Idle => {}
                        Step::Read(record) => age_record(record),
                        Step::Sent(swap) => {
                            age_record(&mut swap.expected);
                            age_record(&mut swap.new);
                            age_change(&mut swap.change);
                        }
                        Step::Done(change) => age_change(change),
                    }
                }
            }
        }
        next.normalise();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(WITHIN_BUDGET, |_, state: &State| {
            let used = |node: &Node| node.grant.map_or(0, |grant| grant.used);
            state.nodes.iter().map(used).sum::<u32>() <= SLOTS
        })]
    }
}

fn age_change(change: &mut Change) {
    match change {
        Change::Take { deadline, .. }
        | Change::Renew { deadline }
        | Change::GiveBack { deadline, .. } => age(deadline),
    }
}

impl State {
    /// Leaves out what makes no difference: the order of holders, the numbers of writes,
    /// and grants that can neither be used nor renewed.
    fn normalise(&mut self) {
        let plain = |record: &mut Record| {
            record.version = 0;
            record.nonce = None;
            record.breaker.window = Default::default();
            record.holders.sort_by_key(|holder| holder.id);
        };
        plain(&mut self.store);
        for node in &mut self.nodes {
            match &mut node.step {
                Step::Idle | Step::Done(_) => {}
                Step::Read(record) => plain(record),
                Step::Sent(swap) => {
                    plain(&mut swap.expected);
                    plain(&mut swap.new);
                }
            }
            let over = tick(NOW - LEASE - SKEW);
            if node
                .grant
                .is_some_and(|grant| grant.used == 0 && grant.deadline <= over)
            {
                node.grant = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_never_exceed_the_budget() {
        let report = explore(2, None, 2);
        assert!(!report.violated, "{report:?}");
        assert!(report.states > 1_000, "{report:?}");
    }

    #[test]
    fn without_any_of_its_measures_the_budget_is_exceeded() {
        for measure in [
            Measure::Compare,
            Measure::EndEarly,
            Measure::CountLate,
            Measure::GiveUpFirst,
        ] {
            assert!(explore(2, Some(measure), 2).violated, "{measure:?}");
        }
    }
}
