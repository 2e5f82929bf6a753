//! What one node does with HTTP: what it stores, serves, validates and forwards.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use leeward_tests::client::{Visitor, ask, assert_all_got, get};
use leeward_tests::origin::{Arrival, numbered};
use leeward_tests::{Answer, Ask, Crowd, Gate, Settings, StoreKind, World, wait};
use tokio::sync::mpsc;

/// Name and value.
type Field = (&'static str, &'static str);

async fn strict() -> World {
    let settings = Settings {
        preset: "strict",
        ..Settings::default()
    };
    World::single_with(settings, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miss_is_stored_and_then_a_hit_with_its_age() {
    let world = World::single().await;
    let path = "/hit";
    world.origin.always(
        path,
        Answer::numbered().max_age(600).header("x-from", "origin"),
    );

    let miss = get(world.node(0), path).await;
    let status = miss.cache_status();
    assert_eq!(
        (miss.text(), status.value("fwd"), status.has("stored")),
        (numbered(path, 1), Some("uri-miss"), true),
        "{miss}"
    );
    assert_eq!(miss.age(), None, "{miss}");

    world
        .until_fresh(&world.all(), path, &numbered(path, 1))
        .await;
    let hit = get(world.node(0), path).await;
    let ttl = hit.cache_status().ttl().unwrap();
    let age = i64::try_from(hit.age().unwrap()).unwrap();
    assert!(
        hit.is_fresh_hit() && (0..=600).contains(&ttl) && (0..=600).contains(&age),
        "{hit}"
    );
    assert_eq!(hit.header("x-from"), "origin");
    assert_eq!(world.origin.count(path), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freshness_is_explicit_or_the_default() {
    let world = World::single().await;
    for (path, answer, ttl_max) in [
        ("/ttl/default", Answer::numbered(), 60),
        (
            "/ttl/max-age",
            Answer::numbered().cache_control("max-age=500"),
            500,
        ),
        (
            "/ttl/s-maxage",
            Answer::numbered().cache_control("max-age=0, s-maxage=400"),
            400,
        ),
        (
            "/ttl/expires",
            Answer::numbered().header("expires", "Fri, 01 Jan 2100 00:00:00 GMT"),
            i64::MAX,
        ),
    ] {
        world.origin.always(path, answer);
        get(world.node(0), path).await;
        world
            .until_fresh(&world.all(), path, &numbered(path, 1))
            .await;
        let hit = get(world.node(0), path).await;
        let ttl = hit.cache_status().ttl().unwrap();
        assert!(
            ttl > ttl_max.min(500) - 120 && ttl <= ttl_max,
            "{path}: {hit}"
        );
        assert_eq!(world.origin.count(path), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_entry_is_served_while_it_is_refreshed() {
    let world = World::single().await;
    let (path, gate) = ("/swr", Gate::closed());
    world.origin.next(path, Answer::numbered().max_age(1));
    world
        .origin
        .always(path, Answer::numbered().max_age(600).gate(&gate));
    world.fill_and_expire(path, 1).await;

    let stale = get(world.node(0), path).await;
    let status = stale.cache_status();
    assert_eq!(
        (stale.text(), status.has("hit"), status.value("detail")),
        (numbered(path, 1), true, Some("stale")),
        "{stale}"
    );
    assert!(
        status.ttl().unwrap() <= 0 && stale.age().unwrap() >= 1,
        "{stale}"
    );
    gate.open();
    world
        .until_fresh(&world.all(), path, &numbered(path, 2))
        .await;
    assert_eq!(world.origin.count(path), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_answered_from_a_get_entry() {
    let world = World::single().await;
    let path = "/head";
    let body = get(world.node(0), path).await.body;
    world
        .until_fresh(&world.all(), path, &numbered(path, 1))
        .await;
    let head = ask(world.node(0), &Ask::new(Method::HEAD, path)).await;
    assert!(head.is_fresh_hit() && head.body.is_empty(), "{head}");
    assert_eq!(head.header("content-length"), body.len().to_string());
    assert_eq!(world.origin.count(path), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_with_a_validator_is_renewed_by_304() {
    let world = World::single().await;
    let (path, etag) = ("/validated", "\"v1\"");
    world
        .origin
        .next(path, Answer::fixed("the first").etag(etag).max_age(1));
    world.origin.always(
        path,
        Answer::fixed("never sent")
            .etag(etag)
            .max_age(600)
            .header("x-renewed", "yes"),
    );
    world.fill_and_expire(path, 1).await;

    assert_eq!(get(world.node(0), path).await.text(), "the first");
    world.until_fresh(&world.all(), path, "the first").await;
    let record = world.origin.record(path);
    assert_eq!(record.count(), 2);
    assert_eq!(record.arrivals[1].headers["if-none-match"], etag);
    assert_eq!(get(world.node(0), path).await.header("x-renewed"), "yes");
}

/// A page that is fresh for a second at first, and each time that it is confirmed. Asked for
/// with a condition, the origin answers 304 with this field instead of its own.
fn validated(own: Field, confirming: Field) -> Answer {
    Answer::made_by(move |seen| {
        let asks = ["if-none-match", "if-modified-since"];
        let is_condition = asks.iter().any(|name| seen.headers.contains_key(*name));
        let answer = match is_condition {
            true => Answer::fixed("").status(StatusCode::NOT_MODIFIED),
            false => Answer::numbered(),
        };
        let (name, value) = if is_condition { confirming } else { own };
        let is_brief = is_condition || seen.number == 1;
        let max_age = if is_brief { 1 } else { 600 };
        answer.header(name, value).max_age(max_age)
    })
}

/// The lines of the log about this path, each with a status.
fn logged(world: &mut World, path: &str) -> Vec<String> {
    let path = format!("\"path\":\"{path}\"");
    let log = world.process(0).errors();
    let lines = log.lines().filter(|line| line.contains(&path));
    let sent = lines.filter(|line| !line.contains("\"status\":null"));
    sent.map(str::to_owned).collect()
}

/// nginx with gzip answers `W/"x"` with `"x"`, nginx 1.31 also the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_costs_one_request_whatever_the_strength_of_the_tag_in_the_304() {
    let mut world = World::single().await;
    let modified = ("last-modified", "Sun, 09 Sep 2001 01:46:40 GMT");
    for (path, own, confirming) in [
        ("/strong", ("etag", "W/\"x\""), ("etag", "\"x\"")),
        ("/weak", ("etag", "\"x\""), ("etag", "W/\"x\"")),
        ("/dated", modified, ("etag", "\"x\"")),
    ] {
        world.origin.always(path, validated(own, confirming));
        world.fill_and_expire(path, 1).await;
        wait::until(
            "the page is confirmed twice",
            world.some_leases(),
            async || {
                let reply = get(world.node(0), path).await;
                assert_eq!(reply.text(), numbered(path, 1), "{reply}");
                assert_eq!(reply.header(own.0), own.1, "{reply}");
                (world.origin.count(path) >= 3).then_some(())
            },
        )
        .await;
        let arrivals = world.origin.record(path).arrivals;
        let has_condition = |arrival: &Arrival| {
            let fields = &arrival.headers;
            fields.contains_key("if-none-match") || fields.contains_key("if-modified-since")
        };
        assert!(arrivals[1..].iter().all(has_condition), "{arrivals:?}");
        let log = logged(&mut world, path).join("\n");
        assert!(!log.contains("unconfirmed"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_requests_of_a_refresh_are_logged_where_the_304_confirms_nothing() {
    let mut world = World::single().await;
    let path = "/other";
    let (own, other) = (("etag", "\"x\""), ("etag", "\"y\""));
    world.origin.always(path, validated(own, other));
    world.fill_and_expire(path, 1).await;
    assert_eq!(get(world.node(0), path).await.text(), numbered(path, 1));
    world
        .until_fresh(&world.all(), path, &numbered(path, 3))
        .await;
    wait::until("each request has a line", wait::SOON, async || {
        let lines = logged(&mut world, path);
        let unconfirmed = lines.iter().filter(|line| {
            let says = ["\"outcome\":\"unconfirmed\"", "\"status\":304"];
            says.iter().all(|says| line.contains(says))
        });
        let is_each = unconfirmed.count() == 1 && lines.len() == world.origin.count(path);
        is_each.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_request_of_a_refresh_takes_a_token_of_the_rate() {
    // One request of each kind may go at once.
    let settings = Settings {
        per_hour: Some(16),
        ..Settings::default()
    };
    let mut world = World::single_with(settings, &[]).await;
    let path = "/rated";
    let (own, other) = (("etag", "\"x\""), ("etag", "\"y\""));
    world.origin.always(path, validated(own, other));
    world.fill_and_expire(path, 1).await;
    get(world.node(0), path).await;
    wait::until("the refresh is logged", wait::SOON, async || {
        let lines = logged(&mut world, path);
        lines
            .iter()
            .any(|line| line.contains("unconfirmed"))
            .then_some(())
    })
    .await;
    // A second one would come at once.
    wait::throughout(
        "no other request comes",
        Duration::from_secs(1),
        async || {
            let reply = get(world.node(0), path).await;
            assert_eq!(reply.text(), numbered(path, 1), "{reply}");
            world.origin.count(path) == 2
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_on_a_304_is_its_visitors_and_the_entry_stays() {
    let world = strict().await;
    let (path, etag) = ("/cookie", "\"v1\"");
    let answer = |max_age| Answer::fixed("for all").etag(etag).max_age(max_age);
    world.origin.next(path, answer(1));
    world
        .origin
        .always(path, answer(600).header("set-cookie", "session=1"));
    world.fill_and_expire(path, 1).await;

    let renewed = get(world.node(0), path).await;
    assert_eq!(
        (renewed.text(), renewed.header("set-cookie")),
        ("for all".to_owned(), "session=1"),
        "{renewed}"
    );
    world.until_fresh(&world.all(), path, "for all").await;
    let hit = get(world.node(0), path).await;
    assert_eq!(hit.header("set-cookie"), "", "{hit}");
    assert_eq!(world.origin.count(path), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_nobody_asked_for_does_not_take_the_place_of_the_whole() {
    let world = strict().await;
    let path = "/part";
    world
        .origin
        .next(path, Answer::fixed("0123456789").max_age(1));
    let part = Answer::fixed("0123").status(StatusCode::PARTIAL_CONTENT);
    world
        .origin
        .always(path, part.header("content-range", "bytes 0-3/10"));
    world.fill_and_expire(path, 1).await;

    for _ in 0..2 {
        let reply = get(world.node(0), path).await;
        let status = reply.cache_status();
        assert_eq!(
            (reply.status, reply.text(), status.value("detail")),
            (
                StatusCode::OK,
                "0123456789".to_owned(),
                Some("stale-if-error")
            ),
            "{reply}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_go_as_far_as_max_forwards_says() {
    let world = World::single().await;
    let path = "/hops";
    for (method, hops, status, allow) in [
        ("OPTIONS", "0", 200, true),
        ("TRACE", "0", 405, true),
        ("OPTIONS", "3", 200, false),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let ask_for = Ask::new(method, path).header("max-forwards", hops);
        let reply = ask(world.node(0), &ask_for).await;
        assert_eq!(
            (reply.status.as_u16(), reply.headers.contains_key("allow")),
            (status, allow),
            "{reply}"
        );
    }
    let record = world.origin.record(path);
    assert_eq!(record.count(), 1);
    assert_eq!(record.arrivals[0].headers["max-forwards"], "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_with_the_current_copy_gets_304() {
    let world = World::single().await;
    let path = "/conditional";
    world
        .origin
        .always(path, Answer::fixed("a body").etag("\"v1\"").max_age(600));
    get(world.node(0), path).await;
    world.until_fresh(&world.all(), path, "a body").await;
    for (sent, status, body) in [
        ("\"v1\"", StatusCode::NOT_MODIFIED, ""),
        ("W/\"v1\"", StatusCode::NOT_MODIFIED, ""),
        ("\"v0\", \"v1\"", StatusCode::NOT_MODIFIED, ""),
        ("*", StatusCode::NOT_MODIFIED, ""),
        ("\"v0\"", StatusCode::OK, "a body"),
    ] {
        let reply = ask(world.node(0), &Ask::get(path).header("if-none-match", sent)).await;
        assert_eq!(
            (reply.status, reply.text().as_str(), reply.header("etag")),
            (status, body, "\"v1\""),
            "{sent}: {reply}"
        );
        assert!(reply.cache_status().has("hit"), "{sent}: {reply}");
    }
    assert_eq!(world.origin.count(path), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_for_everybody_is_never_stored() {
    let world = World::single().await;
    for (path, answer) in [
        ("/no-store", Answer::numbered().cache_control("no-store")),
        (
            "/no-store-age",
            Answer::numbered().cache_control("max-age=600, no-store"),
        ),
        (
            "/private",
            Answer::numbered().cache_control("private, max-age=600"),
        ),
        // Made together with a session, and without a word about its freshness.
        (
            "/cookie",
            Answer::numbered().header("set-cookie", "id=secret"),
        ),
    ] {
        world.origin.always(path, answer);
        for number in 1..=3 {
            let reply = get(world.node(0), path).await;
            assert_eq!(
                (reply.status, reply.text()),
                (StatusCode::OK, numbered(path, number)),
                "{path}: {reply}"
            );
            let status = reply.cache_status();
            assert!(
                !status.has("hit") && !status.has("stored"),
                "{path}: {reply}"
            );
        }
        assert_eq!(world.origin.count(path), 3, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_with_credentials_shares_what_is_said_to_be_for_everyone() {
    let world = World::single().await;
    let by_user = |said: Option<&'static str>| {
        Answer::made_by(move |seen| {
            let user = seen.header("authorization").unwrap_or_default();
            let answer = Answer::fixed(format!("page of {user:?}"));
            match said {
                Some(said) => answer.cache_control(said),
                None => answer,
            }
        })
    };
    for (path, said, theirs) in [
        ("/explicit", Some("max-age=600"), "page of \"\""),
        ("/public", Some("public, max-age=600"), "page of \"\""),
        ("/silent", None, "page of \"Basic YTpi\""),
        ("/private", Some("private"), "page of \"Basic YTpi\""),
    ] {
        world.origin.always(path, by_user(said));
        let user = Ask::get(path).header("authorization", "Basic YTpi");
        // The first goes as it is, and shows whom answers are for.
        let scout = ask(world.node(0), &user).await;
        assert_eq!(scout.status, StatusCode::OK, "{path}: {scout}");
        for _ in 0..3 {
            let reply = get(world.node(0), path).await;
            assert_eq!(reply.text(), "page of \"\"", "{path}: {reply}");
            let reply = ask(world.node(0), &user).await;
            assert_eq!(reply.text(), theirs, "{path}: {reply}");
        }
    }
    for path in ["/explicit", "/public"] {
        // The scout, unless the one before has shown it, and the question.
        assert!(world.origin.count(path) <= 2, "{path}");
    }
    // The scout, the question, and what each request of the user was passed for.
    assert_eq!(world.origin.count("/silent"), 1 + 1 + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_what_cannot_be_stored_do_not_queue() {
    let world = World::single().await;
    // As many passed requests as the origin may have at once, by default: a slot is left to
    // each of fills and unsafe methods.
    let (path, gate, size) = ("/pass", Gate::closed(), 14);
    world
        .origin
        .next(path, Answer::fixed("mine").cache_control("no-store"));
    world
        .origin
        .next(path, Answer::fixed("mine").cache_control("no-store"));
    world.origin.always(
        path,
        Answer::fixed("mine").cache_control("no-store").gate(&gate),
    );
    // The second comes when the first has left its mark, or waits until it has.
    get(world.node(0), path).await;
    get(world.node(0), path).await;

    let crowd = Crowd::connect(&world.all(), size).await;
    let asking = tokio::spawn(async move { crowd.ask(&Ask::get(path)).await });
    wait::until("all are at the origin together", wait::SOON, async || {
        (world.origin.record(path).in_flight == size).then_some(())
    })
    .await;
    gate.open();
    assert_all_got(&asking.await.unwrap(), size, "mine");
    assert_eq!(world.origin.count(path), 2 + size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_fails_is_hidden_by_what_is_stored() {
    for preset in ["uptime", "strict"] {
        let world = World::single_with(
            Settings {
                preset,
                ..Settings::default()
            },
            &[],
        )
        .await;
        for (path, failure) in [
            (
                "/fails/500",
                Answer::numbered().status(StatusCode::INTERNAL_SERVER_ERROR),
            ),
            (
                "/fails/503",
                Answer::numbered().status(StatusCode::SERVICE_UNAVAILABLE),
            ),
            ("/fails/hang-up", Answer::hang_up()),
            (
                "/fails/broken",
                Answer::numbered().max_age(600).broken_after(3),
            ),
        ] {
            // Whoever waits for the origin sees its body as it comes, broken or not.
            if preset == "strict" && path == "/fails/broken" {
                continue;
            }
            world.origin.next(
                path,
                Answer::numbered().cache_control("max-age=1, stale-if-error=600"),
            );
            world.origin.next(path, failure.clone());
            world.origin.next(path, failure);
            world
                .origin
                .always(path, Answer::fixed("well again").max_age(600));
            world.fill_and_expire(path, 1).await;
            // From the first request that finds it stale until it is well again.
            wait::until("the origin is well again", wait::SOON, async || {
                let reply = get(world.node(0), path).await;
                let known = [numbered(path, 1), "well again".to_owned()];
                assert!(
                    reply.status == StatusCode::OK && known.contains(&reply.text()),
                    "{preset} {path}: {reply}"
                );
                (reply.text() == "well again").then_some(())
            })
            .await;
            assert_eq!(world.origin.count(path), 4, "{preset} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_are_kept_apart() {
    let world = World::single().await;
    let path = "/vary";
    world.origin.always(
        path,
        Answer::made_by(|seen| {
            let body = match seen.header("accept-language").as_deref() {
                Some("de") => "guten Tag",
                Some("en") => "hello",
                _ => "?",
            };
            Answer::fixed(body)
                .header("vary", "Accept-Language")
                .max_age(600)
        }),
    );
    // The first request teaches the key that it varies, by the answer for
    // visitors without the field, and then gets its own.
    let plain = (Ask::get(path), "?");
    let [en, de] = [("en", "hello"), ("de", "guten Tag")]
        .map(|(language, body)| (Ask::get(path).header("accept-language", language), body));
    for ((ask_for, body), count) in [(&en, 2), (&de, 3), (&plain, 3)] {
        let reply = ask(world.node(0), ask_for).await;
        assert_eq!(reply.text(), *body, "{reply}");
        assert_eq!(world.origin.count(path), count, "{body}");
    }
    for (ask_for, body) in [&de, &plain, &en] {
        wait::until("the variant is a hit", wait::SOON, async || {
            let reply = ask(world.node(0), ask_for).await;
            assert_eq!(reply.text(), *body, "{reply}");
            reply.is_fresh_hit().then_some(())
        })
        .await;
    }
    assert_eq!(world.origin.count(path), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_keeps_no_more_variants_than_its_limit() {
    let settings = Settings {
        more: "[limits]\nvariants = 2",
        ..Settings::default()
    };
    let world = World::start_with(StoreKind::SpinSqlite, settings).await;
    let path = "/many";
    world.origin.always(path, Answer::numbered().max_age(600));
    let version = |version: &str| Ask::get(path).header("x-api-version", version);
    // The first lies in the key's own cell and is not counted. Those after it are
    // in use: they are asked for again.
    for (asked, number) in [("a", 1), ("b", 2), ("c", 3)] {
        until_hit(&world, &version(asked), number).await;
    }
    until_noted_as_asked_again(&world, path, 2).await;
    // Made-up ones, asked for once. The first has to replace one that is in use,
    // because there are no others; the next replace each other.
    for made_up in 4..=6 {
        let reply = ask(world.node(1), &version(&format!("made-up-{made_up}"))).await;
        assert_eq!(reply.text(), numbered(path, made_up), "{reply}");
    }
    for (asked, number) in [("a", 1), ("c", 3), ("a", 1)] {
        until_hit(&world, &version(asked), number).await;
        assert_eq!(world.origin.count(path), 6, "{asked}");
    }
    // The older of the two in use had to go.
    until_hit(&world, &version("b"), 7).await;
    until_hit(&world, &version("c"), 3).await;
    assert_eq!(world.origin.count(path), 7);
}

/// Waits until all nodes answer with the origin's answer of this number, fresh.
async fn until_hit(world: &World, ask_for: &Ask, number: usize) {
    for node in world.all() {
        wait::until("the variant is a hit", wait::SOON, async || {
            let reply = ask(node, ask_for).await;
            assert_eq!(reply.text(), numbered("/many", number), "{reply}");
            reply.is_fresh_hit().then_some(())
        })
        .await;
    }
}

/// Waits until this many cells of `path` say that they were asked for again.
async fn until_noted_as_asked_again(world: &World, path: &str, count: usize) {
    wait::until("the variants are noted", wait::SOON, async || {
        let cells = world.store.cells();
        let noted = cells.iter().filter(|(_, cell)| {
            let text = String::from_utf8_lossy(cell);
            text.contains(path) && text.contains("\"asked_again\":true")
        });
        (noted.count() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_not_passed_off_as_whole() {
    let world = World::single().await;
    for (path, first) in [("/broken/early", 0), ("/broken/late", 5_000)] {
        let body = "0123456789".repeat(1000);
        world.origin.next(
            path,
            Answer::fixed(body.clone()).max_age(600).broken_after(first),
        );
        world
            .origin
            .always(path, Answer::fixed(body.clone()).max_age(600));
        // Broken off, before or after its head, or an error that is whole.
        if let Ok(reply) = Ask::get(path).to(world.node(0)).await {
            assert!(
                reply.status.is_server_error(),
                "{path}: a whole answer: {}",
                reply.status
            );
        }
        // Errors are right until the next attempt is due; half a body never is.
        wait::until(
            "the origin's next answer is served",
            wait::SOON,
            async || {
                let reply = get(world.node(0), path).await;
                let whole = reply.status == StatusCode::OK && reply.body == body;
                assert!(
                    whole || reply.status.is_server_error(),
                    "{path}: {} {} bytes",
                    reply.status,
                    reply.body.len()
                );
                whole.then_some(())
            },
        )
        .await;
        assert_eq!(world.origin.count(path), 2, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_whole_both_ways() {
    let world = World::single().await;
    // Bytes that repeat with a period that no buffer has.
    let body: Bytes = (0..8 << 20)
        .map(|i: u32| (i % 251).to_le_bytes()[0])
        .collect();
    world.origin.always("/echo", Answer::echo());
    for number in 1..=2 {
        let reply = ask(
            world.node(0),
            &Ask::new(Method::POST, "/echo").body(body.clone()),
        )
        .await;
        assert_eq!(
            (reply.status, reply.body.len()),
            (StatusCode::OK, body.len())
        );
        assert!(reply.body == body && !reply.cache_status().has("hit"));
        assert_eq!(world.origin.count("/echo"), number);
    }
    world
        .origin
        .always("/download", Answer::fixed(body.clone()).max_age(600));
    for _ in 1..=2 {
        let reply = get(world.node(0), "/download").await;
        assert!(
            reply.status == StatusCode::OK && reply.body == body,
            "{} bytes",
            reply.body.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_streams_both_ways_at_once() {
    let world = World::single().await;
    world.origin.always("/duplex", Answer::echo());
    let (parts, coming) = mpsc::unbounded_channel::<&'static str>();
    let coming = stream::unfold(coming, async |mut coming| {
        Some((coming.recv().await?, coming))
    });
    let body =
        StreamBody::new(coming.map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))));
    let request = Request::post("/duplex").body(BodyExt::boxed(body)).unwrap();

    // Each part is sent only when the one before has come back.
    parts.send("one ").unwrap();
    let mut visitor = Visitor::connect(world.node(0)).await.unwrap();
    let work = async {
        let mut answer = visitor.send(request).await.unwrap().into_body();
        let mut back = String::new();
        for next in [Some("two "), Some("three "), None] {
            let sent = back.len();
            while back.len() == sent || !back.ends_with(' ') {
                let frame = answer.frame().await.expect("more of the body").unwrap();
                back.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
            }
            if let Some(part) = next {
                parts.send(part).unwrap();
            }
        }
        drop(parts);
        assert!(answer.frame().await.is_none());
        back
    };
    let back = tokio::time::timeout(wait::SOON, work)
        .await
        .expect("the parts come back one by one");
    assert_eq!(back, "one two three ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_ends_cleanly_when_told_to() {
    let mut world = World::single().await;
    get(world.node(0), "/end").await;
    let status = world.process(0).end().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_reused_as_told() {
    for arguments in [
        [
            "--max-instance-reuse-count",
            "1",
            "--max-instance-concurrent-reuse-count",
            "1",
            "--idle-instance-timeout",
            "1s",
        ],
        [
            "--max-instance-reuse-count",
            "1000",
            "--max-instance-concurrent-reuse-count",
            "100",
            "--idle-instance-timeout",
            "10s",
        ],
    ] {
        let world = World::single_with(Settings::default(), &arguments).await;
        let (path, gate) = ("/reuse", Gate::closed());
        world.origin.next(path, Answer::numbered().max_age(1));
        world
            .origin
            .always(path, Answer::numbered().max_age(600).gate(&gate));
        world.fill_and_expire(path, 1).await;
        let replies = Crowd::connect(&world.all(), 100)
            .await
            .ask(&Ask::get(path))
            .await;
        assert_all_got(&replies, 100, &numbered(path, 1));
        // The refresh behind the answer goes on, whatever becomes of its instance.
        world.origin.until_count(path, 2, wait::SOON).await;
        wait::throughout(
            "one refresh is under way",
            Duration::from_secs(1),
            async || world.origin.count(path) == 2,
        )
        .await;
        gate.open();
        world
            .until_fresh(&world.all(), path, &numbered(path, 2))
            .await;
    }
}
