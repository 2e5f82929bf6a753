//! What reached the stand-in: requests, and how many were in it at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::per_path::PerPath;

/// What reached the stand-in since it started or was last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stats {
    /// Requests that arrived, those that died in a crash included.
    pub(crate) requests: u64,
    /// Requests in it now.
    pub(crate) in_flight: u64,
    /// Most requests that were in it at once; above its capacity, it crashed.
    pub(crate) in_flight_max: u64,
    /// Times that it crashed.
    pub(crate) crashes: u64,
    /// The same for each path, query included.
    pub(crate) paths: BTreeMap<String, PathStats>,
}

impl Stats {
    /// Most requests that were in flight for one and the same path.
    pub(crate) fn path_in_flight_max(&self) -> u64 {
        self.paths
            .values()
            .map(|path| path.in_flight_max)
            .max()
            .unwrap_or(0)
    }
}

/// What reached one path of the stand-in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PathStats {
    /// Requests that arrived.
    pub(crate) requests: u64,
    /// Requests in it now.
    pub(crate) in_flight: u64,
    /// Most requests that were in it at once.
    pub(crate) in_flight_max: u64,
}

/// What the stand-in was like since the sample before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sample {
    /// Most requests that were in it at once.
    pub(crate) in_flight_max: u64,
    /// Whether it refuses connections now, after a crash.
    pub(crate) down: bool,
}

impl PathStats {
    fn enter(&mut self) {
        self.requests += 1;
        self.in_flight += 1;
        self.in_flight_max = self.in_flight_max.max(self.in_flight);
    }

    fn leave(&mut self) {
        self.in_flight -= 1;
    }

    fn reset(&mut self) {
        self.requests = 0;
        self.in_flight_max = self.in_flight;
    }
}

/// The counting itself.
#[derive(Debug, Default)]
pub(super) struct Counters {
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    total: PathStats,
    crashes: u64,
    /// What the next sample says.
    sample: Sample,
    paths: PerPath<PathStats>,
}

impl Counters {
    /// Counts a request in. It is in flight as long as the returned value
    /// lives, which ends also when its connection does.
    pub(super) fn enter(self: &Arc<Self>, path: &str) -> InFlight {
        let mut counted = self.lock();
        counted.total.enter();
        let at_once = counted.total.in_flight;
        counted.sample.in_flight_max = counted.sample.in_flight_max.max(at_once);
        let (name, place) = counted.paths.at(path);
        place.enter();
        InFlight {
            name: name.to_owned(),
            at_once,
            counters: Arc::clone(self),
        }
    }

    /// Counts a crash.
    pub(super) fn crash(&self) {
        let mut counted = self.lock();
        counted.crashes += 1;
        counted.sample.down = true;
    }

    /// It accepts connections again after a crash.
    pub(super) fn up_again(&self) {
        self.lock().sample.down = false;
    }

    /// What happened since the last sample. A peak is in exactly one sample, however short.
    pub(super) fn sample(&self) -> Sample {
        let mut counted = self.lock();
        let sample = counted.sample;
        counted.sample.in_flight_max = counted.total.in_flight;
        sample
    }

    /// What was counted so far.
    pub(super) fn stats(&self) -> Stats {
        let counted = self.lock();
        Stats {
            requests: counted.total.requests,
            in_flight: counted.total.in_flight,
            in_flight_max: counted.total.in_flight_max,
            crashes: counted.crashes,
            paths: counted.paths.all().clone(),
        }
    }

    /// Sets the counters to zero. What is in flight stays in flight, without being counted as
    /// a request again.
    pub(super) fn reset(&self) {
        let mut counted = self.lock();
        counted.crashes = 0;
        counted.total.reset();
        counted.sample.in_flight_max = counted.total.in_flight;
        counted.paths.retain(|path| {
            path.reset();
            path.in_flight > 0
        });
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        // Nothing panics under the lock; should it ever, the numbers are still
        // the best there are.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is in the stand-in until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    name: String,
    at_once: u64,
    counters: Arc<Counters>,
}

impl InFlight {
    /// How many requests were in flight when this one came, itself included.
    pub(super) fn at_once(&self) -> u64 {
        self.at_once
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut counted = self.counters.lock();
        counted.total.leave();
        if let Some(path) = counted.paths.named(&self.name) {
            path.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_in_flight_and_the_most_there_was() {
        let counters = Arc::new(Counters::default());
        let first = counters.enter("/a");
        let second = counters.enter("/a");
        let third = counters.enter("/b");
        assert_eq!(
            [first.at_once(), second.at_once(), third.at_once()],
            [1, 2, 3]
        );
        drop((first, third));
        counters.crash();

        let stats = counters.stats();
        assert_eq!(
            (
                stats.requests,
                stats.in_flight,
                stats.in_flight_max,
                stats.crashes
            ),
            (3, 1, 3, 1)
        );
        assert_eq!(
            stats.paths["/a"],
            PathStats {
                requests: 2,
                in_flight: 1,
                in_flight_max: 2
            }
        );
        assert_eq!(
            stats.paths["/b"],
            PathStats {
                requests: 1,
                in_flight: 0,
                in_flight_max: 1
            }
        );
        assert_eq!(stats.path_in_flight_max(), 2);
    }

    #[test]
    fn a_reset_keeps_what_is_in_flight() {
        let counters = Arc::new(Counters::default());
        let held = counters.enter("/a");
        drop(counters.enter("/b"));
        counters.crash();
        counters.reset();

        let stats = counters.stats();
        assert_eq!(
            (
                stats.requests,
                stats.in_flight,
                stats.in_flight_max,
                stats.crashes
            ),
            (0, 1, 1, 0)
        );
        assert_eq!(stats.paths.keys().collect::<Vec<_>>(), ["/a"]);

        drop(held);
        assert_eq!(counters.stats().in_flight, 0);
    }

    #[test]
    fn a_sample_has_the_peak_since_the_last_one() {
        let sample = |in_flight_max, down| Sample {
            in_flight_max,
            down,
        };
        let counters = Arc::new(Counters::default());
        let held = counters.enter("/a");
        drop((counters.enter("/a"), counters.enter("/b")));
        assert_eq!(counters.sample(), sample(3, false), "also what has left");
        assert_eq!(counters.sample(), sample(1, false), "what is still there");
        drop(held);
        counters.crash();
        assert_eq!(counters.sample(), sample(1, true));
        assert_eq!(counters.sample(), sample(0, true));
        drop(counters.enter("/a"));
        counters.up_again();
        counters.reset();
        assert_eq!(counters.sample(), sample(0, false));
    }

    #[test]
    fn stats_have_the_documented_fields() {
        let counters = Arc::new(Counters::default());
        drop(counters.enter("/a"));
        let json = serde_json::to_value(counters.stats()).expect("plain numbers and strings");
        assert_eq!(
            json,
            serde_json::json!({
                "requests": 1, "in_flight": 0, "in_flight_max": 1, "crashes": 0,
                "paths": { "/a": { "requests": 1, "in_flight": 0, "in_flight_max": 1 } },
            })
        );
    }
}
