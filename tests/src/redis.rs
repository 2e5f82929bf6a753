//! A Redis server of the test's own, gone when the test is.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::redis::{Client, Commands, Connection};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::link::Link;
use crate::wait;

/// How often to try another port, should somebody be quicker to take it.
const TRIES: usize = 5;

/// A running `redis-server` that keeps nothing on disk.
#[derive(Debug)]
pub struct RedisServer {
    process: Mutex<Child>,
    port: u16,
    tls_port: Option<u16>,
    link: Option<Link>,
    directory: TempDir,
}

impl RedisServer {
    /// Starts a server on a free port.
    ///
    /// # Panics
    ///
    /// If `redis-server` is not installed, or does not start.
    pub async fn start() -> Self {
        Self::start_with(false).await
    }

    /// The same, and it listens for TLS too. Its certificate is signed by the
    /// authority in [`authority`].
    ///
    /// # Panics
    ///
    /// If `redis-server` is not installed, has no TLS, or does not start.
    pub async fn start_with_tls() -> Self {
        Self::start_with(true).await
    }

    /// The same without TLS, and the nodes reach it through a [`Link`].
    ///
    /// # Panics
    ///
    /// If `redis-server` is not installed, or does not start.
    pub async fn start_behind_a_link() -> Self {
        let mut server = Self::start().await;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
        server.link = Some(Link::to(address).await.unwrap());
        server
    }

    async fn start_with(tls: bool) -> Self {
        for _ in 0..TRIES {
            if let Some(server) = Self::try_start(tls).await {
                return server;
            }
        }
        panic!("redis-server did not start in {TRIES} tries");
    }

    async fn try_start(tls: bool) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let tls_port = tls.then(|| free_port().unwrap());
        let process = Mutex::new(spawn(directory.path(), port, tls_port));
        let server = RedisServer {
            process,
            port,
            tls_port,
            link: None,
            directory,
        };
        server.is_up().await.then_some(server)
    }

    /// Waits until it answers, or has ended.
    async fn is_up(&self) -> bool {
        wait::until("redis-server answers or ends", wait::SOON, async || {
            if self.process().try_wait().ok()?.is_some() {
                return Some(false);
            }
            self.connection().ok().map(|_| true)
        })
        .await
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops it where it stands (SIGSTOP): it takes connections, and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`RedisServer::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process()), signal).unwrap();
    }

    /// Ends it (SIGKILL): connections are refused, and what it had is lost.
    pub fn kill(&self) {
        let mut process = self.process();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts it after [`RedisServer::kill`], on the same port.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_again(&self) {
        *self.process() = spawn(self.directory.path(), self.port, self.tls_port);
        assert!(self.is_up().await, "redis-server did not start again");
    }

    /// What lies between the nodes and the server.
    ///
    /// # Panics
    ///
    /// If it was started without.
    pub fn link(&self) -> &Link {
        self.link.as_ref().expect("the server is behind a link")
    }

    /// The URL that a node is given.
    pub fn url(&self) -> String {
        match &self.link {
            Some(link) => format!("redis://{}", link.address()),
            None => self.direct_url(),
        }
    }

    fn direct_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The URL for TLS.
    ///
    /// # Panics
    ///
    /// If the server was started without.
    pub fn tls_url(&self) -> String {
        let port = self.tls_port.expect("the server was started with TLS");
        format!("rediss://localhost:{port}")
    }

    /// A connection, for a look at what the nodes wrote.
    ///
    /// # Errors
    ///
    /// If the server is not up.
    pub fn connection(&self) -> ::redis::RedisResult<Connection> {
        let mut connection = Client::open(self.direct_url())?.get_connection()?;
        // A stranger on the port would not know this.
        let _: Option<Vec<u8>> = connection.get("ping")?;
        Ok(connection)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Fails only if the process is gone already.
        let mut process = self.process();
        let _ = process.kill();
        let _ = process.wait();
    }
}

fn spawn(directory: &Path, port: u16, tls_port: Option<u16>) -> Child {
    let mut command = Command::new("redis-server");
    if let Some(port) = tls_port {
        command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(tls_file("server.pem"));
        command.arg("--tls-key-file").arg(tls_file("server.key"));
        command.arg("--tls-ca-cert-file").arg(authority());
    }
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("redis-server: {error}; install it (apt-get install redis-server), or run `cargo xtask test`, which does")
        })
}

/// The certificate of the authority that a node has to trust for TLS.
pub fn authority() -> PathBuf {
    tls_file("ca.pem")
}

fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tls").join(name)
}

/// A port that nobody listens on at this moment.
///
/// # Errors
///
/// If there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
