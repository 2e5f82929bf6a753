//! What may happen to a cell in the store.

use super::{Claim, Lease, Oracle};
use crate::coverage::Kind;
use crate::executor::{Micros, Owner, TaskId};
use crate::origin::{SERIAL, number};
use crate::scenario::StoreKind;
use bytes::Bytes;
use leeward::cell::{Cell, codec};
use leeward::cells::purges_id;
use leeward::counts::Shard;
use leeward::store::{StoreError, Swap};

/// A task that took longer than this to its lease has waited for another's.
const WAITED: Micros = 300_000;

/// Reads a stored cell, whatever its key.
pub(crate) fn read(bytes: &Bytes) -> Option<Cell> {
    codec::decode_any(bytes).ok()
}

/// Whether a name is that of numbers of requests.
pub(crate) fn is_counts(id: &str) -> bool {
    id.starts_with("counts/")
}

impl Oracle {
    /// A write adds numbers, and takes none away.
    fn counts_changed(&self, before: Option<&Bytes>, after: &Bytes, by: Owner) {
        let sum = |value: &Bytes| {
            let counts = Shard::decode(value).ok()?.counts;
            let of_origin = counts
                .origin
                .values()
                .flat_map(|outcomes| outcomes.values());
            Some(counts.requests.values().chain(of_origin).sum::<u64>())
        };
        let (old, new) = (before.and_then(sum).unwrap_or(0), sum(after));
        if new.is_none_or(|new| new <= old) {
            self.violated(by, "counts", format!("{old} requests became {new:?}"));
        }
    }

    /// The store has written a value.
    pub(crate) fn applied(&self, id: &str, before: Option<&Bytes>, after: &Bytes, by: Owner) {
        if super::budget::is_budget(id) {
            return self.budget_changed(id, before, after, by);
        }
        if id == purges_id(super::ORIGIN) {
            return self.purges_changed(before, after, by);
        }
        if is_counts(id) {
            return self.counts_changed(before, after, by);
        }
        let Some(new) = read(after) else {
            return self.violated(by, "codec", format!("{id} was overwritten with no cell"));
        };
        let old = before.and_then(read);
        self.trace(by, || format!("stored {id} {}", describe(&new)));
        let expected = old.as_ref().map_or(1, |old| old.version + 1);
        // Guards name times: clocks that jump can make two creators.
        if new.version != expected && !self.scenario.has_jumps() {
            return self.violated(
                by,
                "S2",
                format!(
                    "{id}: version {} was overwritten with version {}, made from another",
                    expected - 1,
                    new.version
                ),
            );
        }
        self.learns(&new);
        self.lease_changed(id, old.as_ref(), &new, by);
        self.entry_changed(id, old.as_ref(), &new, by);
        self.marks_changed(old.as_ref(), &new);
        self.drafts_changed(old.as_ref(), &new);
    }

    fn lease_changed(&self, id: &str, old: Option<&Cell>, new: &Cell, by: Owner) {
        let before = old.and_then(|old| old.lease);
        match (before, new.lease) {
            (None, None) => {}
            (Some(before), Some(lease)) if before.holder == lease.holder => {
                if before.deadline != lease.deadline {
                    self.count(Kind::Renewed);
                    let now = self.executor.now();
                    if let Some(lease) = self.state.borrow_mut().leases.get_mut(&lease.holder) {
                        lease.renewed = now;
                    }
                }
            }
            (before, Some(lease)) => {
                if let Some(before) = before {
                    let now = self.clocks.at(by.node().unwrap_or(usize::MAX));
                    let skew = self.scenario.settings.skew;
                    if before.is_live(now, skew) && !self.scenario.has_jumps() {
                        self.violated(
                            by,
                            "S1",
                            format!(
                                "{id}: the live lease {} was replaced by {}",
                                before.holder, lease.holder
                            ),
                        );
                    }
                    let state = &mut *self.state.borrow_mut();
                    let kind = match state.leases.get(&before.holder) {
                        Some(held) if !held.known => Kind::TakeoverOrphan,
                        Some(held) if state.ended.contains(&held.owner) => Kind::TakeoverDead,
                        Some(_) | None => Kind::TakeoverLive,
                    };
                    state.coverage.count(kind);
                }
                let at = self.executor.now();
                let state = &mut *self.state.borrow_mut();
                let order = state.leases.len() as u64;
                state.leases.entry(lease.holder).or_insert(Lease {
                    order,
                    owner: by,
                    at,
                    known: false,
                    takeover: before.is_some(),
                    renewed: at,
                    key: new.key.clone(),
                    settled: None,
                });
            }
            (Some(before), None) => {
                let now = self.executor.now();
                let owner = self
                    .state
                    .borrow_mut()
                    .leases
                    .get_mut(&before.holder)
                    .map(|lease| {
                        lease.settled = Some(now);
                        lease.owner
                    });
                if owner != Some(by) {
                    return self.violated(
                        by,
                        "S1",
                        format!("{id}: the lease {} was settled by another", before.holder),
                    );
                }
                if let Some(old) = old {
                    self.settled_after(id, old, new, before.holder, by);
                }
            }
        }
    }

    fn entry_changed(&self, id: &str, old: Option<&Cell>, new: &Cell, by: Owner) {
        let before = old.and_then(|old| old.entry.as_ref());
        let Some(entry) = &new.entry else {
            return;
        };
        if before.is_some_and(|before| before.lease == entry.lease) {
            return;
        }
        self.count(Kind::Published);
        let stored = number(&entry.headers, SERIAL);
        self.state.borrow_mut().stored.insert(stored);
        let holder = old.and_then(|old| old.lease).map(|lease| lease.holder);
        if holder != Some(entry.lease) {
            return self.violated(
                by,
                "S2",
                format!("{id}: an entry was published without holding the lease"),
            );
        }
        let state = self.state.borrow();
        let order = |holder| state.leases.get(&holder).map(|lease| lease.order);
        let older = before.is_some_and(|before| order(before.lease) >= order(entry.lease));
        drop(state);
        if older {
            self.violated(
                by,
                "S2",
                format!("{id}: an entry was replaced by an older lease's"),
            );
        }
        self.filled(id, old, new, entry, by);
    }

    fn marks_changed(&self, old: Option<&Cell>, new: &Cell) {
        let marks = old.map(|old| &old.marks);
        let state = &mut *self.state.borrow_mut();
        if new.marks.retry.is_some() && marks.and_then(|marks| marks.retry) != new.marks.retry {
            state.coverage.count(Kind::RetryMark);
        }
        if new.marks.pass.is_some() && marks.and_then(|marks| marks.pass) != new.marks.pass {
            state.coverage.count(Kind::PassMark);
        }
        if !new.marks.vary.is_empty() && marks.map(|marks| &marks.vary) != Some(&new.marks.vary) {
            state.coverage.count(Kind::Split);
        }
        if new.marks.invalidated != marks.and_then(|marks| marks.invalidated) {
            state.coverage.count(Kind::Invalidated);
        }
    }

    /// A task is about to swap.
    pub(crate) fn swapping(
        &self,
        task: Option<TaskId>,
        owner: Owner,
        id: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) {
        let (Some(task), Some(new)) = (task, read(new)) else {
            return;
        };
        if self.scenario.store == StoreKind::Eventual {
            let lineage = &mut self.state.borrow_mut().lineage;
            lineage.begins(new.nonce, expected);
        }
        let before = expected
            .and_then(read)
            .and_then(|cell| cell.lease)
            .map(|lease| lease.holder);
        match (before, new.lease.map(|lease| lease.holder)) {
            (before, Some(holder)) if before != Some(holder) => {
                self.trace(owner, || format!("claims {id} as {holder}"));
                let claim = Claim {
                    cell: id.to_owned(),
                    holder,
                    confirmed: false,
                };
                let now = self.executor.now();
                let state = &mut *self.state.borrow_mut();
                state.elections.push((new.key, owner, now));
                state.claims.insert(task, claim);
            }
            // What the origin still sends is not for the cell any more.
            (Some(before), None) => self.settles(before),
            _ => {}
        }
    }

    /// A task has learned how its swap ended.
    pub(crate) fn swapped(
        &self,
        task: Option<TaskId>,
        owner: Owner,
        id: &str,
        new: &Bytes,
        result: &Result<Swap, StoreError>,
    ) {
        let Some(task) = task else { return };
        let raced =
            self.scenario.store == StoreKind::Eventual && self.race_ended(owner, id, new, result);
        let now = self.executor.now();
        let state = &mut *self.state.borrow_mut();
        let Some(claim) = state.claims.get(&task).filter(|claim| claim.cell == id) else {
            return;
        };
        if claim.confirmed {
            return;
        }
        let holder = claim.holder;
        let held = match result {
            Ok(Swap::Done) => Some(true),
            Ok(Swap::Conflict(current)) => {
                let lease = current.as_ref().and_then(read).and_then(|cell| cell.lease);
                let held = lease.is_some_and(|lease| lease.holder == holder);
                if !held {
                    state.coverage.count(Kind::Lost);
                }
                // It never counted.
                if !held
                    && raced
                    && let Some(lease) = state.leases.get_mut(&holder)
                {
                    lease.settled = Some(now);
                }
                Some(held)
            }
            Ok(Swap::Busy { .. }) => {
                state.coverage.count(Kind::Contested);
                Some(false)
            }
            // The task will look.
            Err(_) => None,
        };
        state.decide(task, holder, held, now);
    }

    /// A swap on a store without one has ended. Says whether it lost a race.
    fn race_ended(
        &self,
        owner: Owner,
        id: &str,
        new: &Bytes,
        result: &Result<Swap, StoreError>,
    ) -> bool {
        let Some(new) = read(new) else { return false };
        match result {
            Ok(Swap::Done) => {
                self.told_done(id, &new, owner);
                false
            }
            Ok(Swap::Conflict(_)) if self.told_conflict(&new) => {
                self.count(Kind::RaceLost);
                true
            }
            Ok(Swap::Conflict(_) | Swap::Busy { .. }) => false,
            Err(_) => {
                // Its own write did not show in time: to the instance a store
                // that fails. Where writes are in time the link has counted it.
                if self.scenario.late().is_some() {
                    self.hampered(owner);
                }
                false
            }
        }
    }

    /// A task has read a cell.
    pub(crate) fn loaded(
        &self,
        task: Option<TaskId>,
        id: &str,
        result: &Result<Option<Bytes>, StoreError>,
    ) {
        let Some(task) = task else { return };
        let now = self.executor.now();
        let state = &mut *self.state.borrow_mut();
        state.seen.entry(task).or_insert(now);
        let Some(claim) = state.claims.get(&task).filter(|claim| claim.cell == id) else {
            return;
        };
        if claim.confirmed {
            return;
        }
        let holder = claim.holder;
        let lease = match result {
            Ok(current) => current.as_ref().and_then(read).and_then(|cell| cell.lease),
            Err(_) => None,
        };
        let held = lease.is_some_and(|lease| lease.holder == holder);
        state.decide(task, holder, Some(held), now);
    }

    /// A task has started another, which goes on with its claim, and for the same
    /// visitor.
    pub(crate) fn spawned(&self, parent: Option<TaskId>, child: TaskId) {
        let state = &mut *self.state.borrow_mut();
        if let Some(claim) = parent.and_then(|parent| state.claims.remove(&parent)) {
            state.claims.insert(child, claim);
        }
        if let Some(visitor) = parent.and_then(|parent| state.visitors.get(&parent).copied()) {
            state.visitors.insert(child, visitor);
        }
    }
}

impl super::State {
    fn decide(
        &mut self,
        task: TaskId,
        holder: leeward::cell::Nonce,
        held: Option<bool>,
        now: Micros,
    ) {
        match held {
            Some(true) => {
                if let Some(claim) = self.claims.get_mut(&task) {
                    claim.confirmed = true;
                }
                if let Some(lease) = self.leases.get_mut(&holder) {
                    lease.known = true;
                    let seen = self.seen.get(&task).copied().unwrap_or(now);
                    if lease.takeover && now - seen > WAITED {
                        self.coverage.count(Kind::WaitHolderDied);
                    }
                }
                self.coverage.count(Kind::Won);
            }
            Some(false) => {
                self.claims.remove(&task);
            }
            None => {}
        }
    }
}

fn describe(cell: &Cell) -> String {
    let short = |nonce: leeward::cell::Nonce| nonce.to_string().chars().take(6).collect::<String>();
    let entry = match &cell.entry {
        Some(entry) => format!(
            "response {} of lease {}{}{}",
            number(&entry.headers, SERIAL),
            short(entry.lease),
            entry
                .body
                .manifest()
                .map(|manifest| format!(", body {}", short(manifest.body)))
                .unwrap_or_default(),
            if entry.invalidated {
                ", invalidated"
            } else {
                ""
            }
        ),
        None => "none".to_owned(),
    };
    let lease = match &cell.lease {
        Some(lease) => format!(
            "{} until {}{}{}",
            short(lease.holder),
            lease.deadline,
            lease
                .draft
                .map(|draft| format!(", writing body {}", short(draft.body)))
                .unwrap_or_default(),
            if lease.revoked { ", revoked" } else { "" }
        ),
        None => "none".to_owned(),
    };
    let orphans: Vec<_> = cell
        .orphans
        .iter()
        .map(|orphan| short(orphan.body))
        .collect();
    format!(
        "v{} of {:?}: entry {entry}; lease {lease}; {:?}; orphans {}",
        cell.version,
        cell.key,
        cell.marks,
        if orphans.is_empty() {
            "none".to_owned()
        } else {
            orphans.join(", ")
        }
    )
}
