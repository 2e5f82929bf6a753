//! The flavour `spin-redis`: Spin 4.1 and later, with a Redis of one's own.
//!
//! Every operation is asynchronous, and a swap is one script: it is exact, and stops no
//! other request of the instance.

use super::variable;
use crate::config::Config;
use crate::platform::setup::SetupError;
use crate::store::script::{self, Redis, RedisValue};
use crate::store::{ScriptStore, StoreError};
use crate::time::Time;
use bytes::Bytes;
use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};
use std::cell::RefCell;
use std::rc::Rc;

/// The variable with the server's address.
const ADDRESS: &str = "redis_address";

/// The store of the cells.
pub(crate) type Cells = ScriptStore<Server>;

/// Makes the store of the cells.
pub(crate) async fn cells(_: &Config, _: fn() -> Time) -> Result<Cells, SetupError> {
    let address = variable(ADDRESS).await?.filter(|text| !text.is_empty());
    let address = address.ok_or_else(|| {
        SetupError::Misconfigured(format!(
            "the variable `{ADDRESS}` is not set; set it to the address of the Redis server that \
             all nodes share, for instance SPIN_VARIABLE_REDIS_ADDRESS=redis://10.0.0.6:6379"
        ))
    })?;
    let server = Server {
        address,
        connection: RefCell::default(),
    };
    Ok(ScriptStore::new(server, script::EXPIRY))
}

/// The server. All commands of an instance share a connection. An error closes it, and
/// the next command opens it again.
pub(crate) struct Server {
    address: String,
    connection: RefCell<Option<Rc<Connection>>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the address: it may have a password.
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    async fn connection(&self) -> Result<Rc<Connection>, Error> {
        if let Some(connection) = self.connection.borrow().as_ref() {
            return Ok(Rc::clone(connection));
        }
        let connection = Rc::new(Connection::open(&self.address).await?);
        *self.connection.borrow_mut() = Some(Rc::clone(&connection));
        Ok(connection)
    }
}

impl Redis for Server {
    async fn execute(
        &self,
        command: &'static str,
        arguments: Vec<Bytes>,
    ) -> Result<Vec<RedisValue>, StoreError> {
        let run = async {
            let connection = self.connection().await?;
            let arguments = arguments
                .into_iter()
                .map(|bytes| RedisParameter::Binary(bytes.into()));
            connection.execute(command, arguments).await
        };
        match run.await {
            Ok(reply) => Ok(reply.into_iter().map(value).collect()),
            Err(error) => {
                self.connection.borrow_mut().take();
                Err(problem(error))
            }
        }
    }
}

fn value(value: RedisResult) -> RedisValue {
    match value {
        RedisResult::Nil => RedisValue::Nil,
        RedisResult::Status(text) => RedisValue::Status(text),
        RedisResult::Int64(number) => RedisValue::Integer(number),
        RedisResult::Binary(bytes) => RedisValue::Bytes(bytes.into()),
    }
}

fn problem(error: Error) -> StoreError {
    StoreError::new(match error {
        Error::InvalidAddress => format!(
            "the variable `{ADDRESS}` is no address of a Redis server, or the component may not \
             reach it: see `allowed_outbound_hosts` in spin.toml"
        ),
        Error::TooManyConnections => "there are too many connections to Redis".to_owned(),
        Error::TypeError => "a key of Redis holds something else than a value".to_owned(),
        Error::Other(reason) => reason,
    })
}
