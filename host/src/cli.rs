//! The command line: which commands there are.

use clap::{Parser, Subcommand};

use crate::{demo, origin, up};

/// Keeps a fragile HTTP origin up.
#[derive(Debug, Parser)]
#[command(name = "leeward", version, propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands of `leeward`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the shield in front of an origin.
    Up(up::Args),
    /// Run a stand-in for a fragile origin, to try the shield against.
    Origin(origin::Args),
    /// Show the origin fall over without the shield and stand with it.
    Demo(demo::Args),
}
