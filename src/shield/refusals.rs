//! Visitors that got an error of the shield's own: the first of a kind is said at once, then
//! their number every ten seconds. Pure: the time is an argument.
//!
//! An instance says so by itself, unless its host does, which sees the answers of all
//! instances (see [`Platform::logs_refusals`](crate::world::Platform::logs_refusals)).

use super::served::Own;
use crate::budget::HaltedBy;
use crate::events;
use crate::time::Time;
use http::StatusCode;
use serde_json::Value;
use std::time::Duration;

/// The least time between two lines of one kind.
pub const EVERY: Duration = Duration::from_secs(10);

/// Most kinds that are counted at once: causes times statuses.
const KINDS_MAX: usize = 64;

/// Why visitors get an error, as `Cache-Status` names it, and what the operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The first word of the `detail`.
    pub why: &'static str,
    /// The event in the log: `refused`, or `not-served` where the request is at fault.
    pub event: &'static str,
    /// What the operator can do.
    pub remedy: &'static str,
}

/// What the embedded host says of a request that the component failed on.
pub const HOST_FAILED: &str = "failed";

const REFUSED: &str = "refused";
const NOT_SERVED: &str = "not-served";

/// Every cause.
pub const CAUSES: &[Cause] = &[
    Cause {
        why: "origin-busy",
        event: REFUSED,
        remedy: "the origin has as many requests in flight as it may: make its pages faster or \
            cacheable, or raise origin.max_concurrency if the origin bears more; wait.budget says \
            how long visitors wait",
    },
    Cause {
        why: "wait-budget",
        event: REFUSED,
        remedy: "the page is fetched for another visitor and takes longer than wait.budget: raise \
            it, or make the page faster",
    },
    Cause {
        why: "breaker-open",
        event: REFUSED,
        remedy: "the origin fails, and is left alone for a while: see the lines `origin` before \
            the line `breaker`; origin.breaker has the settings",
    },
    Cause {
        why: "rate-used-up",
        event: REFUSED,
        remedy: "the requests of this hour are used up: raise origin.max_per_hour if the \
            platform allows more",
    },
    Cause {
        why: "store-failing",
        event: REFUSED,
        remedy: "the store fails, and without it nothing may be sent to the origin: see the line \
            `store-failed`; origin.local_concurrency allows some requests without a store",
    },
    Cause {
        why: "backoff",
        event: REFUSED,
        remedy: "the last request for this page failed, and the next one is not due: see the line \
            `origin` for it; origin.retry has the settings",
    },
    Cause {
        why: "origin-failed",
        event: REFUSED,
        remedy: "the origin failed on this request: see the line `origin` with the same request",
    },
    Cause {
        why: "origin-timeout",
        event: REFUSED,
        remedy: "the origin did not answer in time: if this page may take that long, raise \
            origin.first_byte_timeout for it by a rule",
    },
    Cause {
        why: "origin-denied",
        event: REFUSED,
        remedy: "the host does not let the component ask the origin: on Spin, name the origin in \
            allowed_outbound_hosts, and write a path into origin_path",
    },
    Cause {
        why: "fields-refused",
        event: REFUSED,
        remedy: "the host does not pass the fields of the origin's answer on: see the line \
            `origin` for which, and make it shorter at the origin",
    },
    Cause {
        why: HOST_FAILED,
        event: REFUSED,
        remedy: "the component failed on this request: see the lines `request-failed` and \
            `instance-died`, and report them",
    },
    Cause {
        why: "connection-auth",
        event: NOT_SERVED,
        remedy: "NTLM and Negotiate authenticate a connection, which visitors share here: let the \
            origin offer a scheme that authenticates each request",
    },
    Cause {
        why: "misdirected",
        event: NOT_SERVED,
        remedy: "the request names a host that is not served here: add it to key.hosts if it is \
            yours",
    },
    Cause {
        why: "refused",
        event: NOT_SERVED,
        remedy: "the request is over a limit or not valid; the section limits of the configuration \
            has the limits",
    },
];

/// The cause that a `detail` names; none where nothing was refused.
pub fn cause_of(detail: &str) -> Option<&'static Cause> {
    let why = detail.split(',').next().unwrap_or_default().trim();
    CAUSES.iter().find(|cause| cause.why == why)
}

impl Own {
    /// The cause in the log; none where the visitor asked for it, has gone, or where a line
    /// of another kind says it.
    pub(super) fn cause(self) -> Option<&'static Cause> {
        match self {
            Own::OriginBusy
            | Own::WaitBudget
            | Own::Halted(HaltedBy::Breaker | HaltedBy::Rate | HaltedBy::Store)
            | Own::Backoff
            | Own::OriginFailed
            | Own::OriginTimeout
            | Own::OriginDenied
            | Own::FieldsRefused
            | Own::ConnectionAuth
            | Own::Misdirected
            | Own::Refused => cause_of(self.token()),
            Own::Loop
            | Own::MaxForwards
            | Own::OnlyIfCached
            | Own::ClientGone
            | Own::RuleFallback => None,
        }
    }
}

/// The refused visitors that one place counts.
#[derive(Debug, Default)]
pub struct Refusals {
    /// At most [`KINDS_MAX`].
    kinds: Vec<Kind>,
}

#[derive(Debug)]
struct Kind {
    cause: &'static Cause,
    status: StatusCode,
    /// When its last line was.
    told: Time,
    /// How many came after that line.
    unsaid: u64,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Why.
    pub cause: &'static Cause,
    /// What they got.
    pub status: StatusCode,
    /// How many, since the last line.
    pub count: u64,
    /// When that was; none if this is the first one for a while.
    pub since: Option<Time>,
}

impl Kind {
    /// A clock that was set back makes a line due.
    fn is_due(&self, now: Time) -> bool {
        !self.told.was_within(EVERY, now)
    }

    fn tally(&mut self, now: Time) -> Tally {
        let count = std::mem::take(&mut self.unsaid);
        let since = std::mem::replace(&mut self.told, now);
        Tally {
            cause: self.cause,
            status: self.status,
            count,
            since: (count > 1).then_some(since),
        }
    }
}

impl Refusals {
    /// Counts a visitor. Returns what is to be said now, if something is.
    pub fn note(&mut self, cause: &'static Cause, status: StatusCode, now: Time) -> Option<Tally> {
        let known = self
            .kinds
            .iter_mut()
            .find(|kind| kind.cause.why == cause.why && kind.status == status);
        if let Some(kind) = known {
            kind.unsaid = kind.unsaid.saturating_add(1);
            return kind.is_due(now).then(|| kind.tally(now));
        }
        if self.kinds.len() >= KINDS_MAX {
            // One that has nothing to say makes room.
            let over = |kind: &Kind| kind.unsaid == 0 && kind.is_due(now);
            self.kinds.retain(|kind| !over(kind));
            if self.kinds.len() >= KINDS_MAX {
                return None;
            }
        }
        let mut kind = Kind {
            cause,
            status,
            told: now,
            unsaid: 1,
        };
        let tally = kind.tally(now);
        self.kinds.push(kind);
        Some(tally)
    }

    /// Whether some have been counted and not said.
    pub fn has_unsaid(&self) -> bool {
        self.kinds.iter().any(|kind| kind.unsaid > 0)
    }

    /// What is to be said at `now` of those that were counted before.
    pub fn due(&mut self, now: Time) -> Vec<Tally> {
        self.unsaid(now, |kind| kind.is_due(now))
    }

    /// All that has not been said, at the end.
    pub fn rest(&mut self, now: Time) -> Vec<Tally> {
        self.unsaid(now, |_| true)
    }

    fn unsaid(&mut self, now: Time, is_due: impl Fn(&Kind) -> bool) -> Vec<Tally> {
        let kinds = self.kinds.iter_mut();
        kinds
            .filter(|kind| kind.unsaid > 0 && is_due(kind))
            .map(|kind| kind.tally(now))
            .collect()
    }
}

impl Tally {
    /// The line of the log. `request` has the fields that name the last of them, if it is
    /// known.
    pub fn line(&self, request: Vec<(&'static str, Value)>, now: Time) -> String {
        let mut fields: Vec<(&str, Value)> = vec![
            ("why", self.cause.why.into()),
            ("status", self.status.as_u16().into()),
            ("count", self.count.into()),
            ("remedy", self.cause.remedy.into()),
        ];
        if let Some(since) = self.since {
            fields.push(("seconds", now.since(since).as_secs().into()));
        }
        fields.extend(request);
        events::line(self.cause.event, &fields)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_unix_millis(1_000_000 + seconds * 1_000)
    }

    fn busy() -> &'static Cause {
        cause_of("origin-busy").unwrap()
    }

    const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

    /// Twenty of twenty visitors got 503, and the log had nothing about it.
    #[test]
    fn the_first_refused_visitor_is_said_at_once_and_then_a_count_every_ten_seconds() {
        let mut refusals = Refusals::default();
        let mut said = Vec::new();
        for second in 0..35 {
            let tally = refusals.note(busy(), UNAVAILABLE, at(second));
            said.extend(tally.map(|tally| (second, tally.count, tally.since)));
        }
        let expected = [
            (0, 1, None),
            (10, 10, Some(at(0))),
            (20, 10, Some(at(10))),
            (30, 10, Some(at(20))),
        ];
        assert_eq!(said, expected);
        assert!(refusals.has_unsaid());
        assert_eq!(refusals.due(at(39)), []);
        let due = refusals.due(at(40));
        assert_eq!((due.len(), due[0].count), (1, 4));
        assert!(!refusals.has_unsaid());
        assert!(refusals.note(busy(), UNAVAILABLE, at(41)).is_none());
        // The process ends.
        assert_eq!(refusals.rest(at(41)).len(), 1);
        // One of its own, long after.
        let alone = refusals.note(busy(), UNAVAILABLE, at(600)).unwrap();
        assert_eq!((alone.count, alone.since), (1, None));
    }

    #[test]
    fn each_cause_and_status_is_a_kind_of_its_own() {
        let mut refusals = Refusals::default();
        let kinds = [
            ("origin-busy", 503),
            ("breaker-open", 503),
            ("refused", 413),
            ("refused", 431),
        ];
        for (why, status) in kinds {
            let status = StatusCode::from_u16(status).unwrap();
            let cause = cause_of(why).unwrap();
            assert!(refusals.note(cause, status, at(0)).is_some(), "{why}");
            assert!(refusals.note(cause, status, at(1)).is_none(), "{why}");
        }
        assert_eq!(refusals.due(at(11)).len(), kinds.len());
    }

    #[test]
    fn kinds_are_bounded_and_old_ones_make_room() {
        let mut refusals = Refusals::default();
        let mut status = (200..600).map(|code| StatusCode::from_u16(code).unwrap());
        for status in status.by_ref().take(10 * KINDS_MAX) {
            refusals.note(busy(), status, at(0));
        }
        assert_eq!(refusals.kinds.len(), KINDS_MAX);
        let new = cause_of("backoff").unwrap();
        assert!(refusals.note(new, UNAVAILABLE, at(1)).is_none());
        assert!(refusals.note(new, UNAVAILABLE, at(20)).is_some());
        assert!(refusals.kinds.len() <= KINDS_MAX);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_no_line_back() {
        let mut refusals = Refusals::default();
        refusals.note(busy(), UNAVAILABLE, at(1_000));
        assert!(refusals.note(busy(), UNAVAILABLE, at(0)).is_some());
    }

    #[test]
    fn a_line_says_what_happened_and_what_to_do() {
        let mut refusals = Refusals::default();
        let tally = refusals.note(busy(), UNAVAILABLE, at(0)).unwrap();
        let line = tally.line(vec![("url", "a/b?c".into())], at(0));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["event"], "refused");
        assert_eq!(line["level"], "warn");
        assert_eq!((&line["status"], &line["count"]), (&503.into(), &1.into()));
        assert_eq!(line["url"], "a/b?c");
        let remedy = line["remedy"].as_str().unwrap();
        assert!(remedy.contains("origin.max_concurrency"), "{remedy}");
    }

    #[test]
    fn a_detail_with_more_than_the_cause_is_understood() {
        for (detail, why) in [
            (
                "origin-busy, not-sent, store-unavailable",
                Some("origin-busy"),
            ),
            ("breaker-open", Some("breaker-open")),
            ("private", None),
            ("", None),
        ] {
            assert_eq!(cause_of(detail).map(|cause| cause.why), why, "{detail}");
        }
        for own in [
            Own::OriginBusy,
            Own::WaitBudget,
            Own::Halted(HaltedBy::Rate),
            Own::Halted(HaltedBy::Store),
            Own::OriginDenied,
            Own::Misdirected,
            Own::Refused,
        ] {
            assert_eq!(own.cause().map(|cause| cause.why), Some(own.token()));
        }
    }
}
