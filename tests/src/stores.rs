//! The stores, and the store behaviours, that every scenario runs on.
//!
//! | kind | store | behaves as | nodes |
//! | --- | --- | --- | --- |
//! | `Exact` | SQLite file | the contract says | 2 |
//! | `SpinSqlite` | SQLite file | Spin's SQLite store | 2 |
//! | `SpinRedis` | SQLite file | Spin's Redis store | 2 |
//! | `SqliteShared` | SQLite file | the contract says | 4 |
//! | `RedisServer` | `redis-server` | the contract says | 4 |
//! | `RedisServerAsSpin` | `redis-server` | Spin's Redis store | 4 |

use std::time::Duration;

use ::redis::Commands;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::redis::RedisServer;

/// Prefix of the keys under which cells lie.
const CELLS: &str = "cell/";

/// What the sweeper's own cell has in it: its key, as JSON.
const SWEEPER: &[u8] = br#""key":"\nsweeper""#;

/// Prefix of the keys under which chunks of bodies lie.
const CHUNKS: &str = "body/";

/// How long to wait for a node's write to the SQLite file to end.
const BUSY: Duration = Duration::from_secs(30);

/// A store and its behaviour; see the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the module's table says what each is")]
pub enum StoreKind {
    Exact,
    SpinSqlite,
    SpinRedis,
    SqliteShared,
    RedisServer,
    RedisServerAsSpin,
}

impl StoreKind {
    /// How many nodes share the store.
    pub const fn nodes(self) -> usize {
        match self {
            StoreKind::Exact | StoreKind::SpinSqlite | StoreKind::SpinRedis => 2,
            StoreKind::SqliteShared | StoreKind::RedisServer | StoreKind::RedisServerAsSpin => 4,
        }
    }

    /// The value of `--store-behaviour`.
    pub const fn behaviour(self) -> &'static str {
        match self {
            StoreKind::Exact | StoreKind::SqliteShared | StoreKind::RedisServer => "exact",
            StoreKind::SpinSqlite => "spin-sqlite",
            StoreKind::SpinRedis | StoreKind::RedisServerAsSpin => "spin-redis",
        }
    }

    /// Makes an empty store of this kind.
    pub async fn make(self) -> Store {
        match self {
            StoreKind::Exact
            | StoreKind::SpinSqlite
            | StoreKind::SpinRedis
            | StoreKind::SqliteShared => Store::Sqlite(tempfile::tempdir().unwrap()),
            StoreKind::RedisServer | StoreKind::RedisServerAsSpin => {
                Store::Redis(RedisServer::start().await)
            }
        }
    }
}

/// A store that the nodes of one test share.
#[derive(Debug)]
pub enum Store {
    /// A file in a directory of its own.
    Sqlite(TempDir),
    /// A server.
    Redis(RedisServer),
    /// The memory of the one node there is.
    Memory,
}

impl Store {
    /// The value of `--store`.
    pub fn url(&self) -> String {
        match self {
            Store::Sqlite(directory) => format!(
                "sqlite:{}",
                directory.path().join("store.sqlite3").display()
            ),
            Store::Redis(server) => server.url(),
            Store::Memory => "memory".to_owned(),
        }
    }

    /// Whether another connection holds the lock for writing.
    pub fn is_locked(&self) -> bool {
        match self {
            Store::Sqlite(_) => {
                let connection = self.sqlite();
                connection.busy_timeout(Duration::ZERO).unwrap();
                connection
                    .execute_batch("BEGIN IMMEDIATE; ROLLBACK")
                    .is_err()
            }
            Store::Redis(_) | Store::Memory => false,
        }
    }

    /// From now on the store refuses values of more than this many bytes, and says why. Of a
    /// file only.
    ///
    /// # Panics
    ///
    /// If it is no SQLite file, or no node has made its table yet.
    pub fn refuse_values_above(&self, bytes: usize) {
        let trigger = format!(
            "CREATE TRIGGER fussy BEFORE INSERT ON spin_key_value WHEN length(NEW.value) > {bytes} \
             BEGIN SELECT RAISE(ABORT, 'the value is too long'); END; \
             CREATE TRIGGER fussier BEFORE UPDATE ON spin_key_value WHEN length(NEW.value) > {bytes} \
             BEGIN SELECT RAISE(ABORT, 'the value is too long'); END;"
        );
        self.sqlite().execute_batch(&trigger).unwrap();
    }

    /// Every cell of a question: its key in the store, and the stored bytes. The sweeper's
    /// own comes when chance has it.
    pub fn cells(&self) -> Vec<(String, Vec<u8>)> {
        let mut cells = self.values(CELLS);
        cells.retain(|(_, value)| {
            let mut parts = value.windows(SWEEPER.len());
            !parts.any(|part| part == SWEEPER)
        });
        cells
    }

    /// Every chunk of a body: its key in the store, and the stored bytes.
    pub fn chunks(&self) -> Vec<(String, Vec<u8>)> {
        self.values(CHUNKS)
    }

    fn values(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        match self {
            Store::Sqlite(_) => {
                let connection = self.sqlite();
                let mut rows = connection
                    .prepare("SELECT key, value FROM spin_key_value WHERE store = 'default' AND key LIKE ?1 || '%' ORDER BY key")
                    .unwrap();
                rows.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))
                    .unwrap()
                    .map(Result::unwrap)
                    .collect()
            }
            Store::Redis(server) => {
                let mut connection = server.connection().unwrap();
                let mut keys: Vec<String> = connection.keys(format!("{prefix}*")).unwrap();
                keys.sort();
                keys.into_iter()
                    .map(|key| (key.clone(), connection.get(&key).unwrap()))
                    .collect()
            }
            Store::Memory => panic!("the memory of another process cannot be read"),
        }
    }

    /// Writes bytes over whatever is stored under a key, as no node would.
    pub fn overwrite(&self, key: &str, value: &[u8]) {
        match self {
            Store::Sqlite(_) => {
                let changed = self
                    .sqlite()
                    .execute(
                        "UPDATE spin_key_value SET value = ?1 WHERE store = 'default' AND key = ?2",
                        params![value, key],
                    )
                    .unwrap();
                assert_eq!(changed, 1, "rows under {key}");
            }
            Store::Redis(server) => server
                .connection()
                .unwrap()
                .set::<_, _, ()>(key, value)
                .unwrap(),
            Store::Memory => panic!("the memory of another process cannot be written"),
        }
    }

    /// Removes what is stored under a key, as no node would.
    pub fn remove(&self, key: &str) {
        match self {
            Store::Sqlite(_) => {
                let changed = self
                    .sqlite()
                    .execute(
                        "DELETE FROM spin_key_value WHERE store = 'default' AND key = ?1",
                        [key],
                    )
                    .unwrap();
                assert_eq!(changed, 1, "rows under {key}");
            }
            Store::Redis(server) => server.connection().unwrap().del::<_, ()>(key).unwrap(),
            Store::Memory => panic!("the memory of another process cannot be written"),
        }
    }

    fn sqlite(&self) -> Connection {
        let connection = Connection::open(self.url().trim_start_matches("sqlite:")).unwrap();
        connection.busy_timeout(BUSY).unwrap();
        connection
    }
}

/// Makes a test of each scenario on each [`StoreKind`]. A scenario is an
/// `async fn(StoreKind)`.
///
/// The tests that need a Redis server have `redis_server` in their names, so
/// that they can be left out on a machine without one.
#[macro_export]
macro_rules! on_every_store {
    ($($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            use $crate::StoreKind;
            $crate::on_every_store!(@ $scenario exact Exact);
            $crate::on_every_store!(@ $scenario spin_sqlite SpinSqlite);
            $crate::on_every_store!(@ $scenario spin_redis SpinRedis);
            $crate::on_every_store!(@ $scenario sqlite_shared_by_four SqliteShared);
            $crate::on_every_store!(@ $scenario redis_server_shared_by_four RedisServer);
            $crate::on_every_store!(@ $scenario redis_server_as_spin_shared_by_four RedisServerAsSpin);
        }
    )+};
    (@ $scenario:ident $name:ident $kind:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            super::$scenario(StoreKind::$kind).await;
        }
    };
}
