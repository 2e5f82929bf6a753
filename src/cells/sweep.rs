//! The sweeper: keeps the shared store within `limits.keys` and
//! `limits.store_bytes`.
//!
//! It works in rounds. A round is begun behind an answer, at most one at a time over
//! all instances, under a lease in a cell of its own, and reads a bounded number of
//! cells: all, or as many from a random place on. What a round does to a cell is
//! decided by [`plan`], a pure function.
//!
//! The mark in the sweeper's cell says when the next round is due, so it does not matter
//! how long an instance lives. One request in [`LOOK_EVERY`] looks at the mark. So does
//! one of the requests that create cells, more often the fewer cells there may be: a
//! store that fills up is swept before its next round is due by the mark.
//!
//! 1. An entry that is past all its windows is emptied: its cell stays, its body
//!    becomes an orphan.
//! 2. If there are too many cells or bytes, those that were fetched or refreshed
//!    longest ago go, and a few more to make room until the next round. A hit writes
//!    nothing, so how long ago a cell was last read is not known. An entry in use is
//!    refreshed, and so counts as used. In a store with more cells than a round reads,
//!    these are the oldest of the ones that were read, as many as is their share. Such
//!    a cell is deleted at once if nothing else depends on it, and emptied otherwise.
//! 3. A cell that was emptied, and not written since, for longer than any lease, is
//!    deleted.
//! 4. The chunks of bodies that no cell answers for, and guards whose time is over,
//!    are deleted. A body may move from one cell to another while they are read, so
//!    it has to be found twice, in rounds that read all cells.
//!
//! A deletion compares the cell with what was read. On a store that deletes without
//! looking the sweeper takes the cell's lease before: others respect it and write
//! nothing.
//!
//! A key's own cell is deleted only when its list of variants is gone, and that only
//! when all variants in it are. Cells with the mark of a purge stay for
//! [`plan::PURGES_KEPT`]: a variant that is not in the list may still have an entry
//! from before it.

mod plan;

use super::names::{Name, cell_id, list_key, parse_name};
use super::{Backing, Cells, Election, Held, Loaded, Settled};
use crate::cell::transition::{self, Swept};
use crate::cell::{Cell, Nonce, Orphan, Pass, codec};
use crate::store::{Removal, Store};
use crate::time::{Time, millis};
use crate::world::{Platform, event};
use futures::future::{Either, select};
use plan::{Before, Fate, Rules, Seen};
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// The shortest pause between two rounds while the store does not fill up.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The shortest pause between two rounds. It is never shorter than the round before took.
const SWEEP_PAUSE_MIN: Duration = Duration::from_millis(500);

/// While the store is within its limits, the pause is at least this many times as
/// long as the round: the sweeper works a twentieth of the time.
const PAUSE_PER_ROUND: u32 = 19;

/// The longest pause.
const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// Most cells that a round reads.
const READS_MAX: usize = 10_000;

/// Most names that a round remembers of a listing. Names beyond are not looked at in
/// this round.
const NAMES_MAX: usize = 1_000_000;

/// Most bodies that a round looks for; the rest is left to later rounds.
const BODIES_MAX: usize = 100_000;

/// Most guards that a round deletes.
const GUARDS_MAX: usize = 1_000;

/// Most cells that a round empties or deletes.
const CHANGES_MAX: usize = 5_000;

/// A store with more cells than `limits.keys` by this part of it is overfull.
const OVERFULL_PART: usize = 4;

/// Most bodies without a cell that a round finds.
const FOUND_MAX: usize = 32;

/// Longest that a listing takes.
const LISTING_MAX: Duration = Duration::from_secs(60);

/// One in this many requests of an instance looks whether a round is due. Which of the
/// first ones it is is left to chance: an instance may live for one request.
const LOOK_EVERY: u32 = 64;

/// Of the requests that create as many cells as there may be, about this many look
/// whether a round is due.
const LOOKS_PER_LIMIT: u128 = 16;

/// For how long a round reads cells where an instance ends with its request. Such a
/// request has less than half a minute.
const READING_MAX: Duration = Duration::from_secs(10);

/// The key of the sweeper's cell. No key of a request has a line break.
const SWEEPER: &str = "\nsweeper";

/// What a round has done.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// What the last round left.
    before: Option<Before>,
    cells: usize,
    read: usize,
    emptied: usize,
    deleted: usize,
    /// Bytes of the cells that stay, and of their bodies; of a part of them where not all were
    /// read, so many as all have.
    bytes: u64,
    bodies: usize,
    guards: usize,
    is_over: bool,
}

/// The names in the store.
#[derive(Debug, Default)]
struct Names {
    cells: Vec<u128>,
    /// How many chunks there are of a body, at least.
    bodies: HashMap<u128, u32>,
    guards: Vec<String>,
    is_complete: bool,
}

impl Tally {
    /// How many cells the round leaves in the store, those among them that it has emptied.
    fn kept(&self) -> usize {
        self.cells.saturating_sub(self.deleted)
    }

    /// Whether the store may still be over a limit: the round has not looked at all cells,
    /// or has changed as many as it may.
    fn is_unfinished(&self) -> bool {
        let changed = self.emptied.saturating_add(self.deleted);
        self.is_over && (self.read < self.cells || changed >= CHANGES_MAX)
    }

    /// Whether the round leaves more cells than there may be by more than a part: it had no
    /// time for them, or the platform lets this instance write no more. A store of many cells
    /// is always a little over its limit.
    fn is_overfull(&self, keys_max: usize) -> bool {
        let left = self.kept().saturating_sub(self.emptied);
        left > keys_max.saturating_add(keys_max / OVERFULL_PART)
    }

    /// The pause until the next round.
    fn pause(&self, keys_max: usize, regular: Duration) -> Duration {
        let left = self.kept().saturating_sub(self.emptied);
        let until_full = match self.before {
            _ if self.is_unfinished() || left >= keys_max => Duration::ZERO,
            // It is not known how fast the store fills up.
            None => Duration::ZERO,
            Some(before) => before.until(self.cells, left, keys_max),
        };
        until_full.clamp(SWEEP_PAUSE_MIN, regular.max(SWEEP_PAUSE_MIN))
    }
}

/// Whether a request looks at the sweeper's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It does not.
    No,
    /// A round is due when the mark says so.
    Regular,
    /// The same, and also a moment after the last round: cells are being created.
    FillsUp,
}

/// Whether a round is due by the mark that the last one left.
fn is_due(mark: Option<Pass>, look: Look, now: Time) -> bool {
    let Some(mark) = mark else {
        return true;
    };
    // A clock that was set back must not put it off.
    let is_over = now >= mark.until || mark.until.since(now) > SWEEP_PAUSE_MAX;
    let is_soon = now.since(mark.since) >= SWEEP_PAUSE_MIN;
    is_over || look == Look::FillsUp && is_soon
}

/// Why a round ended early: the store fails, or the lease is lost.
struct Stopped;

/// How many cells there are, as the sweeper last counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) cells: u32,
    /// Their bytes and those of their bodies, where the round has counted them.
    pub(crate) bytes: Option<u64>,
    /// When the last round ended.
    pub(crate) counted: Time,
    /// There were far more than there may be.
    pub(crate) is_overfull: bool,
}

impl<P: Platform> Cells<P> {
    /// What the sweeper's last round has left; none before the first, and while the store
    /// fails.
    pub(crate) async fn stored(&self) -> Option<Stored> {
        let loaded = self.load_named(&cell_id(SWEEPER)).await.ok()??;
        let marks = loaded.cell?.marks;
        Some(Stored {
            cells: marks.kept?,
            bytes: marks.stored_bytes,
            counted: marks.pass?.since,
            is_overfull: marks.overfull,
        })
    }

    /// Begins a round of the sweeper behind an answer, if one may be due.
    pub(crate) fn sweep_if_due(self: &Rc<Self>) {
        let look = self.next_look();
        if look == Look::No || self.store_is_paused() {
            return;
        }
        let cells = Rc::clone(self);
        self.platform.spawn(async move { cells.sweep(look).await });
    }

    /// Whether the request that ends now looks at the mark.
    fn next_look(&self) -> Look {
        let every = u128::from(LOOK_EVERY);
        let first = || u32::try_from(self.platform.random() % every).unwrap_or(0);
        let left = self.requests_to_look.get().unwrap_or_else(first);
        let next = left.checked_sub(1).unwrap_or(LOOK_EVERY - 1);
        self.requests_to_look.set(Some(next));
        match (self.fills_up.take(), left) {
            (true, _) => Look::FillsUp,
            (false, 0) => Look::Regular,
            (false, _) => Look::No,
        }
    }

    /// A cell was created: this may be one of the requests that look at the mark for that.
    pub(super) fn note_created(&self) {
        let most = self.config.limits.keys as u128;
        if self.platform.random() % most.max(1) < LOOKS_PER_LIMIT {
            self.fills_up.set(true);
        }
    }

    /// A round, if one is due.
    pub(super) async fn sweep(&self, look: Look) {
        let loaded = self.load(SWEEPER).await;
        let now = self.platform.now();
        // As it was written: a pause may be longer than a pass mark of a question.
        let cell = loaded.raw.as_ref().map(|raw| codec::decode(raw, SWEEPER));
        let marks = cell.and_then(Result::ok).map(|cell| cell.marks);
        let marks = marks.unwrap_or_default();
        self.note_room(marks.overfull);
        if loaded.backing == Backing::Local || !is_due(marks.pass, look, now) {
            return;
        }
        if self.is_worn() {
            self.await_sweep();
            return;
        }
        let Election::Held(mut held) = self.elect_cell(&loaded, None).await else {
            return;
        };
        let mut tally = Tally {
            before: marks.kept.zip(marks.pass).map(|(kept, pass)| Before {
                cells: kept as usize,
                elapsed: now.since(pass.since),
            }),
            ..Tally::default()
        };
        let mut left = Left::default();
        let round = self.sweep_round(&mut held, &mut tally, &mut left).await;
        let took = self.platform.now().since(now);
        let regular = (took * PAUSE_PER_ROUND).clamp(SWEEP_INTERVAL, SWEEP_PAUSE_MAX);
        let pause = match round {
            Ok(true) => tally.pause(self.config.limits.keys, regular),
            Ok(false) => SWEEP_PAUSE_MAX,
            // Another instance goes on.
            Err(Stopped) if self.is_worn() => SWEEP_PAUSE_MIN,
            Err(Stopped) => SWEEP_INTERVAL,
        };
        let pause = pause.max(took.min(SWEEP_PAUSE_MAX));
        let is_done = round.is_ok() && !tally.is_unfinished();
        let overfull = !is_done && tally.is_overfull(self.config.limits.keys);
        self.note_room(overfull);
        let holder = held.holder;
        self.settle(
            held.loaded,
            |cell| {
                let swept = Swept {
                    found: &left.found,
                    settled: &left.settled,
                    kept: u32::try_from(tally.kept()).unwrap_or(u32::MAX),
                    stored_bytes: tally.bytes,
                    overfull,
                    pause,
                };
                transition::end_sweep(cell, holder, swept, self.stamp())
            },
            |_| false,
        )
        .await;
        self.log_sweep(&tally, took);
    }

    fn log_sweep(&self, tally: &Tally, took: Duration) {
        if tally.emptied + tally.deleted + tally.bodies + tally.guards == 0 {
            return;
        }
        self.platform.log(&event(
            "sweep",
            &[
                ("cells", tally.cells.into()),
                ("read", tally.read.into()),
                ("emptied", tally.emptied.into()),
                ("deleted", tally.deleted.into()),
                ("bodies", tally.bodies.into()),
                ("guards", tally.guards.into()),
                ("over_limit", tally.is_over.into()),
                ("millis", millis(took).into()),
            ],
        ));
    }

    /// Says whether the store can be swept at all.
    async fn sweep_round(
        &self,
        held: &mut Held,
        tally: &mut Tally,
        left: &mut Left,
    ) -> Result<bool, Stopped> {
        let Some(mut names) = self.list_names(held).await? else {
            self.platform.log(&event(
                "sweep-unavailable",
                &[
                    ("error", "the store does not list its keys".into()),
                    (
                        "effect",
                        "limits.keys and limits.store_bytes have no effect".into(),
                    ),
                ],
            ));
            return Ok(false);
        };
        names.cells.retain(|id| id_text(*id) != held.loaded.id);
        tally.cells = names.cells.len();
        for guard in &names.guards {
            self.keep_sweeping(held).await?;
            self.remove_value(Backing::Shared, guard)
                .await
                .map_err(|_| Stopped)?;
            tally.guards += 1;
        }
        let rules = self.sweep_rules();
        let count = names.cells.len().min(READS_MAX);
        let wanted = self.window(&mut names.cells, count);
        let mut seen = Vec::new();
        let mut answered_for = HashSet::new();
        let began = self.platform.now();
        let mut in_time = true;
        for id in wanted {
            if P::ENDS_WITH_REQUEST && self.platform.now().since(began) >= READING_MAX {
                in_time = false;
                break;
            }
            self.keep_sweeping(held).await?;
            let Some(loaded) = self.load_named(&id_text(id)).await.map_err(|_| Stopped)? else {
                continue;
            };
            tally.read += 1;
            let Some(cell) = &loaded.cell else { continue };
            answered_for.extend(bodies_of(cell));
            let now = self.platform.now();
            let size = loaded.raw.as_ref().map_or(0, bytes::Bytes::len);
            match plan::fate(cell, size, now, &rules) {
                Fate::Keep(used) => seen.push(Seen { id, ..used }),
                Fate::Busy => {}
                Fate::Empty => tally.emptied += self.empty_cell(loaded, tally).await?,
                Fate::Delete => tally.deleted += self.delete_cell(loaded, tally).await?,
            }
        }
        let limits = &self.config.limits;
        let sizes: Vec<(u128, u64)> = seen.iter().map(|seen| (seen.id, seen.bytes)).collect();
        let surplus = plan::surplus(
            seen,
            tally
                .cells
                .saturating_sub(tally.emptied)
                .saturating_sub(tally.deleted),
            tally.read,
            &plan::Most {
                keys: limits.keys,
                room: tally.before.map_or(0, |before| {
                    before.room(tally.cells, SWEEP_INTERVAL, limits.keys)
                }),
                bytes: limits.store_bytes,
            },
        );
        tally.is_over = !surplus.is_empty();
        tally.bytes = plan::bytes_left(&sizes, &surplus, tally.cells, tally.read);
        for id in surplus {
            self.keep_sweeping(held).await?;
            if let Some(loaded) = self.load_named(&id_text(id)).await.map_err(|_| Stopped)? {
                self.make_room(loaded, &rules, tally).await?;
            }
        }
        let read_all = names.is_complete && in_time && count == names.cells.len();
        if read_all {
            self.sweep_bodies(held, names.bodies, &answered_for, tally, left)
                .await?;
        }
        Ok(true)
    }

    fn sweep_rules(&self) -> Rules {
        let lease = self.config.lease;
        let bucket = lease.guard_bucket();
        Rules {
            clock_skew: lease.clock_skew,
            unused: lease
                .duration
                .saturating_add(lease.clock_skew.saturating_mul(2))
                .saturating_add(bucket.saturating_mul(2)),
            grace: self.config.limits.grace,
        }
    }

    /// Renews the sweeper's lease in time; ends the round if it is lost, if the
    /// store fails, or if this instance has few swaps left.
    async fn keep_sweeping(&self, held: &mut Held) -> Result<(), Stopped> {
        if self.store_is_paused() || self.is_worn() {
            return Err(Stopped);
        }
        if self.may_begin(held) {
            return Ok(());
        }
        match self.renew(held).await {
            Settled::Done => Ok(()),
            Settled::Fenced(_) | Settled::Failed | Settled::Refused => Err(Stopped),
        }
    }

    /// Lists the store; none where it cannot be listed. Renews the lease meanwhile.
    async fn list_names(&self, held: &mut Held) -> Result<Option<Names>, Stopped> {
        let mut names = Names {
            is_complete: true,
            ..Names::default()
        };
        let bucket = millis(self.config.lease.guard_bucket()).max(1);
        let oldest = (self.platform.now().as_unix_millis() / bucket).saturating_sub(GUARD_BUCKETS);
        let mut note = |name: &str| match parse_name(name) {
            Some(Name::Cell(id)) if names.cells.len() < NAMES_MAX => names.cells.push(id),
            Some(Name::Chunk(body, chunk))
                if names.bodies.len() < BODIES_MAX || names.bodies.contains_key(&body) =>
            {
                let chunks = names.bodies.entry(body).or_default();
                *chunks = (*chunks).max(chunk.saturating_add(1));
            }
            Some(Name::Guard(bucket)) if bucket < oldest && names.guards.len() < GUARDS_MAX => {
                names.guards.push(name.to_owned());
            }
            Some(Name::Guard(_)) => {}
            Some(Name::Cell(_) | Name::Chunk(..)) => names.is_complete = false,
            None => {}
        };
        let can_list = {
            let listing = pin!(self.platform.store().names(&mut note));
            let renewing = pin!(async {
                let end = self.platform.now().plus(LISTING_MAX);
                while self.platform.now() < end {
                    let pause = self.config.lease.duration / LISTING_RENEWALS;
                    self.platform.sleep(pause).await;
                    if self.renew(held).await != Settled::Done {
                        return;
                    }
                }
            });
            match select(listing, renewing).await {
                Either::Left((Ok(can_list), _)) => can_list,
                Either::Left((Err(_), _)) | Either::Right(_) => return Err(Stopped),
            }
        };
        // A store may name a cell twice.
        names.cells.sort_unstable();
        names.cells.dedup();
        Ok(can_list.then_some(names))
    }

    /// This many cells, from a random place on.
    fn window(&self, cells: &mut [u128], count: usize) -> Vec<u128> {
        if cells.is_empty() {
            return Vec::new();
        }
        cells.sort_unstable();
        let length = cells.len() as u128;
        let start = usize::try_from(self.platform.random() % length).unwrap_or(0);
        cells
            .iter()
            .cycle()
            .skip(start)
            .take(count)
            .copied()
            .collect()
    }

    /// Empties a cell. Returns how many were.
    async fn empty_cell(&self, loaded: Loaded, tally: &Tally) -> Result<usize, Stopped> {
        if tally.emptied.saturating_add(tally.deleted) >= CHANGES_MAX {
            return Ok(0);
        }
        let skew = self.config.lease.clock_skew;
        let (settled, _) = self
            .settle(
                loaded,
                |cell| {
                    cell.and_then(|cell| transition::sweep(cell, skew, self.stamp()))
                        .ok_or(transition::Fenced::Lost)
                },
                |_| false,
            )
            .await;
        match settled {
            Settled::Done => Ok(1),
            Settled::Fenced(_) => Ok(0),
            Settled::Failed | Settled::Refused => Err(Stopped),
        }
    }

    /// Deletes a cell that has to go, or empties it if something else depends on it.
    async fn make_room(
        &self,
        loaded: Loaded,
        rules: &Rules,
        tally: &mut Tally,
    ) -> Result<(), Stopped> {
        let now = self.platform.now();
        let Some(cell) = &loaded.cell else {
            return Ok(());
        };
        // It may have been written since it was chosen.
        if !matches!(plan::fate(cell, 0, now, rules), Fate::Keep(_) | Fate::Empty) {
            return Ok(());
        }
        if plan::may_be_deleted(cell, now) && !self.is_listed_or_lists(&loaded).await? {
            tally.deleted += self.remove_cell(&loaded, tally).await?;
        } else {
            tally.emptied += self.empty_cell(loaded, tally).await?;
        }
        Ok(())
    }

    /// Deletes a cell that was emptied long ago, with what is left of its bodies.
    /// Returns how many were.
    async fn delete_cell(&self, loaded: Loaded, tally: &Tally) -> Result<usize, Stopped> {
        if tally.emptied.saturating_add(tally.deleted) >= CHANGES_MAX
            || self.is_listed_or_lists(&loaded).await?
        {
            return Ok(0);
        }
        let due = self.collect(&loaded).await;
        let orphans = loaded.cell.as_ref().map_or(0, |cell| cell.orphans.len());
        if due.len() < orphans {
            // The rest is removed in later rounds.
            self.apply(loaded, |cell| {
                let cell = cell.filter(|cell| cell.marks.swept.is_some())?;
                Some(transition::clear(cell, &due, self.nonce()))
            })
            .await;
            return Ok(0);
        }
        self.remove_cell(&loaded, tally).await
    }

    /// Removes a cell as it was read. Returns how many were.
    async fn remove_cell(&self, loaded: &Loaded, tally: &Tally) -> Result<usize, Stopped> {
        let Some(raw) = &loaded.raw else {
            return Ok(0);
        };
        if tally.emptied.saturating_add(tally.deleted) >= CHANGES_MAX {
            return Ok(0);
        }
        self.recent.borrow_mut().forget(&loaded.id);
        let removing = self.platform.store().remove_if(&loaded.id, raw);
        match self.changing("remove", removing).await {
            Ok(Removal::Done) => return Ok(1),
            Ok(Removal::Changed) => return Ok(0),
            Ok(Removal::Unsupported) => {}
            Err(_) => return Err(Stopped),
        }
        let Election::Held(held) = self.elect_cell(loaded, None).await else {
            return Ok(0);
        };
        // Nobody writes under a live lease but purges, whose marks are for entries
        // that this key does not have.
        if !self.may_begin(&held) {
            return Ok(0);
        }
        self.remove_value(Backing::Shared, &loaded.id)
            .await
            .map_err(|_| Stopped)?;
        Ok(1)
    }

    /// Whether a cell has to stay for others of its key: a key's own cell while its
    /// variants are listed, and the list while one of them is there.
    async fn is_listed_or_lists(&self, loaded: &Loaded) -> Result<bool, Stopped> {
        if !loaded.key.contains('\n') {
            let list = self.load_named(&cell_id(&list_key(&loaded.key))).await;
            return Ok(list.map_err(|_| Stopped)?.is_some());
        }
        let listed = loaded.cell.as_ref().map(|cell| &cell.marks.variants);
        for variant in listed.into_iter().flatten() {
            let there = self.load_named(&variant.id).await.map_err(|_| Stopped)?;
            if there.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes bodies that no cell answers for, and that none answered for in an
    /// earlier round.
    async fn sweep_bodies(
        &self,
        held: &mut Held,
        bodies: HashMap<u128, u32>,
        answered_for: &HashSet<u128>,
        tally: &mut Tally,
        left: &mut Left,
    ) -> Result<(), Stopped> {
        let now = self.platform.now();
        let own = held.loaded.cell.as_ref();
        let known = own.map_or_else(Vec::new, |cell| cell.orphans.clone());
        let wait = self.sweep_rules().unused.max(self.config.limits.grace);
        for orphan in &known {
            self.keep_sweeping(held).await?;
            if answered_for.contains(&orphan.body.value())
                || !bodies.contains_key(&orphan.body.value())
            {
                left.settled.push(*orphan);
            } else if orphan.since.plus(wait) <= now {
                if !self
                    .remove_bodies(Backing::Shared, std::slice::from_ref(orphan))
                    .await
                {
                    return Err(Stopped);
                }
                left.settled.push(*orphan);
                tally.bodies += 1;
            }
        }
        left.found = bodies
            .into_iter()
            .filter(|(body, _)| !answered_for.contains(body))
            .filter(|(body, _)| known.iter().all(|orphan| orphan.body.value() != *body))
            .take(FOUND_MAX)
            .map(|(body, chunks)| Orphan {
                body: Nonce::new(body),
                chunks,
                since: now,
            })
            .collect();
        Ok(())
    }
}

/// How many buckets ago a guard is certainly over.
const GUARD_BUCKETS: u64 = 8;

/// How often the lease is renewed while the store is listed, in each of its lengths.
const LISTING_RENEWALS: u32 = 3;

/// What a round leaves for the next.
#[derive(Debug, Default)]
struct Left {
    found: Vec<Orphan>,
    settled: Vec<Orphan>,
}

fn id_text(id: u128) -> String {
    format!("cell/{id:032x}")
}

/// The bodies that a cell answers for.
fn bodies_of(cell: &Cell) -> impl Iterator<Item = u128> + '_ {
    let manifest = cell.entry.as_ref().and_then(|entry| entry.body.manifest());
    let draft = cell.lease.and_then(|lease| lease.draft);
    let orphans = cell.orphans.iter().map(|orphan| orphan.body);
    let bodies = manifest.map(|manifest| manifest.body);
    bodies
        .into_iter()
        .chain(draft.map(|draft| draft.body))
        .chain(orphans)
        .map(|body| body.value())
}

#[cfg(test)]
mod tests;
