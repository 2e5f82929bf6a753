//! The tables of what is stored, for how long, and how stale it may get.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::super::fields::tests::{arbitrary_map, map};
use super::super::freshness::tests::at;
use super::super::policy::{IgnoreOrigin, Preset, RuledWindows};
use super::*;
use crate::time::millis;
use proptest::prelude::*;
use std::collections::HashSet;

// The time of the examples, `at(0)`, is Sun, 09 Sep 2001 01:46:40 GMT.
const NOW: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
const IN_A_MINUTE: &str = "Sun, 09 Sep 2001 01:47:40 GMT";
const A_MINUTE_AGO: &str = "Sun, 09 Sep 2001 01:45:40 GMT";
/// 1000 seconds before.
const MODIFIED: &str = "Sun, 09 Sep 2001 01:30:00 GMT";

type Fields<'a> = &'a [(&'a str, &'a str)];

fn decided(policy: Policy, status: u16, request: Fields<'_>, response: Fields<'_>) -> Storability {
    decided_at("/", policy, status, request, response)
}

/// What is decided about the answer at this path.
fn decided_at(
    path: &str,
    policy: Policy,
    status: u16,
    request: Fields<'_>,
    response: Fields<'_>,
) -> Storability {
    storability(
        Asked {
            headers: &map(request),
            path,
            keyed_by_client: false,
        },
        StatusCode::from_u16(status).unwrap(),
        &map(response),
        at(0),
        at(0),
        &policy,
    )
}

/// The same for a question that belongs to one client.
fn decided_for_client(
    policy: Policy,
    status: u16,
    request: Fields<'_>,
    response: Fields<'_>,
) -> Storability {
    storability(
        Asked {
            headers: &map(request),
            path: "/",
            keyed_by_client: true,
        },
        StatusCode::from_u16(status).unwrap(),
        &map(response),
        at(0),
        at(0),
        &policy,
    )
}

const PRESETS: [Preset; 2] = [Preset::Strict, Preset::Uptime];

/// The freshness under `strict`; a reason makes the test fail.
fn strict(response: Fields<'_>) -> Freshness {
    stored(Policy::of(Preset::Strict), 200, &[], response)
}

fn stored(policy: Policy, status: u16, request: Fields<'_>, response: Fields<'_>) -> Freshness {
    kept(decided(policy, status, request, response), response).freshness
}

fn kept(decided: Storability, response: Fields<'_>) -> Kept {
    match decided {
        Storability::Store(kept) => kept,
        Storability::Brief(_, reason) => panic!("brief: {reason}, {response:?}"),
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
        let response = [response, &[("etag", "\"a\"")]].concat();
        assert_eq!(
            strict(&response).lifetime_ms,
            seconds * 1_000,
            "{response:?}"
        );
    }
}

/// The age on arrival of an answer that was asked for and came at these seconds.
fn age_on_arrival(preset: Preset, response: Fields<'_>, sent: u64, received: u64) -> u64 {
    let mut fields = map(response);
    fields.append("etag", http::HeaderValue::from_static("\"a\""));
    let asked = Asked {
        headers: &HeaderMap::new(),
        path: "/",
        keyed_by_client: false,
    };
    let decided = storability(
        asked,
        StatusCode::OK,
        &fields,
        at(sent),
        at(received),
        &Policy::of(preset),
    );
    let freshness = kept(decided, response).freshness;
    assert_eq!(freshness.response_time, at(received));
    freshness.initial_age_ms
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
        // An empty line is no member of the list (RFC 9110 section 5.6.1.2).
        (&[("age", ""), ("age", "7")][..], 0, 0, 7_000),
        (&[("age", " , 7")][..], 0, 0, 7_000),
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
        let age = age_on_arrival(Preset::Strict, response, sent, received);
        assert_eq!(age, expected_ms, "{response:?} {sent} {received}");
    }
    // The part of a second that `Date` does not show is no age.
    let received = at(0).plus(Duration::from_millis(900));
    assert_eq!(
        initial_age_ms(&map(&[("date", NOW)]), received, received),
        0
    );
}

/// An origin whose clock was a minute behind was asked for every request.
#[test]
fn the_date_of_an_origin_that_was_asked_directly_says_nothing_about_age() {
    let date = ("date", A_MINUTE_AGO);
    for (response, strict, uptime) in [
        (&[date][..], 63_000, 3_000),
        (&[][..], 3_000, 3_000),
        (&[("date", IN_A_MINUTE)][..], 3_000, 3_000),
        // Another cache has had it.
        (&[date, ("age", "0")][..], 63_000, 63_000),
        (&[date, ("age", "7")][..], 63_000, 63_000),
        (&[date, ("age", "70")][..], 73_000, 73_000),
        (&[date, ("via", "1.1 cache")][..], 63_000, 63_000),
    ] {
        for (preset, expected) in [(Preset::Strict, strict), (Preset::Uptime, uptime)] {
            let age = age_on_arrival(preset, response, 0, 3);
            assert_eq!(age, expected, "{preset:?} {response:?}");
        }
    }
    let slow = [date, ("cache-control", "max-age=30")];
    assert!(stored(Policy::of(Preset::Uptime), 200, &[], &slow).is_fresh(at(29)));
    assert!(!stored(Policy::of(Preset::Strict), 200, &[], &slow).is_fresh(at(0)));
    // `Expires` is counted from the origin's own date.
    let slow = [date, ("expires", NOW)];
    assert!(stored(Policy::of(Preset::Uptime), 200, &[], &slow).is_fresh(at(59)));
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
        // A number that cannot be read is no leave to share.
        (
            200,
            &[("authorization", "x")],
            &[("cache-control", "s-maxage=x, max-age=60")],
            Reason::Authorization,
        ),
        (
            200,
            &[],
            &[("cache-control", "s-maxage=-1"), ("set-cookie", "a=b")],
            Reason::SetCookie,
        ),
        (
            200,
            &[],
            &[
                ("cache-control", "max-age=60, private=\"Vary\""),
                ("vary", "a"),
            ],
            Reason::Private,
        ),
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
    ];
    for (status, request, response, reason) in table {
        for preset in PRESETS {
            assert_eq!(
                decided(Policy::of(preset), *status, request, response),
                Storability::DoNotStore(*reason),
                "{preset:?} {status} {request:?} {response:?}"
            );
        }
    }
    // What `uptime` shares for a moment.
    for (status, response, reason) in [
        (302, &[][..], Reason::NoFreshness),
        (500, &[("last-modified", MODIFIED)], Reason::NoFreshness),
        (
            599,
            &[("cache-control", "must-revalidate")],
            Reason::NoFreshness,
        ),
        (200, &[("cache-control", "no-cache")], Reason::Useless),
        (
            200,
            &[("cache-control", "max-age=0, must-revalidate")],
            Reason::Useless,
        ),
    ] {
        assert_eq!(
            decided(Policy::of(Preset::Strict), status, &[], response),
            Storability::DoNotStore(reason),
            "{status} {response:?}"
        );
    }
}

/// One visitor's page was stored for everyone by the operator's default.
#[test]
fn an_answer_to_authorization_gets_no_default_ttl() {
    for preset in PRESETS {
        let policy = Policy {
            default_ttl: Duration::from_secs(60),
            ..Policy::of(preset)
        };
        for response in [
            &[][..],
            &[("last-modified", MODIFIED)],
            &[("etag", "\"a\"")],
            &[("expires", IN_A_MINUTE)],
        ] {
            for name in ["authorization", "Authorization"] {
                let decided = decided(policy, 200, &[(name, "x")], response);
                let expected = Storability::DoNotStore(Reason::Authorization);
                assert_eq!(decided, expected, "{preset:?} {response:?}");
            }
        }
    }
}

#[test]
fn a_silent_answer_to_a_cookie_is_not_stored() {
    for preset in PRESETS {
        for (response, stored) in [
            (&[][..], false),
            (&[("last-modified", MODIFIED)], false),
            (&[("etag", "\"a\"")], false),
            (&[("expires", IN_A_MINUTE)], false),
            (&[("expires", "0")], false),
            // A lifetime alone may be about one visitor's page.
            (&[("cache-control", "max-age=60")], false),
            (&[("cache-control", "max-age=0"), ("etag", "\"a\"")], false),
            (&[("cache-control", "s-maxage=x, max-age=60")], false),
            (&[("cache-control", "public"), ("etag", "\"a\"")], true),
            (&[("cache-control", "public, max-age=60")], true),
            (&[("cache-control", "s-maxage=60")], true),
            (&[("cdn-cache-control", "max-age=60")], true),
            (
                &[("cache-control", "public, max-age=60"), ("vary", "Cookie")],
                false,
            ),
            (
                &[
                    ("cache-control", "public, max-age=60"),
                    ("vary", "accept, authorization"),
                ],
                false,
            ),
        ] {
            let decided = decided(Policy::of(preset), 200, &[("cookie", "a=b")], response);
            match stored {
                true => assert!(matches!(decided, Storability::Store(_)), "{response:?}"),
                false => assert_eq!(
                    decided,
                    Storability::DoNotStore(Reason::Cookie),
                    "{preset:?} {response:?}"
                ),
            }
        }
    }
}

#[test]
fn public_does_not_store_an_answer_that_varies_on_the_authorization_that_was_sent() {
    for preset in PRESETS {
        let response = [
            ("cache-control", "public, max-age=60"),
            ("vary", "authorization"),
        ];
        assert_eq!(
            decided(
                Policy::of(preset),
                200,
                &[("authorization", "x")],
                &response
            ),
            Storability::DoNotStore(Reason::Authorization)
        );
    }
}

/// The session cookie of one visitor was replayed to everyone.
#[test]
fn an_answer_that_sets_a_cookie_is_stored_only_with_explicit_freshness() {
    for (others, strict, uptime) in [
        (&[][..], false, false),
        (&[("last-modified", MODIFIED)], false, false),
        (&[("etag", "\"a\"")], false, false),
        (&[("cache-control", "max-age=60")], false, true),
        (&[("expires", IN_A_MINUTE)], false, true),
        (
            &[("cache-control", "max-age=0"), ("etag", "\"a\"")],
            false,
            false,
        ),
        (&[("expires", "0"), ("etag", "\"a\"")], false, false),
        (
            &[("cache-control", "max-age=60, no-cache"), ("etag", "\"a\"")],
            false,
            false,
        ),
        (&[("cache-control", "public, max-age=60")], true, true),
        (&[("cache-control", "s-maxage=60")], true, true),
        (&[("cdn-cache-control", "max-age=60")], true, true),
        // The cookie is what it does not store.
        (
            &[("cache-control", "max-age=60, no-cache=\"Set-Cookie\"")],
            true,
            true,
        ),
        (
            &[("cache-control", "private=\"set-cookie\", max-age=60")],
            true,
            true,
        ),
    ] {
        let mut response = others.to_vec();
        response.push(("set-cookie", "session=1"));
        for (preset, expected) in [(Preset::Strict, strict), (Preset::Uptime, uptime)] {
            let decided = decided(Policy::of(preset), 200, &[], &response);
            match expected {
                true => assert!(matches!(decided, Storability::Store(_)), "{others:?}"),
                false => assert_eq!(
                    decided,
                    Storability::DoNotStore(Reason::SetCookie),
                    "{preset:?} {others:?}"
                ),
            }
        }
    }
    // `private` goes before the cookie.
    for preset in PRESETS {
        let response = [
            ("cache-control", "private, max-age=60"),
            ("set-cookie", "session=1"),
        ];
        assert_eq!(
            decided(Policy::of(preset), 200, &[], &response),
            Storability::DoNotStore(Reason::Private)
        );
    }
    // Nor is an error that comes with a session shared.
    for status in [302, 404, 500, 503] {
        assert_eq!(
            decided(
                Policy::of(Preset::Uptime),
                status,
                &[],
                &[("set-cookie", "session=1")]
            ),
            Storability::DoNotStore(Reason::SetCookie),
            "{status}"
        );
    }
}

#[test]
fn an_answer_for_one_client_is_stored_for_a_question_of_that_client() {
    let client = [("authorization", "x"), ("cookie", "a=b")];
    for preset in PRESETS {
        for response in [
            &[("cache-control", "private, max-age=60")][..],
            &[("cache-control", "max-age=60")],
            &[("cache-control", "max-age=60"), ("vary", "cookie")],
        ] {
            let policy = Policy::of(preset);
            let own = decided_for_client(policy, 200, &client, response);
            assert_eq!(kept(own, response).freshness.lifetime_ms, 60_000);
            let others = decided(policy, 200, &client, response);
            assert!(matches!(others, Storability::DoNotStore(_)), "{response:?}");
        }
        for (response, reason) in [
            (
                &[("cache-control", "no-store, max-age=60")][..],
                Reason::NoStore,
            ),
            (
                &[("cache-control", "private"), ("set-cookie", "a=b")],
                Reason::SetCookie,
            ),
            (
                &[("cache-control", "max-age=60"), ("vary", "*")],
                Reason::VaryStar,
            ),
        ] {
            assert_eq!(
                decided_for_client(Policy::of(preset), 200, &client, response),
                Storability::DoNotStore(reason),
                "{preset:?} {response:?}"
            );
        }
    }
}

#[test]
fn whom_an_answer_is_for() {
    use Audience::{Anonymous, Everyone};
    let css = ("content-type", "text/css");
    let html = ("content-type", "text/html");
    let etag = ("etag", "\"a\"");
    let table: &[(&str, Fields<'_>, Audience)] = &[
        ("/", &[("cache-control", "public"), etag], Everyone),
        (
            "/",
            &[("cache-control", "public, max-age=0"), etag],
            Everyone,
        ),
        ("/", &[("cache-control", "s-maxage=60")], Everyone),
        ("/", &[("cache-control", "max-age=60")], Everyone),
        ("/", &[("expires", IN_A_MINUTE)], Everyone),
        ("/", &[("cdn-cache-control", "max-age=60")], Everyone),
        (
            "/",
            &[
                ("cdn-cache-control", "max-age=60"),
                ("cache-control", "private"),
            ],
            Everyone,
        ),
        (
            "/",
            &[("cache-control", "max-age=60, must-revalidate")],
            Everyone,
        ),
        // Silence is about visitors without credentials.
        ("/", &[], Anonymous),
        ("/", &[etag], Anonymous),
        ("/", &[("last-modified", MODIFIED)], Anonymous),
        ("/site.css", &[html], Anonymous),
        ("/site", &[css], Anonymous),
        ("/site.css", &[css], Everyone),
        ("/site.css", &[css, ("last-modified", MODIFIED)], Everyone),
        // Not silent, and not for everyone.
        ("/", &[("cache-control", "max-age=0"), etag], Anonymous),
        ("/", &[("expires", "0"), etag], Anonymous),
        ("/", &[("cdn-cache-control", "max-age=0"), etag], Anonymous),
        ("/", &[("cache-control", "no-cache"), etag], Anonymous),
        (
            "/",
            &[("cache-control", "public, no-cache, max-age=60"), etag],
            Anonymous,
        ),
        (
            "/site.css",
            &[css, ("cache-control", "no-cache"), etag],
            Anonymous,
        ),
        (
            "/site.css",
            &[css, ("cache-control", "max-age=0"), etag],
            Anonymous,
        ),
        // What it says that it depends on.
        (
            "/",
            &[("cache-control", "public, max-age=60"), ("vary", "Cookie")],
            Anonymous,
        ),
        (
            "/",
            &[
                ("cache-control", "s-maxage=60"),
                ("vary", "accept"),
                ("vary", "AUTHORIZATION"),
            ],
            Anonymous,
        ),
        ("/site.css", &[css, ("vary", "cookie")], Anonymous),
        (
            "/",
            &[("cache-control", "max-age=60"), ("vary", "accept")],
            Everyone,
        ),
    ];
    for (path, response, uptime) in table {
        let varies = response.iter().any(|(name, value)| {
            let value = value.to_ascii_lowercase();
            *name == "vary" && (value == "cookie" || value == "authorization")
        });
        let strict = if varies { Anonymous } else { Everyone };
        for (preset, expected) in [(Preset::Strict, strict), (Preset::Uptime, *uptime)] {
            let policy = Policy::of(preset);
            // `strict` does not keep what says nothing at all.
            let kept = match decided_at(path, policy, 200, &[], response) {
                Storability::Store(kept) => kept,
                Storability::DoNotStore(Reason::Useless) if preset == Preset::Strict => continue,
                other => panic!("{preset:?} {path} {response:?}: {other:?}"),
            };
            assert_eq!(kept.audience, expected, "{preset:?} {path} {response:?}");
        }
    }
}

/// A stored 401 of `max-age=1` was given to 16 of 16 visitors with a valid password.
#[test]
fn only_a_success_or_a_permanent_redirect_is_for_visitors_with_credentials() {
    let policy = Policy::of(Preset::Uptime);
    let statements = [
        "max-age=60",
        "s-maxage=60",
        "public, max-age=60",
        "public, s-maxage=60",
    ];
    for status in [200, 201, 203, 204, 226, 301, 308] {
        for said in statements {
            let decided = decided(policy, status, &[], &cc(said));
            let Storability::Store(kept) = decided else {
                panic!("{status} {said}: {decided:?}");
            };
            assert_eq!(kept.audience, Audience::Everyone, "{status} {said}");
        }
    }
    let others = [
        300, 302, 303, 307, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 418, 425, 429,
        451, 500, 502, 503, 504, 599,
    ];
    for status in others {
        for said in statements {
            let decided = decided(policy, status, &[], &cc(said));
            let (Storability::Store(kept) | Storability::Brief(kept, _)) = decided else {
                panic!("{status} {said}: {decided:?}");
            };
            assert_eq!(kept.audience, Audience::Anonymous, "{status} {said}");
        }
    }
    // A static file that is missing is missing to those who may not see it.
    for status in [401, 403, 404, 503] {
        let css = [("content-type", "text/css")];
        let decided = decided_at("/site.css", policy, status, &[], &css);
        let Storability::Brief(kept, _) = decided else {
            panic!("{status}: {decided:?}");
        };
        assert_eq!(kept.audience, Audience::Anonymous, "{status}");
    }
}

/// What is shared for a moment, and why it is not kept.
fn brief_of(policy: Policy, status: u16, response: Fields<'_>) -> (Kept, Reason) {
    match decided(policy, status, &[], response) {
        Storability::Brief(kept, reason) => (kept, reason),
        other => panic!("{status} {response:?}: {other:?}"),
    }
}

/// A herd on an error was as many requests to the origin.
#[test]
fn silent_errors_are_shared_for_a_moment() {
    let policy = Policy {
        error_ttl: Duration::from_millis(1_500),
        ..Policy::of(Preset::Uptime)
    };
    let failure = [408, 425, 429, 500, 501, 502, 503, 504, 599];
    let silent = [400, 401, 403, 404, 405, 410, 414, 422];
    for status in failure.into_iter().chain(silent) {
        for response in [
            &[][..],
            &[("last-modified", MODIFIED), ("etag", "\"a\"")],
            &[("date", A_MINUTE_AGO)],
            // From when it came, whatever its age.
            &[("age", "7")],
        ] {
            let (kept, reason) = brief_of(policy, status, response);
            let expected = match failure.contains(&status) {
                true => Reason::Failure,
                false => Reason::NoFreshness,
            };
            assert_eq!(reason, expected, "{status}");
            let freshness = kept.freshness;
            assert_eq!(freshness.ttl_ms(at(0)), 1_500, "{status}");
            assert!(freshness.is_fresh(at(1)) && !freshness.is_fresh(at(2)));
            assert!(!freshness.may_serve_while_revalidating(at(2)));
            assert!(!freshness.may_serve_on_error(at(2)));
            assert!(freshness.must_revalidate);
        }
        // Without such a time nothing is shared.
        let none = Policy {
            error_ttl: Duration::ZERO,
            ..policy
        };
        assert!(
            matches!(decided(none, status, &[], &[]), Storability::DoNotStore(_)),
            "{status}"
        );
    }
}

/// A redirect to an address with a session in it was given to all that came within a
/// second, as were the answers 201 and 202 to one visitor's request.
#[test]
fn a_silent_answer_whose_status_is_not_cacheable_by_default_is_for_one_visitor() {
    for preset in PRESETS {
        for status in [201, 202, 205, 207, 208, 226, 302, 303, 305, 307] {
            for response in [
                &[][..],
                &[("last-modified", MODIFIED), ("etag", "\"a\"")],
                &[("cache-control", "x")],
            ] {
                assert_eq!(
                    decided(Policy::of(preset), status, &[], response),
                    Storability::DoNotStore(Reason::NoFreshness),
                    "{preset:?} {status} {response:?}"
                );
            }
        }
    }
    assert!(Reason::NoFreshness.marks_pass());
    for status in [200, 203, 204, 300, 301, 308] {
        let decided = decided(Policy::of(Preset::Uptime), status, &[], &[]);
        assert!(matches!(decided, Storability::Store(_)), "{status}");
    }
    // What says that it may be shared does not keep silent.
    for status in [201, 302, 303, 307] {
        let decided = decided(Policy::of(Preset::Uptime), status, &[], &cc("max-age=60"));
        assert!(matches!(decided, Storability::Store(_)), "{status}");
    }
}

/// What asks for validation before each use, by `no-cache` or a lifetime of zero.
const EACH_USE: [Fields<'_>; 8] = [
    &[("cache-control", "no-cache")],
    &[("cache-control", "max-age=60, no-cache")],
    &[("cache-control", "max-age=0")],
    &[("cache-control", "public, max-age=0")],
    &[("cache-control", "s-maxage=0, max-age=60")],
    &[("cache-control", "max-age=x")],
    &[("expires", "0")],
    &[("expires", NOW), ("date", NOW)],
];

/// Six visitors who asked for a token at once got two tokens.
#[test]
fn what_must_be_validated_each_time_is_not_shared_without_a_validator() {
    let policy = Policy::of(Preset::Uptime);
    for response in EACH_USE {
        for status in [200, 203, 301, 302, 404, 500, 503] {
            let decided = decided(policy, status, &[], response);
            assert!(
                matches!(decided, Storability::DoNotStore(_)),
                "{status} {response:?}: {decided:?}"
            );
        }
    }
    // Those that wait are passed at once.
    assert!(Reason::Useless.marks_pass() && Reason::NoFreshness.marks_pass());
    // What a rule sets aside is not said.
    let ignored = Policy {
        ignore_origin: IgnoreOrigin {
            no_cache: true,
            ..IgnoreOrigin::default()
        },
        ..policy
    };
    for response in EACH_USE {
        let response = &[response, &[("etag", "\"a\"")]].concat();
        let freshness = stored(ignored, 200, &[], response);
        assert!(!freshness.each_use && freshness.alone == 0, "{response:?}");
        let barred = freshness.must_revalidate;
        assert!(
            barred || freshness.may_serve_on_error(at(100)),
            "{response:?}"
        );
    }
    let (kept, _) = brief_of(ignored, 404, &cc("no-cache"));
    assert!(kept.freshness.is_fresh(at(0)));
    let ttl = Policy {
        ttl: Some(Duration::from_secs(9)),
        ..policy
    };
    let freshness = stored(ttl, 200, &[], &cc("max-age=0"));
    assert!(freshness.is_fresh(at(8)) && !freshness.each_use && freshness.alone == 0);
}

#[test]
fn what_must_be_validated_each_time_is_kept_with_a_validator_and_never_used_at_once() {
    let policy = Policy::of(Preset::Uptime);
    for response in EACH_USE {
        for validator in [("etag", "\"a\""), ("last-modified", MODIFIED)] {
            let response = [response, &[validator]].concat();
            let freshness = stored(policy, 200, &[], &response);
            assert!(freshness.each_use, "{response:?}");
            assert_eq!(freshness.alone, 1, "{response:?}");
            assert!(!freshness.is_fresh(at(0)), "{response:?}");
            assert!(
                !freshness.may_serve_while_revalidating(at(0)),
                "{response:?}"
            );
            // RFC 9111 section 5.2.2.4: `no-cache` is not used even if the origin fails,
            // nor is what bars it.
            let barred = freshness.no_cache || freshness.must_revalidate;
            assert_eq!(
                freshness.may_serve_on_error(at(100)),
                !barred,
                "{response:?}"
            );
        }
    }
}

#[test]
fn the_stale_windows_of_a_lifetime_of_zero_are_the_origins_or_a_rules() {
    let policy = Policy {
        stale_while_revalidate: Duration::from_secs(20),
        stale_if_error: Duration::from_secs(30),
        ..Policy::of(Preset::Uptime)
    };
    let ruled = |stale_while_revalidate, stale_if_error| Policy {
        ruled_windows: RuledWindows {
            stale_while_revalidate,
            stale_if_error,
        },
        ..policy
    };
    let etag = ("etag", "\"a\"");
    for (policy, directives, validator, expected) in [
        (policy, "max-age=0", Some(etag), Some((0, 30, true))),
        (policy, "max-age=0", None, None),
        (
            policy,
            "max-age=0, stale-if-error=0",
            Some(etag),
            Some((0, 0, true)),
        ),
        (
            policy,
            "max-age=0, stale-if-error=9",
            None,
            Some((0, 9, true)),
        ),
        (
            policy,
            "max-age=0, stale-while-revalidate=5",
            None,
            Some((5, 0, false)),
        ),
        (ruled(true, false), "max-age=0", None, Some((20, 0, false))),
        (
            ruled(true, false),
            "max-age=0",
            Some(etag),
            Some((20, 30, false)),
        ),
        (ruled(false, true), "max-age=0", None, Some((0, 30, true))),
        (
            ruled(true, true),
            "no-cache",
            Some(etag),
            Some((0, 0, true)),
        ),
        (
            ruled(true, true),
            "max-age=0, must-revalidate",
            Some(etag),
            Some((0, 0, true)),
        ),
        // They are the operator's for every other lifetime.
        (policy, "max-age=1", None, Some((20, 30, false))),
    ] {
        let mut response = cc(directives).to_vec();
        response.extend(validator);
        let windows = match decided(policy, 200, &[], &response) {
            Storability::Store(Kept { freshness, .. }) => Some((
                freshness.stale_while_revalidate_ms / 1_000,
                freshness.stale_if_error_ms / 1_000,
                freshness.each_use,
            )),
            Storability::DoNotStore(Reason::Useless) => None,
            other => panic!("{directives}: {other:?}"),
        };
        assert_eq!(windows, expected, "{directives} {validator:?}");
    }
}

#[test]
fn an_error_that_took_long_is_shared_as_long_as_another() {
    let asked = Asked {
        headers: &HeaderMap::new(),
        path: "/",
        keyed_by_client: false,
    };
    let policy = Policy::of(Preset::Uptime);
    let fields = map(&[("age", "7")]);
    for status in [StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE] {
        let decided = storability(asked, status, &fields, at(0), at(30), &policy);
        let Storability::Brief(Kept { freshness, .. }, _) = decided else {
            panic!("{decided:?}")
        };
        assert!(freshness.is_fresh(at(30)) && !freshness.is_fresh(at(31)));
        // Its age is the true one all the same.
        assert_eq!(freshness.current_age(at(30)), Duration::from_secs(37));
    }
}

#[test]
fn an_answer_of_a_failing_origin_is_not_kept_whatever_it_says_of_its_freshness() {
    for status in [408, 425, 429, 500, 502, 503, 504, 599] {
        for directives in ["max-age=3600", "public, max-age=3600", "s-maxage=3600"] {
            let (kept, reason) = brief_of(Policy::of(Preset::Uptime), status, &cc(directives));
            assert_eq!(
                (kept.freshness.lifetime_ms, reason),
                (1_000, Reason::Failure),
                "{status} {directives}"
            );
            // RFC 9111 allows to keep it.
            let strict = stored(Policy::of(Preset::Strict), status, &[], &cc(directives));
            assert_eq!(strict.lifetime_ms, 3_600_000, "{status} {directives}");
        }
        for (directives, reason) in [
            ("no-store", Reason::NoStore),
            ("private", Reason::Private),
            ("private, max-age=60", Reason::Private),
        ] {
            assert_eq!(
                decided(Policy::of(Preset::Uptime), status, &[], &cc(directives)),
                Storability::DoNotStore(reason),
                "{status} {directives}"
            );
        }
    }
}

#[test]
fn an_error_with_explicit_freshness_is_kept_for_a_minute_at_most() {
    let policy = Policy {
        error_ttl_max: Duration::from_secs(20),
        ..Policy::of(Preset::Uptime)
    };
    for status in [400, 401, 403, 404, 405, 410, 414, 451] {
        for (response, seconds) in [
            (&[("cache-control", "max-age=10")][..], 10),
            (&[("cache-control", "max-age=20")], 20),
            (&[("cache-control", "max-age=3600")], 20),
            (&[("cache-control", "public, max-age=3600")], 20),
            (&[("expires", IN_A_MINUTE)], 20),
        ] {
            let freshness = stored(policy, status, &[], response);
            assert_eq!(freshness.lifetime_ms, seconds * 1_000, "{status}");
            // No stale windows, neither the operator's nor its own.
            assert_eq!(
                (
                    freshness.stale_while_revalidate_ms,
                    freshness.stale_if_error_ms,
                    freshness.must_revalidate
                ),
                (0, 0, true),
                "{status} {response:?}"
            );
        }
        let windows = "max-age=10, stale-while-revalidate=60, stale-if-error=60";
        let freshness = stored(policy, status, &[], &cc(windows));
        assert!(!freshness.may_serve_on_error(at(10)), "{status}");
        // `strict` does as it is told.
        let strict = Policy {
            preset: Preset::Strict,
            ..policy
        };
        let freshness = stored(strict, status, &[], &cc("max-age=3600"));
        assert_eq!(freshness.lifetime_ms, 3_600_000);
        assert!(!freshness.must_revalidate);
    }
    // A success is not an error.
    assert_eq!(
        stored(policy, 200, &[], &cc("max-age=3600")).lifetime_ms,
        3_600_000
    );
}

/// A monitor must see the origin, and not what it said a moment ago.
#[test]
fn where_silence_is_not_stored_a_silent_answer_is_not_even_shared() {
    for preset in PRESETS {
        let policy = Policy {
            store_silent: false,
            ..Policy::of(preset)
        };
        for status in [200, 204, 302, 404, 429, 500, 503] {
            for response in [
                &[][..],
                &[("last-modified", MODIFIED), ("etag", "\"a\"")],
                &[("cache-control", "public")],
                &[("cache-control", "no-cache"), ("etag", "\"a\"")],
            ] {
                assert_eq!(
                    decided(policy, status, &[], response),
                    Storability::DoNotStore(Reason::NoFreshness),
                    "{preset:?} {status} {response:?}"
                );
            }
        }
        for response in [
            &[("cache-control", "max-age=5")][..],
            &[("expires", IN_A_MINUTE)],
            &[("cdn-cache-control", "max-age=5")],
        ] {
            let _ = stored(policy, 200, &[], response);
        }
        // A rule's lifetime is not silence.
        let ruled = Policy {
            ttl: Some(Duration::from_secs(9)),
            ..policy
        };
        assert_eq!(stored(ruled, 200, &[], &[]).lifetime_ms, 9_000);
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
            Asked {
                headers: &HeaderMap::new(),
                path: "/form",
                keyed_by_client: false,
            },
            status,
            &map(response),
            at(0),
            at(0),
            &policy,
        ) {
            Storability::Store(_) => None,
            Storability::Brief(_, reason) | Storability::DoNotStore(reason) => Some(reason),
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
            &[("pragma", "no-cache"), ("range", "bytes=0-1")],
            &[("cache-control", "max-age=60"), ("pragma", "no-cache")],
        ),
    ];
    for (status, request, response) in table {
        for preset in PRESETS {
            let _ = stored(Policy::of(preset), *status, request, response);
        }
    }
    let public = [("cache-control", "public"), ("last-modified", MODIFIED)];
    let _ = stored(Policy::of(Preset::Strict), 599, &[], &public);
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
            Storability::Store(Kept { freshness, .. }) => {
                assert!(listed && freshness.lifetime_ms == 100_000, "{status}")
            }
            Storability::DoNotStore(_) => assert!(!listed, "{status}"),
            Storability::Brief(..) => panic!("{status}: brief in strict"),
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
    let zero = [("cache-control", "max-age=0"), ("etag", "\"a\"")];
    assert_eq!(stored(uptime, 200, &[], &zero).lifetime_ms, 0);
    // Off: kept for when the origin fails, and never served before asking.
    let off = Policy {
        default_ttl: Duration::ZERO,
        ..uptime
    };
    let kept = stored(off, 200, &[], &[]);
    assert!(!kept.is_fresh(at(0)) && !kept.may_serve_while_revalidating(at(0)));
    assert!(kept.may_serve_on_error(at(0)));
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
    assert_eq!(stored(ruled, 403, &[], &[]).lifetime_ms, 9_000);
    // A failing origin's word does not get it, nor does a page with a session.
    for response in [&[][..], &cc("max-age=1")] {
        let (kept, _) = brief_of(ruled, 503, response);
        assert_eq!(kept.freshness.lifetime_ms, 1_000);
    }
    assert_eq!(
        decided(ruled, 200, &[], &[("set-cookie", "a=b")]),
        Storability::DoNotStore(Reason::SetCookie)
    );
    let strict = Policy {
        preset: Preset::Strict,
        ..ruled
    };
    assert_eq!(
        decided(strict, 503, &[], &[]),
        Storability::DoNotStore(Reason::NoFreshness)
    );
    assert_eq!(
        stored(strict, 503, &[], &cc("max-age=1")).lifetime_ms,
        9_000
    );
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
        any::<[bool; 7]>(),
        proptest::option::of(any::<u32>()),
        any::<[u32; 4]>(),
        any::<[u16; 2]>(),
    )
        .prop_map(|(flags, ttl, numbers, errors)| {
            let [
                strict,
                private,
                no_cache,
                no_store,
                must_revalidate,
                set_cookie,
                store_silent,
            ] = flags;
            let [error_ttl, error_ttl_max] = errors.map(|n| Duration::from_millis(u64::from(n)));
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
                error_ttl,
                error_ttl_max,
                store_silent,
                ruled_windows: RuledWindows {
                    stale_while_revalidate: private,
                    stale_if_error: set_cookie,
                },
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

/// Any moment, and often one at an end of time.
fn any_moment() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)]
}

proptest! {
    #[test]
    fn any_exchange_is_decided(
        request in arbitrary_map(), response in arbitrary_map(), status in 100..1000u16,
        times in (any_moment(), any_moment(), any_moment()), policy in any_policy(), keyed_by_client in any::<bool>(),
    ) {
        let (sent, received, now) = times;
        let [sent, received, now] = [sent, received, now].map(Time::from_unix_millis);
        let status = StatusCode::from_u16(status).unwrap();
        let asked = Asked { headers: &request, path: "/a.css", keyed_by_client };
        let uptime = policy.preset == Preset::Uptime;
        match storability(asked, status, &response, sent, received, &policy) {
            Storability::Store(Kept { freshness, .. }) => {
                prop_assert_eq!(freshness.response_time, received);
                prop_assert!(freshness.initial_age_ms >= millis(received.since(sent)));
                prop_assert!(!freshness.must_revalidate || freshness.stale_while_revalidate_ms == 0 || response.contains_key("cache-control") || response.contains_key("cdn-cache-control"));
                let _ = freshness.ttl(now);
                prop_assert!(!uptime || !is_transient(status));
                let error = status.is_client_error() || status.is_server_error();
                prop_assert!(!uptime || !error || freshness.lifetime_ms <= millis(policy.error_ttl_max));
            }
            Storability::Brief(Kept { freshness, .. }, reason) => {
                prop_assert!(uptime && (policy.store_silent || reason != Reason::NoFreshness));
                prop_assert_eq!(freshness.response_time, received);
                let most = u64::MAX - freshness.initial_age_ms;
                let ttl = freshness.lifetime_ms - freshness.initial_age_ms;
                prop_assert_eq!(ttl, millis(policy.error_ttl).min(most));
                prop_assert!(freshness.is_fresh(received) || freshness.no_cache || ttl == 0);
                prop_assert!(!freshness.may_serve_on_error(received.plus(policy.error_ttl)) || received.plus(policy.error_ttl).since(received) < policy.error_ttl);
            }
            Storability::DoNotStore(_) => {}
        }
    }

    #[test]
    fn ages_on_arrival_never_overflow(age in "[0-9]{1,22}", sent in any_moment(), received in any_moment()) {
        let [sent, received] = [sent, received].map(Time::from_unix_millis);
        let age = initial_age_ms(&map(&[("age", &age)]), sent, received);
        prop_assert!(age >= millis(received.since(sent)));
    }

    #[test]
    fn silence_of_the_operator_never_overrules_a_bar(response in arbitrary_map(), strict in any::<bool>()) {
        // What the words are, read by nothing but substrings.
        let preset = if strict { Preset::Strict } else { Preset::Uptime };
        let mut response = response;
        response.remove("cdn-cache-control");
        response.append("cache-control", http::HeaderValue::from_static("must-revalidate"));
        let asked = Asked { headers: &HeaderMap::new(), path: "/", keyed_by_client: false };
        if let Storability::Store(Kept { freshness, .. }) = storability(asked, StatusCode::OK, &response, at(0), at(0), &Policy::of(preset)) {
            prop_assert_eq!((freshness.stale_while_revalidate_ms, freshness.stale_if_error_ms, freshness.must_revalidate), (0, 0, true));
        }
    }
}
