//! What the visitors see, counted while they see it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart, in microseconds; longer ones count as
/// this. Requests are given up long before.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Significant decimal digits of a latency.
const LATENCY_DIGITS: u8 = 3;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or one that broke before the answer was complete.
    Connection,
    /// No complete answer in time.
    Timeout,
    /// Refused with 503 and a `Retry-After` of so long. It counts apart from the
    /// errors: the visitor is told when to come back.
    Refused(Duration),
    /// Another answer than a successful one; the stand-in gives no such.
    Status,
    /// A successful answer with another path's content.
    Content,
}

/// How many requests failed, by reason; without those that were refused with
/// `Retry-After`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Errors {
    pub(super) connection: u64,
    pub(super) timeout: u64,
    pub(super) status: u64,
    pub(super) content: u64,
}

impl Errors {
    /// All of them.
    pub(super) fn total(&self) -> u64 {
        self.connection + self.timeout + self.status + self.content
    }
}

/// How many requests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Those that ended, well or not.
    pub(super) requests: u64,
    /// Those that failed.
    pub(super) errors: Errors,
    /// Those that were refused with `Retry-After`.
    pub(super) refused: u64,
}

impl Counts {
    /// Those that were answered.
    pub(super) fn answered(&self) -> u64 {
        self.requests - self.errors.total() - self.refused
    }
}

/// The count of one phase, shared by all clients.
#[derive(Debug)]
pub(super) struct Tally {
    tallied: Mutex<Tallied>,
}

#[derive(Debug)]
struct Tallied {
    counts: Counts,
    /// Latencies of the answered requests, in microseconds.
    latency: Histogram<u64>,
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new() -> anyhow::Result<Tally> {
        let latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS)
            .context("latency histogram")?;
        Ok(Tally {
            tallied: Mutex::new(Tallied {
                counts: Counts::default(),
                latency,
            }),
        })
    }

    /// Counts a request that was answered after `latency`, or failed.
    pub(super) fn count(&self, outcome: Result<Duration, Failure>) {
        let mut tallied = self.lock();
        tallied.counts.requests += 1;
        let Counts {
            errors, refused, ..
        } = &mut tallied.counts;
        match outcome {
            Ok(latency) => {
                let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                tallied.latency.saturating_record(us);
            }
            Err(Failure::Refused(_)) => *refused += 1,
            Err(Failure::Connection) => errors.connection += 1,
            Err(Failure::Timeout) => errors.timeout += 1,
            Err(Failure::Status) => errors.status += 1,
            Err(Failure::Content) => errors.content += 1,
        }
    }

    /// Forgets what was counted. Requests that are under way count when they end.
    pub(super) fn reset(&self) {
        let mut tallied = self.lock();
        tallied.counts = Counts::default();
        tallied.latency.reset();
    }

    /// How many there were so far.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// The latency that this share of the answered requests did not exceed;
    /// none if none was answered. Failed requests have none: being refused is
    /// quick.
    pub(super) fn latency(&self, share: f64) -> Option<Duration> {
        let tallied = self.lock();
        if tallied.latency.is_empty() {
            return None;
        }
        Some(Duration::from_micros(
            tallied.latency.value_at_quantile(share),
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Tallied> {
        // Nothing panics under the lock; should it ever, the counts are still
        // the best there are.
        self.tallied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(actual: Option<Duration>, expected: Duration) -> bool {
        actual.is_some_and(|actual| actual.abs_diff(expected) <= expected / 500)
    }

    #[test]
    fn percentiles_are_of_answered_requests() {
        let tally = Tally::new().expect("constant bounds");
        assert_eq!(tally.latency(0.5), None);
        for ms in 1..=1000 {
            tally.count(Ok(Duration::from_millis(ms)));
            tally.count(Err(Failure::Connection));
        }
        for (share, ms) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            assert!(
                near(tally.latency(share), Duration::from_millis(ms)),
                "{share}: {:?}",
                tally.latency(share)
            );
        }
    }

    #[test]
    fn extreme_latencies_stay_within_the_bounds() {
        for (latency, expected) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_nanos(1), Duration::ZERO),
            (Duration::MAX, Duration::from_micros(LATENCY_US_MAX)),
        ] {
            let tally = Tally::new().expect("constant bounds");
            tally.count(Ok(latency));
            let actual = tally.latency(0.5);
            assert!(
                actual == Some(expected) || near(actual, expected),
                "{latency:?}: {actual:?}"
            );
        }
    }

    #[test]
    fn failures_are_counted_by_reason() {
        let tally = Tally::new().expect("constant bounds");
        tally.count(Ok(Duration::from_millis(1)));
        for (failure, times) in [
            (Failure::Connection, 1),
            (Failure::Timeout, 2),
            (Failure::Status, 3),
            (Failure::Content, 4),
            (Failure::Refused(Duration::from_secs(1)), 5),
        ] {
            for _ in 0..times {
                tally.count(Err(failure));
            }
        }
        let counts = tally.counts();
        assert_eq!(
            counts.errors,
            Errors {
                connection: 1,
                timeout: 2,
                status: 3,
                content: 4
            }
        );
        assert_eq!(
            (
                counts.requests,
                counts.errors.total(),
                counts.refused,
                counts.answered()
            ),
            (16, 10, 5, 1),
            "who is refused with Retry-After counts apart"
        );
    }
}
