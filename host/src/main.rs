//! `leeward`: runs the shield on a machine without Spin. It also has a stand-in
//! for an origin and a demo, which show what the shield does.
//!
//! This file reads the command line and calls the command.
//!
//! - `up` runs the component: `settings` checks the options, `reach` tries the
//!   origin, `guest` runs the component in its sandbox, `instances` decides how
//!   many instances there are, `server` and `outbound` are the HTTP server and
//!   client, `http_behaviour` whose HTTP they imitate, `store` is the key-value store and the SQLite database, `fate` decides
//!   what becomes of an answer whose instance dies, `limits` are those of platforms, and
//!   `observe` is what an operator sees: log, metrics, access log.
//!   `tls` is the certificate for visitors, `notify` tells the service manager,
//!   `drain` is how it is asked to stop, `reload` how its settings change meanwhile.
//! - `reload` signals a running `up`; `pid` finds it.
//! - `check` validates a configuration, `explain` says what it makes of the origin's answers.
//! - `origin` is a server that fails under load.
//! - `demo` compares the two.

#![forbid(unsafe_code)]

mod address;
mod check;
mod cli;
mod demo;
mod descriptors;
mod drain;
mod explain;
mod fate;
#[cfg(feature = "generate")]
mod generate;
mod guest;
mod http_behaviour;
mod instances;
mod limits;
mod notify;
mod observe;
mod origin;
mod outbound;
mod pid;
mod reach;
mod reload;
mod report;
mod server;
mod settings;
mod store;
mod tls;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// Exit status for errors that the operator can correct: a wrong option, a
/// malformed origin, an address in use.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            report::plain(format_args!("error: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(*args).await,
            Command::Reload(args) => pid::reload(&args),
            #[cfg(feature = "generate")]
            Command::Generate(args) => generate::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Explain(args) => explain::run(args).await,
            Command::Origin(args) => origin::run(args).await,
            Command::Demo(args) => demo::run(args).await,
        }
    });
    // Each command has waited for its own work. A guest that does not end must
    // not keep the process running.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| {
        report::plain(format_args!("error: {error:#}"));
        ExitCode::from(EXIT_USAGE)
    })
}
