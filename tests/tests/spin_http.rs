//! What the component does on hosts that treat HTTP as Spin does: it may not close its
//! connections to the origin, a connection that ended is a protocol error, and the fields of
//! a message have a limit. The embedded host imitates that, see `--http-behaviour`.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::HashSet;
use std::sync::Mutex;

use http::{Method, StatusCode};
use leeward_tests::client::get;
use leeward_tests::origin::{Answer, Seen};
use leeward_tests::{Ask, Reply, Settings, World, wait};

/// The arguments of a node on such a host, and on the embedded one.
const SPIN: &[&str] = &["--http-behaviour", "spin"];
const OWN: &[&str] = &[];

const ALICE: &str = "NTLM TlRMTVNTUAADAAAA";

/// What a log line says that a request was sent a second time.
const SENT_AGAIN: &str = "\"outcome\":\"sent-again\"";

async fn ask(world: &World, ask: &Ask) -> Reply {
    ask.to(world.node(0)).await.unwrap()
}

/// How many lines of the node's log have this text.
fn lines(world: &World, text: &str) -> usize {
    world
        .errors(0)
        .lines()
        .filter(|line| line.contains(text))
        .count()
}

/// Waits until the node's log has this text: it comes through a pipe.
async fn logged(world: &World, text: &str) {
    let what = format!("the log has {text}");
    wait::until(&what, wait::SOON, async || {
        (lines(world, text) > 0).then_some(())
    })
    .await;
}

/// An origin that takes everything on a connection for alice's once she has authenticated on
/// it, and asks others to do so, with these challenges.
fn ties_users_to_connections(world: &World, challenges: &'static [&'static str]) {
    let alices = Mutex::new(HashSet::new());
    let page = move |seen: &Seen| {
        let mut alices = alices.lock().unwrap();
        let authorization = seen.header("authorization").unwrap_or_default();
        if ["NTLM", "Negotiate"]
            .iter()
            .any(|it| authorization.starts_with(it))
        {
            alices.insert(seen.connection);
        }
        if alices.contains(&seen.connection) {
            return Answer::fixed("hello alice").cache_control("private");
        }
        if seen.target.contains("open") || authorization.starts_with("Basic") {
            return Answer::fixed("hello").cache_control("private");
        }
        let answer = Answer::fixed("who are you").status(StatusCode::UNAUTHORIZED);
        let challenges = challenges.iter();
        challenges.fold(answer, |answer, it| answer.header("www-authenticate", it))
    };
    world.origin.otherwise(Answer::made_by(page));
}

/// On Spin the field was refused and the error dropped: 20 of 20 visitors got alice's page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_inherits_an_identity_where_connections_cannot_be_closed() {
    let world = World::single_with(Settings::default(), SPIN).await;
    ties_users_to_connections(&world, &["Negotiate", "NTLM"]);
    for number in 0..3 {
        get(world.node(0), &format!("/open/before/{number}")).await;
    }
    for scheme in [ALICE, "Negotiate YIIB"] {
        let refused = [
            Ask::get("/me").header("authorization", scheme),
            Ask::get("/open/me").header("authorization", scheme),
            Ask::new(Method::HEAD, "/open/me").header("authorization", scheme),
            Ask::new(Method::POST, "/open/me")
                .header("authorization", scheme)
                .body("x"),
            // These are asked for credentials that they could not use.
            Ask::get("/me"),
            Ask::new(Method::POST, "/me").body("x"),
        ];
        for refused in refused {
            let reply = ask(&world, &refused).await;
            assert_eq!(reply.status, StatusCode::NOT_IMPLEMENTED, "{reply}");
            assert!(reply.header("www-authenticate").is_empty(), "{reply}");
            assert!(
                reply.header("cache-status").contains("connection-auth"),
                "{reply}"
            );
        }
        let reply = ask(&world, &Ask::get("/me").header("authorization", scheme)).await;
        assert!(
            reply.text().contains("NTLM and Negotiate are not served"),
            "{reply}"
        );
        for number in 0..10 {
            let reply = get(world.node(0), &format!("/open/after/{number}")).await;
            let got = (reply.status, reply.text());
            assert_eq!(got, (StatusCode::OK, "hello".to_owned()), "{reply}");
            let reply = get(world.node(0), &format!("/after/{number}")).await;
            assert_eq!(reply.status, StatusCode::NOT_IMPLEMENTED, "{reply}");
        }
    }
    for path in world.origin.paths() {
        for arrival in world.origin.record(&path).arrivals {
            assert!(!arrival.headers.contains_key("authorization"), "{path}");
        }
    }
    logged(&world, "origin.connection_auth = ").await;
    // Once for each instance, of which there may be a few.
    let logged = lines(&world, "connection-auth-refused");
    assert!((1..=5).contains(&logged), "{logged}: {}", world.errors(0));
}

/// Browsers take the first challenge that they know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_connections_cannot_be_closed_clients_are_offered_what_they_can_use() {
    let world = World::single_with(Settings::default(), SPIN).await;
    ties_users_to_connections(&world, &["Negotiate", "NTLM", "Basic realm=\"a\""]);
    let reply = get(world.node(0), "/me").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{reply}");
    assert_eq!(reply.header("www-authenticate"), "Basic realm=\"a\"");
    let bob = Ask::get("/me").header("authorization", "Basic Ym9iOmJvYg==");
    let reply = ask(&world, &bob).await;
    let got = (reply.status, reply.text());
    assert_eq!(got, (StatusCode::OK, "hello".to_owned()), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ntlm_goes_on_where_the_operator_says_that_the_origin_ties_nobody_to_a_connection() {
    let settings = Settings {
        connection_auth: Some("forward"),
        ..Settings::default()
    };
    let world = World::single_with(settings, SPIN).await;
    let page = |seen: &Seen| match seen.header("authorization") {
        Some(_) => Answer::fixed("hello alice").cache_control("private"),
        None => Answer::fixed("who are you")
            .status(StatusCode::UNAUTHORIZED)
            .header("www-authenticate", "NTLM"),
    };
    world.origin.otherwise(Answer::made_by(page));
    let reply = get(world.node(0), "/me").await;
    let got = (reply.status, reply.header("www-authenticate"));
    assert_eq!(got, (StatusCode::UNAUTHORIZED, "NTLM"), "{reply}");
    let reply = ask(&world, &Ask::get("/me").header("authorization", ALICE)).await;
    let got = (reply.status, reply.text());
    assert_eq!(got, (StatusCode::OK, "hello alice".to_owned()), "{reply}");
    assert_eq!(lines(&world, "connection-auth-refused"), 0);
}

/// Answers the first request on each connection, and ends the connection as the next one
/// comes: as a server does whose time for kept connections is over.
fn ends_kept_connections(world: &World) {
    let seen_before = Mutex::new(HashSet::new());
    let page = move |seen: &Seen| match seen_before.lock().unwrap().insert(seen.connection) {
        true => Answer::fixed("hello").max_age(600),
        false => Answer::hang_up(),
    };
    world.origin.otherwise(Answer::made_by(page));
}

/// On Spin 10 of 20 visitors of new pages got 503.
async fn a_get_whose_kept_connection_ends_is_sent_once_more(arguments: &[&str]) {
    let world = World::single_with(Settings::default(), arguments).await;
    ends_kept_connections(&world);
    for number in 0..20 {
        let reply = get(world.node(0), &format!("/{number}")).await;
        let got = (reply.status, reply.text());
        assert_eq!(got, (StatusCode::OK, "hello".to_owned()), "{reply}");
    }
    // One that is passed.
    for number in 0..4 {
        let path = format!("/passed/{number}");
        let reply = ask(&world, &Ask::get(&path).header("range", "items=0-3")).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
    // The log has each request that the origin got.
    let (pages, requests) = (24, world.origin.requests());
    wait::until("the log has all requests", wait::SOON, async || {
        let repeated = lines(&world, SENT_AGAIN);
        (repeated > 0 && pages + repeated == requests).then_some(())
    })
    .await;
    // Failures that a second request made up for are none: the breaker would be open.
    assert_eq!(
        lines(&world, "\"event\":\"breaker\""),
        0,
        "{}",
        world.errors(0)
    );
    // Nothing else is sent twice.
    let mut failed = 0;
    for number in 0..4 {
        let path = format!("/post/{number}");
        let reply = ask(&world, &Ask::new(Method::POST, &path).body("x")).await;
        failed += usize::from(reply.status == StatusCode::BAD_GATEWAY);
        assert_eq!(world.origin.count(&path), 1, "{reply}");
    }
    assert!(failed > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_whose_kept_connection_ends_is_sent_once_more_by_the_component() {
    a_get_whose_kept_connection_ends_is_sent_once_more(SPIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_whose_kept_connection_ends_is_sent_once_more_on_the_embedded_host() {
    a_get_whose_kept_connection_ends_is_sent_once_more(OWN).await;
}

/// One that ends in the same way a second time is not sent a third time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_is_sent_twice_at_most() {
    let world = World::single_with(Settings::default(), SPIN).await;
    world.origin.always("/dies", Answer::hang_up());
    let reply = get(world.node(0), "/dies").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply}");
    assert_eq!(world.origin.count("/dies"), 2);
    logged(&world, "\"outcome\":\"failed: ").await;
    assert_eq!(lines(&world, SENT_AGAIN), 1);
}

/// The second request has a token of the rate of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_that_is_sent_counts_in_the_rate() {
    let world = || {
        let settings = Settings {
            per_hour: Some(96),
            ..Settings::default()
        };
        World::single_with(settings, SPIN)
    };
    let until_the_rate_refuses = async |world: &World| {
        for number in 0..200 {
            let reply = get(world.node(0), &format!("/{number}")).await;
            // Where there is no token for the second request, the first one has failed.
            if reply.header("cache-status").contains("rate-used-up") {
                return world.origin.requests();
            }
        }
        panic!("the rate refused nothing");
    };
    let most = until_the_rate_refuses(&world().await).await;
    let world = world().await;
    ends_kept_connections(&world);
    let requests = until_the_rate_refuses(&world).await;
    logged(&world, SENT_AGAIN).await;
    assert!(requests <= most, "{requests} requests of at most {most}");
}

/// Above the limit the fields that did not fit were left out: `Set-Cookie` and
/// `Content-Security-Policy` among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_field_of_an_answer_is_left_out_because_the_host_refuses_it() {
    /// Bytes of each field: nine of them fit.
    const LENGTH: usize = 14_000;

    let with_fields = |fields: usize| {
        let names = [
            "x-1", "x-2", "x-3", "x-4", "x-5", "x-6", "x-7", "x-8", "x-9", "x-10",
        ];
        let first = Answer::fixed("hello").max_age(600);
        let all = names.into_iter().take(fields);
        let filled = all.fold(first, |answer, name| {
            answer.header(name, &"x".repeat(LENGTH))
        });
        filled.header("content-security-policy", "default-src 'self'")
    };
    let world = World::single_with(Settings::default(), SPIN).await;
    world.origin.always("/long", with_fields(10));
    world.origin.always("/short", with_fields(8));
    for (number, path) in ["/long", "/long", "/short", "/short"]
        .into_iter()
        .enumerate()
    {
        let reply = get(world.node(0), path).await;
        let policy = reply.header("content-security-policy");
        match path {
            "/long" => {
                assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{number}: {reply}");
                assert!(
                    reply.header("cache-status").contains("fields-refused"),
                    "{reply}"
                );
                // It is not stored.
                assert_eq!(world.origin.count(path), number + 1);
            }
            _ => {
                let got = (reply.status, policy, reply.header("x-8").len());
                assert_eq!(
                    got,
                    (StatusCode::OK, "default-src 'self'", LENGTH),
                    "{number}"
                );
            }
        }
    }
    let cause = "does not let the fields of the origin's answer through: `x-";
    logged(&world, cause).await;
    let log = world.errors(0);
    assert!(log.contains("of 14000 bytes"), "{log}");
    // A request with credentials is passed.
    let passed = Ask::get("/long").header("authorization", "Basic Ym9iOmJvYg==");
    let reply = ask(&world, &passed).await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{reply}");
    let reply = ask(&world, &Ask::new(Method::POST, "/long").body("x")).await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{reply}");
    // The origin works.
    assert_eq!(
        lines(&world, "\"event\":\"breaker\""),
        0,
        "{}",
        world.errors(0)
    );
}
