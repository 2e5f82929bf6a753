//! What an operator sees of a running node: the log, the metrics and the access log.
//!
//! All of it is counted at the host's edges: `visitor` at the answers to visitors, `origin` at
//! the requests to the origin, `store` at the operations of the store. A hit costs a few
//! atomic additions. There is one node in a process, so these are the process's own.

pub(crate) mod access;
pub(crate) mod log;
mod metrics;
mod origin;
mod page;
mod store;
mod summary;
mod visitor;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use leeward::shield::refusals::{Refusals, Tally};
use leeward::time::Time;
use tokio::net::TcpListener;

use self::access::AccessLog;
use self::metrics::Metrics;
pub(crate) use self::origin::OriginExchange;
pub(crate) use self::page::with_metrics;
pub(crate) use self::store::{Kind, Operation, Result as StoreOutcome};
pub(crate) use self::visitor::Visitor;

/// What `leeward up` shows of itself.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Options {
    /// How the log on standard error is written [default: text on a terminal, else json].
    /// The environment variable RUST_LOG says what is written, such as warn, or
    /// info,leeward::store=debug
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<log::Format>,

    /// Name of this node in the log [default: host name and process id]
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    node: Option<String>,

    /// Address to serve metrics for Prometheus on, at /metrics. Keep it from visitors:
    /// it asks for no password; port 0 takes any free port
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,

    /// Write a line for each request that was answered
    #[arg(long, value_name = "FORMAT", value_enum)]
    access_log: Option<access::Format>,

    /// Where to [default: standard output]. A file that was moved or removed is begun
    /// again within a second, so logrotate needs no signal
    #[arg(long, value_name = "FILE", requires = "access_log")]
    access_log_file: Option<PathBuf>,
}

/// Longest name of a node, in bytes.
const NODE_BYTES_MAX: usize = 200;

fn node_name(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    match is_plain && !text.is_empty() && text.len() <= NODE_BYTES_MAX {
        true => Ok(text.to_owned()),
        false => Err("write a name of letters, digits and signs, without spaces".to_owned()),
    }
}

/// What this process counts.
#[derive(Debug)]
struct Observed {
    metrics: Metrics,
    refusals: Mutex<Refusals>,
    access: Option<AccessLog>,
}

static OBSERVED: OnceLock<Observed> = OnceLock::new();

/// None before [`start`]: the tests of the crate count nothing.
fn observed() -> Option<&'static Observed> {
    OBSERVED.get()
}

/// Begins to log and to count.
///
/// # Errors
///
/// If an address cannot be listened on, a file not be opened, or `RUST_LOG` not be read.
pub(crate) async fn start(options: Options) -> anyhow::Result<()> {
    let node = options.node.unwrap_or_else(log::default_node);
    let listener = match options.metrics {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}; write another --metrics ADDRESS:PORT")
        })?),
        None => None,
    };
    let access = match options.access_log {
        Some(format) => Some(AccessLog::open(format, options.access_log_file)?),
        None => None,
    };
    log::begin(options.log_format, node)?;
    let observed = Observed {
        metrics: Metrics::new().context("cannot count")?,
        refusals: Mutex::default(),
        access,
    };
    if OBSERVED.set(observed).is_ok() {
        tokio::spawn(summary::run());
    }
    if let Some(listener) = listener {
        let address = listener.local_addr().context("cannot listen")?;
        log::event("metrics", format_args!("http://{address}/metrics"));
        tokio::spawn(page::serve(listener));
    }
    Ok(())
}

/// Writes what has not been written, for a bounded time.
pub(crate) async fn finish() {
    summary::say();
    say_refused(Refusals::rest);
    if let Some(access) = observed().and_then(|observed| observed.access.as_ref()) {
        access.finish().await;
    }
}

/// Says in the log how many visitors were refused, those that `which` takes.
fn say_refused(which: fn(&mut Refusals, Time) -> Vec<Tally>) {
    let Some(observed) = observed() else {
        return;
    };
    let now = now();
    let mut refusals = observed
        .refusals
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let due = which(&mut refusals, now);
    drop(refusals);
    for tally in due {
        log::component_line(&tally.line(Vec::new(), now));
    }
}

/// The wall clock.
fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Time::from_unix_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// The text of JSON in which the characters are escaped that JSON leaves as they are and that
/// terminals obey.
fn without_controls(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character.is_control() {
            true => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => text.push(character),
        }
    }
    text
}
