//! What clients may use of the server, and how long they may take.

use std::time::Duration;

use crate::http_behaviour::HttpBehaviour;
use crate::limits::Limiter;

/// Most connections at once unless the operator says otherwise. Further ones wait in the
/// queue of the system.
const CONNECTIONS_MAX: u64 = 8_192;

/// Fewest connections at once, however few files the process may open.
const CONNECTIONS_MIN: u64 = 16;

/// Files that are not for clients: those of the store, of the log and of the runtime.
const OTHER_FILES: u64 = 64;

/// One part in this many of all files is for connections to the origin.
const ORIGIN_FILES: u64 = 4;

/// Smallest limit of a request's head: hyper has no smaller buffer.
const HEAD_BYTES_MIN: usize = 8 * 1_024;

/// Largest limit of a request's head. The guest copies it.
const HEAD_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// Largest limit of a request's fields: there is room for so many for each request.
const HEAD_FIELDS_MAX: usize = 10_000;

/// Shortest and longest time that an operator may set.
const TIME_MIN: Duration = Duration::from_secs(1);
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The options about clients.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ClientOptions {
    /// Most connections of clients at once. Without it, as many as the process may open
    /// files, less what the origin and the store need, and at most 8192
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: Option<u32>,

    /// Most connections of one client address at once. Connections of this machine
    /// are not counted; raise it if a proxy on another machine is in front
    #[arg(long, value_name = "N", default_value = "2048", value_parser = crate::up::positive)]
    pub(crate) connections_per_client: usize,

    /// How long a connection is kept while there is no request on it. Load balancers keep
    /// theirs for a minute: if this is shorter, they send requests on connections that are
    /// being closed
    #[arg(long, value_name = "DURATION", default_value = "75s", value_parser = time)]
    pub(crate) idle_timeout: Duration,

    /// How long the head of a request may take, from its first byte
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = time)]
    pub(crate) head_timeout: Duration,

    /// How long a client may send nothing of content that is waited for
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = time)]
    pub(crate) content_timeout: Duration,

    /// How long a client may take nothing of an answer that is waiting for it
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = time)]
    pub(crate) write_timeout: Duration,

    /// How long requests in flight may take once the host was told to stop. What is left
    /// then is cut
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = time, alias = "stop-timeout")]
    pub(crate) drain: Duration,

    /// Largest head of a request, in bytes, from 8192 to 16777216. `limits.header_bytes` and
    /// `limits.url` are smaller by default, and have their own answers
    #[arg(long, value_name = "BYTES", default_value = "262144", value_parser = head_bytes)]
    pub(crate) head_bytes: usize,

    /// Most fields of a request, at most 10000. `limits.header_count` is smaller by default,
    /// and has an answer of its own
    #[arg(long, value_name = "N", default_value = "1000", value_parser = head_fields)]
    pub(crate) head_fields: usize,
}

fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if (TIME_MIN..=TIME_MAX).contains(&time) => Ok(time),
        _ => Err("write a time from 1s to 1d, such as 75s".to_owned()),
    }
}

fn head_bytes(text: &str) -> Result<usize, String> {
    within(text, HEAD_BYTES_MIN, HEAD_BYTES_MAX)
}

fn head_fields(text: &str) -> Result<usize, String> {
    within(text, 1, HEAD_FIELDS_MAX)
}

fn within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("write a whole number from {least} to {most}")),
    }
}

/// How long clients may take for what they do on a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// From the first byte of a request's head to its last.
    pub(super) head: Duration,
    /// Without a request.
    pub(super) idle: Duration,
    /// Without taking anything of an answer that is waiting.
    pub(super) write: Duration,
}

impl Patience {
    /// A limit that begins in another task is noticed after this time at the latest.
    pub(super) fn shortest(self) -> Duration {
        self.head.min(self.idle).min(self.write)
    }
}

#[cfg(test)]
impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
        }
    }
}

/// What clients may use of the server.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// What the operator says.
    pub(crate) clients: ClientOptions,
    /// Most files that the process may open.
    pub(crate) files: u64,
    /// What clients may tell the component.
    pub(crate) behaviour: HttpBehaviour,
    /// What the platform allows beside that.
    pub(crate) platform: Limiter,
}

impl Limits {
    /// Most bytes of the content of a request, and whether the platform says so. `own` is
    /// what the configuration says.
    pub(super) fn request_body(&self, own: Option<u64>) -> (Option<u64>, bool) {
        let platform = self.platform.limits().body_bytes;
        match (own, platform) {
            (Some(own), Some(platform)) if own <= platform => (Some(own), false),
            (_, Some(platform)) => (Some(platform), true),
            (own, None) => (own, false),
        }
    }

    /// How long clients may take.
    pub(super) fn patience(&self) -> Patience {
        Patience {
            head: self.clients.head_timeout,
            idle: self.clients.idle_timeout,
            write: self.clients.write_timeout,
        }
    }

    /// Most connections at once, and whether that is less than the operator has asked for.
    pub(super) fn connections(&self) -> (u32, bool) {
        let allowed = connections_with(self.files);
        let wanted = self.clients.connections.map(u64::from);
        let connections = wanted.unwrap_or(CONNECTIONS_MAX).min(allowed);
        let is_less = wanted.is_some_and(|wanted| wanted > allowed);
        (u32::try_from(connections).unwrap_or(u32::MAX), is_less)
    }
}

/// How many connections of clients a process may have that opens at most `files` files.
fn connections_with(files: u64) -> u64 {
    let others = OTHER_FILES.saturating_add(files / ORIGIN_FILES);
    files.saturating_sub(others).max(CONNECTIONS_MIN)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::Parser;

    use super::*;
    use crate::limits::Platform;

    #[derive(Debug, clap::Parser)]
    struct Options {
        #[command(flatten)]
        clients: ClientOptions,
    }

    /// The options of these arguments.
    pub(in crate::server) fn options(args: &[&str]) -> Result<ClientOptions, String> {
        let words = ["leeward"].iter().chain(args);
        let options = Options::try_parse_from(words).map_err(|error| error.to_string());
        options.map(|options| options.clients)
    }

    fn limits(args: &[&str], files: u64) -> Limits {
        Limits {
            clients: options(args).unwrap(),
            files,
            behaviour: HttpBehaviour::Own,
            platform: Limiter::default(),
        }
    }

    #[test]
    fn idle_connections_live_for_75_seconds_unless_the_operator_says_otherwise() {
        let defaults = limits(&[], 1_024).patience();
        let documented = Patience::default();
        assert_eq!(defaults.idle, Duration::from_secs(75));
        assert_eq!(defaults.idle, documented.idle);
        assert_eq!(defaults.head, documented.head);
        assert_eq!(defaults.write, documented.write);
        let args = [
            "--idle-timeout",
            "5m",
            "--head-timeout",
            "3s",
            "--write-timeout",
            "2s",
        ];
        let own = limits(&args, 1_024).patience();
        assert_eq!(own.idle, Duration::from_secs(300));
        assert_eq!((own.head.as_secs(), own.write.as_secs()), (3, 2));
        assert_eq!(own.shortest(), Duration::from_secs(2));
    }

    #[test]
    fn a_limit_out_of_its_range_is_refused_with_the_range() {
        for (args, remedy) in [
            (["--idle-timeout", "0s"], "from 1s to 1d"),
            (["--head-timeout", "2d"], "from 1s to 1d"),
            (["--content-timeout", "x"], "from 1s to 1d"),
            (["--head-bytes", "8191"], "from 8192 to 16777216"),
            (["--head-fields", "10001"], "from 1 to 10000"),
            (["--connections", "0"], "1..=1000000"),
            (["--connections-per-client", "0"], "at least 1"),
        ] {
            let text = options(&args).unwrap_err();
            assert!(text.contains(remedy), "{args:?}: {text}");
        }
    }

    #[test]
    fn connections_follow_the_limit_of_open_files() {
        for (args, files, expected) in [
            (&[][..], 65_536, (8_192, false)),
            (&[], 4_096, (3_008, false)),
            (&[], 1_024, (704, false)),
            (&[], 400, (236, false)),
            (&[], 64, (16, false)),
            (&[], 0, (16, false)),
            (&["--connections", "100"], 1_024, (100, false)),
            (&["--connections", "20000"], 65_536, (20_000, false)),
            (&["--connections", "20000"], 1_024, (704, true)),
        ] {
            assert_eq!(
                limits(args, files).connections(),
                expected,
                "{args:?} {files}"
            );
        }
    }

    #[test]
    fn the_smaller_limit_of_content_holds() {
        for (own, platform, expected) in [
            (None, Platform::None, (None, false)),
            (Some(1), Platform::None, (Some(1), false)),
            (None, Platform::FermyonCloud, (Some(10_000_000), true)),
            (Some(1), Platform::FermyonCloud, (Some(1), false)),
            (
                Some(20_000_000),
                Platform::FermyonCloud,
                (Some(10_000_000), true),
            ),
        ] {
            let limits = Limits {
                platform: Limiter::new(platform),
                ..limits(&[], 1_024)
            };
            assert_eq!(limits.request_body(own), expected, "{own:?} {platform}");
        }
    }
}
