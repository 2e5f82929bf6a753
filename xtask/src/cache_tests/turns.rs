//! Spreads requests over nodes: those of one test go to one node after the other.
//!
//! Bytes are passed on as they come, both ways, so that the suite sees what the
//! nodes say, interim responses and malformed ones included. What is a request
//! is told without reading it: a client that does not pipeline, and the suite's
//! does not, sends nothing between a request's end and the answer's. So what
//! comes after part of an answer begins the next request, and goes to the next
//! node on a connection of its own.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Bytes that are passed on at once.
const BUFFER: usize = 16 * 1024;

/// A listener in front of the nodes. Dropped, it accepts nothing more.
#[derive(Debug)]
pub(super) struct Turns {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Turns {
    /// Listens on a free port, for the nodes at these addresses.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub(super) fn start(nodes: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let turns = Turns {
            address: listener.local_addr()?,
            over: Arc::default(),
        };
        let over = Arc::clone(&turns.over);
        let nodes = Arc::new(Nodes {
            addresses: nodes,
            next: Mutex::default(),
        });
        thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let nodes = Arc::clone(&nodes);
                // What breaks off, the client sees break off.
                thread::spawn(move || client.and_then(|client| serve(client, &nodes)));
            }
        });
        Ok(turns)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the listener; if that fails, it is gone already.
        let _ = TcpStream::connect(self.address);
    }
}

/// The nodes, and whose turn it is for each test.
#[derive(Debug)]
struct Nodes {
    addresses: Vec<SocketAddr>,
    next: Mutex<HashMap<Vec<u8>, usize>>,
}

impl Nodes {
    /// Connects to the node whose turn it is for a request that begins so.
    fn connect(&self, request: &[u8]) -> io::Result<TcpStream> {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = next.entry(test(request).to_owned()).or_default();
            let this = *turn;
            *turn += 1;
            this
        };
        let address = self
            .addresses
            .get(turn % self.addresses.len().max(1))
            .ok_or_else(|| io::Error::other("there are no nodes"))?;
        let node = TcpStream::connect(address)?;
        node.set_nodelay(true)?;
        Ok(node)
    }
}

/// The test that a request belongs to: the second segment of its path.
fn test(request: &[u8]) -> &[u8] {
    let target = request.split(|byte| *byte == b' ').nth(1);
    target
        .and_then(|target| {
            target
                .split(|byte| matches!(byte, b'/' | b'?' | b'\r'))
                .nth(2)
        })
        .unwrap_or_default()
}

/// A request and its answer, on a connection to a node of their own.
#[derive(Debug)]
struct Exchange {
    node: TcpStream,
    /// Whether part of the answer has come.
    answered: Arc<AtomicBool>,
    /// Whether the client has gone on to its next request.
    superseded: Arc<AtomicBool>,
}

impl Exchange {
    /// Begins to pass the answer on to the client.
    fn start(node: TcpStream, client: &TcpStream) -> io::Result<Self> {
        let exchange = Exchange {
            answered: Arc::default(),
            superseded: Arc::default(),
            node,
        };
        let (mut from, mut to) = (exchange.node.try_clone()?, client.try_clone()?);
        let answered = Arc::clone(&exchange.answered);
        let superseded = Arc::clone(&exchange.superseded);
        thread::spawn(move || {
            // Either connection may break off at any time.
            let _ = answer(&mut from, &mut to, &answered);
            if !superseded.load(Ordering::SeqCst) {
                let _ = to.shutdown(Shutdown::Both);
            }
        });
        Ok(exchange)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.superseded.store(true, Ordering::SeqCst);
        // Fails only if the node has closed it.
        let _ = self.node.shutdown(Shutdown::Both);
    }
}

/// Serves a client, until either side closes its connection.
fn serve(mut client: TcpStream, nodes: &Nodes) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut current: Option<Exchange> = None;
    let mut bytes = vec![0; BUFFER];
    loop {
        let length = client.read(&mut bytes)?;
        let bytes = bytes.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        let mut exchange = match current.take() {
            Some(exchange) if !exchange.answered.load(Ordering::SeqCst) => exchange,
            _ => Exchange::start(nodes.connect(bytes)?, &client)?,
        };
        exchange.node.write_all(bytes)?;
        current = Some(exchange);
    }
}

/// Passes on an answer to its end, and tells that there is one before the client
/// can know.
fn answer(node: &mut TcpStream, client: &mut TcpStream, answered: &AtomicBool) -> io::Result<()> {
    let mut bytes = vec![0; BUFFER];
    loop {
        let length = node.read(&mut bytes)?;
        let bytes = bytes.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        answered.store(true, Ordering::SeqCst);
        client.write_all(bytes)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use anyhow::Result;

    use super::*;

    /// A node that answers each request with its own name and what was asked.
    fn node(name: &'static str) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || -> io::Result<()> {
                    let mut stream = stream?;
                    let mut lines = BufReader::new(stream.try_clone()?).lines();
                    while let Some(line) = lines.next().transpose()? {
                        write!(stream, "{name} ")?;
                        writeln!(stream, "{line}")?;
                    }
                    Ok(())
                });
            }
        });
        Ok(address)
    }

    /// A client with one connection that it keeps.
    struct Client(BufReader<TcpStream>);

    impl Client {
        fn ask(&mut self, request: &str) -> Result<String> {
            writeln!(self.0.get_mut(), "{request}")?;
            let mut answer = String::new();
            self.0.read_line(&mut answer)?;
            Ok(answer.trim_end().to_owned())
        }
    }

    #[test]
    fn each_tests_requests_go_to_one_node_after_the_other() -> Result<()> {
        let turns = Turns::start(vec![node("a")?, node("b")?, node("c")?])?;
        let connect = || -> Result<Client> {
            Ok(Client(BufReader::new(TcpStream::connect(turns.address())?)))
        };
        let (mut one, mut two) = (connect()?, connect()?);
        assert_eq!(one.ask("PUT /config/x HTTP")?, "a PUT /config/x HTTP");
        assert_eq!(one.ask("GET /test/x HTTP")?, "b GET /test/x HTTP");
        assert_eq!(two.ask("GET /test/y HTTP")?, "a GET /test/y HTTP");
        assert_eq!(two.ask("GET /test/x?q HTTP")?, "c GET /test/x?q HTTP");
        assert_eq!(one.ask("GET /test/x/z HTTP")?, "a GET /test/x/z HTTP");
        assert_eq!(one.ask("GET / HTTP")?, "a GET / HTTP");
        assert_eq!(connect()?.ask("nonsense")?, "b nonsense");
        Ok(())
    }

    #[test]
    fn a_node_that_closes_closes_the_clients_connection() -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let turns = Turns::start(vec![listener.local_addr()?])?;
        let mut client = TcpStream::connect(turns.address())?;
        client.write_all(b"GET / HTTP")?;
        drop(listener.accept()?);
        let mut rest = Vec::new();
        // Closed or reset, the client does not wait for more.
        let _ = client.read_to_end(&mut rest);
        assert!(rest.is_empty());
        Ok(())
    }
}
