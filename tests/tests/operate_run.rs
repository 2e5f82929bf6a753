//! Running the embedded host: it is stopped, and its settings change, while visitors are
//! there.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use leeward_tests::client::{Ask, Load, RawAsk, ask};
use leeward_tests::nodes::{self, built, ending};
use leeward_tests::{Answer, Gate, Node, Origin, tls, wait};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// A node for this origin, with its store in memory.
fn node_for(origin: &Origin) -> Command {
    let mut command = nodes::up();
    command.args(["--origin", &origin.url(), "--store", "memory"]);
    command
}

/// Waits until the node's log has `text`.
async fn until_logged(node: &Node, text: &str) {
    wait::until(text, wait::SOON, async || {
        node.errors().contains(text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_finish_after_a_signal_and_new_connections_are_refused() {
    let origin = Origin::start();
    let gate = Gate::closed();
    origin.always("/order", Answer::fixed("ordered").gate(&gate));
    let mut node = Node::start(node_for(&origin)).await;
    let address = node.address();
    let post = tokio::spawn(async move {
        let order = Ask::new(Method::POST, "/order").body("one");
        order.to(address).await
    });
    origin.until_count("/order", 1, wait::SOON).await;
    node.ask_to_end();
    wait::until("connections are refused", wait::SOON, async || {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    gate.open();
    let reply = post.await.unwrap().unwrap();
    assert_eq!(reply.text(), "ordered");
    assert_eq!(reply.header("connection"), "close");
    assert!(node.until_ended().await.success());
    let log = node.errors();
    assert!(log.contains("requests in flight: 1"), "{log}");
    assert!(log.contains("nothing was cut"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_outlasts_the_drain_or_a_second_signal_is_cut_and_counted() {
    let origin = Origin::start();
    let never = Gate::closed();
    origin.always("/never", Answer::fixed("never").gate(&never));
    for (drain, signals, said) in [("1s", 1, "after 1s (--drain)"), ("1h", 2, "second signal")] {
        let mut command = node_for(&origin);
        command.args(["--drain", drain]);
        let mut node = Node::start(command).await;
        let before = origin.count("/never");
        let request = RawAsk::new("POST /never HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        let mut stream = request.send(node.address()).await.unwrap();
        origin.until_count("/never", before + 1, wait::SOON).await;
        for _ in 1..signals {
            node.ask_to_end();
            until_logged(&node, "stopping").await;
        }
        assert!(node.end().await.success());
        let log = node.errors();
        assert!(log.contains(said), "{log}");
        assert!(log.contains("requests cut: 1"), "{log}");
        assert!(!log.contains("died"), "{log}");
        // A reset is an end too.
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        assert_eq!(String::from_utf8_lossy(&bytes), "");
    }
}

/// What a rule says of `/page`.
fn configuration(path: &Path, body: &str) {
    let text = format!(
        "[[rule]]\nmatch = {{ path = \"/page\" }}\nfallback = {{ status = 200, content_type = \
         \"text/plain\", body = \"{body}\" }}\n"
    );
    fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_takes_effect_and_drops_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("leeward.toml");
    let pid_file = directory.path().join("leeward.pid");
    configuration(&config, "one");
    let origin = Origin::start();
    origin.otherwise(Answer::numbered().max_age(600));
    origin.always("/page", Answer::hang_up());
    let mut command = node_for(&origin);
    command.arg("--config").arg(&config);
    command.arg("--pid-file").arg(&pid_file);
    let mut node = Node::start(command).await;
    let fallback = async || ask(node.address(), &Ask::get("/page")).await.text();
    let load = Load::start(&[node.address()], &["/a", "/b", "/c", "/d"], 8);
    wait::until("the first settings", wait::SOON, async || {
        (fallback().await == "one").then_some(())
    })
    .await;
    for body in ["two", "three", "four", "five"] {
        configuration(&config, body);
        let mut reload = Command::new(built().0);
        reload.arg("reload").arg("--pid-file").arg(&pid_file);
        let (status, said) = ending(reload).await;
        assert!(status.success(), "{said}");
        wait::until("the settings of now", wait::SOON, async || {
            (fallback().await == body).then_some(())
        })
        .await;
    }
    // A wrong file changes nothing.
    fs::write(&config, "[limits]\nurls = 1111\n").unwrap();
    node.reload();
    until_logged(&node, "not reloaded").await;
    let log = node.errors();
    let place = format!("{}:2:1: limits.urls", config.display());
    assert!(log.contains(&place), "{log}");
    assert_eq!(fallback().await, "five");
    let visits = load.finish().await;
    assert!(visits.len() > 8, "{}", visits.len());
    for visit in &visits {
        assert!(visit.is_ok(), "{visit}");
    }
    assert!(!log.contains("died"), "{log}");
    assert!(node.end().await.success());
    assert!(!pid_file.exists());
}

/// docs/configuration.md said so, and only `leeward check` did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_and_a_reload_warn_of_settings_that_are_probably_not_meant_so() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("leeward.toml");
    let all = "[[rule]]\nmatch = { path = \"/*\" }\ncookies = \"ignore\"\n";
    let rule = |path: &str| format!("[[rule]]\nmatch = {{ path = \"{path}\" }}\n");
    fs::write(&config, format!("{all}{}", rule("/a"))).unwrap();
    let origin = Origin::start();
    origin.otherwise(Answer::fixed("page"));
    let mut command = node_for(&origin);
    command.arg("--config").arg(&config);
    let node = Node::start(command).await;
    let warnings = || {
        let log = node.errors();
        let lines = log.lines().map(|line| line.parse().unwrap());
        let is_warning = |line: &serde_json::Value| line["event"] == "settings-doubtful";
        let found: Vec<serde_json::Value> = lines.filter(is_warning).collect();
        found
    };
    let of_line = |line: &serde_json::Value, place: &str| {
        let begin = format!("{}:{place}: rule.match: never applies", config.display());
        let message = line["message"].as_str().unwrap();
        assert!(message.starts_with(&begin), "{message}");
        assert_eq!(line["level"], "warn");
    };
    let found = warnings();
    assert_eq!(found.len(), 1, "{found:?}");
    of_line(&found[0], "5:9");
    fs::write(&config, format!("{all}{}{}", rule("/a"), rule("/b"))).unwrap();
    node.reload();
    until_logged(&node, "\"reloaded\"").await;
    let found = warnings();
    assert_eq!(found.len(), 3, "{found:?}");
    of_line(&found[1], "5:9");
    of_line(&found[2], "7:9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_listens_on_all_of_its_addresses_or_does_not_start() {
    let origin = Origin::start();
    origin.otherwise(Answer::numbered());
    let mut command = node_for(&origin);
    command.args(["--listen", "127.0.0.1:0"]);
    let node = Node::start(command).await;
    let addresses = nodes::addresses(&node.output());
    assert_eq!(addresses.len(), 2, "{}", node.output());
    for address in addresses {
        let reply = ask(address, &Ask::get("/")).await;
        assert_eq!(reply.status, StatusCode::OK);
    }
    let busy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let busy_address = busy.local_addr().unwrap().to_string();
    let mut command = node_for(&origin);
    command.args(["--listen", &busy_address]);
    let (status, said) = ending(command).await;
    assert!(!status.success());
    let expected = format!("cannot listen on {busy_address}");
    assert!(said.contains(&expected), "{said}");
}

/// A GET of `path`, with these fields.
fn get_of(path: &str, fields: &[(String, String)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(format!("https://shop.example{path}"));
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.body(Full::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_get_https_by_both_versions_of_http_and_the_certificate_of_now() {
    let directory = tempfile::tempdir().unwrap();
    let (pem, key) = (directory.path().join("pem"), directory.path().join("key"));
    let install = |name: &str| {
        fs::copy(tls::file(&format!("{name}.pem")), &pem).unwrap();
        fs::copy(tls::file(&format!("{name}.key")), &key).unwrap();
    };
    install("server");
    let origin = Origin::start();
    let seen = Answer::made_by(|seen| {
        let fields = ["x-forwarded-proto", "x-forwarded-host", "cookie"];
        let values = fields.map(|name| seen.header(name).unwrap_or_default());
        Answer::fixed(values.join(" | "))
    });
    origin.always("/seen", seen);
    let mut command = node_for(&origin);
    command
        .arg("--tls-cert")
        .arg(&pem)
        .arg("--tls-key")
        .arg(&key);
    let node = Node::start(command).await;
    let address = node.address();
    let authority = tls::file("ca.pem");
    let cookies = ["a=1", "b=2"].map(|value| ("cookie".to_owned(), value.to_owned()));
    let mut request = get_of("/seen", &cookies);
    let reply = tls::ask(address, &authority, "h2", request).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(reply.body(), "https | shop.example | a=1; b=2");
    request = get_of("/seen", &[("host".to_owned(), "shop.example".to_owned())]);
    let reply = tls::ask(address, &authority, "http/1.1", request).await;
    let reply = reply.unwrap();
    assert!(reply.body().starts_with(b"https | "), "{reply:?}");
    // The limits of heads hold: 1,000 fields, and 262,144 bytes.
    let many: Vec<_> = (0..1_001)
        .map(|n| (format!("x-{n}"), String::new()))
        .collect();
    let long = [("x".to_owned(), "y".repeat(262_144))];
    for fields in [&many[..], &long] {
        let refused = tls::ask(address, &authority, "h2", get_of("/seen", fields)).await;
        let refused = refused.map(|reply| reply.status());
        // A client may also be told before it has sent all of it.
        if let Ok(status) = refused {
            assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
    }
    assert_eq!(origin.count("/seen"), 2);

    // A key that belongs to another certificate is refused.
    fs::copy(tls::file("self-signed.key"), &key).unwrap();
    node.reload();
    until_logged(&node, "does not belong to the first certificate").await;
    assert!(tls::connect(address, &authority, "h2").await.is_ok());
    install("self-signed");
    node.reload();
    until_logged(&node, "get the certificate as it is now").await;
    assert!(tls::connect(address, &authority, "h2").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_with_a_certificate_of_ones_own_is_trusted_when_that_is_named() {
    let origin = Origin::start();
    origin.otherwise(Answer::fixed("page"));
    for (name, authority) in [("self-signed", "self-signed.pem"), ("server", "ca.pem")] {
        let pem = tls::file(&format!("{name}.pem"));
        let key = tls::file(&format!("{name}.key"));
        let front = tls::Front::of(origin.address(), &pem, &key).await.unwrap();
        let url = format!("https://{}", front.address());
        let up = || {
            let mut command = nodes::up();
            command.args(["--store", "memory", "--origin", &url]);
            command
        };
        let node = Node::start(up()).await;
        let reply = ask(node.address(), &Ask::get("/")).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        until_logged(&node, "is not trusted").await;
        assert!(
            node.errors().contains("--origin-ca FILE"),
            "{}",
            node.errors()
        );
        let mut command = up();
        command.arg("--origin-ca").arg(tls::file(authority));
        let node = Node::start(command).await;
        assert_eq!(ask(node.address(), &Ask::get("/")).await.text(), "page");
    }
}
