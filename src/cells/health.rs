//! The store's health, applied: no operation takes longer than [`STORE_TIMEOUT`],
//! and a part of the store that failed is left alone until a probe finds that it
//! works again. The decisions are in [`crate::store::health`].

use super::{Cells, HOST_STORE};
use crate::store::health::{Access, Change, Part, Shown};
use crate::store::remedy::remedy;
use crate::store::{STORE_TIMEOUT, Store, StoreError};
use crate::time::Time;
use crate::world::{Platform, event};
use futures::future::{Either, select};
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

/// How long a request that can be answered from memory waits for the store.
const HIT_PATIENCE: Duration = Duration::from_millis(500);

/// How much longer than it may an operation takes that could not be given up.
const STOPPED_FOR: Duration = Duration::from_secs(1);

/// For how long the cell of a key is not written after the store has refused it.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Most keys that an instance remembers as refused. If it forgets one, the store
/// refuses it once more.
const REFUSED_MAX: usize = 256;

/// How an operation of the shared store is let out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Not while the store is left alone.
    Usual,
    /// The same, and given up early: memory can answer.
    Hit,
    /// Always. For purges, which concern other nodes.
    Forced,
}

/// The cells that the store has refused, and until when they are not written.
#[derive(Debug, Default)]
pub(super) struct Refused(VecDeque<(String, Time)>);

impl Refused {
    fn note(&mut self, id: &str, now: Time) {
        self.0.retain(|(known, until)| known != id && now < *until);
        if self.0.len() >= REFUSED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((id.to_owned(), now.plus(REFUSED_FOR)));
    }

    fn includes(&self, id: &str, now: Time) -> bool {
        let is_ahead = |until: Time| now < until && until.since(now) <= REFUSED_FOR;
        self.0
            .iter()
            .any(|(known, until)| known == id && is_ahead(*until))
    }
}

impl<P: Platform> Cells<P> {
    fn is_closed(&self, part: Part) -> bool {
        self.health.borrow().is_closed(part, self.platform.now())
    }

    /// Whether the shared store is not read at the moment.
    pub(super) fn reads_are_closed(&self) -> bool {
        self.is_closed(Part::Reads)
    }

    /// Whether the shared store is not written at the moment.
    pub(super) fn writes_are_closed(&self) -> bool {
        self.is_closed(Part::Writes)
    }

    /// Whether reads or writes of the shared store are left alone after a failure.
    pub(super) fn store_is_paused(&self) -> bool {
        self.reads_are_closed() || self.writes_are_closed()
    }

    /// Whether reads or writes of the shared store have failed and not worked since.
    pub(crate) fn store_fails(&self) -> bool {
        let health = self.health.borrow();
        health.is_failing(Part::Reads) || health.is_failing(Part::Writes)
    }

    /// Whether reading and writing fail. A host that stands in for its store says so itself.
    pub(crate) async fn store_parts(&self) -> [bool; 2] {
        let told = match self.platform.is_embedded() {
            true => self.platform.store().load(HOST_STORE).await.ok().flatten(),
            false => None,
        };
        let told = told.unwrap_or_default();
        let health = self.health.borrow();
        [Part::Reads, Part::Writes].map(|part| {
            let word = format!("{} fails", part.name());
            let is_said = String::from_utf8_lossy(&told).contains(&word);
            is_said || health.is_failing(part)
        })
    }

    /// Whether the shared store has failed at `moment` or after it.
    pub(crate) fn store_failed_since(&self, moment: Time) -> bool {
        let now = self.platform.now();
        self.health.borrow().has_failed_since(moment, now)
    }

    /// Whether this instance leaves swaps to others that others can make as well:
    /// refreshes behind an answer. Says so in the log, once.
    pub(crate) fn is_worn(&self) -> bool {
        let is_worn = self.platform.store().is_worn();
        if is_worn && !self.said_worn.replace(true) {
            self.platform.log(&event(
                "instance-worn",
                &[(
                    "effect",
                    "this instance has made as many swaps as its platform can bear: it does not \
                     refresh entries behind answers any more"
                        .into(),
                )],
            ));
        }
        is_worn
    }

    /// Whether this instance makes only the swaps that it needs, because it is worn
    /// or because swaps are slow: no refresh before an entry expires, and no notes.
    pub(crate) fn spares_swaps(&self) -> bool {
        self.is_worn() || self.health.borrow().has_slow_swaps(self.platform.now())
    }

    /// Lets an operation out, or turns it away.
    pub(super) fn enter(&self, part: Part, urgency: Urgency) -> Result<Access, StoreError> {
        let access = self.health.borrow_mut().enter(part, self.platform.now());
        match (access, urgency) {
            (Access::Closed, Urgency::Usual | Urgency::Hit) => {
                Err(StoreError::new("the store is left alone after a failure"))
            }
            (access, _) => Ok(access),
        }
    }

    /// Notes what an operation has shown about a part of the store.
    pub(super) fn note(
        &self,
        part: Part,
        access: Access,
        outcome: Result<Shown, &StoreError>,
        operation: &str,
    ) {
        let shown = match outcome {
            Ok(shown) => shown,
            Err(error) if error.is_refusal() => Shown::Works,
            Err(error) if error.is_contention() => Shown::Nothing,
            Err(_) => Shown::Fails,
        };
        // An operation that was forced out counts if it works, and changes nothing
        // if it does not.
        let access = match (access, shown) {
            (Access::Closed, Shown::Works) => Access::Probe,
            (Access::Closed, _) => Access::Open,
            (access, _) => access,
        };
        let (now, random) = (self.platform.now(), self.platform.random());
        let change = self
            .health
            .borrow_mut()
            .note(part, access, shown, now, random);
        match change {
            None => {}
            Some(Change::Recovered) => self.platform.log(&event(
                "store-recovered",
                &[
                    ("part", part.name().into()),
                    ("operation", operation.into()),
                ],
            )),
            Some(Change::Failed) => {
                let error = outcome.err().map(ToString::to_string).unwrap_or_default();
                let (effect, remedy) = (effect(part), remedy(part, &error));
                let remedy = match self.platform.store().further_remedy() {
                    "" => remedy.to_owned(),
                    further => format!("{remedy}; {further}"),
                };
                self.platform.log(&event(
                    "store-failed",
                    &[
                        ("part", part.name().into()),
                        ("operation", operation.into()),
                        ("error", error.into()),
                        ("effect", effect.into()),
                        ("remedy", remedy.into()),
                    ],
                ));
            }
        }
    }

    /// Runs an operation of the shared store, for at most this long.
    async fn within<T>(
        &self,
        most: Duration,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let timeout = self.platform.sleep(most);
        match select(pin!(operation), pin!(timeout)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(StoreError::new(format!(
                "the store did not answer within {most:?}"
            ))),
        }
    }

    /// Notes that a failed operation has stopped the instance, if it has: nothing went on
    /// until it was over, its timeout included. Spin's SQLite store does this while
    /// another process has locked the file, for five seconds each time.
    fn note_if_stopped<T>(
        &self,
        part: Part,
        started: Time,
        most: Duration,
        result: &Result<T, StoreError>,
    ) {
        let now = self.platform.now();
        if result.is_err() && now.since(started) >= most.saturating_add(STOPPED_FOR) {
            self.health.borrow_mut().note_stopped(part, now);
        }
    }

    /// Reads from the shared store.
    pub(super) async fn reading<T>(
        &self,
        urgency: Urgency,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // First the stricter of both: no probe of reads is spent for nothing.
        let hit = match urgency {
            Urgency::Hit => Some(self.enter(Part::Hits, urgency)?),
            Urgency::Usual | Urgency::Forced => None,
        };
        let access = self.enter(Part::Reads, urgency)?;
        let most = match urgency {
            Urgency::Hit => HIT_PATIENCE,
            Urgency::Usual | Urgency::Forced => STORE_TIMEOUT,
        };
        let started = self.platform.now();
        let result = self.within(most, work).await;
        let outcome = result.as_ref().map(|_| Shown::Works);
        let was_given_up = self.platform.now().since(started) >= HIT_PATIENCE;
        if let Some(hit) = hit {
            // An error that comes at once is no slowness.
            let shown = match was_given_up {
                true => outcome,
                false => outcome.or(Ok(Shown::Nothing)),
            };
            self.note(Part::Hits, hit, shown, "load");
            if outcome.is_err() && was_given_up {
                // It may only be slow.
                self.note(Part::Reads, access, Ok(Shown::Nothing), "load");
                self.note_if_stopped(Part::Reads, started, most, &result);
                return result;
            }
        }
        self.note(Part::Reads, access, outcome, "load");
        self.note_if_stopped(Part::Reads, started, most, &result);
        result
    }

    /// Runs an operation that changes the shared store, and says how it was let out.
    /// The caller notes what it has shown.
    pub(super) async fn writing<T>(
        &self,
        urgency: Urgency,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<(Access, Result<T, StoreError>), StoreError> {
        let access = self.enter(Part::Writes, urgency)?;
        let started = self.platform.now();
        let result = self.within(STORE_TIMEOUT, work).await;
        self.note_if_stopped(Part::Writes, started, STORE_TIMEOUT, &result);
        Ok((access, result))
    }

    /// The store has failed in a way that no single operation has shown.
    pub(crate) fn note_store_failure(&self, operation: &str, error: &StoreError) {
        self.note(Part::Writes, Access::Probe, Err(error), operation);
    }

    /// A swap took this long.
    pub(super) fn note_swap_time(&self, took: Duration) {
        let now = self.platform.now();
        self.health.borrow_mut().note_swap(took, now);
    }

    /// The store does not take a value of this key: it is not written for a while.
    pub(super) fn note_refusal(&self, id: &str, key: &str, error: &StoreError) {
        self.refused.borrow_mut().note(id, self.platform.now());
        self.platform.log(&event(
            "value-refused",
            &[
                ("key", key.into()),
                ("error", error.to_string().into()),
                (
                    "effect",
                    "each instance caches this key in its own memory".into(),
                ),
                (
                    "remedy",
                    "lower limits.inline, or use a store that takes larger values".into(),
                ),
            ],
        ));
    }

    /// Whether the store has refused the cell lately.
    pub(super) fn is_refused(&self, id: &str) -> bool {
        self.refused.borrow().includes(id, self.platform.now())
    }
}

/// What a failure means for visitors.
fn effect(part: Part) -> &'static str {
    match part {
        Part::Reads => "this instance caches in its own memory only",
        Part::Writes => {
            "stored entries are served; new ones are cached in this instance's memory only"
        }
        Part::Hits => "this instance answers from its own memory where it can",
    }
}

#[cfg(test)]
mod tests;
