//! `leeward demo`: the same visitors, first at the origin itself, then through
//! Leeward.
//!
//! The first act sends the load to the stand-in of `leeward origin` until it falls
//! over. The second starts a fresh one, several nodes of `leeward up` on one
//! store in front of it, and sends the same load to the nodes. The third act is a
//! crowd that asks for thousands of cold keys and a page that may not be stored, again
//! without the shield and with it: there it is the budget that keeps the origin up. In the
//! fourth act, everything that the nodes have stored is purged under load.
//! Tables show it all, a picture if one is wanted, and the exit status says whether the shield
//! held.
//!
//! - `options` is what it can be told, `act` runs an act and its phases,
//! - `load` is the visitors, `choice` which path each asks for next,
//! - `tally` counts what they see, `figures` is what is made of it in the end, `curve` what the
//!   origin saw over time,
//! - `nodes` starts and stops the nodes, `admin` purges them,
//! - `progress` shows a phase while it runs, `table` and `picture` all when they are over,
//! - `verdict` decides whether the shield held.

mod act;
mod admin;
mod choice;
mod curve;
mod figures;
mod load;
mod nodes;
mod options;
mod picture;
mod progress;
mod table;
mod tally;
mod verdict;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;

use self::act::{Act, Purged, Sides};
use self::choice::Pages;
use self::curve::Curve;
use self::figures::Figures;
use self::nodes::Nodes;
pub(crate) use self::options::Args;
use self::options::Parameters;
use crate::descriptors;
use crate::origin::signals::Signals;

/// Exit status after a signal, as a shell would report SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Longest time that each phase of the third act lasts, without the last answers.
const COLD_LENGTH_MAX: Duration = Duration::from_secs(4);

/// Longest time that the fourth act lasts, likewise.
const PURGE_LENGTH_MAX: Duration = Duration::from_secs(7);

/// Time that a request of the third and of the fourth act takes at the origin. It is a quick
/// one: how many keys it can fill is this and its capacity, whatever is in front of it.
const QUICK_LATENCY: Duration = Duration::from_millis(20);

/// `wait.budget` of the nodes in the third act. Shorter than the default, so that the
/// last visitors have their answer soon after the phase.
const COLD_WAIT: &str = "2s";

/// Pages that are stored in the fourth act when everything is purged.
const PURGED_PAGES: u32 = 200;

/// Their `max-age`: none of them expires meanwhile.
const PURGED_TTL: Duration = Duration::from_secs(600);

/// Runs all phases and shows what came of them.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.nodes > 1 && args.store.as_deref() == Some("memory") {
        bail!("a store in memory is not shared: write --nodes 1, or another --store");
    }
    // Each client is a socket here, and in the first phase another at the origin.
    descriptors::raise_limit();
    // Opened first: better no run than a run whose result cannot be written.
    let mut json = create(args.json.as_deref())?;
    let mut picture = create(args.picture.as_deref())?;
    let mut signals = Signals::listen()?;
    let directory = tempfile::Builder::new()
        .prefix("leeward-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    let mut nodes = Nodes::none();
    let report = tokio::select! {
        report = all_acts(&args, &mut nodes, directory.path()) => Some(report),
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
    if let Some(file) = &mut picture {
        let drawn = picture::draw(&report);
        file.write_all(drawn.as_bytes())
            .context("cannot write the picture")?;
    }
    report.write(&mut std::io::stdout().lock())?;
    if report.faults.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // To find out why; everything else cleans up after itself.
    println!("The nodes' logs are in {}.", directory.keep().display());
    Ok(ExitCode::FAILURE)
}

fn create(path: Option<&Path>) -> anyhow::Result<Option<File>> {
    path.map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display())))
        .transpose()
}

/// The result of all acts; with `--json` it is written as it is.
#[derive(Debug, Serialize)]
struct Report {
    /// What the acts are like.
    parameters: Parameters,
    /// The load at the origin itself.
    direct: Figures,
    /// The load through the nodes.
    shielded: Figures,
    /// The cold keys at the origin itself.
    cold_direct: Figures,
    /// The cold keys through the nodes.
    cold_shielded: Figures,
    /// The fourth act before everything was purged.
    purge_before: Figures,
    /// And from then on.
    purge_after: Figures,
    /// When that was, in seconds.
    purged_at_seconds: f64,
    /// What the origin saw over time.
    curves: Curves,
    /// Why the shield did not hold, one sentence each; none if it did.
    faults: Vec<String>,
}

/// What the origin saw over time in each phase.
#[derive(Debug, Serialize)]
struct Curves {
    direct: Curve,
    shielded: Curve,
    cold_direct: Curve,
    cold_shielded: Curve,
    purge: Curve,
}

impl Report {
    fn of(args: &Args, hot: Sides, cold: Sides, purge: Purged) -> Self {
        let budget = args.capacity.get();
        let mut faults = verdict::faults(&hot.shielded.figures);
        faults.extend(hot.losses);
        faults.extend(verdict::cold_faults(&cold.shielded.figures, budget));
        faults.extend(cold.losses);
        faults.extend(verdict::purge_faults(&purge.after.figures, budget));
        faults.extend(purge.losses);
        Report {
            parameters: Parameters::of(args),
            direct: hot.direct.figures,
            shielded: hot.shielded.figures,
            cold_direct: cold.direct.figures,
            cold_shielded: cold.shielded.figures,
            purge_before: purge.before,
            purge_after: purge.after.figures,
            purged_at_seconds: purge.at_seconds,
            curves: Curves {
                direct: hot.direct.curve,
                shielded: hot.shielded.curve,
                cold_direct: cold.direct.curve,
                cold_shielded: cold.shielded.curve,
                purge: purge.after.curve,
            },
            faults,
        }
    }

    /// Writes it for people.
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let nodes = self.parameters.nodes;
        writeln!(out, "{}", self.parameters)?;
        let table = table::render(&self.direct, &self.shielded, nodes);
        writeln!(out, "{table}")?;
        if self.direct.crashes == 0 {
            writeln!(
                out,
                "The origin bore the load by itself: with more --clients it would not."
            )?;
        }
        let table = table::render_cold(&self.cold_direct, &self.cold_shielded, nodes);
        writeln!(out, "{table}")?;
        if self.cold_direct.crashes == 0 {
            writeln!(
                out,
                "The origin bore the cold keys by itself: with a larger --crowd it would not."
            )?;
        }
        let table = table::render_purge(&self.purge_before, &self.purge_after);
        writeln!(out, "{table}")?;
        if self.faults.is_empty() {
            return writeln!(out, "The shield held.");
        }
        writeln!(out, "The shield did not hold:")?;
        for fault in &self.faults {
            writeln!(out, "- {fault}")?;
        }
        Ok(())
    }
}

/// Runs all acts. When it returns early or is dropped, the nodes that it
/// started are left in `nodes`, for the caller to stop. `directory` holds what
/// they write.
async fn all_acts(args: &Args, nodes: &mut Nodes, directory: &Path) -> anyhow::Result<Report> {
    let budget = format!("origin.max_concurrency = {}\n", args.capacity);
    let hot = Act {
        args,
        names: ["direct", "shielded"],
        pages: pages(args.paths),
        clients: args.clients,
        length: Duration::from_secs(args.seconds.into()),
        latency: args.latency,
        ttl: args.ttl,
        config: budget.clone(),
    };
    let cold = Act {
        names: ["cold", "shielded"],
        pages: Pages::Cold,
        clients: args.crowd,
        length: hot.length.min(COLD_LENGTH_MAX),
        latency: QUICK_LATENCY,
        config: format!("{budget}wait.budget = \"{COLD_WAIT}\"\n"),
        ..hot.clone()
    };
    let purge = Act {
        names: ["", "purge"],
        pages: pages(PURGED_PAGES),
        length: hot.length.min(PURGE_LENGTH_MAX),
        latency: QUICK_LATENCY,
        ttl: PURGED_TTL,
        ..hot.clone()
    };
    let hot = hot.compare(nodes, &directory.join("hot")).await?;
    let cold = cold.compare(nodes, &directory.join("cold")).await?;
    let purge = purge.purge(nodes, &directory.join("purge")).await?;
    Ok(Report::of(args, hot, cold, purge))
}

/// This number of pages, the hottest first.
fn pages(number: u32) -> Pages {
    Pages::Hot((1..=number).map(|n| format!("/api/quotes/{n}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nodes_cannot_share_memory() {
        let args = options::parse(&["--store", "memory"]).expect("well-formed");
        let error = run(args).await.expect_err("refused");
        assert!(error.to_string().contains("--nodes 1"), "{error}");
    }
}
