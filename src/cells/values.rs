//! Values in the store as they are: cells before they are decoded, and chunks.

use super::{Backing, Cells};
use crate::store::{Store, StoreError};
use crate::world::Platform;
use bytes::Bytes;

impl<P: Platform> Cells<P> {
    /// Reads a value.
    pub(super) async fn load_value(
        &self,
        backing: Backing,
        name: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        match backing {
            Backing::Local => self.memory.load(name).await,
            Backing::Shared => self.noting("load", self.platform.store().load(name)).await,
        }
    }

    /// Reads a value beside the cells that a cell says is there.
    pub(super) async fn load_put(
        &self,
        backing: Backing,
        name: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        match backing {
            Backing::Local => self.memory.load(name).await,
            Backing::Shared => {
                let loading = self.platform.store().load_put(name);
                self.noting("load", loading).await
            }
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
                let putting = self.platform.store().put(name, value);
                self.noting("put", putting).await
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
                let removing = self.platform.store().remove(name);
                self.noting("remove", removing).await
            }
        }
    }
}
