//! A store in a SQLite file, in the table that Spin keeps too.
//!
//! Several processes on one file are several nodes. The file is in WAL mode, so
//! that readers never wait for a writer; within a process one connection
//! writes, because SQLite has one writer at a time and waiting for it here
//! costs less than SQLite's own polling. Every call runs on a blocking thread,
//! at most one per connection.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior};
use tokio::sync::Semaphore;

use super::{Backend, KEYS_LISTED_MAX, Number, STORE_NAME, StoreError, StoreResult};

/// Connections of one process that read.
const READERS: usize = 4;

/// Connections of one process that write.
const WRITERS: usize = 1;

/// How long a call waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often, and how long apart, the change to WAL mode is tried. SQLite does
/// not wait for that one by itself when several processes open a new file at
/// once.
const WAL_TRIES: u32 = 100;
const WAL_TRY_EVERY: Duration = Duration::from_millis(20);

const CREATE: &str = "CREATE TABLE IF NOT EXISTS spin_key_value (
    store TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (store, key)
)";
const SELECT: &str = "SELECT value FROM spin_key_value WHERE store = ?1 AND key = ?2";
const SELECT_KEYS: &str = "SELECT key FROM spin_key_value WHERE store = ?1 LIMIT ?2";
const UPSERT: &str = "INSERT INTO spin_key_value (store, key, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (store, key) DO UPDATE SET value = excluded.value";
const INSERT_IF_ABSENT: &str = "INSERT INTO spin_key_value (store, key, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (store, key) DO NOTHING";
const UPDATE_IF_EQUAL: &str =
    "UPDATE spin_key_value SET value = ?3 WHERE store = ?1 AND key = ?2 AND value = ?4";
const DELETE: &str = "DELETE FROM spin_key_value WHERE store = ?1 AND key = ?2";

/// A SQLite file.
#[derive(Debug)]
pub(super) struct Sqlite {
    readers: Arc<Lane>,
    writers: Arc<Lane>,
}

impl Sqlite {
    /// The store in the file at `path`, which is made at first use.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            readers: Arc::new(Lane::new(path.clone(), READERS)),
            writers: Arc::new(Lane::new(path, WRITERS)),
        }
    }
}

/// A few connections for calls of one kind. Calls wait in line for one.
#[derive(Debug)]
struct Lane {
    path: PathBuf,
    /// One permit per connection, open or not yet.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Lane {
    fn new(path: PathBuf, connections: usize) -> Self {
        Self {
            path,
            permits: Arc::new(Semaphore::new(connections)),
            idle: Mutex::default(),
        }
    }

    /// Runs `call` on a blocking thread with a connection of this lane. Once it
    /// has begun it runs to its end, even if nobody waits for it any more.
    ///
    /// The line is fair: a place at its head that nobody polls holds up all
    /// behind it. That is why `Store` lets calls of the guest go on by
    /// themselves.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreResult<T> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(StoreError::other)?;
        let lane = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut connection = match lane.take_idle() {
                Some(connection) => connection,
                None => open(&lane.path).map_err(StoreError::other)?,
            };
            let outcome = call(&mut connection);
            if !outcome.as_ref().is_err_and(spoils_connection) {
                lane.put_idle(connection);
            }
            outcome.map_err(StoreError::other)
        })
        .await
        .map_err(StoreError::other)?
    }

    fn take_idle(&self) -> Option<Connection> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn put_idle(&self, connection: Connection) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }
}

/// After these errors the file may be another than the connection believes; the
/// next call opens it afresh.
fn spoils_connection(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
        )
    )
}

/// Opens the file, and makes it and its directory if they are not there.
fn open(path: &Path) -> anyhow::Result<Connection> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    }
    let cannot_open = || format!("cannot open the SQLite file {}", path.display());
    // Without SQLITE_OPEN_URI: a path is a path, whatever characters it has.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).with_context(cannot_open)?;
    prepare(&connection).with_context(cannot_open)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mut tries = 1;
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && tries < WAL_TRIES =>
            {
                tries += 1;
                std::thread::sleep(WAL_TRY_EVERY);
            }
            outcome => break outcome?,
        }
    }
    // A cache may lose its last writes when the machine loses power; it may not
    // be corrupt afterwards, and in WAL mode NORMAL sees to that.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.execute(CREATE, [])?;
    Ok(())
}

fn select(connection: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached(SELECT)?
        .query_row((STORE_NAME, key), |row| row.get(0))
        .optional()
}

#[async_trait]
impl Backend for Sqlite {
    async fn check(&self) -> StoreResult<()> {
        self.writers.run(|_| Ok(())).await
    }

    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        let key = key.to_owned();
        self.readers
            .run(move |connection| select(connection, &key))
            .await
    }

    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.writers
            .run(move |connection| {
                connection
                    .prepare_cached(UPSERT)?
                    .execute((STORE_NAME, key, value))
            })
            .await
            .map(drop)
    }

    async fn delete(&self, key: &str) -> StoreResult<()> {
        let key = key.to_owned();
        self.writers
            .run(move |connection| {
                connection
                    .prepare_cached(DELETE)?
                    .execute((STORE_NAME, key))
            })
            .await
            .map(drop)
    }

    async fn keys(&self) -> StoreResult<Vec<String>> {
        // One more than may be listed, so that too many is told from just enough.
        const LIMIT: i64 = KEYS_LISTED_MAX as i64 + 1;
        let keys: Vec<String> = self
            .readers
            .run(|connection| {
                connection
                    .prepare_cached(SELECT_KEYS)?
                    .query_map((STORE_NAME, LIMIT), |row| row.get(0))?
                    .collect()
            })
            .await?;
        if keys.len() > KEYS_LISTED_MAX {
            return Err(StoreError::Other(format!(
                "more than {KEYS_LISTED_MAX} keys"
            )));
        }
        Ok(keys)
    }

    async fn replace(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> StoreResult<bool> {
        let (key, value) = (key.to_owned(), value.to_vec());
        let expected = expected.map(<[u8]>::to_vec);
        let rows = self
            .writers
            .run(move |connection| match expected {
                None => connection
                    .prepare_cached(INSERT_IF_ABSENT)?
                    .execute((STORE_NAME, key, value)),
                Some(expected) => connection
                    .prepare_cached(UPDATE_IF_EQUAL)?
                    .execute((STORE_NAME, key, value, expected)),
            })
            .await?;
        Ok(rows == 1)
    }

    async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64> {
        let key = key.to_owned();
        self.writers
            .run(move |connection| {
                // IMMEDIATE: a transaction that read first and writes then could
                // not be promoted while another process writes.
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let stored = select(&transaction, &key)?;
                let (bytes, sum) = match number.add(stored.as_deref(), delta) {
                    Ok(added) => added,
                    Err(refused) => return Ok(Err(refused)),
                };
                transaction
                    .prepare_cached(UPSERT)?
                    .execute((STORE_NAME, &key, bytes))?;
                transaction.commit()?;
                Ok(Ok(sum))
            })
            .await?
    }

    fn own_number(&self) -> Number {
        Number::LittleEndian
    }
}
