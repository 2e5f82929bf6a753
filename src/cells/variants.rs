//! The list of a key's variants, which keeps them within `limits.variants`.
//!
//! The list is a cell of its own. It is read when a variant is stored or
//! refreshed, and written when one is stored for the first time; hits do not need
//! it. A variant is listed before it is published, and removed from the list only
//! after its cell has been emptied, so a crash in between leaves no variant that
//! is not listed. One that could not be listed, because the store failed, is
//! listed when it is next refreshed.
//!
//! The oldest variant that was asked for once is evicted first, so that made-up
//! values do not evict the variants in use. A variant is marked as asked for again
//! at its first hit, once.
//!
//! An emptied cell remains, as every cell does; it is small.

use super::names::{cell_id, is_variant_of, list_key};
use super::{Backing, Cells, Loaded, Settled};
use crate::cell::transition::{self, Fenced, Listing, Purge};
use crate::cell::{Cell, Orphan};
use crate::world::{Platform, event};
use futures::future::select;
use std::pin::pin;

/// Most variants that are emptied for a new one. One is enough, unless several
/// were stored at the same time or the limit was lowered.
const EVICTIONS_MAX: usize = 8;

/// Listing may take this part of a lease: the variant, and the requests that wait
/// for it, wait for the listing.
const LISTING_PART: u32 = 4;

/// Most variants that are spared for a new one because they have been asked for
/// again; further ones are not looked at.
const SPARED_MAX: usize = 16;

/// What became of a variant that was to be evicted.
enum Evicted {
    /// Its cell is empty, and this is left of its bodies.
    Gone(Vec<Orphan>),
    /// It has been asked for again.
    InUse,
    /// The store failed.
    Failed,
}

impl<P: Platform> Cells<P> {
    /// Lists a variant of `key` that is about to be stored, and empties the
    /// oldest where there are too many. Where that takes long, because many come
    /// at once or the store is slow, the variant is listed when it is refreshed.
    pub(crate) async fn enlist(&self, key: &str, variant: &str) {
        let most = self.config.lease.duration / LISTING_PART;
        let timeout = self.platform.sleep(most);
        // What is cut short may be stored or not, and both are right.
        let _ = select(pin!(self.list_variant(key, variant)), pin!(timeout)).await;
    }

    async fn list_variant(&self, key: &str, variant: &str) {
        let list = self.load(&list_key(key)).await;
        // An instance's own store keeps itself within bounds.
        if list.backing == Backing::Local {
            return;
        }
        let id = cell_id(variant);
        let listed = list
            .cell
            .as_ref()
            .map_or(&[][..], |cell| &cell.marks.variants);
        if listed.iter().any(|listed| listed.id == id) {
            return;
        }
        let surplus = listed
            .len()
            .saturating_add(1)
            .saturating_sub(self.config.limits.variants)
            .min(EVICTIONS_MAX);
        let (mut again, mut evicted, mut garbage) = (Vec::new(), Vec::new(), Vec::new());
        // Those that were asked for once, then those that were asked for again.
        let once = listed.iter().filter(|listed| !listed.again);
        let more = listed.iter().filter(|listed| listed.again);
        let mut spared = 0;
        for candidate in once.chain(more) {
            if evicted.len() >= surplus {
                break;
            }
            let spares = !candidate.again && spared < SPARED_MAX;
            match self.evict(key, &candidate.id, spares).await {
                Evicted::Gone(orphans) => {
                    evicted.push(candidate.id.clone());
                    garbage.extend(orphans);
                }
                Evicted::InUse => {
                    spared += 1;
                    again.push(candidate.id.clone());
                }
                Evicted::Failed => break,
            }
        }
        // Where all turn out to be in use, the oldest of them have to go.
        for id in std::mem::take(&mut again) {
            if evicted.len() >= surplus {
                again.push(id);
                continue;
            }
            match self.evict(key, &id, false).await {
                Evicted::Gone(orphans) => {
                    evicted.push(id);
                    garbage.extend(orphans);
                }
                Evicted::InUse | Evicted::Failed => again.push(id),
            }
        }
        let removed = self.collect(&list).await;
        let listing = Listing {
            added: &id,
            again: &again,
            evicted: &evicted,
            garbage: &garbage,
            removed: &removed,
        };
        let own = list.key.clone();
        self.apply(list, |cell| {
            transition::enlist(cell, &own, listing, self.nonce())
        })
        .await;
    }

    /// Empties the cell of a variant. With `spares`, not if it has been asked for
    /// again.
    async fn evict(&self, key: &str, id: &str, spares: bool) -> Evicted {
        let Ok(variant) = self.load_named(id).await else {
            return Evicted::Failed;
        };
        let Some(variant) = variant else {
            return Evicted::Gone(Vec::new());
        };
        // A damaged list may name a cell that is not this key's.
        if !is_variant_of(&variant.key, key) {
            return Evicted::Gone(Vec::new());
        }
        let in_use = variant
            .cell
            .as_ref()
            .is_some_and(|cell| cell.marks.asked_again);
        if spares && in_use {
            return Evicted::InUse;
        }
        self.platform.log(&event(
            "variant-evicted",
            &[("key", variant.key.as_str().into())],
        ));
        match self.empty(variant).await {
            Some(orphans) => Evicted::Gone(orphans),
            None => Evicted::Failed,
        }
    }

    /// Drops the entry of a cell, and what is being fetched for it. Says which
    /// bodies the cell has orphaned; none if the store fails.
    async fn empty(&self, loaded: Loaded) -> Option<Vec<Orphan>> {
        let purge = |cell: Option<&Cell>| {
            let cell = cell.ok_or(Fenced::Lost)?;
            Ok(transition::purge(cell, Purge::Hard, self.stamp()))
        };
        let (settled, loaded) = self.settle(loaded, purge, |_| false).await;
        match settled {
            Settled::Failed | Settled::Refused => None,
            Settled::Done | Settled::Fenced(_) => {
                Some(loaded.cell.map(|cell| cell.orphans).unwrap_or_default())
            }
        }
    }
}
