//! The operator's settings about freshness and stale use.

use std::hash::{DefaultHasher, Hash, Hasher};
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

/// Which instructions of the origin do not apply to the requests of a rule. All
/// false by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IgnoreOrigin {
    /// `private` does not prevent storing, nor does `private="…"` remove fields.
    pub private: bool,
    /// `no-cache` and a stated lifetime of zero do not require validation, nor does
    /// `no-cache="…"` remove fields.
    pub no_cache: bool,
    /// `no-store` does not prevent storing.
    pub no_store: bool,
    /// `must-revalidate`, `proxy-revalidate` and what `s-maxage` implies do not
    /// forbid stale use.
    pub must_revalidate: bool,
    /// `Set-Cookie` is removed before storing instead of preventing it.
    pub set_cookie: bool,
}

/// Which stale windows a rule has set for its requests, in place of those of the settings
/// for all. All false by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RuledWindows {
    /// `freshness.stale_while_revalidate`.
    pub stale_while_revalidate: bool,
    /// `freshness.stale_if_error`.
    pub stale_if_error: bool,
}

/// The operator's settings that decide about one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How far the operator overrules the origin.
    pub preset: Preset,
    /// A rule's lifetime, which replaces the one that the origin states. Errors
    /// of the origin (5xx) that state no lifetime do not get it.
    pub ttl: Option<Duration>,
    /// Least lifetime of responses that state none and whose status is cacheable
    /// by default. Zero: none. It does not apply to answers to requests with
    /// `Cookie`, which may be one visitor's.
    pub default_ttl: Duration,
    /// The longest lifetime that is derived from `Last-Modified` (RFC 9111
    /// section 4.2.2). Zero: none is derived.
    pub heuristic_max: Duration,
    /// Preset `uptime`: least stale-while-revalidate window of every response
    /// that does not forbid stale use. Preset `strict` does not use it.
    pub stale_while_revalidate: Duration,
    /// Preset `uptime`: least stale-if-error window of every response that does
    /// not forbid stale use. Preset `strict`: the window of every response that
    /// neither states one nor forbids stale use (RFC 9111 section 4.2.4).
    pub stale_if_error: Duration,
    /// Which of the two windows a rule has set. Those apply to responses too that state a
    /// lifetime of zero.
    pub ruled_windows: RuledWindows,
    /// How far expiry is spread, in thousandths of the lifetime. The caller
    /// applies it, because it has the random numbers.
    pub jitter_per_mille: u16,
    /// How long an answer that is an error, or may not be kept, is shared by
    /// the requests that asked the same question.
    pub error_ttl: Duration,
    /// The longest lifetime of an error (4xx or 5xx) that states its own.
    pub error_ttl_max: Duration,
    /// Whether a response that states no freshness may be stored at all.
    pub store_silent: bool,
    /// Which instructions of the origin do not apply.
    pub ignore_origin: IgnoreOrigin,
}

impl Policy {
    /// Tells settings apart: stored beside what they have decided. Never zero. Another build
    /// may have another mark for the same settings, which costs it a second decision.
    pub fn mark(&self) -> u32 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let hash = hasher.finish();
        let folded = (hash ^ (hash >> 32)) & u64::from(u32::MAX);
        u32::try_from(folded).unwrap_or(u32::MAX).max(1)
    }

    /// The defaults of a preset. `strict` has no default TTL, because RFC 9111
    /// does not give a lifetime to responses that state none.
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
            ruled_windows: RuledWindows::default(),
            jitter_per_mille: 100,
            error_ttl: Duration::from_secs(1),
            error_ttl_max: Duration::from_secs(60),
            store_silent: true,
            ignore_origin: IgnoreOrigin::default(),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy::of(Preset::Uptime)
    }
}
