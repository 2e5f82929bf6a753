//! The health of a store, as one instance sees it: a pure state machine.
//!
//! Three parts fail and recover apart:
//!
//! - reads: without them the instance works on its own memory;
//! - writes: without them entries of the store are still served, and new keys go
//!   through the instance's own memory;
//! - hits: the store reads, but takes longer than a visitor should wait who can be
//!   answered from memory.
//!
//! A part that failed is left alone for a pause. Then one operation at a time goes
//! out as a probe, and all others do without the store. The pause doubles with each
//! failed probe, and a success ends it.

use super::STORE_TIMEOUT;
use crate::time::Time;
use std::time::Duration;

/// The pause after the first failure, at most: it is shortened at random, so that
/// several instances do not probe at the same time.
pub const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Most doublings of the pause.
const DOUBLINGS_MAX: u32 = 8;

/// How much of a pause is taken off at random, at most, in thousandths.
const SPREAD_MAX: u32 = 250;

/// How long a probe holds off others if its end is never reported. An operation
/// that writes may be followed by one that reads back.
const PROBE_TIME: Duration = STORE_TIMEOUT.saturating_mul(2);

/// A swap that takes this long or longer is slow.
pub const SLOW_SWAP: Duration = Duration::from_millis(250);

/// For how long after a slow swap an instance makes only the swaps that it needs.
pub const SLOW_SWAPS_MEMORY: Duration = Duration::from_secs(10);

/// A part of a store that fails apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Reading.
    Reads,
    /// Swaps, and whatever else changes the store.
    Writes,
    /// Reading for requests that could be answered from memory.
    Hits,
}

impl Part {
    /// How a log line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Part::Reads => "read",
            Part::Writes => "write",
            Part::Hits => "slow-read",
        }
    }
}

/// Whether an operation may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The store works.
    Open,
    /// The one operation that finds out whether it works again.
    Probe,
    /// The store is left alone.
    Closed,
}

/// What an operation has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It works.
    Works,
    /// It fails.
    Fails,
    /// Neither.
    Nothing,
}

/// A change of state: the operator is told of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It worked, and fails now.
    Failed,
    /// It failed, and works now.
    Recovered,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    /// Failures in a row; zero where it works.
    failures: u32,
    closed_until: Time,
    probe_until: Time,
    /// An operation has stopped the instance.
    stopped_until: Time,
}

/// A time ahead of `now` by at most `most`. Any other is over, or was written
/// before the clock was set back.
fn is_ahead(time: Time, now: Time, most: Duration) -> bool {
    now < time && time.since(now) <= most
}

impl Gate {
    fn is_closed(&self, now: Time) -> bool {
        let is_paused = is_ahead(self.closed_until, now, PAUSE_MAX)
            || is_ahead(self.probe_until, now, PROBE_TIME);
        self.failures > 0 && is_paused || is_ahead(self.stopped_until, now, PAUSE_MAX)
    }

    fn enter(&mut self, now: Time) -> Access {
        if self.is_closed(now) {
            return Access::Closed;
        }
        if self.failures == 0 {
            return Access::Open;
        }
        self.probe_until = now.plus(PROBE_TIME);
        Access::Probe
    }

    fn pause(&mut self, now: Time, random: u128) {
        let doublings = self.failures.saturating_sub(1).min(DOUBLINGS_MAX);
        let pause = PAUSE_FIRST
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(PAUSE_MAX);
        let spread = u32::try_from(random % u128::from(SPREAD_MAX + 1)).unwrap_or(0);
        let spread = pause.saturating_mul(spread) / 1_000;
        self.closed_until = now.plus(pause.saturating_sub(spread));
        self.probe_until = Time::default();
    }

    /// Closed for the longest pause from now on.
    fn stop(&mut self, now: Time) {
        self.stopped_until = now.plus(PAUSE_MAX);
    }

    fn note(&mut self, access: Access, shown: Shown, now: Time, random: u128) -> Option<Change> {
        match (shown, self.failures) {
            (Shown::Fails, 0) => {
                self.failures = 1;
                self.pause(now, random);
                Some(Change::Failed)
            }
            // One of several operations that were under way when it failed.
            (Shown::Fails, _) if access == Access::Open && self.is_closed(now) => None,
            (Shown::Fails, _) => {
                self.failures = self.failures.saturating_add(1);
                self.pause(now, random);
                None
            }
            // What went out before it failed shows nothing about now.
            (Shown::Works, 0) | (Shown::Works | Shown::Nothing, _) if access == Access::Open => {
                None
            }
            (Shown::Works, 0) | (Shown::Nothing, 0) => None,
            (Shown::Works, _) => {
                *self = Gate::default();
                Some(Change::Recovered)
            }
            (Shown::Nothing, _) => {
                self.pause(now, random);
                None
            }
        }
    }
}

/// The state of a store. `now` is the instance's clock throughout, and `random` any
/// random number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    reads: Gate,
    writes: Gate,
    hits: Gate,
    /// When reads or writes last failed.
    last_failure: Time,
    slow_until: Time,
}

impl Health {
    fn gate(&mut self, part: Part) -> &mut Gate {
        match part {
            Part::Reads => &mut self.reads,
            Part::Writes => &mut self.writes,
            Part::Hits => &mut self.hits,
        }
    }

    /// Whether an operation would be turned away at `now`.
    pub fn is_closed(&self, part: Part, now: Time) -> bool {
        match part {
            Part::Reads => self.reads.is_closed(now),
            Part::Writes => self.writes.is_closed(now),
            Part::Hits => self.hits.is_closed(now),
        }
    }

    /// Whether a part fails, whether or not a probe may go out.
    pub fn is_failing(&self, part: Part) -> bool {
        let gate = match part {
            Part::Reads => self.reads,
            Part::Writes => self.writes,
            Part::Hits => self.hits,
        };
        gate.failures > 0
    }

    /// An operation is about to go out. What it shows is to be
    /// [noted](Health::note) with what is returned here.
    pub fn enter(&mut self, part: Part, now: Time) -> Access {
        self.gate(part).enter(now)
    }

    /// What an operation has shown. Returns the change of state, if it is one. An
    /// operation that went out although the store was left alone counts as a probe.
    pub fn note(
        &mut self,
        part: Part,
        access: Access,
        shown: Shown,
        now: Time,
        random: u128,
    ) -> Option<Change> {
        if shown == Shown::Fails && part != Part::Hits {
            self.last_failure = now;
        }
        self.gate(part).note(access, shown, now, random)
    }

    /// An operation that failed has stopped the instance for longer than an operation may
    /// take: it could not be given up. Each further one would stop it again, so the part
    /// is left alone for the longest pause at once, and with reads the writes.
    pub fn note_stopped(&mut self, part: Part, now: Time) {
        self.writes.stop(now);
        if part != Part::Writes {
            self.reads.stop(now);
        }
    }

    /// Whether reads or writes have failed at `moment` or after it, by `now`.
    pub fn has_failed_since(&self, moment: Time, now: Time) -> bool {
        self.last_failure != Time::default() && (moment..=now).contains(&self.last_failure)
    }

    /// A swap took this long.
    pub fn note_swap(&mut self, took: Duration, now: Time) {
        if took >= SLOW_SWAP {
            self.slow_until = now.plus(SLOW_SWAPS_MEMORY);
        }
    }

    /// Whether a swap was slow lately.
    pub fn has_slow_swaps(&self, now: Time) -> bool {
        is_ahead(self.slow_until, now, SLOW_SWAPS_MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Time {
        Time::from_unix_millis(1_000_000 + millis)
    }

    fn failed(health: &mut Health, part: Part, millis: u64) -> Option<Change> {
        let access = health.enter(part, at(millis));
        health.note(part, access, Shown::Fails, at(millis), 0)
    }

    #[test]
    fn after_a_failure_one_probe_at_a_time_goes_out() {
        let mut health = Health::default();
        assert_eq!(health.enter(Part::Reads, at(0)), Access::Open);
        assert_eq!(failed(&mut health, Part::Reads, 0), Some(Change::Failed));
        assert_eq!(health.enter(Part::Reads, at(999)), Access::Closed);
        assert_eq!(health.enter(Part::Reads, at(1_000)), Access::Probe);
        for millis in [1_000, 2_000, 6_999] {
            assert_eq!(health.enter(Part::Reads, at(millis)), Access::Closed);
        }
        // Its end was never reported: another may go.
        assert_eq!(health.enter(Part::Reads, at(7_000)), Access::Probe);
        let change = health.note(Part::Reads, Access::Probe, Shown::Works, at(7_001), 0);
        assert_eq!(change, Some(Change::Recovered));
        assert_eq!(health.enter(Part::Reads, at(7_001)), Access::Open);
    }

    #[test]
    fn reads_and_writes_fail_apart() {
        let mut health = Health::default();
        failed(&mut health, Part::Writes, 0);
        assert_eq!(health.enter(Part::Reads, at(0)), Access::Open);
        assert_eq!(health.enter(Part::Hits, at(0)), Access::Open);
        assert_eq!(health.enter(Part::Writes, at(0)), Access::Closed);
        let since = |from| health.has_failed_since(at(from), at(9));
        assert!(since(0) && !since(1));
    }

    #[test]
    fn the_pause_doubles_up_to_a_bound_and_a_success_resets_it() {
        let mut health = Health::default();
        let mut now = 0;
        for pause in [1_000, 2_000, 4_000, 8_000, 8_000, 8_000] {
            failed(&mut health, Part::Writes, now);
            assert!(
                health.is_closed(Part::Writes, at(now + pause - 1)),
                "{pause}"
            );
            now += pause;
            assert!(!health.is_closed(Part::Writes, at(now)), "{pause}");
        }
        let access = health.enter(Part::Writes, at(now));
        health.note(Part::Writes, access, Shown::Works, at(now), 0);
        failed(&mut health, Part::Writes, now);
        assert!(!health.is_closed(Part::Writes, at(now + 1_000)));
    }

    #[test]
    fn an_operation_that_stopped_the_instance_closes_for_the_longest_pause_at_once() {
        for (part, reads_are_closed) in [(Part::Writes, false), (Part::Reads, true)] {
            let mut health = Health::default();
            failed(&mut health, part, 5_000);
            health.note_stopped(part, at(5_000));
            assert!(health.is_closed(Part::Writes, at(12_999)));
            assert_eq!(
                health.is_closed(Part::Reads, at(12_999)),
                reads_are_closed,
                "{part:?}"
            );
            for part in [Part::Reads, Part::Writes] {
                assert_ne!(health.enter(part, at(13_000)), Access::Closed);
                health.note(part, Access::Probe, Shown::Works, at(13_000), 0);
                assert_eq!(health.enter(part, at(13_000)), Access::Open);
            }
        }
    }

    #[test]
    fn operations_that_were_under_way_change_nothing() {
        let mut health = Health::default();
        let access = health.enter(Part::Reads, at(0));
        failed(&mut health, Part::Reads, 10);
        for shown in [Shown::Fails, Shown::Works, Shown::Nothing] {
            let change = health.note(Part::Reads, access, shown, at(500), 0);
            assert_eq!(change, None, "{shown:?}");
        }
        // Neither a longer pause nor none.
        assert!(health.is_closed(Part::Reads, at(1_009)));
        assert!(!health.is_closed(Part::Reads, at(1_010)));
    }

    #[test]
    fn a_probe_that_shows_nothing_makes_the_pause_no_longer() {
        let mut health = Health::default();
        failed(&mut health, Part::Writes, 0);
        for round in 1..5 {
            let now = at(round * 1_000);
            assert_eq!(health.enter(Part::Writes, now), Access::Probe);
            health.note(Part::Writes, Access::Probe, Shown::Nothing, now, 0);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_closes_nothing_for_long() {
        let mut health = Health::default();
        failed(&mut health, Part::Reads, 100_000);
        health.note_swap(SLOW_SWAP, at(100_000));
        assert!(health.has_slow_swaps(at(100_000)));
        assert_eq!(health.enter(Part::Reads, at(50_000)), Access::Probe);
        assert!(!health.has_slow_swaps(at(50_000)));
        assert!(health.has_failed_since(at(90_000), at(100_000)));
        assert!(!health.has_failed_since(at(40_000), at(50_000)));
    }

    proptest! {
        /// Whatever happens: a part that is closed opens for a probe within the
        /// longest pause or the time of a probe, and while it fails at most one
        /// operation is let out at a time.
        #[test]
        fn nothing_is_closed_for_ever_and_probes_are_alone(
            steps in prop::collection::vec((0_u64..5_000, 0_u8..4, any::<u64>()), 1..60)
        ) {
            let mut health = Health::default();
            let mut now = 0;
            let mut out: Vec<(Access, u64)> = Vec::new();
            for (wait, what, random) in steps {
                now += wait;
                match what {
                    0 => {
                        let access = health.enter(Part::Reads, at(now));
                        if access == Access::Probe {
                            let time = u64::try_from(PROBE_TIME.as_millis()).unwrap_or(0);
                            let others = out.iter().filter(|(access, since)| {
                                *access == Access::Probe && now < since + time
                            });
                            prop_assert_eq!(others.count(), 0);
                        }
                        if access != Access::Closed {
                            out.push((access, now));
                        }
                    }
                    _ => {
                        let shown = [Shown::Works, Shown::Fails, Shown::Nothing]
                            [usize::from(what) - 1];
                        if let Some((access, _)) = out.pop() {
                            // Probes before it are over with it.
                            if access == Access::Probe {
                                out.retain(|(access, _)| *access != Access::Probe);
                            }
                            health.note(Part::Reads, access, shown, at(now), random.into());
                        }
                        if !health.is_failing(Part::Reads) {
                            out.retain(|(access, _)| *access != Access::Probe);
                        }
                    }
                }
                let later = at(now).plus(PAUSE_MAX.max(PROBE_TIME));
                prop_assert!(!health.is_closed(Part::Reads, later));
            }
        }
    }
}
