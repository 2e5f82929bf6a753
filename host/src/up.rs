//! `leeward up`: runs the component on this machine.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::guest::{Guest, Variables};
use crate::instances::Instances;
use crate::origin::signals::Signals;
use crate::outbound::Outbound;
use crate::settings::{self, Settings};
use crate::store::{self, Behaviour, Location};
use crate::{descriptors, reach, server};

/// What `leeward up` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the server to protect, such as http://10.0.0.5:8080
    /// [else: the environment variable SPIN_VARIABLE_ORIGIN]
    #[arg(long, value_name = "URL")]
    pub(crate) origin: Option<String>,

    /// Address to listen on; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub(crate) listen: SocketAddr,

    /// Where cells are kept: sqlite:PATH, redis://HOST:PORT[/DB] or memory.
    /// Nodes with the same store work as one
    #[arg(long, value_name = "STORE", default_value = "sqlite:.leeward/store.db")]
    pub(crate) store: Location,

    /// File with the configuration [else: the text in SPIN_VARIABLE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Secret that admin requests must carry [else: SPIN_VARIABLE_ADMIN_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) admin_token: Option<String>,

    /// The component to run [default: leeward.wasm as built beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) component: Option<PathBuf>,

    /// Start although the origin does not answer now
    #[arg(long)]
    pub(crate) allow_unreachable_origin: bool,

    /// Requests that an instance of the component is given in its life
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive)]
    pub(crate) max_instance_reuse_count: usize,

    /// Requests that an instance of the component is given at once
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    pub(crate) max_instance_concurrent_reuse_count: usize,

    /// How long an instance of the component lives on with nothing to do
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub(crate) idle_instance_timeout: Duration,

    /// Make the store answer as a platform's own store does
    #[arg(long, value_enum, default_value_t = Behaviour::Exact)]
    pub(crate) store_behaviour: Behaviour,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a whole number from 1 on".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a time such as 500ms, 1s or 2m".to_owned())
}

/// Runs `leeward up`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let settings = Settings::new(args, settings::environment)?;
    // From here on a signal waits until there is something to stop.
    let mut signals = Signals::listen().context("cannot listen for signals")?;

    descriptors::raise_limit();
    if let Err(error) = reach::try_origin(&settings.origin).await {
        if !settings.allow_unreachable_origin {
            return Err(error);
        }
        eprintln!("warning: {error:#}");
    }
    let store = store::open(&settings.store, settings.store_behaviour);
    if let Err(error) = store.check().await {
        eprintln!(
            "warning: the store {} cannot be used now ({error}); every node caches for itself \
             until it can",
            settings.store
        );
    }
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; write another --listen ADDRESS:PORT, port 0 for any free port",
            settings.listen
        )
    })?;
    let address = listener.local_addr().context("cannot listen")?;

    let guest = Guest::load(
        &settings.component,
        store,
        Variables::new(settings.variables),
        Outbound::new()?,
    )?;
    let instances = Instances::new(guest, settings.reuse);
    announce(address).context("cannot write to standard output")?;
    server::serve(listener, instances, signals.stop()).await;
    Ok(ExitCode::SUCCESS)
}

/// Tells who started us that requests are answered from now on.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Serving http://{address}")?;
    out.flush()
}
