//! An origin, a store, and the nodes between: what a test of the shield needs.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use futures::future::join_all;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::client::{Reply, get};
use crate::nodes::{self, Node};
use crate::origin::Origin;
use crate::stores::{Store, StoreKind};
use crate::wait;

/// How many worlds there may be at a time: a world is several processes, which
/// must get their share of the processors to keep their leases. They wait most of the time:
/// with two worlds two processors were idle for two thirds of it.
static WORLDS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(worlds()));

fn worlds() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (processors * 3 / 2).max(3)
}

/// The settings that the scenarios run with.
///
/// Nothing is left to chance (no jitter, no early refresh), leases and backoff
/// are short so that many of them fit into a test, and nobody gives up waiting.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `preset`.
    pub preset: &'static str,
    /// `lease.duration`: long enough that a node which gets little processor
    /// time still renews its lease.
    pub lease: Duration,
    /// `lease.clock_skew`.
    pub clock_skew: Duration,
    /// `origin.retry.first`.
    pub retry_first: Duration,
    /// `origin.retry.max`.
    pub retry_max: Duration,
    /// `origin.max_concurrency`; none for the default.
    pub budget: Option<usize>,
    /// `origin.max_per_hour`; none for the default.
    pub per_hour: Option<usize>,
    /// `origin.connection_auth`; none for the default.
    pub connection_auth: Option<&'static str>,
    /// `wait.budget`.
    pub wait: Duration,
    /// Further settings: whole sections, as TOML.
    pub more: &'static str,
    /// The secret of the admin interface; none for no such interface.
    pub admin_token: Option<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            preset: "uptime",
            lease: Duration::from_millis(2000),
            clock_skew: Duration::from_millis(100),
            retry_first: Duration::from_millis(200),
            retry_max: Duration::from_millis(1000),
            budget: None,
            per_hour: None,
            connection_auth: None,
            wait: Duration::from_secs(60),
            more: "",
            admin_token: None,
        }
    }
}

impl Settings {
    /// As TOML.
    pub(crate) fn text(&self) -> String {
        let Settings {
            preset,
            lease,
            clock_skew,
            retry_first,
            retry_max,
            budget,
            per_hour,
            connection_auth,
            wait,
            more,
            admin_token: _,
        } = self;
        let connection_auth = connection_auth.map_or(String::new(), |word| {
            format!("connection_auth = \"{word}\"")
        });
        let budget = budget.map_or(String::new(), |budget| {
            format!("max_concurrency = {budget}")
        });
        let per_hour = per_hour.map_or(String::new(), |requests| {
            format!("max_per_hour = {requests}")
        });
        format!(
            r#"
preset = "{preset}"

[freshness]
default_ttl = "60s"
stale_while_revalidate = "1h"
stale_if_error = "1h"
jitter = 0.0
early_refresh = false

[lease]
duration = "{}ms"
clock_skew = "{}ms"

[origin]
connect_timeout = "30s"
first_byte_timeout = "60s"
retry = {{ first = "{}ms", max = "{}ms" }}
{budget}
{per_hour}
{connection_auth}

[wait]
budget = "{}ms"

{more}
"#,
            lease.as_millis(),
            clock_skew.as_millis(),
            retry_first.as_millis(),
            retry_max.as_millis(),
            wait.as_millis()
        )
    }
}

/// Origin, store and nodes. Dropped, all of it is gone.
#[derive(Debug)]
pub struct World {
    // Fields are dropped in order: nodes before the store they write to.
    nodes: Vec<Node>,
    /// The origin that the nodes shield.
    pub origin: Origin,
    /// The store that the nodes share.
    pub store: Arc<Store>,
    /// What the nodes are set to.
    pub settings: Settings,
    _directory: TempDir,
    /// None for a world [beside](World::beside) another, which has one.
    _turn: Option<SemaphorePermit<'static>>,
}

impl World {
    /// A world on a store of this kind, with as many nodes as it says.
    pub async fn start(kind: StoreKind) -> Self {
        Self::start_with(kind, Settings::default()).await
    }

    /// The same, with other settings.
    pub async fn start_with(kind: StoreKind, settings: Settings) -> Self {
        let turn = turn().await;
        Self::build(
            Arc::new(kind.make().await),
            kind.behaviour(),
            kind.nodes(),
            settings,
            &[],
            Some(turn),
        )
        .await
    }

    /// The same, with no other world beside it: for thousands of visitors at once.
    pub async fn start_alone(kind: StoreKind, settings: Settings) -> Self {
        let all = u32::try_from(worlds()).unwrap_or(1);
        let turn = WORLDS
            .acquire_many(all)
            .await
            .expect("the semaphore is never closed");
        Self::build(
            Arc::new(kind.make().await),
            kind.behaviour(),
            kind.nodes(),
            settings,
            &[],
            Some(turn),
        )
        .await
    }

    /// A world of this number of nodes on a store of this kind.
    pub async fn of(kind: StoreKind, nodes: usize, settings: Settings) -> Self {
        let turn = turn().await;
        let store = Arc::new(kind.make().await);
        Self::build(store, kind.behaviour(), nodes, settings, &[], Some(turn)).await
    }

    /// A world of this number of nodes on this store, which does what the contract says.
    pub async fn on(store: Store, nodes: usize, settings: Settings) -> Self {
        let turn = turn().await;
        Self::build(Arc::new(store), "exact", nodes, settings, &[], Some(turn)).await
    }

    /// Another world on the store of this one, with the same settings, an origin
    /// of its own and one node.
    pub async fn beside(&self) -> Self {
        Self::build(
            Arc::clone(&self.store),
            "exact",
            1,
            self.settings.clone(),
            &[],
            None,
        )
        .await
    }

    /// A world of one node that keeps its store in memory.
    pub async fn single() -> Self {
        Self::single_with(Settings::default(), &[]).await
    }

    /// The same, with other settings and further arguments for the node.
    pub async fn single_with(settings: Settings, arguments: &[&str]) -> Self {
        let turn = turn().await;
        let store = Arc::new(Store::Memory);
        Self::build(store, "exact", 1, settings, arguments, Some(turn)).await
    }

    /// A world of nodes with the flavour for a cloud, under the limits of that cloud, with
    /// HTTP as Spin has it, and with these settings, as TOML.
    pub async fn for_cloud(flavour: &str, store: Store, nodes: usize, settings: &str) -> Self {
        let turn = turn().await;
        let up = || {
            let mut command = nodes::up_as(flavour);
            command.args(["--limits", flavour, "--http-behaviour", "spin"]);
            command
        };
        let store = Arc::new(store);
        let defaults = Settings::default();
        let behaviour = "exact";
        Self::made_of(up, (store, behaviour), nodes, (defaults, settings), turn).await
    }

    async fn build(
        store: Arc<Store>,
        behaviour: &str,
        nodes: usize,
        settings: Settings,
        arguments: &[&str],
        turn: Option<SemaphorePermit<'static>>,
    ) -> Self {
        let token = settings.admin_token;
        let up = || {
            let mut command = nodes::up();
            command.args(arguments);
            if let Some(token) = token {
                command.args(["--admin-token", token]);
            }
            command
        };
        let text = settings.text();
        Self::made_of(up, (store, behaviour), nodes, (settings, &text), turn).await
    }

    async fn made_of(
        up: impl Fn() -> Command,
        (store, behaviour): (Arc<Store>, &str),
        nodes: usize,
        (settings, text): (Settings, &str),
        turn: impl Into<Option<SemaphorePermit<'static>>>,
    ) -> Self {
        let origin = Origin::start();
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("leeward.toml");
        fs::write(&config, text).unwrap();
        let command = || -> Command {
            let mut command = up();
            command.current_dir(directory.path());
            command.args([
                "--origin",
                &origin.url(),
                "--store",
                &store.url(),
                "--store-behaviour",
                behaviour,
            ]);
            command.arg("--config").arg(&config);
            command
        };
        let nodes = join_all((0..nodes).map(|_| Node::start(command()))).await;
        World {
            nodes,
            origin,
            store,
            settings,
            _directory: directory,
            _turn: turn.into(),
        }
    }

    /// The node with this number, from 0.
    pub fn node(&self, number: usize) -> SocketAddr {
        self.nodes[number].address()
    }

    /// All nodes.
    pub fn all(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// All nodes but number 0, which is the one that meets with an accident.
    pub fn others(&self) -> Vec<SocketAddr> {
        self.all().split_off(1)
    }

    /// The process of a node.
    pub fn process(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    /// What a node wrote to its log, the last few hundred lines.
    pub fn errors(&self, number: usize) -> String {
        self.nodes[number].errors()
    }

    /// Long enough for whatever must happen within a lease time, on a machine
    /// that is busy.
    pub fn some_leases(&self) -> Duration {
        self.settings.lease * 5 + wait::SOON
    }

    /// Waits until each of these nodes answers with a fresh entry of this body.
    pub async fn until_fresh(&self, nodes: &[SocketAddr], path: &str, body: &str) {
        for node in nodes {
            let what = format!("{node} answers {path} with {body:?}, fresh");
            wait::until(&what, self.some_leases(), async || {
                let reply = get(*node, path).await;
                (reply.is_fresh_hit() && reply.body == body).then_some(())
            })
            .await;
        }
    }

    /// Has node 0 fetch `path`, whose scripted answer is fresh for `seconds`, and
    /// lets it expire. Returns the answer.
    pub async fn fill_and_expire(&self, path: &str, seconds: u64) -> Reply {
        let reply = get(self.node(0), path).await;
        let answered = std::time::Instant::now();
        wait::until_past(answered + Duration::from_secs(seconds)).await;
        reply
    }
}

async fn turn() -> SemaphorePermit<'static> {
    WORLDS
        .acquire()
        .await
        .expect("the semaphore is never closed")
}
