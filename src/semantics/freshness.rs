//! How long a response is fresh, and how long it may be used after that.

use crate::time::{Time, millis};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is kept with an entry, so that a hit parses no fields.
///
/// The operator's policy is folded in when the response is stored: the windows
/// are already zero where stale use is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// Freshness lifetime in milliseconds (RFC 9111 section 4.2.1).
    pub lifetime_ms: u64,
    /// `corrected_initial_age` in milliseconds at `response_time` (RFC 9111 section 4.2.3).
    pub initial_age_ms: u64,
    /// When the response was received.
    pub response_time: Time,
    /// How long after expiry it may be served while a refresh runs behind the
    /// answer, in milliseconds (RFC 5861 section 3).
    pub stale_while_revalidate_ms: u64,
    /// How long after expiry it may be served if the origin fails, in
    /// milliseconds (RFC 5861 section 4, RFC 9111 section 4.2.4).
    pub stale_if_error_ms: u64,
    /// Stale use without successful validation is forbidden, but for the windows
    /// above: a visitor's `max-stale` does not count (RFC 9111 section 4.2.4).
    pub must_revalidate: bool,
    /// Validate before every use, and do without the entry if that fails (RFC
    /// 9111 section 5.2.2.4).
    pub no_cache: bool,
    /// While fresh, a visitor's reload needs no validation (RFC 8246 section 2).
    pub immutable: bool,
    /// How many answers in a row were each for the request alone that caused the fetch;
    /// counted to 255. Zero: requests that waited for the fetch may have the entry.
    ///
    /// An answer with content that says `no-cache`, or states a lifetime of zero, may be
    /// one visitor's token (RFC 9111 section 5.2.2.4). A 304 makes it zero: what it
    /// confirms is known to be the same for all that asked before it came.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub alone: u8,
    /// The origin wants to be asked before each use: `no-cache`, or a stated lifetime of
    /// zero without a window for stale use at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub each_use: bool,
}

/// Entries of earlier versions do not have the field.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u8) -> bool {
    *count == 0
}

impl Freshness {
    /// Current age (RFC 9111 section 4.2.3). A clock that has gone back, or
    /// another node's that is behind, makes it no lower than the initial age.
    pub fn current_age(&self, now: Time) -> Duration {
        Duration::from_millis(self.initial_age_ms).saturating_add(now.since(self.response_time))
    }

    /// Whether it may be used without asking the origin, if the request does
    /// not say otherwise: the lifetime exceeds the age (RFC 9111 section 4.2),
    /// and `no-cache` is absent.
    pub fn is_fresh(&self, now: Time) -> bool {
        !self.no_cache && self.lifetime_ms > millis(self.current_age(now))
    }

    /// Has the lifetime end at `moment`, if it does not end before. The stale
    /// windows follow it.
    pub fn end_at(&mut self, moment: Time) {
        self.lifetime_ms = self.lifetime_ms.min(millis(self.current_age(moment)));
    }

    /// What remains of the lifetime, in milliseconds; negative when stale.
    pub fn ttl_ms(&self, now: Time) -> i64 {
        let left = i128::from(self.lifetime_ms) - i128::from(millis(self.current_age(now)));
        i64::try_from(left).unwrap_or(if left < 0 { i64::MIN } else { i64::MAX })
    }

    /// What remains of the lifetime, in whole seconds rounded down; negative when stale.
    pub fn ttl(&self, now: Time) -> i64 {
        self.ttl_ms(now).div_euclid(1_000)
    }

    /// Whether it is stale, and may be answered with while a refresh runs behind.
    pub fn may_serve_while_revalidating(&self, now: Time) -> bool {
        !self.no_cache
            && !self.is_fresh(now)
            && self.stale_for_ms(now) < self.stale_while_revalidate_ms
    }

    /// Whether it may be answered with if the origin fails now: it is fresh, or
    /// it is stale and inside one of its windows.
    pub fn may_serve_on_error(&self, now: Time) -> bool {
        !self.no_cache
            && (self.is_fresh(now)
                || self.stale_for_ms(now)
                    < self.stale_if_error_ms.max(self.stale_while_revalidate_ms))
    }

    /// How long it has been stale, in milliseconds; zero while the lifetime lasts.
    pub fn stale_for_ms(&self, now: Time) -> u64 {
        millis(self.current_age(now)).saturating_sub(self.lifetime_ms)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn at(seconds: u64) -> Time {
        Time::from_unix_millis(1_000_000_000_000 + seconds * 1_000)
    }

    /// Received at second 0 with age 10, fresh to second 50, SWR to 70, SIE to 110.
    pub(in super::super) const EXAMPLE: Freshness = Freshness {
        lifetime_ms: 60_000,
        initial_age_ms: 10_000,
        response_time: Time::from_unix_millis(1_000_000_000_000),
        stale_while_revalidate_ms: 20_000,
        stale_if_error_ms: 60_000,
        must_revalidate: false,
        no_cache: false,
        immutable: false,
        alone: 0,
        each_use: false,
    };

    #[test]
    fn windows_follow_each_other() {
        for (second, fresh, swr, error, ttl) in [
            (0, true, false, true, 50),
            (49, true, false, true, 1),
            (50, false, true, true, 0),
            (69, false, true, true, -19),
            (70, false, false, true, -20),
            (109, false, false, true, -59),
            (110, false, false, false, -60),
        ] {
            let now = at(second);
            assert_eq!(EXAMPLE.is_fresh(now), fresh, "{second}");
            assert_eq!(EXAMPLE.may_serve_while_revalidating(now), swr, "{second}");
            assert_eq!(EXAMPLE.may_serve_on_error(now), error, "{second}");
            assert_eq!(EXAMPLE.ttl(now), ttl, "{second}");
        }
        assert_eq!(EXAMPLE.current_age(at(5)), Duration::from_secs(15));
        // Another node's clock is behind: no younger than received.
        assert_eq!(
            EXAMPLE.current_age(EXAMPLE.response_time.minus(Duration::from_secs(9))),
            Duration::from_secs(10)
        );
        // Part of a second over is over.
        assert_eq!(EXAMPLE.ttl(at(50).plus(Duration::from_millis(1))), -1);
    }

    #[test]
    fn a_longer_swr_window_covers_failure_too() {
        let freshness = Freshness {
            stale_if_error_ms: 0,
            ..EXAMPLE
        };
        assert!(freshness.may_serve_on_error(at(69)));
        assert!(!freshness.may_serve_on_error(at(70)));
    }

    #[test]
    fn no_cache_needs_validation_always() {
        let freshness = Freshness {
            no_cache: true,
            ..EXAMPLE
        };
        assert!(!freshness.is_fresh(at(0)));
        assert!(!freshness.may_serve_while_revalidating(at(55)));
        assert!(!freshness.may_serve_on_error(at(0)));
    }

    pub(in super::super) fn arbitrary_freshness() -> impl Strategy<Value = Freshness> {
        let number = || prop_oneof![any::<u64>(), 0..100_000u64, Just(u64::MAX)];
        (
            number(),
            number(),
            number(),
            number(),
            number(),
            any::<(bool, bool, bool, u8, bool)>(),
        )
            .prop_map(
                |(
                    lifetime_ms,
                    initial_age_ms,
                    response_time,
                    swr,
                    sie,
                    (must_revalidate, no_cache, immutable, alone, each_use),
                )| Freshness {
                    lifetime_ms,
                    initial_age_ms,
                    response_time: Time::from_unix_millis(response_time),
                    stale_while_revalidate_ms: swr,
                    stale_if_error_ms: sie,
                    must_revalidate,
                    no_cache,
                    immutable,
                    alone,
                    each_use,
                },
            )
    }

    proptest! {
        #[test]
        fn arithmetic_never_overflows(freshness in arbitrary_freshness(), now in any::<u64>()) {
            let now = Time::from_unix_millis(now);
            prop_assert!(freshness.current_age(now) >= Duration::from_millis(freshness.initial_age_ms));
            let _ = freshness.ttl(now);
            if freshness.is_fresh(now) {
                prop_assert!(freshness.ttl_ms(now) > 0);
                prop_assert!(!freshness.may_serve_while_revalidating(now));
            }
        }

        #[test]
        fn age_only_grows(freshness in arbitrary_freshness(), a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (Time::from_unix_millis(a.min(b)), Time::from_unix_millis(a.max(b)));
            prop_assert!(freshness.current_age(a) <= freshness.current_age(b));
            prop_assert!(freshness.is_fresh(a) || !freshness.is_fresh(b));
            prop_assert!(freshness.may_serve_on_error(a) || !freshness.may_serve_on_error(b));
        }

        #[test]
        fn what_is_stored_is_read(freshness in arbitrary_freshness()) {
            let text = serde_json::to_string(&freshness).unwrap();
            prop_assert_eq!(serde_json::from_str::<Freshness>(&text).unwrap(), freshness);
        }
    }
}
