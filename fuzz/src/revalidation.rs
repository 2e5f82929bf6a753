//! Conditions, what a 304 and a HEAD do to an entry, and what is kept of one.
//!
//! Input: `<received> <body length> <flags>`, a request's fields, an entry's, a
//! new response's.

use crate::input::{Sections, lines};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use leeward::semantics::{
    HeadUpdate, IgnoreOrigin, Policy, Precondition, Preset, ResponseDirectives, add_validators,
    confirms, evaluate, freshen, head_update, matches, not_modified_headers, remove_conditions,
    remove_private_fields,
};
use leeward::time::Time;

/// Everything below, for one input.
pub fn check(input: &[u8]) {
    let mut input = Sections::of(input);
    let [received, body_length, flags] = input.numbers();
    let request = input.fields();
    let entry = input.fields();
    let new = input.fields();
    let received = Time::from_unix_millis(received);
    conditions(&request, &entry, received);
    validators(&request, &entry, received);
    for preset in [Preset::Strict, Preset::Uptime] {
        updated(&entry, &new, preset);
    }
    let _ = confirms(&entry, &new);
    head(&entry, body_length, &new);
    for response in [&entry, &new, &freshen(&entry, &new, Preset::Uptime)] {
        kept(response, flags);
    }
}

fn evaluated(
    method: Method,
    request: &HeaderMap,
    status: StatusCode,
    entry: &HeaderMap,
    received: Time,
) -> bool {
    evaluate(&method, request, status, entry, received) == Precondition::NotModified
}

fn conditions(request: &HeaderMap, entry: &HeaderMap, received: Time) {
    let ok = StatusCode::OK;
    // RFC 9110 section 13.2.1: of GET and HEAD, answered with success.
    assert!(!evaluated(Method::POST, request, ok, entry, received));
    let not_found = StatusCode::NOT_FOUND;
    assert!(!evaluated(Method::GET, request, not_found, entry, received));
    let not_modified = evaluated(Method::GET, request, ok, entry, received);
    assert_eq!(
        not_modified,
        evaluated(Method::HEAD, request, ok, entry, received)
    );
    let tagged = request.contains_key("if-none-match");
    if !tagged && !request.contains_key("if-modified-since") {
        assert!(!not_modified);
    }
    // RFC 9110 section 13.1.3: ignored beside If-None-Match.
    if tagged {
        let mut alone = request.clone();
        alone.remove("if-modified-since");
        assert_eq!(
            evaluated(Method::GET, &alone, ok, entry, received),
            not_modified
        );
        // A list with `*` or the entry's own tag in it cannot ask for more.
        let mut any = request.clone();
        any.append("if-none-match", HeaderValue::from_static("*"));
        assert!(evaluated(Method::GET, &any, ok, entry, received));
    }
    // RFC 9110 section 15.4.5.
    let told = not_modified_headers(entry);
    for name in [
        "content-length",
        "content-type",
        "set-cookie",
        "content-encoding",
    ] {
        assert!(!told.contains_key(name));
    }
    for name in told.keys() {
        assert_eq!(lines(&told, name.as_str()), lines(entry, name.as_str()));
    }
    for name in [
        "cache-control",
        "date",
        "etag",
        "expires",
        "vary",
        "content-location",
    ] {
        assert_eq!(told.contains_key(name), entry.contains_key(name));
    }
}

fn sound_tag(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let opaque = value
        .strip_prefix(b"W/")
        .unwrap_or(value)
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    opaque.is_some_and(|opaque| !opaque.contains(&b'"'))
}

/// A revalidation asks for what the entry is, and nothing of the visitor's.
fn validators(request: &HeaderMap, entry: &HeaderMap, received: Time) {
    let mut fill = request.clone();
    let added = add_validators(&mut fill, entry);
    for name in ["range", "if-range", "if-match", "if-unmodified-since"] {
        assert!(!fill.contains_key(name));
    }
    assert_eq!(
        added,
        fill.contains_key("if-none-match") || fill.contains_key("if-modified-since")
    );
    let tag = fill.get("if-none-match");
    if added && tag.is_none_or(sound_tag) {
        assert!(evaluated(
            Method::GET,
            &fill,
            StatusCode::OK,
            entry,
            received
        ));
        assert!(matches(entry, entry) && confirms(entry, entry));
    }
    remove_conditions(&mut fill);
    let mut plain = request.clone();
    remove_conditions(&mut plain);
    assert_eq!(fill, plain);
}

const OF_THE_BODY: [&str; 7] = [
    "content-encoding",
    "content-length",
    "content-range",
    "content-md5",
    "content-digest",
    "etag",
    "trailer",
];

/// Fields that may belong to the stored content.
const OF_THE_CONTENT: [&str; 3] = [
    "content-security-policy",
    "content-security-policy-report-only",
    "content-type",
];

/// RFC 9111 section 3.2.
fn updated(entry: &HeaderMap, new: &HeaderMap, preset: Preset) {
    let merged = freshen(entry, new, preset);
    for name in OF_THE_BODY {
        assert_eq!(lines(&merged, name), lines(entry, name), "{name}");
    }
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
        assert!(!merged.contains_key(name));
    }
    for name in merged.keys().map(http::HeaderName::as_str) {
        let (before, said) = (lines(entry, name), lines(new, name));
        let now = lines(&merged, name);
        // Whole, from the one or the other, and never mixed.
        assert!(now == said || now == before, "{name}");
        let belongs = OF_THE_BODY.contains(&name) || OF_THE_CONTENT.contains(&name);
        let hidden = new.contains_key("connection") || belongs;
        assert!(hidden || said.is_empty() || now == said, "{name}");
    }
    if preset == Preset::Uptime {
        assert_eq!(lines(&merged, "content-type"), lines(entry, "content-type"));
    }
    assert_eq!(freshen(&merged, new, preset), merged);
}

/// RFC 9111 section 4.3.5.
fn head(entry: &HeaderMap, body_length: u64, new: &HeaderMap) {
    let told = lines(new, "content-length");
    match head_update(entry, body_length, new) {
        HeadUpdate::Freshen => {
            assert!(matches(entry, new));
            assert!(
                told.is_empty() || told == [&HeaderValue::from(body_length)],
                "another length"
            );
        }
        HeadUpdate::Unknown => {}
        HeadUpdate::Outdated => {
            assert!(!matches(entry, new) || told != [&HeaderValue::from(body_length)]);
            assert!(!matches(entry, new) || !told.is_empty());
        }
    }
}

/// RFC 9111 sections 3.1, 5.2.2.4 and 5.2.2.7.
fn kept(response: &HeaderMap, flags: u64) {
    let ignore_origin = IgnoreOrigin {
        private: flags & 1 != 0,
        no_cache: flags & 2 != 0,
        no_store: flags & 4 != 0,
        must_revalidate: flags & 8 != 0,
        set_cookie: flags & 16 != 0,
    };
    let policy = Policy {
        ignore_origin,
        ..Policy::default()
    };
    let mut stored = response.clone();
    remove_private_fields(&mut stored, &policy);
    let said = ResponseDirectives::parse(response).without(ignore_origin);
    for name in said.listed_fields() {
        assert!(!stored.contains_key(name), "{name}");
    }
    assert!(!stored.contains_key("set-cookie"));
    for name in ["connection", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert!(!stored.contains_key(name));
    }
    for name in stored.keys().map(http::HeaderName::as_str) {
        assert_eq!(lines(&stored, name), lines(response, name));
    }
}
