//! The public cache tests: getting them, and what tests there are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::client;
use super::score::Test;
use crate::build;
use crate::process::run;

/// The package on npm.
const PACKAGE: &str = "http-cache-tests";

/// The edition that the lists are about.
pub(super) const VERSION: &str = "0.4.5";

/// The folder of the suite, and its tests.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(super) folder: PathBuf,
    /// Those that apply to a cache that is no browser's.
    pub(super) tests: Vec<Test>,
}

impl Suite {
    /// The suite in a folder, with all that it needs installed.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn at(folder: &Path) -> Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("there is no {}", folder.display()))?;
        let tests = client::list(&folder)?;
        ensure!(
            !tests.is_empty(),
            "there are no cache tests in {}",
            folder.display()
        );
        Ok(Suite { folder, tests })
    }

    /// The edition on npm, after installing it below `target`.
    ///
    /// # Errors
    ///
    /// If it is not there and cannot be installed.
    pub(super) fn installed() -> Result<Self> {
        let home = home()?.join(format!("{PACKAGE}-{VERSION}"));
        if !home.exists() {
            install(&home).context("the public cache tests could not be installed")?;
        }
        Self::at(&home.join("node_modules").join(PACKAGE))
    }

    /// The program of the suite's own origin.
    pub(super) fn origin(&self) -> PathBuf {
        // Newer editions have it in another place.
        let places = ["server/server.mjs", "test-engine/server/server.mjs"];
        let mut places = places.iter().map(|place| self.folder.join(place));
        places
            .find(|place| place.exists())
            .unwrap_or_else(|| self.folder.join("server"))
    }
}

/// Where everything lies that is made for the tests.
///
/// # Errors
///
/// If it cannot be made.
pub(super) fn home() -> Result<PathBuf> {
    let home = build::target().join("cache-tests");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    Ok(home.canonicalize()?)
}

/// Installs the package beside its place and then moves it there, so that half
/// of it is never taken for the whole.
fn install(home: &Path) -> Result<()> {
    let half = home.with_extension("part");
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    fs::create_dir_all(&half)?;
    let mut npm = Command::new("npm");
    npm.arg("install").arg("--prefix").arg(&half).args([
        "--no-package-lock",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]);
    run(npm.arg(format!("{PACKAGE}@{VERSION}")))?;
    fs::rename(&half, home)?;
    Ok(())
}
