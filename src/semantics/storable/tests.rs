//! The tables of what is stored, for how long, and how stale it may get.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::super::fields::tests::{arbitrary_map, map};
use super::super::freshness::tests::at;
use super::super::policy::{IgnoreOrigin, Preset};
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

/// Any moment, and often one at an end of time.
fn any_moment() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)]
}

proptest! {
    #[test]
    fn any_exchange_is_decided(
        request in arbitrary_map(), response in arbitrary_map(), status in 100..1000u16,
        times in (any_moment(), any_moment(), any_moment()), policy in any_policy(),
    ) {
        let (sent, received, now) = times;
        let [sent, received, now] = [sent, received, now].map(Time::from_unix_millis);
        let status = StatusCode::from_u16(status).unwrap();
        if let Storability::Store(freshness) = storability(&Method::GET, &request, status, &response, sent, received, &policy) {
            prop_assert_eq!(freshness.response_time, received);
            prop_assert!(freshness.initial_age_ms >= millis(received.since(sent)));
            prop_assert!(!freshness.must_revalidate || freshness.stale_while_revalidate_ms == 0 || response.contains_key("cache-control") || response.contains_key("cdn-cache-control"));
            let _ = freshness.ttl(now);
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
        if let Storability::Store(freshness) = storability(&Method::GET, &HeaderMap::new(), StatusCode::OK, &response, at(0), at(0), &Policy::of(preset)) {
            prop_assert_eq!((freshness.stale_while_revalidate_ms, freshness.stale_if_error_ms, freshness.must_revalidate), (0, 0, true));
        }
    }
}
