//! Traces in words.

use super::action::{Action, Clock, Fate, Origin};
use super::record::{Record, Taint};
use super::settings::SKEW;
use super::state::{At, Goal, Kind, Outcome, PURGER, State, Word, Write};
use std::fmt::Write as _;

/// Tells what happened, a line for each step; `steps` are the states and what
/// was done in them.
pub fn tell(steps: &[(State, Option<Action>)]) -> String {
    let mut text = String::new();
    let mut time = 0_u32;
    for pair in steps.windows(2) {
        let [(before, Some(action)), (after, _)] = pair else {
            continue;
        };
        if *action == Action::Tick {
            time += 1;
            continue;
        }
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "  at {time:>2}  {}", line(before, *action, after));
    }
    if let Some((last, _)) = steps.last() {
        let _ = writeln!(
            text,
            "  at {time:>2}  the store has {}",
            cell(last, last.cell)
        );
    }
    text
}

fn line(before: &State, action: Action, after: &State) -> String {
    match action {
        Action::Tick => "a tick passes".to_owned(),
        Action::Purge(kind) => format!("a {} purge is requested", purge(kind)),
        Action::Step(place, clock) => {
            let mut text = format!(
                "{}: {}",
                name(place),
                step(
                    before,
                    &before.processes[place],
                    &after.processes[place],
                    after
                )
            );
            if clock == Clock::Ahead {
                let _ = write!(text, " (its clock is {SKEW} ahead)");
            }
            text
        }
        Action::Twice(place) => format!("{}: hears 1 from a guard, though not first", name(place)),
        Action::Contend(place) => format!(
            "{}: {}; the store fails to count",
            name(place),
            operation(before, &before.processes[place])
        ),
        Action::Lose(place, fate) => format!(
            "{}: {}; the reply is lost{}",
            name(place),
            operation(before, &before.processes[place]),
            match (fate, &before.processes[place]) {
                (_, At::Reading { .. } | At::Reloading(_) | At::Rereading(_)) => "",
                (Fate::Applied, _) => ", but it was applied",
                (Fate::Dropped, _) => ", and it was not applied",
                (Fate::Later, _) => ", and it is still on its way",
            }
        ),
        Action::Answer(place, origin, _, _) => format!(
            "{}: the origin {}",
            name(place),
            match origin {
                Origin::Full => "answers",
                Origin::NotModified => "says 304",
                Origin::Failure => "fails",
            }
        ),
        Action::Renew(place, clock) => format!(
            "{}: is about to renew its lease{}",
            name(place),
            match clock {
                Clock::True => String::new(),
                Clock::Ahead => format!(" (its clock is {SKEW} ahead)"),
            }
        ),
        Action::Crash(place, fate) => format!(
            "{}: crashes{}",
            name(place),
            match fate {
                Fate::Later => "; its last swap is still on its way",
                Fate::Applied | Fate::Dropped => "",
            }
        ),
        Action::Land => format!(
            "a late swap reaches the store; it has {} now",
            cell(after, after.cell)
        ),
    }
}

/// What a process does in its next step, with what came of it.
fn step(before: &State, at: &At, next: &At, after: &State) -> String {
    let operation = operation(before, at);
    match (at, next) {
        (At::Idle | At::Claiming, At::Swapping(_) | At::Guarding { .. } | At::Creating(_)) => {
            format!("{operation}; decides to claim the lease")
        }
        (At::Guarding { .. }, At::Idle) => format!("{operation}: not the first"),
        (At::Guarding { .. }, _) => format!("{operation}: hears 1"),
        (At::Holding(..), At::Fetching(..)) => format!("{operation}: goes to the origin"),
        (At::Purging(_), At::Idle) => format!("{operation}; the purge is acknowledged"),
        (At::Reading { write, .. } | At::Reloading(write), next) => {
            let ours = match (write.goal, next) {
                (_, At::Holding(..)) => "it holds the lease",
                (Goal::Purge(_), At::Idle) => "the purge is acknowledged",
                (_, At::Cleaning { .. }) => "guards are to be removed",
                (_, At::Reloading(_)) => "not there, after an error",
                (_, At::Swapping(_) | At::Purging(_)) => "another was faster; tries again",
                (_, At::Fetching(..)) => "goes on waiting for the origin",
                _ => "done, or nothing more to do",
            };
            format!("{operation}: {ours}")
        }
        (At::Swapping(_) | At::Creating(_) | At::Overwriting(_) | At::Purging(_), _) => {
            if before.cell == after.cell {
                operation
            } else {
                format!("{operation}: the store has {}", cell(after, after.cell))
            }
        }
        (_, At::Idle) => format!("{operation}; gives up"),
        _ => operation,
    }
}

fn operation(before: &State, at: &At) -> String {
    match at {
        At::Idle | At::Claiming => format!("reads the cell: {}", cell(before, before.cell)),
        At::Guarding { write, second } => format!(
            "increments the guard of bucket {}",
            write.bucket + u8::from(*second)
        ),
        At::Rereading(_) => format!("reads the cell again: {}", cell(before, before.cell)),
        At::Checking(_) => "looks at its clock before it creates the cell".to_owned(),
        At::Creating(write) => format!("asks the store to {}", goal(write)),
        At::Overwriting(write) => {
            format!(
                "the store, which had found no cell, goes on to {}",
                goal(write)
            )
        }
        At::Swapping(write) => format!("asks the store to {}", goal(write)),
        At::Reading { write, word } => format!(
            "reads back whether it did {}{}",
            goal(write),
            match word {
                Word::Error => ", having had an error",
                Word::Done | Word::Conflict => "",
            }
        ),
        At::Reloading(write) => format!("reads once more whether it did {}", goal(write)),
        At::Cleaning { bucket, second, .. } => {
            format!("removes the guard of bucket {}", bucket + u8::from(*second))
        }
        At::Holding(held, _) => {
            format!("looks at its clock; lease: {}", left(before, held.deadline))
        }
        At::Fetching(..) => "waits for the origin".to_owned(),
        At::Purging(kind) => format!("applies a {} purge", purge(*kind)),
    }
}

fn goal(write: &Write) -> String {
    let what = match write.goal {
        Goal::Elect { holder, .. } => format!("take lease {holder}"),
        Goal::Renew { held, .. } => format!("renew lease {}", held.holder),
        Goal::Settle { holder, outcome } => match outcome {
            Outcome::Publish(_) => format!("publish under lease {holder}"),
            Outcome::Fail => format!("note a failure under lease {holder}"),
            Outcome::Release => format!("release lease {holder}"),
        },
        Goal::Purge(kind) => format!("purge ({})", purge(kind)),
    };
    if write.expected.is_none() {
        format!("create the cell and {what}")
    } else {
        what
    }
}

fn cell(state: &State, cell: Option<Record>) -> String {
    let Some(cell) = cell else {
        return "no cell".to_owned();
    };
    let entry = cell.entry.map_or("no entry".to_owned(), |entry| {
        let taint = match entry.taint {
            Taint::Clean => "",
            Taint::Suspect => ", from before the purge under way",
            Taint::Doomed => ", from before an acknowledged purge",
        };
        format!("the entry of lease {}{taint}", entry.lease)
    });
    let lease = cell.lease.map_or("no lease".to_owned(), |lease| {
        format!(
            "lease {} ({}{})",
            lease.holder,
            left(state, lease.deadline),
            if lease.revoked { ", revoked" } else { "" }
        )
    });
    format!("{entry} and {lease}")
}

fn left(state: &State, deadline: u8) -> String {
    match deadline.checked_sub(state.now) {
        Some(ticks) if ticks > 0 => format!("{ticks} ticks left"),
        Some(_) | None => "over".to_owned(),
    }
}

fn name(place: usize) -> &'static str {
    match place {
        0 => "A",
        1 => "B",
        PURGER => "purger",
        _ => "C",
    }
}

fn purge(kind: Kind) -> &'static str {
    match kind {
        Kind::Soft => "soft",
        Kind::Invalidate => "invalidating",
        Kind::Hard => "hard",
    }
}
