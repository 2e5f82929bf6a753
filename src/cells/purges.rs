//! Purges of more than one URL: the record of them ([`crate::purges`]) as one instance
//! knows it.
//!
//! An instance reads the record beside the cells that it serves from, and no request is
//! answered by what the instance knew [`TRUSTED_FOR`] before: a purge is seen by all nodes
//! within that time. A hit costs no read of its own for it: one read serves all requests of
//! [`READ_EVERY`].
//!
//! What the store has not taken of a purge holds for this instance, and a task repeats the
//! write until the store has it.

use super::health::Urgency;
use super::names::purges_id;
use super::purge::{PAUSED_PATIENCE, PURGE_PAUSE_MAX, PURGE_ROUNDS, Purged};
use super::{Backing, Cells, Loaded, doubled};
use crate::cell::Entry;
use crate::cell::transition::Purge;
use crate::purges::{self, Moments, Record, Scope, Unreadable, tags_of};
use crate::question::parts_of_key;
use crate::question::target::path_of;
use crate::store::health::PAUSE_FIRST;
use crate::store::{STORE_TIMEOUT, Swap};
use crate::time::Time;
use crate::world::{Platform, event};
use bytes::Bytes;
use futures::future::{Either, select};
use http::Method;
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// How old what is known may be before one of the requests reads the record again.
const READ_EVERY: Duration = Duration::from_millis(600);

/// How old it may be for other requests meanwhile.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How often a write that lost to another instance's is repeated at once.
const SWAP_ATTEMPTS: u32 = 8;

/// First pause before such a repetition; doubles, and is cut at random.
const SWAP_PAUSE: Duration = Duration::from_millis(8);

/// What one instance knows of the record.
#[derive(Debug, Default)]
pub(super) struct KnownPurges(RefCell<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What counts: what was read, and what waits to be written.
    counting: Rc<Record>,
    /// As it was read.
    raw: Option<Bytes>,
    /// The store had it at this time or later; none before the first read.
    read: Option<Time>,
    /// When the last read began.
    asked: Option<Time>,
    /// What the store has not taken yet.
    pending: Record,
    /// Whether a task writes that.
    is_retried: bool,
}

impl Known {
    /// Whether a request at `now` has to read the record before it uses what is known.
    fn is_due(&self, now: Time) -> bool {
        let is_recent =
            |moment: Option<Time>| moment.is_some_and(|moment| moment.was_within(READ_EVERY, now));
        !self.is_trusted(now) || !is_recent(self.read) && !is_recent(self.asked)
    }

    /// Whether a request at `now` may use what is known.
    fn is_trusted(&self, now: Time) -> bool {
        self.read
            .is_some_and(|read| read.was_within(TRUSTED_FOR, now))
    }

    /// Notes what the store had at `asked` or later. A read that was overtaken by a later one
    /// shows nothing, unless it shows a later write.
    fn note(&mut self, raw: Option<Bytes>, record: impl FnOnce() -> Record, asked: Time) {
        let is_overtaken = self.read.is_some_and(|read| asked < read);
        if self.raw == raw {
            self.read = self.read.max(Some(asked));
            return;
        }
        let mut record = record();
        if is_overtaken && record.version <= self.counting.version {
            return;
        }
        self.read = self.read.max(Some(asked));
        record.add_all(&self.pending);
        self.counting = Rc::new(record);
        self.raw = raw;
    }

    /// Adds a purge that the store has not taken yet.
    fn add(&mut self, scopes: &[Scope], purge: Purge, at: Time) {
        let mut counting = Record::clone(&self.counting);
        for scope in scopes {
            self.pending.add(scope, purge, at);
            counting.add(scope, purge, at);
        }
        self.counting = Rc::new(counting);
    }
}

impl<P: Platform> Cells<P> {
    /// Purges what the scopes name, now.
    ///
    /// From when it is [`Purged::Stored`] on, requests that arrive at any node
    /// [`TRUSTED_FOR`] later get nothing that the origin was asked for before the call, or
    /// not without what `purge` says of it.
    pub(crate) async fn purge_scopes(self: &Rc<Self>, scopes: &[Scope], purge: Purge) -> Purged {
        let now = self.platform.now();
        self.known_purges.0.borrow_mut().add(scopes, purge, now);
        let patience = match self.store_is_paused() {
            true => PAUSED_PATIENCE,
            false => STORE_TIMEOUT.saturating_mul(2),
        };
        let is_written = {
            let writing = self.write_purges();
            let timeout = self.platform.sleep(patience);
            match select(pin!(writing), pin!(timeout)).await {
                Either::Left((is_written, _)) => is_written,
                Either::Right(_) => false,
            }
        };
        if is_written {
            return Purged::Stored;
        }
        let is_retried = std::mem::replace(&mut self.known_purges.0.borrow_mut().is_retried, true);
        if !is_retried {
            let retrying = Retrying(Rc::clone(self));
            self.platform
                .spawn(async move { retrying.0.retry_writing_purges().await });
        }
        Purged::Pending
    }

    async fn retry_writing_purges(&self) {
        for round in 0..PURGE_ROUNDS {
            let pause = doubled(PAUSE_FIRST, round).min(PURGE_PAUSE_MAX);
            self.platform.sleep(self.up_to(pause)).await;
            if self.write_purges().await {
                return;
            }
        }
        let lost = std::mem::take(&mut self.known_purges.0.borrow_mut().pending);
        self.platform
            .log(&event("purge-lost", &[("purges", lost.len().into())]));
    }

    /// Writes what waits; whether the store has it all.
    async fn write_purges(&self) -> bool {
        let name = purges_id(&self.origin);
        for attempt in 0..SWAP_ATTEMPTS {
            if let Some(doublings) = attempt.checked_sub(1) {
                let pause = self.up_to(doubled(SWAP_PAUSE, doublings));
                self.platform.sleep(pause).await;
            }
            let pending = self.known_purges.0.borrow().pending.clone();
            if pending.is_empty() {
                return true;
            }
            let asked = self.platform.now();
            let loading = self.load_value(Backing::Shared, &name, Urgency::Forced);
            let Ok(raw) = loading.await else {
                return false;
            };
            let mut record = match raw.as_ref().map(|raw| purges::decode(raw)) {
                // A newer version's record is left to that version.
                Some(Err(Unreadable::Newer)) => return false,
                Some(Ok(record)) => record,
                Some(Err(Unreadable::Corrupt)) | None => Record::default(),
            };
            record.add_all(&pending);
            record.version = record.version.saturating_add(1);
            record.nonce = Some(self.nonce());
            let Some(new) = purges::encode(&record) else {
                return false;
            };
            match self.swap_record(&name, raw.as_ref(), &new).await {
                Ok(Swap::Done) => {
                    let mut known = self.known_purges.0.borrow_mut();
                    if known.pending == pending {
                        known.pending = Record::default();
                    }
                    let now = self.platform.now();
                    known.note(Some(new), || record.seen_at(now), asked);
                }
                Ok(Swap::Conflict(_) | Swap::Busy { .. }) => {}
                Err(_) => return false,
            }
        }
        self.known_purges.0.borrow().pending.is_empty()
    }

    /// Reads the record, if what is known of it is too old for a request of now. `urgency`
    /// is that of what the request reads besides. Says whether what is known can be trusted.
    pub(super) async fn look_for_purges(&self, urgency: Urgency) -> bool {
        let now = self.platform.now();
        {
            let mut known = self.known_purges.0.borrow_mut();
            // The clock was set back since: what was read then is not later than this.
            known.read = known.read.filter(|read| *read <= now);
            if !known.is_due(now) {
                return true;
            }
            known.asked = Some(now);
        }
        let name = purges_id(&self.origin);
        let loading = self.load_value(Backing::Shared, &name, urgency);
        let Ok(raw) = loading.await else {
            return self.known_purges.0.borrow().is_trusted(now);
        };
        let record = || self.decode_purges(raw.as_ref());
        let mut known = self.known_purges.0.borrow_mut();
        known.note(raw.clone(), record, now);
        true
    }

    fn decode_purges(&self, raw: Option<&Bytes>) -> Record {
        match raw.map(|raw| purges::decode(raw)) {
            Some(Ok(record)) => record.seen_at(self.platform.now()),
            Some(Err(problem)) => {
                let problem = problem.to_string();
                self.platform
                    .log(&event("purges-unreadable", &[("problem", problem.into())]));
                Record::default()
            }
            None => Record::default(),
        }
    }

    /// When what is stored under a key was last purged, tags apart.
    fn purges_of_key(&self, record: &Record, key: &str) -> Moments {
        match parts_of_key(key) {
            Some((host, target)) => record.of_url(host, target),
            None => Moments::default(),
        }
    }

    /// When an entry's tags were last purged.
    fn purges_of_tags(&self, record: &Record, key: &str, entry: &Entry) -> Moments {
        if !record.has_tags() {
            return Moments::default();
        }
        let own = tags_of(&entry.headers).map(|tag| record.of_tag(tag));
        let found = own.fold(Moments::default(), Moments::or);
        let Some((_, target)) = parts_of_key(key) else {
            return found;
        };
        let rule = self.config.chosen(&Method::GET, path_of(target));
        let ruled = rule.tags.iter().map(|tag| record.of_tag(*tag));
        ruled.fold(found, Moments::or)
    }

    /// Applies the purges of more than one URL to a cell as it was read.
    pub(super) fn apply_purges(&self, loaded: &mut Loaded) {
        let record = Rc::clone(&self.known_purges.0.borrow().counting);
        if record.is_empty() {
            return;
        }
        let mut moments = self.purges_of_key(&record, &loaded.key);
        if let Some(entry) = loaded.entry() {
            moments = moments.or(self.purges_of_tags(&record, &loaded.key, entry));
        }
        if !moments.is_empty() {
            self.apply_moments(loaded, moments);
        }
    }

    /// Whether an entry of a key has been purged since the origin was asked for it, by a
    /// purge of more than one URL.
    pub(crate) fn is_purged_since(&self, key: &str, entry: &Entry) -> bool {
        let record = Rc::clone(&self.known_purges.0.borrow().counting);
        if record.is_empty() {
            return false;
        }
        let Moments {
            softened,
            invalidated,
            purged,
        } = self
            .purges_of_key(&record, key)
            .or(self.purges_of_tags(&record, key, entry));
        self.predates(entry.request_time, &[softened, invalidated, purged])
    }

    /// How many purges of more than one URL count.
    pub(crate) fn purges_known(&self) -> usize {
        self.known_purges.0.borrow().counting.len()
    }
}

/// The task that repeats the write. When it ends, or the host drops it, the next purge that
/// has to wait starts another.
struct Retrying<P: Platform>(Rc<Cells<P>>);

impl<P: Platform> Drop for Retrying<P> {
    fn drop(&mut self) {
        self.0.known_purges.0.borrow_mut().is_retried = false;
    }
}

#[cfg(test)]
mod tests;
