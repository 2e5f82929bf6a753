//! The flavour `fermyon-cloud`: Fermyon Cloud, Spin 2 and 3.
//!
//! The cells are rows of a SQLite database: the key-value store of Fermyon Cloud has
//! neither a swap nor room for more than 1,024 keys. Calls of the database are
//! synchronous, so none of them can be given up: how long one may take is the host's
//! to say.

use crate::config::Config;
use crate::platform::defaults;
use crate::platform::setup::SetupError;
use crate::platform::wasip2::bindings::fermyon::spin::sqlite::{Connection, Error, Value};
use crate::store::sql::{Doing, Sql, SqlValue};
use crate::store::{SqlStore, StoreError, VALUE_BYTES_MAX};
use crate::time::Time;
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::Rc;

/// The database's label, as `spin.toml` grants it.
const LABEL: &str = "default";

/// Options with another default.
pub(crate) const DEFAULTS: &[(&str, &str)] = defaults::FERMYON_CLOUD;

/// The store of the cells.
pub(crate) type Cells = SqlStore<Database>;

/// Makes the store of the cells.
pub(crate) async fn cells(_: &Config, _: fn() -> Time) -> Result<Cells, SetupError> {
    Ok(SqlStore::new(Database::default()))
}

/// The database `default`, opened when it is first used. An error closes it, and the
/// next statement opens it again.
#[derive(Default)]
pub(crate) struct Database(RefCell<Option<Rc<Connection>>>);

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    fn connection(&self) -> Result<Rc<Connection>, StoreError> {
        if let Some(connection) = self.0.borrow().as_ref() {
            return Ok(Rc::clone(connection));
        }
        let connection = Rc::new(Connection::open(LABEL).map_err(failed)?);
        *self.0.borrow_mut() = Some(Rc::clone(&connection));
        Ok(connection)
    }
}

impl Sql for Database {
    // A request does one thing after the other: it needs one connection.
    async fn execute(
        &self,
        _: Doing,
        statement: &'static str,
        parameters: Vec<SqlValue>,
    ) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        let parameters: Vec<Value> = parameters
            .into_iter()
            .map(to_host)
            .collect::<Result<_, _>>()?;
        match self.connection()?.execute(statement, &parameters) {
            Ok(result) => {
                let rows = result.rows.into_iter();
                Ok(rows
                    .map(|row| row.values.into_iter().map(from_host).collect())
                    .collect())
            }
            Err(error) => {
                self.0.borrow_mut().take();
                Err(failed(error))
            }
        }
    }
}

fn to_host(value: SqlValue) -> Result<Value, StoreError> {
    match value {
        SqlValue::Integer(number) => Ok(Value::Integer(number)),
        SqlValue::Text(text) => Ok(Value::Text(text)),
        SqlValue::Blob(bytes) if bytes.len() > VALUE_BYTES_MAX => {
            Err(StoreError::refused(format!(
                "a value has {} bytes; the platform takes at most {VALUE_BYTES_MAX}",
                bytes.len()
            )))
        }
        SqlValue::Blob(bytes) => Ok(Value::Blob(bytes.into())),
        SqlValue::Other => Ok(Value::Null),
    }
}

fn from_host(value: Value) -> SqlValue {
    match value {
        Value::Integer(number) => SqlValue::Integer(number),
        Value::Text(text) => SqlValue::Text(text),
        Value::Blob(bytes) => SqlValue::Blob(Bytes::from(bytes)),
        Value::Real(_) | Value::Null => SqlValue::Other,
    }
}

fn failed(error: Error) -> StoreError {
    StoreError::new(match error {
        Error::NoSuchDatabase => format!("there is no SQLite database `{LABEL}`"),
        Error::AccessDenied => {
            format!("the component may not use the SQLite database `{LABEL}`")
        }
        Error::InvalidConnection => "the connection to the database is not valid".to_owned(),
        Error::DatabaseFull => "the database is full".to_owned(),
        Error::Io(reason) => reason,
    })
}
