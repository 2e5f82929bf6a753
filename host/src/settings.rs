//! From what the operator wrote to what `leeward up` runs on: everything is
//! read and checked here, once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use leeward::config::{Config, Origin};

use crate::instances::Reuse;
use crate::store::{Behaviour, Location};
use crate::up::Args;

/// Environment variables in which Spin, and so this host, takes variables.
const ENV_ORIGIN: &str = "SPIN_VARIABLE_ORIGIN";
const ENV_CONFIG: &str = "SPIN_VARIABLE_CONFIG";
const ENV_ADMIN_TOKEN: &str = "SPIN_VARIABLE_ADMIN_TOKEN";

/// The file that the component is built to.
const COMPONENT: &str = "leeward.wasm";

/// Where cargo builds it, from the directory that cargo builds this program to.
const COMPONENT_FROM_PROGRAM: &str = "../wasm32-wasip2/release/leeward.wasm";

/// What `leeward up` runs on.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The server to protect.
    pub(crate) origin: Origin,
    /// Whether to start although it does not answer.
    pub(crate) allow_unreachable_origin: bool,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Where cells are kept.
    pub(crate) store: Location,
    /// Whose mistakes the store makes.
    pub(crate) store_behaviour: Behaviour,
    /// The component's file.
    pub(crate) component: PathBuf,
    /// How instances of it are used again.
    pub(crate) reuse: Reuse,
    /// What the guest reads.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// A variable of this process's environment.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Settings {
    /// Checks `args`, with what is missing there taken from `environment`.
    pub(crate) fn new(
        args: Args,
        environment: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        // A flag wins; an empty value is none.
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
        let origin = Origin::parse(&origin_text)?;
        let (source, config) = match args.config {
            Some(path) => (path.display().to_string(), read_config(&path)?),
            None => (
                ENV_CONFIG.to_owned(),
                given(None, ENV_CONFIG).unwrap_or_default(),
            ),
        };
        // The component would refuse it too, but only when a visitor comes.
        Config::parse(&config)
            .with_context(|| format!("the configuration in {source} is wrong"))?;
        let admin_token = given(args.admin_token, ENV_ADMIN_TOKEN).unwrap_or_default();
        let component = match args.component {
            Some(path) => existing(path)?,
            None => find_component()?,
        };
        Ok(Self {
            origin,
            allow_unreachable_origin: args.allow_unreachable_origin,
            listen: args.listen,
            store: args.store,
            store_behaviour: args.store_behaviour,
            component,
            reuse: Reuse {
                requests_max: args.max_instance_reuse_count,
                concurrent_requests_max: args.max_instance_concurrent_reuse_count,
                idle_timeout: args.idle_instance_timeout,
            },
            variables: vec![
                ("origin", origin_text),
                ("config", config),
                ("admin_token", admin_token),
            ],
        })
    }
}

fn read_config(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read the configuration {}; write --config with the name of a text file",
            path.display()
        )
    })
}

fn existing(path: PathBuf) -> anyhow::Result<PathBuf> {
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        "there is no component {}; write --component with the name of a {COMPONENT} file",
        path.display()
    )
}

fn find_component() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let directory = program.parent().unwrap_or(Path::new("."));
    let candidates = [
        directory.join(COMPONENT),
        directory.join(COMPONENT_FROM_PROGRAM),
    ];
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
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

    /// The settings of `leeward up ARGS` with a component that exists.
    fn settings(args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let component = std::env::current_exe().unwrap();
        let component = ["--component", component.to_str().unwrap()];
        let words = ["leeward", "up"].iter().chain(&component).chain(args);
        let Command::Up(args) = Cli::try_parse_from(words)?.command else {
            unreachable!("`up` was asked for");
        };
        Settings::new(args, |name| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn variable<'a>(settings: &'a Settings, name: &str) -> &'a str {
        let found = settings.variables.iter().find(|(key, _)| *key == name);
        &found.unwrap().1
    }

    #[test]
    fn defaults() {
        let settings = settings(&["--origin", "http://a"], &[]).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:3000");
        assert_eq!(settings.store.to_string(), "sqlite:.leeward/store.db");
        assert_eq!(settings.store_behaviour, Behaviour::Exact);
        assert!(!settings.allow_unreachable_origin);
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
    fn the_environment_is_read_and_flags_win() {
        let environment = [
            (ENV_ORIGIN, "http://env"),
            (ENV_CONFIG, "limits.url = 1111"),
            (ENV_ADMIN_TOKEN, "env"),
        ];
        let by_environment = settings(&[], &environment).unwrap();
        assert_eq!(variable(&by_environment, "origin"), "http://env");
        assert_eq!(variable(&by_environment, "config"), "limits.url = 1111");
        assert_eq!(variable(&by_environment, "admin_token"), "env");

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
        ];
        let by_flags = settings(&flags, &environment).unwrap();
        assert_eq!(variable(&by_flags, "origin"), "http://flag");
        assert_eq!(variable(&by_flags, "config"), "limits.url = 2222");
        assert_eq!(variable(&by_flags, "admin_token"), "flag");
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_source_and_place() {
        let environment = [
            (ENV_ORIGIN, "http://env"),
            (ENV_CONFIG, "[limits]\nurls = 1111"),
        ];
        let error = format!("{:#}", settings(&[], &environment).unwrap_err());
        assert!(error.contains(ENV_CONFIG), "{error}");
        assert!(error.contains("config:2:1: limits.urls"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_write() {
        for (args, told) in [
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
                "from 1 on",
            ),
        ] {
            let text = format!("{:#}", settings(args, &[]).unwrap_err());
            assert!(text.contains(told), "{args:?}: {text}");
        }
    }
}
