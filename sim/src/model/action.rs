//! What can happen in a state.

use super::record::Record;
use super::settings::{Behaviour, Settings};
use super::state::{At, Goal, Kind, Outcome, PURGER, State, Write};

/// How a clock reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// True time.
    True,
    /// As far ahead as the skew allows.
    Ahead,
}

/// What becomes of an operation whose caller does not learn of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is applied.
    Applied,
    /// It never reaches the store.
    Dropped,
    /// It may reach the store later.
    Later,
}

/// What the origin says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A whole response.
    Full,
    /// 304: the entry is still good.
    NotModified,
    /// Nothing of use.
    Failure,
}

/// A step of the world. Processes are given by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A purge is requested.
    Purge(Kind),
    /// A process takes its next step; if that looks at the clock, this is what
    /// it sees.
    Step(usize, Clock),
    /// A guard counter tells a second caller 1.
    Twice(usize),
    /// A guard counter fails to count, as if others counted at the same time.
    Contend(usize),
    /// The reply of the operation that a process is at gets lost.
    Lose(usize, Fate),
    /// The origin answers. A renewal that is on its way to the store is cut
    /// short.
    Answer(usize, Origin, Clock, Fate),
    /// The lease is renewed, as the origin takes its time.
    Renew(usize, Clock),
    /// A node dies and comes back with no memory.
    Crash(usize, Fate),
    /// A swap whose writer is gone reaches the store.
    Land,
}

const CLOCKS: [Clock; 2] = [Clock::True, Clock::Ahead];

/// Everything that may happen in a state; some of it may turn out to change
/// nothing.
pub fn actions(settings: &Settings, state: &State, actions: &mut Vec<Action>) {
    actions.push(Action::Tick);
    if state.late.is_some() {
        actions.push(Action::Land);
    }
    if state.processes[PURGER] == At::Idle {
        let kinds = settings.purges.kinds().iter();
        actions.extend(kinds.map(|kind| Action::Purge((*kind).into())));
    }
    for place in (0..settings.nodes).chain([PURGER]) {
        of_process(settings, state, place, actions);
    }
}

fn of_process(settings: &Settings, state: &State, place: usize, actions: &mut Vec<Action>) {
    let at = &state.processes[place];
    if let At::Fetching(_, fetch) = at {
        answers(
            settings,
            place,
            fetch.base.is_some(),
            &[Fate::Dropped],
            actions,
        );
        actions.extend(CLOCKS.map(|clock| Action::Renew(place, clock)));
    } else if *at != At::Idle || place != PURGER {
        for clock in CLOCKS {
            if clock == Clock::True || looks_at_clock(at, state) {
                actions.push(Action::Step(place, clock));
            }
        }
    }
    let may_come_late = settings.late && state.late.is_none();
    let fates: &[Fate] = match at {
        At::Swapping(write) | At::Creating(write) | At::Overwriting(write)
            if may_come_late && write.can_come_late() =>
        {
            &[Fate::Dropped, Fate::Later]
        }
        At::Purging(_) if may_come_late && state.cell.is_some() => &[Fate::Dropped, Fate::Later],
        _ => &[Fate::Dropped],
    };
    if let At::Swapping(write) | At::Reading { write, .. } | At::Reloading(write) = at
        && let Goal::Renew { fetch, .. } = &write.goal
    {
        answers(settings, place, fetch.base.is_some(), fates, actions);
    }
    if settings.crashes && !matches!(at, At::Idle | At::Claiming) {
        actions.extend(fates.iter().map(|fate| Action::Crash(place, *fate)));
    }
    if matches!(at, At::Guarding { .. }) {
        match settings.behaviour {
            Behaviour::DoubledGuard => actions.push(Action::Twice(place)),
            Behaviour::ContendedGuard => actions.push(Action::Contend(place)),
            Behaviour::Exact
            | Behaviour::Upsert
            | Behaviour::FalseConflict
            | Behaviour::LostReply
            | Behaviour::UpsertLostReply => {}
        }
    }
    if settings.behaviour.loses() {
        losses(at, place, fates, actions);
    }
}

fn answers(
    settings: &Settings,
    place: usize,
    has_base: bool,
    fates: &[Fate],
    actions: &mut Vec<Action>,
) {
    for fate in fates {
        actions.push(Action::Answer(place, Origin::Full, Clock::True, *fate));
        if has_base {
            actions.push(Action::Answer(
                place,
                Origin::NotModified,
                Clock::True,
                *fate,
            ));
        }
        if settings.failures {
            actions
                .extend(CLOCKS.map(|clock| Action::Answer(place, Origin::Failure, clock, *fate)));
        }
    }
}

fn losses(at: &At, place: usize, fates: &[Fate], actions: &mut Vec<Action>) {
    match at {
        At::Guarding { .. } => actions.extend([
            Action::Lose(place, Fate::Applied),
            Action::Lose(place, Fate::Dropped),
        ]),
        At::Creating(_) | At::Overwriting(_) | At::Swapping(_) | At::Purging(_) => {
            actions.push(Action::Lose(place, Fate::Applied));
            actions.extend(fates.iter().map(|fate| Action::Lose(place, *fate)));
        }
        At::Rereading(_) | At::Reading { .. } | At::Reloading(_) | At::Cleaning { .. } => {
            actions.push(Action::Lose(place, Fate::Dropped))
        }
        At::Idle | At::Claiming | At::Checking(_) | At::Holding(..) | At::Fetching(..) => {}
    }
}

fn looks_at_clock(at: &At, state: &State) -> bool {
    match at {
        At::Idle => state.cell.is_some(),
        At::Claiming | At::Checking(_) | At::Holding(..) => true,
        At::Reading { write, .. } | At::Reloading(write) => {
            matches!(
                write.goal,
                Goal::Settle {
                    outcome: Outcome::Fail,
                    ..
                }
            )
        }
        At::Guarding { .. }
        | At::Rereading(_)
        | At::Creating(_)
        | At::Overwriting(_)
        | At::Swapping(_)
        | At::Cleaning { .. }
        | At::Fetching(..)
        | At::Purging(_) => false,
    }
}

impl Write {
    fn can_come_late(&self) -> bool {
        self.expected != Some(Record::GONE)
    }
}
