//! The SQLite database that components reach through `spin:sqlite` and
//! `fermyon:spin/sqlite`.
//!
//! It is in the file of the store, so that nodes that share the store share the
//! database too; with `--store memory` it is in the memory of this process.
//!
//! Each connection of a component is a connection of SQLite, as on Spin, so a
//! transaction is the connection's own. Statements run on blocking threads. Those of
//! one process that write do so one after the other: to wait in line costs less than
//! SQLite's own polling, and the line is fair.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags, params_from_iter};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::behaviour::CALL_MAX;
use super::sqlite::{Journal, Opened, StoreFile, is_damage, spoils_connection};
use super::{Location, StoreError};
use crate::limits::{Limit, Limiter};

/// Statements of one process that run at once. Others wait in line.
const STATEMENTS_MAX: usize = 32;

/// Longest that a statement waits in each line: for its turn to run, and for its turn
/// to write. SQLite waits as long for other processes.
const WAIT_MAX: Duration = CALL_MAX;

/// Longest that a statement runs, its waiting included. Then it is interrupted.
const STATEMENT_MAX: Duration = Duration::from_secs(10);

/// Connections that are kept open for the next instances.
const IDLE_MAX: usize = 16;

/// Most bytes of the rows of one answer, as on Spin.
const ROWS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What a statement fails with that could not write in time.
const LOCKED: &str = "database is locked";

/// A value of a row or of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
    Null,
}

/// What a statement returned.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

/// Why a statement did not run, or not to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DatabaseError {
    /// The database has as many bytes as it may have.
    Full,
    /// Anything else, as SQLite says it.
    Io(String),
}

/// A database. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Database(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    place: Place,
    limiter: Limiter,
    idle: Mutex<Vec<Opened>>,
    running: Semaphore,
    writing: Semaphore,
}

#[derive(Debug)]
enum Place {
    File(StoreFile),
    Memory {
        /// Names the memory among others of this process.
        uri: String,
        /// The memory is freed with its last connection, so one stays open.
        anchor: Mutex<Option<Connection>>,
    },
}

/// A connection of a component. It is opened at the first statement.
#[derive(Debug, Clone)]
pub(crate) struct Session(Arc<SessionState>);

#[derive(Debug)]
struct SessionState {
    database: Database,
    opened: Mutex<Option<Opened>>,
}

impl Database {
    /// The database beside the store at `location`; none if that is on a Redis server.
    /// It takes no more bytes than `limiter` allows.
    pub(crate) fn new(location: &Location, limiter: Limiter) -> Option<Self> {
        static MEMORIES: AtomicU64 = AtomicU64::new(0);
        let place = match location {
            Location::Sqlite(path) => {
                Place::File(StoreFile::new(path.clone(), Journal::WriteAhead))
            }
            Location::Memory => Place::Memory {
                uri: format!(
                    "file:/leeward-{}?vfs=memdb",
                    MEMORIES.fetch_add(1, Ordering::Relaxed)
                ),
                anchor: Mutex::default(),
            },
            Location::Redis(_) => return None,
        };
        Some(Self(Arc::new(Shared {
            place,
            limiter,
            idle: Mutex::default(),
            running: Semaphore::new(STATEMENTS_MAX),
            writing: Semaphore::new(1),
        })))
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Session {
        Session(Arc::new(SessionState {
            database: self.clone(),
            opened: Mutex::default(),
        }))
    }
}

impl Shared {
    fn identity(&self) -> Option<(u64, u64)> {
        match &self.place {
            Place::File(file) => file.identity(),
            Place::Memory { .. } => None,
        }
    }

    /// The file, if a statement was refused because it cannot be written, and none has
    /// written since.
    fn refused_as_read_only(&self) -> Option<&StoreFile> {
        match &self.place {
            Place::File(file) => {
                Some(file).filter(|file| file.was_read_only.load(Ordering::Relaxed))
            }
            Place::Memory { .. } => None,
        }
    }

    /// A connection that no session has: an idle one, or a new one.
    fn open(&self) -> Result<Opened, DatabaseError> {
        let now = self.identity();
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // The file of the others was moved or removed.
            idle.retain(|opened| opened.identity == now);
            idle.pop()
        };
        if let Some(opened) = idle {
            return Ok(opened);
        }
        let mut opened = match &self.place {
            Place::File(file) => file.open().map_err(DatabaseError::from)?,
            Place::Memory { uri, anchor } => {
                let mut anchor = anchor.lock().unwrap_or_else(PoisonError::into_inner);
                if anchor.is_none() {
                    *anchor = Some(open_memory(uri)?);
                }
                Opened::new(open_memory(uri)?, None)
            }
        };
        let connection = &mut opened.connection;
        connection.busy_timeout(WAIT_MAX)?;
        connection.authorizer(Some(authorize))?;
        if let Some(bytes) = self.limiter.limits().database_bytes {
            let page: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
            let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
            // It answers the new value, as a query does.
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        }
        Ok(opened)
    }

    /// Keeps a connection that no session has any more, unless a transaction is open
    /// on it: closing it ends that.
    fn give_back(&self, opened: Opened) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.connection.is_autocommit() && idle.len() < IDLE_MAX {
            idle.push(opened);
            return;
        }
        drop(idle);
        // Closing can write to the disk.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(opened));
        }
    }
}

fn open_memory(uri: &str) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(PathBuf::from(uri), flags)?)
}

/// Keeps components from other files, as Spin does. `VACUUM INTO` attaches its file too.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Attach { filename } if !matches!(filename, "" | ":memory:") => {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

impl Drop for SessionState {
    fn drop(&mut self) {
        let opened = self
            .opened
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = opened.take() {
            self.database.0.give_back(opened);
        }
    }
}

/// What can be done about a statement from outside its thread.
#[derive(Default)]
struct Control {
    given_up: bool,
    interrupt: Option<InterruptHandle>,
}

impl Session {
    /// Runs a statement.
    pub(crate) async fn execute(
        &self,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<Answer, DatabaseError> {
        self.execute_within(STATEMENT_MAX, statement, parameters)
            .await
    }

    /// In a task of its own: an instance is not polled while it makes a synchronous call,
    /// and must not hold a place in a line meanwhile.
    async fn execute_within(
        &self,
        most: Duration,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<Answer, DatabaseError> {
        let session = Arc::clone(&self.0);
        let run = async move {
            let shared = Arc::clone(&session.database.0);
            // After a refusal a statement runs alone: see `sqlite`.
            let turns = match shared.refused_as_read_only() {
                Some(_) => u32::try_from(STATEMENTS_MAX).unwrap_or(u32::MAX),
                None => 1,
            };
            let turn = tokio::time::timeout(WAIT_MAX, shared.running.acquire_many(turns)).await;
            let Ok(Ok(_turn)) = turn else {
                return Err(DatabaseError::Io(LOCKED.to_owned()));
            };
            let control = Arc::new(Mutex::new(Control::default()));
            let inner = Arc::clone(&control);
            let mut running =
                tokio::task::spawn_blocking(move || session.run(&inner, &statement, parameters));
            let outcome = match tokio::time::timeout(most, &mut running).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    // Scoped: the lock is not held while the statement ends.
                    {
                        let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
                        control.given_up = true;
                        if let Some(interrupt) = &control.interrupt {
                            interrupt.interrupt();
                        }
                    }
                    running.await
                }
            };
            outcome.map_err(|error| DatabaseError::Io(error.to_string()))?
        };
        (tokio::spawn(run).await).map_err(|error| DatabaseError::Io(error.to_string()))?
    }
}

impl SessionState {
    /// Runs a statement on this thread.
    fn run(
        &self,
        control: &Mutex<Control>,
        statement: &str,
        parameters: Vec<Value>,
    ) -> Result<Answer, DatabaseError> {
        let shared = &self.database.0;
        let mut held = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        // The file was replaced. A transaction on the old one is let go on.
        let is_stale = held.as_ref().is_some_and(|opened| {
            opened.connection.is_autocommit() && opened.identity != shared.identity()
        });
        let opened = match held.take().filter(|_| !is_stale) {
            Some(opened) => opened,
            None => shared.open()?,
        };
        {
            let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
            if control.given_up {
                *held = Some(opened);
                return Err(DatabaseError::Io("interrupted".to_owned()));
            }
            control.interrupt = Some(opened.connection.get_interrupt_handle());
        }
        let outcome = query(&opened.connection, shared, statement, parameters);
        // From here on an interrupt would meet a statement of somebody else.
        (control.lock().unwrap_or_else(PoisonError::into_inner)).interrupt = None;
        match outcome {
            Err(Failure::Sqlite(error)) => {
                if let Place::File(file) = &shared.place {
                    file.note(Some(&error));
                }
                if spoils_connection(&error) {
                    let identity = opened.identity;
                    drop(opened);
                    if let (true, Place::File(file)) = (is_damage(&error), &shared.place) {
                        file.replace(identity, &error)?;
                    }
                } else {
                    *held = Some(opened);
                }
                let limits = shared.limiter.limits();
                Err(match error.sqlite_error_code() {
                    Some(ErrorCode::DiskFull) if limits.database_bytes.is_some() => {
                        shared.limiter.reached(Limit::DatabaseBytes);
                        DatabaseError::Full
                    }
                    _ => error.into(),
                })
            }
            Err(Failure::Other(text)) => {
                *held = Some(opened);
                Err(DatabaseError::Io(text))
            }
            // What reads only would keep the others from writing for ever.
            Ok(answer) if opened.reads_only => Ok(answer),
            Ok(answer) => {
                if let Some(file) = shared.refused_as_read_only() {
                    file.was_read_only.store(false, Ordering::Relaxed);
                }
                *held = Some(opened);
                Ok(answer)
            }
        }
    }
}

/// Why a query failed.
enum Failure {
    Sqlite(rusqlite::Error),
    Other(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn query(
    connection: &Connection,
    shared: &Shared,
    statement: &str,
    parameters: Vec<Value>,
) -> Result<Answer, Failure> {
    let mut statement = connection.prepare_cached(statement)?;
    let columns = statement.column_names().map(str::to_owned);
    let mut answer = Answer {
        columns: columns.collect(),
        rows: Vec::new(),
    };
    // A statement within a transaction has had its turn: SQLite's own lock is held.
    let _turn = if statement.readonly() || !connection.is_autocommit() {
        None
    } else {
        let turn = Handle::current()
            .block_on(async { tokio::time::timeout(WAIT_MAX, shared.writing.acquire()).await });
        match turn {
            Ok(Ok(turn)) => Some(turn),
            _ => return Err(Failure::Other(LOCKED.to_owned())),
        }
    };
    let width = answer.columns.len();
    let parameters = parameters.into_iter().map(SqlValue::from);
    let mut rows = statement.query(params_from_iter(parameters))?;
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        let mut values = Vec::new();
        for column in 0..width {
            let value = value_of(row.get_ref(column)?)?;
            bytes = bytes.saturating_add(value.bytes());
            values.push(value);
        }
        if bytes > ROWS_BYTES_MAX {
            return Err(Failure::Other(format!(
                "query result exceeds limit of {ROWS_BYTES_MAX} bytes"
            )));
        }
        answer.rows.push(values);
    }
    Ok(answer)
}

fn value_of(value: ValueRef<'_>) -> Result<Value, Failure> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(it) => Value::Integer(it),
        ValueRef::Real(it) => Value::Real(it),
        ValueRef::Text(it) => match str::from_utf8(it) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => return Err(Failure::Other("a text is not UTF-8".to_owned())),
        },
        ValueRef::Blob(it) => Value::Blob(it.to_vec()),
    })
}

impl Value {
    /// Memory that it takes, in bytes.
    fn bytes(&self) -> usize {
        let beside = match self {
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
            Self::Integer(_) | Self::Real(_) | Self::Null => 0,
        };
        size_of::<Self>().saturating_add(beside)
    }
}

impl From<Value> for SqlValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(it) => Self::Integer(it),
            Value::Real(it) => Self::Real(it),
            Value::Text(it) => Self::Text(it),
            Value::Blob(it) => Self::Blob(it),
        }
    }
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl From<StoreError> for DatabaseError {
    fn from(error: StoreError) -> Self {
        Self::Io(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::limits::{Platform, PlatformLimits};

    fn database(location: &Location) -> Database {
        Database::new(location, Limiter::default()).unwrap()
    }

    fn file(directory: &tempfile::TempDir) -> Location {
        Location::Sqlite(directory.path().join("store.db"))
    }

    async fn run(session: &Session, statement: &str) -> Result<Answer, DatabaseError> {
        session.execute(statement.to_owned(), Vec::new()).await
    }

    /// The one number that `statement` answers.
    async fn number(session: &Session, statement: &str) -> i64 {
        let answer = run(session, statement).await.unwrap();
        match answer.rows.as_slice() {
            [row] if matches!(row[..], [Value::Integer(_)]) => match row[0] {
                Value::Integer(number) => number,
                _ => unreachable!(),
            },
            rows => unreachable!("{rows:?}"),
        }
    }

    #[tokio::test]
    async fn values_of_every_kind_come_back() {
        let directory = tempfile::tempdir().unwrap();
        for location in [Location::Memory, file(&directory)] {
            let session = database(&location).connect();
            let values = vec![
                Value::Integer(i64::MIN),
                Value::Real(0.5),
                Value::Text("ü".to_owned()),
                Value::Blob(vec![0, 255]),
                Value::Null,
            ];
            let statement = "SELECT ?1 AS a, ?2 AS b, ?3 AS c, ?4 AS d, ?5 AS e";
            let answer = session.execute(statement.to_owned(), values.clone()).await;
            let expected = Answer {
                columns: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
                rows: vec![values],
            };
            assert_eq!(answer, Ok(expected));
        }
    }

    #[tokio::test]
    async fn connections_share_the_database_and_nodes_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let memory = database(&Location::Memory);
        for (one, other) in [
            (memory.connect(), memory.connect()),
            (
                database(&file(&directory)).connect(),
                database(&file(&directory)).connect(),
            ),
        ] {
            run(&one, "CREATE TABLE t (n)").await.unwrap();
            run(&one, "INSERT INTO t VALUES (1)").await.unwrap();
            assert_eq!(number(&other, "SELECT sum(n) FROM t").await, 1);
        }
        // Another memory is another database.
        let other = database(&Location::Memory).connect();
        assert!(run(&other, "SELECT * FROM t").await.is_err());
    }

    #[tokio::test]
    async fn memory_stays_when_no_connection_is_left() {
        let database = database(&Location::Memory);
        run(&database.connect(), "CREATE TABLE t (n)")
            .await
            .unwrap();
        database.0.idle.lock().unwrap().clear();
        run(&database.connect(), "INSERT INTO t VALUES (1)")
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_transaction_is_the_connections_own_and_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let database = database(&file(&directory));
        let other = database.connect();
        run(&other, "CREATE TABLE t (n)").await.unwrap();
        let session = database.connect();
        run(&session, "BEGIN IMMEDIATE").await.unwrap();
        run(&session, "INSERT INTO t VALUES (1)").await.unwrap();
        assert_eq!(number(&session, "SELECT count(*) FROM t").await, 1);
        assert_eq!(number(&other, "SELECT count(*) FROM t").await, 0);
        drop(session);
        // This waits until the transaction has ended.
        run(&other, "INSERT INTO t VALUES (2)").await.unwrap();
        assert_eq!(number(&other, "SELECT sum(n) FROM t").await, 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn writers_of_two_nodes_lose_nothing() {
        const EACH: i64 = 25;
        let directory = tempfile::tempdir().unwrap();
        let nodes = [database(&file(&directory)), database(&file(&directory))];
        run(&nodes[0].connect(), "CREATE TABLE t (n)")
            .await
            .unwrap();
        run(&nodes[0].connect(), "INSERT INTO t VALUES (0)")
            .await
            .unwrap();
        let mut writers = Vec::new();
        for database in nodes.iter().cycle().take(8) {
            let session = database.connect();
            writers.push(tokio::spawn(async move {
                for _ in 0..EACH {
                    run(&session, "UPDATE t SET n = n + 1").await.unwrap();
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let sum = number(&nodes[1].connect(), "SELECT n FROM t").await;
        assert_eq!(sum, 8 * EACH);
    }

    #[tokio::test]
    async fn a_component_reaches_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other.db");
        for location in [Location::Memory, file(&directory)] {
            let session = database(&location).connect();
            for statement in [
                format!("ATTACH '{}' AS other", other.display()),
                format!("VACUUM INTO '{}'", other.display()),
            ] {
                assert!(run(&session, &statement).await.is_err(), "{statement}");
            }
            assert!(!other.exists());
            run(&session, "ATTACH ':memory:' AS other").await.unwrap();
        }
    }

    #[tokio::test]
    async fn errors_of_statements_leave_the_connection_usable() {
        let session = database(&Location::Memory).connect();
        let error = run(&session, "SELEC 1").await;
        assert!(
            matches!(&error, Err(DatabaseError::Io(text)) if text.contains("syntax error")),
            "{error:?}"
        );
        let wrong = session
            .execute("SELECT ?1".to_owned(), vec![Value::Null, Value::Null])
            .await;
        assert!(wrong.is_err());
        assert_eq!(number(&session, "SELECT 1").await, 1);
    }

    #[tokio::test]
    async fn a_full_database_says_so() {
        let limits = PlatformLimits {
            database_bytes: Some(64 * 1024),
            ..Platform::None.limits()
        };
        let small = Limiter::with(Platform::FermyonCloud, limits);
        let directory = tempfile::tempdir().unwrap();
        for location in [Location::Memory, file(&directory)] {
            let database = Database::new(&location, small.clone()).unwrap();
            let session = database.connect();
            run(&session, "CREATE TABLE t (b)").await.unwrap();
            let full = run(&session, "INSERT INTO t VALUES (zeroblob(100000))").await;
            assert_eq!(full, Err(DatabaseError::Full));
            run(&session, "INSERT INTO t VALUES (1)").await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_statement_that_never_ends_is_interrupted() {
        let session = database(&Location::Memory).connect();
        let endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) \
                       SELECT count(*) FROM t";
        let outcome = session
            .execute_within(Duration::from_millis(50), endless.to_owned(), Vec::new())
            .await;
        assert_eq!(outcome, Err(DatabaseError::Io("interrupted".to_owned())));
        assert_eq!(number(&session, "SELECT 1").await, 1);
    }

    #[test]
    fn a_redis_server_has_no_database() {
        let location = "redis://127.0.0.1:6379".parse().unwrap();
        assert!(Database::new(&location, Limiter::default()).is_none());
    }
}
