//! `leeward-sim run`: many seeds, and what they have shown.

use crate::coverage::{Coverage, Kind};
use crate::scenario::Scenario;
use crate::shrink::shrink;
use crate::world::{Report, play};
use anyhow::{Result, bail};
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a run that nobody watches on a terminal says how far it is.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// What `leeward-sim run` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2_000)]
    pub seeds: u64,
    /// The first seed; without --seeds, the only one, with its trace.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Run as many seeds as fit into this time; with --seeds, at most those.
    #[arg(long)]
    pub time: Option<humantime::Duration>,
    /// How many seeds to run at once; all processors unless said.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Show the trace of the scenario as it is, without shrinking it.
    #[arg(long)]
    pub whole: bool,
    /// Go on after a failure, and count what is broken how often.
    #[arg(long)]
    pub keep_going: bool,
    /// Promises not to look at, such as L3; for what has a known reason.
    #[arg(long)]
    pub ignore: Vec<String>,
}

/// Runs seeds, reports, and fails if a promise was broken or something never
/// happened.
///
/// # Errors
///
/// If a promise was broken, or a kind of event never happened.
pub fn run(args: &Args, seeds_given: bool) -> Result<()> {
    if let (Some(seed), false) = (args.seed, seeds_given) {
        return one(seed, args);
    }
    let first = args.seed.unwrap_or(0);
    let began = Instant::now();
    let summary = many(args, first)?;
    print!("{}", summary.table(began.elapsed()));
    if let Some(seed) = summary.failures.iter().map(|(seed, _)| *seed).min() {
        if args.keep_going {
            bail!("{} seeds failed", summary.failures.len());
        }
        return one(seed, args);
    }
    let missing = summary.coverage.missing();
    if !missing.is_empty() {
        bail!("never happened, so not tested: {}", missing.join(", "));
    }
    Ok(())
}

/// Plays one seed, and shows its trace.
fn one(seed: u64, args: &Args) -> Result<()> {
    let scenario = Scenario::new(seed);
    let report = play(&scenario, args.whole, &args.ignore)?;
    let Some(violation) = &report.violation else {
        show(&scenario, &play(&scenario, true, &args.ignore)?);
        return Ok(());
    };
    if args.whole {
        show(&scenario, &report);
    } else {
        eprintln!("seed {seed} breaks {}; shrinking ...", violation.promise);
        let small = shrink(&scenario, violation.promise, &args.ignore);
        show(&small, &play(&small, true, &args.ignore)?);
    }
    bail!(
        "seed {seed} breaks {}: {}\nagain: leeward-sim run --seed {seed}",
        violation.promise,
        violation.what
    )
}

fn show(scenario: &Scenario, report: &Report) {
    println!("{scenario}");
    for line in &report.lines {
        println!("{line}");
    }
    if let Some(violation) = &report.violation {
        println!("\n{}: {}", violation.promise, violation.what);
    }
}

/// What many seeds have shown.
#[derive(Debug, Default)]
pub struct Summary {
    /// How many were run.
    pub seeds: u64,
    pub(crate) coverage: Coverage,
    /// Which failed, and how.
    pub failures: Vec<(u64, String)>,
}

impl Summary {
    /// Kinds of events that never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        self.coverage.missing()
    }

    fn table(&self, took: Duration) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "{} seeds in {}",
            HumanCount(self.seeds),
            HumanDuration(took)
        );
        for kind in Kind::ALL {
            let _ = writeln!(
                text,
                "{:>14}  {}",
                HumanCount(self.coverage.of(*kind)).to_string(),
                kind.name()
            );
        }
        for (seed, what) in &self.failures {
            let _ = writeln!(text, "FAILED seed {seed}: {what}");
        }
        text
    }
}

/// Runs `args.seeds` seeds from `first`.
///
/// # Errors
///
/// If a scenario cannot be set up.
pub fn many(args: &Args, first: u64) -> Result<Summary> {
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let end = first.saturating_add(args.seeds);
    let stop_at = args.time.map(|time| Instant::now() + *time);
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    let progress = Progress::start(args.seeds);
    let work = || -> Result<()> {
        loop {
            let late = stop_at.is_some_and(|at| Instant::now() >= at);
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if late || seed >= end || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let report = play(&Scenario::new(seed), false, &args.ignore)?;
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.seeds += 1;
            summary.coverage.add(&report.coverage);
            if let Some(violation) = report.violation {
                let what = format!("{}: {}", violation.promise, violation.what);
                // A run that is ended early has said so all the same.
                if args.keep_going {
                    progress
                        .bar
                        .suspend(|| eprintln!("FAILED seed {seed}: {what}"));
                }
                summary.failures.push((seed, what));
                if !args.keep_going {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            progress.show(&summary);
        }
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        handles.into_iter().try_for_each(|handle| {
            handle
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    progress.bar.finish_and_clear();
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failures.sort_unstable();
    Ok(summary)
}

/// How far a run is: a bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    began: Instant,
    /// When the next line is due; none on a terminal.
    line_at: Option<Mutex<Instant>>,
}

impl Progress {
    fn start(seeds: u64) -> Self {
        let (bar, template) = match seeds {
            u64::MAX => (
                ProgressBar::no_length(),
                "{spinner} {human_pos} seeds, {per_sec}, {elapsed}",
            ),
            seeds => (
                ProgressBar::new(seeds),
                "{bar:40} {human_pos}/{human_len} seeds, {per_sec}, {eta}",
            ),
        };
        let style = ProgressStyle::with_template(template);
        let began = Instant::now();
        Progress {
            bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
            began,
            line_at: (!std::io::stderr().is_terminal()).then(|| Mutex::new(began + LINE_EVERY)),
        }
    }

    fn show(&self, summary: &Summary) {
        self.bar.set_position(summary.seeds);
        let Some(line_at) = &self.line_at else { return };
        let mut line_at = line_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now < *line_at {
            return;
        }
        *line_at = now + LINE_EVERY;
        eprintln!(
            "{} seeds, {} failed, {}",
            HumanCount(summary.seeds),
            summary.failures.len(),
            HumanDuration(now - self.began)
        );
    }
}
