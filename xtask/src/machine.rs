//! What the machine must have beside rustup and a C compiler, and getting it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::cargo;
use crate::process::{run, succeeds};

/// The target that the component is built for.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

/// Sees to it that the component's target is installed.
///
/// # Errors
///
/// If it is not, and rustup cannot install it.
pub(crate) fn need_wasm_target() -> Result<()> {
    if has_wasm_target()? {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", WASM_TARGET])).with_context(|| {
        format!(
            "the component is built for {WASM_TARGET}, which this Rust toolchain lacks; install it with \
             `rustup target add {WASM_TARGET}` (rustup: https://rustup.rs), then run this again"
        )
    })?;
    if !has_wasm_target()? {
        bail!(
            "rustup added {WASM_TARGET} to another toolchain than the one in use, `rustc --version` says which that is"
        );
    }
    Ok(())
}

fn has_wasm_target() -> Result<bool> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .output()
        .context("cannot start rustc; Rust is installed with rustup, see https://rustup.rs")?;
    let directory = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output.status.success() && Path::new(directory.trim()).is_dir())
}

/// Sees to it that a component of the toolchain is installed, the one that
/// `cargo subcommand` needs: rustup's minimal profile leaves some out.
///
/// # Errors
///
/// If it is not, and rustup cannot install it.
pub(crate) fn need_component(component: &str, subcommand: &str) -> Result<()> {
    if succeeds(&mut cargo(&[subcommand, "--version"])) {
        return Ok(());
    }
    run(Command::new("rustup").args(["component", "add", component])).with_context(|| {
        format!(
            "`cargo {subcommand}` does not work on this Rust toolchain; install it with \
             `rustup component add {component}`, then run this again"
        )
    })
}

/// Whether there is a cargo-deb, after installing it with cargo: it takes about two minutes.
pub(crate) fn has_cargo_deb() -> bool {
    let there = || succeeds(&mut cargo(&["deb", "--version"]));
    if there() {
        return true;
    }
    if let Err(error) = run(&mut cargo(&["install", "--locked", "cargo-deb"])) {
        eprintln!("cargo-deb was not installed: {error:#}");
    }
    there()
}

/// Whether there is a `redis-server`, after installing it where that needs
/// nobody's password.
pub(crate) fn has_redis() -> bool {
    has(redis_answers, &["redis-server"])
}

/// Whether there is a `nats-server`, after installing it where that needs nobody's
/// password.
pub(crate) fn has_nats() -> bool {
    has(
        || succeeds(Command::new("nats-server").arg("--version")),
        &["nats-server"],
    )
}

/// Whether there is a `chromium`, after installing it where that needs nobody's password:
/// 124 MB, about 15 s.
pub(crate) fn has_chromium() -> bool {
    has(
        || succeeds(Command::new("chromium").arg("--version")),
        &["chromium"],
    )
}

/// Whether there is a Python with its package manager, after installing it where that
/// needs nobody's password.
pub(crate) fn has_pip() -> bool {
    has(
        || succeeds(Command::new("python3").args(["-m", "pip", "--version"])),
        &["python3", "python3-pip"],
    )
}

/// Whether there are `node` and `npm`, after installing them where that needs
/// nobody's password.
pub(crate) fn has_node() -> bool {
    has(
        || {
            ["node", "npm"]
                .iter()
                .all(|program| succeeds(Command::new(program).arg("--version")))
        },
        &["nodejs", "npm"],
    )
}

/// Whether something is there, after installing these packages if it is not.
fn has(there: impl Fn() -> bool, packages: &[&str]) -> bool {
    if there() {
        return true;
    }
    let Some(prefix) = administrator() else {
        return false;
    };
    let apt = |words: &[&str]| {
        let mut command = match prefix {
            [] => Command::new("apt-get"),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg("apt-get");
                command
            }
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").args(words);
        run(&mut command)
    };
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    let installed = apt(&["update", "--quiet"]).and_then(|()| apt(&[&install, packages].concat()));
    if let Err(error) = installed {
        eprintln!("{} was not installed: {error:#}", packages.join(", "));
    }
    there()
}

fn redis_answers() -> bool {
    succeeds(Command::new("redis-server").arg("--version"))
}

/// What to put before a command that installs packages; nothing, if that is not
/// possible without asking.
fn administrator() -> Option<&'static [&'static str]> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return None;
    }
    if rustix::process::geteuid().is_root() {
        return Some(&[]);
    }
    const SUDO: &[&str] = &["sudo", "-n"];
    succeeds(Command::new("sudo").args(["-n", "true"])).then_some(SUDO)
}
