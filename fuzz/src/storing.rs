//! Whether a response is stored, for how long, and whom it answers.
//!
//! Input: `<status> <sent> <received> <now> <later> <flags>`, the policy's
//! `<ttl> <default> <heuristic> <swr> <sie> <error> <longest error>` in
//! milliseconds, the request's fields, the response's, a later visitor's, and a
//! target. The last two of the policy are the defaults if they are zero.

use crate::input::{Sections, mentions};
use http::{HeaderMap, StatusCode};
use leeward::question::target::path_of;
use leeward::semantics::{
    Asked, Audience, Freshness, IgnoreOrigin, Kept, Policy, Preset, RequestDirectives,
    RuledWindows, Storability, Target, Vary, Verdict, age_header, is_transient, storability,
    storability_of_post, vary, verdict,
};
use leeward::time::{Time, millis};
use std::time::Duration;

/// Everything below, for one input.
pub fn check(input: &[u8]) {
    let mut input = Sections::of(input);
    let [status, sent, received, now, later, flags] = input.numbers();
    let periods = input.numbers();
    let request = input.fields();
    let response = input.fields();
    let visitor = input.fields();
    let target = input.text();
    let Some(status) = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
    else {
        return;
    };
    let policy = policy(flags, periods);
    let [sent, received] = [sent, received].map(Time::from_unix_millis);
    let asked = Asked {
        headers: &request,
        path: path_of(&target),
        keyed_by_client: flags & 256 != 0,
    };
    let decided = storability(asked, status, &response, sent, received, &policy);
    if let Storability::Store(kept) | Storability::Brief(kept, _) = decided {
        may_be_stored(asked, status, &response, &policy);
        whom_it_is_for(&kept, status, &response, &policy);
        assert_eq!(kept.freshness.response_time, received);
        let times = [now.min(later), now.max(later)].map(Time::from_unix_millis);
        aged(&kept.freshness, times);
        let wanted = RequestDirectives::parse(&visitor);
        for now in times {
            answers(&kept.freshness, &wanted, policy.preset, now);
        }
    }
    let uptime = policy.preset == Preset::Uptime;
    match decided {
        Storability::Store(Kept { freshness, .. }) => {
            assert!(freshness.initial_age_ms >= millis(received.since(sent)));
            assert!(!uptime || !is_transient(status));
            let error = status.is_client_error() || status.is_server_error();
            let most = millis(policy.error_ttl_max);
            assert!(!uptime || !error || freshness.lifetime_ms <= most);
            assert!(!uptime || !error || freshness.stale_if_error_ms == 0);
        }
        Storability::Brief(Kept { freshness, .. }, _) => {
            assert!(uptime);
            assert!(freshness.initial_age_ms >= millis(received.since(sent)));
            let most = u64::MAX - freshness.initial_age_ms;
            let ttl = freshness.lifetime_ms - freshness.initial_age_ms;
            assert_eq!(ttl, millis(policy.error_ttl).min(most));
            assert_eq!(freshness.stale_while_revalidate_ms, 0);
            assert_eq!(freshness.stale_if_error_ms, 0);
        }
        Storability::DoNotStore(reason) => assert!(!reason.token().is_empty()),
    }
    let target = Target {
        scheme: "http",
        host: "a",
        path_and_query: &target,
    };
    let post = storability_of_post(target, asked, status, &response, sent, received, &policy);
    if let Storability::Store(_) | Storability::Brief(..) = post {
        assert_eq!(post, decided);
        assert!(status.is_success() && response.contains_key("content-location"));
    }
}

fn policy(flags: u64, periods: [u64; 7]) -> Policy {
    let [ttl, default_ttl, heuristic_max, swr, sie, error, error_max] = periods;
    let or = |period, default| match period {
        0 => default,
        period => Duration::from_millis(period),
    };
    Policy {
        preset: if flags & 1 != 0 {
            Preset::Strict
        } else {
            Preset::Uptime
        },
        ttl: (flags & 2 != 0).then_some(Duration::from_millis(ttl)),
        default_ttl: Duration::from_millis(default_ttl),
        heuristic_max: Duration::from_millis(heuristic_max),
        stale_while_revalidate: Duration::from_millis(swr),
        stale_if_error: Duration::from_millis(sie),
        jitter_per_mille: 0,
        error_ttl: or(error, Policy::default().error_ttl),
        error_ttl_max: or(error_max, Policy::default().error_ttl_max),
        store_silent: flags & 128 == 0,
        ruled_windows: RuledWindows {
            stale_while_revalidate: flags & 512 != 0,
            stale_if_error: flags & 1_024 != 0,
        },
        ignore_origin: IgnoreOrigin {
            private: flags & 4 != 0,
            no_cache: flags & 8 != 0,
            no_store: flags & 16 != 0,
            must_revalidate: flags & 32 != 0,
            set_cookie: flags & 64 != 0,
        },
    }
}

/// What no stored response may lack or say (RFC 9111 section 3), read by
/// nothing but the words themselves.
fn may_be_stored(asked: Asked<'_>, status: StatusCode, response: &HeaderMap, policy: &Policy) {
    let request = asked.headers;
    assert!(!status.is_informational());
    assert!(![206, 304, 416].contains(&status.as_u16()));
    assert_ne!(vary(response), Vary::Any);
    assert!(!RequestDirectives::parse(request).no_store);
    let says = |word| {
        mentions(response, "cache-control", word) || mentions(response, "cdn-cache-control", word)
    };
    let shared = says("public") || says("s-maxage");
    let targeted = response.contains_key("cdn-cache-control");
    if !asked.keyed_by_client {
        // Section 3.5.
        assert!(!request.contains_key("authorization") || shared || says("must-revalidate"));
        assert!(!request.contains_key("cookie") || shared || targeted);
    }
    // Section 7.3, and our own rule.
    let sets_cookie = response.contains_key("set-cookie") && !policy.ignore_origin.set_cookie;
    let explicit = policy.preset == Preset::Uptime
        && (says("max-age") || says("s-maxage") || response.contains_key("expires"));
    assert!(!sets_cookie || shared || targeted || explicit || says("set-cookie"));
    if !targeted {
        assert!(!is_plain(response, "no-store") || policy.ignore_origin.no_store);
        let private = is_plain(response, "private");
        assert!(!private || policy.ignore_origin.private || asked.keyed_by_client);
    }
}

/// Whether this word is all that the response says.
fn is_plain(response: &HeaderMap, word: &str) -> bool {
    let lines: Vec<_> = response.get_all("cache-control").iter().collect();
    lines.len() == 1 && lines.iter().all(|line| *line == word)
}

/// What the origin has not said to be for everyone is not for visitors with
/// credentials.
fn whom_it_is_for(kept: &Kept, status: StatusCode, response: &HeaderMap, policy: &Policy) {
    if kept.audience == Audience::Anonymous {
        return;
    }
    for name in ["cookie", "authorization"] {
        if let Vary::Fields(fields) = vary(response) {
            assert!(fields.iter().all(|field| field != name));
        }
    }
    if policy.preset == Preset::Strict {
        return;
    }
    assert!(matches!(status.as_u16(), 200..=299 | 301 | 308));
    for word in ["private", "no-store", "no-cache"] {
        let targeted = response.contains_key("cdn-cache-control");
        assert!(targeted || !is_plain(response, word), "{word}");
    }
    let speaks = ["cache-control", "cdn-cache-control", "expires"]
        .iter()
        .any(|name| response.contains_key(*name));
    assert!(speaks || !mentions(response, "content-type", "text/html"));
}

/// RFC 9111 section 4.2.3, without overflow, and never backwards.
fn aged(freshness: &Freshness, [now, later]: [Time; 2]) {
    assert!(freshness.current_age(now) >= Duration::from_millis(freshness.initial_age_ms));
    assert!(freshness.current_age(now) <= freshness.current_age(later));
    assert!(freshness.ttl_ms(now) >= freshness.ttl_ms(later));
    assert!(freshness.is_fresh(now) || !freshness.is_fresh(later));
    assert!(freshness.may_serve_on_error(now) || !freshness.may_serve_on_error(later));
    if freshness.is_fresh(now) {
        assert!(freshness.ttl_ms(now) > 0);
        assert!(!freshness.may_serve_while_revalidating(now));
    } else {
        assert!(freshness.no_cache || freshness.ttl_ms(now) <= 0);
    }
    if freshness.may_serve_while_revalidating(now) {
        assert!(freshness.may_serve_on_error(now));
    }
    // What is for each use is never used at once.
    if freshness.each_use {
        assert!(!freshness.is_fresh(now) && !freshness.may_serve_while_revalidating(now));
    }
    assert!(freshness.alone <= u8::from(freshness.each_use));
    let mut answered = HeaderMap::new();
    age_header(&mut answered, freshness.current_age(now));
    assert!(answered["age"].as_bytes().iter().all(u8::is_ascii_digit));
}

fn answers(freshness: &Freshness, wanted: &RequestDirectives, preset: Preset, now: Time) {
    let told = |invalidated| verdict(freshness, wanted, preset, invalidated, now);
    assert!(matches!(told(true), Verdict::Revalidate { .. }));
    let decided = told(false);
    match decided {
        Verdict::Fresh => assert!(freshness.is_fresh(now)),
        Verdict::StaleWhileRevalidate => {
            assert!(!freshness.is_fresh(now) && !freshness.no_cache);
            let windows = freshness.may_serve_while_revalidating(now);
            let welcome = wanted.max_stale.is_some() && !freshness.must_revalidate;
            assert!(windows || welcome);
        }
        Verdict::Revalidate { on_error } => assert!(!(on_error && freshness.no_cache)),
    }
    if preset == Preset::Strict && wanted.no_cache {
        assert!(matches!(decided, Verdict::Revalidate { .. }));
    }
    // In `uptime` a visitor cannot ask for more than the entry's windows give.
    if preset == Preset::Uptime && freshness.is_fresh(now) {
        assert_eq!(decided, Verdict::Fresh);
    }
    if let (Preset::Strict, Some(limit), Verdict::Fresh) = (preset, wanted.max_age, decided) {
        assert!(freshness.immutable || freshness.current_age(now) <= limit);
    }
}
