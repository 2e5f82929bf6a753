//! Whether all is well soon, if nothing fails any more.
//!
//! From a given state on no node crashes, no reply is lost, the origin answers
//! at once, and every node tries to refresh the cell whenever it may: how long
//! until an entry is published? As these continuations are finite, "eventually"
//! can be checked exactly, from every state.

use super::action::{Action, Clock, Origin};
use super::settings::{BUCKET, LEASE, RETRY, SKEW, Settings};
use super::state::{At, PURGER, State};
use super::step::Stepper;

/// Most ticks until an entry is published where there is a cell: the lease of
/// a node that died has to be over for the slowest clock, though the fastest
/// made it; likewise a retry mark.
pub const REFRESH_MAX: u8 = if LEASE + SKEW > RETRY {
    LEASE + 2 * SKEW
} else {
    RETRY + SKEW
};

/// Most ticks until an entry is published where there is no cell: a creator
/// that died may hold the guards of two buckets, the later of which may not have
/// begun for the slowest clock.
pub const FILL_MAX: u8 = 2 * BUCKET + SKEW;

/// Longer than any wait that could be right.
const HOPELESS: u8 = 4 * (FILL_MAX + REFRESH_MAX);

/// More steps than any process takes in one go.
const STEPS_MAX: usize = 64;

/// The bound for a state.
pub fn bound(state: &State) -> u8 {
    if state.cell.is_some() || state.late.is_some() {
        REFRESH_MAX
    } else {
        FILL_MAX
    }
}

/// The longest wait in ticks, over all ways in which clocks may go on; none if
/// nothing is ever published.
pub fn wait(settings: &Settings, state: &State) -> Option<u8> {
    let slow = wait_with(settings, state, Clock::True)?;
    let fast = wait_with(settings, state, Clock::Ahead)?;
    Some(slow.max(fast))
}

fn wait_with(settings: &Settings, state: &State, clock: Clock) -> Option<u8> {
    let mut stepper = Stepper::new(settings, *state);
    while stepper.state.late.is_some() {
        stepper.take(Action::Land);
    }
    for ticks in 0..HOPELESS {
        for place in (0..settings.nodes).chain([PURGER]) {
            for _ in 0..STEPS_MAX {
                let action = match stepper.state.processes[place] {
                    At::Idle if place == PURGER => break,
                    At::Fetching(..) => {
                        Action::Answer(place, Origin::Full, clock, super::action::Fate::Dropped)
                    }
                    _ => Action::Step(place, clock),
                };
                if !stepper.take(action) {
                    break;
                }
                if stepper.published {
                    return Some(ticks);
                }
                if stepper.state.processes[place] == At::Idle {
                    break;
                }
            }
        }
        stepper.take(Action::Tick);
    }
    None
}
