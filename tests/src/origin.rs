//! A scripted origin: a test says, path by path, how it answers, holds its
//! answers back at a [`Gate`], and reads what arrived. An answer may also be
//! [made by](Answer::made_by) a function of the request.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::wait;

/// Pending connections that the kernel keeps: more than any crowd of a test.
const BACKLOG: i32 = 1024;

/// Longest request head that a crashed origin reads to learn the path.
const HEAD_MAX: usize = 64 * 1024;

/// How long a crashed origin waits for a request head before it resets.
const HEAD_WAIT: Duration = Duration::from_secs(5);

/// How long an answer that is made by a function waits for the request's content.
const CONTENT_WAIT: Duration = Duration::from_secs(30);

/// One of [`Answer::events`].
pub const EVENT: &[u8] = b"data: x\n\n";

/// What goes wrong with an answer on its way: hyper then breaks the connection.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Holds answers back until the test opens it. Once open, it stays open.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    /// Lets through all who wait here, and all who come later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn pass(&self) {
        // The sender lives in `self`, so this cannot fail before the gate opens.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// One request, as the function of an answer that is [made by](Answer::made_by)
/// one sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its target, as it came.
    pub target: String,
    /// Its header lines.
    pub headers: HeaderMap,
    /// Its content, whole.
    pub content: Bytes,
    /// Which request for its path it is, from 1.
    pub number: usize,
    /// The connection that it came on; each has a number of its own.
    pub connection: usize,
}

impl Seen {
    /// A header's value as text, several lines joined; `None` if there is none.
    pub fn header(&self, name: &str) -> Option<String> {
        let lines: Vec<_> = self
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

/// Makes an answer of a request.
#[derive(Clone)]
struct Maker(Arc<dyn Fn(&Seen) -> Answer + Send + Sync>);

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Maker")
    }
}

/// What an answer carries.
#[derive(Clone, Debug)]
enum Content {
    /// What the function says, which makes the whole answer.
    Made(Maker),
    /// The path and the number of the request to it, as [`numbered`] writes it.
    Numbered,
    /// These bytes.
    Fixed(Bytes),
    /// The request's body, as it comes in.
    Echo,
    /// Events, one after each pause, for as long as somebody reads them.
    Events(Duration),
}

/// The body of the answer to request number `count` for `path`.
pub fn numbered(path: &str, count: usize) -> String {
    format!("{path} #{count}")
}

/// One answer of the origin, as the script has it.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    content: Content,
    gate: Option<Gate>,
    takes: Option<Duration>,
    etag: Option<String>,
    hang_up: bool,
    broken_after: Option<usize>,
    held_after: Option<(usize, Gate)>,
    pace: Option<(usize, Duration)>,
    hides_length: bool,
}

impl Answer {
    fn new(content: Content) -> Self {
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            content,
            gate: None,
            takes: None,
            etag: None,
            hang_up: false,
            broken_after: None,
            held_after: None,
            pace: None,
            hides_length: false,
        }
    }

    /// 200 with a body that tells the requests for a path apart.
    pub fn numbered() -> Self {
        Self::new(Content::Numbered)
    }

    /// 200 with this body.
    pub fn fixed(body: impl Into<Bytes>) -> Self {
        Self::new(Content::Fixed(body.into()))
    }

    /// 200 with the request's body, streamed back as it arrives.
    pub fn echo() -> Self {
        Self::new(Content::Echo)
    }

    /// 200 with [`EVENT`] after each `pause`, without an end and without a length.
    pub fn events(pause: Duration) -> Self {
        Self::new(Content::Events(pause))
    }

    /// The answer that `make` returns for the request, whose content is read
    /// first. Of what else the script says of this answer, only the gate counts.
    ///
    /// A request whose content does not come is not answered: its connection is
    /// broken, and it counts as [broken](Record::broken).
    pub fn made_by(make: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::new(Content::Made(Maker(Arc::new(make))))
    }

    /// Breaks the connection instead of answering.
    pub fn hang_up() -> Self {
        Answer {
            hang_up: true,
            ..Self::new(Content::Numbered)
        }
    }

    /// With this status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With one more header line.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// With this `Cache-Control`.
    #[must_use]
    pub fn cache_control(self, value: &str) -> Self {
        self.header("cache-control", value)
    }

    /// Fresh for this many seconds.
    #[must_use]
    pub fn max_age(self, seconds: u32) -> Self {
        self.cache_control(&format!("max-age={seconds}"))
    }

    /// Held back until the gate opens.
    #[must_use]
    pub fn gate(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// After so long: the origin has to work for it.
    #[must_use]
    pub fn takes(mut self, takes: Duration) -> Self {
        self.takes = Some(takes);
        self
    }

    /// With this validator; a request that names it is answered 304.
    #[must_use]
    pub fn etag(mut self, etag: &str) -> Self {
        self.etag = Some(etag.to_owned());
        self.header("etag", etag)
    }

    /// Sends this many bytes of the body, and the rest when the gate opens.
    #[must_use]
    pub fn held_after(mut self, bytes: usize, gate: &Gate) -> Self {
        self.held_after = Some((bytes, gate.clone()));
        self
    }

    /// Sends the body in pieces of this number of bytes, with a pause after each.
    #[must_use]
    pub fn paced(mut self, piece: usize, pause: Duration) -> Self {
        self.pace = Some((piece, pause));
        self
    }

    /// Does not announce the length of a fixed body.
    #[must_use]
    pub fn without_length(mut self) -> Self {
        self.hides_length = true;
        self
    }

    /// Announces the whole body, sends this many bytes of it, and breaks off.
    #[must_use]
    pub fn broken_after(mut self, bytes: usize) -> Self {
        self.broken_after = Some(bytes);
        self
    }
}

/// One request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When its head had been read.
    pub at: Instant,
    /// Its method; unknown, and empty, if the origin had crashed.
    pub method: Option<Method>,
    /// Its header lines; empty if the origin had crashed.
    pub headers: HeaderMap,
}

/// What arrived for one path.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Every request, in order, those of a crashed origin among them.
    pub arrivals: Vec<Arrival>,
    /// Requests whose answer is not complete.
    pub in_flight: usize,
    /// The most that `in_flight` ever was.
    pub in_flight_max: usize,
    /// Requests whose announced content did not arrive, where it was needed to
    /// [make](Answer::made_by) the answer.
    pub broken: usize,
}

impl Record {
    /// How many requests arrived.
    pub fn count(&self) -> usize {
        self.arrivals.len()
    }
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Answer>,
    always: Option<Answer>,
    record: Record,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Answers by script.
    Up,
    /// Accepts connections, reads a request's head, resets.
    Crashed,
    /// Does not listen.
    Stopped,
}

/// Paths and what is known about each.
#[derive(Clone, Debug, Default)]
struct Scripts {
    paths: Arc<Mutex<HashMap<String, Script>>>,
    otherwise: Arc<Mutex<Option<Answer>>>,
    /// Requests in flight, of all paths, and the most that there ever were.
    in_flight: Arc<Mutex<(usize, usize)>>,
}

impl Scripts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Script>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer for paths without a script.
    fn otherwise(&self) -> MutexGuard<'_, Option<Answer>> {
        self.otherwise
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self) -> MutexGuard<'_, (usize, usize)> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters an arrival, and says how to answer it and which number it has.
    fn arrived(&self, path: &str, arrival: Arrival) -> (Answer, usize) {
        let mut scripts = self.lock();
        let script = scripts.entry(path.to_owned()).or_default();
        script.record.arrivals.push(arrival);
        let answer = script.next.pop_front().or_else(|| script.always.clone());
        let answer = answer
            .or_else(|| self.otherwise().clone())
            .unwrap_or_else(|| Answer::numbered().max_age(600));
        (answer, script.record.count())
    }

    /// Enters that a request's content did not arrive.
    fn broke(&self, path: &str) {
        if let Some(script) = self.lock().get_mut(path) {
            script.record.broken += 1;
        }
    }
}

/// One request in flight; it is over when this is dropped.
struct InFlight {
    scripts: Scripts,
    path: String,
}

impl InFlight {
    fn begin(scripts: &Scripts, path: &str) -> Self {
        {
            let mut locked = scripts.lock();
            let record = &mut locked.entry(path.to_owned()).or_default().record;
            record.in_flight += 1;
            record.in_flight_max = record.in_flight_max.max(record.in_flight);
        }
        {
            let (now, most) = &mut *scripts.in_flight();
            *now += 1;
            *most = (*most).max(*now);
        }
        InFlight {
            scripts: scripts.clone(),
            path: path.to_owned(),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(script) = self.scripts.lock().get_mut(&self.path) {
            script.record.in_flight -= 1;
        }
        self.scripts.in_flight().0 -= 1;
    }
}

/// A scripted origin on a port of its own.
pub struct Origin {
    address: SocketAddr,
    scripts: Scripts,
    mode: watch::Sender<Mode>,
    server: Mutex<JoinHandle<()>>,
    /// Bound, never listening: keeps the port ours while the origin is stopped.
    _port: Socket,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Origin {
    /// Starts an origin that answers every path with [`Answer::numbered`], fresh
    /// for ten minutes, until a script says otherwise.
    pub fn start() -> Self {
        let port = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let scripts = Scripts::default();
        let mode = watch::Sender::new(Mode::Up);
        let server = Mutex::new(serve(listen(address), &scripts, &mode));
        Origin {
            address,
            scripts,
            mode,
            server,
            _port: port,
        }
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers the next request for `path`, of those not yet scripted, like this.
    pub fn next(&self, path: &str, answer: Answer) {
        self.scripts
            .lock()
            .entry(path.to_owned())
            .or_default()
            .next
            .push_back(answer);
    }

    /// Answers all requests for `path` like this, once those scripted by
    /// [`Origin::next`] are used up.
    pub fn always(&self, path: &str, answer: Answer) {
        self.scripts
            .lock()
            .entry(path.to_owned())
            .or_default()
            .always = Some(answer);
    }

    /// Answers all requests for paths that no script speaks of like this.
    pub fn otherwise(&self, answer: Answer) {
        *self.scripts.otherwise() = Some(answer);
    }

    /// What arrived for `path` so far.
    pub fn record(&self, path: &str) -> Record {
        self.scripts
            .lock()
            .get(path)
            .map(|script| script.record.clone())
            .unwrap_or_default()
    }

    /// How many requests arrived for `path` so far.
    pub fn count(&self, path: &str) -> usize {
        self.scripts
            .lock()
            .get(path)
            .map_or(0, |script| script.record.count())
    }

    /// The paths of all requests that arrived so far, in no order.
    pub fn paths(&self) -> Vec<String> {
        let scripts = self.scripts.lock();
        let arrived = scripts
            .iter()
            .filter(|(_, script)| script.record.count() > 0);
        arrived.map(|(path, _)| path.clone()).collect()
    }

    /// How many requests of all paths are in flight.
    pub fn in_flight(&self) -> usize {
        self.scripts.in_flight().0
    }

    /// The most requests of all paths that were ever in flight.
    pub fn in_flight_max(&self) -> usize {
        self.scripts.in_flight().1
    }

    /// Forgets what has arrived, and the most that were in flight. Scripts stay.
    pub fn forget(&self) {
        for script in self.scripts.lock().values_mut() {
            let in_flight = script.record.in_flight;
            script.record = Record {
                in_flight,
                in_flight_max: in_flight,
                ..Record::default()
            };
        }
        let (now, most) = &mut *self.scripts.in_flight();
        *most = *now;
    }

    /// How many requests arrived, for all paths.
    pub fn requests(&self) -> usize {
        let scripts = self.scripts.lock();
        scripts.values().map(|script| script.record.count()).sum()
    }

    /// Waits until the origin has seen `count` requests for `path`, or more.
    pub async fn until_count(&self, path: &str, count: usize, limit: Duration) {
        let what = format!("request {count} for {path} is at the origin");
        wait::until(&what, limit, async || {
            (self.count(path) >= count).then_some(())
        })
        .await;
    }

    /// Breaks all connections; from now on every request is counted and its
    /// connection reset.
    pub fn crash(&self) {
        self.turn_to(Mode::Crashed);
    }

    /// Breaks all connections and closes the port: connections are refused.
    pub async fn stop(&self) {
        self.turn_to(Mode::Stopped);
        let what = "the origin's port is closed";
        wait::until(what, wait::SOON, async || {
            self.server.lock().unwrap().is_finished().then_some(())
        })
        .await;
    }

    /// Answers again, on the same port, after [`Origin::crash`] or [`Origin::stop`].
    pub fn recover(&self) {
        let mut server = self.server.lock().unwrap();
        self.turn_to(Mode::Up);
        if server.is_finished() {
            *server = serve(listen(self.address), &self.scripts, &self.mode);
        }
    }

    fn turn_to(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort();
    }
}

fn bind(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = bind(address);
    socket.listen(BACKLOG).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

fn serve(listener: TcpListener, scripts: &Scripts, mode: &watch::Sender<Mode>) -> JoinHandle<()> {
    tokio::spawn(accept(listener, scripts.clone(), mode.subscribe()))
}

async fn accept(listener: TcpListener, scripts: Scripts, mut mode: watch::Receiver<Mode>) {
    /// The last number that a connection was given, in any origin.
    static CONNECTION: AtomicUsize = AtomicUsize::new(0);

    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = mode.changed() => {
                if changed.is_err() || *mode.borrow_and_update() == Mode::Stopped {
                    break;
                }
                connections.abort_all();
            }
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                if *mode.borrow() == Mode::Crashed {
                    connections.spawn(count_and_reset(stream, scripts.clone()));
                } else {
                    // Relaxed: only that numbers differ matters.
                    let number = CONNECTION.fetch_add(1, Ordering::Relaxed) + 1;
                    connections.spawn(converse(stream, number, scripts.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
    // Dropping the set ends the connections, dropping the listener closes the port.
    connections.shutdown().await;
}

/// What a crashed origin does with a connection.
async fn count_and_reset(mut stream: TcpStream, scripts: Scripts) {
    let mut head = Vec::new();
    let read = async {
        while head.len() < HEAD_MAX && !head.windows(4).any(|four| four == b"\r\n\r\n") {
            match stream.read_buf(&mut head).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    let _ = tokio::time::timeout(HEAD_WAIT, read).await;
    let text = String::from_utf8_lossy(&head);
    if let Some(path) = text.split_ascii_whitespace().nth(1) {
        let path = path.split('?').next().unwrap_or(path);
        let arrival = Arrival {
            at: Instant::now(),
            method: None,
            headers: HeaderMap::new(),
        };
        let _ = scripts.arrived(path, arrival);
    }
    // With nothing lingering, closing the socket sends a reset.
    let _ = stream.set_zero_linger();
}

async fn converse(stream: TcpStream, number: usize, scripts: Scripts) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, number, scripts.clone()));
    // A connection that broke is what some tests are about; no one else looks here.
    let _ = http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    scripts: Scripts,
) -> Result<Response<BoxBody<Bytes, Broken>>, Broken> {
    let path = request.uri().path().to_owned();
    let (head, body) = request.into_parts();
    let in_flight = InFlight::begin(&scripts, &path);
    let arrival = Arrival {
        at: Instant::now(),
        method: Some(head.method.clone()),
        headers: head.headers.clone(),
    };
    let (mut answer, count) = scripts.arrived(&path, arrival);
    if let Some(gate) = &answer.gate {
        gate.pass().await;
    }
    if let Some(takes) = answer.takes {
        tokio::time::sleep(takes).await;
    }
    let mut body = body.map_err(Broken::from).boxed();
    if let Content::Made(Maker(make)) = &answer.content {
        let Ok(Ok(content)) = tokio::time::timeout(CONTENT_WAIT, body.collect()).await else {
            scripts.broke(&path);
            return Err("the request's content did not come".into());
        };
        let content = content.to_bytes();
        answer = make(&Seen {
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers.clone(),
            content: content.clone(),
            number: count,
            connection,
        });
        body = whole(content, None);
        if let Some(gate) = &answer.gate {
            gate.pass().await;
        }
        if let Some(takes) = answer.takes {
            tokio::time::sleep(takes).await;
        }
    }
    if answer.hang_up {
        return Err("the script says to hang up".into());
    }
    let asked = head
        .headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let validated = answer.etag.is_some() && asked == answer.etag.as_deref();
    let mut response = Response::builder().status(answer.status);
    if let Some(headers) = response.headers_mut() {
        *headers = answer.headers;
    }
    let content = if validated {
        response = response.status(StatusCode::NOT_MODIFIED);
        whole(Bytes::new(), None)
    } else {
        match answer.content {
            Content::Made(_) => return Err("the function made no answer but a function".into()),
            Content::Echo => body,
            Content::Fixed(bytes) => {
                if !answer.hides_length {
                    response = response.header(header::CONTENT_LENGTH, bytes.len());
                }
                match (answer.held_after, answer.pace) {
                    (Some((first, gate)), _) => held(bytes, first, gate),
                    (None, Some((piece, pause))) => paced(bytes, piece, pause),
                    (None, None) => whole(bytes, answer.broken_after),
                }
            }
            Content::Events(pause) => events(pause),
            Content::Numbered => {
                let bytes = Bytes::from(numbered(&path, count));
                response = response.header(header::CONTENT_LENGTH, bytes.len());
                whole(bytes, answer.broken_after)
            }
        }
    };
    // The request is in flight for as long as its answer's body lives.
    let content = content.map_frame(move |frame| {
        let _ = &in_flight;
        frame
    });
    Ok(response.body(content.boxed())?)
}

/// Events without an end.
fn events(pause: Duration) -> BoxBody<Bytes, Broken> {
    let events = futures::stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, Broken>(Frame::data(Bytes::from_static(EVENT))), ()))
    });
    BodyExt::boxed(StreamBody::new(events))
}

/// A body of these bytes in pieces, with a pause after each.
fn paced(bytes: Bytes, piece: usize, pause: Duration) -> BoxBody<Bytes, Broken> {
    let pieces = futures::stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        let next = rest.split_to(piece.clamp(1, rest.len()));
        tokio::time::sleep(pause).await;
        Some((Ok::<_, Broken>(Frame::data(next)), rest))
    });
    BodyExt::boxed(StreamBody::new(pieces))
}

/// A body of these bytes, held back after the first ones.
fn held(mut bytes: Bytes, first: usize, gate: Gate) -> BoxBody<Bytes, Broken> {
    let first = bytes.split_to(first.min(bytes.len()));
    let first = futures::stream::iter([Ok(Frame::data(first))]);
    let rest = futures::stream::once(async move {
        gate.pass().await;
        Ok::<_, Broken>(Frame::data(bytes))
    });
    BodyExt::boxed(StreamBody::new(first.chain(rest)))
}

/// A body of these bytes, or of the first `broken_after` of them and an error.
fn whole(bytes: Bytes, broken_after: Option<usize>) -> BoxBody<Bytes, Broken> {
    let Some(sent) = broken_after else {
        return http_body_util::Full::new(bytes)
            .map_err(|never: Infallible| match never {})
            .boxed();
    };
    let first = futures::stream::iter([Ok(Frame::data(bytes.slice(..sent.min(bytes.len()))))]);
    let then = futures::stream::once(async {
        // Lets the connection write the first part before it learns of the end.
        tokio::task::yield_now().await;
        Err(Broken::from("the script says to break off"))
    });
    BodyExt::boxed(StreamBody::new(first.chain(then)))
}
