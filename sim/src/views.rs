//! What each node sees of a store that shows writes late: one that copies them
//! between its regions in its own time, where the last write that it takes wins.

use crate::executor::{Executor, Micros, micros};
use crate::scenario::{FaultKind, Scenario};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long a write may be on its way to the store, which is part of the write
/// delay.
const ARRIVAL_MAX: Micros = 10_000;

/// A write that the store has taken.
#[derive(Debug)]
struct Written {
    /// None where the value was removed.
    value: Option<Bytes>,
    /// From when on each node sees it.
    visible: Vec<Micros>,
}

/// The writes of each key in the order in which the store took them, from the
/// last one on that all nodes see.
#[derive(Debug)]
pub(crate) struct Views {
    executor: Executor,
    scenario: Rc<Scenario>,
    written: RefCell<BTreeMap<String, Vec<Written>>>,
}

impl Views {
    pub(crate) fn new(executor: Executor, scenario: Rc<Scenario>) -> Self {
        Views {
            executor,
            scenario,
            written: RefCell::default(),
        }
    }

    /// The store has taken a write.
    pub(crate) fn write(&self, key: &str, value: Option<Bytes>) {
        let now = self.executor.now();
        let most = self.delay_max(now);
        let nodes = self.scenario.offsets.len();
        let visible = (0..nodes)
            .map(|_| now + self.executor.random(|rng| rng.u64(0..=most)))
            .collect();
        let mut written = self.written.borrow_mut();
        let writes = written.entry(key.to_owned()).or_default();
        writes.push(Written { value, visible });
        let everywhere = |write: &Written| write.visible.iter().all(|at| *at <= now);
        if let Some(last) = writes.iter().rposition(everywhere) {
            writes.drain(..last);
        }
    }

    /// What a node sees. Never goes back: what was taken later and is visible
    /// hides what was taken before.
    pub(crate) fn read(&self, key: &str, node: usize) -> Option<Bytes> {
        self.read_since(key, node, self.executor.now())
    }

    /// What a node sees, if it has seen it since then.
    pub(crate) fn read_since(&self, key: &str, node: usize, since: Micros) -> Option<Bytes> {
        let written = self.written.borrow();
        let writes = written.get(key)?;
        let mut seen = writes
            .iter()
            .rev()
            .filter(|write| write.visible.get(node).is_none_or(|at| *at <= since));
        seen.next()?.value.clone()
    }

    /// How long a write that is taken now may stay invisible.
    fn delay_max(&self, now: Micros) -> Micros {
        let faults = self.scenario.faults.iter();
        let late = faults.filter_map(|fault| match fault.kind {
            FaultKind::Late { most } if (fault.from..fault.to).contains(&now) => Some(micros(most)),
            _ => None,
        });
        let usual = micros(self.scenario.visible_within).saturating_sub(ARRIVAL_MAX);
        late.max().unwrap_or(usual)
    }
}
