//! The one definition of every option.

use super::Config;
use super::names::{KEPT_IN_RESPONSES, NEVER_DROPPED, NEVER_FORWARDED};
use super::problem::Fault;
use super::value::{Kind, Value};
use crate::budget::{FAILURES_MAX, RATE_MAX, SLOTS_MAX, STREAMS_MAX};
use crate::question::policy::{Credentials, ERROR_TTL_MAX, Unknown};
use crate::semantics::{ConnectionAuth, Preset};
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// Everything about an option.
#[derive(Debug)]
pub struct Definition {
    /// Its name, sections included: `freshness.default_ttl`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The default, as an operator would write it in TOML.
    pub default: &'static str,
    /// The default with preset `strict`, where it is another.
    pub strict: Option<&'static str>,
    /// Whether a rule may set it.
    pub per_rule: bool,
    /// What it means, for the reference.
    pub doc: &'static str,
    set: fn(&mut Config, Value),
}

impl Definition {
    /// Sets the option to a value of the operator.
    pub(super) fn apply(
        &self,
        config: &mut Config,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), Fault> {
        let value = self.kind.check(value)?;
        (self.set)(config, value);
        Ok(())
    }

    /// Sets the option to a default.
    pub(super) fn apply_default(&self, config: &mut Config, default: &str) -> Result<(), Fault> {
        let value = DeValue::parse(default).map_err(|error| error.message().to_owned())?;
        self.apply(config, &value)
    }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
    }
}

const fn millis(min: u64, max_seconds: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_millis(min),
        max: Duration::from_secs(max_seconds),
    }
}

const DAY: u64 = 86_400;

/// The longest lifetime that can be set, in seconds.
pub(super) const YEAR: u64 = 365 * DAY;

/// The keys of a rule that are not options.
pub(super) const RULE_KEYS: &[&str] = &[
    "match",
    "ttl",
    "ignore_origin",
    "failure",
    "fallback",
    "pass",
    "invalidate",
    "invalidates",
    "tags",
];

/// Makes a setter. [`Kind::check`] made the value, so it is of the right kind.
macro_rules! set {
    (usize => $($field:ident).+) => {
        |config, value| {
            if let Value::Integer(value) = value {
                config.$($field).+ = usize::try_from(value).unwrap_or(usize::MAX);
            }
        }
    };
    (u32 => $($field:ident).+) => {
        |config, value| {
            if let Value::Integer(value) = value {
                config.$($field).+ = u32::try_from(value).unwrap_or(u32::MAX);
            }
        }
    };
    ($variant:ident => $($field:ident).+) => {
        |config, value| {
            if let Value::$variant(value) = value {
                config.$($field).+ = value;
            }
        }
    };
}

/// Every option, in the order of the reference.
pub const OPTIONS: &[Definition] = &[
    Definition {
        name: "preset",
        kind: Kind::Choice(&["uptime", "strict"]),
        default: "\"uptime\"",
        strict: None,
        per_rule: false,
        doc: "How far Leeward may deviate from the origin's caching instructions. \
              `strict`: it follows RFC 9111. `uptime`: the stale windows below also apply \
              to every response that does not forbid stale use, and visitors cannot force \
              a refresh.",
        set: |config, value| {
            config.policy.preset = match value {
                Value::Choice("strict") => Preset::Strict,
                _ => Preset::Uptime,
            }
        },
    },
    Definition {
        name: "cookies",
        kind: Kind::Cookies,
        default: "\"pass\"",
        strict: None,
        per_rule: true,
        doc: "What happens to cookies that are not in `request.cookies.ignore`. \"pass\": \
              a request with such a cookie gets shared responses that are for everyone; \
              otherwise it is forwarded, and the answer is not stored. \"ignore\": the \
              cookies are removed. A `key` list: these cookies are part of the key, the \
              others are removed.",
        set: set!(Cookies => request.cookies),
    },
    Definition {
        name: "credentials",
        kind: Kind::Choice(&["pass", "key", "ignore"]),
        default: "\"pass\"",
        strict: None,
        per_rule: true,
        doc: "What happens to `Authorization` and `Proxy-Authorization`. \"pass\": as for \
              cookies. \"key\": a hash of the value is part of the key, so each client has \
              entries of its own. \"ignore\": the fields are removed.",
        set: |config, value| {
            config.request.credentials = match value {
                Value::Choice("key") => Credentials::Key,
                Value::Choice("ignore") => Credentials::Ignore,
                _ => Credentials::Pass,
            }
        },
    },
    Definition {
        name: "browser_ttl",
        kind: Kind::BrowserTtl {
            max: Duration::from_secs(YEAR),
        },
        default: "\"origin\"",
        strict: None,
        per_rule: true,
        doc: "How long visitors are told to keep a response, from when they get it. \
              \"origin\": as long as the origin says; where a rule has a `ttl`, no longer than \
              that. \"0s\": they ask before each use. See [what visitors are \
              told](#what-visitors-are-told).",
        set: set!(BrowserTtl => browser_ttl),
    },
    Definition {
        name: "freshness.default_ttl",
        kind: seconds(0, YEAR),
        default: "\"60s\"",
        strict: Some("\"0s\""),
        per_rule: true,
        doc: "Freshness lifetime of cacheable responses that do not state one.",
        set: set!(Duration => policy.default_ttl),
    },
    Definition {
        name: "freshness.heuristic_max",
        kind: seconds(0, YEAR),
        default: "\"1d\"",
        strict: None,
        per_rule: true,
        doc: "Longest lifetime that is derived from `Last-Modified` (a tenth of the time \
              since then) when a response does not state one. \"0s\" turns this off.",
        set: set!(Duration => policy.heuristic_max),
    },
    Definition {
        name: "freshness.stale_while_revalidate",
        kind: seconds(0, YEAR),
        default: "\"1h\"",
        strict: None,
        per_rule: true,
        doc: "Preset `uptime`: for at least this long after its expiry, an entry is served \
              at once while it is refreshed in the background. Outside rules it does not \
              apply to responses that state a lifetime of zero.",
        set: set!(Duration => policy.stale_while_revalidate),
    },
    Definition {
        name: "freshness.stale_if_error",
        kind: seconds(0, YEAR),
        default: "\"7d\"",
        strict: None,
        per_rule: true,
        doc: "How long after its expiry an entry is served when the origin fails. Outside \
              rules it does not apply to responses that state a lifetime of zero and have no \
              validator.",
        set: set!(Duration => policy.stale_if_error),
    },
    Definition {
        name: "freshness.error_ttl",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: ERROR_TTL_MAX,
        },
        default: "\"1s\"",
        strict: None,
        per_rule: true,
        doc: "How long an error that states no lifetime is shared by requests with the \
              same key. During an error the origin gets one request per key in this time.",
        set: set!(Duration => policy.error_ttl),
    },
    Definition {
        name: "freshness.error_ttl_max",
        kind: seconds(0, YEAR),
        default: "\"60s\"",
        strict: None,
        per_rule: true,
        doc: "Longest lifetime of an error (4xx or 5xx) that states its own. Responses that \
              speak of a moment (5xx, 408, 425 and 429) are shared for `error_ttl` at most, \
              whatever they state.",
        set: set!(Duration => policy.error_ttl_max),
    },
    Definition {
        name: "freshness.jitter",
        kind: Kind::Ratio,
        default: "0.1",
        strict: None,
        per_rule: true,
        doc: "Entries expire earlier by a random part of their lifetime, at most this one, \
              so that entries stored together do not expire together.",
        set: |config, value| {
            if let Value::Integer(value) = value {
                config.policy.jitter_per_mille = u16::try_from(value).unwrap_or(0);
            }
        },
    },
    Definition {
        name: "freshness.early_refresh",
        kind: Kind::Boolean,
        default: "true",
        strict: None,
        per_rule: true,
        doc: "Whether an entry that is in use is refreshed in the background shortly \
              before it expires.",
        set: set!(Boolean => early_refresh),
    },
    Definition {
        name: "origin.max_concurrency",
        kind: Kind::Integer {
            min: 1,
            max: SLOTS_MAX as u64,
        },
        default: "16",
        strict: None,
        per_rule: false,
        doc: "Most requests in flight at the origin, over all nodes, keys and kinds of \
              request. While requests of several kinds wait, a quarter is left to each of \
              fills, passed requests and unsafe methods, and one to refreshes; a sixteenth \
              also while none of that kind waits. So the smallest value is 4. It must be the \
              same on all nodes.",
        set: set!(u32 => budget.max_concurrency),
    },
    Definition {
        name: "origin.local_concurrency",
        kind: Kind::Integer {
            min: 0,
            max: SLOTS_MAX as u64,
        },
        default: "2",
        strict: None,
        per_rule: false,
        doc: "Most requests in flight of one node while the store fails: then nodes cannot \
              count what the others do. Only the embedded host (`leeward up`, flavour \
              `spin`) can count for its node; elsewhere the number is for each instance of a \
              node. 0: none, visitors get what is in memory, else 503. That is the default \
              on Fermyon Cloud and Akamai Functions, where every request has an instance of \
              its own.",
        set: set!(u32 => budget.local_concurrency),
    },
    Definition {
        name: "origin.max_per_hour",
        kind: Kind::Integer {
            min: 0,
            max: RATE_MAX as u64,
        },
        default: "0",
        strict: None,
        per_rule: false,
        doc: "Most requests to the origin in an hour, over all nodes, for platforms that \
              refuse more. A quarter is for each of fills, passed requests, unsafe methods and \
              refreshes, and each may use what the others leave. A fifth may go out at once; \
              the rest is spread over the hour. A request that only waits for another's answer \
              does not count. 0 stands for any number; the smallest other value is 16.",
        set: set!(u32 => budget.max_per_hour),
    },
    Definition {
        name: "origin.max_streams",
        kind: Kind::Integer {
            min: 0,
            max: STREAMS_MAX as u64,
        },
        default: "1000",
        strict: None,
        per_rule: false,
        doc: "Most requests that are open at once over all nodes whose response has no end, \
              such as an event stream, or whose visitor reads or sends slowly. They do not \
              count in `origin.max_concurrency`. One more without an end gets 503; one more \
              with a slow visitor goes on counting there. Where the origin keeps a thread \
              for each, no more than it has threads for.",
        set: set!(u32 => budget.max_streams),
    },
    Definition {
        name: "origin.breaker.failures",
        kind: Kind::Integer {
            min: 1,
            max: FAILURES_MAX as u64,
        },
        default: "5",
        strict: None,
        per_rule: false,
        doc: "Failures in a row (5xx, 429, no answer in time, no connection) after which \
              the breaker opens and nothing is sent to the origin. Failures of one path \
              count once, those to connect each time. It also opens when half of at least \
              20 requests in ten seconds fail, for several paths. Before it opens because \
              of pages that fail, a page that worked is asked for: if that one works, it \
              stays closed.",
        set: set!(u32 => budget.failures),
    },
    Definition {
        name: "origin.breaker.open_for",
        kind: millis(100, 3_600),
        default: "\"5s\"",
        strict: None,
        per_rule: false,
        doc: "How long the breaker stays open before one request goes out as a probe. The \
              time doubles with each failed probe. `Retry-After` of the origin extends it.",
        set: set!(Duration => budget.open.first),
    },
    Definition {
        name: "origin.breaker.max_open_for",
        kind: millis(100, DAY),
        default: "\"2m\"",
        strict: None,
        per_rule: false,
        doc: "Longest time for which the breaker stays open after failed probes.",
        set: set!(Duration => budget.open.max),
    },
    Definition {
        name: "origin.connect_timeout",
        kind: millis(10, 600),
        default: "\"3s\"",
        strict: None,
        per_rule: true,
        doc: "Longest time to connect to the origin.",
        set: set!(Duration => origin.connect_timeout),
    },
    Definition {
        name: "origin.first_byte_timeout",
        kind: millis(10, 3_600),
        default: "\"15s\"",
        strict: None,
        per_rule: true,
        doc: "Longest time to the head of the origin's response, where the cache is filled or \
              refreshed. While the origin answers other requests, a page that takes longer is \
              waited for, up to `origin.pass_timeout`; such pages hold at most half of \
              `origin.max_concurrency`.",
        set: set!(Duration => origin.first_byte_timeout),
    },
    Definition {
        name: "origin.between_bytes_timeout",
        kind: millis(10, DAY),
        default: "\"15s\"",
        strict: None,
        per_rule: true,
        doc: "Longest pause in the body of the origin's response. An event stream that pauses \
              for longer needs a rule with a longer time.",
        set: set!(Duration => origin.between_bytes_timeout),
    },
    Definition {
        name: "origin.fill_timeout",
        kind: millis(10, DAY),
        default: "\"60s\"",
        strict: None,
        per_rule: true,
        doc: "Longest time for a request that fills or refreshes the cache, body included. A \
              body that takes longer goes to its visitor and is not stored, and for \
              `origin.pass` other requests are forwarded.",
        set: set!(Duration => origin.fill_timeout),
    },
    Definition {
        name: "origin.pass_timeout",
        kind: millis(10, DAY),
        default: "\"2m\"",
        strict: None,
        per_rule: true,
        doc: "Longest time to the head of the origin's response to a forwarded request, from \
              the end of its content on. It does not end an upload.",
        set: set!(Duration => origin.pass_timeout),
    },
    Definition {
        name: "origin.soft_timeout",
        kind: millis(0, 3_600),
        default: "\"500ms\"",
        strict: None,
        per_rule: true,
        doc: "Preset `uptime`: how long a request waits for the origin when there is an \
              entry that may be served if the origin fails. After this time the request \
              gets that entry, and the fetch continues in the background.",
        set: set!(Duration => origin.soft_timeout),
    },
    Definition {
        name: "origin.retry.first",
        kind: millis(10, DAY),
        default: "\"1s\"",
        strict: None,
        per_rule: true,
        doc: "How long a key is not refreshed after its refresh failed. The time doubles \
              with each further failure.",
        set: set!(Duration => origin.retry.first),
    },
    Definition {
        name: "origin.retry.max",
        kind: millis(10, DAY),
        default: "\"1m\"",
        strict: None,
        per_rule: true,
        doc: "Longest time for which a key is not refreshed after failures.",
        set: set!(Duration => origin.retry.max),
    },
    Definition {
        name: "origin.retry.after_max",
        kind: millis(0, DAY),
        default: "\"10m\"",
        strict: None,
        per_rule: true,
        doc: "Longest `Retry-After` of the origin that is honoured; a longer one counts as \
              this.",
        set: set!(Duration => origin.retry_after_max),
    },
    Definition {
        name: "origin.pass",
        kind: millis(0, DAY),
        default: "\"2m\"",
        strict: None,
        per_rule: true,
        doc: "How long a key whose response could not be stored is remembered as such. \
              Until then its requests are forwarded at once and do not wait for each \
              other.",
        set: set!(Duration => origin.pass),
    },
    Definition {
        name: "origin.pass_fallback",
        kind: Kind::Boolean,
        default: "true",
        strict: None,
        per_rule: true,
        doc: "Whether a visitor with credentials gets the stored response for visitors \
              without, marked as a fallback in `Cache-Status`, if the origin fails. Preset \
              \"strict\" never does this.",
        set: set!(Boolean => origin.pass_fallback),
    },
    Definition {
        name: "origin.user_agent",
        kind: Kind::FieldValue,
        default: concat!("\"leeward/", env!("CARGO_PKG_VERSION"), "\""),
        strict: None,
        per_rule: true,
        doc: "`User-Agent` of the requests that fill or refresh the cache.",
        set: set!(Header => origin.user_agent),
    },
    Definition {
        name: "origin.via",
        kind: Kind::Boolean,
        default: "true",
        strict: None,
        per_rule: true,
        doc: "Whether `Via` is added to requests to the origin. IIS does not compress \
              responses to requests that have it.",
        set: set!(Boolean => origin.via),
    },
    Definition {
        name: "origin.loop_id",
        kind: Kind::FieldValue,
        default: "\"leeward\"",
        strict: None,
        per_rule: false,
        doc: "A request that comes back to the shield that sent it is answered 508. A shield \
              recognises its requests by `CDN-Loop`, which has a hash of this text and of \
              `origin`. It must be the same on all nodes. Two shields in a chain need \
              different ones only if they have the same `origin`.",
        set: set!(Header => origin.loop_id),
    },
    Definition {
        name: "origin.connection_auth",
        kind: Kind::Choice(&["refuse", "forward"]),
        default: "\"refuse\"",
        strict: None,
        per_rule: false,
        doc: "What happens to NTLM and Negotiate, with which a server authenticates a \
              connection, on hosts that use a connection to the origin for all visitors \
              and do not let a component close it: Spin, among others. \"refuse\": such a \
              request, or one whose 401 offers nothing else, is answered 501. \"forward\": \
              they go on as they come. Only for an origin that authenticates each request \
              by itself: another one takes the next visitor on the connection for the \
              user of the last. `leeward up` closes such connections, whatever this says.",
        set: |config, value| {
            config.origin.connection_auth = match value {
                Value::Choice("forward") => ConnectionAuth::Forward,
                _ => ConnectionAuth::Refuse,
            }
        },
    },
    Definition {
        name: "lease.duration",
        kind: millis(100, 60),
        default: "\"5s\"",
        strict: None,
        per_rule: false,
        doc: "How long a lease lasts unless its holder renews it. When a node dies during \
              a refresh, other requests wait at most this long. It must be the same on all \
              nodes.",
        set: set!(Duration => lease.duration),
    },
    Definition {
        name: "lease.clock_skew",
        kind: millis(0, 15),
        default: "\"500ms\"",
        strict: None,
        per_rule: false,
        doc: "Largest difference between the clocks of two nodes.",
        set: set!(Duration => lease.clock_skew),
    },
    Definition {
        name: "admin.health",
        kind: Kind::Boolean,
        default: "true",
        strict: None,
        per_rule: false,
        doc: "Whether `/.leeward/health` and `/.leeward/ready` say, without a token, that this \
              node can answer. Otherwise these paths belong to the origin.",
        set: set!(Boolean => admin.health),
    },
    Definition {
        name: "warm.urls",
        kind: Kind::Targets,
        default: "[]",
        strict: None,
        per_rule: false,
        doc: "Paths, with queries, that are fetched when a node starts or its settings change, as \
              a browser without cookies would ask for them: one after the other, under the \
              budget, for each of `key.hosts`, by one instance of all nodes. On Spin \
              and wasmCloud the first request begins it. Not on hosts with an instance for each \
              request.",
        set: set!(Texts => warm.urls),
    },
    Definition {
        name: "wait.budget",
        kind: millis(0, 600),
        default: "\"10s\"",
        strict: None,
        per_rule: true,
        doc: "Longest time a request waits for another request's fetch. After that it gets \
              503 with `Retry-After`.",
        set: set!(Duration => wait.budget),
    },
    Definition {
        name: "key.query.ignore",
        kind: Kind::Parameters,
        default: "[\"utm_*\", \"gclid\", \"fbclid\"]",
        strict: None,
        per_rule: true,
        doc: "Query parameters that are not part of the key and not sent to the origin. A \
              `*` at the end stands for any ending.",
        set: set!(Patterns => key.ignore),
    },
    Definition {
        name: "key.query.sort",
        kind: Kind::Boolean,
        default: "false",
        strict: None,
        per_rule: true,
        doc: "Whether query parameters are sorted by name, so that their order makes no \
              difference. Some origins read the order.",
        set: set!(Boolean => key.sort),
    },
    Definition {
        name: "key.path.lowercase",
        kind: Kind::Boolean,
        default: "false",
        strict: None,
        per_rule: false,
        doc: "Whether paths are converted to lower case, for origins that treat `/Page` \
              and `/page` alike, such as IIS.",
        set: set!(Boolean => key.lowercase),
    },
    Definition {
        name: "key.hosts",
        kind: Kind::Hosts,
        default: "[]",
        strict: None,
        per_rule: false,
        doc: "Hosts that are served, each with an optional port. If the list is not empty, \
              the host is part of the key, and requests for other hosts get 421. If it is \
              empty, the host makes no difference.",
        set: set!(Texts => key.hosts),
    },
    Definition {
        name: "request.unknown",
        kind: Kind::Choice(&["key", "forward"]),
        default: "\"key\"",
        strict: Some("\"forward\""),
        per_rule: true,
        doc: "What happens to request fields that are in none of the built-in lists. \
              \"key\": they are sent to the origin and are part of the key. \"forward\": \
              they are sent by the request that causes a fetch, are not part of the key, and \
              are not sent when a response is refreshed behind a visitor's back.",
        set: |config, value| {
            config.request.unknown = match value {
                Value::Choice("forward") => Unknown::Forward,
                _ => Unknown::Key,
            }
        },
    },
    Definition {
        name: "request.drop",
        kind: Kind::Fields(NEVER_DROPPED),
        default: "[]",
        strict: None,
        per_rule: true,
        doc: "Request fields that are removed in addition to the built-in ones: requests \
              that fill or refresh the cache do not have them, and they are not part of the \
              key, not even if `Vary` names them. A `*` at the end stands for any ending.",
        set: set!(Patterns => request.drop),
    },
    Definition {
        name: "request.forward",
        kind: Kind::Fields(NEVER_FORWARDED),
        default: "[]",
        strict: None,
        per_rule: true,
        doc: "Request fields that are sent unchanged and are not part of the key. List \
              only fields that never change the response. A `*` at the end stands for any \
              ending.",
        set: set!(Patterns => request.forward),
    },
    Definition {
        name: "request.cookies.ignore",
        kind: Kind::CookieNames,
        default: IGNORED_COOKIES,
        strict: None,
        per_rule: true,
        doc: "Cookies that do not identify a session. They are removed, and a request \
              without others counts as one without cookies. A `*` at the end stands for \
              any ending. A list given here replaces the default.",
        set: set!(Patterns => request.ignored_cookies),
    },
    Definition {
        name: "response.drop",
        kind: Kind::Fields(KEPT_IN_RESPONSES),
        default: "[]",
        strict: None,
        per_rule: true,
        doc: "Response fields that are not served from the cache, in addition to the \
              built-in ones. The request that caused the fetch gets them. A `*` at the end \
              stands for any ending.",
        set: set!(Patterns => response.drop),
    },
    Definition {
        name: "limits.url",
        kind: Kind::Integer {
            min: 64,
            max: 65_536,
        },
        default: "8192",
        strict: None,
        per_rule: false,
        doc: "Longest path and query of a request, in bytes. A longer one gets 414.",
        set: set!(usize => limits.url),
    },
    Definition {
        name: "limits.header_count",
        kind: Kind::Integer { min: 8, max: 1_024 },
        default: "128",
        strict: None,
        per_rule: false,
        doc: "Most header fields of a request. A request with more gets 431.",
        set: set!(usize => limits.header_count),
    },
    Definition {
        name: "limits.header_bytes",
        kind: Kind::Integer {
            min: 1_024,
            max: 1_048_576,
        },
        default: "32768",
        strict: None,
        per_rule: false,
        doc: "Most bytes of names and values of the header fields of a request. A request \
              with more gets 431.",
        set: set!(usize => limits.header_bytes),
    },
    Definition {
        name: "limits.request_body",
        kind: Kind::Integer {
            min: 0,
            max: 1 << 40,
        },
        default: "0",
        strict: None,
        per_rule: false,
        doc: "Longest request body, in bytes. A longer one gets 413. 0: no limit. A body \
              of unannounced length is limited by the embedded host only.",
        set: |config, value| {
            if let Value::Integer(value) = value {
                config.limits.request_body = value;
            }
        },
    },
    Definition {
        name: "limits.key_fields",
        kind: Kind::Integer { min: 0, max: 256 },
        default: "16",
        strict: None,
        per_rule: false,
        doc: "Most unknown request fields in a key. A request with more is forwarded, and \
              the answer is not stored.",
        set: set!(usize => request.key_fields),
    },
    Definition {
        name: "limits.key_bytes",
        kind: Kind::Integer {
            min: 0,
            max: 65_536,
        },
        default: "4096",
        strict: None,
        per_rule: false,
        doc: "Most bytes of names and values of the unknown request fields in a key. A \
              request with more is forwarded, and the answer is not stored.",
        set: set!(usize => request.key_bytes),
    },
    Definition {
        name: "limits.response_header_count",
        kind: Kind::Integer { min: 8, max: 4_096 },
        default: "256",
        strict: None,
        per_rule: false,
        doc: "Most header fields of a response that is stored. A response with more is \
              forwarded without being stored.",
        set: set!(usize => limits.response_header_count),
    },
    Definition {
        name: "limits.response_header_bytes",
        kind: Kind::Integer {
            min: 1_024,
            max: 196_608,
        },
        default: "65536",
        strict: None,
        per_rule: false,
        doc: "Most bytes of names and values of the header fields of a response that is \
              stored. A response with more is forwarded without being stored.",
        set: set!(usize => limits.response_header_bytes),
    },
    Definition {
        name: "limits.inline",
        kind: Kind::Integer {
            min: 0,
            max: 786_432,
        },
        default: "262144",
        strict: None,
        per_rule: false,
        doc: "Longest response body that is stored in the entry itself, in bytes. It needs \
              no further read; a longer body is stored in chunks.",
        set: set!(usize => limits.inline),
    },
    Definition {
        name: "limits.body",
        kind: Kind::Integer {
            min: 0,
            max: 268_435_456,
        },
        default: "10485760",
        strict: None,
        per_rule: false,
        doc: "Longest response body that is stored, in bytes. A longer one is forwarded \
              without being stored.",
        set: |config, value| {
            if let Value::Integer(value) = value {
                config.limits.body = value;
            }
        },
    },
    Definition {
        name: "limits.chunk",
        kind: Kind::Integer {
            min: 256,
            max: 262_144,
        },
        default: "262144",
        strict: None,
        per_rule: false,
        doc: "Longest chunk of a response body in the store, in bytes.",
        set: set!(usize => limits.chunk),
    },
    Definition {
        name: "limits.variants",
        kind: Kind::Integer { min: 1, max: 1_024 },
        default: "200",
        strict: None,
        per_rule: false,
        doc: "Most variants of a URL that are stored beside the first. When there is one \
              more, the oldest is removed that was asked for only once, or else the oldest.",
        set: set!(usize => limits.variants),
    },
    Definition {
        name: "limits.grace",
        kind: millis(0, DAY),
        default: "\"60s\"",
        strict: None,
        per_rule: false,
        doc: "How long the chunks of a replaced body are kept for visitors who are still \
              reading it. They are removed at the first refresh of the key after that.",
        set: set!(Duration => limits.grace),
    },
    Definition {
        name: "limits.keys",
        kind: Kind::Integer {
            min: 16,
            max: 1_000_000,
        },
        default: "100000",
        strict: None,
        per_rule: false,
        doc: "Most keys and variants in the store. When there are more, those that were \
              fetched or refreshed longest ago are removed. They are removed in the \
              background, so the store may have more for a moment.",
        set: set!(usize => limits.keys),
    },
    Definition {
        name: "limits.store_bytes",
        kind: Kind::Bytes {
            min: 1 << 20,
            max: 1 << 50,
        },
        default: "\"1GiB\"",
        strict: None,
        per_rule: false,
        doc: "Most bytes of entries and bodies in the store, without what the store itself \
              needs for them. When there are more, entries are removed as for \
              `limits.keys`.",
        set: |config, value| {
            if let Value::Integer(value) = value {
                config.limits.store_bytes = value;
            }
        },
    },
    Definition {
        name: "health.paths",
        kind: Kind::Paths,
        default: "[\"/health\", \"/healthz\", \"/livez\", \"/readyz\", \"/ping\"]",
        strict: None,
        per_rule: false,
        doc: "Paths whose responses are stored only if they state their freshness, so that \
              a monitor reaches the origin. A `*` stands for any characters. A rule that \
              matches such a path takes precedence. `[]` turns this off.",
        set: |config, value| {
            if let Value::Paths(paths) = value {
                config.health_paths = paths;
            }
        },
    },
];

/// Cookies of analytics, consent dialogs, load balancers and shields.
const IGNORED_COOKIES: &str = r#"[
    "_ga*", "_gid", "_gat*", "_gcl_*", "__gads", "__gpi", "__utm*", "_fbp", "_fbc",
    "_hj*", "_pk_*", "mtm_*", "_clck", "_clsk", "_uet*", "_tt_*", "_ttp", "_pin_unauth",
    "_scid*", "_rdt_uuid", "__hstc", "__hssc", "__hssrc", "hubspotutk", "ai_user",
    "ai_session", "amplitude_id*", "AMP_*", "mp_*", "ajs_*", "optimizelyEndUserId",
    "s_vi", "s_fid", "s_cc", "AMCV_*", "AMCVS_*", "_vwo*", "_vis_opt*",
    "OptanonConsent", "OptanonAlertBoxClosed", "CookieConsent", "cookieyes*",
    "cookielawinfo*", "euconsent*", "usprivacy", "cookie_notice_accepted",
    "borlabs-cookie", "didomi_token", "eupubconsent*",
    "ARRAffinity", "ARRAffinitySameSite", "AWSALB*", "AWSELB*", "BIGipServer*",
    "SERVERID", "__cf*", "cf_clearance", "_cfuvid", "visid_incap_*", "incap_ses_*",
    "nlbi_*", "ak_bmsc", "bm_*", "_abck", "TS01*", "citrix_ns_id*", "NSC_*",
]"#;

/// Whether options lie below `name`.
pub(super) fn is_section(name: &str) -> bool {
    OPTIONS.iter().any(|option| option.is_below(name))
}

impl Definition {
    /// Whether the option lies in `section`, or in a section of it.
    pub(super) fn is_below(&self, section: &str) -> bool {
        self.name
            .strip_prefix(section)
            .is_some_and(|rest| rest.starts_with('.'))
    }
}

/// An example of a setting below `section`.
pub(super) fn example(section: &str) -> String {
    OPTIONS
        .iter()
        .find(|option| option.is_below(section))
        .map(|option| format!("{} = {}", option.name, option.default))
        .unwrap_or_default()
}
