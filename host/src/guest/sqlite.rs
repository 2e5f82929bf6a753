//! `spin:sqlite` and `fermyon:spin/sqlite`: two doors to the one database.

use wasmtime::component::{Accessor, FutureReader, HasData, Resource, ResourceTable, StreamReader};

use super::bindings::{fermyon_sqlite, spin_sqlite};
use crate::observe::{Kind, Operation, StoreOutcome};
use crate::store::{Answer, Database, DatabaseError, Session, Value};

/// The only database there is.
const LABEL: &str = "default";

/// Most connections that an instance may have open, as on Spin.
const OPEN_MAX: usize = 256;

/// What an instance is told that opens more.
const TOO_MANY: &str = "too many connections opened";

/// An open connection.
#[derive(Debug)]
#[allow(
    unreachable_pub,
    reason = "the generated bindings re-export it as public"
)]
pub struct Connection(Session);

/// What the host keeps for one instance about the database.
#[derive(Debug)]
pub(super) struct SqliteState {
    /// None if the store is on a Redis server.
    database: Option<Database>,
    open: usize,
}

impl SqliteState {
    pub(super) fn new(database: Option<Database>) -> Self {
        Self { database, open: 0 }
    }
}

/// [`SqliteState`] with the table that its connections are in.
#[derive(Debug)]
pub(crate) struct SqliteView<'a> {
    pub(super) state: &'a mut SqliteState,
    pub(super) table: &'a mut ResourceTable,
}

/// Names [`SqliteView`] to the linker.
#[derive(Debug)]
pub(super) struct Sqlite;

impl HasData for Sqlite {
    type Data<'a> = SqliteView<'a>;
}

/// Why there is no connection.
enum Refusal {
    AccessDenied,
    NoSuchDatabase,
    TooMany,
}

impl SqliteView<'_> {
    /// Opening touches no file, as on Spin.
    fn open(&mut self, label: &str) -> wasmtime::Result<Result<Resource<Connection>, Refusal>> {
        if label != LABEL {
            return Ok(Err(Refusal::AccessDenied));
        }
        let Some(database) = &self.state.database else {
            return Ok(Err(Refusal::NoSuchDatabase));
        };
        if self.state.open == OPEN_MAX {
            return Ok(Err(Refusal::TooMany));
        }
        let connection = Connection(database.connect());
        let held = self.table.push(connection)?;
        self.state.open += 1;
        Ok(Ok(held))
    }

    fn session(&self, held: &Resource<Connection>) -> wasmtime::Result<Session> {
        Ok(self.table.get(held)?.0.clone())
    }

    fn close(&mut self, held: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(held)?;
        self.state.open -= 1;
        Ok(())
    }
}

/// Runs a statement, and counts it.
async fn execute(
    session: Session,
    statement: String,
    parameters: Vec<Value>,
) -> Result<Answer, DatabaseError> {
    let operation = Operation::begin(Kind::Sql);
    let answer = session.execute(statement, parameters).await;
    operation.end(match answer {
        Ok(_) => StoreOutcome::Ok,
        Err(_) => StoreOutcome::Error,
    });
    answer
}

/// The types of one interface. Both have the same.
macro_rules! convert {
    ($interface:ident) => {
        impl From<Refusal> for $interface::Error {
            fn from(refusal: Refusal) -> Self {
                match refusal {
                    Refusal::AccessDenied => Self::AccessDenied,
                    Refusal::NoSuchDatabase => Self::NoSuchDatabase,
                    Refusal::TooMany => Self::Io(TOO_MANY.to_owned()),
                }
            }
        }

        impl From<DatabaseError> for $interface::Error {
            fn from(error: DatabaseError) -> Self {
                match error {
                    DatabaseError::Full => Self::DatabaseFull,
                    DatabaseError::Io(text) => Self::Io(text),
                }
            }
        }

        impl From<$interface::Value> for Value {
            fn from(value: $interface::Value) -> Self {
                match value {
                    $interface::Value::Integer(it) => Self::Integer(it),
                    $interface::Value::Real(it) => Self::Real(it),
                    $interface::Value::Text(it) => Self::Text(it),
                    $interface::Value::Blob(it) => Self::Blob(it),
                    $interface::Value::Null => Self::Null,
                }
            }
        }

        impl From<Value> for $interface::Value {
            fn from(value: Value) -> Self {
                match value {
                    Value::Integer(it) => Self::Integer(it),
                    Value::Real(it) => Self::Real(it),
                    Value::Text(it) => Self::Text(it),
                    Value::Blob(it) => Self::Blob(it),
                    Value::Null => Self::Null,
                }
            }
        }

        impl From<Vec<Value>> for $interface::RowResult {
            fn from(values: Vec<Value>) -> Self {
                Self {
                    values: values.into_iter().map(Into::into).collect(),
                }
            }
        }
    };
}

convert!(spin_sqlite);
convert!(fermyon_sqlite);

impl spin_sqlite::Host for SqliteView<'_> {}

impl spin_sqlite::HostConnection for SqliteView<'_> {
    fn drop(&mut self, held: Resource<Connection>) -> wasmtime::Result<()> {
        self.close(held)
    }
}

type Rows = (
    Vec<String>,
    StreamReader<spin_sqlite::RowResult>,
    FutureReader<Result<(), spin_sqlite::Error>>,
);

impl<T> spin_sqlite::HostConnectionWithStore<T> for Sqlite {
    async fn open_async(
        accessor: &Accessor<T, Self>,
        database: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, spin_sqlite::Error>> {
        let opened = accessor.with(|mut access| access.get().open(&database))?;
        Ok(opened.map_err(Into::into))
    }

    /// As on Spin, what a statement fails with comes at the end of its rows.
    async fn execute_async(
        accessor: &Accessor<T, Self>,
        held: Resource<Connection>,
        statement: String,
        parameters: Vec<spin_sqlite::Value>,
    ) -> wasmtime::Result<Result<Rows, spin_sqlite::Error>> {
        let session = accessor.with(|mut access| access.get().session(&held))?;
        let parameters = parameters.into_iter().map(Into::into).collect();
        let (answer, end) = match execute(session, statement, parameters).await {
            Ok(answer) => (answer, Ok(())),
            Err(error) => (Default::default(), Err(spin_sqlite::Error::from(error))),
        };
        let rows: Vec<_> = answer.rows.into_iter().map(Into::into).collect();
        accessor.with(|mut access| {
            Ok(Ok((
                answer.columns,
                StreamReader::new(&mut access, rows)?,
                FutureReader::new(&mut access, async move { wasmtime::error::Ok(end) })?,
            )))
        })
    }
}

impl fermyon_sqlite::Host for SqliteView<'_> {}

impl fermyon_sqlite::HostConnection for SqliteView<'_> {
    async fn open(
        &mut self,
        database: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, fermyon_sqlite::Error>> {
        Ok(SqliteView::open(self, &database)?.map_err(Into::into))
    }

    async fn execute(
        &mut self,
        held: Resource<Connection>,
        statement: String,
        parameters: Vec<fermyon_sqlite::Value>,
    ) -> wasmtime::Result<Result<fermyon_sqlite::QueryResult, fermyon_sqlite::Error>> {
        let parameters = parameters.into_iter().map(Into::into).collect();
        let session = self.session(&held)?;
        let answer = execute(session, statement, parameters).await;
        Ok(match answer {
            Ok(answer) => Ok(fermyon_sqlite::QueryResult {
                columns: answer.columns,
                rows: answer.rows.into_iter().map(Into::into).collect(),
            }),
            Err(error) => Err(error.into()),
        })
    }

    async fn drop(&mut self, held: Resource<Connection>) -> wasmtime::Result<()> {
        self.close(held)
    }
}
