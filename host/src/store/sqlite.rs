//! A store in a SQLite file, in the table that Spin keeps too.
//!
//! Several processes on one file are several nodes. The file is in WAL mode, unless
//! Spin's store is imitated, so that readers never wait for a writer; within a process one connection
//! writes, because SQLite has one writer at a time and waiting for it here
//! costs less than SQLite's own polling. Every call runs on a blocking thread,
//! at most one per connection.
//!
//! A connection that could only be opened for reading is closed after each call, and all
//! are closed after a write that was refused as read-only. SQLite's connections of a
//! process share one handle of the shared-memory file, opened as the first of them could:
//! with one of them open for reading, none could ever write.
//!
//! A file that is damaged is moved aside and replaced by a new one: what it held
//! is a cache. The other processes notice that the name stands for another file
//! and open that one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use async_trait::async_trait;
use rusqlite::{
    Connection, ErrorCode, MAIN_DB, OpenFlags, OptionalExtension as _, TransactionBehavior,
};
use tokio::sync::Semaphore;

use crate::report;

use super::{Backend, KEYS_LISTED_MAX, Number, STORE_NAME, StoreError, StoreResult};

/// What SQLite calls `auto_vacuum = incremental`.
const INCREMENTAL: i64 = 2;

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

/// Largest size of the journal file while it is not in use, in bytes.
const JOURNAL_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// Unused pages that are kept in the file for later writes, about 4 MB.
const FREE_PAGES_KEPT: i64 = 1_024;

/// Unused pages that are given back to the system after one removal. Few, because
/// other writers wait meanwhile.
const FREE_PAGES_RETURNED: i64 = 64;

/// Pause between two damaged files that are moved aside. A disk that damages every
/// file would be filled with them otherwise.
const MOVE_AGAIN_AFTER: Duration = Duration::from_secs(60);

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
const DELETE_IF_EQUAL: &str =
    "DELETE FROM spin_key_value WHERE store = ?1 AND key = ?2 AND value = ?3";
const DELETE: &str = "DELETE FROM spin_key_value WHERE store = ?1 AND key = ?2";

/// How a file keeps what a write would have to undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    /// Readers never wait for a writer.
    WriteAhead,
    /// SQLite's default, which Spin keeps: a writer waits until no one reads, and
    /// keeps readers out while it commits.
    Rollback,
}

/// A SQLite file.
#[derive(Debug)]
pub(super) struct Sqlite {
    readers: Arc<Lane>,
    writers: Arc<Lane>,
}

impl Sqlite {
    /// The store in the file at `path`, which is made at first use.
    pub(super) fn new(path: PathBuf, journal: Journal) -> Self {
        let file = Arc::new(StoreFile::new(path, journal));
        Self {
            readers: Arc::new(Lane::new(Arc::clone(&file), READERS)),
            writers: Arc::new(Lane::new(file, WRITERS)),
        }
    }

    /// Runs a call that writes. If the one before was refused as read-only, no
    /// connection is open when this one opens its own.
    async fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreResult<T> {
        if !self.writers.file.was_read_only.load(Ordering::Relaxed) {
            return self.writers.run(call).await;
        }
        // Before the only connection that writes: another call may hold that and wait
        // for these.
        let all = u32::try_from(READERS).unwrap_or(u32::MAX);
        let readers = Arc::clone(&self.readers.permits)
            .acquire_many_owned(all)
            .await
            .map_err(StoreError::other)?;
        self.readers.close_idle().await?;
        let written = self
            .writers
            .run(move |connection| {
                let _readers = readers;
                call(connection)
            })
            .await;
        if written.is_ok() {
            self.writers
                .file
                .was_read_only
                .store(false, Ordering::Relaxed);
        }
        written
    }
}

/// A few connections for calls of one kind. Calls wait in line for one.
#[derive(Debug)]
struct Lane {
    file: Arc<StoreFile>,
    /// One permit per connection, open or not yet.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Opened>>,
}

/// A connection, and the file that it is to.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) identity: Option<Identity>,
    /// The file could not be opened for writing.
    pub(super) reads_only: bool,
}

impl Opened {
    pub(super) fn new(connection: Connection, identity: Option<Identity>) -> Self {
        Self {
            reads_only: connection.is_readonly(MAIN_DB).unwrap_or(false),
            connection,
            identity,
        }
    }
}

impl Lane {
    fn new(file: Arc<StoreFile>, connections: usize) -> Self {
        Self {
            file,
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
            let mut opened = match lane.take_idle() {
                Some(opened) => opened,
                None => lane.file.open()?,
            };
            let outcome = call(&mut opened.connection);
            match &outcome {
                Err(error) if spoils_connection(error) => {
                    let identity = opened.identity;
                    drop(opened);
                    if is_damage(error) {
                        lane.file.replace(identity, error)?;
                    }
                }
                _ if opened.reads_only => drop(opened),
                _ => lane.put_idle(opened),
            }
            lane.file.note(outcome.as_ref().err());
            outcome.map_err(|error| explained(error, &lane.file.path))
        })
        .await
        .map_err(StoreError::other)?
    }

    fn take_idle(&self) -> Option<Opened> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.file.identity();
        // The file of the other connections was moved or removed, by another
        // process or by hand.
        idle.retain(|opened| opened.identity == now);
        idle.pop()
    }

    /// Closes the connections that no call has.
    async fn close_idle(&self) -> StoreResult<()> {
        let closed = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *idle)
        };
        // Closing can write to the disk.
        tokio::task::spawn_blocking(move || drop(closed))
            .await
            .map_err(StoreError::other)
    }

    fn put_idle(&self, opened: Opened) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(opened);
    }
}

/// What tells a file from another one that has its name later.
pub(super) type Identity = (u64, u64);

/// The file by its name.
#[derive(Debug)]
pub(super) struct StoreFile {
    path: PathBuf,
    journal: Journal,
    /// When this process last moved a damaged file aside.
    moved: Mutex<Option<Instant>>,
    /// A call was refused because the file cannot be written, and none has written since.
    pub(super) was_read_only: AtomicBool,
}

impl StoreFile {
    /// The file at `path`, which is made at first use.
    pub(super) fn new(path: PathBuf, journal: Journal) -> Self {
        Self {
            path,
            journal,
            moved: Mutex::default(),
            was_read_only: AtomicBool::new(false),
        }
    }

    /// Notes whether the file was refused as one that cannot be written.
    pub(super) fn note(&self, error: Option<&rusqlite::Error>) {
        let code = error.and_then(rusqlite::Error::sqlite_error_code);
        if code == Some(ErrorCode::ReadOnly) {
            self.was_read_only.store(true, Ordering::Relaxed);
        }
    }

    /// The file that has the name now, if there is one.
    pub(super) fn identity(&self) -> Option<Identity> {
        identity(&self.path)
    }

    /// Opens the file. If it is damaged, it is replaced by a new one.
    pub(super) fn open(&self) -> StoreResult<Opened> {
        let before = self.identity();
        match open(&self.path, self.journal) {
            // Another process may have replaced the file meanwhile. Then it is not
            // known which one was opened.
            Ok(connection) if before.is_none() || before == self.identity() => {
                Ok(Opened::new(connection, self.identity()))
            }
            Ok(_) => self.open_once(),
            Err(error) => {
                let cause = error.downcast_ref::<rusqlite::Error>();
                self.note(cause);
                match cause.filter(|error| is_damage(error)) {
                    Some(damage) => {
                        self.replace(before, damage)?;
                        self.open_once()
                    }
                    None => Err(StoreError::down(error)),
                }
            }
        }
    }

    fn open_once(&self) -> StoreResult<Opened> {
        let connection = open(&self.path, self.journal).map_err(StoreError::down)?;
        Ok(Opened::new(connection, self.identity()))
    }

    /// Moves the file aside, unless its name stands for another file than the
    /// damaged one by now.
    pub(super) fn replace(
        &self,
        damaged: Option<Identity>,
        damage: &rusqlite::Error,
    ) -> StoreResult<()> {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        // The directory stands for a lock among processes. The file itself cannot:
        // SQLite loses its own locks when another handle of the file is closed.
        let directory = match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        let lock = File::open(directory).and_then(|file| file.lock().map(|()| file));
        if self.identity() != damaged || damaged.is_none() {
            return Ok(());
        }
        if moved.is_some_and(|at| at.elapsed() < MOVE_AGAIN_AFTER) {
            return Err(StoreError::Other(format!(
                "{}: {damage}; the file before it was damaged too, so check the disk",
                self.path.display()
            )));
        }
        let aside = self.move_aside().map_err(|error| {
            StoreError::Other(format!(
                "{}: {damage}; the file could not be moved aside ({error}), so move it away by hand",
                self.path.display()
            ))
        })?;
        *moved = Some(Instant::now());
        drop(lock);
        report::event(
            "store-damaged",
            format_args!(
                "the store {} is damaged ({damage}). It was moved to {} and a new one was begun: what \
             was stored is fetched again. Remove the damaged file when nobody needs it, and check \
             the disk if this happens again",
                self.path.display(),
                aside.display()
            ),
        );
        Ok(())
    }

    /// Renames the file and its journal. Returns the new name of the file.
    fn move_aside(&self) -> std::io::Result<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |now| now.as_secs());
        let name = |base: &Path, suffix: &str| {
            let mut name = base.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let aside = name(&self.path, &format!(".corrupt-{seconds}"));
        // The journal first: a new file must not find the journal of the old one.
        for suffix in ["-wal", "-shm"] {
            match std::fs::rename(name(&self.path, suffix), name(&aside, suffix)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, &aside)?;
        Ok(aside)
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Files have no identity here that the standard library can tell, so only whether
/// there is one.
#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    path.is_file().then_some((0, 0))
}

/// Whether the file is damaged, or is not a database at all.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Adds to an error what the operator can do about it.
fn explained(error: rusqlite::Error, path: &Path) -> StoreError {
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full; free some space",
        Some(ErrorCode::ReadOnly) => {
            "the file cannot be written; check the permissions of the file and its directory"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk failed; check it",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::CannotOpen) => {
            return StoreError::down(error);
        }
        _ => return StoreError::other(error),
    };
    StoreError::Down(format!("{}: {error}; {remedy}", path.display()))
}

/// After these errors the file may be another than the connection believes; the
/// next call opens it afresh.
pub(super) fn spoils_connection(error: &rusqlite::Error) -> bool {
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
fn open(path: &Path, journal: Journal) -> anyhow::Result<Connection> {
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
    prepare(&connection, journal).with_context(cannot_open)?;
    Ok(connection)
}

fn prepare(connection: &Connection, journal: Journal) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    match journal {
        Journal::WriteAhead => write_ahead(connection)?,
        // The file's default. Nothing is synced: where Spin is imitated, a machine that
        // loses power loses a test.
        Journal::Rollback => connection.pragma_update(None, "synchronous", "off")?,
    }
    connection.execute(CREATE, [])?;
    Ok(())
}

fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    // Only a file without tables takes this. Where it is set, setting it would wait for
    // the lock that a write of somebody else may hold.
    let vacuums: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
    if vacuums != INCREMENTAL {
        connection.pragma_update(None, "auto_vacuum", "incremental")?;
    }
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
    connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES_MAX)
}

/// Gives some unused pages of the file back to the system. Files of earlier
/// versions keep theirs.
fn return_pages(connection: &Connection) -> rusqlite::Result<()> {
    let free: i64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    if free <= FREE_PAGES_KEPT {
        return Ok(());
    }
    let mut vacuum =
        connection.prepare_cached(&format!("PRAGMA incremental_vacuum({FREE_PAGES_RETURNED})"))?;
    let mut rows = vacuum.query([])?;
    // A page per step.
    while rows.next()?.is_some() {}
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
        // Not in line for the one connection that writes: each instance does this before
        // its first read, and reads work while somebody else keeps the file locked.
        self.readers.run(|_| Ok(())).await
    }

    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        let key = key.to_owned();
        self.readers
            .run(move |connection| select(connection, &key))
            .await
    }

    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.write(move |connection| {
            connection
                .prepare_cached(UPSERT)?
                .execute((STORE_NAME, key, value))
        })
        .await
        .map(drop)
    }

    async fn delete(&self, key: &str) -> StoreResult<()> {
        let key = key.to_owned();
        self.write(move |connection| {
            let rows = connection
                .prepare_cached(DELETE)?
                .execute((STORE_NAME, key))?;
            // The key is removed, whatever comes of this.
            drop(return_pages(connection));
            Ok(rows)
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
            .write(move |connection| match expected {
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

    async fn remove_if(&self, key: &str, expected: &[u8]) -> StoreResult<bool> {
        let (key, expected) = (key.to_owned(), expected.to_vec());
        let rows = self
            .write(move |connection| {
                let rows = connection
                    .prepare_cached(DELETE_IF_EQUAL)?
                    .execute((STORE_NAME, key, expected))?;
                // The key is removed, whatever comes of this.
                drop(return_pages(connection));
                Ok(rows)
            })
            .await?;
        Ok(rows == 1)
    }

    async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64> {
        let key = key.to_owned();
        self.write(move |connection| {
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
