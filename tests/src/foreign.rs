//! Nodes with other flavours of the component: on the programs of other WASI hosts
//! (`wasmtime serve`, and wasmCloud's `wash dev`), and on the embedded host.
//!
//! `cargo xtask test` gets the programs and builds the flavours of the component.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use futures::future::join_all;
use tempfile::TempDir;

use crate::nats::NatsServer;
use crate::nodes::{self, Node};
use crate::origin::Origin;
use crate::redis::{RedisServer, free_port};
use crate::world::Settings;

/// The bucket that the flavour `wasmcloud` opens.
const BUCKET: &str = "leeward";

/// The component without imports and exports. `wash dev` wants one, and keeps
/// instances only of those beside it.
const NOTHING: &[u8] = b"\0asm\x0d\0\x01\0";

/// How many nodes of the embedded host share a store.
const NODES: usize = 4;

/// Where the nodes keep the cells.
#[derive(Debug)]
pub enum Backend {
    /// A SQLite file; not for wasmCloud.
    Sqlite(TempDir),
    /// Redis.
    Redis(RedisServer),
    /// NATS JetStream.
    Nats(NatsServer),
}

impl Backend {
    /// A SQLite file of the test's own.
    pub fn sqlite() -> Self {
        Backend::Sqlite(tempfile::tempdir().unwrap())
    }

    /// A Redis server of the test's own.
    pub async fn redis() -> Self {
        Backend::Redis(RedisServer::start().await)
    }

    /// A NATS server of the test's own.
    pub async fn nats() -> Self {
        Backend::Nats(NatsServer::start(BUCKET).await)
    }

    /// What it is called, and its URL.
    fn config(&self) -> (&'static str, String) {
        match self {
            Backend::Sqlite(directory) => {
                let file = directory.path().join("store.db");
                ("sqlite", format!("sqlite:{}", file.display()))
            }
            Backend::Redis(server) => ("redis", server.url()),
            Backend::Nats(server) => ("nats", server.url()),
        }
    }
}

/// Origin and nodes. Dropped, all of it is gone.
#[derive(Debug)]
pub struct ForeignWorld {
    // Fields are dropped in order: nodes before the store they write to.
    nodes: Vec<Node>,
    /// The origin that the nodes shield.
    pub origin: Origin,
    /// What the nodes are set to.
    pub settings: Settings,
    _backend: Option<Backend>,
    _directories: Vec<TempDir>,
}

impl ForeignWorld {
    /// One `wasmtime serve`, which has no store.
    pub async fn wasmtime(settings: Settings) -> Self {
        let origin = Origin::start();
        let address = free_address();
        let mut command = program("LEEWARD_WASMTIME");
        command
            .args(["serve", "-S", "cli", "--addr", &address.to_string()])
            // Instances live as long as the test, and serve whoever comes.
            .args(["--idle-instance-timeout", "600s"])
            .args(["--max-instance-reuse-count", "1000000"])
            .args(["--max-instance-concurrent-reuse-count", "1000"])
            .arg("--env")
            .arg(format!("LEEWARD_ORIGIN={}", origin.url()))
            .arg("--env")
            .arg(format!("LEEWARD_CONFIG={}", settings.text()))
            .arg(nodes::built_flavour("wasi"));
        let node = Node::start_at(command, address, "Serving HTTP on").await;
        ForeignWorld {
            nodes: vec![node],
            origin,
            settings,
            _backend: None,
            _directories: Vec::new(),
        }
    }

    /// Nodes of the embedded host with this flavour, on one store.
    pub async fn embedded(flavour_name: &str, backend: Backend, settings: Settings) -> Self {
        let origin = Origin::start();
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("leeward.toml");
        fs::write(&config, settings.text()).unwrap();
        let (_, store) = backend.config();
        let starting = (0..NODES).map(|_| {
            let mut command = nodes::up_with(&nodes::built_flavour(flavour_name));
            command
                .current_dir(directory.path())
                .args(["--origin", &origin.url(), "--store", &store, "--config"])
                .arg(&config);
            Node::start(command)
        });
        let nodes = join_all(starting).await;
        ForeignWorld {
            nodes,
            origin,
            settings,
            _backend: Some(backend),
            _directories: vec![directory],
        }
    }

    /// Two `wash dev` on one store.
    pub async fn wasmcloud(backend: Backend, settings: Settings) -> Self {
        let origin = Origin::start();
        let directories: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
        let starting = directories.iter().map(|directory| {
            let address = free_address();
            let config = wash_config(address, &origin, &settings, &backend);
            let folder = directory.path().join(".wash");
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("config.yaml"), config).unwrap();
            fs::write(directory.path().join("nothing.wasm"), NOTHING).unwrap();
            let mut command = program("LEEWARD_WASH");
            command
                .args(["--non-interactive", "dev"])
                .current_dir(directory.path())
                .env("HOME", directory.path());
            Node::start_at(command, address, "listening for HTTP requests")
        });
        let nodes = join_all(starting).await;
        ForeignWorld {
            nodes,
            origin,
            settings,
            _backend: Some(backend),
            _directories: directories,
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

    /// How many instances of the component the host of `wasi` has begun.
    pub fn instances(&self) -> usize {
        let lines = |node: &Node| [node.output(), node.errors()].join("\n");
        let started = |text: String| text.matches("store-in-memory").count();
        self.nodes.iter().map(lines).map(started).sum()
    }
}

/// What `wash dev` is told in its folder.
fn wash_config(
    address: SocketAddr,
    origin: &Origin,
    settings: &Settings,
    backend: &Backend,
) -> String {
    let (backend, url) = backend.config();
    // Rust's escapes are YAML's.
    let (component, config) = (nodes::built_flavour("wasmcloud"), settings.text());
    let origin = origin.url();
    format!(
        r#"
build:
  command: "true"
  component_path: nothing.wasm
dev:
  address: "{address}"
  components:
    - name: leeward
      file: {component:?}
      poolSize: 1
      maxConcurrency: 1000
      allowedHosts: ["{origin}"]
      environment:
        config:
          LEEWARD_ORIGIN: "{origin}"
          LEEWARD_CONFIG: {config:?}
  host_interfaces:
    - namespace: wasmcloud
      package: keyvalue
      interfaces: [store, cas]
      version: 0.2.0
      config:
        backend: {backend}
        url: "{url}"
"#
    )
}

fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()))
}

/// The program that a variable names.
fn program(variable: &str) -> Command {
    let path = std::env::var_os(variable).unwrap_or_else(|| {
        panic!("{variable} is not set; `cargo xtask test` gets the program and runs these tests")
    });
    let mut command = Command::new(path);
    command.env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command
}
