//! Visitors of one URL who ask different questions, at the same time or one after
//! another: sessions, variants, content, connections, and two shields on one store.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::join_all;
use futures::{StreamExt, stream};
use http::{Method, StatusCode};
use leeward_tests::client::{RawAsk, ask, get};
use leeward_tests::{Answer, Ask, Crowd, Gate, Reply, Seen, Settings, StoreKind, World, wait};

use super::look;

/// Makes two tests of a scenario, an `async fn(World)`: with one node that keeps its
/// store in memory, and with two nodes that share a file.
macro_rules! on_one_node_and_two {
    ($($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            use leeward_tests::{Settings, StoreKind, World};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn one_node() {
                super::$scenario(World::single_with(Settings::default(), &[]).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_nodes() {
                super::$scenario(World::start(StoreKind::Exact).await).await;
            }
        }
    )+};
}

on_one_node_and_two!(
    each_session_gets_its_own_page,
    a_set_cookie_reaches_one_visitor,
    a_get_with_content_is_forwarded_and_stores_nothing,
    an_odd_question_that_fails_leaves_the_plain_one_alone,
    a_post_invalidates_every_variant,
    an_encoding_reaches_only_those_who_accept_it,
    visitors_with_cookies_share_a_style_sheet,
    a_page_under_a_style_sheets_name_is_not_shared,
);

/// The answer, which is there.
fn whole(reply: Result<Reply>) -> Reply {
    reply.unwrap_or_else(|error| panic!("a visitor was not answered: {error:#}"))
}

/// Whom a page is made for: the cookie, or nobody.
fn made_for(seen: &Seen) -> String {
    let cookie = seen.header("cookie");
    format!("for {}", cookie.as_deref().unwrap_or("nobody"))
}

/// Sends all requests at once, to the nodes in turn. The gate opens when the origin
/// holds a request of each visitor, or after a while: most are meant to share one.
async fn at_once(world: &World, gate: &Gate, path: &str, asks: Vec<Ask>) -> Vec<Reply> {
    let size = asks.len();
    let crowd = Crowd::connect(&world.all(), size).await;
    let door = async {
        look(|| world.origin.record(path).in_flight == size).await;
        gate.open();
    };
    let (replies, ()) = futures::join!(crowd.ask_each(asks), door);
    replies.into_iter().map(whole).collect()
}

/// A page without explicit freshness, or with `private`, is not for everyone: a
/// visitor with a session gets the page of that session. The pages of all sessions
/// have the same `ETag`, as with IIS.
async fn each_session_gets_its_own_page(world: World) {
    for caching in ["", "no-cache", "private"] {
        let path = format!("/session/{caching}");
        let page = move |seen: &Seen| {
            let answer = Answer::fixed(made_for(seen)).etag("\"v1\"");
            match caching {
                "" => answer,
                _ => answer.cache_control(caching),
            }
        };
        let cookies: Vec<_> = (0..12).map(|number| format!("session={number}")).collect();
        let mut asks: Vec<_> = cookies
            .iter()
            .map(|cookie| Ask::get(&path).header("cookie", cookie))
            .collect();
        asks.extend([Ask::get(&path), Ask::get(&path)]);
        let mut expected: Vec<_> = cookies
            .iter()
            .map(|cookie| format!("for {cookie}"))
            .collect();
        expected.extend(["for nobody".to_owned(), "for nobody".to_owned()]);
        // Nothing is known at first, then what the first round left.
        for round in 1..=3 {
            let gate = Gate::closed();
            world
                .origin
                .always(&path, Answer::made_by(page).gate(&gate));
            let replies = at_once(&world, &gate, &path, asks.clone()).await;
            let pages: Vec<_> = replies.iter().map(Reply::text).collect();
            assert_eq!(pages, expected, "{caching:?}, round {round}");
        }
    }
}

/// A `Set-Cookie` goes to the visitor whose request caused the fetch and to nobody
/// else, on a 304 as well.
async fn a_set_cookie_reaches_one_visitor(world: World) {
    for (path, caching) in [
        ("/cookie/max-age", "public, max-age=1"),
        ("/cookie/no-cache", "public, no-cache"),
    ] {
        let page = move |seen: &Seen| {
            Answer::fixed("for all")
                .etag("\"v1\"")
                .cache_control(caching)
                .header("set-cookie", &format!("session={}; HttpOnly", seen.number))
        };
        let mut got: HashMap<String, usize> = HashMap::new();
        for round in 1..=3 {
            let gate = Gate::closed();
            world.origin.always(path, Answer::made_by(page).gate(&gate));
            let asks = vec![Ask::get(path); 20];
            for reply in at_once(&world, &gate, path, asks).await {
                assert_eq!(
                    (reply.status, reply.text().as_str()),
                    (StatusCode::OK, "for all")
                );
                for cookie in reply.headers.get_all("set-cookie") {
                    *got.entry(cookie.to_str().unwrap().to_owned()).or_default() += 1;
                }
            }
            if round == 1 {
                assert!(!got.is_empty(), "{caching}: nobody got the cookie");
            }
            wait::until_past(Instant::now() + Duration::from_secs(1)).await;
        }
        let shared: Vec<_> = got.iter().filter(|(_, visitors)| **visitors > 1).collect();
        assert!(
            shared.is_empty(),
            "{caching}: cookies of several visitors: {shared:?}"
        );
    }
}

/// A GET or HEAD with content is forwarded whole, with its content. It neither reads
/// nor writes cells, and other requests do not wait for it.
async fn a_get_with_content_is_forwarded_and_stores_nothing(world: World) {
    let head =
        |line: &str| format!("{line} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n");
    for caching in ["max-age=600", "private"] {
        for kind in ["length", "chunked", "head"] {
            let path = format!("/content/{kind}/{}", caching.split('=').next().unwrap());
            let other = format!("{path}/other");
            let gate = Gate::closed();
            let page = move |seen: &Seen| {
                let body = format!("made of {} bytes", seen.content.len());
                Answer::fixed(body).cache_control(caching)
            };
            world.origin.next(&path, Answer::made_by(page).gate(&gate));
            world.origin.always(&path, Answer::made_by(page));
            world.origin.always(&other, Answer::made_by(page));
            let with_content = RawAsk::new(match kind {
                "length" => head(&format!("GET {path}")) + "Content-Length: 5\r\n\r\nhello",
                "head" => head(&format!("HEAD {path}")) + "Content-Length: 5\r\n\r\nhello",
                _ => {
                    let framed = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
                    head(&format!("GET {path}")) + framed
                }
            });
            let first = world.node(0);
            let plain = async {
                world.origin.until_count(&path, 1, wait::SOON).await;
                // While the one with content waits for its answer, these do not.
                let asks = [Ask::get(&path), Ask::get(&other)];
                let replies = join_all(asks.iter().map(|ask| ask.to(*world.all().last().unwrap())));
                let replies = replies.await;
                gate.open();
                replies
            };
            let (answered, plain) = futures::join!(with_content.to(first), plain);
            let answered = answered.unwrap();
            assert_eq!(answered.status, 200, "{kind}, {caching}: {answered:?}");
            if kind != "head" {
                let body = String::from_utf8_lossy(&answered.body).into_owned();
                assert!(
                    body.contains("made of 5 bytes"),
                    "{kind}, {caching}: {body}"
                );
            }
            for reply in plain.into_iter().map(whole) {
                let got = (reply.status, reply.text());
                let expected = (StatusCode::OK, "made of 0 bytes".to_owned());
                assert_eq!(got, expected, "{kind}, {caching}");
            }
            for node in world.all() {
                assert_eq!(
                    get(node, &path).await.text(),
                    "made of 0 bytes",
                    "{kind}, {caching}"
                );
            }
            let record = world.origin.record(&path);
            assert_eq!(record.broken, 0, "{kind}, {caching}: content did not come");
            if caching != "private" {
                assert_eq!(record.count(), 2, "{kind}, {caching}");
            }
        }
    }
}

/// Each question has a retry mark of its own: the plain question is asked although
/// the odd one has just failed, and the other way round.
async fn an_odd_question_that_fails_leaves_the_plain_one_alone(world: World) {
    let question = |odd: bool, path: &str| {
        let ask = Ask::get(path);
        if odd { ask.header("x-odd", "1") } else { ask }
    };
    for odd_fails in [true, false] {
        for stale in [false, true] {
            let path = format!("/odd/{odd_fails}/{stale}");
            let page = move |seen: &Seen| {
                let odd = seen.headers.contains_key("x-odd");
                if odd == odd_fails {
                    return Answer::fixed("failed").status(StatusCode::INTERNAL_SERVER_ERROR);
                }
                let seconds = if stale && seen.number == 1 { 1 } else { 600 };
                Answer::fixed("page").max_age(seconds)
            };
            world.origin.always(&path, Answer::made_by(page));
            let (failing, good) = (question(odd_fails, &path), question(!odd_fails, &path));
            if stale {
                whole(good.to(world.node(0)).await);
                wait::until_past(Instant::now() + Duration::from_secs(1)).await;
            }
            let good_before = world.origin.count(&path);
            for node in world.all() {
                for _ in 0..3 {
                    let reply = whole(failing.to(node).await);
                    assert!(reply.status.is_server_error(), "{path}: {reply}");
                }
            }
            let failures = world.origin.count(&path) - good_before;
            for node in world.all() {
                let reply = whole(good.to(node).await);
                let got = (reply.status, reply.text());
                assert_eq!(got, (StatusCode::OK, "page".to_owned()), "{path}: {reply}");
                wait::until("the good page is fresh", wait::SOON, async || {
                    let reply = whole(good.to(node).await);
                    assert_eq!(reply.text(), "page", "{path}: {reply}");
                    reply.is_fresh_hit().then_some(())
                })
                .await;
            }
            let all = world.origin.count(&path);
            assert_eq!(all - failures, good_before + 1, "{path}: good questions");
        }
    }
}

/// An unsafe request invalidates the answers to every question of its URL.
async fn a_post_invalidates_every_variant(world: World) {
    let path = "/variants";
    let version = Arc::new(AtomicUsize::new(0));
    let page = {
        let version = Arc::clone(&version);
        move |seen: &Seen| {
            if seen.method == Method::POST {
                // Relaxed: requests that depend on it come after the answer.
                version.fetch_add(1, Ordering::Relaxed);
                return Answer::fixed("done").cache_control("no-store");
            }
            let header = |name| seen.header(name).unwrap_or_default();
            let kind = ["application/json", "text/html"]
                .into_iter()
                .find(|kind| header("accept").contains(kind));
            let zipped = header("accept-encoding").contains("gzip");
            let body = format!(
                "version {} {} {} {}",
                version.load(Ordering::Relaxed),
                kind.unwrap_or("any"),
                if zipped { "gzip" } else { "identity" },
                header("x-api-version"),
            );
            let answer = Answer::fixed(body)
                .max_age(600)
                .header("vary", "accept-encoding");
            if zipped {
                answer.header("content-encoding", "gzip")
            } else {
                answer
            }
        }
    };
    world.origin.always(path, Answer::made_by(page));
    let json = || Ask::get(path).header("accept", "application/json");
    let html = "text/html,application/xhtml+xml,*/*;q=0.8";
    let variants = [
        (Ask::get(path), "any identity "),
        (json(), "application/json identity "),
        (Ask::get(path).header("accept", html), "text/html identity "),
        (
            Ask::get(path).header("accept-encoding", "gzip"),
            "any gzip ",
        ),
        (
            Ask::get(path).header("x-api-version", "1"),
            "any identity 1",
        ),
        (
            Ask::get(path).header("x-api-version", "2"),
            "any identity 2",
        ),
        (
            json()
                .header("x-api-version", "2")
                .header("accept-encoding", "gzip"),
            "application/json gzip 2",
        ),
    ];
    for posts in 0..=2 {
        for node in world.all() {
            for (ask_for, own) in &variants {
                let expected = format!("version {posts} {own}");
                // The first answer after a POST has what was posted.
                assert_eq!(ask(node, ask_for).await.text(), expected, "{posts} posts");
                wait::until("the variant is fresh", wait::SOON, async || {
                    let reply = ask(node, ask_for).await;
                    assert_eq!(reply.text(), expected, "{reply}");
                    reply.is_fresh_hit().then_some(())
                })
                .await;
            }
        }
        let posted = ask(world.node(0), &Ask::new(Method::POST, path).body("x")).await;
        assert_eq!(posted.status, StatusCode::OK, "{posted}");
    }
}

/// Values of `Accept-Encoding`, and the codings that each accepts; empty for a
/// request without the field.
const ENCODINGS: [(&str, &[&str]); 8] = [
    ("", &[]),
    ("gzip", &["gzip"]),
    ("br", &["br"]),
    ("gzip;q=0", &[]),
    ("identity", &[]),
    ("gzip;q=0, br", &["br"]),
    ("gzip, deflate, br", &["gzip", "br"]),
    ("made-up", &[]),
];

/// An encoded answer goes only to visitors who accept its coding. That holds whether
/// or not the origin sends `Vary`, and if it encodes only some of its answers.
async fn an_encoding_reaches_only_those_who_accept_it(world: World) {
    let mut pages = Vec::new();
    for vary in [true, false] {
        for at_times in [false, true] {
            for first in ["", "gzip", "gzip, deflate, br"] {
                pages.push(expect_accepted_encodings(&world, vary, at_times, first));
            }
        }
    }
    join_all(pages).await;
}

/// The same of one page, for which the visitor who accepts `first` comes first.
async fn expect_accepted_encodings(world: &World, vary: bool, at_times: bool, first: &str) {
    let path = format!("/encoded/{vary}/{at_times}/{}", first.len());
    let page = move |seen: &Seen| {
        let accepted = seen.header("accept-encoding").unwrap_or_default();
        let encodes = !at_times || seen.number.is_multiple_of(2);
        let encoding = ["br", "gzip"].into_iter().find(|name| {
            encodes && accepted.contains(name) && !accepted.contains(&format!("{name};q=0"))
        });
        let mut answer = Answer::fixed(encoding.unwrap_or("identity")).max_age(1);
        if vary {
            answer = answer.header("vary", "Accept-Encoding");
        }
        match encoding {
            Some(encoding) => answer.header("content-encoding", encoding),
            None => answer,
        }
    };
    let question = |accept: &str| match accept {
        "" => Ask::get(&path),
        accept => Ask::get(&path).header("accept-encoding", accept),
    };
    world.origin.always(&path, Answer::made_by(page));
    for round in 1..=3 {
        whole(question(first).to(world.node(0)).await);
        let gate = Gate::closed();
        world
            .origin
            .always(&path, Answer::made_by(page).gate(&gate));
        let asks = ENCODINGS.iter().map(|(accept, _)| question(accept));
        let replies = at_once(world, &gate, &path, asks.collect()).await;
        for ((accept, accepted), reply) in ENCODINGS.iter().zip(replies) {
            let encoding = match reply.header("content-encoding") {
                "" => "identity",
                encoding => encoding,
            };
            let got = (reply.status, reply.text());
            assert_eq!(
                got,
                (StatusCode::OK, encoding.to_owned()),
                "{path}, round {round}, {accept:?}: {reply}"
            );
            assert!(
                encoding == "identity" || accepted.contains(&encoding),
                "{path}, round {round}: {encoding} for {accept:?}"
            );
        }
        wait::until_past(Instant::now() + Duration::from_secs(1)).await;
    }
}

/// NTLM and Negotiate authenticate a connection. A connection to the origin that
/// carried one of them, or a 401 that offers them, is not used for another request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_inherits_a_connections_identity() {
    /// Connections that must not be used again, and the targets of requests that
    /// came on one all the same.
    #[derive(Debug, Default)]
    struct Connections {
        alice: HashSet<usize>,
        offered: HashSet<usize>,
        reused: Vec<String>,
    }
    let world = World::single().await;
    let connections = Arc::new(Mutex::new(Connections::default()));
    let page = {
        let connections = Arc::clone(&connections);
        move |seen: &Seen| {
            let mut connections = connections.lock().unwrap();
            let known = connections.alice.contains(&seen.connection);
            if known || connections.offered.contains(&seen.connection) {
                connections.reused.push(seen.target.clone());
            }
            let authorization = seen.header("authorization").unwrap_or_default();
            if ["NTLM", "Negotiate"]
                .iter()
                .any(|scheme| authorization.starts_with(scheme))
            {
                connections.alice.insert(seen.connection);
            }
            if connections.alice.contains(&seen.connection) {
                return Answer::fixed("hello alice").cache_control("private");
            }
            if seen.target.contains("open") {
                return Answer::fixed("hello").cache_control("private");
            }
            connections.offered.insert(seen.connection);
            Answer::fixed("who are you")
                .status(StatusCode::UNAUTHORIZED)
                .header("www-authenticate", "Negotiate")
                .header("www-authenticate", "NTLM")
        }
    };
    world.origin.otherwise(Answer::made_by(page));
    for scheme in ["NTLM TlRMTVNTUAADAAAA", "Negotiate YIIB"] {
        let name = scheme.split(' ').next().unwrap();
        let alice = |path: &str| Ask::get(path).header("authorization", scheme);
        // Connections that the node may keep, then alice's.
        for number in 0..3 {
            get(world.node(0), &format!("/open/before/{name}/{number}")).await;
        }
        for path in ["/me", "/open/me"] {
            let reply = ask(world.node(0), &alice(path)).await;
            assert_eq!(
                (reply.status, reply.text().as_str()),
                (StatusCode::OK, "hello alice")
            );
        }
        let mut others = Vec::new();
        for number in 0..10 {
            others.push(Ask::get(&format!("/open/after/{name}/{number}")));
            others.push(Ask::get(&format!("/after/{name}/{number}")));
        }
        others.push(Ask::get("/me"));
        others.push(Ask::get("/open/me").header("cookie", "session=bob"));
        others.push(Ask::new(Method::POST, "/open/me").body("x"));
        others.push(Ask::get("/open/me").header("authorization", "Basic Ym9iOmJvYg=="));
        for other in &others {
            let reply = ask(world.node(0), other).await;
            assert!(!reply.text().contains("alice"), "{other:?} got {reply}");
        }
    }
    let reused = connections.lock().unwrap().reused.clone();
    assert!(
        reused.is_empty(),
        "connections of others carried {reused:?}"
    );
}

/// The question has no credentials, and an answer with explicit freshness is for
/// everyone. So a cold style sheet costs one request, however many visitors with a
/// session ask for it.
async fn visitors_with_cookies_share_a_style_sheet(world: World) {
    let (path, gate) = ("/style.css", Gate::closed());
    let sheet = |seen: &Seen| {
        Answer::fixed(made_for(seen))
            .max_age(60)
            .header("content-type", "text/css")
    };
    world
        .origin
        .always(path, Answer::made_by(sheet).gate(&gate));
    let asks = (0..30).map(|number| {
        let cookie = format!("ASP.NET_SessionId={number}; theme=dark");
        Ask::get(path).header("cookie", &cookie)
    });
    for reply in at_once(&world, &gate, path, asks.collect()).await {
        let got = (reply.status, reply.text());
        assert_eq!(got, (StatusCode::OK, "for nobody".to_owned()), "{reply}");
    }
    assert_eq!(world.origin.count(path), 1);
}

/// Web cache deception: the origin ignores the end of the path, `x.css`, and answers
/// with the page of the session.
async fn a_page_under_a_style_sheets_name_is_not_shared(world: World) {
    for caching in ["", "max-age=600"] {
        let path = format!("/account/{}/x.css", caching.len());
        let page = move |seen: &Seen| {
            let answer = Answer::fixed(made_for(seen)).header("content-type", "text/html");
            match caching {
                "" => answer,
                _ => answer.cache_control(caching),
            }
        };
        world.origin.always(&path, Answer::made_by(page));
        for round in 1..=2 {
            let victim = Ask::get(&path).header("cookie", "session=victim");
            ask(world.node(0), &victim).await;
            for node in world.all() {
                let reply = get(node, &path).await;
                assert_eq!(reply.text(), "for nobody", "{path}, round {round}: {reply}");
            }
        }
    }
}

/// Made-up values of an unknown field evict neither the plain page, nor variants that
/// were asked for more than once, nor entries of other URLs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_made_up_values_evicts_nothing_in_use() {
    let settings = Settings {
        more: "[limits]\nvariants = 8",
        ..Settings::default()
    };
    let world = World::start_with(StoreKind::Exact, settings).await;
    let (path, other) = ("/flooded", "/beside");
    let page = |seen: &Seen| {
        let version = seen.header("x-version").unwrap_or_default();
        Answer::fixed(format!("version {version}")).max_age(600)
    };
    world.origin.always(path, Answer::made_by(page));
    world.origin.always(other, Answer::made_by(page));
    let kept = [
        (Ask::get(path), "version "),
        (Ask::get(path).header("x-version", "1"), "version 1"),
        (Ask::get(path).header("x-version", "2"), "version 2"),
        (Ask::get(other), "version "),
        (Ask::get(other).header("x-version", "1"), "version 1"),
    ];
    let asked = |path: &str, junk: bool| {
        let arrivals = world.origin.record(path).arrivals.into_iter();
        arrivals
            .filter(|arrival| arrival.headers.contains_key("x-junk") == junk)
            .count()
    };
    for (ask_for, body) in &kept {
        for node in world.all() {
            for _ in 0..3 {
                wait::until("the variant is fresh", wait::SOON, async || {
                    let reply = ask(node, ask_for).await;
                    assert_eq!(reply.text(), *body, "{reply}");
                    reply.is_fresh_hit().then_some(())
                })
                .await;
            }
        }
    }
    assert_eq!((asked(path, false), asked(other, false)), (3, 2));
    for flood in 0..3 {
        let junk: Vec<_> = (0..40)
            .map(|number| Ask::get(path).header("x-junk", &format!("{flood}-{number}")))
            .collect();
        let answered = stream::iter(&junk)
            .map(|junk| junk.to(world.node(0)))
            .buffer_unordered(8)
            .collect::<Vec<_>>();
        for reply in answered.await.into_iter().map(whole) {
            assert_eq!(reply.text(), "version ", "{reply}");
        }
        for node in world.all() {
            for (ask_for, body) in &kept {
                let reply = ask(node, ask_for).await;
                assert!(
                    reply.is_fresh_hit() && reply.text() == *body,
                    "after flood {flood}, {ask_for:?} on {node}: {reply}"
                );
            }
        }
    }
    assert_eq!((asked(path, false), asked(other, false)), (3, 2));
    let junk = asked(path, true);
    assert!(junk <= 2 * 3 * 40, "{junk} requests for 120 questions");
}

/// The origin is part of the question: a shield neither serves nor invalidates what a
/// shield with another origin has put into the same store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shields_with_different_origins_share_no_pages() {
    let one = World::start(StoreKind::Exact).await;
    let other = one.beside().await;
    let worlds = [(&one, "one"), (&other, "other")];
    let page = |name: &'static str, seconds: u32| {
        Answer::fixed(format!("the page of {name}"))
            .etag("\"v1\"")
            .max_age(seconds)
    };
    for (path, caching) in [
        ("/fresh", "fresh"),
        ("/stale", "stale"),
        ("/private", "private"),
    ] {
        for (world, name) in worlds {
            match caching {
                "stale" => world.origin.next(path, page(name, 1)),
                "private" => {
                    let own = Answer::fixed(format!("the page of {name}"));
                    world.origin.always(path, own.cache_control("private"));
                    continue;
                }
                _ => {}
            }
            world.origin.always(path, page(name, 600));
        }
        for round in 1..=3 {
            for (world, name) in worlds {
                for node in world.all() {
                    let reply = get(node, path).await;
                    let expected = format!("the page of {name}");
                    assert_eq!(reply.text(), expected, "{path}, round {round}: {reply}");
                }
            }
            if caching == "stale" && round == 1 {
                wait::until_past(Instant::now() + Duration::from_secs(1)).await;
            }
        }
    }
    let path = "/fresh";
    for (world, name) in worlds {
        let body = format!("the page of {name}");
        world.until_fresh(&world.all(), path, &body).await;
        assert_eq!(world.origin.count(path), 1, "{name}");
    }
    other.origin.next(path, Answer::fixed("done"));
    let posted = ask(other.node(0), &Ask::new(Method::POST, path).body("x")).await;
    assert_eq!(posted.text(), "done");
    for node in one.all() {
        assert!(
            get(node, path).await.is_fresh_hit(),
            "invalidated by another's POST"
        );
    }
    assert_eq!(get(other.node(0), path).await.text(), "the page of other");
    assert_eq!((one.origin.count(path), other.origin.count(path)), (1, 3));
}
