//! The origin's budget: however many requests come, through however many nodes, the
//! origin never has more in flight than `origin.max_concurrency`, and every visitor is
//! answered, or told when to come back.
//!
//! | scenario | what it shows |
//! | --- | --- |
//! | `cold_keys` | more new keys at once than slots: the budget holds, all are answered |
//! | `thousands` | two thousand new keys at once: each is answered, or told when to come back, within the wait |
//! | `posts`, `private_pages`, `agents` | the same with unsafe methods, with what may not be stored, and with a variant for each visitor |
//! | `holders_killed` | SIGKILL of a node that holds slots: the others go on after a lease |
//! | `breaker` | an origin that fails gets next to nothing, and recovers without a stampede |
//! | `one_visitors` | URLs that fail, of one visitor, do not open the breaker for the others |
//! | `slowly`, `upload` | visitors that read or send slowly keep no slots |
//! | `slow_pages` | slow pages leave a slot to logins |
//! | `waits_too_long` | requests that find no slot in time get 503 with `Retry-After` |
//! | `an_hour` | the origin gets no more requests in an hour than `origin.max_per_hour` |
//! | `clients_that_left` | requests that wait for a slot, and whose clients have gone, are not made |
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use leeward_tests::client::{RawAsk, get};
use leeward_tests::{
    Answer, Ask, Crowd, Gate, Reply, Settings, StoreKind, World, on_every_store, wait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the origin stands.
const BUDGET: usize = 8;

/// How long the origin takes for an answer.
const WORK: Duration = Duration::from_millis(20);

const SETTINGS: &str = "[origin.breaker]\nopen_for = \"1s\"\nmax_open_for = \"2s\"\n";

on_every_store!(
    cold_keys,
    thousands,
    posts,
    private_pages,
    agents,
    holders_killed,
    breaker
);

fn settings() -> Settings {
    Settings {
        budget: Some(BUDGET),
        more: SETTINGS,
        ..Settings::default()
    }
}

/// How many requests come at once: on a store that is as fast as this machine allows
/// as many as the promise says, fewer where one store operation costs more.
fn many(kind: StoreKind) -> usize {
    match kind {
        StoreKind::RedisServer => 2_000,
        _ => 200,
    }
}

/// All were answered with 200, and the origin never had more than its budget.
fn assert_served(world: &World, replies: &[anyhow::Result<Reply>]) {
    for reply in replies {
        let reply = reply.as_ref().unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
    let most = world.origin.in_flight_max();
    assert!(most <= BUDGET, "{most} requests at the origin at once");
    // It is used, too: how much of it depends on the machine.
    assert!(most > 1, "only {most} requests at the origin at once");
}

async fn ask_all(world: &World, asks: Vec<Ask>) -> Vec<anyhow::Result<Reply>> {
    let crowd = Crowd::connect(&world.all(), asks.len()).await;
    crowd.ask_each(asks).await
}

async fn cold_keys(kind: StoreKind) {
    let world = World::start_with(kind, settings()).await;
    world
        .origin
        .otherwise(Answer::numbered().max_age(600).takes(WORK));
    // Half differ by their path, half by their query.
    let ask = |number: usize| match number % 2 {
        0 => Ask::get(&format!("/cold/{number}")),
        _ => Ask::get(&format!("/cold?r={number}")),
    };
    let replies = ask_all(&world, (0..many(kind)).map(ask).collect()).await;
    assert_served(&world, &replies);
}

async fn thousands(kind: StoreKind) {
    let settings = Settings {
        wait: Duration::from_secs(5),
        // That of the default: 2,000 clients and several nodes share two cores.
        lease: Duration::from_secs(5),
        ..settings()
    };
    let world = World::start_alone(kind, settings).await;
    world
        .origin
        .otherwise(Answer::numbered().max_age(600).takes(WORK));
    // A shield that has served before: its record of the budget is there.
    get(world.node(0), "/before").await;
    let asks = (0..2_000).map(|number| Ask::get(&format!("/cold/{number}")));
    let replies = ask_all(&world, asks.collect()).await;
    let mut served = 0;
    for reply in &replies {
        let reply = reply.as_ref().unwrap();
        match reply.status {
            StatusCode::OK => served += 1,
            _ => assert_told_when(reply),
        }
    }
    assert!(
        served >= BUDGET,
        "{served} of {} were answered",
        replies.len()
    );
    let most = world.origin.in_flight_max();
    assert!(most <= BUDGET, "{most} requests at the origin at once");
}

/// The visitor is told that the site is busy, and when to come back.
fn assert_told_when(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply}");
    let seconds = reply.header("retry-after").parse::<u64>();
    assert!(seconds.is_ok_and(|seconds| seconds > 0), "{reply}");
}

async fn posts(kind: StoreKind) {
    let world = World::start_with(kind, settings()).await;
    world.origin.otherwise(Answer::fixed("done").takes(WORK));
    let ask = |number| Ask::new(Method::POST, &format!("/post/{number}")).body("x");
    let replies = ask_all(&world, (0..200).map(ask).collect()).await;
    assert_served(&world, &replies);
}

async fn private_pages(kind: StoreKind) {
    let world = World::start_with(kind, settings()).await;
    let path = "/me";
    world.origin.always(
        path,
        Answer::numbered().cache_control("private").takes(WORK),
    );
    get(world.node(0), path).await;
    let replies = ask_all(&world, vec![Ask::get(path); 200]).await;
    assert_served(&world, &replies);
}

async fn agents(kind: StoreKind) {
    let world = World::start_with(kind, settings()).await;
    let path = "/agents";
    let answer = Answer::numbered().max_age(600).header("vary", "user-agent");
    world.origin.always(path, answer.takes(WORK * 5));
    let ask = |number| Ask::get(path).header("user-agent", &format!("agent/{number}"));
    let replies = ask_all(&world, (0..60).map(ask).collect()).await;
    assert_served(&world, &replies);
}

async fn holders_killed(kind: StoreKind) {
    let mut world = World::start_with(kind, settings()).await;
    let gate = Gate::closed();
    world
        .origin
        .otherwise(Answer::numbered().max_age(600).gate(&gate));
    let lost = Crowd::connect(&[world.node(0)], 2 * BUDGET).await;
    let asks = (0..2 * BUDGET).map(|number| Ask::get(&format!("/lost/{number}")));
    let asks: Vec<_> = asks.collect();
    let lost = tokio::spawn(async move { lost.ask_each(asks).await });
    wait::until("node 0 uses the whole budget", wait::SOON, async || {
        (world.origin.in_flight() == BUDGET).then_some(())
    })
    .await;
    world.process(0).kill();
    gate.open();
    let _ = lost.await;
    let others = world.others();
    let crowd = Crowd::connect(&others, 40).await;
    let asks = (0..40).map(|number| Ask::get(&format!("/kept/{number}")));
    let replies = crowd.ask_each(asks.collect()).await;
    for reply in &replies {
        let reply = reply.as_ref().unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
    let most = world.origin.in_flight_max();
    assert!(most <= BUDGET, "{most} requests at the origin at once");
}

async fn breaker(kind: StoreKind) {
    let world = World::start_with(kind, settings()).await;
    world
        .origin
        .otherwise(Answer::numbered().max_age(600).takes(WORK));
    let kept = get(world.node(0), "/kept").await;
    world.origin.crash();
    // New keys, until the breaker is open at every node.
    let mut number = 0;
    let all = world.all();
    wait::until(
        "the breaker is open at every node",
        wait::SOON,
        async || {
            let mut open = true;
            for node in &all {
                number += 1;
                let reply = get(*node, &format!("/down/{number}")).await;
                assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply}");
                assert!(!reply.header("retry-after").is_empty(), "{reply}");
                open &= reply.header("cache-status").contains("breaker-open");
            }
            open.then_some(())
        },
    )
    .await;
    let before = world.origin.requests();
    let asks = (0..200).map(|number| Ask::get(&format!("/open/{number}")));
    let replies = ask_all(&world, asks.collect()).await;
    for reply in &replies {
        let reply = reply.as_ref().unwrap();
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply}");
        assert!(!reply.header("retry-after").is_empty(), "{reply}");
    }
    // What is stored is served meanwhile.
    for node in &all {
        assert_eq!(get(*node, "/kept").await.text(), kept.text());
    }
    // Probes, and no more.
    let probes = world.origin.requests() - before;
    assert!(
        probes <= 6,
        "{probes} requests at the origin while the breaker was open"
    );

    world.origin.recover();
    wait::until("new keys are answered again", wait::SOON, async || {
        number += 1;
        let reply = get(all[0], &format!("/up/{number}")).await;
        (reply.status == StatusCode::OK).then_some(())
    })
    .await;
    let asks = (0..100).map(|number| Ask::get(&format!("/again/{number}")));
    let replies = ask_all(&world, asks.collect()).await;
    for reply in &replies {
        let reply = reply.as_ref().unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
    let most = world.origin.in_flight_max();
    assert!(most <= BUDGET, "{most} requests at the origin at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_find_no_slot_in_time_are_told_when_to_come_back() {
    let settings = Settings {
        budget: Some(BUDGET),
        // Long enough for a machine that is busy to take all slots, a few at a time.
        wait: Duration::from_secs(4),
        ..Settings::default()
    };
    let world = World::single_with(settings, &[]).await;
    let gate = Gate::closed();
    world
        .origin
        .otherwise(Answer::numbered().max_age(600).gate(&gate));
    let asks = (0..3 * BUDGET).map(|number| match number % 3 {
        0 => Ask::new(Method::POST, &format!("/{number}")).body("x"),
        _ => Ask::get(&format!("/{number}")),
    });
    let (asks, crowd) = (
        asks.collect::<Vec<_>>(),
        Crowd::connect(&world.all(), 3 * BUDGET).await,
    );
    let asking = tokio::spawn(async move { crowd.ask_each(asks).await });
    wait::until("the budget is in use", wait::SOON, async || {
        (world.origin.in_flight() == BUDGET).then_some(())
    })
    .await;
    // Those that found no slot are refused while the others are still in flight.
    let late = get(world.node(0), "/late").await;
    assert_eq!(late.status, StatusCode::SERVICE_UNAVAILABLE, "{late}");
    assert!(
        late.header("cache-status").contains("origin-busy"),
        "{late}"
    );
    assert!(
        late.header("retry-after").parse::<u64>().unwrap() >= 2,
        "{late}"
    );
    gate.open();
    let replies = asking.await.unwrap();
    let mut refused = 0;
    for reply in &replies {
        let reply = reply.as_ref().unwrap();
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            refused += 1;
            assert!(!reply.header("retry-after").is_empty(), "{reply}");
        } else {
            assert_eq!(reply.status, StatusCode::OK, "{reply}");
        }
    }
    assert!(refused >= BUDGET, "{refused} of {} refused", replies.len());
    assert_eq!(world.origin.in_flight_max(), BUDGET);
}

/// Visitors whose answers are still to come.
struct Asking(tokio::task::JoinHandle<Vec<anyhow::Result<Reply>>>);

/// Clients that leave while their requests wait for a slot.
const LEAVE: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_left_while_they_waited_for_a_slot_cause_no_request() {
    const SLOTS: usize = 4;
    let settings = Settings {
        budget: Some(SLOTS),
        ..Settings::default()
    };
    let world = World::single_with(settings, &[]).await;
    let node = world.node(0);
    get(node, "/kept").await;
    let gate = Gate::closed();
    world
        .origin
        .otherwise(Answer::numbered().max_age(600).gate(&gate));
    let ask_for = async |name: &'static str, size: usize| {
        let crowd = Crowd::connect(&[node], size).await;
        let asks = (0..size).map(|number| Ask::get(&format!("/{name}/{number}")));
        let asks: Vec<_> = asks.collect();
        Asking(tokio::spawn(async move { crowd.ask_each(asks).await }))
    };
    let held = ask_for("held", SLOTS).await;
    wait::until("the budget is in use", wait::SOON, async || {
        (world.origin.in_flight() == SLOTS).then_some(())
    })
    .await;

    let mut leaving = Vec::with_capacity(LEAVE);
    for number in 0..LEAVE {
        let request = format!("GET /left/{number} HTTP/1.1\r\nhost: shop.example\r\n\r\n");
        leaving.push(RawAsk::new(request).send(node).await.unwrap());
    }
    // Requests that came before these have reached the component.
    for _ in 0..LEAVE {
        get(node, "/kept").await;
    }
    for stream in leaving {
        // Closing it sends a reset.
        stream.set_zero_linger().unwrap();
        drop(stream);
    }
    // These come later, and stay.
    let stay = ask_for("stays", SLOTS).await;
    for _ in 0..LEAVE {
        get(node, "/kept").await;
    }
    gate.open();
    for replies in [held, stay, ask_for("after", 2 * SLOTS).await] {
        for reply in replies.0.await.unwrap() {
            let reply = reply.unwrap();
            assert_eq!(reply.status, StatusCode::OK, "{reply}");
        }
    }
    wait::until("the origin is idle", wait::SOON, async || {
        (world.origin.in_flight() == 0).then_some(())
    })
    .await;
    let paths = world.origin.paths();
    let left: Vec<_> = paths
        .iter()
        .filter(|path| path.starts_with("/left/"))
        .collect();
    assert_eq!(left, Vec::<&String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_has_no_more_requests_than_the_rate() {
    let settings = Settings {
        per_hour: Some(80),
        ..settings()
    };
    let world = World::start_with(StoreKind::RedisServer, settings).await;
    world.origin.otherwise(Answer::numbered().max_age(600));
    world.origin.always("/kept", Answer::numbered().max_age(1));
    let kept = get(world.node(0), "/kept").await;
    assert_eq!(kept.status, StatusCode::OK, "{kept}");
    // Twenty in an hour are for fills, four of them at once; the other classes lend nine.
    let asks = (0..100).map(|number| Ask::get(&format!("/cold/{number}")));
    let replies = ask_all(&world, asks.collect()).await;
    let (served, refused): (Vec<_>, Vec<_>) = replies
        .iter()
        .map(|reply| reply.as_ref().unwrap())
        .partition(|reply| reply.status == StatusCode::OK);
    for reply in refused {
        assert_told_when(reply);
    }
    assert!(
        (1..=13).contains(&served.len()),
        "{} were answered",
        served.len()
    );
    // Unsafe methods have a part of their own.
    let ask = Ask::new(Method::POST, "/login").body("name=x");
    for reply in ask_all(&world, vec![ask]).await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
    // What is stored is served all the same, and its refreshes have one too.
    let refreshed = "a refresh behind an answer reaches the origin";
    wait::until(refreshed, wait::SOON, async || {
        let reply = get(world.node(1), "/kept").await;
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
        (world.origin.count("/kept") > 1).then_some(())
    })
    .await;
    let reply = get(world.node(2), "/cold/another").await;
    assert_told_when(&reply);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_visitors_urls_that_fail_do_not_open_the_breaker_for_others() {
    let world = World::start_with(StoreKind::RedisServer, settings()).await;
    let all_fails = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&all_fails);
    world.origin.otherwise(Answer::made_by(move |seen| {
        let is_bad = seen.target.starts_with("/bad/") || seen.target.contains("?markup");
        if is_bad || fails.load(Ordering::SeqCst) {
            return Answer::fixed("an error").status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        Answer::fixed("a page")
            .header("content-type", "text/html")
            .max_age(600)
    }));
    for number in 0..8 {
        let reply = get(world.node(number % 4), &format!("/page/{number}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
    let is_open = |reply: &Reply| reply.header("cache-status").contains("breaker-open");
    for round in 0..8 {
        // Some have the path of a page that works, and so of the one that is remembered.
        let bad = (0..20).map(|number| match number {
            0..8 => Ask::get(&format!("/page/{number}?markup={round}")),
            _ => Ask::get(&format!("/bad/{round}/{number}")),
        });
        for reply in ask_all(&world, bad.collect()).await {
            let reply = reply.unwrap();
            assert!(!is_open(&reply), "{reply}");
        }
        let others = [
            Ask::get(&format!("/new/{round}")),
            Ask::new(Method::POST, "/login").body("name=x"),
        ];
        for reply in ask_all(&world, others.to_vec()).await {
            let reply = reply.unwrap();
            assert_eq!(reply.status, StatusCode::OK, "{reply}");
        }
    }
    // The page that is asked for to find out, within five seconds of each other.
    let (rounds, visits) = (8, 1);
    let checks: usize = (0..8)
        .map(|number| world.origin.count(&format!("/page/{number}")) - visits - rounds)
        .sum();
    assert!((1..=8).contains(&checks), "{checks} checks");

    // Now it is the origin.
    all_fails.store(true, Ordering::SeqCst);
    let mut number = 0;
    wait::until("the breaker is open", wait::SOON, async || {
        number += 1;
        let reply = get(world.node(0), &format!("/bad/{number}")).await;
        is_open(&reply).then_some(())
    })
    .await;
}

/// Visitors that have sent this and do nothing more.
async fn idle(node: SocketAddr, sent: impl Fn(usize) -> String) -> Vec<TcpStream> {
    let mut idle = Vec::new();
    for number in 0..20 {
        let mut visitor = TcpStream::connect(node).await.unwrap();
        let sent = sent(number);
        visitor.write_all(sent.as_bytes()).await.unwrap();
        idle.push(visitor);
    }
    idle
}

/// Waits until requests for `count` paths that begin with `prefix` have reached the origin.
async fn until_begun(world: &World, prefix: &str, count: usize) {
    let what = format!("{count} requests for {prefix} have begun");
    wait::until(&what, wait::SOON, async || {
        let paths = world.origin.paths();
        let begun = paths.iter().filter(|path| path.starts_with(prefix));
        (begun.count() >= count).then_some(())
    })
    .await;
}

/// A login and a page of a session are answered.
async fn assert_open(world: &World) {
    let asks = [
        Ask::new(Method::POST, "/login").body("name=x"),
        Ask::get("/mine").header("cookie", "session=1"),
    ];
    for reply in ask_all(world, asks.to_vec()).await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
}

/// Sixteen visitors that did not read their downloads kept all others out, though the
/// origin had long sent everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_that_read_slowly_keep_no_slots() {
    let world = World::single().await;
    let download = vec![b'x'; 4 << 20];
    world.origin.otherwise(Answer::made_by(move |seen| {
        let body = match seen.target.starts_with("/download") {
            true => download.clone(),
            false => b"a page".to_vec(),
        };
        Answer::fixed(body).cache_control("private")
    }));
    let get = |number| {
        format!("GET /download/{number} HTTP/1.1\r\nhost: x\r\ncookie: session={number}\r\n\r\n")
    };
    let idle = idle(world.node(0), get).await;
    // One after the other gives its slot back.
    until_begun(&world, "/download", idle.len()).await;
    assert_open(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_that_send_slowly_keep_no_slots() {
    let world = World::single().await;
    world.origin.otherwise(Answer::fixed("done"));
    let post = |number| {
        format!(
            "POST /up/{number} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nthe beginning"
        )
    };
    let idle = idle(world.node(0), post).await;
    assert_open(&world).await;
    let paths = world.origin.paths();
    assert!(
        !paths.iter().any(|path| path.starts_with("/up/")),
        "{paths:?}"
    );
    drop(idle);
}

/// Visitors whose content stopped after what is read before a request takes a slot kept
/// all slots: of long content, and of content of unknown length. At its end each needs a slot
/// again: the origin's work is only beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_that_stop_in_the_middle_of_an_upload_keep_no_slots() {
    let world = World::single().await;
    let (gate, complete) = (Gate::closed(), Arc::new(AtomicUsize::new(0)));
    let (held, counted) = (gate.clone(), Arc::clone(&complete));
    world.origin.otherwise(Answer::made_by(move |seen| {
        let answer = Answer::fixed("done").cache_control("private");
        if !seen.target.starts_with("/up/") {
            return answer;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        answer.gate(&held)
    }));
    let rest = "x".repeat(30_000);
    let post = |number: usize| {
        let length = match number % 2 {
            0 => "content-length: 300000".to_owned(),
            _ => "transfer-encoding: chunked".to_owned(),
        };
        let content = match number % 2 {
            0 => "x".repeat(270_000),
            _ => "5\r\nhello\r\n".to_owned(),
        };
        format!("POST /up/{number} HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n{content}")
    };
    let mut visitors = idle(world.node(0), post).await;
    // One after the other gives its slot back.
    until_begun(&world, "/up/", visitors.len()).await;
    assert_open(&world).await;
    assert_eq!(complete.load(Ordering::SeqCst), 0);

    for (number, visitor) in visitors.iter_mut().enumerate() {
        let rest = match number % 2 {
            0 => &rest,
            _ => "0\r\n\r\n",
        };
        visitor.write_all(rest.as_bytes()).await.unwrap();
    }
    let is_full = async || (complete.load(Ordering::SeqCst) >= 14).then_some(());
    wait::until("unsafe methods have what they may", wait::SOON, is_full).await;
    wait::throughout(
        "the others wait for a slot",
        Duration::from_secs(1),
        async || complete.load(Ordering::SeqCst) <= 16,
    )
    .await;
    gate.open();
    for mut visitor in visitors {
        let mut head = [0; 12];
        visitor.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200", "{}", head.escape_ascii());
    }
}

/// Slow URLs of one visitor took all slots for as long as they took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_pages_leave_a_slot_to_logins() {
    let world = World::single().await;
    let gate = Gate::closed();
    world
        .origin
        .otherwise(Answer::fixed("slow").max_age(60).gate(&gate));
    world.origin.always("/login", Answer::fixed("welcome"));
    let get = |number| format!("GET /slow/{number} HTTP/1.1\r\nhost: x\r\n\r\n");
    let _idle = idle(world.node(0), get).await;
    wait::until("fills have what they may", wait::SOON, async || {
        (world.origin.in_flight() >= 14).then_some(())
    })
    .await;
    let ask = Ask::new(Method::POST, "/login").body("name=x");
    for reply in ask_all(&world, vec![ask]).await {
        let reply = reply.unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{reply}");
    }
    assert_eq!(world.origin.in_flight_max(), 15);
    gate.open();
}
