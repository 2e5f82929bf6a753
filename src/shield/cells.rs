//! Cells in the store: reading them, and applying transitions to them.
//!
//! Store trouble ends here. While the platform's store fails, an instance works
//! on a small store in its own memory with the same algorithm: its requests
//! still share one fetch and its answer.

use super::bodies::Place;
use super::platform::Platform;
use super::{Shield, event};
use crate::cell::codec::{self, Unreadable};
use crate::cell::transition::{self, Claim, Fenced, NoLease, Purge, Stamp};
use crate::cell::{Cell, Draft, Entry, Lease, Marks, Nonce, Orphan, Pass};
use crate::store::{STORE_TIMEOUT, Store, StoreError, Swap};
use crate::time::Time;
use bytes::Bytes;
use futures::future::{Either, select};
use http::{HeaderMap, Uri};
use sha2::{Digest, Sha256};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// How long an instance does without the store after it failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How often a purge that the store did not take is tried again, and how long
/// the pauses in between may become: from a [`STORE_PAUSE`] on they double, and
/// are cut at random. Purges that fail because of each other must not meet again
/// and again.
const PURGE_ATTEMPTS: u32 = 24;
const PURGE_PAUSE_MAX: Duration = Duration::from_secs(8);

/// How often a holder tries to settle its lease against others' swaps. Only
/// purges and new variants can touch a cell whose lease is live, so a second
/// time is rare.
const SETTLE_ATTEMPTS: u32 = 8;

/// For how long it begins anew; the longest pause after its second conflict, which
/// doubles with each; and what it may grow to. Where a swap is made of waiting,
/// several who try at the same pace could undo each other's writes for ever.
const SETTLE_TIME: Duration = Duration::from_secs(5);
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
const SETTLE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Most chunks that are removed in the course of one refresh; those of one body
/// always are.
const COLLECT_CHUNKS_MAX: u32 = 64;

/// The name under which a store keeps the cell of a key: `cell/` and 32
/// hexadecimal digits, within every platform's limit. The cell has the whole
/// key, so a collision reads as a miss.
pub fn cell_id(key: &str) -> String {
    use std::fmt::Write;
    let mut id = String::from("cell/");
    for byte in Sha256::digest(key.as_bytes()).iter().take(16) {
        // Writing to a `String` cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// Which store a cell was read from; it is swapped there too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// The platform's, shared by all nodes.
    Shared,
    /// The instance's own memory, because the platform's fails.
    Local,
}

/// A cell as it was read.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) backing: Backing,
    /// What a swap has to expect.
    raw: Option<Bytes>,
    /// None where nothing is stored, or nothing readable.
    pub(super) cell: Option<Cell>,
    /// A variant's: when its key was last invalidated or purged, by the key's
    /// own cell.
    pub(super) key_purges: [Option<Time>; 3],
}

impl Loaded {
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.cell.as_ref()?.entry.as_ref()
    }

    /// The `Vary` field names of a key that has variants.
    pub(super) fn vary(&self) -> &[String] {
        self.cell.as_ref().map_or(&[], |cell| &cell.marks.vary)
    }

    /// Whether `other` is the same cell after somebody's write.
    pub(super) fn differs(&self, other: &Loaded) -> bool {
        self.raw != other.raw
    }
}

/// How applying a transition ended.
enum Applied {
    Done(Loaded),
    Conflict(Loaded),
    Busy(Time),
    Failed,
}

/// How an attempt to become the revalidator ended.
pub(super) enum Election {
    /// Go to the origin.
    Held(Box<Held>),
    /// Another holds the lease until then, or is creating the cell: wait for
    /// the cell to change.
    Taken(Time),
    /// The last attempt failed, and it is too early for another: decide again.
    Backoff,
    /// The cell changed: decide again.
    Changed,
}

/// The lease of a cell, held by this instance. It is consumed by settling it;
/// if it is dropped, it expires.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) loaded: Loaded,
    pub(super) holder: Nonce,
    /// The deadline as far as this holder knows it to be stored.
    pub(super) deadline: Time,
}

impl Held {
    /// The cell's marks when the lease was taken.
    pub(super) fn marks(&self) -> Marks {
        let cell = self.loaded.cell.as_ref();
        cell.map(|cell| cell.marks.clone()).unwrap_or_default()
    }
}

/// How settling a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The store has it.
    Done,
    /// The lease was not ours any more: what we have may not be stored.
    Fenced(Fenced),
    /// The store fails: the lease will expire.
    Failed,
}

/// How far a purge has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// The store has it, or has nothing to purge: it holds for all nodes.
    Stored,
    /// The store fails. It holds for this instance, which tries the store again
    /// for a minute or two, if it lives that long, and logs `purge-lost` if that did
    /// not help: ask again to be sure.
    Pending,
}

impl Settled {
    pub(super) fn name(self) -> &'static str {
        match self {
            Settled::Done => "done",
            Settled::Fenced(Fenced::Lost) => "fenced",
            Settled::Fenced(Fenced::Purged) => "purged",
            Settled::Failed => "store-failed",
        }
    }
}

impl<P: Platform> Shield<P> {
    pub(super) fn nonce(&self) -> Nonce {
        Nonce::new(self.platform.random())
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            nonce: self.nonce(),
            now: self.platform.now(),
        }
    }

    /// Reads the cell of `key`. Never fails: without the shared store it reads
    /// the instance's own.
    pub(super) async fn load(&self, key: &str) -> Loaded {
        if self.platform.now() >= self.store_pause.get()
            && let Ok(loaded) = self.load_shared(key).await
        {
            return loaded;
        }
        self.load_local(key).await
    }

    /// Reads a value beside the cells.
    pub(super) async fn load_value(
        &self,
        backing: Backing,
        name: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        match backing {
            Backing::Local => self.memory.load(name).await,
            Backing::Shared => {
                let loading = self.within(self.platform.store().load(name));
                self.noting("load", loading).await
            }
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
                let loading = self.within(self.platform.store().load_put(name));
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
                let putting = self.within(self.platform.store().put(name, value));
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
                let removing = self.within(self.platform.store().remove(name));
                self.noting("remove", removing).await
            }
        }
    }

    async fn noting<T>(
        &self,
        operation: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        work.await
            .inspect_err(|error| self.note_store_failure(operation, error))
    }

    async fn load_shared(&self, key: &str) -> Result<Loaded, StoreError> {
        let id = cell_id(key);
        let raw = self.load_value(Backing::Shared, &id).await?;
        Ok(self.decode(id, key, raw, Backing::Shared))
    }

    /// Whether the shared store has failed at `moment` or after it.
    pub(super) fn store_failed_since(&self, moment: Time) -> bool {
        self.store_pause.get() >= moment.plus(STORE_PAUSE)
    }

    pub(super) async fn load_local(&self, key: &str) -> Loaded {
        let id = cell_id(key);
        // The instance's own store cannot fail.
        let raw = self.memory.load(&id).await.unwrap_or_default();
        self.decode(id, key, raw, Backing::Local)
    }

    /// Reads a cell again, from where it was read.
    pub(super) async fn reload(&self, loaded: &Loaded) -> Result<Loaded, StoreError> {
        let raw = self.load_value(loaded.backing, &loaded.id).await?;
        Ok(self.decode(loaded.id.clone(), &loaded.key, raw, loaded.backing))
    }

    fn decode(&self, id: String, key: &str, raw: Option<Bytes>, backing: Backing) -> Loaded {
        let cell = raw.as_ref().and_then(|raw| match codec::decode(raw, key) {
            Ok(cell) => Some(cell),
            Err(problem) => {
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
            key_purges: [None; 3],
        }
    }

    /// Swaps `cell` in for what was read.
    async fn swap(&self, loaded: &Loaded, cell: Cell) -> Applied {
        let new = match codec::encode(&cell) {
            Ok(new) => new,
            Err(error) => {
                let error = StoreError::new(error.to_string());
                self.note_store_failure("encode", &error);
                return Applied::Failed;
            }
        };
        let expected = loaded.raw.as_ref();
        let swapped = match loaded.backing {
            Backing::Shared => {
                self.within(self.platform.store().swap(&loaded.id, expected, &new))
                    .await
            }
            Backing::Local => self.memory.swap(&loaded.id, expected, &new).await,
        };
        match swapped {
            Ok(Swap::Done) => Applied::Done(Loaded {
                raw: Some(new),
                cell: Some(cell),
                ..loaded.clone()
            }),
            Ok(Swap::Conflict(current)) => Applied::Conflict(self.decode(
                loaded.id.clone(),
                &loaded.key,
                current,
                loaded.backing,
            )),
            Ok(Swap::Busy { retry_at }) => Applied::Busy(retry_at),
            // The outcome is unknown: what is stored decides.
            Err(error) => match self.reload(loaded).await {
                Ok(current) if current.raw.as_ref() == Some(&new) => Applied::Done(current),
                Ok(current) if current.differs(loaded) => Applied::Conflict(current),
                Ok(_) | Err(_) => {
                    self.note_store_failure("swap", &error);
                    Applied::Failed
                }
            },
        }
    }

    /// Tries to become the revalidator of a cell as it was read.
    pub(super) async fn elect(&self, loaded: &Loaded) -> Election {
        let claim = Claim {
            holder: self.nonce(),
            now: self.platform.now(),
            duration: self.config.lease.duration,
            clock_skew: self.config.lease.clock_skew,
        };
        let cell = match transition::lease(loaded.cell.as_ref(), &loaded.key, &claim, self.nonce())
        {
            Ok(cell) => cell,
            Err(NoLease::Live { until }) => return Election::Taken(until),
            Err(NoLease::Retry { .. }) => return Election::Backoff,
        };
        match self.swap(loaded, cell).await {
            // A purge may have come right after our swap: the lease is ours
            // all the same, if the cell says so.
            Applied::Done(loaded) | Applied::Conflict(loaded) => {
                match loaded.cell.as_ref().and_then(|cell| cell.lease) {
                    Some(Lease {
                        holder, deadline, ..
                    }) if holder == claim.holder => Election::Held(Box::new(Held {
                        loaded,
                        holder,
                        deadline,
                    })),
                    Some(_) | None => Election::Changed,
                }
            }
            Applied::Busy(retry_at) => Election::Taken(retry_at),
            // The pause that the failure has set makes the next look read the
            // instance's own store.
            Applied::Failed => Election::Changed,
        }
    }

    /// Until when the holder may start something under the lease.
    pub(super) fn acts_until(&self, held: &Held) -> Time {
        Lease::acts_until(held.deadline, self.config.lease.clock_skew)
    }

    /// Whether the holder may ask the origin: with as much of the lease left as
    /// the first renewal has if the lease is won at once. Else it would lapse
    /// while that is on its way.
    pub(super) fn may_begin(&self, held: &Held) -> bool {
        let renewal = self.config.lease.duration / 3;
        self.platform.now() < self.acts_until(held).minus(renewal)
    }

    /// Moves the deadline of a lease.
    pub(super) async fn renew(&self, held: &mut Held) -> Settled {
        let deadline = self.platform.now().plus(self.config.lease.duration);
        let holder = held.holder;
        let (settled, loaded) = self
            .settle(
                held.loaded.clone(),
                |cell| transition::renew(cell, holder, deadline, self.nonce()),
                |cell| {
                    cell.lease
                        .is_some_and(|lease| lease.holder == holder && lease.deadline >= deadline)
                },
            )
            .await;
        if settled == Settled::Done {
            held.loaded = loaded;
            held.deadline = deadline;
        }
        settled
    }

    /// Notes which body is about to be written in chunks under a lease; none
    /// where it has become another cell's.
    pub(super) async fn note_draft(
        &self,
        loaded: Loaded,
        holder: Nonce,
        draft: Option<Draft>,
    ) -> Settled {
        self.settle(
            loaded,
            |cell| transition::draft(cell, holder, draft, self.nonce()),
            |cell| {
                cell.lease
                    .is_some_and(|lease| lease.holder == holder && lease.draft == draft)
            },
        )
        .await
        .0
    }

    /// Drops an entry that points at a body of which a chunk is missing.
    pub(super) async fn discard(&self, place: &Place, body: Nonce) {
        let loaded = match place.backing {
            Backing::Local => self.load_local(&place.key).await,
            Backing::Shared => match self.load_shared(&place.key).await {
                Ok(loaded) => loaded,
                // Whoever reads the entry next finds out again.
                Err(_) => return,
            },
        };
        self.apply(loaded, |cell| {
            transition::discard(cell?, body, self.stamp())
        })
        .await;
    }

    /// Publishes an entry under a lease, or gives the lease back if a purge came
    /// after it was taken. Strikes `removed` off the list of orphans.
    pub(super) async fn publish(
        &self,
        held: Box<Held>,
        entry: Entry,
        removed: &[Orphan],
    ) -> Settled {
        let holder = held.holder;
        let (settled, loaded) = self
            .settle(
                held.loaded,
                |cell| {
                    let mut cell = transition::publish(cell, holder, entry.clone(), self.stamp())?;
                    cell.forget_orphans(removed);
                    Ok(cell)
                },
                |cell| {
                    cell.entry
                        .as_ref()
                        .is_some_and(|entry| entry.lease == holder)
                },
            )
            .await;
        if settled == Settled::Fenced(Fenced::Purged) {
            self.settle(
                loaded,
                |cell| transition::release(cell, holder, self.stamp()),
                |_| false,
            )
            .await;
        }
        settled
    }

    /// Ends a lease with a pass mark.
    pub(super) async fn mark_pass(&self, held: Box<Held>, pass: Pass, keep_entry: bool) -> Settled {
        let holder = held.holder;
        self.settle(
            held.loaded,
            |cell| transition::pass(cell, holder, pass, keep_entry, self.stamp()),
            |_| false,
        )
        .await
        .0
    }

    /// Ends a lease with a retry mark.
    pub(super) async fn mark_failure(&self, held: Box<Held>) -> Settled {
        let holder = held.holder;
        let random = (self.platform.random() >> 64) as u64;
        self.settle(
            held.loaded,
            |cell| {
                let backoff = &self.config.origin.retry;
                transition::fail(cell, holder, backoff, random, self.stamp())
            },
            |_| false,
        )
        .await
        .0
    }

    /// Ends a lease and changes nothing else.
    pub(super) async fn release(&self, held: Box<Held>) -> Settled {
        let holder = held.holder;
        self.settle(
            held.loaded,
            |cell| transition::release(cell, holder, self.stamp()),
            |_| false,
        )
        .await
        .0
    }

    /// Ends a lease and notes that the key has variants.
    pub(super) async fn split(&self, held: Box<Held>, vary: &[String]) -> Settled {
        let holder = held.holder;
        self.settle(
            held.loaded,
            |cell| transition::split(cell, holder, vary, self.stamp()),
            |cell| vary.iter().all(|name| cell.marks.vary.contains(name)),
        )
        .await
        .0
    }

    /// Notes further fields that choose a key's variants, without a lease.
    pub(super) async fn widen(&self, key: &str, vary: &[String]) {
        let loaded = self.load(key).await;
        self.apply(loaded, |cell| {
            transition::vary(cell, key, vary, self.stamp())
        })
        .await;
    }

    /// Has a key's list name one more of its variants; see
    /// [`transition::enlist`].
    pub(super) async fn list(
        &self,
        list: Loaded,
        variant: &str,
        evicted: &[String],
        litter: &[Orphan],
        removed: &[Orphan],
    ) {
        let key = list.key.clone();
        self.apply(list, |cell| {
            transition::enlist(cell, &key, variant, evicted, litter, removed, self.nonce())
        })
        .await;
    }

    /// Reads a cell of the shared store by its name; none where none is stored,
    /// or none that can be read.
    pub(super) async fn load_named(&self, id: &str) -> Result<Option<Loaded>, StoreError> {
        let raw = self.load_value(Backing::Shared, id).await?;
        let cell = raw.as_ref().and_then(|raw| codec::decode_any(raw).ok());
        Ok(cell.map(|cell| Loaded {
            id: id.to_owned(),
            key: cell.key.clone(),
            backing: Backing::Shared,
            raw,
            cell: Some(cell),
            key_purges: [None; 3],
        }))
    }

    /// Drops the entry of a cell, and what is being fetched for it. Says which
    /// bodies the cell has orphaned; none if the store fails.
    pub(super) async fn empty(&self, loaded: Loaded) -> Option<Vec<Orphan>> {
        let purge = |cell: Option<&Cell>| {
            let cell = cell.ok_or(Fenced::Lost)?;
            Ok(transition::purge(cell, Purge::Hard, self.stamp()))
        };
        let (settled, loaded) = self.settle(loaded, purge, |_| false).await;
        match settled {
            Settled::Failed => None,
            Settled::Done | Settled::Fenced(_) => {
                Some(loaded.cell.map(|cell| cell.orphans).unwrap_or_default())
            }
        }
    }

    /// Purges what is stored for a target, all its variants included: the entry
    /// point for whoever administers the cache. Scheme and host count only where
    /// the keys have them.
    ///
    /// From when it is [`Purged::Stored`] on, nobody on any node who comes is
    /// given what the origin was asked for before the call, or not without what
    /// `purge` says of it; the clock skew apart for [`Purge::Soft`]. Answers that
    /// have begun go on, and an instance that cannot reach the store may still
    /// serve what it has in its own memory.
    pub async fn purge_target(self: &Rc<Self>, target: &Uri, purge: Purge) -> Purged {
        self.purge(self.key(target, &HeaderMap::new()), purge).await
    }

    /// Purges the cell of a key, if there is one, wherever this instance keeps
    /// or finds it. While the shared store fails, the attempt is repeated behind
    /// the answer: other nodes may serve what they should not until it succeeds.
    pub(super) async fn purge(self: &Rc<Self>, key: String, purge: Purge) -> Purged {
        self.purge_loaded(self.load_local(&key).await, purge).await;
        if self.purge_shared(&key, purge).await {
            return Purged::Stored;
        }
        let shield = Rc::clone(self);
        self.platform.spawn(async move {
            for attempt in 0..PURGE_ATTEMPTS {
                let pause = doubled(STORE_PAUSE, attempt).min(PURGE_PAUSE_MAX);
                shield.platform.sleep(shield.up_to(pause)).await;
                if shield.purge_shared(&key, purge).await {
                    return;
                }
            }
            shield
                .platform
                .log(&event("purge-lost", &[("key", key.into())]));
        });
        Purged::Pending
    }

    /// Whether what was asked for at `asked` may be older than one of the marks.
    /// Both were timed by two nodes' clocks: what lies within their skew counts
    /// as older.
    pub(super) fn predates(&self, asked: Time, marks: &[Option<Time>]) -> bool {
        let skew = self.config.lease.clock_skew;
        let mut marks = marks.iter().flatten();
        marks.any(|mark| asked <= mark.plus(skew))
    }

    /// Whether the purge holds in the shared store. Tried even while that is
    /// left alone: a purge is for others.
    async fn purge_shared(&self, key: &str, purge: Purge) -> bool {
        match self.load_shared(key).await {
            Ok(loaded) => self.purge_loaded(loaded, purge).await == Settled::Done,
            Err(_) => false,
        }
    }

    async fn purge_loaded(&self, loaded: Loaded, purge: Purge) -> Settled {
        self.apply(loaded, |cell| {
            cell.map(|cell| transition::purge(cell, purge, self.stamp()))
        })
        .await
    }

    /// Removes bodies of a cell that nobody reads any more, a few at a time, and
    /// says which are gone.
    pub(super) async fn collect(&self, loaded: &Loaded) -> Vec<Orphan> {
        let Some(cell) = &loaded.cell else {
            return Vec::new();
        };
        let mut due = cell.due_orphans(self.platform.now(), self.config.limits.grace);
        let mut chunks = 0_u32;
        due.retain(|orphan| {
            let first = chunks == 0;
            chunks = chunks.saturating_add(orphan.chunks);
            first || chunks <= COLLECT_CHUNKS_MAX
        });
        match self.remove_bodies(&Place::of(loaded), &due).await {
            true => due,
            false => Vec::new(),
        }
    }

    /// Applies a transition that needs no lease; none means that there is
    /// nothing to do.
    async fn apply(
        &self,
        loaded: Loaded,
        transition: impl Fn(Option<&Cell>) -> Option<Cell>,
    ) -> Settled {
        let (settled, _) = self
            .settle(
                loaded,
                |cell| transition(cell).ok_or(Fenced::Lost),
                |_| false,
            )
            .await;
        match settled {
            Settled::Fenced(_) => Settled::Done,
            Settled::Done | Settled::Failed => settled,
        }
    }

    /// Applies `transition` to the cell until the swap is done or the
    /// transition refuses. `is_ours` recognises, in a cell that another has
    /// written since, that our swap had been done before.
    async fn settle(
        &self,
        mut loaded: Loaded,
        transition: impl Fn(Option<&Cell>) -> Result<Cell, Fenced>,
        is_ours: impl Fn(&Cell) -> bool,
    ) -> (Settled, Loaded) {
        let start = self.platform.now();
        for attempt in 0..SETTLE_ATTEMPTS {
            if let Some(doublings) = attempt.checked_sub(2) {
                if self.platform.now().since(start) >= SETTLE_TIME {
                    break;
                }
                let pause = doubled(SETTLE_PAUSE, doublings).min(SETTLE_PAUSE_MAX);
                self.platform.sleep(self.up_to(pause)).await;
            }
            let cell = match transition(loaded.cell.as_ref()) {
                Ok(cell) => cell,
                Err(fenced) => return (Settled::Fenced(fenced), loaded),
            };
            match self.swap(&loaded, cell).await {
                Applied::Done(loaded) => return (Settled::Done, loaded),
                Applied::Conflict(current) if current.cell.as_ref().is_some_and(&is_ours) => {
                    return (Settled::Done, current);
                }
                Applied::Conflict(current) => loaded = current,
                Applied::Busy(_) | Applied::Failed => return (Settled::Failed, loaded),
            }
        }
        (Settled::Failed, loaded)
    }

    /// A random part of a pause, so that several do not keep step.
    fn up_to(&self, pause: Duration) -> Duration {
        let part = u32::try_from(self.platform.random() % 1_000).unwrap_or(0);
        pause.saturating_mul(part) / 1_000
    }

    /// An operation of the store, for at most [`STORE_TIMEOUT`].
    async fn within<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let timeout = self.platform.sleep(STORE_TIMEOUT);
        match select(pin!(operation), pin!(timeout)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(StoreError::new(format!(
                "the store did not answer within {STORE_TIMEOUT:?}"
            ))),
        }
    }

    pub(super) fn note_store_failure(&self, operation: &str, error: &StoreError) {
        self.store_pause.set(self.platform.now().plus(STORE_PAUSE));
        self.platform.log(&event(
            "store-failed",
            &[
                ("operation", operation.into()),
                ("error", error.to_string().into()),
            ],
        ));
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

fn doubled(pause: Duration, times: u32) -> Duration {
    pause.saturating_mul(2_u32.saturating_pow(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_names_are_short_and_differ() {
        let (a, b) = (cell_id("a"), cell_id("b"));
        assert_eq!(a, "cell/ca978112ca1bbdcafac231b39a23dc4d");
        assert_eq!(a.len(), b.len());
        assert_ne!(a, b);
    }
}
