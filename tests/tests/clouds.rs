//! The component for clouds with WASI 0.2, under the limits of each: one instance for
//! each request, whose work goes on behind the answer.
//!
//! | store | flavour |
//! | --- | --- |
//! | `fermyon_cloud_on_sqlite` | `fermyon-cloud`, cells in a SQLite database, three nodes |
//! | `akamai_on_a_redis_server` | `akamai`, cells in a Redis, three nodes |
//! | `akamai_on_its_own_store` | `akamai`, cells in its key-value store, timed election, two nodes |
//!
//! And with the flavours' own settings:
//!
//! | test | what it shows |
//! | --- | --- |
//! | `visitors_who_wait_take_nothing_of_the_rate` | however many wait for one new page, the hour has lost one request |
//! | `a_first_visitor_gets_a_site_with_sixty_files` | a burst is part of the hour, and a flood of new pages leaves requests to others |
//! | `a_killed_holder_costs_nobody_a_503` | on `akamai` and `fermyon-cloud`, a lease is shorter than a wait |
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use leeward_tests::client::{ask, assert_all_got, get};
use leeward_tests::origin::{Arrival, numbered};
use leeward_tests::stores::Store;
use leeward_tests::{Answer, Ask, Crowd, Gate, StoreKind, World, wait};

/// Visitors at one moment.
const CROWD: usize = 60;

/// The settings: those that the flavours have, and nothing left to chance. The rate of
/// requests to the origin is tested elsewhere: here it would end the scenarios.
const SETTINGS: &str = "\
    origin.max_per_hour = 0\n\
    freshness = { default_ttl = \"60s\", jitter = 0.0, early_refresh = false }\n\
    origin.retry = { first = \"200ms\", max = \"1s\" }\n\
    lease.duration = \"10s\"\n";

async fn world(flavour: &'static str, store: Store, nodes: usize) -> World {
    World::for_cloud(flavour, store, nodes, SETTINGS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fermyon_cloud_on_sqlite() {
    let store = StoreKind::SqliteShared.make().await;
    let world = world("fermyon-cloud", store, 3).await;
    all_scenarios(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn akamai_on_a_redis_server() {
    let store = StoreKind::RedisServer.make().await;
    let world = world("akamai", store, 3).await;
    all_scenarios(&world).await;
}

/// An election takes more than a second there, and so does a slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn akamai_on_its_own_store() {
    let store = StoreKind::SqliteShared.make().await;
    let world = world("akamai", store, 2).await;
    cold_key(&world, 10).await;
    refresh_behind_the_answer(&world).await;
    long_body(&world).await;
}

/// One after the other on one world: a node compiles the component for some seconds.
async fn all_scenarios(world: &World) {
    cold_key(world, CROWD).await;
    public_page_with_sessions(world).await;
    refresh_behind_the_answer(world).await;
    slow_origin(world).await;
    long_body(world).await;
    broken_body(world).await;
    answers_without_content(world).await;
    posts(world).await;
    what_the_host_refuses(world).await;
    origin_down(world).await;
}

/// Spin does not let a component close its connections, repeats nothing, and ends an instance
/// whose fields are too long: none of it is to cost another visitor anything.
async fn what_the_host_refuses(world: &World) {
    // Not for everyone: the request itself would have to be forwarded.
    let private = Answer::numbered().cache_control("private");
    world.origin.always("/ntlm", private);
    let ntlm = Ask::get("/ntlm").header("authorization", "NTLM TlRMTVNTUAADAAAA");
    let reply = ask(world.node(0), &ntlm).await;
    assert_eq!(reply.status, StatusCode::NOT_IMPLEMENTED, "{reply}");
    // It may have asked the question, without credentials.
    let arrivals = world.origin.record("/ntlm").arrivals;
    let carries = |arrival: &Arrival| arrival.headers.contains_key("authorization");
    assert!(!arrivals.iter().any(carries));

    let names = [
        "x-1", "x-2", "x-3", "x-4", "x-5", "x-6", "x-7", "x-8", "x-9", "x-10",
    ];
    let value = "x".repeat(14_000);
    let first = Answer::fixed("hello").max_age(600);
    let long = (names.into_iter()).fold(first, |answer, name| answer.header(name, &value));
    world.origin.always("/long-fields", long);
    for node in world.all() {
        let reply = get(node, "/long-fields").await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{reply}");
    }

    world.origin.next("/closed", Answer::hang_up());
    let reply = get(world.node(0), "/closed").await;
    let got = (reply.status, reply.text());
    assert_eq!(got, (StatusCode::OK, numbered("/closed", 2)), "{reply}");
}

/// Each of them went to the origin, and the page was never stored.
async fn public_page_with_sessions(world: &World) {
    let path = "/goods/1";
    let page = Answer::numbered().cache_control("public, max-age=600");
    world.origin.always(path, page);
    let number = std::cell::Cell::new(0);
    wait::until("the page is stored", wait::SOON, async || {
        number.set(number.get() + 1);
        let cookie = format!("ASP.NET_SessionId={}", number.get());
        let visitor = Ask::get(path).header("cookie", &cookie);
        let reply = ask(world.node(0), &visitor).await;
        reply.is_fresh_hit().then_some(())
    })
    .await;
    let asked = world.origin.count(path);
    assert!(asked <= number.get(), "{asked} for {}", number.get());
}

async fn cold_key(world: &World, crowd: usize) {
    let (path, gate) = ("/cold", Gate::closed());
    let answer = Answer::numbered().max_age(600).gate(&gate);
    world.origin.always(path, answer);
    let visitors = Crowd::connect(&world.all(), crowd).await;
    let ask = Ask::get(path);
    let asking = tokio::spawn(async move { visitors.ask(&ask).await });
    world.origin.until_count(path, 1, wait::SOON).await;
    gate.open();
    assert_all_got(&asking.await.unwrap(), crowd, &numbered(path, 1));
    assert_eq!(world.origin.count(path), 1, "requests at the origin");
}

/// What is as in operation, but for chance.
const OWN_SETTINGS: &str = "freshness = { jitter = 0.0, early_refresh = false }\n";

/// What 480 an hour let go out at once for new pages: a bucket of 24, and 18 of each of the
/// three others.
const BURST: usize = 24 + 3 * 18;

/// Asks for new pages, one after the other, until one is refused; returns how many were
/// answered.
async fn further_new_pages(world: &World) -> usize {
    for number in 0..2 * BURST {
        let reply = get(world.node(0), &format!("/further/{number}")).await;
        if reply.status != StatusCode::OK {
            let status = reply.header("cache-status");
            assert!(status.contains("rate-used-up"), "{reply}");
            assert_ne!(reply.header("retry-after"), "", "{reply}");
            return number;
        }
    }
    panic!("no request was refused");
}

/// What the buckets gain while a test goes on: four times one in 37.7 s.
fn gained(began: Instant) -> usize {
    usize::try_from(began.elapsed().as_secs() / 9).unwrap() + 4
}

/// 1, 10, 40 and 100 visitors left 35, 28, 14 and 0 further new pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_who_wait_take_nothing_of_the_rate() {
    for visitors in [1, 10, 40, 100] {
        let store = StoreKind::SqliteShared.make().await;
        let world = World::for_cloud("fermyon-cloud", store, 2, OWN_SETTINGS).await;
        let (path, gate) = ("/new", Gate::closed());
        world.origin.otherwise(Answer::numbered().max_age(600));
        let held = Answer::numbered().max_age(600).gate(&gate);
        world.origin.always(path, held);
        let began = Instant::now();
        let crowd = Crowd::connect(&world.all(), visitors).await;
        let ask = Ask::get(path);
        let asking = tokio::spawn(async move { crowd.ask(&ask).await });
        world.origin.until_count(path, 1, wait::SOON).await;
        let alone = "the others wait";
        let span = Duration::from_secs(1);
        wait::throughout(alone, span, async || world.origin.count(path) == 1).await;
        gate.open();
        assert_all_got(&asking.await.unwrap(), visitors, &numbered(path, 1));
        assert_eq!(world.origin.count(path), 1, "requests at the origin");
        let further = further_new_pages(&world).await;
        let left = BURST - 1..=BURST - 1 + gained(began);
        assert!(left.contains(&further), "{visitors} left {further}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_visitor_gets_a_site_with_sixty_files() {
    let store = StoreKind::SqliteShared.make().await;
    let world = World::for_cloud("fermyon-cloud", store, 1, OWN_SETTINGS).await;
    world.origin.otherwise(Answer::numbered().max_age(600));
    let began = Instant::now();
    let page = get(world.node(0), "/").await;
    assert_eq!(page.status, StatusCode::OK, "{page}");
    for files in 0..10 {
        // A browser has six connections.
        let browser = Crowd::connect(&world.all(), 6).await;
        let asks = (0..6).map(|file| Ask::get(&format!("/files/{files}/{file}.css")));
        for reply in browser.ask_each(asks.collect()).await {
            let reply = reply.unwrap();
            assert_eq!(reply.status, StatusCode::OK, "{reply}");
        }
    }
    let further = further_new_pages(&world).await;
    let left = BURST - 61..=BURST - 61 + gained(began);
    assert!(left.contains(&further), "{further} further new pages");
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let reply = ask(world.node(0), &Ask::new(method, "/login").body("name=x")).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
    // What is stored is not affected.
    assert_eq!(get(world.node(0), "/").await.text(), page.text());
}

/// The lease of the flavour `akamai` was longer than its visitors waited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_holder_costs_nobody_a_503() {
    for flavour in ["akamai", "fermyon-cloud"] {
        let store = StoreKind::SqliteShared.make().await;
        let mut world = World::for_cloud(flavour, store, 2, OWN_SETTINGS).await;
        let (path, gate) = ("/killed", Gate::closed());
        let answer = Answer::numbered().max_age(600);
        world.origin.next(path, answer.clone().gate(&gate));
        world.origin.always(path, answer);
        let (node, ask) = (world.node(0), Ask::get(path));
        let asking = tokio::spawn(async move { ask.to(node).await });
        world.origin.until_count(path, 1, wait::SOON).await;
        world.process(0).kill();
        let visitors = Crowd::connect(&world.others(), 6).await;
        let replies = visitors.ask(&Ask::get(path)).await;
        assert_all_got(&replies, 6, &numbered(path, 2));
        gate.open();
        assert!(asking.await.unwrap().is_err(), "{flavour}");
        assert_eq!(world.origin.count(path), 2, "requests at the origin");
    }
}

/// The answer is complete before the origin has answered the refresh, which the same
/// call of the component goes on with.
async fn refresh_behind_the_answer(world: &World) {
    let (path, gate) = ("/behind", Gate::closed());
    world.origin.next(path, Answer::numbered().max_age(1));
    let held = Answer::numbered().max_age(600).gate(&gate);
    world.origin.always(path, held);
    world.fill_and_expire(path, 1).await;

    let visitors = Crowd::connect(&world.all(), 20).await;
    let replies = visitors.ask(&Ask::get(path)).await;
    assert_all_got(&replies, 20, &numbered(path, 1));
    // On a store without a swap the visitors of one moment may all lose the election.
    wait::until("the refresh is at the origin", wait::SOON, async || {
        let reply = get(world.node(0), path).await;
        assert_eq!(reply.text(), numbered(path, 1), "{reply}");
        (world.origin.count(path) == 2).then_some(())
    })
    .await;
    gate.open();
    world
        .until_fresh(&world.all(), path, &numbered(path, 2))
        .await;
    assert_eq!(world.origin.count(path), 2, "requests at the origin");
}

/// An answer that takes longer than a cold visitor's soft timeout, with an entry to serve
/// meanwhile and without.
async fn slow_origin(world: &World) {
    let path = "/slow";
    let slow = Answer::numbered()
        .max_age(600)
        .takes(Duration::from_secs(3));
    world.origin.always(path, slow);
    let visitors = Crowd::connect(&world.all(), 20).await;
    let replies = visitors.ask(&Ask::get(path)).await;
    assert_all_got(&replies, 20, &numbered(path, 1));
    assert_eq!(world.origin.count(path), 1, "requests at the origin");
}

async fn long_body(world: &World) {
    let path = "/long";
    let body: String = (0..500_000)
        .map(|number| format!("{number:09}\n"))
        .collect();
    let answer = Answer::fixed(body.clone()).max_age(600);
    world.origin.always(path, answer);
    let visitors = Crowd::connect(&world.all(), 6).await;
    let replies = visitors.ask(&Ask::get(path)).await;
    for reply in replies {
        let reply = reply.unwrap();
        assert_eq!(
            (reply.status, reply.body.len()),
            (StatusCode::OK, body.len())
        );
        assert!(reply.body == body, "another body of the same length");
    }
    world.until_fresh(&world.all(), path, &body).await;
    assert_eq!(world.origin.count(path), 1, "requests at the origin");
}

/// Neither a short body nor a long one that breaks off looks complete.
async fn broken_body(world: &World) {
    for (path, length, breaks) in [
        ("/broken/short", 1_000, 300),
        ("/broken/long", 3_000_000, 1_500_000),
    ] {
        let body = "b".repeat(length);
        let broken = Answer::fixed(body.clone()).max_age(600);
        world.origin.next(path, broken.clone().broken_after(breaks));
        world.origin.always(path, broken);
        if let Ok(reply) = Ask::get(path).to(world.node(0)).await {
            let is_whole = reply.status == StatusCode::OK && reply.body.len() != length;
            assert!(
                !is_whole,
                "{path}: {} bytes look complete",
                reply.body.len()
            );
        }
        world.until_fresh(&world.all(), path, &body).await;
    }
    // Passed on as it comes, with a length that tells and without.
    let broken = Answer::fixed("p".repeat(3_000_000)).cache_control("private");
    let broken = broken.broken_after(2_000_000);
    for (path, broken) in [
        ("/broken/passed", broken.clone()),
        ("/broken/chunked", broken.without_length()),
    ] {
        world.origin.always(path, broken);
        if let Ok(reply) = Ask::get(path).to(world.node(0)).await {
            assert_ne!(reply.status, StatusCode::OK, "{path}: it looks complete");
        }
    }
}

/// Their `Content-Length` is of what is not sent.
async fn answers_without_content(world: &World) {
    let path = "/head";
    let answer = Answer::fixed("h".repeat(1_234)).etag("\"1\"").max_age(600);
    world.origin.always(path, answer);
    for _ in 0..2 {
        let reply = ask(world.node(0), &Ask::new(Method::HEAD, path)).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.header("content-length"), "1234", "{reply}");
    }
    let reply = get(world.node(1), path).await;
    assert_eq!(reply.body.len(), 1_234);
    let conditional = Ask::get(path).header("if-none-match", "\"1\"");
    for node in world.all() {
        let reply = ask(node, &conditional).await;
        assert_eq!(reply.status, StatusCode::NOT_MODIFIED, "{reply}");
    }
}

/// Content goes to the origin as it comes, whole, and the answer comes back.
async fn posts(world: &World) {
    let path = "/post";
    world.origin.always(path, Answer::echo());
    for length in [0, 10, 2_000_000] {
        let ask_for = Ask::new(Method::POST, path).body("u".repeat(length));
        let reply = ask(world.node(0), &ask_for).await;
        assert_eq!(
            (reply.status, reply.body.len()),
            (StatusCode::OK, length),
            "{reply}"
        );
    }
    let private = Answer::numbered().cache_control("private");
    world.origin.always("/private", private);
    let visitors = Crowd::connect(&world.all(), 12).await;
    let replies = visitors.ask(&Ask::get("/private")).await;
    let mut bodies: Vec<_> = replies
        .into_iter()
        .map(|reply| reply.unwrap().text())
        .collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 12, "each has an answer of its own");
}

/// What is stored is served, what is not is refused with the time to come back, and the
/// origin is noticed when it is back.
async fn origin_down(world: &World) {
    let path = "/down";
    world.origin.next(path, Answer::numbered().max_age(1));
    world.origin.always(path, Answer::numbered().max_age(600));
    world.fill_and_expire(path, 1).await;
    world.origin.stop().await;
    for node in world.all() {
        let reply = get(node, path).await;
        assert_eq!(reply.text(), numbered(path, 1), "{reply}");
        let reply = get(node, "/down/new").await;
        assert!(reply.status.is_server_error(), "{reply}");
        assert_ne!(reply.header("retry-after"), "", "{reply}");
    }
    world.origin.recover();
    let began = Instant::now();
    wait::until("the origin is noticed", wait::SOON * 3, async || {
        let reply = get(world.node(0), path).await;
        assert!(
            reply.status.is_success(),
            "{reply} after {:?}",
            began.elapsed()
        );
        reply.is_fresh_hit().then_some(())
    })
    .await;
}
