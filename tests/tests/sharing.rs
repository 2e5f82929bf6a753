//! Whom an answer is for: nobody gets what was made for another visitor, and a refusal to
//! one is none to others.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use futures::future::join;
use http::StatusCode;
use leeward_tests::client::{Crowd, ask, get};
use leeward_tests::origin::{Seen, numbered};
use leeward_tests::{Answer, Ask, Gate, Settings, World, wait};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long the origin takes, so that visitors who come at once wait for each other.
const TAKES: Duration = Duration::from_millis(200);

async fn with(more: &'static str) -> World {
    let settings = Settings {
        more,
        ..Settings::default()
    };
    World::single_with(settings, &[]).await
}

/// The bodies of what `size` visitors get who ask at once, each with status 200.
async fn at_once(world: &World, path: &str, size: usize) -> Vec<String> {
    let crowd = Crowd::connect(&world.all(), size).await;
    let replies = crowd.ask(&Ask::get(path)).await.into_iter();
    replies
        .map(|reply| {
            let reply = reply.unwrap();
            assert_eq!(reply.status, StatusCode::OK, "{path}: {reply}");
            reply.text()
        })
        .collect()
}

fn different(bodies: &[String]) -> usize {
    bodies.iter().collect::<BTreeSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_visitor_gets_a_token_of_its_own() {
    let world = with("").await;
    for (name, field, said) in [
        ("no-cache", "cache-control", "no-cache"),
        ("zero", "cache-control", "max-age=0"),
        ("public", "cache-control", "public, max-age=0"),
        ("shared", "cache-control", "s-maxage=0, max-age=600"),
        ("expires", "expires", "-1"),
        ("pragma", "pragma", "no-cache"),
        ("semicolons", "cache-control", "no-cache; private; no-store"),
        ("spaces", "cache-control", "no-store no-cache"),
        ("both", "cache-control", "private;max-age=0"),
        ("lifetime", "cache-control", "private; max-age=600"),
        ("quote", "cache-control", "max-age=600, x=\"y, private"),
    ] {
        for has_validator in [false, true] {
            let path = format!("/token/{name}/{has_validator}");
            let token = Answer::made_by(move |seen: &Seen| {
                let body = format!("token {}", seen.number);
                let answer = Answer::fixed(body.clone()).header(field, said).takes(TAKES);
                match has_validator {
                    true => answer.etag(&format!("\"{body}\"")),
                    false => answer,
                }
            });
            world.origin.always(&path, token);
            let mut bodies = at_once(&world, &path, 6).await;
            for _ in 0..3 {
                bodies.push(get(world.node(0), &path).await.text());
            }
            assert_eq!(different(&bodies), 9, "{path}: {bodies:?}");
        }
    }
}

/// A page that has to be validated and does not change is no burden.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_304_serves_all_that_waited_for_it() {
    let world = with("").await;
    for said in ["no-cache", "max-age=0", "public, max-age=0"] {
        let path = format!("/page/{}", said.replace([' ', ','], "-"));
        let page = Answer::fixed("page").etag("\"1\"").cache_control(said);
        world.origin.always(&path, page.takes(2 * TAKES));
        let bodies = at_once(&world, &path, 60).await;
        assert_eq!(different(&bodies), 1);
        // Those that come too late for one exchange wait for the next.
        let count = world.origin.count(&path);
        assert!(count <= 20, "{said}: {count}");
        let last = world.origin.record(&path).arrivals.pop().unwrap();
        assert_eq!(last.headers["if-none-match"], "\"1\"");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_validated_each_time_is_there_if_the_origin_fails() {
    let world = with("").await;
    let path = "/page";
    let page = Answer::numbered().etag("\"1\"").cache_control("max-age=0");
    world.origin.next(path, page);
    world
        .origin
        .always(path, Answer::fixed("").status(StatusCode::BAD_GATEWAY));
    let first = get(world.node(0), path).await;
    assert_eq!(first.text(), numbered(path, 1), "{first}");
    wait::until("it is served on error", wait::SOON, async || {
        let reply = get(world.node(0), path).await;
        (reply.text() == numbered(path, 1)).then_some(())
    })
    .await;
    assert!(world.origin.count(path) >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_shares_what_states_a_lifetime_of_zero() {
    let world = with(
        "[[rule]]\nmatch = { path = \"/window\" }\nfreshness.stale_while_revalidate = \"1h\"\n\
         [[rule]]\nmatch = { path = \"/ignored\" }\nignore_origin = [\"no-cache\"]\n",
    )
    .await;
    for (path, shared) in [("/window", true), ("/ignored", true), ("/other", false)] {
        let answer = Answer::numbered().cache_control("max-age=0");
        world.origin.always(path, answer);
        get(world.node(0), path).await;
        if shared {
            wait::until("it is served at once", wait::SOON, async || {
                let reply = get(world.node(0), path).await;
                reply.cache_status().has("hit").then_some(())
            })
            .await;
        } else {
            for number in 2..=4 {
                let reply = get(world.node(0), path).await;
                assert_eq!(reply.text(), numbered(path, number), "{reply}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_without_a_password_does_not_lock_out_those_with_one() {
    let world = with("").await;
    let known = |seen: &Seen| seen.header("authorization").or(seen.header("cookie"));
    for (status, said) in [
        (401, "max-age=1"),
        (401, "public, max-age=600"),
        (403, "s-maxage=600"),
        (404, "public, max-age=600"),
        (407, "max-age=600"),
        (302, "public, max-age=600"),
        (303, ""),
        (410, "max-age=600"),
        (429, "public, max-age=600"),
        (503, "public, max-age=600"),
    ] {
        let path = format!("/{status}/{}", said.len());
        let status = StatusCode::from_u16(status).unwrap();
        let guarded = Answer::made_by(move |seen: &Seen| match known(seen) {
            Some(who) => Answer::fixed(who).cache_control("private"),
            None => {
                let refused = Answer::fixed("no").status(status);
                let refused = match said {
                    "" => refused,
                    said => refused.cache_control(said),
                };
                refused.header("location", "/login")
            }
        });
        world.origin.always(&path, guarded);
        let anonymous = Ask::get(&path);
        for (name, value) in [
            ("authorization", "Basic YTpi"),
            ("cookie", "session=1"),
            ("authorization", "Bearer x"),
        ] {
            let refused = ask(world.node(0), &anonymous).await;
            assert_ne!(refused.status, StatusCode::OK, "{refused}");
            let valid = ask(world.node(0), &anonymous.clone().header(name, value)).await;
            let got = (valid.status, valid.text());
            assert_eq!(got, (StatusCode::OK, value.to_owned()), "{path}: {valid}");
        }
    }
}

/// The refusal is not what they get when the origin fails either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_no_fallback_for_those_with_a_password() {
    let world = with("").await;
    let path = "/guarded";
    let guarded = Answer::made_by(|seen: &Seen| match seen.header("authorization") {
        Some(_) => Answer::fixed("down").status(StatusCode::BAD_GATEWAY),
        None => Answer::fixed("no")
            .status(StatusCode::UNAUTHORIZED)
            .max_age(600),
    });
    world.origin.always(path, guarded);
    let refused = get(world.node(0), path).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused}");
    let valid = Ask::get(path).header("authorization", "Basic YTpi");
    let reply = ask(world.node(0), &valid).await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_a_redirect_is_for_one_visitor() {
    let world = with("").await;
    for status in [201, 202, 302, 303, 307] {
        let path = format!("/{status}");
        let status = StatusCode::from_u16(status).unwrap();
        let moved = Answer::made_by(move |seen: &Seen| {
            Answer::fixed("")
                .status(status)
                .header("location", &format!("/shop;jsessionid={}", seen.number))
                .takes(TAKES)
        });
        world.origin.always(&path, moved);
        let crowd = Crowd::connect(&world.all(), 6).await;
        let mut replies = crowd.ask(&Ask::get(&path)).await;
        for _ in 0..2 {
            replies.push(Ask::get(&path).to(world.node(0)).await);
        }
        let sessions: BTreeSet<String> = replies
            .into_iter()
            .map(|reply| {
                let reply = reply.unwrap();
                assert_eq!(reply.status, status, "{reply}");
                reply.header("location").to_owned()
            })
            .collect();
        assert_eq!(sessions.len(), 8, "{path}: {sessions:?}");
    }
}

/// An origin that chooses by a parameter of `Accept`, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_gets_the_version_that_it_asked_for_by_accept() {
    let world = with("").await;
    let path = "/api/products";
    let negotiated = Answer::made_by(|seen: &Seen| {
        Answer::fixed(seen.header("accept").unwrap_or_else(|| "none".to_owned()))
            .header("vary", "Accept")
            .max_age(600)
    });
    world.origin.always(path, negotiated);
    let accepted = [
        "application/json;v=1.0",
        "application/json; v=2.0",
        "application/json;odata=verbose",
        "application/json",
        "image/webp",
        "image/avif,image/webp",
        "application/ld+json; profile=\"https://example.org/a,b\"",
    ];
    for accept in accepted {
        let asked = Ask::get(path).header("accept", accept);
        for _ in 0..2 {
            let reply = ask(world.node(0), &asked).await;
            assert_eq!(reply.text(), accept, "{reply}");
        }
    }
    let none = get(world.node(0), path).await;
    assert_eq!(none.text(), "none", "{none}");
    // Each is stored for others: one request each, and one more for the class that was
    // asked for before the first answer came.
    let count = world.origin.count(path);
    assert!(count <= accepted.len() + 2, "{count}");
    for accept in accepted {
        let asked = Ask::get(path).header("accept", accept);
        wait::until("it is a hit", wait::SOON, async || {
            let reply = ask(world.node(0), &asked).await;
            assert_eq!(reply.text(), accept, "{reply}");
            reply.is_fresh_hit().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_reaches_the_origin_as_it_came() {
    let world = with("").await;
    let echo = Answer::made_by(|seen: &Seen| Answer::fixed(seen.target.clone()).max_age(600));
    world.origin.otherwise(echo);
    for target in [
        "/list?OpenView&Start=1&Count=30",
        "/list?sort=b&sort=a&sort=b",
        "/list?b=2&a=1",
        "/list?",
        "/list?&",
        "/list?a=&&b",
        "/list?a&a=",
        "/list?;b;a",
        "/list?z=1&A=2&a=3",
        "/list?a=1?b=2",
    ] {
        for method in [http::Method::GET, http::Method::POST] {
            let reply = ask(world.node(0), &Ask::new(method, target)).await;
            assert_eq!(reply.text(), target, "{reply}");
        }
    }
    assert_eq!(world.origin.count("/list"), 20);
}

/// Starts `size` visitors, and answers none of them before all have reached the origin.
async fn expect_side_by_side(world: &World, path: &str, size: usize, answer: &Answer) {
    let gate = Gate::closed();
    world.origin.always(path, answer.clone().gate(&gate));
    let before = world.origin.count(path);
    let crowd = Crowd::connect(&world.all(), size).await;
    let ask = Ask::get(path);
    let (replies, ()) = join(crowd.ask(&ask), async {
        let all = before + size;
        world.origin.until_count(path, all, wait::SOON).await;
        gate.open();
    })
    .await;
    for reply in replies {
        let reply = reply.unwrap();
        assert!(reply.status.is_success(), "{path}: {reply}");
    }
}

/// A part that nobody asked for serves no question: visitors waited for each other's, one
/// after the other, and the last got 503.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_of_a_part_that_nobody_asked_for_do_not_queue() {
    let world = with("").await;
    let part = Answer::fixed("first page")
        .status(StatusCode::PARTIAL_CONTENT)
        .header("content-range", "items 0-9/95");
    world.origin.always("/list", part.clone());
    let first = get(world.node(0), "/list").await;
    assert_eq!(first.status, StatusCode::PARTIAL_CONTENT, "{first}");
    expect_side_by_side(&world, "/list", 8, &part).await;
}
