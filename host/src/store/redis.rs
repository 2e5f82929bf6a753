//! A store on a Redis server.
//!
//! One connection, shared by all calls, that comes back by itself after it was
//! lost. Keys are used as they are, as Spin does.
//!
//! Every write gives its key an expiry. The component removes what is of no more
//! use, but keys that it never looks at again would stay for ever. Redis counts
//! that time by itself, so it must be longer than anything is to be kept.

use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{AsyncConnectionConfig, AsyncTypedCommands as _, Client, ScanOptions, Script};

use super::{Backend, KEYS_LISTED_MAX, Number, StoreError, StoreResult, Watch};

/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often one call tries to connect. Few: while Redis is down each call is
/// to fail soon, and the next call tries again.
const CONNECT_TRIES: usize = 1;

/// Keys asked of Redis at once while listing.
const SCAN_COUNT: usize = 1_000;

/// How often an increment of a binary number tries again after others wrote in
/// between. One of any that collide gets through, so this many colliding
/// writers are borne.
const INCREMENT_TRIES: usize = 1_000;

/// Sets KEYS[1] to ARGV[3] if it holds ARGV[2], or with ARGV[1] = "0" if it is
/// absent. It expires after ARGV[4] milliseconds. Returns whether it did.
const REPLACE: &str = "
local stored = redis.call('GET', KEYS[1])
if ARGV[1] == '0' then
  if stored then return 0 end
elseif stored ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1
";

/// Removes KEYS[1] if it holds ARGV[1]. Returns whether it did.
const REMOVE_IF: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
";

/// A Redis server.
#[derive(Debug)]
pub(super) struct Redis {
    client: Client,
    expiry_millis: u64,
    replace: Script,
    remove_if: Script,
    /// Made at first use, because that needs a runtime.
    manager: std::sync::OnceLock<ConnectionManagerHandle>,
}

/// The shared connection. Only here because its type has no `Debug`.
struct ConnectionManagerHandle(ConnectionManager);

impl std::fmt::Debug for ConnectionManagerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectionManager")
    }
}

impl Redis {
    /// The store on the server that `client` names; it is connected to at first
    /// use. A value expires when it was not written for `expiry`.
    pub(super) fn new(client: Client, expiry: Duration) -> Self {
        Self {
            client,
            expiry_millis: u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX),
            replace: Script::new(REPLACE),
            remove_if: Script::new(REMOVE_IF),
            manager: std::sync::OnceLock::new(),
        }
    }

    fn connection(&self) -> StoreResult<ConnectionManager> {
        if let Some(made) = self.manager.get() {
            return Ok(made.0.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_number_of_retries(CONNECT_TRIES);
        let made = self
            .client
            .get_connection_manager_lazy(config)
            .map_err(StoreError::other)?;
        let made = self.manager.get_or_init(|| ConnectionManagerHandle(made));
        Ok(made.0.clone())
    }
}

#[async_trait]
impl Backend for Redis {
    async fn check(&self) -> StoreResult<()> {
        let mut connection = self.connection()?;
        connection.ping().await.map_err(StoreError::other)?;
        Ok(())
    }

    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        get(&mut self.connection()?, key).await
    }

    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        let mut connection = self.connection()?;
        connection
            .pset_ex(key, value, self.expiry_millis)
            .await
            .map_err(StoreError::other)?;
        Ok(())
    }

    async fn delete(&self, key: &str) -> StoreResult<()> {
        let mut connection = self.connection()?;
        connection.del(key).await.map_err(StoreError::other)?;
        Ok(())
    }

    async fn keys(&self) -> StoreResult<Vec<String>> {
        let mut connection = self.connection()?;
        let options = ScanOptions::default().with_count(SCAN_COUNT);
        let mut found = connection
            .scan_options::<String>(options)
            .await
            .map_err(StoreError::other)?;
        let mut keys = Vec::new();
        while let Some(key) = found.next_item().await {
            if keys.len() == KEYS_LISTED_MAX {
                return Err(StoreError::Other(format!(
                    "more than {KEYS_LISTED_MAX} keys"
                )));
            }
            keys.push(key.map_err(StoreError::other)?);
        }
        // SCAN may name a key more than once.
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    async fn replace(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> StoreResult<bool> {
        let mut connection = self.connection()?;
        self.replace
            .key(key)
            .arg(if expected.is_some() { "1" } else { "0" })
            .arg(expected.unwrap_or_default())
            .arg(value)
            .arg(self.expiry_millis)
            .invoke_async(&mut connection)
            .await
            .map_err(StoreError::other)
    }

    async fn remove_if(&self, key: &str, expected: &[u8]) -> StoreResult<bool> {
        let mut connection = self.connection()?;
        self.remove_if
            .key(key)
            .arg(expected)
            .invoke_async(&mut connection)
            .await
            .map_err(StoreError::other)
    }

    async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64> {
        match number {
            Number::Decimal => {
                let mut connection = self.connection()?;
                let (sum,) = redis::pipe()
                    .atomic()
                    .incr(key, delta)
                    .cmd("PEXPIRE")
                    .arg(key)
                    .arg(self.expiry_millis)
                    .ignore()
                    .query_async(&mut connection)
                    .await
                    .map_err(StoreError::other)?;
                Ok(sum)
            }
            // Redis has no such number (and its scripts no 64-bit integers):
            // read, add, and swap until nobody was in between.
            Number::LittleEndian => {
                for _ in 0..INCREMENT_TRIES {
                    let stored = self.get(key).await?;
                    let (bytes, sum) = number.add(stored.as_deref(), delta)?;
                    if self.replace(key, stored.as_deref(), &bytes).await? {
                        return Ok(sum);
                    }
                }
                Err(StoreError::Other(format!(
                    "increment: others wrote in between {INCREMENT_TRIES} times"
                )))
            }
        }
    }

    fn own_number(&self) -> Number {
        Number::Decimal
    }

    async fn watch(&self, key: &str) -> StoreResult<Option<Box<dyn Watch>>> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(StoreError::other)?;
        Ok(Some(Box::new(Watched {
            key: key.to_owned(),
            expiry_millis: self.expiry_millis,
            connection,
        })))
    }
}

async fn get(
    connection: &mut (impl redis::aio::ConnectionLike + Send),
    key: &str,
) -> StoreResult<Option<Vec<u8>>> {
    redis::cmd("GET")
        .arg(key)
        .query_async(connection)
        .await
        .map_err(StoreError::other)
}

/// A compare-and-swap as Spin does it: WATCH lasts as long as the connection,
/// so each has a connection of its own, which closes with it.
struct Watched {
    key: String,
    expiry_millis: u64,
    connection: MultiplexedConnection,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("key", &self.key).finish()
    }
}

#[async_trait]
impl Watch for Watched {
    async fn current(&mut self) -> StoreResult<Option<Vec<u8>>> {
        redis::cmd("WATCH")
            .arg(&self.key)
            .exec_async(&mut self.connection)
            .await
            .map_err(StoreError::other)?;
        get(&mut self.connection, &self.key).await
    }

    async fn swap(&mut self, value: &[u8]) {
        // Both outcomes are dropped on purpose, see `Behaviour::SpinRedis`: the
        // first because EXEC's "discarded" is not looked at, the second because
        // UNWATCH takes no argument and is always refused.
        let _discarded_or_not = redis::pipe()
            .atomic()
            .pset_ex(&self.key, value, self.expiry_millis)
            .exec_async(&mut self.connection)
            .await;
        let _refused = redis::cmd("UNWATCH")
            .arg(&self.key)
            .exec_async(&mut self.connection)
            .await;
    }
}
