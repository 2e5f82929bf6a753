//! Values in the store as they are: cells before they are decoded, and chunks.

use super::health::Urgency;
use super::{Backing, Cells};
use crate::store::health::{Part, Shown};
use crate::store::{Store, StoreError, VALUE_BYTES_MAX};
use crate::world::Platform;
use bytes::Bytes;

impl<P: Platform> Cells<P> {
    /// Reads a value.
    pub(super) async fn load_value(
        &self,
        backing: Backing,
        name: &str,
        urgency: Urgency,
    ) -> Result<Option<Bytes>, StoreError> {
        match backing {
            Backing::Local => self.memory.load(name).await,
            Backing::Shared => {
                self.reading(urgency, self.platform.store().load(name))
                    .await
            }
        }
    }

    /// Reads a value beside the cells that a cell says is there. A cell in the
    /// instance's memory may name one that the shared store has.
    pub(super) async fn load_put(
        &self,
        backing: Backing,
        name: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        if backing == Backing::Local {
            let value = self.memory.load(name).await?;
            if value.is_some() || self.reads_are_closed() {
                return Ok(value);
            }
        }
        let loading = self.platform.store().load_put(name);
        match (self.reading(Urgency::Usual, loading).await, backing) {
            // Without the shared store it is not there.
            (Err(_), Backing::Local) => Ok(None),
            (result, _) => result,
        }
    }

    /// Writes a value beside the cells, under a name of its own.
    pub(super) async fn put_value(
        &self,
        backing: Backing,
        name: &str,
        value: &Bytes,
    ) -> Result<(), StoreError> {
        match backing {
            Backing::Local => self.memory.put(name, value).await,
            Backing::Shared => {
                check_size(name, value)?;
                self.changing("put", self.platform.store().put(name, value))
                    .await
            }
        }
    }

    /// Removes a value beside the cells.
    pub(super) async fn remove_value(
        &self,
        backing: Backing,
        name: &str,
    ) -> Result<(), StoreError> {
        match backing {
            Backing::Local => self.memory.remove(name).await,
            Backing::Shared => {
                self.changing("remove", self.platform.store().remove(name))
                    .await
            }
        }
    }

    /// Runs an operation that changes the shared store and whose word counts.
    pub(super) async fn changing<T>(
        &self,
        operation: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (access, result) = self.writing(Urgency::Usual, work).await?;
        let outcome = result.as_ref().map(|_| Shown::Works);
        self.note(Part::Writes, access, outcome, operation);
        result
    }
}

/// Refuses a value that is larger than the smallest store takes.
pub(super) fn check_size(name: &str, value: &Bytes) -> Result<(), StoreError> {
    match value.len() <= VALUE_BYTES_MAX {
        true => Ok(()),
        false => Err(StoreError::refused(format!(
            "the value of {name} has {} bytes; a store takes at most {VALUE_BYTES_MAX}",
            value.len()
        ))),
    }
}
