//! What an operator can set.
//!
//! [`Config::parse`] takes the TOML text of the variable `config`. Every option
//! is defined once, in [`OPTIONS`]: its name, default, bounds and meaning. The
//! defaults, the validation, the messages and the reference in `docs/` are made
//! from the definitions. An unknown or wrong setting is an error that says where
//! it is and what to write instead.
//!
//! Settings for some paths are rules: [`Config::chosen`] gives the settings for
//! a request.

mod bytes;
mod contradictions;
mod duration;
mod fallback;
mod names;
mod options;
mod path;
mod problem;
mod purging;
mod reference;
mod rule;
mod settings;
mod suggest;
mod value;

pub(crate) use contradictions::Contradiction;
pub use duration::parse as parse_duration;
pub(crate) use duration::show as show_duration;
pub use fallback::{FALLBACK_BODY_MAX, Fallback};
pub use names::Refused;
pub use options::{Definition, OPTIONS};
pub use path::{PATTERN_MAX, PathPattern, STARS_MAX};
pub use problem::{ConfigError, Problem};
pub use purging::{INVALIDATES_MAX, Invalidated};
pub use reference::reference;
pub use rule::{Match, RULES_MAX, Rule};
pub use value::{FIELD_VALUE_MAX, Kind, LIST_MAX};

use crate::cell::transition::Backoff;
pub use crate::question::{Origin, OriginError};

use crate::purges::Tag;
use crate::question::policy::{Failure, KeyPolicy, Pattern, RequestPolicy};
use crate::semantics::{BrowserTtl, ConnectionAuth, Policy, Preset};
use contradictions::Further;
use http::{HeaderValue, Method};
use problem::Problems;
use settings::{Places, Reader, Scope};
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;
use toml::de::DeTable;

/// Every setting, valid, and with its default if the operator has not set it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Preset and freshness, as the HTTP rules need them.
    pub policy: Policy,
    /// How long visitors are told to keep answers.
    pub browser_ttl: BrowserTtl,
    /// Whether entries in use are refreshed shortly before they expire.
    pub early_refresh: bool,
    /// How to treat the origin.
    pub origin: OriginConfig,
    /// What the origin sees of all nodes together.
    pub budget: BudgetConfig,
    /// How leases are timed.
    pub lease: LeaseConfig,
    /// How long requests wait for each other.
    pub wait: WaitConfig,
    /// How the key of a request is made.
    pub key: KeyPolicy,
    /// What becomes of the fields of a request.
    pub request: RequestPolicy,
    /// What becomes of the fields of a response.
    pub response: ResponseConfig,
    /// Which answers are failures of the origin besides those that HTTP calls
    /// so.
    pub failure: Failure,
    /// What GET and HEAD get where nothing stored helps and the origin has no answer.
    pub fallback: Option<Fallback>,
    /// Whether a rule has all requests forwarded, and none stored.
    pub pass: bool,
    /// What unsafe requests do to what is stored for their targets.
    pub invalidate: Invalidation,
    /// What they invalidate besides.
    pub invalidates: Vec<Invalidated>,
    /// Tags of the answers, for purges.
    pub tags: Vec<Tag>,
    /// The admin interface.
    pub admin: AdminConfig,
    /// What is fetched when a node starts.
    pub warm: WarmConfig,
    /// What is accepted and kept.
    pub limits: Limits,
    /// Settings for some paths. The first rule that matches wins.
    pub rules: Vec<Rule>,
    /// Paths that a monitor watches.
    health_paths: Vec<PathPattern>,
    /// The implicit rules for `health.paths`, which come after all others.
    pub health: Vec<Rule>,
    /// What is valid, and probably not meant so: each with its place and what to write.
    pub warnings: Vec<Problem>,
}

/// What an unsafe request that succeeds does to what is stored for its targets (RFC 9111
/// section 4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Invalidation {
    /// It is not used before the origin has been asked.
    #[default]
    Invalidate,
    /// It is stale: served, and refreshed once.
    Refresh,
    /// Nothing. For pages that post to themselves and do not change by it.
    Nothing,
}

/// Most chunks of a body, at half of `limits.chunk` each.
pub const CHUNKS_MAX: u32 = 4_096;

/// How to treat the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginConfig {
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time to the response head of what fills the cache.
    pub first_byte_timeout: Duration,
    /// Longest pause in a response body.
    pub between_bytes_timeout: Duration,
    /// Longest time for a fetch under a lease, body included.
    pub fill_timeout: Duration,
    /// Longest time from the end of a forwarded request to the response head.
    pub pass_timeout: Duration,
    /// How long a request waits for the origin if there is an entry that may be
    /// served when the origin fails.
    pub soft_timeout: Duration,
    /// How long a key is not refreshed after its refresh failed.
    pub retry: Backoff,
    /// The longest `Retry-After` that is honoured.
    pub retry_after_max: Duration,
    /// How long a key whose response could not be stored is remembered as such.
    pub pass: Duration,
    /// Whether a visitor with credentials gets a page that was made for visitors
    /// without, if the origin fails.
    pub pass_fallback: bool,
    /// `User-Agent` of the requests that fill or refresh the cache.
    pub user_agent: HeaderValue,
    /// Whether `Via` is added to requests.
    pub via: bool,
    /// Tells shields of the same origin in a chain apart.
    pub loop_id: HeaderValue,
    /// Whether it may tie a user to a connection.
    pub connection_auth: ConnectionAuth,
}

impl Default for OriginConfig {
    fn default() -> Self {
        OriginConfig {
            connect_timeout: Duration::ZERO,
            first_byte_timeout: Duration::ZERO,
            between_bytes_timeout: Duration::ZERO,
            fill_timeout: Duration::ZERO,
            pass_timeout: Duration::ZERO,
            soft_timeout: Duration::ZERO,
            retry: Backoff::default(),
            retry_after_max: Duration::ZERO,
            pass: Duration::ZERO,
            pass_fallback: true,
            user_agent: HeaderValue::from_static("leeward"),
            via: true,
            loop_id: HeaderValue::from_static("leeward"),
            connection_auth: ConnectionAuth::default(),
        }
    }
}

/// What the origin sees of all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Most requests in flight at the origin, over all nodes.
    pub max_concurrency: u32,
    /// Most requests in flight while the store fails: of one node where the host stands in
    /// for the store, else of one instance.
    pub local_concurrency: u32,
    /// Most requests in an hour, over all nodes; zero: any number.
    pub max_per_hour: u32,
    /// Most answers without an end that are open at once, over all nodes.
    pub max_streams: u32,
    /// Failures in a row that open the breaker.
    pub failures: u32,
    /// How long the breaker stays open.
    pub open: Backoff,
}

/// What becomes of the fields of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseConfig {
    /// Fields that are not served from the cache besides the built-in ones, in
    /// lower case.
    pub drop: Vec<Pattern>,
}

/// The admin interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// Whether this node says without a token that it can answer.
    pub health: bool,
}

/// What is fetched when a node starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WarmConfig {
    /// Paths with queries, at most [`LIST_MAX`].
    pub urls: Vec<String>,
}

/// How leases are timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How long a lease lasts unless renewed.
    pub duration: Duration,
    /// How far the clocks of two nodes may be apart.
    pub clock_skew: Duration,
}

impl LeaseConfig {
    /// The length of a time bucket of the creation guards: half a lease, so that
    /// a creator that dies delays others for at most one lease. It is at least
    /// twice the clock skew, because a lease is at least four times that.
    pub fn guard_bucket(&self) -> Duration {
        self.duration / 2
    }
}

/// How long requests wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitConfig {
    /// Longest wait for another request's fetch.
    pub budget: Duration,
}

/// What is accepted and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest path and query, in bytes.
    pub url: usize,
    /// Most header fields of a request.
    pub header_count: usize,
    /// Most bytes of header field names and values of a request.
    pub header_bytes: usize,
    /// Longest request body that is accepted, in bytes; zero: any.
    pub request_body: u64,
    /// Most header fields of a response that is stored.
    pub response_header_count: usize,
    /// Most bytes of header field names and values of a response that is
    /// stored.
    pub response_header_bytes: usize,
    /// Longest body that is stored in the cell itself, in bytes.
    pub inline: usize,
    /// Longest body that is stored, in bytes.
    pub body: u64,
    /// Longest chunk of a body that is not stored in the cell, in bytes.
    pub chunk: usize,
    /// Most variants of a key that are stored.
    pub variants: usize,
    /// How long a replaced body is kept for visitors who are still reading it.
    pub grace: Duration,
    /// Most cells in the store, beside those that are about to be removed.
    pub keys: usize,
    /// Most bytes of cells and bodies in the store.
    pub store_bytes: u64,
}

/// Keys outside rules that are not options.
const KEYS: &[&str] = &["rule", "fallback"];

impl Config {
    /// Reads settings from TOML; empty text means the defaults.
    ///
    /// # Errors
    ///
    /// All problems, each with line, column, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Config::parse_over(&[], text)
    }

    /// The same for a platform that needs other `defaults`: names of options with what an
    /// operator would write in TOML.
    ///
    /// # Errors
    ///
    /// As [`Config::parse`].
    pub fn parse_over(defaults: &[(&str, &str)], text: &str) -> Result<Self, ConfigError> {
        Config::parse_within(defaults, &|_| Vec::new(), text)
    }

    /// The same, where a platform adds contradictions of its own. They are looked for in
    /// the settings outside rules, and in those of each rule.
    pub(crate) fn parse_within(
        defaults: &[(&str, &str)],
        platform: Further<'_>,
        text: &str,
    ) -> Result<Self, ConfigError> {
        let mut problems = Problems::new(text);
        let mut config = Config::default();
        for option in OPTIONS {
            let other = defaults.iter().find(|(name, _)| *name == option.name);
            let default = other.map_or(option.default, |(_, default)| default);
            if let Err(fault) = option.apply_default(&mut config, default) {
                problems.add_without_place(option.name, fault.message);
            }
        }
        match DeTable::parse(text) {
            Ok(table) => config.read(platform, table.get_ref(), &mut problems),
            Err(error) => problems.add(
                error.span().map_or(0, |span| span.start),
                "",
                error.message().to_owned(),
            ),
        }
        if problems.len() == 0 {
            config.warnings = problems.warnings();
            Ok(config)
        } else {
            Err(problems.into_error())
        }
    }

    fn read(&mut self, platform: Further<'_>, table: &DeTable<'_>, problems: &mut Problems<'_>) {
        let mut places = Places::new();
        let mut reader = Reader {
            scope: Scope::All,
            config: self,
            places: &mut places,
            problems,
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                // They start from all other settings.
                "rule" => {}
                "fallback" => reader.fallback(value),
                name => reader.read(name, key.span().start, value),
            }
        }
        if self.policy.preset == Preset::Strict {
            self.apply_strict_defaults(&places, problems);
        }
        // A wrong setting has its default here, which may contradict others.
        let is_valid = problems.len() == 0;
        if is_valid {
            contradictions::of(self, platform, &places, Scope::All, problems);
        }
        if let Some(value) = table.get("rule") {
            let base = rule::Base {
                config: self,
                is_valid,
                platform,
            };
            self.rules = rule::rules(value, &base, problems);
        }
        self.health = self.health_rules();
    }

    /// Gives options that are not set the default of preset `strict`.
    fn apply_strict_defaults(&mut self, places: &Places, problems: &mut Problems<'_>) {
        for option in OPTIONS {
            let Some(default) = option.strict else {
                continue;
            };
            if places.contains_key(option.name) {
                continue;
            }
            if let Err(fault) = option.apply_default(self, default) {
                problems.add_without_place(option.name, fault.message);
            }
        }
    }

    /// The implicit rules for `health.paths`. A monitor has to see that the origin fails, so
    /// the fallback is not for them.
    fn health_rules(&self) -> Vec<Rule> {
        let mut config = Config {
            rules: Vec::new(),
            health: Vec::new(),
            fallback: None,
            ..self.clone()
        };
        config.policy.store_silent = false;
        let config = Rc::new(config);
        let paths = self.health_paths.iter().cloned();
        paths
            .map(|mut path| {
                if self.key.lowercase {
                    path.lowercase();
                }
                Rule {
                    matches: Match { path, method: None },
                    config: Rc::clone(&config),
                }
            })
            .collect()
    }

    /// The rule for a request: the first that matches. The path is without the
    /// query and in its normal form.
    pub fn rule(&self, method: &Method, path: &str) -> Option<&Rule> {
        let path = match self.key.lowercase {
            true => Cow::Owned(path.to_ascii_lowercase()),
            false => Cow::Borrowed(path),
        };
        self.rules
            .iter()
            .chain(&self.health)
            .find(|rule| rule.matches.matches(method, &path))
    }

    /// The settings for a request: those of its [`rule`](Config::rule), or else
    /// these.
    pub fn chosen(self: &Rc<Self>, method: &Method, path: &str) -> Rc<Config> {
        Rc::clone(self.rule(method, path).map_or(self, |rule| &rule.config))
    }
}

#[cfg(test)]
mod tests;
