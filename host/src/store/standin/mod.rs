//! A store for which the node stands in while it fails.
//!
//! Instances of the component come and go, and each knows little of what the others of its
//! node know. So while the store does not answer, or refuses what it is asked, the node
//! answers their reads, and swaps exactly, from what it has read and written lately
//! ([`node`]). They go on as ever, and all of them together keep to the node's share of the
//! origin's budget ([`share`]). One task looks whether the store works again, and gives it
//! what it lacks ([`back`]): by swaps, so that nothing newer is overwritten.
//!
//! A store that hangs delays no more than the first of its readers. Those that can be
//! answered from memory are answered from memory until it has said something.

mod back;
mod node;
mod share;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use leeward::cells::HOST_STORE;
use leeward::store::health;
use leeward::store::remedy::remedy;
use leeward::time::Time;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use self::back::look;
use self::node::{Node, Part, Plan};
use self::share::{Own, is_record};
pub(crate) use self::share::{Share, Shares};
use super::behaviour::CALL_MAX;
use super::{Backend, Number, StoreError, StoreResult};
use crate::report;

/// How long a read waits for the store where memory can answer it.
const PATIENCE: Duration = Duration::from_millis(250);

/// Longest that an operation waits for the store. Then the store hangs. Shorter than a call
/// of the guest may take.
const OPERATION_MAX: Duration = Duration::from_millis(1_500);

/// How late a timer comes that shows that this process stood still.
const STOOD_STILL: Duration = Duration::from_millis(250);

const _: () = assert!(OPERATION_MAX.as_millis() < CALL_MAX.as_millis());

/// See the module. Clones are the same one.
#[derive(Debug)]
pub(super) struct StandIn(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    backend: Arc<dyn Backend>,
    share: Shares,
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
    /// Whether the log says that reads fail, and that writes do.
    said: [bool; 2],
}

impl State {
    fn said(&mut self, part: Part) -> &mut bool {
        let [reads, writes] = &mut self.said;
        match part {
            Part::Reads => reads,
            Part::Writes => writes,
        }
    }
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
    pub(super) fn new(backend: Arc<dyn Backend>, share: Shares) -> Self {
        Self::logging(backend, share, report::json)
    }

    fn logging(backend: Arc<dyn Backend>, share: impl Into<Shares>, log: fn(String)) -> Self {
        Self(Arc::new(Inner {
            backend,
            share: share.into(),
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

/// An operation of the store, for at most this long. A process that stood still itself, as
/// one that is stopped or gets no processor time, looks once more: the answer may be there.
async fn bounded<T>(most: Duration, work: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    let began = Instant::now();
    let mut work = std::pin::pin!(work);
    let mut done = timeout(most, &mut work).await;
    if done.is_err() && began.elapsed() >= most.saturating_add(STOOD_STILL) {
        done = timeout(most, work).await;
    }
    done.unwrap_or_else(|_| {
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
        match self
            .share
            .get()
            .limited(record.as_deref(), &state.own, now())
        {
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
            self.say_failed(part, operation, error);
        }
        if looks {
            tokio::spawn(look(Arc::downgrade(self)));
        }
    }

    /// Says in the log that a part of the store fails, once.
    fn say_failed(&self, part: Part, operation: &str, error: &str) {
        if std::mem::replace(self.state().said(part), true) {
            return;
        }
        let (shown, effect) = match part {
            Part::Reads => (
                health::Part::Reads,
                "this node serves what it has read lately, and keeps to \
                 origin.local_concurrency requests",
            ),
            Part::Writes => (
                health::Part::Writes,
                "stored entries are served; this node keeps new ones in its memory, and keeps \
                 to origin.local_concurrency requests",
            ),
        };
        let line = json!({
            "event": "store-failed",
            "part": shown.name(),
            "operation": operation,
            "error": error,
            "effect": effect,
            "remedy": remedy(shown, error),
        });
        (self.log)(line.to_string());
    }

    /// Says that it works again, if it was said that it fails.
    fn say_recovered(&self, part: Part) {
        if !std::mem::replace(self.state().said(part), false) {
            return;
        }
        let part = match part {
            Part::Reads => health::Part::Reads.name(),
            Part::Writes => health::Part::Writes.name(),
        };
        (self.log)(json!({ "event": "store-recovered", "part": part }).to_string());
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
        if key == HOST_STORE {
            return Ok(Some(inner.state().node.told().into_bytes()));
        }
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
