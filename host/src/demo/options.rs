//! What `leeward demo` can be told.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{PURGED_PAGES, QUICK_LATENCY};

use crate::origin::{PATHS_MAX, duration, whole_seconds};

/// Smallest and largest capacity: the origin's capacity is the nodes'
/// `origin.max_concurrency`, which has these bounds.
const CAPACITY_MIN: u32 = 4;
const CAPACITY_MAX: u32 = 1024;

/// What `leeward demo` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes that share one store
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(super) nodes: u32,

    /// Clients, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub(super) clients: u32,

    /// Clients that ask for cold keys
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub(super) crowd: u32,

    /// Length of each phase, in seconds; four at most with cold keys, seven at most with the
    /// purge
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(super) seconds: u32,

    /// Paths that the clients ask for, the first ones most; not with the purge
    ///
    /// Each is cold once, and then costs the origin one request whenever it
    /// expires, whatever the traffic.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=PATHS_MAX as i64))]
    pub(super) paths: u32,

    /// Mean pause of a client between an answer and its next request
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    pub(super) think: Duration,

    /// Most requests that the origin survives at once; one more and it crashes. It is the
    /// nodes' `origin.max_concurrency`
    #[arg(long, value_name = "N", default_value = "8", value_parser = capacity)]
    pub(super) capacity: NonZeroU32,

    /// Time that each request takes at the origin; not with cold keys and the purge
    #[arg(long, value_name = "DURATION", default_value = "300ms", value_parser = duration)]
    pub(super) latency: Duration,

    /// `max-age` of the origin's responses, in whole seconds; not with the purge
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = whole_seconds)]
    pub(super) ttl: Duration,

    /// Store that the nodes share, as `leeward up --store` takes it
    /// [default: SQLite in a temporary directory]
    #[arg(long, value_name = "STORE")]
    pub(super) store: Option<String>,

    /// Component that the nodes run, as `leeward up --component` takes it
    #[arg(long, value_name = "FILE")]
    pub(super) component: Option<PathBuf>,

    /// Write the resulting figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,

    /// Draw the requests in flight at the origin over time, and the figures, into this
    /// file, as SVG
    #[arg(long, value_name = "FILE")]
    pub(super) picture: Option<PathBuf>,

    /// Show nothing while it runs
    #[arg(long)]
    pub(super) no_progress: bool,
}

/// What a run is like, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Parameters {
    pub(super) clients: u32,
    /// Clients that ask for cold keys.
    pub(super) crowd: u32,
    pub(super) paths: u32,
    /// Length of each phase, in seconds, where it is not shorter.
    pub(super) seconds: u32,
    pub(super) nodes: u32,
    /// `sqlite`, `redis`, `rediss` or `memory`.
    pub(super) store: String,
    /// Most requests that the origin survives at once, and the nodes' budget.
    pub(super) capacity: u32,
    /// Time that a request takes at the origin in the first two acts.
    pub(super) latency_ms: f64,
    /// In the other two.
    pub(super) quick_latency_ms: f64,
    /// Pages of the fourth act, all of which are purged.
    pub(super) purged_pages: u32,
    pub(super) think_ms: f64,
    pub(super) ttl_seconds: u64,
    /// Processors of this machine.
    pub(super) processors: usize,
}

impl Parameters {
    pub(super) fn of(args: &Args) -> Self {
        let kind = args.store.as_deref().unwrap_or("sqlite");
        Parameters {
            clients: args.clients,
            crowd: args.crowd,
            paths: args.paths,
            seconds: args.seconds,
            nodes: args.nodes,
            // The rest may have a password in it.
            store: kind.split(':').next().unwrap_or_default().to_owned(),
            capacity: args.capacity.get(),
            quick_latency_ms: QUICK_LATENCY.as_secs_f64() * 1e3,
            purged_pages: PURGED_PAGES,
            latency_ms: args.latency.as_secs_f64() * 1e3,
            think_ms: args.think.as_secs_f64() * 1e3,
            ttl_seconds: args.ttl.as_secs(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} clients with pauses of {} ms ask for {} pages for {} s, which take the origin {} ms \
             and are fresh for {} s. {} clients ask for cold keys, and {} for {PURGED_PAGES} pages \
             that are purged; a request takes the origin {} ms there. It crashes beyond {} requests \
             at once, which is the budget. Nodes: {}, on {}.",
            self.clients,
            self.think_ms,
            self.paths,
            self.seconds,
            self.latency_ms,
            self.ttl_seconds,
            self.crowd,
            self.clients,
            self.quick_latency_ms,
            self.capacity,
            self.nodes,
            self.store,
        )
    }
}

/// Reads a capacity that can be a budget as well.
fn capacity(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .ok()
        .filter(|capacity: &NonZeroU32| (CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity.get()))
        .ok_or_else(|| format!("write a whole number, {CAPACITY_MIN} to {CAPACITY_MAX}"))
}

/// The options that a command line means.
#[cfg(test)]
pub(super) fn parse(words: &[&str]) -> Result<Args, clap::Error> {
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    Line::try_parse_from(["demo"].iter().chain(words)).map(|line| line.args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_ones() {
        let args = parse(&[]).expect("no argument is needed");
        assert_eq!((args.nodes, args.clients, args.seconds), (3, 300, 20));
        assert_eq!((args.crowd, args.capacity.get()), (2000, 8));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for words in [
            ["--nodes", "0"],
            ["--clients", "0"],
            ["--clients", "100000"],
            ["--seconds", "0"],
            ["--paths", "0"],
            ["--paths", "1025"],
            ["--crowd", "0"],
            ["--capacity", "3"],
            ["--capacity", "1025"],
            ["--ttl", "1500ms"],
            ["--think", "100"],
        ] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
    }
}
