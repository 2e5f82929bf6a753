//! The store that the nodes share, and its platforms' ways of misbehaving.
//!
//! [`Server`] holds the values. A node reaches it over a [`Link`], where
//! requests and replies take time, overtake each other and get lost. What
//! arrives at the server is done there even if the node that sent it is gone.

use crate::coverage::Kind;
use crate::executor::{Executor, Micros, Owner, Sleep};
use crate::oracle::Oracle;
use crate::scenario::{Distortion, FaultKind, Operations, Scenario, StoreFault, StoreKind};
use crate::views::Views;
use bytes::Bytes;
use futures::channel::oneshot;
use leeward::budget;
use leeward::store::{
    Guarded, KeyValue, Said, Store, StoreError, Swap, Timed, Values, WriteDelayTooLong,
};
use leeward::time::Time;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// All values and counters.
#[derive(Debug)]
pub(crate) struct Server {
    values: RefCell<BTreeMap<String, Bytes>>,
    counters: RefCell<BTreeMap<String, i64>>,
    /// What each node sees of the values, where that differs.
    views: Option<Views>,
    oracle: Rc<Oracle>,
}

impl Server {
    pub(crate) fn new(oracle: Rc<Oracle>, views: Option<Views>) -> Rc<Self> {
        Rc::new(Server {
            values: RefCell::default(),
            counters: RefCell::default(),
            views,
            oracle,
        })
    }

    /// What a node reads.
    fn read(&self, key: &str, by: Owner) -> Option<Bytes> {
        let value = self.get(key);
        let (Some(views), Some(node)) = (&self.views, by.node()) else {
            return value;
        };
        let seen = views.read(key, node);
        if seen != value {
            self.oracle.count(Kind::Behind);
            if is_chunk(key) && seen.is_none() {
                self.oracle.count(Kind::ChunkBehind);
            }
        }
        seen
    }

    fn show(&self, key: &str, value: Option<&Bytes>) {
        if let Some(views) = &self.views {
            views.write(key, value.cloned());
        }
    }

    /// Writes whatever is there.
    fn overwrite(&self, key: &str, new: &Bytes, by: Owner) {
        let before = self.values.borrow_mut().insert(key.to_owned(), new.clone());
        self.show(key, Some(new));
        self.oracle.overwritten(key, before.as_ref(), new, by);
        self.oracle.complete(key, new, by, self);
    }

    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        self.values.borrow().get(key).cloned()
    }

    /// What a node has seen of a value since then, at least.
    pub(crate) fn seen_since(&self, key: &str, by: Owner, since: Micros) -> Option<Bytes> {
        match (&self.views, by.node()) {
            (Some(views), Some(node)) => views.read_since(key, node, since),
            _ => self.get(key),
        }
    }

    /// The names of all chunks.
    pub(crate) fn chunks(&self) -> Vec<String> {
        let values = self.values.borrow();
        let names = values.keys().filter(|name| is_chunk(name));
        names.cloned().collect()
    }

    /// All cells.
    pub(crate) fn cells(&self) -> Vec<leeward::cell::Cell> {
        let values = self.values.borrow();
        let cells = values.iter().filter(|(name, _)| !is_chunk(name));
        cells
            .filter_map(|(_, value)| crate::oracle::read(value))
            .collect()
    }

    /// Those cells that have this text in them.
    pub(crate) fn cells_with(&self, text: &str) -> Vec<leeward::cell::Cell> {
        let values = self.values.borrow();
        let cells = values.iter().filter(|(name, value)| {
            !is_chunk(name)
                && value
                    .windows(text.len().max(1))
                    .any(|window| window == text.as_bytes())
        });
        cells
            .filter_map(|(_, value)| crate::oracle::read(value))
            .collect()
    }

    fn put_chunk(&self, key: &str, value: &Bytes, by: Owner) {
        self.oracle.count(Kind::ChunkStored);
        let before = self
            .values
            .borrow_mut()
            .insert(key.to_owned(), value.clone());
        self.show(key, Some(value));
        if before.is_some() {
            self.oracle.rewritten(key, by);
        }
    }

    fn remove_chunk(&self, key: &str, by: Owner) {
        if self.values.borrow_mut().remove(key).is_some() {
            self.show(key, None);
            self.oracle.count(Kind::ChunkRemoved);
            self.oracle.removed(key, by, self);
        }
    }

    /// Loses all values and counters.
    pub(crate) fn empty(&self) {
        self.values.borrow_mut().clear();
        self.counters.borrow_mut().clear();
    }

    fn put(&self, key: &str, new: &Bytes, by: Owner) {
        let before = self.values.borrow_mut().insert(key.to_owned(), new.clone());
        self.oracle.applied(key, before.as_ref(), new, by);
        self.oracle.complete(key, new, by, self);
    }

    fn swap(&self, key: &str, expected: Option<&Bytes>, new: &Bytes, by: Owner) -> Swap {
        let current = self.get(key);
        if current.as_ref() != expected {
            return Swap::Conflict(current);
        }
        self.put(key, new, by);
        Swap::Done
    }

    fn increment(&self, key: &str) -> i64 {
        let counters = &mut *self.counters.borrow_mut();
        let counter = counters.entry(key.to_owned()).or_default();
        *counter += 1;
        *counter
    }
}

/// Whether a value is the record of the origin's budget.
pub(crate) fn is_budget(name: &str) -> bool {
    name.starts_with("budget/")
}

fn is_chunk(name: &str) -> bool {
    name.starts_with("body/")
}

/// How a node reaches the server.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) executor: Executor,
    pub(crate) server: Rc<Server>,
    pub(crate) oracle: Rc<Oracle>,
    pub(crate) scenario: Rc<Scenario>,
    pub(crate) owner: Owner,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// The one operation that changes nothing.
const READ: &str = "get";

impl Operations {
    /// Whether an operation is one of them.
    fn include(self, what: &str) -> bool {
        match self {
            Operations::Reads => what == READ,
            Operations::Writes => what != READ,
            Operations::Both => true,
        }
    }
}

/// What becomes of an operation.
enum Fate {
    Fine,
    Broken(StoreFault),
}

impl Link {
    fn fate(&self, what: &str) -> Fate {
        let now = self.executor.now();
        let Some(node) = self.owner.node() else {
            return Fate::Fine;
        };
        for fault in &self.scenario.faults {
            if let FaultKind::Store {
                nodes,
                how,
                operations,
                per_mille,
            } = fault.kind
                && operations.include(what)
                && (fault.from..fault.to).contains(&now)
                && nodes & (1 << node) != 0
                && self.executor.random(|rng| rng.u32(..1_000)) < per_mille
            {
                match operations {
                    Operations::Reads => self.oracle.count(Kind::StoreWritesOnly),
                    Operations::Writes => self.oracle.count(Kind::StoreReadsOnly),
                    Operations::Both => {}
                }
                return Fate::Broken(how);
            }
        }
        Fate::Fine
    }

    fn delay(&self, least: u64, most: u64) -> Duration {
        self.executor
            .between(Duration::from_micros(least), Duration::from_micros(most))
    }

    /// Has `work` done at the server, if the request gets there. What it says
    /// of an error is what a driver would.
    async fn ask<T: 'static>(
        &self,
        what: &str,
        work: impl Future<Output = T> + 'static,
    ) -> Result<T, StoreError> {
        let fate = self.fate(what);
        let (there, back) = (self.delay(300, 9_000), self.delay(300, 9_000));
        if let Fate::Broken(how) = fate {
            match how {
                StoreFault::Refuses => self.oracle.turned_away(self.owner),
                StoreFault::LosesRequest
                | StoreFault::LosesReply
                | StoreFault::FailsAfter
                | StoreFault::FailsAndApplies
                | StoreFault::Slow => self.oracle.hampered(self.owner),
            }
            self.oracle
                .trace(self.owner, || format!("store: {what} {how:?}"));
        }
        match fate {
            Fate::Broken(StoreFault::Refuses) => {
                self.oracle.count(Kind::StoreRefused);
                self.executor.sleep(back).await;
                return Err(StoreError::new("the store refuses"));
            }
            Fate::Broken(StoreFault::LosesRequest) => {
                self.oracle.count(Kind::StoreLost);
                futures::future::pending::<()>().await;
            }
            Fate::Fine | Fate::Broken(_) => {}
        }
        let later = match fate {
            Fate::Broken(StoreFault::FailsAndApplies) => self.delay(500_000, 8_000_000),
            _ => Duration::ZERO,
        };
        let (sender, receiver) = oneshot::channel();
        let executor = self.executor.clone();
        let there = there + later;
        self.executor.spawn(Owner::World, async move {
            executor.sleep(there).await;
            // Whoever asked may be dead, or have given up.
            let _ = sender.send(work.await);
        });
        if !later.is_zero() {
            self.oracle.count(Kind::ReplyLost);
            self.executor.sleep(back).await;
            return Err(StoreError::new("the store is away"));
        }
        let result = receiver
            .await
            .map_err(|_| StoreError::new("the store broke off"))?;
        match fate {
            Fate::Broken(StoreFault::LosesReply) => {
                self.oracle.count(Kind::ReplyLost);
                futures::future::pending::<()>().await;
            }
            Fate::Broken(StoreFault::FailsAfter) => {
                self.oracle.count(Kind::ReplyLost);
                self.executor.sleep(back).await;
                return Err(StoreError::new("the connection was lost"));
            }
            Fate::Broken(StoreFault::Slow) => {
                self.oracle.count(Kind::StoreSlow);
                let slow = self.delay(100_000, 3_000_000);
                self.executor.sleep(slow).await;
            }
            Fate::Fine | Fate::Broken(_) => self.executor.sleep(back).await,
        }
        Ok(result)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let (server, name, by) = (Rc::clone(&self.server), key.to_owned(), self.owner);
        self.ask(READ, async move { server.read(&name, by) }).await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        let server = Rc::clone(&self.server);
        let (key, expected, new) = (key.to_owned(), expected.cloned(), new.clone());
        let by = self.owner;
        self.ask("swap", async move {
            server.swap(&key, expected.as_ref(), &new, by)
        })
        .await
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        let server = Rc::clone(&self.server);
        let (key, value, by) = (key.to_owned(), value.clone(), self.owner);
        self.ask("put", async move { server.put_chunk(&key, &value, by) })
            .await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let server = Rc::clone(&self.server);
        let (key, by) = (key.to_owned(), self.owner);
        self.ask("remove", async move {
            server.counters.borrow_mut().remove(&key);
            server.remove_chunk(&key, by);
        })
        .await
    }

    /// A moment between two steps inside the server.
    fn pause(&self) -> impl Future<Output = ()> + 'static {
        let pause = self.delay(100, 3_000);
        let executor = self.executor.clone();
        async move { executor.sleep(pause).await }
    }
}

/// An exact store.
#[derive(Debug)]
pub(crate) struct Exact(Link);

impl Store for Exact {
    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        self.0.swap(key, expected, new).await
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.0.put(key, value).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.0.remove(key).await
    }
}

/// A broken store, which writes whatever it is told to.
#[derive(Debug)]
pub(crate) struct Blind(Link);

impl Store for Blind {
    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }

    async fn swap(
        &self,
        key: &str,
        _expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        let server = Rc::clone(&self.0.server);
        let (key, new, by) = (key.to_owned(), new.clone(), self.0.owner);
        self.0
            .ask("swap", async move { server.put(&key, &new, by) })
            .await?;
        Ok(Swap::Done)
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.0.put(key, value).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.0.remove(key).await
    }
}

/// A key-value platform with the ways of `kind`.
#[derive(Debug)]
pub(crate) struct Double {
    link: Link,
    kind: StoreKind,
}

impl Values for Double {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.link.get(key).await
    }

    async fn set(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.link.put(key, value).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.link.remove(key).await
    }
}

impl KeyValue for Double {
    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Said, StoreError> {
        let link = self.link.clone();
        let kind = self.kind;
        let (key, expected, new) = (key.to_owned(), expected.cloned(), new.clone());
        let pause = self.link.pause();
        let work = async move {
            let server = &link.server;
            if server.get(&key) != expected {
                return Said::Conflict;
            }
            pause.await;
            if kind == StoreKind::Upsert && expected.is_none() {
                link.oracle.count(Kind::Upserted);
                server.put(&key, &new, link.owner);
                return Said::Done;
            }
            match server.swap(&key, expected.as_ref(), &new, link.owner) {
                Swap::Done if kind == StoreKind::DeniesSuccess => {
                    link.oracle.count(Kind::StoreLied);
                    Said::Conflict
                }
                Swap::Done => Said::Done,
                Swap::Conflict(_) | Swap::Busy { .. } => Said::Conflict,
            }
        };
        self.link.ask("swap", work).await
    }

    async fn increment(&self, key: &str) -> Result<i64, StoreError> {
        let link = self.link.clone();
        let kind = self.kind;
        let key = key.to_owned();
        let pause = self.link.pause();
        let work = async move {
            let server = &link.server;
            let seen = server.counters.borrow().get(&key).copied();
            match (kind, seen) {
                (StoreKind::LooseCounter, None) => {
                    pause.await;
                    let told = server.increment(&key);
                    if told > 1 {
                        link.oracle.count(Kind::CounterLied);
                    }
                    Ok(1)
                }
                (StoreKind::ContendedCounter, seen) => {
                    pause.await;
                    if server.counters.borrow().get(&key).copied() == seen {
                        Ok(server.increment(&key))
                    } else {
                        Err(StoreError::new("the counter is contended"))
                    }
                }
                (_, _) => Ok(server.increment(&key)),
            }
        };
        self.link.ask("increment", work).await?
    }
}

/// A platform that only keeps values, and shows them late.
#[derive(Debug)]
pub(crate) struct Eventual(Link);

impl Values for Eventual {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }

    async fn set(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        if is_chunk(key) {
            return self.0.put(key, value).await;
        }
        let server = Rc::clone(&self.0.server);
        let (key, value, by) = (key.to_owned(), value.clone(), self.0.owner);
        self.0
            .ask("set", async move { server.overwrite(&key, &value, by) })
            .await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.0.remove(key).await
    }
}

type Clock = Box<dyn Fn() -> Time>;
type Sleeper = Box<dyn Fn(Duration) -> Sleep>;

/// A store as an instance has it, watched by the oracle.
pub(crate) struct Watched {
    link: Link,
    inner: Inner,
    /// What the instance was shown in place of the origin's record, and the record.
    shown: RefCell<Option<(Bytes, Option<Bytes>)>>,
}

enum Inner {
    Exact(Exact),
    Blind(Blind),
    Guarded(Guarded<Double, Clock>),
    Timed(Timed<Eventual, Clock, Sleeper>),
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Watched {
    /// The scenario's store, for the owner of `link`.
    ///
    /// # Errors
    ///
    /// If its write delay is longer than the protocol can wait.
    pub(crate) fn new(
        link: Link,
        clock: impl Fn() -> Time + 'static,
    ) -> Result<Self, WriteDelayTooLong> {
        let kind = link.scenario.store;
        let inner = match kind {
            StoreKind::Exact => Inner::Exact(Exact(link.clone())),
            StoreKind::Blind => Inner::Blind(Blind(link.clone())),
            StoreKind::Eventual => {
                let executor = link.executor.clone();
                let clock: Clock = Box::new(clock);
                let sleep: Sleeper = Box::new(move |duration| executor.sleep(duration));
                let values = Eventual(link.clone());
                Inner::Timed(Timed::new(values, clock, sleep, link.scenario.write_delay)?)
            }
            StoreKind::Upsert
            | StoreKind::DeniesSuccess
            | StoreKind::LooseCounter
            | StoreKind::ContendedCounter => Inner::Guarded(Guarded::new(
                Double {
                    link: link.clone(),
                    kind,
                },
                Box::new(clock),
                // As `LeaseConfig::guard_bucket` has it.
                link.scenario.settings.lease / 2,
            )),
        };
        Ok(Watched {
            link,
            inner,
            shown: RefCell::default(),
        })
    }

    /// The origin's record as the scenario wants it to be seen.
    fn show(&self, record: Option<Bytes>) -> Option<Bytes> {
        let mut changed = record
            .as_ref()
            .and_then(|record| budget::decode(record).ok())?;
        match self.link.scenario.budget {
            Distortion::None
            | Distortion::Apart
            | Distortion::Unchecked
            | Distortion::Hoards
            | Distortion::Refunds => return record,
            Distortion::Careless => changed.breaker.phase = budget::Phase::Closed,
            Distortion::Full => {
                let mut slots = budget::PerClass::default();
                slots.fill = self.link.scenario.settings.slots;
                let deadline = self.link.oracle.truth().plus(Duration::from_millis(1_000));
                let id = leeward::cell::Nonce::new(1);
                changed.set(id, changed.breaker.epoch, slots, deadline);
            }
        }
        let shown = budget::encode(&changed)?;
        *self.shown.borrow_mut() = Some((shown.clone(), record));
        Some(shown)
    }

    /// What the store has in place of what the instance was shown, and what it gets in
    /// place of what the instance writes.
    fn told(&self, expected: Option<&Bytes>, new: &Bytes) -> (Option<Bytes>, Bytes) {
        let actual = match &*self.shown.borrow() {
            Some((shown, actual)) if Some(shown) == expected => actual.clone(),
            _ => expected.cloned(),
        };
        let Ok(mut changed) = budget::decode(new) else {
            return (actual, new.clone());
        };
        let record = actual
            .as_ref()
            .and_then(|actual| budget::decode(actual).ok());
        match self.link.scenario.budget {
            Distortion::None | Distortion::Apart | Distortion::Full => {}
            Distortion::Refunds => changed.rate = budget::Rate::default(),
            Distortion::Careless => {
                if let (budget::Phase::Closed, Some(record)) = (changed.breaker.phase, record) {
                    changed.breaker.phase = record.breaker.phase;
                }
            }
            Distortion::Unchecked => {
                let breaker = &mut changed.breaker;
                if breaker.checks.state.is_under_way() {
                    breaker.checks.state = budget::Check::None;
                    breaker.epoch += 1;
                    let until = self.link.oracle.truth().plus(Duration::from_millis(500));
                    breaker.phase = budget::Phase::Open { until };
                }
            }
            Distortion::Hoards => {
                for holder in &mut changed.holders {
                    holder.deadline = holder.deadline.plus(Duration::from_secs(3_600));
                }
            }
        }
        (
            actual,
            budget::encode(&changed).unwrap_or_else(|| new.clone()),
        )
    }

    /// Whether the scenario changes what instances see and write of a value.
    fn is_distorted(&self, key: &str) -> bool {
        self.link.scenario.budget != Distortion::None && is_budget(key)
    }

    /// The name that a value has in the store.
    fn name(&self, key: &str) -> String {
        match (self.link.scenario.budget, self.link.owner) {
            (Distortion::Apart, Owner::Instance { instance, .. }) if is_budget(key) => {
                format!("{key}-{instance}")
            }
            _ => key.to_owned(),
        }
    }

    /// What the store says of a value that is too long for it.
    async fn refused(&self, key: &str, value: &Bytes) -> Option<StoreError> {
        let most = self.link.scenario.value_max?;
        if value.len() <= most {
            return None;
        }
        let pause = self.link.pause();
        pause.await;
        self.link.oracle.refused_value(self.link.owner, value);
        let why = format!("{key} has {} bytes, and {most} are allowed", value.len());
        Some(match self.link.scenario.refuses_without_a_word {
            true => StoreError::new(why),
            false => StoreError::refused(why),
        })
    }

    async fn load_inner(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match &self.inner {
            Inner::Exact(store) => store.load(key).await,
            Inner::Blind(store) => store.load(key).await,
            Inner::Guarded(store) => store.load(key).await,
            Inner::Timed(store) => store.load(key).await,
        }
    }

    async fn swap_inner(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        match &self.inner {
            Inner::Exact(store) => store.swap(key, expected, new).await,
            Inner::Blind(store) => store.swap(key, expected, new).await,
            Inner::Guarded(store) => store.swap(key, expected, new).await,
            Inner::Timed(store) => store.swap(key, expected, new).await,
        }
    }
}

impl Store for Watched {
    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let task = self.link.executor.current();
        if self.is_distorted(key) {
            return Ok(self.show(self.load_inner(&self.name(key)).await?));
        }
        let result = self.load_inner(key).await;
        self.link.oracle.loaded(task, key, &result);
        result
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        let task = self.link.executor.current();
        self.link
            .oracle
            .swapping(task, self.link.owner, key, expected, new);
        if self.is_distorted(key) {
            let (expected, new) = self.told(expected, new);
            let swapped = self
                .swap_inner(&self.name(key), expected.as_ref(), &new)
                .await?;
            return Ok(match swapped {
                Swap::Conflict(current) => Swap::Conflict(self.show(current)),
                swapped => swapped,
            });
        }
        let result = match self.refused(key, new).await {
            Some(refused) => Err(refused),
            None => self.swap_inner(key, expected, new).await,
        };
        self.link
            .oracle
            .swapped(task, self.link.owner, key, new, &result);
        result
    }

    async fn load_put(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match &self.inner {
            Inner::Timed(store) => store.load_put(key).await,
            Inner::Exact(_) | Inner::Blind(_) | Inner::Guarded(_) => self.load(key).await,
        }
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        if let Some(refused) = self.refused(key, value).await {
            return Err(refused);
        }
        match &self.inner {
            Inner::Exact(store) => store.put(key, value).await,
            Inner::Blind(store) => store.put(key, value).await,
            Inner::Guarded(store) => store.put(key, value).await,
            Inner::Timed(store) => store.put(key, value).await,
        }
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        match &self.inner {
            Inner::Exact(store) => store.remove(key).await,
            Inner::Blind(store) => store.remove(key).await,
            Inner::Guarded(store) => store.remove(key).await,
            Inner::Timed(store) => store.remove(key).await,
        }
    }
}
