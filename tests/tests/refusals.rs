//! What bad input gets: from an operator, from a visitor, and from a store that
//! cannot be opened.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::process::Command;

use http::StatusCode;
use leeward_tests::client::{get, raw};
use leeward_tests::nodes::{self, ending};
use leeward_tests::origin::numbered;
use leeward_tests::redis::free_port;
use leeward_tests::{Ask, Node, Origin, Settings, World, wait};

/// A node with a store in memory, or in the place that further arguments say.
fn up_for(origin: &str) -> Command {
    let mut command = nodes::up();
    command.args(["--origin", origin]);
    command
}

/// Expects that the command is refused, with a message that says all of this.
async fn assert_refused(case: &str, command: Command, said: &[&str]) {
    let (status, errors) = ending(command).await;
    assert_eq!(status.code(), Some(2), "{case}: {errors}");
    for said in said {
        assert!(
            errors.contains(said),
            "{case}: nothing of {said:?} in {errors:?}"
        );
    }
    assert!(!errors.contains("panicked"), "{case}: {errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_no_url_is_refused_with_an_example() {
    for origin in [
        "",
        "shop",
        "shop.example:8080",
        "ftp://shop.example",
        "http://",
        "http://shop example",
        "http://shop:99999",
    ] {
        let mut command = up_for(origin);
        command.args(["--store", "memory"]);
        assert_refused(&format!("{origin:?}"), command, &["origin", "http://"]).await;
    }
    let mut command = nodes::up();
    command
        .args(["--store", "memory"])
        .env("SPIN_VARIABLE_ORIGIN", "shop");
    assert_refused("a variable", command, &["origin", "http://"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_cannot_be_reached_is_refused_unless_allowed() {
    let origin = Origin::start();
    origin.stop().await;
    let mut command = up_for(&origin.url());
    command.args(["--store", "memory"]);
    assert_refused(
        "unreachable",
        command,
        &[&origin.url(), "--allow-unreachable-origin"],
    )
    .await;

    let mut command = up_for(&origin.url());
    command.args(["--store", "memory", "--allow-unreachable-origin"]);
    let node = Node::start(command).await;
    let reply = get(node.address(), "/early").await;
    assert!(reply.status.is_server_error(), "{reply}");
    reply.cache_status();
    origin.recover();
    wait::until("the origin is noticed", wait::SOON, async || {
        (get(node.address(), "/early").await.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_may_come_from_a_variable() {
    let origin = Origin::start();
    let mut command = nodes::up();
    command
        .args(["--store", "memory"])
        .env("SPIN_VARIABLE_ORIGIN", origin.url());
    let node = Node::start(command).await;
    assert_eq!(
        get(node.address(), "/variable").await.text(),
        numbered("/variable", 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_with_a_mistake_is_refused_with_place_and_remedy() {
    let origin = Origin::start();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("leeward.toml");
    for (text, said) in [
        (
            "[freshness]\ndefault_tll = \"60s\"\n",
            &[":2:", "default_tll", "default_ttl"][..],
        ),
        (
            "[freshness]\ndefault_ttl = \"60\"\n",
            &[":2:", "default_ttl", "60s"],
        ),
        (
            "preset = \"fast\"\n",
            &[":1:", "preset", "uptime", "strict"],
        ),
        ("preset = \"uptime\"\n[lease\n", &[":2:"]),
    ] {
        fs::write(&config, text).unwrap();
        let mut command = up_for(&origin.url());
        command.args(["--store", "memory", "--config"]).arg(&config);
        assert_refused(text, command, said).await;
    }
    let mut command = up_for(&origin.url());
    command
        .args(["--store", "memory", "--config"])
        .arg(directory.path().join("absent.toml"));
    assert_refused("no such file", command, &["absent.toml"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_opened_costs_no_answer_and_is_told() {
    let origin = Origin::start();
    let directory = tempfile::tempdir().unwrap();
    for (case, store) in [
        // A directory is no database, and nobody listens on a free port.
        ("SQLite", format!("sqlite:{}", directory.path().display())),
        (
            "Redis",
            format!("redis://127.0.0.1:{}", free_port().unwrap()),
        ),
    ] {
        let mut command = up_for(&origin.url());
        command.args(["--store", &store]);
        let node = Node::start(command).await;
        let path = format!("/store/{case}");
        for _ in 0..3 {
            let reply = get(node.address(), &path).await;
            assert_eq!(reply.status, StatusCode::OK, "{case}: {reply}");
            let status = reply.cache_status();
            let told = status
                .value("detail")
                .is_some_and(|detail| detail.contains("store"));
            assert!(told, "{case}: nothing of the store in {reply}");
        }
        wait::until("the log tells of the store", wait::SOON, async || {
            node.errors().contains("store").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_a_limit_and_of_unknown_kinds_are_refused() {
    let world = World::single().await;
    let many: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "x".repeat(40_000));
    let long = format!("/limit?{}", "x".repeat(9_000));
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\n";
    for (case, line, headers, status) in [
        ("a long URL", format!("GET {long}"), "", 414),
        ("many headers", "GET /limit".to_owned(), many.as_str(), 431),
        (
            "a large header",
            "GET /limit".to_owned(),
            large.as_str(),
            431,
        ),
        ("CONNECT", "CONNECT shop.example:443".to_owned(), "", 501),
        ("an upgrade", "GET /limit".to_owned(), websocket, 501),
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: shop.example\r\n{headers}\r\n");
        let answer = raw(world.node(0), request.as_bytes()).await.unwrap();
        let first = answer.lines().next().unwrap_or_default();
        assert!(
            first.starts_with(&format!("HTTP/1.1 {status} ")),
            "{case}: {first:?}"
        );
        assert!(
            answer.contains("\r\ncache-status: leeward;detail=refused\r\n"),
            "{case}: {answer}"
        );
        assert_eq!(
            world.origin.count("/limit"),
            0,
            "{case}: requests at the origin"
        );
    }
    // Within the limits, and with the node unharmed.
    let near = format!("/limit?{}", "x".repeat(7_000));
    let reply = Ask::get(&near)
        .header("x-large", &"x".repeat(20_000))
        .to(world.node(0))
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_bodies_over_the_limit_are_refused() {
    let settings = Settings {
        more: "[limits]\nrequest_body = 10",
        ..Settings::default()
    };
    let world = World::single_with(settings, &[]).await;
    let path = "/body";
    for (case, headers, body, status) in [
        ("within", "content-length: 10", "0123456789", 200),
        ("none", "x: y", "", 200),
        ("over", "content-length: 11", "0123456789a", 413),
    ] {
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: shop.example\r\n{headers}\r\n\r\n{body}");
        let answer = raw(world.node(0), request.as_bytes()).await.unwrap();
        let first = answer.lines().next().unwrap_or_default();
        assert!(
            first.starts_with(&format!("HTTP/1.1 {status} ")),
            "{case}: {first:?}"
        );
    }
    assert_eq!(world.origin.count(path), 2, "requests at the origin");
}
