//! The world as the model checker sees it.

use super::action::{Action, actions};
use super::liveness;
use super::record::Taint;
use super::settings::{BUCKET, Purges, Settings};
use super::state::{EPOCH, State};
use super::step::step;
use leeward::cell::transition::Purge;
use stateright::{Model, Property};

/// A model to be checked.
#[derive(Clone, Debug)]
pub struct World {
    settings: Settings,
    only: Option<&'static str>,
}

/// S1: at most one lease at a time under which the origin is asked.
pub const ONE_LEASE: &str = "S1";
/// S2: no entry is replaced by that of an older lease, or lost.
pub const NONE_REPLACED: &str = "S2";
/// S6: nothing from before an acknowledged purge is served as if it were not.
pub const PURGED_IS_GONE: &str = "S6";
/// L1: whatever happened, an entry is published soon if nothing more happens.
pub const SOON_PUBLISHED: &str = "L1";

impl World {
    /// The world of these settings; if `only` names a property, the others are
    /// not looked at.
    pub fn new(settings: Settings, only: Option<&'static str>) -> Self {
        World { settings, only }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    /// Nothing is stored; the buckets may be anywhere.
    fn init_states(&self) -> Vec<State> {
        (EPOCH..EPOCH + BUCKET).map(State::start).collect()
    }

    fn actions(&self, state: &State, found: &mut Vec<Action>) {
        actions(&self.settings, state, found);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        step(&self.settings, state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ONE_LEASE, |_, state: &State| {
                state.holders() <= 1 && !state.alarms.overridden
            }),
            Property::always(NONE_REPLACED, |_, state: &State| !state.alarms.replaced),
        ];
        if self.settings.purges != Purges::None {
            properties.push(Property::always(PURGED_IS_GONE, |world: &World, state| {
                purged_is_gone(&world.settings, state)
            }));
        }
        if self.settings.liveness {
            properties.push(Property::always(SOON_PUBLISHED, |world: &World, state| {
                liveness::wait(&world.settings, state)
                    .is_some_and(|wait| wait <= liveness::bound(state))
            }));
        }
        properties.retain(|property| self.only.is_none_or(|only| only == property.name));
        properties
    }
}

/// Whoever reads the cell now, reads what the last acknowledged purge allows.
fn purged_is_gone(settings: &Settings, state: &State) -> bool {
    let Some(entry) = state.cell.and_then(|cell| cell.entry) else {
        return true;
    };
    entry.taint != Taint::Doomed
        || match settings.purges {
            Purges::Only(Purge::Soft) => entry.softened,
            Purges::Only(Purge::Invalidate) => entry.invalidated,
            Purges::Only(Purge::Hard) | Purges::Mixed | Purges::None => false,
        }
}
