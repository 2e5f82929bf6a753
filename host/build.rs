//! What the program is told when it is built: the component that it holds, and the commit.
//!
//! `LEEWARD_EMBED` names the component's file; without it the program holds none, and looks
//! for one when it starts. The commit is told to programs that hold a component, as
//! `cargo xtask build` and `cargo xtask dist` make them, so that others are not compiled
//! again after each commit. `LEEWARD_COMMIT` names it where there is no git.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Digits of the commit that are shown.
const DIGITS: &str = "--short=12";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(embedded)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LEEWARD_EMBED");
    println!("cargo::rerun-if-env-changed=LEEWARD_COMMIT");
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    if let Some(component) = embedded(&package) {
        println!("cargo::rerun-if-changed={}", component.display());
        println!("cargo::rustc-cfg=embedded");
        println!("cargo::rustc-env=LEEWARD_EMBEDDED={}", component.display());
        if let Some(commit) = commit(&package) {
            version = format!("{version} ({commit})");
        }
    }
    println!("cargo::rustc-env=LEEWARD_VERSION={version}");
}

/// The file of the component, absolute; a relative one begins at the workspace.
fn embedded(package: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("LEEWARD_EMBED").filter(|path| !path.is_empty())?;
    let path = package.join("..").join(named);
    match path.canonicalize() {
        Ok(path) => Some(path),
        Err(error) => {
            println!("cargo::error=LEEWARD_EMBED: {}: {error}", path.display());
            None
        }
    }
}

/// The commit; none in a source archive.
fn commit(package: &Path) -> Option<String> {
    if let Ok(commit) = std::env::var("LEEWARD_COMMIT") {
        return Some(commit).filter(|commit| !commit.is_empty());
    }
    // The archive may lie in a repository of somebody else's.
    git(package, &["ls-files", "--error-unmatch", "Cargo.toml"])?;
    if let Some(log) = git(package, &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={}", package.join(log).display());
    }
    git(package, &["rev-parse", DIGITS, "HEAD"])
}

fn git(package: &Path, words: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(package)
        .args(words)
        .output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
