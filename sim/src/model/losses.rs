//! The normal form where replies get lost: what a writer that has heard
//! nothing can still learn, and what of a late swap can still matter.

use super::record::{Mark, Record, Taint};
use super::settings::{Purges, Safeguard, Settings};
use super::state::{At, Goal, Late, Outcome, PURGER, State, Word, Write};
use leeward::cell::transition::Purge;

impl State {
    /// Takes states for one that differ in what nobody can notice, where any
    /// reply may be lost. Reading back takes no time, and can always fail.
    ///
    /// - A swap without a writer is what it writes, and whether that settles,
    ///   publishes or purges: what its writer was at is forgotten.
    /// - A swap that was applied, and whose reply was lost, is as one whose reply
    ///   was heard: both writers read back, and either may have that lost.
    /// - A swap that was not applied, or whose cell was replaced: the first read
    ///   decides nothing, or may be lost, and leads to the second.
    /// - If the lease has been lost, too, the second read ends a settlement, and
    ///   has a renewal at most wait for the origin as it did before. Whoever
    ///   waits so beyond its deadline can only be refused.
    /// - A creation, a settlement or a renewal that was not applied to a cell that
    ///   has not changed is given up at the second read. If nobody can change
    ///   the cell but by taking the lease, it counts as given up.
    /// - The entry that a 304 would renew is of no importance unless a hard purge
    ///   may come: an entry renewed is as good as a new one.
    pub(super) fn fold_losses(&mut self, settings: &Settings) {
        if !settings.has(Safeguard::Fencing)
            || !settings.has(Safeguard::Nonce)
            || !settings.has(Safeguard::ReadBack)
        {
            return;
        }
        if let Some(late) = &mut self.late {
            late.forget_the_writer();
        }
        for place in (0..settings.nodes).chain([PURGER]) {
            self.fold_read_back(settings, place);
            self.fold_waiting(place);
        }
        if !matches!(settings.purges, Purges::Only(Purge::Hard) | Purges::Mixed) {
            self.each_base(&mut |base| *base = None);
        }
    }

    fn fold_read_back(&mut self, settings: &Settings, place: usize) {
        let (mut write, word) = match self.processes[place] {
            At::Reading { write, word } => (write, Some(word)),
            At::Reloading(write) => (write, None),
            _ => return,
        };
        match write.new.mark {
            Mark::Late => return,
            Mark::Stored => {
                write.expected = Some(Record::GONE);
                self.processes[place] = match word {
                    Some(_) => At::Reading {
                        write,
                        word: Word::Done,
                    },
                    None => At::Reloading(write),
                };
                return;
            }
            Mark::Other => {}
        }
        let unchanged = write.expected == self.cell;
        if !unchanged {
            write.expected = Some(Record::GONE);
        }
        let only_by_taking = settings.purges == Purges::None && self.late.is_none();
        let next = match write.goal {
            Goal::Elect { .. } if write.expected.is_none() && unchanged => At::Idle,
            Goal::Settle { holder, .. } if self.lost(holder) || (unchanged && only_by_taking) => {
                At::Idle
            }
            Goal::Renew { held, fetch, .. }
                if self.lost(held.holder) || (unchanged && only_by_taking) =>
            {
                At::Fetching(held, fetch)
            }
            Goal::Elect { .. } | Goal::Settle { .. } | Goal::Renew { .. } | Goal::Purge(_) => {
                At::Reloading(write)
            }
        };
        self.processes[place] = next;
    }

    fn fold_waiting(&mut self, place: usize) {
        if let At::Fetching(held, _) = self.processes[place]
            && held.loaded == Record::GONE
            && held.deadline <= self.now
            && self.lost(held.holder)
        {
            self.processes[place] = At::Idle;
        }
    }

    /// Whether the stored cell does not have the holder's lease.
    fn lost(&self, holder: u8) -> bool {
        self.cell
            .and_then(|cell| cell.lease)
            .is_none_or(|lease| lease.holder != holder)
    }
}

impl Late {
    fn forget_the_writer(&mut self) {
        self.write = Write {
            goal: match self.write.goal {
                Goal::Elect { holder, .. } => Goal::Elect {
                    holder,
                    deadline: 0,
                },
                // The store does not know one from the other.
                Goal::Renew { held, .. } => Goal::Elect {
                    holder: held.holder,
                    deadline: 0,
                },
                Goal::Settle {
                    holder,
                    outcome: Outcome::Publish(_),
                } => Goal::Settle {
                    holder,
                    outcome: Outcome::Publish(Taint::Clean),
                },
                Goal::Settle { .. } | Goal::Purge(_) => self.write.goal,
            },
            bucket: 0,
            ..self.write
        };
    }
}
