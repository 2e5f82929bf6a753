//! The stand-in as a server: it listens, crashes under too much load, refuses
//! connections for a while, and comes back on the same address.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::answer::{Answerer, Latency, json, plain};
use super::counters::{Counters, Sample, Stats};

/// Where its statistics are served. Requests there are not counted, take no
/// latency and crash nothing; while it is crashed they are refused as all are.
const STATS_PATH: &str = "/__origin/stats";

/// Most connections that are open at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;

/// Connections that the operating system holds ready for us.
const BACKLOG: u32 = 1024;

/// Longest time that a connection may idle or take over a request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// Longest time that requests in flight get to finish when it stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// Pause after a failure to accept or to bind again, which otherwise would be
/// met again at once (too many open files, port taken).
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How a stand-in is to behave.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where it listens; port 0 takes any free port, and keeps it.
    pub(crate) listen: SocketAddr,
    /// Most requests that it survives at once.
    pub(crate) capacity: NonZeroU32,
    /// How long each request takes.
    pub(crate) latency: Latency,
    /// How long it refuses connections after a crash.
    pub(crate) crash_for: Duration,
    /// `max-age` of its responses; whole seconds.
    pub(crate) ttl: Duration,
    /// `stale-while-revalidate` of its responses; whole seconds.
    pub(crate) stale_while_revalidate: Duration,
    /// Whether crashes and comebacks are told on standard error.
    pub(crate) announce: bool,
}

/// A running stand-in. Dropping it stops it hard; [`Origin::stop`] lets
/// requests finish.
#[derive(Debug)]
pub(crate) struct Origin {
    addr: SocketAddr,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    task: AbortOnDrop,
}

impl Origin {
    /// Starts one. It accepts connections from now on.
    pub(crate) fn start(options: Options) -> io::Result<Origin> {
        let socket = bind(options.listen)?;
        let addr = socket.local_addr()?;
        let listener = socket.listen(BACKLOG)?;
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = watch::channel(false);
        let server = Server {
            addr,
            crash_for: options.crash_for,
            announce: options.announce,
            shared: Arc::new(Shared {
                capacity: options.capacity,
                counters: Arc::clone(&counters),
                answerer: Answerer::new(
                    options.latency,
                    options.ttl,
                    options.stale_while_revalidate,
                ),
            }),
            stopped,
        };
        Ok(Origin {
            addr,
            counters,
            stop,
            task: AbortOnDrop(tokio::spawn(server.run(listener))),
        })
    }

    /// Its address, which stays the same over crashes.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What reached it so far; known while it is crashed, too.
    pub(crate) fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// What happened since the last sample.
    pub(crate) fn sample(&self) -> Sample {
        self.counters.sample()
    }

    /// Counts from zero again; what is in flight stays in flight.
    pub(crate) fn reset_stats(&self) {
        self.counters.reset();
    }

    /// Stops it: no new connections, and what is in flight gets
    /// [`STOP_TIME_MAX`] to finish.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        // An error would be a panic in the task, which has been reported.
        let _ = (&mut self.task.0).await;
    }
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What all connections share, over all crashes.
#[derive(Debug)]
struct Shared {
    capacity: NonZeroU32,
    counters: Arc<Counters>,
    answerer: Answerer,
}

/// How the time between two restarts ends for its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Not yet: they are served.
    None,
    /// A crash: they are reset where they stand.
    Reset,
    /// A clean stop: they finish the request they are at.
    Finish,
}

struct Server {
    addr: SocketAddr,
    crash_for: Duration,
    announce: bool,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
}

impl Server {
    async fn run(mut self, mut listener: TcpListener) {
        loop {
            if self.serve(listener).await == Ending::Finish {
                return;
            }
            self.tell(format_args!(
                "crashed: more than {} requests at once; connections are refused for {}",
                self.shared.capacity,
                humantime::format_duration(self.crash_for)
            ));
            listener = tokio::select! {
                listener = restart(self.addr, self.crash_for) => listener,
                () = until(&mut self.stopped, |stopped| stopped) => return,
            };
            self.shared.counters.up_again();
            self.tell(format_args!("up again"));
        }
    }

    /// Serves from one start to the next crash or the stop, whichever it
    /// returns. No connection and no listening socket is left when it does.
    async fn serve(&mut self, listener: TcpListener) -> Ending {
        let ending = Arc::new(watch::Sender::new(Ending::None));
        let mut crashed = ending.subscribe();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = until(&mut crashed, |ending| ending == Ending::Reset) => break,
                () = until(&mut self.stopped, |stopped| stopped) => break,
                Some(_) = connections.join_next() => {}
                stream = accept(&listener), if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(serve_connection(stream, Arc::clone(&self.shared), Arc::clone(&ending)));
                }
            }
        }
        // Closed before the connections are, so that a client whose
        // connection is reset cannot connect again.
        drop(listener);
        ending.send_if_modified(|ending| {
            let open = *ending == Ending::None;
            if open {
                *ending = Ending::Finish;
            }
            open
        });
        let how = *ending.borrow();
        let all_gone = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIME_MAX, all_gone).await.is_err() {
            connections.shutdown().await;
        }
        how
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.announce {
            eprintln!("origin {what}");
        }
    }
}

/// A socket that is bound and does not listen yet: connections are refused, and
/// nobody else can take the port, not even as the source of a connection.
fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Holds the address without listening for `crash_for`, then listens.
///
/// It tries until it succeeds: the caller races it against the stop.
async fn restart(addr: SocketAddr, crash_for: Duration) -> TcpListener {
    let due = tokio::time::Instant::now() + crash_for;
    loop {
        if let Ok(socket) = bind(addr) {
            tokio::time::sleep_until(due).await;
            if let Ok(listener) = socket.listen(BACKLOG) {
                return listener;
            }
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

/// Waits until the watched value is as wanted, or nobody can set it any more.
async fn until<T: Copy>(watched: &mut watch::Receiver<T>, wanted: impl Fn(T) -> bool) {
    let _ = watched.wait_for(|value| wanted(*value)).await;
}

async fn serve_connection(
    stream: TcpStream,
    shared: Arc<Shared>,
    ending: Arc<watch::Sender<Ending>>,
) {
    let mut end = ending.subscribe();
    // Small answers on kept-alive connections: waiting to fill a segment would
    // only add latency that nobody asked for.
    let _ = stream.set_nodelay(true);
    let service =
        service_fn(move |request| serve_request(request, Arc::clone(&shared), Arc::clone(&ending)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error is a client that went away or spoke no HTTP: it has its
        // answer, or wants none.
        _ = &mut connection => return,
        () = until(&mut end, |end| end != Ending::None) => {}
    }
    if *end.borrow() == Ending::Finish {
        Pin::new(&mut connection).graceful_shutdown();
        let _ = connection.await;
        return;
    }
    let stream = connection.into_parts().io.into_inner();
    // With no time to linger, closing sends a reset instead of an orderly end.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

async fn serve_request(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    ending: Arc<watch::Sender<Ending>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == STATS_PATH {
        return Ok(stats(request.method(), &shared.counters));
    }
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let in_flight = shared.counters.enter(path);
    if in_flight.at_once() > u64::from(shared.capacity.get()) {
        let first = ending.send_if_modified(|ending| {
            let up = *ending == Ending::None;
            if up {
                *ending = Ending::Reset;
            }
            up
        });
        if first {
            shared.counters.crash();
        }
        // The connection is about to be reset, and this future with it.
        std::future::pending::<()>().await;
    }
    Ok(shared.answerer.answer(request).await)
}

fn stats(method: &Method, counters: &Counters) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = json(&counters.stats());
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use http_body_util::{BodyExt, Empty};
    use hyper::client::conn::http1::{SendRequest, handshake};
    use tokio::sync::Semaphore;

    use super::*;

    /// Longest time that anything here may take; what is awaited comes within
    /// milliseconds.
    const DEADLINE: Duration = Duration::from_secs(20);

    const CAPACITY: usize = 3;

    /// A stand-in whose requests wait for permits of the gate.
    fn gated(crash_for: Duration) -> (Origin, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let origin = Origin::start(Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            capacity: NonZeroU32::new(CAPACITY as u32).expect("not zero"),
            latency: Latency::Gate(Arc::clone(&gate)),
            crash_for,
            ttl: Duration::from_secs(2),
            stale_while_revalidate: Duration::from_secs(30),
            announce: false,
        })
        .expect("a free port");
        (origin, gate)
    }

    async fn in_time<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(DEADLINE, what)
            .await
            .expect("it comes within the deadline")
    }

    async fn eventually(mut done: impl FnMut() -> bool) {
        in_time(async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    type Client = SendRequest<Empty<Bytes>>;

    async fn connect(origin: &Origin) -> Client {
        let stream = in_time(TcpStream::connect(origin.addr()))
            .await
            .expect("it accepts connections");
        let (client, connection) = handshake(TokioIo::new(stream))
            .await
            .expect("a handshake sends nothing");
        tokio::spawn(connection);
        client
    }

    async fn send(
        mut client: Client,
        method: Method,
        path: &str,
    ) -> hyper::Result<(StatusCode, Bytes)> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path");
        let response = in_time(client.send_request(request)).await?;
        let status = response.status();
        Ok((status, in_time(response.collect()).await?.to_bytes()))
    }

    /// Starts `count` requests and returns once all are in the origin.
    async fn hold(
        origin: &Origin,
        count: usize,
        path: &'static str,
    ) -> JoinSet<hyper::Result<(StatusCode, Bytes)>> {
        let mut held = JoinSet::new();
        let before = origin.stats().in_flight;
        for _ in 0..count {
            held.spawn(send(connect(origin).await, Method::GET, path));
        }
        eventually(|| origin.stats().in_flight == before + count as u64).await;
        held
    }

    async fn refused(origin: &Origin) -> bool {
        let connected = in_time(TcpStream::connect(origin.addr())).await;
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    fn is_reset(error: &hyper::Error) -> bool {
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return error.kind() == io::ErrorKind::ConnectionReset;
            }
            cause = error.source();
        }
        false
    }

    #[tokio::test]
    async fn survives_as_many_requests_as_its_capacity() {
        let (origin, gate) = gated(DEADLINE);
        let held = hold(&origin, CAPACITY, "/a").await;
        gate.add_permits(CAPACITY);
        for answer in held.join_all().await {
            assert_eq!(answer.expect("an answer").0, StatusCode::OK);
        }
        let stats = origin.stats();
        assert_eq!(
            (
                stats.requests,
                stats.in_flight,
                stats.in_flight_max,
                stats.crashes
            ),
            (3, 0, 3, 0)
        );
        assert_eq!(stats.path_in_flight_max(), 3);
        origin.stop().await;
    }

    #[tokio::test]
    async fn one_more_crashes_it() {
        let (origin, _gate) = gated(Duration::from_secs(24 * 60 * 60));
        let mut idle = in_time(TcpStream::connect(origin.addr()))
            .await
            .expect("it accepts connections");
        let mut held = hold(&origin, CAPACITY, "/a").await;
        held.spawn(send(connect(&origin).await, Method::GET, "/b"));
        for answer in held.join_all().await {
            assert!(
                is_reset(&answer.expect_err("no answer")),
                "every request in it is reset"
            );
        }
        let end = in_time(tokio::io::AsyncReadExt::read(&mut idle, &mut [0])).await;
        assert_eq!(
            end.expect_err("reset").kind(),
            io::ErrorKind::ConnectionReset,
            "idle connections, too"
        );
        assert!(refused(&origin).await);

        let stats = origin.stats();
        assert_eq!(
            (
                stats.requests,
                stats.in_flight,
                stats.in_flight_max,
                stats.crashes
            ),
            (4, 0, 4, 1)
        );
        assert_eq!(
            (
                stats.paths["/a"].in_flight_max,
                stats.paths["/b"].in_flight_max
            ),
            (3, 1)
        );
        origin.stop().await;
    }

    #[tokio::test]
    async fn comes_back_on_the_same_address_and_crashes_again() {
        let (origin, gate) = gated(Duration::from_millis(1));
        for crashes in 1..=3 {
            for answer in hold_too_many(&origin, crashes).await.join_all().await {
                answer.expect_err("no answer");
            }
            in_time(async {
                while TcpStream::connect(origin.addr()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            assert_eq!(origin.stats().in_flight, 0);
            gate.add_permits(1);
            let (status, _) = send(connect(&origin).await, Method::GET, "/")
                .await
                .expect("an answer");
            assert_eq!(status, StatusCode::OK);
        }
        origin.stop().await;
    }

    async fn hold_too_many(
        origin: &Origin,
        crashes: u64,
    ) -> JoinSet<hyper::Result<(StatusCode, Bytes)>> {
        let mut held = hold(origin, CAPACITY, "/").await;
        held.spawn(send(connect(origin).await, Method::GET, "/"));
        eventually(|| origin.stats().crashes == crashes).await;
        held
    }

    #[tokio::test]
    async fn its_statistics_are_free() {
        let (origin, _gate) = gated(DEADLINE);
        let _held = hold(&origin, CAPACITY, "/a").await;
        let (status, body) = send(connect(&origin).await, Method::GET, STATS_PATH)
            .await
            .expect("an answer");
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&body).expect("JSON"),
            serde_json::to_value(origin.stats()).expect("plain numbers")
        );
        let (status, _) = send(connect(&origin).await, Method::POST, STATS_PATH)
            .await
            .expect("an answer");
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        let stats = origin.stats();
        assert_eq!(
            (stats.requests, stats.in_flight_max, stats.crashes),
            (3, 3, 0)
        );
    }

    #[tokio::test]
    async fn head_has_the_headers_of_get_and_no_body() {
        let (origin, gate) = gated(DEADLINE);
        gate.add_permits(1);
        let mut client = connect(&origin).await;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::HEAD;
        let response = in_time(client.send_request(request))
            .await
            .expect("an answer");
        for name in [
            "cache-control",
            "content-length",
            "content-type",
            "date",
            "etag",
        ] {
            assert!(response.headers().contains_key(name), "{name}");
        }
        assert!(
            response
                .collect()
                .await
                .expect("an end")
                .to_bytes()
                .is_empty()
        );
        origin.stop().await;
    }

    #[tokio::test]
    async fn a_request_whose_client_leaves_is_no_longer_in_it() {
        let (origin, _gate) = gated(DEADLINE);
        let held = hold(&origin, CAPACITY, "/a").await;
        drop(held);
        eventually(|| origin.stats().in_flight == 0).await;
        assert_eq!(origin.stats().crashes, 0);
    }

    #[tokio::test]
    async fn a_stop_lets_requests_finish() {
        let (origin, gate) = gated(DEADLINE);
        let mut held = hold(&origin, 1, "/a").await;
        let addr = origin.addr();
        let stopping = tokio::spawn(origin.stop());
        in_time(async {
            while TcpStream::connect(addr).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        gate.add_permits(1);
        let answer = held
            .join_next()
            .await
            .expect("one request")
            .expect("no panic");
        assert_eq!(answer.expect("an answer").0, StatusCode::OK);
        in_time(stopping).await.expect("no panic");
    }
}
