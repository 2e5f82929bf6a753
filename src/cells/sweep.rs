//! The sweeper: keeps the shared store within `limits.keys` and
//! `limits.store_bytes`.
//!
//! It works in rounds. A round is begun behind an answer, at most one at a time over
//! all instances, under a lease in a cell of its own, and reads a bounded number of
//! cells: all, or as many from a random place on. What a round does to a cell is
//! decided by [`plan`], a pure function.
//!
//! 1. An entry that is past all its windows is emptied: its cell stays, its body
//!    becomes an orphan.
//! 2. If there are too many cells or bytes, those that were fetched or refreshed
//!    longest ago are emptied. A hit writes nothing, so how long ago a cell was last
//!    read is not known. An entry in use is refreshed, and so counts as used. In a
//!    store with more cells than a round reads, these are the oldest of the ones
//!    that were read, as many as is their share.
//! 3. A cell that was emptied, and not written since, for longer than any lease, is
//!    deleted. A store deletes without looking, so the sweeper takes the cell's lease
//!    before: others respect it and write nothing.
//! 4. The chunks of bodies that no cell answers for, and guards whose time is over,
//!    are deleted. A body may move from one cell to another while they are read, so
//!    it has to be found twice, in rounds that read all cells.
//!
//! A key's own cell is deleted only when its list of variants is gone, and that only
//! when all variants in it are. Cells with the mark of a purge stay for
//! [`plan::PURGES_KEPT`]: a variant that is not in the list may still have an entry
//! from before it.

mod plan;

use super::names::{Name, cell_id, list_key, parse_name};
use super::{Backing, Cells, Election, Held, Loaded, Settled};
use crate::cell::transition::{self, Swept};
use crate::cell::{Cell, Nonce, Orphan, codec};
use crate::store::Store;
use crate::time::{Time, millis};
use crate::world::{Platform, event};
use futures::future::{Either, select};
use plan::{Fate, Rules, Seen};
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// How often an instance looks whether a round is due, at most; spread at random.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The shortest pause between two rounds while the store is over a limit.
const SWEEP_PAUSE_MIN: Duration = Duration::from_secs(1);

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

/// Most bodies without a cell that a round finds.
const FOUND_MAX: usize = 32;

/// Longest that a listing takes.
const LISTING_MAX: Duration = Duration::from_secs(60);

/// Where an instance ends with its request, one in this many requests looks whether a
/// round is due.
const FIRSTS: u128 = 64;

/// For how long a round reads cells where an instance ends with its request. Such a
/// request has less than half a minute.
const READING_MAX: Duration = Duration::from_secs(10);

/// The key of the sweeper's cell. No key of a request has a line break.
const SWEEPER: &str = "\nsweeper";

/// What a round has done.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    cells: usize,
    read: usize,
    emptied: usize,
    deleted: usize,
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

/// Why a round ended early: the store fails, or the lease is lost.
struct Stopped;

impl<P: Platform> Cells<P> {
    /// Begins a round of the sweeper behind an answer, if one may be due.
    pub(crate) fn sweep_if_due(self: &Rc<Self>) {
        let now = self.platform.now();
        let due = self.next_sweep.get();
        // A clock that was set back must not put it off.
        let is_ahead = now < due && due.since(now) <= SWEEP_INTERVAL;
        if is_ahead || self.is_worn() || self.store_is_paused() {
            return;
        }
        let pause = SWEEP_INTERVAL / 2;
        self.next_sweep.set(now.plus(pause).plus(self.up_to(pause)));
        // The first request of an instance does not begin a round: there may be many
        // instances, each for one request. Where there are no others, some do.
        let is_first = due == Time::default();
        let may_be_first = P::ENDS_WITH_REQUEST && self.platform.random().is_multiple_of(FIRSTS);
        if is_first && !may_be_first {
            return;
        }
        let cells = Rc::clone(self);
        self.platform.spawn(async move { cells.sweep().await });
    }

    /// A round, if one is due.
    pub(super) async fn sweep(&self) {
        let loaded = self.load(SWEEPER).await;
        let now = self.platform.now();
        // As it was written: a pause may be longer than a pass mark of a question.
        let cell = loaded.raw.as_ref().map(|raw| codec::decode(raw, SWEEPER));
        let pass = cell.and_then(Result::ok).and_then(|cell| cell.marks.pass);
        let is_due =
            pass.is_none_or(|pass| now >= pass.until || pass.until.since(now) > SWEEP_PAUSE_MAX);
        if loaded.backing == Backing::Local || !is_due {
            return;
        }
        let Election::Held(mut held) = self.elect_cell(&loaded, None).await else {
            return;
        };
        let mut tally = Tally::default();
        let mut left = Left::default();
        let round = self.sweep_round(&mut held, &mut tally, &mut left).await;
        let took = self.platform.now().since(now);
        let pause = match (round, tally.is_over) {
            (Ok(true), true) => SWEEP_PAUSE_MIN,
            (Ok(true), false) => (took * PAUSE_PER_ROUND).clamp(SWEEP_INTERVAL, SWEEP_PAUSE_MAX),
            (Ok(false), _) => SWEEP_PAUSE_MAX,
            (Err(Stopped), _) => SWEEP_INTERVAL,
        };
        if tally.is_over {
            let now = self.platform.now();
            let soon = SWEEP_PAUSE_MIN.saturating_mul(2);
            self.next_sweep.set(now.plus(soon).plus(self.up_to(soon)));
        }
        let holder = held.holder;
        self.settle(
            held.loaded,
            |cell| {
                let swept = Swept {
                    found: &left.found,
                    settled: &left.settled,
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
        let surplus = plan::surplus(
            seen,
            tally
                .cells
                .saturating_sub(tally.emptied)
                .saturating_sub(tally.deleted),
            tally.read,
            limits.keys,
            limits.store_bytes,
        );
        tally.is_over = !surplus.is_empty();
        for id in surplus {
            self.keep_sweeping(held).await?;
            if let Some(loaded) = self.load_named(&id_text(id)).await.map_err(|_| Stopped)? {
                tally.emptied += self.empty_cell(loaded, tally).await?;
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
        let Election::Held(held) = self.elect_cell(&loaded, None).await else {
            return Ok(0);
        };
        // Nobody writes under a live lease but purges, whose marks are for entries
        // that this key does not have.
        if !self.may_begin(&held) {
            return Ok(0);
        }
        self.recent.borrow_mut().forget(&loaded.id);
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
