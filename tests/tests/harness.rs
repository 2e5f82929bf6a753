//! The harness itself: what the other tests rely on, without a node.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use http::{Method, StatusCode};
use leeward_tests::client::{RawAsk, Visitor, assert_all_got, get};
use leeward_tests::origin::numbered;
use leeward_tests::stores::Store;
use leeward_tests::{Answer, Ask, Crowd, Gate, Load, Origin, Reply, Seen, StoreKind, wait};
use tokio::io::AsyncReadExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_follows_its_script() {
    let origin = Origin::start();
    let path = "/script";
    origin.next(
        path,
        Answer::fixed("first")
            .status(StatusCode::CREATED)
            .header("x-a", "1")
            .header("x-a", "2"),
    );
    origin.next(path, Answer::hang_up());
    origin.next(path, Answer::fixed("twelve bytes").broken_after(5));
    origin.always(path, Answer::numbered().etag("\"v\"").max_age(1));

    let first = get(origin.address(), path).await;
    assert_eq!(
        (first.status, first.text().as_str()),
        (StatusCode::CREATED, "first")
    );
    assert_eq!(first.headers.get_all("x-a").iter().count(), 2);
    assert!(
        Ask::get(path).to(origin.address()).await.is_err(),
        "an answer after a hang-up"
    );
    let broken = format!(
        "{:#}",
        Ask::get(path).to(origin.address()).await.unwrap_err()
    );
    assert!(broken.contains("broke off"), "{broken}");
    assert_eq!(get(origin.address(), path).await.text(), numbered(path, 4));
    let validated = Ask::get(path)
        .header("if-none-match", "\"v\"")
        .to(origin.address())
        .await
        .unwrap();
    assert_eq!(
        (validated.status, validated.text().as_str()),
        (StatusCode::NOT_MODIFIED, "")
    );
    let record = origin.record(path);
    assert_eq!(
        (record.count(), record.in_flight, record.in_flight_max),
        (5, 0, 1)
    );
    assert_eq!(record.arrivals[4].headers["if-none-match"], "\"v\"");
    assert_eq!(record.arrivals[4].method, Some(Method::GET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_echoes() {
    let origin = Origin::start();
    origin.always("/echo", Answer::echo());
    let body = vec![7; 1 << 20];
    let reply = Ask::new(Method::POST, "/echo")
        .body(body.clone())
        .to(origin.address())
        .await
        .unwrap();
    assert!(reply.body == body, "{} bytes came back", reply.body.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_made_by_a_function_of_the_request() {
    let origin = Origin::start();
    let told = |seen: &Seen| {
        let field = seen.header("x-field").unwrap_or_default();
        let content = String::from_utf8_lossy(&seen.content);
        let text = format!("{} {} {field} {content}", seen.method, seen.target);
        Answer::fixed(text)
            .header("x-number", &seen.number.to_string())
            .header("x-connection", &seen.connection.to_string())
    };
    origin.otherwise(Answer::made_by(told));
    let mut visitor = Visitor::connect(origin.address()).await.unwrap();
    let first = visitor
        .ask(
            &Ask::get("/a?b=c")
                .header("x-field", "1")
                .header("x-field", "2"),
        )
        .await
        .unwrap();
    let post = Ask::new(Method::POST, "/a").body("content");
    let second = visitor.ask(&post).await.unwrap();
    let third = get(origin.address(), "/a").await;
    assert_eq!(
        [first.text(), second.text(), third.text()],
        ["GET /a?b=c 1, 2 ", "POST /a  content", "GET /a  "]
    );
    let numbers = [&first, &second, &third].map(|reply| reply.header("x-number").to_owned());
    assert_eq!(numbers, ["1", "2", "3"]);
    let connection = |reply: &Reply| reply.header("x-connection").to_owned();
    assert_eq!(connection(&first), connection(&second));
    assert_ne!(connection(&first), connection(&third));
    assert_eq!(origin.paths(), ["/a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_does_not_come_is_told() {
    let origin = Origin::start();
    let path = "/announced";
    origin.always(path, Answer::made_by(|_| Answer::fixed("answered")));
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    let mut whole = RawAsk::new(head.clone() + "hello")
        .send(origin.address())
        .await
        .unwrap();
    origin.until_count(path, 1, wait::SOON).await;
    let mut begin = [0; 12];
    whole.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    drop(
        RawAsk::new(head + "hel")
            .send(origin.address())
            .await
            .unwrap(),
    );
    wait::until("the content is missed", wait::SOON, async || {
        (origin.record(path).broken == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_answer_is_the_final_one() {
    let origin = Origin::start();
    origin.always("/raw", Answer::echo().header("x-a", "1").header("x-a", "2"));
    // The body is echoed, so that it is read: hyper sends `100 Continue` first.
    let raw = RawAsk::new(
        "POST /raw HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\n\
         Content-Length: 4\r\n\r\nbody",
    );
    let reply = raw.to(origin.address()).await.unwrap();
    assert_eq!((reply.status, reply.all("x-a")), (200, vec!["1", "2"]));
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(body.contains("body"), "{body}");
    let none = RawAsk::new("nonsense\r\n\r\n").to(origin.address()).await;
    assert_eq!(none.unwrap().status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_visitor_of_a_crowd_gets_its_own_answer() {
    let origin = Origin::start();
    let crowd = Crowd::connect(&[origin.address()], 20).await;
    let paths: Vec<_> = (0..20).map(|number| format!("/own/{number}")).collect();
    let asks = paths.iter().map(|path| Ask::get(path)).collect();
    for (reply, path) in crowd.ask_each(asks).await.into_iter().zip(&paths) {
        assert_eq!(reply.unwrap().text(), numbered(path, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_holds_a_crowd_and_lets_it_go() {
    let origin = Origin::start();
    let (path, gate) = ("/gate", Gate::closed());
    origin.always(path, Answer::fixed("through").gate(&gate));
    let crowd = Crowd::connect(&[origin.address()], 500).await;
    let asking = tokio::spawn(async move { crowd.ask(&Ask::get(path)).await });
    wait::until("all are there", wait::SOON, async || {
        (origin.record(path).in_flight == 500).then_some(())
    })
    .await;
    assert!(!asking.is_finished());
    gate.open();
    assert_all_got(&asking.await.unwrap(), 500, "through");
    wait::until("all have left", wait::SOON, async || {
        (origin.record(path).in_flight == 0).then_some(())
    })
    .await;
    assert_eq!(origin.record(path).in_flight_max, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_given_up_is_no_longer_in_flight() {
    let origin = Origin::start();
    let (path, gate) = ("/given-up", Gate::closed());
    origin.always(path, Answer::numbered().gate(&gate));
    let address = origin.address();
    let asking = tokio::spawn(async move {
        Visitor::connect(address)
            .await
            .unwrap()
            .ask(&Ask::get(path))
            .await
    });
    origin.until_count(path, 1, wait::SOON).await;
    assert_eq!(origin.record(path).in_flight, 1);
    asking.abort();
    wait::until("it is given up", wait::SOON, async || {
        (origin.record(path).in_flight == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_crashes_stops_and_recovers() {
    let origin = Origin::start();
    let path = "/crash";
    let mut connected = Visitor::connect(origin.address()).await.unwrap();
    assert_eq!(
        connected.ask(&Ask::get(path)).await.unwrap().status,
        StatusCode::OK
    );

    origin.crash();
    wait::until("open connections break", wait::SOON, async || {
        connected.ask(&Ask::get(path)).await.err()
    })
    .await;
    let before = origin.count(path);
    for attempt in 1..=3 {
        assert!(
            Ask::get(path).to(origin.address()).await.is_err(),
            "an answer of a crashed origin"
        );
        assert_eq!(origin.count(path), before + attempt);
    }

    origin.stop().await;
    let refused = format!(
        "{:#}",
        Ask::get(path).to(origin.address()).await.unwrap_err()
    );
    assert!(refused.contains("connect to"), "{refused}");
    assert_eq!(origin.count(path), before + 3);

    origin.recover();
    assert_eq!(
        get(origin.address(), path).await.text(),
        numbered(path, before + 4)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_goes_on_until_it_is_ended_and_reports_failures() {
    let origin = Origin::start();
    let paths = ["/load/a", "/load/b"];
    let load = Load::start(&[origin.address()], &paths, 4);
    origin.until_count(paths[1], 20, wait::SOON).await;
    origin.crash();
    let seen = origin.count(paths[0]);
    origin.until_count(paths[0], seen + 10, wait::SOON).await;
    origin.recover();
    let seen = origin.count(paths[0]);
    origin.until_count(paths[0], seen + 10, wait::SOON).await;
    let visits = load.finish().await;
    assert!(visits.iter().filter(|visit| visit.is_ok()).count() >= 20);
    assert!(visits.iter().filter(|visit| !visit.is_ok()).count() >= 10);
    assert!(
        paths
            .iter()
            .all(|path| visits.iter().any(|visit| visit.path == *path))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_server_starts_and_leaves() {
    let Store::Redis(server) = StoreKind::RedisServer.make().await else {
        panic!("a Redis store")
    };
    let store = Store::Redis(server);
    store.overwrite("cell/b", b"two");
    store.overwrite("cell/a", b"\x00\xff");
    store.overwrite("guard/a", b"1");
    assert_eq!(
        store.cells(),
        [
            ("cell/a".to_owned(), b"\x00\xff".to_vec()),
            ("cell/b".to_owned(), b"two".to_vec())
        ]
    );
    let Store::Redis(server) = store else {
        panic!("a Redis store")
    };
    let url = server.url();
    drop(server);
    let address = url.trim_start_matches("redis://").to_owned();
    wait::until("the port is closed", wait::SOON, async || {
        tokio::net::TcpStream::connect(&address).await.err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "in vain until pigs fly")]
async fn a_wait_ends_at_its_deadline() {
    wait::until("pigs fly", Duration::from_millis(50), async || None::<()>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "should have held that it lasts")]
async fn what_must_last_is_watched() {
    let mut looks = 0;
    wait::throughout("it lasts", Duration::from_secs(60), async || {
        looks += 1;
        looks < 3
    })
    .await;
}
