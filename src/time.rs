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
