//! A store on a Redis server.
//!
//! One connection, shared by all calls, that is replaced when it is lost or when a new one
//! may cure an error. Keys are used as they are, as Spin does.
//!
//! Every write gives its key an expiry. The component removes what is of no more
//! use, but keys that it never looks at again would stay for ever. Redis counts
//! that time by itself, so it must be longer than anything is to be kept.

mod link;
mod pace;
mod problem;

use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncTypedCommands as _, Client, RedisResult, ScanOptions, Script};

use self::link::Link;
use self::problem::failure;
pub(crate) use self::problem::words;
use super::{Backend, KEYS_LISTED_MAX, Number, StoreError, StoreResult, Watch};

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
    link: Link,
    expiry_millis: u64,
    replace: Script,
    remove_if: Script,
}

impl Redis {
    /// The store on the server that `client` names; it is connected to at first
    /// use. A value expires when it was not written for `expiry`.
    pub(super) fn new(client: Client, expiry: Duration) -> Self {
        Self {
            link: Link::new(client),
            expiry_millis: u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX),
            replace: Script::new(REPLACE),
            remove_if: Script::new(REMOVE_IF),
        }
    }
}

#[async_trait]
impl Backend for Redis {
    async fn check(&self) -> StoreResult<()> {
        self.link
            .call(|mut connection| async move { connection.ping().await.map(drop) })
            .await
    }

    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        self.link
            .call(|mut connection| async move { get(&mut connection, key).await })
            .await
    }

    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        self.link
            .call(|mut connection| async move {
                connection.pset_ex(key, value, self.expiry_millis).await
            })
            .await
    }

    async fn delete(&self, key: &str) -> StoreResult<()> {
        self.link
            .call(|mut connection| async move { connection.del(key).await.map(drop) })
            .await
    }

    async fn keys(&self) -> StoreResult<Vec<String>> {
        let keys = self.link.call(scan).await?;
        keys.ok_or_else(|| StoreError::Other(format!("more than {KEYS_LISTED_MAX} keys")))
    }

    async fn replace(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> StoreResult<bool> {
        let mut swap = self.replace.key(key);
        swap.arg(if expected.is_some() { "1" } else { "0" })
            .arg(expected.unwrap_or_default())
            .arg(value)
            .arg(self.expiry_millis);
        self.link
            .call(|mut connection| async move { swap.invoke_async(&mut connection).await })
            .await
    }

    async fn remove_if(&self, key: &str, expected: &[u8]) -> StoreResult<bool> {
        let mut removal = self.remove_if.key(key);
        removal.arg(expected);
        self.link
            .call(|mut connection| async move { removal.invoke_async(&mut connection).await })
            .await
    }

    async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64> {
        match number {
            Number::Decimal => {
                let mut increment = redis::pipe();
                increment
                    .atomic()
                    .incr(key, delta)
                    .cmd("PEXPIRE")
                    .arg(key)
                    .arg(self.expiry_millis)
                    .ignore();
                let (sum,) = self
                    .link
                    .call(|mut connection| async move {
                        increment.query_async::<(i64,)>(&mut connection).await
                    })
                    .await?;
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
        Ok(Some(Box::new(Watched {
            key: key.to_owned(),
            expiry_millis: self.expiry_millis,
            connection: self.link.separate().await?,
        })))
    }
}

async fn get(
    connection: &mut (impl redis::aio::ConnectionLike + Send),
    key: &str,
) -> RedisResult<Option<Vec<u8>>> {
    redis::cmd("GET").arg(key).query_async(connection).await
}

/// All keys; none if there are too many.
async fn scan(mut connection: MultiplexedConnection) -> RedisResult<Option<Vec<String>>> {
    let options = ScanOptions::default().with_count(SCAN_COUNT);
    let mut found = connection.scan_options::<String>(options).await?;
    let mut keys = Vec::new();
    while let Some(key) = found.next_item().await {
        if keys.len() == KEYS_LISTED_MAX {
            return Ok(None);
        }
        keys.push(key?);
    }
    // SCAN may name a key more than once.
    keys.sort_unstable();
    keys.dedup();
    Ok(Some(keys))
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
            .map_err(|error| failure(&error))?;
        get(&mut self.connection, &self.key)
            .await
            .map_err(|error| failure(&error))
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
