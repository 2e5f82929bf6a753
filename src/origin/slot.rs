//! The right to have one request in flight at the origin, as a value.

use crate::budget::{Class, Outcome, Report};
use std::fmt;
use std::rc::Rc;

/// Where slots come from and go back to.
pub(super) trait Pool {
    /// A slot is no longer in use.
    fn give_back(&self, grant: u64, class: Class);

    /// A slot is used for an answer that does not end. Returns `false` if there are too
    /// many.
    fn become_stream(&self, grant: u64, class: Class) -> bool;
}

/// The right to have one request in flight at the origin. The request and the body of its
/// answer keep it. When it is dropped, another request of the instance may go. If
/// the instance dies, the slot expires.
pub struct Slot {
    pool: Rc<dyn Pool>,
    grant: u64,
    class: Class,
    /// A hash of the path that it was taken for.
    target: u32,
    /// The breaker's epoch in which it was taken.
    epoch: u32,
}

impl Slot {
    pub(super) fn new(
        pool: Rc<dyn Pool>,
        grant: u64,
        class: Class,
        target: u32,
        epoch: u32,
    ) -> Self {
        Slot {
            pool,
            grant,
            class,
            target,
            epoch,
        }
    }

    /// A hash of the path that it was taken for.
    pub(super) fn target(&self) -> u32 {
        self.target
    }

    /// What it was taken for, or a stream.
    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// Whether it counts in `origin.max_streams`.
    pub(super) fn is_stream(&self) -> bool {
        self.class == Class::Stream
    }

    /// What became of the request.
    pub(super) fn report(&self, outcome: Outcome) -> Report {
        Report {
            outcome,
            target: self.target,
            epoch: self.epoch,
        }
    }

    /// Counts the request as one without an end: from now on it counts in
    /// `origin.max_streams` and not in the budget. Returns `false` if there are
    /// too many of them.
    pub(crate) fn become_stream(&mut self) -> bool {
        if self.is_stream() {
            return true;
        }
        let may = self.pool.become_stream(self.grant, self.class);
        if may {
            self.class = Class::Stream;
        }
        may
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.give_back(self.grant, self.class);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}
