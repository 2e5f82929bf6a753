//! A store whose writes show elsewhere only after a delay, as those of a store that is
//! replicated between regions do.
//!
//! The nodes share one exact backend. A key holds the last versions that were written
//! there, each with its node and its time. A node reads the newest version that it wrote
//! itself or that is older than the delay. So a node reads its own writes at once and
//! those of others late, and all nodes agree on the last write in the end.
//!
//! Such a store has neither swaps nor numbers.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::{Backend, Number, StoreError, StoreResult};

/// Begins the stored bytes.
const MAGIC: [u8; 4] = *b"LVH1";

/// Most versions of a key that are kept, beside the newest of each node. With more
/// writes within the delay, some are never read by others.
const VERSIONS_MAX: usize = 16;

/// How much the clocks of nodes may differ. A version that all nodes have
/// replaced is kept for this long.
const CLOCKS_MAX: Duration = Duration::from_secs(1);

/// How often a write tries again after another one came between its read and its write.
const WRITE_TRIES: usize = 100;

/// What was written, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    node: u64,
    /// Milliseconds since 1970.
    written_at: u64,
    /// None: the key was removed.
    value: Option<Vec<u8>>,
}

/// The versions in `bytes`, oldest first. Other bytes are one version that every node
/// reads.
fn decode(bytes: &[u8]) -> Vec<Version> {
    let versions = || {
        let mut rest = bytes.strip_prefix(&MAGIC)?;
        let mut versions = Vec::new();
        while !rest.is_empty() {
            let (node, after) = rest.split_first_chunk()?;
            let (written_at, after) = after.split_first_chunk()?;
            let (length, after) = after.split_first_chunk()?;
            let length = u64::from_be_bytes(*length);
            // Zero stands for a removal, so a length is one more than it is.
            let (value, after) = match length.checked_sub(1) {
                None => (None, after),
                Some(length) => {
                    let (value, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                    (Some(value.to_vec()), after)
                }
            };
            rest = after;
            versions.push(Version {
                node: u64::from_be_bytes(*node),
                written_at: u64::from_be_bytes(*written_at),
                value,
            });
        }
        Some(versions)
    };
    versions().unwrap_or_else(|| {
        vec![Version {
            node: 0,
            written_at: 0,
            value: Some(bytes.to_vec()),
        }]
    })
}

fn encode(versions: &[Version]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for version in versions {
        bytes.extend_from_slice(&version.node.to_be_bytes());
        bytes.extend_from_slice(&version.written_at.to_be_bytes());
        let length = version.value.as_ref().map_or(0, |value| value.len() + 1);
        bytes.extend_from_slice(&(length as u64).to_be_bytes());
        bytes.extend_from_slice(version.value.as_deref().unwrap_or_default());
    }
    bytes
}

/// What `node` reads at `now`: the place of the newest version that it may read.
fn visible(versions: &[Version], node: u64, now: u64, delay: u64) -> Option<usize> {
    versions
        .iter()
        .rposition(|it| it.node == node || it.written_at.saturating_add(delay) <= now)
}

/// Adds a version, and removes those that no node reads any more.
fn push(versions: &mut Vec<Version>, version: Version, delay: u64) {
    let now = version.written_at;
    let settled = delay.saturating_add(millis(CLOCKS_MAX));
    let oldest_read =
        (versions.iter()).rposition(|it| it.written_at.saturating_add(settled) <= now);
    if let Some(oldest_read) = oldest_read {
        versions.drain(..oldest_read);
    }
    versions.push(version);
    while versions.len() > VERSIONS_MAX {
        // Not the first, which others still read, and not the newest of a node, which
        // that node reads.
        let superfluous = (1..versions.len()).find(|&at| {
            let node = versions[at].node;
            versions[at + 1..].iter().any(|later| later.node == node)
        });
        match superfluous {
            Some(at) => drop(versions.remove(at)),
            None => break,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn now() -> u64 {
    (SystemTime::now().duration_since(UNIX_EPOCH)).map_or(0, millis)
}

/// A backend that the nodes see late.
#[derive(Debug)]
pub(super) struct Delayed {
    backend: Arc<dyn Backend>,
    delay: Duration,
    /// Tells this node from others.
    node: u64,
}

impl Delayed {
    /// Writes to `backend` show on other nodes after `delay`.
    pub(super) fn new(backend: Arc<dyn Backend>, delay: Duration) -> Self {
        Self {
            backend,
            delay,
            node: fastrand::u64(1..),
        }
    }

    /// Writes a version. Returns the bytes that are stored then.
    async fn write(&self, key: &str, value: Option<&[u8]>) -> StoreResult<Vec<u8>> {
        for _ in 0..WRITE_TRIES {
            let stored = self.backend.get(key).await?;
            let mut versions = stored.as_deref().map(decode).unwrap_or_default();
            let version = Version {
                node: self.node,
                written_at: now(),
                value: value.map(<[u8]>::to_vec),
            };
            push(&mut versions, version, millis(self.delay));
            let bytes = encode(&versions);
            let is_written = self.backend.replace(key, stored.as_deref(), &bytes);
            if is_written.await? {
                return Ok(bytes);
            }
        }
        Err(StoreError::Other(format!(
            "others wrote in between {WRITE_TRIES} times"
        )))
    }
}

fn no_atomics<T>() -> StoreResult<T> {
    Err(StoreError::Other(
        "a store with a replication delay has no atomic operations".to_owned(),
    ))
}

#[async_trait]
impl Backend for Delayed {
    async fn check(&self) -> StoreResult<()> {
        self.backend.check().await
    }

    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        let Some(stored) = self.backend.get(key).await? else {
            return Ok(None);
        };
        let mut versions = decode(&stored);
        let at = visible(&versions, self.node, now(), millis(self.delay));
        Ok(at.and_then(|at| versions.swap_remove(at).value))
    }

    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        self.write(key, Some(value)).await.map(drop)
    }

    /// The key itself is removed when every node has seen that it is gone. If the node
    /// ends before that, its last version stays.
    async fn delete(&self, key: &str) -> StoreResult<()> {
        if self.backend.get(key).await?.is_none() {
            return Ok(());
        }
        let bytes = self.write(key, None).await?;
        let (backend, key) = (Arc::clone(&self.backend), key.to_owned());
        let settled = self.delay + CLOCKS_MAX;
        tokio::spawn(async move {
            tokio::time::sleep(settled).await;
            drop(backend.remove_if(&key, &bytes).await);
        });
        Ok(())
    }

    async fn keys(&self) -> StoreResult<Vec<String>> {
        let mut keys = Vec::new();
        for key in self.backend.keys().await? {
            if self.get(&key).await?.is_some() {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    async fn replace(&self, _: &str, _: Option<&[u8]>, _: &[u8]) -> StoreResult<bool> {
        no_atomics()
    }

    async fn remove_if(&self, _: &str, _: &[u8]) -> StoreResult<bool> {
        no_atomics()
    }

    async fn increment(&self, _: &str, _: i64, _: Number) -> StoreResult<i64> {
        no_atomics()
    }

    fn own_number(&self) -> Number {
        self.backend.own_number()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::store::memory::Memory;

    const DELAY: u64 = 1_000;

    fn version(node: u64, written_at: u64, value: &str) -> Version {
        Version {
            node,
            written_at,
            value: Some(value.as_bytes().to_vec()),
        }
    }

    /// What each of two nodes reads at a time.
    fn read(versions: &[Version], node: u64, now: u64) -> Option<&str> {
        let at = visible(versions, node, now, DELAY)?;
        str::from_utf8(versions[at].value.as_deref()?).ok()
    }

    #[test]
    fn a_node_reads_its_own_writes_at_once_and_those_of_others_late() {
        let versions = [version(1, 5_000, "a"), version(2, 5_400, "b")];
        for (node, now, value) in [
            (1, 5_400, Some("a")),
            (2, 5_400, Some("b")),
            (3, 5_400, None),
            (3, 6_000, Some("a")),
            (1, 6_399, Some("a")),
            (1, 6_400, Some("b")),
            (3, 6_400, Some("b")),
        ] {
            assert_eq!(read(&versions, node, now), value, "{node} at {now}");
        }
    }

    #[test]
    fn versions_come_back_as_they_were_stored() {
        let removed = Version {
            value: None,
            ..version(3, 7, "")
        };
        let versions = vec![version(u64::MAX, 1, "a"), removed, version(2, 8, "")];
        assert_eq!(decode(&encode(&versions)), versions);
        assert_eq!(decode(&encode(&[])), []);
        for other in [&b""[..], b"plain", b"LVH1 and then something else"] {
            let text = str::from_utf8(other).unwrap();
            assert_eq!(decode(other), [version(0, 0, text)]);
        }
    }

    /// For every node and time, what is read is the same with and without the removal of
    /// old versions, as long as there are few within the delay.
    #[test]
    fn no_version_is_removed_that_a_node_still_reads() {
        let mut all = Vec::new();
        let mut kept = Vec::new();
        for step in 0..40_u64 {
            let next = version(step % 3, 10_000 + step * 300, &step.to_string());
            all.push(next.clone());
            push(&mut kept, next.clone(), DELAY);
            assert!(kept.len() <= VERSIONS_MAX);
            for node in 0..4 {
                for now in (next.written_at..next.written_at + 3 * DELAY).step_by(100) {
                    assert_eq!(read(&kept, node, now), read(&all, node, now));
                }
            }
        }
    }

    #[test]
    fn many_writes_within_the_delay_stay_bounded_and_read_by_their_writers() {
        let mut versions = vec![version(9, 0, "first")];
        for step in 0..1_000_u64 {
            let next = version(step % 3, 10_000, &step.to_string());
            push(&mut versions, next, DELAY);
        }
        assert!(versions.len() <= VERSIONS_MAX);
        assert_eq!(read(&versions, 7, 10_500), Some("first"));
        assert_eq!(read(&versions, 0, 10_500), Some("999"));
        assert_eq!(read(&versions, 1, 10_500), Some("997"));
        assert_eq!(read(&versions, 7, 11_000), Some("999"));
    }

    #[tokio::test]
    async fn nodes_of_one_store_see_it_with_the_delay() {
        let shared: Arc<dyn Backend> = Arc::new(Memory::default());
        let node = |delay| Delayed::new(Arc::clone(&shared), delay);
        let long = Duration::from_secs(3_600);
        let (writer, late) = (node(long), node(long));
        let early = node(Duration::ZERO);
        writer.set("k", b"v").await.unwrap();
        assert_eq!(writer.get("k").await.unwrap(), Some(b"v".to_vec()));
        assert_eq!(writer.keys().await.unwrap(), ["k"]);
        assert_eq!(late.get("k").await.unwrap(), None);
        assert_eq!(late.keys().await.unwrap(), [""; 0]);
        assert_eq!(early.get("k").await.unwrap(), Some(b"v".to_vec()));
        writer.delete("k").await.unwrap();
        assert_eq!(writer.get("k").await.unwrap(), None);
        assert_eq!(early.get("k").await.unwrap(), None);
        assert!(writer.replace("k", None, b"w").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_key_leaves_the_store_in_the_end() {
        let shared: Arc<dyn Backend> = Arc::new(Memory::default());
        let node = Delayed::new(Arc::clone(&shared), Duration::from_secs(5));
        node.set("k", b"v").await.unwrap();
        node.delete("k").await.unwrap();
        assert_eq!(shared.keys().await.unwrap(), ["k"]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(shared.keys().await.unwrap(), [""; 0]);
    }
}
