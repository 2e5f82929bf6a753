//! Reading cells.

use super::names::cell_id;
use super::{Backing, Cells, Loaded, Place};
use crate::cell::codec::{self, Unreadable};
use crate::store::{Store, StoreError};
use crate::world::{Platform, event};
use bytes::Bytes;

impl<P: Platform> Cells<P> {
    /// Reads the cell of `key`. Never fails: without the shared store, or where a
    /// newer version of the shield has written the cell, it reads the instance's
    /// own store.
    pub(crate) async fn load(&self, key: &str) -> Loaded {
        if !self.store_is_paused()
            && let Ok(loaded) = self.load_shared(key).await
            // A newer version's cell is left to that version.
            && !loaded.is_newer
        {
            return loaded;
        }
        self.load_local(key).await
    }

    /// Reads the cell of `key` from the instance's own store.
    pub(crate) async fn load_local(&self, key: &str) -> Loaded {
        let id = cell_id(key);
        // The instance's own store cannot fail.
        let raw = self.memory.load(&id).await.unwrap_or_default();
        self.decode(id, key, raw, Backing::Local)
    }

    /// Reads the cell of `key` from the shared store, even in its pause.
    pub(super) async fn load_shared(&self, key: &str) -> Result<Loaded, StoreError> {
        let id = cell_id(key);
        let raw = self.load_value(Backing::Shared, &id).await?;
        Ok(self.decode(id, key, raw, Backing::Shared))
    }

    /// Reads a cell again, from where it was read.
    pub(crate) async fn reload(&self, loaded: &Loaded) -> Result<Loaded, StoreError> {
        let raw = self.load_value(loaded.backing, &loaded.id).await?;
        Ok(self.decode(loaded.id.clone(), &loaded.key, raw, loaded.backing))
    }

    /// Reads the cell at a place.
    pub(crate) async fn load_at(&self, place: &Place) -> Result<Loaded, StoreError> {
        match place.backing {
            Backing::Local => Ok(self.load_local(&place.key).await),
            Backing::Shared => self.load_shared(&place.key).await,
        }
    }

    /// Reads a cell of the shared store by its name. `None` if there is no cell, or if it
    /// cannot be decoded.
    pub(super) async fn load_named(&self, id: &str) -> Result<Option<Loaded>, StoreError> {
        let raw = self.load_value(Backing::Shared, id).await?;
        let cell = raw.as_ref().and_then(|raw| codec::decode_any(raw).ok());
        let now = self.platform.now();
        Ok(cell.map(|cell| Loaded {
            id: id.to_owned(),
            key: cell.key.clone(),
            backing: Backing::Shared,
            raw,
            cell: Some(cell.bounded(now, &self.bounds)),
            is_newer: false,
            key_purges: [None; 3],
        }))
    }

    pub(super) fn decode(
        &self,
        id: String,
        key: &str,
        raw: Option<Bytes>,
        backing: Backing,
    ) -> Loaded {
        let mut is_newer = false;
        let now = self.platform.now();
        let cell = raw.as_ref().and_then(|raw| match codec::decode(raw, key) {
            Ok(cell) => Some(cell.bounded(now, &self.bounds)),
            Err(problem) => {
                is_newer = problem == Unreadable::Newer;
                self.note_unreadable(&id, key, problem);
                None
            }
        });
        Loaded {
            id,
            key: key.to_owned(),
            backing,
            raw,
            cell,
            is_newer,
            key_purges: [None; 3],
        }
    }

    fn note_unreadable(&self, id: &str, key: &str, problem: Unreadable) {
        self.platform.log(&event(
            "cell-unreadable",
            &[
                ("cell", id.into()),
                ("key", key.into()),
                ("problem", problem.to_string().into()),
            ],
        ));
    }
}
