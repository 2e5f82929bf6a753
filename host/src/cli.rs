//! The command line.

use clap::{Parser, Subcommand};

use crate::{check, demo, explain, origin, pid, up};

/// The version, with the commit if this program holds a component and was built where there is
/// git.
pub(crate) const VERSION: &str = env!("LEEWARD_VERSION");

/// Keeps a fragile HTTP origin up.
#[derive(Debug, Parser)]
#[command(name = "leeward", version = VERSION, propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands of `leeward`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the shield in front of an origin.
    Up(Box<up::Args>),
    /// Let a running node read its configuration and its certificate again, without dropping
    /// a request
    Reload(pid::Args),
    /// Validate a configuration, for the platform that it is for.
    Check(check::Args),
    /// Say what becomes of a path: which rule holds, whether its answer is stored, for whom,
    /// for how long, and why not.
    Explain(explain::Args),
    /// Write manual pages and completions
    #[cfg(feature = "generate")]
    #[command(hide = true)]
    Generate(crate::generate::Args),
    /// Run a stand-in for a fragile origin, to try the shield with.
    #[command(hide = true)]
    Origin(origin::Args),
    /// Put the same load on an origin without the shield and with it.
    #[command(hide = true)]
    Demo(demo::Args),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_shows_what_operators_need_and_not_what_tests_need() {
        let mut cli = Cli::command();
        let commands = cli.render_long_help().to_string();
        for shown in ["  up ", "  reload ", "  check ", "  explain "] {
            assert!(commands.contains(shown), "{shown}: {commands}");
        }
        for hidden in ["  origin ", "  demo "] {
            assert!(!commands.contains(hidden), "{hidden}: {commands}");
        }
        let up = cli.find_subcommand_mut("up").unwrap();
        let options = up.render_long_help().to_string();
        for shown in [
            "--origin",
            "--connect",
            "--listen",
            "--store ",
            "--config",
            "--limits",
            "--admin-token",
            "--drain",
            "--pid-file",
        ] {
            assert!(options.contains(shown), "{shown}: {options}");
        }
        for hidden in [
            "--store-behaviour",
            "--replication-delay",
            "--max-instance",
            "--idle-instance-timeout",
            "--stop-timeout",
            "--allow-unreachable-origin",
        ] {
            assert!(!options.contains(hidden), "{hidden}: {options}");
        }
    }

    #[test]
    fn the_version_is_that_of_the_package() {
        assert!(VERSION.starts_with(env!("CARGO_PKG_VERSION")), "{VERSION}");
    }

    #[test]
    fn hidden_options_are_accepted() {
        let line = "leeward up --store-behaviour exact --max-instance-reuse-count 1 \
                    --max-instance-concurrent-reuse-count 1 --idle-instance-timeout 1s \
                    --admin-token x --allow-unreachable-origin --replication-delay 300ms --stop-timeout 5s";
        assert!(Cli::try_parse_from(line.split_whitespace()).is_ok());
    }
}
