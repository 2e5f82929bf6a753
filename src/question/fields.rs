//! Request fields by what they mean to a shared cache.
//!
//! A field that is in no list is unknown: it is part of the question and sent.
//! When in doubt a field stays out of the lists, because an unknown field costs a
//! variant and a field that is dropped wrongly costs a wrong page.

mod answers;
mod requests;

use super::policy::Unknown;
use answers::MOMENTARY;
use http::HeaderName;
use requests::{LISTED, Listed};

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
    /// `Accept` and `Accept-Encoding`: reduced to classes. Where an answer varies on
    /// `Accept`, its whole value selects.
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

/// The class of a request field.
pub fn class(name: &HeaderName) -> Class {
    let name = name.as_str();
    let whole = |(_, _, names): &&Listed| names.contains(&name);
    let begins = |(_, _, names): &&Listed| names.iter().any(|known| is_beginning(known, name));
    LISTED
        .iter()
        .find(whole)
        .or_else(|| LISTED.iter().find(begins))
        .map_or(Class::Unknown, |(class, _, _)| *class)
}

/// Whether a listed name ends with `*`, and `name` begins with what is before.
fn is_beginning(listed: &str, name: &str) -> bool {
    let beginning = listed.strip_suffix('*');
    beginning.is_some_and(|beginning| name.starts_with(beginning))
}

/// Whether a field of an answer speaks of one moment or of one request. Such fields reach
/// the visitor whose request caused the fetch and are not replayed on hits.
pub fn is_momentary(name: &HeaderName) -> bool {
    let name = name.as_str();
    MOMENTARY.iter().any(|(_, names)| {
        let mut names = names.iter();
        names.any(|known| *known == name || is_beginning(known, name))
    })
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

    /// A table that names nothing twice, in order, with a source for each name.
    fn check(table: &[(&str, &[&str])]) {
        let mut seen = std::collections::HashSet::new();
        for (source, names) in table {
            assert!(!source.is_empty() && !names.is_empty(), "{source}");
            for name in *names {
                let whole = name.strip_suffix('*').unwrap_or(name);
                let parsed = HeaderName::try_from(whole);
                assert!(
                    parsed.is_ok_and(|parsed| parsed.as_str() == whole),
                    "{name}"
                );
                assert!(seen.insert(*name), "{name} twice");
            }
            let beginning = |name: &&str| name.trim_end_matches('*').to_owned();
            assert!(names.is_sorted_by_key(beginning), "{names:?}");
        }
    }

    #[test]
    fn each_name_is_listed_once_with_its_source() {
        let requests: Vec<(&str, &[&str])> = LISTED
            .iter()
            .map(|(_, source, names)| (*source, *names))
            .collect();
        check(&requests);
        check(MOMENTARY);
        // What begins like another row's names is in a table for its class.
        for (class, _, names) in LISTED {
            for name in names.iter().filter(|name| !name.ends_with('*')) {
                let mut rows = LISTED.iter().filter(|(of, ..)| of == class);
                let covered = |known: &&str| is_beginning(known, name);
                let covered = rows.any(|(.., names)| names.iter().any(&covered));
                assert!(!covered, "{name} need not be listed");
            }
        }
    }

    /// Each request of a video player, or through a load balancer that adds an id, was a
    /// question of its own.
    #[test]
    fn fields_that_are_new_in_each_request_are_dropped() {
        for name in [
            "cmcd-request",
            "cmcd-session",
            "cloudfront-viewer-address",
            "cloudfront-viewer-latitude",
            "x-appgw-trace-id",
            "x-unique-id",
            "x-kong-request-id",
            "elastic-apm-traceparent",
            "x-akamai-edgescape",
            "akamai-origin-hop",
            "x-b3-traceid",
            "b3",
            "x-datadog-trace-id",
            "newrelic",
            "x-dynatrace",
            "x-dynatrace-test",
            "x-dtc",
            "x-instana-t",
            "sw8",
            "uberctx-user",
            "x-playback-session-id",
            "x-request-id",
            "x-correlationid",
            "fly-request-id",
            "cf-connecting-ipv6",
            "x-amzn-trace-id",
            "x-cloud-trace-context",
        ] {
            assert_eq!(
                class(&HeaderName::from_static(name)),
                Class::Latent,
                "{name}"
            );
        }
        // What an origin may be told because its pages differ by it.
        for name in [
            "cloudfront-viewer-country",
            "cloudfront-is-mobile-viewer",
            "x-amz-security-token",
            "cf-access-jwt-assertion",
            "x-kong-consumer",
        ] {
            assert_eq!(
                class(&HeaderName::from_static(name)),
                Class::Unknown,
                "{name}"
            );
        }
    }

    #[test]
    fn fields_of_the_moment_are_known() {
        for (name, expected) in [
            ("x-ratelimit-remaining", true),
            ("ratelimit", true),
            ("ratelimit-policy", true),
            ("retry-after", true),
            ("server-timing", true),
            ("x-request-id", true),
            ("request-id", true),
            ("traceresponse", true),
            ("traceparent", true),
            ("x-b3-spanid", true),
            ("x-datadog-trace-id", true),
            ("x-amz-id-2", true),
            ("x-kong-upstream-latency", true),
            ("x-github-request-id", true),
            ("sprequestguid", true),
            ("x-debug-token-link", true),
            ("replay-nonce", true),
            ("etag", false),
            ("x-frame-options", false),
            ("x-powered-by", false),
            ("cache-status", false),
        ] {
            assert_eq!(
                is_momentary(&HeaderName::from_static(name)),
                expected,
                "{name}"
            );
        }
    }
}
