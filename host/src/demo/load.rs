//! The visitors: clients in a closed loop, each on a connection of its own that
//! is kept alive, each waiting for its answer and then for a while.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::choice::{Pages, Wishes};
use super::tally::{Failure, Tally};

/// Longest time that a visitor waits for a complete answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest answer that a visitor reads, in bytes; the stand-in's are far
/// shorter.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The clients do not come all at once but, faster and faster, over this part of
/// a phase …
const RAMP_SHARE: u32 = 4;

/// … and within this time at most.
const RAMP_MAX: Duration = Duration::from_secs(5);

/// Pause of a client after its first failure; each further one in a row doubles
/// it …
const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Longest `Retry-After` that a visitor keeps to.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// One phase's load.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Servers that the clients are dealt out to; at least one.
    pub(super) targets: Vec<SocketAddr>,
    /// What they ask for.
    pub(super) pages: Pages,
    /// How many clients.
    pub(super) clients: u32,
    /// How long they make requests. The last ones may take
    /// [`ANSWER_TIME_MAX`] longer.
    pub(super) length: Duration,
    /// Mean pause of a client between an answer and its next request.
    pub(super) think: Duration,
}

impl Load {
    /// The longest that it takes, with the last answers.
    pub(super) fn longest(&self) -> Duration {
        self.length + ANSWER_TIME_MAX
    }

    /// Runs it to its end. Dropping the future ends all clients.
    pub(super) async fn run(&self, tally: &Arc<Tally>) {
        let start = Instant::now();
        let end = start + self.length;
        let ramp = (self.length / RAMP_SHARE).min(RAMP_MAX);
        let mut clients = JoinSet::new();
        for (n, target) in (0..self.clients).zip(self.targets.iter().cycle()) {
            let client = Client {
                target: *target,
                wishes: self.pages.of(n),
                think: self.think,
                // The same load in every run, and in both phases of it.
                random: fastrand::Rng::with_seed(n.into()),
                connection: None,
            };
            let arrival = start + ramp.mul_f64(arrival(n, self.clients));
            clients.spawn(client.run(arrival, end, Arc::clone(tally)));
        }
        while clients.join_next().await.is_some() {}
    }
}

struct Client {
    target: SocketAddr,
    wishes: Wishes,
    think: Duration,
    random: fastrand::Rng,
    connection: Option<Connection>,
}

/// A connection, driven by a task that ends with it.
pub(super) struct Connection {
    pub(super) requests: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Client {
    async fn run(mut self, start: Instant, end: Instant, tally: Arc<Tally>) {
        tokio::time::sleep_until(start).await;
        let mut failures_in_a_row = 0;
        while Instant::now() < end {
            let began = Instant::now();
            let path = self.wishes.next(self.random.f64());
            let outcome = tokio::time::timeout(ANSWER_TIME_MAX, self.request(&path)).await;
            let outcome = outcome.unwrap_or(Err(Failure::Timeout));
            let jitter = jitter(self.random.f64());
            let pause = match outcome {
                Ok(()) => {
                    failures_in_a_row = 0;
                    self.wishes.answered();
                    self.think.mul_f64(jitter)
                }
                Err(Failure::Refused(pause)) => {
                    failures_in_a_row = 0;
                    pause
                }
                Err(_) => {
                    self.connection = None;
                    failures_in_a_row += 1;
                    backoff(failures_in_a_row).mul_f64(jitter)
                }
            };
            tally.count(outcome.map(|()| began.elapsed()));
            tokio::time::sleep_until(end.min(Instant::now() + pause)).await;
        }
    }

    /// Asks for one path and reads the answer.
    async fn request(&mut self, path: &str) -> Result<(), Failure> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = Uri::try_from(path).map_err(|_| Failure::Content)?;
        let host =
            HeaderValue::try_from(self.target.to_string()).map_err(|_| Failure::Connection)?;
        request.headers_mut().insert(HOST, host);

        let mut connection = match self.connection.take() {
            Some(connection) if !connection.requests.is_closed() => connection,
            _ => connect(self.target)
                .await
                .map_err(|_| Failure::Connection)?,
        };
        connection
            .requests
            .ready()
            .await
            .map_err(|_| Failure::Connection)?;
        let response = connection
            .requests
            .send_request(request)
            .await
            .map_err(|_| Failure::Connection)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|_| Failure::Connection)?;
        self.connection = Some(connection);
        if head.status == StatusCode::SERVICE_UNAVAILABLE
            && let Some(pause) = retry_after(&head.headers)
        {
            return Err(Failure::Refused(pause));
        }
        if !head.status.is_success() {
            return Err(Failure::Status);
        }
        if !is_about(&body.to_bytes(), path) {
            return Err(Failure::Content);
        }
        Ok(())
    }
}

/// Connects to a server.
pub(super) async fn connect(target: SocketAddr) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async {
        // What went wrong, the request that it happened to is told.
        let _ = connection.await;
    });
    Ok(Connection {
        requests,
        _driver: driver,
    })
}

/// Whether this is the stand-in's answer for this path.
fn is_about(body: &[u8], path: &str) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|json| json["path"] == path)
}

/// The seconds of a `Retry-After`, at most [`RETRY_AFTER_MAX`]. The shield writes no
/// dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// When the `n`-th of `count` clients comes, as a share of the ramp: the first
/// few are well served by any server, and the crowd follows.
fn arrival(n: u32, count: u32) -> f64 {
    (f64::from(n) / f64::from(count.max(1))).sqrt()
}

/// Mean pause after `failures` failures in a row; there is at least one.
fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

/// A factor of mean 1, between a half and one and a half; `draw` is uniform in
/// 0..1.
fn jitter(draw: f64) -> f64 {
    0.5 + draw
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::demo::tally::Errors;
    use crate::origin::{Latency, Options, Origin};

    #[test]
    fn failures_slow_a_client_down() {
        let cases = [
            (0, 200),
            (1, 200),
            (2, 400),
            (3, 800),
            (4, 1600),
            (5, 2000),
            (1000, 2000),
        ];
        for (failures, ms) in cases {
            assert_eq!(backoff(failures), Duration::from_millis(ms), "{failures}");
        }
    }

    #[test]
    fn clients_come_faster_and_faster() {
        let cases = [
            (0, 100, 0.0),
            (1, 100, 0.1),
            (25, 100, 0.5),
            (100, 100, 1.0),
            (0, 0, 0.0),
        ];
        for (n, count, share) in cases {
            assert_eq!(arrival(n, count), share, "{n} of {count}");
        }
    }

    #[test]
    fn pauses_keep_their_mean() {
        assert_eq!([0.0, 0.5, 1.0].map(jitter), [0.5, 1.0, 1.5]);
    }

    #[test]
    fn an_answer_is_about_its_path() {
        let cases = [
            (r#"{"path":"/a","counter":1}"#, true),
            (r#"{"path":"/b","counter":1}"#, false),
            (r#"{"counter":1}"#, false),
            ("[]", false),
            (r#"{"path":"/a""#, false),
            ("", false),
        ];
        for (body, expected) in cases {
            assert_eq!(is_about(body.as_bytes(), "/a"), expected, "{body}");
        }
    }

    #[test]
    fn only_a_time_to_come_back_makes_a_refusal() {
        let cases = [
            (Some("0"), Some(0)),
            (Some("3"), Some(3)),
            (Some("18446744073709551615"), Some(60)),
            (Some("-1"), None),
            (Some("soon"), None),
            (Some(""), None),
            (None, None),
        ];
        for (value, seconds) in cases {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            }
            assert_eq!(
                retry_after(&headers),
                seconds.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }

    /// A server that answers every request like this.
    async fn refusing(response: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        if stream.write_all(response.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        addr
    }

    #[tokio::test]
    async fn a_refusal_counts_apart_and_is_kept_to() {
        let mut refused = Load {
            pages: Pages::Cold,
            ..load(vec![
                refusing("HTTP/1.1 503 Busy\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n").await,
            ])
        };
        let tally = Arc::new(Tally::new().expect("constant bounds"));
        refused.run(&tally).await;
        let counts = tally.counts();
        assert_eq!(
            (counts.requests, counts.refused, counts.errors.total()),
            (8, 8, 0),
            "one request of each client: the phase ends before they may come back"
        );

        refused.targets = vec![refusing("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await];
        let tally = Arc::new(Tally::new().expect("constant bounds"));
        refused.run(&tally).await;
        let counts = tally.counts();
        assert_eq!(
            (counts.refused, counts.errors.status),
            (0, counts.requests),
            "without Retry-After it is an error"
        );
        assert!(counts.requests >= 8, "{counts:?}");
    }

    fn origin(capacity: u32) -> Origin {
        Origin::start(Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            capacity: NonZeroU32::new(capacity).expect("not zero"),
            latency: Latency::Fixed(Duration::from_millis(5)),
            crash_for: Duration::from_secs(24 * 60 * 60),
            ttl: Duration::from_secs(2),
            stale_while_revalidate: Duration::from_secs(30),
            announce: false,
        })
        .expect("a free port")
    }

    fn load(targets: Vec<SocketAddr>) -> Load {
        Load {
            targets,
            pages: Pages::Hot(["/a", "/b"].map(str::to_owned).into()),
            clients: 8,
            length: Duration::from_millis(300),
            think: Duration::from_millis(2),
        }
    }

    #[tokio::test]
    async fn clients_are_dealt_out_to_all_targets() {
        let (one, two) = (origin(100), origin(100));
        let tally = Arc::new(Tally::new().expect("constant bounds"));
        load(vec![one.addr(), two.addr()]).run(&tally).await;
        let counts = tally.counts();
        assert_eq!(counts.errors, Errors::default());
        let seen = [one.stats(), two.stats()];
        assert!(seen.iter().all(|stats| stats.requests > 0), "{seen:?}");
        assert_eq!(
            seen.iter().map(|stats| stats.requests).sum::<u64>(),
            counts.requests
        );
        assert!(
            seen[0].paths["/a"].requests > seen[0].paths["/b"].requests,
            "{seen:?}"
        );
    }

    #[tokio::test]
    async fn a_crashed_target_is_counted_and_not_hammered() {
        let origin = origin(1);
        let load = load(vec![origin.addr()]);
        let tally = Arc::new(Tally::new().expect("constant bounds"));
        load.run(&tally).await;
        let counts = tally.counts();
        assert_eq!(origin.stats().crashes, 1);
        assert!(counts.errors.connection >= 2, "{counts:?}");
        assert_eq!(
            counts.errors.total(),
            counts.errors.connection,
            "{counts:?}"
        );
        // With pauses of half BACKOFF_MIN or more, few tries fit in the time.
        assert!(
            counts.errors.connection <= 4 * u64::from(load.clients),
            "{counts:?}"
        );
    }
}
