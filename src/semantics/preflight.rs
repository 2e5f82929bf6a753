//! How long the answer to a CORS preflight may be used (Fetch standard, section 4.9).

use super::audience::Audience;
use super::fields::single;
use super::freshness::Freshness;
use super::line::trim;
use super::policy::Policy;
use super::reason::Reason;
use super::storable::{Kept, Storability};
use crate::time::{Time, millis};
use http::header::ACCESS_CONTROL_MAX_AGE;
use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// The lifetime of an answer that states none, as the Fetch standard has it.
const PREFLIGHT_AGE: Duration = Duration::from_secs(5);

/// The longest lifetime.
const PREFLIGHT_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Decides about the answer to a preflight, and how long it may be used.
///
/// A successful one is used for its `Access-Control-Max-Age`, at most
/// [`PREFLIGHT_AGE_MAX`], and for the operator's stale-if-error window after that if the
/// origin fails. `Cache-Control` is about other caches, which store no answer to
/// OPTIONS. Any other answer is given to those that asked before it came, and not kept.
pub fn storability_of_preflight(
    status: StatusCode,
    response_headers: &HeaderMap,
    response_time: Time,
    policy: &Policy,
) -> Storability {
    let kept = |lifetime, stale_if_error, must_revalidate| Kept {
        freshness: Freshness {
            lifetime_ms: millis(lifetime),
            initial_age_ms: 0,
            response_time,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: millis(stale_if_error),
            must_revalidate,
            no_cache: false,
            immutable: false,
            alone: 0,
            each_use: false,
        },
        audience: Audience::Everyone,
    };
    match status.is_success() && status != StatusCode::PARTIAL_CONTENT {
        true => {
            let lifetime = lifetime(response_headers);
            Storability::Store(kept(lifetime, policy.stale_if_error, false))
        }
        false => {
            let nothing = Duration::ZERO;
            Storability::Brief(kept(nothing, nothing, true), Reason::Failure)
        }
    }
}

/// The lifetime that an answer states. What is no number of seconds counts as absent;
/// browsers read a negative one as zero.
fn lifetime(response_headers: &HeaderMap) -> Duration {
    let Some(value) = single(response_headers, &ACCESS_CONTROL_MAX_AGE) else {
        return PREFLIGHT_AGE;
    };
    let text = trim(value.as_bytes());
    let (digits, negative) = match text.strip_prefix(b"-") {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return PREFLIGHT_AGE;
    }
    let seconds = digits.iter().fold(0_u64, |seconds, digit| {
        let digit = u64::from(digit.saturating_sub(b'0'));
        seconds.saturating_mul(10).saturating_add(digit)
    });
    match negative {
        true => Duration::ZERO,
        false => Duration::from_secs(seconds).min(PREFLIGHT_AGE_MAX),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::HeaderValue;

    fn seconds(lines: &[&str]) -> u64 {
        let headers: HeaderMap = lines
            .iter()
            .map(|line| {
                let value = HeaderValue::from_str(line).unwrap();
                (ACCESS_CONTROL_MAX_AGE, value)
            })
            .collect();
        lifetime(&headers).as_secs()
    }

    #[test]
    fn the_lifetime_is_the_stated_one_within_its_bound() {
        for (lines, expected) in [
            (&[][..], 5),
            (&["600"], 600),
            (&[" 600 "], 600),
            (&["0"], 0),
            (&["-1"], 0),
            (&["86400"], 86_400),
            (&["86401"], 86_400),
            (&["99999999999999999999999"], 86_400),
            (&["1.5"], 5),
            (&["soon"], 5),
            (&[""], 5),
            (&["-"], 5),
            (&["600", "600"], 5),
        ] {
            assert_eq!(seconds(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_successful_answer_is_kept_and_others_are_not() {
        let policy = Policy::default();
        let now = Time::from_unix_millis(1_000_000);
        let later = |seconds| now.plus(Duration::from_secs(seconds));
        for (status, stored) in [
            (200, true),
            (204, true),
            (206, false),
            (302, false),
            (403, false),
            (404, false),
            (405, false),
            (503, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let kept = match storability_of_preflight(status, &HeaderMap::new(), now, &policy) {
                Storability::Store(kept) => {
                    assert!(stored, "{status}");
                    kept
                }
                Storability::Brief(kept, _) => {
                    assert!(!stored, "{status}");
                    kept
                }
                Storability::DoNotStore(reason) => unreachable!("{reason}"),
            };
            let freshness = kept.freshness;
            assert_eq!(freshness.is_fresh(later(4)), stored, "{status}");
            assert!(!freshness.is_fresh(later(5)));
            assert!(!freshness.may_serve_while_revalidating(later(6)));
            assert_eq!(freshness.may_serve_on_error(later(3_600)), stored);
            let over = 5 + policy.stale_if_error.as_secs();
            assert!(!freshness.may_serve_on_error(later(over)));
        }
    }
}
