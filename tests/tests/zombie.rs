//! A revalidator that is paused past its lease, and wakes up with an answer in
//! its hands, must not overwrite what its successor published.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use leeward_tests::client::{assert_all_got, get};
use leeward_tests::{Answer, Ask, Crowd, Gate, StoreKind, World, on_every_store, wait};

on_every_store!(zombie_on_a_stale_key, zombie_on_a_cold_key);

/// Has node 0, which is fetching `path`, sleep while another node fetches and
/// publishes `new`; wakes it, hands it its answer, and watches what is served.
async fn outlive(world: &mut World, path: &'static str, gate: &Gate, new: &str) {
    let fetched = world.origin.count(path);
    // A node that is stopped in the middle of a write would keep a SQLite file locked.
    wait::until(
        "the node sleeps outside of a write",
        wait::SOON,
        async || {
            world.process(0).pause();
            if world.store.is_locked() {
                world.process(0).resume();
                return None;
            }
            Some(())
        },
    )
    .await;
    let others = world.others();
    wait::until(
        "another node takes over and publishes",
        world.some_leases(),
        async || {
            let reply = get(others[0], path).await;
            (reply.text() == new && reply.is_fresh_hit()).then_some(())
        },
    )
    .await;
    assert_eq!(
        world.origin.count(path),
        fetched + 1,
        "requests at the origin"
    );

    gate.open();
    let what = "the origin has sent the answer that the zombie asked for";
    wait::until(what, wait::SOON, async || {
        (world.origin.record(path).in_flight == 0).then_some(())
    })
    .await;
    world.process(0).resume();
    wait::until("the zombie has been refused", wait::SOON, async || {
        let log = world.process(0).errors();
        log.contains(r#""settled":"fenced""#).then_some(())
    })
    .await;
    let all = world.all();
    wait::throughout(
        "the successor's answer is served",
        world.settings.lease * 2,
        async || {
            let mut holds = true;
            for node in &all {
                holds &= get(*node, path).await.text() == new;
            }
            holds
        },
    )
    .await;
    assert_eq!(
        world.origin.count(path),
        fetched + 1,
        "requests at the origin"
    );
}

async fn zombie_on_a_stale_key(kind: StoreKind) {
    let mut world = World::start(kind).await;
    let (path, gate) = ("/zombie", Gate::closed());
    world.origin.next(path, Answer::fixed("old").max_age(1));
    world
        .origin
        .next(path, Answer::fixed("the zombie's").max_age(600).gate(&gate));
    world
        .origin
        .always(path, Answer::fixed("the successor's").max_age(600));
    world.fill_and_expire(path, 1).await;

    assert_eq!(get(world.node(0), path).await.text(), "old");
    world.origin.until_count(path, 2, wait::SOON).await;
    outlive(&mut world, path, &gate, "the successor's").await;
}

async fn zombie_on_a_cold_key(kind: StoreKind) {
    let mut world = World::start(kind).await;
    let (path, gate) = ("/zombie-cold", Gate::closed());
    world
        .origin
        .next(path, Answer::fixed("the zombie's").max_age(600).gate(&gate));
    world
        .origin
        .always(path, Answer::fixed("the successor's").max_age(600));

    let (first, others) = (world.node(0), world.others());
    let asking = tokio::spawn(async move { Ask::get(path).to(first).await });
    world.origin.until_count(path, 1, wait::SOON).await;
    outlive(&mut world, path, &gate, "the successor's").await;

    // The zombie's own visitor gets an answer of the origin's, whichever.
    let reply = asking.await.unwrap().unwrap();
    assert!(
        ["the zombie's", "the successor's"].contains(&reply.text().as_str()),
        "{reply}"
    );
    let replies = Crowd::connect(&others, 20).await.ask(&Ask::get(path)).await;
    assert_all_got(&replies, 20, "the successor's");
}
