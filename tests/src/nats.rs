//! A NATS server of the test's own with JetStream, gone when the test is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::redis::free_port;
use crate::wait;

/// How often to try another port, should somebody be quicker to take it.
const TRIES: usize = 5;

/// How long the server may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A running `nats-server` with a key-value bucket.
#[derive(Debug)]
pub struct NatsServer {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl NatsServer {
    /// Starts a server on a free port and makes a bucket with this name.
    ///
    /// # Panics
    ///
    /// If `nats-server` is not installed, or does not start.
    pub async fn start(bucket: &str) -> Self {
        for _ in 0..TRIES {
            if let Some(server) = Self::try_start(bucket).await {
                return server;
            }
        }
        panic!("nats-server did not start in {TRIES} tries");
    }

    async fn try_start(bucket: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let process = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .args(["--jetstream", "--store_dir"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server can be started");
        let mut server = NatsServer {
            process,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            _directory: directory,
        };
        let is_up = wait::until("nats-server answers or ends", wait::SOON, async || {
            if server.process.try_wait().ok()?.is_some() {
                return Some(false);
            }
            server.make_bucket(bucket).ok().map(|()| true)
        });
        is_up.await.then_some(server)
    }

    /// What `nats kv add` does: a bucket is a stream.
    fn make_bucket(&self, bucket: &str) -> Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let request = format!(
            r#"{{"name":"KV_{bucket}","subjects":["$KV.{bucket}.>"],"max_msgs_per_subject":1,"discard":"new","storage":"file","num_replicas":1,"allow_rollup_hdrs":true,"deny_delete":true,"allow_direct":true}}"#
        );
        write!(
            stream,
            "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB made 1\r\n\
             PUB $JS.API.STREAM.CREATE.KV_{bucket} made {}\r\n{request}\r\n",
            request.len()
        )?;
        let mut answers = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if answers.read_line(&mut line)? == 0 {
                bail!("the server closed the connection");
            }
            if !line.starts_with("MSG ") {
                continue;
            }
            let length = line.trim_end().rsplit(' ').next();
            let length = length.and_then(|length| length.parse().ok());
            let mut answer = vec![0; length.context("a message has no length")?];
            answers.read_exact(&mut answer)?;
            let answer = String::from_utf8_lossy(&answer);
            if answer.contains("\"error\"") {
                bail!("the server refuses the bucket: {answer}");
            }
            return Ok(());
        }
    }

    /// The URL that a node is given.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
