//! What people were hurt by when a cache stood in front of their servers: redirects
//! to an address that visitors cannot reach, clocks that are slow, monitors that see
//! the cache, editors that read what they have just changed.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use http::{Method, StatusCode};
use leeward_tests::client::{ask, get};
use leeward_tests::nodes;
use leeward_tests::origin::numbered;
use leeward_tests::{Answer, Ask, Node, Settings, World, wait};

async fn with(more: &'static str) -> World {
    let settings = Settings {
        more,
        ..Settings::default()
    };
    World::single_with(settings, &[]).await
}

/// Waits until the request is answered by a fresh entry, always with this body.
async fn until_hit(world: &World, ask_for: &Ask, body: &str) {
    wait::until("it is a hit", wait::SOON, async || {
        let reply = ask(world.node(0), ask_for).await;
        assert_eq!(reply.text(), body, "{reply}");
        reply.is_fresh_hit().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_to_the_origins_own_address_are_rewritten() {
    let world = with("").await;
    let mut command = nodes::up();
    let prefixed = format!("{}/app", world.origin.url());
    command.args(["--origin", &prefixed, "--store", "memory"]);
    let prefixed = Node::start(command).await;
    let own = world.origin.url();
    for (node, prefix) in [(world.node(0), ""), (prefixed.address(), "/app")] {
        for (path, sent, expected) in [
            ("/a", format!("{own}{prefix}/login?b=c#d"), "/login?b=c#d"),
            ("/b", format!("{prefix}/login"), "/login"),
            (
                "/c",
                "https://login.example/app/".to_owned(),
                "https://login.example/app/",
            ),
        ] {
            let answer = Answer::fixed("")
                .status(StatusCode::FOUND)
                .header("location", &sent)
                .header("content-location", &sent)
                .max_age(600);
            world.origin.always(&format!("{prefix}{path}"), answer);
            // As a visitor who causes the fetch, from the store, passed, and unsafe.
            let get = Ask::get(path);
            let passed = get.clone().header("if-match", "\"1\"");
            for asked in [&get, &get, &passed, &Ask::new(Method::POST, path)] {
                let reply = ask(node, asked).await;
                let location = (reply.header("location"), reply.header("content-location"));
                assert_eq!(location, (expected, expected), "{sent}: {reply}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forwarded_says_who_asked_and_how() {
    let world = with("").await;
    let path = "/forwarded";
    world
        .origin
        .always(path, Answer::fixed("").cache_control("no-store"));
    let pass = Ask::get(path).header("if-match", "\"1\"");
    let post = Ask::new(Method::POST, path).body("x");
    for plain in [&pass, &post] {
        let proxied = plain
            .clone()
            .header("x-forwarded-for", "203.0.113.9")
            .header("x-forwarded-proto", "https");
        for (asked, addresses, scheme) in [
            (plain, "127.0.0.1", "http"),
            (&proxied, "203.0.113.9, 127.0.0.1", "https"),
        ] {
            ask(world.node(0), asked).await;
            let headers = world.origin.record(path).arrivals.pop().unwrap().headers;
            assert_eq!(headers["x-forwarded-for"], addresses, "{headers:?}");
            assert_eq!(headers["x-forwarded-proto"], scheme, "{headers:?}");
            assert_eq!(headers["x-forwarded-host"], "shop.example", "{headers:?}");
        }
    }
    // A question has nothing of the visitor in it.
    let asked = Ask::get("/question").header("x-forwarded-for", "203.0.113.9");
    ask(world.node(0), &asked).await;
    let headers = world
        .origin
        .record("/question")
        .arrivals
        .pop()
        .unwrap()
        .headers;
    assert!(!headers.contains_key("x-forwarded-for"), "{headers:?}");
    assert_eq!(headers["x-forwarded-proto"], "http", "{headers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_reaches_the_origin_by_health_paths() {
    let world = with("").await;
    let path = "/healthz";
    world.origin.always(path, Answer::numbered());
    for number in 1..=3 {
        let reply = get(world.node(0), path).await;
        assert_eq!(reply.text(), numbered(path, number), "{reply}");
    }
    // It sees each failure, and the first success after it.
    let status = StatusCode::SERVICE_UNAVAILABLE;
    for number in 4..=6 {
        world.origin.next(path, Answer::numbered().status(status));
        let reply = get(world.node(0), path).await;
        assert_eq!(
            (reply.status, reply.text()),
            (status, numbered(path, number))
        );
    }
    let reply = get(world.node(0), path).await;
    assert_eq!(reply.text(), numbered(path, 7), "{reply}");
    // Explicit freshness is the origin's word.
    world
        .origin
        .always("/ping", Answer::numbered().max_age(600));
    until_hit(&world, &Ask::get("/ping"), &numbered("/ping", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_differ_in_case_are_one_where_the_origin_says_so() {
    let world = with("[key.path]\nlowercase = true").await;
    let cased = Answer::made_by(|seen| Answer::fixed(seen.target.clone()).max_age(600));
    world.origin.otherwise(cased);
    for path in ["/News/Page.aspx?Id=A", "/news/PAGE.aspx?Id=A"] {
        until_hit(&world, &Ask::get(path), "/news/page.aspx?Id=A").await;
    }
    assert_eq!(world.origin.count("/news/page.aspx"), 1);
    // The query is not a path.
    let other = Ask::get("/news/page.aspx?Id=a");
    until_hit(&world, &other, "/news/page.aspx?Id=a").await;
    assert_eq!(world.origin.count("/news/page.aspx"), 2);
    // What one visitor changes by one spelling, another reads by another.
    let post = Ask::new(Method::POST, "/NEWS/page.ASPX?Id=A");
    ask(world.node(0), &post).await;
    let reply = get(world.node(0), "/news/Page.aspx?Id=A").await;
    assert!(!reply.cache_status().has("hit"), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_an_origin_whose_clock_is_slow_is_a_hit() {
    let world = with("").await;
    let slow = Answer::numbered().header("date", "Thu, 01 Jan 2015 00:00:00 GMT");
    for (path, answer) in [
        ("/max-age", slow.clone().max_age(600)),
        (
            "/expires",
            slow.header("expires", "Thu, 01 Jan 2015 00:10:00 GMT"),
        ),
    ] {
        world.origin.always(path, answer);
        until_hit(&world, &Ask::get(path), &numbered(path, 1)).await;
        assert_eq!(world.origin.count(path), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_who_lost_a_race_reads_the_new_version() {
    let world = with("").await;
    for (status, is_lost) in [(412, true), (409, true), (403, false), (500, false)] {
        let path = format!("/edited/{status}");
        let status = StatusCode::from_u16(status).unwrap();
        let version = |body: &'static str| Answer::fixed(body).etag(body).max_age(600);
        world.origin.next(&path, version("\"1\""));
        world
            .origin
            .next(&path, Answer::fixed("refused").status(status));
        world.origin.always(&path, version("\"2\""));
        until_hit(&world, &Ask::get(&path), "\"1\"").await;

        let put = Ask::new(Method::PUT, &path)
            .header("if-match", "\"1\"")
            .body("mine");
        assert_eq!(ask(world.node(0), &put).await.status, status);
        let reply = get(world.node(0), &path).await;
        let (body, count) = if is_lost { ("\"2\"", 3) } else { ("\"1\"", 2) };
        assert_eq!(reply.text(), body, "{reply}");
        let record = world.origin.record(&path);
        assert_eq!(record.count(), count, "{path}");
        if is_lost {
            assert_eq!(record.arrivals[2].headers["if-none-match"], "\"1\"");
        }
    }
}
