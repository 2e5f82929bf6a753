//! Applying transitions to cells: a swap of what was read for what it becomes.

use super::health::Urgency;
use super::values::check_size;
use super::{Backing, Cells, Loaded, doubled};
use crate::cell::transition::Fenced;
use crate::cell::{Cell, codec};
use crate::store::health::{Part, Shown};
use crate::store::{Store, StoreError, Swap};
use crate::time::Time;
use crate::world::Platform;
use bytes::Bytes;
use std::time::Duration;

/// How often a holder tries to settle its lease against others' swaps. Only
/// purges and new variants can change a cell whose lease is live, so a second
/// attempt is rare.
const SETTLE_ATTEMPTS: u32 = 8;

/// For how long a holder begins further attempts.
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// The longest pause after the second conflict; it doubles with each further
/// conflict. Where a swap takes long, several writers that try at the same pace
/// could undo each other's writes for ever.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// The longest that this pause becomes.
const SETTLE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long to wait before a value is read again that should have changed.
const READ_BACK_PAUSE: Duration = Duration::from_millis(100);

/// How a swap ended.
pub(super) enum Applied {
    Done(Loaded),
    Conflict(Loaded),
    Busy(Time),
    Failed,
    /// The store does not take the cell: it is too large.
    Refused,
}

/// How settling a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The store has it.
    Done,
    /// The lease was not ours any more: what we have may not be stored.
    Fenced(Fenced),
    /// The store fails: the lease will expire.
    Failed,
    /// The store does not take what was to be stored. The lease is as it was.
    Refused,
}

impl Settled {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Settled::Done => "done",
            Settled::Fenced(Fenced::Lost) => "fenced",
            Settled::Fenced(Fenced::Purged) => "purged",
            Settled::Failed => "store-failed",
            Settled::Refused => "store-refused",
        }
    }
}

impl<P: Platform> Cells<P> {
    /// Applies a transition that needs no lease; none means that there is
    /// nothing to do.
    pub(super) async fn apply(
        &self,
        loaded: Loaded,
        transition: impl Fn(Option<&Cell>) -> Option<Cell>,
    ) -> Settled {
        let (settled, _) = self
            .settle(
                loaded,
                |cell| transition(cell).ok_or(Fenced::Lost),
                |_| false,
            )
            .await;
        match settled {
            Settled::Fenced(_) => Settled::Done,
            Settled::Done | Settled::Failed | Settled::Refused => settled,
        }
    }

    /// Applies `transition` to the cell until the swap is done or the
    /// transition refuses. `is_ours` recognises, in a cell that another has
    /// written since, that our swap had been done before.
    pub(super) async fn settle(
        &self,
        mut loaded: Loaded,
        transition: impl Fn(Option<&Cell>) -> Result<Cell, Fenced>,
        is_ours: impl Fn(&Cell) -> bool,
    ) -> (Settled, Loaded) {
        let start = self.platform.now();
        for attempt in 0..SETTLE_ATTEMPTS {
            if let Some(doublings) = attempt.checked_sub(2) {
                if self.platform.now().since(start) >= SETTLE_TIME {
                    break;
                }
                let pause = doubled(SETTLE_PAUSE, doublings).min(SETTLE_PAUSE_MAX);
                self.platform.sleep(self.up_to(pause)).await;
            }
            let cell = match transition(loaded.cell.as_ref()) {
                Ok(cell) => cell,
                Err(fenced) => return (Settled::Fenced(fenced), loaded),
            };
            match self.swap(&loaded, cell).await {
                Applied::Done(loaded) => return (Settled::Done, loaded),
                Applied::Conflict(current) if current.cell.as_ref().is_some_and(&is_ours) => {
                    return (Settled::Done, current);
                }
                Applied::Conflict(current) => loaded = current,
                Applied::Busy(_) | Applied::Failed => return (Settled::Failed, loaded),
                Applied::Refused => return (Settled::Refused, loaded),
            }
        }
        (Settled::Failed, loaded)
    }

    /// Swaps `cell` in for what was read.
    pub(super) async fn swap(&self, loaded: &Loaded, cell: Cell) -> Applied {
        let encoded = codec::encode(&cell)
            .map_err(|error| StoreError::refused(error.to_string()))
            .and_then(|new| check_size(&loaded.id, &new).map(|()| new));
        let new = match encoded {
            Ok(new) => new,
            Err(error) => return self.refuse(loaded, &error),
        };
        match loaded.backing {
            Backing::Shared => self.swap_shared(loaded, cell, new).await,
            Backing::Local => {
                let expected = loaded.raw.as_ref();
                let swapped = self.memory.swap(&loaded.id, expected, &new).await;
                match swapped {
                    Ok(Swap::Done) => Applied::Done(done(loaded, new, cell)),
                    Ok(Swap::Conflict(current)) => Applied::Conflict(self.now(loaded, current)),
                    // The instance's own store has neither.
                    Ok(Swap::Busy { .. }) | Err(_) => Applied::Failed,
                }
            }
        }
    }

    async fn swap_shared(&self, loaded: &Loaded, cell: Cell, new: Bytes) -> Applied {
        let expected = loaded.raw.as_ref();
        let urgency = match loaded.is_forced {
            true => Urgency::Forced,
            false => Urgency::Usual,
        };
        let started = self.platform.now();
        let swapping = self.platform.store().swap(&loaded.id, expected, &new);
        let Ok((access, swapped)) = self.writing(urgency, swapping).await else {
            return Applied::Failed;
        };
        self.note_swap_time(self.platform.now().since(started));
        let note = |outcome| self.note(Part::Writes, access, outcome, "swap");
        let error = match swapped {
            Ok(Swap::Done) => {
                note(Ok(Shown::Works));
                let done = done(loaded, new, cell);
                self.remember(&done);
                return Applied::Done(done);
            }
            Ok(Swap::Conflict(current)) if current.as_ref() != expected => {
                note(Ok(Shown::Nothing));
                return Applied::Conflict(self.now(loaded, current));
            }
            Ok(Swap::Busy { retry_at }) => {
                note(Ok(Shown::Nothing));
                return Applied::Busy(retry_at);
            }
            // Nobody has written, and nothing is written. The store may show a write
            // a moment later than it says.
            Ok(Swap::Conflict(_)) => {
                self.platform.sleep(READ_BACK_PAUSE).await;
                StoreError::new("a swap succeeded or conflicted, and the value stayed as it was")
            }
            Err(error) if error.is_refusal() => {
                note(Err(&error));
                return self.refuse(loaded, &error);
            }
            Err(error) => error,
        };
        // The outcome is unknown: what is stored decides.
        match self.reload(loaded).await {
            Ok(current) if current.raw.as_ref() == Some(&new) => {
                note(Ok(Shown::Nothing));
                Applied::Done(current)
            }
            Ok(current) if current.differs(loaded) => {
                note(Ok(Shown::Nothing));
                Applied::Conflict(current)
            }
            Ok(_) | Err(_) => {
                note(Err(&error));
                Applied::Failed
            }
        }
    }

    /// The store does not take a cell.
    fn refuse(&self, loaded: &Loaded, error: &StoreError) -> Applied {
        self.note_refusal(&loaded.id, &loaded.key, error);
        Applied::Refused
    }

    /// The cell as another has left it.
    fn now(&self, loaded: &Loaded, current: Option<Bytes>) -> Loaded {
        let current = self.decode(loaded.id.clone(), &loaded.key, current, loaded.backing);
        self.remember(&current);
        Loaded {
            is_forced: loaded.is_forced,
            ..current
        }
    }
}

fn done(loaded: &Loaded, new: Bytes, cell: Cell) -> Loaded {
    Loaded {
        raw: Some(new),
        cell: Some(cell),
        ..loaded.clone()
    }
}
