//! What an operator asks of the shield itself: purges, health, what is stored, and nobody
//! else.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use leeward_tests::client::{ask, get};
use leeward_tests::{Answer, Ask, Load, Reply, Settings, StoreKind, World, on_every_store, wait};

/// The secret of the admin interface.
const TOKEN: &str = "a-secret-of-the-tests";

/// Within this time all nodes know a purge of more than one URL.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

on_every_store!(a_purge_holds_on_every_node);

fn settings() -> Settings {
    Settings {
        admin_token: Some(TOKEN),
        ..Settings::default()
    }
}

/// A request of the operator.
fn operator(method: Method, path: &str) -> Ask {
    Ask::new(method, path).header("authorization", &format!("Bearer {TOKEN}"))
}

async fn order(node: SocketAddr, content: &str) -> Reply {
    let order = operator(Method::POST, "/.leeward/purge").body(content.to_owned());
    ask(node, &order).await
}

async fn told(node: SocketAddr, path: &str) -> serde_json::Value {
    let reply = ask(node, &operator(Method::GET, path)).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply}");
    serde_json::from_slice(&reply.body).unwrap()
}

/// Stores the pages on the way to all nodes.
async fn fill(world: &World, paths: &[&str]) {
    for path in paths {
        get(world.node(0), path).await;
        for node in world.all() {
            wait::until("the page is stored", wait::SOON, async || {
                get(node, path).await.is_fresh_hit().then_some(())
            })
            .await;
        }
    }
}

/// How the page was answered: `hit` for a fresh one.
async fn how(node: SocketAddr, path: &str) -> String {
    let reply = get(node, path).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply}");
    match reply.is_fresh_hit() {
        true => "hit".to_owned(),
        false => reply.header("cache-status").to_owned(),
    }
}

async fn a_purge_holds_on_every_node(kind: StoreKind) {
    let world = World::start_with(kind, settings()).await;
    let tagged = |tag: &str| {
        Answer::numbered()
            .max_age(3_600)
            .header("surrogate-key", tag)
    };
    world.origin.otherwise(tagged("some news"));
    world.origin.always("/b/1", tagged("other"));
    let paths = ["/a/1", "/a/2", "/b/1"];
    fill(&world, &paths).await;
    let skew = world.settings.clock_skew;
    for (content, purged) in [
        (r#"{"url":"/a/1","mode":"hard"}"#, &["/a/1"][..]),
        (r#"{"prefix":"/a/","mode":"hard"}"#, &["/a/1", "/a/2"]),
        (r#"{"tag":"News","mode":"hard"}"#, &["/a/1", "/a/2"]),
        (r#"{"all":true,"mode":"hard"}"#, &paths),
    ] {
        // What is asked for within the clock skew of a purge counts as older.
        wait::until_past(Instant::now() + skew).await;
        world.origin.forget();
        let reply = order(world.node(0), content).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
        wait::until_past(Instant::now() + KNOWN_WITHIN + skew).await;
        let expected = |path: &str| purged.contains(&path);
        for path in paths {
            let is_hit = how(world.node(1), path).await == "hit";
            assert_eq!(!is_hit, expected(path), "{content} {path}");
        }
        for path in paths {
            for node in world.all() {
                wait::until("the page is stored again", wait::SOON, async || {
                    get(node, path).await.is_fresh_hit().then_some(())
                })
                .await;
            }
            // One request for all nodes.
            let asked = world.origin.count(path);
            assert_eq!(asked, usize::from(expected(path)), "{content} {path}");
        }
    }
}

/// What a soft purge does: visitors get the page as stale while it is refreshed once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_purge_makes_nobody_wait() {
    let world = World::of(StoreKind::SqliteShared, 2, settings()).await;
    world.origin.otherwise(Answer::numbered().max_age(3_600));
    fill(&world, &["/p"]).await;
    let gate = leeward_tests::Gate::closed();
    world
        .origin
        .otherwise(Answer::fixed("new").max_age(3_600).gate(&gate));
    let purge = operator(Method::from_bytes(b"PURGE").unwrap(), "/p");
    assert_eq!(ask(world.node(1), &purge).await.status, StatusCode::OK);
    for node in world.all() {
        let reply = get(node, "/p").await;
        assert!(reply.cache_status().has("hit"), "{reply}");
        assert!(!reply.is_fresh_hit(), "{reply}");
    }
    gate.open();
    world.until_fresh(&world.all(), "/p", "new").await;
    assert_eq!(world.origin.count("/p"), 2);
}

/// Each class of `Accept`, each variant, and a preflight is another question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_a_url_reaches_every_question_of_it() {
    let world = World::single_with(settings(), &[]).await;
    let varied = Answer::numbered().max_age(3_600);
    world
        .origin
        .always("/p", varied.header("vary", "accept-language"));
    let asks = [
        Ask::get("/p"),
        Ask::get("/p").header("accept", "text/html"),
        Ask::get("/p").header("accept-language", "de"),
        Ask::get("/p").header("x-requested-with", "XMLHttpRequest"),
        Ask::get("/p").header("x-forwarded-proto", "https"),
    ];
    for hard in [false, true] {
        for asks in &asks {
            wait::until("the answer is stored", wait::SOON, async || {
                let reply = ask(world.node(0), asks).await;
                reply.is_fresh_hit().then_some(())
            })
            .await;
        }
        let mode = if hard { "hard" } else { "soft" };
        let content = format!(r#"{{"url":"/p","mode":"{mode}"}}"#);
        let reply = order(world.node(0), &content).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
        for asks in &asks {
            let reply = ask(world.node(0), asks).await;
            assert!(!reply.is_fresh_hit(), "{asks:?} {reply}");
            assert_eq!(reply.cache_status().has("hit"), !hard, "{asks:?} {reply}");
        }
        wait::until_past(Instant::now() + world.settings.clock_skew).await;
    }
}

/// All pages are fetched again, as many at a time as the budget allows, and nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_purged_under_load_keeps_the_budget() {
    let settings = Settings {
        budget: Some(8),
        ..settings()
    };
    let world = World::of(StoreKind::SqliteShared, 4, settings).await;
    let takes = Duration::from_millis(50);
    world
        .origin
        .otherwise(Answer::numbered().max_age(3_600).takes(takes));
    let paths: Vec<String> = (0..60).map(|number| format!("/page/{number}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let load = Load::start(&world.all(), &paths, 100);
    for mode in ["soft", "hard"] {
        let all_asked = async |world: &World| {
            wait::until("all pages were fetched", wait::SOON, async || {
                let asked = |path: &&str| world.origin.count(path) > 0;
                paths.iter().all(asked).then_some(())
            })
            .await;
        };
        all_asked(&world).await;
        world.origin.forget();
        let reply = order(world.node(3), &format!(r#"{{"all":true,"mode":"{mode}"}}"#)).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
        all_asked(&world).await;
    }
    let visits = load.finish().await;
    assert!(!visits.is_empty());
    let failed: Vec<String> = visits
        .iter()
        .filter(|visit| !visit.is_ok())
        .map(ToString::to_string)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        visits.len()
    );
    assert!(world.origin.in_flight_max() <= 8);
}

/// A load balancer took every node out when the origin was down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_healthy_while_the_origin_is_down() {
    let world = World::single().await;
    world.origin.crash();
    for path in ["/.leeward/health", "/.leeward/ready"] {
        let reply = get(world.node(0), path).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    assert_eq!(world.origin.requests(), 0);
    assert_eq!(get(world.node(0), "/.leeward/status").await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reaches_the_admin_interface_without_the_token() {
    let world = World::single_with(settings(), &[]).await;
    let wrong = "Bearer a-secret-of-the-test";
    for path in ["status", "metrics", "entries", "entry?url=/", "nothing"] {
        let path = format!("/.leeward/{path}");
        for tried in [
            Ask::get(&path),
            Ask::get(&path).header("authorization", wrong),
        ] {
            let reply = ask(world.node(0), &tried).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{tried:?} {reply}");
            assert_eq!(reply.header("cache-control"), "no-store");
        }
    }
    for path in [
        "/%2eleeward/status",
        "//.leeward/status",
        "/x/../.leeward/status",
        "/.LEEWARD/status",
        "/.leeward",
        "/.leeward%2fstatus",
    ] {
        for tried in [Ask::get(path), operator(Method::GET, path)] {
            let reply = ask(world.node(0), &tried).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path} {reply}");
        }
    }
    for (method, path) in [
        ("POST", "/.leeward/purge"),
        ("POST", "/.leeward/warm"),
        ("PURGE", "/"),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let reply = ask(
            world.node(0),
            &Ask::new(method, path).body("{\"all\":true}"),
        )
        .await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{reply}");
    }
    assert_eq!(world.origin.requests(), 0);
}

/// Without a token these paths are the origin's, and so is the method PURGE.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_there_is_no_admin_interface() {
    let world = World::single().await;
    for path in ["/.leeward/status", "/.leeward/purge"] {
        assert_eq!(get(world.node(0), path).await.status, StatusCode::OK);
        assert_eq!(world.origin.count(path), 1);
    }
    let purge = Ask::new(Method::from_bytes(b"PURGE").unwrap(), "/p");
    ask(world.node(0), &purge).await;
    assert_eq!(world.origin.count("/p"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_order_purges_nothing() {
    let world = World::single_with(settings(), &[]).await;
    world.origin.otherwise(Answer::numbered().max_age(3_600));
    fill(&world, &["/p"]).await;
    let long = format!("{{\"url\":\"/{}\"}}", "a".repeat(70_000));
    for (content, status) in [
        ("all", 400),
        (r#"{"everything":true}"#, 400),
        (r#"{"all":true,"mode":"gentle"}"#, 400),
        (r#"{"prefix":"p"}"#, 400),
        (r#"{"url":"http://other.example/p"}"#, 422),
        (&long, 413),
    ] {
        let reply = order(world.node(0), content).await;
        assert_eq!(reply.status, status, "{content} {reply}");
        assert!(reply.text().contains("remedy"), "{reply}");
    }
    let reply = ask(world.node(0), &operator(Method::GET, "/.leeward/purge")).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{reply}");
    assert_eq!(reply.header("allow"), "POST");
    assert_eq!(how(world.node(0), "/p").await, "hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_tags_its_pages_and_a_post_invalidates_others() {
    let more = "[[rule]]\nmatch = { path = \"/quotes/*\", method = \"POST\" }\n\
                invalidates = [\"/list/*\", \"/front\"]\n\
                [[rule]]\nmatch = { path = \"/list/*\" }\ntags = [\"lists\"]\n";
    let world = World::single_with(Settings { more, ..settings() }, &[]).await;
    world.origin.otherwise(Answer::numbered().max_age(3_600));
    let paths = ["/list/1", "/front", "/other"];
    fill(&world, &paths).await;
    let post = Ask::new(Method::POST, "/quotes/7").body("a=b");
    ask(world.node(0), &post).await;
    for (path, expected) in [("/list/1", false), ("/front", false), ("/other", true)] {
        let is_hit = how(world.node(0), path).await == "hit";
        assert_eq!(is_hit, expected, "{path}");
    }
    wait::until_past(Instant::now() + world.settings.clock_skew).await;
    fill(&world, &paths).await;
    let reply = order(world.node(0), r#"{"tags":["lists"]}"#).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply}");
    assert_ne!(how(world.node(0), "/list/1").await, "hit");
    assert_eq!(how(world.node(0), "/front").await, "hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sees_what_is_stored_and_warms_pages() {
    let world = World::single_with(settings(), &[]).await;
    world.origin.otherwise(Answer::numbered().max_age(3_600));
    world
        .origin
        .always("/mine", Answer::numbered().cache_control("private"));
    let order = operator(Method::POST, "/.leeward/warm").body(r#"{"urls":["/a","/mine"]}"#);
    let reply = ask(world.node(0), &order).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{reply}");
    world.origin.until_count("/mine", 1, wait::SOON).await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let reply = ask(
        world.node(0),
        &Ask::get("/a")
            .header("accept", browser)
            .header("accept-encoding", "gzip, deflate, br, zstd"),
    )
    .await;
    assert!(reply.is_fresh_hit(), "{reply}");
    let of_url = told(world.node(0), "/.leeward/entry?url=/a").await;
    assert_eq!(of_url["entries"][0]["state"], "fresh", "{of_url}");
    let listed = told(world.node(0), "/.leeward/entries?prefix=/m").await;
    assert_eq!(listed["entries"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["entries"][0]["url"], "/mine", "{listed}");
    let status = told(world.node(0), "/.leeward/status").await;
    assert_eq!(status["origin"]["breaker"]["state"], "closed", "{status}");
    assert_eq!(status["store"]["reads"], "work", "{status}");
    let missing = operator(Method::GET, "/.leeward/entry?url=/nowhere");
    let reply = ask(world.node(0), &missing).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND, "{reply}");
}
