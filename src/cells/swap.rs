//! Applying transitions to cells: a swap of what was read for what it becomes.

use super::{Backing, Cells, Loaded, doubled};
use crate::cell::transition::Fenced;
use crate::cell::{Cell, codec};
use crate::store::{Store, StoreError, Swap};
use crate::time::Time;
use crate::world::Platform;
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

/// How a swap ended.
pub(super) enum Applied {
    Done(Loaded),
    Conflict(Loaded),
    Busy(Time),
    Failed,
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
}

impl Settled {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Settled::Done => "done",
            Settled::Fenced(Fenced::Lost) => "fenced",
            Settled::Fenced(Fenced::Purged) => "purged",
            Settled::Failed => "store-failed",
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
            Settled::Done | Settled::Failed => settled,
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
            }
        }
        (Settled::Failed, loaded)
    }

    /// Swaps `cell` in for what was read.
    pub(super) async fn swap(&self, loaded: &Loaded, cell: Cell) -> Applied {
        let new = match codec::encode(&cell) {
            Ok(new) => new,
            Err(error) => {
                let error = StoreError::new(error.to_string());
                self.note_store_failure("encode", &error);
                return Applied::Failed;
            }
        };
        let expected = loaded.raw.as_ref();
        let swapped = match loaded.backing {
            Backing::Shared => {
                self.within(self.platform.store().swap(&loaded.id, expected, &new))
                    .await
            }
            Backing::Local => self.memory.swap(&loaded.id, expected, &new).await,
        };
        match swapped {
            Ok(Swap::Done) => Applied::Done(Loaded {
                raw: Some(new),
                cell: Some(cell),
                ..loaded.clone()
            }),
            Ok(Swap::Conflict(current)) => Applied::Conflict(self.decode(
                loaded.id.clone(),
                &loaded.key,
                current,
                loaded.backing,
            )),
            Ok(Swap::Busy { retry_at }) => Applied::Busy(retry_at),
            // The outcome is unknown: what is stored decides.
            Err(error) => match self.reload(loaded).await {
                Ok(current) if current.raw.as_ref() == Some(&new) => Applied::Done(current),
                Ok(current) if current.differs(loaded) => Applied::Conflict(current),
                Ok(_) | Err(_) => {
                    self.note_store_failure("swap", &error);
                    Applied::Failed
                }
            },
        }
    }
}
