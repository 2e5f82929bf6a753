//! A [`Store`] in a SQLite database, where a swap is one SQL statement.
//!
//! SQLite runs the writing statements of a database one after the other, whatever
//! connection and whatever node they come from. So a statement that compares and
//! writes is an exact swap, and no transaction has to span two calls: each call may
//! take another connection.
//!
//! The table is made by the first write that finds none. Reads of a database without
//! the table find nothing, so that a node reads from a database that is full or cannot
//! be written.

use super::{Removal, Store, StoreError, Swap};
use bytes::Bytes;
use std::future::Future;

/// Makes the table. Rows have row ids, because SQLite keeps large values badly in
/// tables without.
const CREATE: &str =
    "CREATE TABLE IF NOT EXISTS leeward (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)";

/// Readers and the writer of a file do not wait for each other with this journal, and a
/// write is synced once instead of three times. The file remembers it. A database
/// behind a server does not take this, and does not need it.
const WRITE_AHEAD: &str = "PRAGMA journal_mode = WAL";

const SELECT: &str = "SELECT value FROM leeward WHERE name = ?1";

const SWAP_ABSENT: &str =
    "INSERT INTO leeward (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING RETURNING 1";

const SWAP_PRESENT: &str =
    "UPDATE leeward SET value = ?2 WHERE name = ?1 AND value = ?3 RETURNING 1";

const PUT: &str = "INSERT INTO leeward (name, value) VALUES (?1, ?2) \
     ON CONFLICT (name) DO UPDATE SET value = excluded.value";

const REMOVE: &str = "DELETE FROM leeward WHERE name = ?1";

const REMOVE_IF: &str = "DELETE FROM leeward WHERE name = ?1 AND value = ?2 RETURNING 1";

/// The names of a page in one row, with the last of them and their number. A host that
/// hands rows over one by one may keep the connection locked until the last is taken,
/// and whatever else the instance asks of the database would wait for the listing to go
/// on. One row it hands over at once. (Spin 4.1, `sqlite-inproc`: `query_async`.)
const NAMES: &str = "SELECT max(name), count(*), group_concat(name, char(10)) FROM \
     (SELECT name FROM leeward WHERE name > ?1 ORDER BY name LIMIT ?2)";

/// What separates the names of a page. No name has a line break.
const SEPARATOR: char = '\n';

/// What SQLite's message says of a statement about a table that is not there.
const NO_TABLE: &str = "no such table";

/// How often a swap tries that neither found the expected value nor another one
/// afterwards: the value was removed or created in between.
const SWAP_ATTEMPTS: usize = 3;

/// Names that one statement lists.
const PAGE: usize = 1_000;

/// Most names that are listed, in pages.
const PAGES_MAX: usize = 1_000;

/// A value in a statement or in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlValue {
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Bytes),
    /// What no statement here asks for: a fraction, or `NULL`.
    Other,
}

impl SqlValue {
    fn text(text: &str) -> Self {
        SqlValue::Text(text.to_owned())
    }
}

/// What a statement does. The statements that read must not wait for those that write:
/// where a connection runs one statement at a time, each kind takes its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It only reads.
    Reading,
    /// It writes.
    Writing,
}

/// A SQLite database, version 3.35 or later.
pub trait Sql: 'static {
    /// Runs one statement by itself and returns its rows, each with the values of its
    /// columns. The parameters are `?1`, `?2`, and so on, and are never
    /// [`SqlValue::Other`].
    ///
    /// # Errors
    ///
    /// With SQLite's message in the text. After an error it is not known whether the
    /// statement ran.
    fn execute(
        &self,
        doing: Doing,
        statement: &'static str,
        parameters: Vec<SqlValue>,
    ) -> impl Future<Output = Result<Vec<Vec<SqlValue>>, StoreError>>;
}

/// A [`Store`] made of a SQLite database.
#[derive(Debug)]
pub struct SqlStore<S> {
    sql: S,
}

impl<S: Sql> SqlStore<S> {
    /// The store in the table `leeward` of `sql`.
    pub fn new(sql: S) -> Self {
        SqlStore { sql }
    }

    /// Runs a statement that reads. A database without the table has no rows.
    async fn read(
        &self,
        statement: &'static str,
        parameters: Vec<SqlValue>,
    ) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        let read = self.sql.execute(Doing::Reading, statement, parameters);
        match read.await {
            Err(error) if has_no_table(&error) => Ok(Vec::new()),
            read => read,
        }
    }

    /// Runs a statement that writes, and makes the table if there is none.
    async fn write(
        &self,
        statement: &'static str,
        parameters: Vec<SqlValue>,
    ) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        let write = |statement, parameters| {
            let doing = Doing::Writing;
            self.sql.execute(doing, statement, parameters)
        };
        match write(statement, parameters.clone()).await {
            Err(error) if has_no_table(&error) => {
                let _faster = write(WRITE_AHEAD, Vec::new()).await;
                write(CREATE, Vec::new()).await?;
                write(statement, parameters).await
            }
            written => written,
        }
    }
}

/// Whether the statement failed, and did nothing, for want of the table.
fn has_no_table(error: &StoreError) -> bool {
    error.message.contains(NO_TABLE)
}

fn unexpected() -> StoreError {
    StoreError::new("the database returned a row of another kind than was asked for")
}

/// The one value of the first row, or none if there is no row.
fn first_blob(rows: Vec<Vec<SqlValue>>) -> Result<Option<Bytes>, StoreError> {
    let Some(row) = rows.into_iter().next() else {
        return Ok(None);
    };
    match row.into_iter().next() {
        Some(SqlValue::Blob(value)) => Ok(Some(value)),
        _ => Err(unexpected()),
    }
}

impl<S: Sql> Store for SqlStore<S> {
    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        first_blob(self.read(SELECT, vec![SqlValue::text(key)]).await?)
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        for _ in 0..SWAP_ATTEMPTS {
            let name_and_new = [SqlValue::text(key), SqlValue::Blob(new.clone())];
            let (statement, parameters) = match expected {
                None => (SWAP_ABSENT, name_and_new.to_vec()),
                Some(expected) => {
                    let [name, new] = name_and_new;
                    let expected = SqlValue::Blob(expected.clone());
                    (SWAP_PRESENT, vec![name, new, expected])
                }
            };
            if !self.write(statement, parameters).await?.is_empty() {
                return Ok(Swap::Done);
            }
            let current = self.load(key).await?;
            // The reply to an earlier run of the statement was lost below, and it was
            // run again.
            if current.as_ref() == Some(new) {
                return Ok(Swap::Done);
            }
            if current.as_ref() != expected {
                return Ok(Swap::Conflict(current));
            }
        }
        Err(StoreError::contended(format!("{key} comes and goes")))
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        let parameters = vec![SqlValue::text(key), SqlValue::Blob(value.clone())];
        self.write(PUT, parameters).await.map(drop)
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.write(REMOVE, vec![SqlValue::text(key)])
            .await
            .map(drop)
    }

    async fn remove_if(&self, key: &str, expected: &Bytes) -> Result<Removal, StoreError> {
        let parameters = vec![SqlValue::text(key), SqlValue::Blob(expected.clone())];
        let removed = self.write(REMOVE_IF, parameters).await?;
        Ok(Removal::done_if(!removed.is_empty()))
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let mut last = String::new();
        for _ in 0..PAGES_MAX {
            let page = vec![SqlValue::Text(last.clone()), SqlValue::Integer(limit)];
            let rows = self.read(NAMES, page).await?;
            // There is no row without the table.
            let Some(row) = rows.into_iter().next() else {
                return Ok(true);
            };
            let (newest, count, names) = match &row[..] {
                [
                    SqlValue::Text(last),
                    SqlValue::Integer(count),
                    SqlValue::Text(names),
                ] => (last, *count, names),
                [SqlValue::Other, SqlValue::Integer(0), SqlValue::Other] => return Ok(true),
                _ => return Err(unexpected()),
            };
            // Strictly: a page that is not behind the one before it would be listed
            // again and again.
            if *newest <= last {
                return Err(unexpected());
            }
            names.split(SEPARATOR).for_each(&mut *each);
            last.clone_from(newest);
            if count < limit {
                return Ok(true);
            }
        }
        Err(StoreError::new("the database has too many names to list"))
    }
}

#[cfg(test)]
mod tests;
