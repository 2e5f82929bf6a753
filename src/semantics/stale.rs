//! How long a stale response may be used (RFC 5861, RFC 9111 section 4.2.4):
//! the origin's word, and the operator's where the preset lets it count.

use super::directives::Seconds;
use super::policy::{Policy, Preset};
use super::response::{ResponseDirectives, Scope};
use crate::time::millis;
use std::time::Duration;

/// Whether stale use without validation is forbidden (RFC 9111 section 4.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bar {
    /// It is not.
    None,
    /// By `s-maxage`, whose bar is implied (RFC 9111 section 5.2.2.10).
    Implied,
    /// By a directive that says so, such as `must-revalidate`.
    Stated,
}

pub(super) fn bar(said: &ResponseDirectives, policy: &Policy) -> Bar {
    if said.must_revalidate || said.proxy_revalidate {
        Bar::Stated
    } else if said.s_maxage.is_some() && !policy.ignore_origin.must_revalidate {
        Bar::Implied
    } else {
        Bar::None
    }
}

/// Stale-while-revalidate and stale-if-error windows in milliseconds.
pub(super) fn stale_windows(said: &ResponseDirectives, policy: &Policy) -> (u64, u64) {
    let stated = |directive: Option<Seconds>| {
        directive
            .and_then(Seconds::valid)
            .map(|seconds| u64::from(seconds).saturating_mul(1_000))
    };
    let while_revalidating = stated(said.stale_while_revalidate);
    let on_error = stated(said.stale_if_error);
    if said.no_cache == Scope::Everything {
        return (0, 0);
    }
    match (bar(said, policy), policy.preset) {
        (Bar::Stated, Preset::Strict | Preset::Uptime) | (Bar::Implied, Preset::Strict) => (0, 0),
        // The origin's own windows beside its own `s-maxage` say what it means
        // better than what `s-maxage` implies; the operator's do not apply.
        (Bar::Implied, Preset::Uptime) => (while_revalidating.unwrap_or(0), on_error.unwrap_or(0)),
        (Bar::None, Preset::Strict) => (
            while_revalidating.unwrap_or(0),
            on_error.unwrap_or_else(|| millis(policy.stale_if_error)),
        ),
        (Bar::None, Preset::Uptime) => (
            at_least(while_revalidating, policy.stale_while_revalidate),
            at_least(on_error, policy.stale_if_error),
        ),
    }
}

/// The longer of the origin's window and the operator's; a stated zero is a refusal.
fn at_least(stated: Option<u64>, floor: Duration) -> u64 {
    match stated {
        Some(0) => 0,
        Some(window) => window.max(millis(floor)),
        None => millis(floor),
    }
}
