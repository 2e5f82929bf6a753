//! The manual pages and the completions of shells, made from the definition of the command
//! line. Only in a program that is built with the feature `generate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// The shells with completions in the package.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// The options of `leeward generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to write `man` and `completions` into
    folder: PathBuf,
}

/// Runs `leeward generate`.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let made = |name: &str| -> anyhow::Result<PathBuf> {
        let folder = args.folder.join(name);
        std::fs::create_dir_all(&folder).context("cannot write")?;
        Ok(folder)
    };
    write(&made("man")?, &made("completions")?).context("cannot write")?;
    Ok(ExitCode::SUCCESS)
}

fn write(man: &Path, completions: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Cli::command(), man)?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut Cli::command(), "leeward", completions)?;
    }
    Ok(())
}
