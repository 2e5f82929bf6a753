//! `leeward`: runs the shield on a machine without Spin, and brings the
//! stand-in origin and the demo that show what it does.
//!
//! This file is glue: it reads the command line and hands over.
//!
//! - `up` runs the component: `settings` checks what it was told, `reach` tries
//!   the origin, `guest` is the component in its sandbox, `instances` says how
//!   many of it live, `server` and `outbound` are HTTP on its two sides, and
//!   `store` is where it keeps its cells.
//! - `origin` is a server that falls over easily.
//! - `demo` shows the one with and without the other.

#![forbid(unsafe_code)]

mod cli;
mod demo;
mod descriptors;
mod guest;
mod instances;
mod origin;
mod outbound;
mod reach;
mod server;
mod settings;
mod store;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// Exit status of every error that the operator can correct: a wrong option, a
/// malformed origin, an address in use.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(args).await,
            Command::Origin(args) => origin::run(args).await,
            Command::Demo(args) => demo::run(args).await,
        }
    });
    // Each command has waited for its work as long as it means to: a guest that
    // never ends does not keep the process.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(EXIT_USAGE)
    })
}
