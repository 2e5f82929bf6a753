//! CORS preflights: one question to the origin for all who ask the same, and the last
//! good answer while the origin fails.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use leeward_tests::client::{Reply, ask, get};
use leeward_tests::{Answer, Ask, Crowd, Gate, Settings, StoreKind, World, wait};

const PATH: &str = "/api/items";

/// A preflight of an application of `origin`.
fn preflight(origin: &str) -> Ask {
    Ask::new(Method::OPTIONS, PATH)
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "x-b, X-A")
}

/// What the origin says: it tells for which application, and which answer it is.
fn granted(max_age: Option<u32>) -> Answer {
    Answer::made_by(move |seen| {
        let origin = seen.header("origin").unwrap_or_default();
        let answer = Answer::fixed("")
            .status(StatusCode::NO_CONTENT)
            .header("access-control-allow-origin", &origin)
            .header("access-control-allow-methods", "PUT")
            .header("vary", "Origin")
            .header("x-number", &seen.number.to_string());
        match max_age {
            Some(seconds) => answer.header("access-control-max-age", &seconds.to_string()),
            None => answer,
        }
    })
}

fn is_granted(reply: &Reply, origin: &str, number: &str) -> bool {
    reply.status == StatusCode::NO_CONTENT
        && reply.header("access-control-allow-origin") == origin
        && reply.header("x-number") == number
}

const APP: &str = "https://app.example";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stampede_of_preflights_is_one_request_without_anything_of_the_visitors() {
    let world = World::start(StoreKind::SqliteShared).await;
    let gate = Gate::closed();
    world.origin.always(PATH, granted(Some(600)).gate(&gate));
    let count = 60;
    let crowd = Crowd::connect(&world.all(), count).await;
    let asks = (0..count)
        .map(|number| {
            preflight(APP)
                .header("cookie", &format!("session={number}"))
                .header("user-agent", &format!("Browser/{number}"))
                .header("x-visitor", &number.to_string())
        })
        .collect();
    let asking = tokio::spawn(async move { crowd.ask_each(asks).await });
    world.origin.until_count(PATH, 1, wait::SOON).await;
    wait::throughout("one is under way", Duration::from_secs(1), async || {
        world.origin.count(PATH) == 1
    })
    .await;
    gate.open();
    for reply in asking.await.unwrap() {
        let reply = reply.unwrap();
        assert!(is_granted(&reply, APP, "1"), "{reply}");
    }
    // In any spelling, and on any node.
    for node in world.all() {
        let other = Ask::new(Method::OPTIONS, PATH)
            .header("origin", APP)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "X-A,X-B");
        let reply = ask(node, &other).await;
        assert!(is_granted(&reply, APP, "1"), "{reply}");
    }
    let seen = world.origin.record(PATH).arrivals;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].method, Some(Method::OPTIONS));
    let fields = &seen[0].headers;
    assert_eq!(fields["access-control-request-headers"], "x-a,x-b");
    assert_eq!(fields["origin"], APP);
    for name in ["cookie", "x-visitor"] {
        assert!(!fields.contains_key(name), "{name}: {fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_application_gets_another_answer_and_a_get_of_the_url_its_own() {
    let world = World::single().await;
    world.origin.next(PATH, granted(Some(600)));
    world.origin.next(PATH, granted(Some(600)));
    world.origin.always(PATH, Answer::numbered().max_age(600));
    let other = "https://other.example";
    for _ in 0..2 {
        let reply = ask(world.node(0), &preflight(APP)).await;
        assert!(is_granted(&reply, APP, "1"), "{reply}");
        let reply = ask(world.node(0), &preflight(other)).await;
        assert!(is_granted(&reply, other, "2"), "{reply}");
    }
    let page = get(world.node(0), PATH).await;
    assert_eq!(page.status, StatusCode::OK, "{page}");
    assert!(page.text().contains('3'), "{page}");
    let plain = ask(world.node(0), &Ask::new(Method::OPTIONS, PATH)).await;
    assert_eq!(plain.cache_status().value("fwd"), Some("method"), "{plain}");
    assert_eq!(world.origin.count(PATH), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_answer_is_used_while_the_origin_is_down() {
    let world = World::single().await;
    world.origin.next(PATH, granted(Some(1)));
    world.origin.always(PATH, granted(Some(600)));
    let first = ask(world.node(0), &preflight(APP)).await;
    let answered = Instant::now();
    assert!(is_granted(&first, APP, "1"), "{first}");
    world.origin.crash();
    wait::until_past(answered + Duration::from_secs(1)).await;
    for _ in 0..3 {
        let reply = ask(world.node(0), &preflight(APP)).await;
        assert!(is_granted(&reply, APP, "1"), "{reply}");
        let detail = reply.cache_status();
        assert_eq!(detail.value("detail"), Some("stale-if-error"), "{reply}");
    }
    // Nothing is known for another application.
    let other = ask(world.node(0), &preflight("https://other.example")).await;
    assert_eq!(other.status, StatusCode::SERVICE_UNAVAILABLE, "{other}");
    assert_eq!(other.header("access-control-allow-origin"), "*");
    world.origin.recover();
    wait::until("the origin is asked again", wait::SOON, async || {
        let reply = ask(world.node(0), &preflight(APP)).await;
        let number = reply.header("x-number").to_owned();
        assert!(is_granted(&reply, APP, &number), "{reply}");
        (number != "1").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_not_kept_and_a_refusal_is_believed() {
    let world = World::single().await;
    let forbidden = || Answer::fixed("no").status(StatusCode::FORBIDDEN);
    world.origin.next(PATH, forbidden());
    world.origin.next(PATH, granted(Some(1)));
    world.origin.next(PATH, forbidden());
    world.origin.always(PATH, granted(None));
    let refused = ask(world.node(0), &preflight(APP)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused}");
    // The very next one asks the origin.
    let reply = ask(world.node(0), &preflight(APP)).await;
    let answered = Instant::now();
    assert!(is_granted(&reply, APP, "2"), "{reply}");
    wait::until_past(answered + Duration::from_secs(1)).await;
    let refused = ask(world.node(0), &preflight(APP)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused}");
    let reply = ask(world.node(0), &preflight(APP)).await;
    assert!(is_granted(&reply, APP, "4"), "{reply}");
    assert!(ask(world.node(0), &preflight(APP)).await.is_fresh_hit());
    assert_eq!(world.origin.count(PATH), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preset_strict_forwards_preflights() {
    let settings = Settings {
        preset: "strict",
        ..Settings::default()
    };
    let world = World::single_with(settings, &[]).await;
    world.origin.always(PATH, granted(Some(600)));
    for number in ["1", "2"] {
        let asked = preflight(APP).header("cookie", "session=1");
        let reply = ask(world.node(0), &asked).await;
        assert!(is_granted(&reply, APP, number), "{reply}");
        assert_eq!(reply.cache_status().value("fwd"), Some("method"), "{reply}");
    }
    let seen = world.origin.record(PATH).arrivals;
    assert_eq!(seen[1].headers["cookie"], "session=1");
}
