//! The rules on storing, freshness and use against another implementation of
//! them, over generated exchanges. Where the two disagree, the section that
//! decides is in [`DISSENT`]; a disagreement that is not there fails the test,
//! and so does a row there that nothing needs.
//!
//! `PROPTEST_CASES` makes it more exchanges than usual.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::freshness::tests::at;
use super::policy::{Policy, Preset};
use super::request::RequestDirectives;
use super::serve::{Verdict, verdict};
use super::storable::{Storability, storability};
use crate::time::Time;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many exchanges are generated at least; always the same ones.
const EXCHANGES: u32 = 20_000;

/// When to look whether a response is fresh, in seconds after its receipt: on
/// both sides of every moment at which that may change.
const MOMENTS: [u64; 14] = [
    0, 29, 30, 45, 59, 60, 61, 300, 3_539, 3_540, 3_599, 3_600, 7_199, 7_200,
];

/// When a later visitor comes, likewise.
const VISITS: [u64; 6] = [0, 20, 45, 100, 160, 4_000];

const NOW: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
const MINUTE_AGO: &str = "Sun, 09 Sep 2001 01:45:40 GMT";
const HOUR_AGO: &str = "Sun, 09 Sep 2001 00:46:40 GMT";
const IN_AN_HOUR: &str = "Sun, 09 Sep 2001 02:46:40 GMT";

/// An exchange, in the words that were chosen for it.
#[derive(Clone, Debug)]
struct Exchange {
    status: u16,
    request: Vec<(&'static str, &'static str)>,
    directives: Vec<&'static str>,
    response: Vec<(&'static str, &'static str)>,
    /// What a later visitor says.
    visitor: Option<&'static str>,
}

/// What the two are asked about an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Whether the response is stored.
    Stored,
    /// Whether it is fresh, so many seconds later.
    Fresh(u64),
    /// Whether it answers the later visitor without asking the origin first.
    Answers(u64),
}

impl Exchange {
    fn says(&self, directive: &str) -> bool {
        self.directives
            .iter()
            .any(|said| *said == directive || said.split('=').next() == Some(directive))
    }

    /// Whether a directive is there more than once.
    fn repeats_a_directive(&self) -> bool {
        let name = |said: &&str| {
            said.split('=')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        let names: BTreeSet<_> = self.directives.iter().map(name).collect();
        names.len() < self.directives.len()
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.response.contains(&(name, value))
    }

    fn carries(&self, name: &str) -> bool {
        self.response.iter().any(|(known, _)| *known == name)
    }
}

/// Which way a row lets us differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    /// We store or serve what they do not.
    More,
    /// We do not store or serve what they do.
    Less,
    /// Either.
    Both,
}

/// Why the two may disagree: what it is about, the section that decides for us,
/// which way, and what it concerns.
type Row = (
    &'static str,
    &'static str,
    Ours,
    fn(&Exchange, Question) -> bool,
);

const DISSENT: &[Row] = &[
    (
        "every final status is storable with explicit freshness",
        "RFC 9111 section 3",
        Ours::More,
        |exchange, _| {
            ![
                200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501,
            ]
            .contains(&exchange.status)
        },
    ),
    (
        "must-understand takes no-store back",
        "RFC 9111 section 5.2.2.3",
        Ours::More,
        |exchange, _| exchange.says("must-understand"),
    ),
    (
        "directives are case-insensitive",
        "RFC 9111 section 5.2",
        Ours::Both,
        |exchange, _| exchange.says("Max-Age"),
    ),
    (
        "several values of one directive forbid nothing by themselves",
        "RFC 9111 section 4.2.1",
        Ours::Both,
        |exchange, _| exchange.repeats_a_directive(),
    ),
    (
        "directives in quotes are text",
        "RFC 9111 section 5.2",
        Ours::Both,
        |exchange, _| exchange.says("x"),
    ),
    (
        "private with a list is about the fields",
        "RFC 9111 section 5.2.2.7",
        Ours::More,
        |exchange, _| exchange.directives.contains(&"private=\"x-a\""),
    ),
    (
        "no-cache with a list is about the fields",
        "RFC 9111 section 5.2.2.4",
        Ours::More,
        |exchange, _| exchange.directives.contains(&"no-cache=\"x-a\""),
    ),
    (
        "proxy-revalidate is about stale use alone",
        "RFC 9111 section 5.2.2.8",
        Ours::More,
        |exchange, _| exchange.says("proxy-revalidate"),
    ),
    (
        "s-maxage is leave to share a cookie, immutable is not",
        "RFC 9111 section 7.3",
        Ours::Both,
        |exchange, _| {
            exchange.carries("set-cookie")
                && (exchange.says("s-maxage") || exchange.says("immutable"))
        },
    ),
    (
        "immutable makes nothing fresh",
        "RFC 8246 section 2",
        Ours::Less,
        |exchange, _| exchange.says("immutable"),
    ),
    (
        "a number that cannot be read is stale",
        "RFC 9111 section 4.2.1",
        Ours::Less,
        |exchange, _| exchange.directives.contains(&"max-age"),
    ),
    (
        "apparent age counts",
        "RFC 9111 section 4.2.3",
        Ours::Less,
        |exchange, _| exchange.has("date", HOUR_AGO) || exchange.has("date", MINUTE_AGO),
    ),
    (
        "of several ages the first counts",
        "RFC 9111 section 5.1",
        Ours::Less,
        |exchange, _| exchange.has("age", "7200, 0"),
    ),
    (
        "Pragma in responses says nothing",
        "RFC 9111 section 5.4",
        Ours::More,
        |exchange, _| exchange.carries("pragma"),
    ),
    (
        "all forms of dates, names of any case",
        "RFC 9111 section 4.2",
        Ours::Both,
        |exchange, _| {
            exchange.has("expires", "Sunday, 09-Sep-01 02:46:40 GMT")
                || exchange.has("expires", "SUN, 09 SEP 2001 02:46:40 gmt")
        },
    ),
    (
        "a cookie is not shared without leave: not stored rather than stored stale",
        "RFC 9111 section 7.3",
        Ours::Less,
        |exchange, _| exchange.carries("set-cookie"),
    ),
    (
        "what matches no request is not kept",
        "RFC 9111 section 4.1",
        Ours::Less,
        |exchange, question| exchange.has("vary", "*") && matches!(question, Question::Stored),
    ),
    (
        "what is stale at once and has nothing to validate it is not kept",
        "RFC 9111 section 3",
        Ours::Less,
        |exchange, question| {
            !exchange.carries("etag")
                && !exchange.carries("last-modified")
                && !matches!(question, Question::Fresh(_))
        },
    ),
    (
        "max-age=0 is a reload, even of what has just come",
        "RFC 9111 section 5.2.1.1",
        Ours::Less,
        |exchange, question| visits(question) && exchange.visitor == Some("max-age=0"),
    ),
    (
        "max-stale includes its last second",
        "RFC 9111 section 5.2.1.2",
        Ours::More,
        |exchange, question| visits(question) && exchange.visitor == Some("max-stale=100"),
    ),
    (
        "no-cache binds whatever a visitor accepts",
        "RFC 9111 section 5.2.2.4",
        Ours::Less,
        |exchange, question| visits(question) && exchange.says("no-cache"),
    ),
    (
        "proxy-revalidate and s-maxage forbid stale use, whatever a visitor accepts",
        "RFC 9111 section 4.2.4",
        Ours::Less,
        |exchange, question| {
            visits(question) && (exchange.says("proxy-revalidate") || exchange.says("s-maxage"))
        },
    ),
    (
        "stale-while-revalidate is leave to answer first",
        "RFC 5861 section 3",
        Ours::More,
        |exchange, question| visits(question) && exchange.says("stale-while-revalidate"),
    ),
    (
        "immutable spares reloads",
        "RFC 8246 section 2",
        Ours::More,
        |exchange, question| visits(question) && exchange.says("immutable"),
    ),
    (
        "a zone other than GMT is no date",
        "RFC 9111 section 4.2",
        Ours::Less,
        |exchange, _| exchange.has("expires", "Sun, 09 Sep 2001 02:46:40 +0000"),
    ),
];

fn visits(question: Question) -> bool {
    matches!(question, Question::Answers(_))
}

fn exchanges() -> impl Strategy<Value = Exchange> {
    let status = prop_oneof![
        6 => Just(200u16),
        4 => proptest::sample::select(vec![
            201, 203, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 403, 404, 405, 410, 414, 500, 501, 503, 599,
        ]),
    ];
    let directive = proptest::sample::select(vec![
        "max-age=60",
        "max-age=3600",
        "max-age=0",
        "max-age=-1",
        "max-age=\"60\"",
        "max-age",
        "Max-Age=60",
        "s-maxage=60",
        "s-maxage=0",
        "no-store",
        "no-cache",
        "no-cache=\"x-a\"",
        "private",
        "private=\"x-a\"",
        "public",
        "must-revalidate",
        "proxy-revalidate",
        "must-understand",
        "immutable",
        "foo",
        "foo=bar",
        "x=\"a, no-store, max-age=9999\"",
        "stale-while-revalidate=60",
        "stale-if-error=60",
    ]);
    let one = |name: &'static str, values: Vec<&'static str>| {
        proptest::option::weighted(0.3, proptest::sample::select(values))
            .prop_map(move |value| value.map(|value| (name, value)))
    };
    let response = (
        one(
            "expires",
            vec![
                IN_AN_HOUR,
                HOUR_AGO,
                NOW,
                "0",
                "Sunday, 09-Sep-01 02:46:40 GMT",
                "SUN, 09 SEP 2001 02:46:40 gmt",
                "Sun, 09 Sep 2001 02:46:40 +0000",
            ],
        ),
        one("date", vec![NOW, NOW, MINUTE_AGO, HOUR_AGO, "foo"]),
        one("last-modified", vec![HOUR_AGO, NOW, IN_AN_HOUR, "foo"]),
        one("age", vec!["0", "30", "7200", "-1", "7200, 0"]),
        one("vary", vec!["accept", "*"]),
        one("set-cookie", vec!["a=b"]),
        one("pragma", vec!["no-cache"]),
        one("etag", vec!["\"a\""]),
    )
        .prop_map(|(a, b, c, d, e, f, g, h)| {
            [a, b, c, d, e, f, g, h].into_iter().flatten().collect()
        });
    let request = (
        one("authorization", vec!["x"]),
        one("cache-control", vec!["no-store", "max-age=5"]),
    )
        .prop_map(|(a, b)| [a, b].into_iter().flatten().collect());
    let visitor = proptest::option::of(proptest::sample::select(vec![
        "no-cache",
        "max-age=0",
        "max-age=50",
        "min-fresh=10",
        "max-stale",
        "max-stale=100",
    ]));
    (
        status,
        request,
        proptest::collection::vec(directive, 0..4),
        response,
        visitor,
    )
        .prop_map(
            |(status, request, directives, response, visitor)| Exchange {
                status,
                request,
                directives,
                response,
                visitor,
            },
        )
}

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    super::fields::tests::map(lines)
}

fn system_time(time: Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(time.as_unix_millis())
}

/// Every question, with our answer and theirs.
fn both(exchange: &Exchange) -> Vec<(Question, bool, bool)> {
    let mut response_fields = fields(&exchange.response);
    for directive in &exchange.directives {
        response_fields.append("cache-control", http::HeaderValue::from_static(directive));
    }
    let request_fields = fields(&exchange.request);
    let status = StatusCode::from_u16(exchange.status).unwrap();
    let visitor: Vec<_> = exchange
        .visitor
        .map(|said| ("cache-control", said))
        .into_iter()
        .collect();
    let visitor = fields(&visitor);

    let policy = Policy::of(Preset::Strict);
    let decided = storability(
        &Method::GET,
        &request_fields,
        status,
        &response_fields,
        at(0),
        at(0),
        &policy,
    );
    let mut request = Request::new(());
    *request.headers_mut() = request_fields;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = response_fields;
    let theirs = CachePolicy::new_options(
        &request,
        &response,
        system_time(at(0)),
        CacheOptions::default(),
    );

    let stored = matches!(decided, Storability::Store(_));
    let mut answers = vec![(Question::Stored, stored, theirs.is_storable())];
    answers.extend(MOMENTS.map(|seconds| {
        let ours = match decided {
            Storability::Store(freshness) => freshness.is_fresh(at(seconds)),
            Storability::DoNotStore(_) => false,
        };
        let fresh = theirs.is_storable() && !theirs.is_stale(system_time(at(seconds)));
        (Question::Fresh(seconds), ours, fresh)
    }));
    let wanted = RequestDirectives::parse(&visitor);
    let mut visit = Request::new(());
    *visit.headers_mut() = visitor;
    answers.extend(VISITS.map(|seconds| {
        let ours = match decided {
            Storability::Store(freshness) => {
                let told = verdict(&freshness, &wanted, policy.preset, false, at(seconds));
                !matches!(told, Verdict::Revalidate { .. })
            }
            Storability::DoNotStore(_) => false,
        };
        let told = theirs.before_request(&visit, system_time(at(seconds)));
        (
            Question::Answers(seconds),
            ours,
            theirs.is_storable() && told.satisfies_without_revalidation(),
        )
    }));
    answers
}

#[test]
fn disagreements_are_ours_to_explain() {
    let config = Config {
        cases: Config::default().cases.max(EXCHANGES),
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    // Rows that alone explain a disagreement.
    let needed = RefCell::new(BTreeSet::new());
    let outcome = runner.run(&exchanges(), |exchange| {
        for (question, ours, theirs) in both(&exchange) {
            let explains = |way: Ours| match way {
                Ours::More => ours,
                Ours::Less => !ours,
                Ours::Both => true,
            };
            let rows: Vec<_> = DISSENT
                .iter()
                .filter(|(_, _, way, concerns)| explains(*way) && concerns(&exchange, question))
                .map(|(what, ..)| *what)
                .collect();
            if ours != theirs {
                prop_assert!(
                    !rows.is_empty(),
                    "{question:?}: ours {ours}, theirs {theirs}"
                );
                if let [alone] = rows.as_slice() {
                    needed.borrow_mut().insert(*alone);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
    for (what, section, ..) in DISSENT {
        assert!(
            needed.borrow().contains(what),
            "no disagreement needs {what} ({section})"
        );
    }
}
