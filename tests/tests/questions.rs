//! What the origin is asked on behalf of a visitor, and who gets the answer.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use http::{Method, StatusCode};
use leeward_tests::client::{Reply, ask, get};
use leeward_tests::origin::Seen;
use leeward_tests::{Answer, Ask, Settings, World, wait};

async fn with(more: &'static str) -> World {
    let settings = Settings {
        more,
        ..Settings::default()
    };
    World::single_with(settings, &[]).await
}

/// An answer that says which value of a field it was made for.
fn made_for(name: &'static str, more: fn(Answer) -> Answer) -> Answer {
    Answer::made_by(move |seen: &Seen| {
        let value = seen.header(name).unwrap_or_else(|| "nobody".to_owned());
        more(Answer::fixed(format!("for {value}")))
    })
}

/// Waits until the request is answered with this body by a fresh entry. Until
/// then, it has to be answered with this body as well.
async fn until_hit(world: &World, ask_for: &Ask, body: &str) -> Reply {
    wait::until("it is a hit", wait::SOON, async || {
        let reply = ask(world.node(0), ask_for).await;
        assert_eq!(reply.text(), body, "{reply}");
        reply.is_fresh_hit().then_some(reply)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_with_a_session_gets_the_shared_page_while_the_origin_is_down() {
    let world = with("").await;
    let path = "/page";
    world
        .origin
        .always(path, made_for("cookie", |answer| answer));
    let user = Ask::get(path).header("cookie", "session=1");
    let expect = async |body: &str, detail: Option<&str>| {
        let reply = ask(world.node(0), &user).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, body),
            "{reply}"
        );
        assert_eq!(reply.cache_status().value("detail"), detail, "{reply}");
    };
    until_hit(&world, &Ask::get(path), "for nobody").await;
    expect("for session=1", Some("credentials")).await;
    let error = Answer::fixed("sorry").status(StatusCode::BAD_GATEWAY);
    for failures in [vec![error], hang_ups()] {
        for failure in failures {
            world.origin.next(path, failure);
        }
        expect("for nobody", Some("fallback")).await;
        expect("for session=1", Some("credentials")).await;
    }
    world.origin.stop().await;
    expect("for nobody", Some("fallback")).await;
    // Where there is no page, the error is one that a browser application can read.
    let other = Ask::get("/other").header("cookie", "session=1");
    let reply = ask(world.node(0), &other).await;
    assert!(reply.status.is_server_error(), "{reply}");
    assert_eq!(reply.header("access-control-allow-origin"), "*", "{reply}");
    world.origin.recover();
    expect("for session=1", Some("credentials")).await;
}

/// A kept connection that ends without an answer: the request is repeated once, on a new
/// connection, and that ends as well.
fn hang_ups() -> Vec<Answer> {
    vec![Answer::hang_up(), Answer::hang_up()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_says_that_a_visitor_with_a_session_gets_the_origins_error() {
    let world = with("[[rule]]\nmatch = { path = \"/own\" }\norigin.pass_fallback = false").await;
    for (path, status) in [("/own", 502), ("/other", 200)] {
        let user = Ask::get(path).header("cookie", "session=1");
        world.origin.always(path, Answer::fixed("a page"));
        until_hit(&world, &Ask::get(path), "a page").await;
        let error = Answer::fixed("sorry").status(StatusCode::BAD_GATEWAY);
        world.origin.next(path, error);
        let reply = ask(world.node(0), &user).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {reply}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_make_sites_with_sessions_cacheable() {
    let rules = r#"
[[rule]]
match = { path = "/shop/*" }
ttl = "60s"
ignore_origin = ["private", "set-cookie"]
cookies = "ignore"

[[rule]]
match = { path = "/languages/*" }
cookies = { key = ["lang"] }

[[rule]]
match = { path = "/clients/*" }
credentials = "key"
"#;
    let world = with(rules).await;

    // ASP.NET: a session for every visitor, and `private` on every page.
    let path = "/shop/page";
    let aspnet = |answer: Answer| {
        answer
            .cache_control("private")
            .header("set-cookie", "ASP.NET_SessionId=new; HttpOnly")
    };
    world.origin.always(path, made_for("cookie", aspnet));
    let first = get(world.node(0), path).await;
    assert_eq!(first.text(), "for nobody", "{first}");
    for session in ["ASP.NET_SessionId=1", "ASP.NET_SessionId=2; cart=3"] {
        let asked = Ask::get(path).header("cookie", session);
        let hit = until_hit(&world, &asked, "for nobody").await;
        assert_eq!(hit.header("set-cookie"), "", "{hit}");
    }
    assert_eq!(world.origin.count(path), 1);

    let path = "/languages/page";
    world
        .origin
        .always(path, made_for("cookie", |answer| answer));
    for (cookie, body) in [
        ("lang=de; session=1", "for lang=de"),
        ("session=2; lang=en", "for lang=en"),
        ("lang=de; session=3", "for lang=de"),
        ("session=4", "for nobody"),
    ] {
        let asked = Ask::get(path).header("cookie", cookie);
        until_hit(&world, &asked, body).await;
    }
    assert_eq!(world.origin.count(path), 3);

    let path = "/clients/me";
    let private = |answer: Answer| answer.cache_control("private, max-age=600");
    world
        .origin
        .always(path, made_for("authorization", private));
    for client in ["Bearer a", "Bearer b", "Bearer a"] {
        let asked = Ask::get(path).header("authorization", client);
        until_hit(&world, &asked, &format!("for {client}")).await;
    }
    assert_eq!(world.origin.count(path), 2);
    // What belongs to no client is shared by nobody.
    for count in 3..=4 {
        assert_eq!(get(world.node(0), path).await.text(), "for nobody");
        assert_eq!(world.origin.count(path), count);
    }
}

/// Another session would end the one that the visitor has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_with_a_session_gets_no_other_where_cookies_are_ignored() {
    let rule = r#"
[[rule]]
match = { path = "/*" }
ttl = "60s"
ignore_origin = ["private", "set-cookie"]
cookies = "ignore"
"#;
    let world = with(rule).await;
    for (path, cookie, cookies) in [
        ("/first", None, vec!["session=new", "theme=dark"]),
        (
            "/analytics",
            Some("_ga=1"),
            vec!["session=new", "theme=dark"],
        ),
        ("/session", Some("a=b; session=1"), vec!["theme=dark"]),
    ] {
        let answer = Answer::fixed("page")
            .header("set-cookie", "session=new")
            .header("set-cookie", "theme=dark");
        world.origin.always(path, answer);
        let mut asked = Ask::get(path);
        if let Some(cookie) = cookie {
            asked = asked.header("cookie", cookie);
        }
        let reply = ask(world.node(0), &asked).await;
        let got: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
        assert_eq!(got, cookies, "{path}: {reply}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_the_moment_reach_the_visitor_who_caused_the_fetch_alone() {
    let world = with("").await;
    let momentary = [
        "x-ratelimit-remaining",
        "server-timing",
        "x-request-id",
        "retry-after",
    ];
    let answer = move |said: &'static str| {
        Answer::made_by(move |seen: &Seen| {
            let answer = Answer::fixed("page").etag("\"1\"").cache_control(said);
            momentary
                .into_iter()
                .fold(answer, |answer, name| {
                    answer.header(name, &seen.number.to_string())
                })
                .header("x-powered-by", "ASP.NET")
        })
    };
    let expect = |reply: &Reply, value: &str| {
        for name in momentary {
            assert_eq!(reply.header(name), value, "{name}: {reply}");
        }
        assert_eq!(reply.header("x-powered-by"), "ASP.NET", "{reply}");
    };
    let path = "/stored";
    world.origin.always(path, answer("max-age=600"));
    expect(&get(world.node(0), path).await, "1");
    let hit = until_hit(&world, &Ask::get(path), "page").await;
    expect(&hit, "");

    // With a 304 as well, which each visitor causes here.
    let path = "/validated";
    world.origin.always(path, answer("no-cache"));
    for number in 1..=3 {
        world.origin.until_count(path, number - 1, wait::SOON).await;
        let reply = get(world.node(0), path).await;
        assert_eq!(reply.text(), "page", "{reply}");
        expect(&reply, &number.to_string());
    }
    let last = world.origin.record(path).arrivals.pop().unwrap();
    assert_eq!(last.headers["if-none-match"], "\"1\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_are_configured_have_pages_of_their_own() {
    let world = with("[key]\nhosts = [\"a.example\", \"b.example\"]").await;
    let path = "/page";
    let by_host = |answer: Answer| answer.max_age(600);
    world
        .origin
        .always(path, made_for("x-forwarded-host", by_host));
    let of = |host: &str| Ask::get(path).header("host", host);
    for (host, body) in [
        ("a.example", "for a.example"),
        ("b.example", "for b.example"),
        ("A.example:80", "for a.example"),
    ] {
        until_hit(&world, &of(host), body).await;
    }
    assert_eq!(world.origin.count(path), 2);
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE] {
        let asked = Ask::new(method, path).header("host", "evil.example");
        let reply = ask(world.node(0), &asked).await;
        assert_eq!(reply.status, StatusCode::MISDIRECTED_REQUEST, "{reply}");
    }
    assert_eq!(world.origin.count(path), 2);

    // An unsafe request to one host invalidates that host's page alone, also where
    // it names the port that a visitor leaves out.
    for (host, scheme, count) in [("a.example", "http", 4), ("a.example:443", "https", 6)] {
        let post = Ask::new(Method::POST, path)
            .header("host", host)
            .header("x-forwarded-proto", scheme);
        ask(world.node(0), &post).await;
        assert!(ask(world.node(0), &of("b.example")).await.is_fresh_hit());
        let again = ask(world.node(0), &of("a.example")).await;
        assert!(!again.cache_status().has("hit"), "{again}");
        assert_eq!(world.origin.count(path), count);
        until_hit(&world, &of("a.example"), "for a.example").await;
    }
}
