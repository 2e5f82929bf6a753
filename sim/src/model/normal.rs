//! The normal form of states.

use super::record::{Mark, Record, Taint};
use super::settings::{BUCKET, Detail, SKEW, Safeguard, Settings};
use super::state::{At, BUCKETS, EPOCH, Fetch, Goal, State, Then, Word, Write};

impl State {
    /// Puts the state into its normal form.
    ///
    /// - Time is kept in a window of one bucket: only differences matter, and
    ///   the position within a bucket. Times that are over for every clock
    ///   become zero; guards of buckets that no clock shows any more are as
    ///   good as absent, as their creators' time is over.
    /// - Holders are renumbered in their order.
    /// - A claim on a cell that has been replaced will end in a conflict that
    ///   shows another's lease, and change nothing: its node counts as idle.
    /// - A swap that can no longer succeed is forgotten, and so is a lease that has
    ///   ended and whose holder is at nothing any more.
    ///
    /// And unless full detail is asked for:
    ///
    /// - Nodes are alike, so they are sorted.
    /// - Once there is a cell, it stays, and guards bar nobody that matters:
    ///   whoever wins them reads again, or has its handle read, finds the cell
    ///   and leaves. So from then on guards count as removed, and nodes that
    ///   have not got past both of these reads count as idle.
    /// - Then, too, the position within a bucket is of no importance.
    /// - Where replies get lost, more is alike:
    ///   [`State::fold_losses`](super::losses).
    pub fn normalise(&mut self, settings: &Settings) {
        while self.now >= EPOCH + BUCKET {
            self.shift();
        }
        self.forget_the_past();
        if settings.detail != Detail::Full && self.cell.is_some() {
            self.fold_creation();
        }
        self.drop_lost_late(settings);
        if settings.has(Safeguard::Nonce) {
            self.fold_lost_swaps();
        }
        self.drop_lost_claims();
        if settings.detail != Detail::Full && settings.behaviour.loses() {
            self.fold_losses(settings);
        }
        self.drop_dead_lease();
        if settings.detail != Detail::Full && settings.has(Safeguard::Fencing) {
            self.fold_lost_fetches();
        }
        self.renumber();
        match settings.detail {
            Detail::Folded => self.processes[..settings.nodes].sort_unstable(),
            Detail::Named | Detail::Full => {}
        }
    }

    fn shift(&mut self) {
        self.now -= BUCKET;
        self.each_time(&mut |time| *time = time.saturating_sub(BUCKET));
        self.each_bucket(&mut |bucket| *bucket = bucket.saturating_sub(1));
        self.guards.rotate_left(1);
        self.guards[BUCKETS - 1] = 0;
    }

    fn forget_the_past(&mut self) {
        let now = self.now;
        self.each_time(&mut |time| {
            // What a clock compares with is over when the lowest reading is
            // past it, and the skew allowed for it.
            if *time + SKEW <= now {
                *time = 0;
            }
        });
        let current = now / BUCKET;
        for (bucket, count) in (0_u8..).zip(&mut self.guards) {
            if bucket < current {
                *count = 0;
            }
        }
        self.each_bucket(&mut |bucket| {
            if *bucket + 1 < current {
                *bucket = 0;
            }
        });
        self.each_record(&mut |record| {
            if record.retry == Some(0) {
                record.retry = None;
            }
        });
    }

    /// See the last two points of [`State::normalise`].
    fn fold_creation(&mut self) {
        self.guards = [0; BUCKETS];
        for at in &mut self.processes {
            match *at {
                At::Claiming
                | At::Guarding { .. }
                | At::Rereading(_)
                | At::Checking(_)
                | At::Creating(_)
                | At::Cleaning {
                    then: Then::Leave, ..
                } => *at = At::Idle,
                At::Cleaning {
                    then: Then::Hold(held, base),
                    ..
                } => *at = At::Holding(held, base),
                At::Idle
                | At::Overwriting(_)
                | At::Swapping(_)
                | At::Reading { .. }
                | At::Reloading(_)
                | At::Holding(..)
                | At::Fetching(..)
                | At::Purging(_) => {}
            }
        }
        self.each_bucket(&mut |bucket| *bucket = 0);
        let past = self.now - EPOCH;
        self.now = EPOCH;
        self.each_time(&mut |time| *time = time.saturating_sub(past));
    }

    fn drop_lost_claims(&mut self) {
        let stored = self.cell;
        for at in &mut self.processes {
            let lost = match at {
                At::Swapping(Write {
                    goal: Goal::Elect { .. },
                    expected: Some(expected),
                    ..
                }) => stored != Some(*expected),
                At::Reading { write, .. } | At::Reloading(write) => match write.goal {
                    Goal::Elect { holder, .. } => {
                        write.bucket == 0
                            && write.new.mark != Mark::Late
                            && stored != Some(write.new)
                            && stored
                                .and_then(|cell| cell.lease)
                                .is_none_or(|lease| lease.holder != holder)
                    }
                    Goal::Renew { .. } | Goal::Settle { .. } | Goal::Purge(_) => false,
                },
                At::Idle
                | At::Claiming
                | At::Guarding { .. }
                | At::Rereading(_)
                | At::Checking(_)
                | At::Creating(_)
                | At::Overwriting(_)
                | At::Swapping(_)
                | At::Cleaning { .. }
                | At::Holding(..)
                | At::Fetching(..)
                | At::Purging(_) => false,
            };
            if lost {
                *at = At::Idle;
            }
        }
    }

    fn fold_lost_swaps(&mut self) {
        let stored = self.cell;
        for at in &mut self.processes {
            match at {
                At::Swapping(write) if write.expected != stored => {
                    write.expected = Some(Record::GONE);
                    write.new = Record::GONE;
                    *at = At::Reading {
                        write: *write,
                        word: Word::Done,
                    };
                }
                At::Reading { write, word } if write.new.mark == Mark::Other => {
                    write.new = Record::GONE;
                    if let (Goal::Purge(kind), Word::Done) = (write.goal, word) {
                        *at = At::Purging(kind);
                    }
                }
                At::Reloading(write) if write.new.mark == Mark::Other => write.new = Record::GONE,
                _ => {}
            }
        }
    }

    fn drop_lost_late(&mut self, settings: &Settings) {
        let Some(late) = &self.late else { return };
        let lost = match late.write.expected {
            Some(expected) => self.cell != Some(expected),
            None => self.cell.is_some() && !(late.overwrites && settings.behaviour.upserts()),
        };
        if lost {
            self.late = None;
            self.each_copy(&mut |copy| {
                if copy.mark == Mark::Late {
                    *copy = Record::GONE;
                }
            });
        }
    }

    /// A node whose lease another has taken may still publish, as far as it
    /// knows. What it fetched is of no importance if that is refused, and if it
    /// is not, another alarm goes off.
    fn fold_lost_fetches(&mut self) {
        let stored = self.cell.and_then(|cell| cell.lease);
        for at in &mut self.processes {
            if let At::Fetching(held, fetch) = at
                && held.loaded == Record::GONE
                && stored.is_none_or(|lease| lease.holder != held.holder)
            {
                *fetch = Fetch {
                    base: None,
                    taint: Taint::Clean,
                };
            }
        }
    }

    fn drop_dead_lease(&mut self) {
        let Some(lease) = self.cell.and_then(|cell| cell.lease) else {
            return;
        };
        let mut used = lease.deadline > 0;
        self.each_held(&mut |held| used |= held.holder == lease.holder);
        self.each_write(&mut |write| match write.goal {
            Goal::Elect { holder, .. } | Goal::Settle { holder, .. } => {
                used |= holder == lease.holder;
            }
            Goal::Renew { .. } | Goal::Purge(_) => {}
        });
        if !used {
            self.each_record(&mut |record| {
                if record.lease == Some(lease) {
                    record.lease = None;
                }
            });
        }
    }

    fn renumber(&mut self) {
        // A bit for every number in use; there are never more than a few.
        let mut used = 0_u64;
        self.each_holder(&mut |holder| used |= 1 << (*holder % 64));
        self.each_holder(&mut |holder| {
            let lower = used & ((1 << (*holder % 64)) - 1) & !1;
            if *holder > 0 {
                *holder = u8::try_from(lower.count_ones() + 1).unwrap_or(u8::MAX);
            }
        });
    }
}
