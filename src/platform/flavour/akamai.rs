//! The flavour `akamai`: Akamai Functions.
//!
//! The cells are in the platform's key-value store, which has no swap and copies writes
//! between regions in its own time; or in a Redis of the operator's own, if the
//! variable `redis_address` says where that is. Calls of both are synchronous, so none of
//! them can be given up: how long one may take is the host's to say.

use super::variable;
use crate::config::{Config, parse_duration};
use crate::platform::defaults;
use crate::platform::setup::SetupError;
use crate::platform::wasip2;
use crate::platform::wasip2::bindings::fermyon::spin::{key_value, redis};
use crate::store::script::{EXPIRY, Redis, RedisValue};
use crate::store::{
    Reach, Removal, ScriptStore, Store, StoreError, Swap, Timed, VALUE_BYTES_MAX, Values,
    WRITE_DELAY_MAX,
};
use crate::time::Time;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// The store's label, as `spin.toml` grants it.
const LABEL: &str = "default";

/// The variable with the address of a Redis, such as `redis://10.0.0.6:6379`. Empty, or
/// not set, the platform's key-value store is used.
const REDIS_ADDRESS: &str = "redis_address";

/// The variable with the time within which every region sees a write, such as `300ms`.
const WRITE_DELAY: &str = "write_delay";

/// Longest key, in bytes: the platform takes more than any key has.
const KEY_MAX: usize = 256;

/// Options with another default.
pub(crate) const DEFAULTS: &[(&str, &str)] = defaults::AKAMAI;

/// Waits for a duration.
type Sleep = fn(Duration) -> LocalBoxFuture<'static, ()>;

/// The store of the cells.
pub(crate) enum Cells {
    /// The platform's key-value store.
    KeyValue(Timed<HostStore, fn() -> Time, Sleep>),
    /// A Redis of the operator's own.
    Redis(ScriptStore<HostRedis>),
}

impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cells::KeyValue(_) => "KeyValue",
            Cells::Redis(_) => "Redis",
        })
    }
}

/// Makes the store of the cells.
pub(crate) async fn cells(_: &Config, clock: fn() -> Time) -> Result<Cells, SetupError> {
    let set = |value: Option<String>| value.filter(|value| !value.is_empty());
    if let Some(address) = set(variable(REDIS_ADDRESS).await?) {
        let redis = HostRedis::new(address);
        return Ok(Cells::Redis(ScriptStore::new(redis, EXPIRY)));
    }
    let wrong =
        |problem: String| SetupError::Misconfigured(format!("variable `{WRITE_DELAY}`: {problem}"));
    let delay = match set(variable(WRITE_DELAY).await?) {
        None => WRITE_DELAY_MAX,
        Some(delay) => parse_duration(&delay).map_err(wrong)?,
    };
    let timed = Timed::new(
        HostStore::default(),
        clock,
        (|duration| wasip2::sleep(duration).boxed_local()) as Sleep,
        delay,
    );
    timed
        .map(Cells::KeyValue)
        .map_err(|error| wrong(error.to_string()))
}

impl Store for Cells {
    fn reach(&self) -> Reach {
        match self {
            Cells::KeyValue(store) => store.reach(),
            Cells::Redis(store) => store.reach(),
        }
    }

    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self {
            Cells::KeyValue(store) => store.load(key).await,
            Cells::Redis(store) => store.load(key).await,
        }
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        admit(key, new)?;
        match self {
            Cells::KeyValue(store) => store.swap(key, expected, new).await,
            Cells::Redis(store) => store.swap(key, expected, new).await,
        }
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        admit(key, value)?;
        match self {
            Cells::KeyValue(store) => store.put(key, value).await,
            Cells::Redis(store) => store.put(key, value).await,
        }
    }

    async fn load_put(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self {
            Cells::KeyValue(store) => store.load_put(key).await,
            Cells::Redis(store) => store.load_put(key).await,
        }
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        match self {
            Cells::KeyValue(store) => store.remove(key).await,
            Cells::Redis(store) => store.remove(key).await,
        }
    }

    async fn remove_if(&self, key: &str, expected: &Bytes) -> Result<Removal, StoreError> {
        match self {
            Cells::KeyValue(store) => store.remove_if(key, expected).await,
            Cells::Redis(store) => store.remove_if(key, expected).await,
        }
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        match self {
            Cells::KeyValue(store) => store.names(each).await,
            Cells::Redis(store) => store.names(each).await,
        }
    }
}

/// Refuses what the platform would refuse.
fn admit(key: &str, value: &Bytes) -> Result<(), StoreError> {
    if key.len() > KEY_MAX || value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::refused(format!(
            "the value of {key} has {} bytes; the platform takes keys of at most {KEY_MAX} and \
             values of at most {VALUE_BYTES_MAX}",
            value.len()
        )));
    }
    Ok(())
}

/// The key-value store `default`, opened when it is first used. An error closes it, and
/// the next operation opens it again.
#[derive(Default)]
pub(crate) struct HostStore(RefCell<Option<Rc<key_value::Store>>>);

impl HostStore {
    fn run<T>(
        &self,
        operation: impl FnOnce(&key_value::Store) -> Result<T, key_value::Error>,
    ) -> Result<T, StoreError> {
        let open = self.0.borrow().as_ref().map(Rc::clone);
        let store = match open {
            Some(store) => store,
            None => Rc::new(key_value::Store::open(LABEL).map_err(store_failed)?),
        };
        let result = operation(&store);
        *self.0.borrow_mut() = result.is_ok().then_some(store);
        result.map_err(store_failed)
    }
}

impl Values for HostStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let value = self.run(|store| store.get(key))?;
        Ok(value.map(Bytes::from))
    }

    async fn set(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.run(|store| store.set(key, value))
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.run(|store| store.delete(key))
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        let names = self.run(key_value::Store::get_keys)?;
        names.iter().for_each(|name| each(name));
        Ok(true)
    }
}

fn store_failed(error: key_value::Error) -> StoreError {
    StoreError::new(match error {
        key_value::Error::NoSuchStore => format!("there is no key-value store `{LABEL}`"),
        key_value::Error::AccessDenied => {
            format!("the component may not use the key-value store `{LABEL}`")
        }
        key_value::Error::StoreTableFull => "too many stores are open".to_owned(),
        key_value::Error::Other(reason) => reason,
    })
}

/// A connection to Redis, opened when it is first used. An error closes it, and the next
/// command opens it again.
pub(crate) struct HostRedis {
    /// May have a password: it is never logged.
    address: String,
    connection: RefCell<Option<Rc<redis::Connection>>>,
}

impl HostRedis {
    fn new(address: String) -> Self {
        HostRedis {
            address,
            connection: RefCell::default(),
        }
    }
}

impl Redis for HostRedis {
    async fn execute(
        &self,
        command: &'static str,
        arguments: Vec<Bytes>,
    ) -> Result<Vec<RedisValue>, StoreError> {
        let open = self.connection.borrow().as_ref().map(Rc::clone);
        let connection = match open {
            Some(connection) => connection,
            None => Rc::new(redis::Connection::open(&self.address).map_err(redis_failed)?),
        };
        let arguments: Vec<_> = arguments
            .into_iter()
            .map(|argument| redis::RedisParameter::Binary(argument.into()))
            .collect();
        let reply = connection.execute(command, &arguments);
        *self.connection.borrow_mut() = reply.is_ok().then_some(connection);
        let values = reply.map_err(redis_failed)?.into_iter();
        Ok(values
            .map(|value| match value {
                redis::RedisResult::Nil => RedisValue::Nil,
                redis::RedisResult::Status(status) => RedisValue::Status(status),
                redis::RedisResult::Int64(number) => RedisValue::Integer(number),
                redis::RedisResult::Binary(bytes) => RedisValue::Bytes(bytes.into()),
            })
            .collect())
    }
}

fn redis_failed(error: redis::Error) -> StoreError {
    StoreError::new(match error {
        redis::Error::InvalidAddress => format!(
            "the address of Redis is not valid, or the component may not connect to it: see the \
             variable `{REDIS_ADDRESS}` and `allowed_outbound_hosts`"
        ),
        redis::Error::TooManyConnections => "too many connections to Redis are open".to_owned(),
        redis::Error::TypeError => "Redis answered with a value of another kind".to_owned(),
        redis::Error::Other(reason) => reason,
    })
}
