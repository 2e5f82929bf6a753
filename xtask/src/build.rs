//! Building the product: the component and the host.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::machine::{self, WASM_TARGET};
use crate::process::{run, status};

/// What was built.
#[derive(Debug)]
pub(crate) struct Built {
    /// The host, `leeward`.
    pub(crate) host: PathBuf,
    /// The component, `leeward.wasm`.
    pub(crate) component: PathBuf,
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    // This package lies in a directory right below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A cargo command in the workspace, with the toolchain that runs this.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(words);
    command
}

/// Builds the component.
///
/// # Errors
///
/// If its target is missing and cannot be installed, or it does not build.
pub(crate) fn component() -> Result<PathBuf> {
    machine::need_wasm_target()?;
    run(&mut cargo(&[
        "build",
        "--release",
        "--package",
        "leeward",
        "--target",
        WASM_TARGET,
    ]))?;
    made(target().join(WASM_TARGET).join("release/leeward.wasm"))
}

/// Builds the host. The first time, this compiles an engine for WebAssembly.
///
/// # Errors
///
/// If it does not build.
pub(crate) fn host() -> Result<PathBuf> {
    run(&mut cargo(&[
        "build",
        "--release",
        "--package",
        "leeward-host",
    ]))?;
    made(target().join("release/leeward"))
}

/// Builds the simulation, and runs a command of it.
///
/// # Errors
///
/// If it does not build.
pub(crate) fn sim(command: &str, args: &[String]) -> Result<ExitCode> {
    let ended = status(
        cargo(&[
            "run",
            "--release",
            "--package",
            "leeward-sim",
            "--",
            command,
        ])
        .args(args),
    )?;
    Ok(if ended.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds both.
///
/// # Errors
///
/// As of [`component`] and [`host`].
pub(crate) fn all() -> Result<Built> {
    let component = component()?;
    let host = host()?;
    eprintln!("built {} and {}", component.display(), host.display());
    Ok(Built { host, component })
}

fn made(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.exists(), "cargo built no {}", path.display());
    Ok(path.canonicalize()?)
}
