//! Notices request fields that make nearly every request a question of its own.
//!
//! A field that is in no list is part of the question. One that a proxy or a player adds,
//! new in each request, keeps requests from sharing an answer. What is watched is bounded, whatever visitors send.

use crate::time::Time;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// More different values of a field than this, for one key within [`WINDOW`], are noticed.
pub(super) const VALUES_MAX: usize = 50;

/// How long values of a field are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Most pairs of a key and a field that are watched at once.
const WATCHED_MAX: usize = 128;

/// Fields that are watched by one instance.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// At most [`WATCHED_MAX`], each where its hash says.
    watched: Vec<Watched>,
}

/// The values of a field for a key.
#[derive(Clone, Debug, Default)]
struct Watched {
    /// The hash of key and name.
    pair: u64,
    since: Time,
    /// Hashes of different values, at most [`VALUES_MAX`].
    values: Vec<u64>,
    /// How many requests with other pairs it outlasts.
    credit: usize,
}

impl Notices {
    /// Counts a field of a request for a key. Says whether it has too many values.
    pub(super) fn sees(&mut self, key: &str, name: &str, value: &[u8], now: Time) -> bool {
        if self.watched.is_empty() {
            self.watched.resize(WATCHED_MAX, Watched::default());
        }
        let (pair, value) = (hash((key, name)), hash(value));
        let index = usize::try_from(pair % WATCHED_MAX as u64).unwrap_or(0);
        let Some(watched) = self.watched.get_mut(index) else {
            return false;
        };
        // A clock that was set back ends the count, too.
        let is_over = now < watched.since || now.since(watched.since) >= WINDOW;
        if is_over || (watched.pair != pair && watched.credit == 0) {
            *watched = Watched {
                pair,
                since: now,
                values: Vec::new(),
                credit: 0,
            };
        }
        if watched.pair != pair {
            watched.credit = watched.credit.saturating_sub(1);
            return false;
        }
        if watched.values.contains(&value) {
            return false;
        }
        if watched.values.len() < VALUES_MAX {
            watched.values.push(value);
            watched.credit = watched.values.len();
            return false;
        }
        *watched = Watched::default();
        true
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Time {
        Time::from_unix_millis(1_000_000)
    }

    /// Whether `count` different values of a field of a key, one each `pause`, are noticed.
    fn noticed(notices: &mut Notices, name: &str, count: usize, pause: Duration) -> bool {
        let mut now = start();
        let mut told = false;
        for number in 0..count {
            told |= notices.sees("/a", name, format!("{number}").as_bytes(), now);
            now = now.plus(pause);
        }
        told
    }

    #[test]
    fn a_field_with_more_than_fifty_values_for_a_key_in_a_minute_is_noticed() {
        let second = SECOND;
        for (count, pause, expected) in [
            (VALUES_MAX, Duration::ZERO, false),
            (VALUES_MAX + 1, Duration::ZERO, true),
            (VALUES_MAX + 1, second, true),
            (1_000, 2 * second, false),
        ] {
            let found = noticed(&mut Notices::default(), "x-id", count, pause);
            assert_eq!(found, expected, "{count} {pause:?}");
        }
    }

    #[test]
    fn a_few_values_in_many_requests_and_values_of_many_keys_are_not_noticed() {
        let mut notices = Notices::default();
        for number in 0..10_000 {
            let few = format!("{}", number % VALUES_MAX);
            assert!(!notices.sees("/a", "x-version", few.as_bytes(), start()));
            let key = format!("/{number}");
            assert!(!notices.sees(&key, "x-id", few.as_bytes(), start()));
        }
    }

    #[test]
    fn what_is_watched_is_bounded_and_a_flood_of_names_hides_no_busy_field() {
        let mut notices = Notices::default();
        let mut told = false;
        for number in 0..200_u32 {
            let value = number.to_le_bytes();
            told |= notices.sees("/busy", "x-id", &value, start());
            // Others come and go beside it.
            for other in 0..WATCHED_MAX / 2 {
                let name = format!("x-{number}-{other}");
                assert!(!notices.sees("/a", &name, &value, start()));
            }
        }
        assert!(told);
        assert_eq!(notices.watched.len(), WATCHED_MAX);
        let most = |watched: &Watched| watched.values.len() <= VALUES_MAX;
        assert!(notices.watched.iter().all(most));
    }

    #[test]
    fn a_clock_that_is_set_back_ends_the_count() {
        let mut notices = Notices::default();
        let future = start().plus(WINDOW * 60);
        for number in 0..VALUES_MAX {
            notices.sees("/a", "x-id", format!("{number}").as_bytes(), future);
        }
        assert!(!notices.sees("/a", "x-id", b"one more", start()));
        assert!(!noticed(
            &mut notices,
            "x-id",
            VALUES_MAX - 1,
            Duration::ZERO
        ));
    }
}
