//! The origin's record ([`crate::budget`]) in the store.

use super::health::Urgency;
use super::{Backing, Cells};
use crate::store::health::{Part, Shown};
use crate::store::{Store, StoreError, Swap};
use crate::world::Platform;
use bytes::Bytes;

/// Why it is not known whether a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// The store works. Others write the record so often that it does not say.
    Contended,
    /// The store fails, or is being left alone.
    Failed,
}

impl<P: Platform> Cells<P> {
    /// Reads the record named `name`. `None` if the shared store is being left alone,
    /// or fails now.
    pub(crate) async fn load_record(&self, name: &str) -> Option<Option<Bytes>> {
        let loading = self.load_value(Backing::Shared, name, Urgency::Usual);
        loading.await.ok()
    }

    /// Replaces the record named `name`, as a [`Store::swap`].
    ///
    /// # Errors
    ///
    /// The outcome is unknown.
    pub(crate) async fn swap_record(
        &self,
        name: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, Unwritten> {
        let swapping = self.platform.store().swap(name, expected, new);
        let (access, swapped) = self
            .writing(Urgency::Usual, swapping)
            .await
            .map_err(|_| Unwritten::Failed)?;
        let note = |outcome| self.note(Part::Writes, access, outcome, "swap");
        let error = match swapped {
            Ok(Swap::Done) => {
                note(Ok(Shown::Works));
                return Ok(Swap::Done);
            }
            // Nobody has written, and nothing is written.
            Ok(Swap::Conflict(current)) if current.as_ref() == expected => {
                StoreError::new("a swap conflicted, and the value stayed as it was")
            }
            Ok(swap @ (Swap::Conflict(_) | Swap::Busy { .. })) => {
                note(Ok(Shown::Nothing));
                return Ok(swap);
            }
            Err(error) if error.is_contention() => {
                note(Ok(Shown::Nothing));
                return Err(Unwritten::Contended);
            }
            Err(error) => error,
        };
        // The outcome is unknown: what is stored decides.
        match self.load_record(name).await.ok_or(Unwritten::Failed)? {
            Some(current) if current == new => {
                note(Ok(Shown::Nothing));
                Ok(Swap::Done)
            }
            current if current.as_ref() != expected => {
                note(Ok(Shown::Nothing));
                Ok(Swap::Conflict(current))
            }
            _ => {
                note(Err(&error));
                Err(Unwritten::Failed)
            }
        }
    }
}
