//! The main job, on every store: the origin sees one request per key per
//! refresh, and visitors never see the origin fall over.
//!
//! | scenario | what it shows |
//! | --- | --- |
//! | `expiry` | 500 visitors at the moment of expiry: one request, nobody waits for it |
//! | `cold_key` | 500 visitors for a key never seen: one request, its body for all |
//! | `revalidator_killed_stale` | SIGKILL during a refresh: stale answers, one more request |
//! | `revalidator_killed_cold` | SIGKILL during a fill: followers answered after one more request |
//! | `origin_down` | no errors for known keys, attempts follow the backoff, recovery is noticed |
//! | `slow_origin_stale`, `slow_origin_cold` | an answer that takes several leases: still one request |
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use leeward_tests::client::{assert_all_got, get};
use leeward_tests::origin::{Arrival, numbered};
use leeward_tests::{
    Answer, Ask, Crowd, Gate, Load, Settings, StoreKind, World, on_every_store, wait,
};

/// Visitors at one moment in the main scenarios.
const CROWD: usize = 500;

/// Visitors beside an accident, where it is not the number that matters.
const FEW: usize = 60;

on_every_store!(
    expiry,
    cold_key,
    revalidator_killed_stale,
    revalidator_killed_cold,
    origin_down,
    slow_origin_stale,
    slow_origin_cold,
);

/// Asks each node for `path`, and expects this body.
async fn assert_served(nodes: &[SocketAddr], path: &str, body: &str) {
    for node in nodes {
        let reply = get(*node, path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, body),
            "{reply}"
        );
    }
}

async fn expiry(kind: StoreKind) {
    let world = World::start(kind).await;
    let (path, gate) = ("/expiry", Gate::closed());
    let (old, new) = (numbered(path, 1), numbered(path, 2));
    world.origin.next(path, Answer::numbered().max_age(2));
    world
        .origin
        .always(path, Answer::numbered().max_age(600).gate(&gate));

    // Everybody is connected before the entry expires, and asks when it has.
    let filled = get(world.node(0), path).await;
    let answered = Instant::now();
    assert_eq!(filled.text(), old);
    assert_served(&world.all(), path, &old).await;
    let crowd = Crowd::connect(&world.all(), CROWD).await;
    wait::until_past(answered + Duration::from_secs(2)).await;
    let replies = crowd.ask(&Ask::get(path)).await;

    // The origin still holds its answer back, so nobody can have waited for it.
    assert_all_got(&replies, CROWD, &old);
    world.origin.until_count(path, 2, wait::SOON).await;
    wait::throughout(
        "one refresh is under way",
        Duration::from_secs(1),
        async || world.origin.count(path) == 2,
    )
    .await;

    gate.open();
    world.until_fresh(&world.all(), path, &new).await;
    let seen = world.origin.record(path);
    assert_eq!(
        (seen.count(), seen.in_flight_max),
        (2, 1),
        "requests at the origin, and at once"
    );
}

async fn cold_key(kind: StoreKind) {
    let world = World::start(kind).await;
    let (path, gate) = ("/cold", Gate::closed());
    world
        .origin
        .always(path, Answer::numbered().max_age(600).gate(&gate));

    let crowd = Crowd::connect(&world.all(), CROWD).await;
    let ask = Ask::get(path);
    let asking = tokio::spawn(async move { crowd.ask(&ask).await });
    world.origin.until_count(path, 1, wait::SOON).await;
    wait::throughout(
        "one fetch is under way",
        Duration::from_secs(2),
        async || world.origin.count(path) == 1,
    )
    .await;
    assert!(
        !asking.is_finished(),
        "visitors were answered before the origin was"
    );

    gate.open();
    assert_all_got(&asking.await.unwrap(), CROWD, &numbered(path, 1));
    assert_eq!(world.origin.count(path), 1, "requests at the origin");
}

/// Fails if the last request for `path` came within a lease of the one that was
/// asked for at `asked`, whose holder died: nobody can know of that before.
fn assert_lease_was_respected(world: &World, path: &str, asked: Instant) {
    let last = world.origin.record(path).arrivals.pop().unwrap();
    let waited = last.at - asked;
    // Nodes read their clocks in whole milliseconds.
    let lease = world.settings.lease - Duration::from_millis(5);
    assert!(
        waited >= lease,
        "taken over after {waited:?}, within a lease"
    );
}

async fn revalidator_killed_stale(kind: StoreKind) {
    let mut world = World::start(kind).await;
    let (path, gate) = ("/killed", Gate::closed());
    let old = numbered(path, 1);
    world.origin.next(path, Answer::numbered().max_age(1));
    world
        .origin
        .always(path, Answer::numbered().max_age(600).gate(&gate));
    world.fill_and_expire(path, 1).await;

    // Node 0 becomes the revalidator, and dies of it.
    let asked = Instant::now();
    assert_served(&[world.node(0)], path, &old).await;
    world.origin.until_count(path, 2, wait::SOON).await;
    world.process(0).kill();

    let others = world.others();
    let replies = Crowd::connect(&others, FEW)
        .await
        .ask(&Ask::get(path))
        .await;
    assert_all_got(&replies, FEW, &old);
    wait::until("another node takes over", world.some_leases(), async || {
        assert_served(&others, path, &old).await;
        (world.origin.count(path) == 3).then_some(())
    })
    .await;
    wait::throughout(
        "one node takes over",
        world.settings.lease * 2,
        async || {
            assert_served(&others, path, &old).await;
            world.origin.count(path) == 3
        },
    )
    .await;

    assert_lease_was_respected(&world, path, asked);

    gate.open();
    world.until_fresh(&others, path, &numbered(path, 3)).await;
    assert_eq!(world.origin.count(path), 3, "requests at the origin");
}

async fn revalidator_killed_cold(kind: StoreKind) {
    let mut world = World::start(kind).await;
    let (path, gate) = ("/killed-cold", Gate::closed());
    world
        .origin
        .always(path, Answer::numbered().max_age(600).gate(&gate));

    // Node 0 gets there first; the visitors of the others wait for it.
    let (first, others) = (world.node(0), world.others());
    let asked = Instant::now();
    let unlucky = tokio::spawn(async move { Ask::get(path).to(first).await });
    world.origin.until_count(path, 1, wait::SOON).await;
    let crowd = Crowd::connect(&others, FEW).await;
    let asking = tokio::spawn(async move { crowd.ask(&Ask::get(path)).await });
    world.process(0).kill();
    assert!(
        unlucky.await.unwrap().is_err(),
        "the answer of a node that is dead"
    );

    world.origin.until_count(path, 2, world.some_leases()).await;
    wait::throughout(
        "one node takes over",
        world.settings.lease * 2,
        async || world.origin.count(path) == 2,
    )
    .await;

    assert_lease_was_respected(&world, path, asked);

    gate.open();
    assert_all_got(&asking.await.unwrap(), FEW, &numbered(path, 2));
    assert_eq!(world.origin.count(path), 2, "requests at the origin");
}

/// The shortest time that the backoff allows between the failure of attempt
/// `failed`, counted from 0, and the next attempt. Its random spread, up to a
/// quarter, only adds to it, and stays within `origin.retry.max`.
fn backoff_min(settings: &Settings, failed: usize) -> Duration {
    let factor = 1u32
        .checked_shl(u32::try_from(failed).unwrap())
        .unwrap_or(u32::MAX);
    let delay = settings
        .retry_first
        .saturating_mul(factor)
        .min(settings.retry_max * 4 / 5);
    // Nodes read their clocks in whole milliseconds.
    delay - Duration::from_millis(5)
}

/// Fails if attempts came sooner after each other than the backoff allows.
fn assert_backoff(settings: &Settings, path: &str, attempts: &[Arrival]) {
    for (failed, pair) in attempts.windows(2).enumerate() {
        let (gap, min) = (pair[1].at - pair[0].at, backoff_min(settings, failed));
        assert!(
            gap >= min,
            "{path}: attempt {} came {gap:?} after a failure, sooner than {min:?}",
            failed + 1
        );
    }
}

async fn origin_down(kind: StoreKind) {
    // The breaker stays open for as short a time as the keys' own backoff: this test is
    // about the latter.
    let settings = Settings {
        more: "[origin.breaker]\nopen_for = \"200ms\"\nmax_open_for = \"1s\"",
        ..Settings::default()
    };
    let world = World::start_with(kind, settings).await;
    // The page that the breaker asks for to check the origin, whatever a key's backoff is.
    // It worked first, and is of the application.
    let known_good = Answer::fixed("up").header("content-type", "text/html");
    world.origin.always("/up", known_good.max_age(600));
    world.fill_and_expire("/up", 0).await;
    let paths = ["/down/a", "/down/b", "/down/c"];
    for path in paths {
        world.origin.always(path, Answer::numbered().max_age(1));
        world.fill_and_expire(path, 0).await;
    }
    let load = Load::start(&world.all(), &paths, 12);

    // Down with a bang: connections are accepted, and reset once the request is in.
    let attempts = |before: usize| {
        let after: usize = paths.iter().map(|path| world.origin.count(path)).sum();
        after - before
    };
    let healthy = attempts(0);
    world.origin.crash();
    wait::until("18 attempts fail", world.some_leases(), async || {
        (attempts(healthy) >= 18).then_some(())
    })
    .await;
    // Then down quietly: connections are refused.
    world.origin.stop().await;
    let records: Vec<_> = paths.iter().map(|path| world.origin.record(path)).collect();
    wait::until_past(Instant::now() + world.settings.retry_max * 2).await;
    for (path, record) in paths.iter().zip(&records) {
        // A crashed origin reads no methods: these are the attempts that failed.
        let failed: Vec<_> = record
            .arrivals
            .iter()
            .filter(|arrival| arrival.method.is_none())
            .cloned()
            .collect();
        assert!(failed.len() >= 4, "{path}: {} attempts", failed.len());
        assert_backoff(&world.settings, path, &failed);
    }

    // Up again: the next attempt, one backoff later at most, finds out, and what
    // it brings is what all get from then on.
    for path in paths {
        world.origin.always(path, Answer::numbered().max_age(600));
    }
    world.origin.recover();
    for (path, record) in paths.iter().zip(&records) {
        let attempt = record.count() + 1;
        world
            .until_fresh(&world.all(), path, &numbered(path, attempt))
            .await;
    }

    let visits = load.finish().await;
    let failed: Vec<_> = visits
        .iter()
        .filter(|visit| !visit.is_ok())
        .map(ToString::to_string)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} visits failed: {:#?}",
        failed.len(),
        visits.len(),
        &failed[..failed.len().min(5)]
    );
    for (path, before) in paths.iter().zip(&records) {
        let record = world.origin.record(path);
        assert_eq!(
            (record.count(), record.in_flight_max),
            (before.count() + 1, 1),
            "requests for {path} at the origin in the end, and at once"
        );
        assert!(
            visits.iter().any(|visit| visit.path == *path),
            "nobody asked for {path}"
        );
    }
}

async fn slow_origin_stale(kind: StoreKind) {
    let world = World::start(kind).await;
    let (path, gate) = ("/slow", Gate::closed());
    let old = numbered(path, 1);
    world.origin.next(path, Answer::numbered().max_age(1));
    world
        .origin
        .always(path, Answer::numbered().max_age(600).gate(&gate));
    world.fill_and_expire(path, 1).await;

    assert_served(&world.all(), path, &old).await;
    world.origin.until_count(path, 2, wait::SOON).await;
    wait::throughout(
        "one refresh is under way",
        world.settings.lease * 3,
        async || {
            assert_served(&world.all(), path, &old).await;
            world.origin.count(path) == 2
        },
    )
    .await;

    gate.open();
    world
        .until_fresh(&world.all(), path, &numbered(path, 2))
        .await;
    assert_eq!(world.origin.count(path), 2, "requests at the origin");
}

async fn slow_origin_cold(kind: StoreKind) {
    let world = World::start(kind).await;
    let (path, gate) = ("/slow-cold", Gate::closed());
    world
        .origin
        .always(path, Answer::numbered().max_age(600).gate(&gate));

    let crowd = Crowd::connect(&world.all(), FEW).await;
    let asking = tokio::spawn(async move { crowd.ask(&Ask::get(path)).await });
    world.origin.until_count(path, 1, wait::SOON).await;
    wait::throughout(
        "one fetch is under way",
        world.settings.lease * 3,
        async || world.origin.count(path) == 1,
    )
    .await;

    gate.open();
    assert_all_got(&asking.await.unwrap(), FEW, &numbered(path, 1));
    assert_eq!(world.origin.count(path), 1, "requests at the origin");
}
