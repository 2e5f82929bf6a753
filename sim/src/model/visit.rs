//! Visiting all times, holders, records and taints of a state.

use super::record::{Record, Taint};
use super::state::{At, Fetch, Goal, Held, Outcome, State, Then, Write};

impl State {
    /// Every record, but not the stored one.
    pub fn each_copy(&mut self, visit: &mut dyn FnMut(&mut Record)) {
        for at in &mut self.processes {
            at.each_copy(visit);
        }
        if let Some(late) = &mut self.late {
            late.write.each_copy(visit);
        }
    }

    pub(super) fn each_record(&mut self, visit: &mut dyn FnMut(&mut Record)) {
        self.cell.iter_mut().for_each(&mut *visit);
        self.each_copy(visit);
    }

    pub(super) fn each_write(&mut self, visit: &mut dyn FnMut(&mut Write)) {
        for at in &mut self.processes {
            at.write_mut().into_iter().for_each(&mut *visit);
        }
        self.late.iter_mut().for_each(|late| visit(&mut late.write));
    }

    pub(super) fn each_held(&mut self, visit: &mut dyn FnMut(&mut Held)) {
        for at in &mut self.processes {
            match at {
                At::Holding(held, _)
                | At::Fetching(held, _)
                | At::Cleaning {
                    then: Then::Hold(held, _),
                    ..
                } => visit(held),
                _ => {}
            }
        }
        self.each_write(&mut |write| {
            if let Goal::Renew { held, .. } = &mut write.goal {
                visit(held);
            }
        });
    }

    pub(super) fn each_holder(&mut self, visit: &mut dyn FnMut(&mut u8)) {
        self.each_record(&mut |record| {
            if let Some(entry) = &mut record.entry {
                visit(&mut entry.lease);
            }
            if let Some(lease) = &mut record.lease {
                visit(&mut lease.holder);
            }
        });
        self.each_held(&mut |held| visit(&mut held.holder));
        self.each_write(&mut |write| match &mut write.goal {
            Goal::Elect { holder, .. } | Goal::Settle { holder, .. } => visit(holder),
            Goal::Renew { .. } | Goal::Purge(_) => {}
        });
    }

    pub(super) fn each_time(&mut self, visit: &mut dyn FnMut(&mut u8)) {
        self.each_record(&mut |record| {
            if let Some(lease) = &mut record.lease {
                visit(&mut lease.deadline);
            }
            record.retry.iter_mut().for_each(&mut *visit);
        });
        self.each_held(&mut |held| visit(&mut held.deadline));
        self.each_write(&mut |write| {
            visit(&mut write.until);
            match &mut write.goal {
                Goal::Elect { deadline, .. } | Goal::Renew { deadline, .. } => visit(deadline),
                Goal::Settle { .. } | Goal::Purge(_) => {}
            }
        });
    }

    pub(super) fn each_bucket(&mut self, visit: &mut dyn FnMut(&mut u8)) {
        self.each_write(&mut |write| visit(&mut write.bucket));
        for at in &mut self.processes {
            if let At::Cleaning { bucket, .. } = at {
                visit(bucket);
            }
        }
    }

    /// Of every lease in use, the entry that a 304 would renew.
    pub(super) fn each_base(&mut self, visit: &mut dyn FnMut(&mut Option<Taint>)) {
        for at in &mut self.processes {
            match at {
                At::Holding(_, base)
                | At::Cleaning {
                    then: Then::Hold(_, base),
                    ..
                } => visit(base),
                At::Fetching(_, fetch) => visit(&mut fetch.base),
                _ => {
                    if let Some(Write {
                        goal: Goal::Renew { fetch, .. },
                        ..
                    }) = at.write_mut()
                    {
                        visit(&mut fetch.base);
                    }
                }
            }
        }
    }

    /// Every taint there is.
    pub fn each_taint(&mut self, visit: &mut dyn FnMut(&mut Taint)) {
        self.each_record(&mut |record| {
            if let Some(entry) = &mut record.entry {
                visit(&mut entry.taint);
            }
        });
        for at in &mut self.processes {
            match at {
                At::Holding(_, base)
                | At::Cleaning {
                    then: Then::Hold(_, base),
                    ..
                } => base.iter_mut().for_each(&mut *visit),
                At::Fetching(_, fetch) => fetch.each_taint(visit),
                _ => {}
            }
        }
        self.each_write(&mut |write| match &mut write.goal {
            Goal::Renew { fetch, .. } => fetch.each_taint(visit),
            Goal::Settle {
                outcome: Outcome::Publish(taint),
                ..
            } => visit(taint),
            Goal::Settle { .. } | Goal::Elect { .. } | Goal::Purge(_) => {}
        });
    }
}

impl Fetch {
    fn each_taint(&mut self, visit: &mut dyn FnMut(&mut Taint)) {
        self.base.iter_mut().for_each(&mut *visit);
        visit(&mut self.taint);
    }
}

impl Write {
    fn each_copy(&mut self, visit: &mut dyn FnMut(&mut Record)) {
        self.expected.iter_mut().for_each(&mut *visit);
        visit(&mut self.new);
        if let Goal::Renew { held, .. } = &mut self.goal {
            visit(&mut held.loaded);
        }
    }
}

impl At {
    fn each_copy(&mut self, visit: &mut dyn FnMut(&mut Record)) {
        match self {
            At::Holding(held, _)
            | At::Fetching(held, _)
            | At::Cleaning {
                then: Then::Hold(held, _),
                ..
            } => visit(&mut held.loaded),
            _ => {
                if let Some(write) = self.write_mut() {
                    write.each_copy(visit);
                }
            }
        }
    }
}
