//! Which cell a question has.
//!
//! A key's own cell carries the marks that concern all of its questions, and the
//! entry of one of them, the resident. So a hit on the resident costs one read,
//! and a hit on any other question two. A purge of the key reaches all.

use super::names::variant_key;
use super::{Backing, Cells, Loaded};
use crate::cell::transition;
use crate::cell::{Marks, Selecting};
use crate::purges::Moments;
use crate::question::{Question, Visitor};
use crate::time::Time;
use crate::world::Platform;

/// A question and its cell.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) question: Question,
    pub(crate) loaded: Loaded,
    /// The selecting fields of the key.
    pub(crate) vary: Vec<Selecting>,
    /// Until when the key passes requests with credentials.
    pub(crate) credentials_pass_until: Option<Time>,
    /// The time before which a request with credentials asks the question, where there is no
    /// entry.
    pub(crate) for_everyone_until: Option<Time>,
    /// The question's selector, if its cell is the key's own.
    resident: Option<String>,
}

impl Located {
    /// Whether the question has a cell of its own.
    pub(crate) fn is_variant(&self) -> bool {
        self.resident.is_none()
    }

    /// The selector with which the question takes the key's own cell.
    pub(super) fn resident(&self) -> Option<&str> {
        self.resident.as_deref()
    }
}

impl<P: Platform> Cells<P> {
    /// Reads the cell of the question that a visitor asks. `without_store` reads
    /// the instance's own store alone.
    pub(crate) async fn locate(&self, visitor: &Visitor, without_store: bool) -> Located {
        let key = visitor.key();
        let primary = match without_store {
            true => self.load_local(key).await,
            false => self.load_with_purges(key).await,
        };
        let question = |marks: &Marks| visitor.question(&marks.selecting());
        self.locate_by(primary, question, without_store).await
    }

    async fn locate_by(
        &self,
        mut primary: Loaded,
        question: impl Fn(&Marks) -> Question,
        without_store: bool,
    ) -> Located {
        let marks = match &primary.cell {
            Some(cell) => cell.marks.clone(),
            None => Marks::default(),
        };
        let question = question(&marks);
        let selector = question.selector();
        let credentials_pass_until = marks.credentials_pass_until;
        let for_everyone_until = marks.for_everyone_until;
        if marks
            .resident
            .as_ref()
            .is_none_or(|resident| *resident == selector)
        {
            self.apply_purges(&mut primary);
            return Located {
                question,
                loaded: primary,
                vary: marks.vary,
                credentials_pass_until,
                for_everyone_until,
                resident: Some(selector),
            };
        }
        let name = variant_key(&primary.key, &selector);
        let mut loaded = match (without_store, primary.backing) {
            // What purges the shared store knows of is known then.
            (false, Backing::Local) if primary.is_informed => self.load(&name).await,
            (true, _) | (false, Backing::Local) => self.load_local(&name).await,
            (false, Backing::Shared) => self.load(&name).await,
        };
        self.apply_key_marks(&mut loaded, &marks);
        self.apply_purges(&mut loaded);
        Located {
            question,
            loaded,
            vary: marks.vary,
            credentials_pass_until,
            for_everyone_until,
            resident: None,
        }
    }

    /// Reads the cells of the questions that other visitors ask of the same key, each once,
    /// until `is_useful` says so of one.
    pub(crate) async fn locate_other(
        &self,
        visitor: &Visitor,
        is_useful: impl Fn(&Located) -> bool,
    ) -> Option<Located> {
        let primary = self.load(visitor.key()).await;
        // Nothing is stored for any question of the key.
        primary.cell.as_ref()?;
        let mut seen = Vec::new();
        for other in visitor.others() {
            let question = |marks: &Marks| other.question(&marks.selecting());
            let marks = primary.cell.as_ref().map(|cell| cell.marks.clone());
            let selector = question(&marks.unwrap_or_default()).selector();
            if seen.contains(&selector) {
                continue;
            }
            seen.push(selector);
            let located = self.locate_by(primary.clone(), question, false).await;
            if is_useful(&located) {
                return Some(located);
            }
        }
        None
    }

    /// Applies the marks of a key to the cell of one of its variants.
    pub(super) fn apply_key_marks(&self, loaded: &mut Loaded, marks: &Marks) {
        let moments = Moments {
            softened: marks.softened,
            invalidated: marks.invalidated,
            purged: marks.purged,
        };
        loaded.key_purges = Moments::default();
        self.apply_moments(loaded, moments);
    }

    /// Purges a cell as it was read of what the origin was asked for before one of the moments.
    pub(super) fn apply_moments(&self, loaded: &mut Loaded, moments: Moments) {
        loaded.key_purges = loaded.key_purges.or(moments);
        let now = self.platform.now();
        let Some(cell) = loaded.cell.as_mut() else {
            return;
        };
        let predates = |asked: Time, mark: Option<Time>| self.predates(asked, &[mark]);
        if cell
            .entry
            .as_ref()
            .is_some_and(|entry| predates(entry.request_time, moments.purged))
        {
            cell.drop_entry(now);
        }
        if let Some(entry) = &mut cell.entry {
            if predates(entry.request_time, moments.invalidated) {
                entry.invalidated = true;
            }
            if let Some(softened) = moments.softened
                && predates(entry.request_time, moments.softened)
            {
                // A mark in the future, by this node's clock, would leave it fresh.
                entry.freshness.end_at(softened.min(now));
            }
        }
    }

    /// Has a key learn the selecting fields that an answer to one of its variants
    /// has named, and reads the cell that the question has from then on.
    pub(crate) async fn learn(
        &self,
        key: &str,
        names: &[String],
        question: &Question,
        backing: Backing,
    ) -> Located {
        let load = async || match backing {
            // Where the answer is: a store that has come back in between would
            // have the fields and not the entry.
            Backing::Local => self.load_local(key).await,
            Backing::Shared => self.load(key).await,
        };
        self.apply(load().await, |cell| {
            transition::learn(cell, key, names, self.stamp())
        })
        .await;
        let primary = load().await;
        let without_store = primary.backing == Backing::Local;
        self.locate_by(
            primary,
            |marks| question.under(&marks.selecting()),
            without_store,
        )
        .await
    }

    /// Has a key pass requests with credentials until then.
    pub(crate) async fn pass_credentials(&self, key: &str, until: Time) {
        let loaded = self.load(key).await;
        self.apply(loaded, |cell| {
            transition::pass_credentials(cell, key, until, self.nonce())
        })
        .await;
    }

    /// Has requests with credentials ask the question of a key until then, where there is no
    /// entry.
    pub(crate) async fn note_for_everyone(&self, key: &str, until: Time) {
        let loaded = self.load(key).await;
        self.apply(loaded, |cell| {
            transition::note_for_everyone(cell, key, until, self.nonce())
        })
        .await;
    }

    /// Notes that a variant has been asked for again.
    pub(crate) async fn note_asked_again(&self, loaded: Loaded) {
        // What was read has the marks of the key applied: not to be written.
        let Ok(current) = self.reload(&loaded).await else {
            return;
        };
        self.apply(current, |cell| transition::asked_again(cell?, self.nonce()))
            .await;
    }
}
