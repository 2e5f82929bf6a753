//! What errors and answers that may not be stored do to visitors, to stored pages,
//! and to the origin.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use http::StatusCode;
use leeward_tests::client::{Reply, ask, get};
use leeward_tests::origin::numbered;
use leeward_tests::{Answer, Ask, Crowd, Gate, Settings, StoreKind, World, wait};

/// The longest `Retry-After` that the worlds of these tests honour.
const RETRY_AFTER: Duration = Duration::from_secs(3);

const RETRY_AFTER_RULE: &str = r#"
[[rule]]
match = { path = "/*" }
origin.retry.after_max = "3s"
"#;

async fn with(more: &'static str) -> World {
    let settings = Settings {
        more,
        ..Settings::default()
    };
    World::single_with(settings, &[]).await
}

/// Asks until the answer is what `found` looks for. Each answer before it has to
/// be what `allowed` says.
async fn ask_until(
    world: &World,
    path: &str,
    allowed: impl Fn(&Reply) -> bool,
    found: impl Fn(&Reply) -> bool,
) -> Reply {
    wait::until("the answer changes", wait::SOON, async || {
        let reply = get(world.node(0), path).await;
        if found(&reply) {
            return Some(reply);
        }
        assert!(allowed(&reply), "{path}: {reply}");
        None
    })
    .await
}

fn is_page(reply: &Reply, body: &str) -> bool {
    reply.status == StatusCode::OK && reply.body == body
}

/// The pause between request `number` for `path`, counted from 1, and the next.
fn pause_after(world: &World, path: &str, number: usize) -> Duration {
    let arrivals = world.origin.record(path).arrivals;
    arrivals[number].at - arrivals[number - 1].at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_respected_and_told_to_visitors() {
    let world = with(RETRY_AFTER_RULE).await;
    let cases = [
        ("/seconds", 503, "3"),
        ("/too-many", 429, "3"),
        // A date, and longer than the limit.
        ("/date", 503, "Fri, 01 Jan 2100 00:00:00 GMT"),
    ];
    let cases = cases.map(async |(path, status, retry_after)| {
        let status = StatusCode::from_u16(status).unwrap();
        let failure = Answer::numbered()
            .status(status)
            .header("retry-after", retry_after);
        world.origin.next(path, failure);
        world.origin.always(path, Answer::numbered().max_age(600));

        let asked = Instant::now();
        let first = get(world.node(0), path).await;
        assert_eq!(
            (first.status, first.header("retry-after")),
            (status, retry_after),
            "{first}"
        );
        let mut own = 0;
        wait::until("the origin is asked again", wait::SOON, async || {
            let before = Instant::now();
            let reply = get(world.node(0), path).await;
            if reply.status == StatusCode::OK {
                return Some(());
            }
            // The origin's error, for a moment, and then the shield's own.
            if reply.cache_status().value("detail") != Some("backoff") {
                assert_eq!(reply.text(), numbered(path, 1), "{reply}");
                return None;
            }
            own += 1;
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply}");
            let told = Duration::from_secs(reply.header("retry-after").parse().unwrap());
            assert!(
                before + told >= asked + RETRY_AFTER && told <= RETRY_AFTER * 2,
                "it ends before the origin may be asked, or late: {reply}"
            );
            assert_readable(&reply);
            None
        })
        .await;
        assert!(own > 0, "{path}: the shield never answered by itself");
        assert!(pause_after(&world, path, 1) >= RETRY_AFTER, "{path}");
        assert_eq!(world.origin.count(path), 2, "{path}");
    });
    let stale = async {
        let path = "/stale";
        world.origin.next(path, Answer::numbered().max_age(1));
        let busy = Answer::numbered()
            .status(StatusCode::TOO_MANY_REQUESTS)
            .header("retry-after", "3");
        world.origin.next(path, busy);
        world.origin.always(path, Answer::numbered().max_age(600));
        world.fill_and_expire(path, 1).await;
        let (old, new) = (numbered(path, 1), numbered(path, 3));
        let is_old = |reply: &Reply| is_page(reply, &old);
        ask_until(&world, path, is_old, |reply| is_page(reply, &new)).await;
        assert!(pause_after(&world, path, 2) >= RETRY_AFTER);
    };
    join(join_all(cases), stale).await;
}

/// Expects that a browser application may read an answer of the shield's own.
fn assert_readable(reply: &Reply) {
    assert_eq!(reply.header("access-control-allow-origin"), "*", "{reply}");
    let exposed = reply.header("access-control-expose-headers");
    assert!(exposed.contains("Retry-After"), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shields_503_does_not_end_before_the_origin_may_be_asked() {
    let settings = Settings {
        retry_first: Duration::from_millis(1000),
        retry_max: Duration::from_millis(5000),
        ..Settings::default()
    };
    let world = World::single_with(settings, &[]).await;
    let path = "/hangs-up";
    for _ in 0..2 {
        world.origin.next(path, Answer::hang_up());
    }
    world.origin.always(path, Answer::numbered().max_age(600));
    // What a visitor was told, by how many requests the origin had got.
    let mut told = Vec::new();
    wait::until("the origin is well again", wait::SOON, async || {
        let reply = get(world.node(0), path).await;
        if reply.status == StatusCode::OK {
            return Some(());
        }
        assert_readable(&reply);
        let seconds = reply.header("retry-after").parse().unwrap();
        let may_come = Instant::now() + Duration::from_secs(seconds);
        told.push((world.origin.count(path), may_come));
        None
    })
    .await;
    let arrivals = world.origin.record(path).arrivals;
    assert_eq!(arrivals.len(), 3);
    for (count, may_come) in told {
        // Visitors ask all the time, so this is when the mark ended.
        assert!(may_come + SLACK >= arrivals[count].at, "attempt {count}");
    }
}

/// What a test that asks all the time takes to notice that a mark has ended.
const SLACK: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_goes_after_three_private_answers_over_ten_seconds() {
    let world = with("").await;
    let mine = || Answer::fixed("mine").cache_control("private");
    for path in ["/moved", "/wavers"] {
        world.origin.next(path, Answer::fixed("page").max_age(1));
    }
    world.origin.always("/moved", mine());
    world.origin.next("/wavers", mine());
    world.origin.next("/wavers", mine());
    world
        .origin
        .always("/wavers", Answer::fixed("new page").max_age(600));
    for path in ["/moved", "/wavers"] {
        world.fill_and_expire(path, 1).await;
    }
    let is_old = |reply: &Reply| is_page(reply, "page");

    ask_until(&world, "/wavers", is_old, |reply| {
        is_page(reply, "new page")
    })
    .await;
    assert_eq!(world.origin.count("/wavers"), 4);

    ask_until(&world, "/moved", is_old, |reply| is_page(reply, "mine")).await;
    // The page, the answers that were not believed, the one that was, and that of
    // the visitor who was passed.
    let arrivals = world.origin.record("/moved").arrivals;
    assert!(arrivals.len() >= 5, "{}", arrivals.len());
    let span = arrivals[arrivals.len() - 2].at - arrivals[1].at;
    assert!(span >= Duration::from_millis(9_900), "{span:?}");
    // Now each visitor gets its own.
    for more in 1..=3 {
        let reply = get(world.node(0), "/moved").await;
        assert_eq!(reply.text(), "mine", "{reply}");
        assert_eq!(world.origin.count("/moved"), arrivals.len() + more);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_replaces_a_good_page_and_other_refusals_do_not() {
    let world = with("").await;
    let cases = [404, 410, 400, 401, 403, 405, 408, 417, 425, 429, 431, 451];
    let cases = cases.map(async |status| {
        let path = format!("/gone/{status}");
        let status = StatusCode::from_u16(status).unwrap();
        world.origin.next(&path, Answer::fixed("page").max_age(1));
        world
            .origin
            .always(&path, Answer::fixed("refused").status(status));
        world.fill_and_expire(&path, 1).await;
        let is_old = |reply: &Reply| is_page(reply, "page");
        let replaces = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        if replaces {
            ask_until(&world, &path, is_old, |reply| reply.status == status).await;
            return;
        }
        // The entry outlives several failed refreshes.
        ask_until(&world, &path, is_old, |_| world.origin.count(&path) >= 4).await;
        let reply = get(world.node(0), &path).await;
        assert!(is_old(&reply), "{path}: {reply}");
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_sees_each_failure_and_that_the_origin_is_back() {
    let world = with("").await;
    let path = "/health";
    let error = Answer::fixed("sorry").status(StatusCode::SERVICE_UNAVAILABLE);
    // On a kept connection that ends without an answer, a GET is repeated once.
    let hang_ups = vec![Answer::hang_up(), Answer::hang_up()];
    let mut seen = 0;
    for failures in [vec![error.clone()], hang_ups, vec![error]] {
        seen += failures.len();
        for failure in failures {
            world.origin.next(path, failure);
        }
        let reply = get(world.node(0), path).await;
        assert!(reply.status.is_server_error(), "{reply}");
        assert_eq!(world.origin.count(path), seen, "{reply}");
    }
    world.origin.next(path, Answer::fixed("healthy"));
    let reply = get(world.node(0), path).await;
    assert!(is_page(&reply, "healthy"), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_error_is_shared_for_a_second() {
    let world = World::start(StoreKind::Exact).await;
    let cases = [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].map(async |status| {
        let (path, gate) = (format!("/silent/{}", status.as_u16()), Gate::closed());
        let (size, first) = (50, numbered(&path, 1));
        let refused = Answer::numbered().status(status);
        world.origin.always(&path, refused.gate(&gate));
        let crowd = Crowd::connect(&world.all(), size).await;
        let asked = Ask::get(&path);
        let asking = tokio::spawn(async move { crowd.ask(&asked).await });
        world.origin.until_count(&path, 1, wait::SOON).await;
        gate.open();
        for reply in asking.await.unwrap() {
            let reply = reply.unwrap();
            assert_eq!(reply.status, status, "{reply}");
            assert_eq!(reply.text(), first, "one answer for all: {reply}");
        }
        assert_eq!(world.origin.count(&path), 1, "{path}");
        // From then on one request a second.
        let began = Instant::now();
        let span = Duration::from_millis(2_500);
        wait::throughout("the error is told", span, async || {
            let replies = join_all(world.all().into_iter().map(|node| get(node, &path))).await;
            replies.iter().all(|reply| reply.status == status)
        })
        .await;
        let most = 2 + usize::try_from(began.elapsed().as_secs()).unwrap();
        let count = world.origin.count(&path);
        assert!((2..=most).contains(&count), "{path}: {count} requests");
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_can_name_a_text_that_makes_an_answer_a_failure() {
    let rule = r#"
[[rule]]
match = { path = "/graphql*" }
failure = { body_contains = "\"errors\":" }
"#;
    let world = with(rule).await;
    let (good, bad) = (r#"{"data":1}"#, r#"{"errors":[{"message":"busy"}]}"#);
    let failure = || Answer::fixed(bad).max_age(600);
    // A page that is stored outlives the failure.
    let path = "/graphql/stored";
    world
        .origin
        .next(path, Answer::fixed(r#"{"data":0}"#).max_age(1));
    for _ in 0..2 {
        world.origin.next(path, failure());
    }
    world.origin.always(path, Answer::fixed(good).max_age(600));
    world.fill_and_expire(path, 1).await;
    let is_old = |reply: &Reply| is_page(reply, r#"{"data":0}"#);
    ask_until(&world, path, is_old, |reply| is_page(reply, good)).await;
    assert_eq!(world.origin.count(path), 4);

    // Without one, the visitor gets the failure, and nobody gets it for long.
    let path = "/graphql/cold";
    world.origin.next(path, failure());
    world.origin.always(path, Answer::fixed(good).max_age(600));
    let first = ask(world.node(0), &Ask::get(path)).await;
    assert_eq!(first.text(), bad, "{first}");
    let fails =
        |reply: &Reply| reply.status == StatusCode::SERVICE_UNAVAILABLE || is_page(reply, bad);
    ask_until(&world, path, fails, |reply| is_page(reply, good)).await;
    assert_eq!(world.origin.count(path), 2);

    // The same where the origin compresses.
    let path = "/graphql/gzip";
    let failure = Answer::fixed(BAD_IN_GZIP).header("content-encoding", "gzip");
    world.origin.next(path, failure.max_age(600));
    world.origin.always(path, Answer::fixed(good).max_age(600));
    let browser = Ask::get(path).header("accept-encoding", "gzip");
    let first = ask(world.node(0), &browser).await;
    assert_eq!(first.header("content-encoding"), "gzip", "{first}");
    wait::until("the failure is not kept", wait::SOON, async || {
        let reply = ask(world.node(0), &browser).await;
        is_page(&reply, good).then_some(())
    })
    .await;
    assert_eq!(world.origin.count(path), 2);
}

/// `{"errors":[{"message":"busy"}]}` in gzip.
const BAD_IN_GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0xab, 0x56, 0x4a, 0x2d, 0x2a, 0xca,
    0x2f, 0x2a, 0x56, 0xb2, 0x8a, 0xae, 0x56, 0xca, 0x4d, 0x2d, 0x2e, 0x4e, 0x4c, 0x4f, 0x55, 0xb2,
    0x52, 0x4a, 0x2a, 0x2d, 0xae, 0x54, 0xaa, 0x8d, 0xad, 0x05, 0x00, 0x4c, 0xc2, 0xf6, 0x5a, 0x1f,
    0x00, 0x00, 0x00,
];

/// A page that was never stored, of an origin that hangs up: for people, for
/// programs, and for those who do not say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shields_own_errors_are_in_words_and_say_when_to_come_back() {
    let world = with("").await;
    world.origin.otherwise(Answer::hang_up());
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (path, accept, kind, begin) in [
        (
            "/html",
            browser,
            "text/html; charset=utf-8",
            "<!doctype html>",
        ),
        ("/json", "application/json", "application/json", "{"),
        ("/text", "*/*", "text/plain; charset=utf-8", "This page"),
    ] {
        let question = Ask::get(path).header("accept", accept);
        let passed = Ask::get(path)
            .header("accept", accept)
            .header("if-match", "\"a\"");
        let post = Ask::new(http::Method::POST, path).header("accept", accept);
        for (ask, status) in [(question, 503), (passed, 502), (post, 502)] {
            let reply = ask.to(world.node(0)).await.unwrap();
            assert_eq!(reply.status, status, "{path}: {reply}");
            assert_eq!(reply.header("content-type"), kind, "{path}: {reply}");
            assert_eq!(reply.header("cache-control"), "no-store");
            let seconds: u64 = reply.header("retry-after").parse().unwrap();
            assert!(seconds >= 1, "{reply}");
            let text = reply.text();
            assert!(text.starts_with(begin), "{text}");
            assert!(text.contains("try again in"), "{text}");
            assert_readable(&reply);
        }
    }
}

/// The visitor of an order form wants to know whether to send it again: when nothing
/// connects, when nothing is sent because of that, and when the origin has hung up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_was_not_sent_is_told_so() {
    let world = with("").await;
    let post = Ask::new(http::Method::POST, "/order").body("one");
    world.origin.next("/order", Answer::hang_up());
    let hung_up = ask(world.node(0), &post).await;
    assert!(hung_up.text().contains("not known whether"), "{hung_up}");
    assert!(!hung_up.header("cache-status").contains("not-sent"));
    world.origin.stop().await;
    wait::until("the breaker opens", wait::SOON, async || {
        let reply = ask(world.node(0), &post).await;
        assert!(reply.text().contains("was not sent to it"), "{reply}");
        let said = reply.header("cache-status").to_owned();
        assert!(said.contains(", not-sent\""), "{reply}");
        said.contains("breaker-open").then_some(())
    })
    .await;
    assert_eq!(world.origin.count("/order"), 1);
}

const FALLBACK: &str = r#"
[[rule]]
match = { path = "/api/*" }
fallback = { status = 200, content_type = "application/json", body = '{"quotes":[]}' }

[[rule]]
match = { path = "/sorry/*" }
fallback = { status = 503, content_type = "text/html", body = "<p>Soon</p>" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rules_fallback_is_served_where_nothing_stored_helps_and_is_not_stored() {
    let world = with(FALLBACK).await;
    let path = "/api/quotes";
    for _ in 0..2 {
        world.origin.next(path, Answer::hang_up());
    }
    world.origin.always(path, Answer::numbered().max_age(600));
    let is_fallback = |reply: &Reply| {
        reply.status == StatusCode::OK
            && reply.text() == "{\"quotes\":[]}"
            && reply.header("content-type") == "application/json"
            && reply.cache_status().value("detail") == Some("rule-fallback")
            && !reply.headers.contains_key("retry-after")
            && !reply.cache_status().has("stored")
    };
    let first = get(world.node(0), path).await;
    assert!(is_fallback(&first), "{first}");
    let head = Ask::new(http::Method::HEAD, path).to(world.node(0)).await;
    let head = head.unwrap();
    assert_eq!(
        (
            head.status,
            head.text().as_str(),
            head.header("content-length")
        ),
        (StatusCode::OK, "", "13"),
        "{head}"
    );
    // The rest of the site and other methods do not get it.
    world.origin.next("/other", Answer::hang_up());
    let other = get(world.node(0), "/other").await;
    assert_eq!(other.status, StatusCode::SERVICE_UNAVAILABLE, "{other}");
    world.origin.next("/api/post", Answer::hang_up());
    let post = Ask::new(http::Method::POST, "/api/post");
    let post = ask(world.node(0), &post).await;
    assert_eq!(post.status, StatusCode::BAD_GATEWAY, "{post}");
    world.origin.next("/sorry/a", Answer::hang_up());
    let sorry = get(world.node(0), "/sorry/a").await;
    assert_eq!(
        (sorry.status, sorry.text().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "<p>Soon</p>")
    );
    sorry.header("retry-after").parse::<u64>().unwrap();
    // The page itself, once the origin has it.
    let page = ask_until(&world, path, is_fallback, |reply| !is_fallback(reply)).await;
    assert_eq!(page.text(), numbered(path, 3), "{page}");
    ask_until(
        &world,
        path,
        |_| false,
        |reply| is_page(reply, &numbered(path, 3)),
    )
    .await;
}

const FALLBACK_FOR_ALL: &str = r#"
[fallback]
status = 200
content_type = "text/html"
body = "<p>Later</p>"

[[rule]]
match = { path = "/api/*" }
fallback = { status = 200, content_type = "application/json", body = "[]" }

[[rule]]
match = { path = "/plain/*" }
fallback = false
"#;

/// It is for the same requests as a rule's, on every path where no rule says otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_outside_rules_is_for_all_paths_but_those_of_rules_and_monitors() {
    let world = with(FALLBACK_FOR_ALL).await;
    world
        .origin
        .next("/kept", Answer::fixed("kept").etag("\"1\"").max_age(0));
    assert_eq!(get(world.node(0), "/kept").await.text(), "kept");
    world.origin.otherwise(Answer::hang_up());
    let own = StatusCode::SERVICE_UNAVAILABLE;
    for (path, status, body) in [
        ("/page", StatusCode::OK, Some("<p>Later</p>")),
        ("/api/quotes", StatusCode::OK, Some("[]")),
        ("/plain/page", own, None),
        ("/healthz", own, None),
        // What is stored is better.
        ("/kept", StatusCode::OK, Some("kept")),
    ] {
        let reply = get(world.node(0), path).await;
        assert_eq!(reply.status, status, "{path}: {reply}");
        match body {
            Some(body) => assert_eq!(reply.text(), body, "{path}: {reply}"),
            None => assert!(!reply.text().contains("Later"), "{path}: {reply}"),
        }
        let is_fallback = reply.cache_status().value("detail") == Some("rule-fallback");
        let expected = body.is_some_and(|body| body != "kept");
        assert_eq!(is_fallback, expected, "{path}: {reply}");
        if is_fallback {
            assert_eq!(reply.header("cache-control"), "no-store", "{path}: {reply}");
        }
    }
    // With credentials too, and not to other methods.
    let account = Ask::get("/account").header("cookie", "session=alice");
    let account = ask(world.node(0), &account).await;
    assert_eq!(account.text(), "<p>Later</p>", "{account}");
    let post = ask(world.node(0), &Ask::new(http::Method::POST, "/page")).await;
    assert!(post.status.is_server_error(), "{post}");
    assert!(!post.text().contains("Later"), "{post}");
}

/// It was an error of Leeward's own, 500, with a page in the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_http_does_not_have_is_a_failure_of_the_origin() {
    let world = World::single().await;
    let odd = Answer::fixed("odd").status(StatusCode::from_u16(999).unwrap());
    world
        .origin
        .next("/page", Answer::fixed("a page").etag("\"1\"").max_age(0));
    world.origin.otherwise(odd);
    get(world.node(0), "/page").await;
    let reply = get(world.node(0), "/page").await;
    assert_eq!(reply.status, StatusCode::OK, "{reply}");
    let reply = get(world.node(0), "/new").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply}");
    assert!(!reply.header("retry-after").is_empty(), "{reply}");
}
