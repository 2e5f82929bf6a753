//! Clients that break HTTP/2 (RFC 9113), or use it to exhaust the node.
//!
//! Each gets the answer that the RFC names, and at most what a named bound of
//! `host/src/server/protocol.rs` or `connection.rs` allows. Meanwhile the visitors of other
//! connections are answered, those that came before it and those that come later.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use leeward_tests::client::RawAsk;
use leeward_tests::{Answer, Gate, Node, Origin, nodes, tls, wait};

use super::frames::{self, Client, End, Frame, block};
use super::frames::{CONTINUATION, DATA, HEADERS, PING, PRIORITY, PUSH_PROMISE};
use super::frames::{END_HEADERS, END_STREAM, GOAWAY, SETTINGS, WINDOW_UPDATE};
use super::frames::{
    ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, NO_ERROR, PROTOCOL_ERROR,
};

/// Most requests at once on a connection: `STREAMS_MAX` of the host.
const STREAMS_MAX: usize = 100;

/// Most requests of a connection that are reset before they are looked at:
/// `RESET_UNSEEN_MAX` of the host.
const RESET_UNSEEN_MAX: usize = 20;

/// Most requests that a client may take back unanswered: `ABANDONED_MAX` of the host.
const ABANDONED_MAX: usize = 100;

/// Most streams that are reset for the client's errors: `RESET_FOR_ERRORS_MAX` of the host.
const RESET_FOR_ERRORS_MAX: usize = 100;

/// Frames of a flood: many times what the node has room for.
const FLOOD: usize = 2_000_000;

/// The origin's budget.
const BUDGET: usize = 8;

/// Bytes of the large page: many times what a connection has room for.
const LARGE: usize = 4 << 20;

/// The fields of a GET of `path`, and others.
fn get<'a>(path: &'a str, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let own = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "shop.example"),
        (":path", path),
    ];
    [&own[..], others].concat()
}

/// A node that serves HTTPS, its origin, and a visitor that is there before all others.
struct Site {
    origin: Origin,
    node: Node,
    early: SendRequest<Full<Bytes>>,
}

impl Site {
    async fn start(options: &[&str]) -> Self {
        let origin = Origin::start();
        origin.otherwise(Answer::fixed("page").max_age(600));
        origin.always("/large", Answer::fixed("x".repeat(LARGE)).max_age(600));
        let mut command = nodes::up();
        command.args(["--origin", &origin.url(), "--store", "memory"]);
        command.arg("--tls-cert").arg(tls::file("server.pem"));
        command.arg("--tls-key").arg(tls::file("server.key"));
        command.args(options);
        command.env(
            "SPIN_VARIABLE_CONFIG",
            format!("origin.max_concurrency = {BUDGET}\norigin.local_concurrency = {BUDGET}\n"),
        );
        let node = Node::start(command).await;
        let early = visitor(node.address()).await;
        let mut site = Self {
            origin,
            node,
            early,
        };
        site.answers("at first").await;
        site
    }

    fn address(&self) -> SocketAddr {
        self.node.address()
    }

    /// Visitors are answered: one that was there before, and one that comes now.
    async fn answers(&mut self, when: &str) {
        page(&mut self.early, when).await;
        page(&mut visitor(self.address()).await, when).await;
        assert!(self.origin.in_flight_max() <= BUDGET, "{when}");
        let log = self.node.errors();
        assert!(!log.contains("died"), "{when}: {log}");
    }
}

/// A connection of a visitor with a proper browser.
async fn visitor(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = tls::connect(address, &tls::file("ca.pem"), "h2").await;
    let made = handshake(TokioExecutor::new(), TokioIo::new(stream.unwrap())).await;
    let (sender, connection) = made.unwrap();
    tokio::spawn(connection);
    sender
}

/// The visitor gets the page.
async fn page(visitor: &mut SendRequest<Full<Bytes>>, when: &str) {
    let request = Request::get("https://shop.example/page");
    let request = request.body(Full::default()).unwrap();
    let reply = visitor.send_request(request).await;
    let reply = reply.unwrap_or_else(|error| panic!("{when}: {error:?}"));
    assert_eq!(reply.status(), StatusCode::OK, "{when}");
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "page", "{when}");
}

/// A request that RFC 9113 calls malformed is an error of its stream (section 8.1.1), and
/// other streams of the same connection go on, unless its fields cannot be read at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_request_of_http2_is_refused_and_never_reaches_the_origin() {
    let mut site = Site::start(&[]).await;
    let malformed = End::Reset(PROTOCOL_ERROR);
    // An error of a stream may be taken for one of the connection (section 5.4.1).
    let closed = End::GoAway(PROTOCOL_ERROR);
    let refused = End::Status(400);
    let without = |name: &str| {
        let mut fields = get("/a", &[]);
        fields.retain(|(field, _)| *field != name);
        fields
    };
    let with = |name: &'static str, value: &'static str| get("/a", &[(name, value)]);
    let of_path = |path: &'static str| get(path, &[]);
    let of_authority = |authority: &'static str| {
        let mut fields = without(":authority");
        fields.push((":authority", authority));
        fields
    };
    let rows = [
        ("section 8.2.1: uppercase", with("X-Upper", "1"), closed),
        ("section 8.2.1: a space in a name", with("x y", "1"), closed),
        ("section 8.2.1: a colon in a name", with("x:y", "1"), closed),
        ("section 8.2.1: no name", with("", "1"), closed),
        ("section 8.2.1: LF in a value", with("x", "1\n2"), closed),
        ("section 8.2.1: CR in a value", with("x", "1\r2"), closed),
        (
            "section 8.2.1: NUL in a value",
            with("x", "1\u{0}2"),
            closed,
        ),
        (
            "section 8.2.2: connection",
            with("connection", "x"),
            malformed,
        ),
        (
            "section 8.2.2: keep-alive",
            with("keep-alive", "1"),
            malformed,
        ),
        (
            "section 8.2.2: proxy-connection",
            with("proxy-connection", "x"),
            malformed,
        ),
        (
            "section 8.2.2: transfer-encoding",
            with("transfer-encoding", "chunked"),
            malformed,
        ),
        ("section 8.2.2: upgrade", with("upgrade", "h2c"), malformed),
        ("section 8.2.2: te", with("te", "gzip"), malformed),
        (
            "section 8.2.2: te of trailers",
            with("te", "trailers"),
            End::Status(200),
        ),
        (
            "section 8.3: a second :path",
            with(":path", "/b"),
            malformed,
        ),
        ("section 8.3: an unknown one", with(":other", "1"), closed),
        (
            "section 8.3: one of answers",
            with(":status", "200"),
            malformed,
        ),
        (
            "section 8.3: :path behind a field",
            [&without(":path")[..], &[("x", "1"), (":path", "/a")]].concat(),
            malformed,
        ),
        ("section 8.3.1: no :method", without(":method"), malformed),
        ("section 8.3.1: no :scheme", without(":scheme"), malformed),
        ("section 8.3.1: no :path", without(":path"), malformed),
        ("section 8.3.1: an empty :path", of_path(""), malformed),
        (
            "section 8.3.1: :path without a slash",
            of_path("a"),
            malformed,
        ),
        (
            "section 8.3.1: :path of a URL",
            of_path("https://evil.example/a"),
            malformed,
        ),
        ("section 8.3.1: * for a GET", of_path("*"), refused),
        (
            "section 8.3.1: a user in :authority",
            of_authority("me@shop.example"),
            refused,
        ),
        (
            "section 8.3.1: another host",
            with("host", "evil.example"),
            refused,
        ),
        (
            "section 8.3.1: the same host",
            with("host", "shop.example"),
            End::Status(200),
        ),
        (
            "section 8.3.1: two hosts",
            get("/a", &[("host", "shop.example"), ("host", "shop.example")]),
            refused,
        ),
        (
            "section 8.5: CONNECT",
            vec![(":method", "CONNECT"), (":authority", "shop.example:443")],
            End::Status(501),
        ),
        (
            "section 8.1.1: a length without content",
            with("content-length", "5"),
            malformed,
        ),
        (
            "RFC 8441: :protocol, which was not offered",
            [&[(":protocol", "websocket")], &with("x", "1")[..]].concat(),
            malformed,
        ),
    ];
    let mut client = Client::open(site.address()).await;
    let mut wrong = Vec::new();
    for (number, (what, fields, expected)) in rows.iter().enumerate() {
        let stream = u32::try_from(number * 2 + 1).unwrap();
        client.send(&[Frame::request(stream, fields)]).await;
        let end = client.end(stream).await;
        if end != *expected {
            wrong.push(format!("{what}: {end:?} for {expected:?}"));
        }
        if matches!(end, End::GoAway(_) | End::Closed) {
            client = Client::open(site.address()).await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let last = u32::try_from(rows.len() * 2 + 1).unwrap();
    client
        .send(&[Frame::request(last, &get("/page", &[]))])
        .await;
    assert_eq!(client.end(last).await, End::Status(200));
    site.answers("after malformed requests").await;
    // Nothing of a refused request has reached the origin.
    let paths = site.origin.paths();
    let expected = ["/a", "/page"];
    assert!(
        paths.iter().all(|path| expected.contains(&path.as_str())),
        "{paths:?}"
    );
}

/// Content that is not as long as announced (RFC 9113 section 8.1.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_of_another_length_than_announced_is_an_error_and_never_stored_or_answered() {
    let mut site = Site::start(&[]).await;
    let mut client = Client::open(site.address()).await;
    for (stream, announced, sent) in [(1, "5", "abc"), (3, "2", "abc")] {
        let mut fields = get("/order", &[("content-length", announced)]);
        fields[0] = (":method", "POST");
        let head = Frame::new(HEADERS, END_HEADERS, stream, &block(&fields));
        let content = Frame::new(DATA, END_STREAM, stream, sent.as_bytes());
        client.send(&[head, content]).await;
        let end = client.end(stream).await;
        assert_eq!(end, End::Reset(PROTOCOL_ERROR), "{announced} for {sent}");
    }
    site.answers("after wrong lengths").await;
}

/// What breaks the rules of frames ends the connection (RFC 9113 section 5.4.1). The library
/// h2 says `PROTOCOL_ERROR` for some errors that have a code of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_breaks_the_rules_ends_its_connection_with_an_error() {
    let mut site = Site::start(&[]).await;
    let whole = END_HEADERS | END_STREAM;
    let head = block(&get("/a", &[]));
    let open = Frame::new(HEADERS, END_STREAM, 1, &head);
    let too_much = [0x7f, 0xff, 0xff, 0xff];
    let rows = [
        (
            "4.2: a frame that is too long",
            vec![Frame::new(DATA, 0, 1, &vec![0; frames::FRAME_MAX + 1])],
            FRAME_SIZE_ERROR,
        ),
        (
            "4.3: fields that cannot be decoded",
            vec![Frame::new(HEADERS, whole, 1, &[0xff; 8])],
            PROTOCOL_ERROR,
        ),
        (
            "5.1: DATA of an idle stream",
            vec![Frame::new(DATA, 0, 1, b"x")],
            PROTOCOL_ERROR,
        ),
        (
            "5.1.1: a stream of the server's",
            vec![Frame::new(HEADERS, whole, 2, &head)],
            PROTOCOL_ERROR,
        ),
        (
            "5.1.1: HEADERS of stream 0",
            vec![Frame::new(HEADERS, whole, 0, &head)],
            PROTOCOL_ERROR,
        ),
        (
            "6.3: PRIORITY of stream 0",
            vec![Frame::new(PRIORITY, 0, 0, &[0; 5])],
            PROTOCOL_ERROR,
        ),
        (
            "6.5: SETTINGS of a wrong length",
            vec![Frame::new(SETTINGS, 0, 0, &[0; 5])],
            PROTOCOL_ERROR,
        ),
        (
            "6.5.2: a window beyond the largest",
            vec![Frame::settings(&[(frames::INITIAL_WINDOW_SIZE, 1 << 31)])],
            PROTOCOL_ERROR,
        ),
        (
            "6.7: PING of a wrong length",
            vec![Frame::new(PING, 0, 0, &[0; 7])],
            PROTOCOL_ERROR,
        ),
        (
            "6.9: WINDOW_UPDATE by nothing",
            vec![Frame::new(WINDOW_UPDATE, 0, 0, &[0; 4])],
            PROTOCOL_ERROR,
        ),
        (
            "6.9.1: a window that overflows",
            vec![Frame::new(WINDOW_UPDATE, 0, 0, &too_much)],
            FLOW_CONTROL_ERROR,
        ),
        (
            "6.10: CONTINUATION of nothing",
            vec![Frame::new(CONTINUATION, END_HEADERS, 1, &head)],
            PROTOCOL_ERROR,
        ),
        (
            "6.10: PING within a head",
            vec![open, Frame::new(PING, 0, 0, &[0; 8])],
            PROTOCOL_ERROR,
        ),
        (
            "8.4: PUSH_PROMISE of a client",
            vec![Frame::new(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])],
            PROTOCOL_ERROR,
        ),
    ];
    let mut wrong = Vec::new();
    for (what, sent, code) in rows {
        let mut client = Client::open(site.address()).await;
        client.send(&sent).await;
        let code_sent = client.going().await;
        if code_sent != Some(code) {
            wrong.push(format!("section {what}: {code_sent:?} for {code}"));
        }
        client.until_closed().await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for garbage in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let mut client = Client::silent(site.address()).await;
        client.write(garbage.as_bytes()).await;
        client.until_closed().await;
    }
    site.answers("after broken frames").await;
    assert_eq!(site.origin.paths(), ["/page"]);
}

/// HTTP/2 is served over TLS alone; the preface is no request of HTTP/1.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preface_without_tls_is_refused_as_a_request_of_http1() {
    let origin = Origin::start();
    origin.otherwise(Answer::fixed("page"));
    let mut command = nodes::up();
    command.args(["--origin", &origin.url(), "--store", "memory"]);
    let node = Node::start(command).await;
    let reply = RawAsk::new(frames::PREFACE).to(node.address()).await;
    if let Ok(reply) = reply {
        assert!((400..600).contains(&reply.status), "{reply:?}");
    }
    assert_eq!(origin.requests(), 0);
}

/// More fields than `--head-bytes` are answered with 431, and a head that does not end ends
/// the connection (RFC 9113 section 10.5.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_beyond_the_limit_is_refused_and_one_without_an_end_closes_its_connection() {
    let mut site = Site::start(&["--head-bytes", "8192"]).await;
    let mut client = Client::open(site.address()).await;
    let long = "y".repeat(10_000);
    client
        .send(&[Frame::request(1, &get("/a", &[("x", &long)]))])
        .await;
    assert_eq!(client.end(1).await, End::Status(431));
    client.send(&[Frame::request(3, &get("/page", &[]))]).await;
    assert_eq!(client.end(3).await, End::Status(200));

    // CONTINUATION without end: with fields in each, and with nothing in each.
    let field = block(&[("x", &long)]);
    for part in [&field[..], &[]] {
        let mut client = Client::open(site.address()).await;
        let head = block(&get("/a", &[]));
        client
            .send(&[Frame::new(HEADERS, END_STREAM, 1, &head)])
            .await;
        let parts = vec![Frame::new(CONTINUATION, 0, 1, part); 100];
        while client.send(&parts).await {}
        site.answers("while a head has no end").await;
    }
    assert_eq!(site.origin.paths(), ["/page"]);
}

/// "Rapid reset" (CVE-2023-44487): requests that are taken back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_taken_back_at_once_cost_a_connection_and_no_more_than_the_bound() {
    let mut site = Site::start(&[]).await;
    let mut client = Client::open(site.address()).await;
    let many = u32::try_from(STREAMS_MAX * 10).unwrap();
    let mut sent = Vec::new();
    for number in 0..many {
        let stream = number * 2 + 1;
        let path = format!("/{number}");
        sent.extend([
            Frame::request(stream, &get(&path, &[])),
            Frame::reset(stream),
        ]);
    }
    client.send(&sent).await;
    assert_eq!(client.going().await, Some(ENHANCE_YOUR_CALM));
    client.until_closed().await;
    site.answers("after resets").await;
    // One request is the visitors'.
    let seen = site.origin.requests() - 1;
    assert!(seen <= RESET_UNSEEN_MAX + ABANDONED_MAX, "{seen}");
}

/// The same, slowly: each request is being answered when it is taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_taken_back_while_they_are_answered_cost_a_connection() {
    let mut site = Site::start(&[]).await;
    let never = Gate::closed();
    site.origin
        .always("/never", Answer::fixed("never").gate(&never));
    let mut client = Client::open(site.address()).await;
    let mut taken_back = 0;
    for number in 0..u32::try_from(ABANDONED_MAX * 4).unwrap() {
        let stream = number * 2 + 1;
        client
            .send(&[Frame::request(stream, &get("/never", &[]))])
            .await;
        if !client.is_read().await {
            break;
        }
        client.send(&[Frame::reset(stream)]).await;
        taken_back += 1;
        if taken_back == ABANDONED_MAX / 2 {
            site.answers("while requests are taken back").await;
        }
    }
    assert!(taken_back > ABANDONED_MAX, "{taken_back}");
    assert!(taken_back <= ABANDONED_MAX * 2, "{taken_back}");
    assert!(site.origin.count("/never") <= BUDGET);
    site.answers("after requests were taken back").await;
    never.open();
}

/// "MadeYouReset" (CVE-2025-8671): the client makes the server reset its streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_the_client_makes_the_node_reset_cost_a_connection() {
    let mut site = Site::start(&[]).await;
    let never = Gate::closed();
    site.origin
        .always("/never", Answer::fixed("never").gate(&never));
    let mut client = Client::open(site.address()).await;
    let mut reset = 0;
    let going = loop {
        let stream = reset * 2 + 1;
        // The window of the stream would be larger than the largest (section 6.9.1).
        let too_much = Frame::new(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
        client
            .send(&[Frame::request(stream, &get("/never", &[])), too_much])
            .await;
        match client.end(stream).await {
            End::Reset(code) => assert_eq!(code, FLOW_CONTROL_ERROR),
            end => break end,
        }
        reset += 1;
    };
    assert!(
        matches!(going, End::GoAway(ENHANCE_YOUR_CALM | NO_ERROR)),
        "{going:?}"
    );
    let most = RESET_FOR_ERRORS_MAX.max(ABANDONED_MAX) + STREAMS_MAX;
    assert!(reset as usize <= most, "{reset}");
    site.answers("after streams were reset").await;
    assert!(site.origin.count("/never") <= BUDGET);
    never.open();
}

/// Streams beyond the announced number are refused, so that the client may try again (RFC
/// 9113 section 5.1.2), and the others are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_beyond_the_announced_number_are_refused_and_the_others_are_answered() {
    let mut site = Site::start(&[]).await;
    let gate = Gate::closed();
    site.origin
        .always("/slow", Answer::fixed("slow").max_age(600).gate(&gate));
    let mut client = Client::open(site.address()).await;
    let settings = client.next().await.unwrap();
    assert_eq!(settings.kind, SETTINGS);
    let announced = settings.payload.chunks_exact(6).find_map(|setting| {
        let (name, value) = setting.split_at(2);
        let is_it = name == frames::MAX_CONCURRENT_STREAMS.to_be_bytes();
        is_it.then(|| u32::from_be_bytes(value.try_into().unwrap()))
    });
    assert_eq!(announced, u32::try_from(STREAMS_MAX).ok());
    let beyond = 50;
    let streams = (0..u32::try_from(STREAMS_MAX + beyond).unwrap()).map(|number| number * 2 + 1);
    let all: Vec<_> = streams
        .map(|stream| Frame::request(stream, &get("/slow", &[])))
        .collect();
    client.send(&all).await;
    assert!(client.is_read().await);
    site.answers("while a connection has all of its streams")
        .await;
    gate.open();
    let mut answered = 0;
    while answered < STREAMS_MAX {
        let frame = client.next().await.unwrap();
        assert_ne!(frame.kind, GOAWAY, "the connection ends: {frame:?}");
        answered += usize::from(frame.kind == HEADERS);
    }
    assert_eq!(client.refused, beyond);
    assert_eq!(site.origin.count("/slow"), 1);
}

/// A client that asks for acknowledgements and reads none: the node stops reading, and
/// closes the connection after `--write-timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_settings_or_pings_ends_with_its_connection_and_takes_no_memory() {
    let mut site = Site::start(&["--write-timeout", "1s"]).await;
    for frame in [Frame::new(PING, 0, 0, &[7; 8]), Frame::settings(&[])] {
        let before = site.node.resident_bytes();
        let mut client = Client::open(site.address()).await;
        let flood = vec![frame; 10_000];
        let mut sent = 0;
        while sent < FLOOD && client.send(&flood).await {
            sent += flood.len();
        }
        assert!(sent < FLOOD, "the node takes everything");
        site.answers("during a flood").await;
        let grown = site.node.resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY, "{grown}");
    }
}

/// Memory that a node may take for a few connections, whatever they do: many times of what
/// they may hold, and a small part of what they have sent or asked for.
const MEMORY: u64 = 128 << 20;

/// A client that asks for a large answer and never opens its window (RFC 9113 section
/// 10.5): the connection is closed after `--write-timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_opens_its_window_is_closed_and_holds_little_of_the_answer() {
    let mut site = Site::start(&["--write-timeout", "1s"]).await;
    let before = site.node.resident_bytes();
    let mut client = Client::with(site.address(), &[(frames::INITIAL_WINDOW_SIZE, 0)]).await;
    let streams = (0..u32::try_from(STREAMS_MAX).unwrap()).map(|number| number * 2 + 1);
    let all: Vec<_> = streams
        .map(|stream| Frame::request(stream, &get("/large", &[])))
        .collect();
    client.send(&all).await;
    assert_eq!(client.end(1).await, End::Status(200));
    site.answers("while a client opens no window").await;
    client.until_closed().await;
    let grown = site.node.resident_bytes().saturating_sub(before);
    assert!(grown < MEMORY, "{grown}");
    site.answers("after a client opened no window").await;
}

/// Content that stops halfway, and a head that does: the node waits for `--content-timeout`,
/// and for `--idle-timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_stops_halfway_ends_after_the_time_that_it_has() {
    let options = ["--content-timeout", "1s", "--idle-timeout", "2s"];
    let mut site = Site::start(&options).await;
    let mut client = Client::open(site.address()).await;
    let mut fields = get("/order", &[("content-length", "100")]);
    fields[0] = (":method", "POST");
    let head = Frame::new(HEADERS, END_HEADERS, 1, &block(&fields));
    client.send(&[head, Frame::new(DATA, 0, 1, b"abc")]).await;
    assert_eq!(client.end(1).await, End::Status(408));

    for sent in [
        &[][..],
        &[Frame::new(HEADERS, END_STREAM, 1, &block(&get("/a", &[])))],
    ] {
        let mut client = Client::open(site.address()).await;
        client.send(sent).await;
        client.until_closed().await;
    }
    // The first visitor was idle as well.
    site.early = visitor(site.address()).await;
    site.answers("after requests that stop halfway").await;
    assert_eq!(site.origin.count("/a"), 0);
}

/// Content in frames without a byte (RFC 9113 section 10.5): the connection is closed, and the
/// origin has had one request at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_frames_without_content_ends_with_its_connection() {
    let mut site = Site::start(&[]).await;
    let mut client = Client::open(site.address()).await;
    let mut fields = get("/order", &[]);
    fields[0] = (":method", "POST");
    let head = Frame::new(HEADERS, END_HEADERS, 1, &block(&fields));
    client.send(&[head]).await;
    let flood = vec![Frame::new(DATA, 0, 1, &[]); 10_000];
    let mut sent = 0;
    while sent < FLOOD && client.send(&flood).await {
        sent += flood.len();
    }
    assert!(sent < FLOOD, "the node takes everything");
    site.answers("after empty frames").await;
    assert!(site.origin.count("/order") <= 1);
}

/// A node that stops says so (RFC 9113 section 6.8), and answers what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_says_so_and_answers_the_requests_that_it_has() {
    let mut site = Site::start(&[]).await;
    let gate = Gate::closed();
    site.origin
        .always("/slow", Answer::fixed("slow").gate(&gate));
    let mut client = Client::open(site.address()).await;
    client.send(&[Frame::request(1, &get("/slow", &[]))]).await;
    site.origin.until_count("/slow", 1, wait::SOON).await;
    site.node.ask_to_end();
    assert_eq!(client.end(1).await, End::GoAway(NO_ERROR));
    gate.open();
    loop {
        match client.end(1).await {
            End::GoAway(NO_ERROR) => {}
            end => {
                assert_eq!(end, End::Status(200));
                break;
            }
        }
    }
    client.until_closed().await;
    drop(site.early);
    assert!(site.node.until_ended().await.success());
    let log = site.node.errors();
    assert!(log.contains("nothing was cut"), "{log}");
}
