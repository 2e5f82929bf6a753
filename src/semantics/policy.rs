//! What the operator says about freshness and stale use, as the rules here need it.

use std::time::Duration;

/// How far the operator overrules the origin and the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Only what origin and client allow.
    Strict,
    /// Besides, the operator's stale windows apply to every response that does
    /// not forbid stale use, and visitors cannot force a refresh.
    Uptime,
}

/// Which of the origin's words a rule of the operator's sets aside, for the
/// paths that the rule names. All false by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IgnoreOrigin {
    /// `private` does not prevent storing, nor does `private="…"` remove fields.
    pub private: bool,
    /// `no-cache` asks for no validation, nor does `no-cache="…"` remove fields.
    pub no_cache: bool,
    /// `no-store` does not prevent storing.
    pub no_store: bool,
    /// `must-revalidate`, `proxy-revalidate` and what `s-maxage` implies do not
    /// forbid stale use.
    pub must_revalidate: bool,
    /// `Set-Cookie` is removed before storing instead of preventing it.
    pub set_cookie: bool,
}

/// The operator's settings that decide about one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How far the operator overrules the origin.
    pub preset: Preset,
    /// A rule's lifetime: it replaces whatever the origin says about freshness.
    /// Errors of the origin (5xx) that say nothing about it do not get it.
    pub ttl: Option<Duration>,
    /// Least lifetime of responses that say nothing about freshness and whose
    /// status is cacheable by default. Zero: none. Not for answers to requests
    /// with `Cookie`, which may be one visitor's.
    pub default_ttl: Duration,
    /// The longest lifetime that is guessed from `Last-Modified` (RFC 9111
    /// section 4.2.2). Zero: nothing is guessed.
    pub heuristic_max: Duration,
    /// Preset `uptime`: least stale-while-revalidate window of every response
    /// that does not forbid stale use. Preset `strict` does not use it.
    pub stale_while_revalidate: Duration,
    /// Preset `uptime`: least stale-if-error window of every response that does
    /// not forbid stale use. Preset `strict`: the window of every response that
    /// neither states one nor forbids stale use (RFC 9111 section 4.2.4).
    pub stale_if_error: Duration,
    /// How far expiry is spread, in thousandths of the lifetime. Not applied
    /// here: the caller has the random numbers.
    pub jitter_per_mille: u16,
    /// What a rule sets aside.
    pub ignore_origin: IgnoreOrigin,
}

impl Policy {
    /// The defaults of a preset. `strict` has no default TTL: the origin's
    /// silence is not leave.
    pub fn of(preset: Preset) -> Self {
        Policy {
            preset,
            ttl: None,
            default_ttl: match preset {
                Preset::Strict => Duration::ZERO,
                Preset::Uptime => Duration::from_secs(60),
            },
            heuristic_max: Duration::from_secs(24 * 3_600),
            stale_while_revalidate: Duration::from_secs(3_600),
            stale_if_error: Duration::from_secs(7 * 24 * 3_600),
            jitter_per_mille: 100,
            ignore_origin: IgnoreOrigin::default(),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy::of(Preset::Uptime)
    }
}
