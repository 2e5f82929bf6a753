//! The rules on storing, freshness and use against another implementation of
//! them, over generated exchanges.
//!
//! Where the two disagree, [`DISSENT`] has the section that decides for us, and
//! a restatement: the exchange in words that the other implementation takes as
//! that section means the original ones. Asked about the restated exchange, the
//! two must agree. A disagreement that is left fails the test, and so does a
//! row that no disagreement needs.
//!
//! `PROPTEST_CASES` makes it more exchanges than usual.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::freshness::tests::at;
use super::policy::{Policy, Preset};
use super::request::RequestDirectives;
use super::serve::{Verdict, verdict};
use super::storable::{Asked, Kept, Storability, storability};
use crate::time::Time;
use http::{HeaderMap, Request, Response, StatusCode};
use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many exchanges are generated at least; always the same ones.
const EXCHANGES: u32 = 10_000;

/// When to look whether a response is fresh, in seconds after its receipt: on
/// both sides of every moment at which that may change.
const MOMENTS: [u64; 15] = [
    0, 29, 30, 59, 60, 329, 330, 359, 360, 3_539, 3_540, 3_599, 3_600, 7_199, 7_200,
];

/// When a later visitor comes, likewise.
const VISITS: [u64; 8] = [0, 20, 55, 100, 119, 120, 160, 161];

const NOW: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
const MINUTE_AGO: &str = "Sun, 09 Sep 2001 01:45:40 GMT";
const HOUR_AGO: &str = "Sun, 09 Sep 2001 00:46:40 GMT";
const IN_AN_HOUR: &str = "Sun, 09 Sep 2001 02:46:40 GMT";

/// An exchange, in the words that were chosen for it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Whether it is fresh, this number of seconds later.
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

    fn has(&self, name: &str, value: &str) -> bool {
        self.response.contains(&(name, value))
    }

    fn carries(&self, name: &str) -> bool {
        self.response.iter().any(|(known, _)| *known == name)
    }

    /// Says one directive instead of another; nothing, if there is no other.
    fn replace(&mut self, directive: &str, with: Option<&'static str>) {
        self.directives = std::mem::take(&mut self.directives)
            .into_iter()
            .filter_map(|said| if said == directive { with } else { Some(said) })
            .collect();
    }

    /// Carries a field once, with this value.
    fn set(&mut self, name: &'static str, value: &'static str) {
        self.response.retain(|(known, _)| *known != name);
        self.response.push((name, value));
    }
}

/// Why the two may disagree: what it is about, the section that decides for us,
/// and what to tell them instead.
type Row = (&'static str, &'static str, fn(&mut Exchange));

/// In order: a row finds what those before it have restated.
const DISSENT: &[Row] = &[
    (
        "Pragma is no-cache where nothing else is said of storing",
        "RFC 9111 section 5.4",
        |exchange| {
            if exchange.carries("pragma") && exchange.directives.is_empty() {
                exchange.directives.push("no-cache");
            }
            exchange.response.retain(|(name, _)| *name != "pragma");
        },
    ),
    (
        "directives are case-insensitive",
        "RFC 9111 section 5.2",
        |exchange| exchange.replace("Max-Age=60", Some("max-age=60")),
    ),
    (
        "directives in quotes are text",
        "RFC 9111 section 5.2",
        |exchange| exchange.replace("x=\"a, no-store, max-age=9999\"", None),
    ),
    (
        "private with a list is about the fields",
        "RFC 9111 section 5.2.2.7",
        |exchange| exchange.replace("private=\"x-a\"", None),
    ),
    (
        "no-cache with a list is about the fields",
        "RFC 9111 section 5.2.2.4",
        |exchange| exchange.replace("no-cache=\"x-a\"", None),
    ),
    (
        "a number that cannot be read is zero",
        "RFC 9111 section 4.2.1",
        |exchange| exchange.replace("max-age", Some("max-age=0")),
    ),
    (
        "several values of one directive forbid nothing by themselves, and the first counts",
        "RFC 9111 section 4.2.1",
        |exchange| {
            let mut known = BTreeSet::new();
            exchange
                .directives
                .retain(|said| known.insert(said.split('=').next()));
        },
    ),
    (
        "a status that is not understood is not stored with must-understand",
        "RFC 9111 section 5.2.2.3",
        |exchange| {
            if exchange.says("must-understand") && exchange.status == 599 {
                exchange.directives.push("no-store");
                exchange.replace("must-understand", None);
            }
        },
    ),
    (
        "must-understand takes no-store back",
        "RFC 9111 section 5.2.2.3",
        |exchange| {
            if exchange.says("must-understand") {
                exchange.replace("no-store", None);
            }
        },
    ),
    (
        "every final status is storable with explicit freshness",
        "RFC 9111 section 3",
        |exchange| {
            // 302 is, with them, and not without.
            if ![
                200, 203, 204, 206, 300, 301, 303, 304, 307, 308, 404, 405, 410, 414, 501,
            ]
            .contains(&exchange.status)
            {
                exchange.status = 302;
            }
        },
    ),
    (
        "immutable makes nothing fresh, and spares reloads",
        "RFC 8246 section 2",
        |exchange| {
            if exchange.says("immutable") {
                exchange.replace("immutable", None);
                let reload = exchange
                    .visitor
                    .is_some_and(|said| said.starts_with("max-age"));
                exchange.visitor = exchange.visitor.filter(|_| !reload);
                if reload {
                    // While it is fresh alone.
                    exchange.replace("stale-while-revalidate=60", None);
                }
            }
        },
    ),
    (
        "proxy-revalidate is about stale use alone, and no leave to share",
        "RFC 9111 section 5.2.2.8",
        |exchange| {
            let shared = ["public", "s-maxage", "must-revalidate"]
                .iter()
                .any(|leave| exchange.says(leave));
            let asked = exchange.request.contains(&("authorization", "x")) && !shared;
            exchange.replace("proxy-revalidate", (!asked).then_some("must-revalidate"));
        },
    ),
    (
        "a cookie is not shared without leave",
        "RFC 9111 section 7.3",
        |exchange| {
            let shared = exchange.says("public") || exchange.says("s-maxage");
            if exchange.carries("set-cookie") && !shared {
                exchange.directives.push("no-store");
            }
        },
    ),
    (
        "s-maxage is leave to share a cookie",
        "RFC 9111 section 5.2.2.10",
        |exchange| {
            if exchange.carries("set-cookie") && exchange.says("s-maxage") {
                exchange.directives.push("public");
            }
        },
    ),
    (
        "s-maxage forbids stale use, whatever a visitor accepts",
        "RFC 9111 section 5.2.2.10",
        |exchange| {
            if exchange.says("s-maxage") {
                exchange.directives.push("must-revalidate");
            }
        },
    ),
    (
        "what matches no request is not kept",
        "RFC 9111 section 4.1",
        |exchange| {
            if exchange.has("vary", "*") {
                exchange.directives.push("no-store");
            }
        },
    ),
    (
        "of several ages the first counts",
        "RFC 9111 section 5.1",
        |exchange| {
            if exchange.has("age", "7200, 0") {
                exchange.set("age", "7200");
            }
        },
    ),
    (
        "apparent age counts, if it is more",
        "RFC 9111 section 4.2.3",
        |exchange| {
            let old = exchange.has("age", "7200");
            if exchange.has("date", HOUR_AGO) && !old {
                exchange.set("age", "3600");
            } else if exchange.has("date", MINUTE_AGO) && !old {
                exchange.set("age", "60");
            }
        },
    ),
    (
        "all forms of dates, names of any case",
        "RFC 9111 section 4.2",
        |exchange| {
            if exchange.has("expires", "Sunday, 09-Sep-01 02:46:40 GMT")
                || exchange.has("expires", "SUN, 09 SEP 2001 02:46:40 gmt")
            {
                exchange.set("expires", IN_AN_HOUR);
            }
        },
    ),
    (
        "a zone other than GMT is no date",
        "RFC 9111 section 4.2",
        |exchange| {
            if exchange.has("expires", "Sun, 09 Sep 2001 02:46:40 +0000") {
                exchange.set("expires", "0");
            }
        },
    ),
    (
        "stale-while-revalidate is leave to answer first",
        "RFC 5861 section 3",
        |exchange| {
            if exchange.says("stale-while-revalidate") && exchange.visitor.is_none() {
                exchange.visitor = Some("max-stale=60");
            }
        },
    ),
    (
        "max-stale includes its last second",
        "RFC 9111 section 5.2.1.2",
        |exchange| {
            if exchange.visitor == Some("max-stale=100") {
                exchange.visitor = Some("max-stale=101");
            }
        },
    ),
    (
        "max-age=0 is a reload, even of what has just come",
        "RFC 9111 section 5.2.1.1",
        |exchange| {
            if exchange.visitor == Some("max-age=0") {
                exchange.visitor = Some("no-cache");
            }
        },
    ),
    (
        "no-cache binds whatever a visitor accepts",
        "RFC 9111 section 5.2.2.4",
        |exchange| {
            if exchange.says("no-cache") {
                exchange.visitor = Some("no-cache");
            }
        },
    ),
];

/// The one dissent that no words of theirs express: what is stale at once, and
/// has nothing to validate it, is not kept (RFC 9111 section 3 allows to store,
/// and obliges nobody). Then it answers nobody either.
fn is_of_no_use(restated: &Exchange, question: Question, ours: bool) -> bool {
    !ours
        && !matches!(question, Question::Fresh(_))
        && !restated.carries("etag")
        && !restated.carries("last-modified")
        && theirs(restated, &[Question::Fresh(0)]) == [false]
}

/// The exchange as all rows but one restate it.
fn restated(exchange: &Exchange, without: Option<&str>) -> Exchange {
    let mut restated = exchange.clone();
    for (what, _, restate) in DISSENT {
        if Some(*what) != without {
            restate(&mut restated);
        }
    }
    restated
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

fn questions() -> impl Iterator<Item = Question> {
    std::iter::once(Question::Stored)
        .chain(MOMENTS.map(Question::Fresh))
        .chain(VISITS.map(Question::Answers))
}

fn response_fields(exchange: &Exchange) -> HeaderMap {
    let mut response = fields(&exchange.response);
    for directive in &exchange.directives {
        response.append("cache-control", http::HeaderValue::from_static(directive));
    }
    response
}

fn visitor_fields(exchange: &Exchange) -> HeaderMap {
    fields(&Vec::from_iter(
        exchange.visitor.map(|said| ("cache-control", said)),
    ))
}

/// Our answers to some questions.
fn ours(exchange: &Exchange, questions: &[Question]) -> Vec<bool> {
    let policy = Policy::of(Preset::Strict);
    let decided = storability(
        Asked {
            headers: &fields(&exchange.request),
            path: "/",
            keyed_by_client: false,
        },
        StatusCode::from_u16(exchange.status).unwrap(),
        &response_fields(exchange),
        at(0),
        at(0),
        &policy,
    );
    let wanted = RequestDirectives::parse(&visitor_fields(exchange));
    let answer = |question: &Question| match (decided, *question) {
        (Storability::DoNotStore(_) | Storability::Brief(..), _) => false,
        (Storability::Store(_), Question::Stored) => true,
        (Storability::Store(kept), Question::Fresh(seconds)) => {
            kept.freshness.is_fresh(at(seconds))
        }
        (Storability::Store(Kept { freshness, .. }), Question::Answers(seconds)) => {
            let told = verdict(&freshness, &wanted, policy.preset, false, at(seconds));
            !matches!(told, Verdict::Revalidate { .. })
        }
    };
    questions.iter().map(answer).collect()
}

/// Theirs.
fn theirs(exchange: &Exchange, questions: &[Question]) -> Vec<bool> {
    let mut request = Request::new(());
    *request.headers_mut() = fields(&exchange.request);
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(exchange.status).unwrap();
    *response.headers_mut() = response_fields(exchange);
    let options = CacheOptions::default();
    let policy = CachePolicy::new_options(&request, &response, system_time(at(0)), options);
    let mut visit = Request::new(());
    *visit.headers_mut() = visitor_fields(exchange);
    let answer = |question: &Question| match *question {
        _ if !policy.is_storable() => false,
        Question::Stored => true,
        Question::Fresh(seconds) => !policy.is_stale(system_time(at(seconds))),
        Question::Answers(seconds) => policy
            .before_request(&visit, system_time(at(seconds)))
            .satisfies_without_revalidation(),
    };
    questions.iter().map(answer).collect()
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
    let questions: Vec<_> = questions().collect();
    // Rows without which a disagreement would be left.
    let needed = RefCell::new(BTreeSet::new());
    let outcome = runner.run(&exchanges(), |exchange| {
        let ours = ours(&exchange, &questions);
        let told = restated(&exchange, None);
        let agreed = theirs(&told, &questions);
        for ((question, ours), theirs) in questions.iter().zip(&ours).zip(&agreed) {
            prop_assert!(
                ours == theirs || is_of_no_use(&told, *question, *ours),
                "{question:?}: ours {ours}, theirs {theirs}, of {told:?}"
            );
        }
        let mut needed = needed.borrow_mut();
        for (what, ..) in DISSENT {
            if !needed.contains(what) {
                let without = restated(&exchange, Some(what));
                if without != told && theirs(&without, &questions) != agreed {
                    needed.insert(*what);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
    for (what, section, _) in DISSENT {
        assert!(
            needed.borrow().contains(what),
            "no disagreement needs {what} ({section})"
        );
    }
}
