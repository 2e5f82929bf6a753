//! What holds on a real Spin: the scenarios of `cargo xtask spin`, which builds the
//! flavours, and starts this.
//!
//! Each scenario asks something of nodes that are `spin up` processes, and says what was
//! seen and whether that holds. Times are told and not judged, but for those that a
//! scenario is about. Standard output has a table; `--write-docs` puts the same figures
//! into the tables of the documents.
//!
//! | module | scenarios of |
//! | --- | --- |
//! | `visitors` | crowds of visitors, a failing origin, a dead node |
//! | `endurance` | new pages for a long time, the sweeper |
//! | `outages` | a store that is away |
//! | `connections` | the connections to the origin |
#![forbid(unsafe_code)]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a scenario fails by panicking"
)]

mod asking;
mod connections;
mod endurance;
mod outages;
mod report;
mod scenario;
mod visitors;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use leeward_tests::spin::{Backend, Platform, Spin};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Report;
use crate::scenario::{Scenario, Timing};

/// How long the scenarios about time take with `--long`.
const LONG: Duration = Duration::from_secs(600);

/// The same without: longer than the sweeper waits before its first round, and than a
/// node lived that it stopped.
const QUICK: Duration = Duration::from_secs(45);

/// Run scenarios on a real Spin; `cargo xtask spin` does, and builds what is needed.
#[derive(Debug, Parser)]
struct Args {
    /// The program `spin`.
    #[arg(long)]
    spin: PathBuf,
    /// What it says when it is asked for its version.
    #[arg(long)]
    spin_version: String,
    /// The root of the repository.
    #[arg(long)]
    sources: PathBuf,
    /// Scenarios that take longer, and longer ones.
    #[arg(long)]
    long: bool,
    /// How many seconds each scenario about time takes.
    #[arg(long)]
    seconds: Option<u64>,
    /// Only scenarios with this in their names.
    #[arg(long)]
    only: Option<String>,
    /// The port of the first node.
    #[arg(long)]
    port: Option<u16>,
    /// Leave out what needs a `redis-server`.
    #[arg(long)]
    without_redis: bool,
    /// Documents whose tables get what was seen.
    #[arg(long)]
    write_docs: Vec<PathBuf>,
    /// The flavours.
    #[arg(required = true)]
    flavour: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // A scenario that fails by panicking is a row, and its reason a line.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let done = tokio::select! {
        done = run(&args) => done,
        // What runs is dropped, and with it every process.
        () = told_to_end() => Err(anyhow!("interrupted")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Until somebody presses Ctrl-C, or ends this in another way that can be seen.
async fn told_to_end() {
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Runs the scenarios, and returns whether all hold.
async fn run(args: &Args) -> Result<bool> {
    let folder = TempDir::with_prefix("leeward-spin-")?;
    let spin = Spin {
        program: args.spin.clone(),
        sources: args.sources.clone(),
        folder: folder.path().to_owned(),
        port: args.port,
    };
    let wanted = |scenario: &&Scenario| {
        let named = |part: &String| scenario.asked.contains(part.as_str());
        args.only.as_ref().is_none_or(named) && (args.long || !scenario.long)
    };
    let scenarios: Vec<_> = scenario::ALL
        .iter()
        .copied()
        .flatten()
        .filter(wanted)
        .collect();
    ensure!(
        !scenarios.is_empty(),
        "no scenario has that in its name; there are:\n{}",
        scenario::names()
    );
    let span = args.seconds.map(Duration::from_secs);
    let timing = Timing {
        span: span.unwrap_or(if args.long { LONG } else { QUICK }),
    };
    let platforms = Platform::ALL.into_iter();
    let wanted = |platform: &Platform| {
        let has_store = platform.backend != Backend::Redis || !args.without_redis;
        has_store && args.flavour.iter().any(|name| name == platform.flavour)
    };
    let mut report = Report::on(&args.spin_version);
    let mut started = true;
    for platform in platforms.filter(wanted) {
        let ran = scenario::run_all(&spin, platform, &scenarios, timing, &mut report).await;
        if let Err(error) = ran {
            eprintln!("error: {error:#}");
            started = false;
        }
    }
    ensure!(report.has_some(), "nothing was seen");
    println!("{}", report.table());
    let mut written = 0;
    for document in &args.write_docs {
        written += report::write_into(document, &report)
            .with_context(|| format!("{} was not written", document.display()))?;
    }
    ensure!(
        args.write_docs.is_empty() || written > 0,
        "the documents have no cell for what was seen"
    );
    let holds = started && report.holds();
    if !holds {
        let kept = folder.keep();
        eprintln!("What the nodes wrote is in {}", kept.display());
    }
    Ok(holds)
}
