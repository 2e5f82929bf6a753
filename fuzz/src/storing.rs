//! Whether a response is stored, for how long, and whom it answers.
//!
//! Input: `<status> <sent> <received> <now> <later> <flags>`, the policy's
//! `<ttl> <default> <heuristic> <swr> <sie>` in milliseconds, the request's
//! fields, the response's, a later visitor's, and a target.

use crate::input::{Sections, mentions};
use http::{HeaderMap, Method, StatusCode};
use leeward::semantics::{
    Freshness, IgnoreOrigin, Policy, Preset, RequestDirectives, Storability, Target, Vary, Verdict,
    age_header, storability, storability_of_post, vary, verdict,
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
    let decided = storability(
        &Method::GET,
        &request,
        status,
        &response,
        sent,
        received,
        &policy,
    );
    if let Storability::Store(freshness) = decided {
        may_be_stored(&request, status, &response, &policy);
        assert_eq!(freshness.response_time, received);
        assert!(freshness.initial_age_ms >= millis(received.since(sent)));
        let times = [now.min(later), now.max(later)].map(Time::from_unix_millis);
        aged(&freshness, times);
        let wanted = RequestDirectives::parse(&visitor);
        for now in times {
            answers(&freshness, &wanted, policy.preset, now);
        }
    }
    let by = |method| storability(method, &request, status, &response, sent, received, &policy);
    assert!(matches!(by(&Method::HEAD), Storability::DoNotStore(_)));
    let target = Target {
        scheme: "http",
        host: "a",
        path_and_query: &target,
    };
    let post = storability_of_post(target, &request, status, &response, sent, received, &policy);
    if let Storability::Store(_) = post {
        assert_eq!(post, decided);
        assert!(status.is_success() && response.contains_key("content-location"));
    }
}

fn policy(flags: u64, [ttl, default_ttl, heuristic_max, swr, sie]: [u64; 5]) -> Policy {
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
fn may_be_stored(request: &HeaderMap, status: StatusCode, response: &HeaderMap, policy: &Policy) {
    assert!(!status.is_informational());
    assert!(![206, 304, 416].contains(&status.as_u16()));
    assert_ne!(vary(response), Vary::Any);
    assert!(!RequestDirectives::parse(request).no_store);
    let says = |word| {
        mentions(response, "cache-control", word) || mentions(response, "cdn-cache-control", word)
    };
    let shared = says("public") || says("s-maxage");
    // Section 3.5.
    assert!(!request.contains_key("authorization") || shared || says("must-revalidate"));
    // Section 7.3, and our own rule.
    let sets_cookie = response.contains_key("set-cookie") && !policy.ignore_origin.set_cookie;
    assert!(!sets_cookie || shared || says("set-cookie"));
    let plain = |word: &str| {
        let lines: Vec<_> = response.get_all("cache-control").iter().collect();
        lines.len() == 1 && lines.iter().all(|line| *line == word)
    };
    if !response.contains_key("cdn-cache-control") {
        assert!(!plain("no-store") || policy.ignore_origin.no_store);
        assert!(!plain("private") || policy.ignore_origin.private);
    }
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
