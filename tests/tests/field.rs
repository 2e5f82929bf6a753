//! What people were hurt by when a cache stood in front of their servers: redirects
//! to an address that visitors cannot reach, clocks that are slow, monitors that see
//! the cache, editors that read what they have just changed.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use leeward_tests::client::{ask, get};
use leeward_tests::nodes;
use leeward_tests::origin::numbered;
use leeward_tests::{Answer, Ask, Node, Settings, World, wait};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

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
    let prefixed = below_a_path(&world).await;
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

/// A node in front of the world's origin, below the path `/app`.
async fn below_a_path(world: &World) -> Node {
    let mut command = nodes::up();
    let prefixed = format!("{}/app", world.origin.url());
    command.args(["--origin", &prefixed, "--store", "memory"]);
    Node::start(command).await
}

/// A login at an IIS application: the browser has to send the cookie again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_of_an_application_below_a_path_are_for_the_paths_of_visitors() {
    let world = with("").await;
    let node = below_a_path(&world).await;
    let answer = Answer::fixed("")
        .header("set-cookie", "ticket=t; path=/app; HttpOnly")
        .header("set-cookie", "admin=1; Path=/App/admin/")
        .header("set-cookie", "other=1; path=/other")
        .header("cache-control", "private");
    world.origin.always("/app/login", answer);
    // As one that asks a question, passed, and unsafe.
    let get = Ask::get("/login");
    let passed = get.clone().header("if-match", "\"1\"");
    for asked in [&get, &passed, &Ask::new(Method::POST, "/login")] {
        let reply = ask(node.address(), asked).await;
        let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
        let expected = [
            "ticket=t; path=/; HttpOnly",
            "admin=1; Path=/admin/",
            "other=1; path=/other",
        ];
        assert_eq!(cookies, expected, "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_read_what_webdav_has_changed_below_a_path() {
    let world = with("").await;
    let node = below_a_path(&world).await;
    let origin = format!("{}/app", world.origin.url());
    for (method, asked, changed, status) in [
        ("MOVE", "/from", &["/from", "/to"][..], 201),
        ("COPY", "/from", &["/to"], 204),
        ("PUT", "/to", &["/to"], 201),
        ("DELETE", "/to", &["/to"], 204),
        // An editor who lost a race.
        ("MOVE", "/from", &["/to"], 412),
    ] {
        for path in ["/from", "/to"] {
            let stored = || async {
                let reply = get(node.address(), path).await;
                reply.is_fresh_hit().then_some(())
            };
            wait::until("the page is stored", wait::SOON, stored).await;
        }
        let count = |path: &&str| world.origin.count(&format!("/app{path}"));
        let before: Vec<usize> = changed.iter().map(count).collect();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = Answer::fixed("").status(StatusCode::from_u16(status).unwrap());
        world.origin.next(&format!("/app{asked}"), answer);
        let mut request = Ask::new(method.clone(), asked);
        if asked == "/from" {
            request = request.header("destination", "https://shop.example/to");
        }
        let reply = ask(node.address(), &request).await;
        assert_eq!(reply.status.as_u16(), status, "{reply}");
        let arrivals = world.origin.record(&format!("/app{asked}")).arrivals;
        let told = arrivals.last().unwrap().headers.get("destination");
        let expected = (asked == "/from").then(|| format!("{origin}/to"));
        let told = told.map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(told, expected, "{method}");
        for (path, before) in changed.iter().zip(before) {
            get(node.address(), path).await;
            // The unsafe request itself was for one of them.
            let own = usize::from(*path == asked);
            assert_eq!(count(path), before + own + 1, "{method} {path}");
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

/// A proxy in front of a node, whose address is known before the node's.
struct Front {
    listener: TcpListener,
}

impl Front {
    async fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Front { listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Leads to this address from now on.
    fn lead_to(self, target: SocketAddr) {
        tokio::spawn(async move {
            while let Ok((mut client, _)) = self.listener.accept().await {
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
    }
}

/// A node in front of this address, with its settings in a file of `folder`.
async fn node_before(origin: SocketAddr, settings: &str, folder: &Path) -> Node {
    let config = folder.join(format!("{}.toml", origin.port()));
    fs::write(&config, settings).unwrap();
    let mut command = nodes::up();
    command.args(["--store", "memory", "--origin", &format!("http://{origin}")]);
    command.arg("--config").arg(&config);
    Node::start(command).await
}

/// Of each kind of request that a shield sends on.
fn kinds() -> Vec<Ask> {
    let post = Ask::new(Method::POST, "/form").body("a=b");
    let preflight = Ask::new(Method::OPTIONS, "/api")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "PUT");
    vec![
        Ask::get("/page"),
        Ask::get("/page"),
        Ask::get("/mine").header("cookie", "session=1"),
        Ask::get("/passed").header("if-match", "\"1\""),
        post,
        Ask::new(Method::OPTIONS, "/options"),
        preflight,
    ]
}

fn loops(node: &Node) -> Vec<String> {
    let log = node.errors();
    let lines = log
        .lines()
        .filter(|line| line.contains("\"event\":\"loop\""));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_leads_back_to_the_shield_is_answered_508_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for settings in ["", "[origin]\nvia = false\n", "preset = \"strict\"\n"] {
        let front = Front::open().await;
        let node = node_before(front.address(), settings, folder.path()).await;
        front.lead_to(node.address());
        // More than the failures that open the breaker.
        let asks: Vec<Ask> = (0..3).flat_map(|_| kinds()).collect();
        for asked in &asks {
            let reply = ask(node.address(), asked).await;
            assert_eq!(reply.status.as_u16(), 508, "{settings} {asked:?}: {reply}");
            let status = reply.header("cache-status");
            assert!(status.contains("detail=loop"), "{reply}");
        }
        // Each request came back once, and the log says why it was refused.
        wait::until("each has a line", wait::SOON, async || {
            (loops(&node).len() >= asks.len()).then_some(())
        })
        .await;
        wait::throughout("no other comes", Duration::from_millis(500), async || {
            loops(&node).len() == asks.len()
        })
        .await;
        let line = loops(&node).pop().unwrap();
        assert!(
            line.contains("come back") && line.contains("origin"),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_through_two_shields_is_answered_508_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Front::open().await, Front::open().await);
    let first = node_before(two.address(), "", folder.path()).await;
    let second = node_before(one.address(), "", folder.path()).await;
    one.lead_to(first.address());
    two.lead_to(second.address());
    for asked in &kinds() {
        let reply = ask(first.address(), asked).await;
        assert_eq!(reply.status.as_u16(), 508, "{asked:?}: {reply}");
    }
    assert_eq!(
        (loops(&first).len(), loops(&second).len()),
        (kinds().len(), 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_shields_in_a_chain_are_no_loop() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::single().await;
    world.origin.otherwise(Answer::fixed("").max_age(600));
    let outer = node_before(world.node(0), "", folder.path()).await;
    for asked in &kinds() {
        let reply = ask(outer.address(), asked).await;
        assert_eq!(reply.status, StatusCode::OK, "{asked:?}: {reply}");
    }
    // What the inner one has stored for the outer one is a hit.
    wait::until("the inner one has stored it", wait::SOON, async || {
        let another = node_before(world.node(0), "", folder.path()).await;
        let reply = get(another.address(), "/page").await;
        let status = reply.header("cache-status");
        (status.contains("hit") && world.origin.count("/page") == 1).then_some(())
    })
    .await;
}
