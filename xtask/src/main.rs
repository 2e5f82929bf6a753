//! Every routine task of the project as one command.
//!
//! | command | what it does |
//! | --- | --- |
//! | `cargo xtask up` | the shield in front of a demo origin, of `--origin URL`, or of `SPIN_VARIABLE_ORIGIN` |
//! | `cargo xtask demo` | shows the origin fall over without the shield and stand with it |
//! | `cargo xtask build` | the component and the host, in release; `--flavour NAME` |
//! | `cargo xtask dist` | what is published: every flavour, sizes and imports, checksums, SBOM; the host with its packages |
//! | `cargo xtask test` | formatting, lints, unit tests, simulation, end-to-end and cache tests |
//! | `cargo xtask long-tests` | end-to-end tests that take long; `test` leaves them out |
//! | `cargo xtask soak` | random faults of Redis under load, and an origin that crashes beyond its budget; `--seconds N` |
//! | `cargo xtask spin` | scenarios on a real Spin, where there is one; `--spin PROGRAM`, `--long`, `FLAVOUR` |
//! | `cargo xtask cache-tests` | runs the public HTTP cache tests; `--nodes N`, `--preset P` |
//! | `cargo xtask sim` | plays seeded scenarios in a simulated world; `--seeds N` |
//! | `cargo xtask model` | explores the cell protocol exhaustively |
//! | `cargo xtask fuzz` | looks for input that breaks a promise; `--seconds N`, `TARGET` |
//! | `cargo xtask ci` | what continuous integration runs: `cargo xtask test` |
//!
//! Each makes the machine ready for what it does, and needs only rustup and a C
//! compiler to begin with.
#![forbid(unsafe_code)]

mod build;
mod cache_tests;
mod dist;
mod foreign;
mod fuzz;
mod machine;
mod package;
mod process;
mod soak;
mod spin;
mod test;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every routine task of the project as one command.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build everything and serve a demo origin through the shield, until Ctrl-C.
    Up {
        /// Arguments for `leeward up`; with --origin, no demo origin is started.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build everything and run `leeward demo`.
    Demo {
        /// Arguments for `leeward demo`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build the component and the host, in release.
    Build {
        /// Build the component for another platform instead, into
        /// target/flavours/NAME/leeward.wasm; may be given more than once
        #[arg(long, value_enum, value_name = "NAME")]
        flavour: Vec<build::Flavour>,
    },
    /// Build what is published into target/dist: the component for every platform, sizes
    /// and imports, checksums, and a list of what each is made of; the host with the component
    /// in it, manual pages, completions, units and examples, and a Debian package.
    Dist(dist::Args),
    /// Check formatting and lints, and run all tests.
    Test(test::Args),
    /// Run the end-to-end tests that take long, which `test` leaves out.
    LongTests,
    /// Run random faults of a Redis server under load, in front of an origin that crashes
    /// beyond its budget.
    Soak(soak::Args),
    /// Run scenarios on a real Spin, where there is one: nodes that are `spin up`
    /// processes, on SQLite files and on Redis.
    Spin(spin::Args),
    /// Run the public HTTP cache tests against the component in the host.
    CacheTests(cache_tests::Args),
    /// Play seeded scenarios in a simulated world, and check every promise.
    Sim {
        /// Arguments for `leeward-sim run`, such as --seeds 100000 or --seed 7.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Explore the cell protocol exhaustively, on every store behaviour.
    Model {
        /// Arguments for `leeward-sim model`, such as --quick.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Look for input that breaks a promise, with cargo-fuzz.
    Fuzz(fuzz::Args),
    /// Run what continuous integration runs.
    Ci,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Up { args } => up::up(&args),
        Task::Demo { args } => up::demo(&args),
        Task::Build { flavour } if flavour.is_empty() => build::all().map(|_| ExitCode::SUCCESS),
        Task::Build { flavour } => {
            build::flavours(&flavour, build::Purpose::Use).map(|()| ExitCode::SUCCESS)
        }
        Task::Dist(args) => dist::dist(&args).map(|()| ExitCode::SUCCESS),
        Task::Test(args) => Ok(test::test(&args)),
        Task::LongTests => test::long().map(|()| ExitCode::SUCCESS),
        Task::Soak(args) => soak::soak(&args),
        Task::Spin(args) => spin::spin(&args),
        Task::CacheTests(args) => cache_tests::run(&args),
        Task::Sim { args } => build::sim("run", &args),
        Task::Model { args } => build::sim("model", &args),
        Task::Fuzz(args) => fuzz::fuzz(&args).map(|()| ExitCode::SUCCESS),
        Task::Ci => Ok(test::test(&test::Args::default())),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(words: &[&str]) -> Vec<String> {
        match Cli::try_parse_from(words).map(|cli| cli.task) {
            Ok(
                Task::Up { args } | Task::Demo { args } | Task::Sim { args } | Task::Model { args },
            ) => args,
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn arguments_are_passed_on_with_and_without_dashes_between() {
        let expected = ["--listen", "127.0.0.1:0", "--store", "memory"];
        for task in ["up", "demo", "sim", "model"] {
            for between in [&["--"][..], &[]] {
                let words = [&["xtask", task], between, &expected].concat();
                assert_eq!(passed_on(&words), expected, "{words:?}");
            }
            assert_eq!(passed_on(&["xtask", task]), [""; 0]);
        }
    }

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
