//! The limits of platforms, which `--limits` imposes here: what would fail there fails
//! here.
//!
//! [`Platform::limits`] is the table. [`Limiter`] counts and says which limit was
//! reached; the places that it protects ask it. Rates are counted by each node for
//! itself, except requests to the origin: see [`crate::outbound`].

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leeward::platform::limits;
use tokio::time::Instant;

use crate::report;

/// What settings are compared with as well.
const FERMYON_CLOUD: limits::Limits = limits::Platform::FermyonCloud.limits();
const AKAMAI: limits::Limits = limits::Platform::Akamai.limits();

/// Spin documents these for its SQLite store.
const SPIN_KEY_BYTES: usize = 256;
const SPIN_VALUE_BYTES: usize = 1_000_000;

const FERMYON_CLOUD_KEY_BYTES: usize = 255;
const FERMYON_CLOUD_VALUE_BYTES: usize = 1_000_000;
const FERMYON_CLOUD_KEYS: usize = 1_024;

const AKAMAI_KEY_BYTES: usize = 8_000;
const AKAMAI_VALUE_BYTES: usize = 1_000_000;
const AKAMAI_READS_PER_SECOND: u32 = 1_000;
const AKAMAI_WRITES_PER_SECOND: u32 = 50;
const AKAMAI_MEMORY_BYTES: usize = 128 * 1024 * 1024;

/// Most memory of an instance where the platform has no smaller limit, in bytes.
const MEMORY_BYTES: usize = 512 * 1024 * 1024;

/// How often one limit that is reached is reported.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Within this time Akamai counts reads and writes.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Within this time Fermyon Cloud counts requests to the origin.
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

/// A platform that has limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Platform {
    /// No limits of a platform
    None,
    /// Spin with its SQLite store
    Spin,
    /// Fermyon Cloud, the small plans
    FermyonCloud,
    /// Akamai Functions
    Akamai,
}

/// What a platform allows. None: it has no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlatformLimits {
    /// Longest key, in bytes.
    pub(crate) key_bytes: Option<usize>,
    /// Largest value of a key, in bytes.
    pub(crate) value_bytes: Option<usize>,
    /// Most keys in the store.
    pub(crate) keys: Option<usize>,
    /// Largest SQLite database, in bytes.
    pub(crate) database_bytes: Option<u64>,
    /// Largest content of a request and of an answer, in bytes.
    pub(crate) body_bytes: Option<u64>,
    /// Longest time that one request is handled, work behind its answer included.
    pub(crate) handler_time: Option<Duration>,
    /// Reads and writes of the store in a second.
    pub(crate) reads_per_second: Option<u32>,
    pub(crate) writes_per_second: Option<u32>,
    /// Requests to the origin in an hour.
    pub(crate) outbound_per_hour: Option<u32>,
    /// Most bytes of one memory of an instance.
    pub(crate) memory_bytes: usize,
}

const UNLIMITED: PlatformLimits = PlatformLimits {
    key_bytes: None,
    value_bytes: None,
    keys: None,
    database_bytes: None,
    body_bytes: None,
    handler_time: None,
    reads_per_second: None,
    writes_per_second: None,
    outbound_per_hour: None,
    memory_bytes: MEMORY_BYTES,
};

impl Platform {
    /// The table of limits.
    pub(crate) const fn limits(self) -> PlatformLimits {
        match self {
            Self::None => UNLIMITED,
            Self::Spin => PlatformLimits {
                key_bytes: Some(SPIN_KEY_BYTES),
                value_bytes: Some(SPIN_VALUE_BYTES),
                ..UNLIMITED
            },
            Self::FermyonCloud => PlatformLimits {
                key_bytes: Some(FERMYON_CLOUD_KEY_BYTES),
                value_bytes: Some(FERMYON_CLOUD_VALUE_BYTES),
                keys: Some(FERMYON_CLOUD_KEYS),
                database_bytes: FERMYON_CLOUD.store_bytes,
                body_bytes: FERMYON_CLOUD.body_bytes,
                handler_time: FERMYON_CLOUD.request_time,
                outbound_per_hour: FERMYON_CLOUD.outbound_per_hour,
                ..UNLIMITED
            },
            Self::Akamai => PlatformLimits {
                key_bytes: Some(AKAMAI_KEY_BYTES),
                value_bytes: Some(AKAMAI_VALUE_BYTES),
                body_bytes: AKAMAI.body_bytes,
                handler_time: AKAMAI.request_time,
                reads_per_second: Some(AKAMAI_READS_PER_SECOND),
                writes_per_second: Some(AKAMAI_WRITES_PER_SECOND),
                memory_bytes: AKAMAI_MEMORY_BYTES,
                ..UNLIMITED
            },
        }
    }
}

impl Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Spin => "spin",
            Self::FermyonCloud => "fermyon-cloud",
            Self::Akamai => "akamai",
        })
    }
}

/// A limit that can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    KeyBytes,
    ValueBytes,
    Keys,
    DatabaseBytes,
    RequestBody,
    ResponseBody,
    HandlerTime,
    Reads,
    Writes,
    Outbound,
    Memory,
}

/// Number of the limits above.
const LIMITS: usize = Limit::Memory as usize + 1;

/// Requests of one kind within a time.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    began: Option<Instant>,
    count: u32,
}

impl Window {
    /// Counts one more at `now`, unless there were `most` within `period`.
    fn admit(&mut self, now: Instant, period: Duration, most: u32) -> bool {
        if (self.began).is_none_or(|began| now.saturating_duration_since(began) >= period) {
            *self = Self {
                began: Some(now),
                count: 0,
            };
        }
        let is_admitted = self.count < most;
        if is_admitted {
            self.count += 1;
        }
        is_admitted
    }
}

/// Counts what the platform counts, and reports the limits that are reached. Clones
/// count together.
#[derive(Debug, Clone)]
pub(crate) struct Limiter(Arc<State>);

#[derive(Debug)]
struct State {
    platform: Platform,
    limits: PlatformLimits,
    counts: Mutex<Counts>,
    reported: Mutex<[Option<Instant>; LIMITS]>,
}

#[derive(Debug, Default)]
struct Counts {
    reads: Window,
    writes: Window,
    outbound: Window,
}

impl Limiter {
    /// Imposes the limits of `platform`.
    pub(crate) fn new(platform: Platform) -> Self {
        Self::with(platform, platform.limits())
    }

    /// Imposes `limits` in the name of `platform`.
    pub(crate) fn with(platform: Platform, limits: PlatformLimits) -> Self {
        Self(Arc::new(State {
            platform,
            limits,
            counts: Mutex::default(),
            reported: Mutex::default(),
        }))
    }

    /// What the platform allows.
    pub(crate) fn limits(&self) -> &PlatformLimits {
        &self.0.limits
    }

    /// Whose limits these are.
    pub(crate) fn platform(&self) -> Platform {
        self.0.platform
    }

    /// Counts a read of the store. The error is for the component.
    pub(crate) fn read(&self) -> Result<(), String> {
        self.count(Limit::Reads, self.0.limits.reads_per_second, SECOND)
    }

    /// Counts a write of the store. The error is for the component.
    pub(crate) fn write(&self) -> Result<(), String> {
        self.count(Limit::Writes, self.0.limits.writes_per_second, SECOND)
    }

    /// Counts a request to the origin of this node alone.
    pub(crate) fn outbound(&self) -> Result<(), String> {
        self.count(Limit::Outbound, self.0.limits.outbound_per_hour, HOUR)
    }

    /// Refuses keys and values that are too long.
    pub(crate) fn sizes(&self, key_bytes: usize, value_bytes: usize) -> Result<(), String> {
        let limits = &self.0.limits;
        if limits.key_bytes.is_some_and(|most| key_bytes > most) {
            return Err(self.reached(Limit::KeyBytes));
        }
        if limits.value_bytes.is_some_and(|most| value_bytes > most) {
            return Err(self.reached(Limit::ValueBytes));
        }
        Ok(())
    }

    fn count(&self, limit: Limit, most: Option<u32>, period: Duration) -> Result<(), String> {
        let Some(most) = most else {
            return Ok(());
        };
        let is_admitted = {
            let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let window = match limit {
                Limit::Reads => &mut counts.reads,
                Limit::Writes => &mut counts.writes,
                _ => &mut counts.outbound,
            };
            window.admit(Instant::now(), period, most)
        };
        match is_admitted {
            true => Ok(()),
            false => Err(self.reached(limit)),
        }
    }

    /// Reports, once in a while, that `limit` was reached. Returns what the component
    /// is told.
    pub(crate) fn reached(&self, limit: Limit) -> String {
        let text = self.0.limits.text(limit);
        if self.is_to_report(limit, Instant::now()) {
            report::event(
                "limit-reached",
                format_args!(
                    "limit of {}: {text}. This is reported once in {} s",
                    self.0.platform,
                    REPORT_EVERY.as_secs()
                ),
            );
        }
        format!("limit of {}: {text}", self.0.platform)
    }

    fn is_to_report(&self, limit: Limit, now: Instant) -> bool {
        let mut reported = self
            .0
            .reported
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(last) = reported.get_mut(limit as usize) else {
            return false;
        };
        let is_due = last.is_none_or(|at| now.saturating_duration_since(at) >= REPORT_EVERY);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

impl PlatformLimits {
    /// The limit in words.
    fn text(&self, limit: Limit) -> String {
        fn number<T: Into<u64>>(most: Option<T>) -> u64 {
            most.map_or(0, Into::into)
        }
        fn size(most: Option<usize>) -> usize {
            most.unwrap_or(0)
        }
        match limit {
            Limit::KeyBytes => format!("a key has at most {} bytes", size(self.key_bytes)),
            Limit::ValueBytes => format!("a value has at most {} bytes", size(self.value_bytes)),
            Limit::Keys => format!("the store has at most {} keys", size(self.keys)),
            Limit::DatabaseBytes => format!(
                "the database has at most {} bytes",
                number(self.database_bytes)
            ),
            Limit::RequestBody => format!(
                "the content of a request has at most {} bytes",
                number(self.body_bytes)
            ),
            Limit::ResponseBody => format!(
                "the content of an answer has at most {} bytes",
                number(self.body_bytes)
            ),
            Limit::HandlerTime => format!(
                "a request is handled for at most {} s",
                self.handler_time.map_or(0, |time| time.as_secs())
            ),
            Limit::Reads => format!(
                "at most {} reads a second, too many requests",
                number(self.reads_per_second)
            ),
            Limit::Writes => format!(
                "at most {} writes a second, too many requests",
                number(self.writes_per_second)
            ),
            Limit::Outbound => format!(
                "at most {} requests to other servers an hour",
                number(self.outbound_per_hour)
            ),
            Limit::Memory => format!("an instance has at most {} bytes", self.memory_bytes),
        }
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new(Platform::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/platforms.md.
    #[test]
    fn the_table_of_limits() {
        let none = Platform::None.limits();
        assert_eq!(none, UNLIMITED);

        let spin = Platform::Spin.limits();
        assert_eq!(spin.key_bytes, Some(256));
        assert_eq!(spin.value_bytes, Some(1_000_000));
        assert_eq!((spin.keys, spin.handler_time), (None, None));

        let fermyon = Platform::FermyonCloud.limits();
        assert_eq!(fermyon.key_bytes, Some(255));
        assert_eq!(fermyon.value_bytes, Some(1_000_000));
        assert_eq!(fermyon.keys, Some(1_024));
        assert_eq!(fermyon.database_bytes, Some(1_000_000_000));
        assert_eq!(fermyon.body_bytes, Some(10_000_000));
        assert_eq!(fermyon.handler_time, Some(Duration::from_secs(30)));
        assert_eq!(fermyon.outbound_per_hour, Some(500));
        assert_eq!(fermyon.writes_per_second, None);

        let akamai = Platform::Akamai.limits();
        assert_eq!(akamai.key_bytes, Some(8_000));
        assert_eq!(akamai.value_bytes, Some(1_000_000));
        assert_eq!(akamai.body_bytes, Some(10_485_760));
        assert_eq!(akamai.handler_time, Some(Duration::from_secs(30)));
        assert_eq!(akamai.reads_per_second, Some(1_000));
        assert_eq!(akamai.writes_per_second, Some(50));
        assert_eq!(akamai.memory_bytes, 134_217_728);
        assert_eq!((akamai.keys, akamai.outbound_per_hour), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_for_its_period_and_begins_again() {
        let limiter = Limiter::new(Platform::Akamai);
        for _ in 0..2 {
            for _ in 0..50 {
                assert_eq!(limiter.write(), Ok(()));
            }
            let refused = limiter.write();
            assert!(
                matches!(&refused, Err(text) if text.contains("akamai") && text.contains("50 writes")),
                "{refused:?}"
            );
            // Reads have a rate of their own.
            assert_eq!(limiter.read(), Ok(()));
            tokio::time::advance(SECOND).await;
        }
    }

    #[test]
    fn without_a_platform_nothing_is_refused() {
        let limiter = Limiter::default();
        for _ in 0..10_000 {
            assert_eq!(limiter.read(), Ok(()));
            assert_eq!(limiter.write(), Ok(()));
            assert_eq!(limiter.outbound(), Ok(()));
        }
        assert_eq!(limiter.sizes(1 << 30, 1 << 30), Ok(()));
    }

    #[test]
    fn sizes_at_the_limit_are_accepted_and_above_refused() {
        for platform in [Platform::Spin, Platform::FermyonCloud, Platform::Akamai] {
            let limiter = Limiter::new(platform);
            let (Some(key), Some(value)) =
                (limiter.limits().key_bytes, limiter.limits().value_bytes)
            else {
                unreachable!("{platform} has both");
            };
            assert_eq!(limiter.sizes(key, value), Ok(()));
            for (key, value) in [(key + 1, value), (key, value + 1)] {
                let refused = limiter.sizes(key, value).err().unwrap_or_default();
                assert!(refused.contains(&platform.to_string()), "{refused}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_reported_once_in_a_while() {
        let limiter = Limiter::new(Platform::Akamai);
        assert!(limiter.is_to_report(Limit::Reads, Instant::now()));
        assert!(!limiter.is_to_report(Limit::Reads, Instant::now()));
        assert!(limiter.is_to_report(Limit::Memory, Instant::now()));
        tokio::time::advance(REPORT_EVERY).await;
        assert!(limiter.is_to_report(Limit::Reads, Instant::now()));
    }
}
