//! Which cell a request is about: keys, questions and their fills, and what an
//! unsafe request invalidates.
//!
//! Input: `<flags>`, two targets a line each, a host, query parameters to
//! ignore a line each, a response's fields, two requests'.

use crate::input::{Sections, lines};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, request};
use leeward::config::Origin;
use leeward::question::fields::{Class, class, is_selectable};
use leeward::question::policy::{Cookies, Credentials, KeyPolicy, Pattern, RequestPolicy, Unknown};
use leeward::question::target::canonical;
use leeward::question::{Fill, Outgoing, Question, Read, Visitor, key_of};
use leeward::semantics::vary::FIELDS_MAX;
use leeward::semantics::{
    CDN_LOOP, LoopId, Target, Vary, canonical_host, invalidation_targets, selecting_names,
    stands_for_target, vary,
};

static USER_AGENT: HeaderValue = HeaderValue::from_static("leeward");

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
        ignore: ignored.lines().map(Pattern::new).collect(),
        sort: flags & 1 != 0,
        hosts: match flags & 2 {
            0 => Vec::new(),
            _ => vec![canonical_host("http", &host)],
        },
        lowercase: flags & 8 != 0,
    };
    let Ok(origin) = Origin::parse("http://origin.example:8080/app") else {
        return;
    };
    keys(first, second, &host, &policy, &origin);
    names(&response);
    let asking = Asking {
        origin: &origin,
        key: &policy,
        request: &request_policy(flags),
        vary: selecting_names(&response),
    };
    let one = [(first, &one), (second, &one), (second, &other)];
    asking.questions(&one.map(|(target, fields)| parts(target, &host, fields)));
    invalidation(first, &host, &response, flags);
}

fn request_policy(flags: u64) -> RequestPolicy {
    RequestPolicy {
        unknown: match flags & 16 {
            0 => Unknown::Key,
            _ => Unknown::Forward,
        },
        drop: vec![Pattern::new("x-drop*")],
        forward: vec![Pattern::new("x-forward-*")],
        ignored_cookies: vec![Pattern::new("_ga*")],
        credentials: match flags >> 5 & 3 {
            0 => Credentials::Pass,
            1 => Credentials::Key,
            _ => Credentials::Ignore,
        },
        cookies: match flags >> 7 & 3 {
            0 => Cookies::Pass,
            1 => Cookies::Key(vec!["a".to_owned(), "lang".to_owned()]),
            _ => Cookies::Ignore,
        },
        key_fields: 8,
        key_bytes: 1_000,
    }
}

/// A GET; none if the target is not one that a host hands on.
fn parts(target: &str, host: &str, fields: &HeaderMap) -> Option<request::Parts> {
    if !target.starts_with(['/', '?']) && target != "*" {
        return None;
    }
    let mut parts = Request::new(()).into_parts().0;
    parts.uri = Uri::builder().path_and_query(target).build().ok()?;
    parts.headers = fields.clone();
    if let Ok(host) = HeaderValue::try_from(host) {
        parts.headers.insert(http::header::HOST, host);
    }
    Some(parts)
}

fn keys(first: &str, second: &str, host: &str, policy: &KeyPolicy, origin: &Origin) {
    // What is in canonical form stays.
    for target in [first, second] {
        let once = canonical(target, policy);
        assert_eq!(canonical(&once, policy), once, "{target:?}");
        assert!(!once.is_empty());
    }
    let same = canonical(first, policy) == canonical(second, policy);
    let of = |host: &str, target| key_of(origin, "http", Some(host), target, policy);
    assert_eq!(of(host, first) == of(host, second), same);
    if policy.hosts.is_empty() {
        assert_eq!(of(host, first), of("another.example", first));
    } else {
        assert_ne!(of(host, first), of(&format!("x{host}"), second));
    }
    // RFC 3986 section 6.2.2: equal if and only if equivalent.
    let plain = KeyPolicy::default();
    assert_eq!(
        canonical(first, &plain) == canonical(second, &plain),
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

/// What a response's `Vary` names.
fn names(response: &HeaderMap) {
    if lines(response, "vary")
        .iter()
        .any(|line| line.as_bytes() == b"*")
    {
        assert_eq!(vary(response), Vary::Any);
    }
    let names = selecting_names(response);
    match vary(response) {
        Vary::Fields(fields) => {
            assert!((1..=FIELDS_MAX).contains(&fields.len()));
            assert!(fields.is_sorted_by(|a, b| a.as_str() < b.as_str()));
            assert_eq!(names, fields);
        }
        Vary::None | Vary::Any => assert!(names.is_empty()),
    }
}

/// How requests are read.
struct Asking<'a> {
    origin: &'a Origin,
    key: &'a KeyPolicy,
    request: &'a RequestPolicy,
    /// The selecting fields of every key.
    vary: Vec<HeaderName>,
}

impl Asking<'_> {
    fn read(&self, parts: &request::Parts) -> Option<Visitor> {
        match Visitor::read(parts, false, self.origin, self.key, self.request) {
            Read::Question(visitor) => Some(*visitor),
            Read::Pass(_) | Read::Misdirected | Read::Invalid => None,
        }
    }

    fn questions(&self, requests: &[Option<request::Parts>]) {
        let vary: Vec<HeaderName> = self
            .vary
            .iter()
            .filter(|name| is_selectable(name, self.request.unknown))
            .cloned()
            .collect();
        let mut read = Vec::new();
        for parts in requests.iter().flatten() {
            let Some(visitor) = self.read(parts) else {
                continue;
            };
            self.one(parts, &visitor, &vary);
            read.push(visitor);
        }
        for (index, one) in read.iter().enumerate() {
            for other in read.iter().skip(index) {
                two(one, other, &[]);
                two(one, other, &vary);
            }
        }
        if let [_, Some(one), Some(other)] = requests {
            for name in &vary {
                self.by_lines(name, &one.headers, &other.headers);
            }
        }
    }

    /// What holds for the question of one request.
    fn one(&self, parts: &request::Parts, visitor: &Visitor, vary: &[HeaderName]) {
        let question = visitor.question(vary);
        assert_eq!(question.under(vary), question);
        assert!(question.is_asked_by(visitor, &[]));
        assert_eq!(question.clone().behind().selector(), question.selector());
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        assert_eq!(visitor.target(), canonical(path, self.key));
        let scheme = if visitor.is_secure() { "https" } else { "http" };
        let host = parts
            .headers
            .get("host")
            .and_then(|host| host.to_str().ok());
        assert_eq!(
            visitor.key(),
            key_of(self.origin, scheme, host, path, self.key)
        );
        let fill = fill(&question.clone().behind()).into_parts();
        assert_eq!(fill.method, Method::GET);
        let asked = fill.uri.path_and_query().map_or("", |path| path.as_str());
        let target = match visitor.target() {
            "*" => "/",
            target => target,
        };
        assert_eq!(asked, format!("/app{target}"));
        for name in fill.headers.keys() {
            self.may_be_sent(name, &question, vary);
        }
        if self.request.unknown == Unknown::Key {
            self.without_the_rest(parts, visitor, vary);
        }
    }

    /// Whether a fill behind an answer may have this field of the visitor's, or of
    /// the shield's.
    fn may_be_sent(&self, name: &HeaderName, question: &Question, vary: &[HeaderName]) {
        let own = [
            "cdn-loop",
            "user-agent",
            "via",
            "x-forwarded-proto",
            "x-forwarded-host",
        ];
        if vary.contains(name) || own.contains(&name.as_str()) {
            return;
        }
        let may = match class(name) {
            Class::Negotiation | Class::Rewriting => true,
            Class::Unknown => self.request.unknown == Unknown::Key,
            Class::Credential => question.is_keyed_by_client(),
            Class::Connection
            | Class::Content
            | Class::Condition
            | Class::Directive
            | Class::Scheme
            | Class::Host
            | Class::MethodOverride
            | Class::Latent => false,
        };
        assert!(may, "a fill has {name}");
        let mut dropped = self.request.drop.iter();
        assert!(dropped.all(|drop| !drop.matches(name.as_str())));
    }

    /// Fields that are neither keyed nor named do not change the question.
    fn without_the_rest(&self, parts: &request::Parts, visitor: &Visitor, vary: &[HeaderName]) {
        let mut fewer = parts.clone();
        for name in parts.headers.keys() {
            let rest = match class(name) {
                Class::Connection | Class::Content | Class::Condition | Class::Directive => true,
                // The shields that it names are keyed.
                Class::Latent if *name == CDN_LOOP => false,
                Class::Latent => !vary.contains(name),
                Class::Negotiation
                | Class::Scheme
                | Class::Credential
                | Class::Host
                | Class::MethodOverride
                | Class::Rewriting
                | Class::Unknown => false,
            };
            if rest {
                fewer.headers.remove(name);
            }
        }
        let asks = self.read(&fewer).map(|visitor| visitor.question(vary));
        assert_eq!(asks, Some(visitor.question(vary)));
    }

    /// One field of two requests, compared by other means (RFC 9111 section 4.1).
    fn by_lines(&self, name: &HeaderName, one: &HeaderMap, other: &HeaderMap) {
        if class(name) != Class::Latent {
            return;
        }
        let of = |request| lines(request, name.as_str());
        let selected = |request: &HeaderMap| {
            let mut alone = HeaderMap::new();
            for value in request.get_all(name) {
                alone.append(name.clone(), value.clone());
            }
            let host = self.key.hosts.first().map_or("", String::as_str);
            let visitor = self.read(&parts("/", host, &alone)?)?;
            Some(visitor.question(std::slice::from_ref(name)).selector())
        };
        let (Some(selected_one), Some(selected_other)) = (selected(one), selected(other)) else {
            return;
        };
        let same = selected_one == selected_other;
        assert_eq!(of(one) == of(other) || same, same);
        assert!(one.contains_key(name) == other.contains_key(name) || !same);
        let quoted = |request| {
            of(request)
                .iter()
                .any(|line| line.as_bytes().contains(&b'"'))
        };
        if name.as_str() == "accept-language" || quoted(one) || quoted(other) {
            return;
        }
        if one.contains_key(name) && other.contains_key(name) {
            assert_eq!(same, members(&of(one)) == members(&of(other)));
        }
    }
}

/// The members of a list over all of its lines.
fn members(lines: &[&HeaderValue]) -> Vec<Vec<u8>> {
    lines
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
        .collect()
}

fn fill(question: &Question) -> Fill {
    question.fill(
        None,
        Outgoing {
            user_agent: &USER_AGENT,
            via: Some("leeward"),
            loop_id: LoopId::new("http://origin", &USER_AGENT),
        },
    )
}

/// Visitors that share a cell would have caused the same request.
fn two(one: &Visitor, other: &Visitor, vary: &[HeaderName]) {
    let (asked, too) = (one.question(vary), other.question(vary));
    let sent = |question: &Question| {
        let parts = fill(question).into_parts();
        (parts.uri, parts.headers)
    };
    if asked == too {
        assert_eq!(sent(&asked), sent(&too));
    }
    let (asked, too) = (asked.behind(), too.behind());
    if one.key() == other.key() && asked.selector() == too.selector() {
        let without_codings = |question| {
            let (uri, mut headers) = sent(question);
            headers.remove("accept-encoding");
            (uri, headers)
        };
        assert_eq!(without_codings(&asked), without_codings(&too));
        // The class of codings is part of the selector once an answer is encoded.
        if vary.contains(&http::header::ACCEPT_ENCODING) {
            assert_eq!(sent(&asked), sent(&too));
        }
        assert_eq!(asked.is_keyed_by_client(), too.is_keyed_by_client());
        assert!(asked.is_asked_by(other, &[]));
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
