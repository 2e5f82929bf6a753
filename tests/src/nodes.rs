//! Nodes: `leeward up` as processes of their own, which a test may kill, pause
//! and resume.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait;

/// The longest that a node may take to start: the first one compiles the
/// component, possibly while other things are being compiled.
const START: Duration = Duration::from_secs(60);

/// The longest that a node may take to end once it was asked to.
const END: Duration = Duration::from_secs(30);

/// How long to wait for what a node wrote before it ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Lines of a node's output that are kept, for failure messages.
const KEPT_LINES: usize = 400;

/// Lines of a node's output that a failed test shows.
const SHOWN_LINES: usize = 40;

/// What a node prints when it is ready, before its address and the rest of the scheme.
const READY: &str = "Serving http";

/// The built host, and the built component.
///
/// # Panics
///
/// If either has not been built.
pub fn built() -> (PathBuf, PathBuf) {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let find = |variable: &str, default: &str| {
        let path = std::env::var_os(variable).map_or_else(|| target.join(default), PathBuf::from);
        assert!(
            path.exists(),
            "{} is not there; `cargo xtask test` builds it and runs these tests",
            path.display()
        );
        path
    };
    (
        find("LEEWARD_BIN", "release/leeward"),
        find("LEEWARD_WASM", "flavours/spin/leeward.wasm"),
    )
}

/// A flavour of the component: in the folder that `LEEWARD_FLAVOURS` names, as
/// `cargo xtask test` sets it, or else where `cargo xtask build --flavour` puts it.
///
/// # Panics
///
/// If it has not been built.
pub fn built_flavour(name: &str) -> PathBuf {
    let folder = std::env::var_os("LEEWARD_FLAVOURS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/flavours"),
        PathBuf::from,
    );
    let component = folder.join(name).join("leeward.wasm");
    // Absolute, as some hosts are started in a folder of their own.
    component.canonicalize().unwrap_or_else(|error| {
        panic!(
            "{} cannot be used: {error}; `cargo xtask build --flavour {name}` builds it, \
             and `cargo xtask test` builds it and runs these tests",
            component.display()
        )
    })
}

/// A `leeward up` command on a free port, with the built component, to be given
/// its other arguments. It sees no variables of the developer's own.
pub fn up() -> Command {
    up_with(&built().1)
}

/// The same with another flavour of the component.
///
/// # Panics
///
/// If it has not been built.
pub fn up_as(flavour: &str) -> Command {
    up_with(&built_flavour(flavour))
}

/// The same with another component.
pub fn up_with(component: &Path) -> Command {
    let (host, _) = built();
    let mut command = Command::new(host);
    command
        .arg("up")
        .args(["--listen", "127.0.0.1:0", "--component"])
        .arg(component);
    for variable in ["ORIGIN", "CONFIG", "ADMIN_TOKEN"] {
        command.env_remove(format!("SPIN_VARIABLE_{variable}"));
    }
    for variable in ["CONNECT", "STORE"] {
        command.env_remove(format!("LEEWARD_{variable}"));
    }
    // What a failed test shows of a node is its last lines: let them be messages.
    command.env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command
}

/// The last lines that a process wrote.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    /// Keeps reading until the process closes its end.
    fn follow(&self, output: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                log.add(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last `lines` lines.
    fn text(&self, lines: usize) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = kept.len().saturating_sub(lines);
        let lines: Vec<_> = kept.iter().skip(skipped).map(String::as_str).collect();
        lines.join("\n")
    }

    /// The last `lines` lines that differ from the line before, and how often each came.
    fn summary(&self, lines: usize) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut runs: Vec<(&str, usize)> = Vec::new();
        for line in kept.iter() {
            match runs.last_mut() {
                Some((last, times)) if last == line => *times += 1,
                _ => runs.push((line, 1)),
            }
        }
        let skipped = runs.len().saturating_sub(lines);
        let lines = runs.iter().skip(skipped).map(|(line, times)| match times {
            1 => (*line).to_owned(),
            _ => format!("{line} (x{times})"),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Whom a node's signals reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The process.
    Process,
    /// The process and those that it started.
    Group,
}

/// A running node. Dropped, it is killed.
#[derive(Debug)]
pub struct Node {
    process: Child,
    reach: Reach,
    /// Whether it has been waited for.
    over: bool,
    address: SocketAddr,
    output: Log,
    errors: Log,
}

impl Node {
    /// Starts a node and waits until it serves.
    ///
    /// # Panics
    ///
    /// If it ends instead, or takes too long; with what it wrote.
    pub async fn start(command: Command) -> Self {
        let ready = |output: &str, _: &str| output.lines().find_map(address);
        Self::start_as(command, Reach::Process, ready).await
    }

    /// The same for a program that has another process serve: what happens to the node
    /// happens to both.
    ///
    /// # Panics
    ///
    /// If it ends instead, or takes too long; with what it wrote.
    pub async fn start_with_children(mut command: Command) -> Self {
        command.process_group(0);
        let ready = |output: &str, _: &str| output.lines().find_map(address);
        Self::start_as(command, Reach::Group, ready).await
    }

    /// Starts a program that is to serve at this address, and waits until it has
    /// written `ready`.
    ///
    /// # Panics
    ///
    /// If it ends instead, or takes too long; with what it wrote.
    pub async fn start_at(command: Command, address: SocketAddr, ready: &str) -> Self {
        let is_ready = |output: &str, errors: &str| {
            let ready = output.contains(ready) || errors.contains(ready);
            ready.then_some(address)
        };
        Self::start_as(command, Reach::Process, is_ready).await
    }

    /// `ready` makes the address of what it wrote to its standard output and error.
    async fn start_as(
        mut command: Command,
        reach: Reach,
        ready: impl Fn(&str, &str) -> Option<SocketAddr>,
    ) -> Self {
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (output, errors) = (Log::default(), Log::default());
        output.follow(process.stdout.take().unwrap());
        errors.follow(process.stderr.take().unwrap());
        // Made before it is ready, so that it is killed if it never is.
        let mut node = Node {
            process,
            reach,
            over: false,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            output,
            errors,
        };
        let address = wait::until("a node serves", START, async || {
            let ended = node.ended();
            if ended.is_some() {
                // What it wrote last may still be on its way.
                tokio::time::sleep(LAST_WORDS).await;
            }
            let address = ready(&node.output.text(KEPT_LINES), &node.errors());
            assert!(
                ended.is_none() || address.is_some(),
                "the node ended ({ended:?}): {}\n{}",
                node.output(),
                node.errors()
            );
            address
        });
        node.address = address.await;
        node
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it wrote to its standard output, the last few hundred lines.
    pub fn output(&self) -> String {
        self.output.text(KEPT_LINES)
    }

    /// What it wrote to its standard error, the last few hundred lines.
    pub fn errors(&self) -> String {
        self.errors.text(KEPT_LINES)
    }

    /// Ends it at once, with no chance to clean up (SIGKILL).
    pub fn kill(&mut self) {
        if !self.over {
            self.signal(Signal::KILL);
            self.process.wait().unwrap();
            self.over = true;
        }
    }

    /// Stops it where it stands (SIGSTOP), as a hypervisor may.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Node::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The memory that it holds now, in bytes.
    ///
    /// # Panics
    ///
    /// If the system does not say.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kilobytes * 1024
    }

    /// Asks it to read its configuration again (SIGHUP).
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Asks it to end (SIGTERM).
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to end, and waits until it has.
    pub async fn end(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.until_ended().await
    }

    /// Waits until it has ended.
    pub async fn until_ended(&mut self) -> ExitStatus {
        wait::until("the node ends", END, async || self.ended()).await
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.process.try_wait().unwrap();
        self.over |= ended.is_some();
        ended
    }

    fn signal(&self, signal: Signal) {
        self.try_signal(signal).unwrap();
    }

    fn try_signal(&self, signal: Signal) -> rustix::io::Result<()> {
        let process = Pid::from_child(&self.process);
        match self.reach {
            Reach::Process => kill_process(process, signal),
            Reach::Group => kill_process_group(process, signal),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // If it has been waited for, its process id may be somebody else's.
        if !self.over {
            // Fails only if it has ended just now.
            let _ = self.try_signal(Signal::KILL);
            let _ = self.process.wait();
        }
        if thread::panicking() {
            eprintln!(
                "--- node {}, last lines:\n{}",
                self.address,
                self.errors.summary(SHOWN_LINES)
            );
        }
    }
}

/// Runs a command that is expected to end by itself, and to say why.
///
/// # Panics
///
/// If it does not end.
pub async fn ending(mut command: Command) -> (ExitStatus, String) {
    let mut process = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let errors = process.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        BufReader::new(errors)
            .read_to_end(&mut text)
            .map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let ended = tokio::time::timeout(END, async {
        wait::until("the command ends", START, async || {
            process.try_wait().unwrap()
        })
        .await
    });
    let Ok(status) = ended.await else {
        // Fails only if it ended just now.
        let _ = process.kill();
        let _ = process.wait();
        panic!("the command goes on; it wrote {:?}", errors.join().unwrap());
    };
    (status, errors.join().unwrap().unwrap())
}

/// All addresses at which a node serves, by what it wrote to its standard output.
pub fn addresses(output: &str) -> Vec<SocketAddr> {
    output.lines().filter_map(address).collect()
}

fn address(line: &str) -> Option<SocketAddr> {
    line.trim()
        .strip_prefix(READY)?
        .trim_start_matches('s')
        .strip_prefix("://")?
        .trim_end_matches('/')
        .parse()
        .ok()
}
