//! What a round of the sweeper does to a cell, as functions of what was read.

use crate::cell::Cell;
use crate::time::Time;
use std::collections::HashSet;
use std::time::Duration;

/// The least time for which an entry is kept after it was last refreshed: what may
/// not be served any more can still be confirmed by the origin.
const ENTRY_KEPT_MIN: Duration = Duration::from_secs(3_600);

/// How long a purge is remembered at least.
pub(super) const PURGES_KEPT: Duration = Duration::from_secs(30 * 86_400);

/// What the settings say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) clock_skew: Duration,
    /// A cell that was not written for longer is not in use by a holder or a creator.
    pub(super) unused: Duration,
    /// For how long visitors may read a body that was replaced.
    pub(super) grace: Duration,
}

/// A cell that stays unless there are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: u128,
    /// When it was last written for a visitor, as far as is known.
    pub(super) used: Time,
    /// Its bytes and its body's.
    pub(super) bytes: u64,
}

/// What becomes of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays, if there is room.
    Keep(Seen),
    /// It has a lease, or had one a moment ago, or was emptied a moment ago.
    Busy,
    /// It is emptied.
    Empty,
    /// It was emptied long ago: it is deleted.
    Delete,
}

/// What becomes of a cell of `size` stored bytes.
pub(super) fn fate(cell: &Cell, size: usize, now: Time, rules: &Rules) -> Fate {
    if let Some(lease) = cell.lease
        && now < lease.deadline.plus(rules.clock_skew).plus(rules.unused)
    {
        return Fate::Busy;
    }
    let marks = &cell.marks;
    if let Some(swept) = marks.swept {
        let due = swept.plus(rules.unused.max(rules.grace));
        return match due < now && cell.lease.is_none() && cell.entry.is_none() {
            true if is_purged(cell, now) => Fate::Busy,
            true => Fate::Delete,
            false => Fate::Busy,
        };
    }
    let pass = marks.pass.map(|pass| pass.until);
    let retry = marks.retry.map(|retry| retry.not_before);
    let of_credentials = [marks.credentials_pass_until, marks.for_everyone_until];
    let is_marked = [pass, retry]
        .into_iter()
        .chain(of_credentials)
        .flatten()
        .any(|until| now < until);
    let until = cell.entry.as_ref().map(|entry| {
        let freshness = &entry.freshness;
        let window = freshness
            .stale_if_error_ms
            .max(freshness.stale_while_revalidate_ms);
        let whole = freshness
            .lifetime_ms
            .saturating_sub(freshness.initial_age_ms)
            .saturating_add(window);
        let kept = Duration::from_millis(whole).max(ENTRY_KEPT_MIN);
        freshness.response_time.plus(kept)
    });
    let is_needed = is_marked || until.is_some_and(|until| now < until);
    // A list of variants, or a cell that says what they vary on, stays as it is; from
    // now on it is seen how long nobody writes it.
    if !is_needed {
        return Fate::Empty;
    }
    let manifest = cell.entry.as_ref().and_then(|entry| entry.body.manifest());
    let body = manifest.map_or(0, |manifest| manifest.length);
    let asked = cell
        .entry
        .as_ref()
        .map(|entry| entry.freshness.response_time);
    let passed = marks.pass.map(|pass| pass.since);
    Fate::Keep(Seen {
        id: 0,
        used: asked.max(passed).unwrap_or_default(),
        bytes: (size as u64).saturating_add(body),
    })
}

/// Whether a key has a purge that its variants need to know.
fn is_purged(cell: &Cell, now: Time) -> bool {
    let marks = &cell.marks;
    let is_variant = cell.key.contains('\n');
    !is_variant
        && [marks.purged, marks.invalidated, marks.softened]
            .into_iter()
            .flatten()
            .any(|mark| now < mark.plus(PURGES_KEPT))
}

/// Whether a cell may be deleted with its entry: no body is apart from it, and no purge
/// has to be remembered for others.
pub(super) fn may_be_deleted(cell: &Cell, now: Time) -> bool {
    let has_body_apart = cell
        .entry
        .as_ref()
        .is_some_and(|entry| entry.body.manifest().is_some())
        || cell.lease.is_some_and(|lease| lease.draft.is_some())
        || !cell.orphans.is_empty();
    !has_body_apart && !is_purged(cell, now)
}

/// What the round before has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// How many cells, those among them that were emptied.
    pub(super) cells: usize,
    /// How long ago.
    pub(super) elapsed: Duration,
}

impl Before {
    /// How many cells have been created since.
    fn created(&self, cells: usize) -> usize {
        cells.saturating_sub(self.cells)
    }

    /// For how many cells there is to be room: as many as will be created within `time` if
    /// they go on as since the last round. At most as many as were created, so that a burst
    /// costs other pages no more than twice itself, and at most half of `keys_max`, so that
    /// an entry lives for a while.
    pub(super) fn room(&self, cells: usize, time: Duration, keys_max: usize) -> usize {
        let created = self.created(cells);
        let elapsed = self.elapsed.as_millis().max(1);
        let expected = (created as u128).saturating_mul(time.as_millis()) / elapsed;
        usize::try_from(expected)
            .unwrap_or(usize::MAX)
            .min(created)
            .min(keys_max / 2)
    }

    /// How long it takes from `left` cells until there are `keys_max`, if cells are created
    /// as since the last round.
    pub(super) fn until(&self, cells: usize, left: usize, keys_max: usize) -> Duration {
        let created = self.created(cells) as u128;
        let room = keys_max.saturating_sub(left) as u128;
        if created == 0 {
            return Duration::MAX;
        }
        let millis = self.elapsed.as_millis().saturating_mul(room) / created;
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// What a store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Most {
    /// Cells.
    pub(super) keys: usize,
    /// For how many more there is to be room, where some have to go.
    pub(super) room: usize,
    /// Bytes of cells and bodies.
    pub(super) bytes: u64,
}

/// The bytes of what stays of the cells that were read, `surplus` being what goes, as many as
/// all `cells` have if the others are like the `read` ones.
pub(super) fn bytes_left(
    sizes: &[(u128, u64)],
    surplus: &[u128],
    cells: usize,
    read: usize,
) -> u64 {
    let gone: HashSet<u128> = surplus.iter().copied().collect();
    let stays = sizes.iter().filter(|(id, _)| !gone.contains(id));
    let bytes: u128 = stays.map(|(_, bytes)| u128::from(*bytes)).sum();
    let (cells, read) = (cells.max(1) as u128, read.max(1) as u128);
    let all = bytes.saturating_mul(cells.max(read)) / read;
    u64::try_from(all).unwrap_or(u64::MAX)
}

/// Which cells have to go, those that were used longest ago first.
///
/// `seen` are those of `read` cells that stay otherwise; the store has `cells`.
pub(super) fn surplus(mut seen: Vec<Seen>, cells: usize, read: usize, most: &Most) -> Vec<u128> {
    let (cells, read) = (cells.max(1) as u128, read.max(1) as u128);
    // The share of the limits that the cells that were read may have.
    let share = |limit: u128| limit.saturating_mul(read.min(cells)) / cells;
    let mut keys_max = share(most.keys as u128);
    let bytes_max = share(u128::from(most.bytes));
    let mut keys = seen.len() as u128;
    let mut bytes: u128 = seen.iter().map(|seen| u128::from(seen.bytes)).sum();
    if keys > keys_max {
        keys_max = keys_max.saturating_sub(share(most.room as u128));
    }
    seen.sort_unstable_by_key(|seen| (seen.used, seen.id));
    let mut surplus = Vec::new();
    for seen in seen {
        if keys <= keys_max && bytes <= bytes_max {
            break;
        }
        keys = keys.saturating_sub(1);
        bytes = bytes.saturating_sub(u128::from(seen.bytes));
        surplus.push(seen.id);
    }
    surplus
}
