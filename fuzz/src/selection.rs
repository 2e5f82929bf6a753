//! Which cell a request is about: keys, variants, and what an unsafe request
//! invalidates.
//!
//! Input: `<flags>`, two targets a line each, a host, query parameters to
//! ignore a line each, a response's fields, two requests'.

use crate::input::{Sections, lines};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use leeward::semantics::key::normal_target;
use leeward::semantics::vary::FIELDS_MAX;
use leeward::semantics::{
    KeyPolicy, Target, Vary, invalidation_targets, key, selector, stands_for_target, vary,
};

/// Everything below, for one input.
pub fn check(input: &[u8]) {
    let mut input = Sections::of(input);
    let [flags] = input.numbers();
    let targets = input.text();
    let host = input.text();
    let ignored = input.text();
    let response = input.fields();
    let (one, other) = (input.fields(), input.fields());
    let (first, second) = targets.split_once('\n').unwrap_or((&targets, ""));
    let policy = KeyPolicy {
        ignore: ignored.lines().map(str::to_owned).collect(),
        sort: flags & 1 != 0,
        vary_host: flags & 2 != 0,
    };
    keys(first, second, &host, &policy);
    variants(&response, &one, &other);
    invalidation(first, &host, &response, flags);
}

fn keys(first: &str, second: &str, host: &str, policy: &KeyPolicy) {
    // What is in the normal form stays.
    for target in [first, second] {
        let once = normal_target(target, policy);
        assert_eq!(normal_target(&once, policy), once, "{target:?}");
    }
    let same = normal_target(first, policy) == normal_target(second, policy);
    let of = |host, target| key("http", Some(host), target, policy);
    assert_eq!(of(host, first) == of(host, second), same);
    if policy.vary_host {
        assert_ne!(of(host, first), of(&format!("x{host}"), second));
    }
    // RFC 3986 section 6.2.2: equal if and only if equivalent.
    let plain = KeyPolicy::default();
    assert_eq!(
        normal_target(first, &plain) == normal_target(second, &plain),
        meaning(first) == meaning(second),
        "{first:?} {second:?}"
    );
}

/// A target letter by letter: what stands for itself, and what is escaped.
fn meaning(target: &str) -> Vec<(bool, u8)> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    let mut meant = Vec::new();
    for (text, delimiter, first) in [(Some(path), '/', None), (query, '&', Some(b'?'))] {
        let Some(text) = text else { continue };
        meant.extend(first.map(|first| (false, first)));
        for (index, piece) in text.split(delimiter).enumerate() {
            if index > 0 {
                meant.push((false, delimiter as u8));
            }
            meant.extend(letters(piece));
        }
    }
    meant
}

fn letters(text: &str) -> Vec<(bool, u8)> {
    let mut letters = Vec::new();
    let mut rest = text.as_bytes();
    let mut sound = true;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after
            .get(..2)
            .filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                let unreserved = escaped.is_ascii_alphanumeric() || b"-._~".contains(&escaped);
                letters.push((!unreserved, escaped));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                sound &= byte != b'%';
                letters.push((false, byte));
                rest = after;
            }
        }
    }
    if sound {
        return letters;
    }
    // Text with a stray percent sign is equal to itself alone.
    text.bytes().map(|byte| (false, byte)).collect()
}

fn variants(response: &HeaderMap, one: &HeaderMap, other: &HeaderMap) {
    if lines(response, "vary")
        .iter()
        .any(|line| line.as_bytes() == b"*")
    {
        assert_eq!(vary(response), Vary::Any);
    }
    let Vary::Fields(fields) = vary(response) else {
        return;
    };
    assert!((1..=FIELDS_MAX).contains(&fields.len()));
    assert!(fields.is_sorted_by(|a, b| a.as_str() < b.as_str()));
    let selected = selector(&fields, one);
    assert_eq!(
        selected == selector(&fields, other),
        fields.iter().all(|name| {
            let name = std::slice::from_ref(name);
            selector(name, one) == selector(name, other)
        })
    );
    // Fields that are not named select nothing.
    let mut named = HeaderMap::new();
    for (name, value) in one {
        if fields.contains(name) {
            named.append(name.clone(), value.clone());
        }
    }
    assert_eq!(selector(&fields, &named), selected);
    for name in &fields {
        by_lines(name, one, other);
    }
}

/// One field of two requests, compared by other means (RFC 9111 section 4.1).
fn by_lines(name: &HeaderName, one: &HeaderMap, other: &HeaderMap) {
    let only = std::slice::from_ref(name);
    let same = selector(only, one) == selector(only, other);
    let of = |request| lines(request, name.as_str());
    assert_eq!(of(one) == of(other) || same, same);
    assert!(one.contains_key(name) == other.contains_key(name) || !same);
    let quoted = |request| {
        of(request)
            .iter()
            .any(|line| line.as_bytes().contains(&b'"'))
    };
    if name.as_str().starts_with("accept-") || quoted(one) || quoted(other) {
        return;
    }
    let members = |request| {
        of(request)
            .iter()
            .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
            .map(|member| {
                let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
                let start = member.iter().position(|byte| !blank(byte));
                let end = member.iter().rposition(|byte| !blank(byte));
                match (start, end) {
                    (Some(start), Some(end)) => member[start..=end].to_vec(),
                    _ => Vec::new(),
                }
            })
            .collect::<Vec<_>>()
    };
    if one.contains_key(name) && other.contains_key(name) {
        assert_eq!(same, members(one) == members(other));
    }
}

fn invalidation(path_and_query: &str, host: &str, response: &HeaderMap, flags: u64) {
    let target = Target {
        scheme: if flags & 4 != 0 { "https" } else { "http" },
        host,
        path_and_query,
    };
    let of =
        |method, status, fields: &HeaderMap| invalidation_targets(target, method, status, fields);
    assert!(of(&Method::GET, StatusCode::OK, response).is_empty());
    assert!(of(&Method::PUT, StatusCode::BAD_REQUEST, response).is_empty());
    let found = of(&Method::PUT, StatusCode::OK, response);
    assert!((1..=3).contains(&found.len()));
    assert_eq!(found.first().map(String::as_str), Some(path_and_query));
    for (index, named) in found.iter().enumerate().skip(1) {
        assert!(found.iter().take(index).all(|earlier| earlier != named));
        // A fragment is of no use to anybody but its reader.
        assert!(!named.contains('#') || path_and_query.contains('#'));
    }
    // Another host's keys are out of reach (RFC 9111 section 4.4).
    for location in ["http://elsewhere.example/x", "//elsewhere.example/x"] {
        let elsewhere =
            HeaderMap::from_iter([(http::header::LOCATION, HeaderValue::from_static(location))]);
        if !host.to_ascii_lowercase().starts_with("elsewhere.example") {
            assert_eq!(of(&Method::PUT, StatusCode::OK, &elsewhere).len(), 1);
            assert!(!stands_for_target(target, &elsewhere));
        }
    }
    if stands_for_target(target, response) {
        assert_eq!(lines(response, "content-location").len(), 1);
    }
}
