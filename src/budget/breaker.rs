//! The breaker: whether the origin works, as all nodes see it.
//!
//! ```text
//!             failures of several targets
//!   Closed ──────────────────────────────► Open ◄─────┐
//!     ▲                                     │ pause   │ a failure
//!     │ the limit reaches the budget        ▼         │
//!     └──────────────────────────────── HalfOpen ─────┘
//!                                   limit 1, 2, 4, ...
//! ```
//!
//! Failures count once for each target, so one broken page does not close the site's
//! way to the origin; a failure to connect counts each time. Where a page is known that
//! worked, it is asked for before the breaker opens because of other pages
//! ([`Checks`]). After the pause one request goes out as a probe. While half open, the
//! limit doubles each time as many requests have succeeded as it allows.

use super::Limits;
use super::check::Checks;
use crate::cell::transition::Backoff;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most failures in a row that can be required.
pub const FAILURES_MAX: u32 = 100;

/// The time over which the share of failures is taken.
pub const WINDOW: Duration = Duration::from_secs(10);

/// The least answers in [`WINDOW`] from which their share of failures counts.
pub const WINDOW_MIN: u32 = 20;

/// Most openings in a row that count. The pause reaches its maximum earlier.
const OPENINGS_MAX: u32 = 32;

/// How long after the pause a target whose last probe failed leaves the probe to
/// others.
const OTHERS_FIRST: Duration = Duration::from_secs(1);

/// How the breaker is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open; doubles with each failed probe.
    pub pause: Backoff,
    /// The longest `Retry-After` that extends the pause.
    pub retry_after_max: Duration,
}

/// The origin's health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    /// What may go out.
    pub phase: Phase,
    /// Grows each time the breaker opens: slots and reports of an earlier epoch do
    /// not count.
    pub epoch: u32,
    /// How often it opened since it was last closed.
    pub openings: u32,
    /// The targets that failed since the last success.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<u32>,
    /// The answers of the last seconds.
    pub window: Window,
    /// The target of the last probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probed: Option<u32>,
    /// Whether the failures are the origin's, or those of single pages.
    pub checks: Checks,
}

/// What may go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// As much as the budget allows.
    #[default]
    Closed,
    /// Nothing before a time; then one probe.
    Open {
        /// When the probe may go.
        until: Time,
    },
    /// Some.
    HalfOpen {
        /// Most requests in flight.
        limit: u32,
        /// Successes since the limit was last raised.
        good: u32,
    },
}

/// The answers of the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// When it began.
    pub start: Time,
    /// Successes.
    pub good: u32,
    /// Failures.
    pub bad: u32,
    /// The first target that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// Whether another target failed as well.
    #[serde(default)]
    pub several: bool,
}

/// How many slots may be in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The whole budget.
    Whole,
    /// This number of slots of the current epoch.
    Slots(u32),
    /// None for now.
    Halted(Halt),
}

/// Nothing is sent to the origin for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Until then.
    pub until: Time,
    /// Why.
    pub by: HaltedBy,
}

/// Why nothing is sent to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaltedBy {
    /// The origin fails.
    Breaker,
    /// The requests of this hour are used up.
    Rate,
    /// The store fails, and the settings allow no request without it.
    Store,
}

impl HaltedBy {
    /// The name in `Cache-Status` and in the log.
    pub fn token(self) -> &'static str {
        match self {
            HaltedBy::Breaker => "breaker-open",
            HaltedBy::Rate => "rate-used-up",
            HaltedBy::Store => "store-failing",
        }
    }
}

/// How a request to the origin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The origin answered, with whatever is not a failure.
    Good,
    /// It answered with 5xx or 429, or not in time.
    Bad {
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It could not be reached.
    Unreachable,
    /// A page that worked before still does.
    CheckPassed,
    /// It does not.
    CheckFailed {
        /// How long the origin asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// No slot became free to ask for it.
    CheckBusy,
}

/// A request to the origin that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// A hash of its path.
    pub target: u32,
    /// The epoch of the slot under which it was sent.
    pub epoch: u32,
}

impl Breaker {
    /// How many slots a request to `target` may find in use at `now`.
    pub fn limit(&self, target: u32, now: Time, slots: u32) -> Limit {
        match self.phase {
            Phase::Closed => Limit::Whole,
            Phase::Open { until } => {
                let until = match self.probed == Some(target) {
                    true => until.plus(OTHERS_FIRST),
                    false => until,
                };
                match now < until {
                    true => Limit::Halted(Halt {
                        until,
                        by: HaltedBy::Breaker,
                    }),
                    false => Limit::Slots(1),
                }
            }
            Phase::HalfOpen { limit, .. } => Limit::Slots(limit.clamp(1, slots.max(1))),
        }
    }

    /// Until when nothing goes out, if that is later than `now`.
    pub fn open_until(&self, now: Time) -> Option<Time> {
        match self.phase {
            Phase::Open { until } if now < until => Some(until),
            Phase::Open { .. } | Phase::Closed | Phase::HalfOpen { .. } => None,
        }
    }

    /// Notes that a request goes out: after the pause it is the probe.
    pub(super) fn admit(&mut self, target: u32, now: Time) {
        if let Phase::Open { until } = self.phase
            && now >= until
        {
            self.phase = Phase::HalfOpen { limit: 1, good: 0 };
            self.probed = Some(target);
        }
    }

    /// Whether a success is worth a write.
    pub fn wants_success(&self) -> bool {
        !self.failed.is_empty() || matches!(self.phase, Phase::HalfOpen { .. })
    }

    /// Applies what became of a request. `slots` is the whole budget; `random` spreads
    /// the pause, and stands for the target of a request that could not connect.
    pub fn report(
        &mut self,
        report: Report,
        now: Time,
        slots: u32,
        settings: &BreakerSettings,
        random: u64,
    ) {
        if report.epoch != self.epoch {
            // It was sent before the breaker opened: nothing new, but for what the
            // origin asks.
            if let (Phase::Open { until }, Outcome::Bad { retry_after }) =
                (&mut self.phase, report.outcome)
            {
                *until = later(*until, retry_after, now, settings);
            }
            return;
        }
        let (target, retry_after) = match report.outcome {
            Outcome::Good => return self.succeed(now, slots),
            Outcome::CheckPassed => {
                self.checks.pass(now);
                self.window = Window::default();
                return self.succeed(now, slots);
            }
            Outcome::CheckFailed { retry_after } if self.checks.is_known(report.target) => {
                self.checks.fail();
                return self.open(retry_after, now, settings, random);
            }
            // Another page has worked since the check began, and has taken the place of the
            // one that failed. Failures since then are checked by it.
            Outcome::CheckFailed { retry_after } => {
                self.checks.give_up();
                if self.is_failing(settings) && !self.checks.begin(now) {
                    self.open(retry_after, now, settings, random);
                }
                return;
            }
            // All slots wait for the origin, unless a request has ended meanwhile.
            Outcome::CheckBusy => {
                self.checks.give_up();
                if self.is_failing(settings) && !self.checks_again(now) {
                    self.open(None, now, settings, random);
                }
                return;
            }
            // The origin works. It is this page that does not.
            Outcome::Bad { .. } if self.checks.has_passed(now) => return,
            Outcome::Bad { retry_after } => (report.target, retry_after),
            Outcome::Unreachable => ((random >> 32) as u32, None),
        };
        match self.phase {
            Phase::Closed => {
                self.window.roll(now);
                self.window.fail(target);
                if !self.failed.contains(&target) {
                    self.failed.push(target);
                }
            }
            Phase::HalfOpen { .. } => {
                self.failed.truncate(1);
                self.failed.push(target);
            }
            Phase::Open { until } => {
                let until = later(until, retry_after, now, settings);
                self.phase = Phase::Open { until };
                return;
            }
        }
        if self.is_failing(settings) && !self.is_checked(report.outcome, now) {
            self.open(retry_after, now, settings, random);
        }
    }

    /// Whether the failures since the last success are as many as open the breaker.
    fn is_failing(&self, settings: &BreakerSettings) -> bool {
        match self.phase {
            Phase::Closed => {
                let in_a_row = u32::try_from(self.failed.len()).unwrap_or(u32::MAX);
                in_a_row >= settings.failures || self.window.is_bad()
            }
            Phase::HalfOpen { .. } => !self.failed.is_empty(),
            Phase::Open { .. } => false,
        }
    }

    /// Whether a check decides about the failures so far, instead of their number. A
    /// failure to connect needs none.
    fn is_checked(&mut self, outcome: Outcome, now: Time) -> bool {
        outcome != Outcome::Unreachable && self.checks.begin(now)
    }

    /// Begins another check in place of one that got no slot, if pages that fail have kept
    /// it from one. Half open, few slots count, and all visitors want them. Where requests
    /// have failed since the check began, the slots do not wait for the origin: it may work
    /// for other pages.
    fn checks_again(&mut self, now: Time) -> bool {
        if !matches!(self.phase, Phase::HalfOpen { .. }) {
            return false;
        }
        // The first failure began the check.
        let others_failed = self.failed.len() > 1;
        self.failed.truncate(1);
        others_failed && self.checks.begin(now)
    }

    fn succeed(&mut self, now: Time, slots: u32) {
        self.failed.clear();
        // If the check gets no slot, what failed before does not open the breaker.
        if self.checks.state.is_under_way() {
            self.window = Window::default();
        }
        match self.phase {
            Phase::Closed => {
                self.window.roll(now);
                self.window.good = self.window.good.saturating_add(1);
            }
            Phase::HalfOpen { limit, good } => {
                let good = good.saturating_add(1);
                let doubled = limit.saturating_mul(2);
                if good < limit {
                    self.phase = Phase::HalfOpen { limit, good };
                } else if doubled < slots {
                    self.phase = Phase::HalfOpen {
                        limit: doubled,
                        good: 0,
                    };
                } else {
                    *self = Breaker {
                        epoch: self.epoch,
                        checks: std::mem::take(&mut self.checks),
                        ..Breaker::default()
                    };
                }
            }
            Phase::Open { .. } => {}
        }
    }

    fn open(
        &mut self,
        retry_after: Option<Duration>,
        now: Time,
        settings: &BreakerSettings,
        random: u64,
    ) {
        self.openings = self.openings.saturating_add(1).min(OPENINGS_MAX);
        self.epoch = self.epoch.wrapping_add(1);
        self.failed.clear();
        self.window = Window::default();
        let until = now.plus(settings.pause.delay(self.openings, random));
        self.phase = Phase::Open {
            until: later(until, retry_after, now, settings),
        };
    }

    /// The breaker without what cannot be right at `now`.
    pub(super) fn bounded(
        mut self,
        now: Time,
        limits: &Limits,
        settings: &BreakerSettings,
    ) -> Self {
        let latest = now.plus(limits.clock_skew);
        let longest = settings.pause.max.max(settings.retry_after_max);
        if let Phase::Open { until } = &mut self.phase
            && *until > latest.plus(longest)
        {
            *until = now;
        }
        self.openings = self.openings.min(OPENINGS_MAX);
        let most = usize::try_from(FAILURES_MAX).unwrap_or(usize::MAX);
        self.failed.truncate(most);
        if self.window.start > latest {
            self.window = Window::default();
        }
        self.checks = self.checks.bounded(latest);
        self
    }
}

/// The later of `until` and what the origin asks for.
fn later(
    until: Time,
    retry_after: Option<Duration>,
    now: Time,
    settings: &BreakerSettings,
) -> Time {
    let asked = retry_after.map(|pause| now.plus(pause.min(settings.retry_after_max)));
    asked.map_or(until, |asked| asked.max(until))
}

impl Window {
    /// Begins another window if this one is over.
    fn roll(&mut self, now: Time) {
        if now.since(self.start) >= WINDOW {
            *self = Window {
                start: now,
                ..Window::default()
            };
        }
    }

    fn fail(&mut self, target: u32) {
        self.bad = self.bad.saturating_add(1);
        self.several |= self.target.is_some_and(|first| first != target);
        self.target.get_or_insert(target);
    }

    /// Whether half of enough answers, of several targets, were failures.
    fn is_bad(&self) -> bool {
        let all = self.good.saturating_add(self.bad);
        self.several && all >= WINDOW_MIN && self.bad >= all.div_ceil(2)
    }
}
