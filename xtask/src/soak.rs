//! `cargo xtask soak`: random faults of the store under load, for as long as one likes.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::build::{self, cargo};
use crate::machine;
use crate::process::run_tests;
use crate::test::with_built;

/// What `cargo xtask soak` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For how many seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,

    /// The seed of an earlier run, for the same faults
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
}

/// Runs it.
///
/// # Errors
///
/// If there is no redis-server, if something cannot be built, or if the origin crashed or
/// a visitor got an error.
pub(crate) fn soak(args: &Args) -> Result<ExitCode> {
    ensure!(machine::has_redis(), "it needs redis-server");
    let built = build::all()?;
    let mut command = cargo(&["test", "--release", "--package", "leeward-tests"]);
    command
        .args(["--test", "e2e", "soak::", "--", "--nocapture"])
        .env("LEEWARD_SOAK_SECONDS", args.seconds.to_string());
    if let Some(seed) = args.seed {
        command.env("LEEWARD_SOAK_SEED", seed.to_string());
    }
    ensure!(
        run_tests(with_built(&mut command, &built))? > 0,
        "no test was run"
    );
    Ok(ExitCode::SUCCESS)
}
