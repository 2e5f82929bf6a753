//! The embedded host's edge: odd and slow clients, long requests, stopping, and its
//! stores.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;
use leeward_tests::client::{RawAsk, get};
use leeward_tests::nodes;
use leeward_tests::origin::numbered;
use leeward_tests::redis::{RedisServer, authority};
use leeward_tests::{Answer, Gate, Node, Origin, Settings, World, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reads what is left on a connection, as text.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    // A reset after the answer is an end too.
    let _ = tokio::time::timeout(wait::SOON, read)
        .await
        .expect("the connection does not end");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A connection on which these bytes were sent.
async fn sent(address: SocketAddr, bytes: &str) -> TcpStream {
    RawAsk::new(bytes).send(address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_side_gets_its_answer() {
    let world = World::single().await;
    let gate = Gate::closed();
    world
        .origin
        .always("/half", Answer::numbered().max_age(600).gate(&gate));
    let mut stream = sent(
        world.node(0),
        "GET /half HTTP/1.1\r\nhost: shop.example\r\n\r\n",
    )
    .await;
    stream.shutdown().await.unwrap();
    world.origin.until_count("/half", 1, wait::SOON).await;
    gate.open();
    let reply = rest(stream).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert!(reply.ends_with(&numbered("/half", 1)), "{reply}");
}

/// A POST in chunks of one byte.
fn chunked(path: &str, bytes: usize) -> String {
    let chunks = "1\r\nx\r\n".repeat(bytes);
    format!(
        "POST {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_content_holds_without_an_announced_length() {
    let settings = Settings {
        more: "[limits]\nrequest_body = 5",
        ..Settings::default()
    };
    let world = World::single_with(settings, &[]).await;
    let whole = Arc::new(Mutex::new(Vec::new()));
    let seen_whole = Arc::clone(&whole);
    let answer = Answer::made_by(move |seen| {
        seen_whole.lock().unwrap().push(seen.content.len());
        Answer::fixed("taken")
    });
    world.origin.always("/limit", answer);
    for (bytes, status) in [(5, "200"), (6, "413"), (1_000, "413"), (5, "200")] {
        let reply = rest(sent(world.node(0), &chunked("/limit", bytes)).await).await;
        let answered = reply.split(' ').nth(1);
        assert_eq!(answered, Some(status), "{bytes} bytes: {reply}");
    }
    // The origin never takes a part for the whole.
    assert_eq!(*whole.lock().unwrap(), [5, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_makes_progress_may_take_longer_than_the_first_byte() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("leeward.toml");
    // The longest pause, and many times less than the whole.
    fs::write(&config, "origin.first_byte_timeout = \"400ms\"").unwrap();
    let origin = Origin::start();
    // The answer comes after the content.
    origin.always(
        "/upload",
        Answer::made_by(|seen| Answer::fixed(seen.content.clone())),
    );
    let mut command = node_for(&origin, "memory");
    command.arg("--config").arg(&config);
    let node = Node::start(command).await;

    let mut stream = sent(
        node.address(),
        "POST /upload HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\
         content-length: 6\r\n\r\n",
    )
    .await;
    for _ in 0..6 {
        wait::until_past(Instant::now() + Duration::from_millis(300)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let reply = rest(stream).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert!(reply.ends_with("xxxxxx"), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_stop_does_not_wait_for_clients_without_a_request() {
    let mut world = World::single().await;
    let address = world.node(0);
    let mut open = Vec::new();
    for bytes in ["", "GET /half-a-head HTTP/1.1\r\nhost: sh"] {
        open.push(sent(address, bytes).await);
    }
    // One that has been answered, and is kept for the next request.
    let mut kept = sent(address, "GET /kept HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
    let mut bytes = [0; 15];
    kept.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"HTTP/1.1 200 OK");

    let gate = Gate::closed();
    world
        .origin
        .always("/asked", Answer::numbered().gate(&gate));
    let asked = sent(address, "GET /asked HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
    world.origin.until_count("/asked", 1, wait::SOON).await;
    let finish = async {
        // The connections without a request end while the other is in flight.
        for stream in open {
            assert_eq!(rest(stream).await, "");
        }
        gate.open();
        rest(asked).await
    };
    let (status, reply) = tokio::join!(world.process(0).end(), finish);
    assert!(status.success(), "{status}");
    assert!(reply.ends_with(&numbered("/asked", 1)), "{reply}");
    let errors = world.process(0).errors();
    assert!(errors.contains("nothing was cut"), "{errors}");
}

/// A node for this origin on this store.
fn node_for(origin: &Origin, store: &str) -> Command {
    let mut command = nodes::up();
    command.args(["--origin", &origin.url(), "--store", store]);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_a_redis_over_tls_that_the_environment_names() {
    let server = RedisServer::start_with_tls().await;
    let origin = Origin::start();
    origin.always("/tls", Answer::numbered().max_age(600));
    let up = || {
        let mut command = nodes::up();
        command
            .args(["--origin", &origin.url()])
            .env("LEEWARD_STORE", server.tls_url())
            .env("SSL_CERT_FILE", authority());
        command
    };
    let one = Node::start(up()).await;
    let other = Node::start(up()).await;
    get(one.address(), "/tls").await;
    wait::until("the other node serves it", wait::SOON, async || {
        let reply = get(other.address(), "/tls").await;
        reply.is_fresh_hit().then_some(())
    })
    .await;
    let errors = one.errors();
    assert!(!errors.contains("cannot be used"), "{errors}");
    let keys: Vec<String> = ::redis::cmd("KEYS")
        .arg("*")
        .query(&mut server.connection().unwrap())
        .unwrap();
    assert!(!keys.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_whose_certificate_is_not_trusted_is_not_used() {
    let server = RedisServer::start_with_tls().await;
    let origin = Origin::start();
    let node = Node::start(node_for(&origin, &server.tls_url())).await;
    wait::until("the warning", wait::SOON, async || {
        node.errors().contains("cannot be used now").then_some(())
    })
    .await;
    // Visitors do not notice.
    assert_eq!(get(node.address(), "/").await.status, StatusCode::OK);
    let keys: Vec<String> = ::redis::cmd("KEYS")
        .arg("*")
        .query(&mut server.connection().unwrap())
        .unwrap();
    assert_eq!(keys, Vec::<String>::new());
}

/// The names of the damaged files that were moved aside.
fn moved(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".corrupt-") && !name.ends_with("-wal"))
        .filter(|name| !name.ends_with("-shm"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_sqlite_file_is_replaced_while_the_nodes_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let store = format!("sqlite:{}", file.display());
    fs::write(&file, "not a database\n".repeat(1_000)).unwrap();
    let origin = Origin::start();
    origin.otherwise(Answer::numbered().max_age(600));
    let one = Node::start(node_for(&origin, &store)).await;
    let other = Node::start(node_for(&origin, &store)).await;
    let is_shared = async |path: &str| {
        get(one.address(), path).await;
        wait::until("the other node serves it", wait::SOON, async || {
            let reply = get(other.address(), path).await;
            assert_eq!(reply.status, StatusCode::OK, "{reply}");
            (reply.is_fresh_hit() && origin.count(path) == 1).then_some(())
        })
        .await;
    };
    is_shared("/start").await;
    assert_eq!(moved(directory.path()).len(), 1);
    let errors = format!("{}{}", one.errors(), other.errors());
    assert!(errors.contains("is damaged"), "{errors}");
    assert!(errors.contains("a new one was begun"), "{errors}");
}
