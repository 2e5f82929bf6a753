//! Request fields by what they mean to a shared cache.
//!
//! A field that is in no list is unknown: it is part of the question and sent.
//! When in doubt a field stays out of the lists, because an unknown field costs a
//! variant and a field that is dropped wrongly costs a wrong page.

use super::policy::Unknown;
use http::HeaderName;

/// What a request field means for the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Of one connection: the host's affair.
    Connection,
    /// About the content of the request. Dropped where there is none.
    Content,
    /// A condition or a range. The cache makes its own.
    Condition,
    /// `Cache-Control` and `Pragma`: read, and not sent in a fill.
    Directive,
    /// `Accept` and `Accept-Encoding`: reduced to classes.
    Negotiation,
    /// How the visitor reached the site: part of the question as its scheme.
    Scheme,
    /// Credentials.
    Credential,
    /// `Host`.
    Host,
    /// Replaces the method: the request is no GET.
    MethodOverride,
    /// Replaces host or path at some origins: keyed even where unknown fields
    /// are not.
    Rewriting,
    /// Not sent, and not keyed, unless an answer's `Vary` names it.
    Latent,
    /// In none of the lists.
    Unknown,
}

/// Names in lower case, sorted within each class for the reader alone.
const NAMED: &[(Class, &[&str])] = &[
    (
        Class::Connection,
        &[
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ],
    ),
    (
        Class::Content,
        &["digest", "expect", "repr-digest", "want-digest"],
    ),
    (Class::Condition, &["range", "request-range"]),
    (Class::Directive, &["cache-control", "pragma"]),
    (Class::Negotiation, &["accept", "accept-encoding"]),
    (
        Class::Scheme,
        &[
            "cloudfront-forwarded-proto",
            "front-end-https",
            "x-arr-ssl",
            "x-forwarded-proto",
            "x-forwarded-protocol",
            "x-forwarded-scheme",
            "x-forwarded-ssl",
            "x-scheme",
            "x-url-scheme",
        ],
    ),
    (
        Class::Credential,
        &["authorization", "cookie", "cookie2", "proxy-authorization"],
    ),
    (Class::Host, &["host"]),
    (
        Class::MethodOverride,
        &[
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
        ],
    ),
    (
        Class::Rewriting,
        &[
            "base-url",
            "destination",
            "iis-wasurlrewritten",
            "orig-path-info",
            "request-uri",
            "unencoded-url",
            "x-forwarded-host",
            "x-forwarded-path",
            "x-forwarded-prefix",
            "x-forwarded-server",
            "x-forwarded-uri",
            "x-host",
            "x-original-host",
            "x-original-uri",
            "x-original-url",
            "x-override-url",
            "x-proxy-url",
            "x-rewrite-url",
            "x-wap-host",
        ],
    ),
    (
        Class::Latent,
        &[
            // Negotiation by other means.
            "accept-charset",
            "accept-language",
            // The agent.
            "device-memory",
            "dnt",
            "downlink",
            "dpr",
            "early-data",
            "ect",
            "priority",
            "purpose",
            "rtt",
            "save-data",
            "upgrade-insecure-requests",
            "user-agent",
            "viewport-width",
            "width",
            "x-moz",
            "x-purpose",
            "x-wap-profile",
            // Where the visitor comes from.
            "from",
            "origin-agent-cluster",
            "ping-from",
            "ping-to",
            "referer",
            // Addresses and hops.
            "cdn-loop",
            "client-ip",
            "fastly-client-ip",
            "fly-client-ip",
            "forwarded",
            "max-forwards",
            "true-client-ip",
            "via",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-envoy-external-address",
            "x-forwarded-by",
            "x-forwarded-for",
            "x-forwarded-port",
            "x-original-forwarded-for",
            "x-proxyuser-ip",
            "x-real-ip",
            "x-remote-addr",
            "x-remote-ip",
            // Proxies and platforms.
            "cf-ew-via",
            "cf-ipcountry",
            "cf-ray",
            "cf-visitor",
            "cf-worker",
            "x-amzn-trace-id",
            "x-arr-log-id",
            "x-azure-fdid",
            "x-azure-ref",
            "x-cloud-trace-context",
            "x-served-by",
            "x-timer",
            "x-varnish",
            // Ids of one request.
            "b3",
            "baggage",
            "correlation-context",
            "idempotency-key",
            "newrelic",
            "request-context",
            "request-id",
            "sentry-trace",
            "traceparent",
            "tracestate",
            "uber-trace-id",
            "x-client-data",
            "x-client-request-id",
            "x-correlation-id",
            "x-idempotency-key",
            "x-ms-client-request-id",
            "x-queue-start",
            "x-request-id",
            "x-request-start",
            "x-span-id",
            "x-transaction-id",
        ],
    ),
];

/// Beginnings of names, looked at after the names.
const PREFIXES: &[(&str, Class)] = &[
    ("content-", Class::Content),
    ("if-", Class::Condition),
    ("sec-", Class::Latent),
    ("cf-connecting-ip", Class::Latent),
    ("fastly-", Class::Latent),
    ("fly-", Class::Latent),
    ("spin-", Class::Connection),
    ("akamai-", Class::Latent),
    ("x-akamai-", Class::Latent),
    ("x-amz-cf-", Class::Latent),
    ("x-appengine-", Class::Latent),
    ("x-b3-", Class::Latent),
    ("x-cache", Class::Latent),
    ("x-datadog-", Class::Latent),
    ("x-edge-", Class::Latent),
    ("x-envoy-", Class::Latent),
    ("x-newrelic-", Class::Latent),
    ("x-nf-", Class::Latent),
    ("x-nginx-", Class::Latent),
    ("x-ot-", Class::Latent),
    ("x-trace-", Class::Latent),
    ("x-vercel-", Class::Latent),
];

/// The class of a request field.
pub fn class(name: &HeaderName) -> Class {
    let name = name.as_str();
    for (class, names) in NAMED {
        if names.contains(&name) {
            return *class;
        }
    }
    PREFIXES
        .iter()
        .find(|(beginning, _)| name.starts_with(beginning))
        .map_or(Class::Unknown, |(_, class)| *class)
}

/// Fields of an answer that speak of one moment or of one request. They reach
/// the visitor whose request caused the fetch and are not replayed on hits.
const MOMENTARY: &[&str] = &[
    "alt-svc",
    "cf-ray",
    "clear-site-data",
    "request-id",
    "retry-after",
    "server-timing",
    "traceparent",
    "tracestate",
    "x-amz-cf-id",
    "x-amz-request-id",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-aspnet-duration-ms",
    "x-b3-traceid",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-ms-request-id",
    "x-request-id",
    "x-response-time",
    "x-runtime",
    "x-trace-id",
];

/// Beginnings of names of such fields.
const MOMENTARY_PREFIXES: &[&str] = &["ratelimit", "x-ratelimit", "x-rate-limit"];

/// Whether a field of an answer speaks of one moment or of one request.
pub fn is_momentary(name: &HeaderName) -> bool {
    let name = name.as_str();
    MOMENTARY.contains(&name)
        || MOMENTARY_PREFIXES
            .iter()
            .any(|beginning| name.starts_with(beginning))
}

/// Whether an answer's `Vary` on this field adds something to the question.
///
/// Of `Accept` every question has a class; where an answer varies on it, the whole value
/// selects. Scheme and unknown fields are part of every question. Credentials
/// make no variants: an answer that varies on them is for visitors without.
/// Conditions, directives and content fields are never sent in a fill. Where
/// unknown fields are forwarded (preset `strict`), what is forwarded selects.
pub fn is_selectable(name: &HeaderName, unknown: Unknown) -> bool {
    let strict = unknown == Unknown::Forward;
    match class(name) {
        Class::Latent | Class::Negotiation => true,
        Class::Directive | Class::Unknown => strict,
        Class::Connection
        | Class::Content
        | Class::Condition
        | Class::Scheme
        | Class::Credential
        | Class::Host
        | Class::MethodOverride
        | Class::Rewriting => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_a_class() {
        for (name, expected) in [
            ("x-api-version", Class::Unknown),
            ("x-tenant", Class::Unknown),
            ("origin", Class::Unknown),
            ("x-csrf-token", Class::Unknown),
            ("x-forwarded-host", Class::Rewriting),
            ("x-original-url", Class::Rewriting),
            ("x-http-method-override", Class::MethodOverride),
            ("x-forwarded-for", Class::Latent),
            ("x-forwarded-proto", Class::Scheme),
            ("user-agent", Class::Latent),
            ("sec-ch-ua-mobile", Class::Latent),
            ("accept-language", Class::Latent),
            ("accept", Class::Negotiation),
            ("content-length", Class::Content),
            ("expect", Class::Content),
            ("if-none-match", Class::Condition),
            ("range", Class::Condition),
            ("cookie", Class::Credential),
            ("spin-client-addr", Class::Connection),
            ("cf-connecting-ipv6", Class::Latent),
        ] {
            assert_eq!(class(&HeaderName::from_static(name)), expected, "{name}");
        }
    }

    #[test]
    fn what_is_named_is_a_lower_case_field_name_and_named_once() {
        let mut seen = std::collections::HashSet::new();
        for name in NAMED.iter().flat_map(|(_, names)| *names) {
            assert!(HeaderName::try_from(*name).is_ok_and(|parsed| parsed.as_str() == *name));
            assert!(seen.insert(*name), "{name} twice");
        }
    }

    #[test]
    fn fields_of_the_moment_are_known() {
        for (name, expected) in [
            ("x-ratelimit-remaining", true),
            ("ratelimit", true),
            ("retry-after", true),
            ("x-request-id", true),
            ("etag", false),
            ("x-powered-by", false),
        ] {
            assert_eq!(
                is_momentary(&HeaderName::from_static(name)),
                expected,
                "{name}"
            );
        }
    }
}
