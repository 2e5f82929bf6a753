//! Do no harm: the origin gets no more than its visitors sent, and what worked without the
//! shield works with it.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use http::{Method, StatusCode};
use leeward_tests::client::{Reply, ask, get};
use leeward_tests::{Answer, Ask, Gate, Settings, StoreKind, World, wait};

async fn with(more: &'static str) -> World {
    let settings = Settings {
        more,
        ..Settings::default()
    };
    World::single_with(settings, &[]).await
}

/// What a visitor with this session gets.
async fn visit(world: &World, path: &str, session: &str) -> Reply {
    let cookie = format!("ASP.NET_SessionId={session}");
    ask(world.node(0), &Ask::get(path).header("cookie", &cookie)).await
}

fn private() -> Answer {
    Answer::echo().cache_control("private")
}

fn public() -> Answer {
    Answer::numbered().cache_control("public, max-age=600")
}

/// Fifty private pages cost a hundred requests, and twenty missing ones forty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_and_missing_pages_cost_one_request_each() {
    let world = with("").await;
    let missing = Answer::fixed("no such page").status(StatusCode::NOT_FOUND);
    let login = Answer::fixed("log in")
        .status(StatusCode::FOUND)
        .header("location", "/login");
    for (area, answer, pages) in [
        ("account", private(), 50),
        ("missing", missing, 20),
        ("members", login, 20),
        ("silent", Answer::numbered(), 20),
    ] {
        for number in 0..pages {
            let path = format!("/{area}/{number}");
            world.origin.always(&path, answer.clone());
            visit(&world, &path, "a").await;
            assert_eq!(world.origin.count(&path), 1, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_among_private_and_public_pages_costs_a_tenth_more_at_most() {
    let world = with("").await;
    let mut visits = 0;
    for number in 0..50 {
        for (area, answer) in [("mine", private()), ("all", public())] {
            // In areas of their own, and mixed in one.
            for path in [
                format!("/{area}/{number}"),
                format!("/mixed/{area}-{number}"),
            ] {
                world.origin.always(&path, answer.clone());
                visit(&world, &path, "a").await;
                visits += 1;
            }
        }
    }
    let requests = world.origin.requests();
    assert!(requests <= visits * 11 / 10, "{requests} for {visits}");
    // What is for everyone is stored for the others.
    for session in ["b", "c", "d"] {
        for number in 0..50 {
            visit(&world, &format!("/all/{number}"), session).await;
        }
    }
    let more = world.origin.requests() - requests;
    let log = world.errors(0);
    assert!(
        more <= 50,
        "{more} for three visitors of fifty pages: {log}"
    );
}

/// Each instance sent a visitor of its own to the origin before it asked the question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_a_page_is_for_everyone_is_known_to_other_nodes() {
    let world = World::of(StoreKind::Exact, 2, Settings::default()).await;
    world.origin.always("/goods/1", public());
    let visited = async |node, session: &str| {
        let cookie = format!("ASP.NET_SessionId={session}");
        let visitor = Ask::get("/goods/1").header("cookie", &cookie);
        ask(world.node(node), &visitor).await;
        world.origin.count("/goods/1")
    };
    assert_eq!(visited(0, "a").await, 1);
    wait::until("the store keeps it", wait::SOON, async || {
        (!world.store.cells().is_empty()).then_some(())
    })
    .await;
    assert_eq!(visited(1, "b").await, 2);
    wait::until("the page is stored", wait::SOON, async || {
        let reply = get(world.node(0), "/goods/1").await;
        reply.is_fresh_hit().then_some(())
    })
    .await;
    for (node, session) in [(0, "a"), (0, "c"), (1, "d")] {
        assert_eq!(visited(node, session).await, 2, "{session} on node {node}");
    }
}

/// What the question brought was no answer to a visitor with a session, who got 504.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_fails_keeps_nobody_with_a_session_from_the_origin() {
    let world = with("").await;
    // The extension of a static file: the question goes first.
    let page = Answer::made_by(|seen| match seen.header("cookie") {
        Some(_) => Answer::fixed("yours").cache_control("private"),
        None => Answer::hang_up(),
    });
    world.origin.always("/report/a.svg", page);
    let reply = visit(&world, "/report/a.svg", "a").await;
    assert_eq!(reply.text(), "yours", "{reply}");
}

/// A scout goes as its visitor: whatever the origin says, its answer is nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_scout_brings_reaches_nobody_else() {
    let world = with("").await;
    for said in [
        "public, max-age=600",
        "max-age=600",
        "private",
        "no-cache",
        "",
    ] {
        let path = format!("/scouted-{}/page", said.len());
        let page = Answer::made_by(move |seen| {
            let whose = seen.header("cookie").unwrap_or("nobody".to_owned());
            Answer::fixed(whose).cache_control(said)
        });
        world.origin.always(&path, page);
        let own = visit(&world, &path, "a").await;
        assert_eq!(own.text(), "ASP.NET_SessionId=a", "{said}: {own}");
        for _ in 0..2 {
            let nobody = get(world.node(0), &path).await;
            assert_eq!(nobody.text(), "nobody", "{said}: {nobody}");
            let other = visit(&world, &path, "b").await.text();
            let may_have = ["nobody", "ASP.NET_SessionId=b"];
            assert!(may_have.contains(&other.as_str()), "{said}: {other}");
        }
    }
}

const SLOW: &str = r#"
[[rule]]
match = { path = "/slow/*" }
origin.first_byte_timeout = "300ms"
"#;

/// It was 503 for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_page_is_answered_and_stored_while_the_origin_answers_others() {
    let world = with(SLOW).await;
    let gate = Gate::closed();
    world.origin.otherwise(Answer::numbered().max_age(600));
    let slow = Answer::numbered().max_age(600).gate(&gate);
    world.origin.always("/slow/report", slow);
    let node = world.node(0);
    let asking = tokio::spawn(async move { get(node, "/slow/report").await });
    world
        .origin
        .until_count("/slow/report", 1, wait::SOON)
        .await;
    // Long after its timeout.
    for number in 0..40 {
        let reply = get(node, &format!("/other/{number}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    gate.open();
    let reply = asking.await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{reply}");
    wait::until("the slow page is stored", wait::SOON, async || {
        let reply = get(node, "/slow/report").await;
        reply.is_fresh_hit().then_some(())
    })
    .await;
    assert_eq!(world.origin.count("/slow/report"), 1);
}

/// An origin that answers nobody is given up as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_hangs_is_not_taken_for_a_slow_page() {
    let world = with(SLOW).await;
    let gate = Gate::closed();
    let hangs = Answer::numbered().max_age(600).gate(&gate);
    world.origin.always("/slow/report", hangs);
    let reply = get(world.node(0), "/slow/report").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply}");
    gate.open();
}

/// Two dozen long polls kept others out of accounts and new pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_polls_keep_nobody_else_out() {
    let settings = Settings {
        budget: Some(4),
        ..Settings::default()
    };
    let world = World::single_with(settings, &[]).await;
    let node = world.node(0);
    world.origin.otherwise(Answer::numbered().max_age(600));
    let gate = Gate::closed();
    let poll = Answer::numbered().cache_control("no-cache").gate(&gate);
    world.origin.always("/signalr/poll", poll);
    let mut polls = Vec::new();
    for number in 0..12 {
        let path = format!("/signalr/poll?transport=longPolling&connectionToken={number}");
        polls.push(tokio::spawn(async move { get(node, &path).await }));
    }
    world
        .origin
        .until_count("/signalr/poll", 12, wait::SOON)
        .await;
    let page = get(node, "/new").await;
    assert_eq!(page.status, StatusCode::OK, "{page}");
    let account = visit(&world, "/account", "a").await;
    assert_eq!(account.status, StatusCode::OK, "{account}");
    gate.open();
    for poll in polls {
        let reply = poll.await.unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
}

/// A page that a tool had fetched was 503 for a browser.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_a_tool_has_fetched_helps_a_browser_while_the_origin_is_down() {
    let world = with("").await;
    let page = Answer::fixed("<p>page").header("content-type", "text/html; charset=utf-8");
    world.origin.otherwise(page.max_age(600));
    let node = world.node(0);
    let tool = ask(node, &Ask::get("/page").header("accept", "*/*")).await;
    assert_eq!(tool.status, StatusCode::OK, "{tool}");
    world.origin.crash();
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let browser = Ask::get("/page").header("accept", accept);
    let reply = ask(
        node,
        &browser.header("accept-encoding", "gzip, deflate, br"),
    )
    .await;
    assert_eq!(reply.text(), "<p>page", "{reply}");
    assert_eq!(reply.cache_status().value("detail"), Some("fallback"));
    // It wants nothing else.
    let script = Ask::get("/page").header("accept", "application/json");
    let reply = ask(node, &script).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply}");
    // A field that nobody knows may have chosen the page.
    let other = Ask::get("/page").header("x-tenant", "b");
    let reply = ask(node, &other).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply}");
}

/// One visitor's postbacks sent each GET of the page to the origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_says_what_a_post_does_to_its_page_and_which_pages_are_never_stored() {
    let world = with(
        r#"
[[rule]]
match = { path = "/never/*" }
pass = true
[[rule]]
match = { path = "/form", method = "POST" }
invalidate = false
[[rule]]
match = { path = "/list", method = "POST" }
invalidate = "refresh"
"#,
    )
    .await;
    world.origin.otherwise(Answer::numbered().max_age(600));
    let node = world.node(0);
    for _ in 0..2 {
        get(node, "/never/page").await;
    }
    assert_eq!(world.origin.count("/never/page"), 2);
    for path in ["/form", "/list", "/plain"] {
        get(node, path).await;
        ask(node, &Ask::new(Method::POST, path).body("x")).await;
    }
    let form = get(node, "/form").await;
    assert!(form.is_fresh_hit(), "{form}");
    let list = get(node, "/list").await;
    assert_eq!(list.cache_status().value("detail"), Some("stale"), "{list}");
    wait::until("the list is refreshed", wait::SOON, async || {
        get(node, "/list").await.is_fresh_hit().then_some(())
    })
    .await;
    let plain = get(node, "/plain").await;
    assert!(!plain.is_fresh_hit(), "{plain}");
}
