//! Bodies of any size: stored while they stream, read back whole or in part, and
//! cleaned up. Long ones lie in chunks of 256 KiB beside their cell.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use leeward_tests::client::{AskBody, Reply, Visitor, ask, get};
use leeward_tests::{Answer, Ask, Crowd, Gate, Settings, StoreKind, World, on_every_store, wait};

/// Three chunks, the last one short.
const LONG: usize = 700_001;

/// What replaced bodies are kept for in these tests.
const GRACE: &str = "[limits]\ngrace = \"0s\"";

on_every_store!(long_cold_key, revalidator_killed_amid_a_body);

/// Bytes that differ from place to place, so that none can be mistaken.
fn content(seed: u8, length: usize) -> Bytes {
    (0..length)
        .map(|index| (index / 251).wrapping_mul(31).wrapping_add(index) as u8 ^ seed)
        .collect()
}

fn assert_body(reply: &Reply, body: &Bytes) {
    assert_eq!(reply.status, StatusCode::OK, "{reply}");
    assert!(
        reply.body == *body,
        "{} of {} bytes",
        reply.body.len(),
        body.len()
    );
}

/// Waits until the nodes answer with a fresh entry of this body.
async fn until_stored(world: &World, path: &str, body: &Bytes) {
    for node in world.all() {
        wait::until("the body is stored", world.some_leases(), async || {
            // A body with a hole breaks off until the hole has been noted.
            let reply = Ask::get(path).to(node).await.ok()?;
            (reply.is_fresh_hit() && reply.body == *body).then_some(())
        })
        .await;
    }
}

async fn long_cold_key(kind: StoreKind) {
    let world = World::start(kind).await;
    let (path, gate, body) = ("/long", Gate::closed(), content(1, LONG));
    let answer = Answer::fixed(body.clone()).max_age(600);
    world.origin.always(path, answer.held_after(300_000, &gate));

    let crowd = Crowd::connect(&world.all(), 60).await;
    let asking = tokio::spawn(async move { crowd.ask(&Ask::get(path)).await });
    world.origin.until_count(path, 1, wait::SOON).await;
    gate.open();
    for reply in asking.await.unwrap() {
        assert_body(&reply.unwrap(), &body);
    }
    until_stored(&world, path, &body).await;
    assert_eq!(world.origin.count(path), 1, "requests at the origin");
    assert_eq!(world.store.chunks().len(), 3);
}

async fn revalidator_killed_amid_a_body(kind: StoreKind) {
    let settings = Settings {
        more: GRACE,
        ..Settings::default()
    };
    let mut world = World::start_with(kind, settings).await;
    let (path, gate) = ("/killed", Gate::closed());
    let (first, second, third) = (content(1, LONG), content(2, LONG), content(3, LONG));
    let short = |body: &Bytes| Answer::fixed(body.clone()).max_age(1);
    world
        .origin
        .next(path, short(&first).held_after(600_000, &gate));
    world.origin.next(path, short(&second));
    world
        .origin
        .always(path, Answer::fixed(third.clone()).max_age(600));

    let node = world.node(0);
    let dying = tokio::spawn(async move { Ask::get(path).to(node).await });
    wait::until("two chunks are stored", wait::SOON, async || {
        (world.store.chunks().len() == 2).then_some(())
    })
    .await;
    let crowd = Crowd::connect(&world.others(), 20).await;
    world.process(0).kill();
    assert!(dying.await.unwrap().is_err(), "the answer looked complete");
    // Who has begun to read what it wrote gets an answer that breaks off.
    for reply in crowd.ask(&Ask::get(path)).await.into_iter().flatten() {
        assert_body(&reply, &second);
    }
    let reply = get(world.node(1), path).await;
    assert!(reply.body == second || reply.body == third, "{reply}");
    let count = world.origin.count(path);
    assert!(count <= 3, "{count} requests at the origin");

    // What the dead node has left is removed in the course of a refresh.
    wait::until("only one body is left", world.some_leases(), async || {
        let reply = get(world.node(1), path).await;
        let chunks = world.store.chunks().len();
        (reply.is_fresh_hit() && reply.body == third && chunks <= 6).then_some(())
    })
    .await;
}

/// Each visitor waited for one before, whose answer was not stored either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_whose_chunks_the_store_refuses_is_fetched_side_by_side() {
    let settings = Settings {
        retry_first: Duration::from_secs(30),
        retry_max: Duration::from_secs(60),
        ..Settings::default()
    };
    let world = World::start_with(StoreKind::Exact, settings).await;
    world
        .origin
        .always("/small", Answer::fixed("small").max_age(600));
    get(world.node(0), "/small").await;
    world.store.refuse_values_above(64 << 10);
    let (path, body) = ("/refused", content(1, LONG));
    let answer = Answer::fixed(body.clone()).max_age(600);
    world.origin.always(path, answer.clone());
    // The first leases end without an entry: then the page is known for what it is.
    for _ in 0..4 {
        assert_body(&get(world.node(0), path).await, &body);
    }
    let gate = Gate::closed();
    world.origin.always(path, answer.gate(&gate));
    let before = world.origin.count(path);
    let crowd = Crowd::connect(&world.all(), 6).await;
    let asking = tokio::spawn(async move { crowd.ask(&Ask::get(path)).await });
    world.origin.until_count(path, before + 6, wait::SOON).await;
    gate.open();
    for reply in asking.await.unwrap() {
        assert_body(&reply.unwrap(), &body);
    }
    assert_eq!(world.store.chunks().len(), 0);
    // Other pages are stored as before.
    assert!(get(world.node(1), "/small").await.is_fresh_hit());
    world
        .origin
        .always("/other", Answer::fixed("other").max_age(600));
    // A chunk that was refused a moment ago may have stopped the writes of an instance.
    wait::until("another page is stored", wait::SOON, async || {
        get(world.node(1), "/other").await;
        get(world.node(0), "/other")
            .await
            .is_fresh_hit()
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_stored_though_the_visitor_leaves() {
    let world = World::single().await;
    let (path, gate, body) = ("/left", Gate::closed(), content(1, LONG));
    let answer = Answer::fixed(body.clone()).max_age(600);
    world.origin.always(path, answer.held_after(300_000, &gate));
    let mut visitor = Visitor::connect(world.node(0)).await.unwrap();
    let response = visitor.send(request(path)).await.unwrap();
    drop((response, visitor));
    gate.open();
    until_stored(&world, path, &body).await;
    assert_eq!(world.origin.count(path), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_slower_than_the_origin_gets_all_of_it() {
    let world = World::single().await;
    // More than waits in memory and in the sockets' buffers.
    let (path, body) = ("/slow", content(1, 9 << 20));
    world
        .origin
        .always(path, Answer::fixed(body.clone()).max_age(600));
    let mut slow = Visitor::connect(world.node(0)).await.unwrap();
    let response = slow.send(request(path)).await.unwrap();
    until_stored(&world, path, &body).await;
    let read = response.into_body().collect().await.unwrap().to_bytes();
    assert!(read == body, "{} bytes", read.len());
    assert_eq!(world.origin.count(path), 1);
}

fn request(path: &str) -> Request<AskBody> {
    let body = Empty::new().map_err(|never| match never {}).boxed();
    Request::builder().uri(path).body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_streams_through_and_harms_nobody() {
    let world = World::single_with(
        Settings {
            more: "[limits]\nbody = 500000",
            ..Settings::default()
        },
        &[],
    )
    .await;
    let body = content(1, LONG);
    world
        .origin
        .always("/announced", Answer::fixed(body.clone()).max_age(600));
    for count in 1..=3 {
        let reply = get(world.node(0), "/announced").await;
        assert_body(&reply, &body);
        assert!(!reply.cache_status().has("stored"), "{reply}");
        assert_eq!(world.origin.count("/announced"), count);
    }
    // Not announced: found out on the way, with chunks in the store.
    let echo = Answer::echo().max_age(600);
    world.origin.always("/chunked", echo);
    let post = Ask::new(Method::POST, "/chunked").body(body.clone());
    assert_body(&ask(world.node(0), &post).await, &body);
    // Only a part is wanted: the origin cuts it.
    let part = Ask::get("/part").header("range", "bytes=1-3");
    world
        .origin
        .next("/part", Answer::fixed(body.clone()).max_age(600));
    world.origin.always(
        "/part",
        Answer::fixed(body.slice(1..4))
            .status(StatusCode::PARTIAL_CONTENT)
            .header("content-range", "bytes 1-3/700001"),
    );
    let reply = ask(world.node(0), &part).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body),
        (206, &body.slice(1..4)),
        "{reply}"
    );
    let arrivals = world.origin.record("/part").arrivals;
    assert_eq!(arrivals.len(), 2);
    assert_eq!(arrivals[1].headers["range"], "bytes=1-3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_that_breaks_off_is_neither_stored_nor_looks_whole() {
    let world = World::single().await;
    let (path, body) = ("/broken", content(1, LONG));
    world.origin.next(
        path,
        Answer::fixed(body.clone())
            .max_age(600)
            .broken_after(600_000),
    );
    world
        .origin
        .always(path, Answer::fixed(body.clone()).max_age(600));
    let broken = Ask::get(path).to(world.node(0)).await;
    assert!(broken.is_err(), "{broken:?}");
    until_stored(&world, path, &body).await;
    assert_eq!(world.origin.count(path), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_a_long_body_come_from_its_chunks() {
    let world = World::start(StoreKind::Exact).await;
    let (path, body) = ("/ranges", content(1, LONG));
    world
        .origin
        .always(path, Answer::fixed(body.clone()).max_age(600).etag("\"1\""));
    let cold = ask(world.node(0), &Ask::get(path).header("range", "bytes=5-9")).await;
    assert_eq!(
        (cold.status.as_u16(), &cold.body),
        (206, &body.slice(5..10)),
        "{cold}"
    );
    until_stored(&world, path, &body).await;
    let chunks = world.store.chunks();
    // The first chunk is not needed for what follows.
    world.store.remove(&chunks[0].0);
    for (range, from, to) in [
        ("bytes=700000-", 700_000, LONG),
        ("bytes=-1", 700_000, LONG),
        ("bytes=300000-600000", 300_000, 600_001),
        ("bytes=262200-262300", 262_200, 262_301),
    ] {
        let reply = ask(world.node(1), &Ask::get(path).header("range", range)).await;
        assert_eq!(reply.status, StatusCode::PARTIAL_CONTENT, "{reply}");
        assert!(reply.body == body.slice(from..to), "{range}: {reply}");
        assert_eq!(
            reply.header("content-range"),
            format!("bytes {from}-{}/{LONG}", to - 1)
        );
    }
    let reply = ask(
        world.node(1),
        &Ask::get(path).header("range", "bytes=700001-"),
    )
    .await;
    assert_eq!(reply.status, StatusCode::RANGE_NOT_SATISFIABLE, "{reply}");
    let head = ask(world.node(1), &Ask::new(Method::HEAD, path)).await;
    assert_eq!(head.header("content-length"), LONG.to_string());
    assert_eq!(world.origin.count(path), 1, "all from the store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_is_missing_or_damaged_makes_a_miss() {
    let world = World::start(StoreKind::Exact).await;
    let (path, body) = ("/holes", content(1, LONG));
    world
        .origin
        .always(path, Answer::fixed(body.clone()).max_age(600).etag("\"1\""));
    let mut expected = 1;
    get(world.node(0), path).await;
    for (index, damage) in [
        (0, "missing"),
        (0, "cut"),
        (0, "flipped"),
        (2, "missing"),
        (1, "flipped"),
    ] {
        until_stored(&world, path, &body).await;
        let chunks = live_chunks(&world, path).await;
        let (name, bytes) = &chunks[index];
        match damage {
            "missing" => world.store.remove(name),
            "cut" => world.store.overwrite(name, &bytes[..bytes.len() - 1]),
            _ => {
                let mut bytes = bytes.clone();
                *bytes.last_mut().unwrap() ^= 1;
                world.store.overwrite(name, &bytes);
            }
        }
        let first = Ask::get(path).to(world.node(1)).await;
        if index == 0 {
            // Found out before the head was sent: nothing shows.
            assert_body(&first.unwrap(), &body);
        } else {
            // Found out later: it does not look whole, and the next one is.
            assert!(first.is_err(), "{damage} {index}: {first:?}");
        }
        expected += 1;
        until_stored(&world, path, &body).await;
        assert_eq!(world.origin.count(path), expected, "{damage} {index}");
        // A body that cannot be read is not asked about, but asked for.
        let last = world.origin.record(path).arrivals.pop().unwrap();
        assert!(
            !last.headers.contains_key("if-none-match"),
            "{damage} {index}"
        );
    }
}

/// The chunks of the body that the one cell points at, in order.
async fn live_chunks(world: &World, path: &str) -> Vec<(String, Vec<u8>)> {
    let cells = world.store.cells();
    let (_, cell) = cells
        .iter()
        .find(|(_, cell)| String::from_utf8_lossy(cell).contains(path))
        .unwrap();
    let text = String::from_utf8_lossy(cell);
    let (_, manifest) = text.split_once("\"chunks\":{\"body\":\"").unwrap();
    let nonce = manifest.get(..32).unwrap();
    let mut chunks = world.store.chunks();
    chunks.retain(|(name, _)| name.contains(nonce));
    assert_eq!(chunks.len(), 3);
    chunks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_is_renewed_by_304_and_replaced_ones_are_cleaned_up() {
    let world = World::start_with(
        StoreKind::Exact,
        Settings {
            more: GRACE,
            ..Settings::default()
        },
    )
    .await;
    let path = "/replaced";
    let (first, second) = (content(1, LONG), content(2, LONG));
    world
        .origin
        .next(path, Answer::fixed(first.clone()).max_age(1).etag("\"1\""));
    world
        .origin
        .next(path, Answer::fixed(first.clone()).max_age(1).etag("\"1\""));
    for _ in 0..3 {
        world
            .origin
            .next(path, Answer::fixed(second.clone()).max_age(1));
    }
    world
        .origin
        .always(path, Answer::fixed(second.clone()).max_age(600));
    assert_body(&get(world.node(0), path).await, &first);
    wait::until(
        "the entry is replaced for good",
        world.some_leases(),
        async || {
            let reply = get(world.node(1), path).await;
            (world.origin.count(path) == 6 && reply.is_fresh_hit() && reply.body == second)
                .then_some(())
        },
    )
    .await;
    let arrivals = world.origin.record(path).arrivals;
    assert_eq!(arrivals[1].headers["if-none-match"], "\"1\"");
    // The present body, and the one that the last refresh replaced.
    assert_eq!(world.store.chunks().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_of_a_variant_moves_to_its_cell() {
    let world = World::start_with(
        StoreKind::Exact,
        Settings {
            more: GRACE,
            ..Settings::default()
        },
    )
    .await;
    let (path, de, en) = ("/variants", content(1, LONG), content(2, LONG));
    let varying = |body: &Bytes| {
        Answer::fixed(body.clone())
            .max_age(600)
            .header("vary", "x-lang")
    };
    world.origin.next(path, varying(&de));
    world.origin.next(path, varying(&en));
    for (lang, body) in [("de", &de), ("en", &en)] {
        let asked = Ask::get(path).header("x-lang", lang);
        assert_body(&ask(world.node(0), &asked).await, body);
        wait::until("the variant is stored", wait::SOON, async || {
            let reply = ask(world.node(1), &asked).await;
            (reply.is_fresh_hit() && reply.body == *body).then_some(())
        })
        .await;
    }
    assert_eq!(world.origin.count(path), 2);
    assert_eq!(
        world.store.chunks().len(),
        6,
        "no variant's chunks were taken for litter"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variant_that_has_to_go_takes_its_chunks_along() {
    let settings = Settings {
        more: "[limits]\ngrace = \"0s\"\nvariants = 1",
        ..Settings::default()
    };
    let world = World::start_with(StoreKind::Exact, settings).await;
    let path = "/variants";
    for seed in 1..=5 {
        let body = content(seed, LONG);
        world
            .origin
            .next(path, Answer::fixed(body.clone()).max_age(600));
        let asked = Ask::get(path).header("x-tenant", &seed.to_string());
        assert_body(&ask(world.node(0), &asked).await, &body);
        wait::until("the variant is stored", wait::SOON, async || {
            let reply = ask(world.node(1), &asked).await;
            (reply.is_fresh_hit() && reply.body == body).then_some(())
        })
        .await;
    }
    assert_eq!(world.origin.count(path), 5);
    // The first, which lies in the key's own cell; the variant that is stored; and
    // the one before it, which the next will remove.
    assert_eq!(world.store.chunks().len(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_not_stored_and_ranges_are_served_from_the_whole() {
    let world = World::single().await;
    let (path, body) = ("/parts", Bytes::from("0123456789"));
    world.origin.next(
        path,
        Answer::fixed(body.slice(0..5))
            .status(StatusCode::PARTIAL_CONTENT)
            .max_age(600)
            .header("content-range", "bytes 0-4/10")
            .header("etag", "\"1\""),
    );
    world
        .origin
        .always(path, Answer::fixed(body.clone()).max_age(600).etag("\"1\""));
    let part = Ask::get(path).header("range", "bytes=0-4");
    let first = ask(world.node(0), &part).await;
    assert_eq!(
        (first.status.as_u16(), first.text().as_str()),
        (206, "01234"),
        "{first}"
    );
    assert!(!first.cache_status().has("stored"), "{first}");
    let arrivals = world.origin.record(path).arrivals;
    assert!(!arrivals[0].headers.contains_key("range"));
    // Requests for it are forwarded, until an answer shows that it can be stored.
    let second = ask(world.node(0), &part).await;
    assert!(second.status.is_success(), "{second}");
    until_stored(&world, path, &body).await;
    let requests = world.origin.count(path);
    for (range, status, expected) in [
        ("bytes=1-2", 206, "12"),
        ("bytes=-3", 206, "789"),
        ("bytes=0-1,1-4", 206, "01234"),
        ("bytes=0-1,4-5", 200, "0123456789"),
    ] {
        let reply = ask(world.node(0), &Ask::get(path).header("range", range)).await;
        assert!(reply.cache_status().has("hit"), "{range}: {reply}");
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (status, expected),
            "{range}: {reply}"
        );
    }
    assert_eq!(world.origin.count(path), requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_post_serves_later_gets_if_it_says_so() {
    // In `uptime` the origin is asked the question: what it answered to one
    // visitor's POST is not for others.
    for (preset, posted) in [("strict", "made"), ("uptime", "got")] {
        let settings = Settings {
            preset,
            ..Settings::default()
        };
        let world = World::single_with(settings, &[]).await;
        let answer = |body: &'static str| Answer::fixed(body).max_age(600);
        for (path, names, expected) in [
            ("/posted", "/posted", posted),
            ("/other", "/elsewhere", "got"),
        ] {
            let made = answer("made").header("content-location", names);
            world.origin.next(path, made);
            world.origin.always(path, answer("got"));
            let post = Ask::new(Method::POST, path).body("x");
            assert_eq!(ask(world.node(0), &post).await.text(), "made");
            world.until_fresh(&world.all(), path, expected).await;
            let count = 1 + usize::from(expected == "got");
            assert_eq!(world.origin.count(path), count, "{preset} {path}");
        }
    }
}
