//! Whether an entry answers a request (RFC 9111 section 4).

use super::freshness::Freshness;
use super::policy::Preset;
use super::request::{MaxStale, RequestDirectives};
use crate::time::{Time, millis};

/// What to do with an entry that was found for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer with it.
    Fresh,
    /// Answer with it at once, and refresh behind the answer.
    StaleWhileRevalidate,
    /// Ask the origin first. A request with `only-if-cached` gets 504 instead.
    Revalidate {
        /// Whether to answer with it if the origin fails: unreachable, or 5xx.
        on_error: bool,
    },
}

/// Decides about an entry. `invalidated` says that an unsafe request has touched
/// its key since it was stored: what the visitor wrote must be seen, so the
/// origin is asked first, and only `uptime` falls back on the entry.
pub fn verdict(
    freshness: &Freshness,
    request: &RequestDirectives,
    preset: Preset,
    invalidated: bool,
    now: Time,
) -> Verdict {
    let request = counted(request, preset);
    if invalidated {
        let on_error = match preset {
            Preset::Strict => false,
            Preset::Uptime => freshness.may_serve_on_error(now),
        };
        return Verdict::Revalidate { on_error };
    }
    if freshness.no_cache {
        return Verdict::Revalidate { on_error: false };
    }
    if freshness.is_fresh(now) {
        if satisfied_fresh(freshness, &request, now) {
            return Verdict::Fresh;
        }
    } else if satisfied_stale(freshness, &request, now) {
        return Verdict::StaleWhileRevalidate;
    }
    Verdict::Revalidate {
        on_error: freshness.may_serve_on_error(now)
            || visitor_accepts_on_error(freshness, &request, now),
    }
}

/// The directives that count: a visitor cannot send a fragile origin a request
/// that the entry's freshness would have spared it, unless the operator chose `strict`.
fn counted(request: &RequestDirectives, preset: Preset) -> RequestDirectives {
    match preset {
        Preset::Strict => *request,
        Preset::Uptime => RequestDirectives {
            no_cache: false,
            max_age: None,
            min_fresh: None,
            ..*request
        },
    }
}

/// Whether a fresh entry is what the request wants (RFC 9111 sections 5.2.1.1,
/// 5.2.1.3 and 5.2.1.4).
fn satisfied_fresh(freshness: &Freshness, request: &RequestDirectives, now: Time) -> bool {
    let age = freshness.current_age(now);
    // RFC 8246 section 2: a reload says `max-age=0` without doubting the
    // entry; `no-cache` is the sign that the visitor does.
    let young = freshness.immutable
        || request
            .max_age
            .is_none_or(|limit| age <= limit && !limit.is_zero());
    let left = freshness.lifetime_ms.saturating_sub(millis(age));
    let lasting = request.min_fresh.is_none_or(|least| left >= millis(least));
    !request.no_cache && young && lasting
}

/// Whether a stale entry is what the request wants: within the origin's or the
/// operator's window (RFC 5861 section 3) unless the visitor limits its age, or
/// within the visitor's own (RFC 9111 section 5.2.1.2).
fn satisfied_stale(freshness: &Freshness, request: &RequestDirectives, now: Time) -> bool {
    if request.no_cache || request.min_fresh.is_some() {
        return false;
    }
    if request
        .max_age
        .is_some_and(|limit| freshness.current_age(now) > limit)
    {
        return false;
    }
    let welcome = match request.max_stale {
        None => false,
        Some(MaxStale::Any) => !freshness.must_revalidate,
        Some(MaxStale::Within(limit)) => {
            !freshness.must_revalidate && freshness.stale_for_ms(now) <= millis(limit)
        }
    };
    welcome || (request.max_age.is_none() && freshness.may_serve_while_revalidating(now))
}

/// RFC 5861 section 4: `stale-if-error` in a request.
fn visitor_accepts_on_error(freshness: &Freshness, request: &RequestDirectives, now: Time) -> bool {
    !freshness.must_revalidate
        && request
            .stale_if_error
            .is_some_and(|limit| freshness.stale_for_ms(now) < millis(limit))
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{arbitrary_map, map};
    use super::super::freshness::tests::{EXAMPLE, arbitrary_freshness, at};
    use super::*;
    use proptest::prelude::*;

    const ASK: Verdict = Verdict::Revalidate { on_error: false };
    const ASK_OR_SERVE: Verdict = Verdict::Revalidate { on_error: true };

    fn ruling(freshness: Freshness, directives: &str, preset: Preset, second: u64) -> Verdict {
        let request = RequestDirectives::parse(&map(&[("cache-control", directives)]));
        verdict(&freshness, &request, preset, false, at(second))
    }

    #[test]
    fn without_directives_the_windows_decide() {
        for preset in [Preset::Strict, Preset::Uptime] {
            for (second, expected) in [
                (0, Verdict::Fresh),
                (49, Verdict::Fresh),
                (50, Verdict::StaleWhileRevalidate),
                (69, Verdict::StaleWhileRevalidate),
                (70, ASK_OR_SERVE),
                (109, ASK_OR_SERVE),
                (110, ASK),
            ] {
                assert_eq!(ruling(EXAMPLE, "", preset, second), expected, "{second}");
            }
        }
    }

    #[test]
    fn request_directives_count_in_strict_and_cannot_force_in_uptime() {
        use Verdict::{Fresh, StaleWhileRevalidate};
        // The entry's age is 10 s more than the second.
        for (directives, second, strict, uptime) in [
            ("no-cache", 0, ASK_OR_SERVE, Fresh),
            ("no-cache", 55, ASK_OR_SERVE, StaleWhileRevalidate),
            ("no-cache", 200, ASK, ASK),
            ("max-age=0", 0, ASK_OR_SERVE, Fresh),
            ("max-age=10", 0, Fresh, Fresh),
            ("max-age=10", 1, ASK_OR_SERVE, Fresh),
            ("max-age=x", 0, ASK_OR_SERVE, Fresh),
            ("max-age=1000", 55, ASK_OR_SERVE, StaleWhileRevalidate),
            (
                "max-age=1000, max-stale",
                55,
                StaleWhileRevalidate,
                StaleWhileRevalidate,
            ),
            (
                "max-age=20, max-stale",
                55,
                ASK_OR_SERVE,
                StaleWhileRevalidate,
            ),
            ("min-fresh=50", 0, Fresh, Fresh),
            ("min-fresh=51", 0, ASK_OR_SERVE, Fresh),
            ("min-fresh=1", 55, ASK_OR_SERVE, StaleWhileRevalidate),
            ("max-stale", 500, StaleWhileRevalidate, StaleWhileRevalidate),
            (
                "max-stale=30",
                80,
                StaleWhileRevalidate,
                StaleWhileRevalidate,
            ),
            ("max-stale=29", 80, ASK_OR_SERVE, ASK_OR_SERVE),
            ("max-stale=x", 80, ASK_OR_SERVE, ASK_OR_SERVE),
            ("stale-if-error=100", 149, ASK_OR_SERVE, ASK_OR_SERVE),
            ("stale-if-error=100", 150, ASK, ASK),
            ("no-store, only-if-cached", 0, Fresh, Fresh),
        ] {
            assert_eq!(
                ruling(EXAMPLE, directives, Preset::Strict, second),
                strict,
                "{directives} {second}"
            );
            assert_eq!(
                ruling(EXAMPLE, directives, Preset::Uptime, second),
                uptime,
                "{directives} {second}"
            );
        }
    }

    #[test]
    fn zero_age_asks_even_for_what_has_just_come() {
        let newborn = Freshness {
            initial_age_ms: 0,
            ..EXAMPLE
        };
        assert_eq!(
            ruling(newborn, "max-age=0", Preset::Strict, 0),
            ASK_OR_SERVE
        );
        assert_eq!(
            ruling(newborn, "max-age=1", Preset::Strict, 0),
            Verdict::Fresh
        );
    }

    #[test]
    fn immutable_spares_reloads_but_not_doubts() {
        let immutable = Freshness {
            immutable: true,
            ..EXAMPLE
        };
        assert_eq!(
            ruling(immutable, "max-age=0", Preset::Strict, 0),
            Verdict::Fresh
        );
        assert_eq!(
            ruling(immutable, "no-cache", Preset::Strict, 0),
            ASK_OR_SERVE
        );
        assert_eq!(
            ruling(immutable, "max-age=0", Preset::Strict, 55),
            ASK_OR_SERVE
        );
    }

    #[test]
    fn bars_hold_against_visitors() {
        let barred = Freshness {
            must_revalidate: true,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            ..EXAMPLE
        };
        for preset in [Preset::Strict, Preset::Uptime] {
            for directives in ["", "max-stale", "stale-if-error=9999"] {
                assert_eq!(ruling(barred, directives, preset, 49), Verdict::Fresh);
                assert_eq!(ruling(barred, directives, preset, 50), ASK, "{directives}");
            }
            let no_cache = Freshness {
                no_cache: true,
                ..EXAMPLE
            };
            assert_eq!(
                ruling(no_cache, "max-stale, stale-if-error=9999", preset, 0),
                ASK
            );
        }
    }

    #[test]
    fn what_was_invalidated_is_asked_for_first() {
        let request = RequestDirectives {
            max_stale: Some(MaxStale::Any),
            ..RequestDirectives::default()
        };
        for (second, strict, uptime) in [
            (0, ASK, ASK_OR_SERVE),
            (55, ASK, ASK_OR_SERVE),
            (110, ASK, ASK),
        ] {
            assert_eq!(
                verdict(&EXAMPLE, &request, Preset::Strict, true, at(second)),
                strict
            );
            assert_eq!(
                verdict(&EXAMPLE, &request, Preset::Uptime, true, at(second)),
                uptime
            );
        }
    }

    proptest! {
        #[test]
        fn a_bar_is_never_passed(freshness in arbitrary_freshness(), headers in arbitrary_map(), now in any::<u64>(), strict in any::<bool>(), invalidated in any::<bool>()) {
            let freshness = Freshness { must_revalidate: true, stale_while_revalidate_ms: 0, stale_if_error_ms: 0, ..freshness };
            let preset = if strict { Preset::Strict } else { Preset::Uptime };
            let now = Time::from_unix_millis(now);
            let verdict = verdict(&freshness, &RequestDirectives::parse(&headers), preset, invalidated, now);
            match verdict {
                Verdict::Fresh => prop_assert!(freshness.is_fresh(now) && !invalidated),
                Verdict::StaleWhileRevalidate => prop_assert!(false, "stale despite the bar"),
                Verdict::Revalidate { on_error } => prop_assert!(!on_error || freshness.is_fresh(now)),
            }
        }
    }
}
