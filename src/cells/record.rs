//! The origin's record ([`crate::budget`]) in the store.

use super::health::Urgency;
use super::{Backing, Cells};
use crate::store::health::{Part, Shown};
use crate::store::{Store, StoreError, Swap};
use crate::world::Platform;
use bytes::Bytes;

impl<P: Platform> Cells<P> {
    /// Reads the record named `name`. `None` if the shared store is being left alone,
    /// or fails now.
    pub(crate) async fn load_record(&self, name: &str) -> Option<Option<Bytes>> {
        let loading = self.load_value(Backing::Shared, name, Urgency::Usual);
        loading.await.ok()
    }

    /// Replaces the record named `name`, as a [`Store::swap`]. `None` if the shared
    /// store is being left alone, or fails: the outcome is unknown.
    pub(crate) async fn swap_record(
        &self,
        name: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Option<Swap> {
        let swapping = self.platform.store().swap(name, expected, new);
        let (access, swapped) = self.writing(Urgency::Usual, swapping).await.ok()?;
        let swapped = match swapped {
            // Nobody has written, and nothing is written.
            Ok(Swap::Conflict(current)) if current.as_ref() == expected => Err(StoreError::new(
                "a swap conflicted, and the value stayed as it was",
            )),
            swapped => swapped,
        };
        let outcome = match &swapped {
            Ok(Swap::Done) => Ok(Shown::Works),
            Ok(Swap::Conflict(_) | Swap::Busy { .. }) => Ok(Shown::Nothing),
            Err(error) => Err(error),
        };
        self.note(Part::Writes, access, outcome, "swap");
        swapped.ok()
    }
}
