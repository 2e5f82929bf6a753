//! Going to the origin under a lease, and settling the lease with what comes.

use super::cells::{Backing, Election, Held, Settled};
use super::exchange::{Fill, Head, HeadSender, NotStorable, Outcome};
use super::flight::Landing;
use super::lookup::variant_key;
use super::platform::Platform;
use super::wait::{self, Fetched};
use super::{Shield, event};
use crate::cell::{Draft, Entry, Orphan, Pass};
use crate::semantics::Reason as NotStored;
use crate::semantics::{Vary, vary};
use crate::store::StoreError;
use crate::time::{Time, millis};
use futures::channel::oneshot;
use futures::future::{Either, join, select};
use http::{StatusCode, request};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

/// A lease is renewed when a third of it is over, counted from its start: an
/// election may have taken its time.
const RENEW_AFTER: u32 = 3;

/// A renewal that has not come to an end after this part of a lease is given up
/// and tried anew, so that one lost reply does not cost the lease.
const RENEWAL_TRIES: u32 = 6;

/// Shortest pause between two renewals, as a part of a lease.
const RENEWAL_PAUSE_MIN: u32 = 24;

/// Most `Vary` fields of a key. A key with more is passed: it would have a
/// variant for nearly every visitor.
const VARY_FIELDS_MAX: usize = 16;

/// Why the origin is asked; the word in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nothing stored.
    Miss,
    /// Something stored that must be validated first.
    Revalidate,
    /// Something stale, refreshed behind an answer.
    Refresh,
    /// Something about to expire, refreshed behind an answer.
    Early,
}

/// A fetch under a lease.
pub(super) struct Job<P: Platform> {
    pub(super) held: Box<Held>,
    /// The request on whose behalf the origin is asked.
    pub(super) visitor: request::Parts,
    /// The primary key.
    pub(super) key: String,
    pub(super) reason: Reason,
    /// Whether the entry at hand may be used if the origin fails: then a server
    /// error is not handed on.
    pub(super) on_error: bool,
    /// Who waits for the head; none where the visitor has been answered.
    pub(super) head: Option<oneshot::Sender<Head<P::Body>>>,
    /// Keeps others of this instance waiting until there is an answer that they
    /// may have too, or the lease is settled.
    pub(super) landing: Landing<P::Wake, Fetched>,
}

impl<P: Platform> Shield<P> {
    /// Runs a job behind whoever waits for its head, to its end even if they
    /// leave.
    pub(super) fn spawn_job(self: &Rc<Self>, job: Job<P>) {
        let shield = Rc::clone(self);
        self.platform
            .spawn(async move { shield.run_job(job).await });
    }

    /// Asks the origin, renews the lease meanwhile, and settles it.
    pub(super) async fn run_job(self: &Rc<Self>, job: Job<P>) {
        let Job {
            mut held,
            visitor,
            key,
            reason,
            on_error,
            head,
            landing,
        } = job;
        let start = self.platform.now();
        if !self.may_begin(&held) {
            // The store took longer than the lease to say who has it: another
            // may have it by now, and such a store is as good as none. Dropping
            // `head` makes who waits look again.
            let error = StoreError::new("an election took longer than its lease");
            self.note_store_failure("elect", &error);
            self.log_fetch(
                reason,
                &held.loaded.key,
                "late",
                None,
                start,
                Settled::Failed,
            );
            return;
        }
        let mut head = HeadSender(head);
        let mut status = None;
        let loaded = held.loaded.clone();
        let target = loaded.key.clone();
        let acts_until = Cell::new(self.acts_until(&held));
        let ((outcome, removed), fenced) = {
            let fill = Fill {
                loaded: &loaded,
                holder: held.holder,
                acts_until: &acts_until,
                visitor: &visitor,
                on_error,
            };
            landing.ask();
            let exchange = async {
                let outcome = self.exchange(&fill, &mut head, &mut status).await;
                wait::hand_over(&landing, &outcome, &visitor.headers);
                outcome
            };
            // While the origin takes its time there is some for housework.
            let work = pin!(join(exchange, self.collect(&loaded)));
            self.renewing(&mut held, &acts_until, work).await
        };
        let (word, settled) = match fenced {
            Some(settled) => ("fenced".to_owned(), settled),
            None => {
                self.settle_outcome(held, &key, &visitor, outcome, &removed)
                    .await
            }
        };
        self.log_fetch(reason, &target, &word, status, start, settled);
        // Only now may others of this instance look again.
        drop(landing);
    }

    /// Runs `work` and keeps the lease alive while it takes. Says in the second
    /// part of the answer if the lease was lost.
    pub(super) async fn renewing<T>(
        &self,
        held: &mut Held,
        acts_until: &Cell<Time>,
        mut work: impl Future<Output = T> + Unpin,
    ) -> (T, Option<Settled>) {
        let lease = self.config.lease.duration;
        loop {
            let due = held.deadline.minus(lease - lease / RENEW_AFTER);
            let pause = due
                .since(self.platform.now())
                .max(lease / RENEWAL_PAUSE_MIN);
            let pause = pin!(self.platform.sleep(pause));
            work = match select(work, pause).await {
                Either::Left((done, _)) => return (done, None),
                Either::Right(((), work)) => work,
            };
            let renewal = pin!(async {
                let timeout = self.platform.sleep(lease / RENEWAL_TRIES);
                let settled = match select(pin!(self.renew(held)), pin!(timeout)).await {
                    Either::Left((settled, _)) => settled,
                    Either::Right(_) => Settled::Failed,
                };
                acts_until.set(match settled {
                    Settled::Done | Settled::Failed => self.acts_until(held),
                    Settled::Fenced(_) => Time::default(),
                });
                settled
            });
            work = match select(work, renewal).await {
                // A renewal cut short may be stored or not; settling finds out.
                Either::Left((done, _)) => return (done, None),
                Either::Right((Settled::Done | Settled::Failed, work)) => work,
                // Another has the cell. What comes is still our visitor's.
                Either::Right((settled @ Settled::Fenced(_), work)) => {
                    return (work.await, Some(settled));
                }
            };
        }
    }

    /// Settles the lease with what the exchange came to; says so in a word.
    pub(super) async fn settle_outcome(
        &self,
        held: Box<Held>,
        key: &str,
        visitor: &request::Parts,
        outcome: Outcome,
        removed: &[Orphan],
    ) -> (String, Settled) {
        match outcome {
            Outcome::Store(entry) => match vary(&entry.headers) {
                Vary::None => {
                    let settled = self.publish(held, *entry, removed).await;
                    ("stored".to_owned(), settled)
                }
                Vary::Any => {
                    self.pass_on(held, NotStorable::Because(NotStored::VaryStar))
                        .await
                }
                Vary::Fields(fields) => {
                    let fields: Vec<String> =
                        fields.iter().map(|name| name.as_str().to_owned()).collect();
                    self.publish_variant(held, key, visitor, *entry, &fields, removed)
                        .await
                }
            },
            Outcome::Pass(reason) => self.pass_on(held, reason).await,
            Outcome::Unstored(why) => (format!("not-stored: {why}"), self.release(held).await),
            Outcome::Failed(why) => (format!("failed: {why}"), self.mark_failure(held).await),
        }
    }

    async fn pass_on(&self, held: Box<Held>, reason: NotStorable) -> (String, Settled) {
        let (authorized_only, keep_entry, mark) = match reason {
            NotStorable::Because(NotStored::Authorization) => (true, true, true),
            NotStorable::Because(reason) => (false, false, reason.marks_pass()),
            NotStorable::TooLong | NotStorable::TooManyVaryFields => (false, false, true),
        };
        if !mark {
            return (format!("not-stored: {reason}"), self.release(held).await);
        }
        let pass = Pass {
            until: self.platform.now().plus(self.config.origin.pass),
            authorized_only,
        };
        (
            format!("passed: {reason}"),
            self.mark_pass(held, pass, keep_entry).await,
        )
    }

    /// Publishes an entry that holds for one variant of its key. Where the cell
    /// at hand is not that variant's, the variant's is written first: whoever
    /// then learns from the primary cell that there are variants, finds it.
    async fn publish_variant(
        &self,
        held: Box<Held>,
        key: &str,
        visitor: &request::Parts,
        entry: Entry,
        fields: &[String],
        removed: &[Orphan],
    ) -> (String, Settled) {
        let primary = held.loaded.key == key;
        let known = if primary {
            held.loaded.vary().to_vec()
        } else {
            self.load(key).await.vary().to_vec()
        };
        let mut names = known.clone();
        names.extend(fields.iter().filter(|name| !known.contains(name)).cloned());
        names.sort_unstable();
        if names.len() > VARY_FIELDS_MAX {
            return self.pass_on(held, NotStorable::TooManyVaryFields).await;
        }
        let variant = variant_key(key, &names, &visitor.headers);
        if held.loaded.key == variant {
            self.enlist(key, &variant).await;
            let settled = self.publish(held, entry, removed).await;
            return ("stored".to_owned(), settled);
        }
        // Where its key's cell is: a store that has come back in between would
        // have the variant and not know of it.
        let at = match held.loaded.backing {
            Backing::Local => self.load_local(&variant).await,
            Backing::Shared => self.load(&variant).await,
        };
        let settled = match self.elect(&at).await {
            Election::Held(other) => {
                self.enlist(key, &variant).await;
                let entry = Entry {
                    lease: other.holder,
                    ..entry
                };
                self.publish_elsewhere(&held, other, entry).await
            }
            // Another is at this variant: theirs is as good as ours.
            Election::Taken(_) | Election::Backoff | Election::Changed => Settled::Done,
        };
        if primary {
            self.split(held, &names).await;
        } else {
            self.release(held).await;
            self.widen(key, &names).await;
        }
        ("stored-variant".to_owned(), settled)
    }

    /// Publishes what was fetched under one cell's lease in another cell. A body
    /// in chunks moves with it: first the other cell answers for its draft, then
    /// this one no more, so that at every moment one of them does, and neither
    /// takes a published body for litter.
    async fn publish_elsewhere(&self, from: &Held, to: Box<Held>, entry: Entry) -> Settled {
        if let Some(manifest) = entry.body.manifest() {
            // Where the store failed in between, the chunks are not where the
            // other cell is. And what a 304 has confirmed is this cell's: whoever
            // asks for the other fetches it whole.
            let present = from.loaded.entry().and_then(|entry| entry.body.manifest());
            if from.loaded.backing != to.loaded.backing
                || present.is_some_and(|present| present.body == manifest.body)
            {
                return self.release(to).await;
            }
            let draft = Draft {
                body: manifest.body,
                chunks: u32::try_from(manifest.chunks()).unwrap_or(u32::MAX),
            };
            for (held, draft) in [(&*to, Some(draft)), (from, None)] {
                match self
                    .note_draft(held.loaded.clone(), held.holder, draft)
                    .await
                {
                    Settled::Done => {}
                    lost @ (Settled::Fenced(_) | Settled::Failed) => return lost,
                }
            }
        }
        self.publish(to, entry, &[]).await
    }

    fn log_fetch(
        &self,
        reason: Reason,
        key: &str,
        outcome: &str,
        status: Option<StatusCode>,
        start: Time,
        settled: Settled,
    ) {
        self.platform.log(&event(
            "origin",
            &[
                ("reason", format!("{reason:?}").to_lowercase().into()),
                ("key", key.into()),
                ("status", status.map(|status| status.as_u16()).into()),
                ("outcome", outcome.into()),
                ("settled", settled.name().into()),
                ("millis", millis(self.platform.now().since(start)).into()),
            ],
        ));
    }
}
