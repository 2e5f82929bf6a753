//! What visitors are told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::semantics::fields::tests::{arbitrary_map, lines, map};
use crate::semantics::freshness::tests::at;
use crate::semantics::policy::{IgnoreOrigin, Preset};
use http::header::{AGE, SET_COOKIE};
use proptest::prelude::*;
use std::time::Duration;

const HOUR: u64 = 3_600;

/// A stored page that is handed out an hour after the time of `at`.
const STORED: Handed = Handed {
    status: StatusCode::OK,
    is_stored: true,
    now: Time::from_unix_millis(1_000_000_000_000 + HOUR * 1_000),
};

const PASSED: Handed = Handed {
    is_stored: false,
    ..STORED
};

fn policy(ttl: Option<u64>) -> Policy {
    Policy {
        ttl: ttl.map(Duration::from_secs),
        ..Policy::of(Preset::Uptime)
    }
}

/// `Cache-Control` after the settings have been applied to one that says `said`; with
/// other fields.
fn told(
    said: &[(&str, &str)],
    handed: Handed,
    ttl: Option<u64>,
    browser_ttl: BrowserTtl,
) -> HeaderMap {
    let mut headers = map(said);
    tell_lifetime(&mut headers, handed, &policy(ttl), browser_ttl);
    headers
}

fn cache_control(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    lines.map(|line| line.to_str().unwrap()).collect()
}

#[test]
fn a_rules_ttl_bounds_what_the_origin_says() {
    for (said, expected) in [
        ("max-age=3468916620", "max-age=60"),
        (
            "public, max-age=3600, must-revalidate",
            "max-age=60, public, must-revalidate",
        ),
        ("max-age=600, s-maxage=10", "max-age=60, s-maxage=10"),
        ("max-age=10, s-maxage=600", "max-age=10, s-maxage=60"),
        ("s-maxage=600", "s-maxage=60"),
        (
            "max-age=600, stale-while-revalidate=9999, stale-if-error=9999, x=\"a, b\"",
            "max-age=60, x=\"a, b\"",
        ),
        ("max-age=\"600\", immutable", "max-age=60, immutable"),
        // A `private` answer that a rule has stored stays so for others.
        ("private, max-age=600", "max-age=60, private"),
    ] {
        let headers = told(
            &[("cache-control", said)],
            STORED,
            Some(60),
            BrowserTtl::Origin,
        );
        assert_eq!(cache_control(&headers), [expected], "{said}");
    }
}

#[test]
fn what_the_origin_keeps_as_short_stays_as_it_is() {
    for said in [
        "max-age=60",
        "public, max-age=10, stale-while-revalidate=600",
        "max-age=0",
        "max-age=x",
        "no-store",
        "no-store, max-age=600",
        "no-cache, max-age=600",
        "max-age=600; no-store",
        "public",
    ] {
        let before = map(&[("cache-control", said)]);
        let headers = told(
            &[("cache-control", said)],
            STORED,
            Some(60),
            BrowserTtl::Origin,
        );
        assert_eq!(lines(&headers), lines(&before), "{said}");
    }
    // Without a rule's `ttl` and the setting, whatever is said.
    let said = [("cache-control", "max-age=3468916620"), ("expires", "0")];
    let headers = told(&said, STORED, None, BrowserTtl::Origin);
    assert_eq!(lines(&headers), lines(&map(&said)));
}

#[test]
fn browsers_that_would_guess_are_told() {
    let date = "Sun, 09 Sep 2001 01:46:40 GMT";
    // (fields, status, expected)
    for (fields, status, expected) in [
        (
            vec![("date", date), ("expires", "Mon, 09 Sep 2002 01:46:40 GMT")],
            200,
            Some("max-age=60"),
        ),
        (
            vec![("date", date), ("expires", "Sun, 09 Sep 2001 01:47:00 GMT")],
            200,
            None,
        ),
        (vec![("date", date), ("expires", "0")], 200, None),
        (
            vec![
                ("date", date),
                ("last-modified", "Sat, 09 Sep 2000 01:46:40 GMT"),
            ],
            200,
            Some("max-age=60"),
        ),
        (
            vec![
                ("date", date),
                ("last-modified", "Sun, 09 Sep 2001 01:46:30 GMT"),
            ],
            200,
            None,
        ),
        (vec![("location", "/other")], 301, Some("max-age=60")),
        (vec![("location", "/other")], 302, None),
        (
            vec![
                ("pragma", "no-cache"),
                ("last-modified", "Sat, 09 Sep 2000 01:46:40 GMT"),
            ],
            200,
            None,
        ),
        (vec![], 200, None),
    ] {
        let handed = Handed {
            status: StatusCode::from_u16(status).unwrap(),
            ..STORED
        };
        let headers = told(&fields, handed, Some(60), BrowserTtl::Origin);
        assert_eq!(
            cache_control(&headers),
            expected.into_iter().collect::<Vec<_>>(),
            "{fields:?}"
        );
        assert_eq!(
            headers.contains_key(EXPIRES),
            expected.is_none() && fields.iter().any(|it| it.0 == "expires")
        );
    }
}

#[test]
fn the_setting_counts_from_when_a_visitor_gets_the_page() {
    for (age, expected) in [
        ("0", "max-age=60"),
        ("3000", "max-age=3060"),
        ("", "max-age=60"),
    ] {
        for said in ["max-age=31536000", "max-age=10", "max-age=0, public"] {
            for ttl in [Some(600), None] {
                let mut fields = vec![("cache-control", said)];
                if !age.is_empty() {
                    fields.push(("age", age));
                }
                let headers = told(&fields, STORED, ttl, BrowserTtl::Seconds(60));
                let rest = said
                    .split_once(", ")
                    .map_or(String::new(), |rest| format!(", {}", rest.1));
                // The origin wants to be asked before each use, and no rule says otherwise.
                let expected = match said == "max-age=0, public" && ttl.is_none() {
                    true => said.to_owned(),
                    false => format!("{expected}{rest}"),
                };
                assert_eq!(cache_control(&headers), [expected], "{said} {age} {ttl:?}");
                assert_eq!(headers.contains_key(AGE), !age.is_empty());
            }
        }
    }
}

#[test]
fn silence_is_replaced_by_the_setting() {
    let silent = [
        ("expires", "Mon, 09 Sep 2002 01:46:40 GMT"),
        ("etag", "\"1\""),
    ];
    let headers = told(&silent, STORED, None, BrowserTtl::Seconds(60));
    assert_eq!(
        lines(&headers),
        lines(&map(&[("etag", "\"1\""), ("cache-control", "max-age=60")]))
    );
    // The setting may be longer than a rule's `ttl`.
    let headers = told(&[], STORED, Some(1), BrowserTtl::Seconds(60));
    assert_eq!(cache_control(&headers), ["max-age=60"]);
    let ignoring = Policy {
        ignore_origin: IgnoreOrigin {
            no_cache: true,
            ..IgnoreOrigin::default()
        },
        ..policy(None)
    };
    let mut headers = map(&[("cache-control", "max-age=0")]);
    tell_lifetime(&mut headers, STORED, &ignoring, BrowserTtl::Seconds(60));
    assert_eq!(cache_control(&headers), ["max-age=60"]);
}

#[test]
fn zero_means_to_ask_before_each_use() {
    for (said, expected) in [
        (
            vec!["public, max-age=600, s-maxage=600, must-revalidate"],
            vec!["no-cache, public, must-revalidate"],
        ),
        (vec![], vec!["no-cache"]),
        (vec!["no-store"], vec!["no-store"]),
        (vec!["private, no-cache"], vec!["private, no-cache"]),
    ] {
        let said: Vec<_> = said
            .into_iter()
            .map(|line| ("cache-control", line))
            .collect();
        let headers = told(&said, STORED, None, BrowserTtl::Seconds(0));
        assert_eq!(cache_control(&headers), expected, "{said:?}");
    }
    let headers = told(&[("expires", "0")], PASSED, None, BrowserTtl::Seconds(0));
    assert_eq!(
        lines(&headers),
        lines(&map(&[("cache-control", "no-cache")]))
    );
}

#[test]
fn what_may_be_for_one_visitor_is_never_kept_longer() {
    let error = Handed {
        status: StatusCode::NOT_FOUND,
        ..STORED
    };
    let with_cookie = [("set-cookie", "a=b")];
    for (fields, handed) in [
        (&[][..], PASSED),
        (&[][..], error),
        (&with_cookie[..], STORED),
    ] {
        for (said, expected) in [
            ("public", "public"),
            ("max-age=10", "max-age=10"),
            ("max-age=600", "max-age=60"),
            ("max-age=10, s-maxage=600", "max-age=10, s-maxage=60"),
        ] {
            let fields: Vec<_> = fields
                .iter()
                .copied()
                .chain([("cache-control", said)])
                .collect();
            let headers = told(&fields, handed, None, BrowserTtl::Seconds(60));
            assert_eq!(cache_control(&headers), [expected], "{handed:?} {fields:?}");
        }
    }
    for browser_ttl in [
        BrowserTtl::Origin,
        BrowserTtl::Seconds(0),
        BrowserTtl::Seconds(9),
    ] {
        let headers = told(
            &[("cache-control", "private, max-age=600")],
            PASSED,
            Some(60),
            browser_ttl,
        );
        assert_eq!(cache_control(&headers), ["private, max-age=600"]);
    }
    assert!(told(&with_cookie, STORED, None, BrowserTtl::Seconds(9)).contains_key(SET_COOKIE));
}

#[test]
fn a_restriction_that_stands_where_the_grammar_has_none_stays() {
    for (said, expected) in [
        (
            vec!["max-age=600; must-revalidate"],
            vec!["max-age=60, must-revalidate"],
        ),
        (
            vec!["max-age=600 private", "public"],
            vec!["max-age=60, private", "public"],
        ),
        (vec!["public, max-age = 600"], vec!["max-age=60, public"]),
        (
            vec!["no-cache=\"a", "max-age=600"],
            vec!["no-cache=\"a", "max-age=600"],
        ),
        (
            vec!["no-cache=\"a\"", "max-age=600"],
            vec!["max-age=60, no-cache=\"a\""],
        ),
        (
            vec!["max-age=600, max-age=900", "max-age=1200"],
            vec!["max-age=60"],
        ),
    ] {
        let said: Vec<_> = said
            .into_iter()
            .map(|line| ("cache-control", line))
            .collect();
        let headers = told(&said, STORED, Some(60), BrowserTtl::Seconds(60));
        assert_eq!(cache_control(&headers), expected, "{said:?}");
    }
}

fn is_restricted(said: &ResponseDirectives) -> [bool; 6] {
    [
        said.no_store,
        said.no_cache == Scope::Everything,
        said.no_cache != Scope::Nothing,
        said.private == Scope::Everything,
        said.must_revalidate,
        said.proxy_revalidate,
    ]
}

fn arbitrary_cache_control() -> impl Strategy<Value = HeaderMap> {
    let part = prop::sample::select(vec![
        "max-age=600",
        "max-age=0",
        "max-age=5",
        "max-age=x",
        "s-maxage=900",
        "s-maxage=1",
        "max-age=600; no-store",
        "max-age=600 must-revalidate",
        "s-maxage=\"900",
        "private",
        "private=\"a, b\"",
        "no-cache=\"c\"",
        "no-cache",
        "no-store",
        "must-revalidate",
        "proxy-revalidate",
        "public",
        "immutable",
        "stale-while-revalidate=99",
        "\"",
        "\\",
        ";",
    ]);
    let line = prop::collection::vec(part, 0..4).prop_map(|parts| parts.join(", "));
    (prop::collection::vec(line, 0..3), arbitrary_map()).prop_map(|(lines, mut headers)| {
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(&line).unwrap());
        }
        headers
    })
}

proptest! {
    #[test]
    fn restrictions_stay_and_nothing_is_kept_beyond_the_limit(before in arbitrary_cache_control(), ttl in prop::option::of(0_u64..1_000), seconds in prop::option::of(0_u32..1_000), is_stored in any::<bool>(), age in 0_u32..1_000) {
        let mut before = before;
        before.insert(AGE, HeaderValue::from(age));
        let mut after = before.clone();
        let handed = Handed { is_stored, ..STORED };
        let browser_ttl = seconds.map_or(BrowserTtl::Origin, BrowserTtl::Seconds);
        tell_lifetime(&mut after, handed, &policy(ttl), browser_ttl);
        let was = ResponseDirectives::of_cache_control(&before);
        let is = ResponseDirectives::of_cache_control(&after);
        for (was, is) in is_restricted(&was).into_iter().zip(is_restricted(&is)) {
            prop_assert!(is || !was, "{before:?} became {after:?}");
        }
        let untouched = was.no_store || was.no_cache == Scope::Everything
            || (was.private == Scope::Everything && !is_stored);
        let limit = match (browser_ttl, ttl) {
            (BrowserTtl::Origin, None) => None,
            (BrowserTtl::Origin, Some(ttl)) => Some(ttl),
            (BrowserTtl::Seconds(seconds), _) => Some(u64::from(seconds + age)),
        };
        let Some(limit) = limit.filter(|_| !untouched) else {
            prop_assert_eq!(lines(&before), lines(&after));
            return Ok(());
        };
        if is.no_cache != Scope::Everything {
            let kept = kept_for(&after, handed, &is);
            prop_assert!(kept.is_none_or(|kept| u64::from(kept) <= limit), "{kept:?} {after:?}");
            let shared = is.s_maxage.map(Seconds::or_zero);
            prop_assert!(shared.is_none_or(|kept| u64::from(kept) <= limit), "{after:?}");
        }
        // What is not stored is told nothing longer than the origin has said.
        if !is_stored && is.no_cache != Scope::Everything {
            let kept = |headers: &HeaderMap, said| kept_for(headers, handed, said).unwrap_or(0);
            prop_assert!(kept(&after, &is) <= kept(&before, &was), "{before:?} became {after:?}");
        }
    }

    #[test]
    fn any_answer_can_be_told(before in arbitrary_map(), status in 100_u16..1_000, now in any::<u64>(), is_stored in any::<bool>(), ttl in prop::option::of(any::<u64>()), seconds in any::<u32>()) {
        let handed = Handed {
            status: StatusCode::from_u16(status).unwrap(),
            is_stored,
            now: Time::from_unix_millis(now),
        };
        for browser_ttl in [BrowserTtl::Origin, BrowserTtl::Seconds(seconds)] {
            let mut headers = before.clone();
            tell_lifetime(&mut headers, handed, &policy(ttl), browser_ttl);
            prop_assert!(headers.get_all(CACHE_CONTROL).iter().count() <= before.get_all(CACHE_CONTROL).iter().count() + 1);
        }
    }
}

#[test]
fn the_time_of_the_tests_is_an_hour_after_the_origins_date() {
    assert_eq!(STORED.now, at(HOUR));
}
