//! `cargo xtask cache-tests`: the public HTTP cache tests against the real
//! component in the real host.
//!
//! The suite brings an origin and a client; between them stand nodes on one
//! store. With several nodes, each test's requests go to one after the other, so
//! that nothing passes only because a node remembers.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`suite`] | installs the suite, and knows its tests |
//! | [`scene`] | starts the suite's origin, and nodes in front of it |
//! | [`turns`] | spreads requests over the nodes |
//! | [`client`] | runs the suite's client, and reads its results |
//! | [`score`] | what the results come to |
//! | [`lists`] | what is expected to fail, and why |
//! | [`document`] | the parts of `docs/conformance.md` made from the lists |
//!
//! A run fails if a test that passed is lost. Tests can fail by chance, on a
//! machine that is too busy for their timing: what is lost runs again first.

mod client;
mod document;
mod lists;
mod scene;
mod score;
mod suite;
mod turns;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use self::client::Which;
use self::lists::{List, NODES};
use self::scene::Scene;
use self::score::{Kind, Score, Test};
pub(crate) use self::suite::Suite;
use crate::build::{self, Built};
use crate::machine;

/// How often tests run again before they count as failed.
const AGAIN: usize = 2;

/// What `cargo xtask cache-tests` can be told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// How many nodes there are on one store [default: once one, once four]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: Option<u16>,
    /// The preset [default: one after the other]
    #[arg(long)]
    preset: Option<Preset>,
    /// Another edition of the suite, in a folder with all that it needs
    /// installed; its figures are told, and compared with nothing
    #[arg(long, value_name = "DIR")]
    suite: Option<PathBuf>,
    /// Write the lists of what fails, and the tables of the document
    #[arg(long, conflicts_with_all = ["suite", "tests"])]
    write: bool,
    /// Run these tests only and show each exchange; one node and preset strict,
    /// unless told otherwise
    #[arg(value_name = "TEST")]
    tests: Vec<String>,
}

/// Leeward's presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Only what origin and client allow.
    Strict,
    /// Stale windows of the operator's besides.
    Uptime,
}

impl Preset {
    const ALL: [Preset; 2] = [Preset::Strict, Preset::Uptime];
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Preset::Strict => "strict",
            Preset::Uptime => "uptime",
        })
    }
}

/// What a run's results are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The lists.
    Compare,
    /// Nothing: they are written to the lists.
    Write,
    /// Nothing: the suite is another edition.
    Tell,
}

/// Runs the suite as told.
///
/// # Errors
///
/// If something cannot be installed, built, started or written.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        machine::has_node(),
        "the public cache tests need node and npm, which are not here and could not be installed"
    );
    let suite = match &args.suite {
        Some(folder) => Suite::at(folder)?,
        None => Suite::installed()?,
    };
    let built = build::all()?;
    if !args.tests.is_empty() {
        return show(args, &suite, &built);
    }
    let purpose = match (args.write, &args.suite) {
        (true, _) => Purpose::Write,
        (false, Some(_)) => Purpose::Tell,
        (false, None) => Purpose::Compare,
    };
    let nodes: Vec<usize> = match args.nodes {
        Some(nodes) => vec![nodes.into()],
        None => NODES.to_vec(),
    };
    if purpose == Purpose::Write && nodes.iter().any(|nodes| !NODES.contains(nodes)) {
        bail!("there are lists for {NODES:?} nodes only");
    }
    let presets = match args.preset {
        Some(preset) => vec![preset],
        None => Preset::ALL.to_vec(),
    };
    let mut summaries = Vec::new();
    for preset in presets {
        for &nodes in &nodes {
            summaries.push(one_run(&suite, &built, preset, nodes, purpose)?);
        }
    }
    if purpose == Purpose::Write {
        document::write()?;
    }
    Ok(concluded(&summaries))
}

/// The suite for the stage of `cargo xtask test`, unless this machine has none
/// and cannot get it; then it is said why.
pub(crate) fn suite() -> Option<Suite> {
    if !machine::has_node() {
        eprintln!("There are no node and npm here, and they could not be installed.");
        return None;
    }
    let suite = Suite::installed();
    suite.inspect_err(|error| eprintln!("{error:#}")).ok()
}

/// Both presets, with one node and with four, compared with the lists.
///
/// # Errors
///
/// If a test that passed is lost, or something does not start.
pub(crate) fn compare_all(suite: &Suite, built: &Built) -> Result<()> {
    let mut summaries = Vec::new();
    for preset in Preset::ALL {
        // Both at once: most tests wait for a response to expire.
        let runs = std::thread::scope(|scope| {
            let run = |nodes| move || one_run(suite, built, preset, nodes, Purpose::Compare);
            NODES
                .map(|nodes| scope.spawn(run(nodes)))
                .map(std::thread::ScopedJoinHandle::join)
        });
        for summary in runs {
            let summary = summary.unwrap_or_else(|_| bail!("a run of the suite panicked"));
            summaries.push(summary?);
        }
    }
    ensure!(
        concluded(&summaries) == ExitCode::SUCCESS,
        "a passing one is lost"
    );
    Ok(())
}

/// What a run came to.
#[derive(Debug)]
struct Summary {
    preset: Preset,
    nodes: usize,
    /// Passed, and how many there are, by kind.
    figures: [(usize, usize); 3],
    /// Tests that ran again.
    again: usize,
    /// Tests that passed and do not any more.
    lost: usize,
}

/// Prints the figures of all runs; success, unless something was lost.
fn concluded(summaries: &[Summary]) -> ExitCode {
    println!("\npreset  nodes    required     optimal  checks: yes   run again   lost");
    for summary in summaries {
        let of = |(passed, total): (usize, usize)| format!("{passed} of {total}");
        let [required, optimal, check] = summary.figures.map(of);
        println!(
            "{:<6} {:>6} {required:>11} {optimal:>11} {check:>12} {:>11} {:>6}",
            summary.preset, summary.nodes, summary.again, summary.lost
        );
    }
    if summaries.iter().all(|summary| summary.lost == 0) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs all tests once, and what failed for no known reason again.
fn one_run(
    suite: &Suite,
    built: &Built,
    preset: Preset,
    nodes: usize,
    purpose: Purpose,
) -> Result<Summary> {
    let s = if nodes == 1 { "" } else { "s" };
    eprintln!("\n{preset}, {nodes} node{s}: {} tests", suite.tests.len());
    let scene = Scene::start(suite, built, preset, nodes, false)?;
    let url = scene.url();
    let mut list = List::read(preset)?;
    let mut score = Score::new(&suite.tests, client::run(suite, &url, Which::All)?);
    let mut again = BTreeSet::new();
    for _ in 0..AGAIN {
        let suspects: Vec<&Test> = match purpose {
            Purpose::Compare => {
                let lost = list.compare(&suite.tests, &score, nodes).lost;
                lost.into_iter().map(|(test, _)| test).collect()
            }
            Purpose::Write | Purpose::Tell => {
                let failing = score.failing().into_iter();
                failing.map(|(test, _)| test).collect()
            }
        };
        let ids = score.culprits(&suspects);
        if ids.is_empty() {
            break;
        }
        score.ran_again(client::run(suite, &url, Which::Again(&ids))?);
        again.extend(ids);
    }
    let lost = match purpose {
        Purpose::Compare => tell_difference(&list, suite, &score, nodes),
        Purpose::Write => {
            let other = match preset {
                Preset::Strict => List::default(),
                Preset::Uptime => List::read(Preset::Strict)?,
            };
            list.learn(&suite.tests, &score, nodes, &other);
            list.write(preset)?;
            0
        }
        Purpose::Tell => 0,
    };
    if purpose != Purpose::Compare {
        for (test, why) in score.failing() {
            println!("{} {}: {why}", test.kind, test.id);
        }
    }
    Ok(Summary {
        preset,
        nodes,
        figures: Kind::ALL.map(|kind| (score.passed(kind), score.total(kind))),
        again: again.len(),
        lost,
    })
}

/// Says what differs from the list; returns how many tests are lost, and how many
/// lines are about none.
fn tell_difference(list: &List, suite: &Suite, score: &Score<'_>, nodes: usize) -> usize {
    for (test, why) in score.failing() {
        if list.expects_failure(&test.id, nodes) {
            println!("{} {}: {why}", test.kind, test.id);
        }
    }
    let difference = list.compare(&suite.tests, score, nodes);
    for id in &difference.unknown {
        println!("UNKNOWN {id}: it is listed as failing, and there is no such test");
    }
    for test in &difference.won {
        println!(
            "WON {} {}: it is listed as failing, and passes; --write takes it off the list",
            test.kind, test.id
        );
    }
    for (test, why) in &difference.lost {
        println!("LOST {} {}: {why}", test.kind, test.id);
    }
    difference.lost.len() + difference.unknown.len()
}

/// Runs single tests, showing what client and origin exchanged and what the nodes
/// logged.
fn show(args: &Args, suite: &Suite, built: &Built) -> Result<ExitCode> {
    for id in &args.tests {
        ensure!(
            suite.tests.iter().any(|test| test.id == *id),
            "there is no test {id} in this edition of the suite"
        );
    }
    let ids: Vec<_> = args.tests.iter().map(String::as_str).collect();
    let preset = args.preset.unwrap_or(Preset::Strict);
    let scene = Scene::start(suite, built, preset, args.nodes.unwrap_or(1).into(), true)?;
    let results = client::run(suite, &scene.url(), Which::Shown(&ids))?;
    println!("{}", scene.logs()?);
    for (id, raw) in &results {
        match raw {
            Ok(()) => println!("{id} passed"),
            Err(why) => println!("{id} failed: {why}"),
        }
    }
    Ok(if results.values().all(Result::is_ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
