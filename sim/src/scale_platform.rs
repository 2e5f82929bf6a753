//! A platform without faults that counts what is asked of store and origin.

use crate::clock::Clocks;
use crate::executor::{Executor, Micros, Owner};
use crate::oracle::read;
use crate::origin::key_of;
use crate::stores::is_budget;
use bytes::Bytes;
use futures::channel::oneshot;
use http::{HeaderValue, Response, header};
use leeward::shield::{Body, OriginError, OriginRequest, Platform};
use leeward::store::{Store, StoreError, Swap};
use leeward::time::Time;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Lifetimes of keys, in seconds; each key has one of them.
const LIFETIMES: [u64; 9] = [1, 2, 5, 10, 20, 30, 60, 120, 300];

/// Edges of the bands by which the report sums up, in seconds.
const BANDS: [(u64, u64); 3] = [(1, 5), (10, 30), (60, 300)];

/// Bytes of each body.
const BODY: usize = 1_024;

/// The lifetime of a key.
fn lifetime(key: usize) -> u64 {
    LIFETIMES.get(key % LIFETIMES.len()).copied().unwrap_or(60)
}

/// What is stored.
#[derive(Debug, Default)]
pub(crate) struct Values(RefCell<HashMap<String, Bytes>>);

#[derive(Clone, Copy, Debug, Default)]
struct OfKey {
    requests: u64,
    origin: u64,
    published: u64,
    in_flight: u64,
    most: u64,
    /// Until when the last answer is fresh.
    fresh_until: Micros,
    /// Requests that came while another was in flight, or its answer fresh.
    doubled: u64,
}

/// What the budget's record costs.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) loads: Cell<u64>,
    pub(crate) swaps: Cell<u64>,
    /// Swaps that another instance's came before.
    pub(crate) lost: Cell<u64>,
    /// The longest value.
    pub(crate) bytes: Cell<usize>,
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) loads: Cell<u64>,
    pub(crate) swaps: Cell<u64>,
    /// Loads, swaps, lost swaps and most bytes of the budget's record.
    pub(crate) record: Record,
    pub(crate) origin: Cell<u64>,
    pub(crate) published: Cell<u64>,
    in_flight: Cell<u64>,
    pub(crate) most: Cell<u64>,
    keys: RefCell<Vec<OfKey>>,
}

/// A sum over keys with similar lifetimes.
pub(crate) struct Band {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) keys: u64,
    pub(crate) requests: u64,
    pub(crate) origin: u64,
    pub(crate) published: u64,
}

fn add(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl Counters {
    pub(crate) fn new(keys: usize) -> Self {
        Counters {
            loads: Cell::default(),
            swaps: Cell::default(),
            record: Record::default(),
            origin: Cell::default(),
            published: Cell::default(),
            in_flight: Cell::default(),
            most: Cell::default(),
            keys: RefCell::new(vec![OfKey::default(); keys]),
        }
    }

    fn of_key(&self, key: usize, change: impl FnOnce(&mut OfKey)) {
        if let Some(counts) = self.keys.borrow_mut().get_mut(key) {
            change(counts);
        }
    }

    /// A visitor asks for a key.
    pub(crate) fn asked(&self, key: usize) {
        self.of_key(key, |counts| counts.requests += 1);
    }

    /// The most origin requests per refresh of any key.
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    pub(crate) fn worst(&self) -> f64 {
        let keys = self.keys.borrow();
        keys.iter()
            .filter(|key| key.published > 0)
            .map(|key| key.origin as f64 / key.published as f64)
            .fold(0.0, f64::max)
    }

    /// The most at once for one key.
    pub(crate) fn most_of_one_key(&self) -> u64 {
        let keys = self.keys.borrow();
        keys.iter().map(|key| key.most).max().unwrap_or(0)
    }

    /// Requests for a key that came while another was in flight, or its answer fresh.
    pub(crate) fn doubled(&self) -> u64 {
        self.keys.borrow().iter().map(|key| key.doubled).sum()
    }

    /// Sums by lifetime.
    pub(crate) fn bands(&self) -> Vec<Band> {
        let keys = self.keys.borrow();
        BANDS
            .iter()
            .map(|&(from, to)| {
                let mut band = Band {
                    from,
                    to,
                    keys: 0,
                    requests: 0,
                    origin: 0,
                    published: 0,
                };
                for (key, counts) in keys.iter().enumerate() {
                    if (from..=to).contains(&lifetime(key)) && counts.requests > 0 {
                        band.keys += 1;
                        band.requests += counts.requests;
                        band.origin += counts.origin;
                        band.published += counts.published;
                    }
                }
                band
            })
            .collect()
    }
}

/// An instance's platform.
#[derive(Debug)]
pub(crate) struct ScalePlatform<S> {
    pub(crate) executor: Executor,
    pub(crate) clocks: Rc<Clocks>,
    pub(crate) node: usize,
    pub(crate) store: S,
    pub(crate) counters: Rc<Counters>,
    pub(crate) origin_latency: Duration,
}

/// An exact store with a fixed latency.
#[derive(Debug)]
pub(crate) struct ExactStore {
    pub(crate) executor: Executor,
    pub(crate) values: Rc<Values>,
    pub(crate) counters: Rc<Counters>,
    pub(crate) latency: Duration,
}

impl Store for ExactStore {
    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        add(&self.counters.loads);
        if is_budget(key) {
            add(&self.counters.record.loads);
        }
        self.executor.sleep(self.latency / 2).await;
        let value = self.values.0.borrow().get(key).cloned();
        self.executor.sleep(self.latency / 2).await;
        Ok(value)
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        add(&self.counters.swaps);
        if is_budget(key) {
            add(&self.counters.record.swaps);
        }
        self.executor.sleep(self.latency / 2).await;
        let swap = {
            let values = &mut *self.values.0.borrow_mut();
            let current = values.get(key);
            if current == expected {
                match is_budget(key) {
                    true => {
                        let bytes = &self.counters.record.bytes;
                        bytes.set(bytes.get().max(new.len()));
                    }
                    false => self.note(current, new),
                }
                values.insert(key.to_owned(), new.clone());
                Swap::Done
            } else {
                if is_budget(key) {
                    add(&self.counters.record.lost);
                }
                Swap::Conflict(current.cloned())
            }
        };
        self.executor.sleep(self.latency / 2).await;
        Ok(swap)
    }

    // Bodies are short here.
    async fn put(&self, _key: &str, _value: &Bytes) -> Result<(), StoreError> {
        Err(StoreError::new("there are no chunks here"))
    }

    async fn remove(&self, _key: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

impl ExactStore {
    /// Counts publications: the entry is under another lease than before.
    fn note(&self, old: Option<&Bytes>, new: &Bytes) {
        let lease = |bytes: &Bytes| read(bytes)?.entry.map(|entry| entry.lease);
        let Some(cell) = read(new) else { return };
        let lease_now = cell.entry.map(|entry| entry.lease);
        if lease_now.is_some() && old.and_then(lease) != lease_now {
            add(&self.counters.published);
            let path = cell.key.rsplit(':').next().unwrap_or_default();
            self.counters
                .of_key(key_of(path), |counts| counts.published += 1);
        }
    }
}

/// One body, in one part.
#[derive(Debug)]
pub(crate) struct Whole(Option<Bytes>);

impl Body for Whole {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        self.0.take().map(Ok)
    }
}

impl<S: Store> Platform for ScalePlatform<S> {
    type Store = S;
    type Body = Whole;
    type Wake = oneshot::Sender<()>;

    fn store(&self) -> &S {
        &self.store
    }

    fn now(&self) -> Time {
        self.clocks.at(self.node)
    }

    fn random(&self) -> u128 {
        self.executor.random(|rng| rng.u128(..))
    }

    async fn sleep(&self, duration: Duration) {
        self.executor.sleep(duration).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(Owner::World, task);
    }

    fn signal(&self) -> (Self::Wake, impl Future<Output = ()> + 'static) {
        let (wake, dropped) = oneshot::channel();
        (wake, async move {
            let _ = dropped.await;
        })
    }

    async fn send(&self, request: OriginRequest<Whole>) -> Result<Response<Whole>, OriginError> {
        let key = key_of(request.parts.uri.path());
        let counters = &self.counters;
        add(&counters.origin);
        add(&counters.in_flight);
        counters
            .most
            .set(counters.most.get().max(counters.in_flight.get()));
        counters.of_key(key, |counts| {
            let now = self.executor.now();
            counts.doubled += u64::from(counts.in_flight > 0 || now < counts.fresh_until);
            counts.origin += 1;
            counts.in_flight += 1;
            counts.most = counts.most.max(counts.in_flight);
        });
        self.executor.sleep(self.origin_latency).await;
        counters.in_flight.set(counters.in_flight.get() - 1);
        let fresh_until = self.executor.now() + lifetime(key) * 1_000_000;
        counters.of_key(key, |counts| {
            counts.in_flight -= 1;
            counts.fresh_until = fresh_until;
        });
        let mut response = Response::new(Whole(Some(Bytes::from(vec![b'x'; BODY]))));
        let control = format!("max-age={}", lifetime(key));
        if let Ok(control) = HeaderValue::from_str(&control) {
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, control);
        }
        Ok(response)
    }

    fn log(&self, _line: &str) {}
}
