//! The origin's record ([`crate::budget`]) in the store.

use super::{Backing, Cells};
use crate::store::{Store, StoreError, Swap};
use crate::world::Platform;
use bytes::Bytes;

impl<P: Platform> Cells<P> {
    /// Reads the record named `name`. `None` if the shared store is being left alone,
    /// or fails now.
    pub(crate) async fn load_record(&self, name: &str) -> Option<Option<Bytes>> {
        if self.store_is_paused() {
            return None;
        }
        self.load_value(Backing::Shared, name).await.ok()
    }

    /// Replaces the record named `name`, as a [`Store::swap`]. `None` if the shared
    /// store fails: the outcome is unknown.
    pub(crate) async fn swap_record(
        &self,
        name: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Option<Swap> {
        if self.store_is_paused() {
            return None;
        }
        let swapped: Result<Swap, StoreError> = self
            .within(self.platform.store().swap(name, expected, new))
            .await;
        swapped
            .inspect_err(|error| self.note_store_failure("swap", error))
            .ok()
    }
}
