//! The nodes' wall clocks, each off by its own amount.

use crate::executor::Executor;
use leeward::time::Time;
use std::cell::RefCell;

/// Where virtual time begins, in milliseconds since the epoch.
const BEGINNING: u64 = 1_800_000_000_000;

/// All clocks.
#[derive(Debug)]
pub(crate) struct Clocks {
    executor: Executor,
    offsets: RefCell<Vec<i64>>,
}

impl Clocks {
    /// Clocks that are off by these numbers of milliseconds.
    pub(crate) fn new(executor: Executor, offsets: Vec<i64>) -> Self {
        Clocks {
            executor,
            offsets: RefCell::new(offsets),
        }
    }

    /// The right time.
    pub(crate) fn truth(&self) -> Time {
        Time::from_unix_millis(BEGINNING + self.executor.now() / 1_000)
    }

    /// The time by a node's clock.
    pub(crate) fn at(&self, node: usize) -> Time {
        let offset = self.offsets.borrow().get(node).copied().unwrap_or(0);
        Time::from_unix_millis(self.truth().as_unix_millis().saturating_add_signed(offset))
    }

    /// Sets a node's clock forward or back.
    pub(crate) fn jump(&self, node: usize, millis: i64) {
        if let Some(offset) = self.offsets.borrow_mut().get_mut(node) {
            *offset += millis;
        }
    }
}
