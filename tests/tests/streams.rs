//! Bodies that take long, or never end: read by many while one request writes them, and
//! recognised where nobody could wait for their end.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use leeward_tests::client::{AskBody, Visitor, get};
use leeward_tests::origin::EVENT;
use leeward_tests::{Answer, Gate, Settings, StoreKind, World, on_every_store, wait};
use std::time::Duration;

/// Long enough for bodies of these tests.
const LONG_BODIES: &str = "[limits]\nbody = 60000000\nchunk = 65536";

/// More than a follower can have before the first chunks are in the store.
const SOME: usize = 200_000;

on_every_store!(read_while_it_is_written);

/// Bytes that differ from place to place, so that none can be mistaken.
fn content(length: usize) -> Bytes {
    (0..length)
        .map(|index| (index / 251).wrapping_mul(31).wrapping_add(index) as u8)
        .collect()
}

fn request(path: &str) -> Request<AskBody> {
    let body: AskBody = Empty::new().map_err(|never| match never {}).boxed();
    Request::get(path).body(body).unwrap()
}

/// A visitor whose answer is on its way.
struct Reader {
    /// Keeps the connection.
    _visitor: Visitor,
    body: Incoming,
    got: Vec<u8>,
}

impl Reader {
    async fn begin(world: &World, number: usize, path: &str) -> Self {
        let nodes = world.all();
        let node = nodes[number % nodes.len()];
        let mut visitor = Visitor::connect(node).await.unwrap();
        let response = visitor.send(request(path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Reader {
            _visitor: visitor,
            body: response.into_body(),
            got: Vec::new(),
        }
    }

    /// Reads until there are this many bytes.
    async fn until(&mut self, bytes: usize) {
        let reading = async {
            while self.got.len() < bytes {
                let frame = self.body.frame().await.expect("more of the body");
                let frame = frame.expect("the body did not break off");
                self.got.extend_from_slice(frame.data_ref().unwrap());
            }
        };
        let read = tokio::time::timeout(wait::SOON, reading).await;
        assert!(read.is_ok(), "{} of {bytes} bytes", self.got.len());
    }

    /// Reads to the end; an error if the body broke off.
    async fn end(mut self) -> Result<Vec<u8>, hyper::Error> {
        while let Some(frame) = self.body.frame().await {
            self.got.extend_from_slice(frame?.data_ref().unwrap());
        }
        Ok(self.got)
    }
}

async fn long_world(kind: StoreKind) -> World {
    let settings = Settings {
        more: LONG_BODIES,
        ..Settings::default()
    };
    World::start_with(kind, settings).await
}

/// One request writes the body; the others have much of it before its end is there.
async fn followers(world: &World, path: &str, size: usize, followers: usize) {
    let (gate, body) = (Gate::closed(), content(size));
    let answer = Answer::fixed(body.clone()).max_age(600);
    world
        .origin
        .always(path, answer.held_after(size / 2, &gate));
    let mut readers = vec![Reader::begin(world, 0, path).await];
    let others = (1..=followers).map(|number| Reader::begin(world, number, path));
    readers.extend(join_all(others).await);
    join_all(readers.iter_mut().map(|reader| reader.until(SOME))).await;
    gate.open();
    for got in join_all(readers.into_iter().map(Reader::end)).await {
        let got = got.expect("the body did not break off");
        assert!(got == body, "{} of {size} bytes", got.len());
    }
    assert_eq!(world.origin.count(path), 1, "requests at the origin");
}

async fn read_while_it_is_written(kind: StoreKind) {
    let world = long_world(kind).await;
    followers(&world, "/long", 1_000_001, 11).await;
}

/// Visitors of other nodes waited for the end of a long body, and got a 503 if that did
/// not come in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_reaches_fifty_followers_of_four_nodes_while_it_comes() {
    let world = long_world(StoreKind::SqliteShared).await;
    followers(&world, "/video", 8_000_001, 50).await;
}

/// The same at the size and pace of a film. `cargo xtask long-tests` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 20 seconds: cargo xtask long-tests"]
async fn forty_megabytes_at_two_megabytes_a_second_reach_fifty_followers() {
    let world = long_world(StoreKind::SqliteShared).await;
    let (path, body) = ("/film", content(40_000_000));
    let answer = Answer::fixed(body.clone()).max_age(600);
    world
        .origin
        .always(path, answer.paced(200_000, Duration::from_millis(100)));
    let readers = (0..51).map(|number| Reader::begin(&world, number, path));
    let readers = join_all(readers).await;
    for got in join_all(readers.into_iter().map(Reader::end)).await {
        let got = got.expect("the body did not break off");
        assert!(got == body, "{} bytes", got.len());
    }
    assert_eq!(world.origin.count(path), 1, "requests at the origin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_of_a_writer_that_dies_do_not_get_what_looks_whole() {
    let mut world = long_world(StoreKind::SqliteShared).await;
    let (path, gate, body) = ("/killed", Gate::closed(), content(1_000_001));
    let answer = Answer::fixed(body.clone()).max_age(600);
    world
        .origin
        .next(path, answer.clone().held_after(500_000, &gate));
    world.origin.always(path, answer);
    let writer = Reader::begin(&world, 0, path).await;
    let others = join_all((1..4).map(|number| Reader::begin(&world, number, path)));
    let mut others = others.await;
    join_all(others.iter_mut().map(|reader| reader.until(SOME))).await;
    world.process(0).kill();
    assert!(writer.end().await.is_err(), "the answer looked complete");
    for got in join_all(others.into_iter().map(Reader::end)).await {
        assert!(got.is_err(), "the answer looked complete");
    }
    let reply = get(world.node(1), path).await;
    assert!(reply.body == body, "{} bytes", reply.body.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_body_is_read_while_it_is_written() {
    let world = long_world(StoreKind::SqliteShared).await;
    let (path, gate, body) = ("/part", Gate::closed(), content(1_000_001));
    let answer = Answer::fixed(body.clone()).max_age(600);
    world.origin.always(path, answer.held_after(500_000, &gate));
    let mut writer = Reader::begin(&world, 0, path).await;
    writer.until(SOME).await;
    let mut visitor = Visitor::connect(world.node(1)).await.unwrap();
    let mut part = request(path);
    let range = http::HeaderValue::from_static("bytes=70000-200000");
    part.headers_mut().insert("range", range);
    let response = visitor.send(part).await.unwrap();
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    let got = response.into_body().collect().await.unwrap().to_bytes();
    assert!(got == body[70_000..=200_000], "{} bytes", got.len());
    gate.open();
    assert!(writer.end().await.unwrap() == body);
    assert_eq!(world.origin.count(path), 1, "requests at the origin");
}

/// The first subscriber's stream kept all others waiting, and went on when that
/// subscriber had left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_subscribers_of_an_event_stream_get_events() {
    let world = World::start(StoreKind::SqliteShared).await;
    let path = "/events";
    let events = Answer::events(Duration::from_millis(50));
    world
        .origin
        .always(path, events.header("content-type", "text/event-stream"));
    let readers = (0..100).map(|number| Reader::begin(&world, number, path));
    let mut readers = join_all(readers).await;
    let three = 3 * EVENT.len();
    join_all(readers.iter_mut().map(|reader| reader.until(three))).await;
    assert_eq!(world.origin.record(path).in_flight, 100, "streams");
    drop(readers);
    wait::until("the streams have ended", wait::SOON, async || {
        (world.origin.record(path).in_flight == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_stream_does_not_hold_its_key() {
    let world = World::start(StoreKind::SqliteShared).await;
    let path = "/events";
    let events = Answer::events(Duration::from_millis(50));
    world
        .origin
        .always(path, events.header("content-type", "text/event-stream"));
    for number in 0..3 {
        let mut reader = Reader::begin(&world, number, path).await;
        reader.until(EVENT.len()).await;
        drop(reader);
    }
}

/// A page that shows progress, for as long as somebody looks at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trickle_is_recognised_without_its_media_type() {
    let world = World::start(StoreKind::SqliteShared).await;
    let path = "/progress";
    let events = Answer::events(Duration::from_millis(200));
    world
        .origin
        .always(path, events.max_age(60).header("content-type", "text/html"));
    let readers = (0..4).map(|number| Reader::begin(&world, number, path));
    let mut readers = join_all(readers).await;
    join_all(readers.iter_mut().map(|reader| reader.until(EVENT.len()))).await;
    drop(readers);
    wait::until("the streams have ended", wait::SOON, async || {
        (world.origin.record(path).in_flight == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_takes_longer_than_a_fetch_may_goes_on_to_its_visitor() {
    let settings = Settings {
        more: "[[rule]]\nmatch = { path = \"/slow\" }\norigin.first_byte_timeout = \"500ms\"\n\
               origin.fill_timeout = \"500ms\"",
        ..Settings::default()
    };
    let world = World::start_with(StoreKind::SqliteShared, settings).await;
    let (path, gate, body) = ("/slow", Gate::closed(), content(100_000));
    let answer = Answer::fixed(body.clone()).max_age(600);
    world.origin.always(path, answer.held_after(50_000, &gate));
    let readers = (0..4).map(|number| Reader::begin(&world, number, path));
    let readers = join_all(readers).await;
    gate.open();
    for got in join_all(readers.into_iter().map(Reader::end)).await {
        assert!(got.unwrap() == body);
    }
    let count = world.origin.count(path);
    assert!(
        count >= 4,
        "nobody shares it: {count} requests at the origin"
    );
}
