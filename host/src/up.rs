//! `leeward up`: runs the component on this machine.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::ClientConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::address::Address;
use crate::drain::Stop;
use crate::guest::{Guest, RedisServers, Services, Variables};
use crate::http_behaviour::HttpBehaviour;
use crate::instances::Instances;
use crate::limits::{Limiter, Platform};
use crate::outbound::{Outbound, Quota, Route, client_config};
use crate::pid::PidFile;
use crate::reload::{Reload, Site};
use crate::server::ClientOptions;
use crate::settings::{self, Settings};
use crate::store::{self, Behaviour, Database, Shares, Store};
use crate::tls::{self, Tls, TlsOptions};
use crate::{descriptors, notify, observe, reach, report, server};

/// The options of `leeward up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// URL of the server to protect, such as http://10.0.0.5:8080
    /// [else: the environment variable SPIN_VARIABLE_ORIGIN]
    #[arg(long, value_name = "URL")]
    pub(crate) origin: Option<String>,

    /// Where the server is, if not at the address in --origin. Requests keep the
    /// host name of --origin, and so does the check of the certificate
    /// [else: the environment variable LEEWARD_CONNECT]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) connect: Option<String>,

    /// Address to listen on; port 0 takes any free port. May be given more than once
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub(crate) listen: Vec<SocketAddr>,

    /// Where responses are stored: sqlite:PATH, redis://HOST:PORT[/DB],
    /// rediss://HOST:PORT[/DB] for Redis over TLS, or memory. Nodes with the same
    /// store work as one. A component that uses a SQLite database has it in the same
    /// file. One that connects to Redis by itself may connect to the server named here,
    /// or to that in SPIN_VARIABLE_REDIS_ADDRESS [else: the environment variable
    /// LEEWARD_STORE, which does not show a password in the list of processes; default:
    /// sqlite:.leeward/store.db]
    // Not a `Location`: clap would repeat a wrong value, password included.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,

    /// How long a stored value that is not written again stays in Redis. Each
    /// write restarts the time. It has to be longer than responses are served while
    /// the origin is down
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = expiry)]
    pub(crate) redis_expiry: Duration,

    /// Configuration file [else: the text in SPIN_VARIABLE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// File for the process id of this node, for `leeward reload --pid-file`
    #[arg(long, value_name = "PATH")]
    pub(crate) pid_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    /// Trust the certificates in this file, in PEM, for an https origin, besides the authorities of this
    /// machine: that of a company's authority, or a self-signed one of the origin
    #[arg(long, value_name = "FILE")]
    pub(crate) origin_ca: Option<PathBuf>,

    #[command(flatten, next_help_heading = "What to watch")]
    pub(crate) observe: observe::Options,

    #[command(flatten, next_help_heading = "Limits for clients")]
    pub(crate) clients: ClientOptions,

    /// Fail where this platform would, to try an application before it is deployed:
    /// sizes of keys, values, bodies and the database, the time of a request, rates, and
    /// requests to the origin an hour. A component that asks for an interface which the
    /// platform lacks is refused
    #[arg(long, value_name = "PLATFORM", value_enum, default_value_t = Platform::None)]
    pub(crate) limits: Platform,

    /// The secret of the admin interface. Others on this machine may see it: better use the
    /// environment variable SPIN_VARIABLE_ADMIN_TOKEN
    #[arg(long, value_name = "TOKEN")]
    pub(crate) admin_token: Option<String>,

    /// The component to run [default: the one in this program, else leeward.wasm as built beside it]
    #[arg(long, value_name = "FILE")]
    pub(crate) component: Option<PathBuf>,

    /// Has no effect: the host always starts without the origin. Accepted so
    /// that existing service files keep working
    #[arg(long = "allow-unreachable-origin", hide = true)]
    pub(crate) _allow_unreachable_origin: bool,

    /// Replace an instance of the component after N requests
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive, hide = true)]
    pub(crate) max_instance_reuse_count: usize,

    /// Give an instance of the component at most N requests at once
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive, hide = true)]
    pub(crate) max_instance_concurrent_reuse_count: usize,

    /// End an instance of the component after this time without requests
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration, hide = true)]
    pub(crate) idle_instance_timeout: Duration,

    /// Imitate the key-value store of a platform
    #[arg(long, value_enum, default_value_t = Behaviour::Exact, hide = true)]
    pub(crate) store_behaviour: Behaviour,

    /// Imitate how a platform treats requests and answers
    #[arg(long, value_enum, default_value_t = HttpBehaviour::Own, hide = true)]
    pub(crate) http_behaviour: HttpBehaviour,

    /// Show what other nodes write to the key-value store only after this time, as a
    /// store that is replicated between regions does. Such a store has no swaps
    #[arg(long, value_name = "DURATION", value_parser = duration, hide = true)]
    pub(crate) replication_delay: Option<Duration>,
}

pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a whole number, at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// Shortest time for `--redis-expiry`: with less, nothing would be left when the
/// origin is down for longer.
const REDIS_EXPIRY_MIN: Duration = Duration::from_secs(60 * 60);

/// Longest time for `--redis-expiry`.
const REDIS_EXPIRY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

fn expiry(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if (REDIS_EXPIRY_MIN..=REDIS_EXPIRY_MAX).contains(&time) => Ok(time),
        _ => Err("write a time from 1h to 3650d, such as 30d".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a time such as 500ms, 1s or 2m".to_owned())
}

/// Runs `leeward up`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = args.observe.clone();
    let settings = Settings::new(args, settings::environment)?;
    // From here on signals are not lost: one that comes early is handled as
    // soon as there is something to stop.
    let stop = Stop::listen().context("cannot listen for signals")?;
    let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    observe::start(options).await?;
    settings.configuration.warn();

    let tls = Tls::new(&settings.tls)?;
    let trust = client_config(match &settings.origin_ca {
        Some(path) => tls::certificates(path, "--origin-ca")?,
        None => Vec::new(),
    })?;
    let files = descriptors::raise_limit();
    let limiter = Limiter::new(settings.platform);
    let shares = Shares::from(settings.configuration.share);
    let store = open_store(&settings, &limiter, &shares).await;
    let listeners = listen(&settings.listen).await?;
    let _pid_file = match &settings.pid_file {
        Some(path) => Some(PidFile::write(path)?),
        None => None,
    };

    let redis_address = settings.redis_address();
    let services = Services {
        outbound: outbound(&settings, trust.clone(), &limiter, &store)?,
        store,
        database: Database::new(&settings.store, limiter.clone()),
        redis: RedisServers::new(redis_address),
        variables: Variables::new(settings.variables),
        limiter: limiter.clone(),
    };
    let guest = Guest::load(&settings.component, services)?;
    let instances = Instances::new(guest, settings.reuse, limiter.clone());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let site = Site::new(instances, settings.configuration.request_body, tls);
    site.start(settings.configuration.warms);
    let reload = Reload {
        config: settings.config,
        site: Arc::clone(&site),
        shares,
    };
    tokio::spawn(reload.at_each(hangup));
    announce(&listeners, scheme).context("cannot write to standard output")?;
    notify::ready();
    // Nothing waits for this: what is stored is served at once.
    tokio::spawn(async move {
        if let Err(error) =
            reach::try_origin(&settings.origin, settings.connect.as_ref(), trust).await
        {
            report::event(
                "origin-unreachable",
                format_args!("{error:#}. Stored responses are served meanwhile"),
            );
        }
    });
    let limits = server::Limits {
        clients: settings.clients,
        files,
        behaviour: settings.http_behaviour,
        platform: limiter,
    };
    server::serve(listeners, site, limits, stop).await;
    observe::finish().await;
    Ok(ExitCode::SUCCESS)
}

/// The store, with what stands before it. One that cannot be used now is no reason not to
/// start.
async fn open_store(settings: &Settings, limiter: &Limiter, shares: &Shares) -> Store {
    let store = store::open(
        &settings.store,
        settings.store_behaviour,
        settings.redis_expiry,
    );
    let store = match settings.replication_delay {
        Some(delay) => store.delayed(delay),
        None => store,
    };
    let store = match settings.stands_in() {
        true => store.standing_in(shares.clone()),
        false => store,
    };
    let store = store.limited(limiter.clone());
    if let Err(error) = store.check_itself().await {
        report::event(
            "store-unusable",
            format_args!(
                "the store {} cannot be used now ({error}); until it can, every node caches in its \
                 own memory",
                settings.store
            ),
        );
    }
    store
}

/// What sends the requests to the origin.
fn outbound(
    settings: &Settings,
    trust: ClientConfig,
    limiter: &Limiter,
    store: &Store,
) -> anyhow::Result<Outbound> {
    let route = match &settings.connect {
        Some(connect) => {
            let route = Route::new(Address::of_origin(&settings.origin), connect);
            Some(route.with_context(|| format!("cannot connect to {connect}"))?)
        }
        None => None,
    };
    let outbound = Outbound::with(route, trust)?.behaving(settings.http_behaviour);
    Ok(match limiter.limits().outbound_per_hour {
        Some(_) => outbound.limited(Quota::new(limiter.clone(), store.clone())),
        None => outbound,
    })
}

/// Listens on all of these addresses, or on none.
async fn listen(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address}; write another --listen ADDRESS:PORT, port 0 for any \
                 free port"
            )
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Tells the process that started this one where requests are answered.
fn announce(listeners: &[TcpListener], scheme: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for listener in listeners {
        writeln!(out, "Serving {scheme}://{}", listener.local_addr()?)?;
    }
    out.flush()
}
