//! What each platform allows, and whether settings stay within it.
//!
//! The component cannot ask its platform for its limits, and many show only under load: a
//! value that is refused, a request that is cut. So `leeward check --platform NAME`
//! compares the settings with this table before they are deployed.

use super::defaults;
use crate::budget::RateLimit;
use crate::config::{Config, ConfigError, Contradiction, show_duration};
use crate::store::WRITE_DELAY_MAX;
use std::time::Duration;

mod messages;

/// A part of a lease that a platform's write delay may take, see
/// [`Timed`](crate::store::Timed).
const WRITE_DELAYS_PER_LEASE: u32 = 15;

/// How many write delays a slot and a lease take together on a store without a swap, and
/// the calls between.
const WRITE_DELAYS_PER_ELECTION: u32 = 6;

/// How long the origin usually takes for an answer, at most.
const USUAL_FETCH: Duration = Duration::from_secs(1);

/// Bytes of a cell beside its fields and its body.
const CELL_OVERHEAD: u64 = 16_384;

/// Most header fields of a message that hyper reads if its user sets nothing else, as
/// wasmtime and wash do.
const FIELDS_OF_HYPER: usize = 100;

const HOUR: Duration = Duration::from_secs(3_600);

/// A platform, by the name of the component's flavour for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Spin 4.1 and later, SpinKube, the embedded host; key-value store.
    Spin,
    /// Spin 4.1 and later; SQLite database.
    SpinSqlite,
    /// Spin 4.1 and later; Redis.
    SpinRedis,
    /// Fermyon Cloud, Spin 2 and 3.
    FermyonCloud,
    /// Akamai Functions.
    Akamai,
    /// wasmCloud 2.7 and later.
    Wasmcloud,
    /// Any host of `wasi:http@0.3`.
    Wasi,
}

impl Platform {
    /// All platforms.
    pub const ALL: [Platform; 7] = [
        Platform::Spin,
        Platform::SpinSqlite,
        Platform::SpinRedis,
        Platform::FermyonCloud,
        Platform::Akamai,
        Platform::Wasmcloud,
        Platform::Wasi,
    ];

    /// The name of the flavour.
    pub const fn name(self) -> &'static str {
        match self {
            Platform::Spin => "spin",
            Platform::SpinSqlite => "spin-sqlite",
            Platform::SpinRedis => "spin-redis",
            Platform::FermyonCloud => "fermyon-cloud",
            Platform::Akamai => "akamai",
            Platform::Wasmcloud => "wasmcloud",
            Platform::Wasi => "wasi",
        }
    }

    /// The options that have another default there: names with what an operator would
    /// write in TOML.
    pub const fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Platform::FermyonCloud => defaults::FERMYON_CLOUD,
            Platform::Akamai => defaults::AKAMAI,
            Platform::Wasmcloud | Platform::Wasi => defaults::HUNDRED_FIELDS,
            Platform::Spin | Platform::SpinSqlite | Platform::SpinRedis => &[],
        }
    }

    /// What it allows. The sources are in `docs/platforms.md`.
    pub const fn limits(self) -> Limits {
        match self {
            Platform::Spin => Limits {
                value_bytes: Some(1_000_000),
                ..Limits::NONE
            },
            Platform::FermyonCloud => Limits {
                body_bytes: Some(10_000_000),
                request_time: Some(Duration::from_secs(30)),
                outbound_per_hour: Some(500),
                store_bytes: Some(1_000_000_000),
                ..Limits::NONE
            },
            Platform::Akamai => Limits {
                value_bytes: Some(1_000_000),
                body_bytes: Some(10 << 20),
                request_time: Some(Duration::from_secs(30)),
                store_bytes: Some(2_000_000_000),
                write_delay: Some(WRITE_DELAY_MAX),
                ..Limits::NONE
            },
            Platform::Wasmcloud => Limits {
                // NATS: `max_payload`, whose default is 1 MiB.
                value_bytes: Some(1 << 20),
                fields: Some(FIELDS_OF_HYPER),
                ..Limits::NONE
            },
            Platform::Wasi => Limits {
                fields: Some(FIELDS_OF_HYPER),
                hides_host: true,
                ..Limits::NONE
            },
            Platform::SpinSqlite | Platform::SpinRedis => Limits::NONE,
        }
    }
}

/// What a platform allows; `None` where it has no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest value of a key, in bytes.
    pub value_bytes: Option<u64>,
    /// Largest content of a request or an answer, in bytes.
    pub body_bytes: Option<u64>,
    /// Longest time that a request may take, work behind its answer included.
    pub request_time: Option<Duration>,
    /// Most requests to the origin in an hour.
    pub outbound_per_hour: Option<u32>,
    /// Most bytes in the store.
    pub store_bytes: Option<u64>,
    /// The store shows a write everywhere only after this time.
    pub write_delay: Option<Duration>,
    /// Most header fields of a request with `Host`, and of the origin's answer.
    pub fields: Option<usize>,
    /// The component is not told which host a request is for.
    pub hides_host: bool,
}

impl Limits {
    const NONE: Limits = Limits {
        value_bytes: None,
        body_bytes: None,
        request_time: None,
        outbound_per_hour: None,
        store_bytes: None,
        write_delay: None,
        fields: None,
        hides_host: false,
    };
}

/// Settings that stay within a platform's limits.
#[derive(Debug)]
pub struct Checked {
    /// The settings, with the defaults of the platform, and the warnings about them.
    pub config: Config,
    /// What else the operator should know.
    pub notes: Vec<String>,
}

/// Reads the settings for `platform`, and compares them with `limits`: the platform's own,
/// or those of the operator's plan.
///
/// # Errors
///
/// All problems, each with line, column, and what to write instead.
pub fn check(text: &str, platform: Platform, limits: &Limits) -> Result<Checked, ConfigError> {
    let beyond = |config: &Config| beyond(config, platform, limits);
    let config = Config::parse_within(platform.defaults(), &beyond, text)?;
    let mut notes = notes_of_rate(&config, limits);
    notes.extend(note_of_wait(&config, limits));
    Ok(Checked { config, notes })
}

/// The settings that the limits of a platform break.
fn beyond(config: &Config, platform: Platform, limits: &Limits) -> Vec<Contradiction> {
    let name = platform.name();
    let mut found: Vec<Contradiction> = Vec::new();
    let ends_with_request = matches!(platform, Platform::FermyonCloud | Platform::Akamai);
    if ends_with_request && !config.warm.urls.is_empty() {
        found.push((
            &["warm.urls"],
            format!(
                "{name} starts an instance for each request, so there is no start at which pages \
                 could be fetched; leave it out, and send POST /.leeward/warm after a deployment"
            ),
        ));
    }
    if let Some(most) = limits.value_bytes {
        let chunk = config.limits.chunk as u64;
        if chunk > most {
            found.push((
                &["limits.chunk"],
                format!(
                    "{name} takes values of at most {most} bytes; write at most {most} as \
                     limits.chunk"
                ),
            ));
        }
        let beside = (config.limits.response_header_bytes as u64).saturating_add(CELL_OVERHEAD);
        if (config.limits.inline as u64).saturating_add(beside) > most {
            found.push((
                &["limits.inline", "limits.response_header_bytes"],
                format!(
                    "{name} takes values of at most {most} bytes, and an entry has fields beside \
                     its body; write at most {} as limits.inline",
                    most.saturating_sub(beside)
                ),
            ));
        }
    }
    if let Some(most) = limits.body_bytes {
        for (names, bytes) in [
            (&["limits.body"], config.limits.body),
            (&["limits.request_body"], config.limits.request_body),
        ] {
            if bytes > most {
                let message =
                    format!("{name} takes contents of at most {most} bytes; write at most {most}");
                found.push((names, message));
            }
        }
    }
    if let Some(most) = limits.request_time {
        found.extend(of_time(config, name, most));
    }
    if let Some(most) = limits.store_bytes
        && config.limits.store_bytes > most
    {
        let message = format!("{name} stores at most {most} bytes; write at most {most}");
        found.push((&["limits.store_bytes"], message));
    }
    if let Some(delay) = limits.write_delay {
        let (lease, skew) = (config.lease.duration, config.lease.clock_skew);
        let least = delay.saturating_mul(WRITE_DELAYS_PER_LEASE);
        if lease < least {
            found.push((
                &["lease.duration"],
                format!(
                    "{name} shows writes everywhere only after up to {}, and a lease of {} is too \
                     short for that; write at least {}",
                    show_duration(delay),
                    show_duration(lease),
                    show_duration(least)
                ),
            ));
        }
        if skew < delay {
            found.push((
                &["lease.clock_skew"],
                format!(
                    "{name} shows writes everywhere only after up to {}, which lease.clock_skew \
                     has to cover; write at least {}",
                    show_duration(delay),
                    show_duration(delay)
                ),
            ));
        }
    }
    if let Some(most) = limits.outbound_per_hour {
        found.extend(of_rate(config, name, most));
    }
    found.extend(messages::beyond(config, name, limits));
    found
}

/// Waits and fetches that a request has no time for.
fn of_time(config: &Config, name: &str, most: Duration) -> Vec<Contradiction> {
    let mut found: Vec<Contradiction> = Vec::new();
    let wait = config.wait.budget;
    let fetches: [(&'static [&'static str], _, _); 2] = [
        (
            &["origin.fill_timeout", "wait.budget"],
            "fetch",
            config.origin.fill_timeout,
        ),
        (
            &["origin.pass_timeout", "wait.budget"],
            "forwarded request",
            config.origin.pass_timeout,
        ),
    ];
    for (names, what, timeout) in fetches {
        if wait.saturating_add(timeout) > most {
            found.push((
                names,
                format!(
                    "{name} ends a request after {}, but a visitor may wait for {} and the {what} \
                     may then take {}; write at most {} as {}, or a shorter wait.budget",
                    show_duration(most),
                    show_duration(wait),
                    show_duration(timeout),
                    show_duration(most.saturating_sub(wait)),
                    names.first().copied().unwrap_or_default()
                ),
            ));
        }
    }
    found
}

/// Lifetimes that need more requests in an hour than there are.
fn of_rate(config: &Config, name: &str, most: u32) -> Vec<Contradiction> {
    let mut found: Vec<Contradiction> = Vec::new();
    let rate = config.budget.max_per_hour;
    if rate == 0 || rate > most {
        found.push((
            &["origin.max_per_hour"],
            format!(
                "{name} refuses more than {most} requests of the component in an hour, and a \
                 visitor whose request is refused gets an error; write at most {most}"
            ),
        ));
    }
    let rate = lasting(rate.clamp(1, most.max(1)), config);
    let ttls: [(&'static [&'static str], _); 2] = [
        (&["ttl"], config.policy.ttl),
        (
            &["freshness.default_ttl"],
            Some(config.policy.default_ttl).filter(|ttl| !ttl.is_zero()),
        ),
    ];
    for (names, ttl) in ttls {
        let Some(ttl) = ttl else { continue };
        let needs = refreshes_per_hour(ttl);
        if needs > u64::from(rate) {
            let least = Duration::from_secs(HOUR.as_secs().div_ceil(u64::from(rate)));
            found.push((
                names,
                format!(
                    "one URL in constant use is refreshed {needs} times an hour with a lifetime of \
                     {}, but {name} allows {rate} requests an hour in all beside what may go out \
                     at once; write at least {}",
                    show_duration(ttl),
                    show_duration(least)
                ),
            ));
        }
    }
    found
}

/// How often a URL in constant use is refreshed in an hour.
fn refreshes_per_hour(ttl: Duration) -> u64 {
    let millis = crate::time::millis(ttl).max(1);
    crate::time::millis(HOUR).div_ceil(millis)
}

/// How many requests an hour has for what goes on and on.
fn lasting(per_hour: u32, config: &Config) -> u32 {
    RateLimit::new(per_hour, config.lease.clock_skew).map_or(0, RateLimit::lasting)
}

/// How long after the fetch of an instance that died another's answer is there, at most: its
/// lease is over by all clocks, a slot and an election have been won, and the origin takes no
/// longer than usual.
pub fn taken_over(config: &Config, limits: &Limits) -> Duration {
    let delay = limits.write_delay.unwrap_or_default();
    let lease = &config.lease;
    lease
        .duration
        .saturating_add(lease.clock_skew)
        .saturating_add(delay.saturating_mul(WRITE_DELAYS_PER_ELECTION))
        .saturating_add(USUAL_FETCH)
}

/// What an instance that dies costs those who wait for its answer.
fn note_of_wait(config: &Config, limits: &Limits) -> Option<String> {
    let (wait, needed) = (config.wait.budget, taken_over(config, limits));
    (wait < needed).then(|| {
        format!(
            "wait.budget {}: where an instance dies while it fetches a page, another has it only \
             after up to {}, and those who waited meanwhile got 503; write at least that, or a \
             shorter lease.duration",
            show_duration(wait),
            show_duration(needed)
        )
    })
}

/// What lifetimes mean on a platform that limits the requests of an hour.
fn notes_of_rate(config: &Config, limits: &Limits) -> Vec<String> {
    let mut notes = Vec::new();
    let rate = u64::from(lasting(config.budget.max_per_hour, config));
    if limits.outbound_per_hour.is_none() || rate == 0 {
        return notes;
    }
    let own = |rule: &&crate::config::Rule| rule.config.policy.ttl.is_some();
    let mut fixed: u64 = 0;
    for rule in config.rules.iter().filter(own) {
        let Some(ttl) = rule.config.policy.ttl else {
            continue;
        };
        let (path, each) = (rule.matches.path.as_str(), refreshes_per_hour(ttl));
        match path.contains('*') {
            true => notes.push(format!(
                "{path}: with ttl {}, {rate} requests an hour keep {} URLs in constant use fresh; \
                 others are served stale meanwhile",
                show_duration(ttl),
                rate / each.max(1)
            )),
            false => fixed = fixed.saturating_add(each),
        }
    }
    if fixed > 0 {
        let left = rate.saturating_sub(fixed);
        notes.push(format!(
            "rules for single paths: {fixed} refreshes an hour in constant use, which leaves \
             {left} of {rate} requests"
        ));
    }
    let ttl = config.policy.default_ttl;
    if !ttl.is_zero() {
        let each = refreshes_per_hour(ttl);
        notes.push(format!(
            "freshness.default_ttl {}: {rate} requests an hour keep {} URLs in constant use fresh; \
             others are served stale meanwhile",
            show_duration(ttl),
            rate / each.max(1)
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn problem(platform: Platform, text: &str) -> String {
        check(text, platform, &platform.limits())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn pages_are_not_fetched_at_a_start_where_each_request_is_one() {
        let text = "origin.max_per_hour = 100\nwarm.urls = [\"/\"]";
        for platform in [Platform::FermyonCloud, Platform::Akamai, Platform::Spin] {
            let checked = check(text, platform, &platform.limits());
            let told = checked.err().map(|error| error.to_string());
            let is_refused = told.is_some_and(|told| told.contains("POST /.leeward/warm"));
            assert_eq!(is_refused, platform != Platform::Spin, "{platform:?}");
        }
    }

    #[test]
    fn the_defaults_of_every_platform_stay_within_its_limits() {
        for platform in Platform::ALL {
            let checked = check("", platform, &platform.limits());
            let config = checked.unwrap().config;
            // Also what no one has set: those problems have no place in the text.
            let beyond = beyond(&config, platform, &platform.limits());
            assert_eq!(beyond, [], "{}", platform.name());
        }
    }

    #[test]
    fn settings_beyond_a_limit_are_refused_with_place_and_remedy() {
        use Platform::{Akamai, FermyonCloud, Spin};
        for (platform, text, expected) in [
            (
                FermyonCloud,
                "[limits]\nbody = 20000000",
                "config:2:8: limits.body: fermyon-cloud takes contents of at most 10000000",
            ),
            (
                FermyonCloud,
                "origin.fill_timeout = \"25s\"",
                "write at most 22s as origin.fill_timeout",
            ),
            (FermyonCloud, "origin.max_per_hour = 0", "write at most 500"),
            (
                FermyonCloud,
                "[[rule]]\nmatch = { path = \"/q\" }\nttl = \"5s\"\nignore_origin = [\"private\"]",
                "config:3:7: rule.ttl: one URL in constant use is refreshed 720 times",
            ),
            (
                FermyonCloud,
                "freshness.default_ttl = \"1s\"",
                "write at least 10s",
            ),
            (
                FermyonCloud,
                "limits.store_bytes = \"2GiB\"",
                "stores at most 1000000000",
            ),
            (Akamai, "lease.duration = \"5s\"", "write at least 7500ms"),
            (
                Akamai,
                "lease.clock_skew = \"100ms\"",
                "write at least 500ms",
            ),
            (
                Spin,
                "limits.inline = 786432\nlimits.response_header_bytes = 196608\n",
                "",
            ),
        ] {
            let limits = platform.limits();
            match expected {
                "" => {
                    // Exactly what the largest settings need.
                    assert!(check(text, platform, &limits).is_ok(), "{text}");
                }
                _ => {
                    let problem = problem(platform, text);
                    assert!(problem.contains(expected), "{text}: {problem}");
                }
            }
        }
    }

    #[test]
    fn a_larger_plan_allows_shorter_lifetimes() {
        let text = "freshness.default_ttl = \"1s\"\norigin.max_per_hour = 10000";
        let platform = Platform::FermyonCloud;
        assert!(check(text, platform, &platform.limits()).is_err());
        let plan = Limits {
            outbound_per_hour: Some(10_000),
            ..platform.limits()
        };
        let checked = check(text, platform, &plan).unwrap();
        assert!(
            checked
                .notes
                .iter()
                .any(|note| note.contains("keep 2 URLs"))
        );
    }

    /// On Akamai a wait of 8 s ended before a lease of 10 s.
    #[test]
    fn a_lease_that_outlasts_the_wait_is_told() {
        use Platform::{Akamai, FermyonCloud, Spin};
        for (platform, text, is_told) in [
            (Akamai, "wait.budget = \"8s\"", true),
            (Akamai, "wait.budget = \"13s\"", false),
            (Akamai, "wait.budget = \"12999ms\"", true),
            (Akamai, "lease.duration = \"10s\"", true),
            (Spin, "lease.duration = \"10s\"", true),
            (Spin, "lease.duration = \"8s\"", false),
            (FermyonCloud, "wait.budget = \"6500ms\"", false),
            (FermyonCloud, "wait.budget = \"6s\"", true),
        ] {
            let notes = check(text, platform, &platform.limits()).unwrap().notes;
            let told = notes
                .iter()
                .any(|note| note.contains("dies while it fetches"));
            assert_eq!(told, is_told, "{text}: {notes:?}");
        }
        for platform in Platform::ALL {
            let limits = platform.limits();
            let config = check("", platform, &limits).unwrap().config;
            let needed = taken_over(&config, &limits);
            assert!(
                needed < config.wait.budget,
                "{}: {needed:?}",
                platform.name()
            );
        }
    }

    #[test]
    fn every_kind_of_limit_is_compared() {
        let limits = Limits {
            value_bytes: Some(300_000),
            ..Limits::NONE
        };
        let text = "limits.inline = 262144\nlimits.chunk = 262144";
        let problem = check(text, Platform::Spin, &limits)
            .unwrap_err()
            .to_string();
        assert!(problem.contains("as limits.inline"), "{problem}");
        let limits = Limits {
            value_bytes: Some(1_000),
            ..limits
        };
        let problem = check(text, Platform::Spin, &limits)
            .unwrap_err()
            .to_string();
        assert!(
            problem.contains("write at most 1000 as limits.chunk"),
            "{problem}"
        );
    }
}
