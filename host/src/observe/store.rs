//! The operations of the store, counted.

use std::time::Instant;

use super::observed;

/// What is done: the label `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value is read.
    Get,
    /// A value is written, whatever was there.
    Set,
    /// A value is written or removed if another is there.
    Swap,
    /// A value is removed.
    Delete,
    /// All keys are listed.
    List,
    /// A number is added to.
    Increment,
    /// The store is opened, or looked at.
    Check,
    /// A statement of a component that uses a SQLite database.
    Sql,
    /// A command of a component that connects to Redis by itself.
    Redis,
}

impl Kind {
    pub(super) const ALL: [Kind; 9] = [
        Kind::Get,
        Kind::Set,
        Kind::Swap,
        Kind::Delete,
        Kind::List,
        Kind::Increment,
        Kind::Check,
        Kind::Sql,
        Kind::Redis,
    ];

    /// The label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Set => "set",
            Kind::Swap => "swap",
            Kind::Delete => "delete",
            Kind::List => "list",
            Kind::Increment => "increment",
            Kind::Check => "check",
            Kind::Sql => "sql",
            Kind::Redis => "redis",
        }
    }
}

/// What became of it: the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Result {
    /// It was done.
    Ok,
    /// A swap found another value.
    Conflict,
    /// It failed, or nobody waited for its end.
    Error,
}

impl Result {
    pub(super) const ALL: [Result; 3] = [Result::Ok, Result::Conflict, Result::Error];

    /// The label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Result::Ok => "ok",
            Result::Conflict => "conflict",
            Result::Error => "error",
        }
    }
}

/// An operation under way. One that is dropped before its end has failed.
#[derive(Debug)]
pub(crate) struct Operation {
    kind: Kind,
    began: Instant,
    result: Result,
}

impl Operation {
    /// Begins it.
    pub(crate) fn begin(kind: Kind) -> Self {
        Operation {
            kind,
            began: Instant::now(),
            result: Result::Error,
        }
    }

    /// It has ended.
    pub(crate) fn end(mut self, result: Result) {
        self.result = result;
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(observed) = observed() {
            let after = self.began.elapsed();
            observed.metrics.stored(self.kind, self.result, after);
        }
    }
}
