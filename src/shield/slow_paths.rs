//! Paths that answer late, and with what is not stored: long polls that do not say so.
//!
//! They wait at the origin, and do not work. If they counted in the budget, two dozen of
//! them would keep everyone else out. What is kept here is bounded in size and in time.

use crate::time::Time;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Most paths that are remembered at once.
const PATHS_MAX: usize = 256;

/// How often a path has to answer late before it counts as one of long polls.
const TIMES: u8 = 2;

/// How long a path is remembered after it last answered late.
const KEPT: Duration = Duration::from_secs(3_600);

/// The paths of one instance.
#[derive(Debug, Default)]
pub(super) struct SlowPaths {
    /// At most [`PATHS_MAX`], each where its hash says.
    paths: Vec<SlowPath>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SlowPath {
    /// The hash of the path.
    hash: u64,
    at: Time,
    times: u8,
}

impl SlowPath {
    fn counts(&self, hash: u64, now: Time) -> bool {
        // A clock that was set back ends what is remembered, too.
        self.hash == hash && self.at <= now && now.since(self.at) < KEPT
    }
}

impl SlowPaths {
    /// Notes that `path` has answered late, with what is not stored.
    pub(super) fn note(&mut self, path: &str, now: Time) {
        if self.paths.is_empty() {
            self.paths.resize(PATHS_MAX, SlowPath::default());
        }
        let (hash, index) = find(path);
        if let Some(known) = self.paths.get_mut(index) {
            let times = match known.counts(hash, now) {
                true => known.times,
                false => 0,
            };
            *known = SlowPath {
                hash,
                at: now,
                times: times.saturating_add(1),
            };
        }
    }

    /// Whether requests for `path` are long polls, as far as this instance knows.
    pub(super) fn are_long_polls(&self, path: &str, now: Time) -> bool {
        let (hash, index) = find(path);
        self.paths
            .get(index)
            .is_some_and(|known| known.counts(hash, now) && known.times >= TIMES)
    }
}

/// The hash of a path, and where it is kept.
fn find(path: &str) -> (u64, usize) {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    // Zero stands for nothing.
    let hash = hasher.finish().max(1);
    let index = usize::try_from(hash % PATHS_MAX as u64).unwrap_or(0);
    (hash, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_answers_late_twice_has_long_polls_for_an_hour() {
        let at = |seconds: u64| Time::from_unix_millis(1_000_000 + seconds * 1_000);
        let mut paths = SlowPaths::default();
        paths.note("/poll", at(0));
        assert!(!paths.are_long_polls("/poll", at(0)));
        paths.note("/poll", at(20));
        assert!(paths.are_long_polls("/poll", at(20)));
        assert!(!paths.are_long_polls("/other", at(20)));
        assert!(paths.are_long_polls("/poll", at(3_619)));
        assert!(!paths.are_long_polls("/poll", at(3_620)));
        // It is counted from the start once it has been forgotten.
        paths.note("/poll", at(3_620));
        assert!(!paths.are_long_polls("/poll", at(3_620)));
        // The clock was set back.
        assert!(!paths.are_long_polls("/poll", at(3_000)));
    }
}
