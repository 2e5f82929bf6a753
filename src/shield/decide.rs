//! What a cell means for a request: the heart of the shield, as a pure function.
//!
//! Read the table in the tests first: each row is a cell, a request, and what
//! happens.

use super::served::{Passed, Stale};
use crate::cell::{Cell, Entry};
use crate::semantics::{
    Audience, Preset, RequestDirectives, Verdict, may_be_for_everyone, verdict,
};
use crate::time::Time;
use http::header::{ETAG, LAST_MODIFIED};
use std::time::Duration;

/// An entry is refreshed early in the last tenth of its lifetime, by one request
/// in this many.
const EARLY_REFRESH_ONE_IN: u128 = 32;

/// After so many answers in a row that were each for one request alone, the second of them
/// to a request with a validator, those that wait are passed: the next would not confirm
/// what is stored either.
const ALONE_TIMES: u8 = 2;

/// What a request brings to the decision.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// It has credentials that are not keyed.
    pub(super) credentials: bool,
    /// What it says about the answer that it wants.
    pub(super) directives: RequestDirectives,
    /// When it came.
    pub(super) arrival: Time,
    /// It has waited for another's fetch.
    pub(super) collapsed: bool,
    /// It has credentials, and goes to the origin itself where nothing is known of its
    /// question.
    pub(super) scouts: bool,
}

/// What the settings bring to the decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) preset: Preset,
    pub(super) clock_skew: Duration,
    pub(super) early_refresh: bool,
}

/// What the store says about a question.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// The question's cell, with the marks of its key applied.
    pub(super) cell: Option<&'a Cell>,
    /// Until when the key passes requests with credentials.
    pub(super) credentials_pass_until: Option<Time>,
    /// Until when requests with credentials ask the question where there is no entry.
    pub(super) for_everyone_until: Option<Time>,
    /// Whether the request accepts the coding of the entry.
    pub(super) accepts_coding: bool,
}

/// What to do about a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step<'a> {
    /// Answer with the entry.
    Serve(&'a Entry, Option<Stale>),
    /// Answer with the entry, and refresh it behind the answer.
    ServeAndRefresh(&'a Entry, Option<Stale>),
    /// Forward the request with its own fields. The entry, if any, may be used
    /// if the origin fails.
    Pass(Passed, Option<&'a Entry>),
    /// Nothing to serve: say when to come back.
    Unavailable(Time),
    /// Nothing to serve, and the request does not want it fetched.
    NotCached,
    /// Forward the request with its own fields, and learn from the answer whom answers are
    /// for; or wait for another that does.
    Scout,
    /// Become the leader, or follow the one that there is. The entry, if any, may
    /// be used if the origin fails.
    Fetch(Option<&'a Entry>),
}

/// Decides about a request. `dice` is a random number.
pub(super) fn decide<'a>(
    view: View<'a>,
    asker: &Asker,
    rules: Rules,
    now: Time,
    dice: u128,
) -> Step<'a> {
    let Some(cell) = view.cell else {
        return nothing_stored(view, asker, rules, now, (None, None));
    };
    let leased = cell
        .lease
        .is_some_and(|lease| lease.is_live(now, rules.clock_skew));
    let backoff = cell.backoff(now);
    // The origin works as far as is known, but nothing that it says gets stored.
    let unpublishable = cell.unpublishable(now).filter(|_| backoff.is_none());
    let pause = backoff.or(unpublishable);
    let Some(entry) = &cell.entry else {
        // After its end one request finds out whether the mark still holds. The
        // others need not queue for what it probably finds.
        let passed = cell
            .marks
            .pass
            .filter(|pass| now < pass.until || leased)
            .map(|_| Passed::Uncacheable)
            .or(unpublishable.map(|_| Passed::PublishFailing));
        return nothing_stored(view, asker, rules, now, (backoff, passed));
    };
    let usable_on_error = entry.freshness.may_serve_on_error(now);
    let fallback = usable_on_error.then_some(entry);
    if !view.accepts_coding {
        return Step::Pass(Passed::Encoding, None);
    }
    if asker.credentials && entry.audience == Audience::Anonymous {
        let fallback = fallback
            .filter(|entry| rules.preset == Preset::Uptime && may_be_for_everyone(entry.status));
        return Step::Pass(Passed::Credentials, fallback);
    }
    let verdict = verdict(
        &entry.freshness,
        &asker.directives,
        rules.preset,
        entry.invalidated,
        now,
    );
    match verdict {
        Verdict::Fresh if !leased && pause.is_none() && is_due_early(entry, rules, now, dice) => {
            Step::ServeAndRefresh(entry, None)
        }
        Verdict::Fresh => Step::Serve(entry, None),
        Verdict::StaleWhileRevalidate if leased || pause.is_some() => {
            Step::Serve(entry, Some(Stale::WhileRevalidating))
        }
        Verdict::StaleWhileRevalidate => {
            Step::ServeAndRefresh(entry, Some(Stale::WhileRevalidating))
        }
        Verdict::Revalidate { on_error } => {
            let held = Held {
                leased,
                backoff,
                unpublishable: unpublishable.is_some(),
            };
            revalidate(entry, on_error, asker, rules, held)
        }
    }
}

/// What keeps a cell's question from being asked.
#[derive(Clone, Copy)]
struct Held {
    /// Another asks it.
    leased: bool,
    /// The origin is left alone until then.
    backoff: Option<Time>,
    /// What is fetched is not published.
    unpublishable: bool,
}

/// The entry may not be used without asking the origin. `on_error`: it may if the origin
/// fails.
fn revalidate<'a>(
    entry: &'a Entry,
    on_error: bool,
    asker: &Asker,
    rules: Rules,
    held: Held,
) -> Step<'a> {
    let uptime = rules.preset == Preset::Uptime;
    let fallback = on_error.then_some(entry);
    // RFC 9111 section 5.2.2.4: nobody gets what was made for another. Requests for it need
    // not queue for each other.
    if held.backoff.is_none()
        && !asker.directives.only_if_cached
        && (asker.collapsed || held.leased)
        && is_for_each_alone(entry)
    {
        return Step::Pass(Passed::Validation, fallback.filter(|_| uptime));
    }
    if asker.collapsed && is_since(asker, entry, rules) {
        match rules.preset {
            // A 304 has confirmed it since the request came, or the question is the same
            // and the answer for all that ask it: as good as its own.
            Preset::Uptime if entry.freshness.alone == 0 => return Step::Serve(entry, None),
            // One more request may confirm it for all that wait.
            Preset::Uptime => {}
            // RFC 9111 section 4: what must be validated is not shared. Requests for it
            // need not queue for each other.
            Preset::Strict => return Step::Pass(Passed::Validation, None),
        }
    }
    if asker.directives.only_if_cached {
        return Step::NotCached;
    }
    match held.backoff {
        Some(_) if on_error => Step::Serve(entry, Some(Stale::OnError)),
        Some(until) => unavailable(asker, rules, until),
        // The origin works: the entry is not used past the windows that it has then.
        None if held.unpublishable => {
            Step::Pass(Passed::PublishFailing, fallback.filter(|_| uptime))
        }
        None => fetch(asker, rules, fallback),
    }
}

/// No entry: marks decide.
fn nothing_stored<'a>(
    view: View<'a>,
    asker: &Asker,
    rules: Rules,
    now: Time,
    (backoff, passed): (Option<Time>, Option<Passed>),
) -> Step<'a> {
    if asker.directives.only_if_cached {
        return Step::NotCached;
    }
    let credentials =
        asker.credentials && view.credentials_pass_until.is_some_and(|until| now < until);
    if credentials {
        return Step::Pass(Passed::Credentials, None);
    }
    if let Some(passed) = passed {
        return Step::Pass(passed, None);
    }
    match backoff {
        Some(until) => unavailable(asker, rules, until),
        None if asker.directives.no_store => Step::Pass(Passed::RequestNoStore, None),
        None if asker.scouts && view.for_everyone_until.is_none_or(|until| now >= until) => {
            Step::Scout
        }
        None => Step::Fetch(None),
    }
}

/// The last fetch has failed. It was made without credentials, so it says nothing about a
/// visitor with them.
fn unavailable<'a>(asker: &Asker, rules: Rules, until: Time) -> Step<'a> {
    match asker.credentials && rules.preset == Preset::Uptime {
        true => Step::Pass(Passed::Credentials, None),
        false => Step::Unavailable(until),
    }
}

/// RFC 9111 section 5.2.1.5: an answer that may not be stored is of no use to
/// followers.
fn fetch<'a>(asker: &Asker, rules: Rules, fallback: Option<&'a Entry>) -> Step<'a> {
    match rules.preset {
        Preset::Strict if asker.directives.no_store => Step::Pass(Passed::RequestNoStore, None),
        Preset::Strict | Preset::Uptime => Step::Fetch(fallback),
    }
}

/// Whether each request gets an answer of its own, whatever it waits for: the origin has
/// not confirmed what it said before, or there is nothing to validate.
fn is_for_each_alone(entry: &Entry) -> bool {
    let has_validator =
        entry.headers.contains_key(ETAG) || entry.headers.contains_key(LAST_MODIFIED);
    entry.freshness.alone >= ALONE_TIMES || (entry.freshness.alone > 0 && !has_validator)
}

/// Whether an entry was requested from the origin after this request came. An
/// entry that has been invalidated since may have been invalidated even before
/// this request came, if a node requested it whose clock is ahead.
fn is_since(asker: &Asker, entry: &Entry, rules: Rules) -> bool {
    let skew = match entry.invalidated {
        true => rules.clock_skew,
        false => Duration::ZERO,
    };
    entry.request_time >= asker.arrival.plus(skew)
}

fn is_due_early(entry: &Entry, rules: Rules, now: Time, dice: u128) -> bool {
    let ttl = u64::try_from(entry.freshness.ttl_ms(now)).unwrap_or(0);
    rules.early_refresh
        && ttl < entry.freshness.lifetime_ms / 10
        && dice.is_multiple_of(EARLY_REFRESH_ONE_IN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::cell::{Body, Lease, Marks, Nonce, Pass, Retry, Unsettled};
    use crate::semantics::Freshness;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    const NOW: u64 = 100_000;

    fn at(millis: u64) -> Time {
        Time::from_unix_millis(millis)
    }

    /// What is in the cell.
    #[derive(Clone, Copy)]
    enum Has {
        Nothing,
        /// Fresh for everyone.
        Fresh,
        /// Fresh for visitors without credentials.
        FreshAnonymous,
        /// Within the stale-while-revalidate window.
        Stale,
        StaleAnonymous,
        /// Within the stale-if-error window alone.
        Old,
        /// Past all windows.
        Dead,
        /// `no-cache`, requested after the request came.
        NoCache,
    }

    fn entry(has: Has) -> Option<Entry> {
        let (age, audience, no_cache) = match has {
            Has::Nothing => return None,
            Has::Fresh => (1, Audience::Everyone, false),
            Has::FreshAnonymous => (1, Audience::Anonymous, false),
            Has::Stale => (15, Audience::Everyone, false),
            Has::StaleAnonymous => (15, Audience::Anonymous, false),
            Has::Old => (25, Audience::Everyone, false),
            Has::Dead => (90, Audience::Everyone, false),
            Has::NoCache => (0, Audience::Anonymous, true),
        };
        Some(Entry {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            request_time: at(NOW - age * 1_000),
            fetch_millis: 0,
            freshness: Freshness {
                lifetime_ms: 10_000,
                initial_age_ms: 0,
                response_time: at(NOW - age * 1_000),
                stale_while_revalidate_ms: 10_000,
                stale_if_error_ms: 30_000,
                must_revalidate: false,
                no_cache,
                immutable: false,
                alone: 0,
                each_use: false,
            },
            lease: Nonce::new(1),
            invalidated: false,
            audience,
            under: Default::default(),
            body: Body::Inline(Bytes::new()),
        })
    }

    /// What marks the cell has.
    #[derive(Clone, Copy, Default)]
    struct With {
        leased: bool,
        retry: bool,
        pass: bool,
        credentials_pass: bool,
        undecodable: bool,
        /// The last leases were not settled.
        unsettled: bool,
    }

    const PLAIN: With = With {
        leased: false,
        retry: false,
        pass: false,
        credentials_pass: false,
        undecodable: false,
        unsettled: false,
    };

    fn step(has: Has, with: With, credentials: bool, collapsed: bool, preset: Preset) -> String {
        step_with(entry(has), with, credentials, collapsed, preset)
    }

    fn step_with(
        entry: Option<Entry>,
        with: With,
        credentials: bool,
        collapsed: bool,
        preset: Preset,
    ) -> String {
        let cell = Cell {
            version: 1,
            nonce: Nonce::new(1),
            key: "k".into(),
            entry,
            lease: with.leased.then(|| Lease {
                holder: Nonce::new(2),
                start: at(NOW),
                deadline: at(NOW + 5_000),
                revoked: false,
                draft: None,
            }),
            marks: Marks {
                retry: with.retry.then(|| Retry {
                    not_before: at(NOW + 1_000),
                    failures: 1,
                    doubted: false,
                }),
                pass: with.pass.then(|| Pass {
                    until: at(NOW + 1_000),
                    since: at(NOW),
                    times: 1,
                }),
                unsettled: with.unsettled.then(|| Unsettled {
                    times: Unsettled::TIMES,
                    not_before: at(NOW + 1_000),
                }),
                ..Marks::default()
            },
            orphans: Vec::new(),
            coming: None,
        };
        let asker = Asker {
            credentials,
            directives: RequestDirectives::default(),
            arrival: at(NOW),
            collapsed,
            scouts: false,
        };
        let rules = Rules {
            preset,
            clock_skew: Duration::ZERO,
            early_refresh: true,
        };
        let view = View {
            cell: Some(&cell),
            credentials_pass_until: with.credentials_pass.then(|| at(NOW + 1_000)),
            for_everyone_until: None,
            accepts_coding: !with.undecodable,
        };
        match decide(view, &asker, rules, at(NOW), 1) {
            Step::Serve(_, None) => "serve".into(),
            Step::Serve(_, Some(stale)) => format!("serve {stale:?}"),
            Step::ServeAndRefresh(_, _) => "serve and refresh".into(),
            Step::Pass(passed, fallback) => match fallback {
                Some(_) => format!("pass {} or serve", passed.token()),
                None => format!("pass {}", passed.token()),
            },
            Step::Unavailable(_) => "unavailable".into(),
            Step::NotCached => "not cached".into(),
            Step::Scout => "scout".into(),
            Step::Fetch(None) => "fetch".into(),
            Step::Fetch(Some(_)) => "fetch or serve".into(),
        }
    }

    #[test]
    fn what_happens() {
        let leased = With {
            leased: true,
            ..PLAIN
        };
        let retry = With {
            retry: true,
            ..PLAIN
        };
        let pass = With {
            pass: true,
            ..PLAIN
        };
        let credentials_pass = With {
            credentials_pass: true,
            ..PLAIN
        };
        let unsettled = With {
            unsettled: true,
            ..PLAIN
        };
        let unsettled_and_retry = With {
            retry: true,
            ..unsettled
        };
        let undecodable = With {
            undecodable: true,
            ..PLAIN
        };
        // Cell, marks; what a visitor without credentials gets, and one with.
        for (has, with, anonymous, with_credentials) in [
            (Has::Nothing, PLAIN, "fetch", "fetch"),
            (Has::Nothing, leased, "fetch", "fetch"),
            // The question failed without credentials.
            (Has::Nothing, retry, "unavailable", "pass credentials"),
            (Has::Nothing, pass, "pass uncacheable", "pass uncacheable"),
            (Has::Nothing, credentials_pass, "fetch", "pass credentials"),
            (Has::Fresh, PLAIN, "serve", "serve"),
            // The entry counts before the marks.
            (Has::Fresh, pass, "serve", "serve"),
            (Has::Fresh, retry, "serve", "serve"),
            (Has::Fresh, credentials_pass, "serve", "serve"),
            (Has::Fresh, undecodable, "pass encoding", "pass encoding"),
            (
                Has::FreshAnonymous,
                PLAIN,
                "serve",
                "pass credentials or serve",
            ),
            (
                Has::FreshAnonymous,
                retry,
                "serve",
                "pass credentials or serve",
            ),
            (Has::Stale, PLAIN, "serve and refresh", "serve and refresh"),
            (
                Has::Stale,
                leased,
                "serve WhileRevalidating",
                "serve WhileRevalidating",
            ),
            (
                Has::Stale,
                retry,
                "serve WhileRevalidating",
                "serve WhileRevalidating",
            ),
            (Has::Stale, pass, "serve and refresh", "serve and refresh"),
            (
                Has::StaleAnonymous,
                PLAIN,
                "serve and refresh",
                "pass credentials or serve",
            ),
            (Has::Old, PLAIN, "fetch or serve", "fetch or serve"),
            (Has::Old, leased, "fetch or serve", "fetch or serve"),
            (Has::Old, retry, "serve OnError", "serve OnError"),
            (Has::Dead, PLAIN, "fetch", "fetch"),
            (Has::Dead, retry, "unavailable", "pass credentials"),
            (Has::NoCache, PLAIN, "fetch", "pass credentials"),
            // What is fetched is not published: the origin is not asked for nothing.
            (
                Has::Nothing,
                unsettled,
                "pass publish-failing",
                "pass publish-failing",
            ),
            (
                Has::Nothing,
                unsettled_and_retry,
                "unavailable",
                "pass credentials",
            ),
            (Has::Fresh, unsettled, "serve", "serve"),
            (
                Has::Stale,
                unsettled,
                "serve WhileRevalidating",
                "serve WhileRevalidating",
            ),
            // The origin works, so the window for its failures does not count.
            (
                Has::Old,
                unsettled,
                "pass publish-failing or serve",
                "pass publish-failing or serve",
            ),
            (
                Has::Dead,
                unsettled,
                "pass publish-failing",
                "pass publish-failing",
            ),
            (
                Has::NoCache,
                unsettled,
                "pass publish-failing",
                "pass credentials",
            ),
        ] {
            for (credentials, expected) in [(false, anonymous), (true, with_credentials)] {
                assert_eq!(
                    step(has, with, credentials, false, Preset::Uptime),
                    expected,
                    "credentials: {credentials}"
                );
            }
        }
    }

    #[test]
    fn what_an_unsafe_request_has_changed_is_not_used_because_publishing_fails() {
        let mut old = entry(Has::Old).unwrap();
        old.invalidated = true;
        let cell = Cell {
            coming: None,
            version: 1,
            nonce: Nonce::new(1),
            key: "k".into(),
            entry: Some(old),
            lease: None,
            marks: Marks {
                unsettled: Some(Unsettled {
                    times: Unsettled::TIMES,
                    not_before: at(NOW + 1_000),
                }),
                ..Marks::default()
            },
            orphans: Vec::new(),
        };
        let asker = Asker {
            credentials: false,
            directives: RequestDirectives::default(),
            arrival: at(NOW),
            collapsed: false,
            scouts: false,
        };
        for preset in [Preset::Uptime, Preset::Strict] {
            let rules = Rules {
                preset,
                clock_skew: Duration::ZERO,
                early_refresh: true,
            };
            let view = View {
                cell: Some(&cell),
                credentials_pass_until: None,
                for_everyone_until: None,
                accepts_coding: true,
            };
            let fallback = cell.entry.as_ref().filter(|_| preset == Preset::Uptime);
            assert_eq!(
                decide(view, &asker, rules, at(NOW), 0),
                Step::Pass(Passed::PublishFailing, fallback)
            );
        }
    }

    /// A page that is made for each visitor was shared by the visitors that
    /// waited for the same fetch.
    #[test]
    fn what_must_be_validated_is_shared_by_waiters_without_credentials_alone() {
        for (preset, credentials, expected) in [
            (Preset::Uptime, false, "serve"),
            (Preset::Uptime, true, "pass credentials"),
            (Preset::Strict, false, "pass validation"),
        ] {
            assert_eq!(
                step(Has::NoCache, PLAIN, credentials, true, preset),
                expected
            );
        }
    }

    /// One visitor without a password locked out all with one.
    #[test]
    fn a_refusal_that_was_made_without_credentials_is_not_for_those_with_them() {
        for (status, expected) in [
            (200, "pass credentials or serve"),
            (301, "pass credentials or serve"),
            (302, "pass credentials"),
            (401, "pass credentials"),
            (403, "pass credentials"),
            (404, "pass credentials"),
            (407, "pass credentials"),
            (503, "pass credentials"),
        ] {
            let mut stored = entry(Has::FreshAnonymous).unwrap();
            stored.status = StatusCode::from_u16(status).unwrap();
            let found = step_with(Some(stored), PLAIN, true, false, Preset::Uptime);
            assert_eq!(found, expected, "{status}");
        }
    }

    /// Visitors who asked for a token at once got the same; and where a page does not
    /// change, one more request is enough for all.
    #[test]
    fn what_was_made_for_another_is_validated_once_more_and_then_each_goes_alone() {
        let leased = With {
            leased: true,
            ..PLAIN
        };
        let retry = With {
            retry: true,
            ..PLAIN
        };
        // How many answers were for one request alone, whether there is a validator,
        // marks, whether it has waited.
        for (alone, validator, with, collapsed, expected) in [
            (0, true, PLAIN, true, "serve"),
            (1, true, PLAIN, true, "fetch"),
            (1, true, leased, true, "fetch"),
            (2, true, PLAIN, true, "pass validation"),
            (2, true, leased, false, "pass validation"),
            (2, true, PLAIN, false, "fetch"),
            (1, false, PLAIN, true, "pass validation"),
            (1, false, leased, false, "pass validation"),
            (1, false, PLAIN, false, "fetch"),
            (2, true, retry, true, "unavailable"),
        ] {
            let mut stored = entry(Has::NoCache).unwrap();
            stored.freshness.alone = alone;
            if validator {
                stored
                    .headers
                    .insert(ETAG, HeaderValue::from_static("\"a\""));
            }
            assert_eq!(
                step_with(Some(stored), with, false, collapsed, Preset::Uptime),
                expected,
                "{alone} {validator} {collapsed}"
            );
        }
        // RFC 9111 section 4: nothing that must be validated is shared.
        for alone in [0, 1, 2] {
            let mut stored = entry(Has::NoCache).unwrap();
            stored.freshness.alone = alone;
            let step = step_with(Some(stored), PLAIN, false, true, Preset::Strict);
            assert_eq!(step, "pass validation", "{alone}");
        }
    }

    /// A private page cost the origin two requests: the question, and the visitor's own.
    #[test]
    fn a_visitor_with_credentials_scouts_only_where_nothing_is_known() {
        let asker = Asker {
            credentials: true,
            directives: RequestDirectives::default(),
            arrival: at(NOW),
            collapsed: false,
            scouts: true,
        };
        let rules = Rules {
            preset: Preset::Uptime,
            clock_skew: Duration::ZERO,
            early_refresh: true,
        };
        let until = Some(at(NOW + 1_000));
        let pass = Pass {
            until: at(NOW + 1_000),
            since: at(NOW),
            times: 1,
        };
        let over = Some(at(NOW));
        let pass_credentials = Step::Pass(Passed::Credentials, None);
        for (has, credentials_pass_until, for_everyone_until, marked, expected) in [
            (None, None, None, false, Step::Scout),
            (None, until, None, false, pass_credentials),
            (
                None,
                None,
                None,
                true,
                Step::Pass(Passed::Uncacheable, None),
            ),
            // It was for everyone.
            (entry(Has::Dead), None, None, false, Step::Fetch(None)),
            // Another was told so.
            (None, None, until, false, Step::Fetch(None)),
            (None, None, over, false, Step::Scout),
            (None, until, until, false, pass_credentials),
        ] {
            let cell = Cell {
                coming: None,
                version: 1,
                nonce: Nonce::new(1),
                key: "k".into(),
                entry: has,
                lease: None,
                marks: Marks {
                    pass: marked.then_some(pass),
                    ..Marks::default()
                },
                orphans: Vec::new(),
            };
            let view = View {
                cell: Some(&cell),
                credentials_pass_until,
                for_everyone_until,
                accepts_coding: true,
            };
            assert_eq!(decide(view, &asker, rules, at(NOW), 0), expected);
        }
    }

    #[test]
    fn nothing_is_known_of_a_key_without_a_cell() {
        let asker = Asker {
            credentials: true,
            directives: RequestDirectives::default(),
            arrival: at(NOW),
            collapsed: false,
            scouts: false,
        };
        let rules = Rules {
            preset: Preset::Uptime,
            clock_skew: Duration::ZERO,
            early_refresh: true,
        };
        let view = View {
            cell: None,
            credentials_pass_until: None,
            for_everyone_until: None,
            accepts_coding: true,
        };
        assert_eq!(decide(view, &asker, rules, at(NOW), 0), Step::Fetch(None));
    }
}
