//! Reading cells.

use super::health::Urgency;
use super::names::cell_id;
use super::{Backing, Cells, Loaded, Place};
use crate::cell::Cell;
use crate::cell::codec::{self, Unreadable};
use crate::purges::Moments;
use crate::store::{Store, StoreError};
use crate::world::{Platform, event};
use bytes::Bytes;
use futures::future::join;

impl<P: Platform> Cells<P> {
    /// Reads the cell of `key`. Never fails: without the shared store, or where a
    /// newer version of the shield has written the cell, it reads the instance's own
    /// store. So it does with a cell that would have to be written while the shared
    /// store is not written, or does not take this cell.
    pub(crate) async fn load(&self, key: &str) -> Loaded {
        let id = cell_id(key);
        match self.load_shared(key, self.urgency_of(&id)).await {
            // A newer version's cell is left to that version.
            Ok(loaded) if loaded.is_newer => self.load_local(key).await,
            Ok(loaded) if self.writes_are_closed() || self.is_refused(&id) => {
                self.beside(loaded).await
            }
            Ok(loaded) if loaded.raw.is_none() && self.is_full() => self.beside(loaded).await,
            Ok(loaded) => loaded,
            Err(_) => self.load_local(key).await,
        }
    }

    /// A read is given up early where memory can answer.
    fn urgency_of(&self, id: &str) -> Urgency {
        let now = self.platform.now();
        match self.recent.borrow().is_fresh(id, now) {
            true => Urgency::Hit,
            false => Urgency::Usual,
        }
    }

    /// Reads the cell of `key`, and beside it the purges that may concern it. Where those are
    /// not to be had, the shared store fails, and the instance's own stands in.
    pub(super) async fn load_with_purges(&self, key: &str) -> Loaded {
        let looking = self.look_for_purges(self.urgency_of(&cell_id(key)));
        match join(self.load(key), looking).await {
            (loaded, true) => loaded,
            (_, false) => self.load_local(key).await,
        }
    }

    /// Reads the cell of `key` from the instance's own store, with what the
    /// instance has read of the shared one lately.
    pub(crate) async fn load_local(&self, key: &str) -> Loaded {
        let own = self.load_own(key).await;
        let now = self.platform.now();
        let recent = self.recent.borrow().cell(&own.id, key);
        match recent {
            Some(cell) => self.merged(own, &cell.bounded(now, &self.bounds)),
            None => own,
        }
    }

    async fn load_own(&self, key: &str) -> Loaded {
        let id = cell_id(key);
        // The instance's own store cannot fail.
        let raw = self.memory.load(&id).await.unwrap_or_default();
        self.decode(id, key, raw, Backing::Local)
    }

    /// What to go on with while the shared store is read and not written.
    ///
    /// A fresh entry of the shared store is as good as ever, and a lease in it is
    /// another instance's that can write. Otherwise the cell would have to be
    /// written: the instance's own store stands in, with what the shared one has.
    async fn beside(&self, shared: Loaded) -> Loaded {
        let now = self.platform.now();
        if shared.has_fresh_entry(now) {
            return shared;
        }
        let own = self.load_own(&shared.key).await;
        let mut merged = match &shared.cell {
            Some(cell) => self.merged(own, cell),
            None => own,
        };
        let skew = self.config.lease.clock_skew;
        let lease = shared.cell.as_ref().and_then(|cell| cell.lease);
        if lease.is_some_and(|lease| lease.is_live(now, skew)) && !merged.has_fresh_entry(now) {
            return shared;
        }
        merged.is_informed = true;
        merged
    }

    /// The instance's own cell, with what the shared store has or had: the later
    /// entry of the two, and the purges of both.
    fn merged(&self, own: Loaded, shared: &Cell) -> Loaded {
        let mut cell = match &own.cell {
            Some(cell) => cell.clone(),
            None => Cell {
                // What another instance has begun is that one's.
                lease: None,
                orphans: Vec::new(),
                ..shared.clone()
            },
        };
        let asked = |cell: &Cell| cell.entry.as_ref().map(|entry| entry.request_time);
        if asked(shared) > asked(&cell) {
            cell.entry.clone_from(&shared.entry);
            cell.marks.resident.clone_from(&shared.marks.resident);
        }
        // What either knows: with too few fields, a question would find the answer to
        // another. With more than the resident was stored under, it is not found.
        for selecting in &shared.marks.vary {
            if cell.marks.vary.iter().all(|own| own.name != selecting.name) {
                cell.marks.vary.push(selecting.clone());
            }
        }
        let (own_marks, marks) = (&mut cell.marks, &shared.marks);
        own_marks.invalidated = own_marks.invalidated.max(marks.invalidated);
        own_marks.purged = own_marks.purged.max(marks.purged);
        own_marks.softened = own_marks.softened.max(marks.softened);
        let marks = cell.marks.clone();
        let mut merged = Loaded {
            cell: Some(cell),
            ..own
        };
        self.apply_key_marks(&mut merged, &marks);
        merged.key_purges = Moments::default();
        merged
    }

    /// Reads the cell of `key` from the shared store.
    pub(super) async fn load_shared(
        &self,
        key: &str,
        urgency: Urgency,
    ) -> Result<Loaded, StoreError> {
        let id = cell_id(key);
        let raw = self.load_value(Backing::Shared, &id, urgency).await?;
        let mut loaded = self.decode(id, key, raw, Backing::Shared);
        loaded.is_forced = urgency == Urgency::Forced;
        self.remember(&loaded);
        Ok(loaded)
    }

    /// Remembers a cell of the shared store as it was read or written.
    pub(super) fn remember(&self, loaded: &Loaded) {
        if loaded.backing == Backing::Shared {
            let (raw, cell) = (loaded.raw.as_ref(), loaded.cell.as_ref());
            let now = self.platform.now();
            self.recent.borrow_mut().note(&loaded.id, raw, cell, now);
        }
    }

    /// Reads a cell again, from where it was read.
    pub(crate) async fn reload(&self, loaded: &Loaded) -> Result<Loaded, StoreError> {
        let urgency = match loaded.is_forced {
            true => Urgency::Forced,
            false => Urgency::Usual,
        };
        let raw = self.load_value(loaded.backing, &loaded.id, urgency).await?;
        let current = self.decode(loaded.id.clone(), &loaded.key, raw, loaded.backing);
        self.remember(&current);
        Ok(Loaded {
            is_forced: loaded.is_forced,
            ..current
        })
    }

    /// Reads the cell at a place.
    pub(crate) async fn load_at(&self, place: &Place) -> Result<Loaded, StoreError> {
        match place.backing {
            Backing::Local => Ok(self.load_local(&place.key).await),
            Backing::Shared => self.load_shared(&place.key, Urgency::Usual).await,
        }
    }

    /// Reads a cell of the shared store by its name. `None` if there is no cell, or if it
    /// cannot be decoded.
    pub(super) async fn load_named(&self, id: &str) -> Result<Option<Loaded>, StoreError> {
        let raw = self.load_value(Backing::Shared, id, Urgency::Usual).await?;
        let cell = raw.as_ref().and_then(|raw| codec::decode_any(raw).ok());
        let now = self.platform.now();
        Ok(cell.map(|cell| Loaded {
            id: id.to_owned(),
            key: cell.key.clone(),
            backing: Backing::Shared,
            raw,
            cell: Some(cell.bounded(now, &self.bounds)),
            is_newer: false,
            is_informed: false,
            is_forced: false,
            key_purges: Moments::default(),
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
            is_informed: false,
            is_forced: false,
            key_purges: Moments::default(),
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
