//! What lies in the store may be anything: values that are no cell, half of one,
//! or somebody else's are misses, and are replaced by good ones.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use leeward_tests::client::get;
use leeward_tests::origin::numbered;
use leeward_tests::{Answer, StoreKind, World, on_every_store, wait};

on_every_store!(damaged_values_are_misses);

/// Bytes that look like chance, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// `value` with its byte at `position` turned over.
fn flipped(value: &[u8], position: usize) -> Vec<u8> {
    let mut value = value.to_vec();
    value[position] ^= 0xFF;
    value
}

/// Every damage: its name, and what it makes of a cell's bytes, given another
/// cell's. Fields are positions in the encoding: a format byte, a checksum,
/// a length, metadata, the body.
fn damages(value: &[u8], foreign: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let length = value.len();
    vec![
        ("nothing", Vec::new()),
        ("one zero byte", vec![0]),
        ("noise, shorter", noise(7)),
        ("noise, as long", noise(length)),
        ("noise, longer", noise(length * 3)),
        ("another format", flipped(value, 0)),
        ("another checksum", flipped(value, 2)),
        ("another length", flipped(value, 6)),
        ("broken metadata", flipped(value, length / 3)),
        ("a broken body", flipped(value, length - 1)),
        ("the first byte alone", value[..1].to_vec()),
        ("cut within the head", value[..5].to_vec()),
        ("cut in half", value[..length / 2].to_vec()),
        ("cut before the last byte", value[..length - 1].to_vec()),
        ("one byte too many", [value, b"x"].concat()),
        ("another key's cell", foreign.to_vec()),
    ]
}

async fn damaged_values_are_misses(kind: StoreKind) {
    let world = World::start(kind).await;
    let (path, other) = ("/damaged", "/foreign");
    world.origin.always(path, Answer::numbered().max_age(600));
    world
        .origin
        .always(other, Answer::fixed("somebody else's").max_age(600));

    get(world.node(0), path).await;
    world
        .until_fresh(&world.all(), path, &numbered(path, 1))
        .await;
    let [(key, value)] = settled(&world).await.try_into().expect("one cell");
    get(world.node(0), other).await;
    world
        .until_fresh(&world.all(), other, "somebody else's")
        .await;
    let cells = settled(&world).await;
    let (_, foreign) = cells
        .into_iter()
        .find(|(known, _)| *known != key)
        .expect("another cell");

    for (before, (damage, bytes)) in damages(&value, &foreign).into_iter().enumerate() {
        // Every round begins with a good cell, fetched by the round before.
        let body = numbered(path, before + 2);
        world.store.overwrite(&key, &bytes);
        // The node that wrote the cell, and one that did not, in turn.
        let node = world.node(before % world.all().len());
        let reply = get(node, path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text()),
            (200, body.clone()),
            "after {damage}: {reply}"
        );
        assert!(!reply.cache_status().has("hit"), "after {damage}: {reply}");
        world.until_fresh(&world.all(), path, &body).await;
        assert_eq!(
            world.origin.count(path),
            before + 2,
            "requests at the origin after {damage}"
        );
        settled(&world).await;
    }
    assert_eq!(world.origin.count(other), 1, "requests for the other key");
}

/// The cells, once the nodes have stopped writing them.
async fn settled(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut last = Vec::new();
    wait::until("the store is quiet", wait::SOON, async || {
        let now = world.store.cells();
        let quiet = !now.is_empty() && now == last;
        last = now;
        quiet.then_some(())
    })
    .await;
    last
}
