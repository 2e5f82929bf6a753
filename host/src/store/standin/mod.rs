//! A store for which the node stands in while it fails.
//!
//! Instances of the component come and go, and each knows little of what the others of its
//! node know. So while the store does not answer, or refuses what it is asked, the node
//! answers their reads, and swaps exactly, from what it has read and written lately
//! ([`node`]). They go on as ever, and all of them together keep to the node's share of the
//! origin's budget ([`share`]). One task looks whether the store works again, and gives it
//! what it lacks: by swaps, so that nothing newer is overwritten.
//!
//! A store that hangs delays no more than the first of its readers. Those that can be
//! answered from memory are answered from memory until it has said something.

mod node;
mod share;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use leeward::cell::transition::{Purge, Stamp, purge};
use leeward::cell::{Cell, Nonce, codec};
use leeward::store::health;
use leeward::store::remedy::remedy;
use leeward::time::Time;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use self::node::{Expected, Node, Offer, Part, Plan};
pub(crate) use self::share::Share;
use self::share::{Own, is_record};
use super::behaviour::CALL_MAX;
use super::{Backend, HOST_KEYS, Number, StoreError, StoreResult};
use crate::report;

/// How long a read waits for the store where memory can answer it.
const PATIENCE: Duration = Duration::from_millis(250);

/// Longest that an operation waits for the store. Then the store hangs. Shorter than a call
/// of the guest may take.
const OPERATION_MAX: Duration = Duration::from_millis(1_500);

const _: () = assert!(OPERATION_MAX.as_millis() < CALL_MAX.as_millis());

/// How long a look at a store that failed takes at most.
const LOOK_MAX: Duration = OPERATION_MAX;

/// The pause before the first look. It doubles with each that finds a store that fails.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Most rounds in which values are offered to a store that is back. What is written during
/// the last of them is dropped.
const ROUNDS_MAX: usize = 4;

/// How often a swap is tried again in which another has come first.
const SWAPS_MAX: usize = 8;

/// Read and written to find out whether the store works.
const LOOKED_AT: &str = "probe";

/// The purges, by the mark that each leaves.
const PURGES: [Purge; 3] = [Purge::Soft, Purge::Invalidate, Purge::Hard];

/// See the module. Clones are the same one.
#[derive(Debug)]
pub(super) struct StandIn(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    backend: Arc<dyn Backend>,
    share: Share,
    state: Mutex<State>,
    /// Tells those that wait for the store that the node stands in.
    stands: Notify,
    log: fn(String),
}

#[derive(Debug, Default)]
struct State {
    node: Node,
    own: Own,
    /// Whether a task looks for the store.
    is_looked_for: bool,
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Time::from_unix_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn owned(bytes: Option<Bytes>) -> Option<Vec<u8>> {
    bytes.map(Vec::from)
}

impl StandIn {
    /// Stands in for `backend` while that fails.
    pub(super) fn new(backend: Arc<dyn Backend>, share: Share) -> Self {
        Self::logging(backend, share, report::line)
    }

    fn logging(backend: Arc<dyn Backend>, share: Share, log: fn(String)) -> Self {
        Self(Arc::new(Inner {
            backend,
            share,
            state: Mutex::default(),
            stands: Notify::new(),
            log,
        }))
    }

    /// Does an operation that writes: in the store, or while that fails, by `alone`. An
    /// operation in the store goes on if nobody waits for it any more.
    async fn write<T, F>(
        &self,
        name: &'static str,
        work: impl FnOnce(Arc<dyn Backend>) -> F,
        alone: impl FnOnce(&mut State) -> StoreResult<T>,
    ) -> StoreResult<T>
    where
        T: Send + 'static,
        F: Future<Output = StoreResult<T>> + Send + 'static,
    {
        let inner = &self.0;
        let stands = inner.stands.notified();
        if inner.state().node.writes_fail() {
            return alone(&mut inner.state());
        }
        let work = bounded(OPERATION_MAX, work(Arc::clone(&inner.backend)));
        let working = tokio::spawn(work);
        let result = tokio::select! {
            result = working => result.map_err(StoreError::other)?,
            () = stands => return alone(&mut inner.state()),
        };
        match result {
            Err(StoreError::Down(error)) => {
                inner.fail(Part::Writes, name, &error);
                alone(&mut inner.state())
            }
            result => result,
        }
    }
}

/// An operation of the store, for at most this long.
async fn bounded<T>(most: Duration, work: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    timeout(most, work).await.unwrap_or_else(|_| {
        Err(StoreError::Down(format!(
            "the store did not answer within {most:?}"
        )))
    })
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // No operation leaves the state half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the store, and notes what it shows.
    async fn read(self: Arc<Self>, key: String) -> StoreResult<Option<Vec<u8>>> {
        let read = async {
            let stored = self.backend.get(&key).await?;
            match stored {
                None if is_record(&key) => self.keep_record(&key).await,
                stored => Ok(stored),
            }
        };
        match bounded(OPERATION_MAX, read).await {
            Ok(stored) => {
                let stored = stored.map(Bytes::from);
                let mut state = self.state();
                // Others may hold slots by the store's record that this node cannot write.
                if state.node.writes_fail() && is_record(&key) {
                    if state.node.answer(&key).is_none() {
                        state.node.has_read(&key, stored, Instant::now());
                    }
                    return Ok(self.record(&mut state, &key));
                }
                Ok(owned(state.node.has_read(&key, stored, Instant::now())))
            }
            Err(StoreError::Down(error)) => {
                self.fail(Part::Reads, "load", &error);
                Ok(self.known(&key))
            }
            Err(error) => Err(error),
        }
    }

    /// The store has no record. If it has lost it, it gets the last one that this node has
    /// seen: what was in flight still is.
    async fn keep_record(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        let known = self.state().node.answer(key);
        let Some(known) = known else {
            return Ok(None);
        };
        match self.backend.replace(key, None, &known).await? {
            true => Ok(Some(known.into())),
            false => self.backend.get(key).await,
        }
    }

    /// What the node knows of a key while the store fails.
    fn known(&self, key: &str) -> Option<Vec<u8>> {
        let mut state = self.state();
        match is_record(key) {
            true => self.record(&mut state, key),
            false => owned(state.node.answer(key)),
        }
    }

    /// The record of the budget while the store fails.
    fn record(&self, state: &mut State, key: &str) -> Option<Vec<u8>> {
        let record = state.node.answer(key);
        match self.share.limited(record.as_deref(), &state.own, now()) {
            Some(limited) => {
                let expected = record.as_deref();
                let (new, now) = (limited.clone(), Instant::now());
                state.node.swap(key, expected, new, now);
                Some(limited.into())
            }
            None => owned(record),
        }
    }

    /// A part of the store fails: the node stands in from here on.
    fn fail(self: &Arc<Self>, part: Part, operation: &str, error: &str) {
        let (has_worked, looks) = {
            let mut state = self.state();
            let has_worked = state.node.fail(part);
            (
                has_worked,
                !std::mem::replace(&mut state.is_looked_for, true),
            )
        };
        self.stands.notify_waiters();
        if has_worked {
            let (name, shown, effect) = match part {
                Part::Reads => (
                    "read",
                    health::Part::Reads,
                    "this node serves what it has read lately, and keeps to \
                     origin.local_concurrency requests",
                ),
                Part::Writes => (
                    "write",
                    health::Part::Writes,
                    "stored entries are served; this node keeps new ones in its memory, and \
                     keeps to origin.local_concurrency requests",
                ),
            };
            (self.log)(
                json!({
                    "event": "store-failed",
                    "part": name,
                    "operation": operation,
                    "error": error,
                    "effect": effect,
                    "remedy": remedy(shown, error),
                })
                .to_string(),
            );
        }
        if looks {
            tokio::spawn(look(Arc::downgrade(self)));
        }
    }

    /// Looks whether the store works again. Returns whether it does.
    async fn look(&self) -> bool {
        if bounded(LOOK_MAX, self.backend.get(LOOKED_AT))
            .await
            .is_err()
        {
            return false;
        }
        // One that does not write may still read.
        let read = self.state().node.reads_fail();
        let key = format!("{HOST_KEYS}{LOOKED_AT}");
        if bounded(LOOK_MAX, self.backend.set(&key, b""))
            .await
            .is_err()
        {
            if read {
                self.state().node.read_again();
                self.say_recovered("read");
            }
            return false;
        }
        if !self.give_back().await {
            return false;
        }
        if read {
            self.say_recovered("read");
        }
        self.say_recovered("write");
        true
    }

    fn say_recovered(&self, part: &str) {
        (self.log)(json!({ "event": "store-recovered", "part": part }).to_string());
    }

    /// Offers the store what was written meanwhile, and works with it from here on. Returns
    /// false if it fails.
    async fn give_back(&self) -> bool {
        for _ in 0..ROUNDS_MAX {
            let mut offers = self.state().node.offers();
            offers.retain(|offer| !is_record(&offer.key));
            if offers.is_empty() {
                break;
            }
            for offer in offers {
                if matches!(self.give(&offer).await, Err(StoreError::Down(_))) {
                    return false;
                }
            }
        }
        for is_last in (0..SWAPS_MAX).rev().map(|left| left == 0) {
            let mut records = self.state().node.offers();
            records.retain(|offer| is_record(&offer.key));
            for record in &records {
                if matches!(self.give_record(record).await, Err(StoreError::Down(_))) {
                    return false;
                }
            }
            let mut state = self.state();
            // Unless an instance has taken a slot meanwhile, which the store does not know.
            let is_same = |it: &Offer| state.node.answer(&it.key).as_ref() == Some(&it.value);
            if is_last || records.iter().all(is_same) {
                state.node.work_again();
                state.is_looked_for = false;
                break;
            }
        }
        true
    }

    async fn give(&self, offer: &Offer) -> StoreResult<()> {
        let (key, value) = (&offer.key, &offer.value);
        let is_taken = match &offer.instead_of {
            Expected::Anything => {
                bounded(LOOK_MAX, self.backend.set(key, value)).await?;
                true
            }
            Expected::Value(before) => {
                let swapped = self.backend.replace(key, before.as_deref(), value);
                // An operation that was given up may have been done.
                let is_taken = bounded(LOOK_MAX, swapped).await?
                    || bounded(LOOK_MAX, self.backend.get(key)).await?.as_deref() == Some(value);
                if !is_taken && key.starts_with("cell/") {
                    self.purge_again(key, before.as_ref(), value).await?;
                }
                is_taken
            }
        };
        let mut state = self.state();
        state.node.has_offered(offer, is_taken, Instant::now());
        Ok(())
    }

    /// Applies the purges of a cell, which the store has not taken, to what it has.
    async fn purge_again(&self, key: &str, before: Option<&Bytes>, new: &Bytes) -> StoreResult<()> {
        let decoded = |raw: &Bytes| codec::decode_any(raw).ok();
        let purges = purges(before.and_then(decoded).as_ref(), decoded(new).as_ref());
        if purges.is_empty() {
            return Ok(());
        }
        for _ in 0..SWAPS_MAX {
            let stored = bounded(LOOK_MAX, self.backend.get(key)).await?;
            let Some(stored) = stored.map(Bytes::from) else {
                return Ok(());
            };
            let Some(mut cell) = decoded(&stored) else {
                return Ok(());
            };
            for &(kind, now) in &purges {
                let nonce = Nonce::new(fastrand::u128(..));
                cell = purge(&cell, kind, Stamp { nonce, now });
            }
            let Ok(purged) = codec::encode(&cell) else {
                return Ok(());
            };
            let swapped = self.backend.replace(key, Some(&stored), &purged);
            if bounded(LOOK_MAX, swapped).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Brings what is in flight into the store's record.
    async fn give_record(&self, mine: &Offer) -> StoreResult<()> {
        for _ in 0..SWAPS_MAX {
            let stored = bounded(LOOK_MAX, self.backend.get(&mine.key)).await?;
            let restored = {
                let state = self.state();
                let share = &self.share;
                share.restored(stored.as_deref(), &mine.value, &state.own, now())
            };
            let Some(restored) = restored else {
                break;
            };
            let swapped = self
                .backend
                .replace(&mine.key, stored.as_deref(), &restored);
            if bounded(LOOK_MAX, swapped).await? {
                break;
            }
        }
        Ok(())
    }
}

/// The purges that made the one cell from the other, with their times, the weakest first.
fn purges(before: Option<&Cell>, new: Option<&Cell>) -> Vec<(Purge, Time)> {
    let mark = |cell: &Cell, purge: Purge| match purge {
        Purge::Soft => cell.marks.softened,
        Purge::Invalidate => cell.marks.invalidated,
        Purge::Hard => cell.marks.purged,
    };
    let made = |purge: Purge| {
        let made = mark(new?, purge)?;
        let known = before.and_then(|before| mark(before, purge));
        (known < Some(made)).then_some((purge, made))
    };
    PURGES.into_iter().filter_map(made).collect()
}

/// Looks for a store that failed until it works again, or until nobody uses it any more.
async fn look(store: Weak<Inner>) {
    let mut pause = PAUSE_FIRST;
    loop {
        sleep(pause).await;
        let Some(inner) = store.upgrade() else {
            return;
        };
        if inner.look().await {
            return;
        }
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

#[async_trait]
impl Backend for StandIn {
    async fn check(&self) -> StoreResult<()> {
        let inner = &self.0;
        let stands = inner.stands.notified();
        if inner.state().node.reads_fail() {
            return Ok(());
        }
        let backend = Arc::clone(&inner.backend);
        let checking = async move { bounded(OPERATION_MAX, backend.check()).await };
        let checked = tokio::select! {
            checked = tokio::spawn(checking) => checked.map_err(StoreError::other)?,
            () = stands => Ok(()),
        };
        match checked {
            Err(StoreError::Down(error)) => {
                inner.fail(Part::Reads, "open", &error);
                Ok(())
            }
            checked => checked,
        }
    }

    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        let inner = &self.0;
        let stands = inner.stands.notified();
        let plan = inner.state().node.read(key, Instant::now());
        let is_known = match plan {
            Plan::Answer(_) if is_record(key) => return Ok(inner.known(key)),
            Plan::Answer(value) => return Ok(owned(value)),
            // Of a record only the store's word counts.
            Plan::Ask { is_known } => is_known && !is_record(key),
        };
        let mut reading = tokio::spawn(Arc::clone(inner).read(key.to_owned()));
        let mut patience = std::pin::pin!(sleep(PATIENCE));
        let mut stands = std::pin::pin!(stands);
        loop {
            tokio::select! {
                read = &mut reading => return read.map_err(StoreError::other)?,
                () = &mut patience, if is_known => {
                    return Ok(owned(inner.state().node.read_late(key)));
                }
                () = &mut stands => {
                    if inner.state().node.reads_fail() {
                        return Ok(inner.known(key));
                    }
                    // Only writes fail.
                    stands.set(inner.stands.notified());
                }
            }
        }
    }

    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        let value = Bytes::copy_from_slice(value);
        let (name, written) = (key.to_owned(), value.clone());
        let inner = Arc::clone(&self.0);
        self.write(
            "put",
            |backend| async move {
                backend.set(&name, &written).await?;
                let mut state = inner.state();
                state.node.has_written(&name, written, Instant::now());
                Ok(())
            },
            |state| {
                state.node.set(key, value, Instant::now());
                Ok(())
            },
        )
        .await
    }

    async fn delete(&self, key: &str) -> StoreResult<()> {
        let name = key.to_owned();
        self.0.state().node.forget(key);
        self.write(
            "remove",
            |backend| async move { backend.delete(&name).await },
            |state| {
                state.node.keep_alone(key, None, Instant::now());
                Ok(())
            },
        )
        .await
    }

    async fn keys(&self) -> StoreResult<Vec<String>> {
        if self.0.state().node.reads_fail() {
            return Err(StoreError::Down("the store fails".to_owned()));
        }
        self.0.backend.keys().await
    }

    async fn replace(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> StoreResult<bool> {
        let new = Bytes::copy_from_slice(value);
        let before = expected.map(Bytes::copy_from_slice);
        let (name, written) = (key.to_owned(), new.clone());
        let inner = Arc::clone(&self.0);
        let is_swapped = self
            .write(
                "swap",
                |backend| async move {
                    let is_swapped = backend.replace(&name, before.as_deref(), &written).await?;
                    let mut state = inner.state();
                    match is_swapped {
                        true => state.node.has_written(&name, written, Instant::now()),
                        false if !state.node.writes_fail() => state.node.forget(&name),
                        false => {}
                    }
                    Ok(is_swapped)
                },
                |state| Ok(state.node.swap(key, expected, new, Instant::now())),
            )
            .await?;
        if is_swapped && is_record(key) {
            self.0.state().own.note(expected, value);
        }
        Ok(is_swapped)
    }

    async fn remove_if(&self, key: &str, expected: &[u8]) -> StoreResult<bool> {
        let (name, value) = (key.to_owned(), expected.to_vec());
        let inner = Arc::clone(&self.0);
        self.write(
            "remove",
            |backend| async move {
                let is_removed = backend.remove_if(&name, &value).await?;
                inner.state().node.forget(&name);
                Ok(is_removed)
            },
            |state| {
                let is_expected = state.node.answer(key).as_deref() == Some(expected);
                if is_expected {
                    state.node.keep_alone(key, None, Instant::now());
                }
                Ok(is_expected)
            },
        )
        .await
    }

    async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64> {
        let name = key.to_owned();
        self.write(
            "increment",
            |backend| async move { backend.increment(&name, delta, number).await },
            |state| {
                let (bytes, sum) = number.add(state.node.answer(key).as_deref(), delta)?;
                let now = Instant::now();
                state.node.keep_alone(key, Some(bytes.into()), now);
                Ok(sum)
            },
        )
        .await
    }

    fn own_number(&self) -> Number {
        self.0.backend.own_number()
    }
}

#[cfg(test)]
mod tests;
