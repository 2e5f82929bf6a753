//! What happens with bad input of an operator or a visitor, with an origin that
//! cannot be reached, and with a store that cannot be opened.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::process::{Command, ExitStatus};

use http::StatusCode;
use leeward_tests::client::{get, raw};
use leeward_tests::nodes::{self, ending};
use leeward_tests::origin::numbered;
use leeward_tests::redis::free_port;
use leeward_tests::{Ask, Node, Origin, Settings, World, wait};

/// A node for this origin. The arguments that a test adds name its store.
fn up_for(origin: &str) -> Command {
    let mut command = nodes::up();
    command.args(["--origin", origin]);
    command
}

/// Expects that the command is refused, with a message that contains all of
/// `expected`.
async fn assert_refused(case: &str, command: Command, expected: &[&str]) {
    let (status, errors) = ending(command).await;
    assert_eq!(status.code(), Some(2), "{case}: {errors}");
    for expected in expected {
        assert!(
            errors.contains(expected),
            "{case}: no {expected:?} in {errors:?}"
        );
    }
    assert!(!errors.contains("panicked"), "{case}: {errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_not_a_url_is_refused_with_an_example() {
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
async fn an_origin_that_cannot_be_reached_is_a_warning_and_stored_responses_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", directory.path().join("store.db").display());
    let origin = Origin::start();
    let up = || {
        let mut command = up_for(&origin.url());
        command.args(["--store", &store]);
        command
    };
    let mut node = Node::start(up()).await;
    let stored = get(node.address(), "/stored").await;
    assert_eq!(stored.status, StatusCode::OK, "{stored}");
    wait::until("the response is stored", wait::SOON, async || {
        let again = get(node.address(), "/stored").await;
        again.is_fresh_hit().then_some(())
    })
    .await;
    node.end().await;

    origin.stop().await;
    let node = Node::start(up()).await;
    let reply = get(node.address(), "/stored").await;
    assert_eq!(reply.text(), stored.text(), "{reply}");
    wait::until("the warning", wait::SOON, async || {
        let errors = node.errors();
        let warned =
            errors.contains("\"event\":\"origin-unreachable\"") && errors.contains(&origin.url());
        warned.then_some(())
    })
    .await;

    let reply = get(node.address(), "/early").await;
    assert!(reply.status.is_server_error(), "{reply}");
    reply.cache_status();
    origin.recover();
    wait::until("the origin is asked again", wait::SOON, async || {
        (get(node.address(), "/early").await.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_option_that_allowed_an_unreachable_origin_is_still_accepted() {
    let origin = Origin::start();
    let mut command = up_for(&origin.url());
    command.args(["--store", "memory", "--allow-unreachable-origin"]);
    let node = Node::start(command).await;
    assert_eq!(get(node.address(), "/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_connect_the_origin_gets_the_host_name_of_its_url() {
    let origin = Origin::start();
    let address = origin.address().to_string();
    for (case, arguments, variable) in [
        ("an option", &["--connect", &address][..], None),
        ("a variable", &[], Some(&address)),
    ] {
        let mut command = up_for("http://legacy.example.com");
        command.args(["--store", "memory"]).args(arguments);
        if let Some(address) = variable {
            command.env("LEEWARD_CONNECT", address);
        }
        let node = Node::start(command).await;
        let path = format!("/connect/{}", case.replace(' ', "-"));
        let reply = get(node.address(), &path).await;
        assert_eq!(reply.status, StatusCode::OK, "{case}: {reply}");
        let record = origin.record(&path);
        assert_eq!(
            record.arrivals[0].headers["host"], "legacy.example.com",
            "{case}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_connect_address_is_refused_with_a_remedy() {
    for address in ["10.0.0.5", "http://10.0.0.5:80", "10.0.0.5:0", "a b:80"] {
        let mut command = up_for("http://legacy.example.com");
        command.args(["--store", "memory", "--connect", address]);
        let expected = [address, "write --connect HOST:PORT"];
        assert_refused(address, command, &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_not_repeated_in_messages() {
    for (case, origin, store) in [
        ("origin", "http://user:s3cret@10.0.0.5", "memory"),
        ("store", "http://10.0.0.5", "redis://:s3cret@cache:x"),
    ] {
        let mut command = up_for(origin);
        command.args(["--store", store]);
        let (status, errors) = ending(command).await;
        assert_eq!(status.code(), Some(2), "{case}: {errors}");
        assert!(errors.contains("***@"), "{case}: {errors}");
        assert!(!errors.contains("s3cret"), "{case}: {errors}");
    }
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
async fn a_configuration_with_a_mistake_is_refused_with_position_and_remedy() {
    let origin = Origin::start();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("leeward.toml");
    for (text, expected) in [
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
        assert_refused(text, command, expected).await;
    }
    let mut command = up_for(&origin.url());
    command
        .args(["--store", "memory", "--config"])
        .arg(directory.path().join("absent.toml"));
    assert_refused("no such file", command, &["absent.toml"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_opened_is_reported_and_requests_are_answered() {
    let origin = Origin::start();
    let directory = tempfile::tempdir().unwrap();
    for (case, store) in [
        // A directory is not a database, and no server listens on a free port.
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
        }
        // The node stands in for it.
        assert_eq!(origin.count(&path), 1, "{case}");
        wait::until("the log names the failure", wait::SOON, async || {
            node.errors().contains("store-failed").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_a_limit_and_upgrades_are_refused() {
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
    // The node still answers requests within the limits.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusual_but_valid_requests_are_served() {
    let world = World::single().await;
    for (case, request, path, count) in [
        (
            "HTTP/1.0 without Host",
            "GET /valid/1 HTTP/1.0\r\n\r\n",
            "/valid/1",
            1,
        ),
        (
            "an empty Host",
            "GET /valid/2 HTTP/1.1\r\nhost:\r\n\r\n",
            "/valid/2",
            1,
        ),
        (
            "an Upgrade that Connection does not name",
            "GET /valid/3 HTTP/1.1\r\nhost: shop.example\r\nupgrade: websocket\r\n\r\n",
            "/valid/3",
            1,
        ),
        (
            "an absolute target without a path",
            "GET http://shop.example HTTP/1.1\r\nhost: shop.example\r\n\r\n",
            "/",
            1,
        ),
        (
            // Another resource than the one before.
            "an absolute target without a path, with a query",
            "GET http://shop.example?x=1 HTTP/1.1\r\nhost: shop.example\r\n\r\n",
            "/",
            2,
        ),
    ] {
        let answer = raw(world.node(0), request.as_bytes()).await.unwrap();
        let first = answer.lines().next().unwrap_or_default();
        assert!(first.ends_with(" 200 OK"), "{case}: {first:?}");
        assert_eq!(
            world.origin.count(path),
            count,
            "{case}: requests at the origin"
        );
    }
}

/// A rule that an earlier one hides, and its place.
const HIDDEN: &str = "[[rule]]\nmatch = { path = \"/*\" }\ncookies = \"ignore\"\n[[rule]]\nmatch = { \
                      path = \"/a\" }\n";
const HIDDEN_AT: &str = "5:9";

/// How the command ends, and what it writes to standard output.
async fn output_of(mut command: Command) -> (ExitStatus, String) {
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_refuses_settings_beyond_the_limits_of_a_platform() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leeward.toml");
    fs::write(&file, "origin.max_per_hour = 5000\n").unwrap();
    let check = |platform: &str, plan: &[&str]| {
        let mut command = Command::new(nodes::built().0);
        command.arg("check").arg(&file);
        command.args(["--platform", platform]).args(plan);
        command
    };
    let place = format!("{}:1:23: origin.max_per_hour", file.display());
    let expected = [place.as_str(), "write at most 500"];
    assert_refused("the small plan", check("fermyon-cloud", &[]), &expected).await;
    for (platform, plan) in [
        ("fermyon-cloud", &["--outbound-per-hour", "5000"][..]),
        ("spin", &[]),
    ] {
        let (status, errors) = ending(check(platform, plan)).await;
        assert!(status.success(), "{platform}: {errors}");
    }
    // It said "valid for spin", and `config` for the name of the file.
    let name = file.display().to_string();
    fs::write(&file, HIDDEN).unwrap();
    let (status, said) = output_of(check("spin", &[])).await;
    assert!(status.success(), "{said}");
    let valid = format!("{name} is valid for the platform spin\n");
    let warning = format!("warning: {name}:{HIDDEN_AT}: rule.match: never applies");
    for line in [valid, warning] {
        assert!(said.contains(&line), "{said}");
    }
    let unknown = check("fermyon", &[]);
    assert_refused(
        "an unknown platform",
        unknown,
        &["fermyon-cloud", "wasmcloud"],
    )
    .await;
}
