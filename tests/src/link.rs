//! A connection to a store that is far away: a TCP proxy that delivers answers late.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Pieces of data that are on their way on one connection, at most.
const ON_THE_WAY_MAX: usize = 1_024;

/// Most bytes of one piece.
const PIECE: usize = 64 * 1024;

/// A proxy on a port of its own. Dropped, it is gone with its connections.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    delay: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

impl Link {
    /// A proxy to `target`, which delivers at once until it is told otherwise.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub async fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let delay = Arc::new(AtomicU64::new(0));
        let server = tokio::spawn(accept(listener, target, Arc::clone(&delay)));
        Ok(Link {
            address,
            delay,
            server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on answers arrive this much later, in whole milliseconds. Those that
    /// are on their way do not wait for each other.
    pub fn set_delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        // Relaxed: the number carries nothing but itself.
        self.delay.store(millis, Ordering::Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, delay: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(connect(client, target, Arc::clone(&delay)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries data both ways until both sides have ended.
async fn connect(client: TcpStream, target: SocketAddr, delay: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    // Only makes it slower where it fails.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::join!(
        carry(client_read, server_write, None),
        carry(server_read, client_write, Some(delay)),
    );
}

async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, delay: Option<Arc<AtomicU64>>) {
    let (sender, receiver) = mpsc::channel(ON_THE_WAY_MAX);
    tokio::join!(read(from, sender, delay), write(to, receiver));
}

async fn read(
    mut from: OwnedReadHalf,
    on_the_way: mpsc::Sender<(Instant, Bytes)>,
    delay: Option<Arc<AtomicU64>>,
) {
    let mut bytes = BytesMut::with_capacity(PIECE);
    while let Ok(1..) = from.read_buf(&mut bytes).await {
        let millis = delay
            .as_ref()
            .map_or(0, |delay| delay.load(Ordering::Relaxed));
        let at = Instant::now() + Duration::from_millis(millis);
        if on_the_way.send((at, bytes.split().freeze())).await.is_err() {
            break;
        }
    }
}

async fn write(mut to: OwnedWriteHalf, mut on_the_way: mpsc::Receiver<(Instant, Bytes)>) {
    while let Some((at, bytes)) = on_the_way.recv().await {
        tokio::time::sleep_until(at).await;
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
}
