//! `cargo xtask spin`: what holds on a real Spin.
//!
//! Spin is not installed by this: it is used where somebody has it. The scenarios are the
//! program `real-spin` of the package `leeward-tests`. Here is what comes before them:
//! finding Spin, building the flavours, and refusing what cannot work.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::build::{self, Flavour, Purpose, cargo};
use crate::machine::{self, WASM_TARGET};
use crate::process::status;

/// The flavours that run on Spin, each with the oldest version that it needs.
const ON_SPIN: [(Flavour, Version); 5] = [
    (Flavour::Spin, Version(4, 1)),
    (Flavour::SpinSqlite, Version(4, 1)),
    (Flavour::SpinRedis, Version(4, 1)),
    (Flavour::FermyonCloud, Version(2, 0)),
    (Flavour::Akamai, Version(2, 0)),
];

/// The most nodes that a scenario has.
const NODES: u16 = 4;

/// Documents with tables of what was seen.
const DOCUMENTS: [&str; 2] = ["docs/platforms.md", "docs/deploy/spin.md"];

/// The options of `cargo xtask spin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program, if it is not `spin` on the PATH
    #[arg(long, value_name = "PROGRAM")]
    spin: Option<PathBuf>,
    /// Take about ten minutes for a flavour and store; this is the default
    #[arg(long, conflicts_with = "long")]
    quick: bool,
    /// Take ten minutes for each scenario about time, and run some more
    #[arg(long)]
    long: bool,
    /// How long each scenario about time takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Only scenarios with this in their names
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The port of the first of up to four nodes, instead of free ports
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(u16::MAX - NODES)))]
    port: Option<u16>,
    /// Take the components that are there, instead of building them
    #[arg(long)]
    no_build: bool,
    /// Write what was seen into the tables of the documents
    #[arg(long)]
    write_docs: bool,
    /// The flavours; all that this Spin runs, if none is named
    #[arg(value_enum)]
    flavour: Vec<Flavour>,
}

/// A version of Spin: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u64, u64);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// What `spin --version` says: `spin 4.1.0-pre0 (94a8fc8 2026-08-21)`.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut numbers = words
            .find(|word| *word == "spin")
            .and(words.next())?
            .split('.');
        let mut number = || numbers.next()?.parse().ok();
        Some(Version(number()?, number()?))
    }
}

/// Runs the scenarios on a Spin.
///
/// # Errors
///
/// If what is asked for cannot work, or something does not build.
pub(crate) fn spin(args: &Args) -> Result<ExitCode> {
    let Some((program, version, said)) = found(args.spin.as_deref())? else {
        println!(
            "There is no Spin here, so its tests were LEFT OUT. Install it (https://spinframework.dev/install), \
             or name it with --spin PROGRAM."
        );
        return Ok(ExitCode::SUCCESS);
    };
    eprintln!("{said}");
    let flavours = wanted(&args.flavour, version)?;
    if let Some(first) = args.port {
        free_ports(first)?;
    }
    let redis = machine::has_redis();
    if !redis {
        eprintln!("\nThere is no redis-server here: the scenarios on Redis are LEFT OUT.");
    }
    for flavour in &flavours {
        if !args.no_build {
            build::component(*flavour, Purpose::Use)?;
        }
        has_component(*flavour, &build::root())?;
    }
    let mut command = cargo(&["run", "--release", "--package", "leeward-tests"]);
    command
        .args(["--bin", "real-spin", "--", "--spin"])
        .arg(program);
    command.args(["--spin-version", &said]);
    let root = build::root().canonicalize()?;
    command.arg("--sources").arg(&root);
    for (flag, given) in [("--long", args.long), ("--without-redis", !redis)] {
        command.args(given.then_some(flag));
    }
    if let Some(seconds) = args.seconds {
        command.args(["--seconds", &seconds.to_string()]);
    }
    if let Some(only) = &args.only {
        command.args(["--only", only]);
    }
    if let Some(port) = args.port {
        command.args(["--port", &port.to_string()]);
    }
    for document in DOCUMENTS.iter().filter(|_| args.write_docs) {
        command
            .arg("--write-docs")
            .arg(build::root().join(document));
    }
    command.args(flavours.iter().map(|flavour| flavour.name()));
    Ok(match status(&mut command)?.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The program, its version, and what it says of itself; none if no program was named and
/// none is there.
fn found(named: Option<&Path>) -> Result<Option<(PathBuf, Version, String)>> {
    let program = named.unwrap_or(Path::new("spin"));
    // Absolute, as nodes run in folders of their own; a bare name is looked for on the PATH.
    let program = match program.components().count() {
        1 => program.to_owned(),
        _ => std::path::absolute(program)?,
    };
    let output = match Command::new(&program).arg("--version").output() {
        Ok(output) => output,
        Err(_) if named.is_none() => return Ok(None),
        Err(error) => bail!("{} cannot be started: {error}", program.display()),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.lines().next().unwrap_or_default().trim().to_owned();
    let version = Version::parse(&said).with_context(|| {
        let program = program.display();
        format!("{program} is no Spin: asked for its version, it says {said:?}")
    })?;
    Ok(Some((program, version, said)))
}

/// The flavours to run: those that were named, or all that this version runs.
fn wanted(named: &[Flavour], version: Version) -> Result<Vec<Flavour>> {
    let mut wanted = Vec::new();
    for (flavour, oldest) in ON_SPIN {
        let name = flavour.name();
        if !named.is_empty() && !named.contains(&flavour) {
            continue;
        }
        if version >= oldest {
            wanted.push(flavour);
        } else if named.is_empty() {
            eprintln!("{name} is LEFT OUT: it needs Spin {oldest}, this is {version}.");
        } else {
            bail!("the flavour {name} needs Spin {oldest} or later, and this is Spin {version}");
        }
    }
    let on_spin = |flavour: &Flavour| ON_SPIN.iter().any(|(known, _)| known == flavour);
    if let Some(other) = named.iter().find(|flavour| !on_spin(flavour)) {
        bail!("the flavour {} does not run on Spin", other.name());
    }
    ensure!(!wanted.is_empty(), "no flavour runs on Spin {version}");
    Ok(wanted)
}

/// That the component is where the manifest of the flavour says.
fn has_component(flavour: Flavour, root: &Path) -> Result<()> {
    let file = match flavour {
        Flavour::Spin => format!("target/{WASM_TARGET}/release/leeward.wasm"),
        _ => format!("target/flavours/{}/leeward.wasm", flavour.name()),
    };
    let path = root.join(&file);
    ensure!(
        path.is_file(),
        "there is no component at {file}, where the manifest of {} says; `cargo xtask build --flavour {0}` \
         builds it, if CARGO_TARGET_DIR is not set",
        flavour.name()
    );
    Ok(())
}

/// That nobody listens on the ports that nodes are to have.
fn free_ports(first: u16) -> Result<()> {
    for port in first..first.saturating_add(NODES) {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("port {port} cannot be used; name another --port, or none"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_spin_is_read() {
        for (text, version) in [
            ("spin 4.1.0-pre0 (94a8fc8 2026-08-21)", Some(Version(4, 1))),
            ("spin 3.4.1", Some(Version(3, 4))),
            ("spin 10.0.0", Some(Version(10, 0))),
            ("spin four", None),
            ("Spin Verification Tool 6.5.2", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text), version, "{text:?}");
        }
    }

    #[test]
    fn a_spin_too_old_for_a_flavour_is_refused_where_the_flavour_was_named() -> Result<()> {
        let all = ON_SPIN.map(|(flavour, _)| flavour);
        assert_eq!(wanted(&[], Version(4, 1))?, all);
        let old = [Flavour::FermyonCloud, Flavour::Akamai];
        assert_eq!(wanted(&[], Version(3, 6))?, old);
        assert_eq!(wanted(&old, Version(2, 0))?, old);
        for (named, version, says) in [
            (&[Flavour::Spin][..], Version(4, 0), "needs Spin 4.1"),
            (
                &[Flavour::Akamai, Flavour::SpinRedis],
                Version(3, 9),
                "needs Spin 4.1",
            ),
            (&[Flavour::Wasi], Version(4, 1), "does not run on Spin"),
            (&[], Version(1, 5), "no flavour runs on Spin 1.5"),
        ] {
            let error =
                wanted(named, version).map_or_else(|error| error.to_string(), |_| String::new());
            assert!(error.contains(says), "{named:?} {version}: {error}");
        }
        Ok(())
    }

    #[test]
    fn what_is_no_spin_is_refused_and_none_is_no_error() {
        let error = |program: &str| {
            let found = found(Some(Path::new(program)));
            found.map_or_else(|error| error.to_string(), |_| String::new())
        };
        assert!(error("/nowhere/spin").contains("cannot be started"));
        assert!(error("true").contains("is no Spin"));
    }

    #[test]
    fn a_busy_port_is_refused_before_anything_is_built() -> Result<()> {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = taken.local_addr()?.port();
        let error = free_ports(port).map_or_else(|error| error.to_string(), |()| String::new());
        assert!(
            error.contains(&format!("port {port} cannot be used")),
            "{error}"
        );
        Ok(())
    }

    #[test]
    fn a_missing_component_is_named() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for (flavour, _) in ON_SPIN {
            let missing = has_component(flavour, folder.path());
            let error = missing.map_or_else(|error| error.to_string(), |()| String::new());
            assert!(error.contains("leeward.wasm"), "{error}");
            assert!(error.contains(flavour.name()), "{error}");
        }
        Ok(())
    }
}
