//! What happened, for people.

use crate::executor::{Executor, Owner};
use crate::scenario::seconds;
use std::cell::RefCell;

/// The lines of a run; nothing is kept unless somebody will read it.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Option<RefCell<Vec<String>>>,
}

impl Trace {
    /// A trace that keeps lines only if `enabled`.
    pub(crate) fn new(enabled: bool) -> Self {
        Trace {
            lines: enabled.then(RefCell::default),
        }
    }

    /// Adds a line, made only if it is kept.
    pub(crate) fn add(&self, executor: &Executor, owner: Owner, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let place = match owner {
                Owner::World => "world".to_owned(),
                Owner::Instance { node, instance } => format!("node {node} #{instance}"),
            };
            lines.borrow_mut().push(format!(
                "{:>11.6}s  {place:<12} {}",
                seconds(executor.now()),
                line()
            ));
        }
    }

    /// All lines.
    pub(crate) fn take(&self) -> Vec<String> {
        self.lines.as_ref().map(RefCell::take).unwrap_or_default()
    }
}
