//! Building the product: the component and the host.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

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

/// Whether the workspace's packages are compiled with clippy's lints.
static WITH_LINTS: AtomicBool = AtomicBool::new(false);

/// From now on, the workspace's packages are compiled with clippy's lints, and a warning is an
/// error. To check them by themselves, all dependencies would have to be checked as well,
/// which takes three minutes.
pub(crate) fn lint_from_now_on() {
    WITH_LINTS.store(true, Ordering::Relaxed);
}

/// A cargo command in the workspace, with the toolchain that runs this.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(words);
    if WITH_LINTS.load(Ordering::Relaxed) {
        // What `cargo clippy` does, but for commands that do more than check.
        command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
        command.env(
            "CLIPPY_ARGS",
            "--deny__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__",
        );
    }
    command
}

/// A platform that the component is built for: a Cargo feature of the package `leeward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavour {
    Spin,
    SpinSqlite,
    SpinRedis,
    FermyonCloud,
    Akamai,
    Wasmcloud,
    Wasi,
}

impl Flavour {
    /// The name of its feature, of its folder in `wit/`, and of its build profile in
    /// `spin.toml`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Flavour::Spin => "spin",
            Flavour::SpinSqlite => "spin-sqlite",
            Flavour::SpinRedis => "spin-redis",
            Flavour::FermyonCloud => "fermyon-cloud",
            Flavour::Akamai => "akamai",
            Flavour::Wasmcloud => "wasmcloud",
            Flavour::Wasi => "wasi",
        }
    }
}

/// What a component is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be run, in `target/flavours/NAME/leeward.wasm`.
    Use,
    /// For tests of what it does, in `target/test-flavours/NAME/leeward.wasm`: compiled in
    /// half of the time, and slower.
    Tests,
}

impl Purpose {
    /// The folder below `target`.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Purpose::Use => "flavours",
            Purpose::Tests => "test-flavours",
        }
    }

    /// Settings of cargo.
    fn config(self) -> &'static [&'static str] {
        match self {
            // As the manifests for Spin have it. Natively the library is built for tests.
            Purpose::Use => &["profile.release.package.leeward.codegen-units=1"],
            Purpose::Tests => &["profile.release.package.leeward.opt-level=1"],
        }
    }
}

/// Builds a flavour of the component. Cargo writes every flavour to the same place, so
/// it is copied to one of its own. In cargo's place is the flavour `spin` afterwards, if it
/// has been built: `spin up` and `leeward up` take it from there.
///
/// # Errors
///
/// If its target is missing and cannot be installed, or it does not build.
pub(crate) fn component(flavour: Flavour, purpose: Purpose) -> Result<PathBuf> {
    machine::need_wasm_target()?;
    let mut command = cargo(&["build", "--release", "--package", "leeward"]);
    for setting in purpose.config() {
        command.args(["--config", setting]);
    }
    command.args(["--target", WASM_TARGET, "--no-default-features"]);
    run(command.args(["--features", flavour.name()]))?;
    let made = made(target().join(WASM_TARGET).join("release/leeward.wasm"))?;
    let copied = copy(&made, &built(flavour, purpose))?;
    let default = built(Flavour::Spin, Purpose::Use);
    if default != copied && default.exists() {
        copy(&default, &made)?;
    }
    Ok(copied.canonicalize()?)
}

/// Where a flavour is, once it is built.
fn built(flavour: Flavour, purpose: Purpose) -> PathBuf {
    let folder = target().join(purpose.folder()).join(flavour.name());
    folder.join("leeward.wasm")
}

/// Puts a copy of a file in the place of another, which may be a link to a file that is to
/// stay as it is.
fn copy(from: &Path, to: &Path) -> Result<PathBuf> {
    let parent = to.parent().unwrap_or(Path::new("."));
    let fresh = to.with_extension("new");
    fs::create_dir_all(parent)
        .and_then(|()| fs::copy(from, &fresh))
        .and_then(|_| fs::rename(&fresh, to))
        .with_context(|| format!("cannot write {}", to.display()))?;
    Ok(to.to_owned())
}

/// The variable that tells the build script of the host which component it holds.
pub(crate) const EMBED: &str = "LEEWARD_EMBED";

/// Builds the host, which holds `component`. The first time, this compiles an engine for
/// WebAssembly.
///
/// # Errors
///
/// If it does not build.
pub(crate) fn host(component: &Path) -> Result<PathBuf> {
    run(cargo(&["build", "--release", "--package", "leeward-host"]).env(EMBED, component))?;
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

/// Builds some flavours of the component, and says where they are.
///
/// # Errors
///
/// As of [`component`].
pub(crate) fn flavours(flavours: &[Flavour], purpose: Purpose) -> Result<()> {
    for flavour in flavours {
        let path = component(*flavour, purpose)?;
        eprintln!("built {}", path.display());
    }
    Ok(())
}

/// Builds both.
///
/// # Errors
///
/// As of [`component`] and [`host`].
pub(crate) fn all() -> Result<Built> {
    let component = component(Flavour::Spin, Purpose::Use)?;
    let host = host(&component)?;
    eprintln!("built {} and {}", component.display(), host.display());
    Ok(Built { host, component })
}

fn made(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.exists(), "cargo built no {}", path.display());
    Ok(path.canonicalize()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flavour_is_a_feature_with_a_world_of_its_own() -> Result<()> {
        let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
        for flavour in Flavour::value_variants() {
            let name = flavour.name();
            let value = flavour.to_possible_value();
            assert!(
                value.is_some_and(|value| value.get_name() == name),
                "{name}"
            );
            assert!(manifest.contains(&format!("\n{name} = [")), "{name}");
            // The flavour `wasi` asks for nothing beside WASI.
            let has_world = root().join("wit").join(name).join("world.wit").exists();
            assert_eq!(has_world, *flavour != Flavour::Wasi, "{name}");
        }
        Ok(())
    }
}
