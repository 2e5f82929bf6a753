//! HTTP/1.1 between machines (RFC 9112): what the embedded host makes of messages that are not
//! as they should be, and what it sends itself.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leeward_tests::client::RawAsk;
use leeward_tests::{Answer, Node, Origin, nodes, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An origin that answers each path with these bytes, and closes the connection.
struct Scripted {
    url: String,
    /// The requests that came, head and content, in lower case.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(answers: &[(&'static str, &'static str)]) -> Self {
        let answers: HashMap<_, _> = answers.iter().copied().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                if request.is_empty() {
                    // The node has tried whether there is an origin.
                    continue;
                }
                let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
                let path = request.split(' ').nth(1).unwrap_or("").to_owned();
                noted.lock().unwrap().push(request);
                let answer = answers.get(path.as_str()).copied().unwrap_or(WHOLE);
                let _gone = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, seen }
    }

    async fn node(&self) -> Node {
        let mut command = nodes::up();
        command.args(["--origin", &self.url, "--store", "memory"]);
        Node::start(command).await
    }

    /// The last request for a path.
    fn last(&self, path: &str) -> String {
        let seen = self.seen.lock().unwrap();
        let last = seen.iter().rfind(|request| request.contains(path));
        last.cloned().unwrap_or_default()
    }
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";

/// What comes on a connection until it ends, in lower case.
async fn reply(address: SocketAddr, request: &str) -> String {
    let mut stream = RawAsk::new(request).send(address).await.unwrap();
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let _reset = tokio::time::timeout(wait::SOON, read)
        .await
        .expect("the connection does not end");
    String::from_utf8_lossy(&bytes).to_ascii_lowercase()
}

/// A request on a connection of its own.
fn request(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n{fields}\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_content_has_no_chunks_and_a_length_only_where_servers_ask_for_it() {
    let origin = Scripted::start(&[]).await;
    let node = origin.node().await;
    for (method, fields, length) in [
        ("POST", "", Some("content-length: 0\r\n")),
        (
            "PUT",
            "content-length: 0\r\n",
            Some("content-length: 0\r\n"),
        ),
        ("PATCH", "", Some("content-length: 0\r\n")),
        ("DELETE", "", None),
        ("DELETE", "content-length: 0\r\n", None),
        ("OPTIONS", "", None),
        ("PROPFIND", "", None),
    ] {
        let path = format!("/{}-{}", method.to_ascii_lowercase(), fields.len());
        let replied = reply(
            node.address(),
            &request(&format!("{method} {path}"), fields),
        )
        .await;
        assert!(replied.starts_with("http/1.1 200 "), "{replied}");
        let seen = origin.last(&path);
        assert!(!seen.contains("transfer-encoding"), "{seen}");
        match length {
            Some(length) => assert!(seen.contains(length), "{seen}"),
            None => assert!(!seen.contains("content-length"), "{seen}"),
        }
        assert!(seen.ends_with("\r\n\r\n"), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_origin_says_about_its_content_is_repaired() {
    let origin = Scripted::start(&[
        (
            "/both",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\
             Cache-Control: max-age=600\r\n\r\n4\r\npage\r\n0\r\n\r\n",
        ),
        (
            "/204",
            "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\nCache-Control: max-age=600\r\n\r\n",
        ),
        (
            "/205",
            "HTTP/1.1 205 Reset Content\r\nContent-Length: 4\r\n\r\npage",
        ),
        (
            "/dated",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=600\r\n\
             Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\npage",
        ),
        (
            "/charset",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=600\r\n\
             Content-Encoding: UTF-8\r\n\r\npage",
        ),
    ])
    .await;
    let node = origin.node().await;
    let get = async |path: &str, fields: &str| {
        reply(node.address(), &request(&format!("GET {path}"), fields)).await
    };
    for _ in 0..2 {
        let both = get("/both", "").await;
        assert!(both.starts_with("http/1.1 200 "), "{both}");
        assert!(
            both.contains("page") && !both.contains("content-length: 2"),
            "{both}"
        );
        for (path, status) in [("/204", "http/1.1 204 "), ("/205", "http/1.1 205 ")] {
            let without = get(path, "").await;
            assert!(without.starts_with(status), "{without}");
            assert!(!without.contains("content-length: 4"), "{without}");
            assert!(!without.contains("page"), "{without}");
        }
        let charset = get("/charset", "").await;
        assert!(charset.ends_with("\r\n\r\npage"), "{charset}");
        let range = "range: bytes=0-1\r\nif-range: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
        let part = get("/dated", range).await;
        assert!(part.starts_with("http/1.1 206 "), "{part}");
        assert!(part.ends_with("\r\n\r\npa"), "{part}");
    }
    let asked = origin.seen.lock().unwrap().len();
    // Only the 205 may not be stored.
    assert_eq!(asked, 6, "{:?}", origin.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sends_that_is_not_http_is_refused() {
    let origin = Scripted::start(&[]).await;
    let node = origin.node().await;
    let chunked = "transfer-encoding: chunked\r\n";
    let host =
        |host: &str| format!("GET /refused HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let content = |chunks: &str| request("POST /refused", chunked) + chunks;
    for (asked, status) in [
        (request("GET refused", ""), "400"),
        (request("GET *", ""), "400"),
        (request("GET refused:80", ""), "400"),
        (host("u:p@a.example"), "400"),
        (host("a.example:x"), "400"),
        (content("zz\r\nhi\r\n0\r\n\r\n"), "400"),
        (content("2\r\nhiX\r\n0\r\n\r\n"), "400"),
        (
            request("POST /refused", "transfer-encoding: gzip, chunked\r\n") + "0\r\n\r\n",
            "501",
        ),
        (content("2\r\nhi\r\n0\r\n\r\n"), "200"),
    ] {
        let replied = reply(node.address(), &asked).await;
        let found = replied.split(' ').nth(1);
        assert_eq!(found, Some(status), "{asked}: {replied}");
    }
    // The last one alone.
    assert_eq!(origin.seen.lock().unwrap().len(), 1);
}

/// A node that may open so many files, in front of `origin`.
async fn node_with_files(origin: &Origin, files: u32) -> Node {
    let up = nodes::up();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")])
        .arg(up.get_program())
        .args(up.get_args())
        .args(["--origin", &origin.url(), "--store", "memory"]);
    Node::start(command).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_idle_connections_than_files_keep_nobody_out() {
    let origin = Origin::start();
    origin.otherwise(Answer::numbered().max_age(600));
    let node = node_with_files(&origin, 400).await;
    let mut idle = Vec::new();
    for _ in 0..600 {
        let stream = tokio::time::timeout(wait::SOON, TcpStream::connect(node.address())).await;
        idle.push(stream.unwrap().unwrap());
    }
    for count in 0..8 {
        let page = request(&format!("GET /{count}"), "");
        let asked = reply(node.address(), &page);
        // Far less is usual.
        let replied = tokio::time::timeout(Duration::from_secs(4), asked).await;
        let replied = replied.unwrap_or_else(|_| panic!("{}", node.errors()));
        assert!(replied.starts_with("http/1.1 200 "), "{replied}");
    }
    drop(idle);
    let errors = node.errors();
    assert!(!errors.contains("cannot accept"), "{errors}");
}
