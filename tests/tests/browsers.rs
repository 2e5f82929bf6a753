//! How long visitors are told to keep a page: where no purge reaches it, the operator has the
//! last word.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use http::{Method, StatusCode};
use leeward_tests::client::{Reply, ask, get};
use leeward_tests::{Answer, Ask, Settings, World};

/// More than a century, as an origin that means "for ever" says it.
const FOR_EVER: &str = "public, max-age=3468916620, must-revalidate";

const RULES: &str = r#"
[[rule]]
match = { path = "/ruled/*" }
ttl = "1m"
ignore_origin = ["private", "no-store"]

[[rule]]
match = { path = "/five/*" }
browser_ttl = "5m"
fallback = { status = 200, content_type = "text/plain", body = "later" }

[[rule]]
match = { path = "/longer/*" }
ttl = "1s"
ignore_origin = ["private"]
browser_ttl = "5m"

[[rule]]
match = { path = "/each/*" }
browser_ttl = "0s"

[[rule]]
match = { path = "/passed/*" }
pass = true
"#;

async fn with_rules(preset: &'static str) -> World {
    let settings = Settings {
        preset,
        more: RULES,
        ..Settings::default()
    };
    World::single_with(settings, &[]).await
}

fn page(cache_control: &str) -> Answer {
    Answer::fixed("a page")
        .etag("\"1\"")
        .cache_control(cache_control)
}

async fn head(world: &World, path: &str) -> Reply {
    ask(world.node(0), &Ask::new(Method::HEAD, path)).await
}

async fn with_validator(world: &World, path: &str) -> Reply {
    let asked = Ask::get(path).header("if-none-match", "\"1\"");
    ask(world.node(0), &asked).await
}

async fn signed_in(world: &World, path: &str) -> Reply {
    let asked = Ask::get(path).header("cookie", "session=alice");
    ask(world.node(0), &asked).await
}

fn said(reply: &Reply) -> &str {
    reply.header("cache-control")
}

/// For how many seconds a browser keeps the answer from when it gets it.
fn kept(reply: &Reply) -> u64 {
    let max_age = said(reply)
        .split(", ")
        .find_map(|part| part.strip_prefix("max-age="))
        .unwrap_or_else(|| panic!("no max-age: {reply}"));
    let age: u64 = match reply.header("age") {
        "" => 0,
        age => age.parse().unwrap(),
    };
    max_age.parse::<u64>().unwrap().saturating_sub(age)
}

/// A rule with a `ttl` of a minute handed on a `max-age` of 110 years.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rules_ttl_bounds_what_visitors_are_told() {
    for preset in ["uptime", "strict"] {
        let world = with_rules(preset).await;
        let path = "/ruled/page";
        let expires = "Fri, 01 Jan 2100 00:00:00 GMT";
        let for_ever = page(FOR_EVER).header("expires", expires);
        world.origin.always(path, for_ever.clone());
        let bounded = "max-age=60, public, must-revalidate";
        let first = get(world.node(0), path).await;
        assert_eq!(said(&first), bounded, "{preset}, miss: {first}");
        let hit = get(world.node(0), path).await;
        assert!(hit.is_fresh_hit(), "{preset}: {hit}");
        let unchanged = with_validator(&world, path).await;
        assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED, "{unchanged}");
        let head = head(&world, path).await;
        for reply in [&first, &hit, &unchanged, &head] {
            assert_eq!(said(reply), bounded, "{preset}: {reply}");
            assert_eq!(reply.header("etag"), "\"1\"", "{preset}: {reply}");
            assert_eq!(reply.header("expires"), "", "{preset}: {reply}");
        }
        assert_eq!(world.origin.count(path), 1, "{preset}");
        // What the origin keeps shorter, or restricts, stays.
        for (path, says) in [
            ("/ruled/short", "max-age=10, stale-while-revalidate=5"),
            ("/ruled/no-store", "no-store, max-age=600"),
        ] {
            world.origin.always(path, page(says));
            for _ in 0..2 {
                let reply = get(world.node(0), path).await;
                assert_eq!(said(&reply), says, "{preset}, {path}: {reply}");
            }
        }
        world
            .origin
            .always("/ruled/private", page("private, max-age=600"));
        for _ in 0..2 {
            let reply = get(world.node(0), "/ruled/private").await;
            assert_eq!(said(&reply), "max-age=60, private", "{preset}: {reply}");
        }
        // Outside such rules the origin has the word.
        for path in ["/other", "/passed/page"] {
            world.origin.always(path, for_ever.clone());
            for _ in 0..2 {
                let reply = get(world.node(0), path).await;
                assert_eq!(said(&reply), FOR_EVER, "{preset}, {path}: {reply}");
                assert_eq!(reply.header("expires"), expires, "{preset}: {reply}");
            }
        }
    }
}

/// The first visitor of a page, with credentials, is forwarded: what is for everyone is bounded
/// for that browser too, and what is for the visitor alone stays as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forwarded_for_one_visitor_is_never_kept_longer() {
    let world = with_rules("uptime").await;
    for (path, says, expected) in [
        (
            "/ruled/for-all",
            FOR_EVER,
            "max-age=60, public, must-revalidate",
        ),
        (
            "/ruled/mine",
            "private, max-age=600",
            "private, max-age=600",
        ),
        ("/five/mine", "private, max-age=600", "private, max-age=600"),
        ("/five/silent", "", ""),
        ("/five/short", "max-age=10", "max-age=10"),
        (
            "/five/for-all",
            FOR_EVER,
            "max-age=300, public, must-revalidate",
        ),
        ("/each/mine", "private, max-age=600", "private, max-age=600"),
        ("/each/for-all", "max-age=600", "no-cache"),
    ] {
        let answer = match says {
            "" => Answer::fixed("a page"),
            says => page(says),
        };
        world.origin.always(path, answer);
        let reply = signed_in(&world, path).await;
        let is_passed = reply.cache_status().value("fwd") == Some("bypass");
        assert!(is_passed, "{path}: {reply}");
        assert_eq!(said(&reply), expected, "{path}: {reply}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_keep_a_page_for_browser_ttl_from_when_they_get_it() {
    for preset in ["uptime", "strict"] {
        let world = with_rules(preset).await;
        // Another cache has had it for a while.
        for (name, says) in [
            ("for-ever", FOR_EVER),
            ("less", "max-age=1100, must-revalidate"),
            ("shared", "s-maxage=9000, max-age=1100, must-revalidate"),
        ] {
            let path = &format!("/five/{name}");
            world.origin.always(path, page(says).header("age", "1000"));
            let first = get(world.node(0), path).await;
            let hit = get(world.node(0), path).await;
            assert!(hit.is_fresh_hit(), "{preset}, {name}: {hit}");
            let unchanged = with_validator(&world, path).await;
            assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED, "{unchanged}");
            let head = head(&world, path).await;
            for reply in [&first, &hit, &unchanged, &head] {
                assert_eq!(kept(reply), 300, "{preset}, {name}: {reply}");
                assert!(said(reply).contains("must-revalidate"), "{preset}: {reply}");
                assert!(!said(reply).contains("9000"), "{preset}: {reply}");
            }
            assert_eq!(world.origin.count(path), 1, "{preset}, {name}");
        }
        // The shield asks after a second, and browsers after five minutes.
        world.origin.always("/longer/page", page("max-age=10"));
        let longer = get(world.node(0), "/longer/page").await;
        assert_eq!(said(&longer), "max-age=300", "{preset}: {longer}");
        // What is gone, and what fails, is not kept.
        for status in [StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
            let path = &format!("/five/{status}").replace(' ', "-");
            world
                .origin
                .always(path, Answer::fixed("no").status(status));
            for _ in 0..2 {
                let reply = get(world.node(0), path).await;
                assert_eq!(said(&reply), "", "{preset}: {reply}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_answers_are_told_the_same_and_fallbacks_are_not_kept() {
    let world = with_rules("uptime").await;
    let path = "/five/stale";
    // Stale when it comes, and its refresh finds no origin.
    let old = page("max-age=600").header("age", "601");
    world.origin.next(path, old);
    world.origin.otherwise(Answer::hang_up());
    get(world.node(0), path).await;
    for _ in 0..2 {
        let stale = get(world.node(0), path).await;
        assert_eq!(stale.text(), "a page", "{stale}");
        assert!(!stale.is_fresh_hit(), "{stale}");
        assert_eq!(kept(&stale), 300, "{stale}");
    }
    let fallback = get(world.node(0), "/five/unknown").await;
    assert_eq!(fallback.text(), "later", "{fallback}");
    assert_eq!(said(&fallback), "no-store", "{fallback}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_ask_before_each_use_where_browser_ttl_is_zero() {
    for preset in ["uptime", "strict"] {
        let world = with_rules(preset).await;
        let path = "/each/page";
        world.origin.always(path, page(FOR_EVER));
        for _ in 0..2 {
            let reply = get(world.node(0), path).await;
            let expected = "no-cache, public, must-revalidate";
            assert_eq!(said(&reply), expected, "{preset}: {reply}");
        }
        // It is still a hit for the shield, and costs a browser one short answer.
        let unchanged = with_validator(&world, path).await;
        assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED, "{unchanged}");
        assert_eq!(world.origin.count(path), 1, "{preset}");
    }
}
