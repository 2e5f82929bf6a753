//! All connections of clients: how many there may be, and which are closed when
//! there are too many.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connection::{Line, Waiting};
use crate::report;

/// Connections without a request that are closed at a time when there is no place
/// left for a new one: few, because each of those clients has to connect again.
const CLOSED_AT_A_TIME: usize = 32;

/// How long a head may take although there is no place left: longer than any client takes
/// that sends it in one piece.
const HEAD_GRACE: Duration = Duration::from_secs(2);

/// Pause before further connections are closed to make room.
const ROOM_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Pause between two lines in the log about clients with too many connections.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// All connections.
#[derive(Debug)]
pub(super) struct Connections {
    slots: Arc<Semaphore>,
    /// All of them.
    slots_max: u32,
    per_client_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    lines: HashMap<u64, Arc<Line>>,
    of_client: HashMap<IpAddr, usize>,
    next_id: u64,
    reported: Option<Instant>,
}

impl Connections {
    /// No connections. There may be `slots_max` of them, and one client may have
    /// `per_client_max`.
    pub(super) fn new(slots_max: u32, per_client_max: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(slots_max as usize)),
            slots_max,
            per_client_max,
            open: Mutex::default(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be one more connection. Connections without a request
    /// are closed for it.
    pub(super) async fn slot(&self) -> OwnedSemaphorePermit {
        loop {
            let slot = Arc::clone(&self.slots).acquire_owned();
            // The first poll takes a free slot, if there is one.
            if let Ok(Ok(slot)) = tokio::time::timeout(Duration::ZERO, slot).await {
                return slot;
            }
            self.close_idle();
            let slot = Arc::clone(&self.slots).acquire_owned();
            if let Ok(Ok(slot)) = tokio::time::timeout(ROOM_AGAIN_AFTER, slot).await {
                return slot;
            }
        }
    }

    /// Closes the connections that have been without a request for longest.
    pub(super) fn close_idle(&self) {
        let open = self.open();
        let lines = open.lines.values();
        let waiting = lines.filter_map(|line| Some((line.waiting_since()?, line)));
        for (_, line) in to_close(waiting, Instant::now()) {
            line.close_if_waiting();
        }
    }

    /// Adds a connection. Returns `None` if its client has too many.
    pub(super) fn admit(
        self: &Arc<Self>,
        slot: OwnedSemaphorePermit,
        peer: SocketAddr,
        line: &Arc<Line>,
    ) -> Option<Place> {
        let client = client(peer);
        let mut open = self.open();
        if let Some(client) = client {
            let count = open.of_client.entry(client).or_default();
            if *count >= self.per_client_max {
                let now = Instant::now();
                if open.reported.is_none_or(|at| now - at >= REPORT_EVERY) {
                    open.reported = Some(now);
                    report::event(
                        "connections-closed",
                        format_args!(
                            "refused a connection of {client}: it has {} already. If this is a proxy \
                         in front of Leeward, raise --connections-per-client",
                            self.per_client_max
                        ),
                    );
                }
                return None;
            }
            *count += 1;
        }
        let id = open.next_id;
        open.next_id += 1;
        open.lines.insert(id, Arc::clone(line));
        Some(Place {
            connections: Arc::clone(self),
            id,
            client,
            _slot: slot,
        })
    }

    /// The requests whose answer has not ended.
    pub(super) fn requests(&self) -> usize {
        let open = self.open();
        open.lines.values().map(|line| line.requests()).sum()
    }

    /// Tells all connections to end, and waits until they have. That has no bound.
    pub(super) async fn stop(&self) {
        for line in self.open().lines.values() {
            line.stop();
        }
        // Each connection holds a slot. Acquiring fails only once the semaphore is
        // closed, which it never is.
        drop(self.slots.acquire_many(self.slots_max).await);
    }
}

/// Which connections without a request are closed at `now` to make room: those that have been
/// without one for longest, and then those on which a head has begun [`HEAD_GRACE`] ago.
fn to_close<T>(waiting: impl Iterator<Item = (Waiting, T)>, now: Instant) -> Vec<(Waiting, T)> {
    let may_close = |waiting: Waiting| match waiting {
        Waiting::Idle(_) => true,
        Waiting::Head(since) => now.saturating_duration_since(since) >= HEAD_GRACE,
    };
    let mut waiting: Vec<_> = waiting.filter(|(waiting, _)| may_close(*waiting)).collect();
    waiting.sort_unstable_by_key(|(waiting, _)| *waiting);
    waiting.truncate(CLOSED_AT_A_TIME);
    waiting
}

/// The place of one connection, freed when it ends.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    id: u64,
    client: Option<IpAddr>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.lines.remove(&self.id);
        if let Some(client) = self.client
            && let Some(count) = open.of_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                open.of_client.remove(&client);
            }
        }
    }
}

/// Returns whose connections are counted together with those of `peer`: those of
/// its address, and with IPv6 of its network, because a client usually has a whole
/// one. Connections of this machine are not counted: they are a proxy's.
fn client(peer: SocketAddr) -> Option<IpAddr> {
    const NETWORK: u128 = !(u64::MAX as u128);
    match peer.ip().to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from(address.to_bits() & NETWORK).into()),
        address @ IpAddr::V4(_) => Some(address),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Empty;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::connection::InFlight;
    use super::super::limits::Patience;
    use super::super::wire::Wire;
    use super::*;

    /// Answers `/`, and never anything else.
    async fn answer(
        request: Request<Incoming>,
        line: Arc<Line>,
    ) -> Result<Response<Empty<Bytes>>, Infallible> {
        let _in_flight = InFlight::answer(&line);
        if request.uri().path() != "/" {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(Empty::new()))
    }

    /// A client whose connection is served, and that has sent these bytes.
    async fn served(connections: &Arc<Connections>, bytes: &str) -> TcpStream {
        let slot = connections.slot().await;
        let (line, mut client) = line().await;
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        let place = connections.admit(slot, peer, &line).unwrap();
        let requests = Arc::clone(&line);
        let service = service_fn(move |request| answer(request, Arc::clone(&requests)));
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(Wire(Arc::clone(&line))), service);
        tokio::spawn(async move {
            line.serve(connection).await;
            drop(place);
        });
        client.write_all(bytes.as_bytes()).await.unwrap();
        client
    }

    #[tokio::test]
    async fn a_connection_without_a_request_is_closed_when_places_run_out() {
        let connections = Connections::new(2, 10);
        let busy = served(&connections, "GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut idle = served(&connections, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut head = [0; 15];
        idle.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        let count_idle = || {
            let open = connections.open();
            open.lines
                .values()
                .filter(|line| matches!(line.waiting_since(), Some(Waiting::Idle(_))))
                .count()
        };
        while count_idle() != 1 {
            tokio::task::yield_now().await;
        }

        // This takes the place of the idle one.
        let newcomer = served(&connections, "").await;
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        let nothing = busy.try_read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
        drop((busy, newcomer));
    }

    /// Many clients that begin a head and do not go on keep nobody out for long.
    #[test]
    fn a_connection_with_a_part_of_a_head_is_closed_after_those_without() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let waiting = [
            Waiting::Head(at(1)),
            Waiting::Idle(at(9)),
            Waiting::Head(at(8)),
            Waiting::Idle(at(2)),
            Waiting::Head(at(9)),
        ];
        let found = to_close(waiting.map(|it| (it, ())).into_iter(), at(10));
        let order: Vec<_> = found.into_iter().map(|(waiting, ())| waiting).collect();
        let expected = [
            Waiting::Idle(at(2)),
            Waiting::Idle(at(9)),
            Waiting::Head(at(1)),
            Waiting::Head(at(8)),
        ];
        assert_eq!(order, expected);
    }

    #[tokio::test]
    async fn stopping_closes_connections_without_a_complete_head() {
        let connections = Connections::new(3, 10);
        let mut clients = Vec::new();
        for bytes in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            clients.push(served(&connections, bytes).await);
        }
        let mut head = [0; 15];
        clients[2].read_exact(&mut head).await.unwrap();
        // It waits for all of them.
        connections.stop().await;
        for mut client in clients {
            client.read_to_end(&mut Vec::new()).await.unwrap();
        }
    }

    /// A line, and the client's end of it.
    async fn line() -> (Arc<Line>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        (Line::new(stream, Patience::default()), client.unwrap())
    }

    #[tokio::test]
    async fn one_client_may_have_some_connections_and_not_all() {
        let connections = Connections::new(100, 2);
        let admit = async |peer: &str| {
            let slot = connections.slot().await;
            connections.admit(slot, peer.parse().unwrap(), &line().await.0)
        };
        let first = admit("192.0.2.1:1").await.unwrap();
        let _second = admit("192.0.2.1:2").await.unwrap();
        assert!(admit("192.0.2.1:3").await.is_none());
        let _other = admit("192.0.2.2:1").await.unwrap();
        drop(first);
        let _third = admit("192.0.2.1:3").await.unwrap();

        // A network of IPv6 is one client.
        let _sixth = admit("[2001:db8::1]:1").await.unwrap();
        let _seventh = admit("[2001:db8::2]:1").await.unwrap();
        assert!(admit("[2001:db8::3]:1").await.is_none());
        let _eighth = admit("[2001:db8:0:1::3]:1").await.unwrap();
        // An IPv4 address in IPv6 is that address.
        assert!(admit("[::ffff:192.0.2.1]:9").await.is_none());

        // Programs on this machine are not limited.
        let mut local = Vec::new();
        for port in 1..10 {
            local.push(admit(&format!("127.0.0.1:{port}")).await.unwrap());
        }
    }

    #[tokio::test]
    async fn places_are_free_again_when_their_connections_have_ended() {
        let connections = Connections::new(100, 2);
        for port in 1..10 {
            let slot = connections.slot().await;
            let peer = SocketAddr::from(([192, 0, 2, 1], port));
            drop(connections.admit(slot, peer, &line().await.0).unwrap());
        }
        assert!(connections.open().lines.is_empty());
        assert!(connections.open().of_client.is_empty());
        connections.stop().await;
    }
}
