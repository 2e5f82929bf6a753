//! `cargo xtask test`: everything that must hold, in stages.
//!
//! | stage | what | profile |
//! | --- | --- | --- |
//! | formatting | rustfmt, the whole workspace | |
//! | lints | clippy, natively and for the component's target | release |
//! | build | component and host | release |
//! | unit tests | the component's library, this package, all that is pure; the fuzzing corpus | dev |
//! | simulation | the model, and seeded scenarios of the shield | release |
//! | host tests | the host | release |
//! | end to end | several nodes, real stores, a scripted origin | release |
//! | cache tests | the public HTTP cache tests, both presets, one node and four | release |
//!
//! The WebAssembly engine, by far the largest dependency, is compiled for one
//! profile only, and always with the features that the host asks for. The pure
//! parts are tested in the dev profile, where overflow is caught.
//!
//! A stage that fails does not keep the others from running, unless they need
//! what it makes. The summary at the end tells each stage's time.

use std::fmt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::build::{self, Built, cargo};
use crate::cache_tests;
use crate::machine::{self, WASM_TARGET};
use crate::process::run;

/// How many scenarios are played; `cargo xtask sim` plays as many as one likes.
const SEEDS: &str = "2000";

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
    /// It needs what another stage did not make.
    LeftOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::LeftOut => "left out",
        })
    }
}

/// What ran, how it went, and how long it took.
#[derive(Debug, Default)]
struct Stages(Vec<(&'static str, Outcome, Duration)>);

impl Stages {
    fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        eprintln!("\n=== {name}");
        let began = Instant::now();
        let result = work().inspect_err(|error| eprintln!("{name}: {error:#}"));
        let outcome = if result.is_ok() {
            Outcome::Passed
        } else {
            Outcome::Failed
        };
        self.0.push((name, outcome, began.elapsed()));
        result.ok()
    }

    fn leave_out(&mut self, name: &'static str) {
        self.0.push((name, Outcome::LeftOut, Duration::ZERO));
    }

    fn none_failed(&self) -> bool {
        self.0
            .iter()
            .all(|(_, outcome, _)| *outcome != Outcome::Failed)
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome, took) in &self.0 {
            writeln!(f, "{name:<28} {outcome:<9} {:>7.1} s", took.as_secs_f64())?;
        }
        let total: Duration = self.0.iter().map(|(_, _, took)| *took).sum();
        write!(f, "{:<38} {:>7.1} s", "all", total.as_secs_f64())
    }
}

/// Runs the stages that the arguments ask for.
fn run_stages(args: &Args) -> Stages {
    let mut stages = Stages::default();
    if args.filter.is_none() {
        stages.run("formatting", || {
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
    stages.run("unit tests", || {
        let mut command = cargo(&["test", "--no-fail-fast", "--workspace"]);
        for package in ["leeward-host", "leeward-sim", "leeward-tests"] {
            command.args(["--exclude", package]);
        }
        run(command.args(&args.filter))
    });
    if args.fast {
        return stages;
    }
    stages.run("simulation", || {
        let mut command = cargo(&[
            "test",
            "--no-fail-fast",
            "--release",
            "--package",
            "leeward-sim",
        ]);
        run(command.args(&args.filter))
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
    stages.run("host tests", || {
        let mut command = cargo(&[
            "test",
            "--no-fail-fast",
            "--release",
            "--package",
            "leeward-host",
        ]);
        run(command.args(&args.filter))
    });
    match built {
        Some(built) => {
            end_to_end(&mut stages, args, &built);
            if args.filter.is_none() {
                cache_tests(&mut stages, &built);
            }
        }
        None => {
            stages.leave_out("end to end");
            stages.leave_out("cache tests");
        }
    }
    stages
}

fn lints(stages: &mut Stages) {
    stages.run("lints", || {
        run(&mut cargo(&[
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    });
    stages.run("lints of the component", || {
        machine::need_wasm_target()?;
        let mut command = cargo(&[
            "clippy",
            "--release",
            "--package",
            "leeward",
            "--target",
            WASM_TARGET,
        ]);
        run(command.args(["--", "--deny", "warnings"]))
    });
}

fn end_to_end(stages: &mut Stages, args: &Args, built: &Built) {
    let redis = machine::has_redis();
    stages.run("end to end", || {
        let mut command = cargo(&[
            "test",
            "--no-fail-fast",
            "--release",
            "--package",
            "leeward-tests",
        ]);
        command.args(&args.filter).arg("--");
        if !redis {
            command.args(["--skip", "redis_server"]);
        }
        run(with_built(&mut command, built))
    });
    if !redis {
        eprintln!(
            "\nThere is no redis-server here, and it could not be installed: the tests that need one were LEFT OUT."
        );
        stages.leave_out("end to end, redis-server");
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
fn with_built<'a>(command: &'a mut Command, built: &Built) -> &'a mut Command {
    command
        .env("LEEWARD_BIN", &built.host)
        .env("LEEWARD_WASM", &built.component)
}

/// Runs the stages and says how they went.
///
/// Leaving out the tests that need a Redis server, or node, is no failure, but is
/// said.
pub(crate) fn test(args: &Args) -> ExitCode {
    let stages = run_stages(args);
    println!("\n{stages}");
    if stages.none_failed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
