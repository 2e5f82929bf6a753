//! Leases: taking one, keeping it, and ending it with what came of it.

use super::swap::Applied;
use super::{Backing, Cells, Loaded, Located, Settled};
use crate::cell::transition::{self, Claim, Failure, Fenced, Learned, NoLease};
use crate::cell::{Cell, Coming, Draft, Entry, Lease, Marks, Nonce, Orphan};
use crate::config::LeaseConfig;
use crate::question::Question;
use crate::time::Time;
use crate::world::{Platform, event};
use http::HeaderName;
use std::rc::Rc;
use std::time::Duration;

/// The part of a lease after which it is renewed for the first time.
const FIRST_RENEWAL: u32 = 3;

/// What settling a lease tells the key's own cell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told<'a> {
    /// The lease is on a variant's cell: nothing.
    Variant,
    /// The lease is on the key's own cell.
    Resident {
        /// The question that was answered.
        question: &'a Question,
        /// The selecting fields that the answer named, in lower case.
        names: &'a [String],
        /// Until when requests with credentials are passed.
        credentials_pass_until: Option<Time>,
    },
}

impl Told<'_> {
    fn with<T>(self, apply: impl FnOnce(Option<&Learned<'_>>) -> T) -> T {
        match self {
            Told::Variant => apply(None),
            Told::Resident {
                question, names, ..
            } => {
                let selector = |names: &[HeaderName]| question.under(names).selector();
                apply(Some(&Learned {
                    names,
                    selector: &selector,
                }))
            }
        }
    }

    fn note_credentials(self, cell: &mut Cell) {
        if let Told::Resident {
            credentials_pass_until: Some(until),
            ..
        } = self
        {
            cell.marks.note_credentials(Some(until));
        }
    }
}

/// How an attempt to take the lease of a cell ended.
pub(crate) enum Election {
    /// Go to the origin.
    Held(Box<Held>),
    /// Another holds the lease until then, or is creating the cell: wait for
    /// the cell to change.
    Taken(Time),
    /// The last attempt failed, and it is too early for another: decide again.
    Backoff,
    /// The cell changed: decide again.
    Changed,
    /// The store does not write, or not this cell: go on without it.
    NotWritten,
}

/// The lease of a cell, held by this instance. It is consumed by settling it;
/// if it is dropped, it expires.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) loaded: Loaded,
    pub(crate) holder: Nonce,
    /// The deadline as far as this holder knows it to be stored.
    pub(crate) deadline: Time,
    /// How many chunks of its draft are complete; renewals store it.
    pub(crate) done: Rc<std::cell::Cell<u32>>,
}

impl Held {
    /// The cell's marks when the lease was taken.
    pub(crate) fn marks(&self) -> Marks {
        let cell = self.loaded.cell.as_ref();
        cell.map(|cell| cell.marks.clone()).unwrap_or_default()
    }
}

impl<P: Platform> Cells<P> {
    /// Tries to take the lease of a cell as it was read.
    pub(crate) async fn elect(&self, located: &Located) -> Election {
        self.elect_cell(&located.loaded, located.resident()).await
    }

    /// Until when another holds the lease of a cell as it was read, if one does.
    pub(crate) fn leased_until(&self, located: &Located) -> Option<Time> {
        let clock_skew = self.config.lease.clock_skew;
        let lease = located.loaded.cell.as_ref()?.lease?;
        let is_live = lease.is_live(self.platform.now(), clock_skew);
        is_live.then(|| lease.deadline.plus(clock_skew))
    }

    /// Whether another holds the lease of a cell of the shared store, and has written it
    /// since this instance last saw that store fail: what is fetched will be stored.
    pub(crate) fn is_written_by_holder(&self, located: &Located) -> bool {
        let lease = self.config.lease;
        let written_after = |deadline: Time| {
            // The holder's clock may be ahead.
            deadline.minus(lease.duration).minus(lease.clock_skew)
        };
        let held = located.loaded.cell.as_ref().and_then(|cell| cell.lease);
        located.loaded.backing == Backing::Shared
            && self.leased_until(located).is_some()
            && held.is_some_and(|held| !self.store_failed_since(written_after(held.deadline)))
    }

    /// Tries to take the lease of a cell as it was read; in a key's own cell for the
    /// question with the selector `resident`.
    pub(super) async fn elect_cell(&self, loaded: &Loaded, resident: Option<&str>) -> Election {
        let claim = Claim {
            holder: self.nonce(),
            now: self.platform.now(),
            duration: self.config.lease.duration,
            clock_skew: self.config.lease.clock_skew,
            backoff: self.config.origin.retry,
            random: (self.platform.random() >> 64) as u64,
        };
        let cell = match transition::lease(
            loaded.cell.as_ref(),
            &loaded.key,
            resident,
            &claim,
            self.nonce(),
        ) {
            Ok(cell) => cell,
            Err(NoLease::Live { until }) => return Election::Taken(until),
            Err(NoLease::Retry { .. }) => return Election::Backoff,
        };
        let is_created = loaded.raw.is_none() && loaded.backing == Backing::Shared;
        match self.swap(loaded, cell).await {
            // A purge may have come right after our swap: the lease is ours
            // all the same, if the cell says so.
            Applied::Done(loaded) | Applied::Conflict(loaded) => {
                match loaded.cell.as_ref().and_then(|cell| cell.lease) {
                    Some(Lease {
                        holder, deadline, ..
                    }) if holder == claim.holder => {
                        self.note_unsettled(&loaded);
                        if is_created {
                            self.note_created();
                        }
                        Election::Held(Box::new(Held {
                            // Another cell's failure must not cost this lease: it is
                            // renewed and settled although the store is left alone.
                            loaded: Loaded {
                                is_forced: true,
                                ..loaded
                            },
                            holder,
                            deadline,
                            done: Rc::default(),
                        }))
                    }
                    Some(_) | None => Election::Changed,
                }
            }
            Applied::Busy(retry_at) => Election::Taken(retry_at),
            Applied::Failed | Applied::Refused => Election::NotWritten,
        }
    }

    /// Says so where the leases before the one that was just taken were not settled:
    /// nothing that is fetched for the key is published.
    fn note_unsettled(&self, loaded: &Loaded) {
        let marks = loaded.cell.as_ref().map(|cell| &cell.marks);
        let unsettled = marks.and_then(|marks| marks.unsettled);
        if let Some(unsettled) = unsettled.filter(|mark| mark.is_failing()) {
            self.platform.log(&event(
                "publish-failing",
                &[
                    ("key", loaded.key.as_str().into()),
                    ("leases", unsettled.times.into()),
                ],
            ));
        }
    }

    /// Until when the holder may start something under the lease.
    pub(crate) fn acts_until(&self, held: &Held) -> Time {
        let LeaseConfig {
            duration,
            clock_skew,
        } = self.config.lease;
        let deadline = held.deadline.within(duration, self.platform.now());
        Lease::acts_until(deadline, clock_skew)
    }

    /// Whether enough of the lease is left for the holder to ask the origin: as
    /// much as there is at the first renewal of a lease that was won at once.
    /// Otherwise the lease could lapse during the renewal.
    pub(crate) fn may_begin(&self, held: &Held) -> bool {
        let renewal = self.config.lease.duration / FIRST_RENEWAL;
        self.platform.now() < self.acts_until(held).minus(renewal)
    }

    /// Moves the deadline of a lease, and notes how far the body is that is being
    /// written under it.
    pub(crate) async fn renew(&self, held: &mut Held) -> Settled {
        let now = self.platform.now();
        let deadline = now.plus(self.config.lease.duration);
        let holder = held.holder;
        // A deadline of a clock that was set back since does not count.
        let bounded = |cell: &Cell| cell.clone().bounded(now, &self.bounds);
        let (settled, loaded) = self
            .settle(
                held.loaded.clone(),
                |cell| {
                    let cell = cell.map(bounded);
                    let cell = cell.as_ref();
                    let mut cell = transition::renew(cell, holder, deadline, self.nonce())?;
                    cell.advance(held.done.get());
                    Ok(cell)
                },
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

    /// Notes which body is about to be written in chunks under a lease, and which entry
    /// it is of, where others may read it meanwhile; none where it has become another
    /// cell's.
    pub(crate) async fn note_draft(
        &self,
        loaded: Loaded,
        holder: Nonce,
        draft: Option<Draft>,
        coming: Option<&Coming>,
    ) -> (Settled, Loaded) {
        self.settle(
            loaded,
            |cell| transition::draft(cell, holder, draft, coming, self.nonce()),
            |cell| {
                cell.lease
                    .is_some_and(|lease| lease.holder == holder && lease.draft == draft)
            },
        )
        .await
    }

    /// Notes how many chunks of a draft are complete.
    pub(crate) async fn note_progress(
        &self,
        loaded: Loaded,
        holder: Nonce,
        done: u32,
    ) -> (Settled, Loaded) {
        let knows = |draft: Draft| draft.done >= done;
        self.settle(
            loaded,
            |cell| transition::progress(cell, holder, done, self.nonce()),
            |cell| {
                cell.lease
                    .is_some_and(|lease| lease.holder == holder && lease.draft.is_some_and(knows))
            },
        )
        .await
    }

    /// Publishes an entry under a lease, or gives the lease back if a purge came
    /// after it was taken. Strikes `removed` off the list of orphans.
    pub(crate) async fn publish(
        &self,
        held: Box<Held>,
        entry: Entry,
        told: Told<'_>,
        removed: &[Orphan],
    ) -> Settled {
        let holder = held.holder;
        let backing = held.loaded.backing;
        let (settled, loaded) = self
            .settle(
                held.loaded,
                |cell| {
                    let (entry, stamp) = (entry.clone(), self.stamp());
                    let mut cell = told
                        .with(|learned| transition::publish(cell, holder, entry, learned, stamp))?;
                    cell.forget_orphans(removed);
                    told.note_credentials(&mut cell);
                    Ok(cell)
                },
                |cell| {
                    cell.entry
                        .as_ref()
                        .is_some_and(|entry| entry.lease == holder)
                },
            )
            .await;
        if backing == Backing::Shared && matches!(settled, Settled::Failed | Settled::Refused) {
            self.keep_locally(&loaded.key, entry, told).await;
        }
        match settled {
            Settled::Fenced(Fenced::Purged) => {
                self.settle(
                    loaded,
                    |cell| transition::release(cell, holder, self.stamp()),
                    |_| false,
                )
                .await;
            }
            // The next answer will be as long: requests need not queue for it, and what was
            // stored before is not used any more.
            Settled::Refused => {
                let lasting = self.config.origin.pass;
                self.pass_cell(loaded, holder, lasting, told).await;
            }
            Settled::Done | Settled::Failed | Settled::Fenced(Fenced::Lost) => {}
        }
        settled
    }

    /// Ends the lease of a cell with a pass mark.
    async fn pass_cell(
        &self,
        loaded: Loaded,
        holder: Nonce,
        lasting: Duration,
        told: Told<'_>,
    ) -> Settled {
        let (settled, _) = self
            .settle(
                loaded,
                |cell| {
                    let stamp = self.stamp();
                    let mut cell = told
                        .with(|learned| transition::pass(cell, holder, lasting, learned, stamp))?;
                    told.note_credentials(&mut cell);
                    Ok(cell)
                },
                |_| false,
            )
            .await;
        settled
    }

    /// Keeps an entry that the shared store has not taken in the instance's memory,
    /// so that its requests share it while the store fails.
    async fn keep_locally(&self, key: &str, entry: Entry, told: Told<'_>) {
        // A purge that the store has not taken either came after the origin was
        // asked, or it would not wait any more: the entry may be older.
        if self.purges.borrow().find(key).is_some() {
            return;
        }
        let own = self.load_local(key).await;
        let marks = own.cell.as_ref().map(|cell| &cell.marks);
        if let Some(marks) = marks
            && self.predates(entry.request_time, &[marks.purged, marks.invalidated])
        {
            return;
        }
        self.apply(own, |cell| {
            told.with(|learned| {
                let (entry, stamp) = (entry.clone(), self.stamp());
                Some(transition::keep(cell, key, entry, learned, stamp))
            })
        })
        .await;
    }

    /// Ends a lease with a pass mark.
    pub(crate) async fn mark_pass(
        &self,
        held: Box<Held>,
        lasting: Duration,
        told: Told<'_>,
    ) -> Settled {
        let holder = held.holder;
        self.pass_cell(held.loaded, holder, lasting, told).await
    }

    /// Ends a lease with a retry mark.
    pub(crate) async fn mark_failure(
        &self,
        held: Box<Held>,
        failure: &Failure,
        told: Told<'_>,
    ) -> Settled {
        let holder = held.holder;
        self.settle(
            held.loaded,
            |cell| {
                let stamp = self.stamp();
                told.with(|learned| transition::fail(cell, holder, failure, learned, stamp))
            },
            |_| false,
        )
        .await
        .0
    }

    /// Ends a lease under which the store has not taken what was fetched. Where that
    /// happens again the next requests are passed for a while: they need not queue.
    pub(crate) async fn release_unpublished(&self, held: Box<Held>) -> Settled {
        let holder = held.holder;
        let backoff = self.config.origin.retry;
        let random = (self.platform.random() >> 64) as u64;
        self.settle(
            held.loaded,
            |cell| transition::unpublished(cell, holder, backoff, random, self.stamp()),
            |_| false,
        )
        .await
        .0
    }

    /// Ends a lease and changes nothing else.
    pub(crate) async fn release(&self, held: Box<Held>) -> Settled {
        let holder = held.holder;
        self.settle(
            held.loaded,
            |cell| transition::release(cell, holder, self.stamp()),
            |_| false,
        )
        .await
        .0
    }
}
