//! A world for the tests of this module: virtual time, and a store that can be made
//! to fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::Cells;
use crate::cell::{Entry, Nonce};
use crate::config::{Config, Origin};
use crate::question::policy::{KeyPolicy, RequestPolicy};
use crate::question::{Read, Visitor};
use crate::semantics::{Audience, Freshness};
use crate::store::{Memory, Removal, Store, StoreError, Swap};
use crate::time::Time;
use crate::world::{Body, OriginError, OriginRequest, Platform};
use bytes::Bytes;
use futures::executor::block_on;
use futures::future::LocalBoxFuture;
use http::{HeaderMap, StatusCode};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A store that can be made to fail or to hang, and counts how often it is asked.
pub(super) struct Fragile {
    pub(super) inner: Memory,
    pub(super) fails: Cell<bool>,
    pub(super) hangs: Cell<bool>,
    /// It reads, and does not write.
    pub(super) is_read_only: Cell<bool>,
    /// It says of a swap that it conflicts, and does not write.
    pub(super) lies: Cell<bool>,
    /// It refuses larger values.
    pub(super) value_max: Cell<usize>,
    /// It does not list its names.
    pub(super) hides: Cell<bool>,
    /// What its operator may have to do besides.
    pub(super) further_remedy: Cell<&'static str>,
    /// It removes without looking only.
    pub(super) removes_blindly: Cell<bool>,
    /// Swaps after which an instance is worn, and those of the instance.
    pub(super) worn_after: Cell<usize>,
    pub(super) swaps: Cell<usize>,
    pub(super) asked: Cell<usize>,
    /// Swaps, puts and removals that it was asked for.
    pub(super) writes: Cell<usize>,
}

impl Fragile {
    async fn ask(&self) -> Result<(), StoreError> {
        self.asked.set(self.asked.get() + 1);
        if self.hangs.get() {
            std::future::pending::<()>().await;
        }
        match self.fails.get() {
            true => Err(StoreError::new("down")),
            false => Ok(()),
        }
    }

    async fn ask_to_write(&self, value: Option<&Bytes>) -> Result<(), StoreError> {
        self.writes.set(self.writes.get() + 1);
        self.ask().await?;
        if value.is_some_and(|value| value.len() > self.value_max.get()) {
            return Err(StoreError::refused("too large"));
        }
        match self.is_read_only.get() {
            true => Err(StoreError::new("read-only")),
            false => Ok(()),
        }
    }
}

impl Store for Fragile {
    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.ask().await?;
        self.inner.load(key).await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        self.swaps.set(self.swaps.get() + 1);
        self.ask_to_write(Some(new)).await?;
        if self.lies.get() {
            return Ok(Swap::Conflict(self.inner.load(key).await?));
        }
        self.inner.swap(key, expected, new).await
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.ask_to_write(Some(value)).await?;
        self.inner.put(key, value).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.ask_to_write(None).await?;
        self.inner.remove(key).await
    }

    async fn remove_if(&self, key: &str, expected: &Bytes) -> Result<Removal, StoreError> {
        if self.removes_blindly.get() {
            return Ok(Removal::Unsupported);
        }
        self.ask_to_write(None).await?;
        self.inner.remove_if(key, expected).await
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        self.ask().await?;
        match self.hides.get() {
            true => Ok(false),
            false => self.inner.names(each).await,
        }
    }

    fn is_worn(&self) -> bool {
        self.swaps.get() >= self.worn_after.get()
    }

    fn further_remedy(&self) -> &'static str {
        self.further_remedy.get()
    }
}

pub(super) struct NoBody;

impl Body for NoBody {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        None
    }
}

/// A world in which time passes only by sleeping: until the first of all that
/// sleep is to wake up.
pub(super) struct World {
    pub(super) store: Fragile,
    pub(super) now: Cell<Time>,
    sleeping: RefCell<BTreeMap<u32, Time>>,
    random: Cell<u128>,
    pub(super) tasks: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    pub(super) log: RefCell<Vec<String>>,
}

impl Platform for World {
    type Store = Fragile;
    type Body = NoBody;
    type Wake = ();

    fn store(&self) -> &Fragile {
        &self.store
    }

    fn now(&self) -> Time {
        self.now.get()
    }

    fn random(&self) -> u128 {
        self.random.set(self.random.get() + 1);
        // Spread: what is decided by the remainder of two draws must not go together.
        let draw = self
            .random
            .get()
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        (draw ^ draw >> 64).wrapping_mul(0xbf58_476d_1ce4_e5b9_94d0_49bb_1331_11eb)
    }

    async fn sleep(&self, duration: Duration) {
        let end = self.now.get().plus(duration);
        let id = self
            .sleeping
            .borrow()
            .keys()
            .next_back()
            .map_or(0, |id| id + 1);
        self.sleeping.borrow_mut().insert(id, end);
        Sleep {
            world: self,
            id,
            is_first_look: true,
        }
        .await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push(Box::pin(task));
    }

    fn signal(&self) -> (Self::Wake, impl Future<Output = ()> + 'static) {
        ((), std::future::ready(()))
    }

    async fn send(&self, _: OriginRequest<NoBody>) -> Result<http::Response<NoBody>, OriginError> {
        Err(OriginError::Timeout)
    }

    fn log(&self, line: &str) {
        self.log.borrow_mut().push(line.to_owned());
    }
}

/// Ends once no other that sleeps is to wake up earlier.
struct Sleep<'a> {
    world: &'a World,
    id: u32,
    /// Not before the second look, when others have gone to sleep as well.
    is_first_look: bool,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.is_first_look) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let sleeping = self.world.sleeping.borrow();
        let end = sleeping[&self.id];
        if sleeping.values().any(|other| *other < end) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.world.now.set(end.max(self.world.now.get()));
        Poll::Ready(())
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.world.sleeping.borrow_mut().remove(&self.id);
    }
}

/// The cells of an instance in a world of its own, with the default settings.
pub(super) fn cells() -> Rc<Cells<World>> {
    with(Config::parse("").unwrap())
}

/// The same, with these settings.
pub(super) fn with(config: Config) -> Rc<Cells<World>> {
    let world = World {
        store: Fragile {
            inner: Memory::new(64 << 20),
            fails: Cell::default(),
            hangs: Cell::default(),
            is_read_only: Cell::default(),
            lies: Cell::default(),
            value_max: Cell::new(usize::MAX),
            hides: Cell::default(),
            further_remedy: Cell::default(),
            removes_blindly: Cell::default(),
            worn_after: Cell::new(usize::MAX),
            swaps: Cell::default(),
            asked: Cell::default(),
            writes: Cell::default(),
        },
        now: Cell::new(Time::from_unix_millis(1_000_000)),
        sleeping: RefCell::default(),
        random: Cell::default(),
        tasks: RefCell::default(),
        log: RefCell::default(),
    };
    Cells::new(Rc::new(world), Rc::new(config), &origin())
}

/// An entry that is fresh for ten seconds, and not used afterwards.
pub(super) fn entry(lease: Nonce, now: Time, content: &'static [u8]) -> Entry {
    Entry {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        request_time: now,
        fetch_millis: 0,
        freshness: Freshness {
            lifetime_ms: 10_000,
            initial_age_ms: 0,
            response_time: now,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            must_revalidate: false,
            no_cache: false,
            immutable: false,
            alone: 0,
            each_use: false,
        },
        lease,
        invalidated: false,
        audience: Audience::Everyone,
        under: Default::default(),
        body: crate::cell::Body::Inline(Bytes::from_static(content)),
    }
}

/// A visitor of a page.
pub(super) fn visitor() -> Visitor {
    visitor_of("/a")
}

/// A visitor of this path.
pub(super) fn visitor_of(path: &str) -> Visitor {
    let (parts, ()) = http::Request::get(path).body(()).unwrap().into_parts();
    let origin = Origin::parse("http://origin.example").unwrap();
    let (key, request) = (KeyPolicy::default(), RequestPolicy::default());
    let read = Visitor::read(&parts, false, &origin, &key, &request);
    let asks = match read {
        Read::Question(visitor) => Some(*visitor),
        Read::Pass(_) | Read::Misdirected | Read::Invalid => None,
    };
    asks.unwrap()
}

/// Runs the tasks that have been spawned, and says how many there were.
pub(super) fn run_tasks(cells: &Cells<World>) -> usize {
    let tasks = cells.platform.tasks.take();
    let count = tasks.len();
    for task in tasks {
        block_on(task);
    }
    count
}

/// The origin that the cells are of.
pub(super) fn origin() -> Origin {
    Origin::parse("http://origin.test").unwrap()
}
