//! The flavour `spin-sqlite`: Spin 4.1 and later, with a SQLite database.
//!
//! Every operation is asynchronous, and a swap is one statement: it is exact, and stops
//! no other request of the instance.

use crate::config::Config;
use crate::platform::setup::SetupError;
use crate::store::sql::{Doing, Sql, SqlValue};
use crate::store::{SqlStore, StoreError};
use crate::time::Time;
use spin_sdk::sqlite::{Connection, Error, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// The database's label, as `spin.toml` grants it.
const LABEL: &str = "default";

/// What a connection that writes is told when it is opened. A server behind the
/// interface may refuse either, and needs neither.
///
/// Readers and the writer do not wait for each other with this journal. It is synced
/// when it is copied into the file and not with every write: a machine that loses power
/// loses the last writes, and a cache can fetch them again.
const SETUP: [&str; 2] = ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL"];

/// Most rows that are taken from the database for one statement: more than any asks
/// for.
const ROWS_MAX: usize = 10_000;

/// The store of the cells.
pub(crate) type Cells = SqlStore<Database>;

/// Makes the store of the cells.
pub(crate) async fn cells(_: &Config, _: fn() -> Time) -> Result<Cells, SetupError> {
    Ok(SqlStore::new(Database::default()))
}

/// The database `default`. Spin runs the statements of a connection one after the
/// other, so those that read have one of their own, and do not wait for a write that
/// waits for another node's. An error closes a connection, and the next statement opens
/// it again.
#[derive(Default)]
pub(crate) struct Database {
    reading: RefCell<Option<Rc<Connection>>>,
    writing: RefCell<Option<Rc<Connection>>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    async fn connection(&self, doing: Doing) -> Result<Rc<Connection>, Error> {
        let place = self.place(doing);
        if let Some(connection) = place.borrow().as_ref() {
            return Ok(Rc::clone(connection));
        }
        let connection = Rc::new(Connection::open(LABEL).await?);
        if doing == Doing::Writing {
            for statement in SETUP {
                let _faster = run(&connection, statement, Vec::new()).await;
            }
        }
        *place.borrow_mut() = Some(Rc::clone(&connection));
        Ok(connection)
    }

    fn place(&self, doing: Doing) -> &RefCell<Option<Rc<Connection>>> {
        match doing {
            Doing::Reading => &self.reading,
            Doing::Writing => &self.writing,
        }
    }
}

impl Sql for Database {
    async fn execute(
        &self,
        doing: Doing,
        statement: &'static str,
        parameters: Vec<SqlValue>,
    ) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        let run = async {
            let connection = self.connection(doing).await?;
            run(&connection, statement, parameters).await
        };
        run.await.map_err(|error| {
            self.place(doing).borrow_mut().take();
            problem(&error)
        })
    }
}

/// Runs a statement, and takes its rows to the end: before that it is not over.
async fn run(
    connection: &Connection,
    statement: &str,
    parameters: Vec<SqlValue>,
) -> Result<Vec<Vec<SqlValue>>, Error> {
    let parameters = parameters.into_iter().map(|value| match value {
        SqlValue::Integer(number) => Value::Integer(number),
        SqlValue::Text(text) => Value::Text(text),
        SqlValue::Blob(bytes) => Value::Blob(bytes.into()),
        SqlValue::Other => Value::Null,
    });
    let mut result = connection.execute(statement, parameters).await?;
    let mut rows = Vec::new();
    while let Some(row) = result.next().await {
        if rows.len() < ROWS_MAX {
            let values = row.values.into_iter().map(|value| match value {
                Value::Integer(number) => SqlValue::Integer(number),
                Value::Text(text) => SqlValue::Text(text),
                Value::Blob(bytes) => SqlValue::Blob(bytes.into()),
                Value::Real(_) | Value::Null => SqlValue::Other,
            });
            rows.push(values.collect());
        }
    }
    result.result().await?;
    Ok(rows)
}

fn problem(error: &Error) -> StoreError {
    StoreError::new(match error {
        Error::NoSuchDatabase => format!("there is no SQLite database `{LABEL}`"),
        Error::AccessDenied => format!("the component may not use the SQLite database `{LABEL}`"),
        Error::InvalidConnection => "the SQLite database cannot be reached".to_owned(),
        Error::DatabaseFull => "the SQLite database is full".to_owned(),
        Error::Io(reason) => reason.clone(),
    })
}
