//! One act: a load, the origin that it meets, and the nodes in between.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::admin;
use super::choice::Pages;
use super::curve::Curve;
use super::figures::Figures;
use super::load::Load;
use super::nodes::{self, Nodes};
use super::options::Args;
use super::progress::{self, Progress};
use super::tally::Tally;
use crate::origin::{Latency, Options, Origin};

/// How long the stand-in refuses connections after a crash.
const CRASH_FOR: Duration = Duration::from_secs(10);

/// `stale-while-revalidate` of the stand-in's responses.
const STALE_WHILE_REVALIDATE: Duration = Duration::from_secs(30);

/// Everything is purged after this part of a phase.
const PURGED_AFTER: f64 = 0.4;

/// The same load without the shield and with it.
#[derive(Clone, Debug)]
pub(super) struct Act<'a> {
    pub(super) args: &'a Args,
    /// What the phases are called while they run.
    pub(super) names: [&'static str; 2],
    pub(super) pages: Pages,
    pub(super) clients: u32,
    /// Length of each phase.
    pub(super) length: Duration,
    /// Time that each request takes at the origin.
    pub(super) latency: Duration,
    /// `max-age` of the origin's responses.
    pub(super) ttl: Duration,
    /// The nodes' configuration.
    pub(super) config: String,
}

/// What came of a phase.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) figures: Figures,
    pub(super) curve: Curve,
}

/// What came of a load without the shield and with it.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) direct: Phase,
    pub(super) shielded: Phase,
    /// The nodes that were lost, one sentence each.
    pub(super) losses: Vec<String>,
}

/// What came of a load during which everything was purged.
#[derive(Debug)]
pub(super) struct Purged {
    /// Until the purge.
    pub(super) before: Figures,
    /// From then on, with the curve of all of it.
    pub(super) after: Phase,
    /// When the purge was, in seconds.
    pub(super) at_seconds: f64,
    /// As of [`Sides`].
    pub(super) losses: Vec<String>,
}

impl Act<'_> {
    /// Runs the load without the shield and with it. `directory` is made.
    pub(super) async fn compare(
        &self,
        nodes: &mut Nodes,
        directory: &Path,
    ) -> anyhow::Result<Sides> {
        let [without, with] = self.names;
        let direct = {
            let origin = self.start_origin()?;
            let phase = self.phase(without, vec![origin.addr()], &origin, None);
            let (phase, _) = phase.await?;
            origin.stop().await;
            phase
        };
        let origin = self.start_origin()?;
        self.start_nodes(nodes, &origin, directory, None).await?;
        let (shielded, _) = self.phase(with, nodes.addrs(), &origin, None).await?;
        let losses = nodes.losses();
        nodes.stop().await;
        origin.stop().await;
        Ok(Sides {
            direct,
            shielded,
            losses,
        })
    }

    /// Runs the load through the nodes, and purges everything meanwhile. `directory` is made.
    pub(super) async fn purge(
        &self,
        nodes: &mut Nodes,
        directory: &Path,
    ) -> anyhow::Result<Purged> {
        let token = format!("{:032x}", fastrand::u128(..));
        let origin = self.start_origin()?;
        let started = self.start_nodes(nodes, &origin, directory, Some(&token));
        started.await?;
        let [_, with] = self.names;
        let phase = self.phase(with, nodes.addrs(), &origin, Some(&token));
        let (after, before) = phase.await?;
        let losses = nodes.losses();
        nodes.stop().await;
        origin.stop().await;
        Ok(Purged {
            before: before.context("the load ended before everything was purged")?,
            after,
            at_seconds: self.length.mul_f64(PURGED_AFTER).as_secs_f64(),
            losses,
        })
    }

    /// Sends the load to `targets` and says what came of it, for the visitors and for the
    /// origin. With the secret of the admin interface, everything is purged meanwhile: then it
    /// is about the time after that, and what came before is said as well.
    async fn phase(
        &self,
        name: &'static str,
        targets: Vec<SocketAddr>,
        origin: &Origin,
        token: Option<&str>,
    ) -> anyhow::Result<(Phase, Option<Figures>)> {
        let tally = Arc::new(Tally::new()?);
        let first = targets.first().copied();
        let load = Load {
            targets,
            pages: self.pages.clone(),
            clients: self.clients,
            length: self.length,
            think: self.args.think,
        };
        // The figures are about the load alone, not about the nodes' start.
        origin.reset_stats();
        let progress = Progress::start(name, load.length, !self.args.no_progress);
        let mut curve = Curve::new(load.longest());
        let mut before = None;
        {
            let mut run = pin!(load.run(&tally));
            let mut recording = pin!(curve.record(origin));
            let mut purging = pin!(async {
                let (Some(token), Some(node)) = (token, first) else {
                    return std::future::pending().await;
                };
                tokio::time::sleep(self.length.mul_f64(PURGED_AFTER)).await;
                let before = Figures::of(&tally, &origin.stats());
                tally.reset();
                origin.reset_stats();
                admin::purge_all(node, token).await?;
                anyhow::Ok(before)
            });
            loop {
                tokio::select! {
                    () = &mut run => break,
                    () = progress.due() => progress.show(&tally.counts(), &origin.stats()),
                    purged = &mut purging, if before.is_none() => {
                        before = Some(purged.context("cannot purge")?);
                        progress.note("everything is purged");
                    }
                    never = &mut recording => match never {},
                }
            }
        }
        progress.finish(&tally.counts(), &origin.stats());
        let figures = Figures::of(&tally, &origin.stats());
        Ok((Phase { figures, curve }, before))
    }

    fn start_origin(&self) -> anyhow::Result<Origin> {
        Origin::start(Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            capacity: self.args.capacity,
            latency: Latency::Fixed(self.latency),
            crash_for: CRASH_FOR,
            ttl: self.ttl,
            stale_while_revalidate: STALE_WHILE_REVALIDATE,
            announce: false,
        })
        .context("cannot start the origin")
    }

    async fn start_nodes(
        &self,
        nodes: &mut Nodes,
        origin: &Origin,
        directory: &Path,
        token: Option<&str>,
    ) -> anyhow::Result<()> {
        std::fs::create_dir(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let command = self.node_command(origin, directory, token)?;
        if !self.args.no_progress {
            progress::note(self.names[1], "starting the nodes");
        }
        nodes.start(self.args.nodes, &command, directory).await
    }

    /// The command line of one node: this very program.
    fn node_command(
        &self,
        origin: &Origin,
        directory: &Path,
        token: Option<&str>,
    ) -> anyhow::Result<nodes::Command> {
        let store = match &self.args.store {
            Some(store) => store.clone(),
            None => format!("sqlite:{}", directory.join("store.db").display()),
        };
        let config = directory.join("leeward.toml");
        std::fs::write(&config, &self.config)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let mut args: Vec<OsString> = ["up", "--origin"].map(Into::into).into();
        args.push(format!("http://{}", origin.addr()).into());
        args.extend(["--listen", "127.0.0.1:0", "--store", &store].map(Into::into));
        args.extend(["--config".into(), config.into()]);
        if let Some(token) = token {
            args.extend(["--admin-token".into(), token.into()]);
        }
        if let Some(component) = &self.args.component {
            args.extend(["--component".into(), component.into()]);
        }
        let program = std::env::current_exe().context("cannot find the path of this program")?;
        Ok(nodes::Command { program, args })
    }
}
