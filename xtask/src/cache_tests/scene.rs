//! The suite's origin, and nodes in front of it on one store.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::Preset;
use super::suite::{Suite, home};
use super::turns::Turns;
use crate::build::{self, Built};
use crate::process::Beside;

/// How long the origin, and each node, may take to start.
const START: Duration = Duration::from_secs(60);

/// Everything that runs while the tests do. Dropped, it ends: first what is in
/// front.
#[derive(Debug)]
pub(super) struct Scene {
    address: SocketAddr,
    _turns: Option<Turns>,
    _nodes: Vec<Beside>,
    _origin: Beside,
    folder: TempDir,
}

impl Scene {
    /// Starts the suite's origin and so many nodes; with `show`, what the origin
    /// tells is shown.
    ///
    /// # Errors
    ///
    /// If one of them does not start.
    pub(super) fn start(
        suite: &Suite,
        built: &Built,
        preset: Preset,
        nodes: usize,
        show: bool,
    ) -> Result<Self> {
        let folder = tempfile::tempdir_in(home()?)?;
        let mut command = Command::new("node");
        command
            .arg("--no-warnings")
            .arg(suite.origin())
            .current_dir(&suite.folder)
            // As `npm run` would hand them over; port 0 is any free port.
            .env("npm_config_protocol", "http")
            .env("npm_config_port", "0")
            .env("npm_config_pidfile", folder.path().join("origin.pid"));
        let (origin, url) = Beside::start_until(&mut command, "Listening on ", START, show)
            .context("the suite's origin")?;
        let url = url.trim_end_matches('/');
        let port = url
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok())
            .with_context(|| format!("the suite's origin listens on {url}, which has no port"))?;
        let origin_address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));

        let (mut running, mut addresses) = (Vec::new(), Vec::new());
        for number in 1..=nodes.max(1) {
            let log = folder.path().join(format!("node-{number}.log"));
            let mut command = Command::new(&built.host);
            command
                .args(["up", "--listen", "127.0.0.1:0", "--component"])
                .arg(&built.component)
                .arg(format!("--origin=http://{origin_address}"))
                .arg(format!(
                    "--store=sqlite:{}",
                    folder.path().join("store.db").display()
                ))
                .arg("--config")
                .arg(configuration(preset))
                .stderr(File::create(&log)?);
            for variable in ["ORIGIN", "CONFIG", "ADMIN_TOKEN"] {
                command.env_remove(format!("SPIN_VARIABLE_{variable}"));
            }
            let started = Beside::start_until(&mut command, "Serving http://", START, false);
            let (node, address) = started.with_context(|| {
                // What it wrote says more than that it ended.
                fs::read_to_string(&log).unwrap_or_default()
            })?;
            running.push(node);
            let address = address.trim_end_matches('/');
            addresses.push(address.parse().with_context(|| address.to_owned())?);
        }
        let (turns, address) = match addresses.as_slice() {
            [address] => (None, *address),
            _ => {
                let turns = Turns::start(addresses).context("cannot listen")?;
                let address = turns.address();
                (Some(turns), address)
            }
        };
        Ok(Scene {
            address,
            _turns: turns,
            _nodes: running,
            _origin: origin,
            folder,
        })
    }

    /// Where requests go.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the nodes logged, one after the other.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(super) fn logs(&self) -> Result<String> {
        let mut text = String::new();
        for number in 1.. {
            let log = self.folder.path().join(format!("node-{number}.log"));
            if !log.exists() {
                break;
            }
            text += &format!("node {number}\n{}", fs::read_to_string(log)?);
        }
        Ok(text)
    }
}

/// The configuration that the suite is run with.
pub(super) fn configuration(preset: Preset) -> PathBuf {
    build::root().join(format!("tests/conformance/{preset}.toml"))
}
