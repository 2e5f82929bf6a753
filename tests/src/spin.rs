//! Nodes on a real Spin: `spin up` processes, each with the flavour that a [`Platform`]
//! names, all on one store.
//!
//! `cargo xtask spin` finds Spin, builds the flavours, and runs the scenarios of
//! `src/bin/real-spin` on these nodes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use futures::future::join_all;
use rusqlite::{Connection, params};

use crate::nodes::Node;
use crate::origin::Origin;
use crate::redis::RedisServer;
use crate::stores::Store;
use crate::wait;

/// What a flavour keeps its cells in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A SQLite file.
    Sqlite,
    /// A Redis server.
    Redis,
}

/// What of Spin a flavour uses as its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    /// The key-value store `default`.
    KeyValue,
    /// The database `default`, or the address of a Redis.
    Direct,
}

/// A flavour of the component, and what keeps its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The flavour's name.
    pub flavour: &'static str,
    /// What keeps its cells.
    pub backend: Backend,
    binding: Binding,
}

impl Platform {
    /// Every flavour that runs on Spin, with every store that Spin offers it here.
    pub const ALL: [Platform; 7] = {
        use Backend::{Redis, Sqlite};
        use Binding::{Direct, KeyValue};
        const fn on(flavour: &'static str, backend: Backend, binding: Binding) -> Platform {
            Platform {
                flavour,
                backend,
                binding,
            }
        }
        [
            on("spin", Sqlite, KeyValue),
            on("spin", Redis, KeyValue),
            on("spin-sqlite", Sqlite, Direct),
            on("spin-redis", Redis, Direct),
            on("fermyon-cloud", Sqlite, Direct),
            on("akamai", Sqlite, KeyValue),
            on("akamai", Redis, Direct),
        ]
    };

    /// What it is called in tables.
    pub fn name(self) -> String {
        let Platform {
            flavour, backend, ..
        } = self;
        format!("`{flavour}`, {backend:?}").replace("Sqlite", "SQLite")
    }

    /// The same for a folder.
    fn folder(self) -> String {
        let Platform {
            flavour, backend, ..
        } = self;
        format!("{flavour}-{backend:?}").to_lowercase()
    }

    /// Whether an instance serves many requests, and remembers what it has read.
    pub fn has_memory(self) -> bool {
        self.flavour.starts_with("spin")
    }

    /// Whether the host connects to its store again as soon as the store is back. The
    /// client under Spin's key-value store on Redis waits for a minute or two.
    pub fn reconnects(self) -> bool {
        (self.flavour, self.backend) != ("spin", Backend::Redis)
    }

    /// The manifest below the root of the repository, and its profile.
    fn manifest(self) -> (&'static str, Option<&'static str>) {
        match self.flavour {
            "fermyon-cloud" => ("deploy/fermyon-cloud/spin.toml", None),
            "akamai" => ("deploy/akamai/spin.toml", None),
            "spin" => ("spin.toml", None),
            profile => ("spin.toml", Some(profile)),
        }
    }

    /// Settings that every scenario has: the rate of a cloud is not what is tested here.
    fn settings(self) -> &'static str {
        match self.flavour {
            "fermyon-cloud" => "origin.max_per_hour = 0\n",
            _ => "",
        }
    }

    /// The table with its cells, and the start of a statement that adds rows to it.
    fn table(self) -> (&'static str, &'static str) {
        match self.binding {
            Binding::KeyValue => (
                "spin_key_value",
                "INSERT INTO spin_key_value (store, key, value) VALUES ('default', ?1, x'00')",
            ),
            Binding::Direct => (
                "leeward",
                "INSERT INTO leeward (name, value) VALUES (?1, x'00')",
            ),
        }
    }
}

/// A Spin, and what its nodes run.
#[derive(Clone, Debug)]
pub struct Spin {
    /// The program.
    pub program: PathBuf,
    /// The root of the repository, with the manifests and the built components.
    pub sources: PathBuf,
    /// Where nodes keep their files and logs.
    pub folder: PathBuf,
    /// The port of the first node, the next ones follow; none for ports that the system
    /// chooses.
    pub port: Option<u16>,
}

/// Origin, store and nodes. Dropped, all of it is gone but the logs.
#[derive(Debug)]
pub struct SpinWorld {
    // Fields are dropped in order: nodes before the store they write to.
    nodes: Vec<Node>,
    /// The origin that the nodes shield.
    pub origin: Origin,
    /// The store that the nodes share.
    pub store: Store,
    platform: Platform,
    folder: PathBuf,
}

impl SpinWorld {
    /// Nodes with these settings, as TOML, beside the platform's own. `name` is part of
    /// their folder's name.
    ///
    /// # Panics
    ///
    /// If a node or the store does not start.
    pub async fn start(
        spin: &Spin,
        platform: Platform,
        nodes: usize,
        settings: &str,
        name: &str,
    ) -> Self {
        let origin = Origin::start();
        let store = match platform.backend {
            Backend::Sqlite => Store::Sqlite(tempfile::tempdir().unwrap()),
            Backend::Redis => Store::Redis(RedisServer::start().await),
        };
        let folder = spin.folder.join(format!("{}-{name}", platform.folder()));
        let settings = format!("{}{settings}", platform.settings());
        let command = |number: usize| {
            let folder = folder.join(format!("node-{number}"));
            fs::create_dir_all(&folder).unwrap();
            let mut command = spin_up(spin, platform, &folder, &store);
            command
                .env("SPIN_VARIABLE_ORIGIN", origin.url())
                .env("SPIN_VARIABLE_CONFIG", &settings);
            let number = u16::try_from(number).unwrap();
            let port = spin.port.map_or(0, |first| first.saturating_add(number));
            command.args(["--listen", &format!("127.0.0.1:{port}")]);
            command
        };
        // The first one compiles the component; Spin keeps that for the others.
        let first = Node::start_with_children(command(0)).await;
        let others = (1..nodes).map(|number| Node::start_with_children(command(number)));
        let mut nodes = vec![first];
        nodes.extend(join_all(others).await);
        SpinWorld {
            nodes,
            origin,
            store,
            platform,
            folder,
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

    /// The process of a node.
    pub fn process(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    /// Counts the keys or rows in the store. Waits for the store, so not for a task to
    /// call that others wait for.
    pub fn counter(&self) -> impl Fn() -> usize + Clone + Send + 'static {
        let (url, (table, _)) = (self.store.url(), self.platform.table());
        move || {
            if url.starts_with("redis:") {
                let mut connection = ::redis::Client::open(url.as_str())
                    .and_then(|client| client.get_connection())
                    .unwrap();
                return ::redis::cmd("DBSIZE").query(&mut connection).unwrap();
            }
            let count = format!("SELECT count(*) FROM {table}");
            let rows: i64 = open(&url).query_row(&count, [], |row| row.get(0)).unwrap();
            usize::try_from(rows).unwrap()
        }
    }

    /// Adds keys or rows that are not Leeward's.
    pub fn add_keys(&self, number: usize) {
        let names = (0..number).map(|number| format!("stranger-{number:08}"));
        match &self.store {
            Store::Redis(server) => {
                let mut pipe = ::redis::pipe();
                for name in names {
                    pipe.set(name, "0").ignore();
                }
                let mut connection = server.connection().unwrap();
                pipe.query::<()>(&mut connection).unwrap();
            }
            Store::Sqlite(_) | Store::Memory => {
                let mut connection = self.sqlite();
                let adding = connection.transaction().unwrap();
                let (_, insert) = self.platform.table();
                for name in names {
                    adding.execute(insert, params![name]).unwrap();
                }
                adding.commit().unwrap();
            }
        }
    }

    /// A connection to the nodes' SQLite file.
    ///
    /// # Panics
    ///
    /// If the store is no SQLite file.
    pub fn sqlite(&self) -> Connection {
        open(&self.store.url())
    }
}

impl Drop for SpinWorld {
    fn drop(&mut self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let text = format!("{}\n{}\n", node.output(), node.errors());
            let file = self.folder.join(format!("node-{number}/spin.txt"));
            if let Err(error) = fs::write(&file, text) {
                eprintln!("{} was not written: {error}", file.display());
            }
        }
    }
}

/// A `spin up` of the platform's flavour on this store, without an address.
fn spin_up(spin: &Spin, platform: Platform, folder: &Path, store: &Store) -> Command {
    let mut command = Command::new(&spin.program);
    let (manifest, profile) = platform.manifest();
    command.arg("up").arg("-f").arg(spin.sources.join(manifest));
    if let Some(profile) = profile {
        command.args(["--profile", profile]);
    }
    // Of the developer's own variables none is to reach the component.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SPIN_") {
            command.env_remove(name);
        }
    }
    command.arg("--state-dir").arg(folder.join("state"));
    command.arg("--temp").arg(folder.join("temporary"));
    if let Some(binding) = runtime_config(platform, store) {
        let file = folder.join("runtime-config.toml");
        fs::write(&file, binding).unwrap();
        command.arg("--runtime-config-file").arg(file);
    } else {
        for variable in ["REDIS_ADDRESS", "REDIS_HOST"] {
            command.env(format!("SPIN_VARIABLE_{variable}"), store.url());
        }
    }
    command
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null());
    command
}

/// Where Spin finds the store; none if the component itself is told.
fn runtime_config(platform: Platform, store: &Store) -> Option<String> {
    let (section, kind) = match (platform.binding, platform.backend) {
        (Binding::Direct, Backend::Redis) => return None,
        (Binding::Direct, Backend::Sqlite) => ("sqlite_database", "spin"),
        (Binding::KeyValue, Backend::Sqlite) => ("key_value_store", "spin"),
        (Binding::KeyValue, Backend::Redis) => ("key_value_store", "redis"),
    };
    let place = match platform.backend {
        Backend::Redis => format!("url = {:?}", store.url()),
        Backend::Sqlite => format!("path = {:?}", sqlite_file(&store.url())),
    };
    Some(format!("[{section}.default]\ntype = {kind:?}\n{place}\n"))
}

fn open(url: &str) -> Connection {
    let connection = Connection::open(sqlite_file(url)).unwrap();
    connection.busy_timeout(wait::SOON).unwrap();
    connection
}

fn sqlite_file(url: &str) -> &str {
    url.strip_prefix("sqlite:").expect("a store in a file")
}
