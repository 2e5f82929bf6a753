//! How often a new connection is tried: a pure state machine, time passed in.

use std::time::Duration;

use tokio::time::Instant;

/// The pause after the first attempt.
const PAUSE_FIRST: Duration = Duration::from_millis(250);

/// The longest pause. The component leaves a store that failed alone for up to eight
/// seconds: with a connection tried in between, its next look finds the one that works.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Most doublings of the pause.
const DOUBLINGS_MAX: u32 = 8;

/// After this long without an attempt the pause is the first one again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// The attempts to connect. The pause doubles with each, whether or not it made a
/// connection: one that works may be to a server that refuses what it is asked.
#[derive(Debug, Default)]
pub(super) struct Pace {
    attempts: u32,
    last: Option<Instant>,
}

impl Pace {
    /// Whether a connection may be tried at `now`.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let Some(last) = self.last else {
            return true;
        };
        let doublings = self.attempts.saturating_sub(1).min(DOUBLINGS_MAX);
        let pause = PAUSE_FIRST
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(PAUSE_MAX);
        now.saturating_duration_since(last) >= pause
    }

    /// A connection is tried at `now`.
    pub(super) fn attempt(&mut self, now: Instant) {
        let forgets = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) >= FORGOTTEN_AFTER);
        if forgets {
            self.attempts = 0;
        }
        self.attempts = self.attempts.saturating_add(1);
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_between_attempts_doubles_up_to_a_bound_and_is_forgotten() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.allows(now));
        for millis in [250, 500, 1_000, 1_000, 1_000] {
            pace.attempt(now);
            let pause = Duration::from_millis(millis);
            assert!(!pace.allows(now + pause - Duration::from_millis(1)));
            now += pause;
            assert!(pace.allows(now), "{millis}");
        }
        now += FORGOTTEN_AFTER;
        pace.attempt(now);
        assert!(pace.allows(now + PAUSE_FIRST));
    }
}
