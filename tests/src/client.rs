//! Visitors: one of them, a crowd at one moment, or load over a while.
//!
//! All visitors ask for the same host, whichever node they are sent to, as they
//! would through a load balancer.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The host that every visitor asks for.
const HOST: &str = "shop.example";

/// The longest that a visitor waits for a whole answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Connections of a crowd that are opened at the same time.
const OPENED_AT_ONCE: usize = 50;

/// How long a visitor of a [`Load`] looks at the page before the next request.
const BETWEEN_VISITS: Duration = Duration::from_millis(10);

/// A request's body, of any kind.
pub type AskBody = BoxBody<Bytes, std::io::Error>;

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its header lines.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// From sending the request to the end of the body. For failure messages;
    /// never asserted.
    pub took: Duration,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value as text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// `Age`, if the answer has one.
    pub fn age(&self) -> Option<u64> {
        self.header("age").parse().ok()
    }

    /// What Leeward says in `Cache-Status`.
    ///
    /// # Panics
    ///
    /// If it says nothing: every answer carries the field.
    pub fn cache_status(&self) -> CacheStatus {
        let lines: Vec<_> = self
            .headers
            .get_all("cache-status")
            .iter()
            .filter_map(|line| line.to_str().ok())
            .collect();
        CacheStatus::parse(&lines.join(", "))
            .unwrap_or_else(|| panic!("no Cache-Status of leeward's in {self}"))
    }

    /// Whether the answer came from an entry that was fresh.
    pub fn is_fresh_hit(&self) -> bool {
        let status = self.cache_status();
        status.has("hit")
            && status.ttl().is_some_and(|ttl| ttl >= 0)
            && status.value("detail") != Some("stale")
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?} {:?} after {:?}",
            self.status,
            self.headers,
            self.text(),
            self.took
        )
    }
}

/// Leeward's member of a `Cache-Status` list (RFC 9211).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStatus(Vec<(String, Option<String>)>);

impl CacheStatus {
    /// Leeward's member, the last one if there are several.
    pub fn parse(line: &str) -> Option<Self> {
        let is_ours = |member: &Vec<&str>| member.first() == Some(&"leeward");
        let members = split_unquoted(line, ',').into_iter();
        let ours = members
            .map(|member| split_unquoted(member, ';'))
            .rfind(is_ours)?;
        let parameters =
            ours.into_iter()
                .skip(1)
                .map(|parameter| match parameter.split_once('=') {
                    Some((name, value)) => {
                        (name.to_owned(), Some(value.trim_matches('"').to_owned()))
                    }
                    None => (parameter.to_owned(), None),
                });
        Some(CacheStatus(parameters.collect()))
    }

    /// Whether the parameter is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// The parameter's value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .and_then(|(_, value)| value.as_deref())
    }

    /// `ttl`: seconds left to live, negative for a stale answer.
    pub fn ttl(&self) -> Option<i64> {
        self.value("ttl")?.parse().ok()
    }
}

/// The parts of a Structured Field between separators outside of quotes. Leeward
/// writes no quotes within quotes.
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    let is_end = |c: char| {
        quoted ^= c == '"';
        c == separator && !quoted
    };
    text.split(is_end).map(str::trim).collect()
}

/// A request to make.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask {
    /// A request with this method.
    pub fn new(method: Method, path: &str) -> Self {
        Ask {
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// A request of these parts.
    pub fn made(method: &Method, path: &str, headers: &HeaderMap, body: &Bytes) -> Self {
        Ask {
            method: method.clone(),
            path: path.to_owned(),
            headers: headers.clone(),
            body: body.clone(),
        }
    }

    /// A GET request.
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// With one more header line.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .append(HeaderName::from_static(name), value.parse().unwrap());
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Asks the node at `address`, on a connection of its own.
    ///
    /// # Errors
    ///
    /// If there is no whole, well-formed answer.
    pub async fn to(&self, address: SocketAddr) -> Result<Reply> {
        Visitor::connect(address).await?.ask(self).await
    }

    fn request(&self) -> Result<Request<AskBody>> {
        let body = Full::new(self.body.clone())
            .map_err(|never| match never {})
            .boxed();
        let mut request = Request::builder()
            .method(&self.method)
            .uri(&self.path)
            .body(body)?;
        *request.headers_mut() = self.headers.clone();
        request
            .headers_mut()
            .entry(header::HOST)
            .or_insert(header::HeaderValue::from_static(HOST));
        Ok(request)
    }
}

/// A connection to a node.
#[derive(Debug)]
pub struct Visitor {
    sender: SendRequest<AskBody>,
}

impl Visitor {
    /// Connects to the node at `address`.
    ///
    /// # Errors
    ///
    /// If nobody listens there.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How the connection ends is told to whoever waits for an answer on it.
        tokio::spawn(connection);
        Ok(Visitor { sender })
    }

    /// Makes a request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// If there is no whole, well-formed answer.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Reply> {
        let began = Instant::now();
        let work = async {
            let response = self.send(ask.request()?).await?;
            let (head, body) = response.into_parts();
            let body = body
                .collect()
                .await
                .context("the answer broke off")?
                .to_bytes();
            Ok(Reply {
                status: head.status,
                headers: head.headers,
                body,
                took: began.elapsed(),
            })
        };
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(reply) => reply,
            Err(_) => Err(anyhow!(
                "no answer to {} {} within {PATIENCE:?}",
                ask.method,
                ask.path
            )),
        }
    }

    /// Sends a request, and returns when the answer's head is there.
    ///
    /// # Errors
    ///
    /// If there is no well-formed head.
    pub async fn send(&mut self, mut request: Request<AskBody>) -> Result<Response<Incoming>> {
        request
            .headers_mut()
            .entry(header::HOST)
            .or_insert(header::HeaderValue::from_static(HOST));
        self.sender
            .ready()
            .await
            .context("the connection was closed")?;
        self.sender.send_request(request).await.context("no answer")
    }
}

/// Asks with GET, and expects a whole answer.
///
/// # Panics
///
/// If there is none.
pub async fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, &Ask::get(path)).await
}

/// Asks, and expects a whole answer.
///
/// # Panics
///
/// If there is none.
pub async fn ask(address: SocketAddr, ask: &Ask) -> Reply {
    ask.to(address)
        .await
        .unwrap_or_else(|error| panic!("{} {}: {error:#}", ask.method, ask.path))
}

/// Many visitors, each with a connection of their own, who ask at one moment.
#[derive(Debug)]
pub struct Crowd(Vec<Visitor>);

impl Crowd {
    /// Connects this many visitors, in turn to each of the nodes.
    ///
    /// # Panics
    ///
    /// If a node refuses one.
    pub async fn connect(nodes: &[SocketAddr], size: usize) -> Self {
        let addresses: Vec<_> = nodes.iter().copied().cycle().take(size).collect();
        let mut visitors = Vec::with_capacity(size);
        for some in addresses.chunks(OPENED_AT_ONCE) {
            let opened = join_all(some.iter().map(|address| Visitor::connect(*address))).await;
            visitors.extend(
                opened
                    .into_iter()
                    .map(|visitor| visitor.expect("a node accepts a connection")),
            );
        }
        Crowd(visitors)
    }

    /// All ask at once; returns when all have their answer.
    pub async fn ask(self, ask: &Ask) -> Vec<Result<Reply>> {
        let asks = vec![ask.clone(); self.0.len()];
        self.ask_each(asks).await
    }

    /// Each visitor makes a request of its own, all at once. Returns when all have
    /// their answers; these are in the order of the requests.
    ///
    /// # Panics
    ///
    /// If the number of requests is not the number of visitors.
    pub async fn ask_each(self, asks: Vec<Ask>) -> Vec<Result<Reply>> {
        assert_eq!(asks.len(), self.0.len(), "one request for each visitor");
        let mut asking = Vec::with_capacity(asks.len());
        for (mut visitor, ask) in self.0.into_iter().zip(asks) {
            asking.push(tokio::spawn(async move { visitor.ask(&ask).await }));
        }
        let ended = join_all(asking).await.into_iter();
        ended
            .map(|reply| reply.expect("asking does not panic"))
            .collect()
    }
}

/// A request as bytes, which need not be well-formed.
#[derive(Clone, Debug)]
pub struct RawAsk(Vec<u8>);

impl RawAsk {
    /// A request of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        RawAsk(bytes.into())
    }

    /// Sends the bytes on a connection of its own. Returns the open connection.
    ///
    /// # Errors
    ///
    /// If nobody listens there.
    pub async fn send(&self, address: SocketAddr) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.0).await?;
        Ok(stream)
    }

    /// Sends the bytes and reads until the node closes the connection. The request
    /// must ask it to do so, with `Connection: close`.
    ///
    /// # Errors
    ///
    /// If the node does not close it, or sends nothing that begins like an answer.
    pub async fn to(&self, address: SocketAddr) -> Result<RawReply> {
        let mut bytes = Vec::new();
        let work = async {
            let mut stream = self.send(address).await?;
            // The connection may be reset after the answer.
            let read = stream.read_to_end(&mut bytes).await;
            RawReply::parse(&bytes).with_context(|| format!("no answer; {read:?}"))
        };
        tokio::time::timeout(PATIENCE, work)
            .await
            .context("the answer does not end")?
    }
}

/// The answer to a [`RawAsk`]. Its body is as it was framed.
#[derive(Clone, Debug)]
pub struct RawReply {
    /// Its status.
    pub status: u16,
    fields: Vec<(String, String)>,
    /// Its body, with the framing of the chunked coding if it has any.
    pub body: Vec<u8>,
}

impl RawReply {
    /// The final answer in what a connection carried.
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        loop {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes = &bytes[end + 4..];
            let mut lines = head.split("\r\n");
            let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
            if status < 200 {
                continue;
            }
            let fields = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
            return Some(RawReply {
                status,
                fields: fields.collect(),
                body: bytes.to_vec(),
            });
        }
    }

    /// The values of a header, whose name is in lower case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// Expects that every visitor of a crowd was answered 200 with this body.
///
/// # Panics
///
/// If one was not; shows the first few such answers.
pub fn assert_all_got(replies: &[Result<Reply>], size: usize, body: &str) {
    assert_eq!(replies.len(), size, "answers");
    let is_right = |reply: &Result<Reply>| {
        reply
            .as_ref()
            .is_ok_and(|reply| reply.status == StatusCode::OK && reply.body == body)
    };
    let wrong: Vec<_> = replies
        .iter()
        .filter(|reply| !is_right(reply))
        .map(tell)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {size} were not answered 200 {body:?}; {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

fn tell(reply: &Result<Reply>) -> String {
    match reply {
        Ok(reply) => reply.to_string(),
        Err(error) => format!("{error:#}"),
    }
}

/// One answer, or none, that a visitor of a [`Load`] got.
#[derive(Debug)]
pub struct Visit {
    /// What was asked for.
    pub path: String,
    /// What came.
    pub reply: Result<Reply>,
}

impl Visit {
    /// Whether the visitor got an answer that is no error.
    pub fn is_ok(&self) -> bool {
        self.reply
            .as_ref()
            .is_ok_and(|reply| reply.status == StatusCode::OK)
    }
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, tell(&self.reply))
    }
}

/// Visitors who go on asking until they are told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    visitors: JoinSet<Vec<Visit>>,
}

impl Load {
    /// Starts this many visitors, which go through nodes and paths in turn.
    pub fn start(nodes: &[SocketAddr], paths: &[&str], visitors: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for first in 0..visitors {
            let address = nodes[first % nodes.len()];
            let paths: Vec<_> = paths.iter().map(|&path| path.to_owned()).collect();
            set.spawn(visit(address, paths, first, Arc::clone(&stop)));
        }
        Load {
            stop,
            visitors: set,
        }
    }

    /// Ends the load; returns what everybody got.
    pub async fn finish(self) -> Vec<Visit> {
        self.stop.store(true, Ordering::Relaxed);
        self.visitors
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

async fn visit(
    address: SocketAddr,
    paths: Vec<String>,
    first: usize,
    stop: Arc<AtomicBool>,
) -> Vec<Visit> {
    let mut visits = Vec::new();
    let mut connection = None;
    for path in paths.iter().cycle().skip(first) {
        // Relaxed: the flag carries nothing but itself.
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let reply = async {
            let mut visitor = match connection.take() {
                Some(visitor) => visitor,
                None => Visitor::connect(address).await?,
            };
            let reply = visitor.ask(&Ask::get(path)).await?;
            let keep = visitor.sender.ready().await.is_ok();
            connection = keep.then_some(visitor);
            Ok(reply)
        };
        let reply = reply.await;
        visits.push(Visit {
            path: path.clone(),
            reply,
        });
        tokio::time::sleep(BETWEEN_VISITS).await;
    }
    visits
}

/// Sends bytes as they are, and returns what comes back until the head of an
/// answer is complete or the connection ends.
///
/// # Errors
///
/// If nobody listens, or nothing comes in good time.
pub async fn raw(address: SocketAddr, request: &[u8]) -> Result<String> {
    let work = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(PATIENCE, work)
        .await
        .context("no answer")?
}

#[cfg(test)]
mod tests {
    use super::CacheStatus;

    #[test]
    fn cache_status_is_read() {
        for (line, hit, ttl, fwd, detail) in [
            ("leeward; hit; ttl=1", true, Some(1), None, None),
            (
                "leeward;hit;ttl=-2;detail=stale",
                true,
                Some(-2),
                None,
                Some("stale"),
            ),
            (
                "origin; fwd=miss, leeward; fwd=uri-miss; stored",
                false,
                None,
                Some("uri-miss"),
                None,
            ),
            (
                r#"leeward; fwd=bypass; detail="no store""#,
                false,
                None,
                Some("bypass"),
                Some("no store"),
            ),
            (
                r#"leeward; hit; ttl=-1; detail="stale, store; gone", other; hit"#,
                true,
                Some(-1),
                None,
                Some("stale, store; gone"),
            ),
        ] {
            let status = CacheStatus::parse(line).unwrap();
            assert_eq!(
                (
                    status.has("hit"),
                    status.ttl(),
                    status.value("fwd"),
                    status.value("detail")
                ),
                (hit, ttl, fwd, detail),
                "{line}"
            );
        }
        assert_eq!(CacheStatus::parse("other; hit"), None);
        assert_eq!(CacheStatus::parse(""), None);
    }
}
