//! `leeward-sim`: simulation and model checking from the command line.

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};
use leeward_sim::{model, run, scale, timed};
use std::process::ExitCode;

/// Checks that the shield keeps its promises, in worlds that we control.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Explores the cell protocol exhaustively.
    Model(model::Args),
    /// Plays seeded scenarios and checks every promise after each step.
    Run(run::Args),
    /// Measures many nodes and visitors in virtual time.
    Scale(scale::Args),
    /// Measures the election on a store that has no swap and shows writes late.
    Timed(timed::Args),
}

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<()> {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches)?;
    match cli.command {
        Command::Model(args) => model::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Timed(args) => timed::run(&args),
        Command::Run(mut args) => {
            let seeds_given = matches
                .subcommand_matches("run")
                .is_some_and(|run| run.value_source("seeds") == Some(ValueSource::CommandLine));
            // A time alone is filled with as many seeds as fit.
            if args.time.is_some() && !seeds_given {
                args.seeds = u64::MAX;
            }
            run::run(&args, seeds_given || args.time.is_some())
        }
    }
}
