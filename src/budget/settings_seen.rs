//! Whether all nodes have the same settings.
//!
//! Each instance that writes the origin's record notes the mark of its settings in it, so
//! that nodes which answer by different rules are noticed. That costs no write of its own.

use crate::time::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;

/// Most marks in a record.
const MARKS_MAX: usize = 8;

/// How long a mark is kept after it was noted last.
const KEPT: Duration = Duration::from_secs(600);

/// How long nodes may differ before the log says so: settings are changed on one node after
/// the other.
const TOLD_AFTER: Duration = Duration::from_secs(300);

/// Settings that were not noted for this long are no longer in use, for the log.
const IN_USE: Duration = Duration::from_secs(120);

/// The least time between two lines of the log that say so, of all instances.
const TOLD_EVERY: Duration = Duration::from_secs(3_600);

/// Tells settings apart: equal on all nodes that have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SettingsMark(u32);

impl SettingsMark {
    /// The mark of these texts of the platform's variables.
    pub fn of(origin: &str, config: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(origin.as_bytes());
        hash.update([0]);
        hash.update(config.trim().as_bytes());
        let hash = hash.finalize();
        let first = hash.first_chunk::<4>().copied().unwrap_or_default();
        SettingsMark(u32::from_be_bytes(first))
    }
}

/// Eight hexadecimal digits.
impl fmt::Display for SettingsMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A mark in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Marked {
    /// The settings.
    pub mark: SettingsMark,
    /// When an instance noted them last.
    pub last: Time,
}

/// The settings of the instances that have lately written the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SettingsSeen {
    /// At most [`MARKS_MAX`].
    marks: Vec<Marked>,
    /// Since when different ones are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    differ_since: Option<Time>,
    /// When the log said last that they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<Time>,
}

impl SettingsSeen {
    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.told.is_none()
    }

    /// What is noted.
    pub fn marks(&self) -> &[Marked] {
        &self.marks
    }

    /// What counts at `now`; no clock is ahead of `latest`.
    #[must_use]
    pub(super) fn bounded(mut self, now: Time, latest: Time) -> Self {
        for marked in &mut self.marks {
            marked.last = marked.last.min(latest);
        }
        self.marks.retain(|marked| now.since(marked.last) < KEPT);
        self.marks.truncate(MARKS_MAX);
        self.differ_since = self.differ_since.map(|since| since.min(latest));
        self.told = self.told.map(|told| told.min(latest));
        self
    }

    /// Notes the settings of the instance that writes at `now`. Returns the others that are
    /// to be told of in the log, if this write succeeds.
    pub(super) fn note(&mut self, mark: SettingsMark, now: Time) -> Vec<SettingsMark> {
        match self.marks.iter_mut().find(|marked| marked.mark == mark) {
            Some(own) => own.last = own.last.max(now),
            None => {
                let oldest = self.marks.iter().map(|marked| marked.last).min();
                if self.marks.len() >= MARKS_MAX {
                    self.marks.retain(|marked| Some(marked.last) != oldest);
                }
                self.marks.push(Marked { mark, last: now });
            }
        }
        let others = self.marks.iter();
        let others = others.filter(|other| other.mark != mark && now.since(other.last) < IN_USE);
        let others: Vec<_> = others.map(|other| other.mark).collect();
        if others.is_empty() {
            self.differ_since = None;
            return others;
        }
        let since = *self.differ_since.get_or_insert(now);
        let is_told = self
            .told
            .is_some_and(|told| told.was_within(TOLD_EVERY, now));
        if is_told || now.since(since) < TOLD_AFTER {
            return Vec::new();
        }
        self.told = Some(now);
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_unix_millis(seconds * 1_000)
    }

    fn mark(number: u32) -> SettingsMark {
        SettingsMark(number)
    }

    #[test]
    fn settings_have_a_mark() {
        let mark = SettingsMark::of("http://a", "x = 1\n");
        assert_eq!(mark.to_string().len(), 8);
        assert_eq!(mark, SettingsMark::of("http://a", "x = 1"));
        assert_ne!(mark, SettingsMark::of("http://a", "x = 2"));
        assert_ne!(mark, SettingsMark::of("http://ax", " = 1"));
    }

    #[test]
    fn nodes_that_differ_for_five_minutes_are_told_of_once_an_hour() {
        let mut seen = SettingsSeen::default();
        let mut told = Vec::new();
        for second in 1_000..9_000 {
            seen = seen.bounded(at(second), at(second));
            for node in [1, 2] {
                let others = seen.note(mark(node), at(second));
                told.extend(others.into_iter().map(|other| (second, node, other)));
            }
        }
        assert_eq!(
            told,
            [
                (1_300, 1, mark(2)),
                (4_900, 1, mark(2)),
                (8_500, 1, mark(2))
            ]
        );
        assert_eq!(seen.marks().len(), 2);
    }

    /// Also where they are changed back a little later.
    #[test]
    fn nodes_that_change_one_after_the_other_are_not_told_of() {
        let mut seen = SettingsSeen::default();
        for second in 1_000..9_000 {
            seen = seen.bounded(at(second), at(second));
            for node in [0, 1] {
                let changed = (2_001 + node * 50)..(2_300 + node * 50);
                let is_changed = changed.contains(&second) || second > 3_000 + node * 100;
                let now = at(second);
                assert!(seen.note(mark(u32::from(is_changed)), now).is_empty());
            }
        }
        assert_eq!(seen.marks().len(), 1, "the old one is forgotten");
    }

    #[test]
    fn what_is_noted_is_bounded_and_no_time_is_in_the_future() {
        let mut seen = SettingsSeen::default();
        for number in 0..50 {
            seen.note(mark(number), at(1_000 + u64::from(number)));
            assert!(seen.marks().len() <= MARKS_MAX);
        }
        assert!(seen.marks().iter().any(|marked| marked.mark == mark(49)));
        seen.note(mark(7), at(1_000_000));
        let seen = seen.bounded(at(2_000), at(2_001));
        assert!(seen.marks().iter().all(|marked| marked.last <= at(2_001)));
    }
}
