//! The settings of `leeward up`: options, environment variables and the
//! configuration file are read and checked here, once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use leeward::config::{Config, Origin};

use crate::address::Address;
use crate::guest::Component;
use crate::http_behaviour::HttpBehaviour;
use crate::instances::Reuse;
use crate::limits::Platform;
use crate::report;
use crate::server::ClientOptions;
use crate::store::{Behaviour, Location, Share};
use crate::tls::TlsOptions;
use crate::up::Args;

/// Environment variables in which Spin and this host take the variables of the
/// component.
const ENV_ORIGIN: &str = "SPIN_VARIABLE_ORIGIN";
const ENV_CONFIG: &str = "SPIN_VARIABLE_CONFIG";
const ENV_ADMIN_TOKEN: &str = "SPIN_VARIABLE_ADMIN_TOKEN";
const ENV_REDIS_ADDRESS: &str = "SPIN_VARIABLE_REDIS_ADDRESS";

/// The variable with the address of the Redis server that the component connects to by
/// itself. It is undefined where there is none.
const REDIS_ADDRESS: &str = "redis_address";

/// Environment variable for `--connect`. Spin has no such setting.
const ENV_CONNECT: &str = "LEEWARD_CONNECT";

/// Environment variable for `--store`. Spin has a file for such settings.
const ENV_STORE: &str = "LEEWARD_STORE";

/// Where the store is if nothing says so.
const DEFAULT_STORE: &str = "sqlite:.leeward/store.db";

/// Stands in messages for a user name and a password.
const HIDDEN: &str = "***";

/// Name of the component's file.
const COMPONENT: &str = "leeward.wasm";

/// Path to the file that cargo builds, from the directory of this program.
const COMPONENT_FROM_PROGRAM: &str = "../wasm32-wasip2/release/leeward.wasm";

/// The checked settings.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The server to protect.
    pub(crate) origin: Origin,
    /// Where to connect to instead of the address in the origin's URL.
    pub(crate) connect: Option<Address>,
    /// Where to listen.
    pub(crate) listen: Vec<SocketAddr>,
    /// The certificate for visitors.
    pub(crate) tls: TlsOptions,
    /// The certificates that are trusted for the origin.
    pub(crate) origin_ca: Option<PathBuf>,
    /// Where the process id is written to.
    pub(crate) pid_file: Option<PathBuf>,
    /// Where the store is.
    pub(crate) store: Location,
    /// The platform whose store is imitated.
    pub(crate) store_behaviour: Behaviour,
    /// The platform whose HTTP is imitated.
    pub(crate) http_behaviour: HttpBehaviour,
    /// How long a value stays in Redis after it was written.
    pub(crate) redis_expiry: Duration,
    /// After which time writes to the store show on other nodes.
    pub(crate) replication_delay: Option<Duration>,
    /// The platform whose limits are imposed.
    pub(crate) platform: Platform,
    /// What clients may use, and how long they may take.
    pub(crate) clients: ClientOptions,
    /// What the host has of the configuration.
    pub(crate) configuration: Configuration,
    /// The configuration file, if there is one.
    pub(crate) config: Option<PathBuf>,
    /// The component to run.
    pub(crate) component: Component,
    /// How instances of the component are reused.
    pub(crate) reuse: Reuse,
    /// The variables that the component reads.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// The configuration, checked.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// What the component reads.
    pub(crate) text: String,
    /// Most bytes of the content of a request.
    pub(crate) request_body: Option<u64>,
    /// Whether pages are to be fetched before a visitor asks.
    pub(crate) warms: bool,
    /// What the node may take of the origin's budget while it stands in for its store.
    pub(crate) share: Share,
    /// What is valid, and probably not meant so, each with its place in the file.
    pub(crate) warnings: Vec<String>,
}

impl Configuration {
    /// Writes a line of the log for each warning.
    pub(crate) fn warn(&self) {
        for warning in &self.warnings {
            report::event("settings-doubtful", warning);
        }
    }
}

/// Reads the configuration in the file at `path`, or without one in the environment, and
/// checks it. The component checks it too, but only at the first request.
pub(crate) fn configuration(
    path: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Configuration> {
    let (source, text) = match path {
        Some(path) => (path.display().to_string(), read_config(path)?),
        None => (
            ENV_CONFIG.to_owned(),
            environment(ENV_CONFIG).unwrap_or_default(),
        ),
    };
    let parsed = Config::parse(&text).map_err(|error| {
        let problems = error.in_file(&source);
        anyhow!("the configuration in {source} is wrong: {problems}")
    })?;
    let warned = parsed.warnings.iter();
    Ok(Configuration {
        text,
        warnings: warned.map(|warning| warning.in_file(&source)).collect(),
        // Zero means no limit.
        request_body: Some(parsed.limits.request_body).filter(|&bytes| bytes > 0),
        warms: !parsed.warm.urls.is_empty(),
        share: Share::new(&parsed),
    })
}

/// Returns a variable of the environment of this process.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Settings {
    /// Checks `args`. What they leave out is taken from `environment`.
    pub(crate) fn new(
        args: Args,
        environment: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        // An option takes precedence. An empty value counts as absent.
        let given = |flag: Option<String>, variable: &str| {
            flag.or_else(|| environment(variable))
                .filter(|text| !text.is_empty())
        };
        let Some(origin_text) = given(args.origin, ENV_ORIGIN) else {
            bail!(
                "there is no origin to protect; write --origin URL with the address of your \
                 server, for instance --origin http://10.0.0.5:8080, or set {ENV_ORIGIN}"
            );
        };
        let origin = parse_origin(&origin_text)?;
        let connect = match given(args.connect, ENV_CONNECT) {
            Some(text) => Some(parse_connect(&text)?),
            None => None,
        };
        let store_text = given(args.store, ENV_STORE).unwrap_or_else(|| DEFAULT_STORE.to_owned());
        let store = parse_store(&store_text)?;
        let redis_address = match (given(None, ENV_REDIS_ADDRESS), &store) {
            (Some(text), _) => Some(parse_redis_address(text)?),
            (None, Location::Redis(_)) => Some(store_text),
            (None, Location::Memory | Location::Sqlite(_)) => None,
        };
        let configuration =
            configuration(args.config.as_deref(), |variable| given(None, variable))?;
        let config = configuration.text.clone();
        let admin_token = given(args.admin_token, ENV_ADMIN_TOKEN).unwrap_or_default();
        let component = match args.component {
            Some(path) => existing(path)?,
            None => find_component()?,
        };
        Ok(Self {
            origin,
            connect,
            listen: args.listen,
            pid_file: args.pid_file,
            tls: args.tls,
            origin_ca: args.origin_ca,
            store,
            store_behaviour: args.store_behaviour,
            http_behaviour: args.http_behaviour,
            redis_expiry: args.redis_expiry,
            replication_delay: args.replication_delay,
            platform: args.limits,
            clients: args.clients,
            configuration,
            config: args.config,
            component,
            reuse: Reuse {
                requests_max: args.max_instance_reuse_count,
                concurrent_requests_max: args.max_instance_concurrent_reuse_count,
                idle_timeout: args.idle_instance_timeout,
            },
            variables: [
                ("origin", Some(origin_text)),
                ("config", Some(config)),
                ("admin_token", Some(admin_token)),
                (REDIS_ADDRESS, redis_address),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
        })
    }

    /// Whether the node stands in for its store while that fails: no platform that is
    /// imitated does, and the memory does not fail.
    pub(crate) fn stands_in(&self) -> bool {
        let is_own = self.platform == Platform::None
            && self.store_behaviour == Behaviour::Exact
            && self.replication_delay.is_none();
        let may_fail = !matches!(self.store, Location::Memory);
        is_own && may_fail
    }

    /// The address of the Redis server that the component may connect to by itself.
    pub(crate) fn redis_address(&self) -> Option<&str> {
        let mut variables = self.variables.iter();
        let (_, address) = variables.find(|(name, _)| *name == REDIS_ADDRESS)?;
        Some(address)
    }
}

fn parse_origin(text: &str) -> anyhow::Result<Origin> {
    Origin::parse(text).map_err(|error| {
        // The message quotes the text.
        let quoted = |text: &str| format!("{text:?}");
        let message = error.to_string();
        anyhow!(message.replace(&quoted(text), &quoted(&without_credentials(text))))
    })
}

fn parse_connect(text: &str) -> anyhow::Result<Address> {
    text.parse().map_err(|wrong| {
        anyhow!(
            "connect: {:?} {wrong}; write --connect HOST:PORT, or {ENV_CONNECT}, with the address \
             to connect to, for instance 10.0.0.5:8080",
            without_credentials(text)
        )
    })
}

fn parse_store(text: &str) -> anyhow::Result<Location> {
    text.parse()
        .map_err(|error: String| anyhow!("store: {:?}: {error}", without_credentials(text)))
}

fn parse_redis_address(text: String) -> anyhow::Result<String> {
    match text.parse() {
        Ok(Location::Redis(_)) => Ok(text),
        _ => bail!(
            "{ENV_REDIS_ADDRESS}: {:?} is not the address of a Redis server; write \
             redis://HOST:PORT or rediss://HOST:PORT",
            without_credentials(&text)
        ),
    }
}

/// Returns `text`, an address that is about to be shown, with everything from
/// the scheme to the last `@` hidden. A password may contain any character, so
/// this may hide more than the password.
fn without_credentials(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    match before.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://{HIDDEN}@{host}"),
        None => format!("{HIDDEN}@{host}"),
    }
}

pub(crate) fn read_config(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read the configuration {}; write --config with the name of a text file",
            path.display()
        )
    })
}

fn existing(path: PathBuf) -> anyhow::Result<Component> {
    if path.is_file() {
        return Ok(Component::File(path));
    }
    bail!(
        "there is no component {}; write --component with the name of a {COMPONENT} file",
        path.display()
    )
}

/// The component in this program, or in a file beside it.
fn find_component() -> anyhow::Result<Component> {
    if let Some(embedded) = Component::embedded() {
        return Ok(embedded);
    }
    let program = std::env::current_exe().context("cannot find the directory of this program")?;
    let directory = program.parent().unwrap_or(Path::new("."));
    let candidates = [
        directory.join(COMPONENT),
        directory.join(COMPONENT_FROM_PROGRAM),
    ];
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(Component::File(path.clone())),
        None => bail!(
            "the component is neither {} nor {}; build it with \
             `cargo build --release --target wasm32-wasip2`, or write --component FILE",
            candidates[0].display(),
            candidates[1].display()
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    /// The settings of `leeward up ARGS`, with a component file that exists.
    fn settings(args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let component = std::env::current_exe().unwrap();
        let component = ["--component", component.to_str().unwrap()];
        let words = ["leeward", "up"].iter().chain(&component).chain(args);
        let Command::Up(args) = Cli::try_parse_from(words)?.command else {
            unreachable!("the command is `up`");
        };
        Settings::new(*args, |name| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn variable<'a>(settings: &'a Settings, name: &str) -> &'a str {
        let found = settings.variables.iter().find(|(key, _)| *key == name);
        &found.unwrap().1
    }

    #[test]
    fn the_redis_server_of_the_component_is_that_of_the_variable_or_of_the_store() {
        let address = |args: &[&str], environment: &[(&str, &str)]| {
            let args = [&["--origin", "http://a"], args].concat();
            let settings = settings(&args, environment).unwrap();
            settings.redis_address().map(str::to_owned)
        };
        let store = ["--store", "redis://:secret@a:1"];
        let variable = [(ENV_REDIS_ADDRESS, "rediss://b:2")];
        assert_eq!(address(&["--store", "memory"], &[]), None);
        assert_eq!(address(&store, &[]).as_deref(), Some("redis://:secret@a:1"));
        assert_eq!(address(&store, &variable).as_deref(), Some("rediss://b:2"));
        assert_eq!(address(&[], &variable).as_deref(), Some("rediss://b:2"));
        for wrong in ["sqlite:x", "http://:s3cret@b", "b:2"] {
            let environment = [(ENV_REDIS_ADDRESS, wrong)];
            let error = settings(&["--origin", "http://a"], &environment).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains("write redis://HOST:PORT"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn a_platform_is_chosen_by_its_name() {
        for (name, platform) in [
            ("none", Platform::None),
            ("spin", Platform::Spin),
            ("fermyon-cloud", Platform::FermyonCloud),
            ("akamai", Platform::Akamai),
        ] {
            let settings = settings(&["--origin", "http://a", "--limits", name], &[]);
            assert_eq!(settings.unwrap().platform, platform);
            assert_eq!(platform.to_string(), name);
        }
    }

    #[test]
    fn defaults() {
        let settings = settings(&["--origin", "http://a"], &[]).unwrap();
        assert_eq!(settings.listen, ["127.0.0.1:3000".parse().unwrap()]);
        assert_eq!(settings.store.to_string(), "sqlite:.leeward/store.db");
        assert_eq!(settings.store_behaviour, Behaviour::Exact);
        assert_eq!(settings.http_behaviour, HttpBehaviour::Own);
        assert_eq!(settings.replication_delay, None);
        assert_eq!(settings.platform, Platform::None);
        assert_eq!(settings.redis_address(), None);
        assert_eq!(settings.connect, None);
        assert_eq!(settings.redis_expiry.as_secs(), 30 * 24 * 60 * 60);
        assert_eq!(settings.clients.connections_per_client, 2_048);
        assert_eq!(settings.configuration.request_body, None);
        assert_eq!(
            settings.reuse,
            Reuse {
                requests_max: 128,
                concurrent_requests_max: 16,
                idle_timeout: std::time::Duration::from_secs(1),
            }
        );
        assert_eq!(variable(&settings, "origin"), "http://a");
        assert_eq!(variable(&settings, "config"), "");
        assert_eq!(variable(&settings, "admin_token"), "");
    }

    #[test]
    fn options_take_precedence_over_the_environment() {
        let environment = [
            (ENV_ORIGIN, "http://env"),
            (ENV_CONFIG, "limits.url = 1111"),
            (ENV_ADMIN_TOKEN, "env"),
            (ENV_CONNECT, "env:1"),
            (ENV_STORE, "redis://env:1"),
        ];
        let by_environment = settings(&[], &environment).unwrap();
        assert_eq!(variable(&by_environment, "origin"), "http://env");
        assert_eq!(variable(&by_environment, "config"), "limits.url = 1111");
        assert_eq!(variable(&by_environment, "admin_token"), "env");
        assert_eq!(by_environment.connect, "env:1".parse().ok());
        assert_eq!(by_environment.store.to_string(), "redis://env:1");

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("leeward.toml");
        std::fs::write(&file, "limits.url = 2222").unwrap();
        let flags = [
            "--origin",
            "http://flag",
            "--config",
            file.to_str().unwrap(),
            "--admin-token",
            "flag",
            "--connect",
            "flag:2",
            "--store",
            "memory",
        ];
        let by_flags = settings(&flags, &environment).unwrap();
        assert_eq!(variable(&by_flags, "origin"), "http://flag");
        assert_eq!(variable(&by_flags, "config"), "limits.url = 2222");
        assert_eq!(variable(&by_flags, "admin_token"), "flag");
        assert_eq!(by_flags.connect, "flag:2".parse().ok());
        assert_eq!(by_flags.store.to_string(), "memory");
    }

    #[test]
    fn the_host_knows_how_long_a_request_may_be() {
        for (config, bytes) in [
            ("limits.request_body = 1000", Some(1_000)),
            ("limits.request_body = 0", None),
        ] {
            let environment = [(ENV_ORIGIN, "http://env"), (ENV_CONFIG, config)];
            let settings = settings(&[], &environment).unwrap();
            assert_eq!(settings.configuration.request_body, bytes, "{config}");
        }
    }

    #[test]
    fn a_password_in_the_environment_is_not_shown_in_a_message() {
        let environment = [
            (ENV_ORIGIN, "http://env"),
            (ENV_STORE, "redis://:s3cret@a:x"),
        ];
        let text = format!("{:#}", settings(&[], &environment).unwrap_err());
        assert!(text.contains("\"redis://***@a:x\""), "{text}");
        assert!(!text.contains("s3"), "{text}");
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_source_and_position() {
        let environment = [
            (ENV_ORIGIN, "http://env"),
            (ENV_CONFIG, "[limits]\nurls = 1111"),
        ];
        let error = format!("{:#}", settings(&[], &environment).unwrap_err());
        assert!(error.contains(ENV_CONFIG), "{error}");
        let place = format!("{ENV_CONFIG}:2:1: limits.urls");
        assert!(error.contains(&place), "{error}");
    }

    #[test]
    fn wrong_options_are_refused_with_a_remedy() {
        for (args, remedy) in [
            (&[][..], "write --origin URL"),
            (&["--origin", ""], "write --origin URL"),
            (&["--origin", "a:80"], "write the base URL"),
            (
                &["--origin", "http://a", "--config", "/no/such"],
                "write --config",
            ),
            (
                &["--origin", "http://a", "--component", "/no/such"],
                "cannot be used multiple",
            ),
            (
                &["--origin", "http://a", "--store", "x"],
                "write sqlite:PATH",
            ),
            (
                &["--origin", "http://a", "--max-instance-reuse-count", "0"],
                "at least 1",
            ),
            (
                &["--origin", "http://a", "--redis-expiry", "1m"],
                "from 1h to 3650d",
            ),
            (
                &["--origin", "http://a", "--connections-per-client", "0"],
                "at least 1",
            ),
            (
                &["--origin", "http://a", "--connect", "10.0.0.5"],
                "has no port; write --connect HOST:PORT",
            ),
            (
                &["--origin", "http://a", "--connect", "http://10.0.0.5:80"],
                "is a URL; write --connect HOST:PORT",
            ),
        ] {
            let text = format!("{:#}", settings(args, &[]).unwrap_err());
            assert!(text.contains(remedy), "{args:?}: {text}");
        }
    }

    #[test]
    fn passwords_are_not_shown_in_messages() {
        for (args, shown) in [
            (
                &["--origin", "http://user:s3cret@a"][..],
                "\"http://***@a\" has a user name",
            ),
            (&["--origin", "http://user:s3/cret@a"], "\"http://***@a\""),
            (&["--origin", "user:s3cret@a"], "\"***@a\""),
            (
                &["--origin", "http://a", "--connect", "user:s3cret@a:80"],
                "\"***@a:80\" has a user name",
            ),
            (
                &["--origin", "http://a", "--store", "redis://:s3cret@a:x"],
                "\"redis://***@a:x\"",
            ),
            (
                &["--origin", "http://a", "--store", "redis://:s3/cr@et@a:1"],
                "\"redis://***@a:1\"",
            ),
            (
                &["--origin", "http://a", "--store", "rediss://u:s3cret@a:x"],
                "\"rediss://***@a:x\"",
            ),
        ] {
            let text = format!("{:#}", settings(args, &[]).unwrap_err());
            assert!(text.contains(shown), "{args:?}: {text}");
            assert!(!text.contains("s3"), "{args:?}: {text}");
        }
    }
}
