//! The nodes: `leeward up`, several times, each a process of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::time::{Instant, timeout_at};

/// Longest time that all nodes may take to serve. Most of it is compiling the
/// component, if nobody did before.
const START_TIME_MAX: Duration = Duration::from_secs(120);

/// Longest time that the nodes may take to stop before they are killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Most bytes that a node may write to its standard output before it serves.
const START_OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// What a node writes, in one line, when it serves.
const SERVING: &str = "Serving http://";

/// End of a node's log that is shown when it fails, in bytes.
const LOG_TAIL_BYTES_MAX: u64 = 2048;

/// Prefixes of environment variables that configure a node. The demo configures
/// its nodes by arguments alone.
const VARIABLE_PREFIXES: [&str; 2] = ["SPIN_VARIABLE_", "LEEWARD_"];

/// The command line that starts a node.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
}

/// The running nodes. Dropping them kills them; [`Nodes::stop`] asks first.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    /// 1 for the first.
    number: u32,
    child: Child,
    log: PathBuf,
    addr: Option<SocketAddr>,
}

impl Nodes {
    /// None yet.
    pub(super) fn none() -> Nodes {
        Nodes { nodes: Vec::new() }
    }

    /// Starts `count` nodes and waits until all serve. Their logs go to files in
    /// `directory`. After an error or when cancelled, those that were started
    /// are still here to be stopped.
    pub(super) async fn start(
        &mut self,
        count: u32,
        command: &Command,
        directory: &Path,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        let mut outputs = Vec::new();
        for number in 1..=count {
            let log = directory.join(format!("node-{number}.log"));
            let mut child =
                spawn(command, &log).with_context(|| format!("cannot start node {number}"))?;
            outputs.extend(child.stdout.take());
            self.nodes.push(Node {
                number,
                child,
                log,
                addr: None,
            });
        }
        for (node, output) in self.nodes.iter_mut().zip(outputs) {
            let addr = match timeout_at(deadline, serving(output)).await {
                Ok(Ok(addr)) => addr,
                Ok(Err(error)) => return Err(node.failure(&error.to_string())),
                Err(_) => {
                    return Err(node.failure(&format!("not serving within {START_TIME_MAX:?}")));
                }
            };
            node.addr = Some(addr);
        }
        Ok(())
    }

    /// Where they serve.
    pub(super) fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().filter_map(|node| node.addr).collect()
    }

    /// The nodes that are no longer running, one sentence each.
    pub(super) fn losses(&mut self) -> Vec<String> {
        let mut losses = Vec::new();
        for node in &mut self.nodes {
            if let Ok(Some(status)) = node.child.try_wait() {
                losses.push(format!(
                    "Node {} ended by itself ({status}).{}",
                    node.number,
                    node.log_tail()
                ));
            }
        }
        losses
    }

    /// Asks all of them to stop, and kills those that do not in time.
    pub(super) async fn stop(&mut self) {
        for node in &self.nodes {
            // No id: it ended and was waited for, so the number may be another
            // process's by now.
            let pid = node
                .child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // It may have ended in this very moment.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = Instant::now() + STOP_TIME_MAX;
        for mut node in self.nodes.drain(..) {
            if timeout_at(deadline, node.child.wait()).await.is_err() {
                let _ = node.child.kill().await;
            }
        }
    }
}

impl Node {
    fn failure(&self, what: &str) -> anyhow::Error {
        anyhow!("node {}: {what}{}", self.number, self.log_tail())
    }

    /// The end of its log, on indented lines of its own; empty if there is none.
    fn log_tail(&self) -> String {
        match tail(&self.log) {
            Ok(text) => text
                .trim_end()
                .lines()
                .map(|line| format!("\n  {line}"))
                .collect(),
            Err(_) => String::new(),
        }
    }
}

fn spawn(command: &Command, log: &Path) -> anyhow::Result<Child> {
    let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = tokio::process::Command::new(&command.program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if VARIABLE_PREFIXES
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            child.env_remove(&name);
        }
    }
    child
        .args(&command.args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", command.program.display()))
}

/// Reads a node's output until it says where it serves, and from then on drops
/// what it writes, so that it never waits for a reader.
async fn serving(output: ChildStdout) -> anyhow::Result<SocketAddr> {
    let mut output = BufReader::new(output.take(START_OUTPUT_BYTES_MAX));
    let mut line = Vec::new();
    let addr = loop {
        line.clear();
        if output.read_until(b'\n', &mut line).await? == 0 {
            bail!("ended before it served");
        }
        if let Some(addr) = serving_addr(&String::from_utf8_lossy(&line)) {
            break addr;
        }
    };
    tokio::spawn(async move {
        let mut rest = output.into_inner().into_inner();
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    });
    Ok(addr)
}

/// The address in a line that says where a node serves.
fn serving_addr(line: &str) -> Option<SocketAddr> {
    line.trim()
        .strip_prefix(SERVING)?
        .trim_end_matches('/')
        .parse()
        .ok()
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Longest time that anything here may take.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Command {
        Command {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
        }
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn a_node_says_where_it_serves() {
        let cases = [
            ("Serving http://127.0.0.1:3000\n", Some("127.0.0.1:3000")),
            ("Serving http://127.0.0.1:3000/\r\n", Some("127.0.0.1:3000")),
            ("Serving http://[::1]:80", Some("[::1]:80")),
            ("Serving https://127.0.0.1:3000", None),
            ("Serving http://somewhere", None),
            ("serving soon", None),
            ("", None),
        ];
        for (line, addr) in cases {
            assert_eq!(
                serving_addr(line),
                addr.map(|addr| addr.parse().expect("an address")),
                "{line:?}"
            );
        }
    }

    #[tokio::test]
    async fn nodes_start_and_stop() {
        let directory = directory();
        let command = shell("echo starting; echo Serving http://127.0.0.1:$$; exec sleep 1000");
        let mut nodes = Nodes::none();
        timeout(DEADLINE, nodes.start(3, &command, directory.path()))
            .await
            .expect("in time")
            .expect("they serve");
        assert_eq!(nodes.addrs().len(), 3);
        assert_eq!(nodes.losses(), Vec::<String>::new());
        let pids: Vec<_> = nodes
            .nodes
            .iter()
            .filter_map(|node| Pid::from_raw(node.child.id()? as i32))
            .collect();
        timeout(DEADLINE, nodes.stop()).await.expect("in time");
        assert_eq!(pids.len(), 3);
        for pid in pids {
            assert!(
                rustix::process::test_kill_process(pid).is_err(),
                "{pid:?} is gone"
            );
        }
    }

    #[tokio::test]
    async fn a_node_that_fails_is_told_with_the_end_of_its_log() {
        let directory = directory();
        let command = shell("echo 'error: no such store' >&2; exit 3");
        let mut nodes = Nodes::none();
        let started = timeout(DEADLINE, nodes.start(2, &command, directory.path()))
            .await
            .expect("in time");
        let error = started.expect_err("it does not serve").to_string();
        assert!(error.contains("node 1: ended before it served"), "{error}");
        assert!(error.contains("error: no such store"), "{error}");
        nodes.stop().await;
    }

    #[tokio::test]
    async fn a_node_that_ends_is_a_loss() {
        let directory = directory();
        let mut nodes = Nodes::none();
        let command = shell("echo Serving http://127.0.0.1:1; exit 3");
        timeout(DEADLINE, nodes.start(1, &command, directory.path()))
            .await
            .expect("in time")
            .expect("it served");
        nodes.nodes[0].child.wait().await.expect("it ends");
        let losses = nodes.losses();
        assert!(
            losses.len() == 1 && losses[0].contains("Node 1 ended by itself"),
            "{losses:?}"
        );
        nodes.stop().await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let directory = directory();
        let command = Command {
            program: "/nowhere/leeward".into(),
            args: Vec::new(),
        };
        let error = Nodes::none()
            .start(1, &command, directory.path())
            .await
            .expect_err("no such file");
        assert!(
            format!("{error:#}").contains("/nowhere/leeward"),
            "{error:#}"
        );
    }
}
