//! Whether a response may be stored (RFC 9111 section 3), and how fresh it is.

use super::date;
use super::directives::{Seconds, members, seconds};
use super::fields::single;
use super::freshness::Freshness;
use super::invalidate::{Target, stands_for_target};
use super::policy::{Policy, Preset};
use super::response::{ResponseDirectives, Scope, Source};
use super::vary::{Vary, vary};
use crate::time::{Time, millis};
use http::header::{AGE, AUTHORIZATION, COOKIE, DATE, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};
use std::fmt;
use std::time::Duration;

/// Whether to store a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storability {
    /// Store it, without the fields that `remove_private_fields` removes.
    Store(Freshness),
    /// Hand it on, and store nothing.
    DoNotStore(Reason),
}

/// Why a response is not stored. `Display` gives a token for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The method's answers are not stored.
    Method,
    /// 1xx: the final response is yet to come.
    NotFinal,
    /// Part of a representation (206), or about one (416).
    Partial,
    /// 304, which updates an entry and is none.
    NotModified,
    /// The request said `no-store`.
    RequestNoStore,
    /// The response said `no-store`.
    NoStore,
    /// The response said `private`.
    Private,
    /// Answer to a request with `Authorization`, without leave to share it.
    Authorization,
    /// Sets a cookie, without leave to share it.
    SetCookie,
    /// Answer to a request with `Cookie` that says neither that it may be shared
    /// nor for how long, and has no validator.
    Cookie,
    /// `Vary: *`, or a `Vary` that cannot be read.
    VaryStar,
    /// `must-understand`, and the status is not understood.
    NotUnderstood,
    /// Says nothing that would allow it, and its status is not cacheable by default.
    NoFreshness,
    /// Fresh for no time, not to be used stale, and nothing to validate it with.
    Useless,
}

impl Reason {
    /// Every reason, for counters and tests.
    pub const ALL: [Reason; 14] = [
        Reason::Method,
        Reason::NotFinal,
        Reason::Partial,
        Reason::NotModified,
        Reason::RequestNoStore,
        Reason::NoStore,
        Reason::Private,
        Reason::Authorization,
        Reason::SetCookie,
        Reason::Cookie,
        Reason::VaryStar,
        Reason::NotUnderstood,
        Reason::NoFreshness,
        Reason::Useless,
    ];

    /// Whether the next request for the key probably meets the same reason, so
    /// that a pass mark is due: requests then do not queue for nothing. A later
    /// answer that may be stored, to a request without credentials for instance,
    /// should take the mark away.
    pub fn marks_pass(self) -> bool {
        match self {
            Reason::NoStore
            | Reason::Private
            | Reason::Authorization
            | Reason::SetCookie
            | Reason::Cookie
            | Reason::VaryStar
            | Reason::NotUnderstood
            | Reason::NoFreshness
            | Reason::Useless => true,
            Reason::Method
            | Reason::NotFinal
            | Reason::Partial
            | Reason::NotModified
            | Reason::RequestNoStore => false,
        }
    }

    /// A short name, fit for logs, counters and `Cache-Status` details.
    pub fn token(self) -> &'static str {
        match self {
            Reason::Method => "method",
            Reason::NotFinal => "not-final",
            Reason::Partial => "partial",
            Reason::NotModified => "not-modified",
            Reason::RequestNoStore => "request-no-store",
            Reason::NoStore => "no-store",
            Reason::Private => "private",
            Reason::Authorization => "authorization",
            Reason::SetCookie => "set-cookie",
            Reason::Cookie => "cookie",
            Reason::VaryStar => "vary-star",
            Reason::NotUnderstood => "not-understood",
            Reason::NoFreshness => "no-freshness",
            Reason::Useless => "useless",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// Decides about the response to a GET, and computes its freshness.
///
/// Expects the response as the origin sent it, before anything is removed.
pub fn storability(
    method: &Method,
    request_headers: &HeaderMap,
    status: StatusCode,
    response_headers: &HeaderMap,
    request_time: Time,
    response_time: Time,
    policy: &Policy,
) -> Storability {
    if method != Method::GET {
        return Storability::DoNotStore(Reason::Method);
    }
    // RFC 9111 section 3: the status is final; 304 and 206 have rules of their own.
    match status {
        _ if status.is_informational() => Storability::DoNotStore(Reason::NotFinal),
        StatusCode::NOT_MODIFIED => Storability::DoNotStore(Reason::NotModified),
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            Storability::DoNotStore(Reason::Partial)
        }
        _ => decide(
            request_headers,
            status,
            response_headers,
            request_time,
            response_time,
            policy,
        ),
    }
}

/// Decides about the response to a POST: stored for later GETs of its target if
/// it is successful, says so by `Content-Location`, and says for how long (RFC
/// 9110 section 9.3.3).
pub fn storability_of_post(
    target: Target<'_>,
    request_headers: &HeaderMap,
    status: StatusCode,
    response_headers: &HeaderMap,
    request_time: Time,
    response_time: Time,
    policy: &Policy,
) -> Storability {
    let said = ResponseDirectives::parse(response_headers);
    let explicit = explicit_lifetime(response_headers, response_time, &said).is_some();
    if !status.is_success() || !explicit || !stands_for_target(target, response_headers) {
        return Storability::DoNotStore(Reason::Method);
    }
    storability(
        &Method::GET,
        request_headers,
        status,
        response_headers,
        request_time,
        response_time,
        policy,
    )
}

/// All rules but those on method and on incomplete responses.
pub(super) fn decide(
    request_headers: &HeaderMap,
    status: StatusCode,
    response_headers: &HeaderMap,
    request_time: Time,
    response_time: Time,
    policy: &Policy,
) -> Storability {
    let said = ResponseDirectives::parse(response_headers);
    if let Some(reason) = forbidden(request_headers, status, response_headers, &said, policy) {
        return Storability::DoNotStore(reason);
    }
    let shared = said.public || said.s_maxage.is_some();
    let said = said.without(policy.ignore_origin);
    let Some(lifetime) = lifetime(status, response_headers, response_time, &said, policy) else {
        return Storability::DoNotStore(Reason::NoFreshness);
    };
    // Silence about an answer to a request with `Cookie` may be one visitor's
    // page: no other visitor gets it without the origin being asked.
    let personal = request_headers.contains_key(COOKIE) && !shared;
    let (lifetime_ms, operators_swr, operators_sie) = match lifetime {
        Lifetime::Stated(0) | Lifetime::Default { guess: 0, .. } if personal => (0, false, false),
        Lifetime::Stated(lifetime) => (lifetime, true, true),
        Lifetime::Default { guess, .. } if personal => (guess, true, true),
        Lifetime::Default { guess, default } => {
            let lifetime = guess.max(default);
            (lifetime, lifetime > 0, true)
        }
    };
    let floors = Policy {
        stale_while_revalidate: if operators_swr {
            policy.stale_while_revalidate
        } else {
            Duration::ZERO
        },
        stale_if_error: if operators_sie {
            policy.stale_if_error
        } else {
            Duration::ZERO
        },
        ..*policy
    };
    let (stale_while_revalidate_ms, stale_if_error_ms) = stale_windows(&said, &floors);
    let freshness = Freshness {
        lifetime_ms,
        initial_age_ms: initial_age_ms(response_headers, request_time, response_time),
        response_time,
        stale_while_revalidate_ms,
        stale_if_error_ms,
        must_revalidate: bar(&said, policy) != Bar::None,
        no_cache: said.no_cache == Scope::Everything,
        immutable: said.immutable,
    };
    let of_use = freshness.is_fresh(response_time)
        || freshness.may_serve_on_error(response_time)
        || response_headers.contains_key(ETAG)
        || response_headers.contains_key(LAST_MODIFIED);
    match (of_use, personal) {
        (true, _) => Storability::Store(freshness),
        (false, true) => Storability::DoNotStore(Reason::Cookie),
        (false, false) => Storability::DoNotStore(Reason::Useless),
    }
}

/// What prevents storing, whatever the freshness.
fn forbidden(
    request_headers: &HeaderMap,
    status: StatusCode,
    response_headers: &HeaderMap,
    said: &ResponseDirectives,
    policy: &Policy,
) -> Option<Reason> {
    let ignored = policy.ignore_origin;
    // RFC 9111 section 5.2.1.5.
    if super::request::RequestDirectives::parse(request_headers).no_store {
        return Some(Reason::RequestNoStore);
    }
    // RFC 9111 section 5.2.2.3: `must-understand` asks to know the status, and
    // to those who do, takes `no-store` back.
    if said.must_understand && !is_understood(status) {
        return Some(Reason::NotUnderstood);
    }
    // RFC 9111 section 5.2.2.5.
    if said.no_store && !said.must_understand && !ignored.no_store {
        return Some(Reason::NoStore);
    }
    // RFC 9111 section 5.2.2.7.
    if said.private == Scope::Everything && !ignored.private {
        return Some(Reason::Private);
    }
    // RFC 9111 section 3.5.
    if request_headers.contains_key(AUTHORIZATION)
        && !(said.public || said.must_revalidate || said.s_maxage.is_some())
    {
        return Some(Reason::Authorization);
    }
    // RFC 9111 section 4.1: such an entry would match no request.
    if vary(response_headers) == Vary::Any {
        return Some(Reason::VaryStar);
    }
    // RFC 9111 section 7.3 leaves cookies to the origin's care; we ask for
    // words that are about shared caches.
    let cookie_stays = response_headers.contains_key(SET_COOKIE)
        && !ignored.set_cookie
        && !said
            .clone()
            .without(ignored)
            .listed_fields()
            .any(|name| *name == SET_COOKIE);
    if cookie_stays && !(said.public || said.s_maxage.is_some()) {
        return Some(Reason::SetCookie);
    }
    None
}

/// Where a lifetime comes from; in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    /// The origin's word, or a rule's.
    Stated(u64),
    /// Nobody's word: a guess from `Last-Modified`, and the operator's default.
    Default { guess: u64, default: u64 },
}

/// Freshness lifetime (RFC 9111 sections 4.2.1 and 4.2.2); `None` if nothing
/// allows to store the response (section 3).
fn lifetime(
    status: StatusCode,
    response_headers: &HeaderMap,
    response_time: Time,
    said: &ResponseDirectives,
    policy: &Policy,
) -> Option<Lifetime> {
    let explicit = explicit_lifetime(response_headers, response_time, said);
    let by_default = is_heuristically_cacheable(status) || said.public;
    let ruled = policy
        .ttl
        .filter(|_| explicit.is_some() || by_default || !status.is_server_error());
    if let Some(stated) = ruled.map(millis).or(explicit) {
        return Some(Lifetime::Stated(stated));
    }
    by_default.then(|| Lifetime::Default {
        guess: heuristic_lifetime(response_headers, response_time)
            .min(millis(policy.heuristic_max)),
        default: millis(policy.default_ttl),
    })
}

/// What the origin says of the lifetime: `s-maxage` before `max-age` before `Expires`.
fn explicit_lifetime(
    response_headers: &HeaderMap,
    response_time: Time,
    said: &ResponseDirectives,
) -> Option<u64> {
    if let Some(stated) = said.s_maxage.or(said.max_age) {
        return Some(u64::from(stated.or_zero()).saturating_mul(1_000));
    }
    match said.source {
        Source::Targeted => return None,
        Source::Untargeted => {}
    }
    if !response_headers.contains_key(EXPIRES) {
        return None;
    }
    // RFC 9111 section 5.3: no date, or two of them, is in the past.
    let expires =
        single(response_headers, &EXPIRES).and_then(|value| date::parse(value.as_bytes()));
    let date = date_of(response_headers, response_time);
    Some(expires.map_or(0, |expires| millis(expires.since(date))))
}

/// A tenth of the time since the last modification (RFC 9111 section 4.2.2).
fn heuristic_lifetime(response_headers: &HeaderMap, response_time: Time) -> u64 {
    let modified =
        single(response_headers, &LAST_MODIFIED).and_then(|value| date::parse(value.as_bytes()));
    let date = date_of(response_headers, response_time);
    modified.map_or(0, |modified| millis(date.since(modified)) / 10)
}

/// The origin's `Date`; without a valid one, when the response was received
/// (RFC 9110 section 6.6.1), in whole seconds like any date.
pub(super) fn date_of(headers: &HeaderMap, response_time: Time) -> Time {
    single(headers, &DATE)
        .and_then(|value| date::parse(value.as_bytes()))
        .unwrap_or_else(|| date::whole_seconds(response_time))
}

/// `corrected_initial_age` in milliseconds (RFC 9111 section 4.2.3).
pub(super) fn initial_age_ms(headers: &HeaderMap, request_time: Time, response_time: Time) -> u64 {
    // A date shows whole seconds: what is cut off there is no age.
    let apparent =
        millis(date::whole_seconds(response_time).since(date_of(headers, response_time)));
    let delay = millis(response_time.since(request_time));
    apparent.max(received_age_ms(headers).saturating_add(delay))
}

/// `Age` in milliseconds (RFC 9111 section 5.1): the first of several members
/// or lines counts, and nothing if it is no number.
fn received_age_ms(headers: &HeaderMap) -> u64 {
    let first = headers
        .get(AGE)
        .and_then(|line| members(line.as_bytes()).next().map(seconds));
    match first {
        Some(Seconds::Valid(age)) => u64::from(age).saturating_mul(1_000),
        Some(Seconds::Malformed) | None => 0,
    }
}

/// Whether stale use without validation is forbidden (RFC 9111 section 4.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bar {
    /// It is not.
    None,
    /// By `s-maxage`, whose bar is implied (RFC 9111 section 5.2.2.10).
    Implied,
    /// In so many words.
    Stated,
}

fn bar(said: &ResponseDirectives, policy: &Policy) -> Bar {
    if said.must_revalidate || said.proxy_revalidate {
        Bar::Stated
    } else if said.s_maxage.is_some() && !policy.ignore_origin.must_revalidate {
        Bar::Implied
    } else {
        Bar::None
    }
}

/// Stale-while-revalidate and stale-if-error windows in milliseconds.
fn stale_windows(said: &ResponseDirectives, policy: &Policy) -> (u64, u64) {
    let stated = |directive: Option<Seconds>| {
        directive
            .and_then(Seconds::valid)
            .map(|seconds| u64::from(seconds).saturating_mul(1_000))
    };
    let while_revalidating = stated(said.stale_while_revalidate);
    let on_error = stated(said.stale_if_error);
    if said.no_cache == Scope::Everything {
        return (0, 0);
    }
    match (bar(said, policy), policy.preset) {
        (Bar::Stated, Preset::Strict | Preset::Uptime) | (Bar::Implied, Preset::Strict) => (0, 0),
        // The origin's own windows beside its own `s-maxage` say what it means
        // better than what `s-maxage` implies; the operator's do not apply.
        (Bar::Implied, Preset::Uptime) => (while_revalidating.unwrap_or(0), on_error.unwrap_or(0)),
        (Bar::None, Preset::Strict) => (
            while_revalidating.unwrap_or(0),
            on_error.unwrap_or_else(|| millis(policy.stale_if_error)),
        ),
        (Bar::None, Preset::Uptime) => (
            at_least(while_revalidating, policy.stale_while_revalidate),
            at_least(on_error, policy.stale_if_error),
        ),
    }
}

/// The longer of the origin's window and the operator's; a stated zero is a refusal.
fn at_least(stated: Option<u64>, floor: Duration) -> u64 {
    match stated {
        Some(0) => 0,
        Some(window) => window.max(millis(floor)),
        None => millis(floor),
    }
}

/// Statuses that are cacheable without a word about freshness (RFC 9110
/// section 15.1); 206 is not here, parts being stored by rules of their own.
pub(super) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// Statuses whose meaning for a cache is implemented: those of RFC 9110 section
/// 15 but for 206, 304 and 416, which are never stored as they are.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(),
        200..=205 | 300..=303 | 307 | 308 | 400..=415 | 417 | 421 | 422 | 426 | 500..=505)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]

    use super::super::fields::tests::{arbitrary_map, map};
    use super::super::freshness::tests::at;
    use super::super::policy::IgnoreOrigin;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    // The time of the examples, `at(0)`, is Sun, 09 Sep 2001 01:46:40 GMT.
    const NOW: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
    const IN_A_MINUTE: &str = "Sun, 09 Sep 2001 01:47:40 GMT";
    const A_MINUTE_AGO: &str = "Sun, 09 Sep 2001 01:45:40 GMT";
    /// 1000 seconds before.
    const MODIFIED: &str = "Sun, 09 Sep 2001 01:30:00 GMT";

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn decided(
        policy: Policy,
        status: u16,
        request: Fields<'_>,
        response: Fields<'_>,
    ) -> Storability {
        let status = StatusCode::from_u16(status).unwrap();
        storability(
            &Method::GET,
            &map(request),
            status,
            &map(response),
            at(0),
            at(0),
            &policy,
        )
    }

    /// The freshness under `strict`; a reason makes the test fail.
    fn strict(response: Fields<'_>) -> Freshness {
        stored(Policy::of(Preset::Strict), 200, &[], response)
    }

    fn stored(policy: Policy, status: u16, request: Fields<'_>, response: Fields<'_>) -> Freshness {
        match decided(policy, status, request, response) {
            Storability::Store(freshness) => freshness,
            Storability::DoNotStore(reason) => panic!("not stored: {reason}, {response:?}"),
        }
    }

    fn cc(value: &str) -> [(&'static str, &str); 1] {
        [("cache-control", value)]
    }

    #[test]
    fn lifetimes_by_precedence() {
        for (response, seconds) in [
            (&[("cache-control", "max-age=60")][..], 60),
            (&[("cache-control", "MaX-aGe=\"60\"")][..], 60),
            (&[("cache-control", "max-age=0")][..], 0),
            (&[("cache-control", "max-age=99999999999")][..], 0x7fff_ffff),
            (&[("cache-control", "max-age=60, max-age=1")][..], 60),
            (
                &[
                    ("cache-control", "max-age=60"),
                    ("cache-control", "max-age=1"),
                ][..],
                60,
            ),
            (&[("cache-control", "max-age=1, s-maxage=60")][..], 60),
            (&[("cache-control", "max-age=60, s-maxage=1")][..], 1),
            // Malformed numbers are zero, whatever else might be guessed.
            (
                &[("cache-control", "max-age=-1"), ("expires", IN_A_MINUTE)][..],
                0,
            ),
            (
                &[
                    ("cache-control", "max-age=1.5"),
                    ("last-modified", MODIFIED),
                ][..],
                0,
            ),
            (&[("cache-control", "max-age")][..], 0),
            (
                &[("cache-control", "max-age=60, s-maxage=x"), ("etag", "a")][..],
                0,
            ),
            // Expires.
            (&[("expires", IN_A_MINUTE)][..], 60),
            (&[("expires", IN_A_MINUTE), ("date", NOW)][..], 60),
            (&[("expires", IN_A_MINUTE), ("date", A_MINUTE_AGO)][..], 120),
            (&[("expires", IN_A_MINUTE), ("date", "foo")][..], 60),
            (&[("expires", A_MINUTE_AGO), ("date", NOW)][..], 0),
            (&[("expires", NOW), ("date", NOW)][..], 0),
            (&[("expires", "0"), ("last-modified", MODIFIED)][..], 0),
            (&[("expires", ""), ("last-modified", MODIFIED)][..], 0),
            (&[("expires", IN_A_MINUTE), ("expires", IN_A_MINUTE)][..], 0),
            (
                &[("cache-control", "max-age=5"), ("expires", A_MINUTE_AGO)][..],
                5,
            ),
            (
                &[("cache-control", "max-age=0"), ("expires", IN_A_MINUTE)][..],
                0,
            ),
            // Guesses: a tenth.
            (&[("last-modified", MODIFIED)][..], 100),
            (&[("last-modified", MODIFIED), ("date", NOW)][..], 100),
            (&[("last-modified", IN_A_MINUTE), ("date", NOW)][..], 0),
            (
                &[("last-modified", "Sat, 09 Sep 1972 01:46:40 GMT")][..],
                24 * 3600,
            ),
            (&[][..], 0),
            // The targeted field beats both, and only if it is valid.
            (
                &[
                    ("cdn-cache-control", "max-age=9"),
                    ("cache-control", "max-age=60"),
                    ("expires", IN_A_MINUTE),
                ][..],
                9,
            ),
            (
                &[
                    ("cdn-cache-control", "max-age=9"),
                    ("cache-control", "no-store"),
                ][..],
                9,
            ),
            (
                &[
                    ("cdn-cache-control", "foo"),
                    ("expires", IN_A_MINUTE),
                    ("last-modified", MODIFIED),
                ][..],
                100,
            ),
            (
                &[
                    ("cdn-cache-control", "max-age=9,"),
                    ("cache-control", "max-age=60"),
                ][..],
                60,
            ),
        ] {
            assert_eq!(
                strict(response).lifetime_ms,
                seconds * 1_000,
                "{response:?}"
            );
        }
    }

    #[test]
    fn ages_by_the_larger_of_two_estimates() {
        for (response, sent, received, expected_ms) in [
            (&[][..], 0, 0, 0),
            (&[][..], 0, 3, 3_000),
            (&[("age", "7")][..], 0, 3, 10_000),
            (&[("age", "7"), ("date", A_MINUTE_AGO)][..], 0, 3, 63_000),
            (&[("age", "70"), ("date", A_MINUTE_AGO)][..], 0, 3, 73_000),
            (&[("date", IN_A_MINUTE)][..], 0, 0, 0),
            (&[("age", "7, 0")][..], 0, 0, 7_000),
            (&[("age", "0"), ("age", "7")][..], 0, 0, 0),
            (&[("age", "-7")][..], 0, 0, 0),
            (&[("age", "7.0")][..], 0, 0, 0),
            (&[("age", "7;a=b")][..], 0, 0, 0),
            (
                &[("age", "99999999999999999999")][..],
                0,
                0,
                2_147_483_647_000,
            ),
            // A clock that went back.
            (&[][..], 3, 0, 0),
        ] {
            let mut fields = map(response);
            fields.append("etag", http::HeaderValue::from_static("\"a\""));
            let policy = Policy::of(Preset::Uptime);
            let decided = storability(
                &Method::GET,
                &HeaderMap::new(),
                StatusCode::OK,
                &fields,
                at(sent),
                at(received),
                &policy,
            );
            let Storability::Store(freshness) = decided else {
                panic!("{response:?}")
            };
            assert_eq!(
                freshness.initial_age_ms, expected_ms,
                "{response:?} {sent} {received}"
            );
            assert_eq!(freshness.response_time, at(received));
        }
        // The part of a second that `Date` does not show is no age.
        let received = at(0).plus(Duration::from_millis(900));
        assert_eq!(
            initial_age_ms(&map(&[("date", NOW)]), received, received),
            0
        );
    }

    #[test]
    fn what_is_not_stored_and_why() {
        let fresh = ("cache-control", "max-age=60");
        let table: &[(u16, Fields<'_>, Fields<'_>, Reason)] = &[
            (100, &[], &[fresh], Reason::NotFinal),
            (103, &[], &[fresh], Reason::NotFinal),
            (206, &[], &[fresh], Reason::Partial),
            (416, &[], &[fresh], Reason::Partial),
            (304, &[], &[fresh], Reason::NotModified),
            (
                200,
                &[("cache-control", "no-store")],
                &[fresh],
                Reason::RequestNoStore,
            ),
            (
                200,
                &[],
                &[("cache-control", "max-age=60, No-Store")],
                Reason::NoStore,
            ),
            (
                200,
                &[],
                &[
                    ("cache-control", "max-age=60"),
                    ("cache-control", "no-store"),
                ],
                Reason::NoStore,
            ),
            (
                200,
                &[],
                &[("cdn-cache-control", "no-store"), fresh],
                Reason::NoStore,
            ),
            (
                200,
                &[],
                &[("cache-control", "private, max-age=60")],
                Reason::Private,
            ),
            (
                200,
                &[],
                &[("cache-control", "private=\"a, max-age=60")],
                Reason::Private,
            ),
            (
                200,
                &[],
                &[("cdn-cache-control", "private"), fresh],
                Reason::Private,
            ),
            (
                200,
                &[("authorization", "x")],
                &[fresh],
                Reason::Authorization,
            ),
            (
                200,
                &[("authorization", "x")],
                &[("cache-control", "max-age=60, proxy-revalidate")],
                Reason::Authorization,
            ),
            (200, &[], &[fresh, ("set-cookie", "a=b")], Reason::SetCookie),
            (200, &[], &[fresh, ("vary", "a, *")], Reason::VaryStar),
            (200, &[], &[fresh, ("vary", "a b")], Reason::VaryStar),
            (
                599,
                &[],
                &[("cache-control", "max-age=60, no-store, must-understand")],
                Reason::NotUnderstood,
            ),
            (
                599,
                &[],
                &[("cache-control", "max-age=60, must-understand")],
                Reason::NotUnderstood,
            ),
            (302, &[], &[], Reason::NoFreshness),
            (
                500,
                &[],
                &[("last-modified", MODIFIED)],
                Reason::NoFreshness,
            ),
            (
                599,
                &[],
                &[("cache-control", "must-revalidate")],
                Reason::NoFreshness,
            ),
            (200, &[], &[("cache-control", "no-cache")], Reason::Useless),
            (
                200,
                &[],
                &[("cache-control", "max-age=0, must-revalidate")],
                Reason::Useless,
            ),
            (200, &[("cookie", "a=b")], &[], Reason::Cookie),
            (
                200,
                &[("cookie", "a=b")],
                &[("cache-control", "max-age=0")],
                Reason::Cookie,
            ),
            (
                200,
                &[("cookie", "a=b")],
                &[("expires", "0")],
                Reason::Cookie,
            ),
        ];
        for (status, request, response, reason) in table {
            for preset in [Preset::Strict, Preset::Uptime] {
                let decided = decided(Policy::of(preset), *status, request, response);
                assert_eq!(
                    decided,
                    Storability::DoNotStore(*reason),
                    "{preset:?} {status} {request:?} {response:?}"
                );
            }
        }
        for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
            let decided = storability(
                &method,
                &HeaderMap::new(),
                StatusCode::OK,
                &map(&[fresh]),
                at(0),
                at(0),
                &Policy::default(),
            );
            assert_eq!(decided, Storability::DoNotStore(Reason::Method));
        }
    }

    #[test]
    fn a_post_is_stored_for_get_if_it_says_for_how_long() {
        let target = Target {
            scheme: "http",
            host: "example.com",
            path_and_query: "/form",
        };
        let here = ("content-location", "/form");
        for (status, response, expected) in [
            (200, &[here, ("cache-control", "max-age=60")][..], None),
            (200, &[here, ("expires", IN_A_MINUTE)][..], None),
            (
                200,
                &[here, ("last-modified", MODIFIED)][..],
                Some(Reason::Method),
            ),
            (
                200,
                &[here, ("cache-control", "public")][..],
                Some(Reason::Method),
            ),
            (
                200,
                &[("cache-control", "max-age=60")][..],
                Some(Reason::Method),
            ),
            (
                200,
                &[
                    ("content-location", "/other"),
                    ("cache-control", "max-age=60"),
                ][..],
                Some(Reason::Method),
            ),
            (
                404,
                &[here, ("cache-control", "max-age=60")][..],
                Some(Reason::Method),
            ),
            (
                200,
                &[here, ("cache-control", "max-age=60, no-store")][..],
                Some(Reason::NoStore),
            ),
            (
                206,
                &[here, ("cache-control", "max-age=60")][..],
                Some(Reason::Partial),
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let policy = Policy::default();
            let reason = match storability_of_post(
                target,
                &HeaderMap::new(),
                status,
                &map(response),
                at(0),
                at(0),
                &policy,
            ) {
                Storability::Store(_) => None,
                Storability::DoNotStore(reason) => Some(reason),
            };
            assert_eq!(reason, expected, "{status} {response:?}");
        }
    }

    #[test]
    fn what_is_stored_all_the_same() {
        let table: &[(u16, Fields<'_>, Fields<'_>)] = &[
            (
                200,
                &[("authorization", "x")],
                &[("cache-control", "max-age=60, public")],
            ),
            (
                200,
                &[("authorization", "x")],
                &[("cache-control", "s-maxage=60")],
            ),
            (
                200,
                &[("authorization", "x")],
                &[("cache-control", "max-age=60, must-revalidate")],
            ),
            (
                200,
                &[],
                &[
                    ("cache-control", "public, max-age=60"),
                    ("set-cookie", "a=b"),
                ],
            ),
            (
                200,
                &[],
                &[("cache-control", "s-maxage=60"), ("set-cookie", "a=b")],
            ),
            (
                200,
                &[],
                &[
                    ("cache-control", "max-age=60, no-cache=\"Set-Cookie\""),
                    ("set-cookie", "a=b"),
                ],
            ),
            (200, &[], &[("cache-control", "max-age=60, private=a")]),
            (
                200,
                &[],
                &[("cache-control", "no-cache"), ("etag", "\"a\"")],
            ),
            (
                200,
                &[],
                &[
                    ("cache-control", "max-age=0, must-revalidate"),
                    ("last-modified", MODIFIED),
                ],
            ),
            (
                200,
                &[],
                &[("cache-control", "no-store, must-understand, max-age=60")],
            ),
            (
                200,
                &[("cookie", "a=b")],
                &[("cache-control", "max-age=60")],
            ),
            (
                200,
                &[("cookie", "a=b")],
                &[("cache-control", "max-age=0"), ("etag", "\"a\"")],
            ),
            (200, &[("cookie", "a=b")], &[("last-modified", MODIFIED)]),
            (
                200,
                &[("pragma", "no-cache"), ("range", "bytes=0-1")],
                &[("cache-control", "max-age=60"), ("pragma", "no-cache")],
            ),
            (
                599,
                &[],
                &[("cache-control", "public"), ("last-modified", MODIFIED)],
            ),
        ];
        for (status, request, response) in table {
            for preset in [Preset::Strict, Preset::Uptime] {
                let _ = stored(Policy::of(preset), *status, request, response);
            }
        }
    }

    #[test]
    fn every_final_status_is_storable_with_explicit_freshness() {
        for status in (200..=999).filter(|status| ![206, 304, 416].contains(status)) {
            let freshness = stored(Policy::of(Preset::Strict), status, &[], &cc("max-age=60"));
            assert_eq!(freshness.lifetime_ms, 60_000, "{status}");
        }
    }

    #[test]
    fn guesses_only_for_statuses_of_the_list() {
        for status in 200..=599 {
            let listed = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501].contains(&status);
            let decided = decided(
                Policy::of(Preset::Strict),
                status,
                &[],
                &[("last-modified", MODIFIED)],
            );
            match decided {
                Storability::Store(freshness) => {
                    assert!(listed && freshness.lifetime_ms == 100_000, "{status}")
                }
                Storability::DoNotStore(_) => assert!(!listed, "{status}"),
            }
        }
    }

    #[test]
    fn the_default_ttl_is_for_silence() {
        let uptime = Policy::of(Preset::Uptime);
        let silent = stored(uptime, 200, &[], &[]);
        assert_eq!(
            (silent.lifetime_ms, silent.stale_while_revalidate_ms),
            (60_000, 3_600_000)
        );
        assert_eq!(
            stored(uptime, 200, &[], &[("last-modified", MODIFIED)]).lifetime_ms,
            100_000
        );
        assert_eq!(
            stored(uptime, 200, &[], &[("last-modified", NOW)]).lifetime_ms,
            60_000
        );
        assert_eq!(stored(uptime, 200, &[], &cc("max-age=0")).lifetime_ms, 0);
        assert_eq!(
            decided(uptime, 500, &[], &[]),
            Storability::DoNotStore(Reason::NoFreshness)
        );
        // A visitor's cookie: the default does not apply, a guess does.
        let cookie = [("cookie", "a=b")];
        assert_eq!(
            stored(uptime, 200, &cookie, &[("last-modified", MODIFIED)]).lifetime_ms,
            100_000
        );
        let validated = stored(uptime, 200, &cookie, &[("etag", "\"a\"")]);
        assert_eq!(
            (
                validated.lifetime_ms,
                validated.stale_while_revalidate_ms,
                validated.stale_if_error_ms
            ),
            (0, 0, 0)
        );
        // Off: kept for when the origin fails, and never served before asking.
        let off = Policy {
            default_ttl: Duration::ZERO,
            ..uptime
        };
        let kept = stored(off, 200, &[], &[]);
        assert!(!kept.saves_requests() && kept.may_serve_on_error(at(0)));
        assert_eq!(
            stored(
                Policy {
                    heuristic_max: Duration::ZERO,
                    ..off
                },
                200,
                &[],
                &[("last-modified", MODIFIED)]
            )
            .lifetime_ms,
            0
        );
    }

    #[test]
    fn stale_windows_by_preset() {
        let (swr, sie) = (3_600_000, 604_800_000);
        for (directives, strict, uptime) in [
            ("max-age=60", (0, sie), (swr, sie)),
            (
                "max-age=60, stale-while-revalidate=5",
                (5_000, sie),
                (swr, sie),
            ),
            (
                "max-age=60, stale-while-revalidate=7200",
                (7_200_000, sie),
                (7_200_000, sie),
            ),
            ("max-age=60, stale-while-revalidate=0", (0, sie), (0, sie)),
            ("max-age=60, stale-while-revalidate=x", (0, sie), (swr, sie)),
            ("max-age=60, stale-if-error=5", (0, 5_000), (swr, sie)),
            ("max-age=60, stale-if-error=0", (0, 0), (swr, 0)),
            (
                "max-age=60, stale-if-error=800000",
                (0, 800_000_000),
                (swr, 800_000_000),
            ),
            ("max-age=60, must-revalidate", (0, 0), (0, 0)),
            (
                "max-age=60, proxy-revalidate, stale-if-error=5, stale-while-revalidate=5",
                (0, 0),
                (0, 0),
            ),
            ("s-maxage=60", (0, 0), (0, 0)),
            ("s-maxage=60, stale-while-revalidate=5", (0, 0), (5_000, 0)),
            ("s-maxage=60, stale-if-error=5", (0, 0), (0, 5_000)),
            ("max-age=60, no-cache=a", (0, sie), (swr, sie)),
        ] {
            for (preset, expected) in [(Preset::Strict, strict), (Preset::Uptime, uptime)] {
                let freshness = stored(Policy::of(preset), 200, &[], &cc(directives));
                let windows = (
                    freshness.stale_while_revalidate_ms,
                    freshness.stale_if_error_ms,
                );
                assert_eq!(windows, expected, "{preset:?} {directives}");
                let barred = directives.contains("revalidate,")
                    || directives.ends_with("-revalidate")
                    || directives.contains("s-maxage");
                assert_eq!(freshness.must_revalidate, barred, "{preset:?} {directives}");
            }
        }
        let no_cache = stored(
            Policy::of(Preset::Uptime),
            200,
            &[],
            &[
                ("cache-control", "max-age=60, no-cache, stale-if-error=60"),
                ("etag", "\"a\""),
            ],
        );
        assert!(
            no_cache.no_cache
                && no_cache.stale_if_error_ms == 0
                && no_cache.stale_while_revalidate_ms == 0
        );
        assert!(strict(&cc("max-age=60, immutable")).immutable);
    }

    #[test]
    fn rules_overrule_what_they_name() {
        let base = Policy::of(Preset::Uptime);
        let ignoring = |ignore_origin| Policy {
            ignore_origin,
            ..base
        };
        let nothing = IgnoreOrigin::default();
        for (policy, response, lifetime_ms) in [
            (
                ignoring(IgnoreOrigin {
                    private: true,
                    ..nothing
                }),
                &[("cache-control", "private, max-age=5")][..],
                5_000,
            ),
            (
                ignoring(IgnoreOrigin {
                    no_store: true,
                    ..nothing
                }),
                &[("cache-control", "no-store, max-age=5")][..],
                5_000,
            ),
            (
                ignoring(IgnoreOrigin {
                    no_cache: true,
                    ..nothing
                }),
                &[("cache-control", "no-cache, max-age=5")][..],
                5_000,
            ),
            (
                ignoring(IgnoreOrigin {
                    set_cookie: true,
                    ..nothing
                }),
                &[("cache-control", "max-age=5"), ("set-cookie", "a=b")][..],
                5_000,
            ),
            (
                Policy {
                    ttl: Some(Duration::from_secs(9)),
                    ..base
                },
                &[("cache-control", "max-age=5")][..],
                9_000,
            ),
            (
                Policy {
                    ttl: Some(Duration::from_secs(9)),
                    ..base
                },
                &[][..],
                9_000,
            ),
        ] {
            let freshness = stored(policy, 200, &[], response);
            assert_eq!(freshness.lifetime_ms, lifetime_ms, "{response:?}");
            assert!(!freshness.no_cache);
        }
        let lenient = ignoring(IgnoreOrigin {
            must_revalidate: true,
            ..nothing
        });
        for directives in [
            "max-age=5, must-revalidate",
            "max-age=5, proxy-revalidate",
            "s-maxage=5",
        ] {
            let freshness = stored(lenient, 200, &[], &cc(directives));
            assert!(
                !freshness.must_revalidate && freshness.stale_while_revalidate_ms > 0,
                "{directives}"
            );
        }
        // One word set aside is not another.
        let private = ignoring(IgnoreOrigin {
            private: true,
            ..nothing
        });
        assert_eq!(
            decided(private, 200, &[], &cc("private, no-store, max-age=5")),
            Storability::DoNotStore(Reason::NoStore)
        );
        let ruled = Policy {
            ttl: Some(Duration::from_secs(9)),
            ..base
        };
        assert_eq!(
            decided(ruled, 200, &[], &cc("no-store")),
            Storability::DoNotStore(Reason::NoStore)
        );
        assert_eq!(
            decided(ruled, 503, &[], &[]),
            Storability::DoNotStore(Reason::NoFreshness)
        );
        assert_eq!(stored(ruled, 403, &[], &[]).lifetime_ms, 9_000);
        assert_eq!(stored(ruled, 503, &[], &cc("max-age=1")).lifetime_ms, 9_000);
    }

    #[test]
    fn reasons_have_tokens_of_their_own() {
        let tokens: HashSet<_> = Reason::ALL
            .iter()
            .map(|reason| reason.to_string())
            .collect();
        assert_eq!(tokens.len(), Reason::ALL.len());
        assert!(tokens.iter().all(|token| {
            token
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        }));
        assert!(Reason::NoStore.marks_pass() && !Reason::RequestNoStore.marks_pass());
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        (
            any::<[bool; 6]>(),
            proptest::option::of(any::<u32>()),
            any::<[u32; 4]>(),
        )
            .prop_map(|(flags, ttl, numbers)| {
                let [
                    strict,
                    private,
                    no_cache,
                    no_store,
                    must_revalidate,
                    set_cookie,
                ] = flags;
                let [default_ttl, heuristic_max, swr, sie] =
                    numbers.map(|n| Duration::from_secs(u64::from(n) * u64::from(n)));
                Policy {
                    preset: if strict {
                        Preset::Strict
                    } else {
                        Preset::Uptime
                    },
                    ttl: ttl.map(|ttl| Duration::from_secs(u64::from(ttl))),
                    default_ttl,
                    heuristic_max,
                    stale_while_revalidate: swr,
                    stale_if_error: sie,
                    jitter_per_mille: 0,
                    ignore_origin: IgnoreOrigin {
                        private,
                        no_cache,
                        no_store,
                        must_revalidate,
                        set_cookie,
                    },
                }
            })
    }

    proptest! {
        #[test]
        fn any_exchange_is_decided(
            request in arbitrary_map(), response in arbitrary_map(), status in 100..1000u16,
            times in any::<(u64, u64, u64)>(), policy in any_policy(),
        ) {
            let (sent, received, now) = times;
            let [sent, received, now] = [sent, received, now].map(Time::from_unix_millis);
            let status = StatusCode::from_u16(status).unwrap();
            if let Storability::Store(freshness) = storability(&Method::GET, &request, status, &response, sent, received, &policy) {
                prop_assert_eq!(freshness.response_time, received);
                prop_assert!(freshness.initial_age_ms >= millis(received.since(sent)));
                prop_assert!(!freshness.must_revalidate || freshness.stale_while_revalidate_ms == 0 || response.contains_key("cache-control") || response.contains_key("cdn-cache-control"));
                let _ = (freshness.ttl(now), freshness.useful_until());
            }
        }

        #[test]
        fn silence_of_the_operator_never_overrules_a_bar(response in arbitrary_map(), strict in any::<bool>()) {
            // What the words are, read by nothing but substrings.
            let preset = if strict { Preset::Strict } else { Preset::Uptime };
            let mut response = response;
            response.remove("cdn-cache-control");
            response.append("cache-control", http::HeaderValue::from_static("must-revalidate"));
            if let Storability::Store(freshness) = storability(&Method::GET, &HeaderMap::new(), StatusCode::OK, &response, at(0), at(0), &Policy::of(preset)) {
                prop_assert_eq!((freshness.stale_while_revalidate_ms, freshness.stale_if_error_ms, freshness.must_revalidate), (0, 0, true));
            }
        }
    }
}
