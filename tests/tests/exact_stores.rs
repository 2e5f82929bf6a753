//! The component's stores for platforms with SQL or Redis, on the real things.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use futures::FutureExt;
use leeward::store::script::{self, Redis, RedisValue};
use leeward::store::sql::{Doing, Sql, SqlValue};
use leeward::store::{ScriptStore, SqlStore, Store, StoreError, Swap};
use leeward_tests::redis::RedisServer;
use redis::Value;
use rusqlite::{Connection, params_from_iter, types};

/// A SQLite file as Spin opens it: with its defaults.
struct Database(Connection);

impl Sql for Database {
    async fn execute(
        &self,
        _: Doing,
        statement: &'static str,
        parameters: Vec<SqlValue>,
    ) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        let run = || {
            let mut statement = self.0.prepare_cached(statement)?;
            let columns = statement.column_count();
            let parameters = parameters.into_iter().map(|value| match value {
                SqlValue::Integer(number) => types::Value::Integer(number),
                SqlValue::Text(text) => types::Value::Text(text),
                SqlValue::Blob(bytes) => types::Value::Blob(bytes.to_vec()),
                SqlValue::Other => types::Value::Null,
            });
            let rows = statement.query_map(params_from_iter(parameters), |row| {
                (0..columns)
                    .map(|column| {
                        Ok(match row.get(column)? {
                            types::Value::Integer(number) => SqlValue::Integer(number),
                            types::Value::Text(text) => SqlValue::Text(text),
                            types::Value::Blob(bytes) => SqlValue::Blob(bytes.into()),
                            types::Value::Null | types::Value::Real(_) => SqlValue::Other,
                        })
                    })
                    .collect()
            })?;
            rows.collect::<Result<_, _>>()
        };
        run().map_err(|error: rusqlite::Error| StoreError::new(error.to_string()))
    }
}

/// A Redis server as Spin asks it.
struct Server(std::cell::RefCell<redis::Connection>);

impl Redis for Server {
    async fn execute(
        &self,
        command: &'static str,
        arguments: Vec<Bytes>,
    ) -> Result<Vec<RedisValue>, StoreError> {
        let mut command = redis::cmd(command);
        for argument in &arguments {
            command.arg(&argument[..]);
        }
        let reply = command
            .query::<Value>(&mut self.0.borrow_mut())
            .map_err(|error| StoreError::new(error.to_string()))?;
        let mut values = Vec::new();
        flatten(reply, &mut values);
        Ok(values)
    }
}

fn flatten(value: Value, values: &mut Vec<RedisValue>) {
    values.push(match value {
        Value::Nil => RedisValue::Nil,
        Value::Int(number) => RedisValue::Integer(number),
        Value::BulkString(bytes) => RedisValue::Bytes(bytes.into()),
        Value::SimpleString(text) => RedisValue::Status(text),
        Value::Okay => RedisValue::Status("OK".to_owned()),
        Value::Array(inner) => {
            for value in inner {
                flatten(value, values);
            }
            return;
        }
        other => panic!("{other:?}"),
    });
}

/// Here every call is done when it returns.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What every store does, on an empty one.
async fn keeps_the_contract(store: &impl Store) {
    // A cell may hold any byte.
    let (a, b) = (
        Bytes::from((0..=255).collect::<Vec<u8>>()),
        Bytes::from_static(b"\0'\xff"),
    );
    assert_eq!(store.load("cell/k").await.unwrap(), None);
    let absent = Swap::Conflict(None);
    assert_eq!(store.swap("cell/k", Some(&a), &b).await.unwrap(), absent);
    assert_eq!(store.swap("cell/k", None, &a).await.unwrap(), Swap::Done);
    let lost = Swap::Conflict(Some(a.clone()));
    assert_eq!(store.swap("cell/k", None, &b).await.unwrap(), lost);
    assert_eq!(store.swap("cell/k", Some(&b), &b).await.unwrap(), lost);
    assert_eq!(
        store.swap("cell/k", Some(&a), &b).await.unwrap(),
        Swap::Done
    );
    assert_eq!(store.load("cell/k").await.unwrap(), Some(b));
    let long = Bytes::from(vec![7; leeward::store::VALUE_BYTES_MAX]);
    store.put("body/1", &long).await.unwrap();
    store.put("body/1", &long).await.unwrap();
    assert_eq!(store.load_put("body/1").await.unwrap(), Some(long));
    let mut names = Vec::new();
    let listed = store.names(&mut |name| names.push(name.to_owned())).await;
    assert!(listed.unwrap());
    names.sort();
    assert_eq!(names, ["body/1", "cell/k"]);
    for name in names {
        store.remove(&name).await.unwrap();
        store.remove(&name).await.unwrap();
        assert_eq!(store.load(&name).await.unwrap(), None);
    }
}

/// How many threads swap at once, and how often each succeeds.
const THREADS: usize = 8;
const SWAPS: usize = 25;

/// Threads that count in one value: no count is lost, and none is counted twice.
fn counts_exactly<S: Store>(open: impl Fn() -> S + Sync) {
    let conflicts = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (open, conflicts) = (&open, &conflicts);
            scope.spawn(move || {
                let store = open();
                for _ in 0..SWAPS {
                    block_on(async {
                        let mut current = store.load("count").await.unwrap();
                        loop {
                            // As a cell's nonce does, the number of the thread makes it
                            // a value that nobody else writes.
                            let count = current.as_ref().map_or(0, count) + 1;
                            let new = bytes(&format!("{count} {number}"));
                            match store.swap("count", current.as_ref(), &new).await {
                                Ok(Swap::Done) => return,
                                Ok(Swap::Conflict(now)) => {
                                    conflicts.fetch_add(1, Ordering::Relaxed);
                                    current = now;
                                }
                                other => panic!("{other:?}"),
                            }
                        }
                    });
                }
            });
        }
    });
    let value = block_on(open().load("count")).unwrap().unwrap();
    assert_eq!(count(&value), THREADS * SWAPS);
    // Otherwise nothing was shown.
    assert!(conflicts.into_inner() > 0);
}

fn count(value: &Bytes) -> usize {
    let text = std::str::from_utf8(value).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_sql_store_keeps_the_contract_in_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let open = || SqlStore::new(Database(Connection::open(&path).unwrap()));
    block_on(keeps_the_contract(&open()));
    counts_exactly(open);
}

#[test]
fn the_sql_store_is_read_while_another_writes_and_when_it_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = SqlStore::new(Database(Connection::open(&path).unwrap()));
    let (a, b) = (bytes("a"), bytes("b"));
    block_on(async {
        store.put("k", &a).await.unwrap();
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(store.load("k").await.unwrap(), Some(a.clone()));
        writer.execute_batch("ROLLBACK").unwrap();
        // The smallest size: nothing more fits.
        let full = Connection::open(&path).unwrap();
        let pages: i64 = full
            .query_row("PRAGMA max_page_count = 1", [], |row| row.get(0))
            .unwrap();
        assert!(pages > 0);
        let full = SqlStore::new(Database(full));
        let long = Bytes::from(vec![7; 500_000]);
        let error = full.put("l", &long).await.unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!(full.load("k").await.unwrap(), Some(a.clone()));
        assert_eq!(full.swap("k", Some(&a), &b).await.unwrap(), Swap::Done);
    });
}

#[tokio::test]
async fn the_script_store_keeps_the_contract_on_a_redis_server() {
    let server = RedisServer::start().await;
    let open = || {
        let connection = server.connection().unwrap();
        let redis = Server(connection.into());
        ScriptStore::new(redis, script::EXPIRY)
    };
    block_on(keeps_the_contract(&open()));
    counts_exactly(open);
    let mut connection = server.connection().unwrap();
    let expires: i64 = redis::cmd("PTTL")
        .arg("leeward:count")
        .query(&mut connection)
        .unwrap();
    assert!(expires > 0, "{expires}");
}
