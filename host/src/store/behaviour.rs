//! Whose mistakes the store makes.
//!
//! Spin's stores differ in what a compare-and-swap and an increment do. A
//! component that is right on one can be wrong on another, so each can be had
//! here on every backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::delayed::Delayed;
use super::sqlite::Journal;
use super::standin::{Shares, StandIn};
use super::{Backend, HOST_KEYS, Number, StoreError, StoreResult, Watch};
use crate::limits::{Limit, Limiter};

/// Longest key that Spin documents for its SQLite store, in bytes.
const SPIN_SQLITE_KEY_BYTES_MAX: usize = 256;

/// Largest value that Spin documents for its SQLite store, in bytes.
const SPIN_SQLITE_VALUE_BYTES_MAX: usize = 1_000_000;

/// Longest that a call of the guest waits for the store. A compare-and-swap and an
/// increment are synchronous calls: all requests of the instance stand still
/// meanwhile. Shorter than the component's own timeout for an operation, which cannot
/// end such a call.
pub(super) const CALL_MAX: Duration = Duration::from_secs(2);

/// The same where Spin's SQLite store is imitated, which waits for five seconds for
/// another process that has locked the file.
const SPIN_SQLITE_CALL_MAX: Duration = Duration::from_secs(6);

/// Longest that the guest waits for a listing, which is not synchronous and may be of
/// many keys.
pub(super) const LISTING_MAX: Duration = Duration::from_secs(30);

/// Waits for the store, for at most this long. A write that was given up may still be
/// applied later: the component reads back what it is not sure of.
async fn within<T>(most: Duration, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    tokio::time::timeout(most, call).await.unwrap_or_else(|_| {
        Err(StoreError::Other(format!(
            "the store did not answer within {most:?}"
        )))
    })
}

/// How a store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Behaviour {
    /// A swap is applied if, and only if, it says so
    Exact,
    /// As Spin's SQLite store: a swap from absent overwrites and says ok; an
    /// increment of what is not a number aborts the instance, and from then on
    /// so does every call, until the process ends; all calls of the process take one
    /// connection, and stop their instance while they wait for it
    SpinSqlite,
    /// As Spin's Redis store: a swap is exact, but always says that it failed
    // Where it is imitated, values are compared; Redis itself also notices that
    // a key was written with the bytes that it had.
    SpinRedis,
}

impl Behaviour {
    /// Whether the host forgets to free the handle that a swap consumes, with
    /// its connection if it has one, until the instance ends, as Spin's does.
    pub(crate) fn leaks_handles(self) -> bool {
        match self {
            Self::Exact => false,
            Self::SpinSqlite | Self::SpinRedis => true,
        }
    }

    /// Whether each call stops all tasks of the instance that makes it until it is
    /// over, the asynchronous ones too. Spin's SQLite store blocks the thread that
    /// polls the instance. (Spin 4.1, `key-value-spin`: `block_in_place` around a lock.)
    pub(crate) fn stops_instances(self) -> bool {
        match self {
            Self::Exact | Self::SpinRedis => false,
            Self::SpinSqlite => true,
        }
    }

    /// How the SQLite file keeps its journal.
    pub(super) fn journal(self) -> Journal {
        match self {
            Self::Exact | Self::SpinRedis => Journal::WriteAhead,
            Self::SpinSqlite => Journal::Rollback,
        }
    }

    /// Longest that a call of the guest takes, the wait for the connection apart.
    pub(super) fn call_max(self) -> Duration {
        match self {
            Self::Exact | Self::SpinRedis => CALL_MAX,
            Self::SpinSqlite => SPIN_SQLITE_CALL_MAX,
        }
    }
}

/// The only connection of Spin's SQLite store: one call of the process at a time. A
/// listing whose names are streamed keeps it until the last name was taken.
#[derive(Debug, Clone, Default)]
struct OneConnection(Option<Arc<tokio::sync::Mutex<()>>>);

impl OneConnection {
    fn of(behaviour: Behaviour) -> Self {
        OneConnection((behaviour == Behaviour::SpinSqlite).then(Arc::default))
    }

    /// Waits for the connection, without a bound, as Spin does. Other stores have
    /// nothing to wait for.
    async fn take(self) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        match self.0 {
            Some(connection) => Some(connection.lock_owned().await),
            None => None,
        }
    }
}

/// Names of a listing on their way to the guest that Spin keeps ready.
const NAMES_READY: usize = 4;

/// The names of a listing as they come, and whether all have come.
pub(crate) type Listing = (mpsc::Receiver<String>, oneshot::Receiver<StoreResult<()>>);

/// A store as the guest sees it. Every call ends within [`CALL_MAX`], a listing within
/// [`LISTING_MAX`], with an error if the store has not answered by then.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    backend: Arc<dyn Backend>,
    behaviour: Behaviour,
    /// Whether an imitated platform's code has panicked with its lock held. All
    /// instances of this process share the lock.
    poisoned: Arc<AtomicBool>,
    connection: OneConnection,
    limiter: Limiter,
    /// Where the host keeps its own keys, without a delay.
    host: Arc<dyn Backend>,
}

impl Store {
    pub(super) fn new(backend: Arc<dyn Backend>, behaviour: Behaviour) -> Self {
        Self {
            host: Arc::clone(&backend),
            backend,
            behaviour,
            poisoned: Arc::default(),
            connection: OneConnection::of(behaviour),
            limiter: Limiter::default(),
        }
    }

    /// The same store with the limits of a platform.
    pub(crate) fn limited(self, limiter: Limiter) -> Self {
        Self { limiter, ..self }
    }

    /// The same store, with writes that show on other nodes after `delay`.
    pub(crate) fn delayed(self, delay: Duration) -> Self {
        Self {
            backend: Arc::new(Delayed::new(self.backend, delay)),
            ..self
        }
    }

    /// The same store, for which the node stands in while it fails.
    pub(crate) fn standing_in(self, share: Shares) -> Self {
        Self {
            backend: Arc::new(StandIn::new(self.backend, share)),
            ..self
        }
    }

    /// Counts one more of something that all nodes count together, and returns how many
    /// there are. The count is kept in the store under `name`.
    pub(crate) async fn count(&self, name: &str) -> StoreResult<i64> {
        let (host, key) = (Arc::clone(&self.host), format!("{HOST_KEYS}{name}"));
        let number = host.own_number();
        let counted = async move { host.increment(&key, 1, number).await };
        tokio::spawn(within(CALL_MAX, counted))
            .await
            .map_err(StoreError::other)?
    }

    /// Forgets a count.
    pub(crate) async fn forget_count(&self, name: &str) -> StoreResult<()> {
        let (host, key) = (Arc::clone(&self.host), format!("{HOST_KEYS}{name}"));
        tokio::spawn(within(CALL_MAX, async move { host.delete(&key).await }))
            .await
            .map_err(StoreError::other)?
    }

    /// How this store answers.
    pub(crate) fn behaviour(&self) -> Behaviour {
        self.behaviour
    }

    /// Lets `work` on the backend go on by itself, in a task of its own.
    ///
    /// A guest's call is polled only while its instance is not in a synchronous
    /// call. Were such a call to wait in a line, for a connection say, it could
    /// reach the head of the line unpolled, and keep its place there while its
    /// own instance waits in a synchronous call further back: for ever.
    ///
    /// The task ends after `most`, so calls to a store that hangs do not pile up.
    pub(super) async fn apart<T, F>(
        &self,
        most: Duration,
        work: impl FnOnce(Arc<dyn Backend>) -> F,
    ) -> StoreResult<T>
    where
        T: Send + 'static,
        F: Future<Output = StoreResult<T>> + Send + 'static,
    {
        self.unlocked()?;
        let (connection, work) = (self.connection.clone(), work(Arc::clone(&self.backend)));
        tokio::spawn(async move {
            let _taken = connection.take().await;
            within(most, work).await
        })
        .await
        .map_err(StoreError::other)?
    }

    /// Runs a part of a synchronous call of the guest, which is always polled.
    async fn at_once<T>(&self, work: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let _taken = self.connection.clone().take().await;
        within(self.behaviour.call_max(), work).await
    }

    /// Fails for good after the imitated platform's code has panicked with its
    /// lock held: Spin's SQLite store takes the lock in every call, and panics
    /// again where another has panicked holding it.
    fn unlocked(&self) -> StoreResult<()> {
        // Relaxed: the flag is set once and carries nothing but itself.
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(StoreError::Abort("the store's lock is poisoned".to_owned()));
        }
        Ok(())
    }

    /// Whether the store can be used now; opens it if need be. Opening takes no
    /// lock.
    pub(crate) async fn check(&self) -> StoreResult<()> {
        Self::check_of(Arc::clone(&self.backend)).await
    }

    /// Whether the store itself can be used now, whatever stands in for it.
    pub(crate) async fn check_itself(&self) -> StoreResult<()> {
        Self::check_of(Arc::clone(&self.host)).await
    }

    async fn check_of(backend: Arc<dyn Backend>) -> StoreResult<()> {
        tokio::spawn(within(CALL_MAX, async move { backend.check().await }))
            .await
            .map_err(StoreError::other)?
    }

    /// The value of `key`, or none.
    pub(crate) async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        self.admit_read()?;
        let key = key.to_owned();
        let most = self.behaviour.call_max();
        self.apart(most, |backend| async move { backend.get(&key).await })
            .await
    }

    /// Writes `value`, whatever was there.
    pub(crate) async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        self.admit(key, value.len())?;
        self.admit_write()?;
        let (key, value) = (key.to_owned(), value.to_vec());
        let limiter = self.limiter.clone();
        self.apart(self.behaviour.call_max(), |backend| async move {
            has_room(&*backend, &limiter, &key).await?;
            backend.set(&key, &value).await
        })
        .await
    }

    /// Removes `key`; no error if it is not there.
    pub(crate) async fn delete(&self, key: &str) -> StoreResult<()> {
        self.admit_write()?;
        let key = key.to_owned();
        let most = self.behaviour.call_max();
        self.apart(most, |backend| async move { backend.delete(&key).await })
            .await
    }

    /// All keys, in any order.
    pub(crate) async fn keys(&self) -> StoreResult<Vec<String>> {
        self.admit_read()?;
        self.apart(
            LISTING_MAX,
            |backend| async move { listed(&*backend).await },
        )
        .await
    }

    /// All keys as they come. Where Spin's SQLite store is imitated, they come from the
    /// only connection, which is free again when the last has been taken, or when the
    /// receiver is dropped.
    pub(crate) fn listing(&self) -> Listing {
        let (names, received) = mpsc::channel(NAMES_READY);
        let (over, ended) = oneshot::channel();
        let store = self.clone();
        tokio::spawn(async move {
            // Either fails only if the guest does not listen any more.
            let _unheard = over.send(store.send_names(names).await);
        });
        (received, ended)
    }

    async fn send_names(&self, names: mpsc::Sender<String>) -> StoreResult<()> {
        self.unlocked()?;
        self.admit_read()?;
        let taken = self.connection.clone().take().await;
        let keys = within(LISTING_MAX, listed(&*self.backend)).await?;
        for key in keys {
            names.send(key).await.map_err(StoreError::other)?;
        }
        drop(taken);
        Ok(())
    }

    /// Adds `delta` to the number at `key` and returns the sum. This and the
    /// compare-and-swap are synchronous for the guest, and so always polled.
    pub(crate) async fn increment(&self, key: &str, delta: i64) -> StoreResult<i64> {
        self.unlocked()?;
        self.admit(key, 0)?;
        self.admit_write()?;
        let number = match self.behaviour {
            Behaviour::Exact => self.backend.own_number(),
            Behaviour::SpinRedis => Number::Decimal,
            Behaviour::SpinSqlite => Number::LittleEndian,
        };
        let sum = self
            .at_once(self.backend.increment(key, delta, number))
            .await;
        sum.map_err(|error| match (self.behaviour, error) {
            // Spin's code panics there, and holds its lock.
            (Behaviour::SpinSqlite, StoreError::NotANumber(text)) => {
                self.poisoned.store(true, Ordering::Relaxed);
                StoreError::Abort(text)
            }
            (_, error) => error,
        })
    }

    /// Begins a compare-and-swap of `key`.
    pub(crate) async fn handle(&self, key: &str) -> StoreResult<Handle> {
        self.admit(key, 0)?;
        let watch = match self.behaviour {
            Behaviour::SpinRedis => within(CALL_MAX, self.backend.watch(key)).await?,
            Behaviour::Exact | Behaviour::SpinSqlite => None,
        };
        Ok(Handle {
            store: self.clone(),
            key: key.to_owned(),
            read: Read::NotYet,
            watch,
        })
    }

    /// Counts a read, unless the platform's rate is exceeded.
    pub(super) fn admit_read(&self) -> StoreResult<()> {
        self.limiter.read().map_err(StoreError::Limited)
    }

    /// Counts a write, unless the platform's rate is exceeded.
    pub(super) fn admit_write(&self) -> StoreResult<()> {
        self.limiter.write().map_err(StoreError::Limited)
    }

    /// Refuses what the platform's limits, or its documentation, refuse.
    pub(super) fn admit(&self, key: &str, value_bytes: usize) -> StoreResult<()> {
        self.limiter
            .sizes(key.len(), value_bytes)
            .map_err(StoreError::Limited)?;
        if self.behaviour != Behaviour::SpinSqlite {
            return Ok(());
        }
        if key.len() > SPIN_SQLITE_KEY_BYTES_MAX {
            return Err(StoreError::Other(format!(
                "key of {} bytes: longer than {SPIN_SQLITE_KEY_BYTES_MAX}",
                key.len()
            )));
        }
        if value_bytes > SPIN_SQLITE_VALUE_BYTES_MAX {
            return Err(StoreError::Other(format!(
                "value of {value_bytes} bytes: larger than {SPIN_SQLITE_VALUE_BYTES_MAX}"
            )));
        }
        Ok(())
    }
}

/// All keys that components see.
pub(super) async fn listed(backend: &dyn Backend) -> StoreResult<Vec<String>> {
    let mut keys = backend.keys().await?;
    keys.retain(|key| !key.starts_with(HOST_KEYS));
    Ok(keys)
}

/// Refuses a new key where the platform has a limit of keys and it is reached. Writes at
/// the same time may exceed it. Only plain writes are checked: the platform with such a
/// limit has no others.
async fn has_room(backend: &dyn Backend, limiter: &Limiter, key: &str) -> StoreResult<()> {
    let Some(most) = limiter.limits().keys else {
        return Ok(());
    };
    if backend.get(key).await?.is_none() && listed(backend).await?.len() >= most {
        return Err(StoreError::Limited(limiter.reached(Limit::Keys)));
    }
    Ok(())
}

/// A compare-and-swap of one key under way: read with [`Handle::current`], then
/// given up to [`Handle::swap`].
#[derive(Debug)]
pub(crate) struct Handle {
    store: Store,
    key: String,
    read: Read,
    watch: Option<Box<dyn Watch>>,
}

/// What a handle has read.
#[derive(Debug)]
enum Read {
    NotYet,
    Value(Option<Vec<u8>>),
}

/// What became of a swap that the store answered.
#[derive(Debug)]
pub(crate) enum Swapped {
    /// The store says that it was applied.
    Done,
    /// The store says that it was not (which may be untrue, see [`Behaviour`]).
    /// The new handle has read the value as it is now; the caller looks at that
    /// and decides again.
    Lost(Handle),
}

impl Handle {
    /// Reads the value; the swap will compare with it.
    pub(crate) async fn current(&mut self) -> StoreResult<Option<Vec<u8>>> {
        self.store.unlocked()?;
        self.store.admit_read()?;
        let value = match &mut self.watch {
            Some(watch) => within(CALL_MAX, watch.current()).await?,
            None => {
                let read = self.store.backend.get(&self.key);
                self.store.at_once(read).await?
            }
        };
        self.read = Read::Value(value.clone());
        Ok(value)
    }

    /// Writes `value` as this store's behaviour has it. A handle that was never
    /// read is, for `exact` and `spin-sqlite`, one that read "absent"; for
    /// `spin-redis` nothing is watched, so the swap is always applied.
    ///
    /// The handle itself is left as it was: an imitated platform may keep it.
    pub(crate) async fn swap(&mut self, value: &[u8]) -> StoreResult<Swapped> {
        match self.store.behaviour {
            // Around all that a swap does: the bounds of its parts would add up.
            Behaviour::Exact | Behaviour::SpinRedis => {
                within(CALL_MAX, self.swap_in_parts(value)).await
            }
            // The wait for the only connection has no bound there.
            Behaviour::SpinSqlite => self.swap_in_parts(value).await,
        }
    }

    async fn swap_in_parts(&mut self, value: &[u8]) -> StoreResult<Swapped> {
        self.store.unlocked()?;
        self.store.admit(&self.key, value.len())?;
        self.store.admit_write()?;
        let says_done = match self.store.behaviour {
            Behaviour::Exact => self.replace(value).await?,
            Behaviour::SpinSqlite => match &self.read {
                Read::NotYet | Read::Value(None) => {
                    let written = self.store.backend.set(&self.key, value);
                    self.store.at_once(written).await?;
                    true
                }
                Read::Value(Some(_)) => self.store.at_once(self.replace(value)).await?,
            },
            Behaviour::SpinRedis => {
                // Whatever comes of it, an error too, Spin goes on to a command
                // that Redis refuses, and takes that refusal for a lost swap.
                if let Some(watch) = &mut self.watch {
                    watch.swap(value).await;
                } else {
                    let outcome = match &self.read {
                        Read::NotYet => self.store.backend.set(&self.key, value).await,
                        Read::Value(_) => self.replace(value).await.map(drop),
                    };
                    // Nobody looks, as said above.
                    drop(outcome);
                }
                false
            }
        };
        if says_done {
            return Ok(Swapped::Done);
        }
        let mut next = self.store.handle(&self.key).await?;
        next.current().await?;
        Ok(Swapped::Lost(next))
    }

    async fn replace(&self, value: &[u8]) -> StoreResult<bool> {
        let expected = match &self.read {
            Read::NotYet => None,
            Read::Value(read) => read.as_deref(),
        };
        self.store.backend.replace(&self.key, expected, value).await
    }
}
