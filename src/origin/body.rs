//! The body of an answer of the origin.

use super::Slot;
use crate::budget::{Outcome, Report};
use crate::time::Time;
use crate::world::{Body, OriginError};
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// The body of an answer of the origin, with the slot of its request: the request is in
/// flight until the body has ended. Its beginning may have been read already.
#[derive(Debug)]
pub struct OriginBody<B> {
    beginning: Option<Bytes>,
    rest: Option<B>,
    slot: SharedSlot,
}

/// A slot that a request or its answer's body has, and that others may count as a stream's.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedSlot(Rc<RefCell<Option<Slot>>>);

/// A slot that a request or its answer's body has, as long as that is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct WeakSlot(Weak<RefCell<Option<Slot>>>);

impl WeakSlot {
    /// The slot, unless the body has ended or was given up.
    pub(crate) fn upgrade(&self) -> Option<SharedSlot> {
        let slot = self.0.upgrade()?;
        let is_there = slot.borrow().is_some();
        is_there.then_some(SharedSlot(slot))
    }
}

impl SharedSlot {
    pub(super) fn new(slot: Slot) -> Self {
        SharedSlot(Rc::new(RefCell::new(Some(slot))))
    }

    /// The slot, if it is there; nobody has it here afterwards.
    pub(super) fn take(&self) -> Option<Slot> {
        self.0.borrow_mut().take()
    }

    /// What became of the request.
    pub(super) fn report(&self, outcome: Outcome) -> Option<Report> {
        self.0.borrow().as_ref().map(|slot| slot.report(outcome))
    }

    /// The request is sent at `now`: its slot's token of the rate is used.
    ///
    /// # Errors
    ///
    /// If the token is too old, or the slot is gone.
    pub(super) fn spend(&self, now: Time) -> Result<(), OriginError> {
        match self.0.borrow_mut().as_mut() {
            Some(slot) => slot.spend(now),
            None => Err(OriginError::NotSent("it has no slot any more".to_owned())),
        }
    }

    /// Whether it counts in `origin.max_streams`.
    pub(super) fn is_stream(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(Slot::is_stream)
    }

    /// Puts another slot into the place of this one, which is given back.
    pub(super) fn replace(&self, slot: Slot) {
        let earlier = self.0.borrow_mut().replace(slot);
        drop(earlier);
    }

    /// A handle that does not keep the slot.
    pub(crate) fn downgrade(&self) -> WeakSlot {
        WeakSlot(Rc::downgrade(&self.0))
    }

    /// Counts the answer as one that does not end: it gives its place in the budget
    /// to another request. If there are too many such answers, it keeps its place and
    /// this returns `false`.
    pub(crate) fn become_stream(&self) -> bool {
        self.0.borrow_mut().as_mut().is_none_or(Slot::become_stream)
    }
}

impl<B> OriginBody<B> {
    /// A body that has not been read.
    pub(super) fn new(body: B, slot: SharedSlot) -> Self {
        OriginBody {
            beginning: None,
            rest: Some(body),
            slot,
        }
    }

    /// The body of an answer that has none.
    pub(super) fn empty(slot: SharedSlot) -> Self {
        OriginBody {
            beginning: None,
            rest: None,
            slot,
        }
    }

    /// A body that has no slot, for tests.
    #[cfg(test)]
    pub(crate) fn without_slot(body: B) -> Self {
        OriginBody {
            beginning: None,
            rest: Some(body),
            slot: SharedSlot::default(),
        }
    }

    /// The slot, for another request; the body is not read on.
    pub(crate) fn into_slot(self) -> Option<Slot> {
        self.slot.take()
    }

    /// The slot, while the body is read by another.
    pub(crate) fn slot(&self) -> SharedSlot {
        self.slot.clone()
    }

    /// What has been read.
    pub(crate) fn beginning(&self) -> &[u8] {
        self.beginning.as_deref().unwrap_or_default()
    }

    /// The platform's body, if nothing has been read from it, and the slot, which is to
    /// be kept until the body has ended.
    pub fn into_whole(self) -> Result<(B, Option<Slot>), Self> {
        match self {
            OriginBody {
                beginning: None,
                rest: Some(body),
                slot,
            } => Ok((body, slot.take())),
            body => Err(body),
        }
    }

    pub(super) fn put_back(&mut self, beginning: Bytes) {
        self.beginning = Some(beginning);
    }
}

impl<B: Body> Body for OriginBody<B> {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        if let Some(beginning) = self.beginning.take()
            && !beginning.is_empty()
        {
            return Some(Ok(beginning));
        }
        let next = match self.rest.as_mut() {
            Some(rest) => rest.chunk().await,
            None => None,
        };
        if !matches!(next, Some(Ok(_))) {
            self.rest = None;
            let slot = self.slot.take();
            drop(slot);
        }
        next
    }
}
