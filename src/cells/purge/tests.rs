#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::cells::Election;
use crate::config::Origin;
use crate::question::policy::{KeyPolicy, RequestPolicy};
use crate::question::{Read, Visitor};
use crate::store::{Memory, Store, StoreError, Swap};
use crate::world::{Body, OriginError, OriginRequest};
use bytes::Bytes;
use futures::executor::block_on;
use futures::future::LocalBoxFuture;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A store that can be made to fail or to hang, and counts how often it is asked.
struct Fragile {
    inner: Memory,
    fails: Cell<bool>,
    hangs: Cell<bool>,
    asked: Cell<usize>,
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
        self.ask().await?;
        self.inner.swap(key, expected, new).await
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.ask().await?;
        self.inner.put(key, value).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.ask().await?;
        self.inner.remove(key).await
    }
}

struct NoBody;

impl Body for NoBody {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        None
    }
}

/// A world in which time passes only by sleeping: until the first of all that
/// sleep is to wake up.
struct World {
    store: Fragile,
    now: Cell<Time>,
    sleeping: RefCell<BTreeMap<u32, Time>>,
    random: Cell<u128>,
    tasks: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    log: RefCell<Vec<String>>,
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
        self.random.get()
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

fn cells() -> Rc<Cells<World>> {
    let world = World {
        store: Fragile {
            inner: Memory::new(1 << 20),
            fails: Cell::default(),
            hangs: Cell::default(),
            asked: Cell::default(),
        },
        now: Cell::new(Time::from_unix_millis(1_000_000)),
        sleeping: RefCell::default(),
        random: Cell::default(),
        tasks: RefCell::default(),
        log: RefCell::default(),
    };
    Cells::new(Rc::new(world), Rc::default())
}

/// A visitor of a page.
fn visitor() -> Visitor {
    let (parts, ()) = http::Request::get("/a").body(()).unwrap().into_parts();
    let origin = Origin::parse("http://origin.example").unwrap();
    let (key, request) = (KeyPolicy::default(), RequestPolicy::default());
    let read = Visitor::read(&parts, false, &origin, &key, &request);
    let asks = match read {
        Read::Question(visitor) => Some(*visitor),
        Read::Pass(_) | Read::Misdirected | Read::Invalid => None,
    };
    asks.unwrap()
}

fn purge(cells: &Rc<Cells<World>>, key: &str, purge: Purge) -> Purged {
    block_on(cells.purge(key.to_owned(), purge))
}

/// Runs the tasks that have been spawned, and says how many there were.
fn run_tasks(cells: &Cells<World>) -> usize {
    let tasks = cells.platform.tasks.take();
    let count = tasks.len();
    for task in tasks {
        block_on(task);
    }
    count
}

/// A purge is for others, so a store that has just failed is tried as well.
#[test]
fn a_purge_that_a_store_takes_while_it_is_left_alone_is_stored() {
    let cells = cells();
    cells.platform.store.fails.set(true);
    assert_eq!(purge(&cells, "a", Purge::Soft), Purged::Pending);
    assert_eq!(purge(&cells, "b", Purge::Soft), Purged::Pending);
    assert_eq!(cells.platform.store.asked.get(), 2);
    cells.platform.store.fails.set(false);
    assert!(cells.store_is_paused());
    assert_eq!(purge(&cells, "a", Purge::Soft), Purged::Stored);
}

#[test]
fn a_purge_waits_a_moment_only_for_a_store_that_has_just_failed() {
    let cells = cells();
    let takes = |key| {
        let start = cells.platform.now();
        assert_eq!(purge(&cells, key, Purge::Soft), Purged::Pending);
        cells.platform.now().since(start)
    };
    cells.platform.store.hangs.set(true);
    let first = takes("a");
    assert!(
        first >= STORE_TIMEOUT && first <= STORE_TIMEOUT * 2,
        "{first:?}"
    );
    for key in ["a", "b"] {
        assert_eq!(takes(key), PAUSED_PATIENCE);
    }
}

#[test]
fn one_task_makes_all_purges_that_wait_once_the_store_works() {
    let cells = cells();
    let visitor = visitor();
    let located = block_on(cells.locate(&visitor, false));
    assert!(matches!(block_on(cells.elect(&located)), Election::Held(_)));
    cells.platform.store.fails.set(true);
    for (key, strength) in [
        (visitor.key(), Purge::Hard),
        ("not stored", Purge::Soft),
        (visitor.key(), Purge::Soft),
    ] {
        assert_eq!(purge(&cells, key, strength), Purged::Pending);
    }
    cells.platform.store.fails.set(false);
    assert_eq!(run_tasks(&cells), 1);
    assert!(cells.purges.borrow().is_empty());
    let loaded = block_on(cells.load_shared(visitor.key())).unwrap();
    let cell = loaded.cell.unwrap();
    assert!(cell.marks.purged.is_some());
    assert_eq!(cell.marks.softened, None);
    let created = block_on(cells.load_shared("not stored")).unwrap().cell;
    assert_eq!(created, None);
    // The next outage has a task of its own.
    cells.platform.store.fails.set(true);
    assert_eq!(purge(&cells, "a", Purge::Soft), Purged::Pending);
    assert_eq!(run_tasks(&cells), 1);
}

#[test]
fn a_round_asks_a_failing_store_once_however_many_purges_wait() {
    let cells = cells();
    cells.platform.store.fails.set(true);
    for key in 0..100 {
        purge(&cells, &key.to_string(), Purge::Hard);
    }
    let before = cells.platform.store.asked.get();
    assert_eq!(before, 100);
    run_tasks(&cells);
    let asked = cells.platform.store.asked.get() - before;
    assert!((1..=29).contains(&asked), "{asked}");
    let log = cells.platform.log.borrow();
    let lost = log.iter().filter(|line| line.contains("purge-lost"));
    assert_eq!(lost.count(), 100);
    assert!(cells.purges.borrow().is_empty());
}

#[test]
fn a_purge_that_the_store_takes_does_what_a_weaker_one_waits_for() {
    for (later, waits) in [(Purge::Hard, false), (Purge::Soft, true)] {
        let cells = cells();
        cells.platform.store.fails.set(true);
        purge(&cells, "a", Purge::Invalidate);
        cells.platform.store.fails.set(false);
        block_on(cells.platform.sleep(STORE_PAUSE));
        assert_eq!(purge(&cells, "a", later), Purged::Stored);
        assert_eq!(!cells.purges.borrow().is_empty(), waits, "{later:?}");
    }
}
