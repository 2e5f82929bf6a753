//! What became of a visitor's request, as `Cache-Status` says it (RFC 9211): for the
//! shield or its host, which counts requests. Pure.

use super::refusals::{Cause, cause_of};
use http::HeaderMap;

/// What became of a request: the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with a fresh stored entry.
    Hit,
    /// Answered with a stale stored entry.
    Stale,
    /// Waited for another visitor's fetch, and got what that brought.
    Collapsed,
    /// Nothing stored: fetched, and answered with that.
    Miss,
    /// Something stored, which had to be validated or fetched first.
    Revalidated,
    /// Forwarded with its own fields.
    Pass,
    /// Forwarded because of its method.
    Method,
    /// Answered with the operator's fallback.
    Fallback,
    /// An error, because the shield could not serve it or does not serve such requests.
    Refused,
    /// Another answer of the shield's own.
    Own,
    /// The visitor left before there was an answer.
    Gone,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 11] = [
        Outcome::Hit,
        Outcome::Stale,
        Outcome::Collapsed,
        Outcome::Miss,
        Outcome::Revalidated,
        Outcome::Pass,
        Outcome::Method,
        Outcome::Fallback,
        Outcome::Refused,
        Outcome::Own,
        Outcome::Gone,
    ];

    /// The label.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Stale => "stale",
            Outcome::Collapsed => "collapsed",
            Outcome::Miss => "miss",
            Outcome::Revalidated => "revalidated",
            Outcome::Pass => "pass",
            Outcome::Method => "method",
            Outcome::Fallback => "fallback",
            Outcome::Refused => "refused",
            Outcome::Own => "own",
            Outcome::Gone => "gone",
        }
    }
}

/// Details of answers that are stale entries.
const STALE: [&str; 4] = ["stale", "stale-if-error", "soft-timeout", "fallback"];

/// What became of the request that this answers, and why it was refused, if it was.
pub fn outcome_of(headers: &HeaderMap) -> (Outcome, Option<&'static Cause>) {
    // This cache is the one that is closest to the visitor: the last.
    let last = headers.get_all("cache-status").iter().next_back();
    let said = last.and_then(|value| value.to_str().ok());
    let said = said.and_then(|text| text.strip_prefix("leeward"));
    said.map_or((Outcome::Own, None), read)
}

/// Reads the parameters of the member.
fn read(parameters: &str) -> (Outcome, Option<&'static Cause>) {
    let (mut hit, mut collapsed, mut answered) = (false, false, false);
    let (mut forward, mut detail) = ("", "");
    for parameter in parameters.split(';') {
        match parameter.split_once('=').unwrap_or((parameter, "")) {
            ("hit", _) => hit = true,
            ("collapsed", _) => collapsed = true,
            ("fwd-status", _) => answered = true,
            ("fwd", value) => forward = value,
            ("detail", value) => detail = value.trim_matches('"'),
            _ => {}
        }
    }
    let word = detail.split(',').next().unwrap_or_default().trim();
    let is_stale = STALE.contains(&word);
    let outcome = match (hit, answered, forward) {
        (true, ..) if is_stale => Outcome::Stale,
        (true, ..) => Outcome::Hit,
        (false, true, "method") => Outcome::Method,
        (false, true, "bypass") => Outcome::Pass,
        (false, true, "request") if word == "request-no-store" => Outcome::Pass,
        (false, true, "request" | "stale") => Outcome::Revalidated,
        (false, true, _) => Outcome::Miss,
        (false, false, _) => match cause_of(detail) {
            Some(cause) => return (Outcome::Refused, Some(cause)),
            None if word == "rule-fallback" => Outcome::Fallback,
            None if word == "client-gone" => Outcome::Gone,
            None if collapsed && is_stale => Outcome::Stale,
            None if collapsed && (word.is_empty() || word == "store-unavailable") => {
                Outcome::Collapsed
            }
            None => Outcome::Own,
        },
    };
    (outcome, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::semantics::Forward;
    use crate::shield::{Own, Passed, Served, Stale};
    use http::{HeaderValue, StatusCode};

    fn outcome(served: Served, store_fails: bool) -> (Outcome, Option<&'static str>) {
        let mut headers = HeaderMap::new();
        // What the origin says of its own cache does not count.
        headers.append("cache-status", HeaderValue::from_static("origin;hit"));
        served.cache_status(store_fails).append_to(&mut headers);
        let (outcome, cause) = outcome_of(&headers);
        (outcome, cause.map(|cause| cause.why))
    }

    fn own(why: Own, collapsed: bool, not_sent: bool) -> Served {
        Served::Own {
            why,
            forward: Some(Forward::UriMiss),
            collapsed,
            not_sent,
        }
    }

    /// The host reads what the component writes.
    #[test]
    fn each_answer_of_the_component_has_its_outcome() {
        let status = StatusCode::OK;
        let entry = |ttl, stale, collapsed| Served::Entry {
            ttl,
            stale,
            collapsed,
        };
        let fetched = |why, stored: bool| Served::Fetched {
            why,
            status,
            not_stored: (!stored).then_some("private"),
        };
        let passed = |why| Served::Passed { why, status };
        for (served, expected, why) in [
            (entry(5, None, false), Outcome::Hit, None),
            (entry(-5, Some(Stale::OnError), false), Outcome::Stale, None),
            (entry(-5, Some(Stale::Fallback), true), Outcome::Stale, None),
            (entry(0, None, true), Outcome::Collapsed, None),
            (fetched(Forward::UriMiss, true), Outcome::Miss, None),
            (fetched(Forward::VaryMiss, false), Outcome::Miss, None),
            (fetched(Forward::Stale, true), Outcome::Revalidated, None),
            (fetched(Forward::Request, true), Outcome::Revalidated, None),
            (passed(Passed::Credentials), Outcome::Pass, None),
            (passed(Passed::RequestNoStore), Outcome::Pass, None),
            (
                Served::Forwarded {
                    status,
                    stored: true,
                },
                Outcome::Method,
                None,
            ),
            (
                own(Own::OriginBusy, true, true),
                Outcome::Refused,
                Some("origin-busy"),
            ),
            (
                own(Own::OriginFailed, false, false),
                Outcome::Refused,
                Some("origin-failed"),
            ),
            (own(Own::RuleFallback, true, false), Outcome::Fallback, None),
            (own(Own::OnlyIfCached, false, false), Outcome::Own, None),
            (own(Own::ClientGone, false, false), Outcome::Gone, None),
            (Served::own(Own::Refused), Outcome::Refused, Some("refused")),
            (Served::own(Own::MaxForwards), Outcome::Own, None),
        ] {
            for store_fails in [false, true] {
                let got = outcome(served, store_fails);
                assert_eq!(got, (expected, why), "{served:?} {store_fails}");
            }
        }
        assert_eq!(outcome_of(&HeaderMap::new()), (Outcome::Own, None));
        let names: std::collections::BTreeSet<_> =
            Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
    }
}
