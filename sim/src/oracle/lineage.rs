//! Which writes to a store that overwrites count, and which lost their race.
//!
//! On a store without a swap a write may be there for a moment and lose. So each
//! write is judged as a change of the cell that it was made from, not of the one
//! that it happens to overwrite; and what the protocol promises of the whole is
//! asked here: once a write was told done, all that the store takes later is made
//! from it, and no other that was made from the same cell is told done.

use super::{Oracle, State};
use crate::coverage::Kind;
use crate::executor::Owner;
use bytes::Bytes;
use leeward::cell::{Cell, Nonce};
use leeward::cells::purges_id;
use std::collections::HashMap;

/// Most steps back from a write to the one that it was made from in the end.
const STEPS_MAX: usize = 10_000;

/// The writes of all cells, by their nonces.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// From which value a write is made; none from an absent cell.
    parents: HashMap<Nonce, Option<Bytes>>,
    /// The same of those that the store has taken.
    made_from: HashMap<Nonce, Option<Nonce>>,
    /// By cell: which the store took last.
    latest: HashMap<String, Nonce>,
    /// By cell: which was last told done.
    done: HashMap<String, Nonce>,
}

impl Lineage {
    /// A swap begins.
    pub(super) fn begins(&mut self, new: Nonce, expected: Option<&Bytes>) {
        self.parents.insert(new, expected.cloned());
    }

    /// Whether a write is another, or was made from it.
    fn descends(&self, from: Nonce, ancestor: Nonce) -> bool {
        let mut at = Some(from);
        for _ in 0..STEPS_MAX {
            match at {
                Some(nonce) if nonce == ancestor => return true,
                Some(nonce) => at = self.made_from.get(&nonce).copied().flatten(),
                None => return false,
            }
        }
        false
    }
}

impl Oracle {
    /// A store without a swap has taken a write.
    pub(crate) fn overwritten(&self, id: &str, before: Option<&Bytes>, after: &Bytes, by: Owner) {
        if super::budget::is_budget(id) {
            return self.applied(id, before, after, by);
        }
        if id == purges_id(super::ORIGIN) {
            // It may be one that lost its race: whether a purge holds is seen by the answers.
            return self.applied(id, None, after, by);
        }
        if super::cells::is_counts(id) {
            // Two writes at once: the numbers of one are lost.
            return;
        }
        let Some(new) = super::read(after) else {
            return self.violated(by, "codec", format!("{id} was overwritten with no cell"));
        };
        let (parent, undone) = {
            let lineage = &mut self.state.borrow_mut().lineage;
            let parent = lineage.parents.remove(&new.nonce).flatten();
            let from = parent.as_ref().and_then(super::read).map(|cell| cell.nonce);
            lineage.made_from.insert(new.nonce, from);
            lineage.latest.insert(id.to_owned(), new.nonce);
            let done = lineage.done.get(id).copied();
            let undone = done.filter(|done| !lineage.descends(new.nonce, *done));
            (parent, undone)
        };
        self.applied(id, parent.as_ref(), after, by);
        if let Some(done) = undone {
            self.undone(id, done, new.nonce, by);
        }
    }

    /// A swap on such a store was told done.
    pub(super) fn told_done(&self, id: &str, new: &Cell, by: Owner) {
        let overtaken = {
            let State { lineage, .. } = &mut *self.state.borrow_mut();
            // Another store's swaps are none of this.
            let Some(latest) = lineage.latest.get(id).copied() else {
                return;
            };
            let known = lineage.done.get(id).copied();
            if !known.is_some_and(|known| lineage.descends(known, new.nonce)) {
                lineage.done.insert(id.to_owned(), new.nonce);
            }
            (!lineage.descends(latest, new.nonce)).then_some(latest)
        };
        if let Some(latest) = overtaken {
            self.undone(id, new.nonce, latest, by);
        }
    }

    /// A swap on such a store was told that another's write is there. Says whether
    /// its own had been taken.
    pub(super) fn told_conflict(&self, new: &Cell) -> bool {
        let lineage = &self.state.borrow().lineage;
        lineage.made_from.contains_key(&new.nonce)
    }

    fn undone(&self, id: &str, done: Nonce, by: Nonce, owner: Owner) {
        if self.scenario.late().is_some() {
            return self.count(Kind::Undone);
        }
        self.violated(
            owner,
            "S2",
            format!("{id}: the write {done} was told done, and overwritten by {by}"),
        );
    }
}
