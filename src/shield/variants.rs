//! The list of a key's variants, which keeps them within `limits.variants`.
//!
//! It lies in a cell of its own, which is read when a variant is stored or
//! refreshed, and written when one is stored for the first time; hits do not pay
//! for it. A variant is listed before it is published, and struck off the list
//! only after its cell has been emptied, so a crash in between leaves none that
//! nobody knows of. One that could not be listed, because the store failed, is
//! when it is next refreshed. The oldest goes: to know which is used least, every
//! hit would have to write.
//!
//! An emptied cell stays where it is, as every cell does; it is small.

use super::cells::{Backing, cell_id};
use super::lookup::VARIANT;
use super::platform::Platform;
use super::{Shield, event};
use crate::cell::Orphan;
use futures::future::select;
use std::pin::pin;

/// Most variants that are emptied for one that comes: one, but for those that
/// came at the same time, and after the limit was lowered.
const EVICTIONS_MAX: usize = 8;

/// Listing may take this part of a lease: the variant waits for it, and those who
/// wait for the variant.
const LISTING_PART: u32 = 4;

/// The key of the cell that lists the variants of `key`: unlike any primary
/// key, and any variant's.
fn list_key(key: &str) -> String {
    format!("{key}\nvariants")
}

impl<P: Platform> Shield<P> {
    /// Lists a variant of `key` that is about to be stored, and empties the
    /// oldest where there are too many. Where that takes long, because many come
    /// at once or the store is slow, the variant is listed when it is refreshed.
    pub(super) async fn enlist(&self, key: &str, variant: &str) {
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
        if listed.contains(&id) {
            return;
        }
        let surplus = listed
            .len()
            .saturating_add(1)
            .saturating_sub(self.config.limits.variants)
            .min(EVICTIONS_MAX);
        let (mut evicted, mut litter) = (Vec::new(), Vec::new());
        for oldest in listed.iter().take(surplus) {
            if let Some(orphans) = self.evict(key, oldest).await {
                evicted.push(oldest.clone());
                litter.extend(orphans);
            }
        }
        let removed = self.collect(&list).await;
        self.list(list, &id, &evicted, &litter, &removed).await;
    }

    /// Empties the cell of a variant and says what is left of its bodies; none
    /// if the store fails.
    async fn evict(&self, key: &str, id: &str) -> Option<Vec<Orphan>> {
        let Some(variant) = self.load_named(id).await.ok()? else {
            return Some(Vec::new());
        };
        // A damaged list may name what is not this key's.
        if !is_variant_of(&variant.key, key) {
            return Some(Vec::new());
        }
        self.platform.log(&event(
            "variant-evicted",
            &[("key", variant.key.as_str().into())],
        ));
        self.empty(variant).await
    }
}

fn is_variant_of(variant: &str, key: &str) -> bool {
    variant
        .strip_prefix(key)
        .is_some_and(|rest| rest.starts_with(VARIANT))
}
