//! `cargo xtask dist`, the host: one program with the component in it, its manual pages,
//! completions, unit and examples in an archive, and a Debian package.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::{self, EMBED, cargo};
use crate::machine;
use crate::process::{run, succeeds};

/// What of `deploy/` is in the archive.
const DEPLOY: &[&str] = &["systemd", "docker", "kubernetes"];

/// Files of the repository that are beside the program in the archive.
const TEXTS: &[&str] = &["LICENSE", "CHANGELOG.md"];

/// The files of the package that are made here; `host/Cargo.toml` names them too.
const MADE: &[&str] = &["man", "completions"];

/// How many steps [`host`] has.
pub(crate) const STEPS: usize = 3;

/// The packages of the host.
#[derive(Debug)]
pub(crate) struct Packages {
    /// The names of the files that were made.
    pub(crate) files: Vec<String>,
    /// What could not be made on this machine.
    pub(crate) left_out: Option<LeftOut>,
}

/// Something that was not made, why, and how to get it.
#[derive(Debug)]
pub(crate) struct LeftOut {
    pub(crate) what: &'static str,
    pub(crate) why: &'static str,
    pub(crate) remedy: &'static str,
}

/// Builds the host with the component in the file `component`, and writes its archive and its
/// Debian package into `folder`. Calls `step` with what it begins, [`STEPS`] times.
///
/// # Errors
///
/// If something does not build, or cannot be written.
pub(crate) fn host(
    folder: &Path,
    component: &Path,
    mut step: impl FnMut(&str),
) -> Result<Packages> {
    step("manual pages and completions");
    generate(folder, component)?;
    step("the program and its archive");
    // Last, so that the program in cargo's place is the one without `generate`.
    run(cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "leeward-host",
    ])
    .env(EMBED, component))?;
    let name = format!("leeward-{}-{OS}-{ARCH}", env!("CARGO_PKG_VERSION"));
    let staged = folder.join(&name);
    if staged.exists() {
        fs::remove_dir_all(&staged)?;
    }
    fs::create_dir_all(&staged)?;
    let program = build::target().join("release/leeward");
    fs::copy(&program, staged.join("leeward"))
        .with_context(|| format!("cannot copy {}", program.display()))?;
    for made in MADE {
        copy_files(&folder.join(made), &staged.join(made))?;
    }
    for text in TEXTS {
        fs::copy(build::root().join(text), staged.join(text))
            .with_context(|| format!("cannot copy {text}"))?;
    }
    for part in DEPLOY {
        let from = build::root().join("deploy").join(part);
        copy_files(&from, &staged.join(part))?;
    }
    let archive = format!("{name}.tar.gz");
    run(Command::new("tar")
        .current_dir(folder)
        .args(["--owner=0", "--group=0", "--sort=name", "-czf"])
        .args([&archive, &name]))?;
    let mut packages = Packages {
        files: vec![archive],
        left_out: None,
    };
    step("the Debian package");
    match debian(folder)? {
        Ok(file) => packages.files.push(file),
        Err(left_out) => packages.left_out = Some(left_out),
    }
    Ok(packages)
}

/// Has the host write its manual pages and completions.
fn generate(folder: &Path, component: &Path) -> Result<()> {
    for made in MADE {
        let old = folder.join(made);
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    let words = ["run", "--release", "--locked", "--package", "leeward-host"];
    run(cargo(&words)
        .args(["--features", "generate", "--", "generate"])
        .arg(folder)
        .env(EMBED, component))
}

/// Makes the Debian package. It is left out, with a word, where there is no Debian or no
/// cargo-deb.
fn debian(folder: &Path) -> Result<Result<String, LeftOut>> {
    // cargo-deb asks it which packages the program depends on.
    if !succeeds(Command::new("dpkg-shlibdeps").arg("--version")) {
        return Ok(Err(LeftOut {
            what: "the Debian package",
            why: "there is no dpkg-shlibdeps",
            remedy: "`apt-get install dpkg-dev` on Debian or Ubuntu, then run this again",
        }));
    }
    if !machine::has_cargo_deb() {
        return Ok(Err(LeftOut {
            what: "the Debian package",
            why: "there is no cargo-deb, and cargo could not install it",
            remedy: "`cargo install --locked cargo-deb`, then run this again",
        }));
    }
    let version = env!("CARGO_PKG_VERSION");
    let file = format!("leeward_{version}_{}.deb", architecture()?);
    // cargo-deb strips programs by itself unless they are; the release profile does it.
    run(cargo(&[
        "deb",
        "--no-build",
        "--no-strip",
        "--package",
        "leeward-host",
    ])
    .arg("--output")
    .arg(folder.join(&file)))?;
    Ok(Ok(file))
}

/// The name that Debian has for this machine's processor, such as `amd64`.
fn architecture() -> Result<String> {
    let output = Command::new("dpkg")
        .arg("--print-architecture")
        .output()
        .context("cannot start dpkg")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Copies the files of a folder, not those of folders in it.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let file = entry?.path();
        if let (true, Some(name)) = (file.is_file(), file.file_name()) {
            fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_there() {
        for part in DEPLOY {
            assert!(build::root().join("deploy").join(part).is_dir(), "{part}");
        }
        for text in TEXTS {
            assert!(build::root().join(text).is_file(), "{text}");
        }
    }

    #[test]
    fn the_package_has_what_is_made_here() -> Result<()> {
        let manifest = fs::read_to_string(build::root().join("host/Cargo.toml"))?;
        for made in MADE {
            assert!(
                manifest.contains(&format!("../target/dist/{made}/")),
                "{made}"
            );
        }
        Ok(())
    }
}
