//! A [`Store`] on a Redis server, where a swap is one script.
//!
//! Redis runs a script as one command: nothing else happens between its comparison and
//! its write. The script goes along with each swap (`EVAL`), so that a server which
//! started again, or another one, needs to know nothing.
//!
//! Names have a prefix, because the server may be shared with others. Every value
//! expires some time after it was written last: what the shield never looks at again
//! would stay for ever otherwise. Redis Cluster is not supported, because only one of
//! its nodes would be listed.

use super::{Removal, Store, StoreError, Swap};
use crate::time::millis;
use bytes::Bytes;
use std::future::Future;
use std::time::Duration;

/// How the names of all values begin on the server.
pub const PREFIX: &str = "leeward:";

/// How long a value stays that is not written again, if nothing else is asked for.
pub const EXPIRY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Shortest time that a value stays: with less, nothing would be left when the origin
/// goes down.
pub const EXPIRY_MIN: Duration = Duration::from_secs(60 * 60);

/// Longest time that a value stays.
pub const EXPIRY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Sets KEYS[1] to ARGV[3] if it holds ARGV[2], or with ARGV[1] = "0" if it is absent.
/// It expires after ARGV[4] milliseconds. Returns 1 if it did, and otherwise 0 and what
/// is stored.
const SWAP: &str = "\
local stored = redis.call('GET', KEYS[1])
if (ARGV[1] == '0' and not stored) or (ARGV[1] == '1' and stored == ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
  return {1}
end
return {0, stored}";

/// Removes KEYS[1] if it holds ARGV[1]. Returns how many values it has removed.
const REMOVE_IF: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// About how many keys of the server one `SCAN` looks at.
const SCAN_COUNT: usize = 1_000;

/// Most `SCAN`s of a listing. They look at all keys of the server, also at those of
/// others.
const SCANS_MAX: usize = 10_000;

/// A value in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisValue {
    /// Nothing.
    Nil,
    /// A status, such as `OK`.
    Status(String),
    /// A whole number.
    Integer(i64),
    /// Bytes.
    Bytes(Bytes),
}

/// A Redis server.
pub trait Redis: 'static {
    /// Runs a command and returns its reply. Arrays in it, and arrays in those, are
    /// replaced by what they hold, in order.
    ///
    /// # Errors
    ///
    /// After an error it is not known whether the command ran.
    fn execute(
        &self,
        command: &'static str,
        arguments: Vec<Bytes>,
    ) -> impl Future<Output = Result<Vec<RedisValue>, StoreError>>;
}

/// A [`Store`] made of a Redis server.
#[derive(Debug)]
pub struct ScriptStore<R> {
    redis: R,
    /// In milliseconds, as an argument.
    expiry: Bytes,
}

impl<R: Redis> ScriptStore<R> {
    /// The store on `redis`. A value expires when it was not written for `expiry`, which
    /// is at least [`EXPIRY_MIN`] and at most [`EXPIRY_MAX`].
    pub fn new(redis: R, expiry: Duration) -> Self {
        let expiry = millis(expiry.clamp(EXPIRY_MIN, EXPIRY_MAX));
        ScriptStore {
            redis,
            expiry: expiry.to_string().into(),
        }
    }
}

fn name(key: &str) -> Bytes {
    format!("{PREFIX}{key}").into()
}

fn word(word: &'static str) -> Bytes {
    Bytes::from_static(word.as_bytes())
}

fn unexpected(command: &str, reply: &[RedisValue]) -> StoreError {
    let kinds: Vec<_> = reply
        .iter()
        .take(3)
        .map(|value| match value {
            RedisValue::Nil => "nil",
            RedisValue::Status(_) => "a status",
            RedisValue::Integer(_) => "a number",
            RedisValue::Bytes(_) => "bytes",
        })
        .collect();
    StoreError::new(format!(
        "Redis answered {command} with {}",
        match kinds.is_empty() {
            true => "nothing".to_owned(),
            false => kinds.join(", "),
        }
    ))
}

impl<R: Redis> Store for ScriptStore<R> {
    async fn load(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let reply = self.redis.execute("GET", vec![name(key)]).await?;
        match &reply[..] {
            [RedisValue::Nil] => Ok(None),
            [RedisValue::Bytes(value)] => Ok(Some(value.clone())),
            _ => Err(unexpected("GET", &reply)),
        }
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        new: &Bytes,
    ) -> Result<Swap, StoreError> {
        let arguments = vec![
            word(SWAP),
            word("1"),
            name(key),
            word(if expected.is_some() { "1" } else { "0" }),
            expected.cloned().unwrap_or_default(),
            new.clone(),
            self.expiry.clone(),
        ];
        let reply = self.redis.execute("EVAL", arguments).await?;
        let current = match &reply[..] {
            [RedisValue::Integer(1)] => return Ok(Swap::Done),
            // The reply to an earlier run of the script was lost below, and it was run
            // again.
            [RedisValue::Integer(0), RedisValue::Bytes(value)] if value == new => {
                return Ok(Swap::Done);
            }
            [RedisValue::Integer(0), RedisValue::Bytes(value)] => Some(value.clone()),
            // An array of Lua's ends before a value that is missing.
            [RedisValue::Integer(0), RedisValue::Nil] | [RedisValue::Integer(0)] => None,
            _ => return Err(unexpected("EVAL", &reply)),
        };
        Ok(Swap::Conflict(current))
    }

    async fn put(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        let arguments = vec![name(key), value.clone(), word("PX"), self.expiry.clone()];
        let reply = self.redis.execute("SET", arguments).await?;
        match &reply[..] {
            [RedisValue::Status(_)] => Ok(()),
            _ => Err(unexpected("SET", &reply)),
        }
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let reply = self.redis.execute("DEL", vec![name(key)]).await?;
        match &reply[..] {
            [RedisValue::Integer(_)] => Ok(()),
            _ => Err(unexpected("DEL", &reply)),
        }
    }

    async fn remove_if(&self, key: &str, expected: &Bytes) -> Result<Removal, StoreError> {
        let arguments = vec![word(REMOVE_IF), word("1"), name(key), expected.clone()];
        let reply = self.redis.execute("EVAL", arguments).await?;
        match &reply[..] {
            [RedisValue::Integer(removed)] => Ok(Removal::done_if(*removed > 0)),
            _ => Err(unexpected("EVAL", &reply)),
        }
    }

    async fn names(&self, each: &mut dyn FnMut(&str)) -> Result<bool, StoreError> {
        let start = word("0");
        let mut cursor = start.clone();
        for _ in 0..SCANS_MAX {
            let arguments = vec![
                cursor,
                word("MATCH"),
                format!("{PREFIX}*").into(),
                word("COUNT"),
                SCAN_COUNT.to_string().into(),
            ];
            let reply = self.redis.execute("SCAN", arguments).await?;
            let Some((RedisValue::Bytes(next), keys)) = reply.split_first() else {
                return Err(unexpected("SCAN", &reply));
            };
            for key in keys {
                let RedisValue::Bytes(key) = key else {
                    return Err(unexpected("SCAN", &reply));
                };
                let name = std::str::from_utf8(key).ok();
                if let Some(name) = name.and_then(|name| name.strip_prefix(PREFIX)) {
                    each(name);
                }
            }
            if *next == start {
                return Ok(true);
            }
            cursor = next.clone();
        }
        Err(StoreError::new("the server has too many keys to list"))
    }
}

#[cfg(test)]
mod tests;
