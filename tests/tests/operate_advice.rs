//! What nodes do and say of their own: pages that are fetched at the start, and advice.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use http::{Method, StatusCode};
use leeward_tests::client::{ask, get};
use leeward_tests::{Answer, Ask, Settings, StoreKind, World, wait};
use serde_json::Value;

const TOKEN: &str = "a-secret-of-the-tests";

/// As a browser asks for a page.
fn browser(path: &str) -> Ask {
    Ask::get(path)
        .header(
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        )
        .header("accept-encoding", "gzip, deflate, br, zstd")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_fetched_once_before_the_first_visitor_comes() {
    let settings = Settings {
        more: "[warm]\nurls = [\"/\", \"/list\"]\n",
        ..Settings::default()
    };
    let world = World::of(StoreKind::SqliteShared, 2, settings).await;
    for path in ["/", "/list"] {
        world.origin.until_count(path, 1, wait::SOON).await;
        for node in world.all() {
            wait::until("the page is stored", wait::SOON, async || {
                let reply = ask(node, &browser(path)).await;
                reply.is_fresh_hit().then_some(())
            })
            .await;
        }
    }
    assert_eq!(world.origin.requests(), 2);
}

/// What the node advises.
async fn advice(world: &World) -> Vec<Value> {
    let ask_status =
        Ask::get("/.leeward/status").header("authorization", &format!("Bearer {TOKEN}"));
    let reply = ask(world.node(0), &ask_status).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply}");
    let status: Value = serde_json::from_slice(&reply.body).unwrap();
    status["advice"].as_array().unwrap().clone()
}

/// Waits for advice whose title has these words, and for its line in the log.
async fn until_advised(world: &World, words: &str, event: &str) -> Value {
    let found = wait::until(words, wait::SOON, async || {
        let all = advice(world).await;
        all.into_iter()
            .find(|told| told["title"].as_str().unwrap().contains(words))
    })
    .await;
    let line = format!("\"event\":\"{event}\"");
    wait::until("the line is in the log", wait::SOON, async || {
        world.errors(0).contains(&line).then_some(())
    })
    .await;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_page_that_is_the_same_for_all_is_told_of_with_the_rule_to_write() {
    let settings = Settings {
        admin_token: Some(TOKEN),
        ..Settings::default()
    };
    let world = World::single_with(settings, &[]).await;
    let private = |answer: Answer| answer.cache_control("private");
    world
        .origin
        .always("/prices", private(Answer::fixed("the same")));
    world.origin.always("/account", private(Answer::numbered()));
    for visitor in 0..6 {
        for path in ["/prices", "/account"] {
            let visit = Ask::get(path).header("cookie", &format!("session={visitor}"));
            assert_eq!(ask(world.node(0), &visit).await.status, StatusCode::OK);
        }
    }
    let told = until_advised(&world, "/prices", "equal-but-private").await;
    let rule = told["rule"].as_str().unwrap();
    assert!(rule.contains("path = \"/prices\""), "{told}");
    let all = advice(&world).await;
    assert_eq!(all.len(), 1, "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_not_stored_because_of_a_cookie_are_told_of() {
    let settings = Settings {
        admin_token: Some(TOKEN),
        ..Settings::default()
    };
    let world = World::single_with(settings, &[]).await;
    let file = Answer::fixed("a{}")
        .header("content-type", "text/css")
        .header("set-cookie", "id=1");
    for path in ["/a.css", "/b.css", "/c.css"] {
        world.origin.always(path, file.clone());
        let reply = get(world.node(0), path).await;
        assert!(
            reply.header("cache-status").contains("set-cookie"),
            "{reply}"
        );
    }
    let told = until_advised(&world, "*.css", "cookies-on-files").await;
    assert!(told["rule"].as_str().unwrap().contains("/*.css"), "{told}");
    // A page may need its cookie.
    let page = Answer::fixed("page").header("set-cookie", "id=1");
    for path in ["/a", "/b", "/c", "/d"] {
        world.origin.always(path, page.clone());
        ask(world.node(0), &Ask::new(Method::GET, path)).await;
    }
    assert_eq!(advice(&world).await.len(), 1);
}
