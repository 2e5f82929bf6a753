//! Purges of more than one URL: by prefix, by tag, and of everything.
//!
//! They are moments in one small [`Record`] in the store. A stored response that the origin
//! was asked for before such a moment is purged when it is read, so a purge costs one
//! write, however many responses it concerns.
//!
//! The record is bounded. When it is full, its oldest purge becomes one of everything at
//! that moment: more is purged than was asked for, and never less. What is in use has been
//! asked for since.
//!
//! This module is pure. `cells` reads and writes the record.

mod codec;
mod prefix;
mod tag;

pub use codec::{Unreadable, decode, encode};
pub use prefix::{NoPrefix, PREFIX_BYTES_MAX, Prefix};
pub use tag::{TAG_BYTES_MAX, TAGS_MAX_PER_ANSWER, Tag, tags_of};

use crate::cell::Nonce;
use crate::cell::transition::Purge;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most prefixes in a record.
pub const PREFIXES_MAX: usize = 128;

/// Most tags in a record.
pub const TAGS_MAX: usize = 1_024;

/// What a purge is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All stored responses.
    Everything,
    /// Those whose URL begins with a prefix.
    Prefix(Prefix),
    /// Those with a tag.
    Tag(Tag),
}

/// When something was last purged, in each of the ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moments {
    /// [`Purge::Soft`].
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub softened: Option<Time>,
    /// [`Purge::Invalidate`].
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub invalidated: Option<Time>,
    /// [`Purge::Hard`].
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<Time>,
}

impl Moments {
    /// The moments of one purge.
    pub fn of(purge: Purge, at: Time) -> Self {
        let mut moments = Moments::default();
        match purge {
            Purge::Soft => moments.softened = Some(at),
            Purge::Invalidate => moments.invalidated = Some(at),
            Purge::Hard => moments.purged = Some(at),
        }
        moments
    }

    /// The later moment of both, in each of the ways.
    #[must_use]
    pub fn or(self, other: Moments) -> Self {
        Moments {
            softened: self.softened.max(other.softened),
            invalidated: self.invalidated.max(other.invalidated),
            purged: self.purged.max(other.purged),
        }
    }

    /// Whether nothing was purged.
    pub fn is_empty(self) -> bool {
        self == Moments::default()
    }

    /// All of them.
    pub fn all(self) -> [Option<Time>; 3] {
        [self.softened, self.invalidated, self.purged]
    }

    fn latest(self) -> Option<Time> {
        self.softened.max(self.invalidated).max(self.purged)
    }

    /// None of them after `latest`: those are of a clock that is ahead.
    fn until(self, latest: Time) -> Self {
        let bounded = |moment: Option<Time>| moment.map(|moment| moment.min(latest));
        Moments {
            softened: bounded(self.softened),
            invalidated: bounded(self.invalidated),
            purged: bounded(self.purged),
        }
    }
}

/// When a prefix was last purged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PurgedPrefix {
    #[serde(flatten)]
    prefix: Prefix,
    #[serde(flatten)]
    moments: Moments,
}

/// The purges of more than one URL that all nodes know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Grows by one with every write.
    pub version: u64,
    /// New with every write.
    pub nonce: Option<Nonce>,
    /// Of everything.
    #[serde(default)]
    all: Moments,
    /// Bounded by [`PREFIXES_MAX`].
    #[serde(default)]
    prefixes: Vec<PurgedPrefix>,
    /// Bounded by [`TAGS_MAX`].
    #[serde(default)]
    tags: BTreeMap<Tag, Moments>,
}

impl Record {
    /// Whether nothing was purged.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.prefixes.is_empty() && self.tags.is_empty()
    }

    /// Whether tags were purged.
    pub fn has_tags(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Adds a purge.
    pub fn add(&mut self, scope: &Scope, purge: Purge, at: Time) {
        self.note(scope, Moments::of(purge, at));
        self.fold();
    }

    /// Adds all purges of another record.
    pub fn add_all(&mut self, other: &Record) {
        self.note(&Scope::Everything, other.all);
        for of in &other.prefixes {
            self.note(&Scope::Prefix(of.prefix.clone()), of.moments);
        }
        for (tag, moments) in &other.tags {
            self.note(&Scope::Tag(*tag), *moments);
        }
        self.fold();
    }

    fn note(&mut self, scope: &Scope, moments: Moments) {
        match scope {
            Scope::Everything => self.all = self.all.or(moments),
            Scope::Prefix(prefix) => {
                let known = self.prefixes.iter_mut().find(|of| of.prefix == *prefix);
                match known {
                    Some(of) => of.moments = of.moments.or(moments),
                    None => self.prefixes.push(PurgedPrefix {
                        prefix: prefix.clone(),
                        moments,
                    }),
                }
            }
            Scope::Tag(tag) => {
                let known = self.tags.entry(*tag).or_default();
                *known = known.or(moments);
            }
        }
    }

    /// Makes room: the oldest purges become ones of everything.
    fn fold(&mut self) {
        while self.prefixes.len() > PREFIXES_MAX {
            let by_age = |(_, of): &(usize, &PurgedPrefix)| of.moments.latest();
            let oldest = self.prefixes.iter().enumerate().min_by_key(by_age);
            let Some(index) = oldest.map(|(index, _)| index) else {
                break;
            };
            let folded = self.prefixes.swap_remove(index);
            self.all = self.all.or(folded.moments);
        }
        while self.tags.len() > TAGS_MAX {
            let by_age = |(_, moments): &(&Tag, &Moments)| moments.latest();
            let oldest = self.tags.iter().min_by_key(by_age).map(|(tag, _)| *tag);
            let Some(folded) = oldest.and_then(|tag| self.tags.remove(&tag)) else {
                break;
            };
            self.all = self.all.or(folded);
        }
    }

    /// The record as it counts for who first sees it at `now`: no purge was made later, and
    /// there are no more than there may be.
    #[must_use]
    pub fn seen_at(mut self, now: Time) -> Self {
        self.all = self.all.until(now);
        for of in &mut self.prefixes {
            of.moments = of.moments.until(now);
        }
        for moments in self.tags.values_mut() {
            *moments = moments.until(now);
        }
        self.fold();
        self
    }

    /// When a URL was last purged, tags apart. `host` is the URL's host where it is part of
    /// keys; `target` its canonical path and query.
    pub fn of_url(&self, host: Option<&str>, target: &str) -> Moments {
        let prefixes = self.prefixes.iter();
        let matching = prefixes.filter(|of| of.prefix.matches(host, target));
        matching.fold(self.all, |found, of| found.or(of.moments))
    }

    /// When a tag was last purged.
    pub fn of_tag(&self, tag: Tag) -> Moments {
        self.tags.get(&tag).copied().unwrap_or_default()
    }

    /// How many purges it has, for those who watch.
    pub fn len(&self) -> usize {
        let all = usize::from(!self.all.is_empty());
        all.saturating_add(self.prefixes.len())
            .saturating_add(self.tags.len())
    }
}

#[cfg(test)]
mod tests;
