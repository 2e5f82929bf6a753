//! Wall-clock time as a value.
//!
//! Every decision in this crate takes the time as an argument, so that it can
//! be tested, simulated and model-checked. Nodes compare times that different
//! clocks made: whatever is decided on such a comparison allows for the
//! configured clock skew.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A moment: milliseconds since the Unix epoch, by the clock of some node.
///
/// Arithmetic saturates: a stored time may hold any value, and the far future
/// is a better answer than a panic.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(u64);

impl Time {
    /// A moment from milliseconds since the Unix epoch.
    pub const fn from_unix_millis(millis: u64) -> Self {
        Time(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_unix_millis(self) -> u64 {
        self.0
    }

    /// How long `self` is after `earlier`; zero if it is not after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment, `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Time(self.0.saturating_add(millis(by)))
    }

    /// This deadline as it counts at `now` in the memory of whoever made it, if at most
    /// `most` can be left of it. Where more is left, the clock was set back after the
    /// deadline was made: then it is over.
    #[must_use]
    pub fn within(self, most: Duration, now: Time) -> Self {
        match self.since(now) <= most {
            true => self,
            false => now,
        }
    }

    /// Whether this moment, as its maker remembers it, was less than `span` ago. A moment
    /// after `now` was not: the clock has been set back since.
    pub fn was_within(self, span: Duration, now: Time) -> bool {
        self <= now && now.since(self) < span
    }

    /// This moment, `by` earlier.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Time(self.0.saturating_sub(millis(by)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Whole milliseconds of a duration; saturates at `u64::MAX`.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Wherever a clock is set, a deadline that it made is not further ahead than when it
        /// was made, and a moment does not stay recent.
        #[test]
        fn a_clock_that_is_set_keeps_nothing_alive(
            made in any::<u64>(),
            most in 0_u64..100_000,
            now in any::<u64>(),
        ) {
            let (made, now) = (Time::from_unix_millis(made), Time::from_unix_millis(now));
            let most = Duration::from_millis(most);
            let deadline = made.plus(most).within(most, now);
            prop_assert!(deadline.since(now) <= most);
            if deadline != made.plus(most) {
                prop_assert!(now < made && deadline == now);
            }
            if made.was_within(most, now) {
                prop_assert!(made <= now && now < made.plus(most));
            }
        }
    }
}
