//! What goes wrong: lost replies, crashes, late swaps, guards that miscount.

use super::action::Fate;
use super::record::{Mark, Record, Taint};
use super::settings::{Behaviour, Safeguard};
use super::state::{At, Goal, Kind, Late, PURGER, Word, Write};
use super::step::{Stepper, cleaned, leave_first_guard, leave_guards};

impl Stepper<'_> {
    /// The second of two concurrent increments hears 1 as well.
    pub(super) fn twice(&mut self, place: usize) -> bool {
        let At::Guarding { write, second } = self.state.processes[place] else {
            return false;
        };
        let bucket = write.bucket + u8::from(second);
        if self.settings.behaviour != Behaviour::DoubledGuard
            || self.state.guard(bucket).is_none_or(|count| *count != 1)
        {
            return false;
        }
        self.increment(&write, second);
        self.state.processes[place] = self.guarded(write, second, true);
        true
    }

    /// An increment fails, and has not counted.
    pub(super) fn contend(&mut self, place: usize) -> bool {
        let At::Guarding { write, second } = self.state.processes[place] else {
            return false;
        };
        self.state.processes[place] = leave_first_guard(&write, second);
        self.settings.behaviour == Behaviour::ContendedGuard
    }

    pub(super) fn lose(&mut self, place: usize, fate: Fate) -> bool {
        let next = match self.state.processes[place] {
            At::Guarding { write, second } => {
                if fate == Fate::Applied {
                    self.increment(&write, second);
                }
                leave_first_guard(&write, second)
            }
            At::Rereading(write) => leave_guards(&write),
            At::Creating(mut write) | At::Overwriting(mut write) | At::Swapping(mut write) => {
                match fate {
                    Fate::Applied => {
                        let creating = matches!(self.state.processes[place], At::Creating(_));
                        if creating && self.state.cell.is_some() {
                            return false;
                        }
                        self.apply(&mut write);
                    }
                    Fate::Dropped => {}
                    Fate::Later => {
                        write.new.mark = Mark::Late;
                        self.leave(place, fate);
                    }
                }
                self.said(write, Word::Error)
            }
            At::Reading { write, .. } => At::Reloading(write),
            At::Reloading(write) => self.failed(write),
            At::Cleaning {
                bucket,
                second,
                then,
            } => cleaned(bucket, second, then),
            At::Purging(kind) => return self.lose_purge(place, kind, fate),
            At::Idle | At::Claiming | At::Checking(_) | At::Holding(..) | At::Fetching(..) => {
                return false;
            }
        };
        self.state.processes[place] = next;
        true
    }

    /// The purger's read is lost, or its swap.
    fn lose_purge(&mut self, place: usize, kind: Kind, fate: Fate) -> bool {
        let next = match (fate, self.state.cell) {
            (Fate::Dropped, _) if self.has(Safeguard::PurgeReport) => {
                self.taint(kind.into(), Taint::Suspect, Taint::Clean);
                At::Idle
            }
            // Purges the instance's own store.
            (Fate::Dropped, _) => self.acknowledge(kind.into()),
            (Fate::Applied | Fate::Later, None) => return false,
            (Fate::Applied, Some(cell)) => {
                let mut write = self.purge(kind.into(), cell);
                self.apply(&mut write);
                self.said(write, Word::Error)
            }
            (Fate::Later, Some(cell)) => {
                let mut write = self.purge(kind.into(), cell);
                write.new.mark = Mark::Late;
                self.state.late = Some(Late {
                    write,
                    overwrites: false,
                });
                self.said(write, Word::Error)
            }
        };
        self.state.processes[place] = next;
        true
    }

    /// Gives up the swap that a process is at; it may reach the store later.
    pub(super) fn leave(&mut self, place: usize, fate: Fate) {
        let (write, overwrites) = match self.state.processes[place] {
            At::Creating(write) | At::Swapping(write) => (write, false),
            At::Overwriting(write) => (write, true),
            At::Purging(kind) => match self.state.cell {
                Some(cell) => (self.purge(kind.into(), cell), false),
                None => return,
            },
            _ => return,
        };
        if fate == Fate::Later {
            self.state.late = Some(Late {
                write: Write {
                    new: Record {
                        mark: Mark::Late,
                        ..write.new
                    },
                    ..write
                },
                overwrites,
            });
        }
    }

    pub(super) fn crash(&mut self, place: usize, fate: Fate) -> bool {
        self.leave(place, fate);
        let at = self.state.processes[place];
        if place == PURGER {
            // Nobody will hear that it was done.
            let kind = match at {
                At::Purging(kind) => Some(kind),
                At::Swapping(write) | At::Reading { write, .. } | At::Reloading(write) => {
                    match write.goal {
                        Goal::Purge(kind) => Some(kind),
                        Goal::Elect { .. } | Goal::Renew { .. } | Goal::Settle { .. } => None,
                    }
                }
                _ => None,
            };
            if let Some(kind) = kind {
                self.taint(kind.into(), Taint::Suspect, Taint::Clean);
            }
        }
        self.state.processes[place] = At::Idle;
        true
    }

    /// A swap whose writer has given up reaches the store.
    pub(super) fn land(&mut self) -> bool {
        let Some(mut late) = self.state.late.take() else {
            return false;
        };
        if late.write.expected.is_none() && self.settings.behaviour.upserts() && !late.overwrites {
            if self.state.cell.is_none() {
                late.overwrites = true;
                self.state.late = Some(late);
            }
            return true;
        }
        let done = self.apply(&mut late.write);
        let landed = if done { late.write.new } else { Record::GONE };
        self.state.each_copy(&mut |copy| {
            if copy.mark == Mark::Late {
                *copy = landed;
            }
        });
        true
    }
}
