//! `leeward demo`: the same visitors, first at the origin itself, then through
//! Leeward.
//!
//! Phase one sends the load to the stand-in of `leeward origin` until it falls
//! over. Phase two starts a fresh one, several nodes of `leeward up` on one
//! store in front of it, and sends the same load to the nodes. The third act is a
//! crowd that asks for thousands of cold keys and a page that may not be stored, again
//! without the shield and with it: there it is the budget that keeps the origin up.
//! Two tables show both side by side, and the exit status says whether the shield held.
//!
//! - `load` is the visitors, `choice` which path each asks for next,
//! - `tally` counts what they see, `figures` is what is made of it in the end,
//! - `nodes` starts and stops the nodes,
//! - `progress` shows a phase while it runs, `table` all when they are over,
//! - `verdict` decides whether the shield held.

mod choice;
mod figures;
mod load;
mod nodes;
mod progress;
mod table;
mod tally;
mod verdict;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;

use self::choice::Pages;
use self::figures::Figures;
use self::load::Load;
use self::nodes::Nodes;
use self::progress::Progress;
use self::tally::Tally;
use crate::descriptors;
use crate::origin::{
    Latency, Options, Origin, PATHS_MAX, duration, signals::Signals, whole_seconds,
};

/// Exit status after a signal, as a shell would report SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// How long the stand-in refuses connections after a crash.
const CRASH_FOR: Duration = Duration::from_secs(10);

/// `stale-while-revalidate` of the stand-in's responses.
const STALE_WHILE_REVALIDATE: Duration = Duration::from_secs(30);

/// Longest time that each phase of the third act lasts, without the last answers.
const COLD_LENGTH_MAX: Duration = Duration::from_secs(4);

/// Time that a request of the third act takes at the origin. It is a quick one: how
/// many keys it can fill is this and its capacity, whatever is in front of it.
const COLD_LATENCY: Duration = Duration::from_millis(20);

/// `wait.budget` of the nodes in the third act. Shorter than the default, so that the
/// last visitors have their answer soon after the phase.
const COLD_WAIT: &str = "2s";

/// Smallest and largest capacity: the origin's capacity is the nodes'
/// `origin.max_concurrency` in the third act, which has these bounds.
const CAPACITY_MIN: u32 = 4;
const CAPACITY_MAX: u32 = 1024;

/// What `leeward demo` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes that share one store
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    nodes: u32,

    /// Clients, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=4000))]
    clients: u32,

    /// Clients that ask for cold keys in the third act
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=4000))]
    crowd: u32,

    /// Length of each phase, in seconds; those of the third act have four at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,

    /// Paths that the clients ask for, the first ones most
    ///
    /// Each is cold once, and then costs the origin one request, whatever the
    /// traffic. All of them are cold at the same time when the load starts, so
    /// that with more paths than `--capacity` those first requests alone are
    /// too many for the stand-in.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=PATHS_MAX as i64))]
    paths: u32,

    /// Mean pause of a client between an answer and its next request
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    think: Duration,

    /// Most requests that the origin survives at once; one more and it crashes
    #[arg(long, value_name = "N", default_value = "8", value_parser = capacity)]
    capacity: NonZeroU32,

    /// Time that each request takes at the origin; not in the third act
    #[arg(long, value_name = "DURATION", default_value = "300ms", value_parser = duration)]
    latency: Duration,

    /// `max-age` of the origin's responses, in whole seconds
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = whole_seconds)]
    ttl: Duration,

    /// Store that the nodes share, as `leeward up --store` takes it
    /// [default: SQLite in a temporary directory]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,

    /// Component that the nodes run, as `leeward up --component` takes it
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,

    /// Write the resulting figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Show nothing while it runs
    #[arg(long)]
    no_progress: bool,
}

/// Runs all phases and shows what came of them.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.nodes > 1 && args.store.as_deref() == Some("memory") {
        bail!("a store in memory is not shared: write --nodes 1, or another --store");
    }
    // Each client is a socket here, and in the first phase another at the origin.
    descriptors::raise_limit();
    // Opened first: better no run than a run whose result cannot be written.
    let mut json = args
        .json
        .as_deref()
        .map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display())))
        .transpose()?;
    let mut signals = Signals::listen()?;
    let directory = tempfile::Builder::new()
        .prefix("leeward-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    let mut nodes = Nodes::none();
    let report = tokio::select! {
        report = all_phases(&args, &mut nodes, directory.path()) => Some(report),
        () = signals.stop() => None,
    };
    // Whatever happened, nothing that was started stays behind.
    nodes.stop().await;
    let Some(report) = report else {
        eprintln!("Interrupted.");
        return Ok(ExitCode::from(EXIT_INTERRUPTED));
    };
    let report = report?;
    if let Some(file) = &mut json {
        serde_json::to_writer_pretty(&mut *file, &report).context("cannot write the figures")?;
        writeln!(file).context("cannot write the figures")?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{}",
        table::render(&report.direct, &report.shielded, args.nodes)
    )?;
    if report.direct.crashes == 0 {
        writeln!(
            out,
            "The origin bore the load by itself: with more --clients it would not."
        )?;
    }
    writeln!(
        out,
        "{}",
        table::render_cold(&report.cold_direct, &report.cold_shielded, args.nodes)
    )?;
    if report.cold_direct.crashes == 0 {
        writeln!(
            out,
            "The origin bore the cold keys by itself: with a larger --crowd it would not."
        )?;
    }
    if report.faults.is_empty() {
        writeln!(out, "The shield held.")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "The shield did not hold:")?;
    for fault in &report.faults {
        writeln!(out, "- {fault}")?;
    }
    // For whoever wants to know why; everything else cleans up after itself.
    writeln!(
        out,
        "The nodes' logs are in {}.",
        directory.keep().display()
    )?;
    Ok(ExitCode::FAILURE)
}

/// The result of all phases; with `--json` it is written as it is.
#[derive(Debug, Serialize)]
struct Report {
    clients: u32,
    nodes: u32,
    /// Clients of the third act.
    crowd: u32,
    /// Length of each phase, in seconds; of the third act's at most
    /// [`COLD_LENGTH_MAX`].
    seconds: u32,
    paths: u32,
    /// The load at the origin itself.
    direct: Figures,
    /// The load through the nodes.
    shielded: Figures,
    /// The cold keys at the origin itself.
    cold_direct: Figures,
    /// The cold keys through the nodes.
    cold_shielded: Figures,
    /// Most requests that the nodes may have at the origin at once in the third act.
    budget: u32,
    /// Why the shield did not hold, one sentence each; none if it did.
    faults: Vec<String>,
}

/// Runs all phases. When it returns early or is dropped, the nodes that it
/// started are left in `nodes`, for the caller to stop. `directory` holds what
/// they write.
async fn all_phases(args: &Args, nodes: &mut Nodes, directory: &Path) -> anyhow::Result<Report> {
    let hot = Act {
        args,
        names: ["direct", "shielded"],
        pages: Pages::Hot(
            (1..=args.paths)
                .map(|n| format!("/api/quotes/{n}"))
                .collect(),
        ),
        clients: args.clients,
        length: Duration::from_secs(args.seconds.into()),
        latency: args.latency,
        config: None,
    };
    let budget = args.capacity.get();
    let cold = Act {
        names: ["cold", "shielded"],
        pages: Pages::Cold,
        clients: args.crowd,
        length: hot.length.min(COLD_LENGTH_MAX),
        latency: COLD_LATENCY,
        config: Some(cold_config(budget)),
        ..hot.clone()
    };
    let (direct, shielded, losses) = hot.run(nodes, &directory.join("hot")).await?;
    let mut faults = verdict::faults(&shielded);
    faults.extend(losses);
    let (cold_direct, cold_shielded, losses) = cold.run(nodes, &directory.join("cold")).await?;
    faults.extend(verdict::cold_faults(&cold_shielded, budget));
    faults.extend(losses);
    Ok(Report {
        clients: args.clients,
        nodes: args.nodes,
        crowd: args.crowd,
        seconds: args.seconds,
        paths: args.paths,
        direct,
        shielded,
        cold_direct,
        cold_shielded,
        budget,
        faults,
    })
}

/// The configuration of the nodes in the third act.
fn cold_config(budget: u32) -> String {
    format!("origin.max_concurrency = {budget}\nwait.budget = \"{COLD_WAIT}\"\n")
}

/// The same load without the shield and with it.
#[derive(Clone, Debug)]
struct Act<'a> {
    args: &'a Args,
    /// What the two phases are called while they run.
    names: [&'static str; 2],
    pages: Pages,
    clients: u32,
    /// Length of each phase.
    length: Duration,
    /// Time that each request takes at the origin.
    latency: Duration,
    /// The nodes' configuration, if not the default one.
    config: Option<String>,
}

impl Act<'_> {
    /// Runs both phases. Says what came of each, and which nodes were lost. `directory`
    /// is made.
    async fn run(
        &self,
        nodes: &mut Nodes,
        directory: &Path,
    ) -> anyhow::Result<(Figures, Figures, Vec<String>)> {
        let [without, with] = self.names;
        let direct = {
            let origin = self.start_origin()?;
            let figures = self.phase(without, vec![origin.addr()], &origin).await?;
            origin.stop().await;
            figures
        };
        std::fs::create_dir(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let origin = self.start_origin()?;
        let command = self.node_command(&origin, directory)?;
        if !self.args.no_progress {
            progress::note(with, "starting the nodes");
        }
        nodes.start(self.args.nodes, &command, directory).await?;
        let shielded = self.phase(with, nodes.addrs(), &origin).await?;
        let losses = nodes.losses();
        nodes.stop().await;
        origin.stop().await;
        Ok((direct, shielded, losses))
    }

    /// Sends the load to `targets` and says what came of it, for the visitors and
    /// for the origin.
    async fn phase(
        &self,
        name: &'static str,
        targets: Vec<SocketAddr>,
        origin: &Origin,
    ) -> anyhow::Result<Figures> {
        let tally = Arc::new(Tally::new()?);
        let load = Load {
            targets,
            pages: self.pages.clone(),
            clients: self.clients,
            length: self.length,
            think: self.args.think,
        };
        // The figures are about the load alone, not about the nodes' start.
        origin.reset_stats();
        let progress = Progress::start(name, load.length, !self.args.no_progress);
        {
            let run = load.run(&tally);
            tokio::pin!(run);
            loop {
                tokio::select! {
                    () = &mut run => break,
                    () = progress.due() => progress.show(&tally.counts(), &origin.stats()),
                }
            }
        }
        progress.finish(&tally.counts(), &origin.stats());
        Ok(Figures::of(&tally, &origin.stats()))
    }

    fn start_origin(&self) -> anyhow::Result<Origin> {
        Origin::start(Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            capacity: self.args.capacity,
            latency: Latency::Fixed(self.latency),
            crash_for: CRASH_FOR,
            ttl: self.args.ttl,
            stale_while_revalidate: STALE_WHILE_REVALIDATE,
            announce: false,
        })
        .context("cannot start the origin")
    }

    /// The command line of one node: this very program.
    fn node_command(&self, origin: &Origin, directory: &Path) -> anyhow::Result<nodes::Command> {
        let store = match &self.args.store {
            Some(store) => store.clone(),
            None => format!("sqlite:{}", directory.join("store.db").display()),
        };
        let mut args: Vec<std::ffi::OsString> = ["up", "--origin"].map(Into::into).into();
        args.push(format!("http://{}", origin.addr()).into());
        args.extend(["--listen", "127.0.0.1:0", "--store", &store].map(Into::into));
        if let Some(config) = &self.config {
            let path = directory.join("leeward.toml");
            std::fs::write(&path, config)
                .with_context(|| format!("cannot write {}", path.display()))?;
            args.extend(["--config".into(), path.into()]);
        }
        if let Some(component) = &self.args.component {
            args.extend(["--component".into(), component.into()]);
        }
        let program = std::env::current_exe().context("cannot find the path of this program")?;
        Ok(nodes::Command { program, args })
    }
}

/// Reads a capacity that can be a budget as well.
fn capacity(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .ok()
        .filter(|capacity: &NonZeroU32| (CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity.get()))
        .ok_or_else(|| format!("write a whole number, {CAPACITY_MIN} to {CAPACITY_MAX}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from(["demo"].iter().chain(words)).map(|line| line.args)
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let args = parse(&[]).expect("no argument is needed");
        assert_eq!((args.nodes, args.clients, args.seconds), (3, 300, 20));
        assert_eq!((args.crowd, args.capacity.get()), (2000, 8));
        assert!(
            args.paths <= args.capacity.get(),
            "the cold paths alone must not crash the origin"
        );
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

    #[tokio::test]
    async fn nodes_cannot_share_memory() {
        let args = parse(&["--store", "memory"]).expect("well-formed");
        let error = run(args).await.expect_err("refused");
        assert!(error.to_string().contains("--nodes 1"), "{error}");
    }
}
